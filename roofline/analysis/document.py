"""An analysis as its JSON document, and back."""

from __future__ import annotations

from pathlib import Path

import msgspec

from roofline import files
from roofline.errors import UsageError
from roofline.records import Analysis


def to_json(analysis: Analysis) -> bytes:
    """The document, compact."""
    return msgspec.json.encode(analysis)


def from_json(data: bytes | str, where: str = "analysis") -> Analysis:
    """Read a document back. Raises UsageError that names the field where it is not one."""
    try:
        analysis = msgspec.json.decode(data, type=Analysis)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{where} is not an analysis that `roofline analyze --json` wrote: {error}") from error
    if analysis.schema != Analysis.SCHEMA:
        raise UsageError(f"{where} has schema {analysis.schema}; this version of roofline reads schema {Analysis.SCHEMA}")
    return analysis


def load(path: str | Path) -> Analysis:
    """Read a saved analysis. Raises UsageError where the file cannot be read, is not one, or was edited."""
    try:
        data = files.json(path, files.ANALYSIS)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    from roofline.analysis import verify

    verify.check_text(data, str(path))
    found = from_json(data, str(path))
    verify.check(found, str(path))
    return found
