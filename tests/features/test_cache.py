"""Features kept in memory and on disk: the same training wherever they come from, and nothing lost to a kill."""

import errno
import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from collections import Counter, namedtuple
from pathlib import Path

import pytest
import torch
from squares import Squares

from geohp.errors import ChangedError, DataError
from geohp.features import disk as caching
from geohp.features import filling
from geohp.features.cache_folder import default_folder
from geohp.features.disk import FeatureCache
from geohp.features.filling import CacheOptions
from geohp.features.store import FeatureLayout, MappedStore, MemoryStore
from geohp.files.state import file_state

pytestmark = pytest.mark.usefixtures("one_thread")
PLENTY = 1 << 30


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(caching, "_CHUNK_IMAGES", 5)


@pytest.fixture
def cached(make_source, caplog):
    """Make a source with its features kept; gives it and what was logged."""
    caplog.set_level(logging.INFO, "geohp")

    def make(images, folder=None, *, limit=PLENTY, mode="disk", dtype="float32", **options):
        caplog.clear()
        source = make_source(images, **options)
        kept = source.cache(CacheOptions(mode, limit, folder, dtype))
        assert kept == (source.place is not None)
        return source, list(caplog.messages)

    return make


def chunks(folder):
    """Contents of all chunks by name, drafts and the like not allowed."""
    (only,) = folder.iterdir()
    names = {p.name for p in only.iterdir()}
    assert {"lock", "manifest.json"} <= names
    assert all(name.endswith(".safetensors") for name in names - {"lock", "manifest.json"})
    return {p.name: p.read_bytes() for p in sorted(only.glob("*.safetensors"))}


@pytest.mark.parametrize("name", ["vit", "rcf"])
def test_training_is_the_same_wherever_features_come_from(squares, make_backbone, cached, train_on, tmp_path, name):
    backbone = make_backbone(name)
    ways = {
        "online": {"mode": "off"},
        "memory": {"mode": "memory"},
        "made on disk": {"folder": tmp_path},
        "loaded into memory": {"folder": tmp_path},
        "mapped": {"folder": tmp_path, "limit": 0},
        "too large for memory": {"mode": "memory", "limit": 0},
        "read by processes": {"mode": "off", "workers": 2},
        "images kept": {"mode": "memory", "keep_images": True},
    }
    ends = {way: train_on(cached(squares(), backbone=backbone, **how)[0]) for way, how in ways.items()}
    assert len(set(ends.values())) == 1, ends


def test_half_precision_takes_half_the_room(squares, cached, tmp_path):
    whole, _ = cached(squares(), mode="memory")
    half, _ = cached(squares(labelled=False), tmp_path, dtype="float16", limit=0)
    assert sum(map(len, chunks(tmp_path).values())) < 23 * 4 * (192 + 9) * 2 * 1.3
    one, other = (next(source.sample(4)) for source in (whole, half))
    assert other.dtype == torch.float32
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    assert not torch.equal(one, other)


def test_later_epochs_and_runs_touch_no_image(squares, cached, tmp_path):
    data = tmp_path / "data"
    data.write_text("as it is")
    for first, limit in ((True, PLENTY), (False, PLENTY), (False, 0)):
        images = squares(files=[data])
        source, said = cached(images, tmp_path / "cache", limit=limit)
        looked = images.asked
        # All of them are read once; afterwards only those that tell whether the set is still the same.
        assert looked <= 1 + 23 + (23 if first else 0)
        assert ("computed once" in said[0]) == first, said
        for _ in range(2):
            for batch in source.batches():
                source.patches(batch)
        list(source.sample(20))
        assert images.asked == looked


class EachItsFile(Squares):
    """Squares that each come from a file of their own."""

    def files_of(self, indices):
        return [self._files[index] for index in indices]


@pytest.fixture
def files(tmp_path):
    (tmp_path / "data").mkdir()
    paths = [tmp_path / "data" / str(number) for number in range(23)]
    for path in paths:
        path.write_text("as it is")
    return paths


@pytest.fixture
def looks(monkeypatch):
    """How often a file's state has been asked for, by its path."""
    looks = Counter()

    def counting(path):
        looks[str(path)] += 1
        return file_state(path)

    monkeypatch.setattr("geohp.raster.read.unchanged.file_state", counting)
    return looks


@pytest.mark.parametrize("mode", ["memory", "disk"])
def test_each_file_is_looked_at_a_few_times_however_many_chunks_there_are(cached, files, tmp_path, looks, mode):
    images = EachItsFile(files=files)
    cached(images, tmp_path / "cache", mode=mode, unchanged=images.unchanged())
    assert set(looks) == {str(file) for file in files}
    assert set(looks.values()) == {3 if mode == "disk" else 2}  # at first, with its chunk, and in the end


