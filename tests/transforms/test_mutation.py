"""In-place writes and views: NumPy's meaning, right gradients, in every transform."""

import autograd
import autograd.numpy as anp
import numpy as np
import pytest

import wengert as wg
from wengert import grad, jacfwd, jacrev, jvp, vmap

rows = np.array([[0.3, -0.7, 1.2], [0.6, -1.4, 2.4], [-0.7, -1.7, 0.2]])


def fill(x):
    z = wg.zeros(4)
    z[0] = x[0]
    for i in range(1, 4):
        z[i] = np.sin(z[i - 1]) * x[i - 1]
    return np.sum(z * z)


def fill_pure(x):
    z = [x[0]]
    for i in range(1, 4):
        z.append(anp.sin(z[-1]) * x[i - 1])
    return anp.sum(anp.array(z) ** 2)


def save(x):
    y = x * 1.0
    z = y * y
    y[0] = 5.0
    y[1:] += y[:-1] * 2.0
    return np.sum(z) + np.sum(y * y * y)


def save_pure(x):
    z = x * x
    y = anp.concatenate([anp.array([5.0]), x[1:]])
    y = anp.concatenate([y[:1], y[1:] + y[:-1] * 2.0])
    return anp.sum(z) + anp.sum(y * y * y)


def views(x):
    y = x * 1.0
    w = y[1:]
    q = w.reshape(2, 1)
    c = y * y
    y[1] = y[0] * 3.0
    d = np.sum(w * w)
    w[1] = y[0] * x[2]
    q += x[0]
    e = y.T
    e *= x
    return np.sum(c) + d + np.sum(y * y * y) + np.sum(q * w[0])


def views_pure(x):
    c = x * x
    y = [x[0], x[0] * 3.0, x[2]]
    d = y[1] ** 2 + y[2] ** 2
    y = [y[0], y[1] + x[0], y[0] * x[2] + x[0]]
    y = [a * b for a, b in zip(y, x)]
    q = (y[1] + y[2]) * y[1]
    return anp.sum(c) + d + sum(a**3 for a in y) + q


PROGRAMS = {"fill": (fill, fill_pure), "save": (save, save_pure), "views": (views, views_pure)}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_that_write_in_place(name, x, v, close):
    ours, pure = PROGRAMS[name]
    slope, curve = autograd.grad(pure), autograd.hessian(pure)
    close(ours(wg.tensor(x)), pure(x))
    close(grad(ours)(x), slope(x))
    close(jvp(ours, x, v)[1], slope(x) @ v)
    close(vmap(ours)(rows), [pure(r) for r in rows])
    close(vmap(grad(ours))(rows), [slope(r) for r in rows])
    close(grad(lambda X: np.sum(vmap(ours)(X)))(rows), [slope(r) for r in rows])
    close(jacfwd(grad(ours))(x), curve(x))
    close(jacrev(grad(ours))(x), curve(x))
    close(grad(lambda x: jvp(ours, x, v)[1])(x), curve(x) @ v)


def program(y):
    w = y[1:]
    u = w.T
    y[1] = 7.0
    w[0, 1] = 3.0
    u[1] += 2.0
    r = y.reshape(-1)
    r[0] = 9.0
    s = y[::2]
    s *= 2.0
    y[:, 1] = y[:, 0]
    t = y.T.reshape(-1)  # a copy, in NumPy and here
    t[0] = 100.0
    return y, w, u, r, s, t


def test_views_are_numpys(close):
    a = np.arange(9.0).reshape(3, 3)
    for got, want in zip(program(wg.tensor(a)), program(a.copy()), strict=True):
        close(got, want)


def test_a_single_number_is_a_copy_as_in_numpy(close):
    for make in (np.array, wg.tensor):
        y = make([1.0, 2.0, 3.0])
        number, window, corner = y[0], y[:1], y[0, ...]
        y[0] = 9.0
        close(number, 1.0)
        close(window, [9.0])
        close(corner, 9.0)


