"""Random programs: straight-line code as data, and the engines that run it."""

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import autograd
import autograd.numpy as anp
import numpy as np
import random_shapes
import random_writes
from autograd.differential_operators import make_jvp
from hypothesis import strategies as st
from random_ops import OPS

TABLES = (random_shapes, random_writes)  # imported for the operations that they enter
WRITES = (random_writes.pure_block, random_writes.filled_purely, random_writes.swept_purely)
SHAPES = (
    (3,),
    (2, 3),
    (),
    (2, 2),
    (3, 3),
    (4,),
    (3, 1),
    (1, 3),
    (2, 3, 2),
    (1,),
    (3, 2),
    (2, 1, 3),
    (0,),
    (2, 0),
)
DRAWN: Counter[str] = Counter()  # what became of the steps that were drawn


@dataclass(frozen=True)
class Program:
    """Values 0, 1, ... are the inputs; each step (name, operands, params) appends one.

    The result is one number: every value that no step reads, weighted and summed.
    """

    shapes: tuple[tuple[int, ...], ...]
    steps: tuple[tuple[str, tuple[int, ...], tuple[Any, ...]], ...]
    seed: int = 0

    def inputs(self) -> list[np.ndarray]:
        rng = np.random.default_rng([self.seed, 7])
        return [rng.uniform(-1.8, 1.8, s) for s in self.shapes]

    def directions(self) -> list[np.ndarray]:
        rng = np.random.default_rng([self.seed, 8])
        return [rng.uniform(-1, 1, s) for s in self.shapes]

    def run(self, *xs: Any) -> Any:
        """As a user writes it: on arrays, or on tensors."""
        with np.errstate(all="ignore"):
            return self.total(np, self.values(np, xs, "run"))

    def peer(self, m: Any, *xs: Any) -> Any:
        with np.errstate(all="ignore"):
            return self.total(m, self.values(m, xs, "peer"))

    def outs(self, *xs: Any) -> list[Any]:
        with np.errstate(all="ignore"):
            values = self.values(np, xs, "run")
        return [values[i] for i in self.unread()]

    def values(self, m: Any, xs: Any, form: str) -> list[Any]:
        values = list(xs)
        for name, operands, params in self.steps:
            o = OPS[name]
            f = o.peer if form == "peer" and o.peer is not None else o.run
            values.append(f(m, *[values[i] for i in operands], *params))
        return values

    def unread(self) -> list[int]:
        read = {i for _, operands, _ in self.steps for i in operands}
        return [i for i in range(len(self.shapes) + len(self.steps)) if i not in read]

    def total(self, m: Any, values: list[Any]) -> Any:
        parts = [m.sum(values[i] * weights(np.shape(values[i]), i)) for i in self.unread()]
        return sum(parts[1:], parts[0])

    @property
    def lanes(self) -> bool:
        return all(OPS[name].lanes for name, _, _ in self.steps)

    @property
    def plain(self) -> bool:
        return all(OPS[name].peer not in WRITES for name, _, _ in self.steps)

    @property
    def numpys(self) -> bool:
        return all(OPS[name].numpys for name, _, _ in self.steps)


def weights(shape: tuple[int, ...], k: int) -> np.ndarray:
    n = int(np.prod(shape))
    return np.cos(np.arange(n) * 1.7 + k).reshape(shape) + 0.2


# ------------------------------------------------------------------ drawing


def build(pick: Any, only: tuple[str, ...] | None = None, first: str | None = None) -> Program:
    """A program that stays in a smooth region: each step is tried on numbers before it is taken.

    pick(options) draws one of a sequence.
    """
    names = sorted(only or OPS)
    shapes = tuple(pick(SHAPES) for _ in range(pick((2, 1, 3))))
    seed = pick(range(2**16))
    values = Program(shapes, (), seed).inputs()
    taken: list[Any] = []
    for _ in range(pick((6, 3, 1, 4, 5, 7, 8, 10))):
        step = propose(pick, pick(names) if taken or first is None else first, values)
        y = None if step is None else evaluated(values, step)
        DRAWN["taken" if y is not None else "refused"] += 1
        if y is not None:
            taken.append(step)
            values.append(y)
    return Program(shapes, tuple(taken), seed)


@st.composite
def programs(draw: Any, only: tuple[str, ...] | None = None) -> Program:
    """Programs whose every choice is drawn one by one, so that a failure is made small."""
    return build(lambda options: options[draw(st.integers(0, len(options) - 1))], only)


