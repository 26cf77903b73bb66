"""Every recipe learns what it says, answers, resumes bit for bit, and takes every option."""

import json
import os
import signal

import numpy as np
import pytest

from wengert import nn
from wengert.errors import DataError, MissingExtraError, OptionError
from wengert.train import RECIPES, Options, Stopped, Watcher, fit, load, open_run, resume
from wengert.train import loop as loop_module
from wengert.train.config import recomputing
from wengert.train.recipes import langevin, language

pytest.importorskip("safetensors.numpy")

TEXT = "the quick brown fox jumps over the lazy dog; " * 30


@pytest.fixture
def text(tmp_path):
    (tmp_path / "fox.txt").write_text(TEXT)
    return str(tmp_path / "fox.txt")


def small(name, text):
    """Options of a short run of a recipe."""
    writer = {"text": text, "context": 16, "width": 16, "dropout": 0.2}
    own = {
        "xor": {"epochs": 10, "seed": 3},
        "digits": {"epochs": 2},
        "digits-cnn": {"epochs": 2, "task": {"width": 4}, "batch_size": 64},
        "spiral": {"epochs": 4, "task": {"points": 300}},
        "regress": {"epochs": 4},
        "autoencoder": {"epochs": 2},
        "char-gpt": {"epochs": 2, "task": {**writer, "heads": 2}},
        "char-lstm": {"epochs": 2, "task": {**writer, "layers": 2}},
        "maml-sine": {"epochs": 2, "task": {"tasks": 60, "width": 8}},
        "langevin": {"epochs": 600},
    }
    return own[name]


def content(path):
    """The files of a run, without times and rates."""
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        del row["seconds"], row["examples_per_second"]
    return rows, (path / "model.safetensors").read_bytes()


class At(Watcher):
    """Interrupts this process in a certain step of a certain epoch."""

    def __init__(self, epoch, step):
        self.when = (epoch, step)

    def step(self, run, done):
        if (run.epoch, done) == self.when:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("name", RECIPES)
def test_a_stopped_run_of_every_recipe_goes_on_bit_for_bit(tmp_path, text, name, monkeypatch):
    if name == "regress":
        pytest.importorskip("sklearn")
    monkeypatch.setattr(loop_module, "PAUSE", 0.0)
    options = Options.of(name, ema=0.9, **small(name, text))
    fit(options, tmp_path / "whole")
    with pytest.raises(Stopped):
        fit(options, tmp_path / "run", [At(2, 1)])
    resume(tmp_path / "run")
    assert content(tmp_path / "run") == content(tmp_path / "whole")
    rows, _ = content(tmp_path / "whole")
    assert all(np.isfinite(v) for row in rows for v in row.values() if isinstance(v, float))


@pytest.mark.parametrize("name", RECIPES)
def test_what_a_run_left_behind_can_be_used(tmp_path, text, name):
    if name == "regress":
        pytest.importorskip("sklearn")
    outcome = fit(Options.of(name, **small(name, text)), tmp_path / "run")
    trained = open_run(tmp_path / "run")
    assert trained.notes == []
    assert loop_module.measured(trained.recipe, trained.model, trained.parts.test) == (
        pytest.approx(dict(outcome.measures), rel=1e-12)
    )
    if trained.recipe.show is not None:
        assert all(
            isinstance(line, str)
            for line in trained.recipe.show(load(tmp_path / "run"), trained.parts)
        )
    if trained.recipe.pictures is not None:
        for grid in trained.recipe.pictures(trained.model, trained.parts).values():
            assert grid.ndim == 4
    if trained.recipe.predict is not None and trained.recipe.read is None:
        x = trained.parts.test.batch(np.arange(4))[0]
        assert len(trained.recipe.predict(trained.model, x)) == len(x)
    if trained.recipe.sample is not None:
        draw = lambda seed, t: trained.recipe.sample(
            trained.model, trained.parts, np.random.default_rng(seed), "the ", 30, t
        )
        assert draw(0, 1.0) == draw(0, 1.0) != draw(1, 1.0)
        assert draw(0, 0.0) == draw(1, 0.0)
        assert draw(0, 1.0).startswith("the ")
        assert len(draw(0, 1.0)) == 34


# ---- that they learn


def test_the_convolutional_network_learns(tmp_path):
    task = {"width": 8, "dropout": 0.1}
    outcome = fit(Options.of("digits-cnn", epochs=8, task=task), tmp_path / "run")
    assert outcome.accuracy > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_the_convolutional_network_reads_98_and_a_half_percent(tmp_path, seed):
    assert fit(Options.of("digits-cnn", seed=seed), tmp_path / "run").accuracy >= 0.985


@pytest.mark.slow
@pytest.mark.parametrize("arms", [2, 3])
def test_spirals_are_told_apart(tmp_path, arms):
    options = Options.of("spiral", epochs=40, task={"arms": arms})
    assert fit(options, tmp_path / "run").accuracy > 0.95


