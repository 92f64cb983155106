"""Mixed precision: the operands of products have 16 bits, their sums and all else are float32."""

from __future__ import annotations

import json
import pickle
import sys
from types import SimpleNamespace
from typing import Any

import fake_cupy
import numpy as np
import pytest
from test_gemm import LAYOUTS, gemm, library  # noqa: F401
from typer.testing import CliRunner

import xpnet
from xpnet import data, losses, nn, optim, probe, train
from xpnet.backend import PRECISIONS, Backend, BackendError
from xpnet.backend.precision import to_bfloat16, widened
from xpnet.cli.app import app
from xpnet.verify import cases
from xpnet.verify.parity import parity
from xpnet.verify.passes import SEED, draw_values, run, run_optimizer
from xpnet.verify.rows import name
from xpnet.verify.strict import StrictBackend
from xpnet.verify.tolerances import EPSILON, LOSS_CURVE, product_rounding
from xpnet.verify.witnesses import optimizer_values

EACH = pytest.mark.parametrize("precision", PRECISIONS)


def rounded(a: np.ndarray, precision: str) -> np.ndarray:
    """To this precision and back."""
    return widened(a.astype(np.float16) if precision == "float16" else to_bfloat16(a, np))


def on(backend: Backend, *arrays: np.ndarray) -> list:
    return [backend.asarray(a) for a in arrays]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


# Rounding -------------------------------------------------------------------------------------------------------------


def test_bfloat16_is_the_nearest_and_of_two_the_even_one():
    """Each finite upper half, with lower halves below, at and above the middle."""
    below = np.arange(0x7F80, dtype=np.uint32)
    values = lambda upper: (upper << 16).view(np.float32).astype(np.float64)
    middle = values(below) + (values(below + 1) - values(below)) / 2  # the last one's neighbour is 2^128
    middle[-1] = 2.0**128 - 2.0**119
    for lower in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF):
        x = (below << 16 | lower).view(np.float32)
        above = (x > middle) | ((x == middle) & (below % 2 == 1))
        for sign in (0, 0x8000):
            got = to_bfloat16(np.copysign(x, -1.0 if sign else 1.0).astype(np.float32), np)
            np.testing.assert_array_equal(got, below + above + sign)


def test_bfloat16_of_what_is_no_number():
    nans = np.array([0x7F800001, 0x7FC00000, 0x7FFFFFFF, 0xFF800001, 0xFFFFFFFF], np.uint32).view(np.float32)
    assert (to_bfloat16(nans, np) == 0x7FC0).all()  # 0x7fffffff is what GPUs make
    assert np.isnan(widened(to_bfloat16(nans, np))).all()
    infinite = np.array([np.inf, -np.inf], np.float32)
    np.testing.assert_array_equal(widened(to_bfloat16(infinite, np)), infinite)


# Products -------------------------------------------------------------------------------------------------------------


@EACH
def test_operands_are_rounded_and_sums_are_float32(precision):
    backend, (a, b) = StrictBackend("float32", 0, precision), (normal(7, 300), normal(300, 5))
    got = backend.matmul(*on(backend, a, b))
    assert got.dtype == np.float32
    exact = rounded(a, precision).astype(np.float64) @ rounded(b, precision)
    scale = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=0)
    assert (np.abs(backend.to_host(got) - exact) / scale).max() < 1e-6
    assert (np.abs(backend.to_host(got) - a.astype(np.float64) @ b) / scale).max() > EPSILON[precision] / 100
    ones = on(backend, np.ones((1, 5000)), np.ones((5000, 1)))
    assert backend.matmul(*ones).item() == 5000  # sums of float16 end at 2048, those of bfloat16 at 256
    out = backend.xp.empty((7, 5), np.float32)
    assert backend.matmul(*on(backend, a, b), out=out) is out
    np.testing.assert_array_equal(backend.to_host(out), backend.to_host(got))


def test_float16_overflows_in_its_operands_alone():
    for precision, of_large in (("float16", np.inf), ("bfloat16", 70144.0)):
        backend = StrictBackend("float32", 0, precision)
        one, fits, large = on(backend, *(np.full((1, 1), value) for value in (1.0, 60000.0, 70000.0)))
        assert backend.matmul(fits, fits).item() == pytest.approx(3.6e9, rel=0.01)
        assert backend.matmul(large, one).item() == of_large


