"""What a model costs does not hang on the versions that are installed: totals of many small models, held in a file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "golden"))

import totals


@pytest.mark.filterwarnings("ignore:.*nested tensors is in prototype")
@pytest.mark.parametrize("name", totals.names())
def test_totals_are_those_of_every_version(name: str) -> None:
    table = totals.known()
    for what, found in totals.totals(name):
        assert found == totals.expected(table, name, what), f"{name}, {what}: `python tests/golden/totals.py` compares all"


# The encoder's training pass calls a kernel of torch that is written in Python, which imports torch._dynamo at its first call
STATES = {
    "fresh": "assert not {'torch._dynamo', 'torch._inductor'} & sys.modules.keys()",
    "imported": "import torch._decomp, torch._refs, torch._inductor.decomposition, torch._dynamo",
    "settings": "import torch; torch.set_grad_enabled(False); torch.backends.mha.set_fastpath_enabled(False)",
}
SCRIPT = """
import json, sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, sys.argv[1])
import totals
{state}
names = ["encoder", "causal"] + [n for n in totals.names() if n == "LlamaForCausalLM"]
print(json.dumps([[name, *found] for name in names + names[:1] for found in totals.totals(name)]))
"""


def test_totals_do_not_hang_on_what_the_process_did_before() -> None:
    """Each state in a process of its own; the first model is counted once more at the end."""
    found: dict[str, list[Any]] = {}
    for state, line in STATES.items():
        command = [sys.executable, "-c", SCRIPT.format(state=line), str(Path(totals.__file__).parent)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-800:]
        found[state] = json.loads(done.stdout)
    assert len(found["fresh"]) >= 4 * 3
    assert found["imported"] == found["settings"] == found["fresh"]
    again = len(totals.PASSES)
    assert found["fresh"][-again:] == found["fresh"][:again]


def test_a_difference_says_where_and_why() -> None:
    for entry in totals.known()["differs"]:
        assert set(entry) == {"model", "passes", "where", "add", "why"}
        assert entry["where"].keys() <= {"torch", "transformers"}
        assert len(entry["why"]) > 20
        assert set(entry["passes"]) <= totals.known()["totals"][entry["model"]].keys()


def test_a_difference_counts_under_its_versions_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {
        "totals": {"net": {"inference": {"kernels": 3, "flops": 10}}},
        "differs": [{"model": "net", "passes": ["inference"], "where": {"torch": "<2.14"}, "add": {"flops": 5}, "why": ""}],
    }
    for met, flops in (("2.9.1+cu128", 15), ("2.13.0", 15), ("2.14.0", 10), ("2.15.0+cpu", 10)):
        monkeypatch.setattr(totals.compat, "version", lambda package, met=met: met)
        assert totals.expected(table, "net", "inference") == {"kernels": 3, "flops": flops}
