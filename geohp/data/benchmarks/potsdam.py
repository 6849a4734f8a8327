"""Potsdam-3: aerial patches of 20 m, three classes; of prepared patches, or of the tiles as ISPRS hands them out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from geohp.classes import LandCoverClass
from geohp.config.data import PotsdamConfig
from geohp.data.base import DataSource, EvaluationProtocol, ImageSet, Item
from geohp.data.benchmarks.folders import PreparedFolder, list_names, read_manifest
from geohp.data.benchmarks.framing import framed
from geohp.data.benchmarks.photographs import label_table
from geohp.data.benchmarks.potsdam_patches import ALL, TEST, TRAIN, UNLABELLED, MatPatches, write_mat
from geohp.data.benchmarks.potsdam_tiles import LABELLED_TILES, TILE_PX, TILES, TilePatches, Tiles
from geohp.errors import ChangedError, DataError
from geohp.files.checks import expand_home
from geohp.progress import Progress, no_progress
from geohp.raster.read.unchanged import UnchangedFiles

POTSDAM_CLASSES: Final = (
    LandCoverClass(0, "road and car", "#ffffff"),
    LandCoverClass(1, "building and clutter", "#0000ff"),
    LandCoverClass(2, "vegetation", "#00ff00"),
)
FINE_TO_COARSE: Final = {0: 0, 4: 0, 1: 1, 5: 1, 2: 2, 3: 2}
"""Road and car; building and clutter; low vegetation and tree."""
BENCHMARK: Final = "potsdam-3"

_PIXEL_M = 0.10  # 5 cm, halved
_PUBLISHED: Final = {TRAIN: 4545, TEST: 855}
_PUBLISHED_PX = 320
_UNLABELLED_TILES: Final = tuple(tile for tile in TILES if tile not in LABELLED_TILES)
_OWN = "a split of our own"


Patches = MatPatches | TilePatches


class PotsdamPatches(ImageSet):
    """Patches by their ids as squares of ``side`` pixels, resized by nearest pixels; labelled ones carry a mask."""

    kind = "geohp.data.potsdam.PotsdamPatches"

    def __init__(self, patches: Patches, ids: Sequence[str], side: int, channels: int, *, labelled: bool) -> None:
        self.patches, self.ids, self.side = patches, list(ids), side
        self.channels, self.labelled = channels, labelled
        self._table = label_table(FINE_TO_COARSE)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Item:
        import torch  # when there is an image to read: finding them does without

        name = self.ids[index]
        item: Item = {"image": torch.from_numpy(framed(self.patches.image(name), self.side)).float().div_(255)}
        if self.labelled:
            item["mask"] = torch.from_numpy(self._table[framed(self.patches.labels(name), self.side)]).long()
        return item

    def name(self, index: int) -> str:
        """The patch's id."""
        return self.ids[index]

    def files(self) -> Sequence[str]:
        """Of images and, where there are any, of labels."""
        return self.files_of(range(len(self)))

    def files_of(self, indices: Iterable[int]) -> Sequence[str]:
        """Those of some patches."""
        return list(dict.fromkeys(file for index in indices for file in self.patches.files_of(self.ids[index])))

    def close(self) -> None:
        """Close the tiles that are open."""
        self.patches.close()


