"""Recurrent networks against loops written out, differences, and PyTorch where it is installed."""

import numpy as np
import pytest

import wengert as wg
from wengert import nn
from wengert.errors import ArgumentError, OptionError, ShapeError
from wengert.nn.torch_layout import sources_of
from wengert.ops import recurrent as ops
from wengert.testing import check_grads

KINDS = [nn.RNN, nn.LSTM, nn.GRU]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def step(cell, x, state):
    """One step in plain NumPy, as the docstrings of the cells have it."""
    zx = x @ cell.weight_x.numpy() + (0 if cell.bias is None else cell.bias.numpy())
    h = state[0]
    zh = h @ cell.weight_h.numpy()
    n = cell.n
    if isinstance(cell, nn.RNNCell):
        return (np.tanh(zx + zh) if cell.nonlinearity == "tanh" else np.maximum(zx + zh, 0),)
    if isinstance(cell, nn.LSTMCell):
        i, f, o, g = np.split(zx + zh, 4, axis=-1)
        c = sigmoid(f) * state[1] + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c
    r, u = np.split(sigmoid(zx[:, : 2 * n] + zh[:, : 2 * n]), 2, axis=-1)
    bias = 0 if cell.bias_h is None else cell.bias_h.numpy()
    a = np.tanh(zx[:, 2 * n :] + r * (zh[:, 2 * n :] + bias))
    return ((1 - u) * a + u * h,)


def slow(model, x, lengths=None):
    """(y, last states) example by example, place by place."""
    count = model.cell.states
    ends = [[] for _ in range(count)]
    lengths = [x.shape[1]] * len(x) if lengths is None else lengths
    for ways in model.layers:
        outs = []
        for way, cell in ways.items():
            y = np.zeros((*x.shape[:2], cell.n))
            last = np.zeros((count, len(x), cell.n))
            for k, t_end in enumerate(lengths):
                state = tuple(np.zeros((1, cell.n)) for _ in range(count))
                order = range(t_end)
                for t in reversed(order) if way == "backward" else order:
                    state = step(cell, x[k : k + 1, t], state)
                    y[k, t] = state[0][0]
                last[:, k] = np.stack(state)[:, 0]
            outs.append(y)
            for e, s in zip(ends, last):
                e.append(s)
        x = np.concatenate(outs, axis=-1)
    return x, [np.stack(e) for e in ends]


def ends_of(state):
    return state if isinstance(state, tuple) else (state,)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("lengths", [None, [4, 1, 0, 3]])
