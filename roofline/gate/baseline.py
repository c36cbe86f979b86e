"""A baseline: the numbers of models by budget, in a small sorted JSON file that is committed and reads well in a diff."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from roofline import compat, files, fingerprints
from roofline.analysis.budgets import Budget
from roofline.analysis.changes import parts, sums
from roofline.analysis.metrics import numbers
from roofline.cache import digest
from roofline.devices import library
from roofline.errors import RooflineError, UsageError
from roofline.records import Analysis
from roofline.version import __version__

SCHEMA = 1
# What a row of `parts` holds, in this order.
ROW = ("params", "macs", "flops", "bytes", "weight_bytes", "kernels", "time")


class Entry(Struct, frozen=True, forbid_unknown_fields=True):
    """One model in one setting. Base units."""

    # digest of the numbers of the device
    device: str
    digest: str
    # coarse layer -> the numbers of ROW
    parts: dict[str, list[float]]
    # metric -> number
    totals: dict[str, float]

    def by_metric(self) -> dict[str, dict[str, float]]:
        return {name: {path: row[i] for path, row in self.parts.items()} for i, name in enumerate(ROW)}


class Baseline(Struct, frozen=True, forbid_unknown_fields=True):
    schema: int
    # roofline, torch and the constants of the time model
    made_with: dict[str, str]
    budgets: dict[str, Entry]

    def stale(self, budgets: Sequence[Budget]) -> str:
        """Why its numbers are not what this program would find; empty where they are."""
        now = made_with()
        for name, value in now.items():
            if self.made_with.get(name) != value:
                return f"made with {name} {self.made_with.get(name, 'unknown')}, and here is {value}"
        for budget in budgets:
            entry = self.budgets.get(budget.key)
            if entry and budget.request and entry.device != _device(budget):
                return f"made with other numbers of the device {budget.request.place.device}"
        return ""


def made_with() -> dict[str, str]:
    # the build of torch (+cpu, +cu130) traces alike
    torch = compat.version("torch").partition("+")[0]
    return {"constants": fingerprints.constants_digest(), "roofline": __version__, "torch": torch}


def _device(budget: Budget) -> str:
    assert budget.request is not None
    place = budget.request.place
    try:
        device = library.lookup(place.device) if isinstance(place.device, str) else place.device
        return fingerprints.device_digest(device)
    except RooflineError:  # the check of the budget says so
        return ""


def entry(analysis: Analysis) -> Entry:
    """What a baseline keeps of an analysis."""
    totals = numbers(analysis)
    columns = [sums(parts(analysis, name)) for name in ROW]
    paths = sorted(set().union(*columns))
    rows = {path: [_plain(column.get(path, 0)) for column in columns] for path in paths}
    made = Entry(analysis.device.fingerprint, "", rows, {name: _plain(v) for name, v in sorted(totals.items())})
    return msgspec.structs.replace(made, digest=_digest(made, made_with()))


def _plain(value: float) -> float:
    return int(value) if float(value).is_integer() and abs(value) < 2**53 else value


def _digest(one: Entry, made: Mapping[str, str]) -> str:
    rows = [(path, [float(n) for n in row]) for path, row in sorted(one.parts.items())]
    totals = [(name, float(n)) for name, n in sorted(one.totals.items())]
    return digest(repr((one.device, rows, totals, sorted(made.items()))))[:16]


def read(path: Path) -> Baseline | None:
    """The baseline in a file, None where there is no file. Raises UsageError for one that is not as it was written."""
    try:
        text = files.text(path, files.CONFIG)
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not a baseline: it is not text in UTF-8\n{AGAIN}") from None
    except OSError as e:
        raise UsageError(f"{path}: cannot be read: {e.strerror or e}") from None
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith(("<<<<<<< ", ">>>>>>> ", "=======")):
            raise UsageError(f"{path}:{number}: a merge has left its marks here\ntake either side, and {AGAIN}")
    try:
        found = msgspec.json.decode(text.encode(), type=Baseline)
    except (msgspec.DecodeError, RecursionError) as e:
        raise UsageError(f"{path}: not a baseline: {e}\n{AGAIN}") from None
    if found.schema != SCHEMA:
        raise UsageError(f"{path}: schema {found.schema}, but schema {SCHEMA} is read here\n{AGAIN}")
    for name, one in found.budgets.items():
        if one.digest != _digest(one, found.made_with) or any(len(row) != len(ROW) for row in one.parts.values()):
            raise UsageError(f"{path}: {name}: its numbers are not those that were written, so it was edited\n{AGAIN}")
    return found


AGAIN = "make it again: roofline check --update"


def text(entries: Mapping[str, Entry]) -> str:
    """The file: sorted, a line for each number, so that a change is read where it is."""
    lines = ["{", f'  "schema": {SCHEMA},', f'  "made_with": {json.dumps(made_with(), sort_keys=True)},', '  "budgets": {']
    for i, (key, one) in enumerate(sorted(entries.items())):
        lines.append(f"    {json.dumps(key)}: {{")
        lines.append(f'      "device": {json.dumps(one.device)},')
        lines.append(f'      "digest": {json.dumps(one.digest)},')
        for name, table in (("totals", one.totals), ("parts", one.parts)):
            lines.append(f'      "{name}": {{')
            rows = [f"        {json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(table.items())]
            lines += [row + "," for row in rows[:-1]] + rows[-1:]
            lines.append("      }," if name == "totals" else "      }")
        lines.append("    }" + ("," if i < len(entries) - 1 else ""))
    return "\n".join([*lines, "  }", "}"]) + "\n"
