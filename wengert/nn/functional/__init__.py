"""The functions behind the layers, and the losses."""

from wengert.numpy.reduce import log_softmax, logsumexp, softmax
from wengert.ops.elementwise import gelu, log_sigmoid, relu, sigmoid, silu, softplus, tanh
from wengert.ops.road import linear

from .losses import cross_entropy, l1_loss, mse_loss

__all__ = [
    "cross_entropy",
    "gelu",
    "l1_loss",
    "linear",
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "mse_loss",
    "relu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
]
