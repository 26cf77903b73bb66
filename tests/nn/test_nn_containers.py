"""Containers: what they hold, how it is called, and how it is refused."""

import copy

import numpy as np
import pytest

import wengert as wg
from wengert import nn
from wengert.errors import ArgumentError, AxisError, ShapeError, UnknownNameError


def linear(n=2, seed=0):
    return nn.Linear(2, n, rng=seed, dtype=np.float64)


def test_sequential_is_changed_like_a_list():
    model = nn.Sequential(linear(), nn.Tanh())
    model.append(linear(1)).insert(1, nn.ReLU())
    assert [type(m).__name__ for m in model] == ["Linear", "ReLU", "Tanh", "Linear"]
    assert model[-1].weight.name == "layers.3.weight"
    del model[1]
    model[1] = nn.Sigmoid()
    assert [type(m).__name__ for m in model] == ["Linear", "Sigmoid", "Linear"]
    model.extend([nn.ReLU(), np.sin])
    assert len(model) == 5
    assert repr(model[4]) == "Lambda(sin)"
    part = model[:2]
    assert isinstance(part, nn.Sequential)
    assert part[0] is model[0]
    x = np.ones((1, 2))
    np.testing.assert_array_equal(part(x).numpy(), model[1](model[0](x)).numpy())


def test_sequential_with_names():
    model = nn.Sequential({"into": linear(), "act": nn.Tanh()}, out=linear(1))
    assert [n for n, _ in model.named_modules()] == [
        "", "layers.into", "layers.act", "layers.out",
    ]  # fmt: skip
    assert model["out"] is model[2]
    model["act"] = nn.ReLU()
    model["more"] = nn.Tanh()
    assert model(np.ones((3, 2))).shape == (3, 1)
    assert list(model[1:].layers) == ["act", "out", "more"]
    del model["more"]
    assert len(model) == 3
    with pytest.raises(UnknownNameError, match="no layer has this name"):
        model["none"]
    with pytest.raises(ArgumentError, match=r"fix: model\['name'\] = layer"):
        model.append(nn.ReLU())
    with pytest.raises(ArgumentError, match="either all layers have names"):
        nn.Sequential(linear(), out=linear())


def test_a_class_in_place_of_a_module_is_refused():
    with pytest.raises(ArgumentError, match=r"fix: ReLU\(\)"):
        nn.Sequential(linear(), nn.ReLU)
    with pytest.raises(ArgumentError, match="its parts are modules"):
        nn.ModuleList([3])


def test_module_list():
    parts = nn.ModuleList([linear(), nn.Tanh()])
    parts.append(linear(1))
    parts.insert(0, nn.ReLU())
    parts.extend([nn.Sigmoid()])
    assert [n for n, _ in parts.named_parameters()] == ["1.weight", "1.bias", "3.weight", "3.bias"]
    assert [p.name for p in parts.parameters()][-1] == "3.bias"
    del parts[0]
    parts[1] = nn.ReLU()
    assert [type(m).__name__ for m in parts] == ["Linear", "ReLU", "Linear", "Sigmoid"]
    assert len(parts[1:3]) == 2
    assert parts[-1] is list(parts)[3]
    with pytest.raises(AxisError, match="there are 4 parts"):
        parts[4]
    assert parts.eval()[0].training is False


def test_module_dict():
    heads = nn.ModuleDict({"a": linear(), "b": nn.Tanh()})
    heads["c"] = linear(1)
    assert heads.keys() == ["a", "b", "c"]
    assert "b" in heads
    del heads["b"]
    assert [k for k, _ in heads.items()] == list(heads) == ["a", "c"]
    assert [n for n, _ in heads.named_parameters()] == ["a.weight", "a.bias", "c.weight", "c.bias"]
    assert heads.values()[1] is heads["c"]
    with pytest.raises(UnknownNameError, match="there is no such key"):
        heads["b"]
    for key in ("train", "x.y", "", 3):
        with pytest.raises(ArgumentError, match="a key is a text without dots"):
            heads[key] = nn.Tanh()


def test_parameter_list_and_dict():
    class Model(nn.Module):
        def __init__(self):
            self.w = nn.ParameterList([nn.Parameter([1.0]), nn.Parameter([2.0])])
            self.d = nn.ParameterDict({"x": nn.Parameter([3.0])})

        def forward(self, x):
            return self.w[0] * x + self.w[1] * x**2 + self.d["x"]

    model = Model()
    assert [n for n, _ in model.named_parameters()] == ["w.0", "w.1", "d.x"]
    model(2.0).sum().backward()
    assert [p.grad.item() for p in model.parameters()] == [2.0, 4.0, 1.0]
    g = wg.grad(lambda m: m(2.0).sum())(model)
    assert [g.w[0].item(), g.w[1].item(), g.d["x"].item()] == [2.0, 4.0, 1.0]
    with pytest.raises(ArgumentError, match="its parts are parameters"):
        model.w.append(np.ones(1))


def test_every_container_is_a_pytree_and_is_copied():
    model = nn.Sequential(
        nn.Residual(linear()), nn.Concat(linear(), nn.Identity()), nn.Reshape(2, 2),
        nn.Flatten(), nn.Unflatten(1, (4, 1)), nn.Checkpoint(nn.Tanh()), nn.Lambda(np.sin),
    )  # fmt: skip
    x = np.random.default_rng(0).normal(size=(3, 2))
    y = model(x)
    assert y.shape == (3, 4, 1)
    y.sum().backward()
    g = wg.grad(lambda m: m(x).sum())(model)
    mine = {n: p.grad.numpy() for n, p in model.named_parameters()}
    for name, value in g.named_parameters():
        np.testing.assert_allclose(value.numpy(), mine[name], rtol=1e-12)
    twin = copy.deepcopy(model)
    np.testing.assert_array_equal(twin(x).numpy(), y.numpy())


def test_residual_shapes():
    with pytest.raises(ShapeError, match="give the same shape"):
        nn.Residual(linear(3))(np.ones((1, 2)))
    y = nn.Residual(linear(3), linear(3, 1))(np.ones((1, 2)))
    assert y.shape == (1, 3)


def test_checkpoint_holds_less_and_gives_the_same():
    inner = nn.Sequential(*[layer for i in range(4) for layer in (linear(2, i), nn.Tanh())])
    x = np.random.default_rng(0).normal(size=(50, 2))
    plain, less = inner(x).sum(), nn.Checkpoint(inner)(x).sum()
    held = [wg.explain_memory(v).total for v in (plain, less)]
    assert held[1] < held[0] / 2
    plain.backward()
    want = [p.grad.numpy() for p in inner.parameters()]
    inner.zero_grad()
    less.backward()
    for a, p in zip(want, inner.parameters()):
        np.testing.assert_array_equal(p.grad.numpy(), a)
