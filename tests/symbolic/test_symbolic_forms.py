"""The closed form of every elementwise operation against the operation, in 30 digits."""

import numpy as np
import pytest
import sympy as sp

import wengert as wg
from wengert import testing
from wengert.errors import UnsupportedError
from wengert.primitive import Elementwise
from wengert.symbolic import differentiate, exact, has_form
from wengert.symbolic.forms import SCALAR, number
from wengert.trace import OPS

EPS = np.finfo(float).eps


def value(y, symbols, point):
    at = {s: sp.Float(float(v), 40) for s, v in zip(symbols, point)}
    y = sp.N(number(sp.sympify(y).xreplace(at)), 30)
    assert y.is_number, y
    return float(sp.re(y))


def held(got, formula, symbols, point):
    """got is the formula's value to 16 ulps, of the value or of what an ulp of an argument does."""
    want = value(formula, symbols, point)
    moves = [abs(float(p) * value(differentiate(formula, s), symbols, point))
             for s, p in zip(symbols, point) if formula.has(s)]  # fmt: skip
    assert abs(want - got) <= 16 * EPS * max(abs(want), *moves, 1e-300), (point, want, got)


def cases(name):
    """(operation, which operands are numbers, points) at some examples that the laws run."""
    for op, xs in testing.examples(name):
        xs = [np.asarray(x) for x in xs]
        if any(x.dtype.kind == "c" for x in xs):
            continue
        rows = list(zip(*[x.ravel() for x in np.broadcast_arrays(*xs)]))
        yield op, [x.dtype.kind == "f" for x in xs], rows[:1]


REAL = [n for n in sorted(SCALAR) if isinstance(OPS.get(n), Elementwise)]
BITWISE = {"bitwise_and", "bitwise_or", "bitwise_xor", "invert"}
FLAT = [n for n in sorted(SCALAR) if not isinstance(OPS.get(n), Elementwise) and n not in BITWISE]


@pytest.mark.parametrize("name", REAL)
def test_values_and_slopes(name):
    """Value and partial derivatives of the form at the points of the laws."""
    seen = 0
    for op, numbers, points in cases(name):
        symbols = [sp.Symbol(f"x{i}", real=True) for i in range(len(numbers))]
        for point in points:
            given = [s if n else exact(v.item()) for s, n, v in zip(symbols, numbers, point)]
            with np.errstate(all="ignore"):
                y = op(*point)
            if not np.isfinite(y):
                continue
            formula = sp.sympify(SCALAR[name](*given))
            held(y, formula, symbols, point)
            seen += 1
            for i, n in enumerate(numbers):
                if not n or op.partials[i] is None:
                    continue
                try:
                    g = wg.grad(op, i)(*point)
                except UnsupportedError:  # refused in this argument
                    continue
                slope = differentiate(formula, symbols[i])
                held(g, slope, symbols, point)
    assert seen


@pytest.mark.parametrize("name", FLAT)
def test_flat(name):
    """Conditions and steps: the same truth, the same whole number."""
    op = OPS[name]
    for x in (-2.5, -1.5, -0.3, 0.0, 0.5, 1.0, 1.5, 2.5):
        for b in (-1.5, 0.0, 0.5, 1.0):
            if b == 0 and name == "floor_divide":
                continue
            args = (x, b)[: len(op.args)]
            got = SCALAR[name](*map(exact, args))
            assert float(number(sp.sympify(got))) == float(op(*map(np.float64, args))), args


@pytest.mark.parametrize("name", sorted(BITWISE))
def test_bitwise_on_conditions(name):
    op = OPS[name]
    for a in (False, True):
        for b in (False, True):
            args = (a, b)[: len(op.args)]
            assert bool(SCALAR[name](*map(exact, args))) == bool(op(*map(np.bool_, args)))
    with pytest.raises(UnsupportedError):
        SCALAR[name](*[sp.Symbol("n", integer=True)] * len(op.args))


def test_every_name_is_an_operation():
    sinc_family = {n for n in OPS if n.startswith("sinc_")}
    assert set(SCALAR) - sinc_family <= set(OPS)
    assert all(has_form(n) for n in SCALAR)


# elementwise operations whose mathematics SymPy does not have
WITHOUT = {"nextafter", "left_shift", "right_shift", "betainc", "betaincc"}


def test_the_elementwise_operations_without_a_form():
    """Apart from the n-th derivatives of special functions, which are operations of their own."""
    own = [n for n, op in OPS.items() if not isinstance(op, type) and not n[-1].isdigit()]
    table = [n for n in own if getattr(OPS[n], "home", "wengert.ops").startswith("wengert.ops")]
    assert {n for n in table if not has_form(n)} == WITHOUT


@pytest.mark.parametrize(("x", "text"), [
    (2.0, "2"), (0.5, "1/2"), (0.1, "1/10"), (-1 / 3, "-1/3"), (np.pi, "pi"),
    (np.pi / 180, "pi/180"), (2 * np.sqrt(np.pi), "2*sqrt(pi)"),
    (np.sqrt(2), "sqrt(2)"), (np.e, "E"), (np.log(2), "log(2)"),
    (1e-5, "1/100000"), (np.inf, "oo"), (True, "True"), (3, "3"),
])  # fmt: skip
def test_constants_are_exact(x, text):
    assert str(exact(float(x) if isinstance(x, np.float64) else x)) == text


@pytest.mark.parametrize("x", [0.3141592, 1.4142135623730951 * (1 + 2e-16), 0.6180339887498949])
def test_a_recognised_constant_is_the_same_double(x):
    assert float(exact(x)) == x
