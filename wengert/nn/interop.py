"""Models in and out of files: safetensors, those of PyTorch's names and layouts too."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wengert.errors import CheckpointError, OptionError, ShapeError, UnknownNameError, verbatim
from wengert.trace import Tensor, no_grad

from . import recurrent
from .convolution import Convolution
from .layers import Linear
from .module import Module
from .pooling import Flatten
from .safetensors import load, write
from .stateless import places
from .torch_layout import Sources, same, sources_of, written_as

__all__ = ["LoadReport", "load", "load_into", "save"]

Arrays = Mapping[str, NDArray[Any]]


def save(
    model: Module,
    path: str | os.PathLike[str],
    metadata: Mapping[str, str] | None = None,
    *,
    layout: str = "wengert",
    flattened: Mapping[str, int] | None = None,
) -> None:
    """Write the parameters and buffers of a model to a safetensors file.

    The file is whole, or the one that was there before. A parameter that stands at several places
    is written once, or with layout="torch" at each of them, as `load_state_dict` wants it.

    With layout="torch" the same model in PyTorch reads it:
    `model.load_state_dict(safetensors.torch.load_file(path))`. Names, layouts, the order of gates
    and of what stands behind a flattened picture become PyTorch's; `load_into` is the inverse. Of
    the two biases of a recurrent layer, which PyTorch adds, the second is 0.

    Args:
        model: the model.
        path: where to.
        metadata: texts by name that go with it; `nn.load` gives them back.
        layout: "wengert" or "torch".
        flattened: with "torch", as in `load_into`.

    Raises:
        OutputError: the file cannot be written.
        OptionError: another layout, a layer that PyTorch does not have, or a linear layer behind
            convolutions that may read a flattened picture.

    Example:
        >>> import tempfile
        >>> place = f"{tempfile.mkdtemp()}/model.safetensors"
        >>> save(Linear(2, 3, rng=0), place)
        >>> print(load_into(Linear(2, 3, rng=1), place))
        2 tensors read
          weight  <-  weight  float32[2, 3]
          bias    <-  bias    float32[3]
        >>> save(Linear(2, 3, rng=0), place, layout="torch")
        >>> print(load_into(Linear(2, 3, rng=1), place))
        2 tensors read
          weight  <-  weight  float32[3, 2]
          bias    <-  bias    float32[3]
    """
    what = f"save({type(model).__name__}, {os.fspath(path)!r})"
    _check_layout("save", layout)
    if layout == "wengert":
        write(path, model.state_dict(), {"format": "wengert", **(metadata or {})})
        return
    values: dict[str, NDArray[Any]] = {k: np.array(t.value()) for k, t in places(model).items()}
    _reorder(what, model, values, flattened, back=True)
    write(path, written_as(model, values), {"format": "pt", **(metadata or {})})


@dataclass
class LoadReport:
    """What `load_into` read: `str()` is a table.

    Attributes:
        read: (name in the model, names in the file, dtype and shape in the file).
        missing: names of the model that the file has nothing for.
        unused: names of the file that nothing was read from.
        metadata: the texts in the file.
    """

    read: list[tuple[str, str, str]]
    missing: list[str]
    unused: list[str]
    metadata: dict[str, str]

    def __str__(self) -> str:
        a, b = (max((len(row[i]) for row in self.read), default=0) for i in (0, 1))
        lines = [f"{len(self.read)} tensors read"]
        lines += [f"  {ours:<{a}}  <-  {theirs:<{b}}  {what}" for ours, theirs, what in self.read]
        lines += [f"  {name:<{a}}  <-  nothing" for name in self.missing]
        lines += [f"  not read: {name}" for name in self.unused]
        return "\n".join(lines)


def load_into(
    model: Module,
    path: str | os.PathLike[str],
    *,
    layout: str | None = None,
    prefix: str = "",
    flattened: Mapping[str, int] | None = None,
    strict: bool = True,
    dry_run: bool = False,
) -> LoadReport:
    """Read a safetensors file into a model; nothing is changed unless all of it fits.

    A file of PyTorch's is read without PyTorch: its names are found by the kinds of the modules,
    weights of linear layers are transposed, kernels go from OIHW to HWIO, gates are put in order,
    joint projections of attention are cut up. Numbers are cast to the model's dtype.

    Where a picture is flattened, PyTorch has the places of one channel side by side and wengert the
    channels of one place, so the rows of the linear layer behind it change places. Behind a
    `Flatten` in a `Sequential` that is done; a `forward` that flattens must be told of.

    Args:
        model: a model of the same structure; where PyTorch has a path `0.weight` of a
            `Sequential`, it is `layers.0.weight` here.
        path: the file.
        layout: "wengert", or "torch" for a file of PyTorch's; None to go by what the file says of
            itself ("format" in its metadata).
        prefix: what the names in the file begin with, and the model's do not.
        flattened: for each module of a PyTorch model whose input is a flattened picture, its path
            and the number of channels of the picture, such as `{"head": 32}`; `{}` if there is none
            beside those behind a `Flatten`. None refuses where that is not clear.
        strict: refuse a file that lacks something or has something that is not read.
        dry_run: change nothing; the report says what would be read.

    Returns:
        A report of what came from where.

    Raises:
        CheckpointError: the file is damaged, a pickle, or does not say whose layout it has.
        UnknownNameError: names are missing or left over, with `strict`.
        ShapeError: a tensor of another shape.
        OptionError: a linear layer behind convolutions that may read a flattened picture.
    """
    arrays, metadata = load(path)
    what = f"load_into({type(model).__name__}, {os.fspath(path)!r})"
    layout = layout or {"wengert": "wengert", "pt": "torch"}.get(metadata.get("format", ""))
    if layout is None:
        raise CheckpointError(
            what, "the file does not say whether its weights are laid out as PyTorch's",
            fix='layout="torch", or layout="wengert"',
        )  # fmt: skip
    _check_layout("load_into", layout)
    arrays = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
    own = dict(model._saved())
    sources: Sources = {n: [((n,), same)] for n in own}
    if layout == "torch":
        sources = sources_of(model)
    found, report = _matched(what, model, own, sources, arrays)
    report.metadata = metadata
    if strict:
        _check_names(what, own, sources, arrays, report)
    _check_shapes(what, own, sources, found)
    if layout == "torch":
        _reorder(what, model, found, flattened)
    if not dry_run:
        with no_grad():
            for name, value in found.items():
                own[name][...] = value.astype(own[name].dtype)
    return report


def _check_layout(what: str, layout: str) -> None:
    if layout not in ("torch", "wengert"):
        raise OptionError(f"{what}(layout={layout!r})", '"torch" or "wengert"')


def _matched(
    what: str, model: Module, own: Mapping[str, Tensor], sources: Sources, arrays: Arrays
) -> tuple[dict[str, NDArray[Any]], LoadReport]:
    """The values by the names of the model, and what came from where."""
    names = {id(t): name for name, t in own.items()}
    found: dict[str, NDArray[Any]] = {}
    used: set[str] = set()
    report = LoadReport([], [], [], {})
    for path, t in places(model).items():
        name = names.get(id(t))
        if name is None:
            continue
        for theirs, make in sources.get(path, ()):
            if not all(n in arrays for n in theirs):
                continue
            parts = [arrays[n] for n in theirs]
            try:
                value = np.asarray(make(*parts))
            except (ValueError, IndexError):  # too few axes, say
                value = parts[0]
            if name in found and not np.array_equal(found[name], value):
                raise CheckpointError(
                    what, f"{name} and {path} are one parameter of the model, with two values",
                    operands=[(name, found[name]), (path, value)],
                )  # fmt: skip
            used.update(theirs)
            if name not in found:
                kind = f"{parts[0].dtype}{list(parts[0].shape)}"
                report.read.append((name, " + ".join(theirs), kind))
            found[name] = value
            break
    report.missing = [n for n in own if n not in found]
    report.unused = [n for n in arrays if n not in used]
    return found, report


def _check_names(
    what: str, own: Mapping[str, Any], sources: Sources, arrays: Arrays, report: LoadReport
) -> None:
    missing = [n for n in report.missing if not n.endswith("num_batches_tracked")]
    if not missing and not report.unused:
        return
    rows: list[tuple[str, Any, str]] = []
    for name in missing[:6]:
        wanted = sources.get(name, [((name,), same)])[0][0]
        absent = [n for n in wanted if n not in arrays]
        near = get_close_matches(absent[0], report.unused, 1) if absent else []
        rows.append((
            f"missing {' + '.join(absent)}", own[name],
            f"for {name}" + (f"; is it {near[0]}?" if near else ""),
        ))  # fmt: skip
    rows += [(f"left over {n}", arrays[n], "in the file") for n in report.unused[:6]]
    hidden = len(missing) + len(report.unused) - len(rows)
    if hidden:
        rows.append(("...", verbatim(f"and {hidden} more"), ""))
    raise UnknownNameError(
        what, f"{len(missing)} names are missing in the file, {len(report.unused)} are left over",
        operands=rows, fix=_prefix(sources, arrays, missing) or "strict=False reads what fits",
    )  # fmt: skip


def _prefix(sources: Sources, arrays: Arrays, missing: list[str]) -> str | None:
    """The prefix that all names of the file have before those that are wanted, if there is one."""
    wanted = {n for name in missing for names, _ in sources.get(name, [])[:1] for n in names}
    for name in arrays:
        for want in wanted:
            if name != want and name.endswith("." + want):
                prefix = name.removesuffix(want)
                if all(prefix + w in arrays for w in wanted):
                    return f"prefix={prefix!r}"
    return None


def _check_shapes(what: str, own: Mapping[str, Tensor], sources: Sources, found: Arrays) -> None:
    wrong = [name for name, value in found.items() if value.shape != own[name].shape]
    if wrong:
        raise ShapeError(
            what, f"{len(wrong)} tensors have other shapes, as they are laid out here",
            operands=[
                row
                for name in wrong[:4]
                for row in ((f"model {name}", own[name]), (f"file {name}", found[name]))
            ],
        )  # fmt: skip


# ------------------------------------------------------------------ flattened pictures


@dataclass
class _Flow:
    """What is known of the value between two modules, as a walk through the model sees it."""

    channels: int | None = None  # of the picture
    flat: bool = False
    width: int | None = None  # of what the last linear layer gives
    sure: dict[str, int] = field(default_factory=dict)
    perhaps: dict[str, int] = field(default_factory=dict)

    def through(self, module: Module, path: str) -> None:
        if isinstance(module, Convolution):
            self.channels, self.flat, self.width = module.n_out, False, None
        elif isinstance(module, Flatten):
            self.flat = self.channels is not None
        elif isinstance(module, Linear | recurrent.Recurrent):
            n, channels = module.n_in, self.channels
            if channels is not None and n != channels and not n % channels and n != self.width:
                (self.sure if self.flat else self.perhaps)[path] = channels
            self.flat, self.width = False, getattr(module, "n_out", None)
        elif self.flat and not any(True for _ in module.named_children()):
            for _, t in (*module.named_parameters(), *module.named_buffers()):
                if self.channels is not None and t.shape and not t.shape[0] % self.channels:
                    self.sure[path] = self.channels  # a norm between the two
        else:
            for local, child in module.named_children():
                self.through(child, f"{path}.{local}" if path else local)


def _reorder(
    what: str,
    model: Module,
    found: dict[str, NDArray[Any]],
    flattened: Mapping[str, int] | None,
    *,
    back: bool = False,
) -> None:
    """Rows that stand for (channel, place) are put in the order (place, channel), or back."""
    flow = _Flow()
    flow.through(model, "")
    modules = dict(model.named_modules())
    for path in flattened or ():
        if path not in modules:
            raise UnknownNameError(
                what, f"flattened names {path!r}, which is no module of the model",
                operands=[("modules", verbatim(", ".join(p for p in modules if p)))],
            )  # fmt: skip
    if flow.perhaps and flattened is None:
        told = ", ".join(f"{path!r}: {n}" for path, n in flow.perhaps.items())
        raise OptionError(
            what, "the input of a layer behind convolutions may be a flattened picture, whose "
            "numbers PyTorch has in another order",
            operands=[
                (path, verbatim(repr(modules[path])), f"{n} channels before it")
                for path, n in flow.perhaps.items()
            ],
            fix=f"flattened={{{told}}} if it is; flattened={{}} if it is not",
        )  # fmt: skip
    for path, channels in {**flow.sure, **(flattened or {})}.items():
        whole = getattr(modules[path], "n_in", None)
        for name, value in found.items():
            local = name.removeprefix(f"{path}.")
            rows = value.shape[0] if value.ndim else 0
            if (
                local == name
                or not rows
                or rows % channels
                or (whole is not None and rows != whole)
            ):
                continue
            if whole is not None and local.rpartition(".")[2] not in ("weight", "weight_x"):
                continue
            each = (rows // channels, channels) if back else (channels, rows // channels)
            parts = value.reshape(*each, *value.shape[1:])
            found[name] = parts.swapaxes(0, 1).reshape(value.shape)
