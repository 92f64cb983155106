"""Every layer as ONNX: checked by `onnx.checker`, and run by onnxruntime beside the layer itself."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import call

import xpnet
from xpnet import data, nn
from xpnet.backend import Backend
from xpnet.nn.shapes import each
from xpnet.verify.cases import LAYERS, public_names
from xpnet.verify.passes import draw_values, is_data, unnamed
from xpnet.verify.rows import name

onnx = pytest.importorskip("onnx", reason='onnx is not installed: pip install "xpnet[onnx]"')
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

from xpnet.onnx import OPSET, ExportError, export, exporter, to_onnx, writing  # noqa: E402
from xpnet.onnx.registry import EXPORTERS  # noqa: E402


def run(proto, x):
    """The outputs of onnxruntime, for inputs that are brought into the types that the file asks for."""
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    kinds = {"tensor(float)": np.float32, "tensor(int64)": np.int64}
    arrays = x if isinstance(x, tuple) else (x,)
    given = {i.name: a.astype(kinds[i.type]) for i, a in zip(session.get_inputs(), arrays, strict=True)}
    return session.run(None, given)


def built(case, batch):
    """The row's model in evaluation, with values of its own, and an input."""
    subject = case.subject(batch)
    values = draw_values(subject)
    tensors = {key: v for key, v in values.items() if not is_data(key)}
    model = nn.Model(subject.make(), subject.shape, Backend("float32"), tensors=tensors)
    x = unnamed("x", values)
    return model, each(lambda a: a.astype(np.float32) if a.dtype.kind == "f" else a, x)


def close(got, want):
    got, want = (v if isinstance(v, (tuple, list)) else (v,) for v in (got, want))
    for one, other in zip(got, want, strict=True):
        assert one.shape == other.shape
        assert np.abs(one - other).max(initial=0) <= 1e-5 * max(1, np.abs(other).max(initial=0))


@pytest.mark.parametrize("case", LAYERS, ids=name)
def test_layers(case):
    for batch in case.batches:
        model, x = built(case, batch)
        close(run(to_onnx(model), x), model.predict(x))


def test_every_layer_has_an_exporter():
    layers = {getattr(nn, name) for name in public_names() if isinstance(getattr(nn, name, None), type)}
    assert len(layers) > 40
    assert layers - EXPORTERS.keys() == set()


def model_of(network, shape, classes=()):
    return nn.Model(network, shape, Backend("float32"), classes)


def kinds(proto):
    return [node.op_type for node in proto.graph.node]


# What is in the file ----------------------------------------------------------------------------------------------


def test_axes_are_named_where_they_are_free():
    proto = to_onnx(model_of(nn.MultiHeadAttention(2), ((None, 4), (3, 6), (3,))))
    shapes = {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in proto.graph.input}
    assert shapes == {"x0": ["batch", "x0_axis_1", 4], "x1": ["batch", 3, 6], "x2": ["batch", 3]}
    types = [v.type.tensor_type.elem_type for v in proto.graph.input]
    assert types == [onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT, onnx.TensorProto.INT64]
    (y,) = proto.graph.output
    assert [d.dim_param or d.dim_value for d in y.type.tensor_type.shape.dim] == ["batch", "y_axis_1", 4]
    assert (proto.opset_import[0].version, proto.producer_name) == (OPSET, "xpnet")


def test_one_file_for_batches_and_sequences_of_any_length():
    model = model_of(nn.Sequential(nn.Embedding(7, 4), nn.SinusoidalPosition(), nn.TransformerBlock(2, True)), (None,))
    proto, rng = to_onnx(model), np.random.default_rng(0)
    for n, length in ((1, 1), (3, 2), (2, 40), (2, 0)):
        x = rng.integers(0, 7, (n, length))
        close(run(proto, x), model.predict(x))


def test_a_memory_without_positions():
    model = model_of(nn.MultiHeadAttention(2), ((None, 4), (None, 6)))
    model.parameters["out.b"].data[...] = 1
    x = np.ones((2, 3, 4), np.float32), np.ones((2, 0, 6), np.float32)
    close(run(to_onnx(model), x), model.predict(x))


def test_images_are_transposed_on_the_way_in_and_where_they_are_flattened_only():
    assert kinds(to_onnx(model_of(nn.cnn((8, 8), 3, channels=(2, 3), hidden=4), (8, 8)))).count("Transpose") == 2
    assert kinds(to_onnx(model_of(nn.resnet((8, 8, 3), 3, 8, 2), (8, 8, 3)))).count("Transpose") == 1
    first = nn.Sequential(nn.Transpose(1, 2, 0), nn.Conv2d(2, 3), nn.ReLU(), nn.Transpose(2, 0, 1))
    assert kinds(to_onnx(model_of(first, (3, 8, 8)))) == ["Conv", "Relu", "Identity"]


def test_a_branch_and_the_way_around_it_share_a_transpose():
    layers = nn.Residual(nn.Conv2d(2, 3, padding="same"), shortcut=nn.Conv2d(2, 1))
    assert kinds(to_onnx(model_of(layers, (4, 4, 3)))).count("Transpose") == 2


