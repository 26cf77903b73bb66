"""The contract of an operation, and the three shapes that nearly every derivative has.

* `Elementwise`: the Jacobian is diagonal; one line per argument says d -> (dy/dx_i) d, and that map
  pushes tangents and pulls cotangents.
* `Linear`: its own tangent map; give its transpose, `vjp`.
* `Multilinear`: linear in each argument; give the transpose per argument, `vjp_a`, `vjp_b`.
* `General`: give `jvp` and `vjp`.

A rule names what it needs and gets that and no more: the parameters after the first are looked up
among the argument names, `y` for the output, `x_shape` and `x_dtype` for what an argument was like.
Those names are what the tape keeps, so `lambda d, y: d * y` keeps the output and nothing else.
An operation that lacks a rule is refused when it registers, and so is one whose name another has.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar, dataclass_transform

import numpy as np

from .errors import GENERATED, AxisError, DTypeError, ShapeError, UnsupportedError, WengertError
from .nest import Nest
from .structural import apply_diagonal, plus
from .trace import OPS, Tensor, bind, ndarray
from .types import RAW, Array, Aval, Shape, shape_of

UFUNCS: dict[np.ufunc, Any] = {}
C = TypeVar("C", bound=type)


class Rule:
    """What the tape needs to reverse one operation, for one choice of differentiated arguments.

    `pull(g, *residuals)` is the cotangent of the one live argument, or a tuple of them.
    """

    __slots__ = ("base", "diagonal", "keeps_mask", "live", "names", "op", "owned", "pull", "single")

    def __init__(
        self,
        op: Any,
        live: tuple[int, ...],
        names: tuple[str, ...],
        pull: Callable[..., Any],
        diagonal: bool = False,
        base: Rule | None = None,
        owned: Callable[..., Any] | None = None,
    ) -> None:
        self.op, self.live, self.names, self.pull = op, live, names, pull
        self.single = len(live) == 1
        self.diagonal = diagonal
        self.base = base  # the rule without the summing to the operands' own shapes
        self.keeps_mask = getattr(op, "keeps_mask", False)  # pull takes structured cotangents
        self.owned = owned  # a pull that may reuse the cotangent's buffer


def parameters(f: Any) -> tuple[str, ...]:
    """The names of a function's positional parameters; many times faster than a signature."""
    code = getattr(f, "__code__", None) or f.__func__.__code__
    return code.co_varnames[: code.co_argcount]


def live_arguments(mask: int) -> tuple[int, ...]:
    return tuple(i for i in range(mask.bit_length()) if mask >> i & 1)


def compose(
    rules: dict[int, Callable[..., Any]], live: tuple[int, ...], skip: int
) -> tuple[tuple[str, ...], Callable[..., Any]]:
    """One `pull(g, *residuals)` out of one rule per argument, and the names it keeps."""
    asks = {i: parameters(rules[i])[skip:] for i in live}
    names = tuple(dict.fromkeys(n for i in live for n in asks[i]))
    first = asks[live[0]]
    if skip == 1 and len(live) == 1 and first == names:
        return names, rules[live[0]]
    lead = "g" if skip == 1 else "op, g"
    calls = [f"r{i}({', '.join((lead, *asks[i]))})" for i in live]
    body = calls[0] if len(live) == 1 else f"({', '.join(calls)})"
    if skip == 2:
        names = ("op", *names)
    scope: dict[str, Any] = {f"r{i}": rules[i] for i in live}
    code = compile(f"def pull({', '.join(('g', *names))}): return {body}", GENERATED, "exec")
    exec(code, scope)
    return names, scope["pull"]


class Interned(type):
    """Operations are values: equal parameters give the same object."""

    made: dict[Any, Any]

    def __init__(cls, name: str, bases: tuple[type, ...], space: dict[str, Any], **kw: Any) -> None:
        super().__init__(name, bases, space, **kw)
        cls.made = {}

    def __repr__(cls) -> str:
        return cls.__name__

    def __call__(cls, *args: Any, **kw: Any) -> Any:
        if kw:
            return super().__call__(*args, **kw)
        try:
            return cls.made[args]
        except KeyError:
            if len(cls.made) >= 4096:
                cls.made.clear()
            made = cls.made[args] = super().__call__(*args)
            return made
        except TypeError:  # an index array among the parameters: a value without equality
            return super().__call__(*args)


