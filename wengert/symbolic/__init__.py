"""The symbolic way: programs as SymPy formulas, their derivatives in closed form, and back.

    wg.symbolic.expression(f, x)        the closed form of a program
    wg.symbolic.derivative(f, x)        its derivative; gradient, jacobian, hessian
    wg.symbolic.derivation(f, x)        the chain rule, operation by operation
    wg.symbolic.function(expr, xs)      a formula as a program that wengert differentiates
    wg.symbolic.swell(family, depths)   how formulas of derivatives grow, against the tape
    wg.symbolic.convert(j, ndim)        numerator and denominator layout; flat, book
    wg.symbolic.trace_trick(f, X)       the gradient of traces and determinants by differentials
    wg.symbolic.identities()            identities of matrix calculus, each checked by a test

Needs the extra `symbolic`.
"""

from .calculus import (
    Derivation,
    derivation,
    derivative,
    differentiate,
    function,
    gradient,
    hessian,
    jacobian,
    latex,
)
from .forms import exact, has_form
from .identities import TABLE, Identity, identities
from .layout import book, convert, flat, jacobian_in, unflat
from .reading import expression, read, symbols
from .swell import swell
from .trick import Trick, trace_trick

__all__ = [
    "TABLE",
    "Derivation",
    "Identity",
    "Trick",
    "book",
    "convert",
    "derivation",
    "derivative",
    "differentiate",
    "exact",
    "expression",
    "flat",
    "function",
    "gradient",
    "has_form",
    "hessian",
    "identities",
    "jacobian",
    "jacobian_in",
    "latex",
    "read",
    "swell",
    "symbols",
    "trace_trick",
    "unflat",
]
