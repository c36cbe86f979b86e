"""What a model of transformers is called with where nobody says: by the names of forward()'s parameters, the modalities that
the class names, and the sizes of its configuration. No class is known by name, and nothing here imports torch.

An image, a sound or a clip may be laid out in several ways (patches with a grid, a batch of crops); the `Layout`s of one stand
in the order in which they are tried.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec import Struct

from roofline.sources.values import Array, Input

# Tokens of a text input where nothing else is said.
TOKENS = 128
# Samples of an audio input: one second at 16 kHz. Frames of a spectrogram, where no configuration tells: 30 s of Whisper's.
SAMPLES, FRAMES = 16_000, 3000
# Pixels of an image where no configuration tells.
PIXELS = 224
# Parameters of forward() that hold a text, an image, a clip, a sound; the first that a model has is the one given.
TEXT = ("input_ids",)
IMAGE = ("pixel_values", "image_pixel_values", "flattened_patches", "image", "images")
VIDEO = ("pixel_values_videos",)
SOUND = ("input_features", "input_values", "audio_values", "audio_input_features", "audio_mel")
# an image as what a detector found in it
REGIONS = ("visual_feats", "visual_embeds")
_KINDS = {"text": TEXT, "image": IMAGE + REGIONS, "video": VIDEO, "audio": SOUND}
# What of an inner configuration's name says that it is about such an input.
_NEAR = {
    "text": ("text", "decoder", "llm"),
    "image": ("vision", "image", "vit", "visual", "backbone"),
    "audio": ("audio", "speech", "encoder", "sound"),
}


class Given(Struct, frozen=True):
    """One input: a tensor by its shape, and the values of one whose values are sizes, lengths or masks."""

    shape: tuple[int, ...]
    dtype: str = ""
    # of every element, or nested as the shape is; None: nothing is said
    values: Any = None


Layout = dict[str, Given]


def inputs(layout: Layout) -> tuple[Input, ...]:
    return tuple(_input(name, given) for name, given in layout.items())


def _input(name: str, given: Given) -> Input:
    if given.values is None:
        return Input(name, given.shape, given.dtype)
    values = given.values
    if not isinstance(values, (list, tuple)):
        for size in reversed(given.shape):
            values = (values,) * size
    return Input(name, (), value=Array(_frozen(values), given.dtype or "float32"))


def _frozen(values: Any) -> Any:
    return tuple(map(_frozen, values)) if isinstance(values, (list, tuple)) else values


class Sizes:
    """A configuration, the inner ones in it, and what was asked of the batch and the image size."""

    def __init__(self, config: Any, batch: int = 1, pixels: int | None = None) -> None:
        self.config, self.batch, self.pixels = config, batch, pixels
        self.all = list(_configs(config))

    def find(self, *keys: str, near: str = "", default: Any = None) -> Any:
        """The first of the fields that a configuration has: one about `near` before the others, an outer before an inner."""
        words = _NEAR.get(near, ())
        for about in (True, False):
            for path, config in self.all:
                if words and about != any(w in path for w in words):
                    continue
                for key in keys:
                    value = getattr(config, key, None)
                    if value is not None and not isinstance(value, (str, bool)):
                        return value
        return default

    @property
    def tokens(self) -> int:
        longest = self.find("max_position_embeddings", "n_positions", near="text", default=TOKENS)
        return min(TOKENS, longest) if isinstance(longest, int) and longest > 1 else TOKENS

    @property
    def image(self) -> tuple[int, int]:
        if self.pixels is not None:
            return self.pixels, self.pixels
        keys = ("image_size", "input_size")
        size = _first(self.config, *keys) or self.find(*keys, near="image", default=PIXELS)
        if isinstance(size, Mapping):
            size = (size.get("height", PIXELS), size.get("width", PIXELS))
        if isinstance(size, int):
            return size, size
        return (size[-2], size[-1]) if len(size) > 1 else (size[0], size[0])

    @property
    def channels(self) -> int:
        keys = ("num_channels", "in_channels", "in_chans")
        channels = _first(self.config, *keys[:2]) or self.find(*keys, near="image", default=3)
        return channels if isinstance(channels, int) else 3


def _first(config: Any, *keys: str) -> Any:
    return next((v for k in keys if (v := getattr(config, k, None)) is not None), None)


def _configs(config: Any) -> Iterator[tuple[str, Any]]:
    """The configuration and those inside it, outer ones first, each with the names that lead to it."""
    level = [("", config)]
    while level and len(level) < 100:
        yield from level
        level = [
            (f"{path}.{name}", value)
            for path, outer in level
            for name, value in vars(outer).items()
            if hasattr(value, "model_type") and hasattr(value, "to_dict")
        ]


def called_with(cls: Any, sizes: Sizes) -> list[Layout]:
    """Every way to call forward() that is worth a try, the likeliest first. Names are those of its parameters."""
    known = {n: p for n, p in inspect.signature(cls.forward).parameters.items() if n != "self"}
    names = _wanted(cls, known, sizes)
    choices: dict[str, list[Layout]] = {}
    for name in names:
        if not any(name in layouts[0] for layouts in choices.values()):  # an image brings its grid along
            choices[name] = list(layouts_of(name, known, sizes))
    choices = {name: layouts for name, layouts in choices.items() if layouts}
    likeliest = [layouts[0] for layouts in choices.values()]
    ways = [likeliest]
    for i, layouts in enumerate(choices.values()):  # another layout of one input at a time
        ways += [[*likeliest[:i], other, *likeliest[i + 1 :]] for other in layouts[1:]]
    found = [{name: given for layout in way for name, given in layout.items()} for way in ways]
    if "inputs" in names and any(n in names for n in IMAGE):  # two names for one thing
        found += [{n: given for n, given in way.items() if n != "inputs"} for way in found]
    ids = next((n for n in TEXT if n in names), "")
    if len(names) > 1 and ids and not set(names[1:]) <= {"decoder_input_ids"}:
        found = [way for way in found if len(way[ids].shape) == 2]
        needed = {n for n, p in known.items() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD}
        if needed <= {ids}:  # the text alone is a call, which leaves a part idle
            found.append({n: given for n, given in found[0].items() if n in (ids, "decoder_input_ids")})
    return found


def _wanted(cls: Any, known: Mapping[str, inspect.Parameter], sizes: Sizes) -> list[str]:
    """The parameters to give: the main one, what forward() cannot do without, and one for each modality of the class."""
    plain = [n for n, p in known.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    main = getattr(cls, "main_input_name", "")
    mains = [n for n in ([main] if isinstance(main, str) else main) if n in plain]
    needed = [n for n in plain if known[n].default is inspect.Parameter.empty]
    names = mains if mains and (not needed or set(mains) & set(needed)) else needed or plain[:1]
    names = [*names, *(n for n in needed if n not in names)]
    kinds = getattr(cls, "input_modalities", ())
    for kind in [kinds] if isinstance(kinds, str) else kinds:
        if kind == "video" and any(n in names for n in IMAGE):
            continue  # the same tower sees both
        of = [n for n in _KINDS.get(kind, ()) if n in plain]
        if of and not set(of) & set(names) and not (kind == "text" and "inputs_embeds" in names):
            names.append(of[0])
    if "states" in names:  # what was done in them, and what came of it
        names += [n for n in ("actions", "rewards", "returns_to_go", "timesteps") if n in plain]
    if "bbox" in plain and "input_ids" in names:  # of words on a page; some models cannot do without
        names.append("bbox")
    if getattr(sizes.config, "is_encoder_decoder", False) and "decoder_input_ids" in plain:
        names.append("decoder_input_ids")
    return list(dict.fromkeys(names))


def layouts_of(name: str, known: Iterable[str], sizes: Sizes) -> Iterator[Layout]:
    """The ways to give one parameter, with those of its companions that the model takes too."""
    if name in IMAGE or (name == "hidden_states" and "grid_thw" in known):
        yield from _images(name, frozenset(known), sizes)
    elif name in REGIONS:
        yield _regions(name, frozenset(known), sizes)
    elif name in VIDEO:
        yield from _videos(name, frozenset(known), sizes)
    elif name in SOUND:
        yield from _sounds(name, frozenset(known), sizes)
    else:
        for given in _others(name, sizes):
            yield {name: given}


# ------------------------------------------------------------------------------------------------ images


def _images(name: str, known: frozenset[str], sizes: Sizes) -> Iterator[Layout]:
    b, c, (height, width) = sizes.batch, sizes.channels, sizes.image
    patch = sizes.find("patch_size", "spatial_patch_size", near="image", default=16)
    patch = patch if isinstance(patch, int) else patch[-1]
    merge = sizes.find("spatial_merge_size", "merge_size", "downsample_factor", near="image", default=2)
    merge = 2 * merge if isinstance(merge, int) and merge % 2 else merge if isinstance(merge, int) else 2
    h, w = (max(merge, side // patch // merge * merge) for side in (height, width))
    n = h * w
    grids = [g for g in ("image_grid_thw", "grid_thw", "image_grids") if g in known]
    if grids:
        deep = sizes.find("temporal_patch_size", near="image", default=1)
        rows: Layout = {grids[0]: Given((b, 3), "int64", [[1, h, w]] * b)}
        rows |= {m: Given((b,), "int64", merge) for m in ("merge_sizes", "image_merge_sizes") if m in known}
        yield {name: Given((b * n, c * deep * patch * patch)), **rows}
        yield {name: Given((b * n, c, patch, patch)), **rows}
        if name == "hidden_states":
            yield {name: Given((b * n, sizes.find("hidden_size", "embed_dim", near="image", default=1024))), **rows}
    places = [p for p in ("image_position_ids", "pixel_position_ids") if p in known]
    if places:
        at = [[[x, y] for y in range(h) for x in range(w)]] * b
        yield {name: Given((b, n, c * patch * patch)), places[0]: Given((b, n, 2), "int64", at)}
    if "spatial_shapes" in known:
        flat: Layout = {name: Given((b, n, c * patch * patch)), "spatial_shapes": Given((b, 2), "int64", [[h, w]] * b)}
        yield flat | _mask("pixel_attention_mask", (b, n), known)
    if name == "flattened_patches":
        long = min(4096, sizes.find("seq_len", "max_patches", near="image", default=2048))
        yield {name: Given((b, long, sizes.find("patch_embed_hidden_size", near="image", default=768) + 2))}
        return
    extra: Layout = {s: Given((b, 2), "int64", [[height, width]] * b) for s in ("image_sizes", "target_sizes") if s in known}
    frames = getattr(sizes.config, "num_frames", None)
    if isinstance(frames, int):
        yield {name: Given((b, frames, c, height, width)), **extra}
    plain: Layout = {name: Given((b, c, height, width)), **extra}
    if "pixel_values_local" in known:
        plain |= {"pixel_values_local": Given((b, c, height, width)), "num_local_patches": Given((b,), "int64", 1)}
    several: list[Layout] = [{name: Given((b, crops, c, height, width)), **extra} for crops in (2, 1, 3, 5)]
    if "pixel_attention_mask" in known:
        yield from several[1:]
    if extra:
        yield {name: plain[name]}
    yield plain
    if extra:
        yield from several[1:]
    if isinstance(frames := sizes.find("num_frames", "frames_per_clip", near="image"), int):
        yield {name: Given((b, frames, c, height, width)), **extra}
    yield from several[:2]
    for side in (336, 384, 512, 1024, 1536):
        if side > height:
            yield {name: Given((b, c, side, side)), **extra}


def _videos(name: str, known: frozenset[str], sizes: Sizes) -> Iterator[Layout]:
    b, c, (height, width) = sizes.batch, sizes.channels, sizes.image
    frames = sizes.find("num_frames", "frames_per_clip", near="image", default=8)
    if "video_grid_thw" in known:
        for layout in _images(name, frozenset({"image_grid_thw"}), sizes):
            if "image_grid_thw" in layout:
                yield {name: layout[name], "video_grid_thw": layout["image_grid_thw"]}
    yield {name: Given((b, frames, c, height, width))}
    yield {name: Given((b, c, frames, height, width))}
    yield from ({name: Given((b, frames, c, side, side))} for side in (336, 384) if side > height)


# ------------------------------------------------------------------------------------------------ sounds


def _sounds(name: str, known: frozenset[str], sizes: Sizes) -> Iterator[Layout]:
    b = sizes.batch
    mel = sizes.find(
        "num_mel_bins",
        "input_feat_per_channel",
        "n_mels",
        "mel_bins",
        "num_mels",
        "feature_projection_input_dim",
        "input_feat_size",
        "feature_size",
        "input_dim",
        near="audio",
        default=80,
    )
    if name in ("input_values", "audio_values"):
        channels = sizes.find("audio_channels", near="audio", default=1)
        wave, several = {name: Given((b, SAMPLES))}, {name: Given((b, channels, SAMPLES))}
        codec = sizes.find("upsampling_ratios", "downsampling_ratios", "encoder_rates", "hop_length", near="audio") is not None
        frames = sizes.find("max_length", near="audio", default=1024)
        spectrum = {name: Given((b, frames, mel))}
        if sizes.find("num_mel_bins", near="audio") is not None and sizes.find("conv_dim") is None:
            yield from (spectrum, wave, several)
        else:
            yield from ((several, wave) if codec else (wave, several))
            yield {name: Given((b, SAMPLES * 3 // 2 // 160, mel))}
        return
    positions = sizes.find("max_source_positions", near="audio")
    frames = min(2 * positions, FRAMES) if isinstance(positions, int) else FRAMES
    late: Layout = {name: Given((b, frames, mel)), **_frames(b, frames, known)}
    early: Layout = {name: Given((b, mel, frames)), **_frames(b, frames, known)}
    yield from ((early, late) if isinstance(positions, int) else (late, early))
    yield {name: Given((b, 1, frames, mel))}
    yield {name: Given((b, frames, 128)), **_frames(b, frames, known)}
    window = sizes.find("n_window", near="audio")
    if isinstance(window, int):
        yield {name: Given((mel, b * frames)), **_frames(b, frames, known)}


def _frames(b: int, frames: int, known: frozenset[str]) -> Layout:
    masks: Layout = {}
    for mask in ("input_features_mask", "feature_attention_mask", "audio_mel_mask", "audio_attention_mask"):
        masks |= _mask(mask, (b, frames), known)
    lengths = {n: Given((b,), "int64", frames) for n in ("feature_lens", "audio_feature_lengths") if n in known}
    return masks | lengths


def _mask(name: str, shape: tuple[int, ...], known: frozenset[str]) -> Layout:
    """A mask that hides nothing, where the model takes it."""
    if name not in known:
        return {}
    hides = name == "audio_mel_mask"  # true where there is nothing
    return {name: Given(shape, "bool" if hides else "int64", 0 if hides else 1)}


def _regions(name: str, known: frozenset[str], sizes: Sizes) -> Layout:
    """Features of 36 regions, as the detector of these models' papers gives them, and where they lie."""
    b, regions = sizes.batch, 36
    found: Layout = {name: Given((b, regions, sizes.find("visual_feat_dim", "visual_embedding_dim", default=2048)))}
    if "visual_pos" in known:
        found["visual_pos"] = Given((b, regions, sizes.find("visual_pos_dim", default=4)))
    return found | _mask("visual_attention_mask", (b, regions), known)


