"""Numbers that are given as arguments: what is taken, and that what is not is named."""

import math
import re
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from xpnet import data, losses, nn, optim, schedules
from xpnet.arguments import counted, number, whole
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
    "layers of GRU": lambda v: nn.GRU(3, v),
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
