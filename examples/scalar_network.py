"""A neural network in pure Python, one number at a time: from a derivative to reading digits, in a few seconds.

For a reader who comes from a tutorial that builds a network out of single numbers. Run it without arguments:

    python examples/scalar_network.py

The engine is `xpnet/scalar/`: five short files without NumPy. Only the digits come from elsewhere in xpnet.
"""

import tempfile
from pathlib import Path

import xpnet.data
from xpnet.scalar import BasicNet, Value, accuracy, cross_entropy, mean_squared_error, softmax, train


def numbers_that_know_their_derivative() -> None:
    print("1. Numbers that know their derivative")

    def f(x: Value, y: Value) -> Value:
        return (2 - x) * y.tanh() + 3 / x + x**2 * y.exp()

    x, y = Value(1.5), Value(-0.5)
    z = f(x, y)
    z.backward()

    # The slope of the straight line through two points close by is nearly the derivative: an independent check.
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
    before.backward()  # now every weight knows what a change of it does to the loss
    for parameter in net.get_parameters():
        parameter.data -= 0.1 * parameter.grad
    after = cross_entropy(net.feed(inputs), label)
    print(f"   loss before {before.data:.4f}, after {after.data:.4f}\n")


def digits() -> list[list]:
    """(inputs, label) of the training and the test pictures: 64 pixels each, from 0..255 to 0..1."""
    return [
        [([pixel / 255 for pixel in x.ravel().tolist()], int(y)) for x, y in zip(split.x, split.y, strict=True)]
        for split in xpnet.data.load("digits")
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


if __name__ == "__main__":
    numbers_that_know_their_derivative()
    errors_and_probabilities()
    one_step_of_learning()
    learning_to_read()
