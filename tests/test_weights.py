"""PyTorch's weights in models and the reverse: layouts, names, order, and what becomes of what does not fit."""

from __future__ import annotations

import re
import struct

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import xpnet
from xpnet import nn, weights
from xpnet.backend import Backend
from xpnet.nn import ModelFileError
from xpnet.verify.cases import LAYERS as ROWS
from xpnet.verify.rows import name
from xpnet.verify.strict import StrictBackend
from xpnet.weights import reading

try:
    import torch
    import torch_networks
except ModuleNotFoundError:
    torch = torch_networks = None

witness = pytest.mark.skipif(torch is None, reason="PyTorch is not installed: it is a welcome witness, not a need")


def model_of(network, shape, dtype="float64"):
    return nn.Model(network, shape, Backend(dtype))


def lenet():
    layers = [nn.Conv2d(6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 5), nn.ReLU(), nn.MaxPool2d(2)]
    flat = [nn.Transpose(2, 0, 1), nn.Flatten()]  # PyTorch has the channels first when it flattens
    return nn.Sequential(*layers, *flat, nn.Linear(120), nn.ReLU(), nn.Linear(84), nn.ReLU(), nn.Linear(10))


def gpt(blocks=2):
    stack = [nn.TransformerBlock(2, causal=True) for _ in range(blocks)]
    return nn.Sequential(nn.Embedding(11, 8), nn.LearnedPosition(7), *stack, nn.LayerNorm(), nn.Linear(11, bias=False))


def images(*shape):
    return np.random.default_rng(0).normal(size=shape)


def theirs(net, x):
    with torch.no_grad():
        return net.double()(torch.from_numpy(x)).numpy()


def first(x):
    """Channels first."""
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


NETWORKS = {
    "LeNet": ("LeNet", lenet, (28, 28, 1), lambda: images(3, 28, 28, 1)),
    "ResNet-20": ("ResNet", lambda: nn.resnet((8, 8, 3), 10, 20), (8, 8, 3), lambda: images(2, 8, 8, 3)),
    "GPT": ("GPT", gpt, (None,), lambda: np.random.default_rng(0).integers(0, 11, (3, 6))),
}


@witness
@pytest.mark.parametrize("which", NETWORKS)
def test_real_networks_give_equal_outputs_both_ways(which):
    kind, ours, shape, draw = NETWORKS[which]
    make = getattr(torch_networks, kind)
    net, model, x = torch_networks.alive(make()), model_of(ours(), shape), draw()
    given = first(x) if x.ndim == 4 else x
    want = theirs(net, given)
    weights.load(model, net.state_dict())
    assert np.allclose(model.predict(x), want, rtol=0, atol=1e-10)
    back = make().double().eval()
    back.load_state_dict(weights.as_torch(model, like=back.state_dict()))
    assert np.allclose(theirs(back, given), want, rtol=0, atol=1e-12)


# Each layer -----------------------------------------------------------------------------------------------------


def _recurrent(kind, **options):
    net = getattr(torch.nn, kind)(
        3, 4, batch_first=True, **{k.replace("layers", "num_layers"): v for k, v in options.items()}
    )
    ours = getattr(nn, kind)(4, **options)
    return net, ours, (None, 3), images(2, 5, 3), lambda net, x: net(x)[0]


