"""The estimators: scikit-learn's own checks, what they learn, and that they are what their parameters say."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

import xpnet
from xpnet import data, nn
from xpnet.verify.strict import StrictBackend

sklearn = pytest.importorskip("sklearn", reason='scikit-learn is not installed: pip install -e ".[sklearn]"')

from sklearn.calibration import CalibratedClassifierCV  # noqa: E402
from sklearn.datasets import load_digits, load_iris, make_friedman1  # noqa: E402
from sklearn.exceptions import NotFittedError  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402

from xpnet.sklearn import XPClassifier, XPRegressor, estimator  # noqa: E402
from xpnet.train import NotFiniteError  # noqa: E402


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setenv("XPNET_DEVICE", "cpu")


@pytest.fixture(scope="module")
def iris():
    return load_iris(return_X_y=True)


def quick(kind=XPClassifier, **options):
    return kind(**{"hidden_layer_sizes": (16,), "epochs": 12, "learning_rate": 0.02, "random_state": 0, **options})


# What scikit-learn asks of an estimator -------------------------------------------------------------------------

CHECKS = """
import warnings
warnings.simplefilter("ignore")
from sklearn.utils.estimator_checks import check_estimator
from xpnet.sklearn import XPClassifier, XPRegressor

for kind in (XPClassifier, XPRegressor):
    estimator = kind(hidden_layer_sizes=(20,), epochs=12, learning_rate=0.05)
    results = check_estimator(estimator, on_fail=None, on_skip=None)
    print(kind.__name__, len(results))
    for result in results:
        if result["status"] != "passed":
            print(result["status"], result["check_name"], result["exception"])
