"""Views, transforms, texts and sequences: batches are what the plain arrays say."""

from itertools import pairwise

import numpy as np
import pytest

from wengert.data import (
    BPE,
    Arrays,
    Bytes,
    Characters,
    Concat,
    Dataset,
    Loader,
    Map,
    Sequences,
    Standardise,
    Subset,
    Windows,
    augment,
    bundled,
    collate,
    digits,
    pack,
    python_help,
    read_text,
    spirals,
    split,
)
from wengert.errors import DataError, OptionError, ShapeError, UnknownNameError


def test_subset_and_concat_are_indexing_and_concatenation():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((7, 2)), rng.standard_normal((5, 2))
    both = Concat([Arrays(a, np.arange(7)), Arrays(b, np.arange(7, 12)), Arrays(a, np.arange(7))])
    whole = np.concatenate([a, b, a])
    for _ in range(20):
        rows = rng.integers(0, 19, 6)
        x, _ = both.batch(rows)
        np.testing.assert_array_equal(x, whole[rows])
        some = Subset(both, rows)
        np.testing.assert_array_equal(some.batch(np.array([3, 0]))[0], whole[rows[[3, 0]]])
    assert len({both.sha256, some.sha256, Subset(both, rows[::-1]).sha256}) == 3
    assert Subset(both, whole[:, 0] > 0).batch(slice(None))[0][:, 0].min() > 0


def test_sources_of_other_shapes_are_not_joined():
    both = Concat([Arrays(np.arange(3.0)), Arrays(np.ones((2, 3)))])
    with pytest.raises(ShapeError, match=r"their items are unlike: \[\], \[3\]"):
        both.batch(np.array([0, 3]))


@pytest.mark.parametrize("rows", [[7], [-8], [0.5], [True, False]])
def test_rows_that_are_not_there(rows):
    with pytest.raises(OptionError, match="numbers of examples, from 0 to 6"):
        Subset(Arrays(np.arange(7.0)), rows)


def test_any_source_can_be_split():
    parts = split(Concat([spirals(300), spirals(300, seed=1)]), labels=np.arange(600) % 3)
    rows = [set(part.rows.tolist()) for part in parts]
    assert sum(map(len, rows)) == 600 == len(set.union(*rows))
    for part in parts:
        np.testing.assert_allclose(np.bincount(part.rows % 3) / len(part), 1 / 3, atol=0.02)


def test_arrays_of_different_length_are_refused():
    with pytest.raises(ShapeError, match="first axes must be equally long"):
        Arrays(np.ones(3), np.ones(3), np.ones(4))
    with pytest.raises(ShapeError, match="has no axis"):
        Arrays(np.float64(3))
    with pytest.raises(OptionError):
        Arrays()


@pytest.mark.parametrize("chunk", [3, 7, 1000])
def test_standardisation_is_that_of_the_training_part_alone(chunk):
    rng = np.random.default_rng(0)
    x = np.concatenate([1e6 + rng.standard_normal((100, 2)), np.full((100, 1), 3.0)], axis=1)
    parts = Dataset(x, np.zeros((100, 1))).split()
    standard = Standardise.fit(parts.train, chunk=chunk)
    own = parts.train.images
    np.testing.assert_allclose(standard.mean, own.mean(0), rtol=1e-15)
    np.testing.assert_allclose(standard.deviation[:2], own.std(0)[:2], rtol=1e-9)
    test, _ = standard.parts(parts).test.batch(slice(None))
    np.testing.assert_allclose(
        test[:, :2], (parts.test.images - own.mean(0))[:, :2] / own.std(0)[:2]
    )
    assert (test[:, 2] == 0).all()
    assert standard.parts(parts).train.sha256 == parts.train.sha256


def test_standardising_what_is_not_finite():
    with pytest.raises(DataError, match="not finite"):
        Standardise.fit(Arrays(np.array([1.0, np.nan])))


def test_a_map_changes_batches():
    doubled = Map(digits(), lambda batch: (2 * batch[0], batch[1]))
    assert (doubled.name, len(doubled)) == ("digits", 1797)
    np.testing.assert_array_equal(doubled.batch([5])[0], 2 * digits().images[[5]])