PLAIN = lambda net, x: net(x)
LAST = lambda net, x: net(x.movedim(-1, 1)).movedim(1, -1)
LAYERS = {
    "Linear": lambda: (torch.nn.Linear(3, 3), nn.Linear(3), (3,), images(2, 3), PLAIN),
    "Linear, no bias": lambda: (torch.nn.Linear(3, 3, bias=False), nn.Linear(3, bias=False), (3,), images(2, 3), PLAIN),
    "Conv2d": lambda: (torch.nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3), (5, 4, 3), images(2, 5, 4, 3), LAST),
    "Conv2d, groups": lambda: (
        torch.nn.Conv2d(4, 4, (2, 3), groups=2), nn.Conv2d(4, (2, 3), groups=2), (5, 4, 4), images(2, 5, 4, 4), LAST,
    ),
    "Conv1d": lambda: (torch.nn.Conv1d(3, 3, 3), nn.Conv1d(3, 3), (6, 3), images(2, 6, 3), LAST),
    "ConvTranspose2d": lambda: (
        torch.nn.ConvTranspose2d(4, 4, 2, 2, groups=2), nn.ConvTranspose2d(4, 2, stride=2, groups=2), (3, 2, 4),
        images(2, 3, 2, 4), LAST,
    ),
    "BatchNorm": lambda: (torch.nn.BatchNorm2d(3), nn.BatchNorm(), (2, 2, 3), images(2, 2, 2, 3), LAST),
    "LayerNorm": lambda: (torch.nn.LayerNorm(3), nn.LayerNorm(), (3,), images(2, 3), PLAIN),
    "RMSNorm": lambda: (torch.nn.RMSNorm(3, eps=1e-6), nn.RMSNorm(), (3,), images(2, 3), PLAIN),
    "GroupNorm": lambda: (torch.nn.GroupNorm(2, 4), nn.GroupNorm(2), (2, 2, 4), images(2, 2, 2, 4), LAST),
    "PReLU": lambda: (torch.nn.PReLU(3), nn.PReLU(), (3,), images(2, 3), PLAIN),
    "Embedding": lambda: (torch.nn.Embedding(5, 3), nn.Embedding(5, 3), (4,), np.array([[0, 4, 2, 1]]), PLAIN),
    "RNN": lambda: _recurrent("RNN"),
    "LSTM": lambda: _recurrent("LSTM"),
    "LSTM, layers and directions": lambda: _recurrent("LSTM", layers=2, bidirectional=True),
    "GRU": lambda: _recurrent("GRU"),
    "GRU, layers and directions": lambda: _recurrent("GRU", layers=2, bidirectional=True),
    "attention": lambda: (
        torch.nn.MultiheadAttention(4, 2, batch_first=True), nn.MultiHeadAttention(2), (3, 4), images(2, 3, 4),
        lambda net, x: net(x, x, x)[0],
    ),
    "attention, no bias": lambda: (
        torch.nn.MultiheadAttention(4, 2, bias=False, batch_first=True), nn.MultiHeadAttention(2, bias=False), (3, 4),
        images(2, 3, 4), lambda net, x: net(x, x, x)[0],
    ),
    "attention on another sequence": lambda: (
        torch.nn.MultiheadAttention(4, 2, batch_first=True), nn.MultiHeadAttention(2), ((3, 4), (5, 4)),
        (images(2, 3, 4), images(2, 5, 4)), lambda net, x: net(x[0], x[1], x[1])[0],
    ),
    "attention on other channels": lambda: (
        torch.nn.MultiheadAttention(4, 2, kdim=6, vdim=6, batch_first=True), nn.MultiHeadAttention(2), ((3, 4), (5, 6)),
        (images(2, 3, 4), images(2, 5, 6)), lambda net, x: net(x[0], x[1], x[1])[0],
    ),
}  # fmt: skip


@witness
@pytest.mark.parametrize("kind", LAYERS)
def test_layers(kind):
    net, layer, shape, x, run = LAYERS[kind]()
    net = torch_networks.alive(net).double()
    model = model_of(layer, shape)
    tensors = tuple(map(torch.from_numpy, x)) if isinstance(x, tuple) else torch.from_numpy(x)
    weights.load(model, net.state_dict())
    with torch.no_grad():
        assert np.allclose(model.predict(x), run(net, tensors).numpy(), rtol=0, atol=1e-12)
    fresh = LAYERS[kind]()[0].double().eval()
    fresh.load_state_dict(weights.as_torch(model))  # under the names of torch.nn's own module
    with torch.no_grad():
        assert np.allclose(run(fresh, tensors).numpy(), run(net, tensors).numpy(), rtol=0, atol=1e-12)


