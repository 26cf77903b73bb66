"""Attention: against its parts, in tiles, with rows that see nothing, and its memory."""

import tracemalloc

import numpy as np
import pytest

import wengert as wg
from wengert.errors import OptionError, ShapeError
from wengert.nn import functional as F
from wengert.ops import attention
from wengert.testing import check_grads

rng = np.random.default_rng(0)


def parts(q, k, v, mask=None, causal=False):
    """softmax(q k^T / sqrt d) v with the whole matrix of scores."""
    s = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    if mask is not None:
        s = np.where(mask, s, -np.inf)
    if causal:
        rows, columns = s.shape[-2:]
        s = np.where(np.tri(rows, columns, columns - rows, bool), s, -np.inf)
    e = np.exp(s - s.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True) @ v


@pytest.mark.parametrize("tile", [1 << 20, 300, 1])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("s", "t"), [(7, 7), (5, 9), (9, 5)])
def test_tiles_of_every_size_give_the_same(monkeypatch, tile, causal, s, t):
    monkeypatch.setattr(attention, "TILE", tile)
    q, k, v = (rng.standard_normal((2, 3, n, 4)) for n in (s, t, t))
    gy = rng.standard_normal((2, 3, s, 4))
    y, pull = wg.vjp(lambda *x: F.scaled_dot_product_attention(*x, causal=causal), q, k, v)
    if causal and s > t:
        assert not np.asarray(y)[..., : s - t, :].any()  # these see no key
        gy[..., : s - t, :] = 0
        with np.errstate(invalid="ignore"):
            want = parts(q, k, v, None, causal)
        np.testing.assert_allclose(y[..., s - t :, :], want[..., s - t :, :], rtol=1e-12)
        return
    np.testing.assert_allclose(y, parts(q, k, v, None, causal), rtol=1e-11, atol=1e-13)
    want = wg.vjp(lambda *x: parts(*x, None, causal), q, k, v)[1](gy)
    for g, w in zip(pull(gy), want):
        np.testing.assert_allclose(g, w, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", [(5, 6), (3, 5, 6), (2, 1, 5, 6), (2, 3, 1, 6)])
def test_masks(shape):
    q, k, v = (rng.standard_normal((2, 3, n, 4)) for n in (5, 6, 6))
    mask = rng.random(shape) > 0.4
    mask[..., 0] = True
    y = F.scaled_dot_product_attention(q, k, v, mask)
    np.testing.assert_allclose(y, parts(q, k, v, mask), rtol=1e-12)
    added = np.where(mask, 0.0, -np.inf)
    np.testing.assert_array_equal(F.scaled_dot_product_attention(q, k, v, added), y)


def test_a_query_without_keys_gives_0_with_gradient_0():
    q, k, v = (rng.standard_normal((n, 4)) for n in (3, 5, 5))
    mask = np.ones((3, 5), bool)
    mask[1] = False
    f = lambda q, k, v: (F.scaled_dot_product_attention(q, k, v, mask) ** 2).sum()
    y = F.scaled_dot_product_attention(q, k, v, mask)
    assert not y[1].any()
    np.testing.assert_allclose(y[[0, 2]], parts(q[[0, 2]], k, v), rtol=1e-12)
    gq = wg.grad(f)(q, k, v)
    assert not gq[1].any()
    assert gq[0].any()
    h = wg.hessian(f)(q, k, v)
    assert np.isfinite(h).all()
    assert not h[1].any()
    check_grads(f, (q, k, v), 2)


def test_grouped_heads_are_heads_repeated():
    q, k, v = (rng.standard_normal((2, h, 5, 4)) for h in (6, 2, 2))
    bias = rng.standard_normal((6, 5, 5))
    y = F.scaled_dot_product_attention(q, k, v, bias, causal=True)
    want = F.scaled_dot_product_attention(
        q, np.repeat(k, 3, 1), np.repeat(v, 3, 1), bias, causal=True
    )
    np.testing.assert_allclose(y, want, rtol=1e-12)
    with pytest.raises(ShapeError, match="an equal number of the heads"):
        F.scaled_dot_product_attention(q[:, :5], k, v)


def test_dropout_of_weights():
    q, k, v = (rng.standard_normal((2, 5, 4)) for _ in range(3))
    assert not np.asarray(F.scaled_dot_product_attention(q, k, v, dropout=1.0, rng=0)).any()
    many = [
        np.asarray(F.scaled_dot_product_attention(q, k, v, dropout=0.3, rng=i)) for i in range(400)
    ]
    error = np.std(many, axis=0) / 20
    assert (np.abs(np.mean(many, 0) - parts(q, k, v)) < 5 * error).all()
    with pytest.raises(OptionError):
        F.scaled_dot_product_attention(q, k, v, dropout=1.5)


def test_memory_does_not_grow_with_the_square_of_the_length():
    def peak(n):
        q = wg.tensor(rng.standard_normal((1, 2, n, 8)).astype(np.float32), requires_grad=True)
        tracemalloc.start()
        F.scaled_dot_product_attention(q, q, q).sum().backward()
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(64)
    assert peak(2048) < 8 * 2**20  # the scores alone are 32 MB


def test_what_does_not_fit_is_refused():
    q = np.ones((2, 3, 4))
    with pytest.raises(ShapeError, match="q has 4 features and k has 5"):
        F.scaled_dot_product_attention(q, np.ones((2, 3, 5)), q)
    with pytest.raises(ShapeError, match="there are 2 keys and 3 values"):
        F.scaled_dot_product_attention(q, np.ones((2, 2, 4)), q)
    with pytest.raises(ShapeError, match="bias does not broadcast"):
        F.scaled_dot_product_attention(q, q, q, np.ones((2, 3), bool))


def test_vmap_and_second_derivatives_of_a_causal_block():
    q = rng.standard_normal((3, 4, 2))
    f = lambda q, k, v: F.scaled_dot_product_attention(q, k, v, causal=True)
    np.testing.assert_allclose(wg.vmap(f)(q, q, q), f(q, q, q), rtol=1e-12)
    check_grads(f, (q[0], q[1], q[2]), 2)


@pytest.mark.parametrize(("s", "t"), [(3, 5), (5, 3), (4, 4)])
def test_with_other_keys_than_queries_the_last_meet_and_in_pytorch_the_first(torch, s, t):
    q, k, v = (rng.standard_normal((2, n, 4)) for n in (s, t, t))
    theirs = torch.nn.functional.scaled_dot_product_attention
    given = [torch.from_numpy(x) for x in (q, k, v)]
    first = F.scaled_dot_product_attention(q, k, v, np.tri(s, t, dtype=bool))
    np.testing.assert_allclose(first, theirs(*given, is_causal=True).numpy(), rtol=1e-12)
    last = F.scaled_dot_product_attention(q, k, v, causal=True)
    mask = np.tri(s, t, t - s, dtype=bool)
    some = mask.any(axis=1)
    want = theirs(*given, attn_mask=torch.from_numpy(mask)).numpy()
    np.testing.assert_allclose(last[:, some], want[:, some], rtol=1e-12)
    assert not last[:, ~some].any()
