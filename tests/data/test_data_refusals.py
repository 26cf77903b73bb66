"""Sources, text and pictures: what makes no sense is refused in words, and nothing is cut short."""

import numpy as np
import pytest
from PIL import Image

from wengert import data as D
from wengert.errors import ArgumentError, AxisError, DataError, OptionError, ShapeError

X, Y = np.arange(30.0).reshape(10, 3), np.arange(10)
NAN = float("nan")


@pytest.fixture
def source():
    return D.Dataset(X, Y)


@pytest.fixture
def raw(tmp_path):
    path = tmp_path / "raw"
    path.write_bytes(bytes(100))
    return path


def pictures(tmp_path):
    (tmp_path / "a").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "a" / "1.png")
    return tmp_path


# ---- rows


def test_a_data_set_ends_when_it_is_iterated(source):
    assert [int(row.labels[0]) for row in source] == list(range(10))
    assert len(list(source)) == 10
    assert len(source[9]) == len(source[-1]) == len(source[-10]) == 1
    for i in (10, -11, 99):
        with pytest.raises(AxisError, match="from 0 to 9"):
            source[i]
    assert len(source[8:99]) == 2
    assert len(source[[1, 1]]) == 2


@pytest.mark.parametrize("rows", ["a", 1.5, [1.5], [99], [-11], np.ones(3, bool), None])
def test_rows_that_are_not_there(source, rows):
    sequences = D.Sequences([[1.0]] * 10)
    windows = D.Windows(np.arange(31), 3)
    mixed = D.Concat([source, source[:0]])
    for some in (source, sequences, windows, mixed):
        with pytest.raises(AxisError, match=r"rows .*"):
            some.batch(rows)
    if rows is not None:
        with pytest.raises(AxisError):
            source[rows]


def test_arrays_that_are_none():
    with pytest.raises(ShapeError, match=r"arrays\[0\] .*rows of different lengths"):
        D.Arrays([[1, 2], [3]])
    with pytest.raises(ShapeError, match="images"):
        D.Dataset([[1, 2], [3]], [0, 1])


@pytest.mark.parametrize("value", [0, -1, 2.5, NAN, None, "a", True])
def test_shares_of_a_split(source, value):
    for name in ("test", "validation"):
        with pytest.raises(OptionError, match=f"{name}="):
            source.split(**{name: value})
        with pytest.raises(OptionError, match=f"{name}="):
            D.split(source, **{name: value})


def test_labels_of_a_split_are_those_of_the_source(source):
    with pytest.raises(ShapeError, match="one label for each"):
        D.split(source, [0, 1])
    assert [len(p) for p in D.split(source, Y % 2)] == [8, 0, 2]


# ---- views


@pytest.mark.parametrize("rows", [None, 3, [1.5], [[1, 2]], "ab", [True, False], [10]])
def test_rows_of_a_subset(source, rows):
    with pytest.raises(OptionError, match="rows"):
        D.Subset(source, rows)


def test_a_subset_may_be_a_slice(source):
    assert D.Subset(source, slice(2, 5)).rows.tolist() == [2, 3, 4]
    assert D.Subset(source, []).rows.tolist() == []


@pytest.mark.parametrize("make", [
    lambda s: D.Subset(s, [0]), lambda s: D.Concat([s]), lambda s: D.Map(s, lambda b: b),
    lambda s: D.split(s), lambda s: D.Standardise.fit(s),
])  # fmt: skip
def test_what_is_no_source(make):
    for wrong in (None, X, [1, 2], (X, Y)):
        with pytest.raises(OptionError, match="a source has a length and gives batch"):
            make(wrong)


def test_sources_in_a_row_come_in_a_list(source):
    with pytest.raises(OptionError, match="a list of sources"):
        D.Concat(source)
    with pytest.raises(OptionError, match="a list of sources"):
        D.Concat(None)


def test_a_map_is_a_function(source):
    with pytest.raises(OptionError, match="f is a function"):
        D.Map(source, None)
    with pytest.raises(ArgumentError, match="1 argument"):
        D.Map(source, lambda: 1).batch([0])
    with pytest.raises(ArgumentError, match="returned None"):
        D.Map(source, lambda batch: None).batch([0])


def test_columns_that_cannot_be_standardised():
    fit = lambda x, **o: D.Standardise.fit(D.Arrays(np.array(x)), **o)
    with pytest.raises(DataError, match=r"(?s)not finite.*row 1, column 1"):
        fit([[0.0, 1.0], [1.0, np.inf]])
    with pytest.raises(DataError, match=r"(?s)not finite.*row 0, column 0"):
        fit([[NAN, 1.0]])
    with pytest.raises(DataError, match=r"(?s)too large to be squared.*column 1"):
        fit([[0.0, 1e300], [1.0, -1e300]])
    with pytest.raises(DataError, match="real numbers"):
        fit([["a"]])
    with pytest.raises(DataError, match="real numbers"):
        fit([[1j]])
    with pytest.raises(OptionError, match="which=7"):
        fit(X, which=7)
    with pytest.raises(OptionError, match="chunk=0"):
        fit(X, chunk=0)
    with pytest.raises(ShapeError, match="columns"):
        D.Standardise([0.0, 0.0], [1.0, 1.0])((X,))
    for deviation in (0.0, -1.0, NAN, [1.0, 0.0]):
        with pytest.raises(OptionError, match="deviation"):
            D.Standardise(0.0, deviation)


