"""Arrays without contents: a shape and a dtype, for programs that are weighed before they run.

A hollow array stands where an array would, below every tape. What is computed of it is hollow too,
its shape inferred, so that a training step of any size runs in no time and no memory. An account
is kept of the bytes that there would be: Python frees a hollow array when it would free the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from sys import getrefcount
from typing import Any

import numpy as np

from .errors import LevelError
from .graph import Graph, Var
from .primitive import UFUNCS
from .trace import HERE, OPS, Tensor, bind
from .types import Aval, Shape, dtype_of, shape_of

__all__ = ["SHAPES", "Account", "Hollow", "busy", "hollow", "unallocated", "unallocating"]


class Account:
    """The bytes of hollow arrays that are alive, and the most that there were at a time.

    `work` says what an operation needs beside its operands and its result, while it runs.
    """

    def __init__(self, work: Callable[[Any, Any, Any], int] | None = None) -> None:
        self.live = self.most = 0
        self.work = work

    def charge(self, n: int) -> None:
        self.live += n
        self.most = max(self.most, self.live)

    def worked(self, op: Any, xs: Any, ys: Any) -> None:
        if self.work is not None:
            self.most = max(self.most, self.live + self.work(op, xs, ys))


class Hollow(Var):
    """An array that has a shape and a dtype and no contents. A view has the array as its `base`."""

    __slots__ = ("__weakref__", "account", "base", "whole")

    def __init__(self, aval: Aval, base: Any = None, whole: bool = True) -> None:
        super().__init__(SHAPES, 0, aval)
        self.base = base
        self.whole = whole  # whether its numbers follow each other in memory
        self.account = None if base is not None else getattr(HERE, "account", None)
        if self.account is not None:
            self.account.charge(self.nbytes)

    def __del__(self) -> None:
        account = getattr(self, "account", None)
        if account is not None:
            account.live -= self.nbytes

    @property
    def nbytes(self) -> int:
        return math.prod(self.aval.shape) * self.aval.dtype.itemsize

    @property
    def itemsize(self) -> int:
        return self.aval.dtype.itemsize

    def __array_ufunc__(self, ufunc: Any, method: str, *xs: Any, **options: Any) -> Any:
        if method != "__call__" or ufunc not in UFUNCS or options:
            return NotImplemented
        return bind(UFUNCS[ufunc], *xs)

    def like(self, dtype: Any, shape: Shape | None = None) -> Hollow:
        """Another one, of another dtype or shape."""
        return hollow(self.shape if shape is None else shape, dtype)

    def reshape(self, *shape: Any) -> Any:
        given = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
        known = math.prod(n for n in given if n != -1)
        full = tuple(self.size // max(1, known) if n == -1 else int(n) for n in given)
        return OPS["Reshape"](full)(self)

    def copy(self, order: str = "K") -> Hollow:
        return self.like(self.dtype)

    def __getitem__(self, index: Any) -> Any:
        return OPS["GetItem"](index if isinstance(index, tuple) else (index,))(self)

    def __setitem__(self, index: Any, value: Any) -> None:
        """Nothing to change."""

    def __len__(self) -> int:
        return self.shape[0]

    def _no_value(self, *args: Any) -> Any:
        raise LevelError(
            f"the value of a hollow {self.aval!r}",
            "it has a shape and no contents: its model was made under nn.unallocated(), or its "
            "memory is being predicted",
        )

    __bool__ = __float__ = __int__ = __index__ = __complex__ = item = tolist = _no_value

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        self._no_value()

    def __repr__(self) -> str:
        return f"hollow {self.aval!r}"


ELIDED = 1 << 18  # bytes from which on NumPy computes into a temporary operand


def operator(name: str) -> Any:
    """An operator that computes into an operand which nobody else holds, as NumPy's do."""
    plain, either = getattr(Var, name), name in ("__add__", "__mul__")
    same = name not in ("__matmul__", "__pow__")

    def method(self: Any, other: Any) -> Any:
        if isinstance(other, Tensor):
            return NotImplemented  # it knows what to do
        if same and getrefcount(self) == FREE and fits(self, other):
            freed(self)
        elif either and getrefcount(other) == FREE and fits(other, self):
            freed(other)
        return plain(self, other)

    return method


