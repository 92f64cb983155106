"""The classic 784-128-64-32-10 network and plain mini-batch gradient descent: 98 % on MNIST, in seconds on a laptop.

python examples/mnist_mlp.py            # MNIST; downloaded once
python examples/mnist_mlp.py digits     # the 1,797 small digits inside the package, offline
"""

import sys

import xpnet
from xpnet import data, losses, nn, optim, schedules, train

EPOCHS, BATCH, RATE = 15, 64, 0.3

splits = data.load(sys.argv[1] if len(sys.argv) > 1 else "mnist")
images = splits.train.x  # uint8 (N, height, width); they are copied to the device as integers and scaled there

backend = xpnet.select("auto", seed=0)  # a GPU if one really works, else the CPU
network = nn.Sequential(
    nn.Standardize(mean=0, std=float(images.max())),  # pixels from 0 to 1
    nn.Flatten(),
    *nn.mlp([images[0].size, 128, 64, 32, 10]).layers,
)
model = nn.Model(network, images.shape[1:], backend, splits.train.classes)
print(model)

loss = losses.SoftmaxCrossEntropy()
optimizer = optim.SGD(model, RATE)
steps = EPOCHS * len(data.batch_slices(len(images), BATCH))
schedule = schedules.Cosine(RATE, steps)  # the rate falls to 0 along half a cosine
train.fit(model, loss, optimizer, splits.train, epochs=EPOCHS, batch_size=BATCH, schedule=schedule)

print(f"test accuracy {train.evaluate(model, loss, splits.test).accuracy:.2%}")
