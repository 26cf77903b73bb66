"""Second-order methods: against dense linear algebra, SciPy's minima, and each other."""

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import least_squares

import wengert as wg
from wengert import nn, optim
from wengert.errors import ArgumentError, DTypeError, OptionError
from wengert.optim.kfac import rows_of
from wengert.optim.second import conjugate_gradients

F = nn.functional


def spd(n, seed=0):
    m = np.random.default_rng(seed).normal(size=(n, n))
    return m @ m.T + 0.1 * np.eye(n)


# ---- conjugate gradients


def test_conjugate_gradients_solve_the_system():
    a, g = spd(12), np.random.default_rng(1).normal(size=12)
    d, n = conjugate_gradients(lambda v: a @ v, g, iterations=100)
    np.testing.assert_allclose(d, -np.linalg.solve(a, g), rtol=1e-8)
    start = -np.linalg.solve(a, g) * 0.999
    again, fewer = conjugate_gradients(lambda v: a @ v, g, start, iterations=100)
    np.testing.assert_allclose(again, d, rtol=1e-7)
    assert fewer <= n + 1


def test_the_model_falls_with_every_iteration():
    a, g = spd(8), np.random.default_rng(1).normal(size=8)
    values = []
    for n in range(1, 9):
        d, _ = conjugate_gradients(lambda v: a @ v, g, iterations=n)
        values.append(g @ d + d @ a @ d / 2)
    assert all(b < a for a, b in itertools.pairwise(values))


def test_negative_curvature_ends_the_way_downhill():
    a, g = np.diag([1.0, -2.0, 3.0]), np.array([1.0, 1.0, 1.0])
    d, _ = conjugate_gradients(lambda v: a @ v, g, iterations=10)
    assert g @ d < 0
    d, n = conjugate_gradients(lambda v: -v, g, iterations=10)
    assert n == 1
    np.testing.assert_array_equal(d, -g)
    d, n = conjugate_gradients(lambda v: v, 0 * g, iterations=10)
    assert n == 0
    np.testing.assert_array_equal(d, 0 * g)


# ---- Hessian-free


def test_a_newton_step_of_a_quadratic_is_exact():
    a, b = spd(6), np.random.default_rng(1).normal(size=6)
    newton = optim.HessianFree({"x": np.zeros(4), "y": np.zeros(2)}, damping=0.0, tolerance=0.0)

    def loss(p):
        x = np.concatenate([p["x"], p["y"]])
        return x @ a @ x / 2 - b @ x

    report = newton.step(loss)
    got = np.concatenate([newton.params["x"], newton.params["y"]])
    np.testing.assert_allclose(got, np.linalg.solve(a, b), rtol=1e-8)
    assert report.length == 1.0
    assert report.ratio == pytest.approx(1.0)


@pytest.mark.parametrize("damping", [1e-2, 1.0])
def test_the_step_solves_the_damped_gauss_newton_system(damping):
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(20, 3)), rng.integers(0, 4, 20)
    model = nn.Sequential(
        nn.Linear(3, 4, rng=0, dtype=np.float64), nn.Tanh(),
        nn.Linear(4, 4, rng=1, dtype=np.float64),
    )  # fmt: skip
    start = [p.numpy().copy() for p in model.parameters()]
    sizes = np.cumsum([p.size for p in start])[:-1]

    def outputs(v):
        w1, b1, w2, b2 = np.split(v, sizes)
        h = np.tanh(x @ w1.reshape(3, 4) + b1)
        return h @ w2.reshape(4, 4) + b2

    def loss(z):
        return F.cross_entropy(z, labels)

    v = np.concatenate([p.ravel() for p in start])
    j = wg.jacobian(outputs)(v).reshape(-1, v.size)
    h = wg.hessian(lambda z: loss(z.reshape(20, 4)))(outputs(v).ravel())
    b = j.T @ h @ j
    g = wg.grad(lambda v: loss(outputs(v)))(v)
    want = -np.linalg.solve(b + damping * np.eye(v.size), g)
    newton = optim.HessianFree(model, damping=damping, iterations=200, tolerance=0.0)
    report = newton.step(lambda m: m(x), loss)
    assert report.length == 1.0
    assert newton.params is model
    got = np.concatenate([p.numpy().ravel() for p in model.parameters()]) - v
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-8 * np.abs(want).max())
    model_decrease = g @ want + want @ b @ want / 2
    real = loss(outputs(v + want)) - loss(outputs(v))
    assert report.ratio == pytest.approx(float(real) / model_decrease, rel=1e-6)


