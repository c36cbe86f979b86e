"""`net.pt2`: a program saved by torch.export."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from roofline.records import Trace
from roofline.sources.inputs import only_tensors
from roofline.sources.source import Kind, Source, file_at
from roofline.sources.values import Input


class Exported(Kind):
    """An archive of torch.export, read as data: nothing in it is unpickled or run."""

    name = "exported"
    package = "torch"

    def find(self, text: str) -> Source | None:
        if not text.endswith(".pt2"):
            return None
        path = file_at(text)
        return Source(name=path.stem, kind=self, where=str(path), inputs=None)

    def files(self, source: Source) -> tuple[Path, ...]:
        return (Path(source.where),)

    def load(self, source: Source) -> Any:
        from roofline.sources.exported import program

        return program.load(source.where)

    def default(self, source: Source) -> Mapping[str, Any]:
        from roofline.sources.exported import program

        return program.inputs(source.where)

    def inputs(self, source: Source) -> tuple[Input, ...]:
        from roofline.sources.exported import program

        found = super().inputs(source)
        only_tensors(found, "an exported program")
        program.check(source.where, {i.name: i.shape for i in found})
        return found

    def checked(self, source: Source, trace: Trace) -> Trace:
        from roofline.sources import graph_limits

        return graph_limits.checked(trace, source.where)


EXPORTED = Exported()
