"""Every function of `wengert.nn.functional` that has a counterpart in PyTorch: (ours, theirs).

Channels come last here and first there; `front` and `back` move them.
"""

from types import SimpleNamespace

import numpy as np

import wengert as wg
from wengert.nn import functional as F

rng = np.random.default_rng(0)
R = rng.standard_normal
SIGNS = np.where(R((4, 5)) > 0, 1.0, -1.0)
LABELS = np.array([[0, 2, 1], [3, 4, 2], [1, 1, 0], [4, 2, 3]])
WEIGHTS = rng.random(5) + 0.2
COUNTS = rng.integers(0, 6, (4, 5)).astype(float)
KNOTS = np.r_[np.linspace(-7.9, 8.1, 33), 0.3, -0.2]


def front(x):
    return x.movedim(-1, 1)


def back(x):
    return x.movedim(1, -1)


CASES = {}


def case(name, ours, theirs, *xs, order=2, smooth=True):
    assert name not in CASES
    CASES[name] = SimpleNamespace(ours=ours, theirs=theirs, xs=xs, order=order, smooth=smooth)


# ------------------------------------------------------------------ normalisation
x, w, b = R((3, 2, 6)), R(6), R(6)
case(
    "layer_norm", lambda x, w, b: F.layer_norm(x, 6, w, b),
    lambda t, x, w, b: t.layer_norm(x, (6,), w, b), x, w, b,
)  # fmt: skip
case(
    "layer_norm of two axes", lambda x: F.layer_norm(x, (2, 6), eps=0.1),
    lambda t, x: t.layer_norm(x, (2, 6), eps=0.1), x,
)  # fmt: skip
case("rms_norm", lambda x, w: F.rms_norm(x, 6, w), lambda t, x, w: t.rms_norm(x, (6,), w), x, w)
case(
    "group_norm", lambda x, w, b: F.group_norm(x, 3, w, b),
    lambda t, x, w, b: back(t.group_norm(front(x), 3, w, b)), x, w, b,
)  # fmt: skip
case(
    "instance_norm", lambda x, w, b: F.instance_norm(x, w, b, eps=0.01),
    lambda t, x, w, b: back(t.instance_norm(front(x), weight=w, bias=b, eps=0.01)),
    R((2, 3, 2, 6)), w, b,
)  # fmt: skip
case(
    "batch_norm", lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
    lambda t, x, w, b: back(t.batch_norm(front(x), None, None, w, b, training=True)), x, w, b,
)  # fmt: skip
case("normalize", F.normalize, lambda t, x: t.normalize(x, dim=-1), R((3, 4)))

# ------------------------------------------------------------------ attention
q, k, v = R((2, 4, 3, 2)), R((2, 4, 5, 2)), R((2, 4, 5, 3))
case(
    "attention", F.scaled_dot_product_attention,
    lambda t, *x: t.scaled_dot_product_attention(*x), q, k, v,
)  # fmt: skip
case(
    "attention, causal", lambda *x: F.scaled_dot_product_attention(*x, causal=True, scale=0.4),
    lambda t, *x: t.scaled_dot_product_attention(*x, is_causal=True, scale=0.4),
    R((2, 4, 2)), R((2, 4, 2)), R((2, 4, 3)),
)  # fmt: skip
case(
    "attention, grouped", F.scaled_dot_product_attention,
    lambda t, *x: t.scaled_dot_product_attention(*x, enable_gqa=True),
    q, R((2, 2, 5, 2)), R((2, 2, 5, 3)),
)  # fmt: skip
case(
    "attention, added mask", F.scaled_dot_product_attention,
    lambda t, q, k, v, m: t.scaled_dot_product_attention(q, k, v, attn_mask=m),
    q, k, v, R((1, 4, 3, 5)),
)  # fmt: skip

# ------------------------------------------------------------------ activations
for name in ("relu6", "hardtanh", "hardswish", "leaky_relu", "elu", "selu", "celu", "gelu", "mish",
             "softsign", "tanhshrink", "softshrink", "hardshrink", "silu"):  # fmt: skip
    f = getattr(F, name)
    case(name, f, lambda t, x, name=name: getattr(t, name)(x), KNOTS)
