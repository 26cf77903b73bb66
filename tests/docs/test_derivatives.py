"""docs/derivatives.md and docs/numpy.md say what the registry and the tables say now."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mpmath")
pytest.importorskip("scipy.special")
import wengert as wg
from wengert.trace import OPS

DOCS = str(Path(__file__).parents[2] / "docs")


@pytest.fixture(scope="module", autouse=True)
def path():
    sys.path.append(DOCS)
    yield
    sys.path.remove(DOCS)


@pytest.fixture(scope="module")
def make(path):
    return importlib.import_module("make_derivatives")


@pytest.fixture(scope="module")
def page(make):
    return make.render()


def test_nothing_is_stale_and_every_figure_above_its_bound_has_a_reason(make, page):
    assert make.problems() == []
    assert make.PAGE.read_text() == page, "python docs/make_derivatives.py"


def test_every_operation_has_an_entry(make, page):
    for name in [n for n, op in OPS.items() if make.ours(op)]:
        title = make.shown(name)
        assert f"| `{title}`" in page or f"#### `{title}`\n" in page, name


def test_the_text_of_a_rule_is_its_own(make):
    """Two lambdas on one line, a function, a name from a closure."""
    a, b = OPS["logaddexp"].partials
    assert (make.rule_text(a), make.rule_text(b)) == ("d * share(a, b)", "d * share(b, a)")
    assert make.rule_text(OPS["add"].partials[0]) == "d"
    assert make.rule_text(OPS["erfcx_1"].partials[0]) == "d * erfcx_n(n + 1)(x)"
    assert make.rule_text(OPS["beta"].partials[1]) == "-d * (y * psi_gap_0(b, a))"


def test_a_changed_rule_is_noticed(make, monkeypatch):
    sin = OPS["sin"]
    monkeypatch.setattr(sin, "partials", (lambda d, x: d * OPS["cos"](x) * 1.001,))
    assert any("sin has changed" in text for text in make.stale())
    assert "* 1.001" in make.render()
    assert make.main("--check") == 1


def test_a_changed_convention_or_docstring_is_noticed(make, page, monkeypatch):
    row = make.KINKS["relu"]
    monkeypatch.setitem(make.KINKS, "relu", row._replace(convention="1/2"))
    assert make.render() != page
    assert "stale" in make.stale()[0]
    monkeypatch.undo()
    monkeypatch.setattr(OPS["Sum"], "__doc__", "Something else.")
    assert "stale" in make.stale()[0]


def test_a_figure_above_its_bound_needs_a_reason(make, monkeypatch, tmp_path):
    text = json.loads(make.FIGURES.read_text())
    text["operations"]["exp"]["ulps"][""]["a"][0] = 4.5
    del text["operations"]["cos"]
    monkeypatch.setattr(make, "FIGURES", tmp_path / "measured.json")
    make.FIGURES.write_text(json.dumps(text))
    found = make.problems()
    assert [t for t in found if t.startswith("exp, a: 4.5 ulps")]
    assert "cos has not been measured" in found


def test_figures_are_what_is_measured(make):
    measured = make.measurements()
    assert make.measuring.special_figures("entr").keys() == {"y", "a", "aa"}
    again = make.measuring.table_figures("exp2", 60)[""]
    for which, (error, _) in measured["exp2"]["ulps"][""].items():
        assert 0.5 * error - 0.2 <= again[which][0] <= error + 1


def test_the_laws_on_the_page_are_those_that_are_run(make):
    measured = make.measurements()
    for name in ("sin", "floor", "MatMul", "where", "gammainc_2"):
        assert make.measuring.laws(name) == measured[name]["laws"]
    assert np.isfinite(OPS["sin"](0.5))


@pytest.mark.slow
def test_every_law_on_the_page(make):
    measured = make.measurements()
    for op in make.operations().values():
        name = make.name_of(op)
        assert make.measuring.laws(name) == measured[name]["laws"], name


# ------------------------------------------------------------------ docs/numpy.md


@pytest.fixture(scope="module")
def numpy_page(path):
    module = importlib.import_module("make_numpy")
    if tuple(map(int, np.__version__.split(".")[:2])) < module.OLDEST:
        pytest.skip("the page is written with a younger NumPy: its staleness was not looked at")
    return module


def test_the_list_of_functions_is_not_stale(numpy_page, monkeypatch):
    assert not numpy_page.stale(), "python docs/make_numpy.py"
    text = numpy_page.render()
    for g in (*numpy_page.table.FUNCTIONS, *numpy_page.table.BY_VALUE, *numpy_page.ufuncs()):
        assert f"`{numpy_page.name_of(g)}`" in text or f"`np.{g.__name__}`" in text
    monkeypatch.setitem(numpy_page.table.FUNCTIONS, np.save, lambda x: x)
    assert numpy_page.functions()
    monkeypatch.undo()
    monkeypatch.delitem(numpy_page.table.FUNCTIONS, np.sinc)
    assert numpy_page.main("--check") == 1


def test_which_functions_keep_gradients(numpy_page, monkeypatch):
    """Each has a case whose result is recorded."""
    monkeypatch.syspath_prepend(str(Path(DOCS).parent / "tests" / "numpy"))
    for letter in "abcd":
        importlib.import_module(f"numpy_cases_{letter}")
    checks = importlib.import_module("numpy_checks")
    table = numpy_page.table
    asked, recorded = set(), {}

    class Spy(dict):
        def get(self, key, default=None):
            asked.add(key)
            return dict.get(self, key, default)

    monkeypatch.setattr(table, "FUNCTIONS", Spy(table.FUNCTIONS))
    for c in checks.CASES:
        asked.clear()
        xs = [wg.tensor(x, requires_grad=x.dtype.kind in "fc") for x in map(np.asarray, c.xs)]
        y, _ = checks.quiet(c.f, *xs)
        seen = any(isinstance(v, wg.Tensor) and v.recorded() for v in checks.leaves(y))
        for g in asked:
            recorded.setdefault(g, []).append(seen)
    for g, seen in recorded.items():
        if g in table.FUNCTIONS and g.__module__ == "numpy" and numpy_page.keeps(g):
            assert any(seen), g.__name__


def test_which_functions_have_no_derivative(numpy_page):
    t = wg.tensor(np.arange(9.0).reshape(3, 3), requires_grad=True) * 1.0
    more = {"argpartition": (1,), "isclose": (t,)}
    listed = [g for g in numpy_page.table.FUNCTIONS if not numpy_page.keeps(g)]
    assert {g.__name__ for g in listed} == numpy_page.NONE
    for g in listed:
        y = g(t, *more.get(g.__name__, ()))
        for v in y if isinstance(y, tuple) else (y,):
            assert not (isinstance(v, wg.Tensor) and v.recorded()), g.__name__
