"""What a person sees while a run goes on."""

import io

import pytest

from wengert.cli.pictures import Pictures
from wengert.cli.progress import Bar, Lines
from wengert.train import Options, fit

rich = pytest.importorskip("rich.console")


def test_lines_off_a_terminal(tmp_path, capsys):
    fit(Options.of("digits", epochs=2), tmp_path / "r", [Lines()])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    for i, line in enumerate(lines, 1):
        assert line.startswith(f"epoch {i}/2  loss ")
        for part in ("train", "validation", "%", "examples/s"):
            assert part in line


def test_bar_on_a_terminal(tmp_path, monkeypatch):
    screen = io.StringIO()
    console = rich.Console(file=screen, force_terminal=True, width=120)
    fit(Options.of("digits", epochs=2), tmp_path / "r", [Bar(console)])
    shown = screen.getvalue()
    for part in ("epoch 2/2", "loss 0.", "train", "validation", "examples/s", "00:00"):
        assert part in shown


def test_bar_fits_into_80_columns(tmp_path):
    screen = io.StringIO()
    console = rich.Console(file=screen, force_terminal=True, width=80)
    fit(Options.of("digits", epochs=2), tmp_path / "r", [Bar(console)])
    shown = screen.getvalue()
    assert "…" not in shown
    for part in ("epoch 2/2", "loss 0.", "train 9", "val 9", "ex/s", "00:00"):
        assert part in shown


def test_bar_starts_anew_with_new_weights(tmp_path):
    screen = io.StringIO()
    console = rich.Console(file=screen, force_terminal=True, width=120)
    fit(Options.of("xor", epochs=20), tmp_path / "r", [Bar(console)])
    shown = screen.getvalue()
    assert "drawing new weights" in shown
    assert "epoch 20/20" in shown
    assert "epoch 40/20" not in shown


def test_a_picture_does_not_count_as_a_step(tmp_path):
    for name, watchers in (("drawn", [Pictures()]), ("not", [])):
        fit(Options.of("langevin", epochs=50), tmp_path / name, watchers)
    drawn, plain = [(tmp_path / n / "model.safetensors").read_bytes() for n in ("drawn", "not")]
    assert drawn == plain
