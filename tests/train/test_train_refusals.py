"""What `fit`, `resume`, `Options` and `Step` are given by mistake: nothing is begun."""

import numpy as np
import pytest

from wengert import nn
from wengert.errors import ArgumentError, DataError, OptionError
from wengert.nn import functional as F
from wengert.optim import SGD
from wengert.train import Options, RunFolder, Step, fit, load, open_run, read_config, resume, tokens

X, Y = np.ones((4, 2), np.float32), np.zeros((4, 1), np.float32)


def loss(model, x, y):
    return F.mse_loss(model(x), y)


def made(**options):
    model = nn.Linear(2, 1, rng=0)
    parts = {"loss": loss, "optimizer": SGD(model.parameters(), lr=0.1), **options}
    return Step(model, parts.pop("loss"), parts.pop("optimizer"), **parts)


@pytest.mark.parametrize(("name", "values"), [
    ("loss", [None, 3]), ("optimizer", [None, 3, SGD]), ("weight", [3, "x"]), ("noise", [3, 0.1]),
    ("ema", [3, 0.9]), ("schedule", [3, "cosine"]), ("scaler", [3, True]), ("compile", ["yes", 2]),
])  # fmt: skip
def test_parts_of_a_step_that_are_none(name, values):
    for value in values:
        with pytest.raises(OptionError, match=name):
            made(**{name: value})


@pytest.mark.parametrize("weight", [None, "heavy", [1, 2], np.nan])
def test_a_weight_is_a_number(weight):
    step = made(weight=lambda *batch: weight)
    with pytest.raises(ArgumentError, match="weight"):
        step(X, Y)


@pytest.mark.parametrize("compile", [False, True])
def test_a_batch_is_what_the_loss_takes(compile):
    step = made(compile=compile)
    with pytest.raises(ArgumentError, match="called with 1 argument: missing"):
        step()
    with pytest.raises(ArgumentError, match="called with 4 arguments"):
        step(X, Y, Y)
    for parts in (None, 3):
        with pytest.raises(ArgumentError, match="parts"):
            step.micro(parts)
    assert not step(X, Y).skipped


def test_labels_that_a_batch_has_not():
    for labels in (7, -3):
        with pytest.raises(ArgumentError, match=f"labels={labels}"):
            tokens(labels=labels)(np.ones(3), np.ones(3))


@pytest.mark.parametrize("options", ["digits", None, {"recipe": "digits"}])
def test_a_run_has_options(options, tmp_path):
    with pytest.raises(OptionError, match="options"):
        fit(options, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("watchers", [3, [3], [None], [print]])
def test_watchers_are_watchers(watchers, tmp_path):
    options = Options.of("digits", epochs=1)
    with pytest.raises(OptionError, match="watchers"):
        fit(options, tmp_path / "run", watchers)
    assert not (tmp_path / "run").exists()
    fit(options, tmp_path / "run")
    with pytest.raises(OptionError, match="watchers"):
        resume(tmp_path / "run", watchers, epochs=2)
    assert open_run(tmp_path / "run").options.epochs == 1


@pytest.mark.parametrize("name", ["settings", "task"])
@pytest.mark.parametrize("value", [[1], "lr=3", 3])
def test_settings_have_names(name, value):
    with pytest.raises(OptionError, match=f"{name}=.*by their names"):
        Options.of("char-gpt", **{name: value})


@pytest.mark.parametrize("path", [None, 3, ["run"], b"run", "a\0b"])
def test_what_is_no_folder(path):
    for call in (load, open_run, resume, read_config, RunFolder):
        with pytest.raises(DataError, match="a path is a text"):
            call(path)
    if path is not None:
        with pytest.raises(DataError, match="a path is a text"):
            fit(Options.of("digits", epochs=1), path)
