"""A few known times set a device: what they say of it, what they cannot say, and what is refused."""

from __future__ import annotations

from math import log
from pathlib import Path

import pytest
from msgspec.structs import replace

from roofline.devices import file, writer
from roofline.devices.device import Device, Number
from roofline.devices.library import lookup
from roofline.errors import DeviceFileError, UsageError
from roofline.records import Kernel
from roofline.timemodel import adjusted, constants, roof, uncertainty
from roofline.validation import known, known_times, operator_tables
from roofline.validation.known import Timed
from roofline.validation.model_tables import Reading

GPU = lookup("rtx-4090")
C = constants.shipped()


def product(n: int) -> Kernel:
    return operator_tables.operator({"op": "bmm", "B": "1", "M": str(n), "N": str(n), "K": str(n)})


def stream(mebi: int) -> Kernel:
    return operator_tables.operator({"op": "relu", "B": str(mebi), "H": str(2**18)})


NETS = {
    "products": [product(4096)] * 3,
    "streams": [stream(512)] * 6,
    "both": [product(2048), stream(256)] * 4,
    "small": [stream(1)] * 300,
}


def seconds(device: Device, name: str) -> float:
    return sum(p.time_s for p in roof.place(NETS[name], device, footprint=2**34))


def timed(device: Device, *names: str, times: float = 1.0) -> list[Timed]:
    """Known times: what the model says of another device."""
    return [Timed(name, seconds(device, name) * times, NETS[name], "fp32", "eager", False, 2**34) for name in names]


def off(found: Device, truth: Device, name: str) -> float:
    return abs(log(seconds(found, name) / seconds(truth, name)))


@pytest.mark.parametrize("device", ["rtx-4090", "t4", "i9-10940x"])
def test_three_times_of_different_kinds_set_all_three_numbers(device: str) -> None:
    base = lookup(device)
    truth = adjusted.adjusted(base, (0.85, 0.9, 1.5), C)
    assert max(off(base, truth, name) for name in NETS) > 0.1
    found = known.fit(timed(truth, "products", "streams", "small"), base)
    for name in NETS:  # each time may be off by the model itself, so part of what the file says stays
        assert off(found.device, truth, name) < 0.1
    assert found.device.tier == "fitted"
    assert found.device.known is not None
    assert found.device.known.times == 3
    assert all(row.after_s == pytest.approx(row.known_s, rel=0.12) for row in found.rows)
    assert "fitted to 3 known times" in found.notes[0]
    assert len(found.notes) == 1


def test_one_time_brings_the_device_to_it_and_others_with_it() -> None:
    truth = adjusted.adjusted(GPU, (0.75, 0.8, 1.0), C)
    found = known.fit(timed(truth, "both"), GPU)
    for name in ("products", "streams", "both"):
        assert off(found.device, truth, name) < 0.7 * off(GPU, truth, name)
    # no time rested on the host, and nothing was learnt of it
    assert found.device.host.value == pytest.approx(GPU.host.value, rel=0.05)


def test_a_time_near_the_prediction_is_mostly_the_models_one_far_off_the_devices() -> None:
    def taken(times: float) -> float:
        return off(known.fit(timed(GPU, "both", times=times), GPU).device, GPU, "both") / log(times)

    # errors of a tenth are common among models, and boards at three quarters of their speed among devices
    assert taken(1.1) < taken(1.3) < taken(1.6)
    assert taken(1.1) < 0.8
    assert taken(1.3) > 0.8


def test_what_is_left_unknown_shrinks_where_times_speak_and_nowhere_else() -> None:
    before = uncertainty.covariance(GPU)
    after = uncertainty.covariance(known.fit(timed(GPU, "products", "both"), GPU).device)
    assert after[0][0] < 0.6 * before[0][0]
    assert after[2][2] == pytest.approx(before[2][2], rel=0.05)


def test_physical_limits_hold() -> None:
    faster = adjusted.adjusted(GPU, (9.0, 9.0, 1.0), C)
    assert (faster.sustained.value, faster.reached.value) == (GPU.sustained.value, pytest.approx(1.0))
    found = known.fit(timed(GPU, "streams", times=0.7), GPU)
    assert found.device.reached.value == pytest.approx(1.0, rel=1e-3)
    assert found.device.sustained.value <= max(1.0, GPU.sustained.value) * (1 + 1e-9)
    assert any("all of it is taken, and no more" in note for note in found.notes)


def test_a_time_above_the_peak_is_refused() -> None:
    with pytest.raises(UsageError, match=r"products = .* is above the peak of rtx-4090: its .* at the least"):
        known.fit(timed(GPU, "products", times=0.5), GPU)


def test_a_time_that_nothing_explains_is_refused() -> None:
    with pytest.raises(UsageError, match=r"both = .* cannot be a time of rtx-4090: .* is as near as"):
        known.fit(timed(GPU, "both", times=1000.0), GPU)
    with pytest.raises(UsageError, match="a known time is a text"):
        known_times.question(5)


