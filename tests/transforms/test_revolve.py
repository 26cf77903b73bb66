"""Loops with few states kept: the same numbers to the bit in every mode; how many steps run."""

import functools
import gc
import math
import tracemalloc

import numpy as np
import pytest

import wengert as wg
from wengert import random
from wengert.errors import LevelError, OptionError, ReplayError
from wengert.transforms.revolve import kept_states, reach, split
from wengert.transforms.staging import stage

RNG = np.random.default_rng(0)
W, B = RNG.standard_normal((3, 3)) / 2, RNG.standard_normal(3)
C, XS = RNG.standard_normal(3), RNG.standard_normal((23, 3))
KINDS = [True, 1, 2, 4, 100]


# ------------------------------------------------------------------ the schedule
@functools.cache
def fewest(n, states):
    """The smallest number of steps run again, by trying every split."""
    if n <= 1:
        return 0
    if states == 1:
        return n * (n - 1) // 2
    return min(m + fewest(n - m, states - 1) + fewest(m, states) for m in range(1, n))


@functools.cache
def planned(n, states):
    if n <= 1:
        return 0
    if states == 1:
        return n * (n - 1) // 2
    m = split(n, states)
    return m + planned(n - m, states - 1) + planned(m, states)


def test_the_schedule_runs_no_step_more_often_than_needed():
    for states in range(1, 7):
        for n in range(1, 60):
            assert planned(n, states) == fewest(n, states), (n, states)
    for n, states in ((1000, 10), (100_000, 17), (100_000, 30)):
        r = next(r for r in range(n) if reach(states, r) >= n)
        assert planned(n, states) == r * n - math.comb(states + r, states + 1)


def test_the_states_that_are_kept():
    for n in (1, 2, 3, 17, 1000):
        for states in (1, 2, 5, 50):
            at = kept_states(n, states)
            assert at[0] == 0
            assert at == sorted(set(at))
            assert len(at) <= states
            assert n == 1 or at[-1] < n


def runs_of(n, checkpoint):
    count = 0

    def body(i, v):
        nonlocal count
        count += 1
        return np.sin(v) + 0.1 * i

    wg.grad(lambda x: wg.fori_loop(0, n, body, x, checkpoint=checkpoint))(0.3)
    return count


@pytest.mark.parametrize(("n", "states"), [(1, 1), (2, 1), (10, 3), (40, 4), (50, 100)])
def test_how_often_the_body_runs(n, states):
    """Once forward, once recorded, and the fewest in between; the forward run saves the first."""
    saved = sum(b - a for a, b in zip(kept_states(n, states), kept_states(n, states)[1:]))
    assert runs_of(n, states) == 2 * n + fewest(n, states) - saved


def test_log_many_states_cost_log_many_runs():
    assert runs_of(300, True) < 5 * 300


# ------------------------------------------------------------------ the same numbers
def scanned(w, c, xs, reverse=False, checkpoint=False):
    def step(c, x):
        c = np.tanh(w @ c + x)
        return c, (c.sum(), {"c": c * 2.0})

    last, (sums, rest) = wg.scan(step, c, xs, reverse=reverse, checkpoint=checkpoint)
    return np.sum(last**2) + np.sum(sums * np.arange(23.0)) + np.sum(rest["c"] ** 3)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("checkpoint", KINDS)
def test_gradients_of_scan_to_the_bit(checkpoint, reverse):
    every = wg.grad(scanned, (0, 1, 2))(W, C, XS, reverse, checkpoint)
    for got, n in zip(every, range(3)):
        np.testing.assert_array_equal(got, wg.grad(scanned, n)(W, C, XS, reverse))


@pytest.mark.parametrize("checkpoint", [True, 3])
def test_backward_reaches_what_the_body_closes_over(checkpoint):
    def losses(checkpoint):
        w = wg.tensor(W, requires_grad=True)
        b = wg.tensor(B, requires_grad=True)
        unused = wg.tensor(B, requires_grad=True)
        scale = np.exp(b)  # recorded outside

        def step(c, x):
            c = np.tanh(w @ c + x) * scale
            return c, (np.sum(c * unused), c)

        last, (_, cs) = wg.scan(step, wg.tensor(C), XS, checkpoint=checkpoint)
        (np.sum(last**2) + np.sum(cs[3:7] * b)).backward()
        return w.grad, b.grad, unused.grad

    want, got = losses(False), losses(checkpoint)
    for a, b in zip(got[:2], want[:2]):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert got[2] is None or not got[2].numpy().any()


