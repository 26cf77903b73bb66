"""A broken path is told by its input, its line and its reason; no gradient is a silent mistake."""

import warnings
import weakref

import numpy as np
import pytest

import wengert as wg
from wengert import nn
from wengert.errors import DisconnectedError, GradientWarning


def quiet(f, *args, **kw):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return f(*args, **kw)


BREAKS = {
    "cast": (lambda x: np.sum(x.astype(int) * 1.0), "int64", "floating point"),
    "comparison": (lambda x: np.sum(x > 0.5), "gt gives bool", "np.where"),
    "argmax": (lambda x: np.argmax(x) * 1.0, "ArgMax", "wg.softmax"),
    "round": (lambda x: np.sum(np.round(x)), "rint", "detach()"),
    "floor": (lambda x: np.sum(np.floor(x)), "floor", "lets the gradient through"),
    "sign": (lambda x: np.sum(np.sign(x)), "sign", "lets the gradient through"),
    "numpy": (lambda x: float(np.sum((x * 1.0).numpy())), "numpy()", "leave numpy() out"),
    "item": (lambda x: np.sum(x).item() * 2.0, "item()", "keep the tensor"),
    "tolist": (lambda x: sum((x * 2.0).tolist()), "tolist()", "keep the tensor"),
    "detach": (lambda x: np.sum(x.detach() * x.shape[0]), "detach()", "leave detach() out"),
    "no_grad": (wg.no_grad()(lambda x: np.sum(x * x)), "no_grad", "outside"),
}


@pytest.mark.parametrize(("f", "why", "fix"), BREAKS.values(), ids=BREAKS)
def test_every_kind_of_break(f, why, fix):
    if why == "no_grad":  # of tapes that were there on entry

        def g(x):
            with wg.no_grad():
                return np.sum(x * x)

        f = g
    with pytest.raises(DisconnectedError) as e:
        wg.grad(f)(np.ones(3))
    text = str(e.value)
    assert "does not depend on `x`" in text
    assert "test_explain_gradient.py:" in text.split("broke at")[1]
    assert why in text
    assert fix in e.value.fix


def test_the_last_breaks_are_told_in_order():
    def f(x):
        a = np.round(x)
        b = np.sum(x).item()
        return np.sum(a) + b

    with pytest.raises(DisconnectedError) as e:
        wg.grad(f)(np.ones(3))
    lines = [line for line in str(e.value).splitlines() if "broke at" in line]
    assert ["rint" in lines[0], "item()" in lines[1], len(lines)] == [True, True, 2]


def test_an_unused_argument_is_told_with_those_that_could_be_meant():
    def loss(params, x, n):
        return np.sum(x) * n

    with pytest.raises(DisconnectedError, match=r"`params\['w'\]`") as e:
        wg.grad(loss)({"w": np.ones(3)}, np.ones(2), 3)
    assert "argnums=1 (x)" in e.value.fix
    assert "argnums=2" not in e.value.fix  # an integer


def test_a_silent_break_of_one_argument_among_several_warns():
    def f(w, b):
        return np.sum(np.round(w) + b)

    with pytest.warns(GradientWarning) as caught:
        gw, gb = wg.grad(f, argnums=(0, 1))(np.ones(3), np.ones(3))
    np.testing.assert_array_equal(gw, np.zeros(3))
    np.testing.assert_array_equal(gb, np.ones(3))
    text = str(caught[0].message)
    assert "the gradient of `w` is zero" in text
    assert "`np.round(w)` at" in text
    assert "test_explain_gradient.py" in text


def test_zeros_that_are_meant_do_not_warn():
    x = np.ones(3)
    both = {"argnums": (0, 1)}
    quiet(wg.grad(lambda w, b: np.sum(b * 2), **both), x, x)  # not used
    quiet(wg.grad(lambda w, b: np.sum(w.detach() * b), **both), x, x)  # asked for
    quiet(wg.grad(lambda w, b: np.sum(np.where(w > 0, b, w)), **both), x, x)  # reached elsewhere
    quiet(wg.grad(lambda w, b: np.sum((b > 0) * w), argnums=0), x, x)  # not asked
    quiet(wg.grad(lambda w, b: np.sum(np.round(w) + b), allow_unused=True, **both), x, x)


def test_report_of_a_function():
    def f(w, b, c):
        return np.sum(w * 3.0) + np.sum(b.astype(int))

    report = wg.explain_gradient(f, (0, 1, 2))(np.ones(4), np.ones(2), np.ones(2))
    assert [(r.name, r.state, r.size) for r in report] == [
        ("w", "reached", 6.0), ("b", "broken", 0.0), ("c", "unused", 0.0),
    ]  # fmt: skip
    assert "b.astype(int)" in report[1].why
    assert str(report).splitlines()[2].split()[:3] == ["b", "float64[2]", "broken"]


def test_report_of_a_loss_names_parameters():
    class Net(nn.Module):
        def __init__(self):
            self.a = nn.Linear(3, 3, rng=0)
            self.b = nn.Linear(3, 2, rng=0)
            self.unused = nn.Linear(1, 1, rng=0)

        def forward(self, x):
            return self.b(np.round(self.a(x)))

    net = Net()
    with wg.debug():  # where breaks are noted with all that leads to them
        loss = net(np.ones((2, 3), np.float32)).sum()
    report = wg.explain_gradient(loss, net)
    states = {r.name: r.state for r in report}
    assert states == {
        "a.weight": "broken", "a.bias": "broken", "b.weight": "reached", "b.bias": "reached",
        "unused.weight": "unused", "unused.bias": "unused",
    }  # fmt: skip
    with pytest.raises(wg.errors.ArgumentError):
        wg.explain_gradient(net(np.ones((2, 3), np.float32)).sum())


def test_a_note_of_the_eager_tape_keeps_no_graph():
    w = wg.tensor(np.ones(1000), requires_grad=True)
    y = np.exp(w)
    node = weakref.ref(y.node)
    assert np.argmax(y).item() == 0
    del y
    assert node() is None


def test_breaks_of_steps_that_worked_are_forgotten():
    w = wg.tensor([1.0], requires_grad=True)
    loss = (w * w).sum()
    (w * 2.0).item()
    loss.backward()
    with pytest.raises(DisconnectedError) as e:
        wg.ones(2).sum().backward()
    assert "broke at" not in str(e.value)


def test_operands_by_the_users_names():
    features, w1 = wg.ones(2, 3), wg.ones(4, 3)
    with pytest.raises(wg.errors.ShapeError) as e:
        features @ w1
    assert "a : features float64[2, 3]" in str(e.value)
    assert "b : w1 float64[4, 3]" in str(e.value)

    def f(x):
        return x * x

    value = np.ones(3)
    with pytest.raises(wg.errors.NonScalarError) as e:
        wg.grad(f)(value)
    assert "value : float64[3]" in str(e.value)  # f's value is not what the user calls `value`
