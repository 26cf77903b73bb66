"""Programs that were wrong once: each is the smallest that showed it."""

import copy
import dataclasses
from concurrent.futures import ThreadPoolExecutor

import autograd
import autograd.numpy as anp
import numpy as np
import pytest

import wengert as wg
from wengert import grad, hessian, hvp, jacfwd, jvp, vjp, vmap
from wengert.transforms.staging import stage


def leaf(v):
    return wg.tensor(v, requires_grad=True)


# ------------------------------------------------------------------ numbers do not change in place

x4 = np.array([0.7, 0.3, 1.2, 0.55])


def running(m):
    def f(x):
        total, seen = 0.0, []
        for i in range(4):
            total += x[i]
            seen.append(total)
        return m.sum(m.stack(seen) ** 2) if m is np else m.sum(m.array(seen) ** 2)

    return f


def test_a_running_sum_makes_new_numbers(close):
    close(grad(running(np))(x4), autograd.grad(running(anp))(x4))
    close(wg.value_and_grad(running(np))(x4)[0], running(np)(x4))
    close(jvp(running(np), x4, np.ones(4))[1], autograd.grad(running(anp))(x4).sum())
    close(vmap(running(np))(np.stack([x4, x4])), [running(np)(x4)] * 2)


def test_a_number_and_its_alias(close):
    def f(x):
        v = np.sum(x * x)
        best = v
        v *= 0.5
        return best * v

    close(f(x4), grad(lambda x: f(x))(x4) @ x4 / 4)  # homogeneous of degree 4
    b = wg.tensor(1.0)
    alias = b
    b += 1.0
    close(alias, 2.0)  # a buffer of no axes is an array, and changes


def test_plus_copies(close):
    def f(x):
        y = x * 1.0
        z = +y
        z *= 3
        return np.sum(y * z)

    close(grad(f)(np.array([1.0, 2.0, 3.0])), [6.0, 12.0, 18.0])


# ------------------------------------------------------------------ results are the caller's own


def test_writing_to_a_result_reaches_nothing_else(close):
    y, pull = vjp(np.exp, np.array([0.0, 1.0]))
    y *= 2
    close(pull(np.ones(2))[0], np.exp([0.0, 1.0]))
    ga, gb = grad(lambda a, b: np.sum((a + b) ** 2), (0, 1))(np.ones(3), np.ones(3))
    ga *= 0
    close(gb, [4.0, 4.0, 4.0])
    v = np.ones(3)
    _, d = jvp(lambda x: x + 1, (np.zeros(3),), (v,))
    d *= 5
    close(v, np.ones(3))
    x = np.arange(1000.0)
    y, pull = vjp(lambda x: x * x, x)
    z, _ = vjp(lambda x: x, x)
    z *= 0
    close(pull(np.ones(1000))[0], 2 * np.arange(1000.0))
    same = vmap(lambda x: x)(x)
    same *= 0
    close(x, np.arange(1000.0))
    _, pull, aux = vjp(lambda x: (np.sum(x * x), x), np.ones(2), has_aux=True)
    aux *= 0
    close(pull(np.array(1.0))[0], [2.0, 2.0])
    ct = np.ones(2)
    (g,) = vjp(lambda x: x, np.ones(2))[1](ct)
    g *= 7
    close(ct, [1.0, 1.0])


# ------------------------------------------------------------------ views and no_grad


def test_a_view_stays_recorded_or_constant_as_it_was_made(close):
    w = leaf([1.0, 2.0, 3.0])
    v = w[1:]
    with wg.no_grad():
        v[0] = 10.0
    (np.sum(v * v) + np.sum(w)).backward()
    close(w.grad, [1.0, 21.0, 7.0])

    for look in (lambda v: None, repr):
        w = leaf([1.0, 2.0, 3.0])
        v = w[1:]
        with wg.no_grad():
            w *= 0.5
            look(v)
        (np.sum(v * v) + np.sum(w)).backward()
        close(w.grad, [1.0, 3.0, 4.0])

    w = leaf([1.0, 2.0, 3.0])
    with wg.no_grad():
        v = w[1:]
    with wg.no_grad():
        w += 1
    np.sum(v * w[1:]).backward()
    close(w.grad, [0.0, 3.0, 4.0])


