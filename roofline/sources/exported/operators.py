"""What a graph file may call, and with what: closed lists, because the file is data that a stranger may have written.

A target is looked up, never resolved: its namespace, its name and its overload must each be an operator's in torch's
dispatcher, its arguments must be of the types in its schema, and all memory is meta. So the worst that a file can do is
describe a large model.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch

from roofline import compat
from roofline.errors import SourceError

# Namespaces of operators that only compute: torch's own, those that quantized programs are exported with, torchvision's.
# All others are refused: inductor and profiler call back into Python, c10d and symm_mem open connections, image reads files,
# prim and the rest of TorchScript's hold no tensors, and what a package or a person registered may do anything.
SPACES = ("aten", "prims", "quantized", "quantized_decomposed", "torchvision")
# Operators of these namespaces that do more than compute, by name without overload: they reach a file, the terminal or state
# of this process, or put a tensor over other memory. All of `_test...` and `inductor_...` are too.
REFUSED = frozenset({
    "from_file", "_print", "_backward", "set", "set_", "set_data", "resize", "resize_", "resize_as", "resize_as_",
    "_resize_output", "_resize_output_", "resize_as_sparse", "resize_as_sparse_", "sparse_resize", "sparse_resize_",
    "sparse_resize_and_clear", "sparse_resize_and_clear_", "resize_storage_bytes_", "requires_grad_", "retain_grad",
    "record_stream", "pin_memory", "_pin_memory", "is_pinned", "_cufft_set_plan_cache_max_size", "_cufft_clear_plan_cache",
    "_cudnn_init_dropout_state", "_propagate_xla_data", "manual_seed",
})  # fmt: skip
# Arguments that are text: these choose among ways to compute. Text anywhere else (a file's name, say) is refused.
WORDS = frozenset({
    "activation", "algorithm", "api_name", "approximate", "assert_msg", "driver", "equation", "indexing", "interpolation",
    "mode", "norm", "ord", "p", "pad_mode", "padding", "padding_side", "reduce", "rounding_mode", "side", "UPLO",
})  # fmt: skip
# What an operator may take and give, besides text: nothing that stands for an object of another library.
_TYPES = frozenset({"Tensor", "int", "float", "bool", "number", "Device", "Generator", "QScheme"})
# A number that a graph works out is the size of something: it fits 64 bits.
_MOST = 2**63 - 1
# Tensors that one operator may return.
PIECES = 65_536
_OPERATOR = re.compile(r"torch\.ops\.(\w+)\.(\w+)(?:\.(\w+))?")
Number = int | float


def _power(a: Number, b: Number) -> Any:
    if isinstance(a, int) and isinstance(b, int) and b > 1 and a.bit_length() * b > 2 * _MOST.bit_length():
        raise OverflowError("a power beyond 64 bits")
    return a**b


def _item(values: list[Any], i: int) -> Any:
    if not isinstance(values, (list, tuple)) or type(i) is not int:
        raise TypeError("an item is taken of a list, at a whole number")
    return values[i]


def _sum(values: list[Any]) -> Any:
    if not isinstance(values, (list, tuple)) or not all(map(_is_number, values)):
        raise TypeError("a sum is taken of a list of numbers")
    return sum(values)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float, bool)


# Arithmetic on sizes. Each takes as many numbers as stand here, by position.
_ARITHMETIC: dict[str, tuple[Callable[..., Any], int]] = {
    **{
        f"_operator.{n}": (getattr(operator, n), 2)
        for n in ("add", "sub", "mul", "floordiv", "truediv", "mod", "eq", "ne", "lt", "le", "gt", "ge", "and_", "or_")
    },
    **{f"_operator.{n}": (getattr(operator, n), 1) for n in ("neg", "pos", "not_")},
    "_operator.pow": (_power, 2),
    **{f"math.{n}": (getattr(math, n), 1) for n in ("ceil", "floor", "trunc", "sqrt")},
    "torch.sym_int": (int, 1),
    "torch.sym_float": (float, 1),
    "torch.sym_not": (operator.not_, 1),
    "torch.sym_max": (lambda a, b: max(a, b), 2),
    "torch.sym_min": (lambda a, b: min(a, b), 2),
    "torch.sym_ite": (lambda b, t, f: t if b else f, 3),
    "torch._sym_sqrt": (math.sqrt, 1),
}
_OF_LISTS: dict[str, Callable[..., Any]] = {"torch.sym_sum": _sum, "_operator.getitem": _item}


def call(target: str, args: list[Any], kwargs: dict[str, Any], device: torch.device, where: str) -> Any:
    """The result of one node. Raises SourceError for a target that a file may not name, and where the call cannot be made."""
    if target in _ARITHMETIC or target in _OF_LISTS:
        return _arithmetic(target, args, kwargs, where)
    function = operator_of(target, where)
    try:
        checked = _arguments(function, args, kwargs, device)
    except TypeError as error:
        raise SourceError(f"{where}: {target}: {error}") from None
    result = function(*args, **checked)
    for t in result if isinstance(result, (list, tuple)) else (result,):
        if isinstance(t, torch.Tensor) and not t.is_meta:
            raise SourceError(f"{where}: {target}: it makes a tensor with memory, which a program in a file may not")
    return result


def _arithmetic(target: str, args: list[Any], kwargs: Mapping[str, Any], where: str) -> Any:
    try:
        if kwargs:
            raise TypeError(f"it takes no keyword ({', '.join(map(repr, kwargs))})")
        if target in _OF_LISTS:
            result = _OF_LISTS[target](*args)
        else:
            function, count = _ARITHMETIC[target]
            if len(args) != count or not all(map(_is_number, args)):
                raise TypeError(f"it takes {count} number{'s' * (count > 1)}")
            result = function(*args)
        if target != "_operator.getitem" and not _is_number(result):
            raise TypeError("it gives no number")
        if type(result) is int and abs(result) > _MOST:
            raise OverflowError("a number beyond 64 bits")
    except (TypeError, ValueError, ArithmeticError, IndexError) as error:
        raise SourceError(f"{where}: {target} cannot be worked out: {error}; it is arithmetic on numbers only") from None
    return result


def operator_of(target: str, where: str) -> Any:
    """The operator of that name. Raises SourceError where a file may not call it, or there is none."""
    match = _OPERATOR.fullmatch(target) if target.isascii() else None
    refused = f"{where}: operator {_short(target)} is refused"
    if match and match[1] not in SPACES:
        raise SourceError(
            f"{refused}: a file may name operators of {', '.join(SPACES)} only\nname the model's Python source instead"
        )
    if match and (match[2] in REFUSED or match[2].startswith(("_test", "inductor_"))):
        raise SourceError(f"{refused}: it does more than compute, and a file never runs code")
    if match and match[1] == "torchvision":
        compat.load("torchvision", f"{where}: {target}")  # it registers them when it is imported
    packet = getattr(getattr(torch.ops, match[1]), match[2], None) if match else None
    name = (match[3] or "default") if match else ""
    # a namespace and a packet have methods of their own, and TorchScript's operators are no kernels
    if not isinstance(packet, torch._ops.OpOverloadPacket) or name not in packet.overloads():  # type: ignore[no-untyped-call]  # torch's own
        raise _unknown(target, where)
    function = getattr(packet, name)
    if not isinstance(function, torch._ops.OpOverload) or not _dispatched(function):
        raise _unknown(target, where)
    for argument in function._schema.arguments:
        kind = _bare(str(argument.type))
        if (argument.name not in WORDS) if kind == "str" else (kind not in _TYPES):
            raise SourceError(f"{refused}: its argument {argument.name!r} ({kind}) is nothing that a file may give")
    if any(_bare(str(r.type)) not in _TYPES for r in function._schema.returns):
        raise SourceError(f"{refused}: it gives neither tensors nor numbers")
    return function


def _unknown(target: str, where: str) -> SourceError:
    return SourceError(
        f"{where}: operator {_short(target)} is not known here\n"
        "import the package that registers it, or name the model's Python source instead"
    )


def _short(text: str) -> str:
    return repr(text if len(text) < 200 else text[:200] + "...")


def _dispatched(function: Any) -> bool:
    """Whether it is an operator of the dispatcher: TorchScript's alone (text, dictionaries, seeds) have no kernels there."""
    try:
        function.has_kernel_for_dispatch_key(torch._C.DispatchKey.Meta)  # the answer does not matter, only that there is one
    except RuntimeError:
        return False
    return True


