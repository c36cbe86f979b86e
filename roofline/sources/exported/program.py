"""A program saved by torch.export (.pt2) as an nn.Module with nothing behind its weights.

The archive's graph is JSON; it is read as data and interpreted here, operator by operator. torch.export.load would do more
than asked: it unpickles what the archive holds and resolves any name under `torch` as a function to call, so a hostile file
could run code. What may be called stands in operators.py; no weight is read, and no tensor with memory is made.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from roofline.errors import RooflineError, SourceError, UsageError
from roofline.sources.exported import operators
from roofline.tracing import ways

# Major version of the graph's schema that is understood (torch 2.6 to 2.15 and on).
SCHEMA = 8
# Bytes and values of JSON beyond which an archive is refused: about 2 kB and 100 values describe an operator.
JSON_LIMIT, VALUE_LIMIT = 128 * 2**20, 8_000_000
# Modules inside one another, and dimensions of a tensor.
DEPTH_LIMIT, RANK_LIMIT = 100, 64
# What a size may be: the largest that torch can count in bytes.
SIZE_LIMIT = 2**60
# torch._export.serde.schema: ScalarType, Layout, MemoryFormat
_DTYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16, 7: torch.float32,
    8: torch.float64, 9: torch.complex32, 10: torch.complex64, 11: torch.complex128, 12: torch.bool, 13: torch.bfloat16,
    28: torch.uint16, 29: torch.float8_e4m3fn, 30: torch.float8_e5m2, 31: torch.float8_e4m3fnuz, 32: torch.float8_e5m2fnuz,
}  # fmt: skip
_FORMATS = {1: torch.contiguous_format, 2: torch.channels_last, 3: torch.channels_last_3d, 4: torch.preserve_format}
_PLAIN = {
    "as_int",
    "as_ints",
    "as_float",
    "as_floats",
    "as_bool",
    "as_bools",
    "as_string",
    "as_strings",
    "as_int_lists",
}
# Higher-order operators that only set a mode around a part of the graph.
_WRAPPERS = {"wrap_with_set_grad_enabled": 1, "wrap_with_autocast": 4}


class _Part(nn.Module):
    """Stands for one module of the program: runs what it is given, so that operators are charged to its path."""

    def forward(self, run: Callable[[], Any]) -> Any:
        return run()


class Program(nn.Module):
    """The graph of an archive; calling it interprets its operators on whatever tensors it is given."""

    def __init__(self, graph: dict[str, Any], weights: Mapping[str, torch.Tensor], where: str) -> None:
        super().__init__()
        self._where = where
        self._graph = graph["graph"]
        self._signature: list[tuple[str, str, str]] = [_input_spec(s) for s in graph["signature"]["input_specs"]]
        self._kinds: dict[str, type[_Part]] = {}
        self._name_parts()
        for kind, name, target in self._signature:
            if kind in ("parameter", "buffer", "tensor_constant"):
                if target not in weights:
                    raise SourceError(f"{where}: its graph uses {target!r}, which the archive does not hold")
                self._enter(kind, target, weights[target])
            elif kind not in ("user_input", "constant_input"):
                raise SourceError(
                    f"{where}: input {name!r} is a {kind.replace('_', ' ')}, which cannot be read without running code"
                )
        self.inputs = [name for kind, name, _ in self._signature if kind == "user_input" and name]

    # ---------------------------------------------------------------- modules

    def _name_parts(self) -> None:
        """One part for each module that the graph's operators came from."""
        for node in self._graph["nodes"]:
            for path, kind in _module_stack(node):
                if path:
                    self._part(path, kind)

    def _part(self, path: str, kind: str = "Module") -> nn.Module:
        at: nn.Module = self
        steps = path.split(".") if path else []
        for i, step in enumerate(steps):
            below = at._modules.get(step)
            if below is None:
                below = _Part()
                at._modules[step] = below
            if i == len(steps) - 1 and type(below) is _Part and kind != "Module":
                below.__class__ = self._kinds.setdefault(kind, type(kind, (_Part,), {}))
            at = below
        return at

    def _enter(self, kind: str, target: str, t: torch.Tensor) -> None:
        path, _, name = target.rpartition(".")
        if path.count(".") >= DEPTH_LIMIT:
            raise SourceError(f"{self._where}: a weight lies more than {DEPTH_LIMIT} modules deep, the limit for a program")
        owner = self._part(path)
        if kind == "parameter":
            owner._parameters[name] = t if isinstance(t, nn.Parameter) else nn.Parameter(t, requires_grad=False)
        else:
            owner._buffers[name] = t

    def _held(self, target: str) -> Any:
        path, _, name = target.rpartition(".")
        owner = self._part(path)
        return owner._parameters[name] if name in owner._parameters else owner._buffers[name]

    # ---------------------------------------------------------------- running

    def forward(self, *args: torch.Tensor, **kwargs: torch.Tensor) -> list[Any]:
        given = list(args) + [kwargs[n] for n in self.inputs[len(args) :] if n in kwargs]
        if len(given) != len(self.inputs):
            raise TypeError(f"the program takes {len(self.inputs)} inputs ({', '.join(self.inputs)}), not {len(given)}")
        if not all(t.is_meta for t in given):
            raise SourceError(
                f"{self._where}: a program in a file is never run on real tensors\nname the model's Python source instead"
            )
        values: dict[str, Any] = {}
        users = iter(given)
        with _as_written(self._where):
            for kind, name, target in self._signature:
                if name:
                    values[name] = next(users) if kind == "user_input" else self._held(target)
            return self._interpret(self._graph, values, torch.device("meta"))

    def _interpret(self, graph: dict[str, Any], values: dict[str, Any], device: torch.device) -> list[Any]:
        nodes = graph["nodes"]
        last = _last_uses(nodes)
        kept = {n for out in graph["outputs"] for n in _names(out)}
        start = 0
        while start < len(nodes):
            path = _innermost(nodes[start])
            end = start + 1
            while end < len(nodes) and _innermost(nodes[end]) == path:
                end += 1

            def run(begin: int = start, stop: int = end) -> None:
                for i in range(begin, stop):
                    self._call(nodes[i], values, device)
                    for name in last.get(i, ()):
                        if name not in kept:
                            values.pop(name, None)

            part = self._part(path) if path else self
            run() if part is self else part(run)
            start = end
        return [_argument(out, values, device) for out in graph["outputs"]]

    def _call(self, node: dict[str, Any], values: dict[str, Any], device: torch.device) -> None:
        target = node["target"]
        outputs = node["outputs"]
        if target.startswith("torch.ops.higher_order."):
            result = self._wrapped(target.split(".")[3], node, values, device)
        else:
            args, kwargs = [], {}
            for entry in node["inputs"]:
                value = _argument(entry["arg"], values, device)
                if entry.get("kind") == 2:
                    kwargs[entry["name"]] = value
                else:
                    args.append(value)
            try:
                result = operators.call(target, args, kwargs, device, self._where)
            except (RuntimeError, TypeError, ValueError, LookupError, ArithmeticError, AssertionError, AttributeError) as error:
                if meant := ways.of_values(error):
                    raise SourceError(
                        f"{self._where}: {target}: {meant}, which a file does not hold\nname the model's Python source instead"
                    ) from error
                raise SourceError(f"{self._where}: {target} cannot be called as the graph says: {_line(error)}") from error
        if len(outputs) == 1 and "as_tensors" not in outputs[0]:
            result = [result]
        elif len(outputs) == 1:
            outputs = [{"as_tensor": t} for t in outputs[0]["as_tensors"]]
        for out, value in zip(outputs, result or (), strict=False):
            for name in _names(out):
                values[name] = value

    def _wrapped(self, name: str, node: dict[str, Any], values: dict[str, Any], device: torch.device) -> Any:
        """A part of the graph run under a mode; control flow that depends on data is refused."""
        if name not in _WRAPPERS:
            raise SourceError(f"{self._where}: it holds control flow ({name}) whose path depends on data; export it without")
        entries = [e["arg"] for e in node["inputs"]]
        at = next(i for i, e in enumerate(entries) if "as_graph" in e)
        inner = entries[at]["as_graph"]["graph"]
        args = [_argument(e, values, device) for e in entries[at + 1 :]]
        names = [n for i in inner["inputs"] for n in _names(i)]
        return self._interpret(inner, dict(zip(names, args, strict=False)), device)


