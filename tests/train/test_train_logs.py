"""TensorBoard's files: read by an independent parser here, and by TensorBoard where it is."""

import struct
from itertools import pairwise

import numpy as np
import pytest

from wengert.errors import OutputError
from wengert.train import Options, fit
from wengert.train.logs import EventFile, TensorBoard, crc32c, scalars, varint

pytest.importorskip("safetensors.numpy")


def bitwise_crc32c(data):
    """The definition: division of polynomials, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        for i in range(8):
            bit = (crc ^ byte >> i) & 1
            crc = crc >> 1 ^ (0x82F63B78 if bit else 0)
    return crc ^ 0xFFFFFFFF


def fields(data):
    """(number, wire type, value) of a message of protocol buffers."""
    i = 0

    def whole():
        nonlocal i
        n = shift = 0
        while True:
            n |= (data[i] & 127) << shift
            shift += 7
            i += 1
            if data[i - 1] < 128:
                return n

    while i < len(data):
        key = whole()
        number, wire = key >> 3, key & 7
        if wire == 0:
            value = whole()
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
            (value,) = struct.unpack("<d" if wire == 1 else "<f", data[i : i + size])
            i += size
        else:
            size = whole()
            value, i = data[i : i + size], i + size
        yield number, wire, value


def events(content):
    """The events of a file, with both checksums of every record checked."""
    i = 0
    while i < len(content):
        length, check = struct.unpack_from("<QI", content, i)
        data = content[i + 12 : i + 12 + length]
        (check_data,) = struct.unpack_from("<I", content, i + 12 + length)
        for part, sum_ in ((content[i : i + 8], check), (data, check_data)):
            crc = bitwise_crc32c(part)
            assert sum_ == ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) % 2**32
        i += 16 + length
        yield {number: value for number, _, value in fields(data)}


def values(event):
    found = {}
    for _, _, value in fields(event[5]):
        parts = {number: v for number, _, v in fields(value)}
        found[parts[1].decode()] = parts[2]
    return found


def test_checksums_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    for n in (0, 1, 7, 100):
        data = rng.bytes(n)
        assert crc32c(data) == bitwise_crc32c(data)
    assert crc32c(b"\0" * 32) == 0x8A9136AA  # RFC 3720, appendix B.4


def test_whole_numbers():
    for n in (0, 1, 127, 128, 2**31, 2**63 - 1):
        (found,) = [v for _, _, v in fields(b"\x08" + varint(n))]
        assert found == n
    assert len(varint(-1)) == 10


def test_an_event_file_holds_the_rows_of_its_run(tmp_path):
    outcome = fit(Options.of("digits", epochs=3), tmp_path / "run", [TensorBoard()])
    (path,) = (tmp_path / "run").glob("events.out.tfevents.*")
    first, *rest = events(path.read_bytes())
    assert first[3] == b"brain.Event:2"
    assert [e.get(2, 0) for e in rest] == [1, 2, 3, 3]
    for row, event in zip(outcome.rows, rest):
        assert values(event) == pytest.approx(scalars(row), rel=1e-6)
        assert {"loss", "accuracy/train", "accuracy/validation", "lr"} <= values(event).keys()
    assert values(rest[-1]) == pytest.approx({"accuracy/test": outcome.accuracy}, rel=1e-6)
    assert all(a[1] <= b[1] for a, b in pairwise(rest))


def test_tensorboard_reads_it(tmp_path):
    name = "tensorboard.backend.event_processing.event_accumulator"
    reader = pytest.importorskip(name)
    with EventFile(tmp_path) as file:
        for step in range(5):
            file.add(step, {"loss": 1 / (step + 1), "größe/é": float(step)})
    found = reader.EventAccumulator(str(tmp_path))
    found.Reload()
    assert [e.step for e in found.Scalars("loss")] == list(range(5))
    assert [e.value for e in found.Scalars("größe/é")] == [0, 1, 2, 3, 4]


def test_two_files_in_one_folder_and_one_that_cannot_be(tmp_path):
    with EventFile(tmp_path) as a, EventFile(tmp_path) as b:
        assert a.path != b.path
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        EventFile(tmp_path / "file" / "inside")
