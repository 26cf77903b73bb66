"""The checker is itself checked: a slightly wrong rule must fail, and so must each broken law."""

from typing import Any, ClassVar

import numpy as np
import pytest

from wengert import primitive
from wengert.ops.linear import Sum, drop
from wengert.primitive import Elementwise, Linear, op
from wengert.testing import LawBroken, check_grads, check_op
from wengert.trace import OPS
from wengert.types import Aval

x = np.linspace(0.2, 1.4, 4)


@pytest.fixture(autouse=True)
def clean_registry():
    names = set(OPS)
    ufuncs = dict(primitive.UFUNCS)
    yield
    for name in set(OPS) - names:
        del OPS[name]
    primitive.UFUNCS.clear()
    primitive.UFUNCS.update(ufuncs)


def test_a_right_rule_passes():
    check_op(Elementwise("test_sin", np.sin, lambda d, x: d * OPS["cos"](x)), x)


def test_a_rule_wrong_by_a_thousandth_fails():
    wrong = Elementwise("test_sin", np.sin, lambda d, x: d * OPS["cos"](x) * 1.001)
    with pytest.raises(LawBroken, match="central difference"):
        check_op(wrong, x)


def test_a_wrong_second_derivative_fails():
    cos = Elementwise("test_cos", np.cos, lambda d, x: d * OPS["sin"](x) * -1.001)
    sin = Elementwise("test_sin", np.sin, lambda d, x: d * cos(x))
    check_op(sin, x, order=1)
    with pytest.raises(LawBroken, match=r"(vjp|jvp) of test_sin"):
        check_op(sin, x, order=2)


class Wrong(Linear):
    axes: tuple

    examples: ClassVar[Any] = [(((0,),), (2, 3))]

    def impl(self, x):
        return np.add.reduce(x, axis=self.axes)

    def infer(self, x):
        return Aval(drop(x.shape, self.axes), x.dtype)

    def vjp(self, g, x_shape):
        return Sum((0,), True).vjp(g, x_shape)

    def batch(self, xs, dims):
        return type(self)(tuple(a + 1 for a in self.axes))(*xs)


def broken(**changes):
    return op(
        type(
            "Wrong",
            (Wrong,),
            {"__doc__": "y = sum x", "__annotations__": {"axes": tuple}, **changes},
        )
    )


BREAKS = {
    "adjoint": (
        {"vjp": lambda self, g, x_shape: OPS["Broadcast"](x_shape)(g) * 1.001},
        "<gy, J dx>",
    ),
    "infer": ({"infer": lambda self, x: Aval(x.shape, x.dtype)}, "infer says"),
    "vmap": ({"batch": lambda self, xs, dims: type(self)((2,))(*xs)}, "vmap over"),
    "mutation": ({"impl": lambda self, x: (x.__imul__(2.0), x.sum(0))[1]}, "was changed"),
    "precision": (
        {"impl": lambda self, x: x.sum(self.axes).astype(float)},
        "float32 operands give float64",
    ),
    "strides": (
        {"impl": lambda self, x: x.sum(self.axes) * (1.0 if x.flags.c_contiguous else 2.0)},
        "strided operands",
    ),
    "lower": (
        {"lower": lambda self, x: Sum((1,), False).lower(Aval(x.shape[::-1], x.dtype))},
        "nest|label|disagree",
    ),
}


def test_the_unbroken_class_passes():
    check_op(broken()((0,)), np.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize("name", BREAKS)
def test_each_broken_law_is_noticed(name):
    changes, message = BREAKS[name]
    with pytest.raises((LawBroken, ValueError), match=message):
        check_op(broken(**changes)((0,)), np.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize("missing", ["impl", "infer", "vjp", "batch", "examples", "__doc__"])
def test_an_operation_that_lacks_a_rule_is_refused(missing):
    with pytest.raises(TypeError, match=missing if missing != "__doc__" else "mathematics"):
        broken(**{missing: None})


def test_a_rule_that_asks_for_an_unknown_name_is_refused():
    with pytest.raises(TypeError, match="may ask for"):
        Elementwise("test_bad", np.sin, lambda d, z: d * z)
    with pytest.raises(TypeError, match="may ask for"):
        broken(vjp=lambda self, g, z: g)


def test_check_grads_catches_a_function_with_a_wrong_derivative():
    wrong = Elementwise("test_exp", np.exp, lambda d, y: d * y * 1.001)
    with pytest.raises(LawBroken, match="central difference"):
        check_grads(lambda a: wrong(a) * 2.0, (x,))


def test_a_name_belongs_to_one_operation():
    known = OPS["cos"]
    with pytest.raises(
        TypeError, match=r"called 'cos': the Elementwise of wengert\.ops\.el.*_checker"
    ):
        Elementwise("cos", np.cos, lambda d, x: d * x)
    assert OPS["cos"] is known
    space = {"__doc__": "y = sum x", "__annotations__": {"axes": tuple}}
    with pytest.raises(TypeError, match=r"called 'Sum': the class of wengert\.ops\.lin.*_checker"):
        op(type("Sum", (Wrong,), space))
    assert OPS["Sum"] is Sum
    op(type("test_sin", (Wrong,), space))
    with pytest.raises(TypeError, match="called 'test_sin': the class of"):
        Elementwise("test_sin", np.sin, lambda d, x: d * x)


def test_a_module_may_register_its_operations_again():
    first, second = broken(), broken()
    assert OPS["Wrong"] is second is not first
    Elementwise("test_sin", np.sin, lambda d, x: d * OPS["cos"](x))
    again = Elementwise("test_sin", np.sin, lambda d, x: d * OPS["cos"](x))
    assert OPS["test_sin"] is again


def test_cosine_is_zero_at_the_origin_also_beside_the_special_functions():
    from wengert.ops import elementwise, special

    assert OPS["cosine"] is elementwise.cosine is special.cosine
    assert special.cosine(np.zeros(1), np.zeros(1)).tolist() == [0.0]
