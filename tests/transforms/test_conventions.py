"""The table of conventions at kinks, and the switch."""

import numpy as np
import pytest

import wengert as wg
from wengert import grad, jvp
from wengert.ops.kinks import KINKS
from wengert.trace import OPS

AT_KINKS = {
    "abs": (lambda x: np.sum(np.abs(x)), [0.0, 2.0], [0.0, 1.0]),
    "relu": (lambda x: np.sum(wg.relu(x)), [0.0, 2.0], [0.0, 1.0]),
    "maximum": (lambda x: np.sum(np.maximum(x, 1.0)), [1.0, 2.0], [0.5, 1.0]),
    "minimum": (lambda x: np.sum(np.minimum(x, 1.0)), [1.0, 0.5], [0.5, 1.0]),
    "clip": (lambda x: np.sum(np.clip(x, 0.0, 1.0)), [0.0, 0.5], [1.0, 1.0]),
    "hypot": (lambda x: np.sum(np.hypot(x, 0.0)), [0.0, 3.0], [0.0, 1.0]),
    "Max": (lambda x: np.max(x), [2.0, 2.0], [0.5, 0.5]),
    "Min": (lambda x: np.min(x), [2.0, 2.0], [0.5, 0.5]),
    "Norm": (lambda x: np.linalg.norm(x), [0.0, 0.0], [0.0, 0.0]),
    "root": (lambda x: np.std(x), [1.0, 1.0], [0.0, 0.0]),
    "remainder": (lambda x: np.sum(x % 2.0), [4.0, 1.0], [1.0, 1.0]),
    "floor": (lambda x: np.sum(np.floor(x) + x), [1.0, 0.5], [1.0, 1.0]),
    "rint": (lambda x: np.sum(np.rint(x) + x), [0.5, 0.2], [1.0, 1.0]),
    "sign": (lambda x: np.sum(np.sign(x) + x), [0.0, 0.2], [1.0, 1.0]),
}


def test_every_row_names_an_operation():
    assert set(KINKS) <= set(OPS)


@pytest.mark.parametrize("name", AT_KINKS)
def test_the_three_choices(name, close):
    f, x, want = AT_KINKS[name]
    x, want = np.array(x), np.array(want)
    close(grad(f)(x), want)
    close(jvp(f, x, np.ones(2))[1], want.sum())
    with wg.conventions(kinks="nan"), np.errstate(all="ignore"):
        g = grad(f)(x)
        assert np.isnan(g[0])
        assert np.isnan(jvp(f, x, np.ones(2))[1])
        if name not in ("Max", "Min", "Norm", "root"):
            assert g[1] == want[1]
        w = wg.tensor(x, requires_grad=True)
        f(w).backward()
        assert np.isnan(w.grad.numpy()[0])
    with wg.conventions(kinks="raise"):
        with pytest.raises(
            wg.errors.KinkError, match=r"WG207(.|\n)*no derivative where(.|\n)*fix"
        ) as e:
            grad(f)(x)
        assert "test_conventions.py" in str(e.value)
        with pytest.raises(wg.errors.KinkError):
            jvp(f, x, np.ones(2))
        f(x)  # without a derivative nothing is asked
        with wg.conventions(kinks="subgradient"):
            close(grad(f)(x), want)
    assert wg.trace.MODES == 0


def test_equal_numbers_in_a_sort(close):
    def f(x):
        return np.sort(x)[1]

    x = np.array([2.0, 1.0, 1.0])
    close(grad(f)(x), [0.0, 0.0, 1.0])
    with wg.conventions(kinks="raise"):
        with pytest.raises(wg.errors.KinkError, match="equal numbers"):
            grad(f)(x)
        with pytest.raises(wg.errors.KinkError, match="equal numbers"):
            jvp(f, x, np.ones(3))
        close(grad(f)(np.array([2.0, 1.0, 0.0])), [0.0, 1.0, 0.0])


def test_away_from_kinks_nothing_changes(close):
    x = np.array([0.3, 1.7])
    for name, (f, _, _) in AT_KINKS.items():
        with wg.conventions(kinks="raise"):
            got = grad(f)(x)
        close(got, grad(f)(x)), name


def test_the_complex_conventions(close):
    def f(z):
        return np.sum(np.abs(z) ** 2)

    z = np.array([1.0 + 2.0j])
    close(grad(f)(z), [2.0 - 4.0j])
    with wg.conventions(complex="torch"):
        close(grad(f)(z), [2.0 + 4.0j])
    w = wg.tensor(z, requires_grad=True)
    f(w).backward()
    close(w.grad, [2.0 + 4.0j])
    w.grad = None
    with wg.conventions(complex="jax"):
        f(w).backward()
    close(w.grad, [2.0 - 4.0j])


def test_unknown_conventions_are_refused():
    with pytest.raises(wg.errors.OptionError, match="'subgradient', 'nan', 'raise'"):
        wg.conventions(kinks="zero")