def test_a_product_of_other_types_is_refused():
    backend = StrictBackend("float32", 0, "float16")
    a, b = on(backend, normal(2, 3), normal(3, 2))
    for other in (b.astype(np.float64), b.astype(np.int32)):
        with pytest.raises(TypeError, match="a product in float16 takes float32, not float32 and"):
            backend.matmul(a, other)
    with pytest.raises(TypeError, match="a product of float32 and float64"):
        backend.matmul(a, b, out=backend.xp.empty((2, 2), np.float64))


WITHOUT = ("LayerNorm", "GroupNorm", "BatchNorm", "RMSNorm", "Embedding", "Softmax", "GELU", "Dropout", "AvgPool2d")


@EACH
@pytest.mark.parametrize("case", [case for case in cases.LAYERS if case.of in WITHOUT], ids=name)
def test_reductions_and_all_that_is_no_product_keep_their_bits(case, precision):
    subject = case.subject(case.batches[-1])
    values = draw_values(subject)
    want, got = (run(subject, values, StrictBackend("float32", SEED, p)) for p in (None, precision))
    for key in want:
        np.testing.assert_array_equal(got[key], want[key], key)


@EACH
@pytest.mark.parametrize("kind", [optim.Muon, optim.LAMB, optim.AdamW])
def test_optimizers_keep_their_bits(kind, precision):
    values, make = optimizer_values(), lambda model: kind(model, 0.01)
    want, got = (run_optimizer(make, values, StrictBackend("float32", SEED, p)) for p in (None, precision))
    assert all(np.array_equal(got[key], want[key]) for key in want)


@EACH
def test_a_linear_layer_rounds_its_products_and_not_its_sums(precision):
    passes = {}
    for p in (None, precision):
        backend = StrictBackend("float32", 0, p)
        model = nn.Model(nn.Linear(4), (9,), backend)
        y, backward = model.forward(backend.asarray(normal(50, 9)))
        dx = backward(backend.asarray(normal(50, 4)))
        grads = {key: backend.to_host(model.parameters[key].grad) for key in ("W", "b")}
        passes[p] = {"y": backend.to_host(y), "dx": backend.to_host(dx), **grads}
    same = {key for key in passes[None] if np.array_equal(passes[None][key], passes[precision][key])}
    assert same == {"b"}


# The CUDA backend, on a CuPy and a cuBLAS of the host ----------------------------------------------------------------


@pytest.fixture
def cuda(gemm, monkeypatch) -> Any:  # noqa: F811
    cupy = fake_cupy.module()
    device = SimpleNamespace(use=lambda: None, compute_capability="80")
    cupy.cuda.Device = lambda ordinal=0: device
    cupy.ndarray, cupy.asarray = np.ndarray, lambda a: a.view(fake_cupy.Array)
    cupy.empty_like = lambda a, dtype, order="K": np.empty_like(a, dtype, order).view(fake_cupy.Array)
    cupy.zeros = lambda shape, dtype: np.zeros(shape, dtype).view(fake_cupy.Array)
    for path, module in {"cupy": cupy, "xpnet.backend.gemm": gemm}.items():
        monkeypatch.setitem(sys.modules, path, module)
    monkeypatch.delitem(sys.modules, "xpnet.backend.graph", raising=False)
    loaded = fake_cupy.load("cuda")
    monkeypatch.delitem(sys.modules, "xpnet.backend.graph")

    def bfloat16(x, y):
        np.copyto(y, to_bfloat16(np.asarray(x), np))
        return y

    monkeypatch.setattr(loaded, "bfloat16", lambda: bfloat16)
    loaded.device = device
    return loaded