def _bare(kind: str) -> str:
    """Optional[List[int]] -> int."""
    while kind.startswith(("Optional[", "List[")):
        kind = kind[kind.index("[") + 1 : -1]
    return kind


def _arguments(function: Any, args: list[Any], kwargs: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """The keyword arguments to call it with. Raises TypeError for arguments that its schema does not take.

    An operator that takes a device gets the program's, which is meta: no file asks for memory.
    """
    known = function._schema.arguments
    byname = {a.name: a for a in known}
    if len(args) > sum(not a.kwarg_only for a in known):
        raise TypeError(f"it takes {len(known)} arguments, not {len(args)}")
    given = dict(zip((a.name for a in known), args, strict=False))
    for name in kwargs:
        if name not in byname:
            raise TypeError(f"it takes no argument {_short(name)}")
        if name in given:
            raise TypeError(f"it is given {name!r} twice")
    given |= kwargs
    for name, value in given.items():
        if not _fits(str(byname[name].type), value):
            raise TypeError(f"its argument {name!r} is {byname[name].type}, which {_short(repr(value))} is not")
    if "device" in byname:
        if "device" not in given:
            kwargs = {**kwargs, "device": device}
    elif any(_bare(str(a.type)) == "Tensor" for a in known) and not any(_holds_tensor(v) for v in given.values()):
        raise TypeError("it is given no tensor")
    pieces = _pieces(function, given)
    if pieces > PIECES:
        raise TypeError(f"it would return {pieces:,} tensors, and {PIECES:,} are the most that a file may ask for")
    return kwargs


def _fits(kind: str, value: Any) -> bool:
    if kind.startswith("Optional["):
        return value is None or _fits(kind[9:-1], value)
    if kind.startswith("List["):
        if isinstance(value, (list, tuple)):
            return all(_fits(kind[5:-1], v) for v in value)
        return kind in ("List[int]", "List[float]", "List[bool]") and _fits(kind[5:-1], value)  # int[2]: one for all
    if kind == "Tensor":
        return isinstance(value, torch.Tensor) or _is_number(value) or isinstance(value, complex)
    if kind == "number":
        return _is_number(value) or isinstance(value, complex)
    # enumerations are whole numbers in a schema
    if kind == "int":
        return type(value) is int or isinstance(value, (torch.dtype, torch.layout, torch.memory_format))
    if kind == "float":
        return type(value) in (int, float)
    wanted = {"bool": bool, "str": str, "Device": torch.device}.get(kind)
    return wanted is not None and isinstance(value, wanted)


def _holds_tensor(value: Any) -> bool:
    return any(isinstance(v, torch.Tensor) for v in (value if isinstance(value, (list, tuple)) else (value,)))


def _pieces(function: Any, given: Mapping[str, Any]) -> int:
    """How many tensors it returns, for operators that cut one into as many as an argument or a size says."""
    t = given.get("self")
    several = any(str(r.type) == "List[Tensor]" for r in function._schema.returns)
    if not several or not isinstance(t, torch.Tensor) or not t.dim():
        return 0
    counts = [n for key in ("chunks", "sections", "indices_or_sections") if type(n := given.get(key)) is int]
    if counts:
        return max(counts)
    each = given.get("split_size", 1 if "unbind" in function._schema.name else t.numel())
    return int(t.shape[given.get("dim", 0)]) // max(each, 1) if type(each) is int else 0
