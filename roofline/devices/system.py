"""What the system tells of this machine: cores, quota, instruction sets, clock, caches (Linux, macOS; Windows at best)."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import tomllib
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from msgspec import Struct

from roofline.paths import LIBRARY
from roofline.units import binary, parse, si

VENDORS = {"GenuineIntel": "Intel", "AuthenticAMD": "AMD"}


class Kind(Struct, frozen=True):
    """Physical cores of one kind that this process may use."""

    name: str
    count: int
    # FLOP per core and cycle in fp32; Hz
    fp32: float
    clock: float


class Machine(Struct, frozen=True, kw_only=True):
    """What was found out about this machine."""

    title: str
    vendor: str
    family: dict[str, Any]
    kinds: tuple[Kind, ...]
    threads: int
    flags: frozenset[str]
    simd_bits: int
    # bytes that these cores can use; 0: none found
    l2: int = 0
    l3: int = 0
    memory: int = 0
    sockets: int = 1
    # CPUs' worth of time that a container may use; 0: no limit
    quota: float = 0.0
    # B/s of one socket
    dram: float
    notes: tuple[str, ...] = ()


@cache
def _chunks() -> tuple[str, ...]:
    text = (LIBRARY / "_cores.toml").read_text(encoding="utf-8")
    return tuple(re.split(r"^(?=\[)", text, flags=re.MULTILINE))


def _rows(header: str, vendor: str = "") -> Iterator[dict[str, Any]]:
    """The tables under `header`, each parsed when it is asked for: the first few usually do. None of another vendor's is."""
    for chunk in _chunks():
        if chunk.startswith(header) and not (vendor and "vendor = " in chunk and f'vendor = "{vendor}"' not in chunk):
            found = tomllib.loads(chunk)[header.strip("[]")]
            yield found[0] if isinstance(found, list) else found


def _family(section: str, fits: Callable[[dict[str, Any]], bool], vendor: str = "") -> dict[str, Any]:
    """Defaults overlaid by the first row of `section` that fits."""
    row = next((row for row in _rows(f"[[{section}]]", vendor) if fits(row)), {"name": "unknown core"})
    return {**next(_rows("[defaults]")), **row}


# ------------------------------------------------------------------------------------------------ Linux


def _read(path: Path) -> str:
    """A file of /proc or /sys without its line end, empty where it is absent or not readable."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def cpu_list(text: str) -> set[int]:
    """The kernel's list format: "0-3,8" -> {0, 1, 2, 3, 8}."""
    cpus: set[int] = set()
    for part in text.replace(" ", "").split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            cpus.update(range(int(first), int(last or first) + 1))
    return cpus


def _size(text: str) -> int:
    """The kernel's cache sizes: "2048K" -> bytes."""
    match = re.fullmatch(r"(\d+)([KMG]?)", text)
    return int(match[1]) * 1024 ** "_KMG".index(match[2] or "_") if match else 0


def _processors(root: Path) -> list[dict[str, str]]:
    """/proc/cpuinfo, one dict per logical CPU, keys in lower case."""
    blocks = []
    for block in _read(root / "proc/cpuinfo").split("\n\n"):
        pairs = [line.split(":", 1) for line in block.splitlines() if ":" in line]
        found = {key.strip().lower(): value.strip() for key, value in pairs}
        if "processor" in found:
            blocks.append(found)
    return blocks


def cgroup_quota(root: Path) -> float:
    """CPUs' worth of time that this process may use by its control groups (v2 and v1); 0 for no limit."""
    limits = []
    for line in _read(root / "proc/self/cgroup").splitlines() or ["0::/"]:
        _, controllers, group = [*line.split(":", 2), "", ""][:3]
        if controllers == "":
            limits += [
                _v2(path / "cpu.max") for base in ("", "unified") for path in _upwards(root / "sys/fs/cgroup" / base, group)
            ]
        elif "cpu" in controllers.split(","):
            limits += [_v1(path) for base in (controllers, "cpu") for path in _upwards(root / "sys/fs/cgroup" / base, group)]
    return min((limit for limit in limits if limit > 0), default=0.0)


def _upwards(base: Path, group: str) -> Iterator[Path]:
    """The group's folder and its parents up to `base`: each may set a limit. In a container the path may lie outside it."""
    path = base / group.lstrip("/")
    while path != base and base in path.parents:
        yield path
        path = path.parent
    yield base


