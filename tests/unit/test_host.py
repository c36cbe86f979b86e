"""Detection of this machine from made-up file trees: the same text that the kernel of such a machine shows."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from roofline import paths
from roofline.devices import host, library, lint, system
from roofline.devices.device import Device
from roofline.errors import DeviceFileError, UnknownNameError

AVX2 = "fpu sse sse2 fma avx avx2"
AMX = "fpu sse sse2 fma avx avx2 avx512f avx512_vnni avx512_bf16 avx512_fp16 amx_bf16 amx_tile amx_int8"
K = 1024


class Tree:
    """A root folder with the files of /proc and /sys that detection reads."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, path: str, text: str) -> Tree:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n", encoding="utf-8")
        return self

    def x86(
        self,
        cpus: int,
        flags: str,
        *,
        model: str,
        family: int = 6,
        number: int = 143,
        vendor: str = "GenuineIntel",
        mhz: float = 0,
    ) -> Tree:
        rows = [
            f"processor\t: {i}\nvendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: {number}\nmodel name\t: {model}\n"
            + (f"cpu MHz\t\t: {mhz}\n" if mhz else "")
            + f"flags\t\t: {flags}"
            for i in range(cpus)
        ]
        return self.put("proc/cpuinfo", "\n\n".join(rows)).put("proc/meminfo", "MemTotal:       16000000 kB")

    def arm(self, parts: list[str], features: str, maker: str = "0x41") -> Tree:
        rows = [
            f"processor\t: {i}\nFeatures\t: {features}\nCPU implementer\t: {maker}\nCPU part\t: {part}"
            for i, part in enumerate(parts)
        ]
        return self.put("proc/cpuinfo", "\n\n".join(rows)).put("proc/meminfo", "MemTotal:        8000000 kB")

    def cache(self, cpu: int, level: int, size: str, shared: str, kind: str = "Unified") -> Tree:
        folder = f"sys/devices/system/cpu/cpu{cpu}/cache/index{level}"
        return (
            self.put(f"{folder}/level", str(level))
            .put(f"{folder}/size", size)
            .put(f"{folder}/shared_cpu_list", shared)
            .put(f"{folder}/type", kind)
        )

    def siblings(self, *groups: str) -> Tree:
        for group in groups:
            for cpu in system.cpu_list(group):
                self.put(f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", group)
                self.put(f"sys/devices/system/cpu/cpu{cpu}/topology/physical_package_id", "0")
        return self

    def clock(self, cpus: int, top: int, base: int = 0) -> Tree:
        for cpu in range(cpus):
            self.put(f"sys/devices/system/cpu/cpu{cpu}/cpufreq/cpuinfo_max_freq", str(top))
            if base:
                self.put(f"sys/devices/system/cpu/cpu{cpu}/cpufreq/base_frequency", str(base))
        return self

    def detect(self, arch: str = "x86_64") -> Device:
        found = host.build(system.detect(self.root, "Linux", arch))
        assert lint.check(msgspec.structs.replace(found, arch="")) == []
        assert found.tier == "estimated"
        assert "Detected, not measured" in found.notes[0]
        return found


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_products_of_int8_without_instructions_of_their_own(tree: Tree) -> None:
    """Quantised models run on any CPU with AVX2, two products in the time of one; without AVX2 nothing is said."""
    rates = []
    for flags in (AVX2, "fpu sse sse2"):
        found = tree.x86(2, flags, model="Intel(R) Core(TM) i5-6500", number=94, mhz=3200).siblings("0", "1").detect()
        rates.append(found.peak("int8") / found.peak("fp32") if found.has("int8") else None)
    assert rates == [2, None]


def test_a_virtual_machine_with_amx(tree: Tree) -> None:
    """Two CPUs, a model number that is not true, a nominal clock, and the host's whole L3."""
    tree.x86(2, AMX + " hypervisor", model="Intel(R) Xeon(R) Processor", number=167, mhz=2600).siblings("0", "1")
    for cpu in (0, 1):
        tree.cache(cpu, 1, "48K", str(cpu), "Data").cache(cpu, 2, "2048K", str(cpu)).cache(cpu, 3, "491520K", "0-1")
    found = tree.detect()
    clock = 2.6e9 * 1.2
    assert found.units.value == found.threads == 2
    assert found.clock.value == pytest.approx(clock)
    assert found.simd_bits == 512
    # two AVX-512 units: 2 x 16 lanes x 2; AMX: 1024 bf16, 2048 int8 per core and cycle
    assert found.peak("fp32") == pytest.approx(2 * clock * 64)
    assert found.peak("bf16", "tensor") == pytest.approx(2 * clock * 1024)
    assert found.peak("int8", "tensor") == pytest.approx(2 * clock * 2048)
    assert found.peak("fp16", "vector") == pytest.approx(2 * clock * 128)
    assert found.level("L2").size == 4096 * K
    assert found.level("L3").size == 2 * 2048 * K
    assert found.level("DRAM").size == 16_000_000 * K
    assert any("L3 of 480 MiB that other machines share; 4 MiB are counted" in note for note in found.notes)
    assert any("virtual machine" in note for note in found.notes)


def test_a_desktop_with_two_threads_per_core(tree: Tree) -> None:
    tree.x86(8, "avx avx2 fma clwb", model="AMD Ryzen 5 5600X", family=25, number=33, vendor="AuthenticAMD").siblings(
        "0,4", "1,5", "2,6", "3,7"
    )
    tree.clock(8, 4_600_000)
    for cpu in range(8):
        tree.cache(cpu, 2, "512K", f"{cpu % 4},{cpu % 4 + 4}").cache(cpu, 3, "32768K", "0-7")
    found = tree.detect()
    assert (found.units.value, found.threads, found.vendor, found.arch) == (4, 8, "AMD", "Zen 2 or Zen 3")
    assert found.isa == "x86-64"
    assert found.peak("fp32") == pytest.approx(4 * 4.6e9 * 32)
    # four L2, one L3, and no share taken off a real machine
    assert (found.level("L2").size, found.level("L3").size) == (4 * 512 * K, 32768 * K)
    assert not found.tensor
    assert not found.has("bf16")
    # two channels of DDR4-3200, which four cores can fill
    assert found.bandwidth == pytest.approx(51.2e9)


def test_the_clock_lies_between_base_and_maximum(tree: Tree) -> None:
    tree.x86(1, "avx avx2 fma avx512f", model="Intel(R) Xeon(R) Platinum 8380 CPU @ 2.30GHz", number=106).clock(1, 3_400_000)
    found = tree.detect()
    assert 2.3e9 < found.clock.value < 3.4e9
    assert any("between base (2.3 GHz) and maximum (3.4 GHz)" in note for note in found.notes)


def test_one_core_starts_no_threads(tree: Tree) -> None:
    found = tree.x86(1, "sse2", model="Old CPU", number=15, mhz=2000).detect()
    assert (found.units.value, found.launch.value, found.simd_bits) == (1, 0, 128)
    # SSE2: 4 lanes, one multiply and one add a cycle
    assert found.peak("fp32") == pytest.approx(2e9 * 8)
    assert [level.name for level in found.levels] == ["DRAM"]


def test_a_hybrid_laptop(tree: Tree) -> None:
    """i7-12700H-like: 2 P-cores with two threads each and 4 E-cores."""
    tree.x86(8, "avx avx2 fma avx_vnni", model="12th Gen Intel(R) Core(TM) i7", number=154).siblings(
        "0-1", "2-3", "4", "5", "6", "7"
    )
    tree.put("sys/devices/cpu_core/cpus", "0-3").put("sys/devices/cpu_atom/cpus", "4-7").clock(4, 4_700_000)
    for cpu in range(4, 8):
        tree.put(f"sys/devices/system/cpu/cpu{cpu}/cpufreq/cpuinfo_max_freq", "3500000")
    found = tree.detect()
    assert [(c.count, c.clock, c.per_clock) for c in found.cores] == [(2, 4.7e9, 32), (4, 3.5e9, 16)]
    assert found.peak("fp32") == pytest.approx(2 * 4.7e9 * 32 + 4 * 3.5e9 * 16)
    assert (found.units.value, found.threads) == (6, 8)


def test_a_raspberry_pi_5(tree: Tree) -> None:
    tree.arm(["0xd0b"] * 4, "fp asimd asimdhp asimddp").clock(4, 2_400_000).siblings("0", "1", "2", "3")
    tree.put("proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0")
    found = tree.detect("aarch64")
    assert found.isa == "aarch64"
    assert found.title == "Raspberry Pi 5 Model B Rev 1.0"
    # the rates that cpufp measured on this board: 153.5, 307 and 614 G
    assert found.peak("fp32") == pytest.approx(153.5e9, rel=0.01)
    assert found.peak("fp16") == pytest.approx(307e9, rel=0.01)
    assert found.peak("int8") == pytest.approx(614e9, rel=0.01)
    assert found.bandwidth == pytest.approx(17.07e9, rel=0.01)


def test_big_and_little_arm_cores(tree: Tree) -> None:
    found = tree.arm(["0xd05"] * 4 + ["0xd0b"] * 4, "asimd asimdhp asimddp").siblings(*"01234567").detect("aarch64")
    assert [(c.name, c.count) for c in found.cores] == [("Cortex-A55", 4), ("Cortex-A76, A77 or A78", 4)]
    assert found.arch == "Cortex-A76, A77 or A78"
    assert any("not told by the system" in note for note in found.notes)


def test_a_graviton_3(tree: Tree) -> None:
    tree.arm(["0xd40"] * 8, "asimd asimdhp asimddp sve bf16 i8mm").put("proc/sys/abi/sve_default_vector_length", "32").siblings(
        *"01234567"
    )
    found = tree.detect("aarch64")
    assert found.simd_bits == 256
    assert found.peak("bf16", "tensor") == pytest.approx(4 * found.peak("fp32"))
    assert found.bandwidth == pytest.approx(8 * 20e9)


def test_a_machine_that_tells_nothing(tree: Tree) -> None:
    for arch in ("x86_64", "aarch64", "riscv64"):
        found = tree.detect(arch)
        assert found.units.value == 1
        assert found.peak("fp32") > 0
        assert found.bandwidth > 0


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, 0),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "150000 100000"}, 1.5),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"}, 0),
        (
            {
                "proc/self/cgroup": "0::/a/b",
                "sys/fs/cgroup/a/cpu.max": "50000 100000",
                "sys/fs/cgroup/a/b/cpu.max": "200000 100000",
            },
            0.5,
        ),
        # a container sees the host's path in /proc but its own group at the top
        ({"proc/self/cgroup": "0::/docker/123", "sys/fs/cgroup/cpu.max": "300000 100000"}, 3),
        ({"proc/self/cgroup": "0::/../x", "sys/fs/cgroup/cpu.max": "300000 100000"}, 3),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/docker/1",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "200000",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            2,
        ),
        (
            {
                "proc/self/cgroup": "1:cpu:/",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            0,
        ),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "rubbish"}, 0),
    ],
)
def test_cpu_quotas_of_containers(tree: Tree, files: dict[str, str], quota: float) -> None:
    for path, text in files.items():
        tree.put(path, text)
    assert system.cgroup_quota(tree.root) == quota


