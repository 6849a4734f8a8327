"""Rasters that change while they are read: what is made of them would be half of one and half of another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from geohp.errors import ChangedError, DataError, SceneError
from geohp.files.state import file_state


class UnchangedFiles:
    """The files of a raster as they are now.

    Args:
        name: of the raster, in messages.
        files: that it consists of; what is no local file, and lies in none, is passed over.

    Attributes:
        states: of each file, see :func:`geohp.files.state.file_state`.
    """

    def __init__(self, name: str, files: Iterable[str]) -> None:
        self._name = name
        self.states: Mapping[str, list[int] | None] = {path: file_state(path) for path in files}

    @classmethod
    def joined(cls, name: str, parts: Iterable[UnchangedFiles]) -> UnchangedFiles:
        """The files of all parts, each as it was when the first part that knows it looked at it."""
        states: dict[str, list[int] | None] = {}
        for part in parts:
            for path, state in part.states.items():
                states.setdefault(path, state)
        joined = cls(name, ())
        joined.states = states
        return joined

    def check(self, files: Iterable[str] | None = None) -> None:
        """Make sure that they are what they were, before anything is published that was made of them.

        Args:
            files: some of them, or others, which are passed over; all by default.

        Raises:
            ChangedError: one has changed, or is gone.
        """
        for path in self.states if files is None else files:
            if path in self.states and file_state(path) != self.states[path]:
                raise self._changed(path)

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """For the length of a block: where reading fails because of a change, say that, not what came of it.

        Of a file that is gone the error itself says so; it may come back as it was, with the disk that it lies on.

        Raises:
            ChangedError: in place of a DataError or SceneError, where a file has become another.
        """
        try:
            yield
        except (DataError, SceneError) as error:
            for path, state in self.states.items():
                if not isinstance(error, ChangedError) and file_state(path) not in (None, state):
                    raise self._changed(path) from error
            raise

    def _changed(self, path: str) -> ChangedError:
        problem = f"{self._name} has changed while it was read ({path})"
        return ChangedError(problem, "run the same command again, anew, when the file is complete")


NOTHING_TO_WATCH = UnchangedFiles("", ())
"""Of what lies in memory."""
