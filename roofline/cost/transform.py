"""Fourier transforms and dense linear algebra: textbook operation counts, leading terms."""

from __future__ import annotations

from math import log2
from typing import Any

from roofline.cost.registry import Count, Dims, Rule, add, first, is_complex, matmul_work, prod, rule
from roofline.records import TensorSpec, Work

T = TensorSpec
Out = TensorSpec | tuple[TensorSpec, ...]

# --- Fourier transforms: 5 n log2 n for n complex points, half of it for real ones (the count that FFTW's makers use)


def _fft(batch: int, lengths: list[int], real: bool) -> Work:
    n = prod(lengths)
    return Work(round((2.5 if real else 5.0) * batch * n * sum(log2(i) for i in lengths if i > 1)), 0)


def _transform(real: bool, inverse: bool) -> Rule:
    def count(self: T, *args: Any, out: Out, dim: Any = None, s: Any = None, n: int | None = None, **_: Any) -> Work:
        y = first(out)
        signal = y if inverse else self  # the real side carries the length
        size = args[0] if args else (s if s is not None else n)
        axes = args[1] if len(args) > 1 else dim
        if axes is None:
            axes = list(range(-len(size), 0)) if isinstance(size, list) else None
        lengths = [signal.shape[a] for a in (axes if isinstance(axes, list) else [axes])] if axes is not None else None
        return _fft_over(signal, lengths, real)

    return Rule(count, "fft")


