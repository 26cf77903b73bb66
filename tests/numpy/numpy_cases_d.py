# ruff: noqa: E501 - a table has one case a line
# fmt: off
"""Cases: the Array API standard's functions, asked of whatever array comes in; NumPy's answers are the reference."""

import numpy as np
from numpy_cases_a import NOGRAD, A, B, C, M, P, V
from numpy_checks import arr, case

import wengert.numpy as wnp

N = {**NOGRAD, "vmap": False}


def ns(f):
    """f(namespace, *arrays), with the namespace of the first array."""
    return lambda *xs: f(xs[0].__array_namespace__() if hasattr(xs[0], "__array_namespace__") else wnp, *xs)


def xcase(name, f, *xs, **options):
    case(f"xp.{name}", ns(f), *xs, **options)


for name in ("abs", "asin", "acos", "atan", "asinh", "atanh", "cos", "cosh", "exp", "expm1", "log", "log1p", "log2", "log10", "sin", "sinh", "sqrt", "square", "tan", "tanh", "reciprocal", "negative", "positive"):
    xcase(name, lambda xp, x, name=name: getattr(xp, name)(x), 0.3 + 0.4 * np.tanh(P), dtypes="fD")
for name in ("real", "imag", "conj"):
    xcase(name, lambda xp, x, name=name: getattr(xp, name)(x), A * (1 + 2j), dtypes="")
xcase("acosh", lambda xp, x: xp.acosh(x), 1 + P, dtypes="f")
for name in ("ceil", "floor", "trunc", "round", "sign", "isfinite", "isinf", "isnan", "signbit", "logical_not"):
    xcase(name, lambda xp, x, name=name: getattr(xp, name)(x), A * 3, **NOGRAD, dtypes="f")
for name in ("add", "subtract", "multiply", "divide", "pow", "atan2", "hypot", "logaddexp", "maximum", "minimum", "copysign"):
    xcase(name, lambda xp, a, b, name=name: getattr(xp, name)(a, b), P, arr(4, low=0.4), dtypes="f")
    xcase(f"{name} scalar", lambda xp, a, name=name: [getattr(xp, name)(a, 1.5), getattr(xp, name)(2.5, a)], P, dtypes="f")
for name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "logical_and", "logical_or", "logical_xor", "floor_divide"):
    xcase(name, lambda xp, a, b, name=name: getattr(xp, name)(a, b), A, B, **NOGRAD, dtypes="f")
xcase("remainder", lambda xp, a, b: xp.remainder(a, b), A, P, dtypes="f")
for name in ("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_left_shift", "bitwise_right_shift"):
    xcase(name, lambda xp, a, name=name: getattr(xp, name)(a, 2), np.arange(6), **N, dtypes="")
xcase("clip", lambda xp, x: [xp.clip(x, -0.5, 0.5), xp.clip(x, max=0.5), xp.clip(x, min=0)], A, dtypes="f")
xcase("matmul", lambda xp, a, b: xp.matmul(a, b), A, arr(4, 2))
xcase("vecdot", lambda xp, a, b: xp.vecdot(a, b, axis=0), A, B)
xcase("tensordot", lambda xp, a, b: xp.tensordot(a, b, axes=((0,), (0,))), A, B)
xcase("matrix_transpose", lambda xp, a: xp.matrix_transpose(a), C)
for name in ("sum", "prod", "mean", "var", "std"):
    xcase(name, lambda xp, x, name=name: getattr(xp, name)(x, axis=(0, 2), keepdims=True), C, dtypes="f")
