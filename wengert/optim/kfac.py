"""K-FAC: natural gradients, with a curvature that is a Kronecker product for every layer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import ref

import numpy as np
from numpy.typing import NDArray

from wengert import trace
from wengert.errors import OptionError
from wengert.nn.convolution import MODES, Conv1d, Conv2d, Conv3d
from wengert.nn.functional.conv import pads_of
from wengert.nn.layers import Linear
from wengert.nn.module import Module
from wengert.ops.conv_kernels import padded, patches
from wengert.trace import Tensor
from wengert.transforms.hooks import Handle

from .base import Closure, Optimizer, check, evaluated, flag
from .sgd import SGD

__all__ = ["KFAC"]

Matrix = NDArray[Any]
CONVOLUTIONS = (Conv1d, Conv2d, Conv3d)


@dataclass
class Factors:
    """The two factors of a layer's curvature, and what was seen since the last step."""

    layer: Any
    inputs: Matrix | None = None  # A
    outputs: Matrix | None = None  # G
    inverses: tuple[Matrix, Matrix] | None = None
    times: int = 0
    seen: list[tuple[int, int, Matrix, Matrix]] = field(default_factory=list)

    def take(self, x: Matrix, gy: Matrix) -> None:
        """A pass through the layer: what went in, and the gradient of what came out."""
        a, n = rows_of(self.layer, x)
        g = gy.reshape(-1, gy.shape[-1])
        if self.layer.bias is not None:
            a = np.concatenate([a, np.ones((len(a), 1), a.dtype)], axis=1)
        self.seen.append((n, len(g) // max(n, 1), a.T @ a, g.T @ g))

    def update(self, decay: float) -> None:
        """Take what was seen into the running means."""
        n = sum(seen[0] for seen in self.seen)
        a: Matrix = np.sum([seen[2] for seen in self.seen], axis=0) / n
        g: Matrix = np.sum([seen[3] / seen[1] for seen in self.seen], axis=0)
        g *= n  # each gy is 1/n of its sample's
        self.seen = []
        self.times += 1
        keep = min(1 - 1 / self.times, decay)
        self.inputs = a if self.inputs is None else keep * self.inputs + (1 - keep) * a
        self.outputs = g if self.outputs is None else keep * self.outputs + (1 - keep) * g

    def invert(self, damping: float) -> None:
        """The inverses of A + pi sqrt(damping) and G + sqrt(damping) / pi."""
        a, g = self.inputs, self.outputs
        if a is None or g is None:
            return
        sizes = float(np.trace(a)) / len(a), float(np.trace(g)) / len(g)
        pi = math.sqrt(sizes[0] / sizes[1]) if min(sizes) > 0 else 1.0
        root = math.sqrt(damping)
        self.inverses = (inverse(a, pi * root), inverse(g, root / pi))

    def natural(self) -> dict[int, Matrix]:
        """A^-1 (gradient) G^-1, by the parameter; {} while something is missing."""
        w, b = self.layer.weight, self.layer.bias
        pair = [p for p in (w, b) if p is not None]
        if self.inverses is None or any(p.node is None or p.node.grad is None for p in pair):
            return {}
        rows = [raw(p.node.grad).reshape(-1, w.shape[-1]) for p in pair]
        v = self.inverses[0] @ np.concatenate(rows) @ self.inverses[1]
        found = {id(w): v[: len(rows[0])].reshape(w.shape)}
        return found if b is None else {**found, id(b): v[-1]}


def raw(x: Any) -> Any:
    return x.value() if isinstance(x, Tensor) else x


def inverse(a: Matrix, damping: float) -> Matrix:
    """(a + damping)^-1 of a symmetric matrix; without damping, where there is one."""
    values, vectors = np.linalg.eigh(a.astype(np.float64))
    values = np.maximum(values, 0.0) + damping
    small = values <= values[-1] * len(a) * np.finfo(np.float64).eps
    turned = np.where(small, 0.0, 1 / np.where(small, 1.0, values))
    return ((vectors * turned) @ vectors.T).astype(a.dtype)


def rows_of(layer: Any, x: Matrix) -> tuple[Matrix, int]:
    """Every input that a layer multiplies with its weights, as rows, and how many samples."""
    if not isinstance(layer, CONVOLUTIONS):
        a = x.reshape(-1, x.shape[-1])
        return a, len(a)
    if x.ndim == layer.axes + 1:
        x = x[None]
    size, k = x.shape[1:-1], layer.kernel_size
    pads = pads_of("KFAC", layer.padding, size, k, layer.stride, layer.dilation)
    if layer.padding_mode == "zeros":
        x = padded(x, pads)
    else:
        x = np.pad(x, ((0, 0), *pads, (0, 0)), mode=MODES[layer.padding_mode])  # type: ignore[call-overload]
    each = patches(x, k, layer.stride, layer.dilation)
    return each.reshape(-1, math.prod(k) * x.shape[-1]), len(x)


class KFAC(SGD):
    """Natural gradient descent, with the Fisher matrix of each layer as a Kronecker product.

        F = A (x) G,   A = E[a a^T],   G = E[g g^T]
        V = (A + pi sqrt(damping))^-1  dL/dW  (G + sqrt(damping) / pi)^-1
        pi^2 = (tr A / dim A) / (tr G / dim G)

    a is the input of a layer, with a 1 for the bias, and g the gradient of its output for a single
    sample; both are gathered by hooks while the loss is computed, and averaged over the steps. The
    loss is the mean over the samples (for a Linear over all rows). Linear layers and convolutions
    without groups have factors: A is then the sum over the places of an image, G the mean. The
    other parameters keep their plain gradient. SGD's momentum and decay follow.

    Args:
        model: the network, not its parameters.
        lr: the learning rate, at least 0.
        momentum: how much of the last step to keep, in [0, 1).
        weight_decay: the strength of the penalty, added to V; at least 0.
        damping: added to the factors as above, at least 0.
        decay: how much of the running factors to keep, in [0, 1); less in the first steps.
        every: invert the factors once in so many steps.
        kl_clip: shorten a step whose V . dL/dW * lr^2, summed over all of them, is larger; None for
            no limit.
        empirical: take g from the backward passes of the training loss. Otherwise factors are
            gathered inside `with optimizer.statistics():` alone, where targets drawn from the model
            give the Fisher matrix itself.

    Raises:
        OptionError: a hyperparameter out of its range, or parameters in place of a model.

    Example:
        >>> from wengert import nn
        >>> F = nn.functional
        >>> model = nn.Linear(2, 1, rng=0, dtype=np.float64)
        >>> x = np.array([[1.0, 0.0], [100.0, 1.0], [-100.0, 2.0], [0.0, 4.0]])
        >>> y = x @ [[0.5], [3.0]] + 1
        >>> optimizer = KFAC(model, lr=0.5, momentum=0.0, damping=1e-8, empirical=False,
        ...                  kl_clip=None)
        >>> for _ in range(30):
        ...     with optimizer.statistics():       # targets drawn from N(model(x), 1)
        ...         z = model(x)
        ...         noise = np.array([[1.0], [-1.0], [-1.0], [1.0]])
        ...         (((z - z.detach() - noise) ** 2).sum() / 8).backward()
        ...     optimizer.zero_grad()
        ...     (((model(x) - y) ** 2).sum() / 8).backward()
        ...     optimizer.step()
        >>> np.abs(model.weight.numpy() - [[0.5], [3.0]]).max() < 1e-6
        np.True_

    References:
        J. Martens, R. Grosse (2015), Optimizing Neural Networks with Kronecker-factored Approximate
        Curvature, arXiv:1503.05671.
        R. Grosse, J. Martens (2016), A Kronecker-factored approximate Fisher matrix for convolution
        layers, arXiv:1602.01407.
        J. Ba, R. Grosse, J. Martens (2017), Distributed second-order optimization using
        Kronecker-factored approximations.
    """

    traceable = False

    def __init__(
        self,
        model: Module,
        lr: float = 0.01,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        damping: float = 1e-3,
        decay: float = 0.95,
        every: int = 10,
        kl_clip: float | None = 1e-3,
        empirical: bool = True,
    ) -> None:
        if not isinstance(model, Module):
            raise OptionError(
                "KFAC(model)", "it takes the model, whose layers it watches", fix="KFAC(model, ...)"
            )
        Optimizer.__init__(
            self, model.parameters(), lr=lr, momentum=momentum, nesterov=False,
            weight_decay=weight_decay, maximize=False, damping=damping, decay=decay, every=every,
            kl_clip=kl_clip,
        )  # fmt: skip
        self.empirical = self.gathering = flag("KFAC", "empirical", empirical)
        self.t = 0
        self.factors: dict[str, Factors] = {}
        self.handles: list[Handle] = []
        for path, layer in model.named_modules():
            plain = isinstance(layer, Linear)
            if plain or (isinstance(layer, CONVOLUTIONS) and layer.groups == 1):
                self.factors[path] = Factors(layer)
                self.handles.append(layer.register_forward_hook(listener(self, path)))

    def checked(self, options: dict[str, Any]) -> dict[str, Any]:
        o = super().checked(options)
        o["damping"] = check("KFAC", "damping", o["damping"], fix="damping=1e-3")
        o["decay"] = check("KFAC", "decay", o["decay"], below=1.0, fix="decay=0.95")
        if o["kl_clip"] is not None:
            o["kl_clip"] = check("KFAC", "kl_clip", o["kl_clip"], fix="kl_clip=1e-3")
        n = o["every"]
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise OptionError(f"KFAC(every={n!r})", "it must be a whole number, at least 1")
        return o

    def close(self) -> None:
        """Watch the layers no longer."""
        for handle in self.handles:
            handle.remove()

    @contextmanager
    def statistics(self) -> Iterator[None]:
        """Gather factors from the passes inside the block, and leave the gradients as they were."""
        trained = [p for p in self.parameters if p.node is not None]
        before = [p.node.grad for p in trained]
        for p in trained:
            p.node.grad = None
        self.gathering, old = True, self.gathering
        try:
            yield
        finally:
            self.gathering = old
            for p, g in zip(trained, before, strict=True):
                p.node.grad = g

    def step(self, closure: Closure | None = None) -> Any:
        """One update; see `Optimizer.step`."""
        loss = None if closure is None else evaluated(closure)
        o = self.groups[0]
        for factors in self.factors.values():
            if factors.seen:
                factors.update(o.decay)
            if self.t % o.every == 0 or factors.inverses is None:
                factors.invert(o.damping)
        self.t += 1
        plain = [getattr(p.node, "grad", None) for p in self.parameters]
        natural: dict[int, Matrix] = {}
        for factors in self.factors.values():
            natural.update(factors.natural())
        moved = [
            (p, natural.get(id(p), raw(g)), raw(g))
            for p, g in zip(self.parameters, plain, strict=True)
            if g is not None
        ]
        shorter = 1.0
        if o.kl_clip is not None:
            size = o.lr**2 * sum(float(np.vdot(v, g)) for _, v, g in moved)
            shorter = min(1.0, math.sqrt(o.kl_clip / size)) if size > 0 else 1.0
        try:
            for p, v, _ in moved:
                p.node.grad = v * v.dtype.type(shorter)
            super().step()
        finally:
            for p, g in zip(self.parameters, plain, strict=True):
                if g is not None:
                    p.node.grad = g
        return loss

    # ---- state
    def state_dict(self) -> dict[str, Any]:
        """As every optimizer's, and the factors of every layer."""
        factors = {
            path: {
                "times": f.times,
                "matrices": [m.copy() for m in (f.inputs, f.outputs) if m is not None],
                "inverses": [m.copy() for m in f.inverses or ()],
            }
            for path, f in self.factors.items()
        }
        return {**super().state_dict(), "t": self.t, "factors": factors}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken; see `Optimizer.load_state_dict`."""
        if state["optimizer"] == self._owner and state["factors"].keys() != self.factors.keys():
            raise OptionError("KFAC.load_state_dict(state)", "it is the state of another model")
        super().load_state_dict(state)
        self.t = int(state["t"])
        for path, f in self.factors.items():
            told = state["factors"][path]
            f.times, f.seen = int(told["times"]), []
            f.inputs, f.outputs = [np.array(m) for m in told["matrices"]] or (None, None)
            a, g = [np.array(m) for m in told["inverses"]] or (None, None)
            f.inverses = None if a is None or g is None else (a, g)


def listener(owner: KFAC, path: str) -> Any:
    """A forward hook that takes the input, and the gradient of the output once it is known."""
    known = ref(owner)

    def hook(layer: Module, args: tuple[Any, ...], y: Any) -> None:
        optimizer = known()
        if optimizer is None or not optimizer.gathering:
            return
        if not isinstance(y, Tensor) or y.level is not trace.EAGER or y.node is None:
            return
        x = np.asarray(raw(args[0]))
        factors = optimizer.factors[path]

        def arrived(gy: Tensor) -> None:
            if isinstance(value := raw(gy), np.ndarray):
                factors.take(x, value)

        y.register_hook(arrived)

    return hook
