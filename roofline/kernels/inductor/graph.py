"""Buffers, and the kernels that make each from others: what lowering builds up, operator by operator."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import prod

from roofline.classes import CONVS
from roofline.cost.access import strides
from roofline.kernels.facts import Facts
from roofline.kernels.inductor.layouts import CHANNELS_LAST, Layouts, filled, merged_loops, packed, through
from roofline.kernels.inductor.operators import HEAVY, LENGTHS, TAP, TWICE, is_library
from roofline.kernels.inductor.parts import Access, Buffer, Launch, Loop, Node, Read, Value
from roofline.records import Op, TensorSpec, Trace

# torch/_inductor/config.py: what several use is stored once it reads more tensors than this (realize_reads_threshold), ...
_REUSED_READS = 4
# ... anything once it reads more than this (realize_cpu_acc_reads_threshold, _realize_acc_reads_threshold_default) ...
_READS = {"cpu": 12, "gpu": 8}
# ... or takes more operations (realize_cpu_opcount_threshold, _realize_opcount_threshold_default)
_LENGTH = {"cpu": 50, "gpu": 30}


def _users(launched: list[Launch]) -> dict[tuple[int, int], list[int]]:
    """The launched ops that read each version of a storage, in order; twice where the operator names it twice."""
    version: dict[int, int] = {}
    users: dict[tuple[int, int], list[int]] = {}
    for number, (_, op, f) in enumerate(launched):
        for s in dict.fromkeys(s for s, n in zip(op.inputs, f.reads, strict=True) if n):
            times = 2 if op.inputs[0] == s and f.name.rstrip("_") in TWICE else 1
            users.setdefault((s, version.get(s, 0)), []).extend([number] * times)
        for s in dict.fromkeys(op.outputs):
            version[s] = version.get(s, 0) + 1
    return users


class Graph:
    """Which buffers there are, and the kernel that makes each from others."""

    def __init__(self, trace: Trace, launched: list[Launch], kind: str, last: bool) -> None:
        self.trace, self.launched, self.kind, self.last = trace, launched, kind, last
        self.nodes: list[Node] = []
        # operations so far as the scheduler counts them: kernels, copies of weights, the empty frame of a `cat`
        self.count = 0
        # the newest version of each storage, and those of them that the op being lowered reads
        self.values: dict[int, Value] = {}
        self.before: list[Value] = []
        self.layouts = Layouts()
        self.made: dict[Buffer, list[Node]] = {}
        # a buffer that is a part of another one (an input of `cat`)
        self.inside: dict[Buffer, Buffer] = {}
        # buffers that a library call reads: they stay as they are
        self.frozen: set[Buffer] = set()
        # written in parts: all of them are needed
        self.kept: set[Buffer] = set()
        self.assigned: set[int] = set()
        # Convolutions of one image that is a view of another operator's [height, width, channels]: it comes with a batch stride
        # of 0, which PyTorch does not take for channels-last.
        self.viewed: set[int] = set()
        self.users = _users(launched)
        # what comes after the last convolution keeps its layout (graph.py, find_nodes_prefer_channels_last)
        self.final = max((n for n, la in enumerate(launched) if la.facts.klass in CONVS), default=0) if last else 0

    def buffer(self, s: int) -> Buffer:
        value = self.values.get(s)
        return value.buffer if value else Buffer(s, 0)

    def read(self, number: int, s: int, nbytes: int, steps: tuple[int, ...] | None, taps: int, moved: int) -> Iterator[Read]:
        """What a reader of a storage reads: its buffer, or what its expression reads."""
        value = self.values.get(s)
        size = self.trace.storages[s].nbytes
        whole = nbytes >= size
        if value is None or value.stored:
            times = value.wide if value else 1
            yield Read(self.buffer(s), -1 if whole else number, nbytes * times, steps, taps, moved)
            return
        # its steps here by those in the expression, whose reads are mostly of a few kinds
        along: dict[tuple[int, ...] | None, tuple[int, ...] | None] = {None: None, value.strides: steps}
        for buffer, part, moves, own, times, elsewhere in value.reads:
            if own not in along:
                along[own] = through(value, own, steps) if own is not None and steps is not None else None
            if not whole:
                part, moves = number, int(moves * nbytes / size)
            yield Read(buffer, part, moves, along[own], times * taps, elsewhere or moved)

    def reads(self, number: int, dims: Sequence[int], moved: bool = False, taps: int = 1) -> list[Read]:
        """Everything that an op reads."""
        _, op, f = self.launched[number]
        found: list[Read] = []
        vectors = tuple(int(d == 1) for d in range(len(dims))) if f.spec.name.endswith("batch_norm") else None
        for i, (s, nbytes, t) in enumerate(zip(op.inputs, f.reads, f.spec.inputs, strict=True)):
            if not nbytes:
                continue
            steps = vectors
            if vectors is None or not i:
                steps = None if moved else self.layouts.steps(s, t, dims)
            found += self.read(number, s, nbytes, steps, taps if not i else 1, number + 1 if moved and not i else 0)
        return found

    def result(self, number: int, at: int = 0) -> Value:
        """A new version of an op's output, with its layout: that of the first input of the same rank, unless it is given."""
        _, op, f = self.launched[number]
        s, out = op.outputs[at], f.spec.outputs[at]
        inside = s in op.inputs and f.writes[at] < self.trace.storages[s].nbytes  # a part written in place: nothing moves
        own = strides(out) if inside or out.distinct != out.numel else packed(out.shape, self._order(op, f, out))
        self.layouts.place(s, out, own, inside)
        before = self.buffer(s).version
        value = Value(Buffer(s, before + 1), out.shape, own, f.writes[at])
        value.users = len(self.users.get((s, before + 1), ()))
        self.values[s] = value
        return value

    def _order(self, op: Op, f: Facts, out: TensorSpec) -> Sequence[int]:
        """Dimensions of a result from the outermost to the innermost."""
        rank = len(out.shape)
        if is_library(f):
            if self.last and f.klass in CONVS and rank == 4:
                return CHANNELS_LAST
        elif self.kind == "cpu" and f.name == "cat":
            if rank == 4 and any(self._channels_inside(*i) for i in zip(op.inputs, f.spec.inputs, strict=True)):
                return CHANNELS_LAST
        elif rank > 1 and not ("clone" in f.name and "contiguous_format" in str(f.spec.kwargs)):
            for source, t in zip(op.inputs, f.spec.inputs, strict=True):
                steps = self.layouts.steps(source, t, t.shape) if len(t.shape) == rank else None
                wide = [step for step, n in zip(steps, t.shape, strict=True) if n > 1] if steps else []
                if steps and len(wide) > 1 and all(wide):
                    return filled(steps, t.shape)
        eager = strides(out)
        return sorted(range(rank), key=lambda d: (-eager[d], d))

    def _channels_inside(self, s: int, t: TensorSpec) -> bool:
        """Whether an input makes a `cat` channels-last: its layout is fixed so (ir.py, ConcatKernel.create)."""
        if len(t.shape) != 4:  # an empty list, which `cat` takes beside tensors of any rank
            return False
        own = packed(t.shape, CHANNELS_LAST)
        if all(a == b for a, b, n in zip(strides(t), own, t.shape, strict=True) if n > 1):
            return True
        value = self.values.get(s)
        fixed = value is not None and value.stored and not self.is_open(value.buffer)
        return fixed and self.layouts.steps(s, t, t.shape) == tuple(
            0 if n == 1 else step for n, step in zip(t.shape, own, strict=True)
        )

    def node(self, op: int, reads: Iterable[Read], members: Iterable[int], fusable: bool = True) -> Node:
        node = Node(len(self.nodes), op, fusable)
        self.nodes.append(node)
        node.order = (self.count, self.count)
        self.count += 1
        node.members = [m for m in dict.fromkeys(members) if m not in self.assigned]
        self.assigned.update(node.members)
        for r in reads:
            self.add_read(node, r, False)
        return node

    def add_read(self, node: Node, r: Read, dense: bool) -> None:
        key = (r.buffer, r.part)
        known = r.steps is not None or r.moved
        walks = frozenset([(r.steps, r.moved)]) if known else frozenset()
        access, before = Access(r.nbytes, dense, walks, bool(r.moved)), node.reads.get(key)
        node.reads[key] = before | access if before else access
        node.sources.add(r.buffer)
        node.needs.update(self.made.get(r.buffer, ()))

    def add_write(self, node: Node, buffer: Buffer, nbytes: int) -> None:
        node.writes[buffer] = nbytes
        self.made.setdefault(buffer, []).append(node)

    def generated(
        self,
        op: int,
        reads: list[Read],
        dims: tuple[int, ...],
        own: tuple[int, ...],
        axes: Sequence[int] = (),
        members: Iterable[int] = (),
    ) -> Node:
        """A loop nest over `dims`, laid out as `own`, that reduces over `axes`."""
        node = self.node(op, (), members)
        order = sorted(range(len(dims)), key=lambda d: (-own[d], d))
        accesses = [r.steps for r in reads]
        outer = [d for d in order if d not in axes]
        kept = [0 if d in axes else s for d, s in enumerate(packed(dims, outer))]
        written = tuple(kept) if axes else own
        node.walk = (outer, accesses)
        node.vars = merged_loops(outer, dims, [*accesses, written])
        node.reduced = merged_loops([d for d in order if d in axes], dims, accesses)
        node.total = prod(dims)
        node.shape = dims
        if axes:
            size = prod(dims[d] for d in axes)
            node.loops = Loop(node.total // max(size, 1), size)
        walk = [*outer, *(d for d in order if d in axes)]
        for r in reads:
            if self.kind == "gpu":  # loops can be reordered there (config.loop_ordering_after_fusion)
                dense = not r.moved
            else:
                dense = not r.moved and r.part < 0 and r.steps is not None and _streams(r.steps, walk, dims)
            self.add_read(node, r, dense)
        return node

    def store(self, s: int) -> None:
        """Give the newest version of a storage a buffer."""
        value = self.values.get(s)
        if value is None or value.stored:
            return
        value.stored = True
        node = self.generated(value.ops[-1], value.reads, value.dims, value.strides, (), value.ops)
        self.add_write(node, value.buffer, value.nbytes * value.wide)

    def express(self, number: int, value: Value, reads: Iterable[Read], window: int = 1) -> None:
        """The result is an expression of these reads, stored if that is worth it (graph.py, run_node)."""
        f = self.launched[number].facts
        name = f.name.rstrip("_")
        value.reads = list(dict.fromkeys(reads))
        value.length, value.heavy = LENGTHS.get(name, 3) + TAP * (window - 1), name in HEAVY
        # an in-place operator reads the version before, whose expression goes into this one
        for source in self.before:
            if not source.stored:
                value.ops += source.ops
                value.length += source.length
                value.heavy = value.heavy or source.heavy
        value.ops = [*dict.fromkeys(value.ops), number]
        taps = sum(r.taps for r in value.reads)
        long = self.is_long(value)
        reused = value.users > 1 and (taps > _REUSED_READS or long or self.is_dear(value))
        # a user that needs it stored lets the others read it too
        wanted = value.users > 1 and taps > 1 and any(is_library(self.launched[u].facts) for u in self.users_of(value))
        if reused or wanted or taps > _READS[self.kind] or long:
            if reused and self.is_cast(value) and taps <= _READS[self.kind] and not long:
                value.wide = 2
            if (reused or taps > _READS[self.kind] or long) and len(value.dims) == 4 and number < self.final:
                self.turn(value)  # graph.py, maybe_apply_channels_last_stride_order
            self.store(value.buffer.storage)

    def turn(self, value: Value) -> None:
        """Lay an expression out channels-last as its first reader sees it; what it reads stays as it is."""
        s = value.buffer.storage
        # an expression of another rank, seen through a view, is only turned as that view asks
        own = packed(value.dims, CHANNELS_LAST) if len(value.dims) == 4 else value.strides
        for number in self.users_of(value)[:1]:
            _, op, f = self.launched[number]
            seen = f.spec.inputs[op.inputs.index(s)]
            steps = self.layouts.steps(s, seen, seen.shape)
            at = {step: d for d, (step, n) in enumerate(zip(value.strides, value.dims, strict=True)) if n > 1}
            if steps is not None and len(steps) == 4 and all(not step or step in at for step in steps):
                order = [at[steps[d]] for d in CHANNELS_LAST if steps[d]]
                if len(order) == len(at):
                    own = packed(value.dims, [*(d for d, n in enumerate(value.dims) if n == 1), *order])
        if own != value.strides:
            self.layouts.turn(s, value, own)

    def is_long(self, value: Value) -> bool:
        return value.length > _LENGTH[self.kind]

    def is_cast(self, value: Value) -> bool:
        """Whether it is halves whose only user names them twice: that computes in fp32, so the cast is used twice and gets a
        buffer (torch/_decomp/decompositions.py, pw_cast_for_opmath).
        """
        return 2 * prod(value.dims) == value.nbytes and len(set(self.users_of(value))) == 1

    def is_dear(self, value: Value) -> bool:
        return value.heavy and self.kind == "cpu"

    def users_of(self, value: Value) -> list[int]:
        return self.users.get((value.buffer.storage, value.buffer.version), [])

    def expressed(self, number: int) -> list[int]:
        """The op and those whose expressions it computes."""
        return [m for v in self.before if not v.stored for m in v.ops] + [number]

    def layout_of(self, s: int, t: TensorSpec) -> tuple[int, ...]:
        return self.layouts.steps(s, t, t.shape) or strides(t)

    def is_open(self, buffer: Buffer) -> bool:
        """Whether it can still be made inside of another buffer: by generated code, and no library call has read it."""
        makers = self.made.get(buffer, [])
        return buffer not in self.frozen and buffer not in self.inside and bool(makers) and all(n.fusable for n in makers)

    def begin(self, number: int) -> None:
        """An op is lowered next."""
        inputs = dict.fromkeys(self.launched[number].op.inputs)
        self.before = [v for s in inputs if (v := self.values.get(s)) is not None]

    def finish(self) -> None:
        """What the caller gets is stored."""
        for s in list(self.values):
            if self.trace.storages[s].died < 0:
                self.store(s)


def _streams(steps: tuple[int, ...], walk: Iterable[int], dims: Sequence[int]) -> bool:
    """Whether loops in that order go through memory without gaps."""
    seen = [d for d in walk if dims[d] > 1 and steps[d]]
    gapless = packed(dims, seen)
    return all(steps[d] == gapless[d] for d in seen)
