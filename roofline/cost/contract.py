"""Operators that are several matrix products, or one in disguise: einsum, chains, bilinear forms, gradients, distances."""

from __future__ import annotations

from typing import Any

from roofline.cost.matmul import Out, T, broadcast, macs_of, matmul_dims, mm_dims, packed_dims
from roofline.cost.registry import Dims, first, matmul_work, prod, rule, total
from roofline.records import Work


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


def _contract(equation: str, tensors: list[T], path: list[int] | None) -> tuple[list[Dims], int]:
    """The products of an einsum, and its other FLOPs.

    Operands are contracted two at a time, left to right (or along `path`), as torch does. For each pair, indices that one
    operand alone has and nobody needs later are summed away first (adds); then every combination of the indices left is one
    multiply-accumulate, or one multiply where the pair sums over nothing. A size of 1 stretches, so it is no index at all.
    """
    operands, result, sizes = parse_einsum(equation, [t.shape for t in tensors])
    if 0 in sizes.values():
        return [], 0
    stack = [{n: s for n, s in zip(names, t.shape, strict=True) if s > 1} for names, t in zip(operands, tensors, strict=True)]
    found: list[Dims] = []
    other = 0
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
            summed = {n for n in a.keys() & b.keys() if n not in needed}
            sides = [prod(s for n, s in own.items() if n not in partner) for own, partner in ((a, b), (b, a))]
            both = prod(s for n, s in a.items() if n in b and n in needed)
            found.append({"b": both, "m": sides[0], "n": sides[1], "k": prod(pairs[n] for n in summed)})
        product = {n: s for n, s in pairs.items() if n in needed}
        stack = [*stack, product] if path else [product, *stack]
    if stack[0].keys() - set(result):
        other += prod(stack[0].values())
    return found, other


def _einsum_products(equation: str, tensors: list[T], *, path: list[int] | None = None, out: Out, **_: Any) -> list[Dims]:
    return _contract(equation, tensors, path)[0]


@rule("einsum", klass="gemm", products=_einsum_products)
def einsum(equation: str, tensors: list[T], *, path: list[int] | None = None, out: Out, **_: Any) -> Work:
    # [*], [*], ... -> [*]
    found, other = _contract(equation, tensors, path)
    return matmul_work(sum(map(macs_of, found)), tensors[0], other)


