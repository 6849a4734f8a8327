"""The data section of a configuration: one strict model a source, told apart by ``data.source``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from geohp.config.strict import Strict
from geohp.options import LARGEST_PATCH_PX

Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class _Source(Strict):
    """What all sources answer."""

    evaluation_px: int = Field(default=320, ge=8, le=LARGEST_PATCH_PX)
    """Side of the images that are evaluated; 320 in the published protocols."""

    @property
    def model_input_px(self) -> int:
        """Side of the training images that the backbone sees, in pixels."""
        raise NotImplementedError

    @property
    def scene_patch_px(self) -> int:
        """Side in pixels of the imagery of what becomes ``model_input_px``: tells how far inference has to zoom."""
        return self.model_input_px

    @property
    def read_bands(self) -> tuple[int | str, ...] | None:
        """Bands as asked for; ``None`` is red, green, blue."""
        return None

    @property
    def read_scaling(self) -> str:
        """How values become [0, 1]."""
        return "type"


_LISTS = frozenset({"images", "exclude", "labels", "test_images", "mask_polygons"})
"""Lists of which one entry may stand alone."""


def _or(schema: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The JSON schema of a key that may also be of another kind."""
    about: dict[str, Any] = {name: schema[name] for name in ("default", "description", "title") if name in schema}
    return {**about, "anyOf": [{name: schema[name] for name in schema.keys() - about.keys()}, other]}


class _Own(_Source):
    """What data of one's own have in common: labels that mean whatever one says, patches of any size."""

    patch_px: int = Field(default=224, ge=8, le=LARGEST_PATCH_PX)
    """Side of a patch in pixels of the scene. ``auto`` is 32 of the backbone's own patches."""
    input_px: int | None = Field(default=None, ge=8, le=LARGEST_PATCH_PX)
    """Side the patch is resized to for the backbone; ``patch_px`` where not given."""
    patches: int = Field(default=1024, ge=1)
    """How many patches are sampled in all, spread over the images by their valid area."""
    label_classes: dict[str, str | None] = Field(default={})
    """What labels mean: value, text of polygons or colour ``#rrggbb`` to class; several may be one class, those of
    ``null`` are unknown, ``*`` stands for all others. A list names the values 0, 1, 2, ... By default every value that
    occurs is a class."""

    bands: Sequence[int | str] | None = None
    """Which bands, in order."""
    scaling: str = "auto"
    """How values become [0, 1]: auto, type, percentiles:2,98, percentiles-per-band:2,98 or LOW,HIGH; one rule a
    scene, or a data set of TorchGeo's."""

    @classmethod
    def __get_pydantic_json_schema__(cls, source: Any, handler: Any) -> dict[str, Any]:
        """With the short forms, which :meth:`_short_forms` writes out."""
        schema = super().__get_pydantic_json_schema__(source, handler)
        keys = handler.resolve_ref_schema(schema)["properties"]
        for name in _LISTS & keys.keys():
            keys[name] = _or(keys[name], {"type": "string"})
        keys["label_classes"] = _or(keys["label_classes"], {"type": "array"})
        keys["patch_px"] = _or(keys["patch_px"], {"const": "auto"})
        del keys["evaluation_px"]["default"]  # the side of the training images
        keys["evaluation_px"]["description"] += " By default `input_px`, or else `patch_px`."
        return schema

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        value = dict(value)
        for key in _LISTS:
            if isinstance(value.get(key), str):
                value[key] = [value[key]]
        classes = value.get("label_classes")
        if isinstance(classes, list):
            classes = dict(enumerate(classes))
        if isinstance(classes, dict):
            value["label_classes"] = {str(k): v for k, v in classes.items()}
        # One's own images are judged as they were learnt from, unless asked otherwise.
        side = value.get("input_px") or value.get("patch_px", cls.model_fields["patch_px"].default)
        return {"evaluation_px": side, **value} if isinstance(side, int) else value

    @property
    def model_input_px(self) -> int:
        """Side of the training images that the backbone sees, in pixels."""
        return self.input_px or self.patch_px

    @property
    def scene_patch_px(self) -> int:
        """Side of a patch in pixels of the scene."""
        return self.patch_px

    @property
    def read_bands(self) -> tuple[int | str, ...] | None:
        """Bands as asked for."""
        return tuple(self.bands) if self.bands else None

    @property
    def read_scaling(self) -> str:
        """As given."""
        return self.scaling


