"""What an operator costs: shapes of its products, FLOPs, bytes and class, from its OpSpec alone (shapes, dtypes, arguments; no
torch).

`count` knows an operator, knows it to be free, or returns None: unknown. Nothing is guessed, and an error inside a rule is
never turned into a zero. Families live in the modules of this package; docs/add-an-op.md tells how to add one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from msgspec.structs import replace

from roofline.classes import KLASSES
from roofline.cost import attention, contract, conv, layout, matmul, norm, pointwise, pool, reduce
from roofline.cost import traffic as _traffic
from roofline.cost.access import strides
from roofline.cost.registry import BYTES, INSTALLED, LATE, MEMOS, RULES, Cost, Count, Rule, add, qualified
from roofline.dtypes import DTYPE_BITS
from roofline.errors import UsageError
from roofline.records import OpSpec, TensorSpec, Work
from roofline.shapes import Conv

__all__ = ["Cost", "classify", "compute_dtype", "count", "mutated", "register_flops", "rule_of", "traffic", "work"]

FAMILIES = (attention, contract, conv, layout, matmul, norm, pointwise, pool, reduce)
# Families that most models have nothing of: read once an operator turns up that has no rule among those above.
LATER = ("fft", "linalg", "onnx", "quantized", "rnn")

FREE = Cost()

# The name that an operator was called by -> its rule, filled as operators turn up.
_found: dict[tuple[str, str], Rule | None] = {}
MEMOS.append(_found)
# Rules that come with this program: what is entered later is somebody's own.
_SHIPPED = dict(RULES)
_state = {"entry points read": False}


def complete() -> None:
    """Have the rules of all families in the table, those too that are read late."""
    if not LATE:
        late = {import_module(f"{__name__}.{family}").__name__ for family in LATER}
        # by where they are written: somebody may have imported one of the families before
        LATE.update({name: rule for name, rule in RULES.items() if rule.count.__module__ in late})
        _SHIPPED.update(LATE)
    # somebody may have put the table back to what it was before they were read
    RULES.update({name: rule for name, rule in LATE.items() if name not in RULES})


def added() -> dict[str, Rule]:
    """Rules that somebody entered in this process, those of installed packages left out."""
    if not LATE and any(f"{__name__}.{family}" in sys.modules for family in LATER):
        complete()  # one of ours that somebody imported is no rule of theirs
    return {name: rule for name, rule in RULES.items() if _SHIPPED.get(name) is not rule and INSTALLED.get(name) is not rule}


def asked_packages() -> bool:
    """Whether an operator without a rule of ours was met, so that the answer depends on which packages are installed."""
    return _state["entry points read"]


def rule_of(name: str, overload: str = "") -> Rule | None:
    """The rule for an operator: by overload, by name, without the in-place underscore or `_copy`, then by entry point."""
    key = (name, overload)
    if key in _found:
        return _found[key]
    rule = _search(name, overload)
    if rule is None:
        complete()
        rule = _search(name, overload)
    if rule is None and not _state["entry points read"]:
        _read_entry_points()
        rule = _search(name, overload)
    _found[key] = rule
    return rule


def _search(name: str, overload: str) -> Rule | None:
    rule = RULES.get(f"{name}.{overload}") or RULES.get(name)
    if rule is not None:
        return rule
    space, _, op = name.partition(".")
    if op.endswith("_") and not op.endswith("__"):
        return _search(name[:-1], overload)
    if space == "prims" and op in pointwise.WEIGHTS:
        return RULES["aten." + op]
    if space != "aten":
        return None
    if op.startswith("_foreach_"):
        return pointwise.foreach(op.removeprefix("_foreach_"))
    if op.endswith("_copy") and op.removesuffix("_copy") and f"aten.{op.removesuffix('_copy')}" in RULES:
        return RULES["aten.copy"]  # view_copy, permute_copy: the view, made real
    return None


def _read_entry_points() -> None:
    """Let installed packages register rules: entry points of the group `roofline.ops`, modules or functions to call."""
    from importlib.metadata import entry_points

    _state["entry points read"] = True
    before = dict(RULES)
    for point in entry_points(group="roofline.ops"):
        try:
            loaded = point.load()
        except ImportError as error:
            raise UsageError(f"entry point roofline.ops:{point.name} ({point.value}) cannot be imported: {error}") from error
        if callable(loaded):
            loaded()
    INSTALLED.update({name: rule for name, rule in RULES.items() if before.get(name) is not rule})


def _result(spec: OpSpec) -> TensorSpec | tuple[TensorSpec, ...]:
    return spec.outputs[0] if len(spec.outputs) == 1 else spec.outputs


def _call(function: Callable[..., Any], spec: OpSpec) -> Any:
    if "out" in spec.kwargs:
        kwargs = {k: v for k, v in spec.kwargs.items() if k != "out"}
        return function(*spec.args, **kwargs, out=_result(spec))
    return function(*spec.args, **spec.kwargs, out=_result(spec))


def count(spec: OpSpec) -> Cost | None:
    """What one call takes, or None where no rule knows it (or shapes do not tell).

    Errors of a rule come through as they are. Raises UsageError where a rule returns what is no count.
    """
    if spec.view:
        return FREE
    rule = rule_of(spec.name, spec.overload)
    if rule is None:
        return Cost(extra=sum(t.numel for t in spec.outputs)) if spec.pointwise else None
    counted: Count = _call(rule.count, spec)
    if isinstance(counted, Cost):
        if counted.products and any(t.dtype.startswith("complex") for t in spec.inputs):
            return _complex(spec, counted)
        return counted
    if isinstance(counted, Work):
        return Cost(extra=counted.flops - 2 * counted.macs, untold=counted.macs)
    if isinstance(counted, int):
        return Cost(extra=counted, untold=0)
    if counted is None:
        return None
    raise UsageError(f"the rule for {spec.name} returns {counted!r}: a rule returns FLOPs (an int), Work, Cost or None")


def _complex(spec: OpSpec, counted: Cost) -> Cost:
    """A complex multiply-accumulate is four real ones."""
    if not compute_dtype(spec).startswith("complex"):
        return counted
    return replace(counted, products=tuple(replace(p, times=4 * p.times) for p in counted.products))


def work(spec: OpSpec) -> Work | None:
    """FLOPs and multiply-accumulates of one call; None where `count` does not know them."""
    counted = count(spec)
    return counted.work if counted is not None and counted.known else None


def traffic(spec: OpSpec) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Bytes read from each of spec.inputs and written to each of spec.outputs.

    What an operator writes in place without returning it is in `mutated`.
    """
    adjust = BYTES.get(spec.name)
    if adjust is None and spec.name.endswith("_"):
        adjust = BYTES.get(spec.name[:-1])
    return _traffic.traffic_of(spec, adjust)


