"""Transforms nest in any order; compared with HIPS autograd, an independent engine."""

import threading

import autograd
import autograd.numpy as anp
import numpy as np
import pytest
from autograd.differential_operators import make_jvp as autograd_jvp

import wengert as wg
from wengert import grad, hessian, hvp, jacfwd, jacobian, jacrev, jvp, vmap
from wengert.trace import Tensor, stack


def f(m):
    return lambda x: m.sum(m.tanh(x) * m.sin(x) * x + m.exp(x[0] * x))


def g(m):
    return lambda x: m.sin(x) * x[0] + x * x


ours, theirs = f(np), f(anp)
slope, curve = autograd.grad(theirs), autograd.hessian(theirs)
rows = np.array([[0.3, -0.7, 1.2], [0.6, -1.4, 2.4], [-0.7, -1.7, 0.2]])


def total(h, v):
    return lambda x: np.sum(h(x) * v)


def test_first_order(x, v, close):
    close(grad(ours)(x), slope(x))
    close(jvp(ours, x, v)[1], slope(x) @ v)


def test_second_order_in_every_mixture(x, v, close):
    want = curve(x) @ v
    close(grad(total(grad(ours), v))(x), want)
    close(jvp(grad(ours), x, v)[1], want)
    close(grad(lambda x: jvp(ours, x, v)[1])(x), want)
    close(jvp(lambda x: jvp(ours, x, v)[1], x, v)[1], v @ want)
    close(hvp(ours, x, v), want)


def test_third_order(x, v, close):
    def third(grad, ours, m):
        return grad(lambda x: m.sum(grad(lambda x: m.sum(grad(ours)(x) * v))(x) * v))(x)

    want = third(autograd.grad, theirs, anp)
    close(third(grad, ours, np), want)
    close(jvp(lambda x: jvp(grad(ours), x, v)[1], x, v)[1], want)
    close(jvp(lambda x: grad(total(grad(ours), v))(x), x, v)[1], want)


def test_whole_jacobians(x, close):
    want = autograd.jacobian(g(anp))(x)
    for jac in (jacfwd, jacrev, jacobian):
        close(jac(g(np))(x), want)


def test_hessians(x, close):
    for h in (
        jacfwd(grad(ours)),
        jacrev(grad(ours)),
        jacfwd(jacfwd(ours)),
        jacrev(jacfwd(ours)),
        hessian(ours),
    ):
        close(h(x), curve(x))


def test_jacobians_of_jacobians(x, close):
    want = autograd.jacobian(lambda x: autograd.jacobian(g(anp))(x)[0])(x)
    close(jacfwd(lambda x: jacrev(g(np))(x)[0])(x), want)
    close(jacrev(lambda x: jacfwd(g(np))(x)[0])(x), want)


def test_vmap_on_both_sides(v, close):
    slopes = np.stack([slope(r) for r in rows])
    close(vmap(ours)(rows), [theirs(r) for r in rows])
    close(vmap(grad(ours))(rows), slopes)
    close(grad(lambda X: np.sum(vmap(ours)(X) * v))(rows), slopes * v[:, None])
    close(vmap(lambda x: jvp(ours, x, v)[1])(rows), slopes @ v)
    close(jvp(vmap(ours), rows, np.ones((3, 3)))[1], slopes.sum(1))
    close(vmap(hessian(ours))(rows), [curve(r) for r in rows])
    close(vmap(vmap(lambda a: a * a + 1.0))(rows), rows * rows + 1)


def test_vmap_of_a_closure_over_another_vmap(x, close):
    close(vmap(lambda a: vmap(lambda b: a * b)(x))(x), np.outer(x, x))


def D(f):
    return lambda x: jvp(f, (x,), (1.0,))[1]


@pytest.mark.parametrize("outer", [D, grad])
@pytest.mark.parametrize("inner", [D, grad])
def test_perturbations_are_not_confused(outer, inner, close):
    """Siskind and Pearlmutter 2005: d/dx (x d/dy (x + y)) = 1, not 2."""
    close(outer(lambda x: x * inner(lambda y: x + y)(1.0))(1.0), 1.0)
    close(outer(lambda x: x * inner(lambda y: x * y * y)(2.0))(3.0), 24.0)
    close(outer(lambda x: inner(lambda y: x * y)(2.0) * x)(5.0), 10.0)


def test_a_transform_that_returns_a_closure_does_not_confuse(close):
    """The curried case of Manzyuk et al. 2019: s u f x = f (x + u), with ds/du applied twice."""

    def shift(u):
        return lambda f: lambda x: f(x + u)

    def shifted_slope(f):
        return lambda x: D(lambda u: shift(u)(f)(x))(0.0)

    close(shifted_slope(shifted_slope(np.sin))(0.7), -np.sin(0.7))
    close(shifted_slope(shifted_slope(np.exp))(1.0), np.exp(1.0))


@pytest.fixture
def w(x):
    return wg.tensor(x, requires_grad=True)


def swept(w, y):
    y.backward()
    got, w.grad = w.grad, None
    return got


def test_eager_parameters_inside_transforms(w, x, v, close):
    inner = grad(lambda b: np.sum(np.sin(w) * b * b))(v)
    want = autograd.grad(lambda w: anp.sum((2 * anp.sin(w) * v) ** 2))(x)
    close(swept(w, (inner * inner).sum()), want)
    close(swept(w, jvp(lambda b: np.sum(np.sin(w) * b * b), v, np.ones(3))[1]), 2 * np.cos(x) * v)
    many = vmap(lambda b: np.sum(w * b * b))(rows)
    close(swept(w, (many * many).sum()), 2 * (rows * rows).T @ (rows * rows @ x))


