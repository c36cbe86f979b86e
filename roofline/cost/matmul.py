"""Matrix products: b independent [m, k] @ [k, n]."""

from __future__ import annotations

from typing import Any

from roofline.cost.registry import Dims, Rule, Sizer, add, first, is_complex, matmul_work, prod, rule
from roofline.records import TensorSpec, Work

T = TensorSpec
Out = TensorSpec | tuple[TensorSpec, ...]


def macs_of(dims: Dims) -> int:
    return dims["b"] * dims["m"] * dims["n"] * dims["k"]


def _gemm(*names: str, dims: Sizer) -> None:
    """Enter operators that are a product and nothing else."""

    def count(*args: Any, out: Out, **kwargs: Any) -> Work:
        return matmul_work(macs_of(dims(*args, out=out, **kwargs)), args[0])

    add(names, Rule(count, "gemm", dims))


def mm_dims(self: T, mat2: T, *_: Any, **__: Any) -> Dims:
    # [m, k] @ [k, n] -> [m, n]
    (m, k), n = self.shape, mat2.shape[-1]
    return {"b": 1, "m": m, "n": n, "k": k}


def _bmm(self: T, mat2: T, *_: Any, **__: Any) -> Dims:
    # [b, m, k] @ [b, k, n] -> [b, m, n]
    (b, m, k), n = self.shape, mat2.shape[-1]
    return {"b": b, "m": m, "n": n, "k": k}


def _mv(self: T, vec: T, *_: Any, **__: Any) -> Dims:
    # [m, k] @ [k] -> [m]
    m, k = self.shape
    return {"b": 1, "m": m, "n": 1, "k": k}


def _dot(self: T, tensor: T, *_: Any, **__: Any) -> Dims:
    # [k] . [k] -> []
    return {"b": 1, "m": 1, "n": 1, "k": self.numel}


def _outer(self: T, vec2: T, *_: Any, **__: Any) -> Dims:
    # [m] x [n] -> [m, n]
    return {"b": 1, "m": self.numel, "n": vec2.numel, "k": 1}


def matmul_dims(self: T, other: T, *_: Any, **__: Any) -> Dims:
    # [*b, m, k] @ [*b, k, n]; a vector is one row on the left, one column on the right
    left = self.shape if len(self.shape) > 1 else (1, *self.shape)
    right = other.shape if len(other.shape) > 1 else (*other.shape, 1)
    if len(right) == 2:  # one matrix for all: the batch joins the rows
        return {"b": 1, "m": prod(left[:-1]), "n": right[1], "k": left[-1]}
    return {"b": prod(broadcast(left[:-2], right[:-2])), "m": left[-2], "n": right[-1], "k": left[-1]}


