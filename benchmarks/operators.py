"""Every operator that torch's own tests know, traced and run for real on the CPU: peak memory and kernels side by side.

    python benchmarks/operators.py [NAME ...] [--training] [--samples N] [--all] [--json FILE]

The samples are those of torch.testing (`op_db`, which needs the package expecttest), drawn larger than there so that a
temporary shows. Measured are the events of PyTorch's CPU allocator, and the outermost operators in the profiler's record
that have a kernel for the CPU. What such a kernel calls inside it is not told apart, so kernels can be one too few; memory
cannot. A step is forward and backward of the sum of the results, without an optimizer.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from memory import this_cpu
from msgspec.structs import replace
from torch import nn
from torch.autograd.profiler import profile

from roofline.analysis import memory as footprint
from roofline.devices.device import Device
from roofline.kernels import build as kernels
from roofline.records import Trace
from roofline.tracing.trace import trace

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from oracles.allocator import held, tensors_in, tensors_of

# Sizes of torch's samples: 5, 10 and 20 there, too small to tell a temporary from a number.
SIZES = {"S": 16, "M": 24, "L": 32}
# Elements of all tensors of a sample.
LEAST, MOST = 200, 1 << 21
# Bytes that do not count: numbers that PyTorch wraps as tensors. A peak may differ by this, or by that part of it.
SLACK, PART = 256, 0.02
# The state of the random generator, which samples that set it copy.
GENERATOR = 5056
# They have a kernel for the CPU, and only reserve memory or look at it.
_NOTHING = frozenset(
    {"empty", "empty_strided", "resize_", "set_", "_local_scalar_dense", "as_strided", "view", "_reshape_alias"}
)
# Its samples make torch itself read beyond its memory.
_LEFT_OUT = ("_refs", "_segment", "to_sparse")


class Call(nn.Module):
    """One call of an operator; its floating tensors are parameters where a training step is wanted."""

    def __init__(self, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any], training: bool) -> None:
        super().__init__()
        self.op, self.kwargs = op, kwargs
        self.values = self._own(args) if training else args

    def _own(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            name = f"p{len(self._parameters)}"
            self.register_parameter(name, nn.Parameter(value.detach().clone()))
            return name, nn.Parameter
        return type(value)(self._own(v) for v in value) if type(value) in (list, tuple) else value

    def _value(self, value: Any) -> Any:
        if type(value) is tuple and len(value) == 2 and value[1] is nn.Parameter:
            return self._parameters[value[0]]
        return type(value)(self._value(v) for v in value) if type(value) in (list, tuple) else value

    def forward(self, *args: Any) -> Any:
        return self.op(*(args or self._value(self.values)), **self.kwargs)


class Row(NamedTuple):
    """One sample of one operator: bytes at the peak and kernels, of our trace and of the run."""

    name: str
    sample: str
    peak: int = 0
    real: int = 0
    kernels: tuple[str, ...] = ()
    launched: tuple[str, ...] = ()
    # torch's own refusal, or ours; the rest is empty then
    torch: str = ""
    ours: str = ""

    @property
    def same_memory(self) -> bool:
        more = self.real - self.peak
        return not self.ours and (abs(more) <= max(SLACK, PART * self.real) or more == GENERATOR)

    @property
    def same_kernels(self) -> bool:
        return not self.ours and len(self.kernels) == len(self.launched)


def with_kernel() -> frozenset[str]:
    """Operators of ATen that have a kernel of their own on a CPU, views apart."""
    found = {"copy_"}  # one implementation for all backends, and one kernel
    for full in torch._C._dispatch_get_all_op_names():
        space, _, rest = full.partition("::")
        name, _, overload = rest.partition(".")
        func = getattr(getattr(torch.ops.aten, name, None), overload or "default", None) if space == "aten" else None
        schema = getattr(func, "_schema", None)
        if schema is None or not torch._C._dispatch_has_kernel_for_dispatch_key(full, "CPU"):
            continue
        aliased = [r.alias_info for r in schema.returns]
        if name not in _NOTHING and not (aliased and all(a is not None and not a.is_write for a in aliased)):
            found.add(name)
    return frozenset(found)


def events(module: nn.Module, args: tuple[Any, ...], training: bool, own: frozenset[str]) -> tuple[int, tuple[str, ...]]:
    """The most bytes allocated during a run, and its operators with a kernel of their own."""
    with profile(profile_memory=True, use_kineto=True) as prof:
        result = step(module, args) if training else module(*args)
    del result
    now = peak = until = 0
    found = []
    for event in sorted(prof.kineto_results.events(), key=lambda e: (e.start_ns(), -e.duration_ns())):
        name = event.name()
        if name == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
        elif event.start_ns() >= until and name.startswith("aten::") and name[6:] in own:
            found.append(name[6:])
            until = event.start_ns() + event.duration_ns()
    return peak, tuple(found)


def step(module: nn.Module, args: tuple[Any, ...]) -> Any:
    output = module(*args)
    floats = [t for t in tensors_in(output) if t.requires_grad]
    loss = floats[0].sum()
    for t in floats[1:]:
        loss = loss + t.sum()
    loss.backward()  # type: ignore[no-untyped-call]  # torch's own
    return output, loss


def without_update(found: Trace) -> Trace:
    """A training step's trace up to the optimizer, whose state and update are another matter."""
    last = max((i for i, op in enumerate(found.ops) if op.phase != "optimizer"), default=-1)
    storages = [replace(s, nbytes=0) if s.kind == "state" else s for s in found.storages]
    storages = [replace(s, died=-1) if s.died > last else s for s in storages]
    return replace(found, ops=found.ops[: last + 1], storages=tuple(storages))


