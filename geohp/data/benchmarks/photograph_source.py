"""Data sets of photographs that train on five crops: cut on the fly, or cut once and read from a folder.

A prepared folder holds ``images/NAME_K.png`` (or ``.jpg``) and ``labels/NAME_K.png``, K = 0 to 4 in the order of
:func:`geohp.data.benchmarks.framing.five_boxes`; labels are classes from 0, 255 where unknown.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geohp.config.data import CityscapesConfig, CocoStuffConfig
from geohp.data.base import DataSource
from geohp.data.benchmarks.folders import PreparedFolder, list_names, read_manifest, shortened
from geohp.data.benchmarks.framing import CROPS, five_boxes
from geohp.data.benchmarks.photographs import Photograph, Photographs, decode
from geohp.errors import DataError
from geohp.files.checks import expand_home
from geohp.progress import Progress, no_progress

_AS_STORED = np.arange(256, dtype=np.uint8)
_FAST_PNG = 1  # the least compression: writing takes longer than anything else


class PhotographSource(DataSource):
    """Photographs below a root folder, in two parts.

    Attributes:
        benchmark: its published name.
        parts: names of the parts to train on and to be judged on.
        table: uint8 (256,), class of each stored label.
        root: where it lies.
    """

    benchmark: ClassVar[str]
    parts: ClassVar[tuple[str, str]]
    table: NDArray[np.uint8]

    def __init__(self, config: CocoStuffConfig | CityscapesConfig) -> None:
        self.config = config
        self.root = expand_home(config.root)
        if not self.root.is_dir():
            raise DataError(f"data.root = {config.root}: is no folder (seen from {Path.cwd()})", "name the data set's")

    @abstractmethod
    def names(self, part: str) -> list[str]:
        """Names of a part, in order; the photographs need not be there."""

    @abstractmethod
    def photographs(self, part: str) -> list[Photograph]:
        """Photographs of a part: files that are known to be there."""

    def training(self, progress: Progress = no_progress) -> Photographs:
        """Five crops of each training image, or whole ones."""
        config = self.config
        if config.prepared is None:
            photographs = self.photographs(self.parts[0])
            return Photographs(photographs, config.model_input_px, self.table, config.crop_ratio)
        return Photographs(self._prepared(expand_home(config.prepared)), config.model_input_px, _AS_STORED)

    def evaluation(self, progress: Progress = no_progress) -> Photographs:
        """The middle square of each image."""
        return Photographs(self.photographs(self.parts[1]), self.config.evaluation_px, self.table)

    def prepare(
        self, out: Path, *, jpeg_quality: int | None, workers: int, progress: Progress = no_progress
    ) -> tuple[int, int]:
        """Write the training crops into a folder.

        Args:
            out: the folder; see the module's text for what will lie there.
            jpeg_quality: of the images, e.g. 75; ``None`` for PNG, which keeps every value.
            workers: threads that cut.
            progress: told of photographs.

        Returns:
            How many crops were written, and how many were there already.
        """
        if self.config.crop_ratio is None:
            raise DataError("data.crop_ratio = null: whole images are trained on, there is nothing to cut")
        photographs = self.photographs(self.parts[0])
        folder = PreparedFolder(out, {**self._description(), "images": _storage(jpeg_quality)})
        suffix = _suffix(_storage(jpeg_quality))
        images, labels = folder.names("images"), folder.names("labels")
        missing = [
            p
            for p in photographs
            if any(f"{p.name}_{k}{suffix}" not in images or f"{p.name}_{k}.png" not in labels for k in range(CROPS))
        ]
        existing = len(photographs) - len(missing)
        with ThreadPoolExecutor(workers) as pool:
            try:
                cut = pool.map(lambda p: self._cut(p, folder, jpeg_quality), missing)
                for number, _ in enumerate(cut, start=existing + 1):
                    progress("cutting photographs", number, len(photographs))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        folder.finish()
        return len(missing) * CROPS, existing * CROPS

    def _cut(self, photograph: Photograph, folder: PreparedFolder, jpeg_quality: int | None) -> None:
        assert self.config.crop_ratio is not None
        colours, stored = decode(photograph)
        labels = self.table[stored]
        height, width = labels.shape
        for number, box in enumerate(five_boxes(height, width, self.config.crop_ratio)):
            name = f"{photograph.name}_{number}"
            image = np.moveaxis(colours[:, *box.slices], 0, -1)
            if jpeg_quality is None:
                folder.write(f"images/{name}.png", _saving(image, "PNG", compress_level=_FAST_PNG))
            else:
                folder.write(f"images/{name}.jpg", _saving(image, "JPEG", quality=jpeg_quality))
            folder.write(f"labels/{name}.png", _saving(labels[box.slices], "PNG"))

    def _prepared(self, folder: Path) -> list[Photograph]:
        """The crops in a folder, checked to be those that would be cut."""
        manifest = read_manifest(folder)
        if not manifest:
            raise DataError(f"data.prepared = {folder}: holds no prepared crops", "make them with geohp prepare")
        for key, value in self._description().items():
            if manifest.get(key) != value:
                raise DataError(
                    f"data.prepared = {folder}: was prepared with {key} = {manifest.get(key)} where the configuration "
                    f"means {value}",
                    "prepare it anew, or correct the configuration",
                )
        names = [f"{name}_{k}" for name in self.names(self.parts[0]) for k in range(CROPS)]
        suffix = _suffix(manifest.get("images"))
        return pair(names, folder / "images", suffix, folder / "labels", ".png", "prepare them again")

    def _description(self) -> Mapping[str, object]:
        """What prepared crops depend on."""
        names = self.names(self.parts[0])
        return {
            "dataset": self.benchmark,
            "crop_ratio": self.config.crop_ratio,
            "photographs": len(names),
            "names_sha256": hashlib.sha256("\n".join(names).encode()).hexdigest(),
        }


def pair(
    names: Sequence[str], images: Path, image_suffix: str, labels: Path, label_suffix: str, remedy: str
) -> list[Photograph]:
    """The photographs of these names, if all are there; each folder is listed once.

    Raises:
        DataError: how many are missing, the first of them by name, and the remedy.
    """
    for folder, suffix, what in ((images, image_suffix, "image"), (labels, label_suffix, "label")):
        present = list_names(folder)
        missing = [name for name in names if f"{name}{suffix}" not in present]
        if missing:
            raise DataError(
                f"{folder}: {len(missing)} of {len(names)} {what} files are missing ({shortened(missing)})", remedy
            )
    return [Photograph(n, f"{images}/{n}{image_suffix}", f"{labels}/{n}{label_suffix}") for n in names]


def _saving(pixels: NDArray[np.uint8], kind: str, **options: int) -> Callable[[BinaryIO], None]:
    """Writes an image into an open file."""
    return lambda file: Image.fromarray(np.ascontiguousarray(pixels)).save(file, kind, **options)


def _storage(jpeg_quality: int | None) -> str:
    return "png" if jpeg_quality is None else f"jpeg {jpeg_quality}"


def _suffix(storage: object) -> str:
    return ".png" if storage == "png" else ".jpg"
