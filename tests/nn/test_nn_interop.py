"""Models in and out of safetensors files: our own, and those of PyTorch, with and without it."""

import json
import pickle
import re
import sys

import numpy as np
import pytest
from interop_models import NAMES, ours_and_theirs

import wengert as wg
from wengert import nn
from wengert.errors import (
    CheckpointError,
    DTypeError,
    OptionError,
    OutputError,
    ShapeError,
    UnknownNameError,
)
from wengert.nn import safetensors

DRAW = np.random.default_rng(0)


def theirs(path, arrays, metadata=None):
    """A file written by the format's own package."""
    own = pytest.importorskip("safetensors.numpy", reason="its own package is not installed")
    own.save_file({k: np.array(v, order="C") for k, v in arrays.items()}, path, metadata)


def normal(*shape):
    return DRAW.normal(size=shape).astype(np.float32)


# ---- the format


def test_what_we_write_the_other_package_reads(tmp_path):
    own = pytest.importorskip("safetensors.numpy", reason="its own package is not installed")
    arrays = {
        "a": np.arange(6.0).reshape(2, 3).T,
        "b": np.array(3, np.int64),
        "c": np.array([True, False]),
        "d": np.ones((0, 2), np.float16),
        "big": np.arange(3, dtype=">f4"),
    }
    safetensors.write(tmp_path / "x.safetensors", arrays, {"k": "v"})
    got = own.load_file(tmp_path / "x.safetensors")
    back, about = safetensors.load(tmp_path / "x.safetensors")
    assert about == {"k": "v"}
    for name, a in arrays.items():
        for b in (got[name], back[name]):
            np.testing.assert_array_equal(a, b)
            assert b.dtype == a.dtype.newbyteorder("=")
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


def raw(path, header, data):
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def test_bfloat16_is_read_without_help(tmp_path):
    want = np.array([1.0, -2.5, 3.140625, np.inf, 1e-40], np.float32)
    bits = (want.view(np.uint32) >> 16).astype("<u2")
    exact = (bits.astype(np.uint32) << 16).view(np.float32)
    place = tmp_path / "x.safetensors"
    raw(place, {"w": {"dtype": "BF16", "shape": [5], "data_offsets": [0, 10]}}, bits.tobytes())
    got = safetensors.load(place)[0]["w"]
    np.testing.assert_array_equal(got, exact)
    assert got.dtype == np.float32


@pytest.mark.parametrize(
    ("header", "data", "what"),
    [
        ({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"1234", "fit its place"),
        ({"w": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, b"12345678", "fit its"),
        (
            {"w": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}},
            b"12345678",
            "fit|strange",
        ),
        ({"w": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}, b"12", "F8_E4M3"),
        ({"w": {"shape": [2], "data_offsets": [0, 2]}}, b"12", "dtype"),
        ({}, b"12", "2 bytes at the end"),
        ([], b"", "not a whole"),
    ],
)
def test_damaged_files_are_refused(tmp_path, header, data, what):
    place = tmp_path / "x.safetensors"
    raw(place, header, data)
    with pytest.raises(CheckpointError, match=what):
        safetensors.load(place)


def test_short_files_and_pickles_are_refused(tmp_path):
    place = tmp_path / "x.safetensors"
    place.write_bytes(b"\xff" * 12)
    with pytest.raises(CheckpointError, match="shorter than its header"):
        safetensors.load(place)
    place.write_bytes(pickle.dumps({"w": 1}))
    with pytest.raises(CheckpointError, match="pickle"):
        safetensors.load(place)
    with pytest.raises(CheckpointError, match="runs the code of whoever wrote it") as caught:
        nn.load_into(nn.Linear(1, 1), tmp_path / "model.pt")
    assert "safetensors.torch.save_model" in str(caught.value)
    with pytest.raises(CheckpointError, match="No such file"):
        safetensors.load(tmp_path / "none.safetensors")


@pytest.mark.parametrize("length", [0x0280, 0x0480, 0x0580, 0x4B50])
def test_a_header_whose_length_begins_like_a_pickle_is_read(tmp_path, length):
    place = tmp_path / "x.safetensors"
    safetensors.write(place, {"w": np.ones(2)}, {"note": ""})
    content = place.read_bytes()
    header = int.from_bytes(content[:8], "little")
    more = b" " * (length - header)
    place.write_bytes(length.to_bytes(8, "little") + content[8 : 8 + header] + more + content[-16:])
    assert safetensors.load(place)[0]["w"].tolist() == [1.0, 1.0]


def test_complex128_and_bad_places_are_refused(tmp_path):
    with pytest.raises(DTypeError, match="no complex128"):
        safetensors.write(tmp_path / "x", {"w": np.ones(1, complex)})
    with pytest.raises(OutputError):
        safetensors.write(tmp_path / "none" / "x", {"w": np.ones(1)})
    assert list(tmp_path.iterdir()) == []


# ---- our own models


def test_a_model_comes_back(tmp_path):
    place = tmp_path / "m.safetensors"
    model = nn.Sequential(nn.Conv2d(2, 3, 3, rng=0), nn.BatchNorm2d(3), nn.GELU())
    model(normal(2, 5, 5, 2))
    nn.save(model, place, {"epoch": "3"})
    other = nn.Sequential(nn.Conv2d(2, 3, 3, rng=1), nn.BatchNorm2d(3), nn.GELU())
    report = nn.load_into(other, place)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[name], value)
    assert report.metadata["epoch"] == "3"
    assert not report.missing
    assert not report.unused
    assert int(other.layers[1].num_batches_tracked) == 1


