"""The time model: limits that physics sets, monotone answers, the two queues, and the arrays beside the single kernels."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace
from opspecs import shape_of

from roofline.classes import PRODUCTS
from roofline.devices.device import Device, Number
from roofline.devices.library import everything, lookup
from roofline.records import Kernel, Operand, Point
from roofline.shapes import Access, Conv, Gemm, Loop
from roofline.timemodel import features, formulas, gpu_products, roof
from roofline.timemodel.constants import shipped
from roofline.validation import arrays

MiB = 2**20


def gemm(m: int, n: int, k: int, dtype: str = "float16") -> Kernel:
    size = 2 if dtype == "float16" else 4
    operands = (
        Operand(m * k * size, 0, "activation", False, 0),
        Operand(n * k * size, 1, "parameter"),
        Operand(m * n * size, 2, "activation", True),
    )
    shape = Gemm(1, m, n, k)
    return Kernel(
        0, "linear", "gemm", (0,), dtype, (m, n), 2 * shape.macs, shape.macs, operands, products=(shape,), whole=shape
    )


def batched(b: int, m: int, n: int, k: int, shared: bool) -> Kernel:
    """Products of halves whose second operand is one for all, or each has its own."""
    operands = (
        Operand(2 * b * m * k, 0, "activation", False, 0),
        Operand(2 * k * n * (1 if shared else b), 1, "parameter"),
        Operand(2 * b * m * n, 2, "activation", True),
    )
    shape = Gemm(b, m, n, k)
    return Kernel(0, "bmm", "gemm", (0,), "float16", (b, m, n), 2 * shape.macs, shape.macs, operands, products=(shape,))


def stream(nbytes: int, producer: int = -1) -> Kernel:
    operands = (Operand(nbytes, 0, "activation", False, producer), Operand(nbytes, 1, "activation", True))
    return Kernel(0, "relu", "pointwise", (0,), "float16", (nbytes // 2,), nbytes // 2, 0, operands)


@pytest.fixture(scope="module")
def gpu() -> Device:
    return lookup("rtx-4090")


@pytest.fixture(scope="module")
def cpu() -> Device:
    return lookup("i9-10940x")


def test_a_large_stream_takes_its_bytes_over_the_bandwidth(gpu: Device) -> None:
    (point,) = roof.place([stream(2**30)], gpu, footprint=2**32)
    least = 2 * 2**30 / gpu.bandwidth
    assert least < point.memory_s < 1.2 * least
    assert (point.bound, point.level) == ("memory", "DRAM")


def test_a_large_product_is_bound_by_arithmetic(gpu: Device) -> None:
    kernel = gemm(8192, 8192, 8192)
    (point,) = roof.place([kernel], gpu, footprint=2**32)
    least = kernel.flops / gpu.peak("fp16")
    assert point.bound == "compute"
    assert 0.85 * least < point.compute_s < 1.3 * least
    assert point.efficiency == pytest.approx(least / point.compute_s)


def test_what_was_just_written_and_fits_comes_from_the_cache(gpu: Device) -> None:
    small = [stream(4 * MiB), stream(4 * MiB, 0)]
    points = roof.place(small, gpu, footprint=2**32)
    assert points[1].memory_s < points[0].memory_s
    large = [stream(2**30), stream(2**30, 0)]
    assert len({p.memory_s for p in roof.place(large, gpu, footprint=2**33)}) == 1


def test_small_kernels_wait_for_the_host_in_eager_mode(gpu: Device) -> None:
    kernels = [stream(1024)] * 100
    points = roof.place(kernels, gpu)
    total = sum(p.time_s for p in points)
    assert total == pytest.approx(100 * gpu.host.value, rel=0.15)
    assert all(p.bound == "overhead" for p in points)


def test_the_host_issues_a_cast_sooner_and_a_gradient_later_than_an_operator_of_a_module(gpu: Device) -> None:
    def each(op: str, phase: str = "forward", loop: Loop | None = None) -> float:
        points = roof.place([replace(stream(1024), op=op, phase=phase, loop=loop)] * 400, gpu)
        return sum(p.time_s for p in points) / len(points) / gpu.host.value

    c = shipped().gpu
    assert c.call_cast < 1 < c.call_later
    assert each("relu") == pytest.approx(1, rel=0.02)
    assert each("_to_copy") == pytest.approx(c.call_cast, rel=0.02)
    assert each("_to_copy", "backward") == pytest.approx(c.call_cast, rel=0.02)
    assert each("threshold_backward", "backward") == pytest.approx(c.call_later, rel=0.02)
    # also where a pass has both of what is alike otherwise
    both = roof.place([*[stream(1024)] * 400, *[replace(stream(1024), phase="backward")] * 400], gpu)
    assert sum(p.time_s for p in both[400:]) / 400 / gpu.host.value == pytest.approx(c.call_later, rel=0.02)
    # no engine stands between generated kernels of a backward pass
    assert each("relu", "backward", Loop()) == pytest.approx(1, rel=0.02)


def test_long_kernels_hide_the_host(gpu: Device) -> None:
    points = roof.place([stream(2**28)] * 10, gpu, footprint=2**32)
    assert sum(p.overhead_s for p in points[1:]) < 0.1 * sum(p.time_s for p in points)


def test_dispatch_adds_up_on_a_cpu(cpu: Device) -> None:
    points = roof.place([stream(1024)] * 10, cpu)
    assert all(p.overhead_s >= cpu.host.value for p in points)


@pytest.mark.parametrize("runtime", ["eager", "compiled"])
def test_a_short_loop_of_a_cpu_starts_no_threads(cpu: Device, runtime: str) -> None:
    """TensorIterator's loops stay on one thread up to 32,768 elements, Inductor's up to some thousands a core."""

    def started(kernel: Kernel) -> float:
        (found,) = roof.place([kernel], cpu, runtime=runtime)
        return found.components.get("launch", 0.0)

    assert started(stream(2 * 1024)) == 0
    assert started(stream(2 * 10**6)) > 0
    # a norm's channels and a pool's results are shared in eager mode however few they are
    norm = replace(stream(2 * 1024), op="batch_norm", klass="norm")
    assert (started(norm) > 0) == (runtime == "eager")


@pytest.mark.parametrize("runtime", ["eager", "compiled"])
def test_no_cpu_draws_more_from_dram_than_it_has(runtime: str) -> None:
    """Of bandwidths from data sheets: a matrix that is read once for a row, and a stream of fresh results."""
    seen = 0
    for device in everything():
        if device.kind != "cpu" or device.levels[-1].status == "measured":
            continue
        row = gemm(1, 4096, 1 << 16, "float32")
        for kernel in (row, stream(2**30)):
            (found,) = roof.place([kernel], device, runtime=runtime, footprint=2**33)
            assert sum(o.bytes for o in kernel.operands) / found.memory_s <= device.bandwidth, (device.name, kernel.op)
            seen += 1
    assert seen > 60


def point(kernel: Kernel, device: Device) -> Point:
    """Of a kernel whose input was just written."""
    return roof.place([stream(1024), kernel], device, footprint=2**30)[1]


def image(op: str, side: int, *, n: int = 1, channels: int = 16, in_place: bool = False, klass: str = "pointwise") -> Kernel:
    nbytes = 4 * n * channels * side**2
    operands = (Operand(nbytes, 1, "activation", False, 0), Operand(nbytes, 1 if in_place else 2, "activation", True))
    flops = 2 * n * channels**2 * side**2
    products = (Conv(n, channels, channels, 1, (side, side), (side, side), (1, 1)),) if klass == "conv" else ()
    return Kernel(0, op, klass, (0,), "float32", (n, channels, side, side), flops, flops // 2, operands, products=products)


def test_a_fresh_result_costs_a_cpu_more_than_one_in_place(cpu: Device) -> None:
    # both directions of DRAM for what is written, against a cache for all of it
    fresh, in_place = (point(image("relu", 112, in_place=yes), cpu).memory_s for yes in (False, True))
    assert fresh >= 2 * 4 * 16 * 112**2 / (1.5 * cpu.bandwidth)
    assert in_place < fresh


def test_measured_overheads_are_looked_up_by_operator_then_class_then_host(cpu: Device) -> None:
    measured = replace(cpu, fixed={"gelu": Number(5e-4), "norm": Number(3e-4)})
    step = measured.host.value
    found = {
        op: point(image(op, 2, klass=klass), measured).overhead_s
        for op, klass in (("gelu", "pointwise"), ("batch_norm", "norm"), ("relu", "pointwise"))
    }
    assert found["gelu"] - 5e-4 == pytest.approx(found["batch_norm"] - 3e-4)
    assert found["gelu"] - 5e-4 == pytest.approx(found["relu"] - step)


def test_a_measured_rate_is_what_a_loop_reaches(cpu: Device) -> None:
    measured = replace(cpu, bytes={"gelu": Number(1e9)})
    kernel = image("gelu", 112)
    assert point(kernel, measured).compute_s == pytest.approx(kernel.bytes / 1e9)


def test_one_small_image_is_convolved_by_pytorch_itself(cpu: Device) -> None:
    measured = replace(cpu, fixed={"conv": Number(1e-3), "conv_small": Number(1e-4)})
    kernels = (image("conv2d", side, n=n, channels=80, klass="conv") for side, n in ((16, 1), (17, 1), (4, 2)))
    own, large, batch = (point(kernel, measured).overhead_s for kernel in kernels)
    # 80 x 16 x 16 elements are the limit
    assert large == batch
    assert large - own == pytest.approx(9e-4)


def work_of(kernel: Kernel, device: Device, setting: str = "fp32") -> float:
    (point,) = roof.place([kernel], device, setting=setting, footprint=2**33)
    return point.time_s - point.overhead_s


def conv_kernel(n: int, c: int, o: int, size: int, taps: int, groups: int = 1, dtype: str = "float32", last: int = 0) -> Kernel:
    nbytes = 4 if dtype == "float32" else 2
    shape = Conv(n, c, o, groups, (size, size), (size, size), (taps, taps))
    macs = n * o * c // groups * taps**2 * size**2
    assert shape.macs == macs
    operands = (
        Operand(nbytes * n * c * size**2, 0, "activation", False, 0),
        Operand(nbytes * o * c // groups * taps**2, 1, "parameter"),
        Operand(nbytes * n * o * size**2, 2, "activation", True),
    )
    result, access = (n, o, size, size), Access(last=last)
    return Kernel(0, "conv2d", shape.klass, (0,), dtype, result, 2 * macs, macs, operands, access, products=(shape,))


def test_a_weight_that_a_batch_shares_is_loaded_for_each(gpu: Device) -> None:
    """Linear layers on windows that lie scattered (Twins): matmul makes a batch of them, whose products load the weight."""
    b, m, n, k = 28672, 7, 768, 256
    thin = work_of(batched(b, m, n, k, shared=True), gpu, "fp16")
    assert thin > 2 * b * k * n / gpu.levels[0].bandwidth
    # ... which takes less than to bring them from memory, and more than one product of all rows
    assert thin < work_of(batched(b, m, n, k, shared=False), gpu, "fp16")
    assert thin > 2 * work_of(gemm(b * m, n, k), gpu, "fp16")
    # tiles of 16 rows are there for the thinnest of a batch: not a whole tile of 128
    assert thin < 0.6 * work_of(batched(b, 17, n, k, shared=True), gpu, "fp16")


def test_fp32_products_take_whole_waves_of_tiles(gpu: Device) -> None:
    units = int(gpu.units.value)
    one = work_of(gemm(128 * units, 128, 4096, "float32"), gpu)
    # one row more is a second wave of the largest tile; smaller tiles make it cheaper than that, but not free
    more = work_of(gemm(128 * units + 1, 128, 4096, "float32"), gpu)
    assert 1.02 * one < more < 1.7 * one


def test_few_fp32_tiles_split_the_inner_dimension(gpu: Device) -> None:
    shallow, deep = (work_of(gemm(64, 64, k, "float32"), gpu) for k in (2048, 65536))
    assert deep < 8 * shallow


def test_winograd_saves_arithmetic_where_it_applies(gpu: Device) -> None:
    """3 x 3 takes less than nine 1 x 1, the more so as the products of F(4x4, 3x3) are few: 36 for 144."""
    small, large = (work_of(conv_kernel(32, 256, 256, 28, taps), gpu) for taps in (1, 3))
    assert 9 / 4 * small < large < 9 / 1.5 * small


def test_copies_around_a_convolution_find_in_the_last_cache_what_fits() -> None:
    large = lookup("rtx-4090")
    near, far = large.levels[-2:]
    small = replace(large, levels=(*large.levels[:-2], replace(near, size=2**20), far))

    def copies(images: int, device: Device) -> float:
        row_major, last = (work_of(conv_kernel(images, 64, 64, 28, 3, dtype="float16", last=x), device) for x in (0, 1))
        return row_major - last

    # 6 MB each way fit in half of 72 MB and not in 1 MB; 100 MB fit in neither
    assert copies(64, large) < 0.6 * copies(64, small)
    assert copies(1024, large) == pytest.approx(copies(1024, small), rel=0.02)


def test_channels_between_two_loads_are_padded_by_copies_channels_last_only(gpu: Device) -> None:
    """Pixels of 53 halves start anywhere, those of 56 at multiples of 16 bytes; what turns a row-major image pads it too."""
    odd, even = (work_of(conv_kernel(256, c, c, 56, 3, dtype="float16", last=1), gpu, "amp") for c in (53, 56))
    once = work_of(stream(2 * 256 * 53 * 56 * 56), gpu)
    # image and result, each read and written
    assert even + 1.5 * once < odd < even + 4 * once
    odd, even = (work_of(conv_kernel(256, c, c, 56, 3, dtype="float16"), gpu, "amp") for c in (53, 56))
    assert odd < 1.02 * even
    # little arithmetic: loaded piece by piece
    odd, even = (work_of(conv_kernel(256, c, c, 56, 1, dtype="float16", last=1), gpu, "amp") for c in (17, 24))
    once = work_of(stream(2 * 256 * 17 * 56 * 56), gpu)
    assert odd < even + 1.5 * once


def test_winograd_inside_one_kernel_pads_each_image_to_its_blocks() -> None:
    """A block takes 8 x 16 pixels of one image, so 17 x 17 are three times 16 x 16; Pascal has others too."""

    def inside(images: int, size: int, device: str) -> float:
        kernel = conv_kernel(images, 64, 32, size, 3)
        f = features.of(kernel, features.moved(kernel, [0], 0), kernel.bytes)
        machine = formulas.Machine.of(lookup(device), "fp32", "eager")
        (p,) = features.products(kernel)
        return float(gpu_products._simt_conv(p, f, shipped().gpu, machine, np)[1])

    assert inside(80, 17, "v100-pcie") == pytest.approx(3 * inside(80, 16, "v100-pcie"))
    assert inside(80, 16, "v100-pcie") == pytest.approx(inside(80, 9, "v100-pcie"))
    # four images share a block of 2 x 16 pixels each
    assert inside(4 * 56, 2, "p100-pcie") == pytest.approx(inside(56, 8, "p100-pcie"))


def test_old_devices_have_fewer_kernels_for_products() -> None:
    p100, v100 = lookup("p100-pcie"), lookup("v100-pcie")
    wide = gemm(4096, 4096, 4096, "float32")
    reached = [wide.flops / work_of(wide, d) / d.peak("fp32", "vector") for d in (p100, v100)]
    assert reached[0] < 0.85 * reached[1]


def test_a_power_cap_holds_down_products_on_vector_units_more() -> None:
    t4 = lookup("t4")
    assert t4.sustained_vector is not None
    wide = gemm(4096, 4096, 4096, "float32")
    plain = work_of(wide, replace(t4, sustained_vector=None))
    assert work_of(wide, t4) == pytest.approx(plain * t4.sustained.value / t4.sustained_vector.value, rel=0.02)


def test_dram_is_reached_as_far_as_the_device_says(gpu: Device) -> None:
    large = stream(2**30)
    half, whole = (work_of(large, replace(gpu, reached=Number(r))) for r in (0.4, 0.8))
    assert half == pytest.approx(2 * whole, rel=0.02)
    unknown = work_of(large, replace(gpu, reached=Number(0.0)))
    assert unknown == work_of(large, replace(gpu, reached=Number(shipped().gpu.stream)))


def test_wide_depthwise_kernels_are_slow_channels_last_only(gpu: Device) -> None:
    seven, nine = (work_of(conv_kernel(64, 512, 512, 28, t, 512, "float16", last=1), gpu, "amp") for t in (7, 9))
    assert nine > 5 * seven
    seven, nine = (work_of(conv_kernel(64, 512, 512, 28, t, 512, "float16"), gpu, "amp") for t in (7, 9))
    assert nine < 2 * seven


def test_two_results_a_channel_have_no_depthwise_kernel_channels_last(gpu: Device) -> None:
    """cuDNN's is for one channel in and one out of a group (conv2d_c1_k1_nhwc): FastViT patches have two out."""
    one, two = (work_of(conv_kernel(64, 256, o, 28, 7, 256, "float16", last=1), gpu, "amp") for o in (256, 512))
    assert two > 5 * one
    one, two = (work_of(conv_kernel(64, 256, o, 28, 7, 256, "float16"), gpu, "amp") for o in (256, 512))
    assert two < 2.5 * one