def _v2(file: Path) -> float:
    quota, _, period = _read(file).partition(" ")
    return _number(quota) / _number(period) if _number(quota) > 0 and _number(period) > 0 else 0.0


def _v1(folder: Path) -> float:
    quota, period = _number(_read(folder / "cpu.cfs_quota_us")), _number(_read(folder / "cpu.cfs_period_us"))
    return quota / period if quota > 0 and period > 0 else 0.0


def _memory(root: Path) -> int:
    match = re.search(r"MemTotal:\s*(\d+) kB", _read(root / "proc/meminfo"))
    total = int(match[1]) * 1024 if match else 0
    limits = [int(_number(_read(root / "sys/fs/cgroup" / name))) for name in ("memory.max", "memory/memory.limit_in_bytes")]
    return min([total, *(limit for limit in limits if 0 < limit < total)])


def _caches(system: Path, cpus: Iterable[int]) -> dict[int, int]:
    """Cache level -> bytes in all instances that these CPUs can use."""
    found: dict[tuple[int, str], int] = {}
    for cpu in cpus:
        for folder in (system / f"cpu{cpu}/cache").glob("index[0-9]*"):
            level = int(_number(_read(folder / "level")))
            if level >= 2 and _read(folder / "type") != "Instruction":
                shared = _read(folder / "shared_cpu_list") or str(cpu)
                found[level, shared] = _size(_read(folder / "size"))
    return {level: sum(size for (at, _), size in found.items() if at == level) for level in {at for at, _ in found}}


def _clock(system: Path, cpu: int, info: dict[str, str], family: dict[str, Any]) -> tuple[float, str]:
    """All-core clock in Hz and how it is known."""
    folder = system / f"cpu{cpu}/cpufreq"
    top, base = _number(_read(folder / "cpuinfo_max_freq")) * 1e3, _number(_read(folder / "base_frequency")) * 1e3
    named = re.search(r"@ ([\d.]+)GHz", info.get("model name", ""))
    base = base or (float(named[1]) * 1e9 if named else 0.0)
    if top and base and top > base:
        share = family["turbo"]
        return base + share * (
            top - base
        ), f"The clock is estimated between base ({si(base, 'Hz')}) and maximum ({si(top, 'Hz')})."
    if top or base:
        known = "maximum" if top else "base"
        return top or base, f"The clock is the {known} clock that the system gives; the one under load may differ."
    shown = _number(info.get("cpu mhz", "")) * 1e6
    if shown and "hypervisor" in info.get("flags", "").split():
        clock = shown * family["virtual_turbo"]
        return (
            clock,
            f"The clock is not told by the hypervisor: {si(clock, 'Hz')} is its nominal {si(shown, 'Hz')} and a usual turbo.",
        )
    if shown:
        return shown, f"The clock is the {si(shown, 'Hz')} that the system shows now; the one under load may differ."
    clock = parse(family["clock"], "Hz")
    return clock, f"The clock is not told by the system: {si(clock, 'Hz')} is usual for {family['name']}."


def _x86_family(info: dict[str, str], flags: frozenset[str]) -> dict[str, Any]:
    family, model = int(_number(info.get("cpu family", ""))), int(_number(info.get("model", "")))

    def fits(row: dict[str, Any]) -> bool:
        return (
            row.get("vendor", info.get("vendor_id")) == info.get("vendor_id")
            and row.get("family", family) == family
            and model in row.get("models", [model])
            and flags.issuperset(row.get("needs", ()))
        )

    return _family("x86", fits, info.get("vendor_id", ""))


def _arm_family(info: dict[str, str]) -> dict[str, Any]:
    maker = info.get("cpu implementer", "")
    names = {f"{maker}/{info.get('cpu part', '')}", f"{maker}/*"}
    return _family("arm", lambda row: "parts" not in row or not names.isdisjoint(row["parts"]))


def _x86_limit(flags: frozenset[str]) -> tuple[float, int]:
    """The most fp32 FLOP per cycle that the instruction sets allow with two units, and the register width."""
    if "avx512f" in flags:
        return 64, 512
    if "avx2" in flags:
        return (32 if "fma" in flags else 16), 256
    return (16, 256) if "avx" in flags else (8, 128)


