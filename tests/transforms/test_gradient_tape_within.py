"""Tapes within the other transforms and the other way round, and gradients of the user's own."""

import itertools

import autograd
import autograd.numpy as anp
import numpy as np
import pytest
from test_gradient_tape import val

import wengert as wg
from wengert import GradientTape, Variable
from wengert.errors import (
    ArgumentError,
    LevelError,
)

# ------------------------------------------------------------------ within the other transforms


@pytest.fixture
def w():
    return Variable([1.0, -2.0, 0.5], name="w")


def slope(x):
    with GradientTape() as tape:
        tape.watch(x)
        y = np.sum(np.sin(x) * x)
    return tape.gradient(y, x)


def test_a_tape_inside_every_transform(close):
    x, v = np.array([0.3, -0.7]), np.array([1.0, 0.5])
    f = lambda x: anp.sum(anp.sin(x) * x)
    want = autograd.hessian(f)(x)
    close(wg.grad(lambda x: np.sum(slope(x) * v))(x), want @ v)
    close(wg.jvp(slope, x, v)[1], want @ v)
    close(wg.jacobian(slope)(x), want)
    close(wg.vmap(slope)(x), [autograd.grad(f)(a) for a in x])
    close(wg.vmap(wg.grad(slope))(x), np.diag(want))


def test_a_tape_around_every_transform(close):
    v = Variable(0.7)
    with GradientTape(persistent=True) as tape:
        a = wg.grad(lambda x: x**2 * v**3)(2.0)
        b = wg.jvp(lambda x: np.sin(x * v), (2.0,), (1.0,))[1]
        c = wg.vmap(lambda x: x * v)(np.ones(3))
        d = wg.grad(lambda x: x**3)(v)
    close(tape.gradient(a, v), 4.0 * 3 * 0.49)
    close(tape.gradient(b, v), np.cos(1.4) - 0.7 * 2 * np.sin(1.4))
    close(tape.gradient(c, v), 3.0)
    close(tape.gradient(d, v), 6 * 0.7)


def test_a_variable_from_outside_is_watched_inside_a_transform(w, close):
    def g(x, watch):
        with GradientTape() as tape:
            if watch:
                tape.watch(w)
            y = np.sum(w * x * x)
        return tape.gradient(y, w)

    with pytest.raises(LevelError, match=r"tape.watch\(source\) inside"):
        wg.grad(lambda x: np.sum(g(x, False)))(np.ones(3))
    close(wg.grad(lambda x: np.sum(g(x, True)))(np.ones(3)), 2 * np.ones(3))
    assert isinstance(w, Variable)
    assert w.is_leaf
    assert w.level is wg.trace.EAGER
    w.assign([1.0, 1.0, 1.0])


def tape_slope(f):
    def d(x):
        x = wg.tensor(x)  # a tensor of its own: the caller may have more than one use of x
        with GradientTape() as tape:
            tape.watch(x)
            y = f(x)
        return tape.gradient(y, x, unconnected_gradients="zero")

    return d


def jvp_slope(f):
    return lambda x: wg.jvp(f, (x,), (1.0,))[1]


def grad_slope(f):
    return wg.grad(f, allow_unused=True)


def linear_slope(f):
    return lambda x: wg.linearize(f, x)[1](1.0)


def vjp_slope(f):
    return lambda x: wg.vjp(f, x)[1](1.0)[0]


SLOPES = [tape_slope, jvp_slope, grad_slope, linear_slope, vjp_slope]
PAIRS = list(itertools.product(SLOPES, SLOPES))


def num(x):
    return float(x.item() if hasattr(x, "item") else x)


@pytest.mark.parametrize(("D", "d"), PAIRS)
def test_perturbations_are_not_confused(D, d):
    """Siskind and Pearlmutter 2005, and their like, in every pair of dialects."""
    assert num(D(lambda x: x * d(lambda y: x + y)(1.0))(1.0)) == 1.0
    assert num(D(lambda x: x * d(lambda y: x * y * y)(2.0))(3.0)) == 24.0
    assert num(D(lambda x: d(lambda y: x * y)(2.0) * x)(5.0)) == 10.0
    assert num(D(lambda x: d(lambda y: x)(2.0) + x)(5.0)) == 1.0
    assert num(D(lambda x: d(lambda y: y * y * y * x)(x))(2.0)) == 3 * 3 * 4.0
    assert num(D(d(lambda x: x * x * x))(2.0)) == 12.0


