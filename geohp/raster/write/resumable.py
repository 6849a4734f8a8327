"""The unfinished outputs of one run on disk: block by block, safe from interruption, whole in the end or not at all."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from geohp.errors import OutputError
from geohp.files.atomic import store, wait_for_disk, write_failure
from geohp.files.checks import check_output, refuse_existing
from geohp.files.locks import FolderLock
from geohp.files.unfinished import clear_folder, may_replace, remove_drafts, work_folder
from geohp.raster.block import Block
from geohp.raster.gdal import FAILURES
from geohp.raster.grid import Grid
from geohp.raster.write import resume_identity
from geohp.raster.write.assemble import PlacedBlock
from geohp.raster.write.cog import assemble, remove_side_files
from geohp.raster.write.journal import Journal, JournalEntry, Origin
from geohp.raster.write.layer import Layer
from geohp.raster.write.stored_blocks import StoredBlock, block_path, checksum_matches, has_full_size, write_block


class ResumableRasterWriter:
    """Blocks of several rasters on one grid, kept as small files until all are there.

    They lie in a hidden folder beside the first output, named after it, so that the same run finds them again after
    an interrupt, a kill or a power failure. The outputs appear together, in :meth:`publish`; until then whatever stood
    at their places stays as it was. The folder goes when the ``with`` block is left well after that: what is made of
    the outputs within it can be gone on with, too. Leaving it otherwise keeps finished blocks, and removes the folder
    if there are none; the exception that ends it takes :attr:`resume_note` along. Blocks may come in any order and from
    any thread, and must not overlap.

    Attributes:
        folder: where the blocks lie.
        grid: size and georeference of all outputs.
        outputs: files and how they are stored; a layer's number is its place here.
    """

    def __init__(
        self, outputs: Mapping[Path, Layer], grid: Grid, lock: FolderLock, journal: Journal, also: Iterable[Path] = ()
    ):
        """Work in a folder that is locked and prepared; see :meth:`open`."""
        self.folder = lock.folder
        self.grid = grid
        self.outputs = dict(outputs)
        self._files = [*self.outputs, *also]
        self._numbers = {path: number for number, path in enumerate(self.outputs)}
        self._lock = lock
        self._journal = journal
        self._entries = journal.entries
        for (row, col), entry in list(self._entries.items()):
            if not self._is_complete(row, col, entry):  # a disk in trouble; it is simply done again
                del self._entries[row, col]
        self._published = False

    @classmethod
    def open(
        cls,
        outputs: Mapping[Path, Layer],
        grid: Grid,
        identity: Mapping[str, Any],
        *,
        also: Iterable[Path] = (),
        restart: bool = False,
        overwrite: bool = True,
    ) -> ResumableRasterWriter:
        """Begin, or go on with what an earlier run of the same identity left.

        Args:
            outputs: files to appear, and how they are stored.
            grid: size and georeference, kept exactly: transform or ground control points, and CRS.
            identity: all that the pixels and the cut into blocks depend on, JSON-able: input, model, window, block.
                Where it differs from the earlier run's, the first differing key is named.
            also: further files, which are made of the outputs within the ``with`` block.
            restart: delete what an earlier run left, but for outputs that it has completed.
            overwrite: existing outputs will be replaced. If not, those are refused that another process has completed
                since the caller looked, unless it was stopped before all was in place and is gone on with.

        Raises:
            OutputError: a folder is missing or not writable, an output is a folder or exists, another process works on
                the same output, or what an earlier run left does not fit or cannot be read.
            TypeError: the identity is not JSON-able.
        """
        outputs = {check_output(path, overwrite=True): layer for path, layer in outputs.items()}
        if len({path.resolve() for path in outputs}) < len(outputs):
            raise OutputError(f"{next(iter(outputs))}: two outputs cannot be one file", "choose another name for one")
        described = resume_identity.describe(identity, outputs, grid)
        folder = work_folder(next(iter(outputs))).absolute()  # workers may start elsewhere
        lock = FolderLock(folder)
        try:
            first = next(iter(outputs))
            for path in outputs:
                if not may_replace(first, path, overwrite=overwrite, restart=restart):
                    refuse_existing(path)
            return cls(outputs, grid, lock, _prepare(folder, described, restart=restart), also)
        except BaseException as error:
            lock.release(remove=True)  # of a folder that is empty; others stay
            if isinstance(error, OSError) and not isinstance(error, OutputError):
                raise _unusable(f"{folder} cannot be used ({error.strerror or error})") from error
            raise

    def __enter__(self) -> ResumableRasterWriter:
        return self

    def __exit__(self, _: object, error: BaseException | None, *__: object) -> None:
        if error is not None:
            self._published = False
            if self.resume_note is not None:
                error.add_note(self.resume_note)
        self.close()

    @property
    def finished(self) -> frozenset[Origin]:
        """First row and column of each finished block."""
        return frozenset(self._entries)

    @property
    def notes(self) -> list[Mapping[str, Any]]:
        """What was noted with finished blocks, from top left to bottom right."""
        return [entry.note for _, entry in sorted(self._entries.items()) if entry.note is not None]

    @property
    def resume_note(self) -> str | None:
        """Says for the user where finished blocks are kept; ``None`` where there are none, or all is published."""
        if self._published or not self._entries:
            return None
        return f"{len(self._entries)} finished block(s) are kept in {self.folder}; the same command goes on from there"

    def put(
        self, row: int, col: int, layers: Mapping[Path, NDArray[Any] | None], note: Mapping[str, Any] | None = None
    ) -> None:
        """Store a finished block; when this returns, it survives whatever happens to the process.

        Args:
            row, col: first row and column of the block.
            layers: for each output (rows, cols) or (bands, rows, cols); ``None`` or all nodata: nothing is stored.
            note: goes into :attr:`notes`.

        Raises:
            OutputError: the disk is full or the folder cannot be written to; the block is then not finished.
            ValueError: the block does not fit the grid or a layer.
        """
        arrays = {Path(path): values for path, values in layers.items() if values is not None}
        if unknown := arrays.keys() - self._numbers.keys():
            raise ValueError(f"{unknown.pop()} is none of the outputs")
        if len({values.shape[-2:] for values in arrays.values()}) > 1:
            raise ValueError(f"the layers of the block at row {row}, column {col} differ in size")
        for values in arrays.values():
            self._check_fits(Block(row, col, *values.shape[-2:]))
        written = (
            write_block(self.folder, self._numbers[path], self.outputs[path], row, col, values)
            for path, values in arrays.items()
        )
        self.record(row, col, [stored for stored in written if stored], note)

    def record(self, row: int, col: int, blocks: Iterable[StoredBlock], note: Mapping[str, Any] | None = None) -> None:
        """Note as finished a block whose layers are on disk already.

        Args:
            row, col: first row and column of the block.
            blocks: what :func:`write_block` gave for each layer, in whichever process, less the ``None``s.
            note: goes into :attr:`notes`.

        Raises:
            OutputError: a layer is not there, or the disk is full; the block is then not finished.
            ValueError: the block does not fit the grid.
        """
        entry = JournalEntry(tuple(blocks), None if note is None else dict(note))
        for stored in entry.blocks:
            self._check_fits(Block(row, col, stored.rows, stored.cols))
        if not self._is_complete(row, col, entry):
            raise OutputError(
                f"the block at row {row}, column {col} is not in {self.folder}",
                "the output's folder must be one and the same for all workers",
            )
        try:
            self._journal.append(row, col, entry)
        except OSError as error:
            raise write_failure(self.folder, error) from error

    def publish(self) -> None:
        """Turn the blocks into cloud-optimised GeoTIFFs and move them into place; where no block is, there is nodata.

        All are complete on disk before the first is moved.

        Raises:
            OutputError: the disk is full, or parts are missing or damaged; what is sound is kept, and what stood at
                the outputs' places stays as it was.
        """
        self._refuse_damaged()
        cogs: list[Path] = []
        try:
            for number, (path, layer) in enumerate(self.outputs.items()):
                try:
                    cogs.append(assemble(self.folder, str(number), layer, self.grid, self._placed(number)))
                    wait_for_disk(cogs[-1])
                except FAILURES as error:
                    raise write_failure(path, error) from error
            self._move(cogs)
        finally:
            for cog in cogs:
                cog.unlink(missing_ok=True)
        self._published = True

    def close(self) -> None:
        """Let go of the folder; it goes too where all is published, or nothing finished."""
        self._journal.close()
        finished_with = self._published or not self._entries
        if finished_with and self._lock.held:
            with suppress(OSError):
                clear_folder(self.folder)
        self._lock.release(remove=finished_with)

    def _move(self, cogs: Sequence[Path]) -> None:
        staged: dict[Path, Path] = {}
        path = self.folder
        try:
            for path, cog in zip(self.outputs, cogs, strict=True):
                staged[path] = cog
                if path.parent.resolve() != self.folder.parent.resolve():
                    # Perhaps another disk, where moving is copying: that must not fail between two outputs.
                    staged[path] = path.with_name(f"{work_folder(path).name}.tif")
                    _relocate(cog, staged[path])
            self._journal.append_moving(self._files[0], self._files)
            for path, ready in staged.items():
                ready.replace(path)
                remove_side_files(path)
            for folder in {path.parent for path in self.outputs}:
                wait_for_disk(folder)
        except OSError as error:
            raise write_failure(path, error) from error
        finally:
            for ready in staged.values():
                ready.unlink(missing_ok=True)

    def _placed(self, number: int) -> list[PlacedBlock]:
        """The blocks of one layer and where they belong."""
        return [
            PlacedBlock(Block(*origin, stored.rows, stored.cols), stored)
            for origin, entry in self._entries.items()
            for stored in entry.blocks
            if stored.layer == number
        ]

    def _refuse_damaged(self) -> None:
        """Drop blocks that are not what was written, so that they are done again."""
        damaged = []
        for origin, entry in sorted(self._entries.items()):
            unsound = [stored for stored in entry.blocks if not checksum_matches(self.folder, *origin, stored)]
            for stored in unsound:
                with suppress(OSError):
                    block_path(self.folder, stored.layer, *origin).unlink()  # the next run will miss it
            if unsound:
                damaged.append(origin)
                del self._entries[origin]
        if damaged:
            row, col = damaged[0]
            raise OutputError(
                f"{len(damaged)} finished block(s) in {self.folder} are damaged, the first at row {row}, column {col}",
                "run the same command again to have them done anew",
            )

    def _is_complete(self, row: int, col: int, entry: JournalEntry) -> bool:
        return all(has_full_size(self.folder, row, col, stored) for stored in entry.blocks)

    def _check_fits(self, block: Block) -> None:
        if self.grid.block.intersect(block) != block:
            raise ValueError(
                f"block of {block.height} x {block.width} px at row {block.row}, column {block.col} does not fit "
                f"{self.grid.shape}"
            )


def _prepare(folder: Path, described: Mapping[str, Any], *, restart: bool) -> Journal:
    """Make a locked folder ready for the work described: as it is if it holds the same, else empty."""
    if restart:
        clear_folder(folder)
    before = resume_identity.read_identity(folder)
    differs = "no legible description" if before is None else resume_identity.difference(before, described)
    journal = Journal(folder)
    if differs and journal.entries:
        journal.close()
        raise _unusable(f"{folder} holds unfinished work with {differs}")
    if differs:
        journal.close()
        clear_folder(folder)
        content = json.dumps(described, ensure_ascii=False, indent=1).encode()
        store(folder / resume_identity.NAME, content)
        return Journal(folder)
    remove_drafts(folder)
    return journal


def _unusable(problem: str) -> OutputError:
    remedy = "begin anew with {option}, or choose another name for the output"
    return OutputError(problem, remedy, option="restart", value=True)


def _relocate(source: Path, target: Path) -> None:
    """Move a file, also to another disk."""
    try:
        source.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.copyfile(source, target)
        wait_for_disk(target)
        source.unlink()
