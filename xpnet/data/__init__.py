"""Data, on the host: labelled samples as NumPy arrays, where they come from, how they are cut and batched."""

from xpnet.data.augment import Augment
from xpnet.data.batches import batch_slices, epoch_order
from xpnet.data.datasets import Dataset, Splits, load
from xpnet.data.download import DownloadError, fetch
from xpnet.data.idx import IdxError, read_idx, write_idx
from xpnet.data.split import kfold, mean_std, one_hot, split

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
    "split",
    "write_idx",
]
