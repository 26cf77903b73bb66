"""What every optimizer shares: the parameters, and memory for all of them end to end.

The update rules are elementwise, so they do not care where one parameter ends and the next begins.
Gradients are copied into one flat buffer and the rule runs once over it, instead of once for every
parameter: the time of a step is then that of the arithmetic, not that of a hundred small calls.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wengert import trace
from wengert.compile import live
from wengert.errors import ArgumentError, GradientWarning, OptionError, ShapeError, verbatim, warned
from wengert.nn.module import Module
from wengert.trace import Tensor, enable_grad, no_grad
from wengert.transforms.store import writable

from .events import LISTENERS, tell
from .recorded import recorded_step

__all__ = ["Group", "Optimizer", "check"]

Flat = NDArray[Any]
Closure = Callable[[], Any]


def check(
    owner: str, name: str, value: Any, *, low: float = 0.0, below: float = math.inf, fix: str = ""
) -> float:
    """`value` as a float, if low <= value < below.

    Example:
        >>> check("SGD", "lr", 0.1)
        0.1
        >>> check("SGD", "lr", float("nan"), fix="lr=0.1")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        wengert.OptionError: [WG301] SGD(lr=nan): lr must be a finite number, at least 0
          fix: lr=0.1
          at:  ...
    """
    try:
        number = math.nan if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if low <= number < below:
        return number
    kind = "a finite number" if below == math.inf else f"a number below {below:g}"
    raise OptionError(
        f"{owner}({name}={value!r})", f"{name} must be {kind}, at least {low:g}", fix=fix or None
    )


def pair(owner: str, name: str, value: Any, fix: str = "") -> tuple[Any, Any]:
    """`value` as two things."""
    try:
        first, second = value
    except (TypeError, ValueError):
        raise OptionError(
            f"{owner}({name}={value!r})", f"{name} are two numbers", fix=fix or None
        ) from None
    return first, second


def flag(owner: str, name: str, value: Any) -> bool:
    """`value` as True or False."""
    if isinstance(value, bool | np.bool_ | int) and value in (0, 1):
        return bool(value)
    raise OptionError(f"{owner}({name}={value!r})", f"{name} is True or False")


@lru_cache
def flags(kind: type) -> tuple[str, ...]:
    """The options of an optimizer that are True or False."""
    takes = inspect.signature(kind).parameters
    return tuple([name for name, p in takes.items() if isinstance(p.default, bool)])


def evaluated(closure: Closure) -> Any:
    """What a closure returns; it records, also inside `no_grad`."""
    with enable_grad():
        return closure()


def loss_value(what: str, loss: Any) -> float:
    """The number that a closure returned."""
    if isinstance(loss, Tensor | np.ndarray | np.number) and loss.size == 1:
        return float(loss.item())
    if isinstance(loss, int | float):
        return float(loss)
    raise ArgumentError(
        what,
        "closure returns the loss, one number",
        operands=[("closure()", loss)],
        fix="return loss, as the last line of closure",
    )


class Group:
    """Parameters that share their hyperparameters: `group.lr`, or `group["lr"]`.

    Every value is checked when it is set.
    """

    parameters: list[Tensor]

    def __init__(self, owner: Optimizer, parameters: list[Tensor], options: dict[str, Any]) -> None:
        self.__dict__.update(_owner=owner, parameters=parameters, **owner.checked(options))

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.options:
            raise self._owner.unknown(name)
        self.set({name: value})

    def set(self, options: Mapping[str, Any]) -> None:
        """Change several hyperparameters; none of them unless all are in their range."""
        self.__dict__.update(self._owner.checked({**self.options, **options}))

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __getitem__(self, name: str) -> Any:
        return self.parameters if name == "params" else getattr(self, name)

    def __setitem__(self, name: str, value: Any) -> None:
        setattr(self, name, value)

    @property
    def options(self) -> dict[str, Any]:
        """The hyperparameters, as a new dict."""
        return {k: v for k, v in self.__dict__.items() if k not in ("_owner", "parameters")}

    def __repr__(self) -> str:
        told = ", ".join(f"{k}={v!r}" for k, v in self.options.items())
        return f"Group({len(self.parameters)} parameters, {told})"


class Block:
    """The parameters of one group and dtype, with rows of memory as long as all of them."""

    watched = False  # a recorded step sees to what it changes here

    def __init__(self, group: Group, parameters: list[Tensor], states: tuple[str, ...]) -> None:
        self.group = group
        self.parameters = parameters
        self.steps = [0] * len(parameters)
        self.stops = np.cumsum([p.size for p in parameters]).tolist()
        self.starts = [0, *self.stops[:-1]]
        dtype = parameters[0].dtype
        self.gradient = np.zeros(self.stops[-1], dtype)
        self.value = np.zeros(self.stops[-1], dtype)
        self.scratch = np.zeros(self.stops[-1], dtype)
        self.states = {name: np.zeros(self.stops[-1], dtype) for name in states}
        self.gradients = self.shaped(self.gradient)
        self.values = self.shaped(self.value)
        self.views: dict[str, tuple[Flat, list[NDArray[Any]]]] = {}

    def shaped(self, row: Flat) -> list[NDArray[Any]]:
        """The part of a row that belongs to each parameter, in its shape."""
        return [
            row[start:stop].reshape(p.shape)
            for p, start, stop in zip(self.parameters, self.starts, self.stops)
        ]

    def view(self, name: str, i: int) -> NDArray[Any]:
        """What is remembered of one parameter, in its shape: the same array at every call."""
        if name not in self.views or self.views[name][0] is not self.states[name]:
            self.views[name] = self.states[name], self.shaped(self.states[name])
        return self.views[name][1][i]

    def runs(self, present: list[int]) -> Iterator[tuple[int, int]]:
        """Neighbours that have a gradient and have made equally many steps: [first, last] pairs."""
        first = last = present[0]
        for i in present[1:]:
            if i == last + 1 and self.steps[i] == self.steps[first]:
                last = i
                continue
            yield first, last
            first = last = i
        yield first, last


class Optimizer:
    """The base of every optimizer: an elementwise update rule over parameters.

    A subclass gives `update` and `checked`; it says with `states` what it remembers of every number
    and with `reads_values` whether the rule looks at the parameters themselves.

    Args:
        parameters: the tensors to train, such as `model.parameters()`; or groups of them, dicts
            with `params` and the hyperparameters that differ from the rest.
        options: the hyperparameters; `optimizer.groups[i].lr` may be set between steps, and
            `optimizer.lr` sets it for all groups.

    Raises:
        OptionError: no parameters, a module in their place, something that is not a leaf with
            `requires_grad`, or a learning rate that is negative, infinite, nan or no number.
    """

    names: ClassVar[tuple[str, ...]] = ()  # of the rows of memory that the rule keeps
    traceable: ClassVar[bool] = True  # `update` is all there is: a compiled step can record it

    def __init__(
        self, parameters: Iterable[Tensor] | Iterable[Mapping[str, Any]], **options: Any
    ) -> None:
        self._owner = type(self).__name__
        if isinstance(parameters, Module):
            raise OptionError(
                f"{self._owner}(model)",
                "an optimizer takes the parameters of a model, not the model",
                operands=[("model", verbatim(type(parameters).__name__))],
                fix=f"{self._owner}(model.parameters(), ...)",
            )
        options = self.checked(options)
        given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
        groups = given if given and isinstance(given[0], Mapping) else [{"params": given}]
        self.groups: list[Group] = []
        self.parameters: list[Tensor] = []
        self._blocks: list[Block] = []
        for group in groups:
            self.add_group(group, options)
        if not self.parameters:
            raise OptionError(
                f"{self._owner}(parameters)",
                "there is nothing to train: no parameters",
                fix="pass model.parameters() of a model that has some",
            )

    def add_group(self, group: Any, defaults: Mapping[str, Any] | None = None) -> None:
        """Train more parameters, with hyperparameters of their own where `group` names some."""
        if not isinstance(group, Mapping) or "params" not in group:
            raise OptionError(
                f"{self._owner}(groups)",
                "a group is a dict with the key 'params'",
                operands=[("group", verbatim(type(group).__name__))],
                fix='{"params": model.parameters(), "lr": 0.01}',
            )
        told = {k: v for k, v in group.items() if k != "params"}
        known = dict(defaults or self.groups[0].options)
        for name in told:
            if name not in known:
                raise self.unknown(name, known)
        params = group["params"]
        tensors = [params] if isinstance(params, Tensor) else list(params)
        seen = {id(p) for p in self.parameters}
        for i, p in enumerate(tensors, len(self.parameters)):
            self._check_parameter(i, p, id(p) in seen)
            seen.add(id(p))
        if not tensors:
            return
        made = Group(self, tensors, {**known, **told})
        self.groups.append(made)
        self.parameters += tensors
        blocks: dict[Any, list[Tensor]] = {}
        for p in tensors:
            blocks.setdefault(p.dtype, []).append(p)
        self._blocks += [Block(made, ps, self.remembers(made)) for ps in blocks.values()]

    def unknown(self, name: str, known: Mapping[str, Any] | None = None) -> OptionError:
        """The error for a hyperparameter that does not exist."""
        options = self.groups[0].options if known is None else known
        return OptionError(
            f"{self._owner}({name}=...)",
            "there is no such hyperparameter",
            operands=[("known", verbatim(", ".join(options)))],
        )

    def _check_parameter(self, i: int, p: Any, twice: bool) -> None:
        if isinstance(p, Tensor) and p.is_leaf and p.requires_grad and not twice:
            return
        if twice:
            rule, fix = "the same tensor is given twice", "pass every parameter once"
        elif isinstance(p, Tensor) and not p.is_leaf:
            rule, fix = "a result of an operation is not a parameter", "p.detach().requires_grad_()"
        elif isinstance(p, Tensor):
            rule = "a parameter is a tensor with requires_grad=True"
            fix = "[p for p in model.parameters() if p.requires_grad], or p.requires_grad_()"
        else:
            rule = "a parameter is a tensor with requires_grad=True"
            fix = "wg.tensor(p, requires_grad=True), or model.parameters()"
        value = p if hasattr(p, "shape") else verbatim(type(p).__name__)
        raise OptionError(
            f"{self._owner}(parameters)", rule, operands=[(f"parameters[{i}]", value)], fix=fix
        )

    # ---- hyperparameters
    def checked(self, options: dict[str, Any]) -> dict[str, Any]:
        """The hyperparameters, each in its range; a subclass checks its own as well."""
        name = self._owner
        lr = check(name, "lr", options["lr"], fix=f"{name}(parameters, lr=0.01)")
        kind: Any = type(self)
        told: dict[str, Any] = {k: flag(name, k, options[k]) for k in flags(kind) if k in options}
        if "betas" in options:
            told["betas"] = pair(name, "betas", options["betas"], "betas=(0.9, 0.999)")
        return {**options, **told, "lr": lr}

    @property
    def param_groups(self) -> list[Group]:
        """PyTorch's name for `groups`."""
        return self.groups

    @property
    def lr(self) -> float:
        """The learning rate of the first group; setting it sets it for all of them."""
        rate: float = self.groups[0].lr
        return rate

    @lr.setter
    def lr(self, value: float) -> None:
        for group in self.groups:
            group.lr = value

    # ---- steps
    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients: `p.grad = None` for every parameter.

        Args:
            set_to_none: False makes them zeros instead, with which `step` goes on along its
                momentum; a parameter without a gradient stays without.
        """
        if LISTENERS:
            tell("zero_grad", self)
        tracer = live.recording() if trace.MODES else None
        for p in self.parameters:
            if not set_to_none and p.grad is not None:
                p.grad = np.zeros_like(p.grad)
                continue
            if tracer is not None:
                tracer.forget(p)
            if p.node is not None:  # else it was frozen since
                p.node.grad = None

    def step(self, closure: Closure | None = None) -> Any:
        """One update of every parameter that has a gradient; the others stay as they are.

        Args:
            closure: computes the gradients first: `zero_grad()`, the loss, its `backward()`.

        Returns:
            what the closure returns.
        """
        loss = None if closure is None else evaluated(closure)
        if LISTENERS:
            tell("step", self)
        if all(getattr(p.node, "grad", None) is None for p in self.parameters):
            self._idle()
        tracer = live.recording() if trace.MODES else None
        with no_grad():
            for block in self._blocks:
                if tracer is not None:
                    recorded_step(self, block, tracer)
                else:
                    self._step(block)
        return loss

    def _idle(self) -> None:
        p = self.parameters[0]
        warned(
            GradientWarning,
            f"{self._owner}.step()",
            "no parameter has a gradient, so nothing changes",
            operands=[(p.name or "parameters[0]", p, "its grad is None")],
            fix="loss.backward() comes between zero_grad() and step()",
        )

    def _step(self, block: Block) -> None:
        gradients: list[Any] = [getattr(p.node, "grad", None) for p in block.parameters]
        present = [i for i, g in enumerate(gradients) if g is not None]
        gradients = [g.value() if isinstance(g, Tensor) else g for g in gradients if g is not None]
        reads = self.reads_values(block.group)
        if len(present) == len(block.parameters):
            np.concatenate(gradients, None, block.gradient)
            if reads:
                np.concatenate([p.data for p in block.parameters], None, block.value)
        else:
            for i, g in zip(present, gradients):
                np.copyto(block.gradients[i], g)
                if reads:
                    np.copyto(block.values[i], block.parameters[i].data)
            if not present:
                return
        if getattr(block.group, "maximize", False):
            np.negative(block.gradient, block.gradient)
        for first, last in block.runs(present):
            t = block.steps[first] + 1
            self.advance(block, first, last, t)
            block.steps[first : last + 1] = [t] * (last + 1 - first)
        for i in present:
            w = writable(block.parameters[i])
            w -= block.gradients[i]

    def advance(self, block: Block, first: int, last: int, t: int) -> None:
        """Turn the gradients of the parameters first .. last of a block into steps to subtract.

        The elementwise `update` over all of them at once, complex numbers as pairs of real ones; a
        rule that looks at the shape of a parameter overrides this.
        """
        k = 2 if block.gradient.dtype.kind == "c" else 1
        part = slice(k * block.starts[first], k * block.stops[last])
        rows = [block.gradient, block.value, block.scratch, *block.states.values()]
        if k == 2:
            rows = [row.view(row.real.dtype) for row in rows]
        self.update(block.group, t, *[row[part] for row in rows])

    def remembers(self, group: Group) -> tuple[str, ...]:
        """The names of the rows of memory for the parameters of a group."""
        return self.names

    def reads_values(self, group: Group) -> bool:
        """Whether the update rule looks at the parameters."""
        return False

    def update(self, o: Group, t: int, g: Flat, p: Flat, scratch: Flat, *states: Flat) -> None:
        """Turn the gradient g into what is to be subtracted, in place.

        Args:
            o: the group, for its hyperparameters.
            t: which step of these parameters this is, from 1.
            g: the gradient; on return, the step to subtract.
            p: a copy of the parameters if `reads_values`, else undefined; may be overwritten.
            scratch: as long as g, undefined; may be overwritten.
            *states: what the rule remembers, zeros at first.
        """
        raise NotImplementedError

    # ---- state
    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, as plain numbers and copies of arrays.

        `groups` has the hyperparameters of every group, `steps` how many steps every parameter has
        made, `arrays` what is remembered of each, by `<name>.<number of the parameter>`.
        """
        at = {id(p): i for i, p in enumerate(self.parameters)}
        steps = [0] * len(self.parameters)
        arrays: dict[str, NDArray[Any]] = {}
        for block in self._blocks:
            for p, n in zip(block.parameters, block.steps):
                steps[at[id(p)]] = n
            for name, row in block.states.items():
                for p, part in zip(block.parameters, block.shaped(row)):
                    arrays[f"{name}.{at[id(p)]}"] = part.copy()
        return {
            "optimizer": self._owner,
            "groups": [group.options for group in self.groups],
            "steps": steps,
            "arrays": arrays,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken; nothing is changed unless all of it fits.

        Raises:
            OptionError: the state is of another optimizer, or of other groups of parameters.
            ShapeError: what is remembered of a parameter has another shape.
        """
        at = {id(p): i for i, p in enumerate(self.parameters)}
        what = f"{self._owner}.load_state_dict(state)"
        arrays = state["arrays"]
        want = {
            f"{name}.{at[id(p)]}": part
            for block in self._blocks
            for name, row in block.states.items()
            for p, part in zip(block.parameters, block.shaped(row))
        }
        if state["optimizer"] != self._owner:
            raise OptionError(what, f"it is the state of {state['optimizer']}")
        if len(state["groups"]) != len(self.groups) or len(state["steps"]) != len(at):
            raise OptionError(
                what,
                "it is the state of other parameters",
                operands=[
                    ("here", verbatim(f"{len(self.groups)} groups, {len(at)} parameters")),
                    (
                        "state",
                        verbatim(
                            f"{len(state['groups'])} groups, {len(state['steps'])} parameters"
                        ),
                    ),
                ],
            )
        for name, part in want.items():
            if name not in arrays or np.shape(arrays[name]) != part.shape:
                found = arrays.get(name, verbatim("missing"))
                raise ShapeError(what, f"{name} does not fit", operands=[("here", part),
                                 ("state", found)])  # fmt: skip
        for group, options in zip(self.groups, state["groups"]):
            group.set(options)
        for name, part in want.items():
            part[...] = arrays[name]
        for block in self._blocks:
            block.steps = [int(state["steps"][at[id(p)]]) for p in block.parameters]
