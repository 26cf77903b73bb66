"""Every public name of `wengert.nn.functional`, with its reductions and options: (label, f, xs).

The arrays are float64 at points where f is smooth. Whole numbers, masks and options stay inside f.
"""

import itertools

import numpy as np

import wengert as wg
from wengert.nn import functional as F

rng = np.random.default_rng(5)
R = rng.standard_normal


def apart(*shape):
    """Numbers of which no two are near each other."""
    return 0.1 * rng.permutation(int(np.prod(shape))).reshape(shape) - 1.03


TABLE = []


def row(name, f, *xs, options="", order=2):
    assert name in F.__all__
    TABLE.append((f"{name}({options})", f, xs, order))


def rows(name, f, xs, order=2, **options):
    """One row for each combination of the options, which are handed on to the function."""
    for values in itertools.product(*options.values()):
        o = dict(zip(options, values))
        told = ", ".join(f"{k}={_short(v)}" for k, v in o.items())
        row(name, lambda *xs, o=o: f(*xs, **o), *xs, options=told, order=order)


def _short(v):
    return f"{v.dtype}[{v.shape}]" if isinstance(v, np.ndarray) else repr(v)


RED = ("mean", "sum", "none")
KNOTS = np.array([[-7.3, -3.6, -1.7, -0.8], [-0.3, 0.2, 0.7, 1.6], [2.4, 3.3, 5.2, 7.1]])

# ------------------------------------------------------------------ activations
for name in ("gelu", "hardsigmoid", "hardswish", "log_sigmoid", "mish", "relu", "relu6", "selu",
             "sigmoid", "silu", "softsign", "swish", "tanh", "tanhshrink"):  # fmt: skip
    row(name, getattr(F, name), KNOTS)
rows("celu", F.celu, (KNOTS,), alpha=(1.0, 0.5, 2))
rows("elu", F.elu, (KNOTS,), alpha=(1.0, 0.5, 2))
rows("gelu", F.gelu, (KNOTS,), approximate=("none", "tanh"))
rows("hardshrink", F.hardshrink, (KNOTS,), size=(0.5, 1))
rows("softshrink", F.softshrink, (KNOTS,), size=(0.5, 1))
rows("hardtanh", F.hardtanh, (KNOTS,), low=(-1.0, -2), high=(1.0, 3))
rows("leaky_relu", F.leaky_relu, (KNOTS,), slope=(0.01, 1, 0))
rows("softplus", F.softplus, (KNOTS,), beta=(1.0, 2, 0.5))
rows("threshold", F.threshold, (KNOTS,), limit=(0.5, 1), value=(2.0, -1))
for name in ("glu", "swiglu", "geglu"):
    rows(name, getattr(F, name), (R((4, 6)),), axis=(-1, 0))
for name in ("softmax", "log_softmax", "softmin", "logsumexp"):
    rows(name, getattr(F, name), (R((3, 4)),), axis=(-1, 0))
row("prelu", F.prelu, KNOTS, R(4), options="weights")
row("prelu", F.prelu, KNOTS, R(1), options="one weight")
rows(
    "gumbel_softmax", lambda x, **o: F.gumbel_softmax(x, rng=np.random.default_rng(0), **o),
    (R((3, 4)),), tau=(1.0, 2), hard=(False,), axis=(-1, 0),
)  # fmt: skip

