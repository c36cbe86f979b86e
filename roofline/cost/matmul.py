"""Matrix products: b independent [m, k] @ [k, n]."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from roofline.cost.registry import Cost, Rule, add, first, is_complex, prod, rule
from roofline.records import TensorSpec
from roofline.shapes import Gemm

T = TensorSpec
Out = TensorSpec | tuple[TensorSpec, ...]


def mm(self: T, mat2: T) -> Gemm:
    # [m, k] @ [k, n] -> [m, n]
    (m, k), n = self.shape, mat2.shape[-1]
    return Gemm(1, m, n, k)


def _bmm(self: T, mat2: T) -> Gemm:
    # [b, m, k] @ [b, k, n] -> [b, m, n]
    (b, m, k), n = self.shape, mat2.shape[-1]
    return Gemm(b, m, n, k)


def _mv(self: T, vec: T) -> Gemm:
    # [m, k] @ [k] -> [m]
    m, k = self.shape
    return Gemm(1, m, 1, k)


def _dot(self: T, tensor: T) -> Gemm:
    # [k] . [k] -> []
    return Gemm(1, 1, 1, self.numel)


def matmul(self: T, other: T) -> Gemm:
    # [*b, m, k] @ [*b, k, n]; a vector is one row on the left, one column on the right
    left = self.shape if len(self.shape) > 1 else (1, *self.shape)
    right = other.shape if len(other.shape) > 1 else (*other.shape, 1)
    if len(right) == 2:  # one matrix for all: the batch joins the rows
        return Gemm(1, prod(left[:-1]), right[1], left[-1])
    return Gemm(prod(broadcast(left[:-2], right[:-2])), left[-2], right[-1], left[-1])


def packed_mm(x: T, out: Out) -> Gemm:
    # [*m, k] @ packed weight -> [*m, n]; the shapes of x and of the result say all
    return Gemm(1, prod(x.shape[:-1]), first(out).shape[-1], x.shape[-1])


def distances(x1: T, x2: T, out: T) -> Gemm:
    # [*b, p, m] . [*b, r, m] -> [*b, p, r]: every row with every row
    rows, columns = x1.shape[-2], x2.shape[-2]
    return Gemm(out.numel // max(rows * columns, 1), rows, columns, x1.shape[-1])


def broadcast(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The common shape; a size of 1 stretches."""
    rank = max(map(len, shapes), default=0)
    columns = zip(*((1,) * (rank - len(s)) + tuple(s) for s in shapes), strict=True)
    return tuple(0 if 0 in c else max(c) for c in columns)


def _plain(*names: str, of: Callable[[T, T], Gemm]) -> None:
    """Enter operators that are a product and nothing else."""

    def count(self: T, other: T, *_: Any, out: Out, **__: Any) -> Cost:
        return Cost.of(of(self, other))

    add(names, Rule(count, "gemm"))


_plain("mm", "_int_mm", "_sparse_mm", "smm", "hspmm", "_sparse_sparse_matmul", of=mm)
_plain("bmm", of=_bmm)
_plain("mv", of=_mv)
_plain("dot", "vdot", of=_dot)
_plain("matmul", "linalg_matmul", "__matmul__", "__rmatmul__", of=matmul)


@rule("outer", "ger", klass="pointwise")
def outer(self: T, vec2: T, *, out: Out, **_: Any) -> int:
    # [m] x [n] -> [m, n]: products only, nothing is summed
    return first(out).numel * (6 if is_complex(self) else 1)


@rule("inner", klass="gemm")
def inner(self: T, other: T, *, out: Out, **_: Any) -> Cost:
    # [*i, k] . [*j, k] -> [*i, *j]; a scalar multiplies
    if not self.shape or not other.shape:
        return Cost.of(extra=first(out).numel)
    return Cost.of(Gemm(1, prod(self.shape[:-1]), prod(other.shape[:-1]), self.shape[-1]))


