"""Runs that are killed, stopped or damaged, and end as if nothing had happened."""

import gc
import json
import os
import random
import signal
import subprocess
import sys
import time
import weakref

import numpy as np
import pytest

from wengert.errors import CheckpointError, OptionError
from wengert.train import Checkpoints, Options, RunFolder, Stopped, Watcher, fit, load, resume
from wengert.train import loop as loop_module
from wengert.train.checkpoint import pack, unpack

pytest.importorskip("safetensors.numpy")

RUN = {"epochs": 4, "batch_size": 64, "ema": 0.9, "clip_norm": 1.0, "accumulate": 2, "noise": 0.01}


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(loop_module, "PAUSE", 0.0)


def content(path):
    """The files of a run, without times and rates."""
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        del row["seconds"], row["examples_per_second"]
    return rows, (path / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "run"
    fit(Options.of("digits", **RUN), path)
    return content(path)


class At(Watcher):
    """Sends this process a signal in a certain step of a certain epoch."""

    def __init__(self, epoch, step, number):
        self.when, self.number = (epoch, step), number

    def step(self, run, done):
        if (run.epoch, done) == self.when:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("when", [(1, 1), (2, 7), (3, 20), (4, 19)])
def test_a_run_that_is_stopped_goes_on_where_it_stood(tmp_path, whole, number, when):
    with pytest.raises(Stopped) as caught:
        fit(Options.of("digits", **RUN), tmp_path / "run", [At(*when, number)])
    assert caught.value.signal == number
    outcome = resume(tmp_path / "run")
    assert content(tmp_path / "run") == whole
    assert len(outcome.rows) == 4


def test_a_run_may_be_stopped_many_times(tmp_path, whole):
    with pytest.raises(Stopped):
        fit(Options.of("digits", **RUN), tmp_path / "run", [At(1, 3, signal.SIGINT)])
    for when in ((1, 4), (1, 19), (2, 1), (4, 20)):
        with pytest.raises(Stopped):
            resume(tmp_path / "run", [At(*when, signal.SIGINT)])
    resume(tmp_path / "run")
    assert content(tmp_path / "run") == whole


def test_a_run_that_is_over_can_be_resumed_and_extended(tmp_path, whole):
    fit(Options.of("digits", **RUN), tmp_path / "run")
    resume(tmp_path / "run")
    assert content(tmp_path / "run") == whole
    assert len(resume(tmp_path / "run", epochs=6).rows) == 6


def test_xor_resumes_between_draws(tmp_path):
    options = Options.of("xor", seed=6, epochs=400)
    fit(options, tmp_path / "whole")
    rows, _ = content(tmp_path / "whole")
    assert rows[-1]["draw"] > 1
    for at in (390, 405):
        with pytest.raises(Stopped):
            fit(options, tmp_path / str(at), [At(at, 1, signal.SIGTERM)])
        assert resume(tmp_path / str(at)).solved
        assert content(tmp_path / str(at)) == content(tmp_path / "whole")


def test_a_stop_between_two_reports_loses_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(loop_module, "PAUSE", 1e9)
    options = Options.of("langevin", epochs=1500)
    fit(options, tmp_path / "whole")
    for at in (700, 1000, 1500):
        with pytest.raises(Stopped):
            fit(options, tmp_path / str(at), [At(at, 1, signal.SIGTERM)])
        assert Checkpoints(RunFolder.of(tmp_path / str(at))).load(print)["epoch"] == at
        resume(tmp_path / str(at))
        assert content(tmp_path / str(at)) == content(tmp_path / "whole")


def test_a_long_epoch_is_not_lost_when_it_is_killed(tmp_path, whole, monkeypatch):
    monkeypatch.setattr(loop_module, "WITHIN", 0.0)

    class Killed(Watcher):
        def step(self, run, done):
            if (run.epoch, done) == (2, 9):
                raise MemoryError

    with pytest.raises(MemoryError):  # which has no message
        fit(Options.of("digits", **RUN), tmp_path / "run", [Killed()])
    assert json.loads((tmp_path / "run" / "result.json").read_text())["error"] == "MemoryError"
    state = Checkpoints(RunFolder.of(tmp_path / "run")).load(print)
    assert (state["loader"]["epoch"], state["loader"]["position"]) == (1, 8)
    resume(tmp_path / "run")
    assert content(tmp_path / "run") == whole


# ---- killed

PROGRAM = """
import sys
import weakref
from wengert.train import Options, fit, resume
from wengert.train import loop
loop.PAUSE = 0.0
how, path, given = sys.argv[1:]
if how == "fit":
    fit(Options.of("digits", **eval(given)), path)
else:
    resume(path)
"""


def killed_after(how, path, seconds, given):
    """Run it and kill it so many seconds after its folder is there; whether it was alive still."""
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, how, str(path), repr(given)])
    while process.poll() is None and not (path / "checkpoint.safetensors").exists():
        time.sleep(0.001)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    assert process.returncode == 0
    return False


