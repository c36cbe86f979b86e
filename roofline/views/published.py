"""Cells of Markdown tables that are not what is computed now: as lines, a JSON document, and GitHub annotations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from roofline.gate.published import Checked, exit_code
from roofline.views.listing import PLAIN, Painter, annotation, safe


def render(found: Sequence[Checked], paint: Painter = PLAIN) -> str:
    """A line for each cell that does not hold, with its place in the file, and what they come to."""
    failed: dict[tuple[str, int, str, str], None] = {}
    lines = []
    for one in found:
        if one.error:
            failed[one.file, one.line, one.model, one.error] = None
        elif not one.ok:
            lines.append(f"{safe(one.file)}:{one.line}: {safe(_said(one))}")
    lines += [f"{safe(file)}:{line}: {safe(f'{model} was not checked: {error}')}" for file, line, model, error in failed]
    lines = [paint(line, "red") for line in lines]
    return "".join(f"{line}\n" for line in [*lines, f"{summary(found)}."])


def _said(one: Checked) -> str:
    return f"{one.model}, {one.column}: says {one.says}, is {one.now}"


def summary(found: Sequence[Checked]) -> str:
    """ "2 of 120 cells drifted, 3 not checked"."""
    drifted, failed = sum(not c.ok and not c.error for c in found), sum(bool(c.error) for c in found)
    said = f"{drifted} of {len(found)} cells drifted" if drifted else f"{len(found) - failed} cells hold"
    return said + (f", {failed} not checked" if failed else "")


def document(found: Sequence[Checked], wrote: Sequence[str]) -> dict[str, Any]:
    """For `--json`."""
    code = exit_code(found)
    return {"ok": code == 0, "exit_code": code, "cells": found, "wrote": list(wrote)}


def github(found: Sequence[Checked]) -> str:
    """Workflow commands that mark the rows."""
    return "".join(
        annotation("error", one.file, one.line, "roofline table", f"{one.model}: {one.error}" if one.error else _said(one))
        for one in found
        if not one.ok
    )
