"""Features that meet: each program here once came out wrong, or raised a bare error."""

import gc

import numpy as np
import pytest

import wengert as wg


def second(f, x, v):
    t = wg.tensor(x, requires_grad=True)
    f(t).backward(create_graph=True)
    g, t.grad = t.grad, None
    np.sum(g * v).backward()
    return t.grad.numpy()


@pytest.mark.parametrize("states", [True, 1])
def test_a_checkpoint_in_a_checkpointed_loop_at_second_order(states, close):
    part = wg.checkpoint(lambda c: np.sin(c * c))

    def f(x):
        return np.sum(wg.fori_loop(0, 3, lambda i, c: part(c) + 0.1 * x, x, checkpoint=states))

    x, v = np.array([0.4, -0.3]), np.array([1.0, 0.5])
    close(second(f, x, v), wg.hvp(f, x, v))


X = np.array([0.5, 0.2])
LOOP = lambda x: wg.fori_loop(0, 4, lambda i, c: np.sin(c) * x, x, checkpoint=2)


def recorded_loop():
    x = wg.tensor(X, requires_grad=True)
    wg.autograd.grad(np.sum(LOOP(x) ** 2), [x], create_graph=True)


def loop():
    x = wg.tensor(X, requires_grad=True)
    np.sum(LOOP(x)).backward()


def two_results():
    wg.vjp(lambda x: (np.sin(x), np.cos(x)), X)[1]((X, X))


def two_roots():
    x = wg.tensor(X, requires_grad=True)
    wg.autograd.grad([np.sin(x), np.cos(x)], [x], [X, X])
    wg.autograd.backward([np.sin(x), np.cos(x)], [X, X])


def stacked_loop():
    def step(c, x):
        c = np.sin(c) * x
        return c, c[0] * X

    wg.grad(lambda x: np.sum(wg.scan(step, x, X, checkpoint=True)[1]))(X)


def choice():
    wg.grad(lambda x: np.sum(wg.cond(np.exp(x)[0] > 0.2, np.sin, np.cos, x)))(X)


def tangent_map():
    def f(x):
        return wg.custom_root(lambda z, x: z + np.tanh(z) - x, np.zeros(2), params=(x,))

    wg.linearize(f, X)[1](X)


def joined():
    x = wg.tensor(np.ones((2, 2)), requires_grad=True)
    np.block([[x, x], [x, x]])
    np.linalg.multi_dot([x, x, x, x])


@pytest.mark.parametrize(
    "program",
    [recorded_loop, loop, two_results, two_roots, stacked_loop, choice, tangent_map, joined],
)
def test_what_a_sweep_used_goes_without_the_collector(program):
    program()
    gc.collect()
    gc.disable()
    try:
        program()
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_assigning_another_shape_is_refused_in_words():
    v = wg.Variable([1.0, 2.0])
    with pytest.raises(wg.errors.ShapeError, match="the shape of a variable stays"):
        v.assign(np.ones(3))
    with pytest.raises(wg.errors.ShapeError, match="the shape of a variable stays"):
        v.assign_add(np.ones((2, 2)))
    v.assign(3.0)
    assert np.array_equal(v.numpy(), [3.0, 3.0])


def test_jacobians_of_a_complex_value_by_either_mode():
    x = np.array([0.3, 0.5])

    def f(x):
        return {"a": np.exp(1j * x) * x[0], "b": x * x}

    want = wg.jacfwd(f)(x)
    for mode in (wg.jacrev, wg.jacobian):
        got = mode(f)(x)
        assert np.allclose(got["a"], want["a"], rtol=1e-15)
        assert np.array_equal(got["b"], want["b"])
    h = 1e-6
    columns = [(f(x + h * e)["a"] - f(x - h * e)["a"]) / (2 * h) for e in np.eye(2)]
    assert np.allclose(np.stack(columns, 1), want["a"], atol=1e-9)
    assert wg.jacrev(f)(x.astype(np.float32))["a"].dtype == np.complex64
    second = wg.jacrev(wg.jacrev(lambda x: np.exp(1j * x)))(x)
    assert np.allclose(second[0, 0], [-np.exp(1j * x[0]), 0])


@pytest.mark.parametrize("mode", [wg.jacfwd, wg.jacrev, wg.jacobian])
def test_a_complex_function_with_two_slopes_has_no_jacobian(mode):
    with pytest.raises(wg.errors.DTypeError, match="holomorphic=True"):
        mode(np.conj)(np.array([0.3 + 0.2j, 1.0]))


def test_the_gradients_of_real_values_by_complex_numbers_are_jacobians():
    z = np.array([0.3 + 0.2j, 0.5 - 0.1j])
    f = lambda z: np.sum(np.abs(z) ** 2)
    assert np.allclose(wg.jacobian(f)(z), wg.grad(f)(z))
    with pytest.raises(wg.errors.DTypeError, match="holomorphic"):
        wg.jacfwd(f)(z)


def test_a_choice_in_no_lanes():
    none = np.zeros((0, 2))
    choose = lambda x: wg.cond(x[0] > 0, np.sin, np.cos, x)
    assert wg.vmap(choose)(none).shape == (0, 2)
    assert wg.vmap(wg.jacobian(choose))(none).shape == (0, 2, 2)
    pick = lambda i, x: wg.switch(i, [np.sin, np.cos, np.exp], x)
    assert wg.vmap(pick)(np.zeros(0, int), none).shape == (0, 2)


