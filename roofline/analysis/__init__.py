"""Kernels and their points -> an Analysis: totals and rows, and what is read from it: memory, reasons, metrics, budgets.

`to_json`, `from_json` and `load` can be imported from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from roofline.analysis.document import from_json, load, to_json

__all__ = ["from_json", "load", "to_json"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from roofline.analysis import document

        return getattr(document, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
