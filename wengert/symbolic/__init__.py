"""The symbolic way: programs as SymPy formulas, their derivatives in closed form, and back.

    wg.symbolic.expression(f, x)        the closed form of a program
    wg.symbolic.derivative(f, x)        its derivative; gradient, jacobian, hessian
    wg.symbolic.derivation(f, x)        the chain rule, operation by operation
    wg.symbolic.function(expr, xs)      a formula as a program that wengert differentiates
    wg.symbolic.swell(family, depths)   how formulas of derivatives grow, against the tape
    wg.symbolic.convert(j, ndim)        numerator and denominator layout; flat, book

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
from .layout import book, convert, flat, jacobian_in, unflat
from .reading import expression, read, symbols
from .swell import swell

__all__ = [
    "Derivation",
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
    "jacobian",
    "jacobian_in",
    "latex",
    "read",
    "swell",
    "symbols",
    "unflat",
]