def _linux(root: Path, machine: str, allowed: set[int] | None) -> Machine:
    system = root / "sys/devices/system/cpu"
    infos = {int(p["processor"]): p for p in _processors(root) if p["processor"].isdigit()}
    cpus = sorted(allowed or infos or cpu_list(_read(system / "online")) or {0})
    arm = machine.lower() in ("aarch64", "arm64") or machine.lower().startswith("armv")
    first = infos.get(cpus[0], next(iter(infos.values()), {}))
    flags = frozenset((first.get("flags") or first.get("features") or "").split())
    atoms = cpu_list(_read(root / "sys/devices/cpu_atom/cpus"))

    # One representative CPU per physical core.
    cores = {_read(system / f"cpu{cpu}/topology/thread_siblings_list") or str(cpu): cpu for cpu in reversed(cpus)}
    limit, simd = (1e9, 128) if arm else _x86_limit(flags)
    found: dict[tuple[str, float, float], int] = {}
    families, notes = {}, {}
    for cpu in sorted(cores.values()):
        info = infos.get(cpu, first)
        family = _arm_family(info) if arm else _x86_family(info, flags)
        clock, notes[cpu] = _clock(system, cpu, info, family)
        small = cpu in atoms
        name = f"{family['name']}{' E-core' if small else ''}"
        key = name, min(float(family.get("fp32_small", family["fp32"]) if small else family["fp32"]), limit), clock
        found[key] = found.get(key, 0) + 1
        families[key] = family
    kinds = tuple(Kind(name, count, fp32, clock) for (name, fp32, clock), count in found.items())
    strongest = max(kinds, key=lambda kind: kind.fp32 * kind.clock)
    family = families[strongest.name, strongest.fp32, strongest.clock]

    caches = _caches(system, cpus)
    virtual = "hypervisor" in flags
    l3, l3_note = _fair_l3(caches.get(3, 0), len(cores), family, virtual)
    sockets = {_read(system / f"cpu{cpu}/topology/physical_package_id") for cpu in cpus}
    server = "dram_server" in family and "EPYC" in first.get("model name", "")
    return Machine(
        title=_title(root, first, family),
        vendor=VENDORS.get(first.get("vendor_id", ""), "ARM" if arm else "unknown"),
        family=family,
        kinds=kinds,
        threads=len(cpus),
        flags=flags,
        simd_bits=8 * int(_number(_read(root / "proc/sys/abi/sve_default_vector_length"))) or simd if "sve" in flags else simd,
        l2=caches.get(2, 0),
        l3=l3,
        memory=_memory(root),
        sockets=max(len(sockets), 1),
        quota=cgroup_quota(root),
        dram=parse(family["dram_server" if server else "dram"], "B/s"),
        notes=tuple(dict.fromkeys([*notes.values(), *l3_note, *([_VIRTUAL] if virtual else [])])),
    )


_VIRTUAL = "This is a virtual machine: if its CPUs are threads of shared cores, the true peak is about half."


def _fair_l3(size: int, cores: int, family: dict[str, Any], virtual: bool) -> tuple[int, list[str]]:
    """A hypervisor shows the host's whole last-level cache; these cores' share of it is what can be counted on."""
    share = int(cores * parse(family["l3_per_core"], "B"))
    if not virtual or size <= share:
        return size, []
    return share, [f"The hypervisor shows an L3 of {binary(size)} that other machines share; {binary(share)} are counted."]


def _title(root: Path, info: dict[str, str], family: dict[str, Any]) -> str:
    board = _read(root / "proc/device-tree/model").rstrip("\0")
    return board or info.get("model name", "") or f"{family['name']} CPU"


# ------------------------------------------------------------------------------------------------ macOS and Windows


