"""From a configuration and images to a trained model: backbone, features, method, loop and probes put together."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from geohp.backbones.base import Backbone
from geohp.backbones.factory import create_backbone_for_bands
from geohp.classes import LandCoverClass
from geohp.config.experiment import ClassesConfig, Config, TrainConfig
from geohp.config.loading import public_config
from geohp.data.augment import Augmentation
from geohp.data.base import ImageSet
from geohp.errors import DataError
from geohp.evaluation.metrics import SegmentationScores
from geohp.features.filling import CacheOptions
from geohp.features.masks import MaskProposals
from geohp.features.neighbours import NearestImages
from geohp.features.sampler import FeatureSampler
from geohp.methods.base import Method
from geohp.methods.factory import create_method
from geohp.methods.kmeans.clustering import refit_probe
from geohp.methods.kmeans.covers import INFRARED, Cover, describe_covers, seem_infrared
from geohp.methods.maskcontrast.settings import MaskContrastSettings
from geohp.methods.settings import MethodSettings
from geohp.model.card import BackboneCard, ModelCard
from geohp.model.device import torch_device
from geohp.model.network import LandCoverModel
from geohp.progress import Progress, no_progress
from geohp.raster.read.bands import are_named, as_infrared
from geohp.raster.read.unchanged import NOTHING_TO_WATCH, UnchangedFiles
from geohp.training.checkpoints import preserve_rng_state
from geohp.training.comparison import KMeansComparison, compare_with_kmeans
from geohp.training.health import Health
from geohp.training.linear_probe import fit_linear_probe
from geohp.training.looks import colour_by_look, gather_by_look, see_patches
from geohp.training.loop import run_training
from geohp.training.relay import Relay
from geohp.training.scoring import LabelScores
from geohp.training.sweep import check_sweep, sweep_method, with_count
from geohp.training.task import MethodTask
from geohp.version import __version__

logger = logging.getLogger(__name__)

_FITTED_ON = 256
"""Images a backbone that learns from data is fitted on."""
_NO_LABELS = (
    "no patch to train on is labelled: the model has no linear probe, and its clusters alone can be scored; look "
    "whether the labels are of these images"
)


@dataclass(frozen=True)
class TrainingData:
    """What there is to learn from.

    Attributes:
        images: what to train on.
        classes: what the images' masks mean; they only ever teach a linear probe.
        eval_images: labelled images to score on while training, where ``train.score_every`` asks for it.
        pixel_size_m: ground sampling distance of the patches before they are resized.
        unchanged: tells whether the files of all images and labels are still what they were.
    """

    images: ImageSet
    classes: tuple[LandCoverClass, ...] = ()
    eval_images: ImageSet | None = None
    pixel_size_m: float | None = None
    unchanged: UnchangedFiles = NOTHING_TO_WATCH

    @property
    def label_classes(self) -> int:
        """How many classes a linear probe can learn; 0 without labels."""
        return len(self.classes) if self.images.labelled else 0


@dataclass(frozen=True)
class Trained:
    """What training leaves in memory.

    Attributes:
        model: after the last step: the result.
        config: the experiment, with the number of classes that was taken.
        method: that made it, with its pools.
        features: that it was trained on.
        warnings: sentences about what looks wrong with the result.
        best_on_labels: the model as it was when it scored best on labels, where it was scored.
        scores: the last ones, by probe.
        comparison: with k-means on the same features, where that was asked for.
        covers: of much of the ground, which were gathered into the model's first classes.
    """

    model: LandCoverModel
    config: Config
    method: Method
    features: FeatureSampler
    warnings: list[str] = field(default_factory=list)
    best_on_labels: LandCoverModel | None = None
    scores: Mapping[str, SegmentationScores] = field(default_factory=dict)
    comparison: KMeansComparison | None = None
    covers: tuple[Cover, ...] = ()


def fit(config: Config, data: TrainingData, work: Path, progress: Progress = no_progress) -> Trained:
    """Train on any data set of patches, from the last checkpoint in ``work`` where there is one.

    Args:
        config: the experiment, every number in it known (see :func:`geohp.training.defaults.resolve`).
        data: what to train on.
        work: the run folder, for what training logs.
        progress: of fitting, caching and training.

    Raises:
        ConfigError, DataError, ModelError, WeightsError, OutputError, TrainingError: one sentence and its remedy.
    """
    config = _with_precision(config)
    method, features = _prepare(config, data, progress)
    health, scores, label_classes = Health(), None, data.label_classes
    if label_classes and not features.is_labelled(label_classes):
        health.warn([_NO_LABELS])
        method.linear_probe, label_classes = None, 0
    if method.iterative:
        task = _task(config.train, method, features, progress)
        data.unchanged.check()  # or checkpoints would be of other files than the features
        relay = Relay(progress)  # several processes may report
        scores = _label_scores(config.train, data, work, relay)
        with relay.listening():
            run_training(task, config.train, work, relay, [health, *([scores] if scores else [])])
    method.to(features.device).eval()
    best_method = scores.best(method) if scores else None
    if config.classes.sweep:
        config = _sweep(config, method, features, work, progress)
    card = _card(config, features, method, data.pixel_size_m)
    model, covers = _finished(method, features, card, config.classes, progress)
    if covers:
        logger.info("%s (classes.split_covers=true tells their kinds apart)", describe_covers(covers))
    best = None
    if best_method is not None:
        best, _ = _finished(best_method, features, card, config.classes, progress)
    if label_classes and (model.linear_probe is None or not method.probe_is_final):
        for each in (model, best):
            if each is not None and not _refit_linear_probe(each, features, label_classes, config.train.seed, progress):
                health.warn([_NO_LABELS])
    with preserve_rng_state(features):
        health.check_result(method, features.sample)
    comparison = _comparison(config, label_classes, model, features, progress) if method.iterative else None
    data.unchanged.check()
    last = scores.last if scores else {}
    return Trained(model, config, method, features, health.warnings, best, last, comparison, covers)


def _with_precision(config: Config) -> Config:
    """With a precision in place of ``auto``."""
    if config.train.precision != "auto":
        return config
    on_gpu = torch_device(config.train.device).type == "cuda"
    half = on_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
    train = config.train.model_copy(update={"precision": "bf16" if half else "32"})
    return config.model_copy(update={"train": train})


def _prepare(config: Config, data: TrainingData, progress: Progress) -> tuple[Method, FeatureSampler]:
    """The method, ready for its first step, and the features that it learns from."""
    settings = config.train
    torch.manual_seed(settings.seed)
    backbone = create_backbone_for_bands(
        config.backbone.name,
        data.images.channels,
        seed=settings.seed,
        weights=config.backbone.weights,
        block=config.backbone.block,
        remove_position_bias=config.backbone.remove_position_bias,
        colour_share=config.backbone.colour_share,
        options=config.backbone.options,
    ).to(torch_device(settings.device))
    _check_patch_size(config, backbone.patch_size)
    method = create_method(
        config.method,
        backbone.channels,
        config.classes.clusters,
        label_classes=data.label_classes,
        seed=settings.seed,
    )
    features = _features(config, data, backbone, method.wants_augmented, progress)
    method.to(features.device)
    _check_enough_patches(config, features)
    method.prepare(features.sample)
    return method, features


def _features(
    config: Config, data: TrainingData, backbone: Backbone, keep_images: bool, progress: Progress
) -> FeatureSampler:
    """The images' features, kept where there is room; the backbone is fitted where it has to be."""
    settings = config.train
    features = FeatureSampler(
        data.images,
        backbone,
        batch_size=settings.batch_size,
        workers=settings.workers,
        seed=settings.seed,
        keep_images=keep_images,
        augmentation=Augmentation(settings.augment, settings.seed) if settings.augment else None,
        proposals=_proposals(config.method, data.images),
        exact=settings.precision == "32",
        unchanged=data.unchanged,
    )
    if backbone.needs_fit:
        progress("fitting the backbone", 0, 1)
        backbone.fit(features.normalised(_FITTED_ON, shuffled=backbone.fit_is_random))
        progress("fitting the backbone", 1, 1)
    options = CacheOptions(settings.cache, settings.cache_gib * 2**30, settings.cache_dir, settings.features_dtype)
    features.cache(options, progress)
    return features