"""


def test_every_check_of_scikit_learn_passes_none_skipped_or_excused():
    """In a process of its own: the check of array API inputs runs only where this is set before SciPy is loaded."""
    command, environment = [sys.executable, "-c", CHECKS], {**os.environ, "SCIPY_ARRAY_API": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["XPClassifier", "XPRegressor"], done.stdout
    assert all(int(line.split()[1]) > 40 for line in lines)


def test_without_scikit_learn_the_error_names_the_extra():
    code = "import sys; sys.modules['sklearn'] = None; import xpnet; xpnet.sklearn"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 'pip install "xpnet[sklearn]"' in done.stderr.splitlines()[-1]


def test_in_a_pipeline_a_search_and_a_calibration(iris):
    X, y = iris
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    search = GridSearchCV(make_pipeline(StandardScaler(), quick()), {"xpclassifier__epochs": [1, 12]}, cv=3)
    search.fit(X, names)
    assert search.best_params_ == {"xpclassifier__epochs": 12}
    assert search.score(X, names) > 0.9
    assert search.predict(X[:2]).tolist() == ["setosa", "setosa"]
    assert cross_val_score(quick(epochs=30), X, y, cv=3).min() > 0.85
    calibrated = CalibratedClassifierCV(quick(epochs=30), cv=2).fit(X, y)
    assert calibrated.score(X, y) > 0.85


# Learning -------------------------------------------------------------------------------------------------------


def test_digits_are_learnt_in_the_dtype_of_x():
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X.astype(np.float32), y, random_state=0)
    classifier = XPClassifier(epochs=8, random_state=0).fit(X, y)
    assert classifier.score(X_test, y_test) > 0.95
    assert classifier.predict_proba(X_test).dtype == np.float32
    assert str(quick(epochs=1).fit(X[:50].astype(int), y[:50]).model_.backend.dtype) == "float64"


def test_a_regression_does_not_depend_on_units():
    X, y = make_friedman1(300, noise=0.5, random_state=0)
    both = np.stack([y, 1e4 * y + 5e5], axis=1)
    regressor = XPRegressor(random_state=0).fit(X, both)
    predicted = regressor.predict(X)
    assert predicted.shape == (300, 2)
    assert regressor.score(X, both) > 0.95
    errors = predicted - both
    assert 0.5 < errors[:, 1].std() / 1e4 / errors[:, 0].std() < 2
    assert regressor.history_[-1]["train_loss"] < 0.1  # in units of the deviation
    one = XPRegressor(random_state=0).fit(X, 1e4 * y + 5e5)
    assert one.predict(X).shape == (300,)
    assert one.score(X, 1e4 * y + 5e5) > 0.95


def test_the_saved_model_needs_no_scikit_learn(iris, tmp_path):
    X, y = iris
    classifier = quick().fit(X, y)
    classifier.model_.save(tmp_path / "iris.safetensors")
    model = xpnet.load(tmp_path / "iris.safetensors", device="cpu")
    assert model.classes == ("0", "1", "2")
    np.testing.assert_array_equal(model.probabilities(X), classifier.predict_proba(X))
    regressor = quick(XPRegressor).fit(X, 100.0 * y)
    regressor.model_.save(tmp_path / "numbers.safetensors")
    numbers = xpnet.load(tmp_path / "numbers.safetensors", device="cpu").predict(X)
    np.testing.assert_array_equal(numbers[:, 0], regressor.predict(X))
    assert numbers.max() > 100


def test_a_network_of_ones_own_in_place_of_the_hidden_layers():
    X, y = load_digits(return_X_y=True)
    layers = nn.Reshape(8, 8, 1), nn.Conv2d(4, 3), nn.ReLU(), nn.Flatten()
    network = nn.Sequential(*layers)
    classifier = XPClassifier(network=network, epochs=5, random_state=0).fit(X[:400], y[:400])
    assert classifier.score(X[:400], y[:400]) > 0.8
    kinds = [type(layer).__name__ for _, layer in classifier.model_.network.walk()]
    assert kinds[1:3] + kinds[-1:] == ["Standardize", "Sequential", "Linear"]
    assert "Conv2d" in kinds
    assert not any(True for _ in network.parameters()), "the template itself stays unbuilt"
    assert sklearn.base.clone(classifier).fit(X[:100], y[:100]).predict(X[:3]).shape == (3,)


def test_the_hidden_layers_and_the_optimizer_are_those_asked_for(iris):
    classifier = quick(
        hidden_layer_sizes=[8, 6], activation="tanh", optimizer="adamw", weight_decay=0.5, epochs=3, batch_size=40
    ).fit(*iris)
    layers = classifier.model_.network.layers
    assert [getattr(layer, "n_out", type(layer).__name__) for layer in layers] == [
        "Standardize", 8, "Tanh", 6, "Tanh", 3,
    ]  # fmt: skip
    assert type(classifier._optimizer).__name__ == "AdamW"
    assert (classifier._optimizer.lr, classifier._optimizer.weight_decay) == (0.02, 0.5)
    assert classifier.n_iter_ == len(classifier.history_) == 3
    assert float(classifier._optimizer.steps[0]) == 3 * 4
    assert quick(hidden_layer_sizes=()).fit(*iris).model_.n_parameters == 4 * 3 + 3


def test_random_state_decides(iris):
    X, y = iris
    first, same, other = (quick(epochs=1, random_state=seed).fit(X, y).predict_proba(X) for seed in (1, 1, 2))
    assert (first == same).all()
    assert (first != other).any()


def test_verbose_says_a_line_an_epoch(iris, capsys):
    quick(epochs=2, verbose=True).fit(*iris)
    assert "epoch   2/2" in capsys.readouterr().err
    quick(epochs=2).fit(*iris)
    assert capsys.readouterr().err == ""


# Weights --------------------------------------------------------------------------------------------------------


def test_class_weights_may_name_a_class_that_a_later_call_of_partial_fit_lacks(iris):
    X, y = iris
    named, written_out = quick(class_weight={2: 3.0}), quick(class_weight={0: 1.0, 1: 1.0, 2: 3.0})
    for one in (named, written_out):
        one.partial_fit(X, y, classes=[0, 1, 2]).partial_fit(X[y < 2], y[y < 2])
    assert (named.predict_proba(X) == written_out.predict_proba(X)).all()
    with pytest.raises(ValueError, match="not in class_weight"):
        quick(class_weight={5: 3.0}).partial_fit(X, y, classes=[0, 1, 2])


def test_class_weights_are_weights_of_samples(iris):
    X, y = iris[0][40:], iris[1][40:]  # 10, 50, 50
    by_class = quick(class_weight={0: 5.0, 1: 1.0, 2: 0.5}).fit(X, y)
    by_sample = quick().fit(X, y, sample_weight=np.array([5.0, 1.0, 0.5])[y])
    np.testing.assert_array_equal(by_class.predict_proba(X), by_sample.predict_proba(X))
    balanced = quick(class_weight="balanced").fit(X, y)
    each = quick().fit(X, y, sample_weight=(110 / 3 / np.array([10, 50, 50]))[y])
    np.testing.assert_allclose(balanced.predict_proba(X), each.predict_proba(X), rtol=1e-9)
    both = quick(class_weight={0: 5.0, 1: 1.0, 2: 0.5}).fit(X, y, sample_weight=np.arange(len(y)))
    product = quick().fit(X, y, sample_weight=np.arange(len(y)) * np.array([5.0, 1.0, 0.5])[y])
    np.testing.assert_array_equal(both.predict_proba(X), product.predict_proba(X))


def test_balanced_classes_have_the_same_sum_of_weights(iris):
    X, y = iris[0][30:], iris[1][30:]
    weights = np.resize([0.0, 1.0, 2.0, 5.0], len(y))
    balanced = quick(class_weight="balanced").fit(X, y, sample_weight=weights)
    each = quick().fit(X, y, sample_weight=weights * (weights.sum() / 3 / np.bincount(y, weights))[y])
    np.testing.assert_allclose(balanced.predict_proba(X), each.predict_proba(X), rtol=1e-9)
    without = np.where(y == 1, 0.0, weights)
    two = quick(class_weight="balanced").fit(X, y, sample_weight=without)
    assert np.isfinite(two.predict_proba(X)).all()


@pytest.mark.parametrize("kind", [XPClassifier, XPRegressor])
def test_a_weight_of_two_is_two_samples_in_the_standardisation_too(kind, iris):
    X, y = iris[0][:60:2], iris[1][:60:2]
    weights = np.resize([0, 1, 2], len(y))
    weighted = quick(kind).fit(X, y, sample_weight=weights).model_.tensors()
    repeated = quick(kind).fit(X.repeat(weights, axis=0), y.repeat(weights)).model_.tensors()
    for name, values in weighted.items():
        np.testing.assert_allclose(values, repeated[name], rtol=1e-6, atol=1e-9)
    mean = quick(kind).fit(X, y, sample_weight=weights).model_.network.layers[0].mean
    np.testing.assert_allclose(mean, np.average(X, axis=0, weights=weights))


def test_what_does_not_vary_where_there_are_weights_is_divided_by_1():
    mean, std = estimator.weighted_mean_std(np.array([[1.0], [5.0], [5.0]]), np.array([0.0, 1.0, 1.0]), "X")
    assert (mean.tolist(), std.tolist()) == ([5], [1])


# Early stopping and going on ------------------------------------------------------------------------------------


def test_early_stopping_keeps_the_weights_of_the_best_epoch(iris):
    X, y = iris
    options = {"early_stopping": True, "validation_fraction": 0.3, "patience": 3}
    classifier = quick(**options, epochs=200, learning_rate=0.1).fit(X, y)
    losses = [row["validation_loss"] for row in classifier.history_]
    assert len(losses) == np.argmin(losses) + 1 + 3 < 200
    _, held_out = data.split(data.Dataset(X, y), 0.3, classifier.model_.backend.seed)
    assert len(held_out) == 45
    kept = xpnet.train.evaluate(classifier.model_, classifier._loss, held_out).loss
    assert kept == pytest.approx(min(losses))
    assert "validation_loss" not in quick().fit(X, y).history_[-1]


def test_partial_fit_goes_on(iris):
    X, y = iris
    classifier = quick()
    seen = [classifier.partial_fit(X, y, classes=[0, 1, 2]).history_[0]["train_loss"] for _ in range(12)]
    assert classifier.score(X, y) > 0.9
    assert seen[-1] < seen[0] / 2
    assert float(classifier._optimizer.steps[0]) == 12 * 3
    one_class = quick().partial_fit(X[:20], y[:20], classes=[0, 1, 2])
    assert one_class.predict_proba(X).shape == (150, 3)
    regressor = quick(XPRegressor, early_stopping=True)
    for _ in range(12):
        regressor.partial_fit(X, y)
    assert "validation_loss" not in regressor.history_[0], "nothing is held out"
    assert regressor.score(X, y) > 0.8


def test_each_partial_fit_has_an_order_of_its_own(iris, monkeypatch):
    orders = []
    real = estimator.fit
    monkeypatch.setattr(estimator, "fit", lambda *a, **k: (orders.append(a[3].x.copy()), real(*a, **k))[1])
    regressor = quick(XPRegressor)
    for _ in range(3):
        regressor.partial_fit(*iris)
    assert not any((a == b).all() for a, b in ((orders[0], orders[1]), (orders[1], orders[2])))
    assert all((np.sort(a, axis=0) == np.sort(iris[0], axis=0)).all() for a in orders)


def test_ctrl_c_ends_a_search_and_not_one_fit_of_it(iris, monkeypatch):
    result = xpnet.train.Result([], 0, "interrupted")
    monkeypatch.setattr(estimator, "fit", lambda *arguments, **options: result)
    with pytest.raises(KeyboardInterrupt):
        quick().fit(*iris)


# Pickles --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("again", [lambda e: pickle.loads(pickle.dumps(e)), copy.deepcopy])
def test_a_pickled_estimator_goes_on_as_if_nothing_had_happened(iris, again):
    X, y = iris
    first = quick(network=nn.Sequential(nn.Linear(16), nn.Dropout(0.5)), hidden_layer_sizes=(100,)).fit(X, y)
    first.set_params(optimizer="sgd")  # is for the next call of fit
    second = again(first)
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    for one in (first, second):
        one.partial_fit(X, y)
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    assert pickle.loads(pickle.dumps(quick())).get_params() == quick().get_params()


def test_a_pickle_of_a_device_holds_arrays_of_the_host_and_opens_on_the_cpu(iris, monkeypatch):
    X, y = iris
    with monkeypatch.context() as patched:
        patched.setattr(estimator, "chosen", lambda *asked: "strict")
        patched.setattr(estimator, "select", lambda device, dtype, seed: StrictBackend(dtype, seed))
        there = quick().fit(X, y)
    assert there.model_.backend.device == "strict"
    content = pickle.dumps(there)
    assert b"Strict" not in content
    here = pickle.loads(content)
    assert here.model_.backend.device == "cpu"
    np.testing.assert_allclose(here.predict_proba(X), there.predict_proba(X), rtol=1e-12)
    for one in (here, there):
        one.partial_fit(X, y)
    np.testing.assert_allclose(here.predict_proba(X), there.predict_proba(X), rtol=1e-9)


# Bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_layer_sizes": (8, 0)}, r"hidden_layer_sizes must be whole numbers >= 1, not \(8, 0\)"),
        ({"hidden_layer_sizes": "8"}, "hidden_layer_sizes must be whole numbers"),
        ({"activation": "logistic"}, "unknown activation 'logistic': choose one of relu"),
        ({"optimizer": "lbfgs"}, "unknown optimizer 'lbfgs': choose one of sgd"),
        ({"learning_rate": 0.0}, "learning_rate must be a finite number above 0, not 0.0"),
        ({"learning_rate": "fast"}, "learning_rate must be a finite number above 0, not 'fast'"),
        ({"weight_decay": -1}, "weight_decay must be a finite number >= 0, not -1"),
        ({"weight_decay": None}, "weight_decay must be a finite number >= 0, not None"),
        ({"class_weight": {0: -1, 1: 1, 2: 1}}, "weights must be >= 0, not -1"),
        ({"network": nn.Linear(3)}, "network takes the place of hidden_layer_sizes and activation"),
        ({"network": "mlp", "hidden_layer_sizes": (100,)}, "network must be a layer"),
        ({"epochs": 0}, "epochs must be a whole number >= 1, not 0"),
        ({"epochs": 2.5}, "epochs must be a whole number >= 1, not 2.5"),
        ({"batch_size": None}, "batch_size must be a whole number >= 1, not None"),
        ({"patience": True}, "patience must be a whole number >= 1, not True"),
        ({"device": "gpu"}, "unknown device 'gpu'"),
        ({"validation_fraction": 1.0}, "validation_fraction must be a finite number above 0 and below 1, not 1.0"),
        ({"class_weight": "equal"}, "class_weight"),
    ],
)
def test_parameters_that_cannot_be(iris, options, message):
    with pytest.raises(ValueError, match=message):
        quick(**options).fit(*iris)


@pytest.mark.parametrize("options", [{"activation": "nope"}, {"optimizer": "nope"}, {"learning_rate": 1e300}])
@pytest.mark.parametrize("kind", [XPClassifier, XPRegressor])
def test_a_fit_whose_options_are_refused_leaves_what_was_trained(kind, options, iris):
    x, y = iris[0].astype(np.float32), iris[1]
    one = quick(kind).fit(x, y)
    before = one.predict(x)
    with pytest.raises(ValueError, match=r"unknown|finite in float32"):
        one.set_params(**options).fit(x[:, :3], np.stack([y, y], 1) if kind is XPRegressor else y + 7)
    np.testing.assert_array_equal(one.predict(x), before)
    new = quick(kind, **options)
    with pytest.raises(ValueError, match=r"unknown|finite in float32"):
        new.fit(x, y)
    with pytest.raises(NotFittedError):
        new.predict(x)


@pytest.mark.parametrize("kind", [XPClassifier, XPRegressor])
def test_a_fit_that_fails_later_leaves_what_was_trained(kind, iris):
    x, y = iris
    one = quick(kind).fit(x, y)
    before, features = one.predict(x), one.n_features_in_
    with pytest.raises(ValueError, match="of 4 samples leaves one of the two parts empty"):
        one.set_params(early_stopping=True).fit(x[48:52, :3], y[48:52])
    with pytest.raises(NotFiniteError):
        one.set_params(early_stopping=False, optimizer="sgd", learning_rate=1e200).fit(x[:, :2], y)
    np.testing.assert_array_equal(one.predict(x), before)
    assert one.n_features_in_ == features
    one.set_params(optimizer="adam", learning_rate=0.005).partial_fit(x, y)
    new = quick(kind, optimizer="sgd", learning_rate=1e200)
    with pytest.raises(NotFiniteError):
        new.fit(x, y)
    with pytest.raises(NotFittedError):
        new.predict(x)


def test_the_device_of_the_environment_is_that_of_now(iris, monkeypatch):
    quick(epochs=1).fit(*iris)
    monkeypatch.setenv("XPNET_DEVICE", "abacus")
    with pytest.raises(ValueError, match="XPNET_DEVICE: unknown device 'abacus'"):
        quick(epochs=1).fit(*iris)
    assert quick(epochs=1, device="cpu").fit(*iris).model_.backend.device == "cpu"


def test_data_that_cannot_be(iris):
    X, y = iris
    with pytest.raises(ValueError, match="y has one class only, 0: there is nothing to tell apart"):
        quick().fit(X[:10], y[:10])
    for kind in (XPClassifier, XPRegressor):
        with pytest.raises(ValueError, match=r"column 0 of X has values beyond 1e30, too large .*: scale it first"):
            quick(kind).fit(X * 1e200, y)
        with pytest.raises(ValueError, match="column 1 of X has values beyond 1e30"):
            quick(kind).fit(X * [1, 1e31, 1, 1], y)
        with pytest.raises(ValueError, match=r"column 2 of X varies only by 6e-200, too little .*: scale it first"):
            quick(kind).fit(X * [1, 1, 1e-200, 1], y)
        with pytest.raises(ValueError, match=r"column 3 of X varies only by 2e-40"):
            quick(kind).fit((X * [1, 1, 1, 1e-40]).astype(np.float32), y)
    with pytest.raises(ValueError, match="column 0 of y varies only by 2e-300"):
        quick(XPRegressor).fit(X, y * 1e-300)
    with pytest.raises(ValueError, match="the weights are 0 for every sample"):
        quick(class_weight={0: 0.0, 1: 0.0, 2: 0.0}).fit(X, y)
    with pytest.raises(ValueError, match="first call of partial_fit needs classes"):
        quick().partial_fit(X, y)
    classifier = quick().partial_fit(X[:100], y[:100], classes=[0, 1])
    with pytest.raises(ValueError, match=r"y has the class 2, which is not one of \[0, 1\]"):
        classifier.partial_fit(X, y)
    with pytest.raises(ValueError, match="those of the first call"):
        classifier.partial_fit(X[:100], y[:100], classes=[0, 1, 2])
    with pytest.raises(ValueError, match="X has 3 features, but XPClassifier is expecting 4"):
        classifier.predict(X[:, :3])


@pytest.mark.parametrize(("dtype", "far", "warned"), [(np.float32, 1e7, 1), (np.float64, 1e7, 0), (np.float32, 10, 0)])
def test_targets_that_float32_rounds_away_are_told(recwarn, dtype, far, warned):
    x = np.random.default_rng(0).standard_normal((60, 3)).astype(dtype)
    y = np.stack([x.sum(1), x.sum(1) + far], axis=1)
    quick(XPRegressor, epochs=1).fit(x, y)
    told = [str(w.message) for w in recwarn if "y is so far from 0 that float32" in str(w.message)]
    assert len(told) == warned
    assert all(w.filename == __file__ for w in recwarn if "y is so far" in str(w.message))
