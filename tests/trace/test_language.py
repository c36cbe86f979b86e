"""Prefill and decode of causal language models: against closed formulas, and torch's own counter on a real model."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from oracles import counter
from oracles import llama as equations
from torch import nn

import roofline
from roofline import compat
from roofline.errors import UsageError

transformers = pytest.importorskip("transformers")

OLD_ANGLES = compat.older(compat.version("transformers"), "5.19")
TINY = {k: v for k, v in equations.CONFIG.items() if k.endswith(("size", "layers", "heads"))} | {
    "vocab_size": 200,
    "max_position_embeddings": 4096,
}


def llama(**changes: Any) -> nn.Module:
    module: nn.Module = transformers.LlamaForCausalLM(transformers.LlamaConfig(**(TINY | changes)))
    return module


def dense(config: dict[str, Any], new: int, seen: int) -> int:
    return equations.macs(config, new, seen, transformers=compat.version("transformers"))


@pytest.mark.parametrize("tokens", [1, 7, 128])
def test_prefill_macs_by_the_closed_formula(tokens: int) -> None:
    a = roofline.analyze(llama(), device="t4", prefill=tokens)
    assert a.totals.macs == dense(TINY, tokens, tokens)
    assert a.language is not None
    assert (a.language.mode, a.language.tokens, a.language.context) == ("prefill", tokens, tokens)
    assert a.language.asked == {"prefill": tokens}
    assert a.setting.optimizer == ""


@pytest.mark.parametrize("past", [1, 100, 1000])
def test_decode_macs_and_cache_by_the_closed_formula(past: int) -> None:
    a = roofline.analyze(llama(), device="t4", decode=past)
    assert a.totals.macs == dense(TINY, 1, past + 1)
    info = a.language
    assert info is not None
    assert info.asked == {"decode": past}
    token = 2 * 3 * 2 * 8 * 4  # keys and values, layers, heads, width, bytes
    assert info.cache_bytes_per_token == info.cache_written_bytes == token
    assert info.cache_bytes == info.cache_read_bytes == (past + 1) * token
    assert a.totals.peak_memory["kv_cache"] == info.cache_bytes
    # every weight but the embedding table, of which one row; norms are weights too
    table = 4 * TINY["vocab_size"] * 64
    assert info.weight_bytes == pytest.approx(a.model.param_bytes - table + 4 * 64, rel=0.01)
    assert a.totals.weight_bytes == info.weight_bytes


def test_sequences_side_by_side() -> None:
    one, four = (roofline.analyze(llama(), device="t4", decode=64, batch=n) for n in (1, 4))
    assert one.language is not None
    assert four.language is not None
    shared = 4 if OLD_ANGLES else 0
    assert four.totals.macs - shared == 4 * (one.totals.macs - shared)
    assert four.language.macs_per_token == one.language.macs_per_token - (3 if OLD_ANGLES else 0)
    assert four.language.weight_bytes == pytest.approx(one.language.weight_bytes, rel=0.02)
    assert four.language.cache_read_bytes == 4 * one.language.cache_read_bytes


def test_half_precision_halves_weights_and_cache() -> None:
    full, half = (roofline.analyze(llama(), device="t4", decode=64, dtype=d).language for d in ("fp32", "fp16"))
    assert full is not None
    assert half is not None
    assert full.cache_bytes == 2 * half.cache_bytes


@pytest.mark.parametrize("kind", ["LlamaForCausalLM", "GPT2LMHeadModel", "GPTNeoXForCausalLM", "MixtralForCausalLM"])
@pytest.mark.parametrize("past", [0, 9])
def test_macs_equal_torchs_counter_on_a_real_model(kind: str, past: int) -> None:
    """transformers' own cache, on real tensors, under torch's FlopCounterMode."""
    config = getattr(transformers, kind).config_class(
        **TINY | {"num_key_value_heads": 8, "n_embd": 64, "n_layer": 3, "n_head": 8}
    )
    config._attn_implementation = "eager"  # plain matmuls, which the counter sees on every device
    config._experts_implementation = "eager"
    torch.manual_seed(0)
    model = getattr(transformers, kind)(config).eval()
    # 5.24 renamed it
    name = "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"
    cache = {name: transformers.DynamicCache(config=config)}
    new = 1 if past else 6
    with torch.no_grad():
        if past:
            model(torch.zeros(1, past, dtype=torch.int64), **cache)
        counted = counter.flops(lambda: model(torch.ones(1, new, dtype=torch.int64), **cache, logits_to_keep=1))
    config._experts_implementation = "grouped_mm"
    ours = roofline.analyze(model, device="t4", **({"decode": past} if past else {"prefill": new}))
    assert 2 * ours.totals.macs == counted


def test_mixture_of_experts_counts_the_active_ones() -> None:
    config = transformers.MixtralConfig(**TINY, num_local_experts=8, num_experts_per_tok=2)
    module = transformers.MixtralForCausalLM(config)
    one = roofline.analyze(module, device="t4", decode=16)
    attention = 2 * 64 * 64 + 2 * 64 * 16 + 2 * 17 * 64
    experts = 2 * 3 * 64 * 96
    assert one.totals.macs == 3 * (attention + 64 * 8 + experts) + 64 * 200 + (4 if OLD_ANGLES else 0)
    grouped = [k for k in one.kernels if k.op == "_grouped_mm"]
    assert sum(k.weight_bytes for k in grouped) == 3 * 2 * 3 * 64 * 96 * 4  # two of eight experts
    many = roofline.analyze(module, device="t4", prefill=64)
    grouped = [k for k in many.kernels if k.op == "_grouped_mm"]
    assert sum(k.macs for k in grouped) == 3 * 64 * experts
    assert sum(k.weight_bytes for k in grouped) == 3 * 8 * 3 * 64 * 96 * 4  # all of them, once


def test_a_sliding_window_bounds_the_cache() -> None:
    config = transformers.MistralConfig(**TINY, sliding_window=32)
    module = transformers.MistralForCausalLM(config)
    token = 2 * 3 * 2 * 8 * 4
    for past, kept in ((10, 10), (31, 31), (500, 31)):
        info = roofline.analyze(module, device="t4", decode=past).language
        assert info is not None
        assert info.cache_bytes == (kept + 1) * token
    info = roofline.analyze(module, device="t4", prefill=100).language
    assert info is not None
    assert info.cache_bytes == 31 * token


def test_the_model_is_left_as_it_was_found() -> None:
    module = llama()
    before = {k: id(v) for k, v in module.state_dict(keep_vars=True).items()}
    first, second = (roofline.analyze(module, device="t4", decode=32) for _ in range(2))
    assert first == second
    assert {k: id(v) for k, v in module.state_dict(keep_vars=True).items()} == before


@pytest.mark.parametrize(
    "module", [nn.Linear(2, 2), transformers.BertModel(transformers.BertConfig(num_hidden_layers=1, hidden_size=48))]
)
def test_what_is_no_language_model_says_so(module: nn.Module) -> None:
    with pytest.raises(UsageError, match=r"is not a causal language model of transformers with a KV cache, which decode needs"):
        roofline.analyze(module, device="t4", decode=8)


def test_a_context_beyond_the_positions_is_noted() -> None:
    a = roofline.analyze(llama(max_position_embeddings=16), device="t4", prefill=20)
    assert any("20 tokens are more than the 16 positions" in n for n in a.notes)


_SEVENTY = """
import json, resource, sys, time
import torch, transformers
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
import roofline
seconds, macs = [], []
# imports are not what is timed: one layer first
roofline.analyze("hf:" + sys.argv[1], device="h100-sxm", cache=False, prefill=8, settings={"num_hidden_layers": "1"})
for kwargs in ({"prefill": 2048}, {"decode": 8192}):
    start = time.process_time()
    a = roofline.analyze("hf:" + sys.argv[1], device="h100-sxm", dtype="bf16", cache=False, **kwargs)
    seconds.append(time.process_time() - start)
    macs.append(a.totals.macs)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([seconds, macs, (peak - base) / 1024]))
