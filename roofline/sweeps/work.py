"""What one process does for one model: trace it in every setting, price it on every device, and say it in rows."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from roofline import pipeline, request
from roofline.cache import dependencies
from roofline.devices import library
from roofline.devices.device import Device
from roofline.errors import ModelError, RooflineError, UsageError
from roofline.kernels import build
from roofline.records import BOUNDS, Trace
from roofline.records.sweep import FAILED, REFUSED, Row
from roofline.sources.kept import Kept
from roofline.sweeps import plan
from roofline.sweeps.plan import Task
from roofline.sweeps.price import Priced, Ready, priced

# Kernels of passes that are priced together: more take more memory, and no less time.
_MOST = 20_000


class _Pass(Struct):
    """A setting of a model on devices of one kind: its rows before anything is traced, and what came of the trace."""

    blanks: list[Row]
    devices: list[Device]
    # why there is none
    status: str = ""
    error: str = ""
    trace: Trace | None = None
    ready: Ready | None = None
    depends: str = ""
    # the same of the devices that its trace is not for
    rest: _Pass | None = None


def rows(task: Task, devices: Sequence[Device]) -> list[Row]:
    """Every row of a task. What goes wrong with the model or a device is said in its rows."""
    found: list[Row] = []
    passes: list[_Pass] = []
    kept = Kept()
    with dependencies.at_once():
        for setting, wanted in zip(task.settings, task.wanted, strict=True):
            passes += _traced(task, setting, _passes(task, setting, wanted, devices), kept)
            if sum(len(one.ready.kernels) for one in passes if one.ready) > _MOST:
                found += _rows(passes)
                passes = []
    return found + _rows(passes)


def faulty(task: Task, devices: Sequence[Device], error: Exception) -> list[Row]:
    """The rows of a task that this program could not do."""
    return plan.lost(
        task, devices, FAILED, f"a fault of roofline: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    )


def _passes(
    task: Task, setting: dict[str, Any], wanted: Sequence[tuple[int, str]], devices: Sequence[Device]
) -> dict[str, _Pass]:
    """By kind of device."""
    found = {}
    same = plan.common(task.model, setting)
    for kind in ("gpu", "cpu"):
        mine = [(i, key) for i, key in wanted if devices[i].kind == kind]
        if mine:
            host = None if kind == "cpu" else setting.get("host")
            placed = library.with_host([devices[i] for i, _ in mine], host, setting.get("runtime", "eager"))
            blanks = [
                plan.blank(key, same, setting, device, plan.fingerprint(devices[i]))
                for (i, key), device in zip(mine, placed, strict=True)
            ]
            found[kind] = _Pass(blanks, placed)
    return found


def _traced(task: Task, setting: dict[str, Any], passes: dict[str, _Pass], kept: Kept) -> list[_Pass]:
    """The passes of one setting, each with its trace: one for all kinds of device, where it does not hang on the kind; one for
    each device, where the model's code asks which it is."""
    todo, done = dict(passes), list(passes.values())
    while todo:
        kind = next(iter(todo))
        collects = gc.isenabled()
        gc.disable()
        try:
            asked = request.made(task.model, {n: v for n, v in setting.items() if n != "host"}, cache=task.cache)
            record = pipeline.of_trace(asked, todo[kind].devices[0], partial(_ready, todo, kind, asked), kept)[1]
        except RooflineError as error:
            kept.forget()
            one = todo.pop(kind)
            one.status, one.error = REFUSED if isinstance(error, UsageError) else FAILED, _said(error)
            one.ready = None
            continue
        finally:
            if collects:
                gc.enable()
        depends = plan.depends(record) if plan.own_code(task.model, setting) else ""
        for known in [known for known, one in todo.items() if one.ready]:
            one = todo.pop(known)
            one.depends = depends
            if one.rest is not None:
                todo[known] = one.rest
                done.append(one.rest)
    return done


def _ready(todo: dict[str, _Pass], kind: str, asked: request.Request, trace: Trace) -> None:
    """What passes need of a trace while its model's own rules are there: the one it is for, and those that share it."""
    runtime, first = asked.place.runtime, todo[kind]
    if trace.board and len(first.devices) > 1:
        first.rest = _Pass(first.blanks[1:], first.devices[1:])
        first.blanks, first.devices = first.blanks[:1], first.devices[:1]
    kernels = build.build(trace, runtime, kind)
    first.trace, first.ready = trace, Ready.of(trace, kernels, runtime, first.devices, asked.what.dtype)
    for other, one in todo.items():
        if one is not first and trace.anywhere:
            kernels = build.build(trace, runtime, other) if runtime == "compiled" else kernels
            one.trace = trace
            one.ready = Ready.of(trace, kernels, runtime, one.devices, asked.what.dtype, first.ready)


def _rows(passes: Sequence[_Pass]) -> list[Row]:
    found = iter(priced([one.ready for one in passes if one.ready]))
    return [row for one in passes for row in _told(one, next(found) if one.ready else None)]


def _told(one: _Pass, found: Sequence[Priced | RooflineError] | None) -> Iterator[Row]:
    if found is None or one.trace is None:
        return (plan.failed(row, one.status, one.error) for row in one.blanks)
    trace, first = one.trace, one.blanks[0]
    known = dict(
        batch=trace.batch,
        dtype=first.dtype or trace.dtype,
        params=trace.model.params,
        source=pipeline.as_written(trace.model.source, first.model),
        depends=one.depends,
    )
    each = zip(one.blanks, one.devices, found, strict=True)
    return (_row(row, known, price, device) for row, device, price in each)


def _said(error: RooflineError) -> str:
    """Its words on one line; an object's address is another one in every process."""
    return re.sub(r"\b0x[0-9a-f]{6,}", "0x...", str(error).replace("\n", "; "))


def _row(row: Row, known: dict[str, Any], found: Priced | RooflineError, device: Device) -> Row:
    """`known`: what its trace tells, whatever the device."""
    if isinstance(found, RooflineError):
        return plan.failed(replace(row, **known), FAILED if isinstance(found, ModelError) else REFUSED, _said(found))
    memory, shares = device.levels[-1].size, dict(zip(BOUNDS, found.shares, strict=True))
    low, high = found.between or (None, None)
    joules, least, most = found.energy or (None, None, None)
    return replace(
        row,
        **known,
        macs=found.macs,
        flops=found.flops,
        bytes=found.bytes,
        weight_bytes=found.weight_bytes,
        intensity=found.flops / found.bytes if found.bytes else 0.0,
        kernels=found.kernels,
        peak_memory=found.peak_memory,
        fits=found.peak_memory <= memory if memory else None,
        time=found.time,
        time_low=_digits(low),
        time_high=_digits(high),
        energy=_digits(joules),
        energy_low=_digits(least),
        energy_high=_digits(most),
        throughput=known["batch"] / found.time if found.time else 0.0,
        bound=found.bound,
        flops_known=found.flops_known,
        **{name: round(share, 6) for name, share in shares.items()},
    )


def _digits(value: float | None) -> float | None:
    """As many as it is sure of: the last ones hang on what it was added up with."""
    return None if value is None else float(f"{value:.6g}")
