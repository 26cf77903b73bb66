"""Object code kept on disk, so that another process loads in a millisecond what this one compiled.

    ~/.cache/wengert        (or under XDG_CACHE_HOME; `WENGERT_CACHE` names another folder,
                            and `WENGERT_CACHE=` turns it off)

What is read from here is run. A folder or a file that is a link, belongs to somebody else or can be
written by others is not used. Every entry says its key and the SHA-256 of what it holds; one that
is torn, damaged or not what its name says is compiled again and replaced, never run.

The key is the SHA-256 of all that the code depends on: the text, the machine, LLVM, llvmlite, this
generator, and the interface of the matrix product. Entries are written beside and renamed, so that
processes may do it at the same time. A disk that is full or read-only means no more than no cache.
"""

from __future__ import annotations

import os
import secrets
import stat
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..errors import WengertWarning
from ..extras import need
from ..version import __version__
from .engine import Library, compile_ir, load
from .target import Target, llvm

__all__ = ["Cache", "cached", "compiled", "generator", "key", "object_code"]

MAGIC = b"wengert object code 1\n"
LIMIT = 256 << 20  # bytes
STALE = 3600.0  # seconds after which a temporary file was left by a process that died
DIRECTORY = getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | os.O_RDONLY
READ = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | os.O_RDONLY
WRITE = READ | os.O_WRONLY | os.O_CREAT | os.O_EXCL
RELATIVE = os.open in os.supports_dir_fd  # files can be opened relative to a folder held open


class Untrusted(Exception):
    """Why a folder or a file is not to be used."""


@lru_cache(1)
def generator() -> str:
    """The version of the code that writes the code: wengert's, and its own source."""
    digest = sha256(__version__.encode())
    with suppress(OSError):
        house = Path(__file__).parents[1]
        rooms = house / "native", house / "compile"
        for path in sorted(p for room in rooms for p in room.rglob("*.py")):
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def key(text: str, target: Target, *, level: str = "quick", blas: str = "") -> str:
    """The name under which object code is kept.

    Args:
        text: the assembly, or anything else that determines it for this generator.
        target, level: as `compile_ir` takes them.
        blas: the interface of the matrix product that the code calls, `Blas.name`.
    """
    parts = (
        text, target.name, target.triple, target.cpu, target.features, level, blas, generator(),
        str(llvm().llvm_version_info), need("llvmlite", extra="compile").__version__,
    )  # fmt: skip
    digest = sha256()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def default_folder() -> Path | None:
    own = os.environ.get("WENGERT_CACHE")
    if own is not None:
        return Path(own).expanduser() if own.strip() else None
    shared = os.environ.get("XDG_CACHE_HOME", "")
    try:
        base = Path(shared) if os.path.isabs(shared) else Path.home() / ".cache"
    except RuntimeError:  # a user without a home
        return None
    return base / "wengert"


class Cache:
    """Entries in one folder.

    Args:
        folder: made with access for its owner alone when the first entry is kept; None: no cache.
        limit: bytes of all entries; beyond it the least recently used ones are removed.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     cache = Cache(Path(folder) / "objects")
        ...     cache.put("0" * 64, b"code")
        ...     cache.get("0" * 64), cache.get("1" * 64)
        (b'code', None)
    """

    def __init__(self, folder: Path | None, limit: int = LIMIT) -> None:
        self.folder, self.limit = folder, limit

    def get(self, key: str) -> bytes | None:
        """What was kept under a key, whole and unaltered; None if there is no such thing."""
        if self.folder is None:
            return None
        try:
            with opened(self.folder) as at, opened_file(self.folder, at, key) as file:
                check(os.fstat(file), stat.S_ISREG, self.folder / key)
                with suppress(OSError):  # used now; a read-only disk does not remember
                    os.utime(file)
                with os.fdopen(os.dup(file), "rb") as f:
                    return unpacked(f.read(), key)
        except Untrusted as why:
            warn(str(why))
        except OSError:
            pass
        return None

    def put(self, key: str, code: bytes) -> None:
        """Keep code under a key; nothing happens where that is not possible."""
        if self.folder is None:
            return
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with opened(self.folder) as at:
                self.write(at, key, packed(code, key))
                self.trim(at)
        except Untrusted as why:
            warn(str(why))
        except OSError:
            pass

    def write(self, at: int | None, key: str, data: bytes) -> None:
        folder = self.folder or Path()
        name = f".{key[:16]}-{os.getpid()}-{secrets.token_hex(8)}"
        file = os.open(place(folder, name), WRITE, 0o600, **inside(at))
        try:
            with os.fdopen(file, "wb") as f:
                f.write(data)
            os.replace(
                place(folder, name), place(folder, key), **inside(at, "src_dir_fd", "dst_dir_fd")
            )
        except BaseException:
            with suppress(OSError):
                os.unlink(place(folder, name), **inside(at))
            raise

    def trim(self, at: int | None) -> None:
        """Remove the least recently used entries beyond the limit, and what dead processes left."""
        folder = self.folder or Path()
        entries = []
        with os.scandir(at if RELATIVE and at is not None else folder) as found:
            for entry in found:
                with suppress(OSError):
                    about = entry.stat(follow_symlinks=False)
                    entries.append((about.st_mtime, about.st_size, entry.name))
        entries.sort()
        total = sum(size for _, size, name in entries if name[0] != ".")
        for used, size, name in entries:
            dead = name[0] == "." and used < time.time() - STALE
            if dead or (name[0] != "." and total > self.limit):
                with suppress(OSError):
                    os.unlink(place(folder, name), **inside(at))
                    total -= 0 if dead else size


