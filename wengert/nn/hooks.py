"""Hooks of modules: what runs before a call, after it, and when its gradients are known."""

from __future__ import annotations

from functools import partial
from typing import Any

from wengert import tree
from wengert.ops.elementwise import positive
from wengert.trace import EAGER, Tensor, make
from wengert.transforms.custom import custom_vjp

__all__ = ["ModuleHooks", "hooked_call"]


class ModuleHooks:
    """The hooks of a module: by registration, in three tables."""

    def __init__(self) -> None:
        self.before: dict[int, Any] = {}
        self.after: dict[int, Any] = {}
        self.backward: dict[int, Any] = {}


def hooked_call(module: Any, hooks: ModuleHooks, args: tuple[Any, ...], kwargs: Any) -> Any:
    """A call with the module's hooks around it."""
    for hook in tuple(hooks.before.values()):
        new = hook(module, args)
        if new is not None:
            args = new if isinstance(new, tuple) else (new,)
    if hooks.backward:
        y = Passage(module, tuple(hooks.backward.values())).call(args, kwargs)
    else:
        y = module.forward(*args, **kwargs)
    for hook in tuple(hooks.after.values()):
        new = hook(module, args, y)
        y = y if new is None else new
    return y


class Passage:
    """One call of a module whose gradients are looked at: the identity before it, and behind."""

    def __init__(self, module: Any, hooks: tuple[Any, ...]) -> None:
        self.module, self.hooks = module, hooks
        self.gy: list[Any] = []

    def call(self, args: tuple[Any, ...], kwargs: Any) -> Any:
        places = [i for i, x in enumerate(args) if isinstance(x, Tensor) and x.requires_grad]
        inner = list(args)
        if places:
            door = custom_vjp(lambda *xs: xs)
            door.defvjp(
                lambda *xs: (xs, None), lambda _, gs: self.came(dict(zip(places, gs)), len(args))
            )
            for i, x in zip(places, door(*[args[i] for i in places])):
                inner[i] = x
        y = self.module.forward(*inner, **kwargs)
        ys, structure = tree.flatten(y)
        self.gy = [None] * len(ys)
        seen: list[int] = []
        live = [i for i, v in enumerate(ys) if isinstance(v, Tensor) and v.requires_grad]

        def note(i: int, g: Any) -> None:
            self.gy[i] = g
            seen.append(i)
            if not places and len(seen) == len(live):
                self.came({}, len(args))

        for i in live:
            ys[i] = positive(ys[i])
            ys[i].register_hook(partial(note, i))
        return tree.unflatten(structure, ys)

    def came(self, gs: dict[int, Any], n: int) -> tuple[Any, ...]:
        """All gradients of one backward pass are here: what the hooks make of them."""
        gx = tuple([shown(gs[i]) if i in gs else None for i in range(n)])
        for hook in self.hooks:
            new = hook(self.module, gx, tuple(self.gy))
            if new is not None:
                gx = new if isinstance(new, tuple) else (new,)
        self.gy = [None] * len(self.gy)
        return tuple([gx[i] for i in gs])


def shown(g: Any) -> Any:
    return g if isinstance(g, Tensor) else make(g, None, EAGER)
