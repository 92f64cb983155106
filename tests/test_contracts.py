"""What a layer is promised: several inputs and outputs, free axes, integers, names in files, state in the proof."""

from __future__ import annotations

import copy
import pickle
import sys
from types import ModuleType

import numpy as np
import pytest

import xpnet
from xpnet import nn, select, verify
from xpnet.backend import Backend
from xpnet.nn import Model, ShapeError
from xpnet.nn.layer import kind_name
from xpnet.nn.saving import describe
from xpnet.verify.cases import LAYERS
from xpnet.verify.strict import StrictBackend

KINDS = pytest.mark.parametrize("kind", [Backend, StrictBackend])


class Gate(nn.Layer):
    """y = (x + g W) m for x (N, T, C), g (N, n), a mask m (N, T): a free axis, three inputs, one without gradient."""

    accepts_integers = (False, False, True)

    def build(self, shape):
        x, g, _ = shape
        self.W = nn.Parameter((g[-1], x[-1]), nn.init.he_normal)
        return x

    def forward(self, x, backend):
        x, g, mask = x
        mask = mask.astype(backend.dtype)[:, :, None]
        y = (x + backend.matmul(g, self.W.data)[:, None, :]) * mask

        def backward(dy, need_dx=True):
            dy = dy * mask
            summed = dy.sum(axis=1)
            self.W.add_grad(g.T, summed)
            return (dy, backend.matmul(summed, self.W.data.T), None) if need_dx else None

        return y, backward


class Halves(nn.Layer):
    """(x[:n/2], x[n/2:]): two outputs."""

    def build(self, shape):
        return ((shape[0] // 2,), (shape[0] - shape[0] // 2,))

    def forward(self, x, backend):
        cut = x.shape[1] // 2

        def backward(dy, need_dx=True):
            return backend.xp.concatenate(dy, axis=1)

        return (x[:, :cut].copy(), x[:, cut:].copy()), backward


def masks(rng, shape):
    return rng.integers(0, 2, shape, dtype=np.int8)


GATE_SHAPE = ((None, 3), (4,), (None,))


def gate_inputs(n=6, length=5):
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, length, 3)), rng.standard_normal((n, 4)), masks(rng, (n, length))


def test_a_layer_of_several_inputs_and_free_length_passes_the_check():
    draw = (verify.passes.spread, verify.passes.spread, masks)
    assert verify.check(Gate(), GATE_SHAPE, draw=draw).ok
    assert verify.check(Halves(), (5,)).ok


def test_a_gradient_that_is_missing_or_wrong_in_one_of_several_inputs_is_found():
    class Forgets(Gate):
        def forward(self, x, backend):
            y, right = super().forward(x, backend)
            return y, lambda dy, need_dx=True: (None, *right(dy)[1:])

    class Doubles(Gate):
        def forward(self, x, backend):
            y, right = super().forward(x, backend)
            return y, lambda dy, need_dx=True: tuple(None if d is None else i * d for i, d in enumerate(right(dy), 1))

    draw = (verify.passes.spread, verify.passes.spread, masks)
    for layer, message in ((Forgets(), r"None for dx\[0\]"), (Doubles(), "gradients")):
        with pytest.raises(verify.CheckFailed, match=message):
            verify.check(layer, GATE_SHAPE, draw=draw)


@KINDS
def test_predict_with_several_inputs_in_batches_of_any_length(kind):
    model = Model(nn.Sequential(Gate(), nn.Linear(2)), GATE_SHAPE, kind("float64", 1))
    x = gate_inputs()
    whole = model.predict(x)
    assert whole.shape == (6, 5, 2)
    np.testing.assert_allclose(model.predict(x, batch_size=4), whole, rtol=1e-12)
    assert model.predict(gate_inputs(length=9)).shape == (6, 9, 2)
    with pytest.raises(ShapeError, match=r"samples of shape \(\(5, 2\)"):
        model.predict((x[0][:, :, :2], *x[1:]))
    with pytest.raises(ShapeError):
        model.predict(x[0])


def test_a_network_of_several_inputs_is_saved_moved_and_compared(tmp_path):
    model = Model(nn.Sequential(Gate(), nn.Linear(2)), GATE_SHAPE, select("cpu", seed=2))
    model.save(tmp_path / "gate")
    loaded = nn.load(tmp_path / "gate", "cpu")
    assert (loaded.input_shape, loaded.output_shape) == (GATE_SHAPE, (None, 2))
    np.testing.assert_array_equal(loaded.predict(gate_inputs()), model.predict(gate_inputs()))
    model.network.layers[0].accepts_integers = (False, False, True)


