"""Files of every kind are read as what they are, and refused by name and place if they are not."""

import gzip
import pickle

import numpy as np
import pytest

from wengert.data import ImageFolder, Loader, cifar, csv, idx, mapped, mnist, stored
from wengert.errors import DataError, UnknownNameError

# ---- memory-mapped


def test_mapped_arrays_equal_loaded_ones(tmp_path):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((7, 3)), rng.integers(0, 9, (4, 5, 2)).astype("<u2")
    np.save(tmp_path / "a.npy", np.asfortranarray(a))
    np.savez(tmp_path / "both.npz", a=a, b=b, none=np.zeros((0, 3)))
    b.tofile(tmp_path / "b.raw")
    for found, wanted in (
        (mapped(tmp_path / "a.npy"), a),
        (mapped(tmp_path / "both.npz", "a"), a),
        (mapped(tmp_path / "both.npz", "b"), b),
        (mapped(tmp_path / "both.npz", "none"), np.zeros((0, 3))),
        (mapped(tmp_path / "b.raw", dtype="<u2", shape=(-1, 5, 2)), b),
        (mapped(tmp_path / "b.raw", dtype="<u2", offset=4), b.ravel()[2:]),
    ):
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)
        assert isinstance(found, np.memmap) or not found.size
        assert not found.flags.writeable or not found.size


