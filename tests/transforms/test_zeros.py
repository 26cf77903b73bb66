"""Structural zeros: "no gradient" is not 0 times infinity."""

import numpy as np
import pytest

import wengert as wg
from wengert import grad, hessian, jacfwd, jacrev, jvp, vmap

z = np.array([0.0, 4.0])


@pytest.fixture(autouse=True)
def quiet():
    with np.errstate(all="ignore"):
        yield


def root(x):
    return np.sum(np.where(x > 0, np.sqrt(x), 0.0))


def test_the_where_trick_in_every_mode(close):
    close(grad(root)(z), [0, 0.25])
    close(jvp(root, z, np.ones(2))[1], 0.25)
    second = [[0, 0], [0, -1 / 32]]
    close(jacfwd(grad(root))(z), second)
    close(jacrev(grad(root))(z), second)
    close(jacrev(jacfwd(root))(z), second)
    close(vmap(grad(root))(np.stack([z, z])), [[0, 0.25]] * 2)


def test_the_probe_of_the_other_engines(close):
    close(grad(lambda x: np.where(x > 0, np.sqrt(x), 0 * x))(0.0), 0.0)


def test_where_under_create_graph(close):
    w = wg.tensor(z, requires_grad=True)
    root(w).backward(create_graph=True)
    g, w.grad = w.grad, None
    (g * g).sum().backward()
    close(w.grad, [0, 2 * 0.25 * -1 / 32])


def test_masks_pass_through_chains_and_broadcasts(close):
    deep = grad(lambda x: np.sum(np.where(x > 0, np.log(np.sqrt(x)) * np.sin(x) / x, 0.0)))(z)
    assert deep[0] == 0
    assert np.isfinite(deep).all()
    pick = np.array([False, True])
    close(grad(lambda x: np.sum(np.where(pick, 1.0 / x, 0.0) * np.ones((3, 2))))(z), [0, -3 / 16])


@pytest.mark.parametrize(("f", "want"), [
    (lambda x: np.sum(np.maximum(np.sqrt(x), 1.0)), [0, 0.25]),
    (lambda x: np.sum(np.sqrt(x) * np.array([False, True])), [0, 0.25]),
    (lambda x: np.sum(np.sqrt(x) * (x > 0)), [0, 0.25]),
    (lambda x: np.sqrt(x)[1] * 1.0, [0, 0.25]),
    (lambda x: (lambda s: s[1] + s[1:].sum())(np.sqrt(x)), [0, 0.5]),
    (lambda x: np.sum(np.clip(np.sqrt(x), 1.0, 3.0)), [0, 0.25]),
    (lambda x: np.sum(np.sqrt(x)[np.array([1, 1])]), [0, 0.5]),
    (lambda x: np.max(np.sqrt(x)), [0, 0.25]),
])  # fmt: skip
def test_what_was_not_taken_gets_no_gradient(f, want, close):
    close(grad(f)(z), want)
    close(jvp(f, z, np.ones(2))[1], np.sum(want))


def test_a_float_factor_is_not_structural():
    assert np.isnan(grad(lambda x: np.sum(np.sqrt(x) * np.array([0.0, 1.0])))(z)[0])
    assert np.isnan(grad(lambda x: np.sum(np.sqrt(x) ** 2))(z)[0])


def test_seeds_of_jacobians_are_structural(close):
    want = [[np.inf, 0], [0, 0.25]]
    close(jacfwd(np.sqrt)(z), want)
    close(jacrev(np.sqrt)(z), want)


def test_one_slot_of_a_buffer(close):
    def f(x):
        b = wg.zeros(2)
        s = np.sqrt(x)
        b[1] = s[1]
        return np.sum(b)

    close(grad(f)(z), [0, 0.25])


def test_norm_at_the_origin(close):
    close(grad(np.linalg.norm)(np.zeros(3)), np.zeros(3))
    close(grad(lambda x: np.linalg.norm(x - 1.0))(np.ones(3)), np.zeros(3))
    close(jvp(np.linalg.norm, np.zeros(3), np.ones(3))[1], 0.0)
    close(grad(lambda x: np.hypot(x[0], x[1]))(np.zeros(2)), np.zeros(2))
    close(grad(lambda x: np.std(x))(np.ones(3)), np.zeros(3))


def test_the_hessian_of_a_norm_at_the_origin(close):
    """That of |x| does not exist there and is nan, not a silent 0; that of |x|^2 is 2 I."""
    assert np.isnan(np.diag(hessian(np.linalg.norm)(np.zeros(3)))).all()
    for f in (lambda x: np.linalg.norm(x) ** 2, lambda x: np.square(np.linalg.norm(x))):
        for h in (hessian(f), jacrev(grad(f)), jacfwd(jacfwd(f)), jacrev(jacfwd(f))):
            close(h(np.zeros(3)), 2 * np.eye(3))
        close(hessian(lambda x, f=f: f(x - 1) * 3)(np.ones(2)), 6 * np.eye(2))
        close(grad(f)(np.array([3.0, 4.0])), [6.0, 8.0])
    rows = hessian(lambda m: np.sum(np.linalg.norm(m, axis=1) ** 2))(np.zeros((2, 2)))
    close(rows.reshape(4, 4), 2 * np.eye(4))
    close(vmap(hessian(lambda x: np.linalg.norm(x) ** 2))(np.zeros((2, 3))), [2 * np.eye(3)] * 2)


