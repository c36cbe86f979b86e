"""Other people's packages that are missing, too old, or do not go together: one line that says which, and what to do."""

from __future__ import annotations

import inspect
import re
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import roofline
from roofline import compat
from roofline.errors import SourceError, UsageError

REPO = Path(__file__).resolve().parent.parent.parent
RunCli = Callable[..., "subprocess.CompletedProcess[str]"]


def fake(folder: Path, package: str, **files: str) -> dict[str, str]:
    """A package that shadows the installed one; returns the environment in which it does."""
    for name, text in files.items():
        path = folder / package / f"{name.replace('__', '/') if not name.startswith('__') else name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return {"PYTHONPATH": f"{folder}:{REPO}", "PYTHONDONTWRITEBYTECODE": "1"}


def without(folder: Path, *packages: str) -> dict[str, str]:
    """An environment in which packages are not installed."""
    lines = "".join(f"sys.modules[{name!r}] = None\n" for name in packages)
    (folder / "sitecustomize.py").write_text(f"import sys\n{lines}", encoding="utf-8")
    return {"PYTHONPATH": f"{folder}:{REPO}"}


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 3
    return done.stderr


def test_the_floors_are_those_of_the_project() -> None:
    project = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    declared = {name: floor for group in groups for name, _, floor in (entry.partition(">=") for entry in group)}
    assert {name: declared[name] for name in compat.FLOORS} == compat.FLOORS


@pytest.mark.parametrize(
    ("met", "floor", "old"),
    [
        ("2.8.0", "2.9", True),
        ("2.9.0a0+git12", "2.9", False),
        ("2.9", "2.9", False),
        ("2.10.1+cpu", "2.9", False),
        ("2", "2.9", True),
        ("1.0.15", "1.0.16", True),
        ("1.1", "1.0.16", False),
        ("4.57.6", "5.5", True),
        ("unknown", "5.5", False),
        ("5.5.0.dev0", "5.5", False),
    ],
)
def test_versions_are_compared_as_numbers(met: str, floor: str, old: bool) -> None:
    assert compat.older(met, floor) is old


def test_transformers_too_old(tmp_path: Path, run_cli: RunCli) -> None:
    place = fake(tmp_path, "transformers", __init__='__version__ = "4.48.0"\nraise RuntimeError("not to be imported")\n')
    for asked in (["--decode", "8"], ["--prefill", "8"], []):
        error = refused(run_cli("analyze", "hf:LlamaForCausalLM", *asked, "--no-cache", env=place))
        assert "transformers 5.5 or newer is needed, 4.48.0 is installed: pip install -U transformers" in error


@pytest.mark.parametrize(
    ("package", "model", "met"),
    [
        ("timm", "timm:vit_tiny_patch16_224", "1.0.9"),
        ("onnx", "net.onnx", "1.12.0"),
        ("torchvision", "torchvision:swin_t", "0.20.1"),
    ],
)
def test_other_packages_too_old(package: str, model: str, met: str, tmp_path: Path, run_cli: RunCli) -> None:
    place = fake(tmp_path, package, __init__=f'__version__ = "{met}"\n')
    (tmp_path / "net.onnx").write_bytes(b"")
    error = refused(run_cli("analyze", model, "--no-cache", cwd=tmp_path, env=place))
    assert f"{package} {compat.FLOORS[package]} or newer is needed, {met} is installed: pip install -U {package}" in error


@pytest.mark.parametrize(
    ("package", "model"),
    [
        ("timm", "timm:vit_tiny_patch16_224"),
        ("onnx", "net.onnx"),
        ("torchvision", "torchvision:swin_t"),
        ("transformers", "hf:BertModel"),
    ],
)
def test_packages_that_are_missing(package: str, model: str, tmp_path: Path, run_cli: RunCli) -> None:
    (tmp_path / "net.onnx").write_bytes(b"")
    error = refused(run_cli("analyze", model, cwd=tmp_path, env=without(tmp_path, package)))
    assert f"needs the package {package}, which is not installed: pip install {package}\n" in error
    assert "roofline[" not in error  # the name is not ours on the index


