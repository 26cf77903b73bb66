"""The run folder keeps what was whole, whole."""

import errno
import os
import sys

import pytest

from wengert.errors import OutputError
from wengert.train import RunFolder
from wengert.train import folder as module


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def names(path):
    return sorted(p.name for p in path.iterdir())


def test_write_replaces_and_append_adds(tmp_path):
    folder = RunFolder(tmp_path / "deep" / "run")
    folder.write("model.safetensors", b"one")
    folder.write("model.safetensors", b"two")
    folder.append("metrics.jsonl", "1")
    folder.append("metrics.jsonl", "é")
    assert (folder.path / "model.safetensors").read_bytes() == b"two"
    assert (folder.path / "metrics.jsonl").read_text(encoding="utf-8") == "1\né\n"
    assert names(folder.path) == ["metrics.jsonl", "model.safetensors"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_while_writing_leaves_the_old_file(tmp_path, monkeypatch, step):
    folder = RunFolder(tmp_path / "run")
    folder.write("model.safetensors", b"whole")
    monkeypatch.setattr(module.os, step, full)
    with pytest.raises(OutputError) as caught:
        folder.write("model.safetensors", b"torn")
    text = str(caught.value)
    assert "No space left on device" in text
    assert "model.safetensors of the last whole epoch are there" in text
    assert (folder.path / "model.safetensors").read_bytes() == b"whole"
    assert names(folder.path) == ["model.safetensors"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_a_full_disk_while_appending_is_an_output_error(tmp_path):
    folder = RunFolder(tmp_path / "run")
    (folder.path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(OutputError, match="No space left on device"):
        folder.append("metrics.jsonl", "row")


@pytest.mark.skipif(sys.platform == "win32", reason="no limits on file sizes there")
def test_a_line_that_does_not_fit_is_taken_back(tmp_path):
    import resource
    import signal

    folder = RunFolder(tmp_path / "run")
    folder.append("metrics.jsonl", "a whole line")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, before[1]))
        with pytest.raises(OutputError, match="too large"):
            folder.append("metrics.jsonl", "a line that is too long for the rest")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert (folder.path / "metrics.jsonl").read_text() == "a whole line\n"


def test_ctrl_c_while_writing_leaves_no_part_behind(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path / "run")
    folder.write("config.toml", b"old")

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        folder.write("config.toml", b"new")
    assert names(folder.path) == ["config.toml"]
    assert (folder.path / "config.toml").read_bytes() == b"old"


def test_a_folder_with_a_run_is_not_written_again(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.write("config.toml", b"precious")
    with pytest.raises(OutputError) as caught:
        RunFolder(tmp_path / "run")
    assert "there is a run in this folder already (config.toml)" in str(caught.value)
    assert f"fix: --out {tmp_path / 'run-2'}" in str(caught.value)
    assert (folder.path / "config.toml").read_bytes() == b"precious"


def test_a_path_through_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError) as caught:
        RunFolder(tmp_path / "file" / "run")
    assert "Not a directory" in str(caught.value)
    assert "fix: --out with a path that does not go through a file" in str(caught.value)
    with pytest.raises(OutputError, match="File exists"):
        RunFolder(tmp_path / "file")


def test_a_folder_without_permission_is_refused(tmp_path, monkeypatch):
    def denied(*_args, **_options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(module.Path, "mkdir", denied)  # root may write everywhere
    with pytest.raises(OutputError) as caught:
        RunFolder(tmp_path / "run")
    assert "Permission denied" in str(caught.value)
    assert "fix: --out with a folder that you may write" in str(caught.value)


def test_fresh_folders_do_not_collide(tmp_path, monkeypatch):
    monkeypatch.setattr(module.time, "strftime", lambda _: "now")
    paths = [RunFolder.fresh("xor", tmp_path).path.name for _ in range(3)]
    assert paths == ["xor-now", "xor-now-2", "xor-now-3"]
