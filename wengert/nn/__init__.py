"""Neural networks: modules in PyTorch's manner that are pytrees too, and their functions."""

from . import functional, init
from .layers import GELU, Linear, ReLU, Sequential, Sigmoid, Softplus, Tanh
from .module import Module, Parameter, watch

__all__ = [
    "GELU",
    "Linear",
    "Module",
    "Parameter",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Softplus",
    "Tanh",
    "functional",
    "init",
    "watch",
]
