"""An analysis with thousands of rows, short enough to be read: numbered siblings are one row, kernels alike another.

`blocks.*.attn` stands for the `attn` of every block: its numbers are the sums of theirs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from roofline.records import Analysis, KernelRow, LayerRow, around
from roofline.units import percent

# Beyond these a table is no longer read, and a page becomes slow.
MOST_LAYERS, MOST_KERNELS = 3200, 5000


class Row(NamedTuple):
    """Kernels alike: the first of them in launch order, how many there are, and their layer (its place in `Folded.layers`)."""

    kernel: KernelRow
    number: int
    layer: int


class Folded(NamedTuple):
    """Layers that ran, parents first, and the kernels of each; `notes` say what was put together or left out."""

    layers: list[LayerRow]
    kernels: list[Row]
    notes: list[str]


def fold(a: Analysis, most_layers: int = MOST_LAYERS, most_kernels: int = MOST_KERNELS) -> Folded:
    """The rows of `a`, put together where they are too many."""
    ran = [row for row in a.layers if row.kernels or not row.path]
    names = {row.path: row.path for row in ran}
    notes = []
    if len(ran) > most_layers:
        names = {path: pattern(path) for path in names}
        count, ran = len(ran), _together(ran, names)
        notes.append(f"{count:,} layers: numbered siblings are one row ({_example(ran)}), with the sums of their numbers")
        if len(ran) > most_layers:
            ran, left = _largest(ran, most_layers)
            notes.append(f"of {len(ran) + left:,} such rows the {len(ran):,} that take the longest are shown")
    places = {row.path: i for i, row in enumerate(ran)}
    kernels, more = _kernels(a, {path: _place(name, places) for path, name in names.items()}, most_kernels)
    return Folded(ran, kernels, notes + more)


def pattern(path: str) -> str:
    """ "blocks.3.attn" -> "blocks.*.attn"."""
    return ".".join("*" if part.isdigit() else part for part in path.split("."))


def _example(rows: Sequence[LayerRow]) -> str:
    return next((row.path for row in rows if "*" in row.path), rows[0].path)


def _place(path: str, places: Mapping[str, int]) -> int:
    """The row of a layer, or of the nearest around it that is there."""
    near = path if path in places else around(path, places)
    return 0 if near is None else places[near]


def _together(rows: Sequence[LayerRow], names: Mapping[str, str]) -> list[LayerRow]:
    groups: dict[str, list[LayerRow]] = {}
    for row in rows:
        groups.setdefault(names[row.path], []).append(row)
    return [_sum(name, group) for name, group in groups.items()]


def _sum(path: str, rows: Sequence[LayerRow]) -> LayerRow:
    if len(rows) == 1:
        return replace(rows[0], path=path)
    parts: dict[str, float] = {}
    for row in rows:
        for bound, seconds in (row.time_by_bound or {row.bound: row.time_s}).items():
            parts[bound] = parts.get(bound, 0.0) + seconds
    flops, nbytes = sum(row.flops for row in rows), sum(row.bytes for row in rows)
    types = list(dict.fromkeys(row.type for row in rows))
    return replace(
        rows[0],
        path=path,
        type=types[0] if len(types) == 1 else f"{len(types)} types",
        params=sum(row.params for row in rows),
        flops=flops,
        macs=sum(row.macs for row in rows),
        bytes=nbytes,
        weight_bytes=sum(row.weight_bytes for row in rows),
        intensity=flops / nbytes if nbytes else 0.0,
        time_s=math.fsum(row.time_s for row in rows),
        bound=max(parts, key=lambda bound: parts[bound]),
        kernels=sum(row.kernels for row in rows),
        time_by_bound=parts,
        calls=sum(row.calls for row in rows),
        memory_bytes=sum(row.memory_bytes for row in rows),
        measured_s=None,
        energy_j=None if rows[0].energy_j is None else math.fsum(row.energy_j or 0.0 for row in rows),
    )


def _largest(rows: Sequence[LayerRow], most: int) -> tuple[list[LayerRow], int]:
    """The rows that take the longest, with all that is around them, and how many are left out."""
    kept: set[str] = {""}
    for row in sorted(rows, key=lambda row: -row.time_s):
        parts = row.path.split(".")
        chain = {".".join(parts[:n]) for n in range(1, len(parts) + 1)}
        if len(kept | chain) > most:
            break
        kept |= chain
    found = [row for row in rows if row.path in kept]
    return found, len(rows) - len(found)


def _kernels(a: Analysis, places: Mapping[str, int], most: int) -> tuple[list[Row], list[str]]:
    def place(row: KernelRow) -> int:
        return places[row.layer] if row.layer in places else places.get(pattern(row.layer), 0)

    if len(a.kernels) <= most:
        return [Row(row, 1, place(row)) for row in a.kernels], []
    groups: dict[tuple[object, ...], list[KernelRow]] = {}
    for row in a.kernels:
        key = place(row), row.op, row.klass, row.shape, row.dtype, row.flops, row.bytes, row.time_s, row.bound, row.level
        groups.setdefault(key, []).append(row)
    found = [Row(rows[0], len(rows), place(rows[0])) for rows in groups.values()]
    notes = [f"{len(a.kernels):,} kernels: those alike in a layer are one row ({len(found):,} rows)"]
    if len(found) > most:
        ranked = sorted(range(len(found)), key=lambda i: -found[i].number * found[i].kernel.time_s)
        kept, rest = sorted(ranked[:most]), ranked[most:]
        share = percent(math.fsum(found[i].number * found[i].kernel.time_s for i in rest), a.totals.time_s)
        found = [found[i] for i in kept]
        notes.append(f"the {len(rest):,} shortest of these rows are left out, {share} of the time together")
    return found, notes
