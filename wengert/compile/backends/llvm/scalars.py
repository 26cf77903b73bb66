"""What each elementwise operation of the house is in LLVM's terms, one line an operation.

    "name": (kinds, f, x.. -> the instructions)

`kinds` are the kinds of operands that have native code, as NumPy writes them: f, i and b. A number
or boolean is a scalar or a vector alike. Where NumPy's meaning has an edge (a division of integers
by 0, a shift by more than the width, nan in a maximum) it is kept.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from ....native import ir
from ....native.ir import INT, REORDER, Function, Value, element, lanes, vector
from ....native.mathematics import ARITY

__all__ = ["KIND", "across", "apply", "cast", "combine", "const", "neutral", "price", "supported"]

KIND = {"float32": "float", "float64": "double", "int32": "i32", "int64": "i64", "bool": "i1"}
WIDTH = {"i32": 32, "i64": 64}


def const(f: Function, x: Any, kind: str) -> Value:
    return f.const(bool(x) if element(kind) == "i1" else x, kind)


def fixed(x: Any) -> bool:
    """A constant, and not nan."""
    if not isinstance(x, Value):
        return True
    bits = re.search("0x([0-9A-F]{16})", x.name)
    nan = bits is not None and int(bits[1], 16) & ~(1 << 63) > 0x7FF << 52
    return x.name[0] != "%" and not nan


def logical(x: Value) -> bool:
    return element(x.kind) == "i1"


# ------------------------------------------------------------------ comparisons and choices

PREDICATES = {
    "lt": ("olt", "slt", "ult"), "le": ("ole", "sle", "ule"), "gt": ("ogt", "sgt", "ugt"),
    "ge": ("oge", "sge", "uge"), "eq": ("oeq", "eq", "eq"), "ne": ("une", "ne", "ne"),
}  # fmt: skip


def compare(name: str) -> Callable[..., Value]:
    floats, integers, booleans = PREDICATES[name]

    def write(f: Function, a: Value, b: Value) -> Value:
        return f.compare(floats if a.is_float else booleans if logical(a) else integers, a, b)

    return write


def truth(f: Function, x: Value) -> Value:
    """x is not 0; nan is not."""
    return x if logical(x) else f.compare("une" if x.is_float else "ne", x, 0)


def largest(f: Function, a: Any, b: Any) -> Value:
    a, b = f.pair(a, b)
    if logical(a):
        return a | b
    if a.is_float and not (fixed(a) or fixed(b)):
        return f.intrinsic("maximum", a, b, flags="nsz")
    return f.larger(b, a) if fixed(a) else f.larger(a, b)


def smallest(f: Function, a: Any, b: Any) -> Value:
    a, b = f.pair(a, b)
    if logical(a):
        return a & b
    if a.is_float and not (fixed(a) or fixed(b)):
        return f.intrinsic("minimum", a, b, flags="nsz")
    return f.smaller(b, a) if fixed(a) else f.smaller(a, b)


def ignoring_nan(word: str, choose: Callable[..., Value]) -> Callable[..., Value]:
    def write(f: Function, a: Value, b: Value) -> Value:
        return f.intrinsic(word, a, b, flags="nsz") if a.is_float else choose(f, a, b)

    return write


def where(f: Function, c: Value, a: Value, b: Value) -> Value:
    return f.select(truth(f, c), a, b)


def clip(f: Function, x: Value, low: Value, high: Value) -> Value:
    return smallest(f, largest(f, x, low), high)


def sign(f: Function, x: Value) -> Value:
    if not x.is_float:
        one = f.select(f.compare("sgt", x, 0), f.const(1, x.kind), f.const(0, x.kind))
        return f.select(f.compare("slt", x, 0), -1, one)
    return f.select(f.compare("une", x, 0.0), magnitude_one(f, x), x)


def magnitude_one(f: Function, x: Value) -> Value:
    """1 or -1 by the sign of x, and nan for nan."""
    return f.select(f.compare("uno", x, x), x, f.copysign(1.0, x))


def heaviside(f: Function, x: Value, at_zero: Value) -> Value:
    step = f.select(f.compare("olt", x, 0.0), f.const(0.0, x.kind), f.const(1.0, x.kind))
    step = f.select(f.compare("oeq", x, 0.0), at_zero, step)
    return f.select(f.compare("uno", x, x), x, step)


# ------------------------------------------------------------------ arithmetic


def add(f: Function, a: Value, b: Value) -> Value:
    return a | b if logical(a) else a + b


def mul(f: Function, a: Value, b: Value) -> Value:
    return a & b if logical(a) else a * b


def magnitude(f: Function, x: Value) -> Value:
    if logical(x):
        return x
    return f.fabs(x) if x.is_float else f.select(f.compare("slt", x, 0), -x, x)


def divisor(f: Function, a: Value, b: Value) -> tuple[Value, Value, Value]:
    """a and b of one type, and a divisor that is 1 where a / b is not an integer of the type."""
    a, b = f.pair(a, b)
    bits = WIDTH[element(a.kind)]
    lowest = f.compare("eq", a, -(1 << (bits - 1))) & f.compare("eq", b, -1)
    return a, b, f.select(f.compare("eq", b, 0) | lowest, 1, b)


def integer(f: Function, op: str, a: Value, b: Value) -> Value:
    return f.emit(f"{op} {a.kind} {a.name}, {b.name}", a.kind)


def truncated(f: Function, a: Value, b: Value) -> Value:
    """fmod: the remainder has the sign of a."""
    a, b, safe = divisor(f, a, b)
    return f.select(f.compare("eq", b, 0), 0, integer(f, "srem", a, safe))


def disagree(f: Function, a: Value, b: Value) -> Value:
    """One of them is negative and the other is not."""
    return f.compare("slt", a, 0) ^ f.compare("slt", b, 0)


def remainder(f: Function, a: Value, b: Value) -> Value:
    """The remainder that has the sign of b."""
    a, b, safe = divisor(f, a, b)
    r = integer(f, "srem", a, safe)
    r = f.select(f.compare("ne", r, 0) & disagree(f, r, b), r + b, r)
    return f.select(f.compare("eq", b, 0), 0, r)


def floor_divide(f: Function, a: Value, b: Value) -> Value:
    a, b, safe = divisor(f, a, b)
    q, r = integer(f, "sdiv", a, safe), integer(f, "srem", a, safe)
    q = f.select(f.compare("ne", r, 0) & disagree(f, r, b), q - 1, q)
    return f.select(f.compare("eq", b, 0), 0, q)


def shift(op: str) -> Callable[..., Value]:
    def write(f: Function, a: Value, b: Value) -> Value:
        a, b = f.pair(a, b)
        bits = WIDTH[element(a.kind)]
        small = f.compare("ult", b, bits)
        if op == "ashr":
            return a >> f.select(small, b, bits - 1)
        return f.select(small, a << f.select(small, b, 0), 0)

    return write


def rounding(name: str) -> Callable[..., Value]:
    return lambda f, x: f.intrinsic(name, x) if x.is_float else x


def numbers(f: Function, x: Value, answer: bool) -> Value:
    return f.const(answer, vector("i1", lanes(x.kind)))


def isnan(f: Function, x: Value) -> Value:
    return f.compare("uno", x, x) if x.is_float else numbers(f, x, False)


def isinf(f: Function, x: Value) -> Value:
    return f.compare("oeq", f.fabs(x), math.inf) if x.is_float else numbers(f, x, False)


def isfinite(f: Function, x: Value) -> Value:
    return f.compare("olt", f.fabs(x), math.inf) if x.is_float else numbers(f, x, True)


def signbit(f: Function, x: Value) -> Value:
    return f.compare("slt", f.bits(x) if x.is_float else x, 0)


def logaddexp2(f: Function, a: Value, b: Value) -> Value:
    a, b = f.pair(a, b)
    more = f.math("log1p", f.math("exp2", -f.fabs(a - b))) * (1 / math.log(2.0))
    return f.select(f.compare("oeq", a, b), a + 1.0, largest(f, a, b) + more)


def sinc(f: Function, x: Value) -> Value:
    y = x * math.pi
    return f.select(f.compare("oeq", x, 0.0), 1.0, f.math("sin", y) / y)


def times_log(f: Function, a: Value, b: Value) -> Value:
    none = f.compare("oeq", a, 0.0) & f.compare("oeq", b, 0.0)
    return f.select(none, 0.0, a * f.math("log", b))


def times_log1m(f: Function, a: Value, b: Value) -> Value:
    none = f.compare("oeq", a, 0.0) & f.compare("oeq", b, 1.0)
    return f.select(none, 0.0, a * f.math("log1p", -b))


def bce_logits(f: Function, a: Value, b: Value) -> Value:
    """b softplus(-a) + (1 - b) softplus(a), where a factor 0 leaves a term out."""
    off = f.select(f.compare("oeq", b, 0.0), 0.0, b * f.math("softplus", -a))
    on = f.select(f.compare("oeq", b, 1.0), 0.0, (1.0 - b) * f.math("softplus", a))
    return off + on


# ------------------------------------------------------------------ the table

Rule = Callable[..., Value]


def same(f: Function, x: Value) -> Value:
    return x


def scaled(factor: float) -> Rule:
    return lambda f, x: x * factor


# fmt: off
TABLE: dict[str, tuple[str, Rule]] = {
    "add":          ("fib", add),
    "sub":          ("fi",  lambda f, a, b: a - b),
    "mul":          ("fib", mul),
    "mul_mask":     ("fib", mul),
    "div":          ("f",   lambda f, a, b: a / b),
    "neg":          ("fi",  lambda f, x: -x),
    "abs":          ("fib", magnitude),
    "square":       ("fi",  lambda f, x: x * x),
    "abs2":         ("fi",  lambda f, x: x * x),
    "reciprocal":   ("f",   lambda f, x: 1.0 / x),
    "sqrt":         ("f",   lambda f, x: f.sqrt(x)),
    "root":         ("f",   lambda f, x: f.sqrt(x)),
    "copy":         ("fib", same),
    "positive":     ("fi",  same),
    "conj":         ("fi",  same),
    "real":         ("fib", same),
    "imag":         ("fib", lambda f, x: const(f, 0, x.kind)),
    "maximum":      ("fib", largest),
    "minimum":      ("fib", smallest),
    "fmax":         ("fib", ignoring_nan("maxnum", largest)),
    "fmin":         ("fib", ignoring_nan("minnum", smallest)),
    "relu":         ("fi",  lambda f, x: f.larger(x, 0)),
    "where":        ("fib", where),
    "clip":         ("fi",  clip),
    "sign":         ("fi",  sign),
    "heaviside":    ("f",   heaviside),
    "copysign":     ("f",   lambda f, a, b: f.copysign(a, b)),
    "floor":        ("fi",  rounding("floor")),
    "ceil":         ("fi",  rounding("ceil")),
    "trunc":        ("fi",  rounding("trunc")),
    "rint":         ("f",   rounding("rint")),
    "remainder":    ("i",   remainder),
    "fmod":         ("i",   truncated),
    "floor_divide": ("i",   floor_divide),
    "lt":           ("fib", compare("lt")),
    "le":           ("fib", compare("le")),
    "gt":           ("fib", compare("gt")),
    "ge":           ("fib", compare("ge")),
    "eq":           ("fib", compare("eq")),
    "ne":           ("fib", compare("ne")),
    "logical_and":  ("fib", lambda f, a, b: truth(f, a) & truth(f, b)),
    "logical_or":   ("fib", lambda f, a, b: truth(f, a) | truth(f, b)),
    "logical_xor":  ("fib", lambda f, a, b: truth(f, a) ^ truth(f, b)),
    "logical_not":  ("fib", lambda f, x: ~truth(f, x)),
    "isnan":        ("fi",  isnan),
    "isinf":        ("fi",  isinf),
    "isfinite":     ("fi",  isfinite),
    "signbit":      ("fi",  signbit),
    "bitwise_and":  ("ib",  lambda f, a, b: a & b),
    "bitwise_or":   ("ib",  lambda f, a, b: a | b),
    "bitwise_xor":  ("ib",  lambda f, a, b: a ^ b),
    "invert":       ("ib",  lambda f, x: ~x),
    "left_shift":   ("i",   shift("shl")),
    "right_shift":  ("i",   shift("ashr")),
    "deg2rad":      ("f",   scaled(math.pi / 180)),
    "radians":      ("f",   scaled(math.pi / 180)),
    "rad2deg":      ("f",   scaled(180 / math.pi)),
    "degrees":      ("f",   scaled(180 / math.pi)),
    "sinc":         ("f",   sinc),
    "logaddexp2":   ("f",   logaddexp2),
    "times_log":    ("f",   times_log),
    "times_log1m":  ("f",   times_log1m),
    "bce_logits":   ("f",   bce_logits),
    "float_power":  ("f",   lambda f, a, b: f.math("pow", a, b)),
}
# fmt: on

MATH = frozenset(ARITY)
DEAR = frozenset(
    [
        "div",
        "reciprocal",
        "sqrt",
        "root",
        "remainder",
        "fmod",
        "floor_divide",
        "unit_vector",
        "lorentz",
        "lorentz2",
        "softsign",
    ]
)

HEAVY = frozenset(["sinc", "logaddexp2", "float_power", "times_log", "times_log1m", "bce_logits"])


def supported(name: str, dtypes: tuple[Any, ...]) -> bool:
    """Whether an elementwise operation has native code for operands of these dtypes."""
    told = [np.dtype(d) for d in dtypes]
    if any(d.name not in KIND for d in told):
        return False
    if name == "float_power":
        return all(d.name == "float64" for d in told)
    if name in TABLE and all(d.kind in TABLE[name][0] for d in told):
        return True
    return name in MATH and all(d.kind == "f" for d in told) and len(set(told)) == 1


def apply(f: Function, name: str, *xs: Value) -> Value:
    """The instructions of an elementwise operation."""
    kinds, write = TABLE.get(name, ("", f.math))
    if xs[-1].is_float and "f" not in kinds:
        return f.math(name, *xs)
    return write(f, *xs)


def price(name: str) -> int:
    """Roughly, in additions."""
    return 4 if name in DEAR else 12 if name in MATH or name in HEAVY else 1


# ------------------------------------------------------------------ casts and combinations


def cast(f: Function, x: Value, to: str) -> Value:
    """NumPy's astype; a float that no integer is near saturates."""
    start = element(x.kind)
    if start == to:
        return x
    if to == "i1":
        return truth(f, x)
    if start == "i1" and to in INT:
        return f.select(x, f.const(1.0, to), f.const(0.0, to))
    if start == "i1":
        return f.cast("zext", x, to)
    if start in INT and to in INT:
        return f.cast("fpext" if to == "double" else "fptrunc", x, to)
    if start in INT:
        kind, n = vector(to, lanes(x.kind)), lanes(x.kind)
        mark = f"v{n}" if n > 1 else ""
        name = f"@llvm.fptosi.sat.{mark}{to}.{mark}{ir.SUFFIX[start]}"
        f.module.declare(f"declare {kind} {name}({x.kind})")
        return f.emit(f"call {kind} {name}({x!r})", kind)
    if to in INT:
        return f.cast("sitofp", x, to)
    return f.cast("sext" if to == "i64" else "trunc", x, to)


def neutral(f: Function, how: str, kind: str) -> Value:
    """The number that changes nothing in a combination."""
    inner = element(kind)
    if inner == "i1":
        return f.const(how in ("mul", "min"), kind)
    if how in ("add", "mul"):
        return f.const(int(how == "mul"), kind)
    if inner in INT:
        return f.const(-math.inf if how == "max" else math.inf, kind)
    bits = WIDTH[inner]
    return f.const(-(1 << (bits - 1)) if how == "max" else (1 << (bits - 1)) - 1, kind)


def combine(f: Function, how: str, a: Value, b: Value) -> Value:
    """Two numbers, or lane by lane, in a reduction; the order is free."""
    if logical(a):
        return a | b if how in ("add", "max") else a & b
    if how in ("add", "mul"):
        return f.binary(how, a, b, REORDER)
    return largest(f, a, b) if how == "max" else smallest(f, a, b)


def across(f: Function, how: str, x: Value) -> Value:
    """All lanes in one."""
    if logical(x):
        how = "or" if how in ("add", "max") else "and"
    return f.across(x, how)