def _task(settings: TrainConfig, method: Method, features: FeatureSampler, progress: Progress) -> MethodTask:
    """All steps of an iterative method."""
    steps = len(features.batches(0, settings.devices)) * (settings.epochs or 1)
    nearest = None
    if method.nearest_images:
        nearest = NearestImages(features, method.nearest_images, seed=settings.seed, progress=progress)
    return MethodTask(method, features, min(steps, settings.max_steps or steps), settings.seed, nearest)


def _label_scores(settings: TrainConfig, data: TrainingData, work: Path, progress: Progress) -> LabelScores | None:
    """What scores on labels while training, where that is asked for."""
    if data.eval_images is None or not settings.score_every:
        return None
    return LabelScores(
        data.eval_images,
        len(data.classes),
        every=settings.score_every,
        steps=settings.score_steps,
        work=work,
        progress=progress,
    )


def _proposals(method: MethodSettings, images: ImageSet) -> MaskProposals | None:
    """Of masks, for the method that contrasts them."""
    return MaskProposals(method.masks, images) if isinstance(method, MaskContrastSettings) else None


def _sweep(config: Config, method: Method, features: FeatureSampler, work: Path, progress: Progress) -> Config:
    """Compare numbers of classes on the codes; gives the configuration with the one to take."""
    with preserve_rng_state(features):
        sweep = sweep_method(
            method, features, config.classes, bands=config.data.read_bands, seed=config.train.seed, progress=progress
        )
    sweep.write(work)
    logger.info(sweep.report())
    if not config.classes.choose:
        return config
    logger.info("%d classes, as the comparison recommends", sweep.recommended)
    return with_count(config, sweep.recommended)