def _input_spec(spec: dict[str, Any]) -> tuple[str, str, str]:
    """(kind, name in the graph, qualified name) of one input of the graph."""
    kind, body = next(iter(spec.items()))
    if kind == "constant_input":  # None, a number or a flag, which is part of the graph
        return kind, "", ""
    arg = body["arg"] if "name" in body.get("arg", {}) else next(iter(body["arg"].values()), {})
    name = arg.get("name", "") if isinstance(arg, dict) else ""
    return kind, name, next((v for k, v in body.items() if k.endswith("_name")), "")


def _module_stack(node: dict[str, Any]) -> list[tuple[str, str]]:
    """(path, type) of the modules around a node, outermost first; "a@1", a second call of a, is a."""
    out = []
    for entry in filter(None, node.get("metadata", {}).get("nn_module_stack", "").split(";")):
        _, path, kind = (*entry.split(","), "", "")[:3]
        path = re.sub(r"@\d+", "", path)
        steps = path.split(".")
        if not path or (len(steps) <= DEPTH_LIMIT and all(s.replace("-", "_").isidentifier() or s.isdigit() for s in steps)):
            kind = kind.rpartition(".")[2]
            out.append((path, kind if kind.isidentifier() else "Module"))
    return out


def _innermost(node: dict[str, Any]) -> str:
    stack = _module_stack(node)
    return stack[-1][0] if stack else ""


