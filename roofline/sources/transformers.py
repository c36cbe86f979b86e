"""transformers architectures: a class name with its default configuration, or a local config.json. Nothing is downloaded,
no weights are read, and a configuration that brings its own code (`auto_map`) is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from roofline import compat
from roofline.errors import SourceError, UnknownNameError, UsageError, nearest
from roofline.sources.source import Kind, Source, installed, needs

# Tokens of a text input where nothing else is said.
TOKENS = 128
# Samples of an audio input: one second at 16 kHz.
SAMPLES = 16_000


class Transformers(Kind):
    """`hf:LlamaForCausalLM`, `hf:config.json`; a name of the hub would be a download, so it is refused."""

    name = prefix = "hf"
    package = "transformers"

    def named(self, name: str) -> Source:
        path = Path(name).expanduser()
        if path.is_dir():
            path = path / "config.json"
        if path.suffix == ".json" or "/" in name:
            if not path.is_file():
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
                return cls._from_config(config)

        return make

    def default(self, source: Source) -> Mapping[str, Any]:
        return _inputs(source.where, source.args)


TRANSFORMERS = Transformers()


def _inputs(where: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The default call: names of forward()'s parameters -> shapes, or text with a dtype."""
    import inspect

    cls, config = _configured(where, settings)
    text, vision = getattr(config, "text_config", None), getattr(config, "vision_config", None)
    known = inspect.signature(cls.forward).parameters
    main = cls.main_input_name
    names = [main if main in known else next(n for n in known if n != "self")]
    if getattr(config, "is_encoder_decoder", False) and "decoder_input_ids" in known:
        names.append("decoder_input_ids")
    # two towers side by side; where the image becomes tokens of the text, text alone is a whole call
    if text is not None and vision is not None and not any(hasattr(config, f"image_token_{n}") for n in ("id", "index")):
        names += [n for n in ("input_ids", "pixel_values") if n in known and n not in names]
    return {name: _default(name, config) for name in names}


def _default(name: str, config: Any) -> Any:
    def field(*keys: str, default: Any) -> Any:
        for part in (config, getattr(config, "text_config", None), getattr(config, "vision_config", None)):
            for key in keys:
                value = getattr(part, key, None)
                if value is not None:
                    return value
        return default

    if name in ("input_ids", "decoder_input_ids"):
        tokens = min(TOKENS, field("max_position_embeddings", "n_positions", default=TOKENS))
        return f"1,{tokens}:int64"
    if name == "input_values":
        return [1, SAMPLES]
    if name == "input_features":
        return [1, field("num_mel_bins", "input_feat_per_channel", default=80), 2 * field("max_source_positions", default=1500)]
    size = field("image_size", "input_size", default=224)
    height, width = (size, size) if isinstance(size, int) else size
    frames = [config.num_frames] if hasattr(config, "num_frames") else []
    return [1, *frames, field("num_channels", "in_channels", default=3), height, width]


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
