"""Models that look at the tensors of the pass: whether they have memory, or at what is inside them."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from roofline import RooflineError, analyze, sweep

X = torch.rand(4, 8)
LAYER = 4 * 8 * 8


class Of(nn.Module):
    def __init__(self, device: str = "cpu") -> None:
        super().__init__()
        self.lin = nn.Linear(8, 8, device=device)


class OfMeta(Of):
    def forward(self, x: Tensor) -> Any:
        return x if x.is_meta else self.lin(x)


class OfDevice(Of):
    def forward(self, x: Tensor) -> Any:
        return x if x.device == torch.device("meta") else self.lin(x)


class OfAddress(Of):
    def forward(self, x: Tensor) -> Any:
        return self.lin(x) if x.data_ptr() else x


@pytest.mark.parametrize("kind", [OfMeta, OfDevice, OfAddress])
def test_who_looks_for_memory_finds_some(kind: type[Of]) -> None:
    found = analyze(kind(), args=(X,), device="t4")
    assert found.totals.macs == LAYER
    assert "its code asks whether tensors have memory: traced on real tensors, with the values given" in found.notes


def test_who_looks_for_memory_where_none_can_be_is_named() -> None:
    found = analyze(OfMeta("meta"), args=(X,), device="t4")
    assert any("on a device it may take another way" in note for note in found.notes)


def test_a_function_that_looks() -> None:
    net = nn.Linear(8, 8)
    assert analyze(lambda x: x if x.is_meta else net(x), args=(X,), device="t4").totals.macs == LAYER


COPIES: dict[str, Callable[[Any], Any]] = {"copy": copy.deepcopy, "pickle": lambda t: pickle.loads(pickle.dumps(t))}


@pytest.mark.parametrize("kind", COPIES)
def test_tensors_of_a_pass_are_copied_as_any(kind: str) -> None:
    net = nn.Linear(8, 8)
    found = analyze(lambda x: net(COPIES[kind](net(x))), args=(X,), device="t4")
    assert found.totals.macs == 2 * LAYER
    assert not any("real tensors" in note for note in found.notes)


def nested(net: nn.Module, depth: int = 230) -> nn.Module:
    for _ in range(depth):
        net = nn.Sequential(net)
    return net


def test_what_is_nested_deep_is_followed_and_its_path_is_short_in_a_message() -> None:
    assert analyze(nested(nn.Linear(8, 8)), args=(X,), device="t4").totals.macs == LAYER
    with pytest.raises(RooflineError, match=r"failed in 0\.0.*\.\.\..*0\.0 \(Linear\)") as refused:
        analyze(nested(nn.Linear(3, 8)), args=(X,), device="t4")
    assert len(str(refused.value)) < 500


# ------------------------------------------------------------------------------------------------ where tensors lie


def on_gpu(x: Tensor) -> bool:
    return x.is_cuda


def number(x: Tensor) -> bool:
    return x.device.index is not None


# what a model asks, of its input or of its weight
ASKS: dict[str, Callable[[Tensor, Tensor], bool]] = {
    "is_cuda": lambda x, w: x.is_cuda,
    "of a weight": lambda x, w: w.is_cuda,
    "of a result": lambda x, w: (x + 1).is_cuda,
    "is_cpu": lambda x, w: not x.is_cpu,
    "type": lambda x, w: x.device.type == "cuda",
    "not the CPU's": lambda x, w: x.device.type not in ("cpu", "mps"),
    "a device": lambda x, w: x.device == torch.device("cuda:0"),
    "as text": lambda x, w: "cuda" in str(x.device),
    "number": lambda x, w: number(x),
    "get_device": lambda x, w: x.get_device() >= 0,
    "is_available": lambda x, w: torch.cuda.is_available(),
    "device_count": lambda x, w: torch.cuda.device_count() > 0,
    "bf16": lambda x, w: torch.cuda.is_bf16_supported(),
    "an accelerator": lambda x, w: torch.accelerator.is_available() and torch.accelerator.current_accelerator() is not None,
    "in a function": lambda x, w: on_gpu(x),
    "meta too": lambda x, w: x.device.type not in ("meta", "cpu") and not x.is_meta,
}


class Placed(nn.Module):
    """A layer 8 -> 8 on a CPU, 8 -> 16 elsewhere."""

    def __init__(self, asks: Callable[[Tensor, Tensor], bool]) -> None:
        super().__init__()
        self.asks, self.lin, self.wide = asks, nn.Linear(8, 8), nn.Linear(8, 16)

    def forward(self, x: Tensor) -> Any:
        return self.wide(x) if self.asks(x, self.lin.weight) else self.lin(x)


@pytest.mark.parametrize("name", ASKS)
def test_who_asks_where_tensors_lie_is_told_the_device_that_was_asked_for(name: str) -> None:
    gpu, cpu = (analyze(Placed(ASKS[name]), args=(X,), device=d) for d in ("t4", "i7-12700h"))
    assert (gpu.totals.macs, cpu.totals.macs) == (2 * LAYER, LAYER)
    assert "its code asks on which device tensors lie: answered as on a GPU" in gpu.notes


def test_a_trace_of_one_kind_of_device_does_not_answer_for_another(tmp_path: Any, monkeypatch: Any) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\n\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.lin, self.wide = nn.Linear(8, 8), nn.Linear(8, 16)\n\n"
        "    def forward(self, x):\n        return self.wide(x) if x.is_cuda else self.lin(x)\n"
    )
    monkeypatch.setenv("ROOFLINE_CACHE_DIR", str(tmp_path / "cache"))
    macs = [
        analyze(f"{tmp_path}/net.py:Net", inputs=["4,8"], device=d).totals.macs for d in ("t4", "i7-12700h", "t4", "h100-sxm")
    ]
    assert macs == [2 * LAYER, LAYER, 2 * LAYER, 2 * LAYER]


def test_what_numpy_computes_is_said_not_to_be_counted() -> None:
    """Of x x' as an array and once more as a tensor, the second alone: [4, 8] by [8, 4], then [4, 4] by [4, 8]."""
    calls: dict[str, Callable[[Tensor], Any]] = {
        "numpy": lambda x: torch.from_numpy(x.numpy() @ x.numpy().T) @ x,
        "an array": lambda x: torch.as_tensor(np.asarray(x) @ np.asarray(x).T) @ x,
        "neither": lambda x: (x @ x.T) @ x,
    }
    found = {how: analyze(call, args=(X,), device="t4") for how, call in calls.items()}
    assert {how: a.totals.macs for how, a in found.items()} == {"numpy": 128, "an array": 128, "neither": 256}
    said = "its code makes NumPy arrays of tensors: what NumPy computes is not counted"
    assert {how: said in a.notes for how, a in found.items()} == {"numpy": True, "an array": True, "neither": False}