def inside(at: int | None, *names: str) -> dict[str, Any]:
    """How the functions of `os` are told of a folder held open."""
    return dict.fromkeys(names or ("dir_fd",), at) if RELATIVE else {}


def place(folder: Path, name: str) -> str:
    return name if RELATIVE else str(folder / name)


@contextmanager
def opened(folder: Path) -> Iterator[int | None]:
    """A folder that nobody else can write, held open so that it cannot be exchanged."""
    if not RELATIVE:
        check(os.lstat(folder), stat.S_ISDIR, folder)
        yield None
        return
    try:
        at = os.open(folder, DIRECTORY)
    except OSError:
        if folder.is_symlink():
            raise Untrusted(f"{folder} is a link") from None
        raise
    try:
        check(os.fstat(at), stat.S_ISDIR, folder)
        yield at
    finally:
        os.close(at)


@contextmanager
def opened_file(folder: Path, at: int | None, name: str) -> Iterator[int]:
    try:
        file = os.open(place(folder, name), READ, **inside(at))
    except OSError:
        if (folder / name).is_symlink():
            raise Untrusted(f"{folder / name} is a link") from None
        raise
    try:
        yield file
    finally:
        os.close(file)


def check(about: os.stat_result, kind: Callable[[int], bool], path: Path) -> None:
    if not kind(about.st_mode):
        raise Untrusted(f"{path} is something else than it should be")
    if os.name != "posix":
        return
    if about.st_uid != os.geteuid():
        raise Untrusted(f"{path} belongs to another user")
    if about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Untrusted(f"{path} can be written by other users")


@lru_cache(None)
def warn(why: str) -> None:
    """Once for each reason."""
    warnings.warn(
        f"compiled code is not kept or read: {why}; WENGERT_CACHE names another folder",
        WengertWarning,
        stacklevel=4,
    )


def packed(code: bytes, key: str) -> bytes:
    return MAGIC + key.encode() + b"\n" + sha256(code).hexdigest().encode() + b"\n" + code


def unpacked(data: bytes, key: str) -> bytes | None:
    """The code of an entry, if the entry is what it should be."""
    head = len(MAGIC) + 2 * 65
    code = data[head:]
    return code if data[:head] == packed(code, key)[:head] else None


# ---- compiled or read
def kept(key: str) -> bool:
    """Whether there is an entry of this name."""
    return Cache(default_folder()).get(key) is not None


def cached(key: str, make: Callable[[], bytes]) -> bytes:
    """The object kept under a key, or else a new one, which is kept."""
    cache = Cache(default_folder())
    found = cache.get(key)
    if found is None:
        found = make()
        cache.put(key, found)
    return found


def object_code(text: str, target: Target, *, level: str = "quick", blas: str = "") -> bytes:
    """`compile_ir`, unless the same was compiled before."""
    return cached(
        key(text, target, level=level, blas=blas), lambda: compile_ir(text, target, level=level)
    )


def compiled(text: str, target: Target, *, level: str = "quick", blas: str = "") -> Library:
    """A module in memory, compiled or read."""
    return load(object_code(text, target, level=level, blas=blas))
