"""Files that are whole or not there.

`targets` refuses a path that cannot work before any time is spent; `write_all` writes every result beside its place
and renames them into it only when all are written, so a full disk or Ctrl-C leaves nothing half-written.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from roofline.errors import OutputError, UsageError, close
from roofline.records import Analysis
from roofline.views.columns import By, Column

if TYPE_CHECKING:
    from roofline.advice.report import Told
    from roofline.analysis.memory import Timeline
    from roofline.views.scatter import Scatter

PictureName = Literal["roofline", "layers", "batch", "memory"]


class Look(NamedTuple):
    """How pictures look: which one, at what size (as `--size` takes it), on what paper."""

    picture: PictureName = "roofline"
    size: str | None = None
    dark: bool = False
    # what a picture shows beside the analyses: of "batch" each at growing batches, of "memory" what is alive at each op
    sweeps: Sequence[Sequence[Analysis]] = ()
    alive: Sequence[Timeline] = ()


class Shown(NamedTuple):
    """What a file shows of the analyses, as far as it has a choice."""

    # of the file: ".png"
    suffix: str
    # rows of its table, and how deep layers go
    by: By
    depth: int
    # rows of a file that holds nothing but rows
    rows: By
    # explanations at hand, of some or all of the analyses
    told: Sequence[Told] = ()
    look: Look = Look()
    # of the table, where they were chosen
    columns: Sequence[Column] = ()


# The analyses as the content of a file. Raises OutputError where it cannot be drawn.
Renderer = Callable[[Sequence[Analysis], Shown], bytes]

# ------------------------------------------------------------------------------------------------ what can be written


def _json(analyses: Sequence[Analysis], shown: Shown) -> bytes:
    from roofline.views import text

    return text.many_to_json(analyses)


def _csv(analyses: Sequence[Analysis], shown: Shown) -> bytes:
    from roofline.views import text

    return text.to_csv(analyses[0], shown.rows, shown.columns).encode()


def _markdown(analyses: Sequence[Analysis], shown: Shown) -> bytes:
    from roofline.views import text

    pages = (text.to_markdown(a, shown.depth, by=shown.by, columns=shown.columns) for a in analyses)
    return "\n".join(pages).encode()


def _chart(analyses: Sequence[Analysis], shown: Shown) -> bytes:
    from roofline.views import sheet

    look = shown.look
    form = cast(Literal["png", "svg", "pdf"], shown.suffix[1:])
    mode: sheet.Mode = "dark" if look.dark else "light"
    size = sheet.size(look.size)
    try:
        if look.picture == "layers":
            from roofline.views import stack

            return stack.picture(analyses, form, size=size, mode=mode)
        if look.picture == "batch":
            from roofline.views import batches

            return batches.picture(look.sweeps, form, size=size, mode=mode)
        if look.picture == "memory":
            from roofline.views import alive

            return alive.picture(analyses[0], look.alive[0], form, size=size, mode=mode)
        from roofline.views import chart

        return chart.picture(analyses, form, size=size, mode=mode)
    except OSError as e:
        raise OutputError(f"the chart cannot be drawn: {e.strerror or e}") from e


def fronted(path: Path, found: Scatter, page: Callable[[], str], look: Look) -> bytes:
    """Models as points, in one of FRONTS: a picture, or the page. Raises OutputError where it cannot be drawn."""
    suffix = path.suffix.lower()
    if suffix == ".html":
        return page().encode()
    from roofline.views import front, sheet

    form = cast(Literal["png", "svg", "pdf"], suffix[1:])
    try:
        return front.picture(found, form, size=sheet.size(look.size), mode="dark" if look.dark else "light")
    except OSError as e:
        raise OutputError(f"the picture cannot be drawn: {e.strerror or e}") from e


def _page(analyses: Sequence[Analysis], shown: Shown) -> bytes:
    from roofline.views import page

    return page.render(analyses, shown.told).encode()


def _timeline(analyses: Sequence[Analysis], shown: Shown) -> bytes:
    from roofline.views import timeline

    return timeline.render(analyses)


# Suffix -> what renders it. A new output is a file in views/ and a line here.
FORMATS: dict[str, Renderer] = {
    ".json": _json,
    ".csv": _csv,
    ".md": _markdown,
    ".png": _chart,
    ".svg": _chart,
    ".pdf": _chart,
    ".html": _page,
    ".trace.json": _timeline,
}

# ------------------------------------------------------------------------------------------------ files


# Suffixes of pictures.
PICTURES = tuple(suffix for suffix, renderer in FORMATS.items() if renderer is _chart)
# What shows models as points.
FRONTS = (*PICTURES, ".html")
# What an answer about several models is written as: its table, and these.
TABLES = (".csv", ".json", ".md", *FRONTS)


def suffix_of(path: Path) -> str:
    """What names the format: the last suffix, or two that are one of FORMATS together (x.trace.json)."""
    two = "".join(path.suffixes[-2:]).lower()
    return two if two in FORMATS else path.suffix.lower()


def targets(paths: Iterable[Path]) -> list[Path]:
    """The paths, checked: a suffix of FORMATS, a directory that exists, a place that can be written, none twice.

    Raises UsageError for a suffix or a path given twice, OutputError for a place.
    """
    seen: set[Path] = set()
    found = []
    for path in paths:
        suffix = suffix_of(path)
        if suffix not in FORMATS:
            near = close(suffix, FORMATS)
            hint = f"; did you mean {path.stem}{near[0]}?" if near else ""
            what = f"has the suffix {path.suffix!r}" if path.suffix else "has no suffix"
            raise UsageError(f"-o {path}: {what}, which names no format{hint}\ngive one of {', '.join(FORMATS)}")
        place = _place(path)
        if place in seen:
            raise UsageError(f"-o {path}: given twice")
        seen.add(place)
        found.append(path)
    return found


def _place(path: Path) -> Path:
    """Where `path` really is (links followed). Raises OutputError if nothing can be written there."""
    try:
        place = path.resolve()
        if place.is_dir():
            raise OutputError(f"cannot write {path}: it is a directory")
        if not place.parent.is_dir():
            raise OutputError(f"cannot write {path}: no directory {place.parent}\nmake it, or choose another path")
        if not os.access(place if place.exists() else place.parent, os.W_OK):
            raise OutputError(f"cannot write {path}: permission denied\nchoose another path")
    except (OSError, RuntimeError, ValueError) as e:  # a name too long, a loop of links, a null byte
        raise OutputError(f"cannot write {path}: {getattr(e, 'strerror', None) or e}") from None
    return place


def render(
    analyses: Sequence[Analysis],
    path: Path,
    by: By,
    depth: int,
    rows: By | None = None,
    told: Sequence[Told] = (),
    *,
    look: Look | None = None,
    columns: Sequence[Column] = (),
) -> bytes:
    """What belongs into `path`, by its suffix. CSV holds the first analysis alone: a row for each of `rows`, if that is not
    given by kernel unless `by` is "op". A page shows what is told of the analyses. `columns` are those of the rows of
    `by`, where some were chosen.

    Raises OutputError if a chart cannot be drawn.
    """
    suffix = suffix_of(path)
    shown = Shown(suffix, by, depth, rows or ("kernel" if by == "layer" else by), told, look or Look(), columns)
    return FORMATS[suffix](analyses, shown)


def write_all(contents: Mapping[Path, bytes]) -> None:
    """Write every file or none. Raises OutputError that names the file and the reason."""
    pending: list[tuple[Path, Path]] = []
    try:
        for path, data in contents.items():
            place = _place(path)
            # short: the name that it stands in for may be as long as a file's can be
            temp = place.with_name(f".roofline.{os.getpid()}.{len(pending)}.tmp")
            pending.append((temp, place))
            _write(temp, data, path)
            with suppress(OSError):  # keep the permissions of the file that it replaces
                temp.chmod(place.stat().st_mode & 0o7777)
        for temp, place in pending:
            try:
                temp.replace(place)
            except OSError as e:
                raise OutputError(f"cannot write {place}: {e.strerror or e}") from None
    finally:
        for temp, _ in pending:
            with suppress(OSError):
                temp.unlink()


def _write(temp: Path, data: bytes, path: Path) -> None:
    try:
        temp.write_bytes(data)
    except OSError as e:
        raise OutputError(f"cannot write {path}: {e.strerror or e}\nno file was written") from None


def make_folder(folder: Path) -> None:
    """The folder and those above it. Raises OutputError where it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise OutputError(f"cannot make the folder {folder}: {e.strerror or e}") from None


def writable(path: Path) -> Path:
    """The path, checked before time is spent on what goes there. Raises OutputError if nothing can be written."""
    _place(path)
    return path