class Potsdam(DataSource):
    """The data set below ``data.root``, in either form.

    Args:
        config: bands, split and sizes.
        tile_px: side of an ISPRS tile.

    Raises:
        DataError: neither form is there, or parts of it are missing.
    """

    def __init__(self, config: PotsdamConfig, tile_px: int = TILE_PX) -> None:
        self.config = config
        self.root = expand_home(config.root)
        self.classes = POTSDAM_CLASSES
        self.pixel_size_m = _PIXEL_M
        self.patches: Patches = self._open(tile_px)
        self.splits = self._splits()
        self.protocol = self._protocol()

    def training(self, progress: Progress = no_progress) -> PotsdamPatches:
        """The patches of ``train_split``; only ``labelled_train`` with labels."""
        return self._set(self.config.train_split, self.config.model_input_px, labelled=self.config.train_split == TRAIN)

    def evaluation(self, progress: Progress = no_progress) -> PotsdamPatches:
        """The patches of ``labelled_test``."""
        return self._set(TEST, self.config.evaluation_px, labelled=True)

    def prepare(self, out: Path, progress: Progress = no_progress) -> tuple[int, int]:
        """Write the patches of ISPRS tiles in the prepared form, all four bands where there are four.

        Returns:
            How many patches were written, and how many were there already.
        """
        if not isinstance(self.patches, TilePatches):
            raise DataError(f"data.root = {self.root}: holds prepared patches already", "train on them as they are")
        tiles = TilePatches(self.patches.tiles, tile_px=self.patches.tile_px)
        used = TILES if len(tiles.present) == len(TILES) else LABELLED_TILES
        tiles.check(used, labels=False)
        tiles.check(LABELLED_TILES, labels=True)
        folder = PreparedFolder(out, self._description(tiles, used))
        with closing(tiles):
            counts = self._write_patches(folder, tiles, tiles.ids(used), progress)
        for split in (TRAIN, TEST) if used is LABELLED_TILES else self.splits:
            text = "".join(f"{name}\n" for name in self.splits[split])
            folder.write(f"{split}.txt", partial(_write_text, text))
        folder.finish()
        return counts

    def _write_patches(
        self, folder: PreparedFolder, tiles: TilePatches, ids: Sequence[str], progress: Progress
    ) -> tuple[int, int]:
        """Write the patches that are missing; how many these were, and how many were not."""
        labelled = {*self.splits[TRAIN], *self.splits[TEST]}
        images, labels = folder.names("imgs"), folder.names("gt")
        unchanged = UnchangedFiles("a tile", [file for name in ids for file in tiles.files_of(name)])
        written = 0
        for number, name in enumerate(ids, start=1):
            file = f"{name}.mat"
            if file not in images or (name in labelled and file not in labels):
                classes, image = self._read_patch(folder, tiles, ids, name, unchanged, labelled=name in labelled)
                if classes is not None:
                    folder.write(f"gt/{file}", partial(write_mat, "gt", classes))
                folder.write(f"imgs/{file}", partial(write_mat, "img", image))
                written += 1
            progress("cutting patches", number, len(ids))
        return written, len(ids) - written

    @staticmethod
    def _read_patch(
        folder: PreparedFolder,
        tiles: TilePatches,
        ids: Sequence[str],
        name: str,
        unchanged: UnchangedFiles,
        *,
        labelled: bool,
    ) -> tuple[NDArray[np.uint8] | None, NDArray[np.uint8]]:
        """Labels and image (H, W, bands) of a patch whose tile is what it was; else none of its patches stays."""
        files = tiles.files_of(name)
        try:
            with unchanged.explaining():
                classes = tiles.labels(name) if labelled else None
                image = np.ascontiguousarray(np.moveaxis(tiles.image(name), 0, -1))
            unchanged.check(files)
        except ChangedError:
            for other in ids:
                if tiles.files_of(other) == files:  # the next run would go on with the old tile's
                    folder.remove(f"gt/{other}.mat")
                    folder.remove(f"imgs/{other}.mat")
            raise
        return classes, image

    def _open(self, tile_px: int) -> Patches:
        config, root = self.config, self.root
        names = list_names(root)
        if "imgs" in names or f"{TRAIN}.txt" in names:
            self._manifest = read_manifest(root)
            return MatPatches(root, config.bands)
        self._manifest = {}
        tiles = Tiles.find(root)
        if tiles.files:
            return TilePatches(tiles, config.bands, tile_px)
        nearby = f"; did you mean {root / 'potsdam'}?" if (root / "potsdam" / "imgs").is_dir() else ""
        raise tiles.missing(
            f"neither prepared patches (imgs, gt, {TRAIN}.txt) nor the tiles of ISPRS (4_Ortho_RGBIR, 5_Labels_all; "
            "unpacked or not) are there",
            f"name their folder with data.root{nearby}",
        )

    def _splits(self) -> dict[str, list[str]]:
        """Ids by list."""
        patches = self.patches
        if isinstance(patches, MatPatches):
            splits = {split: patches.ids(split) for split in dict.fromkeys((TRAIN, TEST, self.config.train_split))}
            both = set(splits[TRAIN]) & set(splits[TEST])
            if both:
                raise DataError(
                    f"{self.root}: {len(both)} patches ({min(both)} is one) are on both {TRAIN}.txt and {TEST}.txt",
                    "unpack the lists again",
                )
            return splits
        labelled = patches.ids(LABELLED_TILES)
        train, test = own_split(labelled, self.config.split_seed)
        return {TRAIN: train, TEST: test, UNLABELLED: patches.ids(_UNLABELLED_TILES), ALL: patches.ids(TILES)}

    def _set(self, split: str, side: int, *, labelled: bool) -> PotsdamPatches:
        patches, ids = self.patches, self.splits[split]
        if isinstance(patches, MatPatches):
            patches.check(split, ids, labels=labelled)
        else:
            tiles = {UNLABELLED: _UNLABELLED_TILES, ALL: TILES}.get(split, LABELLED_TILES)
            patches.check(tiles, labels=labelled)
        return PotsdamPatches(patches, ids, side, len(self.config.bands), labelled=labelled)

    def _protocol(self) -> EvaluationProtocol:
        config, counts = self.config, {split: len(self.splits[split]) for split in (TRAIN, TEST)}
        text = f"Potsdam-3: {counts[TEST]} labelled patches at {config.evaluation_px} px"
        differs = []
        if isinstance(self.patches, TilePatches) or self._manifest:
            seed = self._manifest.get("split_seed", config.split_seed)
            differs.append(f"{_OWN} (seed {seed}): the published one was drawn at random and is not with the tiles")
        elif counts != _PUBLISHED:
            differs.append(f"other lists than the published ones of {_PUBLISHED[TRAIN]} and {_PUBLISHED[TEST]} patches")
        if config.evaluation_px != _PUBLISHED_PX:
            differs.append(f"published figures are at {_PUBLISHED_PX} px")
        same = not differs
        if config.train_split == ALL:
            differs.append("the images of the test were trained on as well, without their labels")
        return EvaluationProtocol(BENCHMARK, same, "; ".join([text, *differs]))

    def _description(self, tiles: TilePatches, used: Sequence[str]) -> Mapping[str, object]:
        """What prepared patches depend on."""
        return {
            "dataset": BENCHMARK,
            "split": _OWN,
            "split_seed": self.config.split_seed,
            "bands": list(tiles.bands),
            "tiles": list(used),
            "without_boundaries": tiles.without_boundaries,
        }


def own_split(labelled: Sequence[str], seed: int) -> tuple[list[str], list[str]]:
    """Split labelled ids into train and test, each in their order, with the published shares, 4545 to 855.

    The order that decides is that of hashes with the seed: the same for all versions of all libraries.
    """
    count = round(len(labelled) * _PUBLISHED[TEST] / sum(_PUBLISHED.values()))
    shuffled = sorted(labelled, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
    test = set(shuffled[:count])
    return [i for i in labelled if i not in test], [i for i in labelled if i in test]


def _write_text(text: str, file: BinaryIO) -> None:
    file.write(text.encode())
