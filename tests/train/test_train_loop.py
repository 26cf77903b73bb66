"""Training learns, repeats itself bit for bit, and leaves whole epochs when it cannot go on."""

import json
import os
import signal
import threading

import numpy as np
import pytest

from wengert.errors import MissingExtraError, NonFiniteError, OptionError, OutputError
from wengert.train import Options, Stopped, Watcher, fit, load
from wengert.train import folder as folder_module

safetensors = pytest.importorskip("safetensors.numpy")


def rows_of(path, times=True):
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        if not times:
            del row["seconds"], row["examples_per_second"]
    return rows


def epoch_of(path):
    content = (path / "model.safetensors").read_bytes()
    size = int.from_bytes(content[:8], "little")
    return json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["wengert"])["epoch"]


class At(Watcher):
    """Does something in a certain step of a certain epoch."""

    def __init__(self, epoch, step, act):
        self.when, self.act = (epoch, step), act

    def step(self, run, done):
        if (run.epoch, done) == self.when:
            self.act(run)


@pytest.mark.parametrize("seed", [0, 1])
def test_digits_reach_97_percent(tmp_path, seed):
    outcome = fit(Options.of("digits", seed=seed), tmp_path / "run")
    assert outcome.examples == 359
    assert outcome.accuracy >= 0.97
    assert outcome.seconds < 15


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 22))
def test_digits_reach_97_percent_for_every_seed(tmp_path, seed):
    assert fit(Options.of("digits", seed=seed), tmp_path / "run").accuracy >= 0.97


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_digits_learn_with_every_optimizer(tmp_path, optimizer):
    outcome = fit(Options.of("digits", optimizer=optimizer, epochs=8), tmp_path / "run")
    assert outcome.accuracy >= 0.95


def test_the_same_seed_gives_the_same_bits(tmp_path):
    a, b, c = (tmp_path / name for name in "abc")
    for path, seed in ((a, 3), (b, 3), (c, 4)):
        fit(Options.of("digits", epochs=3, seed=seed), path)
    assert rows_of(a, times=False) == rows_of(b, times=False)
    for name in ("model.safetensors", "config.toml"):
        assert (a / name).read_bytes() == (b / name).read_bytes()
    assert rows_of(a, times=False) != rows_of(c, times=False)
    assert (a / "model.safetensors").read_bytes() != (c / "model.safetensors").read_bytes()


def test_metrics_say_what_they_should(tmp_path):
    outcome = fit(Options.of("digits", epochs=2), tmp_path / "run")
    rows = rows_of(tmp_path / "run")
    assert rows == outcome.rows
    assert [row["epoch"] for row in rows] == [1, 2]
    for row in rows:
        assert list(row["grad_norm"]) == ["layers.0", "layers.2", "layers.4"]
        assert all(norm > 0 for norm in row["grad_norm"].values())
        assert 0.5 < row["validation_accuracy"] <= 1
        assert row["examples_per_second"] > 0
    assert rows[1]["loss"] < rows[0]["loss"]


def test_gradient_norms_are_those_of_the_gradients(tmp_path):
    norms = []

    class Norms(Watcher):
        def step(self, run, done):
            layer = run.model.layers[0]
            parts = [layer.weight.grad.numpy(), layer.bias.grad.numpy()]
            norms.append(sum(float((g.astype(np.float64) ** 2).sum()) for g in parts))

    outcome = fit(Options.of("digits", epochs=1), tmp_path / "run", [Norms()])
    assert len(norms) == 40
    expected = np.sqrt(np.mean(norms))
    assert outcome.rows[0]["grad_norm"]["layers.0"] == pytest.approx(expected, rel=1e-5)


def test_the_weights_can_be_loaded_and_used(tmp_path):
    from wengert.data import digits

    outcome = fit(Options.of("digits", epochs=2), tmp_path / "run")
    model = load(tmp_path / "run")
    test = digits().split().test
    right = model(test.images).numpy().argmax(1) == test.labels
    assert int(right.sum()) == outcome.right
    assert epoch_of(tmp_path / "run") == 2


def test_loading_what_is_not_there(tmp_path):
    with pytest.raises(OptionError, match=r"it has no config\.toml"):
        load(tmp_path)


# ---- xor


def test_xor_is_solved_for_every_seed(tmp_path):
    for seed in range(5):
        outcome = fit(Options.of("xor", seed=seed), tmp_path / str(seed))
        assert outcome.solved
        assert outcome.right == 4
        cases = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
        answers = load(tmp_path / str(seed))(cases).numpy().ravel()
        np.testing.assert_allclose(answers, [0, 1, 1, 0], atol=0.1)


def test_xor_draws_again_when_stuck(tmp_path):
    messages = []

    class Listen(Watcher):
        def message(self, run, text):
            messages.append((run.epoch, text))

    outcome = fit(Options.of("xor", epochs=30), tmp_path / "run", [Listen()])
    assert [epoch for epoch, _ in messages[:2]] == [30, 60]
    assert all(text.endswith(": drawing new weights") for _, text in messages)
    rows = rows_of(tmp_path / "run")
    assert rows[-1]["draw"] == len(messages) + 1
    assert outcome.solved or len(messages) == 19


