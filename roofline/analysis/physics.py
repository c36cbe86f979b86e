"""What no device can do: kernels that are predicted faster than the roofs above them, or for free.

A prediction is made of a rule's counts, a device's rates and the constants of the time model. Each of them can be somebody's
own, and wrong: a registered rule, a device file, constants from a file. What comes out above a roof is then said in the notes,
and `--strict` fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from roofline.classes import PRODUCTS
from roofline.devices.device import Device
from roofline.records import Kernel, Point

# Clocks, peaks and bandwidths are rounded where they are published.
TOLERANCE = 1.03
# How every note of this module ends, so that it is known again in a saved analysis.
_END = "the prediction is not to be trusted"


class Fault(Struct, frozen=True):
    """A kernel above a roof: by how many times, infinity where it takes no time at all."""

    kernel: Kernel
    # "peak", "bandwidth", "count"
    roof: str
    times: float


def faults(kernels: Sequence[Kernel], points: Sequence[Point], device: Device) -> list[Fault]:
    """Every kernel that does more in its time than the device can."""
    clocks = (device.sustained, device.sustained_vector)
    # a board may keep a higher clock than it is rated at
    clock = max(1.0, *(number.value for number in clocks if number is not None)) * TOLERANCE
    # what is fresh goes to DRAM beside what a cache delivers
    fastest = max(level.bandwidth for level in device.levels) + device.bandwidth
    found = []
    for kernel, point in zip(kernels, points, strict=True):
        if kernel.flops < 2 * kernel.macs:
            found.append(Fault(kernel, "count", 2 * kernel.macs / max(kernel.flops, 1)))
        elif kernel.klass in PRODUCTS and kernel.flops and not point.compute_s:
            found.append(Fault(kernel, "peak", float("inf")))
        elif point.compute_s and kernel.flops and point.efficiency > clock:
            found.append(Fault(kernel, "peak", point.efficiency / clock * TOLERANCE))
        elif kernel.bytes > clock * fastest * point.memory_s:
            rate = kernel.bytes / point.memory_s if point.memory_s else float("inf")
            found.append(Fault(kernel, "bandwidth", rate / fastest))
    return found


def notes(kernels: Sequence[Kernel], points: Sequence[Point], device: Device, paths: Sequence[str]) -> list[str]:
    """A sentence for each roof that kernels lie above; `paths` are those of the trace's layers."""
    all_faults = faults(kernels, points, device)
    out = []
    for roof, what in (("peak", "peak"), ("bandwidth", "fastest memory")):
        mine = [fault for fault in all_faults if fault.roof == roof]
        if mine:
            worst = max(mine, key=lambda fault: fault.times)
            by = "takes no time at all" if worst.times == float("inf") else f"at {worst.times:.2g} times"
            roof_of = f"the {what} of {device.name}"
            out.append(f"{_counted(mine)} predicted faster than {roof_of}: {_named(worst, paths)} {by}; {_END}")
    miscounted = [fault for fault in all_faults if fault.roof == "count"]
    if miscounted:
        rule = _named(miscounted[0], paths)
        out.append(
            f"{_counted(miscounted)} counted with fewer FLOPs than two for each multiply-accumulate: {rule}; "
            f"its rule is wrong, and {_END}"
        )
    return out


def _counted(found: Sequence[Fault]) -> str:
    return f"{len(found):,} kernels are" if len(found) > 1 else "1 kernel is"


def _named(fault: Fault, paths: Sequence[str]) -> str:
    return f"{fault.kernel.op} in {paths[fault.kernel.layer] or 'the model itself'}"


def broken(given: Iterable[str]) -> list[str]:
    """Those of an analysis' notes that this module wrote."""
    return [note for note in given if note.endswith(_END)]