class Primitive(metaclass=Interned):
    """An operation as a value: its fields are its parameters, its methods are its rules.

    The rules, in this order:

    impl(*arrays) -> array                  the value
    infer(*avals) -> Aval                   shape and dtype of the value
    jvp / vjp                               see Linear, Multilinear, General
    batch(xs, dims) -> value                dims[i] is 0 where xs[i] has a batch axis, else None;
                                            the value has its batch axis in front
    lower(*avals) -> Nest | None            the loop nest; None means "call impl"

    `examples` lists where the laws are run: (parameters, then a shape or an array per operand).
    """

    args: ClassVar[tuple[str, ...]] = ("x",)
    shown: ClassVar[tuple[str, ...]] = ()  # what messages call the arguments, if not that
    variadic: ClassVar[bool] = False
    diagonal: ClassVar[bool] = False
    outputs: ClassVar[int] = 1  # more than one: impl returns a tuple, and so do infer, batch, push
    view: ClassVar[bool] = False  # the value is a window on the argument, as in NumPy
    needs: ClassVar[tuple[str, ...]] = ("infer", "impl", "batch")
    rules: ClassVar[dict[int, Rule | None]]
    examples: ClassVar[Any] = ()

    @classmethod
    def title(cls) -> str:
        return cls.__name__

    def argnames(self, n: int) -> tuple[str, ...]:
        return tuple(f"x{i}" for i in range(n)) if self.variadic else self.args

    def impl(self, *xs: Array) -> Array:
        raise NotImplementedError

    def infer(self, *avals: Aval) -> Aval:
        raise NotImplementedError

    def batch(self, xs: list[Array], dims: list[int | None]) -> Array:
        raise NotImplementedError

    def lower(self, *avals: Aval) -> Nest | None:
        return None

    def push(self, xs: list[Array], dxs: list[Array | None], y: Array) -> Array | None:
        """The tangent of the value, given those of the arguments (None: no tangent)."""
        raise NotImplementedError

    def rule(self, mask: int) -> Rule | None:
        """How to pull a cotangent through, for the arguments in `mask`; None: no derivative."""
        try:
            return self.rules[mask]
        except KeyError:
            return self.compile_rule(mask)

    @classmethod
    def compile_rule(cls, mask: int) -> Rule | None:
        live = live_arguments(mask)
        if cls.variadic:
            vjp: Any = cls.vjp  # type: ignore[attr-defined]
            names, pull = compose({0: vjp}, (0,), 2)
            rule = Rule(cls, live, names, pull)
            rule.single = False
        else:
            pulls = cls.pulls()
            live = tuple(i for i in live if i in pulls)
            if not live:
                cls.rules[mask] = None
                return None
            names, pull = compose(pulls, live, 2)
            rule = Rule(cls, live, names, pull)
        cls.rules[mask] = rule
        return rule

    @classmethod
    def pulls(cls) -> dict[int, Callable[..., Any]]:
        if len(cls.args) == 1:
            return {0: cls.vjp}  # type: ignore[attr-defined]
        named = {i: getattr(cls, f"vjp_{a}", None) for i, a in enumerate(cls.args)}
        return {i: f for i, f in named.items() if f is not None}

    def __call__(self, *xs: Array) -> Array:
        for x in xs:
            if x.__class__ is not ndarray and not isinstance(x, RAW):
                return bind(self, *xs)
        try:
            return self.impl(*xs)
        except (ValueError, TypeError, IndexError) as error:
            raise self.refusal(xs, error) from error

    # ---- when it cannot be done
    def refusal(self, xs: tuple[Array, ...], error: Exception) -> Exception:
        """The four-part error for operands that `impl` refused."""
        if isinstance(error, WengertError):
            return error
        names = self.shown or self.argnames(len(xs))
        what = f"{self.title()}({', '.join(names)})"
        rule, notes, fix = self.diagnose(xs, error)
        operands = [(n, x, note) for n, x, note in zip(names, xs, notes or [""] * len(xs))]
        cls: type[WengertError]
        if isinstance(error, np.exceptions.AxisError | IndexError):
            cls = AxisError
        elif isinstance(error, TypeError):
            cls = DTypeError
        else:
            cls = ShapeError
        return cls(what, rule, operands=operands, fix=fix)

    def diagnose(
        self, xs: tuple[Array, ...], error: Exception
    ) -> tuple[str, list[str] | None, str | None]:
        """(the rule broken, a note per operand, the fix) for operands that `impl` refused."""
        return str(error).split("\n")[0].rstrip(". "), None, None


