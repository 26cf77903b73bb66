"""Data sets that travel with the package."""

from .dataset import Dataset, Parts
from .digits import digits
from .truth import xor

__all__ = ["Dataset", "Parts", "digits", "xor"]
