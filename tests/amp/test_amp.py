"""Mixed precision: half numbers, the policies, the scaler, and what they cost and save."""

import tracemalloc

import ml_dtypes
import numpy as np
import pytest

import wengert as wg
from wengert import nn
from wengert.amp import GradScaler, autocast
from wengert.amp.half import FORMATS, Half, is_half, packed_bits, rounded, unpacked_bits
from wengert.errors import OptionError, UnknownNameError
from wengert.nn import functional as F
from wengert.optim import SGD, Adam, clip_grad_norm_
from wengert.train.memory import looked_at

EVERY = np.arange(2**16, dtype=np.uint32)


def half_values(form):
    """All 65,536 numbers of a format, as float32."""
    if form == "float16":
        return EVERY.astype(np.uint16).view(np.float16).astype(np.float32)
    return (EVERY << np.uint32(16)).view(np.float32)


def theirs(x, form):
    with np.errstate(all="ignore"):
        dtype = np.float16 if form == "float16" else ml_dtypes.bfloat16
        return x.astype(dtype).astype(np.float32)


@pytest.mark.parametrize("form", FORMATS)
def test_rounding_is_to_the_nearest_with_ties_to_even(form):
    values = half_values(form)
    np.testing.assert_array_equal(rounded(values, form), values)
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 200_000, dtype=np.uint32)
    with np.errstate(all="ignore"):
        finite = values[np.isfinite(values)]
        middles = (finite[:-1].astype(np.float64) + finite[1:]).astype(np.float32) / 2
    for x in (bits.view(np.float32), middles):
        np.testing.assert_array_equal(rounded(x, form), theirs(x, form))


@pytest.mark.parametrize("form", FORMATS)
def test_two_bytes_keep_every_half_number(form):
    values = half_values(form)
    bits = packed_bits(values, form)
    assert bits.dtype.itemsize == 2
    np.testing.assert_array_equal(unpacked_bits(bits), values)
    assert packed_bits(np.float32([1.0, 1.0001]), form) is None


def kept(loss):
    """The bytes that the tape keeps in residuals, each array once."""
    seen, stack, total = {}, [loss.node], 0
    while stack:
        node = stack.pop()
        if node is None or id(node) in seen:
            continue
        seen[id(node)] = node
        stack.extend(node.parents)
        for value in getattr(node, "res", None) or ():
            value = value.bits if isinstance(value, Half) else value
            if isinstance(value, np.ndarray) and id(value) not in seen:
                seen[id(value)] = value
                total += value.nbytes
    return total


def network(n=8, width=64, between=nn.ReLU):
    rng = np.random.default_rng(0)
    layers = []
    for _ in range(n):
        layers += [nn.Linear(width, width, rng=rng), between()]
    return nn.Sequential(*layers)


@pytest.mark.parametrize("form", FORMATS)
def test_products_are_half_and_sums_are_not(form):
    w = wg.tensor(np.random.default_rng(0).normal(size=(5, 5)).astype(np.float32))
    w.requires_grad_()
    with autocast(form):
        y = w @ w
        r = np.maximum(y, 0.0)
        z = r * r
        s = np.exp(z)
        t = s + y
    assert all(v.dtype == np.float32 for v in (y, r, z, s, t))
    for half in (y, r, z):
        assert is_half(half, form)
        np.testing.assert_array_equal(rounded(half.numpy(), form), half.numpy())
    assert not is_half(s, form)
    assert not is_half(t, form)
    w16 = rounded(w.numpy(), form)
    np.testing.assert_array_equal(y.numpy(), rounded(w16 @ w16, form))


def test_outside_the_block_and_when_disabled_nothing_is_rounded():
    w = wg.tensor(np.full((2, 2), 1.001, np.float32), requires_grad=True)
    plain = (w @ w).numpy()
    with autocast("bfloat16"):
        with autocast(enabled=False):
            inner = (w @ w).numpy()
        half = (w @ w).numpy()

    @autocast("bfloat16")
    def decorated():
        return (w @ w).numpy()

    np.testing.assert_array_equal(inner, plain)
    np.testing.assert_array_equal(decorated(), half)
    np.testing.assert_array_equal((w @ w).numpy(), plain)
    assert (half != plain).all()


def test_float64_is_left_alone():
    w = wg.tensor(np.full((2, 2), 1.0 + 1e-12), requires_grad=True)
    with autocast("float16"):
        y = w @ w
    np.testing.assert_array_equal(y.numpy(), w.numpy() @ w.numpy())


