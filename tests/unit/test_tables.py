"""Reading tables of measured times."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from roofline import files
from roofline.devices import library
from roofline.errors import UsageError
from roofline.validation import model_tables, operator_tables

HEADER = "model,infer_img_size,infer_samples_per_sec,infer_step_time,infer_batch_size,param_count\n"


def write(folder: Path, text: str, name: str = "benchmark-infer-amp-nhwc-pt240-cu124-rtx3090.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("benchmark-infer-amp-nhwc-pt240-cu124-rtx3090.csv", ("amp", "nhwc", "eager")),
        ("benchmark-infer-amp-nchw-pt291-cu128-4090-dynamo.csv", ("amp", "nchw", "compiled")),
        ("benchmark-infer-fp32-nchw-pt240-cpu-i9_10940x-dynamo.csv", ("fp32", "nchw", "compiled")),
        ("times.csv", ("fp32", "nchw", "eager")),
    ],
)
def test_a_file_name_tells_the_setting(name: str, expected: tuple[str, str, str]) -> None:
    how = model_tables.setting(name, model_tables.Reading())
    assert (how.dtype, how.layout, how.runtime) == expected


def test_frozen_weights_are_told_by_a_word_of_the_name_and_are_of_compiled_forwards_alone(tmp_path: Path) -> None:
    frozen = [
        model_tables.setting(name, reading).frozen
        for name, reading in (
            ("xeon-dynamo-freezing.csv", model_tables.Reading()),
            ("xeon-inductor-frozen.csv", model_tables.Reading()),
            ("xeon-dynamo.csv", model_tables.Reading()),
            ("xeon-freezing.csv", model_tables.Reading()),
            ("xeon-dynamo-freezing.csv", model_tables.Reading(runtime="eager")),
        )
    ]
    assert frozen == [True, True, False, False, False]
    path = write(tmp_path, "model,mode,runtime,ms\na,,,1\nb,train,,2\nc,,eager,3\n", "xeon-dynamo-freezing.csv")
    assert [part.how.frozen for part in model_tables.parts(path, model_tables.Reading())] == [True, False, False]


def test_options_override_the_file_name() -> None:
    how = model_tables.setting("x-amp-nhwc-dynamo.csv", model_tables.Reading("fp32", "nchw", "eager"))
    assert (how.dtype, how.layout, how.runtime) == ("fp32", "nchw", "eager")


def test_rows_tell_their_own_setting(tmp_path: Path) -> None:
    """A table of several settings comes apart, by what differs; a cell that is empty goes by the file's name."""
    text = "model,dtype,mode,runtime,ms\na,fp32,,,1\nb,AMP,,compiled,2\nc,,inference,eager,3\nd,fp32,,eager,4\ne,x,,,0\n"
    path = write(tmp_path, text)
    first, other, third = model_tables.parts(path, model_tables.Reading())
    assert [row.model for part in (first, other, third) for row in part.table.rows] == ["a", "d", "b", "c"]
    assert first.how == model_tables.Setting("fp32", "nhwc", "eager", torch=(2, 4))
    assert other.how == model_tables.Setting("amp", "nhwc", "compiled", torch=(2, 4))
    assert [part.table.name.partition(" ")[2] for part in (first, other, third)] == [
        "(fp32, eager)",
        "(amp, compiled)",
        "(amp, eager)",
    ]
    # the line that is no time is said once
    assert [len(part.table.skipped) for part in (first, other, third)] == [1, 0, 0]
    # ... and the command line is stronger than columns
    (whole,) = model_tables.parts(path, model_tables.Reading("bf16", None, "eager"))
    assert whole.how.dtype == "bf16"
    assert whole.table.name == path.name
    assert len(whole.table.rows) == 4


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("model,dtype,ms\na,fp33,1\n", "line 2: unknown dtype 'fp33'"),
        ("model,runtime,ms\na,ncnn,1\n", "line 2: unknown runtime 'ncnn'; use one of .* for all rows"),
        ("model,layout,ms\na,nchww,1\n", "line 2: unknown layout 'nchww'"),
        ("model,mode,ms\na,backward,1\n", "line 2: unknown mode 'backward'"),
        ("model,mode,optimizer,ms\na,training,adam,1\n", "line 2: unknown optimizer 'adam'; use one of sgd"),
    ],
)
def test_a_setting_that_is_not_known_is_skipped_with_the_reason(tmp_path: Path, text: str, why: str) -> None:
    path = write(tmp_path, text + "b" + "," * (text.partition("\n")[0].count(",")) + "2\n")
    (part,) = model_tables.parts(path, model_tables.Reading())
    assert [row.model for row in part.table.rows] == ["b"]
    ((model, said),) = part.table.skipped
    assert model == "a"
    assert re.match(why, said)


