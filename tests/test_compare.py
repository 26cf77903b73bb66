"""wg.compare: the same Jacobian by every way, honest errors, and a recommendation from figures."""

import numpy as np
import pytest

import wengert as wg
from wengert import comparison

AUTOMATIC = ("forward mode", "reverse mode", "Taylor mode")


def wave(x):
    return np.sum(np.sin(x) * np.exp(x))


@pytest.fixture(scope="module")
def found():
    return wg.compare(wave, np.linspace(0.1, 1.0, 12), seconds=0.005)


def test_all_ways_give_the_derivative(found):
    x = np.linspace(0.1, 1.0, 12)
    truth = np.exp(x) * (np.sin(x) + np.cos(x))
    assert len(found.rows) + len(found.left_out) == len(comparison.WAYS)
    for row in found.rows:
        off = np.abs(row.value[0] - truth).max() / np.abs(truth).max()
        assert off <= row.error + 1e-15, row.name
        assert off >= row.error / 3 - 1e-15, row.name
    assert all(found[name].error < 1e-15 for name in AUTOMATIC)
    errors = [found[f"{m} differences"].error for m in ("forward", "central", "Richardson")]
    assert errors[0] > 10 * errors[1] > 100 * errors[2]


def test_costs(found):
    assert found["reverse mode"].evaluations == 1
    assert found["Taylor mode"].evaluations == 12
    assert found["central differences"].evaluations > 2 * 12
    assert all(row.seconds > 0 and row.memory >= 0 for row in found.rows)
    assert found.best == "reverse mode"
    assert "12 inputs and 1 output" in found.reason


def test_what_it_prints(found):
    text = str(found)
    assert "recommended: reverse mode" in text
    assert all(row.name in text for row in found.rows)
    assert text.count("<-") == 1
    lines = found.markdown().splitlines()
    assert len(lines) == len(found.rows) + 2
    assert len({line.count("|") for line in lines}) == 1
    with pytest.raises(KeyError):
        found["backward mode"]


def test_one_input_and_many_outputs_is_for_forward_or_taylor_mode():
    w = np.arange(1.0, 1501.0)
    found = wg.compare(lambda t: np.tanh(np.sin(t * w)), 0.3, seconds=0.03, ways=AUTOMATIC)
    assert found.best in ("forward mode", "Taylor mode")
    assert found["forward mode"].value.shape == (1500, 1)


def test_the_truth_is_named(monkeypatch):
    x = np.array([0.3, 0.7])
    without = wg.compare(wave, x, seconds=0.001, ways=["reverse mode"])
    assert "extended precision" in without.truth or "double precision" in without.truth
    single = wg.compare(wave, x.astype(np.float32), seconds=0.001, ways=["reverse mode"])
    assert "single precision, confirmed" in single.truth
    kinks = np.array([0.0, 1.0])
    kink = wg.compare(lambda x: np.sum(np.maximum(x, 0)), kinks, seconds=0.001)
    assert "both sides differ" in kink.truth
    kink = wg.compare(lambda x: np.sum(wg.relu(x)), kinks, seconds=0.001)
    assert "NOT confirm" in kink.truth
    monkeypatch.setattr(comparison, "symbolic", None)
    left = dict(wg.compare(wave, x, seconds=0.001).left_out)
    assert "wengert[symbolic]" in left["symbolic"]


def test_the_closed_form_is_the_truth_where_there_is_one():
    pytest.importorskip("sympy", reason="the symbolic way was left out")
    found = wg.compare(wave, np.array([0.3, 0.7]), seconds=0.001)
    assert "40 digits" in found.truth
    assert found["symbolic"].error < 1e-15
    assert found["symbolic"].prepared > 0
    assert "operations" in found["symbolic"].note
    branch = wg.compare(lambda x: x**2 if x > 0 else -x, 0.3, seconds=0.001)
    assert "symbolic" in dict(branch.left_out)
    many = wg.compare(np.tanh, np.linspace(0, 1, 100), seconds=0.001)
    assert "too many" in dict(many.left_out)["symbolic"]


def test_a_function_that_is_not_analytic_has_no_complex_step():
    found = wg.compare(lambda x: np.sum(np.abs(x)), np.array([1.0, -2.0]), seconds=0.001)
    assert "analytic" in dict(found.left_out)["complex step"]


def test_growth_with_inputs_and_outputs():
    rng = np.random.default_rng(0)
    w = rng.standard_normal((300, 300)) / 17
    found = wg.compare(
        lambda x: np.tanh(w @ x), np.linspace(0.1, 1, 300), seconds=0.02, scaling=True,
        ways=["reverse mode"],
    )  # fmt: skip
    ins, outs = found.scaling.inputs, found.scaling.outputs
    assert [n for n, *_ in ins] == [1, 4, 16, 64, 256, 300]
    forward, reverse = ins[-1][1] / ins[0][1], ins[-1][2] / ins[0][2]
    assert forward > 1.5 * reverse  # forward mode pays for inputs
    forward, reverse = outs[-1][1] / outs[0][1], outs[-1][2] / outs[0][2]
    assert reverse > 1.5 * forward  # reverse mode pays for outputs
    assert "outputs" in str(found)


def test_refusals():
    with pytest.raises(wg.errors.ArgumentError, match="no such way"):
        wg.compare(wave, np.ones(2), ways=["by hand"])
    with pytest.raises(wg.errors.DTypeError, match="imaginary axis"):
        wg.compare(wave, np.ones(2) + 1j)
    with pytest.raises(wg.errors.ArgumentError, match="one array in"):
        wg.compare(lambda p: p["a"] * p["b"], {"a": 1.0, "b": 2.0}, seconds=0.001, scaling=True)


def test_plots(tmp_path, found):
    pytest.importorskip("matplotlib", reason="the plots were left out")
    text = found.plot(tmp_path / "ways.svg")
    assert (tmp_path / "ways.svg").read_text() == text
    assert text.count("reverse mode") >= 1
    text = wg.numeric.plot_steps(wave, np.array([0.3, 0.7]), tmp_path / "steps.svg")
    assert "richardson" in text
    assert (tmp_path / "steps.svg").exists()
