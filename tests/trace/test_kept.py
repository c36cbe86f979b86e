"""A model built once for several passes: where it may be, what goes with it, and rows that are those of models built anew."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import nn

from roofline.isolation import modules, network, watching
from roofline.request import Ask
from roofline.sources import build
from roofline.sources.alone import alone
from roofline.sources.kept import Kept
from roofline.sources.source import Kind, Source
from roofline.sweeps import grid, run
from roofline.sweeps.formats import FORMATS
from roofline.sweeps.pool import Limits


class Packaged(Kind):
    """A kind whose models a function makes, which is counted."""

    name = "of a test"

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make, self.made = make, 0

    def load(self, source: Source) -> Callable[..., Any]:
        def count(**args: Any) -> Any:
            self.made += 1
            return self.make(**args)

        return count


class Own(Packaged):
    code = "person"


def net(width: int = 4) -> nn.Module:
    return nn.Linear(4, width)


def source(kind: Kind, batch: int = 1, resolution: int | None = None, **args: Any) -> Source:
    return Source(
        name="net", kind=kind, where="net", args=args, inputs=(), asked=Ask("net", batch=batch, resolution=resolution)
    )


def passes(sources: list[Source], kept: Kept) -> list[nn.Module]:
    found = []
    for one in sources:
        with alone(one):
            found.append(kept.built(one)[1])
    return found


def test_the_next_batch_has_the_module_of_the_first() -> None:
    kind = Packaged(net)
    first, second = passes([source(kind, 1), source(kind, 8)], Kept())
    assert first is second
    assert kind.made == 1


@pytest.mark.parametrize(
    "others", [{"resolution": 64}, {"width": 8}], ids=["a size that it may be built for", "an argument of its own"]
)
def test_what_its_building_depends_on_makes_another(others: dict[str, int]) -> None:
    kind = Packaged(net)
    passes([source(kind), source(kind, **others)], Kept())  # type: ignore[arg-type]  # by name
    assert kind.made == 2


def changes_torch() -> nn.Module:
    torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark
    return net()


def replaces_a_layer() -> nn.Module:
    nn.Linear.extra_repr = lambda self: "another"  # type: ignore[method-assign]  # on purpose: a building that leaves something
    return net()


@pytest.mark.parametrize("make", [changes_torch, replaces_a_layer])
def test_a_building_that_changes_the_process_is_done_for_each(make: Callable[..., Any]) -> None:
    kind = Packaged(make)
    passes([source(kind, 1), source(kind, 8)], Kept())
    assert kind.made == 2


def test_a_persons_own_code_builds_each_of_its_models() -> None:
    kind = Own(net)
    passes([source(kind, 1), source(kind, 8)], Kept())
    assert kind.made == 2


def test_a_pass_that_failed_or_ran_for_real_is_the_last_of_a_module() -> None:
    kind, kept = Packaged(net), Kept()
    with alone(source(kind)):
        builder, _ = kept.built(source(kind))
        kept.real(builder)()
    passes([source(kind, 8)], kept)
    assert kind.made == 3


def test_chance_goes_on_from_where_the_building_left_it() -> None:
    def drawn() -> nn.Module:
        random.random(), numpy.random.rand(), torch.rand(1)
        return net()

    kind, kept, found = Packaged(drawn), Kept(), []
    for batch in (1, 8):
        with alone(source(kind, batch)):
            kept.built(source(kind, batch))
            found.append((random.random(), numpy.random.rand(), torch.rand(1).item()))
    assert kind.made == 1
    assert found[0] == found[1]


def test_what_the_building_asked_for_is_noted_for_every_pass(tmp_path: Path) -> None:
    table = tmp_path / "table.txt"
    table.write_text("4")

    def reads() -> nn.Module:
        os.environ.get("ROOFLINE_TEST_WIDTH")
        network._state.asked.append("example.org")
        modules._current[-1].names["not_there"] = None
        return net(int(table.read_text()))

    kind, kept = Packaged(reads), Kept()
    for batch in (1, 8):
        one = source(kind, batch)
        with alone(one) as at_work, watching.watched() as seen:
            at_work.seen = seen
            kept.built(one)
            assert str(table) in seen.opened
            assert network.asked() == "example.org"
            assert "not_there" in at_work.loaded.names
    assert kind.made == 1


OPTIONS = {"inference": {"batch": [1, 3], "dtype": ["amp", "fp32"]}, "training": {"batch": [1, 3], "training": True}}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_rows_are_those_of_models_built_anew(options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    build_it = build.Builder.__call__

    def counted(self: build.Builder, real: bool = False) -> nn.Module:
        made.append(self.source.name)
        return build_it(self, real)

    monkeypatch.setattr(build.Builder, "__call__", counted)
    written = []
    for again in (False, True):
        if again:
            monkeypatch.setattr(Kept, "built", lambda self, found: build.made(found))
        asked = grid.made(["mobilenet_v1"], ["t4", "rtx-4090"], options)
        path = tmp_path / f"{again}.jsonl"
        # no cache: it would answer for the second
        run.sweep(asked, path, run.here(asked, 0, Limits()), cache=False)
        written.append((path.read_bytes(), len(made)))
        made.clear()
    (once, few), (anew, many) = written
    assert once == anew
    assert {row.status for row in FORMATS[".jsonl"].rows(tmp_path / "True.jsonl")} == {"ok"}
    assert few == 1 < many
