"""Matrix products: b independent [m, k] @ [k, n]."""

from __future__ import annotations

from typing import Any

from roofline.cost.registry import ZERO, Dims, Rule, Sizer, add, first, is_complex, matmul_work, prod, rule, total
from roofline.records import TensorSpec, Work

T = TensorSpec
Out = TensorSpec | tuple[TensorSpec, ...]


def _product(dims: Dims) -> int:
    return dims["b"] * dims["m"] * dims["n"] * dims["k"]


def _gemm(*names: str, dims: Sizer) -> None:
    """Enter operators that are a product and nothing else."""

    def count(*args: Any, out: Out, **kwargs: Any) -> Work:
        return matmul_work(_product(dims(*args, out=out, **kwargs)), args[0])

    add(names, Rule(count, "gemm", dims))


def _mm(self: T, mat2: T, *_: Any, **__: Any) -> Dims:
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


_gemm("mm", "_int_mm", "_sparse_mm", "smm", "hspmm", "_sparse_sparse_matmul", dims=_mm)
_gemm("bmm", dims=_bmm)
_gemm("mv", dims=_mv)
_gemm("dot", "vdot", dims=_dot)
_gemm("matmul", "linalg_matmul", "__matmul__", "__rmatmul__", dims=matmul_dims)


@rule("outer", "ger", klass="pointwise")
def outer(self: T, vec2: T, *, out: Out, **_: Any) -> Work:
    # [m] x [n] -> [m, n]: products only, nothing is summed
    return Work(first(out).numel * (6 if is_complex(self) else 1), 0)


@rule("inner", klass="gemm")
def inner(self: T, other: T, *, out: Out, **_: Any) -> Work:
    # [*i, k] . [*j, k] -> [*i, *j]; a scalar multiplies
    if not self.shape or not other.shape:
        return Work(first(out).numel, 0)
    return matmul_work(first(out).numel * self.shape[-1], self)


@rule("linalg_vecdot", klass="gemm")
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
    return matmul_work(_product(_linear_dims(input, weight)), input, 0 if bias is None else first(out).numel)


def _scaling(out: T, beta: float, alpha: float) -> int:
    """FLOPs of beta * self + alpha * product: an add, and a multiply for each factor that is not 1. Beta 0 leaves self out."""
    return out.numel * ((beta != 0) + (beta not in (0, 1)) + (alpha != 1))


def _accumulating(*names: str, dims: Sizer) -> None:
    def sizes(self: T, a: T, b: T, *_: Any, out: Out, **__: Any) -> Dims:
        return dims(a, b)

    def count(self: T, a: T, b: T, *_: Any, beta: float = 1, alpha: float = 1, out: Out, **__: Any) -> Work:
        # beta * self + alpha * (a @ b)
        return matmul_work(_product(dims(a, b)), a, _scaling(first(out), beta, alpha))

    add(names, Rule(count, "gemm", sizes))


_accumulating("addmm", "_sparse_addmm", "sspaddmm", "sparse_sampled_addmm", dims=_mm)
_accumulating("baddbmm", dims=_bmm)
_accumulating("addmv", dims=_mv)


def _activation_dims(self: T, mat1: T, mat2: T, *_: Any, **__: Any) -> Dims:
    return _mm(mat1, mat2)


@rule("_addmm_activation", klass="gemm", dims=_activation_dims)
def addmm_activation(
    self: T, mat1: T, mat2: T, *, beta: float = 1, alpha: float = 1, use_gelu: bool = False, out: Out, **_: Any
) -> Work:
    # act([n] + [m, k] @ [k, n]): relu is 1 per element, gelu (tanh) 9
    y = first(out)
    return matmul_work(_product(_mm(mat1, mat2)), mat1, _scaling(y, beta, alpha) + y.numel * (9 if use_gelu else 1))


@rule("addbmm", klass="gemm")
def addbmm(self: T, batch1: T, batch2: T, *, beta: float = 1, alpha: float = 1, out: Out, **_: Any) -> Work:
    # [m, n] + sum over b of [b, m, k] @ [b, k, n]: the sum over b is part of the accumulation
    return matmul_work(_product(_bmm(batch1, batch2)), batch1, _scaling(first(out), beta, alpha))


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
    return matmul_work(_product(d), self, 2 * d["n"] * d["k"])


@rule("_weight_int8pack_mm", klass="gemm", dims=packed_dims)
def weight_int8pack_mm(self: T, mat2: T, scales: T, *, out: Out, **_: Any) -> Work:
    # [m, k] @ [n, k]^T * [n] -> [m, n]
    return matmul_work(_product(packed_dims(self, out=out)), self, first(out).numel)


