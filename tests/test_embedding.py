"""Embedding: sums over repeated rows, the padding row, and numbers that have no row."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xpnet
from xpnet import nn
from xpnet.backend import Backend
from xpnet.nn.embedding import SMALL, summed_by_row
from xpnet.verify.cases.embedding import CASES, few
from xpnet.verify.check import layer_findings
from xpnet.verify.passes import draw_values, run
from xpnet.verify.strict import StrictBackend
from xpnet.verify.witnesses import layer_by_scalars

# The sum of what belongs to the same row ------------------------------------------------------------------------


@given(
    n=st.sampled_from([1, 5, SMALL, SMALL + 1, 2000]),
    m=st.integers(0, 70),
    distinct=st.integers(1, 12),
    seed=st.integers(0, 9),
)
def test_sums_of_any_numbers(n, m, distinct, seed):
    rng = np.random.default_rng(seed)
    rows, a = rng.choice(rng.integers(0, n, distinct), m), rng.standard_normal((m, 3))
    want = np.zeros((n, 3))
    for row, values in zip(rows, a, strict=True):
        want[row] += values
    assert np.allclose(summed_by_row(a, rows, n, Backend("float64")), want, rtol=0, atol=1e-13)


@pytest.mark.parametrize("n", [SMALL, SMALL + 1])
def test_sums_are_the_same_bits_each_time(n, kind):
    rng = np.random.default_rng(0)
    rows, a = rng.integers(0, 7, 500), rng.standard_normal((500, 4)).astype(np.float32)
    sums = []
    for backend in (kind("float32", 0), kind("float32", 0)):
        sums.append(np.array(backend.to_host(summed_by_row(*(backend.asarray(v) for v in (a, rows)), n, backend))))
    assert sums[0].tobytes() == sums[1].tobytes()


def test_many_equal_numbers_are_summed_with_few_roundings():
    """In rounds that double the distance, 4096 times 0.1 has 12 roundings; one after the other it has 4096."""
    a, rows = np.full((4096, 1), 0.1, np.float32), np.full(4096, SMALL, np.int64)
    total = summed_by_row(a, rows, SMALL + 1, Backend())
    assert total[SMALL, 0] == pytest.approx(4096 * float(np.float32(0.1)), rel=1e-6)
    assert (total[:SMALL] == 0).all()


# Padding --------------------------------------------------------------------------------------------------------


def padded(n, padding):
    """A row of the table, with padding, on inputs that meet it."""
    case = next(case for case in CASES if case.what == ("words" if n < SMALL else "a large table"))
    return replace(case, make=lambda: nn.Embedding(n, 3, padding), draw=few(n))


@pytest.mark.parametrize(("n", "padding"), [(10, 0), (10, 3), (700, 699), (700, 233)])
def test_the_padding_row_has_an_output_and_no_gradient(n, padding, kind):
    subject = padded(n, padding).subject(5)
    values = draw_values(subject)
    assert (values["x"] == padding).any()
    got = run(subject, values, kind("float64", 0))
    without = run(padded(n, None).subject(5), values, kind("float64", 0))
    assert np.array_equal(got["y"], without["y"])
    assert (got["d W"][padding] == 0).all()
    assert (without["d W"][padding] != 0).all()
    others = np.arange(n) != padding
    assert np.array_equal(got["d W"][others], without["d W"][others])


@pytest.mark.parametrize(("n", "padding"), [(10, 3), (700, 233)])
def test_padding_keeps_every_other_rule(n, padding, kind):
    """All but the difference quotient, which moves the padding row and sees what the layer does not hand on."""
    findings = [f for f in layer_findings(padded(n, padding).subject(5), kind, "padding") if f.name != "gradients"]
    assert findings
    assert not [str(f) for f in findings if not f.ok]


def test_padding_as_in_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: it is a welcome witness, not a need")
    subject = padded(10, 3).subject(5)
    values = draw_values(subject)
    W = torch.tensor(values["W"], requires_grad=True)
    y = torch.nn.functional.embedding(torch.tensor(values["x"]), W, padding_idx=3)
    y.backward(torch.tensor(values["dy"]))
    got = run(subject, values, Backend("float64"))
    assert np.array_equal(got["y"], y.detach().numpy())
    assert np.allclose(got["d W"], W.grad.numpy(), rtol=0, atol=1e-13)


def test_the_padding_row_starts_at_0_and_stays_there():
    model = nn.Model(nn.Embedding(6, 4, padding=2), (5,), Backend("float64", 3))
    start = model.tensors()["W"]
    assert (start[2] == 0).all()
    assert (start[[0, 1, 3, 4, 5]] != 0).all()
    optimizer = xpnet.optim.AdamW(model, lr=0.1, weight_decay=0.1)
    for _ in range(3):
        model.zero_grad()
        y, backward = model.forward(np.array([[0, 2, 2, 5, 1]]))
        backward(np.ones_like(y), need_dx=False)
        optimizer.step()
    assert (model.tensors()["W"][2] == 0).all()
    assert (model.tensors()["W"][[0, 1, 5]] != start[[0, 1, 5]]).all()
    assert (model.predict(np.array([[2] * 5])) == 0).all()


# What has no row ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [-1, 10, 255])
def test_a_number_without_a_row_is_refused_on_the_cpu(bad):
    model = nn.Model(nn.Sequential(nn.Embedding(10, 3), nn.Flatten(), nn.Linear(2)), (4,), Backend())
    with pytest.raises(ValueError, match=rf"Embedding has rows 0\.\.9, its input holds {bad}"):
        model.predict(np.array([[0, 9, bad, 2]]))
    with pytest.raises(ValueError, match=f"its input holds {bad}"):
        model.forward(np.array([[0, 9, bad, 2]]))


def test_numbers_can_be_checked_on_the_host_before_a_gpu_has_them():
    layer = nn.Embedding(10, 3)
    layer.check_input(np.arange(10, dtype=np.uint8))
    layer.check_input(np.zeros((0, 4), np.int64))
    with pytest.raises(ValueError, match="its input holds 12"):
        layer.check_input(np.array([[3, 12], [4, -1]]))


def test_values_are_not_read_inside_a_step():
    """On a GPU a look at the values would stop the device; the strict device raises where it would read elsewhere."""
    model = nn.Model(nn.Embedding(10, 3), (2,), StrictBackend())
    x = model.backend.asarray(np.array([[0, 10]]))
    with model.backend.step(), pytest.raises(IndexError, match="out of bounds"):
        model.forward(x)


@pytest.mark.parametrize("dtype", ["float32", "bool"])
def test_other_numbers_than_whole_ones_are_refused(dtype, kind):
    model = nn.Model(nn.Embedding(10, 3), (2,), kind("float32", 0))
    with pytest.raises(TypeError, match=rf"Embedding takes whole numbers 0\.\.9, not {dtype}"):
        model.forward(model.backend.asarray(np.ones((1, 2), dtype)))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_every_kind_of_whole_number(dtype, kind):
    model = nn.Model(nn.Embedding(100, 3), (2,), kind("float32", 0))
    y = model.forward(model.backend.asarray(np.array([[0, 99]], dtype)))[0]
    assert np.array_equal(model.backend.to_host(y)[0], model.tensors()["W"][[0, 99]])


# Options --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.Embedding(0, 3), ValueError, "n of Embedding must be a whole number >= 1, not 0"),
        (lambda: nn.Embedding(3, 0), ValueError, "size of Embedding must be a whole number >= 1, not 0"),
        (lambda: nn.Embedding(3, 2, padding=3), ValueError, r"padding must be one of 0\.\.2, not 3"),
        (lambda: nn.Embedding(3, 2, padding=-1), ValueError, "padding must be one of"),
        (lambda: nn.Embedding(3, 2.5), ValueError, "size of Embedding must be a whole number >= 1, not 2.5"),
        (
            lambda: nn.Embedding(3, 2, init=0.1),
            TypeError,
            r"such as nn\.init\.he_normal, not 0\.1",
        ),
    ],
)
def test_bad_options(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_the_initialiser_is_used_and_saved(tmp_path):
    model = nn.Model(nn.Embedding(400, 50, padding=7, init=nn.init.normal(0.02)), (3,), Backend("float64"))
    assert model.tensors()["W"].std() == pytest.approx(0.02, rel=0.05)
    model.save(tmp_path / "model.safetensors")
    loaded = xpnet.load(tmp_path / "model.safetensors")
    assert repr(loaded.network) == "Embedding(n=400, size=50, padding=7, init=normal(0.02))"
    assert np.array_equal(loaded.tensors()["W"], model.tensors()["W"])


def test_the_initialiser_is_used_without_padding_too():
    model = nn.Model(nn.Embedding(4, 3, init=nn.init.constant(0.5)), (3,), Backend())
    assert (model.tensors()["W"] == 0.5).all()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_every_row_meets_a_number_more_than_once(case):
    """Otherwise no sum would be looked at."""
    x = draw_values(case.subject(5))["x"]
    assert len(np.unique(x)) < x.size
    error, allowed, where = layer_by_scalars(case, 5)
    assert error <= allowed, where
