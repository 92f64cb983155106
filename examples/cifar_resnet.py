"""The residual network of He et al., "Deep residual learning for image recognition" (2016), on CIFAR-10.

Batch size, weight decay and augmentation are the paper's. The learning rate follows one cycle, with Nesterov momentum;
the paper's falls in steps.

python examples/cifar_resnet.py            # ResNet-20 on CIFAR-10 (162 MB, downloaded once): for a GPU
python examples/cifar_resnet.py digits     # ResNet-8 on the 1,797 small digits inside the package, offline
"""

import sys

import xpnet
from xpnet import data, losses, nn, optim, schedules, train

source = sys.argv[1] if len(sys.argv) > 1 else "cifar10"
small = source == "digits"
DEPTH, WIDTH, EPOCHS = (8, 8, 4) if small else (20, 16, 160)
BATCH, RATE = 128, 0.1

splits = data.load(source)
images = splits.train.x  # uint8 (N, height, width) or (N, height, width, channels)
shape = images.shape[1:]

backend = xpnet.select("auto", seed=0)  # a GPU if one really works, else the CPU
network = nn.Sequential(
    nn.Standardize(*data.mean_std(images)),
    *nn.resnet(shape, len(splits.train.classes), DEPTH, WIDTH).layers,
)
model = nn.Model(network, shape, backend, splits.train.classes)
print(model.summary(BATCH))

# Crops with four pixels of border, and mirror images, as in the paper; for digits, one pixel and no mirror images.
augment = data.Augment(crop=1) if small else data.Augment(crop=4, flip=0.5)
loss = losses.SoftmaxCrossEntropy()
optimizer = optim.SGD(model, RATE, momentum=0.9, nesterov=True, weight_decay=0.0001)
schedule = schedules.OneCycle(RATE, EPOCHS * len(data.batch_slices(len(images), BATCH)))
train.fit(
    model, loss, optimizer, splits.train,
    epochs=EPOCHS, batch_size=BATCH, schedule=schedule, augment=augment,
)  # fmt: skip

print(f"test accuracy {train.evaluate(model, loss, splits.test).accuracy:.2%}")
