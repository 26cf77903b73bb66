"""Arrays without contents: shapes, views, the account of what they would take, models of them."""

import tracemalloc

import numpy as np
import pytest

import wengert as wg
from wengert import nn
from wengert.errors import LevelError, ShapeError
from wengert.hollow import Account, Hollow, hollow
from wengert.nn import functional as F
from wengert.train.work import work
from wengert.transforms.weighing import weighing


def test_shapes_follow_those_of_arrays():
    x, w = hollow((5, 3), np.float32), hollow((3, 2), np.float64)
    for y, want in [
        (x @ w, np.ones((5, 3), np.float32) @ np.ones((3, 2))),
        (x.T, np.ones((3, 5), np.float32)), (x[1:, 0], np.ones(4, np.float32)),
        (x.reshape(-1, 5), np.ones((3, 5), np.float32)), (np.maximum(x, 0), x), (2 * x, x),
        (x.astype(np.int64), np.ones((5, 3), int)), (F.softmax(wg.Tensor(x)).data, x),
    ]:  # fmt: skip
        assert isinstance(y, Hollow)
        assert (y.shape, y.dtype) == (want.shape, want.dtype)
    with pytest.raises(ShapeError, match="inner dimensions disagree"):
        x @ x


def test_values_are_refused():
    x = wg.Tensor(hollow((2,), np.float32))
    for ask in (bool, float, np.asarray, lambda x: x.item(), lambda x: x.tolist()):
        with pytest.raises(LevelError, match=r"a shape and no contents: its model was made under"):
            ask(x)


def test_the_account_is_of_what_is_alive():
    account = Account()
    with weighing(account):
        x = hollow((1000, 1000), float)
        y = x * 2 + x
        assert account.live == 16e6
        assert account.most == 16e6  # the product is nobody's: the sum goes into it
        z = y.T.reshape(1000, 1000)  # a view, and a copy
        v = y[10:].reshape(-1)
        assert account.live == 24e6
        del y
        assert account.live == 24e6  # v looks into it
        del v, z
        assert account.live == 8e6
    del x
    assert account.live == 0


@pytest.mark.parametrize("f", [
    lambda x: np.sum(np.tanh(np.exp(x) * x)), lambda x: np.sum((x @ x.T) ** 2),
    lambda x: np.sum(F.softmax(x[:, ::2]) * 3), lambda x: np.mean(F.layer_norm(x + 1, 600)),
    lambda x: np.sum(np.concatenate([x, x * x]).reshape(600, -1)),
])  # fmt: skip
def test_an_account_of_a_step_is_what_the_step_takes(f):
    """To half an array of those that the step is made of."""
    w = wg.tensor(np.random.default_rng(0).normal(size=(600, 600)), requires_grad=True)
    account = Account(work)
    with weighing(account):
        f(w).backward(wg.Tensor(hollow((), float)))
    assert w.grad is None
    f(w).backward()
    w.grad = None
    tracemalloc.start()
    f(w).backward()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert abs(account.most - most) < 0.6 * w.nbytes, (account.most / w.nbytes, most / w.nbytes)


def test_models_without_storage():
    make = lambda: nn.Sequential(
        nn.Embedding(50, 8, rng=0), nn.LSTM(8, 6, rng=1), nn.Lambda(lambda y: y[0]),
        nn.TransformerEncoder(1, 6, 2, 12, rng=2), nn.Linear(6, 3, rng=3),
    )  # fmt: skip
    real = make()
    with nn.unallocated():
        model = make()
    assert repr(model) == repr(real)
    x = np.zeros((2, 4), np.int64)
    assert str(nn.summary(model, x)) == str(nn.summary(real, x))
    for (name, p), (other, q) in zip(model.named_parameters(), real.named_parameters()):
        assert (name, p.shape, p.dtype, p.nbytes) == (other, q.shape, q.dtype, q.nbytes)
        assert p.requires_grad
        assert p.name == q.name
    assert model(x).shape == (2, 4, 3)
    with pytest.raises(LevelError, match="unallocated"):
        model.state_dict()
    assert isinstance(make().layers[-1].weight.data, np.ndarray)


def test_nothing_is_allocated():
    tracemalloc.start()
    with nn.unallocated():
        model = nn.GPT(50_000, 4, 8, 1024, 2048)
        conv = nn.Conv2d(1000, 1000, 9)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(p.size for p in model.parameters()) > 1e8
    assert conv.weight.shape == (9, 9, 1000, 1000)
    assert most < 2e6
