"""Operators that are several matrix products, or one in disguise: einsum, chains, bilinear forms, gradients, distances."""

from __future__ import annotations

from typing import Any

from roofline.cost.matmul import Out, T, broadcast, distances, matmul, mm, packed_mm
from roofline.cost.registry import Cost, first, prod, rule, total
from roofline.shapes import Gemm


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


def _contract(equation: str, tensors: list[T], path: list[int] | None) -> tuple[list[Gemm], int]:
    """The products of an einsum, and its other FLOPs.

    Operands are contracted two at a time, left to right (or along `path`), as torch does. For each pair, indices that one
    operand alone has and nobody needs later are summed away first (adds); then every combination of the indices left is one
    multiply-accumulate, or one multiply where the pair sums over nothing. A size of 1 stretches, so it is no index at all.
    """
    operands, result, sizes = parse_einsum(equation, [t.shape for t in tensors])
    if 0 in sizes.values():
        return [], 0
    stack = [{n: s for n, s in zip(names, t.shape, strict=True) if s > 1} for names, t in zip(operands, tensors, strict=True)]
    found: list[Gemm] = []
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
            found.append(Gemm(both, sides[0], sides[1], prod(pairs[n] for n in summed)))
        product = {n: s for n, s in pairs.items() if n in needed}
        stack = [*stack, product] if path else [product, *stack]
    if stack[0].keys() - set(result):
        other += prod(stack[0].values())
    return found, other


@rule("einsum", klass="gemm")
def einsum(equation: str, tensors: list[T], *, path: list[int] | None = None, out: Out, **_: Any) -> Cost:
    # [*], [*], ... -> [*]
    found, other = _contract(equation, tensors, path)
    return Cost.of(*found, extra=other)


@rule("tensordot", klass="gemm")
def tensordot(self: T, other: T, dims_self: list[int], dims_other: list[int], *, out: Out, **_: Any) -> Cost:
    # [*i, *k] . [*k, *j] -> [*i, *j]
    k = prod(self.shape[d] for d in dims_self)
    return Cost.of(Gemm(1, self.numel // max(k, 1), other.numel // max(k, 1), k))


@rule("kron", klass="pointwise")
def kron(self: T, other: T, *, out: Out, **_: Any) -> int:
    # every element times every element
    return first(out).numel


@rule("chain_matmul", "linalg_multi_dot", klass="gemm")
def multi_dot(matrices: list[T], *, out: Out, **_: Any) -> Cost:
    # [d0, d1] @ [d1, d2] @ ...: torch takes the cheapest order (dynamic programming over the splits)
    shapes = [t.shape for t in matrices]
    if len(shapes[0]) == 1:
        shapes[0] = (1, *shapes[0])
    if len(shapes[-1]) == 1:
        shapes[-1] = (*shapes[-1], 1)
    d = [shapes[0][0], *(s[1] for s in shapes)]
    n = len(shapes)
    cost = [[0] * n for _ in range(n)]
    products: list[list[list[Gemm]]] = [[[] for _ in range(n)] for _ in range(n)]
    for width in range(1, n):
        for i in range(n - width):
            j = i + width
            cost[i][j], at = min((cost[i][k] + cost[k + 1][j] + d[i] * d[k + 1] * d[j + 1], k) for k in range(i, j))
            products[i][j] = [*products[i][at], *products[at + 1][j], Gemm(1, d[i], d[j + 1], d[at + 1])]
    return Cost.of(*products[0][-1])


@rule("bilinear", klass="gemm")
def bilinear(input1: T, input2: T, weight: T, bias: T | None = None, *, out: Out, **_: Any) -> Cost:
    # [*b, i], [o, i, j], [*b, j] -> [*b, o]: x^T W first (i*j*o), then its product with y (j*o)
    o, i, j = weight.shape
    rows = prod(input1.shape[:-1])
    return Cost.of(Gemm(1, rows, j * o, i), Gemm(rows, 1, o, j), extra=0 if bias is None else first(out).numel)


def _points(tensors: tuple[T, T, T], expand: tuple[list[int], list[int], list[int]]) -> int:
    shapes = []
    for t, dims in zip(tensors, expand, strict=True):
        shape = list(t.shape)
        for d in sorted(dims):
            shape.insert(d, 1)
        shapes.append(tuple(shape))
    return prod(broadcast(*shapes))


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
) -> Cost:
    # sum over sumdim of i1 * i2 * i3, each expanded by dimensions of size 1: a product of two, then one multiply-accumulate
    rows, points = max(first(out).numel, 1), _points((i1, i2, i3), (expand1, expand2, expand3))
    return Cost.of(Gemm(rows, 1, 1, points // rows), extra=points)


@rule("linear_backward", "mkldnn_linear_backward", klass="gemm")
def linear_backward(self: T, grad_output: T, weight: T, output_mask: list[bool], *, out: Out, **_: Any) -> Cost:
    # x [*m, k], grad [*m, n], W [n, k]: dx = grad @ W, dW = grad^T @ x, each one forward; db sums grad
    n, k = weight.shape
    rows = grad_output.numel // max(n, 1)
    wanted = [g for g, yes in zip((Gemm(1, rows, k, n), Gemm(1, n, k, rows)), output_mask, strict=False) if yes]
    return Cost.of(*wanted, extra=grad_output.numel if output_mask[2] else 0)


@rule("matmul_backward", klass="gemm")
def matmul_backward(grad: T, self: T, other: T, mask: list[bool], *, out: Out, **_: Any) -> Cost:
    # each gradient is a product of the forward's size
    f = matmul(self, other)
    both = (Gemm(f.b, f.m, f.k, f.n), Gemm(f.b, f.k, f.n, f.m))
    return Cost.of(*[product for product, wanted in zip(both, mask, strict=True) if wanted])


@rule("mkldnn._linear_pointwise", "mkl._mkl_linear", klass="gemm")
def onednn_linear(x: T, *args: Any, out: Out, **_: Any) -> Cost:
    # [*m, k] @ [n, k]^T -> [*m, n], with a bias or another summand where more than the weight is given
    tensors = sum(isinstance(a, T) for a in args)
    return Cost.of(packed_mm(x, out), extra=first(out).numel if tensors > 1 else 0)


@rule("inductor._mm_plus_mm", klass="gemm")
def mm_plus_mm(a: T, b: T, c: T, d: T, *_: Any, out: Out, **__: Any) -> Cost:
    # [m, k] @ [k, n] + [m, j] @ [j, n]
    return Cost.of(mm(a, b), mm(c, d), extra=first(out).numel)


@rule("_foreach_mm", klass="gemm")
def foreach_mm(self: list[T], mat2: list[T], *, out: Out, **_: Any) -> Cost:
    # list of [m, k] @ [k, n]
    return Cost.of(*[matmul(a, b) for a, b in zip(self, mat2, strict=True)])


@rule("cdist", "_cdist_forward", klass="gemm")
def cdist(x1: T, x2: T, p: float = 2.0, compute_mode: int | None = None, *, out: Out, **_: Any) -> Cost:
    # [*b, p, m], [*b, r, m] -> [*b, p, r]
    y = first(out)
    if p == 2.0 and (compute_mode == 1 or (compute_mode in (None, 0) and max(x1.shape[-2], x2.shape[-2]) > 25)):
        # torch takes |x|^2 - 2 x.y + |y|^2 where a side is over 25
        return Cost.of(distances(x1, x2, y), extra=2 * (total(x1) + total(x2)) + 4 * y.numel)
    return Cost.of(extra=y.numel * (3 * x1.shape[-1] + 1))  # difference, power, sum; one root
