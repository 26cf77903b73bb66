"""What `wg.autograd.grad` and `backward` refuse, and in which words."""

import numpy as np
import pytest

import wengert as wg
from wengert.errors import ArgumentError, DisconnectedError, ShapeError


@pytest.fixture
def x():
    return wg.tensor([1.0, 2.0], requires_grad=True)


def test_the_input_that_is_not_connected_is_named_with_its_own_breaks(x):
    b = wg.tensor([2.0], requires_grad=True)
    np.sum(np.round(x)).item()
    y = (x * b.detach()).sum()
    with pytest.raises(DisconnectedError, match="do not depend on `b`") as e:
        wg.autograd.grad(y, [x, b])
    text = str(e.value)
    assert "inputs[1] : b float64[1]" in text
    assert "`b.detach()` at " in text
    assert "rint" not in text
    assert "leave detach() out" in e.value.fix
    assert "allow_unused=True" in e.value.fix


@pytest.mark.parametrize("call", [
    lambda x: wg.autograd.grad([], x), lambda x: wg.autograd.backward([]),
    lambda x: wg.autograd.grad((), x, ()),
])  # fmt: skip
def test_no_results(call, x):
    with pytest.raises(ArgumentError, match="no result"):
        call(x)


def test_no_inputs(x):
    y = (x * 2.0).sum()
    with pytest.raises(ArgumentError, match="inputs is empty") as e:
        wg.autograd.grad(y, [])
    assert e.value.fix is None  # here it cannot be left out


@pytest.mark.parametrize("gs", [None, 1.0])
def test_batched_cotangents_without_lanes(gs, x):
    with pytest.raises(ShapeError, match="one axis of lanes"):
        wg.autograd.grad(x.sum(), x, gs, is_grads_batched=True)
