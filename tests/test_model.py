"""A built model: its flat buffers, its files and the bad ones among them, layers of one's own, looking inside."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from xpnet import data, losses, nn, optim, select
from xpnet.backend import Backend, Observer
from xpnet.nn import Model, ModelFileError, Parameter, ShapeError, init
from xpnet.verify.tolerances import LOSS_CURVE


class Scale(nn.Layer):
    """A layer of one's own: y = x times a vector, with an inner layer and an option."""

    def __init__(self, inner: nn.Layer, start: float = 1.0):
        self.inner, self.start = inner, start

    def build(self, shape):
        self.scale = Parameter(shape, init.constant(self.start))
        return self.inner.build(shape)

    def forward(self, x, backend):
        y, inner_backward = self.inner.forward(x * self.scale.data, backend)

        def backward(dy, need_dx=True):
            dh = inner_backward(dy)
            self.scale.add_grad_sum(dh * x)
            return dh * self.scale.data if need_dx else None

        return y, backward


def network() -> nn.Layer:
    return nn.Sequential(nn.Standardize(0.5, 2.0), nn.Linear(6), nn.ReLU(), nn.Dropout(0.25), nn.Linear(3))


def model(backend=None, classes=("a", "b", "c")) -> nn.Model:
    return nn.Model(network(), (4,), backend or Backend("float32", 3), classes)


X = np.random.default_rng(0).standard_normal((7, 4)).astype(np.float32)


# The flat buffers -------------------------------------------------------------------------------------------------


def test_parameters_are_views_into_the_flat_buffers(kind):
    m = model(kind("float32", 0))
    assert list(m.parameters) == ["layers.1.W", "layers.1.b", "layers.4.W", "layers.4.b"]
    assert m.n_parameters == m.data.size == m.grad.size == 4 * 6 + 6 + 6 * 3 + 3
    assert m.n_decay == 4 * 6 + 6 * 3  # the weights, which come first
    m.data.fill(5.0)
    m.grad.fill(-1.0)
    for parameter in m.parameters.values():
        assert (m.backend.to_host(parameter.data) == 5).all()
        assert (m.backend.to_host(parameter.grad) == -1).all()
    m.data[: m.n_decay].fill(7.0)
    decayed = {name for name, values in m.tensors().items() if (values == 7).all()}
    assert decayed == {"layers.1.W", "layers.4.W"}
    m.zero_grad()
    assert (m.backend.to_host(m.grad) == 0).all()


def test_state_that_is_not_trained_comes_last_and_has_no_gradient():
    class Counted(nn.Layer):
        def build(self, shape):
            self.count = Parameter((2,), init.zeros, trained=False)
            self.W = Parameter(shape, init.constant(1.0))
            return shape

    m = nn.Model(nn.Sequential(Counted(), nn.Linear(2)), (3,), Backend())
    assert m.n_parameters == 3 + 6 + 2
    assert m.data.size == m.n_parameters + 2
    count = m.parameters["layers.0.count"]
    assert count.grad is None
    count.data.fill(9.0)
    assert m.data[-2:].tolist() == [9.0, 9.0]


def test_a_layer_used_twice_is_one_layer():
    shared = nn.Linear(4)
    m = nn.Model(nn.Sequential(shared, nn.Tanh(), shared), (4,), Backend("float64"))
    assert list(m.parameters) == ["layers.0.W", "layers.0.b"]
    assert m.n_parameters == 20
    copied = m.network.copy()
    assert copied.layers[0] is copied.layers[2]
    assert copied.layers[0] is not shared


def test_a_network_is_built_once():
    m = model()
    with pytest.raises(
        ValueError, match=r"model\.to\(backend\) to keep its values, or network\.copy\(\) to draw new ones"
    ):
        nn.Model(m.network, (4,), Backend())


def test_another_device_has_the_same_values(kind):
    m = model(Backend("float32", 3))
    there = m.to(kind("float32", 99))
    assert there.classes == m.classes
    assert all(np.array_equal(there.tensors()[name], values) for name, values in m.tensors().items())
    assert np.allclose(there.predict(X), m.predict(X), rtol=0, atol=1e-6)
    there.data.fill(0.0)
    assert m.data.any()


