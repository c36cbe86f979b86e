"""A saved analysis that was edited by hand is refused, with the field. Every number of a document is an edit of its own."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sample import language, sample

from roofline.analysis import diff as compare
from roofline.errors import UsageError
from roofline.views import text


def read(path: Path, document: Any) -> Any:
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return compare.read_analyses(path)


@pytest.fixture
def document() -> dict[str, Any]:
    return json.loads(text.to_json(sample(unknown=True, batch=2)))  # type: ignore[no-any-return]  # a JSON object


@pytest.mark.parametrize("kind", ["gpu", "cpu"])
@pytest.mark.parametrize("unknown", [False, True])
def test_what_we_write_is_taken(tmp_path: Path, kind: Any, unknown: bool) -> None:
    a = sample(kind, unknown=unknown)
    assert read(tmp_path / "a.json", text.to_json(a).decode() if isinstance(text.to_json(a), bytes) else text.to_json(a)) == [a]


EDITS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "time / 10": (lambda d: d["totals"].update(time_s=d["totals"]["time_s"] / 10), r"totals.time_s is .*its kernels add up to"),
    "the time of a kernel / 10": (lambda d: d["kernels"][3].update(time_s=d["kernels"][3]["time_s"] / 10), r"time_s"),
    "negative MACs": (lambda d: d["totals"].update(macs=-d["totals"]["macs"]), r"totals.macs is -.*below zero"),
    "fewer MACs": (lambda d: d["totals"].update(macs=1), r"totals.macs is 1, but its kernels add up to"),
    "no kernels": (lambda d: d.update(kernels=[]), r"totals.kernels is 85, but its kernels are 0"),
    "one kernel less": (lambda d: d["kernels"].pop(), r"totals.kernels is 85, but its kernels are 84"),
    "no layers": (lambda d: d.update(layers=[]), r"has no such path|the first of them"),
    "a layer less": (lambda d: d["layers"].pop(3), r"has no such path"),
    "a layer twice": (lambda d: d["layers"].append(d["layers"][3]), r"another layer has it"),
    "an operator less": (lambda d: d["ops"].pop(), r"it has no row for"),
    "an operator twice": (lambda d: d["ops"].append(d["ops"][0]), r"another row has it"),
    "full coverage": (lambda d: d["coverage"].update(flops_known=1.0), r"coverage.flops_known is 1, but by its kernels it is"),
    "no unknown operators": (lambda d: d["coverage"].update(unknown_ops=[]), r"coverage.unknown_ops"),
    "unknown made known": (lambda d: [k.update(known=True) for k in d["kernels"]], r"coverage"),
    "parameters": (lambda d: d["model"].update(params=7), r"model.params is 7, but layers\[0\].params is"),
    "peak memory": (lambda d: d["totals"].update(peak_memory_bytes=7), r"totals.peak_memory_bytes is 7, but peak_memory"),
    "the largest tensor's kind": (lambda d: d["totals"]["peak_memory"].update(activations=7), r"totals.peak_memory_bytes"),
    "throughput": (lambda d: d["totals"].update(throughput=1e9), r"totals.throughput is 1e\+09, but setting.batch / time_s is"),
    "the batch": (lambda d: d["setting"].update(batch=64), r"totals.throughput"),
    "intensity": (lambda d: d["totals"].update(intensity=99.0), r"totals.intensity is 99, but its flops / bytes are"),
    "the ridge": (lambda d: d["device"].update(ridge=1.0), r"device.ridge is 1, but device.peak_flops / device.bandwidth is"),
    "the device's peak": (lambda d: d["device"].update(peak_flops=1.0, ridge=1 / 936e9), r"device.peak_flops is 1, but"),
    "the device's name": (lambda d: d["setting"].update(device="h100-sxm"), r"setting.device is 'h100-sxm', but device.name"),
    "the bound": (lambda d: d["totals"].update(bound="compute"), r"totals.bound is 'compute', but most of its time is"),
    "a bound of somebody's own": (lambda d: d["totals"].update(bound="disk"), r"totals.bound is 'disk', but it is one of"),
    "time by bound": (lambda d: d["totals"]["time_by_bound"].update(memory=1.0), r"totals.time_by_bound.memory is 1"),
    "another schema": (lambda d: d.update(schema=9), r"schema 9, but schema 1 is read here"),
    "text for a number": (lambda d: d["totals"].update(time_s="fast"), r"\$.totals.time_s"),
    "a number for text": (lambda d: d["model"].update(name=3), r"\$.model.name"),
    "nothing": (lambda d: d["totals"].pop("time_s"), r"missing required field `time_s`"),
    "without end": (lambda d: d["totals"].update(time_s=1e400), r"JSON is malformed|not an analysis|without end"),
    "how sure it is": (
        lambda d: d["totals"].update(interval={"low_s": 1e-3, "high_s": 1.0, "common": [0, 0, 0], "own": 2.0**63}),
        r"totals.interval.low_s is 0.001, but time_s, common and own give 0:",
    ),
    "a training step": (lambda d: d["setting"].update(optimizer="sgd"), r"setting.optimizer is 'sgd', but setting.mode"),
}


@pytest.mark.parametrize("name", EDITS)
def test_edits_by_hand(tmp_path: Path, document: dict[str, Any], name: str) -> None:
    edit, words = EDITS[name]
    edit(document)
    file = tmp_path / "base.json"
    with pytest.raises(UsageError, match=words) as raised:
        read(file, document)
    lines = str(raised.value).splitlines()
    assert str(raised.value).startswith(f"{file}: ")
    assert len(lines) <= 2
    assert max(map(len, lines)) < 1000


def test_a_key_twice(tmp_path: Path, document: dict[str, Any]) -> None:
    whole = json.dumps(document)
    assert whole.count('"throughput":') == 1
    with pytest.raises(UsageError, match=r"the key 'throughput' stands twice"):
        read(tmp_path / "base.json", whole.replace('"throughput":', '"throughput": 1.0, "throughput":'))


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number(tmp_path: Path, document: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError, match="not an analysis"):
        read(tmp_path / "base.json", re.sub(r'"throughput": [^,]+', f'"throughput": {word}', json.dumps(document)))


# what nothing else in a document says again: sizes that come with the model, a kernel's own splitting of its time, the device
_FREE = re.compile(
    r"schema|model\.(param_bytes|buffers|buffer_bytes|inputs)|device\.(peaks|levels|reached_flops|memory)|coverage\.bytes_known"
    r"|totals\.energy\.limit_w"
    r"|kernels\[\d+\]\.(shape|efficiency|executed|compute_s|memory_s|overhead_s|issue_s)|layers\[\d+\]\.(params|calls)|memory\."
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _places(inner, (*path, key))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from _places(inner, (*path, i))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path


def _name(path: tuple[Any, ...]) -> str:
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).lstrip(".")


def test_every_number_that_follows_from_others(tmp_path: Path) -> None:
    """Each of them doubled (a zero made one) in turn: refused, and the field or one that it goes into is named."""
    document = json.loads(text.to_json(sample(blocks=1, batch=2, unknown=True)))
    tried = 0
    for path in _places(document):
        if _FREE.match(_name(path)):
            continue
        edited = copy.deepcopy(document)
        at = edited
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = at[path[-1]] * 2 or 1
        tried += 1
        with pytest.raises(UsageError, match="the file was edited"):
            read(tmp_path / "base.json", edited)
    assert tried > 300


def test_a_language_model_pass(tmp_path: Path) -> None:
    a = sample()
    t = a.totals
    info = msgspec.structs.replace(
        language("decode", 9),
        flops_per_token=t.flops,
        macs_per_token=t.macs,
        weight_bytes=t.weight_bytes,
        tokens_per_s=1 / t.time_s,
    )
    a = msgspec.structs.replace(a, language=info)
    assert read(tmp_path / "a.json", json.loads(text.to_json(a))) == [a]
    for field in (
        "sequences",
        "tokens",
        "flops_per_token",
        "macs_per_token",
        "weight_bytes",
        "cache_bytes_per_token",
        "tokens_per_s",
    ):
        edited = json.loads(text.to_json(a))
        edited["language"][field] *= 2
        with pytest.raises(UsageError, match=f"language.({field}|tokens)"):
            read(tmp_path / "a.json", edited)
