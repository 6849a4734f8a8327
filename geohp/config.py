"""The experiment as typed, strict models: what a YAML file or ``--set key=value`` may say.

Unknown keys, wrong types and impossible values are errors that name the key, and the nearest one where it was
misspelt. Configurations that ship with geohp are found by their bare name from any folder; a path to one's own
file wins.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from geohp.classes import is_colour
from geohp.errors import ConfigError


class _Strict(BaseModel):
    """No unknown keys, no silent conversions, no changes after validation."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class DataConfig(_Strict):
    """Which imagery is trained on, and how patches are cut from it."""

    images: list[str] = Field(min_length=1)
    """Files, folders (searched recursively) or glob patterns, relative to the working folder."""
    exclude: list[str] = []
    """Glob patterns, matched against file names, to leave out (masks, labels, previews)."""
    bands: list[int | str] | None = None
    """Band numbers from 1, names or colours; red, green, blue by default."""
    scaling: str = "auto"
    """How values become [0, 1]: auto, type, percentiles, percentiles:2,98 or LOW,HIGH; one rule a scene."""
    patches: int = Field(default=1024, ge=1)
    """How many patches are sampled in all, spread over the images by their valid area."""
    patch_px: int = Field(default=224, ge=8)
    """Side of a patch in pixels of the scene."""
    input_px: int | None = Field(default=None, ge=8)
    """Side the patch is resized to for the backbone; ``patch_px`` where not given."""
    min_valid: float = Field(default=0.9, ge=0, le=1)
    """Share of valid pixels a patch must have."""

    @model_validator(mode="before")
    @classmethod
    def _one_path_is_a_list(cls, value: Any) -> Any:
        if isinstance(value, dict):
            listed = {k: [value[k]] for k in ("images", "exclude") if isinstance(value.get(k), str)}
            return {**value, **listed}
        return value

    @property
    def side_px(self) -> int:
        """Side of the images that the backbone sees, in pixels."""
        return self.input_px or self.patch_px


class BackboneConfig(_Strict):
    """The frozen feature extractor."""

    name: str = "rcf"
    """``rcf`` (random convolutional features, no download) or the timm name of a vision transformer."""
    weights: str | None = None
    """File with pretrained weights; ``None`` asks the model hub."""
    block: int = -1
    """Block whose output is used, counted from 0; -1 is the last, after its final norm."""
    options: dict[str, int | float | str | bool | list[int] | list[float]] = {}
    """Further arguments of the backbone's constructor (patch_size, filters, ...)."""


class LearningRates(_Strict):
    """AdamW for the head, Adam for the rest; the published values."""

    head: float = Field(default=5e-4, gt=0)
    projection: float = Field(default=5e-4, gt=0)
    linear_probe: float = Field(default=1e-3, gt=0)
    cluster_probe: float = Field(default=5e-3, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)


class HPConfig(_Strict):
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
    pool_size: int = Field(default=1024, ge=1)
    """Rows of each reference pool (R)."""
    ema_momentum: float = Field(default=0.999, ge=0, lt=1)
    """Momentum of the averaged head (m)."""
    warmup_steps: int = Field(default=100, ge=0)
    """Steps before task-specific positives come in; their weight (lambda) then grows linearly to 1."""
    renew_interval: int = Field(default=20, ge=1)
    """Steps of an epoch between refills of the task-specific pool."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of channels dropped, per image."""
    reweight: bool = True
    """Weight each anchor by how many positives it found."""
    refit_probe: bool = True
    """Settle the clusters by k-means on the trained codes; false keeps the published gradient-trained probe."""
    learning_rates: LearningRates = LearningRates()
    clip_norm: float = Field(default=10.0, gt=0)
    """Largest gradient norm of the head."""


class KMeansConfig(_Strict):
    """Spherical k-means on standardised backbone features: the baseline, and the answer without training."""

    name: Literal["kmeans"] = "kmeans"
    samples: int = Field(default=100_000, ge=1)
    """Patch features drawn to fit the centroids."""
    iterations: int = Field(default=50, ge=1)
    restarts: int = Field(default=5, ge=1)


MethodConfig = Annotated[HPConfig | KMeansConfig, Field(discriminator="name")]


class ClassesConfig(_Strict):
    """How many classes to find, and how they are shown."""

    count: int = Field(default=6, ge=2, le=254)
    names: list[str] | None = None
    colours: list[str] | None = None

    @model_validator(mode="after")
    def _lists_fit(self) -> ClassesConfig:
        for key, value in (("names", self.names), ("colours", self.colours)):
            if value is not None and len(value) != self.count:
                raise ValueError(f"{key} has {len(value)} entries for {self.count} classes")
        for colour in self.colours or ():
            if not is_colour(colour):
                raise ValueError(f"colours: {colour!r} is not of the form #rrggbb")
        return self


