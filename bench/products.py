"""Products with second derivatives, gradients sample by sample, and Taylor mode.

    hvp             a Hessian-vector product against the gradient alone: three functions
    gauss-newton    J^T H J v of a network against its gradient
    per-sample      the gradients of 128 samples by vmap, against a loop over them, and against
                    torch.func's vmap(grad) in the same run
    taylor K        K derivatives along a line by `wg.jet`, against K nested jvp

For the first two the ratio is what a product costs in gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from _harness import Case, cases, main, peer

import wengert as wg

torch = peer("torch")
rng = np.random.default_rng(0)
LAYERS = [rng.standard_normal((256, 256)) / 16 for _ in range(4)]
BATCH = rng.standard_normal((128, 256))
LONG = rng.standard_normal(100_000)
TABLE, SIGNS = rng.standard_normal((20_000, 100)), np.sign(rng.standard_normal(20_000))
SMALL = {
    "w1": rng.standard_normal((64, 128)) / 8,
    "b1": np.zeros(128),
    "w2": rng.standard_normal((128, 10)) / 11,
    "b2": np.zeros(10),
}
SAMPLES, LABELS = rng.standard_normal((128, 64)), rng.integers(0, 10, 128)


def network(layers: Any) -> Any:
    h = BATCH
    for w in layers:
        h = np.tanh(h @ w)
    return np.sum(h**2) / len(BATCH)


def elementwise(x: Any) -> Any:
    return np.sum(np.exp(-x * x) * np.sin(x) + np.tanh(x) * x)


def logistic(w: Any) -> Any:
    return np.mean(np.logaddexp(0.0, -SIGNS * (TABLE @ w)))


def outputs(layers: Any) -> Any:
    h = BATCH
    for w in layers:
        h = np.tanh(h @ w)
    return h


def products() -> Iterator[Case]:
    for name, f, x in (
        ("hvp of an MLP, 4 layers of 256, batch 128", network, LAYERS),
        ("hvp of an elementwise function, 100,000", elementwise, LONG),
        ("hvp of logistic regression, 20,000 by 100", logistic, np.zeros(100)),
    ):
        v = wg.tree.map(lambda a: np.ones_like(a), x)
        g = wg.grad(f)
        yield Case(
            name, "its gradient", lambda f=f, x=x, v=v: wg.hvp(f, x, v), lambda g=g, x=x: g(x), 4.0
        )
    v = wg.tree.map(np.ones_like, LAYERS)
    g = wg.grad(network)
    loss = lambda z: np.sum(z**2) / len(BATCH)
    yield Case(
        "Gauss-Newton product of the MLP",
        "its gradient",
        lambda: wg.gauss_newton_product(outputs, loss, LAYERS, v),
        lambda: g(LAYERS),
    )


def sample_loss(p: Any, x: Any, label: Any) -> Any:
    return wg.cross_entropy(np.tanh(x @ p["w1"] + p["b1"]) @ p["w2"] + p["b2"], label)


def per_sample() -> Iterator[Case]:
    def ours() -> Any:
        return wg.per_sample_grad(sample_loss, SMALL, SAMPLES, LABELS)

    g = wg.grad(sample_loss)

    def loop() -> Any:
        return [g(SMALL, x, y) for x, y in zip(SAMPLES, LABELS)]

    np.testing.assert_allclose(ours()["w1"][5], loop()[5]["w1"], rtol=1e-9, atol=1e-12)
    yield Case("per-sample gradients of 128", "a loop of wg.grad", ours, loop)
    if torch is not None:
        p = {k: torch.tensor(v) for k, v in SMALL.items()}
        x, y = torch.tensor(SAMPLES), torch.tensor(LABELS)

        def loss(p: Any, x: Any, y: Any) -> Any:
            logits = torch.tanh(x @ p["w1"] + p["b1"]) @ p["w2"] + p["b2"]
            return torch.nn.functional.cross_entropy(logits, y)

        theirs = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))
        np.testing.assert_allclose(
            ours()["w1"], theirs(p, x, y)["w1"].numpy(), rtol=1e-9, atol=1e-12
        )
        yield Case("per-sample gradients of 128", "torch.func", ours, lambda: theirs(p, x, y))


def nested(f: Callable[[Any], Any], order: int) -> Callable[[Any], Any]:
    for _ in range(order):
        f = lambda t, g=f: wg.jvp(g, (t,), (1.0,))[1]
    return f


def taylor() -> Iterator[Case]:
    x, v = SAMPLES[0], SAMPLES[1]

    def f(x: Any) -> Any:
        return np.sum(np.tanh(x @ SMALL["w1"]) * np.exp(-np.sin(x[:1])))

    for order in (1, 2, 3, 4, 5, 6, 8):
        zeros = [np.zeros_like(v)] * (order - 1)
        one = lambda order=order, zeros=zeros: wg.jet(f, (x,), ([v, *zeros],))[1][-1]
        many = lambda order=order: nested(lambda t: f(x + t * v), order)(0.0)
        np.testing.assert_allclose(one(), many(), rtol=1e-7)
        yield Case(f"taylor {order}", "nested jvp", one, many)
    for order in (16, 32):
        zeros = [np.zeros_like(v)] * (order - 1)
        one = lambda order=order, zeros=zeros: wg.jet(f, (x,), ([v, *zeros],))[1][-1]
        half = lambda order=order, zeros=zeros: wg.jet(f, (x,), ([v, *zeros[: order // 2 - 1]],))[
            1
        ][-1]
        yield Case(f"taylor {order}", f"taylor {order // 2}", one, half)


def every() -> Iterator[Case]:
    yield from products()
    yield from per_sample()
    yield from taylor()


if __name__ == "__main__":
    main(__doc__, cases(every))
