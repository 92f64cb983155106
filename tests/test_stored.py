"""Data in files: every sample once, mixed within windows, read ahead, resumed in mid-epoch, and what is no data."""

from __future__ import annotations

import gc
import json
import pickle
import re
import sys
import threading
import warnings
import weakref
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file
from thread_group import together

from xpnet import data, losses, nn, optim, train
from xpnet.backend import Backend
from xpnet.data import images
from xpnet.data.stored import AHEAD, BLOCKS, Stored
from xpnet.train.checkpoint import load_checkpoint, save_checkpoint
from xpnet.verify.strict import StrictBackend

N = 1000


def samples(n=N, dtype=np.float32):
    x = np.random.default_rng(0).integers(0, 99, (n, 2, 3)).astype(dtype)
    x[:, 0, 0] = np.arange(n) % 250
    return x, (x.reshape(n, 6) @ np.arange(6) % 3).astype(np.int64)


class Rows:
    """In memory; notes what is read, and in which thread."""

    def __init__(self, x):
        self.x, self.shape, self.dtype, self.reads = x, x.shape[1:], x.dtype, []

    def __len__(self):
        return len(self.x)

    def read(self, indices):
        self.reads.append((threading.current_thread().name, indices.tolist()))
        return self.x[indices]


def stored(window=160, n=N):
    x, y = samples(n)
    return Stored(Rows(x), y, window=window)


def begun(source, group=None, backend=None, batch_size=32):
    model = nn.Model(nn.Sequential(nn.Flatten(), nn.Linear(3)), (2, 3), backend or Backend("float32", 5))
    more = {} if group is None else {"group": group}
    return train.Run(model, losses.SoftmaxCrossEntropy(), optim.Adam(model, 0.01), source, batch_size, **more)


def go(run, n):
    with run.model.backend.mode(training=True):
        for _ in range(n):
            run.step()
    return run


# The order ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "window"), [(1000, 160), (997, 160), (50, 1), (30, 7), (1000, 1 << 14)])
def test_an_order_visits_each_sample_once(n, window):
    order = stored(window, n).order(3, 0)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(n))