def test_two_outputs_of_a_model_come_as_a_tuple():
    first, second = Model(Halves(), (5,), select("cpu")).predict(np.arange(10.0).reshape(2, 5), batch_size=1)
    assert (first.tolist(), second.tolist()) == ([[0, 1], [5, 6]], [[2, 3, 4], [7, 8, 9]])


@pytest.mark.parametrize(
    ("network", "shape", "message"),
    [
        (nn.Flatten(), (None, 3), r"Flatten: needs axes of fixed length, got shape \(None, 3\)"),
        (nn.Linear(2), (None,), r"Linear: needs an input whose last axis has a fixed length"),
        (nn.Tanh(), (0,), "every axis of an input must be >= 1"),
        (nn.Tanh(), (2.5,), "an axis is a whole number, or None"),
        (nn.Tanh(), 784, r"a tuple, such as \(784,\), not 784"),
        (nn.Tanh(), "wide", "a tuple, such as"),
        (nn.Linear(2), ((4,), (4,)), r"Linear: needs .*, got shape \(\(4,\), \(4,\)\)"),
        (
            nn.Sequential(nn.Flatten()),
            ((4,), (4,)),
            r"layers\.0 \(Flatten\): cannot be built on several inputs, of shapes",
        ),
        (nn.Reshape(8), ((4,), (4,)), "Reshape: cannot be built on several inputs"),
        (nn.SinusoidalPosition(), ((4,), (4,)), "SinusoidalPosition: cannot be built on several inputs"),
        (nn.LearnedPosition(9), ((4,), (4,)), "LearnedPosition: cannot be built on several inputs"),
        (nn.TransformerBlock(2), ((4,), (4,)), "TransformerBlock: needs sequences"),
        (nn.Parallel(nn.Linear(2)), ((4,), (4,)), r"branches\.0 \(Linear\): needs"),
        (nn.Standardize([1.0, 2.0], [1.0, 1.0]), (3,), r"means of shape \(2,\), its input has shape \(3,\)"),
    ],
)
def test_shapes_that_cannot_be(network, shape, message):
    with pytest.raises(ShapeError, match=message):
        Model(network, shape, select("cpu"))


class Doubles(nn.Layer):
    """It reckons with an axis, and with nothing else."""

    def build(self, shape):
        return (2 * shape[0],)


def test_a_type_error_of_a_build_that_reckons_with_a_free_axis_names_the_layer_and_keeps_its_cause():
    message = r"layers\.0 \(Doubles\): cannot be built on an axis of free length, in shape \(None,\): unsupported"
    with pytest.raises(ShapeError, match=message) as raised:
        Model(nn.Sequential(Doubles()), (None,), select("cpu"))
    assert type(raised.value.__cause__) is TypeError


def test_a_type_error_of_a_build_on_a_fixed_shape_is_the_layers_own():
    class Wrong(nn.Layer):
        def build(self, shape):
            return len(3)

    with pytest.raises(TypeError, match="has no len") as raised:
        Model(nn.Sequential(Wrong()), (3,), select("cpu"))
    assert type(raised.value) is TypeError


def test_means_of_features_are_those_of_each_backend():
    layer = nn.Standardize([1.0, 2.0], [0.5, 3.0])
    double = select("cpu", "float64")
    for each, backend in ((layer, select("cpu")), (layer, double), (layer.copy(), double), (layer, select("cpu"))):
        for _ in range(2):
            y, _ = each.forward(np.zeros((1, 2), backend.dtype), backend)
            assert y.dtype == backend.dtype
            np.testing.assert_allclose(y, [[-2, -2 / 3]], rtol=1e-6 if backend is not double else 1e-15)
    assert layer.config() == {"mean": [1.0, 2.0], "std": [0.5, 3.0]}
    assert nn.Standardize(3, 4).config() == {"mean": 3.0, "std": 4.0}


def test_a_walk_through_a_network_does_not_visit_the_mean_of_each_pixel(monkeypatch):
    visited = []
    look = xpnet.nn.layer._inside
    monkeypatch.setattr("xpnet.nn.layer._inside", lambda *args: visited.append(args) or look(*args))
    network = nn.Sequential(nn.Standardize(np.zeros((30, 30)), np.ones((30, 30))), nn.Flatten(), nn.Linear(2))
    assert [path for path, _ in network.walk()] == ["", "layers.0", "layers.1", "layers.2"]
    assert len(visited) < 100
    assert repr(network.layers[0]) == "Standardize(mean=<numbers (30, 30)>, std=<numbers (30, 30)>)"
    assert repr(nn.Standardize([1.0, 2.0], [0.5, 3.0])) == "Standardize(mean=[1.0, 2.0], std=[0.5, 3.0])"


