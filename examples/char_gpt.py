"""A small GPT that learns to write, one character after the other, from a text file.

It is nanoGPT's character-level model (A. Karpathy), made of layers with hand-written backward passes: an embedding,
learned positions, a few transformer blocks, and scores of the next character. To write, it draws a character by its
probability, reads it, and goes on. What it has computed for earlier characters is kept and not computed again.

python examples/char_gpt.py                                  # five sonnets of Shakespeare's, below; some seconds
python examples/char_gpt.py --text FILE --config nano        # nanoGPT's configuration for a CPU; some minutes
python examples/char_gpt.py --save text.safetensors && xpnet serve text.safetensors     # and a page to look into it

The nano configuration differs from nanoGPT's in four ways: normalisations have a shift; GELU is in its tanh form; the
last layer has weights of its own instead of the embedding's; and the matrices at the end of a residual branch are
initialised at the same scale as the others.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import xpnet
from xpnet import data, losses, nn, optim, schedules, train


@dataclass(frozen=True)
class Config:
    """The model and its training. A step takes `batch` sequences of `context` characters."""

    layers: int
    heads: int
    width: int
    context: int
    batch: int
    steps: int
    epochs: int  # equal parts of `steps`, each on newly drawn sequences and followed by a validation
    warm_up: int = 100
    lr: float = 1e-3
    final_lr: float = 1e-4


CONFIGS = {
    "quick": Config(layers=2, heads=4, width=64, context=32, batch=16, steps=300, epochs=3, warm_up=20, lr=3e-3),
    "nano": Config(layers=4, heads=4, width=128, context=64, batch=12, steps=2000, epochs=8),
}


class Characters:
    """Characters to integers, and back."""

    def __init__(self, text: str):
        self.known = sorted(set(text))
        self.numbers = {character: i for i, character in enumerate(self.known)}

    def encode(self, text: str) -> np.ndarray:
        unknown = set(text) - self.numbers.keys()
        if unknown:
            raise ValueError(f"the text that was learnt from has no {min(unknown)!r}")
        return np.array([self.numbers[character] for character in text], np.int64)

    def decode(self, numbers: list[int]) -> str:
        return "".join(self.known[i] for i in numbers)


def gpt(config: Config, characters: int) -> nn.Layer:
    """The network from (N, T) characters to (N, T, characters) scores of the character after each."""
    small = nn.init.normal(0.02)
    blocks = [nn.TransformerBlock(config.heads, causal=True, bias=False, init=small) for _ in range(config.layers)]
    return nn.Sequential(
        nn.Embedding(characters, config.width, init=small),
        nn.LearnedPosition(config.context, init=small),
        *blocks,
        nn.LayerNorm(),
        nn.Linear(characters, bias=False, init=small),
    )


def learn(model: nn.Model, config: Config, tokens: np.ndarray) -> None:
    """Train on the first 90 % of the text; the rest is for validation. The loss is the mean of -log p(next character).

    Ctrl-C ends the training early; what has been learnt is kept.
    """
    cut = len(tokens) * 9 // 10
    validation = data.next_tokens(tokens[cut:], config.context, name="validation")
    optimizer = optim.AdamW(model, config.lr, betas=(0.9, 0.99), weight_decay=0.1)
    schedule = schedules.WarmUp(
        config.warm_up, schedules.Cosine(config.lr, config.steps - config.warm_up, config.final_lr)
    )
    rng, steps = np.random.default_rng(model.backend.seed), config.steps // config.epochs
    sequences = data.next_tokens(tokens[:cut], config.context, stride=1, name="training")
    for epoch in range(config.epochs):
        done = epoch * steps
        drawn = sequences.take(rng.integers(len(sequences), size=steps * config.batch))
        result = train.fit(
            model, losses.SoftmaxCrossEntropy(), optimizer, drawn, validation, epochs=1, batch_size=config.batch,
            schedule=lambda step, done=done: schedule(done + step), clip=1.0, quiet=True,
        )  # fmt: skip
        if result.stopped:
            print(f"stopped in the {steps} steps after step {done}")
            break
        row = result.history[0]
        print(f"step {done + steps}: loss {row['train_loss']:.3f}, validation loss {row['validation_loss']:.3f}")


def write(model: nn.Model, begin: list[int], n: int, context: int, temperature: float, top_k: int) -> list[int]:
    """`begin` and n more characters, each drawn by its probability among the `top_k` most probable ones.

    The scores are divided by `temperature`: below 1 the text is more predictable, above 1 less so.
    """
    written, rng = list(begin), np.random.default_rng(model.backend.seed)
    cache: dict = {}
    read = written[-context:]  # the characters that the model has not read yet
    seen = 0
    for _ in range(n):
        if seen + len(read) > context:  # there are no positions left: begin again with the last context // 2 characters
            cache, seen, read = {}, 0, written[-(context // 2) :]
        x = model.backend.asarray(np.array([read]))
        scores = model.backend.to_host(nn.decode(model.network, x, cache, model.backend))[0, -1]
        seen += len(read)
        read = [draw(scores, temperature, top_k, rng)]
        written += read
    return written


def draw(scores: np.ndarray, temperature: float, top_k: int, rng: np.random.Generator) -> int:
    """One of the `top_k` highest scores, with probabilities softmax(scores / temperature)."""
    best = np.argsort(-scores, kind="stable")[:top_k]
    p = np.exp((scores[best] - scores[best[0]]).astype(np.float64) / temperature)
    return int(rng.choice(best, p=p / p.sum()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, help="a text file to learn from, UTF-8; without it, five sonnets")
    parser.add_argument("--config", choices=CONFIGS, default="quick")
    parser.add_argument(
        "--begin", help="what the written text begins with; without it, a line break if the text has any"
    )
    parser.add_argument("--length", type=int, default=300, help="how many characters are written")
    parser.add_argument("--temperature", type=float, default=0.8, help="above 0: small is careful, large is bold")
    parser.add_argument(
        "--top-k", type=int, default=40, help="draw only from this many of the most probable characters"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=Path, help="a file for the model, which `xpnet serve` opens")
    options = parser.parse_args()
    if not options.temperature > 0 or options.top_k < 1 or options.begin == "":
        parser.error("--temperature must be above 0, --top-k at least 1, and --begin not empty")
    if options.length < 0 or options.seed < 0:
        parser.error("--length and --seed must not be negative")
    if options.save is not None and not options.save.absolute().parent.is_dir():
        parser.error(f"--save: there is no folder {options.save.parent}")  # before the training, not after it
    if options.save is not None and options.save.is_dir():
        parser.error(f"--save: {options.save} is a folder")
    config = CONFIGS[options.config]
    try:
        text = SONNETS if options.text is None else options.text.read_text(encoding="utf-8")
        if len(text) < 20 * config.context:
            raise ValueError(f"a text of {len(text)} characters is too short: it needs {20 * config.context}")
        characters = Characters(text)
        begin = characters.encode(options.begin or ("\n" if "\n" in text else text[0]))
        tokens = characters.encode(text)
    except UnicodeError:
        sys.exit(f"char_gpt: {options.text} is not written in UTF-8")
    except (OSError, ValueError) as error:
        sys.exit(f"char_gpt: {error}")

    backend = xpnet.select("auto", seed=options.seed)
    model = nn.Model(gpt(config, len(characters.known)), (None,), backend, characters.known)
    print(f"{model.n_parameters:,} parameters, on {backend.device}")
    print(f"{len(tokens):,} characters of {len(characters.known)} kinds")
    start = time.perf_counter()
    learn(model, config, tokens)
    if options.save is not None:
        model.save(options.save)
    print(f"{time.perf_counter() - start:.0f} s\n")
    written = write(model, list(begin), options.length, config.context, options.temperature, options.top_k)
    print(characters.decode(written).strip())


SONNETS = """
Shall I compare thee to a summer's day?
Thou art more lovely and more temperate:
Rough winds do shake the darling buds of May,
And summer's lease hath all too short a date:
Sometime too hot the eye of heaven shines,
And often is his gold complexion dimm'd;
And every fair from fair sometime declines,
By chance, or nature's changing course untrimm'd;
But thy eternal summer shall not fade
Nor lose possession of that fair thou ow'st;
Nor shall Death brag thou wander'st in his shade,
When in eternal lines to time thou grow'st;
So long as men can breathe or eyes can see,
So long lives this, and this gives life to thee.