@rule("_dyn_quant_matmul_4bit", klass="gemm", dims=packed_dims)
def dyn_quant_matmul_4bit(inp: T, packed_weights: T, block_size: int, in_features: int, out_features: int, *, out: Out) -> Work:
    # the input is quantised row by row (range 2, scale and round 3), the product is scaled per block
    d = packed_dims(inp, out=out)
    return matmul_work(_product(d), inp, 5 * inp.numel + first(out).numel * max(1, in_features // max(block_size, 1)))


@rule("_scaled_mm", klass="gemm", dims=_mm)
def scaled_mm(self: T, mat2: T, scale_a: T, scale_b: T, bias: T | None = None, *_: Any, out: Out, **__: Any) -> Work:
    # ([m, k] @ [k, n]) * a * b (+ bias): two multiplies per output for the scales
    return matmul_work(_product(_mm(self, mat2)), self, first(out).numel * (2 + (bias is not None)))


@rule("_scaled_mm_v2", klass="gemm", dims=_mm)
def scaled_mm_v2(self: T, mat2: T, *_: Any, out: Out, bias: T | None = None, **__: Any) -> Work:
    # ([m, k] @ [k, n]) * a * b
    return matmul_work(_product(_mm(self, mat2)), self, first(out).numel * 2)


@rule("_mixed_dtypes_linear", klass="gemm", dims=packed_dims)
def mixed_dtypes_linear(
    input: T, weight: T, scale: T, *, bias: T | None = None, activation: str | None = None, out: Out
) -> Work:
    # [*m, k] @ int8 or int4 [k, n] * [n] (+ [n])
    extra = 1 + (bias is not None) + (activation not in (None, "none"))
    return matmul_work(_product(packed_dims(input, out=out)), input, extra * first(out).numel)


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
    return matmul_work(_product(_grouped_dims(self, mat2, out=out)), self, 0 if bias is None else first(out).numel)


@rule("_scaled_grouped_mm", "_scaled_grouped_mm_v2", klass="gemm", dims=_grouped_dims)
def scaled_grouped_mm(self: T, mat2: T, *_: Any, out: Out, **__: Any) -> Work:
    # as _grouped_mm, with two scales per output
    return matmul_work(_product(_grouped_dims(self, mat2, out=out)), self, 2 * first(out).numel)


# --- composites


def parse_einsum(equation: str, shapes: list[tuple[int, ...]]) -> tuple[list[list[str]], list[str], dict[str, int]]:
    """Index names per operand, the output's, and the size of each; an ellipsis becomes names '0', '1', ... from the right."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    sizes: dict[str, int] = {}
    operands: list[list[str]] = []
    widest = 0
    for term, shape in zip(left.split(","), shapes, strict=True):
        before, dots, after = term.partition("...")
        hidden = len(shape) - len(before) - len(after) if dots else 0
        widest = max(widest, hidden)
        names = [*before, *(str(hidden - 1 - i) for i in range(hidden)), *after]
        for name, size in zip(names, shape, strict=True):
            sizes[name] = size if sizes.get(name, 1) == 1 else sizes[name]
        operands.append(names)
    ellipsis = [str(widest - 1 - i) for i in range(widest)]
    if arrow:
        before, dots, after = right.partition("...")
        return operands, [*before, *(ellipsis if dots else ()), *after], sizes
    once = sorted(n for n in sizes if not n.isdigit() and sum(t.count(n) for t in operands) == 1)
    return operands, ellipsis + once, sizes


@rule("einsum", klass="gemm")
def einsum(equation: str, tensors: list[T], *, path: list[int] | None = None, out: Out, **_: Any) -> Work:
    # Operands are contracted two at a time, left to right (or along `path`), as torch does. For each pair, indices that one
    # operand alone has and nobody needs later are summed away first (adds); then every combination of the indices left is one
    # multiply-accumulate, or one multiply where the pair sums over nothing. A size of 1 stretches, so it is no index at all.
    operands, result, sizes = parse_einsum(equation, [t.shape for t in tensors])
    if 0 in sizes.values():
        return ZERO
    stack = [{n: s for n, s in zip(names, t.shape, strict=True) if s > 1} for names, t in zip(operands, tensors, strict=True)]
    macs = other = 0
    steps = list(path or ())
    while len(stack) > 1:
        i, j = sorted((steps.pop(0), steps.pop(0))) if steps else (0, 1)
        b, a = stack.pop(j), stack.pop(i)
        needed = set(result).union(*stack)
        for own, partner in ((a, b), (b, a)):
            alone = own.keys() - partner.keys() - needed
            if alone:
                other += prod(own.values())
                for name in alone:
                    del own[name]
        pairs = a | b
        if a.keys() & b.keys() <= needed:
            other += prod(pairs.values())
        else:
            macs += prod(pairs.values())
        product = {n: s for n, s in pairs.items() if n in needed}
        stack = [*stack, product] if path else [product, *stack]
    if stack[0].keys() - set(result):
        other += prod(stack[0].values())
    return matmul_work(macs, tensors[0], other)


@rule("tensordot", klass="gemm")
def tensordot(self: T, other: T, dims_self: list[int], dims_other: list[int], *, out: Out, **_: Any) -> Work:
    # [*i, *k] . [*k, *j] -> [*i, *j]
    return matmul_work(first(out).numel * prod(self.shape[d] for d in dims_self), self)


@rule("kron", klass="pointwise")
def kron(self: T, other: T, *, out: Out, **_: Any) -> Work:
    # every element times every element
    return Work(first(out).numel, 0)


@rule("chain_matmul", "linalg_multi_dot", klass="gemm")
def multi_dot(matrices: list[T], *, out: Out, **_: Any) -> Work:
    # [d0, d1] @ [d1, d2] @ ...: torch takes the cheapest order (dynamic programming over the splits)
    shapes = [t.shape for t in matrices]
    if len(shapes[0]) == 1:
        shapes[0] = (1, *shapes[0])
    if len(shapes[-1]) == 1:
        shapes[-1] = (*shapes[-1], 1)
    d = [shapes[0][0], *(s[1] for s in shapes)]
    n = len(shapes)
    cost = [[0] * n for _ in range(n)]
    for width in range(1, n):
        for i in range(n - width):
            j = i + width
            cost[i][j] = min(cost[i][k] + cost[k + 1][j] + d[i] * d[k + 1] * d[j + 1] for k in range(i, j))
    return matmul_work(cost[0][-1], matrices[0])


@rule("bilinear", klass="gemm")
def bilinear(input1: T, input2: T, weight: T, bias: T | None = None, *, out: Out, **_: Any) -> Work:
    # [*b, i], [o, i, j], [*b, j] -> [*b, o]: x^T W first (i*j*o), then its product with y (j*o)
    o, i, j = weight.shape
    rows = prod(input1.shape[:-1])
    return matmul_work(rows * (i * j * o + j * o), input1, 0 if bias is None else first(out).numel)


@rule("_trilinear", klass="gemm")
def trilinear(
    i1: T,
    i2: T,
    i3: T,
    expand1: list[int],
    expand2: list[int],
    expand3: list[int],
    sumdim: list[int],
    unroll_dim: int = 1,
    *,
    out: Out,
    **_: Any,
) -> Work:
    # sum over sumdim of i1 * i2 * i3, each expanded by dimensions of size 1: a product of two, then one multiply-accumulate
    def expanded(t: T, dims: list[int]) -> tuple[int, ...]:
        shape = list(t.shape)
        for d in sorted(dims):
            shape.insert(d, 1)
        return tuple(shape)

    points = prod(broadcast(expanded(i1, expand1), expanded(i2, expand2), expanded(i3, expand3)))
    return matmul_work(points, i1, points)


@rule("linear_backward", "mkldnn_linear_backward", klass="gemm")
def linear_backward(self: T, grad_output: T, weight: T, output_mask: list[bool], *, out: Out, **_: Any) -> Work:
    # x [*m, k], grad [*m, n], W [n, k]: dx = grad @ W, dW = grad^T @ x, each one forward; db sums grad
    wanted = bool(output_mask[0]) + bool(output_mask[1])
    return matmul_work(wanted * grad_output.numel * weight.shape[-1], self, grad_output.numel if output_mask[2] else 0)


@rule("matmul_backward", klass="gemm")
def matmul_backward(grad: T, self: T, other: T, mask: list[bool], *, out: Out, **_: Any) -> Work:
    # each gradient is a product of the forward's size
    return matmul_work(sum(map(bool, mask)) * _product(matmul_dims(self, other)), self)


@rule("mkldnn._linear_pointwise", "mkl._mkl_linear", klass="gemm", dims=packed_dims)
def onednn_linear(x: T, *args: Any, out: Out, **_: Any) -> Work:
    # [*m, k] @ [n, k]^T -> [*m, n], with a bias or another summand where more than the weight is given
    tensors = sum(isinstance(a, T) for a in args)
    return matmul_work(_product(packed_dims(x, out=out)), x, first(out).numel if tensors > 1 else 0)


@rule("inductor._mm_plus_mm", klass="gemm")
def mm_plus_mm(a: T, b: T, c: T, d: T, *_: Any, out: Out, **__: Any) -> Work:
    # [m, k] @ [k, n] + [m, j] @ [j, n]
    return matmul_work(_product(_mm(a, b)) + _product(_mm(c, d)), a, first(out).numel)


@rule("_foreach_mm", klass="gemm")
def foreach_mm(self: list[T], mat2: list[T], *, out: Out, **_: Any) -> Work:
    # list of [m, k] @ [k, n]
    return matmul_work(sum(_product(matmul_dims(a, b)) for a, b in zip(self, mat2, strict=True)), self[0])


@rule("cdist", "_cdist_forward", klass="gemm")
def cdist(x1: T, x2: T, p: float = 2.0, compute_mode: int | None = None, *, out: Out, **_: Any) -> Work:
    # [*b, p, m], [*b, r, m] -> [*b, p, r]. Where p = 2 and a side is over 25, torch uses |x|^2 - 2 x.y + |y|^2
    y = first(out)
    m, big = x1.shape[-1], x1.shape[-2] > 25 or x2.shape[-2] > 25
    if p == 2.0 and (compute_mode == 1 or (compute_mode in (None, 0) and big)):
        return matmul_work(y.numel * m, x1, 2 * (total(x1) + total(x2)) + 4 * y.numel)
    return Work(y.numel * (3 * m + 1), 0)  # difference, power, sum; one root
