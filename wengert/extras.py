"""Optional dependencies, imported in one place and only when something needs them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .errors import MissingExtraError

__all__ = ["need"]


def need(module: str, extra: str) -> Any:
    """The module, or an error that names the extra which brings it.

    Args:
        module: what to import, such as `rich.progress`.
        extra: the extra of the wengert package that installs it.

    Raises:
        MissingExtraError: the module, or a package that holds it, is not installed.

    Example:
        >>> need("json", extra="train").dumps([1, 2])
        '[1, 2]'
        >>> need("no_such_module", extra="train")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        wengert.MissingExtraError: [WG304] import no_such_module: no_such_module is not installed
          fix: pip install 'wengert[train]'
          at:  ...
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if (error.name or "").partition(".")[0] != package:
            raise
        raise MissingExtraError(
            f"import {module}",
            f"{package} is not installed",
            fix=f"pip install 'wengert[{extra}]'",
        ) from None