def test_damping_follows_the_ratio():
    newton = optim.HessianFree(np.array([1.0]), damping=3.0)
    newton.step(lambda x: (x**2).sum())
    assert newton.damping == pytest.approx(2.0)
    newton = optim.HessianFree(np.array([0.9]), damping=0.01)  # beyond sqrt(1/3): Newton overshoots
    before = newton.damping
    report = newton.step(lambda x: np.sum(np.log(np.cosh(4 * x))))
    assert report.ratio < 0.25
    assert newton.damping == pytest.approx(before * 1.5)
    assert report.new_loss < report.loss


def test_a_deep_network_is_trained_in_few_steps():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2))
    y = np.sin(2 * x[:, :1]) * x[:, 1:]
    model = nn.Sequential(
        nn.Linear(2, 12, rng=0, init="xavier", dtype=np.float64), nn.Tanh(),
        nn.Linear(12, 12, rng=1, init="xavier", dtype=np.float64), nn.Tanh(),
        nn.Linear(12, 1, rng=2, init="xavier", dtype=np.float64),
    )  # fmt: skip
    newton = optim.HessianFree(model, damping=0.1)
    losses = [newton.step(lambda m: m(x), lambda z: F.mse_loss(z, y)).loss for _ in range(25)]
    assert all(b <= a for a, b in itertools.pairwise(losses))
    assert losses[-1] < 0.02 * losses[0]


def test_hessian_free_goes_on_where_it_was_saved():
    def loss(x):
        return np.sum(np.cosh(x) * np.array([1.0, 20.0])) + np.prod(x)

    whole = optim.HessianFree(np.array([2.0, -1.0]))
    parts = optim.HessianFree(np.array([2.0, -1.0]))
    for _ in range(6):
        whole.step(loss)
    for _ in range(3):
        parts.step(loss)
    rest = optim.HessianFree(parts.params)
    rest.load_state_dict(parts.state_dict())
    for _ in range(3):
        rest.step(loss)
    np.testing.assert_array_equal(whole.params, rest.params)
    with pytest.raises(OptionError, match="other parameters"):
        optim.HessianFree(np.zeros(3)).load_state_dict(parts.state_dict())


@pytest.mark.parametrize(
    ("make", "error", "rule"),
    [
        (lambda: optim.HessianFree([]), ArgumentError, "nothing to train"),
        (lambda: optim.HessianFree(np.ones(2) * 1j), DTypeError, "real floating-point"),
        (lambda: optim.HessianFree(np.ones(2), damping=-1), OptionError, "damping must be"),
        (lambda: optim.HessianFree(np.ones(2), iterations=0), OptionError, "whole number"),
        (
            lambda: optim.HessianFree(np.ones(2)).step(lambda x: x.sum() * np.inf),
            ArgumentError,
            "must be finite",
        ),
    ],
)
def test_refusals_of_hessian_free(make, error, rule):
    with pytest.raises(error, match=rule), np.errstate(all="ignore"):
        make()


# ---- Levenberg and Marquardt


t = np.linspace(0, 3, 40)
PROBLEMS = {
    "a damped wave": (
        lambda p: p[0] * np.exp(-p[1] * t) * np.sin(p[2] * t + p[3])
        - 2 * np.exp(-1.3 * t) * np.sin(4 * t + 0.3) - 0.1 * np.cos(17 * t),
        [1.0, 1.0, 3.5, 0.0],
    ),
    "Rosenbrock": (lambda x: np.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]]), [-1.2, 1.0]),
    "Beale": (
        lambda x: np.array([1.5, 2.25, 2.625]) - x[0] * (1 - x[1] ** np.array([1.0, 2.0, 3.0])),
        [1.0, 0.8],
    ),
    "badly scaled": (lambda x: np.stack([x[0] - 1e6, x[1] - 2e-6, x[0] * x[1] - 2]), [1.0, 1.0]),
    "a straight line": (lambda p: p[0] + p[1] * t - np.sqrt(t + 1), [0.0, 0.0]),
}  # fmt: skip


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_minimum_is_that_of_scipy(name):
    residual, x0 = PROBLEMS[name]
    ours = optim.levenberg_marquardt(residual, np.array(x0))
    tight = {"xtol": 1e-14, "ftol": 1e-14, "gtol": 1e-14}
    theirs = least_squares(residual, x0, jac=wg.jacobian(residual), method="lm", **tight)
    assert ours.converged, ours.reason
    np.testing.assert_allclose(ours.x, theirs.x, rtol=1e-6)
    assert ours.cost <= theirs.cost * (1 + 1e-9) + 1e-18
    np.testing.assert_allclose(ours.residuals, residual(ours.x), rtol=1e-12)
    np.testing.assert_allclose(ours.jacobian, wg.jacobian(residual)(ours.x), rtol=1e-12)


