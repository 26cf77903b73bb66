"""A program of NumPy calls: eager mode's numbers to the bit, and no memory but its arena."""

import threading
import tracemalloc

import numpy as np
import pytest
from passes_checks import F32, F64, assert_same, graph_of

from wengert import testing
from wengert.compile.backends.numpy import build
from wengert.compile.memory import check
from wengert.compile.passes.expand import COMPOSITE, POINTWISE, label_checks
from wengert.compile.passes.pipeline import optimize
from wengert.errors import AxisError, ShapeError
from wengert.graph import Graph, evaluate
from wengert.ops import elementwise as e
from wengert.ops.contract import Affine, matmul
from wengert.ops.fused import CrossEntropy, MeanCrossEntropy
from wengert.ops.index import AddAt, GetItem, Write
from wengert.ops.linear import Broadcast, Cast, Cumsum, Reshape, Sum, Transpose
from wengert.trace import OPS
from wengert.types import Aval

TABLE = {**COMPOSITE, **POINTWISE}
RNG = np.random.default_rng(0)


def runs(g, *arrays, twice=True, **kw):
    """The program of a graph, checked against evaluate, more than once."""
    program = build(g, **kw)
    check(program.plan)
    with np.errstate(all="ignore"):
        want = evaluate(g, *[a.copy() for a in arrays])
    for _ in range(2):
        assert_same(program(*[a.copy() for a in arrays]), want, program.source)
    return program


# ------------------------------------------------------------------ every operation


def in_single(xs):
    return [x.astype(F32) if x.dtype == F64 else x for x in xs]


@pytest.mark.parametrize("name", sorted(OPS))
def test_every_operation(name):
    """Alone, and after the pipeline, at all its examples."""
    for op, operands in testing.examples(name):
        for xs in (list(operands), in_single(operands)):
            g = Graph()
            y = g.emit(op, [g.input(Aval.of(x)) for x in xs])
            g.outputs = list(y) if isinstance(y, tuple) else [y]
            runs(g, *xs)
            made = optimize(g, table=TABLE, debug=True)
            got = runs(made, *xs)(*xs)
            with np.errstate(all="ignore"):
                want = evaluate(g, *xs)
            for a, b in zip(got, want, strict=True):
                if name in ("Normalize", "Norm", "SquaredNorm"):  # the rounding that expand states
                    np.testing.assert_allclose(a, b, rtol=8 * np.finfo(a.dtype).eps)
                else:
                    assert_same([a], [b], name)


# ------------------------------------------------------------------ layouts


def test_sums_of_transposed_values_add_up_as_eager_ones():
    def f(do, x):
        y = do(e.exp, do(Transpose((2, 0, 1)), x))
        z = do(e.mul, y, do(e.sin, y))
        return (
            do(Sum((0, 1, 2), False), z), do(Sum((1,), True), z),
            do(Sum((0,), False), do(Reshape((35, 13)), z)),
            do(matmul, z, do(Transpose((0, 2, 1)), z)),
        )  # fmt: skip

    x = RNG.standard_normal((7, 13, 5)).astype("f")
    runs(graph_of(f, Aval.of(x)), x)


def test_a_value_that_runs_backwards():
    def f(do, x):
        y = do(Cumsum(1, True), x)
        return do(Sum((0, 1), False), do(e.exp, y)), do(Reshape((60,)), do(Transpose((1, 0)), y))

    x = RNG.standard_normal((6, 10)).astype("f")
    runs(graph_of(f, Aval.of(x)), x)


def test_a_broadcast_is_copied_for_a_sum_and_not_for_a_product_of_numbers():
    def f(do, x):
        wide = do(Broadcast((300, 40)), x)
        return do(Sum((0, 1), False), wide)

    x = RNG.standard_normal((300, 1)).astype("f")
    program = runs(graph_of(f, Aval.of(x)), x)
    assert program.plan.size == 300 * 40 * 4

    def g(do, x):
        return do(e.mul, do(Broadcast((300, 40)), do(e.exp, x)), 2.0)

    assert runs(graph_of(g, Aval.of(x)), x).plan.size < 2000


def test_inputs_of_another_layout_are_copied():
    g = graph_of(lambda do, x: do(e.exp, do(Reshape((6,)), x)), (2, 3))
    x = np.asfortranarray(RNG.standard_normal((2, 3)))
    assert_same(build(g)(x), evaluate(g, np.ascontiguousarray(x)))


# ------------------------------------------------------------------ results


