"""Composites written out give what the operation's own `impl` does, at extreme operands too."""

import numpy as np
import pytest
from passes_checks import F32, graph_of, in_rows, same

from wengert.compile.passes.expand import COMPOSITE, POINTWISE, expand, label_checks
from wengert.graph import verify
from wengert.ops import elementwise as e
from wengert.ops.attention import Attention
from wengert.ops.contract import Affine
from wengert.ops.dropout import Dropout
from wengert.ops.fused import (
    CrossEntropy,
    LogSoftmax,
    LogSumExp,
    MeanCrossEntropy,
    Norm,
    Softmax,
    SquaredNorm,
)
from wengert.ops.linear import Reshape
from wengert.ops.losses import SoftCrossEntropy
from wengert.ops.norm import Normalize
from wengert.types import Aval

INF, NAN = np.inf, np.nan
ROWS = np.array(
    [
        [0.3, -1.2, 2.0, 0.1],
        [1e4, -1e4, 9.9e3, 0.0],  # large logits
        [-INF, -INF, -INF, -INF],
        [-INF, 1.0, 2.0, -INF],
        [INF, 1.0, 2.0, 3.0],
        [INF, INF, -INF, 0.0],
        [NAN, 1.0, 2.0, 3.0],
        [5.0, 5.0, 5.0, 5.0],  # constant
        [0.0, 0.0, 0.0, 0.0],
        [-0.0, 0.0, -0.0, 0.0],
        [1e-40, 2e-40, -1e-40, 0.0],
        [1e20, -1e20, 1e20, 3e19],  # squares overflow in single precision
        [1e-25, 2e-25, -1e-25, 3e-25],  # and underflow
    ]
)
HUGE = np.array([[1e200, -1e200, 1.0, 2.0], [1e-200, 3e-200, 0.0, -1e-200], [1e308, 1e308, 1, 1]])
LABELS = np.arange(len(ROWS)) % 4
WEIGHTS = np.abs(np.sin(np.arange(ROWS.size))).reshape(ROWS.shape) * (np.arange(4) != 1)
MASK = np.sin(np.arange(ROWS.size)).reshape(ROWS.shape) > 0

EXACT = [
    (Softmax(1), (ROWS,)),
    (Softmax(0), (ROWS[:2],)),
    (Softmax(1), (HUGE,)),
    (LogSoftmax(1), (ROWS,)),
    (LogSoftmax(0), (ROWS[:4],)),
    (LogSumExp((1,), False), (ROWS,)),
    (LogSumExp((1,), True), (ROWS,)),
    (LogSumExp((0, 1), False), (ROWS[:4],)),
    (CrossEntropy(), (ROWS, LABELS)),
    (CrossEntropy(), (ROWS[0], np.array(2))),
    (CrossEntropy(), (ROWS.reshape(1, 13, 4), LABELS.reshape(1, 13).astype(np.uint8))),
    (MeanCrossEntropy(), (ROWS[:2], LABELS[:2])),
    (MeanCrossEntropy(), (ROWS[[0, 1, 7, 8]].reshape(2, 2, 4), LABELS[:4].reshape(2, 2))),
    (SoftCrossEntropy(), (ROWS, WEIGHTS)),
    (SoftCrossEntropy(), (ROWS, WEIGHTS[0])),
    (Normalize((0,), 1e-5), (ROWS[:, :2],)),
    (Normalize((0, 1), 1e-5), (ROWS[[0, 1, 7]],)),
    (Normalize((0,), 1e-5, False), (ROWS,)),
    (Dropout(1.25), (ROWS, MASK)),
    (Dropout(2.0), (ROWS, MASK[:, :1])),
    (Norm((1,), False), (ROWS,)),
    (Norm((1,), True), (HUGE,)),
    (Norm((0, 1), False), (ROWS[[0, 8]],)),
    (SquaredNorm((1,), False), (ROWS,)),
    (SquaredNorm((1,), True), (HUGE,)),
    (Affine(), (ROWS, np.ones((4, 3)), np.array([0.5, -0.0, INF]))),
    (e.by_cosh2, (ROWS, ROWS[::-1] / 100)),
    (e.abs2, (ROWS,)),
    (e.relu, (ROWS,)),
    (e.elu, (ROWS,)),
    (e.log_sigmoid, (ROWS,)),
    (e.turn, (ROWS, ROWS[::-1])),
]
Q, K, W = (np.sin(np.arange(24.0) * s).reshape(2, 3, 4) for s in (1.0, 2.0, 3.0))
BIAS = np.zeros((3, 3))
BIAS[1] = -INF  # a query that no key is left to
BIAS[2, 0] = -INF
ROUNDED = [  # a sum in place of a dot product: a few ulps, where nothing over- or underflows
    (Normalize((1,), 1e-5), (ROWS,)),
    (Normalize((1,), 1e-5, False), (ROWS,)),
    (Norm((0, 1), False, True), (ROWS[[0, 7]],)),
    (Norm((0, 1), False, True), (HUGE,)),
    (Attention(0.5), (Q, K, W, BIAS)),
    (Attention(0.5), (Q * 1e4, K * 1e4, np.abs(W), BIAS)),
    (Attention(0.5, True), (Q, K, W, np.array(0.0))),
    (SquaredNorm((0, 1), True, True), (ROWS[[0, 1]],)),
]


