"""Clipping: gradients that are too long are shortened, or cut off number by number."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from wengert import trace, tree
from wengert.compile import live
from wengert.errors import NonFiniteError, OptionError
from wengert.graph import Var
from wengert.ops.linalg import PNorm
from wengert.trace import Tensor, no_grad

from .base import check
from .events import LISTENERS, tell
from .recorded import recorded_clip, recorded_norm

__all__ = [
    "clip_by_global_norm",
    "clip_grad_adaptive_",
    "clip_grad_norm_",
    "clip_grad_value_",
    "global_norm",
]


def global_norm(gradients: Any) -> float:
    """The length of all gradients of a pytree as one vector, sqrt(sum g^2), summed in float64.

    Example:
        >>> global_norm({"w": np.array([3.0]), "b": np.array([4.0])})
        5.0
    """
    squares, given = 0.0, tree.leaves(gradients)
    tracer = live.recording() if trace.MODES else None
    if tracer is not None and any(isinstance(g, Tensor | Var) for g in given):
        return recorded_norm(given, tracer)
    for g in given:
        a = np.asarray(g.value() if isinstance(g, Tensor) else g).ravel()
        if a.dtype.itemsize < 4:  # float16 would overflow from 256 on
            a = a.astype(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            square = float(np.vdot(a, a).real)
        if not math.isfinite(square):
            a = a.astype(np.complex128 if a.dtype.kind == "c" else np.float64)
            with np.errstate(over="ignore", invalid="ignore"):
                square = float(np.vdot(a, a).real)
        squares += square
    return math.sqrt(squares) if squares == squares else math.nan


def clip_by_global_norm(gradients: Any, max_norm: float) -> tuple[Any, float]:
    """Gradients scaled to be at most `max_norm` long together, and how long they were.

        g <- g min(1, max_norm / |g|),    |g| over all of them: the direction stays

    Args:
        gradients: a pytree, such as `wg.grad` gives.
        max_norm: at least 0.

    Example:
        >>> clip_by_global_norm({"w": np.array([3.0]), "b": np.array([4.0])}, 1.0)
        ({'w': array([0.6]), 'b': array([0.8])}, 5.0)

    References:
        R. Pascanu, T. Mikolov, Y. Bengio (2013), On the difficulty of training recurrent neural
        networks, arXiv:1211.5063.
    """
    limit = check("clip_by_global_norm", "max_norm", max_norm, fix="max_norm=1.0")
    norm = global_norm(gradients)
    if norm <= limit:
        return gradients, norm
    return tree.map(lambda g: g * g.dtype.type(limit / norm), gradients), norm


def clip_grad_norm_(
    parameters: Iterable[Tensor] | Tensor,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
    *,
    eps: float = 1e-6,
) -> float:
    """Scale the gradients of parameters to be at most `max_norm` long together, in place.

        g <- g min(1, max_norm / (|g| + eps)),    |g| = (sum |g_i|^p)^(1/p) over all of them

    These are PyTorch's numbers; with eps=0 the gradient is `max_norm` long to rounding. With a
    loss scaler, unscale first: the length of scaled gradients means nothing.

    Args:
        parameters: those without a gradient are left out.
        max_norm: at least 0; inf only asks for the length.
        norm_type: p, above 0; inf for the largest number.
        error_if_nonfinite: refuse when the length is nan or infinite.
        foreach: taken for PyTorch's sake, and without a meaning here.
        eps: at least 0.

    Returns:
        how long they were.

    Raises:
        OptionError: an option out of range.
        NonFiniteError: a length that is not finite, if that is to be refused.

    Example:
        >>> import wengert as wg
        >>> w = wg.tensor([3.0, 4.0], requires_grad=True)
        >>> (w * w / 2).sum().backward()
        >>> clip_grad_norm_([w], 1.0, eps=0), w.grad
        (5.0, tensor([0.6, 0.8]))
    """
    what = "clip_grad_norm_"
    limit = max_norm if _is_inf(max_norm) else check(what, "max_norm", max_norm, fix="max_norm=1.0")
    least = check(what, "eps", eps, fix="eps=1e-6")
    p = math.inf if _is_inf(norm_type) else check(what, "norm_type", norm_type, fix="norm_type=2.0")
    if not p:
        raise OptionError(f"{what}(norm_type={norm_type!r})", "it is a number above 0, or inf")
    leaves = _with_gradient(parameters)
    gradients = [leaf.node.grad for leaf in leaves]
    tracer = live.recording() if trace.MODES else None
    if tracer is not None and leaves and not error_if_nonfinite:
        return recorded_clip(leaves, limit, least, p, tracer)
    norm = global_norm(gradients) if p == 2 else _length(gradients, p)
    if error_if_nonfinite and not math.isfinite(norm):
        raise NonFiniteError(
            "clip_grad_norm_(parameters)",
            f"the length of the gradient is {norm}",
            operands=[
                (leaf.name or "parameter", leaf)
                for leaf in leaves
                if not np.isfinite(np.asarray(leaf.grad.value())).all()
            ][:4],
        )
    if limit < math.inf and not norm + least <= limit:
        factor = limit / (norm + least)
        with np.errstate(invalid="ignore"):  # inf * 0
            for leaf in leaves:
                g = leaf.grad.value()
                leaf.grad = g * g.dtype.type(factor)
    return norm


def _is_inf(x: Any) -> bool:
    return x == "inf" or (isinstance(x, float) and x == math.inf)


def _length(gradients: list[Any], p: float) -> float:
    """The p-norm of gradients as one vector, in float64."""
    kind = {"c": np.complex128}
    given = [np.asarray(g.value() if isinstance(g, Tensor) else g).ravel() for g in gradients]
    sizes = [np.abs(g.astype(kind.get(g.dtype.kind, np.float64))) for g in given]
    if p == math.inf:
        return float(np.max([a.max(initial=0) for a in sizes], initial=0))
    if p == 1:
        return math.fsum(float(a.sum()) for a in sizes)
    norm = PNorm(p, 0).impl
    return float(norm(np.array([float(norm(a)) for a in sizes] or [0.0])))


def clip_grad_value_(
    parameters: Iterable[Tensor] | Tensor, clip_value: float, foreach: bool | None = None
) -> None:
    """Cut every number of the gradients off at -clip_value and clip_value, in place.

    Args:
        parameters: those without a gradient are left out.
        clip_value: at least 0.
        foreach: taken for PyTorch's sake, and without a meaning here.

    Example:
        >>> import wengert as wg
        >>> w = wg.tensor([0.5, -4.0], requires_grad=True)
        >>> (w * w / 2).sum().backward()
        >>> clip_grad_value_([w], 1.0); w.grad
        tensor([ 0.5, -1. ])
    """
    limit = clip_value
    if not _is_inf(clip_value):
        limit = check("clip_grad_value_", "clip_value", clip_value, fix="clip_value=1.0")
    with no_grad():
        for p in _with_gradient(parameters):
            p.grad = np.clip(p.grad if recording() else p.grad.value(), -limit, limit)


def clip_grad_adaptive_(
    parameters: Iterable[Tensor] | Tensor, limit: float = 0.01, *, eps: float = 1e-3
) -> None:
    """Shorten the gradient of every unit to a share of the unit's own weights, in place.

        g_j <- g_j min(1, limit * max(|p_j|, eps) / |g_j|)

    A unit j is what belongs to one output: an index of the last axis of a weight; vectors and
    numbers are one unit.

    Args:
        parameters: those without a gradient are left out.
        limit: at least 0.
        eps: the least length of weights, so that zeros can grow; at least 0.

    Example:
        >>> import wengert as wg
        >>> w = wg.tensor([[3.0, 0.3], [4.0, 0.4]], requires_grad=True)
        >>> (w * [1.0, 0.01]).sum().backward()
        >>> clip_grad_adaptive_([w], 0.1); w.grad
        tensor([[0.35355339, 0.01      ],
                [0.35355339, 0.01      ]])

    References:
        A. Brock et al. (2021), High-Performance Large-Scale Image Recognition Without
        Normalization, arXiv:2102.06171.
    """
    share = check("clip_grad_adaptive_", "limit", limit, fix="limit=0.01")
    least = check("clip_grad_adaptive_", "eps", eps, fix="eps=1e-3")
    for p in _with_gradient(parameters):
        g, w = (p.grad, p) if recording() else (p.grad.value(), p.value())
        axes = tuple(range(w.ndim - 1)) if w.ndim > 1 else None
        with no_grad():
            size, own = (
                np.sqrt(np.sum(np.square(np.abs(a).astype(np.float64)), axis=axes, keepdims=True))
                for a in (g, w)
            )
            most = share * np.maximum(own, least)
            factor = np.where(size > most, most / np.where(size > 0, size, 1), 1)
            p.grad = (g * factor).astype(g.dtype).reshape(g.shape)


def recording() -> bool:
    return bool(trace.MODES) and live.recording() is not None


def _with_gradient(parameters: Iterable[Tensor] | Tensor) -> list[Tensor]:
    given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    if LISTENERS:
        tell("clip", given)
    return [p for p in given if p.node is not None and p.node.grad is not None]
