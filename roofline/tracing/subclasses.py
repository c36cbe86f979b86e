"""Tensor subclasses that a model makes while it is traced."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import torch
from torch.utils._python_dispatch import _disable_current_modes

from roofline.errors import UsageError


class Kinded(Protocol):
    """What records a pass for a kind of device."""

    @property
    def gpu(self) -> bool: ...


@contextmanager
def made(recorder: Kinded) -> Iterator[None]:
    """While a pass is traced: `Subclass(...)` without a `__new__` of its own gets a tensor that no dispatch mode has wrapped,
    which torch refuses to make one of; and attention with a `CausalBias` takes the kernel of the device, not what meta tensors
    allow."""
    plain = torch.Tensor.__new__

    def new(*args: Any, **kwargs: Any) -> Any:  # dynamo compares signatures when it is first imported: this one fits any
        if args[0] is torch.Tensor:
            return plain(*args, **kwargs)
        with _disable_current_modes():
            return plain(*args, **kwargs)

    with ExitStack() as stack:
        if "__new__" not in vars(torch.Tensor):
            torch.Tensor.__new__ = staticmethod(new)  # type: ignore[method-assign]  # for a while
            stack.callback(delattr, torch.Tensor, "__new__")
        bias: Any = sys.modules.get("torch.nn.attention.bias")
        if bias is not None and hasattr(bias, "can_use_flash_attention"):
            halves = (torch.float16, torch.bfloat16)

            def flash(p: Any, debug: bool = False) -> bool:
                return recorder.gpu and p.query.dtype in halves and p.query.shape[-1] <= 256

            taken: dict[str, Any] = {
                "can_use_flash_attention": flash,
                "can_use_efficient_attention": lambda p, debug=False: recorder.gpu,
                "_raise_kernel_warnings": lambda p: None,
            }
            for name, answer in taken.items():
                stack.callback(setattr, bias, name, getattr(bias, name))
                setattr(bias, name, answer)
        yield


def dense(t: torch.Tensor) -> torch.Tensor:
    """The tensor, if it has a storage. Raises UsageError for one that has not, which a trace cannot follow."""
    if t.is_nested:
        raise UsageError(
            "a nested (jagged) tensor is not traced: its rows differ in length"
            "\npad it (torch.nested.to_padded_tensor(x, 0.0)): the work is then that of the padded rows"
        )
    if t.layout != torch.strided:
        layout = str(t.layout)[6:]
        raise UsageError(
            f"a tensor of shape {'x'.join(map(str, t.shape))} is sparse ({layout}), which is not traced: make it .to_dense()"
            "\nthe work is then that of the dense tensor, zeros included"
        )
    if hasattr(t, "__tensor_flatten__"):
        kind = f"a tensor of {'x'.join(map(str, t.shape))} ({type(t).__name__}) holds its numbers in others"
        if holds_others(type(t)):
            raise UsageError(f"{kind}, which is traced of weights alone\ngive it as a plain tensor of its shape")
        raise UsageError(f"{kind}, and its class has no __tensor_unflatten__, so it is not traced: give it one")
    return t


def here(t: torch.Tensor) -> torch.Tensor:
    """The tensor, if this process has all of it. Raises UsageError for a part of one that several share."""
    if any(kind.__name__ == "DTensor" for kind in type(t).__mro__):
        raise UsageError(
            f"a tensor of {'x'.join(map(str, t.shape))} is shared out over processes (DTensor), which is not traced"
            "\nanalyse the model as it is before fully_shard, parallelize_module or distribute_tensor"
        )
    return t


def speaks(kind: type) -> bool:
    """Whether a class of tensors says itself what an operator on them calls."""
    return getattr(kind, "__torch_dispatch__", _SILENT) != _SILENT


_SILENT = torch.Tensor.__torch_dispatch__


def holds_others(kind: type) -> bool:
    """Whether its tensors hold others, in which their numbers are: packed weights, as quantisation makes them."""
    return hasattr(kind, "__tensor_flatten__") and hasattr(kind, "__tensor_unflatten__")


def parts(t: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
    """The plain tensors that one holds, by the names that they have there ("" where it is plain itself)."""
    if not holds_others(type(t)) or t.is_nested:
        return [("", t)]
    names, _ = t.__tensor_flatten__()  # type: ignore[attr-defined]  # torch's protocol for such classes
    held = [(name, inside) for name in names if isinstance(inside := getattr(t, name), torch.Tensor)]
    return [(f"{name}.{inner}".rstrip("."), part) for name, inside in held for inner, part in parts(inside)]


# They hold their own numbers.
_PLAIN = (torch.Tensor, torch.nn.Parameter)


def stored(tensors: Iterable[tuple[str, torch.Tensor]]) -> Iterator[tuple[str, torch.Tensor]]:
    """What tensors by name are stored as."""
    for path, t in tensors:
        if type(t) in _PLAIN:  # nearly all: asked in passing
            yield path, t
            continue
        for name, part in parts(t):
            yield f"{path}.{name}" if name else path, part


def with_parts(t: torch.Tensor, stand_in: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """One of the same class with `stand_in` of each tensor that it holds, and all else that it holds as it is."""
    names, rest = here(t).__tensor_flatten__()  # type: ignore[attr-defined]  # torch's protocol for such classes
    held = ((name, getattr(t, name)) for name in names)
    inside = {name: stand_in(value) if isinstance(value, torch.Tensor) else value for name, value in held}
    made: torch.Tensor = type(t).__tensor_unflatten__(inside, rest, t.shape, t.stride())  # type: ignore[attr-defined]  # as above
    return made


def untraced(name: str, t: torch.Tensor) -> str:
    """Why the result of an operator is not traced, and what to do."""
    if t.is_nested:
        return (
            f"{name} makes a nested tensor, which is not traced: its rows differ in length"
            "\ngive its rows padded, or make it with layout=torch.jagged"
        )
    if str(t.layout) == "torch._mkldnn":
        return f"{name} makes a tensor in oneDNN's own layout, which is not traced: leave to_mkldnn() out"
    return (
        f"{name} makes a sparse tensor, which is not traced: make it dense"
        "\nof an embedding, leave sparse=True out: the same MACs, and a gradient as large as the table"
    )


def left_out(modules: Iterable[tuple[str, torch.nn.Module]]) -> list[str]:
    """A note for sparse buffers: one that a pass does not use must not stop it, and nothing is counted of it."""
    names = [
        f"{path}.{key}".lstrip(".")
        for path, m in modules
        for key, t in m._buffers.items()
        if t is not None and t.layout != torch.strided
    ]
    return [f"sparse buffers are left out of the bytes: {', '.join(names)}"] if names else []
