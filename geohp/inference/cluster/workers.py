"""What a worker of a cluster does: some neighbouring blocks, from the scene's file to parts on shared storage.

A worker is handed a :class:`TaskSpec` and blocks. It loads the model once and opens the scene once, however many tasks
follow, and hands back what the main process needs to journal the blocks. Nothing here knows dask.
"""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from numpy.typing import NDArray

from geohp.errors import ClusterError, GeohpError, ModelError, OutputError, SceneError
from geohp.files.plain_names import split_archive
from geohp.files.state import file_state
from geohp.inference.engine.pipeline import label_blocks
from geohp.inference.engine.reading import NodataOnErrorScene
from geohp.inference.engine.settings import EngineSettings
from geohp.inference.extent import Extent
from geohp.inference.writing import write_behind
from geohp.model.device import torch_device
from geohp.model.file import load_model
from geohp.model.network import LandCoverModel
from geohp.raster.block import Block
from geohp.raster.read.bands import BandRequest
from geohp.raster.read.scaling import Scaling
from geohp.raster.read.scene import Scene, open_scene
from geohp.raster.write.layer import Layer
from geohp.raster.write.stored_blocks import StoredBlock, write_block
from geohp.version import __version__

_PATIENCE_S = 5.0
"""How long a file that another machine has just written may take to show on a network's file system."""

T = TypeVar("T")


@dataclass(frozen=True)
class SharedScene:
    """A scene as any process can open it, measured nowhere but where the run began.

    Attributes:
        path: absolute where it is a file, or in an archive that is one.
        is_file: rather than something else that GDAL opens.
        bands: as asked for.
        scaling: settled.
        size: rows, columns, and the bytes of each file that it consists of; another size is another scene.
    """

    path: str
    is_file: bool
    bands: BandRequest
    scaling: Scaling
    size: tuple[int, ...]

    @classmethod
    def of(cls, scene: Scene) -> SharedScene:
        """How to open a scene elsewhere.

        Raises:
            SceneError: it lies in this process's memory.
        """
        if any(name.startswith("/vsimem/") for name in scene.files):
            raise SceneError(f"{scene.path} lies in memory, where no worker can read it", "write it to a file first")
        path = Path(scene.path)
        name = str(path.absolute()) if path.exists() else scene.path
        if (parts := split_archive(scene.path)) is not None:
            begin, archive, rest = parts
            name = f"{begin}{archive.absolute()}{rest}"
        return cls(name, path.exists(), scene.band_request, scene.scaling, _size(scene))

    def open(self) -> Scene:
        """Open it here.

        Raises:
            SceneError: it cannot be opened, or is another one.
        """
        if self.is_file and not wait_until(Path(self.path).exists):
            raise SceneError(
                f"{self.path} is not to be seen on worker {_host()}",
                "put the scene on storage that all workers share, under the same path",
            )
        scene = open_scene(self.path, bands=self.bands, scaling=self.scaling)
        if _size(scene) != self.size:
            scene.close()
            raise SceneError(f"{self.path} is another file on worker {_host()}", "put the scene on shared storage")
        return scene


@dataclass(frozen=True)
class TaskSpec:
    """Everything about a run that a worker must know, the same for all its blocks.

    Attributes:
        folder: of the run's unfinished work, on shared storage.
        model: the model file in it, there as long as the run lasts.
        sha256: of that file, in which the same model may be written in several ways.
        weights: what tells the model from others, see :func:`geohp.model.digest.model_sha256`.
        device: as asked for, ``auto`` for what the worker has.
        threads: of torch.
        source: the scene.
        settings: how it is cut.
        layers: by what they hold, each layer's number and how it is stored.
        errors_as_nodata: what cannot be read counts as no data.
        extent: what of the scene is mapped.
        version: of geohp, where the run began.
    """

    folder: Path
    model: Path
    sha256: str
    weights: str
    device: str
    threads: int
    source: SharedScene
    settings: EngineSettings
    layers: Mapping[str, tuple[int, Layer]]
    errors_as_nodata: bool
    extent: Extent
    version: str


class WrittenBlock(NamedTuple):
    """A block whose parts are on disk, as :meth:`.ResumableRasterWriter.record` takes it."""

    row: int
    col: int
    parts: tuple[StoredBlock, ...]
    note: Mapping[str, Any] | None


class WorkerInfo(NamedTuple):
    """What a worker says of itself: its version of geohp, and torch's threads."""

    version: str
    threads: int


def worker_info() -> WorkerInfo:
    """What the main process asks every worker for before it hands out work."""
    return WorkerInfo(__version__, torch.get_num_threads())


