"""Element by element: FLOPs per element of the result. docs/flops.md is this table with the reasons."""

from __future__ import annotations

from functools import cache
from typing import Any

from roofline.cost.registry import Rule, add, first, is_complex, rule, total
from roofline.records import TensorSpec

T = TensorSpec
Out = TensorSpec | tuple[TensorSpec, ...]

# One each: an add, a multiply, a compare, a bit operation, or one function of the mathematical library.
_ONE = """
add sub rsub mul div neg abs relu maximum minimum fmax fmin clamp_min clamp_max threshold threshold_backward exp exp2 expm1
log log2 log10 log1p sqrt rsqrt reciprocal square sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh atan2 erf erfc
erfinv lgamma digamma mvlgamma polygamma i0 igamma igammac pow float_power floor ceil round trunc frac fix remainder fmod
floor_divide true_divide divide multiply subtract negative absolute sign sgn signbit copysign nextafter heaviside ldexp
frexp gcd lcm eq ne lt le gt ge greater greater_equal less less_equal not_equal isnan isinf isfinite isposinf isneginf
isreal logical_and logical_or logical_xor logical_not bitwise_and bitwise_or bitwise_xor bitwise_not bitwise_left_shift
bitwise_right_shift __and__ __or__ __xor__ __lshift__ __rshift__ __iand__ __ior__ __ixor__ __ilshift__ __irshift__ arccos
arccosh arcsin arcsinh arctan arctan2 arctanh deg2rad rad2deg conj_physical _conj_physical angle hypot special_erf
special_erfc special_erfinv special_exp2 special_expm1 special_log1p special_gammaln special_digamma special_psi special_i0
special_i0e special_i1 special_i1e special_ndtri special_log_ndtr special_entr special_zeta special_erfcx special_ndtr
special_round special_gammainc special_gammaincc special_polygamma special_multigammaln special_airy_ai special_bessel_j0
special_bessel_j1 special_bessel_y0 special_bessel_y1 special_modified_bessel_i0 special_modified_bessel_i1
special_modified_bessel_k0 special_modified_bessel_k1 special_scaled_modified_bessel_k0 special_scaled_modified_bessel_k1
special_spherical_bessel_j0 special_chebyshev_polynomial_t special_chebyshev_polynomial_u special_chebyshev_polynomial_v
special_chebyshev_polynomial_w special_hermite_polynomial_h special_hermite_polynomial_he special_laguerre_polynomial_l
special_legendre_polynomial_p special_shifted_chebyshev_polynomial_t special_shifted_chebyshev_polynomial_u
special_shifted_chebyshev_polynomial_v special_shifted_chebyshev_polynomial_w hardshrink_backward hardtanh_backward
softshrink_backward _saturate_weight_to_fp16 _standard_gamma_grad _dirichlet_grad prims.erfcx
prims.cbrt prims.shift_left prims.shift_right_arithmetic prims.bessel_i0
prims.bessel_i1 prims.bessel_j0 prims.bessel_j1 prims.bessel_i0e prims.bessel_i1e prims.erf_inv prims.ndtri
prims.spherical_bessel_j0 prims.zeta
"""

