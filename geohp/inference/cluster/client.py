"""The blocks of a scene on the workers of a dask cluster.

    unfinished blocks ─▶ groups of neighbours ─▶ tasks, a bounded number in flight ─▶ workers write parts
        ─▶ the main process journals them ─▶ cloud-optimised GeoTIFF

A block is a pure function of the windows that touch it, so it does not matter who computes it, or how often: a run may
begin on one machine and end on a cluster.
"""

from __future__ import annotations

import logging
import time
import uuid
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geohp.errors import ClusterError, GeohpError
from geohp.inference.cluster import workers
from geohp.inference.cluster.groups import group_blocks
from geohp.inference.cluster.workers import SharedScene, TaskSpec, WorkerInfo, WrittenBlock
from geohp.inference.engine.pipeline import STAGE
from geohp.inference.engine.settings import EngineSettings
from geohp.inference.engine.windows import WindowGrid
from geohp.inference.extent import Extent
from geohp.inference.map_options import RasterOptions
from geohp.inference.segmenter import Segmenter
from geohp.inference.writing import skipped_in
from geohp.model.digest import model_sha256
from geohp.model.file import save_model
from geohp.model.network import LandCoverModel
from geohp.progress import Progress
from geohp.raster.block import Block
from geohp.raster.read.scene import Scene
from geohp.raster.write.resumable import ResumableRasterWriter
from geohp.raster.write.stored_blocks import has_full_size
from geohp.version import __version__

if TYPE_CHECKING:
    from distributed import Client, Future, as_completed

logger = logging.getLogger(__name__)

_IN_FLIGHT = 16
"""Tasks handed out at least: a cluster that scales with its load sees that there is some."""

NO_WORKER_S = 3600.0
"""How long a cluster may have no worker while blocks wait: one that scales from zero has to queue for machines."""

NO_LOCAL_WORKER_S = 600.0
"""The same of one on this machine, which replaces dead workers by itself: that takes as long as importing torch."""

_LOOK_S = 5.0
"""Between two looks at whether there are workers."""

_RETRIES = 2
"""Further attempts at a task that failed for a reason that is not the user's."""


def run_blocks(
    work: ResumableRasterWriter,
    blocks: Sequence[Block],
    scene: Scene,
    segmenter: Segmenter,
    settings: EngineSettings,
    paths: Mapping[str, Path],
    options: RasterOptions,
    extent: Extent,
) -> None:
    """Have a cluster do the blocks of some work.

    Args:
        work: what finished blocks are recorded in; its folder is seen by all workers under the same path.
        blocks: that are not finished.
        scene: what to label; seen by all workers by the same name.
        segmenter: its model travels as a file in the work's folder, its backbone included.
        settings: how the scene is cut.
        paths: the output of each layer.
        options: with the client of the cluster.
        extent: what of the scene is mapped.

    Raises:
        ClusterError: the workers have other versions of geohp, die of the task or do not come, or no scheduler answers.
        SceneError: the scene lies in memory, or a worker cannot read it.
        OutputError: a part cannot be written, or a worker does not see the folder.
    """
    model, client = segmenter.model, options.client
    assert client is not None
    grid = settings.grid(scene.height, scene.width)
    if not blocks:
        return
    source = SharedScene.of(scene)
    threads = _common_threads(client)
    # What a task does twice, because another does it too, counts by what takes the longest.
    costly = grid if settings.refine is None else settings.refine.grid(scene.height, scene.width)
    layout = extent.blocks(settings.blocks(grid, model.clusters))
    tasks = group_blocks(blocks, layout, costly, settings, _slots(client))
    if len(tasks) < 2:
        logger.info("the scene is too small to be shared out: workers do not pay")
    numbers = {path: number for number, path in enumerate(work.outputs)}
    with _model_file(model, work.folder) as file:
        spec = TaskSpec(
            folder=work.folder,
            model=file,
            sha256=workers.sha256_of(file),
            weights=model_sha256(model),
            device=segmenter.device,
            threads=threads,
            source=source,
            settings=settings,
            layers={name: (numbers[path], work.outputs[path]) for name, path in paths.items()},
            errors_as_nodata=options.on_read_error == "nodata",
            extent=extent,
            version=__version__,
        )
        _journal(client, spec, tasks, work, _Counter(options.progress, blocks, grid, extent))


def _journal(
    client: Client, spec: TaskSpec, tasks: Sequence[Sequence[Block]], work: ResumableRasterWriter, counter: _Counter
) -> None:
    """Hand out tasks, and record what comes back; what was recorded stays, whatever happens."""
    import distributed

    noted = {(part.row, part.col, part.height, part.width) for part in skipped_in(work)}
    waiting = iter(tasks)
    running: set[Future[Any]] = set()

    def more() -> list[Future[Any]]:
        room = max(_IN_FLIGHT, 2 * _slots(client)) - len(running)
        fresh = [
            # Not pure: a result of another run must not be taken for this one's.
            client.submit(workers.process_blocks, spec, group, pure=False, retries=_RETRIES)
            for group in islice(waiting, max(0, room))
        ]
        running.update(fresh)
        return fresh

    try:
        done = distributed.as_completed(more(), loop=client.loop)
        for future in _finished(done, _Presence(client)):
            for block in _result(future, client):
                note = _with_new_skips(block, noted)
                # The parts are on the disk, but a network's file system may be late in saying so.
                workers.wait_until(partial(_arrived, work, block))
                work.record(block.row, block.col, block.parts, note)
                counter.add(block)
            running.discard(future)
            done.update(more())
    finally:
        with suppress(Exception):  # the scheduler may be what failed
            client.cancel(list(running), force=True)


