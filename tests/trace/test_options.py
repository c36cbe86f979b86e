"""Every option has an effect or is refused: command line and Python, option by option and one beside another."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch import nn

import roofline
from roofline import cli
from roofline.analysis import budgets
from roofline.cli.options import Dtype
from roofline.dtypes import SETTINGS
from roofline.errors import BudgetFileError, RooflineError, UsageError
from roofline.records import Analysis

Capture = pytest.CaptureFixture[str]

NETS = """
import torch
from torch import nn


class Image(nn.Module):
    def __init__(self, width: int = 8, **rest: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3)
        self.conv = nn.Conv2d(width, 8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(torch.relu(self.stem(x)))


class Text(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.table = nn.Embedding(100, width)
        self.head = nn.Linear(width, 4)

    def forward(self, ids: torch.Tensor, scale: torch.Tensor | None = None) -> torch.Tensor:
        return self.head(self.table(ids) if scale is None else self.table(ids) * scale)
"""


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("options") / "nets.py"
    path.write_text(NETS, encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def there(nets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(nets.parent)


def run(capsys: Capture, *args: str) -> tuple[int, str, str]:
    code = cli.main(list(args))
    out, err = capsys.readouterr()
    return code, out, err


# ------------------------------------------------------------------------------------------------ the command line

IMAGE = ("nets.py:Image", "-d", "rtx-4090", "--input", "1,3,32,32")
TEXT = ("nets.py:Text", "-d", "rtx-4090", "--input", "ids=1,16:int64")
# what each option of analyze says beside a plain call, and in which kinds of call it cannot be
OPTIONS = {
    "--device": ("--device", "t4"),
    "--host": ("--host", "99us"),
    "--batch": ("--batch", "4"),
    "--input": ("--input", "x=2,3,16,16"),
    "--resolution": ("--resolution", "48"),
    "--dtype": ("--dtype", "fp16"),
    "--runtime": ("--runtime", "compiled"),
    "--training": ("--training",),
    "--optimizer": ("--optimizer", "sgd"),
    "--prefill": ("--prefill", "8"),
    "--decode": ("--decode", "8"),
    "--by": ("--by", "kernel"),
    "--depth": ("--depth", "0"),
    "--top": ("--top", "1"),
    "--json": ("--json",),
    "--output": ("--output", "out.csv"),
    "--strict": ("--strict",),
    "--set": ("--set", "width=16"),
    "--no-cache": ("--no-cache",),
    "--debug": ("--debug",),
    "--time-limit": ("--time-limit", "900 s"),
    "--memory-limit": ("--memory-limit", "64 GiB"),
    "--known": ("--known", "nets.py:Image --input 1,3,32,32 = 3 ms"),
    "--chart": ("--chart",),
    "--picture": ("--picture", "roofline"),
    "--size": ("--size", "slide"),
    "--dark": ("--dark",),
    "--no-advice": ("--no-advice",),
    "--threads": ("--threads", "2"),
    "--columns": ("--columns", "time,flops"),
    "--turns": ("--turns", "3"),
    "--channels-last": ("--channels-last",),
    "--fold-bn": ("--fold-bn",),
}
# these change how the work is done or what a failure says, not the answer
SILENT = {"--no-cache", "--debug", "--strict", "--time-limit", "--memory-limit"}
REFUSED = {
    ("image", "--optimizer"): "is that of a training step",
    ("image", "--prefill"): "inputs (--input) beside prefill",
    ("image", "--decode"): "inputs (--input) beside decode",
    ("text", "--resolution"): "--resolution is for images, and the input is ids [1, 16]",
    ("text", "--optimizer"): "is that of a training step",
    ("text", "--prefill"): "inputs (--input) beside prefill",
    ("text", "--decode"): "inputs (--input) beside decode",
    ("text", "--input"): "--input x: forward() of Text has no input of that name: it takes ids, scale",
    ("json", "--optimizer"): "is that of a training step",
    ("json", "--prefill"): "inputs (--input) beside prefill",
    ("json", "--decode"): "inputs (--input) beside decode",
    ("json", "--by"): "--by chooses the rows of the table",
    ("json", "--depth"): "--depth is how deep the table goes",
    ("json", "--top"): "--top shortens the table",
    ("json", "--columns"): "--columns chooses those of the table",
    ("training", "--prefill"): "inputs (--input) beside prefill",
    ("training", "--decode"): "inputs (--input) beside decode",
    ("by op", "--optimizer"): "is that of a training step",
    ("by op", "--prefill"): "inputs (--input) beside prefill",
    ("by op", "--decode"): "inputs (--input) beside decode",
    ("by op", "--depth"): "--depth is about layers, and --by op has none",
    ("by op", "--json"): "--by chooses the rows of the table",
    ("cpu", "--dtype"): "i9-10940x has no fp16 peak",
    ("by op", "--by"): "--by: given 2 times (op, kernel), and it takes one value",
    ("ideal", "--host"): "the ideal runtime has no host",
    ("ideal", "--runtime"): "--runtime: given 2 times (ideal, compiled), and it takes one value",
    ("ideal", "--optimizer"): "is that of a training step",
    ("ideal", "--prefill"): "inputs (--input) beside prefill",
    ("ideal", "--decode"): "inputs (--input) beside decode",
    ("cpu", "--host"): "i9-10940x is a CPU, which is its own host",
    ("cpu", "--optimizer"): "is that of a training step",
    ("cpu", "--prefill"): "inputs (--input) beside prefill",
    ("cpu", "--decode"): "inputs (--input) beside decode",
}
# what a call says without the option
PLAIN: dict[str, str] = {}
WAYS: dict[str, tuple[str, ...]] = {
    "image": IMAGE,
    "text": TEXT,
    "json": (*IMAGE, "--json"),
    "training": (*IMAGE, "--training"),
    "by op": (*IMAGE, "--by", "op"),
    "ideal": (*IMAGE, "--runtime", "ideal"),
    "cpu": ("nets.py:Image", "-d", "i9-10940x", "--input", "1,3,32,32"),
}
# options of a file say so where none is written
REFUSED |= {(way, o): f"{o} is about pictures" for way in WAYS for o in ("--picture", "--size", "--dark")}
REFUSED |= {(way, "--no-advice"): "--no-advice is about a page" for way in WAYS}
REFUSED |= {(way, "--turns"): "data decide of no loop of this pass" for way in WAYS}
REFUSED |= {(way, "--fold-bn"): "fold_bn: no batch norm of this pass" for way in WAYS}
REFUSED[("training", "--fold-bn")] = "fold_bn (--fold-bn) beside training"
REFUSED[("text", "--channels-last")] = "channels_last: no parameter, buffer or input of floats here is an image"
REFUSED |= {(way, "--threads"): "threads (--threads) are a CPU's" for way in WAYS if way != "cpu"}
REFUSED[("json", "--chart")] = "--chart draws in the terminal"


def test_the_table_holds_every_option() -> None:
    from roofline.cli import app

    command = app.program().commands["analyze"]
    assert {p.opts[-1] for p in command.params if p.param_type_name == "option"} == set(OPTIONS)


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("way", WAYS)
def test_an_option_changes_what_is_said_or_is_refused(way: str, option: str, capsys: Capture) -> None:
    base = WAYS[way]
    more = OPTIONS[option]
    if way not in PLAIN:
        code, PLAIN[way], _ = run(capsys, "analyze", *base)
        assert code == 0
    plain = PLAIN[way]
    if option == "--input" and way != "text":  # a shape in place of the other
        base = tuple(a for a in base if a not in ("--input", "1,3,32,32"))
    code, out, err = run(capsys, "analyze", *base, *more)
    words = REFUSED.get((way, option))
    if words is not None:
        assert (code, out) == (2, "")
        assert words in err
        assert len(err.splitlines()) <= 2
        return
    assert code == 0, err
    if option in SILENT or (option == "--training" and way == "training") or (option == "--json" and way == "json"):
        assert out == plain
    elif option == "--output":
        assert Path("out.csv").read_text(encoding="utf-8").startswith("op," if way == "by op" else "layer,")
    else:
        assert out != plain, f"{option} was dropped in silence"


SINGLE = [
    (("analyze", "m"), "--batch", "1", "32"), (("analyze", "m"), "--resolution", "64", "96"),
    (("analyze", "m"), "--dtype", "fp32", "fp16"), (("analyze", "m"), "--runtime", "eager", "ideal"),
    (("analyze", "m"), "--optimizer", "sgd", "sgd"), (("analyze", "m"), "--prefill", "8", "16"),
    (("analyze", "m"), "--top", "1", "2"), (("analyze", "m"), "--depth", "1", "2"), (("analyze", "m"), "--by", "op", "op"),
    (("analyze", "m"), "--host", "1us", "2us"), (("diff", "a", "b"), "--device", "t4", "a10"),
    (("diff", "a", "b"), "--batch", "1", "2"), (("crosscheck", "m"), "--batch", "1", "2"),
    (("crosscheck", "m"), "--top", "1", "2"), (("measure", "m"), "--threads", "1", "2"),
    (("measure", "m"), "--seconds", "1", "2"), (("calibrate",), "--output", "a", "b"),
    (("validate", "t", "-d", "t4"), "--limit", "1", "2"), (("validate", "t", "-d", "t4"), "--seed", "1", "2"),
    (("devices",), "--kind", "cpu", "gpu"), (("devices",), "--sort", "fp32", "dram"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "option", "one", "two"), SINGLE)
def test_an_option_with_one_value_is_refused_twice(
    command: tuple[str, ...], option: str, one: str, two: str, capsys: Capture
) -> None:
    for more in ((option, one, option, two), (f"{option}={one}", option, two)):
        code, out, err = run(capsys, *command, *more)
        assert (code, out) == (2, "")
        assert f"{option}: given 2 times ({one}, {two}), and it takes one value" in err
        assert len(err.splitlines()) == 1


def test_short_options_are_counted_with_the_long_ones(capsys: Capture) -> None:
    assert "--batch: given 3 times (1, 2, 3)" in run(capsys, "analyze", "m", "-b", "1", "-b2", "--batch=3")[2]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ("analyze nets.py:Text --input ids=1,8:int64 --input ids=1,9:int64", "--input ids: given 2 times"),
        ("analyze nets.py:Text --input idx=1,8:int64", "has no input of that name: did you mean ids?"),
        ("analyze nets.py:Text --input ids=1,8:int64 --input scal=1", "did you mean scale?"),
        ("analyze nets.py:Text --set widht=4 --input ids=1,8:int64", "takes no argument 'widht': did you mean width?"),
        ("analyze nets.py:Text --resolution 64 --input 1,16,32", "--resolution is for images, and the input is 0 [1, 16, 32]"),
        ("check --json --github", "--github prints annotations beside the table"),
        ("crosscheck resnet50 --json --all", "--all is about the table"),
        ("crosscheck resnet50 --json --top 3", "--top is about the table"),
        ("calibrate -d gpu -o gpu.toml --threads 2", "--threads is about the threads of a CPU"),
        ("measure nets.py:Image -d gpu --hold", "--hold is about the threads of a CPU"),
        ("measure nets.py:Image --json --top 3", "--top shortens the table"),
        ("measure nets.py:Image --by op --depth 3", "--depth is about layers"),
        ("validate nets.py -d t4 --seed 4", "--seed draws a sample"),
        ("validate nets.py -d t4 --fit f.toml --jobs 2", "--jobs is for predicting"),
        ("validate nets.py -d t4 --column model=a --column model=b", "--column model: given twice"),
        ("validate nets.py -d t4 --column model", "--column 'model': expected ARG=VALUE, such as --column model=name"),
        ("devices t4 tesla-t4", "t4: given twice"),
        ("devices t4 --sort dram", "--sort orders a list, and t4 is one device"),
    ],
)
def test_what_would_have_no_effect_is_refused(args: str, words: str, capsys: Capture) -> None:
    code, out, err = run(capsys, *args.split())
    assert (code, out) == (2, "")
    assert words in err
    assert len(err.splitlines()) <= 2


def test_what_a_catch_all_takes_is_noted(capsys: Capture) -> None:
    code, out, _ = run(capsys, "analyze", *IMAGE, "--set", "widht=4")
    assert code == 0
    assert "--set widht: Image has no such argument, it went into **rest and may not be read; did you mean width?" in " ".join(
        out.split()
    )


def test_rows_of_a_csv_are_those_asked_for(capsys: Capture) -> None:
    first = {}
    for by in ("layer", "op", "kernel"):
        code, _, err = run(capsys, "analyze", *IMAGE, "--json", "--by", by, "-o", f"{by}.csv")
        assert code == 0, err
        first[by] = Path(f"{by}.csv").read_text(encoding="utf-8").partition("\n")[0].split(",")[:2]
    assert first == {"layer": ["path", "type"], "op": ["op", "class"], "kernel": ["layer", "op"]}


def test_one_list_of_dtypes(tmp_path: Path, capsys: Capture) -> None:
    """The command line, a budget file and Python take the same: `int8` is refused by all three for the same reason."""
    assert [*Dtype] == [*SETTINGS, "int8"]
    file = tmp_path / "roofline.toml"
    for dtype in (*SETTINGS, "int8", "fp63"):
        file.write_text(f'[[budget]]\nmodel = "m"\ndtype = "{dtype}"\nmax_params = 1\n', encoding="utf-8")
        said = set()
        try:
            asked = budgets.load_budgets(file)[0].request
            assert asked is not None
            assert asked.what.dtype == dtype
        except BudgetFileError as error:
            said.add(str(error))
        try:
            found = roofline.analyze("nets.py:Image", device="rtx-4090", inputs=["1,3,32,32"], dtype=dtype)
            assert found.setting.dtype == dtype
        except UsageError as error:
            said.add(str(error))
        code, _, err = run(capsys, "analyze", *IMAGE, "--dtype", dtype)
        words = {"int8": "int8 needs a quantized model", "fp63": "fp63"}.get(dtype)
        assert code == (2 if words else 0), err
        assert len(said) == (2 if words else 0)
        assert all(words in text for text in (*said, err)) if words else not said


# ------------------------------------------------------------------------------------------------ Python


def module() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())


X = torch.zeros(2, 3, 16, 16)
CHANGES: dict[str, Any] = {
    "device": "t4", "host": "99 us", "batch": 5, "inputs": ["3,3,20,20"], "args": [X], "kwargs": {"input": X},
    "resolution": 40, "dtype": "fp16", "runtime": "compiled", "training": True, "optimizer": "sgd", "prefill": 8, "decode": 8,
    "settings": {"width": 16}, "known": ["mobilenet_v2 -b 8 = 90 ms"], "cache": False, "progress": lambda text: None,
    "turns": 3, "channels_last": True, "fold_bn": True,
}  # fmt: skip
CALLS: dict[str, tuple[Any, dict[str, Any]]] = {
    "by name": ("nets.py:Image", {}),
    "module": (module(), {}),
    "args": (module(), {"args": [torch.zeros(1, 3, 32, 32)]}),
    "kwargs": (module(), {"kwargs": {"input": torch.zeros(1, 3, 32, 32)}}),
    "training": (module(), {"training": True}),
}
NOT: dict[tuple[str, str], str] = {
    **{(call, "optimizer"): "ask for training too" for call in ("by name", "module", "args", "kwargs")},
    **{(call, "settings"): "a module is built already" for call in ("module", "args", "kwargs", "training")},
    **{
        (call, name): f"{name} beside {call}: {call} is the whole call"
        for call in ("args", "kwargs")
        for name in ("batch", "inputs", "resolution")
    },
    **{
        (call, name): f"{name} beside {call}: {name} makes the call"
        for call in ("args", "kwargs")
        for name in ("prefill", "decode")
    },
    **{(call, "turns"): "data decide of no loop of this pass" for call in ("by name", "module", "args", "kwargs", "training")},
    **{(call, "fold_bn"): "fold_bn: no batch norm of this pass" for call in ("by name", "module", "args", "kwargs")},
    ("training", "fold_bn"): "fold_bn (--fold-bn) beside training",
    **{("by name", name): f"{name}: a model by name takes inputs" for name in ("args", "kwargs")},
    **{(call, name): "not a causal language model" for call in ("by name", "module") for name in ("prefill", "decode")},
    ("training", "prefill"): "three different passes",
    ("training", "decode"): "three different passes",
    ("args", "kwargs"): "got multiple values for argument",  # Python: the input is given twice
    ("kwargs", "args"): "got multiple values for argument",
}


def plain(a: Analysis) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(a)
    return found


def test_the_table_holds_every_argument() -> None:
    import inspect

    assert set(inspect.signature(roofline.analyze).parameters) - {"model"} == set(CHANGES)


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("call", CALLS)
def test_an_argument_changes_the_answer_or_is_refused(call: str, name: str) -> None:
    model, given = CALLS[call]
    base = {"device": "rtx-4090", **given}
    before = plain(roofline.analyze(model, **base))
    words = NOT.get((call, name))
    if words is not None:
        with pytest.raises(RooflineError, match=re.escape(words)) as error:
            roofline.analyze(model, **{**base, name: CHANGES[name]})
        assert len(str(error.value).splitlines()) <= 3
        return
    after = plain(roofline.analyze(model, **{**base, name: CHANGES[name]}))
    same = name in ("cache", "progress") or (call == "training" and name == "training")
    assert (after == before) is same, name


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"inputs": "1,3,224,224"}, "inputs is a list of shapes as text"),
        ({"inputs": [(1, 3)]}, "(1, 3) is no text"),
        ({"inputs": [X]}, "tensors go into args"),
        ({"inputs": 3}, "inputs is a list of shapes"),
        ({"settings": ["width=3"]}, "settings is a dict by name"),
        ({"settings": "width=3"}, "settings is a dict by name"),
        ({"settings": {3: 4}}, "settings is a dict by name"),
        ({"batch": "8"}, "batch is a whole number, not '8'"),
        ({"batch": 8.0}, "batch is a whole number"),
        ({"batch": True}, "batch is a whole number"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"resolution": [224, 224]}, "resolution is a whole number"),
        ({"prefill": "8"}, "prefill is a whole number"),
        ({"training": "yes"}, "training is True or False"),
        ({"training": 1}, "training is True or False"),
        ({"cache": "no"}, "cache is True or False"),
        ({"dtype": torch.float16}, "dtype is text, such as 'fp16', not torch.float16"),
        ({"dtype": "f16"}, "did you mean 'fp16'"),
        ({"runtime": None, "training": None}, "training is True or False"),
        ({"runtime": "eagre"}, "did you mean 'eager'"),
        ({"training": True, "optimizer": torch.optim.Adam}, "optimizer is text"),
        ({"training": True, "optimizer": "adamm"}, "did you mean 'adam'"),
        ({"device": ["t4", "a10"]}, "device is one name"),
        ({"device": None}, "device is one name"),
        ({"progress": True}, "progress is a function"),
        ({"host": [1]}, "host (--host): expected a number in s"),
        ({"args": X}, "args=[x] for module(x), not a bare Tensor"),
        ({"args": "x"}, "not a bare str"),
        ({"kwargs": [X]}, "kwargs is a dict by name"),
    ],
)
def test_what_is_of_a_wrong_type_is_named(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as error:
        roofline.analyze(module(), **given)
    assert words in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.ReLU, "the model is the class ReLU: give an instance"),
        (torch.relu, "the model is a function"),
        (3, "the model is a int"),
        (None, "the model is a NoneType"),
    ],
)
def test_what_is_no_model_is_refused(model: Any, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        roofline.analyze(model)


def test_a_path_is_a_name(nets: Path) -> None:
    (nets.parent / "one.py").write_text(NETS + '\nROOFLINE = {\n    "Image": {},\n}\n', encoding="utf-8")
    found = roofline.analyze(nets.parent / "one.py", device="t4", inputs=["1,3,32,32"])
    assert found.model.params == 3 * 8 * 9 + 8 + 8 * 8 * 9 + 8
    assert json.loads(msgspec.json.encode(found))["setting"]["device"] == "t4"
