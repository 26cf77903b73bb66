"""Tensors, levels, and `bind`: who interprets an operation.

A *level* is one infinitesimal, or one batch axis. `grad`, `jvp` and `vmap` each push a level and
pop it again; a `Tensor` belongs to one level and holds a value of the level below. Evaluating an
operation means asking the topmost level among its inputs (`bind`); that level deals with its own
part, a tape node, a tangent or a batch axis, and evaluates the operation on what lies below, down
to plain arrays. Perturbations are never confused, because each has a level of its own.

    depth 0   arrays (or, while a function is being staged, graph variables)
    depth 1   the eager tape: always there, behind `requires_grad` and `.backward()`
    depth 2k    a transform in progress; a later one is deeper
    depth 2k+1  the eager tape of values that live at that transform

This file imports no operation. The floors above give `Tensor` its operators through `method`.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from itertools import count
from types import CodeType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from .errors import TapeExitError, user_frame
from .nodes import Break as Break
from .nodes import Leaf as Leaf
from .nodes import Node as Node
from .nodes import line as line
from .nodes import seq as seq
from .region import Region
from .source import asker, number_asker
from .types import RAW, Shape

getframe, getrefcount, new, ndarray = sys._getframe, sys.getrefcount, object.__new__, np.ndarray
number = count(1).__next__  # of levels, in every thread: a later one is deeper
# .stack of levels, .quiet depth, .trace in progress, .watch of debug, .caster of mixed precision
HERE = threading.local()
OPS: dict[str, Any] = {}  # the registry: an elementwise op, or the class of a parametrised one
MODES = 0  # no_grad regions and traces alive in any thread; 0 opens the fast road
_lock = threading.Lock()
F = TypeVar("F", bound=Callable[..., Any])


def modes(change: int) -> None:
    global MODES
    with _lock:
        MODES += change


def _sole() -> int:
    d = np.empty(1)
    return getrefcount(d)


SOLE = _sole()  # what getrefcount says of a local that nobody else holds


class Level:
    """One interpreter. `depth` orders them; `alive` is False once its transform has returned."""

    __slots__ = ("_ambient", "alive", "breaks", "depth")
    cls: type[Tensor]

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.alive = True
        self._ambient: Level | None = None
        self.breaks: dict[tuple[CodeType, int], Break] | None = None

    def ambient(self) -> Level:
        """The eager tape of values that live at this level."""
        if self._ambient is None:
            self._ambient = TAPE(self.depth + 1)
            self._ambient.alive = self.alive
        return self._ambient

    def broke(self, what: str, *nodes: Any) -> None:
        """Note that a recorded value left the derivative here, for the message that may follow."""
        frame = user_frame(getframe(1))
        keep = self is not EAGER or getattr(HERE, "watch", None) is not None
        notes = self.breaks = self.breaks or {}
        notes.pop((frame.f_code, frame.f_lasti), None)
        kept = tuple([n for n in nodes if keep or type(n) is Leaf])
        notes[frame.f_code, frame.f_lasti] = Break(what, kept)
        if len(notes) > 8:
            del notes[next(iter(notes))]

    def process(self, op: Any, xs: Any) -> Any:
        raise NotImplementedError

    def write(self, x: Tensor, path: tuple[Any, ...], v: Any) -> None:
        raise NotImplementedError

    def shape(self, t: Tensor) -> Shape:
        return t.data.shape

    def primal(self, t: Tensor) -> Any:
        return t.data

    def detach(self, t: Tensor) -> Any:
        """The value of t without a derivative at any level."""
        raise NotImplementedError

    def lane(self, t: Tensor, below: Any) -> Any:
        """What stands for t alone in an array of the level below."""
        return below


TAPE: type[Level] = Level  # the tape's class and the eager tape itself: set by transforms.tape
EAGER: Level = Level(1)


def stack() -> list[Level]:
    try:
        return HERE.stack
    except AttributeError:
        HERE.stack = []
        return HERE.stack


class push:
    """`with push(JVP) as level`: one transform in progress, popped even when the body raises."""

    __slots__ = ("args", "cls", "level")

    def __init__(self, cls: Callable[..., Any], *args: Any) -> None:
        self.cls, self.args = cls, args

    def __enter__(self) -> Any:
        levels = stack()
        self.level = self.cls(2 * number(), *self.args)
        levels.append(self.level)
        return self.level

    def __exit__(self, *exc: object) -> None:
        popped = stack().pop()
        assert popped is self.level
        popped.alive = False
        if popped._ambient is not None:
            popped._ambient.alive = False


class Tensor:
    """An array whose use is recorded.

    `data` is the array, or a tensor of the level below; `node` is read by `level` alone: the tape
    node, the tangent, or the batch axis. `store` counts the writes to a root, or is the
    (root, path, ..) of a view, or says what the value is the length of.
    """

    __slots__ = ("__weakref__", "data", "level", "node", "store")
    __array_priority__ = 1000
    __module__ = "wengert"

    def __init__(self, data: Any, node: Any = None, level: Level | None = None) -> None:
        level = level or EAGER
        if data.__class__ is Tensor and data.level is level and data.node is None:
            data = data.data  # a tensor of a plain tensor is one of its array
        self.data = data
        self.node = node
        self.level = level

    # ---- what it is
    @property
    def shape(self) -> Shape:
        return self.level.shape(self)

    @property
    def dtype(self) -> Any:
        return self.data.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        n = 1
        for k in self.shape:
            n *= k
        return n

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self.size * self.itemsize

    @property
    def is_leaf(self) -> bool:
        return self.node is None or type(self.node) is Leaf

    @property
    def requires_grad(self) -> bool:
        return self.node is not None

    @property
    def grad_fn(self) -> Any:
        """The node of the operation that made this tensor; None for a leaf."""
        return None if type(self.node) is Leaf else self.node

    @property
    def name(self) -> str | None:
        return self.node.name if type(self.node) is Leaf else None

    @name.setter
    def name(self, name: str | None) -> None:
        if type(self.node) is not Leaf:
            raise TypeError("only a leaf (a tensor with requires_grad=True) carries a name")
        self.node.name = name

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if not self.shape:
            raise TypeError("iteration over a 0-d tensor")
        return (self[i] for i in range(self.shape[0]))

    __hash__ = object.__hash__

    # ---- reading its value
    def value(self) -> Any:
        """The plain array underneath, without its gradient."""
        if MODES and (tracer := recorder()) is not None:
            tracer.touch(self)
        d = self.level.primal(looked(self))
        return d.value() if isinstance(d, Tensor) else d

    def numpy(self) -> np.ndarray[Any, Any]:
        """The value as a read-only array; later in-place writes to the tensor do not show in it."""
        if self.requires_grad:
            self.level.broke("numpy() took the value without its gradient", self.node)
        a = np.asarray(self.value()).view()
        a.flags.writeable = False
        return a

    def item(self, *index: Any) -> Any:
        """The value as a Python number."""
        if self.node.__class__ is Node:
            self.level.broke("item() took the number without its gradient", self.node)
        return self.value().item(*index)

    def tolist(self) -> Any:
        if self.node.__class__ is Node:
            self.level.broke("tolist() took the numbers without their gradient", self.node)
        return self.value().tolist()

    def __bool__(self) -> bool:
        return bool(self.value())

    def _number(self, to: str) -> Any:
        if self.recorded():
            what, fix = number_asker(to)
            rule = "a recorded value would lose its gradient without a word"
            raise TapeExitError(what, rule, operands=[("tensor", self)], fix=fix)
        return self.value()

    def __float__(self) -> float:
        return float(self._number("float"))

    def __int__(self) -> int:
        return int(self._number("int"))

    def __complex__(self) -> complex:
        return complex(self._number("complex"))

    def __index__(self) -> int:
        return self._number("index").__index__()

    def recorded(self) -> bool:
        """Whether a derivative is being taken through this value at any level."""
        return self.node is not None or (isinstance(self.data, Tensor) and self.data.recorded())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        if self.recorded():
            name, fix, at = asker()
            raise TapeExitError(
                name,
                "asked for a plain array of a recorded tensor, which would lose its gradient",
                operands=[("tensor", self)],
                fix=fix,
                at=at,
            )
        a = np.asarray(self.value())
        if dtype is not None and a.dtype != dtype:
            return a.astype(dtype)
        if copy:
            return a.copy()
        a = a.view()
        a.flags.writeable = False
        return a

    def __repr__(self) -> str:
        if self.level is not EAGER:
            return f"{type(self).__name__}({self.data!r}, level={self.level.depth})"
        value = self.value()
        if hasattr(value, "graph"):
            return f"tensor({value!r})" if recorder() is None else str(value._no_value())
        body = np.array2string(np.asarray(value), separator=", ", prefix="tensor(")
        note = ""
        if str(self.dtype) not in ("float64", "int64", "bool", "complex128"):
            note += f", dtype={self.dtype}"
        if type(self.node) is Leaf:
            note += ", requires_grad=True"
        elif self.node is not None:
            note += f", grad_fn={self.node.op!r}"
        return f"tensor({body}{note})"

    def __reduce__(self) -> Any:
        """Pickled by value: a leaf stays a leaf, a result loses its graph."""
        if self.level is not EAGER and self.recorded():
            raise TapeExitError(
                "pickle(tensor)", "a value inside a transform would lose its derivative",
                operands=[("tensor", self)], fix="x.detach()",
            )  # fmt: skip
        leaf = type(self.node) is Leaf
        return _unpickled, (np.asarray(self.value()), leaf, self.name if leaf else None)

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec and self.size == 1 else str(self)

    if TYPE_CHECKING:  # installed by the floors above
        store: Any
        T: Any
        grad: Any
        __array_ufunc__: Any
        __array_function__: Any
        __getitem__: Any
        __setitem__: Any

        def __getattr__(self, name: str) -> Any: ...
        def __neg__(self) -> Tensor: ...
        def __abs__(self) -> Tensor: ...
        def __invert__(self) -> Tensor: ...
        def __add__(self, o: Any) -> Tensor: ...
        def __radd__(self, o: Any) -> Tensor: ...
        def __sub__(self, o: Any) -> Tensor: ...
        def __rsub__(self, o: Any) -> Tensor: ...
        def __mul__(self, o: Any) -> Tensor: ...
        def __rmul__(self, o: Any) -> Tensor: ...
        def __truediv__(self, o: Any) -> Tensor: ...
        def __rtruediv__(self, o: Any) -> Tensor: ...
        def __pow__(self, o: Any) -> Tensor: ...
        def __rpow__(self, o: Any) -> Tensor: ...
        def __matmul__(self, o: Any) -> Tensor: ...
        def __rmatmul__(self, o: Any) -> Tensor: ...
        def __lt__(self, o: Any) -> Tensor: ...
        def __le__(self, o: Any) -> Tensor: ...
        def __gt__(self, o: Any) -> Tensor: ...
        def __ge__(self, o: Any) -> Tensor: ...


def _unpickled(data: Any, leaf: bool, name: str | None) -> Tensor:
    t = make(data, None, EAGER)
    if leaf:
        t.node = Leaf(EAGER, name)
        t.node.owner = weakref.ref(t)
    return t


class View(Tensor):
    """A tensor that is a window on another: a path of indexings, reshapes, transposes into `root`.

    Reading looks again when the root has been written since; writing writes the root through the
    path. A view of a value at a transform's level is a tensor of that level, with the same `store`.
    """

    __slots__ = ()

    def look(self) -> Tensor:
        fresh(self)
        if type(self) is not View:
            return self
        t = new(Tensor)
        t.data = self.data
        t.node = self.node
        t.level = self.level
        return t

    @property
    def shape(self) -> Shape:
        return fresh(self).data.shape

    @property
    def dtype(self) -> Any:
        return fresh(self).data.dtype

    def __repr__(self) -> str:
        return repr(self.look())


def generation(t: Tensor) -> int:
    """How often a root has been written."""
    store = getattr(t, "store", 0)
    return store if store.__class__ is int else 0


def lens(t: Tensor) -> tuple[Tensor, tuple[Any, ...], int, bool] | None:
    """The (root, path, generation, made under no_grad) of a view; None for anything else."""
    try:
        store = t.store
    except AttributeError:
        return None
    return store if store.__class__ is tuple else None


def fresh(t: Tensor) -> Tensor:
    """Look again if t is a view and its root has been written since."""
    window = lens(t)
    if window is not None:
        root, path, seen, quiet = window
        now = generation(root)
        if now != seen:
            if MODES and (tracer := recorder()) is not None:
                tracer.keep(t)
            if MODES or quiet:  # recorded or not as it was when the view was made
                with no_grad() if quiet else enable_grad():
                    look = follow(root, path)
            else:
                look = follow(root, path)
            t.data, t.node, t.level = look.data, look.node, look.level
            t.__class__ = View if type(look) is Tensor else type(look)
            t.store = (root, path, now, quiet)
    return t


def looked(x: Any) -> Any:
    """What x shows now: a view at a transform's level may have been written through its root."""
    if isinstance(x, Tensor) and x.__class__ is not Tensor and lens(x) is not None:
        fresh(x)
        return x.look() if type(x) is View else x
    return x


