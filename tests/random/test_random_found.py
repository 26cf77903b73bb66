"""What random programs found, as small as it gets."""

import numpy as np

import wengert as wg
from wengert import grad, hessian, jacfwd, jacrev, jvp, vmap

square = np.array([[0.3, -0.7], [1.2, 0.5]])
cube = np.arange(8.0).reshape(2, 2, 2) / 8


def overwritten(v):
    b = v * 1.0
    b[np.array([0, 1, 0, -2])] = np.sin(np.stack([v[0], v[1], v[2], v[0] * v[2]]))
    return b * np.array([1.0, 2.0, 3.0])


def test_of_several_values_written_at_one_place_the_last_has_the_gradient(x, v, close):
    """x[i] = v with an index twice in i: every written value got the place's cotangent."""
    c = 2 * np.cos(x[0] * x[2])
    want = np.array([[0, 0, np.cos(x[2])], [c * x[2], 0, c * x[0]], [0, 0, 3]])
    f, pair = overwritten, np.stack([x, x])
    close(jacfwd(f)(x), want)
    close(jacrev(f)(x), want)
    close(vmap(jacrev(f))(pair)[1], want)
    close(grad(lambda X: vmap(f)(X).sum())(pair)[1], want.sum(0))
    close(jacrev(grad(lambda x: f(x).sum()))(x), hessian(lambda x: f(x).sum())(x))


def test_a_number_written_to_one_place_twice_counts_once(close):
    def f(c):
        b = wg.zeros(3)
        b[np.array([-1, 2, 2])] = c
        return b.sum()

    close(grad(f)(np.ones(1)), [1.0])
    close(grad(f)(2.0), 1.0)


def test_a_mask_of_fewer_axes_than_its_cotangent_and_an_index(close):
    """The mask of tril has two axes; adding what an index sent wrote into it as if it had three."""

    def f(x):
        y = np.cosh(x)
        return np.sum(np.tril(y)) + np.sum(y[0])

    close(
        grad(f)(cube),
        np.sinh(cube) * (np.tril(np.ones((2, 2, 2))) + np.array([1.0, 0])[:, None, None]),
    )


def test_a_mask_of_fewer_axes_than_its_cotangent_and_a_write(close):
    def f(x):
        y = np.cosh(x)
        y[0] = x[1] ** 2
        y[1, 1] = 3.0
        return np.sum(np.tril(y))

    low = np.tril(np.ones((2, 2)))
    want = np.stack([np.zeros((2, 2)), 2 * cube[1] * low + np.sinh(cube[1]) * [[1, 0], [0, 0]]])
    close(grad(f)(cube), want)
    close(jvp(f, cube, cube)[1], np.sum(want * cube))


def window(x):
    b = x * 1.0
    v = b.T
    b[0] = 5.0
    return v


def written(x):
    b = x * 1.0
    v = b.T
    b += x
    c = x * 1.0
    c[...] = v
    return c


def test_a_view_is_looked_at_again_at_every_level(close):
    """A view of a transform's value, returned or written elsewhere, was as it was made."""
    for f in (window, written):
        y = f(square)
        close(f(wg.tensor(square)), y)
        close(jvp(f, square, square)[0], y)
        close(wg.vjp(f, square)[0], y)
        close(vmap(f)(square[None])[0], y)
        close(vmap(jacrev(f))(square[None])[0], jacfwd(f)(square))
    close(jvp(window, square, square)[1], [[0, 1.2], [0, 0.5]])
    close(jvp(written, square, square)[1], 2 * square.T)

    def branched(x):
        b = x * 1.0
        v = b[:1]
        b[0] = 5.0
        return x * v.item()

    close(jvp(branched, square[0], square[0])[0], 5 * square[0])


def test_a_reshape_of_a_number_that_differs_from_lane_to_lane_is_a_window(close):
    def f(x):
        b = wg.zeros()
        b[...] = x
        v = b.reshape(1)
        v += np.tanh(v)
        return b

    close(vmap(f)(square[0]), square[0] + np.tanh(square[0]))


def reshaped(x):
    b = wg.zeros(2, 2)
    b[...] = x
    v = b.reshape(4)
    v[1] = 0.5
    v[2:] *= x[0]
    return b.T


def test_a_reshaped_window_on_a_cotangent_stored_in_another_order(close):
    """A reshape of a transposed cotangent is a copy, and what was written to it was lost."""
    want = jacfwd(reshaped)(square)
    close(want[:, :, 0, 1], [[0, 0], [0, square[1, 1]]])
    close(jacrev(reshaped)(square), want)
    close(grad(lambda x: np.sum(reshaped(x) * square))(square), np.tensordot(square, want, 2))
    turned = np.asfortranarray(square)
    close(jvp(reshaped, square, turned)[1], np.tensordot(want, square, 2))
    close(jvp(lambda x: reshaped(x * 1.0), turned, square)[1], np.tensordot(want, square, 2))


def test_a_number_changed_in_place_still_has_windows(close):
    """b *= 0.5 made a scalar of an array without axes, whose reshape is a copy."""

    def f(x):
        b = x.copy()
        b *= 0.5
        v = b.reshape(1, 1)
        b[()] = b * b
        return v

    for x in (np.array(0.7), np.array(-3.0)):
        close(f(wg.tensor(x)), f(x))
        close(jvp(f, x, np.array(2.0)), ([[x * x / 4]], [[x]]))
        close(jacrev(f)(x), [[x / 2]])
        close(vmap(jacrev(f))(np.stack([x, x])), np.full((2, 1, 1), x / 2))


def rooted(y):
    return np.where(y > 0, np.sqrt(y), 0.0)


def buffered(x):
    b = wg.zeros(4)
    b[...] = x
    return np.sum(rooted(b))


def test_a_structural_zero_goes_through_views_and_writes(close):
    """The second sweep filled the zeros of the first one's windows, and 0 * nan is nan."""
    x = np.array([4.0, -0.3, 0.0, 1.0])
    with np.errstate(all="ignore"):
        for f in (
            buffered,
            lambda x: np.sum(rooted(x.reshape(2, 2).T)[::-1]),
            lambda x: np.sum(
                np.where((x > 0).reshape(2, 2), np.sqrt(x).reshape(2, 2), 0.0).T[:, ::-1]
            ),
            lambda x: np.sum(np.sqrt(x)[:1]) + np.sqrt(x).reshape(2, 2).T[1:][0, 1:].sum(),
        ):
            close(grad(f)(x), [0.25, 0, 0, 0.5])
            for h in (
                hessian(f),
                jacrev(grad(f)),
                jacrev(jacfwd(f)),
                lambda x, f=f: vmap(jacrev(grad(f)))(x[None])[0],
            ):
                close(h(x), np.diag([-1 / 32, 0, 0, -0.25]))


def test_long_rows_that_are_read_twice_add_up(close):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((4, 10, 20)), rng.standard_normal((2, 3, 10, 20))
    i = np.array([[0, -1, 3], [1, 1, 0]])
    want = np.zeros_like(x)
    np.add.at(want, i, w)
    close(grad(lambda x: np.sum(x[i] * w))(x), want)