def test_predict_is_without_dropout_in_batches_of_any_size(kind):
    m = model(kind("float32", 3))
    with m.backend.mode(training=True):
        whole = m.predict(X)
        assert m.backend.training
    assert isinstance(whole, np.ndarray)
    assert np.allclose(m.predict(X, batch_size=2), whole, rtol=0, atol=1e-6)
    assert m.predict(X[:0]).shape == (0, 3)
    assert np.allclose(m.probabilities(X).sum(axis=1), 1.0)
    assert (m.probabilities(X).argmax(axis=1) == whole.argmax(axis=1)).all()


def test_inputs_that_do_not_fit(kind):
    m = model(kind("float32", 3))
    with pytest.raises(ShapeError, match=r"takes samples of shape \(4,\), got \(5,\)"):
        m.forward(m.backend.asarray(np.zeros((2, 5))))
    with pytest.raises(TypeError, match="runs in float32, its input is float64"):
        m.forward(m.backend.xp.zeros((2, 4), dtype=np.float64))
    with pytest.raises(TypeError, match=r"put it there with backend\.asarray"):
        m.forward([[0.0] * 4])


def test_one_sample_without_a_batch_axis_is_told_of_it():
    m = Model(nn.Sequential(nn.Flatten(), nn.Linear(3)), (2, 2), select("cpu"))
    for one in (np.zeros((2, 2)), np.zeros(4)):
        with pytest.raises(ShapeError, match=r"do not fit .*: one sample needs a batch axis, x\[None\]$"):
            m.predict(one)
    with pytest.raises(ShapeError, match=r"do not fit a model that takes \(2, 2\)$"):
        m.predict(np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("layer", "shape", "x", "message"),
    [
        (nn.Linear(3), (None, 4), np.zeros((2, 8)), r"\(8,\) do not fit a model that takes \(None, 4\)"),
        (nn.Linear(3), (4,), (np.zeros((2, 4)),) * 2, r"\(\(4,\), \(4,\)\) do not fit a model that takes \(4,\)"),
        (nn.RNN(3, mask=True), ((5, 4), (5,)), np.zeros((2, 20)), r"\(20,\) do not fit .* \(\(5, 4\), \(5,\)\)"),
    ],
    ids=["free length", "two for one", "one for two"],
)
def test_rows_are_given_another_shape_only_where_both_are_whole(layer, shape, x, message):
    with pytest.raises(ShapeError, match=message):
        Model(layer, shape, select("cpu")).predict(x)


def test_a_data_set_is_not_what_predict_takes():
    m = Model(nn.Linear(3), (4,), select("cpu"))
    with pytest.raises(TypeError, match=r"predict takes samples, such as data\.x, not a data set"):
        m.predict(data.Dataset(np.zeros((2, 4)), np.zeros(2, int)))


def test_a_device_is_a_backend_and_no_name():
    wanted = r"a backend is what xpnet\.select\(\"cpu\"\) gives, not 'cpu'"
    with pytest.raises(TypeError, match=wanted):
        Model(nn.Linear(3), (4,), "cpu")
    with pytest.raises(TypeError, match=wanted):
        Model(nn.Linear(3), (4,), select("cpu")).to("cpu")


@pytest.mark.parametrize(("activation", "words"), [("relu", "'relu'"), (nn.ReLU(), "a ReLU"), (None, "None")])
def test_the_activation_of_an_mlp_is_a_class(activation, words):
    with pytest.raises(TypeError, match=f"an activation is a class of layers, such as nn.ReLU, not {words}"):
        nn.mlp([4, 3, 2], activation)


def test_class_names_must_be_as_many_as_outputs():
    with pytest.raises(ShapeError, match="2 class names for 3 outputs"):
        model(classes=("a", "b"))


def test_float32_and_float64_learn_along_the_same_curve(kind):
    """50 steps of training from the same seed: what rounding adds stays small."""
    rng = np.random.default_rng(1)
    x, labels = rng.standard_normal((64, 8)).astype(np.float32), rng.integers(0, 3, 64)

    def curve(backend):
        m, loss = nn.Model(nn.mlp([8, 16, 3]), (8,), backend), losses.SoftmaxCrossEntropy()
        optimizer, values = optim.Adam(m, lr=0.01), []
        on_device, target = backend.asarray(x), backend.asarray(labels)
        for _ in range(50):
            m.zero_grad()
            y, backward = m.forward(on_device)
            value, dy = loss(y, target, backend)
            backward(dy, need_dx=False)
            optimizer.step()
            values.append(float(backend.to_host(value)))
        return np.array(values)

    single, double = curve(kind("float32", 5)), curve(Backend("float64", 5))
    assert double[-1] < 0.8 * double[0]
    assert (np.abs(single - double) / double).max() < LOSS_CURVE


