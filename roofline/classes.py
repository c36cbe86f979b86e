"""The classes of kernel: how each is called, and which belong together."""

from __future__ import annotations

from msgspec import Struct


class Names(Struct, frozen=True):
    """A class as a table calls one kernel of it, and as a sentence begins with several."""

    title: str
    plural: str


NAMES: dict[str, Names] = {
    "conv": Names("convolution", "Convolutions"),
    "depthwise_conv": Names("depthwise convolution", "Depthwise convolutions"),
    "grouped_conv": Names("grouped convolution", "Grouped convolutions"),
    "gemm": Names("matrix multiply", "Matrix multiplies"),
    "attention": Names("attention", "Attention kernels"),
    "rnn": Names("recurrent", "Recurrent layers"),
    "pointwise": Names("element-wise", "Element-wise kernels"),
    "norm": Names("normalisation", "Normalisations"),
    "softmax": Names("softmax", "Softmax kernels"),
    "reduction": Names("reduction", "Reductions"),
    "pool": Names("pooling", "Pooling kernels"),
    "fft": Names("FFT", "FFTs"),
    "layout": Names("copy and layout", "Copies and layout changes"),
    "gather": Names("gather and scatter", "Gathers and scatters"),
    "sort": Names("sort", "Sorts"),
    "host": Names("host", "Steps on the host"),
    "other": Names("other", "Kernels of class other"),
}
KLASSES = frozenset(NAMES)

# Convolutions.
CONVS = frozenset({"conv", "grouped_conv", "depthwise_conv"})
# What runs on matrix units where the device has them for the dtype.
MATRIX = frozenset({"gemm", "conv", "grouped_conv", "attention", "rnn"})
# Those whose arithmetic is products.
PRODUCTS = MATRIX | {"depthwise_conv"}
# Calls into a library, convolutions left out: they have costs of their own.
LIBRARY = frozenset({"gemm", "attention", "rnn", "sort", "fft", "other"})
# What compiled code leaves to kernels of PyTorch and its libraries.
CALLS = LIBRARY | CONVS | {"host"}


def title(klass: str) -> str:
    """What a table calls a kernel of a class; a class that is not listed keeps its own name."""
    return NAMES[klass].title if klass in NAMES else klass.replace("_", " ")


def plural(klass: str) -> str:
    """The kernels of a class, at the start of a sentence."""
    return NAMES[klass].plural if klass in NAMES else f"Kernels of class {title(klass)}"
