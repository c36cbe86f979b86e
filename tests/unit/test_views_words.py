"""The verdict, the shared style, and the sample that the other tests of the views lean on."""

from __future__ import annotations

import re

import msgspec
import pytest
from sample import CPU, GPU, sample

from roofline.analysis.explain import compare, label, rate, totals, verdict
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
        (0, 5, "0 %"), (1, 0, "0 %"), (1, 1, "100 %"), (1, 3, "33 %"), (0.021, 1, "2.1 %"), (0.0004, 1, "<0.1 %"),
        (0.9999, 1, "99.9 %"), (0.996, 1, "99.6 %"), (0.0996, 1, "10 %"), (0.994, 1, "99 %"),
        (0.3, 0.30000000000000071, "100 %"),
    ],
)  # fmt: skip
def test_percent(part: float, whole: float, text: str) -> None:
    assert percent(part, whole) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.5 samples/s"), (493.4, "493 samples/s"), (9442.1, "9,442 samples/s"), (2.5e6, "2.5 M samples/s")],
)
def test_rate(value: float, text: str) -> None:
    assert rate(value) == text


def test_batch_one_on_a_gpu_is_overhead() -> None:
    first, second, third = verdict(sample("gpu"))
    assert "RTX 3090 one pass over 1 sample should take about 504 us" in first
    # every kernel is shorter than the host's 6 us, so all that the GPU works is hidden: 84 x 6 us = 504 us
    works = sum(max(k.compute_s, k.memory_s) for k in sample("gpu").kernels)
    assert second == (
        f"Overhead takes 100 % of the time: for {1e6 * (504e-6 - works):.0f} of 504 us the GPU waits for Python, which needs "
        f"6 us to issue each of the 84 kernels; the {1e6 * works:.1f} us that it works meanwhile are hidden behind that."
    )
    assert third == "Normalisations take 32 % of the time for 0.9 % of the FLOPs: they are 27 of the 84 kernels."


def test_large_batch_on_a_gpu_is_memory() -> None:
    said = " ".join(verdict(sample("gpu", batch=256)))
    assert (
        "Memory (DRAM) takes 66 % of the time and compute 24 %: at 17.8 FLOP/B the model is below the ridge of 75.9 FLOP/B."
        in said
    )
    assert "The longest kernel is features.1.pointwise.1 (batch_norm)" in said


def test_a_model_below_the_ridge_is_told_which_kernels_keep_it_from_its_peak() -> None:
    said = " ".join(verdict(sample("cpu")))
    convs = [k for k in sample("cpu").kernels if k.klass == "conv"]
    flops, took = sum(k.flops for k in convs), sum(k.time_s for k in convs)
    alone = flops / sum(k.bytes for k in convs)
    assert "Compute takes 69 % of the time: most of the compute is in convolutions, which lie at" in said
    assert f" at {alone:.1f} FLOP/B, above the ridge of 15.2 FLOP/B." in said
    assert f"Convolutions take {1e3 * took:.2f} ms, at {100 * flops / took / 1.43e12:.0f} % of the fp32 peak" in said
    assert " or " not in said


@pytest.mark.parametrize("kind", ["gpu", "cpu"])
@pytest.mark.parametrize("batch", [1, 256])
def test_a_document_from_before_there_were_components_has_its_sentences(kind: str, batch: int) -> None:
    a = sample(kind, batch=batch)  # type: ignore[arg-type]  # one of the two kinds
    old = msgspec.structs.replace(
        a,
        totals=msgspec.structs.replace(a.totals, time_by_component={}, waiting_s=0.0),
        kernels=[msgspec.structs.replace(k, time_by_component={}) for k in a.kernels],
    )
    said = verdict(old)
    assert any(re.fullmatch(r"(Overhead|Memory|Compute) takes \d+ % of the time( and .*)?\.", s) for s in said), said


def test_unknown_ops_are_said() -> None:
    assert verdict(sample(unknown=True))[-1] == (
        "FLOPs are a lower bound: no rule knows mylib.warp x1. Their bytes are counted."
    )
    assert not any("lower bound" in s for s in verdict(sample()))


def test_no_kernels() -> None:
    a = sample()
    bare = msgspec.structs.replace(a, kernels=[], totals=msgspec.structs.replace(a.totals, kernels=0, time_s=0.0))
    assert verdict(bare) == ["mobilenet_v1 launches no kernel in this setting, so there is nothing to predict."]


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
