"""What a few polygons or points teach: the labels read, a classifier learnt and validated, and the model made."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geohp.classes import NODATA_LABEL, LandCoverClass
from geohp.errors import ConfigError, DataError
from geohp.inference.map_options import ModelOptions
from geohp.inference.probe.discriminant import (
    Conditioning,
    CrossValidation,
    LinearClassifier,
    choose_shrinkage,
    cross_validate,
    fit_classifier,
    fit_sharpness,
)
from geohp.inference.probe.labelled_codes import LabelledCodes, LabelSource, SceneOpener, read_labelled_codes
from geohp.inference.probe.report import Probe
from geohp.inference.probe.validation import score
from geohp.inference.segment import load_segmenter
from geohp.inference.segmenter import Segmenter, as_scene
from geohp.methods.probes import LinearProbe
from geohp.model.appearance import coloured_by_look
from geohp.model.file import save_model
from geohp.model.network import LandCoverModel
from geohp.options import FitOptions
from geohp.progress import Progress
from geohp.raster.read.bands import BandRequest
from geohp.raster.read.collection import SceneCollection
from geohp.raster.read.scene import Scene
from geohp.raster.sources.find import find_images
from geohp.version import __version__

logger = logging.getLogger(__name__)


def learn(
    options: ModelOptions, scenes: Any, labels: LabelSource, *, tta: bool, out: str | Path | None, progress: Progress
) -> Probe:
    """What :func:`geohp.probe` does, its arguments checked.

    Args:
        options: the model, or the backbone, and how scenes are read; ``seed`` is of everything random.
        scenes: what the labels lie on; ``None`` for the images that the model was trained on.
        labels: where they are from.
        tta: average codes over the eight flips and rotations of each window.
        out: a model file to write.
        progress: of looking for labels, encoding and validating.
    """
    segmenter, openers = _resolve(options, scenes)
    labelled = read_labelled_codes(segmenter.model, openers, labels, seed=options.seed, progress=progress, tta=tta)
    _check_classes(labelled, str(labels.source) if isinstance(labels.source, str | Path) else "the reference")
    result = _learn(segmenter, labelled, options.seed, progress, tta=tta)
    if out is not None:
        save_model(result.segmenter.model, out)
    return result


def _learn(segmenter: Segmenter, labelled: LabelledCodes, seed: int, progress: Progress, *, tta: bool) -> Probe:
    conditioning = Conditioning.of(labelled.mean, labelled.covariance, segmenter.model.code_parts)
    rows = conditioning(labelled.codes), labelled.classes, labelled.groups, len(labelled.names)
    progress("validating", 0, 1)
    validation = cross_validate(*rows, seed=seed)
    shrinkage = choose_shrinkage(*rows, seed=seed)
    classifier = conditioning.undo(fit_classifier(rows[0], labelled.classes, len(labelled.names), shrinkage))
    if validation.tested.any():
        tested = validation.tested
        sharpness = fit_sharpness(validation.logits[tested], labelled.classes[tested])
        validation = CrossValidation(sharpness * validation.logits, tested)
        classifier = classifier.scaled(sharpness)
    progress("validating", 1, 1)
    model = _with_probe(segmenter.model, classifier, labelled, tta=tta)
    taught = Segmenter(model, segmenter.device, f"a probe of {len(labelled.names)} classes on {segmenter.origin}")
    return Probe.of(taught, labelled, score(labelled, validation, seed=seed), shrinkage)


def _with_probe(
    model: LandCoverModel, classifier: LinearClassifier, labelled: LabelledCodes, *, tta: bool
) -> LandCoverModel:
    """The model with the classifier as the probe that predicts."""
    linear = LinearProbe(model.card.code_channels, len(labelled.names))
    with torch.no_grad():
        linear.classifier.weight.copy_(torch.from_numpy(classifier.weight)[:, :, None, None])
        assert linear.classifier.bias is not None
        linear.classifier.bias.copy_(torch.from_numpy(classifier.bias))
    card = replace(
        model.card,
        classes=_classes(labelled),
        probe="linear",
        cluster_to_class=None,
        smooth_scores=True,
        tta=tta,
        geohp_version=__version__,
    )
    return LandCoverModel(model.backbone, model.head, model.probe, card, linear)


def _classes(labelled: LabelledCodes) -> tuple[LandCoverClass, ...]:
    """The classes in the reference's colours, else in those of what they look like."""
    names = labelled.names
    first = sorted(range(len(names)), key=lambda number: names[number] not in labelled.colours)
    entries = [LandCoverClass(number, names[number], "") for number in first]
    chosen = [labelled.colours[names[number]] for number in first if names[number] in labelled.colours]
    places = torch.from_numpy(np.argsort(first)[labelled.classes])
    coloured = coloured_by_look(entries, torch.from_numpy(labelled.looks), places, chosen)
    return tuple(sorted(coloured, key=lambda entry: entry.id))


