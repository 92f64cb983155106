"""Tables of named columns: how they are read, what is refused, and that the model knows them again."""

from __future__ import annotations

import datetime
import re
import subprocess
import sys
import warnings
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

import xpnet
from xpnet import data, frames, losses, nn, optim, train
from xpnet.backend import Backend
from xpnet.data.table import target_of
from xpnet.frames import columns_of, values_of, written_as_values
from xpnet.verify.strict import StrictBackend


def customers(n=120, **others):
    """Columns of every kind; who leaves depends on age and city."""
    rng = np.random.default_rng(0)
    columns = {
        "age": rng.integers(18, 80, n),
        "income": rng.normal(5e4, 1e4, n),
        "city": rng.choice(["Rome", "Oslo", "Lima"], n).astype(object),
        "member": rng.random(n) < 0.5,
        "street": np.array([f"street {i % 20}" for i in range(n)], object),
    }
    columns["churn"] = np.where((columns["age"] > 45) ^ (columns["city"] == "Rome"), "yes", "no").astype(object)
    return columns | others


def with_values(column, **at):
    """A column of objects, with other values in some rows: r3=None."""
    changed = np.array(column, object)
    for row, value in at.items():
        changed[int(row[1:])] = value
    return changed


def model_for(table, hidden=16):
    outputs = len(table.classes) or table.y.shape[1]
    network = nn.Sequential(nn.Columns(**table.columns), nn.Linear(hidden), nn.ReLU(), nn.Linear(outputs))
    return nn.Model(network, table.input_shape, Backend(seed=0), table.classes)


# Reading --------------------------------------------------------------------------------------------------------


def test_columns_become_numbers_and_categories():
    table = data.table(customers(), "churn")
    numbers, categories = table.x
    assert table.form.numbers == ["age", "income", "member"]
    assert table.form.categories == ["city", "street"]
    assert table.form.target == "churn"
    assert table.form.levels[0] == ["Lima", "Oslo", "Rome"]
    np.testing.assert_array_equal(numbers[:, 0], customers()["age"])
    np.testing.assert_array_equal(numbers[:, 2], customers()["member"])
    assert [table.form.levels[0][c - 1] for c in categories[:, 0]] == customers()["city"].tolist()
    assert [table.classes[y] for y in table.y] == customers()["churn"].tolist()
    assert table.sizes == (0, round(1.6 * 20**0.56)), "one-hot up to 16 levels, else embedded"
    assert table.input_shape == ((3,), (2,))
    assert data.table(customers(), "churn", ignore=["city", "street"]).input_shape == (3,)
    assert data.table(customers(), "churn", ignore=["age", "income", "member"]).input_shape == (2,)
    assert data.table(customers(), "churn", embeddings={"city": 2}).sizes == (2, 0)


def test_categories_too_large_to_be_told_apart():
    """As float64, 2^53 and 2^53 + 1 are one number."""
    ids = np.tile([2**53, 2**53 + 1, 7], 40)
    for target, options in [("churn", {"categories": ["id"]}), ("id", {"task": "classification"})]:
        with pytest.raises(ValueError, match="column 'id' has the category 9007199254740992: numbers as large"):
            data.table(customers(id=ids), target, **options)
    assert str(2**53 + 1) in data.table(customers(id=ids.astype(str)), "id").classes
    assert data.table(customers(id=ids - 2), "id", task="classification").classes == (
        "5",
        str(2**53 - 2),
        str(2**53 - 1),
    )


def test_categories_that_are_numbers():
    codes = np.tile([3.0, 10.0, 2.5, 3.0], 30)
    table = data.table(customers(code=codes), "churn", categories=["code"])
    assert "code" not in table.form.numbers
    assert dict(zip(table.form.categories, table.form.levels, strict=True))["code"] == ["10", "2.5", "3"]
    model = model_for(table)
    same = model.predict(customers(code=codes.astype(object)))
    np.testing.assert_array_equal(model.predict(customers(code=codes)), same)


@pytest.mark.parametrize(
    ("target", "task", "classes"),
    [
        (np.tile(["b", "a"], 60), None, ("a", "b")),
        (np.tile([True, False], 60), None, ("False", "True")),
        (with_values(np.tile([True, False], 60)), None, ("False", "True")),
        (np.tile([10, 9, -1], 40), None, ("-1", "9", "10")),
        (with_values(np.tile([10, 9, -1], 40)), None, ("-1", "9", "10")),  # a column of objects is what its values are
        (np.array([np.int16(7), 9] * 60, object), None, ("7", "9")),
        (np.array([np.True_, np.False_] * 60, object), None, ("False", "True")),
        (np.array([2.0, 3.0] * 60, object), None, ()),
        (with_values(np.arange(120)), None, ()),
        (np.arange(120), None, ()),
        (np.arange(120) % 20, None, tuple(map(str, range(20)))),
        (np.arange(120) % 21, None, ()),
        (np.tile([1.5, 2.0], 60), None, ()),
        (np.tile([1.5, 2.0], 60), "classification", ("1.5", "2")),
        (np.tile([0, 1], 60), "regression", ()),
    ],
)
def test_the_task_is_what_the_target_looks_like(target, task, classes):
    table = data.table(customers(churn=target), "churn", task=task)
    assert table.classes == classes
    if classes:
        spelt = [str(v) if isinstance(v, (str, bool, np.bool_)) else f"{v:g}" for v in np.asarray(target).tolist()]
        assert [classes[y] for y in table.y] == spelt
    else:
        np.testing.assert_array_equal(table.y[:, 0], target)