def macos(settings: dict[str, str]) -> Machine:
    """From `sysctl` names and values. Intel Macs give their flags, Apple chips their kinds of core."""

    def whole(name: str) -> int:
        return int(_number(settings.get(name, "")))

    brand = settings.get("machdep.cpu.brand_string", "Apple")
    cores = whole("hw.physicalcpu") or whole("hw.ncpu") or 1
    threads = whole("hw.logicalcpu") or cores
    common: dict[str, Any] = {"title": brand, "threads": threads, "memory": whole("hw.memsize")}
    if not brand.startswith("Apple"):
        shown = f"{settings.get('machdep.cpu.features', '')} {settings.get('machdep.cpu.leaf7_features', '')}".lower()
        flags = frozenset(shown.replace("avx1.0", "avx").split())
        limit, simd = _x86_limit(flags)
        info = {"vendor_id": "GenuineIntel", "cpu family": "6", "model": settings.get("machdep.cpu.model", "0")}
        family = _x86_family(info, flags)
        clock = _number(settings.get("hw.cpufrequency_max", "")) or parse(family["clock"], "Hz")
        return Machine(
            **common,
            vendor="Intel",
            family=family,
            flags=flags,
            simd_bits=simd,
            dram=parse(family["dram"], "B/s"),
            kinds=(Kind(family["name"], cores, min(family["fp32"], limit), clock),),
            l3=whole("hw.l3cachesize"),
            l2=whole("hw.l2cachesize") * cores,
            notes=("The clock is the one that the system gives; the one under load may differ.",),
        )
    family = _family("apple", lambda row: brand.startswith(row["name"]))
    large = min(whole("hw.perflevel0.physicalcpu") or cores, cores)
    kinds = [Kind("P", large, family["fp32"], parse(family["clock"], "Hz"))]
    if cores > large:
        kinds.append(Kind("E", cores - large, family["fp32_small"], parse(family["clock_small"], "Hz")))
    tier = f"dram_{brand.rsplit(' ', 1)[-1].lower()}"
    # Cores of one kind share an L2 by cluster.
    l2 = sum(
        -(-whole(f"hw.perflevel{kind}.physicalcpu") // (whole(f"hw.perflevel{kind}.cpusperl2") or 4))
        * whole(f"hw.perflevel{kind}.l2cachesize")
        for kind in (0, 1)
    )
    return Machine(
        **common,
        vendor="Apple",
        family=family,
        kinds=tuple(kinds),
        simd_bits=128,
        l2=l2,
        flags=frozenset({"asimdhp", "asimddp"}),
        dram=parse(family.get(tier, family["dram"]), "B/s"),
        notes=(
            "The clocks are those of this chip's data sheet under load on all cores.",
            "The AMX/SME matrix unit, which Accelerate uses, comes on top of these NEON peaks.",
        ),
    )


def _sysctl() -> dict[str, str]:
    try:
        done = subprocess.run(["sysctl", "hw", "machdep.cpu"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line)


def elsewhere(processor: str, machine: str, threads: int) -> Machine:
    """Windows and others: only the processor's name and the number of threads are known."""
    match = re.search(r"Family (\d+) Model (\d+) .*?, (\w+)", processor)
    arm = "arm" in machine.lower()
    info = {"cpu family": match[1], "model": match[2], "vendor_id": match[3]} if match else {}
    flags = frozenset({"asimdhp", "asimddp"} if arm else {"avx", "avx2", "fma"})
    family = _arm_family({}) if arm else _x86_family(info, flags)
    limit, simd = (1e9, 128) if arm else _x86_limit(flags)
    cores = threads if arm else max(threads // 2, 1)
    return Machine(
        title=processor or machine or "CPU",
        vendor=VENDORS.get(info.get("vendor_id", ""), "unknown"),
        family=family,
        threads=threads,
        flags=flags,
        simd_bits=simd,
        dram=parse(family["dram"], "B/s"),
        kinds=(Kind(family["name"], cores, min(family["fp32"], limit), parse(family["clock"], "Hz")),),
        notes=("Cores, clock, caches and instruction sets are not told by this system; usual ones are assumed.",),
    )


# ------------------------------------------------------------------------------------------------ which one


def detect(root: Path = Path("/"), system: str | None = None, machine: str | None = None) -> Machine:
    """This machine, detected. The arguments are for tests: another file tree, system name and architecture."""
    system, machine = system or platform.system(), machine or platform.machine()
    if system == "Linux":
        own = root == Path("/") and hasattr(os, "sched_getaffinity")
        return _linux(root, machine, os.sched_getaffinity(0) if own else None)
    if system == "Darwin":
        return macos(_sysctl())
    return elsewhere(platform.processor(), machine, os.cpu_count() or 1)
