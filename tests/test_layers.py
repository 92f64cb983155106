"""Every layer of the table of cases, against all its witnesses; and what a layer does with the shapes it is given."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpnet import nn
from xpnet.backend import Backend
from xpnet.nn import ShapeError
from xpnet.verify.cases import LAYERS, TABLE, uncovered
from xpnet.verify.cases import activation as ref
from xpnet.verify.cases.arithmetic import each_row
from xpnet.verify.check import layer_findings
from xpnet.verify.passes import SEED, Subject, draw_values, is_data, run, spread, unnamed
from xpnet.verify.report import Finding, finding
from xpnet.verify.rows import name
from xpnet.verify.tolerances import FLOAT32
from xpnet.verify.witnesses import layer_by_formula, layer_by_scalars


def assert_all(findings: list[Finding]) -> None:
    failed = [str(f) for f in findings if not f.ok]
    assert not failed, "\n".join(failed)


def test_everything_public_has_a_row():
    assert not uncovered()


def test_rows_have_names_of_their_own():
    names = [name(case) for case in TABLE]
    assert len(set(names)) == len(names)


def test_every_layer_has_rows_of_three_shapes():
    shapes = defaultdict(set)
    for case in LAYERS:
        shapes[case.of].add(case.shape)
    assert not {of: found for of, found in shapes.items() if len(found) < 3}


@pytest.mark.parametrize("case", LAYERS, ids=name)
def test_invariants_gradients_and_agreement(case, kind):
    for batch in case.batches:
        assert_all(list(layer_findings(case.subject(batch), kind, f"batch of {batch}")))


def test_layers_that_take_each_position_by_itself():
    """What they give at a position stays when all others change: `nn.decode` relies on it."""
    checked = set()
    for case in LAYERS:
        subject = case.subject(max(case.batches))
        values = draw_values(subject)
        tensors = {key: v for key, v in values.items() if not is_data(key)}
        model, x = nn.Model(subject.make(), subject.shape, Backend("float64"), tensors=tensors), unnamed("x", values)
        layers = [layer for _, layer in model.network.walk()]
        if not all(layer.by_position for layer in layers) or len(model.output_shape) < 2:
            continue
        y = model.predict(x)
        for t in range(x.shape[1]):
            others = x[::-1].copy()
            others[:, t] = x[:, t]
            assert np.abs(model.predict(others)[:, t] - y[:, t]).max() <= 1e-12, name(case)
        checked |= {type(layer) for layer in layers}
    marked = {kind for kind in vars(nn).values() if isinstance(kind, type) and getattr(kind, "by_position", False)}
    assert marked - checked == {nn.Blocked, nn.TransformerBlock}  # of convolutions; of attention


@pytest.mark.parametrize("case", [case for case in LAYERS if case.reference], ids=name)
def test_formula(case, kind):
    for batch in case.batches:
        assert_all([finding("formula", f"batch of {batch}", layer_by_formula, case, batch, kind)])


@pytest.mark.parametrize("case", [case for case in LAYERS if case.reference], ids=name)
def test_scalar_engine(case):
    for batch in case.batches:
        assert_all([finding("scalar engine", f"batch of {batch}", layer_by_scalars, case, batch)])


def test_no_row_is_without_an_independent_forward():
    """A gradient check cannot see a wrong forward: every layer needs a formula, or PyTorch's."""
    with_formula = {case.of for case in LAYERS if case.reference}
    assert with_formula == {case.of for case in LAYERS}


# Drawn shapes and values ----------------------------------------------------------------------------------------

axes = st.lists(st.integers(1, 5), min_size=0, max_size=2)
numbers = st.floats(-1e4, 1e4, width=32)


@given(axes, st.integers(1, 9), st.integers(1, 9), st.integers(1, 6), st.booleans())
def test_linear_of_any_shape(leading, n_in, n_out, batch, bias):
    subject = Subject(lambda: nn.Linear(n_out, bias=bias), (*leading, n_in), batch, False, spread)
    assert_all([f for f in layer_findings(subject, Backend, "cpu") if "saved" not in f.name])


