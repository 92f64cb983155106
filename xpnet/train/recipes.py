"""Recipes: all settings of a training run, the ones that work well for each data set, and the objects built from them.

splits = data.load("mnist")
recipe = recipe_for("mnist").but(epochs=5)
model, loss, optimizer, schedule = build(recipe, splits.train, backend)
fit(model, loss, optimizer, splits.train, epochs=recipe.epochs, batch_size=recipe.batch_size, schedule=schedule)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from xpnet import nn, optim, schedules
from xpnet.arguments import number, whole
from xpnet.backend import Backend
from xpnet.data import Augment, Dataset, Table, batch_slices, mean_std
from xpnet.losses import Loss, MeanSquaredError, SoftmaxCrossEntropy
from xpnet.optim import Optimizer
from xpnet.schedules import Schedule

ACTIVATIONS: dict[str, Callable[[], nn.Layer]] = {
    "relu": nn.ReLU,
    "leaky-relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}
OPTIMIZERS: dict[str, tuple[type[Optimizer], float]] = {  # with the usual learning rate of each
    "sgd": (optim.SGD, 0.1),
    "rmsprop": (optim.RMSProp, 0.001),
    "adagrad": (optim.AdaGrad, 0.01),
    "adam": (optim.Adam, 0.001),
    "adamw": (optim.AdamW, 0.001),
}
SCHEDULES: dict[str, Callable[[float, int], Schedule]] = {  # functions of the learning rate and the number of steps
    "constant": lambda lr, steps: schedules.Constant(lr),
    "step": lambda lr, steps: schedules.Step(lr, every=math.ceil(steps / 3)),
    "exponential": lambda lr, steps: schedules.Exponential(lr, steps, final=lr / 100),
    "cosine": lambda lr, steps: schedules.Cosine(lr, steps),
    "warmup-cosine": lambda lr, steps: schedules.WarmUp(
        -(-steps // 20), schedules.Cosine(lr, max(1, steps * 19 // 20))
    ),
    "one-cycle": lambda lr, steps: schedules.OneCycle(lr, steps),
    "plateau": lambda lr, steps: schedules.Plateau(lr),
}


@dataclass(frozen=True)
class ModelKind:
    """A kind of network.

    `line` describes it. `make(recipe, shape, n_classes)` returns one for standardised samples of that shape. `usual`
    are its default settings, `fixed` the names of settings that cannot be changed, `augment` how its images are
    augmented. `alone_from` is the least height or width at which BatchNorm has more than one value per channel even in
    a batch of one.
    """

    line: str
    make: Callable[[Recipe, tuple[int, ...], int], nn.Sequential]
    usual: dict[str, Any]
    augment: Augment
    fixed: tuple[str, ...] = ()
    alone_from: int = 0


def _mlp(recipe: Recipe, shape: tuple[int, ...], n_classes: int) -> nn.Sequential:
    sizes = [math.prod(shape), *recipe.hidden, n_classes]
    return nn.Sequential(nn.Flatten(), *nn.mlp(sizes, ACTIVATIONS[recipe.activation], recipe.dropout).layers)


# What pen and camera vary and the clean-up of a photo does not undo: chosen on photographed digits, with the mlp.
PHOTOS = Augment(shift=0.08, rotate=15, scale=0.15, shear=0.2, elastic=1.5, thickness=0.7)
# What a pen varies: chosen on held-out MNIST images, with the cnn, which learns more from less change in few epochs.
PEN = Augment(shift=0.07, rotate=10, scale=0.1, shear=0.1, elastic=1)

MODELS: dict[str, ModelKind] = {
    "mlp": ModelKind(
        "fully connected layers",
        _mlp,
        {"hidden": (128, 64, 32)},
        PHOTOS,
    ),
    "cnn": ModelKind(
        "three convolutions with pooling, and a fully connected layer",
        lambda recipe, shape, n: nn.cnn(shape, n, channels=(32, 64, 128), hidden=128, dropout=recipe.dropout),
        {"hidden": (), "activation": "relu"},
        PEN,
        fixed=("hidden", "activation"),
        alone_from=16,
    ),
    "resnet": ModelKind(
        "a residual network of 8 layers; slow without a GPU",
        lambda recipe, shape, n: nn.resnet(shape, n, depth=8, width=16),
        {"hidden": (), "activation": "relu", "dropout": 0.0},
        PEN,
        fixed=("hidden", "activation", "dropout"),
        alone_from=5,
    ),
}


@dataclass(frozen=True)
class Recipe:
    """The settings of a run that trains a network to classify, or to predict the numbers of a table.

    `hidden` and `activation` apply to the model mlp only, `dropout` also to the cnn. 0 means "none" for `dropout`,
    `momentum`, `weight_decay`, `label_smoothing`, `clip` (the limit on the norm of the gradient), `patience` (epochs
    without improvement after which to stop) and `val` (the fraction of the training data that is held out to watch the
    run). With `augment`, images are changed before each use, as the model's kind specifies.

    Raises ValueError for an unknown name or an impossible value.
    """

    model: str = "mlp"
    hidden: tuple[int, ...] = (128, 64, 32)
    activation: str = "relu"
    dropout: float = 0.0
    epochs: int = 20
    batch_size: int = 64
    optimizer: str = "sgd"
    lr: float = 0.1
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    schedule: str = "constant"
    label_smoothing: float = 0.0
    clip: float = 0.0
    patience: int = 0
    augment: bool = False
    val: float = 0.0

    def __post_init__(self) -> None:
        tables: dict[str, dict[str, Any]] = {"model": MODELS, "activation": ACTIVATIONS}
        tables |= {"optimizer": OPTIMIZERS, "schedule": SCHEDULES}
        for name, known in tables.items():
            if getattr(self, name) not in known:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}: choose one of {', '.join(known)}")
        kind = MODELS[self.model]
        for name in kind.fixed:
            if getattr(self, name) != kind.usual[name]:
                others = " and ".join(other for other, kind in MODELS.items() if name not in kind.fixed)
                raise ValueError(f"{name} is a setting of the model {others}, not of {self.model}")
        if any(size < 1 for size in self.hidden):
            raise ValueError(f"hidden layers need at least one unit each, not {list(self.hidden)}")
        whole("epochs", self.epochs, least=1)
        number("lr", self.lr, above=0)
        for name in ("dropout", "momentum", "label_smoothing", "val"):
            number(name, getattr(self, name), least=0, below=1)
        for name in ("weight_decay", "clip", "patience"):
            number(f"{name} (0 for none)", getattr(self, name), least=0)
        if self.optimizer != "sgd" and (self.momentum or self.nesterov):
            raise ValueError(f"momentum and nesterov are settings of the optimizer sgd, not of {self.optimizer}")

    def but(self, **changes: Any) -> Recipe:
        """This recipe with some settings changed.

        A new optimizer comes with its own usual rate and neither momentum nor decay, a new model with its own usual
        settings, unless those are given too.
        """
        model = changes.get("model", self.model)
        if model != self.model and model in MODELS:
            changes = {**MODELS[model].usual, **changes}
        optimizer = changes.get("optimizer", self.optimizer)
        if optimizer != self.optimizer and optimizer in OPTIMIZERS:
            lr: Any = OPTIMIZERS[optimizer][1]
            changes = {"lr": lr, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0, **changes}
        return replace(self, **changes)


DIGITS = Recipe(
    hidden=(128, 64, 32),
    dropout=0.1,
    epochs=30,
    batch_size=32,
    optimizer="adamw",
    lr=0.006,
    weight_decay=0.01,
    schedule="one-cycle",
    label_smoothing=0.1,
)
MNIST = Recipe(
    hidden=(128, 64, 32),
    dropout=0.05,
    epochs=20,
    batch_size=64,
    optimizer="sgd",
    lr=0.05,
    momentum=0.9,
    nesterov=True,
    weight_decay=0.0005,
    schedule="one-cycle",
    label_smoothing=0.05,
    val=0.02,
)
# Images that are never the same twice cannot be memorised: no other regularisation against that is needed, only time.
HANDWRITING = Recipe(
    hidden=(128, 64, 32),
    activation="gelu",
    epochs=80,
    batch_size=256,
    optimizer="adamw",
    lr=0.003,
    weight_decay=0.01,
    schedule="one-cycle",
    augment=True,
)


TABLE = Recipe(
    hidden=(128, 64),
    dropout=0.1,
    epochs=30,
    batch_size=64,
    optimizer="adamw",
    lr=0.003,
    weight_decay=0.01,
    schedule="one-cycle",
    val=0.1,
)

# plain: gradient descent and nothing else; handwriting: a long run on images of digits, augmented anew in each epoch
RECIPES = {"digits": DIGITS, "mnist": MNIST, "table": TABLE, "plain": Recipe(), "handwriting": HANDWRITING}


def recipe_for(name: str) -> Recipe:
    """The recipe that works well for a data set of images: DIGITS for "digits", MNIST for all else."""
    return DIGITS if name == "digits" else MNIST


def build(recipe: Recipe, data: Dataset, backend: Backend) -> tuple[nn.Model, Loss, Optimizer, Schedule]:
    """Everything that `fit` needs to train on `data` by the recipe: (model, loss, optimizer, schedule).

    The model standardises its inputs itself, so it takes images as they are. The columns of a table become features by
    `nn.Columns`. Targets that are numbers are learnt by the squared error, in units of their standard deviation, and
    the model's last layer converts its outputs back to their own units.

    Raises ValueError for a batch larger than the data, for augmentation of anything but uint8 images, for a cnn or a
    resnet on data that are not images, for data of a single class, and for label smoothing without classes.
    """
    if len(data.classes) == 1:
        raise ValueError(f"{data.name} has one class only: there is nothing to tell apart")
    if recipe.label_smoothing and not data.classes:
        raise ValueError(f"{data.name}: label_smoothing is for classes, and the targets are numbers")
    if recipe.augment and (isinstance(data, Table) or data.x.ndim not in (3, 4) or data.x.dtype != np.uint8):
        raise ValueError(f"{data.name}: only uint8 images can be augmented, not {data!r}")
    steps = recipe.epochs * len(batch_slices(len(data), recipe.batch_size))
    shape: Any = data.input_shape if isinstance(data, Table) else data.x.shape[1:]
    first = nn.Columns(**data.columns) if isinstance(data, Table) else nn.Standardize(*mean_std(data.x))
    features = (first.width,) if isinstance(first, nn.Columns) else shape
    last, loss = _towards(data, recipe.label_smoothing)
    inner = MODELS[recipe.model].make(recipe, features, len(data.classes) or data.y.shape[-1])
    model = nn.Model(nn.Sequential(first, *inner.layers, *last), shape, backend, data.classes)
    schedule = SCHEDULES[recipe.schedule](recipe.lr, steps)
    return model, loss, _optimizer(recipe, model), schedule


def _towards(data: Dataset, label_smoothing: float) -> tuple[list[nn.Layer], Loss]:
    """(layers after the last Linear layer, loss): for classes, or for numbers in their own units."""
    if data.classes:
        return [], SoftmaxCrossEntropy(label_smoothing)
    mean, std = mean_std(data.y, axis=0)
    return [nn.Standardize(-mean / std, 1 / std)], MeanSquaredError(scale=std.tolist())


def _optimizer(recipe: Recipe, model: nn.Model) -> Optimizer:
    kind, _ = OPTIMIZERS[recipe.optimizer]
    momentum: Any = {"momentum": recipe.momentum, "nesterov": recipe.nesterov} if kind is optim.SGD else {}
    return kind(model, lr=recipe.lr, weight_decay=recipe.weight_decay, **momentum)
