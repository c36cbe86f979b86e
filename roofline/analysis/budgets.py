"""Budget files -> budgets. No torch, no printing, no exit.

A budget file is TOML, roofline.toml or `[tool.roofline]` of pyproject.toml: `[[budget]]` tables, or `[budgets.NAME]`, which
are shorter. Each names a model (or a saved analysis), the setting, and the limits that it must keep. `declared` has the keys.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from roofline import files
from roofline.analysis import limits
from roofline.analysis.declared import LIMIT_KEYS, OPTIONS, SIDES, TOP, Place, Reader, keys, limit_keys
from roofline.analysis.limits import Base, Held, Limit, Verdict
from roofline.analysis.metrics import BY_NAME
from roofline.errors import BudgetFileError, RooflineError, UsageError, nearest
from roofline.records import Analysis
from roofline.request import Ask, Request, made, over


class Budget(Struct, frozen=True, kw_only=True):
    """What one model may cost in one setting. Paths are resolved against the budget file."""

    # what is asked for; none where `analysis` is given
    request: Request | None = None
    # a saved analysis instead of a model
    analysis: str = ""
    name: str = ""
    # True: pass although an op has no rule, so that FLOPs and time are lower bounds; or those operators
    allow_unknown: bool | tuple[str, ...] = False
    limits: tuple[Limit, ...]
    line: int = 0
    # the model and the setting as the file has them: what a baseline keeps its numbers under
    key: str = ""
    # the table that it is of, where that holds several models or settings
    group: str = ""
    file: str = ""
    # nobody named a device
    unnamed_device: bool = False

    @property
    def label(self) -> str:
        return self.name or (self.request.ask.model if self.request else Path(self.analysis).name)

    @property
    def place(self) -> tuple[str, str]:
        """Its file and its key there: two packages may each have a "net.py:Net"."""
        return self.file, self.key

    @property
    def relative(self) -> bool:
        """Whether a limit is a change from a baseline."""
        return any(limit.change for limit in self.limits)

    @property
    def held(self) -> Held:
        return Held(
            label=self.label,
            limits=self.limits,
            allow_unknown=self.allow_unknown,
            line=self.line,
            unnamed_device=self.unnamed_device,
            file=self.file,
        )


# ------------------------------------------------------------------------------------------------ which file


_OURS = re.compile(r"^\s*\[+\s*tool\s*\.\s*roofline\s*\.\s*(?:budgets?|defaults)\b", re.MULTILINE)
_SKIPPED = frozenset({"node_modules", "site-packages", "__pycache__", "build", "dist", "venv", "env"})


def budget_file(named: Path | None = None) -> Path:
    """The file named, else roofline.toml or a pyproject.toml with budgets in the working directory."""
    if named is not None:
        return named
    if (found := _of_folder(Path())) is not None:
        return found
    raise BudgetFileError(
        "no budget file: neither roofline.toml nor [[tool.roofline.budget]] in pyproject.toml is here\n"
        "name one (roofline check FILE); `roofline check --help` shows what stands in it"
    )


def budget_files(named: Path | None = None) -> list[Path]:
    """The same; of a folder those in it and in the folders below it, hidden ones and environments apart."""
    if named is None or not os.path.isdir(named):  # which, unlike pathlib's, takes a name that no folder can have
        return [budget_file(named)]
    found = []
    for place, folders, _ in os.walk(named):
        here = Path(place)
        folders[:] = sorted(
            f for f in folders if not f.startswith(".") and f not in _SKIPPED and not (here / f / "pyvenv.cfg").exists()
        )
        if (file := _of_folder(here)) is not None:
            found.append(file)
    if not found:
        raise BudgetFileError(f"{named}: no roofline.toml, and no pyproject.toml with budgets, in it or below it")
    return found


def _of_folder(folder: Path) -> Path | None:
    own, pyproject = folder / "roofline.toml", folder / "pyproject.toml"
    if own.is_file():
        return own
    return pyproject if pyproject.is_file() and _OURS.search(_read(pyproject)) else None


def _read(path: Path) -> str:
    try:
        return files.text(path, files.TOML)
    except FileNotFoundError:
        raise BudgetFileError(f"{path}: no such file") from None
    except OSError as e:
        raise BudgetFileError(f"{path}: cannot be read: {e.strerror or e}") from None
    except UnicodeDecodeError:
        raise BudgetFileError(f"{path}: not TOML: it is not text in UTF-8") from None


# ------------------------------------------------------------------------------------------------ reading


def load_budgets(path: Path, options: Mapping[str, Any] | None = None, *, cache: bool = True) -> list[Budget]:
    """Read a budget file; `options` of a request, by name, stand for what a budget of a model does not say itself.

    Raises BudgetFileError that names the file, the line, the key and what was expected; UsageError for an option that no
    budget needs.
    """
    data, lines, prefix = _parsed(path)
    defaults = _Table(data.get("defaults", {}), Reader(lines, ("defaults",), "defaults"), short=True)
    tables = [
        _Table(table, Reader(lines, ("budget", str(i)), f"budget {i}"), short=False, above=defaults)
        for i, table in enumerate(data.get("budget", []), 1)
    ]
    for name, table in data.get("budgets", {}).items():
        tables += _Table(
            table, Reader(lines, ("budgets", name), f"budgets.{name}"), short=True, above=defaults, named=name
        ).all()
    if not tables:
        raise BudgetFileError(f"{path}: no [[{prefix}budget]] in it\nadd one: a model and at least one limit such as max_time")
    unused = set(options or ())
    found = []
    for one in tables:
        for own, held in one.settings():
            given = over(options or {}, own)
            if not one.analysis:
                unused -= {name for name in given if name not in own}
            found += one.budgets(given, held, path, cache)
    for name in options or ():
        if name in unused:
            raise UsageError(
                f"--{name}: no budget in {path} takes it: each says its own, is another pass or is a saved analysis"
            )
    return found


def baseline_of(path: Path) -> Path:
    """The file that holds the baseline of a budget file, beside it: as `baseline` says, else roofline-baseline.json; of a file
    with another name that name's, so that two in a folder do not overwrite each other's."""
    data, lines, _ = _parsed(path)
    own = "roofline" if path.name == "pyproject.toml" else path.stem
    name = data.get("baseline", f"{own}-baseline.json")
    if not isinstance(name, str) or not name.endswith(".json"):
        raise BudgetFileError(f"{lines.at((), 'baseline')}: baseline: expected a file that ends in .json, got {name!r}")
    return path.parent / name


def _parsed(path: Path) -> tuple[dict[str, Any], Place, str]:
    import tomllib

    source = _read(path)
    try:
        data = files.toml(source)
    except tomllib.TOMLDecodeError as e:
        raise BudgetFileError(f"{path}: not TOML: {e}") from None
    inside = ("tool", "roofline") if path.name == "pyproject.toml" else ()
    prefix = "".join(f"{name}." for name in inside)
    for name in inside:
        data = data.get(name, {})
    if odd := files.controls(data):  # names are shown in terminals and logs, which would obey it
        raise BudgetFileError(f"{path}: a line end or another control character in {odd[:80]!r}\nleave it out")
    lines = Place(path, source, inside)
    for key, value in data.items():
        if key not in TOP or (key == "budgets" and isinstance(value, list)):
            near = nearest(key, [name for name in TOP if name != key])
            if key == "tool":
                near = "; [tool.roofline...] is for pyproject.toml, here it is [budgets.NAME] and [defaults]"
            raise BudgetFileError(f"{lines.first((key, '1'), (key,), at=key)}: unknown key {key!r}{near}")
        if key == "budget" and (not isinstance(value, list) or not value):
            raise BudgetFileError(
                f"{path}: no [[{prefix}budget]] in it\nadd one: a model and at least one limit such as max_time"
            )
        if key in ("budgets", "defaults") and not isinstance(value, dict):
            raise BudgetFileError(f"{lines.at((), key)}: {key}: expected a table [{prefix}{key}], got {value!r}")
    return data, lines, prefix


_Held = tuple[dict[str, Any], Limit]


class _Table:
    """One table of the file. Raises BudgetFileError for what cannot be read, with its place."""

    def __init__(
        self, table: Any, read: Reader, *, short: bool, above: _Table | None = None, named: str = "", inner: bool = False
    ) -> None:
        self._read = read
        if not isinstance(table, dict):
            raise read.fail("", f"expected a table, got {table!r}")
        self._table, self._above, self._short, self._inner = table, above, short, inner
        known = keys(short, inner, is_defaults := above is None)
        for key in table:
            if key not in known:
                near = next((limit for limit in limit_keys() if limit[4:] == key), "")
                hint = f"; did you mean {near!r}?" if near else nearest(key, known)
                raise read.fail(key, f"unknown key {key!r}{hint}\nlimits: {', '.join(limit_keys())}")
        self.own_name = read.take(table, "name", str, "text", named)
        self.group = named
        self.models: list[str] = []
        self.analysis = ""
        if is_defaults or inner:
            return
        self._say_which(named)

    def _say_which(self, named: str) -> None:
        """The models, or the saved analysis, that the table is about."""
        read, table = self._read, self._table
        model = read.take(table, "model", str, "text", "")
        self.analysis = read.take(table, "analysis", str, "a path to a JSON analysis", "")
        self.models = list(read.texts(table, "models", 'models: ["resnet50", "timm:mobilenetv3_*"]'))
        if named and not (model or self.analysis or self.models):
            model, self.own_name = named, read.take(table, "name", str, "text", "")
        if bool(model) + bool(self.analysis) + bool(self.models) != 1:
            raise read.fail("model", 'give one of model (model = "resnet50") and analysis (analysis = "saved.json")')
        self.own_name = "" if self.models and "name" not in table else self.own_name
        self.models = self.models or ([model] if model else [])
        for key in OPTIONS:
            if self.analysis and key in table:
                raise read.fail(key, f"{key}: cannot be set here, the saved analysis {self.analysis} has settled it")

    def all(self) -> list[_Table]:
        """The table, and one for each setting in `at`."""
        value = self._table.get("at", [])
        if not isinstance(value, list):
            raise self._read.fail("at", f'at: expected tables such as [{{ on = "t4", time = "3 ms" }}], got {value!r}')
        found = [self] if self._own_limits() or not value else []
        for i, table in enumerate(value, 1):
            one = _Table(table, self._read.inside("at", i), short=True, above=self, named=self.group, inner=True)
            one.models, one.analysis = self.models, self.analysis
            one.own_name = one.own_name if "name" in table else self.own_name
            found.append(one)
        return found

    # -------------------------------------------------------------------------------------------- settings and limits

    def settings(self) -> Iterator[tuple[dict[str, Any], tuple[Limit, ...]]]:
        """Each setting that the table speaks of, as options of a request by name, and the limits in it."""
        own = self._options()
        by_setting: list[tuple[dict[str, Any], list[Limit]]] = []
        for more, limit in self._limits():
            setting = {} if self.analysis else over(own, more) if more else own
            held = next((held for known, held in by_setting if known == setting), None)
            if held is None:
                by_setting.append((setting, held := []))
            held.append(limit)
        if not by_setting:
            raise self._read.fail("", f"no limit in it\ngive at least one of {', '.join(limit_keys())}")
        for setting, held in by_setting:
            if late := limits.late(held):
                raise self._read.fail(late[0].key.partition(".")[0], limits.lateness(*late))
            yield setting, tuple(sorted(held, key=_order))

    def _options(self) -> dict[str, Any]:
        above = self._above._options() if self._above else {}
        return over(above, self._read.options(self._table))

    def _limits(self) -> list[_Held]:
        """Its own limits, and those of [defaults] that it does not say itself."""
        own = self._own_limits()
        said = {(limit.place) for _, limit in own}
        top = self._above
        if top is None or top._above is not None:  # of a setting in `at`: its own alone
            return own
        return own + [(more, limit) for more, limit in top._own_limits() if limit.place not in said]

    def _own_limits(self) -> list[_Held]:
        found: list[_Held] = []
        for key, value in self._table.items():
            if (flat := LIMIT_KEYS.fullmatch(key)) and flat["metric"] in BY_NAME:
                found.append(({}, self._limit(key, key, flat["metric"], value, flat["side"], bool(flat["warn"]))))
            elif key in BY_NAME:
                for one in value if isinstance(value, list) else [value]:
                    found += self._of_metric(key, one)
        seen: dict[Any, str] = {}
        for more, limit in found:
            place = (limit.place, repr(sorted(more.items())))
            if place in seen:
                raise self._read.fail(limit.key.partition(".")[0], f"{limit.key}: {seen[place]} says the same limit already")
            seen[place] = limit.key
        return found

    def _of_metric(self, key: str, value: Any) -> list[_Held]:
        """`macs = "217 M"`, `macs = "±2 %"`, `time = { on = "t4", max = "3 ms", warn = "2.8 ms" }`."""
        natural = BY_NAME[key].natural
        if not isinstance(value, dict):
            if isinstance(value, str) and (both := re.match(r"\s*(?:±|\+/?-)\s*(?=[\d.])", value)):
                rest = value[both.end() :]
                return [
                    ({}, self._limit(key, key, key, f"{sign}{rest}", side, False))
                    for sign, side in (("+", "max"), ("-", "min"))
                ]
            return [({}, self._limit(key, key, key, value, natural, False))]
        known = (*SIDES, "on", *OPTIONS)
        for name in value:
            if name not in known:
                raise self._read.fail(key, f"{key}: unknown key {name!r}{nearest(name, known)}\nlimits: {', '.join(SIDES)}")
        more = self._read.options(value, key)
        found = []
        for name in SIDES:
            if name in value:
                side = "min" if "min" in name else "max" if "max" in name else natural
                found.append((more, self._limit(key, f"{key}.{name}", key, value[name], side, name.startswith("warn"))))
        if not found:
            raise self._read.fail(key, f"{key}: no limit in it\ngive at least one of {', '.join(SIDES)}")
        return found

    def _limit(self, at: str, key: str, metric: str, value: Any, side: str, warn: bool) -> Limit:
        try:
            return limits.limit(
                key, BY_NAME[metric], value, "min" if side == "min" else "max", "warn" if warn else "fail", self._read.line(at)
            )
        except ValueError as e:
            raise self._read.fail(at, f"{key}: {e}") from None

    def budgets(self, given: Mapping[str, Any], held: tuple[Limit, ...], path: Path, cache: bool) -> list[Budget]:
        """A budget for each model, with all options of its request."""
        read, folder = self._read, path.parent
        allow = read.allowed(self._table) if "allow_unknown" in self._table or not self._above else None
        if allow is None:
            allow = self._above._read.allowed(self._above._table) if self._above else False
        common: dict[str, Any] = {
            "limits": held,
            "name": self.own_name,
            "allow_unknown": allow,
            "line": read.line(),
            "file": str(path),
            "group": self.group,
        }
        if self.analysis:
            return [Budget(analysis=str(folder / self.analysis), key=self.analysis, **common)]
        # each of several is called as it is written
        several = len(self.models) > 1 and not self.own_name
        asked = dict(given)
        if isinstance(asked.get("device"), str):
            asked["device"] = beside(asked["device"], folder)
        return [
            Budget(
                request=made(beside(model, folder), asked, cache=cache),
                key=_key(model, given),
                unnamed_device="device" not in given,
                **(common | ({"name": model} if several else {})),
            )
            for model in self.models
        ]


def _order(limit: Limit) -> tuple[int, str, str]:
    return list(BY_NAME).index(limit.metric), limit.level, limit.side


def _key(model: str, given: Mapping[str, Any]) -> str:
    """ "net.py:Net on t4, batch=8, inputs=1,3,64,64"."""
    said = [given["device"]] if isinstance(given.get("device"), str) else []
    for name in OPTIONS.values():
        value = given.get(name)
        if isinstance(value, Mapping):
            value = " ".join(f"{key}={of}" for key, of in sorted(value.items()))
        if name != "device" and value is not None:
            said.append(f"{name}={' '.join(value) if isinstance(value, tuple) else value}")
    return f"{model} on {', '.join(said)}" if said else model


def beside(name: str, folder: Path) -> str:
    """A model or device that is a file beside the budget file, as a path from here; any other name as it is."""
    file, colon, attribute = name.partition(":")
    if not file.endswith((".py", ".toml", ".onnx", ".pt2", ".json")) or Path(file).is_absolute():
        return name
    return f"{folder / file}{colon}{attribute}" if os.path.isfile(folder / file) or "*" in file else name


# ------------------------------------------------------------------------------------------------ deciding


def check(budget: Budget, analysis: Analysis, base: Base = limits.NO_BASE, accepted: str = "") -> Verdict:
    """Every limit of the budget beside the analysis. An op without a rule fails what depends on it."""
    return limits.check(budget.held, analysis, base, accepted)


def unchecked(budget: Budget, error: Exception) -> Verdict:
    """What stands for a budget whose model failed, or that asks for what cannot be."""
    text, code = told(error)
    request = budget.request or Request(Ask(""))
    what, place = request.what, request.place
    return Verdict(
        budget=budget.label,
        model=request.ask.model,
        device=str(place.device),
        batch=request.ask.batch or 0,
        dtype=what.dtype or "",
        runtime=place.runtime,
        mode="training" if what.training else "inference",
        ok=False,
        findings=[],
        error=text,
        exit_code=code,
        line=budget.line,
        file=budget.file,
    )


def told(error: Exception) -> tuple[str, int]:
    """What went wrong on one line, and its exit code."""
    code = error.exit_code if isinstance(error, RooflineError) else 70
    text = str(error) if isinstance(error, RooflineError) else f"internal error: {type(error).__name__}: {error}"
    return "; ".join(" ".join(line.split()) for line in text.splitlines())[:600], code


def chosen(budgets: Iterable[Budget], only: Iterable[str]) -> list[Budget]:
    """Those whose name, model or table is one of `only` (patterns with * too). Raises UsageError for one that is nothing's."""
    from fnmatch import fnmatchcase

    found, known = list(budgets), list(only)
    names = {id(b): {b.label, b.group, b.key.partition(" on ")[0]} - {""} for b in found}
    for name in known:
        if not any(fnmatchcase(own, name) for own in set().union(*names.values())):
            raise UsageError(f"--only {name}: no budget is called so{nearest(name, sorted(set().union(*names.values())))}")
    return [b for b in found if not known or any(fnmatchcase(own, name) for own in names[id(b)] for name in known)]
