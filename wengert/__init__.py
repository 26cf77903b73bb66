"""wengert: backpropagation for NumPy."""

from . import numpy, tree
from .create import full, ones, tensor, zeros
from .errors import WengertError, explain
from .numpy.reduce import log_softmax, logsumexp, softmax
from .numpy.select import where
from .ops.elementwise import erf, erfc, gelu, log_sigmoid, relu, sigmoid, silu, softplus
from .ops.road import cross_entropy
from .trace import Tensor, enable_grad, no_grad
from .transforms.jacobian import hessian, hvp, jacfwd, jacobian, jacrev
from .transforms.jvp import jvp
from .transforms.vjp import grad, value_and_grad, vjp
from .transforms.vmap import vmap
from .version import __version__
