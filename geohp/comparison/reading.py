"""Both dates block by block: which pixels have changed, and which of these can be trusted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling

from geohp.comparison.dates import DateMap, Dates
from geohp.comparison.options import ChangeOptions
from geohp.comparison.transitions import Transitions, common_classes
from geohp.errors import VectorError
from geohp.inference.extent import Extent
from geohp.raster.block import BLOCK_PX, Block, BlockGrid
from geohp.raster.grid import Grid
from geohp.raster.read.labels import LabelRaster, complete_classes, open_labels, opened_raster, warped_to
from geohp.raster.read.quantities import QuantityRaster
from geohp.raster.read.unchanged import UnchangedFiles

Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]


class Compared(NamedTuple):
    """A block of both dates; all (rows, cols).

    Attributes:
        old, new: labels, 255 where either date has none.
        changed: they differ.
        trusted: both dates are sure enough.
    """

    old: NDArray[np.uint8]
    new: NDArray[np.uint8]
    changed: Bool
    trusted: Bool


class DatePair:
    """Both dates on the old one's grid, or the part of it that is compared.

    Attributes:
        name: in messages.
        grid: of the old date, or of that part.
        transitions: between the classes that occur.
        has_confidence: of both dates.
    """

    def __init__(
        self, labels: tuple[LabelRaster, LabelRaster], sure: list[QuantityRaster], least: float, extent: Extent
    ) -> None:
        """Look at open maps on the old date's grid; see :func:`open_pair`."""
        self._labels, self._sure, self._least, self._extent = labels, sure, least, extent
        old, new = labels
        self.name, self.grid, self.has_confidence = old.name, old.grid.crop(extent.frame), bool(sure)
        known = common_classes(old.classes, new.classes, (old.name, new.name))
        self.transitions = Transitions(complete_classes(known, np.array(sorted(self._occurring()), np.int64)))
        self._known = np.zeros(256, bool)
        self._known[[255, *(entry.id for entry in self.transitions.classes)]] = True

    @property
    def files(self) -> list[str]:
        """All that is read."""
        return [file for unchanged in self._unchanged for file in unchanged.states]

    @property
    def _unchanged(self) -> list[UnchangedFiles]:
        return [*(raster.unchanged for raster in self._labels), *(raster.unchanged for raster in self._sure)]

    def check_unchanged(self) -> None:
        """Make sure that what is read is still what was opened.

        Raises:
            SceneError: it is not.
        """
        for files in self._unchanged:
            files.check()

    def read(self, block: Block) -> Compared:
        """Both dates' labels in a block, and what to make of them.

        Raises:
            SceneError: a raster cannot be read.
        """
        place = block.placed_in(self._extent.frame)
        (old, here), (new, there) = (raster.read(place) for raster in self._labels)
        valid = here & there
        if self._extent.area is not None:
            valid &= self._extent.area.pixels(place)
        old, new = (raster.as_bytes(labels, valid) for raster, labels in zip(self._labels, (old, new), strict=True))
        for raster, labels in zip(self._labels, (old, new), strict=True):
            if not self._known[labels].all():
                label = int(labels[~self._known[labels]][0])
                raise VectorError(f"{raster.name} has label {label}, which it does not list", "name it in a legend")
        changed = old != new
        sure = self._least == 0 or not changed.any()
        trusted = np.ones(block.shape, bool) if sure else self.confidence(block)[0] >= self._least
        return Compared(old, new, changed, trusted)

    def confidence(self, block: Block) -> tuple[Float32, Bool]:
        """Confidence (rows, cols) of the less certain of both dates, 0 where it is not known; and where it is."""
        place = block.placed_in(self._extent.frame)
        values, valid = zip(*(quantity.read(place) for quantity in self._sure), strict=True)
        known = valid[0] & valid[1]
        return np.where(known, np.minimum(*values), 0).astype(np.float32), known

    def _occurring(self) -> set[int]:
        """All labels there may be, or where the maps do not list them, that there are."""
        if all(raster.labels is not None for raster in self._labels):
            return {label for raster in self._labels for label in raster.labels or ()}
        occurring = set[int]()
        for block in BlockGrid(*self.grid.shape, BLOCK_PX).blocks:
            for raster in self._labels:
                values, valid = raster.read(block.placed_in(self._extent.frame))
                occurring.update(np.unique(values[valid]).tolist())
        return occurring


@contextmanager
def open_pair(dates: Dates, options: ChangeOptions) -> Iterator[DatePair]:
    """Open both dates' maps on one grid, the old one's, of which the area of interest may be but a part.

    Args:
        dates: which.
        options: what counts as change, and where.

    Raises:
        SourceError: the area lies beside the old date.
    """
    with ExitStack() as stack:
        with open_labels(dates.old.labels) as raster:
            grid, extent = raster.grid, Extent.of(raster.grid, dates.old.name, options)
        old, new = (stack.enter_context(_labels(date, grid)) for date in (dates.old, dates.new))
        sure = []
        if dates.old.confidence is not None and dates.new.confidence is not None:
            sure = [stack.enter_context(_quantity(date, grid)) for date in (dates.old, dates.new)]
        yield DatePair((old, new), sure, options.min_confidence, extent)


@contextmanager
def _labels(date: DateMap, grid: Grid) -> Iterator[LabelRaster]:
    """A date's labels on a grid, by the nearest pixels."""
    with open_labels(date.labels) as own, own.warped(grid) as labels:
        labels.classes, labels.labels = own.classes, own.labels  # which a warped raster does not tell
        yield labels


@contextmanager
def _quantity(date: DateMap, grid: Grid) -> Iterator[QuantityRaster]:
    assert date.confidence is not None
    with opened_raster(date.confidence) as (dataset, name):
        if Grid.of(dataset).coincides_with(grid):
            yield QuantityRaster(dataset, name)
            return
        nodata = dataset.nodata
        with warped_to(
            grid,
            dataset,
            name,
            resampling=Resampling.nearest,
            add_alpha=nodata is None,
            **_places(Grid.of(dataset), grid),
        ) as warped:
            quantity = QuantityRaster(warped, name)
            quantity.unchanged = UnchangedFiles(name, dataset.files)  # GDAL names those of the warped one alone
            yield quantity


def _places(own: Grid, grid: Grid) -> dict[str, Any]:
    """What GDAL has to be told of rasters without a CRS."""
    return {} if own.crs is not None and grid.crs is not None else {"src_crs": grid.crs, "src_transform": own.affine}


class TrustedChange(LabelRaster):
    """The transitions of pixels whose change is trusted, as a label raster: all others hold no data.

    Attributes:
        occurring: the transitions met so far, with those of what stayed.
    """

    def __init__(self, pair: DatePair) -> None:
        self._pair = pair
        self.name, self.grid, self.band = pair.name, pair.grid, 1
        self.classes, self.labels, self.model_sha256, self.scaled = (), None, None, False
        self.occurring = set[int]()

    def read(self, block: Block) -> tuple[NDArray[Any], Bool]:
        """Transitions and validity, both (rows, cols), of a block."""
        compared, transitions = self._pair.read(block), self._pair.transitions
        codes, valid = transitions.codes(compared.old, compared.new), compared.changed & compared.trusted
        here = compared.old != 255
        self.occurring.update(np.flatnonzero(np.bincount(codes[here & (valid | ~compared.changed)])).tolist())
        # What is not trusted may be written as what it was.
        unsure = compared.old[compared.changed & ~compared.trusted]
        stayed = np.unique(unsure)
        self.occurring.update(transitions.codes(stayed, stayed).tolist())
        return codes, valid
