"""Options are checked before anything is written, and a config.toml gives them back."""

import dataclasses

import numpy as np
import pytest

import wengert as wg
from wengert.errors import OptionError, UnknownNameError
from wengert.train import OPTIMIZERS, RECIPES, Options, read_config
from wengert.train.config import SCHEDULES, changes, config_text, schedule


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


def test_compile_goes_into_the_file_and_back(tmp_path):
    assert "compile = false" in text_of(Options.of("xor")).splitlines()
    options = Options.of("xor", compile=True)
    (tmp_path / "c.toml").write_text(text_of(options))
    assert read_config(tmp_path / "c.toml")[0] == options
    (tmp_path / "c.toml").write_text('[run]\nrecipe = "xor"\ncompile = 1\n')
    with pytest.raises(OptionError, match="compile is true or false"):
        read_config(tmp_path / "c.toml")


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
        ("run = 3", "run is a table"),
        ('optimizer = "adam"\n[run]\nrecipe = "xor"', "optimizer is a table: a line .optimizer."),
        ('task = ["arms"]\n[run]\nrecipe = "spiral"', "task is a table"),
    ],
)
def test_broken_configs(tmp_path, content, rule):
    (tmp_path / "c.toml").write_text(content)
    with pytest.raises(OptionError, match=rule):
        read_config(tmp_path / "c.toml")


def test_a_table_that_does_not_exist_is_not_passed_over(tmp_path):
    (tmp_path / "c.toml").write_text('[run]\nrecipe = "xor"\n[optimiser]\nname = "adam"')
    with pytest.raises(UnknownNameError, match="did you mean optimizer"):
        read_config(tmp_path / "c.toml")


def test_a_setting_of_two_numbers_is_a_list():
    with pytest.raises(OptionError, match="betas is a list of numbers") as caught:
        Options.of("xor", optimizer="adam", settings={"betas": "0.9,0.99"})
    assert "fix: betas = [0.9, 0.999]" in str(caught.value)


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


def test_every_schedule_starts_at_1_after_its_warmup_and_falls():
    w, steps = 5, 65
    for name in SCHEDULES:
        factors = [schedule(name, i, steps, w) for i in range(steps)]
        assert factors[:w] == [(i + 1) / w for i in range(w)]
        assert max(factors) <= 1.0
        if name == "one_cycle":
            assert factors[w] == pytest.approx(0.04)
            assert max(factors) == 1.0
        elif name == "inverse_sqrt":
            assert factors[w:] == [pytest.approx((w / (t + 1)) ** 0.5) for t in range(w, steps)]
        else:
            assert factors[w] == 1.0
        assert (factors[-1] == 1.0) == (name == "constant")
        for n in (0, 1, 2, 3):  # runs that are hardly begun
            assert 0 <= schedule(name, 0, n, 0) <= 1


def test_what_draws_has_a_stream_of_its_own():
    leaf = wg.tensor(np.zeros(3), requires_grad=True)
    options = Options.of("digits", optimizer="sgld", noise=0.1, seed=3)
    samplers = [options.make_optimizer([leaf], draw) for draw in (0, 0, 1)]
    noises = [options.make_noise(draw) for draw in (0, 0, 1)]
    for makers in (samplers, noises):
        a, b, c = (m.rng.random() for m in makers)
        assert a == b != c
    assert noises[0].deviation == pytest.approx(0.1)
    assert Options.of("digits").make_noise(0) is None
    with pytest.raises(UnknownNameError, match="rng"):
        Options.of("digits", optimizer="sgld", settings={"rng": 1})
