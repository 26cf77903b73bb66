"""Losses. The mean is over all numbers that a loss gives; `reduction="none"` gives them all."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from wengert.errors import ArgumentError, OptionError, ShapeError
from wengert.ops import elementwise as e
from wengert.ops.ctc import CTC
from wengert.ops.elementwise import where
from wengert.ops.fused import Norm
from wengert.ops.losses import bce_logits, times_log, times_log1m
from wengert.ops.road import cross_entropy
from wengert.trace import bind
from wengert.types import normalize_axes, shape_of

from .losses_check import array, bottom, class_labels, numbers, reduce, same, signs

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cosine_embedding_loss",
    "cosine_similarity",
    "cross_entropy",
    "ctc_loss",
    "gaussian_nll_loss",
    "hinge_embedding_loss",
    "hinge_loss",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "margin_ranking_loss",
    "mse_loss",
    "multi_margin_loss",
    "nll_loss",
    "poisson_nll_loss",
    "smooth_l1_loss",
    "soft_margin_loss",
    "triplet_margin_loss",
]


# ------------------------------------------------------------------ numbers


def mse_loss(prediction: Any, target: Any, *, reduction: str = "mean") -> Any:
    """Squared error.

        mean_i (prediction_i - target_i)^2          with reduction="sum", their sum

    Shapes: prediction and target alike; nothing is broadcast.

    Raises:
        ShapeError: the shapes differ. (n, 1) against (n,) would broadcast to (n, n), a wrong loss
            without a word.
        OptionError: a reduction other than "mean", "sum" and "none".

    Example:
        >>> mse_loss(np.array([1.0, 2.0]), np.array([1.0, 4.0])).item()
        2.0
    """
    prediction, target = same("mse_loss", prediction, target)
    d = prediction - target
    return reduce("mse_loss", d * d, reduction)


def l1_loss(prediction: Any, target: Any, *, reduction: str = "mean") -> Any:
    """Absolute error.

        mean_i |prediction_i - target_i|            with reduction="sum", their sum

    Shapes: prediction and target alike; nothing is broadcast.

    Raises:
        ShapeError: the shapes differ, see `mse_loss`.
        OptionError: a reduction other than "mean", "sum" and "none".

    Example:
        >>> l1_loss(np.array([1.0, 2.0]), np.array([1.0, 4.0])).item()
        1.0
    """
    prediction, target = same("l1_loss", prediction, target)
    return reduce("l1_loss", np.abs(prediction - target), reduction)


def huber_loss(prediction: Any, target: Any, delta: float = 1.0, *, reduction: str = "mean") -> Any:
    """Squared error near, absolute error far.

        r^2 / 2 where |r| < delta, else delta (|r| - delta / 2),   r = prediction - target

    Raises:
        ShapeError: the shapes differ, see `mse_loss`.
        OptionError: delta is not positive.

    Example:
        >>> huber_loss(np.array([0.5, 3.0]), np.zeros(2), reduction="none")
        array([0.125, 2.5  ])

    References:
        P. Huber (1964), Robust Estimation of a Location Parameter.
    """
    if not delta > 0:
        raise OptionError(f"huber_loss(delta={delta!r})", "delta is positive")
    prediction, target = same("huber_loss", prediction, target)
    return reduce("huber_loss", huber(prediction - target, delta), reduction)


def huber(r: Any, delta: float) -> Any:
    near = e.clip(r, -delta, delta)
    return near * (r - near * 0.5)


def smooth_l1_loss(
    prediction: Any, target: Any, beta: float = 1.0, *, reduction: str = "mean"
) -> Any:
    """`huber_loss` over beta: slope 1 far from the target.

        r^2 / (2 beta) where |r| < beta, else |r| - beta / 2

    Args:
        beta: where the parabola ends; 0 for `l1_loss`.

    Example:
        >>> smooth_l1_loss(np.array([0.5, 3.0]), np.zeros(2), reduction="none")
        array([0.125, 2.5  ])
    """
    if beta == 0:
        return l1_loss(prediction, target, reduction=reduction)
    if not beta > 0:
        raise OptionError(f"smooth_l1_loss(beta={beta!r})", "beta is not negative")
    prediction, target = same("smooth_l1_loss", prediction, target)
    return reduce("smooth_l1_loss", huber(prediction - target, beta) / beta, reduction)


# ------------------------------------------------------------------ probabilities


def nll_loss(
    log_p: Any,
    labels: Any,
    *,
    weight: Any = None,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> Any:
    """Minus the log-probability of the right class.

        mean_i -weight[labels_i] log_p[i, labels_i]     over the sum of the weights that are used

    Shapes: log_p `[.., k]`, labels `[..]`, weight `[k]`.

    Raises:
        ShapeError, DTypeError, AxisError: labels of another shape, not integers, or outside [0, k).

    Example:
        >>> nll_loss(np.log([[0.25, 0.75]]), [1]).item()
        0.2876820724517809
    """
    log_p, labels = numbers("nll_loss", "log_p", log_p), numbers("nll_loss", "labels", labels)
    b, here = class_labels("nll_loss", log_p, labels, ignore_index)
    rows = -np.take_along_axis(log_p, b[..., None], -1)[..., 0]
    own = None if weight is None else array(weight)[b]
    rows = rows if own is None else rows * own
    counted = own
    if here is not None:
        rows = where(here, rows, 0.0)
        counted = where(here, rows.dtype.type(1) if own is None else own, rows.dtype.type(0))
    if reduction == "mean" and counted is not None:
        return rows.sum() / counted.sum()
    return reduce("nll_loss", rows, reduction)


def binary_cross_entropy(
    p: Any, target: Any, *, weight: Any = None, reduction: str = "mean"
) -> Any:
    """Cross-entropy of a probability.

        -target log p - (1 - target) log(1 - p)

    It is inf where p is 0 or 1 and the target is not. `binary_cross_entropy_with_logits` is more
    accurate, as a p near 1 has few digits of 1 - p.

    Raises:
        ShapeError: the shapes differ, see `mse_loss`.
        ArgumentError: a p outside 0 to 1.

    Example:
        >>> binary_cross_entropy(np.array([0.5, 1.0]), np.array([1.0, 1.0]), reduction="none")
        array([ 0.69314718, -0.        ])
    """
    p, target = same("binary_cross_entropy", p, target)
    p = array(p)
    value = bottom(p)
    if value.size and (value.min() < 0 or value.max() > 1):
        raise ArgumentError(
            "binary_cross_entropy(p, target)",
            f"probabilities lie between 0 and 1, and p reaches from {value.min():.4g} to "
            f"{value.max():.4g}",
            operands=[("p", p)],
            fix="binary_cross_entropy_with_logits takes any number",
        )
    each = -(times_log(target, p) + times_log1m(1 - target, p))
    return reduce("binary_cross_entropy", each if weight is None else each * weight, reduction)


def binary_cross_entropy_with_logits(
    logits: Any,
    target: Any,
    *,
    weight: Any = None,
    pos_weight: Any = None,
    reduction: str = "mean",
) -> Any:
    """Cross-entropy of sigmoid(logits), to the last digit for every logit.

        pos_weight target log(1 + e^-x) + (1 - target) log(1 + e^x)

    Raises:
        ShapeError: the shapes differ, see `mse_loss`.

    Example:
        >>> binary_cross_entropy_with_logits(np.array([0.0, 800.0]), np.ones(2), reduction="none")
        array([0.69314718, 0.        ])
    """
    logits, target = same("binary_cross_entropy_with_logits", logits, target)
    logits = array(logits)
    if pos_weight is None:
        each = bce_logits(logits, target)
    else:
        each = e.softplus(-logits) * target * pos_weight + e.softplus(logits) * (1 - target)
    each = each if weight is None else each * weight
    return reduce("binary_cross_entropy_with_logits", each, reduction)


def kl_div(
    log_q: Any, target: Any, *, log_target: bool = False, reduction: str = "batchmean"
) -> Any:
    """Kullback-Leibler divergence of q from the target distribution.

        target (log target - log_q)        or, with log_target, e^target (target - log_q)

    Args:
        reduction: "batchmean", the sum over the number of rows, is the divergence; "mean" divides
            by all numbers.

    Raises:
        ShapeError: the shapes differ, see `mse_loss`.

    Example:
        >>> kl_div(np.log([[0.5, 0.5]]), np.array([[1.0, 0.0]])).item()
        0.6931471805599453
    """
    log_q, target = same("kl_div", log_q, target)
    log_q, target = array(log_q), array(target)
    if log_target:
        dead = e.logical_and(e.eq(target, -np.inf), e.eq(log_q, -np.inf))
        gap = where(dead, 0.0, where(dead, 0.0, target) - where(dead, 0.0, log_q))
        far = e.eq(target, -np.inf)
        each = where(far, 0.0, e.exp(target) * where(far, 0.0, gap))
    else:
        dead = e.logical_and(e.eq(target, 0.0), e.eq(log_q, -np.inf))
        each = times_log(target, target) - target * where(dead, 0.0, log_q)
    if reduction == "batchmean":
        n = shape_of(each)[0] if shape_of(each) else 1
        return each.sum() / n
    return reduce("kl_div", each, reduction, "batchmean")


def poisson_nll_loss(
    x: Any,
    target: Any,
    *,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: str = "mean",
) -> Any:
    """Minus the log-likelihood of counts, up to a constant.

        e^x - target x          or, with log_input=False, x - target log(x + eps)

    Args:
        full: add Stirling's target log target - target + log(2 pi target) / 2 where target > 1.

    Example:
        >>> poisson_nll_loss(np.array([0.0]), np.array([2.0])).item()
        1.0
    """
    x, target = same("poisson_nll_loss", x, target)
    x = array(x)
    each = e.exp(x) - target * x if log_input else x - target * e.log(x + eps)
    if full:
        t = where(e.gt(target, 1.0), target, 1.0)
        stirling = times_log(t, t) - t + 0.5 * e.log(2 * math.pi * t)
        each = each + where(e.gt(target, 1.0), stirling, 0.0)
    return reduce("poisson_nll_loss", each, reduction)


def gaussian_nll_loss(
    mean: Any,
    target: Any,
    var: Any,
    *,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Any:
    """Minus the log-likelihood of a normal distribution, up to a constant.

        (log v + (mean - target)^2 / v) / 2,   v = max(var, eps)

    Shapes: mean and target alike; var too, or with a last axis of 1.

    Args:
        full: add log(2 pi) / 2.
        eps: the smallest variance; below it var gets no gradient.

    Raises:
        ArgumentError: a negative variance.

    Example:
        >>> gaussian_nll_loss(np.array([1.0]), np.array([3.0]), np.array([1.0])).item()
        2.0
    """
    mean, target = same("gaussian_nll_loss", mean, target)
    var = numbers("gaussian_nll_loss", "var", var)
    if shape_of(var) not in (shape_of(mean), (*shape_of(mean)[:-1], 1)):
        raise ShapeError(
            "gaussian_nll_loss(mean, target, var)",
            "var has the shape of mean, or a last axis of 1",
            operands=[("mean", mean), ("var", var)],
        )
    value = bottom(var)
    if (value < 0).any():
        raise ArgumentError(
            "gaussian_nll_loss(mean, target, var)",
            f"a variance is not negative, and the smallest is {value.min():.4g}",
            operands=[("var", var)],
        )
    v = where(e.lt(var, eps), eps, var)
    r = mean - target
    each = 0.5 * (e.log(v) + r * r / v)
    if full:
        each = each + 0.5 * math.log(2 * math.pi)
    return reduce("gaussian_nll_loss", each, reduction)


def ctc_loss(
    log_p: Any,
    labels: Any,
    lengths: Any = None,
    label_lengths: Any = None,
    *,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Any:
    """Minus the log-probability of a sequence of labels, summed over its alignments.

        -log sum of prod_t e^(log_p[t, path_t]) over the paths that spell the labels

    A path spells what is left of it without repetitions and then without blanks.

    Shapes: log_p `[N, T, C]`, samples first, from `log_softmax`; labels `[N, S]`, lengths `[N]`.

    Args:
        lengths, label_lengths: how much of each sample counts; None for all of it.
        blank: the class that is no label.
        reduction: "mean" divides each loss by the number of its labels, then takes the mean.
        zero_infinity: samples that no path spells, as their labels are too long, count 0; else
            their loss is inf and their gradient nan. The gradient at a log_p of -inf is 0 as long
            as there is another path (PyTorch has nan).

    Raises:
        ShapeError, DTypeError, AxisError: operands that do not fit.

    Example:
        >>> p = np.full((1, 2, 2), 0.5)               # paths ab: 01, 10 and 11 spell "1"
        >>> ctc_loss(np.log(p), np.array([[1]])).item()
        0.2876820724517809

    References:
        A. Graves et al. (2006), Connectionist Temporal Classification.
    """
    log_p, labels = numbers("ctc_loss", "log_p", log_p), numbers("ctc_loss", "labels", labels)
    n = shape_of(log_p)[:1]
    full = [shape_of(x)[1] if len(shape_of(x)) > 1 else 0 for x in (log_p, labels)]
    given = (lengths, label_lengths)
    c, d = (np.full(n, k) if v is None else array(v) for v, k in zip(given, full))
    y = bind(CTC(int(blank), bool(zero_infinity)), log_p, labels, c, d)
    if reduction == "mean":
        y = y / e.maximum(d, 1).astype(y.dtype)
    return reduce("ctc_loss", y, reduction)


# ------------------------------------------------------------------ margins


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
    """
    if p not in (1, 2):
        raise OptionError(f"multi_margin_loss(p={p!r})", "p is 1 or 2")
    scores = numbers("multi_margin_loss", "scores", scores)
    labels = numbers("multi_margin_loss", "labels", labels)
    b, _ = class_labels("multi_margin_loss", scores, labels, None)
    k = shape_of(scores)[-1]
    gap = positive(margin - np.take_along_axis(scores, b[..., None], -1) + scores)
    gap = gap if p == 1 else gap * gap
    each = where(e.eq(b[..., None], np.arange(k)), 0.0, gap).sum(-1) / k
    each = each if weight is None else each * array(weight)[b]
    return reduce("multi_margin_loss", each, reduction)