class OrthophotosConfig(_Own):
    """One's own imagery: which, how patches are cut from it, what is known of it, and what is held out."""

    source: Literal["orthophotos"] = "orthophotos"
    images: list[str] = Field(min_length=1)
    """Files, folders (searched recursively), glob patterns, footprint indices or STAC catalogues, relative to the
    working folder."""
    exclude: list[str] = Field(default=[])
    """Glob patterns, matched against file names, to leave out (masks, labels, previews)."""
    bands: list[int | str] | None = None
    """Band numbers from 1, names or colours, or both ("nir=4"); red, green, blue by default."""
    min_valid: float = Field(default=0.9, ge=0, le=1)
    """Share of valid pixels a patch must have."""
    asset: str | None = None
    """Which asset of STAC items holds the image, where there are several."""
    area: str | list[float] | None = None
    """Area of interest: a file of polygons, or west, south, east, north in degrees. Patches lie wholly within it."""
    area_layer: str | None = None
    """The layer of a file of polygons that has several."""
    layout: Literal["random", "grid"] = "random"
    """Patches at random places, or all those of a grid (``patches`` then has no meaning)."""
    stride_px: int | None = Field(default=None, ge=1)
    """Step of the grid in pixels of the scene; ``patch_px`` where not given."""
    pixel_size_m: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Ground sampling distance, in metres, that all images are brought to: ``patch_px`` and ``stride_px`` are then
    pixels of that size, whatever the images' own. By default every image is cut at its own."""
    labels: list[str] = Field(default=[])
    """Label rasters by pattern (``{stem}_labels.png``), folder or name, or files of polygons; none by default."""
    label_field: str | None = None
    """The attribute of polygons that holds the class; may be left out where only one can."""
    label_layer: str | None = None
    """The layer of a file of polygons that has several."""
    mask_polygons: list[str] = Field(default=[])
    """Files of polygons, each of which is taken to be one thing (fields, parcels, buildings), for
    ``method.masks.proposals = data``; what they are is not asked."""
    mask_layer: str | None = None
    """The layer of a file of such polygons that has several."""
    split: Literal["none", "tile", "folder", "block"] = "none"
    """What goes to train or test as a whole: images, folders of images, or square blocks of ground."""
    test_share: float = Field(default=0.25, gt=0, lt=1)
    """Share of the images' or blocks' area to test on."""
    test_images: list[str] = Field(default=[])
    """Files, folders or patterns of the images to test on, instead of a split."""
    block_m: float | None = Field(default=None, gt=0)
    """Side of the blocks in metres, in pixels where images are not georeferenced; eight patches by default."""
    gap_m: float = Field(default=0.0, ge=0)
    """Distance that patches to train on keep from test blocks, in the unit of ``block_m``."""
    split_seed: int = Field(default=0, ge=0)
    """Of which groups or blocks are to test."""

    @model_validator(mode="after")
    def _fits_together(self) -> OrthophotosConfig:
        if self.test_images and self.split != "none":
            raise ValueError("test_images and split both say what to test on; leave one of them out")
        if isinstance(self.area, list):
            good = len(self.area) == 4 and self.area[0] < self.area[2] and self.area[1] < self.area[3]
            if not good:
                raise ValueError("area must be a file of polygons, or [west, south, east, north] in degrees")
        return self

    def source_px(self, px: float, own_m: float | None) -> int:
        """Length on an image, in its own pixels, of what training counts as ``px``; to the nearest one, at least one.

        Args:
            px: in pixels of ``pixel_size_m``, where that is given, else in the image's own.
            own_m: pixel size of the image in metres.
        """
        return max(1, round(px if self.pixel_size_m is None or own_m is None else px * self.pixel_size_m / own_m))

    def area_px(self, px: float, own_m: float | None) -> float:
        """The reverse for areas: ``px`` pixels of an image, as training counts them."""
        return px if self.pixel_size_m is None or own_m is None else px * (own_m / self.pixel_size_m) ** 2