case("elu(2)", lambda x: F.elu(x, 2.0), lambda t, x: t.elu(x, 2.0), KNOTS)
case("celu(2)", lambda x: F.celu(x, 2.0), lambda t, x: t.celu(x, 2.0), KNOTS)
case("gelu, tanh", lambda x: F.gelu(x, "tanh"), lambda t, x: t.gelu(x, approximate="tanh"), KNOTS)
case(
    "softplus(2)", lambda x: F.softplus(x, 2.0),
    lambda t, x: t.softplus(x, 2.0, threshold=1e9), KNOTS,
)  # fmt: skip
case("threshold", lambda x: F.threshold(x, 0.5, 2.0), lambda t, x: t.threshold(x, 0.5, 2.0), KNOTS)
case("softmin", F.softmin, lambda t, x: t.softmin(x, -1), R((2, 3)))
case("glu", F.glu, lambda t, x: t.glu(x, -1), R((2, 6)))
case("prelu", F.prelu, lambda t, x, w: back(t.prelu(front(x), w)), x, w)

# ------------------------------------------------------------------ losses
z = R((4, 3, 5))
soft = rng.random((4, 3, 5))
p, p2 = rng.uniform(0.2, 0.8, (2, 4, 5))  # differences need room on both sides
s, t2 = 2 * R((4, 5)), R((4, 5))
for red in ("mean", "sum", "none"):
    o = {"reduction": red}
    for wt in (None, WEIGHTS):
        for ig in (None, 2):
            for smooth in (0.0, 0.1):
                given = dict(o, weight=wt, ignore_index=ig, label_smoothing=smooth)

                def ce(t, z, given=given):
                    import torch

                    o = dict(given)
                    o["weight"] = None if o["weight"] is None else torch.tensor(WEIGHTS)
                    o["ignore_index"] = -100 if o["ignore_index"] is None else o["ignore_index"]
                    return t.cross_entropy(front(z), torch.tensor(LABELS), **o)

                case(
                    f"cross_entropy, {red}, {'weights' if wt is not None else ''}, {ig}, {smooth}",
                    lambda z, given=given: F.cross_entropy(z, LABELS, **given), ce, z,
                )  # fmt: skip
    case(
        f"cross_entropy of probabilities, {red}",
        lambda z, s, o=o: F.cross_entropy(z, s, label_smoothing=0.2, weight=WEIGHTS, **o),
        lambda t, z, s, o=o: t.cross_entropy(
            front(z), front(s), label_smoothing=0.2, weight=z.new_tensor(WEIGHTS), **o
        ),
        z, soft,
    )  # fmt: skip
    case(
        f"nll_loss, {red}",
        lambda z, o=o: F.nll_loss(z, LABELS, weight=WEIGHTS, ignore_index=2, **o),
        lambda t, z, o=o: t.nll_loss(
            front(z), z.new_tensor(LABELS).long(), z.new_tensor(WEIGHTS), ignore_index=2, **o
        ),
        z,
    )  # fmt: skip
    for name, theirs, options in (
        ("mse_loss", {}, {}),
        ("l1_loss", {}, {}),
        ("huber_loss", {"delta": 0.7}, {"delta": 0.7}),
        ("smooth_l1_loss", {"beta": 0.7}, {"beta": 0.7}),
    ):
        case(
            f"{name}, {red}", lambda a, b, n=name, k=options, o=o: getattr(F, n)(a, b, **k, **o),
            lambda t, a, b, n=name, k=theirs, o=o: getattr(t, n)(a, b, **k, **o), s, t2,
        )  # fmt: skip
    case(
        f"bce, {red}", lambda p, q, o=o: F.binary_cross_entropy(p, q, **o),
        lambda t, p, q, o=o: t.binary_cross_entropy(p, q, **o), p, p2,
    )  # fmt: skip
    case(
        f"bce with logits, {red}",
        lambda x, q, o=o: F.binary_cross_entropy_with_logits(
            x, q, pos_weight=WEIGHTS, weight=WEIGHTS, **o
        ),
        lambda t, x, q, o=o: t.binary_cross_entropy_with_logits(
            x, q, pos_weight=x.new_tensor(WEIGHTS), weight=x.new_tensor(WEIGHTS), **o
        ),
        s, p2,
    )  # fmt: skip
    case(
        f"kl_div, {red}", lambda a, b, o=o: F.kl_div(a, b, **o),
        lambda t, a, b, o=o: t.kl_div(a, b, **o), s, p2,
    )  # fmt: skip
    case(
        f"kl_div of logarithms, {red}", lambda a, b, o=o: F.kl_div(a, b, log_target=True, **o),
        lambda t, a, b, o=o: t.kl_div(a, b, log_target=True, **o), s, t2,
    )  # fmt: skip
    for full in (False, True):
        case(
            f"poisson, {full}, {red}",
            lambda x, f=full, o=o: F.poisson_nll_loss(x, COUNTS, full=f, **o),
            lambda t, x, f=full, o=o: t.poisson_nll_loss(x, x.new_tensor(COUNTS), full=f, **o), s,
        )  # fmt: skip
        case(
            f"gaussian, {full}, {red}",
            lambda x, y, v, f=full, o=o: F.gaussian_nll_loss(x, y, v, full=f, **o),
            lambda t, x, y, v, f=full, o=o: t.gaussian_nll_loss(x, y, v, full=f, **o),
            s, t2, p + 0.1,
        )  # fmt: skip
    case(
        f"poisson of rates, {red}",
        lambda x, o=o: F.poisson_nll_loss(x, COUNTS, log_input=False, **o),
        lambda t, x, o=o: t.poisson_nll_loss(x, x.new_tensor(COUNTS), log_input=False, **o),
        p + 0.1,
    )  # fmt: skip
    case(
        f"soft margin, {red}", lambda x, o=o: F.soft_margin_loss(x, SIGNS, **o),
        lambda t, x, o=o: t.soft_margin_loss(x, x.new_tensor(SIGNS), **o), s,
    )  # fmt: skip
    case(
        f"hinge embedding, {red}", lambda x, o=o: F.hinge_embedding_loss(x, SIGNS, **o),
        lambda t, x, o=o: t.hinge_embedding_loss(x, x.new_tensor(SIGNS), **o), s,
    )  # fmt: skip
    case(
        f"ranking, {red}", lambda a, b, o=o: F.margin_ranking_loss(a, b, SIGNS, 0.3, **o),
        lambda t, a, b, o=o: t.margin_ranking_loss(a, b, a.new_tensor(SIGNS), 0.3, **o), s, t2,
    )  # fmt: skip
    case(
        f"multi margin, {red}",
        lambda x, o=o: F.multi_margin_loss(x, LABELS[:, 0], p=2, weight=WEIGHTS, **o),
        lambda t, x, o=o: t.multi_margin_loss(
            x, x.new_tensor(LABELS[:, 0]).long(), p=2, weight=x.new_tensor(WEIGHTS), **o
        ),
        s,
    )  # fmt: skip
    case(
        f"triplet, {red}", lambda a, b, c, o=o: F.triplet_margin_loss(a, b, c, swap=True, **o),
        lambda t, a, b, c, o=o: t.triplet_margin_loss(a, b, c, swap=True, eps=0.0, **o),
        s, t2, R((4, 5)),
    )  # fmt: skip
    case(
        f"triplet with distance, {red}",
        lambda a, b, c, o=o: F.triplet_margin_with_distance_loss(a, b, c, margin=0.6, **o),
        lambda t, a, b, c, o=o: t.triplet_margin_with_distance_loss(a, b, c, margin=0.6, **o),
        s, t2, R((4, 5)),
    )  # fmt: skip
    case(
        f"multilabel soft margin, {red}",
        lambda x, o=o: F.multilabel_soft_margin_loss(x, SIGNS > 0, weight=WEIGHTS, **o),
        lambda t, x, o=o: t.multilabel_soft_margin_loss(
            x, x.new_tensor(SIGNS > 0), x.new_tensor(WEIGHTS), **o
        ),
        s,
    )  # fmt: skip
