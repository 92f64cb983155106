"""Data, on the host: labelled samples as NumPy arrays, where they come from, how they are cut and batched."""

from .augment import Augment
from .batches import batch_slices, epoch_order
from .datasets import Dataset, Splits, load
from .download import DownloadError, fetch
from .idx import IdxError, read_idx, write_idx
from .shipped import shipped_model_path
from .split import kfold, mean_std, one_hot, split

__all__ = [
    "Augment",
    "Dataset",
    "DownloadError",
    "IdxError",
    "Splits",
    "batch_slices",
    "epoch_order",
    "fetch",
    "kfold",
    "load",
    "mean_std",
    "one_hot",
    "read_idx",
    "shipped_model_path",
    "split",
    "write_idx",
]
