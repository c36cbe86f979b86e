"""Dense linear algebra: LAPACK's operation counts (LAPACK Working Note 41), leading terms, per matrix."""

from __future__ import annotations

from typing import Any

from roofline.cost.registry import Cost, Rule, add, first, prod, rule
from roofline.records import TensorSpec
from roofline.shapes import Gemm

T = TensorSpec
Out = TensorSpec | tuple[TensorSpec, ...]


def _matrices(a: T) -> tuple[int, int, int]:
    return prod(a.shape[:-2]), a.shape[-2], a.shape[-1]


def _square(*names: str, thirds: int) -> None:
    def count(self: T, *_: Any, out: Out, **__: Any) -> int:
        # [*, n, n]
        b, _m, n = _matrices(self)
        return b * thirds * n**3 // 3

    add(names, Rule(count, "other"))


_square("linalg_cholesky", "linalg_cholesky_ex", thirds=1)
_square(
    "linalg_lu_factor",
    "linalg_lu_factor_ex",
    "linalg_lu",
    "_lu_with_info",
    "linalg_det",
    "_linalg_det",
    "linalg_slogdet",
    "_linalg_slogdet",
    "slogdet",
    "det",
    "logdet",
    "linalg_ldl_factor",
    "linalg_ldl_factor_ex",
    thirds=2,
)
_square("inverse", "linalg_inv", "linalg_inv_ex", thirds=6)
_square("cholesky_inverse", thirds=2)
_square("linalg_eigvalsh", thirds=4)
_square("linalg_eigh", "_linalg_eigh", thirds=27)
_square("linalg_eigvals", "_linalg_eigvals", thirds=30)
_square("linalg_eig", thirds=75)
# scaling and squaring: about 8 products of 2 n^3 in single precision
_square("linalg_matrix_exp", "matrix_exp", thirds=48)


@rule("ormqr", klass="other")
def ormqr(self: T, tau: T, other: T, left: bool = True, *_: Any, out: Out, **__: Any) -> int:
    # k reflectors [*, k], of which the j-th is m - j long, to n columns: a product (2), and its outer product subtracted (2)
    b, m, n = _matrices(other)
    m, n, k = (m, n, tau.shape[-1]) if left else (n, m, tau.shape[-1])
    return b * 2 * n * k * (2 * m - k + 1)


@rule("linalg_qr", "geqrf", "linalg_householder_product", "orgqr", klass="other")
def qr(self: T, *_: Any, out: Out, **__: Any) -> int:
    # [*, m, n]: reflectors 2 n^2 (m - n / 3), and as much again to form Q
    b, m, n = _matrices(self)
    m, n = max(m, n), min(m, n)
    return b * 2 * (6 * m * n * n - 2 * n**3) // 3


@rule(
    "linalg_svd",
    "_linalg_svd",
    "svd",
    "prims.svd",
    "linalg_pinv",
    "pinverse",
    "linalg_lstsq",
    "linalg_matrix_rank",
    klass="other",
)
def svd(self: T, *_: Any, out: Out, **__: Any) -> int:
    # [*, m, n], m >= n, with vectors: 6 m n^2 + 20 n^3 (Golub and Van Loan, R-SVD with thin U)
    b, m, n = _matrices(self)
    m, n = max(m, n), min(m, n)
    return b * (6 * m * n * n + 20 * n**3)


@rule("linalg_polar", klass="other")
def polar(a: T, *_: Any, out: Out, **__: Any) -> int:
    # [*, m, n], m >= n: A = W S V^H, then U = W V^H (2 m n^2) and H = V S V^H (n^2, 2 n^3)
    b, m, n = _matrices(a)
    return svd(a, out=out) + b * (2 * m * n * n + n * n + 2 * n**3)


@rule("linalg_matrix_sqrth", klass="other")
def matrix_sqrth(a: T, *_: Any, out: Out, **__: Any) -> int:
    # [*, n, n]: A = Q L Q^H (9 n^3), then Q sqrt(L) Q^H (n + n^2, 2 n^3)
    b, _m, n = _matrices(a)
    return b * (11 * n**3 + n * n + n)


@rule("linalg_svdvals", klass="other")
def svdvals(self: T, *_: Any, out: Out, **__: Any) -> int:
    # values alone: 2 m n^2 + 2 n^3
    b, m, n = _matrices(self)
    m, n = max(m, n), min(m, n)
    return b * (2 * m * n * n + 2 * n**3)


@rule("linalg_solve", "linalg_solve_ex", "_linalg_solve_ex", klass="other")
def solve(a: T, b: T, *_: Any, out: Out, **__: Any) -> int:
    # [*, n, n], [*, n, k]: LU 2/3 n^3, two triangular solves of n^2 per column
    batch, _m, n = _matrices(a)
    return batch * 2 * n**3 // 3 + 2 * n * first(out).numel


@rule("linalg_solve_triangular", "triangular_solve", klass="other")
def solve_triangular(a: T, b: T, *_: Any, out: Out, **__: Any) -> int:
    # n^2 per column, n the order of the triangular matrix: both argument orders have it square
    n = a.shape[-1] if a.shape[-1] == a.shape[-2] else b.shape[-1]
    return n * first(out).numel


@rule("linalg_lu_solve", "lu_solve", "cholesky_solve", "_cholesky_solve_helper", "linalg_ldl_solve", klass="other")
def lu_solve(*args: Any, out: Out, **_: Any) -> int:
    # 2 n^2 per column
    y = first(out)
    return 2 * y.shape[-2] * y.numel


@rule("linalg_matrix_power", "matrix_power", klass="gemm")
def matrix_power(self: T, n: int, *, out: Out, **_: Any) -> Cost:
    # [*, k, k]: a product per squaring and per further set bit; a negative power inverts first
    b, _m, k = _matrices(self)
    count = max(0, abs(n).bit_length() - 1 + abs(n).bit_count() - 1)
    inverse = 2 * b * k**3 if n < 0 else 0
    return Cost.of(Gemm(b, k, k, k, times=count), extra=inverse) if count else Cost.of(extra=inverse)


@rule("lu_unpack", klass="layout")
def lu_unpack(*_: Any, **__: Any) -> int:
    return 0