def process_blocks(spec: TaskSpec, blocks: Sequence[Block]) -> list[WrittenBlock] | GeohpError:
    """Label some blocks of a scene, and write their parts.

    Args:
        spec: the run.
        blocks: out of its layout, and better neighbours: windows that touch several are scored once.

    Returns:
        The blocks; or, as it is no fault of the worker's that another attempt would mend, what the user must mend.
    """
    try:
        check_version(spec.version, __version__, _host())
        if not wait_until(spec.model.exists):
            raise OutputError(
                f"{spec.folder} is not to be seen on worker {_host()}",
                "write to a folder that all workers share, under the same path",
            )
        # Set for every task: the number holds for the thread that a task runs in.
        if torch.get_num_threads() != spec.threads:
            torch.set_num_threads(spec.threads)
        model = _MODELS.get((spec.weights, spec.device), lambda: _load(spec))
        scene = _SCENES.get(spec.model, spec.source.open)
        source = NodataOnErrorScene(scene) if spec.errors_as_nodata else scene
        parts = _PartWriter(spec)
        quantities = (frozenset(spec.layers) - {"labels"}) | {"confidence"}
        finished = label_blocks(
            source, model, spec.settings, quantities=quantities, blocks=blocks, area=spec.extent.area
        )
        # Layers go by their names here, which are no paths, but as good for telling them apart.
        write_behind(parts, {name: Path(name) for name in spec.layers}, finished, source, scene.grid, spec.extent)
    except GeohpError as error:
        return error
    return parts.finished


def check_version(expected: str, actual: str, where: str) -> None:
    """Refuse to share a map between versions that may differ in its pixels."""
    if expected != actual:
        raise ClusterError(
            f"worker {where} runs geohp {actual}, but this is geohp {expected}", "install the same version everywhere"
        )


def release() -> None:
    """Close the scenes and drop the models that this process keeps."""
    _SCENES.clear()
    _MODELS.clear()
    torch.cuda.empty_cache()


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _PartWriter:
    """In the place of a :class:`.ResumableRasterWriter`: writes blocks, and remembers them for the journal."""

    def __init__(self, spec: TaskSpec) -> None:
        self._spec = spec
        self.notes: list[Mapping[str, Any]] = []
        self.finished: list[WrittenBlock] = []

    def put(
        self, row: int, col: int, layers: Mapping[Path, NDArray[Any] | None], note: Mapping[str, Any] | None = None
    ) -> None:
        spec = self._spec
        # A run that is stopped takes its model file away. Whoever has not heard of it must not write any more: the
        # folder may soon hold another run's parts.
        if not spec.model.exists():
            raise OutputError(f"{spec.folder}: the run that asked for these blocks has ended", "start it again")
        written = []
        for name, values in layers.items():
            number, layer = spec.layers[str(name)]
            if values is not None:
                written.append(write_block(spec.folder, number, layer, row, col, values))
        self.finished.append(WrittenBlock(row, col, tuple(part for part in written if part), note))


class _Cache(Generic[T]):
    """The last few of what is costly to make, made once a process, also where tasks run in several threads.

    What is dropped is closed when the last task that uses it lets go of it.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._values: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        with self._lock:
            if key not in self._values:
                while len(self._values) >= self._most:  # before, not after: two models may be too much
                    self._values.popitem(last=False)
                self._values[key] = make()
            self._values.move_to_end(key)
            return self._values[key]

    def clear(self) -> None:
        with self._lock:
            self._values.clear()


# A worker process lives longer than a task, and nothing but the process outlives the task in it.
_MODELS: _Cache[LandCoverModel] = _Cache(1)
_SCENES: _Cache[Scene] = _Cache(2)


def _load(spec: TaskSpec) -> LandCoverModel:
    if sha256_of(spec.model) != spec.sha256:
        raise ModelError(f"{spec.model} is damaged on worker {_host()}", "check the shared storage, and start again")
    return load_model(spec.model).to(torch_device(spec.device))


def _size(scene: Scene) -> tuple[int, ...]:
    states = (file_state(name) for name in scene.files if not Path(name).is_dir())
    return (scene.height, scene.width, *(state[0] for state in states if state is not None))


def wait_until(condition: Callable[[], bool], patience_s: float = _PATIENCE_S) -> bool:
    """Whether a condition holds, now or soon, on a file system that may be late."""
    deadline = time.monotonic() + patience_s
    pause = 0.01
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
        pause = min(1.0, 2 * pause)
    return True


def _host() -> str:
    return socket.gethostname()
