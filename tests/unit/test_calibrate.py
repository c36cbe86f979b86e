"""Timing and calibration without torch: the statistics, the fit, refusal, and the device file that comes out."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from roofline.bench import calibrate_cpu, calibration, sampling
from roofline.bench.sampling import Sample
from roofline.devices.device import Device, Level, Number, Peak, Scaling
from roofline.devices.file import read
from roofline.devices.library import everything as library
from roofline.devices.writer import write
from roofline.errors import DeviceFileError, UsageError

GOOD = Sample(1e-3, 0.02, 30, 25)


# ------------------------------------------------------------------------------------------------ statistics


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.0), (0.25, 2.0), (0.5, 3.0), (0.75, 4.0), (1.0, 5.0), (0.1, 1.4)])
def test_quantile_lies_between_neighbours(share: float, expected: float) -> None:
    assert sampling.quantile([1.0, 2.0, 3.0, 4.0, 5.0], share) == pytest.approx(expected)


def test_disturbed_samples_do_not_count() -> None:
    clean = [1.00, 1.01, 1.02, 1.03, 1.04]
    got = sampling.summary([*clean, 30.0, 40.0, 50.0], clean)
    assert got.median == 1.02
    assert got.spread == pytest.approx(0.02 / 1.02)  # quartiles 1.01 and 1.03
    assert (got.taken, got.clean, got.disturbed) == (8, 5, False)


def test_without_enough_clean_samples_the_faster_quarter_stands_for_them_and_says_so() -> None:
    got = sampling.summary([9.0, 1.0, 8.0, 2.0, 7.0, 6.0, 5.0, 4.0], [9.0])
    assert got.median == 1.5  # of 1.0 and 2.0
    assert got.disturbed
    assert got.spread > 1  # that of all of them


def test_a_few_samples_in_all_need_no_more_clean_ones_than_there_are() -> None:
    assert not sampling.summary([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]).disturbed


def test_sample_times_calls_and_keeps_to_its_limit() -> None:
    with sampling.Waiting() as waiting:
        start = time.perf_counter()
        got = sampling.sample(lambda: time.sleep(0.002), waiting, wanted=10**9, limit=0.1)
        assert time.perf_counter() - start < 2
    assert 0.002 <= got.median < 0.02
    assert got.taken >= 3


def test_sample_takes_its_calls_in_turn_and_divides_by_their_number() -> None:
    seen: list[int] = []
    with sampling.Waiting() as waiting:
        calls = [lambda i=i: seen.append(i) for i in range(3)]
        sampling.sample(calls, waiting, wanted=4, limit=5, number=2)
    assert seen[:3] == [0, 1, 2]  # the round that does not count
    assert set(seen[3:]) == {0, 1, 2}


def test_where_nothing_tells_of_waiting_the_faster_half_counts() -> None:
    waiting = sampling.Waiting()
    waiting.how = ""
    draw = random.Random(0)
    got = sampling.sample(lambda: time.sleep(draw.choice((0.001, 0.001, 0.02))), waiting, wanted=10**9, limit=0.3)
    assert got.median < 0.01


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="needs Linux's scheduler statistics")
def test_waiting_for_a_core_is_seen() -> None:
    """Two busy processes on one core: each has to wait for the other."""
    core = min(os.sched_getaffinity(0))
    allowed = os.sched_getaffinity(0)
    child = os.fork()
    if child == 0:
        os.sched_setaffinity(0, {core})
        end = time.monotonic() + 5
        while time.monotonic() < end:
            pass
        os._exit(0)
    try:
        os.sched_setaffinity(0, {core})
        with sampling.Waiting() as waiting:
            waiting.refresh()
            before, end = waiting(), time.monotonic() + 0.3
            while time.monotonic() < end:
                pass
            assert waiting() > before
    finally:
        os.sched_setaffinity(0, allowed)
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_pinned_gives_every_thread_its_mask_back() -> None:
    before = {task: os.sched_getaffinity(int(task)) for task in os.listdir("/proc/self/task")}
    with sampling.pinned(1, lambda: None):
        assert len(os.sched_getaffinity(0)) >= 1
    assert {task: os.sched_getaffinity(int(task)) for task in before} == before


# ------------------------------------------------------------------------------------------------ the fit


def test_fit_finds_the_line_that_made_the_points() -> None:
    """3 us and 20 GB/s: 1, 2 and 4 MB take 53, 103 and 203 us."""
    got = calibration.fit([(1e6, 53e-6), (2e6, 103e-6), (4e6, 203e-6)])
    assert got.a == pytest.approx(3e-6)
    assert got.b == pytest.approx(20e9)


def test_fit_stands_one_bad_point() -> None:
    points = [(v, 2e-6 + v / 50e9) for v in (1e6, 2e6, 3e6, 4e6, 5e6)]
    points[2] = (3e6, 1e-3)
    assert calibration.fit(points).b == pytest.approx(50e9)


def test_fit_without_a_slope_takes_the_rate_of_the_largest() -> None:
    got = calibration.fit([(1e6, 50e-6), (2e6, 40e-6), (4e6, 30e-6)])
    assert got == (0.0, pytest.approx(4e6 / 30e-6))
    assert calibration.fit([(1e6, 1e-3)]) == (0.0, pytest.approx(1e9))


# ------------------------------------------------------------------------------------------------ refusal, threads, places


def device(units: float = 8.0, threads: int = 16) -> Device:
    return Device(
        name="cpu",
        title="A CPU",
        kind="cpu",
        vendor="Intel",
        arch="Ice Lake",
        tensor={},
        vector={"fp32": Peak(1e12)},
        levels=(Level("DRAM", 0, 5e10),),
        units=Number(units),
        clock=Number(3e9),
        launch=Number(2e-6),
        host=Number(3e-6),
        threads=threads,
        notes=("as measured",),
    )


def bench(**key: Sample) -> calibration.Bench:
    made = calibration.Bench(sampling.Waiting(), lambda text: None)
    made.key = {name.replace("_", " "): s for name, s in key.items()}
    made.taken, made.clean = 100, 90
    return made


def test_a_quiet_machine_is_taken() -> None:
    got = calibration.finish(bench(DRAM=GOOD), device(), force=False)
    assert got.spread == 0.02
    assert got.device.notes == ("In 10 % of the samples other programs held a core; those were left out.", "as measured")


@pytest.mark.parametrize("sample", [Sample(1e-3, 0.4, 30, 25), Sample(1e-3, 0.01, 30, 2)])
def test_a_busy_machine_is_refused_unless_forced(sample: Sample) -> None:
    with pytest.raises(calibration.TooBusy, match=r"too busy.*fp32 GEMM.*\n.*--force") as caught:
        calibration.finish(bench(DRAM=GOOD, the_fp32_GEMM=sample), device(), force=False)
    assert caught.value.exit_code == 2
    forced = calibration.finish(bench(the_fp32_GEMM=sample), device(), force=True)
    assert "--force" in forced.device.notes[0]


def test_threads_stay_within_the_quota() -> None:
    assert calibrate_cpu._threads(None, 16, device(units=8.0)) == 8
    assert calibrate_cpu._threads(None, 16, device(units=2.5)) == 2
    assert calibrate_cpu._threads(None, 16, device(units=0.5)) == 1
    assert calibrate_cpu._threads(None, 4, device(units=8.0)) == 4
    assert calibrate_cpu._threads(3, 16, device()) == 3
    for bad in (0, 17):
        with pytest.raises(UsageError, match="1 to 16"):
            calibrate_cpu._threads(bad, 16, device())
    assert calibrate_cpu._quota_note(device(), 16, 2) == [
        "Measured with 2 of the 16 threads that PyTorch would start; set OMP_NUM_THREADS=2 to run so."
    ]
    assert calibrate_cpu._quota_note(device(), 2, 2) == []


@pytest.mark.parametrize(("threads", "steps"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])])
def test_ladder_of_threads(threads: int, steps: list[int]) -> None:
    assert calibrate_cpu._ladder(threads) == steps


def test_default_file_is_the_one_that_cpu_reads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ROOFLINE_HOST_FILE", str(tmp_path / "mine.toml"))
    assert calibration.default_file() == tmp_path / "mine.toml"
    monkeypatch.setenv("ROOFLINE_HOST_FILE", "")
    with pytest.raises(UsageError, match="-o"):
        calibration.default_file()
    monkeypatch.delenv("ROOFLINE_HOST_FILE")
    monkeypatch.setattr("roofline.devices.host.default_file", lambda: tmp_path / "roofline" / "host.toml")
    assert calibration.default_file() == tmp_path / "roofline" / "host.toml"


def test_hold_is_refused_where_it_is_not_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr("os.sched_setscheduler", forbidden)
    with (
        sampling.Waiting() as waiting,
        pytest.raises(UsageError, match="--hold"),
        sampling.pinned(1, lambda: None, waiting, True),
    ):
        pass
    assert not waiting.hold


def test_rest_lets_others_run_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(sampling, "time", SimpleNamespace(sleep=slept.append))
    waiting = sampling.Waiting()
    assert not waiting.rest(1.0)  # not held: nothing is owed
    waiting.hold, waiting.held = True, 0.0
    assert not waiting.rest(0.015)
    assert waiting.rest(0.015)
    assert slept == [pytest.approx(0.03)]


# ------------------------------------------------------------------------------------------------ the file


def close(a: object, b: object) -> bool:
    """Equal, numbers to nine digits."""
    if isinstance(a, float) and isinstance(b, float):
        return a == pytest.approx(b, rel=1e-9)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(close(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(close, a, b))
    return a == b


def same(a: Device, b: Device) -> bool:
    import msgspec

    return close(msgspec.to_builtins(a), msgspec.to_builtins(b))


def test_every_device_survives_its_own_file(tmp_path: Path) -> None:
    path = tmp_path / "device.toml"
    for d in library():
        path.write_text(write(d), encoding="utf-8")
        assert same(read(path), d), d.name


def test_what_a_calibration_adds_survives_too(tmp_path: Path) -> None:
    measured = Device(
        name="cpu",
        title='A "quoted" \\ name\n',
        kind="cpu",
        vendor="ARM",
        arch="x",
        tier="calibrated",
        tensor={},
        vector={"fp32": Peak(3.5e11, "here", "measured", nominal=4e11, spread=0.03)},
        levels=(
            Level(
                "L2", 4 << 20, 1.5e11, "here", "measured", "here", "measured", nominal=2e11, spread=0.1, size_nominal=3 << 20
            ),
            Level("DRAM", 25276063744, 2.4e10, "here", "measured", "here", "read"),
        ),
        units=Number(2.0, "here", "read"),
        clock=Number(3.1e9, "here", "estimated"),
        simd_bits=512,
        threads=2,
        launch=Number(1.2e-6, "here", "measured", 2.4e-6),
        host=Number(1.7e-6, "here", "measured", 3e-6, 0.02),
        scaling=(Scaling(1, 1.8e11, 1.2e10), Scaling(2, 3.5e11, 2.4e10)),
        fixed={"conv": Number(9.7e-6, "here", "measured", 0.0, 0.02)},
        flops={"conv": Number(2.4e11, "here", "measured")},
        bytes={"norm": Number(1e11, "here", "measured")},
        notes=("one", "two"),
        sources={"here": "a run"},
    )
    path = tmp_path / "host.toml"
    path.write_text(write(measured), encoding="utf-8")
    assert same(read(path), measured)
    path.write_text(path.read_text().replace("spread = 0.03", "sprad = 0.03"))
    with pytest.raises(DeviceFileError, match=r"vector\.fp32\.sprad.*spread"):
        read(path)
