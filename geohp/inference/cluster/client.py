"""The blocks of a scene on the workers of a dask cluster: a local one, or any that has an address.

    unfinished blocks ─▶ groups of neighbours ─▶ tasks, a bounded number in flight ─▶ workers write parts
        ─▶ the main process journals them ─▶ cloud-optimised GeoTIFF

A block is a pure function of the windows that touch it, so it does not matter who computes it, or how often: a run may
begin on one machine and end on a cluster.
"""

from __future__ import annotations

import heapq
import logging
import uuid
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from geohp.errors import ClusterError, ConfigError, GeohpError
from geohp.inference.cluster import workers as at_work
from geohp.inference.cluster.workers import Finished, Source, TaskSpec, WorkerInfo
from geohp.inference.engine.pipeline import EngineSettings
from geohp.inference.engine.windows import WindowGrid
from geohp.inference.identity import model_sha256
from geohp.inference.map_options import RasterOptions
from geohp.inference.segmenter import Segmenter
from geohp.inference.writing import skipped_in
from geohp.model.file import save_model
from geohp.model.network import LandCoverModel
from geohp.progress import Progress
from geohp.raster.block import Block
from geohp.raster.read.scene import Scene
from geohp.raster.write.resumable import ResumableRasterWriter
from geohp.raster.write.stored_blocks import has_full_size
from geohp.version import __version__

if TYPE_CHECKING:
    from distributed import Client, Future

logger = logging.getLogger(__name__)

CONNECT_S = 10.0
"""How long a scheduler may take to answer."""

_IN_FLIGHT = 16
"""Tasks handed out at least: a cluster that scales with its load sees that there is some."""

_RETRIES = 2
"""Further attempts at a task that failed for a reason that is not the user's."""

_GROUP_STRIDES = 16
"""Side of the largest group of blocks, in steps of the window grid: 13 % of its windows are scored elsewhere too."""

_PLENTY = 64
"""Blocks a worker beyond which any size of group keeps all workers busy until nearly the end."""


@contextmanager
def connect(address: str | None = None, workers: int | None = None) -> Iterator[Client]:
    """Workers to hand to :meth:`geohp.Segmenter.segment_to`, for as long as the ``with`` block lasts.

    Args:
        address: of a dask scheduler, as in ``tcp://host:8786``. Its workers stay when the block ends.
        workers: instead, start this many processes on this machine, and end them with the block. The threads that
            torch would use here are shared out among them.

    Raises:
        ConfigError: neither is given, or both, or there is no such number of workers.
        ClusterError: the package ``distributed`` is missing, or nothing answers.
    """
    if (address is None) == (workers is None):
        raise ConfigError("workers: give the address of a dask scheduler, or a number of workers on this machine")
    if workers is not None and workers < 1:
        raise ConfigError(f"workers {workers}: must be at least 1")
    try:
        import distributed
    except ImportError as error:
        raise ClusterError(
            "several workers need the package distributed", "install it with pip install 'geohp[distributed]'"
        ) from error
    if workers is not None:
        with _local_cluster(workers) as cluster, distributed.Client(cluster, set_as_default=False) as client:
            yield client
        return
    try:
        client = distributed.Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError, TypeError, ImportError) as error:
        raise ClusterError(
            f"no dask scheduler answers at {address}", "start one with dask scheduler, or check the address"
        ) from error
    with client:
        yield client
        with suppress(Exception):  # the work is done, whatever became of the workers
            client.run(at_work.release, on_error="ignore")