def test_a_categorical_target_of_booleans(pandas):
    member = pandas.Categorical(customers()["member"])
    table = data.table(pandas.DataFrame(customers(member=member)), "member")
    assert table.classes == ("False", "True")
    np.testing.assert_array_equal(table.y, customers()["member"])
    np.testing.assert_array_equal(target_of(customers(), "member", table.classes), table.y)


def test_booleans_as_categories_are_the_same_from_every_source(pandas, tmp_path):
    """Also where some are missing, and in the files of models that were saved when they were "0" and "1" in frames."""
    frame = pandas.DataFrame(customers())
    frame.to_csv(tmp_path / "a.csv", index=False)
    gap = {"member": with_values(customers()["member"], r0=None)}
    kinds = [
        (frame, {"categories": ["member"]}),
        (tmp_path / "a.csv", {"categories": ["member"]}),
        (frame.astype({"member": "category"}), {}),
        (customers(**gap), {"categories": ["member"], "missing": "fill"}),
    ]
    tables = [data.table(source, "churn", ignore=["city", "street"], **options) for source, options in kinds]
    whole = np.where(customers()["member"], 2, 1)
    for table in tables:
        assert table.form.levels == [["False", "True"]]
        np.testing.assert_array_equal(table.x[1][1:, 0], whole[1:])
        for other in (frame, frame.astype({"member": "category"}), frame.astype({"member": str})):
            np.testing.assert_array_equal(table.form.arrays(other)[1][:, 0], whole)
    assert tables[-1].x[1][0, 0] == 0
    old = replace(tables[0].form, levels=[["0", "1"]])
    for other in (frame, frame.astype({"member": "category"}), frame.astype({"member": int})):
        np.testing.assert_array_equal(old.arrays(other)[1][:, 0], whole)


def test_means_are_those_of_the_part_that_is_asked():
    table = data.table(customers(), "churn")
    part, _ = data.split(table, 0.5, 0)
    assert isinstance(part, data.Table)
    np.testing.assert_allclose(part.columns["mean"], part.x[0].mean(axis=0))
    np.testing.assert_allclose(part.columns["std"], part.x[0].std(axis=0))
    assert part.columns["mean"] != table.columns["mean"]


def test_what_is_missing_is_filled_if_that_is_asked_for():
    ages = with_values(customers()["age"], r0=None, r1=np.nan)
    gaps = customers(age=ages, city=with_values(customers()["city"], r2=None))
    table = data.table(gaps, "churn", missing="fill")
    numbers, categories = table.x
    median = np.median(ages[2:].astype(float))
    assert numbers[:2, 0].tolist() == [median, median]
    assert (categories[2, 0], categories[:, 0].min()) == (0, 0)
    model = model_for(table)
    np.testing.assert_array_equal(model.predict(gaps), model.predict(table.x))
    late = customers(income=with_values(customers()["income"], r5=None))  # a column that had no gap in training
    filled = dict(late, income=with_values(late["income"], r5=table.form.fill[1]).astype(float))
    np.testing.assert_array_equal(model.predict(late), model.predict(filled))


# The model ------------------------------------------------------------------------------------------------------


