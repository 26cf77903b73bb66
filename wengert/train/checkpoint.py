"""Checkpoints: all that the rest of a run depends on, in one file that is whole or not there.

A checkpoint is a safetensors file: arrays by name, and in its metadata a JSON object with the plain
numbers, and the SHA-256 of both. It is written beside its final name and moved over it. The one
before is kept, so that a damaged file costs an epoch and not the run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wengert.errors import CheckpointError, verbatim
from wengert.extras import need

from .folder import RunFolder

__all__ = [
    "Checkpoints",
    "check_same",
    "digest",
    "other_run",
    "pack",
    "read_weights",
    "unpack",
]

State = dict[str, Any]


def pack(state: Mapping[str, Any]) -> bytes:
    """A nested dict of arrays and of what JSON can hold, as one file.

    Example:
        >>> state = {"epoch": 3, "weights": {"w": np.ones(2)}, "seed": 2**70}
        >>> unpack(pack(state))
        {'epoch': 3, 'weights': {'w': array([1., 1.])}, 'seed': 1180591620717411303424}
    """
    arrays: dict[str, NDArray[Any]] = {}
    text = json.dumps(_plain(state, arrays))
    about = {"state": text, "sha256": digest(text, arrays)}
    content: bytes = need("safetensors.numpy", extra="train").save(arrays, about)
    return content


def unpack(content: bytes) -> State:
    """What `pack` was given.

    Raises:
        ValueError: the bytes are not those that `pack` made.
    """
    try:
        size = int.from_bytes(content[:8], "little")
        about = json.loads(content[8 : 8 + size])["__metadata__"]
        arrays = need("safetensors.numpy", extra="train").load(content)
        text, kept = about["state"], about["sha256"]
    except Exception as error:  # safetensors has errors of its own for every kind of damage
        raise ValueError(f"not a checkpoint: {error or type(error).__name__}") from None
    if digest(text, arrays) != kept:
        raise ValueError("its checksum does not fit its content")
    state: State = _whole(json.loads(text), arrays)
    return state


def read_weights(path: Path) -> State:
    """The weights in a `model.safetensors`, by name.

    Raises:
        ValueError: they are not those that were saved.
    """
    opened = need("safetensors", extra="train").safe_open
    try:
        with opened(path, "numpy") as file:
            told = json.loads((file.metadata() or {}).get("wengert", "{}"))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    except Exception as error:  # safetensors has errors of its own for every kind of damage
        raise ValueError(f"model.safetensors is damaged: {error}") from None
    kept = told.pop("sha256", None)
    if kept is not None and kept != digest(json.dumps(told), weights):
        raise ValueError("model.safetensors is damaged: its numbers are not those that were saved")
    return weights


def check_same(path: Path, now: Mapping[str, Any], state: State) -> None:
    """Refuse a checkpoint of a run with other options."""
    missing = object()
    then = state.get("options", {"recipe": state["recipe"]})
    other = [k for k in {**now, **then} if k in then and now.get(k, missing) != then[k]]
    if other:
        raise other_run(path, [
            (k, verbatim(f"{now.get(k, 'nothing')} in config.toml, {then[k]} in the checkpoint"))
            for k in other
        ])  # fmt: skip


def other_run(path: Path, operands: list[tuple[str, Any]]) -> CheckpointError:
    """The error for a checkpoint that does not belong to the `config.toml` beside it."""
    return CheckpointError(
        f"resuming {path}", "the checkpoint is not one of the run in config.toml",
        operands=operands,
        fix=f"bring the old config.toml back, or start anew: wengert train {path / 'config.toml'}",
    )  # fmt: skip


def _plain(value: Any, arrays: dict[str, NDArray[Any]]) -> Any:
    """What JSON can hold, with a name in the place of every array, which goes into `arrays`."""
    if isinstance(value, np.ndarray):
        name = f"a{len(arrays)}"
        arrays[name] = np.array(value, order="C", copy=None)
        return {"__array__": name}
    if isinstance(value, Mapping):
        return {str(k): _plain(v, arrays) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, arrays) for v in value]
    return value.item() if isinstance(value, np.generic) else value


def _whole(value: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    """The inverse."""
    if isinstance(value, dict):
        if value.keys() == {"__array__"}:
            return arrays[value["__array__"]]
        return {k: _whole(v, arrays) for k, v in value.items()}
    return [_whole(v, arrays) for v in value] if isinstance(value, list) else value


def digest(text: str, arrays: Mapping[str, NDArray[Any]]) -> str:
    """The SHA-256 of a text and of arrays with their names."""
    total = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        a = arrays[name]
        total.update(f"{name}{a.dtype.str}{a.shape}".encode())
        total.update(a.tobytes())
    return total.hexdigest()


class Checkpoints:
    """The checkpoints in a run folder: the last one, and the one before.

    Args:
        folder: the run folder.
    """

    NAMES = ("checkpoint.safetensors", "checkpoint-before.safetensors")

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def save(self, state: Mapping[str, Any]) -> None:
        """Write a checkpoint; the last one becomes the one before."""
        last, before = self.NAMES
        self.folder.write(last, pack(state), keep=before)

    def tidy(self) -> None:
        """Drop the checkpoint before the last, once a run is over."""
        (self.folder.path / self.NAMES[1]).unlink(missing_ok=True)

    def load(self, tell: Callable[[str], None] = lambda text: None) -> State:
        """The last checkpoint that is whole.

        Args:
            tell: called with a message for every damaged one.

        Raises:
            CheckpointError: there is none, or all are damaged.
        """
        faults: list[tuple[str, Any]] = []
        for name in self.NAMES:
            path = Path(self.folder.path) / name
            try:
                state = unpack(path.read_bytes())
            except (OSError, ValueError) as error:
                fault = getattr(error, "strerror", None) or str(error)
                if faults or not isinstance(error, FileNotFoundError):
                    faults.append((name, verbatim(fault)))
                else:
                    faults.append((name, verbatim("there is none")))
                continue
            if faults:
                tell(f"{faults[0][0]}: {faults[0][1]}; going on from the one before, {name}")
            return state
        raise CheckpointError(
            f"resuming {self.folder.path}", "there is no checkpoint to go on from", operands=faults
        )
