"""This machine as a device: what the system tells, the rest estimated by core family; every estimate is named in the notes.

`roofline/devices/library/_cores.toml` holds the rates by core family. Also here: the calibrated file, and the name of the
first GPU.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from roofline.devices import system
from roofline.devices.device import Cores, Device, Level, Number, Peak
from roofline.devices.system import Machine
from roofline.units import parse, si

SOURCES = {
    "detected": "Read from the operating system of this machine",
    "family": "roofline/devices/library/_cores.toml, by core family",
    "rates": "Cores x clock x FLOP per core and cycle of this core family",
    "assumed": "Not detected; a usual value",
}


def detect() -> Device:
    """This machine with the estimates that fill in what it does not tell."""
    return build(system.detect())


def build(found: Machine) -> Device:
    """The device of a machine: peaks by cores, clock and instruction sets, bandwidths by core family."""
    family = found.family
    cores = sum(kind.count for kind in found.kinds)
    used = min(cores, found.quota) if found.quota else float(cores)
    share = used / cores
    cycles = share * sum(kind.count * kind.clock for kind in found.kinds)
    fp32 = share * sum(kind.count * kind.clock * kind.fp32 for kind in found.kinds)
    limited = used < cores
    hybrid = len(found.kinds) > 1 and not limited
    # A full socket, or what these cores can draw, whichever is less.
    dram = min(found.sockets * found.dram, used * parse(family["core_dram"], "B/s"))
    threads = min(found.threads, cores)
    launch = parse(family["launch"], "s") + threads * parse(family["launch_per_thread"], "s") if threads > 1 else 0.0
    notes = [
        f"Detected, not measured: {used:g} {'core' if used == 1 else 'cores'} ({family['name']}), {si(cycles / used, 'Hz')}, "
        f"{fp32 / cycles:g} fp32 FLOP per core and cycle. `roofline calibrate` measures instead.",
        *found.notes,
        f"DRAM bandwidth ({si(dram, 'B/s')}) is estimated from the core family and the number of cores.",
        "Cache bandwidths and the costs of starting ops and threads are estimates.",
    ]
    if limited:
        notes.insert(1, f"A CPU quota of {found.quota:g} limits this process; {cores} cores are visible.")
    levels = [
        Level(name, size, cycles * family[key], "family", "estimated", "detected", "read")
        for name, size, key in (("L2", found.l2, "l2_bytes"), ("L3", found.l3, "l3_bytes"))
        if size
    ]
    levels = [level for level in levels if level.bandwidth > dram]
    levels.append(Level("DRAM", found.memory, dram, "family", "estimated", "detected", "read" if found.memory else "assumed"))
    return Device(
        name="cpu",
        title=found.title,
        kind="cpu",
        vendor=found.vendor,
        arch=family["name"],
        tier="estimated",
        tensor=_tensor(found, cycles, fp32),
        vector=_vector(found, fp32),
        levels=tuple(levels),
        units=Number(used, "detected", "read"),
        clock=Number(cycles / used, "detected", "estimated"),
        isa="aarch64" if any(flag.startswith("asimd") for flag in found.flags) else "x86-64",
        simd_bits=found.simd_bits,
        threads=found.threads,
        sustained=Number(1.0, "assumed", "assumed"),
        cores=tuple(Cores(k.name, k.count, k.clock, k.fp32) for k in found.kinds) if hybrid else (),
        launch=Number(launch, "family", "estimated"),
        host=Number(parse(family["host"], "s"), "family", "estimated"),
        notes=tuple(notes),
        sources=SOURCES,
    )


def _peak(value: float) -> Peak:
    return Peak(value, "rates", "estimated")


def _vector(found: Machine, fp32: float) -> dict[str, Peak]:
    """SIMD peaks in FLOP/s: half the width, twice the lanes, where the instructions are there."""
    flags = found.flags
    peaks = {"fp64": _peak(fp32 / 2), "fp32": _peak(fp32)}
    if flags & {"avx512_fp16", "asimdhp"}:
        peaks["fp16"] = _peak(2 * fp32)
    if "avx512_bf16" in flags and "bf16" in found.family:
        peaks["bf16"] = _peak(found.family["bf16"] * fp32)
    if flags & {"avx512_vnni", "avx_vnni", "asimddp"}:
        peaks["int8"] = _peak(4 * fp32)
    elif "avx2" in flags:
        # as FBGEMM does it then: vpmaddubsw and vpmaddwd for 32 products, on the pipes where an FMA does 8; vpaddd has another
        peaks["int8"] = _peak(2 * fp32)
    return peaks


def _tensor(found: Machine, cycles: float, fp32: float) -> dict[str, Peak]:
    """Matrix peaks in FLOP/s: Intel AMX (1024 bf16 and 2048 int8 FLOP per core and cycle), ARM's BFMMLA and SMMLA."""
    flags = found.flags
    peaks = {}
    if "amx_fp16" in flags:
        peaks["fp16/fp32"] = _peak(1024 * cycles)
    if "amx_bf16" in flags:
        peaks["bf16/fp32"] = _peak(1024 * cycles)
    elif "bf16" in flags:
        peaks["bf16/fp32"] = _peak(4 * fp32)
    if "amx_int8" in flags:
        peaks["int8/int32"] = _peak(2048 * cycles)
    elif "i8mm" in flags:
        peaks["int8/int32"] = _peak(8 * fp32)
    return peaks


# ------------------------------------------------------------------------------------------------ files and GPUs


def calibrated_file() -> Path | None:
    """The measured device file of this machine; ROOFLINE_HOST_FILE names another, or none if it is set but empty."""
    named = os.environ.get("ROOFLINE_HOST_FILE")
    if named is not None:
        return Path(named) if named else None
    path = default_file()
    return path if path.is_file() else None


def default_file() -> Path:
    """Where `roofline calibrate` writes: the user's data directory."""
    if sys.platform == "linux":  # as platformdirs has it, whose import takes longer than all else here
        return Path(os.environ.get("XDG_DATA_HOME", "").strip() or "~/.local/share").expanduser() / "roofline" / "host.toml"
    from platformdirs import user_data_path

    return user_data_path("roofline") / "host.toml"


def cuda_device_name() -> str | None:
    """The driver's name of the first CUDA device that this process may see (CUDA_VISIBLE_DEVICES counts), None without one."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    first = visible.split(",")[0].strip() if visible is not None else "0"
    tool = shutil.which("nvidia-smi")
    if tool is None or first in ("", "-1"):
        return None
    command = [tool, "--query-gpu=name", "--format=csv,noheader", f"--id={first}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    name = done.stdout.strip().splitlines()
    return name[0].strip() if done.returncode == 0 and name else None
