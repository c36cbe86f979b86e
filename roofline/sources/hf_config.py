"""A config.json of transformers as data: read, and held to what a description of sizes may say, before transformers sees it.

Transformers acts on some values of a configuration: it imports the code that `auto_map` names, fetches kernels that an
attention implementation names, asks the hub for a backbone, takes any name of torch for a dtype, hands arguments on to timm
that read files. None of that is done for a file.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from roofline import files
from roofline.dtypes import CONFIGS
from roofline.errors import SourceError, nearest

# Ways to compute attention and experts that transformers holds itself; others are packages to import or kernels to fetch.
_IMPLEMENTATIONS = (None, "eager", "sdpa", "grouped_mm", "batched_mm")
# Keys that make transformers or timm run, fetch or open something, whatever their value is unless it is empty.
_ACTS = {
    "auto_map": "brings code of its own (`auto_map`), which is not run",
    "trust_remote_code": "asks for code of its own to be run (`trust_remote_code`), which is not done",
    "custom_pipelines": "brings code of its own (`custom_pipelines`), which is not run",
    "checkpoint_path": "names a file of weights to load (`checkpoint_path`), which is not done",
    "pretrained_cfg": "says where weights are fetched from (`pretrained_cfg`), which is not done",
    "pretrained_cfg_overlay": "says where weights are fetched from (`pretrained_cfg_overlay`), which is not done",
}
# Names of models inside others: a plain name is looked up in timm, anything else would be a folder, an address or the hub.
_PARTS = ("backbone", "architecture")
_NAME = re.compile(r"[\w.]+")
# Tables whose keys are not fields: labels, and how weights are packed, which nothing here acts on.
_FREE = ("quantization_config", "id2label", "label2id")
# What a model can be built of here: a file of 300 bytes must not ask for a billion layers.
_MANY = re.compile(r"layers?|blocks?|depths?|experts?|stages?|heads?")
_LARGE = re.compile(r"size|dim|dims|position|positions|labels|channels|width|tokens|queries|bins")
COUNT_LIMIT, LABEL_LIMIT, SIZE_LIMIT = 10_000, 1_000_000, 2**28


def read(path: Path) -> dict[str, Any]:
    """The table in a config.json. Raises SourceError where it cannot be read, or says what a file may not."""
    try:
        table = json.loads(files.content(path, files.CONFIG))
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        raise SourceError(f"{path} is not readable as JSON: {' '.join(str(why).split())[:300]}") from error
    if not isinstance(table, dict):
        raise SourceError(f"{path} has no `model_type`: it is not a configuration of transformers")
    check(table, str(path))
    return table


def check(table: Mapping[str, Any], path: str) -> None:
    """Raise SourceError where a configuration says what a file may not."""
    for at, key, value in _fields(table, path):
        _check(at, key, value, path)


def model_class(named: str, config: Any, path: Path) -> Any:
    """The model class that `architectures` names: one of the package of transformers that the configuration is from, or of
    those that its auto classes list. Raises SourceError for any other name.
    """
    from transformers import PreTrainedModel
    from transformers.models.auto import modeling_auto

    family = sys.modules[type(config).__module__.rpartition(".")[0]]
    listed = {
        name
        for key, names in vars(modeling_auto).items()
        if key.endswith("_MAPPING_NAMES")
        for value in names.values()
        for name in ((value,) if isinstance(value, str) else value)
    }
    found: Any = None
    if named in dir(family) and not named.startswith("_"):
        found = getattr(family, named)
    elif named in listed:
        import transformers

        found = getattr(transformers, named, None)
    if not (isinstance(found, type) and issubclass(found, PreTrainedModel)):
        hint = nearest(named, sorted(listed), cutoff=0.6, show=str)
        raise SourceError(f"{path}: `architectures` names {_short(named)}, which is no model of transformers{hint}")
    return found


def _fields(table: Mapping[str, Any], path: str) -> Iterator[tuple[str, str, Any]]:
    """(place, key, value) of every field, inner configurations' too."""
    level: list[tuple[str, Any]] = [("", table)]
    for _ in range(files.DEPTH):
        below: list[tuple[str, Any]] = []
        for at, holder in level:
            pairs = holder.items() if isinstance(holder, Mapping) else ((str(i), v) for i, v in enumerate(holder))
            for key, value in pairs:
                if isinstance(holder, Mapping):
                    yield at, key, value
                if isinstance(value, (dict, list)) and key not in _FREE:
                    below.append((f"{at}{key}.", value))
        if not below:
            return
        level = below
    raise SourceError(f"{path}: it is nested more than {files.DEPTH} deep, the limit for a configuration")


def _check(at: str, key: str, value: Any, path: str) -> None:
    where = f"{at}{key}"
    if value and key in _ACTS:
        raise SourceError(f"{path} {_ACTS[key]}\nremove {where} if transformers knows the model itself")
    if key.startswith("__") or ((at == "" or at.endswith("_config.")) and key in _METHODS):
        raise SourceError(f"{path}: {where} is no field of a configuration")
    if "_implementation" in key:
        for one in value.values() if isinstance(value, dict) else (value,):
            if not (one is None or isinstance(one, str)) or one not in _IMPLEMENTATIONS:
                known = ", ".join(str(i) for i in _IMPLEMENTATIONS if i)
                raise SourceError(
                    f"{path}: {where} is {_short(one)}, which would be fetched or imported; a file may name {known}"
                )
    if key.endswith("dtype") and isinstance(value, str) and value.removeprefix("torch.") not in CONFIGS:
        raise SourceError(f"{path}: {where} is {_short(value)}, which is no dtype of tensors")
    if key in _PARTS and isinstance(value, str) and not _NAME.fullmatch(value):
        raise SourceError(f"{path}: {where} is {_short(value)}; a file may name a model of timm's and nothing elsewhere")
    if key == "pretrained" and value:
        raise SourceError(f"{path}: {where} asks for weights, which are never loaded; remove it")
    if type(value) is int:
        words = set(key.split("_"))
        limit = LABEL_LIMIT if "labels" in words else COUNT_LIMIT if any(map(_MANY.fullmatch, words)) else 0
        if limit == COUNT_LIMIT and value < 0:
            raise SourceError(f"{path}: {where} is {_short(value)}, which is below zero")
        limit = limit or (SIZE_LIMIT if any(map(_LARGE.fullmatch, words)) else 0)
        if limit and value > limit:
            raise SourceError(f"{path}: {where} is {_short(value)}; the limit for it in a file is {limit:,}")


def _short(value: Any) -> str:
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**40 else "a number of more than 40 digits"
    return text if len(text) < 100 else text[:100] + "..."


# Methods of a configuration, which a field of that name would take the place of.
_METHODS = frozenset({
    "from_dict", "from_pretrained", "from_json_file", "from_text_config", "get_config_dict", "get_text_config", "push_to_hub",
    "register_for_auto_class", "save_pretrained", "to_dict", "to_diff_dict", "to_json_file", "to_json_string", "update",
    "update_from_string", "dict_dtype_to_str", "sub_configs", "attribute_map", "base_config_key", "validate",
})  # fmt: skip