# ------------------------------------------------------------------ convolution and pooling
SPACE = {1: (6,), 2: (4, 5), 3: (3, 3, 4)}
PLACES = {
    d: F.__dict__[f"max_pool{d}d"](R((2, *(4,) * d, 4)), 2, return_indices=True)[1]
    for d in (1, 2, 3)
}
for d in (1, 2, 3):
    x, b = apart(2, *SPACE[d], 4), R(6)
    conv, back = getattr(F, f"conv{d}d"), getattr(F, f"conv_transpose{d}d")
    for groups in (1, 2):
        w, wt = R((*(2,) * d, 4 // groups, 6)), R((*(2,) * d, 6 // groups, 4))
        rows(f"conv{d}d", lambda *xs, f=conv, **o: f(*xs, **o), (x, w, b), groups=(groups,),
             stride=(1, 2), padding=(0, 1, "same"), dilation=(1, 2))  # fmt: skip
        rows(f"conv_transpose{d}d", lambda *xs, f=back, **o: f(*xs, **o), (x, wt, b),
             groups=(groups,), stride=(2,), padding=(0, 1), output_padding=(0, 1),
             dilation=(1, 2))  # fmt: skip
    mx, av, lp = (getattr(F, f"{n}_pool{d}d") for n in ("max", "avg", "lp"))
    rows(f"max_pool{d}d", lambda x, f=mx, **o: f(x, 2, **o), (x,), stride=(None, 1),
         padding=(0, 1), ceil_mode=(False, True))  # fmt: skip
    row(f"max_pool{d}d", lambda x, f=mx: f(x, 2, return_indices=True)[0], x, options="indices")
    rows(f"avg_pool{d}d", lambda x, f=av, **o: f(x, 2, **o), (x,), padding=(0, 1),
         ceil_mode=(False, True), count_include_pad=(False, True),
         divisor_override=(None, 3))  # fmt: skip
    rows(f"lp_pool{d}d", lambda x, f=lp, **o: f(x, kernel_size=2, **o), (1.5 + abs(x),),
         p=(1, 2, 3.5), ceil_mode=(False, True))  # fmt: skip
    for kind in ("avg", "max"):
        name = f"adaptive_{kind}_pool{d}d"
        rows(name, getattr(F, name), (x,), output_size=(1, 2, 3))
    row(f"max_unpool{d}d", lambda x, d=d: getattr(F, f"max_unpool{d}d")(x, PLACES[d], 2),
        R((2, *(2,) * d, 4)))  # fmt: skip
row("global_avg_pool", F.global_avg_pool, R((2, 3, 4, 2)))
row("global_max_pool", F.global_max_pool, R((2, 3, 4, 2)))
row("linear", F.linear, R((3, 4)), R((4, 2)), R(2))

# ------------------------------------------------------------------ norms
x, w, b = R((3, 2, 4)), R(4), R(4)
rows("layer_norm", lambda *xs, **o: F.layer_norm(xs[0], 4, *xs[1:], **o), (x, w, b), eps=(1e-5, 1))
rows("rms_norm", lambda *xs, **o: F.rms_norm(xs[0], 4, *xs[1:], **o), (x, w), eps=(None, 1e-5, 1))
rows("group_norm", lambda *xs, **o: F.group_norm(xs[0], 2, *xs[1:], **o), (x, w, b), eps=(1e-5, 1))
rows("instance_norm", F.instance_norm, (R((2, 5, 4)), w, b), eps=(1e-5, 1))
rows("normalize", F.normalize, (x,), p=(1, 2.0, 3), axis=(-1, 0))
for training in (False, True):
    row("batch_norm", lambda x, w, b, t=training: F.batch_norm(
        x, np.zeros(4, x.dtype), np.ones(4, x.dtype), w, b, training=t), x, w, b,
        options=f"training={training}")  # fmt: skip
row("batch_norm", lambda x: F.batch_norm(x, None, None), x, options="no statistics")

# ------------------------------------------------------------------ attention
q, k, v = R((2, 4, 3, 2)), R((2, 4, 3, 2)), R((2, 4, 3, 3))
MASK = np.array([[True, False, True], [False, False, False], [True, True, True]])
for scale in (None, 1, 0.3):
    rows("scaled_dot_product_attention", F.scaled_dot_product_attention, (q, k, v),
         causal=(False, True), scale=(scale,))  # fmt: skip
row("scaled_dot_product_attention", lambda *xs: F.scaled_dot_product_attention(*xs, MASK), q, k, v,
    options="booleans, a row without keys")  # fmt: skip
row("scaled_dot_product_attention", F.scaled_dot_product_attention, q, k, v, R((3, 3)),
    options="added mask")  # fmt: skip
row("scaled_dot_product_attention", F.scaled_dot_product_attention, q, k[:, :2], v[:, :2],
    options="grouped")  # fmt: skip
row("scaled_dot_product_attention",
    lambda *xs: F.scaled_dot_product_attention(*xs, MASK, dropout=0.4, rng=3), q, k, v,
    options="dropout, booleans")  # fmt: skip

# ------------------------------------------------------------------ dropout
for name in ("dropout", "alpha_dropout", "stochastic_depth", "feature_alpha_dropout",
             "dropout1d", "dropout2d", "dropout3d"):  # fmt: skip
    f, n = getattr(F, name), int(name[-2]) if name[-1] == "d" else 1
    for p in (0, 0.4, 1):
        for training in (False, True):
            row(name, lambda x, f=f, p=p, t=training: f(x, p, t, rng=7), R((3, *(2,) * n, 3)),
                options=f"p={p}, training={training}")  # fmt: skip

# ------------------------------------------------------------------ embedding and shape
INDEX = np.array([[0, 3, 3], [5, 1, 2]])
row("embedding", lambda e: F.embedding(INDEX, e), R((6, 3)))
row("embedding", lambda e: F.embedding(INDEX, e, 1), R((6, 3)), options="padding", order=0)
rows("embedding_bag", lambda e, **o: F.embedding_bag(INDEX, e, **o), (R((6, 3)),),
     mode=("mean", "sum"), padding_idx=(None, 1))  # fmt: skip
rows("embedding_bag", lambda e, **o: F.embedding_bag(INDEX.ravel(), e, [0, 2, 2], **o),
     (R((6, 3)),), mode=("mean", "sum"), padding_idx=(None, 1))  # fmt: skip
row("embedding_bag", lambda e, w: F.embedding_bag(INDEX, e, mode="sum", weight=w, padding_idx=1),
    R((6, 3)), R((2, 3)), options="weight")  # fmt: skip
row("one_hot", lambda x: x @ F.one_hot(INDEX[0], 4, dtype=x.dtype), R((2, 3)), options="dtype")
image = R((2, 4, 5, 2))
rows("pad", lambda x, mode: F.pad(x, ((2, 1), (3, 0)), mode), (image,),
     mode=("constant", "reflect", "replicate", "circular"))  # fmt: skip
row("pad", lambda x: F.pad(x, ((2, 1), (3, 0)), "constant", 2), image, options="value=2")
for s, modes in (
    ((5,), ("nearest", "nearest-exact", "linear", "area")),
    ((4, 5), ("nearest", "nearest-exact", "bilinear", "bicubic", "area")),
    ((2, 3, 2), ("nearest", "nearest-exact", "trilinear", "area")),
):
    for mode in modes:
        between = "lin" in mode or "cub" in mode
        x = R((2, *s, 2))
        rows("interpolate", F.interpolate, (x,), size=(1, 3, 7), mode=(mode,),
             align_corners=(False, True) if between else (False,))  # fmt: skip
        rows("interpolate", F.interpolate, (x,), scale_factor=(2, 1.7, 0.6), mode=(mode,))
U = np.array([-0.87, -0.67, -0.12, 0.13, 0.42, 0.71])
GRID = rng.choice(U, (2, 2, 3, 2))  # not where the neighbours change
rows("grid_sample", F.grid_sample, (image, GRID), padding_mode=("zeros", "border"),
     align_corners=(False, True))  # fmt: skip
rows("grid_sample", lambda x, **o: F.grid_sample(x, GRID.astype(x.dtype), "nearest", **o),
     (image,), padding_mode=("zeros", "border"), align_corners=(False, True))  # fmt: skip
row("pixel_shuffle", lambda x: F.pixel_shuffle(x, 2), R((2, 2, 3, 8)))
row("pixel_unshuffle", lambda x: F.pixel_unshuffle(x, 2), R((2, 2, 4, 3)))
rows("unfold", lambda x, **o: F.unfold(x, 2, **o), (image,), stride=(1, 2), padding=(0, 1),
     dilation=(1, 2))  # fmt: skip
rows("fold", lambda x, **o: F.fold(x, (3, 3), 2, **o), (R((2, 4, 8)),), stride=(1,))
rows("fold", lambda x, **o: F.fold(x, (3, 3), 2, **o), (R((2, 4, 8)),), stride=(2,), padding=(1,))

# ------------------------------------------------------------------ losses
LABELS = np.array([[0, 2, 1], [3, 4, 2], [1, 1, 0], [4, 2, 3]])
CLASS = rng.random(5) + 0.2
z, soft = R((4, 3, 5)), rng.random((4, 3, 5))
s, t = 2 * R((4, 5)), R((4, 5))
p, p2 = rng.uniform(0.2, 0.8, (2, 4, 5))
SIGNS = np.where(R((4, 5)) > 0, 1, -1)
COUNTS = rng.integers(0, 6, (4, 5))


def weighed(f, labels):
    """The loss with weights of the classes in the dtype of the scores, where there are any."""

    def g(z, weight, **o):
        return f(z, labels, weight=CLASS.astype(z.dtype) if weight else None, **o)

    return g


rows("cross_entropy", weighed(F.cross_entropy, LABELS), (z,), weight=(False, True),
     ignore_index=(None, 2), label_smoothing=(0.0, 0.1), reduction=RED)  # fmt: skip
rows("cross_entropy", F.cross_entropy, (z, soft), label_smoothing=(0.0, 0.2), reduction=RED)
rows("nll_loss", weighed(F.nll_loss, LABELS), (z,), weight=(False, True), ignore_index=(None, 2),
     reduction=RED)  # fmt: skip
rows("mse_loss", F.mse_loss, (s, t), reduction=RED)
rows("mse_loss", lambda x, **o: F.mse_loss(x, COUNTS.astype(x.dtype), **o), (s,), reduction=RED)
rows("l1_loss", F.l1_loss, (s, t), reduction=RED)
rows("huber_loss", F.huber_loss, (s, t), delta=(1, 0.7), reduction=RED)
rows("smooth_l1_loss", F.smooth_l1_loss, (s, t), beta=(1, 0.7, 0), reduction=RED)
rows("binary_cross_entropy", F.binary_cross_entropy, (p, p2), reduction=RED)
for weight, positive in itertools.product((False, True), repeat=2):
    rows("binary_cross_entropy_with_logits",
         lambda x, q, w=weight, o=positive, **r: F.binary_cross_entropy_with_logits(
             x, q, weight=CLASS.astype(x.dtype) if w else None,
             pos_weight=CLASS.astype(x.dtype) if o else None, **r),
         (s, p2), reduction=RED)  # fmt: skip
rows("kl_div", F.kl_div, (s, p2), reduction=(*RED, "batchmean"))
rows("kl_div", F.kl_div, (s, t), log_target=(True,), reduction=(*RED, "batchmean"))
rows("poisson_nll_loss", lambda x, **o: F.poisson_nll_loss(x, COUNTS.astype(x.dtype), **o),
     (p + 0.1,), log_input=(False, True), full=(False, True), reduction=RED)  # fmt: skip
rows("gaussian_nll_loss", F.gaussian_nll_loss, (s, t, p + 0.1), full=(False, True), reduction=RED)
for name in ("hinge_loss", "soft_margin_loss", "hinge_embedding_loss"):
    f = getattr(F, name)
    rows(name, lambda x, f=f, **o: f(x, SIGNS.astype(x.dtype), **o), (s,),
         reduction=RED)  # fmt: skip
rows("margin_ranking_loss", lambda a, b, **o: F.margin_ranking_loss(
    a, b, SIGNS.astype(a.dtype), **o), (s, t), margin=(0.3, 1), reduction=RED)  # fmt: skip
rows("multi_margin_loss", weighed(F.multi_margin_loss, LABELS[:, 0]), (s,), weight=(False, True),
     p=(1, 2), margin=(1, 0.4), reduction=RED)  # fmt: skip
rows("triplet_margin_loss", F.triplet_margin_loss, (s, t, R((4, 5))), margin=(1, 0.4), p=(1, 2, 3),
     swap=(False, True), reduction=RED)  # fmt: skip
rows("triplet_margin_with_distance_loss", F.triplet_margin_with_distance_loss,
     (s, t, R((4, 5))), margin=(1, 0.4), swap=(False, True), reduction=RED)  # fmt: skip
row("triplet_margin_with_distance_loss", lambda *xs: F.triplet_margin_with_distance_loss(
    *xs, distance_function=lambda a, b: 1 - F.cosine_similarity(a, b)), s, t, R((4, 5)),
    options="a distance")  # fmt: skip
rows("multilabel_soft_margin_loss", lambda x, weight, **o: F.multilabel_soft_margin_loss(
    x, (SIGNS > 0).astype(x.dtype), weight=CLASS.astype(x.dtype) if weight else None, **o), (s,),
    weight=(False, True), reduction=RED)  # fmt: skip
rows("pairwise_distance", F.pairwise_distance, (s, t), p=(1, 2, 3.5, np.inf), eps=(0.0, 1e-6),
     keepdims=(False, True))  # fmt: skip
rows("cosine_similarity", F.cosine_similarity, (s, t), axis=(-1, 0))
rows("cosine_embedding_loss", lambda a, b, **o: F.cosine_embedding_loss(
    a, b, SIGNS[:, 0].astype(a.dtype), **o), (s, t), margin=(0, 0.2), reduction=RED)  # fmt: skip
rows("ctc_loss", lambda z, **o: F.ctc_loss(
    wg.log_softmax(z), np.array([[1, 1, 3], [2, 1, 1], [3, 2, 1]]), np.array([7, 5, 2]),
    np.array([3, 0, 2]), **o), (R((3, 7, 4)),), zero_infinity=(True,), reduction=RED)  # fmt: skip
