"""PyTorch's `torch.autograd.graph`: nodes, and hooks on what they keep."""

from ..trace import Node
from ..transforms.disk import save_on_disk
from ..transforms.hooks import AccumulateGrad, Handle
from ..transforms.residuals import saved_tensors_hooks

__all__ = ["AccumulateGrad", "Handle", "Node", "save_on_disk", "saved_tensors_hooks"]
