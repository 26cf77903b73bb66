"""The functions behind the layers, and the losses."""

from wengert.numpy.reduce import log_softmax, logsumexp, softmax
from wengert.ops.elementwise import gelu, log_sigmoid, relu, sigmoid, silu, softplus, tanh
from wengert.ops.road import linear

from .conv import conv1d, conv2d, conv3d, conv_transpose1d, conv_transpose2d, conv_transpose3d
from .losses import cross_entropy, l1_loss, mse_loss

__all__ = [
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
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