# ------------------------------------------------------------------------------------------------ everything else


def _others(name: str, sizes: Sizes) -> Iterator[Given]:
    b, tokens = sizes.batch, sizes.tokens
    if name == "inputs":
        yield Given((b, tokens, sizes.find("d_model", "hidden_size", default=768)))
        yield Given((b, tokens), "int64")
    elif name in ("past_values", "past_observed_mask", "past_values_padding", "past_time_features"):
        yield from _series(name, sizes)
    elif name in ("freq", "speaker_id"):
        yield Given((b, 1), "int64", 0)
    elif name == "state":
        yield Given((b, sizes.find("max_state_dim", default=32)))
    elif name in ("states", "actions", "rewards", "returns_to_go"):
        wide = {"states": "state_dim", "actions": "act_dim"}.get(name)
        yield Given((b, 20, sizes.find(wide, default=1) if wide else 1))
    elif name == "timesteps":
        yield Given((b, 20), "int64", 0)
    elif name == "bbox":
        yield Given((b, tokens, 4), "int64", 0)
    elif name.endswith("mask"):
        yield Given((b, tokens), "int64", 1)
    elif name.endswith("ids"):
        yield Given((b, tokens), "int64")
        yield Given((b, 2, tokens), "int64")  # of two choices
        if books := sizes.find("num_codebooks", default=0):  # of sound: in rows of their own, or beside a token of text
            yield Given((b * books, tokens), "int64")
            yield Given((b, tokens, books + 1), "int64")
    elif name == "latents":
        yield Given((b, sizes.find("hidden_size", "latent_dim", "dimension", default=512), tokens))
        yield Given((b, tokens, sizes.find("hidden_size", "latent_dim", "dimension", default=512)))
    elif name == "spectrogram":
        yield Given((b, tokens, sizes.find("model_in_dim", "num_mel_bins", default=80)))
    elif name.endswith(("embeds", "hidden_states", "features")):
        yield Given((b, tokens, sizes.find("hidden_size", "d_model", "n_embd", "embed_dim", near="text", default=768)))
    elif "pixel_values" in name or name == "prompt_masks":
        yield Given((b, sizes.channels, *sizes.image))


def _series(name: str, sizes: Sizes) -> Iterator[Given]:
    """A series of one value a step, as long as the model looks back."""
    b, lags = sizes.batch, sizes.find("lags_sequence", default=None)
    length = sizes.find("context_length", "prediction_length", default=512) + (max(lags) if lags else 0)
    channels = sizes.find("num_input_channels", "input_size", default=1)
    if name == "past_time_features":
        yield Given((b, length, sizes.find("num_time_features", default=0)))
    elif name == "past_values_padding":
        yield Given((b, length), "int64", 0)
    else:
        values = 1 if name == "past_observed_mask" else None
        if sizes.find("num_input_channels") is not None:
            yield Given((b, length, channels), "", values)
        yield Given((b, length), "", values)
        yield Given((b, length, channels), "", values)
