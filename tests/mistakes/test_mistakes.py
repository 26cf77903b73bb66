"""Each planted mistake is answered with the variable, the line and the fix."""

import builtins
import warnings

import pytest
from planted import HEAD, MISTAKES

import wengert as wg


@pytest.mark.parametrize("m", MISTAKES, ids=lambda m: m.name)
def test_message(m, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = HEAD + m.code.lstrip("\n")
    path = tmp_path / "script.py"
    path.write_text(text)
    scope = {"__name__": "script"}
    code = compile(text, str(path), "exec")
    if m.raises is None:
        exec(code, scope)
        assert eval(m.ok, scope)
        return
    cls = getattr(wg.errors, m.raises, None) or getattr(builtins, m.raises)
    with warnings.catch_warnings():
        warnings.simplefilter("error", wg.errors.WengertWarning)
        with pytest.raises(cls) as info:
            exec(code, scope)
    error = info.value
    while error.__cause__ is not None and not isinstance(error, wg.WengertError):
        error = error.__cause__  # NumPy hides the message of an assignment behind its own
    message = str(error)
    (n,) = [i for i, line in enumerate(text.splitlines(), 1) if line.endswith("# here")]
    assert f"script.py:{n}" in message, message
    for word in m.names + m.fix:
        assert word in message, message


def test_there_are_many():
    assert len(MISTAKES) >= 40
    assert len({m.name for m in MISTAKES}) == len(MISTAKES)
