"""Verdicts: right derivatives pass, wrong ones are located, and the rest is called by name."""

import numpy as np
import pytest

import wengert as wg
from wengert import nn, testing
from wengert.numeric import gradcheck, gradgradcheck
from wengert.trace import OPS, bind
from wengert.types import is_inexact


def wrong_sine(factor, at=None):
    """sin, with a pullback that is wrong by a factor, everywhere or at one index."""

    def pull(x, g):
        scale = np.full(np.shape(x), factor) if at is None else np.ones(np.shape(x))
        if at is not None:
            scale[at] = factor
        return (g * np.cos(x) * scale,)

    f = wg.custom_vjp(lambda x: np.sin(x))
    f.defvjp(lambda x: (np.sin(x), x), pull)
    return f


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("mode", ["both", "forward", "reverse"])
def test_right_derivatives_pass(x, mode, fast):
    verdict = gradcheck(lambda x: np.tanh(x) * x[0] + np.exp(-x), x, mode=mode, fast=fast)
    assert verdict
    assert verdict.ok
    assert verdict.kind == "agrees"
    assert verdict.deviation[0] < 1e-11
    assert verdict.raise_() is verdict


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("factor", [1.001, 1 + 1e-7, 0.0, -1.0, np.nan])
def test_a_wrong_derivative_is_located(x, factor, fast):
    verdict = gradcheck(wrong_sine(factor, at=1), x, mode="reverse", fast=fast)
    assert not verdict
    assert verdict.kind == "mismatch"
    assert {f.input for f in verdict.findings} == {"index (1,)"}
    finding = next(f for f in verdict.findings if f.output == "(1,)")
    assert finding.numerical == pytest.approx(np.cos(x[1]), abs=3 * finding.error)
    assert "a real mismatch at index (1,)" in verdict.reason
    with pytest.raises(wg.errors.GradientError, match="real mismatch"):
        verdict.raise_()
    with pytest.raises(AssertionError):
        verdict.raise_()


def test_tolerance_is_the_callers():
    x = np.array([0.3, 1.0])
    assert gradcheck(wrong_sine(1.001), x, mode="reverse", tol=1e-2)
    assert not gradcheck(wrong_sine(1.001), x, mode="reverse", tol=1e-4)


@pytest.mark.parametrize(
    ("f", "x", "kind", "index"),
    [
        (np.abs, [0.3, -1.0, 0.0], "kink", 2),
        (wg.relu, [0.0, 1.0, -1e-9, 1e-6], "kink", 0),
        (lambda x: np.maximum(x, x[::-1] * 1.0) * x[0], [1.0, 1.0], "kink", 0),
        (lambda x: x**2 + 1e-3 * np.abs(x), [0.5, 0.0], "kink", 1),
        (np.floor, [0.5, 2.0], "discontinuous", 1),
        (lambda x: np.where(x < 1.0, 0.0, x), [0.5, 1.0], "discontinuous", 1),
        (np.cbrt, [1.0, 0.0], "singular", 1),
        (lambda x: np.sqrt(np.abs(x)), [0.0, 1.0], "singular", 0),
        (np.sqrt, [1.0, 0.0], "edge", 1),
    ],
)
@pytest.mark.parametrize("fast", [False, True])
def test_points_without_a_derivative_are_called_by_name(f, x, kind, index, fast):
    verdict = gradcheck(f, np.array(x), fast=fast)
    assert not verdict
    assert verdict.kind == kind
    assert verdict.findings[0].input == f"index ({index},)"


def test_slopes_on_both_sides_of_a_kink():
    (finding,) = gradcheck(wg.relu, np.array([0.0])).findings
    assert (finding.left, finding.right) == (0.0, 1.0)
    below = wg.custom_vjp(lambda x: np.abs(x))
    below.defvjp(lambda x: (np.abs(x), x), lambda x, g: (g * 3.0,))
    verdict = gradcheck(below, np.array([0.0]), mode="reverse")
    assert verdict.kind == "kink"
    assert "no subgradient" in verdict.reason


