"""Next-token prediction: a small network learns which character follows, at every position of a text.

Every position sees its own character and the seven before it, by a causal convolution over embedded characters (the
network of Bengio et al., "A neural probabilistic language model", 2003, as a convolution). Sequences may have any
length: their axis is free.

python examples/next_character.py [FILE]     # a text of your own; without one, some verses below
"""

import sys
from pathlib import Path

import numpy as np

import xpnet
from xpnet import data, losses, nn, optim, train

VERSES = """Tyger Tyger, burning bright,
In the forests of the night;
What immortal hand or eye,
Could frame thy fearful symmetry?

In what distant deeps or skies.
Burnt the fire of thine eyes?
On what wings dare he aspire?
What the hand, dare seize the fire?

And what shoulder, & what art,
Could twist the sinews of thy heart?
And when thy heart began to beat,
What dread hand? & what dread feet?
"""  # William Blake, 1794


class Before(nn.Layer):
    """Each position joined with the `n` before it, 0 where there is none.  x: (N, T, C), y: (N, T, (n + 1) C).

    y_t = (x_t, x_{t-1}, ..., x_{t-n}), so dx_t = sum_i (the part of dy_{t+i} that belongs to x_t, i positions back).
    """

    def __init__(self, n):
        self.n = n

    def build(self, shape):
        return (shape[0], shape[1] * (self.n + 1))

    def forward(self, x, backend):
        length, size = x.shape[1:]
        y = backend.xp.zeros((*x.shape[:2], size * (self.n + 1)), x.dtype)
        back = [(i, slice(size * i, size * (i + 1))) for i in range(min(self.n + 1, length))]
        for i, part in back:
            y[:, i:, part] = x[:, : length - i]

        def backward(dy, need_dx=True):
            dx = dy[:, :, :size].copy()
            for i, part in back[1:]:
                dx[:, : length - i] += dy[:, i:, part]
            return dx

        return y, backward


try:
    text = Path(sys.argv[1]).read_text(encoding="utf-8") if len(sys.argv) > 1 else VERSES
except UnicodeDecodeError:
    sys.exit(f"next_character: {sys.argv[1]} is not written in UTF-8")
except OSError as error:
    sys.exit(f"next_character: {error}")
if len(text) < 100 or len(set(text)) < 2:
    sys.exit("next_character: the text needs at least 100 characters, and two different ones")
characters = sorted(set(text))
tokens = np.array([characters.index(c) for c in text])
sequences = data.next_tokens(tokens, 24, stride=3)

backend = xpnet.select("auto", seed=0)
network = nn.Sequential(
    nn.Embedding(len(characters), 16), Before(7), nn.Linear(96), nn.ReLU(), nn.Linear(len(characters))
)
model = nn.Model(network, (None,), backend, classes=characters)
result = train.fit(
    model, losses.SoftmaxCrossEntropy(), optim.AdamW(model, 0.01), sequences, epochs=30, batch_size=16, quiet=True
)
last = result.history[-1]
print(f"{len(tokens)} characters, {len(characters)} of them different; after {len(result.history)} epochs the loss is "
      f"{last['train_loss']:.3f}, {last['train_accuracy']:.1%} of the next characters are right")  # fmt: skip

written = [characters.index(c) for c in text[:8]]
while len(written) < 120:
    written.append(int(model.predict(np.array([written[-24:]]))[0, -1].argmax()))
print("".join(characters[i] for i in written))
