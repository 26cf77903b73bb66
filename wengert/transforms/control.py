"""Structured control flow: cond, switch, while_loop, fori_loop, scan and map.

Python's own `if`, `for` and `while` work in eager code, and are differentiated as they ran. These
do the same under `vmap` as well, where a condition differs from lane to lane: both sides of a
`cond` are computed and chosen lane by lane, a loop goes on until the last lane is done, and a lane
that does not take part computes on the numbers of one that does, so that no side which was not
taken can put a nan into a gradient. Loops can keep a few of their states instead of all
(`checkpoint`) and compute the others again.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .. import tree
from ..errors import ArgumentError, DTypeError, LevelError, ShapeError, verbatim
from ..given import call, count, function, items
from ..ops import elementwise as e
from ..ops.index import Concatenate, GetItem
from ..ops.linear import Reshape
from ..owned import own
from ..trace import Tensor, bind, decay, looked
from ..types import RAW, dtype_of, shape_of
from .revolve import run
from .vmap import VMap, vmap

__all__ = ["cond", "fori_loop", "map", "scan", "switch", "while_loop"]


# ------------------------------------------------------------------ conditions


class Choice:
    """A condition or an index as its lanes see it: `plain`, and the levels of its leading axes."""

    __slots__ = ("levels", "plain", "value")

    def __init__(self, what: str, value: Any, kinds: str) -> None:
        value = decay(looked(value))
        if shape_of(value) != ():
            raise ShapeError(
                what,
                "one number is needed to choose by",
                operands=[("value", value)],
                fix="wg.where(condition, a, b) chooses element by element; np.all or np.any of it "
                "is one condition",
            )
        dtype = dtype_of(value) or np.asarray(value).dtype
        if dtype.kind not in kinds:
            raise DTypeError(
                what,
                "an integer is needed" if "b" not in kinds else "a boolean or a number is needed",
                operands=[("value", value)],
            )
        self.value = value
        self.plain, self.levels = lanes_of(value)

    @property
    def traced(self) -> bool:
        return not isinstance(self.plain, RAW)


def lanes_of(x: Any) -> tuple[Any, list[VMap]]:
    """The array at the bottom of x, and the batch levels whose lanes are its leading axes."""
    levels: list[VMap] = []
    x = decay(looked(x))
    while isinstance(x, Tensor):
        if isinstance(x.level, VMap) and x.node is not None:
            levels.insert(0, x.level)
        x = x.data
    return x, levels


def stand_in(there: Any, mask: Any, levels: list[VMap], x: Any) -> Any:
    """x where `there`; elsewhere the value of a lane where it holds, which is safe to compute on.

    Args:
        there: a boolean value, one number in every lane.
        mask, levels: the same as a plain array, and whose lanes its axes are.
    """
    if not isinstance(x, Tensor):
        return x
    plain, mine = lanes_of(x)
    if not isinstance(plain, np.ndarray) or not any(level in levels for level in mine):
        return x
    lane = dict(zip(levels, np.argwhere(mask)[0].tolist(), strict=True))
    return bind(e.where, there, x, plain[tuple([lane.get(level, 0) for level in mine])])


def chosen_lanes(
    what: str, sides: Sequence[tuple[Any, Any]], names: Sequence[str], choice: Choice, run: Any
) -> Any:
    """The results of several sides, each in its own lanes.

    Args:
        sides: per side (the condition as a value, as a plain array), of which one holds per lane.
        run: (side, how its operands are to be made safe) -> its result.
    """
    result: Any = None
    for k, (there, mask) in enumerate(sides):
        if choice.traced:
            got = run(k, lambda x: x)
        elif mask.all():  # of no lanes too: their result has a shape
            return run(k, lambda x: x)
        elif not mask.any():
            continue
        else:
            got = run(k, lambda x, t=there, m=mask: stand_in(t, m, choice.levels, x))
        if result is None:
            result, first = got, names[k]
        else:
            result = merged(what, there, (names[k], got), (first, result))
    return result


def merged(what: str, there: Any, a: tuple[str, Any], b: tuple[str, Any]) -> Any:
    """a's leaves where `there`, else b's."""
    (a_name, a_tree), (b_name, b_tree) = a, b
    xs, structure = tree.flatten(a_tree)
    ys, other = tree.flatten(b_tree)
    alike(what, (b_name, ys, other), (a_name, xs, structure))
    return tree.unflatten(
        structure,
        [x if x is y else bind(e.where, there, plain_or(x), plain_or(y)) for x, y in zip(xs, ys)],
    )


def plain_or(x: Any) -> Any:
    return x if isinstance(x, Tensor) or traced(x) else np.asarray(x)


def traced(x: Any) -> bool:
    """Whether x is a variable of a graph that is being made."""
    return hasattr(x, "graph")


def weak(x: Any) -> bool:
    return isinstance(x, int | float | complex) and not isinstance(x, np.generic)


def alike(what: str, want: tuple[str, Any, Any], got: tuple[str, Any, Any]) -> None:
    """Refuse `got` unless it has the structure, shapes and dtypes of `want`."""
    (want_name, xs, structure), (got_name, ys, other) = want, got
    if structure != other:
        raise ArgumentError(
            what,
            f"the structure of {got_name} is not that of {want_name}",
            operands=[(want_name, verbatim(structure)), (got_name, verbatim(other))],
        )
    for i, (x, y) in enumerate(zip(xs, ys)):
        if x is y:
            continue
        p: Any = None
        if shape_of(x) != shape_of(y):
            p = ShapeError, "shape"
        elif kind_clash(x, y):
            p = DTypeError, "dtype"
        if p is not None:
            path = tree.paths(structure)[i]
            raise p[0](
                what,
                f"leaf {path or 'itself'} of {got_name} has another {p[1]} than in {want_name}",
                operands=[(want_name + path, x), (got_name + path, y)],
                fix=cast_fix(x, y) if p[1] == "dtype" else None,
            )


def kind_clash(x: Any, y: Any) -> bool:
    dx, dy = dtype_of(x), dtype_of(y)
    dx = np.asarray(x).dtype if dx is None else dx
    dy = np.asarray(y).dtype if dy is None else dy
    if weak(x) or weak(y):
        return bool(dx.kind != dy.kind and not (dx.kind in "iu" and dy.kind in "iu"))
    return bool(dx != dy)


def cast_fix(x: Any, y: Any) -> str | None:
    dx, dy = np.asarray(x).dtype if weak(x) else x.dtype, dtype_of(y) or np.asarray(y).dtype
    if weak(x) and dx.kind == "i" and dy.kind == "f":
        return f"start from {x}.0"
    return None if weak(x) or weak(y) else f".astype(np.{dx}) of the result"


def cond(pred: Any, true_fun: Any, false_fun: Any, *operands: Any) -> Any:
    """true_fun(*operands) if pred else false_fun(*operands).

    With one condition only the side that is taken runs. With a condition that differs from lane to
    lane (under `vmap`) both run and the results are chosen lane by lane; the lanes that do not take
    a side compute it on the operands of a lane that does. While a function is being staged both
    sides are in the graph, on the operands as they are: they must be safe to compute.

    Args:
        pred: one boolean, or a number that is compared with 0.
        true_fun, false_fun: functions of the operands with results of one structure.
        operands: pytrees.

    Raises:
        ShapeError: pred is not one number, or a leaf of the results has two shapes.
        ArgumentError: the results differ in structure.
        DTypeError: a leaf of the results has two dtypes.

    >>> import numpy as np, wengert as wg
    >>> def root(x):
    ...     return cond(x > 0, np.sqrt, lambda x: 0.0 * x, x)
    >>> wg.vmap(wg.grad(root))(np.array([-4.0, 0.0, 4.0]))
    array([0.  , 0.  , 0.25])
    """
    what = "cond(pred, true_fun, false_fun)"
    named = [
        (name, function(what, name, f))
        for name, f in (("false_fun", false_fun), ("true_fun", true_fun))
    ]
    choice = Choice(what, pred, "biufc")
    if not choice.levels and not choice.traced:
        return call(what, *named[bool(choice.plain)], *operands)
    value = choice.value if choice.value.dtype.kind == "b" else bind(e.ne, choice.value, 0)
    plain = None if choice.traced else np.asarray(choice.plain != 0)
    other = bind(e.logical_not, value)
    sides = [(other, None if plain is None else ~plain), (value, plain)]

    def run(k: int, safe: Any) -> Any:
        return call(what, *named[k], *tree.map(safe, operands))

    return chosen_lanes(what, sides, ("false_fun's result", "true_fun's result"), choice, run)


def switch(index: Any, branches: Sequence[Any], *operands: Any) -> Any:
    """branches[index](*operands), with the index clamped to those that there are.

    Args:
        index: an integer; under `vmap` it may differ from lane to lane, as in `cond`.
        branches: functions of the operands with results of one structure.
        operands: pytrees.

    Raises:
        ArgumentError: there is no branch, or the results differ in structure.
        DTypeError: the index is not an integer, or a leaf of the results has two dtypes.

    >>> import numpy as np, wengert as wg
    >>> switch(1, [np.sin, np.cos], 0.0)
    np.float64(1.0)
    >>> f = lambda i, x: switch(i, [np.square, np.negative, np.exp], x)
    >>> wg.vmap(f)(np.array([0, 1, 7]), np.array([3.0, 3.0, 0.0]))
    array([ 9., -3.,  1.])
    """
    what = "switch(index, branches)"
    branches = items(what, "branches", branches, "functions")
    if not branches or not all(callable(b) for b in branches):
        raise ArgumentError(what, "branches is a sequence of one or more functions")
    choice = Choice(what, index, "iu")
    last = len(branches) - 1
    if not choice.levels and not choice.traced:
        k = min(max(int(choice.plain), 0), last)
        return call(what, f"branch {k}", branches[k], *operands)
    below = [bind(e.le, choice.value, 0)] + [bind(e.eq, choice.value, k) for k in range(1, last)]
    below.append(bind(e.ge, choice.value, last) if last else bind(e.ge, choice.value, choice.value))
    plain = None if choice.traced else np.clip(choice.plain, 0, last)
    sides = [(b, None if plain is None else np.asarray(plain == k)) for k, b in enumerate(below)]
    if not last:
        return call(what, "branch 0", branches[0], *operands)

    def run(k: int, safe: Any) -> Any:
        return call(what, f"branch {k}", branches[k], *tree.map(safe, operands))

    names = [f"branch {k}'s result" for k in range(last + 1)]
    return chosen_lanes(what, sides, names, choice, run)


# ------------------------------------------------------------------ loops


class Carry:
    """The state of a loop as leaves, and the check that a step leaves it as it was."""

    def __init__(self, what: str, init: Any) -> None:
        self.what = what
        self.first, self.structure = tree.flatten(init)
        for x, p in zip(self.first, tree.paths(self.structure, "init")):
            if not (isinstance(x, Tensor | np.ndarray | np.generic) or weak(x) or traced(x)):
                raise DTypeError(what, "the state of a loop is a tree of arrays", operands=[(p, x)])

    def whole(self, leaves: Sequence[Any]) -> Any:
        return tree.unflatten(self.structure, leaves)

    def after(self, old: list[Any], value: Any) -> list[Any]:
        """The leaves of a new state, which has to be like the old one."""
        new, structure = tree.flatten(value)
        if structure != self.structure or any(
            shape_of(x) != shape_of(y) or kind_clash(x, y) for x, y in zip(old, new)
        ):
            alike(self.what, ("init", old, self.structure), ("the new state", new, structure))
        return new


Step = Callable[[int, list[Any]], "tuple[list[Any], list[Any]] | None"]


def steps(step: Step, n: int | None, state: list[Any]) -> Iterator[tuple[list[Any], list[Any]]]:
    """(state, what the step gives out) after each step; a step that gives None is not taken."""
    k = 0
    while n is None or k < n:
        got = step(k, state)
        if got is None:
            return
        state = got[0]
        yield got
        k += 1


def while_loop(cond_fun: Any, body_fun: Any, init_val: Any, *, checkpoint: Any = False) -> Any:
    """val = init_val;  while cond_fun(val): val = body_fun(val).

    Reverse mode works for any number of steps, which need not be known. Under `vmap` the loop runs
    until the last lane is done; a lane that is done keeps its value.

    Args:
        cond_fun: state -> one boolean.
        body_fun: state -> the next state, of the same structure, shapes and dtypes.
        init_val: a pytree of arrays.
        checkpoint: keep few states and compute the others again in the reverse sweep: True for
            O(log T) of them, or how many.

    Raises:
        LevelError: while a function is being staged, a condition without a value.
        ArgumentError, ShapeError, DTypeError: the new state is not like the old one.

    >>> import numpy as np, wengert as wg
    >>> def root(a):
    ...     def improve(x):
    ...         return (x + a / x) / 2
    ...     return while_loop(lambda x: abs(x * x - a) > 1e-12, improve, a)
    >>> print(f"{wg.grad(root)(4.0):.6f}")
    0.250000
    """
    what = "while_loop(cond_fun, body_fun, init_val)"
    function(what, "cond_fun", cond_fun)
    function(what, "body_fun", body_fun)
    carry = Carry(what, init_val)

    def step(_: int, state: list[Any]) -> Any:
        val = carry.whole(state)
        choice = Choice("while_loop: cond_fun(val)", call(what, "cond_fun", cond_fun, val), "biufc")
        if choice.traced:
            raise LevelError(
                what,
                "the condition has no value while the function is being staged",
                fix="fori_loop or scan with a known number of steps, and wg.cond inside",
            )
        mask = np.asarray(choice.plain != 0)
        if not mask.any():
            return None
        if mask.all():
            return carry.after(state, call(what, "body_fun", body_fun, val)), []
        there = choice.value if choice.value.dtype.kind == "b" else bind(e.ne, choice.value, 0)
        safe = [stand_in(there, mask, choice.levels, x) for x in state]
        new = carry.after(state, call(what, "body_fun", body_fun, carry.whole(safe)))
        return [
            y if x is y else bind(e.where, there, plain_or(y), plain_or(x))
            for x, y in zip(state, new)
        ], []

    state, _ = looped(step, None, carry, checkpoint, (cond_fun, body_fun))
    return carry.whole(state)


def fori_loop(
    lower: Any, upper: Any, body_fun: Any, init_val: Any, *, checkpoint: Any = False
) -> Any:
    """val = init_val;  for i in range(lower, upper): val = body_fun(i, val).

    Args:
        lower, upper: integers; under `vmap` they may differ from lane to lane.
        body_fun: (i, state) -> the next state, of the same structure, shapes and dtypes.
        init_val: a pytree of arrays.
        checkpoint: as in `while_loop`.

    Raises:
        LevelError: a bound without a value, while a function is being staged.
        ArgumentError, ShapeError, DTypeError: the new state is not like the old one.

    >>> import wengert as wg
    >>> wg.grad(lambda x: fori_loop(0, 5, lambda i, v: v * x, 1.0))(2.0)
    np.float64(80.0)
    """
    what = "fori_loop(lower, upper, body_fun, init_val)"
    function(what, "body_fun", body_fun)
    bounds = [Choice(f"fori_loop: {n}", v, "iu") for n, v in (("lower", lower), ("upper", upper))]
    if any(b.traced for b in bounds):
        raise LevelError(
            what,
            "the number of steps has no value while the function is being staged",
            fix="integers as the bounds, and wg.where inside for the steps that do not count",
        )
    if any(b.levels for b in bounds):
        return while_loop(
            lambda s: bind(e.lt, s[0], upper),
            lambda s: (s[0] + 1, call(what, "body_fun", body_fun, s[0], s[1])),
            (lower if isinstance(lower, Tensor) else np.asarray(lower), init_val),
            checkpoint=checkpoint,
        )[1]
    start, stop = (operator.index(np.asarray(b.plain)[()]) for b in bounds)
    carry = Carry(what, init_val)

    def step(k: int, state: list[Any]) -> Any:
        new = call(what, "body_fun", body_fun, start + k, carry.whole(state))
        return carry.after(state, new), []

    state, _ = looped(step, max(stop - start, 0), carry, checkpoint, body_fun)
    return carry.whole(state)


def scan(
    f: Any,
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
    *,
    checkpoint: Any = False,
) -> Any:
    """A loop over the leading axis:  carry, y[t] = f(carry, x[t]);  gives (carry, all y stacked).

    Args:
        f: (state, slice) -> (the next state, y): pytrees; the state keeps its structure, shapes and
            dtypes.
        init: the first state.
        xs: a pytree of arrays with one leading axis of T steps, or None.
        length: T, needed when xs is None.
        reverse: from the last slice to the first; y[t] still belongs to x[t].
        unroll: accepted for the signature's sake; every step runs as it comes.
        checkpoint: keep few states and compute the others again in the reverse sweep: True for
            O(log T) of them, or how many (Griewank & Walther, Algorithm 799: revolve, 2000).

    Raises:
        ArgumentError: leading axes of different lengths, none at all, or a state of another
            structure.
        ShapeError, DTypeError: the new state is not like the old one.

    >>> import numpy as np, wengert as wg
    >>> scan(lambda c, x: (c + x, c * x), 0.0, np.array([1.0, 2.0, 3.0]))
    (np.float64(6.0), array([0., 2., 9.]))
    """
    what = "scan(f, init, xs)"
    function(what, "f", f)
    count(what, "unroll", int(unroll) if isinstance(unroll, bool) else unroll)
    count(what, "length", length, optional=True)
    slices, xs_tree = tree.flatten(xs)
    slices = [plain_or(x) if checkpoint is False else own(plain_or(x)) for x in slices]
    n = steps_of(what, slices, xs_tree, length)
    carry = Carry(what, init)
    ys_tree: Any = None

    def step(k: int, state: list[Any]) -> Any:
        nonlocal ys_tree
        i = n - 1 - k if reverse else k
        x = tree.unflatten(
            xs_tree,
            [s[i] if isinstance(s, np.ndarray) else bind(GetItem((i,)), s) for s in slices],
        )
        value, y = pair(what, call(what, "f", f, carry.whole(state), x))
        new = carry.after(state, value)
        ys, structure = tree.flatten(y)
        if ys_tree is None:
            ys_tree = structure
        elif structure != ys_tree:
            raise ArgumentError(
                what,
                f"y has another structure in step {k} than before",
                operands=[("y", verbatim(structure)), ("before", verbatim(ys_tree))],
            )
        return new, [plain_or(v) for v in ys]

    if n == 0:
        empty = [np.zeros(shape_of(s)[1:], dtype_of(s)) for s in slices]
        with np.errstate(all="ignore"):
            _, y = pair(what, call(what, "f", f, init, tree.unflatten(xs_tree, empty)))
        none = tree.map(lambda v: np.zeros((0, *shape_of(v)), dtype_of(v) or float), y)
        return init, none
    state, rows = looped(step, n, carry, checkpoint, f, reverse)
    return carry.whole(state), tree.unflatten(ys_tree, rows)


def pair(what: str, got: Any) -> tuple[Any, Any]:
    if not isinstance(got, tuple) or len(got) != 2:
        raise ArgumentError(
            what,
            "f gives a pair: the new state, and what is stacked",
            operands=[("f gave", verbatim(tree.flatten(got)[1]))],
            fix="return state, None where nothing is to be stacked",
        )
    return got


def steps_of(what: str, slices: list[Any], structure: Any, length: int | None) -> int:
    """The common length of the leading axes."""
    paths = tree.paths(structure, "xs")
    sizes: dict[str, int] = {} if length is None else {"length": int(length)}
    for x, p in zip(slices, paths):
        if not shape_of(x):
            raise ArgumentError(what, "there is no leading axis to go along", operands=[(p, x)])
        sizes[p] = shape_of(x)[0]
    if not sizes:
        raise ArgumentError(what, "xs is empty and length is not given", fix="length=T")
    if len(set(sizes.values())) > 1:
        text = ", ".join(f"{p}: {n}" for p, n in sizes.items())
        raise ArgumentError(what, f"leading axes of different lengths: {text}")
    return next(iter(sizes.values()))


def looped(
    step: Step, n: int | None, carry: Carry, checkpoint: Any, body: Any, reverse: bool = False
) -> tuple[list[Any], list[Any]]:
    """The last state, and the stacked outputs of all steps."""

    def pile(parts: list[Any]) -> Any:
        return stacked(carry.what, parts, reverse)

    if checkpoint is not False:
        return run(carry.what, body, step, n, carry.first, checkpoint, pile, reverse)
    last = carry.first
    rows: list[list[Any]] = []
    for state, ys in steps(step, n, carry.first):
        last = state
        if ys:
            rows.append(ys)
    return last, [pile(list(c)) for c in zip(*rows)]


def stacked(what: str, parts: list[Any], reverse: bool = False) -> Any:
    """One array with the parts along a new first axis."""
    shape = shape_of(parts[0])
    for k, p in enumerate(parts):
        if shape_of(p) != shape:
            raise ShapeError(
                what,
                f"y has another shape in step {k} than in step 0",
                operands=[("step 0", parts[0]), (f"step {k}", p)],
            )
    if reverse:
        parts.reverse()
    if all(isinstance(p, np.ndarray | np.generic) for p in parts):
        return np.stack(parts)
    parts = [bind(Reshape((1, *shape)), p) for p in parts]
    while len(parts) > 1:  # a few at a time: a node of a hundred thousand parents is slow to make
        parts = [joined(parts[i : i + 256]) for i in range(0, len(parts), 256)]
    return parts[0]


def joined(parts: list[Any]) -> Any:
    return bind(Concatenate(0), *parts) if len(parts) > 1 else parts[0]


def map(f: Any, xs: Any, *, batch_size: int | None = None, checkpoint: Any = False) -> Any:
    """f of every slice along the leading axis, one after the other, and the results stacked.

    It needs the memory of one slice where `vmap` needs that of all.

    Args:
        f: a function of one pytree.
        xs: a pytree of arrays with one leading axis.
        batch_size: take so many slices at a time, by `vmap`.
        checkpoint: compute every slice again in the reverse sweep and keep nothing of it.

    Raises:
        ArgumentError: leading axes of different lengths, or a batch_size below 1.

    >>> import numpy as np
    >>> map(lambda x: np.sum(x ** 2), np.arange(6.0).reshape(3, 2))
    array([ 1., 13., 41.])
    """
    what = "map(f, xs)"
    function(what, "f", f)
    if batch_size is None:
        steps_of(what, *tree.flatten(tree.map(plain_or, xs)), None)
        return scan(lambda c, x: (c, call(what, "f", f, x)), (), xs, checkpoint=checkpoint)[1]
    count(what, "batch_size", batch_size, 1)
    slices, structure = tree.flatten(xs)
    slices = [plain_or(x) for x in slices]
    n = steps_of(what, slices, structure, None)
    runs = []
    for i in range(0, max(n, 1), batch_size):
        at = GetItem((slice(i, i + batch_size),))
        runs.append(vmap(f)(tree.unflatten(structure, [bind(at, x) for x in slices])))
    return tree.map(lambda *parts: joined(list(parts)), *runs)
