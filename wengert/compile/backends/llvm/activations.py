"""Native activation functions and their derivatives; `wengert/ops/slopes.py` has their meaning."""

from __future__ import annotations

from .exponential import power
from .ir import Function, Value
from .lanes import native


@native()
def sigmoid(f: Function, goal: str, x: Value) -> Value:
    """e / (1 + e) with e = e^x; e - e y where that is more accurate."""
    e = power(f, goal, f.smaller(x, 40.0), careful=goal == "float").value()
    y = e / (e + 1.0)
    return f.select(f.compare("olt", e, 0.25), f.fma(-e, y, e), y)
