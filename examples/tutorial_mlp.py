"""The NumPy tutorial's network, step by step: each step by hand, then by the library, and shown to be the same.

For readers of one of the articles that build 784-128-64-32-10 from scratch. Their functions are here under their own
names, in a few lines of NumPy; each is compared with its counterpart in xpnet, with an assertion that both give the
same numbers. Then the library trains the network, and reads an image.

    python examples/tutorial_mlp.py                          # MNIST, less than a minute
    python examples/tutorial_mlp.py --quick                  # the small digits inside the package, a few seconds
    python examples/tutorial_mlp.py --out images my.png    # with plots, and an image of your own

One convention differs: there, a sample is a column, and Z = W A + b; here it is a row, and z = x W + b. So W is
transposed.
"""

import argparse
import io
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import xpnet
from xpnet import data, losses, nn, optim, photo, schedules, train
from xpnet.train import plots

HIDDEN = (128, 64, 32)
BATCH, RATE, EPOCHS = 64, 0.3, 15

# The tutorial's functions ---------------------------------------------------------------------------------


def initialize_parameters(sizes, rng):
    """W1, b1, W2, ...: normal weights of variance 2 / n_in (He), so that the signal keeps its size; biases 0."""
    parameters = {}
    for i, (n_in, n_out) in enumerate(pairwise(sizes), start=1):
        parameters[f"W{i}"] = rng.standard_normal((n_in, n_out)) * np.sqrt(2 / n_in)
        parameters[f"b{i}"] = np.zeros(n_out)
    return parameters


def linear_forward(x, W, b):
    return x @ W + b


def relu(z):
    return np.maximum(z, 0)


def sigmoid(z):  # for z = -1000 this one overflows, the library's does not
    return 1 / (1 + np.exp(-z))


