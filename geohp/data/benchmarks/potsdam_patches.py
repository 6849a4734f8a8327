"""Potsdam as prepared patches: ``imgs/ID.mat`` and ``gt/ID.mat``, with lists of ids; read and written."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import scipy.io
from numpy.typing import NDArray

from geohp.classes import NODATA_LABEL
from geohp.data.benchmarks.folders import list_names, read_list, shortened
from geohp.data.benchmarks.potsdam_tiles import BANDS, PATCH_PX
from geohp.errors import DataError

FINE_CLASSES: Final = 6
_UNPACK = "unpack the prepared patches again"
TRAIN, TEST, UNLABELLED, ALL = "labelled_train", "labelled_test", "unlabelled_train", "all"


class MatPatches:
    """Patches by id, with their bands in the order asked for, below a folder of ``imgs``, ``gt`` and the lists."""

    def __init__(self, root: Path, bands: Sequence[str]) -> None:
        self.root, self.bands = root, tuple(bands)

    def ids(self, split: str) -> list[str]:
        """The ids of a list; ``all`` may be missing, it is the other three."""
        path = self.root / f"{split}.txt"
        if split == ALL and not path.exists():
            return [i for part in (UNLABELLED, TRAIN, TEST) for i in self.ids(part)]
        return read_list(path)

    def check(self, split: str, ids: Sequence[str], *, labels: bool) -> None:
        """See that the files of all ids are there, or raise DataError naming some; each folder is listed once."""
        for folder in ("imgs", "gt") if labels else ("imgs",):
            present = list_names(self.root / folder)
            missing = [file for i in ids if (file := f"{i}.mat") not in present]
            if missing:
                raise DataError(
                    f"{self.root / folder}: {len(missing)} of the {len(ids)} patches on {split}.txt have no file there "
                    f"({shortened(missing)})",
                    _UNPACK,
                )

    def files_of(self, name: str) -> list[str]:
        """A patch's files: its image, and its labels, which may not be there."""
        return [str(self.root / folder / f"{name}.mat") for folder in ("imgs", "gt")]

    def image(self, name: str) -> NDArray[np.uint8]:
        """A patch: uint8 (bands, 200, 200)."""
        path = self.root / "imgs" / f"{name}.mat"
        image = _read(path, "img")
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[:2] != (PATCH_PX, PATCH_PX):
            raise DataError(
                f"{path}: img is {image.dtype} {image.shape} where uint8 ({PATCH_PX}, {PATCH_PX}, {len(BANDS)}) is "
                "expected",
                _UNPACK,
            )
        lacking = [b for b in self.bands if BANDS.index(b) >= image.shape[2]]
        if lacking:
            raise DataError(
                f"{path}: img has {image.shape[2]} band(s), without {', '.join(lacking)}",
                "name others with data.bands, or take patches of red, green, blue and nir",
            )
        return np.ascontiguousarray(np.moveaxis(image[:, :, [BANDS.index(b) for b in self.bands]], -1, 0))

    def labels(self, name: str) -> NDArray[np.uint8]:
        """The labels of a patch: uint8 (200, 200), 0 to 5, 255 elsewhere."""
        path = self.root / "gt" / f"{name}.mat"
        labels = _read(path, "gt")
        if labels.dtype.kind not in "iu" or labels.shape != (PATCH_PX, PATCH_PX):
            raise DataError(
                f"{path}: gt is {labels.dtype} {labels.shape} where whole numbers ({PATCH_PX}, {PATCH_PX}) are "
                "expected",
                _UNPACK,
            )
        known = (labels >= 0) & (labels < FINE_CLASSES)
        return np.where(known, labels, NODATA_LABEL).astype(np.uint8)

    def close(self) -> None:
        """Nothing is kept open."""


def write_mat(key: str, values: NDArray[np.uint8], file: BinaryIO) -> None:
    """Write an array as a MATLAB file of version 5."""
    # Through memory: scipy jumps about in the file it writes.
    packed = io.BytesIO()
    scipy.io.savemat(packed, {key: values})
    file.write(packed.getbuffer())


def _read(path: Path, key: str) -> NDArray[Any]:
    try:
        document = scipy.io.loadmat(str(path), variable_names=[key], appendmat=False)
    except FileNotFoundError as error:
        raise DataError(f"{path}: is not there any more", _UNPACK) from error
    except NotImplementedError as error:
        raise DataError(
            f"{path}: is a MATLAB file of version 7.3 (HDF5)", "save it as version 7 or older (save -v7)"
        ) from error
    except Exception as error:  # scipy lets through whatever its parser stumbles over in a damaged file
        raise DataError(f"{path}: is no sound MATLAB file ({error})", _UNPACK) from error
    values = document.get(key)
    if not isinstance(values, np.ndarray):
        keys = shortened([str(name) for name, _, _ in scipy.io.whosmat(str(path), appendmat=False)])
        raise DataError(f"{path}: holds no {key!r} but {keys or 'nothing'}", _UNPACK)
    return values