def test_every_layer_with_parameters_has_a_layout():
    from xpnet.weights.layouts import LAYOUTS

    for case in ROWS:
        network = case.make()
        nn.model.declare(network, case.shape)
        for _, layer in network.walk():
            own = [p for p in vars(layer).values() if isinstance(p, nn.Parameter)]
            assert not own or type(layer) in LAYOUTS, layer


@pytest.mark.filterwarnings("ignore:.*flattens channels last")
@pytest.mark.parametrize("case", [case for case in ROWS if case.of != "mlp"], ids=name)
def test_every_row_there_and_back(case):
    """What is written is read into the same values."""
    model, other = (nn.Model(case.make(), case.shape, Backend("float64", seed)) for seed in (0, 1))
    weights.load(other, weights.state_dict(model))
    assert (other.data == model.data).all()


def test_what_pytorch_counts_beside_running_statistics_is_written():
    state = weights.state_dict(model_of(nn.Sequential(nn.Linear(3), nn.BatchNorm()), (2,)))
    held = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    assert list(state) == ["0.weight", "0.bias", *(f"1.{name}" for name in held)]
    assert state["1.num_batches_tracked"] == 0


class Scale(nn.Layer):
    def build(self, shape):
        self.bias = nn.Parameter(shape[-1:], nn.init.zeros)
        self.size = nn.Parameter(shape[-1:], nn.init.constant(1))
        return shape


def test_a_layer_of_ones_own_is_taken_as_it_is():
    model = model_of(nn.Sequential(nn.Linear(3), Scale()), (2,))
    state = weights.state_dict(model)
    assert list(state) == ["0.weight", "0.bias", "1.bias", "1.size"]
    state["1.size"] += 4
    weights.load(model, state)
    assert model.parameters["layers.1.size"].data.tolist() == [5, 5, 5]


# Names and order --------------------------------------------------------------------------------------------------


def numbered(*shapes):
    return {name: np.full(shape, i + 1.0) for i, (name, shape) in enumerate(shapes)}


def two_alike():
    return model_of(nn.Sequential(nn.Linear(2, bias=False), nn.ReLU(), nn.Linear(2, bias=False)), (2,))


def values(model):
    return [float(p.data.flat[0]) for p in model.parameters.values()]


def test_names_of_a_sequential_win_over_the_order():
    model = two_alike()
    weights.load(model, numbered(("2.weight", (2, 2)), ("0.weight", (2, 2))))
    assert values(model) == [2, 1]


def test_other_names_go_by_order_among_those_that_are_alike():
    model = two_alike()
    weights.load(model, numbered(("second.weight", (2, 2)), ("first.weight", (2, 2))))
    assert values(model) == [1, 2]


def test_an_alphabetical_order_is_none():
    model = two_alike()
    before = values(model)
    with pytest.raises(
        ValueError, match=r"first, second could each be any of layers.0, layers.2; choose with names="
    ) as error:
        weights.load(model, numbered(("first.weight", (2, 2)), ("second.weight", (2, 2))))
    assert "weight (2, 2)" in str(error.value)
    assert values(model) == before
    weights.load(model, numbered(("first.weight", (2, 2)), ("second.weight", (2, 2))), {"layers.0": "second"})
    assert values(model) == [2, 1]


def test_numbers_in_names_are_an_order():
    model = two_alike()
    weights.load(model, numbered(("block.10.weight", (2, 2)), ("block.9.weight", (2, 2))))
    assert values(model) == [2, 1]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("names", [["fc3", "fc2", "fc1"], ["up2.a", "up1.a", "mid"], ["a", "b", "c"]], ids=str)