When, in disgrace with fortune and men's eyes,
I all alone beweep my outcast state
And trouble deaf heaven with my bootless cries
And look upon myself and curse my fate,
Wishing me like to one more rich in hope,
Featured like him, like him with friends possess'd,
Desiring this man's art and that man's scope,
With what I most enjoy contented least;
Yet in these thoughts myself almost despising,
Haply I think on thee, and then my state,
Like to the lark at break of day arising
From sullen earth, sings hymns at heaven's gate;
For thy sweet love remember'd such wealth brings
That then I scorn to change my state with kings.

That time of year thou mayst in me behold
When yellow leaves, or none, or few, do hang
Upon those boughs which shake against the cold,
Bare ruin'd choirs, where late the sweet birds sang.
In me thou seest the twilight of such day
As after sunset fadeth in the west,
Which by and by black night doth take away,
Death's second self, that seals up all in rest.
In me thou see'st the glowing of such fire
That on the ashes of his youth doth lie,
As the death-bed whereon it must expire
Consumed with that which it was nourish'd by.
This thou perceivest, which makes thy love more strong,
To love that well which thou must leave ere long.

Let me not to the marriage of true minds
Admit impediments. Love is not love
Which alters when it alteration finds,
Or bends with the remover to remove:
O no! it is an ever-fixed mark
That looks on tempests and is never shaken;
It is the star to every wandering bark,
Whose worth's unknown, although his height be taken.
Love's not Time's fool, though rosy lips and cheeks
Within his bending sickle's compass come:
Love alters not with his brief hours and weeks,
But bears it out even to the edge of doom.
If this be error and upon me proved,
I never writ, nor no man ever loved.

My mistress' eyes are nothing like the sun;
Coral is far more red than her lips' red;
If snow be white, why then her breasts are dun;
If hairs be wires, black wires grow on her head.
I have seen roses damask'd, red and white,
But no such roses see I in her cheeks;
And in some perfumes is there more delight
Than in the breath that from my mistress reeks.
I love to hear her speak, yet well I know
That music hath a far more pleasing sound;
I grant I never saw a goddess go;
My mistress, when she walks, treads on the ground:
And yet, by heaven, I think my love as rare
As any she belied with false compare.
"""

if __name__ == "__main__":
    main()
