"""The report of what a graph holds: against the memory that is freed with it."""

import gc
import tracemalloc

import numpy as np
import pytest

import wengert as wg
from wengert import nn


def freed_with(build):
    """(report, bytes that go when the result goes)."""
    loss = build()
    report = wg.explain_memory(loss)
    del loss
    gc.collect()
    tracemalloc.start()
    try:
        loss = build()
        before = tracemalloc.get_traced_memory()[0]
        del loss
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    return report, before - after


def mlp_step():
    model = nn.Sequential(nn.Linear(256, 512, rng=0), nn.Tanh(), nn.Linear(512, 128, rng=1))
    x = np.random.default_rng(0).normal(size=(300, 256)).astype(np.float32)
    return model, lambda: (model(x) ** 2).mean()


def plain_step():
    w = wg.tensor(np.ones((200, 200)), requires_grad=True)
    c = np.random.default_rng(0).normal(size=(500, 200))

    def build():
        h = c @ w
        h = np.exp(-h) * np.sin(h) + c
        y = h[10:, :].reshape(-1)
        return np.sum(np.sort(y) * np.maximum(y, 0.0))

    return w, build


def attention_step():
    q = wg.tensor(np.random.default_rng(0).normal(size=(4, 60, 32)), requires_grad=True)

    def build():
        s = q @ np.swapaxes(q, 1, 2)
        return np.sum(wg.softmax(s, axis=-1) @ q)

    return q, build


@pytest.mark.parametrize("step", [mlp_step, plain_step, attention_step])
def test_the_sum_is_what_is_freed_with_the_graph(step):
    _alive, build = step()
    report, freed = freed_with(build)
    assert freed == pytest.approx(report.total, rel=0.03)


def test_parameters_are_told_apart_and_counted_once():
    w = wg.tensor(np.ones((100, 50)), requires_grad=True)
    x = np.ones((10, 100))
    h = x @ w @ w.T @ w
    report = wg.explain_memory(np.sum(np.tanh(h)))
    assert report.parameters == 100 * 50 * 8
    assert report.by("kind") == {
        "parameter": 40000, "activation": 10 * (50 + 100 + 50) * 8, "input": 10 * 100 * 8,
    }  # fmt: skip


def test_views_are_counted_by_their_base():
    x = wg.tensor(np.ones((1000, 10)), requires_grad=True)
    y = np.exp(x)
    a, b = y[:500], y[500:]
    report = wg.explain_memory(np.sum(a * b))
    assert report.total == 1000 * 10 * 8


def test_lines_operations_and_nodes():
    x = wg.tensor(np.ones(1000), requires_grad=True)
    y = np.exp(x)
    z = np.sin(y) * 2.0
    report = wg.explain_memory(np.sum(z * z))
    assert report.nodes == 5
    lines = {r.op: r.line for r in report.rows}
    here = test_lines_operations_and_nodes.__code__.co_firstlineno
    assert f"test_explain_memory.py:{here + 2}," in lines["exp"]
    assert f"test_explain_memory.py:{here + 4}," in lines["mul"]
    assert set(report.by("op")) == {"exp", "mul"}  # sin's operand is exp's result
    text = str(report)
    assert "15.6 KiB held by 5 recorded operations" in text
    assert text.splitlines()[1].split() == ["bytes", "kind", "op", "nodes", "module", "line"]


def test_modules_are_named_by_their_path():
    class Net(nn.Module):
        def __init__(self):
            self.encoder = nn.Sequential(nn.Linear(30, 20, rng=0), nn.Tanh())
            self.head = nn.Linear(20, 5, rng=1)

        def forward(self, x):
            return self.head(self.encoder(x) * 2.0)

    net = Net()
    loss = (net(np.ones((40, 30), np.float32)) ** 2).mean()
    by = wg.explain_memory(loss).by("module")
    names = {name for name, _ in net.named_modules()}
    assert {"encoder.layers.0", "encoder.layers.1", "head"} <= set(by) <= names | {"Net", ""}


def test_a_loss_that_drags_every_step_along():
    w = wg.tensor(np.ones(1000), requires_grad=True)
    total, seen = 0.0, []
    for _ in range(3):
        total = total + np.exp(w).sum()
        seen.append(wg.explain_memory(total))
    assert [m.total for m in seen] == [8000, 16000, 24000]
    (row,) = [r for r in seen[-1].rows if r.op == "exp"]
    assert row.nodes == 3


def chain(n, size):
    x = wg.tensor(np.ones(size), requires_grad=True)
    for _ in range(n):
        x = np.exp(-x)  # keeps its result
    return x.sum()


def test_plans_of_a_chain():
    report = wg.explain_memory(chain(100, 1000))
    plans = {p.name: p for p in report.plans}
    assert plans["none"].bytes == 100 * 8000
    assert plans["sqrt"].bytes == (10 + 9) * 8000  # ten ends, and the rest of one segment
    assert plans["recursive"].bytes <= 9 * 8000  # a buffer for each halving
    assert 0 < plans["sqrt"].again < 201 < plans["recursive"].again
    assert "computed again" in str(report)


def test_the_plan_by_modules_and_the_policy():
    model, build = mlp_step()
    report = wg.explain_memory(build())
    plans = {p.name: p for p in report.plans}
    assert plans["policy"].bytes < plans["none"].bytes
    assert plans["modules"].bytes <= plans["none"].bytes
    assert model


def test_after_a_sweep_nothing_is_held():
    loss = chain(10, 1000)
    loss.backward()
    assert wg.explain_memory(loss).total == 0


def test_under_grad_and_debug():
    seen = []

    def f(x):
        y = np.sum(np.exp(x))
        seen.append(wg.explain_memory(y).total)
        return y

    wg.grad(f)(np.ones(1000))
    with wg.debug():
        wg.grad(f)(np.ones(1000))
    assert seen == [8000, 8000]


def test_refusals():
    with pytest.raises(wg.errors.DisconnectedError, match="explain_memory"):
        wg.explain_memory(wg.ones(3))
    with pytest.raises(wg.errors.ArgumentError, match="recorded tensors"):
        wg.explain_memory(3.0)
    x = wg.tensor(np.ones(3), requires_grad=True)
    with pytest.raises(wg.errors.ArgumentError, match="no such column") as e:
        wg.explain_memory(np.sum(np.sin(x))).by("name")
    assert "'module'" in e.value.fix
