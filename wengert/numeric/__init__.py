"""Derivatives from values alone, and verdicts on derivatives: `grad`, `jacobian`, `gradcheck`."""

from .differences import Estimate, grad, hessian, jacobian, jvp
from .noise import noise_of

__all__ = ["Estimate", "grad", "hessian", "jacobian", "jvp", "noise_of"]
