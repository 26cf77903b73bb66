"""Gradients through inner loops, against differences of the whole procedure."""

import numpy as np
import pytest

import wengert as wg
from wengert import nn, numeric
from wengert.transforms.unroll import conjugate_gradient


def net(p, x):
    """The sinusoid regressor of Finn et al. (2017), small."""
    h = np.tanh(x @ p["w1"] + p["b1"])
    return h @ p["w2"] + p["b2"]


def loss(p, x, y):
    return np.mean((net(p, x) - y) ** 2)


def start(width=6, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "w1": rng.standard_normal((1, width)), "b1": rng.standard_normal(width),
        "w2": rng.standard_normal((width, 1)) / width**0.5, "b2": np.zeros(1),
    }  # fmt: skip


def sinusoid(rng, shots=5):
    """A task: the sine of an amplitude in [0.1, 5] and a phase in [0, pi]; support and query."""
    amplitude, phase = rng.uniform(0.1, 5.0), rng.uniform(0, np.pi)

    def draw():
        x = rng.uniform(-5, 5, (shots, 1))
        return x, amplitude * np.sin(x + phase)

    return draw(), draw()


@pytest.fixture
def tasks():
    rng = np.random.default_rng(1)
    return [sinusoid(rng) for _ in range(2)]


def gap(a, b):
    size = max(np.abs(v).max() for v in b.values())
    return max(np.abs(a[k] - b[k]).max() for k in b) / size


@pytest.mark.parametrize("steps", [1, 3])
def test_second_order_is_the_derivative_of_the_whole_procedure(tasks, steps):
    meta = wg.maml(loss, lr=0.05, steps=steps)
    got = wg.grad(meta)(start(), tasks)
    want = numeric.grad(meta)(start(), tasks)
    assert gap(got, want) < 1e-8


def test_first_order_differs_by_the_hessian_term(tasks):
    p, lr = start(), 0.05
    (support, query) = tasks[0]
    first = wg.grad(wg.maml(loss, lr=lr, order="first"))(p, tasks[:1])
    second = wg.grad(wg.maml(loss, lr=lr))(p, tasks[:1])
    assert gap(first, second) > 1e-2
    adapted = wg.adapt(loss, p, *support, lr=lr)
    g = wg.grad(loss)(adapted, *query)  # the first-order meta-gradient is this, by definition
    assert gap(first, g) < 1e-14
    hg = wg.hvp(lambda p: loss(p, *support), p, g)  # and (1 - lr H) g is the whole one
    assert gap(second, {k: g[k] - lr * hg[k] for k in g}) < 1e-12


def test_implicit_is_the_derivative_of_the_converged_inner_problem(tasks):
    meta = wg.maml(loss, order="implicit", lam=2.0)
    p = start(3)
    got = wg.grad(meta)(p, tasks[:1])
    rng = np.random.default_rng(0)
    v = {k: rng.standard_normal(a.shape) for k, a in p.items()}
    _, want = numeric.jvp(lambda p: meta(p, tasks[:1]), p, v, step=1e-4)
    assert sum(np.sum(got[k] * v[k]) for k in v) == pytest.approx(want, rel=1e-6)
    support = tasks[0][0]
    fitted = wg.adapt(loss, p, *support, order="implicit", lam=2.0)
    g = wg.grad(loss)(fitted, *support)
    away = {k: g[k] + 2.0 * (fitted[k] - p[k]) for k in p}
    assert max(np.abs(v).max() for v in away.values()) < 1e-9
    slow = wg.grad(  # a long inner loop on the same problem comes to the same
        lambda q: loss(
            wg.adapt(
                lambda p: loss(p, *support) + sum(np.sum((p[k] - q[k]) ** 2) for k in p),
                q, lr=0.1, steps=150,
            ),
            *tasks[0][1],
        )
    )(p)  # fmt: skip
    assert gap(got, slow) < 1e-5


def test_implicit_sees_what_the_loss_closes_over(x):
    def outer(scale):
        def inner(w):
            return np.sum((np.tanh(w) - scale * x) ** 2)

        return np.sum(wg.adapt(inner, x, order="implicit") ** 3)

    got = wg.grad(outer)(0.7)
    assert got == pytest.approx(numeric.grad(outer, step=1e-4)(0.7), rel=1e-7)
    second = wg.grad(wg.grad(outer))(0.7)
    assert second == pytest.approx(numeric.grad(wg.grad(outer), step=1e-4)(0.7), rel=1e-7)