def _names(arg: dict[str, Any]) -> list[str]:
    """Names of values that an argument refers to."""
    out = []
    for kind, value in arg.items():
        if kind in ("as_tensor", "as_custom_obj"):
            out.append(value["name"])
        elif kind in ("as_tensors", "as_nested_tensors"):
            for t in value:
                out += [t["name"]] if isinstance(t, dict) else [u["name"] for u in t]
        elif kind == "as_optional_tensors":
            out += [v["as_tensor"]["name"] for v in value if "as_tensor" in v]
        elif kind in ("as_sym_int", "as_sym_float", "as_sym_bool"):
            out += [value["as_name"]] if "as_name" in value else []
        elif kind in ("as_sym_ints", "as_sym_floats", "as_sym_bools"):
            out += [v["as_name"] for v in value if "as_name" in v]
        elif kind == "as_optional_tensor":
            out += [value["as_tensor"]["name"]] if "as_tensor" in value else []
    return out


def _last_uses(nodes: list[dict[str, Any]]) -> dict[int, list[str]]:
    """Node index -> names that no later node reads."""
    last = {}
    for i, node in enumerate(nodes):
        for entry in (*(e["arg"] for e in node["inputs"]), *node["outputs"]):
            for name in _names(entry):
                last[name] = i
    out: dict[int, list[str]] = {}
    for name, i in last.items():
        out.setdefault(i, []).append(name)
    return out


def _argument(arg: dict[str, Any], values: Mapping[str, Any], device: torch.device) -> Any:
    """An argument as the operator takes it."""
    kind, value = next(iter(arg.items()))
    if kind in _PLAIN:
        return value
    if kind == "as_none":
        return None
    if kind == "as_tensor":
        return values[value["name"]]
    if kind == "as_tensors":
        return [values[t["name"]] for t in value]
    if kind == "as_optional_tensors":
        return [values[v["as_tensor"]["name"]] if "as_tensor" in v else None for v in value]
    if kind == "as_optional_tensor":
        return values[value["as_tensor"]["name"]] if "as_tensor" in value else None
    if kind in ("as_sym_int", "as_sym_float", "as_sym_bool"):
        return _symbol(value, values)
    if kind in ("as_sym_ints", "as_sym_floats", "as_sym_bools"):
        return [_symbol(v, values) for v in value]
    if kind == "as_scalar_type":
        return _DTYPES[value]
    if kind == "as_memory_format":
        return _FORMATS[value]
    if kind == "as_layout":
        return torch.strided
    if kind == "as_device":
        return device
    if kind == "as_complex":
        return complex(value["real"], value["imag"])
    raise SourceError(f"the graph has an argument of kind {kind!r}, which is not known here")


def _symbol(value: dict[str, Any], values: Mapping[str, Any]) -> Any:
    return values[value["as_name"]] if "as_name" in value else next(iter(value.values()))


# ------------------------------------------------------------------------------------------------ the archive


def load(where: str) -> Program:
    """The program of an archive. Raises SourceError for a file that is damaged, of another version, or asks for code."""
    path = Path(where)
    with _opened(path) as archive:
        graph = _json(archive, path, "models/model.json")
        configs = [_json(archive, path, f"{kind}s/model_{kind}s_config.json") for kind in ("weight", "constant")]
    with _as_written(path):
        version = (graph.get("schema_version") or {}).get("major")
        if version != SCHEMA:
            raise SourceError(
                f"{path} was written in schema {_line(version)} of torch.export by torch "
                f"{_line(graph.get('torch_version', '?'))}; {SCHEMA} is read here\nexport it again with this torch"
            )
        weights = _tensors(configs[0], path) | _tensors(configs[1], path)
        return Program(graph["graph_module"], weights, str(path))


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except RooflineError:
        raise
    except Exception as error:  # a damaged archive makes the zip reader and its decompressors stumble in many ways
        raise SourceError(
            f"{path} is not a whole .pt2 archive: {_line(error)}\nsave it again with torch.export.save"
        ) from error


@contextmanager
def _as_written(path: Path | str) -> Iterator[None]:
    """What a graph that torch.export did not write makes of our reading it."""
    try:
        yield
    except RooflineError:
        raise
    except Exception as error:  # any value may be of any type or missing, and what follows from that is the file's fault
        raise SourceError(
            f"{path}: its graph is not as torch.export writes it ({type(error).__name__}: {_line(error)})"
        ) from error