def test_a_batch_reads_its_own_rows_of_a_large_file(tmp_path):
    with open(tmp_path / "large.npy", "wb") as file:  # 8 GB that take no place on the disk
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f8", "fortran_order": False, "shape": (1_000_000, 1000)}
        )
        file.truncate(file.tell() + 8_000_000_000)
    source = np.load(tmp_path / "large.npy", mmap_mode="r")
    assert mapped(tmp_path / "large.npy").shape == source.shape
    np.savez(tmp_path / "small.npz", x=np.arange(12.0).reshape(6, 2), y=np.arange(6))
    x, y = stored(tmp_path / "small.npz", "x", "y").batch(np.array([5, 1]))
    assert x.tolist() == [[10, 11], [2, 3]]
    assert y.tolist() == [5, 1]
    assert type(x) is np.ndarray
    import wengert.data

    big = wengert.data.Arrays(mapped(tmp_path / "large.npy"))
    assert big.batch(np.array([999_999, 3]))[0].shape == (2, 1000)


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda p: mapped(p / "none.npy"), "No such file"),
        (lambda p: mapped(p / "cut.npy"), "cut off"),
        (lambda p: mapped(p / "text.npy"), "not an array of NumPy's"),
        (lambda p: mapped(p / "text.npz"), "not a .npz file"),
        (lambda p: mapped(p / "objects.npy"), "Python objects, which are never loaded"),
        (lambda p: mapped(p / "packed.npz", "x"), "compressed, so it cannot be mapped"),
        (lambda p: mapped(p / "text.raw"), "plain numbers have no header"),
        (lambda p: mapped(p / "text.raw", dtype="<f8", shape=(100,)), "cut off"),
        (lambda p: stored(p / "none.npz"), "No such file"),
    ],
)
def test_arrays_that_cannot_be_mapped(tmp_path, make, rule):
    np.save(tmp_path / "cut.npy", np.ones(100))
    whole = (tmp_path / "cut.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:-1])
    for name in ("text.npy", "text.npz", "text.raw"):
        (tmp_path / name).write_text("some text")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez_compressed(tmp_path / "packed.npz", x=np.ones(9))
    with pytest.raises(DataError, match=rule):
        make(tmp_path)


def test_an_array_that_is_not_in_the_file(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones(2), y=np.ones(2))
    with pytest.raises(UnknownNameError, match="known : x, y"):
        mapped(tmp_path / "a.npz", "z")


# ---- tables

PETS = "kind;weight;age\ncat; 4.0;3\n\ndog;20;5\ncat;?;1\n"


def test_a_table_of_numbers_and_words(tmp_path):
    (tmp_path / "pets.csv").write_text(PETS, encoding="utf-8-sig")
    pets = csv(tmp_path / "pets.csv", "kind", fill="median")
    assert pets.columns == ["weight", "age"]
    assert pets.images.tolist() == [[4, 3], [20, 5], [12, 1]]
    assert (pets.labels.tolist(), pets.classes) == ([0, 1, 0], ["cat", "dog"])
    rows = csv(tmp_path / "pets.csv", "age", fill="row")
    assert rows.labels.tolist() == [[3], [5]]
    assert rows.columns == ["kind=cat", "kind=dog", "weight"]
    assert rows.categories == {"kind": ["cat", "dog"]}
    gaps = csv(tmp_path / "pets.csv", fill="nan", drop=["kind"])
    np.testing.assert_array_equal(gaps.images, [[4], [20], [np.nan]])


def test_a_table_without_a_header_and_with_quotes(tmp_path):
    (tmp_path / "a.csv").write_text('1,"a, b",2\n3,"c ""d""",4\n')
    found = csv(tmp_path / "a.csv", header=False)
    assert found.columns == ["0", "1=a, b", '1=c "d"']
    assert found.labels.tolist() == [[2], [4]]


def test_unknown_words_and_targets(tmp_path):
    (tmp_path / "a.csv").write_text("x,kind,y\n1,a,1\n2,,2\n3,b,NA\n")
    found = csv(tmp_path / "a.csv", fill="mean")
    assert found.columns == ["x", "kind=a", "kind=unknown"]  # the row with b has no target
    assert len(found) == 2


@pytest.mark.parametrize(
    ("text", "how", "message"),
    [
        ("a,b\n1,2\nx,3\n", {}, "column 'a': line 3: a number was expected"),
        ("a,b\nx,2\n1,3\n", {}, "column 'a': line 3: a number among words"),
        ("a,b\n1,2\n1,2,3\n", {}, "line 3 has 3 cells, the first one 2"),
        ("a,b\n1,\n,2\n3,\n", {"target": "a"}, "line 3, column 'a' is unknown"),
        ("a,b\n1,\n3,\n", {"target": "a"}, "line 2, column 'b' is unknown, and so are 1 more"),
        ("", {}, "there is nothing in it"),
        ("a,b\n", {"header": True}, "there are no rows under the header"),
        ("a,a\n1,2\n", {}, "two columns are called 'a'"),
        ('a,b\n1,"2\n', {}, "line 2: unexpected end of data"),
        ("a\n1\n", {}, "no column besides the target"),
        ("a,b\n1,2\n", {"delimiter": ",,"}, "it is one character, or None"),
    ],
)
def test_tables_that_are_not_right(tmp_path, text, how, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError) as caught:
        csv(tmp_path / "a.csv", **how)
    assert message in str(caught.value)
    assert "a.csv" in str(caught.value)


def test_a_column_that_is_not_there(tmp_path):
    (tmp_path / "a.csv").write_text("price,size\n1,2\n")
    with pytest.raises(UnknownNameError) as caught:
        csv(tmp_path / "a.csv", target="prize")
    assert "fix: did you mean price?" in str(caught.value)
    with pytest.raises(UnknownNameError, match="there are 2 columns"):
        csv(tmp_path / "a.csv", target=2)
    with pytest.raises(DataError, match="No such file"):
        csv(tmp_path / "b.csv")


# ---- MNIST and CIFAR


def idx_bytes(array):
    codes = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}
    kind = codes[array.dtype.str[1:]]
    axes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return (
        bytes([0, 0, kind, array.ndim])
        + axes
        + array.astype(array.dtype.newbyteorder(">")).tobytes()
    )


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_of_every_kind(tmp_path, dtype, packed):
    wanted = np.arange(24).reshape(2, 3, 4).astype(dtype)
    content = idx_bytes(wanted)
    (tmp_path / "a").write_bytes(gzip.compress(content) if packed else content)
    found = idx(tmp_path / "a")
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)


def test_mnist_from_its_four_files(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 28, 28), dtype=np.uint8)
    labels = rng.integers(0, 10, 5, dtype=np.uint8)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images)))
    (tmp_path / "train-labels.idx1-ubyte").write_bytes(idx_bytes(labels))
    found = mnist(tmp_path)
    np.testing.assert_allclose(found.images[..., 0], images / 255, rtol=1e-6)
    assert found.labels.tolist() == labels.tolist()
    with pytest.raises(DataError, match="there is no t10k-images-idx3-ubyte"):
        mnist(tmp_path, "test")
    (tmp_path / "train-labels.idx1-ubyte").write_bytes(idx_bytes(images))
    with pytest.raises(DataError, match="has 3 axes, not 1"):
        mnist(tmp_path)


