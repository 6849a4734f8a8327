"""The experiment as typed, strict models: what a YAML file or ``--set key=value`` may say.

Unknown keys, wrong types and impossible values are errors that name the key, and the nearest one where it was
misspelt; :mod:`geohp.config.loading` reads files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import BeforeValidator, Field, model_validator

from geohp.backbones.names import AUTO, patch_size_of, without_download
from geohp.classes import LandCoverClass, default_classes, is_colour, one_spelling, unprintable
from geohp.config.data import DATA_SOURCES, DataConfig
from geohp.config.strict import Strict
from geohp.methods.factory import METHODS
from geohp.methods.hp.settings import HPSettings
from geohp.methods.settings import Bounds, MethodSettings
from geohp.options import MOST_SEED


class BackboneConfig(Strict):
    """The frozen feature extractor."""

    name: str = "rcf"
    """``rcf`` (random convolutional features, no download), the timm name of a vision transformer, or one of ours;
    ``NAME+aerial``, ``NAME+aerial3`` and ``NAME+colour`` for the features of both side by side; ``auto`` is ``aerial``
    where its weights are installed (geohp[aerial]) and three bands are read, else ``rcf``."""
    weights: str | None = None
    """File with pretrained weights; ``null`` asks the model hub, or their authors' address for a name of ours."""
    block: int = -1
    """Block whose output is used, counted from 0; -1 is the last, after its final norm."""
    remove_position_bias: bool = False
    """Subtract what a transformer's features say about a patch's place in the window (docs/accuracy.md)."""
    colour_share: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Set colour beside a transformer's features, as long as this share of them; 0 leaves it out (docs/accuracy.md)."""
    options: dict[str, int | float | str | bool | list[int] | list[float]] = Field(default={})
    """Further arguments of the backbone's constructor (patch_size, filters, ...)."""

    @model_validator(mode="after")
    def _options_are_no_keys(self) -> BackboneConfig:
        for key in self.options:
            if key in type(self).model_fields:
                raise ValueError(f"options: {key} is no further argument, but a key of its own (backbone.{key})")
        return self


if TYPE_CHECKING:
    MethodConfig = MethodSettings
else:  # told apart by their names
    MethodConfig = Annotated[Union[tuple(settings for settings, _ in METHODS.values())], Field(discriminator="name")]  # noqa: UP007

_AERIAL_OPTIONS = {"stages", "patch_size"}
"""What may be asked of ``aerial``; where ``auto`` comes with others, it is ``rcf`` that they are for."""
_AERIAL_PATCH_PX = 14
"""Side of the patches of ``aerial`` where neither was asked for: as it was compared (docs/accuracy.md)."""
_PATCHES_A_SIDE = 32
"""Patches a side of a training image of the side ``auto``: 448 px for a transformer of 14 px, 256 px for rcf."""

VARIANTS: dict[str, tuple[str, str, Mapping[str, type]]] = {
    "data": ("source", "orthophotos", DATA_SOURCES),
    "method": ("name", "hp", {name: settings for name, (settings, _) in METHODS.items()}),
}
"""Sections that come in variants: the key that tells which, the one meant where it is left out, and all of them."""


class ClassesConfig(Strict):
    """How many classes to find, and how they are shown."""

    count: int = Field(default=6, ge=2, le=254)
    """How many."""
    extra_clusters: int = Field(default=0, ge=0, le=252)
    """Clusters beyond ``count`` (over-clustering): scores match the best ``count`` of them one to one and give each of
    the rest to the class of most of its pixels; in a map they are classes of their own until a legend merges them."""
    split_covers: bool = True
    """Vegetation, open ground and water are as many classes as come out; else each is one where it covers enough,
    told by its looks, and gets its share of extra clusters, at most a third (docs/choosing-classes.md)."""
    smooth_scores: bool = False
    """Neighbouring patches have a say in each other's class, and colour within them: maps are less speckled, and small
    things of a colour of their own stay (docs/accuracy.md)."""
    names: list[str] | None = None
    """Of each of them, in their order, in which large covers come first; by default these are called what they look
    like, and the others "class" and their number."""
    colours: list[str] | None = None
    """Of each of them as ``#rrggbb``; by what the classes look like, by default."""
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
        names = [one_spelling(name) for name in self.names or ()]
        for name in names:
            if unprintable(name):
                raise ValueError(f"names: {name!r} has a line break or control character")
            if not name or names.count(name) > 1:
                problem = f"{name!r} comes twice" if name else "one is empty"
                raise ValueError(f"names: {problem}; a legend makes one class of several (geohp legend)")
        return self


