"""Cityscapes-27: street scenes of leftImg8bit with the fine annotations of gtFine."""

from __future__ import annotations

from pathlib import Path

from geohp.classes import LandCoverClass
from geohp.config.data import CityscapesConfig
from geohp.data.base import EvaluationProtocol
from geohp.data.benchmarks.folders import list_names, shortened
from geohp.data.benchmarks.photograph_source import PhotographSource
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
    """

    benchmark = "cityscapes-27"
    parts = ("train", "val")

    def __init__(self, config: CityscapesConfig) -> None:
        super().__init__(config)
        self.classes = CITYSCAPES_CLASSES
        self.table = label_table({c.id + FIRST_LABEL: c.id for c in CITYSCAPES_CLASSES})
        for folder, archive in zip(("leftImg8bit", "gtFine"), _ARCHIVES, strict=True):
            if not (self.root / folder).is_dir():
                remedy = "unpack" if (self.root / archive).exists() else "fetch and unpack"
                raise DataError(
                    f"{self.root / folder}: there is no such folder", f"{remedy} {archive} into {self.root}"
                )
        # Known now, since who compares figures may ask before the images are opened.
        self.protocol = _protocol(len(self._images("val")), config.evaluation_px)

    def names(self, part: str) -> list[str]:
        """Names of the images of a part."""
        return [path.name.removesuffix(_IMAGE) for path in self._known_images(part)]

    def photographs(self, part: str) -> list[Photograph]:
        """The images of a part."""
        images = self._known_images(part)
        photographs = []
        for image in images:
            name = image.name.removesuffix(_IMAGE)
            label = self.root / "gtFine" / part / image.parent.name / f"{name}{_LABEL}"
            photographs.append(Photograph(name, str(image), str(label)))
        cities = {Path(p.label).parent for p in photographs}
        present = {str(city / name) for city in cities for name in list_names(city)}
        missing = [Path(p.label).name for p in photographs if p.label not in present]
        if missing:
            raise DataError(
                f"{self.root / 'gtFine' / part}: {len(missing)} of {len(images)} label files are missing "
                f"({shortened(missing)})",
                f"unpack {_ARCHIVES[1]} again",
            )
        return photographs

    def _known_images(self, part: str) -> list[Path]:
        images = self._images(part)
        if not images:
            raise DataError(
                f"{self.root / 'leftImg8bit' / part}: no images named CITY/*{_IMAGE} there",
                f"unpack {_ARCHIVES[0]} into {self.root}",
            )
        return images

    def _images(self, part: str) -> list[Path]:
        """Images of a part, by city and name."""
        folder = self.root / "leftImg8bit" / part
        cities = [folder / city for city in sorted(list_names(folder))]
        return [city / name for city in cities for name in sorted(list_names(city)) if name.endswith(_IMAGE)]


def _protocol(images: int, side: int) -> EvaluationProtocol:
    same = images == COUNTS["val"] and side == _PUBLISHED_PX
    text = f"Cityscapes-27: {images} images of val, the middle square at {side} px"
    if not same:
        text += f"; published figures are of all {COUNTS['val']} at {_PUBLISHED_PX} px"
    return EvaluationProtocol(Cityscapes.benchmark, same, text)
