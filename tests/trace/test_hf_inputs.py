"""Default inputs of transformers models reach all of the model; counts stand beside torch's own counter on a real run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import roofline
from roofline import compat
from roofline.errors import BuildError, ModelError
from roofline.sources import build

transformers = pytest.importorskip("transformers")

TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "max_position_embeddings": 512,
}
TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
IMAGE = {**TOWER, "image_size": 28, "patch_size": 14}
LLAVA = {
    "model_type": "llava",
    "architectures": ["LlavaForConditionalGeneration"],
    "image_token_index": 7,
    "text_config": {"model_type": "llama", **TEXT},
    "vision_config": {"model_type": "clip_vision_model", **IMAGE},
}
CLIP = {
    "model_type": "clip",
    "architectures": ["CLIPModel"],
    "projection_dim": 16,
    "text_config": {**TEXT, "max_position_embeddings": 12, "eos_token_id": 2},
    "vision_config": IMAGE,
}
SPECTRUM = {
    "model_type": "audio-spectrogram-transformer",
    "architectures": ["ASTModel"],
    **TOWER,
    "num_mel_bins": 32,
    "max_length": 64,
}
SPEECH = {
    "model_type": "wav2vec2-bert",
    "architectures": ["Wav2Vec2BertModel"],
    **TOWER,
    "feature_projection_input_dim": 20,
    "conv_depthwise_kernel_size": 3,
    "vocab_size": 30,
    "add_adapter": False,
}
DECISIONS = {
    "model_type": "decision_transformer",
    "architectures": ["DecisionTransformerModel"],
    "hidden_size": 32,
    "n_layer": 1,
    "n_head": 2,
    "state_dim": 5,
    "act_dim": 3,
}
STEPS = {
    "states": torch.rand(1, 20, 5),
    "actions": torch.rand(1, 20, 3),
    "rewards": torch.rand(1, 20, 1),
    "returns_to_go": torch.rand(1, 20, 1),
    "timesteps": torch.zeros(1, 20, dtype=torch.int64),
}
CHOICE = {"model_type": "bert", "architectures": ["BertForMultipleChoice"], **TEXT}


def saved(config: dict[str, Any], folder: Path) -> str:
    (folder / "config.json").write_text(json.dumps(config))
    return f"hf:{folder / 'config.json'}"


def shapes(a: roofline.Analysis) -> dict[str, tuple[int, ...]]:
    return {i.name: i.shape for i in a.model.inputs}


def counted(config: dict[str, Any], inputs: dict[str, torch.Tensor]) -> int:
    """MACs of the model run for real, by torch's counter."""
    kind = transformers.CONFIG_MAPPING[config["model_type"]]
    cls = getattr(transformers, config["architectures"][0])
    with torch.random.fork_rng():
        # the counter has no rule for the attention that a CPU runs as one kernel
        model = cls._from_config(kind.from_dict(config), attn_implementation="eager").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(**inputs)
    return counter.get_total_flops() // 2


def ids(*shape: int, placeholders: int = 0) -> torch.Tensor:
    out = torch.full(shape, 9)
    out[..., 1 : 1 + placeholders] = 7
    return out


def test_an_image_becomes_tokens_of_the_text(tmp_path: Path) -> None:
    a = roofline.analyze(saved(LLAVA, tmp_path), device="t4", cache=False)
    length = 128 + 4 + 2  # (28 / 14)**2 placeholders, one token on either side of them
    assert shapes(a) == {"input_ids": (1, length), "pixel_values": (1, 3, 28, 28)}
    image = torch.rand(1, 3, 28, 28)
    assert a.totals.macs == counted(LLAVA, {"input_ids": ids(1, length, placeholders=4), "pixel_values": image})
    assert [part.path for part in a.coverage.never_ran if "tower" in part.path and part.type == "CLIPVisionTransformer"] == []
    assert any("inputs assumed: input_ids 1x134, pixel_values 1x3x28x28" in note for note in a.notes)


def test_a_batch_has_as_many_images(tmp_path: Path) -> None:
    one, four = (roofline.analyze(saved(LLAVA, tmp_path), device="t4", cache=False, batch=b) for b in (1, 4))
    assert shapes(four) == {"input_ids": (4, 134), "pixel_values": (4, 3, 28, 28)}
    # transformers below 5.19 makes the angles of 134 positions by a product, of 4 numbers each, once for all
    shared = 134 * 4 if compat.older(compat.version("transformers"), "5.19") else 0
    assert four.totals.macs - shared == 4 * (one.totals.macs - shared)


def test_what_a_person_says_stays(tmp_path: Path) -> None:
    a = roofline.analyze(saved(LLAVA, tmp_path), device="t4", cache=False, inputs=["input_ids=1,20:int64"])
    assert shapes(a)["input_ids"] == (1, 20)
    assert not any("inputs assumed" in note for note in a.notes)