def test_words_of_other_people_mean_the_same(tmp_path: Path) -> None:
    path = write(tmp_path, "model,dtype,layout,runtime,mode,ms\na,amp_fp16,channels_last,inductor,train,1\n", "times.csv")
    (part,) = model_tables.parts(path, model_tables.Reading())
    assert part.how == model_tables.Setting("amp", "nhwc", "compiled", True)


def test_a_table_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written to it meanwhile does not put its lines beside other settings."""
    path, asked, once = write(tmp_path, "model,ms\nresnet18,2\n"), [], files.text
    monkeypatch.setattr(files, "text", lambda path, limit: asked.append(path) or once(path, limit))
    (part,) = model_tables.parts(path, model_tables.AS_NAMED)
    assert [row.model for row in part.table.rows] == ["resnet18"]
    assert asked == [path]


def test_rows_in_seconds(tmp_path: Path) -> None:
    table = model_tables.read(write(tmp_path, HEADER + "resnet50,224,3219.06,318.095,1024,25.56\n"))
    assert table.rows == (model_tables.Row("resnet50", 224, 1024, 0.318095, 25.56, 2),)
    assert table.skipped == ()


def test_rows_that_cannot_be_are_skipped_with_a_reason(tmp_path: Path) -> None:
    text = HEADER + "a,224,1,0,8,1\nb,224,1,x,8,1\nc,224,1,1.0,0,1\nd,224,1,2.0,4,1\n"
    table = model_tables.read(write(tmp_path, text))
    assert [r.model for r in table.rows] == ["d"]
    assert [model for model, _ in table.skipped] == ["a", "b", "c"]
    assert "time of 0 s" in table.skipped[0][1]
    assert "line 3" in table.skipped[1][1]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("r,224,1,nan,8,1", "a time of nan s cannot be"),
        ("r,224,1,-3,8,1", "a time of -0.003 s cannot be"),
        ("r,224,1,inf,8,1", "a time of inf s cannot be"),
        ("r,224,1,0,8,1", "a time of 0 s cannot be"),
        ("r,224,1,,8,1", "no infer_step_time"),
        ("r,224,1,1 ms,8,1", "infer_step_time is '1 ms', which is no number"),
        ("r,0,1,1,8,1", "infer_img_size of 0 cannot be"),
        ("r,-1,1,1,8,1", "infer_img_size of -1 cannot be"),
        ("r,nan,1,1,8,1", "infer_img_size of nan cannot be"),
        ("r,224.5,1,1,8,1", "infer_img_size of 224.5 is no whole number"),
        ("r,,1,1,8,1", "no infer_img_size"),
        ("r,224,1,1,2.5,1", "infer_batch_size of 2.5 is no whole number"),
        ("r,224,1,1,inf,1", "infer_batch_size of inf cannot be"),
        ("r,224,1,1,,1", "no infer_batch_size"),
        ("r,224,1,1,8,-2", "param_count of -2 cannot be"),
        ("r,224,1,1,8,nan", "param_count of nan cannot be"),
        (",224,1,1,8,1", "no model"),
        ("r", "no infer_step_time"),
    ],
)
def test_what_is_wrong_in_a_line_is_said(line: str, why: str, tmp_path: Path) -> None:
    table = model_tables.read(write(tmp_path, HEADER + line + "\nfine,224,1,2.0,4,\n"))
    assert [row.model for row in table.rows] == ["fine"]
    assert [reason for _, reason in table.skipped] == [f"line 2: {why}"]


def test_what_a_table_leaves_open_is_noted(tmp_path: Path) -> None:
    table = model_tables.read(write(tmp_path, "model,infer_step_time\na,1\n"))
    assert [note.partition(" (")[0] for note in table.notes] == ["no column of sizes", "no column of batches"]
    assert (table.rows[0].size, table.rows[0].batch) == (0, 1)
    assert model_tables.read(write(tmp_path, HEADER + "a,224,1,1,1,1\n")).notes == ()


def test_a_column_that_stands_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has two columns 'infer_step_time'"):
        model_tables.read(write(tmp_path, "model,infer_step_time,infer_step_time\na,1,2\n"))


def test_two_columns_of_time_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the time is in one column"):
        model_tables.read(write(tmp_path, "model,a,b\nm,1,2\n"), {"ms": "a", "s": "b"})


def test_a_renamed_column_is_named_with_the_nearest(tmp_path: Path) -> None:
    path = write(tmp_path, "model,infer_img_size,infer_steptime,infer_batch_size\nresnet50,224,1,1\n")
    with pytest.raises(UsageError, match=r"no column 'infer_step_time'.*--column ms=infer_steptime"):
        model_tables.read(path)
    assert model_tables.read(path, {"ms": "infer_steptime"}).rows[0].seconds == pytest.approx(1e-3)


def test_microseconds_and_other_names(tmp_path: Path) -> None:
    path = write(tmp_path, "net,latency_us\nresnet18,2500\n", "mine.csv")
    table = model_tables.read(path, {"model": "net", "us": "latency_us"})
    assert table.rows == (model_tables.Row("resnet18", 0, 1, pytest.approx(2.5e-3), 0.0, 2),)


@pytest.mark.parametrize(("text", "words"), [("", "no rows"), ("model,infer_step_time\n", "no rows")])
def test_an_empty_table(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        model_tables.read(write(tmp_path, text))


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        model_tables.read(tmp_path / "none.csv")


def test_a_sample_is_the_same_for_a_seed() -> None:
    rows = [model_tables.Row(str(i), 0, 1, 1.0) for i in range(50)]
    assert model_tables.sample(rows, 5, 1) == model_tables.sample(rows, 5, 1) != model_tables.sample(rows, 5, 2)
    assert len(model_tables.sample(rows, None, 0)) == 50


def convolutions(channels: list[int], us: list[float]) -> list[model_tables.Record]:
    shape = {"device": "Tesla T4", "N": "1", "Cout": "8", "k": "3", "HW_in": "8", "stride": "1", "pad": "1"}
    found = []
    for line, (c, took) in enumerate(zip(channels, us, strict=True), 2):
        record = model_tables.Record(shape, Cin=str(c), ms=str(took / 1e3))
        record.line = line
        found.append(record)
    return found


def test_what_the_host_needs_more_from_call_to_call_is_no_part_of_an_operators_time() -> None:
    # calls next to nothing that take the host 50 us and 0.5 us more for each before it, some of them disturbed; 1 ms in between
    t4, steady = library.lookup("t4"), [50 + 0.5 * i for i in range(1000)]
    took = [us + 1000 if i % 10 == 5 else us + (i * 7 % 5) * 30 * (i % 3) for i, us in enumerate(steady)]
    found = operator_tables.rows_of("x.csv", convolutions([8] * 1000, took), t4, None, 0)
    kept = {row.line - 2: row.seconds for row, _ in found.rows}
    for i in range(5, 1000, 10):
        assert kept[i] == pytest.approx(1.05e-3, rel=1e-3)
    assert found.notes == ["each call takes the host 500 ns longer than the one before it, which is taken off"]
    # a call that took the host alone is too short to tell of a kernel, wherever it stands
    assert all(seconds >= operator_tables.SHORTEST_S for seconds in kept.values())
    assert len(kept) < 700


def test_a_table_sorted_by_size_has_no_host_that_needs_more() -> None:
    t4 = library.lookup("t4")
    # of kernels at half of their roof: 2 x 8 x 64 x 9 FLOP a channel at 8.1 TFLOP/s, or 4 x 136 bytes at 320 GB/s
    channels = [1 + 4000 * i for i in range(400)]
    us = [120 + c * 2 * 544 / 320e3 for c in channels]
    found = operator_tables.rows_of("x.csv", convolutions(channels, us), t4, None, 0)
    assert [row.seconds for row, _ in found.rows] == pytest.approx([x * 1e-6 for x in us])
    assert found.notes == []
    # nor has one of a few rows
    few = operator_tables.rows_of("x.csv", convolutions([8] * 10, [120.0 + i for i in range(10)]), t4, None, 0)
    assert (len(few.rows), few.notes) == (10, [])


def test_operators_of_a_table() -> None:
    conv = {"device": "x", "N": "2", "Cin": "3", "Cout": "8", "k": "3", "HW_in": "10", "stride": "1", "pad": "1", "ms": "1"}
    kernel = operator_tables.operator(conv)
    assert kernel.macs == 2 * 8 * 10 * 10 * 3 * 3 * 3
    # input, weight, output in fp32
    assert kernel.bytes == 4 * (2 * 3 * 100 + 8 * 3 * 9 + 2 * 8 * 100)
    kernel = operator_tables.operator({"op": "bmm", "B": "4", "M": "5", "N": "6", "K": "7", "ms": "1"})
    assert kernel.macs == 4 * 5 * 6 * 7
    kernel = operator_tables.operator({"op": "linear", "B": "1", "M": "5", "N": "6", "K": "7", "ms": "1"})
    assert kernel.macs == 5 * 6 * 7
    kernel = operator_tables.operator({"op": "mulu", "B": "32", "H": "64", "ms": "1"})
    assert kernel.bytes == 2 * 4 * 32 * 64
    kernel = operator_tables.operator({"op": "add", "B": "32", "H": "64", "ms": "1"})
    assert kernel.bytes == 3 * 4 * 32 * 64
