"""What optimizers accept, refuse, and leave alone."""

import inspect

import numpy as np
import pytest

import wengert as wg
from wengert import nn, optim
from wengert.errors import GradientWarning, OptionError
from wengert.optim import SGD, Adam, AdamW

BAD = [float("nan"), float("inf"), -0.1, "fast", "0.1", None]


def leaf(*shape, dtype=np.float64):
    return wg.tensor(np.ones(shape, dtype), requires_grad=True)


@pytest.mark.parametrize("cls", [SGD, Adam, AdamW])
@pytest.mark.parametrize("lr", BAD)
def test_a_learning_rate_is_finite_and_not_negative(cls, lr):
    with pytest.raises(OptionError) as caught:
        cls([leaf(2)], lr=lr)
    text = str(caught.value)
    expected = f"[WG301] {cls.__name__}(lr={lr!r}): lr must be a finite number, at least 0"
    assert text.splitlines()[0] == expected
    assert f"fix: {cls.__name__}(parameters, lr=0.01)" in text
    assert "test_optim_options.py" in text


def test_a_learning_rate_is_checked_between_steps_too():
    optimizer = SGD([leaf(2)], lr=0.1)
    with pytest.raises(OptionError):
        optimizer.lr = float("nan")
    assert optimizer.lr == 0.1


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda p: SGD(p, momentum=1.0), "momentum"),
        (lambda p: SGD(p, momentum=-0.1), "momentum"),
        (lambda p: SGD(p, weight_decay=-1), "weight_decay"),
        (lambda p: SGD(p, nesterov=True), "nesterov"),
        (lambda p: Adam(p, betas=(1.0, 0.9)), "beta1"),
        (lambda p: Adam(p, betas=(0.9, 1.0)), "beta2"),
        (lambda p: Adam(p, eps=float("inf")), "eps"),
        (lambda p: AdamW(p, weight_decay=float("nan")), "weight_decay"),
    ],
)
def test_other_hyperparameters_are_checked(make, name):
    with pytest.raises(OptionError, match=name):
        make([leaf(2)])


def test_no_parameters():
    with pytest.raises(OptionError, match="there is nothing to train") as caught:
        SGD([])
    assert "model.parameters()" in str(caught.value)


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: [np.ones(2)], "a parameter is a tensor with requires_grad=True"),
        (lambda: [leaf(2), wg.tensor([1.0])], "a parameter is a tensor with requires_grad=True"),
        (lambda: ["w"], "a parameter is a tensor with requires_grad=True"),
        (lambda: [leaf(2) * 2], "a result of an operation is not a parameter"),
        (lambda: [leaf(2)] * 2, "the same tensor is given twice"),
    ],
)
def test_only_leaves_can_be_trained(make, rule):
    with pytest.raises(OptionError, match=rule):
        SGD(make())


def test_frozen_parameters_are_told_how_to_be_left_out():
    p, frozen = leaf(2), leaf(2).requires_grad_(False)
    with pytest.raises(OptionError) as caught:
        SGD([p, frozen])
    assert "[p for p in model.parameters() if p.requires_grad]" in str(caught.value)


def test_a_step_writes_into_the_parameter_itself():
    p = leaf(3)
    address = p.data.ctypes.data
    optimizer = Adam([p], lr=0.1)
    (p * p).sum().backward()
    optimizer.step()
    assert p.data.ctypes.data == address
    assert p.is_leaf
    assert p.requires_grad
    np.testing.assert_allclose(p.numpy(), 0.9, rtol=1e-6)


def test_gradients_are_not_changed_by_a_step():
    p = leaf(3)
    (p * p).sum().backward()
    SGD([p], lr=0.1, momentum=0.9, weight_decay=0.1).step()
    np.testing.assert_array_equal(p.grad.numpy(), 2 * np.ones(3))


def test_parameters_without_gradient_stay():
    p, q = leaf(2), leaf(2)
    optimizer = AdamW([p, q], lr=0.1, weight_decay=0.5)
    p.sum().backward()
    optimizer.step()
    np.testing.assert_array_equal(q.numpy(), np.ones(2))
    optimizer.zero_grad()
    assert p.grad is None
    before = p.numpy().copy()
    with pytest.warns(GradientWarning, match="no parameter has a gradient"):
        optimizer.step()
    np.testing.assert_array_equal(p.numpy(), before)


