"""The command line: parse, call, print. No arithmetic, no torch; each command imports what it needs when it runs.

Exit codes: 0 done, 1 a budget or --strict failed, 2 wrong usage or bad input, 3 the model itself failed, 70 a fault of
this program, 130 Ctrl-C, 141 the reader of a pipe went away.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer

from roofline.cli import commands, terminal
from roofline.cli.conversion import quicken, refuse_repeats
from roofline.cli.groups import flat
from roofline.cli.terminal import guard
from roofline.errors import UsageError


def _version(wanted: bool) -> None:
    if wanted:
        from roofline.version import __version__

        print(f"roofline {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """What a PyTorch model costs, op by op, and how fast it can be on a given GPU or CPU, without running it.

    \b
    roofline analyze mobilenet_v3_large                  on this machine's CPU
    roofline analyze resnet50 -d rtx-4090 -d t4 -b 32    on two GPUs that need not be here
    roofline analyze net.py:Net --input 1,3,64,64 -o net.html

    \b
    Exit codes: 0 done, 1 a budget or --strict failed, 2 wrong usage or bad input,
    3 the model itself failed. `roofline COMMAND --help` has more examples.
    """


def program() -> Any:
    """The whole command line, as typer makes it; a command is imported and made when somebody asks for it."""
    app = _typer(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
    app.callback()(_root)
    group: Any = typer.main.get_command(app)
    group.name = "roofline"
    _finished(group)
    group.commands = _Commands(group)
    group.format_commands = _Listed(type(group))
    return group


class _Listed:
    """Stands in for the group's format_commands(): lines of what the files say, not of commands that are made for it."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind

    def __call__(self, ctx: Any, formatter: Any) -> None:
        lines = {name: typer.core.TyperCommand(name, short_help=_declared(name)[1]) for name in _ordered()}
        self._kind(name="", commands=lines).format_commands(ctx, formatter)


class _Commands(MutableMapping[str, Any]):
    """Name -> command, of those in `commands`: one that runs does not wait for the others."""

    def __init__(self, group: Any) -> None:
        self._group, self._made = group, dict[str, Any]()

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            if name not in _names():
                raise KeyError(name)
            command = _command(name, importlib.import_module(f"{commands.__name__}.{name}"))
            _finished(command, typer.Context(self._group, **self._group.context_settings))
            self._made[name] = command
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_ordered())

    def __len__(self) -> int:
        return len(_names())

    def __setitem__(self, name: str, command: Any) -> None:
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        del self._made[name]


def _names() -> list[str]:
    return [module.name for module in pkgutil.iter_modules(commands.__path__)]


def _ordered() -> list[str]:
    return sorted(_names(), key=lambda name: _declared(name)[0])


# in a command's file, as `commands` says: one line each, so that they can be read where nobody asks for the command
_ORDER = re.compile(r"^ORDER = ([\d.]+)$", re.MULTILINE)
_SHORT = re.compile(r'^SHORT = "([^"\\]+)"$', re.MULTILINE)


def _declared(name: str) -> tuple[float, str]:
    """A command's place in `roofline --help` and its line there: of the text of its file, which is not run for them."""
    for folder in commands.__path__:
        file = Path(folder, f"{name}.py")
        if file.is_file():
            text = file.read_text(encoding="utf-8")
            order, short = _ORDER.search(text), _SHORT.search(text)
            if order and short:
                return float(order[1]), short[1]
    module = importlib.import_module(f"{commands.__name__}.{name}")  # installed without its text, or written in another way
    return module.ORDER, module.SHORT


def _command(name: str, module: ModuleType) -> Any:
    """The command of a file in `commands`."""
    app = _typer(help=module.SHORT)
    under: dict[str, Callable[..., None]] = getattr(module, "UNDER", {})
    if not under:
        run = flat(module.run)
        run.__doc__ = _filled(run.__doc__, getattr(module, "LISTS", {}))
        app.command(name, short_help=module.SHORT)(run)
        return typer.main.get_command(app)
    for key, function in under.items():
        app.command(key)(flat(function))
    made: Any = typer.main.get_command(app)
    made.name = name
    return made


def _filled(text: str | None, lists: Mapping[str, Callable[[], Iterable[str]]]) -> str | None:
    """A command's help; in its last paragraph `{name}` becomes the names that are declared elsewhere, and its lines are broken
    anew."""
    if not text or not lists:
        return text
    import textwrap

    before, mark, last = inspect.cleandoc(text).rpartition("\b\n")
    for name, given in lists.items():
        last = last.replace(f"{{{name}}}", ", ".join(given()))
    return before + mark + textwrap.fill(last, 90)


def _typer(**more: Any) -> typer.Typer:
    # plain help: it starts at once and reads the same in a pipe
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, **more)


def _finished(command: Any, parent: typer.Context | None = None) -> None:
    quicken(command, parent)
    refuse_repeats(command)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program on `argv` (default: the process's own) and return its exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    terminal.OWN_PROCESS = argv is None
    code = guard(lambda: _run(args or ["--help"]), debug="--debug" in args)
    if terminal.OWN_PROCESS:
        terminal.leave(code)
    return code


def _run(args: list[str]) -> int:
    """Typer's own main() without its handling of errors, which would print them in another form."""
    command = program()
    try:
        with command.make_context("roofline", args) as context:
            command.invoke(context)
    except typer.Exit as e:
        return e.exit_code
    except typer.Abort:
        raise KeyboardInterrupt from None
    except _CLICK_ERROR as e:
        raise UsageError(_usage(e)) from e
    return 0


# typer exports one of click's errors (or of its own copy of click's); all of them descend from the same class
_CLICK_ERROR: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def _usage(error: Any) -> str:
    """What was wrong with the command line, and where help is."""
    # pydantic, which typer asks, says whose error it is
    message = " ".join(error.format_message().split()).replace("Value error, ", "")
    context = getattr(error, "ctx", None)
    return f"{message}\ntry: {context.command_path if context else 'roofline'} --help"