def _fft_over(signal: T, lengths: list[int] | None, real: bool) -> Work:
    lengths = lengths if lengths is not None else list(signal.shape)
    return _fft(signal.numel // max(prod(lengths), 1), lengths, real)


def _one_axis(real: bool, inverse: bool) -> Rule:
    def count(self: T, n: int | None = None, dim: int = -1, norm: str | None = None, *, out: Out, **_: Any) -> Work:
        # [*, n] along one axis
        signal = first(out) if inverse else self
        axis = first(out).shape[dim] if not real else signal.shape[dim]
        return _fft(signal.numel // max(signal.shape[dim], 1), [axis], real)

    return Rule(count, "fft")


def _two_axes(real: bool, inverse: bool) -> Rule:
    def count(self: T, s: Any = None, dim: Any = None, norm: str | None = None, *, out: Out, **_: Any) -> Work:
        # [*, h, w] along two axes
        signal = first(out) if inverse else self
        return _fft_over(signal, [signal.shape[d] for d in dim or [-2, -1]], real)

    return Rule(count, "fft")


for _name, (_real, _inverse) in {
    "fft": (False, False),
    "ifft": (False, True),
    "rfft": (True, False),
    "irfft": (True, True),
    "hfft": (True, True),
    "ihfft": (True, False),
}.items():
    add((f"fft_{_name}",), _one_axis(_real, _inverse))
    add((f"fft_{_name}2",), _two_axes(_real, _inverse))
    add((f"fft_{_name}n",), _transform(_real, _inverse))


@rule("_fft_c2c", "_fft_r2c", "prims.fft_c2c", "prims.fft_r2c", klass="fft")
def fft_forward(self: T, dim: list[int] | None = None, *_: Any, out: Out, **__: Any) -> Work:
    return _fft_over(self, [self.shape[d] for d in dim or []], not is_complex(self))


@rule("_fft_c2r", "prims.fft_c2r", klass="fft")
def fft_to_real(self: T, dim: list[int] | None = None, *_: Any, out: Out, **__: Any) -> Work:
    y = first(out)
    return _fft_over(y, [y.shape[d] for d in dim or []], True)


@rule("stft", klass="fft")
def stft(self: T, n_fft: int, *_: Any, window: T | None = None, out: Out, **__: Any) -> Work:
    # [b, t] -> [b, freq, frames]: a window and a transform per frame
    y = first(out)
    frames = (y.numel // (1 if is_complex(y) else 2)) // (n_fft // 2 + 1)
    return Work(_fft(frames, [n_fft], not is_complex(self)).flops + frames * n_fft, 0)


@rule("istft", klass="fft")
def istft(self: T, n_fft: int, *_: Any, out: Out, **__: Any) -> Work:
    # [b, freq, frames] -> [b, t]: a transform, a window and an overlap-add per frame
    frames = (self.numel // (1 if is_complex(self) else 2)) // (n_fft // 2 + 1)
    return Work(_fft(frames, [n_fft], True).flops + 2 * frames * n_fft, 0)


# --- dense factorisations: LAPACK's operation counts (LAPACK Working Note 41), leading terms, per matrix


def _matrices(a: T) -> tuple[int, int, int]:
    return prod(a.shape[:-2]), a.shape[-2], a.shape[-1]


def _square(*names: str, thirds: int) -> None:
    def count(self: T, *_: Any, out: Out, **__: Any) -> Work:
        # [*, n, n]
        b, _m, n = _matrices(self)
        return Work(b * thirds * n**3 // 3, 0)

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


@rule("linalg_qr", "geqrf", "linalg_householder_product", "orgqr", klass="other")
def qr(self: T, *_: Any, out: Out, **__: Any) -> Work:
    # [*, m, n]: reflectors 2 n^2 (m - n / 3), and as much again to form Q
    b, m, n = _matrices(self)
    m, n = max(m, n), min(m, n)
    return Work(b * 2 * (6 * m * n * n - 2 * n**3) // 3, 0)


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
def svd(self: T, *_: Any, out: Out, **__: Any) -> Work:
    # [*, m, n], m >= n, with vectors: 4 m n^2 + 22 n^3 (Golub and Van Loan, R-SVD with thin U)
    b, m, n = _matrices(self)
    m, n = max(m, n), min(m, n)
    return Work(b * (6 * m * n * n + 20 * n**3), 0)


@rule("linalg_svdvals", klass="other")
def svdvals(self: T, *_: Any, out: Out, **__: Any) -> Work:
    # values alone: 2 m n^2 + 2 n^3
    b, m, n = _matrices(self)
    m, n = max(m, n), min(m, n)
    return Work(b * (2 * m * n * n + 2 * n**3), 0)


@rule("linalg_solve", "linalg_solve_ex", "_linalg_solve_ex", klass="other")
def solve(a: T, b: T, *_: Any, out: Out, **__: Any) -> Work:
    # [*, n, n], [*, n, k]: LU 2/3 n^3, two triangular solves of n^2 per column
    batch, _m, n = _matrices(a)
    return Work(batch * 2 * n**3 // 3 + 2 * n * first(out).numel, 0)


@rule("linalg_solve_triangular", "triangular_solve", klass="other")
def solve_triangular(a: T, b: T, *_: Any, out: Out, **__: Any) -> Work:
    # n^2 per column, n the order of the triangular matrix: both argument orders have it square
    n = a.shape[-1] if a.shape[-1] == a.shape[-2] else b.shape[-1]
    return Work(n * first(out).numel, 0)


@rule("linalg_lu_solve", "lu_solve", "cholesky_solve", "_cholesky_solve_helper", "linalg_ldl_solve", klass="other")
def lu_solve(*args: Any, out: Out, **_: Any) -> Work:
    # 2 n^2 per column
    y = first(out)
    return Work(2 * y.shape[-2] * y.numel, 0)


def _powers(self: T, n: int, *, out: Out, **_: Any) -> list[Dims]:
    """A product per squaring and per further set bit."""
    b, _m, k = _matrices(self)
    count = max(0, abs(n).bit_length() - 1 + abs(n).bit_count() - 1)
    return [{"b": b, "m": k, "n": k, "k": k, "times": count}] if count else []


@rule("linalg_matrix_power", "matrix_power", klass="gemm", products=_powers)
def matrix_power(self: T, n: int, *, out: Out, **_: Any) -> Count:
    # [*, k, k]; a negative power inverts first
    b, _m, k = _matrices(self)
    count = sum(p["times"] for p in _powers(self, n, out=out))
    return matmul_work(count * b * k**3, self, 2 * b * k**3 if n < 0 else 0)


@rule("lu_unpack", klass="layout")
def lu_unpack(*_: Any, **__: Any) -> Work:
    return Work(0, 0)
