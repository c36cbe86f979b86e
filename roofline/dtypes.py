"""The names of dtypes: torch's ("bfloat16"), those of peaks and settings ("bf16"), and how wide each is."""

from __future__ import annotations

# What a model can be analysed in, alike on the command line, in a budget file and in Python; and why int8 is not among it.
SETTINGS = ("fp32", "tf32", "fp16", "bf16", "amp", "fp64")
NOT_INT8 = "int8 needs a quantized model, whose own ops are int8: name one (its dtype is then its own) and leave --dtype out"

# What devices have peaks for: operand type -> keys of matrix units (operand and accumulate type), the one that PyTorch's
# libraries use by default first.
TENSOR_KEYS = {
    "fp64": ("fp64/fp64",),
    "fp32": ("fp32/fp32",),
    "tf32": ("tf32/fp32",),
    "fp16": ("fp16/fp32", "fp16/fp16"),
    "bf16": ("bf16/fp32",),
    "int8": ("int8/int32",),
    "fp8": ("fp8/fp32", "fp8/fp16"),
}
PEAKS = tuple(TENSOR_KEYS)
TENSOR_NAMES = tuple(key for keys in TENSOR_KEYS.values() for key in keys)
VECTOR_NAMES = ("fp64", "fp32", "fp16", "bf16", "int8")
# Bits of an operand's mantissa, exponent and sign together: tf32 has those of 19.
PEAK_BITS = {"fp64": 64, "fp32": 32, "tf32": 19, "fp16": 16, "bf16": 16, "int8": 8, "fp8": 8}

# torch's name -> the device's name of the same type.
SHORT = {
    "float64": "fp64",
    "float32": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "int8": "int8",
    "uint8": "int8",
    "qint8": "int8",
    "quint8": "int8",
    "float8_e4m3fn": "fp8",
    "float8_e5m2": "fp8",
}
# The name of a setting or peak -> torch's name of the type that its tensors have.
TORCH = {
    "fp32": "float32",
    "tf32": "float32",
    "amp": "float32",
    "fp16": "float16",
    "bf16": "bfloat16",
    "fp64": "float64",
    "int8": "int8",
}

# Bits per element by dtype name (torch's names without the `torch.`). Sub-byte types are packed.
DTYPE_BITS: dict[str, int] = {
    "float64": 64, "float32": 32, "float16": 16, "bfloat16": 16,
    "float8_e4m3fn": 8, "float8_e5m2": 8, "float8_e4m3fnuz": 8, "float8_e5m2fnuz": 8, "float8_e8m0fnu": 8,
    "float4_e2m1fn_x2": 8,
    "complex32": 32, "complex64": 64, "complex128": 128,
    "int64": 64, "int32": 32, "int16": 16, "int8": 8, "uint8": 8, "uint16": 16, "uint32": 32, "uint64": 64, "bool": 8,
    "qint8": 8, "quint8": 8, "qint32": 32, "quint4x2": 4, "quint2x4": 2,
    **{f"{sign}int{bits}": bits for sign in ("", "u") for bits in range(1, 8)},
}  # fmt: skip

# Integers and what inputs of a model can be asked for in (`--input ids=1,128:int64`).
INTEGERS = {"int64", "int32", "int16", "int8", "uint8", "bool"}
INPUTS = INTEGERS | {"float64", "float32", "float16", "bfloat16", "complex64"}
# What a configuration of transformers may name.
CONFIGS = {
    "auto", "float16", "float32", "float64", "bfloat16", "half", "float", "double", "uint8", "int8", "int16", "int32", "int64",
    "bool", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz",
}  # fmt: skip
# Types that compute in doubles; other 64-bit ones (integers) run at the rate of fp32.
DOUBLES = frozenset({"float64", "complex128"})
