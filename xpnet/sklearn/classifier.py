"""`XPClassifier`: a network for classification, as a scikit-learn estimator."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils import compute_class_weight, compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from xpnet.data import Dataset
from xpnet.losses import SoftmaxCrossEntropy
from xpnet.nn.softmax import softmax
from xpnet.sklearn.estimator import XPEstimator, counted


class XPClassifier(ClassifierMixin, XPEstimator):
    """A network for classification: standardised features, hidden layers, a Linear layer, softmax cross-entropy.

    Parameters
    ----------
    hidden_layer_sizes : units of each hidden layer; () for none.
    activation : "relu", "leaky-relu", "gelu", "tanh" or "sigmoid", after each hidden layer.
    network : a layer, such as `nn.Sequential(nn.Reshape(8, 8, 1), nn.Conv2d(16, 3), nn.ReLU(), nn.Flatten())`, that
        replaces the hidden layers and their activation. A copy is trained; the layer itself is left as it is.
    optimizer : "adam", "adamw", "sgd", "rmsprop" or "adagrad".
    learning_rate : of the optimizer; the default suits Adam, for SGD 0.1 is usual.
    weight_decay : pull of the weights towards 0.
    epochs, batch_size : number of passes over the data, and number of samples in a step.
    class_weight : None, "balanced", or how much each class counts, {class: weight}; 1 for a class that is not named.
        `partial_fit` balances the samples of each call by themselves.
    early_stopping : hold out `validation_fraction` of the data (of each class), stop after `patience` epochs without a
        lower loss on it, and keep the weights of the best epoch. `partial_fit` holds nothing out.
    device : "auto", "cpu", "cuda", ...; None for the environment variable XPNET_DEVICE, or else "auto".
    n_jobs : number of processes that train the network together, on the CPU (`xpnet.parallel`, with the extra "mpi");
        None for 1, -1 for as many as there are cores. Each has a part of every batch, so the result is that of one
        process except for rounding and dropout. Each call of `fit` starts them anew, which takes a second or two.
    random_state : a number makes weights and batches the same each time, on every device.
    verbose : print a line per epoch to standard error.

    Attributes
    ----------
    classes_ : the classes (n_classes,), sorted.
    model_ : the trained `xpnet.Model`; `model_.save(path)` writes a file that `xpnet.load` opens without scikit-learn.
    history_, n_iter_ : one row per epoch, with losses and accuracies, and the number of epochs.
    n_features_in_, feature_names_in_ : the number of features of X, and their names if it was a data frame.

    With X of float32 the network computes in float32, with any other dtype in float64, as is usual in scikit-learn;
    float32 is faster.

    Sample weights count in the loss and in the standardisation. A whole number as weight has the same effect as that
    many copies of the sample, as long as one batch holds all samples. A pickle holds host arrays and the name of the
    device; where that device does not work, it opens on the CPU.
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
        with self._as_before_if_refused():
            self._learn(self._data(X, y, sample_weight), self.epochs, self.early_stopping)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> XPClassifier:
        """Train for one more epoch.

        The first call needs `classes`, all classes that there will ever be. Features are standardised by the mean and
        deviation of the first call's X.
        """
        first = not hasattr(self, "model_")
        if first and classes is None:
            raise ValueError(
                "the first call of partial_fit needs classes, a list of all classes that y may have in any call"
            )
        known = np.unique(classes) if first else self.classes_
        if classes is not None and not np.array_equal(np.unique(classes), known):
            raise ValueError(f"classes must be those of the first call, {known.tolist()}, not {list(classes)}")
        with self._as_before_if_refused():
            self._learn(self._data(X, y, sample_weight, known, first), 1)
        return self

    def _data(
        self, X: Any, y: Any, sample_weight: Any, classes: np.ndarray | None = None, first: bool = True
    ) -> Dataset:
        """The data set, and with `first` also a new model for it. If `classes` is None, they are those of y."""
        X, y, weights = self._read(X, y, sample_weight, reset=first)
        check_classification_targets(y)
        classes = np.unique(y) if classes is None else classes
        if len(classes) < 2:
            raise ValueError(f"y has one class only, {classes.tolist()[0]!r}: there is nothing to tell apart")
        unknown = ~np.isin(y, classes)
        if unknown.any():
            raise ValueError(f"y has the class {y[unknown].tolist()[0]!r}, which is not one of {classes.tolist()}")
        if self.class_weight is not None:
            weights = self._of_classes(y, weights, classes)
        X, y, weights = counted(X, y, weights)
        if first:
            self.classes_, self._loss = classes, SoftmaxCrossEntropy()
            self._begin(X, weights, len(classes), last=[])
        return Dataset(X, np.searchsorted(classes, y), self.model_.classes, "the training data", weights)

    def _of_classes(self, y: np.ndarray, weights: np.ndarray | None, of: np.ndarray) -> np.ndarray:
        """Each sample's weight times its class's weight; with "balanced", the products have the same sum in every
        class. `of` are all classes, some of which a call of `partial_fit` may lack."""
        if self.class_weight != "balanced":
            by_class = compute_class_weight(self.class_weight, classes=of, y=y)[np.searchsorted(of, y)]
            return by_class if weights is None else by_class * weights
        if weights is None:
            return compute_sample_weight("balanced", y)
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