def test_a_linear_problem_is_solved_by_the_normal_equations():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(9, 3)), rng.normal(size=9)
    fit = optim.levenberg_marquardt(lambda x: a @ x - b, np.zeros(3))
    np.testing.assert_allclose(fit.x, np.linalg.lstsq(a, b, rcond=None)[0], rtol=1e-7)
    variance = 2 * fit.cost / 6
    np.testing.assert_allclose(fit.covariance, np.linalg.inv(a.T @ a) * variance, rtol=1e-9)


def test_the_first_step_has_the_equation():
    residual, x0 = PROBLEMS["Rosenbrock"]
    x = np.array(x0)
    j, r = wg.jacobian(residual)(x), residual(x)
    d = -np.linalg.solve(j.T @ j + 0.5 * np.diag((j**2).sum(axis=0)), j.T @ r)
    fit = optim.levenberg_marquardt(residual, x, damping=0.5, iterations=1)
    assert not fit.converged
    assert "not converged after 1 iterations" in fit.reason
    moved = ((residual(x + d) ** 2).sum() < (r**2).sum()) * d
    np.testing.assert_allclose(fit.x, x + moved, rtol=1e-10)


def test_pytrees_numbers_and_shapes():
    fit = optim.levenberg_marquardt(
        lambda p: np.stack([p["a"] - 2, p["m"].sum() - 6]) * np.ones((3, 1)),
        {"a": 0.0, "m": np.zeros((2, 2))},
    )
    assert fit.x["m"].shape == (2, 2)
    assert fit.converged
    np.testing.assert_allclose([fit.x["a"], fit.x["m"].sum()], [2, 6])
    assert optim.levenberg_marquardt(lambda x: x - 3.0, 1).x == pytest.approx(3)
    with pytest.raises(ArgumentError, match="more residuals than parameters"):
        _ = optim.levenberg_marquardt(lambda x: x - 3.0, 1.0).covariance


@pytest.mark.parametrize(
    ("residual", "x0", "options", "error", "rule"),
    [
        (lambda x: x / 0.0, np.ones(2), {}, ArgumentError, "finite at x0"),
        (lambda x: x[:0], np.ones(2), {}, ArgumentError, "finite at x0"),
        (lambda x: x * 1j, np.ones(2), {}, DTypeError, "residuals are real"),
        (lambda x: x, np.ones(2) * 1j, {}, DTypeError, "parameters are real"),
        (lambda x: x, np.ones(2), {"iterations": 0}, OptionError, "at least 1"),
        (lambda x: x, np.ones(2), {"damping": -1.0}, OptionError, "damping must be"),
    ],
)
def test_refusals_of_least_squares(residual, x0, options, error, rule):
    with pytest.raises(error, match=rule):
        optim.levenberg_marquardt(residual, x0, **options)


def test_steps_into_the_forbidden_are_taken_back():
    """log of a negative number is nan: such a step is refused, and a shorter one taken."""
    fit = optim.levenberg_marquardt(lambda x: np.log(x) + 3, np.array([1.0]), damping=1e-9)
    np.testing.assert_allclose(fit.x, np.exp(-3), rtol=1e-8)


# ---- K-FAC


def one_layer(rng, bias=True):
    """A layer, and inputs and output gradients of which every pair occurs once."""
    a, g = rng.normal(size=(4, 3)), rng.normal(size=(5, 2))
    x, gy = np.repeat(a, 5, axis=0), np.tile(g, (4, 1))
    return nn.Linear(3, 2, bias=bias, rng=0, dtype=np.float64), x, gy