class TrainConfig(_Strict):
    """The training loop."""

    epochs: int = Field(default=10, ge=1)
    batch_size: int = Field(default=16, ge=1)
    """Images a step."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["32", "bf16"] = "32"
    seed: int = Field(default=0, ge=0)
    workers: int = Field(default=0, ge=0)
    """Processes that read patches; 0 reads in the main process."""
    cache_gib: float = Field(default=4.0, ge=0)
    """Memory for cached backbone features; where they need more, they are computed anew every epoch."""


class Config(_Strict):
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
    def _method_is_hp(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("method"), dict) and "name" not in value["method"]:
            return {**value, "method": {"name": "hp", **value["method"]}}
        return value


def load_config(source: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration file and apply ``key.path=value`` overrides.

    Args:
        source: a path, or the bare name of a packaged configuration ("potsdam3.yaml", "potsdam3").
        overrides: such as ``train.epochs=3``; the value is read as YAML.

    Raises:
        ConfigError: when the file is missing or not YAML, or a key or value cannot be used.
    """
    path = find_config(source)
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); give a YAML file in UTF-8") from error
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where else ""
        problem = getattr(error, "problem", None) or "unexpected text"
        raise ConfigError(f"{path}: not valid YAML{line}: {problem}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: holds no keys; start from a packaged configuration such as orthophotos.yaml")
    for override in overrides:
        _apply(document, override)
    return parse_config(document, str(path))


def parse_config(document: Mapping[str, Any], where: str = "configuration") -> Config:
    """Validate a nested mapping; ``where`` names its source in errors.

    Raises:
        ConfigError: naming every key that is unknown or whose value cannot be used.
    """
    try:
        return Config.model_validate(document)
    except ValidationError as error:
        raise ConfigError(f"{where}: " + "; ".join(_explain(error))) from None


def dump_config(config: Config) -> str:
    """The configuration, defaults included, as YAML that :func:`load_config` reads back."""
    return yaml.safe_dump(json.loads(config.model_dump_json()), sort_keys=False, allow_unicode=True)


def packaged_configs() -> dict[str, Path]:
    """The configurations that ship with geohp, by file name."""
    package = Path(__file__).resolve().parent
    # Inside the package when installed from a wheel, beside it in a source checkout.
    for folder in (package / "configs", package.parent / "configs"):
        if folder.is_dir():
            return {p.name: p for p in sorted(folder.glob("*.yaml"))}
    return {}


def find_config(source: str | Path) -> Path:
    """The file that ``source`` means: an existing path first, then a packaged configuration of that name.

    Raises:
        ConfigError: when there is neither, naming the packaged ones.
    """
    path = Path(source)
    if path.is_file():
        return path
    packaged = packaged_configs()
    if path.parent == Path():
        for name in (path.name, f"{path.name}.yaml"):
            if name in packaged:
                return packaged[name]
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; give a YAML file, and the folder as --set data.images={path}")
    raise ConfigError(
        f"{path}: no such configuration file; packaged ones are {', '.join(packaged)}{nearest(path.name, packaged)}"
    )


class _Loader(yaml.SafeLoader):
    """YAML with the numbers people write: PyYAML alone takes 1e-4 for a string."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)$"),
    list("-+0123456789."),
)


def _apply(document: dict[str, Any], override: str) -> None:
    """Set one ``key.path=value`` in the nested document."""
    key, equals, text = override.partition("=")
    keys = key.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(f"--set {override}: write it as key=value, for example train.epochs=3")
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: {text!r} is not a YAML value") from error
    node = document
    for part in keys[:-1]:
        child = node.setdefault(part, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set {override}: {part!r} holds a value, not further keys")
        node = child
    node[keys[-1]] = value


def _explain(error: ValidationError) -> Iterable[str]:
    """One clause for each problem, in the words of the configuration."""
    for item in error.errors():
        # pydantic puts the chosen variant of a union (hp, kmeans) and the types it tried into the location.
        keys = [str(part) for part in item["loc"]]
        shown = ".".join(k for i, k in enumerate(keys) if not (i == 1 and keys[0] == "method"))
        given = json.dumps(item["input"], default=str) if not isinstance(item["input"], dict) else "a mapping"
        match item["type"]:
            case "extra_forbidden":
                yield f"unknown key {shown!r}{nearest(keys[-1], _fields(keys[:-1]))}"
            case "missing":
                yield f"key {shown!r} is missing"
            case "union_tag_invalid" | "union_tag_not_found":
                yield f"{shown}.name must be one of hp, kmeans"
            case "value_error":
                yield f"{shown}: {item['ctx']['error']}"
            case _:
                message = item["msg"][0].lower() + item["msg"][1:]
                yield f"{shown} = {given}: {message.replace('input should', 'it should')}"


def _fields(keys: Sequence[str]) -> Iterable[str]:
    """The keys that the model at this place knows."""
    model: Any = Config
    for key in keys:
        if key in ("hp", "kmeans") and model is None:
            model = {"hp": HPConfig, "kmeans": KMeansConfig}[key]
        elif key == "method":
            model = None
        elif model is not None and key in model.model_fields:
            model = model.model_fields[key].annotation
        if model is not None and not (isinstance(model, type) and issubclass(model, BaseModel)):
            return ()
    return model.model_fields if model is not None else ()


def nearest(word: str, known: Iterable[str]) -> str:
    """The clause "did you mean ...?" where a known word is close, else lists the known ones where they are few."""
    known = list(known)
    matches = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if matches:
        return f", did you mean {matches[0]!r}?"
    return f" (known here: {', '.join(known)})" if known and len(known) <= 20 else ""
