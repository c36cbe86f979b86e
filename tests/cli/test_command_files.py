"""A command is a file of roofline/cli/commands, and nothing else has to be touched for one; an option is declared once."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from roofline import cli
from roofline.cli import app, commands, options
from roofline.cli.app import program
from roofline.cli.groups import Group
from roofline.request import OPTIONS

FOLDER = Path(commands.__file__).parent
FILES = sorted(path for path in FOLDER.glob("*.py") if path.stem != "__init__")
DECLARED = re.compile(r'typer\.Option\(\s*(?:"-\w",\s*)?"(--[\w-]+)"')
Capture = pytest.CaptureFixture[str]

TOY = '''
from roofline.cli.options import AskOptions, Debug, Json, Model
from roofline.cli.terminal import out, out_json
from roofline.request import made

SHORT = "A toy."
ORDER = 99


def run(model: Model, *, ask: AskOptions, json: Json = False, debug: Debug = False) -> None:
    """Say what was asked."""
    request = made(model, ask.given())
    out_json(request.ask.settings) if json else out(f"{request.ask.model} {request.ask.batch} {request.ask.inputs}")
'''


def test_a_file_makes_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    (tmp_path / "toy.py").write_text(TOY, encoding="utf-8")
    monkeypatch.setattr(commands, "__path__", [*commands.__path__, str(tmp_path)])
    assert cli.main(["toy", "net", "-b", "3", "--input", "x=1,2", "--input", "y=3"]) == 0
    assert capsys.readouterr().out == "net 3 ('x=1,2', 'y=3')"
    assert cli.main(["toy", "net", "--set", "a=1", "--json"]) == 0
    assert capsys.readouterr().out == '{\n  "a": "1"\n}\n'
    assert cli.main(["toy", "net", "-b", "0"]) == 2
    assert "-b" in capsys.readouterr().err
    assert cli.main(["toy", "net", "-b", "1", "-b", "2"]) == 2
    assert "--batch: given 2 times (1, 2)" in capsys.readouterr().err
    assert cli.main(["toy", "--help"]) == 0
    assert "Say what was asked." in capsys.readouterr().out
    assert cli.main(["--help"]) == 0
    assert re.search(r"^  toy +A toy\.$", capsys.readouterr().out, re.MULTILINE)
    assert cli.main(["toi"]) == 2
    assert "No such command 'toi'. Did you mean 'toy'?" in capsys.readouterr().err


def test_the_commands_are_those_of_the_folder() -> None:
    made = program().commands
    assert sorted(made) == [path.stem for path in FILES]
    assert len({__import__(f"{commands.__name__}.{name}", fromlist=["ORDER"]).ORDER for name in made}) == len(FILES)


def test_the_help_of_the_program_imports_no_command(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """Nor does a name that is none; and a file whose lines are written in another way is asked itself."""
    monkeypatch.setattr(app.importlib, "import_module", lambda name: pytest.fail(f"{name} imported"))
    assert cli.main(["--help"]) == 0
    shown = re.findall(r"^  (\w+) +(\S.*\.)$", capsys.readouterr().out.partition("\nCommands:\n")[2], re.MULTILINE)
    assert [name for name, _ in shown][:2] == ["analyze", "explain"]
    assert dict(shown) == {path.stem: app._declared(path.stem)[1] for path in FILES}
    assert cli.main(["sweeep"]) == 2
    assert "Did you mean 'sweep'" in capsys.readouterr().err


def test_a_line_of_help_that_no_text_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    toy = TOY.replace('"A toy."', '"A " + "toy."').replace("99", "9.5 * 10")
    (tmp_path / "toys.py").write_text(toy, encoding="utf-8")
    monkeypatch.setattr(commands, "__path__", [*commands.__path__, str(tmp_path)])
    assert cli.main(["--help"]) == 0
    assert capsys.readouterr().out.endswith("\n  toys        A toy.\n")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_command_file_has_what_a_command_needs(path: Path) -> None:
    module = __import__(f"{commands.__name__}.{path.stem}", fromlist=["run"])
    under = getattr(module, "UNDER", None)
    assert app._declared(path.stem) == (module.ORDER, module.SHORT)
    assert module.SHORT.endswith(".")
    assert len(module.SHORT) < 66  # a line of the help
    for function in under.values() if under else [module.run]:
        assert inspect.getdoc(function)
        assert "debug" in inspect.signature(function).parameters  # where errors end, it is looked for in every command


def test_a_group_names_the_options_of_a_request() -> None:
    """Every option of a request has its option on the command line, apart from a call in Python and the device."""
    groups = (options.AskOptions, options.PassOptions, options.PlaceOptions)
    fields = [name for group in groups for name in group.__struct_fields__]
    assert sorted([*fields, "args", "kwargs", "device"]) == sorted(OPTIONS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_command_declares_a_shared_option_again(path: Path) -> None:
    """What stands in `options` is taken from there; validate's say what a table was measured in, which is another thing."""
    text = path.read_text(encoding="utf-8")
    if path.stem == "validate":
        text += (path.parents[1] / "tables.py").read_text(encoding="utf-8")
    shared, own = (set(DECLARED.findall(t)) for t in (Path(options.__file__).read_text(encoding="utf-8"), text))
    other = {
        "calibrate": {"--device", "--output"}, "measure": {"--device"}, "crosscheck": {"--top"},
        "validate": {"--device", "--dtype", "--runtime", "--output", "--training"}, "compare": {"--batch"},
        "report": {"--batch", "--dtype", "--runtime", "--output"}, "check": {"--output"}, "diff": {"--output"},
        "query": {"--top", "--columns"},
        "sweep": {"--device", "--output", "--batch", "--resolution", "--dtype", "--runtime", "--prefill", "--decode",
                  "--time-limit", "--memory-limit"},
    }  # fmt: skip
    assert own & shared == other.get(path.stem, set())


def test_groups_stay_apart() -> None:
    groups = [kind for kind in vars(options).values() if isinstance(kind, type) and issubclass(kind, Group)]
    fields = [name for kind in groups for name in kind.__struct_fields__]
    assert len(groups) > 4
    assert len(fields) == len(set(fields))
