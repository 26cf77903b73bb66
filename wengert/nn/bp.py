"""Backpropagation by hand: the four equations, as textbooks write them, for an L-layer network.

With columns for examples, l = 1..L, and a^0 = x,

    z^l = W^l a^(l-1) + b^l          a^l = sigma^l(z^l)          C = C(a^L, y)

(BP1)  delta^L = grad_a C * sigma'(z^L)                     the error of the output
(BP2)  delta^l = (W^(l+1)^T delta^(l+1)) * sigma'(z^l)      the error, one layer back
(BP3)  dC/db^l = delta^l
(BP4)  dC/dW^l = delta^l a^(l-1)^T

where delta^l = dC/dz^l and * is elementwise. For a batch of m examples C is the mean of theirs,
the errors are columns next to each other, and (BP3) and (BP4) are means over the columns.

Nothing here is recorded: it is NumPy alone, and the tests hold the tape against it.

References:
    D. Rumelhart, G. Hinton, R. Williams (1986), Learning representations by back-propagating
    errors, Nature 323.
    M. Nielsen (2015), Neural Networks and Deep Learning, chapter 2, from where the names are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wengert.errors import ShapeError, UnknownNameError, verbatim

__all__ = [
    "ACTIVATIONS",
    "COSTS",
    "Activation",
    "Cost",
    "Forward",
    "Network",
    "Weights",
    "backprop",
    "forward",
    "output_error",
    "previous_error",
    "weight_gradients",
]

Array = NDArray[Any]


class Activation(NamedTuple):
    """sigma, and the map delta_a -> sigma'(z) delta_a, given z and a = sigma(z)."""

    f: Callable[[Array], Array]
    pull: Callable[[Array, Array, Array], Array]


class Cost(NamedTuple):
    """C(a, y) of each column, and grad_a C."""

    f: Callable[[Array, Array], Array]
    gradient: Callable[[Array, Array], Array]


def _sigmoid(z: Array) -> Array:
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1.0, e) / (1.0 + e)


def _softmax(z: Array) -> Array:
    e = np.exp(z - z.max(axis=0, keepdims=True))
    return e / e.sum(axis=0, keepdims=True)


ACTIVATIONS: dict[str, Activation] = {
    "identity": Activation(lambda z: z, lambda d, z, a: d),
    "sigmoid": Activation(_sigmoid, lambda d, z, a: d * a * _sigmoid(-z)),
    "tanh": Activation(np.tanh, lambda d, z, a: d / np.cosh(np.clip(z, -300, 300)) ** 2),
    "relu": Activation(lambda z: np.maximum(z, 0.0), lambda d, z, a: d * (z > 0)),
    # not elementwise: its Jacobian diag(a) - a a^T takes the place of sigma'
    "softmax": Activation(_softmax, lambda d, z, a: a * (d - (a * d).sum(axis=0, keepdims=True))),
}
COSTS: dict[str, Cost] = {
    "quadratic": Cost(lambda a, y: ((a - y) ** 2).sum(axis=0) / 2, lambda a, y: a - y),
    "cross-entropy": Cost(lambda a, y: -(y * np.log(a)).sum(axis=0), lambda a, y: -y / a),
    "binary cross-entropy": Cost(
        lambda a, y: -(y * np.log(a) + (1 - y) * np.log1p(-a)).sum(axis=0),
        lambda a, y: (a - y) / (a * (1 - a)),
    ),
}


class Weights(NamedTuple):
    """A weight and a bias for each layer, l = 1..L; or their gradients.

    Shapes: W^l `[n_l, n_(l-1)]`, b^l `[n_l, 1]`.
    """

    W: tuple[Array, ...]
    b: tuple[Array, ...]


class Forward(NamedTuple):
    """z^1..z^L, and a^0..a^L."""

    z: tuple[Array, ...]
    a: tuple[Array, ...]


class Network(NamedTuple):
    """What stays fixed: the activation of every layer, and the cost, by name."""

    activations: tuple[str, ...]
    cost: str = "quadratic"

    def weights(self, sizes: Sequence[int], rng: Any = None) -> Weights:
        """Fresh weights with variance 1 / n_(l-1), and biases 0, for layers of these sizes."""
        rng = np.random.default_rng(rng)
        if len(sizes) != len(self.activations) + 1:
            raise ShapeError(
                "Network.weights(sizes)", "a size for the input and one for every layer",
                operands=[("sizes", verbatim(tuple(sizes))),
                          ("layers", verbatim(len(self.activations)))],
            )  # fmt: skip
        pairs = list(zip(sizes[1:], sizes))
        return Weights(
            tuple(rng.normal(size=(n, m)) / np.sqrt(m) for n, m in pairs),
            tuple(np.zeros((n, 1)) for n, _ in pairs),
        )


