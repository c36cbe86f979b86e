"""What no device can do, and what no better device does: held over every rule, every device and drawn shapes.

The roofs are worked out here from the device's published peaks and bandwidths, not from the time model.
"""

from __future__ import annotations

import math
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from opspecs import op, t
from rulespecs import CALLS

from roofline.analysis import physics
from roofline.devices import device as devices
from roofline.devices import library
from roofline.devices.device import Device, Number
from roofline.devices.library import lookup
from roofline.errors import UsageError
from roofline.kernels.facts import Facts
from roofline.records import Kernel, Operand, OpSpec, Point
from roofline.timemodel import roof

ALL = [d.name for d in library.everything()]
SOME = ["rtx-3090", "t4", "p100-pcie", "gtx-1080-ti", "apple-m2-max-gpu", "i9-10940x", "i7-12700h", "raspberry-pi-4"]
few = settings(max_examples=40, deadline=None, derandomize=True)


def kernel(spec: OpSpec) -> Kernel:
    """The kernel of one call; what it reads was just written, weights (its second tensor) are parameters."""
    f = Facts(spec)
    reads = [Operand(n, i, "parameter" if i == 1 else "activation", False, -1 if i == 1 else 0) for i, n in enumerate(f.reads)]
    operands = (*reads, *(Operand(n, 90 + i, "activation", True) for i, n in enumerate(f.writes)))
    flops, macs = f.work or (0, 0)
    return Kernel(
        0,
        f.name,
        f.klass,
        (0,),
        f.dtype,
        f.shape,
        flops,
        macs,
        operands,
        f.access,
        f.work is not None,
        "forward",
        f.products,
        f.whole,
    )


BEFORE = Kernel(0, "relu", "pointwise", (0,), "float32", (1,), 1, 0, (Operand(4, 0, "activation", True),))


def place(k: Kernel, device: Device, runtime: str = "eager", setting: str = "fp32") -> Point:
    """The kernel's point, after a small one that wrote what it reads."""
    return roof.place([BEFORE, k], device, setting=setting, runtime=runtime, footprint=2**33)[1]


def whole(k: Kernel, device: Device, runtime: str) -> float:
    """Seconds of both."""
    return sum(p.time_s for p in roof.place([BEFORE, k], device, runtime=runtime, footprint=2**33))


def work(k: Kernel, device: Device, runtime: str = "eager") -> float:
    point = place(k, device, runtime)
    return point.time_s - point.overhead_s


@cache
def tops(name: str) -> tuple[float, float, float]:
    """FLOP/s of the device's fastest unit, B/s of its fastest level and DRAM, at the highest clock that its file states."""
    d = lookup(name)
    clock = max(1.0, d.sustained.value, d.sustained_vector.value if d.sustained_vector else 0.0)
    return clock * max(d.peaks().values()), clock * max(x.bandwidth for x in d.levels) + d.bandwidth, d.bandwidth


@pytest.mark.parametrize("name", ALL)
def test_no_rule_is_free_or_above_a_roof(name: str) -> None:
    device = lookup(name)
    peak, memory, _ = tops(name)
    tried = 0
    for k in KERNELS:
        for runtime in ("eager", "compiled"):
            try:
                point = place(k, device, runtime)
            except UsageError:  # int8 or complex products on a device without
                continue
            tried += 1
            assert math.isfinite(point.time_s), k.op
            if k.macs:
                assert point.compute_s > 0, (k.op, runtime)
                assert point.executed * k.flops <= 1.001 * peak * point.compute_s, (k.op, runtime)
            assert k.bytes <= 1.001 * memory * point.memory_s, (k.op, runtime)
            assert sum(point.components.values()) == pytest.approx(point.time_s, rel=1e-9)
            assert physics.notes([k], [point], device, [k.op]) == [], runtime
    assert tried > len(KERNELS)


KERNELS = [kernel(spec) for spec in CALLS]


