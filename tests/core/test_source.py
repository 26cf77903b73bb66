"""How operands are read out of the user's source, and that nothing is said when unsure."""

import numpy as np
import pytest

import wengert as wg
from wengert.source import arguments, source_of


def message(run):
    with pytest.raises(wg.WengertError) as e:
        run()
    return str(e.value)


def test_arguments_of_expressions():
    scope = {"np": np, "wg": wg}
    cases = {
        "a @ b": ["a", "b"],
        "np.matmul(a, p['w'])": ["a", "p['w']"],
        "x.reshape(3, 4)": ["x", "3", "4"],
        "wg.cross_entropy(z, labels=y)": ["z", "y"],
        "np.stack([a, b])": ["a", "b"],
        "f(*xs)": [],
        "model.layer(x)": [],
        "x[0]": ["x"],
        "w += g": ["w", "g"],
        "not python (": [],
        "": [],
    }
    for text, want in cases.items():
        assert arguments(text, scope) == want, text


def test_expressions_over_several_lines():
    first, second = wg.ones(2, 3), wg.ones(4, 3)
    text = message(
        lambda: np.matmul(
            first,
            second,
        )
    )
    assert "a : first float64" in text
    assert "b : second float64" in text


def test_without_source_the_operations_own_names_stay():
    text = message(lambda: eval("a @ b", {"a": wg.ones(2, 3), "b": wg.ones(4, 3)}))
    assert "a : float64[2, 3]" in text
    assert source_of(compile("1 + 1", "<nowhere>", "eval"), 0) == ""


def test_a_call_in_between_is_not_taken_for_the_operation():
    def product(left, right):
        return left @ right

    big, small = wg.ones(2, 3), wg.ones(4, 3)
    text = message(lambda: product(big, small))
    assert "left float64" in text
    assert "big" not in text


def test_operands_that_do_not_stand_where_they_seem_to():
    class Layer:
        w = wg.ones(4, 3)

        def __matmul__(self, x):
            return np.matmul(x, self.w)

    layer, x = Layer(), wg.ones(2, 3)
    text = message(lambda: layer @ x)
    assert "a : x float64" in text
    assert "b : self.w float64" in text


def test_a_long_operand_is_not_repeated():
    text = message(lambda: wg.ones(2, 3) @ np.concatenate([np.ones((2, 3)), np.ones((2, 3))]))
    assert "np.concatenate" not in text
