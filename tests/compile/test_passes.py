"""Each pass does what it says: graphs before and after, as they are printed."""

import math

import numpy as np
import pytest
from passes_checks import F32, F64, assert_same, graph_of, in_rows

import wengert as wg
from wengert.compile.backends.numpy import build
from wengert.compile.memory import peak
from wengert.compile.passes.algebra import ROOTS, algebra, exact_inverse
from wengert.compile.passes.cse import cse
from wengert.compile.passes.dce import dce
from wengert.compile.passes.expand import expand
from wengert.compile.passes.fold import fold
from wengert.compile.passes.pipeline import Explained, clean, optimize
from wengert.compile.passes.products import products
from wengert.compile.passes.remat import remat
from wengert.compile.passes.rewriting import constant_key, uses
from wengert.compile.passes.scale import scale
from wengert.graph import evaluate, verify
from wengert.ops import elementwise as e
from wengert.ops.contract import Affine, matmul
from wengert.ops.index import Concatenate, GetItem, Pad, Write
from wengert.ops.linear import Broadcast, Cast, CastConstant, Reshape, Sum, Transpose
from wengert.transforms.staging import stage
from wengert.types import Aval

I64 = np.dtype(np.int64)
BOOL = np.dtype(bool)


def becomes(step, g, text, *arrays):
    """The pass gives this graph, leaves its argument alone, and keeps every bit."""
    before, lines = str(g), list(g.lines)
    made = step(g)
    verify(made)
    assert str(g) == before
    assert g.lines == lines
    assert made is not g
    assert all(v.graph is made for line in made.lines for v in line.outputs)
    assert str(made) == "\n".join(line.strip() for line in text.strip().splitlines())
    if arrays:
        assert_same(in_rows(made, *arrays), in_rows(g, *arrays))
    return made


ODD = np.array([0.0, -0.0, 1.0, -2.5, np.inf, -np.inf, np.nan, 5e-324, 1.7e308])
with np.errstate(over="ignore"):
    ODD32 = ODD.astype(F32)
V = (9,)


def tidy(g):
    return dce(algebra(g))


# ------------------------------------------------------------------ dce, cse, fold


def test_dead_lines_go():
    def f(do, x):
        y = do(e.sin, x)
        do(e.cos, do(e.exp, y))
        return y

    becomes(
        dce, graph_of(f, V),
        """in   %0: float64[9]
        %1: float64[9] = sin(%0)
        out  %1""", ODD,
    )  # fmt: skip


def test_a_line_stays_for_one_of_its_outputs():
    from wengert.trace import OPS

    def f(do, x):
        return do(OPS["SlogDet"](), x)[1]

    g = graph_of(f, (2, 2))
    assert len(dce(g).lines) == 1


def test_equal_lines_are_one():
    def f(do, x, y):
        a = do(e.mul, do(e.sin, x), do(e.add, x, y))
        b = do(e.mul, do(e.add, y, x), do(e.sin, x))
        return do(e.sub, a, b), do(Sum((0,), False), b)

    becomes(
        cse, graph_of(f, V, V),
        """in   %0: float64[9], %1: float64[9]
        %2: float64[9] = sin(%0)
        %3: float64[9] = add(%0, %1)
        %4: float64[9] = mul(%2, %3)
        %5: float64[9] = sub(%4, %4)
        %6: float64[] = Sum(axes=(0,), keepdims=False)(%4)
        out  %5, %6""", ODD, ODD[::-1],
    )  # fmt: skip


def test_what_is_not_equal_stays():
    def f(do, x, y):
        return (
            do(e.maximum, x, y), do(e.maximum, y, x),  # 0.0 and -0.0
            do(e.add, x, 0.0), do(e.add, x, -0.0), do(e.add, x, 0), do(e.add, x, np.float64(0.0)),
            do(Sum((0,), False), x), do(Sum((0,), True), x),
            do(e.sub, x, y), do(e.sub, y, x),
        )  # fmt: skip

    g = graph_of(f, V, V)
    assert len(cse(g).lines) == len(g.lines)


