"""Predicted board power and energy beside measured: V100s that train (Zeus), an H100 that makes tokens (ML.ENERGY).

    python benchmarks/power.py TABLE...

A table is CSV with `device`, `model`, `avg_power_w`; lines that start with # are comments. Of rows with `epoch_s` those at the
whole limit (`at_max_limit`) of ResNet-50 and BERT-base count, in fp32 as their speed shows; of rows with `throughput` three
dense models on one GPU. A prompt's share of a step is taken as so many sequences more (the benchmark does not print its
length), and torch.compile stands for vLLM.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import roofline
from roofline import units

# samples of an epoch
EPOCHS = {"imagenet": 1_281_167, "squad": 88_524}
# tokens of a prompt, guessed: chats are short, GPQA's questions are not
PROMPTS = {"lm-arena-chat": 100, "gpqa": 250}
_QWEN3: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "head_dim": 128,
    "num_key_value_heads": 8,
    "vocab_size": 151936,
    "tie_word_embeddings": False,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "meta-llama/Llama-3.1-8B-Instruct": {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
    },
    "Qwen/Qwen3-8B": _QWEN3 | {
        "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32,
    },
    "Qwen/Qwen3-14B": _QWEN3 | {
        "hidden_size": 5120, "intermediate_size": 17408, "num_hidden_layers": 40, "num_attention_heads": 40,
    },
    "bert-base-uncased": {"architectures": ["BertForQuestionAnswering"], "model_type": "bert"},
}  # fmt: skip


class Row(NamedTuple):
    """One measurement, and what is predicted of it. W, and J of a sample (of a token)."""

    what: str
    watts: float
    joules: float
    predicted_w: float
    predicted_j: float


def of_training(row: dict[str, str], folder: Path) -> Row | None:
    """Zeus: the average power of an epoch on a V100 of 250 W."""
    if row["at_max_limit"] != "yes" or row["dataset"] not in EPOCHS:
        return None
    batch, name = int(row["batch"]), row["model"]
    if name == "resnet50":
        a = roofline.analyze(name, device="v100-pcie", batch=batch, training=True)
    else:
        a = roofline.analyze(config(name, folder), device="v100-pcie", inputs=[f"{batch},384:int64"], training=True)
    watts = float(row["avg_power_w"])
    return made(f"{row['device']} {name} {batch}", watts, watts * float(row["epoch_s"]) / EPOCHS[row["dataset"]], a, batch)


def of_tokens(row: dict[str, str], folder: Path) -> Row | None:
    """ML.ENERGY: the average power of an H100 that serves so many sequences."""
    if row["model"] not in CONFIGS or row["num_gpus"] != "1" or row["task"] not in PROMPTS:
        return None
    prompt, answer, batch = PROMPTS[row["task"]], float(row["avg_output_len"]), float(row["avg_batch"])
    wide = max(round(batch * (1 + prompt / answer)), 1)
    a = roofline.analyze(
        config(row["model"], folder),
        device="h100-sxm",
        batch=wide,
        decode=int(prompt + answer / 2),
        runtime="compiled",
        host="0.5us",
        dtype="bf16",
    )
    watts = float(row["avg_power_w"])
    return made(f"{row['device']} {row['model']} {row['task']} {batch:g}", watts, watts / float(row["throughput"]), a, batch)


def config(name: str, folder: Path) -> str:
    """The model as a folder with its configuration."""
    place = folder / name.replace("/", "-")
    place.mkdir(exist_ok=True)
    (place / "config.json").write_text(json.dumps(CONFIGS[name]), encoding="utf-8")
    return f"hf:{place}"


def made(what: str, watts: float, joules: float, a: roofline.Analysis, samples: float) -> Row:
    found = a.totals.energy
    assert found is not None, a.totals.no_energy
    return Row(what, watts, joules, found.watts, found.joules / samples)


def rows(path: Path, folder: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            found = of_training(row, folder) if "epoch_s" in row else of_tokens(row, folder)
            if found is not None:
                yield found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", type=Path)
    given = parser.parse_args()
    groups: dict[str, list[Row]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        for path in given.tables:
            for row in rows(path, Path(folder)):
                groups[row.what.partition(" ")[0]].append(row)
                print(
                    f"{row.what:55} {row.watts:6.0f} W {row.predicted_w:6.0f} W   {row.joules:9.3g} J {row.predicted_j:9.3g} J"
                )
    for device, found in groups.items():
        power, energy = [r.predicted_w / r.watts for r in found], [r.predicted_j / r.joules for r in found]
        for name, ratios in (("power", power), ("energy", energy)):
            off, middle = statistics.median(abs(ratio - 1) for ratio in ratios), statistics.median(ratios)
            print(f"{device} {name}: {len(ratios)} rows, median error {units.share(off, 1)}, predicted / measured {middle:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
