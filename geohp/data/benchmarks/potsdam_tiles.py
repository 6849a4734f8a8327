"""The Potsdam tiles as ISPRS hands them out, in folders or archives, read as halved patches of 200 x 200 px.

Halving follows the published preparation (IIC): a pixel of the image is the mean of two by two, one of the labels the
upper left of them.
"""

from __future__ import annotations

import logging
import os
import re
import zipfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from rasterio.io import DatasetReader

from geohp.classes import NODATA_LABEL
from geohp.data.benchmarks.folders import shortened
from geohp.data.open_files import OpenFiles
from geohp.errors import DataError
from geohp.files.reading import failure_reason
from geohp.raster.block import Block
from geohp.raster.gdal import FAILURES, gdal_env, gdal_message, open_raster

logger = logging.getLogger(__name__)

_ROWS: Final = {2: (10, 14), 3: (10, 14), 4: (10, 15), 5: (10, 15), 6: (7, 15), 7: (7, 13)}
TILES: Final = tuple(f"{row}_{col}" for row, (first, last) in _ROWS.items() for col in range(first, last + 1))
"""The 38 tiles by row and column of their layout."""
LABELLED_TILES: Final = tuple(t for t in TILES if int(t.split("_")[1]) <= 12)
"""The 24 whose labels the participants of the contest were given; those of the others came out when it was over."""

TILE_PX: Final = 6000
PATCH_PX: Final = 200
SHRINK: Final = 2
BANDS: Final = ("red", "green", "blue", "nir")
COLOURS: Final = ((255, 255, 255), (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 0), (255, 0, 0))
"""Of road, building, low vegetation, tree, car and clutter in the label tiles."""

_KINDS = {kind.lower(): kind for kind in ("RGBIR", "RGB", "label", "label_noBoundary")}
_NAME = re.compile(rf"top_potsdam_(\d+)_(\d+)_({'|'.join(_KINDS)})\.tif", re.IGNORECASE)
_ARCHIVE = re.compile(r"(potsdam|ortho|label)[^/]*\.zip$", re.IGNORECASE)
_DEPTH = 3  # folders below the root: Potsdam/4_Ortho_RGBIR/ and one to spare
_OPEN_FILES = 6
_ODD_SHARE = 0.5
_WARNED_SHARE = 0.01


@dataclass(frozen=True)
class Tiles:
    """Files of tiles.

    Attributes:
        root: where they were looked for.
        files: by kind ("RGBIR", "RGB", "label", "label_noBoundary") and tile ("2_10") a name that GDAL opens.
        problems: with archives that could not be looked into, each in a clause with its remedy.
    """

    root: Path
    files: dict[str, dict[str, str]]
    problems: list[str]

    @classmethod
    def find(cls, root: Path) -> Tiles:
        """Look through folders, three deep, and through the archives there; unpacked files come first."""
        tiles = cls(root, {}, [])
        archives: list[Path] = []
        for folder, folders, files in os.walk(root):
            if len(Path(folder).relative_to(root).parts) >= _DEPTH:
                folders.clear()
            folders.sort()
            archives += [Path(folder, name) for name in sorted(files) if _ARCHIVE.search(name)]
            for name in sorted(files):
                tiles._note(name, str(Path(folder, name)))
        for archive in archives:
            for member in tiles._members(archive):
                tiles._note(member.rsplit("/", 1)[-1], f"/vsizip/{{{archive.resolve()}}}/{member}")
        return tiles

    def missing(self, what: str, remedy: str) -> DataError:
        """What to raise where files are missing: also why they may be."""
        return DataError(f"{self.root}: {what}", "; ".join([remedy, *self.problems]))

    def _note(self, name: str, path: str) -> None:
        """Sort a file into kinds and tiles; the first of a name counts."""
        match = _NAME.fullmatch(name)
        if match and (tile := f"{int(match[1])}_{int(match[2])}") in TILES:
            self.files.setdefault(_KINDS[match[3].lower()], {}).setdefault(tile, path)

    def _members(self, archive: Path) -> list[str]:
        """Names of tiles in an archive."""
        try:
            with zipfile.ZipFile(archive) as opened:
                members = opened.infolist()
        except (OSError, zipfile.BadZipFile) as error:
            self.problems.append(f"{archive} is no sound archive ({failure_reason(error)}), fetch it again")
            return []
        inner = [member.filename for member in members if _ARCHIVE.search(member.filename)]
        if inner:
            # Reading compressed data inside compressed data would unpack gigabytes for every patch.
            self.problems.append(
                f"{archive} holds further archives ({shortened(inner)}), unpack it; they can stay packed"
            )
        tiles = [member for member in members if _NAME.fullmatch(member.filename.rsplit("/", 1)[-1])]
        if any(member.flag_bits & 1 for member in tiles):
            self.problems.append(f"{archive} is encrypted, unpack it with the password that ISPRS gives")
            return []
        return [member.filename for member in tiles]


