"""Budgets: a file and analyses -> findings. No torch, no printing, no exit.

A budget file is TOML: `[[budget]]` tables in roofline.toml, or `[[tool.roofline.budget]]` in pyproject.toml. Each names
a model (or a saved analysis), the setting, and the limits that it must keep.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
from msgspec import Struct

from roofline import files, units
from roofline.analysis.explain import fits
from roofline.analysis.metrics import BY_NAME, by_limit, parse
from roofline.dtypes import NOT_INT8
from roofline.errors import BudgetFileError, CheckFailed, ModelError, RooflineError, UsageError, nearest
from roofline.records import Analysis
from roofline.request import OPTIONS, SIZES, WORDS, Ask, Request, made, over


class Limit(Struct, frozen=True):
    """One line of a budget: `key` as written ("max_time"), `value` in the metric's base unit."""

    key: str
    metric: str
    value: float
    # line in the budget file, 0 if it was not found
    line: int = 0


class Budget(Struct, frozen=True, kw_only=True):
    """What one model may cost in one setting. Paths are resolved against the budget file."""

    # what is asked for; none where `analysis` is given
    request: Request | None = None
    # a saved analysis instead of a model
    analysis: str = ""
    name: str = ""
    # pass although an op has no rule, so that FLOPs and time are lower bounds
    allow_unknown: bool = False
    limits: tuple[Limit, ...]
    line: int = 0

    @property
    def label(self) -> str:
        return self.name or (self.request.ask.model if self.request else Path(self.analysis).name)


class Finding(Struct, frozen=True):
    """One limit beside what was found. Both in the metric's base unit."""

    key: str
    metric: str
    actual: float
    limit: float
    ok: bool
    # why it failed where the numbers do not say it
    why: str = ""
    line: int = 0


class Verdict(Struct, frozen=True, kw_only=True):
    """One budget and its findings."""

    budget: str
    model: str
    device: str
    batch: int
    dtype: str
    runtime: str
    mode: str
    ok: bool
    findings: list[Finding]
    # why it could not be checked, and the exit code of that
    error: str = ""
    exit_code: int = 0
    line: int = 0
    # what a person should know beside the limits: that the pass does not fit the device
    note: str = ""


# Options of the request, by the name that they have in a file; args and kwargs are calls of a module, which no file holds.
_OPTIONS = {{"settings": "set"}.get(name, name): name for name in OPTIONS if name not in ("args", "kwargs")}
_KEYS = ("model", "analysis", "name", *_OPTIONS, "allow_unknown")


def budget_file(named: Path | None = None) -> Path:
    """The file named, else roofline.toml or a pyproject.toml with budgets in the working directory."""
    if named is not None:
        return named
    if Path("roofline.toml").is_file():
        return Path("roofline.toml")
    pyproject = Path("pyproject.toml")
    if pyproject.is_file() and re.search(r"^\s*\[\[\s*tool\.roofline\.budget\s*\]\]", _read(pyproject), re.MULTILINE):
        return pyproject
    raise BudgetFileError(
        "no budget file: neither roofline.toml nor [[tool.roofline.budget]] in pyproject.toml is here\n"
        "name one (roofline check FILE); `roofline check --help` shows what stands in it"
    )


def load_budgets(path: Path, options: Mapping[str, Any] | None = None, *, cache: bool = True) -> list[Budget]:
    """Read a budget file; `options` of a request, by name, stand for what a budget of a model does not say itself.

    Raises BudgetFileError that names the file, the line, the key and what was expected; UsageError for an option that no
    budget needs.
    """
    import tomllib

    source = _read(path)
    try:
        data = files.toml(source)
    except tomllib.TOMLDecodeError as e:
        raise BudgetFileError(f"{path}: not TOML: {e}") from None
    prefix = ""
    if path.name == "pyproject.toml":
        prefix = "tool.roofline."
        data = data.get("tool", {}).get("roofline", {})
    lines = _Lines(path, source, f"{prefix}budget")
    for key in data:
        if key != "budget":
            raise BudgetFileError(f"{lines.at(0, key)}: unknown key {key!r}{nearest(key, ['budget'])}")
    tables = data.get("budget")
    if not isinstance(tables, list) or not tables:
        raise BudgetFileError(f"{path}: no [[{prefix}budget]] in it\nadd one: a model and at least one limit such as max_time")
    read = [_Table(table, index, lines) for index, table in enumerate(tables, 1)]
    unused = set(options or ())
    found = []
    for table in read:
        own = table.options(path.parent)
        given = over(options or {}, own)
        if not table.analysis:
            unused -= {name for name in given if name not in own}
        found.append(table.budget(given, path.parent, cache))
    for name in options or ():
        if name in unused:
            raise UsageError(
                f"--{name}: no budget in {path} takes it: each says its own, is another pass or is a saved analysis"
            )
    return found