def test_a_state_dict_keeps_its_order_whatever_its_names(names, bias):
    """Numbers may fall along a network. A weight comes before its bias there, and in no file."""
    if names == sorted(names) and not bias:
        pytest.skip("nothing tells this from the order of a file")
    state = {}
    for i, module in enumerate(names):
        state |= {f"{module}.weight": np.full((2, 2), i + 1.0)} | ({f"{module}.bias": np.zeros(2)} if bias else {})
    model = model_of(nn.Sequential(*[nn.Linear(2, bias=bias) for _ in names]), (2,))
    weights.load(model, state)
    assert [value for value in values(model) if value] == [1, 2, 3]


BLOCKS = [f"blocks.{i}" for i in range(12)]


def blocks_of_a_file():
    """12 modules that are alike, and a count in a dtype of its own, which a file has first."""
    state = {f"{name}.weight": np.full((2, 2), i, "f4") for i, name in enumerate(BLOCKS)}
    return state | {"bn.weight": np.ones(2, "f4"), "bn.num_batches_tracked": np.array(3)}


@pytest.mark.parametrize("as_dict", [False, True])
def test_a_file_has_no_order(tmp_path, as_dict):
    """Its tensors are read in any order, another one each time; `load_file` gives them by dtype, then by name."""
    save_file(blocks_of_a_file(), tmp_path / "w.safetensors")
    source = load_file(tmp_path / "w.safetensors") if as_dict else tmp_path / "w.safetensors"
    network = nn.Sequential(*[nn.Linear(2, bias=False) for _ in BLOCKS], nn.RMSNorm())
    for _ in range(5):
        assert [pair.module for pair in weights.load(model_of(network.copy(), (2,)), source).pairs] == [*BLOCKS, "bn"]


@pytest.mark.parametrize("as_dict", [False, True])
def test_modules_of_a_file_that_are_alike_and_not_numbered_are_a_doubt(tmp_path, as_dict):
    state = {
        "wte.weight": np.ones((9, 4)),  # a file has it first: it is of a larger dtype
        "fc.weight": np.ones((4, 4), "f4"),
        "lm_head.weight": np.ones((9, 4), "f4"),
    }
    save_file(state, tmp_path / "w.safetensors")
    source = load_file(tmp_path / "w.safetensors") if as_dict else tmp_path / "w.safetensors"
    network = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, bias=False), nn.Linear(9, bias=False))
    both = "wte, lm_head" if as_dict else "lm_head, wte"
    for _ in range(5):
        with pytest.raises(ValueError, match=rf"{both} could each be any of layers\.0, layers\.2"):
            weights.load(model_of(network.copy(), (None,)), source)


def test_a_file_of_several_dtypes_has_no_order_in_one_dtype_either(tmp_path):
    """There the bias of each module comes before its weight."""
    state = {"z.weight": np.ones((2, 2)), "z.bias": np.ones(2), "norm.num_batches_tracked": np.array(3)}
    state |= {f"{name}.bias": np.ones(2, "f4") for name in ("a", "norm")}
    state |= {"a.weight": np.ones((2, 2), "f4"), "norm.weight": np.ones(2, "f4")}
    save_file(state, tmp_path / "w.safetensors")
    source = {name: values.astype("f4") for name, values in load_file(tmp_path / "w.safetensors").items()}
    with pytest.raises(ValueError, match=r"z, a could each be any of layers\.0, layers\.2"):
        weights.load(model_of(nn.Sequential(nn.Linear(2), nn.LayerNorm(), nn.Linear(2)), (2,)), source)


@pytest.mark.parametrize("network", [
    lambda: nn.Linear(4, bias=False),
    lambda: nn.Sequential(nn.Linear(4, bias=False), nn.ReLU(), nn.Linear(4, bias=False)),
    lambda: nn.Sequential(nn.Linear(4), nn.BatchNorm(), nn.Linear(4)),
])  # fmt: skip
def test_the_names_of_the_model_itself_are_taken_as_they_are(network):
    model, other = (nn.Model(network(), (4,), Backend("float64", seed)) for seed in (0, 1))
    found = weights.load(other, model.tensors())
    assert (other.data == model.data).all()
    assert {row[-1] for row in found.rows()} == {"as it is"}