def softmax(z):
    """Any numbers as probabilities. The largest is subtracted first, so that no power overflows.

    >>> softmax(np.array([[2.5, 1.0, 0.8]])).round(4)
    array([[0.7113, 0.1587, 0.1299]])
    """
    powers = np.exp(z - z.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def mean_squared_error(predicted, actual):
    """Three houses: one predicted 40,000 too high, one 10,000 too low, one exactly.

    >>> round(float(mean_squared_error(np.array([290e3, 290e3, 400e3]), np.array([250e3, 300e3, 400e3]))), 2)
    566666666.67
    """
    return np.mean((predicted - actual) ** 2)


def one_hot(labels, n_classes):
    return np.eye(n_classes)[labels]


def compute_cost(p, target):
    """Cross-entropy: -log of the probability of the right class, averaged over the batch."""
    return -np.mean(np.sum(target * np.log(p), axis=1))


def model_forward(x, parameters):
    """The outputs before softmax, and the input of every layer, which the backward pass needs."""
    inputs, n_layers = [], len(parameters) // 2
    for i in range(1, n_layers + 1):
        inputs.append(x)
        z = linear_forward(x, parameters[f"W{i}"], parameters[f"b{i}"])
        x = relu(z) if i < n_layers else z
    return x, inputs


def linear_backward(dz, x, W):
    return x.T @ dz, dz.sum(axis=0), dz @ W.T  # dW, db, dx


def model_backward(dz, inputs, parameters):
    grads = {}
    for i in range(len(inputs), 0, -1):
        x = inputs[i - 1]
        grads[f"W{i}"], grads[f"b{i}"], dx = linear_backward(dz, x, parameters[f"W{i}"])
        dz = dx * (x > 0)  # x is the output of a ReLU, whose derivative is 1 where its output is above 0
    return grads


def update_parameters(parameters, grads, rate):
    return {name: value - rate * grads[name] for name, value in parameters.items()}


def mini_batches(n, size, order):
    return [order[start : start + size] for start in range(0, n, size)]


# The same with the library --------------------------------------------------------------------------------


def same(step, by_hand, by_library, what):
    """Raise AssertionError unless the two are the same numbers, except for rounding."""
    np.testing.assert_allclose(by_hand, by_library, rtol=1e-11, atol=1e-12, err_msg=step)
    print(f"   {step}: equal to {what}")


def flat(arrays):
    return np.concatenate([array.ravel() for array in arrays])


def worked_examples(backend):
    print("1. The two worked examples")
    z = np.array([[2.5, 1.0, 0.8]])
    p, _ = nn.Softmax().forward(z, backend)
    same(f"softmax of 2.5, 1.0, 0.8 is {softmax(z)[0].round(4)}", softmax(z), p, "nn.Softmax")
    predicted, actual = np.array([290e3, 290e3, 400e3]), np.array([250e3, 300e3, 400e3])
    by_hand = mean_squared_error(predicted, actual)
    value, _ = losses.MeanSquaredError()(predicted, actual, backend)
    same(f"the error of three house prices is {by_hand:,.2f}", by_hand, value, "losses.MeanSquaredError")


def one_step(backend, x, labels, sizes):
    """Initialise, forward, cost, backward and update, for one batch."""
    print(f"2. One step of gradient descent, on {len(x)} images")
    parameters = initialize_parameters(sizes, backend.host_rng("weights"))
    model = nn.Model(nn.mlp(sizes), (sizes[0],), backend)
    values = [p.data for p in model.parameters.values()]
    same("initialize_parameters", flat(parameters.values()), flat(values), f"nn.Model, {model.n_parameters:,} numbers")

    first = model.network.layers[0]
    z = linear_forward(x, parameters["W1"], parameters["b1"])
    same("linear_forward", z, first.forward(x, backend)[0], "nn.Linear")
    same("relu", relu(z), nn.ReLU().forward(z, backend)[0], "nn.ReLU")
    same("sigmoid", sigmoid(z), nn.Sigmoid().forward(z, backend)[0], "nn.Sigmoid")
    y, backward = model.forward(x)
    y_by_hand, inputs = model_forward(x, parameters)
    same("model_forward", y_by_hand, y, "model.forward")

    target = one_hot(labels, sizes[-1])
    same("one_hot", target, data.one_hot(labels, sizes[-1]), "data.one_hot")
    p = softmax(y_by_hand)
    cost, dy = losses.SoftmaxCrossEntropy()(y, labels, backend)
    same(f"compute_cost ({cost:.4f})", compute_cost(p, target), cost, "losses.SoftmaxCrossEntropy")
    dz = (p - target) / len(x)
    same("its gradient", dz, dy, "what the loss gives with it")

    backward(dy, need_dx=False)  # adds to every p.grad
    grads = model_backward(dz, inputs, parameters)
    by_library = [p.grad for p in model.parameters.values()]
    same("linear_backward", flat(grads[name] for name in parameters), flat(by_library), "backward(dy)")
    updated = update_parameters(parameters, grads, RATE)
    optim.SGD(model, RATE).step()  # changes the values in place
    same("update_parameters", flat(updated.values()), flat(values), "optim.SGD")


def one_epoch(backend, x, labels, sizes):
    print(f"3. An epoch: {len(x)} images in mini-batches of {BATCH}")
    order = data.epoch_order(len(x), seed=backend.seed, epoch=0)
    batches = mini_batches(len(x), BATCH, order)
    by_library = [order[rows] for rows in data.batch_slices(len(x), BATCH)]
    same("mini_batches", flat(batches), flat(by_library), f"data.batch_slices, {len(by_library)} of them")

    parameters = initialize_parameters(sizes, backend.host_rng("weights"))
    for rows in batches:
        y, inputs = model_forward(x[rows], parameters)
        dz = (softmax(y) - one_hot(labels[rows], sizes[-1])) / len(rows)
        parameters = update_parameters(parameters, model_backward(dz, inputs, parameters), RATE)

    model = nn.Model(nn.mlp(sizes), (sizes[0],), backend)
    digits = data.Dataset(x, labels, tuple("0123456789"))
    loss, optimizer = losses.SoftmaxCrossEntropy(), optim.SGD(model, RATE)
    train.fit(model, loss, optimizer, digits, epochs=1, batch_size=BATCH, quiet=True)
    values = [p.data for p in model.parameters.values()]
    same("all weights after it", flat(parameters.values()), flat(values), "those after train.fit")
    y, _ = model_forward(x, parameters)
    accuracy = np.mean(y.argmax(axis=1) == labels)
    same(f"accuracy ({accuracy:.2%})", accuracy, train.accuracy(model.predict(x), labels), "train.accuracy")


def train_network(splits, seed):
    """The whole training: plain mini-batch gradient descent, with a rate that falls to 0 along a cosine."""
    backend = xpnet.select("auto", seed=seed)  # float32, on a GPU if there is one
    print(f"4. Training on {len(splits.train):,} images, {EPOCHS} epochs, on {backend.device}")
    shape, classes = splits.train.x.shape[1:], splits.train.classes
    sizes = [int(np.prod(shape)), *HIDDEN, len(classes)]
    network = nn.Sequential(nn.Standardize(0, 255), nn.Flatten(), *nn.mlp(sizes).layers)  # pixels from 0 to 1
    model = nn.Model(network, shape, backend, classes)
    loss, optimizer = losses.SoftmaxCrossEntropy(), optim.SGD(model, RATE)
    schedule = schedules.Cosine(RATE, steps=EPOCHS * len(data.batch_slices(len(splits.train), BATCH)))
    settings = {"epochs": EPOCHS, "batch_size": BATCH, "schedule": schedule, "quiet": True}
    # The accuracy on the test images is only shown: nothing is chosen by it, and the last epoch counts.
    result = train.fit(model, loss, optimizer, *splits, **settings, callbacks=[report])
    print(f"   test accuracy {train.evaluate(model, loss, splits.test).accuracy:.2%}")
    return model, result.history


def report(row, model):
    print(f"   epoch {row['epoch']:>2}: cost {row['train_loss']:.4f}, test accuracy {row['validation_accuracy']:.2%}")


def own_images(model, files, out):
    print("5. Images of one's own")
    drawn = a_four()
    if out:
        (out / "four.png").write_bytes(drawn)

    reader = photo.ImageReader(model)  # finds the digits, and cuts out, centres and scales them
    for name, image in [("a drawn 4", drawn), *((file, file) for file in files)]:
        try:
            reading = reader.read(image)
        except photo.ImageError as error:
            print(f"   {error}")
            continue
        sure = ", ".join(f"{digit.probability:.0%}" for digit in reading.digits)
        print(f"   {name}: " + (f"read as {reading.text} ({sure} sure)" if reading.digits else reading.reason))


def a_four():
    """A PNG with a dark 4 on light paper, away from the middle."""
    page = Image.new("L", (320, 240), 235)
    pen = ImageDraw.Draw(page)
    for stroke in ([(150, 55), (115, 130), (205, 126)], [(178, 60), (172, 185)]):
        pen.line(stroke, fill=40, width=13, joint="curve")
    file = io.BytesIO()
    page.save(file, "PNG")
    return file.getvalue()


def draw_plots(model, history, test, out):
    print(f"6. Plots, in {out}")
    p = model.probabilities(test.x)
    confusion = train.confusion_matrix(p.argmax(axis=1), test.y, len(test.classes))
    plots.save(plots.samples(test), out / "samples.png")
    plots.save(plots.learning_curves(history), out / "learning-curves.png")
    plots.save(plots.confusion_matrix(confusion, test.classes), out / "confusion.png")
    plots.save(plots.mistakes(test, p), out / "mistakes.png")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="*", type=Path, help="images of your own, of one digit or several")
    parser.add_argument("--quick", action="store_true", help="the 8 x 8 digits inside the package instead of MNIST")
    parser.add_argument("--out", type=Path, help="a folder for plots")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other first weights and batches")
    arguments = parser.parse_args()
    for file in arguments.images:
        if not file.is_file():
            parser.error(f"no image at {file}")
    if arguments.seed < 0:
        parser.error("--seed must not be negative")
    if arguments.out:
        if arguments.out.exists() and not arguments.out.is_dir():
            parser.error(f"--out: {arguments.out} is no folder")
        arguments.out.mkdir(parents=True, exist_ok=True)
    try:
        splits = data.load("digits" if arguments.quick else "mnist")
    except data.DownloadError as error:
        parser.exit(1, f"{error}\nWith --quick, no MNIST is needed.\n")

    few = splits.train[:1000]
    x = few.x.reshape(len(few), -1) / 255
    sizes = [x.shape[1], *HIDDEN, 10]
    backend = xpnet.select("cpu", "float64", arguments.seed)  # float64: about 16 digits to compare
    worked_examples(backend)
    one_step(backend, x[:BATCH], few.y[:BATCH], sizes)
    one_epoch(backend, x, few.y, sizes)
    model, history = train_network(splits, arguments.seed)
    own_images(model, arguments.images, arguments.out)
    if arguments.out:
        draw_plots(model, history, splits.test, arguments.out)


if __name__ == "__main__":
    main()