# What is made of several: the formula beside each.
WEIGHTS: dict[str, int] = {
    **dict.fromkeys(_ONE.split(), 1),
    "sigmoid": 3,  # exp, add, divide
    "special_expit": 3,
    "silu": 4,  # x * sigmoid(x)
    "logit": 3,  # log(x / (1 - x))
    "special_logit": 3,
    "relu6": 2,  # two compares
    "hardtanh": 2,
    "hardsigmoid": 4,  # add, two compares, multiply
    "hardswish": 5,  # x * hardsigmoid(x)
    "leaky_relu": 2,  # compare, multiply
    "prelu": 2,
    "_prelu_kernel": 2,
    "rrelu": 2,
    "rrelu_with_noise": 2,
    "rrelu_with_noise_functional": 2,
    "elu": 3,  # compare, expm1, multiply
    "celu": 4,  # compare, divide, expm1, multiply
    "selu": 4,  # compare, expm1, two multiplies
    "softplus": 3,  # exp, add, log
    "log_sigmoid": 3,
    "log_sigmoid_forward": 3,
    "mish": 5,  # x * tanh(softplus(x))
    "softshrink": 3,  # two compares, an add
    "hardshrink": 2,  # two compares
    "glu": 4,  # a * sigmoid(b)
    "lerp": 3,  # a + w (b - a)
    "addcmul": 3,  # a + value * b * c
    "addcdiv": 3,
    "logaddexp": 6,  # maximum, difference, absolute value, exp, log1p, add
    "logaddexp2": 6,
    "xlogy": 2,  # log, multiply
    "special_xlogy": 2,
    "special_xlog1py": 2,
    "sinc": 3,  # multiply, sin, divide
    "special_sinc": 3,
    "nan_to_num": 3,  # three compares
    "isclose": 5,  # subtract, absolute value, multiply, add, compare
    "polar": 4,  # sin, cos, two multiplies
    "complex": 0,  # moves two numbers together
    "_add_relu": 2,  # add, compare
    "native_dropout": 2,  # draw and compare, scale
    "native_dropout_backward": 2,
    "_fused_dropout": 2,
    "_masked_scale": 2,
    "bernoulli": 1,  # draw and compare
    # gradients
    "sigmoid_backward": 3,  # dy * y * (1 - y)
    "tanh_backward": 3,  # dy * (1 - y * y)
    "silu_backward": 8,  # s: 3; dy * s * (1 + x * (1 - s)): 5
    "hardswish_backward": 5,  # compares 2, x / 3 + 1/2: 2, multiply
    "hardsigmoid_backward": 3,  # two compares, multiply
    "leaky_relu_backward": 2,  # compare, multiply
    "_prelu_kernel_backward": 4,  # compare and multiply, for the input and for the slope
    "rrelu_with_noise_backward": 2,  # compare, multiply
    "elu_backward": 4,  # compare, exp, two multiplies
    "softplus_backward": 4,  # exp, add, divide, multiply
    "log_sigmoid_backward": 5,  # exp, add, divide, compare, multiply
    "mish_backward": 11,  # softplus 3, tanh, sigmoid 3, dy * (t + x * s * (1 - t * t)): 4 and the square
    "glu_jvp": 8,  # sigmoid 3; da * s + y * (db - s * db): 5
    "glu_backward": 8,  # sigmoid 3; one multiply for a; 1 - s and three multiplies for b
    "logit_backward": 3,  # 1 - x, multiply, divide
    "infinitely_differentiable_gelu_backward": 11,  # as gelu_backward
}

# Elements are moved or chosen, none is computed: no FLOPs.
_MOVED = """
where masked_fill positive masked_scatter_backward real imag _conj _neg_view resolve_conj resolve_neg
prims.convert_element_type prims.device_put prims.broadcast_in_dim prims.iota prims.fill prims.copy_to prims.copy_strided
prims.where
"""

# Real FLOPs of one complex element: (a + ib)(c + id) is 4 multiplies and 2 adds.
COMPLEX = {
    "mul": 6,
    "multiply": 6,
    "div": 11,
    "divide": 11,
    "square": 6,
    "reciprocal": 6,
    "abs": 4,
    "conj_physical": 1,
    "addcmul": 14,
}


@cache
def _factory(weight: int, complex_weight: int) -> Rule:
    def count(*args: Any, out: Out, **kwargs: Any) -> int:
        # [*] -> [*], broadcast
        y = first(out)
        if is_complex(y) or (args and isinstance(args[0], T) and is_complex(args[0])):
            return y.numel * complex_weight
        return y.numel * weight

    return Rule(count, "pointwise")


def _scaled() -> Rule:
    def count(self: Any, other: Any = 0, alpha: float = 1, *, out: Out, **_: Any) -> int:
        # self + alpha * other: one more where alpha is not 1
        y = first(out)
        return y.numel * (1 + (alpha != 1)) * (2 if is_complex(y) else 1)

    return Rule(count, "pointwise")


_SCALED = ("add", "sub", "rsub", "subtract")

for _name, _weight in WEIGHTS.items():
    add((_name,), _scaled() if _name in _SCALED else _factory(_weight, COMPLEX.get(_name, 2 * _weight)))
add(_MOVED.split(), _factory(0, 0))


