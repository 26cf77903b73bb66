"""Networks as scikit-learn estimators: `fit`, `predict`, pipelines, grid search, cross-validation.

Needs scikit-learn (the extra `sklearn`).
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wengert import nn
from wengert.data import Arrays, Loader
from wengert.errors import ArgumentError, NonFiniteError, OptionError, ShapeError, verbatim
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
    def _losses(self, prediction: Any, target: Any, reduction: str) -> Any:
        raise NotImplementedError

    # ---- descent
    def _loss(self, prediction: Any, target: Any, weights: Any = None) -> Any:
        """The mean over the examples of a batch, each as often as its weight says."""
        if weights is None:
            return self._losses(prediction, target, "mean")
        each = self._losses(prediction, target, "none")
        return (each * weights.reshape(-1, *[1] * (each.ndim - 1))).mean()

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

    def _weights(self, given: Any, n: int) -> NDArray[np.float64]:
        """The weights of n examples, checked, the largest of them 1."""
        what = f"{type(self).__name__}.fit(X, y, sample_weight)"
        if given is None or isinstance(given, numbers.Number):
            given = np.full(n, 1.0 if given is None else given)
        weights: NDArray[Any] = utils.check_array(
            given, ensure_2d=False, allow_nd=True, dtype=np.float64, input_name="sample_weight"
        )
        if weights.shape != (n,):
            raise ShapeError(
                what, f"there is one weight for each of the {n} examples",
                operands=[("sample_weight", weights)],
            )  # fmt: skip
        low = int(weights.argmin())
        if weights[low] < 0:
            raise ArgumentError(
                what, "weights are at least 0",
                operands=[(f"sample_weight[{low}]", verbatim(f"{weights[low]:g}"))],
            )  # fmt: skip
        if not (top := weights.max()):
            raise ArgumentError(
                what, "the weights are not all of them 0: no example is left to learn from",
                operands=[("sample_weight", weights)],
            )  # fmt: skip
        return weights / top

    @staticmethod
    def _counted(weights: NDArray[Any], *arrays: NDArray[Any]) -> list[Any]:
        """The rows that count, and their weights; None for weights that are all the same."""
        kept = weights > 0
        if not kept.all():
            weights, *arrays = (a[kept] for a in (weights, *arrays))  # type: ignore[assignment]
        return [*arrays, None if weights.min() == weights.max() else weights]

    def _descend(
        self, x: NDArray[Any], y: NDArray[Any], n_out: int, weights: NDArray[Any] | None
    ) -> None:
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
        arrays = [x[train].astype(self.dtype), y[train]]
        judged = None
        if weights is not None:  # of mean 1: the mean of a batch estimates that of them all
            arrays.append((weights[train] / weights[train].mean()).astype(self.dtype))
            judged = weights[validation] / weights[validation].mean() if held else None
        source = Arrays(*arrays)
        loader = Loader(
            source, min(int(self.batch_size), len(source)), seed=int(rng.integers(2**31))
        )
        step = Step(
            self.network_,
            lambda network, rows, *told: self._loss(network(Tensor(rows)), *told),
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
                    loss = self._loss(answers, y[validation], judged).item()
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
        class_weight: how much an example of each class counts: a dict from labels, 1 for those
            that are not in it; "balanced": all classes together as much as each other; None: 1.
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

    def __init__(
        self,
        hidden: Sequence[int] = (64,),
        *,
        activation: str = "relu",
        optimizer: str = "adamw",
        lr: float = 0.01,
        weight_decay: float = 1e-3,
        class_weight: Any = None,
        epochs: int = 200,
        batch_size: int = 64,
        clip_norm: float | None = None,
        validation_fraction: float = 0.0,
        patience: int = 10,
        warm_start: bool = False,
        random_state: Any = None,
        dtype: str = "float64",
    ) -> None:
        super().__init__(
            hidden, activation=activation, optimizer=optimizer, lr=lr, weight_decay=weight_decay,
            epochs=epochs, batch_size=batch_size, clip_norm=clip_norm,
            validation_fraction=validation_fraction, patience=patience, warm_start=warm_start,
            random_state=random_state, dtype=dtype,
        )  # fmt: skip
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> NetworkClassifier:
        """Learn from examples: X `[n, d]`, y `[n]` of labels of any kind.

        Args:
            X, y: the examples.
            sample_weight: how much each counts, `[n]`, on top of `class_weight`; see
                `NetworkRegressor.fit`.

        Raises:
            ShapeError, ArgumentError: weights of another number, below 0, or all of them 0; fewer
                than two classes that count.
        """
        self._check_options()
        x, y = checks.validate_data(self, X, y)
        multiclass.check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        weights = self._weights(sample_weight, len(x))
        weights = weights * self._class_weights(labels, weights)[labels]
        x, labels, weights = self._counted(weights, x, labels)
        if len(counted := np.unique(labels)) < 2:
            rest = f"one class: {self.classes_[counted[0]]!s}" if len(counted) else "none"
            raise ArgumentError(
                "NetworkClassifier.fit(X, y)",
                f"it takes at least 2 classes that count, and the data has {rest}",
                operands=[("y", y)],
            )
        self._descend(x, labels, len(self.classes_), weights)
        return self

    def _class_weights(
        self, labels: NDArray[Any], weights: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """How much an example of each class counts, the largest 1."""
        told, classes = self.class_weight, self.classes_.tolist()
        what = f"NetworkClassifier(class_weight={told!r})"
        out = np.ones(len(classes))
        if isinstance(told, str) and told == "balanced":
            counts = np.bincount(labels, weights, len(classes))
            out[counts > 0] = 1 / counts[counts > 0]
        elif isinstance(told, Mapping):
            for label, weight in told.items():
                if label not in classes:
                    raise OptionError(
                        what, f"{label!r} is no class of the data",
                        operands=[("classes", verbatim(classes[:8]))],
                    )  # fmt: skip
                out[classes.index(label)] = check("NetworkClassifier", "class_weight", weight)
        elif told is not None:
            raise OptionError(
                what, "it is None, 'balanced' or a dict from labels to weights",
                fix="class_weight='balanced'",
            )  # fmt: skip
        return out / (out.max() or 1.0)

    def _losses(self, prediction: Any, target: Any, reduction: str) -> Any:
        return F.cross_entropy(prediction, target, reduction=reduction)

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

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> NetworkRegressor:
        """Learn from examples: X `[n, d]`, y `[n]` or `[n, k]`.

        With weights the loss is

            L = sum_i w_i L_i / sum_i w_i

        in measures of the held-out share too. A batch counts as much as its weights sum to. An
        example of weight 0 is left out, as if it were not there. A whole weight is as many copies
        of the example, to rounding where an epoch is one batch; else the batches are other ones.

        Args:
            X, y: the examples.
            sample_weight: how much each counts, `[n]`, at least 0; only ratios matter.

        Raises:
            ShapeError, ArgumentError: weights of another number, below 0, or all of them 0.
        """
        self._check_options()
        x, y = checks.validate_data(self, X, y, multi_output=True, y_numeric=True)
        y = np.asarray(y, self.dtype)
        self._flat = y.ndim == 1
        x, target, weights = self._counted(
            self._weights(sample_weight, len(x)), x, y.reshape(len(y), -1)
        )
        if weights is None:
            self.mean_, scale = target.mean(axis=0), target.std(axis=0)
        else:
            own = weights.astype(self.dtype)
            self.mean_ = np.average(target, axis=0, weights=own)
            scale = np.sqrt(np.average((target - self.mean_) ** 2, axis=0, weights=own))
        self.scale_ = np.where(scale > 0, scale, 1.0)
        self._descend(x, (target - self.mean_) / self.scale_, target.shape[1], weights)
        return self

    def _losses(self, prediction: Any, target: Any, reduction: str) -> Any:
        return F.mse_loss(prediction, target, reduction=reduction)

    def predict(self, X: Any) -> NDArray[Any]:
        """The answers, `[n]` or `[n, k]` as the targets were."""
        y = self._answers(X) * self.scale_ + self.mean_
        return y[:, 0] if self._flat else y
