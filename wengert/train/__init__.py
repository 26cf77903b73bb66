"""Training: recipes, the loop, and the run folder it leaves behind."""

from .checkpoint import Checkpoints
from .config import OPTIMIZERS, Options, read_config
from .folder import RunFolder
from .loop import Outcome, Run, Stopped, Watcher, fit, load, resume
from .recipe import Recipe, find
from .recipes import RECIPES
from .step import Step, StepReport, tokens

__all__ = [
    "OPTIMIZERS",
    "RECIPES",
    "Checkpoints",
    "Options",
    "Outcome",
    "Recipe",
    "Run",
    "RunFolder",
    "Step",
    "StepReport",
    "Stopped",
    "Watcher",
    "find",
    "fit",
    "load",
    "read_config",
    "resume",
    "tokens",
]
