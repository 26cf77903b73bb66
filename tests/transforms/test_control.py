"""Control flow: the same numbers as Python's own, in every mode, and lane by lane under vmap."""

import numpy as np
import pytest

import wengert as wg
from wengert.errors import ArgumentError, DTypeError, LevelError, ShapeError
from wengert.transforms.staging import stage

RNG = np.random.default_rng(0)
W = RNG.standard_normal((3, 3)) / 2


def test_cond_runs_one_side_when_there_is_one_condition():
    ran = []

    def side(name):
        return lambda x: ran.append(name) or x * x

    assert wg.cond(True, side("yes"), side("no"), 3.0) == 9.0
    assert wg.cond(np.array(0), side("yes"), side("no"), 3.0) == 9.0
    assert ran == ["yes", "no"]


@pytest.mark.parametrize("order", [1, 2])
def test_cond_under_vmap_has_no_nan_of_the_side_not_taken(order):
    def f(x):  # the sum stands between the choice and the root: a mask alone would not reach it
        return wg.cond(
            x[0] > 0, lambda x: np.sum(np.sqrt(x) * np.log(x)), lambda x: np.sum(x * x), x
        )

    g = wg.grad(f)
    h = g if order == 1 else wg.grad(lambda x: np.sum(g(x)))
    xs = np.array([[1.0, 2.0], [-1.0, 3.0], [0.0, 0.0], [4.0, 0.5]])
    got = wg.vmap(h)(xs)
    assert np.isfinite(got).all()
    for row, x in zip(got, xs):
        np.testing.assert_array_equal(row, h(x))


def test_cond_inside_two_vmaps_and_above_one():
    def f(x, y):
        return wg.cond(x * y > 0, lambda a, b: np.sqrt(a * b), lambda a, b: a + b, x, y)

    x, y = RNG.standard_normal(4), RNG.standard_normal(5)
    table = wg.vmap(lambda a: wg.vmap(lambda b: wg.grad(f)(a, b))(y))(x)
    want = [[wg.grad(f)(a, b) for b in y] for a in x]
    np.testing.assert_allclose(table, want, rtol=1e-14)
    total = wg.grad(lambda x: np.sum(wg.vmap(lambda a, b: f(a, b))(x, y[:4])))(x)
    np.testing.assert_allclose(total, [wg.grad(f)(a, b) for a, b in zip(x, y)], rtol=1e-14)
    _, slope = wg.jvp(wg.vmap(f), (x, y[:4]), (np.ones(4), np.zeros(4)))
    np.testing.assert_allclose(slope, total, rtol=1e-14)


def test_switch_clamps_and_selects():
    branches = [lambda x: x, lambda x: x * x, lambda x: 1 / x]
    for i, want in ((-3, 2.0), (0, 2.0), (1, 4.0), (2, 0.5), (9, 0.5)):
        assert wg.switch(i, branches, 2.0) == want
    f = wg.grad(lambda x, i: wg.switch(i, branches, x))
    i, x = np.array([-1, 0, 1, 2, 7]), np.array([0.0, 1.0, 3.0, 2.0, 4.0])
    want = [f(a, k) for a, k in zip(x, i)]
    np.testing.assert_array_equal(wg.vmap(f)(x, i), want)
    assert wg.vmap(lambda i: wg.switch(i, [lambda: 5.0]))(i).tolist() == [5.0] * 5


def newton(a, checkpoint=False):
    return wg.while_loop(
        lambda s: abs(s[0] * s[0] - a) > 1e-13 * a,
        lambda s: ((s[0] + a / s[0]) / 2, s[1] + 1),
        (a, 0),
        checkpoint=checkpoint,
    )[0]