def test_an_order_mixes_blocks_from_all_over_within_a_window():
    order = stored(window=160).order(3, 0)
    for begin in range(0, N - 160, 160):
        blocks = np.unique(order[begin : begin + 160] // (160 // BLOCKS))
        assert len(blocks) == BLOCKS
        assert np.ptp(blocks) > BLOCKS  # they are no neighbours,
        inside = order[begin : begin + 160]
        assert 50 < (np.diff(inside) < 0).sum() < 110  # nor is a block in its own order


def test_an_order_depends_on_seed_and_epoch_alone():
    orders = [stored().order(*key).tolist() for key in ((3, 0), (3, 0), (3, 1), (4, 0))]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert orders[0] != orders[3]
    first = [set(order[:160]) for order in orders]  # of the first window: other blocks
    assert first[0] != first[2]
    assert first[0] != first[3]


# Training -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", [Backend, StrictBackend])
def test_training_from_files_is_training_from_memory_in_that_order(backend):
    stored_ = stored()
    x, y = samples()

    class InMemory(data.Dataset):
        def order(self, seed, epoch):
            return stored_.order(seed, epoch)

    def trained(source):
        run = begun(source, backend=backend("float32", 5))
        train.fit(run.model, run.loss, run.optimizer, source, epochs=2, batch_size=32, quiet=True)
        if source is stored_ and backend is Backend:
            read = [i for thread, batch in source._rows.reads if "reader" in thread for i in batch]
            assert read == [*source.order(5, 0).tolist(), *source.order(5, 1).tolist()]
        return b"".join(a.tobytes() for a in run.model.tensors().values())

    assert trained(stored_) == trained(InMemory(x, y))


def test_batches_are_read_ahead_refused_and_each_once():
    source = stored()
    run = begun(source)
    source._rows.reads.clear()
    go(run, 1)
    run.feed._reader.submit(lambda: None).result()  # after what has been asked for
    assert len(source._rows.reads) == 1 + AHEAD
    go(run, 31)
    assert run.position.batch == len(run.slices)
    threads = {name for name, _ in source._rows.reads}
    assert len(threads) == 1
    assert threading.main_thread().name not in threads
    assert [i for _, read in source._rows.reads for i in read] == source.order(5, 0).tolist()


def test_an_epoch_that_is_left_leaves_nothing_to_the_next():
    source = stored()
    feed, parts = source.feed(Backend(), lambda x: x), data.batch_slices(N, 32)
    for order, asked in ((np.arange(N), parts[:3]), (np.arange(N)[::-1], parts[3:])):
        feed.begin(order, parts)
        for part in asked:
            _, y = feed.batch(*feed.inputs(part))
            assert y.tolist() == source.y[order[part]].tolist()


def test_a_run_goes_back_and_resumes_in_mid_epoch(tmp_path):
    run = go(begun(stored()), 10)
    save_checkpoint(run, tmp_path / "run")
    snapshot = run.snapshot()
    expected = go(run, 9).model.data.copy()
    run.go_back(snapshot)
    assert go(run, 9).model.data.tobytes() == expected.tobytes()
    resumed = begun(stored())
    load_checkpoint(resumed, tmp_path / "run")
    resumed.data._rows.reads.clear()
    assert go(resumed, 9).model.data.tobytes() == expected.tobytes()
    assert resumed.data._rows.reads[0][1] == resumed.data.order(5, 0)[320:352].tolist()  # nothing before is read again


def test_other_data_or_another_window_is_another_run():
    x, y = samples()
    digests = {stored().digest(), stored(window=320).digest(), Stored(Rows(x), 2 - y, window=160).digest()}
    x[0] += 1
    assert len(digests | {Stored(Rows(x), y, window=160).digest()}) == 4
    assert stored().digest() in digests


def test_a_group_shares_the_reading():
    seen = []

    def work(group):
        source = stored()
        run = go(begun(source, group), 32)
        seen.extend(i for name, read in source._rows.reads if name.startswith("xpnet") for i in read)
        return run.model.data

    values = together(3, work)
    assert sorted(seen) == list(range(N))
    np.testing.assert_allclose(values[0], go(begun(stored()), 32).model.data, rtol=1e-4, atol=1e-6)


def test_a_part_stays_in_its_files():
    x, y = samples()
    rows = Rows(x)
    source = Stored(rows, y, ("a", "b", "c"), "some", window=160)
    numbers = np.array([7, -1, 3])
    part = source.take(numbers)
    assert np.array_equal(part.read(np.array([2, 1])), x[[3, 999]])
    assert np.array_equal(part.y, y[numbers])
    assert (part.classes, part.name, part.window) == (("a", "b", "c"), "some", 160)
    assert np.array_equal(part.take(np.array([1])).read(np.array([0])), x[[999]])
    assert max(len(indices) for _, indices in rows.reads) == 2
    for bad, error in ([1000], IndexError), ([True, False], TypeError), ([], TypeError):
        with pytest.raises(error):
            source.take(bad)


def test_parts_of_files_are_split_as_those_in_memory():
    x, y = samples(100)
    in_memory, in_files = data.Dataset(x, y), Stored(Rows(x), y)
    pairs = zip(data.split(in_memory, 0.1, 3), data.split(in_files, 0.1, 3), strict=True)
    folds = zip(data.kfold(in_memory, 4, 3), data.kfold(in_files, 4, 3), strict=True)
    for whole, part in [*pairs, *(two for one, other in folds for two in zip(one, other, strict=True))]:
        assert np.array_equal(part.read(np.arange(len(part))), whole.x)
        assert np.array_equal(part.y, whole.y)


def test_classes_of_files_in_another_order():
    x, y = samples(10)
    source = Stored(Rows(x), y, ("a", "b", "c")).with_classes(iter(("c", "d", "b", "a")))
    assert np.array_equal(source.y, np.array([3, 2, 0])[y])
    assert source.classes == ("c", "d", "b", "a")
    assert np.array_equal(source.read(np.arange(10)), x)


def test_evaluating_reads_all_in_order():
    x, y = samples()
    source = stored()
    model = begun(source).model
    expected = train.evaluate(model, losses.SoftmaxCrossEntropy(), data.Dataset(x, y), batch_size=300)
    assert train.evaluate(model, losses.SoftmaxCrossEntropy(), source, batch_size=300) == expected


def test_a_value_that_is_not_finite_names_the_data():
    source = stored()
    source._rows.x[700, 1] = np.nan
    part = source.take(np.arange(500, 900))
    for broken in (source, part.take(np.arange(0, 400, 2))):  # by the number that it has in the files
        with pytest.raises(ValueError, match=r"^data: nan at index \(700, 1, 0\); every value must be finite$"):
            go(begun(broken), len(broken) // 32 + 1)


def test_an_error_of_the_reader_is_the_runs():
    source = stored()
    run = begun(source)
    source._rows.read = lambda indices: (_ for _ in ()).throw(OSError("the disk is gone"))
    with pytest.raises(OSError, match="the disk is gone"):
        go(run, 1)


class Slow(Rows):
    """Each batch of a step is read once the one before has been let through."""

    def __init__(self, x):
        super().__init__(x)
        self.through = threading.Semaphore(0)

    def read(self, indices):
        if threading.current_thread().name.startswith("xpnet-reader"):
            assert self.through.acquire(timeout=20)
        return super().read(indices)


def fit(source, model, **options):
    train.fit(model, losses.SoftmaxCrossEntropy(), optim.SGD(model, 0.1), source, quiet=True, **options)


@pytest.mark.parametrize("measuring", [False, True])
def test_when_a_run_has_ended_nothing_more_is_read(measuring, monkeypatch):
    x, y = samples()
    source = Stored(Slow(x), y)
    model, feeds, made = begun(source).model, [], source.feed
    monkeypatch.setattr(source, "feed", lambda *args: feeds.append(made(*args)) or feeds[-1])

    def breaks(*_):
        raise ZeroDivisionError

    def go_on():
        if measuring:
            train.evaluate(model, breaks, source, 10)
        else:
            fit(source, model, epochs=1, batch_size=10, augment=breaks)

    source._rows.through.release()
    source._rows.reads.clear()
    with pytest.raises(ZeroDivisionError):
        go_on()
    for _ in range(AHEAD + 1):
        source._rows.through.release()
    feeds[0]._reader.shutdown(wait=True)
    assert len([name for name, _ in source._rows.reads if name.startswith("xpnet")]) <= 2  # one was under way


def test_leaving_does_not_wait_for_a_slow_disk():
    source, reading, go_on, ended = stored(), threading.Event(), threading.Event(), []

    def slow(indices):
        reading.set()
        ended.append(go_on.wait(10))
        return source._rows.x[indices]

    source._rows.read = slow
    feed = source.feed(Backend(), lambda x: x)
    feed.begin(np.arange(N), data.batch_slices(N, 32))
    feed._read_ahead()
    assert reading.wait(20)
    feed.close()
    assert not ended
    go_on.set()


@pytest.mark.parametrize("fails", [1, 6])
def test_an_error_of_the_reader_keeps_nothing(fails, monkeypatch):
    """Not until Python looks for cycles: the reader's thread ends with what has asked for it."""
    source = stored()
    model, feeds, made, read = begun(source).model, [], source.feed, source._rows.read

    def feed(*args):
        one = made(*args)
        feeds.append(weakref.ref(one))
        return one

    def breaks(indices):
        if len(source._rows.reads) >= fails:
            raise OSError("the disk is gone")
        return read(indices)

    monkeypatch.setattr(source, "feed", feed)
    monkeypatch.setattr(source._rows, "read", breaks)
    source._rows.reads.clear()
    gc.collect()
    gc.disable()
    try:
        with suppress(OSError):
            fit(source, model, epochs=1, batch_size=10)
        assert [one() for one in feeds] == [None]
    finally:
        gc.enable()


# Files ----------------------------------------------------------------------------------------------------------


def test_npy_files_one_behind_the_other(tmp_path):
    x, y = samples()
    np.save(tmp_path / "a.npy", x[:300])
    np.save(tmp_path / "b.npy", x[300:])
    np.save(tmp_path / "y.npy", y)
    source = data.open_npy([tmp_path / "a.npy", tmp_path / "b.npy"], tmp_path / "y.npy", window=160)
    indices = np.array([999, 0, 299, 300, 5])
    assert np.array_equal(source.read(indices), x[indices])
    assert np.array_equal(source.y, y)
    assert repr(source) == "<a.npy: 1000 samples of 2 x 3 float32, in files>"
    assert go(begun(source), 32).model.data.tobytes() == go(begun(stored()), 32).model.data.tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.int64, np.float64])