class Linear(Primitive):
    """y = A x: its own tangent map. Give `vjp(self, g, ...)`: x' = A^T g."""

    needs = ("impl", "infer", "vjp", "batch")

    def push(self, xs: list[Array], dxs: list[Array | None], y: Array) -> Array | None:
        return self(*[zeros_like(x) if d is None else d for x, d in zip(xs, dxs)])


class Multilinear(Primitive):
    """Linear in each argument alone: dy = sum_i y(x_1, .., dx_i, .., x_n).

    Give `vjp_a`, `vjp_b`.
    """

    needs = ("impl", "infer", "vjp", "batch")

    def push(self, xs: list[Array], dxs: list[Array | None], y: Array) -> Array | None:
        total = None
        for i, d in enumerate(dxs):
            if d is not None:
                term = self(*xs[:i], d, *xs[i + 1 :])
                total = term if total is None else total + term
        return total


class General(Primitive):
    """Anything else. Give `jvp(self, dx, ...)` and `vjp(self, g, ...)`, or a pair per argument."""

    needs = ("impl", "infer", "jvp", "vjp", "batch")

    def push(self, xs: list[Array], dxs: list[Array | None], y: Array) -> Array | None:
        total = None
        names = self.argnames(len(xs))
        scope = dict(zip(names, xs), y=y)
        for i, d in enumerate(dxs):
            jvp = getattr(self, "jvp" if len(names) == 1 else f"jvp_{names[i]}", None)
            if d is None or jvp is None:
                continue
            term = jvp(d, *[scope_value(n, scope) for n in parameters(jvp)[2:]])
            total = term if total is None else total + term
        return total


class Constant(Primitive):
    """No derivative: an integer or boolean value, or one that is constant almost everywhere."""

    needs = ("impl", "infer", "batch")

    def rule(self, mask: int) -> Rule | None:
        return None


def scope_value(name: str, scope: dict[str, Any]) -> Any:
    """A residual by name: an argument, `y`, or `x_shape`, `x_dtype` of one."""
    if name in scope:
        return scope[name]
    if name.endswith("_shape"):
        return shape_of(scope[name[:-6]])
    if name.endswith("_dtype"):
        return scope[name[:-6]].dtype
    raise KeyError(name)


def zeros_like(x: Array) -> Array:
    if isinstance(x, Tensor) or not isinstance(x, RAW):
        return np.zeros(shape_of(x), x.dtype)
    return np.zeros(np.shape(x), np.result_type(x))


def as_value(cls: Any) -> Any:
    """Make instances values of their annotated fields: frozen, compared and printed by them.

    What `dataclass(frozen=True)` does, in a tenth of its time: the house has a hundred of these.
    """
    space = vars(cls)
    notes = space.get("__annotations__", {})
    cls.fields = tuple(n for n, t in notes.items() if not str(t).startswith("ClassVar"))
    cls.defaults = {n: space[n] for n in cls.fields if n in space}
    cls.__init__, cls.__setattr__, cls.__delattr__ = _init, _frozen, _frozen
    for name, method in (("__repr__", _repr), ("__eq__", _equal), ("__hash__", _hash)):
        if name not in space:
            setattr(cls, name, method)
    return cls


def _init(self: Any, *args: Any, **kw: Any) -> None:
    names = self.fields
    given = {**self.defaults, **dict(zip(names, args)), **kw}
    if len(args) > len(names) or set(given) != set(names):
        raise TypeError(f"{type(self).__name__} takes {', '.join(names)}; got {args} {kw}")
    for name in names:
        object.__setattr__(self, name, given[name])


def _frozen(self: Any, name: str, *value: Any) -> None:
    raise AttributeError(f"{type(self).__name__} is a value: {name!r} cannot be changed")


def _values(self: Any) -> tuple[Any, ...]:
    return tuple([getattr(self, n) for n in self.fields])


def _repr(self: Any) -> str:
    return f"{type(self).__name__}({', '.join(f'{n}={getattr(self, n)!r}' for n in self.fields)})"


def _equal(self: Any, other: object) -> bool:
    return type(self) is type(other) and _values(self) == _values(other)


def _hash(self: Any) -> int:
    return hash((type(self), _values(self)))


