"""The engine on a large scene: at least 85 % of the bare forward rate, everything else hidden behind it."""

from __future__ import annotations

import itertools
import json
import math
import statistics
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu.measurement import Measurement, precision
from benchmarks.gpu.problems import ArrayScene, land_cover_model
from benchmarks.measuring import synchronise
from geohp.inference.engine import batching, pipeline
from geohp.inference.engine.settings import EngineSettings
from geohp.inference.engine.transfer import LayersToHost
from geohp.model.network import LandCoverModel

Span = tuple[str, float, float]

_RUNS = 3
_LANES = (
    "reading", "batching", "launching", "forward", "blending", "labels", "no batch", "ahead", "fetching", "writing"
)  # fmt: skip
"""By thread: reading; batching; the main thread, what it launches (of ``forward`` when it runs on the card) and what
it waits for, which is a batch, or the card where it has been given enough; finishing; writing."""


class Timeline:
    """When what ran: intervals by lane, in seconds from the start.

    Args:
        device: intervals of ``forward`` are those of the card.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.spans: list[Span] = []
        self._pairs: list[tuple[Any, Any]] = []
        self._lock = threading.Lock()
        synchronise(device)
        self._zero = time.perf_counter()
        self._origin = torch.cuda.Event(enable_timing=True) if device != "cpu" else None
        if self._origin is not None:
            self._origin.record()

    def watched(self, lane: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function whose calls are noted."""

        def call(*arguments: Any, **options: Any) -> Any:
            with self.span(lane):
                return function(*arguments, **options)

        return call

    def watched_items(self, lane: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function that gives a generator, each of whose items is waited for."""

        def call(*arguments: Any) -> Any:
            with closing(function(*arguments)) as items:
                while (item := self.watched(lane, next)(items, self)) is not self:
                    yield item

        return call

    def watched_wait(self, lane: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function that gives what waits."""
        return lambda *arguments: self.watched(lane, function(*arguments))

    @contextmanager
    def span(self, lane: str) -> Iterator[None]:
        """An interval of the host."""
        start = time.perf_counter() - self._zero
        yield
        with self._lock:
            self.spans.append((lane, start, time.perf_counter() - self._zero))

    def forward(self, model: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """A forward pass, timed where it runs."""
        if self._origin is None:
            with self.span("forward"):
                return model(images)
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        with self.span("launching"):
            scores = model(images)
        end.record()
        self._pairs.append((begin, end))
        return scores

    def finish(self) -> list[Span]:
        """All intervals by their beginnings."""
        synchronise(self.device)
        for pair in self._pairs:
            begin, end = (self._origin.elapsed_time(event) / 1e3 for event in pair)  # type: ignore[union-attr]
            self.spans.append(("forward", begin, end))
        self._pairs.clear()
        return sorted(self.spans, key=lambda span: span[1])


class WatchedModel:
    """A model whose forward passes stand in a timeline."""

    def __init__(self, model: LandCoverModel, timeline: Timeline) -> None:
        self.clusters, self.device = model.clusters, model.device
        self._model, self._timeline = model, timeline

    def __call__(self, images: Tensor) -> Tensor:
        """Its scores."""
        return self._timeline.forward(self._model, images)


def measure(m: Measurement) -> None:
    """Both transformers of the paper, on a scene in memory and, where there is GDAL, on the same as a GeoTIFF."""
    scene = ArrayScene(m.sizes.scene_px)
    names = dict.fromkeys((m.sizes.small_backbone, m.sizes.backbone))
    with tempfile.TemporaryDirectory(prefix="geohp-gpu-") as folder, ExitStack() as files:
        scenes: dict[str, Any] = {"": scene}
        try:
            scenes[" from a GeoTIFF"] = files.enter_context(as_geotiff(scene, Path(folder) / "scene.tif"))
        except ImportError as error:
            m.note(f"no scene is a GeoTIFF here: {error}")
        for name in names:
            _engine(m, scenes, name)
    m.note("the map goes to a file of bytes: encoding TIFF is not in it")


def as_geotiff(scene: ArrayScene, path: Path) -> Any:
    """The same pixels in tiles of 512 px, deflated, opened as the package opens them.

    Raises:
        ImportError: something that this needs is not installed.
    """
    import rasterio
    from rasterio.transform import from_origin

    from geohp.raster.read.scene import open_scene

    profile: dict[str, Any] = {
        "driver": "GTiff", "width": scene.width, "height": scene.height, "count": 3, "dtype": "uint8",
        "photometric": "rgb", "crs": "EPSG:25832", "transform": from_origin(500_000, 5_700_000, 0.05, 0.05),
        "tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "zlevel": 1,
        "interleave": "pixel", "num_threads": "all_cpus",
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as out:
        out.write(scene.pixels)
    return open_scene(path, scaling="type")


def settings_of(m: Measurement, patch_px: int) -> EngineSettings:
    """The engine's, at the sizes of the benchmark."""
    sizes = m.sizes
    return EngineSettings(sizes.window_px, sizes.overlap_px, batch_size=sizes.windows, patch_px=patch_px)


def _engine(m: Measurement, scenes: dict[str, Any], name: str) -> None:
    model = land_cover_model(name, m.sizes, m.device)
    settings = settings_of(m, model.backbone.patch_size)
    windows = len(settings.grid(m.sizes.scene_px, m.sizes.scene_px))
    at_once = math.ceil(windows / math.ceil(windows / settings.batch_size)) if m.on_card else 1
    images = torch.rand(at_once, 3, settings.window_px, settings.window_px, device=m.device)

    def bare() -> None:
        with precision(m):
            model(images)

    bare_rate = at_once / m.seconds(bare, 5)
    m.report(f"{name}: bare forward passes, {at_once} at once", bare_rate, "windows/s")
    for kind, scene in scenes.items():
        # The first warms up and is no part of it.
        runs = [_mapped(m, scene, model, settings) for _ in range(1 + _RUNS if m.on_card else 1)][-_RUNS:]
        timeline, seconds = sorted(runs, key=lambda run: run[1])[len(runs) // 2]
        spans = timeline.finish()
        busy = sum(end - start for lane, start, end in spans if lane == "forward")
        m.report(f"{name}{kind}: engine", windows / seconds, "windows/s")
        m.report(f"{name}{kind}: engine over bare", 100 * windows / seconds / bare_rate, "%", least=85)
        m.report(f"{name}{kind}: forward passes of the time", 100 * busy / seconds, "%")
        m.report(f"{name}{kind}: between forward passes, median", 1e3 * _gap(spans), "ms")
        m.report(f"{name}{kind}: scene", m.sizes.scene_px**2 / seconds / 1e6, "megapixels/s")
        m.note(f"{name}{kind}: medians in ms: {_medians(spans)}")
        stem = f"engine.{name}{'.geotiff' if kind else ''}"
        (m.folder / f"{stem}.timeline.json").write_text(json.dumps({"card": m.record.card, "spans": spans}))
        draw(spans, f"{name}{kind} on {m.record.card}", m.folder / f"{stem}.png")
    if m.on_card:
        m.report(f"{name}: waits for the card", _waits(m, scenes[""], model, settings))


def _mapped(m: Measurement, scene: Any, model: LandCoverModel, settings: EngineSettings) -> tuple[Timeline, float]:
    """Map the scene into a file, written by a thread as the package does."""
    timeline = Timeline(m.device)
    watched = SimpleNamespace(height=scene.height, width=scene.width, read=timeline.watched("reading", scene.read))
    start = time.perf_counter()
    with (
        tempfile.TemporaryFile() as file,
        ThreadPoolExecutor(1) as writer,
        mock.patch.object(batching, "stacked", timeline.watched("batching", batching.stacked)),
        mock.patch.object(batching, "ahead", timeline.watched_items("no batch", batching.ahead)),
        mock.patch.object(batching, "milestone", timeline.watched_wait("ahead", batching.milestone)),
        mock.patch.object(pipeline, "blend", timeline.watched("blending", pipeline.blend)),
        mock.patch.object(pipeline, "labels", timeline.watched("labels", pipeline.labels)),
        mock.patch.object(LayersToHost, "wait", timeline.watched("fetching", LayersToHost.wait)),
    ):
        out = np.memmap(file, np.uint8, "w+", shape=(scene.height, scene.width))

        def write(finished: pipeline.FinishedBlock) -> None:
            with timeline.span("writing"):
                out[finished.block.slices] = finished.layers["labels"]

        for finished in pipeline.label_blocks(watched, WatchedModel(model, timeline), settings):  # type: ignore[arg-type]
            writer.submit(write, finished)
        writer.shutdown()
        seconds = time.perf_counter() - start
    return timeline, seconds


def _gap(spans: list[Span]) -> float:
    """Seconds for which the card runs no forward pass between two of them, the median; 0 for a single one."""
    passes = [span for span in spans if span[0] == "forward"]
    return statistics.median([later[1] - earlier[2] for earlier, later in itertools.pairwise(passes)] or [0.0])


def _medians(spans: list[Span]) -> str:
    """How long each lane's intervals take."""
    lengths = {lane: [end - start for name, start, end in spans if name == lane] for lane in _LANES}
    return ", ".join(f"{lane} {1e3 * statistics.median(each):.1f}" for lane, each in lengths.items() if each)


def _waits(m: Measurement, scene: Any, model: LandCoverModel, settings: EngineSettings) -> str:
    """Where the host waits for the card although nobody asked for it: files and lines, and how often."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            for _ in pipeline.label_blocks(scene, model, settings):
                pass
        finally:
            torch.cuda.set_sync_debug_mode("default")
    lines = Counter(f"{Path(w.filename).name}:{w.lineno}" for w in caught if "synchronizing" in str(w.message))
    return ", ".join(f"{line} ({count}x)" for line, count in lines.most_common(8)) or "none found"


def draw(spans: list[Span], title: str, path: Path) -> None:
    """Lanes of intervals: all of the time, and about ten forward passes of it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6.5), layout="constrained")
    FigureCanvasAgg(figure)
    whole, part = figure.subplots(2)
    passes = [span for span in spans if span[0] == "forward"]
    middle = passes[max(0, len(passes) // 2 - 5) : len(passes) // 2 + 5]
    for axes in (whole, part):
        for number, lane in enumerate(_LANES):
            bars = [(start, end - start) for name, start, end in spans if name == lane]
            axes.broken_barh(bars, (number - 0.4, 0.8), color=f"C{number}")
        axes.set(xlabel="seconds", yticks=range(len(_LANES)), yticklabels=_LANES)
        axes.invert_yaxis()
    part.set_xlim(middle[0][1], middle[-1][2])
    whole.set_title(title)
    figure.savefig(path, dpi=110)
