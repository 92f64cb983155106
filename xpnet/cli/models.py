"""`xpnet models`: what networks `xpnet train` can make."""

from __future__ import annotations

from xpnet.cli.console import say
from xpnet.train.recipes import MNIST, MODELS


def show_models() -> None:
    """List the networks that xpnet train --model can make."""
    for name, kind in MODELS.items():
        say(f"{name:<8}{kind.line} ({n_parameters(name):,} parameters on MNIST)")
    say("train one: xpnet train --model NAME")


def n_parameters(name: str) -> int:
    """The number of trained parameters of such a network for MNIST."""
    from xpnet.nn.declared import declare

    network = MODELS[name].make(MNIST.but(model=name), (28, 28), 10)
    return sum(parameter.size for parameter in declare(network, (28, 28))[1].values() if parameter.trained)
