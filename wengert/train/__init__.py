"""Training: recipes, the loop, and the run folder it leaves behind."""

from .config import Options, read_config
from .folder import RunFolder
from .loop import Outcome, Run, Stopped, Watcher, fit, load
from .recipes import OPTIMIZERS, RECIPES, Recipe, find

__all__ = [
    "OPTIMIZERS",
    "RECIPES",
    "Options",
    "Outcome",
    "Recipe",
    "Run",
    "RunFolder",
    "Stopped",
    "Watcher",
    "find",
    "fit",
    "load",
    "read_config",
]