@EACH
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_gpu_multiplies_as_the_strict_device_does(cuda, layout, precision):
    backend, strict = cuda.CudaBackend("float32", precision=precision), StrictBackend("float32", 0, precision)
    for a, b in ((normal(5, 6), normal(6, 3)), (normal(4, 5, 6), normal(6, 3)), (normal(2, 5, 6), normal(2, 6, 3))):
        want = strict.to_host(strict.matmul(*on(strict, a, b)))
        laid_out = [
            LAYOUTS[layout](v.view(fake_cupy.Array)) if v.ndim == 2 else v.view(fake_cupy.Array) for v in (a, b)
        ]
        got = backend.matmul(*laid_out)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
        batched = [v.swapaxes(-1, -2).copy().swapaxes(-1, -2) for v in laid_out]  # a view that is not row-major
        np.testing.assert_array_equal(backend.matmul(*batched), got)


def test_eager_products_have_a_handle_for_each_stream_and_captured_ones_their_own(cuda):
    backend = cuda.CudaBackend("float32", precision="float16")
    a, b = (normal(2, 2, seed=i).view(fake_cupy.Array) for i in (0, 1))
    backend.matmul(a, b)
    backend.matmul(a, b)
    assert list(backend._gemms) == [4096]
    other = fake_cupy.Stream(non_blocking=True)
    other.ptr = 8192
    with other:
        backend.matmul(a, b)
    assert list(backend._gemms) == [4096, 8192]
    used = []
    with backend.products_by(SimpleNamespace()):
        backend._gemm = lambda a, b, out: used.append((a.dtype.name, b.dtype.name))
        backend.matmul(a, b)
        backend.full_matmul(a, b)
    assert used == [("float16", "float16"), ("float32", "float32")]


def test_bfloat16_needs_a_gpu_that_has_it(cuda):
    cuda.device.compute_capability = "75"
    with pytest.raises(BackendError, match='cuda:0 is too old for products of bfloat16: use precision="float16"'):
        cuda.CudaBackend("float32", precision="bfloat16")
    assert cuda.CudaBackend("float32", precision="float16").precision == "float16"
    cuda.device.compute_capability = "100"
    assert cuda.CudaBackend("float32", precision="bfloat16").precision == "bfloat16"


def test_select_hands_the_precision_to_the_gpu(cuda, monkeypatch):
    monkeypatch.setitem(sys.modules, "xpnet.backend.cuda", cuda)
    monkeypatch.setattr(probe, "cuda", lambda number: probe.Diagnosis("ok", "it works", ""))
    for device in ("auto", "cuda"):
        backend = xpnet.select(device, precision="bfloat16")
        assert (backend.device, backend.precision, str(backend.dtype)) == ("cuda:0", "bfloat16", "float32")
    assert "products in bfloat16" in repr(backend)


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "float16"}, r"precision 'float16' is for a GPU: .* Leave the precision out, or name the device"),
        ({"precision": "bfloat16", "dtype": "float64"}, "precision 'bfloat16' is for a GPU"),
        ({"precision": "fp16"}, "unknown precision 'fp16': choose one of float16, bfloat16, or leave it out"),
        ({"precision": "float32"}, "unknown precision 'float32'"),
        ({"dtype": "bfloat16"}, "unknown dtype 'bfloat16': .*; for products of 16 bits see precision"),
    ],
)
def test_a_cpu_refuses_16_bits_and_says_what_to_do(options, message):
    with pytest.raises(ValueError, match=message):
        xpnet.select("cpu", **options)


def test_auto_does_not_fall_back_to_a_cpu_that_has_no_such_precision(monkeypatch):
    monkeypatch.setattr(probe, "cuda", lambda number: probe.Diagnosis("no driver", "no driver answers", "install one"))
    with pytest.raises(BackendError, match=r"precision 'float16' needs a GPU: .*install one"):
        xpnet.select("auto", precision="float16")
    assert xpnet.select("auto").precision is None


def test_16_bits_do_not_go_with_float64():
    with pytest.raises(ValueError, match="precision 'float16' rounds float32: it does not go with dtype float64"):
        StrictBackend("float64", 0, "float16")


def test_a_pickled_model_comes_back_where_there_is_no_such_precision():
    model = nn.Model(nn.Linear(2), (3,), StrictBackend("float32", 4, "float16"))
    again = pickle.loads(pickle.dumps(model))
    assert (again.backend.device, again.backend.precision, again.backend.seed) == ("cpu", None, 4)
    assert all(np.array_equal(a, again.tensors()[key]) for key, a in model.tensors().items())


