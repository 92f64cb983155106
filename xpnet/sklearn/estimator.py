"""What the classifier and the regressor share: parameters, network, training and pickling."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, validate_data

from xpnet import nn
from xpnet.arguments import LARGEST, SMALLEST, number, whole
from xpnet.backend import select
from xpnet.data import Dataset, epoch_order, split
from xpnet.losses import Loss
from xpnet.optim import Optimizer
from xpnet.sklearn.workers import check_start, fit_by, n_workers
from xpnet.train import fit
from xpnet.train.recipes import ACTIVATIONS, OPTIMIZERS
from xpnet.train.worker import packed, unpacked

FLOATS = (np.float64, np.float32)  # X of another dtype is converted to the first


class XPEstimator(BaseEstimator):
    """The base of both estimators; `XPClassifier` describes the parameters."""

    model_: nn.Model
    history_: list[dict[str, float]]
    _loss: Loss
    _optimizer: Optimizer

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        network: nn.Layer | None = None,
        optimizer: str = "adam",
        learning_rate: float = 0.005,
        weight_decay: float = 0.0,
        epochs: int = 50,
        batch_size: int = 64,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        device: str | None = None,
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: bool = False,
    ):
        self.hidden_layer_sizes, self.activation, self.network = hidden_layer_sizes, activation, network
        self.optimizer, self.learning_rate, self.weight_decay = optimizer, learning_rate, weight_decay
        self.epochs, self.batch_size = epochs, batch_size
        self.early_stopping, self.validation_fraction, self.patience = early_stopping, validation_fraction, patience
        self.device, self.n_jobs = device, n_jobs
        self.random_state, self.verbose = random_state, verbose

    @property
    def n_iter_(self) -> int:
        """The number of epochs in the last call of `fit` or `partial_fit`."""
        return len(self.history_)

    def _check_parameters(self, anew: bool) -> None:
        """Raise ValueError for an impossible number, or for processes that cannot be started on the model's device.

        With `anew` the device is that of a new model. Names are checked where they are used.
        """
        for name in ("epochs", "batch_size", "patience"):
            whole(name, getattr(self, name), least=1)
        number("learning_rate", self.learning_rate, above=0)
        number("validation_fraction", self.validation_fraction, above=0, below=1)
        number("weight_decay", self.weight_decay, least=0)
        n = n_workers(self.n_jobs)
        if n > 1:
            check_start(n, self._device() if anew else self.model_.backend.device)

    def _device(self) -> str:
        return chosen(self.device, os.environ.get("XPNET_DEVICE"), os.getpid())

    # What the network is made of ----------------------------------------------------------------------------

    def _layers_inside(self) -> list[nn.Layer]:
        """The layers between the standardised inputs and the last Linear layer."""
        sizes = np.atleast_1d(np.asarray(self.hidden_layer_sizes))
        if self.network is not None:
            if not isinstance(self.network, nn.Layer):
                raise ValueError(f"network must be a layer, such as nn.Sequential(...), not {self.network!r}")
            if sizes.tolist() != [100] or self.activation != "relu":
                raise ValueError("network takes the place of hidden_layer_sizes and activation: leave those out")
            return [self.network.copy()]
        if sizes.ndim != 1 or (sizes.size and (sizes.dtype.kind not in "iu" or sizes.min() < 1)):
            raise ValueError(f"hidden_layer_sizes must be whole numbers >= 1, not {self.hidden_layer_sizes!r}")
        activation = _named("activation", self.activation, ACTIVATIONS)
        return [layer for size in sizes.tolist() for layer in (_linear(size), activation())]

    def _begin(self, x: np.ndarray, weights: np.ndarray | None, n_outputs: int, last: list[nn.Layer]) -> None:
        """Make a new model and a new optimizer, for samples like x (N, n_features_in_)."""
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        standardize = nn.Standardize(*weighted_mean_std(x, weights, "X"))
        network = nn.Sequential(standardize, *self._layers_inside(), _linear(n_outputs), *last)
        classes = tuple(map(str, getattr(self, "classes_", ())))
        backend = select(self._device(), dtype=str(x.dtype), seed=int(seed))
        kind, _ = _named("optimizer", self.optimizer, OPTIMIZERS)
        self.model_ = nn.Model(network, x.shape[1:], backend, classes)
        self._optimizer = kind(self.model_, lr=self.learning_rate, weight_decay=self.weight_decay)
        self._calls = 0  # calls of `_learn`: each draws its own order

    # Training -----------------------------------------------------------------------------------------------

    @contextmanager
    def _as_before_if_refused(self) -> Iterator[None]:
        """Around a fit: if it raises an error, the estimator has the attributes from before, its model among them."""
        before = dict(vars(self))
        try:
            yield
        except Exception:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def _read(self, X: Any, y: Any, sample_weight: Any, reset: bool, **checks: Any) -> tuple:
        """(X, y, weights) as arrays; weights is None if all samples count alike."""
        self._check_parameters(anew=reset)
        X, y = validate_data(self, X, y, reset=reset, dtype=FLOATS, **checks)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        return X, y, sample_weight

    def _learn(self, data: Dataset, epochs: int, early_stopping: bool = False) -> None:
        """Train the model for some epochs, on all of `data` or on all but the fraction held out for early stopping."""
        validation, seed = None, self.model_.backend.seed
        options: dict[str, Any] = {"epochs": epochs, "quiet": not self.verbose}
        if early_stopping:
            data, validation = split(data, self.validation_fraction, seed)
            options |= {"patience": self.patience, "keep_best": True}
        if self._calls:  # `train.fit` begins with the same order each time
            data = data.take(epoch_order(len(data), seed, self._calls))
        self._calls += 1
        options["batch_size"] = min(self.batch_size, len(data))
        n = n_workers(self.n_jobs)
        if n == 1:
            result = fit(self.model_, self._loss, self._optimizer, data, validation, **options)
        else:
            result = fit_by(n, self, data, validation, options)
        self.history_ = result.history
        if result.stopped == "interrupted":  # a search over parameters must not continue with the next ones
            raise KeyboardInterrupt

    def _outputs(self, X: Any) -> np.ndarray:
        """The network's outputs for X (N, n_features_in_), in the dtype that it was trained in."""
        return self.model_.predict(validate_data(self, X, reset=False, dtype=FLOATS))

    # Pickling -----------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """The state with all arrays on the host, so that what was trained on a GPU opens on a machine without one."""
        state = dict(super().__getstate__())
        if "_optimizer" in state:
            state["_optimizer"] = packed(state["_optimizer"])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_optimizer" in state:
            self._optimizer = unpacked(self.model_, state["_optimizer"])


