"""Output metadata of products of groups of matrices (mixtures of experts): see `meta.py`, whose table this extends."""

from __future__ import annotations

from typing import Any

import torch

from roofline.tracing.meta import Meta, Rule


def grouped_mm(a: torch.Tensor, b: torch.Tensor, offs: Any = None, bias: Any = None, dtype: Any = None) -> list[Meta] | None:
    """Matrices side by side: the side whose groups `offs` ends has 2 dimensions, and both where the product sums over them.

    Torch's meta kernel knows half precision alone, below 2.15 bf16 alone; its kernels take fp32, and fp16 on newer GPUs.
    """
    half = a.dtype in (torch.bfloat16, torch.float16, torch.float32)
    if not half or b.dtype != a.dtype or bias is not None or dtype not in (None, a.dtype):
        return None
    for t in (a, b):
        if t.dim() in (2, 3) and not _rows_of_16_bytes(t):
            shape, stride = tuple(t.shape), t.stride()
            raise RuntimeError(f"_grouped_mm: strides must be multiples of 16 bytes, those of {shape} are {stride}")
    return _grouped(a, b, offs, a.dtype)


def _rows_of_16_bytes(t: torch.Tensor) -> bool:
    (rows, columns), (down, across) = t.shape[-2:], t.stride()[-2:]
    step = across if down == 1 and across >= max(1, rows) else down if across == 1 and down >= max(1, columns) else 1
    return step * t.element_size() % 16 == 0


def _scaled_grouped_mm(a: torch.Tensor, b: torch.Tensor, *args: Any, **kwargs: Any) -> list[Meta] | None:
    # self, mat2, scale_a, scale_b, offs, bias, scale_result, out_dtype, use_fast_accum; the result is bf16 in any case
    offs = kwargs.get("offs", args[2] if len(args) > 2 else None)
    dtype = kwargs.get("out_dtype", args[5] if len(args) > 5 else None)
    fp8 = a.dtype in _FP8 and b.dtype in _FP8
    return _grouped(a, b, offs, torch.bfloat16) if fp8 and dtype in (None, torch.bfloat16) else None


_FP8 = (torch.float8_e4m3fn, torch.float8_e4m3fnuz)


def _grouped(a: torch.Tensor, b: torch.Tensor, offs: torch.Tensor | None, dtype: torch.dtype) -> list[Meta] | None:
    # [sum of m, k] @ [g, k, n] -> [sum of m, n]     [g, m, k] @ [k, sum of n] -> [m, sum of n]
    # [m, sum of k] @ [sum of k, n] -> [g, m, n]     [g, m, k] @ [g, k, n] -> [g, m, n]
    flat = a.dim() == 2, b.dim() == 2
    if a.dim() not in (2, 3) or b.dim() not in (2, 3) or (offs is None) == any(flat) or a.shape[-1] != b.shape[-2]:
        return None
    groups = {t.shape[0] for t in (a, b) if t.dim() == 3} | ({offs.shape[0]} if offs is not None else set())
    if len(groups) != 1:
        return None
    shape = (a.shape[-2], b.shape[-1])
    padded = -(-shape[1] // (16 // dtype.itemsize)) * (16 // dtype.itemsize)  # rows begin at multiples of 16 bytes
    if flat[0] == flat[1]:
        return [((*groups, *shape), (shape[0] * padded, padded, 1), dtype)]
    return [(shape, (padded, 1), dtype)]


RULES: dict[str, Rule] = {
    "aten._grouped_mm.default": grouped_mm,
    "aten._scaled_grouped_mm.default": _scaled_grouped_mm,
}
