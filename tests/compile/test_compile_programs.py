"""Random programs and graphs, and every operation, compiled and compared with uncompiled."""

import random
import sys
from pathlib import Path

import numpy as np
import pytest
from calls import BACKENDS
from random_graphs import make
from sensitive import bounds, hold

import wengert as wg
from wengert import testing
from wengert.compile.backends.llvm import program as native
from wengert.compile.passes.expand import expand
from wengert.compile.passes.pipeline import optimize
from wengert.graph import Graph
from wengert.ops import elementwise as e
from wengert.trace import OPS
from wengert.transforms.staging import stage
from wengert.types import Aval

sys.path.insert(0, str(Path(__file__).parents[1] / "random"))
pytest.importorskip("autograd", reason="the random programs are written for it as well")
from random_programs import build

QUICK, MANY, CHUNK = 20, 600, 10
GRAPHS, SLOW_GRAPHS = 200, 1200


def chunks(first, last, size=CHUNK):
    return [range(k, min(k + size, last)) for k in range(first, last, size)]


# ------------------------------------------------------------------ programs in NumPy


def close(got, want, rtol, what):
    got, want = (np.asarray(v.value() if isinstance(v, wg.Tensor) else v) for v in (got, want))
    assert got.shape == want.shape, what
    assert got.dtype == want.dtype, what
    scale = max(1.0, np.max(np.abs(want), initial=0.0))
    np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol * scale, err_msg=what)


def follows(seed, backend):
    """A program, its gradient compiled, the gradient of it compiled, and a second derivative."""
    program = build(random.Random(seed).choice)
    xs, vs = program.inputs(), program.directions()
    n = tuple(range(len(xs)))
    what = f"seed {seed}: {program}"

    def slope(f):
        def along(*xs):
            gs = wg.grad(f, n, allow_unused=True)(*xs)
            return sum(np.sum(g * v) for g, v in zip(gs, vs))

        return along

    f = wg.compile(program.run, backend=backend)
    g = wg.compile(wg.grad(program.run, n, allow_unused=True), backend=backend)
    want = wg.grad(program.run, n, allow_unused=True)(*xs)
    second = wg.grad(slope(program.run), n, allow_unused=True)(*xs)
    for _ in range(2):
        close(f(*xs), program.run(*xs), 1e-11, what)
        for made in (g(*xs), wg.grad(f, n, allow_unused=True)(*xs)):
            for a, b in zip(made, want, strict=True):
                close(a, b, 1e-9, what)
    for a, b in zip(wg.grad(slope(f), n, allow_unused=True)(*xs), second, strict=True):
        close(a, b, 1e-7, what)
    return not f.refused


def sweep(seeds, backend):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", wg.errors.CompileWarning)
        return [follows(seed, backend) for seed in seeds]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seeds", chunks(0, QUICK), ids=lambda r: str(r.start))
def test_random_programs(seeds, backend):
    compiled = sweep(seeds, backend)
    assert sum(compiled) > 0.4 * len(compiled)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seeds", chunks(QUICK, MANY), ids=lambda r: str(r.start))
def test_many_random_programs(seeds, backend):
    sweep(seeds, backend)


# ------------------------------------------------------------------ graphs, as machine code


def optimized(graph):
    return optimize(expand(graph))


def native_holds(seeds):
    for seed in seeds:
        graph, inputs = make(seed)
        made = optimized(graph)
        run = native.build(made)
        kept = [np.array(x) for x in inputs]
        for turn in range(2):
            run.arena[...] = 0xFF  # nothing is read before it is written: those bytes are nan
            got = run(inputs, [None] * len(made.outputs))
            hold(got, graph, inputs, f"seed {seed}, call {turn}")
        for a, b in zip(inputs, kept):
            np.testing.assert_array_equal(a, b, err_msg=f"seed {seed}: an input was written")


@pytest.mark.parametrize("seeds", chunks(0, GRAPHS, 20), ids=lambda r: str(r.start))
def test_random_graphs_as_machine_code(seeds):
    native_holds(seeds)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", chunks(GRAPHS, SLOW_GRAPHS, 20), ids=lambda r: str(r.start))
def test_many_random_graphs_as_machine_code(seeds):
    native_holds(seeds)


def test_the_bounds_are_no_wider_than_rounding():
    x = np.linspace(0.5, 2.0, 50).astype(np.float32)
    graph = Graph()
    v = graph.input(Aval.of(x))
    graph.outputs = [graph.emit(e.exp, (graph.emit(e.mul, (v, v)),))]
    (want,), (far,) = bounds(graph, [x])
    assert np.max(far / want) < 1e-4
    hold([want], graph, [x])
    with pytest.raises(AssertionError):
        hold([want * np.float32(1.001)], graph, [x])
    with pytest.raises(AssertionError):
        hold([np.where(want > 20, np.float32(np.nan), want)], graph, [x])


# ------------------------------------------------------------------ every operation


@pytest.mark.parametrize("name", sorted(OPS))
def test_every_operation_as_machine_code(name):
    """Alone, at all its examples, in both precisions."""
    for op, operands in testing.examples(name):
        singles = [x.astype(np.float32) if x.dtype == np.float64 else x for x in operands]
        for xs in (list(operands), singles):
            graph = Graph()
            y = graph.emit(op, [graph.input(Aval.of(x)) for x in xs])
            graph.outputs = list(y) if isinstance(y, tuple) else [y]
            made = optimized(graph)
            run = native.build(made)
            for _ in range(2):
                run.arena[...] = 0xFF
                hold(run(xs, [None] * len(made.outputs)), graph, xs, name)


def test_a_sum_is_not_read_in_the_loop_that_makes_it():
    """Groups of one row and of many that become one: what was folded by row is folded no more."""
    w, r = np.linspace(-1, 1, 6).reshape(2, 3), np.array([[0.5], [-0.7]])

    def f(x, m, g):
        y = x - m / 3
        t = g * w
        a = (g * r) * np.sign(m) / 3 * y
        b = a + np.sum(-a, axis=1, keepdims=True) / 3
        u = t + np.sum(t) * 0.3
        return -(b + (u + u / np.cosh(x) ** 2))

    graph = stage(f, np.ones((2, 3)), np.ones((2, 1)), 1.0 * np.ones(())).graph
    inputs = [np.linspace(0, 1, 6).reshape(2, 3), np.array([[0.3], [2.0]]), np.array(0.7)]
    made = optimized(graph)
    run = native.build(made)
    run.arena[...] = 0xFF
    hold(run(inputs, [None]), graph, inputs)
