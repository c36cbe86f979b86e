"""Fourier transforms: 5 n log2 n for n complex points, half of it for real ones (the count that FFTW's makers use)."""

from __future__ import annotations

from math import log2
from typing import Any

from roofline.cost.registry import Rule, add, first, is_complex, prod, rule
from roofline.records import TensorSpec

T = TensorSpec
Out = TensorSpec | tuple[TensorSpec, ...]


def _fft(batch: int, lengths: list[int], real: bool) -> int:
    n = prod(lengths)
    return round((2.5 if real else 5.0) * batch * n * sum(log2(i) for i in lengths if i > 1))


def _transform(real: bool, inverse: bool) -> Rule:
    def count(self: T, *args: Any, out: Out, dim: Any = None, s: Any = None, n: int | None = None, **_: Any) -> int:
        y = first(out)
        signal = y if inverse else self  # the real side carries the length
        size = args[0] if args else (s if s is not None else n)
        axes = args[1] if len(args) > 1 else dim
        if axes is None:
            axes = list(range(-len(size), 0)) if isinstance(size, list) else None
        lengths = [signal.shape[a] for a in (axes if isinstance(axes, list) else [axes])] if axes is not None else None
        return _fft_over(signal, lengths, real)

    return Rule(count, "fft")


def _fft_over(signal: T, lengths: list[int] | None, real: bool) -> int:
    lengths = lengths if lengths is not None else list(signal.shape)
    return _fft(signal.numel // max(prod(lengths), 1), lengths, real)


def _one_axis(real: bool, inverse: bool) -> Rule:
    def count(self: T, n: int | None = None, dim: int = -1, norm: str | None = None, *, out: Out, **_: Any) -> int:
        # [*, n] along one axis
        signal = first(out) if inverse else self
        axis = first(out).shape[dim] if not real else signal.shape[dim]
        return _fft(signal.numel // max(signal.shape[dim], 1), [axis], real)

    return Rule(count, "fft")


def _two_axes(real: bool, inverse: bool) -> Rule:
    def count(self: T, s: Any = None, dim: Any = None, norm: str | None = None, *, out: Out, **_: Any) -> int:
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
def fft_forward(self: T, dim: list[int] | None = None, *_: Any, out: Out, **__: Any) -> int:
    return _fft_over(self, [self.shape[d] for d in dim or []], not is_complex(self))


@rule("_fft_c2r", "prims.fft_c2r", klass="fft")
def fft_to_real(self: T, dim: list[int] | None = None, *_: Any, out: Out, **__: Any) -> int:
    y = first(out)
    return _fft_over(y, [y.shape[d] for d in dim or []], True)


@rule("stft", klass="fft")
def stft(self: T, n_fft: int, *_: Any, window: T | None = None, out: Out, **__: Any) -> int:
    # [b, t] -> [b, freq, frames]: a window and a transform per frame
    y = first(out)
    frames = (y.numel // (1 if is_complex(y) else 2)) // (n_fft // 2 + 1)
    return _fft(frames, [n_fft], not is_complex(self)) + frames * n_fft


@rule("istft", klass="fft")
def istft(self: T, n_fft: int, *_: Any, out: Out, **__: Any) -> int:
    # [b, freq, frames] -> [b, t]: a transform, a window and an overlap-add per frame
    frames = (self.numel // (1 if is_complex(self) else 2)) // (n_fft // 2 + 1)
    return _fft(frames, [n_fft], True) + 2 * frames * n_fft
