"""The device library and its reader. The expected figures are those that the vendors print, typed in here by hand."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from roofline import paths
from roofline.devices import device, file, library, lint
from roofline.devices.device import Cores, Device, Level, Number, Peak
from roofline.errors import DeviceFileError, UnknownNameError, UsageError

LIBRARY = library.everything()
BY_NAME = {d.name: d for d in LIBRARY}
T, G, M = 1e12, 1e9, 2**20


@pytest.mark.parametrize(
    ("name", "unit", "dtype", "flops"),
    [
        ("h100-sxm", "tensor", "bf16", 989.4 * T),
        ("h100-sxm", "tensor", "fp16", 989.4 * T),
        ("h100-pcie", "tensor", "fp16", 756 * T),
        ("h100-sxm", "tensor", "fp8", 1978.9 * T),
        ("h100-sxm", "tensor", "tf32", 494.7 * T),
        ("h100-sxm", "vector", "fp32", 66.9 * T),
        ("a100-sxm-80gb", "tensor", "fp16", 312 * T),
        ("a100-sxm-80gb", "tensor", "tf32", 156 * T),
        ("a100-sxm-80gb", "tensor", "fp64", 19.5 * T),
        ("a100-sxm-80gb", "vector", "fp32", 19.5 * T),
        ("v100-sxm2", "tensor", "fp16", 125 * T),
        ("v100-sxm2", "vector", "fp64", 7.8 * T),
        ("t4", "tensor", "fp16", 65 * T),
        ("t4", "tensor", "int8", 130 * T),
        ("t4", "vector", "fp32", 8.1 * T),
        ("rtx-3090", "tensor", "fp16", 71 * T),
        ("rtx-3090", "tensor", "int8", 284 * T),
        ("rtx-3090", "vector", "fp32", 35.6 * T),
        ("rtx-4090", "tensor", "fp16", 165.2 * T),
        ("rtx-4090", "tensor", "fp8", 330.3 * T),
        ("rtx-4090", "vector", "fp32", 82.6 * T),
        ("jetson-orin-nano", "tensor", "int8", 33.5 * T),
        ("i9-10940x", "vector", "fp32", 14 * 3.3 * G * 64),
        ("xeon-8380", "vector", "fp32", 40 * 2.3 * G * 64),
        ("epyc-9654", "vector", "fp32", 96 * 3.55 * G * 32),
        ("raspberry-pi-4", "vector", "fp32", 4 * 1.5 * G * 8),
        ("raspberry-pi-5", "vector", "fp32", 4 * 2.4 * G * 16),
        ("mi300x", "tensor", "fp16", 1307 * T),
        ("rtx-5090", "tensor", "fp16", 209.5 * T),
        ("xeon-8480", "tensor", "bf16", 56 * 2.0 * G * 1024),
    ],
)
def test_peaks_are_the_published_dense_ones(name: str, unit: device.PeakUnit, dtype: str, flops: float) -> None:
    assert BY_NAME[name].peak(dtype, unit) == pytest.approx(flops, rel=0.01)


@pytest.mark.parametrize(
    ("name", "bandwidth", "last_cache"),
    [
        ("h100-sxm", 3352 * G, 50 * M),
        ("a100-sxm-80gb", 2039 * G, 40 * M),
        ("v100-sxm2", 900 * G, 6 * M),
        ("t4", 320 * G, 4 * M),
        ("rtx-3090", 936 * G, 6 * M),
        ("rtx-4090", 1008 * G, 72 * M),
        ("jetson-orin-nano", 102 * G, 2 * M),
        ("i9-10940x", 94 * G, 19.25 * M),
        ("xeon-8380", 204.8 * G, 60 * M),
        ("epyc-9654", 460.8 * G, 384 * M),
        ("raspberry-pi-4", 12.8 * G, 1 * M),
        ("raspberry-pi-5", 17.1 * G, 2 * M),
    ],
)
def test_the_first_dozen_has_its_bandwidth_and_cache(name: str, bandwidth: float, last_cache: float) -> None:
    found = BY_NAME[name]
    assert found.bandwidth == pytest.approx(bandwidth, rel=0.01)
    assert found.levels[-2].size == last_cache


def test_the_library_is_large_and_of_all_kinds() -> None:
    assert len(LIBRARY) >= 60
    assert {d.vendor for d in LIBRARY if d.kind == "gpu"} == {"NVIDIA", "AMD", "Apple", "Intel"}
    assert {"Intel", "AMD", "Apple", "Qualcomm", "AWS", "Broadcom"} <= {d.vendor for d in LIBRARY if d.kind == "cpu"}


def test_names_are_those_of_the_files() -> None:
    assert library.names() == [d.name for d in LIBRARY] == sorted(path.stem for path in paths.LIBRARY.glob("[!_]*.toml"))
    assert all(name == name.lower() and " " not in name and "_" not in name for name in library.names())


def test_no_two_devices_answer_to_one_name() -> None:
    owners: dict[str, set[str]] = {}
    for found in LIBRARY:
        for name in (found.name, *found.aliases):
            owners.setdefault(name.lower().replace("-", "").replace(" ", "").replace("_", ""), set()).add(found.name)
    assert {name: who for name, who in owners.items() if len(who) > 1} == {}


@pytest.mark.parametrize("found", LIBRARY, ids=lambda d: d.name)
def test_every_device_is_physical_and_sourced(found: Device) -> None:
    assert lint.check(found) == []
    numbers: list[Number | Peak | Level] = [found.units, found.clock, found.launch, found.host, found.sustained, found.reached]
    numbers += [*found.levels, *found.tensor.values(), *found.vector.values(), *([found.tdp] if found.tdp else [])]
    numbers += [found.sustained_vector] if found.sustained_vector else []
    for number in numbers:
        assert number.status in device.STATUSES
        assert number.status == "assumed" or number.source in found.sources
    assert set(found.sources) == {n.source for n in numbers if n.source} | {
        x.size_source for x in found.levels if x.size_source
    }


@pytest.mark.parametrize("found", LIBRARY, ids=lambda d: d.name)
def test_every_alias_finds_its_device(found: Device) -> None:
    for alias in found.aliases:
        assert library.lookup(alias) is found
        assert library.lookup(alias.upper().replace("-", " ")) is found


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("RTX4090", "rtx-4090"),
        ("rtx_4090", "rtx-4090"),
        ("Rtx 4090", "rtx-4090"),
        ("4090", "rtx-4090"),
        # as nvidia-smi prints them
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("NVIDIA A100-SXM4-80GB", "a100-sxm-80gb"),
        ("NVIDIA A100-SXM4-40GB", "a100-sxm-40gb"),
        ("NVIDIA A100 80GB PCIe", "a100-pcie-80gb"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA H200", "h200-sxm"),
        ("NVIDIA B200", "b200-sxm"),
        ("Tesla T4", "t4"),
        ("Tesla V100-SXM2-16GB", "v100-sxm2"),
        ("Tesla V100-PCIE-16GB", "v100-pcie"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA A10", "a10"),
        ("NVIDIA RTX A6000", "rtx-a6000"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx-6000-ada"),
        ("Tesla P100-PCIE-16GB", "p100-pcie"),
        ("NVIDIA GeForce RTX 2080 Ti", "rtx-2080-ti"),
        ("AMD Instinct MI300X", "mi300x"),
        ("Intel Core i9-10940X", "i9-10940x"),
        # as lists write them
        ("AWS Graviton3 (64 vCPU)", "graviton3"),
        ("NVIDIA B200 SXM (HGX)", "b200-sxm"),
        ("Apple M1 CPU (4P+4E)", "apple-m1-cpu"),
        ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", "rtx-pro-6000-maxq"),
        ("NVIDIA GH200 480GB", "gh200-96gb"),
    ],
)
def test_lookup_as_people_and_drivers_say_it(said: str, name: str) -> None:
    assert library.lookup(said).name == name


def test_an_unknown_name_lists_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown device 'rtx-4900'.*rtx-4090.*roofline devices"):
        library.lookup("rtx-4900")
    with pytest.raises(UsageError, match=r"'t4, RTX 4090': give each by itself, as -d t4 -d rtx-4090"):
        library.lookup("t4, RTX 4090")
    with pytest.raises(UnknownNameError, match=r"unknown device 'zzz': `roofline devices` lists"):
        library.lookup("zzz")
    with pytest.raises(UnknownNameError):
        library.lookup("_cores")


def test_peak_never_falls_back() -> None:
    v100, i9, pi = BY_NAME["v100-sxm2"], BY_NAME["i9-10940x"], BY_NAME["raspberry-pi-4"]
    with pytest.raises(UsageError, match="v100-sxm2 has no bf16 peak: the nearest it has is fp16"):
        v100.peak("bf16")
    with pytest.raises(UsageError, match="has no fp16 peak: the nearest it has is fp32"):
        i9.peak("fp16")
    with pytest.raises(UsageError, match="has no fp32 peak on its tensor units: it has no tensor units"):
        pi.peak("fp32", "tensor")
    with pytest.raises(UsageError, match="unknown dtype 'fp23'; did you mean 'fp32'"):
        v100.peak("fp23")
    assert v100.has("fp16", "tensor")
    assert not v100.has("bf16")
    assert not v100.has("nonsense")


def test_peak_takes_the_faster_unit_and_torch_names() -> None:
    t4 = BY_NAME["t4"]
    assert t4.peak("fp16") == t4.peak("float16", "tensor") == t4.tensor["fp16/fp32"].value
    assert t4.peak("fp16", "vector") == t4.vector["fp16"].value
    assert t4.peak("float32") == t4.vector["fp32"].value
    # PyTorch accumulates in fp32: the half-rate figure of GeForce cards
    assert BY_NAME["rtx-4090"].peak("fp16") == pytest.approx(165.15 * T)
    assert t4.peaks()["tensor int8/int32"] == pytest.approx(130.2 * T)


def test_ridge_and_levels() -> None:
    a100 = BY_NAME["a100-sxm-80gb"]
    assert a100.ridge("fp16") == pytest.approx(312e12 / 2039e9)
    assert a100.ridge("fp32", "vector") == pytest.approx(19.5e12 / 2039e9)
    assert a100.level("L2").size == 40 * M
    with pytest.raises(UsageError, match="a100-sxm-80gb has no memory level 'L3': it has L2, DRAM"):
        a100.level("L3")


# ------------------------------------------------------------------------------------------------ device files

GOOD = """
name = "toy"
title = "Toy"
kind = "gpu"
vendor = "Us"
arch = "Toy"
units = { value = 10, source = "doc", status = "datasheet" }
clock = { value = "1 GHz", source = "doc", status = "datasheet" }
launch = { value = "2 us", status = "assumed" }
host = { value = 5e-6, status = "assumed" }
[tensor]
"fp16/fp32" = { value = "10.24 TFLOP/s", per_clock = 1024, source = "doc", status = "datasheet" }
[vector]
fp32 = { value = "1.28 TFLOP/s", per_clock = 128, source = "doc", status = "datasheet" }
[[level]]
name = "L2"
size = { value = "4 MiB", source = "doc", status = "datasheet" }
bandwidth = { value = "1 TB/s", source = "doc", status = "estimated" }
[[level]]
name = "DRAM"
size = { value = "16 GB", source = "doc", status = "datasheet" }
bandwidth = { value = "256 GB/s", source = "doc", status = "datasheet" }
bus_bits = 256
rate = "8 GHz"
[sources]
doc = "Toy data sheet"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "toy.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_is_a_device(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    toy = library.lookup(str(path))
    assert toy == library.lookup(path) == file.read(path)
    assert (toy.bandwidth, toy.peak("fp16"), toy.launch.value, toy.host.value, toy.tdp) == (256e9, 10.24e12, 2e-6, 5e-6, None)
    assert toy.sustained == Number(1.0)
    assert lint.check(toy) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('kind = "gpu"', 'kind = "gpus"', r"kind: expected one of gpu, cpu, got 'gpus'; did you mean 'gpu'"),
        ('vendor = "Us"', 'vendr = "Us"', r"vendor: missing; expected a text \(is 'vendr' a misspelling"),
        ('arch = "Toy"', 'arch = "Toy"\ntdpp = 3', r"tdpp: unknown key; did you mean 'tdp'"),
        (
            'value = "1 GHz"',
            'value = "1 GB"',
            r"clock\.value: expected a number in Hz like \"2\.52 GHz\", got '1 GB': 'GB' is a unit of B",
        ),
        ('value = "1 GHz"', 'value = "-1 GHz"', r"clock\.value: expected a number above 0, got -1e\+09"),
        ('value = "1 GHz"', "value = true", r"clock\.value: expected a number, got True"),
        ('status = "datasheet" }\nlaunch', 'status = "datashet" }\nlaunch', r"clock\.status: .*did you mean 'datasheet'"),
        ('10, source = "doc"', '10, source = "dox"', r"units\.source: 'dox' is not in \[sources\]; did you mean 'doc'"),
        ('10, source = "doc", ', "10, ", r"units\.source: missing"),
        (
            'units = { value = 10, source = "doc", status = "datasheet" }',
            "units = 10",
            r"units: expected a table like \{ value",
        ),
        ('"fp16/fp32" =', '"fp16/fp23" =', r"tensor\.fp16/fp23: unknown key; did you mean 'fp16/fp32'"),
        ("fp32 = {", "fp64 = {", r"vector\.fp32: missing"),
        ('name = "DRAM"', 'name = "L3"', r"level: expected the levels nearest first and DRAM last"),
        ('name = "L2"', 'name = "L7"', r"level\[1\]\.name: expected one of"),
        ("bus_bits = 256", "bus_bits = -1", r"level\[2\]\.bus_bits: expected a whole number"),
        ("bus_bits = 256", "bus = 256", r"level\[2\]\.bus: unknown key; did you mean 'bus_bits'"),
        ('doc = "Toy data sheet"', "doc = 3", r"sources: expected a table of texts"),
        ('title = "Toy"', "title = ", r"is not valid TOML: .*line 3"),
        ('title = "Toy"', 'title = "Toy"\naliases = [1]', r"aliases: expected a list of texts"),
        (
            'title = "Toy"',
            'title = "Toy"\nsustained = { value = 1.5, status = "assumed" }',
            r"sustained\.value: expected a fraction above 0 and up to 1\.2",
        ),
        (
            'title = "Toy"',
            'title = "Toy"\nreached = { value = 1.1, status = "assumed" }',
            r"reached\.value: expected a fraction above 0 and up to 1,",
        ),
        # what no device has
        ('"2 us"', '"1e20 s"', r"launch: 1e\+20 s cannot be; expected 0 to 1 s"),
        ('size = { value = "4 MiB"', "size = { value = 18446744073709551616", r"level\[1\]\.size: 1.84467e\+19 B cannot be"),
        ("per_clock = 1024", "per_clock = -1024", r"tensor\.fp16/fp32\.per_clock: -1024 cannot be"),
        ('"8 GHz"', '"-8 GHz"', r"level\[2\]\.rate: -8e\+09 T/s cannot be"),
        ('"1.28 TFLOP/s"', '"1e30 FLOP/s"', r"vector\.fp32\.value: 1e\+30 FLOP/s cannot be"),
        ('"1 TB/s"', '"100 GB/s"', r"level\[1\]\.bandwidth: L2 has 100 GB/s, but DRAM behind it has 256 GB/s"),
        (
            'title = "Toy"',
            'title = "Toy"\ntdp = { value = "1e9 W", status = "assumed" }',
            r"tdp: 1e\+09 W cannot be; expected 0 to 1e\+06 W",
        ),
        (
            'title = "Toy"',
            f'title = "Toy"\nthreads = {10**400}',
            r"threads: a number of 401 digits cannot be; expected 0 to 1e\+07",
        ),
        ('title = "Toy"', 'title = "Toy"\nsimd_bits = 100000000', r"simd_bits: 1e\+08 cannot be"),
        ('title = "Toy"', 'title = "Toy"\nreleased = 20180913', r"released: 2\.01809e\+07 cannot be; expected 0 to 9999"),
        ("bus_bits = 256", "bus_bits = 99999999", r"level\[2\]\.bus_bits: 1e\+08 cannot be"),
        (
            "[sources]",
            '[[scaling]]\nthreads = 1\nfp32 = "1e25 FLOP/s"\ndram = "1 GB/s"\n[sources]',
            r"scaling\[1\]\.fp32: 1e\+25 FLOP/s cannot be",
        ),
        ("[sources]", '[[cores]]\nname = "P"\ncount = 4\nclock = "1 GHz"\n[sources]', r"cores\[1\]\.per_clock: missing"),
        (
            "[sources]",
            '[flops.gemm]\nvalue = "1e25 FLOP/s"\nstatus = "assumed"\n[sources]',
            r"flops\.gemm\.value: 1e\+25 FLOP/s cannot be",
        ),
    ],
)
def test_a_wrong_file_is_told_in_one_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(DeviceFileError, match=said) as error:
        file.read(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_number_is_declared_once() -> None:
    """Every number of a record has a unit and a bound, but for those that say how another one is known."""
    beside = {"nominal", "spread", "size_nominal", "value"}
    for record in (Device, Level, Peak, Cores, device.Scaling):
        known = device.declared(record)
        for field in msgspec.structs.fields(record):
            numeric = field.type in (int, float) or getattr(field.type, "__origin__", None) in (int, float)
            assert not numeric or field.name in known or field.name in beside, (record, field.name)
    assert all(of.most < float("inf") for of in device.declared(Device).values())


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DeviceFileError, match=r"cannot read the device file .*none\.toml: No such file"):
        library.lookup(str(tmp_path / "none.toml"))
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"')
    with pytest.raises(DeviceFileError, match="not UTF-8"):
        file.read(tmp_path / "latin.toml")
    with pytest.raises(DeviceFileError, match="Is a directory"):
        file.read(tmp_path)


