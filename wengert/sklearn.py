"""Networks as scikit-learn estimators: `fit`, `predict`, pipelines, grid search, cross-validation.

Needs scikit-learn (the extra `sklearn`).
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wengert import nn
from wengert.data import Dataset, Loader
from wengert.errors import NonFiniteError, OptionError
from wengert.extras import need
from wengert.nn import functional as F
from wengert.optim import Optimizer
from wengert.optim.base import check
from wengert.trace import Tensor, no_grad
from wengert.train import OPTIMIZERS, Step, find

__all__ = ["NetworkClassifier", "NetworkRegressor"]

base = need("sklearn.base", extra="sklearn")
Estimator: Any = base.BaseEstimator
Classifier: Any = base.ClassifierMixin
Regressor: Any = base.RegressorMixin
utils = need("sklearn.utils", extra="sklearn")
checks = need("sklearn.utils.validation", extra="sklearn")
multiclass = need("sklearn.utils.multiclass", extra="sklearn")

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "softplus": nn.Softplus,
}


class _Network(Estimator):  # type: ignore[misc]
    """What both estimators share: the layers, and the descent."""

    def __init__(
        self,
        hidden: Sequence[int] = (64,),
        *,
        activation: str = "relu",
        optimizer: str = "adamw",
        lr: float = 0.01,
        weight_decay: float = 1e-3,
        epochs: int = 200,
        batch_size: int = 64,
        clip_norm: float | None = None,
        validation_fraction: float = 0.0,
        patience: int = 10,
        warm_start: bool = False,
        random_state: Any = None,
        dtype: str = "float64",
    ) -> None:
        self.hidden = hidden
        self.activation = activation
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.epochs = epochs
        self.batch_size = batch_size
        self.clip_norm = clip_norm
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.warm_start = warm_start
        self.random_state = random_state
        self.dtype = dtype

    # ---- what the two differ in
    def _loss(self, prediction: Any, target: Any) -> Any:
        raise NotImplementedError

    # ---- descent
    def _layers(self, n_in: int, n_out: int, rng: np.random.Generator) -> nn.Module:
        make = find("activation", self.activation, ACTIVATIONS)
        init = "he" if self.activation in ("relu", "gelu", "softplus") else "xavier"
        layers: list[nn.Module] = []
        if not isinstance(self.hidden, tuple | list | np.ndarray):
            raise OptionError(
                f"{type(self).__name__}(hidden={self.hidden!r})",
                "the widths of the hidden layers are in a tuple, such as (64,)",
            )
        for width in self.hidden:
            if not isinstance(width, numbers.Integral) or width < 1:
                raise OptionError(
                    f"{type(self).__name__}(hidden={self.hidden!r})",
                    "the widths of the hidden layers are whole numbers, at least 1",
                )
            layers += [nn.Linear(n_in, int(width), rng=rng, init=init, dtype=self.dtype), make()]
            n_in = int(width)
        layers.append(nn.Linear(n_in, n_out, rng=rng, init="xavier", dtype=self.dtype))
        return nn.Sequential(*layers)

    def _check_options(self) -> None:
        what = type(self).__name__
        for name in ("epochs", "batch_size", "patience"):
            value = getattr(self, name)
            if not isinstance(value, numbers.Integral) or value < 1:
                raise OptionError(
                    f"{what}({name}={value!r})", "it must be a whole number, at least 1"
                )
        check(what, "validation_fraction", self.validation_fraction, below=1.0)
        try:
            real = np.dtype(self.dtype).kind == "f"
        except TypeError:
            real = False
        if not real:
            raise OptionError(f"{what}(dtype={self.dtype!r})", "it is a floating-point dtype")

    def _descend(self, x: NDArray[Any], y: NDArray[Any], n_out: int) -> None:
        state = utils.check_random_state(self.random_state)
        rng = np.random.default_rng(state.randint(2**31))
        if not (self.warm_start and hasattr(self, "network_")):
            self.network_ = self._layers(x.shape[1], n_out, rng)
            self.loss_curve_: list[float] = []
        cls = find("optimizer", self.optimizer, OPTIMIZERS)
        optimizer: Optimizer = cls(self.network_.parameters(), lr=self.lr)
        if "weight_decay" in optimizer.groups[0].options:
            optimizer.groups[0].weight_decay = self.weight_decay
        held = round(self.validation_fraction * len(x))
        order = rng.permutation(len(x))
        train, validation = order[held:], order[:held]
        source = Dataset(x[train].astype(self.dtype), y[train])
        loader = Loader(
            source, min(int(self.batch_size), len(source)), seed=int(rng.integers(2**31))
        )
        step = Step(
            self.network_,
            lambda network, rows, target: self._loss(network(Tensor(rows)), target),
            optimizer,
            clip_norm=self.clip_norm,
        )
        best, waited = np.inf, 0
        kept = self.network_.state_dict()
        for _ in range(self.epochs):
            total = 0.0
            for batch in loader:
                with np.errstate(over="ignore", invalid="ignore"):
                    report = step(*batch)
                if report.skipped:
                    raise NonFiniteError(
                        f"{type(self).__name__}.fit", f"the loss became {report.loss}",
                        operands=[("lr", self.lr)], fix=f"lr={self.lr / 10:g}",
                    )  # fmt: skip
                total += report.loss * len(batch[0])
            self.loss_curve_.append(total / len(source))
            if held:
                with no_grad():
                    answers = self.network_(Tensor(x[validation].astype(self.dtype)))
                    loss = self._loss(answers, y[validation]).item()
                if loss < best:
                    best, waited, kept = loss, 0, self.network_.state_dict()
                else:
                    waited += 1
                if waited >= self.patience:
                    break
        if held:
            self.network_.load_state_dict(kept)
        self.n_iter_ = len(self.loss_curve_)

    def _answers(self, x: Any) -> NDArray[Any]:
        checks.check_is_fitted(self)
        x = checks.validate_data(self, x, reset=False)
        with no_grad():
            out: NDArray[Any] = self.network_(Tensor(x.astype(self.dtype))).numpy().copy()
        return out


class NetworkClassifier(Classifier, _Network):  # type: ignore[misc]
    """A multilayer perceptron that learns classes, by softmax and cross-entropy.

    Args:
        hidden: the widths of the hidden layers.
        activation: between them, one of relu, tanh, sigmoid, gelu, softplus.
        optimizer: one of `wengert.train.OPTIMIZERS`.
        lr, weight_decay: what it is told.
        epochs, batch_size: passes over the data, and examples per step.
        clip_norm: limit of the gradient's length; None: none.
        validation_fraction: the share of examples that is held out to stop early; 0: none.
        patience: epochs without a better loss on that share before it stops.
        warm_start: go on from the weights of the last fit.
        random_state: a seed, for weights, order and the share held out.
        dtype: of weights and computation.

    Attributes:
        network_: the trained module.
        classes_: the labels, sorted.
        loss_curve_: the mean loss of every epoch.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> x, y = load_iris(return_X_y=True)
        >>> model = NetworkClassifier((16,), epochs=100, random_state=0).fit(x, y)
        >>> bool(model.score(x, y) > 0.95)
        True
    """

    def fit(self, X: Any, y: Any) -> NetworkClassifier:
        """Learn from examples: X `[n, d]`, y `[n]` of labels of any kind."""
        self._check_options()
        x, y = checks.validate_data(self, X, y)
        multiclass.check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                "NetworkClassifier needs at least 2 classes; the data has one class: "
                f"{self.classes_[0]!r}"
            )
        self._descend(x, labels, len(self.classes_))
        return self

    def _loss(self, prediction: Any, target: Any) -> Any:
        return F.cross_entropy(prediction, target)

    def decision_function(self, X: Any) -> NDArray[Any]:
        """The logits, `[n, classes]`; for two classes their difference, `[n]`."""
        logits = self._answers(X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """The probability of every class, `[n, classes]`."""
        logits = self._answers(X)
        e = np.exp(logits - logits.max(axis=1, keepdims=True))
        p: NDArray[Any] = e / e.sum(axis=1, keepdims=True)
        return p

    def predict_log_proba(self, X: Any) -> NDArray[Any]:
        """The logarithms of the probabilities, accurate where those vanish."""
        logits = self._answers(X)
        logits -= logits.max(axis=1, keepdims=True)
        log_p: NDArray[Any] = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return log_p

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable class of every example."""
        answers = self._answers(X).argmax(axis=1)
        out: NDArray[Any] = self.classes_[answers]
        return out


