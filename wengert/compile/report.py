"""What `.explain()` says."""

from __future__ import annotations

from typing import Any


def explained(compiled: Any) -> str:
    return repr(compiled)
