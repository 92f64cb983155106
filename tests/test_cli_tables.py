"""Tables on the command line: trained on, measured, answered row by row, and refused in a sentence."""

from __future__ import annotations

import csv
import io
import json
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from command_line import call, elsewhere, process  # noqa: F401
from PIL import Image

import xpnet
from xpnet.cli import tables
from xpnet.photo import shipped_model_path

pandas = pytest.importorskip("pandas", reason='pandas is not installed: pip install -e ".[tables]"')
pytestmark = pytest.mark.usefixtures("elsewhere")

TRAIN = ["train", "--data", "customers.csv", "--quiet", "--hidden", "16", "--epochs", "15", "--lr", "0.02"]


@pytest.fixture(autouse=True)
def customers(elsewhere):  # noqa: F811 (pytest's way to name a fixture)
    """customers.csv: who leaves, and what they spend, by age and city."""
    rng, n = np.random.default_rng(0), 400
    frame = pandas.DataFrame(
        {
            "id": [f"C{i}" for i in range(n)],
            "age": rng.integers(18, 80, n),
            "city": rng.choice(["Rome", "Oslo", "Lima"], n),
            "zip": rng.integers(1, 5, n),
        }
    )
    frame["churn"] = np.where((frame.age > 45) ^ (frame.city == "Rome"), "yes", "no")
    frame["spent"] = 1000 + 50.0 * frame.age + 500 * (frame.city == "Oslo")
    frame.to_csv("customers.csv", index=False)
    return frame


def test_classes_are_trained_measured_and_predicted(customers):
    said = call(*TRAIN, "--target", "churn", "--ignore", "id, spent", "--categories", "zip", "--out", "run").stdout
    assert "churn: classification, of 2 classes (no, yes)\nfrom numbers: 'age'; categories: 'city', 'zip'\n" in said
    assert "test accuracy" in said
    assert "no images" not in said
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert metrics["test_accuracy"] > 0.85
    assert metrics["test_samples"] == 80
    assert {"confusion-matrix.png", "learning-curves.png"} <= {path.name for path in Path("run").iterdir()}

    measured = json.loads(call("evaluate", "run/model.safetensors", "--json").stdout)
    assert measured["test_accuracy"] == metrics["test_accuracy"]
    assert measured["confusion"] == metrics["confusion"], "the same held-out rows"
    Path("again.csv").write_bytes(Path("customers.csv").read_bytes())
    everything = call("evaluate", "run/model.safetensors", "--data", "again.csv").stdout
    assert "of 400 wrong" in everything
    assert "precision" in everything

    customers[["city", "zip", "age"]].head(5).to_csv("new.csv", index=False)
    rows = list(csv.DictReader(io.StringIO(call("predict", "run/model.safetensors", "new.csv").stdout)))
    model = xpnet.load("run/model.safetensors", device="cpu")
    assert model.network.layers[0].categories == ["city", "zip"]
    probabilities = model.probabilities(customers)[:5]
    assert [row["churn"] for row in rows] == [model.classes[i] for i in probabilities.argmax(axis=1)]
    np.testing.assert_allclose([float(row["probability"]) for row in rows], probabilities.max(axis=1), rtol=1e-5)
    answers = json.loads(call("predict", "run/model.safetensors", "new.csv", "--json").stdout)["predictions"]
    assert [answer["churn"] for answer in answers] == [row["churn"] for row in rows]
    assert [answer["probability"] for answer in answers] == [max(a["probabilities"].values()) for a in answers]
    np.testing.assert_allclose([list(a["probabilities"].values()) for a in answers], probabilities, rtol=1e-6)
    assert list(answers[0]["probabilities"]) == list(model.classes)


def test_of_the_table_of_the_run_the_held_out_rows_count():
    call(*TRAIN, "--target", "churn", "--ignore", "id,spent", "--out", "run")
    unnamed = call("evaluate", "run/model.safetensors").stdout
    assert "80 samples" in unnamed
    for way in ("customers.csv", "run/../customers.csv", str(Path("customers.csv").absolute())):
        assert call("evaluate", "run/model.safetensors", "--data", way).stdout == unnamed
    Path("run/config.toml").unlink()
    assert "400 samples" in call("evaluate", "run/model.safetensors", "--data", "customers.csv").stdout


