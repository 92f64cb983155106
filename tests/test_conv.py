"""Convolutions beyond their rows in the table of cases: drawn geometries, sizes, blocks, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, reject
from hypothesis import strategies as st

from xpnet import nn
from xpnet.backend import Backend
from xpnet.nn import ShapeError
from xpnet.verify import check
from xpnet.verify.cases.conv import CASES as CONV
from xpnet.verify.cases.conv import conv2d, conv_transpose2d
from xpnet.verify.passes import SEED, Subject, draw_values, run, spread
from xpnet.verify.rows import LayerCase, name
from xpnet.verify.tolerances import FLOAT64
from xpnet.verify.witnesses import layer_by_scalars


def built(layer: nn.Layer, shape: tuple[int, ...], backend: Backend | None = None) -> nn.Model:
    return nn.Model(layer, shape, backend or Backend("float64", SEED))


def passed(layer: nn.Layer, shape: tuple[int, ...], batch: int, backend: Backend) -> dict[str, np.ndarray]:
    subject = Subject(layer.copy, shape, batch, False, spread)
    return run(subject, draw_values(subject), backend)


# Any geometry ---------------------------------------------------------------------------------------------------

small = st.tuples(st.integers(1, 3), st.integers(1, 3))
sizes = st.tuples(st.integers(1, 5), st.integers(1, 5))
groups = st.sampled_from([(1, 1, 1), (1, 2, 3), (2, 2, 4), (3, 1, 1), (2, 1, 2)])  # groups, inputs and outputs of each


@given(sizes, small, small, small, st.tuples(st.integers(0, 2), st.integers(0, 2)), groups, st.booleans())
def test_conv2d_of_any_geometry(size, kernel, stride, dilation, padding, groups, bias):
    extent = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    assume(all(e <= n + 2 * p for e, n, p in zip(extent, size, padding, strict=True)))
    n_groups, n_in, n_out = groups[0], groups[0] * groups[1], groups[0] * groups[2]
    sides = tuple(np.repeat(padding, 2))
    case = LayerCase(
        "Conv2d",
        "drawn",
        lambda: nn.Conv2d(n_out, kernel, stride=stride, padding=padding, dilation=dilation, groups=n_groups, bias=bias),
        (*size, n_in),
        # 0 x: a window that lies in the padding is a number of the scalar engine, too
        lambda x, p: conv2d(x, p, stride, sides, dilation, n_groups) + 0.0 * x[0, 0, 0, 0],
    )
    error, allowed, where = layer_by_scalars(case, 2)
    assert error <= allowed, where


@given(sizes, small, small, small, st.booleans(), groups, st.data())
def test_transposed_convolution_of_any_geometry(size, kernel, stride, dilation, same, groups, data):
    below = st.tuples(*(st.integers(0, s - 1) for s in stride))
    padding, more = ("same", (0, 0)) if same else (data.draw(st.integers(0, 1)), data.draw(below))
    n_groups, n_in, n_out = groups[0], groups[0] * groups[1], groups[0] * groups[2]
    make = lambda: nn.ConvTranspose2d(
        n_out, kernel, stride=stride, padding=padding, output_padding=more, dilation=dilation, groups=n_groups
    )
    try:
        layer = make()
        *output, _ = layer.build((*size, n_in))
    except ShapeError:
        reject()
    before = layer.windows.before
    case = LayerCase(
        "ConvTranspose2d",
        "drawn",
        make,
        (*size, n_in),
        lambda x, p: conv_transpose2d(x, p, tuple(output), stride, (before[0], 0, before[1], 0), dilation, n_groups),
    )
    error, allowed, where = layer_by_scalars(case, 2)
    assert error <= allowed, where


@given(sizes, small, small, small, st.sampled_from(["valid", "same", 1]), st.sampled_from([1, 2]))
def test_a_transposed_convolution_is_the_transpose(size, kernel, stride, dilation, padding, n_groups):
    """With the same W, <conv x, y> = <x, transpose y> for all x and y."""
    rng = np.random.default_rng(0)
    conv = nn.Conv2d(6, kernel, stride=stride, padding=padding, dilation=dilation, groups=n_groups, bias=False)
    try:
        *windows, _ = conv.build((*size, 4))
    except ShapeError:
        reject()
    backend = Backend("float64")
    more = (0, 0)
    if padding != "same":
        numbers = (padding, padding) if padding == 1 else (0, 0)
        extent = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
        axes = zip(size, windows, stride, numbers, extent, strict=True)
        more = tuple(n - ((m - 1) * s - 2 * p + e) for n, m, s, p, e in axes)
    transpose = nn.ConvTranspose2d(
        4, kernel, stride=stride, padding=padding, output_padding=more, dilation=dilation, groups=n_groups, bias=False
    )
    assume(padding != "same" or all(n % s == 0 for n, s in zip(size, stride, strict=True)))
    W = rng.standard_normal((*kernel, 4 // n_groups, 6))
    forth, back = (
        nn.Model(layer, shape, backend, tensors={"W": W})
        for layer, shape in ((conv.copy(), (*size, 4)), (transpose, (*windows, 6)))
    )
    x, y = rng.standard_normal((2, *size, 4)), rng.standard_normal((2, *windows, 6))
    one, other = (forth.predict(x) * y).sum(), (x * back.predict(y)).sum()
    assert back.output_shape == (*size, 4)
    assert abs(one - other) <= FLOAT64 * np.abs(y).sum() * np.abs(x).max() * np.abs(W).sum()


@given(st.integers(1, 9), st.integers(1, 5), st.integers(1, 4), st.integers(1, 2))
def test_same_gives_as_many_windows_as_strides_fit(size, kernel, stride, dilation):
    layer = nn.Conv2d(1, kernel, stride=stride, padding="same", dilation=dilation)
    assert layer.build((size, 4, 1))[0] == math.ceil(size / stride)
    before, after = layer.windows.before[0], layer.windows.after[0]
    assert after - before in (0, 1)  # an odd row lies below
    assert before + after == max((math.ceil(size / stride) - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)


# What the rows do not say ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [case for case in CONV if case.what == "several blocks"], ids=name)
def test_the_row_of_several_blocks_has_several(case):
    layer = case.make()
    layer.build(case.shape)
    blocks = list(layer.windows.blocks(case.batches[0], case.shape[-1], Backend()))
    assert len(blocks) > 1
    assert [i for part in blocks for i in range(part.start, part.stop)] == list(range(case.batches[0]))


def test_the_kernel_is_not_flipped(kind):
    """An image of one bright pixel comes out as the kernel turned round, as in every library of today."""
    backend = kind("float64", SEED)
    model = built(nn.Conv2d(1, 2, padding=1, bias=False), (1, 1, 1), backend)
    model.parameters["W"].data[...] = backend.asarray(np.array([[1.0, 2.0], [3.0, 4.0]]).reshape(2, 2, 1, 1))
    assert model.predict(np.ones((1, 1, 1, 1)))[0, :, :, 0].tolist() == [[4.0, 3.0], [2.0, 1.0]]


def test_the_layers_share_scratch_memory_without_seeing_each_other(kind):
    """Padding with -infinity, then with 0, on images of several sizes."""
    backend = kind("float32", SEED)
    layers = [
        (nn.MaxPool2d(3, 1, 1), (5, 6, 2)),
        (nn.Conv2d(3, 3, padding=1, groups=1), (5, 6, 2)),
        (nn.Conv2d(2, 3, padding=2), (3, 4, 1)),
        (nn.ConvTranspose2d(2, 3, stride=2, padding=1), (3, 4, 2)),
        (nn.AvgPool2d(3, 2, 1), (4, 4, 2)),
        (nn.Conv2d(4, 2, padding="same", groups=2), (6, 5, 2)),
    ]
    for layer, shape in layers * 2:
        got, want = passed(layer, shape, 3, backend), passed(layer, shape, 3, kind("float32", SEED))
        assert all(np.array_equal(got[k], want[k]) for k in want), layer


class Counting(Backend):
    """Counts the numbers that matrix products give."""

    numbers = 0

    def matmul(self, a, b, out=None):
        product = super().matmul(a, b, out)
        self.numbers += product.size
        return product


@pytest.mark.parametrize("layer", [nn.Conv2d(3, 3, bias=False), nn.ConvTranspose2d(3, 3, bias=False)], ids=repr)
def test_no_product_is_made_for_a_dx_that_nobody_reads(layer):
    backend = Counting("float64", SEED)
    model = built(layer, (6, 7, 2), backend)
    y, backward = model.forward(np.ones((2, 6, 7, 2)))
    backend.numbers = 0
    assert backward(y, need_dx=False) is None
    assert backend.numbers == model.n_parameters  # dW alone


def test_a_saved_network_keeps_every_argument(tmp_path):
    network = nn.Sequential(
        nn.Conv2d(
            4, (3, 2), stride=2, padding="same", dilation=2, groups=2, bias=False, init=nn.init.glorot_uniform, n_in=4
        ),
        nn.ConvTranspose2d(2, 3, stride=(2, 1), padding=(1, 0), output_padding=(1, 0), dilation=2),
        nn.MaxPool2d(2, 1, 1),
        nn.AvgPool2d((2, 1), padding="same"),
        nn.GlobalAvgPool2d(),
    )
    model = built(network, (8, 9, 4))
    model.save(tmp_path / "model.safetensors")
    loaded = nn.load(tmp_path / "model.safetensors", "cpu")
    assert repr(loaded.network) == repr(network)
    x = np.random.default_rng(0).standard_normal((2, 8, 9, 4))
    assert np.array_equal(loaded.predict(x), model.predict(x))


def test_biases_do_not_decay():
    for layer in (nn.Conv2d(2, 1), nn.ConvTranspose2d(2, 1)):
        parameters = built(layer, (2, 2, 3)).parameters
        assert (parameters["W"].decay, parameters["b"].decay) == (True, False)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(3, 3, padding="same"), (1, 1, 1)),
        (nn.Conv2d(4, (1, 3), stride=(2, 1), groups=4), (5, 3, 4)),
        (nn.Conv1d(2, 3, stride=2, dilation=2), (7, 3)),
        (nn.ConvTranspose2d(2, 2, stride=2), (1, 1, 3)),
    ],
    ids=str,
)
def test_check(layer, shape):
    assert check(layer, shape, batch=3).ok


# Bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (nn.Conv2d(3, 5), (4, 6, 1), r"Conv2d: its kernel \(5, 5\) is larger than the padded image \(4, 6\)"),
        (nn.Conv2d(3, (2, 5), padding=1), (4, 2, 1), r"kernel \(2, 5\) is larger than the padded image \(6, 4\)"),
        (
            nn.Conv2d(3, 3, dilation=2),
            (4, 6, 1),
            r"kernel \(3, 3\) with dilation \(2, 2\) spans \(5, 5\) and is larger than the padded image \(4, 6\)",
        ),
        (
            nn.Conv2d(4, 1, groups=2),
            (4, 4, 3),
            r"Conv2d: 2 groups do not divide the 3 channels of an input \(4, 4, 3\)",
        ),
        (nn.Conv2d(4, 1, n_in=2), (4, 4, 3), r"Conv2d: connects 2 channels to 4, but its input has shape \(4, 4, 3\)"),
        (
            nn.Conv2d(4, 1),
            (28, 28),
            r"Conv2d: needs samples \(height, width, channels\), got shape \(28, 28\): nn.Reshape\(28, 28, 1\) before",
        ),
        (nn.Conv2d(4, 1), (2, 8, 8, 3), r"Conv2d: needs samples .*, got shape \(2, 8, 8, 3\)$"),
        (nn.Conv2d(4, 1), (None, 28), r"Conv2d: needs samples .*, got shape \(None, 28\)$"),
        (nn.Conv1d(4, 1), (8,), r"got shape \(8,\): nn.Reshape\(8, 1\) before it adds the channels"),
        (nn.Conv1d(4, 1), (8, 8, 3), r"Conv1d: needs samples \(time, channels\), got shape \(8, 8, 3\)"),
        (nn.Conv1d(4, 9), (8, 3), r"Conv1d: its kernel \(9,\) is larger than the padded image \(8,\)"),
        (nn.ConvTranspose2d(1, 1, padding=1), (2, 3, 1), r"leaves nothing of the output: its size would be \(0, 1\)"),
        (nn.ConvTranspose2d(4, 1, groups=2), (4, 4, 3), "ConvTranspose2d: 2 groups do not divide"),
        (nn.Sequential(nn.Conv2d(2, 3), nn.Conv2d(2, 3)), (4, 4, 1), r"layers.1 \(Conv2d\): its kernel"),
    ],
    ids=str,
)
def test_shapes_that_do_not_fit(layer, shape, message):
    with pytest.raises(ShapeError, match=message):
        nn.Model(layer, shape, Backend())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Conv2d(0, 3), "Conv2d cannot have 0 output channels in 1 groups"),
        (lambda: nn.Conv2d(3, 3, groups=2), "Conv2d cannot have 3 output channels in 2 groups"),
        (lambda: nn.Conv2d(3, 3, groups=0), "Conv2d cannot have 3 output channels in 0 groups"),
        (lambda: nn.Conv2d(3, 0), "kernel must be a whole number >= 1 or 2 of them, not 0"),
        (lambda: nn.Conv2d(3, (3, -1)), r"kernel must be a whole number >= 1 or 2 of them, not \(3, -1\)"),
        (lambda: nn.Conv2d(3, (0, 3)), r"kernel must be a whole number >= 1 or 2 of them, not \(0, 3\)"),
        (lambda: nn.Conv2d(3, (3, 3, 3)), r"kernel must be .* not \(3, 3, 3\)"),
        (lambda: nn.Conv2d(3, 2.5), r"kernel must be .* not 2.5"),
        (lambda: nn.Conv2d(3, "same"), "kernel must be .* not 'same'"),
        (lambda: nn.Conv2d(3, 3, stride=0), "stride must be a whole number >= 1"),
        (lambda: nn.Conv2d(3, 3, dilation=0), "dilation must be a whole number >= 1"),
        (lambda: nn.Conv2d(3, 3, padding=-1), "padding must be a whole number >= 0"),
        (lambda: nn.Conv2d(3, 3, padding="full"), 'padding must be "valid", "same" or .* not \'full\''),
        (lambda: nn.Conv1d(3, (3, 3)), r"kernel must be a whole number >= 1, not \(3, 3\)"),
        (lambda: nn.ConvTranspose2d(3, 3, stride=2, output_padding=2), "output_padding 2 must be less than stride 2"),
        (
            lambda: nn.ConvTranspose2d(3, 3, stride=(1, 2), output_padding=1),
            r"output_padding 1 must be less than stride \(1, 2\)",
        ),
        (lambda: nn.ConvTranspose2d(3, 3, stride=2, output_padding=-1), "output_padding must be a whole number >= 0"),
        (
            lambda: nn.ConvTranspose2d(3, 3, stride=2, padding="same", output_padding=1),
            'padding="same" sets the size of the output',
        ),
    ],
)
def test_bad_options(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_an_initializer_is_needed():
    with pytest.raises(TypeError, match="init is an initializer, such as"):
        nn.Conv2d(3, 3, init="he_normal")


@pytest.mark.parametrize("layer", [nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d])
def test_numbers_in_pytorchs_order_are_not_taken_for_others(layer):
    """Conv2d(3, 16, 3) has 3 input channels there; here it would be 3 outputs of 16 x 16 windows at stride 3."""
    with pytest.raises(TypeError, match="takes 3 positional arguments but 4 were given"):
        layer(3, 16, 3)
