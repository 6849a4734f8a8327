"""What can be made once for many trainings: five crops of photographs, patches of the Potsdam tiles."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from geohp.config.experiment import Config
from geohp.config.loading import load_config
from geohp.data.benchmarks.photograph_source import PhotographSource
from geohp.data.benchmarks.potsdam import Potsdam
from geohp.data.factory import open_data
from geohp.errors import DataError
from geohp.files.checks import expand_home
from geohp.progress import Progress, no_progress

_MOST_WORKERS = 8


@dataclass(frozen=True)
class Preparation:
    """A prepared folder.

    Attributes:
        folder: where it is.
        what: it holds, in the plural.
        written: how many were made now.
        existing: how many were made earlier.
        setting: that trains on it.
        protocol: how the data are evaluated, and what differs from the published way.
    """

    folder: Path
    what: str
    written: int
    existing: int
    setting: str
    protocol: str

    def report(self) -> str:
        """Two lines for the user."""
        counts = f"{self.written + self.existing} {self.what} in {self.folder}"
        if self.existing:
            counts += f" ({self.existing} of them were there already)"
        return f"{counts}\n{self.protocol}"


def prepare(
    config: Config | str | Path,
    out: str | Path,
    overrides: Sequence[str] = (),
    progress: Progress = no_progress,
    *,
    jpeg_quality: int | None = None,
    workers: int | None = None,
) -> Preparation:
    """Make the training data of a configuration once, as files that are quick to read.

    For COCO-Stuff-27 and Cityscapes-27 the five crops, for ISPRS's Potsdam tiles the 200 px patches in the layout of
    the prepared ones. What an interrupted run left is gone on with.

    Args:
        config: a configuration, its file, or the bare name of a packaged one.
        out: the folder to fill: new, empty, or one of the same preparation.
        overrides: such as ``data.root=FOLDER``, for a configuration that is read from a file.
        progress: told of what is cut.
        jpeg_quality: of crops, 1 to 95; ``None`` keeps every value, as PNG. The published ones are of quality 75.
        workers: threads that cut crops; by default one a core, eight at most.

    Raises:
        DataError: nothing can be prepared of these data, or they are missing or wrong.
        OutputError: the folder holds something else, or cannot be written to.
    """
    if not isinstance(config, Config):
        config = load_config(config, overrides)
    if jpeg_quality is not None and not 1 <= jpeg_quality <= 95:
        raise DataError(f"a JPEG quality of {jpeg_quality}: it must be from 1 to 95")
    out = expand_home(out)
    source = open_data(config.data, config.train.seed)
    if isinstance(source, Potsdam):
        if jpeg_quality is not None:
            problem = f"{{option}}: is for crops of photographs, not for data.source = {config.data.source}"
            raise DataError(problem, "leave it out", option="jpeg_quality")
        written, existing = source.prepare(out, progress)
        return Preparation(out, "patches", written, existing, f"data.root={out}", source.protocol.text)
    if isinstance(source, PhotographSource):
        written, existing = source.prepare(
            out,
            jpeg_quality=jpeg_quality,
            workers=workers or min(os.cpu_count() or 1, _MOST_WORKERS),
            progress=progress,
        )
        return Preparation(out, "crops", written, existing, f"data.prepared={out}", source.protocol.text)
    raise DataError(
        f"data.source = {config.data.source}: needs no preparation, patches are cut while training",
        "it is for potsdam (from ISPRS tiles), cocostuff and cityscapes",
    )
