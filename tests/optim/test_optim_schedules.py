"""Schedules: their values, PyTorch's where it is installed, and their states."""

import importlib.util

import numpy as np
import pytest

import wengert as wg
from wengert.errors import OptionError
from wengert.optim import SGD, schedules

STEPS = 60


def optimizer(*rates):
    leaves = [wg.tensor([1.0], requires_grad=True) for _ in rates]
    return SGD([{"params": [p], "lr": r} for p, r in zip(leaves, rates)], lr=0.1)


def rates(shape, lr=0.1, steps=STEPS):
    o = optimizer(lr)
    s = schedules.Schedule(o, shape)
    out = []
    for _ in range(steps):
        out.append(o.lr)
        s.step()
    return out


CASES = [
    (schedules.step(7, 0.3), "StepLR", {"step_size": 7, "gamma": 0.3}),
    (schedules.multistep([5, 9, 30], 0.5), "MultiStepLR", {"milestones": [5, 9, 30], "gamma": 0.5}),
    (schedules.exponential(0.95), "ExponentialLR", {"gamma": 0.95}),
    (
        schedules.linear(20, 0.25, 0.5),
        "LinearLR",
        {"start_factor": 0.25, "end_factor": 0.5, "total_iters": 20},
    ),
    (schedules.polynomial(40, 2.0), "PolynomialLR", {"total_iters": 40, "power": 2.0}),
    (schedules.cosine(STEPS), "CosineAnnealingLR", {"T_max": STEPS}),
    (schedules.cosine(STEPS, 0.1), "CosineAnnealingLR", {"T_max": STEPS, "eta_min": 0.01}),
    (schedules.cosine_restarts(10), "CosineAnnealingWarmRestarts", {"T_0": 10}),
    (schedules.cosine_restarts(7, 2), "CosineAnnealingWarmRestarts", {"T_0": 7, "T_mult": 2}),
    (
        schedules.one_cycle(STEPS),
        "OneCycleLR",
        {"max_lr": 0.1, "total_steps": STEPS, "cycle_momentum": False},
    ),
    (
        schedules.cyclic(5, 9, low=0.1),
        "CyclicLR",
        {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 5, "step_size_down": 9,
         "cycle_momentum": False},
    ),
]  # fmt: skip


@pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="no torch to compare with")
@pytest.mark.parametrize(("shape", "name", "options"), CASES)
def test_the_rates_are_those_of_pytorch(shape, name, options):
    import torch

    p = torch.nn.Parameter(torch.ones(1))
    theirs = torch.optim.SGD([p], lr=0.1)
    scheduler = getattr(torch.optim.lr_scheduler, name)(theirs, **options)
    want = []
    for _ in range(STEPS):
        want.append(theirs.param_groups[0]["lr"])
        theirs.step()
        if len(want) < STEPS:
            scheduler.step()
    np.testing.assert_allclose(rates(shape), want, rtol=1e-12, atol=1e-16)


@pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="no torch to compare with")
@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_plateau_is_that_of_pytorch(mode):
    import torch

    rng = np.random.default_rng(0)
    p = torch.nn.Parameter(torch.ones(1))
    theirs = torch.optim.SGD([p], lr=0.1)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        theirs, mode=mode, factor=0.5, patience=3, cooldown=2, min_lr=1e-4
    )
    o = optimizer(0.1)
    plateau = schedules.Plateau(
        o, factor=0.5, patience=3, cooldown=2, lowest=1e-4, higher=mode == "max"
    )
    for _ in range(100):
        measure = float(rng.uniform(0.5, 1.0))
        scheduler.step(measure)
        plateau.step(measure)
        assert o.lr == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-12)
    assert o.lr < 0.1


def test_shapes_at_their_ends():
    assert schedules.cosine(10)(0) == 1.0
    assert schedules.cosine(10)(10) == schedules.cosine(10)(99) == 0.0
    assert schedules.polynomial(10, 3)(11) == 0.0
    assert schedules.warmup(4)(3) == schedules.warmup(0)(0) == 1.0
    assert max(map(schedules.one_cycle(50), range(50))) == pytest.approx(1.0, abs=0.01)
    assert schedules.cyclic(3, low=0.2)(0) == 0.2
    assert schedules.cyclic(3, low=0.2, decay=0.5)(9) == pytest.approx(0.2 + 0.8 * 0.5)


def test_groups_keep_their_proportions_or_have_shapes_of_their_own():
    o = optimizer(0.1, 0.4)
    s = schedules.Schedule(o, schedules.linear(10))
    for _ in range(5):
        s.step()
    assert [g.lr for g in o.groups] == [0.05, 0.2]
    o = optimizer(0.1, 0.4)
    s = schedules.Schedule(o, [schedules.constant(), schedules.linear(2)])
    s.step()
    assert [g.lr for g in o.groups] == [0.1, 0.2]
    with pytest.raises(OptionError, match="one for each"):
        schedules.Schedule(o, [schedules.constant()])


@pytest.mark.parametrize("make", [
    lambda o: schedules.Schedule(o, schedules.warmup(3, schedules.cosine(20))),
    lambda o: schedules.Plateau(o, patience=2, factor=0.5),
])  # fmt: skip
def test_a_saved_state_goes_on(make):
    def advance(schedule, n, start):
        for i in range(start, start + n):
            schedule.step(*([1.0 + (i == 0)] if isinstance(schedule, schedules.Plateau) else []))

    whole, parts = optimizer(0.1), optimizer(0.1)
    a, b = make(whole), make(parts)
    advance(a, 12, 0)
    advance(b, 5, 0)
    c = make(parts)
    parts.load_state_dict(parts.state_dict())
    c.load_state_dict(b.state_dict())
    advance(c, 7, 5)
    assert parts.lr == whole.lr < 0.1


def test_wrong_options():
    for bad in (
        lambda: schedules.step(0),
        lambda: schedules.cosine(2.5),
        lambda: schedules.one_cycle(10, rise=1.5),
        lambda: schedules.chain([schedules.constant()], [1]),
        lambda: schedules.Plateau(optimizer(0.1), factor=1.5),
        lambda: schedules.Plateau(optimizer(0.1)).step(None),
        lambda: schedules.Plateau(optimizer(0.1)).step("loss"),
    ):
        with pytest.raises(OptionError):
            bad()


@pytest.mark.parametrize(("make", "name"), [
    (lambda v: schedules.step(3, v), "factor"), (lambda v: schedules.multistep([3], v), "factor"),
    (lambda v: schedules.multistep(v), "milestones"), (lambda v: schedules.linear(3, v), "start"),
    (lambda v: schedules.polynomial(3, v), "power"), (lambda v: schedules.cosine(3, v), "end"),
    (lambda v: schedules.cosine_restarts(3, end=v), "end"), (lambda v: schedules.step(v), "every"),
    (lambda v: schedules.cyclic(3, low=v), "low"),
    (lambda v: schedules.cyclic(3, decay=v), "decay"),
    (lambda v: schedules.one_cycle(3, rise=v), "rise"),
    (lambda v: schedules.one_cycle(3, end=v), "end"),
    (lambda v: schedules.warmup(3, start=v), "start"), (lambda v: schedules.warmup(3, v), "then"),
])  # fmt: skip
def test_options_of_another_kind_are_refused(make, name):
    for value in ("x", -1, float("nan"), {}, [0.5]):
        with pytest.raises(OptionError, match=name):
            make(value)
