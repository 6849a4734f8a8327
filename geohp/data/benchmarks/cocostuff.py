"""COCO-Stuff-27: photographs of COCO 2017, 182 fine labels merged into 27, curated lists."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

from geohp.classes import LandCoverClass, default_classes
from geohp.config.data import CocoStuffConfig
from geohp.data.base import EvaluationProtocol
from geohp.data.benchmarks.folders import read_list, shortened
from geohp.data.benchmarks.photograph_source import PhotographSource, pair
from geohp.data.benchmarks.photographs import Photograph, label_table
from geohp.errors import DataError

TABLE = Path(__file__).with_name("cocostuff27.csv")
"""Fine label, its name, its class and the class's name. The fine labels are those of COCO-Stuff (Caesar et al., CVPR
2018; its ids less one, as in its label images), the 27 classes and who belongs to which those of IIC (Ji et al., ICCV
2019), which PiCIE, STEGO and HP are evaluated with: twelve kinds of things, then fifteen of stuff."""

_PUBLISHED_LIST = "Coco164kFull_Stuff_Coarse_7"
_PUBLISHED_PX = 320
_IMAGES = ("images/{}", "{}")
_LABELS = ("annotations/{}", "stuffthingmaps/{}", "stuffthingmaps_trainval2017/{}")
_LISTS = ("curated/{}",)


@cache
def fine_to_class() -> dict[int, int]:
    """The class of each of the 182 fine labels."""
    return {int(row["fine"]): int(row["class"]) for row in _rows()}


@cache
def coco_classes() -> tuple[LandCoverClass, ...]:
    """The 27 classes."""
    names = {int(row["class"]): row["class_name"] for row in _rows()}
    return tuple(LandCoverClass(c.id, names[c.id], c.colour) for c in default_classes(len(names)))


def _rows() -> list[dict[str, str]]:
    with TABLE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class CocoStuff(PhotographSource):
    """The data set below ``data.root``.

    Images lie in ``images/train2017/ID.jpg`` (or ``train2017/ID.jpg``), labels in ``annotations/train2017/ID.png`` (or
    ``stuffthingmaps/...``), lists of ids in ``curated/train2017/LIST.txt``; the same for ``val2017``.
    """

    benchmark = "cocostuff-27"
    parts = ("train2017", "val2017")

    def __init__(self, config: CocoStuffConfig) -> None:
        super().__init__(config)
        self.classes = coco_classes()
        self.table = label_table(fine_to_class())
        self.protocol = _protocol(config)
        self._lists = dict(zip(self.parts, (config.train_list, config.evaluation_list), strict=True))

    def names(self, part: str) -> list[str]:
        """Ids on the list of a part."""
        folder = self._folder(_LISTS, part, "the curated lists of IIC, which PiCIE and STEGO pass on")
        return read_list(folder / f"{self._lists[part].removesuffix('.txt')}.txt")

    def photographs(self, part: str) -> list[Photograph]:
        """The files on the list of a part."""
        ids = self.names(part)
        images = self._folder(_IMAGES, part, f"the images of {part}.zip of COCO 2017")
        labels = self._folder(_LABELS, part, "the label images of stuffthingmaps_trainval2017.zip")
        return pair(ids, images, ".jpg", labels, ".png", f"unpack the whole of {part}, and its labels")

    def _folder(self, places: tuple[str, ...], part: str, what: str) -> Path:
        candidates = [self.root / place.format(part) for place in places]
        for folder in candidates:
            if folder.is_dir():
                return folder
        others = f", nor {shortened([str(folder) for folder in candidates[1:]])}" if candidates[1:] else ""
        raise DataError(
            f"{candidates[0]}: there is no such folder{others}",
            f"put {what} there, or name the data set's folder with data.root",
        )


def _protocol(config: CocoStuffConfig) -> EvaluationProtocol:
    name = config.evaluation_list.removesuffix(".txt")
    same = name == _PUBLISHED_LIST and config.evaluation_px == _PUBLISHED_PX
    text = f"COCO-Stuff-27: images of the curated list {name}, the middle square at {config.evaluation_px} px"
    if not same:
        text += f"; published figures are of {_PUBLISHED_LIST} at {_PUBLISHED_PX} px"
    return EvaluationProtocol(CocoStuff.benchmark, same, text)