@pytest.mark.parametrize("runtime", ["eager", "compiled"])
@pytest.mark.parametrize("name", SOME)
def test_a_volume_takes_at_least_its_arithmetic(name: str, runtime: str) -> None:
    """The middle of a video network: 64 to 128 channels, 3 x 3 x 3, over 8 x 28 x 28."""
    k = kernel(op("conv3d", t(1, 64, 8, 28, 28), t(128, 64, 3, 3, 3), None, 1, 1, 1, 1, out=t(1, 128, 8, 28, 28)))
    macs = 128 * 8 * 28 * 28 * 64 * 27
    assert k.macs == macs
    device = lookup(name)
    assert work(k, device, runtime) >= 2 * macs / (device.peak("fp32", "vector") * 1.2)


@pytest.mark.parametrize("runtime", ["eager", "compiled"])
@pytest.mark.parametrize("name", SOME)
def test_both_gradients_take_about_two_forwards(name: str, runtime: str) -> None:
    """5 x 5, for which no algorithm leaves out products; what is around them (blocking, copies) is not needed twice."""
    x, w, y = t(32, 128, 28, 28), t(256, 128, 5, 5), t(32, 256, 28, 28)
    low = [[1, 1], [2, 2], [1, 1]]
    device = lookup(name)
    forward = work(kernel(op("convolution", x, w, None, *low, False, [0, 0], 1, out=y)), device, runtime)
    for mask, least, most in (([True, True], 1.5, 3.5), ([True, False], 0.7, 1.7), ([False, True], 0.7, 1.9)):
        spec = op(
            "convolution_backward",
            y,
            x,
            w,
            None,
            *low,
            False,
            [0, 0],
            1,
            [*mask, False],
            out=[s for s, yes in zip((x, w), mask, strict=True) if yes],
        )
        assert least * forward < work(kernel(spec), device, runtime) < most * forward, mask


def attention(causal: bool, backward: bool = False, dtype: str = "float16") -> Kernel:
    q = t(4, 16, 2048, 64, dtype=dtype)
    if backward:
        args = [q, q, q, q, q, t(4, 16, 2048), None, None, 2048, 2048, 0.0, causal, t(2), t()]
        return kernel(op("_scaled_dot_product_flash_attention_backward", *args, out=[q, q, q]))
    return kernel(op("_scaled_dot_product_flash_attention", q, q, q, 0.0, causal, out=[q]))


# cuDNN's backward takes an H200 3.5 times its forward, whose exponentials hide (192 x 16 heads of 197 queries: 577, 167 us)
@pytest.mark.parametrize(("name", "most"), [("rtx-3090", 2.5), ("h100-sxm", 3.5), ("t4", 2.5)])
def test_fused_attention_backward_has_five_products_for_two(name: str, most: float) -> None:
    device = lookup(name)
    forward, back = (place(attention(False, b), device, setting="fp16").compute_s for b in (False, True))
    assert 1.3 * forward < back < most * forward  # the exponentials are taken once in each
    assert back >= 2 * 4 * 16 * 2048 * 2048 * 5 * 64 / tops(name)[0]


def test_attention_in_fp32_runs_alike_with_tf32_and_without() -> None:
    """Its kernel takes three products of TF32 for each either way: an H200 took 810 us under TF32 and 743 without."""
    q = t(128, 12, 197, 64, dtype="float32")
    whole = kernel(op("_scaled_dot_product_efficient_attention", q, q, q, None, False, out=[q]))
    with_tf32, without = (place(whole, lookup("h200-sxm"), setting=setting).compute_s for setting in ("tf32", "fp32"))
    assert with_tf32 == pytest.approx(without)
    assert 0.6 * 743e-6 < with_tf32 < 1.1 * 810e-6


# TFLOP/s of cuDNN's forward on an H100 SXM5 in halves, heads of 2,048 in all, 16,384 tokens in sequences of 512 to 16,384, by
# width and causal mask (Shah et al., arXiv:2407.08608, figure 5)
CUDNN = {
    (64, False): (335, 373, 395, 408, 412, 413),
    (64, True): (225, 288, 334, 363, 379, 388),
    (128, False): (497, 574, 617, 609, 600, 595),
    (256, False): (470, 546, 580, 581, 580, 581),
    (256, True): (308, 391, 450, 483, 497, 509),
}  # fmt: skip


