"""One pass of a model: its operators in order, and the tensors, storages and modules that they touch."""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Any

from msgspec import Struct

from roofline.dtypes import DTYPE_BITS

# Which object it is, as a number: as id(), which Python reports to every audit hook of the process, at several times its cost.
identity = object.__hash__


class TensorSpec(Struct, frozen=True, omit_defaults=True, gc=False):
    """One tensor's metadata, without its storage.

    `stride` is in elements; the empty tuple means contiguous (row-major).
    """

    shape: tuple[int, ...]
    dtype: str
    stride: tuple[int, ...] = ()

    @property
    def numel(self) -> int:
        n = 1
        for s in self.shape:
            n *= s
        return n

    @property
    def distinct(self) -> int:
        """Elements that exist in memory: a dimension that is expanded (stride 0) counts once."""
        n = 1
        for s, st in zip(self.shape, self.stride or self.shape, strict=True):
            n *= 1 if self.stride and st == 0 and s else s
        return n

    @property
    def nbytes(self) -> int:
        """Bytes of its distinct elements."""
        return (self.distinct * DTYPE_BITS[self.dtype] + 7) // 8


# An operator's argument: a scalar, a tensor, or a list of them. Torch's enums (dtype, layout, memory format) are text.
Scalar = bool | int | float | str | None
Arg = Any  # Scalar | TensorSpec | list[Scalar | TensorSpec]; msgspec needs it spelled out, see OpSpec


# They reserve memory or ask a question; nothing runs on the device.
_NO_LAUNCH = frozenset({
    "aten.empty", "aten.empty_like", "aten.empty_strided", "aten.new_empty", "aten.new_empty_strided", "aten.empty_permuted",
    "aten.resize_", "aten.set_", "aten.lift", "aten.lift_fresh", "aten.detach", "aten.alias", "aten._unsafe_view",
})  # fmt: skip


class OpSpec(Struct, frozen=True, omit_defaults=True, gc=False):
    """What was called, with which shapes: all that a cost rule may see. Calls that agree share one OpSpec."""

    # "aten.conv2d": namespace and operator; the overload apart
    name: str
    overload: str
    # positional arguments by the operator's schema, tensors as TensorSpec in place
    args: list[bool | int | float | str | TensorSpec | list[bool | int | float | str | TensorSpec | None] | None]
    kwargs: dict[str, bool | int | float | str | TensorSpec | list[bool | int | float | str | TensorSpec | None] | None]
    # tensor arguments flattened in order (positional, then keyword by name), and tensor results
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    # torch.Tag.pointwise
    pointwise: bool = False
    # every output aliases an input and nothing is written (view, detach, a `reshape` that needs no copy)
    view: bool = False
    # indices into `inputs` that the operator writes in place
    mutates: tuple[int, ...] = ()

    @property
    def out(self) -> TensorSpec:
        """The first output."""
        return self.outputs[0]

    @property
    def launches(self) -> bool:
        """Whether anything runs on the device."""
        return not self.view and self.name not in _NO_LAUNCH


class Op(Struct, frozen=True, omit_defaults=True, gc=False):
    """One ATen operator call: an OpSpec, where it was called, and the storages that it touched."""

    # index into Trace.specs
    spec: int
    # index into Trace.layers: the innermost module that was running
    layer: int
    # storage ids, parallel to OpSpec.inputs and OpSpec.outputs
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    # "forward", "backward" or "optimizer"
    phase: str = "forward"


class Storage(Struct, frozen=True, omit_defaults=True, gc=False):
    """One block of memory. `born` and `died` are op indices; it is allocated by op `born` and freed before op `died`."""

    nbytes: int
    # "parameter", "buffer", "input", "activation", "constant", "gradient", "state" (of the optimizer) or "cache" (keys and
    # values of earlier tokens)
    kind: str
    # qualified name of the parameter or buffer, else empty
    name: str = ""
    # -1: before the first op
    born: int = -1
    # -1: lives to the end of the trace
    died: int = -1


def above(path: str) -> Iterator[str]:
    """The paths of the layers around the one at `path`, the root's empty one last."""
    while path:
        path = path.rpartition(".")[0]
        yield path


def around(path: str, among: Container[str]) -> str | None:
    """The path of the nearest layer around the one at `path` that is `among` these; None where there is none."""
    return next((one for one in above(path) if one in among), None)


class Layer(Struct, frozen=True, omit_defaults=True, gc=False):
    """One module. Parents come before their children; the root has the empty path."""

    path: str
    type: str
    # parameters owned by this module itself (not its children), a tied parameter at its first owner only
    params: int = 0
    # index of the parent in Trace.layers, -1 for the root
    parent: int = -1
    # how often it was called
    calls: int = 0
    # those of `params` that require a gradient; None: nobody says (a graph of a file)
    trainable: int | None = None
    # shape of the first tensor that its first call returned; None: it was not called, or returned none
    output: tuple[int, ...] | None = None
    # the kernel of a convolution or a pool
    kernel: tuple[int, ...] = ()


class InputInfo(Struct, frozen=True, omit_defaults=True):
    """One tensor input of the model; `name` is the keyword or the position."""

    shape: tuple[int, ...]
    dtype: str
    name: str = ""


class ModelInfo(Struct, frozen=True, omit_defaults=True):
    """The model that was traced. Sizes in elements and bytes; tied parameters count once."""

    name: str
    # where it came from: "models/mobilenet_v2.py", "torchvision 0.29.2", ...
    source: str
    params: int
    param_bytes: int
    # elements in buffers
    buffers: int
    buffer_bytes: int
    inputs: tuple[InputInfo, ...]
    # those of `params` that require a gradient; None: nobody says
    trainable: int | None = None


class Trace(Struct, frozen=True, omit_defaults=True):
    """One pass of a model: its ops in order, and the tables that they index."""

    model: ModelInfo
    layers: tuple[Layer, ...]
    specs: tuple[OpSpec, ...]
    ops: tuple[Op, ...]
    storages: tuple[Storage, ...]
    batch: int
    dtype: str
    # "inference" or "training"
    mode: str = "inference"
    # what a reader must know to trust the numbers: "traced on real tensors with seed 0; 1000 proposals seen"
    notes: tuple[str, ...] = ()
    # the model's own floating dtypes in words ("bf16 and fp32"), where it is traced as built; empty: in the dtype asked for
    built: str = ""
    # nothing in it was asked of the kind of device: it is the same on a GPU and a CPU
    anywhere: bool = False
    # what the model's code was told of the GPU that was asked for; empty: it did not ask
    board: str = ""