for order in (1.0, 2.0, 3.5, np.inf):
    for eps in (0.0, 0.01):
        case(
            f"pairwise_distance, {order}, {eps}",
            lambda a, b, p=order, e=eps: F.pairwise_distance(a, b, p, eps=e),
            lambda t, a, b, p=order, e=eps: t.pairwise_distance(a, b, p, e), s, t2,
        )  # fmt: skip
case("cosine_similarity", F.cosine_similarity, lambda t, a, b: t.cosine_similarity(a, b, -1), s, t2)
case("kl_div, batchmean", F.kl_div, lambda t, a, b: t.kl_div(a, b, reduction="batchmean"), s, p2)

LENGTHS, SPELT = np.array([7, 5, 2]), np.array([3, 0, 2])
SPEECH = np.array([[1, 1, 3], [2, 1, 1], [3, 2, 1]])
for red in ("mean", "sum", "none"):
    case(
        f"ctc_loss, {red}",
        lambda z, r=red: F.ctc_loss(
            wg.log_softmax(z), SPEECH, LENGTHS, SPELT, reduction=r, zero_infinity=True
        ),
        lambda t, z, r=red: t.ctc_loss(
            z.log_softmax(-1).transpose(0, 1), z.new_tensor(SPEECH).long(),
            z.new_tensor(LENGTHS).long(), z.new_tensor(SPELT).long(),
            reduction=r, zero_infinity=True,
        ),
        R((3, 7, 4)), order=2 if red == "sum" else 1,
    )  # fmt: skip