def test_the_run_knows_its_table_by_the_way_from_home(monkeypatch, tmp_path):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    named = ["train", "--data=~/customers.csv", "--target", "churn", "--ignore", "id", "--epochs", "1", "--quiet"]
    call(*named, "--out", "run")
    whole = f"{Path('customers.csv').absolute()}"
    assert tomllib.loads(Path("run/config.toml").read_text("utf-8"))["data"] == whole
    for way in ([], ["--data", "~/customers.csv"], ["--data", whole]):
        assert "80 samples" in call("evaluate", "run", *way).stdout
    config = Path("run/config.toml").read_text("utf-8").replace(json.dumps(whole), '"~/customers.csv"')
    Path("run/config.toml").write_text(config, "utf-8")  # as a run of an earlier xpnet has it
    assert '"~/' in config
    for way in ([], ["--data", "customers.csv"]):
        assert "80 samples" in call("evaluate", "run", *way).stdout
    Path("again.toml").write_text(config, "utf-8")
    call("train", "--config", "again.toml", "--quiet", "--out", "again")
    assert tomllib.loads(Path("again/config.toml").read_text("utf-8"))["data"] == whole


def test_data_that_have_changed_since_the_run_are_told(customers):
    call(*TRAIN, "--target", "churn", "--ignore", "id,spent", "--val", "0.2", "--out", "run")
    noted = json.loads(Path("run/metrics.json").read_text())["trained_on"]
    evaluate, changed = ["evaluate", "run/model.safetensors"], "the data have changed since the run"
    assert changed not in call(*evaluate, "--out", "run/evaluated").stdout
    assert json.loads(Path("run/evaluated/metrics.json").read_text())["trained_on"] == noted
    customers.sort_values("churn").to_csv("customers.csv", index=False)
    assert call(*evaluate).stdout.startswith(f"{changed}: the model may have been trained on some of these test")
    told = call(*evaluate, "--json")
    assert told.stderr.startswith(changed)
    assert json.loads(told.stdout)["test_samples"] == 80
    assert call(*evaluate, "--data", "customers.csv").stdout == call(*evaluate).stdout, "the run's own, by its name"
    Path("again.csv").write_bytes(Path("customers.csv").read_bytes())
    assert changed not in call(*evaluate, "--data", "again.csv").stdout
    refused = call("train", "--resume", "run", "--epochs", "16", "--quiet", code=1).stderr
    assert refused.endswith("samples, here 256): the data has changed since, or another data set is given\n")
    for noted in ("[]", '{"trained_on": 3}', "none"):
        Path("run/metrics.json").write_text(noted)
        assert changed not in call(*evaluate).stdout


def test_numbers_are_trained_measured_and_predicted(customers):
    said = call(*TRAIN, "--target", "spent", "--ignore", "id,churn", "--val", "0.2", "--out", "run").stdout
    assert "spent: regression, of numbers from 1900 to 5450" in said
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert metrics["test_r2"] > 0.9
    assert metrics["test_mae"] < metrics["test_rmse"] < 400, "in the units of the column"
    header = Path("run/history.csv").read_text().splitlines()[0]
    assert header == "epoch,train_loss,train_r2,validation_loss,validation_r2,lr,seconds"
    assert float(Path("run/history.csv").read_text().splitlines()[-1].split(",")[1]) < 0.5, "in units of the deviation"
    assert f"test R2 {metrics['test_r2']:.3f}, mean error" in call("evaluate", "run/model.safetensors").stdout
    rows = list(csv.DictReader(io.StringIO(call("predict", "run/model.safetensors", "customers.csv").stdout)))
    errors = np.array([float(row["spent"]) for row in rows]) - customers.spent
    assert errors.abs().mean() < 300


def test_the_config_of_a_run_on_a_table_repeats_it():
    options = ["--target", "spent", "--ignore", "id", "--unseen", "zeros", "--missing", "fill", "--epochs", "2"]
    call(*TRAIN, *options, "--out", "first")
    call("train", "--config", "first/config.toml", "--quiet", "--out", "second")
    first, second = (xpnet.load(f"{name}/model.safetensors", device="cpu") for name in ("first", "second"))
    np.testing.assert_array_equal(first.data, second.data)
    assert (second.network.layers[0].unseen, second.network.layers[0].missing) == ("zeros", "fill")
    assert Path("first/config.toml").read_text() == Path("second/config.toml").read_text()


