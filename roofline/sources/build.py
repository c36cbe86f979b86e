"""From a Source to an nn.Module with no weights behind it, and the tensors to call it with. Imports torch.

A model is built on the meta device. Some read values while they build (a schedule of drop rates, anchor boxes): they
are built with real small tensors and meta parameters, and what even then needs values is built on the CPU.
"""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from roofline import compat, units
from roofline.errors import BuildError, RooflineError, SourceError, UsageError, nearest
from roofline.isolation import failures
from roofline.isolation.accelerator import answers, missed
from roofline.isolation.ground import FLOOR
from roofline.records import identity
from roofline.sources.calls import Example, made_by, takes_nothing
from roofline.sources.calls import call_with as call_with
from roofline.sources.calls import remarks as remarks
from roofline.sources.inputs import ASSUMED
from roofline.sources.unfilled import META, OnMeta, Unfilled, layers
from roofline.tracing import looks
from roofline.tracing.arguments import is_quantized as is_quantized
from roofline.tracing.as_found import set_mode
from roofline.tracing.here import Here
from roofline.tracing.ways import said

if TYPE_CHECKING:
    from roofline.sources.source import Source
    from roofline.sources.values import Input

# A model that meta tensors are not enough to build is built for real: up to this many bytes of parameters.
REAL_LIMIT = 3 * 2**30


class _TooLarge(Exception):
    """A model built for real has more parameters than memory should hold."""


@contextmanager
def _limited() -> Iterator[None]:
    """Ends a build whose parameters, real ones, pass the limit: a build that failed on meta for another reason would fail here
    too, after it had taken all memory."""
    taken = 0

    def registered(module: nn.Module, name: str, value: Any) -> None:
        nonlocal taken
        if isinstance(value, torch.Tensor) and not value.is_meta:
            taken += value.nbytes
            if taken > REAL_LIMIT:
                raise _TooLarge

    handle = nn.modules.module.register_module_parameter_registration_hook(registered)
    try:
        yield
    finally:
        handle.remove()


def build(source: Source, real: bool = False) -> nn.Module:
    """The module, in eval mode; with `real`, on the CPU with random weights (seed 0).

    Raises SourceError where it cannot be loaded or built, UsageError for a wrong argument.
    """
    return Builder(source)(real)


class Builder:
    """Builds one source's module, as often as asked; what the source names is loaded once."""

    def __init__(self, source: Source, make: Any = None) -> None:
        self.source = source
        # `make`: what the kind has loaded of such a source before
        self.make: Any = source.kind.load(source) if make is None else make

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of how it is built."""
        return self.source.kind.remarks(self.source, self.make)

    def __call__(self, real: bool = False) -> nn.Module:
        if isinstance(self.make, nn.Module):
            if self.source.args:
                raise UsageError(f"{self.source.name} is a finished module: --set cannot change it")
            return _evaluated(self.make)
        _check_arguments(self.make, self.source)
        if not real:
            return _built(self.make, self.source, ((META, False), (None, True), (None, None)))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return _built(self.make, self.source, ((None, None),))


def made(source: Source) -> tuple[Builder, nn.Module]:
    """A builder of the source and its module; regions of autocast that their code makes stay as they were asked for."""
    from roofline.tracing import regions

    with regions.kept():
        builder = Builder(source)
        return builder, builder()


def _built(make: Callable[..., Any], source: Source, ways: Sequence[tuple[torch.device | None, bool | None]]) -> nn.Module:
    """The module, in the first way that works: (device, whether values are real while it is built; None: everything is)."""
    first, large = None, False
    for device, hybrid in ways:
        try:
            module = _construct(make, source.args, device, hybrid)
        except RooflineError:
            raise
        except BaseException as error:
            if failures.interrupted(error) or isinstance(error, SystemExit):
                raise
            large |= isinstance(error, _TooLarge)
            first = first or error
            continue
        if not isinstance(module, nn.Module):
            where = failures.shown(source.where)
            raise SourceError(f"{where}:{source.attribute} gave a {type(module).__name__}, not an nn.Module")
        _check_whole(module, source)
        return _evaluated(module)
    assert first is not None
    unexpected = re.search(r"unexpected keyword argument '(\w+)'", failures.text(first))
    if unexpected and unexpected[1] in source.args:
        raise UsageError(f"{source.name} takes no argument {unexpected[1]!r}") from first
    words = f"{said(first)}{failures.place(first)}"
    if re.search(r"missing \d+ required", words):
        words += "\n--set NAME=VALUE gives it what it takes; what has to be made is made by a function that returns the model"
    if large:
        words += f"\nit was not built on real memory, which more than {units.binary(REAL_LIMIT)} of parameters would take"
    if wrong := _wrong_settings(make, source, ways):
        raise UsageError(f"{source.name} cannot be built with {wrong}: {words}") from first
    raise BuildError(f"the model failed: {source.name} could not be built: {words}") from first


def _wrong_settings(make: Callable[..., Any], source: Source, ways: Sequence[tuple[torch.device | None, bool | None]]) -> str:
    """ "--set width=half": the setting, or each of several, without which alone the model is built; all of them where it is no
    single one's doing. Empty where the model is not built without settings either."""

    def builds(args: dict[str, Any]) -> bool:
        for device, hybrid in ways:
            try:
                _construct(make, args, device, hybrid)
                return True
            except BaseException as error:
                if failures.interrupted(error):
                    raise
        return False

    by_hand = [k for k, v in source.args.items() if k not in source.unset or source.unset[k] is not v]
    if not by_hand or not builds(source.unset):
        return ""
    rest = {k: {n: v for n, v in source.args.items() if n != k} for k in by_hand}
    alone = [k for k in by_hand if builds(rest[k] | {n: v for n, v in source.unset.items() if n == k})]
    return " ".join(f"--set {k}={source.args[k]}" for k in alone or by_hand)


