"""A model that can be built, and what a kind of model is: what every file of a kind fills in.

Nothing outside those files asks which kind a source is of; it asks the kind what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Literal

from msgspec import Struct

from roofline import compat
from roofline.errors import UsageError
from roofline.records import Trace
from roofline.request import Ask, Pass
from roofline.sources.inputs import given, parsed, sized, stored
from roofline.sources.values import Input


class Source(Struct, frozen=True, kw_only=True):
    """A model that can be built: which kind it is of, where it is, and what it takes."""

    name: str
    kind: Kind
    # file path, module name, or model name within its package
    where: str
    # callable or attribute in it
    attribute: str = ""
    args: dict[str, Any] = {}
    # `args` without what a person set
    unset: dict[str, Any] = {}
    # None: only the kind knows them, once the model's package or file is read; see `Kind.inputs`
    inputs: tuple[Input, ...] | None
    # how a person asked for it
    asked: Ask = Ask("")
    # named without saying its kind, so that a later kind may know the name too
    bare: bool = False
    # what was assumed, for the notes of the analysis
    notes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """For people: "models/mobilenet_v2.py", "torchvision 0.29.2"."""
        return self.kind.label(self)

    @property
    def files(self) -> tuple[Path, ...]:
        """Files whose content the model and its inputs depend on."""
        if not self.asked.inputs:
            return self.kind.files(self)
        return (*self.kind.files(self), *(file_at(value.file) for value in stored(given(self.asked.inputs))))

    @property
    def places(self) -> list[str]:
        """Folders that come first on sys.path while the model is loaded."""
        return self.kind.places(self)

    @property
    def key(self) -> str:
        """What the trace depends on besides the content of `files`."""
        package = self.kind.package
        version = (compat.version(package), compat.place(package)) if package else ""
        asked = self.asked.sizes if self.inputs is None else self.inputs
        return repr((self.kind.name, self.where, self.attribute, sorted(self.args.items()), version, asked, self.notes))

    @property
    def built_key(self) -> str:
        """What the module is built by: `key` without the inputs, but for the size that some models are built for."""
        return repr((self.kind.name, self.where, self.attribute, sorted(self.args.items()), self.asked.resolution, self.notes))


class InPrint(Struct, frozen=True):
    """A number that somebody printed of a model."""

    # "macs" or "params"
    what: Literal["macs", "params"]
    # as printed: "569 M", "1234"
    value: str
    # who printed it
    source: str
    # why ours is another, where that is known
    why: str = ""


class Kind:
    """A kind of source: a file that subclasses this, and a line in `kinds.py`.

    It says which texts mean one of its models, and builds it. None of it imports torch but `load`, `inputs` and `trace`.
    """

    # of the cache's keys; no two kinds have the same
    name: ClassVar[str]
    # "timm" of "timm:resnet50": such a text goes to `named`, and no other kind is asked
    prefix: ClassVar[str] = ""
    # that builds or reads its models: its version is a part of the cache's keys
    package: ClassVar[str] = ""
    # how an error calls one of its models, and several
    title: ClassVar[str] = "a PyTorch model"
    titles: ClassVar[str] = "PyTorch models"
    # what a name without a prefix turned out to be, where a later kind knows it too: "the reference model"
    meant: ClassVar[str] = ""
    # whose code runs when a model is built: an installed package's (or nobody's), this project's, or a person's own,
    # which may do anything, so it is watched, undone, and not run where nobody asked for it
    code: ClassVar[Literal["package", "ours", "person"]] = "package"
    # False: it needs no torch and builds no module; `trace` makes the Trace
    torch: ClassVar[bool] = True
    # whether `default` is guessed from the model, so that a model that fails with it may not be to blame
    guesses: ClassVar[bool] = False

    # ---------------------------------------------------------------------------------------- finding, without torch

    def find(self, text: str) -> Source | None:
        """The model that a text without anybody's prefix means; None: none of this kind, ask the next.

        Raises UsageError where it can only be of this kind, and is not there.
        """
        return None

    def named(self, name: str) -> Source:
        """The model of that name, where a text said `prefix:name`. Raises UsageError, UnknownNameError with the nearest."""
        raise NotImplementedError

    def names(self) -> Collection[str]:
        """Every name that `find` knows without a prefix."""
        return ()

    def defines(self, name: str) -> bool:
        """Whether it surely has a model of that name, asked where an earlier kind was taken: cheaper than `names`."""
        return False

    def catalogue(self) -> Iterable[dict[str, str]]:
        """What `roofline models` lists: name, source, about, paper of every model known by name."""
        return ()

    def resized(self, name: str, resolution: int) -> dict[str, Any]:
        """Arguments of the builder for images of `resolution` pixels, where the model's construction depends on them."""
        return {}

    def notes(self, source: Source) -> tuple[str, ...]:
        """What a person should know of the model as asked for."""
        return ()

    # ---------------------------------------------------------------------------------------- what it depends on

    def label(self, source: Source) -> str:
        """Where the model is from, for people."""
        return source.where

    def files(self, source: Source) -> tuple[Path, ...]:
        """Files whose content the model depends on."""
        return ()

    def places(self, source: Source) -> list[str]:
        """Folders that come first on sys.path while it is loaded."""
        return []

    def published(self, source: Source) -> Iterable[InPrint]:
        """What is printed of the model in its default form."""
        return ()

    # ---------------------------------------------------------------------------------------- building

    def load(self, source: Source) -> Any:
        """The callable that builds the model from keyword arguments, or a finished nn.Module. Raises SourceError."""
        raise NotImplementedError

    def default(self, source: Source) -> Mapping[str, Any]:
        """What the model is called with where nobody says otherwise: forward()'s parameters -> shapes, or text with a dtype."""
        raise NotImplementedError

    def inputs(self, source: Source) -> tuple[Input, ...]:
        """The inputs as asked for, of a source whose `inputs` are None. Raises UsageError for what it cannot take."""
        return sized(parsed(self.default(source)), source.asked)

    def calls(self, source: Source, module: Any) -> Iterator[tuple[Input, ...]]:
        """What the module that was built is called with, the likeliest first: the first that goes through is taken."""
        yield source.inputs if source.inputs is not None else self.inputs(source)

    def assumed(self, source: Source) -> str:
        """Of a kind that `guesses`: a line on what was assumed of a model that failed, and what to say instead."""
        shapes = ", ".join(f"{i.name} {'x'.join(map(str, i.shape)) or 'of values'}" for i in self.inputs(source))
        return f"its inputs were assumed ({shapes or 'none'}): give others with --input NAME=SHAPE"

    def example(self, source: Source) -> Callable[..., Any] | None:
        """The function beside the model that gives its arguments; None where there is none."""
        return None

    def remarks(self, source: Source, made: Any) -> tuple[str, ...]:
        """What a person should know of how it was built; `made` is what `load` gave."""
        return ()

    def checked(self, source: Source, trace: Trace) -> Trace:
        """The trace, refused with a SourceError where it holds what no model can."""
        return trace

    def trace(self, source: Source, what: Pass, progress: Callable[[str], None]) -> Trace:
        """Of a kind without torch: the trace of a pass. Raises UsageError for what the kind does not do."""
        raise NotImplementedError


def needs(kind: Kind, who: str) -> None:
    """Raise UsageError where the package that builds this kind is missing or too old."""
    compat.needs(kind.package, who)


def installed(kind: Kind) -> str:
    """A label: the package that builds the kind, and its version."""
    return f"{kind.package} {compat.version(kind.package)}"


# What stands in the place of a large file in a checkout without Git LFS.
_POINTER = b"version https://git-lfs.github.com/spec/"


def file_at(file: str) -> Path:
    """Where a file is. Raises UsageError where there is none, or what has no end (a pipe, a device) or stands for a file."""
    try:
        path = Path(file).expanduser().resolve()
        kind = "" if path.is_file() else "a folder" if path.is_dir() else "a pipe or a device" if path.exists() else "no file"
    except (OSError, ValueError, RuntimeError):  # a name that no file can have
        kind = "no file"
    if kind:
        raise UsageError(f"no such file: {file}" if kind == "no file" else f"{file} is {kind}, not a file")
    with suppress(OSError), path.open("rb") as opened:  # one that cannot be read says so where it is read
        if opened.read(len(_POINTER)) == _POINTER:
            raise UsageError(f"{file} is a pointer of Git LFS and not the file itself\nfetch it: git lfs pull")
    return path
