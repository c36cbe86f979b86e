"""Prefill and decode of the causal language models of transformers, each by its class name and default configuration.

    python benchmarks/causal.py                 the architectures below, 63; a Markdown table on standard output
    python benchmarks/causal.py --all           every causal class of the installed release
    python benchmarks/causal.py LlamaForCausalLM ...

Every class runs `roofline analyze hf:CLASS -d h100-sxm --dtype bf16 --prefill 64`, then `--decode 64`, on meta tensors. A row
says what came of both: the multiply-accumulates of a token, or the reason that a person reads.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Iterable, Iterator

import roofline
from roofline import compat

TOKENS = 64
NAMES = """
    ApertusForCausalLM ArceeForCausalLM AriaTextForCausalLM BambaForCausalLM BioGptForCausalLM BitNetForCausalLM
    BloomForCausalLM
    CodeGenForCausalLM CohereForCausalLM Cohere2ForCausalLM DbrxForCausalLM DeepseekV2ForCausalLM DeepseekV3ForCausalLM
    DiffLlamaForCausalLM DogeForCausalLM Dots1ForCausalLM Ernie4_5ForCausalLM Exaone4ForCausalLM FalconForCausalLM
    FalconH1ForCausalLM FalconMambaForCausalLM GPT2LMHeadModel GPTBigCodeForCausalLM GPTJForCausalLM GPTNeoForCausalLM
    GPTNeoXForCausalLM GemmaForCausalLM Gemma2ForCausalLM Gemma3ForCausalLM GlmForCausalLM Glm4ForCausalLM GptOssForCausalLM
    GraniteForCausalLM GraniteMoeForCausalLM GraniteMoeHybridForCausalLM HeliumForCausalLM JambaForCausalLM Lfm2ForCausalLM
    LlamaForCausalLM Mamba2ForCausalLM MambaForCausalLM MiniMaxForCausalLM MistralForCausalLM MixtralForCausalLM MptForCausalLM
    NemotronForCausalLM OPTForCausalLM Olmo2ForCausalLM OlmoForCausalLM OlmoeForCausalLM PersimmonForCausalLM PhiForCausalLM
    Phi3ForCausalLM Qwen2ForCausalLM Qwen2MoeForCausalLM Qwen3ForCausalLM Qwen3MoeForCausalLM Qwen3NextForCausalLM
    RwkvForCausalLM SmolLM3ForCausalLM StableLmForCausalLM Starcoder2ForCausalLM XGLMForCausalLM
"""


def every() -> list[str]:
    """All causal classes that this transformers lists."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as listed

    found = {name for value in listed.values() for name in ([value] if isinstance(value, str) else value)}
    return sorted(found)


def outcome(name: str, what: str) -> tuple[bool, str]:
    """Whether the pass can be analysed, and its cost per token or the reason."""
    try:
        tokens = {what: TOKENS}
        a = roofline.analyze(f"hf:{name}", device="h100-sxm", dtype="bf16", cache=False, **tokens)  # type: ignore[arg-type]  # by name
    except roofline.RooflineError as error:
        return False, str(error).split("\n")[0][:160]
    assert a.language is not None
    return True, f"{a.language.macs_per_token / 1e9:,.3f} G MAC/token"


def rows(names: Iterable[str]) -> Iterator[tuple[bool, str]]:
    for name in names:
        both = [outcome(name, what) for what in ("prefill", "decode")]
        texts = [text.replace("|", "/") for _, text in both]
        yield all(ok for ok, _ in both), f"| {name} | {texts[0]} | {texts[1]} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="CLASS")
    parser.add_argument("--all", action="store_true", help="every causal class of the installed release")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    names = asked.names or (every() if asked.all else sorted(NAMES.split()))
    start, good = time.monotonic(), 0
    print("| class | prefill 64 | decode 64 |\n| --- | --- | --- |")
    for ok, text in rows(names):
        good += ok
        print(text, flush=True)
    met = ", ".join(f"{p} {compat.version(p)}" for p in ("transformers", "torch"))
    print(f"\n{good} of {len(names)} classes work in both passes ({met}, {time.monotonic() - start:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
