"""What a file of trace events may hold, as a JSON Schema.

Taken from "Trace Event Format", the document that Chromium publishes and that the readers of Perfetto and of Chrome follow: the
object form, complete events (X), metadata (M), flows (s, t, f), instants (i, I), durations (B, E), counters (C). Traces of
torch.profiler, which those readers open, are held to it as well.
"""

from __future__ import annotations

from typing import Any

_PLACE: dict[str, Any] = {"type": ["integer", "string"]}
_TIME: dict[str, Any] = {"type": "number"}
_NAME: dict[str, Any] = {"type": "string"}
_ARGS: dict[str, Any] = {"type": "object"}
# what Perfetto's reader takes: it counts another text among its errors (flow_invalid_id) and draws no arrow
_FLOW: dict[str, Any] = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^(0x)?[0-9a-fA-F]+$"}]}


def _event(kinds: list[str], required: list[str], **more: Any) -> dict[str, Any]:
    """What events of some phases have beside their phase."""
    return {
        "if": {"properties": {"ph": {"enum": kinds}}},
        "then": {"required": required, "properties": {"pid": _PLACE, "tid": _PLACE, "name": _NAME, "args": _ARGS, **more}},
    }


_METADATA = {"process_name", "process_labels", "process_sort_index", "thread_name", "thread_sort_index"}
SCHEMA: dict[str, Any] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "required": ["traceEvents"],
    "properties": {
        "displayTimeUnit": {"enum": ["ms", "ns"]},
        "traceEvents": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["ph"],
                "properties": {"ph": {"enum": list("BEXiIMCstfbneNODSTFpPRvVca")}},
                "allOf": [
                    _event(
                        ["X"], ["name", "pid", "tid", "ts", "dur"], ts=_TIME, dur={"type": "number", "minimum": 0}, cat=_NAME
                    ),
                    _event(["s", "t", "f"], ["name", "cat", "id", "pid", "tid", "ts"], ts=_TIME, id=_FLOW, bp={"const": "e"}),
                    _event(["M"], ["name", "pid", "args"], name={"enum": sorted(_METADATA)}),
                    _event(["B", "E", "i", "I", "C"], ["pid", "ts"], ts=_TIME),
                ],
            },
        },
    },
}