def test_a_square_matrix_that_is_not_called_weight_is_not_turned():
    model = model_of(nn.Sequential(nn.Linear(2, bias=False), nn.ReLU()), (2,))
    before = values(model)
    with pytest.raises(
        ValueError, match=r"dense\.kernel: its name does not tell its layout; call it dense\.kernel\.weight"
    ):
        weights.load(model, {"dense.kernel": np.eye(2)})
    assert values(model) == before


FLAT = [nn.Conv2d(2, 3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.1), nn.Linear(3)]


@pytest.mark.parametrize(("layers", "shape"), [
    (FLAT, (5, 5, 1)),
    ([nn.Conv1d(2, 3), nn.Flatten(), nn.Linear(3)], (5, 1)),
    ([nn.Sequential(nn.Conv2d(2, 3), nn.MaxPool2d(2)), nn.Reshape(-1), nn.Linear(3)], (6, 6, 1)),
    ([nn.Parallel(nn.Conv2d(2, 3), nn.Sequential(nn.Conv2d(1, 3), nn.SELU())), nn.Flatten(), nn.Linear(3)], (5, 5, 1)),
    ([nn.Parallel(nn.Conv2d(2, 3), nn.Conv2d(2, 3), axis=0), nn.Flatten(), nn.Linear(3)], (3, 3, 1)),
    ([nn.Residual(nn.Conv2d(2, 3, padding="same"), nn.Mish()), nn.Flatten(), nn.Linear(3)], (5, 5, 2)),
], ids=["images", "sequences", "reshaped", "side by side", "one above the other", "a sum"])  # fmt: skip
def test_what_is_flattened_in_another_order_is_told(layers, shape, tmp_path):
    model = model_of(nn.Sequential(*[layer.copy() for layer in layers]), shape)
    at = next(i for i, layer in enumerate(layers) if isinstance(layer, (nn.Flatten, nn.Reshape)))
    words = rf"layers.{at} flattens channels last, PyTorch channels first.*the weights of layers.{len(layers) - 1} are"
    with pytest.warns(UserWarning, match=words) as told:
        state = weights.state_dict(model)
    with pytest.warns(UserWarning, match=words) as told_again:
        weights.load(model, state)
    with pytest.warns(UserWarning, match=words) as told_at_last:
        weights.save(model, tmp_path / "net.safetensors", like=state)
    assert [warning.filename for warning in (*told, *told_again, *told_at_last)] == [__file__] * 3


@pytest.mark.parametrize(("layers", "shape"), [
    ([nn.Conv2d(2, 3), nn.Transpose(2, 0, 1), nn.ReLU(), nn.Flatten(), nn.Linear(3)], (5, 5, 1)),
    ([nn.Conv2d(1, 3), nn.Flatten(), nn.Linear(3)], (5, 5, 1)),
    ([nn.Conv2d(2, 3), nn.Flatten(), nn.Linear(3)], (3, 3, 1)),
    ([nn.Flatten(), nn.Linear(3)], (3, 3, 2)),
    ([nn.Conv2d(2, 3), nn.GlobalAvgPool2d(), nn.Linear(3), nn.Flatten(), nn.Linear(4)], (5, 5, 1)),
    ([nn.Conv1d(2, 3), nn.GRU(4), nn.Flatten(), nn.Linear(3)], (5, 1)),
    ([nn.Conv2d(2, 3), nn.Reshape(-1, 2), nn.Flatten(), nn.Linear(3)], (5, 5, 1)),
    ([nn.Parallel(nn.Sequential(nn.Conv2d(2, 3), nn.GlobalAvgPool2d()), nn.Flatten()), nn.Linear(3)], (5, 5, 1)),
    ([nn.Parallel(nn.Conv2d(2, 3), nn.Conv2d(2, 3)), nn.Flatten(), nn.Linear(3)], (3, 3, 1)),
    ([nn.Parallel(nn.Conv2d(2, 3), nn.Reshape(2, 2, 4)), nn.Flatten(), nn.Linear(3)], (4, 4, 1)),
    ([nn.Parallel(nn.Conv2d(2, 3), nn.Reshape(2, 2, 4)), nn.Parallel(nn.ReLU(), nn.Tanh()), nn.Flatten(), nn.Linear(3)],
     (4, 4, 1)),
    ([nn.Residual(nn.Conv2d(2, 3, padding="same"), nn.Reshape(5, 5, 2)), nn.Flatten(), nn.Linear(3)], (5, 5, 2)),
], ids=["turned", "one channel", "one pixel", "no kernel", "flat", "in time", "rows", "branches", "one pixel of each",
        "one branch", "one branch of several", "a sum"])  # fmt: skip