class _Benchmark(_Source):
    """A published data set below ``root``."""

    root: str
    """The folder that holds the data set; relative to the working folder."""
    input_px: int = Field(default=224, ge=8, le=LARGEST_PATCH_PX)
    """Side of the training images that the backbone sees, in pixels."""

    @property
    def model_input_px(self) -> int:
        """Side of the training images that the backbone sees, in pixels."""
        return self.input_px


class PotsdamConfig(_Benchmark):
    """Potsdam-3: prepared patches, or the tiles as ISPRS hands them out."""

    source: Literal["potsdam"]
    bands: list[Literal["red", "green", "blue", "nir"]] = Field(
        default=["red", "green", "blue"], min_length=1, max_length=4
    )
    """What the backbone sees, e.g. ``[nir, red, green]``."""
    train_split: Literal["labelled_train", "unlabelled_train", "all"] = "labelled_train"
    """Patches to train on; published figures are of ``labelled_train`` (their labels teach the linear probe alone)."""
    split_seed: int = Field(default=0, ge=0)
    """Of our own split, where ISPRS tiles come without the published lists."""

    @property
    def scene_patch_px(self) -> int:
        """Patches of 200 px at 10 cm."""
        return 200

    @property
    def read_bands(self) -> tuple[int | str, ...] | None:
        """Bands as asked for."""
        return tuple(self.bands)


class _FiveCropped(_Benchmark):
    """Whole photographs, trained on five crops of each."""

    crop_ratio: float | None = Field(default=0.5, gt=0, le=1)
    """Side of the five training crops as a share of the image's; ``null`` trains on whole images, centre-cropped."""
    prepared: str | None = None
    """Folder of crops made beforehand by ``geohp prepare``; cut on the fly where not given."""


class CocoStuffConfig(_FiveCropped):
    """COCO-Stuff-27: COCO 2017 images, the 182 fine labels mapped to 27, curated lists."""

    source: Literal["cocostuff"]
    train_list: str = "Coco164kFull_Stuff_Coarse"
    """List below ``curated/train2017`` of the images to train on."""
    evaluation_list: str = "Coco164kFull_Stuff_Coarse_7"
    """List below ``curated/val2017`` of the images to evaluate on."""


class CityscapesConfig(_FiveCropped):
    """Cityscapes-27: leftImg8bit and gtFine."""

    source: Literal["cityscapes"]


class VocConfig(_Benchmark):
    """PASCAL VOC 2012, semantic segmentation, in torchvision's layout."""

    source: Literal["voc"]
    train_list: str = "train"
    """List below ``ImageSets/Segmentation`` of the images to train on."""
    evaluation_list: str = "val"
    """List of the images to evaluate on."""
    saliency: str | None = None
    """Folder of maps ``ID.png`` of what is salient (above half of a map's largest value) in the images of both lists:
    the masks of ``method.masks.proposals = data``, and what is clustered where they are evaluated as masks."""


Option = int | float | str | bool | None


class TorchGeoConfig(_Own):
    """A data set of TorchGeo's."""

    source: Literal["torchgeo"]
    dataset: Name
    """Class in ``torchgeo.datasets``."""
    options: dict[str, Option | list[Option]] = Field(default={})
    """Arguments of its constructor (root, paths, split, download, ...)."""
    train_options: dict[str, Option | list[Option]] = Field(default={})
    """Further ones for the images to train on, such as ``{split: train}``."""
    test_options: dict[str, Option | list[Option]] = Field(default={})
    """Further ones for the images to be judged on, such as ``{split: test}``; none: the same images are."""
    label_dataset: Name | None = None
    """For images and labels in data sets of their own: the one of labels, intersected with ``dataset``."""
    label_options: dict[str, Option | list[Option]] = Field(default={})
    """Arguments of its constructor."""
    bands: list[int] | None = None
    """Band numbers from 1; all by default."""


AnyDataConfig = OrthophotosConfig | PotsdamConfig | CocoStuffConfig | CityscapesConfig | VocConfig | TorchGeoConfig
DATA_SOURCES: dict[str, type[AnyDataConfig]] = {
    "orthophotos": OrthophotosConfig,
    "potsdam": PotsdamConfig,
    "cocostuff": CocoStuffConfig,
    "cityscapes": CityscapesConfig,
    "voc": VocConfig,
    "torchgeo": TorchGeoConfig,
}
DataConfig = Annotated[AnyDataConfig, Field(discriminator="source")]
