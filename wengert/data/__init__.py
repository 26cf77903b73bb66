"""Sources of examples, and batches of them."""

from .bundled import bundled
from .dataset import Arrays, Dataset, Parts
from .digits import digits
from .loader import Batch, Loader, Source
from .synthetic import sines, spirals
from .truth import xor
from .views import Concat, Map, Standardise, Subset, split

__all__ = [
    "Arrays",
    "Batch",
    "Concat",
    "Dataset",
    "Loader",
    "Map",
    "Parts",
    "Source",
    "Standardise",
    "Subset",
    "bundled",
    "digits",
    "sines",
    "spirals",
    "split",
    "xor",
]