@pytest.mark.parametrize(
    "name", ["breast_cancer", "diabetes", "digits", "iris", "linnerud", "wine"]
)
def test_the_sets_of_scikit_learn(name):
    theirs = getattr(pytest.importorskip("sklearn.datasets"), f"load_{name}")()
    ours = bundled(name)
    np.testing.assert_array_equal(ours.images, theirs.data)
    np.testing.assert_array_equal(ours.labels.reshape(theirs.target.shape), theirs.target)
    assert len(ours.columns) == ours.images.shape[1]
    assert ours.citation


def test_a_set_that_is_not_there():
    with pytest.raises(UnknownNameError, match=r"fix: bundled\('iris'\)"):
        bundled("irsi")


# ---- random changes


def test_shifts_are_shifts():
    x = np.random.default_rng(0).random((40, 6, 5, 2))
    (y,) = augment.shift(1, fill=9.0)((x,), np.random.default_rng(1))
    wide = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=9.0)
    seen = set()
    for a, b in zip(y, wide, strict=True):
        cases = {(i, j): b[i : i + 6, j : j + 5] for i in range(3) for j in range(3)}
        (found,) = [at for at, case in cases.items() if np.array_equal(a, case)]
        seen.add(found)
    assert len(seen) == 9


def test_flips_and_noise():
    x = np.random.default_rng(0).random((1000, 3, 4)).astype(np.float32)
    (y,) = augment.flip()((x,), np.random.default_rng(1))
    same = (y == x).all((1, 2))
    np.testing.assert_array_equal(y[~same], x[~same][:, :, ::-1])
    assert abs(same.mean() - 0.5) < 4 * 0.5 / np.sqrt(1000)
    (z,) = augment.noise(0.25)((x,), np.random.default_rng(1))
    assert z.dtype == x.dtype
    assert abs((z - x).std() - 0.25) < 4 * 0.25 / np.sqrt(2 * x.size)
    with pytest.raises(ShapeError, match="pictures have the axes"):
        augment.flip()((np.ones(3),), np.random.default_rng(0))


def test_changes_are_keyed_by_seed_epoch_and_batch():
    source = Dataset(np.zeros((20, 3, 3)), np.arange(20))
    make = lambda: Loader(source, 6, seed=3, transform=augment.noise(1.0))
    a = make()
    first = [list(a) for _ in range(3)]
    b = make()
    list(b)
    half = iter(b)
    next(half), next(half)
    c = make()
    c.load_state_dict(b.state_dict())
    for x, y in zip([*c, *c], first[1][2:] + first[2], strict=True):
        np.testing.assert_array_equal(x[0], y[0])
    assert len({batch[0].tobytes() for epoch in first for batch in epoch}) == 12


# ---- text


@pytest.mark.parametrize("make", [Characters, lambda t: Bytes(), lambda t: BPE(t, 400)])
def test_tokens_give_the_text_back(make):
    text = python_help()[:20_000] + "\n\t é ∑ 😀 _x_ 12.5\r\n"
    vocabulary = make(text)
    tokens = vocabulary.encode(text)
    assert tokens.dtype == np.int64
    assert 0 <= tokens.min() <= tokens.max() < len(vocabulary)
    assert vocabulary.decode(tokens.tolist()) == text
    assert vocabulary.decode([]) == ""


def naive_bpe(words, size):
    """The obvious algorithm: count all pairs anew for every merge."""
    words = [[bytes([b]) for b in w] for w in words]
    table = [bytes([i]) for i in range(256)]
    while len(table) < size:
        counts = {}
        for w in words:
            for pair in pairwise(w):
                counts[pair] = counts.get(pair, 0) + 1
        if not counts:
            break
        ranks = {p: (n, -table.index(p[0]), -table.index(p[1])) for p, n in counts.items()}
        best = max(ranks, key=ranks.get)
        if counts[best] < 2:
            break
        table.append(best[0] + best[1])
        for w in words:
            i = 0
            while i + 1 < len(w):
                if (w[i], w[i + 1]) == best:
                    w[i : i + 2] = [best[0] + best[1]]
                i += 1
    return table


