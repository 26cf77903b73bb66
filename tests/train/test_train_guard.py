"""The loop guard: every mistake planted once, and no word about loops that are right."""

import gc
import warnings

import numpy as np
import pytest

import wengert as wg
from wengert import nn
from wengert.amp import GradScaler, autocast
from wengert.errors import LoopWarning, OptionError, explain
from wengert.nn import functional as F
from wengert.optim import EMA, SGD, Adam, clip_grad_norm_
from wengert.optim.events import LISTENERS
from wengert.optim.schedules import Schedule, cosine
from wengert.train import RECIPES, Guard, Options, Step, guard
from wengert.transforms.tape import SWEPT

RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 4)).astype(np.float32)
Y = (X @ np.array([[1.0], [-2.0], [0.5], [0.0]], np.float32)).astype(np.float32)


class Mood(nn.Module):
    """A stand-in for dropout: something that reads `training`."""

    def forward(self, x):
        return x * 1.25 if self.training else x


def network(*between):
    return nn.Sequential(
        nn.Linear(4, 16, rng=0), *(between or (nn.Tanh(),)), nn.Linear(16, 1, rng=1)
    )


def train(model, optimizer, steps, loss=None, before=None, after=None):
    for _ in range(steps):
        optimizer.zero_grad()
        if before:
            before()
        value = loss() if loss else F.mse_loss(model(X), Y)
        value.backward()
        optimizer.step()
        if after:
            after(value)


def seen(model, optimizer, run, **options):
    """The codes and messages of what a loop sets off."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with guard(model, optimizer, **options) as watching:
            run()
    mine = [w.message for w in caught if isinstance(w.message, LoopWarning)]
    assert [m.code for m in mine] == [f.code for f in watching.findings]
    assert not [w for w in caught if not issubclass(w.category, wg.errors.WengertWarning)]
    return {m.code: str(m) for m in mine}


def only(code, found, *parts):
    assert list(found) == [code], found
    for part in parts:
        assert part in found[code]
    assert f"[{code}]" in found[code]
    assert LoopWarning.CODES[code] in found[code]
    assert "fix:" in found[code]
    assert "at:" in found[code]
    return found[code]


@pytest.fixture
def pair():
    model = network()
    return model, SGD(model.parameters(), lr=0.05)


# ---- the order of a step


def test_clipping_before_unscaling(pair):
    model, optimizer = pair
    scaler = GradScaler(2.0**10)

    def loop(right):
        for _ in range(3):
            optimizer.zero_grad()
            scaler.scale(F.mse_loss(model(X), Y)).backward()
            if right:
                scaler.unscale_(optimizer)
            clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()

    only("WG401", seen(model, optimizer, lambda: loop(False)), "unscale_", "1024")
    assert not seen(model, optimizer, lambda: loop(True))


def test_a_forgotten_zero_grad(pair):
    model, optimizer = pair

    def loop(forget):
        for _ in range(3):
            if not forget:
                model.zero_grad()  # the model's own, of which no optimizer knows
            F.mse_loss(model(X), Y).backward()
            optimizer.step()

    only("WG402", seen(model, optimizer, lambda: loop(True)), "zero_grad()", "in loop")
    assert not seen(model, optimizer, lambda: loop(False))


def test_gradients_that_another_loss_leaves_are_no_forgotten_zero_grad(pair):
    """As the generator's loss does in the discriminator, which forgets them before its turn."""
    model, optimizer = pair

    def loop():
        for _ in range(3):
            optimizer.zero_grad()
            F.mse_loss(model(X), Y).backward()
            optimizer.step()
            model(X).mean().backward()

    assert not seen(model, optimizer, loop)


@pytest.mark.parametrize("mean", ["cross entropy", "mse", "hand"])
def test_means_that_are_added_up(pair, mean):
    model, optimizer = pair
    labels = RNG.integers(0, 2, 32)

    def loss(rows):
        y = model(X[rows])
        if mean == "cross entropy":
            return F.cross_entropy(y * np.array([1.0, -1.0], np.float32), labels[rows])
        return F.mse_loss(y, Y[rows]) if mean == "mse" else ((y - Y[rows]) ** 2).mean()

    def loop(divide):
        for _ in range(3):
            optimizer.zero_grad()
            for i in range(0, 32, 8):
                part = loss(slice(i, i + 8))
                (part / 4 if divide else part).backward()
            optimizer.step()

    only("WG403", seen(model, optimizer, lambda: loop(False)), "4 times", "8, 8, 8, 8", "/ 32")
    assert not seen(model, optimizer, lambda: loop(True))