# ------------------------------------------------------------------------------------------------ lint


def changed(name: str, **fields: Any) -> Device:
    return msgspec.structs.replace(BY_NAME[name], **fields)


def test_lint_finds_sparse_peaks() -> None:
    a100 = BY_NAME["a100-sxm-80gb"]
    sparse = {**a100.tensor, "fp16/fp32": msgspec.structs.replace(a100.tensor["fp16/fp32"], value=624e12)}
    assert any("sparsity" in line for line in lint.check(changed("a100-sxm-80gb", tensor=sparse)))
    # the same with a rate made to fit, and with no rate at all
    fitted = {**a100.tensor, "fp16/fp32": Peak(624e12, per_clock=4096)}
    assert any(
        "Ampere GA100 does 2048 dense: is it the figure with sparsity?" in x
        for x in lint.check(changed("a100-sxm-80gb", tensor=fitted))
    )
    bare = {**a100.tensor, "fp16/fp32": Peak(624e12)}
    assert any("sparsity" in line for line in lint.check(changed("a100-sxm-80gb", tensor=bare)))


def test_lint_finds_impossible_numbers() -> None:
    l4 = BY_NAME["l4"]
    dram = msgspec.structs.replace(l4.levels[-1], bandwidth=3350e9)
    found = lint.check(changed("l4", levels=(l4.levels[0], dram)))
    assert any("DRAM: 3.35 TB/s, but 192 bits at 12.5 GT/s give 300 GB/s" in line for line in found)
    assert any("L2 is slower than DRAM" in line for line in found)
    assert any("launch: 2 s is implausible" in line for line in lint.check(changed("l4", launch=Number(2.0))))
    assert any("ridge" in line for line in lint.check(changed("l4", levels=(Level("DRAM", 0, 1e6),))))
    assert any(
        "fp64 is faster than fp32" in x for x in lint.check(changed("l4", vector={"fp64": Peak(60e12), "fp32": Peak(30.3e12)}))
    )
    p = Cores("P", 6, 4.1e9, 32)
    found = lint.check(changed("i7-12700h", cores=(p,)))
    assert any("add up to 787.2 GFLOP/s" in line for line in found)
    assert any("add up to 6" in line for line in found)


# ------------------------------------------------------------------------------------------------ speed


def test_it_is_quick_and_imports_no_torch() -> None:
    code = (
        "import sys, roofline.devices.library as d; d.lookup('rtx-4090'); d.everything()\n"
        "print(sorted({'torch', 'subprocess', 'platformdirs', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def best_of(times: int, path: Path) -> float:
    took = []
    for _ in range(times):
        start = time.perf_counter()
        file.read(path)
        took.append(time.perf_counter() - start)
    return min(took)


def test_the_example_in_the_docs_is_a_sound_device(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs/devices.md").read_text(encoding="utf-8")
    example = file.read(write(tmp_path, text.split("```toml\n")[1].split("```")[0]))
    assert lint.check(example) == []
    assert example.peak("fp16") == BY_NAME["t4"].peak("fp16")


def test_one_device_loads_within_5_ms() -> None:
    assert best_of(5, paths.LIBRARY / "h100-sxm.toml") < 0.005