def test_a_layer_that_is_used_twice_is_in_the_file_once():
    layer = nn.Linear(4)
    proto = to_onnx(model_of(nn.Sequential(layer, nn.Tanh(), layer), (4,)))
    assert [t.name for t in proto.graph.initializer] == ["layers.0.W", "layers.0.b"]


def test_one_value_in_several_orders_has_a_transpose_for_each():
    network = nn.Parallel(
        *(nn.Sequential(nn.Transpose(*axes), nn.Flatten()) for axes in ((1, 2, 0), (2, 0, 1), (1, 2, 0)))
    )
    model = model_of(network, (2, 3, 4))
    x, proto = np.random.default_rng(0).normal(size=(2, 2, 3, 4)).astype(np.float32), to_onnx(model)
    close(run(proto, x), model.predict(x))
    assert kinds(proto).count("Transpose") == 2


def test_slopes_that_are_used_along_two_axes():
    """Behind the convolution the channels are first, behind the normalisation last; the third use is as the second."""
    slopes = nn.PReLU()
    network = nn.Sequential(nn.Conv2d(4, 1), slopes, nn.LayerNorm(), slopes, slopes)
    model = model_of(network, (4, 4, 4))
    model.parameters["layers.1.a"].data[...] = [-2, 0.5, 3, -1]
    x, proto = np.random.default_rng(0).normal(size=(2, 4, 4, 4)).astype(np.float32), to_onnx(model)
    close(run(proto, x), model.predict(x))
    assert len([t for t in proto.graph.initializer if t.name.startswith("layers.1.a")]) == 2


@pytest.mark.parametrize(("order", "kind"), [((0, 1), "tensor(int64)"), ((1, 0), "tensor(float)")])
def test_an_input_that_is_read_as_indices_and_as_numbers(order, kind):
    branches = nn.Sequential(nn.Embedding(5, 3), nn.Flatten()), nn.Sequential(nn.Reshape(4), nn.Standardize(1.0, 2.0))
    model = model_of(nn.Parallel(*(branches[i] for i in order)), (4,))
    x, proto = np.random.default_rng(0).integers(0, 5, (2, 4)), to_onnx(model)
    assert ort.InferenceSession(proto.SerializeToString()).get_inputs()[0].type == kind
    close(run(proto, x), model.predict(x))


def test_no_cast_where_an_input_is_read_in_one_way():
    assert "Cast" not in kinds(to_onnx(model_of(nn.Standardize(1.0, 2.0), (4,))))
    assert "Cast" not in kinds(to_onnx(model_of(nn.Embedding(5, 3), (4,))))


def test_positions_on_two_numbers_of_channels():
    """Of so many that an angle of float32 would be uncertain by 1e-4."""
    positions = nn.SinusoidalPosition()
    model = model_of(nn.Sequential(positions, nn.Linear(10), positions), (None, 16))
    x = np.random.default_rng(0).normal(size=(1, 10_000, 16)).astype(np.float32)
    close(run(to_onnx(model), x), model.predict(x))


def test_layers_of_images_and_others_in_turn():
    network = nn.Sequential(
        nn.Conv2d(4, 3), nn.LayerNorm(), nn.GroupNorm(2), nn.PReLU(), nn.Softmax(), nn.Linear(4), nn.PReLU(),
        nn.AvgPool2d(2),
        nn.Parallel(nn.Conv2d(2, 1), nn.RMSNorm(), axis=-1), nn.Parallel(nn.Conv2d(6, 1), nn.Linear(6), axis=1),
        nn.Standardize([0.1] * 6, [2.0] * 6), nn.LogSoftmax(), nn.Transpose(2, 0, 1), nn.Softmax(), nn.Flatten(),
    )  # fmt: skip
    model = model_of(network, (7, 8, 3))
    x = np.random.default_rng(0).normal(size=(2, 7, 8, 3)).astype(np.float32)
    close(run(to_onnx(model), x), model.predict(x))


def test_a_model_in_float64_is_written_in_float32():
    model = nn.Model(nn.mlp([3, 4, 2]), (3,), Backend("float64"))
    x = np.random.default_rng(0).normal(size=(2, 3))
    close(run(to_onnx(model), x), model.predict(x))


# What cannot be written -------------------------------------------------------------------------------------------


class Doubled(nn.Layer):
    def forward(self, x, backend):
        return 2 * x, lambda dy, need_dx=True: 2 * dy


class Quieter(nn.ELU):
    """A subclass may compute something else: its parent's exporter is not asked."""


def test_a_layer_of_ones_own_needs_an_exporter():
    for layer in (Doubled(), Quieter()):
        kind = type(layer).__name__
        with pytest.raises(ExportError) as error:
            to_onnx(model_of(nn.Sequential(nn.Linear(3), nn.Residual(layer)), (3,)))
        assert str(error.value).startswith(f"layers.1.layers.0 ({kind}): there is no ONNX exporter for {kind}: write")
        assert f"@xpnet.onnx.exporter({kind})" in str(error.value)


