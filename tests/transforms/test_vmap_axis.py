"""Named axes: collectives over the lanes of a vmap."""

import threading

import numpy as np
import pytest
from conftest import peer

import wengert as wg
from wengert.errors import ArgumentError, LevelError


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(3, 4))


def test_the_values(x, close):
    def named(f):
        return wg.vmap(f, axis_name="i")(x)

    close(named(lambda a: wg.psum(a, "i")), np.full(3, x.sum()))
    close(named(lambda a: wg.pmean(a, "i")), np.full(3, x.mean()))
    close(named(lambda a: wg.pmax(a, "i")), np.full(3, x.max()))
    close(named(lambda a: wg.pmin(a, "i")), np.full(3, x.min()))
    close(named(lambda a: wg.all_gather(a, "i")), np.tile(x, (3, 1)))
    close(named(lambda a: a * wg.axis_index("i")), x * [0, 1, 2])
    close(named(lambda a: a * wg.axis_size("i")), x * 3)
    close(named(lambda a: wg.psum({"k": (1, 2.0)}, "i")["k"][0] * a), x * 3)


def test_batch_normalisation_lane_by_lane(rows, close):
    def norm(a):
        d = a - wg.pmean(a, "batch")
        return d / np.sqrt(wg.pmean(d * d, "batch") + 1e-5)

    def whole(a):
        return (a - a.mean(0)) / np.sqrt(a.var(0) + 1e-5)

    close(wg.vmap(norm, axis_name="batch")(rows), whole(rows))
    loss = lambda f: lambda a: np.sum(np.sin(f(a)))
    close(
        wg.grad(loss(wg.vmap(norm, axis_name="batch")))(rows),
        wg.grad(loss(lambda a: (a - np.mean(a, 0)) / np.sqrt(np.var(a, 0) + 1e-5)))(rows),
    )


def test_what_all_lanes_share(close):
    v = np.array([1.0, 2.0, 3.0])
    f = wg.vmap(lambda y, b: wg.psum(b, "i") * y, in_axes=(0, None), axis_name="i")
    close(f(v, 5.0), 15 * v)
    g = lambda b: np.sum(wg.vmap(
        lambda y: np.sum(wg.all_gather(b, "i")) * y + wg.psum(b, "i"), axis_name="i"
    )(v))  # fmt: skip
    close(wg.grad(g)(2.0), 3 * 6.0 + 9.0)


def test_nested_names(rows, close):
    def f(a):
        return wg.psum(a, "j") * 10 + wg.psum(a, "i") + 100 * wg.psum(a, ("i", "j"))

    got = wg.vmap(wg.vmap(f, axis_name="i"), axis_name="j")(rows)
    want = rows.sum(0) * 10 + rows.sum(1)[:, None] + 100 * rows.sum()
    close(got, want)
    inner = wg.vmap(wg.vmap(lambda a: wg.psum(a, "i"), axis_name="i"), axis_name="i")(rows)
    close(inner, np.tile(rows.sum(1)[:, None], (1, 4)))  # the innermost of that name


def test_unnamed_vmaps_between(rows, close):
    got = wg.vmap(wg.vmap(lambda a: wg.psum(a, "i") * a), axis_name="i")(rows)
    close(got, rows.sum(0) * rows)
    got = wg.vmap(wg.vmap(lambda a: wg.psum(a, "i") * a, axis_name="i"))(rows)
    close(got, rows.sum(1)[:, None] * rows)