def test_higher_orders_and_learned_rates(x):
    def f(w, lr):
        p = wg.adapt(lambda w: np.sum(np.sin(w) ** 2 * w), w, lr=lr, steps=2)
        return np.sum(p**2)

    assert numeric.gradcheck(f, (x, 0.1))
    assert numeric.gradgradcheck(f, (x, 0.1))

    def each(w, lr):  # a rate for each array of the tree
        p = wg.adapt(lambda p: np.sum(p["a"] ** 2 * p["b"]), {"a": w, "b": w[0]}, lr=lr)
        return np.sum(p["a"]) * p["b"]

    assert numeric.gradcheck(each, (x, {"a": 0.1, "b": 0.3}))


def test_modules_are_adapted_as_pytrees():
    model = nn.Sequential(nn.Linear(1, 5, rng=0), nn.Tanh(), nn.Linear(5, 1, rng=1))
    x = np.linspace(-1, 1, 6, dtype=np.float32)[:, None]
    fit = lambda m, x, y: np.mean((m(x) - y) ** 2)
    before = model.state_dict()
    for order in ("second", "first", "implicit"):
        g = wg.grad(wg.maml(fit, lr=0.1, steps=2, order=order))(model, [((x, x**2), (x, x**3))])
        assert isinstance(g, nn.Sequential)
        assert [v.shape for v in wg.tree.leaves(g)] == [p.shape for p in model.parameters()]
        assert all(np.isfinite(v.value()).all() for v in wg.tree.leaves(g))
        assert all(v.dtype == np.float32 for v in wg.tree.leaves(g))
    assert all((model.state_dict()[k] == v).all() for k, v in before.items())


def test_unroll_records_truncates_and_returns_its_path():
    step = lambda w, r: w - r * 2 * w
    for n, k, power in ((4, None, 4), (4, 4, 4), (4, 9, 4), (4, 1, 1), (4, 0, 0)):
        got = wg.grad(
            lambda r, n=n, k=k: wg.unroll(lambda w: step(w, r), 1.0, n, truncate=k) + 0 * r
        )(0.1)
        assert got == pytest.approx(-2 * power * 0.8**3 if power else 0.0)
    states = wg.unroll(lambda w: w / 2, 8.0, 3, path=True)
    assert states == [8.0, 4.0, 2.0, 1.0]


def test_conjugate_gradient_on_trees():
    rng = np.random.default_rng(0)
    m = rng.standard_normal((7, 7))
    a = m @ m.T + np.eye(7)
    b = {"u": rng.standard_normal(3), "v": rng.standard_normal((2, 2))}

    def matvec(x):
        y = a @ np.concatenate([x["u"], x["v"].reshape(-1)])
        return {"u": y[:3], "v": y[3:].reshape(2, 2)}

    x = conjugate_gradient(matvec, b)
    back = matvec(x)
    assert all(np.allclose(back[k], b[k], atol=1e-9) for k in b)


def test_refusals(x):
    with pytest.raises(wg.errors.ArgumentError, match="implicit"):
        wg.adapt(lambda w: np.sum(w), x, order="third")
    with pytest.raises(wg.errors.ArgumentError, match="n is 0 or more"):
        wg.unroll(lambda w: w, x, -1)


def test_meta_training_makes_few_shots_enough():
    rng = np.random.default_rng(0)
    meta = wg.maml(loss, lr=0.05, steps=3)
    slope = wg.value_and_grad(meta)
    p = start(20)
    m = wg.tree.map(np.zeros_like, p)
    v = wg.tree.map(np.zeros_like, p)
    fixed = [sinusoid(np.random.default_rng(100 + i), 10) for i in range(30)]
    before = meta(p, fixed)
    for t in range(1, 121):  # Adam on the meta-gradient
        _, g = slope(p, [sinusoid(rng, 10) for _ in range(4)])
        m = wg.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = wg.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        c = np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        p = wg.tree.map(lambda p, m, v, c=c: p - 0.02 * c * m / (np.sqrt(v) + 1e-8), p, m, v)
    after = meta(p, fixed)
    assert after < 0.7 * before
    unadapted = np.mean([loss(p, *query) for _, query in fixed])
    assert after < 0.9 * unadapted  # three steps on ten points help
