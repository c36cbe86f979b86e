"""A sweep: its rows beside single analyses, what it leaves when it is stopped, and what models may do to it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

import roofline
from roofline import cli
from roofline.devices.device import Device
from roofline.errors import OutputError, UsageError
from roofline.records.sweep import Row
from roofline.sweeps import grid, plan, run, work
from roofline.sweeps.formats import FORMATS
from roofline.sweeps.pool import Limits
from roofline.sweeps.store import Store

NETS = """
import ctypes, os, time
import torch
from torch import nn

class Good(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.a = nn.Linear(8, width)
    def forward(self, x):
        return self.a(x).relu()

class Hangs(Good):
    def forward(self, x):
        time.sleep(3600)

class Eats(Good):
    def forward(self, x):
        held = []
        while True:
            held.append(b"x" * 50_000_000)
            time.sleep(0.02)

class Dies(Good):
    def forward(self, x):
        ctypes.string_at(0)

class Forks(Good):
    def forward(self, x):
        os.fork()
        return super().forward(x)

class Interrupts(Good):
    def forward(self, x):
        raise KeyboardInterrupt

class Raises(Good):
    def forward(self, x):
        raise ValueError("no")
"""


def swept(
    path: Path, models: list[str], devices: list[str], options: dict[str, object] | None = None, **more: object
) -> run.Report:
    asked = grid.made(models, devices, options or {})
    engine = run.here(asked, int(more.pop("workers", 0)), more.pop("limits", Limits()))  # type: ignore[arg-type]  # a test's own
    return run.sweep(asked, path, engine, **more)  # type: ignore[arg-type]  # as above


def rows(path: Path) -> list[Row]:
    return FORMATS[path.suffix].rows(path)


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_rows_are_those_of_single_analyses(tmp_path: Path) -> None:
    devices = ["t4", "rtx-4090", "i9-10940x", "raspberry-pi-5"]
    out = tmp_path / "zoo.jsonl"
    report = swept(out, ["mobilenet_v2"], devices, {"batch": [1, 4], "runtime": ["eager", "compiled", "ideal"]})
    found = rows(out)
    assert report.statuses == {"ok": 24}
    assert len(found) == 24
    for row in found:
        a = roofline.analyze(row.model, device=row.device, batch=row.batch, runtime=row.runtime)
        t = a.totals
        assert (row.params, row.macs, row.flops, row.bytes, row.kernels) == (
            a.model.params,
            t.macs,
            t.flops,
            t.bytes,
            t.kernels,
        )
        assert (row.time, row.throughput, row.peak_memory, row.bound) == (t.time_s, t.throughput, t.peak_memory_bytes, t.bound)
        assert (row.fits, row.weight_bytes, row.intensity) == (t.fits, t.weight_bytes, t.intensity)
        assert (row.time_low is None) == (t.interval is None) == (row.runtime == "ideal")
        if t.interval is not None:
            assert (row.time_low, row.time_high) == pytest.approx((t.interval.low_s, t.interval.high_s), rel=6e-6)
        assert (row.energy is None) == (t.energy is None)
        if t.energy is not None:
            ends = (e / row.batch for e in (t.energy.low_j, t.energy.high_j))
            assert [row.energy, row.energy_low, row.energy_high] == pytest.approx([t.energy.per_sample_j, *ends], rel=6e-6)
        for name, part in t.time_by_bound.items():
            assert getattr(row, name) == pytest.approx(part / t.time_s, abs=2e-6)


def test_a_device_without_the_dtype_is_a_row(tmp_path: Path) -> None:
    out = tmp_path / "zoo.csv"
    report = swept(out, ["mobilenet_v2"], ["raspberry-pi-4", "t4"], {"dtype": ["amp"]})
    by = {row.device: row for row in rows(out)}
    assert report.statuses == {"ok": 1, "refused": 1}
    assert by["t4"].time
    assert by["raspberry-pi-4"].status == "refused"
    assert "has no bf16 peak" in by["raspberry-pi-4"].error


def test_what_is_there_is_left_and_what_failed_is_tried_again(nets: Path) -> None:
    out = nets / "zoo.csv"
    models = ["nets.py:Good", "nets.py:Raises"]
    first = swept(out, models, ["t4"], {"inputs": ("2,8",)})
    assert (first.new, first.statuses) == (2, {"ok": 1, "failed": 1})
    before = out.read_bytes()
    assert swept(out, models, ["t4"], {"inputs": ("2,8",)}).new == 0
    assert out.read_bytes() == before
    assert swept(out, models, ["t4"], {"inputs": ("2,8",)}, retry_errors=True).new == 1
    assert out.read_bytes() == before
    # a file that it is made of is another
    (nets / "nets.py").write_text(NETS.replace("width=8", "width=16"))
    assert swept(out, models, ["t4"], {"inputs": ("2,8",)}).new == 2


def test_any_order_and_any_parts_give_the_same_bytes(nets: Path) -> None:
    both, parts = nets / "a.jsonl", nets / "b.jsonl"
    swept(both, ["nets.py:Good", "mobilenet_v2"], ["t4", "i9-10940x"], {"batch": [1, 2]})
    swept(parts, ["mobilenet_v2"], ["i9-10940x"], {"batch": [2]})
    for i in (2, 1):
        swept(parts, ["mobilenet_v2", "nets.py:Good"], ["i9-10940x", "t4"], {"batch": [2, 1]}, part=(i, 2))
    assert parts.read_bytes() == both.read_bytes()
    assert not (nets / "b.jsonl.parts").exists()


@pytest.mark.parametrize(
    ("options", "same"),
    [({}, {"runtime": ["eager"]}), ({"training": True}, {"training": True, "optimizer": "Adam", "runtime": ["eager"]})],
)
def test_who_names_a_default_asks_for_the_same_row(nets: Path, options: dict[str, object], same: dict[str, object]) -> None:
    out = nets / "zoo.csv"
    assert swept(out, ["nets.py:Good"], ["t4"], {"inputs": ("2,8",), **options}).new == 1
    before = out.read_bytes()
    assert swept(out, ["nets.py:Good"], ["t4"], {"inputs": ("2,8",), **same}).new == 0
    assert out.read_bytes() == before
    assert swept(out, ["nets.py:Good"], ["t4"], {"inputs": ("2,8",), **options, "runtime": ["eager", "compiled"]}).new == 1


def test_rows_of_another_version_are_kept_and_not_mixed(nets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, folder = nets / "zoo.csv", nets / "zoo"
    folder.mkdir()
    for path in (out, folder):
        swept(path, ["mobilenet_v2"], ["t4"])
    old = out.read_bytes()
    now = plan.version()
    monkeypatch.setattr(plan, "version", lambda: "another")
    for path in (out, folder):
        report = swept(path, ["mobilenet_v2"], ["t4"])
        assert (report.new, report.apart) == (1, 1)
    assert (nets / f"zoo.{now}.csv").read_bytes() == old
    assert len(list(folder.glob("[!.]*.*"))) == len(list((folder / f"_{now}").iterdir())) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="memory is watched in /proc")
def test_what_a_model_does_to_its_process_costs_that_model(nets: Path) -> None:
    names = ["Good", "Hangs", "Eats", "Dies", "Forks", "Interrupts", "Raises"]
    limits = Limits(time=10.0, memory=1500 * 10**6, retries=0)
    began = time.monotonic()
    report = swept(nets / "zoo.jsonl", [f"nets.py:{n}" for n in names], ["t4"], {"inputs": ("2,8",)}, workers=2, limits=limits)
    found = {row.model.removeprefix("nets.py:"): row for row in rows(nets / "zoo.jsonl")}
    assert time.monotonic() - began < 200
    assert {n: r.status for n, r in found.items()} == {
        "Good": "ok",
        "Forks": "ok",
        "Hangs": "timeout",
        "Eats": "memory",
        "Dies": "crashed",
        "Interrupts": "failed",
        "Raises": "failed",
    }
    assert found["Forks"].flops == found["Good"].flops
    assert report.rows == 7
    assert "raised KeyboardInterrupt" in found["Interrupts"].error
    assert "SIGSEGV" in found["Dies"].error
    assert "--time-limit" in found["Hangs"].error
    assert "ValueError: no" in found["Raises"].error


def test_what_devices_lack_is_said_once(nets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Five devices and two models: one line that names them; a model's own error names no device."""
    asked = [
        "sweep",
        "mobilenet_v2",
        "nets.py:Raises",
        "--workers",
        "0",
        "--dtype",
        "amp",
        "-d",
        "raspberry-pi-*",
        "-o",
        "zoo.csv",
    ]
    assert cli.main(asked) == 3
    lines = capsys.readouterr().err.splitlines()
    lacks = [line for line in lines if "bf16" in line]
    assert len(lacks) == 1
    assert (
        "mobilenet_v2 on raspberry-pi-3b-plus, raspberry-pi-4, raspberry-pi-5 and 1 more: refused: the device has no"
        in lacks[0]
    )
    assert sum("ValueError: no" in line for line in lines) == 1
    assert not any("nets.py:Raises on" in line for line in lines)


def test_a_part_without_models_and_a_stop_say_so(
    nets: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["sweep", "mobilenet_v2", "resnet18", "-d", "t4", "--workers", "0", "-o", "zoo.csv"]
    assert cli.main([*asked, "--shard", "3/3"]) == 0
    assert "this part has none" in capsys.readouterr().err
    real, left = work.rows, [0]

    def rows(task: plan.Task, devices: Sequence[Device]) -> list[Row]:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return real(task, devices)

    for first, told in (
        (0, "the same command begins anew"),
        (1, "what was whole is in zoo.csv.parts, and the same command goes on"),
    ):
        with monkeypatch.context() as stops:
            stops.setattr(work, "rows", rows)
            left[0] = first
            assert cli.main(asked) == 130
        assert told in capsys.readouterr().err
    assert cli.main(asked) == 0
    assert [row.model for row in FORMATS[".csv"].rows(nets / "zoo.csv")] == ["mobilenet_v2", "resnet18"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device that is no folder")
def test_a_device_is_no_folder(nets: Path) -> None:
    with pytest.raises(OutputError, match="Not a directory"):
        swept(Path("/dev/full"), ["mobilenet_v2"], ["t4"])


@pytest.mark.slow
def test_a_killed_sweep_goes_on_to_the_same_bytes(nets: Path) -> None:
    import random

    args = [sys.executable, "-m", "roofline", "sweep", "mobilenet_v2", "resnet18", "vgg16", "-d", "gpu", "-b", "1,2,4"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([*args, "-o", "whole.csv", "--workers", "1"], check=True, env=env, capture_output=True)
    draw = random.Random(0)
    for _ in range(int(os.environ.get("ROOFLINE_KILLS", "4"))):
        process = subprocess.Popen([*args, "-o", "killed.csv", "--workers", "1"], env=env, stderr=subprocess.DEVNULL)
        time.sleep(draw.uniform(0.3, 6.0))
        process.kill()
        process.wait()
    subprocess.run([*args, "-o", "killed.csv", "--workers", "1"], check=True, env=env, capture_output=True)
    assert (nets / "killed.csv").read_bytes() == (nets / "whole.csv").read_bytes()
    assert not list(nets.glob("killed.csv.parts"))


def test_two_sweeps_into_one_file_harm_nothing(nets: Path) -> None:
    import multiprocessing

    devices, options = ["t4", "rtx-4090"], {"inputs": ("2,8",)}
    (nets / "more.py").write_text(NETS)
    names = [f"{file}.py:{name}" for file in ("nets", "more") for name in ("Good", "Raises")]
    swept(nets / "whole.csv", names, devices, options)
    whole = rows(nets / "whole.csv")
    # each a part and both the middle
    parts = {"a": whole[: len(whole) * 2 // 3], "b": whole[len(whole) // 3 :]}

    def write(name: str) -> None:
        store = Store(nets / "both.csv")
        store.prepare()
        for n, row in enumerate(parts[name]):
            store.write(f"{name}{n}", [row])
        store.finish()

    for _ in range(6):
        both = [multiprocessing.get_context("fork").Process(target=write, args=(name,)) for name in parts]
        for process in both:
            process.start()
        for process in both:
            process.join()
        assert [process.exitcode for process in both] == [0, 0]
        assert (nets / "both.csv").read_bytes() == (nets / "whole.csv").read_bytes()
        assert not (nets / "both.csv.parts").exists()
        (nets / "both.csv").unlink()


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_full_disk_leaves_whole_rows(nets: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    names, options = ["nets.py:Good", "nets.py:Raises"], {"inputs": ("2,8",)}
    swept(nets / "whole.csv", names, ["t4"], options)
    written, real = 0, Path.write_bytes

    def write(self: Path, data: bytes) -> int:
        nonlocal written
        if nets not in self.parents:  # a cache that cannot be written is done without
            return real(self, data)
        written += 1
        if written > after:
            real(self, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(self, data)

    with monkeypatch.context() as full:
        full.setattr(Path, "write_bytes", write)
        with pytest.raises(OutputError, match=r"No space left on device\nwhat was written before is whole"):
            swept(nets / "full.csv", names, ["t4"], options)
    assert not list(nets.glob("**/*.tmp"))
    swept(nets / "full.csv", names, ["t4"], options)
    assert (nets / "full.csv").read_bytes() == (nets / "whole.csv").read_bytes()


def test_bad_requests_say_what_to_do(nets: Path) -> None:
    (nets / "empty.txt").write_text("# nothing\n")
    (nets / "other.csv").write_text("a,b\n1,2\n")
    for models, devices, options, words in [
        (["timm:mobilnetv3_*"], ["t4"], {}, "no model matches"),
        (["tim:*"], ["t4"], {}, "did you mean 'timm'"),
        (["@empty.txt"], ["t4"], {}, "no model in it"),
        (["@none.txt"], ["t4"], {}, "No such file"),
        (["mobilenet_v2"], ["rtx-9999*"], {}, "no device"),
        (["mobilenet_v2"], ["t4"], {"dtype": ["int8"]}, "int8"),
    ]:
        with pytest.raises(UsageError, match=words):
            grid.made(models, devices, options)
    with pytest.raises(UsageError, match="does not hold rows of a sweep"):
        swept(nets / "other.csv", ["mobilenet_v2"], ["t4"])
    assert (nets / "other.csv").read_text() == "a,b\n1,2\n"
    with pytest.raises(UsageError, match=r"give a file with one of"):
        swept(nets / "zoo.xlsx", ["mobilenet_v2"], ["t4"])


def test_patterns_lists_and_grids(nets: Path) -> None:
    (nets / "models.txt").write_text("mobilenet_v2  # a net\n\nresnet*\nmobilenet_v2\n")
    found = grid.made(["@models.txt"], ["gpu"], {"batch": [1, 8], "dtype": ["amp", "fp32"]})
    assert found.models[0] == "mobilenet_v2"
    assert "resnet50" in found.models
    assert len(set(found.models)) == len(found.models)
    assert {d.kind for d in found.devices} == {"gpu"}
    assert len(found.settings) == 4
    (nets / "grid.toml").write_text('models = ["resnet18"]\ndevices = ["t4"]\nbatch = [1, 2]\ntraining = true\n')
    found = grid.made(["grid.toml"], [], {})
    assert found.models == ("resnet18",)
    assert [d.name for d in found.devices] == ["t4"]
    assert found.settings == ({"batch": 1, "training": True}, {"batch": 2, "training": True})
    (nets / "grid.toml").write_text("model = 3\n")
    with pytest.raises(UsageError, match="did you mean 'models'"):
        grid.made(["grid.toml"], [], {})


def test_a_sweep_in_python(tmp_path: Path) -> None:
    found = roofline.sweep("mobilenet_v2", device=["t4", "i9-10940x"], batch=[1, 2], workers=0)
    assert [(row.device, row.batch, row.status) for row in found] == [
        ("i9-10940x", 1, "ok"),
        ("t4", 1, "ok"),
        ("i9-10940x", 2, "ok"),
        ("t4", 2, "ok"),
    ]
    assert len(found[1:]) == 3
    pandas = pytest.importorskip("pandas", reason="a data frame needs pandas")
    assert isinstance(found.to_pandas(), pandas.DataFrame)


def test_readers_of_tables_read_the_file(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    out, folder = tmp_path / "zoo.parquet", tmp_path / "zoo"
    for path in (out, folder):
        swept(path, ["mobilenet_v2"], ["t4", "raspberry-pi-4"], {"dtype": ["amp"]})
    for path in (out, folder / "*.parquet"):
        duckdb = pytest.importorskip("duckdb", reason="reads it")
        assert duckdb.sql(f"select device, time is null from '{path}' order by device").fetchall() == [
            ("raspberry-pi-4", True),
            ("t4", False),
        ]
        polars = pytest.importorskip("polars", reason="reads it")
        assert polars.read_parquet(str(path))["flops"].to_list() == [r.flops for r in rows(out)]
    pandas = pytest.importorskip("pandas", reason="reads it")
    for path in (out, folder):
        assert pandas.read_parquet(path)["model"].to_list() == ["mobilenet_v2"] * 2


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_writes_the_same_bytes(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="a cluster needs Dask")
    from roofline.sweeps import cluster

    asked = grid.made(["mobilenet_v2", "resnet18", "resnet50", "vgg16", "squeezenet1_1", "ghostnet"], ["t4", "i9-10940x"], {})
    run.sweep(asked, tmp_path / "here.csv", run.here(asked, 0, Limits()))
    with (
        distributed.LocalCluster(n_workers=3, threads_per_worker=1, dashboard_address=None) as there,
        distributed.Client(there) as client,
    ):
        pids = list(client.run(os.getpid).values())
        killed = []

        def progress(state: run.Progress) -> None:
            if state.done_models and not killed:
                os.kill(pids[0], 9)
                killed.append(pids[0])

        engine = cluster.on(there.scheduler_address, asked.devices, Limits(), 3)
        report = run.sweep(asked, tmp_path / "there.csv", engine, progress=progress)
        # a worker that is kept keeps no process of a sweep that is over
        assert set(client.run(cluster.held).values()) == {0}
    assert killed
    assert report.statuses == {"ok": 12}
    assert (tmp_path / "there.csv").read_bytes() == (tmp_path / "here.csv").read_bytes()


def test_a_cluster_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from roofline.sweeps import cluster

    monkeypatch.setattr(cluster, "WAIT", 1)
    asked = grid.made(["mobilenet_v2"], ["t4"], {})
    with pytest.raises(UsageError, match=r"no scheduler answers|needs Dask"):
        run.sweep(asked, tmp_path / "zoo.csv", cluster.on("tcp://127.0.0.1:9", asked.devices, Limits(), 1))