def test_a_quota_scales_the_peaks(tree: Tree) -> None:
    tree.x86(8, "avx avx2 fma", model="CPU @ 3.00GHz").siblings(*"01234567")
    whole = tree.detect()
    tree.put("proc/self/cgroup", "0::/").put("sys/fs/cgroup/cpu.max", "150000 100000")
    limited = tree.detect()
    assert limited.units.value == 1.5
    assert limited.peak("fp32") == pytest.approx(whole.peak("fp32") * 1.5 / 8)
    assert limited.bandwidth < whole.bandwidth
    assert "A CPU quota of 1.5 limits this process; 8 cores are visible." in limited.notes


@pytest.mark.parametrize(
    ("text", "cpus"), [("0-3,8", {0, 1, 2, 3, 8}), ("", set()), ("5", {5}), ("0,2-2", {0, 2}), ("x", set())]
)
def test_cpu_lists(text: str, cpus: set[int]) -> None:
    assert system.cpu_list(text) == cpus


APPLE = {
    "machdep.cpu.brand_string": "Apple M1 Max",
    "hw.physicalcpu": "10",
    "hw.logicalcpu": "10",
    "hw.memsize": str(64 * 2**30),
    "hw.perflevel0.physicalcpu": "8",
    "hw.perflevel0.cpusperl2": "4",
    "hw.perflevel0.l2cachesize": str(12 * 2**20),
    "hw.perflevel1.physicalcpu": "2",
    "hw.perflevel1.cpusperl2": "2",
    "hw.perflevel1.l2cachesize": str(4 * 2**20),
}
INTEL_MAC = {
    "machdep.cpu.brand_string": "Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz",
    "hw.physicalcpu": "6",
    "hw.logicalcpu": "12",
    "machdep.cpu.features": "FPU SSE2 FMA AVX1.0",
    "machdep.cpu.leaf7_features": "AVX2 BMI2",
    "hw.cpufrequency_max": "2600000000",
    "hw.l2cachesize": "262144",
    "hw.l3cachesize": "12582912",
    "machdep.cpu.model": "158",
    "hw.memsize": "17179869184",
}


