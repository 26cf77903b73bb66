"""Sources of examples, and batches of them."""

from . import augment
from .bundled import bundled
from .dataset import Arrays, Dataset, Parts
from .digits import digits
from .images import ImageFolder
from .loader import Batch, Loader, Source
from .published import cifar, idx, mnist
from .sequences import Sequences, collate
from .stored import mapped, stored
from .synthetic import sines, spirals
from .table import Table, csv
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
    "ImageFolder",
    "Loader",
    "Map",
    "Parts",
    "Sequences",
    "Source",
    "Standardise",
    "Subset",
    "Table",
    "Vocabulary",
    "Windows",
    "augment",
    "bundled",
    "cifar",
    "collate",
    "csv",
    "digits",
    "idx",
    "mapped",
    "mnist",
    "pack",
    "python_help",
    "read_text",
    "sines",
    "spirals",
    "split",
    "stored",
    "xor",
]
