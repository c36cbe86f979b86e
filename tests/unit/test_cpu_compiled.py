"""Compiled code on a CPU: which loops are shared, what a small convolution costs, which cores set the pace."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from roofline.devices.device import Cores, Device, Number
from roofline.devices.library import lookup
from roofline.devices.threads import working
from roofline.records import Kernel, Operand, Point
from roofline.shapes import Access, Conv, Gemm, Loop
from roofline.timemodel import formulas, roof
from roofline.timemodel.constants import shipped
from roofline.validation import arrays

MiB = 2**20


@pytest.fixture(scope="module")
def cpu() -> Device:
    return lookup("i9-10940x")


def loop(elements: int, klass: str = "pointwise", **of: int) -> Kernel:
    operands = (Operand(4 * elements, 0, "activation", False, 0), Operand(4 * elements, 1, "activation", True))
    return Kernel(0, "relu", klass, (0,), "float32", (elements,), elements, 0, operands, loop=Loop(elements, **of))


def conv(channels: int, side: int, **of: int) -> Kernel:
    weights, image = 4 * channels**2, 4 * channels * side**2
    operands = (
        Operand(image, 0, "activation", False, 0),
        Operand(weights, 1, "parameter"),
        Operand(image, 2, "activation", True),
    )
    macs = channels**2 * side**2
    shape = Conv(1, channels, channels, 1, (side, side), (side, side), (1, 1))
    return Kernel(0, "conv2d", "conv", (0,), "float32", (1,), 2 * macs, macs, operands, Access(**of), products=(shape,))


def compiled(kernel: Kernel, device: Device) -> Point:
    return roof.place([kernel], device, runtime="compiled", footprint=10**9)[0]


def test_a_short_loop_stays_on_one_thread_and_starts_no_region(cpu: Device) -> None:
    limit = int(shipped().cpu.chunk * cpu.units.value)
    short, long = compiled(loop(limit - 14), cpu), compiled(loop(limit), cpu)
    region = shipped().cpu.region * cpu.launch.value
    assert long.overhead_s - short.overhead_s == pytest.approx(region)
    assert short.compute_s > 10 * long.compute_s


def test_more_cores_are_slower_only_where_a_loop_gets_too_short_for_all_of_them(cpu: Device) -> None:
    """Inductor's own rule (tests/trace/test_inductor.py): under so many elements a core it starts no threads at all."""

    def cores(n: int) -> Device:
        wider = {key: replace(peak, value=peak.value * n / 14) for key, peak in cpu.vector.items()}
        caches = [replace(level, bandwidth=level.bandwidth * n / 14) for level in cpu.levels[:-1]]
        return replace(cpu, units=replace(cpu.units, value=float(n)), vector=wider, levels=(*caches, cpu.levels[-1]))

    chunk = shipped().cpu.chunk
    for elements in (2**p + odd for p in range(8, 24) for odd in (-1, 0, 1)):
        fewer, more = (compiled(loop(elements), cores(n)).time_s for n in (14, 28))
        lost = 14 * chunk <= elements < 28 * chunk
        # some hundredths: of more cores each wrote less of what one of them reads
        assert (more > fewer * 1.03) == lost, elements


