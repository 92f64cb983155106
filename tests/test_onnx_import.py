"""ONNX files of xpnet's, PyTorch's and scikit-learn's as models of layers, and what becomes of files that are none."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import xpnet
from xpnet import losses, nn, optim
from xpnet.backend import Backend
from xpnet.nn import ModelFileError
from xpnet.nn.shapes import is_several
from xpnet.verify.cases import LAYERS
from xpnet.verify.rows import name

onnx = pytest.importorskip("onnx", reason='onnx is not installed: pip install "xpnet[onnx]"')

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402
from test_onnx_export import built, close  # noqa: E402

from xpnet.onnx import (  # noqa: E402
    export,
    load,
    reading,
    to_onnx,
)
from xpnet.onnx.reading import model_of  # noqa: E402

# There and back ---------------------------------------------------------------------------------------------------

SEVERAL = "only a network with one can be read|choose one with output="
NO_LAYER = {  # rows whose files hold what no layer is by itself
    "MultiHeadAttention": "a way that no layer of xpnet has",
    "TransformerBlock": "a way that no layer of xpnet has",
    "SinusoidalPosition": "Sin",
    "Columns": "a way that no layer of xpnet has|its input 0 depends on the network's input",
}


@pytest.mark.parametrize("case", LAYERS, ids=name)
def test_there_and_back(case, tmp_path):
    model, x = built(case, case.batches[-1])
    export(model, tmp_path / "model.onnx")
    several = is_several(model.input_shape) or is_several(model.output_shape)
    if several or (case.of in NO_LAYER and case.what != "numbers"):
        with pytest.raises(ModelFileError, match=SEVERAL if several else NO_LAYER[case.of]):
            load(tmp_path / "model.onnx", "cpu")
        return
    again = load(tmp_path / "model.onnx", "cpu")
    whole = any(isinstance(layer, nn.Embedding) for _, layer in model.network.walk())
    close(again.predict(x if whole else x.astype(np.float32)), model.predict(x))
    assert again.n_parameters >= model.n_parameters  # shared ones come apart
    assert again.input_shape == model.input_shape


def back(network, shape, classes=()):
    """A model after it has been written and read."""
    return model_of(to_onnx(nn.Model(network, shape, Backend("float32"), classes)), "cpu")


def test_options_come_back():
    layers = nn.BatchNorm(0.3, 1e-3), nn.LayerNorm(1e-4), nn.GroupNorm(2, 2e-5), nn.RMSNorm(3e-6), nn.LeakyReLU(0.3)
    model = back(nn.Sequential(*layers), (3, 4))
    found = [layer.config() for layer in model.network.layers if not isinstance(layer, nn.Transpose)]
    assert found == [layer.config() for layer in layers]


def test_no_transpose_is_left_between_layers_of_images():
    model = back(nn.cnn((8, 8, 1), 3, channels=(2, 3), hidden=4), (8, 8, 1), classes="abc")
    kinds = [type(layer).__name__ for layer in model.network.layers]
    block = ["Conv2d", "MaxPool2d", "BatchNorm", "ReLU"]
    assert kinds == [*block, *block, "Flatten", "Linear", "ReLU", "Linear"]
    assert model.classes == ("a", "b", "c")


def test_a_table_of_positions_comes_back_whole():
    """Of a sequence of free length: no more rows than the table has are ever needed."""
    model = back(nn.Sequential(nn.LearnedPosition(1500)), (None, 2))
    assert model.network.layers[0].length == 1500


# PyTorch ----------------------------------------------------------------------------------------------------------


def torch_export(net, x, path, **options):
    """By the exporter from a traced program, or with dynamo=True by the newer one; the batch is free."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    if options.get("dynamo"):
        pytest.importorskip("onnxscript", reason="onnxscript is not installed: PyTorch's newer exporter needs it")
        options = {"dynamic_shapes": ({0: "batch"},), "verbose": False, **options}
    else:
        options = {"dynamic_axes": {"x": {0: "n"}}, "input_names": ["x"], **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the one is deprecated, the other uses what is
        torch.onnx.export(net, (torch.from_numpy(x),), str(path), **options)
    with torch.no_grad():
        return net(torch.from_numpy(x)).numpy()


def drawn(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def torch_nets():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    import torch_networks

    class Recurrent(torch.nn.Module):
        def __init__(self, kind, **options):
            super().__init__()
            self.inner = getattr(torch.nn, kind)(3, 4, batch_first=True, **options)

        def forward(self, x):
            return self.inner(x)[0]

    t = torch.nn
    smooth = t.GELU(), t.GELU("tanh"), t.SiLU(), t.Mish(), t.Softplus(), t.Hardswish(), t.ELU(0.7), t.SELU(), t.Tanh()
    return {
        "LeNet": (torch_networks.LeNet(), drawn(2, 1, 28, 28)),
        "ResNet": (torch_networks.ResNet(1, 4), drawn(2, 3, 8, 8)),
        "LSTM": (Recurrent("LSTM", num_layers=2, bidirectional=True), drawn(2, 5, 3)),
        "GRU": (Recurrent("GRU"), drawn(2, 5, 3)),
        "RNN": (Recurrent("RNN"), drawn(2, 5, 3)),
        "rows": (
            t.Sequential(t.LayerNorm(3), *smooth, t.LeakyReLU(), t.Linear(3, 4), t.LogSoftmax(-1)),
            drawn(2, 5, 3),
        ),
        "images": (
            t.Sequential(
                t.GroupNorm(2, 4), t.PReLU(4), t.ConvTranspose2d(4, 2, 3, 2, 1, 1), t.AvgPool2d(2), t.InstanceNorm2d(2),
                t.AdaptiveAvgPool2d(1), t.Flatten(), t.Softmax(1),
            ),
            drawn(2, 4, 6, 6),
        ),
        "sequences": (
            t.Sequential(t.Conv1d(3, 4, 3, padding="same"), t.BatchNorm1d(4), t.Tanh(), t.Flatten(), t.Linear(20, 2)),
            drawn(2, 3, 5),
        ),
        "tokens": (
            t.Sequential(t.Embedding(7, 3), Recurrent("LSTM", bidirectional=True), t.RMSNorm(8), t.Softplus()),
            np.array([[0, 6, 2], [1, 1, 5]]),
        ),
    }  # fmt: skip


@pytest.mark.parametrize("which", ["LeNet", "ResNet", "LSTM", "GRU", "RNN", "rows", "images", "sequences"])
def test_files_of_pytorch(which, tmp_path):
    net, x = torch_nets()[which]
    import torch_networks

    want = torch_export(torch_networks.alive(net), x, tmp_path / "net.onnx", dynamo=False)
    close(load(tmp_path / "net.onnx", "cpu").predict(x), want)


def test_a_file_of_pytorchs_newer_exporter(tmp_path):
    """It works out shapes in the graph, and its values lie in a second file beside the first."""
    net, x = torch_nets()["tokens"]
    want = torch_export(net.eval(), x, tmp_path / "net.onnx", dynamo=True)
    assert (tmp_path / "net.onnx.data").is_file()
    model = load(tmp_path / "net.onnx", "cpu")
    close(model.predict(x), want)
    assert [type(layer).__name__ for layer in model.network.layers] == ["Embedding", "LSTM", "RMSNorm", "Softplus"]


def test_a_network_of_pytorch_is_trained_further(tmp_path):
    """BatchNorm's state comes with it, and follows the data from there on."""
    net, x = torch_nets()["ResNet"]
    import torch
    import torch_networks

    kept = {"training": torch.onnx.TrainingMode.TRAINING, "do_constant_folding": False}  # each BatchNorm stays one
    torch_export(torch_networks.alive(net), x, tmp_path / "net.onnx", dynamo=False, **kept)
    with torch.no_grad():
        want = net.eval()(torch.from_numpy(x)).numpy()
    model = load(tmp_path / "net.onnx", "cpu")
    norms = [layer for _, layer in model.network.walk() if isinstance(layer, nn.BatchNorm)]
    assert len(norms) == 9
    assert np.allclose(norms[0].running_var.data, net.bn1.running_var.numpy())
    close(model.predict(x), want)
    before = norms[0].running_mean.data.copy()
    images, target = drawn(16, 3, 8, 8), np.arange(16) % 10
    loss, optimizer = losses.SoftmaxCrossEntropy(), optim.Adam(model, lr=0.01)
    values = []
    for _ in range(15):
        model.zero_grad()
        with model.backend.mode(training=True):
            y, backward = model.forward(images)
            value, dy = loss(y, target, model.backend)
            backward(dy, need_dx=False)
        optimizer.step()
        values.append(float(value))
    assert values[-1] < 0.5 * values[0]
    model.save(tmp_path / "further.safetensors")  # and it is a model as any other
    assert (xpnet.load(tmp_path / "further.safetensors", "cpu").predict(x) == model.predict(x)).all()
    assert not np.allclose(norms[0].running_mean.data, before)


# scikit-learn -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["three classes", "names of classes", "two classes", "regression"])
def test_files_of_scikit_learn(kind, tmp_path):
    skl2onnx = pytest.importorskip("skl2onnx", reason="skl2onnx is not installed")
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x = drawn(40, 5)
    labels = np.arange(40) % 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has not converged after three steps
        if kind == "regression":
            fitted = make_pipeline(StandardScaler(), MLPRegressor(hidden_layer_sizes=(4,), max_iter=3)).fit(x, x[:, 0])
        else:
            y = {"two classes": labels % 2, "names of classes": np.array(["a", "b", "c"])[labels]}.get(kind, labels)
            fitted = make_pipeline(StandardScaler(), MLPClassifier((7,), "tanh", max_iter=3)).fit(x, y)
        plain = {id(fitted): {"zipmap": False}} if kind == "three classes" else None
        file = skl2onnx.to_onnx(fitted, x[:1], options=plain)
    onnx.save(file, tmp_path / "net.onnx")
    model = load(tmp_path / "net.onnx", "cpu")
    want = fitted.predict(x)[:, None] if kind == "regression" else fitted.predict_proba(x)
    close(model.predict(x), want.astype(np.float32))
    if kind in ("three classes", "names of classes"):
        close(model.probabilities(x), want.astype(np.float32))
    assert model.classes == {"names of classes": ("a", "b", "c"), "two classes": ("0", "1")}.get(kind, ())


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"offset": [1.0, 2.0], "scale": [2.0, 4.0]}, [4.0, 8.0]),
        ({"offset": [1.0, 2.0]}, [2.0, 2.0]),
        ({"scale": [2.0, 4.0]}, [6.0, 16.0]),
        ({"offset": [1.0], "scale": [2.0, 4.0]}, [4.0, 12.0]),
    ],
)
def test_a_scaler_of_two_columns_subtracts_0_and_multiplies_by_1_unless_more_is_given(given, wanted, tmp_path):
    file = graph([helper.make_node("Scaler", ["x"], ["y"], domain="ai.onnx.ml", **given)], shape=("n", 2))
    file.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    onnx.save(file, tmp_path / "net.onnx")
    close(load(tmp_path / "net.onnx", "cpu").predict(np.array([[3.0, 4.0]], F)), np.array([wanted], F))