def test_constants_are_equal_by_small_contents_or_identity():
    a, large = np.arange(3.0), np.zeros(1000)
    assert constant_key(a) == constant_key(a.copy()) != constant_key(a.astype("f"))
    assert constant_key(large) == constant_key(large) != constant_key(large.copy())
    assert constant_key(0.0) != constant_key(-0.0)
    assert len({constant_key(x) for x in (1, 1.0, True, 1 + 0j, np.float64(1))}) == 5
    assert constant_key(float("nan")) == constant_key(float("nan"))


def test_an_operation_without_a_hash_is_left_alone():
    from wengert.ops.index import Write

    def f(do, x):
        at = Write((GetItem((np.array([0, 1]),)),))
        return do(at, x, 1.0), do(at, x, 1.0)

    verify(cse(graph_of(f, V)))


def test_constants_are_folded():
    def f(do, x):
        c = do(e.sqrt, do(e.mul, np.array([4.0, 9.0]), 4.0))
        return do(e.mul, x, do(Reshape((2, 1)), c))

    made = becomes(
        fold, graph_of(f, (2, 2)),
        """in   %0: float64[2, 2]
        %1: float64[2, 2] = mul(%0, const float64[2, 1])
        out  %1""", np.ones((2, 2)),
    )  # fmt: skip
    np.testing.assert_array_equal(made.lines[0].inputs[1], [[4.0], [6.0]])


def test_nothing_large_is_folded_out_of_something_small():
    def f(do, x):
        return do(e.add, x, do(Broadcast((1000,)), np.array(1.0)))

    g = graph_of(f, (1000,))
    assert len(fold(g).lines) == 2


def test_what_refuses_when_folded_refuses_when_it_runs():
    from wengert.ops.embedding import Embedding

    def f(do, x):
        return do(e.add, x, do(Embedding(), np.ones((2, 3)), np.array([5])))

    g = fold(graph_of(f, (1, 3)))
    assert len(g.lines) == 2
    with pytest.raises(IndexError):
        evaluate(g, np.ones((1, 3)))


def test_a_folded_output_is_a_constant():
    g = fold(graph_of(lambda do, x: (do(e.exp, np.array([0.0])), x), V))
    verify(g)
    np.testing.assert_array_equal(evaluate(g, ODD)[0], [1.0])


# ------------------------------------------------------------------ algebra


@pytest.mark.parametrize(
    "f",
    [
        lambda do, x: do(e.mul, x, 1.0),
        lambda do, x: do(e.mul, 1, x),
        lambda do, x: do(e.mul, x, np.ones(9)),
        lambda do, x: do(e.add, x, -0.0),
        lambda do, x: do(e.sub, x, 0.0),
        lambda do, x: do(e.sub, x, 0),
        lambda do, x: do(e.div, x, 1.0),
        lambda do, x: do(e.pow, x, 1),
        lambda do, x: do(e.neg, do(e.neg, x)),
        lambda do, x: do(e.copy, do(e.positive, x)),
        lambda do, x: do(e.conj, do(e.real, x)),
        lambda do, x: do(e.maximum, x, x),
        lambda do, x: do(e.where, True, x, 0.0),
        lambda do, x: do(e.where, np.zeros(9, bool), 0.0, x),
        lambda do, x: do(e.clip, x, -np.inf, np.inf),
        lambda do, x: do(Reshape((9,)), do(Reshape((3, 3)), x)),
        lambda do, x: do(Reshape((9,)), x),
        lambda do, x: do(Broadcast((9,)), x),
        lambda do, x: do(Cast(F64), x),
        lambda do, x: do(Transpose((0,)), x),
        lambda do, x: do(GetItem((slice(None),)), x),
        lambda do, x: do(GetItem((slice(0, 9, 1), Ellipsis)), x),
        lambda do, x: do(Concatenate(0), x),
        lambda do, x: do(Concatenate(0), x, np.ones(0)),
        lambda do, x: do(Pad(((0, 0),)), x),
        lambda do, x: do(Write((GetItem((Ellipsis,)),)), np.zeros(9), x),
        lambda do, x: do(Write((GetItem((slice(0, 9),)),)), np.zeros(9), x),
        lambda do, x: do(GetItem((slice(2, 11),)), do(Concatenate(0), np.ones(2), x)),
    ],
)
def test_it_is_x(f):
    text = "in   %0: float64[9]\nout  %0"
    becomes(lambda g: tidy(fold(g)), graph_of(f, V), text, ODD)


