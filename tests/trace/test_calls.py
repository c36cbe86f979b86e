"""What a person says of the inputs, as the arguments that forward() gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import roofline
from roofline.errors import ModelError, UsageError
from roofline.sources import build
from roofline.sources.calls import call_with, load, remarks
from roofline.sources.inputs import given
from roofline.sources.values import Stored


class Net(nn.Module):
    def forward(self, x: Any, t: Any = None, *, flag: bool = False) -> Any:
        return x


class Batch(nn.Module):
    def forward(self, batch: dict[str, Any]) -> Any:
        return batch["image"]


class Anything(nn.Module):
    def forward(self, **batch: Any) -> Any:
        return batch["x"]


def call(module: nn.Module, *texts: str) -> tuple[list[Any], dict[str, Any]]:
    return call_with(module, given(texts))


def test_values_are_real_and_shapes_are_not() -> None:
    _, kwargs = call(Net(), "x=[5,3,2]", "t=2,4:int64:3..5", "flag=true")
    assert kwargs["x"].tolist() == [5, 3, 2]
    assert kwargs["flag"] is True
    assert set(kwargs["t"].unique().tolist()) <= {3, 4}
    assert kwargs["t"].shape == (2, 4)
    args, _ = call(Net(), "1,3")
    assert args[0].is_meta


def test_names_that_forward_does_not_know_are_the_dict_that_it_takes() -> None:
    _, kwargs = call(Batch(), "image=2,3,8,8", "scale=0.5")
    assert kwargs["batch"]["scale"] == 0.5
    assert kwargs["batch"]["image"].shape == (2, 3, 8, 8)
    with pytest.raises(UsageError, match=r"where that is a dict, write batch=\{image=1,3,8,8\}"):
        call(Batch(), "image=2,3,8,8")
    with pytest.raises(UsageError, match="did you mean batch"):
        call(Batch(), "bach=2,3,8,8")


def test_every_name_goes_by_name_where_forward_takes_them_all() -> None:
    assert set(call(Anything(), "x=5,16", "edges=2,3:int64")[1]) == {"x", "edges"}


def test_what_is_missing_is_asked_for() -> None:
    with pytest.raises(UsageError, match=r"forward\(\) of Net also takes x, .*\ngive it: --input x=1,16"):
        call(Net(), "t=5")


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("one.npz", ids=np.arange(3))
    np.savez("two.npz", x=np.zeros((2, 3), np.float32), t=np.ones(4))
    torch.save({"x": torch.ones(2, 2), "t": 7}, "batch.pt")
    torch.save(nn.Linear(2, 2), "code.pt")
    Path("none.npy").write_bytes(b"\x93NUMPY nothing")
    assert call(Net(), "x=@one.npz")[1]["x"].tolist() == [0, 1, 2]
    assert set(call(Net(), "@two.npz")[1]) == {"x", "t"}
    assert call(Net(), "@batch.pt")[1]["t"] == 7
    assert call(Net(), "x=@batch.pt:x")[1]["x"].shape == (2, 2)
    Path("junk.pt").write_bytes(b"\xff" * 99)
    for file, words in (
        ("code.pt", "it holds a pickled torch.nn.modules.linear.Linear, and no code of a file is run\nsave the tensors alone"),
        ("junk.pt", "cannot be read as tensors: it is no whole file that torch.save or numpy.save wrote$"),
        ("none.npy", "cannot be read"),
        ("no.pt", "no such file"),
    ):
        with pytest.raises(UsageError, match=words):
            load(Stored(file))
    with pytest.raises(UsageError, match="holds no 'y': it has x, t"):
        load(Stored("two.npz", "y"))


def test_an_integer_by_a_name_is_said_to_be_a_number() -> None:
    assert remarks(given(["t=5", "x=5,"])) == ("--input t is the number 5; a tensor of 5 elements is t=5,",)


def test_a_file_of_values_is_a_part_of_the_cache_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same question about another content of the file is another question."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROOFLINE_CACHE_DIR", str(tmp_path / "cache"))
    Path("net.py").write_text("from torch import nn\nNet = lambda: nn.Linear(4, 8)\n", encoding="utf-8")
    macs = []
    for rows in (3, 5):
        np.save("x.npy", np.zeros((rows, 4), np.float32))
        macs.append(roofline.analyze("net.py:Net", inputs=["@x.npy"]).totals.macs)
    assert macs == [3 * 4 * 8, 5 * 4 * 8]


def test_a_key_that_the_model_looks_for_is_asked_for() -> None:
    with pytest.raises(ModelError, match=r"KeyError: image.*\n'image' is not among the inputs .* add --input image="):
        roofline.analyze(Batch(), device="t4", cache=False, inputs=["picture=2,3,8,8", "scale=0.5"])


CLOSED = """
import torch
from torch import nn


class Closed(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(7, 4), nn.Linear(4, 3)

    def forward(self):
        return self.head(self.table.weight)


class Holds(nn.Module):
    def __init__(self):
        super().__init__()
        self.part = torch.export.export(nn.Linear(4, 3), (torch.rand(7, 4),)).module()

    def forward(self, x):
        return self.part(x)
"""


def test_who_takes_nothing_is_called_with_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(7, 4), nn.Linear(4, 3)

        def forward(self) -> Any:
            return self.head(self.table.weight)

    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(CLOSED, encoding="utf-8")
    for model in (Closed(), "net.py:Closed"):
        found = roofline.analyze(model, device="t4", cache=False)
        assert (found.totals.macs, found.model.inputs) == (7 * 4 * 3, ())
        assert not any("assumed" in note for note in found.notes)


def test_a_model_by_name_that_holds_an_exported_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(CLOSED, encoding="utf-8")
    found = roofline.analyze("net.py:Holds", inputs=["7,4"], device="t4", cache=False)
    assert (found.totals.macs, found.model.params) == (7 * 4 * 3, 4 * 3 + 3)
    assert "a part of it is an exported program, which runs in the mode that it was exported in" in found.notes


ASKS = """
from torch import nn


class Asks(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(64, 64)

    def forward(self, x):
        return self.lin(x) if x.sum() > 0 else x
"""


def test_why_a_model_that_asks_for_values_was_not_run_for_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(build, "REAL_LIMIT", 1_000)
    Path("net.py").write_text(ASKS, encoding="utf-8")
    with pytest.raises(
        ModelError, match=r"asked for the value .*\nits shapes depend on data, and it was not run for real: it was "
    ):
        roofline.analyze("net.py:Asks", inputs=["2,64"], device="t4", cache=False)