def test_an_exporter_of_ones_own():
    @exporter(Doubled)
    def doubled(layer, x, graph):
        return x.computed(graph.op("Mul", x.name, graph.constant(2.0)))

    try:
        model = model_of(nn.Sequential(nn.Conv2d(2, 1), Doubled()), (3, 3, 1))
        x = np.random.default_rng(0).normal(size=(2, 3, 3, 1)).astype(np.float32)
        close(run(to_onnx(model), x), model.predict(x))
    finally:
        del EXPORTERS[Doubled]


@pytest.mark.parametrize(
    ("write", "error"),
    [
        (
            lambda layer, x, graph: x.computed(graph.op("Neg", x)),
            r"Neg takes its inputs by name: for a Tensor x, pass graph.plain\(x\).name",
        ),
        (lambda layer, x, graph: graph.op("Neg", x.name), r"layers.1 \(Doubled\): its exporter must return a Tensor"),
    ],
    ids=["takes", "gives"],
)
def test_an_exporter_that_mixes_up_tensors_and_names(write, error):
    exporter(Doubled)(write)
    try:
        with pytest.raises((TypeError, ExportError), match=error):
            to_onnx(model_of(nn.Sequential(nn.Linear(3), Doubled()), (3,)))
    finally:
        del EXPORTERS[Doubled]


def test_what_was_there_stays_where_nothing_can_be_written(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"before")
    with pytest.raises(ExportError):
        export(model_of(Doubled(), (3,)), tmp_path / "model.onnx")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("model.onnx", b"before")]
    with pytest.raises(FileNotFoundError, match="there is no such folder"):
        export(model_of(nn.Linear(3), (3,)), tmp_path / "none" / "model.onnx")


def test_an_estimator_is_no_model(tmp_path):
    with pytest.raises(TypeError, match="a model is written, such as the model_ of XPClassifier, not a Linear"):
        export(nn.Linear(3), tmp_path / "model.onnx")


def test_more_than_a_file_can_hold(monkeypatch):
    monkeypatch.setattr(writing, "MOST_BYTES", 100)
    with pytest.raises(ExportError, match="120 bytes of values are more than the 2 GiB"):
        to_onnx(model_of(nn.Linear(6), (4,)))


# The package and the command --------------------------------------------------------------------------------------


def test_without_the_package_onnx():
    code = """
import sys
sys.modules["onnx"] = None
import xpnet
try:
    xpnet.onnx
except ModuleNotFoundError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == 'xpnet.onnx needs the package onnx: pip install "xpnet[onnx]"\n'


def test_the_columns_of_a_table_are_named_in_the_file():
    table = data.table({"age": [30.0, 41, 52, 60], "city": ["Rome", "Oslo"] * 2, "paid": [1.5, 2.5, 1, 4]}, "paid")
    network = nn.Sequential(nn.Columns(**table.columns), nn.Linear(1))
    found = {p.key: p.value for p in to_onnx(model_of(network, table.input_shape)).metadata_props}
    assert json.loads(found["columns"]) == vars(table.form)
    assert "classes" not in found


def test_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = model_of(nn.cnn((8, 8), 3, channels=(2,), hidden=4), (8, 8), classes="abc")
    model.save("model.safetensors")
    lines = call("export", "model.safetensors", "out.onnx").stdout.splitlines()
    assert lines[0].startswith(f"out.onnx: operator set {OPSET}, {model.n_parameters:,} parameters")
    x = np.random.default_rng(0).normal(size=(2, 8, 8)).astype(np.float32)
    close(run(onnx.load("out.onnx"), x), model.predict(x))
    assert xpnet.onnx.load("out.onnx", "cpu").classes == ("a", "b", "c")
    before = Path("model.safetensors").read_bytes()
    wrong = call("export", "model.safetensors", "model.safetensors", code=2).stderr
    assert "must be called something.onnx, not model.safetensors" in wrong
    assert Path("model.safetensors").read_bytes() == before
    assert "no such folder" in call("export", "none", "nowhere/out.onnx", code=1).stderr  # before any work
    assert "no model at none" in call("export", "none", "out.onnx", code=1).stderr
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert 'pip install "xpnet[onnx]"' in call("export", "model.safetensors", "out.onnx", code=1).stderr


def test_a_pooling_of_images_of_several_sizes():
    """Its padding has to be the same: one node has one."""
    pool = nn.MaxPool2d(2)
    model = model_of(nn.Sequential(nn.Conv2d(3, 3, padding=1), pool, nn.ReLU(), pool), (9, 8, 1))
    x = np.random.default_rng(0).standard_normal((2, 9, 8, 1)).astype(np.float32)
    close(run(to_onnx(model), x), model.predict(x))
    same = nn.AvgPool2d(2, padding="same")
    with pytest.raises(ExportError, match="used on images of several sizes and pads them differently"):
        to_onnx(model_of(nn.Sequential(same, nn.ConvTranspose2d(1, 2), same), (8, 5, 1)))
