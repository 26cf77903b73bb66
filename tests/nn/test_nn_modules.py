"""Layers against plain NumPy and PyTorch; hooks, dtypes, copies, shared parameters."""

import copy
import pickle

import numpy as np
import pytest

import wengert as wg
from wengert import nn
from wengert.errors import (
    ArgumentError,
    AxisError,
    DTypeError,
    OptionError,
    ShapeError,
    UnknownNameError,
)
from wengert.testing import check_grads

DRAW = np.random.default_rng(0)


def gradients(model, *xs, order=1):
    """The derivatives of a layer, by its parameters too, against differences."""
    names, values = [], []
    for name, p in model.named_parameters():
        names.append(name)
        values.append(p.numpy() + 0.1 * DRAW.normal(size=p.shape))

    def f(*args):
        params = dict(zip(names, args))
        return wg.functional_call(model, params, *args[len(names) :])

    check_grads(f, (*values, *xs), order=order)


F64 = {"dtype": np.float64}
LAYERS = [
    (nn.LayerNorm(4, **F64), (3, 4)),
    (nn.LayerNorm((2, 3), **F64), (3, 2, 3)),
    (nn.RMSNorm(4, **F64), (3, 4)),
    (nn.GroupNorm(2, 4, **F64), (2, 3, 4)),
    (nn.InstanceNorm2d(2, affine=True, **F64), (2, 2, 3, 2)),
    (nn.BatchNorm1d(3, **F64), (4, 3)),
    (nn.BatchNorm2d(2, **F64), (2, 2, 3, 2)),
    (nn.BatchNorm2d(2, **F64).eval(), (2, 2, 3, 2)),
    (nn.PReLU(3, **F64), (2, 3)),
    (nn.MultiheadAttention(4, 2, rng=0, **F64), (2, 3, 4)),
    (nn.MultiheadAttention(4, 2, kv_heads=1, causal=True, rotary=True, rng=0, **F64), (2, 3, 4)),
    (nn.PositionalEncoding(5, 4, learned=True, rng=0, **F64), (2, 3, 4)),
    (nn.TiedLinear(nn.Parameter(DRAW.normal(size=(3, 4)))), (2, 4)),
    (nn.Residual(nn.Linear(3, 3, rng=0, **F64)), (2, 3)),
    (nn.Concat(nn.Linear(3, 2, rng=0, **F64), nn.Tanh()), (2, 3)),
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=lambda v: type(v).__name__)
def test_gradients_of_layers(layer, shape):
    layer = copy.deepcopy(layer)
    x = np.random.default_rng(1).normal(size=shape)
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) and layer.training:
        layer.running_mean = layer.running_var = layer.num_batches_tracked = None
    gradients(layer, x)


def test_gradients_of_a_bilinear_map():
    layer = nn.Bilinear(2, 3, 4, rng=0, dtype=np.float64)
    a, b = DRAW.normal(size=(5, 2)), DRAW.normal(size=(5, 3))
    want = np.einsum("ni,ijk,nj->nk", a, layer.weight.numpy(), b)
    np.testing.assert_allclose(layer(a, b).numpy(), want, rtol=1e-12)
    gradients(layer, a, b, order=2)
    with pytest.raises(ShapeError, match="a and b end with 2 and 3 numbers"):
        layer(a, a)


# ---- normalisation


def test_batch_norm_follows_the_batches():
    norm = nn.BatchNorm2d(3, momentum=0.25, dtype=np.float64)
    mean, var = np.zeros(3), np.ones(3)
    for i in range(3):
        x = np.random.default_rng(i).normal(i, 1 + i, size=(4, 2, 2, 3))
        y = norm(x).numpy()
        np.testing.assert_allclose(y.mean((0, 1, 2)), 0, atol=1e-12)
        mean = 0.75 * mean + 0.25 * x.mean((0, 1, 2))
        var = 0.75 * var + 0.25 * x.var((0, 1, 2), ddof=1)
    np.testing.assert_allclose(norm.running_mean.numpy(), mean, rtol=1e-12)
    np.testing.assert_allclose(norm.running_var.numpy(), var, rtol=1e-12)
    assert int(norm.num_batches_tracked) == 3
    norm.eval()
    np.testing.assert_allclose(norm(x).numpy(), (x - mean) / np.sqrt(var + 1e-5), rtol=1e-12)
    assert int(norm.num_batches_tracked) == 3