@rule("gelu", klass="pointwise")
def gelu(self: T, *, approximate: str = "none", out: Out, **_: Any) -> int:
    # x / 2 * (1 + erf(x / sqrt 2)): scale, erf, add, halve, multiply = 5
    # x / 2 * (1 + tanh(c (x + d x^3))): x^3 2, d 1, add 1, c 1, tanh 1, add 1, halve 1, multiply 1 = 9
    return first(out).numel * (9 if approximate == "tanh" else 5)


@rule("gelu_backward", klass="pointwise")
def gelu_backward(grad_output: T, self: T, *, approximate: str = "none", out: Out, **_: Any) -> int:
    # none: cdf 4 (scale, erf, add, halve), pdf 4 (square, scale, exp, scale), dy * (cdf + x * pdf) 3 = 11
    # tanh: inner 5, tanh 1, (1 + t) / 2 2, slope 1 - t^2 2, d inner 3, dy * (half + x / 2 * slope * d inner) 5 = 18
    return first(out).numel * (18 if approximate == "tanh" else 11)


@rule("clamp", "clip", klass="pointwise")
def clamp(self: T, min: Any = None, max: Any = None, *, out: Out, **_: Any) -> int:
    # one compare for each bound that is given
    return first(out).numel * ((min is not None) + (max is not None))


@rule("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", klass="pointwise")
def dropout(input: T, p: float, train: bool, *, out: Out, **_: Any) -> int:
    # nothing at inference; draw and compare, scale
    return 2 * first(out).numel if train and p else 0


@rule("isin", klass="pointwise")
def isin(elements: Any, test_elements: Any, *, out: Out, **_: Any) -> int:
    # every element against every candidate
    candidates = test_elements.numel if isinstance(test_elements, T) else 1
    return first(out).numel * candidates


@rule("cross", "linalg_cross", klass="pointwise")
def cross(self: T, *_: Any, out: Out, **__: Any) -> int:
    # a_i b_j - a_j b_i
    return 3 * first(out).numel


@rule("cartesian_prod", "combinations", "meshgrid", klass="layout")
def combinations(*_: Any, **__: Any) -> int:
    return 0


# --- quantised by hand: x / scale, round, + zero point, two compares; back: - zero point, * scale


@rule(
    "quantize_per_tensor",
    "quantize_per_channel",
    "quantized_decomposed.quantize_per_tensor",
    "quantized_decomposed.quantize_per_channel",
    "quantized_decomposed.quantize_per_token",
    klass="pointwise",
)
def quantize(input: T, *_: Any, out: Out, **__: Any) -> int:
    return 5 * input.numel


@rule("quantize_per_tensor_dynamic", klass="pointwise")
def quantize_dynamic(input: T, *_: Any, out: Out, **__: Any) -> int:
    # with the range of the input: two compares
    return 7 * input.numel


@rule(
    "dequantize",
    "quantized_decomposed.dequantize_per_tensor",
    "quantized_decomposed.dequantize_per_channel",
    "quantized_decomposed.dequantize_per_token",
    klass="pointwise",
)
def dequantize(input: Any, *_: Any, out: Out, **__: Any) -> int:
    return 2 * total(input)


@rule(
    "fake_quantize_per_tensor_affine",
    "fake_quantize_per_channel_affine",
    "fake_quantize_per_tensor_affine_cachemask",
    "fake_quantize_per_channel_affine_cachemask",
    "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams",
    "_fake_quantize_learnable_per_tensor_affine",
    "_fake_quantize_learnable_per_channel_affine",
    klass="pointwise",
)
def fake_quantize(self: T, *_: Any, out: Out, **__: Any) -> int:
    return 7 * self.numel


@rule(
    "fused_moving_avg_obs_fake_quant",
    "_fused_moving_avg_obs_fq_helper",
    "_fused_moving_avg_obs_fq_helper_functional",
    klass="pointwise",
)
def observed_fake_quantize(self: T, *_: Any, out: Out, **__: Any) -> int:
    # the observer's minimum and maximum
    return 9 * self.numel


@rule(
    "fake_quantize_per_tensor_affine_cachemask_backward",
    "fake_quantize_per_channel_affine_cachemask_backward",
    klass="pointwise",
)
def fake_quantize_backward(grad: T, mask: T, *_: Any, out: Out, **__: Any) -> int:
    return grad.numel