@pytest.mark.parametrize("checkpoint", [True, 2])
def test_second_orders_in_every_nesting(checkpoint, close):
    plain = lambda w: scanned(w, C, XS)
    kept = lambda w: scanned(w, C, XS, checkpoint=checkpoint)
    v = RNG.standard_normal((3, 3))
    np.testing.assert_array_equal(wg.hvp(kept, W, v), wg.hvp(plain, W, v))
    close(wg.vhp(kept, W, v), wg.vhp(plain, W, v))
    for f in (plain, kept):
        f.slope = lambda w, f=f: wg.jvp(f, (w,), (v,))[1]
        f.third = lambda w, f=f: wg.hvp(lambda u: np.sum(wg.grad(f)(u) * v), w, v)
    close(wg.grad(kept.slope)(W), wg.grad(plain.slope)(W))
    close(kept.third(W), plain.third(W), rtol=1e-8)
    w = wg.tensor(W, requires_grad=True)
    kept(w).backward(create_graph=True)
    g, w.grad = w.grad, None
    np.sum(g * v).backward()
    close(w.grad, wg.hvp(plain, W, v))
    _, (_, second) = wg.jet(lambda w: wg.grad(kept)(w), (W,), ([v, 0 * v],))
    _, (_, want) = wg.jet(lambda w: wg.grad(plain)(w), (W,), ([v, 0 * v],))
    close(second, want, rtol=1e-9)


def test_under_and_above_vmap(close):
    cs = RNG.standard_normal((4, 3))
    got = wg.vmap(wg.grad(lambda w, c: scanned(w, c, XS, checkpoint=3)), (None, 0))(W, cs)
    close(got, [wg.grad(scanned)(W, c, XS) for c in cs])

    def total(w, **options):
        return np.sum(wg.vmap(lambda c: scanned(w, c, XS, **options))(cs))

    close(wg.grad(lambda w: total(w, checkpoint=True))(W), wg.grad(total)(W))
    close(
        wg.jacrev(lambda w: wg.vmap(lambda c: scanned(w, c, XS, checkpoint=2))(cs))(W),
        wg.jacrev(lambda w: wg.vmap(lambda c: scanned(w, c, XS))(cs))(W),
    )

    def late(w, checkpoint):  # the state is the same in every lane at first, and then not
        def one(x):
            return wg.fori_loop(
                0, 9, lambda i, v: np.sin(v) * (x if i > 3 else 1.0), w, checkpoint=checkpoint
            )

        return np.sum(wg.vmap(one)(C))

    close(wg.grad(late)(0.7, 2), wg.grad(late)(0.7, False))

    def some(w, checkpoint):  # and so is what is stacked
        def one(x):
            def step(v, i):
                return np.sin(v), v * (x if i > 3 else 1.0)

            return wg.scan(step, w, np.arange(9), checkpoint=checkpoint)[1]

        return np.sum(wg.vmap(one)(C) ** 2)

    close(wg.grad(some)(0.7, 2), wg.grad(some)(0.7, False))


@pytest.mark.parametrize("checkpoint", [True, 1, 2, 5])
def test_a_while_of_unknown_length(checkpoint):
    def f(x, y, checkpoint=False):
        def body(s):
            return s[0] * 1.2 + y * np.sin(s[0]) ** 2, s[1] + 1

        return wg.while_loop(lambda s: s[0] < 40.0, body, (x, 0), checkpoint=checkpoint)[0]

    for n in range(2):
        np.testing.assert_array_equal(wg.grad(f, n)(0.5, 0.3, checkpoint), wg.grad(f, n)(0.5, 0.3))
    xs = np.array([0.5, 7.0, 50.0, 39.0])
    got = wg.vmap(wg.grad(lambda x: f(x, 0.3, checkpoint)))(xs)
    np.testing.assert_array_equal(got, [wg.grad(f)(x, 0.3) for x in xs])


def test_loops_in_loops(close):
    def f(w, checkpoint):
        def outer(c, x):
            c = wg.fori_loop(
                0, 5, lambda i, v: np.tanh(w @ v) + 0.1 * i, c + x, checkpoint=checkpoint
            )
            return c, c

        last, ys = wg.scan(outer, C, XS[:8], checkpoint=checkpoint)
        return np.sum(last) + np.sum(ys[2] ** 2)

    for checkpoint in (True, 2):
        close(wg.grad(f)(W, checkpoint), wg.grad(f)(W, False), rtol=1e-14)  # summed loop by loop
    v = RNG.standard_normal((3, 3))
    close(wg.hvp(lambda w: f(w, 3), W, v), wg.hvp(lambda w: f(w, False), W, v))
    w = wg.tensor(W, requires_grad=True)
    f(w, True).backward()
    close(w.grad, wg.grad(f)(W, False), rtol=1e-14)


