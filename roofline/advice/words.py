"""Words that a newcomer may not know, each explained where an explanation says it first."""

from __future__ import annotations

import re
from collections.abc import Iterable

from roofline.classes import title

# A word as sentences have it (in the plural too), and what it means; the page finds them in the same way.
WORDS: dict[str, str] = {
    "FLOP": "a floating-point operation, such as an addition or a multiplication",
    "kernel": "a program that the device runs, for one operator or for several that were compiled into one",
    "FLOP/B": "FLOPs for each byte that is read or written",
    "peak": "the most arithmetic that a device can do in a second",
    "host": "the processor and the Python program that feed the GPU",
    "operator": "one call into PyTorch, such as a convolution or an addition",
    "DRAM": "the main memory of a device",
    "L2": "memory on the chip, small and faster than DRAM",
    "L3": "memory on the chip, small and faster than DRAM",
    "SLC": "memory on the chip, small and faster than DRAM",
    title("depthwise_conv"): "one in which each channel has a filter of its own, little arithmetic for each byte",
    title("grouped_conv"): "one of groups of channels, each apart from the others",
    f"{title('pointwise')} kernel": "one that works on each element by itself, such as an addition or an activation",
    title("norm"): "a batch norm, a layer norm or the like",
    "gather": "a look-up by an index, such as that of an embedding",
    "Winograd": "a way to do 3 x 3 convolutions with fewer multiplications",
    "CUDA graph": "all kernels of a pass, recorded once and then issued as one",
    "tf32": "fp32 whose products are rounded to about 3 digits",
    "autocast": "PyTorch's choice of a half-precision type for products, and of fp32 where digits matter",
    "bf16": "16 bits for a number, 2 to 3 digits in the range of fp32",
    "fp16": "16 bits for a number, 3 digits in a small range",
    "channels-last": "with all channels of a pixel side by side in memory",
    "batch norm": "a scale and a shift of each channel, which the weights of the layer before can take over",
    "int8": "whole numbers of 8 bits",
}


def found(text: str, word: str) -> bool:
    """Whether a text says the word."""
    return re.search(rf"\b{re.escape(word)}s?\b", text, re.IGNORECASE) is not None


def among(texts: Iterable[str]) -> dict[str, str]:
    """The words that are said there, in the order of our list."""
    everything = "\n".join(texts)
    return {word: meaning for word, meaning in WORDS.items() if found(everything, word)}


class Glossary:
    """Explains each word once: at the text that says it first."""

    def __init__(self, words: dict[str, str]) -> None:
        self._left = dict(words)

    def of(self, *texts: str) -> str:
        """What the words mean that are new in these texts, as a remark in brackets; nothing where none is."""
        new = [word for word in self._left if any(found(text, word) for text in texts)]
        return f"({'; '.join(f'{word}: {self._left.pop(word)}' for word in new)})" if new else ""
