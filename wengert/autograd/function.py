"""Where PyTorch's programs import `once_differentiable` from."""

from ..transforms.function import Context, Function, once_differentiable

__all__ = ["Context", "Function", "once_differentiable"]
