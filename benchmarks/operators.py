"""Every operator that torch's own tests know, traced and run for real on the CPU: peak memory and kernels side by side.

    python benchmarks/operators.py [NAME ...] [--training] [--all] [--json FILE]

The samples are those of torch.testing (`op_db`, which needs `expecttest`), drawn larger than there so that a temporary
shows. Measured are the events of PyTorch's CPU allocator, and the operators that the profiler saw nothing below: a kernel
that an operator launches beside others that it calls is not seen apart, so kernels can be one too few, memory cannot.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from msgspec.structs import replace
from torch import nn
from torch.autograd.profiler import profile

from benchmarks.memory import held, tensors_of, this_cpu
from roofline import kernels, memory
from roofline.device import Device
from roofline.recorder import tensors_in
from roofline.records import RooflineError
from roofline.trace import trace

# Sizes of torch's samples: 5, 10 and 20 there, too small to tell a temporary from a scalar.
SIZES = {"S": 16, "M": 24, "L": 32}
MOST = 1 << 21  # elements of one sample
# Bytes that do not count: numbers that PyTorch wraps as tensors, rounding
SLACK = 256
_NONE = frozenset({"empty", "empty_strided", "resize_", "set_", "_local_scalar_dense", "as_strided", "view", "_reshape_alias"})
# With a kernel of their own that calls others of the same size.
_COMPOUND: frozenset[str] = frozenset()
# Of every backend at once, and yet one kernel.
_OTHERS = frozenset({"copy_"})


class Call(nn.Module):
    """One call of an operator; its floating tensors are parameters where a training step is wanted."""

    def __init__(self, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any], training: bool) -> None:
        super().__init__()
        self.op, self.kwargs, self.values = op, kwargs, args
        if training:
            self.values = self._own(args)

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
    name: str
    sample: str
    peak: int
    real: int
    kernels: int
    launched: int
    ours: list[str]
    theirs: list[str]
    error: str = ""

    @property
    def same_memory(self) -> bool:
        return not self.error and abs(self.peak - self.real) <= max(SLACK, 0.02 * self.real)

    @property
    def same_kernels(self) -> bool:
        return not self.error and self.kernels == self.launched


def cpu_kernels() -> frozenset[str]:
    """Operators of ATen that have a kernel of their own on a CPU, views apart."""
    found = set()
    for full in torch._C._dispatch_get_all_op_names():
        space, _, rest = full.partition("::")
        name, _, overload = rest.partition(".")
        func = getattr(getattr(torch.ops.aten, name, None), overload or "default", None) if space == "aten" else None
        schema = getattr(func, "_schema", None)
        if schema is None or not torch._C._dispatch_has_kernel_for_dispatch_key(full, "CPU"):
            continue
        aliased = [r.alias_info for r in schema.returns]
        if name not in _NONE and not (aliased and all(a is not None and not a.is_write for a in aliased)):
            found.add(name)
    return frozenset(found - _COMPOUND) | _OTHERS


def events(module: nn.Module, args: tuple[Any, ...], training: bool, kernels_of_cpu: frozenset[str]) -> tuple[int, list[str]]:
    """The most bytes allocated during a run, and the operators below which nothing was called."""
    with profile(profile_memory=True, use_kineto=True) as prof:
        result = step(module, args) if training else module(*args)
    del result
    found = sorted(prof.kineto_results.events(), key=lambda e: (e.start_ns(), -e.duration_ns()))
    now = peak = 0
    for event in found:
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    leaves: list[str] = []
    inside = -1
    for event in found:
        name = event.name()
        if event.start_ns() < inside or not name.startswith("aten::"):
            continue
        short = name[6:]
        if short in kernels_of_cpu:
            leaves.append(short)
            inside = event.start_ns() + event.duration_ns()
    return peak, leaves


def step(module: nn.Module, args: tuple[Any, ...]) -> Any:
    output = module(*args)
    floats = [t for t in tensors_in(output) if t.requires_grad]
    loss = floats[0].sum()
    for t in floats[1:]:
        loss = loss + t.sum()
    loss.backward()  # type: ignore[no-untyped-call]
    return output, loss


def samples(info: Any, count: int, training: bool) -> Iterator[tuple[Any, ...]]:
    drawn = []
    torch.manual_seed(0)
    for i, sample in enumerate(info.sample_inputs("cpu", torch.float32, requires_grad=False)):
        values = (sample.input, *sample.args)
        if i > 200:
            break
        size = sum(t.numel() for t in tensors_in((values, sample.kwargs)))
        if 512 <= size <= MOST:
            drawn.append((size, values, sample.kwargs))
    # the largest, and others spread over the list: they differ in what they ask for
    drawn.sort(key=lambda d: -d[0])
    for size, values, kwargs in drawn[:: max(1, len(drawn) // count)][:count]:
        yield values, kwargs


def row(info: Any, values: tuple[Any, ...], kwargs: dict[str, Any], training: bool, device: Device, looks: frozenset[str]) -> Row:
    name = f"{info.name}.{info.variant_test_name}".rstrip(".")
    text = ", ".join([*(_text(v) for v in values), *(f"{k}={_text(v)}" for k, v in kwargs.items())])[:160]
    module = Call(info.op, values, kwargs, training)
    args = () if training else values
    module.train(training)
    try:
        with torch.enable_grad() if training else torch.inference_mode():
            step(module, args) if training else module(*args)
            module.zero_grad(set_to_none=True)
            peak, leaves = events(module, args, training, looks)
            module.zero_grad(set_to_none=True)
    except Exception as error:
        return Row(name, text, 0, 0, 0, 0, [], [], f"torch: {str(error)[:80]}")
    real = held(tensors_of(module), args, dict(kwargs)) + peak
    theirs = leaves
    try:
        found = trace(module, args, optimizer="sgd" if training else "")
        if training:  # the state and the update are another matter
            last = max((i for i, op in enumerate(found.ops) if op.phase != "optimizer"), default=-1)
            storages = tuple(replace(s, nbytes=0) if s.kind == "state" else s for s in found.storages)
            found = replace(found, ops=found.ops[: last + 1], storages=tuple(
                replace(s, died=-1 if s.died > last else s.died) for s in storages))
        built = kernels.build(found, "eager", "cpu")
        predicted = memory.peak(found, device).total
    except (RooflineError, Exception) as error:
        return Row(name, text, 0, real, 0, len(theirs), [], theirs, f"ours: {type(error).__name__} {str(error)[:100]}")
    return Row(name, text, predicted, real, len(built), len(theirs), [k.op for k in built], theirs)


def _text(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{'x'.join(map(str, value.shape)) or 'scalar'}:{str(value.dtype)[6:]}{'' if value.is_contiguous() else ' strided'}"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(map(_text, value)) + "]"
    return str(value)[:40]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--training", action="store_true", help="forward and backward instead of inference")
    parser.add_argument("--samples", type=int, default=3)
    parser.add_argument("--json", help="all rows into this file")
    parser.add_argument("--all", action="store_true", help="print rows that agree too")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    from torch.testing._internal import common_methods_invocations as db
    from torch.testing._internal.opinfo import definitions

    for module in (db, *(getattr(definitions, n) for n in ("linalg", "special", "_masked", "fft", "signal"))):
        for size, value in SIZES.items():
            if hasattr(module, size):
                setattr(module, size, value)
    torch.set_num_threads(1)
    device, looks, rows = this_cpu(), cpu_kernels(), []
    for info in db.op_db:
        if options.names and not {info.name, f"{info.name}.{info.variant_test_name}"} & {*options.names} or torch.float32 not in info.dtypes:
            continue
        if info.name.startswith(("_refs", "_segment", "to_sparse")):
            continue
        try:
            drawn = list(samples(info, options.samples, options.training))
        except Exception as error:
            print("no samples", info.name, str(error)[:80], file=sys.stderr)
            continue
        for values, kwargs in drawn:
            r = row(info, values, kwargs, options.training, device, looks)
            rows.append(r)
            if options.all or (not r.error.startswith("torch") and not (r.same_memory and r.same_kernels)):
                print(r.name, "|", r.sample, "|", r.error or (f"peak {r.peak:,} real {r.real:,} " + ("" if r.same_memory else "MEM ") + f"| {r.kernels} {r.launched}" + ("" if r.same_kernels else f" KERN {r.ours[:14]} {r.theirs[:14]}")), flush=True)
        gc.collect()
    known = [r for r in rows if not r.error.startswith("torch")]
    names = {r.name for r in known}
    memory_bad = {r.name for r in known if not r.same_memory}
    kernels_bad = {r.name for r in known if not r.same_kernels}
    print(f"{len(names)} operators, {len(known)} calls: memory agrees in {len(names) - len(memory_bad)}, kernels in {len(names) - len(kernels_bad)}, "
          f"calls {sum(r.same_memory for r in known)}, {sum(r.same_kernels for r in known)}")
    if options.json:
        with open(options.json, "w") as file:
            json.dump([r._asdict() for r in rows], file)


if __name__ == "__main__":
    main()