def test_a_kink_nearby_is_not_at_the_point():
    for near in (1e-2, 1e-4, 1e-6):
        assert gradcheck(lambda x: np.abs(x - 0.3), np.array([0.3 + near, 0.3 - near]))


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("waves", [1e2, 1e4, 1e6, 1e8])
def test_steps_that_skip_whole_waves_raise_no_alarm(waves, fast):
    x = np.array([0.3, 1.0])
    assert gradcheck(lambda x: np.sin(waves * x), x, fast=fast)
    wrong = wrong_sine(1.01)
    verdict = gradcheck(lambda x: wrong(waves * x), x, mode="reverse", fast=fast)
    assert verdict.kind == "mismatch"


def test_rounding_that_hides_the_differences():
    x = np.array([0.3, -1.0])
    mild = gradcheck(lambda x: (np.sin(x) + 1e9) - 1e9, x)
    assert mild
    assert mild.deviation[1] > 1e-7  # the error bars know
    verdict = gradcheck(lambda x: (np.sin(x) + 1e13) - 1e13, x)
    assert not verdict
    assert verdict.kind == "roundoff"
    assert "not reliable" in verdict.reason


def test_random_functions_are_not_deterministic(x):
    rng = np.random.default_rng(0)
    verdict = gradcheck(lambda x: x * rng.random(), x)
    assert verdict.kind == "not deterministic"
    assert gradcheck(lambda x: x * np.random.default_rng(0).random(), x)


def test_values_that_are_not_finite():
    assert gradcheck(np.log, np.array([1.0, -1.0])).kind == "not finite"


def test_single_precision_is_checked_as_far_as_it_goes(x):
    verdict = gradcheck(np.tanh, x.astype(np.float32))
    assert verdict
    assert "float32 input" in verdict.notes[0]
    assert (
        gradcheck(lambda x: np.tanh(x.astype(np.float32)), x).notes[0].startswith("float32 value")
    )
    assert gradcheck(wrong_sine(1.05), x.astype(np.float32), mode="reverse").kind == "mismatch"
    assert not gradcheck(np.tanh, x).notes


@pytest.mark.parametrize("fast", [False, True])
def test_complex_numbers(fast):
    z = np.array([0.3 + 0.4j, -1.0 + 0.2j])
    f = lambda z: {"a": np.exp(z) * np.conj(z), "b": np.abs(z)}
    assert gradcheck(f, z, fast=fast)
    assert gradcheck(f, wg.tensor(z, requires_grad=True), fast=fast)
    with wg.conventions(complex="jax"):
        assert gradcheck(f, wg.tensor(z, requires_grad=True), fast=fast)
    conj = wg.custom_vjp(lambda z: z * z)
    conj.defvjp(lambda z: (z * z, z), lambda z, g: (g * 2 * np.conj(z),))
    verdict = gradcheck(conj, z, mode="reverse", fast=fast)
    assert verdict.kind == "mismatch"
    assert "imaginary part" in str(verdict)


def test_pytrees_keywords_and_fixed_arguments(x):
    def f(p, n, *, power):
        return p["w"] @ p["v"] ** power * n, 3

    p = {"w": np.ones((2, 3)), "v": x}
    assert gradcheck(f, (p, 3), kwargs={"power": 2})
    bad = wrong_sine(2.0)
    verdict = gradcheck(lambda p, n: bad(p["w"]).sum() + p["v"].sum() * n, (p, 3), mode="reverse")
    assert verdict.findings[0].input == "x[0]['w'] index (0, 0)"


def test_tensors_check_what_backward_does(x):
    t = wg.tensor(x, requires_grad=True)
    verdict = gradcheck(lambda t: np.sin(t) * t[0], t)
    assert verdict
    assert "backward" in verdict.reason
    assert t.grad is None
    hooked = wg.custom_vjp(lambda x: np.sin(x))
    hooked.defvjp(lambda x: (np.sin(x), x), lambda x, g: (g,))
    modes = {m for f in gradcheck(hooked, t).findings for m in f.mode.split(" and ")}
    assert modes == {"forward", "reverse", "backward"}


