"""What a model of text computes for a text: the characters that come next, and what its attention reads."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.backend import Array, Observer
from xpnet.nn import Embedding, Layer, LearnedPosition, Model, MultiHeadAttention
from xpnet.nn.ending import LEAST, gives_probabilities
from xpnet.nn.softmax import softmax
from xpnet.serve import limits, maps
from xpnet.serve.reader import QuestionError

DECIMALS = 4


def is_text(model: Model) -> bool:
    """Whether the model takes rows of token numbers, and gives a score of each class for each token."""
    first = next((layer for _, layer in model.network.walk() if not any(layer.children())), None)
    return isinstance(first, Embedding) and len(model.input_shape) == 1 and len(model.output_shape) == 2


class Writer:
    """A model of text, for several threads: from (N, T) characters to (N, T, C) scores of the character after each.

    Its classes are the characters, as `examples/char_gpt.py --save` writes them. `name`: the name of its file. Raises
    ValueError for a model whose classes are not the characters that it reads, whose texts have a fixed length, or whose
    attention reads later characters.
    """

    def __init__(self, model: Model, name: str):
        self.model, self.name, self.characters = model, name, list(model.classes)
        layers = [layer for _, layer in model.network.walk()]
        tokens = next((layer.n for layer in layers if isinstance(layer, Embedding)), 0)
        single = {character for character in self.characters if len(character) == 1}
        if not is_text(model) or not len(single) == len(self.characters) == tokens:
            raise ValueError("this model of text has no names for its characters: they must be its classes, each once")
        if model.input_shape != (None,):
            raise ValueError(f"this model takes texts of {model.input_shape[0]} characters, no shorter ones")
        if not all(layer.causal for layer in layers if isinstance(layer, MultiHeadAttention)):
            raise ValueError("this model reads what comes later: it can say nothing of the next character")
        lengths = [layer.length for layer in layers if isinstance(layer, LearnedPosition)]
        self.context = min([limits.CONTEXT, *lengths])
        self._numbers = {character: i for i, character in enumerate(self.characters)}
        self._lock = threading.Lock()

    def about(self) -> dict[str, Any]:
        """A few facts about the model."""
        kept = (layer for _, layer in self.model.network.walk() if isinstance(layer, MultiHeadAttention))
        return {
            "name": self.name,
            "characters": self.characters,
            "context": self.context,
            "parameters": self.model.n_parameters,
            "device": self.model.backend.device,
            "heads": [layer.heads for layer in kept],
        }

    def go_on(self, text: str, length: int, temperature: float, rng: np.random.Generator) -> dict[str, Any]:
        """Draw `length` characters after `text`, and give the probability of every character to be the next one.

        A probability is softmax(scores / temperature). Raises `QuestionError` for a text that is empty, or has a
        character that the model does not know.
        """
        written = self._encoded(text)
        with self._lock, self.model.backend.mode(training=False):
            for _ in range(length):
                p = next_probabilities(self._scores(written)[-1], temperature)
                written.append(int(rng.choice(len(p), p=p)))
            attention = _Attention(self.model)
            with self.model.backend.observed_by(attention):
                scores = self._scores(written)[-1]
        return {
            "written": "".join(self.characters[i] for i in written[len(text) :]),
            "read": "".join(self.characters[i] for i in written[-self.context :]),
            "probabilities": maps.rounded(next_probabilities(scores, temperature)),
            "attention": attention.seen,
        }

    def _encoded(self, text: str) -> list[int]:
        if not text:
            raise QuestionError("text: it needs a character to begin with")
        unknown = sorted(set(text) - self._numbers.keys())
        if unknown:
            raise QuestionError(f"text: the model has never seen {unknown[0]!r}")
        return [self._numbers[character] for character in text]

    def _scores(self, written: list[int]) -> NDArray:
        """Scores (T, C) after each of the last `context` characters; the logs of the outputs if those are
        probabilities."""
        backend = self.model.backend
        y, _ = self.model.forward(backend.asarray(np.array([written[-self.context :]], np.int64)))
        scores = backend.to_host(y)[0]
        return np.log(np.maximum(scores, LEAST)) if gives_probabilities(self.model.network) else scores


class _Attention(Observer):
    """The attention of each layer, computed from the layer's input in a pass: p[head][t] are the t + 1 probabilities
    with which position t reads positions 0 to t. Later positions are hidden from it."""

    def __init__(self, model: Model):
        self._backend = model.backend
        self._paths = {id(layer): path for path, layer in model.network.walk()}
        self.seen: list[dict[str, Any]] = []

    def forward(self, layer: Layer, x: Array, y: Array) -> None:
        if isinstance(layer, MultiHeadAttention):
            with self._backend.observed_by(None):
                p = self._backend.to_host(layer.weights(x, self._backend))[0]
            rows = [[rounded(row[: t + 1]) for t, row in enumerate(head)] for head in p]
            self.seen.append({"path": self._paths[id(layer)], "heads": rows})


def next_probabilities(scores: NDArray, temperature: float) -> NDArray[np.float64]:
    """softmax(scores / temperature): below 1 the likeliest characters gain, above 1 the others."""
    return softmax(scores.astype(np.float64) / temperature, np)


def rounded(values: NDArray) -> list[float]:
    return np.round(values.astype(np.float64), DECIMALS).tolist()