def test_contradictions_are_said_with_their_spread() -> None:
    wrong = [*timed(GPU, "both"), *timed(GPU, "both", times=1.5)]
    notes = known.fit(wrong, GPU).notes
    assert any("2 known times of both contradict each other" in note for note in notes)
    odd = known.fit([*timed(GPU, "products", "streams", "both"), *timed(GPU, "both", times=3.0)], GPU)
    assert any("known over predicted is" in note and "furthest off is both" in note for note in odd.notes)
    # and the other three are believed
    assert off(odd.device, GPU, "products") < 0.1
    sure, unsure = (known.fit(times, GPU).device.known for times in (timed(GPU, "both", "both"), wrong))
    assert sure is not None
    assert unsure is not None
    assert unsure.clock > sure.clock


def test_the_file_keeps_it(tmp_path: Path) -> None:
    found = known.fit(timed(GPU, "products", "small", times=1.1), GPU).device
    path = tmp_path / "mine.toml"
    path.write_text(writer.write(found), encoding="utf-8")
    again = file.read(path)
    assert (again.known, again.tier) == (found.known, "fitted")
    assert (again.sustained.status, again.sustained.source) == ("fitted", "known")
    assert "products = " in again.sources["known"]
    assert uncertainty.covariance(again) == uncertainty.covariance(found)
    for line, words in (("times = 2", "times = -2"), ("clock_memory = ", "clock_memory = 7 # "), ("off = ", "of = ")):
        path.write_text(writer.write(found).replace(line, words), encoding="utf-8")
        with pytest.raises(DeviceFileError, match=r"known"):
            file.read(path)


def test_a_calibrated_cpu_stays_one() -> None:
    cpu = replace(lookup("i7-12700h"), fixed={"gemm": Number(5e-6)}, flops={"gemm": Number(1e11)}, bytes={"norm": Number(1e10)})
    dram = replace(cpu.levels[-1], status="measured")
    found = adjusted.adjusted(replace(cpu, levels=(*cpu.levels[:-1], dram)), (0.5, 0.8, 2.0), C)
    assert (found.fixed["gemm"].value, found.flops["gemm"].value, found.bytes["norm"].value) == (1e-5, 5e10, 5e9)
    assert found.levels[-1].status == "measured"
    assert found.peak("fp32") == pytest.approx(0.5 * cpu.peak("fp32"))


# ------------------------------------------------------------------------------------------------ as they are given


def test_a_question_as_the_command_line_takes_it() -> None:
    one = known_times.question("net.py:Net  -b 8 --dtype=amp --set a=1 --set b=x --input x=1,3 --training = 2.5 ms")
    assert (one.model, one.seconds) == ("net.py:Net", pytest.approx(2.5e-3))
    options = {"batch": 8, "dtype": "amp", "settings": {"a": "1", "b": "x"}, "inputs": ["x=1,3"], "training": True}
    assert one.options == options


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("resnet50", "expected MODEL"),
        ("resnet50 = ", "expected MODEL"),
        ("= 5 ms", "expected MODEL"),
        ("resnet50 --set a=1", "1 of what"),
        ("resnet50 = 58", "58 of what"),
        ("resnet50 = 58 GB", "unit of B"),
        ("resnet50 = -5 ms", "cannot be"),
        ("resnet50 = 0 ms", "cannot be"),
        ("resnet50 = nan ms", "expected"),
        ("resnet50 -b = 5 ms", "--batch needs a value"),
        ("resnet50 -b 0 = 5 ms", "at least 1"),
        ("a -b x = 5 ms", "'x'"),
        ("resnet50 vgg16 = 5 ms", "two models"),
        ("-b 5 = 5 ms", "no model"),
        ("resnet50 --dtyp amp = 5 ms", "did you mean"),
        ("resnet50 -b 1 -b 2 = 5 ms", "given twice"),
        ("resnet50 'a = 5 ms", "No closing quotation"),
        ("resnet50 --set a = 5 ms", "expected ARG=VALUE"),
        ("resnet50 -d t4 = 5 ms", "unknown option -d"),
    ],
)
def test_what_is_no_known_time_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError) as error:
        known_times.question(text)
    assert words in str(error.value)


def test_a_table_says_how_each_row_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "times.csv"
    path.write_text("model,batch,dtype,mode,runtime,ms\nresnet50,8,amp,training,,9.5\nvgg16,1,fp32,,compiled,3\n")
    first, second = known_times.table(path, Reading())
    assert first.options == {"dtype": "amp", "runtime": "eager", "batch": 8, "training": True}
    assert (second.options["runtime"], second.seconds, second.what) == (
        "compiled",
        pytest.approx(3e-3),
        "vgg16 -b 1 --dtype fp32 --runtime compiled",
    )
    assert known_times.table(path, Reading(dtype="fp16"))[0].options["dtype"] == "fp16"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model,batch,dtype,ms\nresnet50,8,fp8,9.5\n", "line 2: unknown dtype 'fp8'"),
        ("model,batch,ms\nresnet50,8,-1\n", "line 2: a time of -0.001 s cannot be"),
        ("model,batch\nresnet50,8\n", "no column"),
        ("model,ms\n" + "resnet50,9\n" * 101, "has 101 times"),
    ],
)
def test_a_table_that_cannot_be_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "times.csv"
    path.write_text(text)
    with pytest.raises(UsageError) as error:
        known_times.table(path, Reading())
    assert words in str(error.value)
