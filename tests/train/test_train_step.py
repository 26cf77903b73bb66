"""A step: parts add up to the whole batch in every combination; errors leave nothing behind."""

import math
import warnings

import numpy as np
import pytest

import wengert as wg
from wengert import nn
from wengert.amp import GradScaler, autocast
from wengert.errors import ArgumentError, OptionError, ShapeError
from wengert.nn import functional as F
from wengert.optim import EMA, SGD, Adam
from wengert.optim.schedules import Plateau, Schedule, warmup
from wengert.train import Step, StepReport, tokens

VOCAB = 7


def perceptron(dtype=np.float64):
    return nn.Sequential(
        nn.Linear(5, 8, rng=0, dtype=dtype), nn.Tanh(), nn.Linear(8, 3, rng=1, dtype=dtype)
    )


def batch(n=23, dtype=np.float64):
    rng = np.random.default_rng(2)
    return rng.normal(size=(n, 5)).astype(dtype), rng.integers(0, 3, n)


def classify(model, x, y):
    return F.cross_entropy(model(x), y)


def gradients(model):
    return [p.grad.numpy().copy() for p in model.parameters()]


def contributions(model, x, y):
    """sum_n |g_n| / N, number by number: what rounding errors are measured against."""
    total = None
    for i in range(len(x)):
        model.zero_grad()
        classify(model, x[i : i + 1], y[i : i + 1]).backward()
        each = [np.abs(g) / len(x) for g in gradients(model)]
        total = each if total is None else [a + b for a, b in zip(total, each)]
    model.zero_grad()
    return total


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("parts", [2, 3, 5, 22, 23, 50])
def test_parts_add_up_to_the_whole_batch(dtype, parts):
    model = perceptron(dtype)
    x, y = batch(dtype=dtype)
    scale = contributions(model, x, y)
    whole, cut = [
        Step(model, classify, SGD(model.parameters(), lr=0.0), accumulate=k) for k in (1, parts)
    ]
    a = whole(x, y)
    exact = gradients(model)
    b = cut(x, y)
    eps = float(np.finfo(dtype).eps)
    assert b.loss == pytest.approx(a.loss, rel=8 * eps)
    for g, want, s in zip(gradients(model), exact, scale):
        assert (np.abs(g - want) <= 4 * eps * s).all()


def test_a_mean_of_unequal_parts_is_another_gradient():
    """What the weights are for: the bound above is broken by fourteen digits without them."""
    model = perceptron()
    x, y = batch()
    scale = contributions(model, x, y)
    optimizer = SGD(model.parameters(), lr=0.0)
    Step(model, classify, optimizer)(x, y)
    exact = gradients(model)
    Step(model, classify, optimizer, accumulate=4, weight=lambda *b: 1.0)(x, y)
    errors = [np.abs(g - w).max() / s.max() for g, w, s in zip(gradients(model), exact, scale)]
    assert max(errors) > 1e-3


class Language(nn.Module):
    """Logits of the next token from an embedding and a layer."""

    def __init__(self, dtype=np.float64):
        rng = np.random.default_rng(0)
        self.table = nn.Parameter(rng.normal(size=(VOCAB, 6)).astype(dtype))
        self.out = nn.Linear(6, VOCAB, rng=1, dtype=dtype)

    def forward(self, x):
        return self.out(np.tanh(self.table[x]))


def of_tokens(model, x, y):
    """The mean over the labels that are not -100."""
    keep = y != -100
    lp = wg.log_softmax(model(x), axis=-1)
    picked = np.take_along_axis(lp, np.where(keep, y, 0)[..., None], axis=-1)[..., 0]
    return -np.sum(np.where(keep, picked, 0.0)) / keep.sum()


def text(n=9, t=6):
    rng = np.random.default_rng(5)
    x = rng.integers(0, VOCAB, (n, t))
    y = rng.integers(0, VOCAB, (n, t))
    y[np.arange(t) >= rng.integers(1, t + 1, n)[:, None]] = -100  # sequences of unequal length
    y[3] = -100  # and one without a label
    return x, y


