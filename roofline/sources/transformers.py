"""transformers architectures: a class name with its default configuration, or a local config.json. Nothing is downloaded,
no weights are read, and a configuration that brings its own code (`auto_map`) is refused.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from roofline import compat
from roofline.errors import SourceError, UnknownNameError, UsageError, nearest
from roofline.sources import hf_inputs
from roofline.sources.inputs import given, sized
from roofline.sources.source import Kind, Source, installed, needs
from roofline.sources.values import Input


class Transformers(Kind):
    """`hf:LlamaForCausalLM`, `hf:config.json`; a name of the hub would be a download, so it is refused."""

    name = prefix = "hf"
    guesses = True
    package = "transformers"

    def named(self, name: str) -> Source:
        path = Path(name).expanduser()
        if os.path.isdir(path):
            path = path / "config.json"
        if path.suffix == ".json" or "/" in name:
            if not os.path.isfile(path):
                raise UsageError(
                    f"hf:{name}: no such file; nothing is downloaded, so give a local config.json "
                    "or a class name (hf:LlamaForCausalLM)"
                )
            needs(self, name)
            return Source(name=path.resolve().parent.name, kind=self, where=str(path.resolve()), inputs=None)
        needs(self, name)
        if not name.isidentifier():
            raise UsageError(f"hf:{name} is neither a class name (hf:LlamaForCausalLM) nor a config.json")
        return Source(name=name, kind=self, where=name, inputs=None)

    def label(self, source: Source) -> str:
        return installed(self)

    def files(self, source: Source) -> tuple[Path, ...]:
        return (Path(source.where),) if source.where.endswith(".json") else ()

    def load(self, source: Source) -> Callable[..., Any]:
        def make(**settings: Any) -> Any:
            cls, config = _configured(source.where, settings)
            with compat.offline():
                model = cls._from_config(config)
            stored = _stored(config)
            if stored:
                from roofline.sources import packed

                model, note = packed.applied(model, stored, source.where)
                notes[:] = [note]
            return model

        notes: list[str] = []
        make.notes = notes  # type: ignore[attr-defined]  # what `remarks` tells
        return make

    def remarks(self, source: Source, made: Any) -> tuple[str, ...]:
        return tuple(made.notes)

    def inputs(self, source: Source) -> tuple[Input, ...]:
        return self._ways(source)[0]

    def calls(self, source: Source, module: Any) -> Iterator[tuple[Input, ...]]:
        from roofline.sources import hf_calls

        _, config = _configured(source.where, source.args)
        sizes = hf_inputs.Sizes(config, source.asked.batch or 1, source.asked.resolution)
        filled = hf_calls.Filled(module, sizes, frozenset(i.name for i in given(source.asked.inputs)))
        seen = []
        for way in self._ways(source):
            inputs = filled.call(way)
            if inputs not in seen:
                seen.append(inputs)
                yield inputs

    def assumed(self, source: Source) -> str:
        said = super().assumed(source)
        return (
            said
            if source.where.endswith(".json")
            else f"{said}; its configuration is transformers' default: or give a config.json"
        )

    def _ways(self, source: Source) -> list[tuple[Input, ...]]:
        """The inputs in each way to call it, sized as asked for."""
        ask = source.asked
        said = {i.name for i in given(ask.inputs)}
        cls, config = _configured(source.where, source.args)
        ways = []
        for layout in hf_inputs.called_with(cls, hf_inputs.Sizes(config, ask.batch or 1, ask.resolution)):
            # the sizes hold the batch and the resolution of what nobody said; patches of an image tell no height and width
            shaped = ask.resolution is None or any(len(layout[n].shape) >= 4 for n in hf_inputs.IMAGE if n in layout)
            resolution = ask.resolution if shaped or not set(hf_inputs.IMAGE) & set(layout) else None
            inputs = sized(hf_inputs.inputs(layout), replace(ask, batch=None, resolution=resolution))
            ways.append(inputs if ask.batch is None else tuple(_rows(i, ask.batch) if i.name in said else i for i in inputs))
        return ways


TRANSFORMERS = Transformers()


def _rows(i: Input, batch: int) -> Input:
    """An input by its shape, with another batch."""
    return replace(i, shape=(batch, *i.shape[1:])) if i.value is None and i.shape else i


def _stored(config: Any) -> dict[str, Any]:
    """How a configuration says that weights are quantised; nothing where it does not."""
    table: Any = getattr(config, "quantization_config", None) or getattr(config.get_text_config(), "quantization_config", None)
    if hasattr(table, "to_dict"):
        table = table.to_dict()
    if table is not None and not isinstance(table, dict):
        raise SourceError(f"quantization_config is {str(table)[:60]!r}, not a table of how weights are quantised")
    return dict(table or {})


def _configured(where: str, settings: Mapping[str, Any]) -> tuple[Any, Any]:
    """The model class, and its configuration with the settings applied."""
    cls, config = _from_file(Path(where)) if where.endswith(".json") else _from_class(where)
    for key in settings:
        if not hasattr(config, key):
            hint = nearest(key, config.to_dict(), n=3, cutoff=0.6, lead="", show=str) or "see its documentation for the fields"
            raise UsageError(f"{type(config).__name__} has no field {key!r}: {hint}")
    if settings:
        from roofline.sources import hf_config

        hf_config.check(settings, f"--set of {cls.__name__}")  # a budget file may have set them
        try:
            with compat.offline():
                config = type(config).from_dict(config.to_dict() | dict(settings))
        except compat.rejections() as error:
            raise UsageError(f"transformers rejects the settings of {cls.__name__}: {compat.line(error)}") from error
    return cls, config


def _from_class(name: str) -> tuple[Any, Any]:
    transformers = compat.load("transformers")
    try:
        cls = getattr(transformers, name)
    except (AttributeError, ImportError) as error:
        hint = nearest(name, [n for n in dir(transformers) if n.endswith(_HEADS)], n=3, cutoff=0.6, show=str)
        raise UnknownNameError(f"transformers has no class {name!r}{hint}") from error
    if getattr(cls, "config_class", None) is None:
        raise UsageError(f"hf:{name} is no model class of transformers; give one such as LlamaForCausalLM or BertModel")
    try:
        with compat.offline():
            return cls, cls.config_class()
    except compat.rejections() as error:
        raise SourceError(
            f"{cls.config_class.__name__} has no usable default: {compat.line(error)}\ngive a local config.json instead"
        ) from error


_HEADS = ("Model", "LM", "ForCausalLM", "Classification", "Generation", "Detection", "Segmentation", "Answering", "Transformer")


def _from_file(path: Path) -> tuple[Any, Any]:
    from roofline.sources import hf_config

    table = hf_config.read(path)
    kind = table.get("model_type")
    if not isinstance(kind, str):
        raise SourceError(f"{path} has no `model_type`: it is not a configuration of transformers")
    compat.load("transformers")
    known = compat.configurations()
    if kind not in known:
        raise SourceError(f"{path}: transformers knows no model_type {kind!r}{nearest(kind, known, cutoff=0.6, show=str)}")
    try:
        with compat.offline():  # some configurations ask the hub for their parts
            config = known[kind].from_dict(table)
    except compat.rejections() as error:
        raise SourceError(f"transformers rejects {path}: {compat.line(error)}") from error
    named = table.get("architectures")
    if named:
        if not isinstance(named, list) or not isinstance(named[0], str):
            raise SourceError(f"{path}: `architectures` is no list of names of classes")
        return hf_config.model_class(named[0], config, path), config
    cls = compat.architecture(config)
    if cls is None:
        raise SourceError(f"{path} names no architecture that transformers has (`architectures`)")
    return cls, config
