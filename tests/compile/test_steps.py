"""From graphs to steps, chains and regions: every stage means what the graph means."""

import numpy as np
import pytest
import random_graphs

import wengert as wg
from wengert.compile import kernel as kernels
from wengert.compile.assemble import row_checks
from wengert.compile.backends import optimized
from wengert.compile.lower import Call, Loops, Product, Scatter, lower, run
from wengert.compile.schedule import Partial, predecessors, rows_of, schedule, touches
from wengert.compile.views import compact, is_window, reshaped, settled, views
from wengert.graph import Graph, Var, evaluate, verify
from wengert.ops.embedding import AddRows, Embedding
from wengert.ops.index import AddAt, Concatenate, GetItem, Pad, Write
from wengert.ops.linear import Broadcast, Reshape, Sum, Transpose
from wengert.transforms.staging import stage
from wengert.types import Aval

F4 = np.dtype(np.float32)


def everything(name, dtypes):
    """Whether the reference can have an operation in a kernel: all of them."""
    return all(d.char in "fdilq?" for d in dtypes)


def close(got, want, precision):
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    if want.dtype.kind not in "fc":
        np.testing.assert_array_equal(got, want)
        return
    scale = np.max(np.abs(want), where=np.isfinite(want), initial=1.0)
    np.testing.assert_allclose(got, want, rtol=precision, atol=precision * scale)


def precision(graph):
    """What rounding in the narrowest type on the way may change."""
    narrow = any(
        v.dtype == F4
        for line in graph.lines
        for v in (*line.outputs, *line.inputs)
        if hasattr(v, "dtype")
    )
    return 3e-5 if narrow else 1e-11


# ------------------------------------------------------------------ windows


