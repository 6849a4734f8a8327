"""PASCAL VOC 2012, semantic segmentation, in the layout that torchvision leaves: what MaskContrast is evaluated on."""

from __future__ import annotations

from geohp.classes import LandCoverClass
from geohp.config.data import VocConfig
from geohp.data.base import DataSource, EvaluationProtocol
from geohp.data.benchmarks.folders import list_names, read_list, shortened
from geohp.data.benchmarks.photograph_source import pair
from geohp.data.benchmarks.photographs import Photograph, Photographs, label_table
from geohp.errors import DataError
from geohp.files.checks import expand_home
from geohp.progress import Progress, no_progress

# Names and colours of the data set's own label images; the first is what is none of the twenty.
_CLASSES = (
    ("background", "#000000"),
    ("aeroplane", "#800000"),
    ("bicycle", "#008000"),
    ("bird", "#808000"),
    ("boat", "#000080"),
    ("bottle", "#800080"),
    ("bus", "#008080"),
    ("car", "#808080"),
    ("cat", "#400000"),
    ("chair", "#c00000"),
    ("cow", "#408000"),
    ("dining table", "#c08000"),
    ("dog", "#400080"),
    ("horse", "#c00080"),
    ("motorbike", "#408080"),
    ("person", "#c08080"),
    ("potted plant", "#004000"),
    ("sheep", "#804000"),
    ("sofa", "#00c000"),
    ("train", "#80c000"),
    ("tv monitor", "#004080"),
)
VOC_CLASSES = tuple(LandCoverClass(i, name, colour) for i, (name, colour) in enumerate(_CLASSES))
_VAL_IMAGES = 1449
_LABEL_FOLDERS = ("SegmentationClass", "SegmentationClassAug")
"""The second holds the labels of the further images of ``trainaug``, where somebody has put them there."""


class Voc(DataSource):
    """The data set below ``data.root``, the folder that torchvision's ``VOCSegmentation`` takes as its own.

    Below ``VOCdevkit/VOC2012`` (or in ``root`` itself) lie ``JPEGImages/ID.jpg``, ``SegmentationClass/ID.png`` and
    lists of ids in ``ImageSets/Segmentation/LIST.txt``.

    Args:
        config: lists, sizes, saliency maps.

    Raises:
        DataError: there is no such folder, or it does not hold the data set.
    """

    def __init__(self, config: VocConfig) -> None:
        self.config, self.classes = config, VOC_CLASSES
        root = expand_home(config.root)
        folders = [root / "VOCdevkit" / "VOC2012", root]
        holds = [folder for folder in folders if (folder / "JPEGImages").is_dir()]
        if not holds:
            raise DataError(
                f"data.root = {config.root}: neither {folders[0]} nor the folder itself holds JPEGImages",
                "unpack VOCtrainval_11-May-2012.tar there, or let torchvision.datasets.VOCSegmentation fetch it",
            )
        self.folder = holds[0]
        self.table = label_table({entry.id: entry.id for entry in VOC_CLASSES})
        # Known now, since who compares figures may ask before the images are opened.
        self.protocol = _protocol(len(self._ids(config.evaluation_list)), config.evaluation_px)

    def training(self, progress: Progress = no_progress) -> Photographs:
        """The middle square of each image of ``train_list``."""
        return Photographs(self._photographs(self.config.train_list), self.config.model_input_px, self.table)

    def evaluation(self, progress: Progress = no_progress) -> Photographs:
        """The middle square of each image of ``evaluation_list``."""
        return Photographs(self._photographs(self.config.evaluation_list), self.config.evaluation_px, self.table)

    def _ids(self, name: str) -> list[str]:
        return read_list(self.folder / "ImageSets" / "Segmentation" / f"{name.removesuffix('.txt')}.txt")

    def _photographs(self, name: str) -> list[Photograph]:
        ids = self._ids(name)
        labels = {folder: list_names(self.folder / folder) for folder in _LABEL_FOLDERS}
        complete = (f for f, files in labels.items() if all(f"{each}.png" in files for each in ids))
        folder = next(complete, _LABEL_FOLDERS[0])
        photographs = pair(
            ids, self.folder / "JPEGImages", ".jpg", self.folder / folder, ".png", "unpack the archive again"
        )
        if self.config.saliency is None:
            return photographs
        maps = expand_home(self.config.saliency)
        present = list_names(maps)
        missing = [each for each in ids if f"{each}.png" not in present]
        if missing:
            raise DataError(
                f"data.saliency = {maps}: {len(missing)} of {len(ids)} maps are missing ({shortened(missing)})",
                f"put one named ID.png there for each image of {name}",
            )
        return [Photograph(p.name, p.image, p.label, str(maps / f"{p.name}.png")) for p in photographs]


def _protocol(images: int, side: int) -> EvaluationProtocol:
    text = (
        f"PASCAL VOC 2012: {images} images, the middle square at {side} px; published figures are of the whole images "
        f"of val ({_VAL_IMAGES})"
    )
    return EvaluationProtocol("voc-2012", images == _VAL_IMAGES, text)
