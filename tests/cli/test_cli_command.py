"""The command line, as its users meet it."""

import json
import signal
import subprocess
import sys
import time

import pytest

import wengert
from wengert.cli import main
from wengert.train import RECIPES

pytest.importorskip("safetensors")
pytest.importorskip("matplotlib")

FILES = [
    "checkpoint.safetensors",
    "config.toml",
    "curves.svg",
    "gradients.svg",
    "graph.svg",
    "metrics.jsonl",
    "model.safetensors",
    "result.json",
]


def names(path):
    return sorted(p.name for p in path.iterdir())


def test_train_writes_the_run_folder_and_says_where(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "digits", "--epochs", "2"]) == 0
    (run,) = (tmp_path / "runs").iterdir()
    assert names(run) == FILES
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].startswith("digits: a 64-128-64-10 network")
    assert "1,259 train, 179 validation, 359 test" in lines[1]
    assert "17,226 parameters" in lines[2]
    assert "sgd, lr 0.1, momentum 0.9, weight decay 0.001, batches of 32, seed 0" in lines[3]
    assert [line.split()[1] for line in lines if line.startswith("epoch")] == ["1/2", "2/2"]
    assert any("test accuracy" in line for line in lines)
    for name in FILES:
        assert any(line.startswith(f"    {name}") for line in lines)
    assert f"runs/{run.name}" in lines[-1]
    assert err == ""


