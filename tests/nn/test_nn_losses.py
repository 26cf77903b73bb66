"""Losses as layers: PyTorch's values and gradients, weights as buffers, and what is refused."""

import copy
import inspect
import pickle

import numpy as np
import pytest

import wengert as wg
from wengert import nn
from wengert.errors import ArgumentError, AxisError, DTypeError, OptionError, ShapeError
from wengert.nn import functional as F

rng = np.random.default_rng(0)
R = rng.standard_normal
Z, LABELS = R((4, 3, 5)), np.array([[0, 2, 1], [3, -100, 2], [1, 1, 0], [4, 2, 3]])
SOFT = rng.random((4, 3, 5))
S, T2 = 2 * R((4, 5)), R((4, 5))
P, P2 = rng.uniform(0.2, 0.8, (2, 4, 5))
W = rng.random(5) + 0.2
SIGNS = np.where(R((4, 5)) > 0, 1.0, -1.0)
COUNTS = rng.integers(0, 6, (4, 5)).astype(float)
ONES_AND_ZEROS = (R((4, 5)) > 0).astype(float)
SPEECH = np.array([[1, 1, 3], [2, 1, 1], [3, 2, 1]])
SPOKEN, SPELT = np.array([7, 5, 2]), np.array([3, 0, 2])


def last_to_second(t):
    return t.movedim(-1, 1) if t.ndim > 2 else t


