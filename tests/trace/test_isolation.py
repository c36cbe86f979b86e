"""One model's modules, and what its code leaves behind, are not the next one's. Truth: arithmetic beside each model."""

from __future__ import annotations

import builtins
import ctypes
import locale
import logging
import os
import random
import signal
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

import roofline
from roofline.errors import ModelError

LAYERS = "from torch import nn\n\ndef layer():\n    return nn.Linear({width}, {width}, bias=False)\n"
NET = "from torch import nn\nfrom layers import layer\n\ndef Net():\n    return nn.Sequential(layer())\n"


def params(model: str, width: int = 4, **more: object) -> int:
    return roofline.analyze(model, inputs=(f"1,{width}",), device="t4", cache=False, **more).model.params


def write(folder: Path, **files: str) -> Path:
    """files: `layers` is layers.py, `pkg__layers` is pkg/layers.py, `pkg__init` is pkg/__init__.py."""
    for name, text in files.items():
        path = folder / (name.replace("__init", "/\0").replace("__", "/").replace("\0", "__init__") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_two_folders_with_a_module_of_the_same_name(tmp_path: Path) -> None:
    small = write(tmp_path / "small", net=NET, layers=LAYERS.format(width=4))
    large = write(tmp_path / "large", net=NET, layers=LAYERS.format(width=40))
    for _ in range(2):
        assert params(f"{small}/net.py:Net", 4) == 16
        assert params(f"{large}/net.py:Net", 40) == 1600
    assert "layers" not in sys.modules


def test_nothing_stays(tmp_path: Path) -> None:
    write(tmp_path, net=NET, layers=LAYERS.format(width=4))
    before, path, finders = set(sys.modules), list(sys.path), list(sys.meta_path)
    params(f"{tmp_path}/net.py:Net")
    new = {n for n in set(sys.modules) - before if str(tmp_path) in str(getattr(sys.modules[n], "__file__", ""))}
    assert not new
    assert sys.path == path
    assert sys.meta_path == finders


def test_a_package_of_the_same_name(tmp_path: Path) -> None:
    for name, width in (("a", 4), ("b", 40)):
        write(
            tmp_path / name,
            net=NET.replace("layers import", "models.layers import"),
            models__init="",
            models__layers="from .deep.width import WIDTH\n" + LAYERS.format(width="WIDTH"),
            models__deep__width=f"WIDTH = {width}\n",
        )
    assert params(f"{tmp_path}/a/net.py:Net", 4) == 16
    assert params(f"{tmp_path}/b/net.py:Net", 40) == 1600


def test_a_namespace_package(tmp_path: Path) -> None:
    for name, width in (("a", 4), ("b", 40)):
        write(
            tmp_path / name, net=NET.replace("layers import", "parts.layers import"), parts__layers=LAYERS.format(width=width)
        )
    assert params(f"{tmp_path}/a/net.py:Net", 4) == 16
    assert params(f"{tmp_path}/b/net.py:Net", 40) == 1600


@pytest.mark.parametrize("with_init", [True, False])
def test_relative_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_init: bool) -> None:
    text = NET.replace("from layers", "from .blocks.layers")
    write(
        tmp_path,
        pkg__net=text,
        pkg__blocks__layers="from ..width import WIDTH\n" + LAYERS.format(width="WIDTH"),
        pkg__width="WIDTH = 4\n",
    )
    if with_init:
        write(tmp_path, pkg__init="", pkg__blocks__init="")
    assert params(f"{tmp_path}/pkg/net.py:Net") == 16
    monkeypatch.chdir(tmp_path)
    assert params("pkg.net:Net") == 16
    assert params("pkg/net.py:Net") == 16


def test_a_module_by_name_is_that_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, width in (("a", 4), ("b", 40)):
        write(tmp_path / name, mine=NET, layers=LAYERS.format(width=width))
        monkeypatch.chdir(tmp_path / name)
        assert params("mine:Net", width) == width * width


