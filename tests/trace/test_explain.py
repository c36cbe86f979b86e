"""Explanations: every number of every sentence is computed anew from the analysis of its run, asked for by its options."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec
import pytest
import torch
from torch import nn

import roofline
from roofline import cli
from roofline.advice import brief, explanation, words
from roofline.advice.terms import holds
from roofline.analysis.explain import reason
from roofline.devices import library
from roofline.devices.threads import working
from roofline.errors import UsageError
from roofline.records import Analysis
from roofline.records.explanation import Explanation, Number, Sentence, Term
from roofline.timemodel import uncertainty
from roofline.units import seconds
from roofline.views import explanation as view
from roofline.views import timeline

ASKED: dict[str, dict[str, Any]] = {
    "mobilenet": {"model": "mobilenet_v3_large", "device": ["rtx-4090", "raspberry-pi-5"]},
    "resnet": {"model": "resnet18", "device": "t4", "batch": 32},
    "training": {"model": "mobilenet_v3_small", "device": ["t4"], "training": True, "batch": 8},
}


@cache
def answer(name: str) -> Explanation:
    return roofline.explain(**ASKED[name])


@cache
def document(name: str, run: str) -> Any:
    """The JSON of one run, asked for as its options say."""
    asked = answer(name).runs[run].options
    return json.loads(msgspec.json.encode(roofline.analyze(ASKED[name]["model"], **asked)))


def term(doc: Any, wanted: Any) -> float:
    """A number of a document, by its JSON alone: not with the code that the explanation is made by."""
    head, _, rest = wanted.what.partition(".")
    if head == "kernels":
        rows = doc["kernels"]
        for key, value in wanted.where.items():
            names = value.split("|")
            if key == "layer":
                rows = [r for r in rows if any(n == "" or (r["layer"] + ".").startswith(n + ".") for n in names)]
            else:
                field = {"own": "layer"}.get(key, key)
                rows = [r for r in rows if r[field] in names]
        return float(len(rows)) if not rest else float(sum(r[rest] for r in rows))
    if head == "levels":
        name, _, what = rest.partition(".")
        (level,) = [x for x in doc["device"]["levels"] if x["name"] == name]
        return float(level[what])
    found = doc
    for step in wanted.what.split(".", 2):
        found = found.get(step, 0)
    return float(found)


def numbers(e: Explanation) -> Iterator[Number]:
    """Every number that stands anywhere in an explanation."""
    for sentence in [*e.takes, *e.why, *e.batches]:
        yield from sentence.numbers.values()
        yield from (check.number for check in sentence.when)
    for part in [*e.classes, *e.regions]:
        yield from (part.flops, *part.times.values(), *part.shares.values())
    tried = [*e.savings.values(), *e.others.values()]
    for saving in [*(s for found in tried for s in found), *e.together.values()]:
        yield from (saving.before, saving.after, saving.times, *saving.numbers.values())
        assert all(number.text in saving.note for number in saving.numbers.values()), saving.note


@pytest.mark.parametrize("name", ASKED)
def test_every_number_is_what_its_run_says(name: str) -> None:
    e = answer(name)
    found = list(numbers(e))
    assert len(found) > 60
    for number in found:
        value = term(document(name, number.over.run), number.over)
        if number.by is not None:
            value *= term(document(name, number.by.run), number.by)
        if number.under is not None:
            value /= term(document(name, number.under.run), number.under)
        assert number.value == pytest.approx(value, rel=1e-9), number


FOUR = ("rtx-4090", "t4", "i9-10940x", "raspberry-pi-5")
SIX: dict[str, dict[str, Any]] = {
    **{name: {} for name in ("mobilenet_v3_large", "resnet50", "vgg16", "vit_b_16", "ghostnet")},
    "hf:LlamaForCausalLM": {"decode": 128, "settings": {"num_hidden_layers": "4"}},
}


@pytest.mark.parametrize("model", SIX)
def test_six_models_on_four_devices_say_nothing_that_their_analyses_do_not(model: str) -> None:
    """All that is said without asking for more: what it takes, where it goes, why; and nothing twice."""
    if model.startswith("hf:"):
        pytest.importorskip("transformers", reason="a language model of transformers needs it")
    analyses = [roofline.analyze(model, device=device, **SIX[model]) for device in FOUR]
    documents = {a.device.name: json.loads(msgspec.json.encode(a)) for a in analyses}
    e = explanation.told(analyses)
    said = [*e.takes, *e.why]
    assert len({s.text for s in said}) == len(said)
    for device in FOUR:
        assert [s for s in e.takes if f"({device})" in s.text]
        assert [s for s in e.why if device in s.text]
        above = brief.said(next(a for a in analyses if a.device.name == device))
        assert set(above) & {s.text for s in said}
    for s in said:
        assert all(holds(check) for check in s.when), s.text
        assert all(number.text in s.text for number in s.numbers.values()), s.text
        assert re.search(r"[{}]|nan|inf\b| 0 times", s.text) is None
    for number in numbers(e):
        over, by, under = (term(documents[t.run], t) if t else 1.0 for t in (number.over, number.by, number.under))
        assert number.value == pytest.approx(over * by / under, rel=1e-9), number
    for parts in (e.classes, e.regions):
        for device in FOUR:
            assert sum(p.shares[device].value for p in parts) == pytest.approx(1)


# all of them take minutes: two of the pairs, and every one where ROOFLINE_PAIRS is set
FEW = ((1, 1), (3, 3))
PAIRS = [(m, d) for i, m in enumerate(SIX) for j, d in enumerate(FOUR) if "ROOFLINE_PAIRS" in os.environ or (i, j) in FEW]


@pytest.mark.parametrize(("model", "device"), PAIRS)
def test_what_would_help_and_larger_batches_are_what_their_runs_say(model: str, device: str) -> None:
    """With every analysis that was made for it asked for anew: savings alone and together, and sentences on batches."""
    if model.startswith("hf:"):
        pytest.importorskip("transformers", reason="a language model of transformers needs it")
    e = roofline.explain(model, device=device, **SIX[model])
    runs: dict[str, Analysis] = {}

    def value(wanted: Term | None) -> float:
        if wanted is None:
            return 1.0
        if wanted.run not in runs:
            runs[wanted.run] = roofline.analyze(model, **e.runs[wanted.run].options)
        a, light = runs[wanted.run], wanted.what.split(".")[0] in ("totals", "language")
        return term(msgspec.to_builtins({"totals": a.totals, "language": a.language} if light else a), wanted)

    for number in numbers(e):
        assert number.value == pytest.approx(value(number.over) * value(number.by) / value(number.under), rel=1e-9), number
    shown = view.render(e)
    for saving in [*e.savings[device], *e.together.values()]:
        assert saving.times.value == pytest.approx(saving.before.value / saving.after.value)
        assert saving.times.value > 1.05
        assert saving.name.casefold() in " ".join(shown.split()).casefold()
    batches = [s for s in e.batches if len(s.numbers) > 1]
    assert all(number.text in s.text for s in batches for number in s.numbers.values())
    assert len(runs) > 2 or not e.savings[device]


@pytest.mark.parametrize("name", ASKED)
def test_sentences_hold_and_say_their_numbers(name: str) -> None:
    e = answer(name)
    sentences = [*e.takes, *e.why, *e.batches]
    assert len(sentences) > 5
    for s in sentences:
        for check in s.when:
            value = check.number.value
            assert value >= check.limit if check.relation == ">=" else value < check.limit, s.text
        for number in s.numbers.values():
            assert number.text in s.text
        assert re.search(r"[{}]|nan|inf\b| 0 times", s.text) is None
        assert s.text[0].isupper() or s.text.startswith((*e.devices, e.model))
        assert s.text.endswith(".")


@pytest.mark.parametrize("name", ASKED)
def test_parts_add_up(name: str) -> None:
    e = answer(name)
    for parts in (e.classes, e.regions):
        assert parts
        assert sum(p.flops.value for p in parts) == pytest.approx(1)
        for device in e.devices:
            assert sum(p.shares[device].value for p in parts) == pytest.approx(1)
            assert sum(p.times[device].value for p in parts) == pytest.approx(e.runs[device].time_s)


@pytest.mark.parametrize("name", ASKED)
def test_what_is_said_to_help_helps(name: str) -> None:
    e = answer(name)
    for device, found in e.savings.items():
        assert [s.times.value for s in found] == sorted((s.times.value for s in found), reverse=True)
        for s in found:
            assert s.times.value == pytest.approx(s.before.value / s.after.value)
            assert s.times.value > 1.05
            assert s.base == device
        if both := e.together.get(device):
            # less than the product of its parts may be, but more than any of them
            assert both.times.value > max(s.times.value for s in found)


def said(sentences: list[Sentence], pattern: str) -> list[str]:
    return [s.text for s in sentences if re.search(pattern, s.text)]


def test_the_founding_question() -> None:
    """Few FLOPs, not fast on a GPU: the host sets the pace there, and the folk answer does not hold at batch 1."""
    e = answer("mobilenet")
    assert said(e.why, r"On rtx-4090 the host sets the pace for 99\.\d % of the time")
    (folk,) = said(e.why, "folk answer")
    assert "does not hold here: bytes take <0.1 % of the time, overhead 99.9 %" in folk
    assert said(e.why, r"rtx-4090 and \d.* of that of raspberry-pi-5")
    large = roofline.explain("mobilenet_v3_large", device=["rtx-4090", "i9-10940x"], batch=128)
    (folk,) = said(large.why, "folk answer")
    assert "holds here: bytes take" in folk


def test_causes_come_largest_first_and_each_gpu_beside_a_cpu_has_its_folk_answer() -> None:
    devices = ["raspberry-pi-5", "t4", "rtx-4090"]
    why = explanation.told([roofline.analyze("resnet50", device=device) for device in devices]).why
    for device in devices:
        causes = said(why, f"^On {device} (arithmetic|moving bytes|.* is overhead|the host)")
        shares = [float(re.findall(r"([\d.]+) % of the time", text)[0]) for text in causes]
        assert shares == sorted(shares, reverse=True) != []
        assert len(said(why, f"folk answer, that it is memory-bound on {device} ")) == (device != "raspberry-pi-5")
        # said once: not also as what a roofline of the whole model would blame
        assert not said(why, f"roofline of the whole model .* {device} ") or device == "raspberry-pi-5"


def test_of_two_causes_that_take_about_the_same_no_roofline_is_said_to_blame_the_wrong_one() -> None:
    a = roofline.analyze("resnet50", device="i9-10940x")
    by = a.totals.time_by_bound
    assert a.totals.intensity < 0.8 * a.device.ridge
    assert by["memory"] > 0.8 * max(by.values()) > 0
    assert not said(explanation.told([a]).why, "would blame")


def test_a_rate_above_the_peak_says_of_what_it_is() -> None:
    """Winograd's convolutions execute fewer FLOPs than count: 78 of 67 TFLOP/s is no fault, and it is said why."""
    a = roofline.analyze("vgg16", device="h100-sxm", batch=8)
    convs = [k for k in a.kernels if k.klass == "conv"]
    assert sum(k.flops for k in convs) / sum(k.time_s for k in convs) > a.device.peak_flops
    (text,) = said(explanation.told([a]).why, "arithmetic takes")
    assert text.endswith("of 66.9 TFLOP/s (of the FLOPs that count; Winograd's algorithm executes fewer).")