# Single operators -------------------------------------------------------------------------------------------------


def graph(nodes, constants=(), shape=("n", 4), outputs=("y",), version=21, kind=TensorProto.FLOAT):
    """A file of these nodes, from an input x."""
    tensors = [numpy_helper.from_array(np.asarray(v), name) for name, v in dict(constants).items()]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ("n", None)) for name in outputs]
    x = helper.make_tensor_value_info("x", kind, shape)
    return helper.make_model(
        helper.make_graph(nodes, "test", [x], values, tensors), opset_imports=[helper.make_opsetid("", version)],
        ir_version=10,
    )  # fmt: skip


def node(kind, *inputs, output="y", **attributes):
    return helper.make_node(kind, list(inputs), [output], f"the_{kind.lower()}", **attributes)


def ints(*values):
    return np.array(values, np.int64)


F = np.float32
READ = {  # nodes, constants, x, what must come out
    "Gemm": (
        [node("Gemm", "x", "W", "b", alpha=2.0, beta=0.5, transB=1)],
        {"W": drawn(3, 4), "b": drawn(3)},
        lambda x, c: 2 * x @ c["W"].T + 0.5 * c["b"],
    ),
    "scaled and shifted": (
        [node("Div", "x", "a", output="h"), node("Sub", "h", "b", output="i"), node("Mul", "c", "i")],
        {"a": F(255), "b": drawn(4), "c": F(3)},
        lambda x, c: 3 * (x / F(255) - c["b"]),
    ),
    "times one": ([node("Mul", "x", "a", output="h"), node("Relu", "h")], {"a": F(1)}, lambda x, c: np.maximum(x, 0)),
    "x + f(x)": (
        [node("Tanh", "x", output="h"), node("Add", "h", "x")], {}, lambda x, c: x + np.tanh(x),
    ),
    "f(x) + g(x)": (
        [node("Tanh", "x", output="h"), node("Relu", "x", output="i"), node("Add", "h", "i")],
        {},
        lambda x, c: np.tanh(x) + np.maximum(x, 0),
    ),
    "side by side": (
        [node("Tanh", "x", output="h"), node("Concat", "x", "h", axis=1)],
        {},
        lambda x, c: np.concatenate([x, np.tanh(x)], 1),
    ),
    "axes of one": (
        [node("Unsqueeze", "x", "a", output="h"), node("Relu", "h", output="i"), node("Squeeze", "i", "a")],
        {"a": ints(1)},
        lambda x, c: np.maximum(x, 0),
    ),
    "a shape by arithmetic": (
        [
            node("Shape", "x", output="s"), node("Gather", "s", "zero", output="n"),
            node("Concat", "n", "rest", output="t", axis=0), node("Reshape", "x", "t"),
        ],
        {"zero": ints(0), "rest": ints(2, 2)},
        lambda x, c: x.reshape(-1, 2, 2),
    ),
    "an output without a name": (
        [helper.make_node("Dropout", ["x"], ["h", ""], "dropped"), node("Gemm", "h", "W", "")],
        {"W": drawn(4, 2)},
        lambda x, c: x @ c["W"],
    ),
    "one slope": ([node("PRelu", "x", "a")], {"a": np.array([0.2], F)}, lambda x, c: np.where(x > 0, x, F(0.2) * x)),
}  # fmt: skip


