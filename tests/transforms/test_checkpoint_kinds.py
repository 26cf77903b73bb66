"""Checkpointing by function, by module, every so many layers, recursively."""

import gc

import numpy as np
import pytest
from test_checkpoint import W, X, leaves, same

import wengert as wg
from wengert import nn
from wengert.errors import OptionError


def chain(n):
    rng = np.random.default_rng(2)
    return [nn.Sequential(nn.Linear(4, 4, rng=rng, dtype=np.float64), nn.Tanh()) for _ in range(n)]


@pytest.mark.parametrize("kind", [{}, {"segments": 1}, {"segments": 3}, {"segments": 7},
                                  {"segments": [2, 4, 1]}, {"recursive": True}])  # fmt: skip
def test_sequential(kind):
    layers = chain(7)

    def run(f):
        (x,) = leaves(X)
        for layer in layers:
            layer.zero_grad()
        np.sum(f(x) ** 2).backward()
        return x.grad, [p.grad for layer in layers for p in layer.parameters()]

    same(run(wg.checkpoint_sequential(layers, **kind)), run(nn.Sequential(*layers)))
    same(run(wg.checkpoint_sequential(nn.Sequential(*layers), **kind)), run(nn.Sequential(*layers)))

    def second(f):
        return wg.hvp(lambda x: np.sum(f(x) ** 2), (X,), (X,))

    same(second(wg.checkpoint_sequential(layers, **kind)), second(nn.Sequential(*layers)))


def test_sequential_refusals():
    for bad in (0, 8, "log", [3, 3], [8, -1]):
        with pytest.raises(OptionError, match="segments"):
            wg.checkpoint_sequential(chain(7), bad)
    assert wg.checkpoint_sequential([])(3.0) == 3.0


def test_policies():
    calls = []

    def net(x, w):
        calls.append(1)
        h = wg.checkpoint_name(np.tanh(x @ w), "hidden")
        return np.sum(np.exp(h @ w) * h)

    p = wg.checkpoint.policies
    x0, w0 = leaves(X, W)
    net(x0, w0).backward()
    for policy in (None, p.everything, p.nothing, p.dots, p.names("hidden"), p.disk(),
                   p.disk(which=p.dots)):  # fmt: skip
        x, w = leaves(X, W)
        wg.checkpoint(net, policy=policy)(x, w).backward()
        same((x.grad, w.grad), (x0.grad, w0.grad))
    calls.clear()
    for policy in (p.everything, p.disk()):
        x, w = leaves(X, W)
        wg.checkpoint(net, policy=policy)(x, w).backward(create_graph=True)
    assert len(calls) == 2


def test_a_policy_sees_operations_names_and_types():
    seen = []

    def policy(op, name, aval):
        seen.append((str(op), name, aval.shape))
        return False

    (x,) = leaves(X)
    np.sum(wg.checkpoint(lambda x: np.exp(np.sin(x)), policy=policy)(x)).backward()
    assert ("exp", "y", (3, 4)) in seen


def test_memory_of_a_deep_chain():
    import tracemalloc

    layers = [nn.Sequential(nn.Linear(8, 8, rng=0, dtype=np.float64), nn.Tanh())] * 64
    x = np.ones((2000, 8))

    def peak(f):
        gc.collect()
        tracemalloc.start()
        np.sum(f(x)).backward()
        return tracemalloc.get_traced_memory()[1] / x.nbytes, tracemalloc.stop()

    plain = peak(nn.Sequential(*layers))[0]
    root = peak(wg.checkpoint_sequential(layers))[0]
    deep = peak(wg.checkpoint_sequential(layers, recursive=True))[0]
    assert plain > 64
    assert root < 23
    assert deep < 17
