"""A package with a table of models by name: torchvision, timm. Names are read from its source, which imports nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable
from functools import cache
from importlib import util
from pathlib import Path

from roofline.errors import UnknownNameError, nearest
from roofline.sources.source import Kind, Source, installed, needs


class Zoo(Kind):
    """`timm:resnet50`, or the bare name where no kind before knows it."""

    def has(self, name: str) -> bool:
        """Whether it builds a model of that name."""
        return name in names(self.package)

    def named(self, name: str) -> Source:
        needs(self, name)
        if not self.has(name):
            raise UnknownNameError(f"{self.package} has no model {name!r}{nearest(name, self.names(), n=3, show=str)}")
        return Source(name=name, kind=self, where=name, inputs=None)

    def find(self, text: str) -> Source | None:
        if not self.has(text):
            return None
        needs(self, text)
        return Source(name=text, kind=self, where=text, inputs=None, bare=True)

    def names(self) -> Collection[str]:
        return names(self.package)

    def defines(self, name: str) -> bool:
        return defines(self.package, name)

    def catalogue(self) -> Iterable[dict[str, str]]:
        for name, module in names(self.package).items():
            yield {"name": f"{self.prefix}:{name}", "source": installed(self), "about": module, "paper": ""}

    def label(self, source: Source) -> str:
        return installed(self)


@cache
def _entry() -> re.Pattern[str]:
    """`@register_model` or `@register_model(name="...")`, other decorators, and the function below."""
    return re.compile(
        r"""^@(?:_\w+\.)?register_model\b (?:\( (?:name=)? (?:["'](\w+)["'])? \))? [^\n]*\n
            (?:[@)\ ][^\n]*\n)* def\ (\w+)""",
        re.MULTILINE | re.VERBOSE,
    )


@cache
def names(zoo: str) -> dict[str, str]:
    """Every model name of a zoo -> the module file that registers it, sorted; empty where the package is missing."""
    spec = util.find_spec(zoo)
    found: dict[str, str] = {}
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for path in (Path(place) / "models").rglob("*.py"):
            text = path.read_text(encoding="utf-8", errors="replace")
            for given, function in _entry().findall(text):
                found[given or function] = path.stem
    return dict(sorted(found.items()))


@cache
def defines(zoo: str, name: str) -> bool:
    """Whether a function of that name stands in the zoo's models: `names` without parsing what registers it."""
    spec = util.find_spec(zoo)
    wanted = f"\ndef {name}(".encode()
    places = (spec.submodule_search_locations or ()) if spec else ()
    files = [
        os.path.join(folder, file)
        for place in places
        for folder, _, inside in os.walk(os.path.join(place, "models"))
        for file in inside
        if file.endswith(".py")
    ]
    # resnet50 is most likely in resnet.py: those first that the name begins with
    files.sort(key=lambda path: not name.startswith(os.path.basename(path).removesuffix(".py")))
    return any(wanted in _bytes(path) for path in files)


def _bytes(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read()
