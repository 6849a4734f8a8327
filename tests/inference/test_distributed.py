"""The same blocks on several processes: the same bytes, whatever becomes of workers and client."""

import gc
import logging
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from geohp.errors import ClusterError, ConfigError, ModelError, OutputError, ReadError, SceneError
from geohp.files.unfinished import work_folder
from geohp.inference.cluster import client as distributing
from geohp.inference.cluster import workers
from geohp.inference.cluster.connection import connect
from geohp.inference.cluster.groups import group_blocks, windows_of
from geohp.inference.cluster.workers import SharedScene, TaskSpec, process_blocks
from geohp.inference.engine.settings import EngineSettings, engine_settings
from geohp.inference.extent import Extent
from geohp.inference.map_options import ModelOptions, RasterOptions
from geohp.inference.products import Products
from geohp.inference.rasters import raster_layers, write_rasters
from geohp.inference.segment import resolve_segmenter
from geohp.inference.segmenter import Segmenter
from geohp.model.digest import model_sha256
from geohp.model.file import save_model
from geohp.options import WindowOptions
from geohp.raster.read.scene import Scene, open_scene

pytest.importorskip("distributed")

TILE = 64
WINDOWS = WindowOptions(window_px=96)


@pytest.fixture(scope="module", autouse=True)
def small_blocks():
    """Blocks of a few windows, so that a small scene has many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("geohp.inference.engine.settings.BLOCK_PX", 150)
        yield


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Fields of colour, 800 x 620 px of 16 bits, whose range has to be measured; no data in a corner."""
    rng = np.random.default_rng(0)
    fields = rng.integers(200, 4000, (3, 20, 16)).repeat(40, 1).repeat(40, 2)[:, :800, :620]
    data = (fields + rng.integers(1, 600, (3, 800, 620))).astype(np.uint16)
    data[:, :180, :200] = 0
    path = tmp_path_factory.mktemp("scene") / "scene.tif"
    options = {"driver": "GTiff", "width": 620, "height": 800, "count": 3, "dtype": "uint16", "nodata": 0}
    tiles = {"tiled": True, "blockxsize": TILE, "blockysize": TILE, "compress": "deflate", "interleave": "pixel"}
    place = {"crs": "EPSG:32633", "transform": Affine(0.5, 0, 3e5, 0, -0.5, 5e6)}
    with rasterio.open(path, "w", **options, **tiles, **place) as out:
        out.write(data)
    return path


@pytest.fixture(scope="module")
def segmenter(scene):
    return Segmenter(resolve_segmenter(scene, ModelOptions(classes=4)).model, origin="a model for tests")


@pytest.fixture(scope="module")
def client():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with connect(workers=2) as client:
            yield client
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def as_on_workers(client):
    """As many threads here as a worker has."""
    before = torch.get_num_threads()
    (threads,) = {said.threads for said in client.run(workers.worker_info).values()}
    assert threads == 1
    torch.set_num_threads(threads)
    yield threads
    torch.set_num_threads(before)


def wait_for_both(client):
    """Until the nannies have put new workers in the place of dead ones, also of those that are about to die."""
    steady = 0
    deadline = time.monotonic() + 600  # a new worker imports torch, and dask waits 30 s for each that it finds dead
    while steady < 10:
        assert time.monotonic() < deadline
        time.sleep(0.1)
        try:
            steady = steady + 1 if len(set(client.run(os.getpid).values())) == 2 else 0
        except OSError:
            steady = 0


def outputs(folder, name, *, all_of_them=False):
    folder.mkdir(exist_ok=True)
    kinds = ("confidence", "entropy", "probabilities") if all_of_them else ()
    return Products(folder / f"{name}.tif", **{kind: folder / f"{name}-{kind}.tif" for kind in kinds})


def run(segmenter, scene, out, **options):
    with segmenter.open(scene) as opened:
        return write_rasters(opened, segmenter, out, RasterOptions(window_px=96, **options))


def contents(out):
    return {name: path.read_bytes() for name, path in out.rasters.items()}