def test_the_local_minimum_of_xor_is_named(tmp_path):
    messages = []

    class Listen(Watcher):
        def message(self, run, text):
            messages.append(text)

    outcome = fit(Options.of("xor", seed=6), tmp_path / "run", [Listen()])
    # Two of the four answers are then 1/2: a loss of 2 (1/2)^2 / 4 = 1/8, from above.
    assert messages[0].startswith("stuck in a local minimum at loss 0.125")
    assert outcome.solved


# ---- when it cannot go on


def test_ctrl_c_leaves_the_last_whole_epoch(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    interrupt = At(3, 10, lambda run: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Stopped) as caught:
        fit(Options.of("digits"), tmp_path / "run", [interrupt])
    assert isinstance(caught.value, KeyboardInterrupt)
    assert caught.value.run.epoch == 3
    assert [row["epoch"] for row in rows_of(tmp_path / "run")] == [1, 2]
    assert epoch_of(tmp_path / "run") == 2
    load(tmp_path / "run")
    assert signal.getsignal(signal.SIGINT) is before


def test_a_stopped_run_is_the_beginning_of_a_whole_one(tmp_path):
    interrupt = At(3, 10, lambda run: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Stopped):
        fit(Options.of("digits", epochs=4), tmp_path / "stopped", [interrupt])
    fit(Options.of("digits", epochs=4), tmp_path / "whole")
    stopped, whole = (rows_of(tmp_path / name, times=False) for name in ("stopped", "whole"))
    assert stopped == whole[:2]


def test_ctrl_c_in_the_first_epoch_leaves_the_first_weights(tmp_path):
    interrupt = At(1, 1, lambda run: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Stopped):
        fit(Options.of("digits"), tmp_path / "run", [interrupt])
    assert epoch_of(tmp_path / "run") == 0


def test_training_works_outside_the_main_thread(tmp_path):
    outcomes = []
    work = lambda: outcomes.append(fit(Options.of("digits", epochs=1), tmp_path / "run"))
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert outcomes[0].accuracy > 0.5


def test_a_loss_that_diverges_stops_and_keeps_the_last_good_state(tmp_path):
    def spoil(run):
        run.model.layers[0].weight.data[...] = np.nan

    with pytest.raises(NonFiniteError) as caught:
        fit(Options.of("digits"), tmp_path / "run", [At(2, 5, spoil)])
    text = str(caught.value)
    assert "wengert train digits: the loss became nan in epoch 2" in text
    assert f"last good : epoch 1, in {tmp_path / 'run' / 'model.safetensors'}" in text
    assert "fix: --lr 0.01" in text
    assert epoch_of(tmp_path / "run") == 1
    assert all(np.isfinite(p.numpy()).all() for p in load(tmp_path / "run").parameters())


def test_a_huge_learning_rate_is_caught(tmp_path):
    with pytest.raises(NonFiniteError):
        fit(Options.of("digits", settings={"lr": 1e20}), tmp_path / "run")
    assert epoch_of(tmp_path / "run") == 0


def test_weights_that_break_in_the_last_step_are_not_saved(tmp_path):
    def spoil(run):
        run.model.layers[0].bias.data[0] = np.inf

    with pytest.raises(NonFiniteError, match=r"layers\.0\.bias is no longer finite after epoch 2"):
        fit(Options.of("digits"), tmp_path / "run", [At(2, 40, spoil)])
    assert epoch_of(tmp_path / "run") == 1


def test_a_disk_that_fills_up_leaves_the_last_whole_epoch(tmp_path, monkeypatch):
    import errno

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    fill = At(3, 1, lambda run: monkeypatch.setattr(folder_module.os, "fsync", full))
    with pytest.raises(OutputError, match="No space left on device"):
        fit(Options.of("digits"), tmp_path / "run", [fill])
    assert epoch_of(tmp_path / "run") == 2
    assert [row["epoch"] for row in rows_of(tmp_path / "run")] == [1, 2]
    assert not [p for p in (tmp_path / "run").iterdir() if p.name.endswith(".part")]


def test_watchers_hear_of_the_end_even_when_it_breaks_off(tmp_path):
    ends = []

    class End(Watcher):
        def end(self, run, outcome):
            ends.append(outcome)

    with pytest.raises(NonFiniteError):
        fit(Options.of("digits", settings={"lr": 1e20}), tmp_path / "run", [End()])
    assert ends == [None]


def test_without_safetensors_nothing_is_written(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(MissingExtraError) as caught:
        fit(Options.of("digits"), tmp_path / "run")
    assert "safetensors is not installed" in str(caught.value)
    assert "fix: pip install 'wengert[train]'" in str(caught.value)
    assert not (tmp_path / "run").exists()