@pytest.mark.parametrize("case", LAYERS, ids=lambda case: f"{case.of}: {case.what}")
def test_the_repr_of_a_layer_is_the_call_that_makes_it(case):
    layer = case.make()
    shown = repr(layer)
    assert repr(eval(shown, {**vars(nn), **vars(nn.init)})) == shown
    layer.built(case.shape)
    assert repr(layer) == shown
    if case.what != "one layer used twice":  # there are two, then
        assert describe(eval(shown, {**vars(nn), **vars(nn.init)})) == describe(layer)


def test_features_may_be_standardised_one_by_one():
    x = np.random.default_rng(0).standard_normal((50, 4, 3)) * [1, 10, 100] + [5, 6, 7]
    mean, std = x.mean(axis=(0, 1)), x.std(axis=(0, 1))
    y = Model(nn.Standardize(mean, std), (4, 3), select("cpu", "float64")).predict(x)
    np.testing.assert_allclose(y, (x - mean) / std, rtol=1e-12)
    with pytest.raises(ValueError, match="they must be equal"):
        nn.Standardize([1.0], [1.0, 2.0])


# Integers -----------------------------------------------------------------------------------------------------


class Table(nn.Layer):
    """The simplest embedding: y = W[x]."""

    accepts_integers = True

    def build(self, shape):
        self.W = nn.Parameter((5, 2), nn.init.he_normal)
        return (*shape, 2)

    def check_input(self, x):
        if x.max(initial=0) >= 5:
            raise ValueError(f"token {x.max()} is outside 0..4")

    def forward(self, x, backend):
        rows = (x.reshape(-1)[:, None] == backend.xp.arange(5)).astype(backend.dtype)

        def backward(dy, need_dx=True):
            self.W.add_grad(rows.T, dy.reshape(-1, 2))

        return backend.matmul(rows, self.W.data).reshape(*x.shape, 2), backward


@pytest.mark.parametrize("first", [nn.Dropout(0), nn.Flatten(), nn.Sequential(nn.Dropout(0), nn.Flatten())])
def test_the_first_layer_that_reads_x_decides_about_integers(first):
    tokens = np.array([[0, 4, 1]])
    model = Model(nn.Sequential(first, Table(), nn.Linear(1)), (3,), select("cpu"))
    assert model.predict(tokens).shape == (1, 3, 1)
    with pytest.raises(ValueError, match=r"token 5 is outside 0\.\.4"):
        model.predict(tokens + 1)
    for refuses in (nn.Dropout(0.5), nn.Residual(nn.Linear(3)), nn.Tanh()):
        model = Model(nn.Sequential(first.copy(), refuses, nn.Linear(1)), (3,), select("cpu"))
        with pytest.raises(TypeError, match=r"begin with nn\.Standardize"):
            model.predict(tokens)


# Parameters and working memory --------------------------------------------------------------------------------


def test_a_parameter_of_any_rank_takes_a_product():
    class Kernel(nn.Layer):
        def build(self, shape):
            self.K = nn.Parameter((3, 3, 2, 4), nn.init.he_normal)
            return shape

        def forward(self, x, backend):
            return x, lambda dy, need_dx=True: self.K.add_grad(x.T, dy[:, :4])

    model = Model(Kernel(), (18,), select("cpu", "float64"))
    x = np.random.default_rng(0).standard_normal((7, 18))
    for times in (1, 2):
        model.forward(x)[1](x)
        np.testing.assert_allclose(model.parameters["K"].grad, times * (x.T @ x[:, :4]).reshape(3, 3, 2, 4))


@KINDS
def test_working_memory_is_kept_by_name_and_dtype(kind):
    backend = kind("float32", 0)
    single, double = backend.scratch("a", (3,)), backend.scratch("a", (3,), np.float64)
    assert (single.dtype, double.dtype) == (np.float32, np.float64)
    assert (backend.ones(3, np.float32).dtype, backend.ones(3, np.float64).dtype) == (np.float32, np.float64)
    assert float(backend.sum_rows(backend.asarray(np.ones((4, 1)), np.float64))[0]) == 4.0


# Names in files -----------------------------------------------------------------------------------------------


def block_in(module, factor):
    class Block(nn.Layer):
        __module__ = module
        __qualname__ = "Block"

        def forward(self, x, backend):
            return factor * x, lambda dy, need_dx=True: factor * dy

    return Block


