"""Modules: functions with parameters, which know where each parameter stands in the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, NamedTuple, TypeVar
from weakref import ref

import numpy as np
from numpy.typing import NDArray

from wengert import tree
from wengert.create import tensor
from wengert.errors import ArgumentError, DTypeError, UnknownNameError, verbatim
from wengert.hollow import Hollow
from wengert.trace import EAGER, HERE, Tensor, make, no_grad, seq
from wengert.transforms.hooks import Handle
from wengert.transforms.memory import CALLS

from .hooks import ModuleHooks, hooked_call
from .state import as_buffer, as_parameter, check_name, check_state

__all__ = ["Module", "Parameter", "watch"]

M = TypeVar("M", bound="Module")
_listeners: list[Callable[[Module, Any], None]] = []


def Parameter(data: Any, dtype: Any = None) -> Tensor:
    """A tensor to be trained: `wg.tensor(data, dtype, requires_grad=True)`.

    Example:
        >>> Parameter([1.0, 2.0])
        tensor([1., 2.], requires_grad=True)
    """
    if isinstance(data, Hollow):  # under `unallocated`
        return make(data, None, EAGER).requires_grad_()
    return tensor(data, dtype=dtype, requires_grad=True)


@contextmanager
def watch(listener: Callable[[Module, Any], None]) -> Iterator[None]:
    """Call `listener(module, output)` after every module call inside the block.

    Example:
        >>> from wengert import nn
        >>> model = nn.Sequential(nn.Linear(2, 3, rng=0), nn.Tanh())
        >>> with watch(lambda module, y: print(type(module).__name__, y.shape)):
        ...     y = model(np.ones((5, 2), np.float32))
        Linear (5, 3)
        Tanh (5, 3)
        Sequential (5, 3)
    """
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


class Names(NamedTuple):
    """What a model and a state do not share."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """A function with parameters.

    Assigning to an attribute is all it takes: a tensor that requires a gradient is a parameter, any
    other tensor is a buffer (saved, not trained; `register_buffer` makes one that is not saved),
    and modules are found wherever they stand, also inside lists, tuples and dicts. A parameter may
    be replaced by a tensor, a module or None; an array in its place is refused, as it would not be
    trained. Parameters learn their path, such as `encoder.0.weight`, which is what messages and
    pictures call them.

    A module is a pytree whose leaves are its parameters, so `wg.grad` of a function of a module is
    a module of gradients. A parameter that stands at two places is two leaves there.

    Example:
        >>> import wengert as wg
        >>> class Scale(Module):
        ...     def __init__(self):
        ...         self.factor = Parameter([2.0, 3.0])
        ...
        ...     def forward(self, x):
        ...         return x * self.factor
        >>> model = Scale()
        >>> model(np.ones(2))
        tensor([2., 3.], grad_fn=mul)
        >>> wg.grad(lambda m: m(np.array([1.0, 10.0])).sum())(model).factor
        tensor([ 1., 10.])
    """

    training: bool = True
    _passing: frozenset[str] = frozenset()  # the buffers that are not saved

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        tree.register(cls, _flatten, _unflatten)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; every subclass says."""
        raise NotImplementedError(f"{type(self).__name__} has no forward(self, ...)")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        start = seq()
        if "_hooks" in self.__dict__:
            y = hooked_call(self, self.__dict__["_hooks"], args, kwargs)
        else:
            y = self.forward(*args, **kwargs)
        CALLS.append((start, seq(), ref(self)))  # for `wg.explain_memory`
        if _listeners and not getattr(HERE, "replaying", False):
            for listener in tuple(_listeners):
                listener(self, y)
        return y

    # ---- attributes
    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Tensor) and value.requires_grad and value.is_leaf:
            self._trained[name] = None
            _call(value, name)
        elif name in self._trained and not isinstance(value, Tensor):
            if isinstance(self.__dict__.get(name), Tensor) and not _replaces(value):
                raise _untrained(type(self).__name__, name, self.__dict__[name], value)
            del self._trained[name]
        object.__setattr__(self, name, value)
        for path, module in _modules(name, value):
            for local, p in module.named_parameters():
                _call(p, f"{path}.{local}")

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        self._trained.pop(name, None)
        if name in self._passing:
            self._passing = self._passing - {name}

    @property
    def _trained(self) -> dict[str, None]:
        """The names of the attributes that are parameters, in order of assignment."""
        own: dict[str, None] = self.__dict__.setdefault("_parameters", {})
        return own

    # ---- registering by name
    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """Set an attribute to a tensor that goes with the module and is not trained.

        Assignment does the same for a tensor; an array becomes one here, and what is not
        persistent is left out of `state_dict` and of files.

        Args:
            name: of the attribute.
            tensor: a tensor that requires no gradient, an array, or None.
            persistent: whether it is saved.

        Raises:
            ArgumentError: a name that is taken or has a dot; something else than a tensor.
            DTypeError: a tensor that requires a gradient.

        Example:
            >>> from wengert import nn
            >>> model = nn.Linear(2, 2, rng=0)
            >>> model.register_buffer("seen", np.zeros(2))
            >>> model.register_buffer("mask", np.tri(2), persistent=False)
            >>> [n for n, _ in model.named_buffers()], list(model.state_dict())
            (['seen', 'mask'], ['weight', 'bias', 'seen'])
        """
        buffer = lambda v: isinstance(v, Tensor) and name not in self._trained
        self._name("register_buffer", name, buffer)
        value = as_buffer(f"{type(self).__name__}.register_buffer", name, tensor)
        if (name in self._passing) == bool(persistent):
            self._passing = self._passing ^ {name}
        setattr(self, name, value)

    def register_parameter(self, name: str, param: Any) -> None:
        """Set an attribute to a parameter, or to None; assignment does the same.

        Raises:
            ArgumentError: a name that is taken or has a dot; a value that is no parameter.

        Example:
            >>> from wengert import nn
            >>> model = nn.Tanh()
            >>> model.register_parameter("gain", nn.Parameter([1.0]))
            >>> [n for n, _ in model.named_parameters()]
            ['gain']
        """
        self._name("register_parameter", name, lambda v: name in self._trained)
        setattr(self, name, as_parameter(f"{type(self).__name__}.register_parameter", name, param))

    def add_module(self, name: str, module: Any) -> None:
        """Set an attribute to a module, or to None; in a container, put it in under this name.

        Raises:
            ArgumentError: a name that is taken or has a dot; a value that is no module.

        Example:
            >>> from wengert import nn
            >>> model = nn.Sequential()
            >>> model.add_module("into", nn.Linear(2, 3, rng=0))
            >>> model.add_module("act", nn.Tanh())
            >>> model(np.ones((1, 2), np.float32)).shape
            (1, 3)
        """
        self._name("add_module", name, lambda v: isinstance(v, Module))
        if module is not None and not isinstance(module, Module):
            made = isinstance(module, type) and issubclass(module, Module)
            raise ArgumentError(
                f"{type(self).__name__}.add_module({name!r}, module)", "it is no module",
                operands=[("module", module)], fix=f"{module.__name__}()" if made else None,
            )  # fmt: skip
        self._put(name, module)

    register_module = add_module

    def _name(self, what: str, name: Any, replaces: Callable[[Any], bool]) -> None:
        """Refuses a name that is none, or has what the new value does not replace."""
        old = self.__dict__.get(name) if isinstance(name, str) else None
        check_name(what, self, name, free=old is None or replaces(old))

    def _put(self, name: str, module: Any) -> None:
        """Where `add_module` puts a module; a container has a place of its own."""
        setattr(self, name, module)

    # ---- hooks
    def register_forward_pre_hook(self, hook: Callable[..., Any]) -> Handle:
        """Call hook(module, args) before every call; what it returns takes the arguments' place.

        Example:
            >>> from wengert import nn
            >>> layer = nn.Tanh()
            >>> with layer.register_forward_pre_hook(lambda m, args: (args[0] * 0,)):
            ...     layer(np.ones(2))
            array([0., 0.])
        """
        return Handle(self._own_hooks(), "before", hook)

    def register_forward_hook(self, hook: Callable[..., Any]) -> Handle:
        """Call hook(module, args, y) after every call; what it returns takes the place of y.

        Example:
            >>> from wengert import nn
            >>> layer = nn.Tanh()
            >>> handle = layer.register_forward_hook(lambda m, args, y: print(y.shape))
            >>> y = layer(np.ones(2))
            (2,)
            >>> handle.remove()
        """
        return Handle(self._own_hooks(), "after", hook)

    def register_full_backward_hook(self, hook: Callable[..., Any]) -> Handle:
        """Call hook(module, gx, gy) when the gradients of a call's tensors are known.

        gx is a tuple with the gradient of each positional argument, through this call alone, and
        None where there is none; gy likewise for what the call returned. What the hook returns,
        unless None, takes the place of gx.

        Example:
            >>> import wengert as wg
            >>> from wengert import nn
            >>> layer = nn.Tanh()
            >>> handle = layer.register_full_backward_hook(lambda m, gx, gy: (10 * gx[0],))
            >>> x = wg.tensor([0.0], requires_grad=True)
            >>> layer(x).sum().backward()
            >>> x.grad
            tensor([10.])
        """
        return Handle(self._own_hooks(), "backward", hook)

    def _own_hooks(self) -> Any:
        return self.__dict__.setdefault("_hooks", ModuleHooks())

    # ---- walking
    def children(self) -> Iterator[Module]:
        """The modules right below this one."""
        for _, module in self.named_children():
            yield module

    def modules(self) -> Iterator[Module]:
        """This module and every one below it, each once."""
        for _, module in self.named_modules():
            yield module

    def buffers(self) -> Iterator[Tensor]:
        """Every tensor that is saved but not trained."""
        for _, t in self.named_buffers():
            yield t

    def get_submodule(self, path: str) -> Module:
        """The module at a path such as `encoder.layers.0`; "" is this one.

        Raises:
            UnknownNameError: there is none.
        """
        return found_at(self, "get_submodule", path, dict(self.named_modules()))

    def get_parameter(self, path: str) -> Tensor:
        """The parameter at a path such as `encoder.0.weight`.

        Raises:
            UnknownNameError: there is none.
        """
        return found_at(self, "get_parameter", path, dict(self.named_parameters()))

    def get_buffer(self, path: str) -> Tensor:
        """The buffer at a path such as `encoder.0.running_mean`.

        Raises:
            UnknownNameError: there is none.
        """
        return found_at(self, "get_buffer", path, dict(self.named_buffers()))

    def apply(self: M, f: Callable[[Module], Any]) -> M:
        """Call f with every module: those below first, this one last."""
        for module in reversed(list(self.modules())):
            f(module)
        return self

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules right below this one, with their paths."""
        for name, value in self.__dict__.items():
            yield from _modules(name, value)

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and every one below it, each once, with their paths."""
        seen: set[int] = set()
        stack = [(prefix, self)]
        while stack:
            path, module = stack.pop()
            if id(module) in seen:
                continue
            seen.add(id(module))
            yield path, module
            below = [(f"{path}.{n}" if path else n, m) for n, m in module.named_children()]
            stack.extend(reversed(below))

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Every parameter once, with its path."""
        return self._tensors(trained=True)

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor that is saved but not trained, with its path."""
        return self._tensors(trained=False)

    def _tensors(self, *, trained: bool, passing: bool = True) -> Iterator[tuple[str, Tensor]]:
        seen: set[int] = set()
        for path, module in self.named_modules():
            for name, value in module.__dict__.items():
                is_tensor = isinstance(value, Tensor) or name in module._trained
                if not is_tensor or (name in module._trained) != trained or id(value) in seen:
                    continue
                if not passing and name in module._passing:
                    continue
                seen.add(id(value))
                yield f"{path}.{name}" if path else name, value

    def parameters(self) -> list[Tensor]:
        """Every parameter once, in the order of `named_parameters`."""
        out = []
        for name, p in self.named_parameters():
            _call(p, name)
            out.append(p)
        return out

    # ---- modes
    def train(self: M, mode: bool = True) -> M:
        """Behave as in training (dropout and the like are active), here and below."""
        for _, module in self.named_modules():
            module.training = mode
        return self

    def eval(self: M) -> M:
        """Behave as in use, here and below."""
        return self.train(False)

    def requires_grad_(self: M, flag: bool = True) -> M:
        """Whether the parameters, here and below, are trained; False freezes them."""
        for _, p in self.named_parameters():
            p.requires_grad_(flag)
        return self

    def to(self: M, dtype: Any) -> M:
        """Change the floating-point parameters and buffers to a dtype; gradients are forgotten.

        The parameters stay the same objects: an optimizer goes on with them.

        Raises:
            DTypeError: dtype is not a floating one.

        Example:
            >>> from wengert import nn
            >>> nn.Linear(2, 2, rng=0).to(np.float64).weight.dtype
            dtype('float64')
        """
        what = f"{type(self).__name__}.to({getattr(dtype, '__name__', dtype)})"
        try:
            kind = np.dtype(dtype)
        except TypeError:
            kind = np.dtype(object)
        if kind.kind not in "fc":
            bf16 = "bfloat16" in what
            raise DTypeError(
                what, "parameters are of a floating-point dtype",
                fix="wg.amp.autocast('bfloat16') around the forward pass" if bf16 else None,
            )  # fmt: skip
        for _, t in [*self.named_parameters(), *self.named_buffers()]:
            if t.dtype.kind in "fc" and t.dtype != kind:
                t.data = t.data.astype(kind)
                if t.requires_grad:
                    t.grad = None
        return self

    def float(self: M) -> M:
        """`to(np.float32)`."""
        return self.to(np.float32)

    def double(self: M) -> M:
        """`to(np.float64)`."""
        return self.to(np.float64)

    def half(self: M) -> M:
        """`to(np.float16)`; to train with half numbers, see `wg.amp`.

        Example:
            >>> from wengert import nn
            >>> nn.Linear(2, 2, rng=0).half().weight.dtype
            dtype('float16')
        """
        return self.to(np.float16)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients: `p.grad = None` for every parameter, or zeros in its place."""
        for _, p in self.named_parameters():
            if set_to_none or p.grad is None:
                p.grad = None
            else:
                p.grad = np.zeros_like(p.grad)

    # ---- state
    def state_dict(self) -> dict[str, NDArray[Any]]:
        """A copy of every parameter and buffer, by path. Later training does not change it.

        Buffers that `register_buffer` was told not to keep are left out.
        """
        return {name: np.array(t.value()) for name, t in self._saved()}

    def _saved(self) -> Iterator[tuple[str, Tensor]]:
        """What is saved: every parameter, and the buffers that are persistent, with their paths."""
        yield from self.named_parameters()
        yield from self._tensors(trained=False, passing=False)

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> Names:
        """Take over every value; nothing is changed unless all of them fit.

        Args:
            state: values by path.
            strict: refuse names that differ; else only what has a name in both is taken over.

        Returns:
            the names that are missing in `state`, and those that the model does not have.

        Raises:
            UnknownNameError: there are such names, with `strict`.
            ShapeError: a value whose shape differs from the model's.
        """
        own = dict(self._saved())
        names = Names([n for n in own if n not in state], [n for n in state if n not in own])
        if not strict:
            own = {name: t for name, t in own.items() if name in state}
            state = {name: state[name] for name in own}
        check_state(type(self).__name__, own, state)
        with no_grad():
            for name, t in own.items():
                t[...] = np.asarray(state[name], dtype=t.dtype)
        return names

    # ---- printing
    def extra_repr(self) -> str:
        """What stands between the parentheses of the repr; a subclass with options says."""
        return ""

    def __repr__(self) -> str:
        below = [(path, m) for path, m in self.named_modules() if path]
        head = f"{type(self).__name__}({self.extra_repr()}"
        if not below:
            return head + ")"
        rows = [
            (path, f"{type(m).__name__}({m.extra_repr()})", _count(m, deep=False))
            for path, m in below
        ]
        rows.append(("parameters", "", _count(self, deep=True)))
        wide = max(len(path) for path, *_ in rows)
        text = max(len(line) for _, line, _ in rows)
        lines = [
            f"  {path:<{wide}}  {line:<{text}}  {f'{count:,}' if count else '':>11}".rstrip()
            for path, line, count in rows
        ]
        return "\n".join([head, *lines, ")"])


def found_at(module: Module, what: str, path: str, table: dict[str, Any]) -> Any:
    if path in table:
        return table[path]
    near = get_close_matches(path, table, 3)
    best = get_close_matches(path, table, 1, 0.9)
    raise UnknownNameError(
        f"{type(module).__name__}.{what}({path!r})", "there is nothing at this path",
        operands=[("near", verbatim(", ".join(near)))] if near else [],
        fix=f"{what}({best[0]!r})" if best else None,
    )  # fmt: skip


def _count(module: Module, *, deep: bool) -> int:
    own = [p for name, p in module.named_parameters() if deep or "." not in name]
    return sum(getattr(p, "size", 0) for p in own)


def _call(p: Any, path: str) -> None:
    """Give a parameter its path, unless it already has a longer one that ends with it."""
    if not isinstance(p, Tensor) or not p.is_leaf or not p.requires_grad:
        return
    known = p.name or ""
    if known != path and not known.endswith("." + path):
        p.name = path


def _replaces(value: Any) -> bool:
    """Whether a value that is no tensor may take a parameter's place."""
    return value is None or isinstance(value, Module)


