"""The picture of a computational graph says what the tape says."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

import wengert as wg
from wengert import nn, viz
from wengert.errors import ArgumentError, DisconnectedError
from wengert.nn import functional as F

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg):
    return [t.text for t in ET.fromstring(svg).iter(f"{SVG}text")]


def arrows(svg, kind):
    return [p for p in ET.fromstring(svg).iter(f"{SVG}path") if p.get("class") == kind]


def test_a_perceptron():
    model = nn.Sequential(nn.Linear(3, 4, rng=0), nn.ReLU(), nn.Linear(4, 2, rng=1))
    x = wg.tensor(np.ones((5, 3), np.float32), requires_grad=True)
    labels = np.array([0, 1, 0, 1, 1])
    y = model(x)
    svg = viz.graph(
        F.cross_entropy(y, labels),
        shapes={p.node: p.shape for p in model.parameters()},
        data={x: "images"},
        also={"labels": (labels.shape, y)},
        title="a < b",
    )
    shown = texts(svg)
    for name in ("images", "labels", "layers.0.weight", "layers.2.bias", "relu", "cross_entropy"):
        assert name in shown
    assert shown.count("affine") == 2
    assert "5 × 4" in shown
    assert "3 × 4" in shown
    assert "a < b" in shown
    # No gradient flows to the images and the labels; every other edge has its way back.
    assert len(arrows(svg, "forward")) == len(arrows(svg, "backward")) + 2


def test_backward_arrows_are_red_dashed_and_run_the_other_way():
    w = wg.tensor([1.0, 2.0], requires_grad=True)
    w.name = "w"
    svg = viz.graph(np.tanh(w).sum())
    for forward, backward in zip(arrows(svg, "forward"), arrows(svg, "backward"), strict=True):
        assert forward.get("stroke-dasharray") is None
        assert backward.get("stroke-dasharray")
        red, green, blue = (int(backward.get("stroke")[i : i + 2], 16) for i in (1, 3, 5))
        assert red > 2 * max(green, blue)
        start, end = (
            [float(re.findall(r"-?[\d.]+", path.get("d"))[i]) for i in (0, -2)]
            for path in (forward, backward)
        )
        assert start[0] < start[1]
        assert end[0] > end[1]


def test_a_value_used_twice_and_a_skip():
    x = wg.tensor(np.ones(3), requires_grad=True)
    x.name = "x"
    y = np.tanh(x) * np.exp(x) + x
    svg = viz.graph((y * y).sum())
    assert texts(svg).count("x") == 1
    assert len(arrows(svg, "forward")) == 8


def test_shapes_follow_from_those_that_are_known():
    x = wg.tensor(np.ones((2, 3)), requires_grad=True)
    svg = viz.graph((np.exp(x) * 2.0).sum(), shapes={x.node: (2, 3)})
    assert texts(svg).count("2 × 3") == 3
    assert "× 2" in texts(svg)
    assert "loss, scalar" in texts(svg)


def test_the_tape_is_left_as_it_was():
    x = wg.tensor(np.ones(3), requires_grad=True)
    loss = (x * x).sum()
    assert viz.graph(loss) == viz.graph(loss)
    loss.backward()
    np.testing.assert_array_equal(x.grad.numpy(), 2 * np.ones(3))


def test_nothing_recorded():
    with pytest.raises(DisconnectedError, match="nothing is recorded"):
        viz.graph(wg.tensor(1.0))


def test_too_large_to_read():
    x = wg.tensor(1.0, requires_grad=True)
    y = x
    for _ in range(500):
        y = y * 1.5
    with pytest.raises(ArgumentError, match="more than 400 nodes"):
        viz.graph(y)


def test_a_factor_in_an_array_of_one_is_shown():
    a = wg.tensor(np.ones(2), requires_grad=True)
    assert "× 2.5" in texts(viz.graph((a * np.array([2.5])).sum()))
