"""Labels on the pixels of an image: from rasters on any grid, colour-coded images, polygons and points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Protocol, cast

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Resampling

from geohp.classes import NODATA_LABEL, LandCoverClass, default_classes, is_colour
from geohp.data.orthophotos.label_files import LabelFiles
from geohp.errors import DataError, SceneError
from geohp.legend.references import open_reference
from geohp.raster.block import Block
from geohp.raster.blocks import BlockGrid
from geohp.raster.gdal import FAILURES, gdal_env, gdal_message, open_env, open_raster
from geohp.raster.grid import Grid
from geohp.raster.read.labels import LabelRaster, warped_to

Int64 = NDArray[np.int64]

_MOST_CLASSES = 254


class Labels(Protocol):
    """Labels on an image's pixels.

    Attributes:
        name: for messages.
        colours: of what is labelled, by its text.
    """

    name: str
    colours: dict[str, str]

    def read(self, block: Block) -> Int64:
        """(rows, cols) codes, -1 where nothing is known."""

    def texts(self, code: int) -> tuple[str, ...]:
        """What a code is called, the most telling last: its value, maybe a name."""

    def codes(self) -> Sequence[int] | None:
        """All codes there are, where that is known without reading."""


class _Values:
    """A raster of integers."""

    def __init__(self, raster: LabelRaster, name: str, declared: LabelRaster) -> None:
        self.name, self._raster = name, raster
        self._listed = declared.labels
        self._names = {c.id: c.name for c in declared.classes} if declared.labels is not None else {}
        self.colours = {self.texts(c.id)[-1]: c.colour for c in declared.classes}

    def read(self, block: Block) -> Int64:
        with gdal_env():
            values, valid = self._raster.read(block)
        valid &= values != NODATA_LABEL
        return np.where(valid, values.astype(np.int64), -1)

    def texts(self, code: int) -> tuple[str, ...]:
        return (str(code), self._names[code]) if code in self._names else (str(code),)

    def codes(self) -> Sequence[int] | None:
        return None if self._listed is None else [v for v in self._listed if v != NODATA_LABEL]


class _Colours:
    """A picture in which colours stand for classes."""

    def __init__(self, dataset: Any, name: str, alphas: Sequence[int]) -> None:
        self.name, self._dataset, self._alphas = name, dataset, list(alphas)
        self.colours = dict[str, str]()

    def read(self, block: Block) -> Int64:
        try:
            with gdal_env():
                planes = self._dataset.read([1, 2, 3, *self._alphas], window=block.window).astype(np.int64)
        except FAILURES as error:
            raise SceneError(f"{self.name} cannot be read ({gdal_message(error)}): the file may be damaged.") from error
        red, green, blue, *alphas = planes
        codes: Int64 = red << 16 | green << 8 | blue
        for alpha in alphas:
            codes[alpha == 0] = -1
        return codes

    def texts(self, code: int) -> tuple[str, ...]:
        return (f"#{code:06x}",)

    def codes(self) -> Sequence[int] | None:
        return None


class _Shapes:
    """Polygons or points, by the texts of a field."""

    def __init__(self, reference: Any, name: str) -> None:
        self.name, self._reference = name, reference
        self.colours = dict(reference.colours)

    def read(self, block: Block) -> Int64:
        codes = np.full(block.shape, -1, np.int64)
        if (known := self._reference.sample(block)) is not None:
            codes[known[0]] = known[1]
        return codes

    def texts(self, code: int) -> tuple[str, ...]:
        return (self._reference.class_name(code),)

    def codes(self) -> Sequence[int] | None:
        return None


@contextmanager
def open_labels_of(
    image: str, grid: Grid, files: LabelFiles, *, field: str | None = None, layer: str | None = None
) -> Iterator[list[Labels]]:
    """All labels that may lie on an image, those of its own first.

    Args:
        image: its path.
        grid: its pixels.
        files: labels and their images.
        field, layer: of polygons.

    Raises:
        DataError: labels of another size without a place on Earth, or that cannot be used.
        SceneError: labels that cannot be opened.
    """
    with ExitStack() as stack:
        found: list[Labels] = []
        if image in files.of_image:
            found.append(stack.enter_context(_open_raster(files.of_image[image], image, grid)))
        found += [stack.enter_context(_open_raster(r, image, grid, files.images > 1)) for r in files.rasters]
        for vector in files.vectors:
            place = cast(LabelRaster, SimpleNamespace(grid=grid, name=image))  # all that a reference asks of a map
            with _in_words_of_the_configuration():
                found.append(
                    _Shapes(stack.enter_context(open_reference(vector, place, field=field, layer=layer)), vector)
                )
        yield found


@contextmanager
def _in_words_of_the_configuration() -> Iterator[None]:
    try:
        yield
    except DataError as error:
        said = str(error).replace("--field", "data.label_field").replace("--layer", "data.label_layer")
        raise DataError(said) from error


@contextmanager
def _open_raster(path: str, image: str, grid: Grid, over_many: bool = False) -> Iterator[Labels]:
    """A label raster on the pixels of an image; ``over_many`` where it is not named after this one."""
    with _opened(path) as dataset, ExitStack() as stack:
        name = path
        kinds = dict(enumerate(dataset.colorinterp, start=1))
        alphas = [band for band, kind in kinds.items() if kind == ColorInterp.alpha]
        own = Grid.of(dataset)
        if over_many and not _placed(own):
            raise DataError(
                f"{name} neither says where on Earth it lies nor is called like an image: georeference it, or name "
                "labels by a pattern such as data.labels = {stem}_labels.png"
            )
        warp = _needs_warp(own, name, grid, image)
        if len(kinds) - len(alphas) == 3:
            if warp:
                place: dict[str, Any] = {} if own.gcps else {"src_transform": own.transform}
                if own.crs is None or grid.crs is None:
                    place["src_crs"] = grid.crs or own.crs
                options = {"resampling": Resampling.nearest, "add_alpha": not alphas, **place}
                dataset = stack.enter_context(warped_to(grid, dataset, name, **options))
                alphas = alphas or [4]
            yield _Colours(dataset, name, alphas)
            return
        raster = LabelRaster(dataset, name)
        yield _Values(stack.enter_context(raster.warped(grid)) if warp else raster, name, raster)


def _opened(path: str) -> Any:
    # Labels stay open beside others, so no environment of GDAL's may stay entered meanwhile: they end in order only.
    try:
        with open_env(path):
            return open_raster(path, sharing=False)
    except (*FAILURES, ValueError) as error:
        raise SceneError(f"{path} cannot be opened as a raster ({gdal_message(error)}): give other labels.") from error


def _needs_warp(own: Grid, name: str, grid: Grid, image: str) -> bool:
    """Whether labels are to be brought to an image's grid; else they have its pixels."""
    if own == grid:
        return False
    if _placed(own) and _placed(grid):
        if grid.gcps:
            raise DataError(
                f"{image} is placed by ground control points and {name} on another grid: warp one to the other first "
                "(gdalwarp)."
            )
        return True
    if own.shape != grid.shape:
        raise DataError(
            f"{name} has {own.height} x {own.width} px but {image} {grid.height} x {grid.width}, and they do not both "
            "say where on Earth they lie: give labels of the image's size, or georeference both."
        )
    return False


