"""The JSON Schema of budget files, for editors: made of what `declared` says, which the loader goes by too."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from roofline.analysis.declared import LIMIT_KEYS, OPTIONS, SIDES, TOP, keys
from roofline.analysis.metrics import BY_NAME
from roofline.request import SIZES, WORDS

_TEXT: dict[str, Any] = {"type": "string"}
_TEXTS: dict[str, Any] = {"type": "array", "items": _TEXT, "minItems": 1}
_VALUE: dict[str, Any] = {"type": ["number", "string"], "description": 'a number, with its unit as text; "+2 %" is a change'}
_SPECIAL: dict[str, dict[str, Any]] = {
    "model": _TEXT,
    "analysis": _TEXT,
    "models": _TEXTS,
    "name": _TEXT,
    "on": _TEXT,
    "device": _TEXT,
    "training": {"type": "boolean"},
    "channels_last": {"type": "boolean"},
    "fold_bn": {"type": "boolean"},
    "host": {"type": ["number", "string"]},
    "inputs": {"anyOf": [_TEXT, {**_TEXTS, "minItems": 0}]},
    "set": {"type": "object"},
    "allow_unknown": {"anyOf": [{"type": "boolean"}, _TEXTS]},
    "at": {"type": "array", "items": {"$ref": "#/$defs/setting"}},
}


def schema(inside: bool = False) -> dict[str, Any]:
    """Of roofline.toml; `inside` pyproject.toml, of its table [tool.roofline]."""
    own = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "budget": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/budget"}},
            "budgets": {"type": "object", "additionalProperties": {"$ref": "#/$defs/named"}},
            "defaults": {"$ref": "#/$defs/defaults"},
            "baseline": {"type": "string", "pattern": r"\.json$"},
        },
    }
    assert set(own["properties"]) == set(TOP)  # type: ignore[call-overload]  # it is a dict of dicts
    if inside:
        table = {"type": "object", "properties": {"roofline": own}}
        own = {"type": "object", "properties": {"tool": table}}
    defs = {
        "budget": _table(keys(short=False, inner=False, defaults=False)),
        "named": _table(keys(short=True, inner=False, defaults=False)),
        "setting": _table(keys(short=True, inner=True, defaults=False)),
        "defaults": _table(keys(short=True, inner=False, defaults=True)),
        "limit": _table([*SIDES, "on", *OPTIONS]),
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "budgets of roofline", **own, "$defs": defs}


def _table(names: Iterable[str]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": {name: _of(name) for name in names}}


def _of(name: str) -> dict[str, Any]:
    if name in _SPECIAL:
        return _SPECIAL[name]
    if name in BY_NAME:
        one = {"anyOf": [_VALUE, {"$ref": "#/$defs/limit"}]}
        return {"anyOf": [*one["anyOf"], {"type": "array", "items": one}]}
    if name in SIDES or LIMIT_KEYS.fullmatch(name):
        return _VALUE
    if OPTIONS[name] in SIZES:
        return {"type": "integer", "minimum": 1}
    return {"enum": list(WORDS[OPTIONS[name]])}
