"""Random graphs through every pass, the pipeline, the planner and the NumPy backend.

The oracle of a pass is the graph that it was given, line by line, every value in row-major order;
that of the backend is `graph.evaluate`. Both to the bit, or to the bound that the pass states.
"""

import numpy as np
import pytest
from passes_checks import assert_same, in_rows, same
from random_graphs import make

from wengert.compile.backends.numpy import build
from wengert.compile.memory import blocks, check, overwritable, peak, plan, views
from wengert.compile.passes import algebra as algebra_module
from wengert.compile.passes.algebra import algebra
from wengert.compile.passes.cse import cse
from wengert.compile.passes.dce import dce
from wengert.compile.passes.expand import COMPOSITE, POINTWISE, expand
from wengert.compile.passes.fold import fold
from wengert.compile.passes.pipeline import clean, optimize
from wengert.compile.passes.products import products
from wengert.compile.passes.remat import remat
from wengert.compile.passes.scale import scale
from wengert.graph import Graph, Line, evaluate, verify
from wengert.ops import elementwise as e
from wengert.ops.attention import Attention
from wengert.ops.contract import matmul
from wengert.ops.fused import Norm, SquaredNorm
from wengert.ops.linear import Transpose
from wengert.ops.norm import Normalize
from wengert.types import Aval

TABLE = {**COMPOSITE, **POINTWISE}
EXACT = {
    "dce": dce,
    "cse": cse,
    "fold": fold,
    "algebra": algebra,
    "clean": clean,
    "remat": lambda g: remat(dce(g), 0),
    "pointwise": lambda g: expand(g, POINTWISE),
}
COUNT = 1000
MANY = 20000
CHUNK = 100


def chunks(count):
    return [range(k, k + CHUNK) for k in range(0, count, CHUNK)]


def checked(step, g, seed):
    before, lines = str(g), [*g.lines]
    made = step(g)
    verify(made)
    assert str(g) == before, seed
    assert g.lines == lines, seed
    assert [v.aval for v in made.inputs] == [v.aval for v in g.inputs], seed
    return made


def sums_differently(g):
    """Whether `expand` rounds differently, as it says: over these alone."""
    return any(
        (type(line.op) is Normalize and line.op.axes == (line.inputs[0].ndim - 1,))
        or (type(line.op) in (Norm, SquaredNorm) and line.op.whole)
        or type(line.op) is Attention
        for line in g.lines
    )


def passes_hold(seeds):
    for seed in seeds:
        g, xs = make(seed)
        want = in_rows(g, *xs)
        for name, step in EXACT.items():
            assert_same(in_rows(checked(step, g, seed), *xs), want, f"{name}, seed {seed}")
        made = checked(lambda g: optimize(g, table=TABLE, debug=True), g, seed)
        if not sums_differently(g):
            assert_same(in_rows(made, *xs), want, f"pipeline, seed {seed}")
        assert not any(type(line.op) in COMPOSITE for line in made.lines) or refused(made)


def refused(g):
    """Whether the composites that are left are those that `expand` says it leaves."""
    again = dce(expand(g, TABLE))  # what it tries and does not take is dead
    return len(again.lines) == len(g.lines)


def backend_holds(seeds):
    for seed in seeds:
        g, xs = make(seed)
        for made in (g, optimize(g, table=TABLE)):
            program = build(made)
            check(program.plan)
            with np.errstate(all="ignore"):
                want = evaluate(made, *xs)
            for turn in range(2):
                assert_same(program(*xs), want, f"seed {seed}, call {turn}\n{program.source}")


@pytest.mark.parametrize("seeds", chunks(COUNT), ids=lambda r: str(r.start))
def test_passes(seeds):
    passes_hold(seeds)


@pytest.mark.parametrize("seeds", chunks(COUNT), ids=lambda r: str(r.start))
def test_backend(seeds):
    backend_holds(seeds)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", chunks(MANY)[COUNT // CHUNK :], ids=lambda r: str(r.start))
def test_many(seeds):
    passes_hold(seeds)
    backend_holds(seeds)


