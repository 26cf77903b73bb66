"""A nan is traced to the operation that made it, in every mode, and nothing else is refused."""

import numpy as np
import pytest

import wengert as wg
from wengert import nn, trace
from wengert.errors import NonFiniteGradientError
from wengert.trace import HERE

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def caught(run, **options):
    with pytest.raises(NonFiniteGradientError) as info, wg.debug(**options):
        run()
    return info.value


def line_of(text, path=__file__):
    with open(path) as f:
        (n,) = [i for i, line in enumerate(f, 1) if text in line and "line_of" not in line]
    return n


def through_log(x):
    p = x * 2.0
    q = np.log(p)  # the born line
    return np.sum(q * 3.0)


def test_a_gradient_names_line_operand_path_and_fix():
    e = caught(lambda: wg.grad(through_log)(np.array([1.0, 0.0])))
    assert (e.op, e.phase, e.index, e.parameter) == ("log", "forward", (1,), "x")
    assert e.replay == "mathematics"
    assert f"test_debug.py:{line_of('# the born line')}, in through_log" in e.at
    assert [step.split(" ")[0] for step in e.path] == ["log", "mul", "x"]
    assert "p[1]" in str(e)
    assert "np.maximum(p, 1e-12)" in e.fix


def test_backward_names_the_parameter_and_leaves_no_gradient_behind():
    w = wg.tensor([4.0, 0.0], requires_grad=True)
    w.name = "w1"
    e = caught(lambda: np.sum(np.sqrt(w)).backward())
    assert (e.op, e.phase, e.index, e.parameter) == ("sqrt", "backward", (1,), "w1")
    assert w.grad is None


def test_a_parameter_without_a_name_is_called_as_it_is_written():
    p = {"w": wg.tensor([4.0, 0.0], requires_grad=True)}
    e = caught(lambda: np.sum(np.sqrt(p["w"] * 1.0)).backward())
    assert "the gradient of `p['w']`" in str(e)
    assert (e.parameter, e.path[-1]) == ("p['w']", "p['w']")
    q = wg.tensor([4.0, 0.0], requires_grad=True)
    assert caught(lambda: wg.autograd.grad(np.sum(np.sqrt(q)), q)).parameter == "q"


def test_a_nan_that_came_in_is_not_laid_to_the_operation():
    data = np.array([[1.0, 2.0], [np.nan, 1.0]])
    e = caught(lambda: wg.grad(lambda w: np.sum(data @ w))(np.ones(2)))
    text = str(e)
    assert "forward: nan at [1], which data had already" in text
    assert "from 1 to 2, and 1 nan" in text
    assert "mathematics" not in text
    assert (e.replay, e.fix) == ("unknown", "find out where the nan in data comes from")
    e = caught(lambda: wg.grad(lambda w: np.sum(np.exp(w)))(np.array([1.0, np.nan])))
    assert "which w[1] had already" in str(e)


def test_the_path_of_a_module_parameter():
    model = nn.Sequential(nn.Linear(3, 2, rng=0), nn.Linear(2, 1, rng=0))

    def step():
        with wg.no_grad():
            model[1].bias[...] = 0.0
            model[1].weight[...] = 0.0
        np.sum(np.sqrt(model(np.ones((4, 3))))).backward()

    e = caught(step)
    assert (e.op, e.parameter) in {("sqrt", n) for n, _ in model.named_parameters()}
    assert "leads to" in str(e)
    assert "0.weight" in str(e)


def test_precision_or_mathematics():
    hot = np.array([100.0], np.float32)
    assert caught(lambda: wg.grad(lambda x: np.sum(np.exp(x)))(hot)).replay == "precision"
    lost = np.array([1.0, 10.0], np.float32)  # 1 - tanh(10) is 0 in float32 alone
    e = caught(lambda: wg.grad(lambda x: np.sum(np.log(1 - np.tanh(x))))(lost))
    assert (e.op, e.replay) == ("log", "precision")
    assert "from the start" in str(e)
    assert caught(lambda: wg.grad(lambda x: np.sum(np.log(x)))(np.zeros(1))).replay == "mathematics"
    e = caught(lambda: wg.grad(lambda x: np.sum(np.log(x)))(np.zeros(1)), replay=False)
    assert (e.replay, "replay" in str(e)) == ("unknown", False)
    e = caught(lambda: wg.grad(lambda x: np.sum(np.exp(x)))(hot), replay=np.longdouble)
    assert "longdouble" in str(e)


