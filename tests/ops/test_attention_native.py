"""The machine code of attention, against NumPy's tiles and against the definition."""

import numpy as np
import pytest

from wengert import native
from wengert.errors import MissingExtraError
from wengert.ops import attention_native
from wengert.ops.attention import Attention

pytest.importorskip("llvmlite", reason="the compiled kernels were left out")

from wengert.native import pool
from wengert.native.target import present

SHAPES = (  # lead, S, T, D, E
    ((2, 3), 9, 11, 5, 7),
    ((1,), 40, 40, 32, 32),
    ((2,), 8, 130, 16, 20),  # as many keys as fill several tiles, few queries
    ((2, 2), 70, 50, 8, 48),  # the first queries see no key where it is causal
    ((3,), 1, 5, 3, 2),
    ((), 33, 33, 64, 65),
)
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}
BIASES = ("none", "each score", "keys left out", "queries without a key", "a head")


@pytest.fixture(autouse=True)
def small_is_enough(monkeypatch):
    monkeypatch.setattr(attention_native, "WORTH", 0)
    monkeypatch.setattr(attention_native, "FEWEST", 1)


@pytest.fixture
def taken(monkeypatch):
    answers = []
    for name in ("forward", "backward"):
        real = getattr(attention_native, name)

        def call(*args, real=real):
            found = real(*args)
            answers.append(found is not None)
            return found

        monkeypatch.setattr(attention_native, name, call)
    return answers


def operands(shape, dtype, bias="none", seed=0):
    lead, s, t, d, e = shape
    rng = np.random.default_rng(seed)
    q, k, v, g = (rng.standard_normal((*lead, *x)).astype(dtype)
                  for x in ((s, d), (t, d), (t, e), (s, e)))  # fmt: skip
    b = {
        "none": 0.0,
        "each score": rng.standard_normal((s, t)),
        "keys left out": np.where(rng.random((*lead, 1, t)) < 0.3, -np.inf, 0),
        "queries without a key": np.where(np.arange(s)[:, None] % 2, -np.inf, np.zeros((s, t))),
        "a head": rng.standard_normal((*lead[:1], *(1,) * (len(lead) - 1), s, t)),
    }[bias]
    return q, k, v, (b if bias == "none" else b.astype(dtype)), g


def defined(q, k, v, b, g, scale, causal):
    """y and the cotangents of q, k, v by whole matrices of float64."""
    q, k, v, g = (x.astype(float) for x in (q, k, v, g))
    s = scale * q @ k.swapaxes(-1, -2) + b
    if causal:
        s = np.where(np.tri(*s.shape[-2:], s.shape[-1] - s.shape[-2], bool), s, -np.inf)
    m = s.max(axis=-1, keepdims=True)
    p = np.exp(s - np.where(np.isneginf(m), 0, m))
    total = p.sum(axis=-1, keepdims=True)
    p /= np.where(total == 0, 1, total)
    gp = g @ v.swapaxes(-1, -2)
    gs = p * (gp - (gp * p).sum(axis=-1, keepdims=True))
    return p @ v, scale * gs @ k, scale * gs.swapaxes(-1, -2) @ q, p.swapaxes(-1, -2) @ g


def both_ways(op, q, k, v, b, g):
    return op.impl(q, k, v, b), *op.vjp(g, (0, 1, 2), (q, k, v, b))


def near(found, want, dtype):
    for a, b in zip(found, want, strict=True):
        assert a.dtype == dtype
        scale = max(1.0, np.abs(b).max())
        np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE[dtype] * scale)


@pytest.mark.parametrize("level", present())
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("bias", BIASES)
def test_against_the_definition(bias, causal, level, taken, monkeypatch):
    monkeypatch.setenv("WENGERT_TARGET", level)
    attention_native.code.cache_clear()
    shapes = SHAPES if level == present()[0] else SHAPES[1:3]
    for dtype in TOLERANCE:
        for shape in shapes:
            q, k, v, b, g = operands(shape, dtype, bias)
            want = defined(q, k, v, b, g, 0.3, causal)
            near(both_ways(Attention(0.3, causal), q, k, v, b, g), want, dtype)
    assert taken == [True] * 4 * len(shapes)
    attention_native.code.cache_clear()


