"""Normalisations and softmax. FLOPs per element, by what the arithmetic needs:

statistics: the mean 1 (add), the variance 3 (subtract, square, add); normalising with constants folded per channel
(batch, group and instance norm) 2 (multiply, add); layer norm 2 (subtract, multiply) and 1 for each of weight and bias.
Work per channel or per row (a root, a reciprocal) is left out: it is a thousandth of the work per element.
"""

from __future__ import annotations

from typing import Any

from roofline.cost.registry import Rule, add, first, rule
from roofline.records import TensorSpec

T = TensorSpec
Out = TensorSpec | tuple[TensorSpec, ...]

STATISTICS = 4
FOLDED = 2
# maximum, subtract, exp, add, divide (log_softmax: maximum, subtract, exp, add, subtract)
SOFTMAX = 5


def _given(*tensors: T | None) -> int:
    return sum(t is not None for t in tensors)


def _batch(x: T, training: bool) -> int:
    # [n, c, *]: y = a[c] x + b[c]
    return x.numel * (FOLDED + STATISTICS * bool(training))


@rule(
    "batch_norm",
    "native_batch_norm",
    "cudnn_batch_norm",
    "miopen_batch_norm",
    "_native_batch_norm_legit",
    "_batch_norm_impl_index",
    "_native_batch_norm_legit_functional",
    klass="norm",
)
def batch_norm(input: T, weight: T | None, bias: T | None, *args: Any, out: Out, **_: Any) -> int:
    # the first bool is `training`; the overload without running statistics always takes its own
    return _batch(input, next((a for a in args if isinstance(a, bool)), True))


@rule("_native_batch_norm_legit_no_training", "_batch_norm_no_update", "quantized_batch_norm", "batch_norm_elemt", klass="norm")
def batch_norm_inference(input: T, *_: Any, out: Out, **__: Any) -> int:
    return _batch(input, False)


@rule("_batch_norm_with_update", "_batch_norm_with_update_functional", klass="norm")
def batch_norm_training(input: T, *_: Any, out: Out, **__: Any) -> int:
    return _batch(input, True)


@rule("batch_norm_stats", "batch_norm_update_stats", klass="norm")
def batch_norm_stats(input: T, *_: Any, out: Out, **__: Any) -> int:
    # [n, c, *] -> mean [c], invstd [c]
    return input.numel * STATISTICS


@rule("batch_norm_gather_stats", "batch_norm_gather_stats_with_counts", klass="norm")
def batch_norm_gather_stats(input: T, mean: T, *_: Any, out: Out, **__: Any) -> int:
    # [world, c] -> [c]
    return mean.numel * STATISTICS


@rule("group_norm", "native_group_norm", klass="norm")
def group_norm(input: T, *_: Any, out: Out, **__: Any) -> int:
    # [n, c, *]: statistics per (n, group), then y = a[n, c] x + b[n, c]
    return input.numel * (STATISTICS + FOLDED)


@rule("instance_norm", klass="norm")
def instance_norm(
    input: T,
    weight: T | None,
    bias: T | None,
    running_mean: T | None,
    running_var: T | None,
    use_input_stats: bool,
    *_: Any,
    out: Out,
    **__: Any,
) -> int:
    # [n, c, *]: statistics per (n, c) unless the running ones serve
    return _batch(input, use_input_stats)


@rule("layer_norm", "native_layer_norm", klass="norm")
def layer_norm(
    input: T, normalized_shape: list[int], weight: T | None = None, bias: T | None = None, *_: Any, out: Out, **__: Any
) -> int:
    # [*, n]: (x - mean) * rstd * w + b
    return input.numel * (STATISTICS + 2 + _given(weight, bias))


@rule("rms_norm", "_fused_rms_norm", klass="norm")
def rms_norm(input: T, normalized_shape: list[int], weight: T | None = None, *_: Any, out: Out, **__: Any) -> int:
    # [*, n]: x * rsqrt(mean(x^2)) * w: square, add, multiply, and one for the weight
    return input.numel * (3 + _given(weight))


# --- gradients


def _batch_backward(x: T, train: bool, mask: Any) -> int:
    # sum(dy) 1 and sum(dy (x - mean)) 3; dx = (dy - c1 - (x - mean) c2) c3: 5, at inference dx = dy c: 1
    dx, dw, db = (bool(m) for m in mask) if isinstance(mask, list) else (True, True, True)
    if train:
        return x.numel * (4 + 5 * dx)
    return x.numel * (dx + 3 * dw + db)


@rule("native_batch_norm_backward", "batch_norm_backward", klass="norm")
def batch_norm_backward(  # long: the operator's own arguments
    grad_out: T,
    input: T,
    weight: T | None,
    running_mean: T | None,
    running_var: T | None,
    save_mean: T | None,
    save_invstd: T | None,
    train: bool,
    eps: float,
    output_mask: Any = None,
    *_: Any,
    out: Out,
    **__: Any,
) -> int:
    return _batch_backward(input, train, output_mask)


@rule("cudnn_batch_norm_backward", "miopen_batch_norm_backward", klass="norm")
def cudnn_batch_norm_backward(input: T, grad_output: T, *_: Any, out: Out, **__: Any) -> int:
    return _batch_backward(input, True, None)


