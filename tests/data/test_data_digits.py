"""The digits that travel in the package are the published ones, and their parts are fixed."""

import os
from importlib.resources import files

import numpy as np
import pytest

from wengert.data import Dataset, digits, xor
from wengert.errors import ShapeError


def test_digits_equal_scikit_learns_copy():
    theirs = pytest.importorskip("sklearn.datasets").load_digits()
    ours = digits()
    np.testing.assert_array_equal(ours.images * 16, theirs.data)
    np.testing.assert_array_equal(ours.labels, theirs.target)


def test_digits_are_small_and_carry_citation_and_licence():
    path = files("wengert.data") / "digits.npz"
    assert os.path.getsize(str(path)) < 100_000
    ours = digits()
    assert ours.images.dtype == np.float32
    assert (ours.images.min(), ours.images.max()) == (0, 1)
    assert "Alpaydin" in ours.citation
    assert "Kaynak" in ours.citation
    assert "CC BY 4.0" in ours.licence


def test_parts_are_a_fifth_for_test_disjoint_and_stratified():
    numbered = digits()
    numbered = Dataset(np.arange(len(numbered))[:, None], numbered.labels)
    parts = numbered.split()
    rows = [set(part.images.ravel().tolist()) for part in parts]
    assert sum(map(len, rows)) == len(numbered) == len(set.union(*rows))
    assert len(parts.test) / len(numbered) == pytest.approx(0.2, abs=0.002)
    for part in parts:
        share = np.bincount(part.labels) / len(part)
        np.testing.assert_allclose(share, np.bincount(numbered.labels) / len(numbered), atol=0.01)


def test_split_is_always_the_same():
    assert digits().split().test.sha256 == digits().split().test.sha256
    # Pinned: accuracies are only comparable between versions over the same held-out examples.
    assert digits().split().test.sha256.startswith(PINNED)


PINNED = "218f4a14a1768173"


def test_fingerprint_sees_one_changed_pixel():
    ours = digits()
    other = ours.images.copy()
    other[100, 20] += 1 / 16
    assert Dataset(other, ours.labels).sha256 != Dataset(ours.images, ours.labels).sha256


def test_dataset_refuses_a_missing_label():
    with pytest.raises(ShapeError, match="numbers of examples and labels disagree") as caught:
        Dataset(np.ones((3, 2)), np.ones(2))
    assert "float64[3, 2]   3 examples" in str(caught.value)
    assert "float64[2]   2 labels" in str(caught.value)


def test_xor_is_exclusive_or():
    table = xor()
    for (a, b), (y,) in zip(table.images, table.labels, strict=True):
        assert bool(y) == (bool(a) != bool(b))