@pytest.mark.parametrize("classes", [10, 100])
def test_cifar_has_its_colours_last(tmp_path, classes):
    rng = np.random.default_rng(0)
    planes = rng.integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
    labels = rng.integers(0, classes, 4, dtype=np.uint8)
    head = labels[:, None] if classes == 10 else np.stack([labels * 0, labels], 1)
    (tmp_path / "a.bin").write_bytes(np.concatenate([head, planes.reshape(4, -1)], 1).tobytes())
    found = cifar(tmp_path / "a.bin", tmp_path / "a.bin", classes=classes)
    assert found.images.shape == (8, 32, 32, 3)
    np.testing.assert_allclose(found.images[2, 5, 7], planes[2, :, 5, 7] / 255, rtol=1e-6)
    assert found.labels.tolist() == [*labels, *labels]


class Bomb:
    def __reduce__(self):
        return (exec, ("raise AssertionError('code in a pickle was run')",))


@pytest.mark.parametrize(
    ("read", "content", "rule"),
    [
        (idx, b"", "not an IDX file"),
        (idx, b"GIF89a", "begins : 47 49 46 38"),
        (idx, bytes([0, 0, 8, 1, 0, 0, 0, 9, 1, 2]), "cut off"),
        (idx, bytes([0, 0, 8, 1, 0, 0, 0, 1, 1, 2]), "longer than its array"),
        (idx, gzip.compress(b"abc" * 99)[:-9], "its compression is damaged"),
        (cifar, pickle.dumps(Bomb()), "this is a pickle"),
        (cifar, b"\0" * 3000, "no multiple of 3073 bytes"),
        (cifar, b"\x0b" + b"\0" * 3072, "image 0 has the label 11 of 10"),
    ],
)
def test_damaged_files_are_named(tmp_path, read, content, rule):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(DataError) as caught:
        read(tmp_path / "file")
    assert rule in str(caught.value)
    assert str(tmp_path / "file") in str(caught.value)


# ---- pictures


@pytest.fixture
def folder(tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for kind in ("cat", "dog"):
        (tmp_path / kind).mkdir()
        for i in range(3):
            pixels = rng.integers(0, 256, (10, 8, 3), dtype=np.uint8)
            pillow.fromarray(pixels).save(tmp_path / kind / f"{i}.png")
    return tmp_path


def test_pictures_by_folder(folder):
    pillow = pytest.importorskip("PIL.Image")
    source = ImageFolder(folder)
    x, y = source.batch(np.array([4, 0]))
    assert (x.shape, x.dtype, y.tolist()) == ((2, 10, 8, 3), np.float32, [1, 0])
    wanted = np.asarray(pillow.open(folder / "dog" / "1.png")) / 255
    np.testing.assert_allclose(x[0], wanted, rtol=1e-6)
    assert ImageFolder(folder, size=(6, 6), channels=1).batch(slice(0, 3))[0].shape == (3, 6, 6, 1)
    a = list(Loader(source, 2, seed=1, prefetch=2))
    b = list(Loader(source, 2, seed=1))
    assert all((p == q).all() for x, y in zip(a, b, strict=True) for p, q in zip(x, y))


def test_a_picture_that_cannot_be_decoded_is_named(folder):
    before = ImageFolder(folder).sha256
    whole = (folder / "dog" / "2.png").read_bytes()
    (folder / "dog" / "2.png").write_bytes(whole[: len(whole) // 2])
    source = ImageFolder(folder)
    assert source.sha256 != before
    source.batch(np.arange(5))
    with pytest.raises(DataError) as caught:
        source.batch(np.array([5]))
    assert str(folder / "dog" / "2.png") in str(caught.value)


def test_pictures_of_different_sizes(folder):
    pillow = pytest.importorskip("PIL.Image")
    pillow.new("RGB", (9, 9)).save(folder / "dog" / "3.png")
    with pytest.raises(DataError, match=r"fix: size=\(10, 8\)"):
        ImageFolder(folder).batch(np.array([6]))
    assert ImageFolder(folder, size=(5, 5)).batch(np.array([6]))[0].shape == (1, 5, 5, 3)


def test_folders_without_pictures(tmp_path):
    pytest.importorskip("PIL.Image")
    with pytest.raises(DataError, match="no such folder"):
        ImageFolder(tmp_path / "none")
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataError, match="folders : cat"):
        ImageFolder(tmp_path)