def as_vector(ps):
    """The gradients in the order of (weight with the bias as a last row), row by row."""
    return np.concatenate([np.atleast_2d(p) for p in ps]).ravel()


@pytest.mark.parametrize("bias", [True, False])
def test_the_factors_are_the_fisher_matrix_of_a_layer(bias):
    """Where inputs and output gradients are independent, F = A (x) G holds exactly."""
    layer, x, gy = one_layer(np.random.default_rng(0), bias)
    optimizer = optim.KFAC(layer, lr=1.0, momentum=0.0, damping=0.0, kl_clip=None, empirical=False)
    losses = lambda m: (m(x) * gy).sum(axis=1)
    with optimizer.statistics():
        losses(layer).mean().backward()
    grads = [np.random.default_rng(9).normal(size=p.shape) for p in layer.parameters()]
    for p, g in zip(layer.parameters(), grads, strict=True):
        p.grad = wg.tensor(g)
    before = [p.numpy().copy() for p in layer.parameters()]
    optimizer.step()
    factors = optimizer.factors[""]
    fisher = np.kron(factors.inputs, factors.outputs)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        v = [rng.normal(size=p.shape) for p in layer.parameters()]
        tangent = nn.Linear(3, 2, bias=bias, rng=0, dtype=np.float64)
        for p, value in zip(tangent.parameters(), v, strict=True):
            with wg.no_grad():
                p[...] = value
        fv = wg.fisher_product(losses, layer, tangent, "empirical")
        np.testing.assert_allclose(
            fisher @ as_vector(v), as_vector([p.numpy() for p in fv.parameters()]), rtol=1e-10
        )
    # and the step is the natural gradient
    want = np.linalg.solve(fisher, as_vector(grads))
    moved = as_vector([a - p.numpy() for a, p in zip(before, layer.parameters(), strict=True)])
    np.testing.assert_allclose(moved, want, rtol=1e-7)
    for p, g in zip(layer.parameters(), grads, strict=True):
        np.testing.assert_array_equal(p.grad.numpy(), g)  # the gradients themselves stay


def test_damping_is_split_by_the_traces():
    layer, x, gy = one_layer(np.random.default_rng(0))
    optimizer = optim.KFAC(layer, damping=0.3)
    (layer(x) * gy).sum(axis=1).mean().backward()
    optimizer.step()
    f = optimizer.factors[""]
    a = np.concatenate([x, np.ones((20, 1))], axis=1)
    np.testing.assert_allclose(f.inputs, a.T @ a / 20, rtol=1e-13)
    np.testing.assert_allclose(f.outputs, gy.T @ gy / 20, rtol=1e-13)
    pi = np.sqrt((np.trace(f.inputs) / 4) / (np.trace(f.outputs) / 2))
    root = np.sqrt(0.3)
    np.testing.assert_allclose(f.inverses[0], np.linalg.inv(f.inputs + pi * root * np.eye(4)))
    np.testing.assert_allclose(f.inverses[1], np.linalg.inv(f.outputs + root / pi * np.eye(2)))


def test_factors_are_running_means_and_parts_of_a_batch_add_up():
    layer, x, gy = one_layer(np.random.default_rng(0))
    optimizer = optim.KFAC(layer, decay=0.9, every=1)
    for part in (slice(0, 8), slice(8, 20)):  # accumulated with their shares
        n = part.stop - part.start
        ((layer(x[part]) * gy[part]).sum(axis=1).mean() * (n / 20)).backward()
    optimizer.step()
    f = optimizer.factors[""]
    a, g = f.inputs.copy(), f.outputs.copy()
    np.testing.assert_allclose(g, gy.T @ gy / 20, rtol=1e-13)
    for n in (2, 3):
        (layer(2 * x) * (3 * gy)).sum(axis=1).mean().backward()
        optimizer.step()
        keep = min(1 - 1 / n, 0.9)
        g = keep * g + (1 - keep) * 9 * gy.T @ gy / 20
        np.testing.assert_allclose(f.outputs, g, rtol=1e-13)
    assert a[0, 0] < f.inputs[0, 0] < 4 * a[0, 0]