def test_a_module_that_is_imported_in_the_forward_pass(tmp_path: Path) -> None:
    net = """from torch import nn

class Net(nn.Module):
    def forward(self, x):
        from late import times
        for _ in range(times):
            x = x @ x.T @ x
        return x
"""
    for name, times in (("a", 1), ("b", 3)):
        write(tmp_path / name, net=net, late=f"times = {times}\n")
    macs = [roofline.analyze(f"{tmp_path}/{n}/net.py:Net", inputs=("2,8",), device="t4", cache=False).totals.macs for n in "ab"]
    assert macs == [64, 3 * 64]  # 2x8 @ 8x2 and 2x2 @ 2x8: 32 each


@pytest.mark.parametrize("name", ["types", "statistics", "packaging", "utils", "code", "records", "source"])
def test_a_module_named_like_somebody_elses(tmp_path: Path, name: str) -> None:
    write(tmp_path, net=NET.replace("from layers", f"from {name}"), **{name: LAYERS.format(width=4)})
    before = sys.modules.get(name)
    assert params(f"{tmp_path}/net.py:Net") == 16
    assert sys.modules.get(name) is before


def test_a_neighbour_named_like_pythons_does_not_hide_it(tmp_path: Path) -> None:
    write(
        tmp_path,
        net="from types import SimpleNamespace\nassert SimpleNamespace(a=1).a\n" + NET,
        layers=LAYERS.format(width=4),
        types="",
    )
    assert params(f"{tmp_path}/net.py:Net") == 16


def test_who_imports_by_a_name_alone_finds_it_too(tmp_path: Path) -> None:
    """`__import__("x")`, as C code and old libraries say it, where a neighbour of the model has the name of somebody else's."""
    write(tmp_path, net='__import__("json").dumps({})\n' + NET, layers=LAYERS.format(width=4), statistics="")
    assert params(f"{tmp_path}/net.py:Net") == 16


def test_the_callers_own_module_stays_the_callers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = write(tmp_path / "mine", layers="mine = True\n")
    theirs = write(tmp_path / "theirs", net=NET, layers=LAYERS.format(width=4))
    monkeypatch.syspath_prepend(str(mine))
    import layers  # type: ignore[import-not-found]  # written above

    try:
        assert params(f"{theirs}/net.py:Net") == 16
        assert sys.modules["layers"] is layers
    finally:
        del sys.modules["layers"]


@pytest.mark.parametrize("whole", [True, False], ids=["package", "folder"])
def test_a_package_named_like_a_module_of_the_callers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bool) -> None:
    mine = write(tmp_path / "mine", parts="mine = True\n")
    files = {"net": NET.replace("layers import", "parts.layers import"), "parts__layers": LAYERS.format(width=4)}
    theirs = write(tmp_path / "theirs", **files, **({"parts__init": ""} if whole else {}))
    monkeypatch.syspath_prepend(str(mine))
    import parts  # type: ignore[import-not-found]  # written above

    try:
        assert params(f"{theirs}/net.py:Net") == 16
        assert sys.modules["parts"] is parts
        kept = [roofline.analyze(f"{theirs}/net.py:Net", inputs=("1,4",), device="t4") for _ in range(2)]
        assert [a.model.params for a in kept] == [16, 16]
        write(theirs, parts__layers=LAYERS.format(width=40))
        assert params(f"{theirs}/net.py:Net", 40) == 1600
    finally:
        del sys.modules["parts"]


def test_an_edit_between_two_calls_is_seen(tmp_path: Path) -> None:
    write(tmp_path, net=NET, layers=LAYERS.format(width=4))
    assert params(f"{tmp_path}/net.py:Net", 4) == 16
    write(tmp_path, layers=LAYERS.format(width=8))
    assert params(f"{tmp_path}/net.py:Net", 8) == 64


def test_bytecode_of_a_file_with_the_same_size_and_time(tmp_path: Path) -> None:
    """As tar and rsync restore it. Python itself would run the old bytecode."""
    write(tmp_path, net=NET, layers=LAYERS.format(width=4))
    os.utime(tmp_path / "layers.py", (1_700_000_000, 1_700_000_000))
    import py_compile

    py_compile.compile(str(tmp_path / "layers.py"))
    assert params(f"{tmp_path}/net.py:Net", 4) == 16
    write(tmp_path, layers=LAYERS.format(width=8))
    os.utime(tmp_path / "layers.py", (1_700_000_000, 1_700_000_000))
    assert params(f"{tmp_path}/net.py:Net", 8) == 64


