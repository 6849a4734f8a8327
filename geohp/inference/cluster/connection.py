"""Workers to share a map out to: processes on this machine, or a dask cluster wherever it is."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import torch

from geohp.errors import ClusterError, ConfigError
from geohp.inference.cluster import worker_setup
from geohp.inference.cluster.workers import release

if TYPE_CHECKING:
    from distributed import Client

logger = logging.getLogger(__name__)

CONNECT_S = 10.0
"""How long a scheduler may take to answer."""

_SHORT_LOGS = {
    "distributed.admin.log-length": 100,
    "distributed.admin.low-level-log-length": 50,
    "distributed.admin.system-monitor.log-length": 100,
    "distributed.diagnostics.computations.max-history": 10,
    "distributed.worker.profile.enabled": False,
}
"""What dask keeps of past tasks; by default thousands of lines and events, some 10 KB a scene, and the scheduler of a
local cluster lives in this process. Workers keep as much again of what a profiler sees."""

_PATIENT = {"distributed.deploy.lost-worker-timeout": "10 minutes"}
"""How long the one that takes a dead worker's place on this machine may need to begin: with dask's 15 seconds a busy
machine is left with fewer workers, or with none."""


@contextmanager
def connect(address: str | None = None, workers: int | None = None) -> Iterator[Client]:
    """Workers to hand to :func:`geohp.segment_file`, for as long as the ``with`` block lasts.

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
        import dask
        import distributed
    except ImportError as error:
        raise ClusterError(
            "several workers need the package distributed", "install it with pip install 'geohp[distributed]'"
        ) from error
    if workers is not None:
        with _local_cluster(workers) as cluster:
            with dask.config.set(_SHORT_LOGS):
                client = distributed.Client(cluster, set_as_default=False)
            with client:
                yield client
        return
    try:
        with dask.config.set(_SHORT_LOGS):
            client = distributed.Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError, TypeError, ImportError) as error:
        raise ClusterError(
            f"no dask scheduler answers at {address}", "start one with dask scheduler, or check the address"
        ) from error
    with client:
        yield client
        with suppress(Exception):  # the work is done, whatever became of the workers
            client.run(release, on_error="ignore")


@contextmanager
def _local_cluster(workers: int) -> Iterator[Any]:
    import dask
    import distributed

    processors = os.cpu_count() or 1
    if workers > processors:
        logger.warning("%d workers on %d processor(s): more than these never pay", workers, processors)
    elif 0 < torch.cuda.device_count() < workers:
        logger.warning("%d workers share %d GPU(s): one process alone fills them", workers, torch.cuda.device_count())
    threads = str(max(1, torch.get_num_threads() // workers))
    root = dask.config.get("temporary-directory", None)
    with ExitStack() as stack:
        try:
            # A folder of its own: what dask leaves behind, in the temporary or the working folder, goes with it.
            scratch = tempfile.TemporaryDirectory(prefix="geohp-dask-", dir=root, ignore_cleanup_errors=True)
            # Scheduler and workers take it from here: an argument would reach the workers alone.
            with dask.config.set({**_SHORT_LOGS, "temporary-directory": stack.enter_context(scratch)}):
                cluster = distributed.LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    processes=True,
                    dashboard_address=None,
                    memory_limit=0,  # blocks are cut to fit; a limit of a worker's share would kill large models
                    silence_logs=logging.ERROR,
                    scheduler_kwargs={"extensions": _without_spans(distributed.scheduler.DEFAULT_EXTENSIONS)},
                    extensions=_without_spans(distributed.worker.DEFAULT_EXTENSIONS),
                    preload=[*dask.config.get("distributed.worker.preload"), worker_setup.__name__],
                    env={"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
                )
        except (OSError, RuntimeError) as error:
            raise ClusterError(f"{workers} workers could not be started ({error})", "start fewer") from error
        stack.enter_context(cluster)
        with dask.config.set(_PATIENT):  # it is looked up when a worker dies
            yield cluster


def _without_spans(extensions: Mapping[str, Any]) -> dict[str, Any]:
    """Dask's extensions, less the account of every batch of tasks that grows for as long as the scheduler lives."""
    import dask

    kept = {name: extension for name, extension in extensions.items() if name != "spans"}
    if not dask.config.get("distributed.scheduler.work-stealing"):  # as dask does by itself
        kept.pop("stealing", None)
    return kept
