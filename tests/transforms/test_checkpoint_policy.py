"""What a policy keeps is not computed a second time."""

import copy
import gc
import weakref

import numpy as np
import pytest

import wengert as wg
from wengert import nn
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


def test_a_policy_a_step_leaves_nothing_behind():
    model, x = nn.Sequential(nn.Linear(3, 3, rng=0), nn.Tanh()), np.ones((2, 3), np.float32)
    kinds, kept = set(), []
    for step in range(3):
        policy = wg.checkpoint.policies.names(str(step))
        part = wg.checkpoint(model, policy=policy)
        np.sum(part(x)).backward()
        kinds.add(type(part))
        kept.append(weakref.ref(policy))
    del policy, part
    gc.collect()
    assert len(kinds) == 1
    assert [k() for k in kept] == [None] * 3


def test_policies_of_a_module_are_asked_from_without_to_within_and_in_its_gradients():
    model, x = nn.Sequential(nn.Linear(3, 3, rng=0), nn.Tanh()), np.ones((2, 3))
    asked = []

    def policy(who):
        return lambda op, name, aval: asked.append(who) or False

    part = wg.checkpoint(wg.checkpoint(model, policy=policy("in")), policy=policy("out"))
    assert isinstance(part, nn.Sequential)
    wanted = wg.grad(lambda m: np.sum(m(x) ** 2))(model)
    got = wg.grad(lambda m: np.sum(m(x) ** 2))(part)
    for a, b in zip(wg.tree.leaves(got), wg.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert {"in", "out"} == set(asked)
    asked.clear()
    wg.grad(lambda m: np.sum(m(x) ** 2))(copy.deepcopy(part))
    assert {"in", "out"} == set(asked)


@pytest.mark.parametrize(("policy", "fix"), [
    ("dots", "wg.checkpoint.policies.dots"), (3, "one of wg.checkpoint.policies: disk, dots"),
])  # fmt: skip
def test_a_policy_is_a_function(policy, fix):
    for call in (lambda: wg.checkpoint(np.sin, policy=policy),
                 lambda: wg.checkpoint_sequential([np.sin] * 4, policy=policy)):  # fmt: skip
        with pytest.raises(wg.errors.ArgumentError, match="a policy is a function") as e:
            call()
        assert e.value.fix.startswith(fix)