def forward(network: Network, weights: Weights, x: Array) -> Forward:
    """All z^l and a^l.

    Shapes: x `[n_0]` for one example, or `[n_0, m]` with a column for each of m.

    Example:
        >>> network = Network(("sigmoid", "sigmoid"))
        >>> forward(network, network.weights([2, 3, 1], rng=0), np.ones((2, 5))).a[-1].shape
        (1, 5)
    """
    a = x[:, None] if x.ndim == 1 else x
    zs: list[Array] = []
    activations = [a]
    for name, W, b in zip(network.activations, *weights, strict=True):
        if W.shape[1] != a.shape[0]:
            raise ShapeError(
                "forward(network, weights, x)", "the layers do not go together",
                operands=[(f"W^{len(zs) + 1}", W), (f"a^{len(zs)}", a)],
            )  # fmt: skip
        zs.append(W @ a + b)
        a = _known("activation", name, ACTIVATIONS).f(zs[-1])
        activations.append(a)
    return Forward(tuple(zs), tuple(activations))


def output_error(network: Network, f: Forward, y: Array) -> Array:
    """(BP1)  delta^L = grad_a C * sigma'(z^L).

    For a softmax with its cross-entropy, and a sigmoid with the binary one, the product is a - y
    exactly; it is written so, as the quotient in grad_a C would lose digits.
    """
    last, a = network.activations[-1], f.a[-1]
    if (last, network.cost) in {
        ("softmax", "cross-entropy"),
        ("sigmoid", "binary cross-entropy"),
        ("identity", "quadratic"),
    }:
        return np.asarray(a * y.sum(axis=0) - y if last == "softmax" else a - y)
    grad = _known("cost", network.cost, COSTS).gradient(a, y)
    return ACTIVATIONS[last].pull(grad, f.z[-1], a)


def previous_error(network: Network, weights: Weights, f: Forward, l: int, delta: Array) -> Array:
    """(BP2)  delta^l = (W^(l+1)^T delta^(l+1)) * sigma'(z^l), from delta = delta^(l+1), l >= 1."""
    sigma = ACTIVATIONS[network.activations[l - 1]]
    return sigma.pull(weights.W[l].T @ delta, f.z[l - 1], f.a[l])


def weight_gradients(delta: Array, before: Array) -> tuple[Array, Array]:
    """(BP4) and (BP3):  dC/dW = delta a^(l-1)^T,  dC/db = delta;  means over the columns."""
    m = delta.shape[1]
    return delta @ before.T / m, delta.mean(axis=1, keepdims=True)


def backprop(network: Network, weights: Weights, x: Array, y: Array) -> tuple[float, Weights]:
    """The cost and its gradient, by the four equations.

    Shapes: x `[n_0]` and y `[n_L]` for one example, or `[n_0, m]` and `[n_L, m]` for m of them.

    Returns:
        (C, dC/dW and dC/db), with C the mean over the examples.

    Example:
        >>> network = Network(("identity",), "quadratic")
        >>> cost, g = backprop(network, Weights((np.eye(2),), (np.zeros((2, 1)),)),
        ...                    np.array([1.0, 2.0]), np.array([0.0, 2.0]))
        >>> cost, g.W[0].tolist(), g.b[0].ravel().tolist()
        (0.5, [[1.0, 2.0], [0.0, 0.0]], [1.0, 0.0])
    """
    f = forward(network, weights, x)
    y = y[:, None] if y.ndim == 1 else y
    if y.shape != f.a[-1].shape:
        raise ShapeError(
            "backprop(network, weights, x, y)", "y has the shape of the output",
            operands=[("a^L", f.a[-1]), ("y", y)],
        )  # fmt: skip
    cost = float(_known("cost", network.cost, COSTS).f(f.a[-1], y).mean())
    delta = output_error(network, f, y)
    gradients = [weight_gradients(delta, f.a[-2])]
    for l in range(len(network.activations) - 1, 0, -1):
        delta = previous_error(network, weights, f, l, delta)
        gradients.insert(0, weight_gradients(delta, f.a[l - 1]))
    dW, db = zip(*gradients)
    return cost, Weights(tuple(dW), tuple(db))


def _known(kind: str, name: str, table: dict[str, Any]) -> Any:
    if name in table:
        return table[name]
    raise UnknownNameError(
        f"{kind} {name!r}", f"there is no such {kind}",
        operands=[("known", verbatim(", ".join(table)))],
    )  # fmt: skip
