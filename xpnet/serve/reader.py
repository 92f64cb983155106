"""What a model reads in an image, and why, as plain numbers for JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.backend import Array, Observer
from xpnet.nn import Layer, Model, MultiHeadAttention
from xpnet.nn.ending import as_probabilities
from xpnet.photo import Digit, ImageReader
from xpnet.photo.glyph import Pixels
from xpnet.photo.opening import Source
from xpnet.serve import maps

SIDES = (8, 128)  # pixels: fewer show no digit, more would make questions and explanations of many megabytes
DECIMALS = 5  # as many as a plot of the numbers can show
LAYER_NUMBERS = 60_000  # the most numbers of all layers of an explanation together


class QuestionError(ValueError):
    """A question that the model cannot answer, such as pixels of another size or a class that it does not have."""


class Reader:
    """A model of digits, for several threads.

    Raises ValueError for a model that `ImageReader` does not take, and for one that cannot read what is drawn on the
    page: because its classes are not the digits, or its images are in colour or of a size that the page cannot show.
    """

    def __init__(self, model: Model):
        self.model, self.images = model, ImageReader(model)
        self.size, self.classes = self.images.size, list(self.images.classes)
        if not self.images.grey:
            raise ValueError("the page makes grey images, and this model takes images in colour")
        if not self.images.reads_digits:
            others = ", ".join(self.classes[:10]) + (", ..." if len(self.classes) > 10 else "")
            raise ValueError(f"the page reads digits, and this model knows the classes {others}")
        if not all(SIDES[0] <= side <= SIDES[1] for side in self.size):
            takes = f"this model takes {self.size[1]} x {self.size[0]}"
            raise ValueError(f"the page makes images of {SIDES[0]} to {SIDES[1]} pixels a side, and {takes}")

    def about(self) -> dict[str, Any]:
        """A few facts about the model."""
        model = self.model
        return {
            "classes": self.classes,
            "image": list(self.size),
            "parameters": model.n_parameters,
            "device": model.backend.device,
            "dtype": str(model.backend.dtype),
            "layers": [{"path": path, "layer": repr(layer)} for path, layer in listed(model.network)],
        }

    def read(self, image: Source) -> dict[str, Any]:
        """The digits in an image, in reading order. Raises ImageError for an image that cannot be read."""
        reading = self.images.read(image)
        digits = [self._digit(digit) for digit in reading.digits]
        return {"text": reading.text, "reason": reading.reason, "digits": digits}

    def _digit(self, digit: Digit) -> dict[str, Any]:
        return {
            "answer": None if digit.label is None else self.classes[digit.label],
            "probability": round(float(digit.probability), DECIMALS),
            "probabilities": numbers(digit.probabilities),
            "reason": digit.reason,
            "box": numbers(np.array(digit.glyph.box)),
            "pixels": digit.glyph.pixels.tolist(),
        }

    def checked(self, rows: list[list[int]], answer: int | None) -> Pixels:
        """The image as an array. Raises `QuestionError` for another size, or for an answer that is no class."""
        if len(rows) != self.size[0] or any(len(row) != self.size[1] for row in rows):
            raise QuestionError(f"pixels must be {self.size[0]} rows of {self.size[1]} numbers")
        if answer is not None and not 0 <= answer < len(self.classes):
            raise QuestionError(f"a class must be a number from 0 to {len(self.classes) - 1}, not {answer}")
        return np.array(rows, np.uint8)

    def explain(self, rows: list[list[int]], answer: int | None = None, against: int | None = None) -> dict[str, Any]:
        """What happens inside the model for one image (0 to 255 for each pixel), and how each pixel affects the answer.

        `answer`: a class; without one, the likeliest. The margin is the answer's output minus the output of the class
        `against`; without one, minus the mean of all outputs: softmax depends on differences only. `gradient` (H, W):
        the derivative of the margin with respect to each pixel, per change from black to white (Simonyan, Vedaldi and
        Zisserman, 2013). `contribution` (H, W): gradient times ink, what the ink in each pixel has added or taken away.
        Raises `QuestionError` for an image of another size or an answer that is no class.
        """
        n_classes, pixels = len(self.classes), self.checked(rows, answer)
        if against is not None:
            self.checked(rows, against)
        backend, activations = self.model.backend, _Activations(self.model)
        with self.images.lock, backend.mode(training=False), backend.observed_by(activations):
            outputs, backward = self.model.forward(backend.asarray(self.images.inputs(pixels)))
            given = backend.to_host(outputs)
            chosen = int(given.argmax()) if answer is None else answer
            others = np.full(n_classes, 1 / n_classes) if against is None else np.eye(n_classes)[against]
            dx = backward(backend.asarray((np.eye(n_classes)[chosen] - others)[None]))
            self.model.zero_grad()  # backward has added to the gradients
        gradient = self.images.ink * 255 * backend.to_host(dx)[0].reshape(self.size)
        return {
            "answer": self.classes[chosen],
            "probabilities": numbers(as_probabilities(self.model.network, given)[0]),
            "margin": round(float(given[0, chosen] - given[0] @ others), DECIMALS),
            "layers": activations.seen,
            "gradient": numbers(gradient),
            "contribution": numbers(gradient * (pixels / 255)),
        }


def listed(layer: Layer, path: str = "") -> Iterator[tuple[str, Layer]]:
    """The layers inside `layer` with their paths, except for those that only hold others. Attention is one layer: its
    second product does not take what its first gives."""
    inside = [] if isinstance(layer, MultiHeadAttention) else list(layer.children())
    if not inside:
        yield path, layer
    for name, child in inside:
        yield from listed(child, f"{path}.{name}" if path else name)


class _Activations(Observer):
    """The output of each layer that is `listed`, for the first sample."""

    def __init__(self, model: Model):
        layers = list(listed(model.network))
        self._backend, self._paths = model.backend, {id(layer): path for path, layer in layers}
        self._most = LAYER_NUMBERS // len(layers)
        self.seen: list[dict[str, Any]] = []

    def forward(self, layer: Layer, x: Array, y: Array) -> None:
        if id(layer) in self._paths:
            values = self._backend.to_host(y)[0]
            found = {"path": self._paths[id(layer)], "kind": type(layer).__name__, "shape": list(values.shape)}
            self.seen.append({**found, "values": maps.shown(values, min(self._most, maps.NUMBERS))})


def numbers(values: NDArray) -> Any:
    """Nested lists, rounded to DECIMALS."""
    return np.round(values.astype(np.float64), DECIMALS).tolist()