def test_results_are_new_arrays_that_a_later_call_leaves_alone():
    def f(do, x):
        a = do(e.exp, x)
        b = do(e.sin, a)
        return a, do(Reshape((2, 2)), b), x, do(Transpose((0,)), x), b, b, np.arange(3.0)

    g = graph_of(f, (4,))
    program = runs(g, np.arange(4.0))
    x = np.arange(4.0)
    first = program(x)
    kept = [y.copy() for y in first]
    second = program(x + 1)
    assert_same(first, kept)
    everything = [*first, *second, x, program.arena]
    for i, a in enumerate(everything):
        for b in everything[:i]:
            assert not np.may_share_memory(a, b)


def test_results_into_given_arrays():
    g = graph_of(lambda do, x: (do(e.exp, x), do(Transpose((1, 0)), do(e.sin, x))), (2, 3))
    program = build(g)
    x = RNG.standard_normal((2, 3))
    out = [np.empty((2, 3)), np.empty((3, 2), order="F")]
    got = program(x, out=out)
    assert got[0] is out[0]
    assert got[1] is out[1]
    assert_same(out, evaluate(g, x))
    with pytest.raises(ShapeError, match=r"output 1 .*\n.*|output 1"):
        program(x, out=[np.empty((2, 3)), np.empty((2, 3))])


def test_a_given_array_of_another_layout_is_filled_all_the_same():
    def f(do, x):
        y = do(matmul, x, np.ones((4, 5)))
        return do(Reshape((30,)), do(Transpose((2, 1, 0)), y)), y

    g = graph_of(f, (2, 3, 4))
    out = [np.empty(60)[::2], np.empty((5, 3, 2)).T]
    x = RNG.standard_normal((2, 3, 4))
    build(g)(x, out=out)
    assert_same(out, evaluate(g, x))


def test_a_graph_of_nothing():
    g = graph_of(lambda do, x: x, (3,))
    program = runs(g, np.arange(3.0))
    x = np.arange(3.0)
    assert program(x)[0] is not x


# ------------------------------------------------------------------ donation


def test_an_updated_state_takes_the_memory_of_the_old_one():
    def f(do, w, g):
        h = do(matmul, w, g)
        return do(e.sub, w, do(e.mul, h, 0.1)), do(Sum((0, 1), False), h)

    g = graph_of(f, (3, 3), (3, 3))
    program = build(g, donate={0: 0})
    w, x = RNG.standard_normal((3, 3)), RNG.standard_normal((3, 3))
    want = evaluate(g, w.copy(), x)
    got = program(w, x)
    assert got[0] is w
    assert_same(got, want)
    assert "copyto" not in program.source


@pytest.mark.parametrize(
    "f",
    [
        lambda do, w, v: (do(e.add, w, v), do(Sum((0, 1), False), w)),  # read later
        lambda do, w, v: (do(matmul, w, v), v),  # read while it is written
        lambda do, w, v: (do(e.add, do(Transpose((1, 0)), w), v), v),  # through a view
        lambda do, w, v: (do(e.add, w, v), w),  # an output itself
        lambda do, w, v: (do(e.mul, w, 2.0), do(e.add, do(GetItem((0,)), w), v)),
        lambda do, w, v: (do(e.exp, do(Transpose((1, 0)), w)), v),
        lambda do, w, v: (w, v),
        lambda do, w, v: (v, w),  # they change places
        lambda do, w, v: (do(Transpose((1, 0)), v), do(Transpose((1, 0)), w)),
    ],
)
def test_donated_memory_is_not_written_too_early(f):
    g = graph_of(f, (3, 3), (3, 3))
    w, v = RNG.standard_normal((3, 3)), RNG.standard_normal((3, 3))
    want = evaluate(g, w.copy(), v.copy())
    both = {0: 0, 1: 1} if g.outputs[1].aval == g.inputs[1].aval else {0: 0}
    for given in ({0: 0}, both):
        program = build(g, donate=given)
        a, b = w.copy(), v.copy()
        got = program(a, b)
        assert_same(got, want, program.source)
        assert got[0] is a
        a, b = w.copy(), v.copy()
        out = [a if 0 in given else np.empty((3, 3)), np.empty(g.outputs[1].shape)]
        assert_same(program(a, b, out=out), want)


def test_a_read_only_input_is_not_written():
    program = build(graph_of(lambda do, w: do(e.exp, w), (3,)), donate={0: 0})
    w = np.zeros(3)
    w.flags.writeable = False
    got = program(w)
    assert got[0] is not w
    np.testing.assert_array_equal(w, 0.0)
    np.testing.assert_array_equal(got[0], 1.0)


def test_a_donation_of_another_type_is_refused():
    with pytest.raises(ValueError, match="the types differ"):
        build(graph_of(lambda do, w: do(Sum((0,), False), w), (3,)), donate={0: 0})


# ------------------------------------------------------------------ in place


