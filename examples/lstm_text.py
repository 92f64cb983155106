"""Text, character by character: an LSTM learns which one comes next, then writes on its own.

python examples/lstm_text.py                           # some seconds, on the beginning of a book
python examples/lstm_text.py FILE --temperature 0.5    # on a text of your own; 1: the probabilities as learnt

A text of some thousand characters teaches little more than words; some hundred thousand are enough for whole sentences.
"""

import argparse
from pathlib import Path

import numpy as np

import xpnet
from xpnet import data, losses, nn, optim, train

# Lewis Carroll, "Alice's Adventures in Wonderland" (1865), in the public domain.
ALICE = """\
Alice was beginning to get very tired of sitting by her sister on the bank, and of having nothing to do: once or twice \
she had peeped into the book her sister was reading, but it had no pictures or conversations in it, "and what is the \
use of a book," thought Alice, "without pictures or conversations?"
So she was considering in her own mind (as well as she could, for the hot day made her feel very sleepy and stupid), \
whether the pleasure of making a daisy-chain would be worth the trouble of getting up and picking the daisies, when \
suddenly a White Rabbit with pink eyes ran close by her.
There was nothing so very remarkable in that; nor did Alice think it so very much out of the way to hear the Rabbit \
say to itself, "Oh dear! Oh dear! I shall be late!" (when she thought it over afterwards, it occurred to her that she \
ought to have wondered at this, but at the time it all seemed quite natural); but when the Rabbit actually took a \
watch out of its waistcoat-pocket, and looked at it, and then hurried on, Alice started to her feet, for it flashed \
across her mind that she had never before seen a rabbit with either a waistcoat-pocket, or a watch to take out of it, \
and burning with curiosity, she ran across the field after it, and fortunately was just in time to see it pop down a \
large rabbit-hole under the hedge.
In another moment down went Alice after it, never once considering how in the world she was to get out again.
The rabbit-hole went straight on like a tunnel for some way, and then dipped suddenly down, so suddenly that Alice had \
not a moment to think about stopping herself before she found herself falling down a very deep well.
Either the well was very deep, or she fell very slowly, for she had plenty of time as she went down to look about her \
and to wonder what was going to happen next. First, she tried to look down and make out what she was coming to, but it \
was too dark to see anything; then she looked at the sides of the well, and noticed that they were filled with \
cupboards and book-shelves; here and there she saw maps and pictures hung upon pegs. She took down a jar from one of \
the shelves as she passed; it was labelled "ORANGE MARMALADE", but to her great disappointment it was empty: she did \
not like to drop the jar for fear of killing somebody underneath, so managed to put it into one of the cupboards as \
she fell past it.
"Well!" thought Alice to herself. "After such a fall as this, I shall think nothing of tumbling down stairs! How brave \
they'll all think me at home! Why, I wouldn't say anything about it, even if I fell off the top of the house!" (Which \
was very likely true.)
"""
LENGTH, VECTOR, UNITS = 48, 16, 96  # length of a training sequence, size of a character's vector, units of the LSTM


def learn(tokens: np.ndarray, n: int, backend: xpnet.Backend) -> nn.Model:
    """A network that scores the n characters that may come next, trained on all but the last tenth of the text."""
    cut = len(tokens) * 9 // 10
    training = data.next_tokens(tokens[:cut], LENGTH, stride=LENGTH // 3, name="the text")
    validation = data.next_tokens(tokens[cut:], LENGTH, name="the last tenth")
    model = nn.Model(nn.Sequential(nn.Embedding(n, VECTOR), nn.LSTM(UNITS), nn.Linear(n)), (None,), backend)
    result = train.fit(
        model, losses.SoftmaxCrossEntropy(), optim.Adam(model, 0.005), training, validation,
        epochs=25, batch_size=16, clip=1.0, patience=4, keep_best=True, quiet=True,
    )  # fmt: skip
    for row in result.history:
        print(f"epoch {row['epoch']:2}: loss {row['train_loss']:.3f}, on the last tenth {row['validation_loss']:.3f}")
    print(f"by chance: {np.log(n):.3f}; kept: epoch {result.best_epoch}\n")
    return model


def write(model: nn.Model, start: list[int], length: int, temperature: float) -> list[int]:
    """The tokens of `start` and `length` more, each drawn from softmax(scores / temperature).

    Here the LSTM runs one step at a time, with its state as an input and an output: a layer with other options and the
    same parameters.
    """
    tensors, rng = model.tensors(), model.backend.host_rng("text")
    vectors, W, b = (tensors[f"layers.{key}"] for key in ("0.W", "2.W", "2.b"))
    cell = {key.removeprefix("layers.1."): v for key, v in tensors.items() if key.startswith("layers.1.")}
    layer, state = nn.LSTM(UNITS, state=True, return_state=True), (1, UNITS)
    lstm = nn.Model(layer, ((1, VECTOR), state, state), model.backend, tensors=cell)
    h = c = np.zeros((1, *state))
    written = list(start)
    for i in range(len(start) + length - 1):
        y, h, c = lstm.predict((vectors[written[i]].reshape(1, 1, VECTOR), h, c))
        if i + 1 >= len(start):
            scores = (y[0, 0] @ W + b) / temperature
            p = np.exp(scores - scores.max())
            written.append(int(rng.choice(len(p), p=p / p.sum())))
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, help="a text to learn from, in UTF-8")
    parser.add_argument("--temperature", type=float, default=0.7, help="above 0: small is careful, large is bold")
    options = parser.parse_args()
    if not options.temperature > 0:
        parser.error(f"the temperature must be above 0, not {options.temperature}")
    try:
        text = options.file.read_text(encoding="utf-8") if options.file else ALICE
    except UnicodeDecodeError:
        parser.error(f"cannot read {options.file}: it is not written in UTF-8")
    except OSError as error:
        parser.error(f"cannot read {options.file}: {error.strerror}")
    if len(text) < 20 * LENGTH:
        parser.error(f"{options.file} has {len(text)} characters: at least {20 * LENGTH} are needed")
    characters = sorted(set(text))
    number = {character: i for i, character in enumerate(characters)}
    tokens = np.array([number[character] for character in text])
    print(f"{len(text):,} characters, {len(characters)} different ones")
    model = learn(tokens, len(characters), xpnet.select("auto", seed=0))
    print("".join(characters[i] for i in write(model, tokens[:10].tolist(), 300, options.temperature)))


if __name__ == "__main__":
    main()
