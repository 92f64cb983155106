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
        (nn.Parallel(nn.Tanh(), nn.Flatten()), (2, 4), r"cannot join outputs of shapes \(2, 4\), \(8,\)"),
        (nn.Parallel(nn.Tanh(), nn.Linear(3, n_in=5)), (4,), r"branches.1 \(Linear\): connects \(5,\) to \(3,\)"),
        (
            nn.Residual(nn.Linear(3), shortcut=nn.Linear(2)),
            (4,),
            r"turns shape \(4,\) into \(3,\), but the sum with the shortcut's \(2,\) needs both alike",
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
        (lambda: nn.Reshape(2.0), ValueError, "an axis must be a whole number, not 2.0"),
        (lambda: nn.Transpose(0, 2), ValueError, r"each axis of a sample once, from 0 on, not \(0, 2\)"),
        (lambda: nn.Transpose(1, 1), ValueError, "each axis of a sample once"),
        (lambda: nn.Parallel(), ValueError, "at least one branch"),
        (lambda: nn.Parallel(nn.Tanh(), "Tanh"), TypeError, r"branches\.1 of Parallel is 'Tanh', not a layer"),
        (lambda: nn.Residual(shortcut=3), TypeError, "shortcut of Residual is 3, not a layer"),
    ],
)
def test_bad_options(make, error, message):
    with pytest.raises(error, match=message):
        make()


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
