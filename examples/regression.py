"""A regression: ten features, two targets, trained with early stopping, measured by R2 and mean absolute error.

The data are Friedman's first function (1991): y = 10 sin(pi a b) + 20 (c - 1/2)^2 + 10 d + 5 e + noise. The other five
features have no effect on it. The second target is log(1 + y) with y free of noise.

python examples/regression.py           # a few seconds; FILE.png as an argument draws the curves there
"""

import sys

import numpy as np

import xpnet
from xpnet import data, losses, nn, optim, train

rng = np.random.default_rng(0)
x = rng.uniform(size=(3000, 10))
exact = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
y = np.stack([exact + rng.standard_normal(len(x)), np.log1p(exact)], axis=1)

samples = data.Dataset(x, y, name="Friedman 1")  # floating point targets: a regression
rest, test = data.split(samples, 0.2, seed=0)
training, validation = data.split(rest, 0.2, seed=1)

backend = xpnet.select("auto", seed=0)
mean, std = data.mean_std(training.y, axis=0)  # the network learns standardised targets
scaled = [data.Dataset(part.x, (part.y - mean) / std, name=part.name) for part in (training, validation)]

network = nn.Sequential(nn.Standardize(*data.mean_std(training.x, axis=0)), *nn.mlp([10, 64, 64, 2], nn.GELU).layers)
model = nn.Model(network, (10,), backend)
result = train.fit(
    model, losses.MeanSquaredError(), optim.AdamW(model, 0.003), *scaled,
    epochs=200, batch_size=64, metrics=[train.r2], patience=15, keep_best=True, quiet=True,
)  # fmt: skip

predicted = model.predict(test.x) * std + mean
for i, what in enumerate(("Friedman's function", "its logarithm")):
    print(f"{what}: R2 {train.r2(predicted[:, i], test.y[:, i]):.4f}, "
          f"mean absolute error {train.mae(predicted[:, i], test.y[:, i]):.3f}")  # fmt: skip
print(f"{len(result.history)} epochs, the best one was {result.best_epoch}")
if len(sys.argv) > 1:
    from xpnet.train import plots

    plots.save(plots.learning_curves(result.history, result.best_epoch), sys.argv[1])
