"""Batch norms folded into the convolutions and linear layers before them, on a trace: what `torch.nn.utils.fusion` makes of a
model for inference, `fuse_conv_bn_eval(conv, bn)` in place of the one and nothing in place of the other.

A norm goes where the layer's result is read by nobody else and kept nowhere, and where the layer's weight and the norm's
statistics are used by no other: one that two norms share, or a result that a hook or a skip reads, cannot be folded. No torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from roofline import classes
from roofline.dtypes import DTYPE_BITS
from roofline.errors import UsageError
from roofline.records import Kernel, Op, OpSpec, Storage, TensorSpec, Trace

# Image or rows, weight and bias are the first arguments of all of them.
CONVS = frozenset(f"aten.conv{way}{rank}d" for way in ("", "_transpose") for rank in (1, 2, 3))
LAYERS = CONVS | {"aten.linear"}
# Input, weight, bias, mean and variance; `batch_norm` says whether it takes statistics of its own.
NORMS = frozenset({"aten.batch_norm", "aten._native_batch_norm_legit_no_training"})
# Classes whose weights freezing packs.
FROZEN = classes.CONVS | {"gemm"}
# What autocast puts between a parameter and its layer.
CAST = "aten._to_copy"
NONE = (
    "fold_bn: no batch norm of this pass follows a convolution or linear layer whose result nobody else reads, so nothing "
    "would change: leave --fold-bn out"
)


class _Pair(Struct, frozen=True):
    """A call of a layer and the call of a norm after it, by their ops; what the layer and the norm hold, by storages."""

    layer: int
    norm: int
    # the parameters of the layer, weight first, and the ops that cast them
    own: tuple[int, ...]
    casts: tuple[int, ...]
    statistics: tuple[int, ...]


def folded(trace: Trace) -> Trace:
    """The trace of the same model without the norms that can go. Raises UsageError where none can."""
    norms = sum(trace.specs[op.spec].name in NORMS for op in trace.ops)
    groups = _groups(trace)
    if not groups:
        raise UsageError(NONE)
    gone = sum(map(len, groups))
    note = (
        f"{gone} of {norms} batch norms are folded into the layers before them"
        if gone < norms
        else (
            f"all {norms} batch norms are folded into the layers before them"
            if norms > 1
            else "the batch norm is folded into the layer before it"
        )
    )
    found = _Rewritten(trace)
    for group in groups:
        found.fold(group)
    return replace(found.trace(), notes=(*trace.notes, note))


def frozen(launched: Sequence[Kernel]) -> list[Kernel]:
    """The kernels of code that was compiled under TorchInductor's freezing: weights of products and convolutions lie as their
    libraries want them before the first call, and no call packs them anew."""
    return [
        replace(kernel, access=replace(kernel.access, frozen=1))
        if kernel.klass in FROZEN and any(o.role == "parameter" and o.producer < 0 for o in kernel.operands)
        else kernel
        for kernel in launched
    ]


def pairs(trace: Trace) -> list[tuple[str, str]]:
    """The modules that `folded` makes one of: a layer and the batch norm after it, by their paths."""
    found = []
    for first, *_ in _groups(trace):
        names = trace.storages[first.own[0]].name, trace.storages[first.statistics[0]].name
        found.append((names[0].rpartition(".")[0], names[1].rpartition(".")[0]))
    return found


# ------------------------------------------------------------------------------------------------ what can be folded


def _groups(trace: Trace) -> list[list[_Pair]]:
    """The pairs by layer and norm, those that use either for nothing else: a block that is called five times is one group."""
    readers: list[list[int]] = [[] for _ in trace.storages]
    makers: dict[int, int] = {}
    for i, op in enumerate(trace.ops):
        for storage in op.inputs:
            readers[storage].append(i)
        for storage in op.outputs:
            # a view has the storage of what it is a view of
            makers[storage] = -1 if storage in makers or storage in op.inputs else i
    groups: dict[tuple[tuple[int, ...], tuple[int, ...]], list[_Pair]] = {}
    for pair in _pairs(trace, readers, makers):
        groups.setdefault((pair.own, pair.statistics), []).append(pair)
    return [group for group in groups.values() if _alone(trace, group, readers)]


def _pairs(trace: Trace, readers: Sequence[Sequence[int]], makers: dict[int, int]) -> Iterator[_Pair]:
    for j, op in enumerate(trace.ops):
        spec = trace.specs[op.spec]
        if spec.name not in NORMS or op.phase != "forward" or True in spec.args[5:6]:
            continue
        result, *statistics = op.inputs
        if readers[result] != [j] or trace.storages[result].died < 0 or (i := makers.get(result, -1)) < 0:
            continue
        layer = trace.ops[i]
        before = trace.specs[layer.spec]
        tensors = [arg for arg in spec.args[1:5] if isinstance(arg, TensorSpec)]
        given = all(isinstance(arg, TensorSpec) for arg in spec.args[3:5]) and len(tensors) == len(statistics)
        if not given or before.name not in LAYERS or not _in_place_of(before, spec):
            continue
        found = [_parameter(trace, storage, makers) for storage in layer.inputs[1:]]
        held = all(trace.storages[s].kind in ("parameter", "buffer") for s in statistics)
        if held and None not in found:
            known = [one for one in found if one is not None]
            own, casts = tuple(s for s, _ in known), tuple(c for _, c in known if c >= 0)
            yield _Pair(i, j, own, casts, tuple(statistics))


def _in_place_of(layer: OpSpec, norm: OpSpec) -> bool:
    """Whether the layer's result may stand for the norm's: the same tensor, with the layer's channels where the norm's are."""
    weight = layer.inputs[1]
    rank = len(weight.shape) if layer.name in CONVS else 2
    rest = all(t.numel == 0 for t in norm.outputs[1:])
    return rest and layer.out == norm.out == norm.inputs[0] and len(layer.out.shape) == rank and not layer.mutates


def _parameter(trace: Trace, storage: int, makers: dict[int, int]) -> tuple[int, int] | None:
    """The parameter that a layer reads, and the op that casts it (-1: none); None for what is computed."""
    if trace.storages[storage].kind == "parameter":
        return storage, -1
    made = makers.get(storage, -1)
    if made < 0 or trace.specs[trace.ops[made].spec].name != CAST:
        return None
    (source,) = trace.ops[made].inputs
    return (source, made) if trace.storages[source].kind == "parameter" else None


def _alone(trace: Trace, group: Sequence[_Pair], readers: Sequence[Sequence[int]]) -> bool:
    """Whether nothing else reads what the layer and the norm hold."""
    users = {i for pair in group for i in (pair.layer, pair.norm, *pair.casts)}
    cast = [s for pair in group for c in pair.casts for s in trace.ops[c].outputs]
    return all(users.issuperset(readers[s]) for s in (*group[0].own, *cast, *group[0].statistics))


# ------------------------------------------------------------------------------------------------ the trace without them


class _Rewritten:
    """A trace whose norms go one group after the other."""

    def __init__(self, trace: Trace) -> None:
        self.old, self.model = trace, trace.model
        self.layers, self.specs, self.storages = list(trace.layers), list(trace.specs), list(trace.storages)
        self.ops: list[Op | None] = list(trace.ops)
        self.before: dict[int, Op] = {}  # a new op before an old one
        self.lost: set[int] = set()  # storages
        self.at = {layer.path: i for i, layer in enumerate(trace.layers)}
        self.biased: dict[int, int] = {}  # specs with a bias, by those without
        self.buffers = {s.name: i for i, s in enumerate(trace.storages) if s.kind == "buffer"}

    def fold(self, group: Sequence[_Pair]) -> None:
        first = group[0]
        bias = self._bias(first) if len(first.own) == 1 else None
        for pair in group:
            layer, norm = self.old.ops[pair.layer], self.old.ops[pair.norm]
            result, own = norm.outputs[0], layer.outputs[0]
            ends = self.storages[result].died, self.storages[own].died
            self.storages[result] = replace(self.storages[result], born=pair.layer, died=-1 if min(ends) < 0 else max(ends))
            self.lost.update((own, *norm.outputs[1:]))
            inputs = layer.inputs if bias is None else (*layer.inputs, bias)
            spec = layer.spec if bias is None else self._with_bias(layer.spec)
            self.ops[pair.layer], self.ops[pair.norm] = replace(layer, spec=spec, inputs=inputs, outputs=(result,)), None
        self._drop(first)

    def _bias(self, pair: _Pair) -> int:
        """The bias that a layer without one gets; as the layer reads it."""
        layer = self.old.ops[pair.layer]
        weight, read = self.storages[pair.own[0]], self.old.specs[layer.spec].inputs[1]
        channels, bits = self._channels(layer.spec), DTYPE_BITS[read.dtype]
        owner = weight.name.rpartition(".")[0]
        dtype = self.old.specs[self.old.ops[pair.casts[0]].spec].inputs[0].dtype if pair.casts else read.dtype
        nbytes = channels * DTYPE_BITS[dtype] // 8
        self._count(owner, layer.layer, channels, nbytes)
        bias = self._new(Storage(nbytes, "parameter", f"{owner}.bias".lstrip(".")))
        if not pair.casts:
            return bias
        at = pair.casts[0]
        cast = self.old.ops[at]
        made = self._new(Storage(channels * bits // 8, "activation", born=at, died=self.storages[cast.outputs[0]].died))
        spec = self.specs[cast.spec]
        one, other = TensorSpec((channels,), dtype), TensorSpec((channels,), read.dtype)
        self.specs.append(replace(spec, args=[one, *spec.args[1:]], inputs=(one,), outputs=(other,)))
        self.before[at] = replace(cast, spec=len(self.specs) - 1, inputs=(bias,), outputs=(made,))
        return made

    def _channels(self, spec: int) -> int:
        return self.specs[spec].out.shape[1]

    def _with_bias(self, spec: int) -> int:
        if spec not in self.biased:
            old = self.specs[spec]
            bias = TensorSpec((self._channels(spec),), old.inputs[1].dtype)
            kwargs = {name: value for name, value in old.kwargs.items() if name != "bias"}
            args = [*old.args[:2], bias, *old.args[3:]]
            self.biased[spec] = len(self.specs)
            self.specs.append(replace(old, args=args, kwargs=kwargs, inputs=(*old.inputs, bias)))
        return self.biased[spec]

    def _new(self, storage: Storage) -> int:
        self.storages.append(storage)
        return len(self.storages) - 1

    def _drop(self, pair: _Pair) -> None:
        """What the norm holds, its count of batches too."""
        norm = self.old.ops[pair.norm]
        for storage, tensor in zip(norm.inputs[1:], self.old.specs[norm.spec].inputs[1:], strict=True):
            if storage in self.lost:
                continue
            self.lost.add(storage)
            held = self.storages[storage]
            owner = held.name.rpartition(".")[0]
            if held.kind == "parameter":
                self._count(owner, norm.layer, -tensor.numel, -held.nbytes)
                continue
            self._forget(tensor.numel, held.nbytes)
            counted = self.buffers.get(f"{owner}.num_batches_tracked".lstrip("."))
            if counted is not None and counted not in self.lost:
                self.lost.add(counted)
                self._forget(1, self.storages[counted].nbytes)

    def _forget(self, numel: int, nbytes: int) -> None:
        m = self.model
        self.model = replace(m, buffers=m.buffers - numel, buffer_bytes=m.buffer_bytes - nbytes)

    def _count(self, owner: str, otherwise: int, numel: int, nbytes: int) -> None:
        """So many parameters more in a layer; new ones are those of inference, and no gradient is asked for them."""
        at = self.at.get(owner, otherwise)
        layer, m = self.layers[at], self.model
        least = min(numel, 0)
        trained = None if layer.trainable is None else max(layer.trainable + least, 0)
        whole = (
            m.trainable
            if m.trainable is None or layer.trainable is None or trained is None
            else (m.trainable + trained - layer.trainable)
        )
        self.layers[at] = replace(layer, params=layer.params + numel, trainable=trained)
        self.model = replace(m, params=m.params + numel, param_bytes=m.param_bytes + nbytes, trainable=whole)

    def trace(self) -> Trace:
        """All of it, with ops and storages numbered anew."""
        ops: list[Op] = []
        starts, places = [], []
        for i, op in enumerate(self.ops):
            starts.append(len(ops))
            if i in self.before:
                ops.append(self.before[i])
            places.append(len(ops))
            if op is not None:
                ops.append(op)
        starts.append(len(ops))
        kept = [i for i in range(len(self.storages)) if i not in self.lost]
        number = {old: new for new, old in enumerate(kept)}
        made = {s for op in self.before.values() for s in op.outputs}
        storages = []
        for i in kept:
            s = self.storages[i]
            born = s.born if s.born < 0 else (starts if i in made else places)[s.born]
            storages.append(replace(s, born=born, died=s.died if s.died < 0 else starts[s.died]))
        renumbered = [
            replace(op, inputs=tuple(number[s] for s in op.inputs), outputs=tuple(number[s] for s in op.outputs)) for op in ops
        ]
        return replace(
            self.old,
            model=self.model,
            layers=tuple(self.layers),
            specs=tuple(self.specs),
            ops=tuple(renumbered),
            storages=tuple(storages),
        )