def test_writes_into_a_value_that_dies_are_in_place():
    def f(do, x, v):
        y = do(e.exp, x)
        for k in range(4):
            y = do(Write((GetItem((k,)),)), y, v)
            y = do(AddAt(GetItem((slice(k, None),))), y, 1.0)
        return do(Sum((0, 1), False), do(Transpose((1, 0)), y))

    x, v = RNG.standard_normal((5, 100)), RNG.standard_normal(100)
    program = runs(graph_of(f, (5, 100), (100,)), x, v)
    assert program.plan.size == -(-x.nbytes // 64) * 64


def test_a_write_of_a_part_of_itself_is_not_in_place():
    def f(do, x):
        y = do(e.exp, x)
        return do(Write((GetItem((slice(1, None),)),)), y, do(GetItem((slice(0, -1),)), y))

    runs(graph_of(f, (6,)), np.arange(6.0))


def test_where_writes_over_what_it_keeps():
    def f(do, x):
        y = do(e.exp, x)
        z = do(e.sin, x)
        a = do(e.where, do(e.gt, x, 0.0), z, y)  # y is kept where x <= 0
        b = do(e.where, do(e.gt, x, 0.5), do(e.cos, x), 0.0)
        return do(Sum((0,), False), a), do(Sum((0,), False), b)

    runs(graph_of(f, (50,)), RNG.standard_normal(50))


# ------------------------------------------------------------------ memory


BUFFER = 40_000  # NumPy's iterator holds one of 8192 elements while it broadcasts a bias


def mlp(do, x, w1, b1, w2, b2):
    h = do(e.tanh, do(Affine(), x, w1, b1))
    y = do(e.sub, do(Affine(), h, w2, b2), 0.5)
    g = do(e.mul, y, 2.0 / 256)
    gh = do(e.by_cosh2, do(matmul, g, do(Transpose((1, 0)), w2)), h)
    loss = do(Sum((0, 1), False), do(e.square, y))
    gw2, gw1 = do(matmul, do(Transpose((1, 0)), h), g), do(matmul, do(Transpose((1, 0)), x), gh)
    gb2, gb1 = do(Sum((0,), False), g), do(Sum((0,), False), gh)
    new = [
        do(e.sub, p, do(e.mul, d, 0.1))
        for p, d in ((w1, gw1), (b1, gb1), (w2, gw2), (b2, gb2))
    ]  # fmt: skip
    return (loss, *new)


def traced(call):
    """(bytes of arrays that stay, most bytes of anything at one time) of a call, and its result."""
    domain = np.lib.tracemalloc_domain
    tracemalloc.start()
    try:
        before = tracemalloc.take_snapshot()
        tracemalloc.reset_peak()
        start = tracemalloc.get_traced_memory()[0]
        result = call()
        high = tracemalloc.get_traced_memory()[1] - start
        after = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
    only = [tracemalloc.DomainFilter(inclusive=True, domain=domain)]
    held = sum(s.size for s in after.filter_traces(only).statistics("filename"))
    held -= sum(s.size for s in before.filter_traces(only).statistics("filename"))
    return held, high, result


def test_a_call_allocates_its_results_alone():
    shapes = [(256, 300), (300, 200), (200,), (200, 100), (100,)]
    xs = [RNG.standard_normal(s).astype("f") for s in shapes]
    g = optimize(graph_of(mlp, *[Aval(s, F32) for s in shapes]), table=TABLE)
    program = runs(g, *xs)
    assert program.allocating == ()
    program(*xs)
    held, high, results = traced(lambda: program(*xs))
    size = sum(y.nbytes for y in results)
    assert held == size
    assert BUFFER < 256 * 100 * 4  # the smallest value of a layer
    assert high < size + BUFFER
    assert traced(lambda: evaluate(g, *xs))[1] > size + program.plan.lower_bound


def test_a_call_with_donated_state_allocates_nothing():
    shapes = [(256, 300), (300, 200), (200,), (200, 100), (100,)]
    xs = [RNG.standard_normal(s).astype("f") for s in shapes]
    g = optimize(graph_of(mlp, *[Aval(s, F32) for s in shapes]), table=TABLE)
    program = build(g, donate={k: k for k in range(1, 5)})
    program(*xs)
    held, high, results = traced(lambda: program(*xs))
    assert held == results[0].nbytes == 4
    assert high < BUFFER


def test_the_arena_is_what_is_used_of_it():
    """Filled with a pattern, the arena is overwritten up to its planned size, and not after."""
    shapes = [(256, 300), (300, 200), (200,), (200, 100), (100,)]
    xs = [RNG.standard_normal(s).astype("f") for s in shapes]
    g = optimize(graph_of(mlp, *[Aval(s, F32) for s in shapes]), table=TABLE)
    program = build(g)
    want = [y.copy() for y in program(*xs)]
    program.arena[...] = 0xA5
    assert_same(program(*xs), want)  # nothing in it is needed from one call to the next
    used = np.flatnonzero(program.arena != 0xA5)
    assert len(program.arena) == program.plan.size
    assert program.plan.size - 256 <= used.max() < program.plan.size
    assert program.plan.size <= 1.05 * program.plan.lower_bound


def test_operations_that_allocate_are_named():
    def f(do, x):
        return do(e.add, do(e.erf, x), do(OPS["Cumprod"](0), x))

    program = runs(graph_of(f, (5,)), RNG.standard_normal(5))
    assert program.allocating == ("erf", "Cumprod")


# ------------------------------------------------------------------ numbers and errors


def test_floating_point_flags_are_quiet():
    g = graph_of(lambda do, x: (do(e.log, x), do(e.div, x, x), do(e.exp, x)), (3,))
    x = np.array([-1.0, 0.0, 1e5])
    assert_same(build(g)(x), runs(g, x)(x))


def test_python_numbers_yield_to_the_dtype():
    def f(do, x, i):
        return (
            do(e.mul, x, 0.1), do(e.add, i, 3), do(e.mul, i, 0.5), do(e.gt, i, 2.5),
            do(e.lt, i, 300), do(e.pow, x, 2), do(e.maximum, x, 0),
        )  # fmt: skip

    x, i = RNG.standard_normal(4).astype(np.float16), np.arange(4, dtype=np.int8)
    runs(graph_of(f, Aval.of(x), Aval.of(i)), x, i)


def test_mixed_dtypes():
    def f(do, x, y):
        z = do(matmul, x, y)
        return z, do(Affine(), x, y, np.ones(2)), do(Cast(F32), z), do(e.add, do(e.exp, x), 1j)

    x, y = RNG.standard_normal((3, 4)).astype("f"), RNG.standard_normal((4, 2))
    runs(graph_of(f, Aval.of(x), Aval.of(y)), x, y)


def test_a_wrong_input_is_refused():
    program = build(graph_of(lambda do, x: do(e.exp, x), (3,)))
    with pytest.raises(ShapeError, match=r"input 0 .*|compiled for float64\[3\]"):
        program(np.ones(4))
    with pytest.raises(ShapeError):
        program(np.ones(3, "f"))


def test_a_refusal_names_the_operation_and_its_operands():
    labels = Aval((3,), np.dtype(np.int64))
    g = graph_of(lambda do, x, b: do(CrossEntropy(), do(e.mul, x, 2.0), b), (3, 5), labels)
    program = build(g)
    with pytest.raises(AxisError, match="label 5 is outside the 5 classes") as got:
        program(np.ones((3, 5)), np.array([0, 5, 1]))
    text = str(got.value)
    assert "cross_entropy(logits, labels)" in text
    assert "float64[3, 5]" in text
    assert "int64[3]" in text
    program(np.ones((3, 5)), np.array([0, 4, 1]))  # and works again


def test_threads_wait_for_each_other():
    g = graph_of(lambda do, x: do(Sum((0,), False), do(e.exp, do(e.sin, x))), (2000,))
    program = build(g)
    xs = [RNG.standard_normal(2000) for _ in range(4)]
    want = [evaluate(g, x)[0] for x in xs]
    wrong = []

    def work(k):
        wrong.extend(k for _ in range(200) if program(xs[k])[0] != want[k])

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_it_is_readable():
    g = graph_of(lambda do, x: do(Sum((0,), False), do(e.exp, x)), (3,))
    program = build(g)
    assert program.source == (
        "def run(x0, r0):\n    f0(x0, v1)\n    f1(v1, a0, d0, r0, False)"
    )  # fmt: skip
    assert repr(program) == "Program(2 lines, arena of 64 bytes)"


def test_mean_cross_entropy_after_the_pipeline():
    labels = np.array([1, 0, 4])
    g = graph_of(lambda do, x, b: do(MeanCrossEntropy(), x, b), (3, 5), Aval.of(labels))
    x = RNG.standard_normal((3, 5))
    program = build(optimize(g, table=TABLE))
    assert program.allocating == ()
    assert_same(program(x, labels), [np.asarray(evaluate(g, x, labels)[0])])


@pytest.mark.parametrize("wrong", [5, -1])
def test_labels_are_held_to_their_range_after_the_pipeline(wrong):
    def f(do, x, b):
        return do(MeanCrossEntropy(), x, do(Reshape((4,)), b))

    labels = np.array([[1, 0], [4, 2]])
    g = graph_of(f, (4, 5), Aval.of(labels))
    program = build(optimize(g, table=TABLE), labels=label_checks(g))
    x = RNG.standard_normal((4, 5))
    assert_same(program(x, labels), [np.asarray(evaluate(g, x, labels)[0])])
    labels[1, 0] = wrong
    with pytest.raises(AxisError, match=rf"label {wrong} is outside the 5 classes"):
        program(x, labels)
