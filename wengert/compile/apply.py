"""Compiled functions under derivatives and batches."""

from __future__ import annotations

from typing import Any


def recorded_call(compiled: Any, variant: Any, leaves: list[Any], drawn: list[Any]) -> Any:
    raise NotImplementedError
