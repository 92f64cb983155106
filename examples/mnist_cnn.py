"""A small convolutional network: 99.1 % on MNIST after two epochs, which take a minute on one core.

python examples/mnist_cnn.py            # MNIST; downloaded once
python examples/mnist_cnn.py digits     # the 1,797 small digits inside the package, offline
"""

import sys

import xpnet
from xpnet import data, losses, nn, optim, schedules, train

EPOCHS, BATCH, RATE = 2, 64, 0.004

splits = data.load(sys.argv[1] if len(sys.argv) > 1 else "mnist")
images = splits.train.x  # uint8 (N, height, width)
shape = images.shape[1:]

backend = xpnet.select("auto", seed=0)  # a GPU if one really works, else the CPU
network = nn.Sequential(
    nn.Standardize(*data.mean_std(images)),
    *nn.cnn(shape, len(splits.train.classes), channels=(16, 32, 64), hidden=64).layers,
)
model = nn.Model(network, shape, backend, splits.train.classes)
print(model.summary(BATCH))  # each layer's parameters, multiply-adds and memory

loss = losses.SoftmaxCrossEntropy()
optimizer = optim.AdamW(model, RATE)
schedule = schedules.OneCycle(RATE, EPOCHS * len(data.batch_slices(len(images), BATCH)))
train.fit(model, loss, optimizer, splits.train, epochs=EPOCHS, batch_size=BATCH, schedule=schedule)

print(f"test accuracy {train.evaluate(model, loss, splits.test).accuracy:.2%}")
