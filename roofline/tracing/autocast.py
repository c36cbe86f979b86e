"""Which operators `torch.autocast` runs in lower precision, which in fp32, and which it promotes.

From torch's ATen/autocast_mode.h (CUDA lists) and autocast_mode.cpp (CPU list); a test compares the CUDA lists with
the header of the installed torch. Operators in no list run in the dtype of their inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from roofline.records import identity
from roofline.tracing.arguments import map_tensors, tensors_in

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


# Torchvision's own, which it makes compute in fp32 under any autocast.
_VISION = "nms roi_align roi_pool ps_roi_align ps_roi_pool deform_conv2d"


def _table(lower: str, fp32: str, set_dtype: str, promote: str) -> dict[str, str]:
    names = {"lower": lower, "fp32": fp32, "set_dtype": set_dtype, "promote": promote}
    found = {f"aten.{name}": policy for policy, text in names.items() for name in text.split()}
    return found | {f"torchvision.{name}": "fp32" for name in _VISION.split()}


# device kind -> operator -> "lower", "fp32", "set_dtype" or "promote"
POLICIES: dict[str, dict[str, str]] = {
    "cuda": _table(_LOWER, _FP32, _SET_DTYPE, _PROMOTE),
    "cpu": _table(_CPU_LOWER, _CPU_FP32, "", _CPU_PROMOTE),
}
# device kind -> the lower precision where none is named
LOWER = {"cuda": torch.float16, "cpu": torch.bfloat16}


class Casts:
    """What autocast does to the arguments of an operator: to `dtype`, or up to fp32.

    `known` says of a tensor by identity what it is to the pass, (metadata, storage): casts of parameters are kept for further
    uses, as torch keeps them.
    """

    __slots__ = ("dtype", "keeps", "known", "weights")

    def __init__(self, dtype: torch.dtype, known: Mapping[int, tuple[Any, Any]]) -> None:
        self.dtype, self.known, self.keeps = dtype, known, True
        self.weights: dict[tuple[int, torch.dtype], torch.Tensor] = {}

    def arguments(self, cast: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """An operator's arguments under the policy `cast`."""
        if cast == "set_dtype":
            halves = any(t.dtype in (torch.float16, torch.bfloat16) for t in tensors_in(args))
            return args, kwargs | {"dtype": torch.float32} if halves and not kwargs.get("dtype") else kwargs
        if cast == "promote":
            floats = [t for t in tensors_in((args, kwargs)) if t.dtype.is_floating_point]
            target = torch.float32 if any(t.dtype == torch.float32 for t in floats) else self.dtype
        else:
            target = self.dtype if cast == "lower" else torch.float32
        # from the last to the first, as compiled: autograd goes back through the casts in that order
        back = [map_tensors(lambda t: self._cast(t, target), a) for a in reversed(args)]
        return tuple(reversed(back)), {k: map_tensors(lambda t: self._cast(t, target), v) for k, v in kwargs.items()}

    def _cast(self, t: torch.Tensor, target: torch.dtype) -> torch.Tensor:
        if not t.dtype.is_floating_point or t.dtype in (target, torch.float64):
            return t
        known = self.known.get(identity(t))
        if known is None or known[1].kind != "parameter" or target == torch.float32 or not self.keeps:
            return t.to(target)
        cached = self.weights.get((identity(t), target))
        if cached is None:
            cached = self.weights[identity(t), target] = t.to(target)
        return cached
