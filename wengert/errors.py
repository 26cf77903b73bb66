"""The exception tree and the four-part message: what, the rule broken, the fix, the user's line.

    WengertError
     ├─ ShapeError         ValueError      WG101  operands whose shapes do not go together
     ├─ DTypeError         TypeError       WG102  a dtype that the operation cannot take
     ├─ AxisError          IndexError      WG103  an axis or an index outside the array
     ├─ ArgumentError      ValueError      WG104  an argument with a value that has no meaning
     ├─ UnsupportedError   TypeError       WG105  a function or argument without a derivative here
     ├─ MatrixError        LinAlgError     WG106  a matrix that a decomposition cannot take
     ├─ NonScalarError     ValueError      WG201  backward from a value that is not one number
     ├─ FreedError         RuntimeError    WG202  a graph that an earlier backward used up
     ├─ DisconnectedError  RuntimeError    WG203  a result that does not depend on the input
     ├─ TapeExitError      TypeError       WG204  a recorded value about to leave the tape
     ├─ LeafWriteError     RuntimeError    WG205  an in-place write to a leaf that is being recorded
     ├─ LevelError         RuntimeError    WG206  a value used outside the transform that made it
     ├─ KinkError          ArithmeticError WG207  a derivative asked for where there is none
     ├─ NonFiniteGradientError ArithmeticError WG208  a gradient (or a value) that became nan or inf
     ├─ ReplayError        RuntimeError    WG209  a checkpointed part that came out otherwise
     ├─ GradientError      AssertionError  WG210  a derivative that differences do not confirm
     ├─ ConvergenceError   ArithmeticError WG211  a solver that did not arrive at a solution
     ├─ OptionError        ValueError      WG301  an option or a hyperparameter out of range
     ├─ UnknownNameError   LookupError     WG302  a recipe, optimizer or code that does not exist
     ├─ OutputError        OSError         WG303  a run folder that cannot be written
     ├─ MissingExtraError  ImportError     WG304  an optional dependency that is not installed
     ├─ NonFiniteError     ArithmeticError WG305  training that left the finite numbers
     ├─ CheckpointError    OSError         WG306  no checkpoint to go on from
     └─ DataError          ValueError      WG307  a file of data that cannot be read as what it is

    WengertWarning         UserWarning
     ├─ GaugeWarning                              a derivative that depends on the choice of a basis
     ├─ GradientWarning                           a gradient that is probably not what was meant
     ├─ CompileWarning                            a call that runs uncompiled, and why
     └─ LoopWarning                       WG4..   a training loop that does what nobody means

Each class also subclasses the builtin that a caller would catch. The first paragraph of a class's
docstring is what `wengert explain CODE` prints, with the bad and the good code under it.
"""

from __future__ import annotations

import inspect
import re
import sys
import warnings
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from .source import GENERATED as GENERATED
from .source import LIBRARY as LIBRARY
from .source import bracketed, short, written
from .source import place as place
from .source import user_frame as user_frame

__all__ = [
    "ArgumentError",
    "AxisError",
    "CheckpointError",
    "CompileWarning",
    "ConvergenceError",
    "DTypeError",
    "DataError",
    "DisconnectedError",
    "FreedError",
    "GaugeWarning",
    "GradientError",
    "GradientWarning",
    "KinkError",
    "LeafWriteError",
    "LevelError",
    "LoopWarning",
    "MatrixError",
    "MissingExtraError",
    "NonFiniteError",
    "NonFiniteGradientError",
    "NonScalarError",
    "OptionError",
    "OutputError",
    "ReplayError",
    "ShapeError",
    "TapeExitError",
    "UnknownNameError",
    "UnsupportedError",
    "WengertError",
    "WengertWarning",
    "describe",
    "explain",
]


def user_line() -> str:
    frame = user_frame(sys._getframe(1))
    return f"{short(frame.f_code.co_filename)}:{frame.f_lineno}, in {frame.f_code.co_name}"


