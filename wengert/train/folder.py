"""The run folder: files that are whole, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from pathlib import Path

from wengert.data.asked import path_of
from wengert.errors import OptionError, OutputError, verbatim

__all__ = ["RunFolder"]


class RunFolder:
    """A new folder for one run, and two ways to write into it that never leave half a file.

    Args:
        path: the folder; it may exist, but not hold a run already. Its parents are made.

    Raises:
        OutputError: it cannot be made or written, or holds a run. Nothing is changed then.

    Example:
        >>> import tempfile
        >>> place = tempfile.mkdtemp()
        >>> folder = RunFolder(f"{place}/run")
        >>> folder.write("a.txt", b"whole")
        >>> folder.append("b.txt", "one line")
        >>> sorted(p.name for p in folder.path.iterdir())
        ['a.txt', 'b.txt']
    """

    FILES = ("config.toml", "metrics.jsonl", "model.safetensors", "checkpoint.safetensors")

    def __init__(self, path: str | Path) -> None:
        self.path = path_of(f"writing {path!r}", path)
        if not str(path):
            raise OutputError("writing a run", "the name of its folder is empty", fix="--out .")
        taken = [name for name in self.FILES if os.path.exists(self.path / name)]
        if taken:
            raise OutputError(
                self._what(),
                f"there is a run in this folder already ({', '.join(taken)})",
                fix=f"--out {_free(self.path)}",
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._refusal(error) from None

    @classmethod
    def fresh(cls, name: str, root: str | Path = "runs") -> RunFolder:
        """`runs/<name>-<date>-<time>`, with a number behind if that is taken."""
        path = Path(root) / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
        return cls(_free(path) if path.exists() else path)

    @classmethod
    def of(cls, path: str | Path) -> RunFolder:
        """The folder of a run that is there already, to go on with it."""
        folder = object.__new__(cls)
        folder.path = Path(path)
        return folder

    def write(self, name: str, content: bytes, keep: str = "") -> None:
        """Replace a file in one step: after a failure the old one is still there, whole.

        Args:
            name: of the file.
            content: all of it.
            keep: a name under which the old one is kept.
        """
        beside = self.path / f".{name}.part"
        try:
            try:
                with open(beside, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                if keep and (self.path / name).exists():
                    os.replace(self.path / name, self.path / keep)
                os.replace(beside, self.path / name)
            except BaseException:
                beside.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise self._refusal(error, name) from None

    def append(self, name: str, line: str) -> None:
        """Add one line; after a failure the file ends where it ended before."""
        try:
            with open(self.path / name, "ab", buffering=0) as file:
                before = file.seek(0, os.SEEK_END)
                try:
                    rest = memoryview(f"{line}\n".encode())
                    while rest:
                        rest = rest[file.write(rest) :]
                except BaseException:
                    with suppress(OSError):  # the first error is the one to report
                        file.truncate(before)
                    raise
        except OSError as error:
            raise self._refusal(error, name) from None

    def _what(self, name: str = "") -> str:
        return f"writing {self.path / name if name else f'{self.path}{os.sep}'}"

    def _refusal(self, error: OSError, name: str = "") -> OutputError:
        kept = [n for n in self.FILES if os.path.exists(self.path / n)]
        note = f"; {', '.join(kept)} of the last whole epoch are there" if kept else ""
        fix = {
            PermissionError: "--out with a folder that you may write",
            FileExistsError: "--out with a name that is not a file",
            NotADirectoryError: "--out with a path that does not go through a file",
        }.get(type(error))
        if error.errno in (errno.ENOSPC, errno.EDQUOT) and "checkpoint.safetensors" in kept:
            fix = f"make room, then wengert train --resume {self.path}"
        return OutputError(self._what(name), f"{error.strerror or error}{note}", fix=fix)


def _free(path: Path) -> Path:
    """The first of path-2, path-3, ... that does not exist."""
    n = 2
    while (other := path.with_name(f"{path.name}-{n}")).exists():
        n += 1
    return other


def no_run(path: Path) -> OptionError:
    """The error for a folder without a run, with the runs that are near."""
    near = path if os.path.isdir(path) else path.parent  # a name may be too long to ask for
    found = sorted(p.parent.name for p in near.glob("*/config.toml")) if near.is_dir() else []
    rule = "there is no such folder"
    if os.path.isdir(path):
        rule = "there is no run in this folder: it has no config.toml"
    elif os.path.exists(path):
        rule = "this is a file, and a run is a folder"
    elif not near.is_dir():
        found = sorted(str(p.parent) for p in Path("runs").glob("*/config.toml"))
    return OptionError(
        f"opening {path}", rule,
        operands=[("runs", verbatim(", ".join(found[:8])))] if found else [],
    )  # fmt: skip
