"""Metrics as TensorBoard's event files, written without TensorBoard.

A file is a row of records: the length of the data, a checksum of the length, the data, and a
checksum of the data. The data is an `Event` in the encoding of protocol buffers:

    Event    1: double wall_time   2: int64 step   3: string file_version   5: Summary summary
    Summary  1: repeated Value     Value  1: string tag   2: float simple_value

References:
    TensorFlow: tensorflow/core/lib/io/record_writer.h, tensorflow/core/util/event.proto,
    tensorflow/core/framework/summary.proto. RFC 3720, appendix B.4, for CRC-32C.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wengert.errors import OutputError

from .loop import Outcome, Run, Watcher

__all__ = ["EventFile", "TensorBoard", "crc32c", "scalars"]

CASTAGNOLI = 0x82F63B78  # the polynomial, with its bits reversed


def _table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (CASTAGNOLI if byte & 1 else 0)
        table.append(byte)
    return table


TABLE = _table()


def crc32c(data: bytes) -> int:
    """The cyclic redundancy check with Castagnoli's polynomial.

    Example:
        >>> hex(crc32c(b"123456789"))
        '0xe3069283'
    """
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> bytes:
    """The checksum as the records have it: turned by 15 bits, plus a constant."""
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def record(data: bytes) -> bytes:
    """One record of the file."""
    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


def varint(n: int) -> bytes:
    """A whole number, seven bits a byte, the lowest first; negative ones as 64 bits.

    Example:
        >>> varint(300)
        b'\\xac\\x02'
    """
    n &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def nested(number: int, data: bytes) -> bytes:
    """A field that holds a message or a text."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def event(step: int, at: float, *, values: Mapping[str, float] | None = None) -> bytes:
    """An event with scalars by name; without them, the one that a file begins with."""
    head = b"\x09" + struct.pack("<d", at) + b"\x10" + varint(step)
    if values is None:
        return head + nested(3, b"brain.Event:2")
    one = [
        nested(1, nested(1, tag.encode()) + b"\x15" + struct.pack("<f", value))
        for tag, value in values.items()
    ]
    return head + nested(5, b"".join(one))


def scalars(row: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of a row of metrics by their tags; parts and layers become groups.

    Example:
        >>> scalars({"epoch": 2, "loss": 0.5, "train_accuracy": 0.9, "grad_norm": {"head": 2.0}})
        {'loss': 0.5, 'accuracy/train': 0.9, 'grad_norm/head': 2.0}
    """
    found: dict[str, float] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            found |= scalars(value, f"{key}/")
        elif isinstance(value, int | float) and key != "epoch":
            part, _, name = key.partition("_")
            of_a_part = part in ("train", "validation") and name and not prefix
            found[f"{name}/{part}" if of_a_part else f"{prefix}{key}"] = float(value)
    return found


class EventFile:
    """A file of scalars that TensorBoard shows; every write leaves whole records.

    Args:
        folder: it is made if it is not there; TensorBoard shows the files of a folder as one run.

    Raises:
        OutputError: it cannot be written.

    Example:
        >>> import tempfile
        >>> with EventFile(tempfile.mkdtemp()) as events:
        ...     events.add(1, {"loss": 0.5})
        ...     events.path.name.startswith("events.out.tfevents.")
        True
    """

    def __init__(self, folder: str | Path) -> None:
        now = time.time()
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            n = 0
            while (path := Path(folder) / f"events.out.tfevents.{int(now)}.wengert.{n}").exists():
                n += 1
            self.path = path
            self._file = open(path, "wb", buffering=0)  # noqa: SIM115 - closed by `close`
        except OSError as error:
            raise OutputError(f"writing {folder}", error.strerror or str(error)) from None
        self._write(event(0, now))

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Scalars by tag, at a step."""
        self._write(event(step, time.time(), values=values))

    def _write(self, data: bytes) -> None:
        before = self._file.tell()
        rest = memoryview(record(data))
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self._file.truncate(before)
            raise OutputError(f"writing {self.path}", error.strerror or str(error)) from None

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> EventFile:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()


class TensorBoard(Watcher):
    """Every reported row of a run, as an event file in its folder.

    A run that is resumed begins another file; it holds the rows from there on.

    Example:
        >>> import tempfile
        >>> from wengert.train import Options, fit
        >>> place = Path(tempfile.mkdtemp()) / "run"
        >>> done = fit(Options.of("digits", epochs=1), place, [TensorBoard()])
        >>> len(list(place.glob("events.out.tfevents.*")))
        1
    """

    events: EventFile

    def begin(self, run: Run) -> None:
        self.events = EventFile(run.folder.path)

    def epoch(self, run: Run, row: Mapping[str, Any]) -> None:
        self.events.add(row["epoch"], scalars(row))

    def end(self, run: Run, outcome: Outcome | None) -> None:
        if not hasattr(self, "events"):  # the run broke off before it began
            return
        if outcome is not None:
            values = {f"{name}/test": value for name, value in outcome.measures.items()}
            self.events.add(run.epoch, values)
        self.events.close()