def describe(x: Any) -> str:
    """`float64[2, 3]` for arrays and tensors, the value itself for Python scalars.

    >>> import numpy as np
    >>> describe(np.ones((2, 3))), describe(2.0)
    ('float64[2, 3]', '2.0')
    """
    if hasattr(x, "shape") and hasattr(x, "dtype"):
        return f"{x.dtype}[{', '.join(map(str, x.shape))}]"
    text = repr(x)
    return text if len(text) <= 60 else f"{type(x).__name__} {text[:50]}…"


class WengertError(Exception):
    """Every error that wengert raises on purpose.

    Args:
        what: the call, with the names of its arguments: `matmul(a, b)`.
        rule: the rule that was broken, in a few words.
        operands: `(name, value, note)` lines; a value is shown as `dtype[shape]`.
        fix: what to write instead, computed from the values at hand; None when unsure. `{name}` of
            an operand stands for what the user wrote there.
        at: the user's line; found by walking the stack when left out.
    """

    code = "WG000"

    def __init__(
        self,
        what: str,
        rule: str = "",
        *,
        operands: Sequence[tuple[str, Any] | tuple[str, Any, str]] = (),
        fix: str | None = None,
        at: str | None = None,
    ) -> None:
        self.what, self.rule = what, rule
        self.at = at or user_line()
        lines = [f"[{self.code}] {what}{': ' if rule else ''}{rule}"]
        if operands:
            wide = max(len(o[0]) for o in operands)
            # the arguments by position, before the first with a default
            inside = re.findall(r"\w+", re.sub(r"\w+=.*", "", what.partition("(")[2]))
            names = [o[0].partition("[")[0] for o in operands]
            places = [inside.index(n) for n in names if n in inside]
            if len(set(places)) < len(names):  # xs[0], xs[1]: one after the other
                places = list(range(len(places)))
            frame = user_frame(sys._getframe(1))
            texts = written(
                frame, [o[1] for o in operands], places if len(places) == len(names) else None
            )
            for (name, value, *note), own in zip(operands, texts):
                text = value if isinstance(value, _Verbatim) else describe(value)
                own = own if hasattr(value, "shape") else ""
                if own not in ("", name) and len(own) <= 24:
                    text = f"{own} {text}"  # as the user wrote it
                if fix and "{" + name + "}" in fix:
                    fix = fix.replace("{" + name + "}", bracketed(own or name))
                lines.append(f"    {name:<{wide}} : {text}   {''.join(note)}".rstrip())
        self.fix = fix
        if fix:
            lines.append(f"  fix: {fix}")
        if self.at:
            lines.append(f"  at:  {self.at}")
        super().__init__("\n".join(lines))

    def __str__(self) -> str:
        return str(self.args[0])


class _Verbatim(str):
    """Operand text to print as it stands."""


verbatim = _Verbatim


class ShapeError(WengertError, ValueError):
    """Shapes that do not go together.

    Elementwise operations broadcast as NumPy does: aligned at the right, each pair of axis lengths
    must be equal or one of them 1. A matrix product needs a's last axis equal to b's second last.

        bad : np.ones((2, 3)) + wg.tensor([1., 2.])
        good: np.ones((2, 3)) + wg.tensor([[1.], [2.]])
    """

    code = "WG101"


class DTypeError(WengertError, TypeError):
    """A dtype that the operation cannot take.

    Derivatives are taken with respect to floating-point (or complex) values; integers and booleans
    have none.

        bad : wg.grad(f)(np.array([1, 2, 3]))
        good: wg.grad(f)(np.array([1., 2., 3.]))
    """

    code = "WG102"


class AxisError(WengertError, IndexError, ValueError):
    """An axis or an index outside the array.

    An n-dimensional array has the axes -n to n - 1.

        bad : wg.tensor([1., 2.]).sum(axis=1)
        good: wg.tensor([1., 2.]).sum(axis=0)
    """

    code = "WG103"


