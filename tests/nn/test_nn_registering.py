"""Buffers, parameters and modules registered by name, as PyTorch's programs do; dtypes by name."""

import copy
import pickle

import numpy as np
import pytest

import wengert as wg
from wengert import nn, tree
from wengert.errors import ArgumentError, DTypeError, UnknownNameError


class Scaled(nn.Module):
    """Written as it would be for PyTorch."""

    def __init__(self):
        super().__init__()
        self.register_parameter("gain", nn.Parameter([2.0, 3.0]))
        self.register_parameter("bias", None)
        self.register_buffer("seen", wg.tensor(np.zeros(2)))
        self.register_buffer("mask", np.array([1.0, 0.0]), persistent=False)
        self.register_buffer("none", None)
        self.add_module("act", nn.Tanh())
        self.add_module("nothing", None)

    def forward(self, x):
        self.seen += x.mean(0)
        return self.act(x * self.gain * self.mask)


def test_what_is_registered_is_found():
    model = Scaled()
    assert [n for n, _ in model.named_parameters()] == ["gain"]
    assert [n for n, _ in model.named_buffers()] == ["seen", "mask"]
    assert [n for n, _ in model.named_children()] == ["act"]
    assert list(model.state_dict()) == ["gain", "seen"]
    assert model.get_parameter("gain") is model.gain
    assert model.get_buffer("mask") is model.mask
    assert model.get_submodule("act") is model.act
    assert model.bias is model.none is model.nothing is None
    assert model.gain.name == "gain"
    assert nn.Sequential(model).get_buffer("layers.0.seen") is model.seen
    y = model(np.ones((4, 2)))
    np.testing.assert_allclose(y.numpy(), np.tanh([[2.0, 0.0]] * 4), rtol=1e-15)
    np.testing.assert_array_equal(model.seen.numpy(), 1.0)


