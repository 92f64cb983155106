"""Training: `fit`, a single `train_step`, metrics and checkpoints."""

from typing import TYPE_CHECKING

from xpnet import elsewhere
from xpnet.train.checkpoint import load_checkpoint, save_checkpoint
from xpnet.train.evaluation import Evaluation, evaluate
from xpnet.train.finite import NotFiniteError
from xpnet.train.fit import Result, fit
from xpnet.train.memory import OutOfMemoryError
from xpnet.train.metrics import Metric, accuracy, class_scores, confusion_matrix, mae, r2, top_k
from xpnet.train.run import Run
from xpnet.train.sizes import LayerSizes
from xpnet.train.step import train_step
from xpnet.train.tensorboard import TensorBoard

__all__ = [
    "Evaluation",
    "LayerSizes",
    "Metric",
    "NotFiniteError",
    "OutOfMemoryError",
    "Result",
    "Run",
    "TensorBoard",
    "accuracy",
    "class_scores",
    "confusion_matrix",
    "evaluate",
    "fit",
    "load_checkpoint",
    "mae",
    "r2",
    "save_checkpoint",
    "top_k",
    "train_step",
]

if not TYPE_CHECKING:  # which would then take any name for one that exists
    __getattr__ = elsewhere.names_of_module("train", __all__)
