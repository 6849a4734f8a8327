"""From a configuration and images to a trained model: backbone, features, method, loop and probes put together."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from geohp.backbones.factory import create_backbone_for_bands
from geohp.classes import LandCoverClass
from geohp.config.experiment import Config
from geohp.data.augment import Augmentation
from geohp.data.base import ImageSet
from geohp.errors import DataError
from geohp.evaluation.metrics import SegmentationScores
from geohp.features.filling import CacheOptions
from geohp.features.sampler import FeatureSampler
from geohp.methods.base import Method
from geohp.methods.factory import create_method
from geohp.methods.kmeans.clustering import refit_probe
from geohp.model.card import BackboneCard, ModelCard
from geohp.model.device import torch_device
from geohp.model.network import LandCoverModel
from geohp.training.batches import FeatureBatches
from geohp.training.checkpoints import preserve_rng_state
from geohp.training.health import Health
from geohp.training.linear_probe import fit_linear_probe
from geohp.training.loop import run_training
from geohp.training.relay import Relay
from geohp.training.scoring import EpochScores
from geohp.training.sweep import sweep_method, with_count
from geohp.training.task import MethodTask
from geohp.version import __version__

Tell = Callable[..., None]
"""Called with what is being done, how much of it is done, how much there is, and maybe a detail in words."""

_FITTED_ON = 256
"""Images a backbone that learns from data is fitted on."""


@dataclass(frozen=True)
class Trained:
    """What training leaves in memory.

    Attributes:
        model: after the last step: the result.
        config: the experiment, with the number of classes that was taken.
        method: that made it, with its pools.
        source: the features it was trained on.
        warnings: sentences about what looks wrong with the result.
        best_on_labels: the model of the epoch that scored best on labels, where epochs were scored.
        scores: of the last epoch that was scored, by probe.
    """

    model: LandCoverModel
    config: Config
    method: Method
    source: FeatureSampler
    warnings: list[str] = field(default_factory=list)
    best_on_labels: LandCoverModel | None = None
    scores: Mapping[str, SegmentationScores] = field(default_factory=dict)


def fit(
    config: Config,
    images: ImageSet,
    work: Path,
    tell: Tell,
    announce: Callable[[str], None],
    *,
    classes: Sequence[LandCoverClass] = (),
    judged: ImageSet | None = None,
    pixel_size_m: float | None = None,
) -> Trained:
    """Train on any data set of patches, from the last checkpoint in ``work`` where there is one.

    Args:
        config: the experiment, every number in it known (see :func:`geohp.training.defaults.resolve`).
        images: what to train on.
        work: the run folder, for what training logs.
        tell: told of fitting, caching and training.
        announce: told in sentences of what the user should know.
        classes: what the images' masks mean; they only ever teach a linear probe.
        judged: labelled images to score epochs on, where ``train.score_every`` asks for it.
        pixel_size_m: ground sampling distance of the patches before they are resized.

    Raises:
        ConfigError, DataError, ModelError, WeightsError, OutputError, TrainingError: one sentence and its remedy.
    """
    settings = config.train
    source = _source(config, images, tell, announce)
    method = create_method(
        config.method,
        source.backbone.channels,
        config.classes.clusters,
        label_classes=len(classes) if images.labelled else 0,
        seed=settings.seed,
    )
    method.to(source.device)
    _check_patches(config, source)
    method.prepare(source.sample)
    scores = None
    tell, announce = Relay(tell), Relay(announce)
    health = Health(announce)
    if method.iterative:
        if judged is not None and settings.score_every:
            scores = EpochScores(
                judged,
                len(classes),
                every=settings.score_every,
                work=work,
                progress=tell,  # type: ignore[arg-type]
            )
        with tell.listening(), announce.listening():
            _learn(config, method, source, work, tell, [health, *([scores] if scores else [])])
    method.to(source.device).eval()
    earlier = None
    if scores is not None and scores.best_file.is_file():
        earlier = scores.restored(copy.deepcopy(method)).eval()
    if config.classes.sweep:
        config = _swept(config, method, source, work, tell, announce)
    card = _card(config, source, method, pixel_size_m)
    model = _finished(method, source, card)
    best = _finished(earlier, source, card) if earlier is not None else None
    if images.labelled and model.linear_probe is None:
        model.linear_probe = fit_linear_probe(
            model.head,
            source,
            card.code_channels,
            len(classes),
            epochs=settings.epochs or 1,
            seed=settings.seed,
            progress=lambda done, total: tell("training the linear probe", done, total),
        ).requires_grad_(False)
    with preserve_rng_state(source):
        final = health.look(method, source.sample)
    for sentence in final:
        announce(sentence)
    return Trained(model, config, method, source, [*health.warnings, *final], best, scores.last if scores else {})


def _source(config: Config, images: ImageSet, tell: Tell, announce: Callable[[str], None]) -> FeatureSampler:
    """The images' features, kept where there is room."""
    settings, device = config.train, torch_device(config.train.device)
    torch.manual_seed(settings.seed)
    backbone = create_backbone_for_bands(
        config.backbone.name,
        images.channels,
        seed=settings.seed,
        weights=config.backbone.weights,
        block=config.backbone.block,
        **config.backbone.options,
    ).to(device)
    _check_patch(config, backbone.patch_size)
    source = FeatureSampler(
        images,
        backbone,
        batch_size=settings.batch_size,
        workers=settings.workers,
        seed=settings.seed,
        keep_images=getattr(config.method, "consistency_weight", 0) > 0,
        augmentation=Augmentation(settings.augment, settings.seed) if settings.augment else None,
    )
    if backbone.needs_fit:
        tell("fitting the backbone", 0, 1)
        backbone.fit(source.normalised(_FITTED_ON))
        tell("fitting the backbone", 1, 1)
    options = CacheOptions(settings.cache, settings.cache_gib * 2**30, settings.cache_dir, settings.features_dtype)
    source.cache(options, tell)
    return source