@pytest.mark.parametrize("which", READ)
def test_operators(which):
    nodes, constants, want = READ[which]
    x = drawn(3, 4)
    close(model_of(graph(nodes, constants), "cpu").predict(x), want(x, constants))


def test_branches_of_images_come_together_in_one_order_of_axes():
    W = drawn(3, 3, 1, 1)
    convolved = lambda x: np.einsum("nchw,oc->nohw", x, W[:, :, 0, 0])
    x = drawn(2, 3, 3, 3)
    for join, want in (
        (node("Add", "x", "h"), x + convolved(x)),
        (node("Concat", "x", "h", axis=1), np.concatenate([x, convolved(x)], 1)),
    ):
        file = graph([node("Conv", "x", "W", output="h"), join], {"W": W}, shape=("n", 3, 3, 3))
        close(model_of(file, "cpu").predict(x), want)


def test_one_minus_a_probability():
    """Of one feature: a Linear, as Standardize divides by what is above 0."""
    nodes = [node("Sigmoid", "x", output="p"), node("Sub", "one", "p", output="q"), node("Concat", "q", "p", axis=1)]
    model, x = model_of(graph(nodes, {"one": F(1)}, shape=("n", 1)), "cpu"), drawn(3, 1)
    p = 1 / (1 + np.exp(-x))
    close(model.predict(x), np.concatenate([1 - p, p], axis=1))
    with pytest.raises(ModelFileError, match="multiplies by constants that are 0 or negative"):
        model_of(graph([node("Sub", "one", "x")], {"one": F(1)}), "cpu")


