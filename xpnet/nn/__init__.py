"""Layers: hyper-parameters, `build` and `forward`, with the backward right under the forward."""

from xpnet.nn import init
from xpnet.nn.activation import GELU, LeakyReLU, ReLU, Sigmoid, Softmax, Tanh
from xpnet.nn.conv import Conv1d, Conv2d, ConvTranspose2d
from xpnet.nn.dropout import Dropout
from xpnet.nn.layer import Layer, Parameter, Residual, Sequential, ShapeError
from xpnet.nn.linear import Flatten, Linear, Standardize
from xpnet.nn.mlp import mlp
from xpnet.nn.model import Model
from xpnet.nn.saving import ModelFileError, load

__all__ = [
    "GELU",
    "Conv1d",
    "Conv2d",
    "ConvTranspose2d",
    "Dropout",
    "Flatten",
    "Layer",
    "LeakyReLU",
    "Linear",
    "Model",
    "ModelFileError",
    "Parameter",
    "ReLU",
    "Residual",
    "Sequential",
    "ShapeError",
    "Sigmoid",
    "Softmax",
    "Standardize",
    "Tanh",
    "init",
    "load",
    "mlp",
]