@pytest.mark.parametrize("step", [scale, products], ids=["scale", "products"])
def test_passes_that_round_differently(step):
    """Both are within (k + 2) u of the sum of the sizes of the terms, k terms to a sum."""
    changed = 0
    for seed in range(COUNT):
        rng = np.random.default_rng(seed)
        n, k, m = (int(i) for i in rng.integers(1, 20, 3))
        g = Graph()
        a, b = (g.input(Aval(s, np.dtype(np.float32))) for s in ((n, k), (k, m)))
        x = g.emit(e.mul, (a, 0.37)) if rng.random() < 0.5 else a
        y = g.emit(matmul, (x, b))
        y = g.emit(e.mul, (y, 1.7)) if rng.random() < 0.5 else y
        g.outputs = [g.emit(Transpose((1, 0)), (y,))]
        made = checked(lambda g: dce(step(g)), g, seed)
        changed += str(made) != str(g)
        xs = [rng.standard_normal(v.shape).astype("f") for v in g.inputs]
        got, want = in_rows(made, *xs)[0], in_rows(g, *xs)[0]
        terms = (np.abs(xs[0].astype(float)) @ np.abs(xs[1].astype(float))).T
        terms *= (0.37 if x is not a else 1.0) * (1.7 if g.lines[-2].op is e.mul else 1.0)
        assert (np.abs(got - want) <= (k + 2) * np.finfo("f").eps * terms).all(), seed
    assert changed > COUNT // 5


def test_blocks_of_random_graphs_do_not_meet():
    """The general analysis, without a backend: run the graph in the planned memory."""
    for seed in range(300):
        g, xs = make(seed)
        homes = blocks(g, viewing=(), over={k: overwritable(i) for k, i in enumerate(g.lines)})
        made = plan(homes.blocks)
        check(made)
        arena = np.zeros(made.size + 1, np.uint8)
        env = {v.n: x for v, x in zip(g.inputs, xs, strict=True)}
        with np.errstate(all="ignore"):
            for line in g.lines:
                y = line.op.impl(*[env[x.n] if hasattr(x, "n") else x for x in line.inputs])
                for v, part in zip(line.outputs, y if isinstance(y, tuple) else (y,)):
                    if v.n in homes.of:
                        o = made.offsets[homes.of[v.n]]
                        place = np.ndarray(v.shape, v.dtype, arena.data, o)
                        place[...] = part
                        part = place
                    env[v.n] = np.asarray(part) if v.n in homes.of else np.array(part, order="C")
        got = [env[v.n] for v in g.outputs]
        assert_same(got, in_rows(g, *xs), f"seed {seed}")
        assert peak(g) == plan(blocks(g, views(g)).blocks).lower_bound


def test_remat_lowers_peaks():
    better = 0
    for seed in range(200):
        g = dce(make(seed)[0])
        made = remat(g, 0)
        assert peak(made) <= peak(g)
        better += peak(made) < peak(g)
    assert better > 10


def test_the_generator_reaches_every_kind_of_operation():
    seen = {
        line.op if isinstance(line.op, e.Elementwise | e.Flat) else type(line.op)
        for seed in range(COUNT)
        for line in make(seed)[0].lines
    }
    assert set(COMPOSITE) <= seen
    assert len(seen) > 80


@pytest.mark.parametrize("rule", ["x + 0 = x", "x - x = 0", "swapped"])
def test_a_wrong_rule_is_seen(rule, monkeypatch):
    def plus_zero(r, line, xs):
        return algebra_module.same(line, xs[0]) if algebra_module.is_number(xs[1], 0.0) else None

    def nothing(r, line, xs):
        return e.mul(xs[0], 0.0) if xs[0] is xs[1] else None

    def swapped(r, line, xs):
        a = xs[::-1]
        return algebra_module.typed(line, e.sub, *a)

    wrong = {
        "x + 0 = x": (e.add, plus_zero),
        "x - x = 0": (e.sub, nothing),
        "swapped": (e.sub, swapped),
    }
    op, made = wrong[rule]
    monkeypatch.setitem(algebra_module.RULES, op, made)
    with pytest.raises(AssertionError, match="seed"):
        passes_hold(range(COUNT))


def test_a_graph_that_shares_nothing_is_the_same_twice():
    a, xs = make(7)
    b, ys = make(7)
    assert str(a) == str(b)
    assert all(same(x, y) for x, y in zip(xs, ys, strict=True))
    assert isinstance(a.lines[0], Line)
