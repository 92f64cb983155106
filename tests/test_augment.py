"""Augmentation: what each setting does, and that it does the same on every device."""

from __future__ import annotations

import math

import numpy as np
import pytest

from xpnet import data, losses, nn, optim, select, train
from xpnet.data import Augment
from xpnet.data.augment import sample, sine_cosine, spline
from xpnet.verify.strict import StrictBackend

AMOUNTS = {"shift": 0.2, "rotate": 20, "scale": 0.3, "shear": 0.3, "elastic": 3, "thickness": 1}
AMOUNTS |= {"crop": 2, "flip": 0.5, "erase": 1}
ALL = Augment(
    shift=0.1, rotate=15, scale=0.15, shear=0.15, elastic=1.5, thickness=0.7, crop=2, flip=0.5, erase=0.5
)  # fmt: skip
SINGLE = [Augment(**{name: amount}) for name, amount in AMOUNTS.items()]


def blocks(n=40, height=28, width=28):
    """A soft block in the middle of each image, more of it on the left."""
    x = np.zeros((n, height, width), np.uint8)
    x[:, height // 4 : -(height // 4), width // 3 : -(width // 3)] = 200
    x[:, height // 2 - 2 : height // 2 + 2, width // 2 - 2 : width // 2] = 90
    return x


def colours(n=5, height=9, width=7, channels=3):
    """Any bytes."""
    return np.random.default_rng(0).integers(0, 256, (n, height, width, channels), np.uint8)


def centres(x):
    """(rows, columns) of the centre of mass of each image, counted from the middle."""
    mass = x.astype(float).sum(axis=(1, 2))
    rows = (x.astype(float).sum(axis=2) * (np.arange(x.shape[1]) - (x.shape[1] - 1) / 2)).sum(axis=1)
    columns = (x.astype(float).sum(axis=1) * (np.arange(x.shape[2]) - (x.shape[2] - 1) / 2)).sum(axis=1)
    return rows / mass, columns / mass


@pytest.mark.parametrize("augment", [ALL, *SINGLE], ids=repr)
@pytest.mark.parametrize("shape", [(28, 28), (8, 8), (17, 31)])
def test_the_same_bits_on_the_cpu_and_a_device(augment, shape):
    x, cpu, strict = blocks(5, *shape), select("cpu", seed=3), StrictBackend(seed=3)
    on_device = strict.asarray(x)
    with strict.step():
        result = augment(on_device, strict)
    expected = augment(x, cpu)
    np.testing.assert_array_equal(strict.to_host(result), expected)
    assert (expected != x).any()
    assert (expected.shape, expected.dtype) == (x.shape, np.uint8)
    np.testing.assert_array_equal(cpu.rng.state, strict.rng.state)
    np.testing.assert_array_equal(x, blocks(5, *shape))  # the images themselves are left alone


@pytest.mark.parametrize("augment", [ALL, *SINGLE], ids=repr)
def test_the_same_bits_for_colours(augment):
    x, cpu, strict = colours(), select("cpu", seed=3), StrictBackend(seed=3)
    on_device = strict.asarray(x)
    with strict.step():
        result = augment(on_device, strict)
    np.testing.assert_array_equal(strict.to_host(result), augment(x, cpu))
    np.testing.assert_array_equal(x, colours())


@pytest.mark.parametrize("augment", [ALL, *SINGLE], ids=repr)
def test_every_channel_is_changed_as_a_grey_image_is(augment):
    x = colours()
    result = augment(x, select("cpu", seed=3))
    assert result.shape == x.shape
    for channel in range(3):
        np.testing.assert_array_equal(result[..., channel], augment(x[..., channel], select("cpu", seed=3)))


def test_all_settings_at_zero_change_nothing():
    x = np.random.default_rng(0).integers(0, 256, (7, 9, 11), np.uint8)
    np.testing.assert_array_equal(Augment()(x, select("cpu")), x)


def test_the_dtype_of_the_network_does_not_matter():
    single, double = select("cpu", "float32", seed=1), select("cpu", "float64", seed=1)
    np.testing.assert_array_equal(ALL(blocks(), single), ALL(blocks(), double))


def test_shift_moves_within_its_limit_and_both_ways():
    rows, columns = centres(Augment(shift=0.1)(blocks(400), select("cpu", seed=0)))
    before_row, before_column = (c[0] for c in centres(blocks(1)))
    for moved in (rows - before_row, columns - before_column):
        assert np.abs(moved).max() <= 0.1 * 28 + 0.02
        assert moved.min() < -2
        assert moved.max() > 2
        assert abs(moved.mean()) < 0.4


def test_rotation_keeps_the_centre_and_turns_the_axis():
    bar = np.zeros((300, 29, 29), np.uint8)
    bar[:, 4:-4, 13:16] = 255
    turned = Augment(rotate=20)(bar, select("cpu", seed=0))
    for centre in centres(turned):
        assert np.abs(centre).max() < 0.1
    down, right = np.meshgrid(np.arange(29) - 14.0, np.arange(29) - 14.0, indexing="ij")
    weights = turned.astype(float)
    tilt = np.degrees(np.arctan((weights * down * right).sum((1, 2)) / (weights * down * down).sum((1, 2))))
    assert 17 < tilt.max() < 20.5
    assert -20.5 < tilt.min() < -17


def test_scale_changes_the_size_by_its_factor():
    square = np.zeros((300, 29, 29), np.uint8)
    square[:, 9:20, 9:20] = 255
    area = Augment(scale=0.2)(square, select("cpu", seed=0)).astype(float).sum(axis=(1, 2)) / (255 * 121)
    assert 1 / 1.2**2 - 0.03 < area.min() < 0.8
    assert 1.25 < area.max() < 1 / 0.8**2 + 0.03


def test_thickness_goes_between_the_darkest_and_the_lightest_neighbours():
    line = np.zeros((300, 15, 15), np.uint8)
    line[:, 3:-3, 6:9] = 255
    width = Augment(thickness=1)(line, select("cpu", seed=0))[:, 7].astype(float).sum(axis=1) / 255
    assert 1 <= width.min() < 1.1
    assert 4.9 < width.max() <= 5


def test_erasing_blanks_one_rectangle_of_at_most_half_the_sides():
    x = np.full((400, 20, 30), 255, np.uint8)
    erased = Augment(erase=0.5)(x, select("cpu", seed=0)) == 0
    hit = erased.any(axis=(1, 2))
    assert 0.4 < hit.mean() < 0.6
    for image in erased[hit]:
        rows, columns = image.any(axis=1), image.any(axis=0)
        np.testing.assert_array_equal(image, rows[:, None] & columns)
        assert rows.sum() <= 11
        assert columns.sum() <= 16
        assert (np.diff(np.flatnonzero(rows)) == 1).all()


def windows(image, border):
    """Every image of the same size in the one with a border of 0, by (row, column)."""
    padded = np.pad(image, [(border, border)] * 2 + [(0, 0)] * (image.ndim - 2))
    height, width = image.shape[:2]
    places = range(2 * border + 1)
    return {(i, j): padded[i : i + height, j : j + width].tobytes() for i in places for j in places}


def test_a_crop_begins_at_any_place_of_the_border():
    x = np.repeat(colours(1), 2000, axis=0)
    known = {content: place for place, content in windows(x[0], 2).items()}
    cropped = Augment(crop=2)(x, select("cpu", seed=0))
    counts = dict.fromkeys(known.values(), 0)
    for image in cropped:
        counts[known[image.tobytes()]] += 1
    assert len(counts) == 25
    assert min(counts.values()) > 40  # of 80 on average
    assert max(counts.values()) < 125


def test_a_flip_changes_left_and_right_over_in_some_images():
    x = colours(500)
    flipped = Augment(flip=0.3)(x, select("cpu", seed=0))
    changed = (flipped != x).any(axis=(1, 2, 3))
    assert 0.24 < changed.mean() < 0.36
    np.testing.assert_array_equal(flipped[changed], x[changed][:, :, ::-1])
    np.testing.assert_array_equal(Augment(flip=1)(x, select("cpu")), x[:, :, ::-1])


def test_crop_and_flip_together():
    x = np.repeat(colours(1, 4, 6), 400, axis=0)
    known = set(windows(x[0], 1).values()) | set(windows(x[0, :, ::-1], 1).values())
    seen = {image.tobytes() for image in Augment(crop=1, flip=0.5)(x, select("cpu", seed=0))}
    assert seen == known
    assert len(seen) == 18


def test_one_setting_does_not_change_what_another_does():
    x = colours(50)
    erased = Augment(erase=1)(x, select("cpu", seed=0)) == 0
    both = Augment(erase=1, flip=1)(x, select("cpu", seed=0))
    np.testing.assert_array_equal(both, np.where(erased & (x[:, :, ::-1] != 0), both, x[:, :, ::-1]))
    moved = Augment(shift=0.2)(x, select("cpu", seed=0))
    np.testing.assert_array_equal(Augment(shift=0.2, flip=1)(x, select("cpu", seed=0)), moved[:, :, ::-1])


# Mixup ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", [-1, 3])
def test_mixup_takes_class_numbers_that_are_there(label):
    with pytest.raises(ValueError, match=f"label {label} at index 1 is outside"):
        data.mixup(np.zeros((2, 4)), np.array([0, label]), 3, select("cpu"))


def test_mixup_by_hand():
    x, target = colours(64), np.arange(64) % 4
    backend = select("cpu", seed=5)
    mixed, q = data.mixup(x, target, 5, backend)
    assert (mixed.dtype, q.dtype, q.shape) == (np.float32, np.float32, (64, 5))
    own = q[np.arange(64), target].astype(np.float64)  # the next one is of another class
    np.testing.assert_allclose(own, select("cpu", seed=5).rng.random((64,), np.float32), atol=1e-7)
    assert own.std() > 0.2  # a number of its own for each sample
    np.testing.assert_allclose(q.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(q[np.arange(64), (target + 1) % 4], 1 - own, atol=1e-6)
    weight = own.reshape(64, 1, 1, 1)
    np.testing.assert_allclose(mixed, weight * x + (1 - weight) * np.roll(x, -1, axis=0), atol=1e-4)
    np.testing.assert_array_equal(x, colours(64))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_mixup_is_the_same_on_every_device(dtype):
    x, target = colours(), np.array([0, 2, 1, 1, 0])
    cpu, strict = select("cpu", dtype, seed=2), StrictBackend(dtype, seed=2)
    there = strict.asarray(x), strict.asarray(target)
    with strict.step():
        result = data.mixup(*there, 3, strict)
    for got, want in zip(result, data.mixup(x, target, 3, cpu), strict=True):
        assert want.dtype == dtype
        np.testing.assert_array_equal(strict.to_host(got), want)


def test_a_network_learns_from_mixed_digits():
    digits, backend = data.load("digits").train, select("cpu", seed=0)
    network = nn.Sequential(nn.Standardize(80, 95), nn.Flatten(), *nn.mlp([64, 32, 10]).layers)
    model = nn.Model(network, (8, 8), backend)
    loss, optimizer = losses.SoftmaxCrossEntropy(), optim.Adam(model, lr=0.005)
    for epoch in range(6):
        order = data.epoch_order(len(digits), 0, epoch)
        for part in data.batch_slices(len(digits), 64):
            x, target = data.mixup(digits.x[order[part]], digits.y[order[part]], 10, backend)
            with backend.mode(training=True):
                train.train_step(model, loss, optimizer, x, target)
    assert train.evaluate(model, loss, digits).accuracy > 0.9


def test_sine_and_cosine():
    angle = np.linspace(-math.pi / 4, math.pi / 4, 1001)
    sine, cosine = sine_cosine(angle)
    np.testing.assert_allclose(sine, np.sin(angle), atol=4e-7)
    np.testing.assert_allclose(cosine, np.cos(angle), atol=4e-7)


def test_a_spline_reproduces_constants_and_slopes():
    backend = select("cpu")
    control = np.full((2, 7, 7), 3, np.float32)
    np.testing.assert_allclose(spline(control, 28, 20, backend), np.full((2, 28, 20), 3), rtol=1e-6)
    slope = np.broadcast_to(np.arange(7, dtype=np.float32), (1, 7, 7))
    field = spline(np.ascontiguousarray(slope), 9, 9, backend)
    np.testing.assert_allclose(field[0, 4], np.linspace(1, 5, 9), rtol=1e-5)


def test_sampling_at_the_pixels_gives_them_back_and_outside_is_black():
    x = np.random.default_rng(0).integers(0, 256, (3, 6, 8), np.uint8)
    rows = np.broadcast_to(np.arange(6, dtype=np.float32)[:, None], (3, 6, 8))
    columns = np.broadcast_to(np.arange(8, dtype=np.float32), (3, 6, 8))
    backend = select("cpu")
    np.testing.assert_array_equal(sample(x, rows, columns, backend), x)
    half = sample(x, rows, columns + np.float32(0.5), backend)
    expected = np.floor((x[:, :, :-1].astype(float) + x[:, :, 1:]) / 2 + 0.5)
    np.testing.assert_array_equal(half[:, :, :-1], expected)
    assert not sample(x, rows + 100, columns, backend).any()
    assert not sample(x, rows, columns - 100, backend).any()


def test_it_helps_fit_and_does_not_touch_evaluation():
    digits = data.load("digits")
    backend = select("cpu", seed=0)
    network = nn.Sequential(nn.Standardize(80, 95), nn.Flatten(), *nn.mlp([64, 16, 10]).layers)
    model = nn.Model(network, (8, 8), backend)
    loss, optimizer = losses.SoftmaxCrossEntropy(), optim.Adam(model, lr=0.005)
    train.fit(model, loss, optimizer, digits.train, epochs=8, augment=Augment(shift=0.06, rotate=8), quiet=True)
    before = backend.rng.state
    assert train.evaluate(model, loss, digits.test).accuracy > 0.85
    np.testing.assert_array_equal(backend.rng.state, before)


@pytest.mark.parametrize(
    "bad", [{"shift": -0.1}, {"rotate": 60}, {"erase": 1.5}, {"elastic": float("nan")}, {"crop": -1}, {"flip": 2}]
)
def test_settings_out_of_range(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must be a finite number >= 0 and <= "):
        Augment(**bad)


@pytest.mark.parametrize("crop", [1.5, 2.0])
def test_a_crop_is_a_whole_number_of_pixels(crop):
    with pytest.raises(ValueError, match=rf"crop must be a whole number, not {crop}"):
        Augment(crop=crop)


@pytest.mark.parametrize(
    "x", [np.zeros((3, 784), np.uint8), np.zeros((3, 28, 28), np.float32), np.zeros((3, 28, 1, 3), np.uint8)]
)
def test_what_is_no_image(x):
    with pytest.raises(ValueError, match="takes uint8 images of shape"):
        ALL(x, select("cpu"))


def test_scale_is_of_either_axis_by_itself():
    """An image gets wider while it gets lower: rows and columns have amounts of their own."""
    square = np.zeros((200, 29, 29), np.uint8)
    square[:, 9:20, 9:20] = 255
    scaled = Augment(scale=0.3)(square, select("cpu", seed=0)).astype(float) / 255
    tall, wide = scaled[:, :, 14].sum(axis=1), scaled[:, 14, :].sum(axis=1)
    assert abs(np.corrcoef(tall, wide)[0, 1]) < 0.3
    for size in (tall, wide):
        assert size.min() < 11 / 1.2
        assert size.max() > 11 / 0.8


def test_shift_is_of_either_axis_by_itself_in_parts_of_its_own_side():
    image = np.zeros((300, 20, 60), np.uint8)
    image[:, 8:12, 26:34] = 255
    rows, columns = centres(Augment(shift=0.1)(image, select("cpu", seed=0)))
    assert abs(np.corrcoef(rows, columns)[0, 1]) < 0.3
    assert 1.8 < np.abs(rows).max() <= 2.02
    assert 5.4 < np.abs(columns).max() <= 6.02


def test_shear_moves_rows_sideways_and_columns_nowhere():
    bar = np.zeros((300, 29, 29), np.uint8)
    bar[:, 4:-4, 13:16] = 255
    sheared = Augment(shear=0.3)(bar, select("cpu", seed=0)).astype(float)
    np.testing.assert_allclose(sheared.sum(axis=2)[:, 6:-6], 3 * 255, rtol=0.02)
    down, right = np.meshgrid(np.arange(29) - 14.0, np.arange(29) - 14.0, indexing="ij")
    slope = (sheared * down * right).sum((1, 2)) / (sheared * down * down).sum((1, 2))
    assert 0.27 < slope.max() < 0.31
    assert -0.31 < slope.min() < -0.27


def test_one_setting_does_not_change_the_numbers_of_another():
    x = blocks(5)
    both, shifted = select("cpu", seed=4), select("cpu", seed=4)
    np.testing.assert_array_equal(Augment(shift=0.1, thickness=0)(x, both), Augment(shift=0.1)(x, shifted))
    Augment()(x, alone := select("cpu", seed=4))
    np.testing.assert_array_equal(both.rng.state, alone.rng.state)
    once, again = (Augment(shift=0.1)(x, shifted) for _ in range(2))
    assert (once != again).any()
