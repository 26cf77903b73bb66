"""Reading a program as a formula: it runs once on symbols, and each operation gives its form."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import trace, tree
from ..errors import ArgumentError, DTypeError, LevelError, UnsupportedError
from ..graph import Graph, Var
from ..trace import HERE, Tensor, View, make, modes
from ..transforms.jvp import inward
from ..transforms.staging import Tracer
from ..types import Array, Aval, is_inexact
from .forms import boxed, constants, form, sp

__all__ = ["Reading", "expression", "read", "symbols"]


class Formulas(Graph):
    """A graph that knows the closed form of each of its variables."""

    def __init__(self, touched: dict[int, Any]) -> None:
        super().__init__()
        self.forms: dict[int, Any] = {}
        self.touched = touched  # the tensors that the program closes over: constants

    def value(self, x: Any) -> Any:
        if not isinstance(x, Var):
            return constants(x)
        if x.n not in self.forms:
            data = next(data for _, data, v, *_ in self.touched.values() if v is x)
            self.forms[x.n] = constants(data)
        return self.forms[x.n]

    def emit(self, op: Any, xs: Any) -> Any:
        out = super().emit(op, xs)
        y = form(op, [self.value(x) for x in xs])
        outs, ys = (out, y) if isinstance(out, tuple) else ((out,), (y,))
        for v, part in zip(outs, ys, strict=True):
            if part.shape != v.shape:
                raise UnsupportedError(f"{op!r}", f"its form has shape {part.shape}, not {v.shape}")
            self.forms[v.n] = part
        return out


class Reader(Tracer):
    def __init__(self) -> None:
        super().__init__()
        self.graph: Formulas = Formulas(self.touched)


class Reading:
    """What a program computes: its symbols, argument by argument, and its values.

    Attributes:
        symbols: for each argument, its symbols in the argument's structure and shape.
        flat: every symbol, in order.
        value: the closed forms, in the structure of the program's value.
        leaves: the object arrays of closed forms, one for each array of the value.
        graph: the operations, with the form of each variable in `graph.forms`.
        outputs: the variables of the graph, or constants, that the program returns.
    """

    def __init__(
        self, graph: Formulas, symbols: list[Any], inputs: list[Var], ys: list[Any], out: Any
    ) -> None:
        self.graph, self.symbols, self.inputs, self.structure = graph, symbols, inputs, out
        self.outputs = ys
        self.leaves = [graph.value(y) for y in ys]
        self.flat = [graph.forms[v.n][i] for v in inputs for i in np.ndindex(*v.shape)]

    @property
    def value(self) -> Any:
        return tree.unflatten(self.structure, [shown(y) for y in self.leaves])


def shown(y: Any) -> Any:
    """An object array as SymPy shows it: a number, or an array of numbers."""
    if y.shape == ():
        return y[()]
    return sp.ImmutableDenseNDimArray(list(y.flat), y.shape)


def names_of(f: Callable[..., Any], n: int) -> list[str]:
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):  # a builtin without a signature
        parameters = ()  # type: ignore[assignment]
    plain = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return (plain + [f"a{i}" for i in range(len(plain), n)])[:n]


def is_symbolic(x: Any) -> bool:
    return isinstance(x, sp.Basic) or (isinstance(x, np.ndarray) and x.dtype == object)


def is_shape(x: Any) -> bool:
    return isinstance(x, tuple) and all(type(n) is int for n in x)


def named(name: str, shape: tuple[int, ...], taken: set[Any]) -> Any:
    """An object array of real symbols: x0, x1, .. or x00, x01, .. (x_1_10 where that is unclear).

    None of them is among those taken, which they join.
    """
    y = np.empty(shape, object)
    link = "" if all(n <= 10 for n in shape) else "_"
    while True:
        for i in np.ndindex(*shape):
            y[i] = sp.Symbol(name + link.join(["", *map(str, i)]), real=True)
        if taken.isdisjoint(y.flat):
            taken.update(y.flat)
            return y
        name += "_"


def given_symbols(x: Any) -> Any:
    """Symbols of the user's own, as an object array."""
    y = boxed(np.array(x.tolist(), object)) if hasattr(x, "tolist") else boxed(x)
    for v in y.flat:
        if any(not s.is_extended_real for s in v.free_symbols):
            raise ArgumentError(
                f"the symbol {v}", "it is not known to be real",
                fix=f"sympy.Symbol({str(v)!r}, real=True)" if v.is_Symbol else None,
            )  # fmt: skip
    return y


