"""Products whose rows start between two wide loads: what padded sizes would save on a GPU."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from roofline.devices.device import Device
from roofline.dtypes import DTYPE_BITS
from roofline.records import Kernel, Point
from roofline.shapes import Gemm
from roofline.timemodel import roof
from roofline.timemodel.constants import Constants
from roofline.units import seconds

# bytes that every row has to start at a multiple of
LOAD = 16
# a saving below this share of the time is not worth a sentence
NOTABLE = 0.03


def notes(
    kernels: Sequence[Kernel],
    points: Sequence[Point],
    device: Device,
    paths: Sequence[str],
    *,
    setting: str,
    runtime: str,
    footprint: int,
    constants: Constants | None = None,
) -> list[str]:
    """A sentence where sizes that are no multiple of 16 bytes cost a notable part of the time; torch.compile pads by itself."""
    odd = [i for i, k in enumerate(kernels) if 0 < k.access.aligned < LOAD and k.klass == "gemm"]
    if not odd or device.kind != "gpu" or runtime != "eager":
        return []
    padded = list(kernels)
    for i in odd:
        padded[i] = replace(kernels[i], access=replace(kernels[i].access, aligned=0))
    better = roof.place(padded, device, setting=setting, runtime=runtime, footprint=footprint, constants=constants)
    whole, saved = sum(p.time_s for p in points), sum(p.time_s for p in points) - sum(p.time_s for p in better)
    if saved < NOTABLE * whole:
        return []
    worst = max(odd, key=lambda i: points[i].time_s - better[i].time_s)
    kernel = kernels[worst]
    where = f"{kernel.op} in {paths[kernel.layer] or 'the model itself'}"
    more = f" and {len(odd) - 1:,} more" if len(odd) > 1 else ""
    return [f"rows of {where}{more} start between two loads of {LOAD} bytes{_sizes(kernel)}: padded, {_saved(saved, whole)}"]


def _sizes(kernel: Kernel) -> str:
    """ " (50,257 is no multiple of 8)"."""
    step = LOAD * 8 // DTYPE_BITS[kernel.dtype]
    shape = kernel.whole
    found = [n for n in (shape.n, shape.k) if n % step] if isinstance(shape, Gemm) else []
    return f" ({max(found):,} is no multiple of {step})" if found else ""


def _saved(saved: float, whole: float) -> str:
    return f"the pass would take {seconds(saved)} less of {seconds(whole)}"