class ArgumentError(WengertError, ValueError):
    """An argument with a value that has no meaning here.

    bad : wg.vmap(f, in_axes=2)(np.ones(3))
    good: wg.vmap(f, in_axes=0)(np.ones(3))
    """

    code = "WG104"


class UnsupportedError(WengertError, TypeError):
    """A function, or one of its arguments, without a derivative here.

    wengert refuses rather than dropping a gradient on the floor. The message names the nearest
    thing that works; `x.detach()` gives the value without a gradient.
    """

    code = "WG105"


class MatrixError(WengertError, np.linalg.LinAlgError):
    """A matrix that the operation cannot take: not square, singular, or not positive definite.

    A stack of matrices has them in its last two axes. A system that has no unique solution still
    has one of least squares.

        bad : np.linalg.inv(a)                       # a singular, or not square
        good: np.linalg.pinv(a)
        good: np.linalg.lstsq(a, b)[0]
    """

    code = "WG106"


class NonScalarError(WengertError, ValueError):
    """Backward from a value that is not one number.

    A gradient is the derivative of one number. For an array, either reduce it to a loss or say
    which weighted sum of its elements is meant, by passing the cotangent.

        bad : (x * x).backward()
        good: (x * x).sum().backward()
        good: (x * x).backward(gradient=np.ones(3))
    """

    code = "WG201"


class FreedError(WengertError, RuntimeError):
    """A graph that an earlier backward used up.

    A backward sweep frees what the forward pass kept for it, as it goes. The usual cause of a
    second sweep is a value from the previous step that is still connected to its graph (a hidden
    state, a running loss): detach it. Only when two sweeps over one graph are meant, ask the first
    one to keep it.

        bad : total = total + loss; total.backward()           # every step
        good: loss.backward(); total += loss.item()
    """

    code = "WG202"


class DisconnectedError(WengertError, RuntimeError):
    """A result that does not depend on the input being differentiated.

    The path from the input to the result is broken: the input was not used, was detached, or passed
    through an operation without a derivative (a comparison, an integer cast, argmax).

        bad : wg.grad(lambda x: np.sum(x > 0))(x)
        good: wg.grad(lambda x: np.sum(np.where(x > 0, x, 0.)))(x)
    """

    code = "WG203"


class TapeExitError(WengertError, TypeError):
    """A recorded value about to leave the tape.

    Code that asks for a plain array or a Python number would lose the gradient without a word.
    Use the same function from numpy, or say that the gradient is not wanted. NumPy hides the
    message of an assignment into a plain array behind its own, "setting an array element with a
    sequence".

        bad : math.sin(x)            np.asarray(x)            buffer[i] = x   (buffer from np.zeros)
        good: np.sin(x)              x.detach().numpy()       buffer = wg.zeros(n); buffer[i] = x
    """

    code = "WG204"


class LeafWriteError(WengertError, RuntimeError):
    """An in-place write to a leaf that is being recorded.

    After the write the leaf would be the result of an operation, and no longer the thing whose
    gradient is wanted. An optimizer's update belongs under `no_grad`; anything else on a copy.

        bad : w -= 0.1 * w.grad
        good: with wg.no_grad(): w -= 0.1 * w.grad
    """

    code = "WG205"


class LevelError(WengertError, RuntimeError):
    """A value used outside the transform that made it.

    Inside `vmap` a value stands for many lanes and has no single number to branch on; a batched
    value that outlives its `vmap` has no meaning. Use `wg.where`, or return the value from the
    function.
    """

    code = "WG206"


class KinkError(WengertError, ArithmeticError):
    """A derivative asked for at a kink or a jump, under `wg.conventions(kinks="raise")`.

    By default a subgradient is taken there, by the table in the documentation: 0 for abs at 0,
    halves for the tie of a maximum.

        bad : with wg.conventions(kinks="raise"): wg.grad(np.abs)(0.0)
        good: wg.grad(np.abs)(0.0)
    """

    code = "WG207"