def test_while_loop_in_every_mode(close):
    a = np.array([0.5, 2.0, 900.0])
    for x in a:
        close(newton(x), np.sqrt(x))
        close(wg.grad(newton)(x), 0.5 / np.sqrt(x))
        close(wg.jvp(newton, (x,), (1.0,))[1], 0.5 / np.sqrt(x))
        close(wg.hessian(newton)(x), -0.25 * x**-1.5, rtol=1e-7)
    close(wg.vmap(newton)(a), np.sqrt(a))
    close(wg.vmap(wg.grad(newton))(a), [wg.grad(newton)(x) for x in a], rtol=1e-14)
    close(wg.grad(lambda a: np.sum(wg.vmap(newton)(a)))(a), 0.5 / np.sqrt(a))


def test_a_lane_that_is_done_is_frozen_and_sends_no_nan():
    def f(x):  # goes on until the state is negative, where its logarithm would be nan
        return wg.while_loop(lambda s: s > 0, lambda s: s - 1 - 0.1 * np.log(s), x)

    xs = np.array([0.5, -2.0, 0.0, 3.7, 2.0])
    np.testing.assert_array_equal(wg.vmap(f)(xs), [f(x) for x in xs])
    np.testing.assert_array_equal(wg.vmap(wg.grad(f))(xs), [wg.grad(f)(x) for x in xs])


def test_fori_loop_and_its_batched_bounds(close):
    def power(x, n):
        return wg.fori_loop(0, n, lambda i, v: v * x, 1.0)

    close(wg.grad(power)(1.5, 4), 4 * 1.5**3)
    assert power(2.0, -3) == 1.0
    x, n = np.array([1.5, 2.0, 3.0, 0.5]), np.array([0, 1, 5, 3])
    g = wg.vmap(wg.grad(lambda x, n: power(x, n), allow_unused=True))(x, n)
    close(g, n * x ** (n - 1.0))


def rnn(w, c, xs, **options):
    def step(c, x):
        c = np.tanh(w @ c + x)
        return c, (c.sum(), {"c": c * 2.0})

    return wg.scan(step, c, xs, **options)


@pytest.mark.parametrize("reverse", [False, True])
def test_scan_is_the_loop(reverse):
    c, xs = RNG.standard_normal(3), RNG.standard_normal((6, 3))
    last, (sums, rest) = rnn(W, c, xs, reverse=reverse)
    want, rows = c, []
    for x in xs[::-1] if reverse else xs:
        want = np.tanh(W @ want + x)
        rows.append(want)
    rows = rows[::-1] if reverse else rows
    np.testing.assert_array_equal(last, want)
    np.testing.assert_array_equal(sums, [r.sum() for r in rows])
    np.testing.assert_array_equal(rest["c"], np.stack(rows) * 2.0)


def test_scan_in_every_mode():
    c, xs = RNG.standard_normal(3), RNG.standard_normal((4, 3))

    def f(w, c, xs):
        last, (sums, rest) = rnn(w, c, xs)
        return np.sum(last**2) + np.sum(sums * np.arange(4.0)) + np.sum(rest["c"] ** 3)

    def g(w, c, xs):
        total = 0.0
        for k, x in enumerate(xs):
            c = np.tanh(w @ c + x)
            total = total + c.sum() * float(k) + np.sum((c * 2.0) ** 3)
        return total + np.sum(c**2)

    for n in range(3):
        np.testing.assert_allclose(wg.grad(f, n)(W, c, xs), wg.grad(g, n)(W, c, xs), rtol=1e-12)
    np.testing.assert_allclose(wg.hessian(f, 1)(W, c, xs), wg.hessian(g, 1)(W, c, xs), rtol=1e-10)
    cs = RNG.standard_normal((5, 3))
    got = wg.vmap(wg.grad(f), in_axes=(None, 0, None))(W, cs, xs)
    np.testing.assert_allclose(got, [wg.grad(g)(W, c, xs) for c in cs], rtol=1e-12)


def test_scan_of_nothing_and_without_slices():
    last, ys = wg.scan(lambda c, x: (c, x * np.ones(2)), 1.0, np.zeros((0, 2)))
    assert last == 1.0
    assert ys.shape == (0, 2)
    last, ys = wg.scan(lambda c, _: (c * 2, None), 1.0, length=5)
    assert (last, ys) == (32.0, None)