@rule("_batch_norm_impl_index_backward", klass="norm")
def batch_norm_impl_index_backward(  # long: the operator's own arguments
    impl_index: int,
    input: T,
    grad_output: T,
    weight: T | None,
    running_mean: T | None,
    running_var: T | None,
    save_mean: T | None,
    save_var: T | None,
    train: bool,
    eps: float,
    output_mask: Any,
    *_: Any,
    out: Out,
) -> int:
    return _batch_backward(input, train, output_mask)


@rule("batch_norm_backward_reduce", klass="norm")
def batch_norm_backward_reduce(grad_out: T, input: T, *_: Any, out: Out, **__: Any) -> int:
    # sum(dy) and sum(dy (x - mean))
    return 4 * input.numel


@rule("batch_norm_backward_elemt", klass="norm")
def batch_norm_backward_elemt(grad_out: T, input: T, *_: Any, out: Out, **__: Any) -> int:
    # (dy - c1 - (x - mean) c2) c3
    return 5 * input.numel


def _rows_backward(x: T, weight: T | None, dx: bool, dw: bool, db: bool) -> int:
    # xhat = (x - mean) rstd: 2. g = dy w: 1; two sums over a row, of g and of g xhat: 3; dx = rstd (g - s1 - xhat s2): 4
    # dw sums dy xhat: 2; db sums dy: 1
    per_element = 2 * (dx or dw) + dx * (7 + _given(weight)) + 2 * dw + db
    return x.numel * per_element


@rule("native_layer_norm_backward", klass="norm")
def layer_norm_backward(  # long: the operator's own arguments
    grad_out: T,
    input: T,
    normalized_shape: list[int],
    mean: T,
    rstd: T,
    weight: T | None,
    bias: T | None,
    output_mask: list[bool],
    *_: Any,
    out: Out,
    **__: Any,
) -> int:
    dx, dw, db = output_mask
    return _rows_backward(input, weight, bool(dx), bool(dw), bool(db))


@rule("native_group_norm_backward", klass="norm")
def group_norm_backward(  # long: the operator's own arguments
    grad_out: T,
    input: T,
    mean: T,
    rstd: T,
    weight: T | None,
    n: int,
    c: int,
    hxw: int,
    group: int,
    output_mask: list[bool],
    *_: Any,
    out: Out,
    **__: Any,
) -> int:
    # per (n, c) sums of dy (1) and dy x (2); everything else is per channel but dx = a dy + b x + c: 4
    return input.numel * (3 + 4 * bool(output_mask[0]))


@rule("_fused_rms_norm_backward", klass="norm")
def rms_norm_backward(
    grad_out: T,
    input: T,
    normalized_shape: list[int],
    rstd: T,
    weight: T | None,
    output_mask: list[bool],
    *_: Any,
    out: Out,
    **__: Any,
) -> int:
    # xhat = x rstd: 1. g = dy w: 1; sum of g xhat: 2; dx = rstd (g - xhat s): 3; dw sums dy xhat: 2
    dx, dw = map(bool, output_mask)
    return input.numel * (1 + dx * (5 + _given(weight)) + 2 * dw)


# --- softmax


@rule(
    "softmax",
    "log_softmax",
    "_softmax",
    "_log_softmax",
    "_safe_softmax",
    "special_softmax",
    "special_log_softmax",
    "_sparse_softmax",
    "_sparse_log_softmax",
    klass="softmax",
)
def softmax(self: T, *_: Any, out: Out, **__: Any) -> int:
    # [*, n] -> [*, n]
    return self.numel * SOFTMAX


@rule("_masked_softmax", klass="softmax")
def masked_softmax(self: T, mask: T, *_: Any, out: Out, **__: Any) -> int:
    # [*, n], the mask selects
    return self.numel * SOFTMAX


def _softmax_backward(grad_output: T, *_: Any, out: Out, **__: Any) -> int:
    # y (dy - sum(y dy)): multiply, add, subtract, multiply; log: dy - exp(y) sum(dy): add, exp, multiply, subtract
    return grad_output.numel * 4


add(("_softmax_backward_data", "_log_softmax_backward_data", "_masked_softmax_backward"), Rule(_softmax_backward, "softmax"))


# --- weights


@rule("_weight_norm", "_weight_norm_interface", "norm_except_dim", klass="norm")
def weight_norm(v: T, *_: Any, out: Out, **__: Any) -> int:
    # v g / |v|: square and add, then one multiply
    return v.numel * (3 if first(out).numel == v.numel else 2)


@rule("_weight_norm_interface_backward", "_weight_norm_differentiable_backward", klass="norm")
def weight_norm_backward(grad_w: T, *_: Any, out: Out, **__: Any) -> int:
    # sum of dw v: 2; dv = c1 dw - c2 v: 3
    return grad_w.numel * 5


@rule("renorm", "embedding_renorm", klass="norm")
def renorm(self: T, *_: Any, out: Out, **__: Any) -> int:
    # square and add, then one multiply
    return self.numel * 3