@pytest.mark.parametrize(
    ("padding", "mode"), [(0, "zeros"), (1, "zeros"), ("same", "zeros"), (1, "circular")]
)
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2)])
def test_rows_of_a_convolution_are_what_it_multiplies(padding, mode, stride, dilation):
    rng = np.random.default_rng(0)
    layer = nn.Conv2d(
        2, 3, (3, 2), stride=stride, dilation=dilation, padding=padding, padding_mode=mode, rng=0,
        dtype=np.float64,
    )  # fmt: skip
    x = rng.normal(size=(4, 7, 6, 2))
    rows, n = rows_of(layer, x)
    y = layer(x).numpy()
    assert n == 4
    got = rows @ layer.weight.numpy().reshape(-1, 3) + layer.bias.numpy()
    np.testing.assert_allclose(got.reshape(y.shape), y, rtol=1e-12, atol=1e-12)


def test_the_factors_of_a_convolution():
    """A = sum over places of E[a a^T], G = the mean over places of E[g g^T]."""
    rng = np.random.default_rng(0)
    layer = nn.Conv2d(2, 3, 2, rng=0, dtype=np.float64)
    x, gy = rng.normal(size=(5, 4, 4, 2)), rng.normal(size=(5, 3, 3, 3))
    optimizer = optim.KFAC(layer)
    ((layer(x) * gy).sum(axis=(1, 2, 3))).mean().backward()
    optimizer.step()
    f = optimizer.factors[""]
    rows = np.concatenate([rows_of(layer, x)[0], np.ones((45, 1))], axis=1)
    np.testing.assert_allclose(f.inputs, rows.T @ rows / 5, rtol=1e-12)
    g = gy.reshape(-1, 3)
    np.testing.assert_allclose(f.outputs, g.T @ g / 45, rtol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 1)])
def test_the_factors_are_the_dense_fisher_matrix_of_a_convolution(bias, stride, padding):
    """Where places do not correlate, F = A (x) G holds exactly (Grosse & Martens, theorem 1).

    Every image meets every sign of the gradient at every place, so that the expectation of the
    products of two places is 0, and at all places the gradients have one covariance.
    """
    rng = np.random.default_rng(0)
    make = lambda: nn.Conv2d(
        2, 2, 2, stride=stride, padding=padding, bias=bias, rng=0, dtype=np.float64
    )
    layer, images = make(), rng.normal(size=(3, 3, 3, 2))
    places = layer(images).shape[1:3]
    signs = np.array(list(itertools.product([-1.0, 1.0], repeat=math.prod(places))))
    spread = signs.reshape(-1, *places, 1) * rng.normal(size=(2,))  # one covariance everywhere
    x = np.repeat(images, len(spread), axis=0)
    gy = np.tile(spread, (len(images), 1, 1, 1))
    losses = lambda m: (m(x) * gy).sum(axis=(1, 2, 3))
    optimizer = optim.KFAC(layer, lr=0.0)
    losses(layer).mean().backward()
    optimizer.step()
    factors = optimizer.factors[""]
    each = wg.jacrev(lambda m: losses(m))(layer)
    rows = [p.numpy().reshape(len(x), -1, 2) for p in each.parameters()]
    dense = np.concatenate(rows, axis=1).reshape(len(x), -1)
    fisher = dense.T @ dense / len(x)
    np.testing.assert_allclose(np.kron(factors.inputs, factors.outputs), fisher, atol=1e-10)


def test_a_convolution_in_groups_keeps_its_gradient():
    layer = nn.Conv1d(4, 4, 2, groups=2, rng=0, dtype=np.float64)
    optimizer = optim.KFAC(layer, lr=0.1, momentum=0.0, kl_clip=None)
    assert not optimizer.factors
    before = layer.weight.numpy().copy()
    (layer(np.ones((2, 5, 4))) ** 2).sum().backward()
    optimizer.step()
    np.testing.assert_allclose(layer.weight.numpy(), before - 0.1 * layer.weight.grad.numpy())


def network(seed=0):
    return nn.Sequential(
        nn.Linear(4, 8, rng=seed, dtype=np.float64), nn.Tanh(),
        nn.Linear(8, 3, rng=seed + 1, dtype=np.float64),
    )  # fmt: skip


def train(model, optimizer, steps, x, labels):
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 4)) * np.array([30.0, 1.0, 1.0, 0.03])  # badly scaled
    return x, (x[:, 1] + 30 * x[:, 3] > 0).astype(int) + (x[:, 0] > 20)


