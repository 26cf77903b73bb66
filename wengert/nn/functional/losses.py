"""Losses. The mean is over all numbers that a loss gives; `reduction="none"` gives them all."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from wengert.errors import ArgumentError, OptionError, ShapeError
from wengert.ops import elementwise as e
from wengert.ops.ctc import CTC
from wengert.ops.elementwise import where
from wengert.ops.losses import bce_logits, times_log, times_log1m
from wengert.ops.road import cross_entropy
from wengert.trace import bind
from wengert.types import shape_of

from .losses_check import array, bottom, class_labels, class_weight, factor, numbers, reduce, same

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "ctc_loss",
    "gaussian_nll_loss",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "mse_loss",
    "nll_loss",
    "poisson_nll_loss",
    "smooth_l1_loss",
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
        ShapeError, DTypeError, AxisError: labels of another shape, not integers, or outside [0, k);
            a weight that has not a number for each class.

    Example:
        >>> nll_loss(np.log([[0.25, 0.75]]), [1]).item()
        0.2876820724517809
    """
    log_p, labels = numbers("nll_loss", "log_p", log_p), numbers("nll_loss", "labels", labels)
    b, here = class_labels("nll_loss", log_p, labels, ignore_index)
    weight = class_weight("nll_loss", log_p, weight)
    rows = -np.take_along_axis(log_p, b[..., None], -1)[..., 0]
    own = None if weight is None else weight[b]
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

    Args:
        weight: a factor for each number, or one that broadcasts to their shape.

    Raises:
        ShapeError: the shapes differ, see `mse_loss`; a weight that would make more numbers.
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
    weight = factor("binary_cross_entropy", "weight", weight, each)
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

    Args:
        weight, pos_weight: a factor for each number, or one that broadcasts to their shape.

    Raises:
        ShapeError: the shapes differ, see `mse_loss`; a weight that would make more numbers.

    Example:
        >>> binary_cross_entropy_with_logits(np.array([0.0, 800.0]), np.ones(2), reduction="none")
        array([0.69314718, 0.        ])
    """
    logits, target = same("binary_cross_entropy_with_logits", logits, target)
    what, logits = "binary_cross_entropy_with_logits", array(logits)
    weight = factor(what, "weight", weight, logits)
    pos_weight = factor(what, "pos_weight", pos_weight, logits)
    if pos_weight is None:
        each = bce_logits(logits, target)
    else:
        each = e.softplus(-logits) * target * pos_weight + e.softplus(logits) * (1 - target)
    each = each if weight is None else each * weight
    return reduce(what, each, reduction)


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