def counted(X: np.ndarray, y: np.ndarray, weights: np.ndarray | None) -> tuple:
    """The samples whose weight is not 0. Raises ValueError if there are none."""
    if weights is None or (weights > 0).all():
        return X, y, weights
    if (weights < 0).any():
        raise ValueError(f"weights must be >= 0, not {weights.min():g}")
    if not (weights > 0).any():
        raise ValueError("the weights are 0 for every sample: there is nothing to learn from")
    return X[weights > 0], y[weights > 0], weights[weights > 0]


@functools.cache
def chosen(asked: str | None, by_environment: str | None, process: int) -> str:
    """The device that `select` chooses, cached: a search over parameters asks often.

    Looking for a GPU takes a tenth of a second each time. A forked process looks for itself, as `process` is part of
    the key.
    """
    return select(asked).device


def weighted_mean_std(a: np.ndarray, weights: np.ndarray | None, of: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column of a (N, n), float64; a deviation of 1 if no values that count differ.

    Raises ValueError for a column whose mean or deviation `nn.Standardize` cannot take; `of` ("X") names the array.
    """
    there = a if weights is None else a[weights > 0]
    varies = there.min(axis=0) != there.max(axis=0)
    a = a.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.average(a, axis=0, weights=weights)
        std = np.sqrt(np.average((a - mean) ** 2, axis=0, weights=weights))
    large = np.flatnonzero(~((np.abs(mean) <= LARGEST) & (std <= LARGEST)))
    if large.size:
        raise ValueError(f"column {large[0]} of {of} has values beyond 1e30, too large for float32: scale it first")
    small = np.flatnonzero(varies & (std < SMALLEST))
    if small.size:
        where = f"column {small[0]} of {of} varies only by {np.ptp(a[:, small[0]]):.1g}"
        raise ValueError(f"{where}, too little to divide by: scale it first")
    return mean, np.where(varies, std, 1.0)


def _linear(size: int) -> nn.Layer:
    """A Linear layer with `glorot_uniform` weights, smaller than those of `he_normal`.

    On tables of a few features they give better results: 0.93 instead of 0.88 of the variance of Friedman's data, and
    no worse elsewhere.
    """
    return nn.Linear(size, init=nn.init.glorot_uniform)


def _named(what: str, name: str, table: dict[str, Any]) -> Any:
    if name not in table:
        raise ValueError(f"unknown {what} {name!r}: choose one of {', '.join(table)}")
    return table[name]
