"""An experiment from its configuration to its run folder: data, backbone, method and training put together."""

from __future__ import annotations

import logging
import shutil
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geohp.classes import LandCoverClass, default_classes
from geohp.config import Config, dump_config, load_config
from geohp.errors import DataError, OutputError
from geohp.outputs import check_new_folder
from geohp.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geohp.model import LandCoverModel
    from geohp.training.features import FeatureSource

Progress = Callable[..., None]
"""Called with what is being done, how much of it is done, how much there is, and maybe a detail in words."""

_FITTED_ON = 256
"""Images a backbone that learns from data is fitted on."""
_SHOWN_PATCHES = 6


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: holds ``config.yaml``, ``model.safetensors``, ``metrics.csv``, ``loss.png`` and ``samples.png``.
        model: the trained model's file.
        seconds: how long it took.
    """

    folder: Path
    model: Path
    seconds: float


def train(
    config: Config | str | Path,
    overrides: Sequence[str] = (),
    *,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Run:
    """Train a model on unlabelled imagery.

    Args:
        config: a :class:`~geohp.config.Config`, a YAML file, or the bare name of a packaged configuration.
        overrides: such as ``train.epochs=3``, for a configuration that is read from a file.
        out: the run folder, which must not exist; ``runs/<name>-<date>-<time>`` by default.
        progress: told of surveying the images, of computing features and of training.

    Returns:
        The run folder, complete: it appears under its name only when training is done.

    Raises:
        ConfigError, DataError, SceneError, WeightsError, OutputError: one sentence and its remedy.
    """
    from geohp.data.orthophotos import OrthophotoPatches, find_images

    started = time.monotonic()
    if not isinstance(config, Config):
        config = load_config(config, overrides)
    folder = check_new_folder(out if out is not None else _dated_folder(config))
    tell = progress or (lambda *_: None)
    data = config.data
    images = OrthophotoPatches(
        find_images(data.images, data.exclude),
        patches=data.patches,
        patch_px=data.patch_px,
        input_px=data.input_px,
        bands=data.bands,
        scaling=data.scaling,
        min_valid=data.min_valid,
        seed=config.train.seed,
        progress=lambda done, total: tell("surveying images", done, total),
    )
    with closing(images), _folder_in_progress(folder) as work:
        (work / "config.yaml").write_text(dump_config(config), encoding="utf-8")
        model, source = fit(config, images, work, images.pixel_size_m, tell)
        _leave_behind(work, model, source)
    return Run(folder, folder / "model.safetensors", time.monotonic() - started)


def fit(
    config: Config,
    images: Any,
    work: Path,
    pixel_size_m: float | None,
    tell: Progress,
) -> tuple[LandCoverModel, FeatureSource]:
    """Train on any data set of patches; writes ``metrics.csv`` into ``work``.

    Args:
        config: the experiment.
        images: a map-style data set of ``{"image": (bands, H, W) in [0, 1]}``.
        work: folder for what training logs.
        pixel_size_m: ground sampling distance of the patches before they are resized.
        tell: told of fitting, caching and training.

    Returns:
        The model and the features it was trained on.
    """
    import torch

    from geohp import backbones
    from geohp.methods import create_method
    from geohp.model import LandCoverModel, ModelCard
    from geohp.model_file import describe_backbone, torch_device
    from geohp.training.features import FeatureSource

    settings, device = config.train, torch_device(config.train.device)
    torch.manual_seed(settings.seed)
    backbone = backbones.create_for_bands(
        config.backbone.name,
        int(images[0]["image"].shape[0]),
        seed=settings.seed,
        weights=config.backbone.weights,
        block=config.backbone.block,
        **config.backbone.options,
    ).to(device)
    _check_patch(config, backbone.patch_size)
    source = FeatureSource(
        images,
        backbone,
        batch_size=settings.batch_size,
        workers=settings.workers,
        seed=settings.seed,
        keep_images=getattr(config.method, "consistency_weight", 0) > 0,
    )
    if backbone.needs_fit:
        tell("fitting the backbone", 0, 1)
        backbone.fit(source.normalised(_FITTED_ON))
        tell("fitting the backbone", 1, 1)
    source.cache(settings.cache_gib * 2**30, lambda done, total: tell("computing features", done, total))
    options = {**config.method.model_dump(exclude={"name"}), "seed": settings.seed}
    method = create_method(config.method.name, backbone.channels, config.classes.count, options).to(device)
    try:
        method.prepare(source.sample)
    except ValueError as error:
        raise DataError(f"{error}; give more imagery or set classes.count lower") from error
    if method.iterative:
        _run_lightning(config, method, source, work, tell)
        method.to(device).eval()
        method.finish(source.sample)
    backbone.to(device)
    card = ModelCard(
        method=config.method.name,
        backbone=describe_backbone(backbone),
        in_channels=backbone.channels,
        code_channels=method.probe.clusters.shape[1],
        classes=_classes(config),
        bands=tuple(config.data.bands) if config.data.bands else None,
        scaling=config.data.scaling,
        patch_px=config.data.patch_px,
        input_px=config.data.side_px,
        pixel_size_m=pixel_size_m,
        config=config.model_dump(mode="json"),
        geohp_version=__version__,
    )
    # A method has a linear probe where it was given labels to train one on.
    return LandCoverModel(backbone, method.head, method.probe, card, getattr(method, "linear_probe", None)), source


def _run_lightning(config: Config, method: Any, source: FeatureSource, work: Path, tell: Progress) -> None:
    import lightning as L
    from lightning.pytorch.loggers import CSVLogger

    from geohp.training.task import MethodTask, StepReport

    settings = config.train
    batches = source.batches()
    task = MethodTask(method, source, total_steps=settings.epochs * len(batches), seed=settings.seed)
    with _quiet_lightning():
        trainer = L.Trainer(
            max_epochs=settings.epochs,
            accelerator=source.device.type,
            devices=1,
            precision="bf16-mixed" if settings.precision == "bf16" else "32-true",
            logger=CSVLogger(work, name="", version=""),
            log_every_n_steps=1,
            callbacks=[StepReport(tell, task.total_steps)],
            enable_progress_bar=False,
            enable_checkpointing=False,
            enable_model_summary=False,
        )
        trainer.fit(task, batches)
    (work / "hparams.yaml").unlink(missing_ok=True)


def _leave_behind(work: Path, model: LandCoverModel, source: FeatureSource) -> None:
    """The model file and the pictures."""
    from typing import cast

    from geohp.model_file import MODEL_NAME, save_model
    from geohp.training.pictures import draw_losses, draw_samples, spread

    save_model(model, work / MODEL_NAME)
    images = cast(Any, source.images)
    draw_samples([images[i]["image"] for i in spread(len(source), _SHOWN_PATCHES)], model, work / "samples.png")
    if (work / "metrics.csv").exists():
        draw_losses(work / "metrics.csv", work / "loss.png")


def _check_patch(config: Config, patch_size: int) -> None:
    side = config.data.side_px
    if side % patch_size:
        nearest = max(1, round(side / patch_size)) * patch_size
        key = "data.input_px" if config.data.input_px else "data.patch_px"
        raise DataError(
            f"{key} = {side}: must be a multiple of the backbone's patch of {patch_size} px, for example {nearest}"
        )


def _classes(config: Config) -> tuple[LandCoverClass, ...]:
    wanted = config.classes
    defaults = default_classes(wanted.count)
    names = wanted.names or [c.name for c in defaults]
    colours = wanted.colours or [c.colour for c in defaults]
    return tuple(LandCoverClass(i, n, c) for i, (n, c) in enumerate(zip(names, colours, strict=True)))


def _dated_folder(config: Config) -> Path:
    return Path("runs") / f"{config.name}-{time.strftime('%Y%m%d-%H%M%S')}"


@contextmanager
def _folder_in_progress(folder: Path) -> Iterator[Path]:
    """A hidden folder that takes the name ``folder`` when all went well, and vanishes otherwise."""
    work = folder.with_name(f".{folder.name}.part")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
    except OSError as error:
        raise OutputError(f"{folder}: the run folder cannot be made ({error}); choose a writable place") from error
    try:
        yield work
        if folder.exists():
            folder.rmdir()
        work.rename(folder)
    except OSError as error:
        raise OutputError(f"{folder}: the run cannot be written ({error}); check space and permissions") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Without Lightning's banners and advice: what it says of devices and workers is not the user's concern."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)
