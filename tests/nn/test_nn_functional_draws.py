"""What draws at random, rows of tables, and activations at their kinks and ends."""

import math

import numpy as np
import pytest

import wengert as wg
from wengert.errors import AxisError, DTypeError, OptionError, ShapeError
from wengert.nn import functional as F
from wengert.ops.embedding import AddRows, Embedding

rng = np.random.default_rng(0)


# ------------------------------------------------------------------ dropout


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_dropout_keeps_the_mean_and_its_gradient_is_the_mask(p):
    x = wg.tensor(np.ones((400, 100)), requires_grad=True)
    y = F.dropout(x, p, rng=1)
    kept = y.numpy() != 0
    n = kept.size
    assert abs(kept.sum() - n * (1 - p)) <= 5 * math.sqrt(n * p * (1 - p))
    if p < 1:
        np.testing.assert_allclose(y.numpy()[kept], 1 / (1 - p), rtol=1e-15)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.numpy())
    assert F.dropout(x, p, training=False) is x


def test_what_is_left_out_may_be_infinite():
    x = np.full(100, np.inf)
    y = F.dropout(x, 0.5, rng=0)
    assert set(np.unique(y)) == {0, np.inf}


def test_draws_can_be_repeated_and_go_on():
    x = np.ones(50)
    np.testing.assert_array_equal(F.dropout(x, rng=3), F.dropout(x, rng=3))
    stream = wg.random.generator(3)
    a, b = F.dropout(x, rng=stream), F.dropout(x, rng=stream)
    assert (a != b).any()
    wg.random.seed(5)
    a = F.dropout(x)
    wg.random.seed(5)
    np.testing.assert_array_equal(F.dropout(x), a)


def test_a_checkpoint_leaves_out_the_same_places():
    stream = wg.random.generator(0)
    x = wg.tensor(rng.standard_normal((20, 30)), requires_grad=True)
    w = rng.standard_normal((20, 30))

    def block(x):
        return np.tanh(F.dropout(np.sin(x), 0.5, rng=stream)) * w

    before = stream.bit_generator.state
    block(x).sum().backward()
    want = x.grad.numpy().copy()
    stream.bit_generator.state = before
    x.grad = None
    wg.checkpoint(block)(x).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), want)


def test_lanes_of_a_vmap_have_masks_of_their_own():
    y = wg.vmap(lambda x: F.dropout(x, 0.5, rng=0))(np.ones((4, 64)))
    assert len(np.unique(y, axis=0)) == 4
    shared = wg.vmap(lambda x, s: x * F.dropout(s, 0.5, rng=0), in_axes=(0, None))
    y = shared(np.ones((4, 64)), np.ones(64))
    assert len(np.unique(y, axis=0)) == 1
    per = wg.vmap(wg.grad(lambda x: F.dropout(x, 0.5, rng=0).sum()))(np.ones((4, 64)))
    assert len(np.unique(per, axis=0)) == 4


@pytest.mark.parametrize(("name", "axes"), [("dropout1d", 1), ("dropout2d", 2), ("dropout3d", 3)])
def test_whole_channels(name, axes):
    x = np.ones((6, *(3,) * axes, 8))
    y = getattr(F, name)(x, 0.5, rng=0)
    flat = y.reshape(6, -1, 8)
    assert (flat == flat[:, :1]).all()
    assert 0 < (flat[:, 0] == 0).mean() < 1
    with pytest.raises(ShapeError, match="channels last"):
        getattr(F, name)(np.ones(4))


def test_alpha_dropout_keeps_mean_and_variance():
    x = rng.standard_normal(400_000)
    y = F.alpha_dropout(x, 0.3, rng=0)
    assert abs(y.mean()) < 0.01
    assert abs(y.var() - 1) < 0.01
    z = F.feature_alpha_dropout(np.ones((5, 4, 3)), 0.5, rng=0)
    assert (z == z[:, :1]).all()


def test_stochastic_depth_leaves_out_samples():
    y = F.stochastic_depth(np.ones((50, 3, 4)), 0.4, rng=0).reshape(50, -1)
    assert (y == y[:, :1]).all()
    assert set(np.unique(y)) == {0, 1 / 0.6}
    with pytest.raises(OptionError, match="probability"):
        F.stochastic_depth(y, -0.1)


def test_gumbel_softmax_samples_the_distribution():
    logits = np.log([0.2, 0.5, 0.3])
    many = np.broadcast_to(logits, (40_000, 3))
    hard = np.asarray(F.gumbel_softmax(many, hard=True, rng=0))
    np.testing.assert_allclose(hard.sum(1), 1)
    np.testing.assert_allclose(hard.mean(0), [0.2, 0.5, 0.3], atol=5 * 0.5 / 200)
    f = lambda l, hard: (F.gumbel_softmax(l, 0.7, hard, rng=1) * np.array([1.0, 2.0, 4.0])).sum()
    soft = wg.grad(lambda l: f(l, False))(logits)
    np.testing.assert_allclose(wg.grad(lambda l: f(l, True))(logits), soft)
    first = np.asarray(F.gumbel_softmax(rng.standard_normal((3, 4)), hard=True, axis=0, rng=0))
    np.testing.assert_allclose(first.sum(0), 1)


# ------------------------------------------------------------------ tables