# Files ------------------------------------------------------------------------------------------------------------


def test_saved_and_loaded_is_the_same_bit_for_bit(tmp_path):
    m = model()
    m.save(tmp_path / "m.safetensors")
    loaded = nn.load(tmp_path / "m.safetensors", "cpu")
    assert repr(loaded.network) == repr(m.network)
    assert (loaded.input_shape, loaded.classes, loaded.backend.dtype) == ((4,), ("a", "b", "c"), np.dtype("float32"))
    assert np.array_equal(loaded.predict(X), m.predict(X))
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]
    in_double = nn.load(tmp_path / "m.safetensors", "cpu", dtype="float64")
    assert np.array_equal(in_double.tensors()["layers.1.W"], m.tensors()["layers.1.W"].astype(np.float64))


def test_layers_of_ones_own_options_and_sharing_survive(tmp_path):
    shared = nn.Linear(4, init=init.uniform(0.25), bias=False)
    m = nn.Model(nn.Sequential(Scale(shared, 2.5), nn.LeakyReLU(0.3), shared), (4,), Backend("float64"))
    m.save(tmp_path / "own.safetensors")
    loaded = nn.load(tmp_path / "own.safetensors", "cpu")
    assert repr(loaded.network) == repr(m.network)
    assert loaded.network.layers[0].inner is loaded.network.layers[2]
    assert repr(loaded.network.layers[2].init) == "uniform(0.25)"
    assert np.array_equal(loaded.predict(X.astype(np.float64)), m.predict(X.astype(np.float64)))


class Named(nn.Layer):
    """Its arguments have the names that files use for other things."""

    def __init__(self, layer: nn.Layer, initializer, value: float, same_as: nn.Layer):
        self.layer, self.initializer, self.value, self.same_as = layer, initializer, value, same_as

    def build(self, shape):
        return self.layer.built(shape)

    def forward(self, x, backend):
        return self.layer(x, backend)


@pytest.mark.parametrize("initializer", [init.constant(0.5), "he_normal"])
def test_an_argument_may_have_any_name(initializer, tmp_path):
    inner = nn.Linear(3)
    m = nn.Model(nn.Sequential(Named(inner, initializer, 2.0, inner), nn.ReLU()), (4,), Backend())
    m.save(tmp_path / "named.safetensors")
    loaded = nn.load(tmp_path / "named.safetensors", "cpu")
    assert repr(loaded.network) == repr(m.network)
    assert loaded.network.layers[0].same_as is loaded.network.layers[0].layer
    assert np.array_equal(loaded.predict(X), m.predict(X))


def test_an_option_that_was_not_kept_is_named():
    class Forgetful(nn.Layer):
        def __init__(self, width):
            self.n = width

    with pytest.raises(TypeError, match=r"Forgetful cannot be saved or copied: .*'width'"):
        Forgetful(3).copy()


def test_classes_of_one_name_are_not_mixed_up_in_a_file(tmp_path):
    """A function that defines a class defines another one each time: the last of them would be read for all."""

    def scaled_by(factor):
        class Scaled(nn.Layer):
            def forward(self, x, backend):
                return factor * x, lambda dy, need_dx=True: factor * dy

        return Scaled()

    twice, half = (nn.Model(layer, (2,), Backend()) for layer in (scaled_by(2), scaled_by(0.5)))
    with pytest.raises(
        TypeError,
        match=r"another layer class is called .*<locals>\.Scaled by now: define the class once, and pass what",
    ):
        twice.save(tmp_path / "twice.safetensors")
    half.save(tmp_path / "half.safetensors")
    scaled_by(0.5)  # another class, which does the same
    half.save(tmp_path / "half.safetensors")
    assert nn.load(tmp_path / "half.safetensors", "cpu").predict(np.ones((1, 2))).tolist() == [[0.5, 0.5]]


