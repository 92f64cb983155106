"""Layers: hyper-parameters, `build` and `forward`, with the backward right under the forward."""

from xpnet.nn import init
from xpnet.nn.activation import GELU, LeakyReLU, ReLU, Sigmoid, Softmax, Tanh
from xpnet.nn.conv import Conv1d, Conv2d, ConvTranspose2d
from xpnet.nn.dropout import Dropout
from xpnet.nn.layer import Layer, Parameter, Residual, Sequential, ShapeError
from xpnet.nn.linear import Flatten, Linear, Standardize
from xpnet.nn.mlp import mlp
from xpnet.nn.model import Model
from xpnet.nn.pool import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from xpnet.nn.saving import ModelFileError, load

__all__ = [
    "GELU",
    "AvgPool2d",
    "Conv1d",
    "Conv2d",
    "ConvTranspose2d",
    "Dropout",
    "Flatten",
    "GlobalAvgPool2d",
    "Layer",
    "LeakyReLU",
    "Linear",
    "MaxPool2d",
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
