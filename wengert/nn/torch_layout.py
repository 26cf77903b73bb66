"""PyTorch's names and layouts of the tensors of a model, read and written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wengert.errors import OptionError
from wengert.trace import Tensor

from . import recurrent
from .attention import MultiheadAttention
from .containers import Sequential
from .convolution import Convolution
from .layers import Bilinear, Linear
from .module import Module
from .transformer import FeedForward, TransformerBlock, TransformerEncoder

__all__ = ["Source", "Sources", "same", "sources_of", "written_as"]

# A source of a tensor: the names that must all be in the file, and what makes the tensor of them.
Source = tuple[tuple[str, ...], Callable[..., Any]]
Sources = dict[str, list[Source]]


def same(x: Any) -> Any:
    return x


def turned(x: Any) -> Any:
    """`[n_out, n_in]` to `[n_in, n_out]`; `[M, C, *kernel]` to `[*kernel, C, M]`."""
    return np.transpose(x, (*range(2, x.ndim), 1, 0))


def sources_of(model: Module) -> Sources:
    """Where each tensor of a model stands in a file of PyTorch's."""
    found: Sources = {}
    _walk(model, "", "", found)
    return found


def written_as(model: Module, values: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The tensors of a model by PyTorch's names, laid out as PyTorch has them.

    Args:
        values: every tensor by each of its paths.

    Raises:
        OptionError: a layer that PyTorch does not have.
    """
    found: dict[str, NDArray[Any]] = {}
    _give(model, "", "", values, found)
    return found


def _walk(module: Module, ours: str, theirs: str, found: Sources) -> None:
    """Every tensor at and below a module; `ours` and `theirs` are the paths with a dot behind."""
    table = next((f(module) for kind, f in LOCAL.items() if isinstance(module, kind)), {})
    for local, sources in table.items():
        found[ours + local] = [(tuple(theirs + n for n in names), f) for names, f in sources]
    for name, value in module.__dict__.items():
        if (isinstance(value, Tensor) or name in module._trained) and name not in table:
            found[ours + name] = [((theirs + name,), same)]
    if isinstance(module, WHOLE):
        return
    for local, child, other in _below(module):
        _walk(child, f"{ours}{local}.", f"{theirs}{other}." if other else theirs, found)


def _give(
    module: Module, ours: str, theirs: str, values: Mapping[str, Any], found: dict[str, Any]
) -> None:
    """The same walk the other way."""
    give = next((f for kind, f in GIVEN.items() if isinstance(module, kind)), None)
    if give is not None:
        local = {k.removeprefix(ours): v for k, v in values.items() if k.startswith(ours)}
        found |= {theirs + name: value for name, value in give(module, local).items()}
    taken = next((f(module) for kind, f in LOCAL.items() if isinstance(module, kind)), {})
    for name, value in module.__dict__.items():
        if isinstance(value, Tensor) and name not in taken and name not in module._passing:
            found[theirs + name] = values[ours + name]
    if isinstance(module, WHOLE):
        return
    for name, child, other in _below(module):
        _give(child, f"{ours}{name}.", f"{theirs}{other}." if other else theirs, values, found)


def _below(module: Module) -> Iterator[tuple[str, Module, str]]:
    """The modules right below one: (our name, module, PyTorch's name)."""
    renames: Any = next((r for kind, r in RENAMES.items() if isinstance(module, kind)), {})
    for local, child in module.named_children():
        yield local, child, _renamed(local, renames(module) if callable(renames) else renames)


def _renamed(local: str, renames: Mapping[str, str]) -> str:
    head, dot, rest = local.partition(".")
    new = renames.get(head, head)
    return f"{new}{dot}{rest}" if new else rest


def _attention(m: MultiheadAttention) -> Sources:
    """in_proj_weight has query, key and value on top of each other."""
    each = m.d // m.heads
    ends = np.cumsum([0, m.d, m.kv_heads * each, m.kv_heads * each]).tolist()
    out: Sources = {}
    for i, name in enumerate(("query", "key", "value")):
        part = slice(ends[i], ends[i + 1])
        out[f"{name}.weight"] = [
            (("in_proj_weight",), lambda w, part=part: turned(w[part])),
            ((f"{name[0]}_proj_weight",), turned),
        ]
        out[f"{name}.bias"] = [(("in_proj_bias",), lambda b, part=part: b[part])]
    out["out.weight"] = [(("out_proj.weight",), turned)]
    out["out.bias"] = [(("out_proj.bias",), same)]
    return out


def _cell(m: recurrent.Cell, behind: str = "") -> Sources:
    """Gates in our order; two biases that are always added are one here."""
    n = m.n
    order = [0, 1, 3, 2] if isinstance(m, recurrent.LSTMCell) else list(range(len(m.gates)))

    def gates(w: Any) -> Any:
        return np.concatenate([w[i * n : (i + 1) * n] for i in order])

    def both(a: Any, b: Any) -> Any:
        if isinstance(m, recurrent.GRUCell):
            b = np.concatenate([b[: 2 * n], np.zeros_like(b[2 * n :])])
        return gates(a + b)

    ih, hh = f"bias_ih{behind}", f"bias_hh{behind}"
    out: Sources = {
        "weight_x": [((f"weight_ih{behind}",), lambda w: turned(gates(w)))],
        "weight_h": [((f"weight_hh{behind}",), lambda w: turned(gates(w)))],
        "bias": [((ih, hh), both)],
    }
    if isinstance(m, recurrent.GRUCell):
        out["bias_h"] = [((hh,), lambda b: b[2 * n :])]
    return out


def _recurrent(m: recurrent.Recurrent) -> Sources:
    out: Sources = {}
    for i, ways in enumerate(m.layers):
        for way, cell in ways.items():
            behind = f"_l{i}" + ("_reverse" if way == "backward" else "")
            for name, sources in _cell(cell, behind).items():
                out[f"layers.{i}.{way}.{name}"] = sources
    return out


# ------------------------------------------------------------------ and back

Local = Mapping[str, NDArray[Any]]


def back(x: Any) -> Any:
    """The inverse of `turned`."""
    return np.transpose(x, (x.ndim - 1, x.ndim - 2, *range(x.ndim - 2)))


def _give_linear(m: Module, x: Local) -> dict[str, Any]:
    return {"weight": back(x["weight"])}


def _give_attention(m: MultiheadAttention, x: Local) -> dict[str, Any]:
    if m.kv_heads != m.heads:
        raise OptionError(
            f'save({m!r}, layout="torch")',
            "the attention of PyTorch has as many heads of keys and values as of queries",
        )
    names = ("query", "key", "value")
    weights = [x[f"{n}.weight"].T for n in names]
    if len({w.shape for w in weights}) == 1:
        out = {"in_proj_weight": np.concatenate(weights)}
    else:
        out = {f"{n[0]}_proj_weight": w for n, w in zip(names, weights)}
    if "query.bias" in x:
        out["in_proj_bias"] = np.concatenate([x[f"{n}.bias"] for n in names])
        out["out_proj.bias"] = x["out.bias"]
    return {**out, "out_proj.weight": x["out.weight"].T}


def _give_cell(m: recurrent.Cell, x: Local, behind: str = "") -> dict[str, Any]:
    """Gates in their order; of their two biases, which they add, one is ours and the other 0."""
    n = m.n
    order = [0, 1, 3, 2] if isinstance(m, recurrent.LSTMCell) else list(range(len(m.gates)))

    def gates(w: Any) -> Any:
        return np.concatenate([w[i * n : (i + 1) * n] for i in order])

    out = {f"weight_{a}h{behind}": gates(x[f"weight_{b}"].T) for a, b in (("i", "x"), ("h", "h"))}
    if "bias" in x:
        other = np.zeros_like(x["bias"])
        if isinstance(m, recurrent.GRUCell):
            other[2 * n :] = x["bias_h"]
        out |= {f"bias_ih{behind}": gates(x["bias"]), f"bias_hh{behind}": other}
    return out


def _give_recurrent(m: recurrent.Recurrent, x: Local) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for i, ways in enumerate(m.layers):
        for way, cell in ways.items():
            at = f"layers.{i}.{way}."
            own = {k.removeprefix(at): v for k, v in x.items() if k.startswith(at)}
            out |= _give_cell(cell, own, f"_l{i}" + ("_reverse" if way == "backward" else ""))
    return out


# ------------------------------------------------------------------ the tables


def _block(m: TransformerBlock) -> dict[str, str]:
    last = "norm2" if m.cross is None else "norm3"
    return {
        "attention": "self_attn", "attention_norm": "norm1", "cross": "multihead_attn",
        "cross_norm": "norm2", "network_norm": last, "network": "",
    }  # fmt: skip


LOCAL: dict[type[Module], Callable[[Any], Sources]] = {
    Linear: lambda m: {"weight": [(("weight",), turned)]},
    Convolution: lambda m: {"weight": [(("weight",), turned)]},
    Bilinear: lambda m: {"weight": [(("weight",), lambda w: np.transpose(w, (1, 2, 0)))]},
    MultiheadAttention: _attention,
    recurrent.Recurrent: _recurrent,
    recurrent.Cell: _cell,
}
GIVEN: dict[type[Module], Callable[[Any, Local], dict[str, Any]]] = {
    Linear: _give_linear,
    Convolution: _give_linear,
    Bilinear: lambda m, x: {"weight": np.transpose(x["weight"], (2, 0, 1))},
    MultiheadAttention: _give_attention,
    recurrent.Recurrent: _give_recurrent,
    recurrent.Cell: _give_cell,
}
WHOLE = (MultiheadAttention, recurrent.Recurrent)  # their tables reach below
RENAMES: dict[type[Module], Any] = {
    Sequential: {"layers": ""},
    TransformerBlock: _block,
    TransformerEncoder: {"blocks": "layers"},
    FeedForward: {"into": "linear1", "out": "linear2"},
}
