"""Object code on disk: found again, and never run when anything about it is wrong."""

import ctypes
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from wengert.errors import WengertWarning

pytest.importorskip("llvmlite", reason="machine code needs the extra `compile`")

from wengert.native import cache, engine, target

KEY = "ab" * 32
CODE = bytes(range(256)) * 40
posix = pytest.mark.skipif(os.name != "posix", reason="owners and modes are POSIX's")


@pytest.fixture
def kept(tmp_path):
    made = cache.Cache(tmp_path / "objects")
    made.put(KEY, CODE)
    assert made.get(KEY) == CODE
    return made


@pytest.fixture(autouse=True)
def warned_anew():
    cache.warn.cache_clear()


def files(made):
    return sorted(p.name for p in made.folder.iterdir())


# ---- keys
def test_a_key_is_all_that_the_code_depends_on(monkeypatch):
    here = target.target()
    one = cache.key("text", here)
    assert one == cache.key("text", here)
    others = [
        cache.key("text2", here),
        cache.key("text", here, level="full"),
        cache.key("text", here, blas="cblas64"),
        *(cache.key("text", target.target(name)) for name in target.present()[1:]),
        cache.key("", here, blas="text"),
    ]
    monkeypatch.setattr(cache, "generator", lambda: "another")
    others.append(cache.key("text", here))
    monkeypatch.undo()
    monkeypatch.setattr(target.llvm(), "llvm_version_info", (99, 0, 0))
    others.append(cache.key("text", here))
    assert len({one, *others}) == len(others) + 1


def test_the_default_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("WENGERT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.default_folder() == tmp_path / "wengert"
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    if os.name == "posix":
        assert cache.default_folder() == tmp_path / "home" / ".cache" / "wengert"
    monkeypatch.setenv("WENGERT_CACHE", str(tmp_path / "own"))
    assert cache.default_folder() == tmp_path / "own"
    monkeypatch.setenv("WENGERT_CACHE", "")
    assert cache.default_folder() is None
    nothing = cache.Cache(None)
    nothing.put(KEY, CODE)
    assert nothing.get(KEY) is None


# ---- entries
def test_kept_and_found(kept):
    assert files(kept) == [KEY]
    assert cache.Cache(kept.folder).get(KEY) == CODE
    assert kept.get("cd" * 32) is None
    kept.put(KEY, b"")
    assert kept.get(KEY) == b""


@posix
def test_nobody_else_can_read_or_write(tmp_path):
    before = os.umask(0)
    try:
        made = cache.Cache(tmp_path / "objects")
        made.put(KEY, CODE)
    finally:
        os.umask(before)
    assert made.folder.stat().st_mode & 0o777 == 0o700
    assert (made.folder / KEY).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("cut", [0, 1, 10, len(cache.MAGIC), 100, 152, 153, 5000])
def test_a_torn_entry_is_not_used(kept, cut):
    path = kept.folder / KEY
    path.write_bytes(path.read_bytes()[:cut])
    assert kept.get(KEY) is None
    kept.put(KEY, CODE)
    assert kept.get(KEY) == CODE


@pytest.mark.parametrize("at", [0, 5, len(cache.MAGIC) + 3, 100, 200, -1])
def test_a_flipped_bit_is_noticed(kept, at):
    path = kept.folder / KEY
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    assert kept.get(KEY) is None


def test_an_entry_under_another_name_is_not_used(kept):
    other = "cd" * 32
    (kept.folder / other).write_bytes((kept.folder / KEY).read_bytes())
    assert kept.get(other) is None
    (kept.folder / KEY).write_bytes((kept.folder / KEY).read_bytes() + b"more")
    assert kept.get(KEY) is None


# ---- trust
def distrusted(made, match):
    with pytest.warns(WengertWarning, match=match):
        assert made.get(KEY) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert made.get(KEY) is None  # said once


@posix
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_folder_that_others_can_write(kept, mode):
    kept.folder.chmod(mode)
    distrusted(kept, "objects can be written by other users")
    cache.warn.cache_clear()
    with pytest.warns(WengertWarning, match="can be written"):
        kept.put("cd" * 32, CODE)
    assert files(kept) == [KEY]
    kept.folder.chmod(0o700)


@posix
def test_a_file_that_others_can_write(kept):
    (kept.folder / KEY).chmod(0o620)
    distrusted(kept, "can be written by other users")
    kept.put(KEY, b"new")  # replaced, not written into
    assert kept.get(KEY) == b"new"


@posix
def test_links_are_not_followed(kept, tmp_path):
    linked = cache.Cache(tmp_path / "linked")
    linked.folder.symlink_to(kept.folder)
    distrusted(linked, "linked is a link")
    cache.warn.cache_clear()
    moved = tmp_path / "moved"
    (kept.folder / KEY).rename(moved)
    (kept.folder / KEY).symlink_to(moved)
    distrusted(kept, "is a link")
    before = moved.read_bytes()
    kept.put(KEY, b"new")
    assert moved.read_bytes() == before
    assert kept.get(KEY) == b"new"


@posix
def test_the_owner_is_checked(kept, monkeypatch):
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    distrusted(kept, "belongs to another user")


@posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="gives files away")
def test_a_file_of_somebody_else(kept):
    os.chown(kept.folder / KEY, 12345, 12345)
    distrusted(kept, "belongs to another user")


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "objects").write_text("something")
    made = cache.Cache(tmp_path / "objects")
    made.put(KEY, CODE)
    assert made.get(KEY) is None


