"""Budgets: a file and analyses -> findings. No torch, no printing, no exit.

A budget file is TOML: `[[budget]]` tables in roofline.toml, or `[[tool.roofline.budget]]` in pyproject.toml. Each names
a model (or a saved analysis), the setting, and the limits that it must keep.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
from msgspec import Struct

from roofline import files, units
from roofline.analysis.metrics import BY_NAME, by_limit, parse
from roofline.dtypes import NOT_INT8, SETTINGS
from roofline.errors import BudgetFileError, CheckFailed, ModelError, RooflineError, UsageError, nearest
from roofline.records import RUNTIMES, Analysis


class Limit(Struct, frozen=True):
    """One line of a budget: `key` as written ("max_time"), `value` in the metric's base unit."""

    key: str
    metric: str
    value: float
    # line in the budget file, 0 if it was not found
    line: int = 0


class Budget(Struct, frozen=True, kw_only=True):
    """What one model may cost in one setting. Paths are resolved against the budget file."""

    # what analyze() takes; empty where `analysis` is given
    model: str = ""
    # a saved analysis instead of a model
    analysis: str = ""
    name: str = ""
    device: str = "cpu"
    # s to issue an operator, of the machine around a GPU; none: the device file's
    host: float | None = None
    batch: int | None = None
    inputs: tuple[str, ...] = ()
    resolution: int | None = None
    dtype: str = "fp32"
    runtime: str = "eager"
    training: bool = False
    settings: dict[str, str] = {}
    # pass although an op has no rule, so that FLOPs and time are lower bounds
    allow_unknown: bool = False
    limits: tuple[Limit, ...]
    line: int = 0

    @property
    def label(self) -> str:
        return self.name or self.model or Path(self.analysis).name


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


_KEYS = (
    "model", "analysis", "name", "device", "host", "batch", "inputs", "resolution", "dtype", "runtime", "training", "set",
    "allow_unknown",
)  # fmt: skip
# what a saved analysis has already settled
_SETTLED = ("device", "host", "batch", "inputs", "resolution", "dtype", "runtime", "training", "set")


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


def load_budgets(path: Path) -> list[Budget]:
    """Read a budget file. Raises BudgetFileError that names the file, the line, the key and what was expected."""
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
    return [_budget(table, index, lines, path.parent) for index, table in enumerate(tables, 1)]


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


def _budget(table: Any, index: int, lines: _Lines, folder: Path) -> Budget:
    def fail(key: str, what: str) -> BudgetFileError:
        return BudgetFileError(f"{lines.at(index, key)}: budget {index}: {what}")

    if not isinstance(table, dict):
        raise fail("", f"expected a table, got {table!r}")
    limited = by_limit()
    known = (*_KEYS, *limited)
    for key in table:
        if key not in known:
            near = next((f"; did you mean {limit!r}?" for limit in limited if limit[4:] == key), nearest(key, known))
            raise fail(key, f"unknown key {key!r}{near}\nlimits: {', '.join(limited)}")

    def take(key: str, kind: type | tuple[type, ...], expected: str, default: Any) -> Any:
        value = table.get(key, default)
        if value is not default and (not isinstance(value, kind) or (kind is not bool and isinstance(value, bool))):
            raise fail(key, f"{key}: expected {expected}, got {value!r}")
        return value

    def choice(key: str, names: tuple[str, ...]) -> str:
        value = take(key, str, f"one of {', '.join(names)}", names[0])
        if value == "int8" and key == "dtype":
            raise fail(key, f"{key}: {NOT_INT8}")
        if value not in names:
            raise fail(key, f"{key}: expected one of {', '.join(names)}, got {value!r}{nearest(value, names)}")
        return str(value)

    def positive(key: str) -> int | None:
        value = take(key, int, "a whole number of at least 1", None)
        if value is not None and value < 1:
            raise fail(key, f"{key}: expected a whole number of at least 1, got {value}")
        return value if value is None else int(value)

    def time(key: str) -> float | None:
        value = take(key, (str, int, float), 'a time such as "10 us"', None)
        try:
            return value if value is None else units.parse(value, "s")
        except ValueError as e:
            raise fail(key, f"{key}: {e}") from None

    model, analysis = take("model", str, "text", ""), take("analysis", str, "a path to a JSON analysis", "")
    if bool(model) == bool(analysis):
        raise fail("model", 'give one of model (model = "resnet50") and analysis (analysis = "saved.json")')
    for key in _SETTLED:
        if analysis and key in table:
            raise fail(key, f"{key}: cannot be set here, the saved analysis {analysis} has settled it")

    limits = []
    for key, of in limited.items():
        if key in table:
            try:
                limits.append(Limit(key, of.name, parse(of, table[key]), lines.number(index, key)))
            except ValueError as e:
                raise fail(key, f"{key}: {e}") from None
    if not limits:
        raise fail("", f"no limit in it\ngive at least one of {', '.join(limited)}")

    inputs = table.get("inputs", [])
    if isinstance(inputs, str):
        inputs = [inputs]
    if not isinstance(inputs, list) or not all(isinstance(i, str) for i in inputs):
        raise fail("inputs", f'inputs: expected shapes as text, such as ["x=1,3,224,224"], got {inputs!r}')
    settings = take("set", dict, "a table such as { width_mult = 0.5 }", {})
    return Budget(
        model=_beside(model, folder),
        analysis=str(folder / analysis) if analysis else "",
        name=take("name", str, "text", ""),
        device=_beside(take("device", str, "a device name or file", "cpu"), folder),
        host=time("host"),
        batch=positive("batch"),
        inputs=tuple(inputs),
        resolution=positive("resolution"),
        dtype=choice("dtype", SETTINGS),
        runtime=choice("runtime", RUNTIMES),
        training=take("training", bool, "true or false", False),
        settings={key: value if isinstance(value, str) else _plain(value) for key, value in settings.items()},
        allow_unknown=take("allow_unknown", bool, "true or false", False),
        limits=tuple(limits),
        line=lines.number(index),
    )


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
    return Verdict(
        budget=budget.label, model=budget.model, device=budget.device, batch=budget.batch or 0, dtype=budget.dtype,
        runtime=budget.runtime, mode="training" if budget.training else "inference", ok=False, findings=[],
        error=" ".join(text.split())[:600], exit_code=code, line=budget.line,
    )  # fmt: skip


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
        dtype=s.dtype,
        runtime=s.runtime,
        mode=s.mode,
        ok=all(f.ok for f in findings),
        findings=findings,
        line=budget.line,
    )
