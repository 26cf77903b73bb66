"""Groups of parameters with hyperparameters of their own, and states that are saved."""

import numpy as np
import pytest

import wengert as wg
from wengert import nn
from wengert.errors import OptionError, ShapeError
from wengert.optim import SAM, SGD, Adam, AdamW, Muon, clip_grad_norm_
from wengert.train import Step

MAKERS = [
    lambda p: SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=True),
    lambda p: Adam(p, lr=0.1, amsgrad=True),
    lambda p: AdamW(p, lr=0.1, weight_decay=0.2),
]


def leaves(seed=0):
    rng = np.random.default_rng(seed)
    return [wg.tensor(rng.normal(size=s), requires_grad=True) for s in ((3, 2), (4,), ())]


def train(ps, optimizer, steps, start=0):
    for i in range(start, start + steps):
        optimizer.zero_grad()
        sum(np.sum(np.sin((i + 1) * p) * p) for p in ps).backward()
        optimizer.step()


def test_every_group_has_its_own_learning_rate():
    a, b = wg.tensor([1.0], requires_grad=True), wg.tensor([1.0], requires_grad=True)
    optimizer = SGD([{"params": [a]}, {"params": b, "lr": 0.5}], lr=0.1)
    (a * 2 + b * 2).sum().backward()
    optimizer.step()
    assert (a.item(), b.item()) == (0.8, 0.0)
    assert [g["lr"] for g in optimizer.param_groups] == [0.1, 0.5]
    optimizer.groups[1].lr = 0.25
    assert optimizer.lr == 0.1
    optimizer.lr = 0.2
    assert [g.lr for g in optimizer.groups] == [0.2, 0.2]


def test_a_group_is_checked():
    a = wg.tensor([1.0], requires_grad=True)
    with pytest.raises(OptionError, match="no such hyperparameter"):
        SGD([{"params": [a], "momentun": 0.9}], lr=0.1)
    with pytest.raises(OptionError, match="lr must be"):
        SGD([{"params": [a], "lr": float("nan")}], lr=0.1)
    with pytest.raises(OptionError, match="given twice"):
        SGD([{"params": [a]}, {"params": [a]}], lr=0.1)
    optimizer = SGD([a], lr=0.1)
    with pytest.raises(OptionError, match="no such hyperparameter"):
        optimizer.groups[0].beta = 1
    with pytest.raises(OptionError):
        optimizer.groups[0]["lr"] = -1
    assert optimizer.lr == 0.1


@pytest.mark.parametrize("maker", MAKERS)
def test_a_saved_state_goes_on_bit_for_bit(maker):
    whole, parts = leaves(), leaves()
    one = maker(whole)
    train(whole, one, 10)
    first = maker(parts)
    train(parts, first, 4)
    second = maker(parts)
    second.load_state_dict(first.state_dict())
    train(parts, second, 6, start=4)
    for p, q in zip(whole, parts):
        assert np.array_equal(p.value(), q.value())


@pytest.mark.parametrize("maker", MAKERS)
def test_a_state_that_does_not_fit_changes_nothing(maker):
    ps = leaves()
    optimizer = maker(ps)
    train(ps, optimizer, 2)
    before = optimizer.state_dict()
    other = maker([wg.tensor(np.ones((2, 2)), requires_grad=True) for _ in range(3)])
    with pytest.raises(ShapeError):
        optimizer.load_state_dict(other.state_dict())
    with pytest.raises(OptionError, match="other parameters"):
        optimizer.load_state_dict(maker(leaves()[:2]).state_dict())
    with pytest.raises(OptionError, match="the state of Other"):
        optimizer.load_state_dict({**before, "optimizer": "Other"})
    after = optimizer.state_dict()
    assert before["steps"] == after["steps"] == [2, 2, 2]
    for name, array in before["arrays"].items():
        assert np.array_equal(array, after["arrays"][name])


@pytest.mark.parametrize("maker", [SGD, Adam, Muon])
def test_parameters_that_are_frozen_later_stand_still(maker):
    a, b = (wg.tensor(np.ones((2, 2)), requires_grad=True) for _ in range(2))
    optimizer = maker([a, b], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = (a * b * b).sum()
        loss.backward()
        clip_grad_norm_([a, b], 1.0)
        return loss

    optimizer.step(closure)
    a.requires_grad_(False)
    here, there = a.numpy().copy(), b.numpy().copy()
    optimizer.step(closure)
    np.testing.assert_array_equal(a.numpy(), here)
    assert not np.array_equal(b.numpy(), there)
    a.requires_grad_(True)
    optimizer.step(closure)
    assert not np.array_equal(a.numpy(), here)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_step_leaves_alone_what_is_frozen_later(compiled):
    a, b = (nn.Linear(2, 2, rng=i) for i in range(2))
    model = nn.Sequential(a, b)
    optimizer = SAM(SGD(model.parameters(), lr=0.1))
    step = Step(model, lambda m, x: (m(x) ** 2).mean(), optimizer.optimizer, compile=compiled)
    x = np.ones((3, 2), np.float32)
    step(x)
    a.requires_grad_(False)
    here, there = a.weight.numpy().copy(), b.weight.numpy().copy()
    assert step(x).grad_norm > 0
    np.testing.assert_array_equal(a.weight.numpy(), here)
    assert not np.array_equal(b.weight.numpy(), there)

    def closure():
        optimizer.zero_grad()
        loss = (model(x) ** 2).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    np.testing.assert_array_equal(a.weight.numpy(), here)
