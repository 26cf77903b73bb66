"""Many numbers divided by one: with its inverse, and the same rounding as a division.

A machine divides a vector in the time of ten multiplications. With r = 1/d rounded, q = x r is off
by an ulp or two, x - q d is exact in a fused multiply-add, and q + (x - q d) r is x / d rounded
(P. W. Markstein, "Computation of elementary functions on the IBM RISC System/6000 processor", IBM
Journal of Research and Development 34, 1990). Where the rest x - q d would be subnormal, x / d may
be off by an ulp.
"""

from __future__ import annotations

from typing import NamedTuple

from ....native.ir import Function, Value, element

__all__ = ["Divisor", "divide", "divisor"]

# beyond which d is scaled, so that neither it nor 1/d is subnormal, and by how much
RANGE = {"float": (2.0**100, 2.0**64), "double": (2.0**900, 2.0**512)}


class Divisor(NamedTuple):
    """A divisor times a power of two, its inverse, and that power."""

    d: Value
    inverse: Value
    scale: Value


def divisor(f: Function, d: Value) -> Divisor:
    """What `divide` needs of a number."""
    limit, power = RANGE[element(d.kind)]
    size, one = f.fabs(d), f.const(1.0, d.kind)
    scale = f.select(f.compare("olt", size, 1 / limit), power, one)
    scale = f.select(f.compare("ogt", size, limit), 1 / power, scale)
    d = d * scale
    return Divisor(d, 1.0 / d, scale)


def divide(f: Function, x: Value, by: Divisor) -> Value:
    """x / d; where a step overflows or is nan, its first guess is x / d already."""
    x = f.binary("mul", x, by.scale, "")
    q = f.binary("mul", x, by.inverse, "")
    y = f.fma(f.fma(-q, by.d, x), by.inverse, q)
    return f.select(f.compare("uno", y, y), q, y)
