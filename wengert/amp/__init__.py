"""Mixed precision: half numbers where they do no harm, and a scale that keeps gradients alive."""

from .autocast import autocast
from .scaler import GradScaler

__all__ = ["GradScaler", "autocast"]
