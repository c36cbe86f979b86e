"""Operators that take functions: attention with a score of one's own, branches, loops, scans, kernels written in Triton.

They reach the recorder as they were called. Branches and loops run as far as values tell which way they go: those of tensors
that are real, such as a counter. Where data decide, the first branch or one turn is counted, and a note says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.utils import _pytree as pytree

from roofline import compat
from roofline.cost import work
from roofline.errors import UsageError
from roofline.records import OpSpec
from roofline.request import turns_counted
from roofline.tracing.arguments import tensors_in
from roofline.tracing.memo import Meta, meta_of

# the recorder, which asks here what to do
Recorder = Any
Handler = Callable[[Recorder, Any, tuple[Any, ...], dict[str, Any]], Any]
# Turns of a loop whose condition is known.
TURNS = 10_000


def handler(func: Any) -> Handler:
    """What the recorder does with a higher-order operator."""
    own = _HANDLERS.get(func.name(), _apart)
    return own if func.name() in _DIFFERENTIABLE else partial(_not_in_training, own)


def _not_in_training(own: Handler, recorder: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Their gradients are graphs that torch compiles."""
    if recorder.trains:
        raise UsageError(f"the model calls {func.name()}, which is traced in inference only: leave training out")
    return own(recorder, func, args, kwargs)


def _record(
    recorder: Recorder, name: str, args: list[Any], tensors: Sequence[torch.Tensor], results: Sequence[torch.Tensor]
) -> None:
    """One op for what the recorder does not see the inside of. One without results may write to any of its tensors."""
    tags = [recorder._tag(t) for t in tensors]
    specs = {id(t): tag[0].spec for t, tag in zip(tensors, tags, strict=True)}
    made = [_made(recorder, t, type(tags[0][1])) for t in results]
    written = () if results else tuple(range(len(tags)))
    shown, outputs = tuple(tag[0].spec for tag in tags), tuple(meta.spec for meta, _ in made)
    spec = OpSpec(name, "", [specs.get(id(a), a) for a in args], {}, shown, outputs, False, False, written)
    recorder.kept.append(spec)
    recorder._record(spec, tags, tuple(store.id for _, store in made))


def _made(recorder: Recorder, t: torch.Tensor, kind: Any) -> tuple[Meta, Any]:
    """The marks of a tensor that the op makes which is recorded next; `kind` is the class of the record of a storage."""
    meta = meta_of(tuple(t.shape), t.stride(), t.dtype)
    store = kind(recorder, "activation", t.untyped_storage().nbytes(), "", len(recorder.ops))
    recorder._mark(t, meta, store)
    return meta, store


def _truth(value: Any) -> bool | None:
    """Whether a condition holds; None where only data tell."""
    if isinstance(value, torch.Tensor):
        return None if value.is_meta else bool(value)
    return bool(value)