def test_what_was_there_survives_a_failed_save(tmp_path):
    class Unsaveable(nn.Layer):
        def __init__(self, what):
            self.what = what

        def forward(self, x, backend):
            return x, lambda dy, need_dx=True: dy

    path = tmp_path / "m.safetensors"
    m = model()
    m.save(path)
    before = path.read_bytes()
    with pytest.raises(TypeError, match="only numbers, strings, lists and layers can be saved"):
        nn.Model(Unsaveable({1: 2}), (4,), Backend()).save(path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(FileNotFoundError):
        m.save(tmp_path / "no such folder" / "m.safetensors")


def rewritten(path, change_tensors=None, change_described=None):
    """The saved model with its tensors or its description changed."""
    m = model()
    m.save(path)
    tensors = load_file(path)
    described = json.loads(json.dumps(nn.saving.description(m)))
    for change, what in ((change_tensors, tensors), (change_described, described)):
        if change:
            change(what)
    save_file(tensors, path, metadata={"xpnet": json.dumps(described)})


def renamed_tensor(tensors):
    tensors["layers.9.W"] = tensors.pop("layers.1.W")


@pytest.mark.parametrize(
    ("tensors", "described", "message"),
    [
        (lambda t: t.pop("layers.1.W"), None, r"is not a model: tensors are missing: \['layers.1.W'\]$"),
        (renamed_tensor, None, r"tensors belong to no layer: \['layers.9.W'\]$"),
        (lambda t: t.update({"layers.1.W": t["layers.1.W"].T.copy()}), None, r"layers.1.W has shape \(6, 4\)"),
        (lambda t: t["layers.4.b"].fill(np.nan), None, "layers.4.b holds values that are not finite"),
        (None, lambda d: d.update(format=99), "model format is 99, but this version of xpnet reads 1"),
        (None, lambda d: d.pop("network"), "is not a model: KeyError 'network'"),
        (None, lambda d: d.update(input_shape=[5]), r"layers.1.W has shape \(4, 6\), the network needs \(5, 6\)"),
        (None, lambda d: d.update(input_shape="wide"), "the shape of a sample is a tuple"),
        (None, lambda d: d["network"].update(layer="Quantum"), "layer 'Quantum', which is not known here"),
        (None, lambda d: d["network"].update(layer="Model"), "layer 'Model', which is not known here"),
        (None, lambda d: d["network"]["layers"][1].update(n_out=-3), "a layer Linear cannot be made"),
        (None, lambda d: d["network"]["layers"][1].update(colour=1), "Linear takes no colour"),
        (None, lambda d: d["network"]["layers"][1]["init"].update(initializer="magic"), "unknown initializer"),
        (None, lambda d: d["network"]["layers"].append({"same_as": 77}), "is not a model: KeyError 77"),
        (None, lambda d: d.update(dtype="float16"), "float16"),
        (None, lambda d: d.update(classes=["a"]), "1 class names for 3 outputs"),
    ],
)
def test_files_that_are_no_whole_model(tmp_path, tensors, described, message):
    path = tmp_path / "bad.safetensors"
    rewritten(path, tensors, described)
    with pytest.raises(ModelFileError, match=message):
        nn.load(path, "cpu")


def test_files_cut_short_anywhere(tmp_path):
    path = tmp_path / "m.safetensors"
    model().save(path)
    whole = path.read_bytes()
    for length in (0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelFileError, match="not a complete safetensors file"):
            nn.load(path, "cpu")


def test_files_that_are_something_else(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"a": np.zeros(3)}, path)
    with pytest.raises(ModelFileError, match="not one that xpnet has written"):
        nn.load(path, "cpu")
    save_file({"a": np.zeros(3)}, path, metadata={"xpnet": "{not json"})
    with pytest.raises(ModelFileError, match="not one that xpnet has written"):
        nn.load(path, "cpu")
    path.write_bytes(b"\x80\x04\x95 a pickle, say" * 20)
    with pytest.raises(ModelFileError, match="not a complete safetensors file"):
        nn.load(path, "cpu")
    reads, converts = "weights.load reads", "weights.load says how to convert"
    for name, reader in (
        ("x.onnx", "onnx.load reads"),
        ("x.weights.h5", reads),
        ("x.PT", converts),
        ("x.keras", converts),
    ):
        (tmp_path / name).write_bytes(b"of another kind")
        with pytest.raises(ModelFileError, match=rf"safetensors file: in Python, xpnet\.{reader} such files"):
            nn.load(tmp_path / name, "cpu")
    with pytest.raises(FileNotFoundError, match="a folder"):
        nn.load(tmp_path, "cpu")
    with pytest.raises(FileNotFoundError, match="no such file"):
        nn.load(tmp_path / "nowhere", "cpu")


