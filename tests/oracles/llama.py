"""Llama by its equations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# a small one, as a configuration file would have it
CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
}


def _widths(config: Mapping[str, Any]) -> tuple[int, int]:
    """Of the model, and of its keys."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    return hidden, hidden // heads * config["num_key_value_heads"]


def macs(config: Mapping[str, Any], new: int, seen: int, *, sequences: int = 1, logits: int = 1, transformers: str) -> int:
    """`new` tokens of each sequence, attention over `seen` positions, logits of so many of them.

    Below transformers 5.19 the angles of rotary embeddings are a product: one for each token and half the width of a head.
    """
    h, kv = _widths(config)
    layer = new * (2 * h * h + 2 * h * kv + 3 * h * config["intermediate_size"]) + 2 * new * seen * h
    each: int = config["num_hidden_layers"] * layer + logits * h * config["vocab_size"]
    old = tuple(map(int, transformers.split(".")[:2])) < (5, 19)
    angles: int = new * (h // config["num_attention_heads"] // 2) if old else 0
    return sequences * each + angles


def params(config: Mapping[str, Any]) -> int:
    """Without ties: the table and the head, and of each layer its products and two norms."""
    h, kv = _widths(config)
    layer = 2 * h * h + 2 * h * kv + 3 * h * config["intermediate_size"] + 2 * h
    found: int = 2 * config["vocab_size"] * h + config["num_hidden_layers"] * layer + h
    return found
