"""Weights of PyTorch networks, into a model and out of it, and of Keras networks into a model.

    from xpnet import weights

    print(weights.match(model, "lenet.safetensors"))     # which tensor would go where, and what its layout becomes
    weights.load(model, net.state_dict())                # or the path of a .safetensors file
    weights.load(model, "net.weights.h5")                # of Keras 3; needs the extra "keras", which is h5py
    net.load_state_dict(weights.as_torch(model, like=net.state_dict()))

PyTorch and Keras themselves are not needed. Layers are found by name, or by their order and shapes where names differ;
`names` says which is which where that leaves a doubt.
"""

from xpnet.weights.loading import load, match
from xpnet.weights.matching import Match
from xpnet.weights.saving import as_torch, save, state_dict

__all__ = ["Match", "as_torch", "load", "match", "save", "state_dict"]