def test_macs() -> None:
    m1 = host.build(system.macos(APPLE))
    assert [(c.name, c.count) for c in m1.cores] == [("P", 8), ("E", 2)]
    assert m1.peak("fp32") == pytest.approx(8 * 3.2e9 * 32 + 2 * 2.06e9 * 16)
    # two clusters of four P cores with 12 MiB each, one of two E cores with 4 MiB
    assert m1.level("L2").size == (2 * 12 + 4) * 2**20
    assert m1.bandwidth == pytest.approx(409.6e9)
    intel = host.build(system.macos(INTEL_MAC))
    assert (intel.units.value, intel.threads, intel.simd_bits) == (6, 12, 256)
    assert intel.peak("fp32") == pytest.approx(6 * 2.6e9 * 32)
    assert intel.level("L3").size == 12 * 2**20
    assert host.build(system.macos({})).units.value == 1


def test_windows() -> None:
    found = host.build(system.elsewhere("Intel64 Family 6 Model 154 Stepping 3, GenuineIntel", "AMD64", 12))
    assert (found.units.value, found.threads, found.vendor) == (6, 12, "Intel")
    assert host.build(system.elsewhere("", "ARM64", 8)).units.value == 8
    assert host.build(system.elsewhere("", "", 1)).units.value == 1


