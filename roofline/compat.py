"""What this program takes of other projects beyond their public interface, all in this one place, asked by behaviour and not
by version: the argument of a language model that takes its cache, the layers of that cache, timm's fast norms, torch's own
dispatcher. A name that moved is looked for under both spellings; one that is gone is refused with the version that was met.

Importing this imports none of them.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import util
from pathlib import Path
from typing import Any

from roofline.errors import SourceError, UsageError

# The oldest release of each package that the whole program is tested with (`make matrix`); pyproject.toml says the same.
FLOORS = {
    "torch": "2.9",
    "torchvision": "0.24",
    "timm": "1.0.16",
    "transformers": "5.5",
    "onnx": "1.17",
}


# ------------------------------------------------------------------------------------------------ versions


@cache
def version(package: str) -> str:
    """The installed version of a package, without importing it; empty where it is not installed."""
    spec = util.find_spec(package)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for file in ("version.py", "_version.py", "__init__.py"):
            path = Path(place) / file
            text = path.read_text(encoding="utf-8") if path.is_file() else ""
            if found := re.search(r"^_*version_*\b[^=\n]*=\s*['\"]([^'\"]+)", text, re.M):
                return found.group(1)
    return "unknown" if spec else ""


@cache
def place(package: str) -> str:
    """Where an installed package is, without importing it."""
    spec = util.find_spec(package)
    return next(iter(spec.submodule_search_locations or ()), "") if spec else ""


def older(met: str, floor: str) -> bool:
    """Whether a version is below a floor; one that cannot be read is not. "2.9.0a0+git1" counts as 2.9.0."""
    numbers = re.match(r"\d+(?:\.\d+)*", met)
    if not numbers:
        return False
    have, want = ([int(n) for n in text.split(".")] for text in (numbers[0], floor))
    return have + [0] * (len(want) - len(have)) < want


def needs(package: str, who: str = "") -> None:
    """Raise UsageError where a package is missing or too old for us; `who` wants it. Imports nothing."""
    met, floor = version(package), FLOORS[package]
    if not met:
        subject = f"{who} needs the package {package}, which is not installed" if who else f"{package} is not installed"
        raise UsageError(f"{subject}: pip install {package}")
    if older(met, floor):
        raise UsageError(f"{package} {floor} or newer is needed, {met} is installed: pip install -U {package}")


@contextmanager
def importing(*packages: str) -> Iterator[None]:
    """Around the import of packages that depend on torch: a failure names the versions that do not go together."""
    try:
        yield
    except (ImportError, RuntimeError, AttributeError, OSError) as error:
        met = ", ".join(f"{p} {version(p) or 'missing'}" for p in (*packages, "torch"))
        raise SourceError(
            f"{packages[0]} cannot be imported ({met}): {line(error, 200)}"
            f"\ninstall builds that belong together, from one index: pip install -U torch {' '.join(packages)}"
        ) from error


def load(package: str, who: str = "") -> Any:
    """The package, imported; UsageError where it is missing or too old, SourceError where it does not fit the torch here."""
    needs(package, who)
    with importing(package):
        return importlib.import_module(package)


def line(error: BaseException, limit: int = 300) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:limit]}"


# ------------------------------------------------------------------------------------------------ torch


def holders(t: Any) -> tuple[int, int] | None:
    """C++ references to a tensor and to its storage, Python's own of it among them; None where this torch does not tell."""
    import torch

    count, stored = getattr(t, "_use_count", None), getattr(torch._C, "_storage_Use_Count", None)
    storage = t.untyped_storage()  # held meanwhile: whether Python's reference goes at once is not the same in all torches
    return (count(), stored(storage._cdata)) if count is not None and stored is not None else None


# How a model takes gradients and tangents itself; `hessian` and the like call the last, and give zeros where there are none.
_OF = "torch.autograd"
TAKEN = ((_OF, "grad"), (_OF, "backward"), (f"{_OF}.forward_ad", "make_dual"), (f"{_OF}.functional", "_autograd_grad"))
NESTED = tuple(("torch._functorch.eager_transforms", f"{kind}_increment_nesting") for kind in ("grad", "jvp"))  # torch.func's