@pytest.mark.parametrize(
    ("f", "x", "op", "fix"),
    [
        (lambda x: np.sum(np.log(wg.softmax(x))), [0.0, -800.0], "log", "log_softmax"),
        (lambda x: np.log(np.sum(np.exp(x))), [-800.0, -900.0], "log", "logsumexp"),
        (lambda x: np.log(np.sum(np.exp(x))), [800.0, 1.0], "exp", "logsumexp"),
        (lambda x: np.sum(np.log(wg.sigmoid(x))), [-800.0], "log", "log_sigmoid"),
        (lambda x: np.sqrt(np.sum(x * x)), [0.0, 0.0], "sqrt", "np.linalg.norm"),
        (lambda x: np.sum(x / np.linalg.norm(x)), [0.0, 0.0], "div", "np.maximum"),
        (lambda x: np.sum(1.0 / x), [1.0, 0.0], "div", "np.where(x != 0"),
        (lambda x: np.sum(x**0.5), [0.0], "pow", "exponents below 1"),
        (lambda x: np.sum(np.arccos(x)), [1.0], "arccos", "np.clip(x"),
        (lambda x: np.sum(np.arcsin(x)), [-1.0], "arcsin", "np.clip(x"),
        (lambda x: np.sum(np.array([0.0]) * np.exp(x)), [1000.0], "exp", "np.minimum(x"),
        (lambda x: np.sum(wg.softmax(x - np.full(2, np.inf))), [1.0, 2.0], "Softmax", "row"),
    ],
)  # fmt: skip
def test_what_to_write_instead(f, x, op, fix):
    e = caught(lambda: wg.grad(f)(np.array(x)))
    assert e.op == op
    assert fix in e.fix


def test_lanes_of_vmap():
    x = np.array([[1.0, 4.0], [2.0, 0.0]])
    e = caught(lambda: wg.vmap(wg.grad(lambda r: np.sum(np.sqrt(r))))(x))
    assert (e.lane, e.index) == ((1,), (1,))
    e = caught(lambda: wg.grad(lambda x: np.sum(wg.vmap(np.sqrt)(x)))(x))
    assert (e.lane, e.index) == ((1,), (1, 1))
    e = caught(lambda: wg.vmap(lambda r: wg.jvp(np.sqrt, (r,), (np.ones(2),))[1])(x))
    assert (e.lane, e.index, e.phase) == ((1,), (1,), "tangent")


def test_forward_mode():
    e = caught(lambda: wg.jvp(lambda x: np.sqrt(x) * 2, (np.array([1.0, 0.0]),), (np.ones(2),)))
    assert (e.op, e.phase, e.index) == ("sqrt", "tangent", (1,))
    assert [step.split(" ")[0] for step in e.path] == ["sqrt", "mul", "the"]
    e = caught(lambda: wg.jvp(lambda x: np.log(x) * 2, (np.array([-1.0]),), (np.zeros(1),)))
    assert e.op == "log"


def test_higher_orders():
    assert caught(lambda: wg.grad(wg.grad(lambda x: x**1.5))(0.0)).op == "pow"
    assert caught(lambda: wg.hessian(lambda x: np.sum(x**1.5))(np.zeros(2))).op == "pow"


def test_in_place_writes_are_on_the_path():
    def f(x):
        y = wg.zeros(2)
        y[0] = x[0]
        y[1] = x[1] - 3
        return np.sum(np.log(y))

    e = caught(lambda: wg.grad(f)(np.array([1.0, 3.0])))
    assert (e.op, e.index) == ("log", (1,))
    assert [step.split(" ")[0] for step in e.path] == ["log", "Write", "sub", "GetItem", "x"]


def test_what_was_recorded_before_is_watched_too():
    x = wg.tensor([1.0, 0.0], requires_grad=True)
    y = x * 2.0
    e = caught(lambda: np.sum(np.sqrt(y)).backward())
    assert [step.split(" ")[0] for step in e.path] == ["sqrt", "mul", "an"]


def test_a_sweep_after_the_block():
    x = wg.tensor([1.0, 0.0], requires_grad=True)
    with wg.debug():
        y = np.sum(np.sqrt(x))
    with pytest.raises(NonFiniteGradientError):
        y.backward()


def test_a_bad_cotangent_is_not_blamed_on_an_operation():
    x = wg.tensor([1.0, 2.0], requires_grad=True)
    e = caught(lambda: (x * 2.0).backward(gradient=np.array([np.inf, 1.0])))
    assert e.phase == "seed"
    assert e.fix is None


def test_a_nan_loss_with_a_finite_gradient():
    e = caught(lambda: wg.grad(lambda x: np.sum(x + np.array([np.nan, 1.0])))(np.ones(2)))
    assert "the value is nan" in str(e)
    assert e.op == "add"