@pytest.mark.parametrize(
    "f",
    [
        lambda do, x: do(e.add, x, 0.0),  # -0.0
        lambda do, x: do(e.sub, x, -0.0),
        lambda do, x: do(e.mul, x, 0.0),  # nan, inf
        lambda do, x: do(e.sub, x, x),
        lambda do, x: do(e.neg, do(e.sub, x, 1.0)),
        lambda do, x: do(e.div, x, 3.0),
        lambda do, x: do(e.maximum, x, 0.0),
        lambda do, x: do(Sum((0,), False), do(Broadcast((4, 9)), x)),
        lambda do, x: do(GetItem((slice(None, None, -1),)), x),
        lambda do, x: do(Write((GetItem((slice(None, None, -1),)),)), np.zeros(9), x),
    ],
)
def test_some_number_tells_the_sides_apart(f):
    g = graph_of(f, V)
    made = algebra(g)
    assert len(made.lines) == len(g.lines)
    assert_same(in_rows(made, ODD), in_rows(g, ODD))


@pytest.mark.parametrize(
    ("f", "line"),
    [
        (lambda do, x: do(e.pow, x, 2), "square(%0)"),
        (lambda do, x: do(e.pow, x, 2.0), "square(%0)"),
        pytest.param(
            lambda do, x: do(e.pow, x, 0.5), "sqrt(%0)",
            marks=pytest.mark.skipif(not ROOTS, reason="NumPy tells them apart"),
        ),
        (lambda do, x: do(e.mul, x, -1.0), "neg(%0)"),
        (lambda do, x: do(e.div, x, 8.0), "mul(%0, 0.125)"),
        (lambda do, x: do(e.div, x, -0.5), "mul(%0, -2.0)"),
        (lambda do, x: do(e.sub, 1.0, do(e.neg, x)), "add(1.0, %0)"),
        (lambda do, x: do(e.add, 1.0, do(e.neg, x)), "sub(1.0, %0)"),
        (lambda do, x: do(e.mul, do(e.neg, x), do(e.neg, x)), "mul(%0, %0)"),
        (lambda do, x: do(e.abs, do(e.neg, do(e.abs, x))), "abs(%0)"),
        (lambda do, x: do(e.square, do(e.abs, x)), "square(%0)"),
        (lambda do, x: do(e.where, do(e.logical_not, do(e.gt, x, 0.0)), x, 1.0),
         "gt(%0, 0.0)|where(%1, 1.0, %0)"),
        (lambda do, x: do(e.add, x, np.full(9, 2.0)), "add(%0, array(2.))"),
        (lambda do, x: do(e.add, x, do(Broadcast((9,)), np.array([1.0]))),
         "add(%0, array(1.))"),
        (lambda do, x: do(Sum((), False), x), "add(%0, 0.0)"),
    ],
)  # fmt: skip
def test_it_is_something_simpler(f, line):
    g = graph_of(f, V)
    made = dce(algebra(algebra(g)))
    got = "|".join(f"{i.op!r}({', '.join(shown(x) for x in i.inputs)})" for i in made.lines)
    assert got == line
    assert_same(in_rows(made, ODD), in_rows(g, ODD))


def shown(x):
    return repr(x) if not hasattr(x, "n") else f"%{x.n}"


def test_chains_of_rearrangements_collapse():
    def f(do, x):
        y = do(Transpose((1, 0, 2)), do(Transpose((2, 1, 0)), x))
        z = do(Reshape((12, 2)), do(Reshape((3, 4, 2)), do(Reshape((24,)), x)))
        w = do(Transpose((1, 0, 2)), do(Reshape((1, 12, 2)), z))
        return y, z, do(Broadcast((5, 12, 1, 2)), do(Broadcast((12, 1, 2)), w))

    becomes(
        lambda g: tidy(tidy(g)), graph_of(f, (2, 3, 4)),
        """in   %0: float64[2, 3, 4]
        %1: float64[3, 4, 2] = Transpose(perm=(1, 2, 0))(%0)
        %2: float64[12, 2] = Reshape(shape=(12, 2), lanes=0)(%0)
        %3: float64[12, 1, 2] = Reshape(shape=(12, 1, 2), lanes=0)(%0)
        %4: float64[5, 12, 1, 2] = Broadcast(shape=(5, 12, 1, 2))(%3)
        out  %1, %2, %4""", np.arange(24.0).reshape(2, 3, 4),
    )  # fmt: skip