def _line(error: object) -> str:
    return " ".join(str(error).split())[:300]


def inputs(where: str) -> dict[str, str]:
    """The inputs that the program was exported with: name -> "1,3,224,224:float32"."""
    return {name: f"{','.join(str(s) for s, _ in sizes)}:{dtype}" for name, (sizes, dtype) in _example(where).items()}


def check(where: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise UsageError where an input is given a size that was fixed when the program was exported."""
    for name, (sizes, _) in _example(where).items():
        asked = shapes.get(name)
        if asked is None:
            continue
        fixed = [i for i, ((size, free), a) in enumerate(zip(sizes, asked, strict=False)) if a != size and not free]
        if fixed or len(asked) != len(sizes):
            raise UsageError(
                f"{where}: input {name} was exported as {'x'.join(str(s) if not free else '?' for s, free in sizes)}, "
                f"which {'x'.join(map(str, asked))} is not\nexport it with dynamic_shapes to change that size"
            )


def _example(where: str) -> dict[str, tuple[list[tuple[int, bool]], str]]:
    """Name -> ([(size, whether it may change)], dtype) of the program's inputs."""
    path = Path(where)
    with _opened(path) as archive:
        graph = _json(archive, path, "models/model.json")
    out = {}
    with _as_written(path):
        for spec in graph["graph_module"]["signature"]["input_specs"]:
            kind, name, _ = _input_spec(spec)
            if kind == "user_input" and name:
                meta = graph["graph_module"]["graph"]["tensor_values"][name]
                out[name] = (_sizes(meta["sizes"], path, name), str(_DTYPES[meta["dtype"]])[6:])
    return out


def _sizes(sizes: list[dict[str, Any]], path: Path, name: str) -> list[tuple[int, bool]]:
    """(size, whether it may change) of every dimension of a tensor. Raises SourceError for sizes that no tensor has."""
    found = [_size(s) for s in sizes]
    if len(found) > RANK_LIMIT or not all(type(s) is int and s >= 0 for s, _ in found):
        raise SourceError(f"{path}: {name} has a shape that no tensor has ({len(found)} dimensions)")
    total = 1
    for s, _ in found:
        total *= max(s, 1)
        if total > SIZE_LIMIT:
            raise SourceError(f"{path}: {name} has more than 2^60 elements, the limit for one tensor")
    return found


def _size(size: dict[str, Any]) -> tuple[int, bool]:
    if "as_int" in size:
        return size["as_int"], False
    return ((size["as_expr"].get("hint") or {}).get("as_int")) or 2, True


def _json(archive: zipfile.ZipFile, path: Path, ending: str) -> dict[str, Any]:
    found = [i for i in archive.infolist() if i.filename.endswith(ending)]
    if not found:
        if ending.startswith("models/"):
            raise SourceError(
                f"{path} holds no graph of torch.export ({ending}): another version of torch wrote it, or something else"
                "\nexport it again with this torch and torch.export.save"
            )
        return {}
    if found[0].file_size > JSON_LIMIT:
        raise SourceError(
            f"{path}: {found[0].filename} unpacks to {found[0].file_size:,} bytes; the limit for a graph is {JSON_LIMIT:,}"
        )
    data = archive.read(found[0])
    if sum(map(data.count, (b"[", b"{", b","))) > VALUE_LIMIT:
        raise SourceError(f"{path}: {found[0].filename} holds more than {VALUE_LIMIT:,} values, the limit for a graph")
    try:
        loaded = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path}: {found[0].filename} is not readable as JSON: {_line(error)}") from error
    if not isinstance(loaded, dict):
        raise SourceError(f"{path}: {found[0].filename} is not as torch.export writes it")
    return loaded


def _tensors(config: dict[str, Any], path: Path) -> dict[str, torch.Tensor]:
    """Tensors of the sizes that the archive lists, on meta; names over one stretch of memory share one tensor."""
    found: dict[str, torch.Tensor] = {}
    shared: dict[str, torch.Tensor] = {}
    for name, entry in config.get("config", {}).items():
        meta = entry.get("tensor_meta")
        if meta is None:
            continue
        key = json.dumps([entry["path_name"], meta["sizes"], meta["strides"], meta["storage_offset"]])
        if key not in shared:
            sizes, strides = [s for s, _ in _sizes(meta["sizes"], path, name)], [s["as_int"] for s in meta["strides"]]
            t = torch.empty_strided(sizes, strides, dtype=_DTYPES[meta["dtype"]], device="meta")
            shared[key] = nn.Parameter(t, requires_grad=False) if entry.get("is_param") else t
        found[name] = shared[key]
    return found