def test_a_reduction_is_shared_by_its_results(cpu: Device) -> None:
    elements = 2**20
    times = [compiled(loop(elements, "norm", outer=n, row=elements // n, welford=elements), cpu).compute_s for n in (4, 14, 28)]
    assert times[0] == pytest.approx(times[1] * 14 / 4)
    assert times[1] == pytest.approx(times[2])


def test_a_variance_over_short_rows_goes_element_by_element(cpu: Device) -> None:
    short, long = (compiled(loop(2**20, "norm", row=row, outer=28, welford=2**20), cpu).compute_s for row in (8, 64))
    assert short > 5 * long


def gemm(m: int, n: int, k: int, b: int = 1) -> Kernel:
    operands = (
        Operand(4 * b * m * k, 0, "activation", False, 0),
        Operand(4 * b * k * n, 1, "parameter"),
        Operand(4 * b * m * n, 2, "activation", True),
    )
    macs = b * m * n * k
    return Kernel(0, "mm", "gemm", (0,), "float32", (1,), 2 * macs, macs, operands, products=(Gemm(b, m, n, k),))


def test_a_product_is_cut_into_pieces_for_the_cores(cpu: Device) -> None:
    """By hand: pieces are padded to 16 rows and to registers of 16 columns; more cores than pieces help nothing."""
    c = shipped().cpu

    def seconds(kernel: Kernel, n: int) -> float:
        few = working(cpu, n)
        return compiled(kernel, few).compute_s * few.peak("fp32") * few.sustained.value * c.gemm / (2 * (512 + c.gemm_depth))

    assert seconds(gemm(160, 160, 512), 1) == pytest.approx(160 * 160)
    # two: half of the columns, 80 of 160
    assert seconds(gemm(160, 160, 512), 2) == pytest.approx(2 * 160 * 80)
    # six: three by two, 64 by 80, is better than six columns of 32
    assert seconds(gemm(160, 160, 512), 6) == pytest.approx(6 * min(160 * 32, 64 * 80, 80 * 64))
    # one piece alone cannot be cut
    assert seconds(gemm(16, 16, 512), 14) == pytest.approx(14 * 16 * 16)
    # 12 heads: a core takes one each, two of 14 are idle; 16 heads take two turns
    assert seconds(gemm(160, 160, 512, 12), 14) == pytest.approx(14 * 160 * 160)
    assert seconds(gemm(160, 160, 512, 16), 14) == pytest.approx(2 * 14 * 160 * 160)


def test_one_core_reads_what_it_wrote_itself(cpu: Device) -> None:
    """It has its own L2 and L3 at their full rate; what another wrote comes slowly."""
    kernel = replace(loop(MiB // 4), operands=(Operand(MiB, 0, "activation", False, 0), Operand(MiB, 1, "activation", True)))
    alone = compiled(kernel, working(cpu, 1))
    two = compiled(kernel, working(cpu, 2))
    each = cpu.levels[1].bandwidth / 14 / cpu.clock.value
    assert alone.memory_s * working(cpu, 1).clock.value <= 2 * MiB / each * 1.001
    assert two.memory_s > alone.memory_s / 2


def test_a_small_convolution_is_not_onednns(cpu: Device) -> None:
    small, large = compiled(conv(64, 16), cpu), compiled(conv(128, 16), cpu)
    assert 64 * 16 * 16 <= 20480 < 128 * 16 * 16
    assert small.overhead_s < large.overhead_s


def test_a_row_major_image_is_turned_and_back(cpu: Device) -> None:
    straight, viewed = (compiled(conv(128, 56, last=1, viewed=v), cpu) for v in (0, 1))
    assert viewed.memory_s > 2 * straight.memory_s
    assert viewed.compute_s == straight.compute_s


@pytest.mark.parametrize(
    # 6 x 32 x 4.1 GHz alone, or as many again at 16 x 3.5; with 16 slow ones 22 x 56 GFLOP/s are more than 787
    ("slow", "best"),
    [(8, 6 * 32 * 4.1e9), (16, 22 * 16 * 3.5e9)],
)
def test_equal_pieces_end_with_the_slowest_core(slow: int, best: float) -> None:
    hybrid = replace(lookup("i7-12700h"), cores=(Cores("P", 6, 4.1e9, 32), Cores("E", slow, 3.5e9, 16)))
    assert formulas.Machine.of(hybrid, "fp32", "compiled").vector == pytest.approx(best)


def test_what_memory_reaches_is_the_devices_own_where_it_is_known(cpu: Device) -> None:
    kernel = loop(64 * MiB)
    known, unknown = compiled(kernel, cpu), compiled(kernel, replace(cpu, reached=Number(0.0)))
    assert known.memory_s / unknown.memory_s == pytest.approx(shipped().cpu.stream / cpu.reached.value)


@pytest.mark.parametrize("threads", [1, 5, 14])
@pytest.mark.parametrize(
    "kernel", [loop(1000), loop(10**6), conv(64, 16), conv(256, 28, viewed=1), gemm(197, 768, 3072), gemm(49, 49, 64, 12)]
)
def test_arrays_agree_on_the_whole_time(kernel: Kernel, threads: int, cpu: Device) -> None:
    few = working(cpu, threads)
    table = arrays.table([{arrays.row(kernel, [0, kernel.bytes], 0, 10**9): 1}])
    total = arrays.totals(table, few, shipped().cpu, setting="fp32", runtime="compiled")[0]
    assert np.isclose(total, compiled(kernel, few).time_s, rtol=1e-9)


def test_eager_convolutions_on_arm_are_those_of_another_library() -> None:
    def eager(device: Device, kernel: Kernel) -> Point:
        return roof.place([kernel], device, runtime="eager")[0]

    arm, c = lookup("raspberry-pi-5"), shipped().cpu_eager
    other = replace(arm, isa="x86-64")
    large = conv(256, 56)
    assert arm.isa == "aarch64"
    assert eager(arm, large).compute_s / eager(other, large).compute_s == pytest.approx(c.conv / c.conv_acl)
    more = eager(arm, large).overhead_s - eager(other, large).overhead_s
    assert more == pytest.approx((c.call_conv_acl - c.call_conv) * arm.host.value)
    # what is no convolution knows no difference, and Apple's builds of PyTorch have no such library
    assert eager(arm, loop(1 << 20)) == eager(other, loop(1 << 20))
    apple = lookup("apple-m2-cpu")
    assert eager(apple, large) == eager(replace(apple, isa="x86-64"), large)


def test_compiled_code_on_arm_calls_the_same_library() -> None:
    """Inductor leaves convolutions to it as eager mode does: they are as much further from the peak, and from their start."""
    arm, c = lookup("raspberry-pi-5"), shipped()
    other, large = replace(arm, isa="x86-64"), conv(256, 56)
    ours, theirs = compiled(large, arm), compiled(large, other)
    assert ours.compute_s / theirs.compute_s == pytest.approx(c.cpu.conv / c.cpu.conv_acl)
    assert ours.overhead_s - theirs.overhead_s == pytest.approx((c.cpu.call_conv_acl - c.cpu.call_conv) * arm.host.value)
    assert c.cpu.conv_acl == c.cpu_eager.conv_acl
    assert compiled(loop(1 << 20), arm) == compiled(loop(1 << 20), other)
    apple = lookup("apple-m2-cpu")
    assert compiled(large, apple) == compiled(large, replace(apple, isa="x86-64"))


def test_halves_are_multiplied_by_what_the_device_has_for_them() -> None:
    """AMX does 1024 FLOP of bf16 in a cycle where AVX-512 does 64 of fp32; an Ice Lake has nothing for halves."""
    full, short = gemm(1024, 1024, 1024), replace(gemm(1024, 1024, 1024), dtype="bfloat16")

    def seconds(name: str, kernel: Kernel, setting: str) -> float:
        return roof.place([kernel], lookup(name), setting=setting, runtime="compiled", footprint=10**9)[0].compute_s

    assert seconds("xeon-8480", full, "fp32") / seconds("xeon-8480", short, "bf16") == pytest.approx(16, rel=0.01)
    assert seconds("xeon-8480", replace(loop(1 << 20), dtype="bfloat16"), "bf16") == seconds("xeon-8480", loop(1 << 20), "fp32")


def product(m: int, n: int, k: int, **of: int) -> Kernel:
    sizes = (4 * m * k, "activation", False), (4 * n * k, "parameter", False), (4 * m * n, "activation", True)
    operands = tuple(Operand(nbytes, i, role, write, 0 if i == 0 else -1) for i, (nbytes, role, write) in enumerate(sizes))
    macs = m * n * k
    return Kernel(
        0, "linear", "gemm", (0,), "float32", (m, n), 2 * macs, macs, operands, Access(**of), products=(Gemm(1, m, n, k),)
    )


def test_rows_that_share_a_set_of_the_nearest_cache_are_packed_element_by_element(cpu: Device) -> None:
    """On one core a product is one piece, which packs all elements of both operands: so many cycles longer, to the digit."""
    alone = working(cpu, 1)
    m, n, k = 192, 1024, 1024
    plain, first, second, both = (compiled(product(m, n, k, aliased=flag), alone).compute_s for flag in range(4))
    cycle = shipped().cpu.aliased / alone.clock.value / alone.sustained.value
    assert first - plain == pytest.approx(m * k * cycle)
    assert second - plain == pytest.approx(n * k * cycle)
    assert both - plain == pytest.approx((m + n) * k * cycle)
    # frozen weights lie packed, the activations do not
    assert compiled(product(m, n, k, aliased=3, frozen=1), alone).compute_s == pytest.approx(first)
    # all cores share it, and the library of an Arm board is another one
    assert plain * alone.units.value < both < 2 * plain
    assert compiled(product(m, n, k, aliased=3), cpu).compute_s > compiled(product(m, n, k), cpu).compute_s
    arm = lookup("raspberry-pi-5")
    assert compiled(product(m, n, k, aliased=3), arm).compute_s == compiled(product(m, n, k), arm).compute_s


def test_a_vector_is_read_through_however_rows_lie(cpu: Device) -> None:
    assert compiled(product(1, 1024, 1024, aliased=3), cpu).compute_s == compiled(product(1, 1024, 1024), cpu).compute_s


def test_frozen_weights_are_not_packed_in_a_call(cpu: Device) -> None:
    for kernel in (product(196, 3072, 768), conv(1024, 7)):
        frozen = replace(kernel, access=Access(frozen=1))
        assert compiled(frozen, cpu).memory_s < compiled(kernel, cpu).memory_s
        assert compiled(frozen, cpu).compute_s == compiled(kernel, cpu).compute_s