def test_what_is_flattened_alike_is_not(layers, shape):
    model = model_of(nn.Sequential(*[layer.copy() for layer in layers]), shape)
    weights.load(model, weights.state_dict(model))


def keeps_channels(case):
    """Whether channels in another order come out as the same channels in that order."""
    network, x, order = case.make(), np.random.default_rng(0).normal(size=(2, 3, 3, 4)), [2, 0, 3, 1]
    try:
        model = model_of(network, x.shape[1:])
        turned = model.predict(x[..., order])
    except (ValueError, TypeError):
        return False  # a layer of other inputs
    same = model.predict(x)
    return same.shape == x.shape and np.allclose(turned, same[..., order])


KEEPING = {case.of: case for case in ROWS if hasattr(nn, case.of) and keeps_channels(case)}


@pytest.mark.parametrize("kind", KEEPING)
def test_whatever_keeps_channels_is_told_of(kind):
    """A layer that is new is in `xpnet.verify.cases`, and so here."""
    layers = nn.Conv2d(4, 3), KEEPING[kind].make(), nn.Flatten(), nn.Linear(3)
    with pytest.warns(UserWarning, match="flattens channels last"):
        weights.state_dict(model_of(nn.Sequential(*layers), (5, 5, 1)))


@witness
def test_tensors_are_not_made_larger():
    """float32 and float64 stay where they are; NumPy has no bfloat16, and float16 is too narrow to add biases in."""
    kinds = torch.float64, torch.float32, torch.float16, torch.bfloat16
    state = {str(kind): torch.ones(3, dtype=kind) for kind in kinds}
    arrays = reading.arrays_of(state)
    assert [values.dtype for values in arrays.values()] == [np.float64, np.float32, np.float32, np.float32]
    for kind in kinds[:2]:
        assert np.shares_memory(arrays[str(kind)], state[str(kind)].numpy())


@witness
def test_biases_are_added_in_float64():
    net = torch.nn.LSTM(3, 4, batch_first=True)
    with torch.no_grad():
        net.bias_hh_l0 /= 1e3  # of another size, so that float32 has to round the sum
    model = model_of(nn.LSTM(4), (5, 3))
    weights.load(model, net.state_dict())
    theirs = net.bias_ih_l0.detach().double() + net.bias_hh_l0.detach().double()
    np.testing.assert_array_equal(np.sort(model.tensors()["cells.0.b"]), np.sort(theirs.numpy()))


@witness
def test_the_table():
    model = model_of(lenet(), (28, 28, 1))
    table = str(weights.match(model, torch_networks.LeNet().state_dict())).splitlines()
    assert table[0].split() == ["source", "shape", "model", "shape", "layout"]
    assert re.split(r"  +", table[1]) == ["conv1.weight", "(6, 1, 5, 5)", "layers.0.W", "(5, 5, 1, 6)", "OIHW -> HWIO"]
    assert re.split(r"  +", table[2]) == ["conv1.bias", "(6,)", "layers.0.b", "(6,)"]
    assert re.split(r"  +", table[5])[-1] == "(out, in) -> (in, out)"
    assert len(table) == 11