# ---- loaders


def test_a_transform_is_a_function_that_gives_a_batch(source):
    with pytest.raises(OptionError, match="transform"):
        D.Loader(source, 4, transform=3)
    for prefetch in (0, 2):
        loader = D.Loader(source, 4, transform=lambda batch: batch, prefetch=prefetch)
        with pytest.raises(ArgumentError, match="2 arguments"):
            next(iter(loader))
        loader = D.Loader(source, 4, transform=lambda batch, rng: None, prefetch=prefetch)
        with pytest.raises(ArgumentError, match="returned None"):
            next(iter(loader))
        assert (loader.epoch, loader.position) == (0, 0)


@pytest.mark.parametrize("change", [
    {"position": 3}, {"position": 99}, {"position": -1}, {"position": 1.5}, {"position": "a"},
    {"epoch": -1}, {"epoch": None}, {"epoch": "x"}, {"seed": [1]}, {"batch_size": 3},
])  # fmt: skip
def test_places_that_a_loader_never_stood_at(source, change):
    loader = D.Loader(source, 4, seed=0)
    next(iter(loader))
    here = loader.state_dict()
    with pytest.raises(OptionError, match=next(iter(change))):
        loader.load_state_dict({**here, **change})
    assert loader.state_dict() == here
    for state in ({}, None, 3, {k: v for k, v in here.items() if k != "epoch"}):
        with pytest.raises(OptionError, match="state"):
            loader.load_state_dict(state)
    loader.load_state_dict(here)


# ---- sequences


def test_what_fills_up_is_a_number_of_the_sequences():
    for fill in (NAN, 0.5, "a", None, 1e30, [0, 1]):
        with pytest.raises(OptionError, match="fill"):
            D.collate([[1, 2], [3]], fill=fill)
    assert np.isnan(D.collate([[1.0, 2.0], [3.0]], fill=NAN)[0][1, 1])
    assert D.collate([[1, 2], [3]], fill=-1.0)[0].tolist() == [[1, 2], [3, -1]]
    for length in ("a", -1, 1.5):
        with pytest.raises(OptionError, match="length"):
            D.collate([[1]], length=length)


def test_sequences_and_their_labels():
    for wrong in (None, 3):
        with pytest.raises(OptionError, match="a list of sequences"):
            D.Sequences(wrong)
        with pytest.raises(OptionError, match="a list of sequences"):
            D.collate(wrong)
    with pytest.raises(ShapeError, match="one label for each"):
        D.Sequences([[1]], 3)


# ---- text


@pytest.mark.parametrize("wrong", [3, b"ab", None, ["a"]])
def test_what_is_no_text(wrong):
    for call in (D.Characters, D.BPE, D.Characters("ab").encode, D.Bytes().encode,
                 D.BPE("ab", 256).encode):  # fmt: skip
        with pytest.raises(DataError, match="it takes a text"):
            call(wrong)


@pytest.mark.parametrize("vocabulary", [D.Characters("abc"), D.Bytes(), D.BPE("abab", 257)])
def test_tokens_that_stand_for_nothing(vocabulary):
    for tokens in ([-1], [999], [0.5], ["a"], [None], 3):
        with pytest.raises(DataError, match="token"):
            vocabulary.decode(tokens)
    assert vocabulary.decode([]) == ""
    assert len(vocabulary.decode(iter([0, 1]))) == 2
    assert len(vocabulary.decode(np.array([0, 1], np.uint8))) == 2


def test_half_a_character_has_no_bytes():
    for call in (D.Bytes().encode, lambda t: D.BPE(t, 256), D.BPE("ab", 256).encode):
        with pytest.raises(DataError, match=r"(?s)surrogate.*place +: 2"):
            call("ab\ud800")


@pytest.mark.parametrize("value", [255, 256.5, "a", None, NAN])
def test_sizes_of_a_vocabulary(value):
    with pytest.raises(OptionError, match="size"):
        D.BPE("abc", value)


def test_windows_are_of_a_row_of_whole_numbers():
    for tokens in (np.zeros(10), [0.5] * 10, np.zeros((10, 2), int), "hello world", None, 3):
        with pytest.raises(DataError, match="a row of whole numbers"):
            D.Windows(tokens, 2)
    x, y = D.Windows([5, 6, 7, 8, 9], 2).batch([1])
    assert x.tolist() + y.tolist() == [[7, 8], [8, 9]]
    for wrong in (0, -1, 2.5, "a", NAN):
        with pytest.raises(OptionError, match="length"):
            D.Windows(np.arange(10), wrong)
        with pytest.raises(OptionError, match="stride"):
            D.Windows(np.arange(10), 2, stride=wrong)
        if wrong:
            with pytest.raises(OptionError, match="test"):
                D.Windows.parts(np.arange(1000), 3, test=wrong)
    with pytest.raises(OptionError, match="nothing is left"):
        D.Windows.parts(np.arange(1000), 3, test=0.6, validation=0.4)