xcase("max min", lambda xp, x: [xp.max(x, axis=0), xp.min(x, axis=-1, keepdims=True)], A, dtypes="f")
xcase("correction", lambda xp, x: [xp.var(x, axis=0, correction=1.5), xp.std(x, correction=1)], A, dtypes="f")
xcase("cumulative", lambda xp, x: [xp.cumulative_sum(x, axis=0, include_initial=True), xp.cumulative_prod(x, axis=1)], A)
xcase("concat", lambda xp, a, b: [xp.concat([a, b], axis=1), xp.concat((a, b), axis=None)], A, B)
xcase("stack unstack", lambda xp, a, b: [xp.stack([a, b], axis=1), *xp.unstack(a, axis=1)], A, B)
xcase("reshapes", lambda xp, x: [xp.reshape(x, (4, 3), copy=True), xp.expand_dims(x, axis=1), xp.squeeze(x[None], axis=0), xp.permute_dims(x, (1, 0)), xp.moveaxis(x, 0, 1)], A)
xcase("repeats", lambda xp, x: [xp.repeat(x, 2, axis=1), xp.tile(x, (2, 1)), xp.roll(x, 1, axis=0), xp.flip(x, axis=1), xp.broadcast_to(x, (2, 3, 4))], A)
xcase("broadcast_arrays", lambda xp, a, b: list(xp.broadcast_arrays(a, b)), A, arr(4))
xcase("meshgrid", lambda xp, a, b: list(xp.meshgrid(a, b, indexing="ij")), V, arr(3))
xcase("tri", lambda xp, x: [xp.tril(x, k=1), xp.triu(x)], C)
xcase("diff", lambda xp, x: xp.diff(x, axis=0, n=2), A)
xcase("take", lambda xp, x: [xp.take(x, xp.asarray([1, 0]), axis=1), xp.take_along_axis(x, xp.asarray([[0], [1], [3]]), axis=1)], A)
xcase("where", lambda xp, a, b: [xp.where(xp.asarray(M), a, b), xp.where(a > b, a, 0.0)], A, B, dtypes="f")
xcase("sort", lambda xp, x: xp.sort(x, axis=0), A, dtypes="fl")
xcase("argsort", lambda xp, x: xp.argsort(x, axis=0, stable=True), A, **NOGRAD, dtypes="fl")
xcase("searches", lambda xp, x: [xp.argmax(x, axis=1), xp.argmin(x, keepdims=True), xp.count_nonzero(x, axis=0), xp.any(x > 0), xp.all(x > 0, axis=0)], A, **N, dtypes="fl")
xcase("nonzero", lambda xp, x: xp.nonzero(x > 0), A, **N, dtypes="fl")
xcase("searchsorted", lambda xp, x: xp.searchsorted(x, x + 0.1, side="right"), np.sort(V), **N, dtypes="f")
xcase("unique", lambda xp, x: [xp.unique_values(x), *xp.unique_all(x), *xp.unique_counts(x), *xp.unique_inverse(x)], np.round(A), vmap=False, dtypes="f", grad=False, second=False)
xcase("unique gradient", lambda xp, x: xp.unique_values(x), A, vmap=False, dtypes="f")
xcase("likes", lambda xp, x: [xp.zeros_like(x), xp.ones_like(x, dtype=xp.float32), xp.full_like(x, 2)], A, **N)
xcase("makers", lambda xp, x: [xp.zeros((2, 3)), xp.ones(3, dtype=xp.int32), xp.eye(3, 4, k=1), xp.arange(1, 7, 2), xp.arange(3.0), xp.full((2,), 1.5), xp.linspace(0, 1, 5), xp.asarray([[1, 2]]), xp.asarray(2.0, dtype=xp.float32)], A, **N, dtypes="")
xcase("astype", lambda xp, x: [xp.astype(x, xp.complex64), xp.astype(x, xp.float64, copy=False)], A, dtypes="f", second=False, grad=False)
xcase("types", lambda xp, x: [xp.result_type(x, xp.float32), xp.can_cast(x.dtype, xp.complex128), xp.isdtype(x.dtype, "real floating"), np.asarray(xp.finfo(x.dtype).bits), np.asarray(float(xp.finfo(x.dtype).eps)), np.asarray(xp.iinfo(xp.int8).max)], A, **N, dtypes="f")
xcase("constants", lambda xp, x: [np.asarray(v) for v in (xp.pi, xp.e, xp.inf, xp.nan)], V, **N, dtypes="")
