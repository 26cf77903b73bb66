"""What a check of derivatives found, in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..errors import GradientError

__all__ = ["Finding", "Verdict"]


@dataclass(frozen=True)
class Finding:
    """One entry dy/dx of the Jacobian, and what is the matter with it.

    `kind` is "mismatch", "kink", "discontinuous", "singular", "edge" or "roundoff"; `numerical` has
    the error bar `error`; `left` and `right` are the one-sided slopes where they differ.
    """

    kind: str
    mode: str
    input: str
    output: str
    analytic: Any
    numerical: Any
    error: Any
    left: Any = None
    right: Any = None

    def __str__(self) -> str:
        where = f"at {self.input}" + (f", of output {self.output}" if self.output else "")
        a = f"{self.mode} mode says {_digits(self.analytic)}"
        a = a if " and " not in self.mode else a.replace("mode says", "mode say")
        if self.kind == "kink":
            low, high = sorted((self.left, self.right))
            inside = low <= self.analytic <= high or self.analytic != self.analytic
            note = "" if inside else ", which is no subgradient"
            return (
                f"kink {where}: the slope is {_digits(self.left)} on the left and "
                f"{_digits(self.right)} on the right; {a}{note}"
            )
        if self.kind == "discontinuous":
            return f"discontinuous {where}: the value jumps there; {a}"
        if self.kind == "singular":
            return f"no finite slope {where}: differences grow without bound; {a}"
        if self.kind == "edge":
            return f"edge of the domain {where}: f is not finite on one side; {a}"
        n = f"{_digits(self.numerical)} ± {self.error:.1g}"
        if self.kind == "roundoff":
            return (
                f"roundoff: the differences are not reliable here ({where}): {n}, because the "
                f"values carry too much rounding noise; {a}"
            )
        analytic = f"analytic ({self.mode}) {_digits(self.analytic)}"
        return f"a real mismatch {where}: {analytic}, numerical {n}"


def _digits(x: Any) -> str:
    return f"{x:.10g}"


@dataclass(frozen=True)
class Verdict:
    """The outcome of a check: true if the derivatives agree with differences of the values.

    Attributes:
        ok: what `bool(verdict)` says.
        kind: "agrees", or the gravest thing found: "mismatch", "discontinuous", "kink", "singular",
            "edge", "roundoff", "not deterministic", "not finite".
        reason: the same in a sentence, with the place and the numbers.
        findings: the entries that are not in order, the gravest first.
        notes: what limits the check, such as float32 inputs.
        evaluations: how often f was called.
        deviation: the largest |analytic - numerical|, and the error bar that goes with it.
    """

    ok: bool
    kind: str
    reason: str
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    evaluations: int = 0
    deviation: tuple[float, float] = (0.0, 0.0)
    what: str = field(default="gradcheck(f)", repr=False)

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        lines = [f"{self.what}: {self.reason}"]
        more = [str(f) for f in self.findings[1:6]]
        lines += [f"  {m}" for m in more]
        if len(self.findings) > 6:
            lines.append(f"  and {len(self.findings) - 6} more")
        lines += [f"  note: {n}" for n in self.notes]
        return "\n".join(lines)

    __repr__ = __str__

    def raise_(self) -> Verdict:
        """Raise `GradientError` with the reason, unless the check passed."""
        if not self.ok:
            rule, *rest = str(self).removeprefix(f"{self.what}: ").split("\n")
            raise GradientError(self.what, "\n".join([rule, *rest]))
        return self