def test_batch_norm_with_the_mean_of_all_batches():
    norm = nn.BatchNorm1d(2, momentum=None, dtype=np.float64)
    xs = [np.random.default_rng(i).normal(size=(5, 2)) for i in range(4)]
    for x in xs:
        norm(x)
    np.testing.assert_allclose(norm.running_mean.numpy(), np.mean([x.mean(0) for x in xs], axis=0))


def test_batch_norm_is_moved_once_by_a_checkpointed_call():
    norm = nn.BatchNorm1d(2, dtype=np.float64)
    once = copy.deepcopy(norm)
    x = np.random.default_rng(0).normal(size=(5, 2))
    once(x)
    wg.checkpoint(norm)(wg.tensor(x, requires_grad=True)).sum().backward()
    np.testing.assert_array_equal(norm.running_mean.numpy(), once.running_mean.numpy())
    assert int(norm.num_batches_tracked) == 1


def test_batch_norm_refuses_what_it_cannot_normalise():
    with pytest.raises(ShapeError, match="channels come last"):
        nn.BatchNorm2d(3)(np.ones((2, 3, 4, 4), np.float32))
    with pytest.raises(ShapeError, match="x has 2 or 3 axes"):
        nn.BatchNorm1d(3)(np.ones((2, 2, 2, 3), np.float32))
    with pytest.raises(ShapeError, match="more than one number"):
        nn.BatchNorm1d(3)(np.ones((1, 3), np.float32))
    with pytest.raises(OptionError, match="multiple of groups"):
        nn.GroupNorm(3, 4)


@pytest.mark.parametrize("training", [True, False])
def test_normalisation_against_torch(torch, training):
    x = np.random.default_rng(0).normal(2, 3, size=(4, 5, 6, 8))
    first = torch.tensor(x.transpose(0, 3, 1, 2))
    pairs = [
        (torch.nn.BatchNorm2d(8), nn.BatchNorm2d(8, dtype=float), first),
        (torch.nn.GroupNorm(4, 8), nn.GroupNorm(4, 8, dtype=float), first),
        (torch.nn.InstanceNorm2d(8), nn.InstanceNorm2d(8), first),
        (torch.nn.LayerNorm(8), nn.LayerNorm(8, dtype=float), None),
        (torch.nn.LayerNorm((6, 8)), nn.LayerNorm((6, 8), dtype=float), None),
    ]
    for theirs, ours, given in pairs:
        theirs.double().train(training)
        ours.train(training)
        for _ in range(2):
            want = theirs(torch.tensor(x) if given is None else given).detach().numpy()
            got = ours(x)
        got = got.numpy() if isinstance(got, wg.Tensor) else got
        want = want if given is None else np.moveaxis(want, 1, -1)
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(
        pairs[0][1].running_var.numpy(), pairs[0][0].running_var.numpy(), rtol=1e-12
    )


# ---- activations


@pytest.mark.parametrize(
    "name",
    # PyTorch's hardsigmoid has the slope 1 / 6 in float32 even for float64
    ["CELU", "ELU", "GELU", "GLU", "Hardshrink", "Hardswish", "Hardtanh",
     "LeakyReLU", "LogSigmoid", "LogSoftmax", "Mish", "PReLU", "ReLU", "ReLU6", "SELU", "SiLU",
     "Sigmoid", "Softmax", "Softmin", "Softplus", "Softshrink", "Softsign", "Tanh", "Tanhshrink",
     "Threshold"],
)  # fmt: skip
def test_activations_against_torch(torch, name):
    options = {"Softmax": (-1,), "LogSoftmax": (-1,), "Softmin": (-1,), "Threshold": (0.5, -1.0)}
    given = options.get(name, ())
    theirs, ours = getattr(torch.nn, name)(*given).double(), getattr(nn, name)(*given)
    x = np.linspace(-8, 8, 84).reshape(6, 14) + 0.01
    t = torch.tensor(x, requires_grad=True)
    u = wg.tensor(x, requires_grad=True)
    w = np.random.default_rng(0).normal(size=theirs(t).shape)
    (theirs(t) * torch.tensor(w)).sum().backward()
    (ours(u) * w).sum().backward()
    np.testing.assert_allclose(
        ours(x).numpy() if name == "PReLU" else ours(x), theirs(t).detach().numpy(), rtol=1e-11,
        atol=1e-12,
    )  # fmt: skip
    np.testing.assert_allclose(u.grad.numpy(), t.grad.numpy(), rtol=1e-10, atol=1e-12)


