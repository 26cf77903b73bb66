"""The machine code of recurrent networks, against the loop of NumPy and against mpmath."""

import mpmath
import numpy as np
import pytest

from wengert import native
from wengert.errors import MissingExtraError
from wengert.ops import recurrent_native
from wengert.ops.recurrent import GRU, LSTM, RNN

pytest.importorskip("llvmlite", reason="the compiled kernels were left out")

from wengert.native import pool
from wengert.native.target import present

CELLS = {"tanh": RNN, "relu": lambda back: RNN(back, True), "lstm": LSTM, "gru": GRU}
WIDE = {"tanh": 1, "relu": 1, "lstm": 4, "gru": 3}
SHAPES = ((1, 1, 3), (3, 5, 16), (4, 9, 20), (2, 32, 37), (5, 3, 8))  # T, N, H
TOLERANCE = {"float32": 3e-5, "float64": 1e-12}


@pytest.fixture(autouse=True)
def small_is_enough(monkeypatch):
    monkeypatch.setattr(recurrent_native, "WORTH", 0)


@pytest.fixture
def taken(monkeypatch):
    """What the two functions have answered."""
    answers = []
    for name in ("forward", "backward"):
        real = getattr(recurrent_native, name)

        def call(*args, real=real):
            answers.append(real(*args))
            return answers[-1]

        monkeypatch.setattr(recurrent_native, name, call)
    return answers


def fresh():
    recurrent_native.code.cache_clear()
    recurrent_native.most_rows.cache_clear()


def operands(cell, shape, dtype, scale=2.0):
    t, n, h = shape
    rng = np.random.default_rng(0)
    draw = lambda *s: rng.standard_normal(s).astype(dtype)
    xs = [scale * draw(t, n, WIDE[cell] * h), draw(h, WIDE[cell] * h) / dtype_of(h, dtype)]
    xs += [draw(1, h)] if cell == "gru" else []
    xs += [draw(n, h)] + ([draw(n, h)] if cell == "lstm" else [])
    return [*xs, np.array(True)]


def dtype_of(h, dtype):
    return np.sqrt(h).astype(dtype)


def both_ways(op, xs, given=(True, True)):
    """Values and cotangents, those of the states as far as they are given."""
    y = op.impl(*xs)
    rng = np.random.default_rng(1)
    g = [rng.standard_normal(v.shape).astype(v.dtype) for v in y[:-1]]
    g = [v if there else None for v, there in zip(g, given)]
    return *y, *op.vjp((*g, None), tuple(range(len(xs) - 1)), xs, y)


def by_numpy(op, xs, given, monkeypatch):
    with monkeypatch.context() as m:
        m.setattr(recurrent_native, "WORTH", 1 << 60)
        return both_ways(op, xs, given)


def near(found, want, dtype):
    for a, b in zip(found, want, strict=True):
        assert a.dtype == b.dtype == dtype
        scale = max(1.0, np.abs(b).max())
        np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE[dtype] * scale)


@pytest.mark.parametrize("level", present())
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_the_same_as_numpy(cell, reverse, level, taken, monkeypatch):
    monkeypatch.setenv("WENGERT_TARGET", level)
    fresh()
    shapes = SHAPES if level == present()[0] else SHAPES[1:3]
    for dtype in TOLERANCE:
        for shape in shapes:
            op, xs = CELLS[cell](reverse), operands(cell, shape, dtype)
            for given in ((True, True), (False, True), (True, False))[: 3 if cell == "lstm" else 1]:
                want = by_numpy(op, xs, given, monkeypatch)
                taken.clear()
                near(both_ways(op, xs, given), want, dtype)
                assert taken == [True, True]
    fresh()


@pytest.mark.parametrize("cell", CELLS)
def test_threads_change_nothing(cell, taken):
    before, op = pool.threads(), CELLS[cell](False)
    xs = operands(cell, (3, 29, 24), "float32")
    try:
        found = []
        for n in (1, 3):
            pool.set_threads(n)
            found.append(both_ways(op, xs))
    finally:
        pool.set_threads(before)
    for a, b in zip(*found):
        np.testing.assert_array_equal(a, b)
    assert taken == [True] * 4


def s(v):
    return 1 / (1 + mpmath.exp(-v))


def slope(v):
    """sigmoid'."""
    return 1 / (2 + mpmath.exp(v) + mpmath.exp(-v)) if abs(v) < 1e9 else 0


