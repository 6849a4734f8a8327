"""Cityscapes-27: street scenes of leftImg8bit with the fine annotations of gtFine."""

from __future__ import annotations

from pathlib import Path

from geohp.classes import LandCoverClass
from geohp.config.data import CityscapesConfig
from geohp.data.base import EvaluationProtocol
from geohp.data.benchmarks.crops import PhotographSource
from geohp.data.benchmarks.folders import listing, some
from geohp.data.benchmarks.photographs import Photograph, label_table
from geohp.errors import DataError

FIRST_LABEL = 7
"""Label ids below it mean "void": nothing is to be said there."""

# Names and colours as in the data set's own table of labels, for the ids 7 to 33.
_CLASSES = (
    ("road", "#804080"),
    ("sidewalk", "#f423e8"),
    ("parking", "#faaaa0"),
    ("rail track", "#e6968c"),
    ("building", "#464646"),
    ("wall", "#66669c"),
    ("fence", "#be9999"),
    ("guard rail", "#b4a5b4"),
    ("bridge", "#966464"),
    ("tunnel", "#96785a"),
    ("pole", "#999999"),
    ("polegroup", "#999999"),
    ("traffic light", "#faaa1e"),
    ("traffic sign", "#dcdc00"),
    ("vegetation", "#6b8e23"),
    ("terrain", "#98fb98"),
    ("sky", "#4682b4"),
    ("person", "#dc143c"),
    ("rider", "#ff0000"),
    ("car", "#00008e"),
    ("truck", "#000046"),
    ("bus", "#003c64"),
    ("caravan", "#00005a"),
    ("trailer", "#00006e"),
    ("train", "#005064"),
    ("motorcycle", "#0000e6"),
    ("bicycle", "#770b20"),
)
CITYSCAPES_CLASSES = tuple(LandCoverClass(i, name, colour) for i, (name, colour) in enumerate(_CLASSES))
COUNTS = {"train": 2975, "val": 500}
"""Images of the whole data set."""

_IMAGE, _LABEL = "_leftImg8bit.png", "_gtFine_labelIds.png"
_ARCHIVES = ("leftImg8bit_trainvaltest.zip", "gtFine_trainvaltest.zip")
_PUBLISHED_PX = 320


class Cityscapes(PhotographSource):
    """The data set below ``data.root``, where its two archives were unpacked side by side.

    Images lie in ``leftImg8bit/train/CITY/NAME_leftImg8bit.png``, labels in
    ``gtFine/train/CITY/NAME_gtFine_labelIds.png``; the same for ``val``.

    Args:
        config: sizes.

    Raises:
        DataError: there is no such folder, or it does not hold the data set.
    """

    benchmark = "cityscapes-27"

    def __init__(self, config: CityscapesConfig) -> None:
        super().__init__(config)
        self.classes = CITYSCAPES_CLASSES
        self.table = label_table({c.id + FIRST_LABEL: c.id for c in CITYSCAPES_CLASSES})
        for folder, archive in zip(("leftImg8bit", "gtFine"), _ARCHIVES, strict=True):
            if not (self.root / folder).is_dir():
                remedy = "unpack" if (self.root / archive).exists() else "fetch and unpack"
                raise DataError(f"{self.root / folder}: there is no such folder; {remedy} {archive} into {self.root}")
        # Known now, since who compares figures may ask before the images are opened.
        self.protocol = _protocol(len(self._names("val")), config.evaluation_px)

    def training_names(self) -> list[str]:
        """Names of the images of ``train``."""
        return [name for _, name in self._found("train")]

    def training_photographs(self) -> list[Photograph]:
        """The images of ``train``."""
        return self._photographs("train")

    def evaluation_photographs(self) -> list[Photograph]:
        """The images of ``val``."""
        return self._photographs("val")

    def _photographs(self, part: str) -> list[Photograph]:
        names = self._found(part)
        labels = {city: listing(self._city("gtFine", part, city)) for city in {city for city, _ in names}}
        missing = [name for city, name in names if f"{name}{_LABEL}" not in labels[city]]
        if missing:
            raise DataError(
                f"{self.root / 'gtFine' / part}: {len(missing)} of {len(names)} label files are missing "
                f"({some([name + _LABEL for name in missing])}); unpack {_ARCHIVES[1]} again"
            )
        return [
            Photograph(
                name,
                str(self._city("leftImg8bit", part, city) / f"{name}{_IMAGE}"),
                str(self._city("gtFine", part, city) / f"{name}{_LABEL}"),
            )
            for city, name in names
        ]

    def _found(self, part: str) -> list[tuple[str, str]]:
        """City and name of each image of a part, sorted."""
        names = self._names(part)
        if not names:
            raise DataError(
                f"{self.root / 'leftImg8bit' / part}: no images named CITY/*{_IMAGE} there; "
                f"unpack {_ARCHIVES[0]} into {self.root}"
            )
        return names

    def _names(self, part: str) -> list[tuple[str, str]]:
        cities = sorted(listing(self.root / "leftImg8bit" / part))
        return [
            (city, name.removesuffix(_IMAGE))
            for city in cities
            for name in sorted(listing(self._city("leftImg8bit", part, city)))
            if name.endswith(_IMAGE)
        ]

    def _city(self, kind: str, part: str, city: str) -> Path:
        return self.root / kind / part / city


def _protocol(images: int, side: int) -> EvaluationProtocol:
    same = images == COUNTS["val"] and side == _PUBLISHED_PX
    text = f"Cityscapes-27: {images} images of val, whole, the middle square at {side} px"
    if not same:
        text += f"; published figures are of all {COUNTS['val']} at {_PUBLISHED_PX} px"
    return EvaluationProtocol(Cityscapes.benchmark, same, text)
