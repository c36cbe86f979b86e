"""Models that look whether their tensors have memory, which those of a first trace have not, or on which device they lie: they
may go another way there."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from roofline.cache.places import kind_of
from roofline.compat import Asked

# a note, where nothing tells what they do on a device
NOTE = "its code asks whether tensors have memory, and here they had none: on a device it may take another way"
_ASK = frozenset({"is_meta", "data_ptr"})
# They build a model, on the meta device too.
_BUILDS = frozenset({"__init__", "reset_parameters", "init_weights", "_init_weights", "from_pretrained"})
_KNOWN = ("torch.", "torchvision.", "timm.", "transformers.", "roofline.")


def looks(classes: Iterable[type], functions: Iterable[types.FunctionType] = ()) -> bool:
    """Whether the code of classes of a person's own, or one of these functions, asks for it."""
    methods = (m for kind in classes if not kind.__module__.startswith(_KNOWN) for m in _methods(kind))
    return any(_asks(f.__code__) and kind_of(f.__code__.co_filename) == "own" for held in (methods, functions) for f in held)


def _methods(kind: type) -> Iterator[types.FunctionType]:
    for name, value in vars(kind).items():
        method: Any = getattr(value, "__func__", getattr(value, "fget", value))
        if isinstance(method, types.FunctionType) and name not in _BUILDS:
            yield method


def _asks(code: types.CodeType) -> bool:
    if not _ASK.isdisjoint(code.co_names) or ("meta" in code.co_consts and "device" in code.co_names):
        return True
    return any(_asks(inner) for inner in code.co_consts if isinstance(inner, types.CodeType))


# ------------------------------------------------------------------------------------------------ on which device they lie

# notes: on where tensors lie, who asks was told the truth of the pass, or what the device asked for would say
PLACE = "its code asks on which device tensors lie, and here they do not lie on it: there it may take another way"
ANSWERED = "its code asks on which device tensors lie: answered as on a {}"
# Words that a device's name is compared with.
_DEVICES = frozenset({"cuda", "cpu", "mps", "xpu", "hip", "npu", "hpu", "xla", "mtia", "privateuseone"})
# What tells where a tensor lies, and what it says on a GPU and on a CPU. `is_meta` is looked for by `looks`.
_SAYS: dict[str, tuple[Any, Any]] = {
    "is_cuda": (True, False),
    "is_cpu": (False, True),
    "is_meta": (False, False),
    "device": (torch.device("cuda", 0), torch.device("cpu")),
}
_base: Any = torch._C.TensorBase
# code -> whether it is a person's own; whether it compares a device with something
_own: dict[types.CodeType, bool] = {}
_compares: dict[types.CodeType, bool] = {}


@contextmanager
def place(asked: Asked, gpu: bool, answered: bool) -> Iterator[None]:
    """Note who asks on which device tensors lie, of a person's own code; with `answered`, tell that they lie on a GPU or a CPU,
    whatever they are."""
    with ExitStack() as stack:

        def put(owner: Any, name: str, value: Any) -> None:
            if name in vars(owner):
                stack.callback(setattr, owner, name, vars(owner)[name])
            else:
                stack.callback(delattr, owner, name)
            setattr(owner, name, value)

        for name, (there, here) in _SAYS.items():
            if answered or name != "is_meta":  # asked of every tensor of every operator
                put(torch.Tensor, name, property(_answer(asked, name, there if gpu else here, answered)))
        put(torch.Tensor, "get_device", _index(asked, gpu, answered))
        for name in ("numpy", "__array__"):
            put(torch.Tensor, name, _array(asked, getattr(torch.Tensor, name)))
        if gpu:
            for owner, name, there in _PRESENT:
                if (real := getattr(owner, name, None)) is not None:
                    put(owner, name, _present(asked, real, answered, there))
        yield


def _answer(asked: Asked, name: str, says: Any, answered: bool) -> Callable[[torch.Tensor], Any]:
    real, whole = getattr(_base, name), name != "device"

    def answer(t: torch.Tensor) -> Any:
        code = sys._getframe(1).f_code
        if _by_own(code) and (answered or whole or _compared(code)):
            asked.place = True
            if answered:
                return says
        return real.__get__(t)

    return answer


# a note
ARRAYS = "its code makes NumPy arrays of tensors: what NumPy computes is not counted"


def _array(asked: Asked, real: Callable[..., Any]) -> Callable[..., Any]:
    def array(*args: Any, **kwargs: Any) -> Any:
        asked.arrays |= _by_own(sys._getframe(1).f_code)
        return real(*args, **kwargs)

    return array


def _index(asked: Asked, gpu: bool, answered: bool) -> Callable[[torch.Tensor], int]:
    def get_device(t: torch.Tensor) -> int:
        if _by_own(sys._getframe(1).f_code):
            asked.place = True
            if answered:
                return 0 if gpu else -1
        return int(_base.get_device(t))

    return get_device


# What asks whether there is a GPU, and what one alone answers.
_PRESENT: list[tuple[Any, str, Any]] = [
    (torch.cuda, "is_available", True),
    (torch.cuda, "device_count", 1),
    (torch.cuda, "is_bf16_supported", True),  # in fp32, where it is an old one
    (torch.accelerator, "is_available", True),
    (torch.accelerator, "device_count", 1),
    (torch.accelerator, "current_accelerator", torch.device("cuda")),
]


def _present(asked: Asked, real: Callable[..., Any], answered: bool, there: Any) -> Callable[..., Any]:
    def present(*args: Any, **kwargs: Any) -> Any:
        if _by_own(sys._getframe(1).f_code):
            asked.place = True
            if answered and not args and not kwargs:
                return there
        return real(*args, **kwargs)

    return present


@contextmanager
def presence(hear: Callable[[], None]) -> Iterator[None]:
    """Hears who asks whether there is a GPU, of a person's own code, unless it only names the one to put its tensors on."""

    def noted(real: Callable[..., Any]) -> Callable[..., Any]:
        def present(*args: Any, **kwargs: Any) -> Any:
            code = sys._getframe(1).f_code
            if _by_own(code) and not _compared(code):
                hear()
            return real(*args, **kwargs)

        return present

    with ExitStack() as stack:
        for owner, name, _ in _PRESENT:
            if (real := getattr(owner, name, None)) is not None:
                stack.callback(setattr, owner, name, real)
                setattr(owner, name, noted(real))
        yield


def _by_own(code: types.CodeType) -> bool:
    found = _own.get(code)
    if found is None:
        found = _own[code] = kind_of(code.co_filename) == "own"
    return found


def _compared(code: types.CodeType) -> bool:
    """Whether the code names a kind of device, or asks for its number: it may do what it does on one alone."""
    found = _compares.get(code)
    if found is None:
        words = [w for c in code.co_consts for w in (c if isinstance(c, (tuple, frozenset)) else (c,)) if isinstance(w, str)]
        found = _compares[code] = "index" in code.co_names or any(w.partition(":")[0] in _DEVICES for w in words)
    return found
