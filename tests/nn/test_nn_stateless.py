"""Modules as functions of their parameters, under every transform."""

import numpy as np
import pytest

import wengert as wg
from wengert import nn
from wengert.errors import ArgumentError, ShapeError, UnknownNameError


def model(seed=0):
    return nn.Sequential(
        nn.Linear(2, 3, rng=seed, dtype=np.float64), nn.Tanh(),
        nn.Linear(3, 1, rng=seed + 1, dtype=np.float64),
    )  # fmt: skip


X = np.random.default_rng(0).normal(size=(4, 2))


def values(m):
    return {n: p.numpy() for n, p in m.named_parameters()}


def test_the_values_given_are_used_and_the_module_is_left_alone():
    a, b = model(0), model(5)
    before = a.state_dict()
    got = wg.functional_call(a, values(b), X)
    np.testing.assert_array_equal(got, b(X).numpy())
    for name, value in a.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_values_may_stand_in_nested_containers_or_a_module():
    a, b = model(0), model(5)
    v = values(b)
    nested = {"layers": [
        {"weight": v["layers.0.weight"], "bias": v["layers.0.bias"]}, None,
        {"weight": v["layers.2.weight"], "bias": v["layers.2.bias"]},
    ]}  # fmt: skip
    for params in (nested, b):
        got = wg.functional_call(a, params, X)
        np.testing.assert_array_equal(np.asarray(getattr(got, "data", got)), b(X).data)


def test_gradients_agree_with_backward():
    m = model()
    m(X).sum().backward()
    g = wg.grad(lambda p: wg.functional_call(m, p, X).sum())(values(m))
    for name, p in m.named_parameters():
        np.testing.assert_allclose(g[name], p.grad.numpy(), rtol=1e-12)
    h = wg.hessian(lambda w: wg.functional_call(m, {"layers.2.bias": w}, X).sum() ** 2)
    np.testing.assert_allclose(h(np.zeros(1)).ravel(), [2 * len(X) ** 2])


def test_per_sample_gradients():
    m = model()
    loss = wg.grad(lambda p, x: (wg.functional_call(m, p, x[None]) ** 2).sum())
    got = wg.vmap(loss, in_axes=(None, 0))(values(m), X)
    for name in values(m):
        np.testing.assert_allclose(
            got[name], np.stack([loss(values(m), x)[name] for x in X]), rtol=1e-12
        )


def test_ensembles():
    models = [model(s) for s in range(3)]
    stacked = nn.stack_modules(models)
    run = wg.vmap(lambda p: wg.functional_call(models[0], p, X))
    np.testing.assert_allclose(
        run(stacked).numpy(), np.stack([m(X).numpy() for m in models]), rtol=1e-13
    )
    run(stacked).sum().backward()
    models[1](X).sum().backward()
    np.testing.assert_allclose(
        stacked["layers.0.weight"].grad.numpy()[1], models[1].layers[0].weight.grad.numpy(),
        rtol=1e-12,
    )  # fmt: skip


def test_ensembles_with_buffers():
    models = [nn.BatchNorm1d(2, dtype=np.float64) for _ in range(3)]
    for i, m in enumerate(models):
        m(X + i)
        m.eval()
    run = wg.vmap(lambda p: wg.functional_call(models[0], p, X))
    got = run(nn.stack_modules(models)).numpy()
    np.testing.assert_allclose(got, np.stack([m(X).numpy() for m in models]), rtol=1e-12)


def test_buffers_are_written_where_they_were_given():
    m = nn.BatchNorm1d(2, dtype=np.float64)
    mean = wg.tensor(np.zeros(2))
    wg.functional_call(m, {"running_mean": mean}, X)
    np.testing.assert_allclose(mean.numpy(), 0.1 * X.mean(axis=0))
    assert not m.running_mean.numpy().any()


def test_shared_parameters_are_replaced_everywhere():
    class Twice(nn.Module):
        def __init__(self):
            self.a = nn.Linear(2, 2, rng=0, dtype=np.float64)
            self.b = self.a

        def forward(self, x):
            return self.b(self.a(x))

    m, w = Twice(), np.eye(2) * 3
    y = wg.functional_call(m, {"b.weight": w}, X)
    np.testing.assert_allclose(y.numpy(), 9 * X)
    with pytest.raises(ArgumentError, match="stands at several places, with one value"):
        wg.functional_call(m, {"a.weight": w, "b.weight": w + 1}, X)


def test_refusals():
    m = model()
    with pytest.raises(UnknownNameError) as caught:
        wg.functional_call(m, {"layers.0.wieght": np.zeros((2, 3)), "z": 1.0}, X)
    assert "2 of 2 names are not in the module" in str(caught.value)
    assert "is it layers.0.weight?" in str(caught.value)
    with pytest.raises(UnknownNameError, match="3 parameters are missing"):
        wg.functional_call(m, {"layers.0.bias": np.zeros(3)}, X, strict=True)
    with pytest.raises(ShapeError, match="the shape of what it replaces"):
        wg.functional_call(m, {"layers.0.bias": np.zeros(4)}, X)
    with pytest.raises(ArgumentError, match="a dict of values by path"):
        wg.functional_call(m, [1.0], X)
    with pytest.raises(ArgumentError, match="module 1 has other parameters"):
        nn.stack_modules([m, nn.Linear(2, 2)])
    with pytest.raises(ArgumentError, match="one module or more"):
        nn.stack_modules([])