def broadcast(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The common shape; a size of 1 stretches."""
    rank = max(map(len, shapes), default=0)
    columns = zip(*((1,) * (rank - len(s)) + tuple(s) for s in shapes), strict=True)
    return tuple(0 if 0 in c else max(c) for c in columns)


_gemm("mm", "_int_mm", "_sparse_mm", "smm", "hspmm", "_sparse_sparse_matmul", dims=mm_dims)
_gemm("bmm", dims=_bmm)
_gemm("mv", dims=_mv)
_gemm("dot", "vdot", dims=_dot)
_gemm("matmul", "linalg_matmul", "__matmul__", "__rmatmul__", dims=matmul_dims)


@rule("outer", "ger", klass="pointwise")
def outer(self: T, vec2: T, *, out: Out, **_: Any) -> Work:
    # [m] x [n] -> [m, n]: products only, nothing is summed
    return Work(first(out).numel * (6 if is_complex(self) else 1), 0)


def _inner(self: T, other: T, *, out: Out, **_: Any) -> list[Dims]:
    if not self.shape or not other.shape:
        return []
    return [{"b": 1, "m": prod(self.shape[:-1]), "n": prod(other.shape[:-1]), "k": self.shape[-1]}]


@rule("inner", klass="gemm", products=_inner)
def inner(self: T, other: T, *, out: Out, **_: Any) -> Work:
    # [*i, k] . [*j, k] -> [*i, *j]; a scalar multiplies
    if not self.shape or not other.shape:
        return Work(first(out).numel, 0)
    return matmul_work(first(out).numel * self.shape[-1], self)


def _vecdot(x: T, y: T, *, dim: int = -1, out: Out, **_: Any) -> list[Dims]:
    rows = first(out).numel
    return [{"b": rows, "m": 1, "n": 1, "k": prod(broadcast(x.shape, y.shape)) // max(rows, 1)}]


@rule("linalg_vecdot", klass="gemm", products=_vecdot)
def vecdot(x: T, y: T, *, dim: int = -1, out: Out, **_: Any) -> Work:
    # [*b, k] . [*b, k] -> [*b]
    return matmul_work(prod(broadcast(x.shape, y.shape)), x)


# --- with a bias or an accumulator


def _linear_dims(input: T, weight: T, bias: T | None = None, *_: Any, **__: Any) -> Dims:
    # [*m, k] @ [n, k]^T -> [*m, n]; a weight [k] gives one number a row
    k = weight.shape[-1]
    return {"b": 1, "m": prod(input.shape[:-1]), "n": prod(weight.shape[:-1]), "k": k}


@rule("linear", "mkldnn_linear", klass="gemm", dims=_linear_dims)
def linear(input: T, weight: T, bias: T | None = None, *_: Any, out: Out, **__: Any) -> Work:
    # [*m, k] @ [n, k]^T (+ [n]) -> [*m, n]
    return matmul_work(macs_of(_linear_dims(input, weight)), input, 0 if bias is None else first(out).numel)


def _scaling(out: T, beta: float, alpha: float) -> int:
    """FLOPs of beta * self + alpha * product: an add, and a multiply for each factor that is not 1. Beta 0 leaves self out."""
    return out.numel * ((beta != 0) + (beta not in (0, 1)) + (alpha != 1))


def _accumulating(*names: str, dims: Sizer) -> None:
    def sizes(self: T, a: T, b: T, *_: Any, out: Out, **__: Any) -> Dims:
        return dims(a, b)

    def count(self: T, a: T, b: T, *_: Any, beta: float = 1, alpha: float = 1, out: Out, **__: Any) -> Work:
        # beta * self + alpha * (a @ b)
        return matmul_work(macs_of(dims(a, b)), a, _scaling(first(out), beta, alpha))

    add(names, Rule(count, "gemm", sizes))


_accumulating("addmm", "_sparse_addmm", "sspaddmm", "sparse_sampled_addmm", dims=mm_dims)
_accumulating("baddbmm", dims=_bmm)
_accumulating("addmv", dims=_mv)


def _activation_dims(self: T, mat1: T, mat2: T, *_: Any, **__: Any) -> Dims:
    return mm_dims(mat1, mat2)


@rule("_addmm_activation", klass="gemm", dims=_activation_dims)
def addmm_activation(
    self: T, mat1: T, mat2: T, *, beta: float = 1, alpha: float = 1, use_gelu: bool = False, out: Out, **_: Any
) -> Work:
    # act([n] + [m, k] @ [k, n]): relu is 1 per element, gelu (tanh) 9
    y = first(out)
    return matmul_work(macs_of(mm_dims(mat1, mat2)), mat1, _scaling(y, beta, alpha) + y.numel * (9 if use_gelu else 1))


def _addbmm(self: T, batch1: T, batch2: T, *_: Any, out: Out, **__: Any) -> Dims:
    return _bmm(batch1, batch2)


@rule("addbmm", klass="gemm", dims=_addbmm)
def addbmm(self: T, batch1: T, batch2: T, *, beta: float = 1, alpha: float = 1, out: Out, **_: Any) -> Work:
    # [m, n] + sum over b of [b, m, k] @ [b, k, n]: the sum over b is part of the accumulation
    return matmul_work(macs_of(_bmm(batch1, batch2)), batch1, _scaling(first(out), beta, alpha))


@rule("addr", klass="pointwise")
def addr(self: T, vec1: T, vec2: T, *, beta: float = 1, alpha: float = 1, out: Out, **_: Any) -> Work:
    # [m, n] + [m] x [n]
    return Work(first(out).numel + _scaling(first(out), beta, alpha), 0)


# --- low-bit and scaled


def packed_dims(x: T, *_: Any, out: Out, **__: Any) -> Dims:
    # [*m, k] @ packed weight -> [*m, n]; the shapes of x and of the result say all
    return {"b": 1, "m": prod(x.shape[:-1]), "n": first(out).shape[-1], "k": x.shape[-1]}


@rule(
    "_weight_int4pack_mm",
    "_weight_int4pack_mm_for_cpu",
    "_weight_int4pack_mm_with_scales_and_zeros",
    "quantized.int4mm_packed_weight_cpu",
    klass="gemm",
    dims=packed_dims,
)
def weight_int4pack_mm(self: T, mat2: T, *_: Any, out: Out, **__: Any) -> Work:
    # [m, k] @ unpacked [k, n] -> [m, n]; each weight is unpacked once: scale and zero point
    d = packed_dims(self, out=out)
    return matmul_work(macs_of(d), self, 2 * d["n"] * d["k"])


@rule("_weight_int8pack_mm", klass="gemm", dims=packed_dims)
def weight_int8pack_mm(self: T, mat2: T, scales: T, *, out: Out, **_: Any) -> Work:
    # [m, k] @ [n, k]^T * [n] -> [m, n]
    return matmul_work(macs_of(packed_dims(self, out=out)), self, first(out).numel)


@rule("_dyn_quant_matmul_4bit", klass="gemm", dims=packed_dims)
def dyn_quant_matmul_4bit(inp: T, packed_weights: T, block_size: int, in_features: int, out_features: int, *, out: Out) -> Work:
    # the input is quantised row by row (range 2, scale and round 3), the product is scaled per block
    d = packed_dims(inp, out=out)
    return matmul_work(macs_of(d), inp, 5 * inp.numel + first(out).numel * max(1, in_features // max(block_size, 1)))


@rule("_scaled_mm", klass="gemm", dims=mm_dims)
def scaled_mm(self: T, mat2: T, scale_a: T, scale_b: T, bias: T | None = None, *_: Any, out: Out, **__: Any) -> Work:
    # ([m, k] @ [k, n]) * a * b (+ bias): two multiplies per output for the scales
    return matmul_work(macs_of(mm_dims(self, mat2)), self, first(out).numel * (2 + (bias is not None)))


@rule("_scaled_mm_v2", klass="gemm", dims=mm_dims)
def scaled_mm_v2(self: T, mat2: T, *_: Any, out: Out, bias: T | None = None, **__: Any) -> Work:
    # ([m, k] @ [k, n]) * a * b
    return matmul_work(macs_of(mm_dims(self, mat2)), self, first(out).numel * 2)


@rule("_mixed_dtypes_linear", klass="gemm", dims=packed_dims)
def mixed_dtypes_linear(
    input: T, weight: T, scale: T, *, bias: T | None = None, activation: str | None = None, out: Out
) -> Work:
    # [*m, k] @ int8 or int4 [k, n] * [n] (+ [n])
    extra = 1 + (bias is not None) + (activation not in (None, "none"))
    return matmul_work(macs_of(packed_dims(input, out=out)), input, extra * first(out).numel)


def _grouped_dims(self: T, mat2: T, *_: Any, out: Out, **__: Any) -> Dims:
    # rows of each group meet that group's matrix alone, so the groups' sizes (data) cancel out of the product
    if len(self.shape) == 2 and len(mat2.shape) == 3:  # [sum of m_g, k] @ [g, k, n]
        return {"b": 1, "m": self.shape[0], "n": mat2.shape[2], "k": self.shape[1]}
    if len(self.shape) == 3 and len(mat2.shape) == 2:  # [g, m, k] @ [k, sum of n_g]
        return {"b": 1, "m": self.shape[1], "n": mat2.shape[1], "k": self.shape[2]}
    if len(self.shape) == 2:  # [m, sum of k_g] @ [sum of k_g, n] -> [g, m, n]
        return {"b": 1, "m": self.shape[0], "n": mat2.shape[1], "k": self.shape[1]}
    return _bmm(self, mat2)


@rule("_grouped_mm", klass="gemm", dims=_grouped_dims)
def grouped_mm(self: T, mat2: T, offs: T | None = None, bias: T | None = None, *_: Any, out: Out, **__: Any) -> Work:
    # experts side by side: every row passes through one matrix
    return matmul_work(macs_of(_grouped_dims(self, mat2, out=out)), self, 0 if bias is None else first(out).numel)


@rule("_scaled_grouped_mm", "_scaled_grouped_mm_v2", klass="gemm", dims=_grouped_dims)
def scaled_grouped_mm(self: T, mat2: T, *_: Any, out: Out, **__: Any) -> Work:
    # as _grouped_mm, with two scales per output
    return matmul_work(macs_of(_grouped_dims(self, mat2, out=out)), self, 2 * first(out).numel)
