"""Loops that count every multiply-accumulate one by one. Slow on purpose, for small sizes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

Sizes = Sequence[int]


def spaces(*sizes: int) -> itertools.product[tuple[int, ...]]:
    return itertools.product(*map(range, sizes))


def places(image: Sizes, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes) -> list[int]:
    """How many places the dilated kernel fits along each axis of the padded image, found by trying."""
    found = []
    for i, k, s, p, d in zip(image, kernel, stride, padding, dilation, strict=True):
        at, n = -p, 0
        while at + d * (k - 1) < i + p:
            n, at = n + 1, at + s
        found.append(n)
    return found


def convolution(n: int, c: int, o: int, groups: int, kernel: Sizes, out: Sizes) -> int:
    """From c to o channels: at every place of the result each of its channels meets those of its own group."""
    macs = 0
    for _sample, channel, *_place in spaces(n, o, *out):
        group = channel // (o // groups)
        for source in range(c):
            if source // (c // groups) == group:
                for _tap in spaces(*kernel):
                    macs += 1
    return macs


def transposed(n: int, c: int, o: int, groups: int, kernel: Sizes, image: Sizes) -> int:
    """A transposed convolution from c to o channels: every place of the image spreads over the kernel."""
    macs = 0
    for _sample, channel, *_place in spaces(n, c, *image):
        group = channel // (c // groups)
        for target in range(o):
            if target // (o // groups) == group:
                for _tap in spaces(*kernel):
                    macs += 1
    return macs


def attention(b: int, heads: int, kv_heads: int, queries: int, keys: int, width: int, value: int) -> tuple[int, int]:
    """Multiply-accumulates of scores and results, and the number of scores."""
    macs = scores = 0
    for _sample, head, _query in spaces(b, heads, queries):
        assert head // (heads // kv_heads) < kv_heads
        for _key in range(keys):
            macs += sum(1 for _ in range(width))  # its score
            macs += sum(1 for _ in range(value))  # its share of the result
            scores += 1
    return macs, scores


def recurrent(gates: int, steps: int, batch: int, width: int, hidden: int, layers: int, both: bool, state: int) -> int:
    """`both` directions; a `state` that is not `hidden` is a projection of it."""
    macs = 0
    for layer in range(layers):
        given = width if layer == 0 else state * (1 + both)
        for _direction, _step, _sample in spaces(1 + both, steps, batch):
            for _unit, _gate in spaces(hidden, gates):
                macs += given + state
            macs += state * hidden if state != hidden else 0
    return macs


def windows(size: int, bins: int) -> int:
    """Elements that adaptive pooling touches along one axis, those of overlaps again for each window."""
    touched = 0
    for i in range(bins):
        start, end = (i * size) // bins, -((-(i + 1) * size) // bins)
        touched += sum(1 for _ in range(start, end))
    return touched