def test_names_and_state_are_those_of_the_same_program_in_pytorch(torch):
    class Theirs(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_parameter("gain", torch.nn.Parameter(torch.tensor([2.0, 3.0])))
            self.register_parameter("bias", None)
            self.register_buffer("seen", torch.zeros(2))
            self.register_buffer("mask", torch.tensor([1.0, 0.0]), persistent=False)
            self.register_buffer("none", None)
            self.add_module("act", torch.nn.Tanh())
            self.add_module("nothing", None)

    ours, theirs = Scaled(), Theirs()
    for walk in ("named_parameters", "named_buffers", "named_children", "named_modules"):
        names = [n for n, _ in getattr(theirs, walk)()]
        assert [n for n, _ in getattr(ours, walk)()] == names
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for model in (ours, theirs):
        model.register_buffer("mask", model.mask, persistent=True)
        assert list(model.state_dict()) == ["gain", "seen", "mask"]
        model.register_buffer("seen", model.seen, persistent=False)
        assert list(model.state_dict()) == ["gain", "mask"]
        del model.seen
        model.register_buffer("seen", model.mask * 2)
        assert list(model.state_dict()) == ["gain", "mask", "seen"]


def test_a_buffer_that_passes_is_in_no_state_and_no_file(tmp_path):
    model, other = Scaled(), Scaled()
    model.seen += 5.0
    model.mask *= 7.0
    assert other.load_state_dict(model.state_dict()) == ([], [])
    assert [other.seen.tolist(), other.mask.tolist()] == [[5.0, 5.0], [1.0, 0.0]]
    with pytest.raises(UnknownNameError, match="0 missing, 1 unexpected"):
        other.load_state_dict({**model.state_dict(), "mask": np.ones(2)})
    for layout in ("wengert", "torch"):
        third = Scaled()
        nn.save(nn.Sequential(model), tmp_path / "m.safetensors", layout=layout)
        assert len(nn.load(tmp_path / "m.safetensors")[0]) == 2
        report = nn.load_into(nn.Sequential(third), tmp_path / "m.safetensors")
        assert report.missing == report.unused == []
        assert [third.seen.tolist(), third.mask.tolist()] == [[5.0, 5.0], [1.0, 0.0]]


def test_it_passes_also_in_copies_and_under_transforms():
    model = Scaled()
    leaves, structure = tree.flatten(model)
    for twin in (
        copy.deepcopy(model), pickle.loads(pickle.dumps(model)), tree.unflatten(structure, leaves)
    ):  # fmt: skip
        assert list(twin.state_dict()) == ["gain", "seen"]
        assert twin.mask.tolist() == [1.0, 0.0]
    x = np.ones((4, 2))
    g = wg.grad(lambda m: m(x).sum())(model)
    np.testing.assert_allclose(g.gain.numpy(), [4 / np.cosh(2.0) ** 2, 0.0], rtol=1e-14)
    y = wg.functional_call(model, {"mask": np.ones(2)}, x)
    np.testing.assert_allclose(y.numpy()[0], np.tanh([2.0, 3.0]), rtol=1e-15)
    compiled = wg.compile(lambda x: model(x))
    before = model.seen.numpy().copy()
    np.testing.assert_allclose(compiled(x).numpy(), np.tanh([[2.0, 0.0]] * 4), rtol=1e-12)
    model.mask *= 2.0
    np.testing.assert_allclose(compiled(x).numpy(), np.tanh([[4.0, 0.0]] * 4), rtol=1e-12)
    np.testing.assert_array_equal(model.seen.numpy(), before + 2)


def test_an_array_becomes_a_buffer_of_its_own():
    mine = np.ones(2)
    model = nn.Tanh()
    model.register_buffer("table", mine)
    mine[:] = 0
    assert model.table.tolist() == [1.0, 1.0]
    shared = wg.tensor(mine)
    model.register_buffer("other", shared)
    assert model.other is shared
    model.register_buffer("count", np.int64(3))
    assert model.count.item() == 3


@pytest.mark.parametrize("register", ["register_buffer", "register_parameter", "add_module"])
def test_names_that_cannot_be(register):
    model = Scaled()
    model.number = 3
    value = {"register_buffer": wg.zeros(2), "register_parameter": nn.Parameter([1.0])}
    for name in ("", "a.b", 3, None, b"x"):
        with pytest.raises(ArgumentError, match="a name is a text without dots") as caught:
            getattr(model, register)(name, value.get(register, nn.Tanh()))
        assert f"Scaled.{register}({name!r})" in str(caught.value)
        assert "test_nn_registering.py" in str(caught.value)
    taken = {"register_buffer": ("gain", "act"), "register_parameter": ("seen", "act"),
             "add_module": ("gain", "seen")}  # fmt: skip
    for name in ("train", "forward", "parameters", "training", "number", *taken[register]):
        with pytest.raises(ArgumentError, match=f"has an attribute '{name}' already"):
            getattr(model, register)(name, value.get(register, nn.Tanh()))
    assert list(model.state_dict()) == ["gain", "seen"]


def test_values_that_cannot_be():
    model, mine = nn.Tanh(), nn.Parameter([1.0])
    for value in (mine, mine * 2):
        with pytest.raises(DTypeError, match="a buffer is saved and not trained"):
            model.register_buffer("x", value)
        model.register_buffer("x", value.detach())
    for value in (3.0, "text", [1.0], nn.Tanh(), np.array(["a"])):
        with pytest.raises(ArgumentError, match="a buffer is a tensor or an array of numbers"):
            model.register_buffer("x", value)
    with pytest.raises(ArgumentError, match="a parameter is a leaf") as caught:
        model.register_parameter("p", mine * 2)
    assert "fix: nn.Parameter(param.detach())" in str(caught.value)
    for value in (wg.zeros(2), np.zeros(2), 1.0):
        with pytest.raises(ArgumentError, match="it is no parameter") as caught:
            model.register_parameter("p", value)
        assert "fix: nn.Parameter(param)" in str(caught.value)
    for value in ("text", nn.Tanh(), [1.0]):
        with pytest.raises(ArgumentError, match="it is no parameter") as caught:
            model.register_parameter("p", value)
        assert "fix:" not in str(caught.value)
    for value in (np.sin, wg.zeros(2), "text"):
        with pytest.raises(ArgumentError, match=r"Tanh.add_module\('m', module\): it is no module"):
            model.add_module("m", value)
    with pytest.raises(ArgumentError, match=r"fix: Tanh\(\)"):
        model.add_module("m", nn.Tanh)
    assert (model.parameters(), list(model.children())) == ([], [])
    with pytest.raises(UnknownNameError, match="there is nothing at this path"):
        model.get_buffer("y")


def test_a_part_is_replaced_by_one_of_its_kind():
    model = Scaled()
    model.register_parameter("gain", nn.Parameter([1.0, 1.0]))
    model.register_buffer("seen", wg.tensor([9.0, 9.0]))
    model.register_module("act", nn.ReLU())
    model.add_module("nothing", nn.Linear(2, 1, rng=0))
    assert list(model.state_dict()) == ["gain", "nothing.weight", "nothing.bias", "seen"]
    assert model(np.ones((1, 2))).tolist() == [[1.0, 0.0]]
    model.register_parameter("gain", None)
    assert model.gain is None
    model.gain = nn.Parameter([1.0, 2.0])
    assert next(n for n, _ in model.named_parameters()) == "gain"


# ------------------------------------------------------------------ containers


def linear(seed):
    return nn.Linear(2, 2, rng=seed, dtype=np.float64)


def test_what_is_added_to_a_sequential_is_called():
    model = nn.Sequential()
    model.add_module("into", linear(0))
    model.add_module("act", nn.Tanh())
    x = np.ones((3, 2))
    np.testing.assert_array_equal(model(x).numpy(), np.tanh(model["into"](x).numpy()))
    assert list(model.state_dict()) == ["layers.into.weight", "layers.into.bias"]
    assert model["into"].weight.name == "layers.into.weight"
    model.add_module("act", nn.ReLU())
    assert [type(m).__name__ for m in model] == ["Linear", "ReLU"]


def test_a_name_among_numbers_changes_no_path():
    model = nn.Sequential(linear(0), nn.Tanh())
    model.add_module("2", linear(1))
    assert isinstance(model.layers, list)
    before, x = model.state_dict(), np.ones((3, 2))
    y = model(x).numpy()
    model.add_module("act", nn.Tanh())
    assert list(model.state_dict()) == list(before)
    np.testing.assert_array_equal(model(x).numpy(), np.tanh(y))
    assert model["act"] is model[3]
    model.add_module("1", nn.Identity())
    assert [type(m).__name__ for m in model] == ["Linear", "Identity", "Linear", "Tanh"]
    for name, value in (("none", None), ("layers", nn.Tanh()), ("append", nn.Tanh())):
        with pytest.raises(ArgumentError):
            model.add_module(name, value)
    assert len(model) == 4


def test_sequentials_built_by_name_are_pytorchs(torch):
    def built(kind, made):
        model = kind()
        for name in ("a", "0", "b", "a"):
            model.add_module(name, made())
        return [n for n, _ in model.named_children()]

    theirs = built(torch.nn.Sequential, torch.nn.Tanh)
    assert [n.removeprefix("layers.") for n in built(nn.Sequential, nn.Tanh)] == theirs


def test_lists_and_dicts_take_modules_by_name():
    parts = nn.ModuleList([linear(0)])
    parts.add_module("1", nn.Tanh())
    parts.add_module("0", linear(1))
    assert [type(m).__name__ for m in parts] == ["Linear", "Tanh"]
    for name in ("3", "act", "-1", "01"):
        with pytest.raises(ArgumentError, match="the names are numbers, and the next is '2'"):
            parts.add_module(name, nn.Tanh())
    heads = nn.ModuleDict()
    heads.add_module("a", linear(0))
    assert heads.keys() == ["a"]
    assert heads["a"].weight.name == "a.weight"
    with pytest.raises(ArgumentError, match="its parts are parameters"):
        nn.ParameterList().add_module("0", nn.Tanh())


# ------------------------------------------------------------------ dtypes and sizes


def test_dtypes_by_name():
    model = Scaled()
    model.register_buffer("count", np.arange(3))
    for name, kind in (("float", np.float32), ("half", np.float16), ("double", np.float64)):
        assert getattr(model, name)() is model
        assert {t.dtype for t in (model.gain, model.seen, model.mask)} == {np.dtype(kind)}
        assert model.count.dtype.kind == "i"
        assert model(np.ones((1, 2), kind)).dtype == kind


@pytest.mark.parametrize("dtype", ["int64", np.int32, bool, "bfloat16", "text", object, 3, None])
def test_dtypes_that_cannot_be_trained(dtype):
    model = nn.Linear(2, 2, rng=0)
    if dtype is None:  # NumPy takes None for float64
        assert model.to(None).weight.dtype == np.float64
        return
    with pytest.raises(DTypeError, match="parameters are of a floating-point dtype") as caught:
        model.to(dtype)
    text = str(caught.value)
    assert f"Linear.to({getattr(dtype, '__name__', dtype)})" in text
    assert ("wg.amp.autocast('bfloat16')" in text) == (dtype == "bfloat16")
    assert model.weight.dtype == np.float32


def test_sizes_by_pytorchs_names(torch):
    for shape in ((2, 3), (), (0, 4)):
        for dtype in (np.float64, np.float32, np.int16):
            ours, theirs = wg.tensor(np.zeros(shape, dtype)), torch.tensor(np.zeros(shape, dtype))
            assert ours.numel() == ours.nelement() == theirs.numel() == ours.size
            assert ours.element_size() == theirs.element_size()


def test_sizes_under_transforms_are_those_of_a_lane():
    def f(x):
        return x.sum() / (x.numel() * x.element_size())

    x = np.ones((5, 3))
    np.testing.assert_array_equal(wg.vmap(f)(x), np.full(5, 1 / 8))
    np.testing.assert_array_equal(wg.grad(f)(x), np.full((5, 3), 1 / 120))
    assert wg.compile(f)(wg.tensor(x)).item() == 1 / 8