class NetworkRegressor(Regressor, _Network):  # type: ignore[misc]
    """A multilayer perceptron that learns numbers, by the mean squared error.

    Targets are centred and scaled for training, and scaled back in `predict`. See
    `NetworkClassifier` for the arguments.

    Example:
        >>> x = np.linspace(-2, 2, 100)[:, None]
        >>> model = NetworkRegressor((32,), activation="tanh", random_state=0)
        >>> bool(model.fit(x, np.sin(x[:, 0])).score(x, np.sin(x[:, 0])) > 0.99)
        True
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any) -> NetworkRegressor:
        """Learn from examples: X `[n, d]`, y `[n]` or `[n, k]`."""
        self._check_options()
        x, y = checks.validate_data(self, X, y, multi_output=True, y_numeric=True)
        y = np.asarray(y, self.dtype)
        self._flat = y.ndim == 1
        target = y.reshape(len(y), -1)
        self.mean_, scale = target.mean(axis=0), target.std(axis=0)
        self.scale_ = np.where(scale > 0, scale, 1.0)
        self._descend(x, (target - self.mean_) / self.scale_, target.shape[1])
        return self

    def _loss(self, prediction: Any, target: Any) -> Any:
        return F.mse_loss(prediction, target)

    def predict(self, X: Any) -> NDArray[Any]:
        """The answers, `[n]` or `[n, k]` as the targets were."""
        y = self._answers(X) * self.scale_ + self.mean_
        return y[:, 0] if self._flat else y
