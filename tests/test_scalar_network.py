"""The scalar engine's network: feeding, predicting, saving and loading."""

from __future__ import annotations

import gzip
import json
import math
import os
from pathlib import Path
from threading import Thread

import pytest

from xpnet.scalar import (
    BasicNet,
    LinearLayer,
    Neuron,
    Value,
    cross_entropy,
    mean_squared_error,
    softmax,
    softmax_squared_error,
)

WEIGHTS = [[[0.5, -1.0], [2.0, 0.25], [-0.5, 1.5]], [[1.0, -2.0, 0.5], [0.1, 0.2, 0.3]]]
BIASES = [[0.1, -0.2, 0.0], [0.5, -0.5]]


def small_net(activations=("tanh", "linear")) -> BasicNet:
    return BasicNet.from_lists(WEIGHTS, BIASES, activations)


def test_repr_names_every_layer():
    net = BasicNet.random([784, 10, 10])
    assert repr(net) == "input(*) -> hidden(10x784) -> output(10x10)"
    assert "2 weights" in repr(Neuron([1, 2], 0.5))


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("linear", lambda x: x),
        ("relu", lambda x: max(0.0, x)),
        ("tanh", math.tanh),
        ("sigmoid", lambda x: 1 / (1 + math.exp(-x))),
    ],
)
def test_feed_is_the_formula_for_each_activation(name, function):
    x = [0.3, -0.7]
    hidden = [function(sum(w * v for w, v in zip(row, x, strict=True)) + b)
              for row, b in zip(WEIGHTS[0], BIASES[0], strict=True)]  # fmt: skip
    outputs = [sum(w * v for w, v in zip(row, hidden, strict=True)) + b
               for row, b in zip(WEIGHTS[1], BIASES[1], strict=True)]  # fmt: skip
    assert small_net((name, "linear")).feed(x) == pytest.approx(outputs, rel=1e-14)


def test_plain_numbers_give_plain_numbers_and_values_give_values():
    net = small_net()
    plain = net.feed([1, 2])
    values = net.feed([Value(1), Value(2)])
    assert [type(y) for y in plain] == [float, float]
    assert [type(y) for y in values] == [Value, Value]
    assert plain == [y.data for y in values]


@pytest.mark.parametrize("loss", [cross_entropy, softmax_squared_error])
@pytest.mark.parametrize("activations", [("relu", "linear"), ("tanh", "sigmoid"), ("sigmoid", "tanh")])
def test_gradients_of_all_parameters_and_inputs(loss, activations):
    net = small_net(activations)
    inputs = [Value(0.3), Value(-0.7)]
    loss(net.feed(inputs), 1).backward()
    h = 1e-6
    for value in (*net.get_parameters(), *inputs):
        middle = value.data
        value.data = middle + h
        above = loss(net.feed([x.data for x in inputs]), 1)
        value.data = middle - h
        below = loss(net.feed([x.data for x in inputs]), 1)
        value.data = middle
        assert value.grad == pytest.approx((above - below) / (2 * h), abs=1e-9)


def test_a_graph_is_one_node_for_each_input_and_a_few_for_each_neuron():
    net = BasicNet.random([784, 10, 10])
    nodes, stack = set(), [cross_entropy(net.feed([Value(0.5)] * 784), 3)]
    while stack:
        node = stack.pop()
        if node not in nodes:
            nodes.add(node)
            stack.extend(node.inputs)
    assert len(nodes) < len(net.get_parameters()) + 784 + 150


def test_get_parameters_are_the_networks_own_in_order():
    net = small_net()
    numbers = [p.data for p in net.get_parameters()]
    assert numbers[:6] == [0.5, -1.0, 0.1, 2.0, 0.25, -0.2]
    net.get_parameters()[2].data = 100.0
    assert net.layers[0].neurons[0].bias.data == 100.0


def test_random_is_the_same_for_the_same_seed_alone():
    def numbers(seed):
        return [p.data for p in BasicNet.random([5, 4, 3], seed=seed).get_parameters()]

    assert numbers(1) == numbers(1)
    assert numbers(1) != numbers(2)
    assert max(map(abs, numbers(1))) <= math.sqrt(6 / 4)


@pytest.mark.parametrize("answer", range(10))
def test_predict_can_give_every_class(answer):
    net = BasicNet.from_lists([[[float(k == answer)] for k in range(10)]], [[0.0] * 10])
    probabilities, got = net.predict([3.0])
    assert got == answer
    assert sum(probabilities) == pytest.approx(1)
    assert probabilities[answer] == max(probabilities) == pytest.approx(math.e**3 / (math.e**3 + 9))


def test_predict_reads_values_and_ignores_their_graph():
    assert small_net().predict([Value(1), Value(2)]) == small_net().predict([1, 2])


def test_predict_refuses_nan():
    with pytest.raises(ValueError, match="not finite"):
        small_net().predict([math.nan, 1.0])


