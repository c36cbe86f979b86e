"""The error tree, and what hangs onto a message about a name that nobody knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar

# Characters of a line of a message.
LINE = 900


class RooflineError(Exception):
    """Anything that a person can mend. The message is one or two lines: what was wrong, where, what to do."""

    exit_code: ClassVar[int] = 2

    def __str__(self) -> str:
        return "\n".join(map(_short, super().__str__().split("\n")))


def _short(line: str) -> str:
    """A line without its middle where it has no end: a name from a file may be a page long."""
    return line if len(line) <= LINE else f"{line[: LINE - 300]} [...] {line[-250:]}"


def safe(name: str) -> str:
    """A name cannot move the cursor, colour the terminal or break the line."""
    return "".join(c if c.isprintable() else "?" for c in name)


class UsageError(RooflineError):
    """A flag, an argument, a shape or a path that cannot be used."""


class UnknownNameError(UsageError):
    """No model, device or key of that name; the message lists the nearest."""


class DeviceFileError(RooflineError):
    """A device file that does not hold what it must: the message names file and key."""


class BudgetFileError(RooflineError):
    """A budget file that does not hold what it must: the message names file and key."""


class OutputError(RooflineError):
    """A result that cannot be written."""


class SourceError(RooflineError):
    """A model that cannot be loaded or built."""


class BuildError(SourceError):
    """The model's own code failed while it was loaded or built."""

    exit_code: ClassVar[int] = 3


class ModelError(RooflineError):
    """The model itself failed while it ran: the message names the module and its input shapes."""

    exit_code: ClassVar[int] = 3


class CheckFailed(RooflineError):
    """A budget or `--strict` failed."""

    exit_code: ClassVar[int] = 1


class BudgetExceeded(CheckFailed):
    """What runs inside `roofline.budget` would take more than it may: the message names the operator and its module."""


def close(name: str, names: Iterable[str], n: int = 1, cutoff: float = 0.6) -> list[str]:
    """The at most `n` names that are most like `name`, the nearest first, each once."""
    from difflib import get_close_matches

    return get_close_matches(name, dict.fromkeys(names), n=n, cutoff=cutoff)


def nearest(
    name: str, names: Iterable[str], n: int = 1, cutoff: float = 0.5, *, lead: str = "; ", show: Callable[[str], str] = repr
) -> str:
    """\"; did you mean 'fp32'?\" to hang onto an error, or nothing where no name is like it."""
    found = close(name, names, n, cutoff)
    return f"{lead}did you mean {' or '.join(map(show, found))}?" if found else ""