def test_tied_weights_are_saved_once_and_come_back_tied(tmp_path):
    model = nn.GPT(7, 1, 2, 4, 5, rng=0)
    assert "head.weight" not in model.state_dict()
    nn.save(model, tmp_path / "m.safetensors")
    other = nn.GPT(7, 1, 2, 4, 5, rng=1)
    nn.load_into(other, tmp_path / "m.safetensors")
    assert other.head.weight is other.table.weight
    x = np.array([[1, 2, 3]])
    np.testing.assert_array_equal(model(x).numpy(), other(x).numpy())


def test_a_dry_run_changes_nothing(tmp_path):
    nn.save(nn.Linear(2, 2, rng=0), tmp_path / "m.safetensors")
    layer = nn.Linear(2, 2, rng=1)
    before = layer.weight.numpy().copy()
    report = nn.load_into(layer, tmp_path / "m.safetensors", dry_run=True)
    np.testing.assert_array_equal(layer.weight.numpy(), before)
    assert str(report).splitlines() == [
        "2 tensors read",
        "  weight  <-  weight  float32[2, 2]",
        "  bias    <-  bias    float32[2]",
    ]


def test_names_that_differ_are_listed_and_nothing_changes(tmp_path):
    theirs(
        tmp_path / "m.safetensors",
        {"0.weigth": normal(3, 2), "0.bias": normal(3), "1.extra": normal(1)},
        {"format": "pt"},
    )
    model = nn.Sequential(nn.Linear(2, 3, rng=0))
    before = model.state_dict()
    with pytest.raises(UnknownNameError) as caught:
        nn.load_into(model, tmp_path / "m.safetensors")
    text = re.sub(" +", " ", str(caught.value))
    assert "1 names are missing in the file, 2 are left over" in text
    assert "missing 0.weight : float32[2, 3] for layers.0.weight; is it 0.weigth?" in text
    assert "left over 1.extra" in text
    report = nn.load_into(model, tmp_path / "m.safetensors", strict=False)
    assert report.missing == ["layers.0.weight"]
    assert sorted(report.unused) == ["0.weigth", "1.extra"]
    np.testing.assert_array_equal(model.state_dict()["layers.0.weight"], before["layers.0.weight"])
    assert not np.array_equal(model.state_dict()["layers.0.bias"], before["layers.0.bias"])


def test_a_prefix_is_found(tmp_path):
    arrays = {"model.0.weight": normal(3, 2), "model.0.bias": normal(3)}
    theirs(tmp_path / "m.safetensors", arrays, {"format": "pt"})
    model = nn.Sequential(nn.Linear(2, 3, rng=0))
    with pytest.raises(UnknownNameError, match=r"fix: prefix='model\.'"):
        nn.load_into(model, tmp_path / "m.safetensors")
    nn.load_into(model, tmp_path / "m.safetensors", prefix="model.")
    np.testing.assert_array_equal(model.layers[0].weight.numpy(), arrays["model.0.weight"].T)


def test_other_shapes_are_refused(tmp_path):
    arrays = {"weight": normal(3, 3), "bias": normal(3)}
    theirs(tmp_path / "m.safetensors", arrays, {"format": "pt"})
    layer = nn.Linear(2, 3, rng=0)
    with pytest.raises(ShapeError, match="1 tensors have other shapes"):
        nn.load_into(layer, tmp_path / "m.safetensors")
    assert not layer.bias.numpy().any()