def fits(x: Any, other: Any) -> bool:
    """Whether what is computed of x and another has the room of x."""
    if not isinstance(x, Hollow) or x.account is None or x.nbytes < ELIDED:
        return False
    wide = np.broadcast_shapes(x.shape, shape_of(other)) == x.shape
    return wide and dtype_of(other) in (None, x.dtype)


def freed(x: Any) -> None:
    x.account.live -= x.nbytes
    x.account = None


def _references() -> int:
    """What getrefcount says of an operand that nobody holds; 0 where it says that of others too."""

    class Probe:
        def __add__(self, other: Any) -> int:
            return getrefcount(self)

    held = Probe()
    free = Probe() + 1
    return free if held + 1 > free else 0


FREE = _references()
for _name in ("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "matmul", "pow"):
    setattr(Hollow, f"__{_name}__", operator(f"__{_name}__"))


def hollow(shape: Sequence[int], dtype: Any) -> Hollow:
    """An array of this shape without contents.

    >>> x = hollow((1_000_000, 1_000_000), np.float32)
    >>> x.nbytes, (x @ x).shape
    (4000000000000, (1000000, 1000000))
    """
    return Hollow(Aval(tuple(shape), np.dtype(dtype)))


def busy(nbytes: float) -> None:
    """So much is needed for a moment, beside what is there."""
    account = getattr(HERE, "account", None)
    if account is not None:
        account.most = max(account.most, account.live + int(nbytes))


class Shapes(Graph):
    """Where operations on hollow arrays go: nothing is written down."""

    def input(self, aval: Aval) -> Hollow:
        with uncharged():
            return Hollow(aval)

    def emit(self, op: Any, xs: Sequence[Any]) -> Any:
        avals = [x.aval if isinstance(x, Var) else Aval.of(x) for x in xs]
        try:
            found = op.infer(*avals)
        except (ValueError, TypeError, IndexError) as error:
            raise op.refusal(tuple(xs), error) from error
        each = found if isinstance(found, tuple) else (found,)
        account = getattr(HERE, "account", None)
        if getattr(op, "view", False) and isinstance(xs[0], Hollow):
            ys = tuple([window(op, xs[0], aval) for aval in each])
        else:
            ys = tuple([Hollow(aval) for aval in each])
        if account is not None:
            account.worked(op, avals, each)
        return ys if isinstance(found, tuple) else ys[0]


SHAPES = Shapes()


def window(op: Any, x: Hollow, aval: Aval) -> Hollow:
    """The value of an operation that looks into its operand, where NumPy can."""
    base = x if x.base is None else x.base
    name = type(op).__name__
    if name == "Reshape":
        return Hollow(aval, base) if x.whole else Hollow(aval)
    if name == "Transpose":
        long = [i for i in op.perm if x.shape[i] != 1]
        return Hollow(aval, base, x.whole and long == sorted(long))
    return Hollow(aval, base, x.whole and aval.shape[1:] == x.shape[1:])


@contextmanager
def uncharged() -> Iterator[None]:
    """Hollow arrays made inside are on nobody's account."""
    before, HERE.account = getattr(HERE, "account", None), None
    try:
        yield
    finally:
        HERE.account = before


def unallocating() -> bool:
    """Whether `unallocated` is active in this thread."""
    return bool(getattr(HERE, "unallocated", 0))


@contextmanager
def unallocated() -> Iterator[None]:
    """Modules made inside have parameters with a shape and no contents, in no memory.

    They tell what they are, how many parameters they have and what training them would take
    (`wg.train.memory`), and compute shapes; they cannot be trained. Those of `wengert.nn` and of
    whatever draws its weights by `nn.init` follow; arrays that a module makes by itself are real.

    Example:
        >>> import numpy as np
        >>> from wengert import nn
        >>> with nn.unallocated():
        ...     model = nn.Linear(1_000_000, 1_000_000)
        >>> model.weight.nbytes, model(np.ones((2, 1_000_000), np.float32)).shape
        (4000000000000, (2, 1000000))
    """
    HERE.unallocated = getattr(HERE, "unallocated", 0) + 1
    try:
        yield
    finally:
        HERE.unallocated -= 1