def test_options_of_activations():
    assert repr(nn.LeakyReLU(0.2)) == "LeakyReLU(slope=0.2)"
    assert repr(nn.ELU()) == "ELU()"
    np.testing.assert_allclose(nn.Hardtanh(low=-2.0)(np.array([-3.0, 3.0])), [-2, 1])
    with pytest.raises(ArgumentError, match="its options are slope"):
        nn.LeakyReLU(a=0.1)
    with pytest.raises(ArgumentError, match="it has no options"):
        nn.ReLU(True)
    assert isinstance(pickle.loads(pickle.dumps(nn.LeakyReLU(0.2))), nn.LeakyReLU)


# ---- embedding, dropout


def test_embedding_adds_up_rows_and_leaves_padding_alone():
    table = nn.Embedding(5, 2, padding=0, rng=0, dtype=np.float64)
    assert not table.weight.numpy()[0].any()
    y = table(np.array([[1, 1, 0], [3, 0, 1]]))
    y.sum().backward()
    np.testing.assert_array_equal(table.weight.grad.numpy()[:, 0], [0, 3, 0, 1, 0])
    with pytest.raises(AxisError):
        table(np.array([5]))
    with pytest.raises(DTypeError):
        table(np.array([1.0]))


def test_tied_weights_add_up_both_uses():
    class Tied(nn.Module):
        def __init__(self):
            self.table = nn.Embedding(4, 3, rng=0, dtype=np.float64)
            self.head = nn.TiedLinear(self.table.weight)

        def forward(self, x):
            return self.head(np.tanh(self.table(x)))

    model = Tied()
    assert [n for n, _ in model.named_parameters()] == ["table.weight"]
    assert list(model.state_dict()) == ["table.weight"]
    x = np.array([0, 2, 2])
    model(x).sum().backward()
    w = model.table.weight.numpy()

    def f(w):
        return (np.tanh(w[x]) @ w.T).sum()

    check_grads(f, (w,))
    np.testing.assert_allclose(model.table.weight.grad.numpy(), wg.grad(f)(w), rtol=1e-12)
    g = wg.grad(lambda w: wg.functional_call(model, {"table.weight": w}, x).sum())(w)
    np.testing.assert_allclose(g, wg.grad(f)(w), rtol=1e-12)
    twin = copy.deepcopy(model)
    assert twin.head.weight is twin.table.weight
    assert twin.table.weight is not model.table.weight


def test_dropout_keeps_the_mean_and_its_own_stream():
    layer = nn.Dropout(0.25, rng=3)
    x = np.ones(40_000)
    y = layer(x)
    kept = y != 0
    assert kept.mean() == pytest.approx(0.75, abs=4 * np.sqrt(0.25 * 0.75 / x.size))
    np.testing.assert_allclose(y[kept], 1 / 0.75)
    assert not np.array_equal(layer(x), y)
    np.testing.assert_array_equal(nn.Dropout(0.25, rng=3)(x), y)
    assert layer.eval()(x) is x
    with pytest.raises(OptionError, match="probability"):
        nn.Dropout(1.5)


def test_dropout_without_rng_draws_from_the_default_stream():
    layer = nn.Dropout(0.5)
    wg.random.seed(0)
    a = layer(np.ones(20))
    wg.random.seed(0)
    np.testing.assert_array_equal(layer(np.ones(20)), a)
    wg.random.seed(0)
    w = nn.Linear(3, 3).weight.numpy()
    wg.random.seed(0)
    np.testing.assert_array_equal(nn.Linear(3, 3).weight.numpy(), w)


def test_dropout_is_the_same_when_a_checkpoint_runs_again():
    model = nn.Sequential(nn.Linear(4, 8, rng=0), nn.Dropout(0.5, rng=1), nn.Linear(8, 1, rng=2))
    twin = copy.deepcopy(model)
    x = np.ones((3, 4), np.float32)
    model(x).sum().backward()
    nn.Checkpoint(twin)(x).sum().backward()
    for a, b in zip(model.parameters(), twin.parameters()):
        np.testing.assert_array_equal(a.grad.numpy(), b.grad.numpy())


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_channels_are_left_out_whole(axes):
    layer = getattr(nn, f"Dropout{axes}d")(0.5, rng=0)
    y = layer(np.ones((4, *(3,) * axes, 5)))
    flat = y.reshape(4, -1, 5)
    assert (flat == flat[:, :1]).all()
    assert 0 < (flat[:, 0] == 0).mean() < 1


