"""Losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from wengert.errors import OptionError, ShapeError
from wengert.ops.road import cross_entropy
from wengert.types import shape_of

__all__ = ["cross_entropy", "l1_loss", "mse_loss"]


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
    d = _difference("mse_loss", prediction, target)
    return _reduce("mse_loss", d * d, reduction)


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
    return _reduce("l1_loss", np.abs(_difference("l1_loss", prediction, target)), reduction)


def _difference(loss: str, prediction: Any, target: Any) -> Any:
    p, t = shape_of(prediction), shape_of(target)
    if p == t:
        return prediction - target
    rule = "a loss compares number with number: the shapes must be equal"
    try:
        both = np.broadcast_shapes(p, t)
    except ValueError:
        pass
    else:
        rule += f"; broadcasting would compare {int(np.prod(both)):,} pairs, as {list(both)}"
    raise ShapeError(
        f"{loss}(prediction, target)",
        rule,
        operands=[("prediction", prediction), ("target", target)],
        fix=_reshaping(p, t),
    )


def _reshaping(p: tuple[int, ...], t: tuple[int, ...]) -> str | None:
    """How to make the shapes equal without changing which numbers are meant."""
    if p == (*t, 1):
        return "prediction.squeeze(-1)"
    if t == (*p, 1):
        return "target.squeeze(-1)"
    if tuple(n for n in p if n != 1) == tuple(n for n in t if n != 1):
        return f"target.reshape({', '.join(map(str, p))})"
    return None


def _reduce(loss: str, each: Any, reduction: str) -> Any:
    if reduction == "mean":
        return each.mean()
    if reduction == "sum":
        return each.sum()
    if reduction == "none":
        return each
    raise OptionError(
        f"{loss}(reduction={reduction!r})", 'reduction is one of "mean", "sum" and "none"'
    )
