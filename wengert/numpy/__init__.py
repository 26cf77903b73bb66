"""NumPy's functions for tensors, with its names and signatures, and the Array API standard.

Code written for the standard gets this module from `tensor.__array_namespace__()`. Every function
of NumPy that has an answer for tensors is here under its own name as well. The rules are in
wengert.ops.
"""

import sys
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..trace import Tensor, method
from . import (
    calculus,
    creation,
    fft,
    grid,
    linalg,
    methods,
    nans,
    order,
    polynomial,
    product,
    reduce,
    select,
    shape,
    special,
    standard,
    statistics,
    table,
    ufuncs,
    values,
)
from .creation import (
    arange,
    asarray,
    astype,
    can_cast,
    empty,
    empty_like,
    eye,
    finfo,
    from_dlpack,
    full,
    full_like,
    iinfo,
    isdtype,
    linspace,
    ones,
    ones_like,
    result_type,
    zeros,
    zeros_like,
)
from .linalg import norm
from .reduce import log_softmax, logsumexp, softmax
from .standard import *  # noqa: F403  the standard's names, listed there

__array_api_version__ = "2024.12"
VERSIONS = ("2021.12", "2022.12", "2023.12", "2024.12")
__array_namespace_info__ = np.__array_namespace_info__
e, inf, nan, newaxis, pi = np.e, np.inf, np.nan, np.newaxis, np.pi
bool = np.bool
int8, int16, int32, int64 = np.int8, np.int16, np.int32, np.int64
uint8, uint16, uint32, uint64 = np.uint8, np.uint16, np.uint32, np.uint64
float32, float64, complex64, complex128 = np.float32, np.float64, np.complex64, np.complex128


@method("__array_namespace__")
def array_namespace(self: Tensor, *, api_version: str | None = None) -> Any:
    """This module: the Array API's functions for tensors."""
    if api_version not in (None, *VERSIONS):
        raise ArgumentError(f"__array_namespace__({api_version!r})", f"one of {VERSIONS}")
    return sys.modules[__name__]


def __getattr__(name: str) -> Any:
    """Any other function of NumPy that has an answer for tensors."""
    asked = getattr(np, name, None)
    f = table.FUNCTIONS.get(asked) if callable(asked) else None
    if f is None and isinstance(asked, np.ufunc):
        f = standard.elementwise(name, asked)
    if f is None:
        raise AttributeError(f"wengert.numpy has no {name!r}")
    return f


def __dir__() -> list[str]:
    known = {f.__name__ for f in table.FUNCTIONS if f.__module__ == "numpy"}
    return sorted({*globals(), *known})


__all__ = [
    *standard.__all__, "arange", "asarray", "astype", "bool", "calculus", "can_cast",
    "complex64", "complex128", "creation", "e", "empty", "empty_like", "eye", "fft", "finfo",
    "float32", "float64", "from_dlpack", "full", "full_like", "grid", "iinfo", "inf", "int8",
    "int16", "int32", "int64", "isdtype", "linalg", "linspace", "log_softmax", "logsumexp",
    "methods", "nan", "nans", "newaxis", "norm", "ones", "ones_like", "order", "pi",
    "polynomial", "product", "reduce", "result_type", "select", "shape", "softmax", "special",
    "standard", "statistics", "table", "ufuncs", "uint8", "uint16", "uint32", "uint64",
    "values", "zeros", "zeros_like",
]  # fmt: skip
