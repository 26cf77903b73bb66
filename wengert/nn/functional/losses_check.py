"""What losses refuse, and how they are summed up."""

from __future__ import annotations

from typing import Any

import numpy as np

from wengert.errors import ArgumentError, AxisError, DTypeError, OptionError, ShapeError
from wengert.ops import elementwise as e
from wengert.ops.losses import reached
from wengert.trace import Tensor, looked
from wengert.types import shape_of


def array(x: Any) -> Any:
    return x if isinstance(x, Tensor) else np.asarray(x)


def bottom(x: Any) -> Any:
    """The plain array in x, with the lanes of a vmap in front."""
    while isinstance(x, Tensor):
        x = looked(x).data
    return x


def numbers(loss: str, name: str, x: Any) -> Any:
    """x as an array, if it is made of numbers."""
    if isinstance(x, Tensor) and x.dtype.kind != "c":
        return x
    try:
        a = x if isinstance(x, Tensor) else np.asarray(x)
    except ValueError:
        raise ArgumentError(
            f"{loss}({name})", "rows of different lengths do not make an array"
        ) from None
    if a.dtype.kind in "OSUmMc":
        raise DTypeError(
            f"{loss}({name})", f"real numbers are needed, not {a.dtype}", operands=[(name, a)]
        )
    return a


def like(x: Any, other: Any) -> Any:
    """Whole numbers in the dtype of real ones that they are compared with, be it a short one."""
    if x.dtype.kind in "iub" and other.dtype.kind == "f":
        return x.astype(other.dtype)
    return x


def same(
    loss: str, prediction: Any, target: Any, names: tuple[str, str] = ("prediction", "target")
) -> tuple[Any, Any]:
    """Both as arrays. Refuses shapes that differ: what does not belong together would be compared.

    A target of whole numbers takes the dtype of the prediction.
    """
    prediction = numbers(loss, names[0], prediction)
    target = numbers(loss, names[1], target)
    p, t = shape_of(prediction), shape_of(target)
    if p == t:
        return prediction, like(target, prediction)
    rule = "a loss compares number with number: the shapes must be equal"
    try:
        both = np.broadcast_shapes(p, t)
    except ValueError:
        pass
    else:
        rule += f"; broadcasting would compare {int(np.prod(both)):,} pairs, as {list(both)}"
    raise ShapeError(
        f"{loss}({', '.join(names)})",
        rule,
        operands=[(names[0], prediction), (names[1], target)],
        fix=_reshaping(p, t, *names),
    )


def _reshaping(p: tuple[int, ...], t: tuple[int, ...], a: str, b: str) -> str | None:
    """How to make the shapes equal without changing which numbers are meant."""
    if p == (*t, 1):
        return f"{a}.squeeze(-1)"
    if t == (*p, 1):
        return f"{b}.squeeze(-1)"
    if tuple(n for n in p if n != 1) == tuple(n for n in t if n != 1):
        return f"{b}.reshape({', '.join(map(str, p))})"
    return None


def reduce(loss: str, each: Any, reduction: str, other: str = "") -> Any:
    if reduction == "mean":
        if 0 in shape_of(each):
            raise ShapeError(
                f'{loss}(reduction="mean")', "there is nothing to take the mean of: no examples",
                operands=[("losses", each)], fix='reduction="sum" gives 0',
            )  # fmt: skip
        return each.mean()
    if reduction == "sum":
        return each.sum()
    if reduction == "none":
        return each
    words = ["mean", "sum", "none", *([other] if other else [])]
    listed = ", ".join(f'"{w}"' for w in words[:-1])
    raise OptionError(
        f"{loss}(reduction={reduction!r})", f'reduction is one of {listed} and "{words[-1]}"'
    )


def class_labels(loss: str, scores: Any, labels: Any, ignore: int | None) -> tuple[Any, Any]:
    """(labels that are right everywhere, which of them count or None for all)."""
    operands = [("scores", scores), ("labels", labels)]
    if not shape_of(scores):
        raise ShapeError(
            f"{loss}(scores, labels)", "the last axis of the scores counts the classes",
            operands=operands,
        )  # fmt: skip
    k, shape = shape_of(scores)[-1], shape_of(scores)[:-1]
    if shape_of(labels) != shape:
        raise ShapeError(
            f"{loss}(scores, labels)",
            f"labels need the shape of the scores without the last axis, {list(shape)}",
            operands=operands,
            fix="labels.squeeze(-1)" if shape_of(labels) == (*shape, 1) else None,
        )
    if labels.dtype.kind not in "iu":
        raise DTypeError(
            f"{loss}(scores, labels)",
            "labels are integers, the index of the right class",
            operands=operands,
        )
    here = None
    if reached(labels.dtype, ignore):
        here = e.ne(labels, ignore)
        labels = e.where(here, labels, 0).astype(labels.dtype)
    value = bottom(labels)
    if value.size and (value.max() >= k or value.min() < 0):
        bad = value.max() if value.max() >= k else value.min()
        raise AxisError(
            f"{loss}(scores, labels)",
            f"label {bad} is outside the {k} classes, 0 to {k - 1}",
            operands=operands,
        )
    return labels, here


def class_weight(loss: str, scores: Any, weight: Any) -> Any:
    """A weight with a number for each class, as an array, or None."""
    if weight is None:
        return None
    weight = numbers(loss, "weight", weight)
    if shape_of(weight) != shape_of(scores)[-1:]:
        raise ShapeError(
            f"{loss}(scores, weight)",
            "weight has a number for each class, the last axis of the scores",
            operands=[("scores", scores), ("weight", weight)],
        )
    return weight


def factor(loss: str, name: str, weight: Any, each: Any) -> Any:
    """A weight for each number of a loss, as an array, or None. It must not make more of them."""
    if weight is None:
        return None
    weight, shape = numbers(loss, name, weight), shape_of(each)
    try:
        fits = np.broadcast_shapes(shape_of(weight), shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(
            f"{loss}({name})",
            f"{name} has a factor for each number, or broadcasts to their shape",
            operands=[("losses", each), (name, weight)],
            fix=f"{{{name}}}.squeeze(-1)" if shape_of(weight) == (*shape, 1) else None,
        )
    return weight


def signs(loss: str, target: Any) -> None:
    value = bottom(array(target))
    if not (np.abs(value) == 1).all():
        bad = value[np.abs(value) != 1].flat[0]
        fix = "2 * target - 1" if set(np.unique(value).tolist()) <= {0, 1} else None
        raise ArgumentError(
            f"{loss}(target)",
            f"targets are 1 and -1, and one is {bad}",
            operands=[("target", target)],
            fix=fix,
        )