def test_one_of_several_outputs(tmp_path):
    nodes = [node("Relu", "x", output="a"), node("Tanh", "a", output="b")]
    onnx.save(graph(nodes, outputs=("a", "b")), tmp_path / "two.onnx")
    with pytest.raises(ModelFileError, match="the network has the outputs a, b: choose one with output="):
        load(tmp_path / "two.onnx", "cpu")
    assert len(load(tmp_path / "two.onnx", "cpu", output="a").network.layers) == 1
    with pytest.raises(ModelFileError, match="no value 'c' depends on the input: the outputs are a, b"):
        load(tmp_path / "two.onnx", "cpu", output="c")


def size_of_rows(last, *more):
    """sqrt(mean x^2 + eps) of the last axis as "d", then these nodes."""
    return [
        node("Pow", *last, output="a"), node("ReduceMean", "a", "axes", output="b"),
        node("Add", "b", "eps", output="c"), node("Sqrt", "c", output="d"), *more,
    ]  # fmt: skip


RMS = {"two": F(2), "axes": ints(-1), "eps": F(1e-6), "g": drawn(4), "column": drawn(3, 1)}
GROUPS = [
    node("Reshape", "x", "seen", output="a"), node("InstanceNormalization", "a", "one", "zero", output="b"),
    node("Reshape", "b", "shape", output="c"), node("Mul", "c", "g", output="d"), node("Add", "d", "h"),
]  # fmt: skip
GROUPS_OF_4 = {
    "seen": ints(0, 2, -1), "one": np.ones(2, F), "zero": np.zeros(2, F), "shape": ints(1009, 4, 4, 4),
    "g": drawn(4, 1, 1), "h": drawn(1, 4, 1, 1),
}  # fmt: skip
SOFTPLUS = [node("Softplus", "x", output="s"), node("Greater", "x", "limit", output="b"), node("Where", "b", "x", "s")]
RMS_NORM = size_of_rows(("x", "two"), node("Div", "x", "d", output="e"), node("Mul", "e", "g"))
LOOK_ALIKES = {  # nodes, constants, the shape of x, which constants make it what it looks like
    "Softplus, thresholds": (SOFTPLUS, {"limit": np.array([20, -9, 20, 20], F)}, (4,), {"limit": F(20)}),
    "Softplus, the other way": (
        [SOFTPLUS[0], node("Greater", "limit", "x", output="b"), SOFTPLUS[2]], {"limit": F(20)}, (4,), None,
    ),
    "RMSNorm, gamma along time": (
        [*RMS_NORM[:-1], node("Mul", "e", "column")], RMS, (3, 4), {"column": drawn(4)},
    ),
    "RMSNorm, the other way": (
        size_of_rows(("x", "two"), node("Div", "d", "x", output="e"), node("Mul", "e", "g")), RMS, (4,), None,
    ),
    "RMSNorm, powers of 2": (
        size_of_rows(("two", "x"), node("Div", "x", "d", output="e"), node("Mul", "e", "g")), RMS, (4,), None,
    ),
    "GroupNorm, gamma along rows": (GROUPS, {**GROUPS_OF_4, "g": drawn(4, 1)}, (4, 4, 4), {}),
    "GroupNorm, gamma along columns": (GROUPS, {**GROUPS_OF_4, "g": drawn(4)}, (4, 4, 4), {}),
    "GroupNorm, beta along rows": (GROUPS, {**GROUPS_OF_4, "h": drawn(4, 1)}, (4, 4, 4), {}),
}  # fmt: skip


