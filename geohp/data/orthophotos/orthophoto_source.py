"""One's own imagery: found, shared out between training and testing, and cut into patches."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from geohp.classes import NODATA_LABEL
from geohp.config.data import OrthophotosConfig
from geohp.data.base import DataSource, EvaluationProtocol
from geohp.data.class_table import ClassTable
from geohp.data.orthophotos.footprints import Footprint, common_plane, read_footprints
from geohp.data.orthophotos.image_survey import (
    ImageSurvey,
    agreed_channels,
    allot_patches,
    check_pixel_sizes,
    survey_for_evaluation,
    survey_for_training,
)
from geohp.data.orthophotos.label_files import LabelFiles, layer_files, match_labels
from geohp.data.orthophotos.patch_regions import Region, area_on
from geohp.data.orthophotos.patch_sets import LabelSetting, OrthophotoPatches, PatchPlace
from geohp.data.orthophotos.pixel_labels import LabelReading, texts_in
from geohp.data.orthophotos.polygons import PolygonLayers, check_present
from geohp.data.orthophotos.splits import Split, make_split
from geohp.errors import DataError
from geohp.files.checks import expand_home
from geohp.legend.features import natural
from geohp.progress import Progress, no_progress
from geohp.raster.area_of_interest import AreaOfInterest
from geohp.raster.read.unchanged import UnchangedFiles
from geohp.raster.sources.find import find_images
from geohp.raster.sources.paths import is_remote

logger = logging.getLogger(__name__)

_UNSPLIT = (
    "Evaluated on the images that were trained on, none of whose labels were used; data.split or data.test_images "
    "holds some out, which also allows a linear probe."
)


class Orthophotos(DataSource):
    """A set of one's own images.

    With labels and a split, the labels of the training side teach a linear probe, and those of the test side judge.
    With labels and no split, the labels judge the images that were trained on, and teach nothing.

    Args:
        config: which images, and how patches are cut.
        seed: of the places of the patches.
    """

    def __init__(self, config: OrthophotosConfig, seed: int = 0) -> None:
        self.config, self.seed = config, seed

    @property
    def labelled(self) -> bool:
        """Whether there are labels to evaluate against."""
        return bool(self.config.labels)

    def training(self, progress: Progress = no_progress) -> OrthophotoPatches:
        """Patches of the training side, at random places or on a grid."""
        config, imagery = self.config, self._imagery
        # What judges must not teach: without a split, labels are left alone.
        labels = self._labels if imagery.held_out and imagery.teach else None
        surveys = []
        for number, item in enumerate(imagery.split.train, start=1):
            area = imagery.areas.get(item.footprint.path)
            surveys.append(survey_for_training(item, config, (self.seed, number), area))
            progress("surveying images", number, len(imagery.split.train))
        places = allot_patches(surveys, config) if config.layout == "random" else _all_places(surveys)
        if not places:
            raise self._no_patch()
        return self._patches(surveys, places, config.patch_px, config.model_input_px, labels, self._polygons)

    def evaluation(self, progress: Progress = no_progress) -> OrthophotoPatches:
        """Labelled patches of the test side on a grid: every labelled pixel is in exactly one of them."""
        config, imagery, labels = self.config, self._imagery, self._labels
        if labels is None:
            raise self.no_labels()
        patch_px = config.evaluation_px * config.patch_px / config.model_input_px
        surveys = []
        for number, item in enumerate(imagery.split.test, start=1):
            area = imagery.areas.get(item.footprint.path)
            surveys.append(survey_for_evaluation(item, config, patch_px, area, labels))
            progress("surveying labelled images", number, len(imagery.split.test))
        places = _all_places(surveys)
        if not places:
            raise DataError(
                f"data.labels: no pixel of the {len(imagery.split.test)} image(s) to test on is labelled",
                "try another data.split_seed or data.test_share, or name data.test_images"
                if imagery.held_out
                else "check whether labels and images lie on the same ground",
            )
        return self._patches(surveys, places, config.source_px(patch_px, None), config.evaluation_px, labels)

    def _patches(
        self,
        surveys: Sequence[ImageSurvey],
        places: Sequence[PatchPlace],
        patch_px: int,
        input_px: int,
        labels: LabelSetting | None,
        polygons: PolygonLayers | None = None,
    ) -> OrthophotoPatches:
        channels = agreed_channels(surveys)
        sizes = [s.pixel_size_m for s in surveys if s.pixel_size_m is not None]
        self.pixel_size_m = self.config.pixel_size_m or (float(np.median(sizes)) if sizes else None)
        return OrthophotoPatches(
            [s.image for s in surveys],
            places,
            channels=channels,
            patch_px=patch_px,
            input_px=input_px,
            one_pixel_size=self.config.pixel_size_m is not None,
            bands=self.config.bands,
            labels=labels,
            polygons=polygons,
        )

    def _no_patch(self) -> DataError:
        first, config = self._imagery.split.train[0].footprint.path, self.config
        if config.split == "block" or config.area is not None:
            size = "" if config.pixel_size_m is None else f" of {config.pixel_size_m:g} m"
            return DataError(
                f"{first}: neither in it nor in the other images does a patch of {config.patch_px} px{size} fit where "
                "patches may be cut",
                "give a larger data.block_m or data.area, or a smaller data.patch_px",
            )
        return DataError(f"{first}: neither it nor the other images hold a valid pixel", "check nodata and masks")

    @property
    def _polygons(self) -> PolygonLayers | None:
        """Those that are proposed as masks."""
        layers = tuple(str(expand_home(path)) for path in self.config.mask_polygons)
        if not layers:
            return None
        for layer in layers:
            check_present(layer)
        unchanged = UnchangedFiles("polygons", [file for layer in layers for file in layer_files(layer)])
        return PolygonLayers(layers, self.config.mask_layer, unchanged)

    @cached_property
    def _imagery(self) -> _Imagery:
        """The images, which of them go where, and their labels; only headers are read."""
        config = self.config
        area = None if config.area is None else AreaOfInterest.of(config.area, config.area_layer)
        paths, tests = self._find(area)
        files = match_labels(config.labels, paths) if config.labels else LabelFiles({})
        # A folder of images may hold their labels, too.
        footprints = read_footprints([path for path in paths if path not in files.files])
        areas: dict[str, Region] = {}
        if area is not None:
            footprints, areas = _within(area, footprints)
        check_pixel_sizes(footprints, config)
        # Only what is labelled is worth testing on.
        labelled = None
        if config.labels and config.split != "none":
            labelled = files.covered(footprints, common_plane(footprints), config.label_layer)
        tests = [path for path in tests if path not in files.files]
        split = make_split(footprints, config, test_paths=tests, labelled=labelled)
        imagery = _Imagery(split, files, areas, held_out=config.split != "none" or bool(tests))
        if imagery.held_out:
            logger.info("%s", split.text)
        self.protocol = self._protocol(imagery)
        return imagery

    def _find(self, area: AreaOfInterest | None) -> tuple[list[str], list[str]]:
        """All images, and those named to test on, in an order that does not depend on how they were named."""
        config, outline = self.config, None if area is None else area.series

        def find(patterns: Sequence[str], key: str) -> list[str]:
            images = find_images(patterns, exclude=config.exclude, area=outline, asset=config.asset, key=key)
            return sorted(images, key=Path)

        paths = find(config.images, "data.images")
        if not config.test_images:
            return paths, []
        tests = find(config.test_images, "data.test_images")
        # The same image by two names would be learnt from and judged.
        by_file = {p if is_remote(p) else str(Path(p).resolve()): p for p in (*paths, *tests)}
        return sorted(by_file.values(), key=Path), tests

    def _protocol(self, imagery: _Imagery) -> EvaluationProtocol:
        if not self.config.labels:
            return EvaluationProtocol(None, same=False, text="Own data without labels.")
        text = f"Own data. {imagery.split.text}." if imagery.held_out else f"Own data. {_UNSPLIT}"
        if self.config.pixel_size_m is not None:
            text += f" All images brought to {self.config.pixel_size_m:g} m a pixel."
        return EvaluationProtocol(None, same=False, text=text)

    @cached_property
    def _labels(self) -> LabelSetting | None:
        """How to read classes; where the configuration names none, all labels are searched for their values once."""
        config = self.config
        if not config.labels:
            return None
        unknown = None if str(NODATA_LABEL) in config.label_classes else NODATA_LABEL
        reading = LabelReading(self._imagery.files, config.label_field, config.label_layer, unknown)
        footprints = self._imagery.footprints
        colours: dict[str, str] = {}
        texts: set[str] = set()
        for footprint in footprints:
            with reading.open(footprint.path, footprint.grid) as all_labels:
                for labels in all_labels:
                    colours.update(labels.colours)
                    if not config.label_classes:
                        texts |= texts_in(labels, footprint.grid.shape)
        if not texts and not config.label_classes:
            raise DataError(
                f"data.labels: none of the {len(footprints)} image(s) has a labelled pixel",
                "check whether labels and images lie on the same ground",
            )
        if len(texts) == 1:
            logger.warning(
                "data.labels: all that is labelled is of one class (%s), which any result agrees with; if the value %d "
                "is one, too, name it in data.label_classes",
                *(min(texts), NODATA_LABEL),
            )
        names = config.label_classes or {text: text for text in sorted(texts, key=natural)}
        table = ClassTable.of_config(names, colours)
        self.classes = table.classes
        return LabelSetting(reading, table)


@dataclass(frozen=True)
class _Imagery:
    """What there is: the sides of the split, labels, areas of interest by image, and whether labels are held out."""

    split: Split
    files: LabelFiles
    areas: dict[str, Region]
    held_out: bool

    @property
    def footprints(self) -> list[Footprint]:
        """All images, each once."""
        return list({item.footprint.path: item.footprint for item in (*self.split.train, *self.split.test)}.values())

    @property
    def teach(self) -> bool:
        """Whether images to train on may have labels."""
        over_ground = self.files.rasters or self.files.vectors
        return bool(over_ground or any(item.footprint.path in self.files.of_image for item in self.split.train))


def _within(area: AreaOfInterest, footprints: Sequence[Footprint]) -> tuple[list[Footprint], dict[str, Region]]:
    regions = {f.path: region for f in footprints if (region := area_on(area, f)) is not None}
    if not regions:
        raise DataError(
            f"data.area ({area.name}): meets none of the {len(footprints)} image(s)", "check its coordinates"
        )
    return [f for f in footprints if f.path in regions], dict(regions)


def _all_places(surveys: Sequence[ImageSurvey]) -> list[PatchPlace]:
    return [place for s in surveys for place in s.places]
