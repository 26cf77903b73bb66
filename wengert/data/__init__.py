"""Sources of examples, and batches of them."""

from .dataset import Dataset, Parts
from .digits import digits
from .loader import Batch, Loader, Source
from .truth import xor

__all__ = ["Batch", "Dataset", "Loader", "Parts", "Source", "digits", "xor"]
