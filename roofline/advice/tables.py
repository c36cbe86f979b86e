"""Where the time goes, as parts that add up to the whole: by class of kernel, and by region of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from roofline.advice.terms import Book, value
from roofline.classes import plural
from roofline.records import around
from roofline.records.explanation import Part, Term

# A class with less than this share of the time on every device, and of the FLOPs, is among the rest.
NOTABLE = 0.03
# Parts of the model that are shown each by itself, and into how many it is taken apart at most.
REGIONS, MOST = 10, 60
# Neighbours whose times differ by no more than this share are one part.
ALIKE = 0.05


def _part(book: Book, names: Sequence[str], title: str, where: Mapping[str, str]) -> Part:
    return Part(
        title,
        book.of(names[0], "share", "kernels.flops", "totals.flops", where),
        {name: book.of(name, "s", "kernels.time_s", where=where) for name in names},
        {name: book.of(name, "share", "kernels.time_s", "totals.time_s", where) for name in names},
    )


def classes(book: Book, names: Sequence[str]) -> list[Part]:
    """The classes of kernel, the one with most time on the first device first, and the rest as one."""
    found = {kernel.klass for name in names for kernel in book.runs[name].kernels}
    parts = {klass: _part(book, names, plural(klass), {"class": klass}) for klass in found}
    kept = [
        klass for klass, part in parts.items() if any(share.value >= NOTABLE for share in (part.flops, *part.shares.values()))
    ]
    kept.sort(key=lambda klass: -parts[klass].shares[names[0]].value)
    rest = sorted(found - set(kept))
    rows = [parts[klass] for klass in kept]
    if len(rest) == 1:
        rows.append(parts[rest[0]])
    elif rest:
        rows.append(_part(book, names, f"{len(rest)} other classes", {"class": "|".join(rest)}))
    return rows


def regions(book: Book, names: Sequence[str]) -> list[Part]:
    """The model taken apart into its modules, those with most time in the order of the call, and the rest as one.

    The module with most time is taken apart first, and none that would leave more than `MOST` parts. Nothing for a model of
    one part.
    """
    first = book.runs[names[0]]
    types = {row.path: row.type for row in first.layers}
    inside: dict[str, list[str]] = {path: [] for path in types}
    for path in types:
        # a container that never ran has no row
        if (parent := around(path, inside)) is not None:
            inside[parent].append(path)

    known: dict[tuple[tuple[str, str], ...], tuple[float, ...]] = {}

    def times(where: Mapping[str, str]) -> tuple[float, ...]:
        key = tuple(where.items())
        if key not in known:
            known[key] = tuple(_times(book, names, where))
        return known[key]

    def time(where: Mapping[str, str]) -> float:
        return max(t / (book.runs[name].totals.time_s or 1.0) for name, t in zip(names, times(where), strict=True))

    parts: list[dict[str, str]] = [{"layer": ""}]
    closed: set[str] = set()
    while len(parts) < REGIONS:
        open_ = [p for p in parts if "layer" in p and p["layer"] not in closed and inside[p["layer"]]]
        if not open_:
            break
        largest = max(open_, key=time)
        path = largest["layer"]
        found = [{"layer": child} for child in inside[path]] + [{"own": path}]
        found = [where for where in found if time(where)]
        if len(parts) - 1 + len(found) > MOST:
            closed.add(path)
            continue
        at = parts.index(largest)
        parts[at : at + 1] = found
    if len(parts) < 2:
        return []
    alike = _alike(parts, types, times)
    shown = sorted(alike, key=lambda group: time(_one(group)), reverse=True)
    shown = shown[: REGIONS if len(alike) > REGIONS + 1 else len(alike)]
    rows = [_part(book, names, _titles(group, types), _one(group)) for group in alike if group in shown]
    rest = [where for group in alike if group not in shown for where in group]
    # the own kernels of a module that was taken apart stand by themselves
    rows += [_part(book, names, _title(where, types), where) for where in rest if "own" in where]
    layers = [where for where in rest if "layer" in where]
    if layers:
        title = f"{len(layers)} other parts" if len(layers) > 1 else _title(layers[0], types)
        rows.append(_part(book, names, title, _one(layers)))
    return rows


def _times(book: Book, names: Sequence[str], where: Mapping[str, str]) -> Iterator[float]:
    for name in names:
        yield value(book.runs[name], Term(name, "kernels.time_s", dict(where)))


def _alike(
    parts: Sequence[dict[str, str]], types: Mapping[str, str], times: Callable[[Mapping[str, str]], tuple[float, ...]]
) -> list[list[dict[str, str]]]:
    """The parts, in groups of neighbours in one container with the same type and about the same times: repeated blocks."""
    groups: list[list[dict[str, str]]] = []
    for where in parts:
        last = groups[-1][0] if groups else {}
        if (
            "layer" in where
            and "layer" in last
            and types[where["layer"]] == types[last["layer"]]
            and where["layer"].rpartition(".")[0] == last["layer"].rpartition(".")[0] != ""
            and all(abs(t - u) <= ALIKE * max(t, u) for t, u in zip(times(where), times(last), strict=True))
        ):
            groups[-1].append(where)
        else:
            groups.append([where])
    return groups


def _one(group: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The condition that keeps all of a group."""
    return dict(group[0]) if len(group) == 1 else {"layer": "|".join(where["layer"] for where in group)}


def _titles(group: Sequence[Mapping[str, str]], types: Mapping[str, str]) -> str:
    if len(group) == 1:
        return _title(group[0], types)
    first, last = group[0]["layer"], group[-1]["layer"]
    return f"{first} to {last.rpartition('.')[2]}: {len(group)} {types[first]}"


def _title(where: Mapping[str, str], types: Mapping[str, str]) -> str:
    if "own" in where:
        return f"{where['own'] or 'the model'} itself"
    return f"{where['layer']} {types.get(where['layer'], '')}".strip()