def _learn(
    config: Config, method: Method, source: FeatureSampler, work: Path, tell: Tell, callbacks: Sequence[Any]
) -> None:
    """All steps of an iterative method."""
    settings = config.train
    epochs = settings.epochs or 1
    steps = len(source.batches(0, settings.devices))
    task = MethodTask(method, source, total_steps=epochs * steps, seed=settings.seed)
    run_training(task, FeatureBatches(task), settings, epochs, work, tell, callbacks)


def _swept(
    config: Config, method: Method, source: FeatureSampler, work: Path, tell: Tell, announce: Callable[[str], None]
) -> Config:
    """Compare numbers of classes on the codes; gives the configuration with the one to take."""
    wanted = config.classes
    with preserve_rng_state(source):
        sweep = sweep_method(
            method,
            source.sample,
            wanted.sweep,
            images=len(source),
            seed=config.train.seed,
            progress=partial(tell, "comparing numbers of classes"),
        )
    sweep.write(work)
    announce(sweep.report())
    if not wanted.choose:
        return config
    announce(f"{sweep.recommended} classes, as the comparison recommends")
    return with_count(config, sweep.recommended)


def _finished(method: Method, source: FeatureSampler, card: ModelCard) -> LandCoverModel:
    """The model that a method has come to, with as many clusters as the card has classes."""
    with preserve_rng_state(source):
        if len(method.probe.clusters) != len(card.classes):
            refit_probe(method, source.sample, len(card.classes), seed=int(card.config["train"]["seed"]))
        else:
            method.finish(source.sample)
    return LandCoverModel(source.backbone, method.head, method.probe, card, method.linear_probe)


def _card(config: Config, source: FeatureSampler, method: Method, pixel_size_m: float | None) -> ModelCard:
    return ModelCard(
        method=config.method.name,
        backbone=BackboneCard.of(source.backbone),
        in_channels=source.backbone.channels,
        code_channels=method.probe.clusters.shape[1],
        classes=config.classes.described(),
        bands=config.data.read_bands,
        scaling=config.data.read_scaling,
        patch_px=config.data.scene_patch_px,
        input_px=config.data.model_input_px,
        pixel_size_m=pixel_size_m,
        config=config.model_dump(mode="json"),
        geohp_version=__version__,
    )


def _check_patches(config: Config, source: FeatureSampler) -> None:
    """Fewer patches than clusters cannot be told apart: better said now than after training."""
    with preserve_rng_state(source):
        rows, cols = next(iter(source.sample(1))).shape[-2:]
    patches = len(source) * rows * cols
    if patches < config.classes.clusters:
        raise DataError(
            f"{config.classes.clusters} clusters need at least as many patches, and the images have {patches}; give "
            "more imagery or set classes.count lower"
        )


def _check_patch(config: Config, patch_size: int) -> None:
    side = config.data.model_input_px
    if side % patch_size:
        nearest = max(1, round(side / patch_size)) * patch_size
        key = "data.input_px" if side == config.data.input_px else "data.patch_px"
        raise DataError(
            f"{key} = {side}: must be a multiple of the backbone's patch of {patch_size} px, for example {nearest}"
        )
