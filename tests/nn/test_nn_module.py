"""Modules find their parameters, name them, save them, and are pytrees."""

import numpy as np
import pytest

import wengert as wg
from wengert import nn, tree
from wengert.errors import DTypeError, ShapeError, UnknownNameError
from wengert.nn import functional as F


class Two(nn.Module):
    def __init__(self):
        self.first = nn.Linear(3, 4, rng=0)
        self.rest = [nn.Tanh(), nn.Linear(4, 2, rng=1)]
        self.heads = {"a": nn.Linear(2, 1, rng=2)}
        self.scale = nn.Parameter(np.ones(1, np.float32))
        self.seen = wg.tensor(np.zeros(2))

    def forward(self, x):
        h = self.first(x)
        for layer in self.rest:
            h = layer(h)
        return self.heads["a"](h) * self.scale


PATHS = [
    "scale",
    "first.weight",
    "first.bias",
    "rest.1.weight",
    "rest.1.bias",
    "heads.a.weight",
    "heads.a.bias",
]


def test_parameters_are_found_also_in_lists_and_dicts():
    model = Two()
    assert [name for name, _ in model.named_parameters()] == PATHS
    assert [name for name, _ in model.named_buffers()] == ["seen"]
    assert len(model.parameters()) == len(PATHS)


def test_parameters_know_their_path_in_the_whole_model():
    model = Two()
    outer = nn.Sequential(model)
    assert [p.name for p in outer.parameters()] == [f"layers.0.{path}" for path in PATHS]
    model.parameters()  # asking a part must not shorten the names
    assert model.first.weight.name == "layers.0.first.weight"


def test_a_module_appended_to_a_list_is_found_and_named():
    model = nn.Sequential()
    model.layers.append(nn.Linear(2, 2, rng=0))
    assert [p.name for p in model.parameters()] == ["layers.0.weight", "layers.0.bias"]


def test_a_shared_parameter_is_listed_once():
    model = nn.Sequential(nn.Linear(2, 2, rng=0), nn.Linear(2, 2, rng=1))
    model.layers[1].weight = model.layers[0].weight
    assert [n for n, _ in model.named_parameters()] == [
        "layers.0.weight",
        "layers.0.bias",
        "layers.1.bias",
    ]


def test_a_frozen_parameter_stays_a_parameter():
    layer = nn.Linear(2, 2, rng=0)
    layer.weight.requires_grad_(False)
    assert [n for n, _ in layer.named_parameters()] == ["weight", "bias"]
    assert set(layer.state_dict()) == {"weight", "bias"}


def test_attributes_can_be_replaced_and_deleted():
    layer = nn.Linear(2, 2, rng=0)
    layer.bias = None
    assert [n for n, _ in layer.named_parameters()] == ["weight"]
    del layer.weight
    assert layer.parameters() == []


def test_modes_reach_every_module():
    model = Two()
    assert model.eval() is model
    assert not any(m.training for _, m in model.named_modules())
    assert all(m.training for _, m in model.train().named_modules())


