"""Native quotients: remainders as NumPy has them, and the slopes that are fractions."""

from __future__ import annotations

from ..ir import Function, Module, Value, lanes
from .lanes import INF, NAN, any_lane, exact, floored, native, truncated, two_product, two_sum
from .powers import cbrt, in_range


def long_remainders(module: Module) -> str:
    """long_remainders(a, b, y, n): y[j] = |a[j]| mod |b[j]|, eleven bits of the quotient a time.

    For finite a and b != 0, |a| >= |b|; a y[j] of others is left alone. Exact, in integers.
    """
    name = "long_remainders"
    if any(f.name == name for f in module.functions):
        return name
    f = Function(
        module, name, [*((n, "ptr") for n in ("a", "b", "y")), ("n", "i64")],
        attributes="noinline cold nounwind", linkage="internal",
    )  # fmt: skip

    def parts(x: Value) -> tuple[Value, Value]:
        """x = m 2^(e - 1075), e at least 1."""
        i = f.bits(f.fabs(x))
        e = f.binary("lshr", i, 52)
        low = i & ((1 << 52) - 1)
        m = f.select(f.compare("eq", e, 0), low, low | (1 << 52))
        return m, f.larger(e, 1)

    def rest(m: Value, bits: Value, by: Value) -> Value:
        return f.binary("urem", m << bits, by)

    with f.loop(0, f["n"], 1, unroll=False) as j:
        a, b = f.load(f["a"], "double", j), f.load(f["b"], "double", j)
        (m, e), (by, e_by) = parts(a), parts(b)
        finite = f.compare("olt", f.fabs(a), INF) & f.compare("une", b, 0.0)
        with f.when(finite & f.compare("olt", f.fabs(b), INF) & f.compare("sge", e, e_by)):
            shift = e - e_by
            r = f.slot(f.binary("urem", m, by))
            with f.loop(0, f.binary("udiv", shift, 11), 1, unroll=False):
                f.set(r, rest(f.get(r, "i64"), f.const(11, "i64"), by))
            left = rest(f.get(r, "i64"), f.binary("urem", shift, 11), by)
            y = f.cast("sitofp", left, "double") * 2.0**-52
            f.store(y * f.unbits(e_by << 52), f["y"], j)
    f.ret()
    return name


def fmod_parts(f: Function, goal: str, a: Value, b: Value) -> Value:
    """|a| mod |b|, exactly."""
    a, b = f.fabs(a), f.fabs(b)
    ratio = a / b
    q = truncated(f, ratio)
    if goal == "short" or f.module.fma:
        y = f.fma(-q, b, a)
    else:
        p, low = two_product(f, q, b)
        y = exact(f, "sub", exact(f, "sub", a, p), low)
    y = f.select(f.compare("olt", y, 0.0), y + b, y)
    y = f.select(f.compare("olt", a, b), a, y)
    limit = 2.0**29 if goal == "short" else 2.0**52
    long = f.compare("uge", ratio, limit) | f.compare("ogt", a, 2.0**1000)
    long = long & f.compare("olt", a, INF) & f.compare("one", b, 0.0) & f.compare("olt", b, INF)
    kept = f.slot(y)
    with f.when(any_lane(f, long)):
        passed = [f.slot(v) for v in (a, b, y)]
        told = ", ".join(f"ptr {p.name}" for p in passed)
        f.raw(f"call void @{long_remainders(f.module)}({told}, i64 {lanes(a.kind)})")
        f.set(kept, f.select(long, f.get(passed[2], a.kind), y))
    y = f.get(kept, a.kind)
    valid = f.compare("olt", a, INF) & f.compare("one", b, 0.0)
    return f.select(valid, y, NAN)


@native(2, wide=True)
def fmod(f: Function, goal: str, a: Value, b: Value) -> Value:
    """a - b trunc(a / b), with the sign of a."""
    return f.copysign(fmod_parts(f, goal, a, b), a)


def floor_parts(f: Function, a: Value, b: Value) -> tuple[Value, Value, Value]:
    """fmod(a, b); whether it is not 0 and has not b's sign."""
    y = f.math("fmod", a, b)
    some = f.compare("one", y, 0.0)
    return y, some, some & (f.compare("olt", y, 0.0) ^ f.compare("olt", b, 0.0))


@native(2)
def remainder(f: Function, goal: str, a: Value, b: Value) -> Value:
    """a - b floor(a / b), with the sign of b."""
    y, some, other = floor_parts(f, a, b)
    y = f.select(other, exact(f, "add", y, b), y)
    return f.select(some | f.compare("uno", y, y), y, f.copysign(0.0, b))


@native(2)
def floor_divide(f: Function, goal: str, a: Value, b: Value) -> Value:
    """floor(a / b), of the exact quotient; a / b where b is 0."""
    y, _, other = floor_parts(f, a, b)
    q = exact(f, "div", exact(f, "sub", a, y), b)
    q = f.select(other, exact(f, "sub", q, 1.0), q)
    whole = floored(f, q)
    whole = f.select(f.compare("ogt", exact(f, "sub", q, whole), 0.5), whole + 1.0, whole)
    ratio = exact(f, "div", a, b)
    whole = f.select(f.compare("oeq", q, 0.0), f.copysign(0.0, ratio), whole)
    return f.select(f.compare("oeq", b, 0.0), ratio, whole)


# ------------------------------------------------------------------ slopes


@native()
def cauchy(f: Function, goal: str, x: Value) -> Value:
    """1 / (1 + x^2); 1/x 1/x where the square overflows."""
    a = f.fabs(x)
    big = f.compare("ogt", a, 2.0**60 if goal == "float" else 2.0**500)
    if f.module.fma:
        d = f.fma(a, a, 1.0)
    else:
        square, low = two_product(f, a, a)
        d, left = two_sum(f, square, 1.0)
        d = d + (left + low)
    y = 1.0 / f.select(big, a, d)
    return f.select(big, y * y, y)


def one_less_square(f: Function, x: Value) -> Value:
    """1 - x^2, rounded once; the factors beyond 2, where the square may overflow."""
    p, low = two_product(f, x, x)
    d = exact(f, "sub", exact(f, "sub", 1.0, p), low)
    a = f.fabs(x)
    return f.select(f.compare("olt", a, 2.0), d, (1.0 - a) * (1.0 + a))


@native()
def lorentz(f: Function, goal: str, x: Value) -> Value:
    return 1.0 / f.sqrt(one_less_square(f, x))


@native()
def lorentz2(f: Function, goal: str, x: Value) -> Value:
    return 1.0 / one_less_square(f, x)


@native(2)
def unit_vector(f: Function, goal: str, a: Value, b: Value) -> Value:
    """a / b, and 0 where b is 0."""
    return f.select(f.compare("oeq", b, 0.0), 0.0, a / b)


@native(2, wide=True)
def turn(f: Function, goal: str, a: Value, b: Value) -> Value:
    """b / (a^2 + b^2)."""
    _, _, scale, square = in_range(f, a, b)
    y = b * scale / square * scale
    infinite = f.compare("oeq", f.fabs(a), INF) & f.compare("olt", f.fabs(b), INF)
    return f.select(infinite, f.copysign(f.const(0.0, a.kind), b), y)


@native(wide=True)
def dcbrt(f: Function, goal: str, x: Value) -> Value:
    """x^(1/3) / (3 x), and inf at 0."""
    y = cbrt(f, goal, x) / x * (1 / 3)
    return f.select(f.compare("oeq", x, 0.0), INF, y)