class Asked:
    """What a model's code asked of torch while it ran."""

    def __init__(self) -> None:
        # for a device other than the host; whether it was traced, compiled or exported; for gradients without autograd; on
        # which device tensors lie; for arrays of numpy
        self.accelerator = self.tracing = self.gradients = self.place = self.arrays = False


@contextmanager
def asked(traced: bool, idle: Mapping[str, Callable[..., Any]]) -> Iterator[Asked]:
    """Note what is asked for. With `traced`, whoever asks whether it is being traced is told so, but for torch itself; with
    `idle`, the functions of torch.cuda and its like of those names are those, where there is no such device."""
    import torch

    found, saved = Asked(), list[tuple[Any, str, Any]]()

    def put(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        if (real := getattr(owner, name, None)) is not None:
            saved.append((owner, name, real))
            setattr(owner, name, make(real))

    def question(real: Callable[[], bool]) -> Callable[[], bool]:
        def answer() -> bool:
            if str(sys._getframe(1).f_globals.get("__name__", "")).partition(".")[0] == "torch":
                return real()
            found.tracing = True
            return traced or real()

        return answer

    def noted(real: Callable[[], Any]) -> Callable[[], Any]:
        def start() -> Any:
            found.accelerator = True
            return real()

        return start

    for owner, name in ((torch.jit, "is_tracing"), (torch.compiler, "is_compiling"), (torch.compiler, "is_exporting")):
        put(owner, name, question)
    for kind in ("cuda", "xpu", "mtia"):
        put(getattr(torch, kind, None), "_lazy_init", noted)
    if idle and not torch.cuda.is_available():
        for kind, name in ((k, n) for k in ("cuda", "xpu", "accelerator") for n in idle):
            put(getattr(torch, kind, None), name, lambda _, v=idle[name]: v)  # type: ignore[misc]  # default binds
    try:
        yield found
    finally:
        for owner, name, real in saved:
            setattr(owner, name, real)


# ------------------------------------------------------------------------------------------------ transformers


# transformers 5.24 calls it `cache`, earlier ones `past_key_values`, and `cache_params` where it keeps states
_CACHE = ("cache", "past_key_values", "cache_params")
# ... and this where it takes the states themselves, which it returned under the same name
STATES = "state"


def cache_argument(parameters: Mapping[str, Any]) -> str:
    """The parameter of a language model's forward() that takes its KV cache; empty where none does."""
    return next((name for name in (*_CACHE, STATES) if name in parameters), "")


def growing_cache(config: Any) -> Any:
    """transformers' cache for a configuration: `layers`, one for each layer of the model."""
    needs("transformers")
    from transformers import DynamicCache

    cache = DynamicCache(config=config)
    if not hasattr(cache, "layers"):
        raise _unknown("transformers", "its cache has no layers")
    return cache


def own_cache(module: Any, takes: str, layer: Callable[[], Any]) -> Any:
    """An empty cache of the class that a language model has for itself, as its code is annotated; None where it takes
    transformers' own. Its layers are made by `layer` when they are first asked for."""
    import typing

    from transformers import cache_utils

    inner = getattr(module, getattr(module, "base_model_prefix", ""), module)
    annotation = getattr(inspect.signature(inner.forward).parameters.get(takes), "annotation", None)
    for kind in typing.get_args(annotation) or (annotation,):
        if isinstance(kind, type) and issubclass(kind, cache_utils.DynamicCache) and kind.__module__ != cache_utils.__name__:
            cache = kind()
            if not hasattr(cache, "layer_class_to_replicate"):
                raise _unknown("transformers", f"{kind.__name__} does not say how it makes its layers")
            cache.layer_class_to_replicate = layer
            return cache
    return None


def plain_layer() -> Any:
    """A layer of a cache that keeps all keys and values, with none in it."""
    from transformers import cache_utils

    return cache_utils.DynamicLayer()


def cache_layer(layer: Any) -> str:
    """What a layer of the cache keeps: "all" keys and values, those of a "window", or neither (empty).

    SourceError for a layer with another way to keep them.
    """
    from transformers import cache_utils

    update = getattr(type(layer), "update", None)
    if update is cache_utils.DynamicSlidingWindowLayer.update:
        return "window"
    if update is cache_utils.DynamicLayer.update:
        return "all"
    if isinstance(layer, cache_utils.DynamicLayer):
        raise SourceError(
            f"its cache has layers of the type {type(layer).__name__}, which is not known here "
            f"(transformers {version('transformers')})"
        )
    return ""


def is_recurrent(layer: Any) -> bool:
    """Whether a layer of the cache keeps a state of fixed size besides or instead of keys and values."""
    return hasattr(layer, "recurrent_states") or hasattr(layer, "conv_states")


def take_state(layer: Any, begun: Any, stand_in: Callable[[Any], Any]) -> None:
    """Give a layer of a cache the state of `begun`, which has seen a token: what it knows, and stand-ins for its tensors."""
    # one tensor, or by number where a layer keeps several
    for name, value in vars(begun).items():
        if name in _KEYS or callable(value):
            continue
        several = isinstance(value, dict)
        setattr(layer, name, {k: stand_in(v) for k, v in value.items()} if several else stand_in(value))


# what a layer of the cache knows of its keys and values
_KEYS = frozenset({"keys", "values", "is_initialized", "cumulative_length", "sliding_window"})


@contextmanager
def offline() -> Iterator[None]:
    """Whatever asks the hub while a model is built is refused."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def hub_offline(offline: bool) -> bool | None:
    """Have huggingface_hub ask nobody (or ask again), where it is imported; whether it did before, None where it is not."""
    constants: Any = sys.modules.get("huggingface_hub.constants")
    if constants is None:
        return None
    before = bool(getattr(constants, "HF_HUB_OFFLINE", False))
    constants.HF_HUB_OFFLINE = offline
    return before


def rejections() -> tuple[type[Exception], ...]:
    """What a configuration class may raise for values that it rejects."""
    from huggingface_hub import errors

    # newer releases check fields with errors of their own
    strict = getattr(errors, "StrictDataclassError", ValueError)
    return (TypeError, ValueError, KeyError, AttributeError, RuntimeError, ImportError, ConnectionError, strict)


def configurations() -> Any:
    """`model_type` of a config.json -> configuration class; loads what is asked for."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    return CONFIG_MAPPING


def architecture(config: Any) -> Any:
    """The model class without a head for a configuration; None where transformers has none."""
    import transformers

    mapping = getattr(transformers.AutoModel, "_model_mapping", None)
    if mapping is None:
        raise _unknown("transformers", "AutoModel tells no classes of a configuration")
    try:
        return mapping[type(config)]
    except KeyError:
        return None


def _unknown(package: str, what: str) -> SourceError:
    return SourceError(f"{package} {version(package)} is not known here: {what}")


# ------------------------------------------------------------------------------------------------ timm


def reparameterized(module: Any) -> Any:
    """A timm model with the branches fused that it has for training alone."""
    load("timm")
    from timm.utils.model import reparameterize_model

    return reparameterize_model(module)


@contextmanager
def fused_attention(wanted: bool) -> Iterator[None]:
    """Whether models of timm that are built meanwhile call fused attention, as they do where PyTorch has it."""
    load("timm")
    from timm.layers import set_fused_attn, use_fused_attn

    before = use_fused_attn()
    if wanted != bool(before):
        set_fused_attn(wanted)
    try:
        yield
    finally:
        if wanted != bool(before):
            set_fused_attn(bool(before))


@contextmanager
def fast_norms(stand_in: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    """timm's fast norms on, each replaced by `stand_in` of torch's own: theirs ask autocast about meta, unknown to it."""
    load("timm")
    from timm.layers import fast_norm
    from torch.nn import functional

    plain: dict[str, Callable[..., Any]] = {
        "fast_group_norm": functional.group_norm,
        "fast_layer_norm": functional.layer_norm,
        "fast_rms_norm": functional.rms_norm,
    }
    for fast, name in (("fast_rms_norm2d", "rms_norm2d"), ("fast_simple_norm", "simple_norm")):
        if hasattr(fast_norm, name):
            plain[fast] = getattr(fast_norm, name)
    modules = [sys.modules[m] for m in ("timm.layers.norm", "timm.layers.norm_act") if m in sys.modules]
    saved = [(module, name, vars(module)[name]) for module in modules for name in plain if name in vars(module)]
    if not saved:
        raise _unknown("timm", "its norm layers have no fast norms")
    before = fast_norm.is_fast_norm()
    fast_norm.set_fast_norm(True)
    for module, name, _ in saved:
        setattr(module, name, stand_in(plain[name]))
    try:
        yield
    finally:
        fast_norm.set_fast_norm(before)
        for module, name, function in saved:
            setattr(module, name, function)


# What hands functions to operators.
FLEX, _TRITON = "torch.nn.attention.flex_attention", ("triton.runtime.jit", "triton.runtime.autotuner")


def functions_imported() -> bool:
    """Whether the model has imported any of it."""
    return any(name in sys.modules for name in (FLEX, *_TRITON))


@contextmanager
def flex_anywhere(modules: Iterable[Any], device: Any) -> Iterator[None]:
    """Meanwhile flex_attention takes tensors without memory, and makes no graph of its gradient, where the model has imported
    it. Masks of blocks that modules hold go to `device`, where there is one.
    """
    ours: Any = sys.modules.get(FLEX)
    inside: Any = sys.modules.get("torch._higher_order_ops.flex_attention")
    stand_ins: dict[tuple[Any, str], Any] = {}
    if ours is not None:
        stand_ins[ours, "_validate_device"] = lambda *_: None
        stand_ins[ours, "_warn_once"] = lambda *_, **__: None  # that nothing was compiled
        stand_ins[inside, "create_fw_bw_graph"] = lambda score, *_: (score, None)
        for m in modules if device is not None else ():
            held = [(name, value) for name, value in vars(m).items() if isinstance(value, ours.BlockMask)]
            m.__dict__.update({name: value.to(device) for name, value in held})
    before = {place: getattr(*place, None) for place in stand_ins}
    for (module, name), stand_in in stand_ins.items():
        setattr(module, name, stand_in)
    try:
        yield
    finally:
        for (module, name), value in before.items():
            setattr(module, name, value)


def flex_results(args: Any, kwargs: Any) -> Any:
    """What flex_attention gives for tensors without memory, as many tensors as this torch has: the result first."""
    flex = importlib.import_module("torch._higher_order_ops.flex_attention")
    found = getattr(flex, "flex_attention_fake_impl", None)
    if found is None:
        raise _unknown("torch", "flex_attention")
    return found(*args, **kwargs)


def triton_kernel(index: Any) -> str:
    """The name of a Triton kernel that torch keeps under a number."""
    table = importlib.import_module("torch._higher_order_ops.triton_kernel_wrap").kernel_side_table
    return _kernel_name(table.get_kernel(index))


@contextmanager
def triton_anywhere(launched: Callable[[str, Any], None], recorder: Any) -> Iterator[None]:
    """Meanwhile kernels of Triton are not launched: `launched` hears a name and the arguments while `recorder` watches.

    A launch inside an operator of the model's own is a part of that operator.
    """
    kinds: list[Any] = []
    for module, kind in zip(_TRITON, ("JITFunction", "Autotuner"), strict=True):
        kinds += [found] if (found := getattr(sys.modules.get(module), kind, None)) is not None else []
    modes = sys.modules["torch.utils._python_dispatch"]

    def run(kernel: Any, *args: Any, grid: Any = None, warmup: Any = None, **kwargs: Any) -> None:
        if modes._get_current_dispatch_mode() is recorder:
            launched(_kernel_name(kernel), (args, kwargs))

    before = [(kind, kind.run) for kind in kinds]
    for kind in kinds:
        kind.run = run
    try:
        yield
    finally:
        for kind, own in before:
            kind.run = own


def _kernel_name(kernel: Any) -> str:
    while hasattr(kernel, "fn"):  # configurations to choose from, around the kernel, around the function
        kernel = kernel.fn
    return str(getattr(kernel, "__name__", "kernel"))