def test_create_graph_to_third_order(w, x, close):
    def h(w):
        return anp.sum(anp.tanh(w) * w * w)

    def second(w):
        return anp.sum(autograd.grad(h)(w) ** 2)

    def gradient(y):
        y.backward(create_graph=True)
        got, w.grad = w.grad, None
        return got

    first = gradient(np.sum(np.tanh(w) * w * w))
    close(first, autograd.grad(h)(x))
    again = gradient((first * first).sum())
    close(again, autograd.grad(second)(x))
    third = gradient((again * np.sin(again)).sum())
    want = autograd.grad(lambda w: (lambda g: anp.sum(g * anp.sin(g)))(autograd.grad(second)(w)))(x)
    close(third, want)


def backward_inside(x):
    p = x * 1.0 if isinstance(x, Tensor) else wg.tensor(x)
    p = p.requires_grad_()
    np.sum(np.sin(p) * p).backward()
    return p.grad


def test_backward_inside_transforms(x, v, close):
    first = np.sin(x) + x * np.cos(x)
    second = np.diag(2 * np.cos(x) - x * np.sin(x))
    close(backward_inside(x), first)
    close(jvp(backward_inside, x, v)[1], second @ v)
    close(vmap(backward_inside)(rows), np.sin(rows) + rows * np.cos(rows))
    close(grad(lambda x: np.sum(backward_inside(x) * v))(x), second @ v)
    close(jacfwd(backward_inside)(x), second)
    close(jacrev(backward_inside)(x), second)
    close(
        vmap(lambda x: jvp(backward_inside, x, v)[1])(rows),
        (2 * np.cos(rows) - rows * np.sin(rows)) * v,
    )


def test_backward_of_an_outer_value_inside_a_transform(w, x, v, close):
    def innocent(b):
        (w * w).sum().backward()
        return b * 2.0

    close(jvp(innocent, v, v)[1], 2 * v)
    close(w.grad, 2 * x)


def test_backward_of_a_transformed_value_is_refused(w, v):
    with pytest.raises(wg.errors.LevelError, match="inside a jvp"):
        jvp(lambda b: (np.sum(w * b).backward(), b)[1], v, v)
    with pytest.raises(wg.errors.LevelError, match="inside a vmap"):
        vmap(lambda b: (np.sum(w * b).backward(), b)[1])(rows)


def branch(x):
    return x * x if x[0] > 0 else -x


def test_python_branches(x, v, close):
    close(grad(lambda x: np.sum(branch(x)))(x), 2 * x)
    close(jvp(branch, x, v)[1], 2 * x * v)
    close(jvp(grad(lambda x: np.sum(branch(x))), x, v)[1], 2 * v)
    with pytest.raises(wg.errors.LevelError, match="lane to lane"):
        vmap(branch)(rows)
    with pytest.raises(wg.errors.LevelError, match="lane to lane"):
        grad(lambda X: np.sum(vmap(branch)(X)))(rows)


@pytest.mark.parametrize("run", [
    lambda bad, x: grad(bad)(x), lambda bad, x: jvp(bad, x, x), lambda bad, x: vmap(bad)(x),
    lambda bad, x: jacobian(bad)(x), lambda bad, x: hessian(bad)(x),
])  # fmt: skip
def test_levels_are_popped_when_f_raises(run, x):
    with pytest.raises(ZeroDivisionError):
        run(lambda x: 1 / 0, x)
    assert stack() == []
    assert wg.trace.MODES == 0


def test_values_that_leak_decay_to_their_primal(x, close):
    leaked = []
    grad(lambda x: (leaked.append(x * 2.0), np.sum(x * x))[1])(x)
    jvp(lambda x: (leaked.append(x * 2.0), x)[1], x, x)
    close(leaked[0] * np.ones(3), 2 * x)
    close(leaked[1] + 1.0, 2 * x + 1)
    vmap(lambda x: (leaked.append(x * 2.0), x)[1])(rows)
    with pytest.raises(wg.errors.LevelError):
        leaked[2] + 1.0


def test_no_grad_quiets_outer_tapes_alone(w, x, v, close):
    def quiet(x):
        with wg.no_grad():
            c = np.sin(x)
        return np.sum(c * x)

    close(grad(quiet)(x), np.sin(x))
    close(jvp(quiet, x, v)[1], np.sum((np.sin(x) + x * np.cos(x)) * v))  # forward mode goes on
    with wg.no_grad():
        close(grad(ours)(x), slope(x))
        assert not np.sum(w * w).requires_grad
        with wg.enable_grad():
            assert np.sum(w * w).requires_grad

    @wg.no_grad()
    def evaluate():
        return w * 2.0

    assert not evaluate().requires_grad


def test_threads_do_not_see_each_other(x):
    got, failures = [], []

    def work():
        try:
            got.extend([grad(ours)(x) for _ in range(50)])
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    with wg.no_grad():
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert not failures
    assert len(got) == 200
    assert all((a == got[0]).all() for a in got)
    assert wg.trace.MODES == 0


def test_autograd_forward_mode_agrees(x, v, close):
    value, tangent = autograd_jvp(theirs)(x)(v)
    got = jvp(ours, x, v)
    close(got[0], value)
    close(got[1], tangent)
