"""What a model says of an image, and why, as plain numbers for JSON."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.backend import Array
from xpnet.nn import Layer, Model
from xpnet.nn.activation import softmax
from xpnet.nn.trace import traced
from xpnet.photo import Digit, Pixels, as_samples, read_digits
from xpnet.photo.opening import Source

DIGITS = list("0123456789")
SIDES = (8, 128)  # pixels: fewer show no digit, more would make questions and explanations of many megabytes
DECIMALS = 5  # what a plot of the numbers can show, and no more


class QuestionError(ValueError):
    """Pixels or an answer that do not fit the model."""


class Reader:
    """A model that reads pictures, for several threads: one at a time has the model itself, since layers share
    scratch memory, and tracing changes them.

    `size`: (height, width) of the pictures that the model takes.
    Raises ValueError for a model whose output is not one number for each of at least two classes.
    """

    def __init__(self, model: Model, size: tuple[int, int]):
        if len(model.output_shape) != 1 or model.output_shape[0] < 2:
            raise ValueError(f"the model has outputs of shape {model.output_shape}, not one number for each class")
        self.model, self.size = model, size
        self._model_lock = threading.Lock()
        self.classes = list(model.classes) or [str(i) for i in range(model.output_shape[0])]
        self._check()

    def _check(self) -> None:
        """The page is for digits, drawn or found in a photo: raises ValueError for a model that cannot read those."""
        if self.classes != DIGITS:
            others = ", ".join(self.classes[:10]) + (", ..." if len(self.classes) > 10 else "")
            raise ValueError(f"the page reads digits, and this model knows the classes {others}")
        if not all(SIDES[0] <= side <= SIDES[1] for side in self.size):
            takes = f"this model takes {self.size[1]} x {self.size[0]}"
            raise ValueError(f"the page makes images of {SIDES[0]} to {SIDES[1]} pixels a side, and {takes}")

    def about(self) -> dict[str, Any]:
        """The model in a few facts."""
        model = self.model
        layers = [(path, layer) for path, layer in model.network.walk() if not any(layer.children())]
        return {
            "classes": self.classes,
            "image": list(self.size),
            "parameters": model.n_parameters,
            "device": model.backend.device,
            "dtype": str(model.backend.dtype),
            "layers": [{"path": path, "layer": repr(layer)} for path, layer in layers],
        }

    def read(self, picture: Source) -> dict[str, Any]:
        """The digits in the bytes of a picture, from left to right. Raises ImageError for what cannot be read."""
        reading = read_digits(picture, self._probabilities, self.size)
        text = "".join("?" if digit.label is None else self.classes[digit.label] for digit in reading.digits)
        return {"text": text, "reason": reading.reason, "digits": [self._digit(digit) for digit in reading.digits]}

    def _probabilities(self, pixels: Pixels) -> NDArray:
        with self._model_lock:
            return self.model.probabilities(as_samples(self.model, pixels))

    def _digit(self, digit: Digit) -> dict[str, Any]:
        return {
            "answer": None if digit.label is None else self.classes[digit.label],
            "probability": round(float(digit.probability), DECIMALS),
            "probabilities": numbers(digit.probabilities),
            "reason": digit.reason,
            "box": numbers(np.array(digit.glyph.box)),
            "pixels": digit.glyph.pixels.tolist(),
        }

    def explain(self, rows: list[list[int]], answer: int | None = None) -> dict[str, Any]:
        """What happens inside for one image (0 to 255 for each pixel), and what a pixel has to do with the answer.

        `answer`: a class; without one, the likeliest. What is derived is the answer's output above the mean of all
        outputs: softmax sees differences only. `gradient` (H, W): how it would change with the pixel, from black to
        white (Simonyan, Vedaldi and Zisserman, 2013). `contribution` (H, W): gradient times ink, what the ink that is
        there has added or taken. Raises `QuestionError` for an image of another size or an answer that is no class.
        """
        n_classes = len(self.classes)
        if len(rows) != self.size[0] or any(len(row) != self.size[1] for row in rows):
            raise QuestionError(f"pixels must be {self.size[0]} rows of {self.size[1]} numbers")
        if answer is not None and not 0 <= answer < n_classes:
            raise QuestionError(f"answer must be the number of a class, 0 to {n_classes - 1}, not {answer}")
        pixels = np.array(rows, np.uint8)
        backend, layers = self.model.backend, []

        def visit(path: str, layer: Layer, what: str, array: Array | None) -> None:
            if what == "forward":
                values = backend.to_host(array)[0]
                layers.append({"path": path, "kind": type(layer).__name__, "shape": list(values.shape)})
                layers[-1]["values"] = numbers(values.ravel())

        with self._model_lock, backend.mode(training=False), traced(self.model.network, visit):
            outputs, backward = self.model.forward(backend.asarray(as_samples(self.model, pixels)))
            logits = backend.to_host(outputs)[0]
            chosen = int(logits.argmax()) if answer is None else answer
            dx = backward(backend.asarray(np.eye(n_classes)[chosen : chosen + 1] - 1 / n_classes))
            self.model.zero_grad()  # backward has added to them
        gradient = 255 * backend.to_host(dx)[0].reshape(self.size)
        return {
            "answer": self.classes[chosen],
            "probabilities": numbers(softmax(logits, np)),
            "layers": layers,
            "gradient": numbers(gradient),
            "contribution": numbers(gradient * (pixels / 255)),
        }


def numbers(values: NDArray) -> Any:
    """Nested lists of a few decimals."""
    return np.round(values.astype(np.float64), DECIMALS).tolist()