def test_hooks_see_and_may_replace():
    net, seen = small_net(), []
    expected = net.feed([0.5, 1.0])
    net.pre_feed_hooks.append(lambda n, inputs: [x / 2 for x in inputs])
    net.pre_feed_hooks.append(lambda n, inputs: seen.append((n, list(inputs))))
    net.post_feed_hooks.append(lambda n, outputs: seen.append((n, list(outputs))))
    net.post_feed_hooks.append(lambda n, outputs: [10 * y for y in outputs])
    assert net.feed([1.0, 2.0]) == [10 * y for y in expected]
    assert seen == [(net, [0.5, 1.0]), (net, expected)]


@pytest.mark.parametrize(
    ("operation", "says"),
    [
        (lambda: small_net().feed([1.0]), "takes 2 inputs, not 1"),
        (lambda: small_net().feed([1.0] * 3), "takes 2 inputs, not 3"),
        (lambda: Neuron([1.0], 0.0).feed([1.0, 2.0]), "takes 1 inputs, not 2"),
        (lambda: small_net(("tanh", "swish")), "unknown activation 'swish'"),
        (lambda: small_net(("tanh",)), "2 layers need as many activations"),
        (lambda: BasicNet([]), "at least one layer"),
        (lambda: BasicNet.from_lists([], []), "at least one layer"),
        (lambda: BasicNet.from_lists([[[1.0]], [[1.0, 2.0]]], [[0.0], [0.0]]), "cannot follow"),
        (lambda: BasicNet.from_lists([[[1.0]]], []), "biases of 0"),
        (lambda: LinearLayer([[1.0], [1.0, 2.0]], [0.0, 0.0]), "one length"),
        (lambda: LinearLayer([[]], [0.0]), "one length"),
        (lambda: LinearLayer([[1.0]], [0.0, 1.0]), "1 rows of weights and 2 biases"),
        (lambda: BasicNet.random([3]), "sizes are"),
        (lambda: BasicNet.random([3, 0]), "sizes are"),
    ],
)
def test_wrong_shapes_are_clear_errors(operation, says):
    with pytest.raises(ValueError, match=says):
        operation()


def test_one_name_for_all_layers_is_a_clear_error():
    with pytest.raises(TypeError, match=r"one name for each layer, such as \['tanh', 'tanh'\], not 'tanh'"):
        small_net("tanh")


def test_images_must_be_flat():
    with pytest.raises(TypeError, match="not list"):
        small_net().feed([[1.0, 2.0], [3.0, 4.0]])


# Losses ---------------------------------------------------------------------------------------------------


def test_softmax_of_large_numbers_and_values():
    assert softmax([1e5, 0.0]) == [1.0, 0.0]
    assert softmax([-1e5, -1e5]) == [0.5, 0.5]
    assert [p.data for p in softmax([Value(2.5), Value(1.0), Value(0.8)])] == softmax([2.5, 1.0, 0.8])


def test_cross_entropy_stays_finite_where_the_probability_is_zero():
    logits = [Value(0.0), Value(2000.0)]
    loss = cross_entropy(logits, 0)
    loss.backward()
    assert loss.data == 2000
    assert [x.grad for x in logits] == [-1, 1]  # softmax minus one-hot


@pytest.mark.parametrize(
    ("operation", "says"),
    [
        (lambda: softmax([]), "at least one number"),
        (lambda: mean_squared_error([1.0], [1.0, 2.0]), "1 predictions with 2"),
        (lambda: mean_squared_error([], []), "0 predictions"),
        (lambda: cross_entropy([1.0, 2.0], 2), "label 2 is not one of the 2 classes"),
        (lambda: cross_entropy([1.0, 2.0], -1), "label -1"),
        (lambda: softmax_squared_error([1.0, 2.0], 5), "label 5"),
    ],
)
def test_losses_refuse_bad_input(operation, says):
    with pytest.raises(ValueError, match=says):
        operation()


# Files ----------------------------------------------------------------------------------------------------


def test_save_and_load_give_the_same_network(tmp_path):
    net = BasicNet.random([7, 5, 3], ["sigmoid", "tanh"], seed=4)
    net.save(tmp_path / "net.json")
    again = BasicNet.load(tmp_path / "net.json")
    assert repr(again) == repr(net)
    assert [layer.activation for layer in again.layers] == ["sigmoid", "tanh"]
    assert [p.data for p in again.get_parameters()] == [p.data for p in net.get_parameters()]


def test_a_file_without_activations_is_relu_throughout(tmp_path):
    layer = {"label": "only", "ncount": 1, "wcount": 2, "neurons": [{"data": [1, 2.5], "bias": 0, "wcount": 2}]}
    (tmp_path / "t.wt").write_text(json.dumps([layer]))
    net = BasicNet.load(tmp_path / "t.wt")
    assert repr(net) == "input(*) -> only(1x2)"
    assert net.feed([1.0, 1.0]) == [3.5]
    assert net.feed([-1.0, 0.0]) == [0.0]


def test_a_save_that_fails_leaves_the_older_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "net.json"
    small_net().save(path)
    before = path.read_bytes()

    broken = small_net()
    broken.get_parameters()[1].data = math.nan
    with pytest.raises(ValueError, match="layer 0, neuron 0, weight 1: nan is not a finite"):
        broken.save(path)

    def full(fd):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        small_net().save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["net.json"]