@given(st.lists(st.integers(1, 6), min_size=2, max_size=4), st.integers(1, 4), st.sampled_from([0.0, 0.5]))
def test_mlp_of_any_size(sizes, batch, dropout):
    subject = Subject(lambda: nn.mlp(sizes, nn.GELU, dropout), (sizes[0],), batch, True, spread)
    assert_all([f for f in layer_findings(subject, Backend, "cpu") if "saved" not in f.name])


ACTIVATIONS = {
    nn.ReLU: ref.relu,
    nn.LeakyReLU: lambda v: ref.leaky_relu(v, 0.01),
    nn.Sigmoid: ref.sigmoid,
    nn.Tanh: ref.tanh,
    nn.GELU: ref.gelu,
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layer", ACTIVATIONS, ids=lambda layer: layer.__name__)
@given(values=st.lists(numbers, min_size=1, max_size=8))
def test_activations_of_any_size_of_number(layer, dtype, values):
    backend = Backend(dtype)
    y, backward = layer().forward(backend.asarray(np.array([values])), backend)
    dx = backward(np.ones_like(y))
    expected = np.array([[ACTIVATIONS[layer](v) for v in values]])
    assert np.isfinite(y).all()
    assert np.isfinite(dx).all()
    assert np.abs(y - expected).max() <= FLOAT32 * max(1.0, np.abs(values).max())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(rows=st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=3))
def test_softmax_of_any_size_of_number(dtype, rows):
    backend, x = Backend(dtype), np.array(rows)
    y, backward = nn.Softmax().forward(backend.asarray(x), backend)
    expected = each_row(ref.softmax)(x, {}).astype(np.float64)
    assert np.abs(y - expected).max() <= 2 * FLOAT32
    assert np.abs(y.sum(axis=1) - 1).max() <= FLOAT32
    assert np.abs(backward(np.ones_like(y))).max() <= FLOAT32  # the sum does not change, so its gradient is 0


# What the formulas do not say -----------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_drops_its_share_and_keeps_the_mean(p, kind):
    backend = kind("float32", 1)
    with backend.mode(training=True):
        y, _ = nn.Dropout(p).forward(backend.asarray(np.ones((400, 50), np.float32)), backend)
    y = np.array(backend.to_host(y))
    assert abs((y == 0).mean() - p) < 5 * math.sqrt(p * (1 - p) / y.size)
    assert np.allclose(y[y != 0], 1 / (1 - p), rtol=FLOAT32)


def test_dropout_draws_a_new_mask_each_time(kind):
    backend = kind("float32", 1)
    x = backend.asarray(np.ones((4, 8), np.float32))
    with backend.mode(training=True):
        first, second = (np.array(backend.to_host(nn.Dropout().forward(x, backend)[0])) for _ in range(2))
    assert (first != second).any()


def test_relu_has_slope_0_at_0():
    backend = Backend("float64")
    y, backward = nn.ReLU().forward(np.array([[-1.0, 0.0, 2.0]]), backend)
    assert y.tolist() == [[0.0, 0.0, 2.0]]
    assert backward(np.ones_like(y)).tolist() == [[0.0, 0.0, 1.0]]


@pytest.mark.parametrize(("dtype", "n"), [("float32", 3), ("float64", 3), ("float32", 5)])
def test_standardize_takes_pixels_as_they_are(dtype, n):
    subject = Subject(
        lambda: nn.Standardize(100.0, 50.0), (1,), n, False, lambda rng, shape: np.full(shape, 200, np.uint8)
    )
    assert run(subject, draw_values(subject), Backend(dtype, SEED))["y"].tolist() == [[2.0]] * n


