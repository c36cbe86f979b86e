"""What the recorder remembers from one call to the next: metadata, each once, and the result of a call by its arguments'.

A repeated block costs a look-up for each op, without asking torch.
"""

from __future__ import annotations

from typing import Any

import torch

from roofline.records import OpSpec, TensorSpec
from roofline.tracing import meta as metadata


class Meta:
    """Interned tensor metadata: equal metadata is the same object, so memo keys compare by identity."""

    __slots__ = ("dtype", "shape", "spec", "stride")

    def __init__(self, shape: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype) -> None:
        self.shape, self.stride, self.dtype = shape, stride, dtype
        plain = stride == metadata.contiguous(shape)
        self.spec = TensorSpec(shape, str(dtype)[6:], () if plain else stride)

    def __reduce__(self) -> tuple[type[Nobody], tuple[()]]:
        """As `Store`."""
        return Nobody, ()


class Entry:
    """One remembered call: its OpSpec, and how to make its results again.

    `outputs` is the metadata of fresh results, None of one that is None; `same` the tensor argument that an in-place op returns
    as it was. With neither, torch runs again (views keep their aliasing that way).
    """

    __slots__ = ("outputs", "same", "single", "spec")

    def __init__(self, spec: OpSpec, outputs: tuple[Meta | None, ...] | None, single: bool, same: int = -1) -> None:
        self.spec, self.outputs, self.single, self.same = spec, outputs, single, same


class Store:
    """A storage in the trace; dies with the last tensor over it."""

    __slots__ = ("born", "died", "id", "kind", "name", "nbytes", "recorder")

    def __init__(self, recorder: Any, kind: str, nbytes: int, name: str = "", born: int = -1) -> None:
        self.recorder, self.kind, self.nbytes, self.name, self.born = recorder, kind, nbytes, name, born
        self.id = len(recorder.storages)
        recorder.storages.append((nbytes, kind, name, born))

    def __del__(self) -> None:
        self.recorder.deaths[self.id] = len(self.recorder.ops)

    def __reduce__(self) -> tuple[type[Nobody], tuple[()]]:
        """A model may copy or pickle a tensor, which takes our mark along: the copy is over memory of its own."""
        return Nobody, ()


class Nobody:
    """In the place of a store: that of a tensor which no recorder knows."""

    recorder = None


metas: dict[tuple[tuple[int, ...], tuple[int, ...], torch.dtype], Meta] = {}
calls: dict[tuple[Any, ...], Entry] = {}
LIMIT = 200_000


def meta_of(shape: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype) -> Meta:
    key = (shape, stride, dtype)
    meta = metas.get(key)
    if meta is None:
        meta = metas[key] = Meta(*key)
    return meta
