"""A network without NumPy: one number at a time, in pure Python, to read and to check the rest of xpnet against.

Read it in this order: `value.py` (a number that knows its derivative), `losses.py` (softmax, errors),
`network.py` (neurons, layers, a network), `training.py` (learning from one sample at a time),
`weights_file.py` (saving), `convert.py` (the same network as an `nn.Model`, which runs on NumPy or CuPy, and back).
"""

from xpnet.scalar.convert import from_model, to_model
from xpnet.scalar.losses import cross_entropy, mean_squared_error, softmax, softmax_squared_error
from xpnet.scalar.network import BasicNet, LinearLayer, Neuron
from xpnet.scalar.training import Progress, accuracy, train
from xpnet.scalar.value import Value

__all__ = [
    "BasicNet",
    "LinearLayer",
    "Neuron",
    "Progress",
    "Value",
    "accuracy",
    "cross_entropy",
    "from_model",
    "mean_squared_error",
    "softmax",
    "softmax_squared_error",
    "to_model",
    "train",
]
