"""A neural network in pure Python, one number at a time: from a derivative to reading digits, in a few seconds.

For readers of the tutorial that builds a network out of single numbers:

    python examples/scalar_network.py
    python examples/scalar_network.py t1.wt      # also with the weights that the tutorial published, on MNIST

The engine is `xpnet/scalar/`: five short files without NumPy. From section 5 on, it is compared with xpnet's other
engine, which computes with whole arrays: both give the same numbers. Without an argument, the weights are read from
$XPNET_DATA/seed_weights/t1.wt if they are there.
"""

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np

import xpnet
from xpnet import data, losses, optim
from xpnet.scalar import (
    BasicNet,
    Value,
    accuracy,
    cross_entropy,
    from_model,
    mean_squared_error,
    softmax,
    to_model,
    train,
)


def numbers_that_know_their_derivative() -> None:
    print("1. Numbers that know their derivative")

    def f(x: Value, y: Value) -> Value:
        return (2 - x) * y.tanh() + 3 / x + x**2 * y.exp()

    x, y = Value(1.5), Value(-0.5)
    z = f(x, y)
    z.backward()

    # The slope of the line through two nearby points approximates the derivative: an independent check.
    h = 1e-6
    slope_x = (f(Value(1.5 + h), y).data - f(Value(1.5 - h), y).data) / (2 * h)
    slope_y = (f(x, Value(-0.5 + h)).data - f(x, Value(-0.5 - h)).data) / (2 * h)
    print(f"   f(1.5, -0.5) = {z.data:.6f}")
    print(f"   df/dx: backward {x.grad:.6f}, finite difference {slope_x:.6f}")
    print(f"   df/dy: backward {y.grad:.6f}, finite difference {slope_y:.6f}\n")


def errors_and_probabilities() -> None:
    print("2. What a network says, and how wrong it is")
    print("   softmax of 2.5, 1.0, 0.8:", ", ".join(f"{p:.4f}" for p in softmax([2.5, 1.0, 0.8])))
    predicted, actual = [290_000, 290_000, 400_000], [250_000, 300_000, 400_000]
    print(f"   mean squared error of three house prices: {mean_squared_error(predicted, actual):,.2f}\n")


def one_step_of_learning() -> None:
    print("3. One step of learning")
    net = BasicNet.from_lists(weights=[[[0.2, -0.4], [0.7, 0.1]]], biases=[[0.0, 0.0]])
    print(f"   {net}")
    inputs, label = [Value(1.0), Value(2.0)], 0
    before = cross_entropy(net.feed(inputs), label)
    before.backward()  # now every weight has its gradient: how the loss changes with it
    for parameter in net.get_parameters():
        parameter.data -= 0.1 * parameter.grad
    after = cross_entropy(net.feed(inputs), label)
    print(f"   loss before {before.data:.4f}, after {after.data:.4f}\n")


def digits() -> list[list]:
    """(inputs, label) of the training and the test images: 64 pixels each, scaled from 0..255 to 0..1."""
    return [
        [([pixel / 255 for pixel in x.ravel().tolist()], int(y)) for x, y in zip(split.x, split.y, strict=True)]
        for split in data.load("digits")
    ]


def learning_to_read() -> None:
    print("4. Learning to read digits")
    training, test = digits()
    net = BasicNet.random([64, 16, 10], seed=1)
    print(f"   {net}, {len(net.get_parameters())} parameters; untrained: {accuracy(net, test):.1%} right")
    train(net, training, 600, log_every=200, log=indented)
    print(f"   after 600 samples: {accuracy(net, test):.1%} of {len(test)} test digits right")

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "digits.json"
        net.save(file)
        print(f"   saved ({file.stat().st_size:,} bytes), loaded, and on with sample 601")
        net = BasicNet.load(file)
    train(net, training, 5400, start=600, log_every=1000, log=indented)
    print(f"   after 6000 samples: {accuracy(net, test):.1%} right")

    inputs, label = test[0]
    probabilities, answer = net.predict(inputs)
    print(f"   the first test digit is a {label}, read as {answer} ({probabilities[answer]:.0%} sure):")
    for row in range(8):
        print("      " + "".join(" .:*#@"[round(5 * pixel)] * 2 for pixel in inputs[8 * row : 8 * row + 8]))


