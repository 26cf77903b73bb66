"""What a policy keeps is not computed a second time."""

import numpy as np
import pytest

import wengert as wg
from wengert.ops.contract import MatMul


@pytest.fixture
def products(monkeypatch):
    """Counts the products of matrices that are computed."""
    count, impl = [], MatMul.impl

    def counted(self, a, b):
        count.append((a.shape, b.shape))
        return impl(self, a, b)

    monkeypatch.setattr(MatMul, "impl", counted)
    return count


def network(x, ws):
    for w in ws:
        x = np.tanh(x @ w) * np.cos(x)
    return np.sum(x)


def grads(f, ws):
    for w in ws:
        w.grad = None
    f().backward()
    return [w.grad.numpy().copy() for w in ws]


def test_kept_products_are_not_made_again(products):
    rng = np.random.default_rng(0)
    ws = [wg.tensor(rng.normal(size=(4, 4)), requires_grad=True) for _ in range(5)]
    x = rng.normal(size=(3, 4))
    plain = grads(lambda: network(x, ws), ws)
    made = {}
    for policy in (None, wg.checkpoint.policies.dots):
        for w in ws:
            w.grad = None
        products.clear()
        loss = wg.checkpoint(network, policy=policy)(x, ws)
        assert len(products) == 5
        loss.backward()
        made[policy] = len(products) - 5
        for w, g in zip(ws, plain):
            np.testing.assert_array_equal(w.grad.numpy(), g)
    assert made[None] - made[wg.checkpoint.policies.dots] == 5


def test_kept_values_survive_a_write_by_the_user(products):
    rng = np.random.default_rng(0)
    w = wg.tensor(rng.normal(size=(3, 3)), requires_grad=True)
    outside = []

    def f(w):
        y = w @ w
        outside.append(y)
        return np.sum(np.tanh(y) * np.sin(y) * y)

    plain = wg.grad(lambda w: np.sum(np.tanh(w @ w) * np.sin(w @ w) * (w @ w)))(w.numpy())
    loss = wg.checkpoint(f, policy=wg.checkpoint.policies.dots)(w)
    outside[0][0, 0] = 100.0
    loss.backward()
    np.testing.assert_allclose(w.grad.numpy(), plain, rtol=1e-12)