@pytest.mark.parametrize(
    ("config", "inputs"),
    [
        (CLIP, {"input_ids": ids(1, 12), "pixel_values": torch.rand(1, 3, 28, 28)}),
        (SPECTRUM, {"input_values": torch.rand(1, 64, 32)}),
        (SPEECH, {"input_features": torch.rand(1, 3000, 20)}),
        (DECISIONS, STEPS),
        (CHOICE, {"input_ids": ids(1, 2, 128)}),
    ],
    ids=["two towers", "spectrogram", "time before mel", "states and actions", "two choices"],
)
def test_each_modality(config: dict[str, Any], inputs: dict[str, torch.Tensor], tmp_path: Path) -> None:
    a = roofline.analyze(saved(config, tmp_path), device="t4", cache=False)
    assert shapes(a) == {name: tuple(t.shape) for name, t in inputs.items()}
    assert a.totals.macs == counted(config, inputs)


def test_an_image_that_does_not_fit_the_text_leaves_its_tower_idle(tmp_path: Path) -> None:
    # the tower's features are of another width than the text's: the model itself takes no image then
    wrong = {
        "model_type": "qwen2_vl",
        "architectures": ["Qwen2VLModel"],
        "image_token_id": 7,
        "text_config": {**TEXT, "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2], "rope_type": "default"}},
        "vision_config": {"depth": 1, "embed_dim": 32, "hidden_size": 24, "num_heads": 2, "patch_size": 14},
    }
    a = roofline.analyze(saved(wrong, tmp_path), device="t4", cache=False)
    assert "visual" in {part.path for part in a.coverage.never_ran}
    right = {**wrong, "vision_config": {**wrong["vision_config"], "hidden_size": 32}}  # type: ignore[dict-item]  # a dict
    a = roofline.analyze(saved(right, tmp_path), device="t4", cache=False)
    assert "visual" not in {part.path for part in a.coverage.never_ran}
    assert shapes(a)["image_grid_thw"] == (1, 3)


CALLS: dict[str, tuple[dict[str, int], dict[str, tuple[int, ...]]]] = {
    "LxmertModel": (
        {"l_layers": 1, "x_layers": 1, "r_layers": 1, "visual_feat_dim": 20},
        {"visual_feats": (1, 36, 20), "visual_pos": (1, 36, 4)},
    ),
    "VisualBertModel": ({"num_hidden_layers": 1, "visual_embedding_dim": 20}, {"visual_embeds": (1, 36, 20)}),
    "MusicgenMelodyForCausalLM": ({"num_hidden_layers": 1, "num_codebooks": 3}, {"input_ids": (3, 128)}),
    "KyutaiSpeechToTextModel": ({"num_hidden_layers": 1}, {"input_ids": (1, 128, 33)}),
    "PerceiverForImageClassificationLearned": ({"num_self_attends_per_block": 1}, {"pixel_values": (1, 3, 56, 56)}),
    "PerceiverForMaskedLM": ({"num_self_attends_per_block": 1}, {"inputs": (1, 128)}),
}


@pytest.mark.parametrize("name", CALLS)
def test_regions_codebooks_and_two_names_for_one_thing(name: str) -> None:
    """Each reaches the whole of the model."""
    settings, call = CALLS[name]
    a = roofline.analyze(f"hf:{name}", device="t4", cache=False, settings=settings)
    assert call.items() <= shapes(a).items()
    assert "inputs" in call or "inputs" not in shapes(a)
    assert not a.coverage.never_ran


def test_a_failure_names_the_inputs_that_were_assumed(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as failed:
        roofline.analyze("hf:DeepseekV2Model", device="t4", cache=False, settings={"num_hidden_layers": 1})
    assert "its inputs were assumed (input_ids 1x128): give others with --input" in str(failed.value)
    assert len(str(failed.value).splitlines()) <= 3


def test_a_build_that_fails_is_not_repeated_on_real_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build, "REAL_LIMIT", 100_000)
    lines = [
        "import torch",
        "from torch import nn",
        "class Greedy(nn.Module):",
        "    def __init__(self):",
        "        super().__init__()",
        "        self.w = nn.ParameterList(nn.Parameter(torch.empty(1000)) for _ in range(100))",
        "        raise TypeError('the width is None')",
    ]
    (tmp_path / "greedy.py").write_text("\n".join(lines))
    with pytest.raises(BuildError, match=r"the width is None[^\n]*\nit was not built on real memory"):
        roofline.analyze(f"{tmp_path / 'greedy.py'}:Greedy", device="t4", cache=False)
