"""The records that pass between the stages.

Every record is frozen, holds SI base units (FLOP, byte, second, FLOP/s, B/s) and imports no torch: a trace or an
analysis read back from disk is as good as a fresh one. The records of one stage are made by that stage alone.

Those that come by the hundred are left out of garbage collection (`gc=False`): they hold no cycles, and a collection in
a process that has torch loaded costs more than making them.
"""

from __future__ import annotations

from roofline.records.analysis import (
    Analysis,
    Coverage,
    DeviceInfo,
    Energy,
    Gap,
    IdlePart,
    Interval,
    KernelRow,
    LanguageInfo,
    LayerRow,
    LevelInfo,
    Measurement,
    MemoryCourse,
    OpRow,
    Setting,
    ToolInfo,
    Totals,
    UnknownOp,
)
from roofline.records.kernel import (
    BOUNDS,
    RUNTIMES,
    Kernel,
    Operand,
    Point,
    Work,
    bound_of,
    bound_of_component,
    by_bound,
    components_of,
)
from roofline.records.trace import (
    Arg,
    InputInfo,
    Layer,
    ModelInfo,
    Op,
    OpSpec,
    Scalar,
    Storage,
    TensorSpec,
    Trace,
    above,
    around,
    identity,
)

__all__ = [
    "BOUNDS",
    "RUNTIMES",
    "Analysis",
    "Arg",
    "Coverage",
    "DeviceInfo",
    "Energy",
    "Gap",
    "IdlePart",
    "InputInfo",
    "Interval",
    "Kernel",
    "KernelRow",
    "LanguageInfo",
    "Layer",
    "LayerRow",
    "LevelInfo",
    "Measurement",
    "MemoryCourse",
    "ModelInfo",
    "Op",
    "OpRow",
    "OpSpec",
    "Operand",
    "Point",
    "Scalar",
    "Setting",
    "Storage",
    "TensorSpec",
    "ToolInfo",
    "Totals",
    "Trace",
    "UnknownOp",
    "Work",
    "above",
    "around",
    "bound_of",
    "bound_of_component",
    "by_bound",
    "components_of",
    "identity",
]