@pytest.mark.parametrize("which", LOOK_ALIKES)
def test_what_looks_like_a_layer_is_refused(which):
    nodes, constants, shape, usual = LOOK_ALIKES[which]
    with pytest.raises(ModelFileError, match=r"it is not|no layer of xpnet"):
        model_of(graph(nodes, constants, shape=("n", *shape)), "cpu")
    if usual is not None:  # and the layer itself is read
        constants = {**constants, **(usual or GROUPS_OF_4)}
        computed_as_they_are(nodes, constants, shape)


def computed_as_they_are(nodes, constants, shape):
    model, x = model_of(graph(nodes, constants, shape=("n", *shape)), "cpu"), drawn(1009, *shape)
    session = ReferenceEvaluator(graph(nodes, constants, shape=("n", *shape)))
    close(model.predict(x), session.run(None, {"x": x})[0])


def test_every_second_position_of_a_table():
    constants = {"table": drawn(8, 4), "start": ints(0), "end": ints(6), "axes": ints(0), "steps": ints(2)}
    for names in (["axes", "steps"], ["axes"], []):
        end = ints(6 if "steps" in names else 3)
        cut = node("Slice", "table", "start", "end", *names, output="rows")
        computed_as_they_are([cut, node("Add", "x", "rows")], {**constants, "end": end}, (3, 4))


@pytest.mark.parametrize(("axis", "shape"), [(-2, (3, 4)), (-1, (4,)), (1, (3, 4)), (-3, (3, 2, 2))])
def test_flatten_counts_axes_from_either_end(axis, shape):
    computed_as_they_are([node("Flatten", "x", axis=axis)], {}, shape)


