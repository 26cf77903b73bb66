"""The fast road: plain eager work on tensors of one level, generated from one template per arity.

It does what `bind` does for the eager tape and nothing else: compute, make a tensor, record a node
that keeps what the rule names. Any case it does not know goes to `bind`: other levels, no_grad or a
trace in progress (`trace.MODES`), operands that are neither tensors nor Python numbers. Every line
of a template is paid for on every operation of every eager program; bench/eager.py says what each
is worth.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any

import numpy as np

from .. import trace
from ..errors import (
    GENERATED,
    LIBRARY,
    ArgumentError,
    OptionError,
    ShapeError,
    user_frame,
)
from ..owned import own
from ..primitive import Elementwise, Rule
from ..structural import fit
from ..trace import Node, Tensor, View, bind, getframe, make, ndarray, new, seq
from ..types import shape_of
from .contract import add_row, affine, matmul, rows
from .elementwise import add as plus
from .fused import MeanCrossEntropy, Softmax, mean_cross_entropy
from .losses import general_cross_entropy, twice
from .products import by_transpose, plainly, transpose_by

UNARY = """
def method(x):
    if x.__class__ is not Tensor or trace.MODES:
        if x.__class__ is View and not trace.MODES: return method(x.look())
        return bind(op, x)
    a = x.data
    try: y = f(a) if a.__class__ is ndarray else op(a)
    except (ValueError, TypeError) as error: raise op.refusal((x,), error) from error
    t = new(Tensor); t.data = y; t.level = x.level
    p = x.node
    if p is None: t.node = None
    else:
        fr = getframe({depth}); co = fr.f_code
        if co.co_filename in LIBRARY: fr = user_frame(fr); co = fr.f_code
        n = t.node = new(Node); n.seq = seq(); n.rule = R1; n.parents = (p,)
        n.res = ({keep}); n.code = co; n.lasti = fr.f_lasti
    return t
"""

BINARY = """
def method(s, o):
    c = o.__class__
    if c is Tensor:
        if o.level is not s.level or trace.MODES or s.__class__ is not Tensor:
            if s.__class__ is View and not trace.MODES: return method(s.look(), o)
            return bind(op, {first}, {second})
        q = o.node; {s} = s.data; {o} = o.data
        if {s}.shape != {o}.shape or {s}.dtype is not {o}.dtype: return spread(s, o, getframe(1))
    elif c is float or c is int:
        if trace.MODES or s.__class__ is not Tensor:
            if s.__class__ is View and not trace.MODES: return method(s.look(), o)
            return bind(op, {first}, {second})
        q = None; {s} = s.data; {o} = o
        if {s}.dtype.kind not in "fc": return bind(op, {first}, {second})
    elif c is View: return method(s, o.look())
    elif c is ndarray: return raw(s, o, getframe(1))
    elif c in FOREIGN: return NotImplemented
    else: return bind(op, {first}, {second})
    y = a {symbol} b
    t = new(Tensor); t.data = y; t.level = s.level
    p = s.node
    if p is not None:
        fr = getframe(1); co = fr.f_code
        if co.co_filename in LIBRARY: fr = user_frame(fr); co = fr.f_code
        if q is None:
            n = t.node = new(Node); n.seq = seq(); n.rule = RS; n.parents = (p,)
            n.res = ({keep_s}); n.code = co; n.lasti = fr.f_lasti
        else:
            n = t.node = new(Node); n.seq = seq(); n.rule = R3; n.parents = {parents}
            n.res = ({keep_both}); n.code = co; n.lasti = fr.f_lasti
    elif q is not None:
        fr = getframe(1); co = fr.f_code
        if co.co_filename in LIBRARY: fr = user_frame(fr); co = fr.f_code
        n = t.node = new(Node); n.seq = seq(); n.rule = RO; n.parents = (q,)
        n.res = ({keep_o}); n.code = co; n.lasti = fr.f_lasti
    else: t.node = None
    return t