@witness
def test_the_table_of_several_cells_has_each_beside_its_own():
    net, model = torch.nn.LSTM(3, 4, 2), model_of(nn.LSTM(4, layers=2), (None, 3))
    rows = weights.match(model, net.state_dict()).rows()
    assert [(row[0], row[2]) for row in rows] == [
        ("weight_ih_l0", "cells.0.W"), ("weight_hh_l0", "cells.0.U"), ("bias_ih_l0", "cells.0.b"), ("bias_hh_l0", ""),
        ("weight_ih_l1", "cells.1.W"), ("weight_hh_l1", "cells.1.U"), ("bias_ih_l1", "cells.1.b"), ("bias_hh_l1", ""),
    ]  # fmt: skip
    assert rows[0][4] == "(out, in) -> (in, out), gates i f n o -> i f o n, biases added"


def test_on_a_device():
    """Values go through the backend; the strict device refuses arrays of the host."""
    model = nn.Model(nn.Sequential(nn.Linear(3), nn.LSTM(2)), (4, 2), StrictBackend("float32", 0))
    state = weights.state_dict(model)
    state["0.weight"] += 1
    weights.load(model, state)
    assert (model.tensors()["layers.0.W"] == state["0.weight"].T).all()


@witness
def test_what_does_not_fit_is_named_at_once_and_nothing_changes():
    model = model_of(lenet(), (28, 28, 1))
    before = model.data.copy()
    state = torch_networks.LeNet().state_dict()
    state["fc1.weight"] = torch.zeros(120, 401)
    del state["conv2.bias"]
    with pytest.raises(ValueError, match="the weights do not fit the model") as error:
        weights.load(model, state)
    for text in ("fc1", "layers.8", "(120, 401)", "(120, 400)", "conv2", "layers.3"):
        assert text in str(error.value)
    state = torch_networks.LeNet().state_dict()
    state["fc3.bias"][1] = float("nan")
    with pytest.raises(ValueError, match=r"layers\.12\.b holds values that are not finite"):
        weights.load(model, state)
    assert (model.data == before).all()


def test_names_that_are_not_there():
    with pytest.raises(
        ValueError, match=r"(?s)no layer 'layers.9': choose from layers.0, layers.2.*no module 'x': choose from a, b"
    ):
        weights.load(
            two_alike(), numbered(("a.weight", (2, 2)), ("b.weight", (2, 2))), {"layers.9": "a", "layers.0": "x"}
        )


# Files ------------------------------------------------------------------------------------------------------------


@witness
def test_a_safetensors_file_both_ways(tmp_path):
    net, x = torch_networks.alive(torch_networks.LeNet()), images(2, 28, 28, 1)
    model = model_of(lenet(), (28, 28, 1))
    path = tmp_path / "lenet.safetensors"
    save_file({name: t.numpy() for name, t in net.state_dict().items()}, path)
    weights.load(model, path)
    assert np.allclose(model.predict(x), theirs(net, first(x)), atol=1e-6)
    weights.save(model, tmp_path / "again.safetensors", like=net.state_dict())
    other = model_of(lenet(), (28, 28, 1))
    weights.load(other, str(tmp_path / "again.safetensors"))
    assert (other.data == model.data).all()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.safetensors", "lenet.safetensors"]


@witness
def test_bfloat16(tmp_path):
    tensor = torch.tensor([[1.5, -2.25], [3.0, 1e-3]], dtype=torch.bfloat16)
    from safetensors.torch import save_file as save_torch

    save_torch({"weight": tensor}, tmp_path / "b.safetensors")
    for source in (tmp_path / "b.safetensors", {"weight": tensor}):
        model = model_of(nn.Linear(2, bias=False), (2,))
        weights.load(model, source)
        assert (model.parameters["W"].data == tensor.float().numpy().T).all()


