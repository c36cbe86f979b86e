"""Weights that a configuration says are quantised: the bytes that are stored, and what is computed of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from roofline import Analysis, analyze, compat
from roofline.analysis.explain import facts
from roofline.errors import SourceError

pytest.importorskip("transformers")

# transformers below 5.19 makes the angles of its positions by a product, of 32 numbers a token here, in fp32
OLD_ANGLES = compat.older(compat.version("transformers"), "5.19")
LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 1000,
    "dtype": "bfloat16",
}
# the linear layers [o, i] of a block; embedding and output layer (1000 x 256) and three norms stay in bf16
LAYERS = [(256, 256)] * 4 + [(512, 256)] * 2 + [(256, 512)]
REST = 2 * (2 * 1000 * 256 + 3 * 256)


def on(folder: Path, table: Any, *inputs: str, base: dict[str, Any] = LLAMA, **options: Any) -> Analysis:
    (folder / "config.json").write_text(json.dumps(base | {"quantization_config": table}), encoding="utf-8")
    return analyze(f"hf:{folder}", inputs=list(inputs), device="rtx-4090", cache=False, **options)


# quantization_config; bytes that a layer [o, i] takes; kernels for a layer of 64 rows: "once" or apart
FORMATS: dict[str, tuple[dict[str, Any], Any, bool]] = {
    # half a byte a weight, for 128 of them an fp16 scale and a zero point of half a byte; an int32 for each of i
    "gptq": ({"quant_method": "gptq", "bits": 4}, lambda o, i: o * i // 2 + o * i // 128 * 5 // 2 + 4 * i, False),
    "gptq 8": ({"quant_method": "gptq", "bits": 8, "group_size": -1}, lambda o, i: o * i + 3 * o + 4 * i, False),
    "awq": ({"quant_method": "awq", "bits": 4, "group_size": 64}, lambda o, i: o * i // 2 + o * i // 64 * 5 // 2, True),
    "bitsandbytes 8": ({"load_in_8bit": True}, lambda o, i: o * i + 4 * o, True),
    "bitsandbytes 4": ({"load_in_4bit": True}, lambda o, i: o * i // 2 + 4 * o * i // 64, False),
    # the scales in a byte each, an fp32 for 256 of them (o * i / 64 is a multiple here) and an offset
    "nested": (
        {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_use_double_quant": True},
        lambda o, i: o * i // 2 + o * i // 64 + 4 * (o * i // 64 // 256 + 1),
        False,
    ),
    "fp8": (
        {"quant_method": "fp8", "weight_block_size": [128, 128]},
        lambda o, i: o * i + 4 * (o // 128) * (i // 128),
        True,
    ),
    "fp8 by tensor": ({"quant_method": "fp8", "weight_block_size": None}, lambda o, i: o * i + 4, True),
    "fbgemm": ({"quant_method": "fbgemm_fp8"}, lambda o, i: o * i + 4 * o, True),
}


@pytest.mark.parametrize("name", FORMATS)
def test_bytes_are_those_that_the_format_stores(name: str, tmp_path: Path) -> None:
    table, stored, once = FORMATS[name]
    found = on(tmp_path, table, "1,64:int64")
    assert found.model.param_bytes == REST + sum(stored(o, i) for o, i in LAYERS)
    # as many parameters as the model has, whatever they lie in
    assert found.model.params == REST // 2 + sum(o * i for o, i in LAYERS)
    assert facts(found)[1] == "bf16 as built"
    assert any(n.startswith("7 weights are stored quantised") for n in found.notes)
    # the same products as without, attention (4 heads of 64, 64 x 64 twice) and the output layer
    attention = 2 * 4 * 64 * 64 * 64
    angles = 64 * 32 if OLD_ANGLES else 0
    assert found.totals.macs == 64 * (sum(o * i for o, i in LAYERS) + 1000 * 256) + attention + angles
    assert not found.coverage.unknown_ops
    assert sum(k.op == "roofline.dequantize" for k in found.kernels) == (0 if once else 7)
    assert {k.dtype for k in found.kernels if k.klass == "gemm"} - {"float32" if OLD_ANGLES else ""} == {"bfloat16"}


@pytest.mark.parametrize("name", ["gptq", "awq", "nested", "fp8"])
def test_a_token_reads_the_stored_weights_and_no_others(name: str, tmp_path: Path) -> None:
    table, stored, _ = FORMATS[name]
    found = on(tmp_path, table, decode=16)
    products = [k for k in found.kernels if k.op == "roofline.packed_linear"]
    assert sum(k.weight_bytes for k in products) == sum(stored(o, i) for o, i in LAYERS)


def test_a_training_step_goes_back_through_the_weights_and_leaves_them(tmp_path: Path) -> None:
    found, plain = (on(tmp_path, table, "1,8:int64", training=True) for table in (FORMATS["nested"][0], {}))
    # no gradient of the quantised weights: a third of their step
    frozen = 8 * sum(o * i for o, i in LAYERS)
    assert plain.totals.macs - found.totals.macs == frozen
    assert found.totals.peak_memory["gradients"] == REST


def test_a_dtype_that_is_asked_for_is_that_of_the_products(tmp_path: Path) -> None:
    found = on(tmp_path, FORMATS["nested"][0], "1,64:int64", dtype="fp16")
    assert {k.dtype for k in found.kernels if k.klass == "gemm"} - {"float32" if OLD_ANGLES else ""} == {"float16"}


def test_what_is_left_out_stays_as_it_was(tmp_path: Path) -> None:
    found = on(tmp_path, {"load_in_8bit": True, "llm_int8_skip_modules": ["lm_head", "mlp"]}, "1,8:int64")
    assert any(n.startswith("4 weights are stored quantised") for n in found.notes)


def test_experts_in_one_tensor_are_stored_so_too(tmp_path: Path) -> None:
    base = {
        "model_type": "gpt_oss",
        "architectures": ["GptOssForCausalLM"],
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 16,
        "vocab_size": 100,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "dtype": "bfloat16",
        "layer_types": ["full_attention"],
    }
    plain, found = (on(tmp_path, table, "1,8:int64", base=base) for table in ({}, {"quant_method": "mxfp4"}))
    experts = 4 * 64 * (128 + 64)  # gate and up, down
    assert plain.model.param_bytes - found.model.param_bytes == 2 * experts - (experts // 2 + experts // 32)
    assert found.model.params == plain.model.params
    assert found.totals.macs == plain.totals.macs


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"quant_method": "hqq"}, "'hqq', not known here"),
        ({"quant_method": "gptqq"}, "did you mean 'gptq'"),
        ({"quant_method": "gptq", "bits": "x"}, "bits 'x'"),
        ({"quant_method": "fp8", "weight_block_size": [0, 128]}, "weight_block_size"),
        ({"anything": 1}, "not known here"),
    ],
)
def test_what_is_not_known_is_refused_in_a_true_line(table: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=words):
        on(tmp_path, table, "1,8:int64")


@pytest.mark.filterwarnings("ignore")
def test_dynamically_quantized_layers_hold_and_run_their_weights() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = nn.LSTM(32, 48, num_layers=2, batch_first=True), nn.Linear(48, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.head(self.layer(x)[0])
            return out

    quantize: Any = torch.ao.quantization.quantize_dynamic
    found = analyze(quantize(Net(), {nn.LSTM, nn.Linear}), args=(torch.rand(2, 5, 32),), device="t4", cache=False)
    matrices = 4 * 48 * (32 + 48) + 4 * 48 * (48 + 48)
    assert found.totals.macs == 2 * 5 * (matrices + 48 * 10)
    assert found.model.params == matrices + 4 * 4 * 48 + 48 * 10 + 10
    assert found.model.param_bytes == matrices + 48 * 10 + 4 * (4 * 4 * 48 + 10)  # a byte each, biases in fp32
    assert found.coverage.never_ran == []
    assert found.coverage.unknown_ops == []
    halves = analyze(
        quantize(nn.Sequential(nn.Linear(32, 64)), {nn.Linear}, dtype=torch.float16),
        args=(torch.rand(4, 32),),
        device="t4",
        cache=False,
    )
    assert halves.model.param_bytes == 2 * 32 * 64 + 4 * 64
    assert halves.totals.macs == 4 * 32 * 64