def test_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOFLINE_HOST_FILE", "")
    found = library.lookup("CPU")
    assert found.name == "cpu"
    assert found.kind == "cpu"
    assert 1e9 < found.peak("fp32") < 1e15
    assert found.level("DRAM").size > 0


def test_a_calibrated_file_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = (paths.LIBRARY / "raspberry-pi-5.toml").read_text(encoding="utf-8")
    (tmp_path / "mine.toml").write_text('tier = "calibrated"\n' + text, encoding="utf-8")
    monkeypatch.setenv("ROOFLINE_HOST_FILE", str(tmp_path / "mine.toml"))
    assert library.lookup("cpu").tier == "calibrated"
    monkeypatch.setenv("ROOFLINE_HOST_FILE", str(tmp_path / "gone.toml"))
    with pytest.raises(DeviceFileError, match="cannot read the device file"):
        library.lookup("cpu")


@pytest.mark.parametrize(("printed", "name"), [("NVIDIA GeForce RTX 3090\n", "rtx-3090"), ("Tesla T4\nTesla T4\n", "t4")])
def test_gpu_is_the_first_cuda_device(monkeypatch: pytest.MonkeyPatch, printed: str, name: str) -> None:
    asked = fake_smi(monkeypatch, printed)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0")
    assert library.lookup("gpu").name == name
    assert "--id=2" in asked[0]


def test_no_gpu_or_an_unknown_one(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_smi(monkeypatch, "NVIDIA GeForce RTX 9999\n")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(UnknownNameError, match="'NVIDIA GeForce RTX 9999' is not in the device library"):
        library.lookup("gpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(UnknownNameError, match="no CUDA device was found"):
        library.lookup("gpu")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    fake_smi(monkeypatch, "", code=9)
    with pytest.raises(UnknownNameError, match="no CUDA device was found"):
        library.lookup("gpu")
    monkeypatch.setattr("roofline.devices.host.shutil.which", lambda _: None)
    with pytest.raises(UnknownNameError, match="no CUDA device was found"):
        library.lookup("gpu")


def fake_smi(monkeypatch: pytest.MonkeyPatch, printed: str, code: int = 0) -> list[list[str]]:
    asked: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, code, printed, "")

    monkeypatch.setattr("roofline.devices.host.shutil.which", lambda _: "nvidia-smi")
    monkeypatch.setattr("roofline.devices.host.subprocess.run", run)
    return asked
