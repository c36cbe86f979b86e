"""Reductions, scans, sorting and losses: FLOPs from the number of elements that go in."""

from __future__ import annotations

from math import ceil, log2
from typing import Any

from roofline.cost.matmul import distances
from roofline.cost.registry import Cost, Rule, add, first, is_complex, rule, total
from roofline.records import TensorSpec

T = TensorSpec
Out = TensorSpec | tuple[TensorSpec, ...]

# One operation per element read.
_ONE = """
sum nansum prod amax amin argmax argmin count_nonzero trace sum_to_size _grad_sum_to_size _is_all_true _is_any_true
prims.sum prims.prod prims.amax prims.amin prims.xor_sum equal hash_tensor
"""

# FLOPs per element read, and per element of the result.
REDUCTIONS: dict[str, tuple[int, int]] = {
    **dict.fromkeys(_ONE.split(), (1, 0)),
    "mean": (1, 1),
    "nanmean": (1, 1),
    "aminmax": (2, 0),
    "_aminmax": (2, 0),
    "var": (4, 1),  # mean 1, subtract, square, add
    "var_mean": (4, 1),
    "prims.var": (4, 1),
    "std": (4, 2),
    "std_mean": (4, 2),
    "norm": (2, 1),  # power, add; root
    "linalg_vector_norm": (2, 1),
    "linalg_norm": (2, 1),
    "linalg__powsum": (2, 0),
    "frobenius_norm": (2, 1),
    "native_norm": (2, 1),
    "logsumexp": (4, 2),  # maximum, subtract, exp, add; log, add
    "special_logsumexp": (4, 2),
    "dist": (3, 1),
    "allclose": (5, 0),
    "histc": (3, 0),
    "histogram": (3, 0),
    "_histogramdd_from_bin_cts": (3, 0),
    "_histogramdd_bin_edges": (2, 0),  # least and largest
    "bincount": (1, 0),
    "cumsum": (1, 0),
    "cumprod": (1, 0),
    "cummax": (1, 0),
    "cummin": (1, 0),
    "_cummax_helper": (1, 0),
    "_cummin_helper": (1, 0),
    "logcumsumexp": (4, 0),
    "_logcumsumexp": (4, 0),
    "cumprod_backward": (4, 0),
    "cummaxmin_backward": (1, 0),
    "diff": (1, 0),
    "trapezoid": (3, 0),
    "trapz": (3, 0),
    "cumulative_trapezoid": (3, 0),
    "cov": (4, 0),
    "unique_consecutive": (1, 0),
    "segment_reduce": (1, 0),
    "_segment_reduce_backward": (1, 0),
}


def _reduction(per_input: int, per_output: int) -> Rule:
    def count(self: T, *_: Any, out: Out, **__: Any) -> int:
        # [*i] -> [*o]
        n = total(self) * per_input + (first(out).numel if per_output and out else 0) * per_output
        return n * (2 if isinstance(self, T) and is_complex(self) else 1)

    return Rule(count, "reduction")


for _name, (_i, _o) in REDUCTIONS.items():
    add((_name,), _reduction(_i, _o))


@rule("max", "min", klass="reduction")
def maximum(self: T, other: Any = None, *_: Any, out: Out, **__: Any) -> int:
    # a reduction, or the larger of two tensors
    return first(out).numel if isinstance(other, T) else self.numel


@rule("all", "any", klass="reduction")
def every(self: Any, *_: Any, out: Out, **__: Any) -> int:
    return total(self)


# --- sorting: n log2 n compares for each row of n


def _row(self: T, dim: int) -> int:
    return self.shape[dim] if self.shape else 1


def _sorting(rows: int, n: int) -> int:
    return rows * n * max(1, ceil(log2(n))) if n > 1 else 0


