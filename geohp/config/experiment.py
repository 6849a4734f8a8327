"""The experiment as typed, strict models: what a YAML file or ``--set key=value`` may say.

Unknown keys, wrong types and impossible values are errors that name the key, and the nearest one where it was
misspelt; :mod:`geohp.config.loading` reads files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from geohp.classes import LandCoverClass, default_classes, is_colour
from geohp.config.data import DATA_SOURCES, DataConfig
from geohp.config.strict import Strict

Derived = Annotated[int | None, BeforeValidator(lambda value: None if value == "auto" else value)]
"""A number that ``auto`` (or ``null``) leaves to :func:`geohp.training.defaults.resolve`, which knows the images."""


class BackboneConfig(Strict):
    """The frozen feature extractor."""

    name: str = "rcf"
    """``rcf`` (random convolutional features, no download) or the timm name of a vision transformer."""
    weights: str | None = None
    """File with pretrained weights; ``None`` asks the model hub."""
    block: int = -1
    """Block whose output is used, counted from 0; -1 is the last, after its final norm."""
    options: dict[str, int | float | str | bool | list[int] | list[float]] = Field(default={})
    """Further arguments of the backbone's constructor (patch_size, filters, ...)."""


class LearningRates(Strict):
    """AdamW for the head, Adam for the rest; the published values."""

    head: float = Field(default=5e-4, gt=0)
    projection: float = Field(default=5e-4, gt=0)
    linear_probe: float = Field(default=1e-3, gt=0)
    cluster_probe: float = Field(default=5e-3, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)


class HPConfig(Strict):
    """Hidden Positives (CVPR 2023); symbols of the paper in brackets."""

    name: Literal["hp"] = "hp"
    code_channels: int = Field(default=256, ge=2)
    """Width of the codes (D)."""
    temperature: float = Field(default=0.4, gt=0)
    """Softmax temperature of the contrastive loss (tau)."""
    consistency_weight: float = Field(default=0.0, ge=0)
    """Weight of the photometric consistency term (alpha); 0 skips the augmented view altogether."""
    keep_rate: float = Field(default=1.0, ge=0, le=1)
    """Share of non-positives that stay in the denominator (rho)."""
    pool_size: Derived = Field(default=None, ge=1)
    """Rows of each reference pool (R); ``auto`` goes by the number of images."""
    ema_momentum: float = Field(default=0.999, ge=0, lt=1)
    """Momentum of the averaged head (m)."""
    warmup_steps: Derived = Field(default=None, ge=0)
    """Steps before task-specific positives come in; their weight (lambda) then grows linearly to 1. ``auto`` goes by
    the number of steps."""
    renew_interval: Derived = Field(default=None, ge=1)
    """Steps of an epoch between refills of the task-specific pool; ``auto`` goes by the steps of an epoch."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of channels dropped, per image."""
    reweight: bool = True
    """Weight each anchor by how many positives it found."""
    refit_probe: bool = True
    """Settle the clusters by k-means on the trained codes; false keeps the published gradient-trained probe."""
    learning_rates: LearningRates = LearningRates()
    clip_norm: float = Field(default=10.0, gt=0)
    """Largest gradient norm of the head."""


class KMeansConfig(Strict):
    """Spherical k-means on standardised backbone features: the baseline, and the answer without training."""

    name: Literal["kmeans"] = "kmeans"
    samples: int = Field(default=100_000, ge=1)
    """Patch features drawn to fit the centroids."""
    iterations: int = Field(default=50, ge=1)
    restarts: int = Field(default=5, ge=1)


_METHODS: dict[str, type[HPConfig | KMeansConfig]] = {"hp": HPConfig, "kmeans": KMeansConfig}
MethodConfig = Annotated[HPConfig | KMeansConfig, Field(discriminator="name")]
VARIANTS: dict[str, tuple[str, str, Mapping[str, type[BaseModel]]]] = {
    "data": ("source", "orthophotos", DATA_SOURCES),
    "method": ("name", "hp", _METHODS),
}
"""Sections that come in variants: the key that tells which, the one meant where it is left out, and all of them."""


