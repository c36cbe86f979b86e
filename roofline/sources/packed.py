"""Quantised weights as a configuration of transformers says them (`quantization_config`): what is stored, and what is computed.

A weight is replaced by what its format stores (packed numbers, scales, zero points). A linear layer with few rows is one kernel
that reads them; with more rows, and wherever else the model asks for the weight, an operator of ours makes it of them in the
dtype of the activations, as the libraries do. The formats and the rows, by source:

- bitsandbytes: `bnb.nn.Linear8bitLt` (int8, fp32 row scales `SCB`; always one product), `Linear4bit` (two numbers a byte, an
  fp32 scale for 64; nested: a byte each, with an fp32 for 256 of them and an offset; `matmul_4bit` is one kernel for one row);
  bitsandbytes/functional.py, autograd/_functions.py.
- gptq: AutoGPTQ's QuantLinear: `qweight` int32 [i * bits / 32, o], `qzeros` int32 [groups, o * bits / 32], `scales` fp16
  [groups, o], `g_idx` int32 [i]; exllama's kernel up to 50 rows (MAX_Q_GEMM_ROWS).
- awq: AutoAWQ's WQLinear_GEMM: as gptq without `g_idx`; its kernel below 1,024 rows (awq/modules/linear/gemm.py).
- fp8: transformers' FP8Linear: float8, fp32 `weight_scale_inv` for each block (integrations/finegrained_fp8.py); fbgemm_fp8:
  one for each row (integrations/fbgemm_fp8.py); always one product. It is timed in the dtype of the activations.
- mxfp4: experts in blocks of 32: 16 bytes and a scale of one (integrations/mxfp4.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from msgspec import Struct
from torch import nn

from roofline.errors import SourceError, nearest

_ALL = 2**62
_FP8 = torch.float8_e4m3fn


class Format(Struct, frozen=True):
    """How weights [o, i] are stored: `bits` a number, and a scale for `group` of them along i (0: for all of a row)."""

    method: str
    bits: int
    group: int = 0
    # rows that share a scale
    rows: int = 1
    # bytes of a scale; bits of a zero point for each; bytes of an index for each of i; whether scales are quantised themselves
    scale: int = 2
    zero: int = 0
    index: int = 0
    nested: bool = False
    # rows up to which a linear layer is one kernel
    rows_at_once: int = 0

    @property
    def words(self) -> str:
        size = f"{self.bits} bit"
        group = ", a scale for each row" if not self.group else ", one scale" if self.group == _ALL else ""
        group = group or f", a scale for {self.group * self.rows:,}"
        return f"{self.method}, {size}{group}"


def format_of(table: Mapping[str, Any], where: str) -> Format:
    """The format that a `quantization_config` says. Raises SourceError for one that is not known here."""
    method = table.get("quant_method") or ("bitsandbytes" if "load_in_8bit" in table or "load_in_4bit" in table else "")
    bits = table.get("bits", table.get("w_bit", 4))
    group = table.get("group_size", table.get("q_group_size", 128))
    if method in ("gptq", "awq") and (bits not in (2, 3, 4, 8) or not isinstance(group, int) or group < -1):
        raise SourceError(f"{where}: quantization_config has bits {bits!r}, group_size {group!r}; {method} stores no such")
    known = {
        "gptq": lambda: Format("gptq", bits, max(group, 0), zero=bits, index=4, rows_at_once=50),
        "awq": lambda: Format("awq", bits, max(group, 0), zero=bits if table.get("zero_point", True) else 0, rows_at_once=1023),
        "bitsandbytes": lambda: _bitsandbytes(table),
        "fp8": lambda: _blocks(table, where),
        "fbgemm_fp8": lambda: Format("fbgemm_fp8", 8, scale=4, rows_at_once=_ALL),
        "mxfp4": lambda: Format("mxfp4", 4, 32, scale=1),
    }
    if method not in known:
        raise SourceError(
            f"{where}: its weights are quantised by {str(method)[:60]!r}, not known here{nearest(str(method), known)}; "
            f"known are {', '.join(known)}\ntake quantization_config out of the file to analyse the model without it"
        )
    return known[str(method)]()


def _bitsandbytes(table: Mapping[str, Any]) -> Format:
    if table.get("load_in_4bit") or table.get("_load_in_4bit"):
        nested = bool(table.get("bnb_4bit_use_double_quant"))
        return Format("bitsandbytes", 4, 64, scale=4, nested=nested, rows_at_once=1)
    return Format("bitsandbytes", 8, scale=4, rows_at_once=_ALL)


def _blocks(table: Mapping[str, Any], where: str) -> Format:
    block = table.get("weight_block_size", [128, 128])
    if block is None:
        return Format("fp8", 8, scale=4, group=_ALL, rows=_ALL, rows_at_once=_ALL)  # one scale for all
    if not isinstance(block, list) or len(block) != 2 or not all(isinstance(n, int) and n > 0 for n in block):
        raise SourceError(f"{where}: weight_block_size is {block!r} and not two sizes")
    return Format("fp8", 8, block[1], block[0], scale=4, rows_at_once=_ALL)


# ------------------------------------------------------------------------------------------------ a model


def applied(model: nn.Module, table: Mapping[str, Any], where: str) -> tuple[nn.Module, str]:
    """The model with its weights stored as `table` says, and a note. Raises SourceError for a format that is not known."""
    found = format_of(table, where)
    skip = _skipped(model, table)
    packed = 0
    for name, module, key in [*_weights(model, found)]:
        if not any(s == name or name.startswith(f"{s}.") or f".{s}." in f".{name}." for s in skip):
            _pack(model, module, key, found)
            packed += 1
    note = f"{packed} weights are stored quantised ({found.words}), and dequantised to the dtype of the activations"
    return model, note


def _skipped(model: Any, table: Mapping[str, Any]) -> set[str]:
    """Modules that stay as they are: as the configuration says, else the output layer, which transformers leaves out too."""
    said = table.get("modules_to_not_convert") or table.get("llm_int8_skip_modules") or []
    found = {str(s) for s in said} if isinstance(said, list) else set()
    output = getattr(model, "get_output_embeddings", lambda: None)()
    if not said and not table.get("lm_head"):
        found |= {name for name, m in model.named_modules() if m is output and name}
    return found


def _weights(model: nn.Module, found: Format) -> Iterator[tuple[str, nn.Module, str]]:
    """(path, module, parameter) of what is quantised: linear layers, and experts that lie in one tensor."""
    for name, m in model.named_modules():
        if isinstance(m, nn.Linear) and found.method != "mxfp4":
            yield name, m, "weight"
        elif "Experts" in type(m).__name__ and found.method != "bitsandbytes":  # which takes linear layers alone
            for key, p in m._parameters.items():
                if p is not None and p.dim() == 3:
                    yield name, m, key


def _pack(root: nn.Module, module: nn.Module, key: str, found: Format) -> None:
    """Put the stored tensors in place of a parameter, and a property that makes the weight of them."""
    weight = module._parameters.pop(key)
    assert weight is not None
    shape, place = tuple(weight.shape), weight.device
    stored = [f"{key}_packed"]
    module.register_parameter(stored[0], _parameter(_packed(shape, found, place), weight.numel()))
    for name, count, size in _beside(shape, found):
        dtype = {1: torch.uint8, 2: torch.float16}.get(size, torch.float32)
        stored.append(f"{key}_{name}")
        module.register_parameter(stored[-1], _parameter(torch.empty(count, dtype=dtype, device=place), 0))
    like = _like(root, module)

    def made(self: nn.Module) -> torch.Tensor:
        tensors = [self._parameters[name] for name in stored]
        result: torch.Tensor = torch.ops.roofline.dequantize(tensors, list(shape), like().dtype)
        return result

    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        rows = x.numel() // max(x.shape[-1], 1)
        if rows > found.rows_at_once or (torch.is_grad_enabled() and x.requires_grad):
            return nn.functional.linear(x, self.weight, self.bias)
        tensors = [self._parameters[name] for name in stored]
        result: torch.Tensor = torch.ops.roofline.packed_linear(x, tensors, self.bias, shape[0])
        return result

    kind = type(module)
    own: dict[str, Any] = {key: property(made), "__module__": kind.__module__}
    if kind.forward is nn.Linear.forward:
        own["forward"] = forward
    module.__class__ = type(kind.__name__, (kind,), own)


def _like(root: nn.Module, module: nn.Module) -> Any:
    """Where the dtype of the activations is read: a norm or an embedding, which no format quantises."""
    held = [(m, k) for m in (module, *root.modules()) for k, p in m._parameters.items() if p is not None and _plain(p)]
    owner, key = next(((m, k) for m, k in held if not k.endswith(_ENDS)), (root, ""))
    return lambda: owner._parameters[key] if key else torch.empty(0, device="meta")


_ENDS = ("_packed", "_scale", "_zero", "_index", "_offset")


def _plain(p: torch.Tensor) -> bool:
    return p.dtype.is_floating_point and p.dtype.itemsize >= 2


def _parameter(t: torch.Tensor, elements: int) -> nn.Parameter:
    """A stored tensor that stands for so many weights."""
    p = nn.Parameter(t, requires_grad=False)
    p._roofline_elements = elements  # type: ignore[attr-defined]  # our mark on torch's object
    return p


def _packed(shape: tuple[int, ...], found: Format, place: torch.device) -> torch.Tensor:
    numel = math.prod(shape)
    if found.method in ("fp8", "fbgemm_fp8"):
        return torch.empty(shape, dtype=_FP8, device=place)
    if found.method in ("gptq", "awq"):
        return torch.empty(-(-numel * found.bits // 32), dtype=torch.int32, device=place)
    return torch.empty(-(-numel * found.bits // 8), dtype=torch.int8 if found.bits == 8 else torch.uint8, device=place)


def _beside(shape: tuple[int, ...], found: Format) -> Iterator[tuple[str, int, int]]:
    """(name, elements, bytes of each) of what is stored beside the numbers."""
    *many, o, i = shape
    blocks = math.prod(many)
    if found.method == "bitsandbytes" and found.group:  # blocks run through the whole tensor
        scales = -(-math.prod(shape) // found.group)
    else:
        scales = blocks * -(-o // found.rows) * (-(-i // found.group) if found.group else 1)
    yield "scale", scales, 1 if found.nested else found.scale
    if found.nested:
        yield "offset", -(-scales // 256) + 1, 4
    if found.zero:
        yield "zero", -(-scales * found.zero // 8), 1
    if found.index:
        yield "index", blocks * i, found.index


_library: Any = torch.library.Library("roofline", "DEF")  # type: ignore[no-untyped-call]  # torch's own
_library.define("dequantize(Tensor[] stored, int[] shape, ScalarType dtype) -> Tensor")
_library.define("packed_linear(Tensor x, Tensor[] stored, Tensor? bias, int out) -> Tensor")


def _dequantize(stored: list[torch.Tensor], shape: list[int], dtype: torch.dtype) -> torch.Tensor:
    return torch.zeros(shape, dtype=dtype, device=stored[0].device)


def _linear(x: torch.Tensor, stored: list[torch.Tensor], bias: torch.Tensor | None, out: int) -> torch.Tensor:
    return x.new_zeros((*x.shape[:-1], out))


for _device in ("CPU", "Meta"):
    _library.impl("dequantize", _dequantize, _device)
    _library.impl("packed_linear", _linear, _device)
