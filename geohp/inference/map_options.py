"""What can be asked of a mapping besides its files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from geohp.inference.acquisition import Acquisition
from geohp.options import AreaOptions, ExtentOptions, FitOptions, OnReadError, PolygonOptions, WindowOptions
from geohp.progress import Progress, default_progress

if TYPE_CHECKING:
    from distributed import Client

    from geohp.inference.segmenter import Segmenter
    from geohp.legend.file import LegendSource


@dataclass(frozen=True, kw_only=True)
class ModelOptions(FitOptions, AreaOptions):
    """Which model labels a scene.

    Attributes:
        model: a run folder, a model file or a :class:`Segmenter`. Without one, asking for classes, a backbone, a
            block of it or split covers means to find classes on the scene itself. With none of these, the newest run
            below ``runs`` is used where there is one, and classes are found otherwise. Bands and a scaling that are
            asked for take the place of the model's own; there must be as many bands as it has channels.
        legend: names for the classes, ``{0: "water", 3: "water"}`` or as a legend, or the file that has them; several
            clusters may share one.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
    """

    model: str | Path | Segmenter | None = field(default=None, kw_only=False)
    legend: LegendSource | None = None
    device: str = "auto"


@dataclass(frozen=True, kw_only=True)
class SegmentOptions(ModelOptions, WindowOptions, ExtentOptions):
    """How a scene is labelled: the model, what it sees of the scene, and which part is meant.

    Attributes:
        progress: hears how far it is; by default bars in a notebook, and nobody elsewhere.
    """

    progress: Progress = field(default_factory=default_progress)


@dataclass(frozen=True, kw_only=True)
class RasterOptions(WindowOptions, ExtentOptions):
    """How the rasters of a map are computed.

    Attributes:
        on_read_error: ``stop`` where the scene cannot be read, or ``nodata`` to leave out what cannot, in cells of
            256 px.
        restart: begin anew where unfinished work of another kind is found.
        client: workers that shall do it, see :func:`geohp.inference.cluster.connection.connect`; none by default.
        progress: hears how far it is; by default bars in a notebook, and nobody elsewhere.
    """

    on_read_error: OnReadError = "stop"
    restart: bool = False
    client: Client | None = None
    progress: Progress = field(default_factory=default_progress)


@dataclass(frozen=True, kw_only=True)
class MapOptions(SegmentOptions, RasterOptions, PolygonOptions):
    """How scenes become files.

    Attributes:
        datetime: when the scenes were taken, for STAC Items: a moment or ``FIRST/LAST`` as ISO 8601 writes them; by
            default what their files say.
        overwrite: replace files that exist.

    Raises:
        ConfigError: a datetime that is none.
    """

    datetime: str | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.datetime is not None:
            Acquisition.parse(self.datetime)

    @property
    def acquisition(self) -> Acquisition | None:
        """When the scenes were taken; ``None`` where their files shall say."""
        return None if self.datetime is None else Acquisition.parse(self.datetime)
