"""Runs evaluated, asked, sampled and listed from the command line."""

import json

import numpy as np
import pytest

from wengert.cli import main
from wengert.data import digits
from wengert.train import Options, Stopped, Watcher, fit

pytest.importorskip("safetensors.numpy")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of runs: two of digits, a writer, one that was stopped, one that broke."""
    root = tmp_path_factory.mktemp("place")
    runs = root / "runs"
    (root / "fox.txt").write_text("the quick brown fox jumps over the lazy dog; " * 30)
    writer = {"text": str(root / "fox.txt"), "context": 16, "width": 16, "heads": 2}
    fit(Options.of("digits", epochs=3), runs / "digits")
    fit(Options.of("digits-cnn", epochs=1, task={"width": 4}), runs / "pictures")
    fit(Options.of("char-gpt", epochs=1, task=writer), runs / "writer")
    fit(Options.of("maml-sine", epochs=1, task={"tasks": 50, "width": 8}), runs / "meta")

    class Stop(Watcher):
        def step(self, run, done):
            if run.epoch == 2:
                raise Stopped(run)

    with pytest.raises(Stopped):
        fit(Options.of("digits", epochs=5), runs / "stopped", [Stop()])
    with pytest.raises(ArithmeticError):
        fit(Options.of("digits", settings={"lr": 1e20}), runs / "wild")
    (runs / "damaged").mkdir()
    (runs / "damaged" / "config.toml").write_text("[run")
    return root


def lines(capsys):
    out, err = capsys.readouterr()
    return out.splitlines(), err


@pytest.mark.parametrize("part", ["test", "validation", "train"])
def test_evaluate_says_what_training_said(place, capsys, part):
    run = place / "runs" / "digits"
    assert main(["evaluate", str(run), "--part", part]) == 0
    ((line,), err) = lines(capsys)
    result = json.loads((run / "result.json").read_text())
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    share = result["measures"]["accuracy"] if part == "test" else last[f"{part}_accuracy"]
    assert f"{part} accuracy   {100 * share:.2f} %" in line
    assert err == ""


def test_predict_from_every_kind_of_file(place, tmp_path, capsys):
    pillow = pytest.importorskip("PIL.Image")
    run, x = str(place / "runs" / "digits"), digits().split().test.images[:5]
    np.save(tmp_path / "a.npy", x)
    np.save(tmp_path / "square.npy", x.reshape(5, 8, 8).reshape(5, 64))
    np.savetxt(tmp_path / "a.csv", x, delimiter=",", header="pixels")
    np.savetxt(tmp_path / "a.txt", x)
    said = []
    for name in ("a.npy", "square.npy", "a.csv", "a.txt"):
        assert main(["predict", run, str(tmp_path / name)]) == 0
        said.append(lines(capsys)[0])
    assert len(said[0]) == 5
    assert all(s == said[0] for s in said)
    for scale, invert in ((1, False), (7, False), (7, True)):
        pixels = np.kron(x[0].reshape(8, 8), np.ones((scale, scale)))
        pixels = 1 - pixels if invert else pixels
        pillow.fromarray((255 * pixels).round().astype(np.uint8)).save(tmp_path / "a.png")
        assert main(["predict", run, str(tmp_path / "a.png")]) == 0
        out, err = lines(capsys)
        assert out == said[0][:1]
        assert ("reduced from" in err) == (scale > 1)
        assert ("exchanged" in err) == invert
    for name in ("out.npy", "out.csv"):
        assert main(["predict", run, str(tmp_path / "a.npy"), "--out", str(tmp_path / name)]) == 0
    wanted = [int(s) for s in said[0]]
    assert np.load(tmp_path / "out.npy").tolist() == wanted
    assert np.loadtxt(tmp_path / "out.csv").tolist() == wanted


def test_predict_refuses_numbers_that_are_not_finite(place, tmp_path, capsys):
    x = np.ones((3, 64))
    x[1, 5] = np.nan
    np.save(tmp_path / "a.npy", x)
    assert main(["predict", str(place / "runs" / "digits"), str(tmp_path / "a.npy")]) == 2
    out, err = capsys.readouterr()
    assert "example 1 has a number that is not finite" in err
    assert out == ""


def test_nobody_is_told_to_unpickle(place, tmp_path, capsys):
    (tmp_path / "a.npy").write_text("text")
    np.save(tmp_path / "b.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "c.csv").write_bytes(b"\xff\xfe1,2")
    for name, rule in (("a.npy", "not a .npy"), ("b.npy", "not a .npy"), ("c.csv", "UTF-8")):
        assert main(["predict", str(place / "runs" / "digits"), str(tmp_path / name)]) == 2
        err = capsys.readouterr().err
        assert rule in err
        assert "pickle" not in err


def test_predict_takes_flat_rows_for_pictures(place, tmp_path, capsys):
    np.save(tmp_path / "a.npy", digits().images[:3])
    assert main(["predict", str(place / "runs" / "pictures"), str(tmp_path / "a.npy")]) == 0
    assert len(lines(capsys)[0]) == 3


def test_sample_and_the_bits_of_a_text(place, tmp_path, capsys):
    argv = ["sample", str(place / "runs" / "writer"), "--prompt", "the ", "--length", "20"]
    said = []
    for seed in ("1", "1", "2"):
        assert main([*argv, "--seed", seed]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] != said[2]
    assert said[0].startswith("the ")
    assert len(said[0].rstrip("\n")) == 24
    (tmp_path / "a.txt").write_text("the lazy dog")
    assert main(["predict", str(place / "runs" / "writer"), str(tmp_path / "a.txt")]) == 0
    assert len(lines(capsys)[0]) == 11


def test_a_table_of_runs(place, capsys):
    assert main(["runs", str(place / "runs")]) == 0
    table, _ = lines(capsys)
    rows = {line.split()[0]: line for line in table[1:]}
    assert table[0].split() == ["run", "recipe", "state", "epochs", "measure", "seconds"]
    assert list(rows) == sorted(rows)
    assert " finished  3/3 " in rows["digits"]
    assert "test 9" in rows["digits"]
    assert " stopped   1/5 " in rows["stopped"]
    assert "validation" in rows["stopped"]
    assert " broken " in rows["wild"]
    assert "WG305" in rows["wild"]
    assert " broken " in rows["damaged"]
    assert "not a TOML file" in rows["damaged"]
    for column in ("recipe", "state", "measure", "seconds"):
        assert main(["runs", str(place / "runs"), "--sort", column]) == 0
        assert sorted(lines(capsys)[0]) == sorted(table)
    seconds = []
    main(["runs", str(place / "runs"), "--sort", "seconds"])
    for line in lines(capsys)[0][1:]:
        cells = line.split()
        if cells[2] == "finished":
            seconds.append(float(cells[-1]))
    assert seconds == sorted(seconds)


def test_no_runs(tmp_path, capsys):
    assert main(["runs", str(tmp_path)]) == 0
    assert "no runs in" in capsys.readouterr().out


def test_data_that_has_changed_is_noted(place, tmp_path, capsys):
    text = (place / "fox.txt").read_text()
    try:
        (place / "fox.txt").write_text(text.replace("quick", "lucky", 1))
        assert main(["evaluate", str(place / "runs" / "writer")]) == 0
        assert "note: the train data is not that of the run" in capsys.readouterr().err
    finally:
        (place / "fox.txt").write_text(text)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("evaluate runs/none", "there is no such folder"),
        ("evaluate runs", "there is no run in this folder"),
        ("evaluate runs/digits --part tset", "did you mean test?"),
        ("predict runs/digits runs/digits/metrics.jsonl", "inputs are .npy, .csv"),
        ("predict runs/digits none.npy", "No such file"),
        ("predict runs/digits wrong.npy", "digits takes examples of shape [n, 64]"),
        ("predict runs/digits words.csv", "line 2 is not a row of numbers"),
        ("predict runs/digits fox.png", "cannot identify image file"),
        ("predict runs/digits wrong.npy --out a.txt", "answers are written as .npy or .csv"),
        ("predict runs/meta wrong.npy", "the recipe maml-sine has no answers to inputs"),
        ("sample runs/digits", "fix: wengert evaluate runs/digits"),
        ("sample runs/writer --length 0", "it must be at least 1"),
        ("sample runs/writer --temperature -1", "it must be a number, at least 0"),
        ("sample runs/writer --prompt ŵ", "the character 'ŵ' is not in the alphabet"),
        ("runs none", "there is no such folder"),
        ("runs runs --sort size", "column 'size'"),
    ],
)
def test_mistakes_get_a_message_and_no_traceback(place, monkeypatch, capsys, argv, message):
    if ".png" in argv:
        pytest.importorskip("PIL.Image")
    monkeypatch.chdir(place)
    np.save("wrong.npy", np.ones((2, 63)))
    (place / "words.csv").write_text("1,2\na,b\n")
    (place / "fox.png").write_text("no picture")
    assert main(argv.split()) == 2
    out, err = capsys.readouterr()
    assert err.startswith("wengert: [WG")
    assert message in err
    assert "Traceback" not in err
    assert out == ""


def test_damaged_weights_are_named(place, capsys):
    path = place / "runs" / "meta" / "model.safetensors"
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[:100])
        assert main(["evaluate", str(path.parent)]) == 2
        assert "model.safetensors is damaged" in capsys.readouterr().err
        path.write_bytes(whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:])
        assert main(["evaluate", str(path.parent)]) == 2
        assert "its numbers are not those that were saved" in capsys.readouterr().err
    finally:
        path.write_bytes(whole)