def test_a_save_is_that_of_all_files(tmp_path):
    path = tmp_path / ("w" * 250 + ".json")  # the longest name that a file may have
    small_net().save(path)
    path.chmod(0o600)
    small_net().save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    threads = [Thread(target=small_net().save, args=(path,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()  # an error in one of them fails the test, as a warning
    assert repr(BasicNet.load(path)) == repr(small_net())
    assert os.listdir(tmp_path) == [path.name]


def good_file() -> list:
    neuron = {"data": [1.0, 2.0], "bias": 0.0, "wcount": 2}
    first = {"label": "hidden", "activation": "relu", "ncount": 1, "wcount": 2, "neurons": [neuron]}
    last = {"label": "output", "ncount": 1, "wcount": 1, "neurons": [{"data": [1.0], "bias": 0.0, "wcount": 1}]}
    return [first, last]


def changed(*place_and_value):
    layers = good_file()
    *place, key, value = place_and_value
    target = layers
    for step in place:
        target = target[step]
    target[key] = value
    return json.dumps(layers)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (json.dumps(good_file())[:-20], "cut short"),
        ("", "cut short"),
        ("[" * 100_000, "not a weights file"),
        ("{}", "must be a list of at least one layer"),
        ("[]", "must be a list of at least one layer"),
        ("[1]", "layer 0: no label, ncount"),
        (changed(0, "ncount", 2), 'layer 0: "neurons": a list of 1, but .* its count, >= 1, which is 2'),
        (changed(0, "ncount", 1.0), "its count, >= 1, which is 1.0"),
        (changed(0, "wcount", 3), 'layer 0, neuron 0: "wcount" is 2, but 3'),
        (
            changed(0, "neurons", 0, "data", [1.0]),
            'layer 0, neuron 0: "data": a list of 1, but .* its count, >= 1, which is 2',
        ),
        (changed(0, "neurons", 0, "data", "ab"), "a str, but it must be a list"),
        (changed(0, "neurons", 0, "data", [1.0, math.nan]), "layer 0, neuron 0, weight 1: nan is not a finite"),
        (changed(0, "neurons", 0, "bias", -math.inf), "layer 0, neuron 0, bias: -inf"),
        (changed(0, "neurons", 0, "bias", 10**400), "bias: 1000.* is not a finite"),
        (changed(0, "neurons", 0, "bias", "0"), "bias: '0' is not a finite"),
        (changed(0, "neurons", 0, "bias", True), "bias: True is not a finite"),
        (changed(0, "neurons", 0, {}), "neuron 0: no data, bias, wcount"),
        (changed(0, "label", 5), "must be text"),
        (changed(0, "activation", "swish"), "unknown activation 'swish'"),
        (changed(1, good_file()[0]), "layer 1 has 2 weights per neuron, but layer 0 has 1"),
    ],
)
def test_bad_files_are_refused_with_the_place_and_the_reason(tmp_path, text, says):
    path = tmp_path / "bad.wt"
    path.write_text(text)
    with pytest.raises(ValueError, match=says) as caught:
        BasicNet.load(path)
    assert "bad.wt" in str(caught.value)


def test_binary_and_missing_files(tmp_path):
    (tmp_path / "bad.wt").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ValueError, match="not a weights file"):
        BasicNet.load(tmp_path / "bad.wt")
    with pytest.raises(FileNotFoundError):
        BasicNet.load(tmp_path / "none.wt")


# The published weights of the tutorial network ----------------------------------------------------------------


def test_the_published_weights_score_what_they_should():
    """The first 500 MNIST test images. On all 10,000: 7487 right, 7095 without class 9, error 0.03425."""
    folder = Path(os.environ.get("XPNET_DATA", ""))
    weights, images = folder / "seed_weights" / "t1.wt", folder / "mnist" / "t10k-images-idx3-ubyte.gz"
    if not (weights.is_file() and images.is_file()):
        pytest.skip("set XPNET_DATA to a folder with seed_weights/t1.wt and mnist/")
    net = BasicNet.load(weights)
    assert repr(net) == "input(*) -> hidden(10x728) -> output(10x10)"
    pixels = gzip.decompress(images.read_bytes())[16:]
    labels = gzip.decompress(images.with_name("t10k-labels-idx1-ubyte.gz").read_bytes())[8:]

    right = right_of_nine = 0
    error = 0.0
    for k in range(500):
        # This network reads the first 728 of 784 pixels.
        probabilities, answer = net.predict([p / 255 for p in pixels[784 * k : 784 * k + 728]])
        right += answer == labels[k]
        right_of_nine += probabilities.index(max(probabilities[:9])) == labels[k]
        error += mean_squared_error(probabilities, [float(c == labels[k]) for c in range(10)])
    assert (right, right_of_nine) == (379, 357)
    assert error / 500 == pytest.approx(0.0355437563, abs=1e-9)
