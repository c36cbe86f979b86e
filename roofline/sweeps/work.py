"""What one process does for one model: trace it in every setting, price it on every device, and say it in rows."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator, Sequence
from typing import Any

from msgspec.structs import replace

from roofline import pipeline, request
from roofline.devices import library
from roofline.devices.device import Device
from roofline.errors import ModelError, RooflineError, UsageError
from roofline.records import BOUNDS, Trace
from roofline.records.sweep import FAILED, REFUSED, Row
from roofline.sweeps import plan
from roofline.sweeps.plan import Task
from roofline.sweeps.price import Priced, price


def rows(task: Task, devices: Sequence[Device]) -> list[Row]:
    """Every row of a task. What goes wrong with the model or a device is said in its rows."""
    found: list[Row] = []
    for setting, wanted in zip(task.settings, task.wanted, strict=True):
        same = plan.common(task.model, setting)
        for kind in ("gpu", "cpu"):
            mine = [(i, key) for i, key in wanted if devices[i].kind == kind]
            if not mine:
                continue
            host = None if kind == "cpu" else setting.get("host")
            placed = library.with_host([devices[i] for i, _ in mine], host, setting.get("runtime", "eager"))
            blanks = [
                plan.blank(key, same, setting, device, plan.fingerprint(devices[i]))
                for (i, key), device in zip(mine, placed, strict=True)
            ]
            found += _on(task, setting, placed, blanks)
    return found


def faulty(task: Task, devices: Sequence[Device], error: Exception) -> list[Row]:
    """The rows of a task that this program could not do."""
    return plan.lost(
        task, devices, FAILED, f"a fault of roofline: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    )


def _on(task: Task, setting: dict[str, Any], devices: list[Device], blanks: list[Row]) -> Iterator[Row]:
    """The rows of one setting on devices of one kind."""
    collects = gc.isenabled()
    gc.disable()
    try:
        asked = request.made(task.model, {n: v for n, v in setting.items() if n != "host"}, cache=task.cache)
        runtime, dtype = asked.place.runtime, asked.what.dtype

        def use(trace: Trace) -> tuple[Trace, list[Priced | RooflineError]]:
            return trace, price(trace, runtime, devices, dtype)

        (trace, priced), record = pipeline.of_trace(asked, devices[0], use)
    except UsageError as error:
        return iter([plan.failed(row, REFUSED, _said(error)) for row in blanks])
    except RooflineError as error:
        return iter([plan.failed(row, FAILED, _said(error)) for row in blanks])
    finally:
        if collects:
            gc.enable()
    own = plan.depends(record) if plan.own_code(task.model, setting) else ""
    return (_row(row, trace, each, device, own) for row, device, each in zip(blanks, devices, priced, strict=True))


def _said(error: RooflineError) -> str:
    """Its words on one line; an object's address is another one in every process."""
    return re.sub(r"\b0x[0-9a-f]{6,}", "0x...", str(error).replace("\n", "; "))


def _row(row: Row, trace: Trace, found: Priced | RooflineError, device: Device, depends: str) -> Row:
    row = replace(
        row,
        batch=trace.batch,
        dtype=row.dtype or trace.dtype,
        params=trace.model.params,
        source=trace.model.source,
        depends=depends,
    )
    if isinstance(found, RooflineError):
        return plan.failed(row, FAILED if isinstance(found, ModelError) else REFUSED, _said(found))
    memory, shares = device.levels[-1].size, dict(zip(BOUNDS, found.shares, strict=True))
    return replace(
        row, macs=found.macs, flops=found.flops, bytes=found.bytes, weight_bytes=found.weight_bytes,
        intensity=found.flops / found.bytes if found.bytes else 0.0, kernels=found.kernels, peak_memory=found.peak_memory,
        fits=found.peak_memory <= memory if memory else None, time=found.time,
        throughput=trace.batch / found.time if found.time else 0.0, bound=found.bound, flops_known=found.flops_known,
        **{name: round(share, 6) for name, share in shares.items()},
    )  # fmt: skip
