"""grad, jacobian and their like take what JAX's take; what is no argument number says so."""

import numpy as np
import pytest
from conftest import peer

import wengert as wg
from wengert.errors import ArgumentError, DTypeError, NonScalarError

z = np.array([1.0 + 2.0j, 0.5 - 1.0j])


@pytest.mark.parametrize("transform", [wg.grad, wg.value_and_grad])
@pytest.mark.parametrize("argnums", [3.0, np.ones(2), 1j, [np.ones(2)], "x", None, True, (0, 1.5)])
def test_a_second_argument_that_is_no_place(transform, argnums):
    with pytest.raises(ArgumentError, match="argnums"):
        transform(np.sum, argnums)


def square(x):
    return x * x


def test_the_fix_is_the_call_that_was_meant():
    with pytest.raises(ArgumentError, match=r"wg.grad\(square\)\(3.0\)"):
        wg.grad(square, 3.0)
    with pytest.raises(ArgumentError, match=r"wg.jacobian\(square\)\(x\)"):
        wg.jacobian(square, np.ones(3))
    with pytest.raises(ArgumentError, match="f is a function"):
        wg.grad(3.0)
    with pytest.raises(ArgumentError, match="argnums 1 of 1"):
        wg.grad(square, 1)(2.0)
    with pytest.raises(ArgumentError, match="by position"):
        wg.jacobian(square)(x=2.0)
    with pytest.raises(ArgumentError, match="twice"):
        wg.hessian(lambda a, b: a * b, (0, -2))(1.0, 2.0)


def test_argument_numbers_of_every_integer_kind(close):
    f = lambda a, b: a * b * b
    close(wg.grad(f, np.int64(1))(2.0, 3.0), 12.0)
    close(wg.grad(f, -1)(2.0, 3.0), 12.0)
    assert len(wg.grad(f, [0, 1])(2.0, 3.0)) == 2
    assert len(wg.jacobian(f, range(2))(2.0, 3.0)) == 2


def test_holomorphic_functions(close):
    f = lambda m, z: m.sum(m.sin(z) * z[0])
    want = np.cos(z) * z[0] + np.array([np.sum(np.sin(z)), 0.0])
    close(wg.grad(lambda z: f(np, z), holomorphic=True)(z), want)
    value, slope = wg.value_and_grad(lambda z: f(np, z), holomorphic=True)(z)
    close(value, f(np, z))
    close(slope, want)
    third = wg.grad(wg.grad(wg.grad(np.exp, holomorphic=True), holomorphic=True), holomorphic=True)
    close(third(0.5 + 1j), np.exp(0.5 + 1j))
    for jac in (wg.jacfwd, wg.jacrev, wg.jacobian):
        close(jac(lambda z: z**3, holomorphic=True)(z), np.diag(3 * z**2))
    close(wg.hessian(lambda z: np.sum(z**3), holomorphic=True)(z), np.diag(6 * z))
    close(wg.vmap(wg.grad(np.sin, holomorphic=True))(z), np.cos(z))


def test_holomorphic_under_either_convention(close):
    with wg.conventions(complex="torch"):
        close(wg.grad(lambda z: z**3, holomorphic=True)(1 + 1j), 3 * (1 + 1j) ** 2)


def test_holomorphic_is_checked():
    with pytest.raises(DTypeError, match="complex values"):
        wg.grad(square, holomorphic=True)(2.0)
    with pytest.raises(DTypeError, match="complex values"):
        wg.jacfwd(square, holomorphic=True)(np.ones(2))
    for transform in (wg.grad, wg.jacfwd, wg.jacrev):
        with pytest.raises(DTypeError, match="value of a holomorphic function is complex"):
            transform(np.abs, holomorphic=True)(1 + 1j)
    with pytest.raises(NonScalarError, match="holomorphic=True"):
        wg.grad(square)(1 + 1j)


@pytest.mark.parametrize("jac", [wg.jacfwd, wg.jacrev, wg.jacobian])
def test_jacobians_with_auxiliary_values(jac, x, close):
    f = lambda x: (np.sin(x), {"twice": 2 * x, "note": "kept"})
    got, aux = jac(f, has_aux=True)(x)
    close(got, np.diag(np.cos(x)))
    assert type(aux["twice"]) is np.ndarray
    close(aux["twice"], 2 * x)
    assert aux["note"] == "kept"
    wide = lambda x: (np.outer(x, x), x * x)
    got, aux = jac(wide, has_aux=True)(x)
    assert got.shape == (3, 3, 3)
    close(aux, x * x)
    outer = wg.grad(lambda x: np.sum(jac(f, has_aux=True)(x)[1]["twice"]))(x)
    close(outer, np.full(3, 2.0))


def test_hessians_of_several_numbers(x, close):
    def f(x, k):
        return {"cube": k * x**3, "norm": np.sum(x * x)}

    H = wg.hessian(f)(x, k=2.0)
    at = np.arange(x.size)
    cube = np.zeros((x.size,) * 3)
    cube[at, at, at] = 12 * x
    close(H["cube"], cube)
    close(H["norm"], 2 * np.eye(x.size))
    (aa, ab), (_, bb) = wg.hessian(lambda a, b: a * b, (0, 1))(x, x)
    close(aa, 0 * cube)
    close(bb, 0 * cube)
    cross = np.zeros_like(cube)
    cross[at, at, at] = 1.0
    close(ab, cross)
    close(wg.vmap(wg.hessian(lambda x: x**3))(np.stack([x, x]))[1], cube / 2)
    H, aux = wg.hessian(lambda x: (x**2, "aux"), has_aux=True)(x)
    close(H, 2 * cross)
    assert aux == "aux"
    with pytest.raises(wg.errors.NonScalarError, match="returned NoneType"):
        wg.hessian(lambda x: None)(x)


def test_hessians_with_auxiliary_values(x, close):
    got, aux = wg.hessian(lambda x: (np.sum(x**3), x), has_aux=True)(x)
    close(got, np.diag(6 * x))
    close(aux, x)
    batched = wg.vmap(wg.hessian(lambda x: (x**3, x * 2), has_aux=True))(x)
    close(batched[0], 6 * x)
    close(batched[1], 2 * x)


def test_like_jax(x, close):
    jax = peer("jax", "the comparison with JAX was left out")
    jax.config.update("jax_enable_x64", True)
    jnp = jax.numpy
    f = lambda m, z: m.sin(z) * z[0]
    for name in ("jacfwd", "jacrev"):
        got = getattr(wg, name)(lambda z: f(np, z), holomorphic=True)(z)
        close(got, getattr(jax, name)(lambda z: f(jnp, z), holomorphic=True)(z))
    real = lambda m, z: m.sum(m.abs(z) ** 2 * m.real(z))
    close(wg.grad(lambda z: real(np, z))(z), jax.grad(lambda z: real(jnp, z))(jnp.asarray(z)))