def _tensordot_dims(self: T, other: T, dims_self: list[int], dims_other: list[int], *, out: Out, **_: Any) -> Dims:
    k = prod(self.shape[d] for d in dims_self)
    return {"b": 1, "m": self.numel // max(k, 1), "n": other.numel // max(k, 1), "k": k}


@rule("tensordot", klass="gemm", dims=_tensordot_dims)
def tensordot(self: T, other: T, dims_self: list[int], dims_other: list[int], *, out: Out, **_: Any) -> Work:
    # [*i, *k] . [*k, *j] -> [*i, *j]
    return matmul_work(first(out).numel * prod(self.shape[d] for d in dims_self), self)


@rule("kron", klass="pointwise")
def kron(self: T, other: T, *, out: Out, **_: Any) -> Work:
    # every element times every element
    return Work(first(out).numel, 0)


def _chain(matrices: list[T], *, out: Out, **_: Any) -> list[Dims]:
    """[d0, d1] @ [d1, d2] @ ...: torch takes the cheapest order (dynamic programming over the splits)."""
    shapes = [t.shape for t in matrices]
    if len(shapes[0]) == 1:
        shapes[0] = (1, *shapes[0])
    if len(shapes[-1]) == 1:
        shapes[-1] = (*shapes[-1], 1)
    d = [shapes[0][0], *(s[1] for s in shapes)]
    n = len(shapes)
    cost = [[0] * n for _ in range(n)]
    products: list[list[list[Dims]]] = [[[] for _ in range(n)] for _ in range(n)]
    for width in range(1, n):
        for i in range(n - width):
            j = i + width
            cost[i][j], at = min((cost[i][k] + cost[k + 1][j] + d[i] * d[k + 1] * d[j + 1], k) for k in range(i, j))
            last = {"b": 1, "m": d[i], "n": d[j + 1], "k": d[at + 1]}
            products[i][j] = [*products[i][at], *products[at + 1][j], last]
    return products[0][-1]


@rule("chain_matmul", "linalg_multi_dot", klass="gemm", products=_chain)
def multi_dot(matrices: list[T], *, out: Out, **_: Any) -> Work:
    # [d0, d1] @ [d1, d2] @ ...
    return matmul_work(sum(map(macs_of, _chain(matrices, out=out))), matrices[0])


def _bilinear_products(input1: T, input2: T, weight: T, bias: T | None = None, *, out: Out, **_: Any) -> list[Dims]:
    o, i, j = weight.shape
    rows = prod(input1.shape[:-1])
    return [{"b": 1, "m": rows, "n": j * o, "k": i}, {"b": rows, "m": 1, "n": o, "k": j}]


@rule("bilinear", klass="gemm", products=_bilinear_products)
def bilinear(input1: T, input2: T, weight: T, bias: T | None = None, *, out: Out, **_: Any) -> Work:
    # [*b, i], [o, i, j], [*b, j] -> [*b, o]: x^T W first (i*j*o), then its product with y (j*o)
    products = _bilinear_products(input1, input2, weight, bias, out=out)
    return matmul_work(sum(map(macs_of, products)), input1, 0 if bias is None else first(out).numel)


def _points(tensors: tuple[T, T, T], expand: tuple[list[int], list[int], list[int]]) -> int:
    shapes = []
    for t, dims in zip(tensors, expand, strict=True):
        shape = list(t.shape)
        for d in sorted(dims):
            shape.insert(d, 1)
        shapes.append(tuple(shape))
    return prod(broadcast(*shapes))


def _trilinear_products(
    i1: T, i2: T, i3: T, expand1: list[int], expand2: list[int], expand3: list[int], *_: Any, out: Out, **__: Any
) -> list[Dims]:
    rows = max(first(out).numel, 1)
    return [{"b": rows, "m": 1, "n": 1, "k": _points((i1, i2, i3), (expand1, expand2, expand3)) // rows}]


@rule("_trilinear", klass="gemm", products=_trilinear_products)
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
    points = _points((i1, i2, i3), (expand1, expand2, expand3))
    return matmul_work(points, i1, points)


def _linear_gradients(self: T, grad_output: T, weight: T, output_mask: list[bool], *, out: Out, **_: Any) -> list[Dims]:
    n, k = weight.shape
    rows = grad_output.numel // max(n, 1)
    both = [{"b": 1, "m": rows, "n": k, "k": n}, {"b": 1, "m": n, "n": k, "k": rows}]
    return [d for d, wanted in zip(both, output_mask, strict=False) if wanted]


@rule("linear_backward", "mkldnn_linear_backward", klass="gemm", products=_linear_gradients)
def linear_backward(self: T, grad_output: T, weight: T, output_mask: list[bool], *, out: Out, **_: Any) -> Work:
    # x [*m, k], grad [*m, n], W [n, k]: dx = grad @ W, dW = grad^T @ x, each one forward; db sums grad
    wanted = bool(output_mask[0]) + bool(output_mask[1])
    return matmul_work(wanted * grad_output.numel * weight.shape[-1], self, grad_output.numel if output_mask[2] else 0)


def _matmul_gradients(grad: T, self: T, other: T, mask: list[bool], *, out: Out, **_: Any) -> list[Dims]:
    d = matmul_dims(self, other)
    both = [d | {"n": d["k"], "k": d["n"]}, d | {"m": d["k"], "k": d["m"]}]
    return [product for product, wanted in zip(both, mask, strict=True) if wanted]


@rule("matmul_backward", klass="gemm", products=_matmul_gradients)
def matmul_backward(grad: T, self: T, other: T, mask: list[bool], *, out: Out, **_: Any) -> Work:
    # each gradient is a product of the forward's size
    return matmul_work(sum(map(bool, mask)) * macs_of(matmul_dims(self, other)), self)


@rule("mkldnn._linear_pointwise", "mkl._mkl_linear", klass="gemm", dims=packed_dims)
def onednn_linear(x: T, *args: Any, out: Out, **_: Any) -> Work:
    # [*m, k] @ [n, k]^T -> [*m, n], with a bias or another summand where more than the weight is given
    tensors = sum(isinstance(a, T) for a in args)
    return matmul_work(macs_of(packed_dims(x, out=out)), x, first(out).numel if tensors > 1 else 0)


def _two(a: T, b: T, c: T, d: T, *_: Any, out: Out, **__: Any) -> list[Dims]:
    return [mm_dims(a, b), mm_dims(c, d)]


@rule("inductor._mm_plus_mm", klass="gemm", products=_two)
def mm_plus_mm(a: T, b: T, c: T, d: T, *_: Any, out: Out, **__: Any) -> Work:
    # [m, k] @ [k, n] + [m, j] @ [j, n]
    return matmul_work(macs_of(mm_dims(a, b)) + macs_of(mm_dims(c, d)), a, first(out).numel)


def _each(self: list[T], mat2: list[T], *, out: Out, **_: Any) -> list[Dims]:
    return [matmul_dims(a, b) for a, b in zip(self, mat2, strict=True)]


@rule("_foreach_mm", klass="gemm", products=_each)
def foreach_mm(self: list[T], mat2: list[T], *, out: Out, **_: Any) -> Work:
    # list of [m, k] @ [k, n]
    return matmul_work(sum(macs_of(matmul_dims(a, b)) for a, b in zip(self, mat2, strict=True)), self[0])


def _distances(x1: T, x2: T, p: float = 2.0, compute_mode: int | None = None, *, out: Out, **_: Any) -> list[Dims]:
    """Where p = 2 and a side is over 25, torch uses |x|^2 - 2 x.y + |y|^2; else there is no product."""
    rows, columns = x1.shape[-2], x2.shape[-2]
    if p == 2.0 and (compute_mode == 1 or (compute_mode in (None, 0) and max(rows, columns) > 25)):
        return [{"b": first(out).numel // max(rows * columns, 1), "m": rows, "n": columns, "k": x1.shape[-1]}]
    return []


@rule("cdist", "_cdist_forward", klass="gemm", products=_distances)
def cdist(x1: T, x2: T, p: float = 2.0, compute_mode: int | None = None, *, out: Out, **_: Any) -> Work:
    # [*b, p, m], [*b, r, m] -> [*b, p, r]
    y, m = first(out), x1.shape[-1]
    if _distances(x1, x2, p, compute_mode, out=out):
        return matmul_work(y.numel * m, x1, 2 * (total(x1) + total(x2)) + 4 * y.numel)
    return Work(y.numel * (3 * m + 1), 0)  # difference, power, sum; one root
