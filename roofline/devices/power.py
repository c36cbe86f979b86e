"""The clock that a board's power lets its chip keep under load, from that of another board with chips of the same process.

A chip takes power in proportion to clock x voltage^2. The voltage follows the clock, so power goes about as clock^2.3, down to
the lowest voltage of the process; from there the clock alone is left to fall. The memory takes its share first, and that does
not fall with the clock: a board at half the power of its sibling has less than half of it left for its SMs.

Exponents and floor are those of a V100 that trains under limits of 250 down to 100 W (Zeus, NSDI 2023, its published traces: of
222 W that ResNet-50 takes, 145, 123 and 100 W leave 0.85, 0.70 and 0.53 of the speed).
"""

from __future__ import annotations

import tomllib
from functools import cache

from roofline.devices.device import Device
from roofline.paths import LIBRARY

EXPONENT, EXPONENT_AT_FLOOR = 2.3, 1.2
# share of the power for each SM at the known clock, below which the voltage stays where it is
FLOOR = 0.45
# J for a bit that memory and its controller move at full bandwidth: DRAM as its makers and O'Connor et al.
# (MICRO 2017) say, and about 2 pJ for the chip's side
ENERGY = {"HBM": 6e-12, "GDDR5": 14e-12, "GDDR6": 10e-12, "GDDR7": 8e-12, "LPDDR": 6e-12}
# ns that a load waits for DRAM: cycles of a pointer chase on a V100, RTX 4090, RTX 5090 and PRO 6000, and GH200
# (markdewing/AI_kernels, latency/README.md: 460, 636, 936 and 864, 690) over the clocks that the boards boost to
LATENCY = {"HBM2": 301.0, "GDDR6X": 252.0, "GDDR7": 360.0, "HBM3": 348.0}
SOURCE = "Board power less its memory's, beside a board of the same process at its full power (roofline/devices/power.py)"
VECTOR_SOURCE = "Large fp32 products without TF32 of zzc0721/torch-performance-test-data, by architecture (_architectures.toml)"

# W of a laptop's processor outside its cores: memory controller, links, graphics at rest
OUTSIDE = 8.0
# What vector units at work add to the power of a core, for each fp32 FLOP that it does in a cycle: an i9-10980XE, whose 165 W
# are for 3.0 GHz, keeps 2.3 GHz of them where all its cores run AVX-512, 64 FLOP in a cycle.
VECTOR = ((3.0 / 2.3) ** EXPONENT - 1) / 64


def held(base: float, turbo: float, per_clock: float) -> float:
    """Share of its all-core turbo clock that a laptop's processor keeps at `base` watts, where that turbo takes `turbo` in
    code without vectors, and its (fast) cores do `per_clock` fp32 FLOP in a cycle."""
    heavy = turbo * (1 + VECTOR * per_clock)
    return float((max(base - OUTSIDE, 0.0) / (heavy - OUTSIDE)) ** (1 / EXPONENT))


def vectors(per_clock: float) -> float:
    """Share of its base clock that a processor keeps at its rated power where all cores do `per_clock` fp32 FLOP in a cycle."""
    return float((1 + VECTOR * per_clock) ** (-1 / EXPONENT))


@cache
def architecture(name: str) -> dict[str, dict[str, float]]:
    """What is known of an architecture: rates by unit and type, and "power", see `kept`. Empty for one that nobody described.

    Of the file its table alone is parsed: all of them take longer than everything else about a device.
    """
    text = (LIBRARY / "_architectures.toml").read_text(encoding="utf-8") + "\n["
    at = text.find(f'\n["{name}"]\n')
    known: dict[str, dict[str, dict[str, float]]] = tomllib.loads(text[at : text.index("\n[", at + 1)]) if at >= 0 else {}
    return known.get(name, {})


def capability(device: Device) -> tuple[int, int] | None:
    """NVIDIA's compute capability of a GPU, as (major, minor); None where its architecture has none."""
    known = architecture(device.arch).get("capability")
    return None if known is None or device.kind != "gpu" else (int(known["major"]), int(known["minor"]))


def memory(device: Device) -> float | None:
    """Watts of its DRAM at full bandwidth; None where nobody knows its type."""
    dram = device.levels[-1]
    energy = next((e for kind, e in ENERGY.items() if dram.type.startswith(kind)), None)
    return None if energy is None else dram.bandwidth * 8 * energy


def waited(device: Device) -> float:
    """How long a load waits for a device's DRAM, in times that it waits on an H100 or H200; 1 where nobody told of its type."""
    dram = device.levels[-1].type
    return next((ns for kind, ns in LATENCY.items() if dram.startswith(kind)), LATENCY["HBM3"]) / LATENCY["HBM3"]


def kept(device: Device) -> float | None:
    """Clock under full load, in Hz, by the power for each unit; None where power, memory or architecture are not known."""
    known, taken = architecture(device.arch).get("power"), memory(device)
    if device.kind != "gpu" or known is None or taken is None or device.tdp is None:
        return None
    share = max(device.tdp.value - taken, 0.0) / device.units.value / known["watts"]
    left = known["clock"] * float(max(share, FLOOR) ** (1 / EXPONENT) * min(share / FLOOR, 1.0) ** (1 / EXPONENT_AT_FLOOR))
    # more power than the known board's brings no higher clock: the process has a highest voltage too
    return min(left, max(known["clock"], device.clock.value))


def of_vectors(device: Device) -> float | None:
    """Share of a GPU's rated fp32 peak that large products on its vector units keep; None where its architecture tells nothing.

    They draw less power than products on matrix units: a board that loses clock to those loses half as much to these.
    An RTX A6000, A40 and PRO 6000 keep in them 0.75 to 0.79 of the clock that halves leave, GeForce boards 0.66. A peak that
    was measured is what it is.
    """
    known = architecture(device.arch).get("products")
    if device.kind != "gpu" or known is None or device.vector["fp32"].status == "measured":
        return None
    clock = device.sustained.value
    return known["fp32"] * (clock if clock >= 1 else (1 + clock) / 2)