@dataclass_transform(frozen_default=True)
def op(given: C) -> C:
    """Register a class of operations: frozen, interned, and complete in every rule."""
    cls: Any = given
    for need in cls.needs:
        rule = getattr(cls, need, None)
        missing = rule is None or rule is getattr(Primitive, need, None)
        if missing and need in ("jvp", "vjp") and len(cls.args) > 1:
            missing = not any(hasattr(cls, f"{need}_{a}") for a in cls.args)
        if missing:
            raise TypeError(f"{cls.__name__} lacks the rule `{need}`")
    if not getattr(cls, "examples", None):
        raise TypeError(
            f"{cls.__name__} lacks `examples`: (parameters, shapes of operands..) for the laws"
        )
    if not (cls.__doc__ or "").strip():
        raise TypeError(
            f"{cls.__name__} lacks its mathematics: write the equation in its docstring"
        )
    made: Any = as_value(cls)
    made.rules = {}
    if not issubclass(cls, Constant) and not cls.variadic:
        legal = {"op", "y"} | {a + s for a in cls.args for s in ("", "_shape", "_dtype")}
        for i in made.pulls():
            wants = set(parameters(made.pulls()[i])[2:])
            if not wants <= legal:
                raise TypeError(
                    f"{cls.__name__}: a rule may ask for {sorted(legal)}, not {wants - legal}"
                )
    register(cls.__name__, made, cls.__module__)
    return made


def register(name: str, made: Any, home: str) -> None:
    """Enter an operation under its name. Only the module that entered it may do so again."""
    known = OPS.get(name)
    if known is not None:
        other = getattr(known, "home", known.__module__)
        if (other, kind_of(known)) != (home, kind_of(made)):
            raise TypeError(
                f"two operations are called {name!r}: the {kind_of(known)} of {other}, and the "
                f"{kind_of(made)} of {home}; give the second another name"
            )
    OPS[name] = made


def kind_of(made: Any) -> str:
    return "class" if isinstance(made, type) else type(made).__name__


def caller() -> str:
    """The module that is making an operation, for one whose class does not say."""
    frame = sys._getframe(1)
    while frame.f_back and (frame.f_code.co_name == "__init__" or frame.f_globals is globals()):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", "__main__"))


_NAMES = {1: ("x",), 2: ("a", "b"), 3: ("a", "b", "c")}


