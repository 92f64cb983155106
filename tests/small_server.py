"""For the tests of `xpnet serve`: a small model, and images to send."""

from __future__ import annotations

import io
import os
import struct
import zlib

import numpy as np
from PIL import Image, ImageDraw

import xpnet
from xpnet import nn
from xpnet.serve.reader import Reader


def reader(*layers, shape=(28, 28), classes=()):
    layers = layers or (nn.Standardize(33.0, 79.0), nn.Flatten(), nn.Linear(12), nn.Tanh(), nn.Linear(10))
    backend = xpnet.select("cpu", dtype="float64", seed=0)
    model = nn.Model(nn.Sequential(*layers), shape, backend, classes)
    return Reader(model)


def pixels(seed=1):
    return np.random.default_rng(seed).integers(0, 256, (28, 28)).tolist()


def drawing(mode="L", size=(200, 200), digits=1):
    """A 7 for each of `digits`, dark on light."""
    image = Image.new("L", (size[0] * digits, size[1]), 240)
    for i in range(digits):
        at = [(x * size[0] + i * size[0], y * size[1]) for x, y in ((0.3, 0.2), (0.7, 0.2), (0.45, 0.8))]
        ImageDraw.Draw(image).line(at, fill=20, width=size[0] // 14, joint="curve")
    return image.convert(mode)


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_of(width, height, rows=b"\0" * 1000):
    """A PNG of one bit a pixel, of any size, with these bytes as its rows: by default the first few."""
    chunk = lambda name, body: struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")


def crash(image, max_pixels):
    """In the place of `open_image`: a decoder that crashes."""
    os._exit(3)
