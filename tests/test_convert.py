"""The scalar network as a model and back: the same outputs and gradients, whichever engine computes them."""

import os
import random
from pathlib import Path

import numpy as np
import pytest

import xpnet
from xpnet import data, losses, nn, train
from xpnet.photo import shipped_model_path
from xpnet.scalar import BasicNet, Value, cross_entropy, from_model, to_model
from xpnet.train import recipes

TOLERANCE = {"rtol": 1e-12, "atol": 1e-12}

NETWORKS = [
    ([5, 4], ["linear"]),
    ([5, 4], ["relu"]),
    ([6, 5, 4, 3], ["relu", "tanh", "sigmoid"]),
    ([6, 5, 4, 3], ["linear", "sigmoid", "linear"]),
    ([784, 10, 10], None),
]


def cpu() -> xpnet.Backend:
    return xpnet.select("cpu", "float64")


def network(sizes, activations, seed=1) -> BasicNet:
    """A random network, with biases too."""
    net = BasicNet.random(sizes, activations, seed)
    rng = random.Random(seed)
    for layer in net.layers:
        for neuron in layer.neurons:
            neuron.bias.data = rng.uniform(-0.5, 0.5)
    return net


def scalar_pass(net: BasicNet, sample: list[float], label: int):
    """Outputs, loss, gradients of the inputs and of each layer's W and b, in the shapes that a model has."""
    inputs = [Value(x) for x in sample]
    outputs = net.feed(inputs)
    loss = cross_entropy(outputs, label)
    loss.backward()
    gradients = []
    for layer in net.layers:
        gradients.append(np.array([[w.grad for w in n.weights] for n in layer.neurons]).T)
        gradients.append(np.array([n.bias.grad for n in layer.neurons]))
    return [y.data for y in outputs], loss.data, [x.grad for x in inputs], gradients


def model_pass(model: nn.Model, sample: list[float], label: int):
    """The same from a model."""
    backend = model.backend
    y, backward = model.forward(backend.asarray(np.array([sample])))
    loss, dy = losses.SoftmaxCrossEntropy()(y, backend.asarray(np.array([label])), backend)
    dx = backward(dy)
    host = backend.to_host
    return host(y)[0], float(host(loss)), host(dx)[0], [host(p.grad) for p in model.parameters.values()]


def assert_same_passes(net: BasicNet, model: nn.Model, sample: list[float], label: int) -> None:
    y, loss, dx, gradients = scalar_pass(net, sample, label)
    y_model, loss_model, dx_model, gradients_model = model_pass(model, sample, label)
    np.testing.assert_allclose(y_model, y, **TOLERANCE)
    np.testing.assert_allclose(loss_model, loss, **TOLERANCE)
    np.testing.assert_allclose(dx_model, dx, **TOLERANCE)
    assert len(gradients) == len(gradients_model)
    for one, other in zip(gradients_model, gradients, strict=True):
        np.testing.assert_allclose(one, other, **TOLERANCE)
    assert any(np.abs(gradient).max() > 1e-3 for gradient in gradients)


@pytest.mark.parametrize(("sizes", "activations"), NETWORKS)
def test_outputs_and_gradients_are_the_same(kind, sizes, activations):
    net = network(sizes, activations)
    rng = random.Random(2)
    sample = [rng.uniform(-1, 1) for _ in range(sizes[0])]
    assert_same_passes(net, to_model(net, kind("float64", 0)), sample, label=1)


@pytest.mark.parametrize(("sizes", "activations"), NETWORKS)
def test_there_and_back_gives_the_same_numbers(sizes, activations):
    net = network(sizes, activations)
    again = from_model(to_model(net, cpu()))
    assert [layer.activation for layer in again.layers] == [layer.activation for layer in net.layers]
    assert [p.data for p in again.get_parameters()] == [p.data for p in net.get_parameters()]


def test_a_model_as_a_scalar_network():
    model = nn.Model(nn.mlp([7, 6, 5, 3], nn.Tanh), (7,), xpnet.select("cpu", "float64", seed=3))
    model.data += 0.01  # so that no bias is 0
    net = from_model(model)
    assert repr(net) == "input(*) -> hidden(6x7) -> hidden(5x6) -> output(3x5)"
    assert_same_passes(net, model, [0.1 * i for i in range(7)], label=2)