def test_layers_do_what_a_loop_does(kind, bidirectional, lengths):
    model = kind(3, 5, 2, bidirectional=bidirectional, rng=0, dtype=np.float64)
    for p in model.parameters():
        with wg.no_grad():
            p[...] = np.random.default_rng(p.size).normal(size=p.shape)
    x = np.random.default_rng(1).normal(size=(4, 4, 3))
    y, state = model(x, lengths=lengths)
    want, ends = slow(model, x, lengths)
    np.testing.assert_allclose(y.numpy(), want, rtol=1e-12, atol=1e-14)
    for got, end in zip(ends_of(state), ends, strict=True):
        np.testing.assert_allclose(got.numpy(), end, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lengths", [None, [2, 3]])
def test_gradients_of_layers(kind, lengths):
    model = kind(2, 3, 2, bidirectional=True, rng=0, dtype=np.float64)
    names, values = zip(*[(n, p.numpy()) for n, p in model.named_parameters()])
    x = np.random.default_rng(1).normal(size=(2, 3, 2))

    def f(x, *values):
        y, state = wg.functional_call(model, dict(zip(names, values)), x, lengths=lengths)
        return (y, *ends_of(state))

    check_grads(f, (x, *values), order=1)


@pytest.mark.parametrize("kind", KINDS)
def test_second_derivatives_and_lanes(kind):
    model = kind(2, 2, rng=0, dtype=np.float64)
    x = np.random.default_rng(1).normal(size=(1, 3, 2))
    values = {n: p.numpy() for n, p in model.named_parameters()}
    check_grads(lambda x: wg.functional_call(model, values, x)[0], (x,), order=2)
    many = np.random.default_rng(2).normal(size=(4, 1, 3, 2))
    slope = wg.grad(lambda x: wg.functional_call(model, values, x)[0].sum())
    np.testing.assert_allclose(wg.vmap(slope)(many), np.stack([slope(x) for x in many]), rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_an_ensemble_by_vmap(kind):
    models = [kind(2, 3, rng=s, dtype=np.float64) for s in range(3)]
    x = np.random.default_rng(1).normal(size=(2, 4, 2))
    run = wg.vmap(lambda p: wg.functional_call(models[0], p, x)[0])
    got = run(nn.stack_modules(models))
    want = np.stack([m(x)[0].numpy() for m in models])
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-12)


def test_saturated_gates_keep_their_slopes():
    """At z = 40, 1 - sigmoid(z)^2 and the like are 0 in float64; the derivative is not."""
    x = np.array([[[38.0, 40.0, 37.0, 18.0]]])
    w, h, m = np.zeros((1, 4)), np.zeros((1, 1)), np.array(True)
    g = wg.grad(lambda x: ops.LSTM()(x, w, h, h + 0.5, m)[0].sum())(x)[0, 0]
    dual = [wg.jvp(lambda x: ops.LSTM()(x, w, h, h + 0.5, m)[0].sum(), (x,), (e[None, None],))[1]
            for e in np.eye(4)]  # fmt: skip
    np.testing.assert_allclose(g, dual, rtol=1e-12)
    np.testing.assert_allclose(g[2], np.tanh(1.5) * np.exp(-37.0), rtol=1e-12)
    assert (g > 0).all()


def test_float32_keeps_the_finite_numbers():
    x = np.array([[[-1e4, 1e4, 200.0, -200.0]]], np.float32)
    w, h, m = np.zeros((1, 4), np.float32), np.zeros((1, 1), np.float32), np.array(True)
    y = ops.LSTM()(x, w, h, h, m)
    g = wg.grad(lambda x: ops.LSTM()(x, w, h, h, m)[0].sum())(x)
    assert np.isfinite(y[0]).all()
    assert np.isfinite(g).all()
    assert g.dtype == np.float32


def test_a_sequence_alone_and_places_first():
    model = nn.LSTM(3, 4, 2, rng=0)
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    y, (h, c) = model(x)
    many, (hs, cs) = model(x[None])
    np.testing.assert_array_equal(y.numpy(), many.numpy()[0])
    np.testing.assert_array_equal(h.numpy(), hs.numpy()[:, 0])
    assert c.shape == (2, 4) == cs.shape[::2]
    model.batch_first = False
    np.testing.assert_array_equal(model(x[:, None])[0].numpy()[:, 0], y.numpy())


def test_going_on_from_a_state_is_one_run():
    model = nn.LSTM(3, 4, 2, rng=0, dtype=np.float64)
    x = np.random.default_rng(0).normal(size=(2, 6, 3))
    whole, _ = model(x)
    first, state = model(x[:, :2])
    rest, _ = model(x[:, 2:], state)
    np.testing.assert_allclose(np.concatenate([first, rest], axis=1).numpy(), whole.numpy())


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.LSTMCell, nn.GRUCell])
def test_cells_take_one_step(kind):
    cell = kind(3, 4, rng=0, dtype=np.float64)
    x = np.random.default_rng(0).normal(size=(2, 3))
    state = tuple(np.random.default_rng(i).normal(size=(2, 4)) for i in range(cell.states))
    got = cell(x, state if cell.states > 1 else state[0])
    for a, b in zip(ends_of(got), step(cell, x, state), strict=True):
        np.testing.assert_allclose(a.numpy(), b, rtol=1e-12)


def test_dropout_between_layers_in_training_only():
    model = nn.GRU(3, 8, 2, dropout=0.5, rng=0)
    x = np.ones((2, 4, 3), np.float32)
    assert not np.array_equal(model(x)[0].numpy(), model(x)[0].numpy())
    model.eval()
    np.testing.assert_array_equal(model(x)[0].numpy(), model(x)[0].numpy())


