"""What needs no trace answers without torch: proved in processes of their own, by what they imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

# what only a trace, a chart, a page or a report of a check may import; `http` comes with xml.sax and is a tenth of a start
HEAVY = ("torch", "torchvision", "timm", "transformers", "fvcore", "matplotlib", "jinja2", "numpy", "http")

PROBE = """
import sys
from roofline.cli import main
code = main()
print("IMPORTED", *sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
sys.exit(code)
"""


def heavy_imports(*args: str, cwd: Path | None = None, heavy: tuple[str, ...] = HEAVY) -> set[str]:
    """Run the program on `args` and return those of the heavy packages that it imported."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *args], cwd=cwd, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr
    imported = next(line for line in done.stderr.splitlines() if line.startswith("IMPORTED"))
    return set(heavy) & set(imported.split())


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An analysis as JSON; making it also fills the cache of this session."""
    path = tmp_path_factory.mktemp("startup") / "head.json"
    done = subprocess.run(
        [sys.executable, "-m", "roofline", "analyze", "mobilenet_v3_small", "--device", "rtx-4090", "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    path.write_text(done.stdout, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "module",
    [
        "roofline",
        "roofline.records",
        "roofline.units",
        "roofline.devices.device",
        "roofline.cost",
        "roofline.kernels.build",
        "roofline.timemodel.roof",
        "roofline.analysis.summary",
        "roofline.analysis.budgets",
        "roofline.cache.store",
        "roofline.cli",
        "roofline.cli.app",
    ],
)
def test_module_imports_without_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit(' '.join(set({HEAVY!r}) & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, f"importing {module} brings in {done.stderr}"


@pytest.mark.parametrize("args", ["devices", "devices t4"])
def test_a_list_of_devices_holds_neither_openssl_nor_limits(args: str) -> None:
    """Which hashlib and the verdicts of budgets bring: together a sixth of the memory that it takes."""
    assert heavy_imports(*args.split(), heavy=("_hashlib", "fractions")) == set()


@pytest.mark.parametrize(
    "args",
    ["--help", "--version", "analyze --help", "devices", "devices t4", "models", "models mobilenet", "cache info"],
)
def test_lookup_commands_do_not_import_torch(args: str) -> None:
    assert heavy_imports(*args.split()) == set()


@pytest.mark.parametrize("more", ["--json", "--by op"])
def test_a_cached_analysis_does_not_import_torch(more: str, document: Path) -> None:
    assert heavy_imports("analyze", "mobilenet_v3_small", "--device", "rtx-4090", *more.split()) == set()


def test_a_cached_explanation_does_not_import_torch(document: Path) -> None:
    """Nor do the analyses that its answers rest on."""
    asked = ("explain", "mobilenet_v3_small", "--device", "rtx-4090", "--device", "i9-10940x")
    subprocess.run([sys.executable, "-m", "roofline", *asked], capture_output=True, check=True, timeout=240)
    assert heavy_imports(*asked) == set()


def test_a_cached_trace_serves_another_device_without_torch(document: Path) -> None:
    assert heavy_imports("analyze", "mobilenet_v3_small", "--device", "t4", "--json") == set()


def test_diff_of_documents_does_not_import_torch(document: Path) -> None:
    assert heavy_imports("diff", str(document), str(document)) == set()


@pytest.mark.parametrize("what", ['model = "mobilenet_v3_small"\ndevice = "rtx-4090"', "analysis = DOCUMENT"])
def test_check_of_a_cached_model_does_not_import_torch(what: str, document: Path, tmp_path: Path) -> None:
    budget = tmp_path / "roofline.toml"
    lines = what.replace("DOCUMENT", json.dumps(str(document)))
    budget.write_text(f'[[budget]]\n{lines}\nmax_params = "3 M"\n', encoding="utf-8")
    assert heavy_imports("check", str(budget)) == set()