def test_sequences_in_sequences_and_a_bare_layer():
    inner = nn.Sequential(nn.ReLU(), nn.Sequential(nn.Linear(3), nn.Sigmoid()))
    model = nn.Model(nn.Sequential(nn.Linear(4), inner), (2,), cpu())
    assert [layer.activation for layer in from_model(model).layers] == ["relu", "sigmoid"]
    assert repr(from_model(nn.Model(nn.Linear(4), (2,), cpu()))) == "input(*) -> output(4x2)"


def test_a_model_in_float32_is_taken_as_it_is_and_a_network_is_rounded_to_it():
    model = nn.Model(nn.mlp([3, 2]), (3,), xpnet.select("cpu", "float32"))
    net = from_model(model)
    assert [w.data for w in net.layers[0].neurons[0].weights] == model.network.layers[0].W.data[:, 0].tolist()
    again = to_model(net, xpnet.select("cpu", "float32"))
    np.testing.assert_array_equal(again.data, model.data)
    assert again.data.dtype == np.float32


def test_the_two_are_independent():
    net = network([3, 2], None)
    model = to_model(net, cpu())
    before = [p.data for p in net.get_parameters()]
    model.data.fill(0)
    assert [p.data for p in net.get_parameters()] == before


SHARED = nn.Linear(3)


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        (nn.Sequential(nn.Linear(3), nn.GELU()), r"layers.1 \(GELU\) has no counterpart"),
        (nn.Sequential(nn.Linear(3), nn.Standardize(0, 1)), r"layers.1 \(Standardize\) has no counterpart"),
        (
            nn.Sequential(nn.Standardize([0, 1, 2], [1, 1, 1]), nn.Linear(3)),
            r"layers.0 \(Standardize\) has a mean for each feature",
        ),
        (nn.Sequential(nn.Linear(3), nn.Flatten()), r"layers.1 \(Flatten\) has no counterpart"),
        (nn.Sequential(nn.Standardize(0, 1), nn.ReLU(), nn.Linear(3)), r"layers.1 \(ReLU\) has no counterpart"),
        (nn.Sequential(nn.Standardize(0, 1), nn.Flatten()), "at least one layer"),
        (nn.Sequential(nn.ReLU(), nn.Linear(3)), r"layers.0 \(ReLU\) .* each followed by one of"),
        (nn.Sequential(nn.Linear(3), nn.ReLU(), nn.Tanh()), r"layers.2 \(Tanh\) .* each followed by one of"),
        (nn.Sequential(nn.Linear(3), nn.Residual(nn.Linear(3))), r"layers.1 \(Residual\) has no counterpart"),
        (nn.Sequential(nn.Sequential(nn.Linear(3), nn.Softmax())), r"layers.0.layers.1 \(Softmax\)"),
        (nn.Sequential(nn.Linear(3, bias=False)), r"layers.0 \(Linear\) has no bias"),
        (nn.Sequential(SHARED, SHARED), r"layers.1 \(Linear\) is used twice"),
        (nn.GELU(), r"the network \(GELU\) has no counterpart"),
        (nn.Sequential(), "at least one layer"),
    ],
)
def test_what_has_no_counterpart_is_a_clear_error(layer, says):
    with pytest.raises(ValueError, match=says):
        from_model(nn.Model(layer, (3,), cpu()))


@pytest.mark.parametrize("first", [[], [nn.Standardize(0.5, 2)]])
def test_samples_must_be_rows(first):
    with pytest.raises(ValueError, match=r"takes a row of numbers, but this model takes \(2, 3\), and has no Flatten"):
        from_model(nn.Model(nn.Sequential(*first, nn.Linear(4)).copy(), (2, 3), cpu()))


