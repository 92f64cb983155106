"""Data, on the host: labelled samples as NumPy arrays; loading, splitting and batching them."""

from typing import TYPE_CHECKING

from xpnet import elsewhere
from xpnet.data.augment import Augment, mixup
from xpnet.data.batches import batch_slices, epoch_order
from xpnet.data.cifar import CifarError, read_cifar
from xpnet.data.dataset import Dataset, Feed, Source, next_tokens
from xpnet.data.datasets import Splits, load
from xpnet.data.download import DownloadError, fetch
from xpnet.data.idx import IdxError, read_idx, write_idx
from xpnet.data.images import image_folder
from xpnet.data.labels import one_hot
from xpnet.data.split import kfold, split
from xpnet.data.statistics import mean_std
from xpnet.data.stored import Stored, open_images, open_npy, open_shards
from xpnet.data.table import Table, table

__all__ = [
    "Augment",
    "CifarError",
    "Dataset",
    "DownloadError",
    "Feed",
    "IdxError",
    "Source",
    "Splits",
    "Stored",
    "Table",
    "batch_slices",
    "epoch_order",
    "fetch",
    "image_folder",
    "kfold",
    "load",
    "mean_std",
    "mixup",
    "next_tokens",
    "one_hot",
    "open_images",
    "open_npy",
    "open_shards",
    "read_cifar",
    "read_idx",
    "split",
    "table",
    "write_idx",
]

if not TYPE_CHECKING:  # which would then take any name for one that exists
    __getattr__ = elsewhere.names_of_module("data", __all__)