def test_regression_explains_what_a_linear_model_does(tmp_path):
    linear = pytest.importorskip("sklearn.linear_model")
    outcome = fit(Options.of("regress"), tmp_path / "run")
    trained = open_run(tmp_path / "run")
    x, y = trained.parts.train.batch(np.arange(len(trained.parts.train)))
    test_x, test_y = trained.parts.test.batch(np.arange(len(trained.parts.test)))
    theirs = linear.LinearRegression().fit(x, y).score(test_x, test_y)
    assert outcome.measures["R2"] > theirs - 0.03
    wrong = np.square(trained.recipe.predict(trained.model, test_x) - test_y).sum()
    r2 = 1 - wrong / np.square(test_y - test_y.mean()).sum()
    assert outcome.measures["R2"] == pytest.approx(r2, rel=1e-10)


def test_a_linear_regression_is_that_of_least_squares(tmp_path):
    pytest.importorskip("sklearn")
    options = Options.of(
        "regress", optimizer="sgd", epochs=400, batch_size=400, task={"width": 0},
        settings={"lr": 0.2}, schedule="constant",
    )  # fmt: skip
    fit(options, tmp_path / "run")
    trained = open_run(tmp_path / "run")
    x, y = trained.parts.train.batch(np.arange(len(trained.parts.train)))
    design = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    exact = design @ np.linalg.lstsq(design, y, rcond=None)[0]
    ours = trained.recipe.predict(trained.model, x)
    np.testing.assert_allclose(ours, exact, atol=0.01 * y.std())


def test_a_table_of_ones_own_is_regressed(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 2))
    rows = [f"{a},{b},{3 * a - b + 5}" for a, b in x]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,y", *rows]))
    task = {"data": str(tmp_path / "t.csv"), "target": "y", "width": 0}
    settings = {"lr": 0.02, "weight_decay": 0.0}
    outcome = fit(Options.of("regress", task=task, settings=settings), tmp_path / "run")
    assert outcome.measures["R2"] > 0.9999


def test_the_autoencoder_draws_digits(tmp_path):
    outcome = fit(Options.of("autoencoder", epochs=15), tmp_path / "run")
    assert outcome.measures["R2"] > 0.7


@pytest.mark.slow
@pytest.mark.parametrize("name", ["char-gpt", "char-lstm"])
@pytest.mark.parametrize("tokens", ["characters", "bpe"])
def test_writers_learn_a_sentence(tmp_path, text, name, tokens):
    writer = {"text": text, "context": 32, "width": 32, "tokens": tokens, "vocabulary": 270}
    options = Options.of(name, epochs=30, batch_size=4, task=writer)
    outcome = fit(options, tmp_path / "run")
    assert outcome.measures["bits_per_character"] < 1.0  # 4.2 with equal letters
    assert outcome.rows[0]["validation_loss"] > 2 * outcome.rows[-1]["validation_loss"]


def test_bits_are_those_of_the_probabilities(tmp_path, text):
    options = Options.of("char-gpt", epochs=1, task={"text": text, "context": 16, "width": 16})
    fit(options, tmp_path / "run")
    trained = open_run(tmp_path / "run")
    tokens = trained.recipe.read("the lazy dog", trained.parts)
    found = trained.recipe.predict(trained.model, tokens)
    for i in range(1, tokens.shape[1]):
        logits = trained.model(tokens[:, :i]).numpy()[0, -1].astype(float)
        p = np.exp(logits) / np.exp(logits).sum()
        assert found[i - 1, 0] == pytest.approx(-np.log2(p[tokens[0, i]]), rel=1e-4)


@pytest.mark.slow
def test_one_step_of_adaptation_is_learned(tmp_path):
    options = Options.of("maml-sine", epochs=8, task={"tasks": 1000}, settings={"lr": 0.01})
    outcome = fit(options, tmp_path / "run")
    assert outcome.measures["loss"] < 0.5 * outcome.measures["error_0"]


@pytest.mark.slow
def test_the_chain_finds_the_posterior(tmp_path):
    outcome = fit(Options.of("langevin", epochs=6000), tmp_path / "run")
    assert outcome.measures["mean_error"] < 0.2
    assert outcome.measures["deviation_error"] < 0.15


def test_the_exact_posterior_solves_its_equations():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((9, 3)), rng.standard_normal((9, 1))
    mean, covariance = langevin.exact(x, y, 0.7)
    # Its mean is the ridge regression's, and its density the product of both factors.
    np.testing.assert_allclose((x.T @ x + 0.49 * np.eye(3)) @ mean, (x.T @ y)[:, 0], rtol=1e-12)
    a, b = rng.standard_normal((2, 3))
    log = lambda w: -(np.square(y[:, 0] - x @ w).sum() / 0.49 + w @ w) / 2
    normal = lambda w: -(w - mean) @ np.linalg.solve(covariance, w - mean) / 2
    assert log(a) - log(b) == pytest.approx(normal(a) - normal(b), rel=1e-10)