def test_half_precision_that_brings_nothing_alone_is_among_what_helps_together() -> None:
    e = answer("mobilenet")
    assert any("bf16" in name for name in e.small["rtx-4090"])
    assert "bf16" in e.together["rtx-4090"].name or "fp16" in e.together["rtx-4090"].name


@pytest.mark.parametrize(
    ("options", "words"),
    [({}, " at 52 us each"), ({"dtype": "amp"}, "less for a cast"), ({"training": True}, "more for one of")],
)
def test_no_pass_is_faster_than_issuing_its_kernels_is_said_to_be(options: dict[str, Any], words: str) -> None:
    """A cast costs the host less than an operator, one of a backward pass more: so many times the same would be false."""
    a = roofline.analyze("mobilenet_v2", device="t4", batch=1, **options)
    (text,) = said(explanation.told([a]).why, "^However short its kernels, issuing .*: no pass is faster")
    assert words in text
    floor = sum(k.issue_s for k in a.kernels)
    alike = a.totals.kernels * 52e-6
    assert {"less": floor < 0.99 * alike, " at ": floor == pytest.approx(alike), "more": floor > 1.01 * alike}[words[:4]]
    assert floor <= a.totals.time_s
    # and on a timeline nothing runs before it was issued
    events = json.loads(timeline.render([a]))["traceEvents"]
    issued, run = ({e["id"]: e["ts"] for e in events if e["ph"] == ph} for ph in "sf")
    assert len(issued) == a.totals.kernels
    assert all(run[key] >= at for key, at in issued.items())


