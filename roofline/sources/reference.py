"""The reference models of this project: one plain PyTorch file each in models/, with a ROOFLINE table."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from roofline import paths
from roofline.sources.python import declared, source_of
from roofline.sources.source import InPrint, Kind, Source


@cache
def reference_models() -> dict[str, tuple[Path, dict[str, Any]]]:
    """Name -> (file, entry) of every reference model."""
    found: dict[str, tuple[Path, dict[str, Any]]] = {}
    for path in sorted(paths.models().glob("*.py")):
        for name, entry in declared(path).items():
            found[name] = (path, entry)
    return found


class Reference(Kind):
    """`mobilenet_v3_large`: a name that a file in models/ declares."""

    name = "reference"
    meant = "the reference model"
    code = "ours"

    def find(self, text: str) -> Source | None:
        known = reference_models()
        return source_of(self, text, *known[text], bare=True) if text in known else None

    def names(self) -> Collection[str]:
        return reference_models()

    def catalogue(self) -> Iterable[dict[str, str]]:
        for name, (path, entry) in reference_models().items():
            yield {
                "name": name,
                "source": f"models/{path.name}",
                "about": entry.get("about", ""),
                "paper": entry.get("paper", ""),
            }

    def label(self, source: Source) -> str:
        return f"models/{Path(source.where).name}"

    def files(self, source: Source) -> tuple[Path, ...]:
        return (Path(source.where),)

    def places(self, source: Source) -> list[str]:
        return [str(Path(source.where).parent)]

    def published(self, source: Source) -> Iterable[InPrint]:
        """The rows of models/published.toml for this model in its default form."""
        import tomllib

        table = tomllib.loads((paths.models() / "published.toml").read_text(encoding="utf-8"))
        for row in table["published"]:
            if row["model"] != source.name or row.get("args") or row.get("input"):
                continue
            if "macs" in row:
                yield InPrint("macs", str(row["macs"]), row["source"], row.get("macs_dev", ""))
            if "params" in row:
                yield InPrint("params", str(row["params"]), row["source"], row.get("params_dev", ""))

    def load(self, source: Source) -> Any:
        from roofline.sources import loading

        return loading.from_file(source)


REFERENCE = Reference()
