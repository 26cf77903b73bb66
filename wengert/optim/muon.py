"""Muon: momentum of a matrix, made orthogonal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wengert.errors import OptionError
from wengert.trace import Tensor

from .adam import AdamW
from .base import Block, Group, Optimizer, check

__all__ = ["Muon", "orthogonalized"]

QUINTIC = (3.4445, -4.7750, 2.0315)
RULES = ("muon", "adamw")


def orthogonalized(m: NDArray[Any], iterations: int = 5, eps: float = 1e-7) -> NDArray[Any]:
    """About U V^T of m = U S V^T: every singular value becomes one between 0.68 and 1.13.

        x <- m / max(|m|, eps)
        x <- a x + (b A + c A^2) x,   A = x x^T,   (a, b, c) = (3.4445, -4.775, 2.0315)

    The coefficients let small singular values grow as fast as they can, at the price that large
    ones do not settle at 1. Values below about 1e-3 of the length of m need more iterations.

    Shapes: m `[rows, columns]`, and so is the result.

    Example:
        >>> m = np.random.default_rng(0).standard_normal((4, 6))
        >>> values = np.linalg.svd(orthogonalized(m), compute_uv=False)
        >>> bool((0.68 < values).all() and (values < 1.13).all())
        True

    References:
        K. Jordan et al. (2024), Muon: An optimizer for hidden layers in neural networks.
        Å. Björck, C. Bowie (1971), An iterative algorithm for computing the best estimate of an
        orthogonal matrix.
    """
    a, b, c = QUINTIC
    x = m if m.shape[0] <= m.shape[1] else m.T  # the smaller of the two products
    x = x / max(np.linalg.norm(x), m.real.dtype.type(eps))
    for _ in range(iterations):
        square = x @ x.conj().T
        x = a * x + (b * square + c * (square @ square)) @ x
    return x if m.shape[0] <= m.shape[1] else x.T


def known_rule(rule: Any) -> str | None:
    if rule not in (None, *RULES):
        raise OptionError(f"Muon(rule={rule!r})", "the rules are 'muon' and 'adamw'")
    return rule


class Muon(AdamW):
    """Orthogonal steps for matrices, AdamW's for all other parameters.

        v <- momentum * v + (1 - momentum) * g
        u = (1 - momentum) * g + momentum * v               with nesterov, else u = v
        p <- (1 - lr * weight_decay) * p
        p <- p - lr * 0.2 sqrt(max(rows, columns)) * orthogonalized(u)

    The factor gives the steps the size of AdamW's, so that one learning rate serves for both.
    A group is cut in two: parameters with two axes or more go by this rule, with all axes but the
    last one taken together (n_out is the last axis of every weight here); the others go by AdamW.
    Embeddings and the last layer are said to do better with AdamW: `{"params": .., "rule":
    "adamw"}`.

    Args:
        parameters: the tensors to train.
        lr: the learning rate, at least 0.
        momentum: how much of the running mean to keep, in [0, 1).
        nesterov: look ahead along the momentum.
        weight_decay: the relative shrinking per unit of learning rate, at least 0.
        iterations: of `orthogonalized`, at least 1.
        betas, eps: AdamW's.
        maximize: climb instead, as if the gradients had the other sign.

    Raises:
        OptionError: a hyperparameter out of its range, or the rule "muon" for a vector.

    Example:
        >>> import wengert as wg
        >>> w = wg.tensor(np.eye(2), requires_grad=True)
        >>> b = wg.tensor([1.0, -2.0], requires_grad=True)
        >>> optimizer = Muon([w, b], lr=0.1)
        >>> [(len(group.parameters), group.rule) for group in optimizer.groups]
        [(1, 'muon'), (1, 'adamw')]
        >>> ((w @ b) ** 2).sum().backward(); optimizer.step()

    References:
        K. Jordan et al. (2024), Muon: An optimizer for hidden layers in neural networks.
        J. Liu et al. (2025), Muon is Scalable for LLM Training, arXiv:2502.16982.
    """

    traceable = False

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float = 1e-3,
        *,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.1,
        iterations: int = 5,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        maximize: bool = False,
    ) -> None:
        Optimizer.__init__(
            self, parameters, lr=lr, rule=None, momentum=momentum, nesterov=nesterov,
            weight_decay=weight_decay, iterations=iterations, betas=betas, eps=eps,
            amsgrad=False, maximize=maximize,
        )  # fmt: skip

    def add_group(self, group: Any, defaults: Mapping[str, Any] | None = None) -> None:
        """Train more parameters; a group that names no `rule` is cut into matrices and others."""
        if not isinstance(group, Mapping) or "params" not in group:
            super().add_group(group, defaults)
            return
        params = group["params"]
        tensors = [params] if isinstance(params, Tensor) else list(params)
        for i, p in enumerate(tensors, len(self.parameters)):
            self._check_parameter(i, p, False)
        named = known_rule(group.get("rule"))
        parts: dict[str, list[Tensor]] = {rule: [] for rule in RULES}
        for p in tensors:
            parts[named or ("muon" if p.ndim > 1 else "adamw")].append(p)
        for p in parts["muon"]:
            if p.ndim < 2:
                raise OptionError(
                    "Muon(parameters)", "the rule 'muon' is for parameters with two axes or more",
                    operands=[(p.name or "p", p)], fix='{"params": [p], "rule": "adamw"}',
                )  # fmt: skip
        for rule, some in parts.items():
            super().add_group({**group, "params": some, "rule": rule}, defaults)

    def checked(self, options: dict[str, Any]) -> dict[str, Any]:
        o = super().checked(options)
        o["momentum"] = check("Muon", "momentum", o["momentum"], below=1.0, fix="momentum=0.95")
        n = o["iterations"]
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise OptionError(f"Muon(iterations={n!r})", "it must be a whole number, at least 1")
        return {**o, "rule": known_rule(o["rule"])}

    def remembers(self, group: Group) -> tuple[str, ...]:
        return ("velocity",) if group.rule == "muon" else super().remembers(group)

    def advance(self, block: Block, first: int, last: int, t: int) -> None:
        o = block.group
        if o.rule == "adamw":
            super().advance(block, first, last, t)
            return
        velocities = block.shaped(block.states["velocity"])
        for i in range(first, last + 1):
            g, v = block.gradients[i], velocities[i]
            v *= o.momentum
            v += (1 - o.momentum) * g
            u = (1 - o.momentum) * g + o.momentum * v if o.nesterov else v
            u = u.reshape(-1, u.shape[-1])
            step = orthogonalized(u, o.iterations)
            step = step * (o.lr * 0.2 * math.sqrt(max(u.shape)))
            g[...] = step.reshape(g.shape)
            if o.weight_decay:
                g += o.lr * o.weight_decay * block.values[i]
