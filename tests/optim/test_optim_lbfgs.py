"""L-BFGS: PyTorch's step by step, SciPy's minima, and the conditions of the line search."""

import numpy as np
import pytest
from scipy.optimize import minimize, rosen, rosen_der

import wengert as wg
from wengert.errors import ArgumentError, OptionError
from wengert.optim import LBFGS, SGD
from wengert.optim.lbfgs import cubic, strong_wolfe


def rosenbrock(a, b, np=np):
    """Of the six numbers in two parameters."""
    x = np.concatenate([a.reshape(-1), b])
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def closures(optimizer, leaves, f):
    def closure():
        optimizer.zero_grad()
        loss = f(*leaves)
        loss.backward()
        return loss

    return closure


def start():
    return [np.array([[0.2, 1.0], [0.5, -0.4]]), np.array([0.3, 2.0])]


OPTIONS = [
    {},
    {"history": 2},
    {"iterations": 3, "history": 5},
    {"iterations": 5, "evaluations": 6},
    {"lr": 0.5},
    {"lr": 1e-3, "line_search": None},
    {"lr": 1e-3, "line_search": None, "iterations": 1, "history": 3},
]
NAMES = {"history": "history_size", "iterations": "max_iter", "evaluations": "max_eval"}


@pytest.mark.parametrize("options", OPTIONS)
def test_the_steps_are_those_of_pytorch(torch, options):
    ours = [wg.tensor(v, requires_grad=True) for v in start()]
    theirs = [torch.tensor(v, requires_grad=True) for v in start()]
    told = {NAMES.get(k, k): v for k, v in options.items() if k != "line_search"}
    one = LBFGS(ours, **options)
    two = torch.optim.LBFGS(
        theirs, line_search_fn=options.get("line_search", "strong_wolfe"), **told
    )
    seen = {"ours": [], "theirs": []}

    def note(name, f):
        def g(a, b):
            seen[name].append([*np.ravel(a.detach()), *np.ravel(b.detach())])
            return f(a, b)

        return g

    mine = closures(one, ours, note("ours", rosenbrock))
    other = closures(two, theirs, note("theirs", lambda a, b: rosenbrock(a, b, torch)))
    for _ in range(6):
        one.step(mine)
        two.step(other)
    # every place where the loss was computed; rounding grows from step to step
    a, b = np.array(seen["ours"]), np.array(seen["theirs"])
    assert len(a) == len(b) == one.calls == two.state[theirs[0]]["func_evals"]
    np.testing.assert_allclose(a[:12], b[:12], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(a, b, rtol=1e-8)


def test_the_minimum_is_that_of_scipy():
    ours = [wg.tensor(v, requires_grad=True) for v in start()]
    optimizer = LBFGS(ours, iterations=200, tolerance_change=0.0)
    optimizer.step(closures(optimizer, ours, rosenbrock))
    x0 = np.concatenate([v.ravel() for v in start()])
    found = minimize(rosen, x0, jac=rosen_der, method="L-BFGS-B", options={"ftol": 0, "gtol": 1e-9})
    got = np.concatenate([p.numpy().ravel() for p in ours])
    np.testing.assert_allclose(got, found.x, rtol=1e-7)


def test_a_quadratic_of_n_numbers_takes_about_n_steps():
    rng = np.random.default_rng(0)
    m = rng.normal(size=(5, 5))
    a, b = m @ m.T + np.eye(5), rng.normal(size=5)
    x = wg.tensor(np.zeros(5), requires_grad=True)
    optimizer = LBFGS([x], iterations=15, tolerance_grad=1e-12, tolerance_change=0.0)
    optimizer.step(closures(optimizer, [x], lambda x: x @ a @ x / 2 - b @ x))
    np.testing.assert_allclose(x.numpy(), np.linalg.solve(a, b), rtol=1e-6)


def test_the_inverse_hessian_is_that_of_the_dense_update():
    """H' = (1 - rho s y^T) H (1 - rho y s^T) + rho s s^T, from a multiple of the identity."""
    ours = [wg.tensor(v, requires_grad=True) for v in start()]
    optimizer = LBFGS(ours, iterations=4, history=10)
    optimizer.step(closures(optimizer, ours, rosenbrock))
    g = np.random.default_rng(1).normal(size=6)
    optimizer.gradient = g.copy()  # no new pair
    optimizer.direction = np.zeros(6)
    d = optimizer._direction(g, 10)
    h = optimizer.scale * np.eye(6)
    for y, s, rho in optimizer.pairs:
        v = np.eye(6) - rho * np.outer(s, y)
        h = v @ h @ v.T + rho * np.outer(s, s)
    assert len(optimizer.pairs) >= 2
    np.testing.assert_allclose(d, -h @ g, rtol=1e-9)


LINES = {
    "a parabola": (lambda t: (t - 3) ** 2, lambda t: 2 * (t - 3)),
    "far away": (lambda t: (t - 300) ** 2, lambda t: 2 * (t - 300)),
    "a narrow valley": (lambda t: 50 * (t - 0.01) ** 2, lambda t: 100 * (t - 0.01)),
    "waves": (lambda t: np.sin(5 * t) * 0.1 - t + t * t, lambda t: 0.5 * np.cos(5 * t) - 1 + 2 * t),
    "a wall": (
        lambda t: -np.log(0.5 - t) - 5 * t if t < 0.5 else np.inf,
        lambda t: 1 / (0.5 - t) - 5,
    ),
}


@pytest.mark.parametrize("name", LINES)
def test_the_strong_wolfe_conditions_hold(name):
    f, slope = LINES[name]

    def along(t):
        return float(f(t)), np.array([slope(t) if np.isfinite(f(t)) else np.nan])

    f0, g0 = along(0.0)
    value, g, t, _ = strong_wolfe(along, 1.0, f0, g0, float(g0[0]), np.array([1.0]))
    assert value == f(t)
    assert f(t) <= f0 + 1e-4 * t * g0[0]
    assert abs(g[0]) <= 0.9 * abs(g0[0])


def test_cubic_interpolation_is_exact_for_cubics():
    p = np.poly1d([1.0, -2.0, -3.0, 1.0])
    dp = p.deriv()
    minimum = max(dp.roots)
    for x1, x2 in [(0.0, 3.0), (3.0, 0.0), (1.0, 2.5)]:
        assert cubic(x1, p(x1), dp(x1), x2, p(x2), dp(x2)) == pytest.approx(minimum, rel=1e-12)
    assert cubic(0.0, 0.0, -1.0, 1.0, np.inf, np.nan) == 0.5


def test_a_saved_state_goes_on_bit_for_bit():
    def make():
        leaves = [wg.tensor(v, requires_grad=True) for v in start()]
        optimizer = LBFGS(leaves, iterations=3, history=4)
        return leaves, optimizer, closures(optimizer, leaves, rosenbrock)

    whole, one, closure = make()
    for _ in range(6):
        one.step(closure)
    parts, first, closure = make()
    for _ in range(2):
        first.step(closure)
    second = LBFGS(parts)
    second.load_state_dict(first.state_dict())
    for _ in range(4):
        second.step(closures(second, parts, rosenbrock))
    for p, q in zip(whole, parts, strict=True):
        assert np.array_equal(p.numpy(), q.numpy())
    with pytest.raises(OptionError, match="other parameters"):
        LBFGS(parts[:1]).load_state_dict(first.state_dict())
    with pytest.raises(OptionError, match="the state of SGD"):
        first.load_state_dict(SGD(parts).state_dict())


def test_float32_stays_and_missing_gradients_are_zeros():
    a = wg.tensor(np.array([2.0, -1.0], np.float32), requires_grad=True)
    b = wg.tensor([5.0], requires_grad=True)
    optimizer = LBFGS([a, b])
    optimizer.step(closures(optimizer, [a, b], lambda a, b: ((a - 1) ** 2).sum()))
    assert (a.dtype, b.item()) == (np.float32, 5.0)
    np.testing.assert_allclose(a.numpy(), 1, rtol=1e-6)


def test_complex_parameters_are_pairs():
    z = wg.tensor([3.0 + 4.0j], requires_grad=True)
    optimizer = LBFGS([z])
    optimizer.step(closures(optimizer, [z], lambda z: (np.abs(z - (1 + 2j)) ** 2).sum()))
    np.testing.assert_allclose(z.numpy(), 1 + 2j, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda p: LBFGS(p, iterations=0), "whole number, at least 1"),
        (lambda p: LBFGS(p, history=2.5), "whole number, at least 1"),
        (lambda p: LBFGS(p, line_search="armijo"), "no such line search"),
        (lambda p: LBFGS(p, tolerance_grad=-1), "tolerance_grad must be"),
        (lambda p: LBFGS([{"params": p}, {"params": [wg.tensor(1.0)]}]), "of all parameters"),
        (lambda p: LBFGS(p).step(), "at several places"),
    ],
)
def test_refusals(make, rule):
    with pytest.raises(OptionError, match=rule):
        make([wg.tensor([1.0], requires_grad=True)])


def test_a_closure_returns_the_loss():
    p = wg.tensor([1.0], requires_grad=True)

    def closure(given):
        p.grad = None
        loss = (p * p).sum()
        loss.backward()
        return given(loss)

    with pytest.raises(ArgumentError, match="closure returns the loss"):
        LBFGS([p]).step(lambda: closure(lambda loss: None))
    assert LBFGS([p]).step(lambda: closure(lambda loss: loss.item())) == 1.0
    np.testing.assert_allclose(p.numpy(), 0.0, atol=1e-12)