def follow(root: Tensor, path: tuple[Any, ...]) -> Tensor:
    """root[path], sharing no buffer that is written in turns: a kept slice must not pin it all."""
    t: Tensor = root
    for op in path:
        t = bind(op, t)
    if generation(root) and type(t.data) is ndarray and t.data.base is not None:
        t.data = t.data.copy("K")
    return t


def make(data: Any, node: Any, level: Level, cls: type[Tensor] | None = None) -> Tensor:
    t = new(cls or Tensor)
    t.data = data
    t.node = node
    t.level = level
    return t


def method(name: str) -> Callable[[F], F]:
    """Give Tensor an operator or a method from a floor above."""

    def install(f: F) -> F:
        setattr(Tensor, name, f)
        return f

    return install


def bind(op: Any, *xs: Any) -> Any:
    """Evaluate one operation: the topmost level among its inputs interprets it."""
    if MODES and (caster := getattr(HERE, "caster", None)) is not None:
        return caster(op, xs)
    if MODES and (lift := getattr(getattr(HERE, "trace", None), "lift", None)) is not None:
        xs = lift(xs)
    top: Level | None = None
    for i, x in enumerate(xs):
        if isinstance(x, Tensor):
            if type(x) is not Tensor and lens(x) is not None:
                fresh(x)
            if not x.level.alive:
                xs = (*xs[:i], decay(x), *xs[i + 1 :])
                x = xs[i]
                if not isinstance(x, Tensor):
                    continue
            if top is None or x.level.depth > top.depth:
                top = x.level
    if MODES and (trace := getattr(HERE, "trace", None)) is not None:
        for x in xs:
            if isinstance(x, Tensor):
                trace.touch(x)
    if top is not None:
        if top is not EAGER:
            xs = tuple([bare(x, top) for x in xs])
        if MODES and (watch := getattr(HERE, "watch", None)) is not None:
            return watch(top, op, xs)
        return top.process(op, xs)
    for x in xs:
        if not isinstance(x, RAW):
            if hasattr(x, "graph"):
                return x.graph.emit(op, xs)
            xs = tuple([x if isinstance(x, RAW) else np.asarray(x) for x in xs])
            break
    try:
        return op.impl(*xs)
    except (ValueError, TypeError, IndexError) as error:
        raise op.refusal(xs, error) from error