def test_map_keeps_nothing_of_a_slice():
    f = lambda xs, **o: np.sum(wg.map(lambda x: np.exp(W @ x), xs, **o) ** 2)
    np.testing.assert_array_equal(wg.grad(lambda x: f(x, checkpoint=1))(XS), wg.grad(f)(XS))


def test_a_pullback_may_be_used_twice_and_late():
    _, want = wg.vjp(lambda w: scanned(w, C, XS), W)
    _, pull = wg.vjp(lambda w: scanned(w, C, XS, checkpoint=2), W)
    with wg.no_grad():
        for g in (1.0, 2.0, 1.0):
            np.testing.assert_array_equal(pull(g)[0], want(g)[0])
    w = wg.tensor(W, requires_grad=True)
    loss = scanned(w, C, XS, checkpoint=2)
    loss.backward(retain_graph=True)
    loss.backward()
    np.testing.assert_array_equal(w.grad.numpy(), 2 * want(1.0)[0])


def test_only_what_reaches_the_loss_gets_a_gradient():
    a, b = (wg.tensor(1.5, requires_grad=True) for _ in range(2))
    (u, _), ys = wg.scan(
        lambda s, x: ((s[0] * a, s[1] * b), (s[0] + x, s[1])), (1.0, 1.0), XS[:, 0], checkpoint=3
    )
    (u + ys[0][2]).backward()
    assert b.grad is None
    assert a.grad is not None


# ------------------------------------------------------------------ random numbers, and refusals
def test_random_numbers_are_drawn_again(close):
    own = np.random.default_rng(5)

    def f(x, checkpoint):
        def body(i, v):
            return np.sin(v) * random.default().random() + own.random() * v

        return wg.fori_loop(0, 15, body, x, checkpoint=checkpoint)

    def graded(checkpoint):
        nonlocal own
        own = np.random.default_rng(5)
        random.seed(3)
        g = wg.grad(f)(0.4, checkpoint)
        return g, random.default().random(), own.random()

    assert graded(False) == graded(True) == graded(2)


def test_a_parameter_that_changed_is_noticed():
    w = wg.tensor(W, requires_grad=True)
    loss = scanned(w, C, XS, checkpoint=2)
    with wg.no_grad():
        w -= 0.1
    with pytest.raises(ReplayError, match="another state after 23 steps"):
        loss.backward()


def test_the_arrays_that_are_scanned_may_change():
    xs = XS.copy()
    w = wg.tensor(W, requires_grad=True)
    loss = scanned(w, C, xs, checkpoint=2)
    xs[:] = 0.0
    loss.backward()
    np.testing.assert_array_equal(w.grad.numpy(), wg.grad(scanned)(W, C, XS))


def test_a_value_that_escapes_is_refused():
    kept = []
    w = wg.tensor(0.5, requires_grad=True)

    def body(i, v):
        kept.append(v * w)
        return v * w

    wg.fori_loop(0, 4, body, 1.0, checkpoint=2)
    with pytest.raises(LevelError, match="left a checkpointed loop"):
        kept[2].backward()


@pytest.mark.parametrize("checkpoint", [0, -1, 1.5, "log", None])
def test_how_many_states_is_a_number(checkpoint):
    with pytest.raises(OptionError, match="at least 1"):
        wg.fori_loop(0, 3, lambda i, v: v, 1.0, checkpoint=checkpoint)


def test_nothing_to_record_and_nothing_to_do():
    assert wg.fori_loop(0, 3, lambda i, v: v + i, 1.0, checkpoint=True) == 4.0
    assert wg.fori_loop(3, 0, lambda i, v: v + i, 1.0, checkpoint=True) == 1.0
    last, ys = wg.scan(lambda c, x: (c + x, c), 0.0, np.arange(4.0), checkpoint=2)
    assert (last, ys.tolist()) == (6.0, [0.0, 0.0, 1.0, 3.0])
    with wg.no_grad():
        w = wg.tensor(2.0, requires_grad=True)
        y = wg.fori_loop(0, 3, lambda i, v: v * w, 1.0, checkpoint=True)
    assert not y.requires_grad


def test_late_recording(close):
    """The first steps know nothing of what is differentiated."""

    def f(x, checkpoint):
        def step(v, i):
            return (v * x if i > 4 else v + 1.0), v

        last, ys = wg.scan(step, 1.0, np.arange(9), checkpoint=checkpoint)
        return last + np.sum(ys**2)

    for checkpoint in KINDS:
        close(wg.grad(f)(1.2, checkpoint), wg.grad(f)(1.2, False), rtol=1e-15)


