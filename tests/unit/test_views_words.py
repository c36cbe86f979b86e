"""The sentences above an analysis, the shared style, and the sample that the other tests of the views lean on."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from sample import CPU, GPU, sample

from roofline import units
from roofline.advice import brief
from roofline.advice.brief import said
from roofline.advice.terms import Book
from roofline.analysis.explain import compare, label, rate, totals
from roofline.analysis.reasons import of_peak, waiting
from roofline.records import BOUNDS
from roofline.units import percent
from roofline.views.style import CLASSES, class_style, fullest, roof_title, roofs


@pytest.mark.parametrize("kind", ["gpu", "cpu"])
def test_sample_adds_up(kind: str) -> None:
    a = sample(kind)
    assert a.totals.flops == sum(k.flops for k in a.kernels) == sum(o.flops for o in a.ops) == a.layers[0].flops
    assert sum(a.totals.time_by_bound.values()) == pytest.approx(a.totals.time_s)
    # the stem: 32 filters of 3 x 3 x 3 at 112 x 112
    assert a.kernels[0].macs == 32 * 27 * 112 * 112


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 5, "0 %"),
        (1, 0, "0 %"),
        (1, 1, "100 %"),
        (1, 3, "33 %"),
        (0.021, 1, "2.1 %"),
        (0.0004, 1, "<0.1 %"),
        (0.9999, 1, "99.9 %"),
        (0.996, 1, "99.6 %"),
        (0.0996, 1, "10 %"),
        (0.994, 1, "99 %"),
        (0.3, 0.30000000000000071, "100 %"),
    ],
)
def test_percent(part: float, whole: float, text: str) -> None:
    assert percent(part, whole) == text


def test_percent_has_one_spelling() -> None:
    """A space before the sign, as in every sentence: `12 %`; a format ending in a bare percent sign writes it without."""
    assert (units.share(0.123), units.share(0.0123, 1), units.change(-0.052)) == ("12 %", "1.2 %", "-5.2 %")
    package = Path(units.__file__).parent
    bare = [
        str(path.relative_to(package)) for path in package.rglob("*.py") if re.search(r":[^{}\s]*%\}", path.read_text("utf-8"))
    ]
    assert bare == []


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.5 samples/s"), (493.4, "493 samples/s"), (9442.1, "9,442 samples/s"), (2.5e6, "2.5 M samples/s")],
)
def test_rate(value: float, text: str) -> None:
    assert rate(value) == text


@pytest.mark.parametrize(
    ("launch", "drain", "text"),
    [
        (1e-6, 2e-6, "filling and emptying the GPU for the 84 kernels takes 168 us and starting them 84 us"),
        (2e-6, 1e-6, "starting the 84 kernels takes 168 us and filling and emptying the GPU for them 84 us"),
    ],
)
def test_what_a_gpu_spends_beside_work_names_the_kernels_first(launch: float, drain: float, text: str) -> None:
    a = sample("gpu")
    parts = {"launch": launch, "drain": drain}
    a = msgspec.structs.replace(
        a,
        kernels=[msgspec.structs.replace(k, time_by_component=parts) for k in a.kernels],
        totals=msgspec.structs.replace(a.totals, time_by_component={name: 84 * each for name, each in parts.items()}),
    )
    assert waiting(a) == text


def test_batch_one_on_a_gpu_is_overhead() -> None:
    """What it takes, where it goes, why, and what to try: 84 kernels of 6 us each, the host's, are 504 us."""
    needs, takes, kinds, parts, why, tried = said(sample("gpu"))
    assert needs.startswith("mobilenet_v1 needs 1.166 GFLOP for one pass over 1 sample (571 M multiply-accumulates")
    assert "RTX 3090 (rtx-3090) one pass should take about 504 us" in takes
    assert kinds.startswith("Normalisations take 32 % of the time for 0.9 % of the FLOPs")
    assert parts == "Of the parts of the model, most of the time goes into the 13 SeparableBlock of features (93 %)."
    assert why.startswith("On rtx-3090 the host sets the pace for 100 % of the time: Python and PyTorch issue 84 kernels")
    assert tried == (
        "To try: compile it, compile it into CUDA graphs or run more samples at a time; roofline explain says what each brings "
        "or costs."
    )


def test_large_batch_on_a_gpu_is_memory() -> None:
    text = " ".join(said(sample("gpu", batch=256)))
    assert "On rtx-3090 moving bytes (DRAM) takes 66 % of the time, most of it in normalisations" in text
    assert text.index("moving bytes") < text.index("arithmetic takes 24 % of the time")
    assert "To try: compile it; roofline explain" in text


def test_kinds_of_kernel_are_told_at_what_share_of_which_roof() -> None:
    found = said(sample("cpu"))
    convs = [k for k in sample("cpu").kernels if k.klass == "conv"]
    flops, took = sum(k.flops for k in convs), sum(k.time_s for k in convs)
    (kinds,) = [s for s in found if s.startswith("Convolutions take")]
    assert kinds.startswith(f"Convolutions take {1e3 * took:.2f} ms, at {100 * flops / took / 1.43e12:.0f} % of the fp32 peak")
    assert " or " not in kinds