def test_map_by_one_and_by_chunks(close):
    xs = RNG.standard_normal((7, 3))
    want = [np.sum(x**2) for x in xs]
    close(wg.transforms.control.map(lambda x: np.sum(x**2), xs), want)
    for k in (1, 3, 7, 20):
        close(wg.transforms.control.map(lambda x: np.sum(x**2), xs, batch_size=k), want)
    g = wg.grad(lambda x: np.sum(wg.map(np.sin, x, batch_size=2)))(xs)
    close(g, np.cos(xs))


def test_staging_unrolls_loops_selects_sides_and_refuses_a_while():
    graph = stage(lambda x: wg.scan(lambda c, x: (c + x, c), 0.0, x)[0], np.ones(3)).graph
    assert [str(line.op) for line in graph.lines].count("add") == 3
    graph = stage(lambda x: wg.cond(x > 0, np.exp, np.sin, x), 1.0).graph
    assert "where" in [str(line.op) for line in graph.lines]
    with pytest.raises(LevelError, match="condition has no value"):
        stage(lambda x: wg.while_loop(lambda v: v < 9, lambda v: v * 2, x), 1.0)
    with pytest.raises(LevelError, match="number of steps has no value"):
        stage(lambda n: wg.fori_loop(0, n, lambda i, v: v, 0.0), np.int64(3))


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: wg.cond(np.ones(2) > 0, np.sin, np.cos, 1.0), ShapeError, "one number"),
        (lambda: wg.cond("yes", np.sin, np.cos, 1.0), DTypeError, "boolean"),
        (lambda: wg.cond(True, 1.0, np.cos, 1.0), ArgumentError, "true_fun is a function, not"),
        (lambda: wg.switch(0, []), ArgumentError, "one or more"),
        (lambda: wg.switch(0.5, [np.sin], 1.0), DTypeError, "integer"),
        (lambda: wg.while_loop(lambda v: v < 3, lambda v: (v, v), 0.0), ArgumentError, "structure"),
        (
            lambda: wg.fori_loop(0, 3, lambda i, v: {"a": v["a"][:1]}, {"a": np.ones(2)}),
            ShapeError,
            r"leaf \['a'\] of the new state has another shape",
        ),
        (
            lambda: wg.fori_loop(0, 3, lambda i, v: (v[0] + 0.5,), (1,)),
            DTypeError,
            "fix: start from 1.0",
        ),
        (lambda: wg.scan(lambda c, x: c, 0.0, np.ones(2)), ArgumentError, "pair"),
        (lambda: wg.scan(lambda c, x: (c, x), 0.0), ArgumentError, "length=T"),
        (lambda: wg.scan(lambda c, x: (c, x), 0.0, 1.0), ArgumentError, "leading axis"),
        (
            lambda: wg.scan(lambda c, x: (c, None), 0.0, {"a": np.ones(2), "b": np.ones(3)}),
            ArgumentError,
            r"xs\['a'\]: 2, xs\['b'\]: 3",
        ),
        (
            lambda: wg.scan(lambda c, x: (c, np.ones(int(x))), 0.0, np.arange(1.0, 3)),
            ShapeError,
            "in step 1",
        ),
        (lambda: wg.map(np.sin, np.ones(2), batch_size=0), ArgumentError, "batch_size"),
        (
            lambda: wg.vmap(lambda x: wg.cond(x > 0, lambda x: (x, x), lambda x: x, x))(
                np.array([1.0, -1.0])
            ),
            ArgumentError,
            "structure",
        ),
        (
            lambda: wg.vmap(lambda x: wg.cond(x > 0, lambda x: np.ones(2) * x, lambda x: x, x))(
                np.array([1.0, -1.0])
            ),
            ShapeError,
            "another shape",
        ),
    ],
)
def test_refusals(call, error, match):
    with pytest.raises(error, match=match) as found:
        call()
    assert "test_control.py" in str(found.value)