def test_a_length_remembers_what_it_was_the_length_of(close):
    def f(x):
        y = x * 1.0
        n = np.linalg.norm(y)
        y[0] = 100.0
        return n**2

    close(grad(f)(np.array([3.0, 4.0])), [6.0, 8.0])

    def g(x):
        n = np.linalg.norm(x)
        n += 1.0
        return n**2

    close(grad(g)(np.array([3.0, 4.0])), 12 * np.array([0.6, 0.8]))


def test_prod_with_zeros_is_exact_at_every_order(close):
    close(grad(np.prod)(np.array([0.0, 0.0, 2.0])), [0, 0, 0])
    close(grad(np.prod)(np.array([0.0, 3.0, 2.0])), [6, 0, 0])
    x = np.array([0.0, 0.0, 2.0, 5.0, 1.0])
    want = np.zeros((5, 5))
    want[0, 1] = want[1, 0] = 10.0
    close(hessian(np.prod)(x), want)
    third = jacfwd(hessian(np.prod))(x)
    close(third[0, 1], [0, 0, 5, 2, 10])


def test_power_at_its_edges(close):
    close(grad(lambda x: x**0)(0.0), 0.0)
    close(grad(lambda x: x**1)(0.0), 1.0)
    close(grad(lambda x: x**2)(0.0), 0.0)
    close(grad(lambda x: np.power(x, np.array(0.0)))(0.0), 0.0)
    close(grad(lambda b: np.power(0.0, b))(2.0), 0.0)
    close(hessian(lambda x: x**2)(0.0), 2.0)
    close(hessian(lambda x: x**3)(0.0), 0.0)


def test_ties_share(close):
    close(grad(lambda x: np.maximum(x, 1.0))(1.0), 0.5)
    close(grad(np.max)(np.array([2.0, 2.0, 1.0])), [0.5, 0.5, 0])
    close(grad(np.min)(np.array([2.0, 1.0, 1.0])), [0, 0.5, 0.5])
    close(grad(lambda x: np.sum(np.abs(x)))(np.array([0.0, -2.0])), [0, -1])
    close(grad(lambda x: np.sum(wg.relu(x)))(np.array([0.0, -2.0, 3.0])), [0, 0, 1])


def test_a_bias_after_a_mask_gets_its_sum_and_its_zeros(close):
    rng = np.random.default_rng(0)
    for shape in (
        (7, 5, 3),
        (300, 11, 3),
        (1000, 24),
        (3, 4000),
    ):  # short rows, joined and left over
        x, u = rng.normal(size=shape), rng.normal(size=shape)
        want = u * (x + 0.5 > 0)

        def f(x, b, u=u):
            return np.sum(wg.relu(x + b) * u)

        gx, gb = grad(f, argnums=(0, 1))(x, np.full(shape[-1], 0.5))
        close(gx, want)
        close(gb, want.reshape(-1, shape[-1]).sum(0))
        h = jvp(lambda x, b, f=f: grad(f, argnums=(0, 1))(x, b), (x, gb * 0 + 0.5), (x, gb))[1]
        close(h[0], 0 * x)
    a = np.array([[-1.0, 2.0], [-3.0, 4.0]])
    f = lambda b: np.sum(np.where(a > 0, a + np.sqrt(b), 0.0))  # nothing of b[0] is chosen
    close(grad(f)(np.array([0.0, 4.0])), [0, 0.5])


def test_one_masked_cotangent_for_two_parents_stays_right(close):
    def f(x):
        y = x * 1.0
        z = wg.relu(y + y)
        return np.sum(z) + np.sum(y[np.array([0, 2])] * 3.0) + np.sum(x[1:] * 5.0)

    close(grad(f)(np.array([1.0, -1.0, 2.0])), [5, 5, 10])
    w = wg.tensor(np.array([1.0, -1.0, 2.0]), requires_grad=True)
    v = wg.tensor(np.array([1.0, 3.0, -4.0]), requires_grad=True)
    wg.relu(w + v).sum().backward()
    w.grad += 1.0
    close(v.grad, [1, 1, 0])


def test_zeros_are_filled_into_memory_that_nobody_else_has():
    from wengert.structural import Masked

    keep = np.array([True, False, True])
    alone = Masked(np.ones(3), keep)
    place = alone.value.ctypes.data
    assert alone.dense().ctypes.data == place
    for mine in (np.ones(3), np.broadcast_to(1.0, 3), np.ones((3, 3))):
        shared = Masked(mine if mine.ndim == 1 else mine[:, 1], keep)
        np.testing.assert_array_equal(shared.dense(), [1, 0, 1])
        assert (mine == 1).all()
    u = np.ones(3)
    w = wg.tensor(np.array([1.0, -1.0, 2.0]), requires_grad=True)
    wg.relu(w).backward(u)
    np.testing.assert_array_equal(u, 1)
    np.testing.assert_array_equal(w.grad, [1, 0, 1])
