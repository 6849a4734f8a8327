"""The maps of two dates: label maps that there are, or maps made of two scenes by one model with one scaling."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geohp.comparison.alignment import check_overlap
from geohp.comparison.options import ChangeOptions, hidden_maps
from geohp.credentials import without_credentials
from geohp.errors import ConfigError, SceneError, VectorError
from geohp.files.checks import refuse_parts
from geohp.inference.checks import check_mapping, check_scene_mapping
from geohp.inference.folder_record import FolderRecord, output_folder
from geohp.inference.products import Products
from geohp.raster.grid import Grid
from geohp.raster.read.collection import SceneCollection
from geohp.raster.read.labels import as_label_map, open_labels, opened_raster
from geohp.raster.read.scaling import parse_rule
from geohp.vector.zonal import check_made_alike

if TYPE_CHECKING:
    from geohp.inference.map_scene import MapModel

logger = logging.getLogger(__name__)

_LOOK_PX = 256
_NOTED_BRIGHTNESS = 0.04
"""Of the range of values: NAIP's two dates, of which most seems to change, differ by 0.06 to 0.11."""

_MODEL_OPTIONS = ("model", "classes", "backbone", "weights", "block", "bands", "scaling", "legend", "maps")
_SCENE_SWITCHES = ("split_covers", "per_date_scaling")
"""What means nothing where label maps are compared."""


@dataclass(frozen=True)
class DateMap:
    """The map of one date.

    Attributes:
        name: what was given.
        labels: the label map.
        confidence: raster of its confidence, where there is one.
        is_scene: what was given is an image.
    """

    name: str
    labels: str | Path
    confidence: str | Path | None
    is_scene: bool


@dataclass(frozen=True)
class Dates:
    """The maps of two dates.

    Attributes:
        old, new: which.
        model: what made them; ``None`` of label maps.
    """

    old: DateMap
    new: DateMap
    model: MapModel | None = None


def check_dates(old: str, new: str, options: ChangeOptions) -> bool:
    """Refuse what cannot be compared, as far as it can be known without torch.

    Returns:
        whether label maps are compared.

    Raises:
        GeohpError: one sentence and its remedy.
    """
    if Path(old).exists() and Path(new).exists() and Path(old).samefile(new):
        raise ConfigError(f"{old}: is both dates", "give the new date's, too")
    are_labels = _are_label_maps(old, new, options)
    grids = []
    for path in (old, new):
        with opened_raster(path) as (dataset, _):
            refuse_parts(options.paths.values(), dataset.files)
            grids.append(Grid.of(dataset))
    check_overlap(grids[0], grids[1], (old, new))
    if are_labels:
        asked = [name for name in _MODEL_OPTIONS if getattr(options, name) is not None]
        asked += [name for name in _SCENE_SWITCHES if getattr(options, name)]
        if asked:
            problem = f"{{option}}: is for scenes, but {old} and {new} are label maps"
            raise ConfigError(problem, "leave it out", option=asked[0])
        if options.min_confidence and options.confidence is None:
            problem = "{option}: label maps do not say how sure they are"
            raise ConfigError(problem, "give their confidence rasters, too, or leave it out", option="min_confidence")
        _check_labels(old, new, options)
        return True
    if options.confidence is not None:
        raise ConfigError("{option}: scenes get their own", "leave it out", option="confidence")
    for path in (old, new):
        check_scene_mapping(path, options)
    if options.per_date_scaling:
        _check_measuring(old, options)
    return False


def _check_measuring(scene: str, options: ChangeOptions) -> None:
    """Refuse to measure each date where the scaling measures nothing."""
    card = check_mapping(options)
    rule = parse_rule(options.scaling or (card.scaling if card is not None else "auto"))
    with opened_raster(scene) as (dataset, _):
        of_type = rule.kind == "auto" and set(dataset.dtypes) == {"uint8"}
    if of_type or rule.kind in ("type", "fixed"):
        problem = f"{{option}}: the scaling {rule.text!r} measures nothing in {scene}"
        raise ConfigError(problem, "ask for scaling by percentiles, or leave it out", option="per_date_scaling")


