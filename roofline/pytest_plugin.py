"""For pytest: `roofline_budget` as a fixture and a mark. Nothing is imported but this until a test uses one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


def check(model: Any, inputs: Any = None, /, **given: Any) -> None:
    """Fail with the table of limits where a model does not keep them.

    `model` is an nn.Module or what `roofline.analyze` takes by name; `inputs` its shapes as text, or a tuple of the tensors
    that it is called with. Of the rest, limits are named as in a budget file (`macs="220 M"`, `min_intensity=20`,
    `warn_max_time="3 ms"`), options as in `roofline.analyze` (`device="t4"`, `batch=8`), and `allow_unknown`.
    """
    __tracebackhide__ = True
    from roofline import pipeline, request
    from roofline.analysis import limits
    from roofline.analysis.declared import LIMIT_KEYS
    from roofline.analysis.metrics import BY_NAME
    from roofline.errors import UsageError, nearest
    from roofline.views import checked

    held, options = [], {}
    allow = given.pop("allow_unknown", False)
    for key, value in given.items():
        flat = LIMIT_KEYS.fullmatch(key)
        name = flat["metric"] if flat else key
        if name in BY_NAME:
            of = BY_NAME[name]
            side = of.natural if flat is None else "min" if flat["side"] == "min" else "max"
            if limits.is_change(value):
                raise UsageError(f"roofline_budget: {key}={value!r}: a change needs a baseline, which a test has not")
            try:
                held.append(limits.limit(key, of, value, side, "warn" if flat and flat["warn"] else "fail"))
            except ValueError as error:
                raise UsageError(f"roofline_budget: {key}: {error}") from None
        elif key in request.OPTIONS:
            options[key] = value
        else:
            raise UsageError(f"roofline_budget has no {key!r}{nearest(key, [*BY_NAME, *request.OPTIONS])}")
    if not held:
        raise UsageError('roofline_budget: give a limit, such as macs="220 M"')
    if inputs is not None:
        shapes = [inputs] if isinstance(inputs, str) else list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
        options |= {"inputs": shapes} if all(isinstance(i, str) for i in shapes) else {"args": shapes}
    found = pipeline.run(request.made(model, options))
    label = model if isinstance(model, str) else type(model).__name__
    verdict = limits.check(limits.Held(label=label, limits=held, allow_unknown=allow), found)
    if not verdict.ok:
        pytest.fail(f"roofline_budget is broken\n{checked.verdicts([verdict])}", pytrace=False)


def told(model: Any, inputs: Any = None, /, **given: Any) -> None:
    """The same; what is wrong with the question, or with the model, fails the test in its own words, without our frames."""
    __tracebackhide__ = True
    from roofline.errors import RooflineError

    try:
        check(model, inputs, **given)
    except RooflineError as error:
        pytest.fail(f"{type(error).__name__}: {error}", pytrace=False)


@pytest.fixture
def roofline_budget() -> Callable[..., None]:
    """`roofline_budget(net, inputs, macs="220 M", device="t4", time="3 ms")`: fails where a limit is broken."""
    return told


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "roofline_budget(model, inputs, **limits): fail where the model breaks a limit of its cost"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    for mark in item.iter_markers("roofline_budget"):
        if not 1 <= len(mark.args) <= 2:
            pytest.fail(
                'roofline_budget: the mark takes a model and its inputs, such as (Net, "1,3,224,224", macs="220 M")',
                pytrace=False,
            )
        model, *rest = mark.args
        # a class or function makes the model, so that none is made when tests are collected
        makes = isinstance(model, type) or (callable(model) and not hasattr(model, "state_dict"))
        told(model() if makes else model, *rest, **mark.kwargs)