def test_parts_of_unequal_size_with_equal_weights(pair):
    model, optimizer = pair

    def loop(weigh):
        for _ in range(2):
            optimizer.zero_grad()
            for i, j in ((0, 15), (15, 30), (30, 32)):
                share = (j - i) / 32 if weigh else 1 / 3
                (F.mse_loss(model(X[i:j]), Y[i:j]) * share).backward()
            optimizer.step()

    only("WG403", seen(model, optimizer, lambda: loop(False)), "unequal", "15, 15, 2")
    assert not seen(model, optimizer, lambda: loop(True))


def test_a_sum_of_two_losses_is_no_accumulation(pair):
    model, optimizer = pair

    def loop():
        for _ in range(3):
            optimizer.zero_grad()
            F.mse_loss(model(X), Y).backward()
            np.abs(model(X)).mean().backward()
            optimizer.step()

    assert not seen(model, optimizer, loop)


def test_a_step_without_a_backward(pair):
    model, optimizer = pair

    def twice():
        train(model, optimizer, 2)
        optimizer.step()

    only("WG417", seen(model, optimizer, twice), "loss.backward()")

    def never():
        optimizer.zero_grad()
        optimizer.step()

    only("WG417", seen(model, optimizer, never))

    def by_hand():  # gradients from a transform
        for _ in range(2):
            for p in model.parameters():
                p.grad = np.ones_like(p.numpy())
            optimizer.step()

    assert not seen(model, optimizer, by_hand)


def test_the_schedule_before_the_optimizer(pair):
    model, optimizer = pair
    schedule = Schedule(optimizer, cosine(10))
    early = seen(model, optimizer, lambda: train(model, optimizer, 3, before=schedule.step))
    only("WG416", early, "optimizer.step() first")
    late = seen(
        model, optimizer, lambda: train(model, optimizer, 3, after=lambda _: schedule.step())
    )
    assert not late


# ---- modes


def test_an_evaluation_that_is_recorded(pair):
    model, optimizer = pair

    def loop(quiet):
        for _ in range(2):
            train(model, optimizer, 2)
            model.eval()
            if quiet:
                with wg.no_grad():
                    model(X)
            else:
                model(X).numpy()
            model.train()

    only("WG404", seen(model, optimizer, lambda: loop(False)), "no_grad", "test_train_guard.py")
    assert not seen(model, optimizer, lambda: loop(True))


def test_training_and_evaluation_in_the_wrong_mode():
    model = network(nn.Tanh(), Mood())
    optimizer = SGD(model.parameters(), lr=0.05)
    model.eval()
    only("WG405", seen(model, optimizer, lambda: train(model, optimizer, 2)), "Mood", "train()")
    model.train()

    def measure():
        train(model, optimizer, 2)
        with wg.no_grad():
            model(X)

    only("WG406", seen(model, optimizer, measure), "Mood", "eval()")
    plain = network()  # nothing in it does anything else in training
    optimizer = SGD(plain.parameters(), lr=0.05)
    plain.eval()
    assert not seen(plain, optimizer, lambda: train(plain, optimizer, 2))


# ---- parameters


class Broken(nn.Module):
    def __init__(self):
        self.first = nn.Linear(4, 3, rng=0)
        self.second = nn.Linear(3, 1, rng=1)

    def forward(self, x):
        h = np.tanh(self.first(x))
        return self.second(h.numpy())  # the gradient ends here


def test_parameters_that_never_get_a_gradient():
    model = Broken()
    optimizer = SGD(model.parameters(), lr=0.05)
    text = only(
        "WG407", seen(model, optimizer, lambda: train(model, optimizer, 4)),
        "first.weight, first.bias",
    )  # fmt: skip
    assert "second" not in text


def test_where_the_path_broke_is_said():
    model = Broken()
    optimizer = SGD(model.parameters(), lr=0.05)

    def loss():
        h = model.first.weight.detach() * 1.0
        return (model.second(X[:, :3]) * h.sum()).mean()

    text = only("WG407", seen(model, optimizer, lambda: train(model, optimizer, 2, loss)))
    assert "detach()" in text
    assert "broke at" in text
    assert "first.weight" in text