"""

FOREIGN: frozenset[type] = frozenset({str, bytes, type(None), dict, set})
SCOPE: dict[str, Any] = {
    "Node": Node,
    "FOREIGN": FOREIGN,
    "LIBRARY": LIBRARY,
    "Tensor": Tensor,
    "View": View,
    "bind": bind,
    "getframe": getframe,
    "ndarray": ndarray,
    "new": new,
    "seq": seq,
    "trace": trace,
    "user_frame": user_frame,
}


def build(source: str, op: Any, **scope: Any) -> Callable[..., Any]:
    space = {**SCOPE, "op": op, "f": op.impl, **scope}
    exec(compile(source, GENERATED, "exec"), space)
    return space["method"]


def kept(rule: Rule | None, **rename: str) -> str:
    return "".join(rename.get(n, n) + ", " for n in rule.names) if rule else ""


def unary(op: Elementwise, depth: int = 1) -> Callable[..., Any]:
    """The method of a one-argument operation, called `depth` frames below the user's."""
    source = UNARY.format(keep=kept(op.rules[1], x="a"), depth=depth)
    return build(source, op, R1=op.rules[1])


def binary(op: Elementwise, symbol: str, reflected: bool = False) -> Callable[..., Any]:
    """`s OP o`, or `o OP s` when reflected."""
    words = {
        "symbol": symbol,
        "first": "o" if reflected else "s",
        "second": "s" if reflected else "o",
        "s": "b" if reflected else "a",
        "o": "a" if reflected else "b",
        "parents": "(q, p)" if reflected else "(p, q)",
        "keep_s": kept(op.rules[2 if reflected else 1]),
        "keep_o": kept(op.rules[1 if reflected else 2]),
        "keep_both": kept(op.rules[3]),
    }
    mine, other = (2, 1) if reflected else (1, 2)
    spread = build(
        SPREAD.format(**words), op,
        RS=wide(op, mine), RO=wide(op, other), R3=wide(op, 3),
    )  # fmt: skip
    rule: Any = op.rules[mine]
    keeps_other = words["o"] in rule.names
    words["own"] = f"{words['o']} = own(o)" if keeps_other else ""
    raw = build(RAW.format(**words), op, RS=op.rules[mine], WS=wide(op, mine), own=own)
    return build(
        BINARY.format(**words), op,
        RS=op.rules[mine], RO=op.rules[other], R3=op.rules[3], spread=spread, raw=raw,
    )  # fmt: skip


WIDE = """
def pull(g, {names}):
    {gs} = base(g, {kept})
    return {fits}
"""


def wide(op: Elementwise, mask: int) -> Rule | None:
    """The rule for operands that were broadcast or promoted: sum and cast to each source."""
    key = mask | 1 << 16
    if key in op.rules:
        return op.rules[key]
    base = op.rules[mask]
    if base is None:
        return None
    likes = tuple(f"{op.args[i]}_like" for i in base.live)
    gs = [f"g{i}" for i in base.live]
    source = WIDE.format(
        names=", ".join((*base.names, *likes)),
        gs=", ".join(gs),
        kept=", ".join(base.names),
        fits=", ".join(
            f"{g} if {g}.__class__ is ndarray and {g}.shape == {l}[0] and {g}.dtype is {l}[1] "
            f"else fit({g}, *{l})"
            for g, l in zip(gs, likes)
        ),
    )
    space: dict[str, Any] = {"base": base.pull, "fit": fit, "ndarray": ndarray}
    exec(compile(source, GENERATED, "exec"), space)
    names = base.names + likes
    rule = op.rules[key] = Rule(op, base.live, names, space["pull"], diagonal=True, base=base)
    return rule


def narrow(op: Any, rule: Rule, n: int) -> Rule:
    """The rule for n operands of several dtypes: each cotangent in that of its operand."""
    args = op.argnames(n)
    dtypes = tuple(f"{args[i]}_dtype" for i in rule.live)
    rules: dict[Any, Rule] = getattr(op, "rules", {})  # a function with its own rule has none
    if dtypes in rules:
        return rules[dtypes]
    many = len(rule.names)

    def pull(g: Any, *res: Any) -> Any:
        gs = rule.pull(g, *res[:many])
        if rule.single:
            return fit(gs, shape_of(gs), res[many])
        return tuple([x if x is None else fit(x, shape_of(x), d) for x, d in zip(gs, res[many:])])

    made = rules[dtypes] = Rule(rule.op, rule.live, (*rule.names, *dtypes), pull)
    made.single = rule.single
    return made