def _read(path: Path) -> str:
    try:
        return files.text(path, files.TOML)
    except FileNotFoundError:
        raise BudgetFileError(f"{path}: no such file") from None
    except OSError as e:
        raise BudgetFileError(f"{path}: cannot be read: {e.strerror or e}") from None
    except UnicodeDecodeError:
        raise BudgetFileError(f"{path}: not TOML: it is not text in UTF-8") from None


class _Lines:
    """Finds the line of a key for error messages: tomllib keeps none."""

    def __init__(self, path: Path, source: str, table: str) -> None:
        self._path = path
        header = re.compile(rf"\s*\[\[\s*{re.escape(table)}\s*\]\]")
        self._keys: dict[tuple[int, str], int] = {}
        index = 0
        for number, line in enumerate(source.splitlines(), 1):
            if header.match(line):
                index += 1
                self._keys[index, ""] = number
            elif found := re.match(r"""\s*\[*["']?([\w.-]+)["']?\s*[=\]]""", line):
                self._keys.setdefault((index, found[1]), number)

    def number(self, index: int, key: str = "") -> int:
        return self._keys.get((index, key), self._keys.get((index, ""), 0))

    def at(self, index: int, key: str = "") -> str:
        number = self.number(index, key)
        return f"{self._path}:{number}" if number else f"{self._path}"


class _Table:
    """One budget as it stands in the file. Raises BudgetFileError for what cannot be read, with its place."""

    def __init__(self, table: Any, index: int, lines: _Lines) -> None:
        self._table, self._index, self._lines = table, index, lines
        if not isinstance(table, dict):
            raise self.fail("", f"expected a table, got {table!r}")
        self._limited = by_limit()
        known = (*_KEYS, *self._limited)
        for key in table:
            if key not in known:
                near = next((f"; did you mean {limit!r}?" for limit in self._limited if limit[4:] == key), nearest(key, known))
                raise self.fail(key, f"unknown key {key!r}{near}\nlimits: {', '.join(self._limited)}")
        self.model = self.take("model", str, "text", "")
        self.analysis = self.take("analysis", str, "a path to a JSON analysis", "")
        if bool(self.model) == bool(self.analysis):
            raise self.fail("model", 'give one of model (model = "resnet50") and analysis (analysis = "saved.json")')
        for key in _OPTIONS:
            if self.analysis and key in table:
                raise self.fail(key, f"{key}: cannot be set here, the saved analysis {self.analysis} has settled it")

    def fail(self, key: str, what: str) -> BudgetFileError:
        return BudgetFileError(f"{self._lines.at(self._index, key)}: budget {self._index}: {what}")

    def budget(self, given: Mapping[str, Any], folder: Path, cache: bool) -> Budget:
        """The budget, with all options of its request."""
        limits = self.limits()
        return Budget(
            request=made(_beside(self.model, folder), given, cache=cache) if self.model else None,
            analysis=str(folder / self.analysis) if self.analysis else "",
            name=self.take("name", str, "text", ""),
            allow_unknown=self.take("allow_unknown", bool, "true or false", False),
            limits=limits,
            line=self._lines.number(self._index),
        )

    def limits(self) -> tuple[Limit, ...]:
        found = []
        for key, of in self._limited.items():
            if key in self._table:
                try:
                    found.append(Limit(key, of.name, parse(of, self._table[key]), self._lines.number(self._index, key)))
                except ValueError as e:
                    raise self.fail(key, f"{key}: {e}") from None
        if not found:
            raise self.fail("", f"no limit in it\ngive at least one of {', '.join(self._limited)}")
        return tuple(found)

    def options(self, folder: Path) -> dict[str, Any]:
        """Those of the request that the file gives, by their names."""
        found: dict[str, Any] = {}
        for key, name in _OPTIONS.items():
            if key in self._table:
                read = self.size if name in SIZES else self.word if name in WORDS else getattr(self, name)
                found[name] = read(key)
        if "device" in found:
            found["device"] = _beside(found["device"], folder)
        return found

    def take(self, key: str, kind: type | tuple[type, ...], expected: str, default: Any) -> Any:
        value = self._table.get(key, default)
        if value is not default and (not isinstance(value, kind) or (kind is not bool and isinstance(value, bool))):
            raise self.fail(key, f"{key}: expected {expected}, got {value!r}")
        return value

    def word(self, key: str) -> str:
        names = WORDS[key]
        value = self.take(key, str, f"one of {', '.join(names)}", None)
        if value == "int8" and key == "dtype":
            raise self.fail(key, f"{key}: {NOT_INT8}")
        if value not in names:
            raise self.fail(key, f"{key}: expected one of {', '.join(names)}, got {value!r}{nearest(value, names)}")
        return str(value)

    def size(self, key: str) -> int:
        value: int = self.take(key, int, "a whole number of at least 1", None)
        if value < 1:
            raise self.fail(key, f"{key}: expected a whole number of at least 1, got {value}")
        return value

    def device(self, key: str) -> Any:
        return self.take(key, str, "a device name or file", None)

    def training(self, key: str) -> Any:
        return self.take(key, bool, "true or false", None)

    def host(self, key: str) -> float:
        value = self.take(key, (str, int, float), 'a time such as "10 us"', None)
        try:
            return units.parse(value, "s")
        except ValueError as e:
            raise self.fail(key, f"{key}: {e}") from None

    def inputs(self, key: str) -> tuple[str, ...]:
        value = self._table[key]
        shapes = [value] if isinstance(value, str) else value
        if not isinstance(shapes, list) or not all(isinstance(i, str) for i in shapes):
            raise self.fail(key, f'{key}: expected shapes as text, such as ["x=1,3,224,224"], got {shapes!r}')
        return tuple(shapes)

    def settings(self, key: str) -> dict[str, str]:
        value: dict[str, Any] = self.take(key, dict, "a table such as { width_mult = 0.5 }", None)
        return {name: text if isinstance(text, str) else _plain(text) for name, text in value.items()}


