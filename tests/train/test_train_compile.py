"""Compiled steps: the numbers, draws and effects of the eager ones, and runs that resume."""

import dataclasses
import warnings

import numpy as np
import pytest
from test_train_recipes import TEXT, At, content, small

import wengert as wg
from wengert import nn
from wengert.amp import GradScaler
from wengert.errors import ArgumentError, CompileWarning, OptionError
from wengert.nn import functional as F
from wengert.optim import EMA, SGD, SWA, Adam, Lookahead, schedules
from wengert.train import OPTIMIZERS, RECIPES, Options, Step, Stopped, fit, guard, resume
from wengert.train import loop as loop_module
from wengert.train.state import random_states

pytest.importorskip("safetensors.numpy")


@pytest.fixture
def text(tmp_path):
    (tmp_path / "fox.txt").write_text(TEXT)
    return str(tmp_path / "fox.txt")


def begun(options):
    """A run of these options before its first step."""
    recipe = RECIPES[options.recipe]
    drawn = loop_module._drawn(recipe, options, recipe.data(options.task), 0)
    return drawn["step"], drawn["loader"]


def steps(options, n):
    """The reports of the first steps, and the step."""
    step, loader = begun(options)
    reports = []
    while len(reports) < n:
        for batch in loader:
            reports.append(step(*batch))
            if len(reports) == n:
                break
    return reports, step


def programs(step):
    made = step.programs
    return [made._first, made._sweep, made._last]


def recorded(step):
    """How many programs a step has made; nothing runs uncompiled."""
    assert not any(f.refused for f in programs(step))
    return sum(len(known) for f in programs(step) for known in f.variants.values())


def alike(a, b, rtol=1e-4):
    for x, y in zip(a, b, strict=True):
        x, y = dataclasses.asdict(x), dataclasses.asdict(y)
        assert y == pytest.approx(x, rel=rtol, nan_ok=True)


def own_streams(step):
    others = [o for o in (step.optimizer, step.noise) if o is not None]
    return repr(random_states(step.model, *others)["own"])


def both(options, n=6):
    """The same steps eager and compiled: reports, weights and streams of random numbers."""
    (eager, one), (compiled, two) = (
        steps(dataclasses.replace(options, compile=c), n) for c in (False, True)
    )
    alike(eager, compiled)
    assert own_streams(one) == own_streams(two)
    assert two.optimizer.state_dict()["steps"] == one.optimizer.state_dict()["steps"]
    assert recorded(two) >= 1
    return one, two


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_the_loss_curve_of_its_eager_run(name, text):
    if name == "regress":
        pytest.importorskip("sklearn")
    task = small(name, text).get("task")
    one, two = both(Options.of(name, task=task, ema=0.9), 8)
    state = one.model.state_dict()
    for key, value in two.model.state_dict().items():
        np.testing.assert_allclose(value, state[key], rtol=1e-2, atol=1e-3, err_msg=key)


def test_the_chain_counts_its_places_when_compiled():
    task = {**RECIPES["langevin"].task, "burn_in": 3}
    one, two = both(Options.of("langevin", task=task), 12)
    assert one.model.steps.value()[0] == two.model.steps.value()[0] == 12
    for name in ("total", "squares"):
        a, b = getattr(one.model, name).value(), getattr(two.model, name).value()
        assert np.any(a)
        np.testing.assert_allclose(b, a, rtol=1e-9)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer(name):
    rate = {"lr": 1e-3} if name in ("sgld", "lion") else {}
    both(Options.of("spiral", optimizer=name, settings=rate, ema=0.9, clip_norm=0.5))


@pytest.mark.parametrize(
    "how",
    [
        {"accumulate": 3},
        {"accumulate": 3, "noise": 0.01, "clip_value": 0.1},
        {"clip_value": 0.01},
        {"amp": "bfloat16"},
        {"amp": "float16", "accumulate": 2, "clip_norm": 1.0},
        {"checkpointing": "sqrt"},
    ],
    ids=str,
)
def test_every_option(how):
    both(Options.of("digits", **how), 4)


