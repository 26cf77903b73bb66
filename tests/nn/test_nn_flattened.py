"""Networks of PyTorch that flatten a picture: its channels come first there, and last here."""

import numpy as np
import pytest
from interop_models import Reader, randomised, sequential

from wengert import nn
from wengert.errors import OptionError, UnknownNameError

safetensors = pytest.importorskip("safetensors.numpy")


def as_theirs(state, rows, cut=lambda name: name):
    """The arrays as PyTorch has them; `rows` names what stands behind the flattened picture."""
    out = {}
    for name, value in state.items():
        if value.ndim == 4:
            value = value.transpose(3, 2, 0, 1)
        if name in rows:  # (place, channel) to (channel, place)
            value = value.reshape(6, 4, *value.shape[1:]).swapaxes(0, 1).reshape(value.shape)
        out[cut(name)] = np.array(value.T if value.ndim == 2 else value, order="C")
    return out


@pytest.mark.parametrize("norm", [False, True])
def test_behind_a_flatten_rows_change_places(tmp_path, norm):
    model = randomised(sequential(norm=norm))
    head = "layers.6" if norm else "layers.4"
    rows = {f"{head}.weight"}
    if norm:
        rows |= {f"layers.4.{n}" for n in ("weight", "bias", "running_mean", "running_var")}
    arrays = as_theirs(model.state_dict(), rows, lambda name: name.removeprefix("layers."))
    safetensors.save_file(arrays, tmp_path / "m.safetensors")
    twin = sequential(seed=9, norm=norm)
    nn.load_into(twin, tmp_path / "m.safetensors", layout="torch")
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(twin.state_dict()[name], value, err_msg=name)


def test_a_forward_that_may_flatten_is_asked_about(tmp_path):
    model = randomised(Reader())
    place = tmp_path / "m.safetensors"
    safetensors.save_file(as_theirs(model.state_dict(), {"head.weight"}), place)
    twin = Reader(seed=5)
    before = twin.state_dict()
    with pytest.raises(OptionError) as caught:
        nn.load_into(twin, place, layout="torch")
    assert "flattened={'head': 4} if it is; flattened={} if it is not" in str(caught.value)
    assert "test_nn_flattened.py" in str(caught.value)
    for name, value in before.items():
        np.testing.assert_array_equal(twin.state_dict()[name], value)
    nn.load_into(twin, place, layout="torch", flattened={"head": 4})
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(twin.state_dict()[name], value)
    nn.load_into(twin, place, layout="torch", flattened={})
    assert (twin.state_dict()["head.weight"] != model.state_dict()["head.weight"]).any()


def test_an_unknown_path_is_refused(tmp_path):
    model = Reader()
    safetensors.save_file(as_theirs(model.state_dict(), {}), tmp_path / "m.safetensors")
    with pytest.raises(UnknownNameError, match="which is no module of the model"):
        nn.load_into(model, tmp_path / "m.safetensors", layout="torch", flattened={"hed": 4})


def test_a_torch_network_gives_equal_outputs(torch, tmp_path):
    n = torch.nn
    theirs = n.Sequential(
        n.Conv2d(2, 4, 3, padding=1), n.BatchNorm2d(4), n.ReLU(), n.Flatten(),
        n.BatchNorm1d(24), n.Dropout(0.5), n.Linear(24, 12), n.Linear(12, 8),
    ).double()  # fmt: skip
    with torch.no_grad():
        for p in (*theirs.parameters(), *theirs.buffers()):
            if p.is_floating_point():
                p.uniform_(0.5, 1.5)
    arrays = {k: v.numpy() for k, v in theirs.state_dict().items()}
    safetensors.save_file(arrays, tmp_path / "m.safetensors")
    ours = sequential().to(np.float64)
    nn.load_into(ours, tmp_path / "m.safetensors", layout="torch")
    x = np.random.default_rng(0).normal(size=(5, 2, 3, 2))
    with torch.no_grad():
        want = theirs.eval()(torch.from_numpy(x)).numpy()
    got = ours.eval()(x.transpose(0, 2, 3, 1)).numpy()
    np.testing.assert_allclose(got, want, rtol=1e-12)