def recorder() -> Any:
    """Whoever records a program in this thread, to be run and differentiated later; or None."""
    tracer = getattr(HERE, "trace", None) if MODES else None
    return tracer if hasattr(tracer, "lift") else None


def told(t: Any) -> Any:
    """t, which is a tensor also where it was computed from arrays: a recording remembers it."""
    if MODES and (tracer := recorder()) is not None:
        tracer.boxed(t)
    return t


def cut(v: Any) -> Any:
    """v without a derivative, also where a program that is recorded is differentiated later."""
    if MODES and hasattr(v, "graph") and v.dtype.kind in "fc" and recorder() is not None:
        return OPS["CastConstant"](v.dtype)(v)
    return v


def sever(why: str) -> None:
    """A program that is recorded does not know the derivative of what happens here."""
    if MODES and (tracer := recorder()) is not None:
        tracer.severed = tracer.severed or why


def bare(x: Any, top: Level) -> Any:
    """An eager tensor without a node is its array, once a higher level looks at it."""
    if isinstance(x, Tensor) and x.level is EAGER and x.node is None and top is not EAGER:
        return x.data
    return x


def decay(x: Any) -> Any:
    """A value that outlived its transform is its primal value."""
    while isinstance(x, Tensor) and not x.level.alive:
        x = x.level.primal(x)
    return x