def test_where_a_set_does_not_tell_its_files_apart_all_are_looked_at(squares, cached, files, tmp_path, looks):
    images = squares(files=files)
    cached(images, tmp_path / "cache", unchanged=images.unchanged())
    assert set(looks.values()) == {1 + 5 + 1}  # chunks of five


@pytest.mark.parametrize(
    ("number", "done", "stored"),
    [
        (12, 12, 2),  # its chunk is being computed
        (2, 12, 5),  # its chunk has been written: it is right, but those after it are of other files than the key
        (22, 12, 4),  # its chunk comes last
        (0, 23, 5),  # once everything is computed
    ],
)
def test_files_that_change_while_features_are_computed_are_noticed(make_source, files, tmp_path, number, done, stored):
    images = EachItsFile(files=files)
    source = make_source(images, unchanged=images.unchanged())

    def progress(stage, number_done, total, detail=""):
        if number_done >= done:
            os.utime(files[number], ns=(1, 1))

    with pytest.raises(ChangedError, match=rf"/{number}\)"):
        source.cache(CacheOptions("disk", PLENTY, tmp_path / "cache"), progress)
    assert len(chunks(tmp_path / "cache")) == stored


def test_labels_travel(squares, cached, tmp_path):
    images = squares()
    for limit in (PLENTY, 0):
        source, _ = cached(images, tmp_path, limit=limit)
        online, _ = cached(images, mode="off")
        for batch, other in zip(source.batches(), online.batches(), strict=True):
            assert "image" not in batch
            assert batch["mask"].dtype == torch.int64
            assert torch.equal(batch["mask"], other["mask"])
            assert batch["mask"].max() == 255
    source, _ = cached(squares(labelled=False), tmp_path)
    assert "mask" not in next(iter(source.batches()))


def test_images_travel_where_asked_for(squares, cached, tmp_path):
    source, _ = cached(squares(), tmp_path, keep_images=True)
    online, _ = cached(squares(), mode="off")
    for batch, other in zip(source.batches(), online.batches(), strict=True):
        assert torch.equal(batch["image"], other["image"])
        assert torch.equal(source.patches(batch).features, online.patches(other).features)


CHILD = """
import os, sys, time
sys.path.insert(0, {tests!r})
import squares
from geohp.features import disk as cache
from geohp.features.filling import CacheOptions
from geohp.features.sampler import FeatureSampler
cache._CHUNK_IMAGES = 5
class Held(squares.Squares):
    def __getitem__(self, index):
        # Two chunks are written, and the third is under way.
        while self.asked >= 1 + 23 + 12 and os.path.exists({gate!r}):
            time.sleep(0.01)
        return super().__getitem__(index)
Held.__module__, Held.__qualname__ = {module!r}, "Squares"
source = FeatureSampler(Held(files=[{gate!r}]), squares.small_backbone(), batch_size=4, seed=3)
assert source.cache(CacheOptions("disk", 1 << 30, {folder!r}))
"""


class Held:
    """Another run, held up after two of five chunks until ``gate`` goes."""

    def __init__(self, folder, gate, squares):
        gate.write_text("shut")
        self.gate, self.images = gate, squares(files=[gate])
        module = squares.__module__
        code = CHILD.format(
            tests=str(Path(__file__).parents[1] / "support"), folder=str(folder), gate=str(gate), module=module
        )
        self.process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
        while len(chunks_of(folder)) < 2:
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.01)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    def finish(self):
        _, err = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, err


def chunks_of(folder):
    return sorted(path for path in folder.glob("*/*.safetensors") if path.name[0] != ".")


def test_killed_half_way_it_goes_on_to_the_same_bytes(squares, cached, tmp_path):
    held = Held(tmp_path / "killed", tmp_path / "gate", squares)
    held.kill()
    there = {path: path.stat().st_mtime_ns for path in chunks_of(tmp_path / "killed")}
    assert len(there) == 2
    (next(iter(there)).parent / ".draft-00002.1.safetensors").write_bytes(b"half a chunk")
    cached(held.images, tmp_path / "killed")
    assert {path: path.stat().st_mtime_ns for path in there} == there, "chunks were made again"
    cached(held.images, tmp_path / "whole")
    assert chunks(tmp_path / "killed") == chunks(tmp_path / "whole")


