"""A scene: any raster GDAL opens, read window by window as colours in [0, 1] with a validity mask."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.windows import Window

from geohp.errors import ReadError, SceneError
from geohp.raster.block import Block, BlockGrid, check_size
from geohp.raster.gdal import FAILURES, gdal_env, gdal_message, numpy_dtype, open_env, open_raster
from geohp.raster.grid import Grid
from geohp.raster.read.arrays import STORED, packed_dtype, to_memory_file
from geohp.raster.read.bands import BandRequest, BandSelection, BandTable, band_list, select_bands
from geohp.raster.read.opened import check_readable, open_dataset, readable
from geohp.raster.read.scaling import Scaling, StoredType, parse_rule, resolve_scaling
from geohp.raster.read.stored_tiles import StoredTiles, known_tiles
from geohp.raster.read.unchanged import UnchangedFiles
from geohp.raster.read.validity import ValidityPlan

if TYPE_CHECKING:
    from xarray import DataArray

ScalingRequest = str | Sequence[Any] | Scaling

_SAMPLE_PX = 1024 * 1024
_SAMPLE_PATCHES = 16  # a lattice of 16 x 16 patches where a scene has no overviews
_NO_TABLE = "choose its bands by number, or give the path of the raster that has one"
_PIECE_PX = 16  # in which a scene that is mostly empty is read reduced


def open_scene(path: str | Path, *, bands: BandRequest = None, scaling: ScalingRequest = "auto") -> Scene:
    """Open a raster as a scene.

    Args:
        path: a file, or anything else GDAL understands (``/vsicurl/...``, ``https://...``, a subdataset's name).
        bands: channels in order, by 1-based number, band description or colour ("red", "nir", "R"); by default red,
            green and blue, see :func:`geohp.raster.read.bands.select_bands`.
        scaling: stored values to [0, 1], see :func:`geohp.raster.read.scaling.parse_rule`; or a :class:`Scaling`
            settled elsewhere.

    Returns:
        An open scene; close it, or use it in a ``with`` statement.

    Raises:
        SceneError: not there, not a raster, or without the bands asked for.
        ConfigError: a scaling that is not understood.
    """
    name = str(path)
    return Scene(open_dataset(name), name, bands=bands, scaling=scaling)


class Scene:
    """An open raster whose windows come as float32 channels in [0, 1].

    Reads may come from any thread; they take turns on one GDAL handle.

    Attributes:
        path: what was opened, for messages.
        grid: where the pixels lie.
        height, width: size in pixels.
        bands: the 1-based band of each channel; one band may serve several channels.
        band_colours: what each channel shows, "red", "green", "blue" or "nir"; ``None`` where nobody says.
        band_request: the bands as asked for; with them, and not with ``bands``, the same file opens as the same scene.
        scaling: the range settled for the whole scene.
        files: the files it consists of, where it consists of any.
        unchanged: tells whether they are still what they were when it was opened.
    """

    def __init__(
        self,
        dataset: Any,
        path: str,
        *,
        bands: BandRequest = None,
        scaling: ScalingRequest = "auto",
        packed: np.dtype[Any] | None = None,
    ):
        """Take over an open rasterio dataset, also to close it; most callers want :func:`open_scene`.

        Args:
            dataset: what to read.
            path: what was opened, for messages.
            bands, scaling: as for :func:`open_scene`.
            packed: the integer type that its floats were read from, see
                :func:`geohp.raster.read.arrays.packed_dtype`.
        """
        self.path = path
        self._dataset = dataset
        self._packed = packed
        self._lock = threading.Lock()
        with ExitStack() as closing, readable(path):
            closing.enter_context(dataset)
            check_readable(dataset, path)
            check_size(dataset.height, dataset.width)
            self.grid = Grid.of(dataset)
            self.height: int = dataset.height
            self.width: int = dataset.width
            self.files = tuple(str(name) for name in dataset.files)
            self.unchanged = UnchangedFiles(path, self.files)
            selection = _select(dataset, path, bands)
            self.band_request = band_list(bands)
            self.bands = selection.numbers
            self.band_colours = selection.colours
            self._palette = _palette(dataset, selection, path)
            of_array = {number: _bits(dataset, number, STORED) for number in selection.numbers}
            self._array_bits = {number: bits for number, bits in of_array.items() if bits is not None}
            distinct = list(dict.fromkeys(selection.numbers))
            self._distinct = distinct
            self._plan = ValidityPlan.of(dataset, distinct)
            # What one read fetches: the bands of the channels, each once, and any alpha band besides.
            self._numbers = distinct + [number for number in self._plan.alphas if number not in distinct]
            self._channels = [distinct.index(number) for number in selection.numbers]
            self._opacities = [self._numbers.index(number) for number in self._plan.alphas]
            self._mask_file = _open_mask_file(dataset) if self._plan.masks else None
            # After a failure these are others than now.
            closing.callback(lambda: self._mask_file is not None and self._mask_file.close())
            closing.callback(lambda: self._dataset.close())
            self.scaling = self._resolve_scaling(scaling)
            self._closing = closing.pop_all()

    @classmethod
    def from_dataarray(cls, array: DataArray, *, bands: BandRequest = None, scaling: ScalingRequest = "auto") -> Scene:
        """A scene of an xarray array, with CRS, transform and nodata as rioxarray knows them; the values are copied.

        Args:
            array: ``(y, x)`` or ``(band, y, x)`` in any order, see :func:`geohp.raster.read.arrays.to_memory_file`.
            bands: as for :func:`open_scene`; names are those of ``long_name`` or of the band coordinate.
            scaling: as for :func:`open_scene`.
        """
        name = array_name(array)
        with ExitStack() as stack:
            memory = stack.enter_context(to_memory_file(array, name))
            scene = cls(open_raster(memory.name), name, bands=bands, scaling=scaling, packed=packed_dtype(array))
            stack.push(scene._closing.pop_all())  # the file before the memory it lies in
            scene._closing = stack.pop_all()
        return scene

    def __enter__(self) -> Scene:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; closing twice does no harm."""
        with self._lock:
            self._closing.close()

    def read(self, row: int, col: int, height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Read one window.

        Args:
            row: its uppermost row; the window must lie inside the scene.
            col: its leftmost column.
            height: its rows.
            width: its columns.

        Returns:
            Data float32 ``(channels, height, width)`` in [0, 1], 0 where invalid; validity bool ``(height, width)``.

        Raises:
            SceneError: the window lies outside, the file cannot be decoded there, or the scene is closed.
        """
        block = Block(row, col, height, width)
        if self.grid.block.intersect(block) != block:
            raise SceneError(
                f"{self.path}: window of {height} x {width} px at row {row}, column {col} lies outside "
                f"the scene of {self.height} x {self.width} px."
            )
        return self._scaled(*self._stored(block))

    def thumbnail(self, max_px: int, block: Block | None = None) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Read the scene, or a block of it, averaged down so that the longer side has at most ``max_px`` pixels.

        Returns:
            Data and validity as :meth:`read` gives them; never larger than what is read itself.
        """
        block = block or self.grid.block
        return self.read_reduced(block, _shrunk(block.shape, max_px / max(block.shape)))

    def read_reduced(self, block: Block, shape: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Read a block averaged down.

        Args:
            block: inside the scene.
            shape: rows and columns of what is returned, at most the block's.

        Returns:
            Data and validity as :meth:`read` gives them.

        Raises:
            SceneError: the file cannot be decoded there, or the scene is closed.
        """
        # Indices into a colour table have no mean.
        resampling = Resampling.nearest if self._palette is not None else Resampling.average
        return self._scaled(*self._stored(block, shape, resampling))

    def may_hold_data(self, block: Block) -> bool:
        """Whether a block can have valid pixels, as far as is known without reading it."""
        return self._tiles is None or self._tiles.touch(block)

    @cached_property
    def _tiles(self) -> StoredTiles | None:
        """The tiles that are stored; ``None`` where all are, or where the others hold data, too."""
        with self._lock, gdal_env():
            if self._dataset.closed:
                return None
            return known_tiles(self._dataset, self._plan, self._distinct)

    def _scaled(self, values: NDArray[Any], valid: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        data = self.scaling.apply(values)
        if not valid.all():
            np.copyto(data, np.float32(0), where=~valid)
        return data, valid

    def _stored(
        self, block: Block, shape: tuple[int, int] | None = None, resampling: Resampling = Resampling.nearest
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Stored values ``(channels, rows, columns)`` and validity of a block, decimated to ``shape``."""
        if self._tiles is not None and (shape not in (None, block.shape) or not self._tiles.touch(block)):
            return self._stored_in_pieces(block, shape or block.shape, resampling)
        return self._read_stored(block, block.window, shape or block.shape, resampling)

    def _stored_in_pieces(
        self, block: Block, shape: tuple[int, int], resampling: Resampling
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """:meth:`_stored` of a scene that is not stored everywhere: what may hold data is read, and nothing else."""
        stored = [np.dtype(self._dataset.dtypes[number - 1]) for number in self._distinct]
        dtype = np.result_type(*stored) if self._palette is None else self._palette.dtype
        values, valid = np.zeros((len(self.bands), *shape), dtype), np.zeros(shape, bool)
        pieces = BlockGrid(*shape, _PIECE_PX).blocks if self.may_hold_data(block) else []
        for piece in pieces:
            window = _enlarged(piece, block, shape)
            around = _around(window).intersect(block)
            if around is not None and self.may_hold_data(around):
                read = self._read_stored(around, window, piece.shape, resampling)
                values[:, *piece.slices], valid[piece.slices] = read
        return values, valid

    def _read_stored(
        self, block: Block, window: Window, shape: tuple[int, int], resampling: Resampling
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """A window, decimated to ``shape``; it lies in the block, which is for messages."""
        with self._reading(block):
            planes = self._read_planes(window, shape, resampling)
            masks = [self._dataset.read_masks(n, window=window, out_shape=shape) for n in self._plan.masks]
            if self._mask_file is not None:
                masks.append(self._mask_file.read(1, window=window, out_shape=shape))
        masks += [planes[index] for index in self._opacities]
        valid = self._plan.of_planes(planes, masks)
        if self._palette is not None:
            index = planes[0]
            colours = self._palette[:, np.minimum(index, self._palette.shape[1] - 1)]
            return colours[:-1], valid & (colours[-1] != 0) & (index < self._palette.shape[1])
        if isinstance(planes, list):
            return np.stack([planes[channel] for channel in self._channels]), valid
        in_order = self._channels == list(range(len(self._channels)))
        return (planes[: len(self._channels)] if in_order else planes[self._channels]), valid

    @contextmanager
    def _reading(self, block: Block) -> Iterator[None]:
        """One thread at a time, GDAL's complaints in the log, its failures as SceneError."""
        with self._lock:
            if self._dataset.closed:
                raise SceneError(f"{self.path} has been closed: read it inside its with statement.")
            try:
                with gdal_env():
                    yield
            except FAILURES as error:
                self._open_again()
                raise ReadError(
                    f"{self.path} cannot be read at row {block.row}, column {block.col} "
                    f"({block.height} x {block.width} px): {gdal_message(error)}",
                    "the file is damaged or cut short, fetch or export it again.",
                ) from error

    def _open_again(self) -> None:
        """Forget what was decoded: a block that GDAL failed to decode is read the next time as if it were sound."""
        # Where even opening fails, so will reading.
        with suppress(*FAILURES), open_env(self._dataset.name):
            fresh = open_raster(self._dataset.name, sharing=False)
            self._dataset.close()
            self._dataset = fresh
            if self._mask_file is not None:
                self._mask_file.close()
                self._mask_file = _open_mask_file(fresh)

    def _read_planes(self, window: Window, shape: tuple[int, int], resampling: Resampling) -> Any:
        """An array ``(planes, rows, columns)``, or a list of planes where their dtypes differ."""
        options = {"window": window, "resampling": resampling}
        if len({self._dataset.dtypes[number - 1] for number in self._numbers}) == 1:
            return self._dataset.read(self._numbers, out_shape=(len(self._numbers), *shape), **options)
        return [self._dataset.read(number, out_shape=shape, **options) for number in self._numbers]

    def _resolve_scaling(self, scaling: ScalingRequest) -> Scaling:
        if isinstance(scaling, Scaling):
            if len(scaling.low) != len(self.bands):
                raise SceneError(
                    f"{self.path}: a scaling of {len(scaling.low)} channels was given for {len(self.bands)} bands."
                )
            return scaling
        rule = parse_rule(scaling)
        if rule.kind in ("auto", "type") and (self._packed is not None or self._array_bits):
            highest = self.sample().max(initial=0)  # the values may have been changed in place after they had been read
            if self._packed is not None and not 1 < highest <= np.iinfo(self._packed).max:
                self._packed = None
            self._array_bits = {number: bits for number, bits in self._array_bits.items() if highest < 2**bits}
        return resolve_scaling(rule, self.stored_types, self.sample, self.path)

    @property
    def repeats_band(self) -> bool:
        """Whether one band serves all channels because the scene has too few and nobody chose."""
        return self.band_request is None and self._palette is None and len({*self.bands}) < len(self.bands)

    @property
    def bands_elsewhere(self) -> tuple[int | str, ...] | None:
        """What opens other files as this one was opened: numbers of bands; of a colour table what was asked for."""
        if self._palette is None or self.band_request is None:
            return self.bands if self._palette is None else None
        return self.band_request

    @property
    def stored_types(self) -> tuple[StoredType, ...]:
        """What each channel stores; of a colour table, its colours; of floats read from integers, those."""
        if self._palette is not None:
            return (StoredType(self._palette.dtype),) * len(self.bands)
        types = (_stored_type(self._dataset, number) for number in self.bands)
        return tuple(
            StoredType(known.dtype if self._packed is None else self._packed, self._array_bits.get(number, known.bits))
            for number, known in zip(self.bands, types, strict=True)
        )

    def sample(self, px: int = _SAMPLE_PX) -> NDArray[Any]:
        """Stored values ``(channels, n)`` of valid pixels spread over the scene.

        Args:
            px: how many pixels to look at, about; by default a million.
        """
        coarsest = max([1, *self._dataset.overviews(self.bands[0])])
        if self.height * self.width / coarsest**2 > 4 * _SAMPLE_PX:
            patches = self._stored_each(self._lattice(px))
            if any(valid.any() for _, valid in patches):
                return np.concatenate([values[:, valid] for values, valid in patches], axis=1)
        shape = _shrunk(self.grid.shape, (px / (self.height * self.width)) ** 0.5)
        values, valid = self._stored(self.grid.block, shape)
        return values[:, valid]

    def _stored_each(self, blocks: Sequence[Block]) -> list[tuple[NDArray[Any], NDArray[np.bool_]]]:
        return [self._stored(block) for block in blocks]

    def _lattice(self, px: int = _SAMPLE_PX) -> list[Block]:
        # Without overviews a decimated read decodes every block of the file; patches decode a few of them.
        count = _SAMPLE_PATCHES
        if self._tiles is not None:
            return self._tiles.blocks(count**2, self.grid.shape)
        side = max(1, int(px**0.5) // count)
        tall, wide = min(side, self.height), min(side, self.width)
        rows = np.unique(np.linspace(0, self.height - tall, count).astype(int))
        cols = np.unique(np.linspace(0, self.width - wide, count).astype(int))
        return [Block(int(row), int(col), tall, wide) for row in rows for col in cols]


def _shrunk(shape: tuple[int, int], factor: float) -> tuple[int, int]:
    """Rows and columns of what is decimated, never more than there are."""
    return max(1, round(shape[0] * min(1.0, factor))), max(1, round(shape[1] * min(1.0, factor)))


def _enlarged(piece: Block, block: Block, shape: tuple[int, int]) -> Window:
    """What a piece of a block that was decimated to ``shape`` shows, to fractions of pixels."""
    down, right = block.height / shape[0], block.width / shape[1]
    corner = (block.col + piece.col * right, block.row + piece.row * down)
    return Window(*corner, piece.width * right, piece.height * down)


def _around(window: Window) -> Block:
    """The pixels that a window touches."""
    top, left = math.floor(window.row_off), math.floor(window.col_off)
    return Block.between(top, left, math.ceil(window.row_off + window.height), math.ceil(window.col_off + window.width))


def array_name(array: Any) -> str:
    """An array in messages."""
    return f"array {array.name}" if getattr(array, "name", None) else "the array"


def _select(dataset: Any, path: str, bands: BandRequest) -> BandSelection:
    table = BandTable(dataset.descriptions, tuple(meaning.name.lower() for meaning in dataset.colorinterp), path)
    selection = select_bands(table, bands)
    for number in selection.numbers:
        kind = dataset.dtypes[number - 1]
        if numpy_dtype(kind).kind not in "uif":
            raise SceneError(f"{path}: band {number} holds {kind} values: convert it to amplitudes first.")
    return selection


def _open_mask_file(dataset: Any) -> Any:
    """The mask beside a file, which GDAL ignores where the file also has a mask inside; ``None`` without one."""
    files = dataset.files  # the raster itself first
    beside = f"{files[0]}.msk" if files else ""
    return open_raster(beside, sharing=False) if beside in files else None


def _palette(dataset: Any, selection: BandSelection, path: str) -> NDArray[np.uint8] | None:
    """The colour table as ``(channels + 1, entries)``, opacity last; ``None`` where bands are read as they are."""
    if selection.palette_columns is None:
        return None
    if numpy_dtype(dataset.dtypes[0]).kind not in "ui":
        problem = f"{path} is marked as having a colour table but holds {dataset.dtypes[0]} values"
        raise SceneError(problem, _NO_TABLE)
    try:
        table = dataset.colormap(1)
    except ValueError as error:
        raise SceneError(f"{path} is marked as having a colour table but has none", _NO_TABLE) from error
    entries = np.zeros((4, max(table) + 1), dtype=np.uint8)
    for index, colour in table.items():
        entries[:, index] = colour
    return entries[[*selection.palette_columns, 3]]


def _stored_type(dataset: Any, number: int) -> StoredType:
    return StoredType(np.dtype(dataset.dtypes[number - 1]), _bits(dataset, number, "IMAGE_STRUCTURE"))


def _bits(dataset: Any, number: int, namespace: str) -> int | None:
    bits = dataset.tags(number, ns=namespace).get("NBITS")
    return int(bits) if bits else None