def test_quiet_prints_one_line(tmp_path, capsys):
    assert main(["train", "digits", "--epochs", "1", "--quiet", "--out", str(tmp_path / "r")]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("digits: ")
    assert line.endswith(str(tmp_path / "r"))
    assert names(tmp_path / "r") == FILES


def test_every_option_arrives(tmp_path):
    argv = "train digits --epochs 1 --lr 0.002 --optimizer adam --batch-size 64 --seed 5 --quiet"
    assert main([*argv.split(), "--out", str(tmp_path / "r")]) == 0
    text = (tmp_path / "r" / "config.toml").read_text()
    for line in ("epochs = 1", "lr = 0.002", 'name = "adam"', "batch_size = 64", "seed = 5"):
        assert line in text.splitlines()
    assert "momentum" not in text


def test_a_config_repeats_its_run(tmp_path, capsys):
    argv = ["train", "digits", "--epochs", "2", "--lr", "0.07", "--seed", "9", "--quiet", "--out"]
    assert main([*argv, str(tmp_path / "a")]) == 0
    config = str(tmp_path / "a" / "config.toml")
    assert main(["train", config, "--quiet", "--out", str(tmp_path / "b")]) == 0
    for name in ("model.safetensors", "config.toml", "graph.svg", "gradients.svg"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert capsys.readouterr().err == ""
    assert main(["train", config, "--quiet", "--seed", "1", "--out", str(tmp_path / "c")]) == 0
    assert "seed = 1" in (tmp_path / "c" / "config.toml").read_text()


def test_a_compiled_run(tmp_path, capsys):
    argv = ["train", "digits", "--epochs", "2", "--quiet", "--out"]
    assert main([*argv, str(tmp_path / "eager")]) == 0
    assert main([*argv, str(tmp_path / "a"), "--compile"]) == 0
    config = tmp_path / "a" / "config.toml"
    assert "compile = true" in config.read_text().splitlines()
    assert main(["train", str(config), "--quiet", "--out", str(tmp_path / "b")]) == 0
    assert (tmp_path / "b" / "config.toml").read_bytes() == config.read_bytes()
    model = (tmp_path / "a" / "model.safetensors").read_bytes()
    assert (tmp_path / "b" / "model.safetensors").read_bytes() == model
    for name in ("metrics.jsonl", "graph.svg", "gradients.svg"):
        assert (tmp_path / "a" / name).exists()
    losses = [
        [json.loads(line)["loss"] for line in (path / "metrics.jsonl").read_text().splitlines()]
        for path in (tmp_path / "eager", tmp_path / "a")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    again = ["train", str(config), "--no-compile", "--quiet", "--out", str(tmp_path / "c")]
    assert main(again) == 0
    model = (tmp_path / "eager" / "model.safetensors").read_bytes()
    assert (tmp_path / "c" / "model.safetensors").read_bytes() == model
    assert capsys.readouterr().err == ""
    assert main(["train", str(tmp_path / "a"), "--resume", "--compile"]) == 2
    assert "so --compile cannot be given" in capsys.readouterr().err
    assert main(["train", str(tmp_path / "a"), "--resume", "--epochs", "3", "--quiet"]) == 0


def test_a_config_from_elsewhere_is_noted(tmp_path, capsys):
    path = tmp_path / "config.toml"
    path.write_text('[run]\nrecipe = "xor"\n[versions]\nnumpy = "1.0"\n')
    assert main(["train", str(path), "--quiet", "--out", str(tmp_path / "r")]) == 0
    assert "note: the run was made with numpy 1.0" in capsys.readouterr().err


def test_xor_shows_the_truth_table(tmp_path, capsys):
    assert main(["train", "xor", "--out", str(tmp_path / "r")]) == 0
    lines = capsys.readouterr().out.splitlines()
    at = lines.index("  a  b  a xor b    network")
    table = [line.split() for line in lines[at + 1 : at + 5]]
    assert [row[:3] for row in table] == [
        ["0", "0", "0"],
        ["0", "1", "1"],
        ["1", "0", "1"],
        ["1", "1", "0"],
    ]
    assert all(abs(float(answer) - float(y)) < 0.1 for _, _, y, answer in table)
    assert "all 4 cases right" in lines[-1]


def test_xor_that_is_not_solved_says_so(tmp_path, capsys):
    argv = ["train", "xor", "--epochs", "1", "--quiet", "--out", str(tmp_path / "r")]
    assert main(argv) == 1
    told = "0 of 4 cases right after 20 epochs, 20 draws of weights for up to 1 each, and"
    assert told in capsys.readouterr().out


def test_xor_of_two_epochs_speaks_of_two(tmp_path, capsys):
    assert main(["train", "xor", "--epochs", "2", "--out", str(tmp_path / "r")]) == 1
    out = capsys.readouterr().out
    assert "draw 1  epoch 2/2  loss" in out
    assert "draw 20  epoch 2/2  loss" in out
    assert "not solved after 2 epochs, at loss" in out
    assert "local minimum" not in out
    assert "metrics.jsonl          20 lines\n" in out


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_reports_from_beginning_to_end(name, tmp_path, capsys):
    if name == "regress":
        pytest.importorskip("sklearn")
    (tmp_path / "fox.txt").write_text("the quick brown fox " * 100)
    own = {"digits-cnn": ["width=4"], "maml-sine": ["tasks=40"]}.get(name, [])
    if name.startswith("char"):
        own = [f"text={tmp_path / 'fox.txt'}", "context=16", "width=16"]
    argv = ["train", name, "--epochs", "1", "--out", str(tmp_path / "r")]
    for pair in own:
        argv += ["--set", pair]
    assert main(argv) == (1 if name == "xor" else 0)
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0] == f"{name}: {RECIPES[name].summary}"
    assert lines[2].startswith("  network  ")
    assert "network  ," not in lines[2]
    assert lines[3].startswith("  descent  ")
    assert lines[-1].startswith(f"{name}: ")


def test_a_network_without_a_list_of_layers_has_a_name(tmp_path, capsys):
    assert main(["train", "langevin", "--epochs", "1", "--out", str(tmp_path / "r")]) == 0
    out = capsys.readouterr().out
    assert "network  Chain, 4 parameters" in out
    assert "metrics.jsonl          1 line\n" in out


def test_help_lists_recipes_and_options(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["train", "--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    for part in ("digits", "xor", "--epochs", "--lr", "--optimizer", "--batch-size", "--seed"):
        assert part in out
    assert "--out" in out
    assert "--quiet" in out


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"wengert {wengert.__version__}\n"


def test_explain(capsys):
    assert main(["explain", "wg101"]) == 0
    assert capsys.readouterr().out.startswith("WG101 ShapeError: Shapes that do not go together.")


# ---- mistakes


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("train digit", "wengert: [WG302] recipe 'digit': there is no such recipe"),
        ("train digits --optimizer adma", "wengert: [WG302] optimizer 'adma'"),
        ("train digits --lr nan", "wengert: [WG301] wengert train(lr=nan): lr must be a finite"),
        ("train digits --lr inf", "wengert: [WG301] wengert train(lr=inf): lr must be a finite"),
        ("train digits --epochs 0", "wengert: [WG301] wengert train(epochs=0)"),
        ("train no.toml", "wengert: [WG301] wengert train no.toml: cannot read it: No such file"),
        (
            "train spiral --set arms=0",
            "wengert: [WG301] wengert train spiral --set arms=0: arms",
        ),
        ("train spiral --set points=3", "wengert: [WG307] wengert train spiral: the validation"),
        ("train spiral --set noise=-1", "wengert: [WG301] wengert train spiral --set noise=-1: no"),
        ("train regress --set width=x", "wengert: [WG301] wengert train regress --set width='x':"),
        ("train regress --set data=3", "wengert: [WG301] wengert train regress --set data=3: data"),
        ("train digits-cnn --set width=2.5", "wengert: [WG301] wengert train digits-cnn --set wid"),
        ("train char-gpt --set layers=0", "wengert: [WG301] wengert train char-gpt --set layers=0"),
        ("train char-lstm --set width=0", "wengert: [WG301] wengert train char-lstm --set width=0"),
        ("train char-lstm --set context=0", "wengert: [WG301] wengert train char-lstm --set conte"),
        ("train autoencoder --set code=0", "wengert: [WG301] wengert train autoencoder --set code"),
        ("train maml-sine --set shots=0", "wengert: [WG301] wengert train maml-sine --set shots=0"),
        ("train langevin --set deviation=0", "wengert: [WG301] wengert train langevin --set devia"),
        ("train langevin --set dimensions=0", "wengert: [WG301] wengert train langevin --set dime"),
        ("train digits --set =3", "wengert: [WG301] --set =3: it must be NAME=VALUE"),
        ("train digits --set nesterov=5", "wengert: [WG301] SGD(nesterov=5): nesterov is True or"),
        ("train digits --optimizer adam --set betas=0.9", "wengert: [WG301] Adam(betas=0.9): beta"),
        ("train --resume none", "wengert: [WG301] opening none: there is no such folder"),
        ("train --resume pyproject", "wengert: [WG301] opening pyproject: this is a file, and a"),
        ("train --resume .", "wengert: [WG301] opening .: there is no run in this folder"),
        ("evaluate pyproject", "wengert: [WG301] opening pyproject: this is a file, and a run is"),
        ("runs pyproject", "wengert: [WG301] wengert runs pyproject: this is no folder"),
        ("train digits --out pyproject/run", "wengert: [WG303] writing pyproject/run/: Not a dir"),
        ("explain WG999", "wengert: [WG302] explain('WG999'): no such code"),
    ],
)
def test_mistakes_get_a_message_and_no_traceback(argv, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject").write_text("a file")
    assert main(argv.split()) == 2
    out, err = capsys.readouterr()
    assert err.startswith(message)
    assert "Traceback" not in err
    assert "  at:" not in err
    assert out == ""
    assert names(tmp_path) == ["pyproject"]


def test_what_diverges_at_once_is_told_the_usual_rate(tmp_path, capsys):
    assert main(["train", "digits", "--lr", "1e30", "--quiet", "--out", str(tmp_path / "r")]) == 2
    err = capsys.readouterr().err
    assert "the loss became nan in epoch 1" in err
    assert f"last good : the untrained weights, in {tmp_path / 'r'}" in err
    assert "fix: --lr 0.1, as the recipe has it" in err


def test_did_you_mean(capsys):
    assert main(["train", "digist"]) == 2
    assert capsys.readouterr().err.splitlines()[1:] == [
        f"    known : {', '.join(RECIPES)}",
        "  fix: did you mean digits?",
    ]


@pytest.mark.parametrize("module", ["rich", "matplotlib", "safetensors"])
def test_a_missing_extra_is_named_before_anything_is_written(module, tmp_path, monkeypatch, capsys):
    for name in [m for m in sys.modules if m == module or m.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["train", "digits", "--out", str(tmp_path / "r")]) == 2
    err = capsys.readouterr().err
    assert f"{module} is not installed" in err
    assert "fix: pip install 'wengert[train]'" in err
    assert not (tmp_path / "r").exists()


def test_a_folder_with_a_run_is_kept(tmp_path, capsys):
    argv = ["train", "digits", "--epochs", "1", "--quiet", "--out", str(tmp_path / "r")]
    assert main(argv) == 0
    before = (tmp_path / "r" / "model.safetensors").read_bytes()
    assert main(argv) == 2
    assert f"fix: --out {tmp_path / 'r-2'}" in capsys.readouterr().err
    assert (tmp_path / "r" / "model.safetensors").read_bytes() == before


# ---- as processes


def run(*argv, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "wengert", *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT is sent otherwise there")
def test_ctrl_c_exits_with_130_and_keeps_whole_epochs(tmp_path):
    process = run("train", "digits", "--epochs", "100000", "--out", str(tmp_path / "r"))
    metrics = tmp_path / "r" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (metrics.exists() and metrics.stat().st_size > 2000):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    last = json.loads(metrics.read_text().splitlines()[-1])["epoch"]
    assert f"holds the weights after epoch {last}" in err
    content = (tmp_path / "r" / "model.safetensors").read_bytes()
    size = int.from_bytes(content[:8], "little")
    about = json.loads(content[8 : 8 + size])["__metadata__"]["wengert"]
    assert json.loads(about)["epoch"] == last


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from wengert.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('matplotlib', 'rich', 'safetensors', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_reader_that_goes_away(tmp_path):
    process = run("train", "digits", "--epochs", "30", "--out", str(tmp_path / "r"))
    process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    process.wait(timeout=60)
    assert "Traceback" not in err