@pytest.mark.parametrize("killed", [False, True])
def test_of_two_at_once_one_computes(squares, make_source, cached, tmp_path, killed):
    held = Held(tmp_path / "cache", tmp_path / "gate", squares)
    key = held.images.identity()
    held.images.identity = lambda: key  # with the gate, the file's state goes
    said = []

    class Listener(logging.Handler):
        def emit(self, record):
            said.append(record.getMessage())
            if "another run computes the same features" in said[-1]:
                held.kill() if killed else held.gate.unlink()

    held.images.asked = 0
    source, listener = make_source(held.images), Listener()
    logging.getLogger("geohp").addHandler(listener)
    assert source.cache(CacheOptions("disk", PLENTY, tmp_path / "cache"))
    logging.getLogger("geohp").removeHandler(listener)
    assert any("another run" in text for text in said)
    # Whoever waits takes what the other one computed, and over from one that is gone.
    assert held.images.asked == (1 + 13 if killed else 1)
    if not killed:
        held.finish()
    cached(held.images, tmp_path / "alone")
    assert chunks(tmp_path / "cache") == chunks(tmp_path / "alone")


@pytest.mark.parametrize("damage", ["a flipped bit", "cut off", "empty", "other contents"])
def test_a_damaged_chunk_is_computed_anew(squares, cached, train_on, tmp_path, damage):
    source, _ = cached(squares(), tmp_path)
    right, end = chunks(tmp_path), train_on(source)
    victim = chunks_of(tmp_path)[2]
    data = victim.read_bytes()
    if damage == "a flipped bit":
        data = data[:-5] + bytes([data[-5] ^ 1]) + data[-4:]
    if damage == "other contents":
        data = chunks_of(tmp_path)[4].read_bytes()
    victim.write_bytes({"cut off": data[:-100], "empty": b""}.get(damage, data))
    again, said = cached(squares(), tmp_path)
    assert any(str(victim) in text and "damaged" in text for text in said), said
    assert chunks(tmp_path) == right
    assert train_on(again) == end


def test_what_features_depend_on_tells_caches_apart(squares, make_backbone, cached, tmp_path):
    file = tmp_path / "image"
    file.write_bytes(b"pixels")
    cache = tmp_path / "cache"
    images = squares(files=[file])
    different = [
        lambda: cached(images, cache),
        lambda: cached(squares(22, files=[file]), cache),
        lambda: cached(squares(seed=1, files=[file]), cache),
        lambda: cached(squares(seed=1), cache),
        lambda: cached(squares(side=48, files=[file]), cache),
        lambda: cached(squares(labelled=False, files=[file]), cache),
        lambda: cached(images, cache, backbone=make_backbone(seed=1)),
        lambda: cached(images, cache, backbone=make_backbone(block=0)),
        lambda: cached(images, cache, backbone=make_backbone("rcf")),
        lambda: cached(images, cache, dtype="float16"),
    ]
    for number, make in enumerate(different, start=1):
        make()
        assert len(list(cache.iterdir())) == number
    file.write_bytes(b"pixelS")
    os.utime(file, (1, 1))
    cached(images, cache)
    assert len(list(cache.iterdir())) == len(different) + 1
    _, said = cached(squares(files=[file]), cache, batch_size=5)
    assert "computed before" in said[0]


def test_where_the_files_are_unknown_every_image_counts(squares):
    class Touched(squares):
        def __getitem__(self, index):
            item = super().__getitem__(index)
            item["image"][0, 0, 0] = 0.5 * (index == 17)
            return item

    Touched.__module__, Touched.__qualname__ = squares.__module__, squares.__qualname__
    assert Touched().identity() != squares().identity() == squares().identity()


