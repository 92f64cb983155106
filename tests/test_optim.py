"""Every optimizer of the table of cases, against formulas for one number at a time; state, decay, clipping."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpnet import nn, optim
from xpnet.backend import Backend
from xpnet.nn import init
from xpnet.verify.cases import OPTIMIZERS
from xpnet.verify.cases import optimizer as ref
from xpnet.verify.passes import SEED, run_optimizer
from xpnet.verify.report import compare, finding
from xpnet.verify.rows import name
from xpnet.verify.strict import StrictBackend
from xpnet.verify.tolerances import FLOAT32, rounding
from xpnet.verify.witnesses import optimizer_by_formula, optimizer_values

KINDS = [
    optim.SGD,
    optim.RMSProp,
    optim.AdaGrad,
    optim.Adam,
    optim.AdamW,
    optim.NAdam,
    optim.Lion,
    optim.LAMB,
    optim.Muon,
]

ELEMENTWISE = [case for case in OPTIMIZERS if not case.kind.by_parameter]


def network(shape=(3,), backend=None):
    return nn.Model(nn.Sequential(nn.Linear(4), nn.Tanh(), nn.Linear(2)), shape, backend or Backend("float64"))


@pytest.mark.parametrize("case", OPTIMIZERS, ids=name)
def test_formula(case, kind):
    found = finding("formula", "float64", lambda: optimizer_by_formula(case, optimizer_values(), kind))
    assert found.ok, str(found)


@pytest.mark.parametrize("case", OPTIMIZERS, ids=name)
def test_float32_agrees_with_float64(case, kind):
    def run64(values):
        return run_optimizer(case.make, values, Backend("float64"), case.clip)

    values = optimizer_values()
    got, want = run_optimizer(case.make, values, kind("float32", SEED), case.clip), run64(values)
    error, allowed, where = compare(got, want, lambda: rounding(run64, values, want))
    assert error <= allowed, where
    assert {a.dtype for a in got.values()} == {np.dtype("float32")}


@pytest.mark.parametrize("case", ELEMENTWISE, ids=name)
def test_a_buffer_of_more_than_one_chunk(case):
    """The flat buffer is updated in pieces; decay ends in the middle of one."""
    n_weights, n_biases, steps = 70_000, 70_000, 3
    model = nn.Model(
        nn.Linear(n_biases), (1,), Backend("float64"), tensors={"W": np.ones((1, n_weights)), "b": np.ones(n_biases)}
    )
    optimizer, gradient = case.make(model), np.linspace(-1, 2, n_weights + n_biases)
    for _ in range(steps):
        model.grad[...] = gradient
        optimizer.step()
    looked_at = [0, 1, 65_535, 65_536, 69_999, 70_000, 70_001, 131_071, 131_072, 139_999]
    expected = [case.reference(1.0, [gradient[i]] * steps, i < n_weights) for i in looked_at]
    assert np.abs(model.data[looked_at] - expected).max() < 1e-11


@pytest.mark.parametrize("case", OPTIMIZERS, ids=name)
def test_state_saved_and_loaded_goes_on_bit_for_bit(case, kind):
    def stepped(model, optimizer, steps):
        for step in steps:
            model.grad[...] = model.backend.asarray(np.linspace(-1, 1, model.n_parameters) + step)
            optimizer.step()

    whole = network(backend=kind("float32", 0))
    stepped(whole, case.make(whole), range(6))

    first = network(backend=kind("float32", 0))
    optimizer = case.make(first)
    stepped(first, optimizer, range(3))
    second = first.to(kind("float32", 0))
    resumed = case.make(second)
    resumed.load_tensors(optimizer.tensors())
    stepped(second, resumed, range(3, 6))
    assert all(np.array_equal(a, b) for a, b in zip(whole.tensors().values(), second.tensors().values(), strict=True))


@pytest.mark.parametrize("kind_of", KINDS)
def test_the_rate_can_change_between_steps(kind_of, kind):
    """In place, on the device: a captured step must see it."""
    model = network(backend=kind("float64", 0))
    optimizer = kind_of(model, lr=0.1)
    step = model.backend.capture(optimizer.step)

    def moved():
        before = np.array(model.backend.to_host(model.data))
        model.grad.fill(1.0)
        step()
        return float(np.abs(np.array(model.backend.to_host(model.data)) - before).max())

    assert moved() > 0
    optimizer.lr = 0.0
    assert [moved() for _ in range(4)] == [0.0] * 4
    assert optimizer.lr == 0.0
    optimizer.lr = 0.3
    assert moved() > 0


@pytest.mark.parametrize("kind_of", KINDS)
def test_a_simple_problem_is_solved(kind_of):
    """A straight line through noiseless points: its slope and offset are found."""
    model = nn.Model(nn.Linear(1), (1,), Backend("float64"))
    rate = {optim.SGD: 0.5, optim.AdaGrad: 0.5, optim.Muon: 0.05}.get(kind_of, 0.01)
    optimizer = kind_of(model, lr=rate, weight_decay=0.0)
    x = np.linspace(-1, 1, 20)[:, None]
    for _ in range(800):
        model.zero_grad()
        y, backward = model.forward(x)
        backward(2 * (y - (3 * x - 1)) / len(x), need_dx=False)
        optimizer.step()
    assert float(model.parameters["W"].data[0, 0]) == pytest.approx(3, abs=0.05)
    assert float(model.parameters["b"].data[0]) == pytest.approx(-1, abs=0.05)


def test_adam_keeps_its_first_steps_of_the_size_of_the_rate():
    """The corrections of the bias cancel in the first step, whatever the size of the gradient, in float32 too."""
    for size in (1e-4, 1.0, 1e4):
        model = nn.Model(nn.Linear(2, bias=False, init=init.constant(1.0)), (2,), Backend("float32"))
        optimizer = optim.Adam(model, lr=0.01, eps=1e-12)
        for step in (1, 2, 3):
            model.grad.fill(size)
            optimizer.step()
            assert np.abs(model.data - (1 - 0.01 * step)).max() < 1e-6


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=6, max_size=6), st.floats(1e-3, 1e3))
def test_clip_norm_of_any_gradient(gradient, limit):
    model = nn.Model(nn.Linear(2), (2,), Backend("float64"))
    model.grad[...] = gradient
    optim.clip_norm(model, limit)
    expected = np.array(ref.clipped([float(np.float32(g)) for g in gradient], limit))
    assert np.abs(model.grad - expected).max() <= 1e-12 * max(1.0, np.abs(expected).max())
    assert math.sqrt(float((model.grad**2).sum())) <= limit * (1 + 1e-12)


def test_a_limit_beyond_what_float32_holds_changes_nothing():
    model = nn.Model(nn.Linear(2), (2,), Backend("float32"))
    model.grad.fill(0.3)
    optim.clip_norm(model, 1e39)
    assert np.array_equal(model.grad, np.full(6, 0.3, np.float32))


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e25])
def test_clip_norm_neither_overflows_nor_divides_by_zero(size):
    model = nn.Model(nn.Linear(2), (2,), Backend("float32"))
    model.grad.fill(size)
    optim.clip_norm(model, 1.0)
    expected = min(size, 1 / math.sqrt(6))
    assert np.abs(model.grad - expected).max() <= FLOAT32 * expected


def test_a_rate_that_the_dtype_does_not_hold_is_refused():
    assert optim.SGD(nn.Model(nn.Linear(2), (3,), Backend("float64")), 1e39).lr == 1e39
    with pytest.raises(ValueError, match=r"the learning rate must be finite in float32, not 1e\+39"):
        optim.SGD(nn.Model(nn.Linear(2), (3,), Backend("float32")), 1e39)
    optimizer = optim.SGD(nn.Model(nn.Linear(2), (3,), Backend("float32")), 0.1)
    for rate in (1e39, -1.0):
        with pytest.raises(ValueError, match="the learning rate must be"):
            optimizer.lr = rate
        assert optimizer.lr == 0.1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda model: optim.SGD(model, lr=-1.0), "learning rate must be a finite number >= 0, not -1.0"),
        (lambda model: optim.SGD(model, lr="0.1"), "learning rate must be a finite number >= 0, not '0.1'"),
        (lambda model: optim.SGD(model, lr=math.nan), "learning rate"),
        (lambda model: optim.SGD(model, lr=math.inf), "learning rate"),
        (lambda model: optim.SGD(model, 0.1, momentum=-0.1), "momentum must be a finite number >= 0 and below 1"),
        (lambda model: optim.SGD(model, 0.1, momentum=1.0), "momentum must be a finite number >= 0 and below 1"),
        (lambda model: optim.SGD(model, 0.1, nesterov=True), "nesterov needs a momentum above 0"),
        (lambda model: optim.SGD(model, 0.1, weight_decay=-1.0), "weight_decay must be a finite number >= 0"),
        (lambda model: optim.SGD(model, 0.1, weight_decay=math.inf), "weight_decay must be a finite number >= 0"),
        (lambda model: optim.SGD(model, 0.1, weight_decay=math.nan), "weight_decay must be a finite number >= 0"),
        (lambda model: optim.RMSProp(model, rho=1.0), "rho must be a finite number >= 0 and below 1"),
        (lambda model: optim.RMSProp(model, eps=1e-46), "eps must be a finite number >= 1e-30, not 1e-46"),
        (lambda model: optim.AdaGrad(model, eps=1e-46), "eps must be a finite number >= 1e-30"),
        (lambda model: optim.Adam(model, eps=1e-46), "eps must be a finite number >= 1e-30"),
        (lambda model: optim.clip_norm(model, 1e-46), "limit must be a finite number >= 1e-30"),
        (lambda model: optim.RMSProp(model, eps=0.0), "eps must be a finite number >= 1e-30"),
        (lambda model: optim.Adam(model, eps=math.inf), "eps must be a finite number >= 1e-30"),
        (lambda model: optim.NAdam(model, momentum_decay=0.0), "momentum_decay must be a finite number above 0"),
        (lambda model: optim.Muon(model, momentum=1.0), "momentum must be a finite number >= 0 and below 1"),
        (lambda model: optim.Lion(model, betas=(1.0, 0.9)), r"betas\[0\] must be a finite number >= 0 and below 1"),
        (lambda model: optim.Lion(model, betas=(0.9, 1.0)), r"betas\[1\] must be a finite number >= 0 and below 1"),
        (lambda model: optim.AdaGrad(model, eps=0.0), "eps must be a finite number >= 1e-30"),
        (lambda model: optim.Adam(model, betas=(0.9, 1.0)), r"betas\[1\] must be a finite number >= 0 and below 1"),
        (lambda model: optim.Adam(model, betas=(-0.1, 0.9)), r"betas\[0\] must be a finite number >= 0 and below 1"),
        (lambda model: optim.Adam(model, betas=(0.9,)), r"betas must be two numbers, such as .*, not \(0\.9,\)"),
        (lambda model: optim.Adam(model, betas=(0.9, 0.99, 0.5)), "betas must be two numbers"),
        (lambda model: optim.Lion(model, betas=0.9), "betas must be two numbers, such as .*, not 0.9"),
        (lambda model: optim.clip_norm(model, 0.0), "limit must be a finite number >= 1e-30"),
    ],
)
def test_bad_options(make, message):
    with pytest.raises(ValueError, match=message):
        make(network())


def test_an_optimizer_takes_the_model_and_not_its_parameters():
    model = nn.Model(nn.Linear(2), (3,), Backend())
    with pytest.raises(
        TypeError, match=r"an optimizer takes the model, such as optim\.Adam\(model\), not a Parameters"
    ):
        optim.Adam(model.parameters)


def test_state_of_another_optimizer_or_model_is_refused():
    adam = optim.Adam(network())
    with pytest.raises(ValueError, match="not the state of SGD on this model"):
        optim.SGD(network(), 0.1).load_tensors(adam.tensors())
    with pytest.raises(ValueError, match="not the state of Adam on this model"):
        optim.Adam(network(shape=(5,))).load_tensors(adam.tensors())


@pytest.mark.parametrize(
    ("kind_of", "names", "never_negative"),
    [
        (optim.RMSProp, ["square"], ["square"]),
        (optim.AdaGrad, ["square"], ["square"]),
        (optim.Adam, ["missed", "sum", "squares"], ["squares", "missed"]),
        (optim.AdamW, ["missed", "sum", "squares"], ["squares", "missed"]),
        (optim.NAdam, ["missed", "sum", "squares", "product"], ["squares", "missed", "product"]),
        (optim.Lion, ["mean"], []),
        (optim.LAMB, ["missed", "sum", "squares"], ["squares", "missed"]),
        (optim.Muon, ["missed", "sum", "squares"], ["squares", "missed"]),
    ],
)
def test_the_state_has_the_names_that_checkpoints_hold(kind_of, names, never_negative):
    optimizer = kind_of(network())
    assert sorted(optimizer.tensors()) == sorted(["steps", *names])
    assert list(optimizer.never_negative) == never_negative


@pytest.mark.parametrize("size", [1e-3, 0.5, 1e3])
@pytest.mark.parametrize("gradient", [0.0, 1e-9, 1.0])
def test_the_ratio_of_lamb_at_any_size(size, gradient):
    """|x| / |r|, and 1 where there is no step: 0 over 0 is no number."""
    model = nn.Model(nn.Linear(2, bias=False, init=init.constant(size / 2)), (2,), Backend("float64"))
    model.grad.fill(gradient)
    optim.LAMB(model, lr=0.1, eps=1e-2, weight_decay=0.0).step()
    np.testing.assert_allclose(model.data, size / 2 * (0.9 if gradient else 1), rtol=1e-12)


@pytest.mark.parametrize("gradient", [1e-15, 1.0, 1e15])
@pytest.mark.parametrize("size", [1e-37, 1e-25, 1e-10, 2e19, 1e37])
def test_the_norms_of_lamb_neither_overflow_nor_vanish_in_float32(size, gradient, kind):
    backend = kind("float32", 0)
    model = nn.Model(nn.Linear(2, bias=False, init=init.constant(size)), (2,), backend)
    model.grad[...] = backend.asarray(np.array([1.0, -1.0, 0.5, 2.0]) * gradient)
    optim.LAMB(model, lr=0.1, eps=1e-30, weight_decay=0.0).step()
    moved = np.array(backend.to_host(model.data)).astype(np.float64) - np.float64(np.float32(size))
    # Adam's first step is the sign of the gradient: 0.1 of the size in each entry.
    np.testing.assert_allclose(moved, -0.1 * size * np.array([1, -1, 1, 1]), rtol=3e-6)


def test_the_norms_of_lamb_with_its_decay_alone(kind):
    """r = w x, as small as x."""
    backend = kind("float32", 0)
    model = nn.Model(nn.Linear(2, bias=False, init=init.constant(1e-30)), (2,), backend)
    model.grad.fill(0)
    optim.LAMB(model, lr=0.1, weight_decay=1e-3).step()
    np.testing.assert_allclose(backend.to_host(model.data), 0.9e-30, rtol=1e-6)


def test_lamb_moves_each_layer_by_the_same_fraction_of_its_size():
    model = network()
    optimizer = optim.LAMB(model, lr=0.1, weight_decay=0.0)
    model.parameters["layers.2.W"].data *= 1e3
    model.parameters["layers.0.W"].data.fill(0.0)  # no size: the ratio is 1
    before, after = stepped(optimizer, 1)
    moved = {key: np.linalg.norm(after[key] - before[key]) for key in before}
    assert moved["layers.2.W"] == pytest.approx(0.1 * np.linalg.norm(before["layers.2.W"]))
    assert moved["layers.0.W"] == pytest.approx(0.1 * math.sqrt(before["layers.0.W"].size), rel=1e-3)
    assert moved["layers.2.b"] == pytest.approx(0.1 * math.sqrt(2), rel=1e-3)


@pytest.mark.parametrize("shape", [(6, 3), (3, 6), (4, 4), (1, 5)])
@pytest.mark.parametrize("kind_of_gradient", ["large", "small", "nothing"])
def test_muon_learns_all_directions_alike(shape, kind_of_gradient):
    """The singular values of its step are near one another, whatever those of the gradient are."""
    model = nn.Model(nn.Linear(shape[1], bias=False, init=init.constant(0.0)), (shape[0],), Backend("float32"))
    optimizer = optim.Muon(model, lr=1.0)
    scale = {"large": 1e6, "small": 1e-3, "nothing": 0.0}[kind_of_gradient]
    directions = np.linalg.qr(np.random.default_rng(0).standard_normal((6, 6)))[0][: shape[0], : shape[1]]
    u, _, v = np.linalg.svd(directions, full_matrices=False)
    model.grad[...] = scale * ((u * np.linspace(1, 0.1, min(shape))) @ v).ravel()
    optimizer.step()
    values = np.linalg.svd(model.parameters["W"].data / (0.2 * math.sqrt(max(shape))), compute_uv=False)
    assert (values == 0).all() if scale == 0 else (values.min() > 0.6 and values.max() < 1.25)


@pytest.mark.parametrize("size", [1e-3, 1e25, 1e37])
def test_the_step_of_muon_does_not_depend_on_the_size_of_the_gradient(size, kind):
    """In float32, where a square overflows at 1e19."""
    rows = np.random.default_rng(0).standard_normal((6, 3))

    def moved(size):
        model = nn.Model(nn.Linear(3, bias=False), (6,), kind("float32", 0))
        before = model.tensors()["W"]
        model.grad[...] = model.backend.asarray((rows * size).ravel().astype(np.float32))
        optim.Muon(model, momentum=0.0, lr=0.1, weight_decay=0.0).step()
        return before - model.tensors()["W"]

    np.testing.assert_allclose(moved(size), moved(1.0), rtol=0, atol=1e-6)


# Freezing and groups ------------------------------------------------------------------------------------------


def stepped(optimizer, steps=3):
    """The parameters after steps with the same gradients, and before."""
    model = optimizer.model
    before = model.tensors()
    for step in range(steps):
        model.grad[...] = model.backend.asarray(np.linspace(-1, 2, model.n_parameters) + step)
        optimizer.step()
    return before, model.tensors()


@pytest.mark.parametrize("case", OPTIMIZERS, ids=name)
def test_what_is_frozen_is_left_alone_and_the_rest_goes_on(case, kind):
    """No update, no decay, no state; what is frozen in between stands still and goes on from where it was."""
    _, free = stepped(case.make(network(backend=kind("float64", 0))))
    model = network(backend=kind("float64", 0))
    optimizer = case.make(model)
    model.freeze("layers.0.*")
    model.freeze("*.2.b", "*.0.b")
    before, after = stepped(optimizer)
    assert model.frozen == {"layers.0.W", "layers.0.b", "layers.2.b"}
    for key, values in after.items():
        expected = before if key in model.frozen else free
        assert np.abs(values - expected[key]).max() <= (0 if key in model.frozen else 1e-14)
    for key, buffer in optimizer.state.items():
        if key in optimizer.state_names:
            flat = np.array(model.backend.to_host(buffer))
            assert not any(flat[model.places[frozen]].any() for frozen in model.frozen)
    model.unfreeze("layers.0.W", "*.b")
    assert model.frozen == frozenset()
    _, moved = stepped(optimizer, 1)
    assert all((moved[key] != after[key]).any() for key in moved)


ADAPTIVE = [case for case in OPTIMIZERS if issubclass(type(case.make(network())), optim.Adam)]


@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.parametrize("case", ADAPTIVE, ids=name)
def test_what_is_trained_from_later_on_moves_as_from_its_own_first_step(case, kind, resumed):
    """Each parameter's moves are those of an optimizer that makes the parameter's own steps alone. `first` rests for
    steps 1 and 2, `second` for step 4, which is as many stretches and not as many steps; `third` never."""
    first, second, third = "layers.0.W", "layers.2.W", "layers.2.b"
    model = network(backend=kind("float64", 0))
    optimizer = case.make(model)
    rests = {first: (0, 1), second: (3,), "layers.0.b": (0, 1), third: ()}

    def step(optimizer, i):
        model = optimizer.model
        model.grad[...] = model.backend.asarray(np.linspace(-1, 2, model.n_parameters) * (i + 1))
        optimizer.step()

    for i in range(7):
        resting = [parameter for parameter, when in rests.items() if i in when]
        if model.frozen != {*resting}:
            model.unfreeze("*")
            model.freeze(*resting)
        if resumed and i == 5:
            again = network(backend=kind("float64", 0))
            again.data[...] = again.backend.asarray(model.backend.to_host(model.data))
            saved, model = optimizer.tensors(), again
            optimizer = case.make(model)
            optimizer.load_tensors(saved)
        step(optimizer, i)
    for parameter, when in rests.items():
        alone = case.make(network(backend=kind("float64", 0)))
        for i in range(7):
            if i not in when:
                step(alone, i)
        np.testing.assert_allclose(model.tensors()[parameter], alone.model.tensors()[parameter], rtol=0, atol=1e-13)


@pytest.mark.parametrize("case", ADAPTIVE, ids=name)
def test_a_captured_step_goes_on_with_what_was_frozen_before_it(case):
    """Captured steps before and after others are those of an optimizer whose steps are all eager."""
    found = []
    for backend in (StrictBackend("float64"), Backend("float64")):
        model = network(backend=backend)
        optimizer = case.make(model)
        marks = optimizer._is_frozen
        model.freeze("layers.0.*")
        step = backend.capture(optimizer.step)

        def steps(step, n, model=model):
            for _ in range(n):
                model.grad[...] = model.backend.asarray(np.linspace(-1, 2, model.n_parameters))
                step()

        steps(optimizer.step, 1)  # the parts are known before a step is captured
        steps(step, 3)
        optimizer.load_tensors(optimizer.tensors())  # which divides the parameters anew
        steps(step, 2)
        model.unfreeze("*")
        steps(optimizer.step, 2)
        assert optimizer._is_frozen is marks
        found.append((model.tensors(), optimizer.tensors()))
    for ours, theirs in zip(*found, strict=True):
        for key, values in ours.items():
            np.testing.assert_allclose(values, theirs[key], rtol=1e-12, atol=1e-14)
    assert found[0][1]["missed"].tolist() == [6, 0, 6, 0]


def test_parameters_that_have_rested_are_updated_apart_and_others_together():
    model = network()
    optimizer = optim.Adam(model)
    assert len(optimizer._parts) == 1
    model.freeze("layers.2.W")
    optimizer.step()
    model.unfreeze("*")
    optimizer.step()
    assert len(optimizer._parts) == 3
    plain = optim.SGD(model, 0.1)
    model.freeze("layers.2.W")
    plain.step()
    model.unfreeze("*")
    plain.step()
    assert len(plain._parts) == 1


def test_a_frozen_layer_does_not_count_when_gradients_are_clipped():
    model = network()
    model.freeze("layers.0.*")
    model.grad.fill(100.0)
    model.parameters["layers.2.b"].grad[...] = [0.3, 0.4]
    model.parameters["layers.2.W"].grad.fill(0.0)
    optim.clip_norm(model, 1.0)
    assert model.parameters["layers.2.b"].grad.tolist() == pytest.approx([0.3, 0.4])


def test_freezing_is_refused_where_it_would_not_be_seen():
    model = network()
    with pytest.raises(ValueError, match=r"no trained parameter matches 'layers\.1\.\*': there are layers\.0\.W, "):
        model.freeze("layers.1.*")
    with pytest.raises(ValueError, match="no trained parameter matches"):
        model.unfreeze("layers.1.*")
    with pytest.raises(TypeError, match=r'named by texts, such as "layers\.0\.\*", not a Linear'):
        model.freeze(model.network.layers[0])
    with model.backend.training_lock, pytest.raises(RuntimeError, match="between two runs of fit"):
        model.freeze("*")
    assert model.frozen == frozenset()


@pytest.mark.parametrize("case", [case for case in OPTIMIZERS if not case.clip], ids=name)
def test_groups_have_rates_and_decays_of_their_own(case, kind):
    """Each parameter is where an optimizer of the whole network with that rate and decay would have brought it."""
    groups = {"layers.0.W": {"lr": 0.5, "weight_decay": 3.0}, "layers.0.*": {"lr": 0.0}, "*.2.W": {"weight_decay": 0}}

    def after(groups=None, lr=1.0, decay=1.0):
        options = {**case.options, "lr": case.options["lr"] * lr}
        model = network(backend=kind("float64", 0))
        return stepped(case.kind(model, **options, weight_decay=case.decay * decay, groups=groups))[1]

    got = after(groups)
    expected = {
        "layers.0.W": after(lr=0.5, decay=3.0),  # the first pattern that fits
        "layers.0.b": after(lr=0.0),
        "layers.2.W": after(decay=0.0),
        "layers.2.b": after(),
    }
    for key, values in got.items():
        assert np.abs(values - expected[key][key]).max() <= 1e-14, key


def test_groups_keep_a_step_to_few_operations():
    """What lies side by side and moves at the same rate is updated together; decay ends where biases begin."""
    model = network()
    (whole,) = optim.AdamW(model, weight_decay=0.1)._parts
    assert (whole.start, whole.stop, whole.decays) == (0, 26, ((0, 20, 0.1),))
    assert [(p.start, p.stop, p.lr) for p in optim.SGD(model, 0.1, groups={"*.b": {"lr": 0.1}})._parts] == [
        (0, 20, 1.0),
        (20, 26, 0.1),
    ]


def test_parts_end_where_something_is_frozen_and_decays_where_they_differ():
    model = network()
    places = model.places
    first, second = places["layers.0.W"], places["layers.2.W"]
    assert first.stop == second.start
    (plain,) = optim.AdamW(model, weight_decay=0.1)._parts
    assert plain.decays == ((first.start, second.stop, 0.1),)
    (part,) = optim.AdamW(model, weight_decay=0.1, groups={"layers.2.W": {"weight_decay": 3.0}})._parts
    assert part.decays == ((first.start, first.stop, 0.1), (second.start, second.stop, pytest.approx(0.3)))
    model.freeze("layers.2.W")
    optimizer = optim.SGD(model, 0.1)
    assert [(p.start, p.stop) for p in optimizer._parts] == [(first.start, first.stop), (second.stop, 26)]
    before = model.tensors()
    model.grad[...] = 1
    optimizer.step()
    moved = {name for name, values in model.tensors().items() if (values != before[name]).any()}
    assert moved == {"layers.0.W", "layers.0.b", "layers.2.b"}


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"layers.7.*": {"lr": 0.1}}, r"no trained parameter matches 'layers\.7\.\*'"),
        ({"*.b": {"rate": 0.1}}, r"group '\*\.b': only lr and weight_decay can have a factor, not rate"),
        ({"*.b": {"lr": -1.0}}, r"the factor of lr must be a finite number >= 0, not -1\.0"),
        ({"*.b": {"weight_decay": math.inf}}, "the factor of weight_decay must be a finite number"),
    ],
)
def test_groups_that_cannot_be(groups, message):
    with pytest.raises(ValueError, match=message):
        optim.AdamW(network(), groups=groups)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("first", [0.0, 0.5])
def test_a_momentum_that_is_set_between_two_steps_is_that_of_the_next(first, nesterov, kind):
    """Also where there was none, or where it was 0 for a while: v then starts at 0."""
    model, rng, then = network(backend=kind("float64", 0)), np.random.default_rng(0), {3: 0.9, 5: 0.0, 6: 0.7}
    optimizer, expected, momentum = optim.SGD(model, 0.1, first), model.tensors(), first
    v = dict.fromkeys(expected, 0.0)
    for t in range(1, 9):
        if t in then:
            optimizer.momentum, optimizer.nesterov = np.float32(then[t]), nesterov
            momentum = float(np.float32(then[t]))
        assert (optimizer.momentum, optimizer.described["momentum"]) == (momentum, momentum)
        for tensor, x in expected.items():
            g = rng.standard_normal(x.shape)
            model.parameters[tensor].grad[...] = model.backend.asarray(g)
            velocity = momentum * v[tensor] + g
            v[tensor] = velocity if momentum else 0.0
            x -= 0.1 * (g + momentum * velocity if optimizer.nesterov else velocity)
        optimizer.step()
    velocity = optimizer.state["velocity"]
    optimizer.momentum = 0.0
    assert optimizer.tensors().keys() == optim.SGD(model, 0.1).tensors().keys()
    optimizer.momentum = 0.9
    assert optimizer.state["velocity"] is velocity, "captured steps write to the array that they were recorded with"
    assert not optimizer.tensors()["velocity"].any()
    for tensor, x in model.tensors().items():
        np.testing.assert_allclose(x, expected[tensor], rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="momentum must be a finite number >= 0 and below 1"):
        optimizer.momentum = 1.0


@pytest.mark.parametrize("groups", ["*.b", {"*.b": 0.1}, [("*.b", 1.0, 1.0)]])
def test_groups_that_are_no_factors_by_patterns(groups):
    with pytest.raises(TypeError, match=r"(such as|as in) .*weight_decay.*, not "):
        optim.AdamW(network(), groups=groups)
    optimizer = optim.AdamW(network())
    with pytest.raises(TypeError, match=r"(such as|as in) .*weight_decay.*, not "):
        optimizer.groups = groups
    assert optimizer.groups == ()


def test_groups_that_are_set_between_two_steps_count_from_then_on():
    def moved(optimizer):
        model = optimizer.model
        before = model.tensors()
        model.grad[...] = 1.0
        optimizer.step()
        return {name: float((before[name] - values).mean()) for name, values in model.tensors().items()}

    optimizer = optim.SGD(network(), 1.0)
    assert all(size == pytest.approx(1.0) for size in moved(optimizer).values())
    optimizer.groups = {"*.b": {"lr": 0.5}}
    assert all(size == pytest.approx(0.5 if name.endswith("b") else 1.0) for name, size in moved(optimizer).items())
    assert optimizer.described["groups"] == (("*.b", 0.5, 1.0),)
    optimizer.groups, other = {}, optim.SGD(network(), 1.0, groups={"*.b": {"lr": 0.5}})
    assert all(size == pytest.approx(1.0) for size in moved(optimizer).values())
    optimizer.groups = other.groups
    assert optimizer.groups == (("*.b", 0.5, 1.0),)


def test_a_decay_or_momentum_that_is_set_later_is_checked_as_at_first():
    optimizer = optim.SGD(network(), 0.1, momentum=0.9, weight_decay=0.1)
    with pytest.raises(ValueError, match="weight_decay must be a finite number >= 0, not -1"):
        optimizer.weight_decay = -1
    with pytest.raises(ValueError, match="momentum must be a finite number >= 0 and below 1, not 2"):
        optimizer.momentum = 2
    assert (optimizer.weight_decay, optimizer.momentum) == (0.1, 0.9)
    optimizer.momentum = 0.5
    assert optimizer.described["momentum"] == 0.5


@pytest.mark.parametrize("of", [optim.Adam, optim.Lion])
def test_betas_that_are_set_as_a_list_are_settings_like_others(of):
    optimizer = of(network())
    optimizer.betas = [0.5, np.float32(0.75)]
    assert optimizer.described["betas"] == optimizer.betas == (0.5, 0.75)
    with pytest.raises(ValueError, match=r"betas\[1\] must be a finite number >= 0 and below 1, not 7"):
        optimizer.betas = (0.5, 7)
    assert optimizer.betas == (0.5, 0.75)


@pytest.mark.parametrize("of", [optim.Adam, optim.AdamW, optim.Muon])
def test_betas_that_are_set_between_two_steps_leave_the_means_as_they_were(of, kind):
    """Of Kingma and Ba's formulas; the momentum of Muon's matrices knows of no betas."""
    rng, then = np.random.default_rng(0), {3: (0.5, 0.99), 5: (0.95, 0.9)}

    def run(changes):
        model = network(backend=kind("float64", 0))
        optimizer = of(model, lr=0.01, weight_decay=0.0)
        start = model.tensors()
        for t, gradients in enumerate(given, start=1):
            optimizer.betas = changes.get(t, optimizer.betas)
            for tensor, gradient in gradients.items():
                model.parameters[tensor].grad[...] = model.backend.asarray(gradient)
            optimizer.step()
        return start, model.tensors(), optimizer.described["betas"]

    shapes = {tensor: parameter.shape for tensor, parameter in network().parameters.items()}
    given = [{tensor: rng.standard_normal(shape) for tensor, shape in shapes.items()} for _ in range(7)]
    (start, got, betas), (_, unchanged, _) = run(then), run({})
    assert betas == (0.95, 0.9)
    for tensor, x in start.items():
        m, s, (b1, b2) = 0.0, 0.0, (0.9, 0.999)
        for t, gradients in enumerate(given, start=1):
            b1, b2 = then.get(t, (b1, b2))
            m, s = b1 * m + (1 - b1) * gradients[tensor], b2 * s + (1 - b2) * gradients[tensor] ** 2
            x = x - 0.01 * m / (1 - b1**t) / (np.sqrt(s / (1 - b2**t)) + 1e-8)
        expected = unchanged[tensor] if of is optim.Muon and x.ndim == 2 else x
        np.testing.assert_allclose(got[tensor], expected, rtol=0, atol=1e-12)


# The average --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decay", [0.0, 0.7, 0.999])
def test_the_average_weighs_each_step_by_its_age(decay, kind):
    model = network(backend=kind("float64", 0))
    average, optimizer = optim.WeightAverage(model, decay), optim.SGD(model, 0.1)
    seen = []

    def step(gradient):
        model.grad[...] = gradient
        optimizer.step()
        average.update()

    replayed = model.backend.capture(step)
    for i in range(6):
        replayed(model.backend.asarray(np.linspace(-1, 2, model.n_parameters) * (-1) ** i + i))
        seen.append(np.array(model.backend.to_host(model.data)))
    weights = [decay ** (5 - i) for i in range(6)]
    expected = sum(w * x for w, x in zip(weights, seen, strict=True)) / sum(weights)
    assert np.abs(np.array(model.backend.to_host(average.values)) - expected).max() <= 1e-13


@pytest.mark.parametrize("decay", [0.9, 0.999])
def test_nothing_of_the_first_weights_is_in_the_average(decay, kind):
    """Not by rounding either: 1e8 + (x - 1e8) has no digits of x in float32."""
    model = network(backend=kind("float32", 0))
    model.data.fill(1e8)
    average = optim.WeightAverage(model, decay)
    update = model.backend.capture(lambda values: (model.data.__setitem__(..., values), average.update())[1:0])
    given = model.backend.asarray(np.linspace(-1, 2, model.data.size))
    for _ in range(3):
        update(given)
        assert np.array_equal(model.backend.to_host(average.values), model.backend.to_host(given))


def test_an_average_over_many_steps_keeps_its_digits():
    """1 - 1e-4 has three digits of the 1e-4 in float32, which add up over 20,000 steps."""
    model = network(backend=Backend("float32"))
    average, decay, steps, expected = optim.WeightAverage(model, 0.9999), 0.9999, 20_000, 0.0
    for t in range(1, steps + 1):
        model.data.fill(1 + t / steps)
        average.update()
        expected += (float(model.data[0]) - expected) * (1 - decay) / (1 - decay**t)
    assert np.abs(average.values - expected).max() <= 2e-5


def test_the_average_is_applied_and_taken_away_again():
    model = network()
    average = optim.WeightAverage(model, 0.5)
    model.data[...] = 1.0
    average.update()
    model.data[...] = 4.0
    average.update()
    with average.applied() as same:
        assert same is model
        assert model.data.tolist() == pytest.approx([3.0] * model.data.size)
    assert (model.data == 4.0).all()
    with pytest.raises(KeyError), average.applied():
        raise KeyError
    assert (model.data == 4.0).all()
    with pytest.raises(ValueError, match="decay must be a finite number >= 0 and below 1, not 1"):
        optim.WeightAverage(model, 1)


class Flat(nn.Layer):
    """So many weights and so many biases."""

    def __init__(self, weights, biases):
        self.n = weights, biases

    def config(self):
        return dict(zip(("weights", "biases"), self.n, strict=True))

    def build(self, shape):
        self.weights = nn.Parameter((self.n[0],), init.zeros)
        self.biases = nn.Parameter((self.n[1],), init.zeros, decay=False)
        return shape


def test_a_part_of_more_than_one_chunk_may_begin_anywhere():
    model = nn.Model(Flat(10, 70_000), (1,), Backend("float64"))
    optimizer = optim.SGD(model, 0.1, groups={"biases": {"lr": 0.5}})
    model.grad[...] = np.arange(70_010)
    optimizer.step()
    assert np.abs(model.data + np.arange(70_010) * np.where(np.arange(70_010) < 10, 0.1, 0.05)).max() < 1e-11


@pytest.mark.parametrize("n_decay", [65_535, 65_536, 65_537, 131_072])
@pytest.mark.parametrize("kind_of", [optim.SGD, optim.AdamW])
def test_decay_ends_where_the_weights_do_wherever_that_is_in_a_chunk(kind_of, n_decay):
    """The buffer is updated 65,536 numbers at a time; there are biases in a chunk of their own, and in a shared one."""
    n_biases = 70_000
    tensors = {"weights": np.ones(n_decay), "biases": np.ones(n_biases)}
    model = nn.Model(Flat(n_decay, n_biases), (1,), Backend("float64"), tensors=tensors)
    assert (model.n_decay, model.n_parameters) == (n_decay, n_decay + n_biases)
    kind_of(model, lr=0.1, weight_decay=0.5).step()  # there is no gradient: all that moves has decayed
    np.testing.assert_allclose(model.data[:n_decay], 0.95, rtol=1e-12)
    assert (model.data[n_decay:] == 1).all()


@pytest.mark.parametrize(
    ("kind_of", "factor"),
    [(optim.AdamW, 1 - 0.1 * 0.01), (optim.Adam, 1), (optim.SGD, 1), (optim.RMSProp, 1), (optim.AdaGrad, 1)],
)
def test_only_adamw_decays_if_nothing_is_said(kind_of, factor):
    model = nn.Model(nn.Linear(2, init=init.constant(1.0)), (2,), Backend("float64"))
    kind_of(model, lr=0.1).step()
    np.testing.assert_allclose(model.parameters["W"].data, factor, rtol=1e-12)
    assert (model.parameters["b"].data == 0).all()


@pytest.mark.parametrize(
    ("kind_of", "options"),
    [
        (optim.SGD, {"weight_decay": 0.0, "momentum": 0.0, "nesterov": False}),
        (optim.RMSProp, {"lr": 0.001, "rho": 0.9, "eps": 1e-8, "weight_decay": 0.0}),
        (optim.AdaGrad, {"lr": 0.01, "eps": 1e-10, "weight_decay": 0.0}),
        (optim.Adam, {"lr": 0.001, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}),
        (optim.AdamW, {"lr": 0.001, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}),
    ],
)
def test_options_that_are_not_given_are_the_usual_ones(kind_of, options):
    model = network()
    optimizer = kind_of(model, 0.1) if kind_of is optim.SGD else kind_of(model)
    assert {name: getattr(optimizer, name) for name in options} == options


@pytest.mark.parametrize("name", ["sum", "squares", "steps"])
def test_every_part_of_the_state_is_taken_back(name):
    """And what `tensors` gives is a copy, which later steps leave alone."""
    optimizer = optim.Adam(network())
    optimizer.model.grad.fill(0.5)
    optimizer.step()
    taken = optimizer.tensors()
    before = taken[name].copy()
    optimizer.step()
    np.testing.assert_array_equal(taken[name], before)
    other = optim.Adam(network())
    other.load_tensors(taken)
    np.testing.assert_array_equal(other.tensors()[name], before)
    taken[name].fill(9)
    np.testing.assert_array_equal(other.tensors()[name], before)


@pytest.mark.parametrize("nesterov", [False, True])
def test_a_step_without_momentum_keeps_no_state(nesterov):
    assert list(optim.SGD(network(), 0.1).tensors()) == ["steps"]
    assert list(optim.SGD(network(), 0.1, momentum=0.9, nesterov=nesterov).tensors()) == ["steps", "velocity"]


@pytest.mark.parametrize("kind", [optim.SGD, optim.AdamW])
def test_threads_that_share_an_update_give_the_same_bits(kind, monkeypatch):
    monkeypatch.setattr(optim.base, "ENOUGH", 1)

    def updated(threads):
        model = nn.Model(nn.Linear(900), (300,), Backend("float32", 3, threads=threads))  # five pieces
        optimizer, rng = kind(model, 0.01, weight_decay=0.1), np.random.default_rng(0)
        for _ in range(2):
            model.grad[...] = rng.standard_normal(model.n_parameters)
            optimizer.step()
        return b"".join(array.tobytes() for array in (model.data, *optimizer.tensors().values()))

    assert len({updated(threads) for threads in (None, 2, 3)}) == 1


def test_threads_find_zeros_where_no_gradient_came(monkeypatch):
    """Those that looked first would write them while others had read them, and decayed, already."""
    monkeypatch.setattr(optim.base, "ENOUGH", 1)
    model = nn.Model(nn.Linear(900), (300,), Backend("float32", 3, threads=2))
    seen, run = [], model.backend.team.run
    monkeypatch.setattr(model.backend.team, "run", lambda jobs: seen.append(model._grad.copy()) or run(jobs))
    model.grad[...] = np.nan
    model.zero_grad()
    optim.SGD(model, 0.1, weight_decay=1.0).step()
    assert len(seen) == 1
    assert not seen[0].any()


def test_few_numbers_are_updated_by_one_thread(monkeypatch):
    model = nn.Model(nn.Linear(900), (300,), Backend("float32", 3, threads=2))
    monkeypatch.setattr(model.backend.team, "run", None)
    model.grad[...] = 1
    before = model.data.copy()
    optim.SGD(model, 0.01).step()
    assert np.array_equal(model.data, before - np.float32(0.01))


def test_a_whole_parameter_is_updated_by_one_thread(monkeypatch):
    monkeypatch.setattr(optim.base, "ENOUGH", 1)
    model = nn.Model(nn.Sequential(nn.Linear(4), nn.Linear(3)), (5,), Backend("float32", 3, threads=2))
    monkeypatch.setattr(model.backend.team, "run", None)
    model.grad[...] = 1
    before = {name: p.data.copy() for name, p in model.parameters.items()}
    optim.Muon(model, 0.01).step()
    assert all((p.data != before[name]).all() for name, p in model.parameters.items())