def flat(v):
    """tanh'."""
    return 4 * slope(2 * v)


def test_gates_far_out(taken):
    """Gates that are shut or open for good: no overflow, and no digits lost."""
    z = np.array([-1e30, -200.0, -90.0, -30.0, -1e-3, 0.0, 1e-3, 30.0, 90.0, 200.0, 1e30])
    x = np.concatenate([z, z[::-1], np.roll(z, 3), np.roll(z, 5)]).astype(np.float64)
    n = len(z)
    c = np.linspace(-2, 2, n)[None]
    xs = (x[None, None], np.zeros((n, 4 * n)), np.zeros((1, n)), c, np.array(True))
    y, cells, kept = LSTM().impl(*xs)
    gx, _, _, gc = LSTM().vjp((np.ones_like(y), None, None), (0, 1, 2, 3), xs, (y, cells, kept))
    assert taken == [True, True]
    with mpmath.workdps(400):  # sigmoid'(200) is sigmoid less its square
        for j in range(n):
            i, f, o, g = (mpmath.mpf(float(x[k * n + j])) for k in range(4))
            new = s(f) * c[0, j] + s(i) * mpmath.tanh(g)
            inner = s(o) * flat(new)
            want = [
                (y[0, 0, j], s(o) * mpmath.tanh(new)), (cells[0, 0, j], new),
                (gx[0, 0, j], inner * mpmath.tanh(g) * slope(i)),
                (gx[0, 0, n + j], inner * c[0, j] * slope(f)),
                (gx[0, 0, 2 * n + j], mpmath.tanh(new) * slope(o)),
                (gx[0, 0, 3 * n + j], inner * s(i) * flat(g)),
                (gc[0, j], inner * s(f)),
            ]  # fmt: skip
            for found, right in want:
                assert abs(found - right) <= 1e-14 * abs(right) + 1e-300, (j, found, right)


@pytest.mark.parametrize("cell", CELLS)
def test_nan_stays_with_its_example(cell, taken):
    xs = operands(cell, (3, 5, 16), "float64")
    xs[0][1, 2, 0] = np.nan
    y = CELLS[cell](False).impl(*xs)[0]
    assert taken == [True]
    bad = ~np.isfinite(y).all(axis=(0, 2))
    np.testing.assert_array_equal(bad, np.arange(5) == 2)


def test_nothing_is_written_beside_the_result(taken):
    for cell, make in CELLS.items():
        xs = operands(cell, (2, 5, 11), "float64")
        y = make(False).impl(*xs)
        rooms = [np.full(v.size + 64, np.nan) for v in y]
        inside = [r[32:-32].reshape(v.shape) for r, v in zip(rooms, y)]
        names = ("x", "w", "b", "h") if cell == "gru" else ("x", "w", "h", "c")
        arrays = dict(zip(names, xs[:-1])) | {"y": inside[0], "z": inside[-1]}
        arrays |= {"cells": inside[1]} if cell == "lstm" else {}
        assert recurrent_native.forward(cell, False, arrays)
        for room, part, want in zip(rooms, inside, y):
            np.testing.assert_array_equal(part, want)
            assert np.isnan(room[:32]).all()
            assert np.isnan(room[-32:]).all()


def test_what_is_left_to_numpy(taken, monkeypatch):
    xs = operands("lstm", (3, 4, 8), "float64")
    LSTM().impl(*xs[:-1], np.ones((3, 4), bool))  # some may have ended
    assert not taken
    LSTM().impl(xs[0].astype(np.float32), *xs[1:])
    LSTM().impl(*[a.astype(np.float16) for a in xs[:-1]], xs[-1])
    LSTM().impl(xs[0][:, None], *xs[1:])  # lanes
    monkeypatch.setattr(recurrent_native, "WORTH", 1 << 22)
    LSTM().impl(*xs)
    assert taken == [False] * 4


def test_without_a_compiler(taken, monkeypatch):
    def missing(module, extra):
        raise MissingExtraError(f"import {module}", "it is not installed")

    xs = operands("gru", (3, 4, 8), "float64")
    want = both_ways(GRU(), xs)
    monkeypatch.setattr(native, "need", missing)
    near(both_ways(GRU(), xs), want, "float64")
    assert taken == [True, True, False, False]