def test_a_step_is_recorded_once_for_every_size_of_batch():
    """1,259 examples in batches of 32: the last of an epoch is smaller."""
    _, step = steps(Options.of("digits", compile=True), 40)
    assert recorded(step) == 2
    _, step = steps(Options.of("digits", compile=True), 130)
    assert recorded(step) == 2


def batch(n=12):
    rng = np.random.default_rng(1)
    return rng.normal(size=(n, 4)), rng.integers(0, 3, n)


def network():
    return nn.Sequential(
        nn.Linear(4, 6, rng=0, dtype=float), nn.Tanh(), nn.Linear(6, 3, rng=1, dtype=float)
    )


def loss(model, x, y):
    return F.cross_entropy(model(x), y)


def made(compile=True, optimizer=Adam, f=loss, **options):
    model = network()
    return Step(model, f, optimizer(model.parameters(), lr=0.1), compile=compile, **options)


@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("parts", [1, 3])
def test_a_step_that_is_not_finite_changes_nothing(clip, parts):
    steps = [made(c, clip_norm=clip, accumulate=parts) for c in (False, True)]
    for step in steps:
        step.ema = EMA(step.optimizer.parameters, 0.9)
    x, y = batch()
    bad = x.copy()
    bad[-1, 0] = np.nan
    before: list[np.ndarray] = []
    for given in (x, bad, x, bad, bad, x, x):
        one, two = (step(given, y) for step in steps)
        assert two.skipped == one.skipped == (given is bad)
        if two.skipped:
            for a, b in zip(before, steps[1].model.parameters()):
                assert np.array_equal(a, b.value())
        before = [p.value().copy() for p in steps[1].model.parameters()]
        alike([one], [two], 1e-12)
    one, two = (step.optimizer.state_dict() for step in steps)
    assert one["steps"] == two["steps"] == [4] * 4
    for name, a in one["arrays"].items():
        np.testing.assert_allclose(two["arrays"][name], a, rtol=1e-9, atol=1e-15)
    assert steps[0].ema.steps == steps[1].ema.steps == 4
    for a, b in zip(steps[0].ema.values, steps[1].ema.values):
        np.testing.assert_allclose(b, a, rtol=1e-9)


def test_a_scale_that_overflows_skips_and_falls():
    x, y = batch()
    x = x.astype(np.float32)

    def run(compiled):
        model = nn.Linear(4, 3, rng=0)
        step = Step(model, loss, SGD(model.parameters(), lr=0.1), compile=compiled,
                    scaler=GradScaler(scale=2.0**21, growth_interval=3),
                    autocast=lambda: wg.amp.autocast("float16"))  # fmt: skip
        return [step(x, y) for _ in range(12)]

    one, two = run(False), run(True)
    assert 0 < sum(r.skipped for r in one) < len(one)
    alike(one, two, 1e-3)


def test_schedules_and_rates_are_read_at_every_step():
    steps = [made(c, optimizer=SGD) for c in (False, True)]
    for step in steps:
        step.schedule = schedules.Schedule(step.optimizer, schedules.cosine(8))
    one, two = ([step(*batch()) for _ in range(8)] for step in steps)
    alike(one, two, 1e-12)
    assert len({r.lr for r in two}) == 8
    assert recorded(steps[1]) == 1


def test_what_a_step_is_made_of_may_be_changed():
    steps = [made(c, optimizer=SGD) for c in (False, True)]
    out = []
    for step in steps:
        reports = [step(*batch())]
        step.clip_norm = 0.01
        reports.append(step(*batch()))
        step.loss = lambda model, x, y: 2 * loss(model, x, y)
        reports.append(step(*batch()))
        reports.append(step(*batch()))
        out.append(reports)
    alike(*out, 1e-12)


def test_what_a_loss_closes_over_is_watched():
    weight = [1.0]
    step = made(f=lambda model, x, y: weight[0] * loss(model, x, y), optimizer=SGD)
    first = step(*batch()).loss
    step.optimizer.lr = 0.0
    now = step(*batch()).loss
    assert now < first
    weight[0] = 3.0
    assert step(*batch()).loss == pytest.approx(3 * now, rel=1e-12)