def _untrained(kind: str, name: str, parameter: Tensor, value: Any) -> DTypeError:
    word = "array" if isinstance(value, np.ndarray) else "value"
    return DTypeError(
        f"{kind}.{name} = {word}",
        f"the parameter {name!r} would no longer be trained",
        operands=[(name, parameter, "the parameter"), (word, value)],
        fix=f"m.{name} = nn.Parameter({word})",
    )


def _modules(name: str, value: Any) -> Iterator[tuple[str, Module]]:
    """The modules in an attribute: itself, or those in its lists, tuples and dicts."""
    if isinstance(value, Module):
        yield name, value
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from _modules(f"{name}.{i}", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _modules(f"{name}.{key}", item)


class _Rest:
    """What a module is apart from its parameters: its class and its other attributes."""

    __slots__ = ("cls", "names", "others", "policies", "trained")

    def __init__(self, module: Module, names: tuple[str, ...]) -> None:
        self.cls = type(module)
        self.names = names
        self.trained = tuple(module._trained)
        self.others = {k: v for k, v in module.__dict__.items() if k not in names}
        self.policies = getattr(module, "_policies", None)  # of `wg.checkpoint`

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Rest):
            return NotImplemented
        return (self.cls, self.names, self.trained) == (other.cls, other.names, other.trained)

    def __hash__(self) -> int:
        return hash((self.cls, self.names, self.trained))


def _flatten(module: Module) -> tuple[Sequence[Any], Sequence[str], _Rest]:
    trained = module._trained
    names = tuple(
        name
        for name, value in module.__dict__.items()
        if name in trained or next(_modules(name, value), None) is not None
    )
    return [module.__dict__[n] for n in names], [f".{n}" for n in names], _Rest(module, names)


def _unflatten(rest: Any, children: Sequence[Any]) -> Module:
    made: Module = object.__new__(rest.cls)
    made.__dict__.update(rest.others)
    made.__dict__["_parameters"] = dict.fromkeys(rest.trained)
    made.__dict__.update(zip(rest.names, children))
    if rest.policies is not None:
        object.__setattr__(made, "_policies", rest.policies)
    return made