def test_parameters_that_no_optimizer_was_given(pair):
    model = network()
    optimizer = SGD(model.layers[0].parameters(), lr=0.05)
    other = SGD(model.layers[2].parameters(), lr=0.05)
    only("WG408", seen(model, optimizer, lambda: train(model, optimizer, 3)), "layers.2.weight")

    def both():
        for _ in range(3):
            optimizer.zero_grad()
            other.zero_grad()
            F.mse_loss(model(X), Y).backward()
            optimizer.step()
            other.step()

    assert not seen(model, optimizer, both)
    assert not seen(model, [optimizer, other], both)
    model.layers[2].weight.requires_grad = False
    model.layers[2].bias.requires_grad = False
    assert not seen(model, optimizer, lambda: train(model, optimizer, 3))


# ---- activations and gradients


@pytest.mark.parametrize("relu", [nn.ReLU(), None, "maximum"])
def test_dead_relus(relu):
    model = network(nn.ReLU())
    if relu is None or relu == "maximum":
        f = F.relu if relu is None else lambda h: np.maximum(h, 0.0)
        model.layers[1].forward = f
    optimizer = SGD(model.parameters(), lr=0.001)
    with wg.no_grad():
        model.layers[0].bias[:12] = -100.0
    text = only("WG409", seen(model, optimizer, lambda: train(model, optimizer, 25)), "75%", "16")
    assert "layers.1" in text


def test_living_relus_say_nothing():
    model = network(nn.ReLU())
    optimizer = SGD(model.parameters(), lr=0.001)
    with wg.no_grad():
        model.layers[0].bias[:7] = -100.0
    assert not seen(model, optimizer, lambda: train(model, optimizer, 25))


@pytest.mark.parametrize(("layer", "factor"), [(nn.Sigmoid(), 60.0), (nn.Tanh(), 30.0)])
def test_saturated_units(layer, factor):
    model = network(layer)
    optimizer = SGD(model.parameters(), lr=1e-4)
    assert not seen(model, optimizer, lambda: train(model, optimizer, 25))
    with wg.no_grad():
        model.layers[0].weight *= factor
    found = seen(model, optimizer, lambda: train(model, optimizer, 25))
    only("WG410", found, "layers.1", type(layer).__name__.lower())


def test_a_sure_answer_is_not_a_saturated_unit():
    model = nn.Sequential(nn.Linear(4, 1, rng=0), nn.Sigmoid())
    with wg.no_grad():
        model.layers[0].weight *= 100.0
    optimizer = SGD(model.parameters(), lr=1e-3)
    assert not seen(model, optimizer, lambda: train(model, optimizer, 25))


def test_vanishing_and_exploding_gradients():
    layers = []
    for i in range(9):
        layers += [nn.Linear(4, 4, rng=i, init="xavier", dtype=np.float64), nn.Sigmoid()]
    model = nn.Sequential(*layers, nn.Linear(4, 1, rng=99, dtype=np.float64))
    optimizer = SGD(model.parameters(), lr=1e-6)
    run = lambda: train(model, optimizer, 40, lambda: (model(X.astype(float)) ** 2).sum())
    only("WG411", seen(model, optimizer, run), "layers.0.weight")

    linear = nn.Sequential(*[nn.Linear(4, 4, rng=i, dtype=np.float64) for i in range(9)])
    with wg.no_grad():
        for i, p in enumerate(linear.parameters()):
            if p.ndim == 2:
                p *= 1e-3 if i == 0 else 20.0
    optimizer = SGD(linear.parameters(), lr=1e-30)
    run = lambda: train(linear, optimizer, 40, lambda: linear(X.astype(float)).sum())
    found = seen(linear, optimizer, run)
    assert set(found) <= {"WG412", "WG413"}
    assert "layers.0.weight" in found["WG412"] or "layers.8.weight" in found["WG412"]


def test_a_gradient_that_explodes_over_the_steps(pair):
    model, optimizer = pair
    scale = [1.0]

    def loss():
        scale[0] = 1e6 if made[0] == 24 else 1.0
        made[0] += 1
        return F.mse_loss(model(X), Y) * scale[0]

    made = [0]
    optimizer.lr = 1e-5
    only("WG412", seen(model, optimizer, lambda: train(model, optimizer, 26, loss)), "clip")


def test_a_loss_that_does_not_change(pair):
    model, optimizer = pair
    optimizer.lr = 0.0
    only("WG413", seen(model, optimizer, lambda: train(model, optimizer, 25)), "lr")
    optimizer.lr = 0.01
    assert not seen(model, optimizer, lambda: train(model, optimizer, 25))


# ---- losses by hand


