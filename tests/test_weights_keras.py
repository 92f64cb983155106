"""Weights from files of Keras 3: made here by h5py as Keras lays them out, and what they compute written by hand."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import xpnet
from xpnet import nn, weights
from xpnet.nn.saving import ModelFileError
from xpnet.weights import h5

h5py = pytest.importorskip("h5py", reason='h5py is not installed: pip install -e ".[keras]"')
RNG = np.random.default_rng(0)


def drawn(*shape):
    return RNG.standard_normal(shape) * 0.4


def dense(n_in, n_out):
    return [drawn(n_in, n_out), drawn(n_out)]


def written(path, layers, names=None):
    """A file with these variables, by the places of layers; `names` are attributes as Keras writes them."""
    with h5py.File(path, "w") as file:
        for place, variables in layers.items():
            group = file.create_group(f"{place}/vars")
            group.attrs["name"] = (names or {}).get(place, place.split("/")[-1])
            for i, values in enumerate(variables):
                group[str(i)] = values
    return path


def model_of(*layers, shape):
    return nn.Model(nn.Sequential(*layers), shape, xpnet.select("cpu", dtype="float64"))


# What Keras computes --------------------------------------------------------------------------------------------


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def keras_lstm(x, kernel, recurrent, bias):
    """keras/src/layers/rnn/lstm.py: the gates are i, f, c, o."""
    h = c = np.zeros((len(x), len(recurrent)))
    out = []
    for t in range(x.shape[1]):
        i, f, candidate, o = np.split(x[:, t] @ kernel + h @ recurrent + bias, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(candidate)
        h = sigmoid(o) * np.tanh(c)
        out.append(h)
    return np.stack(out, axis=1)


def keras_gru(x, kernel, recurrent, biases):
    """keras/src/layers/rnn/gru.py with reset_after: the gates are z, r, h."""
    h, out = np.zeros((len(x), len(recurrent))), []
    for t in range(x.shape[1]):
        x_z, x_r, x_h = np.split(x[:, t] @ kernel + biases[0], 3, axis=1)
        h_z, h_r, h_h = np.split(h @ recurrent + biases[1], 3, axis=1)
        z, r = sigmoid(x_z + h_z), sigmoid(x_r + h_r)
        h = z * h + (1 - z) * np.tanh(x_h + r * h_h)
        out.append(h)
    return np.stack(out, axis=1)


def keras_conv2d(x, kernel, bias):
    kh, kw = kernel.shape[:2]
    windows = np.lib.stride_tricks.sliding_window_view(x, (kh, kw), axis=(1, 2))
    return np.einsum("nijchw,hwco->nijo", windows, kernel) + bias


def test_images(tmp_path):
    conv, norm = [drawn(3, 2, 2, 4), drawn(4)], [drawn(4), drawn(4), drawn(4), drawn(4) ** 2 + 0.5]
    last, layer_norm = dense(48, 5), [drawn(5), drawn(5)]
    layers = {"layers/conv2d": conv, "layers/batch_normalization": norm, "layers/dense": last}
    layers |= {"layers/layer_normalization": layer_norm, "layers/dropout/seed_generator": [np.zeros(2, np.uint32)]}
    path = written(tmp_path / "cnn.weights.h5", {**layers, "optimizer": [np.array(7), drawn(3, 2)]})
    model = model_of(
        nn.Conv2d(4, (3, 2)), nn.BatchNorm(eps=1e-3), nn.Flatten(), nn.Dropout(0.5), nn.Linear(5),
        nn.LayerNorm(eps=1e-3), shape=(6, 4, 2),
    )  # fmt: skip
    found = weights.load(model, path)
    x = RNG.standard_normal((3, 6, 4, 2))
    gamma, beta, mean, var = norm
    y = gamma * (keras_conv2d(x, *conv) - mean) / np.sqrt(var + 1e-3) + beta
    y = y.reshape(3, -1) @ last[0] + last[1]
    y = layer_norm[0] * (y - y.mean(1, keepdims=True)) / np.sqrt(y.var(1, keepdims=True) + 1e-3) + layer_norm[1]
    np.testing.assert_allclose(model.predict(x), y, rtol=1e-9)
    assert ("layers/conv2d.kernel", "(3, 2, 2, 4)", "layers.0.W", "(3, 2, 2, 4)", "as it is") in found.rows()


def test_sequences(tmp_path):
    table, ahead, back = [drawn(9, 3)], [drawn(3, 16), drawn(4, 16), drawn(16)], [drawn(3, 16), drawn(4, 16), drawn(16)]
    gru, rnn = [drawn(8, 15), drawn(5, 15), drawn(2, 15)], [drawn(5, 2), drawn(2, 2), drawn(2)]
    both = "layers/bidirectional"
    cells = {f"{both}/backward_layer/cell": back, f"{both}/forward_layer/cell": ahead, "layers/gru/cell": gru}
    path = written(tmp_path / "rnn.weights.h5", {"layers/embedding": table, **cells, "layers/simple_rnn/cell": rnn})
    model = model_of(nn.Embedding(9, 3), nn.LSTM(4, bidirectional=True), nn.GRU(5), nn.RNN(2), shape=(6,))
    found = weights.load(model, path)
    tokens = RNG.integers(0, 9, (3, 6))
    x = table[0][tokens]
    y = np.concatenate([keras_lstm(x, *ahead), keras_lstm(x[:, ::-1], *back)[:, ::-1]], axis=2)
    y, h, out = keras_gru(y, *gru), np.zeros((3, 2)), []
    for t in range(6):
        h = np.tanh(y[:, t] @ rnn[0] + h @ rnn[1] + rnn[2])
        out.append(h)
    np.testing.assert_allclose(model.predict(tokens), np.stack(out, axis=1), rtol=1e-9)
    assert ("layers/gru.bias", "(2, 15)", "layers.2.cells.0.b", "(15,)", "") in found.rows()
    assert "gates z r n -> r z n, biases added" in str(found)


# Which goes where -----------------------------------------------------------------------------------------------


def test_numbers_are_the_order_and_nine_comes_before_ten(tmp_path):
    layers = {"layers/dense" + f"_{i}" * (i > 0): dense(2, 2) for i in range(12)}
    path = written(tmp_path / "many.weights.h5", layers)
    model = model_of(*[nn.Linear(2) for _ in range(12)], shape=(2,))
    weights.load(model, path)
    for i, (kernel, _) in enumerate(layers.values()):
        np.testing.assert_array_equal(model.parameters[f"layers.{i}.W"].data, kernel)


def test_a_table_of_an_embedding_is_no_matrix_of_a_dense_layer(tmp_path):
    layers = {"layers/dense": [drawn(4, 4)], "layers/embedding": [drawn(4, 4)]}
    model = model_of(nn.Embedding(4, 4), nn.Linear(4, bias=False), shape=(3,))
    weights.load(model, written(tmp_path / "x.h5", layers))
    np.testing.assert_array_equal(model.parameters["layers.0.W"].data, layers["layers/embedding"][0])


def test_layers_of_ones_own_names_are_known_by_those_of_keras(tmp_path):
    layers = {"head": dense(4, 4), "body": dense(4, 4)}
    path = written(tmp_path / "own.weights.h5", layers, {"head": "dense_3", "body": "dense_2"})
    model = model_of(nn.Linear(4), nn.Linear(4), shape=(4,))
    with pytest.raises(ValueError, match=r"body, head could each be any of layers.0, layers.1; choose with names="):
        weights.load(model, path)
    weights.load(model, path, names={"layers.0": "body", "layers.1": "head"})
    np.testing.assert_array_equal(model.parameters["layers.1.b"].data, layers["head"][1])


def test_a_model_in_a_model_has_an_order_that_no_number_tells(tmp_path):
    layers = {"layers/dense": dense(4, 4), "layers/sequential/layers/dense": dense(4, 4)}
    with pytest.raises(ValueError, match=r"layers/dense, layers/sequential/layers/dense could each be any of layers.0"):
        weights.match(model_of(nn.Linear(4), nn.Linear(4), shape=(4,)), written(tmp_path / "in.weights.h5", layers))


# Bad input ------------------------------------------------------------------------------------------------------


def refused(path, message, *layers, shape=(4,), error=ValueError):
    model = model_of(*(layers or [nn.Linear(4)]), shape=shape)
    before = model.data.copy()
    with pytest.raises(error, match=message):
        weights.load(model, path)
    np.testing.assert_array_equal(model.data, before)


def test_what_has_another_formula_or_none_here_is_named(tmp_path):
    gru = {"layers/gru/cell": [drawn(4, 12), drawn(4, 12), drawn(12)]}
    refused(written(tmp_path / "g.h5", gru), "layers/gru is a GRU with reset_after=False", nn.GRU(4), shape=(3, 4))
    more = {"layers/dense": dense(4, 4), "layers/einsum_dense_1": dense(4, 4), "layers/p_re_lu": [drawn(4)]}
    refused(
        written(tmp_path / "more.h5", more), "of layers that xpnet cannot read: layers/einsum_dense_1, layers/p_re_lu"
    )
    refused(written(tmp_path / "v.h5", {"": [drawn(3)]}), "that xpnet cannot read: the model itself")
    fits = written(tmp_path / "fits.h5", {"layers/dense": dense(4, 4)})
    refused(fits, "layers.0: GroupNorm cannot be read from a Keras file", nn.GroupNorm(2))
    refused(fits, r"layers.0: LSTM\(layers=2\) is 2 layers in Keras", nn.LSTM(4, layers=2), shape=(3, 4))


def test_what_does_not_fit_is_named(tmp_path):
    path = written(tmp_path / "x.h5", {"layers/dense": dense(4, 3)})
    refused(path, r"the model has 1 \(layers.0\), the source 0 \(none\)")
    refused(written(tmp_path / "nan.h5", {"layers/dense": [np.full((4, 4), np.nan), drawn(4)]}), "not finite")
    refused(written(tmp_path / "one.h5", {"layers/dense": dense(4, 4)[:1]}), r"kernel \(4, 4\)")


def test_what_is_no_whole_file_of_keras_3(tmp_path):
    path = written(tmp_path / "x.weights.h5", {"layers/dense": dense(4, 4)})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused(path, r"x.weights.h5 is not a complete .weights.h5 file", error=ModelFileError)
    path.write_bytes(b"none")
    refused(path, r"x.weights.h5 is not a complete .weights.h5 file", error=ModelFileError)
    refused(tmp_path / "missing.h5", "no such file", error=FileNotFoundError)
    (tmp_path / "x.keras").write_bytes(b"PK\x03\x04")
    refused(
        tmp_path / "x.keras", r"a whole Keras model: save its weights alone, model.save_weights", error=ModelFileError
    )
    refused(written(tmp_path / "e.h5", {}), "holds no variables", error=ModelFileError)
    with h5py.File(tmp_path / "two.h5", "w") as file:
        file.attrs["layer_names"] = ["dense"]
    refused(tmp_path / "two.h5", "is a file of Keras 2", error=ModelFileError)


def linked(group, other):
    group["0"] = h5py.ExternalLink(str(other), "layers/dense/vars/0")


def outside(group, other):
    group.create_dataset("0", (4, 4), "f4", external=[(str(other), 0, 64)])


def huge(group, other):
    group.create_dataset("0", (1 << 20, 1 << 20), "f4", chunks=(1024, 1024))


def circle(group, other):
    group.parent["again"] = group.parent


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (linked, "/layers/dense/vars/0 is a link, which is not followed"),
        (outside, "the data of /layers/dense/vars/0 are in another file"),
        (huge, "/layers/dense/vars/0 of shape .* exceeds the limit"),
        (circle, "groups are nested more than 64 deep"),
        (
            lambda group, other: group.create_dataset("0", data=np.array([b"text"])),
            r"holds values of dtype \|S4, not numbers",
        ),
        (
            lambda group, other: group.create_dataset("7", data=np.zeros(3)),
            "/layers/dense/vars lacks variable 0: it has 7",
        ),
        (
            lambda group, other: group.parent.__setitem__("x", h5py.SoftLink("/layers")),
            "x is a link, which is not followed",
        ),
    ],
)
def test_files_made_to_do_harm_are_refused(tmp_path, build, message):
    other = written(tmp_path / "other.h5", {"layers/dense": dense(4, 4)})
    with h5py.File(tmp_path / "x.h5", "w") as file:
        build(file.create_group("layers/dense/vars"), other)
    refused(tmp_path / "x.h5", message, error=ModelFileError)


def test_groups_in_groups_are_read_down_to_the_limit(tmp_path):
    for depth in (64, 65):
        place = "/".join(["group"] * (depth - 1) + ["dense"])
        written(tmp_path / f"{depth}.h5", {place: dense(4, 4)})
    assert list(h5.read(tmp_path / "64.h5")) == ["group/" * 63 + "dense"]
    refused(tmp_path / "65.h5", "groups are nested more than 64 deep", error=ModelFileError)


def test_without_h5py_the_error_names_the_extra(tmp_path, monkeypatch):
    path = written(tmp_path / "x.h5", {"layers/dense": dense(4, 4)})
    monkeypatch.setitem(sys.modules, "h5py", None)
    refused(path, r'reading .*x.h5 needs h5py .*: pip install "xpnet\[keras\]"', error=ModuleNotFoundError)
