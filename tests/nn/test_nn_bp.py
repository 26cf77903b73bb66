"""The four equations of backpropagation, and the tape held against them."""

import numpy as np
import pytest

import wengert as wg
from wengert.errors import ShapeError, UnknownNameError
from wengert.nn import bp

SIGMA = {
    "identity": lambda z: z,
    "sigmoid": wg.sigmoid,
    "tanh": np.tanh,
    "relu": wg.relu,
    "softmax": lambda z: wg.softmax(z, axis=0),
}
COST = {
    "quadratic": lambda a, y: np.mean(np.sum((a - y) ** 2, axis=0)) / 2,
    "cross-entropy": lambda a, y: -np.mean(np.sum(y * np.log(a), axis=0)),
    "binary cross-entropy": lambda a, y: (
        -np.mean(np.sum(y * np.log(a) + (1 - y) * np.log1p(-a), axis=0))
    ),
}
NETWORKS = [
    bp.Network(("sigmoid", "sigmoid")),
    bp.Network(("tanh", "relu", "identity")),
    bp.Network(("relu", "tanh", "sigmoid", "softmax"), "cross-entropy"),
    bp.Network(("tanh", "sigmoid"), "binary cross-entropy"),
    bp.Network(("sigmoid", "softmax"), "quadratic"),
    bp.Network(("softmax", "tanh", "identity"), "quadratic"),
    bp.Network(("tanh",), "quadratic"),
]


def problem(network, m, seed=0):
    rng = np.random.default_rng(seed)
    sizes = [*[3, 5, 4, 6, 3][: len(network.activations)], 4]
    weights = network.weights(sizes, rng)
    weights = bp.Weights(weights.W, tuple(rng.normal(size=b.shape) for b in weights.b))
    x = rng.normal(size=(3, m) if m else 3)
    y = np.eye(4)[rng.integers(4, size=m)].T if m else np.eye(4)[1]
    return weights, x, y


def by_tape(network, weights, x, y):
    def cost(w):
        a = x if x.ndim == 2 else x[:, None]
        for name, W, b in zip(network.activations, *w):
            a = SIGMA[name](W @ a + b)
        return COST[network.cost](a, y if y.ndim == 2 else y[:, None])

    return wg.value_and_grad(cost)(weights)


@pytest.mark.parametrize("m", [0, 1, 7])
@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: "-".join(n.activations) + " " + n.cost)
def test_the_tape_agrees_with_the_four_equations(network, m):
    weights, x, y = problem(network, m)
    cost, gradient = bp.backprop(network, weights, x, y)
    value, by_hand = by_tape(network, weights, x, y)
    np.testing.assert_allclose(value, cost, rtol=1e-13)
    for got, want in zip((*by_hand.W, *by_hand.b), (*gradient.W, *gradient.b)):
        np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-14)


def test_each_equation_is_the_derivative_that_it_says():
    network = bp.Network(("tanh", "sigmoid"), "binary cross-entropy")
    weights, x, y = problem(network, 0)
    f = bp.forward(network, weights, x)
    y = y[:, None]

    def rest(z, l):  # the cost as a function of z^l
        for k in range(l, len(network.activations) + 1):
            a = SIGMA[network.activations[k - 1]](z)
            z = a if k == len(network.activations) else weights.W[k] @ a + weights.b[k]
        return COST[network.cost](z, y)

    delta2 = bp.output_error(network, f, y)
    np.testing.assert_allclose(delta2, wg.grad(rest)(f.z[1], 2), rtol=1e-12)  # (BP1)
    delta1 = bp.previous_error(network, weights, f, 1, delta2)
    np.testing.assert_allclose(delta1, wg.grad(rest)(f.z[0], 1), rtol=1e-12)  # (BP2)
    dW, db = bp.weight_gradients(delta1, f.a[0])
    np.testing.assert_allclose(db, delta1)  # (BP3)
    np.testing.assert_allclose(dW, np.outer(delta1, x))  # (BP4)


def test_a_batch_is_the_mean_of_its_examples():
    network = NETWORKS[2]
    weights, x, y = problem(network, 6)
    _, whole = bp.backprop(network, weights, x, y)
    each = [bp.backprop(network, weights, x[:, i], y[:, i])[1] for i in range(6)]
    for l in range(4):
        np.testing.assert_allclose(whole.W[l], np.mean([g.W[l] for g in each], axis=0))
        np.testing.assert_allclose(whole.b[l], np.mean([g.b[l] for g in each], axis=0))


def test_gradient_descent_by_hand_learns_exclusive_or():
    network = bp.Network(("tanh", "sigmoid"), "binary cross-entropy")
    weights = network.weights([2, 4, 1], rng=1)
    x = np.array([[0.0, 0, 1, 1], [0, 1, 0, 1]])
    y = np.array([[0.0, 1, 1, 0]])
    for _ in range(2000):
        cost, g = bp.backprop(network, weights, x, y)
        weights = wg.tree.map(lambda w, d: w - 0.5 * d, weights, g)
    assert cost < 0.01


def test_what_does_not_go_together_is_refused():
    network = bp.Network(("tanh", "identity"))
    with pytest.raises(ShapeError, match="a size for the input"):
        network.weights([2, 3])
    weights = network.weights([2, 3, 1], rng=0)
    with pytest.raises(ShapeError, match="the layers do not go together"):
        bp.forward(network, weights, np.ones(3))
    with pytest.raises(ShapeError, match="y has the shape of the output"):
        bp.backprop(network, weights, np.ones(2), np.ones(2))
    with pytest.raises(UnknownNameError, match="no such activation"):
        bp.forward(bp.Network(("tan", "identity")), weights, np.ones(2))
