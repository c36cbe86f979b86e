"""Models that ask for values: answered from the values that are there, traced as tracers do, and run for real where nothing
else is left. Every number is counted by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import roofline
from roofline.errors import ModelError
from roofline.records import Analysis


class Of(nn.Module):
    """A linear layer 8 -> 16 and what a function does with it."""

    def __init__(self, forward: Callable[..., Any]) -> None:
        super().__init__()
        self.lin, self.call = nn.Linear(8, 16), forward

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.call(self.lin, *args, **kwargs)


class Lengths(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(8, 16, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0]


def analyze(module: nn.Module, *args: Any, inputs: tuple[str, ...] = (), **kwargs: Any) -> Analysis:
    return roofline.analyze(module, device="t4", cache=False, inputs=inputs, args=args or None, kwargs=kwargs or None)


X = torch.zeros(4, 5, 8)
STEP = 8 * 16  # MACs of a row


@pytest.mark.parametrize(
    ("forward", "args", "rows"),
    [
        (lambda lin, x, n: lin(x[:, : n.max()]), (X, torch.tensor([3, 1, 2, 2])), 4 * 3),
        (lambda lin, x, n: [lin(row[:k]) for row, k in zip(x, n.tolist(), strict=True)], (X, torch.tensor([3, 1, 2, 2])), 8),
        (lambda lin, x, m: lin(x[m]), (X, torch.eye(5, dtype=torch.bool)[:4]), 4),
        (lambda lin, x, m: lin(torch.masked_select(x, m[..., None]).view(-1, 8)), (X, torch.eye(5, dtype=torch.bool)[:4]), 4),
        (lambda lin, x, m: lin(x) if m.any() else x, (X, torch.zeros(4, dtype=torch.bool)), 0),
        (lambda lin, x, n: lin(torch.repeat_interleave(x[:, 0], n, 0)), (X, torch.tensor([3, 0, 1, 1])), 5),
        (lambda lin, x, n: lin(x)[: int(n)], (X, torch.tensor(2)), 20),
        (lambda lin, x, i: lin(x[0, i.unique()]), (X, torch.tensor([1, 1, 3])), 2),
        (lambda lin, x, m: lin(x[(m * torch.ones_like(m)).nonzero(as_tuple=True)]), (X, torch.eye(5).long()[:4]), 4),
        (lambda lin, x, n: lin(x[torch.arange(5, device=x.device)[None] < n[:, None]]), (X, torch.tensor([3, 1, 2, 2])), 8),
        (lambda lin, x, n: lin(x[:, : torch.tensor([1, 4], device=x.device)[n]]), (X, torch.tensor(1)), 16),
        (lambda lin, x, n: lin(torch.cat(x.flatten(0, 1)[:8].split(n.cpu().tolist())[1:])), (X, torch.tensor([3, 5])), 5),
    ],
)
def test_questions_about_given_values_are_answered_from_them(forward: Any, args: tuple[Any, ...], rows: int) -> None:
    """On meta, by the values of the small integers and truths alone: no note says that anything ran."""
    found = analyze(Of(forward), *args)
    assert found.totals.macs == rows * STEP
    assert not any("real tensors" in note for note in found.notes)


@pytest.mark.parametrize("lengths", [[5, 3, 2, 1], [1, 2, 5, 3]])
def test_packed_sequences_count_the_steps_there_are(lengths: list[int]) -> None:
    """4 * 16 * (8 + 16) MACs for each step of each row, 11 of them."""
    for found in (
        analyze(Lengths(), X, torch.tensor(lengths)),
        analyze(Lengths(), inputs=("x=4,5,8", f"lengths={lengths}")),
    ):
        assert found.totals.macs == 11 * 4 * 16 * (8 + 16)


def test_a_packed_sequence_is_an_argument() -> None:
    packed = pack_padded_sequence(X, torch.tensor([5, 3, 2, 1]), batch_first=True)
    found = analyze(nn.LSTM(8, 16, batch_first=True), packed)
    assert found.totals.macs == 11 * 4 * 16 * (8 + 16)
    assert isinstance(packed, PackedSequence)
    assert not packed.data.is_meta


def on_a_stream() -> None:
    if not torch.cuda.is_available():  # elsewhere it is torch's own
        event = torch.cuda.Event(enable_timing=True)
        with torch.cuda.stream(torch.cuda.Stream()):
            event.record(torch.cuda.current_stream())
        torch.cuda.current_stream().wait_event(event)
        assert event.elapsed_time(event) == 0


ON_A_GPU = {
    "a number": lambda lin, x: lin.to(0)(x.to(0)),
    "made on a number": lambda lin, x: lin(x + torch.zeros(8, device=0)),
    "pinned": lambda lin, x: lin(x + torch.zeros(8, pin_memory=True)),
    "within a device": lambda lin, x: within(torch.cuda.device(0), lin, x),
    "within its own": lambda lin, x: within(torch.cuda.device(x.device), lin, x),
    "within an index": lambda lin, x: within(torch.accelerator.device_index(0), lin, x),
    "waited for": lambda lin, x: (torch.accelerator.synchronize(), lin(x))[1],
    "a stream": lambda lin, x: (torch.accelerator.current_stream().synchronize(), lin(x))[1],
    "its index": lambda lin, x: lin(x + torch.accelerator.current_device_index()),
    "started": lambda lin, x: (torch.cuda.init(), torch.cuda.ipc_collect(), lin(x))[2],
    "no graph": lambda lin, x: x if torch.cuda.is_current_stream_capturing() else lin(x),
    "its memory in words": lambda lin, x: (torch.cuda.memory_summary().splitlines(), lin(x))[1],
    "another maker": lambda lin, x: (torch.xpu.synchronize(), lin(x))[1],
}


def within(device: Any, lin: nn.Module, x: Tensor) -> Any:
    with device:
        return lin(x)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("what", ON_A_GPU)
def test_what_code_for_one_gpu_asks_of_it_on_its_way(what: str) -> None:
    """Nothing of it changes what the model computes; torch refuses each here, but for those that an idle torch answers."""
    before = torch.cuda.device, torch.accelerator.synchronize
    assert analyze(Of(ON_A_GPU[what]), torch.zeros(3, 8)).totals.macs == 3 * STEP
    assert (torch.cuda.device, torch.accelerator.synchronize) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_what_only_a_device_knows_is_asked_of_none() -> None:
    with pytest.raises(ModelError, match="the uuid of a GPU that is not here is not known; what is: name, total_memory, "):
        analyze(Of(lambda lin, x: lin(x) if torch.cuda.get_device_properties(0).uuid else x), torch.zeros(3, 8))
    asks = Of(lambda lin, x: lin(x) if torch.cuda.get_device_properties(0).major > 7 else x)
    with pytest.raises(ModelError, match="it asks for a CUDA device, and there is none here"):
        roofline.analyze(asks, args=(torch.zeros(3, 8),), device="i7-12700h")


@pytest.mark.parametrize(
    "forward",
    [
        lambda lin, x: (lin(x), f"{x.mean():.2f}")[0],
        lambda lin, x: lin(torch.from_numpy(x.numpy().copy())),
        lambda lin, x: lin(x) if float(x.sum()) >= 0 else x,
        lambda lin, x: lin(torch.tensor(x.tolist())),
        lambda lin, x: lin(x.cpu()),
        lambda lin, x: lin(x.to("cuda")),
        lambda lin, x: lin(x + torch.zeros(8, device="cuda:0")) + torch.ones(16).cuda(),
        lambda lin, x: (torch.cuda.current_device() if not torch.cuda.is_available() else 0, lin(x.cuda()))[1],
        lambda lin, x: (on_a_stream(), lin(x.cuda()))[1],
    ],
)
def test_questions_about_what_is_computed_are_answered_by_a_run(forward: Any) -> None:
    assert analyze(Of(forward), inputs=("3,8",)).totals.macs == 3 * STEP
    assert analyze(Of(forward), torch.zeros(3, 8)).totals.macs == 3 * STEP


def test_a_swallowed_question_is_asked_again_with_values() -> None:
    def forward(lin: nn.Module, x: Tensor) -> Any:
        try:
            positive = float(x.abs().sum()) >= 0
        except RuntimeError:
            positive = False
        return lin(x) if positive else x

    found = analyze(Of(forward), inputs=("3,8",))
    assert found.totals.macs == 3 * STEP
    assert any("traced on real tensors" in note for note in found.notes)


def test_a_tracer_is_answered_as_tracers_are() -> None:
    """A library skips a look at values where it is being traced: then nothing needs to run."""

    def forward(lin: nn.Module, x: Tensor) -> Any:
        if not torch.compiler.is_compiling() and torch.isinf(x).any():
            x = x.clamp(-1, 1)
        return lin(x)

    found = analyze(Of(forward), inputs=("3,8",))
    assert found.totals.macs == 3 * STEP
    assert any("as torch.compile and torch.export do" in note for note in found.notes)
    assert not torch.compiler.is_compiling()


class Graph(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin, self.table = nn.Linear(8, 16), nn.Embedding(50, 8)

    def forward(self, x: Tensor, ids: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
        if float(self.table(ids).sum()) > 1e30:
            return x
        kept = x[:, : int(lengths.max())][:, : len(ids.unique())]
        return self.lin(kept) * mask[:, None, None]


def test_inputs_without_values_are_drawn_in_range_and_named() -> None:
    """Ids below the 50 rows of the table, not all alike; a mask of ones; lengths as long as the rows."""
    found = analyze(Graph(), inputs=("x=4,5,8", "ids=200:int64", "mask=4:int64", "lengths=4:int64"))
    assert found.totals.macs == 4 * 5 * STEP
    (note,) = (n for n in found.notes if n.startswith("integer inputs without values"))
    assert "ids drawn from 0 to 49, mask 1 everywhere, lengths 5 everywhere (seed 0)" in note


def test_real_runs_are_seeded_and_leave_the_generators_alone() -> None:
    def forward(lin: nn.Module, x: Tensor) -> Any:
        rows = int(torch.rand(()) * 1000) + 1
        return lin(x.expand(rows, 8)) if float(x.sum()) >= 0 else x

    module = Of(forward)
    before = torch.get_rng_state()
    macs = {analyze(module, inputs=("1,8",)).totals.macs for _ in range(3)}
    assert len(macs) == 1
    assert torch.equal(before, torch.get_rng_state())


def test_a_failure_of_the_model_keeps_its_words() -> None:
    with pytest.raises(ModelError, match=r"with input shapes \[2x3\]: RuntimeError: (addmm: )?mat1 and mat2"):
        analyze(nn.Linear(8, 16), inputs=("2,3",))
    with pytest.raises(ModelError, match=r"Net|Of with input shapes \[2x8\]: KeyError: scale"):
        analyze(Of(lambda lin, x, **more: more["scale"]), inputs=("2,8",))


def test_values_are_not_lost_in_silence() -> None:
    """Where a float takes the place of an integer that somebody asks for later, the model runs for real."""

    def forward(lin: nn.Module, x: Tensor, n: Tensor) -> Any:
        n[0] = x.sum().long() + 2
        return lin(x[: int(n[0])])

    given = torch.tensor([1, 1])
    assert analyze(Of(forward), torch.zeros(3, 8), given).totals.macs == 2 * STEP
    assert given.tolist() == [1, 1]


def test_half_precision_runs_where_a_cpu_has_no_kernels_for_it() -> None:
    """torchvision's suppression of boxes has none for halves; convolutions would take minutes."""
    torchvision = pytest.importorskip("torchvision")

    def forward(lin: nn.Module, boxes: Tensor) -> Any:
        kept = torchvision.ops.nms(boxes, boxes[:, 0], 0.5)
        return lin(boxes.repeat(1, 2)[kept[:1]])

    for dtype in ("fp16", "amp"):
        found = roofline.analyze(Of(forward), device="t4", dtype=dtype, inputs=["6,4"], cache=False)
        assert found.totals.macs == STEP