def upsample(n: int, c: int, out: int, loop: Loop | None = None) -> Kernel:
    size = 4 * n * c * out**2
    operands = (Operand(size // 4, 0, "activation", False, 0), Operand(size, 1, "activation", True))
    work = Access(serial=n * c, abreast=out**2)
    return Kernel(0, "upsample_bilinear2d", "pool", (0,), "float32", (n, c, out, out), size, 0, operands, work, loop=loop)


def test_bilinear_upsampling_to_few_pixels_waits_in_every_turn(gpu: Device) -> None:
    """PyTorch has one thread for each output pixel: fourteen by fourteen take as long as a hundred times as many."""
    wait = 1024 * 1024 * shipped().gpu.latency * 1e-6
    assert work_of(upsample(1024, 1024, 14), gpu) == pytest.approx(wait, rel=0.05)
    assert work_of(upsample(1024, 16, 140), gpu) < 0.1 * wait
    # torch.compile generates a kernel of its own
    assert work_of(upsample(1024, 1024, 14, Loop()), gpu) < 0.05 * wait


def test_the_textbook_roofline_loses_nothing(gpu: Device) -> None:
    kernel = gemm(512, 512, 512)
    (point,) = roof.place([kernel], gpu, runtime="ideal")
    assert point.time_s == max(kernel.flops / gpu.peak("fp16"), kernel.bytes / gpu.bandwidth)
    assert point.overhead_s == 0


def test_the_parts_of_a_point_add_up(gpu: Device) -> None:
    for kernel, point in zip(k := [gemm(256, 256, 256), stream(MiB)], roof.place(k, gpu), strict=True):
        work = point.time_s - point.overhead_s
        assert max(point.compute_s, point.memory_s) <= work * (1 + 1e-9), kernel.op
        # at most their sum, and as much again for filling and emptying the device
        assert work <= 2 * (point.compute_s + point.memory_s) * (1 + 1e-9)


@pytest.mark.parametrize("name", ["rtx-3090", "t4", "p100-pcie", "i9-10940x"])
@pytest.mark.parametrize("klass", arrays.KLASSES)
@pytest.mark.parametrize(("runtime", "op"), [("eager", "x"), ("eager", "gelu_"), ("compiled", "x")])
def test_arrays_agree_with_single_kernels(name: str, klass: str, runtime: str, op: str) -> None:
    device = lookup(name)
    access = Access(run=8, serial=10**4, abreast=50, copied=10**5)
    operands = (Operand(MiB, 0, "activation", False, 0), Operand(5000, 1, "parameter"), Operand(3 * MiB, 2, "activation", True))
    whole = shape_of(klass)
    products = (whole,) if whole is not None and klass in PRODUCTS else ()
    kernel = Kernel(0, op, klass, (0,), "float32", (1,), 10**8, 5 * 10**7, operands, access, products=products, whole=whole)
    first = stream(MiB)
    single = roof.place([first, kernel], device, setting="fp32", runtime=runtime, footprint=10**7)[1]
    row = arrays.row(kernel, [0, first.bytes, first.bytes + kernel.bytes], 1, 10**7)
    table = arrays.table([{row: 1}])
    constants = shipped().of(device, runtime)
    work, compute, memory = arrays.work(table, device, constants, setting="fp32", runtime=runtime)
    assert np.isclose(compute[0], single.compute_s, rtol=1e-12)
    assert np.isclose(memory[0], single.memory_s, rtol=1e-12)
    assert np.isclose(work[0], single.time_s - single.overhead_s, rtol=1e-9)


@pytest.mark.parametrize(("name", "runtime"), [("rtx-4090", "eager"), ("i9-10940x", "eager"), ("i9-10940x", "compiled")])
@pytest.mark.parametrize("klass", sorted(PRODUCTS))
@pytest.mark.parametrize("other", ["gemm", "conv", "attention", "rnn"])
def test_a_product_inside_another_class_takes_its_time(name: str, runtime: str, klass: str, other: str) -> None:
    """A registered rule may tell a product of any kind: its formula is that of its shape, whatever class the kernel has."""
    device, shape = lookup(name), shape_of(other)
    assert shape is not None
    operands = (Operand(MiB, 0, "activation", False, 0), Operand(MiB, 2, "activation", True))
    kernel = Kernel(0, "mine", klass, (0,), "float32", (1,), 2 * shape.macs, shape.macs, operands, products=(shape,))
    point = roof.place([stream(MiB), kernel], device, runtime=runtime, footprint=10**9)[1]
    # a causal mask may hide half of the scores, Winograd's algorithm spare 3 of 4 multiplications
    assert point.compute_s >= kernel.flops * point.executed / device.peak("fp32", "best") / 1.2


@pytest.mark.parametrize(("apart", "share"), [(0, 1.0), (50, 1.0), (100, 0.5), (150, 0.0), (1e9, 0.0)])
def test_residency_fades_over_one_capacity(apart: float, share: float) -> None:
    assert formulas.resident(apart, 100, formulas.Plain) == share
