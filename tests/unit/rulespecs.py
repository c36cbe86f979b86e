"""A call of every rule that counts products: small, with sizes that differ, so that no mix-up of them goes unseen."""

from __future__ import annotations

from typing import Any

from opspecs import op, t

from roofline.records import OpSpec

Q, K, V, Y = t(2, 4, 5, 8), t(2, 4, 7, 8), t(2, 4, 7, 6), t(2, 4, 5, 6)
# heads last
QL, KL, VL, YL = t(2, 5, 4, 8), t(2, 7, 4, 8), t(2, 7, 4, 6), t(2, 5, 4, 6)
A, B, C = t(3, 4), t(4, 5), t(3, 5)
IMAGE, KERNEL, RESULT = t(2, 4, 9, 8), t(6, 2, 3, 2), t(2, 6, 4, 7)
LOW = [[2, 1], [0, 0], [1, 1]]
VOLUME, CUBE, SOLID = t(2, 4, 5, 6, 7), t(6, 4, 2, 3, 3), t(2, 6, 4, 4, 5)
BACK, SPREAD = t(6, 2, 3, 2), t(2, 4, 9, 8)  # of a transposed convolution with two groups from [2, 6, 4, 7]
INT8 = "int8"


def conv(name: str, **kwargs: Any) -> OpSpec:
    return op(name, IMAGE, KERNEL, None, *LOW, 2, out=RESULT, **kwargs)


def states(kind: str, *shape: int) -> Any:
    return [t(*shape), t(*shape)] if kind.endswith("lstm") else t(*shape)


def recurrent(kind: str, gates: int) -> list[OpSpec]:
    params = [t(gates * 5, 3), t(gates * 5, 5), t(gates * 5), t(gates * 5)]
    both = [t(gates * 5, 3), t(gates * 5, 5)] * 2
    out = [t(7, 2, 5), t(1, 2, 5)]
    return [
        op(kind, t(7, 2, 3), states(kind, 1, 2, 5), params, True, 1, 0.0, False, False, False, out=out),
        op(kind, t(7, 2, 3), states(kind, 2, 2, 5), both, False, 1, 0.0, False, True, False, out=[t(7, 2, 10)]),
    ]


def cell(name: str, gates: int) -> OpSpec:
    return op(name, t(2, 3), states(name.removesuffix("_cell"), 2, 5), t(gates * 5, 3), t(gates * 5, 5), out=t(2, 5))


GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
W = [t(20, 3), t(20, 5)]
X8, W8 = t(2, 4, 9, 8, dtype=INT8), t(6, 2, 3, 2, dtype=INT8)