def test_attention_on_hopper_is_as_fast_as_published() -> None:
    h100, ratios = lookup("h100-sxm"), []
    for (width, causal), speeds in CUDNN.items():
        for i, speed in enumerate(speeds):
            length = 512 * 2**i
            q = t(16384 // length, 2048 // width, length, width, dtype="float16")
            once = kernel(op("_scaled_dot_product_flash_attention", q, q, q, 0.0, causal, out=[q]))
            flops = 4 * 16384 * length * 2048 / (2 if causal else 1)
            ratios.append(work(once, h100) / (flops / speed / 1e12))
    errors = sorted(abs(ratio - 1) for ratio in ratios)
    assert errors[len(errors) // 2] < 0.12, ratios
    assert errors[-1] < 0.32, ratios


@pytest.mark.parametrize("name", ["rtx-3090", "i9-10940x"])
def test_a_causal_mask_leaves_out_what_lies_above_the_diagonal(name: str) -> None:
    """2,048 queries in blocks of 64: of 32 x 32 blocks 528 are met."""
    dtype = "float16" if name == "rtx-3090" else "float32"
    full, half = (place(attention(c, dtype=dtype), lookup(name)) for c in (False, True))
    assert full.executed == 1
    assert half.executed == pytest.approx(528 / 1024)
    # what each block of queries waits to start and to end is not halved
    assert half.compute_s == pytest.approx(full.compute_s * 528 / 1024, rel=0.02)
    assert half.efficiency <= 1


def conv(dtype: str, taps: int = 3, stride: int = 1, dilation: int = 1, channels: int = 256) -> Kernel:
    x, w = t(32, channels, 28, 28, dtype=dtype), t(channels, channels, taps, taps, dtype=dtype)
    return kernel(op("conv2d", x, w, None, [stride] * 2, [dilation] * 2, [dilation] * 2, 1, out=x))


@pytest.mark.parametrize("name", ["rtx-2080-ti", "v100-pcie", "titan-xp"])
def test_winograd_is_said_and_only_where_it_exists(name: str) -> None:
    device = lookup(name)
    saved = place(conv("float32"), device)
    # F(4x4, 3x3): 36 products for 144, F(2x2, 3x3) 16 for 36; 28 is a whole number of either's pieces
    assert saved.executed in (36 / 144, 16 / 36)
    assert saved.efficiency <= 1
    for other in (conv("float64"), conv("float32", dilation=2), conv("float32", taps=5), conv("float32", stride=2)):
        point = place(other, device)
        assert point.executed == 1
        assert point.compute_s >= other.flops / (tops(name)[0])
    # twice the width of a number: never cheaper, and never above the unit for doubles
    double = place(conv("float64"), device)
    assert double.compute_s >= conv("float64").flops / (1.2 * device.peak("fp64"))


@pytest.mark.parametrize("name", ["gtx-1080-ti", "p40", "p4", "titan-xp"])
def test_halves_that_are_slow_are_computed_in_fp32(name: str) -> None:
    """GP102 and GP104 do halves at 1/64 of the rate of fp32; cuBLAS and cuDNN convert them."""
    device = lookup(name)
    assert device.peak("fp16") < device.peak("fp32") / 32
    half, single = (
        place(kernel(op("mm", *[t(4096, 4096, dtype=d)] * 2, out=t(4096, 4096, dtype=d))), device, setting=s)
        for d, s in (("float16", "fp16"), ("float32", "fp32"))
    )
    assert half.compute_s == pytest.approx(single.compute_s)
    assert half.efficiency <= 1


# ------------------------------------------------------------------------------------------------ few rows


def linear(m: int, n: int = 11008, k: int = 4096, dtype: str = "float16") -> Kernel:
    return kernel(op("linear", t(m, k, dtype=dtype), t(n, k, dtype=dtype), out=t(m, n, dtype=dtype)))


@pytest.mark.parametrize("name", ["rtx-3090", "rtx-3060", "rtx-4060", "rtx-5090", "t4", "apple-m2-max-gpu", "h100-sxm"])
def test_one_row_takes_the_time_of_its_weights(name: str) -> None:
    """Decoding one token: each weight is read once and used once."""
    device = lookup(name)
    k = linear(1)
    point = place(k, device, setting="fp16")
    least = 2 * 11008 * 4096 / device.bandwidth
    assert point.memory_s > 5 * point.compute_s
    assert least < point.time_s - point.overhead_s < 1.4 * least + 4e-6
    # a column is a row of the other side
    column = kernel(op("mv", t(11008, 4096, dtype="float16"), t(4096, dtype="float16"), out=t(11008, dtype="float16")))
    assert place(column, device, setting="fp16").compute_s == pytest.approx(point.compute_s, rel=0.05)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("runtime", ["eager", "compiled"])
@pytest.mark.parametrize("name", SOME)
def test_more_rows_never_take_less_time(name: str, runtime: str, dtype: str) -> None:
    device = lookup(name)
    if dtype == "float16" and not device.has("fp16"):
        pytest.skip(f"{name} has no half precision")
    rows = [*range(1, 20), 31, 32, 33, 63, 64, 65, 95, 96, 97, 128, 129, 187, 188, 256, 512]
    times = [work(linear(m, 1024, 1024, dtype), device, runtime) for m in rows]
    falls = [(rows[i], rows[i + 1]) for i in range(len(rows) - 1) if times[i + 1] < times[i] * (1 - 1e-9)]
    # eager mode on a CPU repacks the weights of a few rows, the less of them the more rows there are
    assert [f for f in falls if not (runtime == "eager" and device.kind == "cpu" and f[0] < 64)] == []


# ------------------------------------------------------------------------------------------------ drawn shapes

sizes = st.integers(1, 3000)


@few
@given(st.sampled_from(SOME), st.sampled_from(["eager", "compiled"]), st.tuples(sizes, sizes, sizes), st.integers(0, 2))
def test_a_larger_product_never_takes_less(name: str, runtime: str, shape: tuple[int, int, int], axis: int) -> None:
    """Twice as many rows, columns or steps."""
    larger = tuple(2 * s if i == axis else s for i, s in enumerate(shape))
    times = []
    for m, n, k in (shape, larger):
        found = kernel(op("mm", t(m, k), t(k, n), out=t(m, n)))
        point = place(found, lookup(name), runtime)
        assert found.flops * point.executed <= 1.001 * tops(name)[0] * point.compute_s
        times.append(point.time_s - point.overhead_s)
    cpu = lookup(name).kind == "cpu"
    assert times[1] >= times[0] * (1 - 1e-9) or (cpu and runtime == "eager" and shape[0] < 64 and axis == 0)


@st.composite
def convolutions(draw: st.DrawFn) -> dict[str, int]:
    groups = draw(st.sampled_from((1, 1, 1, 4, 0)))
    c = draw(st.sampled_from((8, 16, 48, 64, 256)))
    groups = groups or c
    return {
        "n": draw(st.integers(1, 16)),
        "c": c,
        "o": c * draw(st.integers(1, 2)),
        "g": groups,
        "rank": draw(st.integers(1, 3)),
        "side": draw(st.integers(4, 20)),
        "taps": draw(st.sampled_from((1, 3, 5))),
        "stride": draw(st.integers(1, 2)),
    }


def convolution(c: dict[str, int], kind: str) -> Kernel:
    rank, side = c["rank"], c["side"]
    out = (side - 1) // c["stride"] + 1
    x, w = t(c["n"], c["c"], *[side] * rank), t(c["o"], c["c"] // c["g"], *[c["taps"]] * rank)
    y = t(c["n"], c["o"], *[out] * rank)
    low = [[c["stride"]] * rank, [c["taps"] // 2] * rank, [1] * rank, False, [0] * rank, c["g"]]
    if kind == "backward":
        return kernel(op("convolution_backward", y, x, w, None, *low, [True, True, False], out=[x, w]))
    return kernel(op("convolution", x, w, None, *low, out=y))


@few
@given(
    st.sampled_from(SOME),
    st.sampled_from(["eager", "compiled"]),
    convolutions(),
    st.sampled_from(["n", "o", "side"]),
    st.sampled_from(["forward", "backward"]),
)
def test_a_larger_convolution_never_takes_less(name: str, runtime: str, c: dict[str, int], axis: str, kind: str) -> None:
    """Twice the batch, the result's channels or the resolution."""
    device = lookup(name)
    if device.kind == "cpu" and c["n"] == 1:
        c = c | {"n": 2}  # a single small image is PyTorch's own convolution, which is slower than oneDNN's for larger ones
    times = []
    for shape in (c, c | {axis: 2 * c[axis]}):
        k = convolution(shape, kind)
        point = place(k, device, runtime)
        assert point.compute_s > 0
        assert k.flops * point.executed <= 1.001 * tops(name)[0] * point.compute_s
        times.append(point.time_s - point.overhead_s)
    assert times[1] >= times[0] * (1 - 1e-9)


def better(d: Device, factor: float) -> dict[str, Device]:
    """The device with one thing better, and with everything."""

    def scaled(table: dict[str, devices.Peak]) -> dict[str, devices.Peak]:
        return {name: replace(peak, value=peak.value * factor) for name, peak in table.items()}

    def less(number: Number) -> Number:
        return replace(number, value=number.value / factor)

    parts: dict[str, dict[str, object]] = {
        "peaks": {
            "tensor": scaled(d.tensor),
            "vector": scaled(d.vector),
            "cores": tuple(replace(c, per_clock=c.per_clock * factor) for c in d.cores),
        },
        "bandwidths": {"levels": tuple(replace(x, bandwidth=x.bandwidth * factor) for x in d.levels)},
        "caches": {"levels": tuple(replace(x, size=int(x.size * factor)) for x in d.levels)},
        "host": {"host": less(d.host), "launch": less(d.launch)},
    }
    everything = {k: v for part in ("peaks", "bandwidths", "host") for k, v in parts[part].items()}
    return {name: replace(d, **fields) for name, fields in {**parts, "all": everything}.items()}


@pytest.mark.parametrize("runtime", ["eager", "compiled"])
@pytest.mark.parametrize("name", SOME)
def test_a_better_device_is_never_slower(name: str, runtime: str) -> None:
    device = lookup(name)
    large = [linear(m, 1024, 1024, "float32") for m in (1, 16, 300)] + [conv("float32"), conv("float32", channels=32)]
    tried = 0
    for k in [*KERNELS, *large]:
        try:
            now = whole(k, device, runtime)
        except UsageError:
            continue
        tried += 1
        for what, other in better(device, 1.7).items():
            assert whole(k, other, runtime) <= now * (1 + 1e-9), (k.op, what)
    assert tried > len(KERNELS) / 2


# ------------------------------------------------------------------------------------------------ said aloud


def test_a_rate_beyond_the_peak_is_said() -> None:
    device = lookup("i9-10940x")
    wild = replace(device, flops={"gemm": Number(40 * device.peak("fp32"))})
    k = linear(512, 1024, 1024, "float32")
    (said,) = physics.notes([k], [place(k, wild)], wild, ["head"])
    assert said.startswith("1 kernel is predicted faster than the peak of i9-10940x: linear in head at ")
    assert "not to be trusted" in said
    assert physics.broken(["another note", said]) == [said]
    assert physics.notes([k], [place(k, device)], device, ["head"]) == []


def test_a_rule_that_forgets_half_of_its_flops_is_said() -> None:
    device = lookup("rtx-3090")
    k = replace(linear(512), flops=512 * 1024)
    (said,) = physics.notes([k], [place(k, device)], device, [""])
    assert said == (
        "1 kernel is counted with fewer FLOPs than two for each multiply-accumulate: linear in the model itself; "
        "its rule is wrong, and the prediction is not to be trusted"
    )
