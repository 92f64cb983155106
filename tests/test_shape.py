"""Reshape, Transpose, Parallel and shortcuts: shapes that do not fit, names, saving, and networks made of them."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet
from xpnet import nn
from xpnet.backend import Backend
from xpnet.nn.saving import restore
from xpnet.verify import check


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (nn.Reshape(2, 3), (7,), r"Reshape: cannot give the 7 numbers of \(7,\) the shape \[2, 3\]"),
        (nn.Reshape(-1, 3), (7,), r"Reshape: cannot give the 7 numbers"),
        (nn.Reshape(4, -1), (3,), r"Reshape: cannot give the 3 numbers"),
        (nn.Transpose(1, 0), (2, 3, 4), r"Transpose: orders 2 axes, but a sample has shape \(2, 3, 4\)"),
        (nn.Parallel(nn.Tanh(), axis=1), (4,), r"Parallel: cannot join outputs of shape \(4,\) along axis 1"),
        (nn.Parallel(nn.Tanh(), axis=-2), (4,), r"Parallel: cannot join outputs of shape \(4,\) along axis -2"),
        (
            nn.Parallel(nn.Tanh(), nn.Linear(3), axis=0),
            (2, 4),
            r"Parallel: cannot join outputs of shapes \(2, 4\), \(2, 3\) along axis 0",
        ),
        (nn.Parallel(nn.Tanh(), nn.Linear(4)), ((4,), (4,)), r"branches\.1 \(Linear\): needs an input whose last axis"),
        (
            nn.Parallel(nn.Tanh(), nn.Tanh()),
            ((4,), (4,)),
            r"Parallel: cannot join outputs of shapes \(\(4,\), \(4,\)\), ",
        ),
        (nn.Parallel(nn.Tanh(), nn.Flatten()), (2, 4), r"cannot join outputs of shapes \(2, 4\), \(8,\)"),
        (nn.Parallel(nn.Tanh(), nn.Linear(3, n_in=5)), (4,), r"branches.1 \(Linear\): connects \(5,\) to \(3,\)"),
        (
            nn.Residual(nn.Linear(3), shortcut=nn.Linear(2)),
            (4,),
            r"turns shape \(4,\) into \(3,\), but the sum with the shortcut's \(2,\) needs equal shapes",
        ),
        (nn.Residual(nn.Linear(3), shortcut=nn.Linear(3, n_in=5)), (4,), r"shortcut \(Linear\): connects \(5,\)"),
    ],
    ids=str,
)
def test_shapes_that_do_not_fit(layer, shape, message):
    with pytest.raises(nn.ShapeError, match=message):
        nn.Model(layer, shape, Backend())


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.Reshape(-1, -1), ValueError, r"one may be -1, not \(-1, -1\)"),
        (lambda: nn.Reshape(0), ValueError, "axes >= 1"),
        (lambda: nn.Reshape(2.0), ValueError, r"an axis of Reshape, as in .*, must be a whole number, not 2\.0"),
        (lambda: nn.Reshape((8, 8)), ValueError, r"as in Reshape\(8, 8, 1\), must be a whole number, not \(8, 8\)"),
        (lambda: nn.Transpose([1, 0]), ValueError, r"as in Transpose\(2, 0, 1\), must be a whole number, not \[1, 0\]"),
        (lambda: nn.Transpose(0, 2), ValueError, r"each axis of a sample once, counted from 0, not \(0, 2\)"),
        (lambda: nn.Transpose(1, 1), ValueError, "each axis of a sample once"),
        (lambda: nn.Parallel(), ValueError, "at least one branch"),
        (lambda: nn.Parallel(nn.Tanh(), "Tanh"), TypeError, r"branches\.1 of Parallel is 'Tanh', not a layer"),
        (lambda: nn.Residual(shortcut=3), TypeError, "shortcut of Residual is 3, not a layer"),
        (lambda: nn.Residual(shortcut=nn.Tanh), TypeError, "shortcut of Residual is the class Tanh, not a layer"),
        (lambda: nn.Parallel(nn.Tanh), TypeError, r"branches\.0 of Parallel is the class Tanh, not a layer"),
    ],
)
def test_bad_options(make, error, message):
    with pytest.raises(error, match=message):
        make()


class EveryOther(nn.Layer):
    """y = x[:, ::2], of sequences of any length."""

    def forward(self, x, backend):
        def backward(dy, need_dx=True):
            dx = backend.xp.zeros(x.shape, x.dtype)
            dx[:, ::2] = dy
            return dx

        return x[:, ::2], backward


@pytest.mark.parametrize(
    ("parallel", "shape", "given"),
    [
        (nn.Parallel(nn.Linear(3), nn.Tanh()), (None, 5), (None, 8)),
        (nn.Parallel(nn.Linear(3), nn.Linear(3), axis=0), (None, 5), (None, 3)),
        (nn.Parallel(nn.Tanh(), EveryOther(), axis=0), (None, 5), (None, 5)),
        (nn.Parallel(nn.Tanh(), EveryOther(), axis=-1), (None,), (None,)),
    ],
    ids=str,
)
def test_parallel_joins_axes_of_free_length(parallel, shape, given):
    model, axis = nn.Model(parallel, shape, Backend("float64", 0)), parallel.axis % len(shape) + 1
    assert model.output_shape == given
    for n in (6, 3):
        rng = np.random.default_rng(n)
        x = rng.standard_normal((2, n, *shape[1:]))
        ys, backwards = zip(*(branch(x, model.backend) for branch in parallel.branches), strict=True)
        y, backward = model.forward(x)
        assert np.array_equal(y, np.concatenate(ys, axis))
        dy = rng.standard_normal(y.shape)
        parts = np.split(dy, [ys[0].shape[axis]], axis)
        np.testing.assert_allclose(backward(dy), sum(b(d) for b, d in zip(backwards, parts, strict=True)), rtol=1e-12)


def test_parallel_joins_axes_that_are_free_in_outputs_alone():
    class Row(nn.Layer):
        def build(self, shape):
            return (None, *shape)

        def forward(self, x, backend):
            return x[:, None], lambda dy, need_dx=True: dy[:, 0]

    model = nn.Model(nn.Parallel(Row(), Row()), (3,), Backend())
    assert model.output_shape == (None, 6)
    assert model.predict(np.ones((2, 3), np.float32)).shape == (2, 1, 6)


def test_a_parallel_without_parameters_may_be_used_on_two_shapes():
    twice = nn.Parallel(nn.Tanh(), nn.ReLU())
    model = nn.Model(nn.Sequential(twice, nn.Linear(3), twice), (2,), Backend("float64", 0))
    assert model.predict(np.ones((5, 2))).shape == (5, 6)


@pytest.mark.parametrize("n", [2, 6])  # one row would be repeated, were nobody to look
def test_axes_of_free_length_that_differ_are_not_joined(n):
    model = nn.Model(nn.Sequential(nn.Parallel(nn.Tanh(), EveryOther())), (None, 5), Backend())
    with pytest.raises(nn.ShapeError, match=rf"layers\.0 \(Parallel\): cannot join .* \({n}, 5\), \({n // 2}, 5\)"):
        model.forward(np.zeros((1, n, 5), np.float32))


def network() -> nn.Layer:
    return nn.Sequential(
        nn.Reshape(-1, 4),
        nn.Transpose(1, 0),
        nn.Parallel(nn.Linear(2), nn.Sequential(nn.Linear(3, bias=False), nn.BatchNorm(), nn.SiLU()), axis=1),
        nn.Residual(nn.Linear(6), nn.ReLU(), nn.Linear(7), shortcut=nn.Linear(7, bias=False)),
        nn.GroupNorm(1),
        nn.Flatten(),
    )


def test_a_network_of_them_keeps_every_rule():
    check(network(), (12,))


def test_parameters_are_named_after_their_place_and_saved(tmp_path):
    model = nn.Model(network(), (12,), Backend("float64", 2))
    names = list(model.parameters)
    assert names[:3] == ["layers.2.branches.0.W", "layers.2.branches.0.b", "layers.2.branches.1.layers.0.W"]
    residual = ["layers.0.W", "layers.0.b", "layers.2.W", "layers.2.b", "shortcut.W"]
    assert names[7:12] == [f"layers.3.{name}" for name in residual]
    model.save(tmp_path / "model.safetensors")
    loaded, x = xpnet.load(tmp_path / "model.safetensors"), np.random.default_rng(0).standard_normal((3, 12))
    assert repr(loaded.network) == repr(model.network)
    assert np.array_equal(loaded.predict(x), model.predict(x))


def test_a_residual_that_was_saved_before_there_were_shortcuts():
    layer = restore({"layer": "Residual", "layers": [{"layer": "Tanh"}]}, {})
    assert layer.shortcut is None
    assert nn.Model(layer, (3,), Backend()).output_shape == (3,)


def test_pixels_pass_through_to_the_layer_that_reads_them():
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 12)
    layers = [nn.Reshape(3, 4), nn.Transpose(1, 0), nn.Standardize(5.0, 2.0)]
    y = nn.Model(nn.Sequential(*layers), (12,), Backend()).predict(pixels)
    assert np.allclose(y, (pixels.reshape(2, 3, 4).transpose(0, 2, 1) - 5.0) / 2.0)
    with pytest.raises(TypeError, match="its input is uint8"):
        nn.Model(nn.Sequential(nn.Reshape(3, 4), nn.Tanh()), (12,), Backend()).predict(pixels)


def test_no_gradient_is_taken_that_nobody_reads():
    """Below a branch without dx nothing runs, and the branches' own gradients are the same."""
    x, gradients = np.random.default_rng(0).standard_normal((3, 4)), []
    for need_dx in (True, False):
        model = nn.Model(nn.Parallel(nn.Linear(2), nn.Linear(3)), (4,), Backend("float64", 1))
        y, backward = model.forward(x)
        assert (backward(np.ones_like(y), need_dx) is None) == (not need_dx)
        gradients.append(np.array(model.grad))
    assert np.array_equal(*gradients)
    assert (gradients[0] != 0).all()


# One layer in several places ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options", "shape"),
    [
        (nn.MaxPool2d, {"kernel": 2}, (5, 7, 1)),
        (nn.AvgPool2d, {"kernel": 2, "padding": "same"}, (5, 7, 1)),
        (nn.Reshape, {"shape": (-1, 2)}, (2, 2, 4)),
    ],
)
def test_a_layer_without_parameters_may_be_used_on_several_shapes(kind, options, shape):
    """As if there were one for each place."""
    make = lambda: kind(*options["shape"]) if "shape" in options else kind(**options)
    shared, models = make(), []
    for one, another in ((shared, shared), (make(), make())):
        network = nn.Sequential(one, nn.Linear(3) if kind is nn.Reshape else nn.Conv2d(3, 2, padding=1), another)
        models.append(nn.Model(network, shape, Backend("float64", seed=1)))
    x = np.random.default_rng(0).standard_normal((4, *shape))
    (y, backward), (expected, wanted) = (model.forward(x) for model in models)
    np.testing.assert_array_equal(y, expected)
    dy = np.random.default_rng(1).standard_normal(y.shape)
    np.testing.assert_array_equal(backward(dy), wanted(dy))
    np.testing.assert_array_equal(models[0].grad, models[1].grad)
