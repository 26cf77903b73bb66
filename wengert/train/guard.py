"""The loop guard: what goes wrong in training loops written by hand, said while it happens."""

from __future__ import annotations

import math
import re
import statistics
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wengert.errors import LoopWarning, OptionError, WengertError, place, verbatim, warn
from wengert.nn import Module, watch
from wengert.optim import Optimizer
from wengert.optim.events import listening
from wengert.trace import EAGER, Node, Tensor, line, recording
from wengert.transforms.memory import Modules

from .swept import SMOOTH, Sweep

__all__ = ["Finding", "Guard", "guard"]

MOODY = re.compile("Dropout|BatchNorm|InstanceNorm|StochasticDepth|DropPath")


@dataclass(frozen=True)
class Finding:
    """Something that a guard has seen: the code, and the message of the warning."""

    code: str
    message: str


@dataclass
class _Track:
    """What is known of one optimizer since its last step."""

    parameters: list[Tensor]
    stepped: bool = False
    stale: str | None = None  # the line of a backward that added to the gradient of the last step
    sweeps: list[Sweep] = field(default_factory=list)
    weighted: bool = False
    used: list[Any] = field(default_factory=list)  # the gradients of the last step, weakly


class Guard:
    """Watches a training loop written by hand, and warns of what is probably a mistake.

        WG401 clipping before unscaling          WG410 saturated sigmoids and tanhs
        WG402 a forgotten zero_grad              WG411 vanishing gradients
        WG403 accumulation with wrong weights    WG412 exploding gradients
        WG404 evaluation that records            WG413 a loss that does not change
        WG405 training in evaluation mode        WG414 (n, 1) against (n,): a loss over n x n pairs
        WG406 evaluation in training mode        WG415 the graphs of old losses kept alive
        WG407 parameters without a gradient      WG416 a schedule that goes on before the optimizer
        WG408 parameters without an optimizer    WG417 a step without a backward
        WG409 dead ReLUs

    Each is a `LoopWarning`, given once, with the line and what to write instead; `findings` lists
    them. The guard listens to the optimizers, the scaler, clipping and schedules, and reads the
    graph of a loss before it is swept; it changes nothing, and operations stay on the fast road.
    Gradients that are divided by hand after the last backward are taken for undivided ones.

    Use it as a block, or make one, and `close()` it when the loop is over:

        with wg.train.guard(model, optimizer):
            for x, y in loader: ...

    Args:
        model: whose parameters, modes and activations are watched.
        optimizers: the optimizer, or several.
        scaler: the loss scaler, if it is known; else it is noticed when it scales.
        window: how many steps are looked at together for dead, saturated and constant.
        dead, saturated: the share of a layer's units that is too much.
        ratio: how many times smaller or larger one layer's gradient may be than another's.

    Example:
        >>> import warnings
        >>> from wengert import nn
        >>> from wengert.optim import SGD
        >>> model = nn.Linear(2, 1, rng=0)
        >>> optimizer = SGD(model.parameters(), lr=0.1)
        >>> with warnings.catch_warnings(), Guard(model, optimizer) as watching:
        ...     warnings.simplefilter("ignore")
        ...     for _ in range(3):
        ...         model(np.ones((4, 2), np.float32)).mean().backward()
        ...         optimizer.step()
        >>> [finding.code for finding in watching.findings]
        ['WG402']
    """

    def __init__(
        self,
        model: Module,
        optimizers: Optimizer | Iterable[Optimizer],
        scaler: Any = None,
        *,
        window: int = 20,
        dead: float = 0.5,
        saturated: float = 0.5,
        ratio: float = 1e5,
    ) -> None:
        listed = [optimizers] if isinstance(optimizers, Optimizer) else list(optimizers)
        if not isinstance(model, Module) or not all(isinstance(o, Optimizer) for o in listed):
            raise OptionError(
                "guard(model, optimizer)", "it takes a module, and an optimizer or several",
                operands=[("model", model), ("optimizer", optimizers)],
            )  # fmt: skip
        self.model, self.scaler, self.window = model, scaler, window
        self.dead, self.saturated, self.ratio = dead, saturated, ratio
        self.findings: list[Finding] = []
        self.paths = dict(model.named_parameters())
        self.moody = [m for _, m in model.named_modules() if _moody(m)]
        self._tracks = {o: _Track(o.parameters) for o in listed}
        self._main = listed[0] if listed else None
        self.steps = 0
        self._scaled = self._unscaled = False
        self._evaluated: list[tuple[Any, str]] = []
        self._reached: set[str] = set()
        self._breaks: dict[int, str] = {}
        self._losses: list[float] = []
        self._kept: list[list[Any]] = []
        self._alive: dict[Any, list[Any]] = {}  # of a ReLU: steps, ever above 0, module, line
        self._flat: dict[Any, list[Any]] = {}  # of a sigmoid: steps, flat, all, module, line
        self._rms: dict[str, deque[float]] = {}
        self._norms: deque[float] = deque(maxlen=window)
        self._stack = ExitStack()
        self._stack.enter_context(listening(_weakly(self._hear)))
        self._stack.enter_context(watch(_weakly(self._called)))
        weakref.finalize(self, self._stack.close)

    def __enter__(self) -> Guard:
        return self

    def __exit__(self, kind: Any, *exc: Any) -> None:
        self.close(quiet=kind is not None)

    def close(self, quiet: bool = False) -> None:
        """Stop listening, after a last look."""
        if not quiet:
            self.check(last=True)
        self._stack.close()

    def check(self, last: bool = False) -> list[Finding]:
        """Look now, without waiting for the window to fill; all findings so far."""
        if self._evaluated and (last or self.steps):
            self._recorded_evaluation()
        if self.steps > 1:
            self._untrained()
            self._without_gradient()
        return self.findings

    def warn(
        self, code: str, what: str, fix: str, operands: Any = (), at: str | None = None
    ) -> None:
        """Give a warning, unless it was given before."""
        if any(f.code == code for f in self.findings):
            return
        rule = LoopWarning.CODES[code]
        text = str(WengertError(what, rule, operands=operands, fix=fix, at=at)).partition("] ")[2]
        self.findings.append(Finding(code, text))
        warning = LoopWarning(f"[{code}] {text}")
        warning.code = code
        warn(warning)

    # ---- what is heard
    def _hear(self, event: str, *about: Any) -> None:
        handler: Callable[..., None] | None = getattr(self, f"_on_{event}", None)
        if handler is not None:
            handler(*about)

    def _mine(self, optimizer: Optimizer) -> _Track | None:
        """What is known of an optimizer that trains the model."""
        if optimizer not in self._tracks:
            own = {id(p) for p in self.paths.values()}
            if own.isdisjoint(id(p) for p in optimizer.parameters):
                return None
            self._tracks[optimizer] = _Track(optimizer.parameters)
        return self._tracks[optimizer]

    def _on_zero_grad(self, optimizer: Optimizer) -> None:
        if (track := self._mine(optimizer)) is not None:
            track.stale, track.sweeps, track.weighted = None, [], False

    def _on_weighted(self, step: Any) -> None:
        if (track := self._mine(step.optimizer)) is not None:
            track.weighted = True

    def _on_scale(self, scaler: Any, loss: Any) -> None:
        self.scaler, self._scaled, self._unscaled = scaler, True, False

    def _on_unscale(self, scaler: Any, optimizer: Optimizer) -> None:
        self._unscaled = True

    def _on_clip(self, parameters: list[Tensor]) -> None:
        own = {id(p) for p in self.paths.values()}
        if self._scaled and not self._unscaled and not own.isdisjoint(map(id, parameters)):
            self.warn(
                "WG401", "clip_grad_norm_(parameters)",
                "scaler.unscale_(optimizer) before clipping",
                [("scale", verbatim(f"{self.scaler.scale_now:g}"))],
            )  # fmt: skip

    def _on_schedule(self, schedule: Any) -> None:
        track = self._tracks.get(schedule.optimizer)
        if track is not None and not self.steps and not track.stepped:
            self.warn(
                "WG416", "schedule.step()", "optimizer.step() first, schedule.step() after it"
            )

    def _called(self, module: Module, y: Any) -> None:
        """After a call of the model."""
        if module is not self.model or not isinstance(y, Tensor):
            return
        if y.node is not None and not module.training and type(y.node) is Node:
            self._evaluated = [*self._evaluated[-31:], (weakref.ref(y.node), line(y.node))]
        quiet = y.level is EAGER and not recording(EAGER)
        if quiet and module.training and self.moody:
            self.warn(
                "WG406", f"{type(module).__name__}(x) under no_grad",
                "model.eval() before the evaluation, model.train() after it",
                [("differs", verbatim(type(self.moody[0]).__name__))],
            )  # fmt: skip

    def _on_backward(self, loss: Tensor) -> None:
        scale = self.scaler.scale_now if self._scaled and not self._unscaled else 1.0
        sweep = Sweep(loss.node, scale)
        hit = {id(leaf) for leaf in sweep.leaves}
        tracks = [t for t in self._tracks.values() if any(id(p.node) in hit for p in t.parameters)]
        if not tracks:
            return
        for why in (loss.level.breaks or {}).items():
            for leaf in why[1].nodes:
                self._breaks.setdefault(id(leaf), f"{place(*why[0])}: {why[1].why}")
        for track in tracks:
            present = [p for p in track.parameters if p.grad is not None]
            if track.stepped or not present:
                track.stale, track.sweeps = None, []
            if track.stepped and any(np.any(_plain(p.node.grad)) for p in present):
                track.stale = place(*sweep.line) if sweep.line else ""
            track.stepped = False
            track.sweeps.append(sweep)
        visited = {id(n) for n in sweep.nodes}
        self._evaluated = [
            e for e in self._evaluated if e[0]() is None or id(e[0]()) not in visited
        ]
        if not self.model.training and self.moody:
            self.warn(
                "WG405", "loss.backward()", "model.train() before training",
                [("differs", verbatim(type(self.moody[0]).__name__))],
            )  # fmt: skip
        self._losses = [*self._losses, float(loss.value()) / scale][: 2 * self.window]
        self._kept.append([weakref.ref(n) for n in sweep.chain])
        self._look_for_pairs(sweep)
        self._look_at_units(sweep)
        sweep.nodes, sweep.leaves, sweep.chain, sweep.root = [], set(), [], None

    def _on_step(self, optimizer: Optimizer) -> None:
        track = self._mine(optimizer)
        if track is None:
            return
        now = [_plain(p.node.grad) for p in track.parameters if p.grad is not None]
        if track.stale is not None:
            self.warn(
                "WG402", "loss.backward()", "optimizer.zero_grad() after every step",
                at=track.stale,
            )  # fmt: skip
        if not track.sweeps and (not now or {id(g) for g in now} & self._again(track)):
            self.warn("WG417", "optimizer.step()", "zero_grad(), loss.backward(), then step()")
        if len(track.sweeps) > 1 and not track.weighted:
            self._weights(track.sweeps)
        track.used = [weakref.ref(g) for g in now if isinstance(g, np.ndarray)]
        track.stepped, track.stale, track.sweeps, track.weighted = True, None, [], False
        for path, p in self.paths.items():
            if p.node is not None and p.node.grad is not None:
                self._reached.add(path)
        if optimizer is self._main:
            self._after(track)

    def _again(self, track: _Track) -> set[int]:
        return {id(g()) for g in track.used if g() is not None}

    def _after(self, track: _Track) -> None:
        """Everything that is looked at once a step."""
        self.steps += 1
        unscaled = self._unscaled or not self._scaled
        self._scaled = self._unscaled = False
        if self._evaluated:
            self._recorded_evaluation()
        if self.steps == 2:
            self._untrained()
        if self.steps == self.window:
            self._without_gradient()
        if unscaled:
            self._lengths(track)
        losses = self._losses
        if len(losses) >= self.window and self.steps >= self.window:
            low, high = min(losses), max(losses)
            if high - low <= 1e-12 * abs(high):
                self.warn(
                    "WG413", "loss.backward()",
                    "a learning rate above 0, and a loss that depends on what the optimizer trains",
                    [("loss", verbatim(f"{high:.6g} for {len(losses)} evaluations")),
                     ("lr", verbatim(f"{self._main.lr:g}" if self._main else ""))],
                )  # fmt: skip
        self._kept = [refs for refs in self._kept if any(r() is not None for r in refs)]
        if len(self._kept) > self.window:
            self.warn(
                "WG415", "total += loss", "total += loss.item()",
                [("alive", verbatim(f"the losses of {len(self._kept)} steps"))],
            )  # fmt: skip

    # ---- what is found
    def _recorded_evaluation(self) -> None:
        self.warn(
            "WG404", f"{type(self.model).__name__}(x) in evaluation mode",
            "with wg.no_grad(): around the evaluation", at=self._evaluated[0][1],
        )  # fmt: skip
        self._evaluated = []

    def _untrained(self) -> None:
        given = {id(p) for t in self._tracks.values() for p in t.parameters}
        trained = {k: p for k, p in self.paths.items() if p.requires_grad}
        left = [path for path, p in trained.items() if id(p) not in given]
        if left:
            self.warn(
                "WG408", "optimizer.step()",
                "the optimizer over model.parameters(), made after the model is complete; "
                "p.requires_grad_(False) for what is to stay",
                [("left out", verbatim(_some(left)))],
            )  # fmt: skip

    def _without_gradient(self) -> None:
        given = {id(p) for t in self._tracks.values() for p in t.parameters}
        never = {
            path: p for path, p in self.paths.items()
            if p.requires_grad and path not in self._reached and id(p) in given
        }  # fmt: skip
        if never:
            known = [self._breaks[id(p.node)] for p in never.values() if id(p.node) in self._breaks]
            broke = [("broke at", verbatim(known[0]))] if known else []
            self.warn(
                "WG407", "loss.backward()",
                "use them in forward, or p.requires_grad_(False) if they are not meant to learn",
                [("never", verbatim(_some(list(never)))), *broke],
            )  # fmt: skip

    def _weights(self, sweeps: list[Sweep]) -> None:
        """Several backwards before a step: means that were added up, or parts of unequal size."""
        if len({s.line for s in sweeps}) > 1 or any(s.share is None for s in sweeps):
            return
        k = len(sweeps)
        shares = [s.share for s in sweeps if s.share is not None]
        counts = [s.count for s in sweeps]
        total, at = sum(counts), place(*sweeps[0].line)
        told = [("parts", verbatim(_some([str(n) for n in counts])), "examples")]
        if all(math.isclose(share, 1.0, rel_tol=1e-6) for share in shares):
            self.warn(
                "WG403", f"{k} backward() of means before one step()",
                f"(loss * len(x) / {total}).backward(), or wg.train.Step(..., accumulate={k}); "
                f"the gradient is {k} times that of a mean",
                told, at,
            )  # fmt: skip
        elif len(set(counts)) > 1 and max(shares) - min(shares) <= 1e-6 * max(shares):
            self.warn(
                "WG403", f"{k} parts of unequal size with equal weights",
                f"(loss * len(x) / {total}).backward(), or wg.train.Step(..., accumulate={k})",
                told, at,
            )  # fmt: skip

    def _look_for_pairs(self, sweep: Sweep) -> None:
        found = sweep.broadcast()
        if found is not None:
            node, mine, out = found
            other = (out[0],) if len(mine) == 2 else (out[0], 1)
            self.warn(
                "WG414", "prediction - target",
                "prediction.squeeze(-1) - target" if len(mine) == 2 else "target.squeeze(-1)",
                [("recorded", verbatim(list(mine))), ("other", verbatim(list(other))),
                 ("result", verbatim(list(out)))],
                line(node),
            )  # fmt: skip

    def _look_at_units(self, sweep: Sweep) -> None:
        modules: Modules | None = None
        for unit in sweep.units():
            key = (unit.name, unit.place)
            width = unit.kept.shape[-1] if unit.name == "relu" else 2
            table = self._alive if unit.name == "relu" else self._flat
            if key not in table or len(table[key][1]) != width:
                modules = modules or Modules(sweep.nodes)
                start = np.zeros(width, np.int64)
                table[key] = [0, start, modules.of(unit.node), line(unit.node)]
            seen = table[key]
            seen[0] += 1
            x = unit.kept
            if unit.name == "relu":
                seen[1] |= (x > 0).any(axis=tuple(range(x.ndim - 1)))
                share, limit = 1.0 - float(np.mean(seen[1])), self.dead
            else:
                seen[1] += [np.count_nonzero(np.abs(x) > SMOOTH[unit.name]), x.size]
                share, limit = float(seen[1][0] / seen[1][1]), self.saturated
            if seen[0] < self.window:
                continue
            if share >= limit:
                self._units(unit.name, seen, share)
            table[key] = [0, np.zeros_like(seen[1]), *seen[2:]]

    def _units(self, name: str, seen: list[Any], share: float) -> None:
        layer = ("layer", verbatim(seen[2] or "-"))
        if name == "relu":
            told = verbatim(f"{share:.0%} of {len(seen[1])} units in {seen[0]} steps")
            self.warn(
                "WG409", "relu(x)", "a lower learning rate, he initialisation, or leaky_relu",
                [layer, ("dead", told)], seen[3],
            )  # fmt: skip
        else:
            self.warn(
                "WG410", f"{name}(x)",
                "smaller weights at first (xavier), inputs of mean 0 and deviation 1, or a norm",
                [layer, ("flat", verbatim(f"{share:.0%}, where |x| > {SMOOTH[name]:g}"))],
                seen[3],
            )  # fmt: skip

    def _lengths(self, track: _Track) -> None:
        """The gradients of the layers, against each other and against those of earlier steps."""
        square = 0.0
        for path, p in self.paths.items():
            if p.node is None or p.node.grad is None:
                continue
            g = np.asarray(_plain(p.node.grad)).ravel().astype(np.float64, copy=False)
            own = float(np.vdot(g, g).real)
            square += own
            if p.ndim > 1:
                values = self._rms.setdefault(path, deque(maxlen=self.window))
                values.append(math.sqrt(own / p.size) if own == own else math.nan)
        norm = math.sqrt(square) if square == square else math.nan
        usual = statistics.median(self._norms) if len(self._norms) == self.window else math.inf
        if not math.isfinite(norm) or norm > 1e4 * usual > 0.0:
            was = "" if usual == math.inf else f"; {usual:.3g} in the steps before"
            self.warn(
                "WG412", "optimizer.step()", "clip_grad_norm_(parameters, 1.0) before the step, or "
                "a lower learning rate", [("|gradient|", verbatim(f"{norm:.3g}{was}"))],
            )  # fmt: skip
            return
        self._norms.append(norm)
        full = {k: statistics.median(v) for k, v in self._rms.items() if len(v) == self.window}
        if len(full) < 2 or self.steps % self.window:
            return
        paths = list(full)
        low, high = min(paths, key=full.__getitem__), max(paths, key=full.__getitem__)
        if full[high] <= self.ratio * full[low]:
            return
        told = [(k, verbatim(f"{full[k]:.3g}"), "a number, rms") for k in (low, high)]
        if paths.index(low) < paths.index(high):
            self.warn(
                "WG411", "loss.backward()",
                "relu in place of sigmoid, he or xavier initialisation, norms, skip connections",
                told,
            )  # fmt: skip
        else:
            self.warn(
                "WG412", "loss.backward()",
                "smaller weights at first, norms, clip_grad_norm_(parameters, 1.0)", told,
            )  # fmt: skip


def guard(
    model: Module, optimizer: Optimizer | Iterable[Optimizer], scaler: Any = None, **options: Any
) -> Guard:
    """`with wg.train.guard(model, optimizer):` around a loop: a `Guard`, which see."""
    return Guard(model, optimizer, scaler, **options)


def _weakly(method: Any) -> Callable[..., None]:
    """A bound method that does not keep its object alive."""
    ref = weakref.WeakMethod(method)

    def call(*args: Any) -> None:
        m = ref()
        if m is not None:
            m(*args)

    return call


def _moody(module: Module) -> bool:
    """Whether a module does something else in training than in use."""
    code = getattr(type(module).forward, "__code__", None)
    return bool(MOODY.search(type(module).__name__)) or "training" in getattr(code, "co_names", ())


def _plain(g: Any) -> Any:
    while isinstance(g, Tensor):
        g = g.data
    return g


def _some(names: list[str], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
