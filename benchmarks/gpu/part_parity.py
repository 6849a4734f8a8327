"""The same labels as on the CPU, but for pixels whose two best scores are nearly equal."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.gpu.measurement import Measurement
from benchmarks.gpu.part_engine import settings_of
from benchmarks.gpu.problems import CLASSES, ArrayScene, land_cover_model
from geohp.inference.engine.pipeline import _Mapping
from geohp.inference.engine.settings import EngineSettings
from geohp.inference.engine.windows import Plan
from geohp.progress import no_progress

_MARGINS = {"float32": 1e-4, "bfloat16": 2e-2}
"""Differences of the two best scores below which the class may be another one."""


class Exact:
    """A model on a card that is to compute in float32 whatever the engine casts."""

    def __init__(self, model: Callable[[Tensor], Tensor], device: torch.device) -> None:
        self.clusters, self.device, self._model = CLASSES, device, model

    def __call__(self, images: Tensor) -> Tensor:
        """Its scores."""
        with torch.autocast(self.device.type, enabled=False):
            return self._model(images)


def measure(m: Measurement) -> None:
    """Blended scores of a scene on the CPU, and on the card in both precisions."""
    scene, name = ArrayScene(m.sizes.parity_px), m.sizes.small_backbone
    model = land_cover_model(name, m.sizes, "cpu")
    settings = settings_of(m, model.backbone.patch_size)
    wanted = blended(scene, model, settings)
    best = wanted.topk(2, dim=0).values
    margin = best[0] - best[1]
    m.report("median difference of the two best scores", float(margin.median()))
    model = land_cover_model(name, m.sizes, m.device)
    for precision, least in _MARGINS.items():
        scorer = model if precision == "bfloat16" and m.on_card else Exact(model, model.device)
        got = blended(scene, scorer, settings)
        other = got.argmax(0) != wanted.argmax(0)
        m.report(f"{precision}: pixels of another class", 100 * float(other.float().mean()), "% of pixels")
        m.report(f"{precision}: those that differ by {least} or more", float((other & (margin >= least)).sum()), most=0)
        m.report(f"{precision}: largest difference of a score", float((got - wanted).abs().max()))


def blended(scene: ArrayScene, model: object, settings: EngineSettings) -> Tensor:
    """Scores of every pixel, (classes, height, width) float32 cosines on the CPU."""
    grid = settings.grid(scene.height, scene.width)
    plan = Plan(grid, settings.blocks(grid, CLASSES))
    mapping = _Mapping(scene, model, settings, no_progress)  # type: ignore[arg-type]
    scores = torch.empty(CLASSES, scene.height, scene.width)
    for block, sums, _ in mapping._blended(plan, with_scale=True):
        scores[:, *block.slices] = (sums[:-1] / sums[-1]).cpu()
    return scores
