"""Ours beside others: multiply-accumulates of every layer as we, fvcore and torch's FlopCounterMode count them, and what was
published. Where they differ, which operator and why. Imports torch and fvcore.

Compared is the matmul kind (convolution, matrix products, attention, recurrent layers), since that is what the three have in
common. fvcore adds a count of its own for norms, pooling and interpolation to its total; it is shown apart.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from msgspec import Struct
from torch import nn

from roofline.classes import CONVS
from roofline.errors import UsageError
from roofline.kernels import build as kernels
from roofline.records import Kernel, Trace, around
from roofline.request import Request
from roofline.sources import build
from roofline.sources.alone import alone
from roofline.sources.attempts import REAL_LIMIT
from roofline.sources.resolve import resolve
from roofline.sources.source import Source
from roofline.tracing.arguments import tensors_in

FVCORE, TORCH = "fvcore", "FlopCounterMode"
# Modules that torch runs as one fused operator in evaluation without gradients.
FAST_PATHS = {"MultiheadAttention", "TransformerEncoderLayer", "TransformerEncoder"}
# fvcore's names for what multiplies and accumulates; the rest of its count is one or a few FLOPs per element.
_FVCORE_PRODUCTS = {"conv", "addmm", "bmm", "einsum", "matmul", "mm", "linear"}
# What a tool of others may raise over a model.
_FAILURES = (RuntimeError, TypeError, ValueError, KeyError, IndexError, AttributeError, AssertionError, NotImplementedError)


class Row(Struct, frozen=True, kw_only=True):
    """One layer in which somebody counts products: its own operators, without its children's."""

    layer: str
    type: str
    # our operators in it: "conv2d", "linear + scaled_dot_product_attention"
    op: str
    # multiply-accumulates; None where the tool failed
    ours: int
    fvcore: int | None
    torch: int | None
    # empty where all agree
    why: str = ""


class Published(Struct, frozen=True, kw_only=True):
    """A number in print: multiply-accumulates or parameters, as text where it is rounded."""

    what: str
    value: str
    ours: int
    agrees: bool
    source: str
    # why it is not ours, where that is known
    why: str = ""


class Crosscheck(Struct, frozen=True, kw_only=True):
    """Every layer with products, the totals, and the numbers in print."""

    model: str
    source: str
    inputs: list[str]
    rows: list[Row]
    # totals of multiply-accumulates; None where the tool failed
    ours: int
    fvcore: int | None
    torch: int | None
    # what fvcore counts besides (norms, pooling, interpolation), and operators that it met without a rule
    fvcore_other: int
    fvcore_unsupported: dict[str, int]
    # tool -> why it gave no count
    failed: dict[str, str]
    published: list[Published]
    notes: list[str]

    @property
    def differing(self) -> list[Row]:
        return [row for row in self.rows if row.why]


def crosscheck(request: Request) -> Crosscheck:
    """Count a model three ways, on one module with one input. Raises what `roofline.analyze` raises."""
    found = resolve(request.ask)
    if not found.kind.torch:
        raise UsageError(f"{request.ask.model}: the other counters take PyTorch modules, not {found.kind.titles}")
    with alone(found):
        return _compared(found, request.progress)


