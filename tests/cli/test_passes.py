"""`--training`, `--optimizer`, `--prefill` and `--decode` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

from conftest import RunCli
from oracles import llama

from roofline import compat


def test_training_step_is_cached_apart_from_inference(run_cli: RunCli, cache_dir: Path) -> None:
    seen = []
    for flags in ((), ("--training",), ("--training", "--optimizer", "sgd"), ("--training",)):
        done = run_cli("analyze", "mobilenet_v3_small", "-d", "t4", "--json", *flags)
        assert done.returncode == 0, done.stderr
        seen.append(json.loads(done.stdout))
    plain, adam, sgd, again = seen
    assert [s["setting"]["mode"] for s in seen] == ["inference", "training", "training", "training"]
    assert again == adam
    assert plain["totals"]["macs"] * 2.5 < adam["totals"]["macs"] < plain["totals"]["macs"] * 3
    assert adam["totals"]["macs"] == sgd["totals"]["macs"]
    memory = [s["totals"]["peak_memory"].get("optimizer_state", 0) for s in seen]
    assert memory[1] > 2 * memory[2] - 10 > memory[0] == 0


def test_decode_of_a_local_configuration(run_cli: RunCli, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(llama.CONFIG), encoding="utf-8")
    done = run_cli("analyze", f"hf:{path}", "-d", "t4", "--decode", "100", "-b", "3", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["language"]
    assert found["mode"] == "decode"
    assert (found["sequences"], found["tokens"], found["context"]) == (3, 3, 101)
    # of all three, a token of each
    macs = llama.macs(llama.CONFIG, 1, 101, sequences=3, transformers=compat.version("transformers"))
    assert found["macs_per_token"] == macs // 3