class TilePatches:
    """Patches of the tiles by name, such as ``2_10_03_14``: tile, row and column of its 15 x 15 patches.

    Args:
        tiles: where their files are.
        bands: of the images, in order; all there are by default.
        tile_px: side of a tile.

    Attributes:
        bands: of the images.
        present: tiles with an image, in order.
        without_boundaries: labels are, for some tiles, those with the boundaries of objects left out.
        odd_px: how many pixels of the labels read so far had a colour of no class.

    Raises:
        DataError: there are no tiles with these bands.
    """

    def __init__(self, tiles: Tiles, bands: Sequence[str] | None = None, tile_px: int = TILE_PX) -> None:
        self.tiles, self.tile_px = tiles, tile_px
        # Both hold the same colours: the more complete set, and of equals the one the benchmark was made from.
        kind = max(("RGBIR", "RGB"), key=lambda k: len(tiles.files.get(k, ())))
        self._kind = "RGBIR" if "nir" in (bands or ()) else kind
        self.bands = tuple(bands or (BANDS if self._kind == "RGBIR" else BANDS[:3]))
        self._images = tiles.files.get(self._kind, {})
        if not self._images:
            only = (
                "only top_potsdam_*_RGB.tif is there" if "RGB" in tiles.files else "no top_potsdam_*_RGBIR.tif is there"
            )
            raise tiles.missing(f"{only} where bands {', '.join(self.bands)} are asked for", "fetch 4_Ortho_RGBIR.zip")
        whole, eroded = tiles.files.get("label", {}), tiles.files.get("label_noBoundary", {})
        self._labels = {**eroded, **whole}
        self.without_boundaries = bool(set(eroded) - set(whole))
        self.present = tuple(t for t in TILES if t in self._images)
        self.odd_px = 0
        self._warned: set[str] = set()
        self._open = OpenFiles[DatasetReader](_OPEN_FILES)

    @property
    def per_side(self) -> int:
        """Patches in a row or a column of a tile."""
        return self.tile_px // (PATCH_PX * SHRINK)

    def ids(self, tiles: Sequence[str]) -> list[str]:
        """The patches of tiles, in order, rows first."""
        each = range(self.per_side)
        return [f"{tile}_{row:02}_{col:02}" for tile in tiles for row in each for col in each]

    def check(self, tiles: Sequence[str], *, labels: bool) -> None:
        """See that files of these tiles are there, or raise DataError naming those that are missing."""
        needed = [(self._images, self._kind, "4_Ortho_RGBIR" if self._kind == "RGBIR" else "2_Ortho_RGB")]
        needed += [(self._labels, "label", "5_Labels_for_participants or 5_Labels_all")] if labels else []
        for files, kind, source in needed:
            missing = [f"top_potsdam_{t}_{kind}.tif" for t in tiles if t not in files]
            if missing:
                raise self.tiles.missing(
                    f"{len(missing)} of the {len(tiles)} tiles needed are missing ({shortened(missing, len(TILES))})",
                    f"fetch {source} of ISPRS Potsdam again",
                )

    def files_of(self, name: str) -> list[str]:
        """The files of a patch's tile: its image, and its labels where there are any."""
        tile, _ = self._place(name)
        return [files[tile] for files in (self._images, self._labels) if tile in files]

    def image(self, name: str) -> NDArray[np.uint8]:
        """A patch: uint8 (bands, 200, 200)."""
        tile, window = self._place(name)
        numbers = [BANDS.index(b) + 1 for b in self.bands]
        full = self._read(self._images[tile], numbers, window, bands=4 if self._kind == "RGBIR" else 3)
        split = full.reshape(len(numbers), PATCH_PX, SHRINK, PATCH_PX, SHRINK)
        total = split.sum(axis=(2, 4), dtype=np.uint16) + SHRINK**2 // 2
        halved: NDArray[np.uint8] = (total // SHRINK**2).astype(np.uint8)
        return halved

    def labels(self, name: str) -> NDArray[np.uint8]:
        """The labels of a patch: uint8 (200, 200), 0 to 5, 255 where the colour is no class's.

        Raises:
            DataError: its tile cannot be read, or most of the colours are no class's.
        """
        tile, window = self._place(name)
        path = self._labels[tile]
        colours = self._read(path, [1, 2, 3], window, bands=3)[:, ::SHRINK, ::SHRINK]
        labels, odd = classes_of(colours)
        share = odd / labels.size
        if share > _ODD_SHARE:
            raise DataError(
                f"{path}: {share:.0%} of the pixels of patch {name} have colours of no class",
                "take the label tiles of ISPRS as they are, neither converted nor compressed with loss",
            )
        self.odd_px += odd
        if share > _WARNED_SHARE and path not in self._warned:
            self._warned.add(path)
            logger.warning(
                "%s: %.1f %% of patch %s have colours of no class; they are left out", path, 100 * share, name
            )
        return labels

    def close(self) -> None:
        """Close what is open."""
        self._open.close()

    def _place(self, name: str) -> tuple[str, Block]:
        tile, row, col = name.rsplit("_", 2)
        side = PATCH_PX * SHRINK
        return tile, Block(int(row) * side, int(col) * side, side, side)

    def _read(self, path: str, numbers: list[int], block: Block, *, bands: int) -> NDArray[np.uint8]:
        try:
            with gdal_env(), self._open.use(path, lambda stack: self._opened(path, bands, stack)) as dataset:
                pixels: NDArray[np.uint8] = dataset.read(numbers, window=block.window)
        except FAILURES as error:
            # A block that failed to decode would be handed out as sound the next time.
            self._open.close(path)
            raise DataError(
                f"{path}: cannot be read ({gdal_message(error)})", "it is damaged, fetch it again"
            ) from error
        return pixels

    def _opened(self, path: str, bands: int, stack: ExitStack) -> DatasetReader:
        # Without GDAL's own threads: a reader process that is forked off would wait for those of its parent.
        dataset: DatasetReader = stack.enter_context(open_raster(path, sharing=False))
        if problem := self._problem(dataset, bands):
            raise DataError(f"{path}: {problem}", "take the tiles of ISPRS Potsdam as they are")
        return dataset

    def _problem(self, dataset: DatasetReader, bands: int) -> str | None:
        if (dataset.width, dataset.height) != (self.tile_px, self.tile_px):
            return f"is of {dataset.width} x {dataset.height} px where a tile has {self.tile_px} x {self.tile_px}"
        if dataset.count < bands:
            return f"has {dataset.count} band(s) where {bands} are expected"
        if set(dataset.dtypes) != {"uint8"}:
            return f"holds {dataset.dtypes[0]} values where uint8 are expected"
        return None


def classes_of(colours: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int]:
    """Classes of label colours.

    Args:
        colours: uint8 (3, H, W).

    Returns:
        uint8 (H, W): 0 to 5 where the colour is exactly a class's, else 255; and how many pixels are of other colours,
        black apart, which marks boundaries that were left out.
    """
    packed = colours[0].astype(np.uint32) << 16 | colours[1].astype(np.uint32) << 8 | colours[2]
    labels = np.full(packed.shape, NODATA_LABEL, np.uint8)
    for number, (red, green, blue) in enumerate(COLOURS):
        labels[packed == red << 16 | green << 8 | blue] = number
    return labels, int(((labels == NODATA_LABEL) & (packed != 0)).sum())