def test_an_axis_of_as_many_as_stand_for_free_ones_is_none():
    model = model_of(graph([node("Reshape", "x", "s")], {"s": ints(0, 2026)}, shape=("n", 1013, 2)), "cpu")
    assert model.output_shape == (2026,)
    with pytest.raises(ModelFileError, match=r"it reshapes an axis of free length: export"):
        model_of(graph([node("Reshape", "x", "s")], {"s": ints(0, -1)}, shape=("n", "t", 2)), "cpu")
    with pytest.raises(ModelFileError, match=r"it reshapes \(batch, free, 2\) to \(batch\*free, 2\), which does not"):
        model_of(graph([node("Reshape", "x", "s")], {"s": ints(-1, 2)}, shape=("n", "t", 2)), "cpu")


LSTM = {"W": drawn(1, 8, 4), "R": drawn(1, 8, 2), "h": np.ones((1, 1009, 2), F)}
REFUSED = {
    "unknown": (
        [node("Erf", "x")], {}, "'the_erf' (Erf) cannot be read: no layer of xpnet corresponds to this operator",
    ),
    "unknown constant": (
        [node("Sin", "a", output="b"), node("Add", "x", "b")], {"a": drawn(4)}, "'the_sin' (Sin) cannot be read",
    ),
    "a product of two": (
        [node("Relu", "x", output="h"), node("Mul", "x", "h")], {}, "'the_mul' (Mul) cannot be read: no layer of xpnet",
    ),
    "crossing ways": (
        [
            node("Relu", "x", output="a"), node("Tanh", "x", output="b"), node("Add", "a", "b", output="c"),
            node("Concat", "c", "a", axis=1),
        ],
        {}, "'the_relu' (Relu) cannot be read: its outputs are used in a way that no layer of xpnet has",
    ),
    "another axis": (
        [node("LayerNormalization", "x", "g", axis=0)], {"g": drawn(4)}, "it normalises over several axes",
    ),
    "a mean over another axis": (
        [
            node("Pow", "x", "two", output="a"), node("ReduceMean", "a", "axes", output="b"),
            node("Add", "b", "eps", output="c"), node("Sqrt", "c", output="d"), node("Div", "x", "d", output="e"),
            node("Mul", "e", "g"),
        ],
        {"two": F(2), "axes": ints(0), "eps": F(1e-6), "g": drawn(4)}, "it is not an RMSNorm",
    ),
    "the batch": ([node("Transpose", "x", perm=[1, 0])], {}, "the batch is not the first axis"),
    "the batch, of a Transpose that says nothing": ([node("Transpose", "x")], {}, "the batch is not the first axis"),
    "a batch that changes": (
        [node("Reshape", "x", "s")], {"s": ints(-1, 2)},
        "it reshapes (batch, 4) to (2*batch, 2), which does not keep the batch axis",
    ),
    "another number of values": (
        [node("Reshape", "x", "s")], {"s": ints(0, 5)},
        "it reshapes (batch, 4) to (batch, 5), which does not keep the number of values",
    ),
    "a huge constant": (
        [node("ConstantOfShape", "s", output="c"), node("Add", "x", "c")], {"s": ints(1 << 40)},
        "makes a constant of 1,099,511",
    ),
    "a huge range": (
        [node("Range", "a", "b", "c", output="r"), node("Gather", "t", "r", output="i"), node("Add", "x", "i")],
        {"a": F(0), "b": F(1e30), "c": F(1e-30), "t": drawn(4)}, "makes a constant of",
    ),
    "a huge outer product": (
        [node("Mul", "a", "b", output="c"), node("Add", "x", "c")],
        {"a": np.zeros((20_000, 1), F), "b": np.zeros((1, 20_000), F)}, "makes a constant of 400,000,000",
    ),
    "values that are not finite": ([node("MatMul", "x", "W")], {"W": np.full((4, 1), np.nan, F)}, "not finite"),
    "shapes that do not fit": ([node("MatMul", "x", "W")], {"W": drawn(5, 1)}, "'the_matmul' (MatMul) cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("which", REFUSED)
def test_what_cannot_be_read_is_named(which, tmp_path):
    nodes, constants, message = REFUSED[which]
    (tmp_path / "net.onnx").write_bytes(graph(nodes, constants).SerializeToString())
    with pytest.raises(ModelFileError) as error:
        load(tmp_path / "net.onnx", "cpu")
    assert str(error.value).startswith(f"{tmp_path / 'net.onnx'}: ")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("attributes", "inputs", "message"),
    [
        ({"direction": "reverse"}, [], "direction"),
        ({"clip": 3.0}, [], "clip"),
        ({"activations": ["Relu", "Tanh", "Tanh"]}, [], "activations"),
        ({}, ["h"], "its initial state is not 0"),
    ],
)
def test_recurrent_operators_that_no_layer_is(attributes, inputs, message):
    steps = [node("Transpose", "x", output="t", perm=[1, 0, 2])]
    steps += [node("LSTM", "t", "W", "R", "", "", *inputs, hidden_size=2, **attributes)]
    with pytest.raises(ModelFileError, match=message):
        model_of(graph(steps, LSTM, shape=("n", 3, 4)), "cpu")


def test_two_directions_that_are_not_joined(tmp_path):
    """The placeholders for their axes stay out of the message."""
    nodes = [
        node("Transpose", "x", output="t", perm=[1, 0, 2]),
        node("LSTM", "t", "W", "R", hidden_size=2, direction="bidirectional"),
    ]
    both = {"W": drawn(2, 8, 4), "R": drawn(2, 8, 2)}
    file = graph(nodes, both, shape=("n", 3, 4))
    refused(file.SerializeToString(), tmp_path, "net.onnx: the two directions of a recurrent layer have to be joined")


def test_a_second_output_is_not_taken_for_the_first():
    pool = helper.make_node("MaxPool", ["x"], ["largest", "y"], "pool", kernel_shape=[2, 2])
    with pytest.raises(ModelFileError, match=r"'pool' .* are used in a way that no layer of xpnet has"):
        model_of(graph([pool], shape=("n", 1, 4, 4)), "cpu")


def test_padding_that_no_layer_has():
    """More of it on one side is read where "same" has it there, and nowhere else."""
    W = {"W": drawn(2, 1, 2, 2)}
    for pads, readable in (([0, 0, 1, 1], True), ([1, 1, 0, 0], False), ([0, 0, 2, 2], False)):
        file = graph([node("Conv", "x", "W", pads=pads)], W, shape=("n", 1, 4, 4))
        if readable:
            assert model_of(file, "cpu").network.layers[1].padding == "same"
        else:
            with pytest.raises(ModelFileError, match='neither equal on both sides nor that of padding="same"'):
                model_of(file, "cpu")


def test_a_pool_that_leaves_padding_out(tmp_path):
    pool = node("AveragePool", "x", kernel_shape=[2, 2], pads=[1, 1, 1, 1])
    with pytest.raises(ModelFileError, match="count_include_pad=0"):
        model_of(graph([pool], shape=("n", 1, 4, 4)), "cpu")
    for size, kernel, beyond in ((5, 2, True), (6, 2, False), (5, 3, False), (6, 3, True)):
        rounded = node("MaxPool", "x", kernel_shape=[kernel] * 2, strides=[2, 2], ceil_mode=1)
        if beyond:
            with pytest.raises(ModelFileError, match="ceil_mode"):
                model_of(graph([rounded], shape=("n", 1, size, size)), "cpu")
        else:
            assert model_of(graph([rounded], shape=("n", 1, size, size)), "cpu").output_shape[0] == 1


# Files that are none ----------------------------------------------------------------------------------------------


def whole():
    return graph([node("MatMul", "x", "W", output="h"), node("Relu", "h")], {"W": drawn(4, 3)})


def refused(data, tmp_path, message):
    (tmp_path / "net.onnx").write_bytes(data)
    with pytest.raises(ModelFileError, match=message):
        load(tmp_path / "net.onnx", "cpu")


def test_cut_files(tmp_path):
    data = whole().SerializeToString()
    for length in range(0, len(data), 7):
        refused(
            data[:length],
            tmp_path,
            "complete ONNX file|valid ONNX file|operator set|has the outputs|the network has 0 inputs",
        )


def test_files_that_contradict_themselves(tmp_path):
    circle = [node("Add", "x", "b", output="a"), node("Relu", "a", output="b"), node("Relu", "b")]
    refused(graph(circle).SerializeToString(), tmp_path, "not a valid ONNX file: .*topologically sorted")
    refused(graph([node("MatMul", "x", "W")]).SerializeToString(), tmp_path, "not a valid ONNX file: .*W")
    lies = whole()
    lies.graph.initializer[0].dims[0] = 1 << 40
    refused(lies.SerializeToString(), tmp_path, "valid ONNX file|cannot be read")
    old = graph([node("Relu", "x")], version=9)
    refused(old.SerializeToString(), tmp_path, "operator set 9 is too old: export the network again with 13 or later")
    sparse = graph([node("Relu", "x")])
    sparse.graph.sparse_initializer.add()
    refused(sparse.SerializeToString(), tmp_path, "sparse initialisers")
    wide = graph([node("Relu", "x")], shape=("n", 1 << 20, 1 << 20))
    refused(
        wide.SerializeToString(), tmp_path, "the input 'x' has shape .* a sample may have 67,108,864 values at most"
    )


def test_enormous_files_are_not_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MOST_BYTES", 100)
    monkeypatch.setattr(onnx, "load_model_from_string", None)  # never called
    refused(bytes(101), tmp_path, "the file has 101 bytes, more than the limit of 100")
    monkeypatch.undo()
    monkeypatch.setattr(reading, "MOST_LAYERS", 1)
    refused(whole().SerializeToString(), tmp_path, "the graph has 2 nodes, more than the limit of 1")


def test_a_network_that_is_nested_without_end(tmp_path):
    nodes, last = [], "x"
    for i in range(2000):
        nodes += [node("Relu", last, output=f"a{i}"), node("Add", f"a{i}", "x", output=f"b{i}")]
        last = f"b{i}"
    refused(graph([*nodes, node("Identity", last)]).SerializeToString(), tmp_path, "nested too deeply")


def with_data(**entries):
    """The whole file, with its weights in another one."""
    file = whole()
    tensor = file.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return file.SerializeToString()


def test_data_beside_the_file(tmp_path):
    values = drawn(4, 3)
    (tmp_path / "inner").mkdir()
    for location, entries in (("w.bin", {"offset": "4"}), ("inner/w.bin", {"offset": "4", "length": "48"})):
        (tmp_path / location).write_bytes(b"1234" + values.tobytes())
        (tmp_path / "net.onnx").write_bytes(with_data(location=location, **entries))
        model = load(tmp_path / "net.onnx", "cpu")
        assert (model.parameters["layers.0.W"].data == values).all()


@pytest.mark.parametrize("kind", ["above", "absolute", "link", "linked folder", "null", "none"])
def test_data_outside_of_the_folder_are_refused(kind, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    secret = tmp_path / "secret"
    secret.write_bytes(drawn(4, 3).tobytes())
    if kind == "link":
        (folder / "link").symlink_to(secret)
    if kind == "linked folder":
        (folder / "link").symlink_to(tmp_path, target_is_directory=True)
    location = {
        "above": "../secret", "absolute": str(secret), "link": "link", "linked folder": "link/secret", "null": "a\0b",
        "none": "",
    }[kind]  # fmt: skip
    refused(with_data(location=location), folder, "which is not inside the file's folder")


def test_data_that_are_not_as_they_are_said_to_be(tmp_path):
    (tmp_path / "w.bin").write_bytes(drawn(4, 3).tobytes())
    refused(with_data(location="no.bin"), tmp_path, "the data of 'W' are missing: there is no file 'no.bin' in the")
    refused(with_data(location="w.bin", offset="8"), tmp_path, "cannot be read|valid ONNX file")
    refused(with_data(location="w.bin", length="4000"), tmp_path, "the data of 'W' are cut off")
    refused(with_data(location="w.bin", offset="99"), tmp_path, "the data of 'W' are cut off")
    for wrong in ("-4", "1e3", "9" * 30):
        refused(with_data(location="w.bin", offset=wrong), tmp_path, "have an impossible offset or length")


def test_what_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no ONNX file at .*: no such file"):
        load(tmp_path / "none.onnx")
    with pytest.raises(FileNotFoundError, match=r"no ONNX file at .*: a folder"):
        load(tmp_path)


def test_networks_of_several_inputs_are_refused():
    file = whole()
    file.graph.input.add().CopyFrom(helper.make_tensor_value_info("z", TensorProto.FLOAT, ("n", 4)))
    with pytest.raises(ModelFileError, match=r"the network has 2 inputs \(x, z\): only a network with one can be read"):
        model_of(file, "cpu")