@rule("sort", "argsort", "msort", klass="sort")
def sort(self: T, *args: Any, dim: int | None = None, out: Out, **_: Any) -> int:
    # [*, n]; `stable` may come before the dimension
    at = dim if dim is not None else next((a for a in args if isinstance(a, int) and not isinstance(a, bool)), -1)
    n = _row(self, at)
    return _sorting(self.numel // max(n, 1), n)


@rule("topk", klass="sort")
def topk(self: T, k: int, dim: int = -1, *_: Any, out: Out, **__: Any) -> int:
    # a heap of k: each of n elements is compared, and sinks at most log2 k
    return self.numel * max(1, ceil(log2(k)) if k > 1 else 1)


@rule(
    "kthvalue",
    "median",
    "nanmedian",
    "mode",
    "quantile",
    "nanquantile",
    "unique_dim",
    "_unique",
    "_unique2",
    "unique_dim_consecutive",
    klass="sort",
)
def order_statistic(self: T, *args: Any, out: Out, **_: Any) -> int:
    # by sorting all elements: at most n log2 n
    return _sorting(1, self.numel)


# --- losses: forward and backward per element of the input

LOSSES: dict[str, int] = {
    "mse_loss": 3,  # subtract, square, add
    "l1_loss": 3,
    "smooth_l1_loss": 6,
    "huber_loss": 6,
    "binary_cross_entropy": 8,  # two logs, 1 - y, 1 - x, two products, a sum, and the sum of all
    "binary_cross_entropy_with_logits": 9,
    "kl_div": 4,
    "poisson_nll_loss": 4,
    "soft_margin_loss": 5,
    "hinge_embedding_loss": 4,
    "margin_ranking_loss": 5,
    "multi_margin_loss": 5,
    "multilabel_margin_loss": 5,
    "multilabel_margin_loss_forward": 5,
    "mse_loss_backward": 3,
    "smooth_l1_loss_backward": 4,
    "huber_loss_backward": 4,
    "binary_cross_entropy_backward": 5,
    "soft_margin_loss_backward": 5,
    "multi_margin_loss_backward": 4,
    "multilabel_margin_loss_backward": 4,
}


def _loss(per_element: int) -> Rule:
    def count(*args: Any, out: Out, **_: Any) -> int:
        # [*], [*] -> [] or [*]
        return per_element * max(t.numel for t in args if isinstance(t, T))

    return Rule(count, "reduction")


for _name, _weight in LOSSES.items():
    add((_name,), _loss(_weight))


@rule("nll_loss", "nll_loss2d", "nll_loss_nd", "nll_loss_forward", "nll_loss2d_forward", klass="reduction")
def nll_loss(self: T, target: T, weight: T | None = None, *_: Any, out: Out, **__: Any) -> int:
    # one number picked per target, weighted, added
    return target.numel * (1 + 2 * (weight is not None))


@rule("nll_loss_backward", "nll_loss2d_backward", klass="gather")
def nll_loss_backward(grad_output: T, self: T, target: T, *_: Any, out: Out, **__: Any) -> int:
    return target.numel


@rule("cross_entropy_loss", klass="reduction")
def cross_entropy_loss(self: T, target: T, weight: T | None = None, *_: Any, out: Out, **__: Any) -> int:
    # log_softmax 5, then nll or (targets as probabilities) a product and a sum
    dense = target.shape == self.shape
    return 5 * self.numel + (2 * self.numel if dense else target.numel)


@rule("cosine_similarity", "cosine_embedding_loss", klass="reduction")
def cosine_similarity(x1: T, x2: T, *_: Any, out: Out, **__: Any) -> int:
    # three dot products
    return 6 * max(x1.numel, x2.numel)


@rule("pairwise_distance", "triplet_margin_loss", klass="reduction")
def pairwise_distance(x1: T, x2: T, *args: Any, out: Out, **_: Any) -> int:
    # difference, power, sum, for each pair of arguments
    pairs = sum(isinstance(a, T) for a in args) + 1
    return 3 * pairs * max(x1.numel, x2.numel)


@rule("pdist", "_pdist_forward", klass="reduction")
def pdist(self: T, *_: Any, out: Out, **__: Any) -> int:
    # [n, m] -> [n (n - 1) / 2]: difference, power, sum over m; a root
    return first(out).numel * (3 * self.shape[1] + 1)


@rule("_cdist_backward", klass="reduction")
def cdist_backward(grad: T, x1: T, x2: T, *_: Any, out: Out, **__: Any) -> int:
    # [*b, p, r]: for each pair and coordinate difference, scale, add
    return grad.numel * x1.shape[-1] * 3


@rule("_pdist_backward", klass="reduction")
def pdist_backward(grad: T, self: T, *_: Any, out: Out, **__: Any) -> int:
    # [n (n - 1) / 2], [n, m]: for each pair and coordinate difference, scale, add to the one row, subtract from the other
    return grad.numel * self.shape[-1] * 4


@rule("_euclidean_dist", klass="gemm")
def euclidean_dist(x1: T, x2: T, *, out: Out, **_: Any) -> Cost:
    # [*b, p, m], [*b, r, m] -> [*b, p, r]: |x|^2 - 2 x.y + |y|^2
    return Cost.of(distances(x1, x2, first(out)), extra=2 * (x1.numel + x2.numel) + 4 * first(out).numel)


@rule("ctc_loss", "_ctc_loss", "_cudnn_ctc_loss", klass="reduction")
def ctc_loss(log_probs: T, targets: T, *_: Any, out: Out, **__: Any) -> int:
    # [t, n, c]: the forward recursion over 2 s + 1 states, each a logsumexp of three (10) and an add
    t, n = log_probs.shape[0], log_probs.shape[1] if len(log_probs.shape) == 3 else 1
    longest = targets.shape[-1] if len(targets.shape) == 2 else ceil(targets.numel / max(n, 1))
    return 11 * t * n * (2 * longest + 1)


@rule("_ctc_loss_backward", klass="reduction")
def ctc_loss_backward(grad: T, log_probs: T, targets: T, *_: Any, out: Out, **__: Any) -> int:
    # the backward recursion, and exp and two operations per element of the gradient
    return ctc_loss(log_probs, targets, out=out) + 3 * log_probs.numel