def test_two_blocks_of_two_modules_are_told_apart_in_files(tmp_path):
    doubles, triples = block_in("first_module", 2.0), block_in("second_module", 3.0)
    for kind, factor in ((doubles, 2), (triples, 3)):
        Model(kind(), (1,), select("cpu")).save(tmp_path / "block")
        assert nn.load(tmp_path / "block", "cpu").predict(np.ones((1, 1))) == factor
    own = block_in("xpnet_like.Tanh", 5.0)  # may bear any name: its module is in the file
    own.__qualname__ = "Tanh"
    assert kind_name(own) == "xpnet_like.Tanh.Tanh"
    assert kind_name(nn.Tanh) == "Tanh"


def test_a_script_that_is_run_has_the_name_it_is_imported_by(monkeypatch):
    block = block_in("__main__", 2.0)
    main = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert kind_name(block) == "__main__.Block"
    main.__file__ = "/somewhere/quick.py"
    assert kind_name(block) == "quick.Block"


def test_a_class_of_layers_takes_no_keywords():
    with pytest.raises(TypeError, match="keyword"):

        class Coloured(nn.Layer, colour="red"):
            pass


# Copies -------------------------------------------------------------------------------------------------------


def test_a_model_of_a_gpu_that_is_not_here_opens_on_the_cpu():
    model = Model(nn.Linear(2), (3,), select("cpu", "float64", seed=5), ("a", "b"))
    rebuild, (network, shape, (_, *rest), *others) = model.__reduce__()
    other = rebuild(network, shape, ("cuda:99", *rest), *others)
    assert (other.backend.device, other.backend.dtype, other.backend.seed) == ("cpu", np.float64, 5)
    np.testing.assert_array_equal(other.data, model.data)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_models_are_copied_and_pickled_whole(copied):
    model = Model(nn.mlp([3, 4, 2]), (3,), select("cpu", "float64", seed=5), ("a", "b"))
    other = copied(model)
    x = np.ones((2, 3))
    np.testing.assert_array_equal(other.predict(x), model.predict(x))
    assert (other.classes, other.backend.seed, other.backend.dtype) == (("a", "b"), 5, np.float64)
    other.data.fill(0)  # its parameters are views of its own
    assert not other.predict(x).any()
    assert model.predict(x).any()


# State that is not trained ------------------------------------------------------------------------------------


class Normalise(nn.Layer):
    """Batch normalisation without scale and shift: y = (x - mean) / sqrt(var + eps), with running statistics."""

    by_sample = False

    def __init__(self, factor=1.0, momentum=0.1):
        self.factor, self.momentum = factor, momentum

    def build(self, shape):
        self.mean = nn.Parameter(shape, nn.init.zeros, trained=False)
        self.var = nn.Parameter(shape, nn.init.constant(1.0), trained=False)
        return shape

    def forward(self, x, backend):
        xp, n = backend.xp, len(x)
        if not backend.training:
            scale = 1 / xp.sqrt(self.var.data + 1e-5)
            return (x - self.mean.data) * scale, lambda dy, need_dx=True: dy * scale
        mean = x.sum(axis=0) / max(n, 1)
        centred = x - mean
        var = (centred * centred).sum(axis=0) / max(n, 1)
        if n > 1:
            self.mean.data[...] = (1 - self.momentum) * self.mean.data + self.momentum * mean
            self.var.data[...] = (1 - self.momentum) * self.var.data + self.momentum * self.factor * var * (n / (n - 1))
        scale = 1 / xp.sqrt(var + 1e-5)
        y = centred * scale

        def backward(dy, need_dx=True):
            n_all = max(n, 1)
            return scale * (dy - dy.sum(axis=0) / n_all - y * ((dy * y).sum(axis=0) / n_all))

        return y, backward


def test_running_statistics_are_part_of_the_proof():
    assert verify.check(Normalise(), (3,)).ok
    with pytest.raises(verify.CheckFailed, match=r"settled state(.|\n)*evaluation and training differ by"):
        verify.check(Normalise(factor=100.0), (3,))
    with pytest.raises(verify.CheckFailed, match="settled state"):
        verify.check(Normalise(factor=1.05), (3,))


def test_state_that_differs_between_devices_or_dtypes_is_found():
    class Drifts(Normalise):
        def forward(self, x, backend):
            result = super().forward(x, backend)
            if backend.training and backend.dtype == np.float32:
                self.mean.data[...] += 1e-3
            return result

    with pytest.raises(verify.CheckFailed, match="agrees with float64"):
        verify.check(Drifts(), (3,))


def test_parity_compares_state_too():
    model = Model(nn.Sequential(Normalise(), nn.Linear(2)), (3,), select("cpu"))
    assert verify.parity(model, steps=3).ok
    rows = verify.parity(model, steps=3).rows
    assert any("state var" in row.what for row in rows)
    assert any("state layers.0.mean" in row.what for row in rows)
