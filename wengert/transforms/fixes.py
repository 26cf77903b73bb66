"""What to write instead, for each way to leave the finite numbers: data for `debug`.

A key is an operation, or an operation and those that made its operands, nearest first. `{x}` is
the operand as the user wrote it. The first key that fits and whose condition holds is offered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Texts = dict[str, str]
When = Callable[[list[Any]], bool]


def always(at: list[Any]) -> bool:
    return True


def zero(i: int) -> When:
    return lambda at: bool(np.any(np.asarray(at[i]) == 0))


def infinite(at: list[Any]) -> bool:
    return any(np.any(np.isinf(np.asarray(v))) for v in at)


def negative(at: list[Any]) -> bool:
    return bool(np.any(np.asarray(at[0]) < 0))


def zero_times_inf(at: list[Any]) -> bool:
    return infinite(at) and any(np.any(np.asarray(v) == 0) for v in at)


FIXES: tuple[tuple[tuple[str, ...], When, str], ...] = (
    (("log", "Softmax"), always, "wg.log_softmax(z) in place of log(softmax(z)); for a loss, "
     "wg.cross_entropy(z, labels)"),
    (("log", "sigmoid"), always, "wg.log_sigmoid(z) in place of log(sigmoid(z))"),
    (("log", "Sum", "exp"), always, "wg.logsumexp(z, axis) in place of log(sum(exp(z)))"),
    (("log", "add"), always, "np.log1p(v) if the argument is 1 + v; otherwise bound it away from "
     "0, np.log(np.maximum({x}, 1e-12))"),
    (("log", "sub"), zero(0), "np.log1p(-v) if the argument is 1 - v (1 - v rounds to 0 before "
     "its logarithm is lost); otherwise np.log(np.maximum({x}, 1e-12))"),
    (("log",), negative, "the argument is negative: np.log(np.maximum({x}, 1e-12)), or find out "
     "why {x} can be below 0"),
    (("log",), always, "np.log(np.maximum({x}, 1e-12)), or np.log(np.where({x} > 0, {x}, 1.0)) to "
     "leave such elements out; for probabilities, wg.log_softmax of what they came from"),
    (("log2",), always, "np.log2(np.maximum({x}, 1e-12))"),
    (("log10",), always, "np.log10(np.maximum({x}, 1e-12))"),
    (("log1p",), always, "np.log1p(np.maximum({x}, -1 + 1e-7)) keeps the argument above -1"),
    (("sqrt", "Sum", "square"), zero(0), "np.linalg.norm(v), whose gradient at 0 is 0, in place "
     "of sqrt(sum(v**2))"),
    (("sqrt", "Sum", "mul"), zero(0), "np.linalg.norm(v), whose gradient at 0 is 0, in place of "
     "sqrt(sum(v * v))"),
    (("sqrt", "Sum", "pow"), zero(0), "np.linalg.norm(v), whose gradient at 0 is 0, in place of "
     "sqrt(sum(v**2))"),
    (("sqrt",), negative, "the argument is negative: np.sqrt(np.maximum({x}, 1e-12)), or find out "
     "why {x} can be below 0"),
    (("sqrt",), always, "np.sqrt({x} + 1e-12), or np.where({x} > 0, np.sqrt({x}), 0.0) for no "
     "gradient at 0; the slope of sqrt at 0 is infinite"),
    (("cbrt",), always, "np.where({x} != 0, np.cbrt({x}), 0.0) for no gradient at 0"),
    (("div", "Norm"), zero(1), "{a} / np.maximum({b}, 1e-12): the norm of a zero vector is 0"),
    (("div", "exp"), infinite, "wg.softmax(z, axis) in place of exp(z) / sum(exp(z))"),
    (("div",), zero(1), "np.where({b} != 0, {a} / {b}, 0.0) leaves the zeros of {b} out; "
     "{a} / np.maximum({b}, 1e-12) if it is never negative"),
    (("reciprocal",), always, "np.where({x} != 0, np.reciprocal({x}), 0.0)"),
    (("unit_vector",), always, "{x} / np.maximum(np.linalg.norm({x}), 1e-12)"),
    (("exp",), always, "subtract the maximum before exp: wg.softmax and wg.logsumexp do; in a "
     "loss, wg.log_softmax or wg.cross_entropy; or bound it, np.exp(np.minimum({x}, 80.0))"),
    (("exp2",), always, "np.exp2(np.minimum({x}, 120.0)) bounds the result"),
    (("expm1",), always, "np.expm1(np.minimum({x}, 80.0)) bounds the result"),
    (("sinh",), always, "np.sinh(np.clip({x}, -80.0, 80.0)) bounds the result"),
    (("cosh",), always, "np.cosh(np.clip({x}, -80.0, 80.0)) bounds the result"),
    (("pow",), zero(0), "np.where({a} != 0, {a} ** {b}, 0.0) for no gradient at 0, or "
     "({a} + 1e-12) ** {b}: the slope at 0 is infinite for exponents below 1"),
    (("pow",), negative, "a negative number has no real power {b}: np.abs({a}) ** {b}, or "
     "np.maximum({a}, 1e-12) ** {b}"),
    (("pow",), always, "the power overflows: np.exp({b} * np.log({a})) does too; work with "
     "{b} * np.log({a}), its logarithm"),
    (("arccos",), always, "np.arccos(np.clip({x}, -1 + 1e-7, 1 - 1e-7)); the angle between "
     "vectors is np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b), smooth everywhere"),
    (("arcsin",), always, "np.arcsin(np.clip({x}, -1 + 1e-7, 1 - 1e-7))"),
    (("arctanh",), always, "np.arctanh(np.clip({x}, -1 + 1e-7, 1 - 1e-7))"),
    (("arccosh",), always, "np.arccosh(np.maximum({x}, 1 + 1e-7))"),
    (("arctan2",), always, "np.where(r > 0, np.arctan2({a}, {b}), 0.0): at the origin the angle "
     "has no derivative"),
    (("logit",), always, "logit(np.clip({x}, 1e-7, 1 - 1e-7)); a loss of a sigmoid takes its "
     "argument as it is"),
    (("hypot",), always, "np.where(r > 0, np.hypot({a}, {b}), 0.0)"),
    (("mul",), zero_times_inf, "np.where(mask, value, 0.0) in place of mask * value: 0 times "
     "infinity is nan"),
    (("square",), always, "the square overflows: scale {x} down first"),
    (("Softmax",), infinite, "a row in which every entry is masked by -inf has no softmax: leave "
     "one entry unmasked, or np.where(row_is_masked, 0.0, softmax)"),
    (("LogSoftmax",), infinite, "a row in which every entry is masked by -inf has no softmax: "
     "leave one entry unmasked"),
    (("Inv",), always, "np.linalg.pinv({x}), or np.linalg.inv({x} + 1e-6 * np.eye(n))"),
    (("Solve",), always, "np.linalg.lstsq({a}, {b})[0], or add 1e-6 * np.eye(n) to {a}"),
)  # fmt: skip


def fix_for(chain: list[set[str]], at: list[Any], texts: Texts) -> str | None:
    """The rewrite for an operation.

    Args:
        chain: its name, then the names of what made its operands, then of what made those.
        at: its operands' values where it went wrong.
        texts: how the user wrote its operands, by name.
    """
    for key, when, text in FIXES:
        if len(key) > len(chain) or not all(k in c for k, c in zip(key, chain) if k):
            continue
        try:
            if not when(at):
                continue
        except (TypeError, ValueError, IndexError):
            continue
        return text.format_map(_Named(texts))
    return None


class _Named(dict[str, str]):
    """An operand whose text is not known goes by its own name."""

    def __missing__(self, key: str) -> str:
        return key