SPREAD = """
def method(s, o, fr):
    {s} = s.data; {o} = o.data
    ad = a.dtype; bd = b.dtype
    if (a.__class__ is not ndarray or b.__class__ is not ndarray
            or ad.kind not in "fc" or ad is not bd and bd.kind not in "fc"):
        return bind(op, {first}, {second})
    try: y = a {symbol} b
    except ValueError as error: raise op.refusal(({first}, {second}), error) from error
    t = new(Tensor); t.data = y; t.level = s.level
    p = s.node; q = o.node
    if p is None and q is None:
        t.node = None
        return t
    co = fr.f_code
    if co.co_filename in LIBRARY: fr = user_frame(fr); co = fr.f_code
    if q is None:
        n = t.node = new(Node); n.seq = seq(); n.rule = RS; n.parents = (p,)
        n.res = ({keep_s}({s}.shape, {s}d),); n.code = co; n.lasti = fr.f_lasti
    elif p is None:
        n = t.node = new(Node); n.seq = seq(); n.rule = RO; n.parents = (q,)
        n.res = ({keep_o}({o}.shape, {o}d),); n.code = co; n.lasti = fr.f_lasti
    else:
        n = t.node = new(Node); n.seq = seq(); n.rule = R3; n.parents = {parents}
        n.res = ({keep_both}(a.shape, ad), (b.shape, bd)); n.code = co; n.lasti = fr.f_lasti
    return t
"""


RAW = """
def method(s, o, fr):
    if s.__class__ is not Tensor or trace.MODES:
        if s.__class__ is View and not trace.MODES: return method(s.look(), o, fr)
        return bind(op, {first}, {second})
    {s} = s.data; {o} = o
    ad = a.dtype; bd = b.dtype
    if {s}.__class__ is not ndarray or ad.kind not in "fc" or ad is not bd and bd.kind not in "fc":
        return bind(op, {first}, {second})
    try: y = a {symbol} b
    except ValueError as error: raise op.refusal(({first}, {second}), error) from error
    t = new(Tensor); t.data = y; t.level = s.level
    p = s.node
    if p is None:
        t.node = None
        return t
    co = fr.f_code
    if co.co_filename in LIBRARY: fr = user_frame(fr); co = fr.f_code
    {own}
    n = t.node = new(Node); n.seq = seq(); n.parents = (p,); n.code = co; n.lasti = fr.f_lasti
    if {s}.shape == y.shape and {s}d is y.dtype: n.rule = RS; n.res = ({keep_s})
    else: n.rule = WS; n.res = ({keep_s}({s}.shape, {s}d),)
    return t
"""


MATMUL = """
def method(s, o):
    c = o.__class__
    if c is not Tensor:
        if c is View: return method(s, o.look())
        if c is ndarray and s.__class__ is Tensor: return raw(s, o, 2)
        return bind(op, s, o)
    if s.__class__ is View: return method(s.look(), o)
    if s.__class__ is not Tensor or o.level is not s.level or trace.MODES: return bind(op, s, o)
    a = s.data; b = o.data
    if a.__class__ is not ndarray or b.__class__ is not ndarray or a.ndim != 2 or b.ndim != 2:
        return bind(op, s, o)
    if a.dtype is not b.dtype or a.shape[1] != b.shape[0]: return bind(op, s, o)
    y = a @ b if a.size < FEW else plainly(a, b)
    t = new(Tensor); t.data = y; t.level = s.level
    p = s.node; q = o.node
    if p is not None:
        fr = getframe(1); co = fr.f_code
        if co.co_filename in LIBRARY: fr = user_frame(fr); co = fr.f_code
        if q is None:
            n = t.node = new(Node); n.seq = seq(); n.rule = R1; n.parents = (p,)
            n.res = (b,); n.code = co; n.lasti = fr.f_lasti
        else:
            n = t.node = new(Node); n.seq = seq(); n.rule = R3; n.parents = (p, q)
            n.res = (a, b); n.code = co; n.lasti = fr.f_lasti
    elif q is not None:
        fr = getframe(1); co = fr.f_code
        if co.co_filename in LIBRARY: fr = user_frame(fr); co = fr.f_code
        n = t.node = new(Node); n.seq = seq(); n.rule = R2; n.parents = (q,)
        n.res = (a,); n.code = co; n.lasti = fr.f_lasti
    else: t.node = None
    return t
"""