def test_a_loss_that_cannot_be_recorded_runs_as_it_does_uncompiled():
    def branching(model, x, y):
        value = loss(model, x, y)
        return value if value.item() > 0 else -value

    one, two = made(False, f=branching), made(f=branching)
    with pytest.warns(CompileWarning, match=r"Step\(compile=True\) runs uncompiled: the value of"):
        reports = [two(*batch())]
    reports += [two(*batch()) for _ in range(4)]
    assert [one(*batch()) for _ in range(5)] == reports


def test_optimizers_and_means_that_need_python_make_their_own_step():
    class Mine(EMA):
        def update(self):
            super().update()

    for change in (
        {"optimizer": lambda ps, lr: Lookahead(SGD(ps, lr=lr))},
        {"ema": Mine},
        {"ema": SWA},
    ):
        steps = []
        for c in (False, True):
            step = made(c, **{k: v for k, v in change.items() if k == "optimizer"})
            if "ema" in change:
                step.ema = change["ema"](step.optimizer.parameters)
            steps.append(step)
        one, two = ([step(*batch()) for _ in range(9)] for step in steps)
        alike(one, two, 1e-10)
        assert recorded(steps[1]) >= 1


def test_who_listens_hears_every_event():
    step = made(optimizer=SGD)
    with warnings.catch_warnings(), guard(step.model, step.optimizer) as watching:
        warnings.simplefilter("ignore")
        for _ in range(3):
            step(*batch())
    assert not watching.findings
    assert step.programs is None
    step(*batch())
    assert recorded(step) == 1


def test_parts_that_count_for_nothing_and_trees():
    def of(model, b):
        return loss(model, b["x"], b["y"])

    x, y = batch()
    parts = [{"x": x[:4], "y": y[:4]}, {"x": x[4:], "y": y[4:]}, {"x": x[:0], "y": y[:0]}]
    one, two = made(False, f=of), made(f=of)
    for _ in range(3):
        alike([one.micro(parts)], [two.micro(parts)], 1e-12)
    assert recorded(two) == 2


def test_errors_are_those_of_an_eager_step():
    x, y = batch()
    for f in (lambda m, x, y: m(x), lambda m, x, y: 1.0, lambda m, x, y: np.mean(wg.tensor(x))):
        messages = []
        for c in (False, True):
            with pytest.raises(ArgumentError) as caught:
                made(c, f=f)(x, y)
            messages.append(str(caught.value).split("\n  at:")[0])
        assert messages[0] == messages[1]
    step = made()
    step(x, y)
    with pytest.raises(wg.errors.AxisError):
        step(x, y + 1)
    before = step.optimizer.state_dict()["steps"]
    assert before == [1] * 4
    assert not step(x, y).skipped


def test_a_scaler_that_nobody_knows_is_refused():
    class Mine:
        scale_now = 2.0

    with pytest.raises(OptionError, match="what it does to a loss is not known"):
        made(scaler=Mine())


# ---- runs


@pytest.mark.parametrize("name", ["digits", "digits-cnn", "char-gpt", "langevin", "xor"])
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path, text, name, monkeypatch):
    monkeypatch.setattr(loop_module, "PAUSE", 0.0)
    options = Options.of(name, ema=0.9, compile=True, **small(name, text))
    fit(options, tmp_path / "whole")
    with pytest.raises(Stopped):
        fit(options, tmp_path / "run", [At(2, 1)])
    resume(tmp_path / "run")
    assert content(tmp_path / "run") == content(tmp_path / "whole")
    assert "compile = true" in (tmp_path / "run" / "config.toml").read_text()


@pytest.mark.parametrize("given", [1, "true", None, 0.0])
def test_compile_is_true_or_false(given):
    with pytest.raises(OptionError, match="compile is true or false"):
        dataclasses.replace(Options.of("xor"), compile=given)
