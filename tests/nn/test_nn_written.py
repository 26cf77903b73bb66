"""Models written as PyTorch lays them out: read back, by hand, and by PyTorch itself."""

import numpy as np
import pytest
from interop_models import NAMES, Reader, ours_and_theirs, randomised, sequential

from wengert import nn
from wengert.errors import OptionError


class Mixed(nn.Module):
    def __init__(self, seed):
        draw = np.random.default_rng(seed)
        self.up = nn.ConvTranspose2d(6, 4, (3, 2), groups=2, rng=draw)
        self.form = nn.Bilinear(2, 3, 4, rng=draw)
        self.line = [nn.Conv1d(2, 3, 5, rng=draw), nn.PReLU()]
        self.cells = {"gru": nn.GRUCell(2, 3, rng=draw), "lstm": nn.LSTMCell(2, 3, rng=draw)}
        self.attend = nn.MultiheadAttention(4, 2, d_context=3, rng=draw)
        self.bare = nn.MultiheadAttention(4, 2, bias=False, rng=draw)
        self.norm = nn.BatchNorm1d(3)


MAKERS = {
    "mixed": Mixed,
    "conv": lambda seed: nn.Sequential(nn.Conv2d(2, 3, (2, 1), rng=seed), nn.BatchNorm2d(3)),
    "flattened": sequential,
    "lstm": lambda seed: nn.LSTM(2, 3, layers=2, bidirectional=True, rng=seed),
    "gru": lambda seed: nn.GRU(2, 3, layers=2, rng=seed),
    "rnn": lambda seed: nn.RNN(2, 3, bias=False, rng=seed),
    "encoder": lambda seed: nn.TransformerEncoder(2, 8, 2, 16, rng=seed),
    "gpt": lambda seed: nn.GPT(7, 2, 2, 4, 5, rng=seed),
}


@pytest.mark.parametrize("name", MAKERS)
def test_what_is_written_is_read_back(tmp_path, name):
    model, twin = randomised(MAKERS[name](0)), MAKERS[name](1)
    nn.save(model, tmp_path / "m.safetensors", {"epoch": "3"}, layout="torch")
    report = nn.load_into(twin, tmp_path / "m.safetensors")
    assert not report.missing
    assert not report.unused
    assert report.metadata == {"format": "pt", "epoch": "3"}
    for path, value in model.state_dict().items():
        got = twin.state_dict()[path]
        assert got.dtype == value.dtype
        np.testing.assert_array_equal(got, value, err_msg=path)


def test_layouts_by_hand(tmp_path):
    model = randomised(Mixed(0))
    nn.save(model, tmp_path / "m.safetensors", layout="torch")
    got, own = nn.load(tmp_path / "m.safetensors")[0], model.state_dict()
    assert got["up.weight"].shape == (6, 2, 3, 2)
    np.testing.assert_array_equal(got["up.weight"][:, :, 2, 1], own["up.weight"][2, 1].T)
    np.testing.assert_array_equal(got["form.weight"][3], own["form.weight"][:, :, 3])
    np.testing.assert_array_equal(got["line.0.weight"][:, 1, 4], own["line.0.weight"][4, 1])
    i, f, o, g = np.split(own["cells.lstm.weight_x"].T, 4)
    np.testing.assert_array_equal(got["cells.lstm.weight_ih"], np.concatenate([i, f, g, o]))
    assert not got["cells.lstm.bias_hh"].any()
    np.testing.assert_array_equal(got["cells.gru.bias_hh"][6:], own["cells.gru.bias_h"])
    assert not got["cells.gru.bias_hh"][:6].any()
    assert got["attend.k_proj_weight"].shape == (4, 3)
    assert got["attend.in_proj_bias"].shape == (12,)
    assert got["bare.in_proj_weight"].shape == (12, 4)
    np.testing.assert_array_equal(got["bare.in_proj_weight"][4:8], own["bare.key.weight"].T)
    assert not [n for n in got if n.startswith("bare") and "bias" in n]


def test_a_parameter_at_two_places_is_written_at_both(tmp_path):
    model = nn.GPT(7, 1, 2, 4, 5, rng=0)
    nn.save(model, tmp_path / "m.safetensors", layout="torch")
    got, _ = nn.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(got["head.weight"], got["table.weight"])


def test_a_forward_that_may_flatten_is_asked_about(tmp_path):
    model, place = randomised(Reader()), tmp_path / "m.safetensors"
    with pytest.raises(OptionError, match=r"flattened=\{'head': 4\} if it is; flattened=\{\} if"):
        nn.save(model, place, layout="torch")
    assert not place.exists()
    for flattened in ({"head": 4}, {}):
        twin = Reader(seed=5)
        nn.save(model, place, layout="torch", flattened=flattened)
        nn.load_into(twin, place, flattened=flattened)
        for name, value in model.state_dict().items():
            np.testing.assert_array_equal(twin.state_dict()[name], value)
    rows, _ = nn.load(place)
    nn.save(model, place, layout="torch", flattened={"head": 4})
    assert (nn.load(place)[0]["head.weight"] != rows["head.weight"]).any()


def test_what_pytorch_has_not_is_refused(tmp_path):
    grouped = nn.MultiheadAttention(8, 4, kv_heads=2, rng=0)
    with pytest.raises(OptionError, match="as many heads of keys and values as of queries"):
        nn.save(grouped, tmp_path / "m", layout="torch")
    with pytest.raises(OptionError, match=r"save\(layout='keras'\)"):
        nn.save(grouped, tmp_path / "m", layout="keras")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
def test_pytorch_reads_it_and_answers_the_same(torch, tmp_path, name):
    own = pytest.importorskip("safetensors.torch", reason="its own package is not installed")
    _, theirs, ours, shape, order = next(m for m in ours_and_theirs() if m[0] == name)
    randomised(ours.to(np.float64))
    nn.save(ours, tmp_path / "m.safetensors", layout="torch")
    theirs.double().load_state_dict(own.load_file(tmp_path / "m.safetensors"))
    x = np.random.default_rng(0).normal(size=shape)
    t = torch.tensor(x if order is None else x.transpose(order))
    with torch.no_grad():
        want = theirs.eval()(t)
    got = ours.eval()(x)
    want, got = (v[0] if isinstance(v, tuple) else v for v in (want, got))
    want = want.numpy() if order is None else np.moveaxis(want.numpy(), 1, -1)
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-11, atol=1e-12)


def test_pytorch_flattens_the_same(torch, tmp_path):
    own = pytest.importorskip("safetensors.torch", reason="its own package is not installed")
    n = torch.nn
    theirs = n.Sequential(
        n.Conv2d(2, 4, 3, padding=1), n.BatchNorm2d(4), n.ReLU(), n.Flatten(),
        n.BatchNorm1d(24), n.Dropout(0.5), n.Linear(24, 12), n.Linear(12, 8),
    ).double()  # fmt: skip
    ours = randomised(sequential().to(np.float64))
    nn.save(ours, tmp_path / "m.safetensors", layout="torch")
    theirs.load_state_dict(own.load_file(tmp_path / "m.safetensors"))
    x = np.random.default_rng(0).normal(size=(5, 2, 3, 2))
    with torch.no_grad():
        want = theirs.eval()(torch.from_numpy(x)).numpy()
    got = ours.eval()(x.transpose(0, 2, 3, 1)).numpy()
    np.testing.assert_allclose(got, want, rtol=1e-11)
