"""The page, as text and in a real browser."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import pytest
from browsing import accessible, browser, embedded, logged, own, parsed, ready_s
from msgspec.structs import replace
from sample import hostile, sample

from roofline import units
from roofline.advice.report import Missing
from roofline.views.page import LIBRARY, library, render
from roofline.views.style import CLASSES


def column(data: dict[str, Any], which: int) -> list[Any]:
    found = data["columns"][which]
    if isinstance(found, list):
        return found
    return [found["k"][i] for i in found["i"]] if "i" in found else found["k"] * found["n"]


@pytest.mark.parametrize("several", [False, True])
def test_whole_and_offline(several: bool) -> None:
    page = render([sample(), sample("cpu"), sample("gpu", 2)] if several else [sample(unknown=True)])
    tags = parsed(own(page))
    assert tags.addresses == ["data:,", "#main"]
    assert not re.search(r"https?://", own(page))
    assert "@import" not in own(page)
    assert tags.scripts == 4
    assert "connect-src" not in page
    assert "default-src 'none'" in page


def test_the_library_is_the_one_that_was_published() -> None:
    folder = resources.files("roofline.views") / "vendor"
    # of package/dist/echarts.min.js in https://registry.npmjs.org/echarts/-/echarts-6.1.0.tgz
    digest = hashlib.sha256((folder / LIBRARY).read_bytes()).hexdigest()
    assert digest == "b66b25aeb4df84e33199dc21694014d336d222cbd9deb0e5a7c14bd6aa0d0fd0"
    assert "Apache License" in (folder / "LICENSE").read_text()
    assert "Apache ECharts" in (folder / "NOTICE").read_text()
    assert "</script" not in library()


def test_holds_what_the_analysis_says() -> None:
    a = sample("gpu", unknown=True)
    page = render([a])
    assert "<title>mobilenet_v1 on NVIDIA GeForce RTX 3090 · roofline</title>" in page
    assert "510 µs" in page
    data = embedded(page)
    (run,) = data["runs"]
    assert "FLOPs unknown, so they are a lower bound: mylib.warp ×1 in extra. Their bytes are counted." in run["warnings"]
    for name in ("op", "flops", "bytes", "bound", "level", "known"):
        assert column(data, run["kernels"][name]) == [getattr(k, name) for k in a.kernels]
    assert column(data, run["kernels"]["time_s"]) == pytest.approx([k.time_s for k in a.kernels], rel=1e-5)
    paths = column(data, run["layers"]["path"])
    assert paths == [r.path for r in a.layers if r.kernels or not r.path]
    assert [paths[i] for i in column(data, run["kernels"]["layer"])] == [k.layer for k in a.kernels]
    assert column(data, run["layers"]["flops"])[0] == a.totals.flops
    assert a.totals.energy is not None
    assert column(data, run["layers"]["energy_j"])[0] == pytest.approx(a.totals.energy.joules, rel=1e-5)
    assert next(value for name, value, _ in run["figures"] if name == "Energy") == units.joules(a.totals.energy.per_sample_j)
    assert "energy_j" not in embedded(render([replace(a, totals=replace(a.totals, energy=None))]))["runs"][0]["layers"]


def test_what_analyses_share_is_there_once() -> None:
    one, other = sample("gpu"), sample("gpu", batch=1)
    alone, both = (len(own(render(some))) for some in ([one], [one, other]))
    assert both < alone + 0.2 * len(msgspec.json.encode(one))


def test_hostile_names_are_text() -> None:
    page = own(render([hostile()]))
    assert parsed(page).scripts == 4
    assert "<script>alert" not in page
    assert "<b>|" not in page


def test_no_analysis() -> None:
    with pytest.raises(ValueError, match="at least one"):
        render([])


@browser
@pytest.mark.parametrize("kind", ["gpu", "cpu"])
def test_charts_are_drawn_without_errors(tmp_path: Path, kind: str) -> None:
    a = sample(kind, 66)
    assert a.totals.energy is not None
    little = replace(a.totals.energy, joules=3.5e-4, per_sample_j=3.5e-4)
    log = logged(tmp_path, render([replace(a, totals=replace(a.totals, energy=little))]), "drawn")
    assert "350 µJ" in log["figures"]
    assert log["marks"] > 10
    assert log["boxes"] > 20
    assert "DRAM" in log["words"]
    assert "whole model" in log["words"]
    assert log["asked"] == 0
    assert "times rest on" in log["source"]
    assert "source" in log["source"]
    # ticks of memory are round numbers, and what is the whole but for the digits of a page reads as the whole
    assert len(log["ticks"]) > 2
    assert all(float(tick.split()[0]) % 1 in (0, 0.25, 0.5, 0.75) for tick in log["ticks"]), log["ticks"]
    assert log["shares"] == ["100 %"]


@browser
def test_hostile_names_do_not_run(tmp_path: Path) -> None:
    log = logged(tmp_path, render([hostile()]), "hostile")
    assert log == {"text": True, "scripts": 5}


@browser
@pytest.mark.parametrize("width", [1300, 390])
def test_anybody_can_use_it(tmp_path: Path, width: int) -> None:
    page = render([sample(blocks=2), sample("cpu", 2)], missing=[Missing("x", "on t4", "it fails")])
    assert accessible(tmp_path, page, width) == []


@cache
def many() -> str:
    """The page of six models on two devices at two batches: as many analyses as on four devices."""
    return render(
        [a for n in range(6) for b in (1, 8) for a in (sample("gpu", 40, b, f"model{n}"), sample("cpu", 40, b, f"model{n}"))]
    )


@cache
def huge() -> str:
    """The page of a model with 50,298 kernels: 83 blocks of 606."""
    a, times = sample("gpu", 100), 83
    kernels = [replace(k, layer=f"blocks.{i}.{k.layer}".rstrip(".")) for i in range(times) for k in a.kernels]
    inner = [replace(r, path=f"blocks.{i}.{r.path}".rstrip(".")) for i in range(times) for r in a.layers]
    whole = replace(a.layers[0], kernels=len(kernels), time_s=times * a.layers[0].time_s)
    totals = replace(a.totals, kernels=len(kernels), time_s=times * a.totals.time_s)
    return render([replace(a, kernels=kernels, layers=[whole, replace(whole, path="blocks"), *inner], totals=totals)])


def test_six_models_on_four_devices_are_small_and_so_is_a_huge_one() -> None:
    assert len(many()) < 6e6
    assert len(huge()) < 6e6
    (run,) = embedded(huge())["runs"]
    assert run["totals"]["kernels"] == 50_298
    assert run["folded"][0] == "75,366 layers: numbered siblings are one row (blocks.*), with the sums of their numbers"
    numbers = column(embedded(huge()), run["kernels"]["number"])
    assert len(numbers) < 5000
    assert sum(numbers) == 50_298


@browser
@pytest.mark.parametrize("page", [many, huge], ids=["many", "huge"])
def test_a_page_answers_within_two_seconds(tmp_path: Path, page: Callable[[], str]) -> None:
    assert ready_s(tmp_path, page(), 2.0) < 2.0


@browser
def test_tables_sort_fold_find_and_go_by_keys(tmp_path: Path) -> None:
    a = sample("cpu")
    log = logged(tmp_path, render([a]), "tables")
    ran = [r.path for r in a.layers if r.kernels]
    assert log["start"] == sum(path.count(".") < 2 for path in ran)
    assert log["open"] == len(ran)
    assert log["close"] == ["", "features", "avgpool", "classifier"]
    assert log["folded"] == len(ran) - 4
    assert log["find"] == ["", "features", "features.3", "features.3.depthwise", "features.3.depthwise.1"]
    assert log["said"] == "1 layer found"
    siblings: dict[str, list[float]] = {}
    for parent, seconds in log["sorted"]:
        siblings.setdefault(parent, []).append(seconds)
    assert all(times == sorted(times, reverse=True) for times in siblings.values())
    # children still stand below their parents
    assert all(path == "" or path.rpartition(".")[0] in log["order"][:i] for i, path in enumerate(log["order"]))
    assert log["aria"] == "descending"
    assert log["down"] == "features"
    assert log["opened"] == "true"
    assert log["picked"] == ["features"]
    assert "layer=features" in log["hash"]
    assert "sort=Time%2Cdown" in log["hash"]
    assert log["kernels"] == 84
    assert log["shown"] == sum(k.layer.startswith("features.") for k in a.kernels)
    # what is copied is a heading, sentences, figures and the outermost layers with all of them
    assert log["copied"].startswith("## mobilenet\\_v1 on Intel Core i9-10940X\n")
    lines = log["copied"].splitlines()
    assert f"| Time | {units.seconds(a.totals.time_s)} |" in " ".join(line[:40] for line in lines if line.startswith("| Time"))
    rows = [
        line.split(" | ")[0].removeprefix("| ")
        for line in lines[lines.index("| Layer | Type | MACs | Traffic | Time | Share | Bound |") + 2 :]
    ]
    assert rows == ["features", "avgpool", "classifier", "all"]
    assert log["button"] == "Copied"


@browser
def test_what_is_picked_is_picked_everywhere(tmp_path: Path) -> None:
    a = sample("cpu")
    depthwise = sorted({k.layer for k in a.kernels if k.klass == "depthwise_conv"})
    log = logged(tmp_path, render([a]), "picked", COLOUR=CLASSES["depthwise_conv"].colour)
    assert log["start"] is True
    assert log["mark"]
    assert set(log["mark"]) <= set(depthwise)
    assert "of the time" in log["words"]
    assert "kernel=" in log["hash"]
    assert log["none"] == [[], ""]
    assert log["row"] == ["features.1", *[p for p in log["row"] if p.startswith("features.1.")]]
    assert log["bright"] >= 3
    assert log["off"] == ["false", "#layer=features.1&off=conv"]
    assert log["look"][0].startswith("class conv: 14 kernels in 14 layers")
    assert "look=" in log["look"][1]
    assert "by=params" in log["by"]
    assert log["tree"][0][0] == "features.0"
    assert "Parameters" in log["tree"][1]
    assert "FLOP/B" in log["tip"]
    assert "bound" in log["live"]
    assert "kernel=" in log["enter"]
    drawn = sum(1 for k in a.kernels if k.flops and k.bytes)
    assert log["box"].startswith(f"{drawn} kernels in ")


@browser
def test_a_link_restores_what_was_chosen(tmp_path: Path) -> None:
    page = render([sample("gpu"), sample("cpu"), sample("cpu", name="other <b>")])
    log = logged(tmp_path, page, "link")
    assert log["first"][0] == ["mobilenet_v1", "NVIDIA GeForce RTX 3090", "fp16"]
    assert log["then"][:2] == [["mobilenet_v1", "Intel Core i9-10940X", "fp32"], ["features.2"]]
    assert (log["by"], log["find"], log["off"], log["sort"]) == ("flops", "features.2", "false", "ascending")
    assert log["switched"][:2] == [["other <b>", "Intel Core i9-10940X", "fp32"], ["features.2"]]
    assert log["hash"].startswith("#model=other+%3Cb%3E&device=Intel")
    assert "other <b> on Intel Core i9-10940X" in log["said"]
    assert log["nonsense"][0] == log["first"][0]
    assert log["nonsense"][1] == []
    assert len(log["ratio"]) == 2


@browser
@pytest.mark.parametrize(("dark", "width"), [(True, 1300), (False, 390)])
def test_dark_and_narrow(tmp_path: Path, dark: bool, width: int) -> None:
    # nothing is wider than the window, and no cell is cut
    page = render([sample(), sample("cpu")])
    log = logged(tmp_path, page, "narrow", dark=dark, width=width)
    assert log["theme"] == ("dark" if dark else "light")
    assert log["width"] == width
    assert log["wide"] <= 0
    assert log["cut"] == 0


@browser
def test_on_paper_tables_are_tables(tmp_path: Path) -> None:
    """A sheet is narrower than a tablet, and is no phone: the rules for paper, on a screen as wide as a letter's inside."""
    page = render([sample("gpu", 66, 64)])
    assert page.count("@media print") == page.count("@media screen and (max-width") == 1
    page = page.replace("@media print", "@media all").replace("@media screen and (max-width", "@media print and (max-width")
    log = logged(tmp_path, page, "paper", width=725)
    for table in ("layers", "ops"):
        lines, placed = log[table]
        assert lines > 3
        assert placed == 1
    assert log["columns"] > 8
    assert log["cut"] == []
    assert log["wide"] <= 0


@browser
@pytest.mark.parametrize("kind", ["gpu", "cpu"])
def test_names_of_marks_cover_no_other_words(tmp_path: Path, kind: Any) -> None:
    """Nor do they leave the chart."""
    log = logged(tmp_path, render([sample(kind, 66, 64)]), "names")
    assert len(log["names"]) >= 2
    assert log["covered"] == []
    assert log["outside"] == []
