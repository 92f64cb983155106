"""Names of other libraries: the error says what to write here, and what it says exists."""

from __future__ import annotations

import copy
import importlib
import inspect
import re

import pytest

import xpnet
from xpnet import data, elsewhere, losses, nn, optim, schedules, train

PLACES = {"Model": nn.Model, "Optimizer": optim.Optimizer, "Loss": losses.Loss, "xpnet": xpnet}
WORDS = {  # what the hints call by these names
    "xpnet": xpnet, "nn": nn, "losses": losses, "optim": optim, "schedules": schedules, "data": data, "train": train,
    "model": nn.Model, "optimizer": optim.Optimizer, "dataset": data.Dataset, "backend": xpnet.Backend,
}  # fmt: skip
SET_BY_INIT = {"parameters": {}, "network": nn.Sequential()}  # attributes of a model that its class does not have


def place_of(name):
    return PLACES.get(name) or importlib.import_module(f"xpnet.{name}")


def small_model():
    return nn.Model(nn.mlp([3, 4, 2]), (3,), xpnet.select("cpu", seed=0))


@pytest.mark.parametrize("place", elsewhere.HINTS)
def test_what_a_hint_names_exists_and_the_name_it_answers_does_not(place):
    for names, words in elsewhere.HINTS[place].items():
        for name in names.split():
            assert not hasattr(place_of(place), name), name
        for first, *rest in (name.split(".") for name in re.findall(r"\b[a-z]+(?:\.[A-Za-z]\w*)+", words)):
            found = WORDS[first]
            for part in rest:
                found = SET_BY_INIT[part] if part in SET_BY_INIT else getattr(found, part)
        for function, arguments in re.findall(r"(train\.fit|xpnet\.select)\(([^()]*)\)", words):
            known = inspect.signature(getattr(WORDS[function.split(".")[0]], function.split(".")[1])).parameters
            assert set(re.findall(r"(\w+)=", arguments)) <= set(known), words


@pytest.mark.parametrize("place", [p for p in elsewhere.HINTS if p not in PLACES])
def test_each_part_gives_its_hints(place):
    for names, words in elsewhere.HINTS[place].items():
        for name in names.split():
            with pytest.raises(AttributeError) as error:
                getattr(place_of(place), name)
            assert str(error.value) == f"module 'xpnet.{place}' has no attribute {name!r}: write {words}"


def test_the_package_and_the_classes_give_their_hints():
    model = small_model()
    for place, its in {"xpnet": xpnet, "Model": model, "Optimizer": optim.Adam(model), "Loss": losses.Huber()}.items():
        for names, words in elsewhere.HINTS[place].items():
            for name in names.split():
                with pytest.raises(AttributeError, match=f"has no attribute '{name}': write {re.escape(words)}$"):
                    getattr(its, name)


@pytest.mark.parametrize(
    ("part", "wrong", "right"),
    [(nn, "Conv1D", "Conv1d"), (nn, "relu", "ReLU"), (optim, "RMSprop", "RMSProp"), (nn.init, "Zeros", "zeros")],
)
def test_other_capital_letters_are_named(part, wrong, right):
    with pytest.raises(AttributeError, match=rf"no attribute '{wrong}': write {part.__name__[6:]}\.{right}$"):
        getattr(part, wrong)


@pytest.mark.parametrize("its", [xpnet, nn, optim, train, small_model(), losses.Huber(), optim.SGD(small_model(), 0.1)])
def test_any_other_name_is_an_error_as_everywhere(its):
    assert not hasattr(its, "nothing")
    with pytest.raises(AttributeError, match=r"has no attribute 'nothing'$"):
        its.nothing  # noqa: B018


def test_an_error_inside_a_property_stays():
    class Broken(losses.Loss):
        @property
        def weights(self):
            return self.missing

    with pytest.raises(AttributeError, match="no attribute 'missing'"):
        Broken().weights  # noqa: B018

    class Wrapped(nn.Model):
        @property
        def layers(self):
            return self.missing

    with pytest.raises(AttributeError, match="no attribute 'missing'"):
        Wrapped(nn.mlp([3, 4, 2]), (3,), xpnet.select("cpu")).layers  # noqa: B018


def test_a_model_and_its_parameters_are_not_called():
    model = small_model()
    with pytest.raises(TypeError, match=r"model\.predict\(x\), or y, backward = model\.forward\(x\)"):
        model([[1.0, 2.0, 3.0]], training=True)
    with pytest.raises(TypeError, match=r"a dict, not a method; an optimizer takes the model: optim\.Adam\(model\)"):
        optim.SGD(model.parameters(recurse=True), lr=0.1)
    assert list(model.parameters) == list(copy.deepcopy(model).parameters) == [*model.tensors()]


def test_photo_is_a_part_like_the_others():
    assert xpnet.photo.shipped_model_path().is_file()