def test_a_reshape_that_copies_stays_a_copy_after_writes(close):
    for make in (np.array, wg.tensor):
        y = make(np.arange(12.0).reshape(3, 4))
        y[0, 0] = 50.0
        copies = [y.T.reshape(-1), y[:, 1:3].reshape(-1)]
        windows = [y.reshape(4, 3), y[1:].reshape(2, 2, 2)]
        for t in (*copies, *windows):
            t[0] = -1.0
        y[2, 3] = 7.0
        close(y.ravel()[:4], [-1.0, -1.0, -1.0, 3.0])
        close(copies[0], [-1.0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11])
        close(copies[1], [-1.0, 2, 5, 6, 9, 10])
        close(windows[1][1], [[8.0, 9.0], [10.0, 7.0]])


def test_a_leaf_is_protected(x):
    p = wg.tensor(x, requires_grad=True)
    p.name = "weight"
    with pytest.raises(wg.errors.LeafWriteError, match=r"leaf `weight`(.|\n)*no_grad"):
        p += 1.0
    with pytest.raises(wg.errors.LeafWriteError):
        p[0] = 1.0
    with pytest.raises(wg.errors.LeafWriteError):
        p[1:] *= 2.0
    assert p.tolist() == x.tolist()


def test_an_update_keeps_the_buffer_unless_the_tape_holds_it(x, close):
    p = wg.tensor(x, requires_grad=True)
    buffer = id(p.data)
    with wg.no_grad():
        p -= p * 0.5
    assert id(p.data) == buffer
    assert p.is_leaf
    z = (p * p).sum()
    old = p.data.copy()
    with wg.no_grad():
        p -= 1.0
        p[0] = 5.0
    z.backward()
    close(p.grad, 2 * old)
    close(p, [5.0, *(old - 1.0)[1:]])


def test_writable_copies_what_the_tape_holds(x, close):
    p = wg.tensor(x, requires_grad=True)
    z = (p * p).sum()
    w = wg.transforms.store.writable(p)
    w -= 1.0
    z.backward()
    close(p, x - 1.0)
    close(p.grad, 2 * x)


def test_an_array_that_the_user_changes_afterwards(x, close):
    """A raw array that the tape keeps is the tape's own copy, small or large."""
    for n in (3, 5000):
        a = np.full(n, 3.0)
        p = wg.tensor(np.ones(n), requires_grad=True)
        loss = (p * a).sum() + (a * p).sum()
        a[:] = 100.0
        loss.backward()
        close(p.grad, np.full(n, 6.0))


def test_a_large_constant_is_kept_once(close):
    a = np.arange(5000.0)
    p = wg.tensor(np.ones(5000), requires_grad=True)
    y = p * a
    z = p * a
    assert y.node.res[0] is z.node.res[0]
    a[0] = 7.0
    u = p * a
    assert u.node.res[0] is not y.node.res[0]
    (y + z + u).sum().backward()
    close(p.grad, np.r_[7.0, 3 * np.arange(1.0, 5000)])


def test_vjp_holds_its_own_copy_of_the_input(x, close):
    a = x.copy()
    _, pull = wg.vjp(lambda a: a * a, a)
    a[:] = 100.0
    close(pull(np.ones(3))[0], 2 * x)


def test_filling_rows_in_a_loop_does_not_copy_the_array():
    n, p = 400, wg.tensor(np.full(8, 0.5), requires_grad=True)
    z = wg.zeros(n, 8)
    z[0] = p
    buffers = set()
    for i in range(1, n):
        z[i] = np.sin(z[i - 1]) * p
        buffers.add(id(z.data))
    assert len(buffers) <= 2
    z.sum().backward()
    assert np.isfinite(p.grad.numpy()).all()


def test_in_place_results_must_fit(x):
    t = wg.tensor(x)
    with pytest.raises(wg.errors.ShapeError, match="does not fit"):
        t += np.ones((2, 3))
    i = wg.tensor([1, 2, 3])
    with pytest.raises(TypeError, match="does not fit"):
        i += 0.5


def test_operators_in_place(close):
    t = wg.tensor([4.0, 9.0])
    t += 1
    t -= 2
    t *= 3
    t /= 2
    t **= 2
    close(t, [20.25, 144.0])
    t %= 7
    close(t, [20.25 % 7, 144.0 % 7])
    b = wg.tensor([True, False])
    b |= np.array([False, False])
    b ^= True
    assert b.tolist() == [False, True]
