"""The table of a model: shapes, counts, and that it leaves the model as it was."""

import tracemalloc

import numpy as np

import wengert as wg
from wengert import nn


def test_counts_and_shapes():
    model = nn.Sequential(nn.Linear(4, 8, rng=0), nn.BatchNorm1d(8), nn.Dropout(0.5, rng=0))
    model.layers[0].bias.requires_grad_(False)
    report = nn.summary(model, (16, 4))
    rows = {r.path: r for r in report.rows}
    assert rows["layers.0"].shape == (16, 8)
    assert (rows["layers.0"].parameters, rows["layers.0"].trained) == (40, 32)
    assert rows["layers.0"].bytes == 160
    assert (report.parameters, report.trained, report.parameter_bytes) == (56, 48, 224)
    assert report.buffer_bytes == 2 * 32 + 8
    assert "56 parameters (224 B), 48 of them trained" in str(report)


def test_the_model_is_left_as_it_was():
    model = nn.Sequential(nn.Linear(4, 8, rng=0), nn.BatchNorm1d(8), nn.Dropout(0.5, rng=0))
    model.layers[1].eval()
    state, stream = model.state_dict(), model.layers[2].rng.bit_generator.state
    for given in ((16, 4), np.ones((16, 4), np.float32)):
        nn.summary(model, given)
        for name, value in model.state_dict().items():
            np.testing.assert_array_equal(value, state[name])
        assert str(model.layers[2].rng.bit_generator.state) == str(stream)
        assert [m.training for m in model.modules()] == [True, True, False, True]
    assert model(np.ones((2, 4), np.float32)).requires_grad


def test_shapes_alone_take_no_memory():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, rng=0), nn.ReLU(), nn.GlobalAvgPool())
    tracemalloc.start()
    report = nn.summary(model, (1000, 64, 64, 3))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert report.rows[1].shape == (1000, 62, 62, 8)
    assert report.output_bytes > 100e6
    assert peak < 5e6


def test_a_model_that_looks_at_values_is_called():
    class Curious(nn.Module):
        def __init__(self):
            self.inner = nn.Linear(2, 2, rng=0)

        def forward(self, x):
            return self.inner(x) if float(np.asarray(x).sum()) == 0 else x

    assert nn.summary(Curious(), (3, 2)).rows[1].shape == (3, 2)


def test_shared_parameters_count_once_and_tokens_are_integers():
    model = nn.GPT(11, 1, 2, 4, 6, rng=0)
    report = nn.summary(model, (2, 6), dtype=int)
    assert report.parameters == sum(p.size for p in model.parameters())
    assert sum(r.parameters for r in report.rows) == report.parameters
    assert report.rows[0].shape == (2, 6, 11)


def test_several_outputs_and_none():
    rows = nn.summary(nn.LSTM(2, 3, rng=0), (4, 5, 2)).rows
    assert rows[0].shape == ((4, 5, 3), (1, 4, 3), (1, 4, 3))
    assert nn.summary(nn.Linear(2, 2, rng=0)).rows[0].shape is None
    assert wg.nn.Summary is type(nn.summary(nn.Tanh()))
