"""scikit-learn's MLPClassifier, from the same first weights: a step is one `partial_fit`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import sklearn
from sklearn.neural_network import MLPClassifier

from benchmarks.works import Work


def make(work: Work, threads: int, *options: str) -> Callable[[int], Any]:
    x, y = work.data()
    size = x.shape[1]
    settings = {"momentum": 0.0, "nesterovs_momentum": False, "alpha": 0.0, "batch_size": size, "shuffle": False}
    model = MLPClassifier((128, 64, 32), solver="sgd", learning_rate_init=work.rate, **settings)
    model.partial_fit(x[0], y[0], classes=np.arange(10))
    tensors = list(work.tensors().values())
    for ours, theirs in zip([*tensors[::2], *tensors[1::2]], [*model.coefs_, *model.intercepts_], strict=True):
        theirs[...] = ours

    def step(i: int) -> Any:
        model.partial_fit(x[i], y[i])
        return model.loss_

    return step


def versions() -> dict[str, str]:
    return {"scikit-learn": sklearn.__version__}