class NonFiniteGradientError(WengertError, ArithmeticError):
    """A gradient, or a value, that left the finite numbers inside `wg.debug()`.

    The message says where the first bad number was born, the path from there to the parameter,
    and whether the operation is finite when it is repeated in a higher precision: if so rounding
    or overflow is to blame, if not the mathematics.

        bad : np.log(wg.softmax(z))           # log(0) where the softmax has rounded to 0
        good: wg.log_softmax(z)
    """

    code = "WG208"
    parameter: str | None = None
    op: str = ""
    phase: str = ""  # "forward", "backward", "tangent" or "seed"
    index: tuple[int, ...] | None = None
    lane: tuple[int, ...] = ()
    path: tuple[str, ...] = ()
    replay: str = "unknown"  # or "precision", "mathematics"


class ReplayError(WengertError, RuntimeError):
    """A checkpointed part that did not come out the same when it ran again.

    `wg.checkpoint` drops what a function computed and runs it once more for the backward pass. The
    second run is compared with the first bit by bit; it differs when the function reads an array
    that has changed since, or draws from a random generator that nobody knows of.

        bad : wg.checkpoint(lambda x: x * table)(x); table += 1; loss.backward()
        good: wg.checkpoint(lambda x, table: x * table)(x, table)
    """

    code = "WG209"


class GradientError(WengertError, AssertionError):
    """A derivative that differences of the values do not confirm.

    `wg.numeric.gradcheck` says why: a real mismatch, a kink or a jump at that point, rounding that
    hides the differences, or a function that is not deterministic.

        bad : wg.numeric.gradcheck(np.abs, np.zeros(3)).raise_()
        good: wg.numeric.gradcheck(np.abs, np.ones(3)).raise_()
    """

    code = "WG210"


class ConvergenceError(WengertError, ArithmeticError):
    """A solver that did not arrive at a solution.

    A value that is defined by an equation has the derivative of that equation, which holds at the
    solution alone: one that stopped on the way would have a wrong derivative without a word.

        bad : wg.custom_root(f, x0, solver=lambda f, x: x)
        good: wg.custom_root(f, x0)                            # Newton's method
    """

    code = "WG211"


class OptionError(WengertError, ValueError):
    """An option or a hyperparameter out of range.

    bad : SGD(model.parameters(), lr=float("nan"))
    good: SGD(model.parameters(), lr=0.1)
    """

    code = "WG301"


class UnknownNameError(WengertError, LookupError):
    """A recipe, optimizer, data set or code that does not exist; the message lists what does."""

    code = "WG302"


class OutputError(WengertError, OSError):
    """A run folder that cannot be written: no permission, no such place, or a full disk.

    Files are written beside their final name and moved over it, so what was there before is whole.
    """

    code = "WG303"


class MissingExtraError(WengertError, ImportError):
    """An optional dependency that is not installed.

    The core needs NumPy alone; the message names the extra: `pip install 'wengert[train]'`.
    """

    code = "WG304"


class NonFiniteError(WengertError, ArithmeticError):
    """Training that left the finite numbers: the loss became nan or infinite.

    The last good state is kept in the run folder. The usual cause is too high a learning rate.
    """

    code = "WG305"


class CheckpointError(WengertError, OSError):
    """A run that cannot be resumed: no checkpoint, damaged ones, or those of another run.

    Every checkpoint carries a checksum; the last two are kept.
    """

    code = "WG306"


class DataError(WengertError, ValueError):
    """A file of data that cannot be read as what it should be: damaged, cut off, or another kind.

    The message names the file and the place in it. Nothing is guessed and nothing is left out
    without a word; files that would run code when they are read (pickles) are refused.

        bad : data.csv("prices.csv", target="price")                   # a word among the numbers
        good: data.csv("prices.csv", target="price", missing=["n/a"])  # which means: unknown
    """

    code = "WG307"


