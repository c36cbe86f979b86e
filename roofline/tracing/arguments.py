"""The tensors among the arguments of an operator: found, mapped, and made into a key."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

# The implementation that torch itself has for every backend. Not `OpOverload.decompose`: once `torch._decomp` is imported
# that takes Python's substitutes, which choose other kernels (`matmul`).
IMPLICIT = torch._C.DispatchKey.CompositeImplicitAutograd
HALVES = getattr(torch, "float4_e2m1fn_x2", None)  # a dtype of two numbers in a byte


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for v in value:
            yield from tensors_in(v)
    elif isinstance(value, Mapping):
        for v in value.values():
            yield from tensors_in(v)


def add_key(value: Any, key: list[Any], tensors: list[torch.Tensor]) -> None:
    """Append what distinguishes this argument, type included (1, 1.0 and True are equal to Python), tensors by place."""
    if isinstance(value, torch.Tensor):
        key.append("tensor")
        tensors.append(value)
    elif type(value) in (list, tuple):
        key.append(len(value))
        for v in value:
            add_key(v, key, tensors)
    else:
        key.append((type(value), value))


def map_tensors(fn: Callable[[torch.Tensor], torch.Tensor], value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return fn(value)
    if isinstance(value, (list, tuple)):
        return type(value)(map_tensors(fn, v) for v in value)
    return value


def is_packed(value: Any) -> bool:
    """The packed weight of a quantized operator: an object of C++ that can be unpacked into tensors."""
    return type(value) is torch.ScriptObject and (hasattr(value, "unpack") or value._type().qualified_name().endswith(_CELL))


# The weights of a quantized recurrent layer, which tells them as its state alone.
_CELL = "CellParamsBase"
_PER_CHANNEL = (torch.per_channel_affine, torch.per_channel_affine_float_qparams)


def unpacked(packed: Any) -> tuple[list[torch.Tensor | None], list[torch.Tensor]]:
    """What a packed weight holds: each weight and the bias after it or None; scales and zero points of channels.

    Scales of whole tensors are two numbers and not listed. What is no quantized weight is stored in halves.
    """
    if not hasattr(packed, "unpack"):
        (_kind, tensors, _doubles, _longs, inside), *_ = packed.__getstate__()
        found = [unpacked(p) for p in inside if is_packed(p)]
        weights = [t for parts, _ in found for t in parts]
        return weights + (list(tensors) if not found else []), [t for _, scales in found for t in scales]
    held = packed.unpack()
    weight, bias = (held, None) if isinstance(held, torch.Tensor) else [*held, None][:2]
    if weight is None or not weight.is_quantized:
        return [weight.half() if weight is not None and weight.dtype == torch.float32 else weight, bias], []
    scales = (weight.q_per_channel_scales(), weight.q_per_channel_zero_points()) if weight.qscheme() in _PER_CHANNEL else ()
    return [weight, bias], list(scales)


def packed_in(m: torch.nn.Module) -> list[Any]:
    """The packed weights that a module holds; torch's own float modules hold none."""
    if type(m).__module__.startswith("torch.nn.modules."):
        return []
    return [v for v in m.__dict__.values() if type(v) is torch.ScriptObject and is_packed(v)]


def is_quantized(module: torch.nn.Module) -> bool:
    """Whether its weights are packed for quantized kernels, which run on real CPU tensors only."""
    return any(True for m in module.modules() for _ in packed_in(m))


def elements(p: torch.Tensor) -> int:
    """Numbers in a parameter; of one that is stored packed, those that it stands for."""
    count: int = getattr(p, "_roofline_elements", -1)
    if count < 0 and p.dtype == HALVES:
        return 2 * p.numel()
    return p.numel() if count < 0 else count


def alike(t: torch.Tensor) -> torch.Tensor:
    """Another tensor of the same shape, strides and type, without storage."""
    return torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device="meta")