"""


@pytest.mark.slow
def test_seventy_billion_parameters_in_seconds_and_little_memory(tmp_path: Path) -> None:
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", _SEVENTY, str(path)], capture_output=True, text=True, check=True)
    seconds, macs, mebibytes = json.loads(done.stdout.splitlines()[-1])
    assert macs == [dense(config, 2048, 2048), dense(config, 1, 8193)]
    assert max(seconds) < 5
    assert mebibytes < 400


@pytest.mark.parametrize("runtime", ["eager", "ideal", "compiled"])
def test_every_runtime_reads_the_cache_once(runtime: str) -> None:
    info = roofline.analyze(llama(), device="t4", decode=100, runtime=runtime).language
    assert info is not None
    token = 2 * 3 * 2 * 8 * 4
    assert (info.cache_read_bytes, info.cache_written_bytes) == (101 * token, token)


_SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "vocab_size": 50,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 48,
}
# layers that keep a state, alone or among layers of attention
RECURRENT: dict[str, dict[str, Any]] = {
    "MambaForCausalLM": {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 50, "state_size": 4},
    "Mamba2ForCausalLM": {
        "hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 50, "state_size": 4, "num_heads": 8, "head_dim": 8,
        "n_groups": 2,
    },
    "JambaForCausalLM": {
        "mamba_d_state": 4, "attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 1, "use_mamba_kernels": False,
    },
    "Lfm2ForCausalLM": {"layer_types": ["conv", "full_attention"]},
    "Qwen3NextForCausalLM": {
        "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2,
        "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
        "layer_types": ["linear_attention", "full_attention"],
    },
    "BambaForCausalLM": {
        "mamba_d_state": 4, "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_expand": 2, "attn_layer_indices": [1],
    },
    "FalconH1ForCausalLM": {"mamba_d_state": 4, "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_ssm": 64},
}  # fmt: skip


def held(cache: Any) -> list[int]:
    """Bytes of what each layer of transformers' cache keeps: [states, keys and values]."""
    found = [0, 0]
    for layer in cache.layers:
        for name in ("conv_states", "recurrent_states", "keys", "values"):
            value = getattr(layer, name, None)
            tensors = value.values() if isinstance(value, dict) else [value]
            found[name in ("keys", "values")] += sum(t.nbytes for t in tensors if isinstance(t, torch.Tensor))
    return found