def distance(a: Any, b: Any, p: float) -> Any:
    return np.linalg.norm(a - b, p, axis=-1)


def triplet_margin_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    margin: float = 1.0,
    *,
    p: float = 2.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Any:
    """max(0, margin + |anchor - positive|_p - |anchor - negative|_p) over the last axis.

    Args:
        swap: the negative may be nearer to the positive, and that distance then counts.

    References:
        V. Balntas et al. (2016), Learning Local Feature Descriptors with Triplets.
    """
    anchor, positive = same("triplet_margin_loss", anchor, positive, ("anchor", "positive"))
    anchor, negative = same("triplet_margin_loss", anchor, negative, ("anchor", "negative"))
    far = distance(anchor, negative, p)
    if swap:
        far = np.minimum(far, distance(positive, negative, p))
    each = e.relu(array(margin + distance(anchor, positive, p) - far))
    return reduce("triplet_margin_loss", each, reduction)


def cosine_similarity(a: Any, b: Any, axis: int = -1, eps: float = 1e-8) -> Any:
    """The cosine of the angle between vectors along an axis.

        <a, b> / (max(|a|, eps) max(|b|, eps))

    Example:
        >>> cosine_similarity(np.array([3.0, 4.0]), np.array([4.0, 3.0])).item()
        0.96
    """
    a, b = array(a), array(b)
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