PROGRAMS = {
    "psum": lambda m, c: lambda x: m.sin(x) * c.psum(x * x, "i"),
    "pmean": lambda m, c: lambda x: x - c.pmean(m.exp(x), "i"),
    "gather": lambda m, c: lambda x: c.all_gather(m.sin(x), "i") * x,
    "index": lambda m, c: lambda x: c.axis_index("i") * x,
    "constant": lambda m, c: lambda x: c.psum(1.0, "i") * x,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_derivatives_inside_and_outside_are_those_of_jax(name, x, rows, close):
    jax = peer("jax", "the comparison with JAX was left out")
    jax.config.update("jax_enable_x64", True)
    jnp = jax.numpy
    a, b = PROGRAMS[name](np, wg), PROGRAMS[name](jnp, jax.lax)

    def la(x):
        return np.sum(np.sin(a(x)))

    def lb(x):
        return jnp.sum(jnp.sin(b(x)))

    def both(p, q, at):
        close(wg.vmap(p, axis_name="i")(at), jax.vmap(q, axis_name="i")(at))

    both(a, b, rows)
    both(wg.grad(la), jax.grad(lb), x)
    both(wg.grad(la), jax.grad(lb), rows)
    both(wg.hessian(la), jax.hessian(lb), rows)
    both(lambda z: wg.jvp(a, z, 2 * z)[1], lambda z: jax.jvp(b, (z,), (2 * z,))[1], rows)
    both(lambda z: wg.linearize(a, z)[1](z), lambda z: jax.linearize(b, z)[1](z), rows)
    both(wg.vmap(wg.grad(la)), jax.vmap(jax.grad(lb)), rows)

    def va(z):
        return np.sum(np.cos(wg.vmap(a, axis_name="i")(z)))

    def vb(z):
        return jnp.sum(jnp.cos(jax.vmap(b, axis_name="i")(z)))

    close(wg.grad(va)(x), jax.grad(vb)(x))
    close(wg.hessian(va)(x), jax.hessian(vb)(x))


@pytest.mark.parametrize("name", PROGRAMS)
def test_first_derivatives_are_those_of_jax(name, x, close):
    jax = peer("jax", "the comparison with JAX was left out")
    jax.config.update("jax_enable_x64", True)
    a, b = PROGRAMS[name](np, wg), PROGRAMS[name](jax.numpy, jax.lax)
    inside = wg.vmap(wg.grad(lambda x: np.sum(a(x))), axis_name="i")(x)
    close(inside, jax.vmap(jax.grad(lambda x: jax.numpy.sum(b(x))), axis_name="i")(x))
    outside = wg.vjp(wg.vmap(a, axis_name="i"), x)[1]
    y, theirs = jax.vjp(jax.vmap(b, axis_name="i"), x)
    g = np.cos(np.arange(y.size)).reshape(y.shape)
    close(outside(g)[0], theirs(jax.numpy.asarray(g))[0])


def test_extremes_have_a_gradient(x, close):
    f = lambda z: np.sum(wg.vmap(lambda a: a * wg.pmax(a, "i"), axis_name="i")(z))
    close(wg.grad(f)(x), x.max() + (x == x.max()) * x.sum())
    inside = wg.vmap(wg.grad(lambda a: wg.pmin(a, "i")), axis_name="i")(x)
    close(inside, 3.0 * (x == x.min()))


def test_the_adjoint_identity_of_the_whole_map(rows, close):
    rng = np.random.default_rng(1)
    f = wg.vmap(lambda a: np.sin(wg.all_gather(a, "i") * wg.psum(a, "i")), axis_name="i")
    dx, g = rng.normal(size=rows.shape), rng.normal(size=(3, 3, 4))
    close(np.sum(wg.vjp(f, rows)[1](g)[0] * dx), np.sum(g * wg.jvp(f, rows, dx)[1]))


def test_an_axis_without_arguments(close):
    close(wg.vmap(lambda: wg.axis_index("i") * 2.0, axis_name="i", axis_size=3)(), [0, 2, 4])
    close(wg.vmap(lambda a: a, in_axes=None, axis_size=2)(5.0), [5.0, 5.0])
    with pytest.raises(ArgumentError, match="axis_size=n"):
        wg.vmap(lambda a: a, in_axes=None)(5.0)
    with pytest.raises(ArgumentError, match="axis_size: 3"):
        wg.vmap(lambda a: a, axis_size=3)(np.ones(2))


def test_unknown_names(x):
    with pytest.raises(LevelError, match=r"no vmap in progress.*there is 'j', 'i'"):
        wg.vmap(lambda r: wg.vmap(lambda a: wg.psum(a, "k"), axis_name="j")(r), axis_name="i")(
            np.ones((2, 3))
        )
    with pytest.raises(LevelError, match="there is none"):
        wg.psum(x, "i")
    assert not wg.trace.stack()


def test_names_belong_to_a_thread(x):
    seen = []

    def other():
        try:
            wg.psum(1.0, "i")
        except LevelError as error:
            seen.append(error)

    def f(a):
        t = threading.Thread(target=other)
        t.start()
        t.join()
        return wg.psum(a, "i")

    wg.vmap(f, axis_name="i")(x)
    assert len(seen) == 1


def test_a_copy_of_a_shared_argument_is_written(x, close):
    def f(shared, a):
        y = shared.copy()
        y[0] = a
        return y

    base = np.array([7.0, 8.0])
    close(wg.vmap(f, in_axes=(None, 0))(base, x), np.stack([x, np.full(3, 8.0)], 1))
    close(base, [7.0, 8.0])
    loss = lambda b, a: np.sum(wg.vmap(f, in_axes=(None, 0))(b, a) ** 2)
    gb, ga = wg.grad(loss, (0, 1))(base, x)
    close(gb, [0.0, 3 * 16.0])
    close(ga, 2 * x)
    close(wg.vmap(wg.grad(lambda b, a: np.sum(f(b, a) ** 2), 1), in_axes=(None, 0))(base, x), 2 * x)


def test_shared_arguments_are_read_as_before(x, close):
    table, index = np.array([10.0, 20.0, 30.0]), np.array([2, 0])

    def f(a, table, index, n):
        assert table[0] == 10.0
        return a * table[index] + float(table[1]) * n + (1.0 if table.sum() > 0 else 0.0)

    got = wg.vmap(f, in_axes=(0, None, None, None))(x, table, index, 2)
    close(got, x[:, None] * [30.0, 10.0] + 41.0)
