"""`XPRegressor`: a network for regression, as a scikit-learn estimator."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_is_fitted

from xpnet import nn
from xpnet.data import Dataset
from xpnet.data.doubts import are_rounded
from xpnet.losses import MeanSquaredError
from xpnet.sklearn.estimator import XPEstimator, counted, weighted_mean_std


class XPRegressor(RegressorMixin, XPEstimator):
    """A network for regression on one target or several: squared error, in units of the targets' standard deviation.

    Parameters and attributes are those of `XPClassifier`, without the classes: n_features_in_, feature_names_in_,
    model_, history_, n_iter_. The last layer of `model_` converts the outputs to the units of y.
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> XPRegressor:
        """Train a new network on X (N, n_features) and y (N,) or (N, n_outputs), numbers."""
        with self._as_before_if_refused():
            self._learn(self._data(X, y, sample_weight), self.epochs, self.early_stopping)
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> XPRegressor:
        """Train for one more epoch.

        Features and targets are standardised by the means and deviations of the first call.
        """
        with self._as_before_if_refused():
            self._learn(self._data(X, y, sample_weight, first=not hasattr(self, "model_")), 1)
        return self

    def _data(self, X: Any, y: Any, sample_weight: Any, first: bool = True) -> Dataset:
        """The data set, and with `first` also a new model for it."""
        X, y, weights = self._read(X, y, sample_weight, reset=first, multi_output=True, y_numeric=True)
        X, y, weights = counted(X, y, weights)
        rows = y.reshape(len(y), -1).astype(np.float64)
        if first:
            if X.dtype == np.float32 and any(are_rounded(column) for column in rows.T):
                warnings.warn(
                    "y is so far from 0 that float32, the type of X, rounds its differences away: subtract a number "
                    "from it first, or give X as float64",
                    stacklevel=3,
                )
            mean, std = weighted_mean_std(rows, weights, "y")
            self._loss, self._one_number = MeanSquaredError(scale=std.tolist()), y.ndim == 1
            self._begin(X, weights, rows.shape[1], last=[nn.Standardize(-mean / std, 1 / std)])
        return Dataset(X, rows, (), "the training data", weights)

    def predict(self, X: Any) -> np.ndarray:
        """The predictions for each sample, (N,) or (N, n_outputs) like y."""
        check_is_fitted(self)
        outputs = self._outputs(X)
        return outputs[:, 0] if self._one_number else outputs