OPERATORS = {
    "custom_op": '@torch.library.custom_op("roofline_iso::{name}", mutates_args=())\ndef op(x: torch.Tensor) -> torch.Tensor:\n    return x * 2\n\n@op.register_fake\ndef _(x):\n    return torch.empty_like(x)\n',  # noqa: E501  # a file's text
    "define": 'torch.library.define("roofline_iso::{name}", "(Tensor x) -> Tensor")\ntorch.library.register_fake("roofline_iso::{name}", lambda x: torch.empty_like(x))\nop = torch.ops.roofline_iso.{name}\n',  # noqa: E501  # a file's text
    "Library": 'lib = torch.library.Library("roofline_iso_{name}", "DEF")\nlib.define("twice(Tensor x) -> Tensor")\nlib.impl("twice", lambda x: torch.empty_like(x), "Meta")\nop = torch.ops.roofline_iso_{name}.twice\n',  # noqa: E501  # a file's text
}


@pytest.mark.parametrize("how", OPERATORS)
@pytest.mark.parametrize("edited", [False, True])
def test_operators_that_a_file_registers(tmp_path: Path, how: str, edited: bool) -> None:
    text = (
        "import torch\nfrom torch import nn\n"
        + OPERATORS[how].format(name=f"{how.lower()}_{edited}".lower())
        + """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, WIDTH, bias=False)

    def forward(self, x):
        return op(self.a(x))
"""
    )
    write(tmp_path, net=text.replace("WIDTH", "4"))
    assert params(f"{tmp_path}/net.py:Net") == 16
    if edited:
        write(tmp_path, net=text.replace("WIDTH", "8"))
    assert params(f"{tmp_path}/net.py:Net") == (32 if edited else 16)
    # and a copy of it elsewhere
    other = write(tmp_path / "copy", net=text.replace("WIDTH", "16"))
    assert params(f"{other}/net.py:Net") == 64


# ------------------------------------------------------------------------------------------------ what is left behind

LEFT = {
    "default dtype": ("torch.set_default_dtype(torch.float64)", torch.get_default_dtype),
    "default device": ("torch.set_default_device('meta')", torch.get_default_device),
    "tensor type": (
        "import warnings; warnings.simplefilter('ignore'); torch.set_default_tensor_type(torch.DoubleTensor)",
        torch.get_default_dtype,
    ),
    "grad mode": ("torch.set_grad_enabled(False)", torch.is_grad_enabled),
    "threads": ("torch.set_num_threads(torch.get_num_threads() + 1)", torch.get_num_threads),
    "deterministic": ("torch.use_deterministic_algorithms(True)", torch.are_deterministic_algorithms_enabled),
    "precision": ("torch.set_float32_matmul_precision('medium')", torch.get_float32_matmul_precision),
    "autocast": ("torch.set_autocast_enabled('cpu', True)", lambda: torch.is_autocast_enabled("cpu")),
    "anomaly": ("torch.autograd.set_detect_anomaly(True)", torch.is_anomaly_enabled),
    "random": ("torch.manual_seed(1234567)", lambda: torch.get_rng_state().sum().item()),
    "python random": ("import random; random.seed(77)", random.getstate),
    "directory": ("import tempfile; os.chdir(tempfile.gettempdir())", os.getcwd),
    "environment": ("os.environ['ROOFLINE_LEFT'] = 'x'; os.environ.pop('COLUMNS', None)", lambda: dict(os.environ)),
    "argv": ("sys.argv.append('--left')", lambda: list(sys.argv)),
    "path": ("sys.path.insert(0, '/left')", lambda: list(sys.path)),
    "warnings": ("import warnings; warnings.simplefilter('error')", lambda: list(warnings.filters)),
    "signal": ("import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)", lambda: signal.getsignal(signal.SIGINT)),
    "locale": ("import locale; locale.setlocale(locale.LC_ALL, 'C')", lambda: locale.setlocale(locale.LC_ALL)),
    "recursion": ("sys.setrecursionlimit(12345)", sys.getrecursionlimit),
    "logging": (
        "import logging; logging.disable(50); logging.getLogger().setLevel(5)",
        lambda: (logging.root.level, logging.root.manager.disable),
    ),
    "stdout": ("import io; sys.stdout = io.StringIO()", lambda: sys.stdout),
    "stdout's descriptor": ("os.dup2(os.open(os.devnull, os.O_WRONLY), 1)", lambda: os.fstat(1).st_ino),
    "a layer": ("nn.Linear.forward = lambda self, x: x", lambda: nn.Linear.forward),
    "a class": ("nn.ReLU = nn.GELU", lambda: nn.ReLU),
    "a function": ("nn.functional.linear = lambda *a: a[0]", lambda: nn.functional.linear),
    "a method of tensors": ("torch.Tensor.left = lambda self: 1", lambda: hasattr(torch.Tensor, "left")),
    "a global hook": (
        "nn.modules.module.register_module_forward_hook(lambda *a: None)",
        lambda: len(nn.modules.module._global_forward_hooks),
    ),
    "a builtin": ("import builtins; builtins.print = id", lambda: builtins.print),
    "a rule": (
        "import roofline; roofline.register_flops('left::op')(lambda *a, out: 1)",
        lambda: __import__("roofline.cost").cost.rule_of("left.op"),
    ),
    "an exit handler": ("import atexit; atexit.register(os._exit, 0)", lambda: 0),
}


