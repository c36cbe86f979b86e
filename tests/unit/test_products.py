"""One truth: the products that the time model multiplies are the multiply-accumulates that the rules count."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import asdict, replace
from opspecs import op, shape_of, t
from rulespecs import CALLS

from roofline import cost
from roofline.classes import PRODUCTS
from roofline.cost.registry import RULES
from roofline.kernels.facts import Facts
from roofline.records import OpSpec
from roofline.shapes import OF_IMAGE, OF_WEIGHT, Attention, Conv, Recurrent, Shape
from roofline.timemodel import sizes


def products(spec: OpSpec) -> tuple[Shape, ...]:
    counted = cost.count(spec)
    assert counted is not None
    return counted.products


def test_every_rule_of_products_has_a_call_here() -> None:
    cost.complete()
    tried = {id(cost.rule_of(spec.name, spec.overload)) for spec in CALLS}
    names = [name for name, rule in RULES.items() if rule.klass in PRODUCTS and id(rule) not in tried]
    assert names == []


@pytest.mark.parametrize("spec", CALLS, ids=lambda s: s.name)
def test_products_hold_every_multiply_accumulate(spec: OpSpec) -> None:
    counted, work = cost.count(spec), cost.work(spec)
    assert counted is not None
    assert work is not None
    assert counted.untold is None
    assert sum(p.macs for p in counted.products) == work.macs
    if not work.macs:  # the gradient of a bias alone, distances taken one by one
        assert counted.products == ()


def test_a_backward_is_the_products_of_its_gradients() -> None:
    x, w, y = t(2, 4, 9, 8), t(6, 4, 3, 3), t(2, 6, 7, 6)
    low = [[1, 1], [0, 0], [1, 1]]
    forward = 2 * 6 * 7 * 6 * 4 * 3 * 3
    for mask, kinds in (
        ([True, True], [OF_IMAGE, OF_WEIGHT]),
        ([True, False], [OF_IMAGE]),
        ([False, True], [OF_WEIGHT]),
        ([False, False], []),
    ):
        spec = op("convolution_backward", y, x, w, None, *low, False, [0, 0], 1, [*mask, True], out=[x, w])
        found = products(spec)
        assert [d.gradient for d in found if isinstance(d, Conv)] == kinds
        assert [d.macs for d in found] == [forward] * len(kinds)
    # the image's gradient goes from the result's sizes to the image's
    (image,) = products(op("convolution_backward", y, x, w, None, *low, False, [0, 0], 1, [True, False, False], out=[x]))
    assert image == Conv(2, 6, 4, 1, (7, 6), (9, 8), (3, 3), transposed=True, gradient=OF_IMAGE)


def test_a_volume_has_all_its_dimensions() -> None:
    (d,) = products(op("conv3d", t(2, 4, 5, 6, 7), t(6, 4, 2, 3, 3), out=t(2, 6, 4, 4, 5)))
    assert d.macs == 2 * 6 * (4 * 4 * 5) * 4 * (2 * 3 * 3)
    assert d == Conv(2, 4, 6, 1, (5, 6, 7), (4, 4, 5), (2, 3, 3))


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_a_complex_product_is_four(dtype: str) -> None:
    (d,) = products(op("bmm", t(2, 3, 4, dtype=dtype), t(2, 4, 5, dtype=dtype), out=t(2, 3, 5, dtype=dtype)))
    assert d.macs == 4 * 2 * 3 * 4 * 5


@pytest.mark.parametrize("spec", CALLS, ids=lambda s: s.name)
def test_what_formulas_multiply_is_what_was_counted(spec: OpSpec) -> None:
    """The sizes that formulas read give the shape's own multiply-accumulates, for one number and for arrays."""
    counted = Facts(spec)
    for p in products(spec):
        found = sizes.of(p, counted.klass)
        assert found.macs * found.times == p.macs
        many = type(found)(**{name: np.array([size, size]) for name, size in asdict(found).items()})
        assert list(many.macs * many.times) == [p.macs] * 2


def test_a_convolution_is_of_the_kind_that_its_kernel_is_of() -> None:
    grouped, depthwise = Conv(1, 8, 8, 2, (4, 4), (4, 4), (3, 3)), Conv(1, 8, 8, 8, (4, 4), (4, 4), (3, 3))
    assert type(sizes.of(depthwise, "depthwise_conv")) is sizes.DepthwiseSizes
    assert type(sizes.of(depthwise, "grouped_conv")) is sizes.GroupedSizes
    # inside a kernel of another class (a registered rule may say so) it is what its groups make it
    assert type(sizes.of(grouped, "gemm")) is sizes.GroupedSizes
    assert type(sizes.of(depthwise, "gemm")) is sizes.DepthwiseSizes


def test_no_size_of_a_shape_is_lost_on_the_way_to_the_formulas() -> None:
    """Shapes that differ in one field differ in the sizes that formulas read, but for what no formula asks."""
    unread = {(Attention, "kv_heads"), (Recurrent, "i")}
    for klass in ("gemm", "conv", "attention", "rnn", "pool"):
        shape = shape_of(klass)
        assert shape is not None
        for name in shape.__struct_fields__:
            value = getattr(shape, name)
            other = not value if isinstance(value, bool) else (9, *value[1:]) if isinstance(value, tuple) else value + 9
            if (type(shape), name) not in unread and not (klass == "pool" and name == "times"):
                assert sizes.of(shape, klass) != sizes.of(replace(shape, **{name: other}), klass), name