def test_zero_grad_forgets_every_gradient():
    model = Two()
    model(np.ones((5, 3), np.float32)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_repr_shows_paths_and_counts():
    text = repr(nn.Sequential(nn.Linear(64, 128, rng=0), nn.ReLU()))
    assert text.splitlines() == [
        "Sequential(",
        "  layers.0    Linear(64, 128)        8,320",
        "  layers.1    ReLU()",
        "  parameters                         8,320",
        ")",
    ]


def test_a_module_without_forward_says_so():
    class Empty(nn.Module):
        pass

    with pytest.raises(NotImplementedError, match="Empty has no forward"):
        Empty()(1)


# ---- state


def test_state_dict_is_a_copy_and_goes_back():
    model, other = Two(), Two()
    x = np.ones((2, 3), np.float32)
    state = model.state_dict()
    with wg.no_grad():
        for p in model.parameters():
            p += 1.0
    before = other(x).numpy().copy()
    np.testing.assert_array_equal(state["first.weight"], other.first.weight.numpy())
    assert not np.array_equal(model(x).numpy(), before)
    buffers = [id(p.data) for p in model.parameters()]
    model.load_state_dict(state)
    np.testing.assert_array_equal(model(x).numpy(), before)
    assert buffers == [id(p.data) for p in model.parameters()]


def test_loaded_parameters_still_train():
    layer = nn.Linear(2, 1, rng=0)
    layer.load_state_dict(nn.Linear(2, 1, rng=1).state_dict())
    layer(np.ones((1, 2), np.float32)).sum().backward()
    assert layer.weight.is_leaf
    assert layer.weight.grad is not None


def test_missing_and_unexpected_names_are_listed():
    layer = nn.Linear(2, 3, rng=0)
    state = layer.state_dict()
    state["extra"] = np.zeros(5)
    del state["bias"]
    before = layer.weight.numpy().copy()
    state["weight"] = state["weight"] + 1
    with pytest.raises(UnknownNameError) as caught:
        layer.load_state_dict(state)
    text = str(caught.value)
    assert "Linear.load_state_dict(state): the names differ: 1 missing, 1 unexpected" in text
    assert "missing    bias  : float32[3]   in the model" in text
    assert "unexpected extra : float64[5]   in the state" in text
    np.testing.assert_array_equal(layer.weight.numpy(), before)


def test_names_may_differ_where_that_is_asked_for():
    layer = nn.Linear(2, 3, rng=0)
    bias = layer.bias.numpy().copy()
    state = {"weight": np.ones((2, 3)), "extra": np.zeros(5)}
    missing, unexpected = layer.load_state_dict(state, strict=False)
    assert (missing, unexpected) == (["bias"], ["extra"])
    np.testing.assert_array_equal(layer.weight.numpy(), 1.0)
    np.testing.assert_array_equal(layer.bias.numpy(), bias)
    assert layer.load_state_dict(layer.state_dict()) == ([], [])
    with pytest.raises(ShapeError, match="the shapes differ"):
        layer.load_state_dict({"weight": np.ones((3, 2))}, strict=False)


def test_a_common_prefix_is_noticed():
    layer = nn.Linear(2, 3, rng=0)
    wrapped = {f"module.{k}": v for k, v in layer.state_dict().items()}
    with pytest.raises(UnknownNameError) as caught:
        layer.load_state_dict(wrapped)
    fix = str(caught.value).split("fix: ")[1].splitlines()[0]
    assert "removeprefix('module.')" in fix
    layer.load_state_dict(eval(fix, {"state": wrapped}))


def test_other_shapes_are_refused_and_nothing_is_changed():
    layer = nn.Linear(2, 3, rng=0)
    before = layer.state_dict()
    state = {"bias": np.ones(3), "weight": np.ones((3, 2))}
    with pytest.raises(ShapeError) as caught:
        layer.load_state_dict(state)
    text = str(caught.value)
    assert "model weight : float32[2, 3]" in text
    assert "state weight : float64[3, 2]" in text
    assert "fix: state['weight'].T has the model's shape" in text
    np.testing.assert_array_equal(layer.bias.numpy(), before["bias"])


# ---- pytrees


def test_grad_of_a_module_is_a_module_of_gradients():
    model = nn.Sequential(nn.Linear(3, 4, rng=0), nn.Tanh(), nn.Linear(4, 2, rng=1))
    x, y = np.ones((5, 3), np.float32), np.array([0, 1, 1, 0, 1])
    loss = lambda m: F.cross_entropy(m(x), y)
    gradients = wg.grad(loss)(model)
    loss(model).backward()
    assert type(gradients) is nn.Sequential
    for (name, g), (_, p) in zip(
        gradients.named_parameters(), model.named_parameters(), strict=True
    ):
        np.testing.assert_allclose(g.numpy(), p.grad.numpy(), rtol=1e-6, err_msg=name)


def test_modules_flatten_to_their_parameters():
    model = Two()
    leaves, structure = tree.flatten(model)
    assert {id(leaf) for leaf in leaves} == {id(p) for p in model.parameters()}
    assert ".rest[1].weight" in tree.paths(structure)
    again = tree.unflatten(structure, leaves)
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(again(x).numpy(), model(x).numpy())
    assert [n for n, _ in again.named_parameters()] == PATHS


def test_a_step_of_descent_by_tree_map():
    model = nn.Linear(3, 1, rng=0, dtype=np.float64)
    x, y = np.eye(3), np.ones((3, 1))
    loss = lambda m: F.mse_loss(m(x), y)
    before = loss(model).item()
    moved = tree.map(lambda p, g: p.detach() - 0.1 * g, model, wg.grad(loss)(model))
    assert loss(moved).item() < before


def test_watch_sees_every_call_and_stops():
    model = nn.Sequential(nn.Linear(2, 3, rng=0), nn.ReLU())
    seen = []
    with nn.watch(lambda module, y: seen.append((type(module).__name__, y.shape))):
        model(np.ones((1, 2), np.float32))
    model(np.ones((1, 2), np.float32))
    assert seen == [("Linear", (1, 3)), ("ReLU", (1, 3)), ("Sequential", (1, 3))]


@pytest.mark.parametrize("value", [np.ones((2, 2)), 1.0, [1.0, 2.0]])
def test_a_parameter_is_not_replaced_by_what_cannot_be_trained(value):
    model = nn.Linear(2, 2, rng=0)
    before = model.weight
    with pytest.raises(DTypeError, match="'weight' would no longer be trained") as caught:
        model.weight = value
    text = str(caught.value)
    word = "array" if isinstance(value, np.ndarray) else "value"
    assert f"Linear.weight = {word}" in text
    assert f"fix: m.weight = nn.Parameter({word})" in text
    assert "test_nn_module.py" in text
    assert model.weight is before
    assert [n for n, _ in model.named_parameters()] == ["weight", "bias"]


def test_a_parameter_is_replaced_by_another_or_by_none_or_by_a_module():
    model = nn.Linear(2, 2, rng=0)
    model.weight = nn.Parameter(np.ones((2, 2)))
    model.bias = None
    assert [n for n, _ in model.named_parameters()] == ["weight"]
    model.bias = nn.Parameter(np.ones(2))
    assert len(model.parameters()) == 2
    model.bias = nn.Linear(1, 1, rng=0)
    assert [n for n, _ in model.named_parameters()] == ["weight", "bias.weight", "bias.bias"]


def test_a_module_of_plain_arrays_takes_arrays():
    arrays = tree.map(lambda p: p.numpy(), nn.Linear(2, 2, rng=0))
    arrays.weight = np.zeros((2, 2))
    assert arrays.weight.sum() == 0