@pytest.mark.parametrize("limit", [PLENTY, 0])
def test_a_disk_that_fills_up_is_left_again(squares, cached, train_on, tmp_path, monkeypatch, limit):
    whole = os.fsync

    def fsync(handle):
        if len(chunks_of(tmp_path)) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        whole(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    source, said = cached(squares(), tmp_path, limit=limit)
    assert any("No space left on device" in text for text in said)
    assert not list(tmp_path.iterdir())
    assert source.place == ("memory" if limit else None)
    assert train_on(source) == train_on(cached(squares(), mode="off")[0])


@pytest.mark.parametrize("limit", [PLENTY, 0])
def test_a_disk_that_is_short_is_not_begun(squares, cached, tmp_path, monkeypatch, limit):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(caching.shutil, "disk_usage", lambda _: usage(1 << 40, 1 << 40, 3 << 20))
    source, said = cached(squares(), tmp_path / "cache", limit=limit)
    assert any("only 3 MiB are free" in text for text in said)
    assert not (tmp_path / "cache").exists()
    assert source.place == ("memory" if limit else None)


def test_a_folder_that_cannot_be_made_is_done_without(squares, cached, tmp_path):
    (tmp_path / "file").write_text("in the way")
    source, said = cached(squares(), tmp_path / "file" / "cache")
    assert source.place == "memory"
    assert any("cannot be kept there" in text for text in said)


def test_automatically_only_what_takes_long_is_kept_on_disk(squares, cached, tmp_path, monkeypatch):
    images = squares()
    assert cached(images, tmp_path, mode="auto")[0].place == "memory"
    assert cached(images, tmp_path, mode="auto", limit=0)[0].place is None
    monkeypatch.setattr(filling, "_WORTH_WRITING_S", 0)
    assert cached(images, tmp_path, mode="auto")[0].place == "memory"
    assert not list(tmp_path.iterdir())
    assert "mapped" in cached(images, tmp_path, mode="auto", limit=0)[0].place
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(filling, "_WORTH_KEEPING_S", 0)
    assert "computed before" in cached(images, tmp_path, mode="auto")[1][0]
    assert "computed once and kept in" in cached(squares(seed=9), tmp_path, mode="auto")[1][0]


def test_features_too_large_for_half_precision_are_refused(squares, cached, make_backbone, tmp_path):
    backbone = make_backbone(seed=2)
    with torch.no_grad():
        backbone.model.blocks[-1].mlp.fc2.bias.fill_(1e6)
    with pytest.raises(DataError, match=r"not finite numbers in float16; set train.cache_dtype=float32"):
        cached(squares(), tmp_path, backbone=backbone, dtype="float16")
    assert cached(squares(), tmp_path, backbone=backbone)[0].place == "memory"


def test_a_source_travels_to_other_processes(squares, cached, tmp_path):
    for limit in (PLENTY, 0):
        source, _ = cached(squares(), tmp_path, limit=limit)
        other = pickle.loads(pickle.dumps(source))
        if not limit:  # files travel by their names
            mapped = source._store._chunks[0]
            assert len(pickle.dumps(mapped)) < 1000
        assert torch.equal(next(source.sample(4)), next(other.sample(4)))


def test_sizes_are_announced_before_anything_is_computed(squares, make_source, tmp_path, caplog):
    events = []

    class Listener(logging.Handler):
        def emit(self, record):
            events.append(record.getMessage())

    caplog.set_level(logging.INFO, "geohp")
    logging.getLogger("geohp").addHandler(listener := Listener())
    make_source(squares(120, side=16)).cache(
        CacheOptions("disk", PLENTY, tmp_path), lambda stage, done, total, detail="": events.append((done, total))
    )
    logging.getLogger("geohp").removeHandler(listener)
    assert "features of 120 images need 1 MiB" in events[0]
    assert str(tmp_path) in events[0]
    assert events[1:][-1] == (120, 120)
    done = [event[0] for event in events[1:]]
    assert done == sorted(done)


def test_the_usual_folder_is_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "geohp" / "features"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".cache" / "geohp" / "features"


def test_without_a_home_it_is_the_folder_of_temporary_files(monkeypatch, tmp_path):
    def no_such_user(number):
        raise KeyError(number)

    for name in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("pwd.getpwuid", no_such_user)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert default_folder() == tmp_path / "geohp" / "features"


def test_the_last_chunk_may_be_short_and_a_mapped_store_gathers_in_any_order(tmp_path):
    layout = FeatureLayout({"a": (torch.float16, (2, 3)), "b": (torch.uint8, ())})
    cache = FeatureCache(tmp_path, {"any": "thing"}, layout, 12)
    rows = {"a": torch.randn(12, 2, 3).half(), "b": torch.arange(12, dtype=torch.uint8)}
    assert [len(chunk) for chunk in cache.chunks] == [5, 5, 2]
    mapped, held = MappedStore(layout, cache.chunk_images), MemoryStore(layout, 12, torch.device("cpu"))
    with cache.locked():
        for chunk in cache.chunks:
            part = {name: t[chunk.start : chunk.stop] for name, t in rows.items()}
            mapped.put(chunk.start, cache.write(chunk, part))
            held.put(chunk.start, part)
    order = torch.tensor([11, 0, 7, 7, 3])
    for store in (mapped, held):
        gathered = store.gather(order, ["b", "a"])
        for name, tensor in gathered.items():
            assert torch.equal(tensor, rows[name][order])