BOARD = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        {built}
        self.lin, self.wide = nn.Linear(8, 8), nn.Linear(8, 16)

    def forward(self, x):
        return self.wide(x) if {asks} else self.lin(x)
"""
# A question: which holds on a T4 (7.5, 16 GiB, 40 SMs), an A100 (8.0, 80 GB, 108), an RTX 3090 (8.6, 24 GiB, 82).
QUESTIONS = {
    "torch.cuda.get_device_capability() >= (8, 0)": (False, True, True),
    "torch.cuda.get_device_capability(x.device)[1] in (5, 6)": (True, False, True),
    "torch.cuda.get_device_properties(0).multi_processor_count > 100": (False, True, False),
    "torch.cuda.mem_get_info()[0] > 20 * 2**30": (False, True, True),
    "'A100' in torch.cuda.get_device_name()": (False, True, False),
    "torch.cuda.is_available() and torch.cuda.get_device_properties('cuda').major == 7": (True, False, False),
}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize(("asks", "built"), [(a, b) for a in QUESTIONS for b in (False, True) if not (b and "is_av" in a)])
def test_who_asks_which_gpu_it_is_on_is_told_of_the_one_asked_for(
    tmp_path: Any, monkeypatch: Any, asks: str, built: bool
) -> None:
    """From a trace in the cache too, and in a sweep, where each such GPU has a trace of its own."""
    asked = asks.replace("x.device", "0")
    text = BOARD.format(built=f"self.new = {asked}", asks="self.new") if built else BOARD.format(built="pass", asks=asks)
    (tmp_path / "net.py").write_text(text)
    monkeypatch.setenv("ROOFLINE_CACHE_DIR", str(tmp_path / "cache"))
    wanted = dict(zip(("t4", "a100-sxm-80gb", "rtx-3090"), ((1 + true) * LAYER for true in QUESTIONS[asks]), strict=True))
    model, inputs = f"{tmp_path}/net.py:Net", ["4,8"]
    found = {d: analyze(model, inputs=inputs, device=d) for d in (*wanted, "t4")}
    assert {d: a.totals.macs for d, a in found.items()} == wanted
    assert "its code asks which GPU it runs on: it was told of the NVIDIA T4, by that device's data" in found["t4"].notes
    rows = sweep(model, device=[*wanted], inputs=inputs, workers=0)
    assert {row.device: row.macs for row in rows} == wanted


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_what_is_not_known_of_a_gpu_is_refused(tmp_path: Any) -> None:
    asks = "torch.cuda.get_device_capability() > (8, 0)"
    (tmp_path / "net.py").write_text(BOARD.format(built=f"self.new = {asks}", asks="self.new"))
    for device, words in (
        ("mi300x", "the compute capability of the AMD Instinct MI300X is not known here"),
        ("i7-12700h", "it asks for a CUDA device, and there is none here"),
    ):
        with pytest.raises(RooflineError, match=words):
            analyze(f"{tmp_path}/net.py:Net", inputs=["4,8"], device=device, cache=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_who_asks_for_a_gpu_while_it_is_built_is_named(tmp_path: Any) -> None:
    """Not who only names what its tensors go to, and not where a CPU was asked for."""
    (tmp_path / "net.py").write_text(BOARD.format(built="self.new = torch.cuda.is_available()", asks="self.new"))
    place = "self.to_ = torch.device('cuda' if torch.cuda.is_available() else 'cpu')"
    (tmp_path / "place.py").write_text(BOARD.format(built=place, asks="False"))
    said = {
        (name, device): any(
            "while it is built whether there is a GPU" in note
            for note in analyze(f"{tmp_path}/{name}.py:Net", inputs=["4,8"], device=device, cache=False).notes
        )
        for name in ("net", "place")
        for device in ("t4", "i7-12700h")
    }
    assert [key for key, noted in said.items() if noted] == [("net", "t4")]


def test_what_a_model_makes_on_its_device_goes_with_what_it_has() -> None:
    def asks(x: Tensor, w: Tensor) -> bool:
        if not x.is_cuda:
            return False
        torch.cuda.synchronize()
        with torch.autocast(x.device.type, dtype=torch.float16):
            made = torch.zeros(8, device=x.device) + x.new_ones(8) + torch.arange(8, device=x.device)
        return (made + x).to(x.device).shape == x.shape

    assert analyze(Placed(asks), args=(X,), device="t4").totals.macs == 2 * LAYER


def test_a_branch_of_a_gpu_that_needs_values_is_run_with_some() -> None:
    def asks(x: Tensor, w: Tensor) -> bool:
        return x.is_cuda and bool((x >= 0).all())

    found = analyze(Placed(asks), args=(X,), device="t4")
    assert found.totals.macs == 2 * LAYER
    assert any("its code asks on which device tensors lie: traced on real tensors" in note for note in found.notes)


def absent(x: Tensor, w: Tensor) -> bool:
    if x.is_cuda:
        import a_kernel_of_nobodys  # type: ignore[import-not-found]  # of a GPU that has it

        return bool(a_kernel_of_nobodys.run(x))
    return False


@pytest.mark.parametrize("value", [False, True])
def test_a_branch_of_a_gpu_that_cannot_be_run_is_named(value: bool) -> None:
    found = analyze(Placed(lambda x, w: absent(x, w) or (value and float(x.sum()) < 0)), args=(X,), device="t4")
    assert found.totals.macs == LAYER
    assert any("and here they do not lie on it: there it may take another way" in note for note in found.notes)


@pytest.mark.parametrize("call", [lambda x: x.to(x.device), lambda x: x + torch.ones(8, device=x.device)])
def test_who_takes_the_device_along_asks_nothing(call: Callable[[Tensor], Tensor]) -> None:
    net = nn.Linear(8, 8)
    assert not any("lie" in note for note in analyze(lambda x: net(call(x)), args=(X,), device="t4").notes)


def test_tensors_are_as_they_were_after_a_pass() -> None:
    before = {name: getattr(torch.Tensor, name) for name in ("device", "is_cuda", "is_cpu", "is_meta", "get_device")}
    analyze(Placed(ASKS["type"]), args=(X,), device="t4")
    assert before == {name: getattr(torch.Tensor, name) for name in before}
    assert not vars(torch.Tensor).keys() & before.keys()
    assert not X.is_cuda


# ------------------------------------------------------------------------------------------------ written and read again


class Saved(Of):
    def forward(self, x: Tensor) -> Any:
        file = io.BytesIO()
        torch.save({"x": self.lin(x), "state": self.state_dict()}, file)
        file.seek(0)
        held = torch.load(file)
        self.load_state_dict(held["state"])
        return self.lin(held["x"])


@pytest.mark.parametrize("training", [False, True])
def test_tensors_of_a_pass_are_written_and_read_again_as_any(training: bool) -> None:
    found = analyze(Saved(), args=(X,), device="t4", training=training)
    assert sum(o.macs for o in found.ops if o.op in ("linear", "addmm")) >= 2 * LAYER
    assert not any("real tensors" in note for note in found.notes)
