"""Muon compared with AdamW: 400 steps of the character GPT in nanoGPT's CPU configuration, at three rates each.

    python benchmarks/muon.py tinyshakespeare.txt

All start from the same weights, see the same sequences, and warm up and decay their rates alike. Prints the validation
loss and the processor time.
"""

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))
import char_gpt

from xpnet import data, losses, nn, optim, schedules, select, train

STEPS, WARM_UP = 400, 30
TRIALS = [(optim.AdamW, lr, {"betas": (0.9, 0.99), "weight_decay": 0.1}) for lr in (0.001, 0.002, 0.004)]
TRIALS += [(optim.Muon, lr, {}) for lr in (0.005, 0.01, 0.02)]


def main(path: str) -> None:
    text, config = Path(path).read_text("utf-8"), char_gpt.CONFIGS["nano"]
    characters = char_gpt.Characters(text)
    tokens, loss = characters.encode(text), losses.SoftmaxCrossEntropy()
    cut = len(tokens) * 9 // 10
    validation = data.next_tokens(tokens[cut:], config.context)[:400]
    sequences = data.next_tokens(tokens[:cut], config.context, stride=1)
    drawn = sequences.take(np.random.default_rng(0).integers(len(sequences), size=STEPS * config.batch))
    for kind, lr, options in TRIALS:
        network = char_gpt.gpt(config, len(characters.known))
        model = nn.Model(network, (config.context,), select("cpu", threads=1))
        schedule = schedules.WarmUp(WARM_UP, schedules.Cosine(lr, STEPS - WARM_UP, lr / 10))
        start = time.process_time()
        result = train.fit(
            model, loss, kind(model, lr, **options), drawn, validation, epochs=1, batch_size=config.batch,
            schedule=schedule, clip=1.0, quiet=True,
        )  # fmt: skip
        row, seconds = result.history[0], time.process_time() - start
        print(f"{kind.__name__} {lr}: validation loss {row['validation_loss']:.4f}, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