def test_strides_of_reshapes_are_those_of_numpy():
    rng = np.random.default_rng(0)
    for _ in range(2000):
        shape = tuple(rng.integers(1, 5, rng.integers(1, 5)))
        a = np.arange(np.prod(shape)).reshape(shape).transpose(rng.permutation(len(shape)))
        if rng.random() < 0.3:
            a = a[::2]
        sizes, left = [], a.size
        while left > 1:
            sizes.append(int(rng.choice([k for k in range(2, left + 1) if left % k == 0])))
            left //= sizes[-1]
        if rng.random() < 0.5:
            sizes.insert(rng.integers(0, len(sizes) + 1), 1)
        found = reshaped(a.shape, tuple(s // a.itemsize for s in a.strides), tuple(sizes))
        b = a.reshape(sizes)
        if found is None:
            assert not np.shares_memory(a, b)
            continue
        steps = [s * a.itemsize for s in found]
        np.testing.assert_array_equal(np.lib.stride_tricks.as_strided(a, sizes, steps), b)


def test_a_settled_graph_has_windows_and_outputs_of_its_own():
    def f(x):
        y = np.transpose(x)
        return y.reshape(-1) * 2.0, y, x, x[:, 1:], np.transpose(y.reshape(6))

    graph = stage(f, np.arange(6.0).reshape(2, 3)).graph
    new = settled(graph)
    verify(new)
    seen = views(new)
    for v in new.outputs:
        assert seen[v.n].base is v
        assert v not in new.inputs
    assert len({v.n for v in new.outputs}) == len(new.outputs)
    for got, want in zip(evaluate(new, np.arange(6.0).reshape(2, 3)),
                         evaluate(graph, np.arange(6.0).reshape(2, 3))):  # fmt: skip
        np.testing.assert_array_equal(got, want)


def test_compact_strides():
    assert compact((2, 3, 4)) == (12, 4, 1)
    assert compact(()) == ()


# ------------------------------------------------------------------ steps


@pytest.mark.parametrize("start", range(0, 120, 20))
def test_steps_of_random_graphs_mean_the_graph(start):
    for seed in range(start, start + 20):
        graph, inputs = random_graphs.make(seed)
        steps = lower(graph, everything, ("f", "d"))
        with np.errstate(all="ignore"):
            want = evaluate(graph, *inputs)
        for got, w in zip(run(steps, inputs), want):
            close(got, w, precision(graph))


def test_softmax_cross_entropy_and_its_gradient_are_few_kernels():
    labels = np.array([1, 0, 2, 1])

    def f(x):
        loss, pull = wg.vjp(lambda x: wg.cross_entropy(x, labels), x)
        return loss, pull(np.float64(1.0))[0]

    graph, _ = optimized(stage(f, np.ones((4, 3))).graph)
    steps = lower(graph, everything)
    assert all(isinstance(s, Loops) for s in steps.steps)
    assert len(steps.steps) <= 3  # one pass over the rows, and the mean of what it found


def test_layer_norm_is_one_kernel():
    def f(x, g, b):
        m = np.mean(x, axis=-1, keepdims=True)
        v = np.mean((x - m) ** 2, axis=-1, keepdims=True)
        return (x - m) / np.sqrt(v + 1e-5) * g + b

    steps = lower(stage(f, np.ones((4, 6)), np.ones(6), np.ones(6)).graph, everything)
    assert len(steps.steps) == 1


def test_a_transposed_operand_needs_no_copy_before_a_product():
    graph = stage(lambda a, b: np.transpose(a) @ b, np.ones((3, 4)), np.ones((3, 5))).graph
    (step,) = lower(graph, everything, ("d",)).steps
    assert isinstance(step, Product)
    assert step.a.strides == (1, 4)


def test_updates_come_after_what_reads_the_old_value():
    def f(w, x):
        y = w * 2.0
        new = w - x
        return new, np.sum(y * x)

    graph = stage(f, np.ones(40_000), np.ones(40_000)).graph
    steps = lower(graph, everything, alias={0: 0})
    writer = max(
        k for k, s in enumerate(steps.steps) if any(v is steps.outputs[0] for v in s.writes)
    )
    readers = [k for k, s in enumerate(steps.steps) if any(v is steps.inputs[0] for v in s.reads())]
    assert max(readers) <= writer


# ------------------------------------------------------------------ parts


def one_line(op, *arrays):
    graph = Graph()
    xs = [graph.input(Aval.of(a)) for a in arrays]
    y = graph.emit(op, xs)
    graph.outputs = list(y) if isinstance(y, tuple) else [y]
    return graph


PARTS = {
    "joined": (Concatenate(1), np.ones((2, 1)), np.full((2, 3), 2.0), np.zeros((2, 0))),
    "joined, two types": (Concatenate(0), np.ones(2, np.float32), np.full(3, 2.0)),
    "padded": (Pad(((1, 2), (0, 1))), np.arange(6.0).reshape(2, 3)),
    "padded by nothing": (Pad(((0, 0),)), np.arange(3.0)),
    "written": (Write((GetItem((slice(1, None),)), GetItem((slice(None), 0)))),
                np.arange(12.0).reshape(4, 3), np.array([7.0, 8.0, 9.0])),
    "written through a transpose": (Write((Transpose((1, 0)), GetItem((slice(0, 2),)))),
                                    np.arange(6.0).reshape(2, 3), np.array(5.0)),
    "written backwards": (Write((GetItem((slice(None, None, -2),)),)),
                          np.arange(5.0), np.array([1.0, 2.0, 3.0])),
    "added": (AddAt(GetItem((slice(0, 3, 2),))), np.arange(4.0), np.array([10.0, 20.0])),
    "rows": (Embedding(), np.arange(12.0).reshape(4, 3), np.array([[3, 0], [1, 3]])),
    "rows of one number": (Embedding(), np.arange(4.0), np.array([3, 0, 3])),
    "rows summed": (AddRows(4), np.arange(6.0).reshape(3, 2), np.array([3, 0, 3])),
}  # fmt: skip


@pytest.mark.parametrize("name", PARTS)
def test_parts_are_put_together_without_python(name):
    op, *arrays = PARTS[name]
    graph = one_line(op, *arrays)
    steps = lower(graph, everything)
    assert not any(isinstance(s, Call) for s in steps.steps), steps
    for got, want in zip(run(steps, arrays), evaluate(graph, *arrays)):
        np.testing.assert_array_equal(got, want)


def test_rows_by_number_are_held_to_their_range_by_the_caller():
    graph = one_line(Embedding(), np.ones((4, 3)), np.array([3, 0]))
    assert row_checks(graph) == [(1, 4)]
    graph = one_line(AddRows(5), np.ones((2, 3)), np.array([3, 0]))
    assert row_checks(graph) == [(1, 5)]


def test_rows_whose_numbers_are_computed_stay_with_python():
    graph = stage(lambda t, i: t * 1.0, np.ones((4, 3)), np.array([1])).graph
    at = graph.emit(Embedding(), [graph.inputs[0], wg.ops.elementwise.add(graph.inputs[1], 1)])
    graph.outputs = [at]
    steps = lower(graph, everything)
    assert any(isinstance(s, Call) for s in steps.steps)


# ------------------------------------------------------------------ regions


def by_pieces(steps, regions, inputs, rng):
    """Run the pieces of each region in any order, as threads might."""
    store = {}
    for v, x in zip(steps.inputs, inputs):
        store[id(v)] = np.ascontiguousarray(x, dtype=v.dtype).reshape(-1).copy()

    def storage(base):
        if not isinstance(base, Var | Partial):
            return np.ascontiguousarray(base).reshape(-1)
        return store.setdefault(id(base), np.full(base.size, 77, base.dtype))

    def window(view):
        a = storage(view.base)
        strides = [s * a.itemsize for s in view.strides]
        return np.lib.stride_tricks.as_strided(a[view.offset :], view.shape, strides)

    def go(chain, piece):
        for s in chain.steps:
            rows = rows_of(s)
            each = rows // chain.rows * chain.block
            lo, hi = min(rows, piece * each), min(rows, (piece + 1) * each)
            if isinstance(s, Loops):
                kernels.evaluate(s.kernel, [storage(a) for a in s.args], lo, hi, piece)
            elif isinstance(s, Scatter):
                y = storage(s.out).reshape(s.out.shape[0], s.each)
                y[...] = 0
                np.add.at(y, window(s.at).reshape(-1), window(s.rows).reshape(s.count, s.each))
            else:
                lead = s.out.shape[:-2]
                y = np.matmul(window(s.a), window(s.b))
                whole = storage(s.out).reshape(s.out.shape)
                if np.prod(lead) > 1:
                    whole[lo:hi] = y[lo:hi]
                else:
                    flat = (-1, s.out.shape[-1])
                    whole.reshape(flat)[lo:hi] = y.reshape(flat)[lo:hi]

    with np.errstate(all="ignore"):
        for region in regions:
            if region.call is not None:
                s = region.call
                xs = [window(x) if hasattr(x, "base") and hasattr(x, "offset") else x
                      for x in s.inputs]  # fmt: skip
                ys = s.op.impl(*xs)
                for v, y in zip(s.outputs, ys if isinstance(ys, tuple) else (ys,)):
                    storage(v)[...] = np.asarray(y).reshape(-1)
                continue
            units = region.units()
            for k in rng.permutation(len(units)):
                go(*units[k])
    return [storage(y).reshape(y.shape) if isinstance(y, Var) else y for y in steps.outputs]


@pytest.fixture
def fine(monkeypatch):
    """Pieces as small as can be, so that small graphs have many."""
    monkeypatch.setattr("wengert.compile.schedule.GRAIN", 1e-6)
    monkeypatch.setattr("wengert.compile.schedule.ROWS", 1)


@pytest.mark.parametrize("start", range(0, 100, 20))
def test_pieces_of_random_graphs_in_any_order(start, fine):
    rng = np.random.default_rng(start)
    for seed in range(start, start + 20):
        graph, inputs = random_graphs.make(seed)
        steps = lower(graph, everything, ("f", "d"))
        with np.errstate(all="ignore"):
            want = evaluate(graph, *inputs)
        for got, w in zip(by_pieces(steps, schedule(steps), inputs, rng), want):
            close(got, w, precision(graph))


def mlp():
    model = wg.nn.Sequential(wg.nn.Linear(6, 8, rng=0), wg.nn.Tanh(), wg.nn.Linear(8, 4, rng=1))
    x = np.random.default_rng(0).standard_normal((12, 6)).astype(np.float32)
    y = np.arange(12) % 4

    def f(x, *ps):
        def loss(*ps):
            named = dict(zip([n for n, _ in model.named_parameters()], ps))
            return wg.cross_entropy(wg.functional_call(model, named, x), y)

        value, pull = wg.vjp(loss, *ps)
        return value, *pull(np.float32(1.0))

    inputs = [x, *[p.numpy() for p in model.parameters()]]
    graph, _ = optimized(stage(f, *inputs).graph)
    return graph, inputs


def test_a_network_is_a_chain_of_its_rows(fine):
    graph, inputs = mlp()
    steps = lower(graph, everything, ("f",))
    regions = schedule(steps)
    first = max(regions[0].chains, key=lambda c: len(c.steps))
    assert sum(isinstance(s, Product) for s in first.steps) == 3  # forward twice, and back once
    assert first.pieces == 12
    rng = np.random.default_rng(0)
    for got, want in zip(by_pieces(steps, regions, inputs, rng), evaluate(graph, *inputs)):
        close(got, want, 1e-5)


def test_every_step_waits_for_those_before_it(fine):
    for seed in range(40):
        graph, _ = random_graphs.make(seed)
        steps = lower(graph, everything, ("f", "d"))
        before = predecessors(steps.steps, [touches(s) for s in steps.steps])
        at = {}
        for k, region in enumerate(schedule(steps)):
            for c, chain in enumerate(region.chains):
                at.update({id(s): (k, c, n) for n, s in enumerate(chain.steps)})
        for s, earlier in zip(steps.steps, before):
            for p in earlier:
                mine, theirs = at.get(id(s)), at.get(id(steps.steps[p]))
                if mine and theirs:  # a step whose folds are in pieces has been made anew
                    later = theirs[:2] == mine[:2] and theirs[2] < mine[2]
                    assert theirs[0] < mine[0] or later, (steps.steps[p], s)


def test_broadcasts_and_sums_are_the_same_with_any_axes():
    rng = np.random.default_rng(0)
    for _ in range(200):
        shape = tuple(rng.integers(1, 4, rng.integers(1, 5)))
        axes = tuple(i for i in range(len(shape)) if rng.random() < 0.5)
        x = rng.standard_normal(shape)
        graph = Graph()
        v = graph.input(Aval.of(x))
        s = graph.emit(Sum(axes, bool(rng.random() < 0.5)), [wg.ops.elementwise.exp(v)])
        if s.shape == tuple(1 if i in axes else n for i, n in enumerate(shape)):
            wide = graph.emit(Broadcast(shape), [s])
            s = wg.ops.elementwise.mul(wide, v)
        if rng.random() < 0.3:
            s = wg.ops.elementwise.neg(graph.emit(Reshape((s.size,)), [s]))
        graph.outputs = [s]
        assert not any(is_window(line.op) and line.outputs[0] is s for line in graph.lines)
        steps = lower(graph, everything)
        for got, want in zip(run(steps, [x]), evaluate(graph, x)):
            close(got, want, 1e-12)
