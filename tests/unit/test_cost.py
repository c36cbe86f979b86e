"""Cost rules, exact: the arithmetic stands beside each number."""

from __future__ import annotations

import math
import subprocess
import sys
from importlib import metadata
from typing import Any

import pytest
from opspecs import op, t
from oracles.known import KNOWN

from roofline import cost
from roofline.cost import registry
from roofline.errors import UsageError
from roofline.records import OpSpec, Work
from roofline.shapes import Attention, Conv, Gemm, Pool, Recurrent, Shape

X = t(2, 8, 10)  # 160 elements
IMAGE = t(1, 3, 8, 8)


def work(spec: OpSpec) -> Work:
    result = cost.work(spec)
    assert result is not None, f"{spec.name} is unknown"
    return result


# 4 * 20 * (10 + 20) = 2400 a step; biases 2 * 80, cell 19 * 20
LSTM = op(
    "lstm",
    t(7, 3, 10),
    [t(1, 3, 20), t(1, 3, 20)],
    [t(80, 10), t(80, 20), t(80), t(80)],
    True,
    1,
    0.0,
    False,
    False,
    False,
    out=[t(7, 3, 20)],
    overload="input",
)

# operator, flops
FLOPS = [
    (op("relu", X, out=X, pointwise=True), 160),
    (op("relu_", X, out=X, pointwise=True, mutates=(0,)), 160),
    (op("sigmoid", X, out=X), 3 * 160),
    (op("silu", X, out=X), 4 * 160),
    (op("hardswish", X, out=X), 5 * 160),
    (op("gelu", X, out=X), 5 * 160),
    (op("gelu", X, approximate="tanh", out=X), 9 * 160),
    (op("gelu_backward", X, X, out=X), 11 * 160),
    (op("add", X, X, alpha=2, out=X), 2 * 160),
    (op("rsub", X, 1, 1, out=X, overload="Scalar"), 160),
    (op("clamp", X, 0.0, out=X), 160),
    (op("clamp", X, 0.0, 1.0, out=X), 2 * 160),
    (op("eq", X, X, out=t(2, 8, 10, dtype="bool")), 160),
    (op("mul", t(4, dtype="complex64"), t(4, dtype="complex64"), out=t(4, dtype="complex64")), 6 * 4),
    (op("dropout", X, 0.5, False, out=X), 0),
    (op("dropout", X, 0.5, True, out=X), 2 * 160),
    (op("where", t(2, 8, 10, dtype="bool"), X, X, out=X, pointwise=True), 0),
    (op("clone", X, out=X, pointwise=True), 0),
    (op("_to_copy", X, dtype="torch.float16", out=t(2, 8, 10, dtype="float16")), 0),
    (op("cat", [X, X], 1, out=t(2, 16, 10)), 0),
    (op("permute_copy", X, [0, 2, 1], out=t(2, 10, 8)), 0),
    (op("view", X, [160], out=t(160), view=True), 0),
    (op("embedding", t(100, 16), t(4, dtype="int64"), out=t(4, 16)), 0),
    (op("embedding_bag", t(100, 16), t(12, dtype="int64"), t(3, dtype="int64"), False, 1, out=[t(3, 16)]), 12 * 16 + 3 * 16),
    # inference: scale and shift; training: statistics 4 more
    (op("batch_norm", X, t(8), t(8), t(8), t(8), False, 0.1, 1e-5, True, out=X), 2 * 160),
    (op("batch_norm", X, t(8), t(8), t(8), t(8), True, 0.1, 1e-5, True, out=X), 6 * 160),
    (op("native_batch_norm", X, t(8), t(8), t(8), t(8), True, 0.1, 1e-5, out=[X, t(8), t(8)]), 6 * 160),
    (op("_native_batch_norm_legit", X, t(8), t(8), True, 0.1, 1e-5, out=[X, t(8), t(8)], overload="no_stats"), 6 * 160),
    (op("_native_batch_norm_legit_no_training", X, t(8), t(8), t(8), t(8), 0.1, 1e-5, out=[X, t(0), t(0)]), 2 * 160),
    (op("instance_norm", X, None, None, None, None, True, 0.1, 1e-5, True, out=X), 6 * 160),
    (op("group_norm", X, 2, t(8), t(8), out=X), 6 * 160),
    (op("layer_norm", X, [10], t(10), t(10), out=X), 8 * 160),
    (op("layer_norm", X, [10], out=X), 6 * 160),
    (op("native_layer_norm", X, [10], t(10), None, 1e-5, out=[X, t(2, 8, 1), t(2, 8, 1)]), 7 * 160),
    (op("rms_norm", X, [10], t(10), out=X), 4 * 160),
    # xhat 2; dx 7 and 1 for the weight; dw 2; db 1
    (
        op(
            "native_layer_norm_backward",
            X,
            X,
            [10],
            t(2, 8, 1),
            t(2, 8, 1),
            t(10),
            t(10),
            [True, True, True],
            out=[X, t(10), t(10)],
        ),
        13 * 160,
    ),
    (
        op(
            "native_batch_norm_backward",
            X,
            X,
            t(8),
            None,
            None,
            t(8),
            t(8),
            True,
            1e-5,
            [True, True, True],
            out=[X, t(8), t(8)],
        ),
        9 * 160,
    ),
    (op("softmax", X, -1, out=X, overload="int"), 5 * 160),
    (op("_softmax_backward_data", X, X, -1, "torch.float32", out=X), 4 * 160),
    (op("max_pool2d", IMAGE, [3, 3], [2, 2], [1, 1], out=t(1, 3, 4, 4)), 48 * 9),
    (op("avg_pool2d", IMAGE, 2, out=t(1, 3, 4, 4)), 48 * 4),
    # bins of 8 / 3: 0-3, 2-6, 5-8: 3 + 4 + 3 = 10 each way
    (op("adaptive_avg_pool2d", IMAGE, [3, 3], out=t(1, 3, 3, 3)), 3 * 10 * 10),
    (op("upsample_nearest2d", IMAGE, None, [2.0, 2.0], out=t(1, 3, 16, 16), overload="vec"), 0),
    (op("upsample_bilinear2d", IMAGE, [16, 16], False, out=t(1, 3, 16, 16)), 768 * (4 + 3)),
    (op("upsample_bicubic2d", IMAGE, [16, 16], False, out=t(1, 3, 16, 16)), 768 * (16 + 15)),
    # half the size: 4 taps an axis; rows 8 x 4, then columns 4 x 4, 2 per tap
    (op("_upsample_bilinear2d_aa", IMAGE, [4, 4], False, out=t(1, 3, 4, 4)), 3 * (8 * 4 * 2 * 4 + 4 * 4 * 2 * 4)),
    (op("mean", X, [-1], out=t(2, 8), overload="dim"), 160 + 16),
    (op("var_mean", X, [-1], out=[t(2, 8), t(2, 8)]), 4 * 160 + 16),
    (op("max", X, 1, out=[t(2, 10), t(2, 10, dtype="int64")], overload="dim"), 160),
    (op("max", X, t(10), out=X, overload="other", pointwise=True), 160),
    (op("all", t(2, 8, dtype="bool"), out=t(dtype="bool")), 16),
    (op("cumsum", X, -1, out=X), 160),
    (op("sort", t(3, 16), -1, out=[t(3, 16), t(3, 16)]), 3 * 16 * 4),
    (op("topk", t(3, 16), 4, out=[t(3, 4), t(3, 4)]), 48 * 2),
    (op("fft_fft", t(2, 8, dtype="complex64"), out=t(2, 8, dtype="complex64")), 2 * 5 * 8 * 3),
    (op("fft_rfft2", t(2, 8, 8), out=t(2, 8, 5, dtype="complex64")), 2 * 64 * 6 * 5 // 2),
    (op("_fft_r2c", t(2, 8, 8), [1, 2], 0, True, out=t(2, 8, 5, dtype="complex64")), 2 * 64 * 6 * 5 // 2),
    (op("_fft_c2r", t(2, 8, 5, dtype="complex64"), [1, 2], 2, 8, out=t(2, 8, 8)), 2 * 64 * 6 * 5 // 2),
    (op("linalg_inv_ex", t(5, 6, 6), out=[t(5, 6, 6)]), 5 * 2 * 6**3),
    # the R-SVD of 8 x 5: 6 m n^2 + 20 n^3, then 8x5 by 5x5, 5 scalings of a column of 5, 5x5 by 5x5
    (op("linalg_polar", t(3, 8, 5), out=[t(3, 8, 5), t(3, 5, 5)]), 3 * (6 * 200 + 20 * 125 + 2 * 200 + 25 + 2 * 125)),
    (op("linalg_matrix_sqrth", t(3, 6, 6), out=t(3, 6, 6)), 3 * (9 * 216 + 6 + 36 + 2 * 216)),
    (op("_standard_gamma_grad", X, X, out=X), 160),
    (op("_histogramdd_from_bin_cts", t(10, 2), [3, 3], out=t(3, 3)), 3 * 20),
    (op("_fake_quantize_learnable_per_tensor_affine_backward", X, X, t(1), t(1), 0, 255, out=[X, t(1), t(1)]), 18 * 160),
    (op("scatter_add", X, 1, t(2, 4, 10, dtype="int64"), t(2, 4, 10), out=X), 80),
    (op("cross_entropy_loss", t(4, 10), t(4, dtype="int64"), out=t()), 5 * 40 + 4),
    (op("torchvision.roi_align", t(1, 8, 50, 50), t(10, 5), 0.25, 7, 7, 2, False, out=t(10, 8, 7, 7)), 3920 * (4 * 8 + 1)),
    # boxes that nobody knows are as large as the image: 8 samples a bin along a side, 7 bins; windows of 8 that share rows
    (op("torchvision.roi_align", t(1, 8, 50, 50), t(10, 5), 0.25, 7, 7, -1, False, out=t(10, 8, 7, 7)), 80 * 56**2 * 8 + 3920),
    (op("torchvision.roi_pool", t(1, 8, 50, 50), t(10, 5), 0.25, 7, 7, out=[t(10, 8, 7, 7)]), 80 * 56**2),
    (op("torchvision.nms", t(10, 4), t(10), 0.5, out=t(3, dtype="int64")), 13 * 45),
    (op("_foreach_add_", [X, X], [X, X], alpha=-0.1, out=[], mutates=(0, 1)), 2 * 320),
    (op("_foreach_mul", [X, X], 0.9, out=[X, X]), 320),
    (op("_foreach_pow", 2.0, [X, X], out=[X, X], overload="ScalarAndTensor"), 320),
    (
        op(
            "_fused_adam_",
            [X],
            [X],
            [X],
            [X],
            [],
            [t()],
            lr=1e-3,
            beta1=0.9,
            beta2=0.99,
            weight_decay=0.0,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
            out=[],
        ),
        13 * 160,
    ),
    (
        op(
            "_fused_sgd_",
            [X],
            [X],
            [X],
            weight_decay=0.0,
            momentum=0.9,
            lr=0.1,
            dampening=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=False,
            out=[],
        ),
        4 * 160,
    ),
    (op("quantize_per_tensor", X, 0.1, 0, "torch.quint8", out=t(2, 8, 10, dtype="quint8")), 5 * 160),
    (op("prims.add", X, X, out=X), 160),
    (op("some_new_pointwise_op", X, out=X, pointwise=True), 160),
]

# operator, flops, macs
PRODUCTS = [
    (LSTM, 2 * 2400 * 21 + 21 * (160 + 380), 2400 * 21),
    (op("addmm", t(16), t(4, 8), t(8, 16), out=t(4, 16)), 2 * 512 + 64, 512),
    (op("addmm", t(16), t(4, 8), t(8, 16), beta=0, out=t(4, 16)), 2 * 512, 512),
    (op("addmm", t(16), t(4, 8), t(8, 16), beta=0.5, alpha=2, out=t(4, 16)), 2 * 512 + 3 * 64, 512),
    (op("baddbmm", t(2, 4, 5), t(2, 4, 8), t(2, 8, 5), out=t(2, 4, 5)), 2 * 320 + 40, 320),
    (op("bmm", t(2, 4, 8), t(2, 8, 5), out=t(2, 4, 5)), 640, 320),
    (op("mm", t(4, 8, dtype="complex64"), t(8, 5, dtype="complex64"), out=t(4, 5, dtype="complex64")), 8 * 160, 4 * 160),
    (op("bilinear", t(3, 4), t(3, 5), t(2, 4, 5), out=t(3, 2)), 2 * 150, 3 * (4 * 5 * 2 + 5 * 2)),
    (op("linalg_multi_dot", [t(10, 100), t(100, 5), t(5, 50)], out=t(10, 50)), 2 * 7500, 10 * 100 * 5 + 10 * 5 * 50),
    # every row of 12 (or column) meets one matrix of 4; a sum over groups meets each element once; side by side
    *(
        (
            op(name, t(*a, dtype=dtype), t(*b, dtype=dtype), *rest, out=t(*out, dtype="bfloat16")),
            2 * macs + scales * math.prod(out),
            macs,
        )
        for name, dtype, rest, scales in (
            ("_grouped_mm", "bfloat16", (), 0),
            ("_scaled_grouped_mm", "float8_e4m3fn", (t(12), t(4)), 2),
        )
        for a, b, out, macs in (
            ((12, 8), (4, 8, 6), (12, 6), 12 * 8 * 6),
            ((4, 5, 8), (8, 12), (5, 12), 5 * 8 * 12),
            ((5, 24), (24, 7), (4, 5, 7), 5 * 24 * 7),
            ((4, 5, 8), (4, 8, 6), (4, 5, 6), 4 * 5 * 8 * 6),
        )
    ),
    (
        op("_weight_int4pack_mm_for_cpu", t(3, 64), t(32, 32, dtype="uint8"), 32, t(2, 32, 2), out=t(3, 32)),
        2 * 6144 + 2 * 32 * 64,
        3 * 64 * 32,
    ),
    (
        op(
            "_scaled_mm",
            t(4, 8, dtype="float8_e4m3fn"),
            t(8, 16, dtype="float8_e4m3fn"),
            t(),
            t(),
            out=t(4, 16, dtype="bfloat16"),
        ),
        2 * 512 + 2 * 64,
        512,
    ),
    (op("einsum", "ij,jk,kl->il", [t(3, 4), t(4, 5), t(5, 6)], out=t(3, 6)), 2 * 150, 3 * 4 * 5 + 3 * 5 * 6),
    (op("einsum", "...ij,...jk->...ik", [t(2, 1, 3, 4), t(7, 4, 5)], out=t(2, 7, 3, 5)), 2 * 840, 2 * 7 * 3 * 4 * 5),
    (op("einsum", "ij->", [t(3, 4)], out=t()), 12, 0),
    (op("einsum", "ij,kl->i", [t(3, 4), t(5, 6)], out=t(3)), 12 + 30 + 3, 0),
    (op("einsum", "i j, j k", [t(3, 4), t(4, 5)], out=t(3, 5)), 120, 60),
    (op("einsum", "a,ab,bc->c", [t(2), t(2, 3), t(3, 4)], path=[1, 2, 0, 1], out=t(4)), 2 * (24 + 8), 2 * 3 * 4 + 2 * 4),
    (
        op("lstm_cell", t(3, 10), [t(3, 20), t(3, 20)], t(80, 10), t(80, 20), out=[t(3, 20), t(3, 20)]),
        2 * 7200 + 3 * 20 * 19,
        3 * 2400,
    ),
    # projections 3 * 8 * 8 on 5 rows of 2 sequences and one more, scores and their use 2 * 25 * 8
    (
        op("_native_multi_head_attention", *[t(2, 5, 8)] * 3, 8, 2, t(24, 8), t(24), t(8, 8), t(8), out=[t(2, 5, 8), t(0)]),
        2 * 3360 + 4 * 10 * 8 + 2 * 2 * 25 * 6,
        4 * 10 * 64 + 2 * 2 * 25 * 8,
    ),
    # one scale, one offset pair per tap: 3 * 3 taps, 2 * 3 groups of samples
    (
        op(
            "torchvision.deform_conv2d",
            t(1, 2, 6, 6),
            t(4, 2, 3, 3),
            t(1, 18, 4, 4),
            t(1, 9, 4, 4),
            t(4),
            1,
            1,
            0,
            0,
            1,
            1,
            1,
            1,
            True,
            out=t(1, 4, 4, 4),
        ),
        2 * 1152 + 2 * 9 * 16 * 8 + 64,
        64 * 2 * 9,
    ),
    (
        op(
            "quantized.conv2d",
            t(1, 4, 8, 8, dtype="quint8"),
            [t(6, 2, 3, 3, dtype="qint8"), t(6)],
            0.1,
            0,
            out=t(1, 6, 6, 6, dtype="quint8"),
            overload="new",
        ),
        2 * 3888 + 216 * 6,
        216 * 2 * 9,
    ),
    (op("quantized.linear", t(3, 8, dtype="quint8"), None, 0.1, 0, out=t(3, 5, dtype="quint8")), 2 * 120 + 5 * 15, 120),
]


@pytest.mark.parametrize("name", KNOWN)
def test_known_cases(name: str) -> None:
    k = KNOWN[name]
    assert work(op(k.operator, *(t(*shape) for shape in k.shapes), *k.args, out=t(*k.out))) == Work(k.flops, k.macs)


@pytest.mark.parametrize(("spec", "flops"), [pytest.param(*f, id=f"{f[0].name}-{i}") for i, f in enumerate(FLOPS)])
def test_flops(spec: OpSpec, flops: int) -> None:
    assert work(spec) == Work(flops, 0)


@pytest.mark.parametrize(("spec", "flops", "macs"), [pytest.param(*f, id=f"{f[0].name}-{i}") for i, f in enumerate(PRODUCTS)])
def test_products(spec: OpSpec, flops: int, macs: int) -> None:
    assert work(spec) == Work(flops, macs)


def test_fused_encoder_layer_equals_its_parts() -> None:
    x, e, f, heads = t(2, 5, 8), 8, 32, 2
    fused = work(
        op(
            "_transformer_encoder_layer_fwd",
            x,
            e,
            heads,
            t(24, 8),
            t(24),
            t(8, 8),
            t(8),
            True,
            False,
            1e-5,
            *[t(8)] * 4,
            t(f, e),
            t(f),
            t(e, f),
            t(e),
            out=x,
        )
    )
    y, head = t(2, 5, f), t(2, heads, 5, 4)
    parts = [
        op("linear", x, t(24, 8), t(24), out=t(2, 5, 24)),
        op("scaled_dot_product_attention", head, head, head, out=head),
        op("linear", x, t(8, 8), t(8), out=x),
        op("add", x, x, out=x),
        op("layer_norm", x, [e], t(e), t(e), out=x),
        op("linear", x, t(f, e), t(f), out=y),
        op("gelu", y, out=y),
        op("linear", y, t(e, f), t(e), out=x),
        op("add", x, x, out=x),
        op("layer_norm", x, [e], t(e), t(e), out=x),
    ]
    assert fused == Work(sum(work(p).flops for p in parts), sum(work(p).macs for p in parts))


UNKNOWN = [
    op("mylib.fused_thing", X, out=X),
    op("quantized.conv2d", t(1, 4, 8, 8), None, 0.1, 0, out=t(1, 6, 6, 6), overload="new"),  # packed weight not seen
    op(
        "_flash_attention_forward",
        t(20, 2, 8),
        t(20, 2, 8),
        t(20, 2, 8),
        t(3, dtype="int32"),
        t(3, dtype="int32"),
        9,
        9,
        0.0,
        False,
        False,
        out=[t(20, 2, 8)],
    ),
]


@pytest.mark.parametrize("spec", UNKNOWN, ids=lambda s: s.name)
def test_unknown_is_none_and_has_its_bytes(spec: OpSpec) -> None:
    assert cost.work(spec) is None
    reads, writes = cost.traffic(spec)
    assert sum(reads) > 0
    assert sum(writes) > 0


def test_an_error_in_a_rule_comes_through() -> None:
    with pytest.raises(ValueError, match="unpack"):
        cost.work(op("mm", t(2, 3, 4), t(4, 5), out=t(2, 5)))


# spec, bytes read, bytes written
TABLE = t(1000, 16)
IDS = t(5, dtype="int64")
TRAFFIC = [
    (op("relu", X, out=X), (640,), (640,)),
    (op("add_", X, t(10), out=X, mutates=(0,)), (640, 40), (640,)),
    (op("view", X, [160], out=t(160), view=True), (0,), (0,)),
    (op("add", t(8, 8, stride=(1, 0)), X, out=X), (32, 640), (640,)),  # one dimension expanded
    (op("sum", t(3, 4, 4, stride=(2, 1, 1)), out=t()), (4 * 11,), (4,)),  # windows overlap: elements 0 to 2*2 + 3 + 3 = 10
    (op("fill_", X, 0.0, out=X, mutates=(0,)), (0,), (640,)),
    (op("copy_", X, t(2, 8, 10, dtype="float16"), out=X, mutates=(0,)), (0, 320), (640,)),
    (op("zeros_like", X, out=X), (0,), (640,)),
    (op("empty_like", X, out=X), (0,), (0,)),
    (op("embedding", TABLE, IDS, out=t(5, 16)), (5 * 64, 40), (5 * 64,)),
    (op("embedding", t(2, 16), IDS, out=t(5, 16)), (128, 40), (320,)),  # never more than the table
    (op("embedding_bag", TABLE, IDS, t(2, dtype="int64"), out=[t(2, 16)]), (320, 40, 16), (128,)),
    (op("index", TABLE, [IDS], out=t(5, 16), overload="Tensor"), (320, 40), (320,)),
    (op("index_select", TABLE, 0, IDS, out=t(5, 16)), (320, 40), (320,)),
    (op("gather", TABLE, 1, t(1000, 2, dtype="int64"), out=t(1000, 2)), (8000, 16000), (8000,)),
    (op("index_put_", TABLE, [IDS], t(5, 16), out=TABLE, mutates=(0,)), (0, 40, 320), (320,)),
    (op("index_put_", TABLE, [IDS], t(), out=TABLE, mutates=(0,)), (0, 40, 4), (320,)),
    (op("index_put_", TABLE, [IDS], t(5, 16), True, out=TABLE, mutates=(0,)), (320, 40, 320), (320,)),
    (op("scatter_add_", TABLE, 0, t(5, 16, dtype="int64"), t(5, 16), out=TABLE, mutates=(0,)), (320, 640, 320), (320,)),
    (op("scatter_", TABLE, 0, t(5, 16, dtype="int64"), 1.0, out=TABLE, mutates=(0,), overload="value"), (0, 640), (320,)),
    (op("scatter", TABLE, 0, t(5, 16, dtype="int64"), t(5, 16), out=TABLE), (64000, 640, 320), (64000,)),
    (op("index_add_", TABLE, 0, IDS, t(5, 16), out=TABLE, mutates=(0,)), (320, 40, 320), (320,)),
    (op("index_copy_", TABLE, 0, IDS, t(5, 16), out=TABLE, mutates=(0,)), (0, 40, 320), (320,)),
    (op("upsample_nearest2d", IMAGE, [4, 4], out=t(1, 3, 4, 4)), (192,), (192,)),
    (
        op("_weight_int4pack_mm_for_cpu", t(3, 64), t(32, 32, dtype="uint8"), 32, t(2, 32, 2), out=t(3, 32)),
        (768, 1024, 512),
        (384,),
    ),
    (op("linear", t(2, 8), t(5, 8, dtype="int4"), out=t(2, 5)), (64, 20), (40,)),
    (
        op(
            "convolution_backward",
            t(1, 4, 6, 6),
            t(1, 3, 8, 8),
            t(4, 3, 3, 3),
            [4],
            [1, 1],
            [0, 0],
            [1, 1],
            False,
            [0, 0],
            1,
            [True, False, False],
            out=[t(1, 3, 8, 8)],
        ),
        (576, 0, 432),
        (768,),
    ),
]


@pytest.mark.parametrize(
    ("spec", "reads", "writes"), [pytest.param(*row, id=f"{row[0].name}-{i}") for i, row in enumerate(TRAFFIC)]
)
def test_traffic(spec: OpSpec, reads: tuple[int, ...], writes: tuple[int, ...]) -> None:
    assert cost.traffic(spec) == (reads, writes)


def test_out_overload_does_not_read_its_target() -> None:
    spec = OpSpec("aten.add", "out", [X, X], {"out": X}, (X, X, X), (X,), True, False, (2,))
    assert cost.traffic(spec) == ((640, 640, 0), (640,))
    assert work(spec) == Work(160, 0)


def test_bytes_written_in_place_without_an_output() -> None:
    foreach = op("_foreach_add_", [X, X], [X, X], out=[], mutates=(0, 1))
    assert cost.traffic(foreach) == ((640,) * 4, ())
    assert cost.mutated(foreach) == (640, 640)
    norm = op("batch_norm", X, t(8), t(8), t(8), t(8), True, 0.1, 1e-5, True, out=X, mutates=(3, 4))
    assert cost.mutated(norm) == (32, 32)
    assert cost.mutated(op("relu_", X, out=X, mutates=(0,))) == (0,)
    assert cost.mutated(op("relu", X, out=X)) == ()


GROUPED: dict[str, tuple[int, int, int]] = {"conv": (16, 32, 1), "grouped_conv": (16, 32, 4), "depthwise_conv": (16, 32, 16)}


@pytest.mark.parametrize("klass", GROUPED)
@pytest.mark.parametrize("form", ["conv2d", "convolution", "convolution_backward"])
def test_convolutions_by_groups(klass: str, form: str) -> None:
    c, o, g = GROUPED[klass]
    x, w, y = t(2, c, 9, 7), t(o, c // g, 3, 1), t(2, o, 4, 7)
    low = [[2, 1], [0, 0], [1, 1]]
    spec = {
        "conv2d": op("conv2d", x, w, None, *low, g, out=y),
        "convolution": op("convolution", x, w, None, *low, False, [0, 0], g, out=y),
        "convolution_backward": op(
            "convolution_backward", y, x, w, None, *low, False, [0, 0], g, [True, True, False], out=[x, w]
        ),
    }[form]
    assert cost.classify(spec) == klass
    counted = cost.count(spec)
    assert counted is not None
    assert counted.shape == Conv(2, c, o, g, (9, 7), (4, 7), (3, 1), stride=1)


CLASSES = [
    ("gemm", op("linear", t(2, 8), t(5, 8), out=t(2, 5))),
    ("attention", op("scaled_dot_product_attention", *[t(1, 2, 4, 8)] * 3, out=t(1, 2, 4, 8))),
    ("pointwise", op("relu_", X, out=X)),
    ("pointwise", op("_foreach_add_", [X], 1, out=[])),
    ("norm", op("batch_norm", X, None, None, None, None, False, 0.1, 1e-5, True, out=X)),
    ("softmax", op("softmax", X, -1, out=X)),
    ("reduction", op("mean", X, out=t())),
    ("pool", op("max_pool2d", IMAGE, 2, out=t(1, 3, 4, 4))),
    ("layout", op("cat", [X, X], out=t(4, 8, 10))),
    ("layout", op("clone", t(2, 8, 10, stride=(80, 1, 8)), out=X)),
    ("pointwise", op("_to_copy", X, out=t(2, 8, 10, dtype="float16"))),
    ("gather", op("embedding", TABLE, IDS, out=t(5, 16))),
    ("sort", op("topk", X, 2, out=[t(2, 8, 2)])),
    ("fft", op("fft_rfft", X, out=t(2, 8, 6, dtype="complex64"))),
    ("rnn", LSTM),
    ("host", op("permute", X, [2, 1, 0], out=t(10, 8, 2), view=True)),
    ("host", op("item", t(), out=[])),
    ("other", op("mylib.op", X, out=X)),
]


@pytest.mark.parametrize(("klass", "spec"), CLASSES, ids=lambda v: v if isinstance(v, str) else v.name)
def test_classes(klass: str, spec: OpSpec) -> None:
    assert cost.classify(spec) == klass


SIZES: list[tuple[OpSpec, Shape | None]] = [
    (op("linear", t(2, 3, 8), t(5, 8), out=t(2, 3, 5)), Gemm(1, 6, 5, 8)),
    (op("matmul", t(2, 3, 8), t(8, 5), out=t(2, 3, 5)), Gemm(1, 6, 5, 8)),
    (op("matmul", t(2, 3, 8), t(2, 8, 5), out=t(2, 3, 5)), Gemm(2, 3, 5, 8)),
    (op("addmm", t(5), t(3, 8), t(8, 5), out=t(3, 5)), Gemm(1, 3, 5, 8)),
    (
        op(
            "scaled_dot_product_attention",
            t(2, 8, 4, 16),
            t(2, 2, 6, 16),
            t(2, 2, 6, 32),
            None,
            0.0,
            True,
            enable_gqa=True,
            out=t(2, 8, 4, 32),
        ),
        Attention(b=2, h=8, kv_heads=2, l=4, s=6, e=16, v=32, causal=True),
    ),
    (
        op("conv1d", t(2, 4, 9), t(6, 4, 3), None, [2], out=t(2, 6, 4)),
        Conv(n=2, c=4, o=6, groups=1, image=(9,), out=(4,), kernel=(3,), stride=2),
    ),
    (  # oneDNN's own operator names padding before stride
        op("mkldnn_convolution", t(2, 8, 16, 16), t(12, 4, 3, 3), None, [1, 1], [2, 2], [1, 1], 2, out=t(2, 12, 8, 8)),
        Conv(n=2, c=8, o=12, groups=2, image=(16, 16), out=(8, 8), kernel=(3, 3), stride=2),
    ),
    (LSTM, Recurrent(t=7, b=3, i=10, h=20, layers=1, rows=21, weights=4 * 20 * (10 + 20))),
    (op("max_pool2d", IMAGE, [3, 2], [2, 2], out=t(1, 3, 3, 4)), Pool((3, 2), 2)),
    (op("relu", X, out=X), None),
]


@pytest.mark.parametrize(("spec", "shape"), SIZES, ids=lambda v: v.name if isinstance(v, OpSpec) else "")
def test_shapes(spec: OpSpec, shape: Shape | None) -> None:
    counted = cost.count(spec)
    assert counted is not None
    assert counted.shape == shape


HALF = t(2, 8, dtype="float16")


@pytest.mark.parametrize(
    ("spec", "dtype"),
    [
        (op("linear", HALF, t(5, 8, dtype="float16"), out=t(2, 5, dtype="float16")), "float16"),
        (op("_int_mm", t(2, 8, dtype="int8"), t(8, 5, dtype="int8"), out=t(2, 5, dtype="int32")), "int8"),
        (op("addmm", t(5), t(2, 8, dtype="bfloat16"), t(8, 5, dtype="bfloat16"), out=t(2, 5, dtype="bfloat16")), "bfloat16"),
        (op("add", HALF, t(2, 8), out=t(2, 8)), "float32"),
        (op("gt", HALF, 0, out=t(2, 8, dtype="bool")), "float16"),
        (op("add", IDS, 1, out=IDS), "int64"),
        (op("einsum", "ij,jk->ik", [HALF, t(8, 5, dtype="float16")], out=t(2, 5, dtype="float16")), "float16"),
    ],
    ids=lambda v: v if isinstance(v, str) else v.name,
)
def test_compute_dtype(spec: OpSpec, dtype: str) -> None:
    assert cost.compute_dtype(spec) == dtype


@pytest.fixture
def own_rules() -> Any:
    before, installed = dict(registry.RULES), dict(registry.INSTALLED)
    cost._found.clear()
    yield
    registry.RULES.clear()
    registry.RULES.update(before)
    registry.INSTALLED.clear()
    registry.INSTALLED.update(installed)
    cost._found.clear()
    cost._state["entry points read"] = False


@pytest.mark.usefixtures("own_rules")
class TestOwnOperators:
    spec = op("mylib.fused_mlp", t(4, 8), t(16, 8), out=t(4, 16))

    def test_registered_after_it_was_unknown(self) -> None:
        assert cost.work(self.spec) is None

        @cost.register_flops("mylib::fused_mlp", kind="gemm")
        def fused_mlp(x: Any, w: Any, *, out: Any) -> Work:
            # [m, k] @ [n, k]^T, and one compare
            macs = out.numel * x.shape[1]
            return Work(2 * macs + out.numel, macs)

        assert cost.work(self.spec) == Work(2 * 512 + 64, 512)
        assert cost.classify(self.spec) == "gemm"

    def test_a_number_is_flops(self) -> None:
        cost.register_flops("mylib.fused_mlp.default")(lambda x, w, *, out: out.numel)
        assert cost.work(self.spec) == Work(64, 0)
        assert cost.classify(self.spec) == "other"

    def test_shapes_tell_the_count_and_the_class(self) -> None:
        @cost.register_flops("mylib.fused_mlp", kind="conv")
        def fused_mlp(x: Any, w: Any, *, out: Any) -> cost.Cost:
            return cost.Cost.of(Conv(4, 8, 8, 8, (5, 5), (3, 3), (3, 3)), Gemm(1, 4, 16, 8), extra=7, whole=Gemm(1, 4, 16, 8))

        macs = 4 * 3 * 3 * 8 * 3 * 3 + 4 * 16 * 8
        assert cost.work(self.spec) == Work(2 * macs + 7, macs)
        assert cost.classify(self.spec) == "conv"

    def test_what_is_no_count_is_refused(self) -> None:
        cost.register_flops("mylib.fused_mlp")(lambda x, w, *, out: "many")
        with pytest.raises(UsageError, match=r"the rule for mylib\.fused_mlp returns 'many'"):
            cost.count(self.spec)

    def test_twice_is_refused(self) -> None:
        with pytest.raises(UsageError, match=r"aten\.mm is registered already"):
            cost.register_flops("aten.mm")(lambda *_, out: 0)

    def test_kind_must_be_a_class(self) -> None:
        with pytest.raises(UsageError, match="depthwise_conv"):
            cost.register_flops("mylib.op", kind="dense")

    def test_a_name_is_needed(self) -> None:
        with pytest.raises(UsageError, match="name of an operator"):
            cost.register_flops()

    def test_entry_points_are_read_when_an_operator_is_unknown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Point:
            name, value = "mylib", "mylib.rules:register"

            def load(self) -> Any:
                return lambda: cost.register_flops("mylib.fused_mlp")(lambda x, w, *, out: 7)

        monkeypatch.setattr(metadata, "entry_points", lambda group: [Point()] if group == "roofline.ops" else [])
        assert cost.work(self.spec) == Work(7, 0)

    def test_an_entry_point_that_cannot_be_imported_says_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Point:
            name, value = "mylib", "mylib.rules"

            def load(self) -> Any:
                raise ImportError("No module named 'mylib'")

        monkeypatch.setattr(metadata, "entry_points", lambda group: [Point()])
        with pytest.raises(UsageError, match=r"roofline\.ops:mylib"):
            cost.work(self.spec)


def test_a_family_that_somebody_imports_is_ours_all_the_same() -> None:
    """Rules of somebody else's keep answers out of the cache: ours must not be taken for those."""
    code = (
        "import roofline.cost.fft, roofline.cost as cost; assert cost.added() == {}; cost.complete(); assert cost.added() == {}"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
