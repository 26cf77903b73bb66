"""The data sets that travel in scikit-learn, by name."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

import numpy as np

from wengert.errors import UnknownNameError, verbatim
from wengert.extras import need

from .dataset import Dataset

__all__ = ["bundled"]

# name -> whom to cite
KNOWN = {
    "breast_cancer": "W. Street, W. Wolberg, O. Mangasarian (1993), Nuclear feature extraction for "
    "breast tumor diagnosis",
    "diabetes": "B. Efron, T. Hastie, I. Johnstone, R. Tibshirani (2004), Least Angle Regression",
    "digits": "E. Alpaydin, C. Kaynak (1998), Optical Recognition of Handwritten Digits",
    "iris": "R. Fisher (1936), The use of multiple measurements in taxonomic problems",
    "linnerud": "M. Tenenhaus (1998), La regression PLS: theorie et pratique",
    "wine": "M. Forina et al. (1991), PARVUS: an extendible package for data exploration",
}


def bundled(name: str) -> Dataset:
    """A data set out of scikit-learn's package; nothing is downloaded.

    Shapes: images `float64[n, d]`, labels `int64[n]` for classes or `float64[n, k]` for targets.

    Args:
        name: breast_cancer, diabetes, digits, iris, linnerud or wine.

    Raises:
        UnknownNameError: there is no such data set.
        MissingExtraError: scikit-learn is not installed.

    Example:
        >>> iris = bundled("iris")
        >>> iris, iris.columns[0], iris.classes
        (Dataset(float64[150, 4], int64[150], name='iris'), 'sepal length (cm)', ['setosa', \
'versicolor', 'virginica'])
    """
    if name not in KNOWN:
        close = get_close_matches(str(name), KNOWN, n=1)
        raise UnknownNameError(
            f"bundled({name!r})",
            "there is no such data set in scikit-learn",
            operands=[("known", verbatim(", ".join(KNOWN)))],
            fix=f"bundled({close[0]!r})" if close else None,
        )
    found: Any = getattr(need("sklearn.datasets", extra="sklearn"), f"load_{name}")()
    labels = np.asarray(found.target)
    if labels.dtype.kind == "f" and labels.ndim == 1:
        labels = labels[:, None]
    elif labels.dtype.kind in "iu":
        labels = labels.astype(np.int64)
    made = Dataset(
        np.ascontiguousarray(found.data, dtype=np.float64), labels, name=name,
        citation=KNOWN[name], licence="as in scikit-learn",
    )  # fmt: skip
    made.columns = [str(c) for c in found.feature_names]
    made.classes = [str(c) for c in found.get("target_names", [])]
    return made
