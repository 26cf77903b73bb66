"""NumPy's functions for tensors, with NumPy's names and signatures. No rules here: see wengert.ops."""

from . import methods, product, reduce, shape, table
from .product import dot, einsum, inner, outer, tensordot, vdot
from .reduce import (
    argmax, argmin, average, cumsum, log_softmax, logsumexp, max, mean, min, norm, prod, ptp, softmax, std,
    sum, var,
)

__all__ = ["argmax", "argmin", "average", "cumsum", "dot", "einsum", "inner", "log_softmax", "logsumexp",
           "max", "mean", "methods", "min", "norm", "outer", "prod", "product", "ptp", "reduce", "shape",
           "softmax", "std", "sum", "table", "tensordot", "var", "vdot"]