def _finished(done: as_completed, presence: _Presence) -> Iterator[Future[Any]]:
    """Tasks as they end, as long as there are workers to do them."""
    while not done.is_empty():
        if done.has_ready():
            yield next(done)
            continue
        with done.thread_condition:
            done.thread_condition.wait(timeout=0.1)
        presence.check(done.count())


class _Presence:
    """Whether a cluster has workers."""

    def __init__(self, client: Client) -> None:
        import distributed

        self._client = client
        is_local = isinstance(client.cluster, distributed.LocalCluster)
        self._patience_s = NO_LOCAL_WORKER_S if is_local else NO_WORKER_S
        self._seen = self._looked = time.monotonic()

    def check(self, tasks: int) -> None:
        """Look after them every few seconds, while so many tasks wait.

        Raises:
            ClusterError: there has been none for too long.
        """
        now = time.monotonic()
        if now - self._looked < _LOOK_S:
            return
        self._looked = now
        try:
            is_there = bool(self._client.nthreads())
        except OSError:  # the scheduler is gone: the tasks will say so
            is_there = True
        if is_there:
            self._seen = now
        elif now - self._seen > self._patience_s:
            raise ClusterError(
                f"the cluster at {_address(self._client)} has had no worker for {self._patience_s / 60:.0f} minutes, "
                f"and {tasks} tasks wait",
                "start workers, and then the same command again: it goes on where it is",
            )


def _result(future: Future[Any], client: Client) -> list[WrittenBlock]:
    import distributed
    from distributed.comm.core import CommClosedError

    try:
        result: list[WrittenBlock] | GeohpError = future.result()
    except distributed.scheduler.KilledWorker as error:
        raise ClusterError(
            f"{error.allowed_failures + 1} workers died one after another over the same blocks, most often for lack "
            "of memory",
            "give each worker more, or use a smaller {option}",
            option="window_px",
        ) from error
    except (CancelledError, CommClosedError) as error:
        raise ClusterError(
            f"the connection to the dask scheduler at {_address(client)} was lost",
            "start the same command again, with or without it, to go on",
        ) from error
    if isinstance(result, GeohpError):
        raise result
    return result


def _with_new_skips(block: WrittenBlock, noted: set[tuple[int, int, int, int]]) -> Mapping[str, Any]:
    """A block's note, of unreadable cells only those that are not noted yet: workers find the same ones."""
    note = dict(block.note or {})
    fresh = []
    for part in note.pop("skipped", ()):
        cell = (part["row"], part["col"], part["height"], part["width"])
        if cell not in noted:
            noted.add(cell)
            fresh.append(part)
    return {**note, "skipped": fresh} if fresh else note


def _arrived(work: ResumableRasterWriter, block: WrittenBlock) -> bool:
    return all(has_full_size(work.folder, block.row, block.col, part) for part in block.parts)


class _Counter:
    """Windows done: each counts with the block that it begins in."""

    def __init__(self, progress: Progress, blocks: Sequence[Block], grid: WindowGrid, extent: Extent) -> None:
        self._progress = progress
        self._windows = {extent.place(block).origin: _begun_in(block, grid) for block in blocks}
        self._total = sum(self._windows.values())
        self._done = 0

    def add(self, block: WrittenBlock) -> None:
        self._done += self._windows[block.row, block.col]
        self._progress(STAGE, self._done, self._total)


def _begun_in(block: Block, grid: WindowGrid) -> int:
    rows = bisect_left(grid.rows, block.bottom) - bisect_left(grid.rows, block.row)
    cols = bisect_left(grid.cols, block.right) - bisect_left(grid.cols, block.col)
    return rows * cols


def _common_threads(client: Client) -> int:
    """How many threads torch uses on every worker: what the smallest of them would, so that all give the same bytes."""
    try:
        infos = client.run(workers.worker_info, on_error="return")
    except (ImportError, AttributeError) as error:
        raise _missing("a worker", error) from error
    infos = {worker: info for worker, info in infos.items() if not isinstance(info, OSError)}  # those just lost
    for worker, info in infos.items():
        if not isinstance(info, WorkerInfo):
            raise _missing(f"worker {worker}", info)
        workers.check_version(__version__, info.version, worker)
    if not infos:
        logger.warning("the cluster at %s has no workers yet; waiting for them", _address(client))
    return min((info.threads for info in infos.values()), default=1)


def _missing(where: str, error: Any) -> ClusterError:
    reason = str(error).splitlines()[0] if str(error) else repr(error)
    return ClusterError(f"{where} cannot run geohp {__version__} ({reason})", "install the same version everywhere")


def _slots(client: Client) -> int:
    """How many tasks the cluster runs at once; 1 where it has no workers yet."""
    threads: Mapping[str, int] = client.nthreads()
    return max(1, sum(threads.values()))


def _address(client: Client) -> str:
    return str(getattr(client.scheduler, "address", "its address"))


@contextmanager
def _model_file(model: LandCoverModel, folder: Path) -> Iterator[Path]:
    """The model as a file in the folder, with all that it needs, for as long as the run lasts.

    Its name is this run's own: where it is gone, workers that a stopped run left behind write no more.
    """
    for old in folder.glob("model-*.safetensors"):
        old.unlink(missing_ok=True)
    path = folder / f"model-{uuid.uuid4().hex}.safetensors"
    try:
        yield save_model(model, path, embed_backbone=True)
    finally:
        path.unlink(missing_ok=True)
