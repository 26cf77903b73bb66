"""Options are checked before anything is written, and a config.toml gives them back."""

import dataclasses

import numpy as np
import pytest

from wengert.errors import OptionError, UnknownNameError
from wengert.train import OPTIMIZERS, RECIPES, Options, read_config
from wengert.train.config import changes, config_text, schedule


def text_of(options):
    recipe = RECIPES[options.recipe]
    parts = recipe.data(options.task)
    model = recipe.model(np.random.default_rng(0), options.task, parts)
    return config_text(options, recipe, parts, model)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_config_gives_the_same_options_back(tmp_path, recipe, optimizer):
    options = Options.of(recipe, optimizer=optimizer, settings={"lr": 1e-05}, epochs=3, seed=7)
    (tmp_path / "config.toml").write_text(text_of(options), encoding="utf-8")
    again, config = read_config(tmp_path / "config.toml")
    assert again == options
    assert changes(config) == []


def test_a_config_names_data_versions_and_model():
    text = text_of(Options.of("digits"))
    for part in ("[versions]", "numpy = ", "train_sha256", "Alpaydin", "parameters = 17226"):
        assert part in text


def test_changed_data_and_versions_are_noticed():
    config = {
        "run": {"recipe": "xor"},
        "data": {"test_sha256": "0"},
        "versions": {"numpy": "1.0"},
    }
    notes = changes(config)
    assert notes[0] == "the test data is not that of the run: other numbers will come out"
    assert notes[1].startswith("the run was made with numpy 1.0, this is")


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"settings": {"lr": float("nan")}}, "lr must be a finite number"),
        ({"settings": {"lr": float("inf")}}, "lr must be a finite number"),
        ({"settings": {"lr": -1.0}}, "lr must be a finite number"),
        ({"epochs": 0}, "epochs must be a whole number, at least 1"),
        ({"epochs": 1.5}, "epochs must be a whole number, at least 1"),
        ({"batch_size": 0}, "batch_size must be a whole number, at least 1"),
        ({"seed": -1}, "seed must be a whole number, at least 0"),
    ],
)
def test_numbers_out_of_range(given, rule):
    with pytest.raises(OptionError, match=rule):
        Options.of("digits", **given)


@pytest.mark.parametrize(
    ("make", "message", "fix"),
    [
        (lambda: Options.of("digit"), "recipe 'digit': there is no such recipe", "digits"),
        (lambda: Options.of("digits", optimizer="adma"), "optimizer 'adma'", "adam"),
        (lambda: Options.of("digits", schedule="cosin"), "schedule 'cosin'", "cosine"),
        (
            lambda: Options.of("digits", settings={"momentun": 0.9}),
            "setting of sgd 'momentun'",
            "momentum",
        ),
    ],
)
def test_unknown_names_list_the_known_and_the_nearest(make, message, fix):
    with pytest.raises(UnknownNameError) as caught:
        make()
    assert message in str(caught.value)
    assert "known : " in str(caught.value)
    assert f"fix: did you mean {fix}?" in str(caught.value)


def test_a_name_like_nothing_gets_no_hint():
    with pytest.raises(UnknownNameError) as caught:
        Options.of("zebra")
    assert "known : digits, xor, " in str(caught.value)
    assert "fix:" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("[run", "not a TOML file"),
        ("[run]\nseed = 1", "does not name a recipe"),
        ('[run]\nrecipe = "xor"\nepoch = 3', "has no key 'epoch'"),
    ],
)
def test_broken_configs(tmp_path, content, rule):
    (tmp_path / "c.toml").write_text(content)
    with pytest.raises(OptionError, match=rule):
        read_config(tmp_path / "c.toml")


def test_a_config_that_is_not_there(tmp_path):
    with pytest.raises(OptionError, match="No such file"):
        read_config(tmp_path / "c.toml")


def test_options_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Options.of("xor").seed = 1


def test_schedules():
    assert {schedule("constant", i, 4) for i in range(5)} == {1.0}
    falling = [schedule("cosine", i, 4) for i in range(5)]
    assert falling == sorted(falling, reverse=True)
    assert (falling[0], falling[2]) == (1.0, pytest.approx(0.5))
