"""roofline: what a PyTorch model costs, and why it is as fast as it is.

`analyze` is the whole program in one call. Importing this package does not import torch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from roofline.devices.device import Device
from roofline.errors import BudgetExceeded, RooflineError
from roofline.records import Analysis
from roofline.version import __version__

if TYPE_CHECKING:
    from torch import nn

    from roofline.cost import register_flops as register_flops
    from roofline.gate.counting import Counter
    from roofline.records import Work as Work
    from roofline.records.comparison import Comparison as Comparison
    from roofline.records.explanation import Explanation as Explanation
    from roofline.records.sweep import Rows

__all__ = [
    "Analysis", "BudgetExceeded", "Comparison", "Device", "Explanation", "RooflineError", "Work", "__version__", "analyze",
    "budget", "compare", "explain", "register_flops", "sweep",
]  # fmt: skip


def _text(analysis: Analysis) -> str:
    from roofline.views.table import text

    return text(analysis)


def _html(analysis: Analysis) -> str:
    from roofline.views import notebook

    return notebook.analysis(analysis)


def _frame(analysis: Analysis, by: str) -> Any:
    from roofline.views import notebook

    return notebook.frame(analysis, by)


Analysis.VIEWS.update(text=_text, html=_html)
Analysis.FRAMES.append(_frame)


def __getattr__(name: str) -> Any:
    if name == "register_flops":
        from roofline.cost import register_flops

        return register_flops
    if name == "Explanation":
        from roofline.records.explanation import Explanation

        return Explanation
    if name == "Comparison":
        from roofline.records.comparison import Comparison

        return Comparison
    if name == "Work":
        from roofline.records import Work

        return Work
    raise AttributeError(f"module 'roofline' has no attribute {name!r}")


def analyze(  # long: an option each
    model: str | os.PathLike[str] | nn.Module | Callable[..., Any],
    *,
    device: str | Device = "cpu",
    host: str | float | None = None,
    batch: int | None = None,
    inputs: Sequence[str] = (),
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    resolution: int | None = None,
    dtype: str | None = None,
    runtime: str = "eager",
    training: bool = False,
    optimizer: str | None = None,
    prefill: int | None = None,
    decode: int | None = None,
    turns: int | None = None,
    channels_last: bool = False,
    fold_bn: bool = False,
    settings: Mapping[str, Any] | None = None,
    known: Sequence[str] = (),
    cache: bool = True,
    progress: Callable[[str], None] | None = None,
) -> Analysis:
    """Analyse one pass of a model on a device, without running it.

    `model` is what the command line takes ("mobilenet_v3_large", "timm:resnet50", "net.py:Net"), an nn.Module, which
    is left as it was found, or a function to call: a loop, a loss, a method of a model. `inputs` are what `--input` takes
    ("1,3,224,224", "ids=1,128:int64", "lengths=[5,3,2]"); for a module or function, `args` and `kwargs` may give its call as
    it is, with tensors anywhere in it, real or meta. Its values are used where the model asks for them.
    `batch` and `resolution` resize the inputs, also those given. `settings` are arguments for the constructor of a model
    that is given by name.
    `host` is what the machine around a GPU needs to issue one operator ("10 us", or seconds), instead of the device file's.

    `known` are measured times on that device, of any models ("resnet50 -b 256 --dtype amp = 58 ms"): they set the clock that it
    keeps, the share of its memory's bandwidth and its host's time, and the analysis says what it rests on.

    `dtype` is fp32, tf32, fp16, bf16, amp or fp64, and where nothing is said the model's own; `runtime` is eager (a kernel
    for each operator), compiled (fused as torch.compile does) or ideal (every tensor moves once). `training` makes it a
    training step: forward, backward, and a step of the `optimizer` (sgd with momentum, adam, adamw; adam where nothing is
    said). For a causal language model of transformers, `prefill` is the number of tokens of a prompt and `decode` the number
    of tokens in the KV cache when one more is computed. A `while_loop` where data decide how often it turns is counted with
    `turns` turns (1 where nothing is said, and a note). With `channels_last` the images among parameters and inputs lie as
    `to(memory_format=torch.channels_last)` lays them; with `fold_bn` batch norms are folded into the convolutions and linear
    layers before them. Times are in seconds, sizes in bytes. What would have no effect beside
    the rest is refused.

    Raises a RooflineError: UsageError for what cannot be, ModelError where the model's forward fails.
    """
    from roofline import pipeline, request

    if isinstance(model, os.PathLike):
        model = os.fspath(model)
    options = {
        "device": device, "host": host, "batch": batch, "inputs": inputs, "args": args, "kwargs": kwargs,
        "resolution": resolution, "dtype": dtype, "runtime": runtime, "training": training, "optimizer": optimizer,
        "prefill": prefill, "decode": decode, "turns": turns, "channels_last": channels_last,
        "fold_bn": fold_bn, "settings": settings,
    }  # fmt: skip
    asked = request.made(model, options, cache=cache, progress=progress)
    if known:
        from roofline.validation import known_times

        asked = known_times.on(asked, [known] if isinstance(known, str) else known, progress)
    return pipeline.run(asked)


def explain(
    model: str | os.PathLike[str] | nn.Module | Callable[..., Any],
    *,
    device: str | Device | Sequence[str | Device] = "cpu",
    cache: bool = True,
    progress: Callable[[str], None] | None = None,
    **options: Any,
) -> Explanation:
    """Why a model takes as long as it does on a device, or on several, and what would help.

    `options` are those of `analyze`. Every number of every sentence names the run and the sum that it is; `runs` holds the
    options of each run, so that it can be asked for again. Whatever is said to help was analysed with that done.

    Raises a RooflineError as `analyze` does for the question itself; alternatives that cannot be are left out.
    """
    from roofline.advice import explanation
    from roofline.records.explanation import Explanation

    if isinstance(model, os.PathLike):
        model = os.fspath(model)
    found = _devices(device)
    Explanation.VIEWS.update(text=_explained, html=_explained_html)
    return explanation.explain(explanation.Asker(model, options, cache, progress), found)


def sweep(
    models: str | Sequence[str],
    *,
    device: str | Sequence[str] = "all",
    output: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    time_limit: float = 300.0,
    memory_limit: int = 4 * 2**30,
    retry_errors: bool = False,
    cache: bool = True,
    **options: Any,
) -> Rows:
    """The rows of many models in many settings on many devices: those of `roofline sweep`, which says what models and devices
    may be.

    `options` are those of `analyze`, of which batch, resolution, dtype, runtime, prefill and decode may be lists. With `output`
    rows are kept there, and what is there is not worked out again. Limits, in seconds and bytes, are of one model; `workers` is
    the number of processes, 0 to work in this one without limits.

    Raises a RooflineError where nothing can be asked; what goes wrong with a model stands in its rows (`status`, `error`).
    """
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from roofline.isolation.children import cores
    from roofline.records.sweep import Rows
    from roofline.sweeps import grid, run
    from roofline.sweeps.pool import Limits

    names = [[text] if isinstance(text, str) else list(text) for text in (models, device)]
    asked = grid.made(names[0], names[1], options)
    engine = run.here(asked, cores() if workers is None else workers, Limits(time_limit, memory_limit))
    with TemporaryDirectory(prefix="roofline-") as folder:
        path = Path(folder, "rows.jsonl") if output is None else Path(output)
        run.sweep(asked, path, engine, retry_errors=retry_errors, cache=cache)
        return Rows(run.rows(asked, path))


def _devices(asked: str | Device | Sequence[str | Device]) -> list[Device]:
    from roofline.devices.library import lookup

    names = [asked] if isinstance(asked, (str, os.PathLike, Device)) else asked
    return [one if isinstance(one, Device) else lookup(one) for one in names]


def _explained(found: Explanation) -> str:
    from roofline.views.explanation import render

    return render(found)


def _explained_html(found: Explanation) -> str:
    from roofline.views import notebook

    return notebook.explanation(found)


def compare(
    models: Sequence[str],
    *,
    device: str | Device | Sequence[str | Device] = "cpu",
    batch: int | Sequence[int] | None = None,
    own: str | os.PathLike[str] | None = None,
    pareto: str | None = None,
    cache: bool = True,
    progress: Callable[[str], None] | None = None,
    **options: Any,
) -> Comparison:
    """Models side by side on a device, or on several, at a batch, or at several: a row for each.

    `own` is a CSV file with numbers of yours, its first column the models; `pareto` names two or more numbers of which a model
    should be best in one ("time,accuracy"). `options` are those of `analyze`. What cannot be analysed is a row of `failed`.

    Raises a RooflineError: UsageError for what cannot be asked.
    """
    from roofline.advice import comparison
    from roofline.errors import UsageError
    from roofline.records.comparison import Comparison

    if isinstance(models, str):
        raise UsageError(f"compare({models!r}): expected several models, such as compare(['resnet50', 'vgg16'])")
    found = _devices(device)
    batches = list(batch) if isinstance(batch, Sequence) else [batch]
    for what, each in (("models", list(models)), ("device", [d.name for d in found]), ("batch", batches)):
        if not each or len(set(each)) < len(each):
            raise UsageError(f"compare: {what} has {'nothing in it' if not each else 'one of its values twice'}")
    table = comparison.table(os.fspath(own)) if own is not None else None
    front = comparison.front(pareto, table.columns if table else ()) if pareto else None
    Comparison.VIEWS.update(text=_compared, html=_compared_html)
    return comparison.compare(models, found, batches, options, own=table, pareto=front, cache=cache, progress=progress)


def _compared(found: Comparison) -> str:
    from roofline.views.comparison import render

    return render(found)


def _compared_html(found: Comparison) -> str:
    from roofline.views import notebook

    return notebook.comparison(found)


def budget(**limits: str | float) -> Counter:
    """`with roofline.budget(macs="1 G"): net(x)` runs, and raises BudgetExceeded before the operator that is too much.

    Limits are `macs`, `flops` and `kernels`, each a number or text such as "1 G". What it gives counts along: `counted.macs`.
    Raises UsageError for a limit that cannot be.
    """
    from roofline.gate.counting import Counter

    return Counter(**limits)
