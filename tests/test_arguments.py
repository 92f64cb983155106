"""Arguments: what is taken, and that what is not is named."""

import math
import re
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from xpnet import data, losses, nn, optim, schedules, train
from xpnet.arguments import class_names, counted, number, switch, whole
from xpnet.backend import Backend
from xpnet.verify import parity

INTERVALS = {  # what lies inside, what does not, and the words
    "above and below": ({"above": 0, "below": 1}, [0.5, 1e-300], [0, 1, -0.1], " above 0 and below 1"),
    "least and below": ({"least": 0, "below": 1}, [0, 0.5], [1, -0.1], " >= 0 and below 1"),
    "least and most": ({"least": 0, "most": 0.5}, [0, 0.5], [0.51, -0.1], " >= 0 and <= 0.5"),
    "least": ({"least": 0}, [0, 1e308], [-1e-300], " >= 0"),
    "all": ({}, [0, -1e308, 1e308], [], ""),
}


@pytest.mark.parametrize(("ends", "inside", "outside", "words"), INTERVALS.values(), ids=INTERVALS)
def test_numbers_lie_between_the_ends(ends, inside, outside, words):
    assert [number("size", value, **ends) for value in inside] == inside
    for value in [*outside, math.nan, math.inf, -math.inf, 10**400, "0.5", None, True, 0.5j, [0.5], Decimal("0.5")]:
        with pytest.raises(ValueError, match=re.escape(f"size must be a finite number{words}, not {value!r}")):
            number("size", value, **ends)


@pytest.mark.parametrize("value", [np.float32(0.5), np.float16(0.5), np.array(0.5), Fraction(1, 2)], ids=repr)
def test_numbers_of_other_kinds_become_floats(value):
    taken = number("size", value, above=0)
    assert type(taken) is float
    assert taken == 0.5


@pytest.mark.parametrize("value", [np.bool_(True), np.array([0.5]), np.datetime64("2020"), np.array(1j)], ids=repr)
def test_what_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match="size must be a finite number, not"):
        number("size", value)


@pytest.mark.parametrize("value", [np.int8(3), np.array(3), 3], ids=repr)
def test_whole_numbers_become_ints(value):
    assert type(whole("count", value)) is int
    assert whole("count", value, least=3) == 3


def model():
    return nn.Model(nn.Linear(2), (3,), Backend())


def samples():
    return data.Dataset(np.zeros((8, 3)), np.arange(8) % 2)


# Each with the argument that it names.
TAKERS = {
    "p of Dropout": nn.Dropout,
    "slope of LeakyReLU": nn.LeakyReLU,
    "slope of PReLU": nn.PReLU,
    "alpha of ELU": nn.ELU,
    "momentum of BatchNorm": nn.BatchNorm,
    "eps of LayerNorm": nn.LayerNorm,
    "eps of RMSNorm": nn.RMSNorm,
    "eps of GroupNorm": lambda v: nn.GroupNorm(1, v),
    "groups of GroupNorm": nn.GroupNorm,
    "n_out of Linear": nn.Linear,
    "n of Embedding": lambda v: nn.Embedding(v, 3),
    "size of Embedding": lambda v: nn.Embedding(3, v),
    "length of LearnedPosition": nn.LearnedPosition,
    "heads of MultiHeadAttention": nn.MultiHeadAttention,
    "units of LSTM": nn.LSTM,
    "layers of GRU": lambda v: nn.GRU(3, layers=v),
    "value of constant": nn.init.constant,
    "std of normal": nn.init.normal,
    "a of uniform": nn.init.uniform,
    "delta": losses.Huber,
    "margin": losses.MultiMargin,
    "gamma": losses.Focal,
    "alpha": lambda v: losses.Focal(alpha=v),
    "label_smoothing": losses.SoftmaxCrossEntropy,
    "the learning rate": lambda v: optim.SGD(model(), v),
    "weight_decay": lambda v: optim.SGD(model(), 0.1, weight_decay=v),
    "momentum": lambda v: optim.SGD(model(), 0.1, momentum=v),
    r"betas\[1\]": lambda v: optim.Adam(model(), betas=(0.9, v)),
    "eps": lambda v: optim.Adam(model(), eps=v),
    "group 'W': the factor of lr": lambda v: optim.SGD(model(), 0.1, groups={"W": {"lr": v}}),
    "limit": lambda v: optim.clip_norm(model(), v),
    "decay": lambda v: optim.WeightAverage(model(), v),
    "lr": schedules.Constant,
    "steps": lambda v: schedules.Cosine(0.1, v),
    "final": lambda v: schedules.Cosine(0.1, 10, v),
    "factor": lambda v: schedules.Plateau(0.1, v),
    "rotate": lambda v: data.Augment(rotate=v),
    "fraction": lambda v: data.split(samples(), v, 0),
    "k": lambda v: data.kfold(samples(), v, 0),
    "text: length": lambda v: data.next_tokens(np.arange(9), v, name="text"),
    "batch": lambda v: parity(batch=v),
}