def operators() -> list[Any]:
    """torch's list of operators that take float32, with the sizes of its samples raised."""
    from torch.testing._internal import common_methods_invocations as db
    from torch.testing._internal.opinfo import definitions

    for module in (db, *(getattr(definitions, n) for n in ("linalg", "special", "_masked", "fft", "signal"))):
        for size, value in SIZES.items():
            if hasattr(module, size):
                setattr(module, size, value)
    return [info for info in db.op_db if torch.float32 in info.dtypes and not info.name.startswith(_LEFT_OUT)]


def samples(info: Any, count: int) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """The largest sample, and others spread over the list: they differ in what they ask for."""
    torch.manual_seed(0)
    drawn = []
    for i, sample in enumerate(info.sample_inputs("cpu", torch.float32, requires_grad=False)):
        values = (sample.input, *sample.args)
        size = sum(t.numel() for t in tensors_in((values, sample.kwargs)))
        if LEAST <= size <= MOST:
            drawn.append((size, values, sample.kwargs))
        if i > 200:
            break
    drawn.sort(key=lambda d: -d[0])
    for _size, values, kwargs in drawn[:: max(1, len(drawn) // count)][:count]:
        yield values, kwargs


def compare(
    info: Any, values: tuple[Any, ...], kwargs: dict[str, Any], training: bool, cpu: Device, own: frozenset[str]
) -> Row:
    words = [*(_text(v) for v in values), *(f"{k}={_text(v)}" for k, v in kwargs.items())]
    row = Row(f"{info.name}.{info.variant_test_name}".rstrip("."), ", ".join(words)[:160])
    module = Call(info.op, values, kwargs, training)
    args = () if training else values
    module.train(training)
    try:
        with torch.enable_grad() if training else torch.inference_mode():
            step(module, args) if training else module(*args)
            module.zero_grad(set_to_none=True)
            peak, launched = events(module, args, training, own)
            module.zero_grad(set_to_none=True)
    except Exception as error:
        return row._replace(torch=str(error)[:100] or type(error).__name__)
    kept = [t for t in tensors_in(module.values) if training]
    row = row._replace(real=held(tensors_of(module), args, dict(kwargs), kept) + peak, launched=launched)
    try:
        found = trace(module, args, optimizer="sgd" if training else "")
        found = without_update(found) if training else found
        built = kernels.build(found, "eager", "cpu")
    except Exception as error:
        return row._replace(ours=f"{type(error).__name__} {str(error)[:120]}")
    return row._replace(peak=footprint.peak(found, cpu).total, kernels=tuple(k.op for k in built))


def _text(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        shape = "x".join(map(str, value.shape)) or "scalar"
        return f"{shape}:{str(value.dtype)[6:]}{'' if value.is_contiguous() else ' strided'}"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(map(_text, value)) + "]"
    return str(value)[:40]


def told(row: Row) -> str:
    if row.ours:
        return f"{row.name} | {row.sample} | {row.ours}"
    words = f"{row.name} | {row.sample} | {row.peak:,} B, allocator {row.real:,}{'' if row.same_memory else ' MEMORY'}"
    return words if row.same_kernels else f"{words} | {' '.join(row.kernels[:16])} | KERNELS {' '.join(row.launched[:16])}"


def summary(rows: list[Row]) -> str:
    known = [r for r in rows if not r.torch]
    names = {r.name for r in known}
    memory = len(names - {r.name for r in known if not r.same_memory})
    launched = len(names - {r.name for r in known if not r.same_kernels})
    return f"{len(names)} operators, {len(known)} calls: the same peak in {memory}, the same number of kernels in {launched}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="operators as op_db names them, with or without the variant")
    parser.add_argument("--training", action="store_true", help="forward and backward instead of inference")
    parser.add_argument("--samples", type=int, default=3, help="at most so many of each operator")
    parser.add_argument("--all", action="store_true", help="print rows that agree too")
    parser.add_argument("--json", type=Path, help="all rows into this file")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    cpu, own, rows = this_cpu(), with_kernel(), []
    for info in operators():
        if options.names and not {info.name, f"{info.name}.{info.variant_test_name}"} & {*options.names}:
            continue
        try:
            drawn = list(samples(info, options.samples))
        except Exception as error:  # its samples do not take other sizes
            print("no samples:", info.name, str(error)[:80], file=sys.stderr)
            continue
        for values, kwargs in drawn:
            rows.append(compare(info, values, kwargs, options.training, cpu, own))
            if options.all or not (rows[-1].torch or (rows[-1].same_memory and rows[-1].same_kernels)):
                print(told(rows[-1]), flush=True)
        gc.collect()
    print(summary(rows))
    if options.json:
        options.json.write_text(json.dumps([r._asdict() for r in rows]))


if __name__ == "__main__":
    main()
