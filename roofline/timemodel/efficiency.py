"""How close a kernel comes to the roofs: the formulas of the device that runs it, with its constants."""

from __future__ import annotations

from typing import Any

from roofline.timemodel import cpu_compiled, gpu, terms
from roofline.timemodel.formulas import Machine, Value


def work(klass: str, f: Any, c: Any, machine: Machine, xp: Any) -> tuple[Value, Value, Value, list[Value]]:
    """(seconds without overheads, of arithmetic, of memory, of each memory level) of a kernel or an array of kernels."""
    if machine.gpu:
        return gpu.work(klass, f, c, machine, xp)
    return cpu_compiled.work(klass, f, c, machine, xp)


def executed(klass: str, f: Any, c: Any, machine: Machine, xp: Any) -> float:
    """Fraction of a kernel's counted FLOPs that its algorithm executes."""
    if klass == "attention":
        return min(f.total(lambda p: terms.macs(klass, p) * terms.met(p, xp)) / max(f.macs, 1), 1.0) if f.causal else 1.0
    return gpu.executed(klass, f, c, machine, xp) if machine.gpu else 1.0


def overheads(klass: str, f: Any, c: Any, machine: Machine, xp: Any) -> tuple[Value, Value]:
    """Seconds that a kernel costs on top of its work: on the device, and on the host to issue it.

    On a CPU (here one that runs compiled code) both are the same cores.
    """
    return (machine.launch, machine.host) if machine.gpu else cpu_compiled.overheads(klass, f, c, machine, xp)
