"""The error over the step: the slopes of theory, and where they meet."""

import numpy as np
import pytest

from wengert import numeric


def test_orders_of_truncation_and_of_rounding():
    s = numeric.steps(lambda x: np.sum(np.exp(np.sin(x))), np.array([0.3, 1.0]))

    def order(method, low, high):
        at = (s.h >= low) & (s.h <= high)
        return np.polyfit(np.log(s.h[at]), np.log(s.error[method][at]), 1)[0]

    assert order("forward", 1e-5, 1e-2) == pytest.approx(1, abs=0.05)
    assert order("central", 1e-3, 1e-1) == pytest.approx(2, abs=0.1)
    assert order("richardson", 0.1, 0.8) == pytest.approx(8, abs=1.0)
    assert order("complex", 1e-4, 1e-1) == pytest.approx(2, abs=0.1)
    for method in ("forward", "central"):
        assert order(method, 1e-14, 1e-9) == pytest.approx(-1, abs=0.35)
    assert (s.error["complex"][s.h < 1e-9] < 1e-15).all()


def test_best_steps():
    s = numeric.steps(np.exp, 1.0)
    assert 1e-9 < s.best("forward")[0] < 1e-7
    assert 1e-6 < s.best("central")[0] < 1e-4
    assert s.best("forward")[1] > s.best("central")[1] > s.best("richardson")[1]


def test_functions_that_are_not_analytic_have_no_complex_step():
    assert "complex" not in numeric.steps(np.abs, 1.0).error