def test_numbers_are_those_of_the_analysis_and_names_are_only_names() -> None:
    """Every number of the two sentences that are only here, from the rows; a name with braces is no place for a number."""
    a = sample("gpu", batch=64)
    rows = [msgspec.structs.replace(r, type="{x}") if r.path == "classifier" else r for r in a.layers]
    book = Book()
    book.runs["rtx-3090"] = a = msgspec.structs.replace(a, layers=rows)
    for s in [*brief.kinds(book, "rtx-3090"), *brief.parts(book, "rtx-3090")]:
        assert s.numbers
        for number in s.numbers.values():
            where = number.over.where
            inside = tuple(f"{name}." for name in where.get("layer", "none").split("|"))
            kept = [k for k in a.kernels if k.klass == where.get("class") or f"{k.layer}.".startswith(inside)]
            whole = a.totals.time_s if number.under else 1.0
            assert number.value == pytest.approx(sum(k.time_s for k in kept) / whole)
            assert number.text in s.text
    only = [r for r in rows if r.path in ("", "classifier")]
    kernels = [k for k in a.kernels if k.layer == "classifier"]
    totals = msgspec.structs.replace(a.totals, time_s=sum(k.time_s for k in kernels))
    alone = msgspec.structs.replace(a, layers=only, kernels=kernels, totals=totals)
    assert any("classifier {x}" in text for text in said(alone)), said(alone)


@pytest.mark.parametrize("kind", ["gpu", "cpu"])
@pytest.mark.parametrize("batch", [1, 256])
def test_a_document_from_before_there_were_components_has_its_sentences(kind: str, batch: int) -> None:
    a = sample(kind, batch=batch)  # type: ignore[arg-type]  # one of the two kinds
    old = msgspec.structs.replace(
        a,
        totals=msgspec.structs.replace(a.totals, time_by_component={}, waiting_s=0.0),
        kernels=[msgspec.structs.replace(k, time_by_component={}) for k in a.kernels],
    )
    found = said(old)
    assert any(re.fullmatch(r"(Overhead|Memory|Compute) takes \d+ % of the time( and .*)?\.", s) for s in found), found


def test_unknown_ops_are_said() -> None:
    assert said(sample(unknown=True))[-1] == ("FLOPs are a lower bound: no rule knows mylib.warp x1. Their bytes are counted.")
    assert not any("lower bound" in s for s in said(sample()))


def test_no_kernels() -> None:
    a = sample()
    bare = msgspec.structs.replace(a, kernels=[], totals=msgspec.structs.replace(a.totals, kernels=0, time_s=0.0))
    assert said(bare) == ["mobilenet_v1 launches no kernel in this setting, so there is nothing to predict."]


def test_totals_name_both_counts() -> None:
    figures = {name: value for name, value, _ in totals(sample())}
    assert figures["FLOPs"] == "1.166 GFLOP"
    assert figures["MACs"] == "570.5 M"
    assert figures["Kernels"] == "84"


def test_comparison_is_per_sample() -> None:
    # 256 samples in 27.1 ms are 106 us each; 504 us for one is 4.8 times that
    a, b = sample(), sample(batch=256)
    assert compare([a, b]) == "Per sample, batch 256 is the fastest (106 us); batch 1 takes 4.8 times as long."
    assert compare([a]) == ""
    assert label(a, [a, sample("cpu")]) == "NVIDIA GeForce RTX 3090 · fp16 · datasheet ceilings"


def test_labels_of_equals_are_whole() -> None:
    a = sample()
    assert label(a, [a, a]) == "mobilenet_v1 on NVIDIA GeForce RTX 3090"


def test_classes_have_distinct_looks() -> None:
    assert len({(c.colour, c.marker) for c in CLASSES.values()}) == len(CLASSES)
    assert {k.klass for k in sample().kernels} <= set(CLASSES)
    assert class_style("new_kind").title == "new kind"


def test_bounds_in_a_fixed_order() -> None:
    assert fullest({"memory": 1.0, "overhead": 0.0, "compute": 2.0}) == [("compute", 2.0), ("memory", 1.0)]
    assert BOUNDS == ("compute", "instructions", "memory", "overhead")


def test_roofs() -> None:
    # 142 TFLOP/s needs fp16 sums, which PyTorch does not use; no kernel is fp32 or bf16
    half = [("fp16 matrix units", 71e12), ("fp16 vector units", 35.58e12)]
    assert roofs(GPU.peaks, "fp16", {"float16"}, GPU.peak_flops) == half
    assert roofs(GPU.peaks, "bf16", {"bfloat16"}, GPU.peak_flops) == [("bf16 matrix units", 71e12)]
    assert roofs(GPU.peaks, "fp16", {"float16"}, 142e12)[0] == ("fp16 matrix units (fp16 sums)", 142e12)
    assert roofs(CPU.peaks, "fp32", {"float32"}, CPU.peak_flops) == [("fp32 vector units", 1.43e12)]
    # a peak that no key explains still has its line
    assert roofs({"vector fp64": 1e9}, "int8", {"int8"}, 5e12) == [("int8 peak", 5e12)]
    assert roof_title("tensor int8/int32") == "int8 matrix units"


@pytest.mark.parametrize(
    ("klass", "why"),
    [
        ("conv", "Winograd's algorithm executes 50 % of its FLOPs"),
        ("attention", "50 % of the FLOPs are executed: what a mask hides is left out"),
    ],
)
def test_why_fewer_flops_are_executed_than_count(klass: str, why: str) -> None:
    a = sample("gpu")
    rows = [msgspec.structs.replace(k, klass=klass, executed=0.5) for k in a.kernels if k.flops][:3]
    assert of_peak(a, rows, 1.0).endswith(f"({why})")
    assert "(" not in of_peak(a, [msgspec.structs.replace(k, executed=1.0) for k in rows], 1.0)