def test_programs_that_call_backward_inside():
    def f(x):
        p = (x * 1.0 if isinstance(x, wg.Tensor) else wg.tensor(x)).requires_grad_()
        np.sum(np.sin(p) * p).backward()
        return p.grad

    assert gradcheck(f, np.array([0.3, 0.7]))


def test_modules_are_checked_with_their_parameters(x):
    model = nn.Sequential(nn.Linear(3, 4, rng=0), nn.Tanh(), nn.Linear(4, 2, rng=1))
    before = model.state_dict()
    verdict = gradcheck(model, np.stack([x, -x]).astype(np.float32))
    assert verdict
    assert "32 inputs" in verdict.reason  # 26 parameters and 6 numbers
    assert all((model.state_dict()[k] == v).all() for k, v in before.items())
    assert all(p.grad is None for p in model.parameters())

    class Wrong(nn.Module):
        def __init__(self):
            self.w = nn.Parameter(np.array([0.3, 0.5]))

        def forward(self, x):
            return wrong_sine(1.01)(self.w) * x

    verdict = gradcheck(Wrong(), np.ones(2), mode="reverse")
    assert "x[0].w index (0,)" in verdict.reason


def test_second_derivatives(x):
    assert gradgradcheck(lambda x: np.tanh(x) * x[0], x)
    assert gradgradcheck(lambda a, b: a @ b, (np.ones((2, 3)), x), fast=True)
    assert gradgradcheck(lambda x: x * np.abs(x), np.array([1.0, 0.0])).kind == "kink"
    half = wg.custom_vjp(lambda x: np.sin(x))
    half.defvjp(  # right at first order; the second derivative is lost
        lambda x: (np.sin(x), x), lambda x, g: (g * np.cos(wg.stop_gradient(x)),)
    )
    assert gradcheck(half, x, mode="reverse")
    assert gradgradcheck(half, x, mode="reverse").kind == "mismatch"


def test_nothing_to_check():
    assert gradcheck(np.sin, np.zeros((2, 0)))
    assert wg.numeric.jacobian(np.sin)(np.zeros((2, 0))).shape == (2, 0, 2, 0)


def test_refusals(x):
    with pytest.raises(wg.errors.ArgumentError, match="no such mode"):
        gradcheck(np.sin, x, mode="backward")
    with pytest.raises(wg.errors.DTypeError, match="astype"):
        gradcheck(np.sin, np.array([1, 2]))


def smooth_examples(names):
    for name in names:
        for op, xs in testing.examples(name):
            xs = tuple(np.asarray(x) for x in xs)
            live = any(is_inexact(x.dtype) for x in xs)
            if live and getattr(op, "outputs", 1) == 1 and sum(x.size for x in xs) < 40:
                y = op.impl(*xs)
                if is_inexact(np.asarray(y).dtype) and np.isfinite(y).all():
                    yield op, xs


def sweep(names, fast):
    """Every operation of the registry is right, so every other verdict is a false alarm."""
    count, alarms = 0, []
    for op, xs in smooth_examples(names):
        with np.errstate(all="ignore"):
            verdict = gradcheck(lambda *a, op=op: bind(op, *a), xs, fast=fast)
        count += 1
        if not verdict and verdict.kind == "mismatch":
            alarms.append((repr(op), str(verdict)))
    return count, alarms


def test_no_false_alarm_on_a_part_of_the_registry():
    count, alarms = sweep(["sin", "tanh", "log", "div", "Sum", "MatMul", "softplus", "erf"], False)
    assert count >= 8
    assert not alarms, alarms


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::wengert.errors.GaugeWarning")
@pytest.mark.parametrize("fast", [False, True])
def test_no_false_alarm_on_the_registry(fast):
    skip = {"Custom"}
    count, alarms = sweep(sorted(set(OPS) - skip), fast)
    assert count > 150
    assert not alarms, alarms