def killed_and_resumed(path, moments, **more):
    killed, how = 0, "fit"
    for seconds in moments:
        killed += killed_after(how, path, seconds, {**RUN, **more})
        how = "resume"
    resume(path)
    return killed


def test_a_run_that_is_killed_ends_bit_for_bit_the_same(tmp_path, whole):
    killed = killed_and_resumed(tmp_path / "run", [0.05, 0.4])
    assert killed
    assert content(tmp_path / "run") == whole


@pytest.mark.parametrize("more", [{}, {"noise": 0.0}], ids=["the gradient", "all of a step"])
def test_a_compiled_run_that_is_killed_ends_bit_for_bit_the_same(tmp_path, more):
    more = {**more, "compile": True, "epochs": 12}
    fit(Options.of("digits", **{**RUN, **more}), tmp_path / "whole")
    assert killed_and_resumed(tmp_path / "run", [0.05, 0.6, 1.2], **more)
    assert content(tmp_path / "run") == content(tmp_path / "whole")


@pytest.mark.slow
def test_killed_at_fifty_random_moments(tmp_path):
    fit(Options.of("digits", **{**RUN, "epochs": 60}), tmp_path / "whole")
    draw, killed, i = random.Random(0), 0, 0
    while killed < 50:
        i += 1
        moments = [draw.uniform(0.0, 1.0) for _ in range(8)]
        killed += killed_and_resumed(tmp_path / str(i), moments, epochs=60)
        assert content(tmp_path / str(i)) == content(tmp_path / "whole")


# ---- damaged


def stopped(tmp_path):
    with pytest.raises(Stopped):
        fit(Options.of("digits", **RUN), tmp_path / "run", [At(3, 5, signal.SIGINT)])
    return tmp_path / "run"


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone", "text"])
def test_a_damaged_checkpoint_is_found_and_the_one_before_used(tmp_path, whole, damage):
    path = stopped(tmp_path)
    last = path / "checkpoint.safetensors"
    data = bytearray(last.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
    last.write_bytes({"flip": data, "cut": data[:-100], "empty": b""}.get(damage, b"no checkpoint"))
    if damage == "gone":
        last.unlink()
    messages = []

    class Listen(Watcher):
        def message(self, run, text):
            messages.append(text)

    resume(path, [Listen()])
    assert len(messages) == 1
    assert messages[0].startswith("checkpoint.safetensors: ")
    assert "going on from the one before" in messages[0]
    assert content(path) == whole


def test_every_single_damaged_bit_is_found(tmp_path):
    folder = RunFolder(tmp_path / "run")
    Checkpoints(folder).save({"w": np.arange(3.0), "epoch": 1})
    path = folder.path / "checkpoint.safetensors"
    whole = path.read_bytes()
    for i in range(len(whole)):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 4]) + whole[i + 1 :])
        try:
            state = Checkpoints(folder).load()
        except CheckpointError:
            continue
        assert state["epoch"] == 1  # a bit of the padding, perhaps
        assert np.array_equal(state["w"], np.arange(3.0))


def test_two_damaged_checkpoints_refuse(tmp_path):
    path = stopped(tmp_path)
    for name in Checkpoints.NAMES:
        (path / name).write_bytes(b"")
    with pytest.raises(CheckpointError) as caught:
        resume(path)
    assert "there is no checkpoint to go on from" in str(caught.value)
    assert "checkpoint-before.safetensors : not a checkpoint" in str(caught.value)


def test_resuming_what_is_not_there(tmp_path):
    with pytest.raises(OptionError, match="there is no run in this folder"):
        resume(tmp_path)


def test_the_weights_of_a_stopped_run_can_be_used(tmp_path):
    assert load(stopped(tmp_path)).training is False


def test_patience_ends_a_run_and_keeps_the_best(tmp_path):
    options = Options.of("digits", epochs=200, patience=3, settings={"lr": 0.2})
    outcome = fit(options, tmp_path / "run")
    best = [row["validation_accuracy"] for row in outcome.rows]
    assert len(outcome.rows) < 200
    assert len(outcome.rows) - 1 - int(np.argmax(best)) == 3


def test_a_packed_state_is_freed_without_the_collector():
    array = np.ones(1000)
    gone = [weakref.ref(array)]
    gc.disable()
    try:
        again = unpack(pack({"w": array, "more": [{"v": array}]}))
        gone += [weakref.ref(again["w"]), weakref.ref(again["more"][0]["v"])]
        del array, again
        assert [r() for r in gone] == [None] * 3
    finally:
        gc.enable()
