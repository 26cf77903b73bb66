"""The transforms: each turns a function into another function."""

from . import methods

__all__ = ["methods"]