def _are_label_maps(old: str, new: str, options: ChangeOptions) -> bool:
    if options.labels:
        return True
    kinds = []
    for path in (old, new):
        with opened_raster(path) as (dataset, name):
            kinds.append(as_label_map(dataset, name) is not None)
    if kinds[0] != kinds[1]:
        labels, scene = (old, new) if kinds[0] else (new, old)
        raise ConfigError(f"{labels} is a label map and {scene} is none", "give two scenes, or two label maps")
    return kinds[0]


def _check_labels(old: str, new: str, options: ChangeOptions) -> None:
    """Refuse maps whose labels do not mean the same, and confidences of other maps."""
    with open_labels(old) as first, open_labels(new) as second:
        for path, labels in zip(options.confidence or (), (first, second), strict=False):
            with opened_raster(path) as (dataset, name):
                check_made_alike(dataset, name, labels)
        if first.model_sha256 == second.model_sha256:
            return
        problem = f"{old} and {new} are of different models, whose labels have nothing to do with each other"
        raise VectorError(problem, "map both dates with one model, or give the scenes and the model")


@contextmanager
def open_dates(old: str, new: str, options: ChangeOptions, *, are_labels: bool) -> Iterator[Dates]:
    """The maps of both dates, for the time of a ``with`` block, made where need be.

    Interrupted, finished work is kept and gone on with by the same call.
    """
    if are_labels:
        sure = [None, None] if options.confidence is None else list(options.confidence)
        first, second = (
            DateMap(path, path, confidence, False) for path, confidence in zip((old, new), sure, strict=True)
        )
        yield Dates(first, second)
        return
    folder = hidden_maps(options.paths["out"]) if options.maps is None else Path(options.maps)
    if not options.per_date_scaling:
        _note_brightness(old, new, options)
    try:
        with output_folder(folder), FolderRecord(folder) as record:
            yield _mapped(old, new, record, options)
    except BaseException as error:
        if folder.is_dir():
            error.add_note(f"maps of the dates are kept in {folder} as far as they are; the same command goes on")
        raise
    if options.maps is None:
        shutil.rmtree(folder, ignore_errors=True)


def _note_brightness(old: str, new: str, options: ChangeOptions) -> None:
    """Say where unchanged ground may seem to change because one date is brighter than the other."""
    scenes = SceneCollection([old, new], bands=options.bands, scaling=options.scaling or "auto")
    if len({(scaling.low, scaling.high) for scaling in scenes.scalings.values()}) > 1:
        logger.warning(
            "%s and %s store values of different types, and so are scaled by themselves: unchanged ground may seem to "
            "change; bring both to one type, or give one scaling for both",
            *map(without_credentials, (old, new)),
        )
    means = []
    for path in (old, new):
        with scenes.open(path) as scene:
            data, valid = scene.thumbnail(_LOOK_PX)
        means.append(data[:, valid].mean(axis=1) if valid.any() else np.zeros(len(data)))
    if means[0].shape == means[1].shape and np.abs(means[0] - means[1]).max() > _NOTED_BRIGHTNESS:
        logger.info(
            "one date is brighter than the other, by up to %.0f %% of the range: if the ground is not, scale each date "
            "by itself (docs/change.md)",
            100 * np.abs(means[0] - means[1]).max(),
        )


def _mapped(old: str, new: str, record: FolderRecord, options: ChangeOptions) -> Dates:
    """Map both dates into a folder."""
    from geohp.inference.folder_maps import map_folder
    from geohp.inference.map_scene import MapModel

    paths = {name: record.folder / f"{name}.tif" for name in ("old", "new")}
    sure = {name: record.folder / f"{name}_confidence.tif" for name in paths}
    targets = {scene: Products(paths[name], confidence=sure[name]) for name, scene in (("old", old), ("new", new))}
    if options.maps is None:  # what an earlier call has left there is nobody's
        options = replace(options, overwrite=True)
    batch = map_folder(record, targets, options, mosaic=False, apart=options.per_date_scaling)
    for result in batch.failed:
        raise SceneError(str(result.error))
    return Dates(
        DateMap(old, paths["old"], sure["old"], True),
        DateMap(new, paths["new"], sure["new"], True),
        MapModel(batch.origin, batch.model_sha256),
    )
