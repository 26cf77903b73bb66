"""The tangent map of a function as a function of its own, and the transpose of a linear function.

`linearize` runs forward mode on a level that writes down what happens to the tangents: a list of
linear operations, which is then run for every new tangent without the function itself.
`linear_transpose` records a function on a tape that refuses every operation that is not linear.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import tree
from ..errors import DTypeError, ShapeError, UnsupportedError, verbatim
from ..given import call, function, numeric
from ..ops.index import Write
from ..owned import own
from ..primitive import Linear, Multilinear, parameters
from ..trace import Leaf, Level, Tensor, View, bind, cut, decay, make, modes, push
from ..types import RAW, dtype_of, is_inexact, shape_of
from .between import pull_between
from .jvp import handed_out, inward, jvp, lower, reordered, surfaced, tangent_of
from .store import store_into
from .tape import Tape, disconnected
from .vjp import check_inputs, fitting

__all__ = ["linear_transpose", "linearize"]


# ------------------------------------------------------------------ a list of linear operations


class Slot(Tensor):
    """A value that depends on the tangents: `node` is its place in the list, None for none."""

    __slots__ = ()


class Place(int):
    """An operand that is computed, not a constant."""


Line = tuple[Any, tuple[Any, ...], tuple[int, ...]]


class Program(Level):
    """Writes down (operation, operands, places of its results) for all that meets a tangent.

    It stands below forward mode, so that it sees nothing else. A constant operand is an array or a
    value of a level below.
    """

    __slots__ = ("lines", "n")
    cls = Slot

    def __init__(self, depth: int) -> None:
        Level.__init__(self, depth)
        self.lines: list[Line] = []
        self.n = 0

    def slot(self, data: Any) -> Slot:
        self.n += 1
        t = make(data, Place(self.n - 1), self, Slot)
        assert isinstance(t, Slot)
        return t

    def operand(self, x: Any) -> tuple[Any, Any]:
        """(its value now, what the list says of it)."""
        if isinstance(x, Tensor):
            if x.level is self:
                return (x.data, x.node) if x.node is not None else self.operand(x.data)
            kind = Tensor if type(x) is View else type(x)
            return x, make(x.data, x.node, x.level, kind)  # later writes do not reach it
        return x, own(x)

    def process(self, op: Any, xs: Any) -> Any:
        values, operands = zip(*[self.operand(x) for x in xs])
        y = op(*values)
        many = op.outputs > 1
        out = [self.slot(v) for v in (y if many else (y,))]
        self.lines.append((op, operands, tuple([s.node for s in out])))
        return tuple(out) if many else out[0]

    def write(self, x: Tensor, path: tuple[Any, ...], v: Any) -> None:
        _, before = self.operand(x)
        value, operand = self.operand(v)
        store_into(x, path, value)
        if isinstance(before, Place) or isinstance(operand, Place):
            self.n += 1
            x.node = Place(self.n - 1)
            self.lines.append((Write(path), (before, operand), (x.node,)))

    def detach(self, t: Tensor) -> Any:
        return t.data.detach() if isinstance(t.data, Tensor) else cut(t.data)


class Tangents:
    """A list of linear operations that gives some results; the others of its lines are dropped."""

    def __init__(self, lines: list[Line], inputs: int, results: list[Any]) -> None:
        needed = {r for r in results if isinstance(r, Place)}
        kept = []
        for op, operands, places in reversed(lines):
            if needed.isdisjoint(places):
                continue
            last = {a for a in operands if isinstance(a, Place)} - needed
            needed |= last
            kept.append((op, operands, places, [a for a in last if a >= inputs]))
        self.lines, self.results = kept[::-1], results

    def __call__(self, inputs: list[Any]) -> list[Any]:
        values: dict[int, Any] = dict(enumerate(inputs))
        with np.errstate(all="ignore"):
            for op, operands, places, done in self.lines:
                y = bind(op, *[values[a] if type(a) is Place else a for a in operands])
                values.update(zip(places, y if len(places) > 1 else (y,)))
                for place in done:
                    del values[place]
        return [values[r] if type(r) is Place else decay(r) for r in self.results]


def linearize(f: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """Value and tangent map:  y = f(x), and dx -> J_f(x) dx without running f again.

    f runs once, in forward mode. The tangent map repeats what was done to the tangents alone; it
    is linear, so that it can be differentiated, batched and transposed.

    Args:
        f: a function of pytrees of arrays.
        primals: its arguments x.
        has_aux: f returns (value, aux); the result is then (value, tangent map, aux).

    Returns:
        (y, f_jvp): f_jvp takes tangents of the structure, shapes and dtypes of the arguments.

    >>> import numpy as np
    >>> y, f_jvp = linearize(lambda x: np.sin(x) * x, 2.0)
    >>> f_jvp(1.0) == jvp(lambda x: np.sin(x) * x, (2.0,), (1.0,))[1]
    np.True_
    """
    xs, structure = tree.flatten(primals)
    check_inputs("linearize", xs, tree.paths(structure))
    xs = [inward(x) for x in xs]
    wrap = any(isinstance(x, Tensor) for x in tree.leaves(primals))
    with push(Program) as level:
        seeds = [level.slot(np.zeros(shape_of(x), dtype_of(x))) for x in xs]
        function("linearize(f, *primals)", "f", f)
        out = jvp(f, tree.unflatten(structure, xs), tree.unflatten(structure, seeds), has_aux)
        y, dy = out[:2]
        aux = out[2:]
        slopes, shape = tree.flatten(dy)
        slopes = [surfaced(d, level) for d in slopes]
        results = [level.operand(d)[1] for d in slopes]
    run = Tangents(level.lines, len(xs), results)
    level.lines = []  # a rule's operation may hold values of this level, which closes a circle

    def f_jvp(*tangents: Any) -> Any:
        dxs, other = tree.flatten(tangents)
        if other != structure:
            dxs, other = reordered(structure, tangents, dxs, other)
        if other != structure:
            raise ShapeError(
                "f_jvp(*tangents)",
                "tangents have the structure of the arguments",
                operands=[("arguments", verbatim(str(structure))),
                          ("tangents", verbatim(str(other)))],
            )  # fmt: skip
        again = wrap or any(isinstance(d, Tensor) for d in dxs)
        got = run([tangent_of(x, d) for x, d in zip(xs, dxs)])
        return tree.unflatten(shape, handed_out(got, again))

    leaves, shape_y = tree.flatten(y)
    y = tree.unflatten(shape_y, handed_out([decay(v) for v in leaves], wrap))
    return (y, f_jvp, *[lower(a) for a in aux])


# ------------------------------------------------------------------ transposition


class LinearTape(Tape):
    """A tape for functions that are linear: it records them, and refuses the others."""

    __slots__ = ()

    def process(self, op: Any, xs: Any) -> Any:
        with np.errstate(all="ignore"):  # it runs at zero, where a function need not be defined
            return Tape.process(self, op, xs)

    def record(self, op: Any, xs: Any, values: Any, mask: int, nodes: Any, y: Any) -> Any:
        if not is_linear(op, mask, y):
            raise UnsupportedError(
                "linear_transpose(f)",
                f"f is not linear: {op!r} of what depends on its arguments is not",
                operands=[(f"operand {i}", v) for i, v in enumerate(values)],
                fix="wg.linearize(f, x) for its tangent map, wg.vjp(f, x) for that one's transpose",
            )
        return Tape.record(self, op, xs, values, mask, nodes, y)

    def primal(self, t: Tensor) -> Any:
        if not self.alive or t.node is None:
            return t.data
        raise UnsupportedError(
            "linear_transpose(f)",
            "f is not linear: it reads the number in a value that depends on its arguments",
            operands=[("value", t)],
        )


def is_linear(op: Any, mask: int, y: Any) -> bool:
    """Whether an operation is affine in the operands of the mask together."""
    live = [i for i in range(mask.bit_length()) if mask >> i & 1]
    rule = op.rule(mask)
    if rule is None or len(rule.live) != len(live):
        return False
    if op.outputs == 1 and not is_inexact(dtype_of(y)):
        return False
    if isinstance(op, Linear):
        return True
    if isinstance(op, Multilinear):
        return len(live) == 1
    if op.variadic:
        return False
    point = {"y", "xs", *[op.args[i] for i in live]}
    forward = getattr(op, "forward", None)  # real(x) pulls by the dtype of x, and pushes by nothing
    reads = rule.names if forward is None else parameters(forward)[1:]
    return point.isdisjoint(reads)  # else its derivative depends on the point


def linear_transpose(f: Callable[..., Any], *primals: Any) -> Callable[..., Any]:
    """The transpose of a linear function:  <gy, f(x)> = <f^T(gy), x>.

    Args:
        f: a linear function of pytrees of arrays.
        primals: what its arguments are like: arrays, or anything with a shape and a dtype. Their
            numbers are not used.

    Returns:
        a function of a cotangent of f's value, that gives a tuple with one for each argument.

    Raises:
        UnsupportedError: f is not linear; says which operation is not.

    >>> import numpy as np
    >>> back = linear_transpose(lambda x: np.cumsum(2.0 * x), np.zeros(3))
    >>> back(np.array([1.0, 10.0, 100.0]))
    (array([222., 220., 200.]),)
    """
    function("linear_transpose(f, x)", "f", f)
    like, structure = tree.flatten(primals)
    for x, p in zip(like, tree.paths(structure)):
        if not is_inexact(dtype_of(x)) and type(x) not in (float, complex):
            raise DTypeError(
                "linear_transpose(f, x)", "linear functions are of floating-point values",
                operands=[("x" + p, x)],
            )  # fmt: skip
    wrap = any(isinstance(x, Tensor) for x in like)
    with push(LinearTape) as level:
        leaves = [Leaf(level) for _ in like]
        zeros = [np.zeros(shape_of(x), dtype_of(x) or type(x)) for x in like]
        ts = [make(x, n, level) for x, n in zip(zeros, leaves)]
        modes(1)  # the fast road records without asking whether an operation is linear
        try:
            given = tree.unflatten(structure, ts)
            ys, shape = tree.flatten(call("linear_transpose(f, x)", "f", f, *given))
            numeric("linear_transpose(f, x)", lambda: tree.paths(shape, "f(x)"), ys)
            ys = [surfaced(y, level) for y in ys]
        finally:
            modes(-1)
    values, nodes = [], []
    for y in ys:
        mine = isinstance(y, Tensor) and y.level is level
        value = y.data if mine else decay(y)
        values.append(value)
        nodes.append(y.node if mine else None)
        if isinstance(value, RAW) and np.any((value != 0) & ~np.isnan(value)):
            raise UnsupportedError(
                "linear_transpose(f)",
                "f is not linear: f(0) is not 0",
                operands=[("f(0)", verbatim(str(value)))],
                fix="leave out the constant: lambda x: f(x) - f(0)",
            )
        if nodes[-1] is None and level.breaks:
            raise disconnected("linear_transpose(f)", "the value", level)

    def transpose(cotangent: Any) -> Any:
        gs, other = tree.flatten(cotangent)
        if other != shape:
            gs, other = reordered(shape, cotangent, gs, other)
        if other != shape:
            raise ShapeError(
                "transpose(cotangent)",
                "the cotangent has the structure of the value",
                operands=[("value", verbatim(str(shape))), ("cotangent", verbatim(str(other)))],
            )
        roots = [(n, fitting(g, v)) for n, g, v in zip(nodes, gs, values) if n is not None]
        found = pull_between(roots, set(leaves), lambda _: True)
        got = [found.get(n, np.zeros(x.shape, x.dtype)) for n, x in zip(leaves, zeros)]
        again = wrap or any(isinstance(g, Tensor) for g in gs)
        return tree.unflatten(structure, handed_out(got, again))

    return transpose
