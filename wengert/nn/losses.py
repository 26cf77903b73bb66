"""Losses as layers, with PyTorch's names and defaults. Classes and channels are the last axis."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from wengert.create import tensor
from wengert.errors import DTypeError
from wengert.trace import Tensor

from . import functional as F
from .functional.losses_check import numbers
from .options import Optioned, number, whole

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CTCLoss",
    "CrossEntropyLoss",
    "GaussianNLLLoss",
    "HuberLoss",
    "KLDivLoss",
    "L1Loss",
    "MSELoss",
    "NLLLoss",
    "PoissonNLLLoss",
    "SmoothL1Loss",
]

WORDS = ("mean", "sum", "none")


def flag(name: str) -> tuple[Any, str]:
    return lambda v: isinstance(v, bool | np.bool_), f"{name} is True or False"


def positive(v: Any) -> bool:
    return number(v) and bool(v > 0)


RULES: dict[str, tuple[Any, str]] = {
    "reduction": (
        lambda v: isinstance(v, str) and v in WORDS,
        'reduction is one of "mean", "sum" and "none"',
    ),
    "ignore_index": (lambda v: v is None or whole(v), "ignore_index is a whole number, or None"),
    "label_smoothing": (lambda v: number(v) and 0 <= v <= 1, "it lies between 0 and 1"),
    "blank": (lambda v: whole(v) and v >= 0, "blank is the number of a class"),
    "delta": (positive, "delta is a number greater than 0"),
    "beta": (lambda v: number(v) and v >= 0, "beta is a number, at least 0"),
    "eps": (lambda v: number(v) and v >= 0, "eps is a number, at least 0"),
    "margin": (lambda v: number(v) and v == v, "margin is a number"),
    "p": (positive, "p is a number greater than 0"),
    "axis": (whole, "axis is the number of an axis"),
    "distance_function": (lambda v: v is None or callable(v), "it is a function, or None"),
    **{name: flag(name) for name in ("full", "log_input", "log_target", "swap", "zero_infinity")},
    "keepdims": flag("keepdims"),
}
WEIGHTS = ("weight", "pos_weight")


class Loss(Optioned):
    """A loss as a layer. Weights are buffers: saved and moved with the model, not trained."""

    ahead = 0
    rules = RULES

    def __init__(self, *values: Any, **named: Any) -> None:
        super().__init__(*values, **named)
        for name in WEIGHTS:
            value = self.__dict__.get(name)
            if value is not None:
                setattr(self, name, self.buffer(name, value))

    def buffer(self, name: str, value: Any) -> Tensor:
        what = type(self).__name__
        if isinstance(value, Tensor) and value.requires_grad:
            raise DTypeError(
                f"{what}({name})", "the weights of a loss are not trained",
                operands=[(name, value, "requires a gradient")], fix=f"{{{name}}}.detach()",
            )  # fmt: skip
        return tensor(numbers(what, name, value))

    def instead(self, given: dict[str, Any], values: tuple[Any, ...]) -> str | None:
        if not given.keys() & {"size_average", "reduce"}:  # what PyTorch had before `reduction`
            return None
        word = "mean" if given.get("size_average", True) in (True, None) else "sum"
        return f'reduction="{"none" if given.get("reduce", True) is False else word}"'

    def forward(self, *operands: Any) -> Any:
        given = {name: self.__dict__[name] for name in self.options}
        for name in WEIGHTS:
            if given.get(name) is not None and operands:
                given[name] = fitted(given[name], operands[0])
        return type(self).call(*operands, **given)


def fitted(weight: Any, prediction: Any) -> Any:
    """A weight in the dtype of what it weighs: a loss of float32 numbers is one."""
    own = getattr(prediction, "dtype", None)
    if own is None or own.kind != "f":
        return weight
    kind = np.promote_types(own, np.float32)
    return weight if weight.dtype == kind else weight.astype(kind)


# ------------------------------------------------------------------ numbers


class MSELoss(Loss):
    """Squared error; see `F.mse_loss`.

        mean_i (prediction_i - target_i)^2

    Shapes: prediction and target alike; y one number, or with reduction="none" one for each.

    Args:
        reduction: "mean", "sum" or "none".

    Raises:
        ShapeError: the shapes differ; nothing is broadcast.
        OptionError: another reduction.

    Example:
        >>> MSELoss()(np.array([1.0, 2.0]), np.array([1.0, 4.0])).item()
        2.0
        >>> MSELoss(reduction="none")
        MSELoss(reduction='none')
    """

    call = staticmethod(F.mse_loss)
    options: ClassVar = {"reduction": "mean"}


class L1Loss(Loss):
    """Absolute error; see `F.l1_loss`.

        mean_i |prediction_i - target_i|

    Shapes, options and errors: those of `MSELoss`.

    Example:
        >>> L1Loss()(np.array([1.0, 2.0]), np.array([1.0, 4.0])).item()
        1.0
    """

    call = staticmethod(F.l1_loss)
    options: ClassVar = {"reduction": "mean"}


class SmoothL1Loss(Loss):
    """Squared error near, absolute error far, with slope 1; see `F.smooth_l1_loss`.

        r^2 / (2 beta) where |r| < beta, else |r| - beta / 2,   r = prediction - target

    Shapes and errors: those of `MSELoss`.

    Args:
        reduction: "mean", "sum" or "none".
        beta: where the parabola ends; 0 for `L1Loss`.

    Example:
        >>> SmoothL1Loss(reduction="none")(np.array([0.5, 3.0]), np.zeros(2))
        array([0.125, 2.5  ])
    """

    call = staticmethod(F.smooth_l1_loss)
    options: ClassVar = {"reduction": "mean", "beta": 1.0}


class HuberLoss(Loss):
    """Squared error near, absolute error far; see `F.huber_loss`.

        r^2 / 2 where |r| < delta, else delta (|r| - delta / 2),   r = prediction - target

    Shapes and errors: those of `MSELoss`.

    Args:
        reduction: "mean", "sum" or "none".
        delta: where the parabola ends.

    Example:
        >>> HuberLoss(delta=2.0)(np.array([3.0]), np.zeros(1)).item()
        4.0
    """

    call = staticmethod(F.huber_loss)
    options: ClassVar = {"reduction": "mean", "delta": 1.0}
    ahead = 2


# ------------------------------------------------------------------ probabilities


class CrossEntropyLoss(Loss):
    """Cross-entropy of logits with labels; see `F.cross_entropy`.

        mean_i weight[b_i] (logsumexp(a_i) - a_i[b_i])      over the sum of the weights used

    Shapes: logits `[.., k]`, the classes last: `[N, H, W, k]` for pictures, where PyTorch has
    `[N, k, H, W]`; labels integers `[..]`, or probabilities `[.., k]`; weight `[k]`.

    Args:
        weight: a factor for each class; a buffer.
        ignore_index: labels that count for nothing.
        reduction: "mean", "sum" or "none".
        label_smoothing: e: labels are 1 - e + e / k, and e / k for the other classes.

    Raises:
        ShapeError, DTypeError, AxisError: labels of another shape, not integers, or outside [0, k).
        OptionError: an option out of range.

    Example:
        >>> loss = CrossEntropyLoss(weight=[1.0, 3.0], label_smoothing=0.1)
        >>> loss
        CrossEntropyLoss(weight=float64[2], label_smoothing=0.1)
        >>> list(loss.state_dict())
        ['weight']
        >>> round(loss(np.zeros((4, 2)), np.array([0, 1, 1, -100])).item(), 6)
        0.683245
    """

    call = staticmethod(F.cross_entropy)
    options: ClassVar = {
        "weight": None, "ignore_index": -100, "reduction": "mean", "label_smoothing": 0.0,
    }  # fmt: skip
    ahead = 1


class NLLLoss(Loss):
    """Minus the log-probability of the right class; see `F.nll_loss`.

        mean_i -weight[b_i] log_p[i, b_i]       over the sum of the weights used

    Shapes: log_p `[.., k]`, the classes last, from `log_softmax`; labels `[..]`, weight `[k]`.

    Args:
        weight, ignore_index, reduction: as in `CrossEntropyLoss`.

    Raises:
        ShapeError, DTypeError, AxisError: labels of another shape, not integers, or outside [0, k).

    Example:
        >>> NLLLoss()(np.log([[0.25, 0.75]]), [1]).item()
        0.2876820724517809
    """

    call = staticmethod(F.nll_loss)
    options: ClassVar = {"weight": None, "ignore_index": -100, "reduction": "mean"}
    ahead = 1


class BCELoss(Loss):
    """Cross-entropy of a probability; see `F.binary_cross_entropy`.

        mean of weight (-target log p - (1 - target) log(1 - p))

    Shapes: p and target alike; weight likewise, or what broadcasts to that shape.

    Args:
        weight: a factor for each number; a buffer.
        reduction: "mean", "sum" or "none".

    Raises:
        ShapeError: shapes that do not fit.
        ArgumentError: a p outside 0 to 1.

    Example:
        >>> round(BCELoss()(np.array([0.5, 1.0]), np.array([1.0, 1.0])).item(), 6)
        0.346574
    """

    call = staticmethod(F.binary_cross_entropy)
    options: ClassVar = {"weight": None, "reduction": "mean"}
    ahead = 1


class BCEWithLogitsLoss(Loss):
    """Cross-entropy of sigmoid(logits); see `F.binary_cross_entropy_with_logits`.

        mean of weight (pos_weight target log(1 + e^-x) + (1 - target) log(1 + e^x))

    Shapes: logits and target alike; the weights likewise, or what broadcasts to that shape.

    Args:
        weight: a factor for each number; a buffer.
        reduction: "mean", "sum" or "none".
        pos_weight: a factor for targets of 1; a buffer.

    Raises:
        ShapeError: shapes that do not fit.

    Example:
        >>> loss = BCEWithLogitsLoss(pos_weight=[1.0, 3.0], reduction="sum")
        >>> round(loss(np.zeros((1, 2)), np.ones((1, 2))).item(), 6)
        2.772589
    """

    call = staticmethod(F.binary_cross_entropy_with_logits)
    options: ClassVar = {"weight": None, "reduction": "mean", "pos_weight": None}
    ahead = 1


class KLDivLoss(Loss):
    """Kullback-Leibler divergence of q from the target distribution; see `F.kl_div`.

        target (log target - log_q)        or, with log_target, e^target (target - log_q)

    Shapes: log_q and target alike.

    Args:
        reduction: "batchmean", the sum over the number of rows, is the divergence; "mean", the
            default here as in PyTorch, divides by all numbers. `F.kl_div` starts from "batchmean".
        log_target: whether the target is a logarithm too.

    Raises:
        ShapeError: the shapes differ.

    Example:
        >>> log_q, target = np.log([[0.5, 0.5]]), np.array([[1.0, 0.0]])
        >>> round(KLDivLoss(reduction="batchmean")(log_q, target).item(), 6)
        0.693147
    """

    call = staticmethod(F.kl_div)
    options: ClassVar = {"reduction": "mean", "log_target": False}
    rules: ClassVar = {
        **RULES,
        "reduction": (
            lambda v: isinstance(v, str) and v in (*WORDS, "batchmean"),
            'reduction is one of "mean", "sum", "none" and "batchmean"',
        ),
    }


class PoissonNLLLoss(Loss):
    """Minus the log-likelihood of counts; see `F.poisson_nll_loss`.

        e^x - target x          or, with log_input=False, x - target log(x + eps)

    Shapes: x and target alike.

    Args:
        log_input: whether x is the logarithm of the rate.
        full: add Stirling's approximation of log(target!) where target > 1.
        eps: keeps the logarithm of a rate of 0 finite.
        reduction: "mean", "sum" or "none".

    Raises:
        ShapeError: the shapes differ.

    Example:
        >>> PoissonNLLLoss()(np.array([0.0]), np.array([2.0])).item()
        1.0
    """

    call = staticmethod(F.poisson_nll_loss)
    options: ClassVar = {"log_input": True, "full": False, "eps": 1e-8, "reduction": "mean"}
    ahead = 2


class GaussianNLLLoss(Loss):
    """Minus the log-likelihood of a normal distribution; see `F.gaussian_nll_loss`.

        (log v + (mean - target)^2 / v) / 2,   v = max(var, eps)

    Shapes: called with mean and target alike, and var too, or with a last axis of 1.

    Args:
        full: add log(2 pi) / 2.
        eps: the smallest variance.
        reduction: "mean", "sum" or "none".

    Raises:
        ShapeError: shapes that do not fit.
        ArgumentError: a negative variance.

    Example:
        >>> GaussianNLLLoss()(np.array([1.0]), np.array([3.0]), np.array([1.0])).item()
        2.0
    """

    call = staticmethod(F.gaussian_nll_loss)
    options: ClassVar = {"full": False, "eps": 1e-6, "reduction": "mean"}


class CTCLoss(Loss):
    """Minus the log-probability of a sequence of labels; see `F.ctc_loss`.

        -log sum of prod_t e^(log_p[t, path_t]) over the paths that spell the labels

    Shapes: called with log_p `[N, T, C]`, samples first, where PyTorch has `[T, N, C]`; labels
    `[N, S]`; lengths `[N]` and label_lengths `[N]`, or None for all of each.

    Args:
        blank: the class that is no label.
        reduction: "mean" divides each loss by the number of its labels, then takes the mean.
        zero_infinity: samples that no path spells count 0.

    Raises:
        ShapeError, DTypeError, AxisError: operands that do not fit.

    Example:
        >>> p = np.full((1, 2, 2), 0.5)               # paths ab: 01, 10 and 11 spell "1"
        >>> CTCLoss()(np.log(p), np.array([[1]]), [2], [1]).item()
        0.2876820724517809
    """

    call = staticmethod(F.ctc_loss)
    options: ClassVar = {"blank": 0, "reduction": "mean", "zero_infinity": False}
    ahead = 3
