"""The dispatch mode that records one pass of a model operator by operator, with no memory behind the tensors.

The model runs under `torch.inference_mode` with a dispatch mode, so operators arrive as they were called: `conv2d`,
`linear`, `scaled_dot_product_attention` before they fall apart. What is one kernel in eager PyTorch is recorded as one
op; what is several is taken apart by torch's own code for it, or as `expansion.py` says where that code is a kernel's.
Tensors are meta tensors. The result of an op is remembered by its arguments' metadata, so a repeated block costs a table
look-up for each op.

Liveness comes for free: each tensor carries a reference to the `Store` of its storage, and when Python drops the last
tensor over a storage, the store notes the op at which it died.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from threading import get_ident
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from roofline.errors import UsageError
from roofline.records import Op, OpSpec, identity
from roofline.tracing import built, memo, subclasses, told
from roofline.tracing.arguments import IMPLICIT, add_key, is_packed, map_tensors, tensors_in, unpacked
from roofline.tracing.autocast import LOWER, POLICIES, Casts
from roofline.tracing.expansion import falls_apart
from roofline.tracing.memo import Entry, Meta, Store, meta_of
from roofline.tracing.operators import ONE_ON_GPU, Func, func_of, mutated, pointwise_in_place, switched_off
from roofline.tracing.subclasses import dense

aten = torch.ops.aten
META = torch.device("meta")
_empty_strided = torch.empty_strided

Packed = tuple[list[torch.Tensor | None], list[torch.Tensor]]


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """The dispatch mode: keys, remembers and records every operator."""

    def __init__(self, amp: str | None = None, gpu: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own
        self.on_gpu = gpu
        self.thread = get_ident()
        # whether anything recorded hangs on that
        self.kind_asked = amp is not None
        # what a person should know of how the pass was taken
        self.notes: list[str] = []
        # nothing was cast: operands that do not go together fail as they would on a device
        self.exact = False
        self.ops: list[Op] = []
        self.specs: list[OpSpec] = []
        self.spec_index: dict[int, int] = {}
        self.storages: list[tuple[int, str, str, int]] = []
        self.deaths: dict[int, int] = {}
        self.layer = 0
        # modules whose forward is running: the layer around each, and its inputs
        self.stack: list[tuple[int, Any]] = []
        self.phase = "forward"
        # an operator failed, which the model may not have let through
        self.refused = False
        self.policy: dict[str, str] | None
        # the policy of autocast that the model's code is under; `policy` is off while an operator runs that has been dealt with
        self.under = self.policy = POLICIES[amp] if amp else None
        # parameters, buffers, inputs and constants: kept alive, and never given an attribute
        self.known: dict[int, tuple[Meta, Store]] = {}
        self.casts = Casts(LOWER["cuda" if gpu else "cpu"], self.known)
        self.by_storage: dict[int, Store] = {}
        self.kept: list[Any] = []
        self.swapped: dict[int, torch.Tensor] = {}
        self.contents: dict[int, torch.Tensor] = {}  # storage -> what is in it, where that is known
        # what values tell of the work of the operator that is called
        self.told: dict[str, Any] = {}
        # real tensors that the pass found and writes to, and what was in them
        self.spared: list[tuple[torch.Tensor, torch.Tensor]] = []
        # packed weights of quantized operators by identity, as tensors
        self.packed: dict[int, Packed] = {}

    @property
    def gpu(self) -> bool:
        """Whether the pass is taken for a GPU; what is recorded hangs on it from now on."""
        self.kind_asked = True
        return self.on_gpu

    # operators that take functions come to `__torch_dispatch__` too
    supports_higher_order_operators = True
    trains = False  # whether the pass has a backward
    # turns of a loop where data decide, as asked; loops of that kind that were met
    turns: int | None = None
    undecided = 0
    # numbers in parameters that no part of the model holds; what the operator that failed last said
    strangers, words = 0, ""
    # those that the model starts; see `threads`
    threads: Any = None

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # True imports torch._dynamo on the first op

    # ---------------------------------------------------------------- tensors

    def close(self) -> None:
        """Let go of every tensor: stores point back here, and a cycle would wait for the garbage collector. What was written to
        tensors that were there before is undone."""
        for t, before in reversed(self.spared):
            with torch.inference_mode() if t.is_inference() else torch.no_grad():
                t.copy_(before)
        self.spared.clear()
        for held in (self.known, self.by_storage, self.swapped, self.contents, self.casts.weights, self.packed):
            held.clear()
        self.kept.clear()

    def autocast(self, policy: dict[str, str] | None) -> None:
        """The model enters or leaves a region of autocast."""
        self.under = self.policy = policy

    def arrived(self) -> None:
        """A module's forward is about to begin, in whatever thread."""
        if get_ident() != self.thread and self.threads is not None:
            self.threads.arrived()

    def failed_in(self, error: BaseException) -> int:
        """The layer that was running."""
        return self.layer

    def entered(self) -> None:
        """A module's forward begins."""

    def resumed(self) -> None:
        """It goes on in whatever thread this is."""

    def renumber(self) -> None:
        """Another thread has made, or will make, what has numbers in this one."""

    def adopt(self, t: torch.Tensor, kind: str, name: str = "") -> None:
        """Take in a tensor that no recorded op made."""
        if kind == "constant" and isinstance(t, torch.nn.Parameter):
            self.strangers += t.numel()
        storage = dense(t).untyped_storage()
        store = self.by_storage.get(storage._cdata)
        if store is None:
            store = self.by_storage[storage._cdata] = Store(self, kind, storage.nbytes(), name)
        self.known[identity(t)] = (meta_of(tuple(t.shape), t.stride(), t.dtype), store)
        self.kept.append(t)

    def adopt_packed(self, packed: Any, name: str = "") -> Packed:
        """Take in the packed weight of a quantized operator; see `unpacked`."""
        key = hash(packed)  # of the object in C++, for which Python has a new one each time
        known = self.packed.get(key)
        if known is None:
            known = self.packed[key] = unpacked(packed)
            for i, t in enumerate(known[0]):
                if t is not None:
                    label = "bias" if i % 2 else "weight"
                    self.adopt(t, "parameter", f"{name}.{label}" if name else label)
            for t in known[1]:
                self.adopt(t, "buffer", f"{name}.scale" if name else "scale")
            self.kept.append(packed)
        return known

    def _shown(self, value: Any) -> Any:
        """An argument with packed weights as lists of tensors."""
        if isinstance(value, (list, tuple)):
            return [self._shown(v) for v in value]
        if not is_packed(value):
            return value
        weights, scales = self.adopt_packed(value)
        return weights + scales if len(weights) == 2 else weights

    def _mark(self, t: torch.Tensor, meta: Meta, store: Store) -> None:
        t._roofline = (meta, store)  # type: ignore[attr-defined]  # our mark on torch's object

    def _tag(self, t: torch.Tensor) -> tuple[Meta, Store]:
        tag: tuple[Meta, Store] | None = getattr(t, "_roofline", None)
        if tag is not None and tag[1].recorder is self:
            return tag
        tag = self.known.get(identity(t))
        if tag is None:
            self.adopt(t, getattr(t, "_roofline_kind", "constant"))
            tag = self.known[identity(t)]
        return tag

    def _to_meta(self, t: torch.Tensor) -> torch.Tensor:
        """A real tensor that meets meta tensors: a constant that the model holds outside its buffers, or made of such ones.

        It is the same memory for the record, whichever of the two is asked, and lives as long.
        """
        swap = self.swapped.get(identity(t))
        if swap is None:
            swap = getattr(t, "_roofline_meta", None)
        if swap is None:
            meta, store = self._tag(t)
            swap = _empty_strided(t.shape, t.stride(), dtype=t.dtype, device=META)
            self._mark(swap, meta, store)
            if not t.is_floating_point() or t.numel() <= told.FEW:
                self.contents[store.id] = t.detach()
            if identity(t) in self.known:
                self.swapped[identity(t)] = swap
            else:  # made by an operator: it goes when the model lets go of it
                t._roofline_meta = swap  # type: ignore[attr-defined]  # our mark on torch's object
        return swap

    # ---------------------------------------------------------------- dispatch

    def __torch_dispatch__(
        self, func: torch._ops.OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if types and any(map(subclasses.speaks, types)):
            return NotImplemented  # a class of tensors that says itself what is called
        info = func_of(func)
        if info.query is not None:
            return info.query(self, func, args, kwargs)
        if info.dropout and switched_off(*args, **kwargs):
            return args[0]
        if self.policy is not None and (cast := self.policy.get(info.name)) is not None:
            return self._autocast(cast, func, args, kwargs)
        if info.composite and not (info.name in ONE_ON_GPU and self.gpu):
            try:
                with self:
                    return func._op_dk(IMPLICIT, *args, **kwargs)
            except Exception:
                self.refused = True
                raise
        if info.expand is not None and (parts := self._expanded(info.expand, args, kwargs)) is not None:
            with self:
                return parts()
        tensors: list[torch.Tensor] = []
        key: list[Any] = [func]
        seen = args
        if any([type(a) is torch.ScriptObject for a in args]) or (self.packed and any([type(a) is list for a in args])):
            seen = tuple(map(self._shown, args))
        for value in seen:
            add_key(value, key, tensors)
        for name, value in kwargs.items():
            key.append(name)
            add_key(value, key, tensors)
        real = not all([t.is_meta for t in tensors])
        if real and any(t.is_meta for t in tensors):
            args, kwargs = map_tensors(self._as_meta, args), {k: map_tensors(self._as_meta, v) for k, v in kwargs.items()}
            tensors = [self._as_meta(t) for t in tensors]
            real, seen = False, args
        tags = [self._tag(t) for t in tensors]
        key.extend([tag[0] for tag in tags])
        fixed = tuple(key)
        self.told = told.NOTHING if info.told is None else told.asked(self, info.told, args, kwargs)
        entry = memo.calls.get(fixed) if not real and not self.told else None
        if entry is not None:
            if entry.outputs is not None:
                return self._replay(entry, tags)
            if entry.same >= 0:
                self._record(entry.spec, tags, (tags[entry.same][1].id,))
                return tensors[entry.same]
        if info.explicit and entry is None and tensors:
            apart, asked = falls_apart(Recorder, self.on_gpu, func, info.explicit, fixed, args, kwargs)
            self.kind_asked |= asked
            if apart:
                with self:
                    return func._op_dk(info.explicit, *args, **kwargs)
        return self._run(
            func, info, args, seen, kwargs, tensors, tags, None if real or self.told or not tensors else fixed, entry
        )

    def _expanded(self, expand: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[], Any] | None:
        """What eager mode launches for an operator, where that is several kernels: on a kind of device some are one."""
        parts: Callable[[], Any] | None = expand(self.on_gpu, *args, **kwargs)
        if not self.kind_asked and (expand(not self.on_gpu, *args, **kwargs) is None) is not (parts is None):
            self.kind_asked = True
        return parts

    def _as_meta(self, t: torch.Tensor) -> torch.Tensor:
        return t if t.is_meta else self._to_meta(t)

    def _replay(self, entry: Entry, tags: list[tuple[Meta, Store]]) -> Any:
        """The op was seen with these metadata: make its results without asking torch."""
        results, ids, born = list[Any](), list[int](), len(self.ops)
        for meta in entry.outputs or ():
            if meta is None:
                results.append(None)
                continue
            t = _empty_strided(meta.shape, meta.stride, dtype=meta.dtype, device=META)
            store = Store(self, "activation", meta.spec.nbytes, "", born)
            self._mark(t, meta, store)
            results.append(t)
            ids.append(store.id)
        self._record(entry.spec, tags, tuple(ids))
        return results[0] if entry.single else tuple(results)

    def _record(self, spec: OpSpec, tags: list[tuple[Meta, Store]], outputs: tuple[int, ...]) -> None:
        index = self.spec_index.get(identity(spec))
        if index is None:
            index = self.spec_index[identity(spec)] = len(self.specs)
            self.specs.append(spec)
        self.ops.append(Op(index, self.layer, tuple([tag[1].id for tag in tags]), outputs, self.phase))

    def _run(  # long: every way to an answer, the quickest first
        self,
        func: torch._ops.OpOverload,
        info: Func,
        args: tuple[Any, ...],
        seen: tuple[Any, ...],
        kwargs: dict[str, Any],
        tensors: list[torch.Tensor],
        tags: list[tuple[Meta, Store]],
        key: tuple[Any, ...] | None,
        entry: Entry | None,
    ) -> Any:
        """Ask our metadata rule, else torch; record; remember where the results are fresh.

        `seen` is `args` as the record shows them: packed weights as lists of tensors.
        """
        if info.refuses is not None and (wrong := info.refuses(*args, **kwargs)):
            self.refused = True
            raise RuntimeError(wrong)
        metas = info.infer(*args, **kwargs) if info.infer is not None and key is not None else None
        if metas is not None:
            outputs = tuple([m and meta_of(*m) for m in metas])
            spec = self._spec(info, args, kwargs, tags, tuple([m for m in outputs if m]), (), False)
            one = len(outputs) == 1 and not info.name.startswith("aten._foreach_")  # a list of one is a list
            return self._replay(self._remember(key, Entry(spec, outputs, one)), tags)
        if self.exact and (wrong := built.mismatch(info.name, tensors)):
            raise RuntimeError(wrong)
        if key is not None and info.name.startswith("aten._foreach_") and info.mutates == ("self",):
            # every one of them keeps its tensors as they are; torch would loop over them in Python
            if entry is None:
                written = mutated(func, info, args, kwargs, tensors)
                entry = self._remember(key, Entry(self._spec(info, args, kwargs, tags, (), written, False), None, False))
            spec = entry.spec
            self._record(spec, tags, ())
            return None
        if key is not None and pointwise_in_place(info, tensors, tags):
            spec = self._spec(info, args, kwargs, tags, (tags[0][0],), (0,), False)
            self._remember(key, Entry(spec, None, True, 0))
            self._record(spec, tags, (tags[0][1].id,))
            return tensors[0]
        if key is None and info.mutates and not info.tracks:
            for i in mutated(func, info, args, kwargs, tensors):
                if not tensors[i].is_meta and tags[i][1].kind != "activation":
                    self.spared.append((tensors[i], tensors[i].clone()))
        before = {identity(t): tag for t, tag in zip(tensors, tags, strict=True)}
        loaded = "torch._dynamo" in sys.modules
        result = self._call(func, args, kwargs)
        if not loaded and "torch._dynamo" in sys.modules:
            # torch's own Python kernels import it at their first call, and what that leaves in cycles keeps our callers'
            # frames: their tensors would live to the end of the first pass in a process, and not of a later one
            gc.collect()
        flat = [result] if isinstance(result, torch.Tensor) else list(tensors_in(result))
        if odd := [t for t in flat if t.layout != torch.strided or t.is_nested]:
            words = subclasses.untraced(info.name, odd[0])
            self.words = f"UsageError: {words}"
            raise UsageError(words)
        born, out_metas, ids, fresh, aliased = len(self.ops), [], [], bool(flat), bool(flat)
        by_cdata = {t.untyped_storage()._cdata: tag[1] for t, tag in zip(tensors, tags, strict=True)} if flat else {}
        for t in flat:
            tag = before.get(identity(t))
            if tag is not None and not info.tracks:
                fresh = False
            else:
                meta = meta_of(tuple(t.shape), t.stride(), t.dtype)
                store = by_cdata.get(t.untyped_storage()._cdata)
                if store is None or (info.tracks and store.nbytes < t.untyped_storage().nbytes()):  # new, or grown
                    aliased = False
                    store = Store(self, "activation", t.untyped_storage().nbytes(), "", born)
                    by_cdata[t.untyped_storage()._cdata] = store
                else:
                    fresh = False
                tag = (meta, store)
                if identity(t) in self.known:
                    self.known[identity(t)] = tag
                else:
                    self._mark(t, meta, store)
            out_metas.append(tag[0])
            ids.append(tag[1].id)
        if entry is None:
            mutates = mutated(func, info, args, kwargs, tensors) if info.mutates else ()
            spec = self._spec(info, seen, kwargs, tags, tuple(out_metas), mutates, aliased and not mutates)
            single = isinstance(result, torch.Tensor)
            pure = fresh and not info.mutates and isinstance(result, (torch.Tensor, tuple))
            pure = pure and all(t.is_meta and t.storage_offset() == 0 for t in flat) and (single or len(flat) == len(result))
            same = next((i for i in mutates if result is tensors[i]), -1) if not info.tracks else -1
            entry = self._remember(key, Entry(spec, tuple(out_metas) if pure else None, single, same))
        self._record(entry.spec, tags, tuple(ids))
        return result

    def _call(self, func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            return func(*args, **kwargs)
        except Exception as error:
            if isinstance(error, NotImplementedError) and (zeros := told.on_no_cpu(func, args, kwargs)) is not None:
                self.notes.append(told.ZEROS.format(func_of(func).name))
                return zeros
            self.refused, self.words = True, f"{type(error).__name__}: {error}"
            raise

    def _remember(self, key: tuple[Any, ...] | None, entry: Entry) -> Entry:
        if key is None:
            self.kept.append(entry.spec)  # spec_index goes by id, so the spec has to outlive the trace
            return entry
        if len(memo.calls) >= memo.LIMIT:
            memo.calls.clear()
        memo.calls[key] = entry
        self.kept.append(entry)
        return entry

    def _spec(
        self,
        info: Func,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        tags: list[tuple[Meta, Store]],
        outputs: tuple[Meta, ...],
        mutates: tuple[int, ...],
        view: bool,
    ) -> OpSpec:
        return OpSpec(
            info.name,
            info.overload,
            [plain(self, a) for a in args],
            {k: plain(self, v) for k, v in (kwargs | self.told).items()},
            tuple(tag[0].spec for tag in tags),
            tuple(m.spec for m in outputs),
            info.pointwise,
            view,
            mutates,
        )

    def _autocast(self, cast: str, func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Cast the arguments as torch.autocast would, then run the op with autocast off, as torch does."""
        policy, self.policy = self.policy, None
        try:
            with self:
                args, kwargs = self.casts.arguments(cast, args, kwargs)
                return func(*args, **kwargs)
        finally:
            self.policy = policy


def plain(recorder: Recorder, value: Any) -> Any:
    """An argument as a record: tensors as TensorSpec, torch's enums as text."""
    if isinstance(value, torch.Tensor):
        return recorder._tag(value)[0].spec
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [plain(recorder, v) for v in value]
    return str(value)