@pytest.mark.parametrize("shape", [(), (2,)])
def test_has_aux_without_a_pair_is_refused(shape):
    x = np.ones(shape)
    for call in (
        lambda f: wg.grad(f, has_aux=True)(x),
        lambda f: wg.vjp(f, x, has_aux=True),
        lambda f: wg.jvp(f, (x,), (x,), has_aux=True),
        lambda f: wg.jacobian(f, has_aux=True)(x),
        lambda f: wg.hessian(f, has_aux=True)(x),
        lambda f: wg.linearize(f, x, has_aux=True),
    ):
        with pytest.raises(wg.errors.ArgumentError, match="return value, aux"):
            call(lambda x: x * x)


def test_map_names_itself():
    with pytest.raises(wg.errors.ArgumentError, match=r"map\(f, xs\): leading axes"):
        wg.map(lambda p: p, (np.ones(3), np.ones(2)))


def test_a_custom_rule_of_code_that_writes_into_a_copy():
    @wg.custom_jvp
    def f(x):
        y = x.copy()
        y[0] = y[1] * y[1]
        y[1:] += y[0]
        return y * x

    f.defjvp(lambda primals, tangents: wg.jvp(f.f, primals, tangents))
    x = np.array([0.4, -0.3])
    want = wg.jacobian(f.f)(x)
    assert np.allclose(wg.jacobian(f)(x), want, rtol=1e-15)
    assert np.allclose(wg.jacrev(lambda t: wg.jvp(f.f, (x,), (t,))[1])(x), want, rtol=1e-15)
    t = wg.tensor(x, requires_grad=True)
    wg.jvp(f.f, (x,), (t,))[1].sum().backward()
    assert np.allclose(t.grad.numpy(), want.sum(0), rtol=1e-15)
    t.requires_grad_(False)
    assert np.array_equal(t.numpy(), x)


NOT_LINEAR = {
    "square": lambda g: g * g,
    "abs": np.abs,
    "clip": lambda g: np.clip(g, -1.0, 1.0),
    "half": lambda g: np.where(g > 0, g, 0.0),
    "unit": lambda g: g / np.sqrt(np.sum(g * g)),
}


@pytest.mark.parametrize("rule", NOT_LINEAR.values(), ids=NOT_LINEAR)
@pytest.mark.parametrize("owner", ["custom_vjp", "custom_jvp", "Function"])
def test_a_rule_that_is_not_linear_has_no_transpose(rule, owner):
    x = np.array([2.0, 3.0])
    if owner == "custom_vjp":
        f = wg.custom_vjp(lambda x: x * 1.0)
        f.defvjp(lambda x: (x * 1.0, None), lambda _, g: (rule(g),))
    elif owner == "custom_jvp":
        f = wg.custom_jvp(lambda x: x * 1.0)
        f.defjvp(lambda p, t: (p[0] * 1.0, rule(t[0])))
    else:

        class Odd(wg.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x * 1.0

            @staticmethod
            def backward(ctx, g):
                return rule(g)

        f = Odd.apply
    reverse = lambda: wg.grad(lambda x: np.sum(f(x) ** 2))(x)
    forward = lambda: wg.jvp(f, (x,), (x,))
    given, other = (forward, reverse) if owner == "custom_jvp" else (reverse, forward)
    given()
    with pytest.raises(wg.errors.ArgumentError, match="not linear"):
        other()
    with pytest.raises(wg.errors.ArgumentError, match="not linear"):
        wg.hvp(lambda x: np.sum(f(x) ** 2), x, x)


@pytest.mark.parametrize("ask", ["grad", "inputs", "tape"])
def test_a_value_that_left_a_checkpointed_loop_is_refused_by_every_sweep(ask):
    def run(x):
        aside = []

        def body(i, c):
            aside.append(np.sin(c))
            return c * x

        y = wg.fori_loop(0, 4, body, x * 1.0, checkpoint=2)
        return np.sum(y) + np.sum(aside[2])

    x = wg.Variable(X) if ask == "tape" else wg.tensor(X, requires_grad=True)
    with wg.GradientTape(watch_accessed_variables=ask == "tape") as tape:
        y = run(x)
    sweeps = {
        "grad": lambda: wg.autograd.grad(y, [x]),
        "inputs": lambda: y.backward(inputs=[x]),
        "tape": lambda: tape.gradient(y, x),
    }
    with pytest.raises(wg.errors.LevelError, match="left a checkpointed loop"):
        sweeps[ask]()


def test_a_complex_cotangent_of_a_real_tensor_is_refused():
    x = wg.tensor(X, requires_grad=True)
    with pytest.raises(wg.errors.DTypeError, match="cotangent of a real tensor"):
        (x * x).backward(np.array([1j, 1.0]))


def test_where_once_differentiable_is_imported_from():
    from wengert.autograd.function import Function, once_differentiable

    assert Function is wg.autograd.Function
    assert once_differentiable is wg.autograd.function.once_differentiable
