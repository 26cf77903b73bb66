"""NumPy's functions for tensors, with its names and signatures. No rules here: see wengert.ops."""

import sys
from typing import Any

from ..errors import ArgumentError
from ..trace import Tensor, method
from . import (
    calculus,
    fft,
    grid,
    linalg,
    methods,
    nan,
    order,
    product,
    reduce,
    select,
    shape,
    statistics,
    table,
    ufuncs,
    values,
)
from .linalg import norm
from .product import dot, einsum, inner, outer, tensordot, vdot
from .reduce import (
    argmax,
    argmin,
    average,
    cumsum,
    log_softmax,
    logsumexp,
    max,
    mean,
    min,
    prod,
    ptp,
    softmax,
    std,
    sum,
    var,
)
from .select import where

VERSIONS = ("2021.12", "2022.12", "2023.12", "2024.12")


@method("__array_namespace__")
def array_namespace(self: Tensor, *, api_version: str | None = None) -> Any:
    """This module: the Array API's functions for tensors."""
    if api_version not in (None, *VERSIONS):
        raise ArgumentError(f"__array_namespace__({api_version!r})", f"one of {VERSIONS}")
    return sys.modules[__name__]


__all__ = [
    "argmax",
    "argmin",
    "average",
    "calculus",
    "cumsum",
    "dot",
    "einsum",
    "fft",
    "grid",
    "inner",
    "linalg",
    "log_softmax",
    "logsumexp",
    "max",
    "mean",
    "methods",
    "min",
    "nan",
    "norm",
    "order",
    "outer",
    "prod",
    "product",
    "ptp",
    "reduce",
    "select",
    "shape",
    "softmax",
    "statistics",
    "std",
    "sum",
    "table",
    "tensordot",
    "ufuncs",
    "values",
    "var",
    "vdot",
    "where",
]