def test_documents_are_rows_of_whole_numbers():
    for wrong in ([[1.5]], [["a"]], [[[1]]], [3], None, 3):
        with pytest.raises(DataError, match="pack"):
            D.pack(wrong, 0)
    for separator in ("a", 0.5, None, NAN):
        with pytest.raises(OptionError, match="separator"):
            D.pack([[1]], separator)
    assert D.pack([[], [1]], 0).tolist() == [0, 1, 0]


# ---- files


@pytest.mark.parametrize("path", [None, 3, b"a", "a\0b"])
def test_what_is_no_path(path):
    for read in (D.read_text, D.idx, D.mnist, D.cifar, D.csv, D.mapped, D.stored, D.ImageFolder):
        with pytest.raises(DataError, match="a path is a text"):
            read(path)


@pytest.mark.parametrize("options", [
    {"dtype": "zz"}, {"dtype": "S0"}, {"dtype": "f4", "shape": (-2,)},
    {"dtype": "f4", "shape": (-1, -1)}, {"dtype": "f4", "shape": 5.5},
    {"dtype": "f4", "shape": ("a",)}, {"dtype": "f4", "offset": -5}, {"dtype": "f4", "offset": 1.5},
    {"dtype": "f4", "offset": 500}, {"dtype": "f4", "shape": (100,)},
])  # fmt: skip
def test_plain_numbers_that_are_not_there(raw, options):
    with pytest.raises((DataError, OptionError), match=next(reversed(options))):
        D.mapped(raw, **options)
    assert D.mapped(raw, dtype="f4", shape=5).shape == (5,)
    assert D.mapped(raw, dtype="f4", shape=(-1, 5)).shape == (5, 5)


@pytest.mark.parametrize("size", [3, (3,), (0, 3), (2.5, 2), (-2, 2), ("a", 2), "ab"])
def test_sizes_of_pictures(tmp_path, size):
    with pytest.raises(OptionError, match="size"):
        D.ImageFolder(pictures(tmp_path), size=size)


def test_columns_of_a_table(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("name,age\n1,2\n3,4\n5,6\n")
    with pytest.raises(OptionError, match="target=None"):
        D.csv(path, None)
    with pytest.raises(OptionError, match=r"target=1\.5"):
        D.csv(path, 1.5)
    wide = tmp_path / "w.csv"
    wide.write_text("name,size,age\n1,2,3\n3,4,5\n5,6,7\n")
    assert D.csv(wide, drop="name").columns == ["size"]


# ---- problems and changes


@pytest.mark.parametrize("value", [0, 2.5, "a", None, NAN])
def test_sizes_of_problems(value):
    for make, names in ((D.spirals, ("n", "arms")), (D.sines, ("tasks", "shots", "queries"))):
        for name in names:
            with pytest.raises(OptionError, match=f"{name}="):
                make(**{name: value})


@pytest.mark.parametrize("value", ["a", None, NAN, float("inf")])
def test_shapes_of_spirals(value):
    for name in ("turns", "noise"):
        with pytest.raises(OptionError, match=f"{name}="):
            D.spirals(10, **{name: value})


def test_changes_that_make_no_sense():
    a = D.augment
    for make, name in (
        (lambda: a.shift(-1), "pixels"), (lambda: a.shift(1.5), "pixels"),
        (lambda: a.shift("a"), "pixels"), (lambda: a.shift(1, fill="a"), "fill"),
        (lambda: a.shift(1, fill=NAN), "fill"), (lambda: a.flip(1.5), "axis"),
        (lambda: a.flip(2, 7), "share"), (lambda: a.flip(2, -0.1), "share"),
        (lambda: a.flip(2, NAN), "share"), (lambda: a.noise(-1), "deviation"),
        (lambda: a.noise(NAN), "deviation"), (lambda: a.noise("a"), "deviation"),
        (lambda: a.chain(3), "transforms"), (lambda: a.chain(a.flip(), None), "transforms"),
    ):  # fmt: skip
        with pytest.raises(OptionError, match=name):
            make()


@pytest.mark.parametrize("axis", [0, 3, -3, -4, 9])
def test_a_flip_stays_within_its_picture(axis):
    x = np.arange(18.0).reshape(2, 3, 3)
    with pytest.raises(AxisError, match=r"1 or 2|a picture's own"):
        D.augment.flip(axis)((x,), np.random.default_rng(0))
    left = D.augment.flip(-1, 1.0)((x,), np.random.default_rng(0))[0]
    np.testing.assert_array_equal(left, x[:, :, ::-1])