@pytest.mark.parametrize("parts", [2, 4, 9])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("clip", [None, 0.05])
def test_tokens_are_weighed_with_clipping_and_scaling(parts, scaled, clip):
    x, y = text()
    found = []
    for k in (1, parts):
        model = Language()
        step = Step(
            model, of_tokens, SGD(model.parameters(), lr=0.5), accumulate=k, weight=tokens(),
            clip_norm=clip, scaler=GradScaler(2.0**12) if scaled and k > 1 else None,
        )  # fmt: skip
        report = step(x, y)
        found.append((report, [p.numpy().copy() for p in model.parameters()]))
    (a, whole), (b, cut) = found
    assert a.weight == b.weight == (y != -100).sum()
    assert b.loss == pytest.approx(a.loss, rel=1e-14)
    assert b.grad_norm == pytest.approx(a.grad_norm, rel=1e-13)
    assert not clip or b.grad_norm > 2 * clip
    for p, want in zip(cut, whole):
        np.testing.assert_allclose(p, want, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("form", ["float16", "bfloat16"])
def test_half_precision_parts_and_clipping_against_the_plain_whole_batch(form):
    """The error is that of half numbers, no more: the same with and without parts."""
    x, y = batch(32, np.float32)
    updates = []
    for half, k in ((False, 1), (True, 1), (True, 5)):
        model = perceptron(np.float32)
        before = [p.numpy().copy() for p in model.parameters()]
        more = {"autocast": lambda: autocast(form)} if half else {}
        if half and form == "float16":
            more["scaler"] = GradScaler(2.0**10)
        step = Step(
            model, classify, SGD(model.parameters(), lr=1.0), accumulate=k, clip_norm=0.1, **more
        )
        report = step(x, y)
        assert report.grad_norm > 0.2
        assert not report.skipped
        moved = [p.numpy() - b for p, b in zip(model.parameters(), before)]
        updates.append(np.concatenate([m.ravel() for m in moved]))
    plain, whole, cut = updates
    assert np.linalg.norm(plain) == pytest.approx(0.1, rel=1e-4)
    eps = {"float16": 2.0**-10, "bfloat16": 2.0**-7}[form]
    for update in (whole, cut):
        assert np.linalg.norm(update) == pytest.approx(0.1, rel=1e-4)
        assert np.linalg.norm(update - plain) < 4 * eps * 0.1
    assert np.linalg.norm(cut - whole) < 4 * eps * 0.1


@pytest.mark.parametrize("scale", [2.0**8, 2.0**16])
def test_a_scale_that_is_a_power_of_two_changes_no_bit(scale):
    found = []
    for scaler in (None, GradScaler(scale)):
        model = perceptron(np.float32)
        step = Step(
            model, classify, Adam(model.parameters(), lr=0.01), accumulate=3, scaler=scaler,
            clip_norm=0.3,
        )  # fmt: skip
        reports = [step(*batch(dtype=np.float32)) for _ in range(5)]
        found.append([r.grad_norm for r in reports])
        found.append([p.numpy().copy() for p in model.parameters()])
        assert reports[-1].scale == (scale if scaler else 1.0)
    assert found[0] == found[2]
    for a, b in zip(found[1], found[3]):
        np.testing.assert_array_equal(a, b)


def test_batches_are_trees():
    model = perceptron()
    x, y = batch()
    step = Step(
        model, lambda m, b, t: classify(m, b["x"] / t, b["more"][0]),
        SGD(model.parameters(), lr=0.0), accumulate=3,
    )  # fmt: skip
    step({"x": x, "more": [y, None]}, 2.0)
    got = gradients(model)
    Step(model, classify, SGD(model.parameters(), lr=0.0))(x / 2.0, y)
    for g, want in zip(got, gradients(model)):
        np.testing.assert_allclose(g, want, rtol=1e-12, atol=1e-15)


def test_parts_that_come_from_a_generator():
    model = perceptron()
    x, y = batch()
    step = Step(model, classify, SGD(model.parameters(), lr=0.0))
    a = step(x, y)
    want = gradients(model)
    b = step.micro((x[i:j], y[i:j]) for i, j in ((0, 2), (2, 17), (17, 23)))
    assert b.weight == a.weight == 23
    assert b.loss == pytest.approx(a.loss, rel=1e-14)
    for g, w in zip(gradients(model), want):
        np.testing.assert_allclose(g, w, rtol=1e-12, atol=1e-16)


def test_batch_norm_sees_the_parts():
    """The caveat of the docstring: statistics of parts are not those of the batch."""
    x, y = batch(24)

    def loss(model, x, y):
        h = model(x)
        h = (h - h.mean(axis=0)) / np.sqrt(((h - h.mean(axis=0)) ** 2).mean(axis=0) + 1e-5)
        return F.cross_entropy(h, y)

    model = perceptron()
    optimizer = SGD(model.parameters(), lr=0.0)
    Step(model, loss, optimizer)(x, y)
    whole = gradients(model)
    Step(model, loss, optimizer, accumulate=4)(x, y)
    assert max(np.abs(a - b).max() for a, b in zip(whole, gradients(model))) > 1e-3


def test_the_schedule_follows_the_steps_that_were_made():
    model = perceptron(np.float32)
    optimizer = SGD(model.parameters(), lr=0.4)
    scaler = GradScaler(2.0**127)  # overflows at first
    step = Step(
        model, lambda m, x, y: classify(m, x, y) * 100.0, optimizer, scaler=scaler,
        schedule=Schedule(optimizer, warmup(4)), clip_norm=0.1, ema=EMA(model.parameters(), 0.9),
    )  # fmt: skip
    x, y = batch(dtype=np.float32)
    with np.errstate(all="ignore"):
        reports = [step(x, y) for _ in range(30)]
    made = [r for r in reports if not r.skipped]
    assert reports[0].skipped
    assert reports[0].scale == 2.0**127
    assert [r.lr for r in made[:5]] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4])
    assert all(r.lr == pytest.approx(0.1) for r in reports if r.skipped)
    assert isinstance(made[0], StepReport)


