"""`--training`, `--optimizer`, `--prefill` and `--decode` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

from conftest import RunCli

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
    config = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 100,
    }  # fmt: skip
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    done = run_cli("analyze", f"hf:{path}", "-d", "t4", "--decode", "100", "-b", "3", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["language"]
    assert found["mode"] == "decode"
    assert (found["sequences"], found["tokens"], found["context"]) == (3, 3, 101)
    # below transformers 5.19 the angles of rotary embeddings are a product of 4, shared by the 3 tokens
    angles = 4 // 3 if compat.older(compat.version("transformers"), "5.19") else 0
    assert found["macs_per_token"] == 2 * (2 * 64 * 64 + 2 * 64 * 16 + 3 * 64 * 96 + 2 * 101 * 64) + 64 * 100 + angles


def test_two_passes_at_once_are_refused(run_cli: RunCli) -> None:
    done = run_cli("analyze", "mobilenet_v3_small", "-d", "t4", "--prefill", "8", "--training")
    assert done.returncode == 2
    assert "three different passes" in done.stderr


def test_a_vision_model_has_no_prefill(run_cli: RunCli) -> None:
    done = run_cli("analyze", "mobilenet_v3_small", "-d", "t4", "--prefill", "8", "--no-cache")
    assert done.returncode == 2
    assert "is not a causal language model of transformers" in done.stderr
