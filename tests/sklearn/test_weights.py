"""Weights of examples and of classes: what counts how much in the loss."""

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_iris, make_blobs
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV
from sklearn.utils.class_weight import compute_sample_weight

from wengert.errors import ArgumentError, OptionError, ShapeError
from wengert.sklearn import NetworkClassifier, NetworkRegressor

BOTH = pytest.mark.parametrize("cls", [NetworkClassifier, NetworkRegressor])


def data(cls, n=40, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    return x, rng.integers(0, 3, n) if cls is NetworkClassifier else np.sin(2 * x[:, :2])


def answers(model, x):
    return model.predict_log_proba(x) if hasattr(model, "predict_proba") else model.predict(x)


@BOTH
@pytest.mark.parametrize("held", [0.0, 0.25])
@pytest.mark.parametrize("weight", [1, 0.1, 3e-310, 1e308])
def test_equal_weights_are_none_to_the_bit(cls, held, weight):
    x, y = data(cls)
    options = {"epochs": 5, "batch_size": 16, "validation_fraction": held, "random_state": 1}
    plain = cls(**options).fit(x, y)
    for weights in (np.full(40, weight), [weight] * 40, weight):
        model = cls(**options).fit(x, y, sample_weight=weights)
        assert np.array_equal(answers(model, x), answers(plain, x))
        assert model.loss_curve_ == plain.loss_curve_


@BOTH
@pytest.mark.parametrize("held", [0.0, 0.25])
def test_a_weight_of_0_is_an_example_left_out_to_the_bit(cls, held):
    x, y = data(cls)
    weights = np.random.default_rng(1).uniform(0.5, 2, 40)
    weights[::3] = 0
    kept = weights > 0
    options = {"epochs": 5, "batch_size": 8, "validation_fraction": held, "random_state": 1}
    model = cls(**options).fit(x, y, weights)
    without = cls(**options).fit(x[kept], y[kept], weights[kept])
    assert np.array_equal(answers(model, x), answers(without, x))
    assert model.loss_curve_ == without.loss_curve_


@BOTH
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_whole_weights_are_repetitions(cls, dtype):
    """One batch an epoch: the same mean, whatever the batch is made of."""
    x, y = data(cls)
    weights = np.arange(40) % 5
    options = {"epochs": 30, "batch_size": 1000, "random_state": 1, "dtype": dtype}
    model = cls((16,), activation="tanh", **options).fit(x, y, 0.3 * weights)
    repeated = cls((16,), activation="tanh", **options).fit(
        np.repeat(x, weights, axis=0), np.repeat(y, weights, axis=0)
    )
    rtol = 1e-9 if dtype == "float64" else 1e-3
    np.testing.assert_allclose(answers(model, x), answers(repeated, x), rtol=rtol, atol=rtol)
    np.testing.assert_allclose(model.loss_curve_, repeated.loss_curve_, rtol=rtol)


def test_a_step_goes_along_the_weighted_mean():
    """The gradient of sum w l / sum w over all examples: every batch in the same measure."""
    x, y = data(NetworkRegressor, 12)
    w = np.random.default_rng(2).uniform(0, 5, 12)
    options = {"optimizer": "sgd", "weight_decay": 0.0, "epochs": 1, "random_state": 0}
    lr = 1e-9  # so short that all steps of the epoch start at the same point
    whole = NetworkRegressor((), batch_size=12, lr=lr, **options).fit(x, y, w)
    parts = NetworkRegressor((), batch_size=4, lr=3 * lr, **options).fit(x, y, w)
    start = NetworkRegressor((), batch_size=12, lr=0.0, **options).fit(x, y, w)
    mean = np.average(y, axis=0, weights=w)
    np.testing.assert_allclose(whole.mean_, mean, rtol=1e-12)
    scale = np.sqrt(np.average((y - mean) ** 2, axis=0, weights=w))
    np.testing.assert_allclose(whole.scale_, scale, rtol=1e-12)
    r = (start.predict(x) - y) / scale  # mean over the two targets too
    slope = np.average(x[:, :, None] * r[:, None, :], axis=0, weights=w)
    at = [p.numpy() for p in start.network_.parameters()]
    for model, steps in ((whole, 1), (parts, 9)):  # three steps, each three times as long
        moved = [p.numpy() - q for p, q in zip(model.network_.parameters(), at)]
        gradient = next(-m / lr for m in moved if m.ndim == 2)
        slope_here = slope if gradient.shape == slope.shape else slope.T
        np.testing.assert_allclose(gradient, slope_here * steps, rtol=1e-5, atol=1e-6)
    loss = np.average((r**2).mean(axis=1), weights=w)
    np.testing.assert_allclose(start.loss_curve_, [loss], rtol=1e-12)


@BOTH
def test_weights_that_make_no_sense_are_refused(cls):
    x, y = data(cls)
    model = cls(epochs=1)
    with pytest.raises(ShapeError, match=r"sample_weight"):
        model.fit(x, y, np.ones(41))
    with pytest.raises(ShapeError, match=r"sample_weight"):
        model.fit(x, y, np.ones((40, 1)))
    with pytest.raises(ArgumentError, match="not all of them 0"):
        model.fit(x, y, np.zeros(40))
    negative = np.ones(40)
    negative[7] = -1
    with pytest.raises(ArgumentError, match=r"at least 0.*\n.*sample_weight\[7\].*-1"):
        model.fit(x, y, negative)
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="sample_weight"):
            model.fit(x, y, np.where(np.arange(40) == 3, bad, 1.0))
    with pytest.raises(ValueError, match="could not convert"):
        model.fit(x, y, ["heavy"] * 40)