@pytest.mark.parametrize("compiled", [False, True])
def test_gradients_may_become_zeros(compiled):
    """As in PyTorch: with zeros a step goes on along its momentum, without a gradient it stands."""
    p, q, unused = leaf(2), leaf(2), leaf(2)
    optimizer = SGD([p, unused], lr=0.1, momentum=0.5)

    def step(x):
        optimizer.zero_grad(set_to_none=False)
        (p * x).sum().backward()
        optimizer.step()

    step = wg.compile(step) if compiled else step
    for _ in range(3):
        step(np.array([1.0, 2.0]))
    before = p.numpy().copy()
    optimizer.zero_grad(set_to_none=False)
    assert p.grad.numpy().tolist() == [0.0, 0.0]
    assert unused.grad is None
    optimizer.step()
    np.testing.assert_allclose(before - p.numpy(), 0.1 * 0.5 * 1.75 * np.array([1.0, 2.0]))
    model = nn.Linear(2, 1, rng=0)
    model(q).sum().backward()
    model.zero_grad(set_to_none=False)
    assert model.weight.grad.numpy().tolist() == [[0.0], [0.0]]
    model.zero_grad()
    assert model.weight.grad is None


def test_dtypes_are_kept_side_by_side():
    p, q = leaf(2, dtype=np.float32), leaf(3, dtype=np.float64)
    optimizer = Adam([p, q], lr=np.float64(0.1))
    ((p * p).sum() + (q * q).sum()).backward()
    optimizer.step()
    assert (p.dtype, q.dtype) == (np.float32, np.float64)
    np.testing.assert_allclose(p.numpy(), 0.9, rtol=1e-6)
    np.testing.assert_allclose(q.numpy(), 0.9, rtol=1e-6)


@pytest.mark.parametrize("cls", [SGD, Adam, AdamW])
def test_learning_rate_zero_moves_nothing(cls):
    p = leaf(2)
    optimizer = cls([p], lr=0)
    p.sum().backward()
    optimizer.step()
    np.testing.assert_array_equal(p.numpy(), np.ones(2))


@pytest.mark.parametrize("cls", [SGD, Adam, AdamW])
def test_a_model_is_not_its_parameters(cls):
    model = nn.Sequential(nn.Linear(2, 2, rng=0))
    with pytest.raises(OptionError, match="not the model") as caught:
        cls(model, 0.1)
    text = str(caught.value)
    assert f"fix: {cls.__name__}(model.parameters(), ...)" in text
    assert "test_optim_options.py" in text


def every_option():
    """(optimizer, option, default) of all of them."""
    for name in optim.__all__:
        cls = getattr(optim, name)
        if not (inspect.isclass(cls) and issubclass(cls, optim.Optimizer)):
            continue
        if cls is not optim.Optimizer:
            for key, p in inspect.signature(cls).parameters.items():
                if key not in ("parameters", "model"):
                    yield cls, key, p.default


@pytest.mark.parametrize(("cls", "key", "default"), list(every_option()))
def test_an_option_of_another_kind_is_refused_by_name(cls, key, default):
    values = ["x", [0.9], (0.9,), {}, np.array([1.0, 2.0]), float("nan")]
    if isinstance(default, bool):
        values += [None, 5, 0.5, -1]
    elif isinstance(default, tuple):
        values += [None, 5, 0.9, (0.5, "x"), (2, 3), (0.5, 0.9, 0.9), (-1, 0.5)]
    for value in values:
        model = nn.Linear(2, 2, rng=0)
        with pytest.raises(OptionError, match=f"{key}|beta1|beta2|rng"):
            cls(model if cls is optim.KFAC else model.parameters(), **{key: value})


def test_flags_may_be_numbers_of_numpy_and_0_or_1():
    for value in (True, 1, np.True_):
        assert SGD([leaf(2)], maximize=value).groups[0].maximize is True
        assert SGD([leaf(2)], maximize=not value).groups[0].maximize is False
    optimizer = Adam([leaf(2)], betas=np.array([0.5, 0.6]))
    assert optimizer.groups[0].betas == (0.5, 0.6)
    with pytest.raises(OptionError, match="two numbers"):
        optimizer.groups[0].betas = 0.9
    with pytest.raises(OptionError, match="True or False"):
        optimizer.groups[0].maximize = "no"
