"""wengert.numpy with recording on everywhere, for the public suite of the Array API standard.

Every floating tensor that goes into a function, a method or an operator is made a leaf, so that the
operation is recorded; what comes out is detached, so that the suite may look at it. Recording must
change no dtype, shape or value: the suite must find here what it finds in wengert.numpy itself.

    ARRAY_API_TESTS_MODULE=recorded_namespace PYTHONPATH=tests/numpy pytest <the suite>
"""

from __future__ import annotations

import functools
import types
from typing import Any

import wengert.numpy as namespace
from wengert.trace import Leaf, Tensor
from wengert.types import is_inexact

SKIP = {
    "__init__",
    "__new__",
    "__getattribute__",
    "__setattr__",
    "__class__",
    "__repr__",
    "__hash__",
}
SKIP |= {"__array__", "__bool__", "__float__", "__int__", "__complex__", "__index__", "__len__"}
SKIP |= {"__format__", "__str__", "__reduce__", "__iter__", "__setitem__", "__array_namespace__"}
SKIP |= {"tolist", "shape", "name", "__copy__", "__deepcopy__", "__eq__", "__ne__"}
SKIP |= {"detach", "requires_grad_", "value", "numpy", "item", "recorded", "look", "backward"}
SKIP |= {"__dlpack__", "__dlpack_device__", "__array_ufunc__", "__array_function__", "to_device"}
RECORDED = {"calls": 0}
busy = False


def leaf(x: Any) -> Any:
    if isinstance(x, Tensor):
        if is_inexact(x.dtype) and x.node is None:
            RECORDED["calls"] += 1
            x = x.detach()
            x.node = Leaf(x.level)
        return x
    if type(x) in (list, tuple):
        return type(x)(leaf(v) for v in x)
    return x


def bare(y: Any) -> Any:
    if isinstance(y, Tensor):
        return y.detach()
    if isinstance(y, tuple) and hasattr(y, "_fields"):
        return type(y)(*map(bare, y))
    return type(y)(map(bare, y)) if type(y) in (list, tuple) else y


def recording(f: Any) -> Any:
    @functools.wraps(f)
    def call(*args: Any, **kwargs: Any) -> Any:
        global busy
        if busy:
            return f(*args, **kwargs)
        busy = True
        try:
            return bare(f(*map(leaf, args), **{k: leaf(v) for k, v in kwargs.items()}))
        finally:
            busy = False

    return call


class Recorded(types.ModuleType):
    """A namespace whose functions record."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner.__name__)
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.inner, name)
        if isinstance(value, types.ModuleType):
            return Recorded(value)
        return recording(value) if isinstance(value, types.FunctionType) else value


for name, method in list(vars(Tensor).items()):
    private = name.startswith("_") and not name.startswith("__")
    if callable(method) and name not in SKIP and not private and not name.startswith("__i"):
        setattr(Tensor, name, recording(method))

_namespace = Recorded(namespace)
Tensor.__array_namespace__ = lambda self, **kw: _namespace


def __getattr__(name: str) -> Any:
    return getattr(_namespace, name)


def __dir__() -> list[str]:
    return dir(namespace)