def operand(name: str, x: Any, taken: set[Any]) -> Any:
    """The symbols of one array argument; None for integers, which are not differentiated."""
    if is_symbolic(x):
        return given_symbols(x)
    if is_shape(x):
        return named(name, x, taken)
    if isinstance(x, bool | int) or not is_inexact(np.asarray(inward(x)).dtype):
        return None
    a = np.asarray(inward(x))
    if a.dtype.kind == "c":
        raise DTypeError(
            "wg.symbolic",
            "symbols are real numbers",
            operands=[(name, a)],
            fix=f"a function of {name}.real and {name}.imag",
        )
    return named(name, a.shape, taken)


def read(f: Callable[..., Any], *args: Any) -> Reading:
    """Run f once on symbols.

    Args:
        f: a function of arrays, or of dicts and lists of them.
        args: for each argument an array whose shape counts, a shape (a tuple of ints), or SymPy
            symbols of your own; integers and arrays of them go in as they are.

    Returns:
        the symbols and the closed forms.

    Raises:
        LevelError: f branches on a value, or loops until one: that has no closed form.
        UnsupportedError: an operation has no form in SymPy; the message names it and its line.
    """
    reader = Reader()
    graph = reader.graph
    inputs: list[Var] = []
    own = [given_symbols(x) for x in args if is_symbolic(x)]
    taken = {s for y in own for v in y.flat for s in v.free_symbols}

    def enter(name: str, x: Any) -> tuple[Any, Any]:
        xs = operand(name, x, taken)
        if xs is None:
            return x, x
        v = graph.input(Aval(xs.shape, np.dtype(np.float64)))
        graph.forms[v.n] = xs
        inputs.append(v)
        return make(v, None, trace.EAGER), shown(xs)

    given: list[Any] = []
    known: list[Any] = []
    for name, arg in zip(names_of(f, len(args)), args):
        if is_shape(arg) or is_symbolic(arg):
            pair = enter(name, arg)
        else:
            leaves, structure = tree.flatten(arg)
            ends = [tidy(path) for path in tree.paths(structure)]
            pairs = [enter(name + (end and "_" + end), x) for end, x in zip(ends, leaves)]
            pair = tuple(tree.unflatten(structure, list(parts)) for parts in zip(*pairs))
        given.append(pair[0])
        known.append(pair[1])
    old = getattr(HERE, "trace", None)
    HERE.trace = reader
    modes(1)
    try:
        out = f(*given)
        ys, structure = tree.flatten(out)
        ys = [y.look() if type(y) is View else y for y in ys]
        result = Reading(
            graph, known, inputs, [y.data if isinstance(y, Tensor) else y for y in ys], structure
        )
    except LevelError as error:
        if "not known while" not in error.rule:
            raise
        raise LevelError(
            error.what,
            "a branch on a value has no closed form, nor has a loop until one, nor float(x)",
            fix="write wg.where(condition, a, b); a loop needs a fixed number of turns",
            at=error.at,
        ) from None
    finally:
        HERE.trace = old
        modes(-1)
        reader.restore()
    return result


def tidy(path: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in path).strip("_")


def symbols(f: Callable[..., Any], *args: Any) -> Any:
    """The symbols that stand for the arguments of f: one value for one argument, else a tuple.

    >>> import numpy as np
    >>> symbols(lambda x, w: w @ x, (2,), (2, 2))
    ([x0, x1], [[w00, w01], [w10, w11]])
    """
    known = read(f, *args).symbols
    return known[0] if len(known) == 1 else tuple(known)


def expression(f: Callable[..., Any], *args: Any, simplify: bool = False) -> Any:
    """The closed form of a program.

    Args:
        f: a function of arrays, written with NumPy.
        args: for each argument an array (its shape counts), a shape, or symbols of your own.
        simplify: pass every form through `sympy.simplify`.

    Returns:
        a SymPy number, or an array of them, in the structure of f's value. The symbols are real
        and named after the parameters: x; x0, x1, ..; x00, x01, ..

    Raises:
        LevelError: f branches on a value: write `wg.where`.
        UnsupportedError: an operation has no form in SymPy.

    Example:
        >>> import numpy as np
        >>> expression(lambda x: np.sum(np.tanh(x) ** 2) / 2, np.ones(2))
        tanh(x0)**2/2 + tanh(x1)**2/2
    """
    reading = read(f, *args)
    if simplify:
        reading.leaves = [simplified(y) for y in reading.leaves]
    return reading.value


def simplified(y: Array) -> Any:
    z = np.empty(y.shape, object)
    for i in np.ndindex(*y.shape):
        z[i] = sp.simplify(y[i])
    return z
