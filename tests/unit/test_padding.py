"""Rows of a product that start between two wide loads are named with the size that is to blame."""

from __future__ import annotations

from opspecs import op, t

from roofline.analysis import padding
from roofline.devices.library import lookup
from roofline.kernels.facts import Facts
from roofline.records import Kernel, Operand
from roofline.timemodel import roof


def notes(n: int) -> list[str]:
    half = "float16"
    spec = op("linear", t(512, 768, dtype=half), t(n, 768, dtype=half), out=t(512, n, dtype=half))
    f = Facts(spec)
    assert f.work is not None
    operands = (*(Operand(size, i, "parameter") for i, size in enumerate(f.reads)), Operand(f.writes[0], 9, "activation", True))
    kernel = Kernel(0, f.name, f.klass, (0,), f.dtype, f.shape, *f.work, operands, f.access, products=f.products, whole=f.whole)
    device = lookup("h100-sxm")
    how = {"setting": "fp16", "runtime": "eager"}
    points = roof.place([kernel], device, footprint=2**30, **how)
    return padding.notes([kernel], points, device, ["head"], footprint=2**30, **how)


def test_the_odd_size_is_named() -> None:
    (said,) = notes(50257)
    assert said.startswith("rows of linear in head start between two loads of 16 bytes (50,257 is no multiple of 8): padded, ")
    assert notes(50264) == []