def test_broadcasting_is_left_to_the_operation():
    def f(do, x, b):
        wide = do(Broadcast((4, 9)), b)
        small = do(e.exp, do(e.mul, do(Broadcast((4, 9)), do(Reshape((1, 9)), b)), 2.0))
        return do(e.add, x, wide), small

    becomes(
        lambda g: tidy(tidy(g)), graph_of(f, (4, 9), (9,)),
        """in   %0: float64[4, 9], %1: float64[9]
        %2: float64[9] = mul(%1, 2.0)
        %3: float64[9] = exp(%2)
        %4: float64[4, 9] = Broadcast(shape=(4, 9))(%3)
        %5: float64[4, 9] = add(%0, %1)
        out  %5, %4""", np.ones((4, 9)), ODD,
    )  # fmt: skip


def test_a_python_number_stays_one_that_yields():
    """The dtype of a broadcast Python number is its own; unbroadcast it must not yield."""

    def f(do, x):
        return do(e.add, x, do(Broadcast((9,)), 2.0))

    g = graph_of(f, Aval(V, F32))
    assert g.outputs[0].dtype == F64
    made = algebra(g)
    verify(made)
    assert_same(in_rows(made, ODD32), in_rows(g, ODD32))


def test_casts_there_and_back():
    def f(do, x, i):
        wide = do(Cast(F64), x)
        flag = do(CastConstant(I64), do(e.gt, x, 0.0))
        narrow = do(Cast(F64), do(Cast(F32), do(Cast(F64), i)))
        return do(Cast(F32), wide), do(CastConstant(BOOL), flag), narrow

    x = ODD32
    i = np.arange(9) * (2**53 // 9) + 1
    becomes(
        tidy, graph_of(f, Aval(V, F32), Aval(V, I64)),
        """in   %0: float32[9], %1: int64[9]
        %2: bool[9] = gt(%0, 0.0)
        %3: float64[9] = Cast(dtype=dtype('float64'))(%1)
        %4: float32[9] = Cast(dtype=dtype('float32'))(%3)
        %5: float64[9] = Cast(dtype=dtype('float64'))(%4)
        out  %0, %2, %5""", x, i,
    )  # fmt: skip


def test_a_sum_of_a_broadcast_of_whole_numbers_is_a_product():
    def f(do, x):
        y = do(Broadcast((5, 2, 3)), x)
        return do(Sum((0, 2), False), y), do(Sum((0, 1), True), y)

    x = np.array([[2**62], [7]])
    g = graph_of(f, Aval((2, 1), I64))
    made = tidy(g)
    assert [type(line.op).__name__ for line in made.lines].count("Sum") == 1  # over a real axis
    assert_same(in_rows(made, x), in_rows(g, x))


def test_dividing_by_a_power_of_two():
    rng = np.random.default_rng(0)
    for dtype in (np.float16, np.float32, np.float64):
        info = np.finfo(dtype)
        x = rng.integers(0, 1 << 15, 2000).astype(np.int64)
        bits = {2: np.int16, 4: np.int32, 8: np.int64}[np.dtype(dtype).itemsize]
        x = (x << (8 * np.dtype(dtype).itemsize - 16)).astype(bits).view(dtype)
        with np.errstate(all="ignore"):
            for k in range(info.minexp - 2, info.maxexp + 2):
                c = 2.0**k if -1075 < k < 1024 else 0.0
                inverse = exact_inverse(c, np.dtype(dtype))
                if inverse is not None:
                    np.testing.assert_array_equal(x / dtype(c), x * dtype(inverse))
    assert exact_inverse(3.0, F64) is None
    assert exact_inverse(2.0**1023, F64) is None  # 1 / c is subnormal
    assert exact_inverse(2.0**-140, F32) is None  # c itself is
    assert exact_inverse(0.0, F64) is None


# ------------------------------------------------------------------ products


def test_a_scale_goes_to_the_smallest_array():
    def f(do, a, b):
        return do(e.mul, do(matmul, a, b), 0.25)

    a, b = np.arange(18.0).reshape(9, 2), np.ones((2, 9))
    becomes(
        lambda g: dce(scale(g)), graph_of(f, (9, 2), (2, 9)),
        """in   %0: float64[9, 2], %1: float64[2, 9]
        %2: float64[9, 2] = mul(%0, 0.25)
        %3: float64[9, 9] = matmul(%2, %1)
        out  %3""", a, b,
    )  # fmt: skip


def test_a_scale_comes_out_where_the_product_is_smaller():
    def f(do, a, b, s):
        return do(matmul, do(e.mul, s, a), b)

    a, b = np.ones((2, 9)), np.ones((9, 3))
    becomes(
        lambda g: dce(scale(g)), graph_of(f, (2, 9), (9, 3), ()),
        """in   %0: float64[2, 9], %1: float64[9, 3], %2: float64[]
        %3: float64[2, 3] = matmul(%0, %1)
        %4: float64[2, 3] = mul(%3, %2)
        out  %4""", a, b, np.array(0.5),
    )  # fmt: skip


def test_a_product_that_is_read_twice_is_not_scaled():
    def f(do, a, b):
        y = do(matmul, a, b)
        return do(e.mul, y, 0.3), y

    g = graph_of(f, (9, 2), (2, 9))
    assert str(dce(scale(g))) == str(g)


def test_the_stated_rounding_of_scale():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((40, 7)), rng.standard_normal((7, 50))
    g = graph_of(lambda do, a, b: do(e.mul, do(matmul, a, b), 0.3), a.shape, b.shape)
    got, want = evaluate(scale(g), a, b)[0], evaluate(g, a, b)[0]
    bound = 2 * np.finfo(float).eps / 2 * (np.abs(0.3 * a) @ np.abs(b))
    # the sums of both sides are rounded as well, by at most n u of the same
    assert (np.abs(got - want) <= bound * (1 + 7)).all()


def test_a_transpose_goes_before_the_product():
    def f(do, a, b):
        return do(Transpose((1, 0)), do(matmul, a, do(Transpose((1, 0)), b)))

    becomes(
        lambda g: dce(products(g)), graph_of(f, (4, 2), (3, 2)),
        """in   %0: float64[4, 2], %1: float64[3, 2]
        %2: float64[2, 4] = Transpose(perm=(1, 0))(%0)
        %3: float64[3, 4] = matmul(%1, %2)
        out  %3""", np.arange(8.0).reshape(4, 2), np.arange(6.0).reshape(3, 2),
    )  # fmt: skip


# ------------------------------------------------------------------ expand, remat, pipeline


def test_affine_is_expanded_in_the_order_of_its_impl():
    becomes(
        expand, graph_of(lambda do, *xs: do(Affine(), *xs), (4, 3), (3, 2), (2,)),
        """in   %0: float64[4, 3], %1: float64[3, 2], %2: float64[2]
        %3: float64[4, 2] = matmul(%0, %1)
        %4: float64[4, 2] = add(%3, %2)
        out  %4""", np.ones((4, 3)), np.ones((3, 2)), np.ones(2),
    )  # fmt: skip


def test_a_value_is_computed_again_near_its_late_use():
    def f(do, x):
        a = do(e.exp, x)
        b = do(e.sin, x)
        c = do(e.mul, do(e.tan, b), b)
        return do(e.add, do(Sum((0,), False), c), do(Sum((0,), False), a))

    g = graph_of(f, (64,))
    made = becomes(
        lambda g: remat(g, 0), g,
        """in   %0: float64[64]
        %1: float64[64] = exp(%0)
        %2: float64[64] = sin(%0)
        %3: float64[64] = tan(%2)
        %4: float64[64] = mul(%3, %2)
        %5: float64[] = Sum(axes=(0,), keepdims=False)(%4)
        %6: float64[64] = exp(%0)
        %7: float64[] = Sum(axes=(0,), keepdims=False)(%6)
        %8: float64[] = add(%5, %7)
        out  %8""", np.linspace(0, 1, 64),
    )  # fmt: skip
    assert (peak(g), peak(dce(made))) == (3 * 512, 2 * 512)


def test_remat_stops_at_the_budget():
    def f(do, x):
        a = do(e.exp, x)
        return do(Sum((0,), False), do(e.mul, do(e.sin, do(e.cos, do(e.sin, x))), a))

    g = graph_of(f, (64,))
    assert str(remat(g, peak(g))) == str(g)


def test_the_layers_of_a_network_are_kept_in_less():
    """The backward pass of a chain reads its values in reverse: all of them live in the middle."""

    def f(do, x):
        kept = []
        for _ in range(12):
            x = do(e.tanh, do(e.mul, x, 1.5))
            kept.append(do(Broadcast((8, 64)), x))
        g = do(e.copy, x)
        for k in reversed(kept):
            g = do(e.mul, g, do(Sum((0,), False), do(e.exp, k)))
        return g

    g = graph_of(f, (64,))
    made = dce(remat(g, 0))
    verify(made)
    assert peak(made) <= peak(dce(g))
    assert_same(in_rows(made, np.linspace(-1, 1, 64)), in_rows(g, np.linspace(-1, 1, 64)))


def test_the_pipeline_says_what_it_did():
    def f(do, x):
        do(e.cos, x)
        y = do(e.mul, do(e.neg, do(e.neg, x)), do(e.sqrt, np.array(1.0)))
        return do(e.add, do(e.sin, x), do(e.sin, y))

    told = Explained()
    g = graph_of(f, V)
    made = clean(g, told, debug=True)
    assert str(made) == (
        "in   %0: float64[9]\n%1: float64[9] = sin(%0)\n%2: float64[9] = add(%1, %1)\nout  %2"
    )
    names = [s.name for s in told.stages]
    assert names[:6] == ["dce", "fold", "algebra", "masks", "cse", "dce"]
    assert len(names) % 5 == 0
    assert (told.stages[0].before, told.stages[0].after) == (8, 7)
    assert told.seconds > 0
    assert len(str(told).splitlines()) == len(told.stages)


def test_debug_names_the_pass_that_broke_the_graph():
    def broken(g):
        made = dce(g)
        made.outputs = [made.var(Aval(V, F64))]
        return made

    with pytest.raises(ValueError, match="after the pass broken"):
        optimize(graph_of(lambda do, x: do(e.sin, x), V), extra=[("broken", broken)], debug=True)


def test_who_reads_what():
    def f(do, x):
        return do(e.mul, x, x)

    g = graph_of(f, V)
    assert uses(g) == {0: [0, 0], 1: [1]}


def test_the_user_s_line_is_carried_along():
    g = graph_of(lambda do, x: do(e.pow, do(e.neg, do(e.neg, x)), 2), V)
    if not hasattr(g.lines[-1], "where"):
        with pytest.raises(AttributeError):
            g.lines[-1].where = 1
        return
    for k, line in enumerate(g.lines):
        line.where = ("model.py", k)
    assert [line.where for line in clean(g).lines] == [("model.py", 2)]


def test_code_of_the_user_s_is_run_when_the_program_is_and_as_often():
    seen = []

    def noted(x):
        seen.append(float(x))
        return math.sin(x)

    sine = wg.external(noted, out=0.0, vjp=lambda args, gy: (gy * math.cos(*args),))

    def f(x):
        sine(x)  # nothing reads it, but it is called
        return sine(x) * 2.0 + sine(x)

    g = stage(f, np.array(0.5)).graph
    del seen[:]
    program = build(optimize(g, debug=True))
    assert not seen
    np.testing.assert_array_equal(program(np.array(0.5))[0], 2 * math.sin(0.5) + math.sin(0.5))
    assert seen == [0.5, 0.5, 0.5]