def _cond(recorder: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    condition, first, second, operands = (*args, *kwargs.values())[:4]
    holds = _truth(condition)
    if holds is None:
        recorder.notes.append("torch.cond: data decide which branch runs; the first one was counted")
    with recorder:
        return (second if holds is False else first)(*operands)


def _while_loop(recorder: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    condition, body, carried, more = (*args, *kwargs.values())[:4]
    done = undecided = 0
    while undecided < (recorder.turns or 1):
        with recorder:
            holds = condition(*carried, *more)
        if (goes_on := _truth(holds)) is False:
            break
        if done == TURNS:
            raise UsageError(f"a while_loop does not end within {TURNS:,} turns")
        with recorder:
            carried = body(*carried, *more)
        if not isinstance(carried, (list, tuple)):
            carried = (carried,)
        done += 1
        undecided += goes_on is None
    if undecided:
        recorder.undecided += 1
        recorder.notes.append(f"while_loop: {turns_counted(done, recorder.turns)}")
    return tuple(carried)


def _scan(recorder: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    step, carried, rows, more = (*args, *kwargs.values())[:4]
    count, collected = len(carried), []
    with recorder:
        for i in range(rows[0].shape[0]):
            results = step(*carried, *(r.select(0, i) for r in rows), *more)
            carried = results[:count]
            collected.append(results[count:])
        return (*carried, *(torch.stack(column) for column in zip(*collected, strict=True)))


def _apart(recorder: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What eager PyTorch runs for it, with the recorder watching."""
    kernel = func.py_kernels.get(torch._C.DispatchKey.CompositeExplicitAutograd)
    if kernel is None:
        raise UsageError(
            f"the model calls {func.name()}, an operator that takes functions and that is not traced"
            "\ncall what it stands for instead: a loop or a branch in Python, or the function itself"
        )
    with recorder:
        return kernel(*args, **kwargs)


# ------------------------------------------------------------------------------------------------ attention


def _flex(recorder: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One kernel, as those who use it compile it: the scores that it changes are never in memory."""
    query, key, value, score, mask = args[:5]
    if query.is_meta:
        results = compat.flex_results(args, kwargs)
    else:
        results = func.py_kernels[torch._C.DispatchKey.CompositeExplicitAutograd](*args, **kwargs)
    weight = _per_score(recorder, score, query)
    _say_blocks(recorder, mask)
    # the sums of each row are made for a backward pass, or for who asks; nothing reads them here
    out, *rest = results
    _record(recorder, "higher_order.flex_attention", [query, key, value, weight], (query, key, value), (out,))
    return (out, *rest)


def _per_score(recorder: Recorder, score: Any, query: torch.Tensor) -> int:
    """FLOPs that the model's own function does to one score: it is called once, aside, on single numbers."""
    aside = type(recorder)(None, recorder.gpu)
    numbers = [torch.empty((), dtype=query.dtype, device="meta"), *(torch.empty((), dtype=torch.int32, device="meta"),) * 4]
    try:
        with aside:
            score(*numbers)
        counted = [work(aside.specs[op.spec]) for op in aside.ops]
        return sum(w.flops for w in counted if w is not None)
    except Exception:  # it looks into a table of its own by the number of a head, say: one step
        return 1
    finally:
        aside.close()


def _say_blocks(recorder: Recorder, mask: Any) -> None:
    """A note where a mask leaves blocks of scores out, since all are counted."""
    counts = [t for t in pytree.tree_leaves(mask) if isinstance(t, torch.Tensor)]
    sizes = [n for n in mask if isinstance(n, int)]
    if not counts or len(sizes) < 2 or min(sizes[-2:]) >= 2**29:  # no mask: one block of all
        return
    recorder.notes.append("flex_attention: every score was counted, those too that its block mask leaves out")


def _flex_backward(recorder: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    query, key, value, *_ = args
    grads = tuple(torch.empty_like(t) for t in (query, key, value))
    _record(recorder, "higher_order.flex_attention_backward", [query, query, key, value], (args[5], query, key, value), grads)
    return (*grads, ())


# ------------------------------------------------------------------------------------------------ Triton


def _triton(recorder: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A kernel of the model's own, known by the bytes of its tensors: it may write to any of them."""
    given = kwargs.get("kwargs", {})
    name = compat.triton_kernel(kwargs.get("kernel_idx"))
    tensors = tuple(tensors_in(given))
    _record(recorder, f"triton.{name}", list(tensors), tensors, ())
    return dict(given) if func.name().endswith("functional") else None


@contextmanager
def at_hand(recorder: Recorder, modules: Iterable[Any], device: torch.device | None) -> Iterator[None]:
    """Meanwhile attention and kernels of one's own run without a GPU: those of the packages that the model has imported.

    What the modules hold for it goes to `device`, where there is one. A launch of Triton is one op, known by its bytes.
    """

    def launched(name: str, arguments: Any) -> None:
        tensors = tuple(tensors_in(arguments))
        _record(recorder, f"triton.{name}", list(tensors), tensors, ())

    with compat.flex_anywhere(modules, device), compat.triton_anywhere(launched, recorder):
        yield


_HANDLERS: dict[str, Handler] = {
    "cond": _cond,
    "while_loop": _while_loop,
    "scan": _scan,
    "flex_attention": _flex,
    "flex_attention_backward": _flex_backward,
    "triton_kernel_wrapper_mutation": _triton,
    "triton_kernel_wrapper_functional": _triton,
}
_DIFFERENTIABLE = frozenset({"flex_attention", "flex_attention_backward"})
