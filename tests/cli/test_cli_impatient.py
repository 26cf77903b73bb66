"""What somebody in a hurry types and breaks: a clear word each time, and nothing lost."""

import json
import shutil

import numpy as np
import pytest

from wengert.cli import main
from wengert.errors import CheckpointError, DataError, OptionError, OutputError
from wengert.train import Options, Watcher, fit, load, open_run, resume
from wengert.train import loop as loop_module
from wengert.train.use import fitting, summaries

pytest.importorskip("safetensors.numpy")
pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("finished") / "run"
    fit(Options.of("digits", epochs=2, ema=0.9), path)
    return path


@pytest.fixture
def run(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def refused(capsys, *argv):
    """The error of a command that is refused, without a traceback and with status 2."""
    assert main([str(a) for a in argv]) == 2
    err = capsys.readouterr().err
    assert err.startswith("wengert: [WG")
    assert "Traceback" not in err
    return err


def edited(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


# ---- the command line


@pytest.mark.parametrize(("argv", "words", "fix"), [
    ([], "COMMAND", "wengert --help"), (["train"], "RECIPE", "wengert train --help"),
    (["train", "digits", "--epochs", "1e3"], "--epochs: invalid int value: '1e3'", "train --help"),
    (["trian", "digits"], "'trian'", "wengert train"), (["explain"], "CODE", "explain --help"),
    (["train", "digits", "--epoch"], "expected one argument", "train --help"),
    (["runs", "--frobnicate"], "--frobnicate", "wengert --help"),
])  # fmt: skip
def test_what_the_command_does_not_take(capsys, argv, words, fix):
    err = refused(capsys, *argv)
    assert words in err
    assert f"fix: {fix}" in err or fix in err.splitlines()[-1]
    assert len(err.splitlines()) == 2


def test_the_name_of_the_run_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert "empty" in refused(capsys, "train", "digits", "--epochs", "1", "--out", "")
    long = "a" * 300
    assert "too long" in refused(capsys, "train", "digits", "--epochs", "1", "--out", long)
    for command in (["evaluate", long], ["train", "--resume", long], ["runs", long]):
        assert "there is no such folder" in refused(capsys, *command)
    assert list(tmp_path.iterdir()) == []


def test_a_run_where_a_recipe_is_expected(run, capsys):
    err = refused(capsys, "train", run)
    assert f"fix: wengert train --resume {run}, or wengert train {run / 'config.toml'}" in err


def test_a_recipe_without_options_says_so(capsys):
    assert "known" not in refused(capsys, "train", "--set", "width=3", "digits")[:60]
    with pytest.raises(LookupError) as caught:
        Options.of("digits", task={"width": 3})
    assert "known" not in str(caught.value)


def test_flags_of_an_optimizer_are_true_or_false(tmp_path, capsys):
    out = tmp_path / "r"
    err = refused(capsys, "train", "digits", "--set", "nesterov=yes", "--out", out)
    assert "nesterov is True or False" in err
    assert not out.exists()


# ---- inputs


def test_inputs_that_the_network_cannot_hold(run, tmp_path, capsys):
    trained = open_run(run)
    for big in (1e300, -1e39):
        with pytest.raises(DataError, match=r"example 1 has a number that float32 cannot hold"):
            fitting(trained, np.array([[0.0] * 64, [big] * 64]))
    np.save(tmp_path / "big.npy", np.full((1, 64), 1e300))
    assert "float32" in refused(capsys, "predict", run, tmp_path / "big.npy")


def test_tokens_that_are_not_whole(tmp_path):
    text = tmp_path / "t.txt"
    text.write_text("the quick brown fox " * 60)
    task = {"text": str(text), "context": 8, "width": 8}
    fit(Options.of("char-lstm", epochs=1, task=task), tmp_path / "lm")
    trained = open_run(tmp_path / "lm")
    assert fitting(trained, np.zeros((1, 8))).dtype.kind == "i"
    with pytest.raises(DataError, match="example 0 has a number that int64 cannot hold"):
        fitting(trained, np.full((1, 8), 0.5))


@pytest.mark.parametrize("letters", [2, 26, 100, 170])
def test_a_text_that_is_too_short_for_its_windows(tmp_path, letters):
    text = tmp_path / "t.txt"
    text.write_text(("abcdefghij" * 20)[:letters])
    task = {"text": str(text), "context": 16, "width": 8}
    with pytest.raises(DataError) as caught:
        fit(Options.of("char-lstm", epochs=1, task=task), tmp_path / "lm")
    said = str(caught.value)
    assert f"{letters} tokens" in said
    assert "17" in said
    if letters > 40:
        (least,) = (w for w in said.split() if w.startswith("context="))
        task["context"] = int(least.removeprefix("context="))
        fit(Options.of("char-lstm", epochs=1, task=task), tmp_path / "lm")
    assert not (tmp_path / "lm").exists() or letters > 40


def test_a_target_that_never_changes(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("a,b\n" + "".join(f"{i},7\n" for i in range(60)))
    with pytest.raises(DataError, match=r"one number everywhere"):
        fit(Options.of("regress", epochs=1, task={"data": str(table)}), tmp_path / "r")
    assert not (tmp_path / "r").exists()


# ---- going on


class Stop(Watcher):
    """Ctrl-C after so many epochs."""

    def __init__(self, epoch):
        self.last = epoch

    def epoch(self, run, row):
        if run.epoch == self.last:
            raise KeyboardInterrupt


def test_another_number_of_epochs_outlives_an_interruption(run, monkeypatch):
    monkeypatch.setattr(loop_module, "PAUSE", 0.0)
    edited(run / "config.toml", "[run]", "# mine\n[run]")
    with pytest.raises(KeyboardInterrupt):
        resume(run, [Stop(4)], epochs=6)
    assert open_run(run).options.epochs == 6
    assert "# mine\n[run]" in (run / "config.toml").read_text()
    assert [s.epochs for s in summaries(run.parent)] == [6]
    assert len(resume(run).rows) == 6


def test_a_run_does_not_go_back(run, capsys):
    before = {p.name: p.read_bytes() for p in run.iterdir()}
    with pytest.raises(OptionError, match="does not go back"):
        resume(run, epochs=1)
    assert "does not go back" in refused(capsys, "train", "--resume", run, "--epochs", "1")
    assert {p.name: p.read_bytes() for p in run.iterdir()} == before


@pytest.mark.parametrize(("old", "new", "name"), [
    ("ema = 0.9", "ema = 0.5", "ema"), ("ema = 0.9", "ema = 0.0", "ema"),
    ("noise = 0.0", "noise = 0.5", "noise"), ('amp = "off"', 'amp = "float16"', "amp"),
    ("lr = 0.1", "lr = 0.2", "lr"), ("batch_size = 32", "batch_size = 7", "batch_size"),
    ("seed = 0", "seed = 7", "seed"), ("patience = 0", "patience = 3", "patience"),
    ("momentum = 0.9", "momentum = 0.5", "momentum"),
    ('name = "sgd"', 'name = "muon"', "optimizer"),
])  # fmt: skip
def test_a_config_that_was_changed_is_not_gone_on_with(run, old, new, name):
    edited(run / "config.toml", old, new)
    before = {p.name: p.read_bytes() for p in run.iterdir()}
    with pytest.raises(CheckpointError) as caught:
        resume(run, epochs=3)
    assert f"    {name}" in str(caught.value)
    assert "fix: bring the old config.toml back" in str(caught.value)
    assert {p.name: p.read_bytes() for p in run.iterdir()} == before


def test_files_of_another_run(run, tmp_path):
    other = tmp_path / "other"
    fit(Options.of("spiral", epochs=1), other)
    for name in ("checkpoint.safetensors", "config.toml"):
        mixed = tmp_path / f"mixed-{name}"
        shutil.copytree(run, mixed)
        shutil.copy(other / name, mixed / name)
        with pytest.raises(CheckpointError, match=r"spiral|digits"):
            resume(mixed)
    shutil.copy(other / "model.safetensors", run / "model.safetensors")
    with pytest.raises(CheckpointError, match="those of another network") as caught:
        load(run)
    assert f"wengert train --resume {run}" in str(caught.value)
    resume(run)
    load(run)


@pytest.mark.parametrize("damage", ["gone", "garbage", "cut", "flipped", "empty"])
def test_damaged_weights_come_back_with_a_resume(run, damage):
    """The running mean, too: what the checkpoint holds are the weights under training."""
    path = run / "model.safetensors"
    whole = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        flipped = bytes([*whole[:-1], whole[-1] ^ 1])
        path.write_bytes(
            {"garbage": b"x" * 99, "cut": whole[:-9], "flipped": flipped, "empty": b""}[damage]
        )
    with pytest.raises((CheckpointError, OptionError)):
        load(run)
    resume(run)
    assert path.read_bytes() == whole


# ---- many runs


@pytest.mark.parametrize("text", [
    "garbage", "[]", "3", '{"measures": 3}', '{"state": 4}', '{"seconds": "x"}', '{"epoch": "x"}',
    '{"measures": {"accuracy": "high"}}', '{"measures": {"accuracy": null}}', "",
])  # fmt: skip
@pytest.mark.parametrize("name", ["result.json", "metrics.jsonl"])
def test_one_damaged_note_does_not_hide_the_other_runs(run, name, text, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "whole")
    (run / name).write_text(text)
    for column in ("name", "recipe", "state", "measure", "seconds"):
        assert main(["runs", str(tmp_path), "--sort", column]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 3
        assert any(line.startswith("whole  digits  finished  2/2") for line in lines)
        (mine,) = [line for line in lines[1:] if not line.startswith("whole")]
        assert "digits" in mine
        assert "2/2" in mine


def test_a_line_of_metrics_that_was_cut_off(run, tmp_path):
    with open(run / "metrics.jsonl", "ab") as file:
        file.write(b'{"epoch": 3, "lo\xff')
    (run / "result.json").unlink()
    (found,) = summaries(tmp_path)
    assert (found.state, found.epoch) == ("stopped", 2)
    resume(run)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="--out"):
        fit(Options.of("digits", epochs=1), tmp_path / "file" / "run")