def test_where_larger_batches_are_slower_again_it_is_said_what_takes_the_time() -> None:
    e = roofline.explain("squeezenet1_1", device="i9-10940x")
    (text, *_) = [s for s in e.batches if "least" in s.numbers]
    assert text.numbers["many"].value > 1.05 * text.numbers["least"].value
    sizes = [run.options.get("batch") or 1 for run in e.runs.values() if {*run.options} <= {"device", "batch"}]
    each = {n: roofline.analyze("squeezenet1_1", device="i9-10940x", batch=n).totals for n in sizes}
    best, last = min(sizes, key=lambda n: each[n].time_s / n), max(sizes)
    pages = [each[n].time_by_component.get("pages", 0.0) / n for n in (best, last)]
    # more of the time that a sample takes longer than all else
    assert pages[1] - pages[0] > 0.5 * (each[last].time_s / last - each[best].time_s / best) > 0
    assert text.text.endswith(
        f"one of {last}, where getting fresh memory from the system page by page takes {text.numbers['part'].text} of the time."
    )
    assert text.numbers["part"].value == pytest.approx(pages[1] * last / each[last].time_s)


def test_nothing_would_help_much(capsys: pytest.CaptureFixture[str]) -> None:
    e = roofline.explain("vgg16", device="raspberry-pi-4", batch=8, runtime="compiled")
    assert e.savings == {"raspberry-pi-4": []}
    assert not e.together
    assert cli.main(["explain", "vgg16", "-d", "raspberry-pi-4", "-b", "8", "--runtime", "compiled"]) == 0
    assert "Nothing that was tried would help much." in capsys.readouterr().out


