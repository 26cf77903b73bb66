"""Curves: readable SVG with the run's numbers, the same text every time."""

import sys
import xml.etree.ElementTree as ET

import pytest

from wengert import viz
from wengert.errors import MissingExtraError

pytest.importorskip("matplotlib")

ROWS = [
    {
        "epoch": e,
        "loss": 2.0 / e,
        "train_accuracy": 1 - 0.5 / e,
        "validation_accuracy": 1 - 0.6 / e,
        "grad_norm": {"layers.0": 1.0 / e, "layers.2": 2.0 / e},
    }
    for e in range(1, 9)
]


@pytest.mark.parametrize("draw", [viz.accuracy_and_loss, viz.gradient_norms])
@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], []], ids=["many", "one", "none"])
def test_is_svg_without_a_date_and_always_the_same(draw, rows):
    svg = draw(rows, "digits")
    assert ET.fromstring(svg).tag.endswith("svg")
    assert svg == draw(rows, "digits")
    assert "date" not in svg.lower()


def test_other_numbers_give_another_picture():
    changed = [*ROWS[:-1], {**ROWS[-1], "loss": 1.0}]
    assert viz.accuracy_and_loss(ROWS) != viz.accuracy_and_loss(changed)


def test_a_layer_without_gradient_does_not_break_the_scale():
    rows = [{"epoch": 1, "grad_norm": {"a": 0.0, "b": 1.0}}]
    assert "svg" in viz.gradient_norms(rows)


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match="matplotlib is not installed") as caught:
        viz.gradient_norms(ROWS)
    assert "pip install 'wengert[train]'" in str(caught.value)


def test_parameters_of_the_model_itself_have_a_name_in_the_legend():
    rows = [{"epoch": i, "loss": 1.0, "grad_norm": {"": 1.0, "head": 2.0}} for i in (1, 2)]
    assert "the model" in viz.gradient_norms(rows)