def test_a_saved_model_takes_the_table_it_has_never_seen(tmp_path):
    whole = data.table(customers(600), "churn")
    part, held_out = data.split(whole, 0.25, 0)
    model = model_for(part, hidden=32)
    train.fit(model, losses.SoftmaxCrossEntropy(), optim.Adam(model, 0.02), part, epochs=25, quiet=True)
    assert train.evaluate(model, losses.SoftmaxCrossEntropy(), held_out).accuracy > 0.85
    model.save(tmp_path / "m.safetensors")
    code = (
        "import sys, numpy as np, xpnet\n"
        "model = xpnet.load(sys.argv[1], device='cpu')\n"
        "frame = {'city': ['Rome', 'Oslo'], 'age': [30, 30], 'income': [5e4, 5e4], 'extra': [0, 0],\n"
        "         'street': ['street 1'] * 2, 'member': [True, False]}\n"
        "print(*[model.classes[i] for i in model.probabilities(frame).argmax(axis=1)])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "m.safetensors"], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["yes", "no"], done.stderr
    again = xpnet.load(tmp_path / "m.safetensors", device="cpu")
    np.testing.assert_array_equal(again.predict(customers(600)), model.predict(whole.x))


def test_unseen_categories_are_refused_or_zeros():
    elsewhere = customers(city=with_values(customers()["city"], r7="Paris", r9="Bonn"))
    strict = model_for(data.table(customers(), "churn"))
    with pytest.raises(ValueError, match=r"column 'city', row 7 and 1 more: 'Paris' did not occur in training"):
        strict.predict(elsewhere)
    lenient = model_for(data.table(customers(), "churn", unseen="zeros"))
    numbers, categories = lenient.network.arrays_of(elsewhere)
    assert categories[[7, 9], 0].tolist() == [0, 0]
    assert categories.min() == 0
    np.testing.assert_array_equal(lenient.predict(elsewhere), lenient.predict((numbers, categories)))


def test_of_the_unknown_nothing_is_known_even_after_training():
    gaps = customers(city=with_values(customers()["city"], r0=None, r1=None))
    table = data.table(gaps, "churn", missing="fill", embeddings={"city": 3})
    model = model_for(table)
    train.fit(model, losses.SoftmaxCrossEntropy(), optim.Adam(model, 0.1), table, epochs=3, quiet=True)
    unknown = (np.zeros((2, 3), np.float32), np.zeros((2, 2), np.int64))
    features, _ = model.network.layers[0](unknown, model.backend)
    assert features.shape == (2, 3 + 3 + 20)
    assert not features[:, 3:].any()


def test_missing_and_unseen_are_told_apart():
    gap, new = (customers(city=with_values(customers()["city"], r7=value)) for value in (None, "Paris"))
    fills = model_for(data.table(customers(), "churn", missing="fill"))
    fills.predict(gap)
    with pytest.raises(ValueError, match="'Paris' did not occur in training"):
        fills.predict(new)
    zeros = model_for(data.table(customers(), "churn", unseen="zeros"))
    zeros.predict(new)
    with pytest.raises(ValueError, match=r"column 'city' lacks 1 \(the first in row 7\)"):
        zeros.predict(gap)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"city": None}, "there is no column 'age', 'income'"),
        (customers(age=with_values(customers()["age"], r3="old")), "column 'age', row 3: 'old' is not a number"),
        (
            customers(age=with_values(customers()["age"].astype(str), r3="old")),
            "column 'age', row 3: 'old' is a text, wh",
        ),
        (
            customers(age=customers()["age"].astype(str)),
            r"column 'age', row 0: '\d+.*' is a text, where numbers should",
        ),
        (customers(age=np.array(["x"] * 120, object)), "column 'age', row 0: 'x' is a text, where numbers should be"),
        (
            customers(income=with_values(customers()["income"], r4=None)),
            r"column 'income' lacks 1 \(the first in row 4",
        ),
        (customers(age=np.full(120, np.inf)), "column 'age', row 0: the number is infinite"),
        (customers() | {"age": np.zeros(3)}, "needs columns of one length"),
        ({name: column[:0] for name, column in customers().items()}, "at least one row"),
    ],
)
def test_a_frame_that_does_not_fit_the_model(frame, message):
    model = model_for(data.table(customers(), "churn"))
    frame = {"city": np.array(["Rome"], object)} if frame == {"city": None} else frame
    with pytest.raises(ValueError, match=message):
        model.predict(frame)


def test_a_model_of_arrays_takes_no_frame():
    with pytest.raises(TypeError, match="takes arrays, not a dict of columns: let it begin with"):
        nn.Model(nn.Sequential(nn.Linear(2)), (3,), Backend()).predict(customers())


def test_a_model_of_arrays_takes_the_values_of_a_frame(pandas):
    model = nn.Model(nn.Sequential(nn.Linear(2)), (2,), Backend(seed=0))
    values = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    np.testing.assert_array_equal(model.predict(pandas.DataFrame(values, columns=["b", "a"])), model.predict(values))


@pytest.mark.parametrize("factor", [1e-40, 1e-200, 1e39, 1e200])
def test_columns_of_numbers_that_float32_does_not_hold_are_refused(factor):
    numbers = np.random.default_rng(0).standard_normal(50)
    for wrong in ("a", "y"):
        frame = {"a": numbers, "y": numbers + 1, "b": numbers}
        frame[wrong] = numbers * factor
        with pytest.raises(ValueError, match=rf"^column '{wrong}' holds numbers from .* to .*: .* scale the column"):
            data.table(frame, "y")
    table = data.table({"a": numbers * np.sign(factor - 1) * 1e-28, "b": np.ones(50), "y": numbers * 1e28}, "y")
    assert nn.Columns(**table.columns).std[1] == 1