class ClassesConfig(Strict):
    """How many classes to find, and how they are shown."""

    count: int = Field(default=6, ge=2, le=254)
    extra_clusters: int = Field(default=0, ge=0, le=252)
    """Clusters beyond ``count`` (over-clustering): scores match the best ``count`` of them one to one and give each of
    the rest to the class of most of its pixels; in a map they are classes of their own until a legend merges them."""
    names: list[str] | None = None
    colours: list[str] | None = None
    sweep: list[Annotated[int, Field(ge=2, le=254)]] = Field(default=[])
    """Numbers of classes to compare after training, without labels: ``geohp train --sweep classes=3..12``."""
    choose: bool = False
    """Take the number that the sweep recommends in place of ``count``."""

    @property
    def clusters(self) -> int:
        """How many clusters the probe has."""
        return self.count + self.extra_clusters

    def described(self) -> tuple[LandCoverClass, ...]:
        """Every cluster as a class: named and coloured as the lists say; what they leave out, by default.

        No default colour is one of the list's.
        """
        names = [*(self.names or ()), *(c.name for c in default_classes(self.clusters)[len(self.names or ()) :])]
        taken = {colour.lower() for colour in self.colours or ()}
        free = [c.colour for c in default_classes(self.clusters + len(taken)) if c.colour not in taken]
        colours = [*(self.colours or ()), *free]
        return tuple(LandCoverClass(i, names[i], colours[i]) for i in range(self.clusters))

    @model_validator(mode="after")
    def _lists_fit(self) -> ClassesConfig:
        if self.clusters > 254:
            raise ValueError(
                f"{self.count} classes and {self.extra_clusters} extra clusters are {self.clusters}, more than 254"
            )
        for key, value in (("names", self.names), ("colours", self.colours)):
            if value is not None and len(value) != self.count:
                raise ValueError(f"{key} has {len(value)} entries for {self.count} classes")
        for colour in self.colours or ():
            if not is_colour(colour):
                raise ValueError(f"colours: {colour!r} is not of the form #rrggbb")
        return self


class TrainConfig(Strict):
    """The training loop."""

    epochs: Derived = Field(default=None, ge=1)
    """Passes over the images; ``auto`` derives them from how many there are."""
    batch_size: int = Field(default=16, ge=1)
    """Images a step, on each device."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int = Field(default=1, ge=1)
    """How many devices of that kind share the work; positives are looked for within a device's images."""
    precision: Literal["32", "bf16", "fp16"] = "32"
    """Of matrix products; sums, weights and losses stay in float32."""
    deterministic: bool = False
    """Only algorithms that repeat to the last bit, also on a GPU, where they are slower; on a CPU they always do."""
    checkpoint_minutes: float = Field(default=10.0, ge=0)
    """Minutes between two checkpoints within an epoch; every epoch ends with one."""
    loggers: list[Literal["wandb", "mlflow"]] = Field(default=[])
    """Services to log to besides CSV and TensorBoard, where their packages are installed."""
    seed: int = Field(default=0, ge=0)
    workers: int = Field(default=0, ge=0)
    """Processes that read patches; 0 reads in the main process."""
    score_every: int = Field(default=0, ge=0)
    """Epochs between two scores on the labelled images that ``geohp evaluate`` judges on; 0 scores never. Training
    does not learn of them; the best epoch is kept beside the result, under the name ``best_on_labels``."""
    cache: Literal["auto", "memory", "disk", "off"] = "auto"
    """Where the backbone's features are kept once computed: in memory, on disk for coming runs, or nowhere; ``auto``
    puts them on disk where computing them takes more than a minute."""
    cache_dir: str | None = None
    """Folder of features on disk; by default ``geohp/features`` in the user's cache folder."""
    cache_gib: float = Field(default=4.0, ge=0)
    """Memory for features (a GPU's does not count); where they need more, they stay on disk, or are computed anew
    every epoch."""
    cache_dtype: Literal["auto", "float32", "float16"] = "auto"
    """Type in which features are kept; ``auto`` is float32, and float16 where training is in half precision."""
    augment: list[Literal["crop", "flip", "turn", "colour"]] = Field(default=[])
    """Random changes of the training images; features are then computed anew every epoch."""

    @property
    def features_dtype(self) -> str:
        """The type in which features are kept."""
        if self.cache_dtype != "auto":
            return self.cache_dtype
        return "float32" if self.precision == "32" else "float16"


class Config(Strict):
    """One experiment."""

    name: str = Field(default="geohp", pattern=r"^[A-Za-z0-9._-]+$")
    """Names the run folder."""
    data: DataConfig
    backbone: BackboneConfig = BackboneConfig()
    method: MethodConfig = HPConfig()
    classes: ClassesConfig = ClassesConfig()
    train: TrainConfig = TrainConfig()

    @model_validator(mode="before")
    @classmethod
    def _variants_have_defaults(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        told = {
            section: {key: usual, **value[section]}
            for section, (key, usual, _) in VARIANTS.items()
            if isinstance(value.get(section), dict)
        }
        return {**value, **told}