@pytest.mark.parametrize(
    "first",
    [
        [nn.Flatten()],
        [nn.Flatten(), nn.Standardize(33.3, 78.6)],
        [nn.Standardize(33.3, 78.6), nn.Flatten()],
        [nn.Sequential(nn.Standardize(100, 0.5), nn.Flatten()), nn.Standardize(-7, 300)],
    ],
)
def test_flatten_and_standardize_before_the_first_linear(first):
    network = nn.Sequential(*first, nn.Linear(6), nn.Tanh(), nn.Linear(5)).copy()
    model = nn.Model(network, (3, 4), xpnet.select("cpu", "float64", seed=4))
    model.data += 0.1  # so that no bias is 0
    x = np.random.default_rng(5).integers(0, 256, (20, 3, 4), dtype=np.uint8)
    net = from_model(model)
    assert net.n_inputs == 12
    outputs = np.array([net.feed(sample.ravel().tolist()) for sample in x])
    np.testing.assert_allclose(outputs, model.predict(x.astype(float)), **TOLERANCE)
    np.testing.assert_allclose(to_model(net, cpu()).predict(x.reshape(20, 12).astype(float)), outputs, **TOLERANCE)


def test_the_numbers_of_a_folded_standardize():
    model = nn.Model(nn.Sequential(nn.Standardize(3, 2), nn.Linear(1)), (2,), cpu())
    model.network.layers[1].W.data[:] = [[4], [6]]
    model.network.layers[1].b.data[:] = 1
    (neuron,) = from_model(model).layers[0].neurons
    assert [w.data for w in neuron.weights] == [2, 3]
    assert neuron.bias.data == 1 - (4 + 6) * 3 / 2
    assert model.network.layers[1].W.data.tolist() == [[4], [6]]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_model_of_a_recipe_with_its_dropout(dtype):
    digits = data.load("digits")
    recipe = recipes.DIGITS.but(hidden=(20, 12), epochs=6)
    assert recipe.dropout > 0
    model, loss, optimizer, schedule = recipes.build(recipe, digits.train, xpnet.select("cpu", dtype))
    train.fit(model, loss, optimizer, digits.train, epochs=6, batch_size=32, schedule=schedule, quiet=True)
    net, x = from_model(model), digits.test.x[:50]
    outputs = np.array([net.feed(sample.ravel().tolist()) for sample in x])
    np.testing.assert_allclose(outputs, model.predict(x), **(TOLERANCE if dtype == "float64" else {"atol": 1e-4}))
    assert (outputs.argmax(axis=1) == digits.test.y[:50]).mean() > 0.7


def test_the_shipped_model_is_refused_for_its_convolutions():
    with pytest.raises(ValueError, match=r"\(Reshape\) has no counterpart"):
        from_model(xpnet.load(shipped_model_path(), device="cpu"))


def test_hooks_are_not_lost_in_silence():
    net = network([3, 2], None)
    net.post_feed_hooks.append(lambda net, values: None)
    with pytest.raises(ValueError, match="has hooks"):
        to_model(net, cpu())


# The published weights of the tutorial network ----------------------------------------------------------------


@pytest.fixture
def published() -> tuple[BasicNet, data.Dataset]:
    folder = Path(os.environ.get("XPNET_DATA", ""))
    if not ((folder / "seed_weights" / "t1.wt").is_file() and (folder / "mnist").is_dir()):
        pytest.skip("set XPNET_DATA to a folder with seed_weights/t1.wt and mnist/")
    return BasicNet.load(folder / "seed_weights" / "t1.wt"), data.load("mnist").test


def rows(test: data.Dataset) -> np.ndarray:
    return test.x.reshape(-1, 784)[:, :728] / 255  # this network reads the first 728 of 784 pixels


def test_the_published_weights_give_the_same_in_both_engines(published, kind):
    net, test = published
    model = to_model(net, kind("float64", 0))
    for i in range(3):
        for parameter in net.get_parameters():
            parameter.grad = 0.0
        model.zero_grad()
        wrong = int(test.y[i] + 1) % 10  # a wrong label gives a large gradient
        assert_same_passes(net, model, rows(test)[i].tolist(), wrong)


def test_the_published_weights_on_all_test_images_at_once(published):
    net, test = published
    p = to_model(net, cpu()).probabilities(rows(test), batch_size=10_000)
    assert (p.argmax(axis=1) == test.y).sum() == 7487
    assert (p[:, :9].argmax(axis=1) == test.y).sum() == 7095  # never answering 9
    assert np.square(p - data.one_hot(test.y, 10)).mean() == pytest.approx(0.03425, abs=5e-6)