def test_what_a_column_is_perhaps_not_meant_to_be_is_said(customers):
    odd = customers.assign(row=np.arange(400), paid="5,30", when=1.7e9 + customers.age)[
        ["row", "paid", "when", "churn"]
    ]
    odd.to_csv("odd.csv", index=False)
    told = call("train", "--data", "odd.csv", "--target", "churn", "--epochs", "1", "--quiet", "--out", "run")
    said = told.stdout.splitlines()
    assert "from numbers: 'row', 'when'; categories: 'paid'" in said
    for start in ("column 'row' counts the rows", "column 'when' is so far from 0", "column 'paid' holds texts that"):
        assert sum(line.startswith(start) for line in said) == 1, start
    assert "column" not in told.stderr
    described = call("data", "odd.csv").stdout
    assert "  paid: 1 different text that look like numbers, '5,30'" in described
    customers.drop(columns="id").to_csv("rows.csv")
    unnamed = ["train", "--data", "rows.csv", "--target", "churn", "--quiet", "--epochs", "1", "--out", "named"]
    assert "(--ignore 'Unnamed: 0')" in call(*unnamed, code=2).stderr
    said = call(*unnamed, "--ignore", "Unnamed: 0,city").stdout.splitlines()
    assert "from numbers: 'age', 'zip', 'spent'" in said


@pytest.mark.parametrize(
    ("listed", "read"),
    [
        ("size, in cm", "'id', ' a', 'b '"),
        (" a", "'id', 'size, in cm', 'b '"),
        ("b ", "'id', 'size, in cm', ' a'"),
        ('id, "size, in cm"', "' a', 'b '"),
        ('id," a",b ', "'size, in cm'"),
        ("id , ", "'size, in cm', ' a', 'b '"),
    ],
)
def test_columns_are_named_as_in_a_line_of_csv(listed, read):
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame(rng.normal(size=(40, 4)), columns=["id", "size, in cm", " a", "b "])
    frame.assign(y=np.resize(["p", "q"], 40)).to_csv("named.csv", index=False)
    said = call("train", "--data", "named.csv", "--target", "y", "--ignore", listed, "--epochs", "1", "--quiet").stdout
    assert f"\nfrom numbers: {read}\n" in said


def test_named_categories_may_have_a_comma(customers):
    customers.rename(columns={"zip": "zip, of the home"}).to_csv("customers.csv", index=False)
    named = ["--target", "churn", "--ignore", "id,spent", "--categories", "zip, of the home", "--epochs", "1"]
    assert "; categories: 'city', 'zip, of the home'\n" in call(*TRAIN, *named).stdout


def test_a_small_table_is_one_batch(customers):
    customers.head(40).to_csv("few.csv", index=False)
    call(
        "train", "--data", "few.csv", "--target", "churn", "--ignore", "id", "--epochs", "2", "--quiet", "--out", "run"
    )
    assert "batch-size = 32\n" in Path("run/config.toml").read_text()
    assert "val = 0.0\n" in Path("run/config.toml").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "which column is to be predicted? Name it with --target: there are id, age, city, zip, churn, spent"),
        (["--target", "left"], "there is no column 'left'"),
        (["--target", "churn"], "column 'id' has 400 different texts in 400 rows"),
        (["--target", "churn", "--ignore", "name"], "there is no column 'name'"),
        (["--target", "churn", "--ignore", "id", "--task", "regression"], "is a text, where numbers should be"),
        (["--target", "spent", "--ignore", "id", "--label-smoothing", "0.1"], "label_smoothing is for classes"),
        (["--target", "spent", "--ignore", "id", "--missing", "drop"], "missing is one of"),
        (["--target", "spent", "--ignore", "id", "--augment"], "only uint8 images can be augmented"),
        (["--target", "churn", "--ignore", "id,churn"], "--ignore 'churn': that is the column to be predicted"),
        (
            ["--target", "churn", "--ignore", "id,age", "--categories", "zip,age"],
            "column 'age' is in --ignore and in --categories: take it out of one of them",
        ),
        (["--target", "spent", "--ignore", "id", "--model", "cnn"], "images are (height, width)"),
    ],
)
def test_what_cannot_be_trained_is_said_before_there_is_a_folder(options, message):
    assert message in call("train", "--data", "customers.csv", *options, code=2).stderr
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("churned", "hint"),
    [([0.0, 1.0], "; --task classification takes them as 2 classes"), ([0.5, 1.0], ""), (np.arange(40.0), "")],
)
def test_few_whole_numbers_may_be_classes(customers, churned, hint):
    customers.assign(churned=np.resize(churned, 400)).to_csv("customers.csv", index=False)
    said = call(*TRAIN, "--target", "churned", "--ignore", "id,spent,churn", "--epochs", "1").stdout
    assert f"churned: regression, of numbers from {churned[0]:g} to {churned[-1]:g}{hint}\n" in said


