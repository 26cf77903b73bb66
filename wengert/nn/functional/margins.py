"""Losses of margins, and the distances and angles that they measure."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from wengert.errors import AxisError, OptionError, ShapeError
from wengert.ops import elementwise as e
from wengert.ops.elementwise import where
from wengert.ops.fused import Norm
from wengert.ops.losses import bce_logits
from wengert.trace import bind
from wengert.types import normalize_axes, shape_of

from .conv import given
from .losses_check import array, class_labels, class_weight, numbers, reduce, same, signs

__all__ = [
    "cosine_embedding_loss",
    "cosine_similarity",
    "hinge_embedding_loss",
    "hinge_loss",
    "margin_ranking_loss",
    "multi_margin_loss",
    "multilabel_soft_margin_loss",
    "pairwise_distance",
    "soft_margin_loss",
    "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
]


def positive(x: Any) -> Any:
    return e.relu(array(x))


def hinge_loss(prediction: Any, target: Any, *, reduction: str = "mean") -> Any:
    """max(0, 1 - target prediction), for targets 1 and -1.

    Raises:
        ArgumentError: another target.

    Example:
        >>> hinge_loss(np.array([0.5, 2.0]), np.array([1, -1]), reduction="none")
        array([0.5, 3. ])
    """
    prediction, target = same("hinge_loss", prediction, target)
    signs("hinge_loss", target)
    return reduce("hinge_loss", positive(1 - prediction * target), reduction)


def soft_margin_loss(prediction: Any, target: Any, *, reduction: str = "mean") -> Any:
    """log(1 + e^(-target prediction)), for targets 1 and -1."""
    prediction, target = same("soft_margin_loss", prediction, target)
    signs("soft_margin_loss", target)
    return reduce("soft_margin_loss", e.softplus(array(-(prediction * target))), reduction)


def hinge_embedding_loss(
    distance: Any, target: Any, margin: float = 1.0, *, reduction: str = "mean"
) -> Any:
    """distance where the target is 1, max(0, margin - distance) where it is -1."""
    distance, target = same("hinge_embedding_loss", distance, target)
    signs("hinge_embedding_loss", target)
    each = where(e.gt(target, 0), array(distance), positive(margin - distance))
    return reduce("hinge_embedding_loss", each, reduction)


def margin_ranking_loss(
    a: Any, b: Any, target: Any, margin: float = 0.0, *, reduction: str = "mean"
) -> Any:
    """max(0, margin - target (a - b)): a should be above b where the target is 1, else below."""
    a, b = same("margin_ranking_loss", a, b, ("a", "b"))
    a, target = same("margin_ranking_loss", a, target, ("a", "target"))
    signs("margin_ranking_loss", target)
    return reduce("margin_ranking_loss", positive(margin - (a - b) * target), reduction)


def multi_margin_loss(
    scores: Any,
    labels: Any,
    *,
    p: int = 1,
    margin: float = 1.0,
    weight: Any = None,
    reduction: str = "mean",
) -> Any:
    """sum over wrong classes j of max(0, margin - scores[label] + scores[j])^p / k.

    Shapes: scores `[n, k]`, labels `[n]`, weight `[k]`.

    Raises:
        ShapeError, DTypeError, AxisError: labels or a weight that do not fit, see `nll_loss`.
        OptionError: p is neither 1 nor 2.
    """
    if p not in (1, 2):
        raise OptionError(f"multi_margin_loss(p={p!r})", "p is 1 or 2")
    scores = numbers("multi_margin_loss", "scores", scores)
    labels = numbers("multi_margin_loss", "labels", labels)
    b, _ = class_labels("multi_margin_loss", scores, labels, None)
    weight = class_weight("multi_margin_loss", scores, weight)
    k = shape_of(scores)[-1]
    gap = positive(margin - np.take_along_axis(scores, b[..., None], -1) + scores)
    gap = gap if p == 1 else gap * gap
    each = where(e.eq(b[..., None], np.arange(k)), 0.0, gap).sum(-1) / k
    each = each if weight is None else each * weight[b]
    return reduce("multi_margin_loss", each, reduction)


def multilabel_soft_margin_loss(
    scores: Any, target: Any, *, weight: Any = None, reduction: str = "mean"
) -> Any:
    """The cross-entropy of sigmoid(scores) with targets of 0 and 1, its mean over the classes.

        -(1/k) sum_j weight_j (target_j log sigmoid(x_j) + (1 - target_j) log sigmoid(-x_j))

    Shapes: scores and target `[.., k]`, weight `[k]`.

    Example:
        >>> multilabel_soft_margin_loss(np.array([[0.0, 800.0]]), np.array([[0, 1]])).item()
        0.34657359027997264
    """
    scores, target = same("multilabel_soft_margin_loss", scores, target, ("scores", "target"))
    weight = class_weight("multilabel_soft_margin_loss", scores, weight)
    each = bce_logits(array(scores), target)
    each = each if weight is None else each * weight
    return reduce("multilabel_soft_margin_loss", each.mean(-1), reduction)


# ------------------------------------------------------------------ distances and angles


def pairwise_distance(
    a: Any, b: Any, p: float = 2.0, *, eps: float = 1e-6, keepdims: bool = False
) -> Any:
    """The length of the difference of vectors, which are the last axis.

        |a - b + eps|_p

    Shapes: a and b `[.., d]`, which broadcast, y `[..]`.

    Args:
        p: of the norm, more than 0.
        eps: what is added to every difference, so that a and b may be equal; 0 for the distance
            to the last digit, whose gradient is 0 where a and b are equal.
        keepdims: keep the last axis, with one number.

    Raises:
        ShapeError: shapes that do not broadcast.
        OptionError: a norm that is none.

    Example:
        >>> pairwise_distance(np.array([[3.0, 0.0]]), np.array([[0.0, 4.0]]), eps=0.0)
        array([5.])
    """
    a, b = numbers("pairwise_distance", "a", a), numbers("pairwise_distance", "b", b)
    together("pairwise_distance", a, b)
    return distance("pairwise_distance", a, b, p, eps, keepdims)


def distance(what: str, a: Any, b: Any, p: float, eps: float, keepdims: bool = False) -> Any:
    if isinstance(p, bool) or not isinstance(p, int | float | np.number) or not p > 0:
        raise OptionError(f"{what}(p={p!r})", "p is a number greater than 0")
    d = a - b + eps if eps else a - b
    return np.linalg.norm(d, p, axis=-1, keepdims=keepdims)


def together(what: str, a: Any, b: Any) -> None:
    """Refuses vectors that do not stand in pairs."""
    sa, sb = shape_of(a), shape_of(b)
    try:
        whole = bool(np.broadcast_shapes(sa, sb))
    except ValueError:
        whole = False
    if not whole:
        raise ShapeError(
            f"{what}(a, b)", "a and b are vectors, in shapes that broadcast",
            operands=[("a", a), ("b", b)],
        )  # fmt: skip


def triplet_margin_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    margin: float = 1.0,
    *,
    p: float = 2.0,
    eps: float = 0.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Any:
    """max(0, margin + |anchor - positive|_p - |anchor - negative|_p) over the last axis.

    Args:
        eps: as in `pairwise_distance`; PyTorch adds 1e-6.
        swap: the negative may be nearer to the positive, and that distance then counts.

    References:
        V. Balntas et al. (2016), Learning Local Feature Descriptors with Triplets.
    """
    what = "triplet_margin_loss"
    near = partial(distance, what, p=p, eps=eps)
    return triplet(what, anchor, positive, negative, near, margin, swap, reduction)


def triplet_margin_with_distance_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    *,
    distance_function: Callable[[Any, Any], Any] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Any:
    """max(0, margin + f(anchor, positive) - f(anchor, negative)), f a distance of your own.

    Args:
        distance_function: f, which gives a number for each pair of vectors; None for
            `pairwise_distance`.
        swap: as in `triplet_margin_loss`.

    Example:
        >>> city = lambda a, b: np.abs(a - b).sum(-1)
        >>> a, b, c = np.array([[[0.0, 0.0]], [[1.0, 1.0]], [[2.0, 0.5]]])
        >>> triplet_margin_with_distance_loss(a, b, c, distance_function=city).item()
        0.5
    """
    f = distance_function or pairwise_distance
    what = "triplet_margin_with_distance_loss"
    return triplet(what, anchor, positive, negative, f, margin, swap, reduction)


def triplet(
    what: str, anchor: Any, near: Any, far: Any, f: Any, margin: float, swap: bool, reduction: str
) -> Any:
    anchor, near = same(what, anchor, near, ("anchor", "positive"))
    anchor, far = same(what, anchor, far, ("anchor", "negative"))
    away = f(anchor, far)
    if swap:
        away = np.minimum(away, f(near, far))
    return reduce(what, positive(margin + f(anchor, near) - away), reduction)


def cosine_similarity(a: Any, b: Any, axis: int = -1, eps: float = 1e-8) -> Any:
    """The cosine of the angle between vectors along an axis.

        <a, b> / (max(|a|, eps) max(|b|, eps))

    Raises:
        ShapeError: shapes that do not broadcast.
        AxisError: an axis that a or b has not.

    Example:
        >>> cosine_similarity(np.array([3.0, 4.0]), np.array([4.0, 3.0])).item()
        0.96
    """
    a, b = given("cosine_similarity", a), given("cosine_similarity", b)
    together("cosine_similarity", a, b)
    if not all(-v.ndim <= axis < v.ndim for v in (a, b)):
        raise AxisError(
            f"cosine_similarity(a, b, axis={axis})", "a and b both have this axis",
            operands=[("a", a), ("b", b)],
        )  # fmt: skip
    lengths = [bind(Norm(normalize_axes(axis, v.ndim), True), v) for v in (a, b)]
    x, y = [where(e.lt(n, eps), eps, n) for n in lengths]
    return ((a / x) * (b / y)).sum(axis)


def cosine_embedding_loss(
    a: Any, b: Any, target: Any, margin: float = 0.0, *, reduction: str = "mean"
) -> Any:
    """1 - cos(a, b) where the target is 1, max(0, cos(a, b) - margin) where it is -1.

    Shapes: a and b `[.., d]`, target `[..]`.
    """
    a, b = same("cosine_embedding_loss", a, b, ("a", "b"))
    cos = array(cosine_similarity(a, b))
    cos, target = same("cosine_embedding_loss", cos, target, ("cos", "target"))
    signs("cosine_embedding_loss", target)
    each = where(e.gt(target, 0), 1 - cos, e.relu(cos - margin))
    return reduce("cosine_embedding_loss", each, reduction)
