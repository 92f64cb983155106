"""Read weights of PyTorch and Keras networks into a model, and write a model's weights for PyTorch.

    from xpnet import weights

    print(weights.match(model, "lenet.safetensors"))     # which tensor would go where, with its change of layout
    weights.load(model, net.state_dict())                # or the path of a .safetensors file
    weights.load(model, "net.weights.h5")                # from Keras 3; needs the extra "keras" (h5py)
    net.load_state_dict(weights.as_torch(model, like=net.state_dict()))

Only `as_torch` needs PyTorch, and nothing needs Keras. Layers are matched by name, or by order and shapes if the names
differ; where that is ambiguous, `names` says which is which.
"""

from xpnet.weights.loading import load, match
from xpnet.weights.matching import Match
from xpnet.weights.saving import as_torch, save, state_dict

__all__ = ["Match", "as_torch", "load", "match", "save", "state_dict"]
