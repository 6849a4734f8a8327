"""Rasters that change while they are read: what is made of them would be half of one and half of another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from geohp.errors import ChangedError
from geohp.files.state import file_state


class UnchangedFiles:
    """The files of a raster as they are now.

    Args:
        name: of the raster, in messages.
        files: that it consists of; what is no local file is passed over.
    """

    def __init__(self, name: str, files: Sequence[str]) -> None:
        self._name = name
        self._states = {path: file_state(path) for path in map(Path, files)}

    def check(self) -> None:
        """Make sure that they are what they were, before anything is published that was made of them.

        Raises:
            ChangedError: one has changed, or is gone.
        """
        for path, state in self._states.items():
            if file_state(path) != state:
                problem = f"{self._name} has changed while it was read ({path})"
                raise ChangedError(problem, "run the same command again, anew, when the file is complete")


NOTHING_TO_WATCH = UnchangedFiles("", ())
"""Of what lies in memory."""