def indented(line: str) -> None:
    print("   " + line)


def same_as_the_library() -> None:
    print("\n5. The same network as arrays: one step, number by number and by the library")
    net = BasicNet.random([64, 16, 10], seed=1)
    model = to_model(net, xpnet.select("cpu", "float64"))  # "cuda" in place of "cpu": the same on a GPU
    same("the network as a model and back", numbers(net), numbers(from_model(model)), "what it was")

    # Number by number. A hook is called with the outputs of the network (it could also replace them).
    seen = []
    net.post_feed_hooks.append(lambda net, outputs: seen.append([output.data for output in outputs]))
    batch = digits()[0][:8]
    errors = [cross_entropy(net.feed([Value(pixel) for pixel in inputs]), label) for inputs, label in batch]
    loss = sum(errors[1:], errors[0]) / len(errors)
    loss.backward()

    # With the library: a row of x for each sample.
    x, labels = np.array([inputs for inputs, _ in batch]), np.array([label for _, label in batch])
    outputs, backward = model.forward(x)
    value, slope = losses.SoftmaxCrossEntropy()(outputs, labels, model.backend)
    backward(slope)

    same(f"{len(seen)} x {len(seen[0])} outputs, noted by a hook", seen, outputs, "model.forward(x)")
    same(f"the loss {loss.data:.4f}", loss.data, value, "losses.SoftmaxCrossEntropy")
    arrays = iter(model.parameters.items())
    for layer in net.layers:
        (W, weights), (b, biases) = next(arrays), next(arrays)
        by_hand = np.array([[weight.grad for weight in neuron.weights] for neuron in layer.neurons])
        same(f"the gradients of {by_hand.size} weights", by_hand.T, weights.grad, f"{W}.grad")
        by_hand = np.array([neuron.bias.grad for neuron in layer.neurons])
        same(f"the gradients of {len(by_hand)} biases", by_hand, biases.grad, f"{b}.grad")

    for parameter in net.get_parameters():
        parameter.data -= 0.1 * parameter.grad
    optim.SGD(model, lr=0.1).step()
    same("every parameter after the step", numbers(net), numbers(from_model(model)), "optim.SGD(model, lr=0.1).step()")


def same(what: str, by_hand, by_library, name: str) -> None:
    """Raise AssertionError unless the two are the same numbers, except for rounding."""
    np.testing.assert_allclose(by_library, by_hand, rtol=1e-12, atol=1e-12, err_msg=what)
    print(f"   {what}: equal to {name}")


def numbers(net: BasicNet) -> list[float]:
    return [parameter.data for parameter in net.get_parameters()]


def published_weights(file: Path, count: int = 500) -> None:
    print("\n6. The tutorial's published weights")
    net = BasicNet.load(file)
    print(f"   {net}, from {file.name}")
    test = data.load("mnist").test[:count]
    x = test.x.reshape(count, -1)[:, : net.n_inputs] / 255  # that network reads the first 728 of the 784 pixels
    answers = [net.predict(inputs)[1] for inputs in x.tolist()]
    print(f"   number by number: {np.mean(answers == test.y):.1%} of the first {count} test images of MNIST right")
    outputs = to_model(net, xpnet.select("cpu", "float64")).predict(x)
    same(f"the {count} answers", answers, outputs.argmax(axis=1), "those of the library")


def main() -> None:
    parser = argparse.ArgumentParser(description="A neural network in pure Python, one number at a time.")
    parser.add_argument("weights", nargs="?", type=Path, help="the tutorial's weights file, t1.wt")
    file = parser.parse_args().weights
    if file and not file.is_file():
        parser.error(f"there is no file {file}")
    published = Path(os.environ.get("XPNET_DATA", "")) / "seed_weights" / "t1.wt"
    if not file and "XPNET_DATA" in os.environ and published.is_file():
        file = published

    numbers_that_know_their_derivative()
    errors_and_probabilities()
    one_step_of_learning()
    learning_to_read()
    same_as_the_library()
    if file:
        try:
            published_weights(file)
        except (OSError, ValueError) as error:  # no such weights, or no MNIST
            parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
