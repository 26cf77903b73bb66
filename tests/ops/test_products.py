"""The products of the reverse pass: the same as NumPy's, by machine code where it is faster."""

import numpy as np
import pytest

import wengert as wg
from wengert import native
from wengert.errors import MissingExtraError
from wengert.ops import products

pytest.importorskip("llvmlite", reason="the compiled kernels were left out")

from wengert.native import pool

SIZES = ((64, 64, 64), (70, 130, 65), (200, 33, 90), (33, 200, 70), (128, 512, 64), (1, 300, 40))
TOLERANCE = {"float32": 2e-5, "float64": 1e-13}


@pytest.fixture(autouse=True)
def small_is_enough(monkeypatch):
    monkeypatch.setattr(products, "WORTH", 0)
    monkeypatch.setattr(products, "faster", lambda m, n, k, tb: True)


def matrices(m, n, k, dtype):
    rng = np.random.default_rng(0)
    draw = lambda *s: rng.standard_normal(s).astype(dtype)
    return draw(m, k), draw(n, k), draw(k, m), draw(k, n)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("size", SIZES)
def test_against_numpy(size, dtype, threads, monkeypatch):
    monkeypatch.setattr(products, "PART", 1)
    a, b, c, d = matrices(*size, dtype)
    before = pool.threads()
    try:
        found = []
        for n in (threads, 1):
            pool.set_threads(n)
            found.append((products.product(a, b, False, True), products.product(c, d, True, False)))
    finally:
        pool.set_threads(before)
    exact = [x.astype(np.longdouble) for x in (a, b, c, d)]
    for y, again, want in zip(*found, (exact[0] @ exact[1].T, exact[2].T @ exact[3])):
        assert y.dtype == dtype
        assert y.flags.c_contiguous
        np.testing.assert_array_equal(y, again)  # threads change nothing
        np.testing.assert_allclose(y, want, rtol=0, atol=TOLERANCE[dtype] * size[2])


def test_windows_of_larger_arrays():
    a, b, c, d = matrices(70, 90, 80, "float64")
    wide = [np.concatenate([x, np.full_like(x, np.nan)], axis=1) for x in (a, b, c, d)]
    cut = [w[:, : x.shape[1]] for w, x in zip(wide, (a, b, c, d))]
    np.testing.assert_allclose(products.product(cut[0], cut[1], False, True), a @ b.T, atol=1e-11)
    np.testing.assert_allclose(products.product(cut[2], cut[3], True, False), c.T @ d, atol=1e-11)


def test_transposed_views():
    """Whichever way they lie in memory: all four products of two matrices."""
    a, b, c, d = matrices(70, 90, 80, "float64")
    turned = [np.asfortranarray(x) for x in (a, b, c, d)]
    assert not any(x.flags.c_contiguous for x in turned)
    for x, y in ((a, b), (turned[0], b), (a, turned[1]), (turned[0], turned[1])):
        np.testing.assert_allclose(products.product(x, y, False, True), a @ b.T, atol=1e-11)
    for x, y in ((c, d), (turned[2], d), (c, turned[3]), (turned[2], turned[3])):
        np.testing.assert_allclose(products.product(x, y, True, False), c.T @ d, atol=1e-11)


def test_the_product_itself():
    """Of tensors and of batches of rows, by an operator and by a function."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((3, 120, 90)), rng.standard_normal((90, 70))
    for y in (wg.tensor(x[0]) @ wg.tensor(w), wg.tensor(x[0], requires_grad=True) @ w,
              x[0] @ wg.tensor(w, requires_grad=True), np.matmul(wg.tensor(x[0]), w)):  # fmt: skip
        np.testing.assert_allclose(y.detach().numpy(), x[0] @ w, atol=1e-11)
    np.testing.assert_allclose((wg.tensor(x) @ wg.tensor(w)).numpy(), x @ w, atol=1e-11)


def test_what_is_left_to_numpy():
    a, b, *_ = matrices(64, 64, 64, "float64")
    for x, y in (
        (a[::-1], b), (a[:, ::2], b[:, ::2]), (a, b.astype(np.float32)),
        (a.astype(np.float16), b.astype(np.float16)), (a + 1j, b + 1j), (a[0], b),
        (np.broadcast_to(a[0], a.shape), b), (a.astype(">f8"), b.astype(">f8")),
    ):  # fmt: skip
        assert products.product(x, y, False, True) is None


def test_small_ones_are(monkeypatch):
    monkeypatch.undo()
    a, b, *_ = matrices(64, 64, 64, "float64")
    assert products.product(a, b, False, True) is None
    assert products.product(np.ones((0, 3)), np.ones((5, 3)), False, True) is None


def test_without_a_compiler(monkeypatch):
    def missing(module, extra):
        raise MissingExtraError(f"import {module}", "it is not installed")

    monkeypatch.setattr(native, "need", missing)
    a, b, c, d = matrices(64, 64, 64, "float64")
    assert products.product(a, b, False, True) is None
    np.testing.assert_array_equal(products.transpose_by(c, d), c.T @ d)


def test_gradients_of_a_layer():
    """Of a product and of a linear layer, on the tape and by transforms."""
    rng = np.random.default_rng(0)
    x, w, u = (rng.standard_normal(s) for s in ((70, 65), (65, 80), (70, 80)))
    a, b, bias = (wg.tensor(v, requires_grad=True) for v in (x, w, np.zeros(80)))
    wg.nn.functional.linear(a, b, bias).backward(u)
    np.testing.assert_allclose(a.grad.numpy(), u @ w.T, atol=1e-11)
    np.testing.assert_allclose(b.grad.numpy(), x.T @ u, atol=1e-11)
    gx, gw = wg.grad(lambda x, w: np.sum(u * (x @ w)), argnums=(0, 1))(x, w)
    np.testing.assert_allclose(gx, u @ w.T, atol=1e-11)
    np.testing.assert_allclose(gw, x.T @ u, atol=1e-11)


def test_into_an_array():
    """As a program that has planned its memory asks for it; a window of a larger array too."""
    a, _, _, d = matrices(70, 90, 80, "float64")
    room = np.full((70, 100), np.nan)
    y = room[:, 4:94]
    assert products.product(a, d, False, False, y) is y
    np.testing.assert_allclose(y, a @ d, atol=1e-11)
    assert np.isnan(room[:, :4]).all()
    assert np.isnan(room[:, 94:]).all()
    for wrong in (
        np.empty((70, 90), np.float32),
        np.empty((90, 70)).T,
        np.empty((70, 180))[:, ::2],
    ):
        assert products.product(a, d, False, False, wrong) is None


def test_a_missing_compiler_is_looked_for_once(monkeypatch):
    seen = []

    def missing(module, extra):
        seen.append(module)
        raise MissingExtraError(f"import {module}", "it is not installed")

    monkeypatch.setattr(native, "need", missing)
    a, b, *_ = matrices(64, 64, 64, "float64")
    for _ in range(3):
        assert products.product(a, b, False, True) is None
    assert len(seen) == 1