def run_blocks(
    work: ResumableRasterWriter,
    scene: Scene,
    segmenter: Segmenter,
    settings: EngineSettings,
    paths: Mapping[str, Path],
    options: RasterOptions,
) -> None:
    """Have a cluster do the unfinished blocks of some work.

    Args:
        work: what finished blocks are recorded in; its folder is seen by all workers under the same path.
        scene: what to label; seen by all workers by the same name.
        segmenter: its model travels as a file in the work's folder, its backbone included.
        settings: how the scene is cut.
        paths: the output of each layer.
        options: with the client of the cluster.

    Raises:
        ClusterError: the workers have other versions of geohp or die of the task, or the scheduler is gone.
        SceneError: the scene lies in memory, or a worker cannot read it.
        OutputError: a part cannot be written, or a worker does not see the folder.
    """
    model, client = segmenter.model, options.client
    assert client is not None
    grid = settings.grid(scene.height, scene.width)
    layout = settings.blocks(grid, model.clusters)
    unfinished = [block for block in layout if block.origin not in work.finished]
    if not unfinished:
        return
    source = Source.of(scene)
    threads = _agree(client)
    # What a task does twice, because another does it too, counts by what takes the longest.
    costly = grid if settings.refine is None else settings.refine.grid(scene.height, scene.width)
    tasks = groups(unfinished, layout, costly, settings, _slots(client))
    numbers = {path: number for number, path in enumerate(work.outputs)}
    with _model_file(model, work.folder) as file:
        spec = TaskSpec(
            folder=work.folder,
            model=file,
            sha256=at_work.sha256_of(file),
            weights=model_sha256(model),
            device=segmenter.device,
            threads=threads,
            source=source,
            settings=settings,
            layers={name: (numbers[path], work.outputs[path]) for name, path in paths.items()},
            errors_as_nodata=options.on_read_error == "nodata",
            version=__version__,
        )
        _journal(client, spec, tasks, work, _Counter(options.progress, unfinished, grid))


