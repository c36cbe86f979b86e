"""The time models that there are: a module each, all with one signature (formulas.Model), chosen by the constants they take."""

from __future__ import annotations

from functools import cache

from roofline.timemodel.constants import Cpu, CpuEager, Family, Gpu
from roofline.timemodel.formulas import Model


def of(constants: Family) -> Model:
    """The model of a device and runtime, whose constants these are (Constants.of)."""
    return _model(type(constants))


@cache
def _model(kind: type[Family]) -> Model:
    # each is read where it is asked for: a first analysis would wait for the others
    if kind is Gpu:
        from roofline.timemodel import gpu

        return gpu
    if kind is CpuEager:
        from roofline.timemodel import cpu_eager

        return cpu_eager
    assert kind is Cpu
    from roofline.timemodel import cpu_compiled

    return cpu_compiled
