"""Initial value problems: values against SciPy and closed forms, gradients of the numbers."""

import tracemalloc

import numpy as np
import pytest
import scipy.integrate
import scipy.linalg

import wengert as wg
from wengert.testing import check_grads

A = np.array([[-0.5, 1.0], [-1.0, -0.2]])
Y0, T = np.array([1.0, 0.5]), np.array([0.0, 0.7, 2.0])
TIGHT = {"rtol": 1e-10, "atol": 1e-12}


def linear(y, t, a):
    return a @ y


def pendulum(y, t, k):
    return np.stack([y[1], -k * np.sin(y[0]) + 0.3 * np.cos(t)])


def exact(a, y0=Y0, t=T):
    return np.stack([scipy.linalg.expm(a * s) @ y0 for s in t])


@pytest.mark.parametrize("method", ["dopri5", "bosh3"])
@pytest.mark.parametrize("t", [np.linspace(0, 10, 7), np.array([3.0, 1.0, -2.0]), np.array([1.0])])
def test_against_scipy(method, t):
    rtol = 1e-9 if method == "dopri5" else 1e-7
    got = wg.odeint(pendulum, Y0, t, 2.0, method=method, rtol=rtol, atol=rtol)
    assert got.shape == (len(t), 2)
    want = [Y0[:, None]]
    if len(t) > 1:
        want = scipy.integrate.solve_ivp(
            lambda s, y: pendulum(y, s, 2.0), (t[0], t[-1]), Y0, "DOP853", t,
            rtol=1e-12, atol=1e-12,
        ).y  # fmt: skip
    np.testing.assert_allclose(
        got, np.reshape(want, (2, len(t))).T, rtol=1e3 * rtol, atol=1e3 * rtol
    )


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("midpoint", 2), ("rk4", 4)])
def test_order_of_the_fixed_methods(method, order):
    errors = [
        np.abs(wg.odeint(linear, Y0, T, A, method=method, steps=n) - exact(A)).max()
        for n in (16, 32)
    ]
    assert abs(np.log2(errors[0] / errors[1]) - order) < 0.25


