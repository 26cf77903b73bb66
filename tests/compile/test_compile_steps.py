"""Whole training steps, compiled: the same curve, parameters, gradients and draws."""

import numpy as np
import pytest
from calls import BACKENDS
from steps import Task, X, Y, follows, mlp, training

import wengert as wg
from wengert import amp, nn, optim
from wengert.nn import functional as F
from wengert.optim import schedules

pytestmark = pytest.mark.parametrize("backend", BACKENDS)


@pytest.mark.parametrize("zero", ["before", "after", "never"])
def test_gradients_are_forgotten_or_accumulate(zero, backend):
    make = training(lambda p: optim.SGD(p, lr=0.1, momentum=0.9), zero=zero)
    follows(make, backend, variants=2 if zero == "never" else 1)


RECORDED = {
    "sgd": (lambda p: optim.SGD(p, lr=0.1), 1),
    "momentum": (lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True), 1),
    "decay": (lambda p: optim.SGD(p, lr=0.1, weight_decay=0.1), 1),
    "maximize": (lambda p: optim.SGD(p, lr=0.1, maximize=True), 1),
    "adam": (lambda p: optim.Adam(p, lr=0.01), 1),
    "adamw": (lambda p: optim.AdamW(p, lr=0.01, weight_decay=0.1), 1),
    "adadelta": (lambda p: optim.Adadelta(p, lr=1.0), 1),
    "adagrad": (lambda p: optim.Adagrad(p, lr=0.1), 2),
    "adamax": (lambda p: optim.Adamax(p, lr=0.01), 1),
    "lion": (lambda p: optim.Lion(p, lr=0.01), 1),
    "nadam": (lambda p: optim.NAdam(p, lr=0.01), 1),
    "radam": (lambda p: optim.RAdam(p, lr=0.01), 2),
    "rmsprop": (lambda p: optim.RMSprop(p, lr=0.01), 1),
}


@pytest.mark.parametrize("name", RECORDED)
def test_elementwise_optimizers_are_recorded(name, backend):
    make, programs = RECORDED[name]
    follows(training(make), backend, calls=8, variants=programs)