def test_a_file_that_does_not_say_its_layout_is_asked_about(tmp_path):
    square = normal(3, 3)
    theirs(tmp_path / "m.safetensors", {"weight": square, "bias": normal(3)})
    layer = nn.Linear(3, 3, rng=0)
    with pytest.raises(CheckpointError, match="layout"):
        nn.load_into(layer, tmp_path / "m.safetensors")
    with pytest.raises(OptionError, match="layout='keras'"):
        nn.load_into(layer, tmp_path / "m.safetensors", layout="keras")
    nn.load_into(layer, tmp_path / "m.safetensors", layout="torch")
    np.testing.assert_array_equal(layer.weight.numpy(), square.T)
    nn.load_into(layer, tmp_path / "m.safetensors", layout="wengert")
    np.testing.assert_array_equal(layer.weight.numpy(), square)


def test_two_values_for_one_parameter_are_refused(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            self.table = nn.Embedding(4, 2, rng=0)
            self.head = nn.TiedLinear(self.table.weight)

    w = normal(4, 2)
    model = Tied()
    for names in (["table.weight"], ["head.weight"], ["table.weight", "head.weight"]):
        theirs(tmp_path / "m.safetensors", dict.fromkeys(names, w), {"format": "pt"})
        nn.load_into(model, tmp_path / "m.safetensors")
        np.testing.assert_array_equal(model.head.weight.numpy(), w)
    both = {"table.weight": w, "head.weight": w + 1}
    theirs(tmp_path / "m.safetensors", both, {"format": "pt"})
    with pytest.raises(CheckpointError, match="one parameter of the model, with two values"):
        nn.load_into(model, tmp_path / "m.safetensors")


# ---- PyTorch's layouts by hand


def test_half_numbers_take_the_dtype_of_the_model(tmp_path):
    w, b = normal(3, 2).astype(np.float16), normal(3).astype(np.float16)
    theirs(tmp_path / "m.safetensors", {"weight": w, "bias": b}, {"format": "pt"})
    layer = nn.Linear(2, 3, rng=0, dtype=np.float64)
    nn.load_into(layer, tmp_path / "m.safetensors")
    np.testing.assert_array_equal(layer.weight.numpy(), w.T.astype(float))
    assert layer.weight.dtype == np.float64
    assert layer.weight.requires_grad


def test_layouts(tmp_path):
    class Model(nn.Module):
        def __init__(self):
            self.conv = nn.Conv2d(4, 6, (3, 2), groups=2, rng=0)
            self.up = nn.ConvTranspose2d(6, 4, (3, 2), groups=2, rng=0)
            self.norm = nn.BatchNorm2d(6)
            self.form = nn.Bilinear(2, 3, 4, rng=0)
            self.table = nn.Embedding(5, 3, rng=0)
            self.rest = [nn.LayerNorm(3), nn.PReLU()]

    arrays = {
        "conv.weight": normal(6, 2, 3, 2), "conv.bias": normal(6),
        "up.weight": normal(6, 2, 3, 2), "up.bias": normal(4),
        "norm.weight": normal(6), "norm.bias": normal(6), "norm.running_mean": normal(6),
        "norm.running_var": normal(6) ** 2, "norm.num_batches_tracked": np.array(7),
        "form.weight": normal(4, 2, 3), "form.bias": normal(4),
        "table.weight": normal(5, 3), "rest.0.weight": normal(3), "rest.0.bias": normal(3),
        "rest.1.weight": normal(1),
    }  # fmt: skip
    theirs(tmp_path / "m.safetensors", arrays, {"format": "pt"})
    model = Model()
    nn.load_into(model, tmp_path / "m.safetensors")
    a = arrays
    for k in range(3):
        for l in range(2):
            np.testing.assert_array_equal(
                model.conv.weight.numpy()[k, l], a["conv.weight"][:, :, k, l].T
            )
            np.testing.assert_array_equal(
                model.up.weight.numpy()[k, l], a["up.weight"][:, :, k, l].T
            )
    np.testing.assert_array_equal(model.form.weight.numpy()[1, 2], a["form.weight"][:, 1, 2])
    np.testing.assert_array_equal(model.norm.running_var.numpy(), a["norm.running_var"])
    assert int(model.norm.num_batches_tracked) == 7
    np.testing.assert_array_equal(model.rest[1].weight.numpy(), a["rest.1.weight"])


def test_attention_in_three_and_in_one(tmp_path):
    d = 4
    joint, bias = normal(3 * d, d), normal(3 * d)
    out = {"out_proj.weight": normal(d, d), "out_proj.bias": normal(d)}
    one = nn.MultiheadAttention(d, 2, rng=0)
    theirs(
        tmp_path / "m.safetensors",
        {"in_proj_weight": joint, "in_proj_bias": bias, **out},
        {"format": "pt"},
    )
    nn.load_into(one, tmp_path / "m.safetensors")
    np.testing.assert_array_equal(one.key.weight.numpy(), joint[d : 2 * d].T)
    np.testing.assert_array_equal(one.value.bias.numpy(), bias[2 * d :])
    three = nn.MultiheadAttention(d, 2, d_context=3, rng=0)
    q, k, v = normal(d, d), normal(d, 3), normal(d, 3)
    parts = {"q_proj_weight": q, "k_proj_weight": k, "v_proj_weight": v}
    theirs(tmp_path / "m.safetensors", {**parts, "in_proj_bias": bias, **out}, {"format": "pt"})
    nn.load_into(three, tmp_path / "m.safetensors")
    np.testing.assert_array_equal(three.value.weight.numpy(), v.T)


def test_an_lstm_by_hand(tmp_path):
    """One step in PyTorch's layout, gates i, f, g, o."""
    n, m = 3, 2
    a = {"weight_ih_l0": normal(4 * n, m), "weight_hh_l0": normal(4 * n, n),
         "bias_ih_l0": normal(4 * n), "bias_hh_l0": normal(4 * n)}  # fmt: skip
    theirs(tmp_path / "m.safetensors", a, {"format": "pt"})
    model = nn.LSTM(m, n, rng=0)
    nn.load_into(model, tmp_path / "m.safetensors")
    x, h, c = normal(1, m), normal(1, n), normal(1, n)
    z = x @ a["weight_ih_l0"].T + h @ a["weight_hh_l0"].T + a["bias_ih_l0"] + a["bias_hh_l0"]
    i, f, g, o = np.split(z, 4, axis=1)
    s = lambda v: 1 / (1 + np.exp(-v))
    c1 = s(f) * c + s(i) * np.tanh(g)
    y, _ = model(x[:, None], (h[None], c[None]))
    np.testing.assert_allclose(y.numpy()[:, 0], s(o) * np.tanh(c1), rtol=2e-5)


# ---- PyTorch itself


def torch_file(model, place):
    own = pytest.importorskip("safetensors.torch", reason="its own package is not installed")
    own.save_model(model, str(place), {"format": "pt"})


@pytest.mark.parametrize("name", NAMES)
def test_models_of_torch_give_equal_outputs(torch, tmp_path, name):
    torch.manual_seed(0)
    _, theirs_, ours, shape, order = next(m for m in ours_and_theirs() if m[0] == name)
    theirs_ = theirs_.double()
    ours.to(np.float64)
    with torch.no_grad():
        for p in theirs_.parameters():
            p += 0.1 * torch.randn_like(p)
    x = np.random.default_rng(0).normal(size=shape)
    t = torch.tensor(x if order is None else x.transpose(order))
    theirs_.train()
    theirs_(t)  # moves the running statistics
    torch_file(theirs_, tmp_path / "m.safetensors")
    report = nn.load_into(ours, tmp_path / "m.safetensors")
    assert not report.missing
    want = theirs_.eval()(t)
    got = ours.eval()(x)
    want, got = (v[0] if isinstance(v, tuple) else v for v in (want, got))
    want = want.detach().numpy()
    if order is not None:
        want = np.moveaxis(want, 1, -1)
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-12, atol=1e-12)