class WengertWarning(UserWarning):
    """Every warning that wengert gives on purpose."""


class GaugeWarning(WengertWarning):
    """A derivative that depends on a choice that the mathematics leaves open.

    Eigenvectors of a repeated eigenvalue may be turned among themselves, and complex ones by a
    phase. A function of the matrix does not notice; one that does has no derivative there.
    """


class GradientWarning(WengertWarning):
    """A gradient that is right for the code as it stands, and probably not what was meant.

    Such as the zeros of an argument that went through an integer cast, a step of an optimizer
    before any backward, or probabilities in the place of logits.
    """


class CompileWarning(WengertWarning):
    """A call of a compiled function that runs as it would uncompiled: what stood against it.

    It is given once for a function and a reason; numbers and effects are those of the function.

        bad : wg.compile(lambda x: x if x.sum() > 0 else -x)       # a branch on a value
        good: wg.compile(lambda x: wg.where(x.sum() > 0, x, -x))
    """


class LoopWarning(WengertWarning):
    """What `wg.train.guard` has seen in a training loop; `code` says which of these it is."""

    CODES: ClassVar[dict[str, str]] = {
        "WG401": "gradients are clipped while they are scaled: the limit means another length",
        "WG402": "the gradient of the last step is still there, and this one was added to it",
        "WG403": "the parts of an accumulated batch do not weigh what they should",
        "WG404": "an evaluation was recorded, and no backward used it: memory and time are lost",
        "WG405": "training in evaluation mode: dropout is off, running statistics stand still",
        "WG406": "evaluation in training mode: the answers are random, or the statistics change",
        "WG407": "parameters that never got a gradient: they are not trained",
        "WG408": "parameters of the model that no optimizer was given: they are not trained",
        "WG409": "dead ReLUs: units that were 0 for every example get no gradient and stay so",
        "WG410": "saturated units: where the curve is flat hardly any gradient comes through",
        "WG411": "vanishing gradients: the early layers learn many times slower than the late ones",
        "WG412": "exploding gradients: a step of this length undoes what was learned",
        "WG413": "the loss does not change",
        "WG414": "a difference was broadcast: every prediction is compared with every target",
        "WG415": "the losses of earlier steps are kept as tensors, with what they were made from",
        "WG416": "the schedule went on before the optimizer: the first learning rate is left out",
        "WG417": "a step of the optimizer without a backward before it",
    }
    code = "WG400"


def warn(message: str | Warning, category: type[Warning] = WengertWarning) -> None:
    """Warn, once for each of the user's lines."""
    frame = user_frame(sys._getframe(1))
    warnings.warn_explicit(
        message,
        category,
        frame.f_code.co_filename,
        frame.f_lineno,
        frame.f_globals.get("__name__", ""),
        frame.f_globals.setdefault("__warningregistry__", {}),
    )


def warned(cls: type[Warning], what: str, rule: str, **parts: Any) -> None:
    """Warn in four parts."""
    warn(str(WengertError(what, rule, **parts)).partition("] ")[2], cls)


def explain(code: str) -> str:
    """The long form of an error code.

    >>> print(explain("WG205").splitlines()[0])
    WG205 LeafWriteError: An in-place write to a leaf that is being recorded.
    """
    for cls in WengertError.__subclasses__():
        if cls.code == code.upper():
            return f"{cls.code} {cls.__name__}: {inspect.cleandoc(cls.__doc__ or '')}"
    if code.upper() in LoopWarning.CODES:
        return f"{code.upper()} LoopWarning: {LoopWarning.CODES[code.upper()]}"
    known = ", ".join(sorted(c.code for c in WengertError.__subclasses__()))
    raise UnknownNameError(f"explain({code!r})", "no such code", fix=f"one of {known}")


for _cls in (
    WengertError,
    *WengertError.__subclasses__(),
    WengertWarning,
    *WengertWarning.__subclasses__(),
):
    _cls.__module__ = "wengert"