def test_shards_of_safetensors(dtype, tmp_path):
    x, y = samples(dtype=dtype)
    for number, part in enumerate(np.array_split(np.arange(N), 3)):
        tensors = {"y": y[part], "other": np.zeros(3), "x": x[part], "thin": x[part, :1].copy()}
        save_file(tensors, tmp_path / f"{number}.safetensors")
    files = sorted(tmp_path.glob("*.safetensors"))
    source = data.open_shards(files)
    indices = np.arange(N)[::-7]
    assert np.array_equal(source.read(indices), x[indices])
    assert source.read(indices).dtype == dtype
    assert np.array_equal(source.y, y)
    assert np.array_equal(data.open_shards(files, x="thin").read(indices), x[indices, :1])


def test_shards_that_do_not_fit_each_other_are_named(tmp_path):
    """Also where samples and targets are equally many in all of them together."""
    x, y = samples(10)
    one, two = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    for first, second, reason in [
        ((x[:4], y[:6]), (x[4:], y[6:]), r"1\.safetensors has 4 samples, and targets of shape \(6,\)"),
        ((x[:4], y[:4]), (x[4:], y[:1][0]), r"2\.safetensors has 6 samples, and targets of shape \(\)"),
        (
            (x[:4], y[:4]),
            (x[4:], y[4:] / 1),
            r"2\.safetensors has targets of float64 \(\), .*1\.safetensors of int64 \(\)",
        ),
        (
            (x[:4], y[:4]),
            (x[4:], y[4:, None]),
            r"2\.safetensors has targets of int64 \(1,\), .*1\.safetensors of int64",
        ),
        ((x[:4], y[:4]), (x[4:].astype(float), y[4:]), r"2\.safetensors has samples of float64 \(2, 3\), "),
        ((x[:4], y[:4]), (x[:0], y[:0]), r"2\.safetensors has no sample in it"),
    ]:
        for path, (its_x, its_y) in ((one, first), (two, second)):
            save_file({"x": np.ascontiguousarray(its_x), "y": np.array(its_y)}, path)
        with pytest.raises(ValueError, match=reason):
            data.open_shards([one, two])
    save_file({"x": x[:4], "y": y[:4]}, one)
    for path in (one, str(one)):
        assert len(data.open_shards(path)) == 4


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit of open files that can be lowered")
@pytest.mark.parametrize("free", [0, 1, 2, 3])
def test_more_files_than_may_be_open_are_named(free, tmp_path):
    """Whatever of opening a file it is that meets the limit."""
    import resource

    x, y = samples(10)
    np.save(tmp_path / "0.npy", x)
    save_file({"x": x, "y": y}, tmp_path / "0.safetensors")
    data.open_shards(tmp_path / "0.safetensors")  # and what it imports
    limits, held = resource.getrlimit(resource.RLIMIT_NOFILE), []
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, limits[1]))
    try:
        with suppress(OSError):
            while True:
                held.append(open(tmp_path / "0.npy", "rb"))  # noqa: SIM115 (closed below)
        for file in held[len(held) - free :]:
            file.close()
        for opening, name in (
            (lambda: data.open_npy([tmp_path / "0.npy"] * 9, np.tile(y, 9)), "npy"),
            (lambda: data.open_shards([tmp_path / "0.safetensors"] * 9), "safetensors"),
        ):
            with pytest.raises(OSError, match=rf"use fewer, larger files, .* ulimit -n: '.*0\.{name}'"):
                opening()
    finally:
        for file in held:
            file.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_folders_of_images(tmp_path):
    for name, colour in (("cats", (250, 10, 0)), ("dogs", (0, 20, 240))):
        (tmp_path / name).mkdir()
        for number in range(3):
            Image.new("RGB", (8 + number, 6), colour).save(tmp_path / name / f"{number}.png")
    (tmp_path / "cats" / ".hidden").write_text("no image")
    (tmp_path / "cats" / "notes.txt").write_text("no image")
    source = data.open_images(tmp_path, size=(6, 8))
    assert (source.classes, source.y.tolist()) == (("cats", "dogs"), [0, 0, 0, 1, 1, 1])
    read = source.read(np.array([5, 0]))
    assert (read.shape, read.dtype) == ((2, 6, 8, 3), np.uint8)
    assert read[:, 3, 4].tolist() == [[0, 20, 240], [250, 10, 0]]
    grey = data.open_images(tmp_path, size=4, grey=True)
    assert grey.x.shape == (6, 4, 4)
    assert sorted(grey.order(0, 0).tolist()) == list(range(6))
    (tmp_path / "dogs" / "1.png").write_text("no image")
    with pytest.raises(ValueError, match=r"1\.png is not an image that can be read"):
        source.read(np.arange(6))
    (tmp_path / "birds").mkdir()
    with pytest.raises(ValueError, match="birds holds no image"):
        data.open_images(tmp_path, size=(6, 8))