def test_byte_pairs_are_those_of_the_obvious_algorithm():
    text = python_help()[:3000]
    bpe = BPE(text, 330)
    assert bpe.tokens == naive_bpe([w.encode() for w in BPE.WORD.findall(text)], 330)
    assert "".join(BPE.WORD.findall(text)) == text
    assert len(bpe.encode(text)) < 0.7 * len(text.encode())
    assert bpe.decode(bpe.encode("żółw 😀").tolist()) == "żółw 😀"


def test_a_character_that_is_not_in_the_alphabet():
    with pytest.raises(DataError) as caught:
        Characters("abc").encode("abxc")
    assert "the character 'x' is not in the alphabet" in str(caught.value)
    assert "place    : 2" in str(caught.value)


@pytest.mark.parametrize(("n", "length", "stride"), [(11, 3, 3), (10, 3, 1), (4, 3, 3), (50, 7, 2)])
def test_windows_are_slices(n, length, stride):
    tokens = np.random.default_rng(0).integers(0, 9, n)
    windows = Windows(tokens, length, stride=stride)
    starts = [s for s in range(0, n, stride) if s + length + 1 <= n]
    assert len(windows) == len(starts)
    x, y = windows.batch(slice(None))
    for i, s in enumerate(starts):
        np.testing.assert_array_equal(x[i], tokens[s : s + length])
        np.testing.assert_array_equal(y[i], tokens[s + 1 : s + length + 1])


def test_windows_of_a_mapped_file_and_a_position_in_them(tmp_path):
    np.save(tmp_path / "t.npy", np.arange(1000, dtype=np.uint16))
    windows = Windows(np.load(tmp_path / "t.npy", mmap_mode="r"), 10)
    a = Loader(windows, 8, seed=0)
    it = iter(a)
    next(it)
    b = Loader(windows, 8, seed=0)
    b.load_state_dict(a.state_dict())
    assert all((p[0] == q[0]).all() for p, q in zip(it, b, strict=True))
    with pytest.raises(DataError, match="fix: length=4"):
        Windows(np.arange(5), 5)


def test_packing_loses_nothing():
    documents = [[1, 2], [], [3]]
    assert pack(documents, 0).tolist() == [1, 2, 0, 0, 3, 0]
    assert pack([], 0).tolist() == []


@pytest.mark.parametrize(
    ("content", "rule"),
    [(b"ab\n\xff", "byte 3, line 2: 0xff"), (b" \n", "there is no text"), (None, "No such file")],
)
def test_files_that_are_no_text(tmp_path, content, rule):
    if content is not None:
        (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(DataError, match=rule):
        read_text(tmp_path / "a.txt")


def test_line_ends_and_marks_of_other_systems(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfa\r\nb")
    assert read_text(tmp_path / "a.txt") == "a\nb"


# ---- sequences


def test_padding_keeps_every_place():
    rng = np.random.default_rng(0)
    rows = [rng.standard_normal((n, 2)) for n in (3, 0, 5)]
    filled, lengths = collate(rows, fill=-7.0)
    assert filled.shape == (3, 5, 2)
    for row, own, n in zip(filled, rows, lengths, strict=True):
        np.testing.assert_array_equal(row[:n], own)
        assert (row[n:] == -7).all()
    with pytest.raises(ShapeError, match="fix: length=5"):
        collate(rows, length=4)
    with pytest.raises(ShapeError, match="all axes but the first"):
        collate([np.ones((2, 3)), np.ones((2, 2))])
    source = Sequences(rows, np.array([7, 8, 9]), length=6)
    filled, lengths, labels = source.batch(np.array([2, 1]))
    assert (filled.shape, lengths.tolist(), labels.tolist()) == ((2, 6, 2), [5, 0], [9, 8])
    with pytest.raises(ShapeError, match="one label for each"):
        Sequences(rows, np.ones(2))
