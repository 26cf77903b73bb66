"""Learning rates over time: pure functions of the step, and the object that applies them.

A shape is a function of the step number t = 0, 1, .. that gives a factor of the learning rate.
Shapes are made from others (`warmup`, `chain`) and have no state, so a run that is resumed needs to
know t alone. What depends on how training goes (`Plateau`) has state, and says so.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wengert.errors import OptionError

from .base import Optimizer, check
from .events import LISTENERS, tell
from .recorded import unrecorded

__all__ = [
    "Plateau",
    "Schedule",
    "Shape",
    "chain",
    "constant",
    "cosine",
    "cosine_restarts",
    "cyclic",
    "exponential",
    "inverse_sqrt",
    "linear",
    "multistep",
    "one_cycle",
    "polynomial",
    "step",
    "warmup",
]

Shape = Callable[[int], float]


def _whole(owner: str, name: str, value: Any, low: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise OptionError(
            f"{owner}({name}={value!r})", f"{name} must be a whole number, at least {low}"
        )
    return value


def _places(owner: str, milestones: Any) -> list[int]:
    if not isinstance(milestones, list | tuple | range):
        raise OptionError(
            f"{owner}(milestones={milestones!r})", "milestones are whole numbers, in a list"
        )
    return sorted([_whole(owner, "milestones", n, 0) for n in milestones])


def constant() -> Shape:
    """1 at every step."""
    return lambda t: 1.0


def step(every: int, factor: float = 0.1) -> Shape:
    """factor^floor(t / every).

    Example:
        >>> [round(step(2)(t), 3) for t in range(5)]
        [1.0, 1.0, 0.1, 0.1, 0.01]
    """
    _whole("step", "every", every)
    check("step", "factor", factor)
    return lambda t: factor ** (t // every)


def multistep(milestones: Sequence[int], factor: float = 0.1) -> Shape:
    """factor^(how many milestones are reached at t).

    Example:
        >>> [round(multistep([1, 3])(t), 3) for t in range(5)]
        [1.0, 0.1, 0.1, 0.01, 0.01]
    """
    places = _places("multistep", milestones)
    check("multistep", "factor", factor)
    return lambda t: factor ** bisect_right(places, t)


def exponential(factor: float) -> Shape:
    """factor^t."""
    check("exponential", "factor", factor, fix="factor=0.99")
    return lambda t: factor**t


def linear(steps: int, start: float = 1.0, end: float = 0.0) -> Shape:
    """From start to end along a line in `steps` steps; end from there on.

    Example:
        >>> [linear(4)(t) for t in range(6)]
        [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    """
    _whole("linear", "steps", steps)
    start, end = check("linear", "start", start), check("linear", "end", end)
    return lambda t: start + (end - start) * min(1.0, t / steps)


def polynomial(steps: int, power: float = 1.0) -> Shape:
    """(1 - t / steps)^power; 0 from `steps` on."""
    _whole("polynomial", "steps", steps)
    check("polynomial", "power", power)
    return lambda t: max(0.0, 1.0 - t / steps) ** power


def cosine(steps: int, end: float = 0.0) -> Shape:
    """end + (1 - end) (1 + cos(pi t / steps)) / 2; end from `steps` on.

    Example:
        >>> [round(cosine(4)(t), 3) for t in range(6)]
        [1.0, 0.854, 0.5, 0.146, 0.0, 0.0]

    References:
        I. Loshchilov, F. Hutter (2017), SGDR, arXiv:1608.03983.
    """
    _whole("cosine", "steps", steps)
    check("cosine", "end", end)
    return lambda t: end + (1 - end) * 0.5 * (1 + math.cos(math.pi * min(1.0, t / steps)))


def cosine_restarts(steps: int, longer: int = 1, end: float = 0.0) -> Shape:
    """Cosines one after the other, each `longer` times as long as the one before.

    Example:
        >>> [round(cosine_restarts(2, longer=2)(t), 2) for t in range(7)]
        [1.0, 0.5, 1.0, 0.85, 0.5, 0.15, 1.0]
    """
    _whole("cosine_restarts", "steps", steps)
    _whole("cosine_restarts", "longer", longer)
    check("cosine_restarts", "end", end)

    def shape(t: int) -> float:
        length = steps
        while t >= length and longer > 1:
            t, length = t - length, length * longer
        t = t % length
        return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * t / length))

    return shape


def cyclic(up: int, down: int | None = None, low: float = 0.1, decay: float = 1.0) -> Shape:
    """A triangle wave between `low` and 1, up in `up` steps and down in `down`.

    The wave above `low` shrinks by the factor `decay` every cycle.

    Example:
        >>> [cyclic(2, low=0.0)(t) for t in range(6)]
        [0.0, 0.5, 1.0, 0.5, 0.0, 0.5]

    References:
        L. Smith (2017), Cyclical Learning Rates for Training Neural Networks, arXiv:1506.01186.
    """
    _whole("cyclic", "up", up)
    check("cyclic", "low", low)
    check("cyclic", "decay", decay)
    fall = _whole("cyclic", "down", up if down is None else down)

    def shape(t: int) -> float:
        cycle, at = divmod(t, up + fall)
        height = at / up if at <= up else 1 - (at - up) / fall
        return low + (1 - low) * height * decay**cycle

    return shape


def one_cycle(steps: int, rise: float = 0.3, start: float = 1 / 25, end: float = 1 / 25e4) -> Shape:
    """Up to 1 along a cosine over the share `rise` of the steps, then down to `end`.

    The learning rate of the optimizer is the largest one.

    Example:
        >>> [round(one_cycle(11, rise=0.3)(t), 2) for t in (0, 2, 3, 10)]
        [0.04, 0.96, 0.98, 0.0]

    References:
        L. Smith, N. Topin (2018), Super-Convergence, arXiv:1708.07120.
    """
    check("one_cycle", "start", start)
    check("one_cycle", "end", end)
    if isinstance(rise, str) or not 0 < check("one_cycle", "rise", rise) < 1:
        raise OptionError(f"one_cycle(rise={rise!r})", "it must be a share between 0 and 1")
    _whole("one_cycle", "steps", steps, 2)
    top = float(rise * steps) - 1

    def shape(t: int) -> float:
        if t < top:
            share, a, b = t / top, start, 1.0
        else:
            share, a, b = min(1.0, (t - top) / (steps - 1 - top)), 1.0, end
        return b + (a - b) / 2.0 * (1 + math.cos(math.pi * share))

    return shape


def inverse_sqrt(steps: int) -> Shape:
    """min((t + 1) / steps, sqrt(steps / (t + 1))): up along a line, then down like 1 / sqrt(t).

    Example:
        >>> [round(inverse_sqrt(4)(t), 2) for t in (0, 3, 15)]
        [0.25, 1.0, 0.5]

    References:
        A. Vaswani et al. (2017), Attention Is All You Need, arXiv:1706.03762.
    """
    _whole("inverse_sqrt", "steps", steps)
    return lambda t: min((t + 1) / steps, math.sqrt(steps / (t + 1)))


def warmup(steps: int, then: Shape | None = None, start: float = 0.0) -> Shape:
    """Up from `start` along a line that reaches 1 at its `steps`-th step, and `then` from 0 on.

    Example:
        >>> [round(warmup(2, cosine(4))(t), 2) for t in range(7)]
        [0.5, 1.0, 1.0, 0.85, 0.5, 0.15, 0.0]
    """
    _whole("warmup", "steps", steps, 0)
    check("warmup", "start", start)
    after = constant() if then is None else then
    if not callable(after):
        raise OptionError(f"warmup(then={then!r})", "then is a function of the step, or None")
    return lambda t: start + (1 - start) * (t + 1) / steps if t < steps else after(t - steps)


def chain(shapes: Sequence[Shape], milestones: Sequence[int]) -> Shape:
    """The first shape up to the first milestone, then the next from its own step 0 on, and so on.

    Example:
        >>> [chain([constant(), linear(2)], [3])(t) for t in range(6)]
        [1.0, 1.0, 1.0, 1.0, 0.5, 0.0]
    """
    if len(shapes) != len(milestones) + 1:
        raise OptionError(
            "chain(shapes, milestones)", "there is one milestone between each two shapes",
            operands=[("shapes", len(shapes)), ("milestones", len(milestones))],
        )  # fmt: skip
    places = [0, *milestones]

    def shape(t: int) -> float:
        i = bisect_right(places, t) - 1
        return shapes[i](t - places[i])

    return shape


class Schedule:
    """A shape applied to an optimizer: every group's learning rate is its first one times shape(t).

    Call `step()` after every step of the optimizer (or every epoch, if the shape counts epochs).

    Args:
        optimizer: whose groups' `lr` are set, from t = 0 on at once.
        shape: a function of t, or one for each group.

    Example:
        >>> import wengert as wg
        >>> from wengert.optim import SGD
        >>> optimizer = SGD([wg.tensor([1.0], requires_grad=True)], lr=0.1)
        >>> schedule = Schedule(optimizer, warmup(2))
        >>> rates = []
        >>> for _ in range(3):
        ...     rates.append(optimizer.lr)  # after optimizer.step():
        ...     schedule.step()
        >>> rates
        [0.05, 0.1, 0.1]
    """

    def __init__(self, optimizer: Optimizer, shape: Shape | Sequence[Shape]) -> None:
        self.optimizer = optimizer
        self.rates = [group.lr for group in optimizer.groups]
        self.shapes = [shape] * len(self.rates) if callable(shape) else list(shape)
        if len(self.shapes) != len(self.rates):
            raise OptionError(
                "Schedule(optimizer, shapes)", "one shape for all groups, or one for each",
                operands=[("groups", len(self.rates)), ("shapes", len(self.shapes))],
            )  # fmt: skip
        self.t = 0
        self._apply()

    def _apply(self) -> None:
        for group, rate, shape in zip(self.optimizer.groups, self.rates, self.shapes):
            group.lr = rate * shape(self.t)

    def step(self) -> None:
        """One step further."""
        unrecorded("schedule.step()", "call it after the compiled step")
        if LISTENERS:
            tell("schedule", self)
        self.t += 1
        self._apply()

    def state_dict(self) -> dict[str, Any]:
        """The step, and the learning rates that the shapes are factors of."""
        return {"t": self.t, "rates": list(self.rates)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.t, self.rates = int(state["t"]), [float(r) for r in state["rates"]]
        self._apply()


class Plateau:
    """Lower the learning rate when a measure no longer gets better.

    Args:
        optimizer: whose groups' `lr` are multiplied.
        factor: by what, below 1.
        patience: after how many reports in a row without an improvement.
        higher: whether a higher measure is better (an accuracy); else a lower one (a loss).
        threshold: the relative change that counts as an improvement.
        cooldown: reports after a cut that are not counted.
        lowest: where the learning rate stops.

    Example:
        >>> import wengert as wg
        >>> from wengert.optim import SGD
        >>> optimizer = SGD([wg.tensor([1.0], requires_grad=True)], lr=0.1)
        >>> plateau = Plateau(optimizer, factor=0.5, patience=1)
        >>> for loss in (1.0, 0.5, 0.5, 0.5):
        ...     plateau.step(loss)
        >>> optimizer.lr
        0.05
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        factor: float = 0.1,
        patience: int = 10,
        higher: bool = False,
        threshold: float = 1e-4,
        cooldown: int = 0,
        lowest: float = 0.0,
    ) -> None:
        self.optimizer = optimizer
        self.factor = check("Plateau", "factor", factor, below=1.0, fix="factor=0.1")
        self.patience = _whole("Plateau", "patience", patience, 0)
        self.threshold, self.cooldown, self.lowest = threshold, cooldown, lowest
        self.higher = higher
        self.best = -math.inf if higher else math.inf
        self.bad = self.cooling = 0

    def step(self, measure: Any) -> None:
        """Take in one report."""
        try:
            value = float(measure)
        except (TypeError, ValueError):
            raise OptionError(
                f"Plateau.step({measure!r})", "a measure is one number", fix="step(loss.item())"
            ) from None
        sign = 1 if self.higher else -1
        margin = self.threshold * abs(self.best) if math.isfinite(self.best) else 0.0
        if sign * value > sign * self.best + margin:
            self.best, self.bad = value, 0
        else:
            self.bad += 1
        if self.cooling > 0:
            self.cooling, self.bad = self.cooling - 1, 0
        if self.bad > self.patience:
            for group in self.optimizer.groups:
                new = max(group.lr * self.factor, self.lowest)
                if group.lr - new > 1e-8:
                    group.lr = new
            self.cooling, self.bad = self.cooldown, 0

    def state_dict(self) -> dict[str, Any]:
        """The best measure, and how long ago it was."""
        return {"best": self.best, "bad": self.bad, "cooling": self.cooling}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.best = float(state["best"])
        self.bad, self.cooling = int(state["bad"]), int(state["cooling"])
