"""Model files that lie about sizes and names are refused before memory is taken for them."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
from safetensors.numpy import save_file

import xpnet
from xpnet.nn import ModelFileError, loading
from xpnet.nn.declared import check_tensors
from xpnet.nn.shapes import size_of


def lying(path, **lies):
    described = {"format": 1, "input_shape": [3], "classes": [], "dtype": "float32", "network": {"layer": "ReLU"}}
    save_file({}, path, metadata={"xpnet": json.dumps(described | lies)})
    return path


def test_a_network_without_values_is_a_model(tmp_path):
    model = xpnet.load(lying(tmp_path / "model.safetensors"), "cpu")
    assert model.predict(np.array([[1, -2, 3]], np.float32)).tolist() == [[1, 0, 3]]


@pytest.mark.parametrize(
    ("lies", "reason"),
    [
        (
            {"input_shape": [30000, 30000]},
            r"its inputs have shape \(30000, 30000\), more than the limit of 67,108,864 values",
        ),
        ({"input_shape": [1, 2**26 + 1]}, "more than the limit of 67,108,864 values"),
        ({"input_shape": [2**40], "network": {"layer": "Flatten"}}, "more than the limit of 67,108,864 values"),
        ({"dtype": "int8"}, "its dtype 'int8' must be one of float32, float64"),
        ({"input_shape": [1] * 65}, "its input shape has 65 axes: an array has at most 64"),
        ({"classes": "abc"}, "its class names must be a list of strings"),
        ({"classes": ["a", 2, "c"]}, "its class names must be a list of strings"),
        ({"classes": ["a", ["b"], "c"]}, "its class names must be a list of strings"),
    ],
)
def test_lies_about_sizes_and_names_are_refused(tmp_path, lies, reason):
    path = lying(tmp_path / "model.safetensors", **lies)
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match=reason):
            xpnet.load(path, "cpu")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_outputs_may_not_be_larger_either(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "MOST_VALUES", 3)
    xpnet.load(lying(tmp_path / "model.safetensors"), "cpu")
    weights = {"W": np.zeros((3, 4), np.float32), "b": np.zeros(4, np.float32)}
    network = {"layer": "Linear", "n_out": 4}
    described = {"format": 1, "input_shape": [3], "classes": [], "dtype": "float32", "network": network}
    save_file(weights, tmp_path / "wide.safetensors", metadata={"xpnet": json.dumps(described)})
    with pytest.raises(ModelFileError, match=r"its outputs have shape \(4,\), more than the limit of 3 values"):
        xpnet.load(tmp_path / "wide.safetensors", "cpu")


def test_a_network_may_not_have_more_layers_either(tmp_path, monkeypatch):
    network = {"layer": "Sequential", "layers": [{"layer": "ReLU"}, {"layer": "Tanh"}]}
    path = lying(tmp_path / "model.safetensors", network=network)
    monkeypatch.setattr(loading, "MOST_LAYERS", 3)  # the two, and what holds them
    xpnet.load(path, "cpu")
    monkeypatch.setattr(loading, "MOST_LAYERS", 2)
    with pytest.raises(ModelFileError, match="its network has more than 2 layers"):
        xpnet.load(path, "cpu")


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_nor_may_a_recurrent_layer_have_more_inside(kind, tmp_path):
    deep = [{"layer": kind, "units": 2, "layers": n} for n in (4_000, 5_998)]  # with the Sequential 9,999
    path = lying(tmp_path / "model.safetensors", input_shape=[3, 2], network={"layer": "Sequential", "layers": deep})
    with pytest.raises(ModelFileError, match="tensors are missing") as refused:
        xpnet.load(path, "cpu")
    assert len(str(refused.value)) < 1_000
    deep[0]["layers"] = 10**12
    lying(path, input_shape=[3, 2], network={"layer": "Sequential", "layers": deep})
    with pytest.raises(ModelFileError, match="its network has more than 10000 layers"):
        xpnet.load(path, "cpu")


def test_of_many_tensors_that_are_missing_ten_are_named():
    names = [f"t{i}" for i in range(13)]
    with pytest.raises(ValueError, match=r"^tensors are missing: \['t0', .*'t6'\] and 3 more$"):
        check_tensors({}, dict.fromkeys(names, (1,)), np.dtype("float32"))


def test_the_limits_are_ten_thousand_layers_and_an_image_of_8192_squared():
    assert (loading.MOST_LAYERS, loading.MOST_VALUES) == (10_000, 8192 * 8192)


def test_an_axis_of_free_length_counts_once_and_inputs_are_added():
    assert size_of((None, 3)) == 3
    assert size_of(((2, 3), (None,))) == 7
