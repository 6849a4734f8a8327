"""The engine on a large scene: at least 85 % of the bare forward rate, everything else hidden behind it."""

from __future__ import annotations

import json
import math
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu.measurement import Measurement, precision
from benchmarks.gpu.problems import ArrayScene, land_cover_model
from benchmarks.measuring import synchronise
from geohp.inference.engine import pipeline
from geohp.inference.engine.settings import EngineSettings
from geohp.model.network import LandCoverModel

_LANES = ("reading", "forward", "blending", "labels", "writing")


class Timeline:
    """When what ran: intervals by lane, in seconds from the start.

    Args:
        device: intervals of ``forward`` are those of the card.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.spans: list[tuple[str, float, float]] = []
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
        scores = model(images)
        end.record()
        self._pairs.append((begin, end))
        return scores

    def finish(self) -> list[tuple[str, float, float]]:
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
    """Both transformers of the paper, on a scene in memory."""
    scene = ArrayScene(m.sizes.scene_px)
    for name in dict.fromkeys((m.sizes.small_backbone, m.sizes.backbone)):
        _engine(m, scene, name)
    m.note("the scene is an array and the map goes to a file of bytes: decoding and encoding TIFF are not in it")


def settings_of(m: Measurement, patch_px: int) -> EngineSettings:
    """The engine's, at the sizes of the benchmark."""
    sizes = m.sizes
    return EngineSettings(sizes.window_px, sizes.overlap_px, batch_size=sizes.windows, patch_px=patch_px)


def _engine(m: Measurement, scene: ArrayScene, name: str) -> None:
    model = land_cover_model(name, m.sizes, m.device)
    settings = settings_of(m, model.backbone.patch_size)
    windows = len(settings.grid(scene.height, scene.width))
    at_once = math.ceil(windows / math.ceil(windows / settings.batch_size)) if m.on_card else 1
    images = torch.rand(at_once, 3, settings.window_px, settings.window_px, device=m.device)

    def bare() -> None:
        with precision(m):
            model(images)

    bare_rate = at_once / m.seconds(bare, 5)
    _mapped(m, scene, model, settings)  # warms up
    timeline, seconds = _mapped(m, scene, model, settings)
    spans = timeline.finish()
    busy = sum(end - start for lane, start, end in spans if lane == "forward")
    m.report(f"{name}: bare forward passes, {at_once} at once", bare_rate, "windows/s")
    m.report(f"{name}: engine", windows / seconds, "windows/s")
    m.report(f"{name}: engine over bare", 100 * windows / seconds / bare_rate, "%", least=85)
    m.report(f"{name}: forward passes of the time", 100 * busy / seconds, "%")
    m.report(f"{name}: scene", scene.height * scene.width / seconds / 1e6, "megapixels/s")
    stem = f"engine.{name}"
    (m.folder / f"{stem}.timeline.json").write_text(json.dumps({"card": m.record.card, "spans": spans}))
    draw(spans, f"{name} on {m.record.card}", m.folder / f"{stem}.png")


def _mapped(
    m: Measurement, scene: ArrayScene, model: LandCoverModel, settings: EngineSettings
) -> tuple[Timeline, float]:
    """Map the scene into a file, written by a thread as the package does."""
    timeline = Timeline(m.device)
    watched = mock.Mock(wraps=scene, height=scene.height, width=scene.width)
    watched.read = timeline.watched("reading", scene.read)
    start = time.perf_counter()
    with (
        tempfile.TemporaryFile() as file,
        ThreadPoolExecutor(1) as writer,
        mock.patch.object(pipeline, "blend", timeline.watched("blending", pipeline.blend)),
        mock.patch.object(pipeline, "labels", timeline.watched("labels", pipeline.labels)),
    ):
        out = np.memmap(file, np.uint8, "w+", shape=(scene.height, scene.width))

        def write(finished: pipeline.FinishedBlock) -> None:
            with timeline.span("writing"):
                out[finished.block.slices] = finished.layers["labels"]

        for finished in pipeline.label_blocks(watched, WatchedModel(model, timeline), settings):
            writer.submit(write, finished)
        writer.shutdown()
        seconds = time.perf_counter() - start
    return timeline, seconds


def draw(spans: list[tuple[str, float, float]], title: str, path: Any) -> None:
    """Lanes of intervals."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for number, lane in enumerate(_LANES):
        bars = [(start, end - start) for name, start, end in spans if name == lane]
        axes.broken_barh(bars, (number - 0.4, 0.8), color=f"C{number}")
    axes.set(xlabel="seconds", yticks=range(len(_LANES)), yticklabels=_LANES, title=title)
    axes.invert_yaxis()
    figure.savefig(path, dpi=110)