@rule("linalg_vecdot", klass="gemm")
def vecdot(x: T, y: T, *, dim: int = -1, out: Out, **_: Any) -> Cost:
    # [*b, k] . [*b, k] -> [*b]
    rows = first(out).numel
    return Cost.of(Gemm(rows, 1, 1, prod(broadcast(x.shape, y.shape)) // max(rows, 1)))


# --- with a bias or an accumulator


@rule("linear", "mkldnn_linear", klass="gemm")
def linear(input: T, weight: T, bias: T | None = None, *_: Any, out: Out, **__: Any) -> Cost:
    # [*m, k] @ [n, k]^T (+ [n]) -> [*m, n]; a weight [k] gives one number a row
    product = Gemm(1, prod(input.shape[:-1]), prod(weight.shape[:-1]), weight.shape[-1])
    return Cost.of(product, extra=0 if bias is None else first(out).numel)


def _scaling(out: T, beta: float, alpha: float) -> int:
    """FLOPs of beta * self + alpha * product: an add, and a multiply for each factor that is not 1. Beta 0 leaves self out."""
    return out.numel * ((beta != 0) + (beta not in (0, 1)) + (alpha != 1))


def _accumulating(*names: str, of: Callable[[T, T], Gemm]) -> None:
    def count(self: T, a: T, b: T, *_: Any, beta: float = 1, alpha: float = 1, out: Out, **__: Any) -> Cost:
        # beta * self + alpha * (a @ b); addbmm's sum over b is part of the accumulation
        return Cost.of(of(a, b), extra=_scaling(first(out), beta, alpha))

    add(names, Rule(count, "gemm"))


_accumulating("addmm", "_sparse_addmm", "sspaddmm", "sparse_sampled_addmm", of=mm)
_accumulating("baddbmm", "addbmm", of=_bmm)
_accumulating("addmv", of=_mv)


@rule("_addmm_activation", klass="gemm")
def addmm_activation(
    self: T, mat1: T, mat2: T, *, beta: float = 1, alpha: float = 1, use_gelu: bool = False, out: Out, **_: Any
) -> Cost:
    # act([n] + [m, k] @ [k, n]): relu is 1 per element, gelu (tanh) 9
    y = first(out)
    return Cost.of(mm(mat1, mat2), extra=_scaling(y, beta, alpha) + y.numel * (9 if use_gelu else 1))


@rule("addr", klass="pointwise")
def addr(self: T, vec1: T, vec2: T, *, beta: float = 1, alpha: float = 1, out: Out, **_: Any) -> int:
    # [m, n] + [m] x [n]
    return first(out).numel + _scaling(first(out), beta, alpha)


# --- low-bit and scaled


@rule(
    "_weight_int4pack_mm",
    "_weight_int4pack_mm_for_cpu",
    "_weight_int4pack_mm_with_scales_and_zeros",
    "quantized.int4mm_packed_weight_cpu",
    klass="gemm",
)
def weight_int4pack_mm(self: T, mat2: T, *_: Any, out: Out, **__: Any) -> Cost:
    # [m, k] @ unpacked [k, n] -> [m, n]; each weight is unpacked once: scale and zero point
    product = packed_mm(self, out)
    return Cost.of(product, extra=2 * product.n * product.k)


@rule("_weight_int8pack_mm", klass="gemm")
def weight_int8pack_mm(self: T, mat2: T, scales: T, *, out: Out, **_: Any) -> Cost:
    # [m, k] @ [n, k]^T * [n] -> [m, n]
    return Cost.of(packed_mm(self, out), extra=first(out).numel)


@rule("_dyn_quant_matmul_4bit", klass="gemm")
def dyn_quant_matmul_4bit(inp: T, packed_weights: T, block_size: int, in_features: int, out_features: int, *, out: Out) -> Cost:
    # the input is quantised row by row (range 2, scale and round 3), the product is scaled per block
    scaled = first(out).numel * max(1, in_features // max(block_size, 1))
    return Cost.of(packed_mm(inp, out), extra=5 * inp.numel + scaled)


@rule("_scaled_mm", klass="gemm")
def scaled_mm(self: T, mat2: T, scale_a: T, scale_b: T, bias: T | None = None, *_: Any, out: Out, **__: Any) -> Cost:
    # ([m, k] @ [k, n]) * a * b (+ bias): two multiplies per output for the scales
    return Cost.of(mm(self, mat2), extra=first(out).numel * (2 + (bias is not None)))


@rule("_scaled_mm_v2", klass="gemm")
def scaled_mm_v2(self: T, mat2: T, *_: Any, out: Out, bias: T | None = None, **__: Any) -> Cost:
    # ([m, k] @ [k, n]) * a * b
    return Cost.of(mm(self, mat2), extra=first(out).numel * 2)


@rule("_mixed_dtypes_linear", klass="gemm")
def mixed_dtypes_linear(
    input: T, weight: T, scale: T, *, bias: T | None = None, activation: str | None = None, out: Out
) -> Cost:
    # [*m, k] @ int8 or int4 [k, n] * [n] (+ [n])
    extra = 1 + (bias is not None) + (activation not in (None, "none"))
    return Cost.of(packed_mm(input, out), extra=extra * first(out).numel)


# --- two of each four weights: only those that are stored are multiplied


@rule("_sparse_semi_structured_linear", klass="gemm")
def half_linear(
    input: T, weight: T, meta: T, *, bias: T | None = None, activation: str | None = None, out: Out, **_: Any
) -> Cost:
    # [*m, k] @ stored [n, k / 2]^T (+ [n]) -> [*m, n]
    y = first(out)
    extra = (bias is not None) + (activation not in (None, "none"))
    return Cost.of(Gemm(1, prod(y.shape[:-1]), y.shape[-1], weight.shape[-1]), extra=extra * y.numel)


@rule("_sparse_semi_structured_mm", klass="gemm")
def half_mm(mat1: T, mat1_meta: T, mat2: T, *, out: Out, **_: Any) -> Cost:
    # stored [m, k / 2] @ [k, n] -> [m, n]
    return Cost.of(Gemm(1, mat1.shape[0], mat2.shape[1], mat1.shape[1]))


@rule("_sparse_semi_structured_addmm", klass="gemm")
def half_addmm(input: T, mat1: T, mat1_meta: T, mat2: T, *, alpha: float = 1, beta: float = 1, out: Out, **_: Any) -> Cost:
    # beta * [m] + alpha * stored [m, k / 2] @ [k, n] -> [m, n]
    return Cost.of(Gemm(1, mat1.shape[0], mat2.shape[1], mat1.shape[1]), extra=_scaling(first(out), beta, alpha))


def _stored_times(dense: T, bias: T | None, out: Out, turned: bool) -> Cost:
    # [n, k / 2] stored @ dense [rows, k]^T, or [k, rows]
    rows, k = dense.shape if turned else dense.shape[::-1]
    y = first(out)
    return Cost.of(Gemm(1, rows, y.numel // max(rows, 1), k // 2), extra=0 if bias is None else y.numel)


@rule("semi_structured.cutlass_mm", klass="gemm")
def cutlass_mm(
    dense: T, packed: T, meta: T, bias: T | None, n: int, rows: int, columns: int, turned: bool, *, out: Out
) -> Cost:
    return _stored_times(dense, bias, out, turned)


@rule("semi_structured.cusparselt_mm", klass="gemm")
def cusparselt_mm(dense: T, packed: T, bias: T | None, n: int, *args: Any, out: Out) -> Cost:
    # least rows and columns, whether the result comes turned, which algorithm, whether `dense` is turned
    return _stored_times(dense, bias, out, bool(args[4]) if len(args) > 4 else False)


@rule("_cslt_sparse_mm", klass="gemm")
def cslt_sparse_mm(compressed_A: T, dense_B: T, bias: T | None = None, *_: Any, out: Out, **__: Any) -> Cost:
    # stored [m, k / 2] and where they stand, in one @ [k, n] (+ [m]) -> [m, n], or the other way round
    k, n = dense_B.shape
    y = first(out)
    return Cost.of(Gemm(1, y.numel // max(n, 1), n, k // 2), extra=0 if bias is None else y.numel)


def _grouped(self: T, mat2: T) -> Gemm:
    # rows of each group meet that group's matrix alone, so the groups' sizes (data) cancel out of the product
    if len(self.shape) == 2 and len(mat2.shape) == 3:  # [sum of m_g, k] @ [g, k, n]
        return Gemm(1, self.shape[0], mat2.shape[2], self.shape[1])
    if len(self.shape) == 3 and len(mat2.shape) == 2:  # [g, m, k] @ [k, sum of n_g]
        return Gemm(1, self.shape[1], mat2.shape[1], self.shape[2])
    if len(self.shape) == 2:  # [m, sum of k_g] @ [sum of k_g, n] -> [g, m, n]
        return Gemm(1, self.shape[0], mat2.shape[1], self.shape[1])
    return _bmm(self, mat2)


@rule("_grouped_mm", klass="gemm")
def grouped_mm(self: T, mat2: T, offs: T | None = None, bias: T | None = None, *_: Any, out: Out, **__: Any) -> Cost:
    # experts side by side: every row passes through one matrix
    return Cost.of(_grouped(self, mat2), extra=0 if bias is None else first(out).numel)


@rule("_scaled_grouped_mm", "_scaled_grouped_mm_v2", klass="gemm")
def scaled_grouped_mm(self: T, mat2: T, *_: Any, out: Out, **__: Any) -> Cost:
    # as _grouped_mm, with two scales per output
    return Cost.of(_grouped(self, mat2), extra=2 * first(out).numel)
