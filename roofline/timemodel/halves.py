"""A model built in halves on a device that has no units for them: libraries convert them and compute in fp32."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from roofline.classes import MATRIX
from roofline.devices.device import Device
from roofline.dtypes import SHORT
from roofline.errors import UsageError
from roofline.records import Kernel

_HALVES = ("fp16", "bf16")


def converted(device: Device, kernels: Sequence[Kernel]) -> tuple[Device, list[str]]:
    """The device with fp32's rate for halves that it has no peak of, as far as products of these kernels are in them, and a
    note that says so. Raises UsageError for doubles that it has no peak of.
    """
    return converting(device, multiplied(kernels))


def multiplied(kernels: Sequence[Kernel]) -> set[str]:
    """The dtypes of their products."""
    return {SHORT[k.dtype] for k in kernels if k.klass in MATRIX and k.dtype in SHORT}


def converting(device: Device, used: set[str]) -> tuple[Device, list[str]]:
    """The same by the dtypes of products."""
    notes = []
    for dtype in sorted(used):
        if device.has(dtype) or dtype not in (*_HALVES, "fp64"):
            continue
        if dtype == "fp64":
            raise UsageError(
                f"the model computes in {dtype} as it is built, and {device.name} has no {dtype} peak"
                "\nask for a dtype that it has (--dtype fp32), or for another device"
            )
        device = replace(device, vector={**device.vector, dtype: device.vector["fp32"]})
        notes.append(f"{device.name} has no {dtype} units: products in {dtype} are timed as converted and computed in fp32")
    return device, notes
