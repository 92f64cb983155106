"""What PyTorch, Keras and scikit-learn call by another name: the error for such a name says what to write here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

HINTS = {  # for each place: names elsewhere, separated by spaces, and what to write here
    "xpnet": {
        "Tensor tensor array from_numpy": "backend.asarray(x), with the backend that xpnet.select gives",
        "cuda device manual_seed": 'xpnet.select("cuda", seed=0)',
        "layers": "xpnet.nn",
        "no_grad": "nothing in its place: without a call of backward there is no gradient",
        "optimizers": "xpnet.optim",
        "save": "model.save(path)",
        "Sequential": "nn.Sequential",
    },
    "nn": {
        "AdaptiveAvgPool2d GlobalAveragePooling2D": "nn.GlobalAvgPool2d()",
        "Add": "nn.Residual",
        "BatchNorm1d BatchNorm2d BatchNormalization": "nn.BatchNorm()",
        "BCELoss BCEWithLogitsLoss": "losses.BinaryCrossEntropy(), which takes logits",
        "Concatenate": "nn.Parallel",
        "CrossEntropyLoss": "losses.SoftmaxCrossEntropy()",
        "Dense": "nn.Linear(n_out)",
        "functional": "a layer, such as nn.ReLU(), or backend.xp",
        "Identity": "nn.Sequential()",
        "Input InputLayer": "nn.Model(network, input_shape, backend)",
        "L1Loss": "losses.MeanAbsoluteError()",
        "Lambda Module": "a class of nn.Layer, with forward and backward",
        "LayerNormalization": "nn.LayerNorm()",
        "MaxPooling2D": "nn.MaxPool2d",
        "ModuleList": "a list of layers, kept as an attribute",
        "MSELoss": "losses.MeanSquaredError()",
        "SimpleRNN": "nn.RNN",
        "Swish": "nn.SiLU()",
        "TransformerEncoderLayer": "nn.TransformerBlock(heads)",
    },
    "nn.init": {
        "kaiming_normal kaiming_normal_": "nn.init.he_normal",
        "kaiming_uniform kaiming_uniform_": "nn.init.he_uniform",
        "ones ones_": "nn.init.constant(1)",
        "xavier_normal xavier_normal_": "nn.init.glorot_normal",
        "xavier_uniform xavier_uniform_": "nn.init.glorot_uniform",
    },
    "losses": {
        "BCE BCELoss BCEWithLogitsLoss": "losses.BinaryCrossEntropy(), which takes logits",
        "CosineEmbeddingLoss CosineSimilarity": "losses.CosineDistance()",
        "CategoricalCrossentropy CrossEntropy CrossEntropyLoss NLLLoss SparseCategoricalCrossentropy": (
            "losses.SoftmaxCrossEntropy(), which takes logits"
        ),
        "Hinge MultiMarginLoss": "losses.MultiMargin()",
        "HuberLoss SmoothL1Loss": "losses.Huber()",
        "KLDivLoss": "losses.KLDivergence()",
        "L1Loss MAE": "losses.MeanAbsoluteError()",
        "MSE MSELoss": "losses.MeanSquaredError()",
    },
    "optim": {"lr_scheduler": "schedules.Cosine(lr, steps), or another of xpnet.schedules"},
    "schedules": {
        "CosineAnnealingLR CosineDecay": "schedules.Cosine",
        "ExponentialDecay ExponentialLR": "schedules.Exponential",
        "LambdaLR LearningRateScheduler": "a function of the step: train.fit(..., schedule=lambda step: 0.01)",
        "OneCycleLR": "schedules.OneCycle",
        "ReduceLROnPlateau": "schedules.Plateau",
        "StepLR": "schedules.Step",
    },
    "data": {
        "DataLoader": "data.Dataset(x, y), of which train.fit(..., batch_size=...) makes batches",
        "ImageFolder": "data.image_folder(path)",
        "random_split train_test_split": "data.split(dataset, fraction, seed)",
        "read_csv": "data.table(path, target)",
        "Subset": "dataset.take(indices)",
        "TensorDataset": "data.Dataset(x, y)",
    },
    "train": {
        "DataLoader": "data.Dataset(x, y), of which train.fit(..., batch_size=...) makes batches",
        "EarlyStopping": "train.fit(..., patience=..., keep_best=True)",
        "f1 precision recall": "train.class_scores(train.confusion_matrix(predicted, labels, n_classes))",
        "ModelCheckpoint": "train.fit(..., checkpoint=path)",
        "r2_score": "train.r2",
        "ReduceLROnPlateau": "schedules.Plateau",
    },
    "Model": {
        "backward": "y, backward = model.forward(x), then backward(dy)",
        "children layers modules": "model.network.layers, or model.network.walk()",
        "compile": "train.fit(model, loss, optimizer, data, epochs=...)",
        "cpu": 'model.to(xpnet.select("cpu"))',
        "cuda": 'model.to(xpnet.select("cuda"))',
        "eval": "model.predict(x); only inside `with backend.mode(training=True):` is a pass one of training",
        "evaluate": "train.evaluate(model, loss, data)",
        "fit": "train.fit(model, loss, optimizer, data, epochs=...)",
        "get_weights state_dict": "model.tensors(), or model.save(path)",
        "load_state_dict load_weights set_weights": "xpnet.weights.load(model, tensors), or xpnet.load(path)",
        "named_parameters trainable_variables": "model.parameters, a dict",
        "predict_proba": "model.probabilities(x)",
        "register_forward_hook": "backend.observed_by(observer), with a class of xpnet.backend.Observer",
        "train": "`with backend.mode(training=True):`; train.fit does so by itself",
    },
    "Optimizer": {
        "learning_rate": "optimizer.lr",
        "load_state_dict": "optimizer.load_tensors(tensors)",
        "minimize": "optimizer.step(), after a backward",
        "param_groups": "optimizer.groups",
        "state_dict": "optimizer.tensors()",
        "zero_grad": "model.zero_grad()",
    },
    "Loss": {"backward": "value, dy = loss(y, target, backend), then backward(dy) with the backward of model.forward"},
}


def hint(place: str, name: str) -> str:
    """What to write for a name of another library, as the end of an error message; empty for any other name."""
    return next((f": write {here}" for names, here in HINTS[place].items() if name in names.split()), "")


def names_of_module(place: str, known: Iterable[str]) -> Callable[[str], Any]:
    """The `__getattr__` of a part, such as "nn": AttributeError, with a hint for a name that is another elsewhere.

    A name that differs from a known one in its capital letters alone, such as Conv1D, is one of these.
    """

    def __getattr__(name: str) -> Any:
        alike = (f": write {place}.{one}" for one in known if one.lower() == name.lower())
        raise AttributeError(f"module 'xpnet.{place}' has no attribute {name!r}{hint(place, name) or next(alike, '')}")

    return __getattr__


def names_of_class(place: str) -> Callable[[Any, str], Any]:
    """The `__getattr__` of a class: AttributeError, with a hint for a method that has another name elsewhere."""

    def __getattr__(self: Any, name: str) -> Any:
        if (words := hint(place, name)) and not hasattr(type(self), name):  # a subclass may have it
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{words}")
        return object.__getattribute__(self, name)  # the error again, of a property perhaps

    return __getattr__