# ---- modules


def test_hooks_see_and_replace():
    layer = nn.Linear(2, 1, rng=0, dtype=np.float64)
    x = np.ones((1, 2))
    plain = layer(x).numpy()
    seen = []
    pre = layer.register_forward_pre_hook(lambda m, args: (2 * args[0],))
    post = layer.register_forward_hook(lambda m, args, y: seen.append((args[0].sum(), y)))
    doubled = layer(x)
    np.testing.assert_allclose(doubled.numpy(), 2 * plain)
    assert seen[0][0] == 4.0
    assert seen[0][1] is doubled
    pre.remove()
    post.remove()
    np.testing.assert_array_equal(layer(x).numpy(), plain)
    assert len(seen) == 1
    with layer.register_forward_hook(lambda m, args, y: y + 1):
        np.testing.assert_allclose(layer(x).numpy(), plain + 1)


def test_backward_hooks_see_the_gradients_of_this_call_alone():
    layer = nn.Linear(2, 2, rng=0, dtype=np.float64)
    w = layer.weight.numpy()
    seen = []
    handle = layer.register_full_backward_hook(lambda m, gx, gy: seen.append((gx, gy)))
    x = wg.tensor(np.ones((1, 2)), requires_grad=True)
    (layer(x).sum() + 5 * x.sum()).backward()
    ((gx,), (gy,)) = seen.pop()
    np.testing.assert_array_equal(gy.numpy(), [[1, 1]])
    np.testing.assert_allclose(gx.numpy(), w.sum(axis=1)[None])
    np.testing.assert_allclose(x.grad.numpy(), w.sum(axis=1)[None] + 5)
    layer(np.ones((1, 2))).sum().backward()
    assert seen.pop()[0] == (None,)
    handle.remove()
    x.grad = None
    with layer.register_full_backward_hook(lambda m, gx, gy: (gx[0] * 0,)):
        layer(x).sum().backward()
    assert not x.grad.numpy().any()
    assert not seen


def test_freezing_and_dtypes():
    model = nn.Sequential(nn.Linear(2, 3, rng=0), nn.BatchNorm1d(3))
    model.layers[0].requires_grad_(False)
    model(np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)).sum().backward()
    assert model.layers[0].weight.grad is None
    assert model.layers[1].weight.grad is not None
    weights = [id(p) for p in model.parameters()]
    model.to(np.float64)
    assert weights == [id(p) for p in model.parameters()]
    assert {str(v.dtype) for v in model.state_dict().values()} == {"float64", "int64"}
    with pytest.raises(DTypeError, match="floating-point"):
        model.to(int)
    model.layers[0].requires_grad_(True)
    model(np.ones((2, 2))).sum().backward()
    assert model.layers[0].weight.grad.dtype == np.float64


def test_walking():
    model = nn.Sequential(nn.Linear(2, 3, rng=0), nn.Sequential(nn.ReLU()))
    assert model.get_submodule("layers.1.layers.0") is model.layers[1].layers[0]
    assert model.get_submodule("") is model
    assert model.get_parameter("layers.0.bias") is model.layers[0].bias
    with pytest.raises(UnknownNameError, match=r"fix: get_parameter\('layers\.0\.weight'\)"):
        model.get_parameter("layers.0.wieght")
    order = []
    assert model.apply(lambda m: order.append(type(m).__name__)) is model
    assert order == ["ReLU", "Sequential", "Linear", "Sequential"]
    assert len(list(model.modules())) == 4
    assert len(list(model.children())) == 2


def test_copies_and_pickles_are_independent_and_train():
    model = nn.Sequential(nn.Linear(2, 3, rng=0), nn.BatchNorm1d(3), nn.Dropout(0.5, rng=0))
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        x = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
        before = model.state_dict()
        assert twin.state_dict().keys() == before.keys()
        twin(x).sum().backward()
        assert twin.layers[0].weight.grad is not None
        assert int(twin.layers[1].num_batches_tracked) == 1
        for name, value in model.state_dict().items():
            np.testing.assert_array_equal(value, before[name])
        assert all(p.grad is None for p in model.parameters())