# Training -------------------------------------------------------------------------------------------------------------


def learnt(precision: str | None) -> tuple[dict[str, float], nn.Model]:
    """The last row of a short run on the digits, and its model."""
    digits, backend = data.load("digits"), StrictBackend("float32", 0, precision)
    mean, std = data.mean_std(digits.train.x)
    network = nn.Sequential(nn.Standardize(mean, std), nn.Flatten(), *nn.mlp([64, 32, 10]).layers)
    model = nn.Model(network, (8, 8), backend)
    loss, optimizer = losses.SoftmaxCrossEntropy(), optim.AdamW(model, 0.01)
    result = train.fit(model, loss, optimizer, digits.train, digits.test, epochs=2, batch_size=64, quiet=True)
    assert result.eager == ""  # the steps were captured
    return result.history[-1], model


def test_digits_are_learnt_as_well_as_in_float32():
    want, plain = learnt(None)
    assert want["validation_accuracy"] > 0.9
    for precision in PRECISIONS:
        row, model = learnt(precision)
        assert row["validation_accuracy"] == pytest.approx(want["validation_accuracy"], abs=0.015)
        assert row["train_loss"] == pytest.approx(want["train_loss"], rel=0.02)
        assert ("loss_scale" in row) == (precision == "float16")
        assert {a.dtype for a in (model.data, model.grad)} == {np.dtype("float32")}
        assert not np.allclose(model.tensors()["layers.2.W"], plain.tensors()["layers.2.W"], atol=1e-5)


@EACH
def test_updates_too_small_for_16_bits_reach_the_float32_weights(precision):
    """1 + 1e-5 is 1 in both."""
    backend = StrictBackend("float32", 0, precision)
    model = nn.Model(nn.Linear(1, bias=False), (1,), backend, tensors={"W": np.ones((1, 1))})
    optimizer, x = optim.SGD(model, 1e-5, momentum=0.9), backend.asarray(np.ones((4, 1)))
    for _ in range(10):
        model.zero_grad()
        _, backward = model.forward(x)
        backward(optimizer.scaled(backend.asarray(np.full((4, 1), -0.25))), need_dx=False)
        optimizer.step()
    velocity, weight = 0.0, 1.0
    for _ in range(10):
        velocity = 0.9 * velocity - 1
        weight -= 1e-5 * velocity
    assert float(model.data[0]) == pytest.approx(weight, abs=1e-6)
    assert float(optimizer.state["velocity"][0]) == pytest.approx(velocity, rel=1e-6)


# Parity ---------------------------------------------------------------------------------------------------------------

SOME = ("Linear", "Conv2d", "LayerNorm", "LSTM", "MultiHeadAttention")


@pytest.fixture
def few_cases(monkeypatch):
    """A row of the table for each of some layers, a loss and an optimizer."""
    layers = {case.of: case for case in reversed(cases.LAYERS) if case.of in SOME}
    monkeypatch.setattr(cases, "LAYERS", tuple(layers.values()))
    monkeypatch.setattr(cases, "LOSSES", cases.LOSSES[:1])
    monkeypatch.setattr(cases, "OPTIMIZERS", cases.OPTIMIZERS[:1])


@EACH
@pytest.mark.usefixtures("few_cases")
def test_products_of_16_bits_agree_within_what_their_rounding_explains(precision):
    found = parity(steps=4, second=StrictBackend, precision=precision)
    assert found.ok, found.verdict
    assert [device.name for device in found.devices] == [f"strict, {precision}"]
    assert f"strict, {precision} agrees with cpu, float64" in found.verdict
    largest = {of: max(row.ulps for row in found.rows if row.part.startswith(of)) for of in (*SOME, "SGD")}
    narrow = {of for of, ulps in largest.items() if ulps > 100}
    assert narrow == {"Linear", "Conv2d", "LSTM", "MultiHeadAttention"}  # and the others as in float32
    gap, allowed = found.training.gaps[f"strict, {precision}"], found.training.allowed
    assert 0 < gap < allowed < 4 * EPSILON[precision]