@pytest.mark.parametrize(("D", "d"), PAIRS)
def test_closures_that_leave_a_derivative(D, d):
    """Manzyuk, Pearlmutter, Radul, Rush and Siskind 2019: s(u) f x = f(x + u), in two modes."""

    def shifted(slope, f):
        return lambda x: slope(lambda u: f(x + u))(0.0)

    got = num(shifted(D, shifted(d, np.exp))(1.0))
    np.testing.assert_allclose(got, np.e, rtol=1e-12)
    got = num(shifted(D, shifted(d, np.sin))(0.7))
    np.testing.assert_allclose(got, -np.sin(0.7), rtol=1e-12)


@pytest.mark.parametrize("slopes", list(itertools.product(SLOPES[:3], repeat=3)))
def test_third_derivatives_in_every_mixture(slopes):
    a, b, c = slopes
    f = a(lambda x: b(lambda y: c(lambda z: x * x * y * z**3)(y))(x))
    # c: 3 x^2 y^3; b at y = x: 9 x^2 x^2; a: 36 x^3
    np.testing.assert_allclose(num(f(1.5)), 36 * 1.5**3, rtol=1e-12)


def test_a_tape_in_a_grad_in_a_jvp_in_a_backward():
    x = wg.tensor(1.5, requires_grad=True)
    y = jvp_slope(grad_slope(tape_slope(lambda z: z**5)))(x)
    y.backward()
    np.testing.assert_allclose(y.item(), 60 * 1.5**2)
    np.testing.assert_allclose(x.grad.item(), 120 * 1.5)


def test_what_a_tape_made_is_a_value_of_the_transform_around_it(close):
    def f(x):
        with GradientTape() as tape:
            tape.watch(x)
            y = x * x * x
        del tape
        return y

    close(wg.grad(f)(2.0), 12.0)
    close(wg.jvp(f, 2.0, 1.0)[1], 12.0)
    close(wg.vmap(f)(np.array([1.0, 2.0])), [1.0, 8.0])
    close(wg.vmap(wg.grad(wg.grad(f)))(np.array([1.0, 2.0])), [6.0, 12.0])
    close(wg.linearize(f, 2.0)[1](1.0), 12.0)


def test_a_backward_that_is_recorded_inside_a_grad():
    def inner(x):
        x = x * 1.0
        x.requires_grad_()
        (x**4).backward(create_graph=True)
        return x.grad

    np.testing.assert_allclose(num(grad_slope(inner)(1.5)), 12 * 1.5**2)


# ------------------------------------------------------------------ custom gradients


@wg.custom_gradient
def cube(x):
    return x**3, lambda upstream: upstream * 3 * x * x


@pytest.mark.parametrize("d", SLOPES)
def test_custom_gradients_in_every_mode(d):
    np.testing.assert_allclose(num(d(cube)(2.0)), 12.0)
    np.testing.assert_allclose(num(d(d(cube))(2.0)), 12.0)
    np.testing.assert_allclose(num(d(d(d(cube)))(2.0)), 6.0)


def test_custom_gradients_are_used_and_batched(close):
    @wg.custom_gradient
    def clipped(x):
        return x * 1.0, lambda upstream: np.clip(upstream, -1.0, 1.0)

    x = np.array([0.1, 3.0, -5.0])
    close(wg.grad(lambda x: np.sum(clipped(x) ** 2))(x), np.clip(2 * x, -1, 1))
    close(wg.vmap(wg.grad(lambda x: clipped(x) ** 2))(x), np.clip(2 * x, -1, 1))


def test_custom_gradients_of_variables(w, close):
    @wg.custom_gradient
    def scaled(x):
        def grad_fn(upstream, variables=None):
            assert len(variables) == 1
            assert variables[0] is w
            return upstream * w, [upstream * x * 10.0]

        return x * w, grad_fn

    x = wg.tensor([2.0, 3.0, 4.0])
    with GradientTape(persistent=True) as outer:
        outer.watch(x)
        with GradientTape() as tape:
            y = scaled(x)
        g = tape.gradient(y, w)
    close(g, val(x) * 10)
    close(outer.gradient(y, x), val(w))
    close(outer.gradient(g, x), np.full(3, 10.0))
    close(wg.vmap(scaled)(np.eye(3)), np.diag(val(w)))

    @wg.custom_gradient
    def forgets(x):
        return x * w, lambda upstream: upstream

    with pytest.raises(ArgumentError, match="variables=None"):
        forgets(x).sum().backward()
    with pytest.raises(ArgumentError, match="pair"):
        wg.grad(wg.custom_gradient(lambda x: x))(1.0)


def test_several_outputs_and_arguments(close):
    @wg.custom_gradient
    def f(a, b):
        return (a * b, a + b), lambda p, q: (p * b + q, p * a + q)

    a, b = Variable(2.0), Variable(3.0)
    with GradientTape() as tape:
        y, z = f(a, b)
        total = y * 10.0 + z
    got = tape.gradient(total, [a, b])
    close(got[0], 31.0)
    close(got[1], 21.0)