@pytest.mark.parametrize("adjoint", ["discrete", "continuous"])
def test_gradients_against_the_matrix_exponential(adjoint):
    weights = np.array([[0.3, 1.0], [-0.5, 0.2], [1.0, 2.0]])

    def loss(a, y0, t):
        return np.sum(weights * wg.odeint(linear, y0, t, a, adjoint=adjoint, **TIGHT))

    ga, gy, gt = wg.grad(loss, (0, 1, 2))(A, Y0, T)
    frechet = np.zeros((2, 2))
    for i in range(2):
        for j in range(2):
            e = np.zeros((2, 2))
            e[i, j] = 1
            frechet[i, j] = sum(
                w @ (scipy.linalg.expm_frechet(A * s, e * s)[1] @ Y0) for w, s in zip(weights, T)
            )
    np.testing.assert_allclose(ga, frechet, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(gy, sum(scipy.linalg.expm(A * s).T @ w for w, s in zip(weights, T)),
                               rtol=1e-8)  # fmt: skip
    slopes = exact(A) @ A.T
    want = np.sum(weights * slopes, 1)
    want[0] = -np.sum([w @ scipy.linalg.expm(A * s) @ A @ Y0 for w, s in zip(weights[1:], T[1:])])
    np.testing.assert_allclose(gt, want, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("method", ["rk4", "midpoint"])
def test_gradient_of_the_numbers(method):
    """Of the numerical solution, coarse as it is, to rounding: central differences agree."""

    def f(y0, k, t):
        return wg.odeint(pendulum, y0, t, k, method=method, steps=3)

    check_grads(f, (Y0, np.float64(2.0), T), order=2)


def test_modes(close):
    """y = exp(k A t) y0, with all its derivatives in k."""
    t = np.array([0.0, 1.0])
    f = lambda k: wg.odeint(lambda y, t, k: k * (A @ y), Y0, t, k, rtol=1e-8, atol=1e-9)[-1]
    y = scipy.linalg.expm(A * 1.3) @ Y0
    close(wg.jacrev(f)(1.3), A @ y, rtol=1e-6)
    close(wg.jacfwd(f)(1.3), wg.jacrev(f)(1.3), rtol=1e-11)
    close(wg.jacfwd(wg.jacrev(f))(1.3), A @ A @ y, rtol=1e-5)
    close(wg.jacrev(wg.jacfwd(f))(1.3), wg.jacfwd(wg.jacrev(f))(1.3), rtol=1e-9)
    ks = np.array([1.0, 1.3, 2.0])
    close(wg.vmap(f)(ks), np.stack([f(k) for k in ks]), rtol=1e-6)
    close(wg.vmap(wg.jacfwd(f))(ks)[1], A @ y, rtol=1e-6)
    x = wg.tensor(1.3, requires_grad=True)
    f(x).sum().backward()
    close(x.grad, wg.jacrev(f)(1.3).sum(), rtol=1e-11)


def test_lanes_with_times_of_their_own(close):
    times = np.array([[0.0, 1.0, 2.0], [0.0, 0.3, 4.0]])
    f = lambda t: wg.odeint(linear, Y0, t, A, **TIGHT)
    close(wg.vmap(f)(times), np.stack([exact(A, t=t) for t in times]), rtol=1e-8)


def test_pytrees_and_complex_numbers(close):
    def f(y, t, w):
        return {"z": 1j * w * y["z"], "n": [2 * t * np.ones(2)]}

    out = wg.odeint(f, {"z": 1.0 + 0j, "n": [np.zeros(2)]}, np.array([0.0, 2.0]), 3.0, **TIGHT)
    close(out["z"][-1], np.exp(6j), rtol=1e-8)
    close(out["n"][0][-1], np.full(2, 4.0), rtol=1e-9)
    g = wg.grad(lambda w: np.real(wg.odeint(
        f, {"z": 1.0 + 0j, "n": [np.zeros(2)]}, np.array([0.0, 2.0]), w, **TIGHT)["z"][-1]
    ))(3.0)  # fmt: skip
    close(g, -2 * np.sin(6.0), rtol=1e-7)


def test_single_precision():
    a, y0 = A.astype("f4"), Y0.astype("f4")
    out = wg.odeint(linear, y0, T, a, rtol=1e-4, atol=1e-5)
    assert out.dtype == np.float32
    assert wg.grad(lambda a: np.sum(wg.odeint(linear, y0, T, a, rtol=1e-4, atol=1e-5)))(
        a
    ).dtype == np.float32  # fmt: skip


def test_the_continuous_adjoint_forgets():
    """y' = -k y forgets where it began; run backwards it grows by exp(k t), and its error too.

    u' = w y remembers:  du(t)/dw = (1 - exp(-k t)) / k.
    """
    k, end = 8.0, 3.0

    def final(w, adjoint):
        out = wg.odeint(lambda y, t, w: np.stack([-k * y[0], w * y[0]]), np.array([1.0, 0.0]),
                        np.array([0.0, end]), w, adjoint=adjoint, rtol=1e-6, atol=1e-8)  # fmt: skip
        return out[-1][1]

    want = (1 - np.exp(-k * end)) / k
    assert abs(wg.grad(final)(1.0, "discrete") / want - 1) < 1e-5
    try:
        wrong = wg.grad(final)(1.0, "continuous")
    except wg.errors.ConvergenceError:
        return
    assert abs(wrong / want - 1) > 1e-2


def test_memory_of_the_continuous_adjoint():
    y0 = np.ones(5_000)
    t = np.array([0.0, 8.0])

    def peak(adjoint):
        k = wg.tensor(0.5, requires_grad=True)
        tracemalloc.start()
        wg.odeint(lambda y, t, k: np.sin(t) * y * k, y0, t, k, adjoint=adjoint)[-1].sum().backward()
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak("continuous") < 0.5 * peak("discrete")


def test_closed_over_values(close):
    def final(k, adjoint):
        return wg.odeint(lambda y, t: -k * y, 1.0, np.array([0.0, 2.0]), adjoint=adjoint)[-1]

    for adjoint in ("discrete", "continuous"):
        close(wg.grad(final)(0.5, adjoint), -2 * np.exp(-1.0), rtol=1e-6)


def test_forward_mode_of_the_continuous_adjoint_is_refused():
    with pytest.raises(wg.errors.UnsupportedError, match="discrete"):
        wg.jvp(lambda k: wg.odeint(linear, Y0, T, A * k, adjoint="continuous"), (1.0,), (1.0,))


def test_failures_say_where():
    with pytest.raises(wg.errors.ConvergenceError, match=r"reached\s*: t = 1\b"):
        wg.odeint(lambda y, t: y * y, 1.0, np.array([0.0, 2.0]))
    with pytest.raises(wg.errors.ConvergenceError, match="stiff"):
        wg.odeint(lambda y, t: -1e6 * (y - np.cos(t)), 0.0, np.array([0.0, 1.0]), max_steps=300)
    with pytest.raises(wg.errors.ArgumentError, match="strictly"):
        wg.odeint(linear, Y0, np.array([0.0, 1.0, 0.5]), A)
    with pytest.raises(wg.errors.ShapeError, match="vector"):
        wg.odeint(linear, Y0, 1.0, A)
    with pytest.raises(wg.errors.ShapeError, match="slope"):
        wg.odeint(lambda y, t: y[:1], Y0, T)
    with pytest.raises(wg.errors.ArgumentError, match="dopri5"):
        wg.odeint(linear, Y0, T, A, method="lsoda")
    with pytest.raises(wg.errors.ArgumentError, match="continuous"):
        wg.odeint(linear, Y0, T, A, adjoint="both")


def test_rejected_steps_leave_nothing(close):
    """A jump in the slope makes the steps small for a while."""
    f = lambda k: wg.odeint(
        lambda y, t, k: np.where(t < 1.0, k, 3 * k), 0.0, np.array([0.0, 2.0]), k, **TIGHT
    )[-1]
    close(f(1.0), 4.0, rtol=1e-6)
    close(wg.grad(f)(1.0), 4.0, rtol=1e-6)