class Elementwise(Primitive):
    """y = f(x_1, .., x_n) point by point, broadcasting.

    Args:
        name: the name in the registry and in errors.
        f: the value, a function of arrays; a ufunc also answers for `np.f(tensor)`.
        partials: per argument the map d -> (dy/dx_i) d, or None where there is no derivative. The
            parameters after `d` name what it reads: `x` (or `a`, `b`, `c`), `y`.
        push: where the tangent map differs from the cotangent map (a function that is not complex
            differentiable), the tangent map.

    No rule mentions broadcasting: the engine sums a cotangent to its source's shape.
    """

    diagonal = True
    watched: ClassVar[bool] = False  # by who records a function: it fills caches, and is a value

    def __init__(
        self,
        name: str,
        f: Callable[..., Any],
        *partials: Callable[..., Any] | None,
        push: Callable[..., Any] | None = None,
        doc: str = "",
    ) -> None:
        self.name, self.f, self.partials, self.doc = name, f, partials, doc
        self.args = _NAMES[len(partials)]  # type: ignore[misc]
        self.impl = f  # type: ignore[method-assign]
        self.rules = {}  # type: ignore[misc]
        self.forward = push
        for p in partials:
            wants = set(parameters(p)[1:]) if p else set()
            if not wants <= {*self.args, "y"}:
                raise TypeError(f"{name}: a partial may ask for {(*self.args, 'y')}, not {wants}")
        for mask in range(1, 1 << len(partials)):
            live = tuple(i for i in live_arguments(mask) if partials[i] is not None)
            rule = None
            if live:
                names, pull = compose({i: partials[i] for i in live}, live, 1)  # type: ignore[misc]
                rule = Rule(self, live, names, pull, diagonal=True)
            self.rules[mask] = rule
        self.home = caller()
        register(name, self, self.home)
        if isinstance(f, np.ufunc):
            UFUNCS.setdefault(f, self)

    def __repr__(self) -> str:
        return self.name

    def title(self) -> str:
        return self.name

    road: Callable[..., Any] | None = None  # the fast road for one tensor, once it is built

    def build_road(self) -> Callable[..., Any]:
        """Set by ops.road."""
        return lambda x: bind(self, x)

    def __call__(self, *xs: Array) -> Array:
        for x in xs:
            if x.__class__ is not ndarray:
                if x.__class__ is Tensor and len(xs) == 1:
                    return (self.road or self.build_road())(x)
                return Primitive.__call__(self, *xs)
        try:
            return self.f(*xs)
        except (ValueError, TypeError) as error:
            raise self.refusal(xs, error) from error

    def infer(self, *avals: Aval) -> Aval:
        shape = np.broadcast_shapes(*(a.shape for a in avals))
        with np.errstate(all="ignore"):
            y = self.f(*(a.example((0,) if not a.weak else ()) for a in avals))
        return Aval(shape, np.asarray(y).dtype)

    def push(self, xs: list[Array], dxs: list[Array | None], y: Array) -> Array | None:
        from_rules = None
        scope = dict(zip(self.args, xs), y=y)
        for i, d in enumerate(dxs):
            rule = self.rules[1 << i]
            if d is None or rule is None:
                continue
            pull = self.forward or rule.pull
            names = rule.names if self.forward is None else parameters(pull)[1:]
            term = apply_diagonal(pull, d, [scope[n] for n in names])
            from_rules = term if from_rules is None else plus(from_rules, term)
        return from_rules

    def batch(self, xs: list[Array], dims: list[int | None]) -> Array:
        return self(*align(xs, dims))

    def lower(self, *avals: Aval) -> Nest | None:
        out = self.infer(*avals).shape
        n = len(out)
        loads = tuple(
            tuple(None if k == 1 else n - a.ndim + i for i, k in enumerate(a.shape)) for a in avals
        )
        return Nest(out, loads, tuple(range(n)), body=self.name)

    def diagnose(
        self, xs: tuple[Array, ...], error: Exception
    ) -> tuple[str, list[str] | None, str | None]:
        shapes = [shape_of(x) for x in xs]
        clash = broadcast_clash(shapes)
        if clash is None:
            return Primitive.diagnose(self, xs, error)
        axis, i, j = clash
        notes = ["" for _ in xs]
        notes[i] = f"axis {axis} is {shapes[i][axis]}"
        notes[j] = f"axis {axis} is {shapes[j][axis]}"
        return "shapes do not broadcast", notes, broadcast_fix(self.args, shapes, i, j)


def broadcast_clash(shapes: list[Shape]) -> tuple[int, int, int] | None:
    """(negative axis, operand, operand) of the first clash from the right."""
    for axis in range(-1, -max(map(len, shapes)) - 1, -1):
        seen: tuple[int, int] | None = None
        for i, s in enumerate(shapes):
            if len(s) >= -axis and s[axis] != 1:
                if seen is not None and seen[1] != s[axis]:
                    return axis, seen[0], i
                seen = seen or (i, s[axis])
    return None


def broadcast_fix(names: tuple[str, ...], shapes: list[Shape], i: int, j: int) -> str | None:
    """A rewrite that makes the two shapes broadcast, when exactly one obvious one exists."""
    fixes = []
    for p, q in ((i, j), (j, i)):
        a, b = shapes[p], shapes[q]
        if len(a) == 1 and len(b) == 2 and b[0] == a[0]:
            got = np.broadcast_shapes((a[0], 1), b)
            fixes.append(f"{names[p]}[:, None] has a matching axis, giving shape {list(got)}")
        elif len(a) == 2 and len(b) == 2 and a[::-1] == b and a != b:
            fixes.append(f"{names[p]}.T has the shape of {names[q]}, {list(b)}")
            break
    return fixes[0] if len(fixes) == 1 else None


def align(xs: list[Array], dims: list[int | None]) -> list[Array]:
    """Batched operands of one rank: a lane's axes line up at the right, the batch axis in front."""
    rank = max(len(shape_of(x)) - (d is not None) for x, d in zip(xs, dims))
    out = []
    for x, d in zip(xs, dims):
        s = shape_of(x)
        if d is not None and len(s) - 1 < rank:
            x = OPS["Reshape"]((s[0],) + (1,) * (rank - len(s) + 1) + s[1:])(x)
        out.append(x)
    return out


__all__ = [
    "OPS",
    "UFUNCS",
    "Constant",
    "Elementwise",
    "General",
    "Linear",
    "Multilinear",
    "Primitive",
    "Rule",
    "UnsupportedError",
    "op",
]
