"""The estimators keep scikit-learn's contract, and learn."""

import pickle

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris, make_moons
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from wengert.errors import NonFiniteError, OptionError, UnknownNameError
from wengert.sklearn import NetworkClassifier, NetworkRegressor


@pytest.mark.parametrize("cls", [NetworkClassifier, NetworkRegressor])
def test_the_contract_of_scikit_learn(cls):
    results = check_estimator(cls(epochs=60), on_skip=None)
    wrong = [r["check_name"] for r in results if r["status"] not in ("passed", "skipped")]
    assert not wrong
    assert sum(r["status"] == "passed" for r in results) > 40


def test_in_a_pipeline_with_cross_validation():
    x, y = load_iris(return_X_y=True)
    model = make_pipeline(StandardScaler(), NetworkClassifier((16,), epochs=60, random_state=0))
    assert cross_val_score(model, x, y, cv=3).mean() > 0.93


def test_in_a_grid_search():
    x, y = make_moons(200, noise=0.1, random_state=0)
    search = GridSearchCV(
        NetworkClassifier(epochs=120, random_state=0), {"hidden": [(), (32,)], "lr": [0.02]}, cv=2
    ).fit(x, y)
    assert search.best_params_["hidden"] == (32,)
    assert search.best_score_ > 0.95


def test_a_regressor_beats_the_mean():
    x, y = load_diabetes(return_X_y=True)
    model = make_pipeline(
        StandardScaler(),
        NetworkRegressor((16,), weight_decay=0.1, epochs=60, lr=3e-3, random_state=0),
    )
    assert cross_val_score(model, x, y, cv=3).mean() > 0.4


def test_several_targets_and_labels_of_any_kind():
    x = np.random.default_rng(0).normal(size=(60, 2))
    model = NetworkRegressor((), epochs=300, lr=0.05, weight_decay=0.0, random_state=0)
    y = x @ np.array([[1.0, 2.0], [3.0, -1.0]])
    np.testing.assert_allclose(model.fit(x, y).predict(x), y, atol=0.05)
    words = np.where(x[:, 0] > 0, "right", "left")
    classifier = NetworkClassifier((), epochs=200, random_state=0).fit(x, words)
    assert set(classifier.predict(x)) == {"left", "right"}
    assert classifier.score(x, words) > 0.95
    np.testing.assert_allclose(
        np.exp(classifier.predict_log_proba(x)), classifier.predict_proba(x), rtol=1e-12
    )


def test_the_same_seed_gives_the_same_bits_and_survives_pickling():
    x, y = make_moons(80, noise=0.1, random_state=0)
    a = NetworkClassifier(epochs=5, random_state=3).fit(x, y)
    b = NetworkClassifier(epochs=5, random_state=3).fit(x, y)
    c = pickle.loads(pickle.dumps(a))
    assert np.array_equal(a.predict_proba(x), b.predict_proba(x))
    assert np.array_equal(a.predict_proba(x), c.predict_proba(x))


def test_early_stopping_and_warm_start():
    x, y = make_moons(300, noise=0.3, random_state=0)
    model = NetworkClassifier(
        epochs=500, validation_fraction=0.3, patience=5, lr=0.05, random_state=0
    ).fit(x, y)
    assert model.n_iter_ < 500
    again = NetworkClassifier(epochs=3, warm_start=True, random_state=0).fit(x, y)
    first = list(again.loss_curve_)
    again.fit(x, y)
    assert again.loss_curve_[:3] == first
    assert again.loss_curve_[3] < first[0]


def test_wrong_options_are_refused():
    x, y = make_moons(20, random_state=0)
    with pytest.raises(OptionError, match="widths of the hidden layers"):
        NetworkClassifier((0,)).fit(x, y)
    with pytest.raises(OptionError, match="epochs=0"):
        NetworkClassifier(epochs=0).fit(x, y)
    with pytest.raises(UnknownNameError, match="activation 'rlu'"):
        NetworkClassifier(activation="rlu").fit(x, y)
    with pytest.raises(NonFiniteError, match="lr"):
        NetworkRegressor(optimizer="sgd", lr=1e6).fit(x, x[:, 0] * 3)


@pytest.mark.parametrize("cls", [NetworkClassifier, NetworkRegressor])
@pytest.mark.parametrize(("name", "values"), [
    ("hidden", ["x", 3, None, (0,), (2.5,), ("x",)]), ("activation", ["x", 3, None, (0.5,)]),
    ("optimizer", ["x", 3, None]), ("batch_size", ["x", 0, 2.5, None]),
    ("epochs", ["x", 0, 2.5, None]), ("patience", ["x", 0, 2.5, None]), ("lr", ["x", -1, None]),
    ("validation_fraction", ["x", -0.1, 1.0, float("nan"), None]),
    ("dtype", ["x", "int64", float("nan")]),
])  # fmt: skip
def test_options_of_another_kind_are_refused(cls, name, values):
    x, y = np.random.default_rng(0).normal(size=(12, 3)), np.arange(12) % 2
    for value in values:
        with pytest.raises((OptionError, UnknownNameError), match=name):
            cls(**{"epochs": 1, name: value}).fit(x, y)
