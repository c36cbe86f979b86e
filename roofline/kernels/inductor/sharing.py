"""How the cores of a CPU share a generated kernel: what of its loops its speed depends on."""

from __future__ import annotations

from collections.abc import Sequence

from roofline.kernels.facts import Facts
from roofline.kernels.inductor.operators import folded
from roofline.records import OpSpec
from roofline.shapes import Loop

# Functions of the mathematical library: a polynomial for every element.
_SPECIAL = frozenset({
    "exp", "sigmoid", "tanh", "gelu", "silu", "mish", "softplus", "erf", "log", "elu", "sin", "cos", "softmax",
})  # fmt: skip
_REDUCES = frozenset({"norm", "softmax", "reduction", "pool"})


def loop(total: int, outer: int, facts: Sequence[Facts], last: bool) -> Loop:
    """The loops of a generated kernel over `total` elements with `outer` results; `last`: channels of images are innermost."""
    special = sum(_numel(f.spec) for f in facts if f.name.rstrip("_") in _SPECIAL)
    reduces = [f for f in facts if f.klass in _REDUCES and f.spec.inputs and not folded(f.spec)]
    if not outer or outer >= total or not reduces:
        return Loop(total, special)
    varies = [f for f in reduces if f.klass == "norm" or f.name.startswith(("var", "std"))]
    row = _row(reduces[0].spec, total // outer, last)
    return Loop(total, special, outer, row, sum(f.spec.inputs[0].numel for f in varies))


def _numel(spec: OpSpec) -> int:
    return spec.outputs[0].numel if spec.outputs else 0


def _row(spec: OpSpec, reduced: int, last: bool) -> int:
    x = spec.inputs[0]
    rank = len(x.shape)
    if spec.name == "aten.group_norm" and isinstance(spec.args[1], int):
        return x.shape[1] // spec.args[1] if last and rank == 4 else reduced
    if spec.name == "aten.adaptive_avg_pool2d":
        return 0 if last else reduced
    axes = spec.args[1] if len(spec.args) > 1 and not spec.name.endswith("norm") else None
    given = [axes] if isinstance(axes, int) else axes
    gone = {d % rank for d in given if isinstance(d, int)} if isinstance(given, list) and rank else set()
    if not gone:
        return reduced
    if rank == 5 and last and 2 in gone:  # channels split into groups
        return x.shape[2]
    if rank == 4 and last and gone == {2, 3}:
        return 0
    return reduced if rank - 1 in gone or (rank == 4 and last and gone == {1}) else 0