@pytest.mark.parametrize("form", FORMATS)
def test_gradients_are_close_and_parameters_stay_float32(form):
    model = network(3, between=nn.Tanh)  # a relu whose input changes sign is another function
    x = np.random.default_rng(1).normal(size=(32, 64)).astype(np.float32)
    (model(x) ** 2).mean().backward()
    exact = [p.grad.numpy().copy() for p in model.parameters()]
    model.zero_grad()
    scaler = GradScaler(2.0**10, enabled=form == "float16")
    with autocast(form):
        loss = (model(x) ** 2).mean()
    scaler.scale(loss).backward()
    optimizer = SGD(model.parameters(), lr=0.0)
    scaler.unscale_(optimizer)
    eps = {"float16": 2.0**-10, "bfloat16": 2.0**-7}[form]
    for p, g in zip(model.parameters(), exact):
        assert p.dtype == p.grad.dtype == np.float32
        error = np.linalg.norm(p.grad.numpy() - g) / np.linalg.norm(g)
        assert error < 8 * eps


@pytest.mark.parametrize("form", FORMATS)
def test_the_tape_keeps_half_as_many_bytes(form):
    model = network(8, 128)
    x = np.random.default_rng(1).normal(size=(2048, 128)).astype(np.float32)

    def peak(run):
        tracemalloc.start()
        loss = run()
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return kept(loss), held

    def half():
        with autocast(form):
            return F.mse_loss(model(x), x)

    whole_bytes, whole_held = peak(lambda: F.mse_loss(model(x), x))
    half_bytes, half_held = peak(half)
    activations = 8 * x.nbytes
    assert whole_bytes > activations
    inputs = 3 * x.nbytes  # x, its difference from the answer, and the answer stay float32
    assert half_bytes < 0.55 * (whole_bytes - inputs) + inputs
    results = 2 * x.nbytes
    assert half_held - results < 0.55 * (whole_held - results)


def test_a_gradient_that_underflows_in_float16_is_rescued_by_the_scale():
    tiny = 1e-4  # the gradient of y is 1e-4 * 1e-5 = 1e-9; the smallest float16 is 6e-8
    w = wg.tensor(np.ones((1, 1), np.float32), requires_grad=True)
    x = np.ones((1, 1), np.float32)

    def loss():
        with autocast("float16"):
            y = w @ x
        return (y * np.float32(tiny * 1e-5)).sum()

    loss().backward()
    assert w.grad.item() == 0.0
    w.grad = None
    scaler = GradScaler()
    scaler.scale(loss()).backward()
    scaler.unscale_(SGD([w], lr=0.1))
    assert w.grad.item() == pytest.approx(1e-9, rel=1e-3)
    w.grad = None
    with autocast("bfloat16"):
        y = w @ x
    (y * np.float32(tiny * 1e-5)).sum().backward()
    assert w.grad.item() == pytest.approx(1e-9, rel=1e-2)


def test_an_overflow_skips_the_step_and_lowers_the_scale():
    w = wg.tensor(np.ones((1, 1), np.float32), requires_grad=True)
    optimizer = Adam([w], lr=0.1)
    scaler = GradScaler(2.0**15, growth_interval=3)

    def step(factor):
        optimizer.zero_grad()
        with autocast("float16"):
            y = w @ np.ones((1, 1), np.float32)
        scaler.scale((y * np.float32(factor)).sum()).backward()
        made = scaler.step(optimizer)
        scaler.update()
        return made

    assert step(1.0)
    before = w.item()
    assert not step(100.0)  # 100 * 2**15 is more than 65504
    assert w.item() == before
    assert scaler.scale_now == 2.0**14
    assert optimizer.state_dict()["steps"] == [1]
    assert [step(1.0) for _ in range(3)] == [True] * 3
    assert scaler.scale_now == 2.0**15
    assert scaler.skipped == 1


def test_the_order_of_the_scaler_is_enforced():
    w = wg.tensor(np.ones(2, np.float32), requires_grad=True)
    optimizer, scaler = SGD([w], lr=0.1), GradScaler(8.0)
    scaler.scale(w.sum()).backward()
    scaler.unscale_(optimizer)
    assert clip_grad_norm_([w], 1.0) == pytest.approx(2**0.5)
    with pytest.raises(OptionError, match="unscaled already"):
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    with pytest.raises(OptionError, match="step\\(\\) was called already"):
        scaler.step(optimizer)
    with pytest.raises(OptionError, match="unscaled already"):
        scaler.unscale_(optimizer)
    scaler.update()
    np.testing.assert_allclose(w.numpy(), 1 - 0.1 / 2**0.5, rtol=1e-6)


def test_the_state_of_a_scaler_goes_on():
    a, b = GradScaler(4.0, growth_interval=2), GradScaler()
    optimizer = SGD([wg.tensor(np.ones(1, np.float32), requires_grad=True)], lr=0.1)
    a.unscale_(optimizer)
    a.update()
    b.load_state_dict(a.state_dict())
    assert b.state_dict() == a.state_dict() == {"scale": 4.0, "good_steps": 1, "skipped": 0}


