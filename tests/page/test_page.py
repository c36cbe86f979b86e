"""The page, as text and in a real browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from sample import hostile, sample

from roofline.views.page import render

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next((found for name in NAMES if (found := shutil.which(name))), None)
browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")

VOID = {"meta", "link", "input", "br"}


class Tags(HTMLParser):
    """Checks that every element is closed, and gathers scripts and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.scripts = 0
        self.addresses: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href")]
        self.ids += [v or "" for k, v in attrs if k == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    tags.close()
    assert tags.open == []
    assert len(set(tags.ids)) == len(tags.ids)
    return tags


@pytest.mark.parametrize("several", [False, True])
def test_whole_and_offline(several: bool) -> None:
    page = render([sample(), sample("cpu"), sample("gpu", 2)] if several else [sample(unknown=True)])
    tags = parsed(page)
    assert tags.addresses == ["data:,"]
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page)
    assert "@import" not in page
    assert "url(#" in page
    assert tags.scripts == 3


def test_says_what_the_analysis_says() -> None:
    a = sample("gpu", unknown=True)
    page = render([a])
    assert "<title>mobilenet_v1 on NVIDIA GeForce RTX 3090 · roofline</title>" in page
    assert "570.5 M" in page
    assert "FLOPs unknown, so they are a lower bound: <b>mylib.warp</b>" in page
    assert all(f'data-path="{r.path}"' in page for r in a.layers)
    assert "510 µs" in page
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert len(data[0]["kernels"]) == 85


def test_hostile_names_are_text() -> None:
    page = render([hostile()])
    assert parsed(page).scripts == 3
    assert "<script>alert" not in page
    assert "<b>|" not in page


def test_no_analysis() -> None:
    with pytest.raises(ValueError, match="at least one"):
        render([])


def visit(tmp_path: Path, page: str, script: str = "", *, dark: bool = False, width: int = 1300) -> tuple[str, str]:
    """The DOM after the page's own script and `script` ran, and the lines that the console said."""
    assert CHROMIUM is not None
    file = tmp_path / "page.html"
    file.write_text(page.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={home}",
         f"--window-size={width},1000", "--virtual-time-budget=2000", "--enable-logging=stderr",
         *(["--blink-settings=preferredColorScheme=0"] if dark else []), "--dump-dom", file.as_uri()],
        capture_output=True, text=True, encoding="utf-8", timeout=120, check=True, env={**os.environ, "HOME": str(home)},
    )  # fmt: skip
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


@browser
@pytest.mark.parametrize("kind", ["gpu", "cpu"])
def test_chart_is_drawn_without_errors(tmp_path: Path, kind: str) -> None:
    dom, console = visit(tmp_path, render([sample(kind, 66)]))
    assert console == ""
    assert 'data-ready="true"' in dom
    assert dom.count('class="dot') > 10
    assert "DRAM" in dom.split("<svg tabindex")[1]
    assert ">whole model" in dom


@browser
def test_hostile_names_do_not_run(tmp_path: Path) -> None:
    page = render([hostile()])
    dom, console = visit(tmp_path, page, 'document.querySelector("details").open = true;')
    assert console == ""
    assert 'data-ready="true"' in dom
    assert "<script>alert" not in dom


@browser
def test_tree_search_sort_tabs_and_keys(tmp_path: Path) -> None:
    script = """
    const log = {}, section = document.querySelector("section.analysis"), $ = q => section.querySelector(q);
    const rows = () => [...section.querySelectorAll("tr[data-path]")];
    const seen = () => rows().filter(r => !r.hidden).map(r => r.dataset.path);
    log.start = seen().length;
    $("[data-do=open]").click(); log.open = seen().length;
    $("[data-do=close]").click(); log.close = seen();
    $("[data-find]").value = "features.3.depthwise.1"; $("[data-find]").dispatchEvent(new Event("input")); log.find = seen();
    $("[data-find]").value = ""; $("[data-find]").dispatchEvent(new Event("input"));
    const time = [...$(".tree-table").tHead.rows[0].cells].findIndex(c => c.textContent === "Time");
    $(".tree-table").tHead.rows[0].cells[time].querySelector("button").click();
    log.sorted = rows().map(r => [r.dataset.parent, +r.cells[time].dataset.v]);
    log.order = rows().map(r => r.dataset.path);
    const svg = $("[data-chart] svg"), key = k => svg.dispatchEvent(new KeyboardEvent("keydown", { key: k, bubbles: true }));
    key("ArrowRight"); log.tip = $(".tip").innerText; log.live = $("[aria-live]").textContent;
    key("Escape"); log.hidden = $(".tip").hidden;
    $(".pick[title='features.1']").click(); log.lit = section.querySelectorAll(".dot.lit").length;
    $("[data-class=conv]").click(); log.off = $("[data-class=conv]").getAttribute("aria-pressed");
    section.querySelector("details").open = true;
    setTimeout(() => {
      log.kernels = section.querySelectorAll("details tbody tr").length;
      document.querySelectorAll("[role=tab]")[1].click();
      log.tabs = [...document.querySelectorAll("section.analysis")].map(s => s.hidden);
      log.second = document.querySelectorAll("section.analysis")[1].querySelectorAll(".dot").length;
      document.body.dataset.log = JSON.stringify(log);
    }, 300);
    """
    a = sample("cpu")
    page = render([a, sample("gpu")])
    # every tab's chart is drawn when it is shown
    dom, console = visit(tmp_path, page, script)
    assert console == ""
    found = re.search(r'data-log="([^"]*)"', dom)
    assert found
    log = json.loads(found[1].replace("&quot;", '"').replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert log["start"] == sum(r.path.count(".") < 2 for r in a.layers if r.kernels)
    assert log["open"] == len([r for r in a.layers if r.kernels])
    assert log["close"] == ["", "features", "avgpool", "classifier"]
    assert log["find"] == ["", "features", "features.3", "features.3.depthwise", "features.3.depthwise.1"]
    siblings: dict[str, list[float]] = {}
    for parent, seconds in log["sorted"]:
        siblings.setdefault(parent, []).append(seconds)
    assert all(times == sorted(times, reverse=True) for times in siblings.values())
    # children still stand below their parents
    assert all(path == "" or path.rpartition(".")[0] in log["order"][:i] for i, path in enumerate(log["order"]))
    assert "FLOP/B" in log["tip"]
    assert "bound" in log["live"]
    assert log["hidden"] is True
    assert 0 < log["lit"] <= 6
    assert log["off"] == "false"
    assert log["kernels"] == 84
    assert log["tabs"] == [True, False]
    assert log["second"] > 10


@browser
@pytest.mark.parametrize(("dark", "width"), [(True, 1300), (False, 420)])
def test_dark_and_narrow(tmp_path: Path, dark: bool, width: int) -> None:
    # the wider of a table scrolls inside its card, never the page
    script = "document.body.dataset.wide = document.documentElement.scrollWidth - innerWidth;"
    dom, console = visit(tmp_path, render([sample(), sample("cpu")]), script, dark=dark, width=width)
    assert console == ""
    assert f'data-theme="{"dark" if dark else "light"}"' in dom
    wide = re.search(r'data-wide="(-?\d+)"', dom)
    assert wide
    assert int(wide[1]) <= 0