def _compared(found: Source, progress: Callable[[str], object]) -> Crosscheck:
    builder, module, args, kwargs, trace = _traced(found, progress)
    module, args, kwargs = _real(builder, module, args, kwargs)
    ours = _ours(trace)
    tools: dict[str, dict[str, dict[str, int]]] = {}
    failed: dict[str, str] = {}
    unsupported: dict[str, int] = {}
    for name, run in ((FVCORE, _fvcore), (TORCH, _flop_counter)):
        progress(f"counting {found.name} with {name}")
        try:
            with _quiet(), torch.no_grad():
                tools[name] = run(module, args, kwargs, unsupported)
        except _FAILURES as error:
            failed[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    other = {path: _take_other(ops) for path, ops in tools.get(FVCORE, {}).items()}
    rows = list(_rows(trace, ours, tools.get(FVCORE), tools.get(TORCH), unsupported))
    return Crosscheck(
        model=found.name,
        source=found.label,
        inputs=["x".join(map(str, i.shape)) for i in trace.model.inputs],
        rows=rows,
        ours=sum(row.ours for row in rows),
        fvcore=sum(row.fvcore or 0 for row in rows) if FVCORE in tools else None,
        torch=sum(row.torch or 0 for row in rows) if TORCH in tools else None,
        fvcore_other=sum(other.values()),
        fvcore_unsupported=unsupported,
        failed=failed,
        published=list(_published(found, trace, sum(row.ours for row in rows))),
        notes=list(trace.notes),
    )


def _traced(
    found: Source, progress: Callable[[str], object]
) -> tuple[build.Builder, nn.Module, list[Any], dict[str, Any], Trace]:
    """What builds the module, the module, its call and our trace of it; on real tensors where the model needs values."""
    from roofline.tracing import trace as tracing
    from roofline.tracing import ways

    progress(f"building {found.name}")
    builder = build.Builder(found)
    module = builder()
    inputs = build.inputs(found, module)
    args, kwargs = build.call_with(module, inputs)
    try:
        trace = tracing.trace(module, args, kwargs, name=found.name, source=found.label, real=build.is_quantized(module))
    except ways.Stopped:
        trace = tracing.trace(builder(real=True), args, kwargs, name=found.name, source=found.label, real=True)
    return builder, module, args, kwargs, trace


def _real(
    builder: build.Builder, module: nn.Module, args: list[Any], kwargs: dict[str, Any]
) -> tuple[nn.Module, list[Any], dict[str, Any]]:
    """The same on real tensors: the tools of others run the model. A model too large for that stays as it is."""
    if sum(p.numel() * p.element_size() for p in module.parameters()) > REAL_LIMIT:
        return module, args, kwargs
    if any(p.is_meta for p in module.parameters()):
        module = builder(real=True)
    if any(p.is_meta for p in module.parameters()):
        return module, args, kwargs
    return module, _values(args), dict(zip(kwargs, _values(list(kwargs.values())), strict=True))


def _values(tensors: list[Any]) -> list[Any]:
    """Real inputs like those that a trace on real tensors draws."""
    seed = torch.Generator().manual_seed(0)
    return [
        torch.rand(t.shape, generator=seed, dtype=t.dtype) if t.dtype.is_floating_point else torch.zeros(t.shape, dtype=t.dtype)
        for t in tensors
    ]


# ------------------------------------------------------------------------------------------------ the counters


def _ours(trace: Trace) -> dict[int, list[Kernel]]:
    """Kernels by the layer that ran them."""
    found: dict[int, list[Kernel]] = {}
    for k in kernels.build(trace):
        found.setdefault(k.layer, []).append(k)
    return found


def _fvcore(
    module: nn.Module, args: list[Any], kwargs: dict[str, Any], unsupported: dict[str, int]
) -> dict[str, dict[str, int]]:
    """Layer path -> operator -> count, each layer's own."""
    from fvcore.nn import FlopCountAnalysis

    counted = FlopCountAnalysis(_Plain(module, list(kwargs)), (*args, *kwargs.values()))
    counted.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    table = {path: {op: int(n) for op, n in ops.items()} for path, ops in counted.by_module_and_operator().items()}
    unsupported.update(counted.unsupported_ops())
    return _own({path.removeprefix("inner").lstrip("."): ops for path, ops in table.items() if path})


class _Plain(nn.Module):
    """Takes by position what the module takes by name, and returns a tuple: fvcore's tracer knows no other."""

    def __init__(self, inner: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.inner = inner
        self.names = names

    def forward(self, *tensors: torch.Tensor) -> Any:
        at = len(tensors) - len(self.names)
        return tuple(tensors_in(self.inner(*tensors[:at], **dict(zip(self.names, tensors[at:], strict=True)))))


def _flop_counter(
    module: nn.Module, args: list[Any], kwargs: dict[str, Any], unsupported: dict[str, int]
) -> dict[str, dict[str, int]]:
    """Layer path -> operator -> multiply-accumulates (it counts two FLOPs each), each layer's own."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        module(*args, **kwargs)
    root = type(module).__name__
    table = {}
    for name, ops in counter.get_flop_counts().items():
        path = name.removeprefix(root).lstrip(".")
        if name == root or name.startswith(root + "."):
            table[path] = {str(op).removeprefix("aten."): n // 2 for op, n in ops.items()}
    everything = counter.get_flop_counts().get("Global", {})
    table[""] = {str(op).removeprefix("aten."): n // 2 for op, n in everything.items()}
    return _own(table)


def _own(table: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """Sums over subtrees -> each layer's own: what it has less what its nearest counted descendants have."""
    own = {path: dict(ops) for path, ops in table.items()}
    for path, ops in table.items():
        if (above := around(path, own)) is not None:
            for op, n in ops.items():
                own[above][op] = own[above].get(op, 0) - n
    return own


def _take_other(ops: dict[str, int]) -> int:
    """Remove what is no product from fvcore's counts of a layer; returns the sum of it."""
    return sum(ops.pop(op) for op in list(ops) if op not in _FVCORE_PRODUCTS)


# ------------------------------------------------------------------------------------------------ comparison


def _rows(
    trace: Trace,
    ours: Mapping[int, list[Kernel]],
    fvcore: dict[str, dict[str, int]] | None,
    flop_counter: dict[str, dict[str, int]] | None,
    unsupported: Mapping[str, int],
) -> Iterator[Row]:
    for i, layer in enumerate(trace.layers):
        launched = [k for k in ours.get(i, ()) if k.macs]
        macs = sum(k.macs for k in launched)
        theirs = None if fvcore is None else sum(fvcore.get(layer.path, {}).values())
        torchs = None if flop_counter is None else sum(flop_counter.get(layer.path, {}).values())
        if not (macs or theirs or torchs):
            continue
        yield Row(
            layer=layer.path,
            type=layer.type,
            op=" + ".join(dict.fromkeys(k.op for k in launched)),
            ours=macs,
            fvcore=theirs,
            torch=torchs,
            why="; ".join(_why(layer.type, launched, macs, theirs, torchs, unsupported)),
        )


def _why(
    layer: str, launched: Sequence[Kernel], ours: int, fvcore: int | None, torchs: int | None, unsupported: Mapping[str, int]
) -> Iterator[str]:
    for tool, count in ((FVCORE, fvcore), (TORCH, torchs)):
        if count is None or count == ours:
            continue
        missed = [k for k in launched if _missed_by(tool, k, unsupported)]
        if ours - count == sum(k.macs for k in missed) and missed:
            yield f"{tool} has no rule for {', '.join(dict.fromkeys(k.op for k in missed))}"
        elif count == 0 and layer in FAST_PATHS:
            yield f"{layer} runs as one fused operator in evaluation, for which {tool} has no rule"
        elif any(k.op.startswith("conv_transpose") for k in launched):
            yield f"{tool} counts a transposed convolution by its output"
        else:
            yield f"{tool} counts {count:,} where the shapes give {ours:,}"


def _missed_by(tool: str, kernel: Kernel, unsupported: Mapping[str, int]) -> bool:
    if tool == FVCORE:
        # what padding="same" becomes in its graph
        if kernel.klass in CONVS and "aten::_convolution_mode" in unsupported:
            return True
        return any(op.removeprefix("aten::").rstrip("_") == kernel.op.rstrip("_") for op in unsupported)
    return (
        kernel.klass == "rnn" or kernel.op.startswith("quantized.") or kernel.op in ("mv", "dot", "addmv", "cdist", "bilinear")
    )


# ------------------------------------------------------------------------------------------------ numbers in print


def _published(found: Source, trace: Trace, macs: int) -> Iterator[Published]:
    if found.asked.inputs or found.asked.batch or found.asked.resolution:
        return
    ours = {"macs": macs, "params": trace.model.params}
    for said in found.kind.published(found):
        mine = ours[said.what]
        yield Published(
            what=said.what, value=said.value, ours=mine, agrees=rounds_to(mine, said.value), source=said.source, why=said.why
        )


def rounds_to(value: int, text: str) -> bool:
    """Whether a count agrees with a number as printed: "569 M" stands for 568.5 to 569.5 million, "1234" for itself."""
    number, _, unit = text.partition(" ")
    scale = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}[unit.strip()[:1]]
    decimals = len(number.partition(".")[2])
    if not unit and not decimals:
        return value == int(number)
    return abs(value / scale - float(number)) <= 0.5001 * 10.0**-decimals


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings and log lines of the other tools."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
