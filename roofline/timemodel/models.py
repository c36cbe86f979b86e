"""The time models that there are: a module each, all with one signature (formulas.Model), chosen by the constants they take."""

from __future__ import annotations

from roofline.timemodel import cpu_compiled, cpu_eager, gpu
from roofline.timemodel.constants import Cpu, CpuEager, Family, Gpu
from roofline.timemodel.formulas import Model

_MODELS: dict[type[Family], Model] = {Gpu: gpu, Cpu: cpu_compiled, CpuEager: cpu_eager}


def of(constants: Family) -> Model:
    """The model of a device and runtime, whose constants these are (Constants.of)."""
    return _MODELS[type(constants)]
