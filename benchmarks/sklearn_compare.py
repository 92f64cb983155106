"""`XPClassifier` and `XPRegressor` compared with `MLPClassifier` and `MLPRegressor` of scikit-learn, on its data.

    python benchmarks/sklearn_compare.py [--seeds 5]

Each seed gives another split and other first weights. Both are given the same standardised float64 features, in turn,
in one process. This is done twice: with their default settings, and with the same work (the same epochs, batch size and
rate, and no early stopping). Prints mean test scores (accuracy, R2), the standard error of their difference, median
seconds of `fit`, and the median ratio of these seconds.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn import datasets
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler

from xpnet.sklearn import XPClassifier, XPRegressor

SAMPLES = {"n_samples": 1000, "random_state": 0}
DATA: dict[str, Callable[[], Any]] = {
    "digits": lambda: datasets.load_digits(return_X_y=True),
    "iris": lambda: datasets.load_iris(return_X_y=True),
    "wine": lambda: datasets.load_wine(return_X_y=True),
    "breast cancer": lambda: datasets.load_breast_cancer(return_X_y=True),
    "moons": lambda: datasets.make_moons(noise=0.3, **SAMPLES),
    "circles": lambda: datasets.make_circles(noise=0.2, factor=0.5, **SAMPLES),
    "diabetes": lambda: datasets.load_diabetes(return_X_y=True),
    "friedman1": lambda: datasets.make_friedman1(noise=1.0, **SAMPLES),
}
REGRESSIONS = ("diabetes", "friedman1")
SAME_WORK = {"max_iter": 50, "batch_size": 64, "learning_rate_init": 0.005, "tol": 0.0, "n_iter_no_change": 1000}


def pair(name: str, seed: int, same_work: bool) -> tuple[Any, Any]:
    """scikit-learn's estimator and ours, not yet fitted."""
    theirs, ours = (MLPRegressor, XPRegressor) if name in REGRESSIONS else (MLPClassifier, XPClassifier)
    return theirs(random_state=seed, **(SAME_WORK if same_work else {})), ours(random_state=seed, device="cpu")


def split(name: str, seed: int) -> tuple[np.ndarray, ...]:
    """Training and test data, standardised; the targets of a regression too, because MLPRegressor needs that."""
    X, y = DATA[name]()
    X, X_test, y, y_test = train_test_split(X, y, random_state=seed)
    scaler = StandardScaler().fit(X)
    if name in REGRESSIONS:
        y, y_test = (y - y.mean()) / y.std(), (y_test - y.mean()) / y.std()
    return scaler.transform(X), scaler.transform(X_test), y, y_test


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    seeds = parser.parse_args().seeds
    warnings.simplefilter("ignore", ConvergenceWarning)
    pair("iris", 0, False)[1].fit(*DATA["iris"]())  # not timed: imports and other work of the first call
    print(f"{'':14} {'':10} {'score':>7} {'theirs':>7} {'+-':>6}   {'seconds':>7} {'theirs':>7}  ratio")
    for same_work in (False, True):
        for name in DATA:
            scores, seconds = np.empty((2, seeds)), np.empty((2, seeds))
            for seed in range(seeds):
                X, X_test, y, y_test = split(name, seed)
                for which, estimator in enumerate(pair(name, seed, same_work)):
                    start = time.perf_counter()
                    estimator.fit(X, y)
                    seconds[which, seed] = time.perf_counter() - start
                    scores[which, seed] = estimator.score(X_test, y_test)
            error = (scores[1] - scores[0]).std(ddof=1) / seeds**0.5 if seeds > 1 else float("nan")
            theirs, ours = map(statistics.median, seconds)
            print(
                f"{name:14} {'same work' if same_work else 'as it comes'} {scores[1].mean():7.3f} "
                f"{scores[0].mean():7.3f} {error:6.3f}   {ours:7.3f} {theirs:7.3f}  "
                f"{statistics.median(seconds[1] / seconds[0]):5.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