@pytest.mark.parametrize("loss", [
    lambda p: ((p - Y[:, 0]) ** 2).mean(),
    lambda p: np.mean(np.square(Y[:, 0] - p)),
    lambda p: np.abs(p - Y[:, 0]).sum() / 32,
    lambda p: np.mean((p[:, 0] - Y) * (p[:, 0] - Y)),
    lambda p: ((p - wg.tensor(Y[:, 0])) ** 2).mean() + 0.1 * (p * p).mean(),
])  # fmt: skip
def test_predictions_against_every_target(pair, loss):
    model, optimizer = pair
    text = only(
        "WG414", seen(model, optimizer, lambda: train(model, optimizer, 2, lambda: loss(model(X))))
    )
    assert "[32, 32]" in text
    assert "squeeze(-1)" in text


def test_pairs_that_are_meant(pair):
    model, optimizer = pair

    def kernel():
        h = model(X)
        d = h - h[:, 0]  # every pair of predictions
        return np.exp(-(d**2)).mean() + ((h - Y) ** 2).mean()

    def mixture():
        d = X[:, :1] - model.layers[2].weight.reshape(16)[None]  # 32 by 16
        return (d**2).mean() + F.mse_loss(model(X), Y)

    assert not seen(model, optimizer, lambda: train(model, optimizer, 2, kernel))
    assert not seen(model, optimizer, lambda: train(model, optimizer, 2, mixture))


def test_losses_that_are_kept(pair):
    model, optimizer = pair
    total = [0.0]

    def add(value):
        total[0] = total[0] + value

    found = seen(model, optimizer, lambda: train(model, optimizer, 25, after=add))
    only("WG415", found, "item()")

    def number(value):
        total[0] += value.item()

    total[0] = 0.0
    assert not seen(model, optimizer, lambda: train(model, optimizer, 25, after=number))


# ---- the guard itself


def test_each_is_said_once_and_the_guard_goes(pair):
    model, optimizer = pair
    first = Guard(model, optimizer)
    assert len(LISTENERS) == len(SWEPT) == 1

    def loop():
        for _ in range(4):
            F.mse_loss(model(X), Y).backward()
            optimizer.step()
            first.check()

    with pytest.warns(LoopWarning) as caught:
        loop()
    assert [w.message.code for w in caught] == ["WG402"]
    first.close()
    assert LISTENERS == SWEPT == []
    watching = Guard(model, optimizer)
    del watching
    gc.collect()
    assert LISTENERS == SWEPT == []
    assert explain("WG402").startswith("WG402 LoopWarning: the gradient of the last step")
    with pytest.raises(OptionError, match="takes a module"):
        Guard(optimizer, model)


def test_a_guard_changes_no_bit(pair):
    found = []
    for watched in (False, True):
        model = network()
        optimizer = Adam(model.parameters(), lr=0.01)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            if watched:
                with guard(model, optimizer):
                    train(model, optimizer, 25)
            else:
                train(model, optimizer, 25)
        found.append([p.numpy().copy() for p in model.parameters()])
    for a, b in zip(*found):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("half", ["off", "float16", "bfloat16"])
def test_a_step_object_is_clean(half):
    model = network(nn.ReLU(), Mood())
    optimizer = Adam(model.parameters(), lr=0.01)
    more = {} if half == "off" else {"autocast": lambda: autocast(half)}
    if half == "float16":
        more["scaler"] = GradScaler(2.0**12)
    step = Step(
        model, lambda m, x, y: F.mse_loss(m(x), y), optimizer, accumulate=5, clip_norm=1.0,
        ema=EMA(model.parameters(), 0.9), schedule=Schedule(optimizer, cosine(100)), **more,
    )  # fmt: skip

    def loop():
        for _ in range(30):
            step(X, Y)
            model.eval()
            with wg.no_grad():
                model(X)
            model.train()

    assert not seen(model, optimizer, loop)


HEAVY = {"char-gpt"}  # takes seconds


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in HEAVY)) for name in sorted(RECIPES)],
)
def test_the_loops_of_the_recipes_are_clean(name):
    recipe = RECIPES[name]
    options = Options.of(name)
    parts = recipe.data(options.task)
    model = recipe.model(np.random.default_rng(0), options.task, parts)
    optimizer = options.make_optimizer(model.parameters())
    step = Step(model, recipe.loss, optimizer, weight=recipe.weight, clip_norm=10.0, accumulate=2)
    rows = np.random.default_rng(1)
    steps, most = (25, 16) if sum(p.size for p in model.parameters()) < 5000 else (4, 4)

    def loop():
        for _ in range(steps):
            n = len(parts.train)
            step(*parts.train.batch(rows.integers(0, n, min(n, most))))
        model.eval()
        with wg.no_grad():
            if most == 16:
                recipe.measure(model, parts.validation)
        model.train()

    assert not seen(model, optimizer, loop)