def smaller(program: Program, fails: Any) -> Program:
    """The same failure with steps left out, as few as can be."""
    k = len(program.steps)
    while k:
        k -= 1
        shorter = without(program, k)
        if shorter is not None and fails(shorter):
            program, k = shorter, len(shorter.steps)
    return program


def without(program: Program, k: int) -> Program | None:
    """A program without its step k, and without what it needs alone; None if it is read."""
    n = len(program.shapes)
    if any(n + k in operands for _, operands, _ in program.steps[k + 1 :]):
        return None
    steps = [
        (name, tuple(i - (i > n + k) for i in operands), params)
        for j, (name, operands, params) in enumerate(program.steps)
        if j != k
    ]
    return Program(program.shapes, tuple(steps), program.seed)


def propose(pick: Any, name: str, values: list[Any]) -> Any:
    """Operands and parameters for an operation; None if there are none in a smooth region."""
    o = OPS[name]
    first = (
        len(values) - 1 - pick(range(len(values)))
    )  # young values first, so that programs grow deep
    operands = [first]
    if o.arity == 2:
        partners = [
            i
            for i, v in enumerate(values)
            if not o.linked or broadcasts(v.shape, values[first].shape)
        ]
        operands.append(partners[-1 - pick(range(len(partners)))])
        if pick((False, True)):
            operands.reverse()
    xs = [values[i] for i in operands]
    params = o.params(pick, *xs)
    if params is None:
        return None
    with np.errstate(all="ignore"):
        return (name, tuple(operands), params) if o.smooth(*xs, *params) else None


def broadcasts(a: Any, b: Any) -> bool:
    try:
        np.broadcast_shapes(a, b)
    except ValueError:
        return False
    return True


def evaluated(values: list[Any], step: Any) -> Any:
    """The value of a step, or None if it does not exist or is too large."""
    name, operands, params = step
    try:
        with np.errstate(all="ignore"):
            y = np.asarray(OPS[name].run(np, *[values[i].copy() for i in operands], *params))
    except (IndexError, ValueError):
        return None
    if y.size > 60 or y.ndim > 4:
        return None
    return y if np.all(np.abs(y) < 15) else None


# ------------------------------------------------------------------ the engines


class Flat:
    """A function of several arrays as a function of one vector, for HIPS autograd."""

    def __init__(self, program: Program, m: Any) -> None:
        self.program, self.m = program, m
        self.ends = np.cumsum([0, *[int(np.prod(s)) for s in program.shapes]])

    def __call__(self, x: Any) -> Any:
        return self.program.peer(self.m, *self.split(x))

    def split(self, x: Any) -> list[Any]:
        parts = zip(self.ends, self.ends[1:], self.program.shapes)
        return [self.m.reshape(x[a:b], s) for a, b, s in parts]


def flat(xs: Any) -> Any:
    return np.concatenate([np.ravel(x) for x in xs]) if len(xs) else np.zeros(0)


def independent(program: Program) -> tuple[Any, Any, Any, Any]:
    """(value, gradient, directional derivative, Hessian times direction) by HIPS autograd."""
    f, x, v = Flat(program, anp), flat(program.inputs()), flat(program.directions())
    gradient = autograd.grad(f)
    slope = make_jvp(f)(x)(v)
    curve = autograd.grad(lambda x: anp.sum(gradient(x) * v))(x)
    return slope[0], gradient(x), slope[1], curve


def differences(program: Program) -> tuple[Any, Any, bool]:
    """(slope, curvature, whether they converged) along the direction, in extended precision.

    Central differences at h, h/2, h/4 and h/8, and Richardson's extrapolation of them.
    """
    x = [v.astype(np.longdouble) for v in program.inputs()]
    v = [d.astype(np.longdouble) for d in program.directions()]

    def at(t: Any) -> Any:
        return program.peer(np, *[a + t * d for a, d in zip(x, v)])

    middle, h = at(0), np.longdouble(2) ** -8
    first, second = [], []
    for k in range(4):
        t = h / 2**k
        up, down = at(t), at(-t)
        first.append((up - down) / (2 * t))
        second.append((up - 2 * middle + down) / t**2)
    slope, e1 = extrapolated(first)
    bend, e2 = extrapolated(second)
    converged = e1 <= 1e-11 * (1 + abs(slope)) and e2 <= 1e-8 * (1 + abs(bend))
    return slope, bend, bool(converged)


def extrapolated(column: list[Any]) -> tuple[Any, Any]:
    """(limit, how much the last step changed it)."""
    power = 4
    before = column
    while len(column) > 1:
        before = column
        column = [(power * b - a) / (power - 1) for a, b in pairwise(column)]
        power *= 4
    return column[0], abs(column[0] - before[-1])