def test_padding_is_not_looked_at():
    model = nn.LSTM(2, 3, bidirectional=True, rng=0)
    x = np.random.default_rng(0).normal(size=(2, 4, 2)).astype(np.float32)
    x[1, 2:] = np.nan
    t = wg.tensor(x, requires_grad=True)
    y, _ = model(t, lengths=[4, 2])
    y.sum().backward()
    assert np.isfinite(y.numpy()).all()
    assert np.isfinite(t.grad.numpy()).all()
    assert not t.grad.numpy()[1, 2:].any()
    assert all(np.isfinite(p.grad.numpy()).all() for p in model.parameters())


def test_refusals():
    model = nn.LSTM(3, 4, rng=0)
    with pytest.raises(ShapeError, match="example, place and 3 numbers"):
        model(np.ones((2, 5, 4), np.float32))
    with pytest.raises(ShapeError, match="a sequence has one place at least"):
        model(np.ones((2, 0, 3), np.float32))
    with pytest.raises(ShapeError, match=r"a pair of states, each of shape \[1, 2, 4\]"):
        model(np.ones((2, 5, 3), np.float32), np.zeros((1, 2, 4)))
    with pytest.raises(ArgumentError, match="from 0 to 5"):
        model(np.ones((2, 5, 3), np.float32), lengths=[6, 1])
    with pytest.raises(OptionError, match="nonlinearity"):
        nn.RNN(2, 2, nonlinearity="sigmoid")
    with pytest.raises(ShapeError, match="x and w have 4 times the 2 numbers of the state"):
        ops.LSTM()(np.ones((1, 1, 4)), np.ones((2, 4)), np.ones((1, 2)), np.ones((1, 2)), True)


def test_repr():
    assert (
        repr(nn.GRU(2, 3, 2, bidirectional=True, rng=0))
        .splitlines()[0]
        .startswith("GRU(2, 3, layers=2, bidirectional=True")
    )


def test_the_forget_gate_starts_open():
    bias = nn.LSTMCell(2, 3, rng=0).bias.numpy()
    np.testing.assert_array_equal(bias, [0] * 3 + [1] * 3 + [0] * 6)


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_against_torch(torch, name, bidirectional):
    theirs = getattr(torch.nn, name)(
        3, 4, 2, batch_first=True, bidirectional=bidirectional, dtype=torch.float64
    )
    ours = getattr(nn, name)(3, 4, 2, bidirectional=bidirectional, dtype=np.float64)
    arrays = {n: p.detach().numpy() for n, p in theirs.named_parameters()}
    own = dict(ours.named_parameters())
    with wg.no_grad():
        for path, sources in sources_of(ours).items():
            names, make = sources[0]
            own[path][...] = make(*[arrays[n] for n in names])
    x = np.random.default_rng(0).normal(size=(3, 5, 3))
    lengths = [5, 2, 3]
    t = torch.tensor(x, requires_grad=True)
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        t, torch.tensor(lengths), batch_first=True, enforce_sorted=False
    )
    ty, ts = theirs(packed)
    ty, _ = torch.nn.utils.rnn.pad_packed_sequence(ty, batch_first=True)
    u = wg.tensor(x, requires_grad=True)
    y, s = ours(u, lengths=lengths)

    def loss(y, s):
        return (y**2).sum() + sum((v**3).sum() for v in ends_of(s))

    loss(ty, ts).backward()
    loss(y, s).backward()
    np.testing.assert_allclose(y.numpy(), ty.detach().numpy(), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(u.grad.numpy(), t.grad.numpy(), rtol=1e-11, atol=1e-13)
    hidden = dict(theirs.named_parameters())
    if name != "LSTM":  # the columns of an LSTM's weights stand in another order
        np.testing.assert_allclose(
            own["layers.0.forward.weight_h"].grad.numpy(),
            hidden["weight_hh_l0"].grad.numpy().T,
            rtol=1e-11, atol=1e-13,
        )  # fmt: skip
