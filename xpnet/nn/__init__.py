"""Layers: hyper-parameters, `build` and `forward`, with the backward right under the forward."""

from xpnet.nn import init
from xpnet.nn.activation import (
    ELU,
    SELU,
    HardSwish,
    LeakyReLU,
    LogSoftmax,
    Mish,
    PReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from xpnet.nn.compose import Parallel
from xpnet.nn.dropout import Dropout
from xpnet.nn.embedding import Embedding
from xpnet.nn.gelu import GELU
from xpnet.nn.layer import Layer, Parameter, Residual, Sequential, ShapeError
from xpnet.nn.linear import Linear, Standardize
from xpnet.nn.mlp import mlp
from xpnet.nn.model import Model
from xpnet.nn.norm import BatchNorm, GroupNorm, LayerNorm, RMSNorm
from xpnet.nn.saving import ModelFileError, load
from xpnet.nn.shape import Flatten, Reshape, Transpose

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "BatchNorm",
    "Dropout",
    "Embedding",
    "Flatten",
    "GroupNorm",
    "HardSwish",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "Mish",
    "Model",
    "ModelFileError",
    "PReLU",
    "Parallel",
    "Parameter",
    "RMSNorm",
    "ReLU",
    "Reshape",
    "Residual",
    "Sequential",
    "ShapeError",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Standardize",
    "Tanh",
    "Transpose",
    "init",
    "load",
    "mlp",
]