# ------------------------------------------------------------------ embedding and shape
INDEX = np.array([[0, 3, 3], [5, 1, 2]])
case(
    "embedding_bag", lambda e: F.embedding_bag(INDEX, e, padding_idx=1),
    lambda t, e: t.embedding_bag(e.new_tensor(INDEX).long(), e, padding_idx=1, mode="mean"),
    R((6, 3)),
)  # fmt: skip
case(
    "embedding_bag, offsets", lambda e: F.embedding_bag(INDEX.ravel(), e, [0, 2, 2], mode="sum"),
    lambda t, e: t.embedding_bag(
        e.new_tensor(INDEX.ravel()).long(), e, e.new_tensor([0, 2, 2]).long(), mode="sum"
    ),
    R((6, 3)),
)  # fmt: skip
image = R((2, 4, 5, 2))
for mode in ("constant", "reflect", "replicate", "circular"):
    fill = (1.5,) if mode == "constant" else ()
    case(
        f"pad, {mode}", lambda x, m=mode, f=fill: F.pad(x, ((2, 1), (3, 0)), m, *f),
        lambda t, x, m=mode, f=fill: back(t.pad(front(x), (3, 0, 2, 1), m, *f)), image,
    )  # fmt: skip
SPACES = {1: R((2, 5, 2)), 2: image, 3: R((1, 3, 4, 2, 2))}
for axes, modes in (
    (1, ("nearest", "nearest-exact", "linear", "area")),
    (2, ("nearest", "nearest-exact", "bilinear", "bicubic", "area")),
    (3, ("nearest", "nearest-exact", "trilinear", "area")),
):
    for mode in modes:
        between = "lin" in mode or "cub" in mode
        for size in (1, 3, 7):
            for align in (False, True) if between else (None,):
                case(
                    f"{mode}, {size}, {align}, {axes}",
                    lambda x, m=mode, n=size, a=align: F.interpolate(
                        x, n, mode=m, align_corners=bool(a)
                    ),
                    lambda t, x, m=mode, n=size, a=align, d=axes: back(
                        t.interpolate(front(x), (n,) * d, mode=m, align_corners=a)
                    ),
                    SPACES[axes], order=1,
                )  # fmt: skip
        if mode != "area":
            for factor in (2, 1.7, 0.6):
                case(
                    f"{mode}, factor {factor}, {axes}",
                    lambda x, m=mode, n=factor: F.interpolate(x, scale_factor=n, mode=m),
                    lambda t, x, m=mode, n=factor, a=False if between else None: back(
                        t.interpolate(front(x), scale_factor=n, mode=m, align_corners=a)
                    ),
                    SPACES[axes], order=1,
                )  # fmt: skip
case(
    "pixel_shuffle", lambda x: F.pixel_shuffle(x, 2),
    lambda t, x: back(t.pixel_shuffle(front(x), 2)), R((2, 2, 3, 8)),
)  # fmt: skip
case(
    "pixel_unshuffle", lambda x: F.pixel_unshuffle(x, 2),
    lambda t, x: back(t.pixel_unshuffle(front(x), 2)), R((2, 2, 4, 3)),
)  # fmt: skip


def off_pixels(u):
    """Points with both coordinates away from where the neighbours change."""
    n = np.array([5, 4])
    at = np.concatenate([((u + 1) * n - 1) / 2, (u + 1) * (n - 1) / 2], -1)
    return (np.abs(at - np.rint(at)) > 0.02).all(-1)


GRID = rng.uniform(-1.3, 1.3, (60, 2))
GRID = GRID[off_pixels(GRID)][:12].reshape(2, 3, 2, 2)
for outside in ("zeros", "border"):
    for align in (False, True):
        case(
            f"grid_sample, {outside}, {align}",
            lambda x, g, p=outside, a=align: F.grid_sample(x, g, "bilinear", p, a),
            lambda t, x, g, p=outside, a=align: back(
                t.grid_sample(front(x), g, "bilinear", p, align_corners=a)
            ),
            image, GRID,
        )  # fmt: skip