@witness
def test_pickles_are_not_read(tmp_path):
    for file, old in (("net.pt", False), ("old.pth", True)):
        torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / file, _use_new_zipfile_serialization=not old)
        with pytest.raises(ModelFileError, match=r"(?s)can run any program.*torch.load.*weights_only=True"):
            weights.load(two_alike(), tmp_path / file)


def test_arrays_of_numpy_are_no_pickle(tmp_path):
    np.savez(tmp_path / "w.npz", weight=np.eye(2))
    with pytest.raises(ModelFileError, match=r"w\.npz: the file holds NumPy arrays,.*dict\(numpy\.load\('w\.npz'\)\)"):
        weights.load(two_alike(), tmp_path / "w.npz")
    model = model_of(nn.Linear(2, bias=False), (2,))
    weights.load(model, dict(np.load(tmp_path / "w.npz")))
    assert values(model) == [1]
    damaged = (tmp_path / "w.npz").read_bytes().replace(b"PK\x01\x02", b"XXXX", 1)
    (tmp_path / "w.npz").write_bytes(damaged)
    with pytest.raises(ModelFileError, match="can run any program"):
        weights.load(two_alike(), tmp_path / "w.npz")


def test_arguments_of_another_kind():
    with pytest.raises(TypeError, match=r"weights go into a Model, such as .*, not a Linear"):
        weights.load(nn.Linear(2), {"weight": np.eye(2)})
    with pytest.raises(TypeError, match=r"names must be a dict from layers to modules, .*, not a list"):
        weights.load(two_alike(), {}, ["first"])


@pytest.mark.parametrize("header", [0x80, 0x180, 0x280, 0x480])
def test_no_length_of_a_header_looks_like_a_pickle(tmp_path, header):
    text = b'{"weight":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}}'.ljust(header)
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", header) + text + struct.pack("<f", 7))
    model = model_of(nn.Linear(1, bias=False), (1,))
    weights.load(model, tmp_path / "w.safetensors")
    assert values(model) == [7]


def test_files_that_are_none(tmp_path):
    (tmp_path / "cut.safetensors").write_bytes(b"\x40" + b"\0" * 7 + b'{"weight"')
    with pytest.raises(ModelFileError, match="cannot be read as a safetensors file"):
        weights.load(two_alike(), tmp_path / "cut.safetensors")
    text = b'{"weight":{"dtype":"F8_E4M3","shape":[1,1],"data_offsets":[0,1]}}'.ljust(72)
    (tmp_path / "f8.safetensors").write_bytes(struct.pack("<Q", 72) + text + b"1")
    with pytest.raises(ModelFileError, match="read as a safetensors file: tensors of dtype F8_E4M3 are not supported"):
        weights.load(two_alike(), tmp_path / "f8.safetensors")
    two_alike().save(tmp_path / "model.safetensors")
    with pytest.raises(
        ModelFileError, match=r"is a model file of xpnet, .*: open it with xpnet\.load\('.*model\.safetensors'\)"
    ):
        weights.load(two_alike(), tmp_path / "model.safetensors")
    with pytest.raises(FileNotFoundError, match=r"no weights at .*: a folder"):
        weights.load(two_alike(), tmp_path)
    with pytest.raises(TypeError, match=r"from net\.state_dict\(\) or a dict of arrays, not from a list"):
        weights.load(two_alike(), [1])
    with pytest.raises(TypeError, match="a is a str, not an array of numbers"):
        weights.load(two_alike(), {"a": "text"})


def test_a_model_trains_on_with_what_was_loaded():
    """The values are written into the model's own memory, which optimizers hold."""
    model = two_alike()
    data = model.data
    weights.load(model, numbered(("0.weight", (2, 2)), ("2.weight", (2, 2))))
    assert model.data is data
    assert data.tolist() == [1] * 4 + [2] * 4
    assert xpnet.weights is weights
