"""`net.onnx`: an ONNX graph, which is traced as it stands; no module is built and torch is not needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from roofline import compat
from roofline.errors import UsageError
from roofline.records import Trace
from roofline.request import Pass
from roofline.sources.inputs import given, only_tensors
from roofline.sources.source import Kind, Source, file_at, needs


class Onnx(Kind):
    """An ONNX file; its weights are not read."""

    name = "onnx"
    package = "onnx"
    title, titles = "an ONNX graph", "ONNX graphs"
    torch = False

    def find(self, text: str) -> Source | None:
        if not text.endswith(".onnx"):
            return None
        path = file_at(text)
        needs(self, text)
        return Source(name=path.stem, kind=self, where=str(path), inputs=None)

    def files(self, source: Source) -> tuple[Path, ...]:
        return (Path(source.where),)

    def checked(self, source: Source, trace: Trace) -> Trace:
        from roofline.sources import graph_limits

        return graph_limits.checked(trace, source.where)

    def trace(self, source: Source, what: Pass, progress: Callable[[str], None]) -> Trace:
        compat.load("onnx")
        progress(f"reading {source.name}")
        from roofline.sources.onnx.graph import Graph
        from roofline.sources.onnx.trace import trace

        if source.args:
            raise UsageError(f"{source.name} is a finished graph: --set cannot change it")
        if source.asked.resolution is not None:
            raise UsageError(f"{source.name} is an ONNX graph: give its shape with --input instead of --resolution")
        if what.training or what.prefill or what.decode:
            raise UsageError(f"{source.name} is an ONNX graph, which is one forward pass: no training, prefill or decode")
        if what.dtype not in (None, "fp32", "tf32"):
            raise UsageError(f"{source.name} is an ONNX graph, which fixes its dtypes: leave --dtype out")
        if what.channels_last:
            raise UsageError(f"{source.name} is an ONNX graph, which fixes its layouts: leave --channels-last out")
        said = given(source.asked.inputs)
        only_tensors(said, "an ONNX graph")
        graph = Graph(source.where)
        sizes = graph.sized([(i.name, i.shape, i.dtype) for i in said], source.asked.batch)
        return trace(graph, source.name, sizes, what.turns)


ONNX = Onnx()