def recording(level: Level) -> bool:
    """no_grad quiets the tapes that existed when it was entered, in this thread alone."""
    return not MODES or level.depth > getattr(HERE, "quiet", -1)


class no_grad(Region):
    """Nothing inside is recorded on the tapes that exist on entry; for updates and evaluation.

    A block, or a decorator of functions and generators; for one thread.

    >>> import wengert as wg
    >>> w = wg.tensor([1.0, 2.0], requires_grad=True)
    >>> with wg.no_grad():
    ...     w -= 0.5
    >>> w
    tensor([0.5, 1.5], requires_grad=True)
    >>> @wg.no_grad
    ... def predict(x):
    ...     return x * w
    >>> predict(2.0).requires_grad
    False
    """

    __module__ = "wengert"

    def __enter__(self) -> None:
        self._set(2 * number() - 1)

    def _set(self, quiet: int) -> None:
        olds = HERE.__dict__.setdefault("quiets", [])
        olds.append(getattr(HERE, "quiet", -1))
        HERE.quiet = quiet
        modes(1)

    def __exit__(self, *exc: object) -> None:
        HERE.quiet = HERE.quiets.pop()
        modes(-1)


class enable_grad(no_grad):
    """Record inside, even within `no_grad`."""

    __module__ = "wengert"

    def __enter__(self) -> None:
        self._set(-1)