def _plain(value: Any) -> str:
    """A TOML value as `--set` takes it: true, 0.5, [1, 2]."""
    return msgspec.json.encode(value).decode()


def _beside(name: str, folder: Path) -> str:
    """A model or device that is a file beside the budget file, as a path from here; any other name as it is."""
    file, colon, attribute = name.partition(":")
    if file.endswith((".py", ".toml", ".onnx", ".pt2", ".json")) and not Path(file).is_absolute() and (folder / file).is_file():
        return f"{folder / file}{colon}{attribute}"
    return name


def unchecked(budget: Budget, error: Exception) -> Verdict:
    """What stands for a budget whose model failed, or that asks for what cannot be."""
    code = error.exit_code if isinstance(error, RooflineError) else 70
    text = str(error) if isinstance(error, RooflineError) else f"internal error: {type(error).__name__}: {error}"
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
        error=" ".join(text.split())[:600],
        exit_code=code,
        line=budget.line,
    )


class _Fault(RooflineError):
    """A fault of this program's: the gravest."""

    exit_code: ClassVar[int] = 70


def failure(found: Sequence[Verdict], file: str) -> RooflineError:
    """What a check that is not green raises: the gravest of what was found sets the exit code, a broken limit the least."""
    broken = [f"{v.budget} ({f.key})" for v in found for f in v.findings if not f.ok]
    failed = [v.budget for v in found if v.error]
    words = [f"broken: {_some(broken)}"] if broken else []
    words += [f"not checked: {_some(failed)}"] if failed else []
    kinds: dict[int, type[RooflineError]] = {70: _Fault, 3: ModelError, 2: UsageError}
    kind = kinds.get(max((v.exit_code for v in found), default=1), CheckFailed)
    return kind(f"{file}: {'; '.join(words)}")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def check(budget: Budget, analysis: Analysis) -> Verdict:
    """Every limit of the budget beside the analysis. An op without a rule fails what depends on it."""
    unknown = [] if budget.allow_unknown else [u.op for u in analysis.coverage.unknown_ops]
    findings = []
    for limit in budget.limits:
        of = BY_NAME[limit.metric]
        actual = of.of(analysis)
        why = ""
        ok = actual <= limit.value if of.cost else actual >= limit.value
        if unknown and of.needs_rules:
            ok, why = False, f"no FLOP rule for {', '.join(unknown)}"
        findings.append(Finding(limit.key, limit.metric, actual, limit.value, ok, why, limit.line))
    s = analysis.setting
    return Verdict(
        budget=budget.label,
        model=analysis.model.name,
        device=s.device,
        batch=s.batch,
        dtype=s.precision,
        runtime=s.runtime,
        mode=s.mode,
        ok=all(f.ok for f in findings),
        findings=findings,
        line=budget.line,
        note=fits(analysis),
    )
