"""A pass on meta tensors that keeps the values there are: small integers and truths, and what is computed from them alone.

A question about such values (`lengths.max()`, `x[mask]`, `.item()`) is answered from them, and operators whose shapes follow
from real values are worked out here. It is the second way to trace a model, for those that the quick one does not suffice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from roofline.tracing import meta as metadata
from roofline.tracing.arguments import map_tensors, tensors_in
from roofline.tracing.given import SMALL, kept
from roofline.tracing.memo import Entry, meta_of
from roofline.tracing.operators import func_of
from roofline.tracing.recorder import META, Recorder
from roofline.tracing.refusals import broadcast
from roofline.tracing.subclasses import speaks

aten = torch.ops.aten
# Elements of what is worked out from values; what is larger has none.
LARGEST = 2**24
CPU = torch.device("cpu")


class LostValues(RuntimeError):
    """Values that were there are overwritten by some that are not."""


class Valued(Recorder):  # type: ignore[no-untyped-call]  # torch's own
    """The recorder of such a pass; mixed into that of a training step too."""

    def __torch_dispatch__(
        self, func: torch._ops.OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if types and any(map(speaks, types)):
            return NotImplemented
        if func is aten._to_copy.default:
            kwargs = _stays(args[0], kwargs)
            if kwargs is None:
                return args[0]
        tensors = [*tensors_in(args), *tensors_in(kwargs)]
        real = [t for t in tensors if not t.is_meta]
        if not tensors or func in _LIKE:
            if (made := _made(func, args, kwargs)) is not None:
                args, kwargs = made
        elif real and len(real) < len(tensors):
            answer = _ANSWERS.get(func)
            if answer is not None and (refuses := func_of(func).refuses) is not None and (wrong := refuses(*args, **kwargs)):
                self.refused = True
                raise RuntimeError(wrong)
            metas = answer(*args, **kwargs) if answer is not None else None
            if metas is not None:
                return self._answered(func, args, kwargs, metas)
            if func_of(func).mutates and not args[0].is_meta and kept(args[0]):
                raise LostValues(f"{func} writes values that are not there over ones that are")
        elif real and _size(tensors) > LARGEST:
            args, kwargs = map_tensors(self._as_meta, args), {k: map_tensors(self._as_meta, v) for k, v in kwargs.items()}
        return super().__torch_dispatch__(func, types, args, kwargs)

    def _answered(self, func: torch._ops.OpOverload, args: Any, kwargs: dict[str, Any], metas: list[Any]) -> Any:
        """The results of an operator whose shapes were worked out: of each (shape, strides, dtype), or the real tensor."""
        info = func_of(func)
        tags = [self._tag(t) for t in (*tensors_in(args), *tensors_in(kwargs))]
        shapes = [(tuple(m.shape), m.stride(), m.dtype) if isinstance(m, torch.Tensor) else m for m in metas]
        outputs = tuple(meta_of(*m) for m in shapes)
        spec = self._spec(info, args, kwargs, tags, outputs, (), False)
        made = self._replay(self._remember(None, Entry(spec, outputs, len(outputs) == 1)), tags)
        if len(outputs) == 1:
            return made
        for t, m in zip(made, metas, strict=True):
            if isinstance(m, torch.Tensor):  # one more holder of the same memory, with values
                self._mark(m, *self._tag(t))
        return tuple(m if isinstance(m, torch.Tensor) else t for t, m in zip(made, metas, strict=True))


def _stays(t: torch.Tensor, kwargs: dict[str, Any]) -> dict[str, Any] | None:
    """The arguments of a copy to another device without the device; None where nothing else would change."""
    rest = {k: v for k, v in kwargs.items() if k not in ("device", "non_blocking", "pin_memory")}
    if kwargs.get("device") in (None, t.device):
        return kwargs
    if not t.is_meta and (t.dtype.is_floating_point or t.numel() > SMALL) and kwargs["device"] == META:
        return kwargs
    layout, dtype, form = rest.get("layout"), rest.get("dtype"), rest.get("memory_format")
    if layout in (None, t.layout) and dtype in (None, t.dtype) and form in (None, torch.preserve_format):
        return None
    return rest


# Operators that make a tensor like one, or on the device of one.
_LIKE = {
    aten.zeros_like.default,
    aten.ones_like.default,
    aten.full_like.default,
    aten.new_zeros.default,
    aten.new_ones.default,
    aten.new_full.default,
}
_MAKERS = {"arange", "zeros", "ones", "full", "scalar_tensor", "eye", "linspace", "tril_indices", "triu_indices"}


def _made(func: torch._ops.OpOverload, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
    """The same call for a real result, of what makes small integers or truths on meta; None of any other."""
    name = func._schema.name.partition("::")[2]
    like = func in _LIKE
    if not like and (name not in _MAKERS or kwargs.get("device") != META):
        return None
    if like and (not args[0].is_meta or kwargs.get("device") not in (None, META)):
        return None
    result = func(*args, **kwargs)
    if result.dtype.is_floating_point or result.dtype.is_complex or result.numel() > SMALL:
        return None
    if like:
        model = torch.empty(args[0].shape if name.endswith("_like") else (), dtype=args[0].dtype)
        args = (model, *args[1:])
    return args, {**kwargs, "device": CPU}


def _size(tensors: list[torch.Tensor]) -> int:
    """Elements of what an operator on these may make: all of theirs, or the shape that they broadcast to."""
    shape = broadcast([tuple(t.shape) for t in tensors])
    return max(sum(t.numel() for t in tensors), torch.Size(shape).numel() if shape is not None else 0)


# ------------------------------------------------------------------------------------------------ shapes out of values


def _indexed(x: torch.Tensor, indices: Any) -> list[Any] | None:
    """`x[mask]`: a mask with values stands for the places where it is true."""
    if not x.is_meta or any(i is not None and i.is_meta and i.dtype in (torch.bool, torch.uint8) for i in indices):
        return None
    places: list[torch.Tensor | None] = []
    for i in indices:
        if i is not None and i.dtype in (torch.bool, torch.uint8):
            places += [p.to(META) for p in i.nonzero().unbind(1)]
        else:
            places.append(i if i is None else i.to(META))
    result = aten.index.Tensor(x, places)
    return [(tuple(result.shape), result.stride(), result.dtype)]


def _selected(x: torch.Tensor, mask: torch.Tensor) -> list[Any] | None:
    if mask.is_meta:
        return None
    shape = broadcast([tuple(x.shape), tuple(mask.shape)])
    if shape is None:
        return None
    count = int(mask.expand(shape).sum())
    return [((count,), (1,), x.dtype)]


def _packed(x: torch.Tensor, lengths: torch.Tensor, batch_first: bool) -> list[Any] | None:
    """Rows of all lengths, longest first; and how many rows each step has, which stays real."""
    if lengths.is_meta:
        return None
    narrow = torch.empty((1,) * 3).expand(*x.shape[:2], 1)
    data, sizes = aten._pack_padded_sequence(narrow, lengths, batch_first)
    shape = (data.shape[0], *x.shape[2:])
    return [(shape, metadata.contiguous(shape), x.dtype), sizes]


def _padded(data: torch.Tensor, sizes: torch.Tensor, batch_first: bool, value: Any, total: int) -> list[Any] | None:
    if sizes.is_meta:
        return None
    narrow = torch.empty((1, 1)).expand(data.shape[0], 1)
    padded, lengths = aten._pad_packed_sequence(narrow, sizes, batch_first, value, total)
    shape = (*padded.shape[:2], *data.shape[1:])
    # it is padded by steps and turned where rows come first
    plain = metadata.contiguous((shape[1], shape[0], *shape[2:]))
    return [(shape, (plain[1], plain[0], *plain[2:]) if batch_first else metadata.contiguous(shape), data.dtype), lengths]


_ANSWERS: dict[torch._ops.OpOverload, Callable[..., list[Any] | None]] = {
    aten.index.Tensor: _indexed,
    aten._unsafe_index.Tensor: _indexed,
    aten.masked_select.default: _selected,
    aten._pack_padded_sequence.default: _packed,
    aten._pad_packed_sequence.default: _padded,
}