def test_samples_that_are_not_there_are_refused(tmp_path):
    x, y = samples(20)
    for name, part in (("a", x[:10]), ("b", x[10:])):
        np.save(tmp_path / f"{name}.npy", part)
    source = data.open_npy([tmp_path / "a.npy", tmp_path / "b.npy"], y)
    for wrong in ([-1], [20], [3, 25]):
        with pytest.raises(IndexError, match=r"a\.npy has samples 0\.\.19, not"):
            source.read(np.array(wrong))
    with pytest.raises(TypeError, match=r"integers of shape \(M,\), not bool"):
        source.read(np.arange(20) == 3)
    np.testing.assert_array_equal(source.read(np.array([19, 0, 10])), x[[19, 0, 10]])
    assert len(source.read(np.array([], int))) == 0


def test_what_is_no_data_is_named(tmp_path):
    x, y = samples(10)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "wide.npy", x[:, :, :2])
    np.save(tmp_path / "none.npy", x[:0])
    (tmp_path / "text.npy").write_text("no array")
    np.save(tmp_path / "words.npy", np.array(["cat"] * 10))
    save_file({"x": x}, tmp_path / "x.safetensors")
    header = json.dumps({"x": {"dtype": "F32", "shape": [10], "data_offsets": [0, 40]}}).encode()
    (tmp_path / "cut.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    for opening, reason in [
        (lambda: data.open_npy(tmp_path / "x.npy", y[:9]), "10 samples and 9 targets"),
        (lambda: data.open_npy([tmp_path / "x.npy", tmp_path / "wide.npy"], y), r"wide\.npy has samples of float32"),
        (lambda: data.open_npy(tmp_path / "none.npy", y), r"none\.npy has no sample"),
        (
            lambda: data.open_npy(tmp_path / "text.npy", y),
            r"text\.npy is not a .* read: it is no array, or one of Python o",
        ),
        (lambda: data.open_npy(tmp_path / "words.npy", y), r"words\.npy holds no array of numbers"),
        (lambda: data.open_npy([], y), "no file was named"),
        (lambda: data.open_npy(tmp_path / "x.npy", y, window=0), "window must be a whole number >= 1, not 0"),
        (lambda: data.open_shards([tmp_path / "x.safetensors"]), "has no tensor 'y': it has x"),
        (lambda: data.open_shards([tmp_path / "cut.safetensors"]), r"cut\.safetensors is not a complete safetensors"),
        (lambda: data.open_shards([]), "no file was named"),
        (lambda: data.open_images(tmp_path, (8, 8)), "needs a folder of images for each class, and two"),
    ]:
        with pytest.raises(ValueError, match=reason):
            opening()
    for opening in (lambda: data.open_npy(tmp_path / "?", y), lambda: data.open_images(tmp_path / "?", (8, 8))):
        with pytest.raises(FileNotFoundError):
            opening()


