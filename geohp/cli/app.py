"""The command line: parse, call, print. Everything heavy is imported inside the command that needs it."""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from geohp.cli import terminal
from geohp.cli.change import change
from geohp.cli.evaluate import evaluate
from geohp.cli.examples import epilog
from geohp.cli.inspect import cache, config, doctor, info
from geohp.cli.maps import legend, polygonize, recode
from geohp.cli.probe import probe
from geohp.cli.report import reporting
from geohp.cli.segment import segment
from geohp.cli.train import import_checkpoint, prepare, quickstart, train
from geohp.cli.view import view
from geohp.errors import GeohpError
from geohp.version import __version__


class _Command(TyperCommand):
    """A command whose help shows an option that is only given or left out without a type: ``--tta``, not <bool>."""

    def get_params(self, ctx: Any) -> Any:
        """All parameters, that of the help included."""
        return _without_bool(super().get_params(ctx))


class _Commands(TyperGroup):
    """The commands; an interrupt is told before typer, which would pass over it in silence, leaves with its code."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Understand what was asked for."""
        with _interrupts_told():
            return super().make_context(*arguments, **options)

    def get_params(self, ctx: Any) -> Any:
        """All parameters, that of the help included."""
        return _without_bool(super().get_params(ctx))

    def invoke(self, ctx: Any) -> Any:
        """Run the command asked for."""
        _check_working_folder()
        terminal.ignore_undecodable_warnings()  # here, for typer sets a hook of its own when it begins
        with _interrupts_told():
            return super().invoke(ctx)


@contextmanager
def _interrupts_told() -> Iterator[None]:
    """Say that the command was stopped, and have it leave with the code of the signal."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        raise typer.Exit(_told(interrupt)) from interrupt


def _told(interrupt: KeyboardInterrupt) -> int:
    terminal.show_interrupt(interrupt)
    return 128 + int(interrupt.args[0] if interrupt.args else signal.SIGINT)


def _check_working_folder() -> None:
    """Refuse to work in a folder that was removed: relative names mean nothing there, and MKL ends the process."""
    try:
        Path.cwd()
    except OSError as error:
        raise GeohpError("the folder that you are in is not there any more", "change to one that is (cd)") from error


def _without_bool(params: Sequence[Any]) -> Sequence[Any]:
    for param in params:
        if getattr(param, "is_flag", False) and param.metavar is None:
            param.metavar = ""
    return params


app = typer.Typer(
    cls=_Commands,
    name="geohp",
    help="Land-cover maps from orthophotos, without a single label.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(show: bool) -> None:
    if show:
        typer.echo(f"geohp {__version__}")
        raise typer.Exit


@app.callback()
def _geohp(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """Land-cover maps from orthophotos, without a single label."""


_PANELS = {
    "To begin": (quickstart, doctor),
    "Maps": (segment, polygonize, change, view),
    "Names of classes": (legend, recode, probe),
    "Models": (train, evaluate, prepare, import_checkpoint),
    "What there is": (info, config, cache),
}
"""The commands as the help lists them."""

for panel, commands in _PANELS.items():
    for command in commands:
        name = command.__name__.replace("_", "-")
        app.command(name, cls=_Command, epilog=epilog(name), rich_help_panel=panel)(reporting(command))


_OUT_OF_MEMORY = ("DefaultCPUAllocator", "out of memory")
"""Words of torch where a CPU or a GPU has no more memory to give."""
_BYTES_ASKED = re.compile(r"you tried to allocate (\d+) bytes")
_LESS_MEMORY = (
    "use less at once: a smaller --window or fewer --workers for maps, a smaller train.batch_size for training"
)


def _terminate(number: int, frame: object) -> None:
    """Who is asked to end ends as in an interrupt: nothing half done, and a word of what is kept."""
    raise KeyboardInterrupt(number)


def _known(error: MemoryError | OSError | RuntimeError) -> GeohpError | None:
    """What the system, or torch, says for a user, with what is kept of the work; ``None`` where that is no sentence."""
    text = str(error)
    if _lacks_memory(error):
        asked = _BYTES_ASKED.search(text)
        size = f"{int(asked[1]) / 1e9:,.1f} GB were asked for at once" if asked else text.partition("\n")[0]
        known = GeohpError(f"the memory does not suffice{f' ({size})' if size else ''}", _LESS_MEMORY)
    elif isinstance(error, OSError) and error.filename is not None:
        # Names that are too long, folders that may not be looked into.
        known = GeohpError(f"{error.filename}: {error.strerror}")
    else:
        return None
    known.__cause__ = error
    for note in getattr(error, "__notes__", ()):
        known.add_note(note)
    return known


def _lacks_memory(error: MemoryError | OSError | RuntimeError) -> bool:
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or any(words in str(error) for words in _OUT_OF_MEMORY)


def main() -> None:
    """Run the command line; a user's mistake is one sentence and exit code 2, an interrupt exit code 130."""
    # Threads that spin while they wait stall one another wherever cores are shared with other work: up to twenty
    # times slower. Has to be said before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Or GDAL leaves a file beside every gzipped input, to find its way in it the next time.
    os.environ.setdefault("CPL_VSIL_GZIP_WRITE_PROPERTIES", "NO")
    # In threads of its own GDAL prints its complaints, which come as exceptions besides.
    os.environ.setdefault("CPL_LOG", os.devnull)
    terminal.take_any_character()
    try:
        terminal.show_log()
        for name in ("SIGTERM", "SIGHUP"):  # Windows knows no hang-up
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                signal.signal(number, _terminate)
        app()
    except GeohpError as error:
        terminal.show_error(error)
        sys.exit(2)
    except (MemoryError, OSError, RuntimeError) as error:
        known = _known(error)
        if known is None:
            raise
        terminal.show_error(known)
        sys.exit(2)
    except KeyboardInterrupt as interrupt:  # at the very beginning or end
        sys.exit(_told(interrupt))