def test_nothing_else_is_refused():
    scores = np.zeros((2, 3))
    mask = np.array([[0.0, -np.inf, 0.0], [0.0, 0.0, -np.inf]])
    x = np.array([1.0, 0.0, -1.0])
    programs = [
        (lambda x: np.sum(np.where(x > 0, np.sqrt(x), 0.0)), x),
        (lambda x: np.sum(np.where(x > 0, np.log(x), x)), x),
        (lambda s: np.sum(wg.softmax(s + mask, axis=-1)[:, 0]), scores),
        (lambda s: np.max(s + mask), scores),
        (lambda x: np.sum(np.minimum(x, np.inf)), x),
        (lambda x: np.linalg.norm(x), np.zeros(3)),
    ]
    for f, x0 in programs:
        plain = wg.grad(f)(x0)
        with wg.debug():
            np.testing.assert_array_equal(wg.grad(f)(x0), plain)
            wg.jvp(f, (x0,), (np.ones_like(x0),))


def test_the_first_nan_value_on_request():
    f = lambda x: np.sum(np.where(x > 0, np.log(x), x))
    e = caught(lambda: f(wg.tensor([1.0, -1.0])), values=True)
    assert (e.op, e.index) == ("log", (1,))


def test_gradients_are_the_same_inside():
    r = np.random.default_rng(0)
    w, x = r.normal(size=(4, 3)), r.normal(size=(5, 4))
    programs = [
        lambda w: np.sum(np.tanh(x @ w) ** 2),
        lambda w: np.sum(np.linalg.svd(w)[1]),
        lambda w: np.sum(np.sort(w, axis=0)[1:] * 3) + np.mean(w[:, 0]),
        lambda w: wg.cross_entropy(x @ w, np.array([0, 1, 2, 0, 1])),
    ]
    for f in programs:
        plain = wg.grad(f)(w), wg.hessian(f)(w)
        with wg.debug():
            np.testing.assert_allclose(wg.grad(f)(w), plain[0], rtol=1e-14, atol=1e-14)
            np.testing.assert_allclose(wg.hessian(f)(w), plain[1], rtol=1e-11, atol=1e-12)


def test_decorator_nesting_and_what_is_left_behind():
    @wg.debug()
    def step(x):
        with wg.debug(values=True):
            pass
        return wg.grad(lambda x: np.sum(np.sqrt(x)))(x)

    with pytest.raises(NonFiniteGradientError):
        step(np.zeros(2))
    assert getattr(HERE, "watch", None) is None
    assert trace.MODES == 0
    assert np.isinf(wg.grad(lambda x: np.sum(np.sqrt(x)))(np.zeros(1)))


def test_with_hooks_checkpoints_and_rules_of_the_users_own():
    seen = []
    x = wg.tensor([1.0, 0.0], requires_grad=True)
    y = x * 2.0
    y.register_hook(lambda g: seen.append(1))
    e = caught(lambda: np.sum(np.sqrt(y)).backward())
    assert (e.op, seen) == ("sqrt", [1])
    x = wg.tensor([1.0, 4.0], requires_grad=True)
    with wg.debug():
        y = x * 2.0
        y.register_hook(lambda g: g * 10.0)
        np.sum(y * y).backward()
    np.testing.assert_array_equal(x.grad.numpy(), [80.0, 320.0])
    e = caught(lambda: wg.grad(lambda x: np.sum(wg.checkpoint(np.sqrt)(x)))(np.zeros(2)))
    assert e.phase in ("forward", "backward")


def test_half_precision():
    big = np.array([300.0, 1.0], np.float16)
    e = caught(lambda: wg.grad(lambda x: np.sum(np.exp(x)))(big))
    assert (e.op, e.index, e.replay) == ("exp", (0,), "precision")
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="bfloat16 was left out")
    x = wg.tensor(np.array([1.0, 0.0]).astype(ml_dtypes.bfloat16), requires_grad=True)
    e = caught(lambda: np.sum(np.sqrt(x)).backward())
    assert (e.op, e.index, e.replay) == ("sqrt", (1,), "mathematics")


@wg.debug
def decorated(x):
    return wg.grad(lambda x: np.sum(np.sqrt(x)))(x)


def test_a_bare_decorator():
    with pytest.raises(NonFiniteGradientError):
        decorated(np.zeros(2))
    np.testing.assert_array_equal(decorated(np.ones(2)), [0.5, 0.5])


def test_a_long_chain():
    def f(x):
        for _ in range(3000):
            x = x * 1.0
        return np.sum(np.sqrt(x))

    e = caught(lambda: wg.grad(f)(np.zeros(1)))
    assert e.op == "sqrt"
    assert "more" in str(e)
    assert len(e.path) == 3002