def test_a_module_and_its_own_call() -> None:
    """One kernel; a call that is given whole has no other batch, and a device with no half precision none of that."""
    e = roofline.explain(nn.Linear(64, 64), args=[torch.empty(4, 64)], device="gtx-1080-ti")
    assert "batch" not in {s.what for s in e.savings["gtx-1080-ti"]}
    assert len(e.classes) == 1
    assert e.regions == []
    for s in [*e.takes, *e.why, *roofline.explain(nn.ReLU(), args=[torch.empty(4, 64)], device=["t4", "i9-10940x"]).why]:
        assert re.search(r"\b1 (kernels|operators|of them)|100 % .* the others", s.text) is None, s.text


def test_a_model_without_kernels_is_explained() -> None:
    e = roofline.explain(nn.Identity(), args=[torch.empty(4, 64)], device="t4")
    assert e.savings == {"t4": []}
    assert [s.text for s in e.takes] == ["Identity launches no kernel in this setting, so there is nothing to predict."]
    assert (e.why, e.classes, e.regions) == ([], [], [])


class Turned(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.t().contiguous()


def test_a_model_without_arithmetic_is_not_said_to_reach_a_share_of_a_peak() -> None:
    e = explanation.told([roofline.analyze(Turned(), args=[torch.empty(4, 64)], device=d) for d in ("t4", "i9-10940x")])
    needs = "Turned needs no arithmetic for one pass over 4 samples, holds no parameters, and its kernels move "
    assert e.takes[0].text == f"{needs}2.05 kB: 0 FLOP/B."
    assert not said(e.why, "The same FLOPs")


def test_what_cannot_be_asked_is_refused_as_analyze_does() -> None:
    with pytest.raises(UsageError, match="did you mean resnet50"):
        roofline.explain("resnet5O", device="t4")
    with pytest.raises(UsageError, match="unknown option 'dtyp'; did you mean 'dtype'"):
        roofline.explain("resnet18", device="t4", dtyp="fp16")


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["explain", "resnet18", "-d", "t4", "-b", "32"]
    assert cli.main([*asked, "--json"]) == 0
    e = msgspec.json.decode(capsys.readouterr().out, type=Explanation)
    assert e == answer("resnet")
    assert cli.main([*asked, "--evidence"]) == 0
    text = capsys.readouterr().out
    for head in (
        "What it takes",
        "Where it goes",
        "Why",
        "Larger batches",
        "What would help on NVIDIA T4",
        "What this cannot know",
    ):
        assert f"{head}\n" in text
    assert re.search(r"^    layer\d\.\d\.conv\d +conv2d", text, re.MULTILINE)
    lines = [line for line in text.splitlines() if not line.startswith("    ")]
    assert all(len(line) <= 80 for line in lines if line.startswith(("- ", "  ")))
    assert cli.main([*asked, "-d", "t4"]) == 2


def test_an_explanation_prints_as_the_command_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "resnet18", "-d", "t4", "-b", "32"]) == 0
    assert str(answer("resnet")) == capsys.readouterr().out


