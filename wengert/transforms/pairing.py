"""Whether two maps are transposes of each other, and two arrays the same, up to rounding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..trace import Tensor
from ..types import Array, dtype_of, is_inexact, shape_of

__all__ = ["agree", "bottom", "elsewhere", "inner", "same_pairing"]


def same_pairing(gs: Any, ys: Any, point: Any, values: Any) -> bool:
    """<g, A p> = <A^T g, p>."""
    (a, m), (b, n) = paired(gs, ys), paired(point, values)
    kinds = [np.result_type(v) for v in [*ys, *values] if is_inexact(dtype_of(v))]
    eps = max((float(np.finfo(k).eps) for k in kinds), default=0.0)
    return bool(not np.isfinite(m + n) or abs(a - b) <= eps**0.5 * (m + n))


def paired(xs: Sequence[Array], many: Sequence[Array]) -> tuple[Any, float]:
    """(sum_i <x_i, v_i>, the sum of its terms' sizes); the mean over lanes in front of the v_i."""
    total, size = 0.0, 0.0
    for x, v in zip(xs, many):
        lanes = max(np.size(v) // max(np.size(x), 1), 1)
        with np.errstate(all="ignore"):
            total = total + np.sum(x * v) / lanes
            size += float(np.sum(np.abs(x * v))) / lanes
    return total, size


def bottom(x: Any) -> Any:
    while isinstance(x, Tensor):
        x = x.data
    return x


def elsewhere(a: Array, rng: np.random.Generator) -> Array:
    return np.asarray(10 * rng.standard_normal(shape_of(a)), dtype_of(a))


def agree(a: Any, b: Any) -> bool:
    dtype = np.result_type(a)
    eps = float(np.finfo(dtype).eps) ** 0.5 if is_inexact(dtype) else 0.0
    size = max([np.max(np.abs(v), where=np.isfinite(v), initial=0.0) for v in (a, b)])
    return bool(np.allclose(a, b, rtol=eps, atol=eps * size, equal_nan=True))


def inner(a: Sequence[Array | None], b: Sequence[Array | None]) -> Array:
    terms = [np.sum(u * v) for u, v in zip(a, b) if u is not None and v is not None]
    return sum(terms[1:], terms[0]) if terms else np.zeros(())