def test_a_bare_name_says_which_packages_would_know_more(tmp_path: Path, run_cli: RunCli) -> None:
    error = refused(run_cli("analyze", "swin_t", env=without(tmp_path, "torchvision", "timm")))
    assert "unknown model 'swin_t'" in error
    assert "pip install torchvision timm" in error
    assert "pip install" not in refused(run_cli("analyze", "swin_q"))


def test_a_table_of_timm_models_without_timm(tmp_path: Path, run_cli: RunCli) -> None:
    table = tmp_path / "times.csv"
    head = "model,infer_samples_per_sec,infer_step_time,infer_batch_size,infer_img_size\n"
    table.write_text(head + "vit_tiny_patch16_224,1000,256,256,224\n", encoding="utf-8")
    done = run_cli("validate", str(table), "-d", "rtx-3090", cwd=tmp_path, env=without(tmp_path, "timm", "torchvision"))
    assert done.returncode == 2, done.stdout + done.stderr
    assert re.search("pip install (torchvision )?timm", done.stdout + done.stderr)
    assert "Traceback" not in done.stderr


def test_builds_that_do_not_belong_together(tmp_path: Path, run_cli: RunCli) -> None:
    """As a torchvision for CUDA beside a torch for the CPU fails."""
    place = fake(
        tmp_path,
        "torchvision",
        __init__='raise RuntimeError("operator torchvision::nms does not exist")\n',
        version='__version__ = "0.29.1+cu130"\n',
        models__swin="\n@register_model()\ndef swin_t():\n    pass\n",
    )
    error = refused(run_cli("analyze", "torchvision:swin_t", "--no-cache", env=place))
    assert f"torchvision cannot be imported (torchvision 0.29.1+cu130, torch {torch.__version__})" in error
    assert "operator torchvision::nms does not exist" in error
    assert "pip install -U torch torchvision" in error


def test_torch_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat, "version", {"torch": "2.6.0+cu124"}.get)
    words = "torch 2.9 or newer is needed, 2.6.0+cu124 is installed: pip install -U torch"
    with pytest.raises(UsageError, match=re.escape(words)):
        roofline.analyze(nn.Linear(2, 2), inputs=("1,2",), device="t4", cache=False)


@pytest.mark.parametrize(
    ("names", "found"),
    [(["ids", "cache", "use_cache"], "cache"), (["ids", "past_key_values"], "past_key_values"), (["ids", "states"], "")],
)
def test_the_cache_goes_in_under_the_name_that_is_there(names: list[str], found: str) -> None:
    assert compat.cache_argument(dict.fromkeys(names)) == found


def test_a_decoder_under_either_spelling() -> None:
    """The installed transformers has one of the names; a model with the other is the same to us."""
    transformers = pytest.importorskip("transformers")

    class Other(transformers.LlamaForCausalLM):
        if "cache" in inspect.signature(transformers.LlamaForCausalLM.forward).parameters:

            def forward(self, input_ids=None, past_key_values=None, use_cache=None, logits_to_keep=0):
                return super().forward(input_ids, cache=past_key_values, use_cache=use_cache, logits_to_keep=logits_to_keep)
        else:

            def forward(self, input_ids=None, cache=None, use_cache=None, logits_to_keep=0):
                return super().forward(input_ids, past_key_values=cache, use_cache=use_cache, logits_to_keep=logits_to_keep)

    config = transformers.LlamaConfig(
        hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=8, num_key_value_heads=2, vocab_size=200
    )
    one, two = (roofline.analyze(cls(config), device="t4", decode=9) for cls in (transformers.LlamaForCausalLM, Other))
    assert one.totals.macs == two.totals.macs
    assert one.totals.kernels == two.totals.kernels


def test_a_cache_of_another_kind_names_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers")
    monkeypatch.setattr(transformers, "DynamicCache", lambda config: SimpleNamespace())
    with pytest.raises(SourceError, match=rf"transformers {re.escape(transformers.__version__)} is not known here: its cache"):
        compat.growing_cache(object())
