"""The layered layout: columns, order, heights."""

import itertools

import numpy as np
import pytest

from wengert.viz.layout import place, spread

BOX = (40.0, 20.0)


def boxes(names):
    return dict.fromkeys(names, BOX)


def test_arrows_point_to_the_right():
    edges = [("a", "b"), ("b", "c"), ("a", "c"), ("w", "c")]
    drawn = place(boxes("abcw"), edges)
    for start, end in edges:
        assert drawn.centres[start][0] < drawn.centres[end][0]


def test_a_source_stands_right_before_its_use():
    drawn = place(boxes("abcw"), [("a", "b"), ("b", "c"), ("w", "c")])
    assert drawn.centres["w"][0] == drawn.centres["b"][0] > drawn.centres["a"][0]


def test_boxes_never_overlap():
    rng = np.random.default_rng(0)
    names = list(range(25))
    edges = [(i, j) for i, j in itertools.combinations(names, 2) if rng.random() < 0.12]
    drawn = place(boxes(names), edges)
    for a, b in itertools.combinations(names, 2):
        (ax, ay), (bx, by) = drawn.centres[a], drawn.centres[b]
        assert abs(ax - bx) >= 40 - 1e-9 or abs(ay - by) >= 20 + 26 - 1e-9
    for x, y in drawn.centres.values():
        assert 20 - 1e-9 <= x <= drawn.width - 20 + 1e-9
        assert 10 - 1e-9 <= y <= drawn.height - 10 + 1e-9


def test_long_edges_go_around_the_boxes_between():
    drawn = place(boxes("abc"), [("a", "b"), ("b", "c"), ("a", "c")])
    route = drawn.routes["a", "c"]
    assert len(route) == 3
    assert abs(route[1][1] - drawn.centres["b"][1]) > 10


def test_crossings_that_can_be_avoided_are():
    # two chains whose second halves are given in the wrong order
    drawn = place(boxes(["a", "b", "B", "A"]), [("a", "A"), ("b", "B")])
    (ya, yb), (yA, yB) = ([drawn.centres[v][1] for v in pair] for pair in (("a", "b"), ("A", "B")))
    assert (ya < yb) == (yA < yB)


def test_a_heavy_chain_is_straight():
    chain = ["a", "b", "c", "d"]
    edges = [*itertools.pairwise(chain), ("w", "b"), ("v", "c"), ("u", "c"), ("t", "d")]
    drawn = place(boxes([*chain, *"wvut"]), edges, dict.fromkeys(chain, 1e3))
    heights = [drawn.centres[v][1] for v in chain]
    assert max(heights) - min(heights) < 1


def test_nothing_and_one_box():
    assert (place({}, []).width, place({}, []).height) == (0, 0)
    assert place(boxes("a"), []).centres == {"a": (20.0, 10.0)}


def test_a_deep_graph_is_no_problem():
    n = 3000
    drawn = place(boxes(range(n)), list(itertools.pairwise(range(n))))
    assert len(drawn.centres) == n


@pytest.mark.parametrize("seed", range(5))
def test_spread_is_the_least_squares_solution(seed):
    rng = np.random.default_rng(seed)
    n = 6
    wishes, weights = rng.normal(size=n) * 3, rng.uniform(0.5, 5, size=n)
    room = rng.uniform(0.2, 2, size=n - 1)
    y = np.array(spread(list(wishes), list(weights), list(room)))
    assert (np.diff(y) >= room - 1e-9).all()
    cost = lambda v: (weights * (v - wishes) ** 2).sum()
    for _ in range(300):  # a convex problem: no allowed step in any direction is better
        other = y + 0.01 * rng.normal(size=n)
        if (np.diff(other) >= room).all():
            assert cost(other) >= cost(y) - 1e-9
