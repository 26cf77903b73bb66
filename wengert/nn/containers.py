"""Modules made of modules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from wengert.errors import ArgumentError, AxisError, ShapeError, UnknownNameError, verbatim
from wengert.trace import Tensor
from wengert.transforms.checkpoint import checkpoint
from wengert.types import shape_of

from .module import Module

__all__ = [
    "Checkpoint",
    "Concat",
    "Identity",
    "Lambda",
    "ModuleDict",
    "ModuleList",
    "ParameterDict",
    "ParameterList",
    "Reshape",
    "Residual",
    "Sequential",
    "Unflatten",
]


class Sequential(Module):
    """Modules one after the other.

        y = layers[-1](... layers[1](layers[0](x)))

    Args:
        layers: the modules; or one dict of them, or keywords, to give them names. A function may
            stand in a module's place.

    Example:
        >>> from wengert.nn import Linear, ReLU
        >>> Sequential(Linear(64, 10, rng=0), ReLU())
        Sequential(
          layers.0    Linear(64, 10)          650
          layers.1    ReLU()
          parameters                          650
        )
        >>> model = Sequential(into=Linear(64, 10, rng=0), act=ReLU())
        >>> model["act"], len(model[:1])
        (ReLU(), 1)
    """

    layers: Any

    def __init__(self, *layers: Any, **named: Any) -> None:
        if len(layers) == 1 and isinstance(layers[0], Mapping):
            named, layers = {**layers[0], **named}, ()
        if layers and named:
            raise ArgumentError(
                "Sequential(*layers, **named)", "either all layers have names, or none has"
            )
        if named:
            self.layers = {name: _module("Sequential", m) for name, m in named.items()}
        else:
            self.layers = [_module("Sequential", m) for m in layers]

    def forward(self, x: Any) -> Any:
        for layer in self:
            x = layer(x)
        return x

    def __iter__(self) -> Iterator[Module]:
        return iter(self.layers.values() if isinstance(self.layers, dict) else self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, i: Any) -> Any:
        """A layer by number or name, or a part of them by a slice; the parameters are shared."""
        if isinstance(i, str):
            if not isinstance(self.layers, dict) or i not in self.layers:
                names = list(self.layers) if isinstance(self.layers, dict) else []
                raise UnknownNameError(
                    f"model[{i!r}]", "no layer has this name",
                    operands=[("names", verbatim(", ".join(names) or "none"))],
                )  # fmt: skip
            return self.layers[i]
        if isinstance(self.layers, dict):
            if isinstance(i, slice):
                return Sequential(dict(list(self.layers.items())[i]))
            return list(self.layers.values())[i]
        return Sequential(*self.layers[i]) if isinstance(i, slice) else self.layers[i]

    def __setitem__(self, i: int | str, layer: Any) -> None:
        if isinstance(self.layers, dict) and not isinstance(i, str):
            i = list(self.layers)[i]
        self.layers[i] = _module("Sequential", layer)
        self.layers = self.layers  # so that the parameters learn their paths

    def __delitem__(self, i: Any) -> None:
        if isinstance(self.layers, dict) and not isinstance(i, str):
            i = list(self.layers)[i]
        del self.layers[i]

    def append(self, layer: Any) -> Sequential:
        """Put a layer at the end."""
        return self.insert(len(self), layer)

    def _put(self, name: str, module: Any) -> None:
        if isinstance(self.layers, list) and name == str(len(self)):
            self.append(module)
            return
        named = self.layers
        if isinstance(named, list):  # their names were their numbers: no path changes
            named = {str(i): layer for i, layer in enumerate(named)}
        self.layers = {**named, name: _module("Sequential", module)}

    def extend(self, layers: Iterable[Any]) -> Sequential:
        """Put layers at the end."""
        for layer in layers:
            self.append(layer)
        return self

    def insert(self, i: int, layer: Any) -> Sequential:
        """Put a layer before the i-th."""
        if isinstance(self.layers, dict):
            raise ArgumentError(
                "Sequential.insert(i, layer)", "layers with names get one more with a name",
                fix="model['name'] = layer",
            )  # fmt: skip
        self.layers.insert(i, _module("Sequential", layer))
        self.layers = self.layers
        return self


def _module(what: str, m: Any) -> Module:
    if isinstance(m, Module):
        return m
    if callable(m) and not isinstance(m, type):
        return Lambda(m)
    name = getattr(m, "__name__", None)
    raise ArgumentError(
        f"{what}(...)", "its parts are modules", operands=[("part", m)],
        fix=f"{name}()" if isinstance(m, type) and name else None,
    )  # fmt: skip


# ------------------------------------------------------------------ lists and dicts


class ModuleList(Module):
    """A list of modules that is a module: its paths are `0`, `1`, and so on.

    A plain list in an attribute does as well; this one has the methods of a module besides.

    Example:
        >>> from wengert.nn import Linear
        >>> parts = ModuleList([Linear(2, 2, rng=0), Linear(2, 1, rng=0)])
        >>> [name for name, _ in parts.named_parameters()]
        ['0.weight', '0.bias', '1.weight', '1.bias']
    """

    def __init__(self, modules: Iterable[Any] = ()) -> None:
        self._set([self._part(m) for m in modules])

    def _part(self, value: Any) -> Any:
        return _module("ModuleList", value)

    def _items(self) -> list[Any]:
        return [v for k, v in self.__dict__.items() if k.isdigit()]

    def _set(self, items: list[Any]) -> None:
        for k in [k for k in self.__dict__ if k.isdigit()]:
            delattr(self, k)
        for i, item in enumerate(items):
            setattr(self, str(i), item)

    def _put(self, name: str, module: Any) -> None:
        if name not in map(str, range(len(self) + 1)):
            raise ArgumentError(
                f"{type(self).__name__}.add_module({name!r}, module)",
                f"the names are numbers, and the next is {str(len(self))!r}", fix="append(module)",
            )  # fmt: skip
        self._set(
            [*self._items()[: int(name)], self._part(module), *self._items()[int(name) + 1 :]]
        )

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items())

    def __len__(self) -> int:
        return len(self._items())

    def __getitem__(self, i: Any) -> Any:
        items = self._items()
        if isinstance(i, slice):
            return type(self)(items[i])
        if not -len(items) <= i < len(items):
            raise AxisError(f"{type(self).__name__}[{i}]", f"there are {len(items)} parts")
        return items[i]

    def __setitem__(self, i: int, value: Any) -> None:
        items = self._items()
        items[i] = self._part(value)
        self._set(items)

    def __delitem__(self, i: int | slice) -> None:
        items = self._items()
        del items[i]
        self._set(items)

    def append(self, value: Any) -> None:
        """Put a part at the end."""
        self._set([*self._items(), self._part(value)])

    def extend(self, values: Iterable[Any]) -> None:
        """Put parts at the end."""
        self._set([*self._items(), *map(self._part, values)])

    def insert(self, i: int, value: Any) -> None:
        """Put a part before the i-th."""
        items = self._items()
        items.insert(i, self._part(value))
        self._set(items)


class ParameterList(ModuleList):
    """A list of parameters that is a module: its paths are `0`, `1`, and so on.

    Example:
        >>> from wengert.nn import Parameter
        >>> class Powers(Module):
        ...     def __init__(self):
        ...         self.w = ParameterList([Parameter([1.0]), Parameter([2.0])])
        ...
        ...     def forward(self, x):
        ...         return sum(w * x**i for i, w in enumerate(self.w))
        >>> [name for name, _ in Powers().named_parameters()], Powers()(3.0).item()
        (['w.0', 'w.1'], 7.0)
    """

    def _part(self, value: Any) -> Any:
        return _parameter("ParameterList", value)


def _parameter(what: str, value: Any) -> Any:
    if isinstance(value, Tensor) and value.requires_grad and value.is_leaf:
        return value
    raise ArgumentError(
        f"{what}(...)", "its parts are parameters", operands=[("part", value)],
        fix="nn.Parameter({part})",
    )  # fmt: skip


class ModuleDict(Module):
    """A dict of modules that is a module.

    A plain dict in an attribute does as well; this one has the methods of a module besides.

    Raises:
        ArgumentError: a key that a module has an attribute for, such as "train", or with a dot.

    Example:
        >>> from wengert.nn import Linear
        >>> heads = ModuleDict({"mean": Linear(2, 1, rng=0), "spread": Linear(2, 1, rng=0)})
        >>> list(heads), heads["mean"]
        (['mean', 'spread'], Linear(2, 1))
    """

    def __init__(self, parts: Mapping[str, Any] | None = None) -> None:
        self._names: list[str] = []
        self.update(parts or {})

    def _part(self, value: Any) -> Any:
        return _module("ModuleDict", value)

    def __setitem__(self, key: str, value: Any) -> None:
        if not isinstance(key, str) or not key or "." in key or hasattr(type(self), key):
            raise ArgumentError(
                f"{type(self).__name__}[{key!r}]",
                "a key is a text without dots that is no attribute of a module",
            )
        part = self._part(value)
        if key not in self._names:
            self._names = [*self._names, key]
        setattr(self, key, part)

    def _put(self, name: str, module: Any) -> None:
        self[name] = module

    def __getitem__(self, key: str) -> Any:
        if key not in self._names:
            raise UnknownNameError(
                f"{type(self).__name__}[{key!r}]", "there is no such key",
                operands=[("keys", verbatim(", ".join(self._names)))],
            )  # fmt: skip
        return self.__dict__[key]

    def __delitem__(self, key: str) -> None:
        self[key]
        self._names = [k for k in self._names if k != key]
        delattr(self, key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, key: object) -> bool:
        return key in self._names

    def keys(self) -> list[str]:
        """The keys, in the order that they came."""
        return list(self._names)

    def values(self) -> list[Any]:
        """The parts."""
        return [self.__dict__[k] for k in self._names]

    def items(self) -> list[tuple[str, Any]]:
        """(key, part) of each."""
        return [(k, self.__dict__[k]) for k in self._names]

    def update(self, parts: Mapping[str, Any]) -> None:
        """Put in or replace parts."""
        for key, value in parts.items():
            self[key] = value


class ParameterDict(ModuleDict):
    """A dict of parameters that is a module.

    Example:
        >>> from wengert.nn import Parameter
        >>> [name for name, _ in ParameterDict({"w": Parameter([1.0])}).named_parameters()]
        ['w']
    """

    def _part(self, value: Any) -> Any:
        return _parameter("ParameterDict", value)


# ------------------------------------------------------------------ ways through


class Identity(Module):
    """y = x"""

    def forward(self, x: Any) -> Any:
        return x


class Lambda(Module):
    """A function as a module. Parameters that it reads from outside are not found.

    Example:
        >>> Lambda(np.sin)(0.0)
        np.float64(0.0)
    """

    def __init__(self, f: Callable[..., Any]) -> None:
        self.f = f

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.f(*args, **kwargs)

    def extra_repr(self) -> str:
        return getattr(self.f, "__name__", type(self.f).__name__)


class Residual(Module):
    """A way around a module:  y = shortcut(x) + module(x).

    Args:
        module: what is added.
        shortcut: the way around; None for x itself.

    Example:
        >>> Residual(Lambda(np.square))(3.0)
        np.float64(12.0)

    References:
        K. He et al. (2015), Deep Residual Learning for Image Recognition, arXiv:1512.03385.
    """

    def __init__(self, module: Any, shortcut: Any = None) -> None:
        self.module = _module("Residual", module)
        self.shortcut = None if shortcut is None else _module("Residual", shortcut)

    def forward(self, x: Any) -> Any:
        y = self.module(x)
        around = x if self.shortcut is None else self.shortcut(x)
        if shape_of(y) != shape_of(around):
            raise ShapeError(
                "Residual(module)(x)", "the module and the way around it give the same shape",
                operands=[("module(x)", y), ("shortcut(x)", around)],
            )  # fmt: skip
        return around + y


class Concat(Module):
    """Modules side by side:  y = concatenate(f(x) for f in modules) along an axis.

    Example:
        >>> Concat(Lambda(np.sin), Lambda(np.cos))(np.zeros((2, 3))).shape
        (2, 6)
    """

    def __init__(self, *modules: Any, axis: int = -1) -> None:
        self.parts, self.axis = [_module("Concat", m) for m in modules], axis

    def forward(self, x: Any) -> Any:
        return np.concatenate([part(x) for part in self.parts], axis=self.axis)

    def extra_repr(self) -> str:
        return "" if self.axis == -1 else f"axis={self.axis}"


class Reshape(Module):
    """The same numbers of each example in another shape.

    Shapes: x `[N, ...]`, y `[N, *shape]`; one length may be -1, which is then computed.

    Example:
        >>> Reshape(4, -1)(np.zeros((2, 8, 3))).shape
        (2, 4, 6)
    """

    def __init__(self, *shape: int) -> None:
        self.shape = shape

    def forward(self, x: Any) -> Any:
        return x.reshape(shape_of(x)[0], *self.shape)

    def extra_repr(self) -> str:
        return ", ".join(map(str, self.shape))


class Unflatten(Module):
    """One axis cut up into several.

    Args:
        axis: which.
        sizes: the lengths of those that it becomes; one may be -1.

    Example:
        >>> Unflatten(1, (4, 2))(np.zeros((5, 8))).shape
        (5, 4, 2)
    """

    def __init__(self, axis: int, sizes: tuple[int, ...]) -> None:
        self.axis, self.sizes = axis, tuple(sizes)

    def forward(self, x: Any) -> Any:
        s = shape_of(x)
        axis = self.axis % len(s)
        return x.reshape(*s[:axis], *self.sizes, *s[axis + 1 :])

    def extra_repr(self) -> str:
        return f"{self.axis}, {self.sizes}"


class Checkpoint(Module):
    """A module whose inner values are not kept, but computed again on the way back.

    Args:
        module: the module.
        policy: what is kept after all, see `wg.checkpoint`.

    Example:
        >>> from wengert.nn import Linear, Tanh
        >>> model = Checkpoint(Sequential(Linear(2, 3, rng=0), Tanh()))
        >>> model(np.ones((1, 2), np.float32)).shape
        (1, 3)
    """

    def __init__(self, module: Any, policy: Any = None) -> None:
        self.module, self.policy = _module("Checkpoint", module), policy

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return checkpoint(self.module, policy=self.policy)(*args, **kwargs)
