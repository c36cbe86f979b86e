"""Why a model is as fast as it is: sentences with their numbers, and where each number comes from.

Every number names the run and the sum that it is, so that anybody can compute it again from that run's analysis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from msgspec import Struct, field

from roofline.records.analysis import Shown


class Term(Struct, frozen=True, omit_defaults=True):
    """One number of one analysis: a path into it, or a sum over the rows of one of its lists.

    `run` is a key of `Explanation.runs`. `what` is "totals.time_s", or "kernels.time_s": the sum over the kernels that `where`
    keeps, {"class": "conv"} or {"layer": "features.3"} (with all inside; several names with | between). "kernels" alone counts
    them; "levels.DRAM.bandwidth" is that of the level by name.
    """

    run: str
    what: str
    where: dict[str, str] = {}


class Number(Struct, frozen=True, omit_defaults=True):
    """A number of a sentence: over * by / under, of those that are there. `text` is how the sentence has it."""

    value: float
    # "s", "B", "MiB" (bytes, with a binary prefix),
    # "FLOP", "FLOP/s", "B/s", "FLOP/B", "count", "times", "share", "samples/s", "tokens/s"
    unit: str
    text: str
    over: Term
    under: Term | None = None
    by: Term | None = None


class Check(Struct, frozen=True):
    """A condition that the sentence rests on, and that holds: `number` is at least (or below) `limit`."""

    number: Number
    # ">=" or "<"
    relation: str
    limit: float


class Evidence(Struct, frozen=True, omit_defaults=True):
    """Where to look: the kernels of a run under a condition."""

    run: str
    where: dict[str, str] = {}


class Sentence(Struct, frozen=True, omit_defaults=True):
    """`text` with every number filled in. It is printed only where all of `when` hold."""

    text: str
    numbers: dict[str, Number] = {}
    when: tuple[Check, ...] = ()
    evidence: tuple[Evidence, ...] = ()


class Part(Struct, frozen=True, omit_defaults=True):
    """A row of a table of parts that add up to the whole: its name, its share of the FLOPs, and its time on each device."""

    name: str
    flops: Number
    # device -> seconds, and the share of the whole
    times: dict[str, Number]
    shares: dict[str, Number]


class Saving(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Something to do, found by analysing again."""

    # "compile it"
    name: str
    # a short name: "compile", "amp", "batch", "graphs"
    what: str
    # "a line of code: torch.compile(model)"
    effort: str
    # keys of `Explanation.runs`: as it is, and with that done
    base: str
    run: str
    # "sample", or "token" of a language model
    each: str
    # seconds for each of them, before and after, and the first over the second
    before: Number
    after: Number
    times: Number
    # what else it changes, where it does ("a pass then takes 12 ms instead of 2.8 ms"), and the numbers of that
    note: str = ""
    numbers: dict[str, Number] = {}


class Run(Struct, frozen=True, omit_defaults=True):
    """An analysis that numbers rest on: how to ask for it again, and its head."""

    # options of `roofline.analyze` by name, apart from the model
    options: dict[str, Any]
    title: str
    time_s: float
    samples: int


class Explanation(Shown, frozen=True, kw_only=True):
    """The answer of `roofline explain`."""

    SCHEMA: ClassVar[int] = 1
    VIEWS: ClassVar[dict[str, Callable[[Any], str]]] = {}

    schema: int = 1
    model: str
    # devices in the order asked for: name -> title
    devices: dict[str, str]
    runs: dict[str, Run]
    takes: list[Sentence]
    # parts by class of kernel, and by region of the model; each adds up to the whole
    classes: list[Part]
    regions: list[Part]
    why: list[Sentence]
    # by device: what would help, most first; and all that goes together
    savings: dict[str, list[Saving]]
    together: dict[str, Saving]
    # what was tried and would save less than the model can resolve, by device
    small: dict[str, list[str]]
    batches: list[Sentence]
    unknown: list[str]
    notes: list[str] = field(default_factory=list)
    # what was tried and would take longer, by device
    slower: dict[str, list[str]] = field(default_factory=dict)
    # the numbers of both, most first; `note` is why, where parts of the time change much
    others: dict[str, list[Saving]] = field(default_factory=dict)
    # words of this explanation that a newcomer may not know, and what they mean
    words: dict[str, str] = field(default_factory=dict)
