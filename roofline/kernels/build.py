"""Runtimes: how ops become kernels, and which bytes each kernel moves."""

from __future__ import annotations

from roofline.errors import UsageError
from roofline.kernels import eager
from roofline.records import RUNTIMES, Kernel, Trace


def build(trace: Trace, runtime: str = "eager", kind: str = "gpu") -> tuple[Kernel, ...]:
    """The kernels of a trace under a runtime on a kind of device, in launch order. Raises UsageError for an unknown runtime."""
    if runtime == "eager":
        return tuple(eager.eager(trace))
    if runtime == "ideal":
        return tuple(eager.ideal(trace))
    if runtime == "compiled":
        from roofline.kernels import compiled  # what the others do without would be a part of a first analysis that shows

        return tuple(compiled.build(trace, kind))
    raise UsageError(f"unknown runtime {runtime!r}; use one of {', '.join(RUNTIMES)}")