def test_staged(close):
    def f(x, checkpoint):
        return wg.grad(
            lambda x: wg.fori_loop(0, 6, lambda i, v: np.sin(v) * x, x, checkpoint=checkpoint)
        )(x)

    from wengert.graph import evaluate

    (got,) = evaluate(stage(lambda x: f(x, 2), 0.7).graph, 0.7)
    close(got, f(0.7, False))


def test_memory_does_not_grow_with_the_number_of_steps():
    def peak(n, checkpoint):
        def f(a):
            body = lambda i, v: np.sin(v) * a
            return np.sum(wg.fori_loop(0, n, body, np.ones(64), checkpoint=checkpoint))

        gc.collect()
        tracemalloc.start()
        try:
            wg.grad(f)(0.9)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(20, True)
    assert peak(800, True) < 1.3 * peak(100, True) + 20_000
    assert peak(800, False) > 4 * peak(100, False)


def kept_sum(x):
    return wg.scan(lambda c, w: (c + w * x, None), np.zeros(3), np.ones(4), checkpoint=True)[0]


@pytest.mark.parametrize(
    "loop",
    [
        kept_sum,
        lambda x: wg.scan(lambda c, w: (c * w, None), x, np.ones(2), checkpoint=True)[0] * 4.0,
        lambda x: wg.map(lambda v: 4.0 * v, x, checkpoint=True),
    ],
    ids=["closed over", "first state", "slices"],
)
def test_a_watched_tensor_is_one_in_the_sweep_too(loop):
    """A tape lets go of what it watched when it stops, and the loop runs again after that."""
    x = wg.tensor(np.array([1.0, 2.0, 3.0]))
    with wg.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = loop(x)
        z = np.sum(y * y)
    assert np.array_equal(tape.gradient(y, x), [4.0] * 3)
    assert np.array_equal(tape.gradient(z, x), 32 * x.numpy())
    assert not x.requires_grad


def test_a_tensor_that_is_recorded_no_more_is_refused():
    x = wg.tensor(np.ones(3), requires_grad=True)
    y = np.sum(kept_sum(x))
    x.requires_grad_(False)
    with pytest.raises(wg.errors.ReplayError, match="another state"):
        y.backward()


def test_a_named_axis_is_there_in_the_sweep_too(close):
    def f(checkpoint):
        def row(x):
            step = lambda c, w: (np.sin(c) * wg.psum(x, "rows") * w, None)
            return np.sum(wg.scan(step, x, np.array([0.5, 0.8]), checkpoint=checkpoint)[0])

        return lambda x: np.sum(wg.vmap(row, axis_name="rows")(x) ** 2)

    x = np.array([[0.1, 0.2], [0.3, -0.4], [0.5, 0.6]])
    close(wg.grad(f(True))(x), wg.grad(f(False))(x))
    one = lambda v, checkpoint: wg.grad(lambda x: f(checkpoint)(x * v))(x)
    close(
        wg.jvp(lambda v: one(v, True), (1.0,), (1.0,)),
        wg.jvp(lambda v: one(v, False), (1.0,), (1.0,)),
    )


def test_tapes_around_tapes_around_a_loop():
    v = wg.Variable(2.0)
    with wg.GradientTape() as outer:
        with wg.GradientTape() as inner:
            x = wg.tensor(np.array([1.0, 2.0, 3.0]))
            inner.watch(x)
            y = np.sum(kept_sum(np.sin(v * x)))
        g = inner.gradient(y, x)  # 4 v cos(v x)
        z = np.sum(g)
    want = 4 * np.cos(2 * x.numpy()) - 8 * x.numpy() * np.sin(2 * x.numpy())
    np.testing.assert_allclose(outer.gradient(z, v).numpy(), np.sum(want), rtol=1e-12)


def test_a_tape_inside_the_step():
    def step(c, w):
        with wg.GradientTape() as tape:
            tape.watch(c)
            y = np.sum(np.sin(c) * w)
        return tape.gradient(y, c), None

    def f(checkpoint):
        weights = np.array([0.5, 2.0, 1.5])
        return lambda x: np.sum(wg.scan(step, x, weights, checkpoint=checkpoint)[0] ** 2)

    x = np.array([0.1, 0.7])
    np.testing.assert_allclose(wg.grad(f(True))(x), wg.grad(f(False))(x), rtol=1e-12)
    np.testing.assert_allclose(wg.hessian(f(True))(x), wg.hessian(f(False))(x), rtol=1e-12)