def _comparison(
    config: Config, label_classes: int, model: LandCoverModel, features: FeatureSampler, progress: Progress
) -> KMeansComparison | None:
    """Of the result with k-means, where that is wanted and there is enough to compare; it changes nothing."""
    if not config.train.compare_kmeans:
        return None
    with preserve_rng_state(features):
        comparison = compare_with_kmeans(
            model,
            features,
            config.classes,
            label_classes=label_classes,
            seed=config.train.seed,
            progress=progress,
        )
    if comparison is not None:
        logger.info(comparison.sentence)
    return comparison


def _finished(
    method: Method, features: FeatureSampler, card: ModelCard, classes: ClassesConfig, progress: Progress
) -> tuple[LandCoverModel, tuple[Cover, ...]]:
    """The model that a method has come to, with as many clusters as the card has classes, and the covers gathered."""
    seed = int(card.config["train"]["seed"])
    progress("finding classes", 0, 1)
    with preserve_rng_state(features):
        seen = see_patches(method.head, features, bands=card.bands)
        gathered = None
        if seen is not None and not classes.split_covers:
            if not are_named(card.bands) and seem_infrared(seen.looks):
                logger.warning("%s: data.bands=[%s]", INFRARED, as_infrared(card.bands))
            gathered = gather_by_look(method, seen, classes, seed)
        if gathered is None:  # else k-means would be for nothing
            _settle_clusters(method, features, len(card.classes), seed)
        elif classes.names is None:
            card = replace(card, classes=gathered.name(card.classes))
        elif called := gathered.called_otherwise(classes.names):
            logger.warning("%s by classes.names, which go by number, and covers come first", called)
        model = LandCoverModel(features.backbone, method.head, method.probe, card, method.linear_probe)
        if seen is not None:
            colour_by_look(model, seen, classes.colours or (), () if gathered is None else gathered.colours)
    progress("finding classes", 1, 1)
    return model, () if gathered is None else gathered.covers


def _settle_clusters(method: Method, features: FeatureSampler, count: int, seed: int) -> None:
    """Those that training came to, or was to find, unless another number is to be taken."""
    if len(method.probe.clusters) != count:
        refit_probe(method, features.sample, count, seed=seed)
    else:
        method.finish(features.sample)


def _refit_linear_probe(
    model: LandCoverModel, features: FeatureSampler, classes: int, seed: int, progress: Progress
) -> bool:
    """Give a model a linear probe that has converged on its codes; whether any patch is labelled for it."""
    width = model.card.code_channels
    probe = fit_linear_probe(model.head, features, width, classes, seed=seed, progress=progress)
    model.linear_probe = None if probe is None else probe.requires_grad_(False)
    return probe is not None


def _card(config: Config, features: FeatureSampler, method: Method, pixel_size_m: float | None) -> ModelCard:
    return ModelCard(
        method=config.method.name,
        backbone=BackboneCard.of(features.backbone),
        in_channels=features.backbone.channels,
        code_channels=method.probe.clusters.shape[1],
        classes=config.classes.described(),
        bands=config.data.read_bands,
        scaling=config.data.read_scaling,
        patch_px=config.data.scene_patch_px,
        input_px=config.data.model_input_px,
        pixel_size_m=pixel_size_m,
        config=public_config(config),
        geohp_version=__version__,
        smooth_scores=config.classes.smooth_scores,
    )


def _check_enough_patches(config: Config, features: FeatureSampler) -> None:
    """Fewer patches than clusters cannot be told apart, nor images shared out: better said now than after training."""
    if len(features) < config.train.devices:
        raise DataError(
            f"train.devices = {config.train.devices}: there are {len(features)} training images to share out",
            "ask for fewer devices or give more imagery",
        )
    with preserve_rng_state(features):
        rows, cols = next(iter(features.sample(1))).shape[-2:]
    patches = len(features) * rows * cols
    if patches < config.classes.clusters:
        raise DataError(
            f"{config.classes.clusters} clusters need at least as many patches, and the images have {patches}",
            "give more imagery or set classes.count lower",
        )
    if config.classes.sweep:
        check_sweep(config.classes, len(features), rows * cols)


def _check_patch_size(config: Config, patch_size: int) -> None:
    side = config.data.model_input_px
    if side % patch_size:
        nearest = max(1, round(side / patch_size)) * patch_size
        key = "data.input_px" if side == config.data.input_px else "data.patch_px"
        raise DataError(
            f"{key} = {side}: must be a multiple of the backbone's patch of {patch_size} px, for example {nearest}"
        )
