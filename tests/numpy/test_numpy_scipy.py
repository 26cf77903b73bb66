"""SciPy's array-API functions work on tensors and keep the gradient.

In a process of their own: SciPy reads the switch when it is imported.
"""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import numpy as np
import scipy.integrate, scipy.optimize, scipy.special, scipy.stats
import wengert as wg

special, stats, integrate, optimize = scipy.special, scipy.stats, scipy.integrate, scipy.optimize
X = np.random.default_rng(0).standard_normal((4, 3))
P = np.abs(X) + 0.5
CASES = {
    "logsumexp": (lambda x: special.logsumexp(x, axis=0), X),
    "softmax": (lambda x: special.softmax(x, axis=1), X),
    "log_softmax": (lambda x: special.log_softmax(x, axis=1), X),
    "xlogy": (lambda x: special.xlogy(x, x), P),
    "zscore": (stats.zscore, X),
    "skew": (stats.skew, X),
    "kurtosis": (stats.kurtosis, X),
    "moment": (lambda x: stats.moment(x, 3), X),
    "gmean": (stats.gmean, P),
    "hmean": (stats.hmean, P),
    "pmean": (lambda x: stats.pmean(x, 2.5), P),
    "sem": (stats.sem, X),
    "variation": (stats.variation, P),
    "iqr": (stats.iqr, X),
    "pearsonr": (lambda x: stats.pearsonr(x[:, 0], x[:, 1]).statistic, X),
    "ttest_1samp": (lambda x: stats.ttest_1samp(x, 0.0).statistic, X),
    "trapezoid": (integrate.trapezoid, X),
    "cumulative_trapezoid": (integrate.cumulative_trapezoid, X),
    "rosen": (optimize.rosen, X),
}
for name, (f, x) in CASES.items():
    t = wg.tensor(x, requires_grad=True)
    y = f(t)
    want = f(x)
    assert isinstance(y, wg.Tensor) and y.requires_grad, name
    np.testing.assert_allclose(y.value(), want, rtol=1e-12, err_msg=name)
    g = np.random.default_rng(1).standard_normal(np.shape(want))
    np.sum(y * g).backward()
    d = np.random.default_rng(2).standard_normal(x.shape)
    slope = np.sum(g * (f(x + 1e-6 * d) - f(x - 1e-6 * d))) / 2e-6
    got = np.sum(t.grad.numpy() * d)
    np.testing.assert_allclose(got, slope, rtol=1e-6, atol=1e-8, err_msg=name)
print(len(CASES), "functions")
"""


@pytest.mark.slow
def test_scipy_functions_keep_the_gradient():
    scipy = pytest.importorskip("scipy", reason="SciPy's functions were left out")
    if tuple(map(int, scipy.__version__.split(".")[:2])) < (1, 16):
        pytest.skip("an older SciPy knows fewer functions of the standard")
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT],
        env={**os.environ, "SCIPY_ARRAY_API": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout == "19 functions\n"