@pytest.mark.parametrize("grey", [True, False])
def test_images_are_those_of_the_folder_in_memory(tmp_path, grey):
    """Of 16 bits too, whose upper ones are taken, and resized."""
    rng = np.random.default_rng(0)
    for name, top, dtype in (("a", 65536, np.uint16), ("b", 256, np.uint8)):
        (tmp_path / name).mkdir()
        for i in range(2):
            Image.fromarray(rng.integers(0, top, (6, 8)).astype(dtype)).save(tmp_path / name / f"{i}.png")
    memory, stored = data.image_folder(tmp_path, (4, 5)), data.open_images(tmp_path, (4, 5), grey)
    read = stored.read(np.arange(4))
    assert read.shape == ((4, 4, 5) if grey else (4, 4, 5, 3))
    np.testing.assert_array_equal(read if grey else read[..., 1], memory.x)


def a_tag_of(tiff, number):
    """Where the count of this tag stands in the bytes of a TIFF file of one image."""
    directory = int.from_bytes(tiff[4:8], "little")
    entries = range(directory + 2, directory + 2 + 12 * int.from_bytes(tiff[directory : directory + 2], "little"), 12)
    return next(at + 4 for at in entries if int.from_bytes(tiff[at : at + 2], "little") == number)


@pytest.fixture
def damaged(tmp_path):
    """Two classes of an image each, of which Pillow reads the first as noise, and warns."""
    image = Image.fromarray(np.arange(360, dtype=np.uint8).reshape(12, 10, 3))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        image.save(tmp_path / name / "0.tiff", compression="tiff_lzw")
    bytes_ = bytearray((tmp_path / "a" / "0.tiff").read_bytes())
    at = a_tag_of(bytes_, 259)  # the compression
    bytes_[at : at + 4] = (200).to_bytes(4, "little")
    (tmp_path / "a" / "0.tiff").write_bytes(bytes_)
    return tmp_path


