"""Pages in a real browser: what tests of pages share."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from roofline.views.page import library

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next((found for name in NAMES if (found := shutil.which(name))), None)
browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")

# Deque's axe-core, which looks for what keeps people from using a page
_AXE = (
    Path(os.environ.get("AXE_CORE", "none")),
    *(
        Path(path) / "axe.min.js"
        for name in ("axe_playwright_python", "axe_core_python")
        if (spec := find_spec(name))
        for path in spec.submodule_search_locations or ()
    ),
)
AXE = next((path for path in _AXE if path.is_file()), None)

REPO = Path(__file__).parents[1]
SCRIPTS = Path(__file__).parent / "page" / "scripts"
VOID = {"meta", "link", "input", "br"}


# A window is never narrower than this, and a page in a frame of one is: its DOM then takes the place of the one around it.
LEAST_WINDOW = 500
FRAMED = """<!doctype html><body><iframe src="{page}" style="border:0;width:{width}px;height:990px"></iframe><script>
const wait = setInterval(() => {{
  const inner = document.querySelector("iframe")?.contentDocument;
  if (inner?.documentElement?.dataset.ready !== "true" || ("{told}" === "log" && !inner.body.dataset.log)) return;
  clearInterval(wait);
  document.replaceChild(document.importNode(inner.documentElement, true), document.documentElement);
}}, 50);
</script></body>"""


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


def own(page: str) -> str:
    """The page without the charting library, which is not ours."""
    return page.replace(str(library()), "")


def embedded(page: str) -> dict[str, Any]:
    """The data that a page holds."""
    found: dict[str, Any] = json.loads(page.split('id="data">')[1].split("</script>")[0])
    return found


def visit(
    tmp_path: Path, page: str, script: str = "", *, dark: bool = False, width: int = 1300, wait: bool = True
) -> tuple[str, str]:
    """The DOM after the page's own script and `script` ran, and the lines that the console said.

    The browser's clock runs as fast as it can while it waits for what comes later; without `wait` it is that of the wall.
    """
    assert CHROMIUM is not None
    file = tmp_path / "page.html"
    head, _, tail = page.rpartition("</body>")
    file.write_text(f"{head}<script>{script}</script></body>{tail}", encoding="utf-8")
    if width < LEAST_WINDOW:
        framed = tmp_path / "framed.html"
        framed.write_text(FRAMED.format(width=width, page=file.name, told="log" if script else "none"), encoding="utf-8")
        file = framed
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            f"--user-data-dir={home}",
            f"--window-size={max(width, LEAST_WINDOW)},1000",
            *(["--allow-file-access-from-files"] if width < LEAST_WINDOW else []),
            "--enable-logging=stderr",
            *(["--virtual-time-budget=2000"] if wait else []),
            *(["--blink-settings=preferredColorScheme=0"] if dark else []),
            "--dump-dom",
            file.as_uri(),
        ],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=True,
        env={**os.environ, "HOME": str(home)},
    )
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


def ready_s(tmp_path: Path, page: str, limit: float) -> float:
    """Seconds from the opening of a file to a page that answers, by the browser's own clock, as on a machine that does nothing
    else: divided by how many wait for each core. The first of five tries below the limit, else the shortest."""
    found = []
    for _ in range(5):
        script = "document.body.dataset.log = JSON.stringify([performance.now(), document.documentElement.dataset.ready]);"
        dom, console = visit(tmp_path, page, script, wait=False)
        assert console == "", console
        milliseconds, ready = json.loads(html.unescape(dom.split('data-log="')[1].split('"')[0]))
        assert ready == "true"
        found.append(milliseconds / 1e3 / max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)))
        if found[-1] < limit:
            break
    return min(found)


def logged(tmp_path: Path, page: str, name: str, *, dark: bool = False, width: int = 1300, **given: str) -> dict[str, Any]:
    """What scripts/NAME.js put into `log`, with `given` as constants. Nothing was said on the console: no error, and no
    request, since the page's policy would have refused it there."""
    helpers, script = ((SCRIPTS / f"{file}.js").read_text(encoding="utf-8") for file in ("helpers", name))
    constants = "".join(f"const {key} = {json.dumps(value)};" for key, value in given.items())
    wrapped = f"(async () => {{ const log = {{}};\n{script}\ndocument.body.dataset.log = JSON.stringify(log); }})();"
    dom, console = visit(tmp_path, page, helpers + constants + wrapped, dark=dark, width=width)
    assert console == "", console
    assert 'data-ready="true"' in dom
    found = re.search(r'data-log="([^"]*)"', dom)
    assert found
    log: dict[str, Any] = json.loads(html.unescape(found[1]))
    return log


def accessible(tmp_path: Path, page: str, width: int = 1300) -> list[Any]:
    """What axe-core finds that is serious, on light paper and on dark; skips where it is not here."""
    if AXE is None:
        pytest.skip("axe-core is not here: pip install axe-core-python, or AXE_CORE=axe.min.js")
    code = AXE.read_text(encoding="utf-8").replace("</script", "<\\/script")
    head, _, tail = page.rpartition("</body>")
    log = logged(tmp_path, f"{head}<script>{code}</script></body>{tail}", "axe", width=width)
    assert sorted(log["papers"]) == ["dark", "light"]
    found: list[Any] = log["violations"]
    return found