def test_a_decoder_of_torch(torch, tmp_path):
    torch.manual_seed(0)
    layer = torch.nn.TransformerDecoderLayer(8, 2, 16, 0.0, "relu", batch_first=True)
    theirs_ = torch.nn.TransformerDecoder(layer, 2).double().eval()
    ours = nn.TransformerDecoder(
        2, 8, 2, 16, activation="relu", norm_first=False, dtype=np.float64
    ).eval()
    torch_file(theirs_, tmp_path / "m.safetensors")
    nn.load_into(ours, tmp_path / "m.safetensors")
    x, c = (np.random.default_rng(i).normal(size=(2, n, 8)) for i, n in enumerate((5, 4)))
    mask = torch.nn.Transformer.generate_square_subsequent_mask(5, dtype=torch.float64)
    want = theirs_(torch.tensor(x), torch.tensor(c), tgt_mask=mask).detach().numpy()
    np.testing.assert_allclose(ours(x, c).numpy(), want, rtol=1e-12, atol=1e-12)


def test_bfloat16_of_torch(torch, tmp_path):
    theirs_ = torch.nn.Linear(4, 3).to(torch.bfloat16)
    torch_file(theirs_, tmp_path / "m.safetensors")
    layer = nn.Linear(4, 3)
    nn.load_into(layer, tmp_path / "m.safetensors")
    np.testing.assert_array_equal(layer.weight.numpy(), theirs_.weight.detach().float().numpy().T)


def test_nothing_is_unpickled():
    for name in ("wengert.nn.safetensors", "wengert.nn.interop"):
        assert "pickle" not in vars(sys.modules[name])
    assert wg.nn.load is safetensors.load