@pytest.fixture(scope="module")
def whole(segmenter, scene, client, tmp_path_factory):
    """What one process writes, with as many threads as a worker."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    out = outputs(tmp_path_factory.mktemp("whole"), "labels", all_of_them=True)
    run(segmenter, scene, out)
    torch.set_num_threads(before)
    with rasterio.open(out.labels) as labels:
        assert len(np.unique(labels.read(1))) == 5
    return contents(out)


def test_every_output_is_the_same_to_the_byte(segmenter, scene, client, whole, tmp_path):
    told = []
    out = outputs(tmp_path, "labels", all_of_them=True)
    written = run(segmenter, scene, out, client=client, progress=lambda stage, *done: told.append(done))
    assert written.skipped == ()
    assert contents(out) == whole
    assert len(list(tmp_path.iterdir())) == 4  # nothing else is left
    with segmenter.open(scene) as opened:
        chosen = engine_settings(segmenter.model, opened, WINDOWS)
        windows = len(chosen.grid(800, 620))
    done = [number for number, _ in told]
    assert done == sorted(done)
    assert told[-1] == (windows, windows)
    assert {total for _, total in told} == {windows}


def test_a_worker_loads_the_model_once_and_measures_nothing(segmenter, scene, client, tmp_path):
    def watch():
        from geohp.inference.cluster import workers
        from geohp.raster.read import scene as scenes

        def loading(*arguments):
            workers.seen["models"] += 1
            return workers.plain[0](*arguments)

        def opening(*arguments, **keywords):
            workers.seen["scenes"] += 1
            return workers.plain[1](*arguments, **keywords)

        def measuring(*arguments):
            raise AssertionError("measured again")

        workers.seen = {"models": 0, "scenes": 0}
        workers.plain = workers.load_model, workers.open_scene, scenes.resolve_scaling
        workers.load_model, workers.open_scene, scenes.resolve_scaling = loading, opening, measuring
        workers.release()

    def unwatch():
        from geohp.inference.cluster import workers
        from geohp.raster.read import scene as scenes

        workers.load_model, workers.open_scene, scenes.resolve_scaling = workers.plain
        return workers.seen

    client.run(watch)
    try:
        for name in ("a", "b"):
            run(segmenter, scene, outputs(tmp_path, name), client=client)
    finally:
        seen = list(client.run(unwatch).values())
    assert all(one["models"] <= 1 and one["scenes"] <= 2 for one in seen)  # one model; a scene opened once a run
    assert sum(one["models"] for one in seen) == 2  # both workers had work to do
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


def test_a_killed_worker_costs_nothing_but_time(segmenter, scene, client, whole, tmp_path):
    out = outputs(tmp_path, "labels", all_of_them=True)
    pids = list(client.run(os.getpid).values())

    def kill(stage, done, total):
        if len(pids) == 2:
            assert done < total
            os.kill(pids.pop(), signal.SIGKILL)

    run(segmenter, scene, out, client=client, progress=kill)
    assert len(pids) == 1
    assert contents(out) == whole
    wait_for_both(client)


def test_a_worker_that_takes_long_to_come_back_is_waited_for():
    import dask

    usual = dask.config.get("distributed.deploy.lost-worker-timeout")
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "1s"}), connect(workers=1) as client:
        (nanny,) = client.cluster.workers.values()
        first = nanny.pid
        os.kill(first, signal.SIGKILL)
        assert workers.wait_until(lambda: nanny.pid not in (None, first), patience_s=60)
        second = nanny.pid
        os.kill(second, signal.SIGSTOP)  # as on a machine that has no time for it
        time.sleep(3)
        os.kill(second, signal.SIGCONT)
        assert list(client.cluster.workers.values()) == [nanny]
        assert client.submit(abs, -1).result(timeout=300) == 1
    assert dask.config.get("distributed.deploy.lost-worker-timeout") == usual


def test_interrupted_it_goes_on_without_the_cluster(segmenter, scene, client, whole, as_on_workers, tmp_path):
    out = outputs(tmp_path, "labels", all_of_them=True)

    def interrupt(stage, done, total):
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(segmenter, scene, out, client=client, progress=interrupt)
    folder = work_folder(out.labels)
    assert (folder / "journal.jsonl").read_bytes().count(b"\n") >= 1
    assert not list(folder.glob("model-*"))
    told, all_windows = [], []
    run(segmenter, scene, out, progress=lambda stage, done, total: told.append(total))
    assert contents(out) == whole
    run(segmenter, scene, outputs(tmp_path, "anew"), progress=lambda stage, done, total: all_windows.append(total))
    assert len(told) < len(all_windows)


def test_begun_alone_it_goes_on_with_the_cluster(segmenter, scene, client, whole, as_on_workers, tmp_path):
    out = outputs(tmp_path, "labels", all_of_them=True)

    def interrupt(stage, done, total):
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(segmenter, scene, out, progress=interrupt)
    told = []
    run(segmenter, scene, out, client=client, progress=lambda stage, done, total: told.append(total))
    with segmenter.open(scene) as opened:
        assert told[-1] < len(engine_settings(segmenter.model, opened, WINDOWS).grid(800, 620))
    assert contents(out) == whole


@pytest.fixture
def damaged(scene, segmenter, tmp_path):
    """The scene with one tile that cannot be decoded, at row 640, column 320, open."""
    path = tmp_path / "damaged.tif"
    path.write_bytes(scene.read_bytes())
    with rasterio.open(path) as dataset:
        offset = int(dataset.get_tag_item(f"BLOCK_OFFSET_{320 // TILE}_{640 // TILE}", "TIFF", bidx=1))
        size = int(dataset.get_tag_item(f"BLOCK_SIZE_{320 // TILE}_{640 // TILE}", "TIFF", bidx=1))
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * size)
    with segmenter.open(scene) as sound:
        scaling = sound.scaling  # it could not be measured here
    with open_scene(path, bands=segmenter.model.card.bands, scaling=scaling) as opened:
        yield opened


def test_what_a_worker_cannot_read_is_told_in_a_sentence(segmenter, damaged, client, tmp_path):
    with pytest.raises(SceneError, match=r"damaged\.tif cannot be read at row") as error:
        run(segmenter, damaged, outputs(tmp_path, "labels"), client=client)
    assert "\n" not in str(error.value)
    assert type(error.value) is ReadError


def test_what_cannot_be_read_is_left_out_by_workers_as_by_one_process(
    segmenter, damaged, client, as_on_workers, tmp_path
):
    alone, shared = outputs(tmp_path, "alone"), outputs(tmp_path, "shared")
    expected = run(segmenter, damaged, alone, on_read_error="nodata")
    found = run(segmenter, damaged, shared, on_read_error="nodata", client=client)
    assert [(part.row, part.col, part.height, part.width) for part in expected.skipped] == [(512, 256, 256, 256)]
    assert found == expected
    assert shared.labels.read_bytes() == alone.labels.read_bytes()


def test_tasks_in_flight_are_bounded(segmenter, scene, client, tmp_path, monkeypatch):
    monkeypatch.setattr(distributing, "_IN_FLIGHT", 1)
    monkeypatch.setattr("geohp.inference.cluster.groups._GROUP_STRIDES", 1)  # a block a task
    plain, sent, open_at_once = client.submit, [], []

    def submitting(*arguments, **keywords):
        open_at_once.append(sum(not future.done() for future in sent))
        sent.append(plain(*arguments, **keywords))
        return sent[-1]

    monkeypatch.setattr(client, "submit", submitting)
    run(segmenter, scene, outputs(tmp_path, "labels"), client=client)
    assert len(sent) > 10
    assert max(open_at_once) < 4  # two a worker


def test_ctrl_c_is_left_to_the_main_process(client):
    assert set(client.run(signal.getsignal, signal.SIGINT).values()) == {signal.SIG_IGN}


def test_that_the_main_process_has_closed_is_no_traceback_of_a_worker_s(client):
    def is_logged(message, error):
        logger = logging.getLogger("distributed.worker")
        record = logger.makeRecord(logger.name, logging.ERROR, "", 0, message, (), (type(error), error, None))
        return bool(logger.filter(record))

    heartbeat = "Failed to communicate with scheduler during heartbeat."
    assert set(client.run(is_logged, heartbeat, OSError("closed")).values()) == {False}
    assert set(client.run(is_logged, heartbeat, ValueError("a defect")).values()) == {True}
    assert set(client.run(is_logged, "the disk is full", OSError("full")).values()) == {True}


def test_a_local_scheduler_keeps_nothing_of_past_tasks(client):
    def count_objects(tasks):
        for number in range(tasks):
            client.run(workers.worker_info)
            assert client.submit(abs, -number, pure=False).result() == number
        gc.collect()
        return len(gc.get_objects())

    counts = [count_objects(tasks) for tasks in (70, 30, 30, 30)]
    assert min(np.diff(counts)) / 30 < 6  # what is kept of every task is so in all three


def test_nothing_is_left_of_workers_on_this_machine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with connect(workers=1) as client:
        folders = client.run(lambda dask_worker: dask_worker.local_directory).values()
        assert all(Path(folder).is_relative_to(tmp_path) for folder in folders)
    assert not list(tmp_path.iterdir())


def test_another_version_is_refused(segmenter, scene, client, tmp_path):
    def pretend(version):
        from geohp.inference.cluster import workers

        workers.__version__ = version

    address = next(iter(client.scheduler_info()["workers"]))
    client.run(pretend, "0.0.1", workers=[address])
    try:
        with pytest.raises(ClusterError, match=r"runs geohp 0\.0\.1, but this is geohp .*; install the same version"):
            run(segmenter, scene, outputs(tmp_path, "labels"), client=client)
    finally:
        client.run(pretend, workers_version())
    assert not list(tmp_path.iterdir())


def test_a_worker_lost_as_it_is_asked_for_its_version_does_not_count():
    class Client:
        def run(self, function, on_error):
            return {"tcp://lost": OSError("Stream is closed"), "tcp://other": workers.WorkerInfo(workers_version(), 3)}

    assert distributing._common_threads(Client()) == 3


def test_where_there_are_no_workers_yet_they_will_compute_with_one_thread(caplog):
    client = SimpleNamespace(run=lambda *_, **__: {}, scheduler=SimpleNamespace(address="tcp://there:8786"))
    assert distributing._common_threads(client) == 1
    assert "tcp://there:8786 has no workers yet; waiting for them" in caplog.text


def workers_version():
    from geohp.version import __version__

    return __version__


def test_workers_that_die_of_a_task_are_told_of(segmenter, scene, client, tmp_path, monkeypatch):
    def deadly(spec, blocks):
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(workers, "process_blocks", deadly)
    monkeypatch.setattr(client.cluster.scheduler, "allowed_failures", 0)
    with pytest.raises(ClusterError, match=r"died .* give each worker more, or use a smaller window_px="):
        run(segmenter, scene, outputs(tmp_path, "labels"), client=client)
    assert not list(tmp_path.iterdir())
    wait_for_both(client)


@pytest.fixture
def impatient(monkeypatch):
    """Who waits for workers looks often, and gives up soon."""
    monkeypatch.setattr(distributing, "_LOOK_S", 0.05)
    monkeypatch.setattr(distributing, "NO_LOCAL_WORKER_S", 0.5)


@pytest.fixture
def deserted():
    """The client of a local cluster without workers."""
    import distributed

    options = {"n_workers": 0, "threads_per_worker": 1, "processes": False, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster, set_as_default=False) as client:
        yield client


def test_without_workers_it_ends_in_a_sentence_and_goes_on_when_there_are_some(
    segmenter, scene, deserted, impatient, tmp_path
):
    out = outputs(tmp_path, "labels")
    with pytest.raises(ClusterError, match=r"has had no worker for 0 minutes, and \d+ tasks wait; start workers"):
        run(segmenter, scene, out, client=deserted)
    assert not list(tmp_path.iterdir())
    deserted.cluster.scale(1)
    run(segmenter, scene, out, client=deserted)
    assert out.labels.is_file()


def test_workers_that_come_late_are_waited_for(segmenter, scene, deserted, impatient, tmp_path, monkeypatch):
    monkeypatch.setattr(distributing, "NO_LOCAL_WORKER_S", 60.0)
    monkeypatch.setattr(deserted, "submit", Submitting(deserted))
    out = outputs(tmp_path, "labels")
    run(segmenter, scene, out, client=deserted)
    assert out.labels.is_file()


class Submitting:
    """Hands out tasks, and starts a worker a second after the first."""

    def __init__(self, client):
        self.count, self._submit, self._cluster = 0, client.submit, client.cluster

    def __call__(self, *arguments, **keywords):
        if not self.count:
            threading.Timer(1.0, self._cluster.scale, [1]).start()
        self.count += 1
        return self._submit(*arguments, **keywords)


def test_only_time_without_any_worker_counts(monkeypatch):
    clock = SimpleNamespace(now=0.0, there={}, error=None)

    def nthreads():
        if clock.error:
            raise clock.error
        return clock.there

    client = SimpleNamespace(cluster=None, nthreads=nthreads, scheduler=SimpleNamespace(address="tcp://there:8786"))
    monkeypatch.setattr(distributing.time, "monotonic", lambda: clock.now)
    presence = distributing._Presence(client)

    def check_at(now, there=None, error=None):
        clock.now, clock.there, clock.error = now, there or {}, error
        presence.check(7)

    check_at(3599)
    check_at(3605, {"tcp://worker": 2})  # at the last moment
    check_at(7200)
    check_at(7204, error=OSError("the scheduler is gone"))  # too soon to be asked
    check_at(7205, error=OSError("the scheduler is gone"))  # tasks will say so
    check_at(7205 + 3600)
    with pytest.raises(ClusterError, match="the cluster at tcp://there:8786 has had no worker for 60 minutes, and 7"):
        check_at(7205 + 3605)


@pytest.fixture
def spec(segmenter, scene, tmp_path):
    """A task as a worker gets it, and all blocks."""
    folder = tmp_path / "work"
    folder.mkdir()
    model = save_model(segmenter.model, folder / "model-1.safetensors", embed_backbone=True)
    with segmenter.open(scene) as opened:
        chosen = engine_settings(segmenter.model, opened, WINDOWS)
        layers = raster_layers(segmenter, chosen, opened)
        spec = TaskSpec(
            folder=folder,
            model=model,
            sha256=workers.sha256_of(model),
            weights=model_sha256(segmenter.model),
            device="cpu",
            threads=torch.get_num_threads(),
            source=SharedScene.of(opened),
            settings=chosen,
            layers={"labels": (0, layers["labels"])},
            errors_as_nodata=False,
            extent=Extent(opened.grid.block),
            version=workers_version(),
        )
        blocks = chosen.blocks(chosen.grid(800, 620), 4)
    yield spec, blocks
    workers.release()


def test_a_task_is_refused_where_it_cannot_be_followed(spec, scene, tmp_path, monkeypatch):
    spec, blocks = spec
    monkeypatch.setattr(workers.wait_until, "__defaults__", (0.05,))

    def refused(kind, match, **changes):
        error = process_blocks(replace(spec, **changes), blocks[:1])
        assert type(error) is kind
        assert "\n" not in str(error)
        assert match in str(error)

    refused(ClusterError, "install the same version", version="0.0.1")
    refused(OutputError, "a folder that all workers share", folder=tmp_path / "no", model=tmp_path / "no" / "model")
    refused(ModelError, "is damaged", sha256="0" * 64)
    moved = replace(spec.source, path=str(tmp_path / "nowhere.tif"))
    refused(SceneError, "storage that all workers share", source=moved)
    other = tmp_path / "other.tif"
    other.write_bytes(scene.read_bytes() + b"more")
    refused(SceneError, "is another file", source=replace(spec.source, path=str(other)))
    assert sorted(path.name for path in spec.folder.iterdir()) == ["model-1.safetensors"]
    done = process_blocks(spec, blocks[-1:])
    assert [(one.row, one.col) for one in done] == [blocks[-1][:2]]


def test_who_is_left_behind_by_a_stopped_run_writes_no_more(spec, monkeypatch):
    spec, blocks = spec
    plain = workers.write_block

    def stopping(*arguments):
        spec.model.unlink()
        return plain(*arguments)

    monkeypatch.setattr(workers, "write_block", stopping)
    error = process_blocks(spec, blocks[-4:])
    assert isinstance(error, OutputError)
    assert len(list(spec.folder.glob("0-*.tif"))) == 1


def test_a_scene_in_memory_is_refused(segmenter, scene, client, tmp_path):
    import rioxarray

    array = rioxarray.open_rasterio(scene).load()
    with (
        Scene.from_dataarray(array) as opened,
        pytest.raises(SceneError, match="write it to a file first"),
    ):
        write_rasters(opened, segmenter, outputs(tmp_path, "labels"), RasterOptions(client=client))


def test_colour_tables_are_read_as_colours_by_workers_too(tmp_path):
    path = tmp_path / "palette.tif"
    options = {"driver": "GTiff", "width": 8, "height": 8, "count": 1, "dtype": "uint8"}
    with rasterio.open(path, "w", **options) as out:
        out.write(np.arange(64, dtype=np.uint8).reshape(1, 8, 8))
        out.write_colormap(1, {value: (value, 2 * value, 3 * value, 255) for value in range(64)})
    with open_scene(path) as here, SharedScene.of(here).open() as there:
        for a, b in zip(here.read(0, 0, 8, 8), there.read(0, 0, 8, 8), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["/vsizip/a.zip/in/scene.tif", "/vsizip/{a.zip}/in/scene.tif"])
def test_a_scene_in_an_archive_is_found_from_any_folder(tmp_path, write_scene, three_fields, monkeypatch, name):
    (tmp_path / "elsewhere").mkdir()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(write_scene(three_fields), "in/scene.tif")
    monkeypatch.chdir(tmp_path)
    with open_scene(name) as here:
        shared = SharedScene.of(here)
    monkeypatch.chdir(tmp_path / "elsewhere")
    shared.open().close()
    (tmp_path / "a.zip").write_bytes((tmp_path / "a.zip").read_bytes() + b"more")
    with pytest.raises(SceneError, match="is another file on worker"):
        shared.open()


def test_nobody_answers(monkeypatch):
    monkeypatch.setattr("geohp.inference.cluster.connection.CONNECT_S", 1.0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        begun = time.monotonic()
        for wrong in (address, "nonsense://host"):
            with pytest.raises(ClusterError, match="no dask scheduler answers at") as error, connect(wrong):
                pass
            assert "\n" not in str(error.value)
        assert time.monotonic() - begun < 10


def test_connect_asks_for_one_kind_of_workers(monkeypatch):
    for arguments in ({}, {"address": "tcp://host:8786", "workers": 2}, {"workers": 0}):
        with pytest.raises(ConfigError), connect(**arguments):
            pass
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ClusterError, match=r"pip install 'geohp\[distributed\]'"), connect(workers=1):
        pass


def test_by_address_the_workers_stay(segmenter, scene, client, whole, tmp_path):
    out = outputs(tmp_path, "labels")
    with connect(client.scheduler.address) as second:
        run(segmenter, scene, out, client=second)
    assert len(client.scheduler_info()["workers"]) == 2
    assert len(client.run(workers.worker_info)) == 2
    with rasterio.open(out.labels) as labels, rasterio.MemoryFile(whole["labels"]) as memory, memory.open() as expected:
        np.testing.assert_array_equal(labels.read(), expected.read())


def test_a_lazy_map_is_computed_by_workers(segmenter, scene, client, as_on_workers):
    import rioxarray

    with segmenter.open(scene) as opened:
        eager = segmenter.segment(opened, WINDOWS)
    with segmenter.open(rioxarray.open_rasterio(scene, chunks={"band": 1, "y": 300, "x": 250})) as opened:
        lazy = segmenter.segment(opened, WINDOWS)
    assert lazy.data.npartitions > 2
    np.testing.assert_array_equal(client.compute(lazy.data).result(timeout=600), eager.values)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 12), st.integers(0, 47), st.data())
@settings(max_examples=60, deadline=None)
def test_every_block_is_in_one_group(rows, cols, slots, overlap, data):
    chosen = EngineSettings(64, overlap, block_px=100)
    grid = chosen.grid(rows * 60, cols * 60)
    layout = chosen.blocks(grid, 3)
    todo = [block for block in layout if data.draw(st.booleans())] if len(layout) < 50 else layout
    cut = group_blocks(todo, layout, grid, chosen, slots)
    assert sorted(block for group in cut for block in group) == sorted(todo)
    assert all(group == sorted(group) for group in cut)
    # However many times windows are scored, sharing them out is never slower than one process would be.
    if todo:
        assert max(map(len, cut)) <= len(todo)
        assert windows_of(cut[0], grid) <= windows_of(todo, grid)


def test_groups_score_few_windows_twice_and_keep_all_workers_busy():
    chosen = EngineSettings(448, 112, patch_px=14)
    for side, slots, most in ((20000, 2, 1.2), (20000, 16, 1.35), (60000, 64, 1.2)):
        grid = chosen.grid(side, side)
        layout = chosen.blocks(grid, 27)
        cut = group_blocks(layout, layout, grid, chosen, slots)
        scored = [windows_of(group, grid) for group in cut]
        assert sum(scored) <= most * len(grid)
        # The last worker is done soon after it would be if windows could be shared out one by one.
        busy = [0] * slots
        for number in scored:
            busy[busy.index(min(busy))] += number
        assert max(busy) <= 1.2 * most * len(grid) / slots


def test_the_docs_tell_what_sharing_out_costs():
    page = (Path(__file__).parents[2] / "docs" / "scaling-out.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| ([\d ]+) x [\d ]+ px \| (\d+) \| (\d+) \| (\S+) \| (\S+) \|$", page, re.MULTILINE)
    assert len(table) > 4
    chosen = EngineSettings(448, 112, patch_px=14)
    for side, processes, blocks, *told in table:
        px, slots = int(side.replace(" ", "")), int(processes)
        grid = chosen.grid(px, px)
        layout = chosen.blocks(grid, 6)
        cut = group_blocks(layout, layout, grid, chosen, slots)
        busy, scored = [0] * slots, [windows_of(group, grid) for group in cut]
        for number in scored:
            busy[busy.index(min(busy))] += number
        assert max(map(len, cut)) == int(blocks)
        costs = [sum(scored) / len(grid), max(busy) * slots / len(grid)]
        assert costs == pytest.approx([float(share) for share in told], abs=0.006)
