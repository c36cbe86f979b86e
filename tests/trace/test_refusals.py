"""A call that torch refuses on a device is refused here: meta kernels, torch's and ours, look at less."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import roofline
from roofline.errors import ModelError
from roofline.tracing.trace import trace


def r(*shape: int) -> Tensor:
    return torch.zeros(*shape)


def z(*shape: int) -> Tensor:
    return torch.zeros(*shape, dtype=torch.long)


Q = r(1, 2, 5, 8)
IMAGE = r(1, 3, 8, 8)
ROWS = r(2, 4)
CASES: list[tuple[str, Tensor, Callable[[Tensor], Any]]] = [
    ("mean over no dimension", ROWS, lambda x: x.mean(7)),
    ("sum over one twice", ROWS, lambda x: x.sum((1, -1))),
    ("amax", ROWS, lambda x: x.amax(5)),
    ("norm", ROWS, lambda x: x.norm(dim=5)),
    ("normalize", ROWS, lambda x: F.normalize(x, dim=5)),
    ("as_strided past the end", ROWS, lambda x: x.as_strided((4, 4), (4, 1))),
    ("as_strided past its end", ROWS, lambda x: (x * 2).as_strided((2, 4), (4, 1), 1)),
    ("softmax", ROWS, lambda x: x.softmax(4)),
    ("log_softmax", ROWS, lambda x: x.log_softmax(-4)),
    ("sort", ROWS, lambda x: x.sort(4)),
    ("argsort", ROWS, lambda x: x.argsort(3)),
    ("roll", ROWS, lambda x: x.roll(1, 4)),
    ("tril of a row", r(4), lambda x: x.tril()),
    ("addmm", ROWS, lambda x: torch.addmm(r(3), x, r(4, 2))),
    ("linear's bias", ROWS, lambda x: F.linear(x, r(3, 4), r(2))),
    ("conv's bias", IMAGE, lambda x: F.conv2d(x, r(4, 3, 3, 3), r(5))),
    ("conv's groups", r(1, 4, 8, 8), lambda x: F.conv2d(x, r(3, 2, 3, 3), groups=2)),
    ("conv's padding", IMAGE, lambda x: F.conv2d(x, r(4, 3, 3, 3), padding=-1)),
    ("conv's dilation", IMAGE, lambda x: F.conv2d(x, r(4, 3, 3, 3), dilation=0)),
    ("conv's stride", IMAGE, lambda x: F.conv2d(x, r(4, 3, 3, 3), stride=0)),
    ("conv's kernel", IMAGE, lambda x: F.conv2d(x, r(4, 3, 0, 3))),
    ("channels of a transposed conv", IMAGE, lambda x: F.conv_transpose2d(x, r(5, 3, 3, 3))),
    ("output padding", IMAGE, lambda x: F.conv_transpose2d(x, r(3, 3, 3, 3), output_padding=2)),
    ("BatchNorm of other channels", IMAGE, nn.BatchNorm2d(5).eval()),
    ("BatchNorm in training", IMAGE, nn.BatchNorm2d(5)),
    ("LayerNorm of other channels", ROWS, nn.LayerNorm(5)),
    ("LayerNorm's weight", ROWS, lambda x: F.layer_norm(x, (4,), r(5))),
    ("RMSNorm", ROWS, lambda x: F.rms_norm(x, (5,))),
    ("GroupNorm", r(2, 3, 4), lambda x: F.group_norm(x, 2)),
    ("GroupNorm's weight", r(2, 4, 4), lambda x: F.group_norm(x, 2, r(3))),
    ("index_select", ROWS, lambda x: x.index_select(1, z(2, 2))),
    ("index_put", ROWS, lambda x: x.index_put((z(2),), r(3, 4))),
    ("attention's width", Q, lambda x: F.scaled_dot_product_attention(x, r(1, 2, 5, 9), x)),
    ("attention's mask", Q, lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=r(4, 4))),
    ("attention's dtypes", Q, lambda x: F.scaled_dot_product_attention(x, x.half(), x)),
    ("attention's values", Q, lambda x: F.scaled_dot_product_attention(x, x, r(1, 3, 5, 8))),
    ("dilated pool", IMAGE, lambda x: F.max_pool2d(x, 2, dilation=0)),
    ("image of no rows", IMAGE, lambda x: F.interpolate(x, size=(0, 4), mode="bilinear")),
    ("clamp to nothing", r(4), lambda x: x.clamp()),
    ("a mask of floats", r(4), lambda x: x.masked_fill(torch.ones(4), 0)),
    ("bits of floats", r(4), lambda x: x & x),
    ("relu of truths", r(4), lambda x: F.relu(x > 0)),
    ("bucketize", r(4), lambda x: torch.bucketize(x, r(2, 2))),
]


class Net(nn.Module):
    def __init__(self, call: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: Tensor) -> Any:
        return self.call(x)


@pytest.mark.parametrize(("x", "call"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_what_torch_refuses_is_refused(x: Tensor, call: Callable[[Tensor], Any]) -> None:
    with torch.inference_mode(), pytest.raises((RuntimeError, IndexError, ValueError)):
        call(x)
    with pytest.raises(ModelError):
        trace(Net(call), [x])


def test_the_words_say_what_does_not_fit_and_where() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ConvTranspose2d(6, 4, 3))
    with pytest.raises(ModelError) as error:
        roofline.analyze(net, args=[IMAGE], device="t4")
    assert "weight of size [6, 4, 3, 3], expected input [1, 8, 6, 6] to have 6 channels" in str(error.value)
    assert "1 (ConvTranspose2d)" in str(error.value)


GOOD: dict[str, tuple[Tensor, Callable[[Tensor], Any]]] = {
    "a bias for all": (ROWS, lambda x: torch.addmm(r(1), x, r(4, 2))),
    "no dimension at all": (torch.tensor(1.0), lambda x: x.sum(-1).softmax(0)),
    "one image": (r(3, 8, 8), lambda x: F.conv_transpose2d(F.conv2d(x, r(4, 3, 3, 3), r(4)), r(4, 2, 3, 3), r(2))),
    "grouped queries": (Q, lambda x: F.scaled_dot_product_attention(x, r(1, 1, 5, 8), r(1, 1, 5, 8), enable_gqa=True)),
    "a mask for all heads": (Q, lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=r(1, 1, 5, 5))),
    "rows put": (ROWS, lambda x: x.index_put((z(2),), r(4))),
    "columns put": (r(2, 3, 4), lambda x: x.clone().__setitem__((slice(None), z(2), z(2)), r(2, 2))),
    "apart": (r(2, 3, 4), lambda x: x.clone().__setitem__((z(5), slice(None), z(5)), r(5, 3))),
    "a mask put": (ROWS, lambda x: x.index_put((torch.ones(2, 4, dtype=torch.bool),), torch.tensor(1.0))),
    "norms": (r(2, 4, 3), lambda x: F.layer_norm(F.group_norm(x, 2, r(4), r(4)), (4, 3), r(4, 3))),
}


@pytest.mark.parametrize(("x", "call"), GOOD.values(), ids=GOOD)
def test_what_torch_takes_is_taken(x: Tensor, call: Callable[[Tensor], Any]) -> None:
    call(x)
    assert trace(Net(call), [x]).ops


def i(*values: int) -> Tensor:
    return torch.tensor(values)


def shifted(table: nn.Module, ids: Tensor) -> Any:
    ids -= 90
    return table(ids)


TABLE = nn.Embedding(10, 4)
OUTSIDE: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...], str]] = {
    "mask": (lambda x, m: x[m], (ROWS, torch.tensor([True, False, True])), "the mask [3] at dimension 0"),
    "embedding": (lambda ids: TABLE(ids), (i(3, 12),), "input 0 holds 12, and embedding takes 0 to 9"),
    "below": (lambda ids: TABLE(ids), (i(3, -1),), "input 0 holds -1, and embedding takes 0 to 9"),
    "index": (lambda x, a, b: x[a, b], (ROWS, i(0), i(7)), "input 2 holds 7, and index takes 0 to 3"),
    "gather": (lambda x, at: x.gather(1, at), (ROWS, i(3, 5)[None]), "input 1 holds 5, and gather takes 0 to 3"),
    "classes": (lambda x, to: F.cross_entropy(x, to), (ROWS, i(3, 4)), "input 1 holds 4, and nll_loss_forward takes 0 to 3"),
    "a class below": (lambda x, to: F.cross_entropy(x, to), (ROWS, i(-1, 3)), "holds -1, and nll_loss_forward takes 0 to 3"),
    "a class beside the ignored": (
        lambda x, to: F.cross_entropy(x, to, ignore_index=255),
        (ROWS, i(255, 4)),
        "holds 4, and nll_loss_forward takes 0 to 3",
    ),
    "a class with a margin": (lambda x, to: F.multi_margin_loss(x, to), (ROWS, i(-1, 3)), "multi_margin_loss takes 0 to 3"),
    "take": (lambda x, at: x.take(at), (ROWS, i(0, 8)), "input 1 holds 8, and take takes 0 to 7"),
    "put": (lambda x, at: x.put(at, x.new_ones(2)), (ROWS, i(-9, 7)), "input 1 holds -9, and put_ takes 0 to 7"),
    "index_reduce": (
        lambda x, at: x.index_reduce(1, at, x, "mean"),
        (ROWS, i(0, 1, 2, 4)),
        "input 1 holds 4, and index_reduce takes 0 to 3",
    ),
}
INSIDE: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...]]] = {
    "from the end": (lambda x, a: x[a], (ROWS, i(-2, 1))),
    "another dimension": (lambda x, a: x[:, a], (ROWS, i(3))),
    "ignored": (lambda x, to: F.cross_entropy(x, to), (ROWS, i(-100, 3))),
    "ignored by a number above": (lambda x, to: F.cross_entropy(x, to, ignore_index=255), (ROWS, i(255, 3))),
    "all ignored": (lambda x, to: F.nll_loss(x, to, ignore_index=-1), (ROWS, i(-1, -1))),
    "pixels ignored": (
        lambda x, to: F.cross_entropy(x, to, ignore_index=255),
        (torch.rand(1, 4, 2, 2), i(0, 255, 3, 255).reshape(1, 2, 2)),
    ),
    "the flat ends": (lambda x, at: x.take(at), (ROWS, i(-8, 7))),
    "columns of which each has a table": (lambda ids: TABLE(ids[:, 0]), (i(1, 99)[None],)),
    "shifted in place": (lambda ids: shifted(TABLE, ids), (i(95),)),
    "offsets": (lambda ids, at: F.embedding_bag(ids, TABLE.weight, at), (i(*range(10), *range(10)), i(0, 15))),
}


@pytest.mark.parametrize("kind", OUTSIDE)
def test_indices_that_are_given_lie_in_what_they_index(kind: str) -> None:
    call, args, words = OUTSIDE[kind]
    with pytest.raises(Exception, match=r"mask|index|Index|Target|bounds|out of range"):
        call(*args)
    with pytest.raises(ModelError) as refused:
        roofline.analyze(call, args=args, device="t4")
    assert words in str(refused.value)


@pytest.mark.parametrize("kind", INSIDE)
def test_indices_that_torch_takes_are_taken(kind: str) -> None:
    call, args = INSIDE[kind]
    roofline.analyze(call, args=args, device="t4")
    call(*args)


class Of(nn.Module):
    """A linear layer 8 -> 16, a table of 5 rows, and what a function does with them."""

    def __init__(self, forward: Callable[..., Any]) -> None:
        super().__init__()
        self.lin, self.table, self.call = nn.Linear(8, 16), nn.Embedding(5, 8), forward

    def forward(self, x: Tensor) -> Any:
        return self.call(self, x)


POSITIONS = {
    "counted": lambda m, x: m.lin(m.table(torch.arange(6))),
    "counted on the device": lambda m, x: m.lin(m.table(torch.arange(x.shape[0] * 3, device=x.device))),
    "counted from 1": lambda m, x: m.lin(m.table(torch.arange(1, 6))),
    "moved": lambda m, x: m.lin(m.table(torch.arange(5) + 2)),
    "copied": lambda m, x: m.lin(m.table(torch.full((4,), 5).to(torch.int32).repeat(2))),
    "one for all rows": lambda m, x: m.lin(m.table(torch.arange(6).expand(3, 6))),
    "by hand": lambda m, x: m.lin(m.table(torch.tensor([0, 5]))),
    "from the end": lambda m, x: m.lin(m.table(torch.tensor([-1]))),
    "gather": lambda m, x: m.lin(x.gather(1, torch.full((2, 8), 9))),
    "select": lambda m, x: m.lin(x.index_select(0, torch.tensor([2]))),
    "brackets": lambda m, x: m.lin(x[torch.tensor([-3])]),
    "a class": lambda m, x: torch.nn.functional.cross_entropy(m.lin(x), torch.tensor([0, 16])),
    "take": lambda m, x: m.lin(x.take(torch.full((2, 8), 16))),
    "put": lambda m, x: m.lin(x.put(torch.tensor([16]), torch.ones(1))),
    "a list": lambda m, x: m.lin(x)[:, [16]],
    "a list of rows": lambda m, x: m.lin(x[[0, -3]]),
    "lists side by side": lambda m, x: m.lin(x)[[0, 1], [3, 16]],
    "a list in a tuple": lambda m, x: m.lin(x)[..., (0, 16)],
    "a list of tensors": lambda m, x: m.lin(x)[:, [torch.tensor(16)]],
    "a range": lambda m, x: m.lin(x)[:, range(17)],
    "an array": lambda m, x: m.lin(x)[:, np.array([[3], [16]])],
    "written by a list": lambda m, x: written(m.lin(x), [2]),
    "made where the tensor is": lambda m, x: m.lin(x)[:, torch.tensor([16], device=x.device)],
    "... of a class": lambda m, x: F.cross_entropy(m.lin(x), torch.tensor([0, 16], device=x.device)),
    "... in a table": lambda m, x: m.table(torch.as_tensor([5], device=x.device)),
    "... by the tensor": lambda m, x: m.lin(x).index_select(1, x.new_tensor([16], dtype=torch.long)),
    "moved to where it is": lambda m, x: m.lin(x).gather(1, torch.tensor([[16]]).to(x.device)),
    "several classes": lambda m, x: F.multilabel_margin_loss(m.lin(x), torch.full((2, 16), 16)),
    "unpooled": lambda m, x: F.max_unpool1d(m.lin(x)[None], torch.full((1, 2, 16), 32), 2),
}


def written(x: Tensor, rows: list[int]) -> Tensor:
    x[rows] = 0.0
    return x


@pytest.mark.parametrize("name", POSITIONS)
def test_indices_that_a_model_makes_itself_lie_in_what_they_index(name: str) -> None:
    """Torch refuses each of them on a CPU, and metadata do not show it."""
    forward = Of(POSITIONS[name])
    with pytest.raises((IndexError, RuntimeError), match=r"out of (range|bounds|DATA bounds)|invalid max index"):
        forward(torch.rand(2, 8))
    with pytest.raises(ModelError, match=r"fails on a device, in .*it makes the index -?\d+, and \w+ takes 0 to \d+$"):
        roofline.analyze(forward, inputs=("2,8",), device="t4", cache=False)


def test_indices_of_a_model_in_range_are_left_alone() -> None:
    """The last row, from the end where brackets allow it, a part of what would be too many, and what the model has changed."""

    def forward(m: Any, x: Tensor) -> Any:
        many = torch.arange(9)
        changed = torch.tensor([7])
        changed.remainder_(5)
        seen = m.table(torch.arange(5)).sum() + m.table(many[:5]).sum() + m.table(changed).sum()
        ends = x.gather(1, torch.full((2, 1), 7)).sum() + x.take(torch.tensor([-16, 15])).sum()
        left_out = F.cross_entropy(x, torch.tensor([0, 255]), ignore_index=255)
        ends += x[[-2, 1], [7, -8]].sum() + x[..., range(8)].sum() + x[:, np.arange(8)].sum() + x[[]].sum()
        ends += x[:, torch.tensor([7, -8], device=x.device)].sum() + x[torch.tensor([True, False], device=x.device)].sum()
        ends += F.multilabel_margin_loss(x, torch.tensor([[7, -1] * 4] * 2))
        ends += F.max_unpool1d(x[None], torch.full((1, 2, 8), 15), 2).sum()
        return m.lin(x[torch.tensor([-2])]) + seen + ends + left_out

    module = Of(forward)
    module(torch.rand(2, 8))
    assert roofline.analyze(module, inputs=("2,8",), device="t4", cache=False).totals.macs == 8 * 16


def test_a_look_at_lists_changes_nothing_that_is_counted() -> None:
    """The pass that looks at them is another one than the one that is counted, and leaves torch as it was."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin, self.calls = nn.Linear(8, 16), 0

        def forward(self, x: Tensor, columns: Any) -> Tensor:
            self.calls += 1
            return self.lin(x)[:, columns] + self.calls

    net, x = Net(), torch.rand(5, 8)
    by_list, by_tensor = (
        roofline.analyze(net, args=(x, columns), device="t4", cache=False) for columns in ([3, -16], torch.tensor([3, -16]))
    )
    assert [k.op for k in by_list.kernels] == [k.op for k in by_tensor.kernels]
    assert by_list.totals.macs == by_tensor.totals.macs == 5 * 8 * 16
    assert net.calls == 0
    assert "__getitem__" not in vars(torch.Tensor)
    with pytest.raises(ModelError, match=r"too many indices|expected sequence|could not be broadcast"):
        roofline.analyze(lambda x: net.lin(x[[0], [1], [2]]), args=(x,), device="t4", cache=False)


def test_a_buffer_of_positions_past_the_table_is_found() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(5, 8)
            self.register_buffer("positions", torch.arange(6))

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = x + self.table(self.positions)
            return found

    with pytest.raises(ModelError, match=r"in table \(Embedding\): it makes the index 5, and embedding takes 0 to 4"):
        roofline.analyze(Net(), args=(torch.rand(6, 8),), device="t4")