def test_a_term_names_what_an_analysis_has() -> None:
    from roofline.advice.terms import value

    a: Analysis = roofline.analyze("resnet18", device="t4")
    assert value(a, Term("", "kernels")) == a.totals.kernels
    assert value(a, Term("", "kernels.flops", {"layer": ""})) == a.totals.flops
    assert value(a, Term("", "kernels.flops", {"layer": "layer1"})) == next(x.flops for x in a.layers if x.path == "layer1")
    assert value(a, Term("", "levels.L2.bandwidth")) == a.device.levels[0].bandwidth
    assert value(a, Term("", "totals.time_by_component.memory:DRAM")) == a.totals.time_by_component["memory:DRAM"]


def test_a_host_is_that_of_the_gpus_and_a_cpu_beside_one_goes_without() -> None:
    e = roofline.explain("mobilenet_v3_small", device=["rtx-4090", "raspberry-pi-5"], host="100 us")
    assert e.runs["rtx-4090"].options["host"] == "100 us"
    assert "host" not in e.runs["raspberry-pi-5"].options
    assert e.runs["rtx-4090"].time_s > roofline.analyze("mobilenet_v3_small", device="rtx-4090").totals.time_s
    with pytest.raises(UsageError, match="is a CPU, which is its own host"):
        roofline.explain("mobilenet_v3_small", device="raspberry-pi-5", host="100 us")


class Steps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(32, 32)

    def forward(self, x: torch.Tensor) -> Any:
        return self.rnn(x)[0]


def test_a_recurrent_layer_is_not_said_to_be_one_short_kernel() -> None:
    said = roofline.explain(Steps(), device=["t4", "i9-10940x"], args=[torch.zeros(400, 2, 32)])
    text = " ".join(s.text for s in said.why)
    assert "kernels that are too short to fill the GPU, several for each step of a recurrent layer" in text
    assert "operators and those of each step of a recurrent layer" in text
    a = roofline.analyze(Steps(), device="i9-10940x", args=[torch.zeros(400, 2, 32)])
    assert "each step of a recurrent layer in Python and PyTorch" in reason(a)