# ours and PyTorch's have one name and one set of options; (name, options, operands); the first
# `live` of the operands get gradients; `theirs` lays an operand out as PyTorch wants it
CASES = [
    ("MSELoss", {}, (S, T2)),
    ("L1Loss", {}, (S, T2)),
    ("SmoothL1Loss", {}, (S, T2)),
    ("SmoothL1Loss", {"beta": 0.7}, (S, T2)),
    ("SmoothL1Loss", {"beta": 0.0}, (S, T2)),
    ("HuberLoss", {}, (S, T2)),
    ("HuberLoss", {"delta": 0.7}, (S, T2)),
    ("CrossEntropyLoss", {}, (Z, LABELS)),
    ("CrossEntropyLoss", {}, (S, LABELS[:, 0])),
    ("CrossEntropyLoss", {"weight": W}, (Z, LABELS)),
    ("CrossEntropyLoss", {"ignore_index": 2}, (Z, abs(LABELS) % 5)),
    ("CrossEntropyLoss", {"label_smoothing": 0.2}, (Z, LABELS)),
    ("CrossEntropyLoss", {"weight": W, "label_smoothing": 0.2, "ignore_index": 1}, (Z, LABELS % 5)),
    ("CrossEntropyLoss", {"weight": W, "label_smoothing": 0.2}, (Z, SOFT)),
    ("CrossEntropyLoss", {}, (S, SOFT[:, 0])),
    ("NLLLoss", {}, (Z, LABELS)),
    ("NLLLoss", {"weight": W}, (Z, LABELS)),
    ("NLLLoss", {"weight": W, "ignore_index": 2}, (Z, abs(LABELS) % 5)),
    ("BCELoss", {}, (P, P2)),
    ("BCELoss", {"weight": W}, (P, P2)),
    ("BCEWithLogitsLoss", {}, (S, P2)),
    ("BCEWithLogitsLoss", {"weight": W}, (S, P2)),
    ("BCEWithLogitsLoss", {"pos_weight": W}, (S, P2)),
    ("BCEWithLogitsLoss", {"weight": W[:4, None], "pos_weight": W}, (S, P2)),
    ("KLDivLoss", {}, (S, P2)),
    ("KLDivLoss", {"log_target": True}, (S, T2)),
    ("PoissonNLLLoss", {}, (S, COUNTS)),
    ("PoissonNLLLoss", {"full": True}, (S, COUNTS)),
    ("PoissonNLLLoss", {"log_input": False, "eps": 1e-3}, (P, COUNTS)),
    ("GaussianNLLLoss", {}, (S, T2, P)),
    ("GaussianNLLLoss", {"full": True, "eps": 0.1}, (S, T2, P[:, :1])),
    ("SoftMarginLoss", {}, (S, SIGNS)),
    ("HingeEmbeddingLoss", {}, (S, SIGNS)),
    ("HingeEmbeddingLoss", {"margin": 0.3}, (S, SIGNS)),
    ("MarginRankingLoss", {}, (S, T2, SIGNS)),
    ("MarginRankingLoss", {"margin": 0.3}, (S, T2, SIGNS)),
    ("MultiMarginLoss", {}, (S, abs(LABELS[:, 0]) % 5)),
    ("MultiMarginLoss", {"p": 2, "margin": 0.4, "weight": W}, (S, abs(LABELS[:, 0]) % 5)),
    ("MultiLabelSoftMarginLoss", {}, (S, ONES_AND_ZEROS)),
    ("MultiLabelSoftMarginLoss", {"weight": W}, (S, ONES_AND_ZEROS)),
    ("TripletMarginLoss", {}, (S, T2, P)),
    ("TripletMarginLoss", {"margin": 0.4, "p": 3.0, "eps": 0.01, "swap": True}, (S, T2, P)),
    ("TripletMarginWithDistanceLoss", {}, (S, T2, P)),
    ("TripletMarginWithDistanceLoss", {"margin": 0.4, "swap": True}, (S, T2, P)),
    ("CosineEmbeddingLoss", {}, (S, T2, SIGNS[:, 0])),
    ("CosineEmbeddingLoss", {"margin": 0.2}, (S, T2, SIGNS[:, 0])),
    ("CosineSimilarity", {}, (S, T2)),
    ("CosineSimilarity", {"eps": 0.5}, (S, T2)),
    ("PairwiseDistance", {}, (S, T2)),
    ("PairwiseDistance", {"p": 3.0, "eps": 0.01}, (S, T2[:1])),
]
UNREDUCED = ("CosineSimilarity", "PairwiseDistance")
ALL = [
    pytest.param(name, {**options, **reduction}, xs, id=f"{i} {name} {reduction.get('reduction')}")
    for i, (name, options, xs) in enumerate(CASES)
    for reduction in (
        [{}]
        if name in UNREDUCED
        else [{}, *[{"reduction": r} for r in ("mean", "sum", "none")]]
        + ([{"reduction": "batchmean"}] if name == "KLDivLoss" else [])
    )
]
LIVE = {"MarginRankingLoss": 2, "TripletMarginLoss": 3, "TripletMarginWithDistanceLoss": 3,
        "CosineEmbeddingLoss": 2, "GaussianNLLLoss": 3, "CosineSimilarity": 2,
        "PairwiseDistance": 2, "MSELoss": 2, "BCEWithLogitsLoss": 2}  # fmt: skip