WHEN = ("file", "build", "forward")


def doing(folder: Path, line: str, when: str) -> str:
    """The name of a model that runs a line as its file is read, as it is built or as it runs."""
    lines = {w: line if w == when else "pass" for w in WHEN}
    write(
        folder,
        net=f"""
import builtins, os, sys, torch
from torch import nn
{lines["file"]}

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)
        {lines["build"]}

    def forward(self, x):
        {lines["forward"]}
        return self.a(x)
""",
    )
    return f"{folder}/net.py:Net"


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("what", LEFT)
def test_what_a_model_changes_is_undone(tmp_path: Path, what: str, when: str) -> None:
    change, now = LEFT[what]
    model = doing(tmp_path, change, when)
    before = now()
    roofline.analyze(model, inputs=("1,4",), device="t4", cache=False)
    assert now() == before


GONE = {
    "a builtin": ("builtins.len = None", "builtins.len"),
    "builtins that tell of errors": ("builtins.Exception = builtins.BaseException = None", "builtins.BaseException"),
    "a builtin deleted": ("del builtins.isinstance", "builtins.isinstance"),
    "our modules": ("sys.modules.update({n: None for n in sys.modules if n.startswith('roofline')})", "sys.modules['roofline"),
    "a module of Python's": ("sys.modules['os'] = None", "sys.modules['os']"),
    "the table of modules": ("sys.modules = {}", "sys.modules"),
    "how modules are found": ("sys.meta_path.clear(); sys.path = None", "sys.path"),
    "time, and how it is said": ("import time, json; time.monotonic = None; json.dumps = None", "time.monotonic"),
    "a module of a module": ("os.path = None", "os.path"),
    "a class": ("import pathlib; pathlib.Path.exists = None", "pathlib.Path.exists"),
    "threads": ("import threading; threading.current_thread = None", "threading.current_thread"),
    "contexts": ("import contextlib; contextlib.suppress = None", "contextlib.suppress"),
    "numpy": ("import numpy; numpy.array = None", "numpy.array"),
    "a mode of torch": ("import torch.utils._python_dispatch as d; d.TorchDispatchMode.__enter__ = None", "__enter__"),
    "a method of modules": ("nn.Module.named_modules = None", "Module.named_modules"),
    "our function": ("import roofline.tracing.trace as t; t.trace = lambda *a, **k: None", "roofline.tracing.trace.trace"),
    "ours that is not imported yet": ("import roofline.views.timeline as t; t.render = None", "roofline.views.timeline.render"),
    "a method of ours": (
        "import roofline.tracing.recorder as r; r.Recorder._run = None",
        "roofline.tracing.recorder.Recorder._run",
    ),
    "our rules": ("import roofline.cost.registry as r; r.RULES.clear()", "roofline.cost.registry.RULES['aten."),
    "one of our rules": ("import roofline.cost.registry as r; del r.RULES['aten.linear']", "RULES['aten.linear']"),
    "our table of dtypes": ("import roofline.dtypes as d; d.DTYPE_BITS['float32'] = 64", "DTYPE_BITS['float32']"),
    "torch's names": ("torch.inference_mode = torch.Tensor.shape = None", "torch.inference_mode"),
    "a builtin that fails": ("builtins.isinstance = lambda *a: 1 / 0", "division by zero"),
}


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("what", GONE)
def test_what_everything_stands_on_is_back_whatever_a_model_does(tmp_path: Path, what: str, when: str) -> None:
    """One line that says what it took away, where that is told; and the next model of the process is unharmed."""
    import numpy  # noqa: F401  # here before

    change, names = GONE[what]
    model = doing(tmp_path, change, when)
    write(tmp_path, plain="from torch import nn\n\n\ndef make():\n    return nn.Linear(4, 4)\n")
    said = None
    try:
        done = roofline.analyze(model, inputs=("1,4",), device="t4", cache=False)
    except roofline.RooflineError as error:
        said = str(error)
    assert said is None or "\n" not in said
    assert when != "file" or (said is not None and names in said)
    assert said is not None or done.totals.macs == 16
    assert roofline.analyze(f"{tmp_path}/plain.py:make", inputs=("1,4",), device="t4", cache=False).totals.macs == 16


