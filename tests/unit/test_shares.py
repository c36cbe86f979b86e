"""Numbers that remember their roofs: derivatives against differences, and the formulas' times as the sum of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from opspecs import shape_of

from roofline.classes import MATRIX, PRODUCTS
from roofline.devices.library import lookup
from roofline.records import Kernel
from roofline.shapes import Access, Gemm, Loop
from roofline.timemodel import features, formulas, models, shares
from roofline.timemodel.constants import shared, shipped
from roofline.validation import arrays

_RATES = st.floats(0.5, 2.0)
DTYPES = {16: "float16", 32: "float32"}


def formula(a: float, b: float, t: float) -> float:
    """Sums, products, quotients and powers of two rates and a time."""
    first, second = 3.0 / (a * 0.7) + 2 / b, 5 / b - 0.1 / a
    return (first**2.5 + max(second, 0.2 / a) ** 2.5) ** (1 / 2.5) + min(t * 4, first) + t / (b / a) * 0.1


@given(_RATES, _RATES, _RATES)
def test_derivatives_are_those_of_differences(a: float, b: float, t: float) -> None:
    found = formula(shares.rate(a, "a"), shares.rate(b, "b"), shares.seconds(t, "t"))
    assert found == formula(a, b, t)
    step = 1e-6
    by = {"a": (a * (1 + step), b, t), "b": (a, b * (1 + step), t), "t": (a, b, t / (1 + step))}
    for name, changed in by.items():
        falls = (formula(a, b, t) - formula(*changed)) / step
        assert shares.parts(found).get(name, 0.0) == pytest.approx(falls, rel=1e-3, abs=1e-4), name


def test_a_plain_number_rests_on_nothing() -> None:
    assert shares.parts(1.5) == {}
    assert shares.parts(2 / shares.rate(4.0, "dram")) == {"dram": 0.5}
    assert shares.parts(shares.rate(4.0, "a") ** 0 * 0.0) == {"a": 0.0}


@pytest.mark.parametrize("name", ["rtx-4090", "t4", "p100-pcie", "i9-10940x", "i7-12700h", "raspberry-pi-5"])
@pytest.mark.parametrize("klass", arrays.KLASSES)
@pytest.mark.parametrize("runtime", ["eager", "compiled"])
@pytest.mark.parametrize("bits", [16, 32])
def test_what_a_time_rests_on_is_all_of_it(name: str, klass: str, runtime: str, bits: int) -> None:
    """A constant of the formulas that is a time or a rate and no roof (constants.shared) would be missing here."""
    device = lookup(name)
    machine = formulas.Machine.of(device, "fp32", runtime).shared([level.name for level in device.levels])
    if klass in MATRIX:
        machine = machine.at(device.peak("fp32", "best"))
    table = shared(shipped().of(device, runtime))
    whole = shape_of(klass)
    more = Gemm(1, 1, 70, 33) if klass == "attention" else replace(whole, times=2) if whole else None
    products = (whole, more) if whole and more and klass in PRODUCTS else ()
    access = Access(run=8, serial=10**4, abreast=50, copied=10**5)
    loop = Loop(10**6, special=10**5, outer=64, row=100, welford=10**6)
    size = (1,), 10**8, 5 * 10**7
    kernel = Kernel(0, "x", klass, (0,), DTYPES[bits], *size, (), access, products=products, whole=whole, loop=loop)
    moved = features.Moved(5000, 50 * 2**20, 50 * 2**20, [(2**20, 2**22), (2**24, 2**26)])
    f = replace(features.of(kernel, moved, 10**9), untold=10**6, generated=int(runtime == "compiled"))
    model = models.of(table)
    given = klass, f, table, machine, formulas.Plain
    times = [model.work(*given).seconds, *model.overhead(*given)]
    for time in times:
        assert sum(shares.parts(time).values()) == pytest.approx(float(time), rel=1e-9, abs=1e-18)