def _placed(grid: Grid) -> bool:
    return grid.crs is not None or grid.transform != Affine.identity()


@dataclass(frozen=True)
class ClassTable:
    """Classes, and which texts mean them.

    Attributes:
        classes: numbered from 0.
        numbers: class of a text; ``None`` where it is to be left out.
        open: values that no text names are left out rather than a mistake.
    """

    classes: tuple[LandCoverClass, ...]
    numbers: dict[str, int | None]

    @classmethod
    def of_config(cls, told: Mapping[str, str | None], colours: Mapping[str, str] | None = None) -> ClassTable:
        """From what a configuration says: text to class name, ``None`` left out, ``*`` all others.

        Raises:
            DataError: no classes, or too many.
        """
        names = list(dict.fromkeys(name for name in told.values() if name is not None))
        if not names or len(names) > _MOST_CLASSES:
            raise DataError(
                f"data.label_classes: makes {len(names)} classes; there can be 1 to {_MOST_CLASSES}, give a class to "
                "the values that have one"
            )
        known = {name: colour for name, colour in (colours or {}).items() if is_colour(colour)}
        for text, told_name in told.items():
            if told_name is not None and (is_colour(text) or text in known):
                known.setdefault(told_name, text if is_colour(text) else known[text])
        defaults = default_classes(len(names))
        classes = tuple(
            LandCoverClass(i, n, known.get(n, d.colour)) for i, (n, d) in enumerate(zip(names, defaults, strict=True))
        )
        numbers = {t.lower() if is_colour(t) else t: None if n is None else names.index(n) for t, n in told.items()}
        return cls(classes, numbers)

    def number(self, texts: Sequence[str]) -> int | None:
        """The class of a label by any of its texts.

        Raises:
            KeyError: none is known.
        """
        for text in (*texts, "*"):
            if text in self.numbers:
                return self.numbers[text]
        raise KeyError(texts[0])