@pytest.mark.parametrize("cached", [1, 1 << 30])
@pytest.mark.parametrize("threads", [1, 3])
def test_threads_and_blocks(threads, cached, taken, monkeypatch):
    """Threads change nothing to the bit; blocks of any size give nearly the same."""
    before = pool.threads()
    monkeypatch.setattr(attention_native, "CACHED", cached)
    for shape in SHAPES:
        q, k, v, b, g = operands(shape, "float64", "keys left out")
        found = []
        try:
            for n in (1, threads):
                pool.set_threads(n)
                found.append(both_ways(Attention(0.3, True), q, k, v, b, g))
        finally:
            pool.set_threads(before)
        near(found[0], defined(q, k, v, b, g, 0.3, True), "float64")
        for a, c in zip(*found):
            np.testing.assert_array_equal(a, c)
    assert all(taken)


def test_heads_that_are_views(taken):
    """As heads are cut out of one product, without a copy; and one key for several heads."""
    rng = np.random.default_rng(0)
    whole = rng.standard_normal((2, 20, 3, 3, 8))
    q, k, v = (whole[:, :, i].swapaxes(1, 2) for i in range(3))
    g = rng.standard_normal((2, 3, 20, 8))
    near(both_ways(Attention(0.4, True), q, k, v, 0.0, g),
         defined(q, k, v, 0.0, g, 0.4, True), "float64")  # fmt: skip
    y, gq, gk, gv = both_ways(Attention(0.4), q, k[:, :1], v[:, :1], 0.0, g)
    want = defined(q, k[:, :1], v[:, :1], 0.0, g, 0.4, False)
    near((y, gq), want[:2], "float64")
    near((gk, gv), [x.sum(axis=1, keepdims=True) for x in want[2:]], "float64")
    assert all(taken)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_stays_in_its_head(value, taken):
    q, k, v, b, _ = operands(SHAPES[0], "float64")
    q[0, 1, 2, 0] = value
    y = Attention(1.0).impl(q, k, v, b)
    bad = ~np.isfinite(y)
    assert bad[0, 1, 2].all()
    assert bad.sum() == bad[0, 1, 2].size
    v[1, 2, 3, 4] = value
    y = Attention(1.0).impl(q, k, v, b)
    assert not np.isfinite(y[1, 2, :, 4]).any()
    assert np.isfinite(y[1, 2, :, :4]).all()
    assert all(taken)


def test_large_scores(taken):
    """Nothing overflows, and the largest score takes all."""
    q = np.full((1, 8, 2), 1e4)
    k = np.linspace(-1e4, 1e4, 10)[None, :, None] * np.ones(2)
    v = np.arange(10.0)[None, :, None]
    y = Attention(1.0).impl(q, k, v, 0.0)
    np.testing.assert_array_equal(y, np.full((1, 8, 1), 9.0))
    assert taken == [True]


def test_what_is_left_to_numpy(taken, monkeypatch):
    q, k, v, b, g = operands(SHAPES[1], "float64", "each score")
    op = Attention(0.3)
    gs = op.vjp(g, (0, 1, 2, 3), (q, k, v, b))  # the bias has a gradient
    assert not taken
    near(gs[:3], defined(q, k, v, b, g, 0.3, False)[1:], "float64")
    op.impl(q[..., ::2], k[..., ::2], v, 0.0)
    op.impl(*[x.astype(np.float16) for x in (q, k, v)], 0.0)
    op.impl(q.astype(np.float32), k, v, 0.0)
    op.impl(q, k, v, b.astype(np.float32))
    op.impl(q, k, v, np.zeros((40, 1)))
    monkeypatch.setattr(attention_native, "FEWEST", 41)
    op.impl(q, k, v, 0.0)
    monkeypatch.setattr(attention_native, "FEWEST", 1)
    monkeypatch.setattr(attention_native, "WORTH", 1 << 22)
    op.impl(q, k, v, 0.0)
    assert taken == [False] * 7


def test_without_a_compiler(taken, monkeypatch):
    def missing(module, extra):
        raise MissingExtraError(f"import {module}", "it is not installed")

    q, k, v, b, g = operands(SHAPES[1], "float64")
    want = both_ways(Attention(0.3, True), q, k, v, b, g)
    monkeypatch.setattr(native, "need", missing)
    near(both_ways(Attention(0.3, True), q, k, v, b, g), want, "float64")
    assert taken == [True, True, False, False]
