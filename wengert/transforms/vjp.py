"""Reverse mode as a transform: vjp, grad and value_and_grad of functions of pytrees."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from functools import partial, wraps
from typing import Any

import numpy as np

from .. import trace, tree
from ..errors import ArgumentError, DTypeError, NonScalarError, ShapeError
from ..given import call, function, numeric
from ..owned import own
from ..primitive import Linear, Rule
from ..structural import cast, densify
from ..trace import Leaf, Level, Node, Tensor, decay, looked, make, push, seq
from ..types import dtype_of, is_inexact, shape_of
from .conventions import chosen
from .jvp import handed_out, inward, is_complex, lower, reordered, surfaced, with_aux
from .severed import disconnected, warn_cut
from .tape import Tape, ones_like, sweep

__all__ = ["grad", "value_and_grad", "vjp"]


class Recorded:
    """One run of f under a tape of its own: the output leaves, and the leaves they came from."""

    def __init__(
        self,
        f: Callable[..., Any],
        xs: list[Any],
        build: Callable[[list[Any]], Any],
        names: Callable[[], list[str]] | None = None,
    ) -> None:
        self.wrap = any(isinstance(x, Tensor) for x in xs)
        self.xs = [own(inward(x)) for x in xs]
        with push(Tape) as level:
            self.level: Level = level
            self.leaves = [Leaf(level) for _ in xs]
            if names is not None and trace.MODES:
                for leaf, name in zip(self.leaves, names()):
                    leaf.name = name
            self.out = build([make(x, n, level) for x, n in zip(self.xs, self.leaves)])
            if self.out.__class__ is not Tensor:
                for y in tree.leaves(self.out):
                    looked(y)  # while the level of a view is alive

    def __del__(self) -> None:
        """The notes hold nodes, which hold the level: a circle, and in it what was not swept."""
        if hasattr(self, "level"):
            self.level.breaks = None

    def split(self, y: Any) -> tuple[Any, Any]:
        """(the value below this level, its node or None)."""
        y = surfaced(y, self.level)
        if isinstance(y, Tensor) and y.level is self.level:
            return y.data, y.node
        return decay(y), None

    def pull(self, nodes: list[Any], gs: list[Any], keep: bool) -> list[Any]:
        """The cotangents of the inputs, given those of the outputs: one sweep for all."""
        found: dict[Any, Any] = {}

        def sink(leaf: Any, g: Any) -> None:
            found[leaf] = found[leaf] + g if leaf in found else g

        live = [(n, g) for n, g in zip(nodes, gs) if n is not None]
        with np.errstate(all="ignore"):
            if len(live) == 1:
                sweep(*live[0], keep, None, sink)
            elif live:
                sweep(joined(live), None, keep, None, sink)
        self.missing = [i for i, n in enumerate(self.leaves) if n not in found]
        return [
            found[n] if n in found else np.zeros(shape_of(x), dtype_of(x))
            for n, x in zip(self.leaves, self.xs)
        ]


JOIN = Rule(Linear, (), (), lambda g, *gs: gs)


def joined(live: list[tuple[Any, Any]]) -> Node:
    """A node above several results, so that one sweep serves them all."""
    nodes, gs = zip(*live)
    return Node(seq(), JOIN, nodes, gs, joined.__code__, 0)


def vjp(f: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """Value and pullback:  y = f(x), and the linear map  gy -> J_f(x)^T gy.

    The Jacobian is never formed; one call of the pullback costs a small multiple of f, whatever the
    number of inputs.

    Args:
        f: a function of pytrees of arrays.
        primals: its arguments.
        has_aux: f returns (value, aux); the result is then (value, pullback, aux).

    Returns:
        (value, pullback): pullback takes a cotangent of the value's structure and returns a tuple
        with one cotangent per argument.

    >>> import numpy as np
    >>> y, pull = vjp(lambda a, b: a * b, np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    >>> pull(np.array([1.0, 10.0]))
    (array([ 3., 40.]), array([ 1., 20.]))
    """
    function("vjp(f, *primals)", "f", f)
    xs, structure = tree.flatten(primals)
    check_inputs("vjp", xs, tree.paths(structure))
    names = partial(leaf_names, f, range(len(primals)), structure)
    run = Recorded(
        f, xs, lambda ts: call("vjp(f, *primals)", "f", f, *tree.unflatten(structure, ts)), names
    )
    out, aux = with_aux("vjp", run.out) if has_aux else (run.out, None)
    ys, shape = tree.flatten(out)
    values, nodes = zip(*[run.split(y) for y in ys]) if ys else ((), ())

    def pullback(cotangent: Any) -> Any:
        gs, other = tree.flatten(cotangent)
        if other != shape:
            gs, other = reordered(shape, cotangent, gs, other)
        if other != shape:
            raise ShapeError(
                "pullback(cotangent)",
                "the cotangent has the structure of the value",
                operands=[("value", str(shape)), ("cotangent", str(other))],
            )
        checked = [fitting(g, v) for g, v in zip(gs, values)]
        got = run.pull(list(nodes), checked, keep=True)
        wrap = run.wrap or any(isinstance(g, Tensor) for g in gs)
        return tree.unflatten(structure, handed_out(got, wrap))

    value = tree.unflatten(shape, handed_out(list(values), run.wrap))
    return (value, pullback, lower(aux)) if has_aux else (value, pullback)


def chosen_arguments(what: str, f: Any, argnums: Any) -> tuple[tuple[int, ...], bool]:
    """(the places to differentiate, whether it was one int)."""
    function(f"{what}(f)", "f", f)
    if isinstance(argnums, int | np.integer) and not isinstance(argnums, bool):
        return (int(argnums),), True
    listed = isinstance(argnums, tuple | list | range)
    if listed and all(isinstance(n, int | np.integer) and type(n) is not bool for n in argnums):
        return tuple(int(n) for n in argnums), False
    if isinstance(argnums, str):
        rule, fix_ = "argnums are places of arguments, not names", None
    elif isinstance(argnums, bool) or listed or argnums is None:
        rule, fix_ = "argnums is an int, or a tuple of ints", None
    else:
        called = getattr(f, "__name__", "f")
        called = called if called.isidentifier() else "f"
        shown = repr(argnums) if type(argnums) in (float, complex) else "x"
        rule = f"wg.{what}(f) returns a function; the second argument is argnums, places like 0"
        fix_ = f"wg.{what}({called})({shown})"
    raise ArgumentError(f"{what}(f, argnums)", rule, operands=[("argnums", argnums)], fix=fix_)


def places_of(what: str, nums: tuple[int, ...], args: Sequence[Any]) -> list[int]:
    """Argument numbers that exist, counted from the front."""
    if nums and not -len(args) <= min(nums) <= max(nums) < len(args):
        raise ArgumentError(
            f"{what}(f, argnums)",
            f"argnums {', '.join(map(str, nums))} of {len(args)} positional arguments",
            fix=f"argnums from 0 to {len(args) - 1}"
            if args
            else "pass the arguments that are differentiated by position",
        )
    places = [n % len(args) for n in nums]
    if len(set(places)) != len(places):
        raise ArgumentError(
            f"{what}(f, argnums)", f"{', '.join(map(str, nums))} names an argument twice"
        )
    return places


def check_holomorphic(what: str, xs: list[Any], paths: list[str]) -> None:
    for x, p in zip(xs, paths):
        if not is_complex(x) and type(x) is not complex:
            raise DTypeError(
                f"{what}(f, holomorphic=True)",
                "the derivative of a holomorphic function is taken at complex values",
                operands=[("x" + p, x)],
                fix="x.astype(complex)" if hasattr(x, "dtype") else "complex(x)",
            )


def holomorphic_value(what: str, y: Any) -> None:
    if not is_complex(y):
        raise DTypeError(
            f"{what}(f, holomorphic=True)",
            "the value of a holomorphic function is complex",
            operands=[("value", y)],
            fix=f"wg.{what}(f) for a real value",
        )


def fitting(g: Any, value: Any) -> Any:
    g = inward(g)
    if hasattr(g, "mask"):
        return g
    if shape_of(g) != shape_of(value):
        raise ShapeError(
            "pullback(cotangent)",
            "a cotangent has the shape of its value",
            operands=[("value", value), ("cotangent", g)],
        )
    if is_complex(g) and not is_complex(value):
        raise DTypeError(
            "pullback(cotangent)",
            "the cotangent of a real number is real",
            operands=[("value", value), ("cotangent", g)],
        )
    return g if dtype_of(g) == dtype_of(value) or dtype_of(value) is None else cast(g, value.dtype)


def leaf_names(f: Callable[..., Any], places: Iterable[int], structure: Any) -> list[str]:
    """What the leaves of some positional arguments are called: `x`, `params['w']`, `m.weight`."""
    try:
        declared = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):
        declared = []
    names = []
    for i, child in zip(places, structure.children):
        plain = i < len(declared) and declared[i].kind <= inspect.Parameter.POSITIONAL_OR_KEYWORD
        names += tree.paths(child, declared[i].name if plain else f"argument {i}")
    return names


def other_arguments(f: Callable[..., Any], places: list[int], args: Any) -> list[str]:
    """The positional arguments that are not differentiated and could be: `argnums=1 (x)`."""
    out = []
    for i, x in enumerate(args):
        if i not in places and any(is_inexact(dtype_of(v)) for v in tree.leaves(x)):
            (name, *_) = leaf_names(f, [i], tree.Tree(None, None, (), (tree.LEAF,), 1))
            out.append(f"argnums={i} ({name})")
    return out


def paths_of(structure: Any, one: bool) -> list[str]:
    """The paths of the leaves, from the argument itself when there is only one."""
    return tree.paths(structure.children[0] if one else structure)


def check_inputs(what: str, xs: list[Any], paths: list[str]) -> None:
    for x, p in zip(xs, paths):
        if is_inexact(dtype_of(x)) or type(x) in (float, complex):
            continue
        if dtype_of(x) is None and not isinstance(x, int | list):
            raise DTypeError(
                f"{what}(f)",
                f"an argument is not an array but {type(x).__name__}",
                operands=[("x" + p, x)],
            )
        raise DTypeError(
            f"{what}(f)",
            "derivatives are taken with respect to floating-point values",
            operands=[("x" + p, x)],
            fix=f"{x}.0"
            if isinstance(x, int) and not isinstance(x, bool)
            else f"{{x{p}}}.astype(float)",
        )


def value_and_grad(
    f: Callable[..., Any],
    argnums: int | tuple[int, ...] = 0,
    has_aux: bool = False,
    allow_unused: bool = False,
    holomorphic: bool = False,
) -> Callable[..., Any]:
    """A function that returns (f(x), grad f(x)), in one forward and one reverse pass.

    Args:
        f: a function of pytrees of arrays whose value is one number.
        argnums: which positional argument, or arguments, to differentiate.
        has_aux: f returns (value, aux); the result is then ((value, aux), gradient).
        allow_unused: return zeros where f does not depend on its arguments, instead of refusing.
        holomorphic: f is complex differentiable, of complex arguments and with a complex value; the
            result is its complex derivative f'(z).

    Raises:
        ArgumentError: argnums is no place of an argument.
        NonScalarError: the value is not one number.
        DTypeError: an argument is not floating point.
        DisconnectedError: the value does not depend on the arguments at all; says where the path
            broke.

    >>> import numpy as np
    >>> value_and_grad(lambda x: np.sum(x ** 3))(np.array([1.0, 2.0]))
    (np.float64(9.0), array([ 3., 12.]))
    """
    nums, one = chosen_arguments("value_and_grad", f, argnums)

    @wraps(f)
    def both(*args: Any, **kwargs: Any) -> Any:
        places = places_of("grad", nums, args)
        xs, structure = tree.flatten(tuple(args[n] for n in places))
        check_inputs("grad", xs, paths_of(structure, one))
        if holomorphic:
            check_holomorphic("grad", xs, paths_of(structure, one))

        def run(ts: list[Any]) -> Any:
            full = list(args)
            for n, t in zip(places, tree.unflatten(structure, ts)):
                full[n] = t
            return call("grad(f)", "f", f, *full, **kwargs)

        rec = Recorded(f, xs, run, partial(leaf_names, f, places, structure))
        out, aux = with_aux("grad", rec.out) if has_aux else (rec.out, None)
        y, node = rec.split(out)
        name = getattr(f, "__name__", "f")
        if not hasattr(y, "shape") and not isinstance(y, int | float | complex):
            raise NonScalarError(
                f"grad({name})", f"{name} returned {type(y).__name__}, not one number"
            )
        numeric(f"grad({name})", [f"the value of {name}"], [y])
        if np.prod(shape_of(y)) != 1:
            raise NonScalarError(
                f"grad({name})",
                "a gradient is the derivative of one number",
                operands=[("value", y)],
                fix="np.sum or np.mean of it; or wg.jacobian for all the derivatives",
            )
        if holomorphic:
            holomorphic_value("grad", y)
        elif getattr(y, "dtype", None) is not None and y.dtype.kind == "c":
            raise NonScalarError(
                f"grad({name})",
                "a gradient is the derivative of one real number",
                operands=[("value", y)],
                fix="np.abs, np.real or np.imag of it; holomorphic=True if f is complex "
                "differentiable; or wg.vjp for a complex cotangent",
            )
        if node is None and not allow_unused:
            said = f", {y}," if type(y) in (int, float) else ""
            raise disconnected(
                f"grad({name})", f"the value of {name}{said}", rec.level,
                leaf_names(f, places, structure), other_arguments(f, places, args),
            )  # fmt: skip
        gs = rec.pull([node], [ones_like(y) if node is not None else None], keep=False)
        if rec.level.breaks and rec.missing and not allow_unused:
            warn_cut(f"grad({name})", rec, leaf_names(f, places, structure))
        if chosen("complex") == "torch" and not holomorphic:
            gs = [np.conjugate(g) if g.dtype.kind == "c" else g for g in gs]
        g = tree.unflatten(structure, handed_out([densify(g) for g in gs], rec.wrap))
        (value,) = handed_out([y], rec.wrap)
        return ((value, lower(aux)) if has_aux else value), (g[0] if one else g)

    return both


def grad(
    f: Callable[..., Any],
    argnums: int | tuple[int, ...] = 0,
    has_aux: bool = False,
    allow_unused: bool = False,
    holomorphic: bool = False,
) -> Callable[..., Any]:
    """The gradient of f as a function. See `value_and_grad` for the arguments and errors.

    >>> import numpy as np
    >>> grad(lambda x: np.sum(np.tanh(x) ** 2))(np.zeros(3))
    array([0., 0., 0.])
    >>> grad(grad(lambda x: x ** 4))(2.0)
    np.float64(48.0)
    >>> grad(lambda z: z ** 3, holomorphic=True)(1.0 + 1.0j)
    np.complex128(6j)
    """
    chosen_arguments("grad", f, argnums)
    both = value_and_grad(f, argnums, has_aux, allow_unused, holomorphic)

    @wraps(f)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, g = both(*args, **kwargs)
        return (g, value[1]) if has_aux else g

    return gradient