# ---- disks and processes
def test_a_full_disk_is_no_error(kept, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    kept.put("cd" * 32, CODE)
    assert files(kept) == [KEY]  # no temporary file either


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    made = cache.Cache(tmp_path / "file" / "objects")
    made.put(KEY, CODE)
    assert made.get(KEY) is None


@posix
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root writes anywhere")
def test_a_read_only_folder_is_read(kept):
    kept.folder.chmod(0o500)
    assert kept.get(KEY) == CODE
    kept.put("cd" * 32, CODE)
    assert files(kept) == [KEY]
    kept.folder.chmod(0o700)


def test_the_least_recently_used_go_first(tmp_path):
    made = cache.Cache(tmp_path / "objects", limit=5 * 1200)
    keys = [f"{n:064x}" for n in range(6)]
    for n, name in enumerate(keys[:4]):
        made.put(name, bytes(1000))
        os.utime(made.folder / name, (n, n))
    assert made.get(keys[0]) is not None  # used now
    made.put(keys[4], bytes(1000))
    made.put(keys[5], bytes(1000))
    assert files(made) == sorted([keys[0], keys[2], keys[3], keys[4], keys[5]])


def test_what_dead_processes_left_is_swept(kept):
    old, new = kept.folder / ".old", kept.folder / ".new"
    for path in (old, new):
        path.write_text("half")
    os.utime(old, (time.time() - 2 * cache.STALE,) * 2)
    kept.put("cd" * 32, CODE)
    assert files(kept) == [".new", KEY, "cd" * 32]


def test_processes_write_at_the_same_time(tmp_path):
    text = f"""
from pathlib import Path
from wengert.native.cache import Cache
cache = Cache(Path({str(tmp_path / "objects")!r}), limit=200_000)
for n in range(200):
    name = format(n % 7, "064x")
    found = cache.get(name)
    assert found is None or found == bytes([n % 7]) * 5000
    cache.put(name, bytes([n % 7]) * 5000)
"""
    many = [subprocess.Popen([sys.executable, "-c", text]) for _ in range(4)]
    assert [p.wait(60) for p in many] == [0] * 4
    made = cache.Cache(tmp_path / "objects")
    assert files(made) == [format(n, "064x") for n in range(7)]
    assert all(made.get(format(n, "064x")) == bytes([n]) * 5000 for n in range(7))


# ---- compiled once
TEXT = """
define i32 @answer() {
  ret i32 42
}
"""


def test_compiled_once(tmp_path, monkeypatch):
    monkeypatch.setenv("WENGERT_CACHE", str(tmp_path / "objects"))
    here, calls = target.target(), []
    compile_ir = cache.compile_ir
    monkeypatch.setattr(
        cache, "compile_ir", lambda *args, **more: (calls.append(1), compile_ir(*args, **more))[1]
    )
    for _ in range(3):
        assert cache.compiled(TEXT, here).function("answer", ctypes.c_int32)() == 42
    assert len(calls) == 1
    cache.compiled(TEXT, here, level="full")
    assert len(calls) == 2
    monkeypatch.setenv("WENGERT_CACHE", "")
    cache.compiled(TEXT, here)
    assert len(calls) == 3


def test_a_damaged_object_is_compiled_again(tmp_path, monkeypatch):
    monkeypatch.setenv("WENGERT_CACHE", str(tmp_path / "objects"))
    here = target.target()
    cache.compiled(TEXT, here)
    (path,) = (Path(tmp_path) / "objects").iterdir()
    data = path.read_bytes()
    path.write_bytes(data[:-100] + bytes(100))
    assert cache.compiled(TEXT, here).function("answer", ctypes.c_int32)() == 42
    assert path.read_bytes() == data
    assert engine.load(cache.unpacked(data, path.name)).address("answer")


def test_the_generator_is_known_by_its_source():
    assert len(cache.generator()) == 64