# Looking inside ---------------------------------------------------------------------------------------------------


class Seen(Observer):
    """Writes down what it is told of the layers that hold no others."""

    def __init__(self, network):
        self.paths = {id(layer): path for path, layer in network.walk() if not any(layer.children())}
        self.calls = []

    def _see(self, layer, what, array):
        if id(layer) in self.paths:
            self.calls.append((self.paths[id(layer)], type(layer).__name__, what, array))

    def forward(self, layer, x, y):
        self._see(layer, "forward", y)

    def backward(self, layer, dy, dx):
        self._see(layer, "backward", dx)


def test_an_observer_is_told_of_outputs_and_input_gradients_in_order():
    m = model(Backend("float64", 3))
    seen = Seen(m.network)
    with m.backend.observed_by(seen):
        y, backward = m.forward(X.astype(np.float64))
        dx = backward(np.ones_like(y))
    paths = [f"layers.{i}" for i in range(5)]
    assert [s[:3:2] for s in seen.calls] == [(p, "forward") for p in paths] + [(p, "backward") for p in paths[::-1]]
    assert [s[1] for s in seen.calls[:5]] == ["Standardize", "Linear", "ReLU", "Dropout", "Linear"]
    assert seen.calls[4][3] is y
    assert seen.calls[-1][3] is dx
    seen.calls.clear()
    _, backward = m.forward(X.astype(np.float64))
    assert not seen.calls
    with m.backend.observed_by(seen):
        _, backward = m.forward(X.astype(np.float64))
        backward(np.ones_like(y), need_dx=False)
    # What has no parameters below it is not asked for a gradient; the lowest that has, for none of its input.
    assert [(path, array is None) for path, _, what, array in seen.calls if what == "backward"] == [
        ("layers.4", False),
        ("layers.3", False),
        ("layers.2", False),
        ("layers.1", True),
    ]


def test_an_observer_is_gone_after_an_error_too():
    class Refuses(Observer):
        def forward(self, layer, x, y):
            raise RuntimeError("seen enough")

    m = model(Backend("float64", 3))
    with pytest.raises(RuntimeError, match="seen enough"), m.backend.observed_by(Refuses()):
        m.forward(X.astype(np.float64))
    m.forward(X.astype(np.float64))
    assert "observer" not in vars(m.backend)


def test_whole_numbers_go_only_where_a_layer_takes_them():
    backend, pixels = select("cpu"), np.ones((2, 3), np.uint8)
    with pytest.raises(TypeError, match="its input is uint8: convert it"):
        Model(nn.Sequential(nn.Flatten(), nn.Sigmoid()), (3,), backend).predict(pixels)
    outputs = Model(nn.Sequential(nn.Flatten(), nn.Standardize(0, 1), nn.Sigmoid()), (3,), backend).predict(pixels)
    assert outputs.dtype == np.float32


class Blocks(nn.Layer):
    """Layers and parameters in lists, tuples and dicts, and a tuple as an argument."""

    def __init__(self, first, *layers, scale=(1.0, 2.0)):
        self.first, self.layers, self.scale = first, layers, scale
        self.table = {"deep": [nn.Linear(2)]}

    def build(self, shape):
        self.gains = [nn.Parameter(shape, nn.init.constant(g)) for g in self.scale]
        for layer in (self.first, *self.layers, self.table["deep"][0]):
            layer.built(shape)
        return shape

    def forward(self, x, backend):
        return x * self.gains[0].data * self.gains[1].data, lambda dy, need_dx=True: dy