@pytest.mark.parametrize("kind", RECURRENT)
@pytest.mark.parametrize("past", [1, 9])
def test_decode_of_recurrent_layers_is_that_of_a_real_model(kind: str, past: int) -> None:
    """The state that a prompt leaves: its size, and the MACs of the token after it by torch's counter."""
    cls = getattr(transformers, kind)
    config = cls.config_class(**(RECURRENT[kind] if kind.startswith("Mamba") else _SMALL | RECURRENT[kind]))
    config._attn_implementation = config._experts_implementation = "eager"
    torch.manual_seed(0)
    model = cls(config).eval()
    takes = inspect.signature(model.forward).parameters
    cache = transformers.DynamicCache(config=config)
    given = {compat.cache_argument(takes): cache, "use_cache": True} | (
        {"logits_to_keep": 1} if "logits_to_keep" in takes else {}
    )
    with torch.no_grad():
        model(torch.zeros(1, past, dtype=torch.int64), **given)
        states, before = held(cache)
        counted = counter.flops(lambda: model(torch.ones(1, 1, dtype=torch.int64), **given))
    config._experts_implementation = "grouped_mm"
    a = roofline.analyze(model, device="t4", decode=past)
    assert 2 * a.totals.macs == counted
    assert a.language is not None
    token = before // past
    assert a.language.cache_bytes == a.totals.peak_memory["kv_cache"] == states + before + token
    assert a.language.cache_written_bytes == states + token
    # older releases of transformers roll a state before they use it
    again = a.language.cache_read_bytes - (states + before + token)
    assert again > 0 if OLD_ANGLES and kind != "Qwen3NextForCausalLM" else again == 0
    assert a.language.cache_bytes_per_token == token


@pytest.mark.parametrize(
    ("kind", "own"),
    [
        (
            "MiniMaxForCausalLM",
            {"layer_types": ["linear_attention", "full_attention"], "num_local_experts": 4, "block_size": 8},
        ),
        ("RwkvForCausalLM", {"attention_hidden_size": 32}),
    ],
)
def test_a_cache_of_the_models_own(kind: str, own: dict[str, Any]) -> None:
    """A cache class that only this model has, and states that are handed on as they are."""
    cls = getattr(transformers, kind)
    config = cls.config_class(
        **({"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 50} if "Rwkv" in kind else _SMALL) | own
    )
    config._attn_implementation = config._experts_implementation = "eager"
    torch.manual_seed(0)
    model = cls(config).eval()
    takes = compat.cache_argument(inspect.signature(model.forward).parameters)
    with torch.no_grad():
        first = model(torch.zeros(1, 5, dtype=torch.int64), use_cache=True)
        given = {takes: getattr(first, takes), "use_cache": True}
        counted = counter.flops(lambda: model(torch.ones(1, 1, dtype=torch.int64), **given))
    config._experts_implementation = "grouped_mm"
    a = roofline.analyze(model, device="t4", decode=5)
    assert 2 * a.totals.macs == counted
    assert roofline.analyze(model, device="t4", prefill=5).totals.macs > 0


def test_states_alone_have_prefill_and_decode() -> None:
    """Bamba asks a cache without keys for its length, which transformers refuses; its states are there all the same."""
    small = _SMALL | RECURRENT["BambaForCausalLM"] | {"attn_layer_indices": []}
    model = transformers.BambaForCausalLM(transformers.BambaConfig(**small)).eval()
    short, long = (roofline.analyze(model, device="t4", decode=past).totals.macs for past in (5, 500))
    assert short == long < roofline.analyze(model, device="t4", prefill=5).totals.macs