def _check_whole(module: nn.Module, source: Source) -> None:
    """Every module has run nn.Module's __init__, and none is inside itself: else torch fails in the midst of something."""
    above: list[tuple[str, nn.Module]] = []
    done: set[int] = set()

    def visit(path: str, m: nn.Module) -> None:
        if "_modules" not in m.__dict__ and not isinstance(m, torch.jit.ScriptModule):
            where = f"its layer {path}" if path else "it"
            raise BuildError(
                f"the model failed: {source.name}: {where} ({type(m).__name__}) has no parts: its __init__() does not call "
                "super().__init__()"
            )
        for outer, other in above:
            if other is m:
                inside = f"its layer {outer}" if outer else "the model itself"
                raise BuildError(f"the model failed: {source.name}: a module is inside itself: {path} is {inside}")
        if identity(m) in done:
            return
        done.add(identity(m))
        above.append((path, m))
        for name, child in m._modules.items():
            if child is not None:
                visit(f"{path}.{name}" if path else name, child)
        above.pop()

    visit("", module)


def _evaluated(module: nn.Module) -> nn.Module:
    set_mode(module, False)
    return module


def _construct(make: Callable[..., Any], args: dict[str, Any], device: torch.device | None, hybrid: bool | None) -> Any:
    """What `make` gives; where it asks for an accelerator that is not here, the host stands for that."""
    with compat.asked(traced=False, idle={}) as asked, looks.presence(missed):
        try:
            return _constructed(make, args, device, hybrid, nullcontext())
        except Exception:
            if not asked.accelerator:
                raise
    with compat.asked(traced=False, idle=answers()), looks.presence(missed):
        return _constructed(make, args, device, hybrid, Here())


def _constructed(
    make: Callable[..., Any],
    args: dict[str, Any],
    device: torch.device | None,
    hybrid: bool | None,
    inside: AbstractContextManager[Any],
) -> Any:
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        if hybrid is None:
            stack.enter_context(_limited())
        else:
            stack.enter_context(layers())
            stack.enter_context(Unfilled(hybrid))
            if device is not None:
                stack.enter_context(OnMeta())
        stack.enter_context(inside)
        stack.enter_context(FLOOR)
        return make(**args)


def _check_arguments(make: Callable[..., Any], source: Source) -> None:
    """`--set` with a name that the callable does not take is refused before anything is built."""
    try:
        parameters = inspect.signature(make).parameters
    except (TypeError, ValueError):
        return
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for key in source.args:
        if key not in parameters:
            hint = _meant(key, parameters) or f"it takes {', '.join(parameters) or 'none'}"
            raise UsageError(f"{source.name} takes no argument {key!r}: {hint}")


def _meant(name: str, names: Iterable[str], lead: str = "") -> str:
    return nearest(name, names, cutoff=0.6, lead=lead, show=str)


# ------------------------------------------------------------------------------------------------ inputs


def inputs(source: Source, module: nn.Module | None = None) -> Sequence[Input] | Example:
    """What the model is called with: as resolved, or the kind's own, sized as asked; where nobody said anything, what the
    example() beside it gives, or nothing where the module's forward() takes nothing."""
    if ASSUMED in source.notes and (example := source.kind.example(source)) is not None:
        return made_by(example, source)
    sized = source.asked.batch is not None or source.asked.resolution is not None
    if module is not None and ASSUMED in source.notes and not sized and takes_nothing(module.forward):
        return ()
    return source.kind.inputs(source) if source.inputs is None else source.inputs