def test_errors_of_tables_name_the_options(customers):
    customers.assign(age=customers.age.where(customers.age > 20)).to_csv("customers.csv", index=False)
    said = call("train", "--data", "customers.csv", "--target", "churn", "--ignore", "id", code=2).stderr
    assert "(--missing fill)" in said
    said = call("train", "--data", "customers.csv", "--target", "churn", "--missing", "fill", code=2).stderr
    assert "(--ignore 'id')" in said


def test_a_model_may_be_named_by_the_folder_of_its_run(customers):
    call(*TRAIN, "--target", "churn", "--ignore", "id,spent", "--out", "run")
    for command in (["predict", "run", "customers.csv"], ["parity", "run", "--steps", "2"], ["evaluate", "run"]):
        named = [*command[:1], "run/model.safetensors", *command[2:]]
        assert call(*command).stdout == call(*named).stdout


def test_other_data_have_no_target():
    assert "target is for tables (.csv, .tsv, .parquet)" in call("train", "--target", "churn", code=2).stderr


def test_a_file_that_is_missing_or_broken_is_said(customers):
    assert "no.csv: No such file" in call("train", "--data", "no.csv", "--target", "a", code=1).stderr
    Path("broken.csv").write_bytes(b"a,b\n\xff,1\n")
    assert "broken.csv is not written in UTF-8" in call("train", "--data", "broken.csv", "--target", "a", code=2).stderr


def test_new_rows_that_do_not_fit_are_said(customers):
    call(*TRAIN, "--target", "churn", "--ignore", "id,spent", "--out", "run")
    customers.assign(city="Paris").to_csv("new.csv", index=False)
    refused = call("predict", "run/model.safetensors", "new.csv", code=2)
    assert "column 'city', row 0 and 399 more: 'Paris' did not occur in training" in refused.stderr
    assert refused.stdout == ""
    customers.drop(columns="churn").to_csv("new.csv", index=False)
    said = call("evaluate", "run/model.safetensors", "--data", "new.csv", code=2).stderr
    assert "there is no column 'churn' to compare with" in said
    customers.assign(churn="perhaps").to_csv("new.csv", index=False)
    said = call("evaluate", "run/model.safetensors", "--data", "new.csv", code=2).stderr
    assert "column 'churn', row 0: 'perhaps' is not one of the classes 'no', 'yes'" in said
    assert (
        "a table must be the only file after the model"
        in call("predict", "run/model.safetensors", "new.csv", "new.csv", code=2).stderr
    )


@pytest.mark.parametrize(
    ("codes", "first"), [(["01", "1", "A1"], "01"), (["True", "False", "unknown"], "True"), (["2.0", "2", "x"], "2.0")]
)
def test_what_was_text_in_training_is_text_in_a_file_of_few_rows(customers, codes, first):
    """A file in which "01" alone stands is no file of the number 1."""
    code = np.random.default_rng(1).choice(codes, 400)
    frame = pandas.DataFrame({"age": customers.age, "code": code, "kind": np.where(code == first, code, "other")})
    frame.to_csv("coded.csv", index=False)
    options = ["--data", "coded.csv", "--target", "kind", "--unseen", "zeros", "--categories", "code", "--epochs", "40"]
    call(*TRAIN[:1], *TRAIN[3:], *options, "--out", "run")
    frame[code == first].drop(columns="kind").head(3).to_csv("new.csv", index=False)
    rows = list(csv.DictReader(io.StringIO(call("predict", "run", "new.csv").stdout)))
    assert [row["kind"] for row in rows] == [first] * 3
    assert min(float(row["probability"]) for row in rows) > 0.9
    frame[code == first].to_csv("new.csv", index=False)
    assert json.loads(call("evaluate", "run", "--data", "new.csv", "--json").stdout)["test_accuracy"] == 1


