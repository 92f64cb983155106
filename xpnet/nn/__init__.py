"""Layers: each has hyper-parameters, `build` and `forward`, which also defines the backward.

Each family of layers has its own file, whose `__all__` names what is public.
"""

from typing import TYPE_CHECKING

from xpnet import elsewhere
from xpnet.nn import (
    activation,
    attention,
    compose,
    conv,
    dropout,
    embedding,
    gelu,
    init,
    layer,
    linear,
    networks,
    norm,
    pool,
    position,
    recurrent,
    reshape,
    softmax,
    standardize,
    table,
    transformer,
)
from xpnet.nn.activation import *
from xpnet.nn.attention import *
from xpnet.nn.compose import *
from xpnet.nn.conv import *
from xpnet.nn.dropout import *
from xpnet.nn.embedding import *
from xpnet.nn.gelu import *
from xpnet.nn.layer import *
from xpnet.nn.linear import *
from xpnet.nn.loading import load
from xpnet.nn.model import Model
from xpnet.nn.networks import *
from xpnet.nn.norm import *
from xpnet.nn.pool import *
from xpnet.nn.position import *
from xpnet.nn.recurrent import *
from xpnet.nn.reshape import *
from xpnet.nn.saving import ModelFileError
from xpnet.nn.shapes import ContractError, ShapeError
from xpnet.nn.softmax import *
from xpnet.nn.standardize import *
from xpnet.nn.table import *
from xpnet.nn.transformer import *

__all__ = ["ContractError", "Model", "ModelFileError", "ShapeError", "init", "load"]
__all__ += activation.__all__ + attention.__all__ + compose.__all__ + conv.__all__ + dropout.__all__
__all__ += embedding.__all__ + gelu.__all__ + layer.__all__ + linear.__all__ + networks.__all__
__all__ += norm.__all__ + pool.__all__ + position.__all__ + recurrent.__all__ + reshape.__all__ + softmax.__all__
__all__ += standardize.__all__ + table.__all__ + transformer.__all__

if not TYPE_CHECKING:  # which would then take any name for one that exists
    __getattr__ = elsewhere.names_of_module("nn", __all__)
