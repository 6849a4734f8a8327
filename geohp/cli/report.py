"""What a command has made: in sentences for people, or as one JSON object for programs.

The object is a :class:`ReportDocument`; docs/command-line.md describes it.
"""

from __future__ import annotations

import inspect
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from geohp.cli import terminal
from geohp.cli.parameters import panel
from geohp.version import __version__

if TYPE_CHECKING:
    from geohp.classes import LandCoverClass
    from geohp.errors import GeohpError
    from geohp.inference.areas import ClassArea
    from geohp.inference.map_scene import MapModel

SHARED_PANEL = "What is shown"
"""Of the options that every command has."""
_shown = panel(SHARED_PANEL)
_Quiet = Annotated[bool, _shown("--quiet", "-q", help="Only warnings and errors, nothing else.")]
_Verbose = Annotated[bool, _shown("--verbose", "-v", help="More of what happens, and where errors arose.")]
_Json = Annotated[bool, _shown("--json", help="One JSON object of what was made on standard output.")]


class ReportDocument(TypedDict):
    """What ``--json`` prints; every key is always there.

    Attributes:
        command: its name, as in "segment".
        version: of geohp.
        seconds: that the command took.
        outputs: paths of all files and folders that are there now because of it.
        classes: ``id``, ``name`` and ``colour`` of each class; empty where there are none.
        areas: by class ``id``, ``name``, ``pixels``, ``share`` (0 to 1), ``area_ha`` and ``mean_confidence`` (both may
            be null); empty where they are not known.
        model: ``origin`` and ``sha256`` of the model that was used; null where none was.
        details: what only this command has to say.
    """

    command: str
    version: str
    seconds: float
    outputs: list[str]
    classes: list[dict[str, Any]]
    areas: list[dict[str, Any]]
    model: dict[str, str] | None
    details: dict[str, Any]


@dataclass(frozen=True)
class Report:
    """What a command has made.

    Attributes:
        text: for people.
        outputs, classes, areas, model, details: see :class:`ReportDocument`.
        failure: what did not succeed beside all that, shown in the end.
    """

    text: str
    outputs: Sequence[str | Path] = ()
    classes: Sequence[LandCoverClass] = ()
    areas: Sequence[ClassArea] = ()
    model: MapModel | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    failure: GeohpError | None = None

    def document(self, command: str, seconds: float) -> ReportDocument:
        """The object for programs."""
        return ReportDocument(
            command=command,
            version=__version__,
            seconds=round(seconds, 3),
            outputs=[str(path) for path in self.outputs],
            classes=[asdict(entry) for entry in self.classes],
            areas=[asdict(area) for area in self.areas],
            model=None if self.model is None else asdict(self.model),
            details=dict(self.details),
        )


def reporting(command: Callable[..., Report]) -> Callable[..., None]:
    """The command with ``--quiet``, ``--verbose`` and ``--json``, its report printed as they ask."""
    signature = inspect.signature(command, eval_str=True)
    shown = {"quiet": _Quiet, "verbose": _Verbose, "as_json": _Json}

    @wraps(command)
    def run(*, quiet: bool, verbose: bool, as_json: bool, **arguments: Any) -> None:
        started = time.monotonic()
        with terminal.showing(quiet=quiet, verbose=verbose):
            report = command(**arguments)
            if as_json:
                name = command.__name__.replace("_", "-")
                document = report.document(name, time.monotonic() - started)
                # JSON is UTF-8, or else ASCII, which any encoding has.
                is_utf8 = "utf" in str(getattr(sys.stdout, "encoding", "")).lower()
                terminal.echo(json.dumps(document, ensure_ascii=not is_utf8, default=str))
            elif not quiet:
                terminal.echo(report.text)
            if report.failure is not None:
                raise report.failure

    further = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)
        for name, kind in shown.items()
    ]
    parameters = [*signature.parameters.values(), *further]
    run.__signature__ = signature.replace(parameters=parameters, return_annotation=None)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del run.__wrapped__  # whose annotations are others
    return run


def area_table(areas: Sequence[ClassArea]) -> str:
    """Lines of class, area, share and mean confidence, the largest class first; empty without areas."""
    if not areas:
        return ""
    from geohp.inference.areas import area_columns
    from geohp.reporting.text_tables import align_rows

    ordered = sorted(areas, key=lambda area: -area.share)
    columns = {"class": [area.name for area in ordered], **area_columns(ordered)}
    rows = [tuple(columns), *zip(*columns.values(), strict=True)]
    return "\n".join(align_rows(rows))