def test_named_categories_are_as_they_stand_in_the_file(customers):
    """A postcode's zero is part of it."""
    code = np.random.default_rng(1).choice(["01000", "1000", "02000"], 400)
    frame = pandas.DataFrame({"age": customers.age, "code": code, "kind": np.where(code == "01000", "a", "b")})
    frame.to_csv("coded.csv", index=False)
    options = ["--data", "coded.csv", "--target", "kind", "--categories", "code", "--epochs", "40", "--out", "run"]
    call(*TRAIN[:1], *TRAIN[3:], *options)
    assert json.loads(Path("run/metrics.json").read_text())["test_accuracy"] == 1
    assert xpnet.load("run/model.safetensors", "cpu").network.layers[0].levels == [["01000", "02000", "1000"]]
    frame[code == "01000"].drop(columns="kind").head(3).to_csv("new.csv", index=False)
    assert call("predict", "run", "new.csv").stdout.count("\na,") == 3


def test_answers_are_utf_8_as_tables_are(customers, monkeypatch):
    customers["churn"] = customers.churn.map({"yes": "łączy", "no": "a\x1b[31mb"})
    customers.to_csv("customers.csv", index=False)
    call(*TRAIN, "--target", "churn", "--ignore", "id,spent", "--out", "run")
    monkeypatch.setenv("PYTHONIOENCODING", "cp1252")
    printed = process("predict", "run", "customers.csv", text=False).communicate()[0].decode()
    assert {row["churn"] for row in csv.DictReader(io.StringIO(printed))} == {"łączy", "a\x1b[31mb"}


@pytest.mark.parametrize("target", ["probability", "probabilities"])
def test_a_target_may_have_the_name_of_another_column_of_the_answers(customers, target):
    customers.rename(columns={"churn": target}).to_csv("customers.csv", index=False)
    call(*TRAIN, "--target", target, "--ignore", "id,spent", "--epochs", "2", "--out", "run")
    model = xpnet.load("run/model.safetensors", "cpu")
    probabilities = model.probabilities(customers)
    classes = [model.classes[i] for i in probabilities.argmax(axis=1)]
    one, all_of_them = (f"class_{name}" if name == target else name for name in ("probability", "probabilities"))
    rows = list(csv.DictReader(io.StringIO(call("predict", "run", "customers.csv").stdout)))
    assert list(rows[0]) == [target, one]
    assert [row[target] for row in rows] == classes
    np.testing.assert_allclose([float(row[one]) for row in rows], probabilities.max(axis=1), rtol=1e-5)
    answers = json.loads(call("predict", "run", "customers.csv", "--json").stdout)["predictions"]
    assert [answer[target] for answer in answers] == classes
    assert [answer[one] for answer in answers] == [max(answer[all_of_them].values()) for answer in answers]


def test_categories_that_were_numbers_are_numbers_in_other_files(customers):
    call(*TRAIN, "--target", "zip", "--task", "classification", "--ignore", "id", "--categories", "age", "--out", "run")
    text = Path("customers.csv").read_text().splitlines()
    parted = [line.split(",") for line in text[1:]]
    lines = [",".join([i, f"{age}.0", city, f"0{code}", *rest]) for i, age, city, code, *rest in parted]
    Path("other.csv").write_text("\n".join([text[0], *lines]))
    Path("same.csv").write_text("\n".join(text))
    measured = [json.loads(call("evaluate", "run", "--data", f"{n}.csv", "--json").stdout) for n in ("other", "same")]
    assert measured[0]["confusion"] == measured[1]["confusion"]