def test_the_largest_and_the_closest_numbers_that_are_taken():
    table = data.table({"a": [-1e30, 1e30], "b": [0.0, 1e-30], "y": [0.0, 1e30]}, "y")
    assert np.array_equal(table.x, [[-1e30, 0], [1e30, 1e-30]])
    for numbers in ([0.0, 1.1e30], [-1.1e30, 0.0], [0.0, 9e-31]):
        with pytest.raises(ValueError, match="column 'a' holds numbers from"):
            data.table({"a": numbers, "y": [0.0, 0.5]}, "y")


def test_the_layer_checks_what_it_is_told():
    columns = data.table(customers(), "churn").columns
    for wrong, message in (
        ({"mean": [0.0]}, "a mean, a std and a fill for each name in numbers"),
        ({"sizes": [0]}, "a size for each in categories"),
        ({"std": [1.0, 0.0, 1.0]}, "finite std > 0"),
        ({"std": [1.0, 1e-31, 1.0]}, "column '.*' has mean .* and std 1e-31, and float32 needs .*: scale the column"),
        ({"mean": [0.0, 1.0, 1e31]}, r"column '.*' has mean 1e\+31 and std "),
        ({"fill": [np.nan, 0.0, 1.0]}, "finite means and fills"),
        ({"missing": "no"}, "missing must be in .* not 'no' and"),
        ({"unseen": "no"}, "unseen in .* and 'no'$"),
    ):
        with pytest.raises(ValueError, match=message):
            nn.Columns(**columns | wrong)
    with pytest.raises(ValueError, match="at least one column"):
        nn.Columns([], [], [], [])
    with pytest.raises(nn.ShapeError, match=r"has columns of shape \(\(3,\), \(2,\)\), its input has shape \(5,\)"):
        nn.Model(nn.Columns(**columns), (5,), Backend())
    model = nn.Model(nn.Columns(**columns), ((3,), (2,)), Backend())
    with pytest.raises(ValueError, match="categories are whole numbers, counted from 1, not float64"):
        model.predict((np.zeros((2, 3)), np.array([[1.5, 1], [np.nan, 2]])))
    with pytest.raises(ValueError, match=r"column 'street' has categories 0\.\.20, its input holds 0\.\.21"):
        model.predict((np.zeros((2, 3), np.float32), np.array([[0, 0], [3, 21]])))


def test_steps_on_a_table_are_captured_and_the_same_on_a_device():
    table = data.table(customers(), "churn", missing="fill", unseen="zeros")
    answers = []
    for backend in (Backend(seed=0), StrictBackend(seed=0)):
        network = nn.Sequential(nn.Columns(**table.columns), nn.Linear(2))
        model = nn.Model(network, table.input_shape, backend, table.classes)
        optimizer = optim.Adam(model, 0.1)
        result = train.fit(model, losses.SoftmaxCrossEntropy(), optimizer, table, epochs=2, batch_size=60, quiet=True)
        assert result.eager == ""
        answers.append(model.predict(customers()))
    np.testing.assert_allclose(*answers, rtol=1e-5)


# Bad tables -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "options", "message"),
    [
        (customers(), {"target": "left"}, "there is no column 'left': there are 'age', 'income'"),
        (customers(), {"ignore": ["name"]}, "there is no column 'name'"),
        (customers(), {"categories": ["zip"]}, "there is no column 'zip'"),
        (
            customers(),
            {"embeddings": {"age": 3}},
            "must map columns of categories to sizes >= 1, not 'age' to 3",
        ),
        (customers(), {"embeddings": {"city": 0}}, "not 'city' to 0"),
        (customers(), {"missing": "drop"}, "missing is one of refuse, fill, not 'drop'"),
        (customers(), {"task": "ranking"}, "task is one of classification, regression, not 'ranking'"),
        (customers(), {"ignore": list(customers())[:-1]}, "there is no column to predict 'churn' from"),
        (customers(churn=np.full(120, "no")), {}, "the target 'churn' is 'no' in every row"),
        (customers(churn=np.full(120, 3.5)), {}, "the target 'churn' is 3.5 in every row"),
        (customers(churn=with_values(customers()["churn"], r4=None)), {}, r"'churn' lacks 1 \(the first in row 4\)"),
        (customers(), {"task": "regression"}, "column 'churn', row 0: '.*' is a text, where numbers should be"),
        (
            customers(age=with_values(customers()["age"].astype(str), r3="n/a", r5="?")),
            {},
            r"column 'age', row 3 and 1 more: 'n/a' is a text, where .* with ignore=\['age'\] \(--ignore 'age'\)$",
        ),
        (customers(age=with_values(customers()["age"], r3="n/a")), {}, "column 'age', row 3: 'n/a' is not a number"),
        (customers(city=with_values(customers()["city"], r3=4)), {}, "column 'city', row 3: 4 is not a text"),
        (
            customers(name=np.array([f"N{i}" for i in range(120)])),
            {},
            "'name' has 120 different texts in 120 rows",
        ),
        (
            customers(paid=np.array([f"€{i}" for i in range(120)])),
            {},
            r"120 different texts in 120 rows, that look like numbers: make .* with ignore=\['paid'\] \(--ig",
        ),
        (
            customers(code=np.arange(120) * 3),
            {"categories": ["code"]},
            "120 rows, like a column of names, from which nothing is learnt: le",
        ),
        (customers(**{"Unnamed: 0": np.arange(120)}), {}, r"'Unnamed: 0' has no name .* \(--ignore 'Unnamed: 0'\)$"),
        (customers(**{"": np.arange(120)}), {}, r"column '' has no name in the header, .* ignore=\[''\]"),
        (customers(age=[1, "2", 3, 4] * 30), {}, "column 'age', row 1: '2' is not a number"),
        (customers(age=("a", 2, "b", "c") * 30), {}, "column 'age', row 1: 2 is not a text"),
        (customers(day=np.full(120, np.datetime64("2026-01-01"))), {}, "column 'day' holds dates or times"),
        (customers(day=[datetime.date(2026, 1, 1)] * 120), {}, r"column 'day', row 0: .* is not a number"),
        (customers(empty=[None] * 120), {"missing": "fill"}, "column 'empty' has no values"),
        (customers(pair=np.zeros((120, 2))), {}, r"column 'pair' has shape \(120, 2\)"),
        (customers(age=customers()["age"][:5]), {}, r"columns of one length.*\[5, 120\]"),
    ],
)
def test_a_table_that_cannot_be_learnt(frame, options, message):
    with pytest.raises(ValueError, match=message):
        data.table(frame, **{"target": "churn", **options})