def test_wrong_options():
    with pytest.raises(UnknownNameError, match="no such half format"):
        autocast("float8")
    with pytest.raises(OptionError, match="backoff"):
        GradScaler(backoff=1.5)
    with pytest.raises(OptionError, match="not the state of a scaler"):
        GradScaler().load_state_dict({"optimizer": "SGD"})
    assert autocast(np.float16).form == "float16"


def test_inside_transforms():
    w = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)

    def f(w):
        with autocast("bfloat16"):
            return np.sum(np.tanh(w @ w))

    exact = wg.grad(lambda w: np.sum(np.tanh(w @ w)))(w)
    got = wg.grad(f)(w)
    assert got.dtype == np.float32
    assert 0 < np.abs(got - exact).max() < 0.05
    many = wg.vmap(wg.grad(f))(np.stack([w, 2 * w]))
    np.testing.assert_allclose(many[0], got, rtol=1e-6, atol=1e-6)
    _, dy = wg.jvp(f, (w,), (np.ones_like(w),))
    assert dy == pytest.approx(float(got.sum()), rel=0.02)


def test_a_write_into_a_half_array_is_not_lost():
    w = wg.tensor(np.ones((2, 2), np.float32), requires_grad=True)
    with autocast("bfloat16"):
        y = w @ np.eye(2, dtype=np.float32)
        y[0, 0] = 1.0009765625  # not a bfloat16
        z = y * y
    z.sum().backward()
    np.testing.assert_array_equal(w.grad.numpy()[1], [2.0, 2.0])
    assert float(y.numpy()[0, 0]) == 1.0009765625


@pytest.mark.parametrize("form", FORMATS)
def test_training_in_half_precision_learns(form):
    from wengert.data import digits

    model = nn.Sequential(nn.Linear(64, 64, rng=0), nn.ReLU(), nn.Linear(64, 10, rng=1))
    optimizer = Adam(model.parameters(), lr=3e-3)
    scaler = GradScaler(enabled=form == "float16")
    d = digits()
    rng = np.random.default_rng(0)
    for _ in range(150):
        rows = rng.integers(0, 1500, 64)
        optimizer.zero_grad()
        with autocast(form):
            loss = F.cross_entropy(model(d.images[rows]), d.labels[rows])
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    right = model(d.images[1500:]).numpy().argmax(1) == d.labels[1500:]
    assert right.mean() > 0.88


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("order", ["inside", "around"])
def test_checkpointing_gives_the_same_bits(form, order):
    model = network(4, between=nn.Tanh)
    x = np.random.default_rng(1).normal(size=(32, 64)).astype(np.float32)

    def plain(x):
        with autocast(form):
            return model(x)

    def run(f):
        model.zero_grad()
        loss = (f(x) ** 2).mean()
        loss.backward()
        return [p.grad.numpy().copy() for p in model.parameters()]

    def inside(x):
        with autocast(form):
            return wg.checkpoint(model)(x)

    want = run(plain)
    got = run(inside if order == "inside" else wg.checkpoint(plain))
    for a, b in zip(got, want):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("form", FORMATS)
def test_a_convolution_with_its_bias_stays_half(form):
    layer = nn.Conv2d(3, 4, 3, padding=1, rng=0)
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 3)).astype(np.float32)
    with autocast(form):
        y = layer(x)
        z = np.maximum(y, 0.0)
    assert is_half(y, form)
    assert is_half(z, form)
    z.sum().backward()
    assert layer.bias.grad.dtype == np.float32


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_recurrent_operations_take_and_give_half_numbers(form, kind):
    """The loop inside runs on float32, as sums do; its weights, inputs and states are half."""
    layer = kind(8, 16, rng=0)
    x = np.random.default_rng(0).normal(size=(4, 12, 8)).astype(np.float32)
    with autocast(form):
        y, _ = layer(x)
    for p in layer.parameters():
        assert not is_half(p, form)
    twin = kind(8, 16, rng=0)
    twin.load_state_dict({k: rounded(v, form) for k, v in layer.state_dict().items()})
    with autocast(form):
        same, _ = twin(x)
    np.testing.assert_array_equal(y.numpy(), same.numpy())
    np.testing.assert_array_equal(rounded(y.numpy(), form), y.numpy())
    exact, _ = layer(x)
    assert looked_at(layer, y.sum()).total < 0.7 * looked_at(layer, exact.sum()).total
    eps = {"float16": 2.0**-10, "bfloat16": 2.0**-7}[form]
    assert 0 < abs(y.numpy() - exact.numpy()).max() < 4 * eps
