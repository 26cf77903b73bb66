"""Gradients of expectations, estimated from samples.

    d/dtheta E_{x ~ p(theta)} f(x)

* pathwise (`reparameterized`): x = g(noise, theta), and the derivative goes through g. Low
  variance; needs a differentiable f and a continuous x.
* score function (`score_function`, REINFORCE): the derivative of log p, weighted by f. Needs
  nothing of f; a baseline lowers its variance.
* `straight_through`: a hard choice in the value, a soft one in the derivative. Biased.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import random
from ..draws import live
from ..errors import ArgumentError, DTypeError, ShapeError
from ..given import call, function, numeric
from ..ops import elementwise as e
from ..ops.fused import Softmax
from ..trace import EAGER, Tensor, looked, make
from ..types import dtype_of, is_inexact, shape_of
from .custom import stop_gradient

__all__ = ["magic_box", "reparameterized", "score_function", "straight_through"]

Noise = Callable[[np.random.Generator, tuple[int, ...]], Any]


def open_uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Uniform in (0, 1), without its ends, whose logarithms are infinite."""
    return rng.uniform(2.0**-54, 1.0, shape).clip(max=1 - 2.0**-53)


def gumbels(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    return -np.log(-np.log(open_uniform(rng, shape)))


def gumbel_softmax(noise: Any, logits: Any, temperature: Any = 1.0) -> Any:
    x = (logits + noise) / temperature
    return Softmax(len(shape_of(x)) - 1)(x)


# x = path(noise, *parameters)
FAMILIES: dict[str, tuple[Callable[..., Any], Noise]] = {
    "normal": (lambda z, mean=0.0, std=1.0: mean + std * z, lambda r, s: r.standard_normal(s)),
    "lognormal": (
        lambda z, mean=0.0, std=1.0: e.exp(mean + std * z), lambda r, s: r.standard_normal(s)
    ),
    "uniform": (lambda u, low=0.0, high=1.0: low + (high - low) * u, lambda r, s: r.random(s)),
    "exponential": (lambda z, rate=1.0: z / rate, lambda r, s: r.standard_exponential(s)),
    "weibull": (
        lambda z, scale=1.0, shape=1.0: scale * z ** (1 / shape),
        lambda r, s: r.standard_exponential(s),
    ),
    "laplace": (lambda z, mean=0.0, scale=1.0: mean + scale * z, lambda r, s: r.laplace(size=s)),
    "logistic": (lambda z, mean=0.0, scale=1.0: mean + scale * z, lambda r, s: r.logistic(size=s)),
    "gumbel": (lambda z, mean=0.0, scale=1.0: mean + scale * z, gumbels),
    "cauchy": (lambda z, mean=0.0, scale=1.0: mean + scale * z, lambda r, s: r.standard_cauchy(s)),
    "gumbel_softmax": (gumbel_softmax, gumbels),
}  # fmt: skip
# the parameters with a sign: whether 0 is refused as well (a width of 0 is a point)
POSITIVE = {"std": False, "scale": False, "rate": True, "shape": True, "temperature": True}


def reparameterized(
    family: str | Callable[..., Any], noise: Noise | None = None
) -> Callable[..., Any]:
    """A sampler through which gradients flow to its parameters:  x = path(noise, *parameters).

    Args:
        family: "normal", "lognormal", "uniform", "exponential", "weibull", "laplace", "logistic",
            "gumbel", "cauchy", or "gumbel_softmax" (logits, temperature: a relaxed one-hot vector
            on the last axis); or a path of your own, (noise, *parameters) -> x.
        noise: for a path of your own, (generator, shape) -> noise without parameters.

    Returns:
        draw(*parameters, shape=(), rng=None): one sample for each element of the broadcast
        parameters; `shape` puts axes of independent samples in front. `rng` is a generator or a
        seed; left out, `wengert.random.default()` is drawn from. The dtype is that of the
        parameters.

    Example:
        >>> import wengert as wg
        >>> draw = reparameterized("normal")
        >>> def loss(mean, std):
        ...     return np.mean(draw(mean, std, shape=(100_000,), rng=0) ** 2)
        >>> np.round(wg.grad(loss, argnums=(0, 1))(1.0, 0.5), 1)  # 2 mean, 2 std
        array([2., 1.])

    References:
        D. P. Kingma, M. Welling: Auto-encoding variational Bayes (2014).
        E. Jang, S. Gu, B. Poole: Categorical reparameterization with Gumbel-softmax (2017).
    """
    function("reparameterized(family, noise)", "noise", noise, optional=True)
    if isinstance(family, str):
        if family not in FAMILIES:
            raise ArgumentError(
                f"reparameterized({family!r})",
                "no such family",
                fix=f"one of {', '.join(map(repr, FAMILIES))}, or a path and its noise",
            )
        path, draws = FAMILIES[family]
        names = list(inspect.signature(path).parameters)[1:]
    elif noise is None:
        raise ArgumentError(
            "reparameterized(path)",
            "a path of your own needs its noise",
            fix="reparameterized(path, lambda rng, shape: rng.standard_normal(shape))",
        )
    else:
        path, draws = function("reparameterized(path, noise)", "path", family), noise
        names = []
    what = f"reparameterized({family!r})" if isinstance(family, str) else "reparameterized(path)"

    def draw(*parameters: Any, shape: Any = (), rng: Any = None) -> Any:
        for name, p in zip(names, parameters):
            positive(what, name, p)
        source = random.default() if rng is None else random.generator(rng)
        lead = (shape,) if isinstance(shape, int) else tuple(shape)
        shaped = parameters[:1] if path is gumbel_softmax else parameters
        full = (*lead, *np.broadcast_shapes(*[shape_of(p) for p in shaped]))
        kinds = [dtype_of(p) for p in parameters]
        inexact = [d for d in kinds if d is not None and is_inexact(d)]
        anew = rng is not None and source is not rng  # a seed: the same numbers at every call

        def noise() -> Any:
            return np.asarray(call(what, "noise", draws, source, full))

        z = noise() if anew else live(noise, source)
        if hasattr(z, "graph"):  # drawn again whenever the program runs that is being recorded
            z = make(z, None, EAGER)
        numeric(what, ["noise"], [z])
        if inexact and is_inexact(z.dtype):
            z = z.astype(np.result_type(*inexact))
        return call(what, "the path", path, z, *parameters)

    return draw


def positive(what: str, name: str, p: Any) -> None:
    """Refuse a scale that is negative: the sample would be that of another distribution."""
    numeric(what, [name], [p])
    value, strictly = bottom_value(p), POSITIVE.get(name)
    if strictly is None or value is None:
        return
    if value.dtype.kind != "c" and np.all(value > 0 if strictly else value >= 0):
        return
    raise ArgumentError(
        what, f"{name} is {'positive' if strictly else 'not negative'}",
        operands=[(name, p if value.ndim else value.item())],
    )  # fmt: skip


def bottom_value(x: Any) -> Any:
    """The numbers, without derivatives and of all lanes; None while a function is staged."""
    x = looked(x) if isinstance(x, Tensor) else x
    while isinstance(x, Tensor):
        x = looked(x.data)
    return None if hasattr(x, "graph") else np.asarray(x)


def magic_box(x: Any) -> Any:
    """exp(x - stop_gradient(x)): 1 in value, and its own derivative times dx, at every order.

    Times f it is the surrogate of a score-function gradient: with x = log p the derivatives of
    magic_box(x) f are f dlog p, f (d2log p + dlog p^2), .., which are unbiased at every order.

    Example:
        >>> import wengert as wg
        >>> magic_box(3.0), wg.grad(wg.grad(lambda x: magic_box(2 * x)))(3.0)
        (np.float64(1.0), np.float64(4.0))

    References:
        J. Foerster et al.: DiCE, the infinitely differentiable Monte Carlo estimator (2018).
    """
    numeric("magic_box(x)", ["x"], [x])
    x = x if isinstance(x, Tensor) or hasattr(x, "graph") else np.asarray(x) + 0.0
    return np.exp(x - stop_gradient(x))


def score_function(
    log_prob: Callable[[Any], Any],
    sample: Any,
    f: Callable[[Any], Any],
    baseline: Any = "leave-one-out",
) -> Any:
    """A surrogate for E f(x): its value is the mean of f, its derivatives are unbiased.

        mean_i [ magic_box(log p(x_i)) (f(x_i) - b_i) + b_i ]

    f may be discontinuous, and x discrete. The samples are constants; what depends on the
    parameters is `log_prob`, and f where it does. Derivatives of any order are unbiased.

    Args:
        log_prob: samples of shape (n, ..) -> their n log-probabilities.
        sample: n samples, drawn from that very distribution.
        f: samples -> n numbers.
        baseline: "leave-one-out" (b_i is the mean of f over the other samples), None, or numbers
            that do not depend on the sample they stand beside.

    Raises:
        ShapeError: log_prob or f does not give one number for each sample.

    Example:
        >>> import wengert as wg
        >>> x = np.random.default_rng(0).random(100_000) < 0.3  # Bernoulli(0.3)
        >>> def surrogate(p):
        ...     return score_function(lambda x: np.log(np.where(x, p, 1 - p)), x, lambda x: x * 2.0)
        >>> np.round(wg.grad(surrogate)(0.3), 1)  # d/dp 2 p
        np.float64(2.0)

    References:
        R. J. Williams: Simple statistical gradient-following algorithms (1992).
        W. Kool, H. van Hoof, M. Welling: Buy 4 REINFORCE samples, get a baseline for free (2019).
    """
    sample = stop_gradient(sample)
    what = "score_function(log_prob, sample, f)"
    function(what, "log_prob", log_prob)
    function(what, "f", f)
    logs, values = call(what, "log_prob", log_prob, sample), call(what, "f", f, sample)
    numeric(what, ["log_prob(sample)", "f(sample)"], [logs, values])
    n = shape_of(logs)[0] if len(shape_of(logs)) == 1 else -1
    if n < 0 or shape_of(values) != (n,):
        raise ShapeError(
            what,
            "log_prob and f give one number for each sample",
            operands=[("log_prob(sample)", logs), ("f(sample)", values)],
        )
    fixed = stop_gradient(values)
    if isinstance(baseline, str):
        if baseline != "leave-one-out" or n < 2:
            raise ArgumentError(
                f"score_function(.., baseline={baseline!r})",
                "no such baseline" if n > 1 else "there is no other sample to leave in",
                fix="baseline='leave-one-out'" if n > 1 else "baseline=None",
            )
        b = (np.sum(fixed) - fixed) / (n - 1)
    else:
        b = 0.0 if baseline is None else stop_gradient(baseline)
        numeric(what, ["baseline"], [b])
        if shape_of(b) not in ((), (n,)):
            raise ShapeError(
                what, f"a baseline is one number, or one for each of the {n} samples",
                operands=[("baseline", b)],
            )  # fmt: skip
    box = magic_box(logs)
    return np.mean(values + (box - 1) * (values - b))


def straight_through(hard: Any, soft: Any) -> Any:
    """The value of `hard`, the derivative of `soft`: biased, but it moves.

    Example:
        >>> import wengert as wg
        >>> def step(x):
        ...     return straight_through(x > 0, 1 / (1 + np.exp(-x)))
        >>> step(2.0), wg.grad(step)(0.0)
        (np.float64(1.0), np.float64(0.25))

    References:
        Y. Bengio, N. Leonard, A. Courville: Estimating or propagating gradients through stochastic
        neurons (2013).
    """
    what = "straight_through(hard, soft)"
    for name, v in (("hard", hard), ("soft", soft)):
        if callable(v):
            raise ArgumentError(
                what, f"{name} is a value, not a function: it is called first",
                operands=[(name, v)], fix=f"{getattr(v, '__name__', name)}(x)",
            )  # fmt: skip
    numeric(what, ["hard", "soft"], [hard, soft])
    if (dtype_of(soft) or np.asarray(soft).dtype).kind == "b":
        raise DTypeError(what, "soft has a derivative: it is no boolean", operands=[("soft", soft)])
    if shape_of(hard) != shape_of(soft):
        raise ShapeError(
            what,
            "both have one shape",
            operands=[("hard", hard), ("soft", soft)],
        )
    return stop_gradient(hard) + (soft - stop_gradient(soft))