def noted(frame, target="churn", **options):
    """What a table warns of, at the line that asks for it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = data.table(frame, target, **options)
    assert table.notes == tuple(str(warning.message) for warning in caught)
    assert {warning.filename for warning in caught} <= {__file__}
    assert data.split(table, 0.5, 0)[0].notes == table.notes
    return list(table.notes)


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (["5,3", "6,1"], "numbers"),
        (["3,000", "1,200.5"], "numbers"),
        (["€3000", "20 €", "-$5"], "numbers"),
        (["45%", "5 %"], "numbers"),
        (["30", "1e3"], "numbers"),
        (["2026-01-01", "2026-02-01 10:00"], "dates"),
        (["31.12.2025", "1/2/2026"], "dates"),
        (["5,3", "6,1", "(none)"], "numbers"),
        (["5,3", "none"], ""),
        (["18-25", "26-40"], ""),
        (["C3", "3rd", "12:30", "%"], ""),
    ],
)
def test_texts_that_look_like_numbers_or_dates(texts, kind):
    column = np.resize(np.array(texts, object), 120)
    notes = noted(customers(x=column))
    assert len(notes) == bool(kind)
    for note in notes:
        assert note.startswith(f"column 'x' holds texts that look like {kind}, such as ")
        assert "such as '(none)'" not in note
    assert noted(customers(x=column), categories=["x"]) == []
    assert noted(customers(churn=column)) == [], "few classes are shown"


def test_a_target_of_texts_that_look_like_numbers():
    paid = customers(churn=np.array([f"{i % 21},5" for i in range(120)]))
    (note,) = noted(paid)
    assert note.startswith(
        "column 'churn' holds texts that look like numbers, such as '0,5', and each is taken as a class: make"
    )
    assert "task='classification' (--task classification)" in note
    assert noted(paid, task="classification") == []
    assert noted(customers(churn=np.array([f"name {i % 21}" for i in range(120)]))) == []


def test_texts_of_a_categorical_type_are_meant(pandas):
    frame = pandas.DataFrame(customers(x=np.tile(["5,3", "6,1"], 60)))
    assert len(noted(frame)) == 1
    assert noted(frame.astype({"x": "category"})) == []


def test_a_column_that_counts_the_rows():
    for start in (0, 1):
        (note,) = noted(customers(row=np.arange(120) + start))
        assert note.startswith("column 'row' counts the rows: ")
        assert note.endswith("(--ignore 'row')")
    for other in (np.arange(120) + 2, np.arange(120)[::-1], np.arange(120) * 2, [None, *range(1, 120)]):
        assert noted(customers(row=other), missing="fill") == []


def test_numbers_that_float32_cannot_tell_apart():
    seconds = np.random.default_rng(0).permutation(120).astype(float)
    (note,) = noted(customers(when=1.7e9 + seconds))
    assert note.startswith("column 'when' is so far from 0 (1700000000 to 1700000119) that float32 rounds its differ")
    assert "subtract a number from it first, such as 1700000000," in note
    assert len(noted(customers(when=-1.7e9 - seconds))) == 1
    assert len(noted(customers(when=with_values(1.7e9 + seconds, r3=None)), missing="fill")) == 1
    assert noted(customers(when=1.7e9 + seconds), "when") == [note]
    for fine in (seconds, 2000 + seconds, 1.7e9 + 1e4 * seconds):
        assert noted(customers(when=fine), "when") == []
    for fine in (seconds, 2000 + seconds, 1.7e9 + 1e4 * seconds, np.full(120, 1.7e9)):
        assert noted(customers(when=fine)) == []


@pytest.mark.parametrize("as_objects", [False, True])
@pytest.mark.parametrize(
    ("first", "dtype"), [(2**60, "int64"), (-(2**60), "int64"), (2**63, "uint64"), (2**53, "int64")]
)
def test_whole_numbers_that_float64_cannot_tell_apart(first, dtype, as_objects):
    """A float64 of them all is one number, or a few: they are looked at before that."""
    numbers = np.array([first + i for i in range(120)], dtype)[::-1]
    numbers = numbers.astype(object) if as_objects else numbers
    low, high = min(first, first + 119), first + 119
    (note,) = noted(customers(when=numbers))
    assert note.startswith(f"column 'when' is so far from 0 ({low} to {high}) that float64 rounds its differences away")
    assert note.endswith(f"subtract a number from it first, such as {low}")
    if first == 2**53:  # of which some are left
        assert noted(customers(when=numbers), "when") == [note]
    assert noted(customers(when=[int(n) - first for n in numbers])) == []
    two = np.array([first, first + 1] * 60, dtype)
    words = f"the target 'when' holds {first} to {first + 1}, numbers so large that float64 rounds them all to one"
    with pytest.raises(ValueError, match=words):
        data.table(customers(when=two), "when")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": customers()["churn"]}, "the target is the name of a column, such as 'churn', not a ndarray"),
        ({"ignore": "street"}, r"ignore is a list of names of columns, \['street'\], not 'street'"),
        ({"categories": "age"}, r"categories is a list of names of columns, \['age'\], not 'age'"),
        ({"embeddings": 3}, "embeddings are sizes by columns, such as {'city': 4}, not 3"),
        ({"embeddings": ["city"]}, "embeddings are sizes by columns, such as {'city': 4}, not a list"),
    ],
)
def test_arguments_of_another_kind(options, message):
    with pytest.raises(TypeError, match=message):
        data.table(customers(), **{"target": "churn", **options})


@pytest.mark.parametrize("source", [[{"age": 30, "churn": "no"}], np.zeros((3, 2)), None])
def test_what_is_no_table(source):
    message = r"a table is a data frame, a dict .*, not a \w+: pandas.DataFrame makes one of records and arrays"
    with pytest.raises(TypeError, match=message):
        data.table(source, "churn")


@pytest.mark.parametrize("value", [30.0, "Rome", np.float32(30), np.array(30.0), None])
def test_a_single_value_is_no_column(value):
    model = model_for(data.table(customers(), "churn"))
    message = f"column 'age' is {value!r}: a column has a value for each row, {{'age': [{value!r}]}}"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        model.predict(customers() | {"age": value})


def test_all_columns_with_missing_values_are_named():
    gaps = customers(
        age=with_values(customers()["age"], r9=None, r11=None), city=with_values(customers()["city"], r2=None)
    )
    with pytest.raises(ValueError, match=r"'age' lacks 2 \(the first in row 9\), 'city' lacks 1 \(the") as raised:
        data.table(gaps, "churn")
    assert "leave those rows or columns out, or use missing='fill'" in str(raised.value)  # all that can be done here
    with pytest.raises(ValueError, match="leave those rows out, or train with missing='fill'"):  # the columns are fixed
        data.table(customers(), "churn").form.arrays(gaps)


def test_values_of_every_kind():
    assert values_of([1, None, 2.5, np.float32(3)], "a").tolist()[2:] == [2.5, 3.0]
    assert np.isnan(values_of([1, None], "a")[1])
    assert values_of([Decimal("1.5"), Decimal("NaN"), np.bool_(True)], "a")[[0, 2]].tolist() == [1.5, 1.0]
    assert values_of(["x", None, float("nan")], "a").tolist() == ["x", None, None]
    assert values_of(["x", float("nan")], "a").tolist() == ["x", None]
    assert values_of(np.array(["x", "y"], np.dtypes.StringDType()), "a").tolist() == ["x", "y"]


# Files and libraries --------------------------------------------------------------------------------------------


@pytest.fixture
def pandas():
    return pytest.importorskip("pandas", reason='pandas is not installed: pip install -e ".[tables]"')


@pytest.fixture
def pyarrow():
    return pytest.importorskip("pyarrow", reason='pyarrow is not installed: pip install -e ".[tables]"')


def test_pandas_and_arrow_give_the_same_table(pandas, pyarrow):
    plain = data.table(customers(), "churn")
    frame = pandas.DataFrame(customers())
    for source in (frame, frame.astype({"city": "category"}), pyarrow.Table.from_pandas(frame)):
        table = data.table(source, "churn")
        assert table.form == plain.form
        for mine, theirs in zip(table.x, plain.x, strict=True):
            np.testing.assert_array_equal(mine, theirs)
        np.testing.assert_array_equal(model_for(plain).predict(source), model_for(plain).predict(plain.x))


def test_types_that_know_what_is_missing(pandas, pyarrow):
    values = {"n": [1, None, 3], "b": [True, None, False], "s": ["x", None, "y"]}
    types = {"n": "Int64", "b": "boolean", "s": "string"}
    frame = pandas.DataFrame({name: pandas.array(v, dtype=types[name]) for name, v in values.items()})
    for source in (frame, pyarrow.table(values), values):
        read = {name: values_of(column, name) for name, column in columns_of(source).items()}
        np.testing.assert_array_equal(read["n"], [1, np.nan, 3])
        np.testing.assert_array_equal(read["b"], [1, np.nan, 0])
        assert read["s"].tolist() == ["x", None, "y"]
    coded = pandas.Series(pandas.Categorical([7, 9, 7]))
    assert values_of(coded, "c").tolist() == ["7", "9", "7"]
    assert values_of(pyarrow.array(["a", "b"]).dictionary_encode(), "c").tolist() == ["a", "b"]


def test_columns_of_one_name_are_refused(pandas):
    frame = pandas.DataFrame(np.zeros((3, 2)), columns=["a", "a"])
    with pytest.raises(ValueError, match="several columns are called 'a'"):
        data.table(frame, "a")


def test_named_categories_of_a_file_are_as_they_stand_there(pandas, tmp_path):
    (tmp_path / "a.csv").write_text("code,n,y\n01,5,a\n1,6,b\n1.0,7,a\n")
    assert data.table(tmp_path / "a.csv", "y", categories=["code"]).form.levels == [["01", "1", "1.0"]]


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_files_are_read(pandas, tmp_path, ending):
    path = tmp_path / f"customers.{ending}"
    frame = pandas.DataFrame(customers())
    if ending == "parquet":
        pytest.importorskip("pyarrow", reason='pyarrow is not installed: pip install -e ".[tables]"')
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if ending == "tsv" else ",")
    table = data.table(path, "churn")
    assert table.name == f"customers.{ending}"
    assert data.table(customers(), "churn").name == "table"
    assert table.form == data.table(customers(), "churn").form
    np.testing.assert_allclose(table.x[0], data.table(customers(), "churn").x[0])


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("a.csv", None, FileNotFoundError, "a.csv"),
        ("a.txt", b"x", ValueError, "a.txt is not a table: its name must end in one of .csv, .tsv, .parquet"),
        ("a.csv", b"a,b\n1,2,3,4\n1,2\n1,2,3,4,5,6\n", ValueError, "a.csv cannot be read as CSV"),
        ("a.csv", b"a,b\n1,2,3\n4,5,6\n", ValueError, "a.csv cannot be .*: its rows have 3 fields, its header 2 names"),
        ("a.csv", b"a,b\n1,2,\n4,5,\n", ValueError, "its rows have 3 fields, its header 2 names: give each column a"),
        ("a.tsv", b"a\tb\n1\t2\t3\t4\n", ValueError, "its rows have 4 fields, its header 2 names"),
        ("a.csv", b"a,b\n1," + b"x" * 200_000 + b"\n", ValueError, "a.csv cannot be read as CSV: field larger"),
        ("a.csv", b"a;b\n1;2;3\n", ValueError, "its rows have 3 fields, its header 2 names"),
        ("a.csv", b"a,b\n1,2\n\n1,2,3\n", ValueError, "CSV: line 4 has 3 fields, the lines before it 2: quote"),
        ("a.csv", b'a,b\n1,2\n1,"2\n3,4\n', ValueError, "CSV: the quotes that are opened in line 3 or later"),
        ("a.csv", b",b,\n1,2,3\n1,3,3\n", ValueError, "column 'Unnamed: 0' has no name in the header"),
        ("a.csv", b"a,b,a\n1,2,3\n", ValueError, "CSV: several columns are called 'a': each needs a name of its own"),
        (
            "a.csv",
            b"a,b\n\xff\xfe,2\n",
            ValueError,
            "a.csv is not written in UTF-8: save it as UTF-8, in Excel as 'CSV",
        ),
        ("a.csv", "a,b\n1,2\n".encode("utf-16"), ValueError, "a.csv is not written in UTF-8"),
        ("a.csv", b"caf\xe9,b\n1,2\n", ValueError, "a.csv is not written in UTF-8"),
        ("a.csv", b"a,b\n", ValueError, "a table needs at least one row, and this one has none"),
        ("a.csv", b"", ValueError, "a.csv cannot be read as CSV: the file is empty"),
        ("a.tsv", b"\n\n", ValueError, "a.tsv cannot be read as TSV: the file is empty"),
        ("a.parquet", b"PAR1 but no more", ValueError, "a.parquet cannot be read as PARQUET"),
    ],
)
def test_files_that_are_no_tables(pandas, tmp_path, name, content, error, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=message):
        data.table(tmp_path / name, "b")


@pytest.mark.parametrize(
    ("header", "row", "values"),
    [
        ("age;spent;churn", "{};{},5;{}", [30, 7.5]),  # as Excel writes where the comma is the decimal sign
        ("age;spent;churn", "{};{}.5;{}", [30, 7.5]),
        ("\nage;spent;churn", "{};{},5;{}", [30, 7.5]),
        ("\ufeffage;spent;churn", "{};{},5;{}", [30, 7.5]),
        ('age,"spent; EUR",churn', "{},{}.5,{}", [30, 7.5]),
    ],
)
def test_semicolons_between_the_fields(pandas, tmp_path, header, row, values):
    rows = [row.format(30 + 5 * i, 7 + 2 * i, "yn"[i % 2]) for i in range(4)]
    (tmp_path / "a.csv").write_text("\n".join([header, *rows]), encoding="utf-8")
    table = data.table(tmp_path / "a.csv", "churn")
    assert table.form.numbers[0] == "age"
    assert table.x[0].tolist() == values


@pytest.mark.parametrize(
    "header",
    [
        '"age, years";"EUR, net";churn',
        "age, years;EUR, net;churn",
        "age, years, today;EUR, net;churn",
        '"a; b; c; d",paid,churn',
        '"a, b",paid,churn',
        '"a; b";"c; d";churn',
    ],
)
def test_the_other_separator_within_names(pandas, tmp_path, header):
    sep = ";" if ";churn" in header else ","
    point = "," if sep == ";" else "."
    rows = [sep.join(row) for row in ([f"30{point}5", f"2{point}5", "y"], ["35", "3", "n"])]
    (tmp_path / "a.csv").write_text("\n".join([header, *rows]))
    assert data.table(tmp_path / "a.csv", "churn").x.tolist() == [[30.5, 2.5], [35, 3]]


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (["-3", "1", "2.5"], True),
        (["False", "True"], True),
        (["01", "02"], False),
        (["1.0"], False),
        (["1", "True"], False),
        (["1", "A"], False),
        ([], True),
    ],
)
def test_texts_that_were_made_of_values(texts, values):
    assert written_as_values(texts) == values


def test_a_line_for_excel_alone_is_named(pandas, tmp_path):
    (tmp_path / "a.csv").write_text("sep=;\na;b\n1;2\n")
    with pytest.raises(ValueError, match=r"a.csv cannot be read as CSV: its first line is 'sep=;', which only Excel"):
        data.table(tmp_path / "a.csv", "b")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0.5, 1 / 3], "0.333333 to 0.5"),
        ([1e9, 1e9 + 1], "1000000000 to 1000000001"),
        ([1e15, 1e15 + 1], "1000000000000000 to 1000000000000001"),
        ([0.1, 0.1], "0.1 to 0.1"),
    ],
)
def test_ranges_are_told_in_digits_that_tell_their_ends_apart(values, words):
    assert frames.span(np.array(values)) == words


def test_codes_of_which_most_are_digits_may_be_named_as_categories():
    codes = ["01", "02", "A1", "03", "B2"] * 4
    frame = {"code": codes, "churn": ["y" if code > "02" else "n" for code in codes]}
    with pytest.raises(ValueError, match=r"name it in categories=\['code'\] \(--categories 'code'\)"):
        data.table(frame, "churn")
    assert data.table(frame, "churn", categories=["code"]).form.levels == [["01", "02", "03", "A1", "B2"]]


def test_points_beside_decimal_commas_are_not_those_of_decimals(pandas, tmp_path):
    (tmp_path / "a.csv").write_text("paid;rate;churn\n1.200;0,5;y\n3.400;1,5;n\n")
    with pytest.warns(UserWarning, match="column 'paid' holds texts that look like numbers, such as '1.200'"):
        table = data.table(tmp_path / "a.csv", "churn")
    assert table.form.numbers == ["rate"]


def test_empty_lines_of_a_file_are_no_rows(pandas, tmp_path):
    (tmp_path / "a.csv").write_text("\na,b\n\n7,x\n\n9,y\n")
    assert data.table(tmp_path / "a.csv", "b").x.tolist() == [[7], [9]]


def test_without_pandas_the_error_names_the_extra(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    code = "import sys; sys.modules['pandas'] = None; from xpnet import data; data.table(sys.argv[1], 'b')"
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.csv"], capture_output=True, text=True, check=False)
    assert 'pip install "xpnet[tables]"' in done.stderr.splitlines()[-1]