class SumsOf16Bits(StrictBackend):
    def sum_rows(self, a):
        return self.matmul(self.ones(a.shape[0], a.dtype), a)


class OutOf16Bits(StrictBackend):
    def _product(self, a, b, out):
        result = self.xp.asarray(super()._product(a, b, None).astype(np.float16).astype(np.float32))
        if out is None:
            return result
        out[...] = result
        return out


class LostTerm(StrictBackend):
    """Sums that leave out the last term."""

    def _product(self, a, b, out):
        return super()._product(a[..., :-1], b[..., :-1, :] if b.ndim > 1 else b[:-1], out)


@pytest.mark.parametrize("kind", [SumsOf16Bits, OutOf16Bits, LostTerm])
def test_what_rounding_of_operands_does_not_explain_differs(kind):
    model = nn.Model(nn.Sequential(nn.Linear(40), nn.Tanh(), nn.Linear(3)), (30,), Backend())
    assert parity(model, steps=2, second=StrictBackend, precision="float16").ok
    assert not parity(model, steps=2, second=kind, precision="float16").ok


def test_a_skipped_step_of_the_comparison_is_made_again(monkeypatch):
    from xpnet.optim import loss_scale

    monkeypatch.setattr(loss_scale, "START", 2.0**23)  # too high for the first steps
    model = nn.Model(nn.mlp([6, 5, 3]), (6,), Backend())
    found = parity(model, steps=12, second=StrictBackend, precision="float16")
    assert found.ok, found.verdict
    assert {len(curve) for curve in found.training.curves.values()} == {12}


def test_the_command_compares_in_the_precision_that_is_asked_for(tmp_path):
    nn.Model(nn.mlp([6, 5, 3]), (6,), Backend()).save(tmp_path / "model")
    arguments = ["parity", str(tmp_path / "model"), "--steps", "2", "--json", "--precision", "bfloat16"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [device["name"].rpartition(", ")[2] for device in found["devices"]] == ["bfloat16"]
    assert LOSS_CURVE < found["training"]["allowed"] < 0.05
    assert CliRunner().invoke(app, [*arguments[:-1], "float8"]).exit_code != 0


def test_a_precision_that_is_unknown_or_not_there_is_no_row():
    model = nn.Model(nn.Linear(2), (3,), Backend())
    with pytest.raises(ValueError, match="unknown precision 'float8'"):
        parity(model, steps=1, second=StrictBackend, precision="float8")
    with pytest.raises(ValueError, match="precision 'float16' is for a GPU"):
        parity(model, steps=1, second=Backend, precision="float16")


def test_the_tolerances_come_from_the_machine_epsilon():
    assert EPSILON["float16"] == np.finfo(np.float16).eps
    one_above = float(widened(to_bfloat16(np.array([1 + 2.0**-7], np.float32), np))[0])
    assert one_above - 1 == EPSILON["bfloat16"]
    assert widened(to_bfloat16(np.array([1 + 2.0**-8], np.float32), np))[0] == 1
    right = {"y": np.array([1.0, 0.0]), "b": np.zeros(2)}
    moved = lambda draw: {"y": right["y"] + np.array([0.1, 0.2]) * (-1) ** draw * (draw < 2 or 0.5), "b": right["b"]}
    allowed = product_rounding(moved, right)
    np.testing.assert_allclose(allowed["y"], [0.3, 0.4])  # the largest change, and that of the worst of the tensor
    np.testing.assert_array_equal(allowed["b"], [0, 0])


def test_deep_networks_may_move_further_from_the_curve_and_are_still_held():
    deep = nn.Sequential(*[layer for _ in range(10) for layer in (nn.Linear(24), nn.ReLU())], nn.Linear(3))
    model = nn.Model(deep, (24,), Backend())
    found = parity(model, steps=8, second=StrictBackend, precision="float16")
    assert found.ok, found.verdict
    assert EPSILON["float16"] < found.training.allowed < 0.1
    assert not parity(model, steps=8, second=LostTerm, precision="float16").training.ok