def test_badly_scaled_inputs_do_not_matter():
    x, labels = data()
    kfac = network()
    a = train(kfac, optim.KFAC(kfac, lr=0.1, every=1), 40, x, labels)
    b = min(
        (train(m := network(), optim.SGD(m.parameters(), lr=r, momentum=0.9), 40, x, labels)
         for r in (1e-3, 1e-2, 1e-1)),
        key=lambda losses: losses[-1],
    )  # fmt: skip
    assert a[-1] < 0.7 * b[-1]


def test_kfac_goes_on_where_it_was_saved():
    x, labels = data()
    whole, parts = network(), network()
    train(whole, optim.KFAC(whole, lr=0.05, every=3), 8, x, labels)
    first = optim.KFAC(parts, lr=0.05, every=3)
    train(parts, first, 4, x, labels)
    state = first.state_dict()
    first.close()
    second = optim.KFAC(parts, lr=0.05, every=3)
    second.load_state_dict(state)
    train(parts, second, 4, x, labels)
    for p, q in zip(whole.parameters(), parts.parameters(), strict=True):
        np.testing.assert_array_equal(p.numpy(), q.numpy())
    other = optim.KFAC(nn.Sequential(network()))
    with pytest.raises(OptionError, match="another model"):
        other.load_state_dict(state)


def test_the_length_of_a_step_is_bounded():
    x, labels = data()
    model = network()
    optimizer = optim.KFAC(model, lr=1.0, momentum=0.0, damping=1e-8, kl_clip=1e-4)
    before = [p.numpy().copy() for p in model.parameters()]
    train(model, optimizer, 1, x, labels)
    gradients = [p.grad.numpy() for p in model.parameters()]
    moved = [a - p.numpy() for a, p in zip(before, model.parameters(), strict=True)]
    free = network()
    train(free, optim.KFAC(free, lr=1.0, momentum=0.0, damping=1e-8, kl_clip=None), 1, x, labels)
    whole = [a - p.numpy() for a, p in zip(before, free.parameters(), strict=True)]
    size = sum(float(np.vdot(v, g)) for v, g in zip(whole, gradients, strict=True))
    assert size > 1e-4
    for a, b in zip(moved, whole, strict=True):
        np.testing.assert_allclose(a, np.sqrt(1e-4 / size) * b, rtol=1e-8, atol=1e-14)


def test_statistics_leave_gradients_alone_and_are_all_that_counts():
    x, labels = data()
    model = network()
    optimizer = optim.KFAC(model, empirical=False)
    F.cross_entropy(model(x), labels).backward()
    assert not optimizer.factors["layers.0"].seen
    before = [p.grad.numpy().copy() for p in model.parameters()]
    with optimizer.statistics():
        F.cross_entropy(model(x), labels[::-1].copy()).backward()
    assert len(optimizer.factors["layers.0"].seen) == 1
    for p, g in zip(model.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.grad.numpy(), g)
    with wg.no_grad():
        model(x)
    wg.grad(lambda m: F.cross_entropy(m(x), labels))(model)  # not the eager tape
    optimizer.close()
    with optimizer.statistics():
        F.cross_entropy(model(x), labels).backward()
    assert len(optimizer.factors["layers.0"].seen) == 1


def test_other_parameters_keep_their_gradient():
    class Scaled(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(2, 2, rng=0, dtype=np.float64)
            self.factor = nn.Parameter([2.0])

        def forward(self, x):
            return self.layer(x) * self.factor

    model = Scaled()
    optimizer = optim.KFAC(model, lr=0.1, momentum=0.0, kl_clip=None)
    (model(np.ones((3, 2))) ** 2).sum(axis=1).mean().backward()
    g = model.factor.grad.item()
    optimizer.step()
    assert model.factor.item() == pytest.approx(2.0 - 0.1 * g, rel=1e-14)


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda m: optim.KFAC(m.parameters()), "it takes the model"),
        (lambda m: optim.KFAC(m, damping=-1), "damping must be"),
        (lambda m: optim.KFAC(m, decay=1.0), "decay must be"),
        (lambda m: optim.KFAC(m, every=0), "whole number"),
        (lambda m: optim.KFAC(m, kl_clip=-1), "kl_clip must be"),
    ],
)
def test_refusals_of_kfac(make, rule):
    with pytest.raises(OptionError, match=rule):
        make(network())
