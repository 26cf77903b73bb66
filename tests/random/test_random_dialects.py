"""Random programs through the dialects: tapes, linearize, and arguments that all lanes share."""

import numpy as np
import pytest
from hypothesis import given, settings
from random_checks import close, flat, value_of
from random_programs import programs
from test_random_programs import EVERY, WRITERS

import wengert as wg


def check(program):
    xs, vs = program.inputs(), program.directions()
    every = tuple(range(len(xs)))
    g = wg.grad(program.run, every, allow_unused=True)
    gradient, slope = flat(g(*xs)), wg.jvp(program.run, tuple(xs), tuple(vs))[1]
    curve = flat(wg.hvp(program.run, tuple(xs), tuple(vs)))

    _, f_jvp = wg.linearize(program.run, *xs)
    close(program, "linearize and jvp", f_jvp(*vs), slope, 1e-13)
    close(program, "transposed linearize", flat(wg.vjp(f_jvp, *vs)[1](1.0)), gradient)
    along = wg.grad(lambda *x: wg.linearize(program.run, *x)[1](*vs), every, allow_unused=True)
    close(program, "grad of linearize", flat(along(*xs)), curve)
    _, of_grad = wg.linearize(g, *xs)
    close(program, "linearize of grad", flat(of_grad(*vs)), curve)

    ts = [wg.tensor(x) for x in xs]
    with wg.GradientTape() as outer:
        outer.watch(ts)
        with wg.GradientTape() as inner:
            inner.watch(ts)
            y = program.run(*ts)
        got = inner.gradient(y, ts, unconnected_gradients="zero")
        total = sum((a * v).sum() for a, v in zip(got, vs))
    close(program, "a tape and grad", flat(got), gradient, 1e-13)
    second = outer.gradient(total, ts, unconnected_gradients="zero")
    close(program, "a tape in a tape and hvp", flat(second), curve)


def check_shared(program):
    xs = program.inputs()
    axes = tuple(None if program.seed >> i & 1 and i else 0 for i in range(len(xs)))
    stacks = [
        x if a is None else np.stack([x * (1 + 0.003 * k) for k in range(3)])
        for x, a in zip(xs, axes)
    ]
    rows = [[s if a is None else s[k] for s, a in zip(stacks, axes)] for k in range(3)]
    want = np.stack([value_of(program.run(*r)) for r in rows])
    close(program, "shared arguments", wg.vmap(program.run, axes)(*stacks), want, 1e-12)


@settings(EVERY, max_examples=60)
@given(programs())
def test_dialects(program):
    check(program)


@settings(EVERY, max_examples=30)
@given(programs(WRITERS))
def test_dialects_that_write(program):
    check(program)
    if program.lanes:
        check_shared(program)


@pytest.mark.slow
@settings(EVERY, max_examples=1500)
@given(programs())
def test_many_dialects(program):
    check(program)
    if program.lanes:
        check_shared(program)