def both(torch, ours, theirs, xs, live, lay=last_to_second):
    """Value and gradients of the two agree."""
    mine = [wg.tensor(x, requires_grad=True) if i < live else x for i, x in enumerate(xs)]
    other = [torch.tensor(x, requires_grad=i < live) for i, x in enumerate(xs)]
    y = ours(*mine)
    want = theirs(*[lay(x) for x in other])
    assert y.shape == want.shape
    np.testing.assert_allclose(y.numpy(), want.detach().numpy(), rtol=1e-12, atol=1e-12)
    gy = np.random.default_rng(1).standard_normal(y.shape)
    (y * gy).sum().backward()
    (want * torch.tensor(gy)).sum().backward()
    for a, b in zip(mine[:live], other[:live], strict=True):
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning:torch")
@pytest.mark.parametrize(("name", "options", "xs"), ALL)
def test_pytorch_has_the_same_numbers_with_the_same_options(torch, name, options, xs):
    given = {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    ours, theirs = getattr(nn, name)(**options), getattr(torch.nn, name)(**given)
    assert set(ours.state_dict()) == set(theirs.state_dict())
    both(torch, ours, theirs, xs, LIVE.get(name, 1))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("blank", [0, 2])
def test_ctc_has_pytorchs_numbers_with_samples_first(torch, reduction, blank):
    z = R((3, 7, 4))
    labels = (SPEECH - 1 + blank) % 3 + 1 if blank == 0 else np.where(SPEECH == 2, 0, SPEECH)
    options = {"blank": blank, "reduction": reduction, "zero_infinity": True}
    ours, theirs = nn.CTCLoss(**options), torch.nn.CTCLoss(**options)
    a, b = wg.tensor(z, requires_grad=True), torch.tensor(z, requires_grad=True)
    y = ours(wg.log_softmax(a), labels, SPOKEN, SPELT)
    want = theirs(
        b.log_softmax(-1).transpose(0, 1), torch.tensor(labels), torch.tensor(SPOKEN),
        torch.tensor(SPELT),
    )  # fmt: skip
    np.testing.assert_allclose(y.numpy(), want.detach().numpy(), rtol=1e-12, atol=1e-12)
    y.sum().backward()
    want.sum().backward()
    np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(("name", "ours", "theirs"), [
    ("PairwiseDistance", {"keepdims": True}, {"keepdim": True}),
    ("CosineSimilarity", {"axis": 0}, {"dim": 0}),
])  # fmt: skip
def test_options_that_have_numpys_names(torch, name, ours, theirs):
    both(torch, getattr(nn, name)(**ours), getattr(torch.nn, name)(**theirs), (S, T2), 2)


def test_below_eps_the_values_are_pytorchs_and_the_derivative_is_that_of_the_formula(torch):
    """max(v, eps) is eps there. PyTorch changes the value behind the back of its derivative."""
    a, v = wg.tensor(S, requires_grad=True), wg.tensor(P, requires_grad=True)
    y = nn.CosineSimilarity(eps=30.0)(a, T2)
    want = torch.nn.CosineSimilarity(eps=30.0)(torch.tensor(S), torch.tensor(T2))
    np.testing.assert_allclose(y.numpy(), want.numpy(), rtol=1e-12)
    y.sum().backward()
    np.testing.assert_allclose(a.grad.numpy(), T2 / 900, rtol=1e-12)
    y = nn.GaussianNLLLoss(eps=0.9)(S, T2, v)
    want = torch.nn.GaussianNLLLoss(eps=0.9)(*[torch.tensor(x) for x in (S, T2, P)])
    np.testing.assert_allclose(y.item(), want.item(), rtol=1e-12)
    y.backward()
    np.testing.assert_array_equal(v.grad.numpy(), 0)


NAMES = sorted({*[name for name, *_ in CASES], "CTCLoss", "HingeLoss"})
NO_WORD_IN_PYTORCH = {"HingeLoss"}


@pytest.mark.parametrize("name", [n for n in NAMES if n not in NO_WORD_IN_PYTORCH])
def test_names_and_defaults_are_pytorchs(torch, name):
    theirs = inspect.signature(getattr(torch.nn, name)).parameters
    renamed = {"dim": "axis", "keepdim": "keepdims"}
    own = {renamed.get(n, n): p.default for n, p in theirs.items()}
    mine = {n: p.default for n, p in inspect.signature(getattr(nn, name)).parameters.items()}
    assert mine.keys() == own.keys() - {"size_average", "reduce"}
    usual = {"axis": -1}  # PyTorch's is 1, as its channels come second
    assert mine == {**{n: own[n] for n in mine}, **{n: usual[n] for n in mine if n in usual}}
    first = list(own)
    for i, (n, p) in enumerate(inspect.signature(getattr(nn, name)).parameters.items()):
        if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
            assert first[i] == n  # what may be given by position stands there in PyTorch too


OPERANDS = {
    **{name: xs for name, _, xs in reversed(CASES)},
    "CTCLoss": (np.log(np.full((3, 7, 4), 0.25)), SPEECH, [7, 7, 7], [3, 3, 3]),
    "HingeLoss": (S, SIGNS),
}


@pytest.mark.parametrize("name", NAMES)
def test_each_is_its_function(name):
    layer, xs = getattr(nn, name)(), OPERANDS[name]
    want = type(layer).call(*xs, **layer.options)
    np.testing.assert_array_equal(layer(*xs), want)
    assert repr(layer) == f"{name}()"
    assert layer.state_dict() == {}
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        np.testing.assert_array_equal(twin(*xs), want)
    assert name in nn.__all__


@pytest.mark.parametrize("name", NAMES)
def test_float32_gives_float32(name):
    options = {n: W for n in ("weight", "pos_weight") if n in getattr(nn, name).options}
    xs = [
        x.astype(np.float32) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x
        for x in OPERANDS[name]
    ]
    layer = getattr(nn, name)(**options)
    assert layer(*xs).dtype == np.float32
    p = wg.tensor(xs[0], requires_grad=True)
    y = layer(p, *xs[1:])
    assert y.dtype == np.float32
    y.sum().backward()
    assert p.grad.dtype == np.float32
    whole = {n: np.arange(1, 6) for n in options}
    assert getattr(nn, name)(**whole)(*xs).dtype == np.float32


# ------------------------------------------------------------------ weights are buffers


def test_weights_are_saved_and_moved_and_not_trained():
    loss = nn.BCEWithLogitsLoss(W, pos_weight=wg.tensor(2 * W))
    assert loss.parameters() == []
    assert list(loss.state_dict()) == ["weight", "pos_weight"]
    other = nn.BCEWithLogitsLoss(np.ones(5), pos_weight=np.ones(5))
    before = other(S, P2)
    other.load_state_dict(loss.state_dict())
    assert other(S, P2) == loss(S, P2) != before
    assert loss.to(np.float32).weight.dtype == np.float32
    assert repr(loss) == "BCEWithLogitsLoss(weight=float32[5], pos_weight=float32[5])"
    assert nn.BCELoss().state_dict() == {}


def test_weights_are_a_copy():
    mine = W.copy()
    loss = nn.CrossEntropyLoss(mine)
    before = loss(S, abs(LABELS[:, 0]) % 5)
    mine[:] = 0
    assert loss(S, abs(LABELS[:, 0]) % 5) == before


def test_a_loss_in_a_model_goes_with_it(tmp_path):
    class Model(nn.Module):
        def __init__(self, weight):
            self.into = nn.Linear(3, 5, rng=0)
            self.loss = nn.CrossEntropyLoss(weight)

        def forward(self, x, labels):
            return self.loss(self.into(x), labels)

    x, b = np.ones((4, 3), np.float32), np.array([0, 1, 2, 4])
    model, other = Model(W.astype(np.float32)), Model(np.ones(5, np.float32))
    assert [n for n, _ in model.named_parameters()] == ["into.weight", "into.bias"]
    assert "loss.weight" in model.state_dict()
    for layout in ("wengert", "torch"):
        nn.save(model, tmp_path / "m.safetensors", layout=layout)
        nn.load_into(other, tmp_path / "m.safetensors")
        np.testing.assert_array_equal(other.loss.weight.numpy(), W.astype(np.float32))
    assert other(x, b).item() == model(x, b).item()
    rows = {r.path: r for r in nn.summary(model, x, b).rows}
    assert rows["loss"].kind == "CrossEntropyLoss"
    assert rows["loss"].shape == ()
    assert "loss        CrossEntropyLoss(weight=float32[5])" in repr(model)
    compiled = wg.compile(lambda x, b: model(x, b))
    assert compiled(x, b).item() == pytest.approx(model(x, b).item(), rel=1e-6)
    with wg.no_grad():
        model.loss.weight *= np.arange(5, dtype=np.float32)
    assert compiled(x, b).item() == pytest.approx(model(x, b).item(), rel=1e-6)


def test_a_distance_may_have_parameters():
    class Stretched(nn.Module):
        def __init__(self):
            self.factor = nn.Parameter(np.ones(5))

        def forward(self, a, b):
            return F.pairwise_distance(a * self.factor, b * self.factor)

    loss = nn.TripletMarginWithDistanceLoss(distance_function=Stretched())
    assert [n for n, _ in loss.named_parameters()] == ["distance_function.factor"]
    loss(S, T2, P).backward()
    assert loss.parameters()[0].grad.numpy().any()
    np.testing.assert_array_equal(
        loss(S, T2, P).item(), nn.TripletMarginWithDistanceLoss()(S, T2, P)
    )


def test_nothing_is_ignored_at_the_speed_of_no_index():
    """The usual ignore_index of -100 stays on the fast road: one node, as without it."""
    z = wg.tensor(S, requires_grad=True)
    loss, plain = nn.CrossEntropyLoss()(z * 1, LABELS[:, 1] % 5), F.cross_entropy
    assert loss.grad_fn.name() == plain(z * 1, LABELS[:, 1] % 5).grad_fn.name()
    assert loss.item() == plain(z, LABELS[:, 1] % 5).item()
    ignored = nn.CrossEntropyLoss()(z * 1, LABELS[:, 1])
    assert ignored.item() == pytest.approx(plain(S[[0, 2, 3]], LABELS[[0, 2, 3], 1]))
    with pytest.raises(AxisError, match="label -1"):
        nn.CrossEntropyLoss()(z * 1, np.array([0, 1, -1, 2]))


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(("make", "error", "rule"), [
    (lambda: nn.MSELoss(reduction="average"), OptionError, 'one of "mean", "sum" and "none"'),
    (lambda: nn.MSELoss(reduction=np.ones(2)), OptionError, 'one of "mean", "sum" and "none"'),
    (lambda: nn.KLDivLoss(reduction="average"), OptionError, '"none" and "batchmean"'),
    (lambda: nn.MSELoss(reduction="batchmean"), OptionError, "reduction is one of"),
    (lambda: nn.HuberLoss(delta=0), OptionError, "delta is a number greater than 0"),
    (lambda: nn.HuberLoss(delta=float("nan")), OptionError, "delta is a number greater than 0"),
    (lambda: nn.SmoothL1Loss(beta=-1.0), OptionError, "beta is a number, at least 0"),
    (lambda: nn.CrossEntropyLoss(label_smoothing=1.5), OptionError, "between 0 and 1"),
    (lambda: nn.CrossEntropyLoss(label_smoothing="x"), OptionError, "between 0 and 1"),
    (lambda: nn.CrossEntropyLoss(ignore_index=1.5), OptionError, "ignore_index is a whole number"),
    (lambda: nn.NLLLoss(ignore_index=True), OptionError, "ignore_index is a whole number"),
    (lambda: nn.CTCLoss(blank=-1), OptionError, "blank is the number of a class"),
    (lambda: nn.CTCLoss(zero_infinity=1), OptionError, "zero_infinity is True or False"),
    (lambda: nn.PoissonNLLLoss(full="no"), OptionError, "full is True or False"),
    (lambda: nn.GaussianNLLLoss(eps=-1e-3), OptionError, "eps is a number, at least 0"),
    (lambda: nn.MultiMarginLoss(p=3), OptionError, "p is 1 or 2"),
    (lambda: nn.MultiMarginLoss(margin="x"), OptionError, "margin is a number"),
    (lambda: nn.TripletMarginLoss(p=0), OptionError, "p is a number greater than 0"),
    (lambda: nn.TripletMarginWithDistanceLoss(distance_function=3), OptionError, "a function"),
    (lambda: nn.CosineSimilarity(axis=0.5), OptionError, "axis is the number of an axis"),
    (lambda: nn.PairwiseDistance(p=-2), OptionError, "p is a number greater than 0"),
    (lambda: nn.MSELoss("sum"), ArgumentError, "its options are reduction"),
    (lambda: nn.MSELoss(beta=2.0), ArgumentError, "its options are reduction"),
    (lambda: nn.BCELoss(W, "sum"), ArgumentError, "its options are weight, reduction"),
    (lambda: nn.MSELoss(size_average=False), ArgumentError, 'fix: reduction="sum"'),
    (lambda: nn.MSELoss(reduce=False), ArgumentError, 'fix: reduction="none"'),
    (lambda: nn.MSELoss(size_average=True), ArgumentError, 'fix: reduction="mean"'),
    (lambda: nn.CrossEntropyLoss("abc"), DTypeError, "real numbers are needed"),
    (lambda: nn.CrossEntropyLoss([[1.0], [1.0, 2.0]]), ArgumentError, "rows of different lengths"),
    (lambda: nn.BCELoss(nn.Parameter(W)), DTypeError, "the weights of a loss are not trained"),
])  # fmt: skip
def test_options_that_make_no_sense(make, error, rule):
    with pytest.raises(error) as caught:
        make()
    assert rule in str(caught.value)
    assert "test_nn_losses.py" in str(caught.value)


def test_the_way_out_of_a_trained_weight_is_told():
    mine = nn.Parameter(W)
    with pytest.raises(DTypeError, match=r"fix: mine.detach\(\)"):
        nn.CrossEntropyLoss(mine)
    assert nn.CrossEntropyLoss(mine.detach()).state_dict().keys() == {"weight"}


@pytest.mark.parametrize(("call", "error", "rule"), [
    (lambda: nn.MSELoss()(S, T2[:, :1]), ShapeError, "compares number with number"),
    (lambda: nn.CrossEntropyLoss()(S, LABELS), ShapeError, "labels"),
    (lambda: nn.CrossEntropyLoss()(S, S[:, 0]), DTypeError, "integers"),
    (lambda: nn.CrossEntropyLoss()(S, np.full(4, 5)), AxisError, "label 5"),
    (lambda: nn.CrossEntropyLoss(W[:3])(S, np.zeros(4, int)), ShapeError, "for each class"),
    (lambda: nn.NLLLoss(W[:3])(S, np.zeros(4, int)), ShapeError, "for each class"),
    (lambda: nn.MultiMarginLoss(weight=W[:3])(S, np.zeros(4, int)), ShapeError, "for each class"),
    (lambda: nn.MultiLabelSoftMarginLoss(W[:1])(S, P2), ShapeError, "for each class"),
    (lambda: nn.BCELoss(W[:3])(P, P2), ShapeError, "weight has a factor for each number"),
    (lambda: nn.BCELoss()(S, P2), ArgumentError, "probabilities lie between 0 and 1"),
    (lambda: nn.SoftMarginLoss()(S, COUNTS), ArgumentError, "targets are 1 and -1"),
    (lambda: nn.CosineEmbeddingLoss()(S, T2, SIGNS), ShapeError, "cosine_embedding_loss"),
    (lambda: nn.CosineSimilarity()(S, T2[:3]), ShapeError, "in shapes that broadcast"),
    (lambda: nn.CosineSimilarity(2)(S, T2), AxisError, "a and b both have this axis"),
    (lambda: nn.PairwiseDistance()(S, T2[:3]), ShapeError, "in shapes that broadcast"),
    (lambda: nn.PairwiseDistance()(1.0, 2.0), ShapeError, "in shapes that broadcast"),
    (lambda: nn.PairwiseDistance()("a", "b"), DTypeError, "real numbers are needed"),
    (lambda: nn.CTCLoss(blank=9)(np.zeros((1, 2, 3)), [[1]]), AxisError, "the blank 9"),
])  # fmt: skip
def test_operands_that_do_not_fit(call, error, rule):
    with pytest.raises(error) as caught:
        call()
    assert rule in str(caught.value)
    assert "test_nn_losses.py" in str(caught.value)


@pytest.mark.parametrize("options", [
    {}, {"ignore_index": -100}, {"ignore_index": 2}, {"weight": W}, {"label_smoothing": 0.1},
    {"ignore_index": -100, "weight": W}, {"ignore_index": 0, "label_smoothing": 0.1},
])  # fmt: skip
@pytest.mark.parametrize("labels", [(2, 4), (4, 1), (1,), (), (4, 3), (5,)])
def test_labels_are_not_broadcast(options, labels):
    """Labels [2, 4] of scores [4, 5] were taken, with all of them for each, given ignore_index."""
    labels = np.ones(labels, int)
    for scores in (S, wg.tensor(S, requires_grad=True)):
        with pytest.raises(ShapeError, match="labels") as caught:
            F.cross_entropy(scores, labels, **options)
        assert "cross_entropy" in str(caught.value)
        with pytest.raises(ShapeError):
            F.cross_entropy(scores[0, 0], labels, **options)


@pytest.mark.parametrize("options", [
    {}, {"ignore_index": -100}, {"weight": W}, {"label_smoothing": 0.1}, {"reduction": "sum"},
    {"weight": W, "label_smoothing": 0.1},
])  # fmt: skip
def test_labels_of_another_kind_are_refused_whatever_the_options(options):
    """With weights NumPy's own IndexError came out."""
    for labels in (S[:, 0], np.array(["a"] * 4), [True] * 4):
        with pytest.raises(DTypeError, match=r"cross_entropy\(logits, labels\): labels are int"):
            F.cross_entropy(S, labels, **options)
    for labels in (S[:, :2], None, S[:, :, None]):
        with pytest.raises((ShapeError, DTypeError), match=r"cross_entropy\(logits, labels\)"):
            F.cross_entropy(S, labels, **options)
    for labels in ([0, 1, 2, 5], [0, 1, 2, -1]):
        with pytest.raises(AxisError, match=r"cross_entropy\(logits, labels\)"):
            F.cross_entropy(S, labels, **options)


@pytest.mark.parametrize("loss", [F.nll_loss, F.multi_margin_loss, F.cross_entropy])
@pytest.mark.parametrize("weight", [np.ones(6), np.ones(4), np.ones((5, 1)), 2.0])
def test_a_weight_has_a_number_for_each_class(loss, weight):
    """One that is too long, or a column, was taken without a word."""
    with pytest.raises(ShapeError, match="weight has a number for each class"):
        loss(S, LABELS[:, 0], weight=weight)
    assert loss(S, LABELS[:, 0], weight=[1.0] * 5) == loss(S, LABELS[:, 0], weight=np.ones(5))


@pytest.mark.parametrize(("loss", "name"), [
    (F.binary_cross_entropy, "weight"),
    (F.binary_cross_entropy_with_logits, "weight"),
    (F.binary_cross_entropy_with_logits, "pos_weight"),
])  # fmt: skip
def test_a_weight_does_not_make_more_numbers(loss, name):
    """A column against a row gave a loss of all pairs without a word."""
    p, t = np.array([0.2, 0.5, 0.7]), np.ones(3)
    with pytest.raises(ShapeError, match=f"{name} has a factor for each number") as caught:
        loss(p, t, **{name: np.ones((3, 1))})
    assert f"fix: {name}.squeeze(-1)" in str(caught.value)
    for fits in (2.0, [2.0] * 3, np.full(1, 2.0)):
        each = loss(p, t, reduction="none", **{name: fits})
        np.testing.assert_allclose(each, 2 * loss(p, t, reduction="none"), rtol=1e-15)
    with pytest.raises(DTypeError, match="real numbers are needed"):
        loss(p, t, **{name: ["a", "b", "c"]})