def matrix_rules() -> dict[int, Rule]:
    """The rules of a product of two matrices, where no axis was broadcast: the transposes alone."""

    def a_of(g: Any, b: Any) -> Any:
        return by_transpose(g, b)

    def b_of(g: Any, a: Any) -> Any:
        return transpose_by(a, g)

    def both(g: Any, a: Any, b: Any) -> Any:
        return by_transpose(g, b), transpose_by(a, g)

    return {
        1: Rule(matmul, (0,), ("b",), a_of),
        2: Rule(matmul, (1,), ("a",), b_of),
        3: Rule(matmul, (0, 1), ("a", "b"), both),
    }


MATRIX = matrix_rules()
FEW = 1 << 13  # numbers of a factor up to which the product is NumPy's


def matmul_raw(a: Any, b: Any, depth: int) -> Any:
    """The product of a matrix and a plain array, either way round; anything else through `bind`."""
    left = a.__class__ is Tensor
    t, x = (a, b) if left else (b, a)
    if t.__class__ is not Tensor or x.__class__ is not ndarray or trace.MODES or t.node is None:
        return bind(matmul, a, b)
    d = t.data
    if d.__class__ is not ndarray or d.ndim != 2 or x.ndim != 2 or d.dtype is not x.dtype:
        return bind(matmul, a, b)
    try:
        y = plainly(d, x) if left else plainly(x, d)
    except ValueError as error:
        raise matmul.refusal((a, b), error) from error
    fr = getframe(depth)
    if fr.f_code.co_filename in LIBRARY:
        fr = user_frame(fr)
    node = Node(seq(), MATRIX[1 if left else 2], (t.node,), (own(x),), fr.f_code, fr.f_lasti)
    return make(y, node, t.level)


def matmul_method() -> Callable[..., Any]:
    return build(
        MATMUL,
        matmul,
        R1=MATRIX[1],
        R2=MATRIX[2],
        R3=MATRIX[3],
        raw=matmul_raw,
        FEW=FEW,
        plainly=plainly,
    )


def pull_wb(g: Any, a: Any) -> Any:
    return transpose_by(a, g), rows(g)


def pull_xwb(g: Any, a: Any, b: Any) -> Any:
    return by_transpose(g, b), transpose_by(a, g), rows(g)


LAYER = {6: Rule(affine, (1, 2), ("a",), pull_wb), 7: Rule(affine, (0, 1, 2), ("a", "b"), pull_xwb)}


def linear(x: Any, w: Any, b: Any) -> Any:
    """x w + b: a linear layer, for x [.., n, k], w [k, m], b [m].

    gx = gy w^T,  gw = x^T gy,  gb = sum over rows of gy.
    """
    if w.__class__ is Tensor is b.__class__ and w.level is b.level and not trace.MODES:
        q, r, p = w.node, b.node, None
        k, c, a = w.data, b.data, x
        if x.__class__ is Tensor and x.level is w.level:
            a, p = x.data, x.node
        if q is not None and r is not None and a.__class__ is ndarray:
            dtype = a.dtype
            if (
                k.__class__ is ndarray
                and dtype is k.dtype is c.dtype
                and len(a.shape) == 2 == len(k.shape)
                and a.shape[1] == k.shape[0]
                and c.shape == k.shape[1:]
            ):
                y = plainly(a, k)
                y += c
                t = new(Tensor)
                t.data = y
                t.level = w.level
                fr = getframe(1)
                if fr.f_code.co_filename in LIBRARY:
                    fr = user_frame(fr)
                if p is None:
                    a = own(a) if a is x else a
                    t.node = Node(seq(), LAYER[6], (q, r), (a,), fr.f_code, fr.f_lasti)
                else:
                    t.node = Node(seq(), LAYER[7], (p, q, r), (a, k), fr.f_code, fr.f_lasti)
                return t
    return bind(affine, x, w, b)


