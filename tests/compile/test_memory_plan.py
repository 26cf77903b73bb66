"""The planner: no two live values overlap, and the arena is close to the least there could be."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from passes_checks import graph_of

from wengert.compile.memory import Block, Plan, blocks, check, overwritable, peak, plan, views
from wengert.ops import elementwise as e
from wengert.ops.index import GetItem
from wengert.ops.linear import Broadcast, Reshape, Sum, Transpose

block = st.builds(
    lambda size, start, length: Block(size, start, start + length),
    st.integers(0, 5000),
    st.integers(0, 40),
    st.integers(0, 20),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(block, max_size=40))
def test_random_lifetimes(items):
    made = plan(items)
    check(made)
    assert made.size >= made.lower_bound
    assert made.size <= sum(-(-b.size // 64) * 64 for b in items)
    live = [sum(-(-b.size // 64) * 64 for b in items if b.start <= t <= b.stop) for t in range(61)]
    assert made.lower_bound == max(live)


def test_the_arena_is_close_to_the_least():
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(30):
        starts = rng.integers(0, 200, 300)
        items = [
            Block(int(s), int(t), int(t + d))
            for s, t, d in zip(
                2 ** rng.integers(6, 16, 300), starts, rng.geometric(0.2, 300)
            )
        ]  # fmt: skip
        made = plan(items)
        check(made)
        ratios.append(made.size / made.lower_bound)
    assert np.mean(ratios) < 1.05
    assert max(ratios) < 1.2


def test_lifetimes_that_nest_fit_exactly():
    """Forward values of a network, each read once on the way back: a stack."""
    items = [Block(64 * (k + 1), k, 40 - k) for k in range(20)]
    made = plan(items)
    check(made)
    assert made.size == made.lower_bound == sum(b.size for b in items)


@pytest.mark.parametrize(
    ("offsets", "size", "says"),
    [
        ((0, 0), 128, "overlap"),
        ((0, 64), 100, "not inside"),
        ((0, 72), 200, "not aligned"),
        ((-64, 64), 200, "not inside"),
    ],
)
def test_the_checker_sees_a_wrong_plan(offsets, size, says):
    items = (Block(64, 0, 2), Block(64, 2, 3))
    check(Plan(items, (0, 64), 128, 128))
    with pytest.raises(ValueError, match=says):
        check(Plan(items, offsets, size, 64))


def test_the_checker_sees_an_overlap_in_part():
    items = (Block(256, 0, 5), Block(64, 7, 9), Block(64, 1, 2))
    check(Plan(items, (0, 64, 256), 320, 320))
    with pytest.raises(ValueError, match="overlap"):
        check(Plan(items, (0, 64, 128), 320, 320))


def test_nothing_to_plan():
    made = plan([])
    check(made)
    assert (made.size, made.lower_bound, made.offsets) == (0, 0, ())


def test_a_plan_is_readable():
    text = str(plan([Block(64, 0, 1), Block(128, 1, 2)]))
    assert text.splitlines()[0] == "arena of 192 bytes; at least 192 are alive at one step"
    assert len(text.splitlines()) == 3


# ------------------------------------------------------------------ of a graph


def test_inputs_and_outputs_have_no_block():
    def f(do, x):
        y = do(e.exp, x)
        return do(e.sin, y), y, x

    homes = blocks(graph_of(f, (4,)))
    assert homes.blocks == ()
    assert homes.of == {}


def test_a_dying_operand_is_written_over():
    def f(do, x):
        a = do(e.exp, x)  # 0
        b = do(e.sin, a)  # 1: over a
        c = do(e.mul, b, a)  # b lives on: not over a, which died.. over both
        return do(Sum((0,), False), c)

    g = graph_of(f, (4,))
    homes = blocks(g)
    a, b, c = (line.outputs[0].n for line in g.lines[:3])
    assert homes.of[a] != homes.of[b]  # a is read again
    assert homes.over == {2: 0}
    assert homes.of[c] == homes.of[b]
    assert homes.blocks[homes.of[b]] == Block(32, 1, 3)
    assert homes.blocks[homes.of[a]] == Block(32, 0, 2)


def test_a_view_shares_its_block_and_keeps_it():
    def f(do, x):
        a = do(e.exp, x)
        t = do(Transpose((1, 0)), a)
        b = do(e.sin, a)
        row = do(GetItem((0,)), t)
        return do(Sum((0,), False), row), do(Sum((0, 1), False), b)

    g = graph_of(f, (3, 3))
    homes = blocks(g)
    a, t, b, row = (line.outputs[0].n for line in g.lines[:4])
    assert homes.of[a] == homes.of[t] == homes.of[row] != homes.of[b]
    assert homes.over == {}
    assert homes.blocks[homes.of[a]] == Block(72, 0, 4)


def test_a_view_of_an_output_has_no_block_and_a_view_that_is_one_keeps_its_source():
    def f(do, x):
        a = do(e.exp, x)
        b = do(e.sin, x)
        return a, do(Reshape((4,)), a), do(Reshape((4,)), b)

    g = graph_of(f, (2, 2))
    homes = blocks(g)
    assert list(homes.of) == [g.lines[1].outputs[0].n, g.lines[3].outputs[0].n]
    assert homes.blocks == (Block(32, 1, 4),)


def test_what_can_be_a_view():
    def f(do, x):
        t = do(Transpose((1, 0)), x)  # 0
        flat = do(Reshape((6,)), t)  # 1: a copy
        again = do(Reshape((3, 2)), flat)  # 2
        wide = do(Broadcast((4, 3, 2)), again)  # 3
        picked = do(GetItem((np.array([0, 2]),)), again)  # 4
        return wide, do(GetItem((slice(0, 2), 0)), picked)  # 5

    g = graph_of(f, (2, 3))
    assert views(g) == {0, 2, 3, 5}
    assert views(g, broadcast=False) == {0, 2, 5}


def test_only_operands_of_the_same_type_are_written_over():
    def f(do, x):
        return do(e.add, x, do(Sum((0,), True), x)), do(e.gt, x, 0.0), do(Sum((0,), False), x)

    g = graph_of(f, (3, 3))
    assert [overwritable(line) for line in g.lines] == [(), (0,), (), ()]
    assert peak(g) == 64  # the sum alone
