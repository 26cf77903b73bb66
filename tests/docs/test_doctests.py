"""Every example in a docstring runs, and the README's too."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import wengert
from wengert import trace

FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
MODULES = sorted(
    m.name for m in pkgutil.walk_packages(wengert.__path__, "wengert.") if "__main__" not in m.name
)
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, optionflags=FLAGS)
    assert failed == 0


def blocks(path):
    return re.findall(r"```python\n(.*?)```", path.read_text(), re.S)


PAGES = ["README.md", "CONTRIBUTING.md"]
PAGES += sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs" / "guides").glob("*.md"))


@pytest.mark.parametrize("page", PAGES)
def test_pages(page, tmp_path, monkeypatch):
    """The python blocks of a page, one after the other in one namespace."""
    monkeypatch.chdir(tmp_path)
    texts = blocks(ROOT / page)
    assert texts
    scope = {}
    known = dict(trace.OPS)
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for i, text in enumerate(texts):
        if ">>>" in text:
            test = doctest.DocTestParser().get_doctest(text, scope, f"{page} block {i}", page, 0)
            runner.run(test, clear_globs=False)
            scope.update(test.globs)
        else:
            exec(compile(text, f"{page} block {i}", "exec"), scope)
    for name in set(trace.OPS) - set(known):  # operations that a page defined
        del trace.OPS[name]
    assert runner.failures == 0