def test_a_model_does_not_start_from_what_the_caller_has_set(tmp_path: Path) -> None:
    """The same file has the same numbers in any program: they go into one cache."""
    write(
        tmp_path,
        net="import torch\nfrom torch import nn\ndef Net():\n    wide = torch.get_default_dtype() != torch.float32\n"
        "    return nn.Linear(4, 400 if wide else 4)\n",
    )
    torch.set_default_dtype(torch.float64)
    try:
        assert params(f"{tmp_path}/net.py:Net") == 20
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


CHANCE = """
import random, torch, numpy
from torch import nn

def Net():
    return nn.Linear(4, random.randrange(9999) + numpy.random.randint(9999) + int(torch.randint(9999, ()).item()))
"""


def test_random_choices_are_the_same_every_time(tmp_path: Path) -> None:
    write(tmp_path, net=CHANCE)
    assert len({params(f"{tmp_path}/net.py:Net") for _ in range(3)}) == 1


def test_a_module_object_leaves_nothing_behind_either(tmp_path: Path) -> None:
    class Net(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch.set_default_dtype(torch.float64)
            os.environ["ROOFLINE_LEFT"] = "x"
            os.chdir(tmp_path)
            return x + 1

    before = os.getcwd()
    roofline.analyze(Net(), inputs=("1,4",), device="t4")
    assert torch.get_default_dtype() == torch.float32
    assert "ROOFLINE_LEFT" not in os.environ
    assert os.getcwd() == before


def test_what_the_caller_has_set_stays_for_a_module_object() -> None:
    torch.set_default_dtype(torch.float64)
    model = nn.Linear(4, 4)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    try:
        roofline.analyze(model, inputs=("1,4",), device="t4")
        assert torch.get_default_dtype() == torch.float64
        assert torch.equal(torch.get_rng_state(), state)
    finally:
        torch.set_default_dtype(torch.float32)


class Leaves(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ctypes.CDLL(None).exit(0)
        return x


@pytest.mark.skipif(os.name != "posix", reason="the C library of POSIX")
def test_a_module_object_does_not_leave_through_the_c_library() -> None:
    with pytest.raises(ModelError, match="exit of the C library"):
        roofline.analyze(Leaves(), inputs=("1,4",), device="t4")
    assert ctypes.CDLL(None).abs(-3) == 3