def mutated(spec: OpSpec) -> tuple[int, ...]:
    """Bytes written in place to spec.inputs[i], for i in spec.mutates, that no output carries (`_foreach_add_` and such)."""
    return _traffic.mutated(spec)


def classify(spec: OpSpec, counted: Cost | None = None) -> str:
    """The class of kernel that runs it (roofline.classes); convolutions by their groups. `counted` spares counting it again."""
    if spec.view:
        return "host"
    rule = rule_of(spec.name, spec.overload)
    if rule is None:
        return "pointwise" if spec.pointwise else "other"
    if rule.klass in ("gemm", "conv"):
        counted = counted or count(spec)
        if counted is None or counted.untold is not None:
            return rule.klass
        if not counted.products:
            return "reduction"  # the gradient of a bias alone, distances without a product
        shape = counted.shape
        return shape.klass if isinstance(shape, Conv) else rule.klass
    if rule.klass == "layout" and _same_layout(spec):
        return "pointwise"  # a cast or a copy that streams
    return rule.klass


_COPIES = frozenset({"aten.clone", "aten.copy_", "aten.copy", "aten._to_copy", "aten.to", "aten.contiguous"})


def _same_layout(spec: OpSpec) -> bool:
    if spec.name not in _COPIES or not spec.outputs:
        return False
    source, result = spec.inputs[-1], spec.outputs[0]
    return source.shape == result.shape and strides(source) == strides(result)


def compute_dtype(spec: OpSpec) -> str:
    """The dtype that the arithmetic runs in (torch's name).

    Products run in the dtype of their first operand (int8 and fp8 accumulate wider; that is the unit's affair), everything
    else in the widest floating dtype among operands and results.
    """
    rule = rule_of(spec.name, spec.overload)
    if rule is not None and rule.klass in ("gemm", "conv", "attention", "rnn"):
        operand = next((a for a in spec.args if isinstance(a, TensorSpec)), None)
        if (
            spec.name.startswith(("aten.addmm", "aten.baddbmm", "aten.addmv", "aten.addbmm", "aten._addmm"))
            and len(spec.inputs) > 1
        ):
            operand = spec.inputs[1]
        operand = operand or (spec.inputs[0] if spec.inputs else None)
        if operand is not None:
            return operand.dtype
    tensors = (*spec.inputs, *spec.outputs)
    if not tensors:
        return "float32"
    floats = [t.dtype for t in tensors if "float" in t.dtype or "complex" in t.dtype]
    if floats:
        return max(floats, key=DTYPE_BITS.__getitem__)
    return max((t.dtype for t in tensors if t.dtype != "bool"), key=DTYPE_BITS.__getitem__, default="bool")


def register_flops(
    *names: Any, kind: str | None = None, override: bool = False
) -> Callable[[Callable[..., Count]], Callable[..., Count]]:
    """Decorator: count your own operators.

    `names` are operators as text ("mylib.fused_mlp", "mylib::fused_mlp", or with an overload "mylib.op.default") or as torch
    objects (torch.ops.mylib.fused_mlp). The function is called with the operator's arguments, tensors as TensorSpec (shape,
    dtype), and `out=` the result (a tuple where there are several); it returns FLOPs, or Work(flops, macs), or None where
    shapes do not tell. `kind` is the class of kernel (records.Kernel.klass), "other" if not given.
    With `override` the rule takes the place of one that there is, for the life of the process.

    Raises UsageError where a name has a rule already and `override` is not said, or `kind` is no class.
    """
    if kind is not None and kind not in KLASSES:
        raise UsageError(f"kind {kind!r} is no class of kernel; use one of {', '.join(sorted(KLASSES))}")
    if not names:
        raise UsageError("register_flops needs the name of an operator, as in @register_flops('mylib.op')")

    complete()

    def enter(count: Callable[..., Count]) -> Callable[..., Count]:
        add([_text(n) for n in names], Rule(count, kind or "other"), override)
        return count

    return enter


def _text(name: Any) -> str:
    text = qualified(str(name))
    return text.removesuffix(".default")