def test_in_place_on_a_result_under_no_grad(close):
    for write in (lambda h: h.__imul__(2), lambda h: h.__setitem__(slice(None), h * 2)):
        w = leaf([1.0, 2.0])
        h = w * 3.0
        with wg.no_grad():
            write(h)
        np.sum(h * w).backward()
        close(w.grad, [9.0, 18.0])


# ------------------------------------------------------------------ copies, integers, threads


@dataclasses.dataclass
class P:
    a: np.ndarray
    b: np.ndarray


def test_copies_inside_a_transform_keep_the_gradient(close):
    close(grad(lambda x: np.sum(x * copy.copy(x)))(np.array([1.0, 2.0])), [2.0, 4.0])
    g = grad(lambda p: sum(np.sum(v * v) for v in dataclasses.asdict(p).values()) + np.sum(p.a))(
        P(np.ones(2), np.ones(2))
    )
    close(g.a, [3.0, 3.0])
    close(g.b, [2.0, 2.0])


def test_an_integer_buffer_leaves_the_tape(close):
    def f(x):
        b = wg.zeros(2, dtype=int)
        b[:] = x
        return np.sum(b * x)

    def g(x):
        m = x > 1
        m[0] = x[0]
        return np.sum(x * m)

    x = np.array([1.7, 2.3])
    close(grad(f)(x), [1.0, 2.0])
    close(jvp(f, x, np.ones(2))[1], 3.0)
    close(grad(g)(x), [1.0, 1.0])


def test_a_transform_in_another_thread_is_deeper(close):
    def outer(x):
        def inner(y):
            return np.sum(x * y) + np.sum(y)

        with ThreadPoolExecutor(1) as pool:
            run = pool.submit(lambda: jvp(inner, (np.ones(2),), (np.ones(2),)))
            return run.result()[1] * x[0]

    value, slope = jvp(outer, (np.array([2.0, 3.0]),), (np.array([1.0, 0.0]),))
    close(value, 14.0)
    close(slope, 9.0)


def test_staging_leaves_the_graphs_of_what_it_closes_over(close):
    w = leaf([1.0, 2.0])
    h = w * w
    stage(lambda x: x * h, np.ones(2))
    (np.sum(h) + np.sum(w)).backward()
    close(w.grad, [3.0, 5.0])


def test_backward_of_a_transforms_value_is_refused():
    w = leaf([2.0, 3.0])
    with pytest.raises(wg.errors.LevelError, match=r"inside a tape"):
        grad(lambda x: (np.sum(w * x).backward(), np.sum(x))[1])(np.ones(2))


# ------------------------------------------------------------------ the origin, and complex numbers


def test_the_square_of_a_modulus_is_smooth(close):
    close(
        hvp(lambda x: np.sum(np.abs(np.fft.fft(x)) ** 2), np.ones(4), np.array([1.0, 0, 0, 0])),
        [8.0, 0.0, 0.0, 0.0],
    )
    for h in (hessian, lambda f: jacfwd(jacfwd(f))):
        close(h(lambda x: np.sum(np.abs(x) ** 2))(np.zeros(2)), 2 * np.eye(2))
        close(h(lambda x: np.sum(np.square(abs(x))))(np.array([0.0, -3.0])), 2 * np.eye(2))
    with np.errstate(all="ignore"):
        assert np.isnan(np.diag(hessian(lambda x: np.abs(x[0] + 1j * x[1]))(np.zeros(2)))).all()
        assert np.isnan(hessian(lambda x: np.std(x) ** 2)(np.ones(2))).any()
    close(hessian(np.var)(np.ones(2)), [[0.5, -0.5], [-0.5, 0.5]])


def test_complex_losses_and_tangents_are_refused():
    with pytest.raises(wg.errors.NonScalarError, match="real number"):
        grad(lambda x: np.exp(1j * x))(1.0)
    with pytest.raises(wg.errors.NonScalarError, match="real number"):
        np.sum(np.exp(1j * leaf([1.0]))).backward()
    with pytest.raises(wg.errors.DTypeError, match="tangent of a real"):
        jvp(np.sin, (1.0,), (1j,))
    with pytest.raises(wg.errors.DTypeError, match="cotangent of a real"):
        vjp(np.sin, 1.0)[1](1j)
    with pytest.raises(wg.errors.ArgumentError, match="twice"):
        grad(lambda a, b: a * b, argnums=(1, -1))(2.0, 3.0)