OTHERS = {
    "muon": lambda p: optim.Muon([q for q in p if q.ndim == 2], lr=0.01),
    "sgld": lambda p: optim.SGLD(p, lr=1e-4, rng=3),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_optimizers_run_uncompiled_and_say_why(name, backend):
    follows(training(OTHERS[name]), backend, calls=4, refused="in a compiled function")


def test_groups_have_their_own_hyperparameters(backend):
    def optimizer(params):
        a, b, *rest = params
        return optim.Adam([{"params": [a, b], "lr": 0.1}, {"params": rest}], lr=0.001)

    follows(training(optimizer), backend, variants=1)


def moved(model, optimizer):
    def between(i):
        optimizer.lr = 0.1 / (i + 1)

    return between


def decayed(model, optimizer):
    def between(i):
        optimizer.groups[0].weight_decay = 0.0 if i < 3 else 0.1

    return between


def loaded(model, optimizer):
    saved = []

    def between(i):
        if i == 2:
            saved.append(optimizer.state_dict())
        if i == 4:
            optimizer.load_state_dict(saved[0])

    return between


def scheduled(model, optimizer):
    schedule = schedules.Schedule(optimizer, schedules.warmup(3))

    def between(i):
        if i:
            schedule.step()

    return between


def replaced(model, optimizer):
    def between(i):
        if i == 3:
            model[0].weight = nn.Parameter(np.full((6, 16), 0.1, np.float32))

    return between


def written(model, optimizer):
    def between(i):
        if i == 2:
            with wg.no_grad():
                model[0].weight[...] = 0.1
        if i == 4:
            model[0].weight.data[0] = 0.3

    return between


def added(model, optimizer):
    extra = nn.Parameter(np.ones(16, np.float32))

    def between(i):
        if i == 2:
            model[0].bias = extra
            optimizer.add_group({"params": [extra], "lr": 0.5})

    return between


BETWEEN = {
    "rate": (moved, 1), "decay": (decayed, 2), "state": (loaded, 1), "schedule": (scheduled, 1),
    "replaced": (replaced, None), "written": (written, 1), "added": (added, None),
}  # fmt: skip


@pytest.mark.parametrize("name", BETWEEN)
@pytest.mark.parametrize("optimizer", [optim.AdamW, optim.SGD])
def test_changes_between_the_calls(name, optimizer, backend):
    between, programs = BETWEEN[name]
    make = training(lambda p: optimizer(p, lr=0.05, weight_decay=0.0), between=between)
    follows(make, backend, variants=programs)


CLIPPED = {
    "norm": lambda m: optim.clip_grad_norm_(m.parameters(), 0.3),
    "large norm": lambda m: optim.clip_grad_norm_(m.parameters(), 100.0),
    "value": lambda m: optim.clip_grad_value_(m.parameters(), 0.01),
    "adaptive": lambda m: optim.clip_grad_adaptive_(m.parameters(), 0.01),
}


@pytest.mark.parametrize("name", CLIPPED)
def test_clipping_is_recorded(name, backend):
    follows(training(clip=CLIPPED[name]), backend, variants=1)


def test_the_clipped_norm_is_a_plain_number(backend):
    model = mlp()

    def f(x, y):
        model.zero_grad() if hasattr(model, "zero_grad") else None
        for p in model.parameters():
            p.grad = None
        F.cross_entropy(model(x), y).backward()
        return optim.clip_grad_norm_(model.parameters(), 0.1)

    g = wg.compile(f, backend=backend)
    for _ in range(3):
        assert type(g(X, Y)) is float
        np.testing.assert_allclose(g(X, Y), f(X, Y), rtol=1e-5)


def test_a_norm_that_is_not_finite_is_not_asked_about(backend):
    def clip(m):
        return optim.clip_grad_norm_(m.parameters(), 0.1, error_if_nonfinite=True)

    follows(training(clip=clip), backend, calls=3, refused="not known while")


def by_hand(update):
    def make():
        model = mlp()
        params = list(model.parameters())

        def step(x, y):
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            for p in params:
                update(p)
            return loss.detach()

        return Task(step, lambda: params)

    return make


def in_place(p):
    with wg.no_grad():
        p -= 0.1 * p.grad
    p.grad = None


def assigned(p):
    with wg.no_grad():
        p[...] = p - 0.1 * p.grad
    p.grad = None


def through_data(p):
    p.data -= np.float32(0.1) * p.grad.data
    p.grad = None


def accumulated(p):
    with wg.no_grad():
        p.grad *= 0.5
        p -= 0.1 * p.grad


@pytest.mark.parametrize("update", [in_place, assigned, through_data, accumulated])
def test_updates_by_hand(update, backend):
    follows(by_hand(update), backend, variants=1 if update is not accumulated else 2)


def test_running_means_of_the_weights(backend):
    def make():
        model = mlp()
        optimizer = optim.Adam(model.parameters(), lr=0.01)
        ema, swa = optim.EMA(model.parameters()), optim.SWA(model.parameters())

        def step(x, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            ema.update()
            swa.update()
            ema.update()
            return loss.detach()

        return Task(step, lambda: [*model.parameters(), *ema.values, *swa.values, ema.steps])

    follows(make, backend, variants=1)


def test_a_schedule_or_a_scaler_inside_runs_uncompiled(backend):
    def scheduling():
        model = mlp()
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        schedule = schedules.Schedule(optimizer, schedules.warmup(3))

        def step(x, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            schedule.step()
            return loss.detach()

        return Task(step, lambda: [*model.parameters(), optimizer.lr])

    def scaling():
        model = mlp()
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        scaler = amp.GradScaler()

        def step(x, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            return loss.detach()

        return Task(step, lambda: [*model.parameters(), scaler.good_steps])

    follows(scheduling, backend, refused="schedule.step() in a compiled function")
    follows(scaling, backend, refused="scaler.unscale_(optimizer) in a compiled function")


def test_mixed_precision_inside(backend):
    def make():
        model = mlp()
        optimizer = optim.SGD(model.parameters(), lr=0.1)

        def step(x, y):
            optimizer.zero_grad()
            with amp.autocast():
                loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss.detach()

        return Task(step, lambda: list(model.parameters()))

    follows(make, backend, rtol=2e-3, variants=1)


def switched(model, optimizer):
    def between(i):
        (model.eval if i in (2, 3) else model.train)()

    return between


def reseeded(model, optimizer):
    def between(i):
        if i == 3:
            wg.random.seed(11)

    return between


def test_batch_normalisation_moves_its_statistics(backend):
    make = training(make_model=lambda: mlp(nn.BatchNorm1d(16)), between=switched)
    follows(make, backend, variants=2)


@pytest.mark.parametrize("between", [None, switched, reseeded])
@pytest.mark.parametrize("rng", [None, 5])
def test_dropout_draws_the_same(between, rng, backend):
    make = training(make_model=lambda: mlp(nn.Dropout(0.5, rng=rng)), between=between)
    follows(make, backend, variants=2 if between is switched else 1)


def test_dropout_from_a_seed_is_the_same_every_time(backend):
    def make():
        model = mlp()

        def step(x, y):
            loss = F.cross_entropy(model(F.dropout(x, 0.5, rng=7)), y)
            loss.backward()
            return loss.detach()

        return Task(step, lambda: list(model.parameters()))

    follows(make, backend)


def test_a_frozen_layer_and_an_unused_one(backend):
    def make():
        model = mlp()
        model[0].weight.requires_grad_(False)
        spare = nn.Linear(6, 6, rng=2)
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = optim.Adam([*trained, *spare.parameters()], lr=0.01)

        def step(x, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss.detach()

        return Task(step, lambda: [model[0].weight, *optimizer.parameters])

    follows(make, backend, variants=1)


def test_gradients_that_were_there_before(backend):
    def make():
        model = mlp()
        optimizer = optim.SGD(model.parameters(), lr=0.1)

        def step(x, y):
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss.detach()

        def between(i):
            if i % 2:
                optimizer.zero_grad()
            elif i:
                for p in model.parameters():
                    p.grad = wg.tensor(np.full(p.shape, 0.01, np.float32))

        return Task(step, lambda: list(model.parameters()), between)

    follows(make, backend, calls=7, variants=2)


def test_several_losses_and_several_steps_in_one(backend):
    def make():
        model, critic = mlp(), nn.Linear(3, 1, rng=4)
        one = optim.Adam(model.parameters(), lr=0.01)
        two = optim.SGD(critic.parameters(), lr=0.1)

        def step(x, y):
            one.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            one.step()
            two.zero_grad()
            error = np.mean(np.square(critic(model(x).detach())))
            error.backward()
            two.step()
            one.step()
            return {"loss": loss.detach(), "error": error.detach()}

        return Task(step, lambda: [*model.parameters(), *critic.parameters()])

    follows(make, backend, variants=1)
