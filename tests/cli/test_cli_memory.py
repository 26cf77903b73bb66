"""`wengert memory`: recipes, files of runs, and models that nobody has room for."""

import numpy as np
import pytest

from wengert.cli import main
from wengert.train import RECIPES, Options, memory

pytest.importorskip("safetensors")


def table(capsys):
    """(title, bytes by name) of what was printed."""
    out, err = capsys.readouterr()
    assert err == ""
    title, *rows = [line for line in out.splitlines() if "---" not in line]
    return title, {line[2:21].strip(): int(line.split(" bytes")[0].split()[-1].replace(",", ""))
                   for line in rows}  # fmt: skip


NAMES = [
    "parameters", "gradients", "optimizer state", "optimizer scratch", "activations", "input",
    "peak",
]  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_a_table(name, tmp_path, capsys):
    if name == "regress":
        pytest.importorskip("sklearn")
    text = tmp_path / "fox.txt"
    text.write_text("the quick brown fox " * 600)
    argv = ["memory", name] + (["--set", f"text={text}"] if name.startswith("char") else [])
    assert main(argv) == 0
    title, rows = table(capsys)
    assert list(rows) == NAMES
    assert all(v > 0 for k, v in rows.items() if k != "optimizer state")
    assert f"{Options.of(name).optimizer}" in title
    assert rows["peak"] > rows["parameters"] + rows["activations"]


@pytest.mark.parametrize("amp", ["off", "bfloat16"])
def test_a_recipe_is_predicted_as_it_is_measured(amp, tmp_path, capsys):
    assert main(["memory", "digits-cnn", "--batch", "64", "--amp", amp]) == 0
    _, rows = table(capsys)
    recipe, options = RECIPES["digits-cnn"], Options.of("digits-cnn")
    parts = recipe.data(options.task)
    model = recipe.model(np.random.default_rng(0), options.task, parts)
    batch = parts.train.batch(np.arange(64))
    want = memory.measured(model, recipe.loss, batch, optimizer=options.optimizer, amp=amp)
    assert rows["parameters"] == want.parameters
    assert rows["optimizer state"] == pytest.approx(want.state, rel=0.05)
    assert rows["peak"] == pytest.approx(want.peak, rel=0.1)


def test_the_model_of_175_billion_parameters(capsys):
    assert main(["memory", "gpt3"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("GPT with 174,604,259,328 parameters, 1 x 2048 tokens, adamw")
    line = next(line for line in out.splitlines() if "parameters " in line and "GB" in line)
    assert "698 GB" in line


def test_options_arrive(tmp_path, capsys):
    def of(*argv):
        assert main(["memory", *argv]) == 0
        return table(capsys)[1]

    plain = of("gpt2")
    assert of("gpt2", "--batch", "4")["activations"] == pytest.approx(
        4 * plain["activations"], rel=0.01
    )
    assert of("gpt2", "--batch", "4", "--accumulate", "4") == plain
    half = of("gpt2", "--batch", "8", "--amp", "bfloat16")
    assert half["activations"] < 0.7 * 8 * plain["activations"]
    assert of("gpt2", "--checkpointing", "sqrt")["activations"] < 0.4 * plain["activations"]
    assert of("gpt2", "--optimizer", "sgd")["optimizer state"] == 0
    assert of("gpt2", "--set", "layers=6")["parameters"] < 0.7 * plain["parameters"]
    config = tmp_path / "config.toml"
    config.write_text(
        '[run]\nrecipe = "digits"\nbatch_size = 64\n[optimizer]\nname = "adam"\nlr = 0.1\n'
    )
    assert of(str(config)) == of("digits", "--batch", "64", "--optimizer", "adam")
    assert of(str(config), "--batch", "8") == of("digits", "--batch", "8", "--optimizer", "adam")
    wide = of("char-gpt", "--set", "width=192")
    assert wide["parameters"] > 3 * of("char-gpt")["parameters"]


@pytest.mark.parametrize(("argv", "message"), [
    ("gpt4", "wengert: [WG302] wengert memory gpt4: there is no such recipe or language model"),
    ("gpt3 --batch 0", "wengert: [WG301] wengert memory(batch=0): batch is a whole number"),
    ("digits --batch 0", "wengert: [WG301] wengert train(batch_size=0)"),
    ("digits --amp half", "wengert: [WG302] amp 'half': there is no such amp"),
    ("gpt2 --amp half", "wengert: [WG302] amp 'half': there is no such amp"),
    ("gpt2 --optimizer adma", "wengert: [WG302] optimizer 'adma'"),
    ("gpt2 --checkpointing all", "wengert: [WG302] checkpointing 'all'"),
    ("gpt2 --set depth=3", "wengert: [WG302] option of gpt2 'depth'"),
    ("gpt2 --set layers=many", "wengert: [WG301] wengert memory(layers='many')"),
    ("gpt2 --set heads=5", "wengert: [WG301] memory.gpt(d_model, n_head): the heads share"),
    ("digits --set depth=3", "wengert: [WG302] option of digits 'depth'"),
    ("no.toml", "wengert: [WG301] wengert train no.toml: cannot read it"),
])  # fmt: skip
def test_mistakes_get_a_message(argv, message, capsys):
    assert main(["memory", *argv.split()]) == 2
    out, err = capsys.readouterr()
    assert err.startswith(message)
    assert "Traceback" not in err
    assert out == ""
