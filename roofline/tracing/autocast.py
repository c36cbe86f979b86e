"""Which operators `torch.autocast` runs in lower precision, which in fp32, and which it promotes.

From torch's ATen/autocast_mode.h (CUDA lists) and autocast_mode.cpp (CPU list); a test compares the CUDA lists with
the header of the installed torch. Operators in no list run in the dtype of their inputs.
"""

from __future__ import annotations

_LOWER = """
    _convolution conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d conv_transpose3d convolution prelu addmm
    addmv addr matmul einsum mm mv linalg_vecdot linear addbmm baddbmm bmm chain_matmul linalg_multi_dot
    _thnn_fused_lstm_cell _thnn_fused_gru_cell lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell
    _scaled_dot_product_flash_attention scaled_dot_product_attention
"""
_FP32 = """
    acos asin cosh erfinv exp expm1 log log10 log2 log1p reciprocal rsqrt sinh tan pow softplus layer_norm native_layer_norm
    rms_norm group_norm frobenius_norm nuclear_norm cosine_similarity poisson_nll_loss cosine_embedding_loss nll_loss
    nll_loss2d hinge_embedding_loss kl_div l1_loss smooth_l1_loss huber_loss mse_loss margin_ranking_loss
    multilabel_margin_loss soft_margin_loss triplet_margin_loss multi_margin_loss binary_cross_entropy_with_logits dist
    pdist cdist renorm logsumexp upsample_nearest1d _upsample_nearest_exact1d upsample_nearest2d _upsample_nearest_exact2d
    upsample_nearest3d _upsample_nearest_exact3d upsample_linear1d upsample_bilinear2d _upsample_bilinear2d_aa
    upsample_trilinear3d upsample_bicubic2d _upsample_bicubic2d_aa
"""
# The op itself is given dtype=float32 and reads its input as it is.
_SET_DTYPE = "prod softmax log_softmax cumprod cumsum linalg_vector_norm linalg_matrix_norm sum norm"
_PROMOTE = "addcdiv addcmul atan2 bilinear cross dot vdot grid_sampler index_put tensordot scatter_add"

_CPU_LOWER = """
    conv1d conv2d conv3d bmm mm linalg_vecdot baddbmm addmm addbmm linear _addmm_activation matmul conv_tbc mkldnn_rnn_layer
    conv_transpose1d conv_transpose2d conv_transpose3d scaled_dot_product_attention _native_multi_head_attention
"""
_CPU_FP32 = """
    avg_pool3d binary_cross_entropy grid_sampler polar prod quantile nanquantile stft cdist trace view_as_complex cholesky
    cholesky_inverse cholesky_solve inverse lu_solve orgqr ormqr pinverse max_unpool2d max_unpool3d adaptive_avg_pool3d
    reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d replication_pad3d mse_loss cosine_embedding_loss
    nll_loss nll_loss2d hinge_embedding_loss poisson_nll_loss smooth_l1_loss cross_entropy_loss l1_loss huber_loss
    margin_ranking_loss soft_margin_loss triplet_margin_loss multi_margin_loss ctc_loss kl_div multilabel_margin_loss
    binary_cross_entropy_with_logits
"""
_CPU_PROMOTE = "stack cat index_copy"


def _table(lower: str, fp32: str, set_dtype: str, promote: str) -> dict[str, str]:
    names = {"lower": lower, "fp32": fp32, "set_dtype": set_dtype, "promote": promote}
    return {f"aten.{name}": policy for policy, text in names.items() for name in text.split()}


# device kind -> operator -> "lower", "fp32", "set_dtype" or "promote"
POLICIES: dict[str, dict[str, str]] = {
    "cuda": _table(_LOWER, _FP32, _SET_DTYPE, _PROMOTE),
    "cpu": _table(_CPU_LOWER, _CPU_FP32, "", _CPU_PROMOTE),
}
