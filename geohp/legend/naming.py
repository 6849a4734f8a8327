"""Names for the labels of a map from a reference: which class each label overlaps most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import geopandas
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geohp.classes import LandCoverClass, is_colour
from geohp.errors import ConfigError, DataError
from geohp.files.checks import check_output
from geohp.legend.file import Legend
from geohp.legend.naming_report import Naming
from geohp.legend.recoded_labels import ranked
from geohp.legend.references import Reference, open_reference
from geohp.progress import Progress, default_progress
from geohp.raster.block import BLOCK_PX, BlockGrid
from geohp.raster.read.labels import LabelRaster, open_labels

if TYPE_CHECKING:
    from xarray import DataArray

Matching = Literal["majority", "hungarian"]


def name_classes(
    labels: str | Path | DataArray,
    reference: str | Path | geopandas.GeoDataFrame | DataArray,
    *,
    field: str | None = None,
    matching: Matching = "majority",
    layer: str | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    block_px: int = BLOCK_PX,
    progress: Progress | None = None,
) -> Naming:
    """Name the labels of a map after the classes of a reference.

    What the reference is, its content tells:

    - **Polygons** are reprojected to the map's CRS; a pixel has the class of the polygon that covers its centre. Where
      polygons overlap, the one that comes last in the file counts.
    - **Points** are reprojected, and each counts once, for the pixel that it lies on. Those beyond the map, or where it
      has no data, are left out; :attr:`Naming.notes` says how many.
    - **A raster** of integers is brought to the map's pixels, the nearest one counting. Its classes are called what its
      band tag ``classes`` says, else by their numbers; it gives the legend its colours where it has some.
      What it declares to be no data (255 where it declares nothing) is left out.

    Without a CRS in either, both are taken to have the same coordinates. The map is gone through block by block; of
    vectors, those that lie on the map are in memory.

    A class has the reference's colour, else that of the label with most of its pixels, as the map shows it.
    Classes of the legend are numbered from 0 in the order of the reference: its numbers, or its names with numbers
    before texts. Only classes that a label is named after are in it.

    Args:
        labels: the map, as for :func:`geohp.vector.polygonize`.
        reference: a file that GDAL reads, GeoParquet, a GeoDataFrame, or an array like ``labels``.
        field: the attribute of polygons or points that holds the class; by default the only one of texts or integers
            that is no mere row number (id, fid, gid, objectid, ogc_fid).
        matching: "majority": each label takes the class that it overlaps most, several labels one class if need be;
            where counts are equal, the class that is larger in all, then the first. "hungarian": one label a class,
            with the most agreement in all; labels left over have no name.
        layer: of a vector file with several.
        out: a file to write the legend to (YAML).
        overwrite: replace it if it exists.
        block_px: side of a block.
        progress: called after every block with the stage "comparing"; by default a bar in a notebook.

    Raises:
        SceneError: a raster that cannot be opened or read.
        VectorError: a raster that is no label map, or a CRS that is not understood.
        DataError: a reference that cannot be used: lines, no or several candidates for the field, a CRS on one side
            only, no overlap.
        ConfigError: an unknown matching.
        OutputError: the legend cannot be written.
    """
    progress = progress or default_progress()
    if matching not in get_args(Matching):
        raise ConfigError(f"matching is {matching!r}, but must be one of {', '.join(get_args(Matching))}")
    if out is not None:
        inputs = [path for path in (labels, reference) if isinstance(path, str | Path)]
        check_output(out, overwrite=overwrite, inputs=inputs)
    with open_labels(labels) as raster, open_reference(reference, raster, field=field, layer=layer) as known:
        counts = _Counts(raster.labels or ())
        blocks = BlockGrid(raster.grid.height, raster.grid.width, block_px).blocks
        for number, block in enumerate(blocks):
            counts.add(raster, known, block)
            progress("comparing", number + 1, len(blocks))
        raster.unchanged.check()
        known.unchanged.check()
        if not counts.compared:
            raise DataError(
                f"{known.name} and {raster.name} have no pixel in common",
                "check that both show the same place, and that their coordinate reference systems are right",
            )
        confusion = counts.table(known)
        columns = assign(confusion.to_numpy(), matching)
        colours = {**_map_colours(confusion, columns, raster.classes), **known.colours}
        legend = _legend(confusion, columns, colours, f"the legend from {known.name}")
        naming = Naming(
            legend=replace(legend, model_sha256=raster.model_sha256),
            confusion=confusion,
            accuracy=float(100 * _correct(confusion, columns).sum() / counts.compared),
            per_class=_per_class(confusion, columns),
            unnamed=tuple(int(label) for label in confusion.index[columns < 0]),
            unit=known.unit,
            notes=(*known.notes, *counts.notes(known)),
            matching=matching,
        )
    if out is not None:
        naming.legend.write(out, overwrite=overwrite)
    return naming


def assign(counts: NDArray[np.int64], matching: Matching) -> NDArray[np.int64]:
    """The class of each label.

    Args:
        counts: (labels, classes) pixels that have both.
        matching: see :func:`name_classes`.

    Returns:
        (labels,) the column of its class, -1 for labels without one.
    """
    assigned = np.full(len(counts), -1, np.int64)
    # Larger classes first, so that the first of equals is the one to take.
    order = np.argsort(-counts.sum(axis=0), kind="stable")
    ordered = counts[:, order]
    if matching == "majority":
        rows, columns = np.arange(len(counts)), ordered.argmax(axis=1)
    else:
        from scipy.optimize import linear_sum_assignment

        rows, columns = linear_sum_assignment(ordered, maximize=True)
    meets = ordered[rows, columns] > 0
    assigned[rows[meets]] = order[columns[meets]]
    return assigned


_MOST_PAIRS = 1 << 24
"""Labels times classes; a legend has 255 of either at most."""


class _Counts:
    """How often labels and classes come together."""

    def __init__(self, declared: Sequence[int]) -> None:
        self._pairs = Counter[tuple[int, int]]()
        self._labels = set(declared)
        self._keys = set[int]()
        self.sampled = self.compared = 0

    def add(self, raster: LabelRaster, reference: Reference, block: Any) -> None:
        """Count in a block."""
        sample = reference.sample(block)
        if sample is None:
            return
        where, keys, _ = sample
        values, valid = raster.read(block)
        self._labels.update(ranked(values[valid])[0].tolist())
        has_data = valid[where]
        self.sampled += len(keys)
        labels, label_ranks = ranked(values[where][has_data])
        classes, class_ranks = ranked(keys[has_data])
        self._keys.update(classes.tolist())
        self._refuse_measurements(reference)
        self.compared += len(label_ranks)
        both = np.bincount(label_ranks * len(classes) + class_ranks, minlength=len(labels) * len(classes))
        for rank in np.flatnonzero(both).tolist():
            label, key = divmod(rank, len(classes))
            self._pairs[int(labels[label]), int(classes[key])] += int(both[rank])

    def _refuse_measurements(self, reference: Reference) -> None:
        if len(self._labels) * len(self._keys) > _MOST_PAIRS:
            raise DataError(
                f"{reference.name} has {len(self._keys):,} classes or more for {len(self._labels):,} labels, as "
                "numbers of things and measurements have",
                "give one of classes, or the field that holds them as {option}",
                option="field",
            )

    def notes(self, reference: Reference) -> Iterator[str]:
        """Which points were left out, in sentences."""
        if reference.outside:
            yield f"{reference.outside} of {reference.outside + self.sampled} points lie beyond the map."
        if self.compared < self.sampled and reference.unit == "points":
            yield f"{self.sampled - self.compared} points lie where the map has no data."

    def table(self, reference: Reference) -> pd.DataFrame:
        """The counts by label and class name; classes of one name are one."""
        names = list(dict.fromkeys(reference.class_name(key) for key in sorted(self._keys)))
        rows = {label: row for row, label in enumerate(sorted(self._labels))}
        columns = {name: column for column, name in enumerate(names)}
        counts = np.zeros((len(rows), len(columns)), np.int64)
        for (label, key), count in self._pairs.items():
            counts[rows[label], columns[reference.class_name(key)]] += count
        return pd.DataFrame(
            counts,
            index=pd.Index(list(rows), dtype=np.int64, name="label"),
            columns=pd.Index(names, dtype=object, name="class"),
        )


def _legend(confusion: pd.DataFrame, assigned: NDArray[np.int64], colours: Mapping[str, str], name: str) -> Legend:
    texts = confusion.columns.astype(str)
    names = {int(label): texts[column] for label, column in zip(confusion.index, assigned, strict=True) if column >= 0}
    used = [texts[column] for column in sorted(set(assigned[assigned >= 0].tolist()))]
    classes = tuple(LandCoverClass(number, text, colours.get(text, "")) for number, text in enumerate(used))
    return Legend(classes, {label: used.index(text) for label, text in names.items()}, name)


def _map_colours(
    confusion: pd.DataFrame, assigned: NDArray[np.int64], classes: Sequence[LandCoverClass]
) -> dict[str, str]:
    """By class name, the colour that the map gives to the label with most of its pixels."""
    shown = {entry.id: entry.colour for entry in classes if is_colour(entry.colour)}
    colours = {}
    for row in np.argsort(_correct(confusion, assigned), kind="stable").tolist():
        label = int(confusion.index[row])
        if assigned[row] >= 0 and label in shown:
            colours[str(confusion.columns[assigned[row]])] = shown[label]
    return colours


def _correct(confusion: pd.DataFrame, assigned: NDArray[np.int64]) -> NDArray[np.int64]:
    """(labels,) pixels of each label that are of its class."""
    return np.where(assigned >= 0, confusion.to_numpy()[np.arange(len(confusion)), assigned], 0)


def _per_class(confusion: pd.DataFrame, assigned: NDArray[np.int64]) -> pd.DataFrame:
    counts = confusion.to_numpy()
    true, correct, predicted = counts.sum(axis=0), np.zeros(counts.shape[1]), np.zeros(counts.shape[1])
    named = assigned >= 0
    np.add.at(correct, assigned[named], _correct(confusion, assigned)[named])
    np.add.at(predicted, assigned[named], counts.sum(axis=1)[named])
    columns = {"count": true, "recall": 100 * correct / true, "iou": 100 * correct / (true + predicted - correct)}
    return pd.DataFrame(columns, index=confusion.columns)
