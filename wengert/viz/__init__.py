"""Pictures: training curves, gradient norms, and computational graphs, all as SVG."""

from .curves import accuracy_and_loss, gradient_norms
from .graph import graph
from .raster import grid, png
from .swell import swell

__all__ = ["accuracy_and_loss", "gradient_norms", "graph", "grid", "png", "swell"]
