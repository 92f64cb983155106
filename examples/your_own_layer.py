"""A layer of your own: written, checked with one line, which also catches a planted mistake, and trained on digits."""

import xpnet
from xpnet import data, losses, nn, optim, verify


def sigmoid(x, xp):
    return (1 + xp.tanh(x / 2)) / 2  # equals 1 / (1 + e^-x), which would overflow for x far below 0


class Swish(nn.Layer):
    """y = x s with s = sigmoid(beta x) and one trained beta per feature.  Ramachandran, Zoph and Le (2017)."""

    def build(self, shape):
        self.beta = nn.Parameter(shape, nn.init.constant(1.0), decay=False)
        return shape

    def forward(self, x, backend):
        s = sigmoid(self.beta.data * x, backend.xp)

        def backward(dy, need_dx=True):
            du = dy * x * s * (1 - s)  # the gradient of u = beta x, which is inside s
            self.beta.add_grad_sum(du * x)
            return dy * s + du * self.beta.data

        return x * s, backward


class Mistaken(Swish):
    """The same layer with an easily made mistake: dx ignores that s depends on x too."""

    def forward(self, x, backend):
        y, right_backward = super().forward(x, backend)

        def backward(dy, need_dx=True):
            right_backward(dy)
            return dy * sigmoid(self.beta.data * x, backend.xp)

        return y, backward


print(verify.check(Swish(), (6,)))
try:
    verify.check(Mistaken(), (6,))
except verify.CheckFailed as caught:
    print(f"\n{caught}\n")

backend = xpnet.select("auto", seed=0)
digits = data.load("digits")
standardize = nn.Standardize(*data.mean_std(digits.train.x))
network = nn.Sequential(standardize, nn.Flatten(), nn.Linear(32), Swish(), nn.Linear(10))
model = nn.Model(network, digits.train.x.shape[1:], backend, digits.train.classes)
loss, optimizer = losses.SoftmaxCrossEntropy(), optim.Adam(model, lr=0.003)
for epoch in range(10):
    order = data.epoch_order(len(digits.train), seed=0, epoch=epoch)
    for batch in data.batch_slices(len(order), batch_size=32):
        x, target = (backend.asarray(values[order[batch]]) for values in (digits.train.x, digits.train.y))
        with backend.mode(training=True):
            model.zero_grad()
            y, backward = model.forward(x)
            backward(loss(y, target, backend)[1], need_dx=False)
            optimizer.step()
right = model.predict(digits.test.x).argmax(axis=1) == digits.test.y
print(f"{right.mean():.1%} of {len(right)} unseen digits read right")