def groups(
    todo: Sequence[Block], layout: Sequence[Block], grid: WindowGrid, settings: EngineSettings, slots: int
) -> list[list[Block]]:
    """Blocks in square groups of neighbours, each a task.

    A window that reaches into blocks of several groups is scored once in each: larger groups score fewer windows, but
    smaller ones are shared out more evenly. Of all sizes that with which the last worker is done first is taken.

    Args:
        todo: blocks to do.
        layout: all blocks of the scene.
        grid: its windows.
        settings: what the layout was made with.
        slots: how many tasks run at once.
    """
    stride = settings.window_px - settings.overlap_px
    side = max(1, round(max(max(block.height, block.width) for block in layout) / stride))
    sizes = range(1, max(1, _GROUP_STRIDES // side) + 1)
    if len(todo) > _PLENTY * slots:
        sizes = sizes[-1:]
    cuts = [_squares(todo, layout, size) for size in sizes]
    return min(cuts, key=lambda cut: _duration(cut, grid, slots)) if len(cuts) > 1 else cuts[0]


def windows_of(group: Iterable[Block], grid: WindowGrid) -> int:
    """How many windows some blocks need together."""
    return len({origin for block in group for origin in grid.touching(*block)})


def _squares(todo: Sequence[Block], layout: Sequence[Block], size: int) -> list[list[Block]]:
    """Blocks by squares of ``size`` x ``size`` blocks of the layout, in raster order within and without."""
    rows, cols = (
        {start: number // size for number, start in enumerate(sorted({block[axis] for block in layout}))}
        for axis in (0, 1)
    )
    found: dict[tuple[int, int], list[Block]] = {}
    for block in todo:
        found.setdefault((rows[block.row], cols[block.col]), []).append(block)
    return [found[key] for key in sorted(found)]


def _duration(cut: Sequence[Sequence[Block]], grid: WindowGrid, slots: int) -> int:
    """Windows that the busiest worker scores, where each takes the next group as soon as it is free."""
    busy = [0] * slots
    for group in cut:
        heapq.heapreplace(busy, busy[0] + windows_of(group, grid))
    return max(busy)


def _journal(
    client: Client, spec: TaskSpec, tasks: Sequence[Sequence[Block]], work: ResumableRasterWriter, counter: _Counter
) -> None:
    """Hand out tasks, and record what comes back; what was recorded stays, whatever happens."""
    import distributed

    told = {(part.row, part.col, part.height, part.width) for part in skipped_in(work)}
    waiting = iter(tasks)
    running: set[Future[Any]] = set()

    def more() -> list[Future[Any]]:
        room = max(_IN_FLIGHT, 2 * _slots(client)) - len(running)
        fresh = [
            # Not pure: a result of another run must not be taken for this one's.
            client.submit(at_work.process_blocks, spec, group, pure=False, retries=_RETRIES)
            for group in islice(waiting, max(0, room))
        ]
        running.update(fresh)
        return fresh

    try:
        done = distributed.as_completed(more(), loop=client.loop)
        for future in done:
            for block in _result(future, client):
                fresh = _unknown(block, told)
                # The parts are on the disk, but a network's file system may be late in saying so.
                at_work.wait_until(partial(_arrived, work, block))
                work.record(block.row, block.col, block.parts, fresh)
                counter.add(block)
            running.discard(future)
            done.update(more())
    finally:
        with suppress(Exception):  # the scheduler may be what failed
            client.cancel(list(running), force=True)


def _result(future: Future[Any], client: Client) -> list[Finished]:
    import distributed
    from distributed.comm.core import CommClosedError

    try:
        result: list[Finished] | GeohpError = future.result()
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


def _unknown(block: Finished, told: set[tuple[int, int, int, int]]) -> Mapping[str, Any] | None:
    """A block's note with what nobody has told of yet: workers find the same unreadable cells."""
    fresh = []
    for part in (block.note or {}).get("skipped", ()):
        cell = (part["row"], part["col"], part["height"], part["width"])
        if cell not in told:
            told.add(cell)
            fresh.append(part)
    return {"skipped": fresh} if fresh else None


def _arrived(work: ResumableRasterWriter, block: Finished) -> bool:
    return all(has_full_size(work.folder, block.row, block.col, part) for part in block.parts)


class _Counter:
    """Windows done: each counts with the block that it begins in."""

    def __init__(self, progress: Progress, blocks: Sequence[Block], grid: WindowGrid) -> None:
        self._progress = progress
        self._windows = {block.origin: _begun_in(block, grid) for block in blocks}
        self._total = sum(self._windows.values())
        self._done = 0

    def add(self, block: Finished) -> None:
        self._done += self._windows[block.row, block.col]
        self._progress("segmenting", self._done, self._total)


def _begun_in(block: Block, grid: WindowGrid) -> int:
    rows = bisect_left(grid.rows, block.bottom) - bisect_left(grid.rows, block.row)
    cols = bisect_left(grid.cols, block.right) - bisect_left(grid.cols, block.col)
    return rows * cols


def _agree(client: Client) -> int:
    """How many threads torch uses on every worker: what the smallest of them would, so that all give the same bytes.

    Raises:
        ClusterError: geohp is missing on a worker, or is there in another version.
    """
    try:
        said: dict[str, Any] = client.run(at_work.worker_info, on_error="return")
    except (ImportError, AttributeError) as error:
        raise _missing("a worker", error) from error
    for worker, introduction in said.items():
        if not isinstance(introduction, WorkerInfo):
            raise _missing(f"worker {worker}", introduction)
        at_work.check_version(__version__, introduction.version, worker)
    if not said:
        logger.warning("the cluster at %s has no workers yet; waiting for them", _address(client))
    return min((introduction.threads for introduction in said.values()), default=1)


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


@contextmanager
def _local_cluster(workers: int) -> Iterator[Any]:
    import distributed

    threads = str(max(1, torch.get_num_threads() // workers))
    try:
        cluster = distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            memory_limit=0,  # blocks are cut to fit; a limit of a worker's share would kill large models
            silence_logs=logging.ERROR,
            env={"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
        )
    except (OSError, RuntimeError) as error:
        raise ClusterError(f"{workers} workers could not be started ({error})", "start fewer") from error
    with cluster:
        yield cluster
