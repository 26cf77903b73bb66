"""Sources of examples, and batches of them."""

from .bundled import bundled
from .dataset import Arrays, Dataset, Parts
from .digits import digits
from .loader import Batch, Loader, Source
from .sequences import Sequences, collate
from .synthetic import sines, spirals
from .text import BPE, Bytes, Characters, Vocabulary, Windows, pack, python_help, read_text
from .truth import xor
from .views import Concat, Map, Standardise, Subset, split

__all__ = [
    "BPE",
    "Arrays",
    "Batch",
    "Bytes",
    "Characters",
    "Concat",
    "Dataset",
    "Loader",
    "Map",
    "Parts",
    "Sequences",
    "Source",
    "Standardise",
    "Subset",
    "Vocabulary",
    "Windows",
    "bundled",
    "collate",
    "digits",
    "pack",
    "python_help",
    "read_text",
    "sines",
    "spirals",
    "split",
    "xor",
]