def test_sequential_skips_gradients_that_nobody_reads():
    """Below the lowest layer with parameters nothing is computed where no dx is wanted."""

    class Counting(nn.Layer):
        calls = 0

        def forward(self, x, backend):
            def backward(dy, need_dx=True):
                Counting.calls += 1
                return dy

            return x, backward

    model = nn.Model(nn.Sequential(Counting(), nn.Linear(2), Counting()), (3,), Backend("float64"))
    _, backward = model.forward(np.ones((1, 3)))
    assert backward(np.ones((1, 2)), need_dx=False) is None
    assert Counting.calls == 1


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (nn.Linear(3, n_in=5), (4,), r"Linear: connects \(5,\) to \(3,\), but its input has shape \(4,\)"),
        (nn.Linear(3), (), "Linear: needs an input whose last axis has a fixed length"),
        (nn.Softmax(), (), "Softmax: needs an input of at least one axis"),
        (nn.Linear(3), (0,), r"every axis of an input must be >= 1, got \(0,\)"),
        (nn.Residual(nn.Linear(3)), (4,), r"Residual: turns shape \(4,\) into \(3,\)"),
        (nn.Linear(4, 3), (4,), r"its input has shape \(4,\): the outputs come first, nn.Linear\(n_out, n_in\)"),
        (nn.mlp([4, 3, 2]), (5,), r"layers.0 \(Linear\): connects \(4,\) to \(3,\), but its input has shape \(5,\)$"),
        (
            nn.Sequential(nn.Flatten(), nn.Residual(nn.Linear(4), nn.Linear(6, n_in=7))),
            (2, 2),
            r"layers.1.layers.1 \(Linear\): connects \(7,\)",
        ),
    ],
    ids=str,
)
def test_shapes_that_do_not_fit_name_the_layer(layer, shape, message):
    with pytest.raises(ShapeError, match=message):
        nn.Model(layer, shape, Backend())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Linear(0), "n_out of Linear must be a whole number >= 1, not 0"),
        (lambda: nn.Linear(3.5), "n_out of Linear must be a whole number >= 1, not 3.5"),
        (lambda: nn.LSTM(4, layers="2"), "layers of LSTM must be a whole number >= 1, not '2'"),
        (lambda: nn.Dropout(1.0), "p of Dropout must be a finite number >= 0 and below 1, not 1.0"),
        (lambda: nn.Dropout(-0.1), "p of Dropout must be a finite number >= 0 and below 1, not -0.1"),
        (lambda: nn.LeakyReLU(1.0), "slope of LeakyReLU must be a finite number >= 0 and below 1"),
        (lambda: nn.Standardize(0.0, 0.0), "std > 0"),
        (lambda: nn.Standardize(math.nan, 1.0), "finite mean"),
        (lambda: nn.Standardize([0.0, math.nan], [1.0, 1.0]), "finite mean"),
        (lambda: nn.Standardize([0.0, 0.0], [1.0, math.inf]), "finite mean"),
        (lambda: nn.Standardize([0.0, 0.0], [1.0, 0.0]), "std > 0"),
        (lambda: nn.Standardize(0.0, 1e-31), "std from 1e-30 to 1e30, for float32, not 0.0 and 1e-31: scale the data"),
        (lambda: nn.Standardize([0.0, 0.0], [1.0, 1e31]), "std from 1e-30 to 1e30, for float32"),
        (lambda: nn.Standardize([0.0, -1e31], [1.0, 1.0]), "means up to 1e30"),
        (lambda: nn.mlp([3]), "at least two sizes"),
        (lambda: nn.mlp([3, 0, 2]), "all >= 1"),
    ],
)
def test_bad_options(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_sequential_takes_layers_only():
    with pytest.raises(TypeError, match=r"layers\.1 of Sequential is 'ReLU', not a layer"):
        nn.Sequential(nn.Linear(3), "ReLU")
    with pytest.raises(TypeError, match=r"layers\.1 of Sequential is the class ReLU, not a layer: make one by ReLU\("):
        nn.Sequential(nn.Linear(3), nn.ReLU)
    with pytest.raises(
        TypeError, match=r"layers\.0 of Sequential is a list, not a layer: .* a star before it: \*layers"
    ):
        nn.Sequential([nn.Linear(3), nn.ReLU()])