class Interrupt(Exception):
    pass


@pytest.mark.parametrize("where", ["loss", "noise", "clip"])
def test_an_error_leaves_nothing_behind(where):
    model = perceptron(np.float32)
    optimizer = Adam(model.parameters(), lr=0.1)
    x, y = batch(dtype=np.float32)
    armed = [False]

    def fail(at):
        if armed[0] and at == where:
            raise Interrupt

    def loss(m, x, y):
        value = classify(m, x, y)
        if x[0, 0] == batch(dtype=np.float32)[0][11, 0]:
            fail("loss")  # the second part: the first one's gradient is there already
        return value

    step = Step(
        model,
        loss,
        optimizer,
        accumulate=2,
        scaler=GradScaler(2.0**10),
        noise=lambda p: fail("noise"),
    )
    step(x, y)
    if where == "clip":
        step.clip_norm = -1.0  # refused by the clipping itself, after unscaling
    before = [p.numpy().copy() for p in model.parameters()]
    state = optimizer.state_dict()
    armed[0] = True
    with pytest.raises((Interrupt, OptionError)):
        step(x, y)
    armed[0] = False
    step.clip_norm = None
    assert all(p.grad is None for p in model.parameters())
    for p, b in zip(model.parameters(), before):
        np.testing.assert_array_equal(p.numpy(), b)
    assert optimizer.state_dict()["steps"] == state["steps"]
    assert step.scaler.scale_now == 2.0**10
    assert not step(x, y).skipped  # and it goes on


def test_a_gradient_that_is_not_finite_changes_nothing():
    model = perceptron()
    optimizer = SGD(model.parameters(), lr=0.1)
    step = Step(model, lambda m, x: np.sum(np.sqrt(m(x) * 0.0)), optimizer)
    before = [p.numpy().copy() for p in model.parameters()]
    with np.errstate(all="ignore"):
        report = step(batch()[0])
    assert report.skipped
    assert math.isfinite(report.loss)
    assert not math.isfinite(report.grad_norm)
    for p, b in zip(model.parameters(), before):
        np.testing.assert_array_equal(p.numpy(), b)


def test_refusals():
    model = perceptron()
    optimizer = SGD(model.parameters(), lr=0.1)
    x, y = batch()

    class Closed(SGD):
        def step(self, closure):
            return closure()

    with pytest.raises(OptionError, match="several times in a step"):
        Step(model, classify, Closed(model.parameters()))
    with pytest.raises(OptionError, match="validation part"):
        Step(model, classify, optimizer, schedule=Plateau(optimizer))
    for wrong in (0, -1, 1.5, True, "2"):
        with pytest.raises(OptionError, match="whole number"):
            Step(model, classify, optimizer, accumulate=wrong)
    with pytest.raises(ShapeError, match="first axis"):
        Step(model, classify, optimizer, accumulate=2)(x, y[:-1])
    with pytest.raises(ArgumentError, match="not all of them 0"):
        Step(model, classify, optimizer, weight=tokens())(x, np.full(len(x), -100))
    with pytest.raises(ArgumentError, match="not all of them 0"):
        Step(model, classify, optimizer).micro([])
    with pytest.raises(ArgumentError, match="one number for the batch"):
        Step(model, lambda m, x: m(x), optimizer)(x)
    with pytest.raises(ArgumentError, match="recorded tensor"):
        Step(model, lambda m, x: 3.0, optimizer)(x)
    with pytest.raises(ArgumentError, match="does not depend"):
        Step(model, lambda m, x: m(x).detach().mean(), optimizer)(x)
    with pytest.raises(OptionError, match="growth_interval"):
        GradScaler(growth_interval=0)
    for wrong in ("bfloat16", autocast("bfloat16")):
        with pytest.raises(OptionError, match="a function that opens the context"):
            Step(model, classify, optimizer, autocast=wrong)


def test_an_optimizer_of_another_model_is_noticed():
    old, model = perceptron(), perceptron()
    step = Step(model, classify, SGD(old.parameters(), lr=0.1))
    with pytest.raises(ArgumentError, match="a parameter of the optimizer"):
        step(*batch())


def test_updates_of_a_scaler_without_a_step_teach_it_nothing():
    scaler = GradScaler(4.0, growth_interval=1)
    scaler.update()
    assert scaler.scale_now == 4.0


def test_events_cost_nothing_when_nobody_listens():
    from wengert.optim import events
    from wengert.transforms.tape import SWEPT

    heard = []
    model = perceptron()
    step = Step(model, classify, SGD(model.parameters(), lr=0.1), accumulate=2, clip_norm=1.0)
    with events.listening(lambda what, *about: heard.append(what)):
        step(*batch())
    step(*batch())
    assert heard == ["zero_grad", "weighted", "backward", "backward", "clip", "step"]
    assert events.LISTENERS == SWEPT == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(*batch())