class ClassReader:
    """Classes on the pixels of an image.

    Args:
        labels: those that may lie on it; later ones count where earlier ones know nothing.
        table: the classes.
    """

    def __init__(self, labels: Sequence[Labels], table: ClassTable) -> None:
        self._labels, self._table = labels, table
        self._known: list[dict[int, int]] = [{} for _ in labels]

    def read(self, block: Block) -> Int64:
        """(rows, cols) classes, 255 where unknown.

        Raises:
            DataError: a label that means no class.
            SceneError: labels cannot be read.
        """
        classes = np.full(block.shape, NODATA_LABEL, np.int64)
        for labels, known in zip(self._labels, self._known, strict=True):
            missing = classes == NODATA_LABEL
            if not missing.any():
                break
            codes, places = np.unique(labels.read(block), return_inverse=True)
            numbers = [self._number(labels, int(code), known) for code in codes]
            classes[missing] = np.array(numbers)[places.reshape(missing.shape)][missing]
        return classes

    def _number(self, labels: Labels, code: int, known: dict[int, int]) -> int:
        if code == -1:
            return NODATA_LABEL
        if code not in known:
            texts = labels.texts(code)
            try:
                number = self._table.number(texts)
            except KeyError:
                raise DataError(
                    f"{labels.name}: holds the label {' = '.join(texts)}, which data.label_classes does not name; add "
                    f'it with its class, or leave it out with "{texts[0]}": null'
                ) from None
            known[code] = NODATA_LABEL if number is None else number
        return known[code]


def texts_in(labels: Labels, shape: tuple[int, int]) -> set[str]:
    """What labels on an image are called: as declared, or else as found by reading them all.

    Raises:
        DataError: far more values than classes can be.
    """
    declared = labels.codes()
    codes: set[int] = set() if declared is None else set(declared)
    if declared is None:
        for block in BlockGrid(*shape).blocks:
            codes |= set(np.unique(labels.read(block)).tolist()) - {-1}
            if len(codes) > _MOST_CLASSES:
                raise DataError(
                    f"{labels.name}: holds {len(codes)} or more different values, too many to be classes; name "
                    "those that are with data.label_classes"
                )
    return {labels.texts(code)[-1] for code in codes}


def natural(text: str) -> tuple[int, float, str]:
    """Sorts numbers by value, before texts."""
    try:
        return 0, float(text), text
    except ValueError:
        return 1, 0.0, text.casefold()