DAMAGED = r"0\.tiff is not an image that can be read: Metadata Warning, tag 259 had too many entries"


def test_damage_that_pillow_only_warns_of_is_none_to_be_read(damaged):
    refused = []

    def read():
        try:
            data.open_images(damaged, 8)
        except ValueError as error:
            refused.append(str(error))

    for action in ("default", "ignore"):  # as programs do
        read()
        with warnings.catch_warnings():
            warnings.simplefilter(action)
            for opening in (data.image_folder, data.open_images):
                with pytest.raises(ValueError, match=DAMAGED):
                    opening(damaged, 8)
            thread = threading.Thread(target=read)
            thread.start()
            thread.join()
    assert len(refused) == 4
    assert all(re.search(DAMAGED, words) for words in refused)


def test_a_damaged_image_is_refused_even_if_pillow_has_warned_of_it_before(damaged):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        for _ in range(2):
            Image.open(damaged / "a" / "0.tiff").close()
        assert len(told) == 1  # once and for all
        with pytest.raises(ValueError, match=DAMAGED):
            data.image_folder(damaged, 8)


def test_scikit_learn_runs_its_tasks_where_an_image_was_read(damaged):
    """It sends the filters of warnings with each task, to other processes too, and makes them anew there."""
    parallel = pytest.importorskip("sklearn.utils.parallel")
    images.read_image(damaged / "b" / "0.tiff", None, None)
    assert images._FILTER in warnings.filters
    assert pickle.loads(pickle.dumps(warnings.filters)) == warnings.filters
    assert parallel.Parallel()(parallel.delayed(abs)(n) for n in (-1, 2)) == [1, 2]
    assert not re.match(images._reading.pattern, "no image")  # there nothing is made an error


def test_where_an_image_is_read_other_threads_warn_as_they_did(damaged, monkeypatch):
    """And so does this one, when it is read."""

    def warn():
        warnings.warn_explicit("beside", UserWarning, "Image.py", 1, "PIL.Image")  # where that is an error, it ends

    def pixels(*_):
        thread = threading.Thread(target=warn)
        thread.start()
        thread.join()
        return np.zeros((8, 8, 3), np.uint8)

    monkeypatch.setattr(images, "pixels", pixels)
    (damaged / "a" / "0.tiff").write_bytes((damaged / "b" / "0.tiff").read_bytes())
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert data.open_images(damaged, 8).read(np.arange(2)).shape == (2, 8, 8, 3)
        warn()
    assert [str(one.message) for one in told] == ["beside"] * 4


def test_images_are_read_by_a_pillow_that_will_remove_what_reading_them_uses(damaged, monkeypatch):
    """It says so in the module that uses it. What other code in this thread warns of is no damage either."""

    def pixels(*_):
        warnings.warn("to be removed in Pillow 99", DeprecationWarning, stacklevel=2)
        return np.zeros((8, 8, 3), np.uint8)

    monkeypatch.setattr(images, "pixels", pixels)
    with pytest.warns(DeprecationWarning, match="Pillow 99"):
        assert images.read_image(damaged / "b" / "0.tiff", None, None).shape == (8, 8, 3)


def test_whatever_a_decoder_raises_names_the_image(damaged, monkeypatch):
    """Pillow lets the errors of its decoders through, a RuntimeError of AVIF's among them; a full memory is none."""
    for raised, error, words in [
        (
            RuntimeError("Failed to decode image"),
            ValueError,
            r"0\.tiff is not an image that can be read: Failed to decode image",
        ),
        (MemoryError("full"), MemoryError, "full"),
    ]:
        monkeypatch.setattr(images, "pixels", lambda *_, raised=raised: (_ for _ in ()).throw(raised))
        (damaged / "a" / "0.tiff").write_bytes((damaged / "b" / "0.tiff").read_bytes())
        with pytest.raises(error, match=words):
            data.open_images(damaged, 8)


def test_an_image_that_would_fill_the_memory_is_none_to_be_read(damaged, monkeypatch):
    (damaged / "a" / "0.tiff").write_bytes((damaged / "b" / "0.tiff").read_bytes())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(
        ValueError, match=r"0\.tiff is not an image that can be read: Image size \(120 pixels\) exceeds"
    ):
        data.open_images(damaged, 8)
