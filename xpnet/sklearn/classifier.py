"""`XPClassifier`: a network that tells classes apart, as an estimator of scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from xpnet.data import Dataset
from xpnet.losses import SoftmaxCrossEntropy
from xpnet.nn.softmax import softmax
from xpnet.sklearn.estimator import XPEstimator, counted


class XPClassifier(ClassifierMixin, XPEstimator):
    """A network that tells classes apart: standardised features, hidden layers, a Linear layer, softmax cross-entropy.

    Parameters
    ----------
    hidden_layer_sizes : units of each hidden layer; () for none.
    activation : "relu", "leaky-relu", "gelu", "tanh" or "sigmoid", after each hidden layer.
    network : a layer, such as `nn.Sequential(nn.Reshape(8, 8, 1), nn.Conv2d(16, 3), nn.ReLU(), nn.Flatten())`, in place
        of the hidden layers and their activation. It is copied, never built itself.
    optimizer : "adam", "adamw", "sgd", "rmsprop" or "adagrad".
    learning_rate : of the optimizer; the default suits Adam, for SGD 0.1 is usual.
    weight_decay : pull of the weights towards 0.
    epochs, batch_size : how often to go through the data, and in steps of how many samples.
    class_weight : None, "balanced", or how much each class counts, {class: weight}.
    early_stopping : hold out `validation_fraction` of the data (of each class), stop after `patience` epochs without a
        lower loss on it, and keep the weights of the best epoch. `partial_fit` holds nothing out.
    device : "auto", "cpu", "cuda", ...; None for the environment variable XPNET_DEVICE, or else "auto".
    n_jobs : how many processes train the network together, on the CPU (`xpnet.parallel`, with the extra "mpi"); None
        for 1, -1 for as many as there are cores. Each has a part of every batch, so the result is that of one process
        but for rounding and dropout. They are started anew by each call of `fit`, which takes a second or two.
    random_state : a number makes weights and batches the same each time, on every device.
    verbose : a line an epoch, on standard error.

    Attributes
    ----------
    classes_ : the classes (n_classes,), sorted.
    model_ : the trained `xpnet.Model`; `model_.save(path)` writes a file that `xpnet.load` opens without scikit-learn.
    history_, n_iter_ : a row an epoch, with losses and accuracies, and how many epochs there were.
    n_features_in_, feature_names_in_ : how many features X had, and their names if it was a data frame.

    X of float32 is learnt in float32, all else in float64, as is usual in scikit-learn: float32 is the faster.

    Sample weights count in the loss and in the standardisation. A whole number is the same as so many copies of the
    sample, as long as a batch holds all of them. A pickle holds arrays of the host, and the name of the device: where
    that does not work it opens on the CPU.
    """

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        network: Any = None,
        optimizer: str = "adam",
        learning_rate: float = 0.005,
        weight_decay: float = 0.0,
        epochs: int = 50,
        batch_size: int = 64,
        class_weight: Any = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        device: str | None = None,
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: bool = False,
    ):
        super().__init__(
            hidden_layer_sizes,
            activation,
            network=network,
            optimizer=optimizer,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            epochs=epochs,
            batch_size=batch_size,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            patience=patience,
            device=device,
            n_jobs=n_jobs,
            random_state=random_state,
            verbose=verbose,
        )
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> XPClassifier:
        """Train a new network on X (N, n_features), numbers, and y (N,), classes of any kind."""
        self._learn(self._data(X, y, sample_weight), self.epochs, self.early_stopping)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> XPClassifier:
        """Train for one epoch more. The first call needs `classes`, all that there will be; what the features are
        standardised by is that of its X."""
        first = not hasattr(self, "model_")
        if first and classes is None:
            raise ValueError("the first call of partial_fit needs classes: all the classes that there will be")
        known = np.unique(classes) if first else self.classes_
        if classes is not None and not np.array_equal(np.unique(classes), known):
            raise ValueError(f"classes are {list(classes)}, those of the first call were {known.tolist()}")
        self._learn(self._data(X, y, sample_weight, known, first), 1)
        return self

    def _data(
        self, X: Any, y: Any, sample_weight: Any, classes: np.ndarray | None = None, first: bool = True
    ) -> Dataset:
        """The data set, and with `first` a new model for it. `classes`: those of y, if not given."""
        X, y, weights = self._read(X, y, sample_weight, reset=first)
        check_classification_targets(y)
        classes = np.unique(y) if classes is None else classes
        if len(classes) < 2:
            raise ValueError(f"y has one class only, {classes.tolist()[0]!r}: there is nothing to tell apart")
        unknown = ~np.isin(y, classes)
        if unknown.any():
            raise ValueError(f"y has the class {y[unknown].tolist()[0]!r}, which is none of {classes.tolist()}")
        if self.class_weight is not None:
            weights = self._of_classes(y, weights)
        X, y, weights = counted(X, y, weights)
        if first:
            self.classes_, self._loss = classes, SoftmaxCrossEntropy()
            self._begin(X, weights, len(classes), last=[])
        return Dataset(X, np.searchsorted(classes, y), self.model_.classes, "the training data", weights)

    def _of_classes(self, y: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        """The weight of each sample times that of its class; "balanced" classes have the same sum of both."""
        if weights is None:
            return compute_sample_weight(self.class_weight, y)
        if self.class_weight != "balanced":
            return compute_sample_weight(self.class_weight, y) * weights
        classes, numbers = np.unique(y, return_inverse=True)
        totals = np.bincount(numbers, weights)
        return weights * weights.sum() / (len(classes) * np.where(totals > 0, totals, 1)[numbers])

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class, (N, n_classes), in the order of `classes_`."""
        check_is_fitted(self)
        return softmax(self._outputs(X), np)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each sample, (N,)."""
        check_is_fitted(self)
        return self.classes_[self._outputs(X).argmax(axis=1)]