def written_out(op, xs):
    """(the graph, the expanded one, what each gives)."""
    g = graph_of(lambda do, *vs: do(op, *vs), *[Aval.of(x) for x in xs])
    before = str(g)
    made = expand(g, {**COMPOSITE, **POINTWISE})
    verify(made)
    assert str(g) == before
    left = {type(line.op) for line in made.lines} | {line.op for line in made.lines}
    assert not left & ({*COMPOSITE} | {*POINTWISE}), "it was not expanded"
    return in_rows(made, *xs)[0], in_rows(g, *xs)[0]


def single(xs):
    with np.errstate(over="ignore", under="ignore"):
        return [x.astype(F32) if x.dtype == np.float64 else x for x in xs]


@pytest.mark.parametrize("dtype", ["double", "single"])
@pytest.mark.parametrize(("op", "xs"), EXACT, ids=lambda v: repr(v) if hasattr(v, "impl") else "")
def test_to_the_bit(op, xs, dtype):
    got, want = written_out(op, xs if dtype == "double" else single(xs))
    assert same(got, want), f"{got!r}\n{want!r}"


@pytest.mark.parametrize("dtype", ["double", "single"])
@pytest.mark.parametrize(("op", "xs"), ROUNDED, ids=lambda v: repr(v) if hasattr(v, "impl") else "")
def test_to_a_few_ulps(op, xs, dtype):
    got, want = written_out(op, xs if dtype == "double" else single(xs))
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    ok = ~np.isnan(want)
    np.testing.assert_array_max_ulp(np.asarray(got)[ok], np.asarray(want)[ok], 4)


def test_every_entry_is_tested():
    tested = {type(op) for op, _ in EXACT + ROUNDED} | {op for op, _ in EXACT}
    assert set(COMPOSITE) | set(POINTWISE) <= tested


def test_labels_that_come_from_an_input_are_named_to_the_caller():
    def f(do, a, b, c):
        flat = do(Reshape((6,)), b)
        return do(CrossEntropy(), a, flat), do(MeanCrossEntropy(), a, c)

    i64 = np.dtype(np.int64)
    g = graph_of(f, (6, 5), Aval((2, 3), i64), Aval((6,), i64))
    assert [c[:3] for c in label_checks(g)] == [(1, 5, None), (2, 5, None)]
    made = expand(g)
    assert not any(isinstance(line.op, CrossEntropy | MeanCrossEntropy) for line in made.lines)


@pytest.mark.parametrize("dtype", ["int64", "int32", "int8", "uint8"])
def test_a_label_that_is_none_is_named_to_the_caller(dtype):
    """0 is in its place, and the caller lets it pass."""

    def f(do, a, b):
        c = do(e.copy, do(e.where, do(e.ne, b, -100), b, 0))
        return do(CrossEntropy(), a, do(Reshape((6,)), c))

    g = graph_of(f, (6, 5), Aval((2, 3), np.dtype(dtype)))
    assert [c[:3] for c in label_checks(g)] == [(1, 5, -100)]
    assert not any(isinstance(line.op, CrossEntropy) for line in expand(g).lines)


@pytest.mark.parametrize("labels", [
    lambda do, b, c: do(e.where, do(e.ne, b, -100), b, 1),  # another number in its place
    lambda do, b, c: do(e.where, do(e.ne, c, -100), b, 0),  # where another input is none
    lambda do, b, c: do(e.where, do(e.eq, b, -100), b, 0),  # the others are none
    lambda do, b, c: do(e.where, do(e.ne, b, -100), b, c),
    lambda do, b, c: do(e.where, do(e.ne, b, c), b, 0),
    lambda do, b, c: do(e.add, do(e.where, do(e.ne, b, -100), b, 0), 0),
    lambda do, b, c: do(e.where, do(e.ne, do(e.where, do(e.ne, b, 7), b, 0), 8),
                        do(e.where, do(e.ne, b, 7), b, 0), 0),
])  # fmt: skip
def test_other_labels_that_are_computed_are_not(labels):
    i64 = Aval((6,), np.dtype(np.int64))
    g = graph_of(lambda do, a, b, c: do(CrossEntropy(), a, labels(do, b, c)), (6, 5), i64, i64)
    assert label_checks(g) == []
    assert [type(line.op) for line in expand(g).lines][-1] is CrossEntropy


def test_labels_that_cannot_be_checked_before_stay_with_the_operation():
    def computed(do, a, b):
        return do(CrossEntropy(), a, do(e.add, b, 1))

    g = graph_of(computed, (6, 5), Aval((6,), np.dtype(np.int64)))
    assert label_checks(g) == []
    assert [type(line.op) for line in expand(g).lines][-1] is CrossEntropy
    wrong = np.array([0, 1, 5])  # it refuses when it runs
    g = graph_of(lambda do, a: do(CrossEntropy(), a, wrong), (3, 5))
    assert [type(line.op) for line in expand(g).lines] == [CrossEntropy]


def test_what_has_no_sum_stays():
    g = graph_of(lambda do, a: do(Softmax(1), a), (3, 0))
    assert len(expand(g).lines) == 1
    g = graph_of(lambda do, a: do(LogSumExp((0,), False), a), Aval((3,), np.dtype(int)))
    assert len(expand(g).lines) == 1