@rule(
    "_fake_quantize_learnable_per_tensor_affine_backward",
    "_fake_quantize_learnable_per_channel_affine_backward",
    klass="pointwise",
)
def learnable_fake_quantize_backward(grad: T, self: T, *_: Any, out: Out, **__: Any) -> int:
    # the step anew, as fake_quantize: 7; in range 2, times dy 1; of the scale dy * (step - x) / s * factor: 4, summed 1;
    # of the zero point dy * s * factor: 2, summed 1
    return 18 * self.numel


@rule("_choose_qparams_per_tensor", "choose_qparams_optimized", "quantized_decomposed.choose_qparams", klass="reduction")
def choose_qparams(self: T, *_: Any, out: Out, **__: Any) -> int:
    # minimum and maximum
    return 2 * self.numel


# --- lists of tensors: the optimizers


def foreach(name: str) -> Rule | None:
    """Rule of `_foreach_<name>` from the table: the weight over all tensors of the list."""
    weight = WEIGHTS.get(name)
    if weight is None:
        return None

    def count(self: Any, *args: Any, alpha: float = 1, out: Any, **_: Any) -> int:
        # [*] for each of the list; in place there is no output
        # a scalar raised to each of the list comes first
        return (total(self) or total(args)) * (weight + (alpha != 1))

    return Rule(count, "pointwise")


@rule("_foreach_zero", "_foreach_zero_", "_foreach_copy", "_foreach_copy_", "_foreach_clone", klass="layout")
def foreach_move(*_: Any, **__: Any) -> int:
    return 0


@rule("_foreach_norm", klass="reduction")
def foreach_norm(self: list[T], *_: Any, out: Any, **__: Any) -> int:
    # square and add
    return 2 * total(self)


@rule("_foreach_powsum", klass="reduction")
def foreach_powsum(self: list[T], *_: Any, out: Any, **__: Any) -> int:
    return 2 * total(self)


@rule("_foreach_max", klass="reduction")
def foreach_max(self: list[T], *_: Any, out: Any, **__: Any) -> int:
    return total(self)


@rule("_amp_foreach_non_finite_check_and_unscale", "_amp_foreach_non_finite_check_and_unscale_", klass="pointwise")
def amp_unscale(self: list[T], *_: Any, out: Any, **__: Any) -> int:
    # is it finite, times the inverse scale
    return 2 * total(self)


@rule("_amp_update_scale", klass="pointwise")
def amp_update_scale(self: T, *_: Any, out: Any, **__: Any) -> int:
    return 2


@rule("_fused_adam", "_fused_adamw", klass="pointwise")
def fused_adam(  # long: the operator's own arguments
    self: list[T],
    grads: list[T],
    exp_avgs: list[T],
    exp_avg_sqs: list[T],
    max_exp_avg_sqs: list[T],
    state_steps: list[T],
    *,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
    maximize: bool = False,
    grad_scale: T | None = None,
    out: Any,
    **_: Any,
) -> int:
    # m = lerp(m, g): 3; v = b2 v + (1 - b2) g g: 4; sqrt(v) / c + eps: 3; p - step m / that: 3
    # weight decay: g + wd p, or p - lr wd p: 2; amsgrad a maximum; maximize a sign; a gradient scale a divide
    n = 13 + 2 * (weight_decay != 0) + amsgrad + maximize + (grad_scale is not None)
    return n * total(self)


@rule("_fused_sgd", klass="pointwise")
def fused_sgd(  # long: the operator's own arguments
    self: list[T],
    grads: list[T],
    momentum_buffer_list: list[T],
    *,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
    is_first_step: bool = False,
    dampening: float = 0.0,
    grad_scale: T | None = None,
    out: Any,
    **_: Any,
) -> int:
    # p - lr g: 2; weight decay g + wd p: 2; nesterov g + m b: 2
    # buffer m b + (1 - d) g: 2, with dampening 3, at the first step a copy
    buffered = 0 if momentum == 0 or is_first_step else 2 + (dampening != 0)
    n = 2 + 2 * (weight_decay != 0) + buffered + 2 * (nesterov and momentum != 0) + maximize + (grad_scale is not None)
    return n * total(self)


@rule("_fused_adagrad", klass="pointwise")
def fused_adagrad(self: list[T], *_: Any, weight_decay: float = 0.0, out: Any, **__: Any) -> int:
    # s + g g: 2; p - lr g / (sqrt(s) + eps): 5
    return (7 + 2 * (weight_decay != 0)) * total(self)