def test_everything_inside_a_layer_is_found_and_copied(tmp_path):
    model = Model(Blocks(nn.Linear(2), nn.Linear(2)), (2,), select("cpu"))
    names = ["gains.0", "gains.1", "first.W", "first.b", "layers.0.W", "layers.0.b", "table.deep.0.W", "table.deep.0.b"]
    assert list(model.parameters) == names
    assert model.to(select("cpu")).network.scale == (1.0, 2.0)
    model.save(tmp_path / "blocks")
    np.testing.assert_array_equal(nn.load(tmp_path / "blocks", "cpu").predict(np.ones((1, 2))), [[2, 2]])


def test_a_copy_has_layers_of_its_own_in_dicts_too():
    class Choice(nn.Layer):
        def __init__(self, parts):
            self.parts = parts

    inner = nn.Linear(2)
    copy = Choice({"one": inner, "rest": [inner, nn.ReLU()]}).copy()
    assert repr(copy) == repr(Choice({"one": inner, "rest": [inner, nn.ReLU()]}))
    assert copy.parts["one"] is copy.parts["rest"][0] is not inner


@pytest.mark.parametrize("shape", [(2,), (None,)])
def test_a_build_that_returns_nothing_is_named(shape):
    class Forgetful(nn.Layer):
        def build(self, shape):
            pass

    with pytest.raises(
        TypeError, match=r"layers\.0\.layers\.0 \(Forgetful\): build must return the shape of one output"
    ):
        Model(nn.Sequential(nn.Sequential(Forgetful())), shape, select("cpu"))


def test_a_layer_used_twice_on_different_shapes_is_a_shape_error():
    layer = nn.Linear(4)
    with pytest.raises(nn.ShapeError, match=r"layers\.0 \(Linear\): is used twice, on shape \(3,\) and on \(4,\)"):
        Model(nn.Sequential(layer, layer), (3,), select("cpu"))


class Picky(nn.Layer):
    """Declares one parameter for two numbers, which it then refuses, and another one for more."""

    def build(self, shape):
        if shape == (2,):
            self.of_two = nn.Parameter(shape, nn.init.zeros)
            raise nn.ShapeError("needs more than two")
        self.of_more = nn.Parameter(shape, nn.init.zeros)
        return shape


def test_nothing_is_left_of_a_model_that_could_not_be_made():
    """Attention has other layers inside for two sequences than for one."""
    attention, picky = nn.MultiHeadAttention(2), Picky()
    with pytest.raises(nn.ShapeError, match="1 class names for 8 outputs"):
        Model(attention, ((5, 8), (3, 4)), select("cpu"), classes=("a",))
    with pytest.raises(nn.ShapeError, match="needs more than two"):
        Model(picky, (2,), select("cpu"))
    assert list(Model(attention, (5, 8), select("cpu")).parameters) == ["qkv.W", "qkv.b", "out.W", "out.b"]
    assert [path for path, _ in attention.walk()] == ["", "qkv", "out"]
    assert list(Model(picky, (3,), select("cpu")).parameters) == ["of_more"]


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"W": np.ones((3, 2)), "b": np.ones(3)}, "W has shape"),
        ({"W": np.ones((2, 3))}, "are missing"),
        ({"W": np.full((2, 3), np.nan), "b": np.ones(3)}, "not finite"),
        ({"W": np.ones((2, 3)), "b": np.array([1.0, np.inf, 1.0])}, "b holds values that are not finite"),
        ({"W": np.full((2, 3), 1e300), "b": np.ones(3)}, "not finite in float32"),
        ({"W": np.ones((2, 3), int), "b": np.ones(3)}, "holds int64"),
    ],
)
def test_tensors_that_do_not_fit(tensors, message):
    with pytest.raises(ValueError, match=message):
        Model(nn.Linear(3), (2,), select("cpu"), tensors=tensors)


def test_probabilities_are_over_the_last_axis():
    model = Model(nn.Linear(3), (4, 2), select("cpu", "float64"))
    probabilities = model.probabilities(np.random.default_rng(0).standard_normal((5, 4, 2)))
    np.testing.assert_allclose(probabilities.sum(axis=-1), np.ones((5, 4)), rtol=1e-12)