@pytest.mark.parametrize("shape", [(5,), (2, 3), ()])
def test_embedding_is_a_product_with_one_hot_rows(shape):
    table, index = rng.standard_normal((4, 3)), rng.integers(0, 4, shape)
    ones = F.one_hot(index, 4, float)
    np.testing.assert_array_equal(F.embedding(index, table), ones @ table)
    gy = rng.standard_normal((*shape, 3))
    got = wg.vjp(lambda t: F.embedding(index, t), table)[1](gy)[0]
    want = wg.vjp(lambda t: ones @ t, table)[1](gy)[0]
    np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-15)


def test_a_padding_row_gets_no_gradient():
    table = rng.standard_normal((4, 3))
    for pad in (1, -3):
        g = wg.grad(lambda t, pad=pad: (F.embedding([1, 1, 2], t, pad) ** 2).sum())(table)
        np.testing.assert_array_equal(g[[0, 1, 3]], 0)
        np.testing.assert_allclose(g[2], 2 * table[2])
    np.testing.assert_array_equal(F.embedding([1], table, 1)[0], table[1])


def test_numbers_outside_the_table_are_named():
    table = np.ones((4, 3))
    with pytest.raises(AxisError, match=r"row 9 at \[1, 0\] is outside the table of 4 rows"):
        F.embedding([[0, 1], [9, 2]], table)
    with pytest.raises(AxisError, match="row -1 at"):
        F.embedding([-1], table)
    with pytest.raises(DTypeError, match="integers"):
        F.embedding(np.array([1.0]), table)
    with pytest.raises(AxisError, match="row 4"):
        wg.vmap(lambda t: F.embedding([4], t))(np.ones((2, 4, 3)))


def test_a_table_for_each_lane():
    tables, index = rng.standard_normal((3, 4, 2)), rng.integers(0, 4, (3, 5))
    y = wg.vmap(lambda t, i: F.embedding(i, t))(tables, index)
    np.testing.assert_array_equal(y, [t[i] for t, i in zip(tables, index)])
    big = AddRows(1000)(np.ones((5000, 3)), np.arange(5000) % 1000)
    np.testing.assert_array_equal(big, 5)
    assert Embedding()(np.ones((4, 0)), np.array([1])).shape == (1, 0)


def test_bags():
    table = rng.standard_normal((5, 2))
    index = np.array([0, 1, 4, 4, 2])
    y = F.embedding_bag(index, table, [0, 2, 2], mode="sum", weight=np.arange(5.0))
    want = [table[1], np.zeros(2), 2 * table[4] + 3 * table[4] + 4 * table[2]]
    np.testing.assert_allclose(y, want, rtol=1e-14)
    mean = F.embedding_bag(index, table, [0, 2, 5])
    np.testing.assert_allclose(mean[1], table[[4, 4, 2]].mean(0))
    np.testing.assert_array_equal(mean[2], 0)
    with pytest.raises(OptionError, match="rise from 0"):
        F.embedding_bag(index, table, [1, 2])
    with pytest.raises(ShapeError, match="flat with offsets"):
        F.embedding_bag(index, table)


# ------------------------------------------------------------------ activations


@pytest.mark.parametrize(
    ("f", "at", "slope"),
    [
        (F.relu6, [0, 6], 0), (F.hardtanh, [-1, 1], 0), (F.hardsigmoid, [-3, 3], 0),
        (F.leaky_relu, [0], 0.01), (lambda x: F.elu(x, 0.5), [0], 0.5), (F.elu, [0], 1),
        (F.celu, [0], 1), (lambda x: F.celu(x, 2.0), [0], 1), (F.softshrink, [-0.5, 0.5], 0),
        (F.hardswish, [-3], 0), (F.hardswish, [3], 1),
    ],
)  # fmt: skip
def test_slopes_at_kinks_are_those_nearest_to_0(f, at, slope):
    g = wg.grad(lambda x: f(x).sum())(np.array(at, float))
    np.testing.assert_allclose(g, slope, rtol=1e-15)


@pytest.mark.parametrize(
    "f", [F.silu, F.gelu, F.mish, F.softsign, F.elu, F.tanhshrink, F.softplus, F.selu, F.celu,
          lambda x: F.gelu(x, "tanh")],
)  # fmt: skip
@pytest.mark.parametrize("end", [np.inf, -np.inf, 1e300, -1e300])
def test_three_derivatives_far_out(f, end):
    g = f
    with np.errstate(over="ignore", under="ignore"):
        for k in range(3):
            g = wg.grad(lambda x, g=g: g(x).sum())
            y = g(np.array([end]))
            assert np.isfinite(y).all()
            assert k == 0 or not y.any()


def test_gates_and_their_refusals():
    x = rng.standard_normal((2, 6))
    a, b = x[:, :3], x[:, 3:]
    np.testing.assert_allclose(F.swiglu(x), a * b / (1 + np.exp(-b)), rtol=1e-13)
    np.testing.assert_allclose(F.geglu(x), a * np.asarray(F.gelu(b)))
    np.testing.assert_allclose(F.glu(x.T, 0), (a / (1 + np.exp(-b))).T, rtol=1e-13)
    with pytest.raises(ShapeError, match="cut into halves"):
        F.glu(np.ones((2, 3)))
    with pytest.raises(ShapeError, match="one for each channel"):
        F.prelu(x, np.ones(5))
    for bad in (lambda: F.gelu(x, "erf"), lambda: F.hardtanh(x, 1, 1), lambda: F.celu(x, 0.0),
                lambda: F.gumbel_softmax(x, 0.0)):  # fmt: skip
        with pytest.raises(OptionError):
            bad()
