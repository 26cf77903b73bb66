"""PyTorch's `torch.autograd`, in its words, on the one tape of the house.

`grad` and `backward` are in `engine`, whole derivatives of functions in `functional`, nodes and
hooks on what they keep in `graph`.

>>> import wengert as wg
>>> x = wg.tensor([1.0, 2.0], requires_grad=True)
>>> wg.autograd.grad((x * x).sum(), x)
(tensor([2., 4.]),)
"""

import importlib
from typing import Any

from ..trace import enable_grad, no_grad
from ..transforms.modes import inference_mode, is_grad_enabled, set_grad_enabled
from . import functional, graph
from .engine import backward, grad

__all__ = [
    "backward",
    "enable_grad",
    "functional",
    "grad",
    "graph",
    "inference_mode",
    "is_grad_enabled",
    "no_grad",
    "set_grad_enabled",
]


def __getattr__(name: str) -> Any:
    if name == "Function":
        return importlib.import_module("wengert.transforms.function").Function
    if name == "function":
        return importlib.import_module("wengert.autograd.function")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