def _check_classes(labelled: LabelledCodes, name: str) -> None:
    """Refuse one class alone, and more than a map can hold."""
    names = labelled.names
    if len(names) < 2:
        raise DataError(f"{name} labels the scenes with one class only ({names[0]})", "label at least two")
    if len(names) >= NODATA_LABEL:
        problem = f"{name} labels the scenes with {len(names)} classes, but a map holds {NODATA_LABEL - 1}"
        raise DataError(problem, "choose another {option}", option="field")


@dataclass(frozen=True)
class _Scenes:
    """The scenes as they were named: in memory, or files."""

    in_memory: tuple[Any, ...]
    paths: tuple[str, ...]

    @classmethod
    def of(cls, scenes: Any) -> _Scenes:
        # Arrays can be gone through, too: band by band; and samples of TorchGeo's, name by name.
        is_one = isinstance(scenes, str | Path | Scene | Mapping) or getattr(scenes, "ndim", 1) != 1
        single = is_one or not isinstance(scenes, Iterable)
        listed = [scenes] if single else list(scenes)
        if not listed:
            raise ConfigError("no scenes to find labels on", "name some")
        if all(isinstance(scene, str | Path) for scene in listed):
            return cls((), tuple(find_images(listed)))
        return cls(tuple(listed), ())

    def openers(self, segmenter: Segmenter) -> list[SceneOpener]:
        """What opens each as the model sees it; of files that measure their values, all are scaled alike."""
        card = segmenter.model.card
        if self.in_memory:
            return [lambda scene=scene: segmenter.open(scene) for scene in self.in_memory]  # type: ignore[misc]
        collection = self.collection(card.bands, card.scaling)

        @contextmanager
        def opened(path: str) -> Iterator[Scene]:
            with collection.open(path) as scene:
                segmenter.check_bands(scene)
                yield scene

        return [lambda path=path: opened(path) for path in self.paths]  # type: ignore[misc]

    def collection(self, bands: BandRequest, scaling: str) -> SceneCollection:
        """The files, all of which can be opened."""
        collection = SceneCollection(self.paths, bands=bands, scaling=scaling)
        if collection.failed:
            raise next(iter(collection.failed.values()))
        return collection


def _resolve(options: ModelOptions, scenes: Any) -> tuple[Segmenter, list[SceneOpener]]:
    """The model whose codes are learnt from, and what opens the scenes as it sees them."""
    segmenter = load_segmenter(options)
    if segmenter is None:
        named = _Scenes.of(scenes)
        segmenter = _raw_features(named, options)
        return segmenter, named.openers(segmenter)
    if scenes is None:
        scenes = segmenter.model.card.config.get("data", {}).get("images")
        if not scenes:
            raise ConfigError("the model does not say which images it was trained on", "name the scenes")
        logger.info("looking for labels on the images that the model was trained on")
    return segmenter, _Scenes.of(scenes).openers(segmenter)


def _raw_features(scenes: _Scenes, options: ModelOptions) -> Segmenter:
    """A model of standardised features alone, which remembers how large the scenes' pixels are."""
    fit = FitOptions(
        classes=1, backbone=options.backbone, weights=options.weights, block=options.block, bands=options.bands,
        scaling=options.scaling, seed=options.seed,
    )  # fmt: skip
    scaling = options.scaling or "auto"
    colour_share = 0.0  # to a classifier every part counts the same, and colour lowers its scores (docs/probe.md)
    if scenes.paths:
        collection = scenes.collection(options.bands, scaling)
        segmenter = Segmenter.fit(collection, fit, device=options.device, colour_share=colour_share)
        grids = [scene.grid for scene in collection.scenes]
    else:
        with as_scene(scenes.in_memory[0], bands=options.bands, scaling=scaling) as scene:
            segmenter = Segmenter.fit(scene, fit, device=options.device, colour_share=colour_share)
            grids = [scene.grid]
    sizes = [size for grid in grids if (size := grid.pixel_size_m) is not None]
    card = replace(segmenter.model.card, pixel_size_m=float(np.median(sizes)) if sizes else None)
    raw = segmenter.model.with_card(card)
    return Segmenter(raw, options.device, f"raw {raw.backbone.name} features")