# ---- options


@pytest.mark.parametrize("name", RECIPES)
def test_recomputing_changes_nothing(tmp_path, text, name):
    if name == "regress":
        pytest.importorskip("sklearn")
    given = small(name, text)
    for kind in ("none", "sqrt"):
        fit(Options.of(name, checkpointing=kind, **given), tmp_path / kind)
    assert content(tmp_path / "none") == content(tmp_path / "sqrt")


def test_recomputing_of_layers_with_names():
    model = nn.Sequential({name: nn.Linear(3, 3, rng=i) for i, name in enumerate("abcde")})
    x = np.ones((2, 3), np.float32)
    again = recomputing(model)(x)
    np.testing.assert_array_equal(again.numpy(), model(x).numpy())
    again.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.slow
def test_recomputing_takes_less_memory(tmp_path, text):
    import tracemalloc

    peaks = {}

    class Peak(Watcher):
        def step(self, run, done):
            if done == 1:
                tracemalloc.start()
            elif done == 2:
                peaks[run.options.checkpointing] = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()

    task = {"text": text, "context": 64, "layers": 6}
    for kind in ("none", "sqrt"):
        options = Options.of("char-gpt", checkpointing=kind, epochs=1, batch_size=8, task=task)
        fit(options, tmp_path / kind, [Peak()])
    assert peaks["sqrt"] < 0.5 * peaks["none"]


@pytest.mark.slow
@pytest.mark.parametrize("amp", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["digits-cnn", "char-gpt", "char-lstm"])
def test_mixed_precision_learns(tmp_path, text, name, amp):
    outcome = fit(Options.of(name, amp=amp, **small(name, text)), tmp_path / "run")
    plain = fit(Options.of(name, **small(name, text)), tmp_path / "plain")
    assert outcome.rows[-1]["loss"] == pytest.approx(plain.rows[-1]["loss"], rel=0.1)


def test_all_options_at_once(tmp_path, text):
    options = Options.of(
        "char-gpt", amp="bfloat16", accumulate=3, clip_norm=0.5, clip_value=0.1, warmup=4,
        checkpointing="sqrt", schedule="linear", ema=0.9, patience=2, noise=1e-4,
        **small("char-gpt", text),
    )  # fmt: skip
    outcome = fit(options, tmp_path / "run")
    assert outcome.rows[-1]["validation_loss"] < outcome.rows[0]["validation_loss"]


# ---- mistakes


def test_texts_that_cannot_be_learned(tmp_path):
    (tmp_path / "short.txt").write_text("too short")
    for name, rule in (("none.txt", "No such file"), ("short.txt", "the text is too short")):
        with pytest.raises(DataError, match=rule):
            fit(Options.of("char-gpt", task={"text": str(tmp_path / name)}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_classes_are_not_regressed():
    pytest.importorskip("sklearn")
    with pytest.raises(OptionError, match="labels are classes"):
        RECIPES["regress"].data({"data": "iris", "target": ""})


def test_without_scikit_learn_the_extra_is_named(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtraError, match=r"fix: pip install 'wengert\[sklearn\]'"):
        fit(Options.of("regress"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_draws_follow_the_probabilities():
    rng, logits = np.random.default_rng(0), np.log(np.array([0.5, 0.3, 0.2]))
    counts = np.bincount([language.picked(logits, 1.0, rng) for _ in range(4000)]) / 4000
    np.testing.assert_allclose(counts, [0.5, 0.3, 0.2], atol=4 * 0.5 / np.sqrt(4000))
    assert {language.picked(logits, 0.0, rng) for _ in range(20)} == {0}


# ---- a disk that fills up


def test_a_disk_that_fills_up_under_a_checkpoint_keeps_the_last_good_state(tmp_path, monkeypatch):
    import errno

    from wengert.errors import OutputError
    from wengert.train import folder as folder_module

    monkeypatch.setattr(loop_module, "PAUSE", 0.0)
    options = Options.of("digits", epochs=4)
    fit(options, tmp_path / "whole")
    real, full = folder_module.os.fsync, [False]

    def fsync(fd):
        name = os.readlink(f"/proc/self/fd/{fd}")
        if full[0] and "checkpoint" in name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(fd)

    class Fill(Watcher):
        def step(self, run, done):
            full[0] = run.epoch == 3

    monkeypatch.setattr(folder_module.os, "fsync", fsync)
    with pytest.raises(OutputError) as caught:
        fit(options, tmp_path / "run", [Fill()])
    assert "No space left on device" in str(caught.value)
    assert f"fix: make room, then wengert train --resume {tmp_path / 'run'}" in str(caught.value)
    assert (tmp_path / "run" / "checkpoint.safetensors").exists()
    assert not list((tmp_path / "run").glob(".*.part"))
    full[0] = False
    resume(tmp_path / "run")
    assert content(tmp_path / "run") == content(tmp_path / "whole")