@torch.library.custom_op("roofline_test_explain::odd", mutates_args=())
def odd(x: torch.Tensor) -> torch.Tensor:
    return x * 2


@odd.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


class Odd(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return odd(x @ x)


def test_flops_of_which_some_are_not_known_are_said_to_be_the_least() -> None:
    a = roofline.analyze(Odd(), device="t4", args=[torch.zeros(8, 8)])
    assert [op.op for op in a.coverage.unknown_ops] == ["roofline_test_explain.odd"]
    assert explanation.told([a]).takes[0].text.startswith("Odd needs at least 1.024 kFLOP")
    known = roofline.analyze(nn.Linear(8, 8), device="t4", args=[torch.zeros(8, 8)])
    assert explanation.told([known]).takes[0].text.startswith("Linear needs 1.")


def test_a_model_without_products_and_parameters_is_not_said_to_have_any() -> None:
    said = roofline.explain(nn.ReLU(), device="t4", args=[torch.zeros(4, 4)])
    assert "(none of them a multiply-accumulate), holds no parameters" in said.takes[0].text
    assert not any("int8" in text for text in said.unknown)


def test_what_is_only_done_together_has_its_doubts_said_and_what_is_slower_is_called_so() -> None:
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
    said = roofline.explain(net, device="t4", batch=1, inputs=["1,64"])
    assert not any(s.what == "fp16" for s in said.savings["t4"])
    assert "in fp16" in said.together["t4"].name
    assert any("accurate enough" in text for text in said.unknown)
    # the host sets the pace, and casts are kernels too
    cast = roofline.explain("mobilenet_v2", device="t4", batch=1)
    assert cast.slower == {"t4": ["run it under autocast"]}
    assert "Slower than now: run it under autocast" in view.render(cast)


def test_what_is_slower_says_by_how_much_and_which_part_of_the_time_grew() -> None:
    e = roofline.explain("vgg16", device="rtx-4090")
    tried = {s.what: s for s in e.others["rtx-4090"]}
    assert {s.name for s in tried.values()} == {*e.small["rtx-4090"], *e.slower["rtx-4090"]}
    shown = " ".join(view.render(e).split())
    parts = {dtype: roofline.analyze("vgg16", device="rtx-4090", dtype=dtype).totals for dtype in ("fp32", "tf32", "bf16")}
    was, tf32, bf16 = (parts[dtype] for dtype in ("fp32", "tf32", "bf16"))
    more = {bound: tf32.time_by_bound[bound] - was.time_by_bound[bound] for bound in was.time_by_bound}
    assert max(more, key=lambda bound: more[bound]) == "compute"
    before, after = (seconds(t.time_by_bound["compute"]) for t in (was, tf32))
    assert (
        f"let products run in tf32 ({seconds(tf32.time_s)} instead of {seconds(was.time_s)} for each sample: arithmetic takes "
        f"{after} instead of {before})" in shown
    )
    # the weights' bytes halve, and so does the time that they take; no algorithm spares arithmetic in halves
    assert bf16.time_by_bound["memory"] == pytest.approx(was.time_by_bound["memory"] / 2, rel=0.05)
    assert bf16.time_by_bound["compute"] > was.time_by_bound["compute"]
    halves = tried["bf16"]
    assert halves.times.value == pytest.approx(was.time_s / bf16.time_s)
    assert halves.note.startswith("moving bytes takes ")
    assert ", but arithmetic " in halves.note
    assert f"run all of it in bf16 ({halves.note})" in shown


def test_fewer_threads_are_advised_where_they_are_faster_beyond_doubt() -> None:
    """On a CPU whose cores take long to start together; a tenth is not beyond doubt, and who said how many has said so."""
    shipped = library.lookup("epyc-9654")
    slow = msgspec.structs.replace(shipped, launch=msgspec.structs.replace(shipped.launch, value=5 * shipped.launch.value))
    e = explanation.explain(explanation.Asker("shufflenet_v2_x1_0", {}, False, None), [slow])
    (saving,) = [s for s in e.savings[slow.name] if s.what == "threads"]
    n = int(re.findall(r"a flag: OMP_NUM_THREADS=(\d+), or torch.set_num_threads\(\1\)", saving.effort)[0])
    assert e.runs[saving.run].options["device"] == f"epyc-9654@{n}"
    times = {k: roofline.analyze("shufflenet_v2_x1_0", device=working(slow, k)).totals for k in (96, 2 * n, n, max(n // 2, 1))}
    assert saving.times.value == pytest.approx(times[96].time_s / times[n].time_s)
    assert min(times, key=lambda k: times[k].time_s) == n < 96
    one, other = times[96].interval, times[n].interval
    assert one is not None
    assert other is not None
    assert saving.times.value > math.exp(1.2816 * uncertainty.ratio(one, other, same_device=True))
    for name in ("i9-10940x", "epyc-9654@48", "rtx-4090"):
        assert not any(s.what == "threads" for s in roofline.explain("shufflenet_v2_x1_0", device=name).savings[name])


def test_words_are_explained_once_where_they_are_said_first() -> None:
    e = answer("mobilenet")
    assert {"kernel", "FLOP/B", "CUDA graph", "host", "depthwise convolution", "autocast", "channels-last"} <= set(e.words)
    # a bullet is a block, and so is a table with what stands around it
    blocks = [" ".join(block.split()) for block in re.split(r"\n(?=- )|\n\n", view.render(e))]
    plain = [re.sub(r" \([^():]+: [^()]+\)$", "", block) for block in blocks]
    for word, meaning in e.words.items():
        (at,) = [i for i, block in enumerate(blocks) if f"{word}: {meaning}" in block]
        assert [words.found(block, word) for block in plain[: at + 1]] == [False] * at + [True], word
    assert "(FLOP: " in blocks[1]
    assert "; kernel: a program that the device runs" in blocks[1]
    # nothing that is not said
    small = explanation.told([roofline.analyze(nn.Linear(8, 8), device="t4", args=[torch.zeros(8, 8)])])
    assert not {"depthwise convolution", "CUDA graph", "Winograd"} & set(small.words)


def test_a_word_is_found_whole_and_in_the_plural() -> None:
    assert words.found("Kernels of it", "kernel")
    assert words.found("at 3.3 FLOP/B.", "FLOP/B")
    assert not words.found("3.3 GFLOP", "FLOP")
    assert not words.found("a ghost sets", "host")
    meant = words.Glossary({"kernel": "a program", "L2": "a cache"})
    assert meant.of("no word") == ""
    assert meant.of("its kernels", "the L2") == "(kernel: a program; L2: a cache)"
    assert meant.of("a kernel") == ""


def test_where_arithmetic_takes_the_time_of_both_fewer_flops_are_said_to_pay_on_both() -> None:
    """A T4 reaches a third of its peak in ViT-B/16 and spends nine tenths of its time on arithmetic all the same."""
    found = [roofline.analyze("vit_b_16", device=device) for device in ("t4", "raspberry-pi-5")]
    assert all(a.totals.time_by_bound["compute"] > 0.8 * a.totals.time_s for a in found)
    (text,) = said(explanation.told(found).why, "^The same FLOPs")
    assert text.endswith("so fewer FLOPs pay on both.")
    assert "unused" not in text


def test_causes_are_called_as_they_are_on_the_kind_of_device() -> None:
    found = {"cpu": roofline.explain("mobilenet_v3_small", device="i9-10940x"), "gpu": answer("mobilenet")}
    for kind, e in found.items():
        text = " ".join(s.text for s in e.batches if "raspberry" not in s.text)
        assert "takes the largest part" in text
        assert "up to a batch of 1 " not in text
        assert not re.search("threads|dispatching" if kind == "gpu" else "kernels|issuing", text)


def test_a_note_on_one_of_several_devices_names_it() -> None:
    e = answer("mobilenet")
    shared, own = (roofline.analyze("mobilenet_v3_large", device=name).notes for name in e.devices)
    assert set(e.notes) == {n for n in shared if n in own} | {f"rtx-4090: {n}" for n in shared if n not in own} | {
        f"raspberry-pi-5: {n}" for n in own if n not in shared
    }


def test_a_model_that_has_to_run_is_not_run_for_large_batches_nor_put_into_a_graph() -> None:
    from roofline.advice import alternatives

    a = roofline.analyze("resnet18", device="t4")
    ran = msgspec.structs.replace(a, notes=["shapes depend on data: traced on real tensors, random weights, seed 0"])
    device = library.lookup("t4")
    assert alternatives.larger(a) == [2, 4, 8, 16, 32, 64, 128, 256]
    assert a.totals.kernels == 68  # 3.6 GFLOP each: 256 of them are short of 1e12 and of 20,000 kernels
    assert alternatives.larger(ran) == [2, 4, 8, 16, 32, 64, 128, 256]
    detector = msgspec.structs.replace(ran, totals=msgspec.structs.replace(a.totals, kernels=1587))
    assert alternatives.larger(detector) == [2, 4, 8]
    long = msgspec.structs.replace(ran, totals=msgspec.structs.replace(a.totals, flops=3 * 10**11))
    assert alternatives.larger(long) == [2]
    assert "graphs" in {one.what for one in alternatives.alternatives(a, device)}
    assert "graphs" not in {one.what for one in alternatives.alternatives(ran, device)}


def test_what_gains_least_is_looked_for_in_what_takes_time_on_either_device() -> None:
    """VGG-16's products take 3 % of a Raspberry Pi 4's time and a quarter of a T4's: they gain less than convolutions."""
    found = [roofline.analyze("vgg16", device=device) for device in ("t4", "raspberry-pi-4")]
    times = [{c: sum(k.time_s for k in a.kernels if k.klass == c) for c in {k.klass for k in a.kernels}} for a in found]
    kept = [c for c in times[0] if any(t[c] >= 0.05 * a.totals.time_s for t, a in zip(times, found, strict=True))]
    gains = {c: times[1][c] / times[0][c] for c in kept}
    assert min(gains, key=lambda c: gains[c]) == "gemm"
    assert times[1]["gemm"] < 0.05 * found[1].totals.time_s
    (text,) = said(explanation.told(found).why, "^From raspberry-pi-4 to t4")
    assert f"and matrix multiplies least ({gains['gemm']:.2g} times as fast), of what takes 5 % of the time on either." in text


def test_where_the_host_sets_the_pace_of_two_gpus_no_kind_of_kernel_is_said_to_gain() -> None:
    found = [roofline.analyze("resnet50", device=device) for device in ("h100-sxm", "a100-sxm-80gb", "epyc-9654")]
    assert all(a.totals.time_by_component["host"] > 0.9 * a.totals.time_s for a in found[:2])
    why = explanation.told(found).why
    assert not said(why, "^From a100-sxm-80gb to h100-sxm")
    assert said(why, "^From epyc-9654 to h100-sxm")


def test_what_does_not_fit_is_said_of_what_would_help_too() -> None:
    """A batch that needs 29.6 GiB of 16: autocast leaves it too large, and its time is of no use alone."""
    e = roofline.explain("vit_b_16", device="t4", batch=256, training=True)
    tried = [*e.savings["t4"], *e.others["t4"]]
    for saving in tried:
        totals = roofline.analyze("vit_b_16", **e.runs[saving.run].options).totals
        assert saving.note.endswith("it then fits" if totals.fits else "it does not fit even so"), saving
    assert tried


def test_several_causes_take_and_one_takes() -> None:
    a = roofline.analyze("mobilenet_v3_large", device="h100-sxm", batch=256, dtype="amp")
    assert a.totals.bound == "instructions"
    assert said(explanation.told([a]).why, "kernel by kernel, instructions that are no FLOPs take the largest part")