CALLS: list[OpSpec] = [
    op("onnxruntime.FusedConv", IMAGE, KERNEL, [2, 1], 2, 2, out=RESULT),
    op("onnxruntime.FusedMatMul", t(2, 4, 5), t(2, 5, 3), 1, out=t(2, 4, 3)),
    op("onnxruntime.MatMulNBits", t(2, 4, 5), 15, 5, 3, out=t(2, 4, 3)),
    op("onnxruntime.MultiHeadAttention", Q, K, V, False, 0, False, out=YL),
    op("onnxruntime.Attention", t(2, 5, 9), t(9, 96), Q, K, V, True, False, out=YL),
    op("onnxruntime.MoE", t(5, 8), 2, 8, 12, 3, out=t(5, 8)),
    op("scaled_dot_product_attention", Q, K, V, out=Y),
    op("higher_order.flex_attention", Q, K, V, 2, out=Y),
    op("_scaled_dot_product_flash_attention", Q, K, V, 0.0, True, out=[Y]),
    op("_scaled_dot_product_flash_attention_for_cpu", Q, K, V, out=[Y]),
    op("_scaled_dot_product_efficient_attention", Q, K, V, None, True, out=[Y]),
    op("_triton_scaled_dot_attention", Q, K, V, out=Y),
    op("torch_attn._varlen_attn", t(6, 4, 8), t(8, 2, 8), t(8, 2, 8), t(3), t(3), 3, 4, True, out=[t(6, 4, 8)]),
    op("torch_attn._varlen_attn", t(6, 4, 8), t(8, 2, 8), t(8, 2, 8), t(3), t(3), 4, 5, lengths=[[4, 3], [2, 5]],
       out=[t(6, 4, 8)]),
    op("torch_attn._varlen_attn_backward", t(6, 4, 8), t(6, 4, 8), t(8, 4, 8), t(8, 4, 8), t(6, 4, 8), t(4, 6), t(3), t(3), 4,
       5, False, lengths=[[4, 3], [2, 5]], out=[t(6, 4, 8)]),
    op("_sparse_semi_structured_linear", t(2, 5, 16), t(6, 8), t(6, 1), bias=t(6), out=t(2, 5, 6)),
    op("_sparse_semi_structured_mm", t(6, 8), t(6, 1), t(16, 5), out=t(6, 5)),
    op("_sparse_semi_structured_addmm", t(6), t(6, 8), t(6, 1), t(16, 5), out=t(6, 5)),
    op("_cslt_sparse_mm", t(6, 9), t(16, 5), t(6), out=t(6, 5)),
    op("semi_structured.cutlass_mm", t(5, 16), t(6, 8), t(6, 1), t(6), 6, 32, 64, True, out=t(5, 6)),
    op("semi_structured.cusparselt_mm", t(16, 5), t(54), None, 6, 8, 8, False, 0, False, out=t(6, 5)),
    op("_flash_attention_forward", QL, KL, VL, None, None, 5, 7, 0.0, False, False, out=[YL]),
    op("_efficient_attention_forward", QL, KL, VL, None, None, None, None, None, 0.0, 0, out=[YL]),
    op("_cudnn_attention_forward", QL, KL, VL, None, None, None, 5, 7, False, out=[YL]),
    op("_scaled_dot_product_flash_attention_backward", Y, Q, K, V, Y, t(2, 4, 5), None, None, 5, 7, 0.0, False, t(2), t(),
       out=[Q, K, V]),
    op("_scaled_dot_product_efficient_attention_backward", Y, Q, K, V, t(2, 4, 5, 7), Y, t(2, 4, 5), t(2), t(), 0.0,
       [True, True, True, False], out=[Q, K, V]),
    op("_flash_attention_backward", YL, QL, KL, VL, YL, t(2, 4, 5), None, None, 5, 7, 0.0, False, t(2), t(), out=[QL, KL, VL]),
    op("_native_multi_head_attention", t(2, 5, 8), t(2, 7, 8), t(2, 7, 8), 8, 2, t(24, 8), t(24), t(8, 8), t(8),
       out=t(2, 5, 8)),
    op("_transformer_encoder_layer_fwd", t(2, 5, 8), 8, 2, t(24, 8), t(24), t(8, 8), t(8), True, False, 1e-5, *[t(8)] * 4,
       t(12, 8), t(12), t(8, 12), t(8), out=t(2, 5, 8)),
    op("mm", A, B, out=C),
    op("mm", t(3, 4, dtype="complex64"), t(4, 5, dtype="complex64"), out=t(3, 5, dtype="complex64")),
    op("bmm", t(2, 3, 4), t(2, 4, 5), out=t(2, 3, 5)),
    op("mv", A, t(4), out=t(3)),
    op("dot", t(4), t(4), out=t()),
    op("matmul", t(2, 1, 3, 4), t(7, 4, 5), out=t(2, 7, 3, 5)),
    op("inner", t(2, 3, 4), t(5, 4), out=t(2, 3, 5)),
    op("inner", t(), t(5, 4), out=t(5, 4)),
    op("linalg_vecdot", t(2, 3, 4), t(3, 4), out=t(2, 3)),
    op("linear", t(2, 3, 4), t(5, 4), t(5), out=t(2, 3, 5)),
    op("addmm", t(5), A, B, out=C),
    op("baddbmm", t(2, 3, 5), t(2, 3, 4), t(2, 4, 5), out=t(2, 3, 5)),
    op("addmv", t(3), A, t(4), out=t(3)),
    op("_addmm_activation", t(5), A, B, use_gelu=True, out=C),
    op("addbmm", C, t(2, 3, 4), t(2, 4, 5), out=C),
    op("_weight_int4pack_mm", A, t(5, 2, dtype="uint8"), 32, t(1, 5, 2), out=C),
    op("_weight_int8pack_mm", A, t(5, 4, dtype=INT8), t(5), out=C),
    op("_dyn_quant_matmul_4bit", A, t(10, dtype="uint8"), 2, 4, 5, out=C),
    op("_scaled_mm", A, B, t(), t(), out=C),
    op("_scaled_mm_v2", A, B, [t()], [0], [0], [t()], [0], [0], out=C),
    op("_mixed_dtypes_linear", A, t(4, 5, dtype=INT8), t(5), out=C),
    op("_grouped_mm", A, t(2, 4, 5), t(2, dtype="int32"), out=C),
    op("_grouped_mm", t(2, 3, 4), B, t(2, dtype="int32"), out=C),
    op("_grouped_mm", A, B, t(2, dtype="int32"), out=t(2, 3, 5)),
    op("_grouped_mm", t(2, 3, 4), t(2, 4, 5), out=t(2, 3, 5)),
    op("_scaled_grouped_mm", A, t(2, 4, 5), t(), t(), t(2, dtype="int32"), out=C),
    op("einsum", "bij,bjk->bik", [t(2, 3, 4), t(2, 4, 5)], out=t(2, 3, 5)),
    op("einsum", "ij,jk,kl->il", [A, B, t(5, 6)], out=t(3, 6)),
    op("einsum", "bhwc,hkc->bhwk", [t(2, 3, 4, 5), t(3, 6, 5)], out=t(2, 3, 4, 6)),
    op("einsum", "ij,jk->ik", [t(3, 1), B], out=C),
    op("einsum", "i,j->ij", [t(3), t(4)], out=A),
    op("tensordot", t(2, 3, 4), t(4, 3, 5), [1, 2], [1, 0], out=t(2, 5)),
    op("linalg_multi_dot", [t(3, 40), t(40, 5), t(5, 60)], out=t(3, 60)),
    op("linalg_multi_dot", [t(4), B, t(5)], out=t()),
    op("bilinear", t(2, 3, 4), t(2, 3, 5), t(6, 4, 5), t(6), out=t(2, 3, 6)),
    op("_trilinear", t(2, 3), t(6, 4), t(2, 4), [1, 3], [0], [1, 2], [2, 3], out=t(2, 6)),
    op("linear_backward", A, C, t(5, 4), [True, True, True], out=[A, t(5, 4), t(5)]),
    op("linear_backward", A, C, t(5, 4), [False, True, False], out=[t(5, 4)]),
    op("matmul_backward", C, A, B, [True, True], out=[A, B]),
    op("mkldnn._linear_pointwise", A, t(5, 4), t(5), "none", [], "", out=C),
    op("inductor._mm_plus_mm", A, B, t(3, 6), t(6, 5), out=C),
    op("_foreach_mm", [A, t(2, 3)], [B, t(3, 7)], out=[C, t(2, 7)]),
    op("cdist", t(2, 30, 4), t(2, 7, 4), out=t(2, 30, 7)),
    op("cdist", t(2, 3, 4), t(2, 7, 4), out=t(2, 3, 7)),
    op("_euclidean_dist", t(30, 4), t(7, 4), out=t(30, 7)),
    op("affine_grid_generator", t(2, 2, 3), [2, 4, 5, 6], False, out=t(2, 5, 6, 2)),
    op("linalg_matrix_power", t(2, 4, 4), 13, out=t(2, 4, 4)),
    op("linalg_matrix_power", t(2, 4, 4), 1, out=t(2, 4, 4)),
    conv("conv2d"), conv("_convolution_mode"), conv("cudnn_convolution_relu"),
    op("conv1d", t(2, 4, 9), t(6, 4, 3), None, [2], out=t(2, 6, 4)),
    op("conv3d", VOLUME, CUBE, t(6), 1, 0, 1, 1, out=SOLID),
    op("conv_transpose2d", t(2, 6, 4, 7), BACK, None, [2, 1], [0, 0], [0, 0], 2, out=SPREAD),
    op("conv_transpose3d", SOLID, CUBE, None, 1, 0, 0, 1, out=VOLUME),
    op("convolution", IMAGE, KERNEL, None, *LOW, False, [0, 0], 2, out=RESULT),
    op("cudnn_convolution", IMAGE, KERNEL, [0, 0], [2, 1], [1, 1], 2, False, False, True, out=RESULT),
    op("mkldnn_convolution", IMAGE, KERNEL, None, [0, 0], [2, 1], [1, 1], 2, out=RESULT),
    op("cudnn_convolution_transpose", t(2, 6, 4, 7), BACK, [0, 0], [0, 0], [2, 1], [1, 1], 2, False, False, True, out=SPREAD),
    op("miopen_convolution_transpose", t(2, 6, 4, 7), BACK, None, [0, 0], [0, 0], [2, 1], [1, 1], 2, False, False, out=SPREAD),
    op("cudnn_convolution_add_relu", IMAGE, KERNEL, RESULT, 1.0, None, *LOW, 2, out=RESULT),
    op("_conv_depthwise2d", t(2, 4, 9, 8), t(8, 1, 3, 2), [3, 2], None, [2, 1], [0, 0], [1, 1], out=t(2, 8, 4, 7)),
    op("slow_conv_transpose2d", t(2, 6, 4, 7), t(6, 4, 3, 2), [3, 2], None, [2, 1], out=SPREAD),
    op("conv_tbc", t(9, 2, 4), t(3, 4, 6), t(6), 0, out=t(7, 2, 6)),
    op("conv_tbc_backward", t(7, 2, 6), t(9, 2, 4), t(3, 4, 6), t(6), 0, out=[t(9, 2, 4), t(3, 4, 6), t(6)]),
    op("convolution_backward", RESULT, IMAGE, KERNEL, [6], *LOW, False, [0, 0], 2, [True, True, True],
       out=[IMAGE, KERNEL, t(6)]),
    op("convolution_backward", SOLID, VOLUME, CUBE, None, *[[1, 1, 1], [0, 0, 0], [1, 1, 1]], False, [0] * 3, 1,
       [True, True, False], out=[VOLUME, CUBE]),
    op("convolution_backward", RESULT, IMAGE, KERNEL, [6], *LOW, False, [0, 0], 2, [False, False, True], out=[t(6)]),
    op("convolution_backward", SPREAD, t(2, 6, 4, 7), BACK, None, *LOW, True, [0, 0], 2, [True, True, False],
       out=[t(2, 6, 4, 7), BACK]),
    op("convolution_backward_overrideable", RESULT, IMAGE, KERNEL, *LOW, False, [0, 0], 2, [True, False, False], out=[IMAGE]),
    op("_slow_conv2d_backward", RESULT, IMAGE, t(6, 4, 3, 2), [3, 2], [2, 1], [0, 0], [True, True, False],
       out=[IMAGE, t(6, 4, 3, 2)]),
    op("mkldnn._convolution_pointwise", IMAGE, KERNEL, None, [0, 0], [2, 1], [1, 1], 2, "relu", [], "", out=RESULT),
    op("torchvision.deform_conv2d", IMAGE, KERNEL, t(2, 12, 4, 7), t(2, 6, 4, 7), t(6), 2, 1, 0, 0, 1, 1, 2, 1, True,
       out=RESULT),
    op("torchvision._deform_conv2d_backward", RESULT, IMAGE, KERNEL, t(2, 12, 4, 7), t(2, 6, 4, 7), t(6), 2, 1, 0, 0, 1, 1, 2,
       1, True, out=[IMAGE, KERNEL]),
    op("bitsandbytes.gemm_4bit", t(2, 4, 8), t(24, 1, dtype="uint8"), [6, 8], t(1), 64, "nf4", t(6), out=t(2, 4, 6)),
    op("bitsandbytes.int8_linear_matmul", t(4, 8, dtype="int8"), t(6, 8, dtype="int8"), out=t(4, 6, dtype="int32")),
    op("bitsandbytes.int8_scaled_mm", t(4, 8, dtype="int8"), t(6, 8, dtype="int8"), t(4), t(6), t(6), out=t(4, 6)),
    op("bitsandbytes.int8_mixed_scaled_mm", t(4, 8), t(4, 8, dtype="int8"), t(6, 8, dtype="int8"), t(4), t(6),
       out=[t(4, 6)]),
    op("roofline.packed_linear", t(2, 4, 8), [t(6, 4, dtype="uint8"), t(6, 1)], t(6), 6, out=t(2, 4, 6)),
    op("quantized.conv1d", t(2, 4, 9, dtype=INT8), [t(6, 4, 3, dtype=INT8), None], 0.1, 0, out=t(2, 6, 7, dtype=INT8)),
    op("quantized.conv_transpose1d", t(2, 4, 9, dtype=INT8), [t(4, 3, 3, dtype=INT8), None], 0.1, 0,
       out=t(2, 6, 11, dtype=INT8)),
    op("quantized.conv2d", X8, [W8, t(6)], 0.1, 0, out=t(2, 6, 4, 7, dtype=INT8)),
    op("quantized.conv_transpose2d", t(2, 6, 4, 7, dtype=INT8), [W8, None], 0.1, 0, out=X8),
    op("quantized.conv3d", t(2, 4, 5, 6, 7, dtype=INT8), [t(6, 4, 2, 3, 3, dtype=INT8), None], 0.1, 0,
       out=t(2, 6, 4, 4, 5, dtype=INT8)),
    op("quantized.conv_transpose3d", t(2, 6, 4, 4, 5, dtype=INT8), [t(6, 4, 2, 3, 3, dtype=INT8), None], 0.1, 0,
       out=t(2, 4, 5, 6, 7, dtype=INT8)),
    op("quantized.conv2d_add", X8, t(2, 6, 4, 7, dtype=INT8), [W8, None], 0.1, 0, out=t(2, 6, 4, 7, dtype=INT8)),
    op("onednn.qconv2d_pointwise", X8, 0.1, 0, W8, t(6), t(6), None, *LOW, 2, out=t(2, 6, 4, 7, dtype=INT8)),
    op("quantized.linear", t(2, 3, 4, dtype=INT8), [t(5, 4, dtype=INT8), None], 0.1, 0, out=t(2, 3, 5, dtype=INT8)),
    op("quantized.linear_dynamic", A, [t(5, 4, dtype=INT8), None], out=C),
    op("quantized.linear_dynamic_fp16", A, [t(5, 4, dtype="float16"), None], out=C),
    op("onednn.qlinear_pointwise", t(3, 4, dtype=INT8), 0.1, 0, t(4, 5, dtype=INT8), out=t(3, 5, dtype=INT8)),
    op("quantized.matmul", t(2, 3, 4, dtype=INT8), t(2, 4, 5, dtype=INT8), 0.1, 0, out=t(2, 3, 5, dtype=INT8)),
    *(spec for kind, gates in GATES.items() for spec in recurrent(kind, gates)),
    *(cell(f"{kind}_cell", gates) for kind, gates in GATES.items()),
    *(op(f"quantized_{kind}_cell", t(2, 3), states(kind, 2, 5), t(gates * 5, 3), t(gates * 5, 5), out=t(2, 5))
      for kind, gates in GATES.items()),
    *(op(f"quantized_{kind}", t(7, 2, 3), states(kind, 1, 2, 5), [[t(gates * 5, 3), t(gates * 5, 5)]], True, 1, 0.0, False,
         False, False, out=[t(7, 2, 5)]) for kind, gates in GATES.items() if kind in ("lstm", "gru")),
    op("_cudnn_rnn", t(7, 2, 3), W, 4, None, t(1, 2, 5), t(1, 2, 5), 2, 5, 0, 1, False, 0.0, False, False, [], None,
       out=[t(7, 2, 5)]),
    op("miopen_rnn", t(7, 2, 3), W, 4, t(1, 2, 5), t(1, 2, 5), 2, 5, 1, False, 0.0, False, False, [], None, out=[t(7, 2, 5)]),
    op("_cudnn_rnn_backward", t(7, 2, 3), W, 4, t(9), t(1, 2, 5), t(1, 2, 5), t(7, 2, 5), t(7, 2, 5), None, None, 2,
       out=[t(7, 2, 3)]),
    op("mkldnn_rnn_layer", t(7, 2, 3), *W, t(20), t(20), t(2, 5), t(2, 5), False, [], 2, 5, 1, True, False, False, True,
       out=[t(7, 2, 5)]),
    op("mkldnn_rnn_layer_backward", t(7, 2, 3), *W, t(20), t(20), t(2, 5), t(2, 5), t(7, 2, 5), t(2, 5), t(2, 5), t(7, 2, 5),
       None, None, False, 2, 5, 1, True, out=[t(7, 2, 3)]),
]  # fmt: skip
