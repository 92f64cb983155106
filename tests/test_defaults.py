"""What is used where nothing is said: to change one of these changes the results of all who rely on it."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import xpnet
from xpnet import losses, nn, optim, schedules, train
from xpnet.backend import Backend
from xpnet.nn import init
from xpnet.verify.cases import LAYERS
from xpnet.verify.check import check, check_loss
from xpnet.verify.parity import parity
from xpnet.verify.passes import draw_values

CONVOLUTION = {
    "stride": 1, "padding": "valid", "dilation": 1, "groups": 1, "bias": True, "init": init.he_normal, "n_in": None,
}  # fmt: skip
RECURRENT = {"layers": 1, "bidirectional": False, "mask": False, "state": False, "return_state": False}
ADAM = {"lr": 0.001, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "groups": None}
DEFAULTS = [
    (nn.AvgPool2d, {"stride": None, "padding": "valid"}),
    (nn.MaxPool2d, {"stride": None, "padding": "valid"}),
    (nn.BatchNorm, {"momentum": 0.1, "eps": 1e-5}),
    (nn.GroupNorm, {"eps": 1e-5}),
    (nn.LayerNorm, {"eps": 1e-5}),
    (nn.RMSNorm, {"eps": 1e-6}),
    (nn.Conv1d, CONVOLUTION),
    (nn.Conv2d, CONVOLUTION),
    (nn.ConvTranspose2d, CONVOLUTION | {"output_padding": 0}),
    (nn.Dropout, {"p": 0.5}),
    (nn.ELU, {"alpha": 1.0}),
    (nn.GELU, {"approximate": "tanh"}),
    (nn.LeakyReLU, {"slope": 0.01}),
    (nn.PReLU, {"slope": 0.25}),
    (nn.Linear, {"n_in": None, "bias": True, "init": init.he_normal}),
    (nn.RNN, RECURRENT),
    (nn.LSTM, RECURRENT),
    (nn.GRU, RECURRENT),
    (nn.MultiHeadAttention, {"causal": False, "rotary": False, "bias": True, "init": init.lecun_normal}),
    (
        nn.TransformerBlock,
        {"causal": False, "rotary": False, "dropout": 0.0, "bias": True, "init": init.lecun_normal},
    ),
    (nn.Parallel, {"axis": -1}),
    (nn.Parameter, {"decay": True, "trained": True}),
    (nn.mlp, {"activation": nn.ReLU, "dropout": 0.0}),
    (nn.cnn, {"channels": (32, 64), "hidden": 128, "dropout": 0.0}),
    (nn.resnet, {"depth": 20, "width": 16}),
    (nn.Model, {"classes": (), "tensors": None}),
    (nn.Model.predict, {"batch_size": 1000}),
    (nn.Model.probabilities, {"batch_size": 1000}),
    (nn.Model.summary, {"batch_size": 64, "example": None}),
    (nn.load, {"device": None, "dtype": None, "seed": 0}),
    (optim.SGD, {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0, "groups": None}),
    (optim.RMSProp, {"lr": 0.001, "rho": 0.9, "eps": 1e-8, "weight_decay": 0.0, "groups": None}),
    (optim.AdaGrad, {"lr": 0.01, "eps": 1e-10, "weight_decay": 0.0, "groups": None}),
    (optim.Adam, ADAM),
    (optim.AdamW, ADAM | {"weight_decay": 0.01}),
    (optim.NAdam, ADAM | {"lr": 0.002, "momentum_decay": 0.004}),
    (optim.LAMB, ADAM | {"lr": 0.003, "eps": 1e-6, "weight_decay": 0.01}),
    (optim.Muon, ADAM | {"momentum": 0.95, "weight_decay": 0.01}),
    (optim.Lion, {"lr": 0.0001, "betas": (0.9, 0.99), "weight_decay": 0.0, "groups": None}),
    (optim.Optimizer, {"weight_decay": 0.0, "groups": None}),
    (optim.WeightAverage, {"decay": 0.999}),
    (losses.BinaryCrossEntropy, {"reduction": "mean"}),
    (losses.CosineDistance, {"reduction": "mean"}),
    (losses.KLDivergence, {"reduction": "mean"}),
    (losses.MeanAbsoluteError, {"reduction": "mean"}),
    (losses.MeanSquaredError, {"reduction": "mean"}),
    (losses.Focal, {"gamma": 2.0, "alpha": 0.25, "reduction": "mean"}),
    (losses.Huber, {"delta": 1.0, "reduction": "mean"}),
    (losses.MultiMargin, {"margin": 1.0, "reduction": "mean"}),
    (
        losses.SoftmaxCrossEntropy,
        {"label_smoothing": 0.0, "class_weights": None, "ignore": None, "reduction": "mean"},
    ),
    (schedules.Cosine, {"final": 0.0}),
    (schedules.Plateau, {"factor": 0.5, "patience": 3, "final": 0.0}),
    (schedules.Step, {"factor": 0.1}),
    (xpnet.select, {"device": None, "dtype": "float32", "seed": 0, "threads": None}),
    (
        train.fit,
        {
            "validation": None, "batch_size": None, "schedule": None, "clip": None, "augment": None, "metrics": None,
            "accumulate": 1, "average": None, "patience": None, "keep_best": False, "callbacks": (),
            "checkpoint": None, "resume": False, "quiet": False,
        },
    ),
    (train.train_step, {"clip": None, "accumulate": 1}),
    (train.evaluate, {"batch_size": 1000, "metrics": None}),
    (xpnet.debug, {"forbid_transfers": False}),
    (check_loss, {"batch": 4, "raises": True}),
    (parity, {"model": None, "data": None, "batch": 8, "steps": 50, "second": None}),
]  # fmt: skip


def defaults(function):
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


@pytest.mark.parametrize(("function", "expected"), DEFAULTS, ids=lambda value: getattr(value, "__qualname__", ""))
def test_what_is_used_if_nothing_is_said(function, expected):
    found = {name: value for name, value in defaults(function).items() if name in expected}
    assert found == expected
    assert {name: type(value) for name, value in found.items()} == {k: type(v) for k, v in expected.items()}


def test_the_check_is_of_four_samples_between_minus_2_and_2():
    found = defaults(check)
    drawn = found.pop("draw")(np.random.default_rng(0), (4, 3))
    assert found == {"batch": 4, "raises": True}
    assert np.abs(drawn).max() <= 2


@pytest.mark.parametrize("case", {case.of: case for case in LAYERS}.values(), ids=lambda case: case.of)
def test_a_backward_gives_dx_unless_told_otherwise(case):
    """As a layer of one's own calls it that holds this one."""
    values, backend = draw_values(case.subject(2)), Backend("float64")
    model = nn.Model(case.make(), case.shape, backend)
    x = [values[name] for name in sorted(values) if name == "x" or name.startswith("x[")]
    _, backward = model.network.forward(tuple(x) if len(x) > 1 else x[0], backend)
    dy = [values[name] for name in sorted(values) if name == "dy" or name.startswith("dy[")]
    dx = backward(tuple(dy) if len(dy) > 1 else dy[0])
    whole = dx if isinstance(dx, tuple) else (dx,)
    taken = model.network.accepts_integers
    if not (taken is True or (isinstance(taken, tuple) and taken[0])):
        assert whole[0].shape == x[0].shape
