"""Neural networks: modules in PyTorch's manner that are pytrees too, and their functions."""

from . import functional, init
from .convolution import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from .layers import GELU, Linear, ReLU, Sequential, Sigmoid, Softplus, Tanh
from .module import Module, Parameter, watch

__all__ = [
    "GELU",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
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