def plus_bias(y: Any, b: Any) -> Any:
    """y + b for a y that was just made and that nobody else has: its memory is used again."""
    if not (y.__class__ is Tensor is b.__class__ and y.level is b.level) or trace.MODES:
        return y + b
    a, c, p, q = y.data, b.data, y.node, b.node
    alone = a.__class__ is ndarray is c.__class__ and a.base is None and a.flags.writeable
    if not alone or p is None or q is None or a.dtype is not c.dtype or a.dtype.kind != "f":
        return y + b
    add_row(a, c)
    fr = getframe(1)
    if fr.f_code.co_filename in LIBRARY:
        fr = user_frame(fr)
    res = (a.shape, a.dtype), (c.shape, c.dtype)
    return make(a, Node(seq(), wide(plus, 3), (p, q), res, fr.f_code, fr.f_lasti), y.level)


def pull_loss(g: Any, op: Any, a: Any, b: Any, cache: Any) -> Any:
    """(softmax - onehot) g / n, from the exponentials of the forward pass while those are plain."""
    if cache is None or not isinstance(g, ndarray | np.generic):
        return op.vjp_a(g, a, b)
    e, s, index = cache
    gx = e / s
    gx[index] -= 1
    scale: Any = g
    gx *= scale / len(b)
    return gx


LOSS = Rule(MeanCrossEntropy, (0,), ("op", "a", "b", "cache"), pull_loss)


INT64 = np.dtype(np.int64)