def test_class_weights_are_weights_of_examples():
    x, y = make_blobs([30, 9, 6], cluster_std=4, random_state=0)
    words = np.array(["a", "b", "c"])[y]
    options = {"epochs": 8, "batch_size": 16, "random_state": 0}
    for weight in ("balanced", {"a": 1, "b": 5, "c": 0.5}, {"b": 3.0}, {}):
        model = NetworkClassifier(class_weight=weight, **options).fit(x, words)
        same = NetworkClassifier(**options).fit(x, words, compute_sample_weight(weight, words))
        np.testing.assert_allclose(answers(model, x), answers(same, x), rtol=1e-9)
    labelled = NetworkClassifier(class_weight={0: 2.0, 2: 1.5}, **options).fit(x, y)
    plain = NetworkClassifier(**options).fit(x, y)
    assert not np.array_equal(answers(labelled, x), answers(plain, x))


def test_class_and_sample_weights_multiply_and_balance_what_counts():
    x, y = make_blobs([20, 10], cluster_std=4, random_state=0)
    w = np.random.default_rng(0).integers(0, 4, 30)
    options = {"epochs": 20, "batch_size": 200, "random_state": 0}
    both = NetworkClassifier(class_weight={1: 3}, **options).fit(x, y, w)
    same = NetworkClassifier(**options).fit(x, y, np.where(y == 1, 3 * w, w))
    np.testing.assert_allclose(answers(both, x), answers(same, x), rtol=1e-9)
    balanced = NetworkClassifier(class_weight="balanced", **options)
    weighted = answers(balanced.fit(x, y, w), x)
    repeated = answers(balanced.fit(np.repeat(x, w, axis=0), np.repeat(y, w)), x)
    np.testing.assert_allclose(weighted, repeated, rtol=1e-9)


def test_balancing_finds_the_rare_class():
    x, y = make_blobs([600, 20], centers=[[0, 0], [1.5, 1.5]], random_state=0)
    options = {"epochs": 40, "random_state": 0}
    plain = NetworkClassifier(**options).fit(x, y)
    balanced = NetworkClassifier(class_weight="balanced", **options).fit(x, y)
    found = [m.predict(x)[y == 1].mean() for m in (plain, balanced)]
    assert found[0] < 0.5 < 0.75 < found[1]


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ("even", "'balanced'"), (3, "'balanced'"), ([1, 2], "'balanced'"),
        ({7: 1.0}, "7 is no class"), ({0: -1.0}, "at least 0"), ({0: np.nan}, "at least 0"),
        ({0: "x"}, "at least 0"), ({0: np.inf}, "at least 0"),
    ],
)  # fmt: skip
def test_class_weights_that_make_no_sense_are_refused(weight, message):
    x, y = load_iris(return_X_y=True)
    with pytest.raises(OptionError, match=message):
        NetworkClassifier(epochs=1, class_weight=weight).fit(x, y)


def test_one_class_that_counts_is_refused_and_a_class_that_counts_nothing_is_kept():
    x, y = load_iris(return_X_y=True)
    for model, weights in (
        (NetworkClassifier(epochs=1), y == 1),
        (NetworkClassifier(epochs=1, class_weight={0: 0, 2: 0}), None),
        (NetworkClassifier(epochs=1), None),
    ):
        labels = y if weights is not None or model.class_weight else np.zeros(150)
        with pytest.raises(ArgumentError, match="2 classes"):
            model.fit(x, labels, weights)
    model = NetworkClassifier(epochs=60, random_state=0).fit(x, y, y != 1)
    assert list(model.classes_) == [0, 1, 2]
    assert 1 not in model.predict(x[y != 1])


def test_scores_and_searches_take_weights():
    x, y = data(NetworkClassifier)
    w = np.arange(40) % 3
    model = NetworkClassifier(epochs=3, random_state=0).fit(x, y, w)
    assert model.score(x, y, w) == accuracy_score(y, model.predict(x), sample_weight=w)
    x, y = data(NetworkRegressor)
    model = NetworkRegressor(epochs=3, random_state=0).fit(x, y, w)
    assert model.score(x, y, w) == r2_score(y, model.predict(x), sample_weight=w)
    search = GridSearchCV(NetworkRegressor(epochs=3, random_state=0), {"lr": [0.01, 0.02]}, cv=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert search.fit(x, y, sample_weight=w).best_params_["lr"] in (0.01, 0.02)


def test_early_stopping_looks_at_the_weighted_loss():
    """Held-out examples that hardly count do not choose the weights that are kept."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 2))
    y = x[:, 0].copy()
    wrong = rng.random(80) < 0.5
    y[wrong] += rng.normal(scale=50, size=wrong.sum())
    w = np.where(wrong, 1e-12, 1.0)
    model = NetworkRegressor(
        (),
        epochs=400,
        lr=0.05,
        weight_decay=0,
        validation_fraction=0.3,
        patience=100,
        random_state=0,
    ).fit(x, y, w)
    np.testing.assert_allclose(model.predict(x), x[:, 0], atol=0.05)