@pytest.mark.parametrize("value", ["1", None, math.nan, True, [1]], ids=repr)
@pytest.mark.parametrize("name", TAKERS)
def test_an_argument_that_is_no_number_is_named(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be a (finite|whole) number"):
        TAKERS[name](value)


@pytest.mark.parametrize(("n", "said"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (2000, "2,000 rows")])
def test_numbers_of_things(n, said):
    assert counted(n, "row") == said


SWITCHES = {
    "bias": [
        lambda v: nn.Linear(3, bias=v),
        lambda v: nn.Conv2d(3, 3, bias=v),
        lambda v: nn.TransformerBlock(2, bias=v),
    ],
    "causal": [lambda v: nn.MultiHeadAttention(2, v), lambda v: nn.TransformerBlock(2, v)],
    "rotary": [lambda v: nn.MultiHeadAttention(2, rotary=v)],
    "bidirectional": [lambda v: nn.LSTM(3, bidirectional=v), lambda v: nn.GRU(3, bidirectional=v)],
    "mask": [lambda v: nn.LSTM(3, mask=v)],
    "state": [lambda v: nn.LSTM(3, state=v)],
    "return_state": [lambda v: nn.LSTM(3, return_state=v)],
    "nesterov": [lambda v: optim.SGD(model(), 0.1, 0.9, v)],
}


@pytest.mark.parametrize("value", ["no", None, 8, 0, 1.0, [True], np.ones(2, bool)], ids=repr)
@pytest.mark.parametrize("name", SWITCHES)
def test_an_argument_that_is_neither_true_nor_false_is_named(name, value):
    """As where arguments are given in the order of another library: MultiHeadAttention(64, 8)."""
    for take in SWITCHES[name]:
        with pytest.raises(ValueError, match=f"^{name} must be True or False, not {re.escape(repr(value))}"):
            take(value)


@pytest.mark.parametrize("value", [np.bool_(True), np.array(True), True], ids=repr)
def test_switches_become_bools(value):
    assert switch("causal", value) is True


@pytest.mark.parametrize("values", [b"ab", {"a": 1, "b": 2}, {"a"}, 2, None, object], ids=repr)
def test_names_that_are_no_list_are_refused(values):
    words = "classes are a list of names"
    x, y = np.zeros((4, 3)), np.arange(4) % 2
    for take in (
        lambda: nn.Model(nn.Linear(2), (3,), Backend(), values),
        lambda: data.Dataset(x, y, values),
        lambda: data.Stored(x, y, values),
        lambda: data.Dataset(x, y, ("a", "b")).with_classes(values),
    ):
        with pytest.raises(TypeError, match=words):
            take()


def test_names_become_texts():
    for values in (["1", "2"], (1, 2), "12", np.array([1, 2]), iter([1, 2]), {1: 0, 2: 0}.keys()):
        assert class_names(values) == ("1", "2")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.MaxPool2d(True), ValueError, "kernel must be a whole number >= 1 or 2 of them, not True"),
        (lambda: nn.Conv2d(3, 3, padding=True), ValueError, "padding must be a whole number >= 0"),
        (lambda: nn.Conv2d(3, 3, padding=np.arange(2)), ValueError, r"padding must be .*, not array\(\[0, 1\]\)"),
        (lambda: nn.Standardize("a", 1), TypeError, "mean and std are numbers or arrays of numbers, not 'a' and 1"),
        (lambda: nn.Parameter("ab", nn.init.zeros), TypeError, "the shape of a Parameter is a tuple, .*, not 'ab'"),
        (lambda: nn.Parameter(2.5, nn.init.zeros), TypeError, "the shape of a Parameter is a tuple, .*, not 2.5"),
        (lambda: optim.WeightAverage("model"), TypeError, "an average is made for a model, .*, not 'model'"),
        (lambda: train.Metric(3, 1, list, max), TypeError, "the name of a metric is a text, not 3"),
        (lambda: train.Metric("top", 0, min, max), ValueError, "the size of the metric 'top' must be a .* >= 1, not 0"),
        (lambda: train.Metric("top", 1, [0], max), TypeError, "sums of the metric 'top' is a function, not a list"),
        (lambda: train.Metric("top", 1, min, 0.5), TypeError, "value of the metric 'top' is a function, not 0.5"),
    ],
)
def test_what_an_object_cannot_be_made_of_is_named(make, error, message):
    with pytest.raises(error, match=message):
        make()