def test_answers_far_from_0_have_all_their_digits(customers):
    customers.assign(spent=1.7e9 + 1e5 * customers.age).to_csv("customers.csv", index=False)
    said = call(*TRAIN, "--target", "spent", "--ignore", "id,churn", "--out", "run").stdout
    assert "spent: regression, of numbers from 1.7018e+09 to 1.7079e+09\n" in said
    customers.assign(spent=1.7e9 + 10 * customers.age).to_csv("close.csv", index=False)
    assert "spent: numbers from 1700000180 to 1700000790\n" in call("data", "close.csv").stdout
    rows = list(csv.DictReader(io.StringIO(call("predict", "run", "customers.csv").stdout)))
    model = xpnet.load("run/model.safetensors", device="cpu")
    np.testing.assert_array_equal(np.array([row["spent"] for row in rows], np.float32), model.predict(customers)[:, 0])
    assert len({row["spent"] for row in rows}) > 40


def test_a_run_that_cannot_go_on_keeps_its_settings(customers):
    call(*TRAIN, "--target", "spent", "--ignore", "id,churn", "--out", "run")
    before = Path("run/config.toml").read_bytes()
    customers.head(390).to_csv("customers.csv", index=False)
    refused = call("train", "--resume", "run", "--epochs", "40", "--quiet", code=1)
    assert "its data is not this run's" in refused.stderr
    assert Path("run/config.toml").read_bytes() == before
    customers.to_csv("customers.csv", index=False)
    call("train", "--resume", "run", "--epochs", "16", "--quiet")
    assert "epochs = 16\n" in Path("run/config.toml").read_text()


def test_what_is_no_number_is_null_in_json():
    Path("few.csv").write_text("a,y\n" + "".join(f"{i * i % 7},{1.5 * i}\n" for i in range(6)))
    said = call("train", "--data", "few.csv", "--target", "y", "--epochs", "2", "--out", "run", "--json", "--quiet")

    def refuse(constant):
        raise AssertionError(constant)

    for text in (said.stdout, Path("run/metrics.json").read_text(), call("evaluate", "run", "--json").stdout):
        assert json.loads(text, parse_constant=refuse)["test_r2"] is None


def test_a_table_is_described(customers):
    customers["when"] = pandas.Timestamp("2026-01-01")
    customers["empty"] = None
    customers.loc[3, "city"] = None
    customers.to_parquet("customers.parquet")
    lines = call("data", "customers.parquet").stdout.splitlines()
    assert lines[0] == "customers.parquet: 400 rows, 8 columns"
    assert "  age: numbers from 18 to 79" in lines
    assert "  city: 3 different texts, 'Lima', 'Oslo', 'Rome', 1 missing" in lines
    assert any(line.startswith("  empty: 0 different texts") for line in lines)
    assert any("column 'when' holds dates or times" in line for line in lines)
    for option, value in (("--image", "a.png"), ("--size", "3")):
        said = call("data", "customers.csv", option, value, code=2).stderr
        assert f"Invalid value for {option}: a table holds no images" in said


def test_the_devices_agree_on_a_table():
    call(*TRAIN, "--target", "churn", "--ignore", "id,spent", "--epochs", "1", "--out", "run")
    found = json.loads(
        call("parity", "run/model.safetensors", "--data", "customers.csv", "--steps", "2", "--json").stdout
    )
    assert found["ok"] is True


def test_a_model_of_a_table_reads_no_image(tmp_path):
    call(*TRAIN, "--target", "churn", "--ignore", "id,spent", "--epochs", "1", "--out", "run")
    Image.new("L", (40, 40), 255).save("a.png")
    assert "which are not images" in call("predict", "run/model.safetensors", "a.png", code=2).stderr


def test_a_model_of_images_reads_no_table():
    said = call("predict", str(shipped_model_path()), "customers.csv", code=2).stderr
    assert "customers.csv is a table, and the model was not trained on one" in said
    said = call("predict", "customers.csv", code=2).stderr
    assert "which model? The built-in one reads digits: xpnet predict MODEL customers.csv" in " ".join(said.split())


def test_without_pandas_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    said = call("train", "--data", "customers.csv", "--target", "churn", code=1).stderr
    assert 'pip install "xpnet[tables]"' in said


@pytest.mark.parametrize(("text", "columns"), [
    ("", []), ('""', [""]), ("a,b", ["a", "b"]), ('"b",a', ['"b"', "a"]), ('" c ",a', [" c ", "a"]), ("d,e", ["d,e"]),
])  # fmt: skip
def test_columns_are_named_by_a_list(text, columns):
    assert tables.names(text, ["a", "b", '"b"', " c ", "d,e", ""]) == columns
