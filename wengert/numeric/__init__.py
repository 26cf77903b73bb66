"""Derivatives from values alone, and verdicts on derivatives: `grad`, `jacobian`, `gradcheck`."""

from .check import gradcheck, gradgradcheck
from .differences import Estimate, grad, hessian, jacobian, jvp
from .noise import noise_of
from .steps import Steps, plot_steps, steps
from .verdict import Finding, Verdict

__all__ = [
    "Estimate",
    "Finding",
    "Steps",
    "Verdict",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "hessian",
    "jacobian",
    "jvp",
    "noise_of",
    "plot_steps",
    "steps",
]
