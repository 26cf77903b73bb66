"""Trees in JAX's names, and every kind of node."""

from collections import Counter, OrderedDict, defaultdict, namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
from conftest import peer

import wengert as wg
from wengert import tree
from wengert.errors import ArgumentError

Point = namedtuple("Point", "x y")


@dataclass
class Box:
    a: object
    b: object


class Tagged(dict):
    tag = None


def tagged(tag, **items):
    made = Tagged(items)
    made.tag = tag
    return made


NODES = {
    "dict": {"b": 1, "a": (2, [3])},
    "ordered": OrderedDict([("b", 1), ("a", 2)]),
    "default": defaultdict(list, {"k": 1}),
    "counter": Counter({"k": 2}),
    "named": Point(1, {"z": 2}),
    "dataclass": Box(1, Box(2, None)),
    "none": [None, 1, (None,)],
    "empty": {"a": [], "b": (), "c": {}},
    "leaf": 3.0,
}


@pytest.mark.parametrize("name", NODES)
def test_there_and_back(name):
    x = NODES[name]
    leaves, structure = tree.flatten(x)
    again = tree.unflatten(structure, leaves)
    assert again == x
    assert type(again) is type(x)
    assert tree.structure(again) == structure
    assert hash(structure) == hash(tree.structure(again))
    assert len(tree.paths(structure)) == len(leaves) == structure.size


def test_subclasses_of_dict_keep_what_they_are():
    made = tree.map(lambda v: v * 10, defaultdict(list, {"k": 1}))
    made["new"].append(1)
    assert made == {"k": 10, "new": [1]}
    made = tree.map(lambda v: v * 10, tagged("t", a=1))
    assert type(made) is Tagged
    assert made == {"a": 10}
    assert made.tag == "t"
    assert list(tree.map(lambda v: v, OrderedDict(b=1, a=2))) == ["b", "a"]
    assert tree.structure(OrderedDict(a=1)) != tree.structure({"a": 1})


def test_gradients_of_every_kind_of_node(close):
    params = OrderedDict(w=np.array([1.0, 2.0]), p=Point(3.0, defaultdict(int, k=4.0)))
    g = wg.grad(lambda p: np.sum(p["w"] ** 2) * p["p"].x + p["p"].y["k"] ** 2)(params)
    assert type(g) is OrderedDict
    assert type(g["p"]) is Point
    close(g["w"], [6.0, 12.0])
    close(g["p"].y["k"], 8.0)


def test_dicts_are_matched_by_their_keys(close):
    a, b = {"x": 1.0, "y": 2.0}, {"y": 20.0, "x": 10.0}
    assert tree.map(lambda u, v: u + v, a, b) == {"x": 11.0, "y": 22.0}
    f = lambda p: {"s": p["x"] * p["y"], "t": p["x"]}
    close(wg.jvp(f, a, b)[1]["s"], 10.0 * 2 + 20.0)
    g = wg.vjp(f, a)[1]({"t": 100.0, "s": 1.0})[0]
    close(g["x"], 102.0)
    close(g["y"], 1.0)


def test_map_takes_prefixes():
    assert tree.map(lambda a, b: (a, b), {"k": 1}, {"k": [2, 3]}) == {"k": (1, [2, 3])}
    assert tree.map(len, [[1, 2], [3]], is_leaf=lambda x: (isinstance(x, list) and x[0] == 3) or
                    x == [1, 2]) == [2, 1]  # fmt: skip


def test_structures_that_differ_are_named():
    for a, b, why in (
        ({"a": 1}, {"b": 1}, "lacks 'a', has 'b' besides"),
        ([1, 2], [1], "a list of 1"),
        ([1], (1,), "a tuple"),
        ([1, None], [1, 2], "at tree 2"),
    ):
        with pytest.raises(ArgumentError, match=why):
            tree.map(lambda x, y: x, a, b)
    with pytest.raises(ArgumentError, match="has 2 leaves, not 1"):
        tree.unflatten(tree.structure([1, 2]), [1])


def test_the_rest_of_the_names():
    x = {"w": [1, 2], "b": 3}
    assert tree.leaves(x) == [1, 2, 3]
    assert tree.reduce(lambda a, b: a + b, x) == 6
    assert tree.reduce(lambda a, b: [*a, b], x, []) == [1, 2, 3]
    assert tree.all(x)
    assert not tree.all([1, 0])
    assert tree.leaves_with_path(x) == [("['w'][0]", 1), ("['w'][1]", 2), ("['b']", 3)]
    assert tree.map_with_path(lambda p, v: p, x)["b"] == "['b']"
    assert tree.flatten_with_path(x)[1] == tree.structure(x)
    pairs = tree.map(lambda v: (v, -v), x)
    up, down = tree.transpose(tree.structure(x), tree.structure((0, 0)), pairs)
    assert up == x
    assert down == {"w": [-1, -2], "b": -3}
    assert tree.transpose(tree.structure([0, 0]), None, [{"a": 1}, {"a": 2}]) == {"a": [1, 2]}


def test_classes_register_as_in_jax(close):
    class Pair:
        def __init__(self, a, b, note):
            self.a, self.b, self.note = a, b, note

        def tree_flatten(self):
            return (self.a, self.b), self.note

        @classmethod
        def tree_unflatten(cls, note, children):
            return cls(*children, note)

    assert tree.leaves(Pair(1, 2, "n")) != [1, 2]
    assert tree.register_pytree_node_class(Pair) is Pair
    g = wg.grad(lambda p: p.a * p.b)(Pair(2.0, 3.0, "n"))
    close(g.a, 3.0)
    assert g.note == "n"
    assert tree.structure(Pair(1, 2, "n")) != tree.structure(Pair(1, 2, "m"))


@pytest.mark.parametrize("name", ["dict", "named", "none", "ordered", "default"])
def test_like_jax(name):
    jax = peer("jax", "the comparison with JAX was left out")
    x = NODES[name]
    # JAX sorts the keys of a dict, and keeps the order of an OrderedDict
    assert sorted(tree.leaves(x)) == sorted(jax.tree.leaves(x))
    assert tree.map(lambda v: v + 1, x) == jax.tree.map(lambda v: v + 1, x)
    assert tree.reduce(lambda a, b: a + b, x) == jax.tree.reduce(lambda a, b: a + b, x)