def _precision(value: object) -> object:
    """YAML takes 32 for a number where it stands without quotes."""
    return "32" if value == 32 else value


class TrainConfig(Strict):
    """The training loop."""

    epochs: Annotated[int | None, Bounds(ge=1, auto=True)] = None
    """Passes over the images; ``auto`` chooses by their number, see docs/choosing-classes.md."""
    max_steps: int | None = Field(default=None, ge=1)
    """Steps after which training ends, within an epoch too; by default all of its epochs."""
    batch_size: int = Field(default=16, ge=1)
    """Images a step, on each device."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """What computes; ``auto`` is a GPU where there is one."""
    devices: int = Field(default=1, ge=1)
    """How many devices of that kind share the work; positives are looked for within a device's images."""
    precision: Annotated[Literal["auto", "32", "bf16", "fp16"], BeforeValidator(_precision)] = "auto"
    """Of matrix products; sums, weights and losses stay in float32. ``auto`` is bf16 on a GPU that has it, else 32."""
    deterministic: bool = False
    """Only algorithms that repeat to the last bit, also on a GPU, where they are slower; on a CPU they always do."""
    checkpoint_minutes: float = Field(default=10.0, ge=0)
    """Minutes between two checkpoints within an epoch; every epoch ends with one."""
    loggers: list[Literal["wandb", "mlflow"]] = Field(default=[])
    """Services to log to besides CSV and TensorBoard, where their packages are installed."""
    seed: int = Field(default=0, ge=0, le=MOST_SEED)
    """Of everything random."""
    workers: int = Field(default=0, ge=0)
    """Processes that read patches; 0 reads in the main process."""
    score_every: int = Field(default=0, ge=0)
    """Epochs between two scores on the labelled images that ``geohp evaluate`` judges on; 0 scores never. Training
    does not learn of them; the best state is kept beside the result, under the name ``best_on_labels``."""
    score_steps: int = Field(default=0, ge=0)
    """Steps of an epoch between two further scores, where epochs are scored at all; 0 for none."""
    compare_kmeans: bool = True
    """Hold the result against k-means on the same features, in the report: a few seconds."""
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
        return "float16" if self.precision in ("bf16", "fp16") else "float32"


class Config(Strict):
    """One experiment."""

    name: str = Field(default="geohp", pattern=r"^[A-Za-z0-9._-]+$")
    """Names the run folder."""
    data: DataConfig
    backbone: BackboneConfig = BackboneConfig()
    method: MethodConfig = HPSettings()
    classes: ClassesConfig = ClassesConfig()
    train: TrainConfig = TrainConfig()

    @model_validator(mode="before")
    @classmethod
    def _variants_have_defaults(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        sections = {
            section: {key: usual, **value[section]}
            for section, (key, usual, _) in VARIANTS.items()
            if isinstance(value.get(section), dict)
        }
        return _with_patch_side(_with_backbone({**value, **sections}))


def _with_backbone(values: dict[str, Any]) -> dict[str, Any]:
    """``backbone.name: auto`` becomes what there is without a download."""
    data, backbone = values.get("data"), values.get("backbone")
    if not isinstance(backbone, dict) or backbone.get("name") != AUTO:
        return values
    bands = data.get("bands") if isinstance(data, dict) else None
    options = backbone.get("options", {})
    # Weights are of another backbone, which has to be named.
    fits = backbone.get("weights") is None and isinstance(options, dict) and set(options) <= _AERIAL_OPTIONS
    name = without_download(len(bands) if isinstance(bands, list) else 3) if fits else "rcf"
    if name == "aerial" and isinstance(data, dict) and data.get("patch_px") == "auto":
        options = {"patch_size": _AERIAL_PATCH_PX, **options}
    return {**values, "backbone": {**backbone, "name": name, "options": options}}


def _with_patch_side(values: dict[str, Any]) -> dict[str, Any]:
    """``data.patch_px: auto`` becomes as many patches of the backbone as a transformer's window has by default."""
    data, backbone = values.get("data"), values.get("backbone", {})
    if not isinstance(data, dict) or data.get("patch_px") != "auto" or not isinstance(backbone, dict):
        return values
    name, options = backbone.get("name", "rcf"), backbone.get("options") or {}
    if not isinstance(name, str) or not isinstance(options, dict):  # which is refused as what it is
        return values
    side = _PATCHES_A_SIDE * patch_size_of(name, options)
    return {**values, "data": {**data, "patch_px": side}}
