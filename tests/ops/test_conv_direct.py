"""The machine code of dense convolution, against the definition and against NumPy's way."""

import numpy as np
import pytest
from convolutions import problems
from convolutions import slow as by_loops
from hypothesis import given, settings

from wengert import native
from wengert.errors import MissingExtraError
from wengert.ops import conv_direct, conv_kernels
from wengert.ops.conv import Conv, ConvInput, ConvWeight

pytest.importorskip("llvmlite", reason="the compiled kernels were left out")

from wengert.native import pool
from wengert.native.target import present

CASES = {  # N, size, C, M, kernel, stride, padding, dilation, groups
    "many places": (3, (9, 10), 8, 16, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    "panels and a rest": (2, (6, 5), 5, 150, (3, 2), (1, 1), ((1, 0), (2, 1)), (1, 1), 1),
    "one channel": (2, (12, 12), 1, 17, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    "channels of several taps": (2, (7, 8), 3, 32, (3, 3), (2, 1), ((1, 1), (0, 2)), (1, 2), 1),
    "many channels": (1, (5, 4), 29, 70, (2, 2), (1, 1), ((0, 0), (1, 1)), (1, 1), 1),
    "groups": (3, (8, 7), 12, 48, (3, 3), (1, 2), ((1, 1), (1, 1)), (2, 1), 3),
    "cropped": (2, (9, 9), 4, 8, (3, 3), (1, 1), ((-1, 2), (0, -2)), (1, 1), 1),
    "a line": (2, (300,), 6, 9, (7,), (3,), ((2, 5),), (2,), 1),
    "a volume": (2, (4, 5, 6), 4, 16, (2, 3, 2), (1, 2, 1), ((1, 1),) * 3, (2, 1, 1), 2),
    "one tap": (2, (6, 6), 20, 33, (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    "twelve places": (1, (3, 4), 2, 7, (1, 2), (1, 1), ((0, 0), (0, 1)), (1, 1), 1),
}
TOLERANCE = {"float32": 3e-5, "float64": 1e-12}


@pytest.fixture(autouse=True)
def small_is_enough(monkeypatch):
    monkeypatch.setattr(conv_direct, "WORTH", 0)
    monkeypatch.setattr(conv_direct, "NARROW", 0)


@pytest.fixture
def taken(monkeypatch):
    """How often each of the two functions did it."""
    counts = {"forward": 0, "weight": 0}

    def counted(name):
        real = getattr(conv_direct, name)

        def call(*args):
            done = real(*args)
            counts[name] += done
            return done

        return call

    for name in counts:
        monkeypatch.setattr(conv_direct, name, counted(name))
    return counts


def near(found, want, dtype):
    assert found.dtype == dtype
    np.testing.assert_allclose(found, want, rtol=0, atol=TOLERANCE[dtype] * np.abs(want).max())


def slow(x, w, stride, padding, dilation, groups):
    """The definition, also where padding is negative."""
    none = ((0, 0),) * len(padding)
    return by_loops(conv_kernels.padded(x, padding), w, stride, none, dilation, groups)


def arrays(name, dtype):
    n, size, c, m, kernel, *how = CASES[name]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, *size, c)).astype(dtype)
    w = rng.standard_normal((*kernel, c // how[3], m)).astype(dtype)
    return x, w, how


def by_definition(x, w, u, how):
    """(y, gx, gw) of the slow loop, the two last by linearity in u."""
    x, w, u = (a.astype(float) for a in (x, w, u))
    y = slow(x, w, *how)
    gw = ConvWeight(*how, w.shape[:-2])(x, u)
    gx = ConvInput(*how, x.shape[1:-1])(u, w)
    d = np.random.default_rng(2)
    dx, dw = d.standard_normal(x.shape), d.standard_normal(w.shape)
    np.testing.assert_allclose((gx * dx).sum(), (u * slow(dx, w, *how)).sum(), rtol=1e-9)
    np.testing.assert_allclose((gw * dw).sum(), (u * slow(x, dw, *how)).sum(), rtol=1e-9)
    return y, gx, gw


@pytest.mark.parametrize("level", present())
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_against_the_definition(name, dtype, level, taken, monkeypatch):
    monkeypatch.setenv("WENGERT_TARGET", level)
    conv_direct.forward_code.cache_clear()
    conv_direct.weight_code.cache_clear()
    x, w, how = arrays(name, dtype)
    y = Conv(*how)(x, w)
    u = np.random.default_rng(1).standard_normal(y.shape).astype(dtype)
    gw = ConvWeight(*how, w.shape[:-2])(x, u)
    assert taken == {"forward": 1, "weight": 1}
    gx = ConvInput(*how, x.shape[1:-1])(u, w)
    want = by_definition(x, w, u, how)
    for found, right in zip((y, gx, gw), want):
        near(found, right, dtype)
    conv_direct.forward_code.cache_clear()
    conv_direct.weight_code.cache_clear()


@settings(max_examples=60, deadline=None)
@given(problems())
def test_random_problems(problem):
    x, w, *how = problem
    np.testing.assert_allclose(Conv(*how)(x, w), slow(x, w, *how), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("limit", [1, 2000, 1 << 30])
@pytest.mark.parametrize("threads", [1, 3])
def test_threads_and_blocks(threads, limit, taken, monkeypatch):
    """Several threads make the same numbers to the bit; blocks of any size, nearly the same."""
    before = pool.threads()
    monkeypatch.setattr(conv_direct, "CACHED", limit)
    found = []
    try:
        for n in (1, threads):
            pool.set_threads(n)
            for name in CASES:
                x, w, how = arrays(name, "float64")
                y = Conv(*how)(x, w)
                u = np.random.default_rng(1).standard_normal(y.shape)
                gw = ConvWeight(*how, w.shape[:-2])(x, u)
                found.append((y, gw))
                near(gw, by_definition(x, w, u, how)[2], "float64")
    finally:
        pool.set_threads(before)
    for (y, gw), (y2, gw2) in zip(found[: len(CASES)], found[len(CASES) :]):
        np.testing.assert_array_equal(y, y2)
        np.testing.assert_array_equal(gw, gw2)
    assert min(taken.values()) >= 2 * len(CASES)


def test_nothing_is_written_beside_the_result(taken):
    """Operands and results inside larger arrays whose rest is nan."""
    for name in CASES:
        x, w, how = arrays(name, "float64")
        want = slow(x, w, *how)
        room = np.full(want.size + 128, np.nan)
        y = room[64:-64].reshape(want.shape)
        wide = [np.full(a.size + 128, np.nan) for a in (x, w)]
        inside = [r[64:-64].reshape(a.shape) for r, a in zip(wide, (x, w))]
        for to, a in zip(inside, (x, w)):
            to[...] = a
        assert conv_direct.forward(*inside, y, *how)
        near(y, want, "float64")
        assert np.isnan(room[:64]).all()
        assert np.isnan(room[-64:]).all()
        gw = np.full(w.size + 128, np.nan)
        into = gw[64:-64].reshape(w.shape)
        into[...] = 0
        assert conv_direct.weight(inside[0], want, into, *how)
        near(into, ConvWeight(*how, w.shape[:-2])(x, want), "float64")
        assert np.isnan(gw[:64]).all()
        assert np.isnan(gw[-64:]).all()


def test_arrays_that_are_not_contiguous(taken):
    x, w, how = arrays("many places", "float64")
    wide = np.repeat(x, 2, axis=-1)[..., ::2]
    turned = np.ascontiguousarray(w.T).T
    near(Conv(*how)(wide, turned), slow(x, w, *how), "float64")
    u = np.random.default_rng(1).standard_normal(slow(x, w, *how).shape)
    gw = ConvWeight(*how, w.shape[:-2])
    near(gw(wide, np.asfortranarray(u)), gw(x, u), "float64")
    assert taken == {"forward": 1, "weight": 2}


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_not_finite(value, taken):
    """What a place does not see does not reach it, whatever it is times 0."""
    x, w, how = arrays("many places", "float64")
    x[0, 4, 4, 0] = value
    y = Conv(*how)(x, w)
    assert taken["forward"] == 1
    seen = np.zeros(y.shape[:-1], bool)
    seen[0, 3:6, 3:6] = True
    assert not np.isfinite(y[seen]).any()
    assert np.isfinite(y[~seen]).all()


def test_what_is_left_to_numpy(taken, monkeypatch):
    x, w, how = arrays("many places", "float64")
    Conv(*how)(x.astype(np.float16), w.astype(np.float16))
    Conv(*how)(x * 1j, w)
    Conv(*how)(x[:1, :3, :3], w)  # nine places
    assert not any(taken.values())
    monkeypatch.setattr(conv_direct, "KEPT", 0)  # a table larger than x
    np.testing.assert_allclose(
        Conv(*how)(x[..., :1], w[:, :, :1]), slow(x[..., :1], w[:, :, :1], *how), atol=1e-12
    )
    assert not any(taken.values())
    monkeypatch.setattr(conv_direct, "WORTH", 1 << 22)
    Conv(*how)(x, w)
    assert not any(taken.values())


def test_without_a_compiler(taken, monkeypatch):
    def missing(module, extra):
        raise MissingExtraError(f"import {module}", "it is not installed")

    x, w, how = arrays("groups", "float64")
    y = Conv(*how)(x, w)
    gw = ConvWeight(*how, w.shape[:-2])(x, y)
    monkeypatch.setattr(native, "need", missing)
    for code in (conv_direct.forward_code, conv_direct.weight_code):
        code.cache_clear()
    near(Conv(*how)(x, w), y, "float64")
    near(ConvWeight(*how, w.shape[:-2])(x, y), gw, "float64")
    assert taken == {"forward": 1, "weight": 1}
    for code in (conv_direct.forward_code, conv_direct.weight_code):
        code.cache_clear()


def test_padding_is_made_once_for_all_images(monkeypatch):
    """The buffer of `padded_images` keeps its zeros, also where the last images are fewer."""
    monkeypatch.setattr(conv_kernels, "IMAGES", 2 * 5 * 4 * 3 * 8)
    x = np.random.default_rng(0).standard_normal((5, 5, 4, 3))
    for padding in (((1, 2), (0, 1)), ((-1, 2), (1, 0)), ((0, 0), (0, 0))):
        want = conv_kernels.padded(x, padding)
        seen = [(some, wide.copy()) for some, wide in conv_kernels.padded_images(x, padding)]
        np.testing.assert_array_equal(np.concatenate([wide for _, wide in seen]), want)
        assert len(seen) == (1 if padding == ((0, 0), (0, 0)) else 3)
