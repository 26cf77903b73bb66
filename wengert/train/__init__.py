"""Training: recipes, the loop, and the run folder it leaves behind."""

from .checkpoint import Checkpoints
from .config import OPTIMIZERS, Options, read_config
from .folder import RunFolder
from .guard import Guard, guard
from .heap import keep_memory
from .loop import Outcome, Run, Stopped, Watcher, fit, resume
from .memory import Breakdown, memory
from .noise import GradientNoiseReport, gradient_noise
from .recipe import Recipe, find
from .recipes import RECIPES
from .step import Step, StepReport, tokens
from .use import Trained, load, open_run

__all__ = [
    "OPTIMIZERS",
    "RECIPES",
    "Breakdown",
    "Checkpoints",
    "GradientNoiseReport",
    "Guard",
    "Options",
    "Outcome",
    "Recipe",
    "Run",
    "RunFolder",
    "Step",
    "StepReport",
    "Stopped",
    "Trained",
    "Watcher",
    "find",
    "fit",
    "gradient_noise",
    "guard",
    "keep_memory",
    "load",
    "memory",
    "open_run",
    "read_config",
    "resume",
    "tokens",
]
