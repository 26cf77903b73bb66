"""Absurd arguments of the public transforms are refused in words, with the user's line."""

import traceback
import warnings

import numpy as np
import pytest
from absurd import ABSURD, CALLS

import wengert as wg

ENDLESS = {("while_loop", "init_val", "empty")}


def theirs(error):
    """Whether the error is that of a function of the user's: raised below a line of it, or by C
    code at the place where the transform calls it."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if f.filename.endswith("absurd.py")]
    called = frames[-1].filename.endswith("given.py") and frames[-1].name == "call"
    return len(own) > 1 or (called and isinstance(error, TypeError))


def refusal(call, arguments):
    """What the call raises, if it is neither in words with the line, nor the user's own."""
    try:
        call(**arguments)
    except wg.WengertError as error:
        return None if "absurd.py" in str(error) else str(error)
    except Exception as error:
        return None if theirs(error) else repr(error)
    return None


@pytest.mark.parametrize("name", CALLS)
def test_every_argument(name):
    call, right = CALLS[name]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        call(**right)
        for key in right:
            for what, value in ABSURD.items():
                if (name, key, what) not in ENDLESS:
                    assert refusal(call, {**right, key: value}) is None, (key, what)


def test_what_calls_a_function_names_its_arguments():
    with pytest.raises(wg.errors.ArgumentError) as info:
        wg.grad(lambda x, y: x * y)(1.0)
    message = str(info.value)
    assert "f is called with 1 argument: missing a required argument: 'y'" in message
    assert "<lambda>(x, y)" in message
    with pytest.raises(wg.errors.ArgumentError, match=r"np\.arctan2 takes 2"):
        wg.grad(np.arctan2)(1.0)


def test_a_type_error_inside_the_function_is_its_own():
    def f(x):
        return x + None

    with pytest.raises(TypeError) as info:
        wg.grad(f)(1.0)
    assert not isinstance(info.value, wg.WengertError)