def test_an_initializer_that_no_file_can_name_is_refused_when_it_is_saved(tmp_path):
    mine = nn.init.Initializer("mine", lambda rng, shape: np.ones(shape))
    model = Model(nn.Linear(3, init=mine), (2,), select("cpu"))
    with pytest.raises(ValueError, match="unknown initializer 'mine'"):
        model.save(tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


def test_of_nested_observers_the_inner_one_is_told():
    model = Model(nn.Sequential(nn.Tanh()), (2,), select("cpu"))
    outer, inner = Seen(model.network), Seen(model.network)
    with model.backend.observed_by(outer):
        with model.backend.observed_by(inner):
            model.predict(np.ones((1, 2)))
        model.predict(np.ones((1, 2)))
    model.predict(np.ones((1, 2)))
    assert (len(outer.calls), len(inner.calls)) == (1, 1)


def test_a_forward_that_does_not_keep_to_the_contract_is_named():
    class Half(nn.Layer):
        def forward(self, x, backend):
            return x

    class Liar(nn.Layer):
        def build(self, shape):
            return (7,)

        def forward(self, x, backend):
            return x, lambda dy, need_dx=True: dy

    for inside in (lambda layer: layer, lambda layer: nn.Sequential(nn.Tanh(), nn.Residual(nn.Sequential(layer)))):
        path = "" if inside(Half()).__class__ is Half else r"layers\.1\.layers\.0\.layers\.0 \("
        with pytest.raises(nn.ContractError, match=rf"^{path}Half\)?: forward must return \(y, backward\)"):
            Model(inside(Half()), (2,), select("cpu")).predict(np.ones((1, 2)))
    with pytest.raises(ShapeError, match=r"layers\.0 \(Liar\): build said .* shape \(7,\), forward gave \(2,\)"):
        Model(nn.Sequential(Liar()), (2,), select("cpu")).predict(np.ones((1, 2)))


def test_the_probabilities_of_a_single_output_are_those_of_two_classes():
    model = Model(nn.Linear(1), (1,), select("cpu"), tensors={"W": np.ones((1, 1)), "b": np.zeros(1)})
    np.testing.assert_allclose(model.probabilities(np.array([[0.0], [2.0]])), [[0.5, 0.5], [0.1192, 0.8808]], atol=1e-4)


@pytest.mark.parametrize("y", [-20.0, 3.0, 30.0, 80.0])
def test_small_probabilities_of_a_single_output_keep_their_digits(y):
    model = Model(nn.Linear(1), (1,), select("cpu"), tensors={"W": np.ones((1, 1)), "b": np.zeros(1)})
    expected = [[1 / (1 + np.exp(y)), 1 / (1 + np.exp(-y))]]
    np.testing.assert_allclose(model.probabilities(np.array([[y]])), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("last", "given"),
    [
        (nn.Softmax(), lambda y: np.exp(y) / np.exp(y).sum(axis=-1, keepdims=True)),
        (nn.LogSoftmax(), lambda y: np.exp(y) / np.exp(y).sum(axis=-1, keepdims=True)),
        (nn.Sigmoid(), lambda y: 1 / (1 + np.exp(-y))),
        (nn.Sequential(nn.Sequential(nn.Softmax())), lambda y: np.exp(y) / np.exp(y).sum(axis=-1, keepdims=True)),
        (nn.Blocked(nn.Softmax()), lambda y: np.exp(y) / np.exp(y).sum(axis=-1, keepdims=True)),
        (
            nn.Sequential(nn.Softmax(), nn.Sequential(nn.Dropout(0.5), nn.Reshape(3))),
            lambda y: np.exp(y) / np.exp(y).sum(axis=-1, keepdims=True),
        ),
    ],
    ids=["softmax", "log softmax", "sigmoid", "in sequences", "in blocks", "before what keeps values"],
)
def test_probabilities_of_a_network_that_gives_them_are_its_own(last, given):
    x = np.random.default_rng(0).standard_normal((5, 3))
    model = Model(nn.Sequential(nn.Flatten(), last), (3,), select("cpu", "float64"))
    np.testing.assert_allclose(model.probabilities(x), given(x), rtol=1e-12)


def test_the_probability_that_a_single_output_gives_is_that_of_class_1():
    model = Model(nn.Sequential(nn.Sigmoid()), (1,), select("cpu"))
    np.testing.assert_allclose(model.probabilities(np.array([[2.0]])), [[0.1192, 0.8808]], atol=1e-4)


def test_a_softmax_inside_a_sum_is_not_the_end():
    """As many numbers as classes, which need not sum to 1."""
    model = Model(nn.Residual(nn.Softmax()), (3,), select("cpu", "float64"))
    np.testing.assert_allclose(model.probabilities(np.ones((2, 3))).sum(axis=-1), [1, 1], rtol=1e-12)


def test_several_inputs_hold_as_many_samples():
    """The rows of one would be left out, or one row be given to all."""
    columns = nn.Columns(["a"], [0.0], [1.0], [0.0], ["c"], [["x", "y"]], [0])
    model = Model(columns, ((1,), (1,)), select("cpu"))
    for n, m in ((3, 6), (4, 1), (6, 3)):
        x = np.ones((n, 1)), np.ones((m, 1), np.int64)
        with pytest.raises(ShapeError, match=f"the inputs have {n}, {m} samples, but all must have the same number"):
            model.predict(x, batch_size=3)
        with pytest.raises(ShapeError, match=f"have {n}, {m} samples"):
            model.forward(tuple(map(model.backend.asarray, x)))
    assert model.predict((np.ones((3, 1)), np.ones((3, 1), np.int64)), batch_size=2).shape == (3, 3)


class Fickle(nn.Layer):
    """Gives one column less in the passes for which `wrong(x, backend)` holds."""

    def forward(self, x, backend):
        y = x[:, :-1] if self.wrong(x, backend) else x
        return y, lambda dy, need_dx=True: dy


@pytest.mark.parametrize(
    ("training", "n", "wrong"),
    [
        pytest.param(True, 2, lambda x, backend: backend.training, id="another mode"),
        pytest.param(False, 3, lambda x, backend: len(x) == 3, id="another batch size"),
    ],
)
def test_layers_are_checked_in_each_mode_and_for_each_batch_size(training, n, wrong):
    layer = Fickle()
    layer.wrong = wrong
    built = nn.Model(nn.Sequential(layer), (4,), Backend())
    for _ in range(2):
        built.forward(np.ones((2, 4), np.float32))
    with (
        pytest.raises(ShapeError, match=r"layers.0 \(Fickle\): build said .* \(4,\), forward gave \(3,\)"),
        built.backend.mode(training),
    ):
        built.forward(np.ones((n, 4), np.float32))


def test_a_pass_that_went_well_says_nothing_of_other_inputs_or_layers():
    built = model()
    x = np.ones((2, 4), np.float32)
    for _ in range(2):
        built.forward(x)
    with pytest.raises(TypeError, match="runs in float32, its input is float64"):
        built.forward(x.astype(np.float64))
    with pytest.raises(TypeError, match=r"its input is a builtins\.list"):
        built.forward(x.tolist())

    layer = Fickle()  # run by itself on the same backend: nobody has seen it
    layer.wrong = lambda x, backend: True
    nn.model.declare(layer, (4,))
    with pytest.raises(ShapeError, match="forward gave"):
        layer(x, built.backend)


def test_an_error_in_a_known_pass_ends_the_trust():
    layer = Fickle()
    layer.wrong = lambda x, backend: False
    built = nn.Model(nn.Sequential(layer), (4,), Backend())
    x = np.ones((2, 4), np.float32)
    built.forward(x)
    layer.wrong = None
    with pytest.raises(TypeError, match="not callable"):
        built.forward(x)
    layer.wrong = lambda x, backend: True
    with pytest.raises(ShapeError, match="forward gave"):
        layer(x, built.backend)


def test_a_network_is_a_layer():
    for wrong in ([nn.Linear(3)], nn.Linear):
        with pytest.raises(TypeError, match="a network is a layer, such as"):
            nn.Model(wrong, (4,), Backend())


def test_a_model_is_loaded_by_the_folder_of_its_run_too(tmp_path):
    model = Model(nn.mlp([3, 2]), (3,), select("cpu"))
    model.save(tmp_path / "model.safetensors")
    for folder in (tmp_path, str(tmp_path)):
        assert nn.load(folder, "cpu").data.tobytes() == model.data.tobytes()
    (tmp_path / "other").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no model at .*other: a folder"):
        nn.load(tmp_path / "other")