def cross_entropy(
    logits: Any,
    labels: Any,
    *,
    weight: Any = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Any:
    """Mean cross-entropy of logits [.., k] with integer labels [..].

    y = mean_i(logsumexp(a_i) - a_i[b_i]);  its gradient is (softmax(logits) - onehot(labels)) / n.

    Args:
        weight: a factor for each class; the mean is then divided by the weights that it used.
        ignore_index: rows with this label count for nothing, whatever their logits are.
        label_smoothing: e: the labels are taken as 1 - e + e / k, and e / k for other classes.
        reduction: "mean", "sum" or "none". With every row ignored the mean is 0 / 0.

    Labels may be probabilities [.., k] too: floats, one for each class; the mean is over rows.

    Raises:
        ShapeError, DTypeError, AxisError: labels of another shape, not integers, or outside [0, k).
        OptionError: an option out of range.

    >>> round(float(cross_entropy(np.zeros((2, 10)), np.array([3, 7]))), 6)
    2.302585
    """
    never = ignore_index is None or (ignore_index.__class__ is int and ignore_index < 0)
    if weight is not None or reduction != "mean" or label_smoothing or not never:
        return optional(logits, labels, weight, ignore_index, label_smoothing, reduction)
    b = labels.data if labels.__class__ is Tensor and labels.node is None else labels
    if (
        logits.__class__ is Tensor
        and getattr(logits.node, "rule", None)
        and (logits.node.rule.op is Softmax)
    ):
        twice(logits)
    if (
        logits.__class__ is Tensor
        and b.__class__ is ndarray
        and not trace.MODES
        and logits.node is not None
        and logits.data.__class__ is ndarray
        and logits.data.ndim == 2
        and b.shape == logits.data.shape[:1] != (0,)
        and b.dtype is INT64
    ):
        a = logits.data
        n, k = a.shape
        m = np.maximum.reduce(a, axis=1, keepdims=True, initial=-np.inf)
        # a negative label is a huge one; labels out of range and infinite logits go the general way
        if np.maximum.reduce(b.view(np.uint64), initial=0) < k and isfinite(np.add.reduce(m, None)):
            e = np.exp(a - m)
            s = np.add.reduce(e, axis=1, keepdims=True)
            index = (np.arange(n), b if labels is not b else b.copy())
            rows = np.log(s)[:, 0] + (m[:, 0] - a[index])
            y = np.add.reduce(rows) / n
            fr = getframe(1)
            if fr.f_code.co_filename in LIBRARY:
                fr = user_frame(fr)
            t = new(Tensor)
            t.data = y
            t.level = logits.level
            res = (mean_cross_entropy, a, index[1], (e, s, index))
            t.node = Node(seq(), LOSS, (logits.node,), res, fr.f_code, fr.f_lasti)
            return t
    if ignore_index is not None:
        return optional(logits, labels, None, ignore_index)
    try:
        labels = labels if isinstance(labels, Tensor) else np.asarray(labels)
        logits = logits if isinstance(logits, Tensor) else np.asarray(logits)
    except ValueError:
        raise ArgumentError(
            "cross_entropy(logits, labels)", "rows of different lengths do not make an array"
        ) from None
    if labels.dtype.kind == "f" and labels.shape == shape_of(logits) != ():
        return optional(logits, labels)
    return mean_cross_entropy(logits, labels)


def optional(
    logits: Any,
    labels: Any,
    weight: Any = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Any:
    """Cross-entropy with options, checked."""
    if reduction not in ("mean", "sum", "none"):
        raise OptionError(
            f"cross_entropy(reduction={reduction!r})",
            'reduction is one of "mean", "sum" and "none"',
        )
    if not 0 <= label_smoothing <= 1:
        raise OptionError(
            f"cross_entropy(label_smoothing={label_smoothing!r})", "it lies between 0 and 1"
        )
    logits = logits if isinstance(logits, Tensor) else np.asarray(logits)
    labels = labels if isinstance(labels, Tensor) else np.asarray(labels)
    shape, kind = shape_of(logits), labels.dtype.kind
    if not shape or shape_of(labels) != (shape if kind == "f" else shape[:-1]) or kind not in "iuf":
        return mean_cross_entropy(logits, labels)  # which refuses them: nothing is broadcast
    weight = weight if weight is None or isinstance(weight, Tensor) else np.asarray(weight)
    if weight is not None and shape_of(weight) != shape_of(logits)[-1:]:
        raise ShapeError(
            "cross_entropy(logits, labels, weight)",
            "weight has a number for each class, the last axis of the logits",
            operands=[("logits", logits), ("weight", weight)],
        )
    return general_cross_entropy(logits, labels, weight, ignore_index, label_smoothing, reduction)


def elementwise_road(op: Elementwise) -> Callable[..., Any]:
    """The fast road of a one-argument operation called by name, two frames below the user."""
    road = op.road = unary(op, 2)
    return road


Elementwise.build_road = elementwise_road  # type: ignore[method-assign,assignment]


_FAST_NAMES: dict[tuple[str, ...], Callable[[Any, Any], tuple[Any, ...]]] = {
    ("op",): lambda a, op: (op,),
    ("op", "x_shape"): lambda a, op: (op, a.shape),
}


def one(op: Any, x: Any, frame: Any) -> Any:
    """A linear operation on one tensor: sum, slice, reshape, transpose."""
    if x.__class__ is not Tensor or trace.MODES or x.data.__class__ is not ndarray:
        return bind(op, x)
    a = x.data
    try:
        y = op.impl(a)
    except (ValueError, IndexError, TypeError) as error:
        raise op.refusal((a,), error) from error
    t = new(Tensor)
    t.data = y
    t.level = x.level
    p = x.node
    if p is None or a.dtype.kind not in "fc":
        t.node = None
    else:
        rule = op.rules.get(1) or op.rule(1)
        frame = user_frame(frame) if frame.f_code.co_filename in LIBRARY else frame
        t.node = Node(
            seq(), rule, (p,), _FAST_NAMES[rule.names](a, op), frame.f_code, frame.f_lasti
        )
    return t


__all__ = ["binary", "cross_entropy", "linear", "matmul_method", "one", "unary", "wide"]
