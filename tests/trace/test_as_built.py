"""A model in the dtypes that it was built in: nothing is cast where no dtype is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from roofline import Analysis, analyze
from roofline.analysis.explain import facts
from roofline.cli.saved import given_of
from roofline.errors import ModelError, UsageError


class Mixed(nn.Module):
    """An encoder in bf16, a head in fp32; `cast` says where its input is cast."""

    def __init__(self, cast: bool = True, back: bool = True) -> None:
        super().__init__()
        self.cast, self.back = cast, back
        self.encoder = nn.Linear(512, 512, bias=False, dtype=torch.bfloat16)
        self.head = nn.Linear(512, 64, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.encoder(x.bfloat16() if self.cast else x)
        return self.head(y.float() if self.back else y)


MIXED_BYTES = 2 * 512 * 512 + 4 * 512 * 64


def on(model: Any, *inputs: str, device: str = "rtx-4090", **options: Any) -> Analysis:
    return analyze(model, inputs=list(inputs), device=device, cache=False, **options)


@pytest.mark.parametrize(
    ("dtype", "width", "shown", "setting"),
    [
        (torch.float32, 4, "fp32", "fp32"),
        (torch.float64, 8, "fp64 as built", "fp64"),
        (torch.bfloat16, 2, "bf16 as built", "bf16"),
        (torch.float16, 2, "fp16 as built", "fp16"),
    ],
)
def test_a_module_is_analysed_in_its_own_dtype(dtype: torch.dtype, width: int, shown: str, setting: str) -> None:
    found = on(nn.Sequential(nn.Linear(256, 256), nn.ReLU()).to(dtype), "4,256")
    assert found.totals.macs == 4 * 256 * 256
    assert found.model.param_bytes == width * (256 * 256 + 256)
    assert found.setting.dtype == setting
    assert facts(found)[1] == shown
    assert {k.dtype for k in found.kernels} == {str(dtype)[6:]}  # the input is in it too, where nothing is said
    assert found.model.inputs[0].dtype == str(dtype)[6:]
    assert not [n for n in found.notes if "dtype" in n or "taken in" in n]


def test_a_dtype_that_is_asked_for_overrides_the_models() -> None:
    found = on(nn.Linear(256, 256).double(), "4,256", dtype="fp16")
    assert found.model.param_bytes == 2 * (256 * 256 + 256)
    assert facts(found)[1] == "fp16"
    assert {k.dtype for k in found.kernels} == {"float16"}


def test_several_dtypes_stay_several() -> None:
    found = on(Mixed(), "4,512")
    assert found.totals.macs == 4 * (512 * 512 + 512 * 64)
    assert found.model.param_bytes == MIXED_BYTES
    assert facts(found)[1] == "mixed: bf16 and fp32"  # most bytes first
    assert [k.dtype for k in found.kernels if k.klass == "gemm"] == ["bfloat16", "float32"]
    # x.bfloat16() and y.float() are kernels: 4 x 512 elements in 4 and 2 bytes, and back
    assert [k.bytes for k in found.kernels if k.klass != "gemm"] == [4 * 512 * 6] * 2


def test_an_input_that_the_model_does_not_take_is_given_in_its_dtype_and_a_note_says_so() -> None:
    """The input of a mixed model is fp32 where nothing is said; this one has no cast before its bf16 layer."""
    found = on(Mixed(cast=False), "4,512")
    assert found.model.param_bytes == MIXED_BYTES
    assert any("floating inputs were taken in bfloat16" in n and "bfloat16 and float32" in n for n in found.notes)
    given = analyze(nn.Conv2d(3, 4, 1).bfloat16(), args=[torch.rand(1, 3, 8, 8)], device="rtx-4090")
    assert any("taken in bfloat16" in n for n in given.notes)


@pytest.mark.parametrize("training", [False, True])
def test_what_no_device_would_compute_fails_as_it_does_there(training: bool) -> None:
    with pytest.raises(ModelError, match="one floating dtype, and got bfloat16 and float32"):
        on(Mixed(back=False), "4,512", training=training)


def test_a_training_step_of_mixed_dtypes_keeps_them() -> None:
    found = on(Mixed(), "4,512", training=True, optimizer="sgd")
    # forward, and twice that backward but for the input's own gradient, which nobody wants
    assert found.totals.macs == 3 * 4 * (512 * 512 + 512 * 64) - 4 * 512 * 512
    assert found.totals.peak_memory["gradients"] == MIXED_BYTES


def test_a_buffer_in_doubles_counts_as_such() -> None:
    net = nn.Linear(8, 8)
    net.register_buffer("table", torch.zeros(100, dtype=torch.float64))
    found = on(net, "4,8")
    assert found.model.buffer_bytes == 800
    assert facts(found)[1] == "fp32"  # what it computes in


def test_without_parameters_the_inputs_say_it() -> None:
    found = on(nn.ReLU(), "4,8:bfloat16")
    assert facts(found)[1] == "bf16 as built"
    assert found.totals.bytes == 2 * 2 * 4 * 8


def test_a_pass_with_values_is_in_the_models_own_dtype() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(8, 8, dtype=torch.bfloat16)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.body(x)
            return y[: int((y > 0).sum()) % 3 + 1]

    found = on(Net(), "4,8")
    assert found.model.param_bytes == 2 * 72
    assert any("real tensors" in n for n in found.notes)


def test_halves_on_a_device_without_them_go_at_the_rate_of_fp32_and_a_note_says_so() -> None:
    net = nn.Linear(4096, 4096, bias=False)
    single, half = (on(m, "4096,4096", device="v100-sxm2") for m in (net, nn.Linear(4096, 4096, bias=False).bfloat16()))
    assert half.totals.time_s == pytest.approx(single.totals.time_s, rel=0.2)  # both compute-bound at the same rate
    assert any("v100-sxm2 has no bf16 units" in n for n in half.notes)
    with pytest.raises(UsageError, match="fp64 as it is built, and arc-a770 has no fp64 peak"):
        on(nn.Linear(8, 8).double(), "4,8", device="arc-a770")


def test_a_saved_analysis_is_asked_for_again_as_built() -> None:
    assert "dtype" not in given_of(on(nn.Linear(8, 8).bfloat16(), "4,8"))
    assert given_of(on(nn.Linear(8, 8), "4,8", dtype="fp16"))["dtype"] == "fp16"


@pytest.mark.parametrize("key", ["torch_dtype", "dtype"])
def test_a_configuration_says_the_dtype_of_its_model(key: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 1000,
        key: "bfloat16",
    }
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    found, asked = (on(f"hf:{tmp_path}", "1,16:int64", **options) for options in ({}, {"dtype": "fp32"}))
    # embedding and head apart, 2 + 1 norms, q and o 64 x 64, k and v 32 x 64, three of 128 x 64
    params = 2 * 1000 * 64 + 3 * 64 + 2 * 64 * 64 + 2 * 32 * 64 + 3 * 128 * 64
    assert (found.model.param_bytes, asked.model.param_bytes) == (2 * params, 4 * params)
    assert (facts(found)[1], facts(asked)[1]) == ("bf16 as built", "fp32")
