"""What a user meets when something is wrong: one sentence that says what, where and how to mend it.

Every error that a user's input can cause derives from :class:`GeohpError`; the command line prints its
message and leaves with exit code 2. The children also inherit the built-in a Python caller would expect.

An error says what is wrong (``problem``) and what helps (``remedy``). Where an argument is concerned it is named as
Python does (``option``, and ``value`` where the remedy is to give it one), and ``{option}`` in either text stands for
it: who shows the error writes it in the words of the user at hand, ``overwrite=True`` or ``--overwrite``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from geohp.credentials import without_credentials

PLACE = "{option}"


class GeohpError(Exception):
    """A mistake or a bad file outside geohp; its message is complete and names the remedy.

    Attributes:
        problem: what is wrong, and where.
        remedy: what helps; empty where the problem says it.
        option: the keyword argument concerned.
        value: what to give it.
    """

    def __new__(cls, problem: str, *_: object, **__: object) -> Self:  # noqa: D102
        # OSError takes a second argument for its strerror, and the first for its errno.
        return super().__new__(cls, without_credentials(problem))

    def __init__(self, problem: str, remedy: str = "", *, option: str | None = None, value: object = None) -> None:
        problem, remedy = without_credentials(problem), without_credentials(remedy)
        super().__init__(problem)
        self.problem, self.remedy, self.option = problem, remedy, option
        self.value = without_credentials(value) if isinstance(value, str) else value

    def __reduce__(self) -> tuple[object, ...]:
        return _restored, (type(self), self.problem, self.remedy, self.option, self.value), self.__dict__

    def __str__(self) -> str:
        return self.render(keyword)

    def render(self, word: Callable[[str, object], str]) -> str:
        """The sentence, its option in the words of a listener.

        Args:
            word: makes a word of an option's name and value.
        """
        text = f"{self.problem}; {self.remedy}" if self.remedy else self.problem
        return text if self.option is None else text.replace(PLACE, word(self.option, self.value))


def keyword(option: str, value: object) -> str:
    """An option as Python writes it: ``overwrite=True``, or ``window_px=`` where no value is told."""
    return f"{option}=" if value is None else f"{option}={value!r}"


class Note(str):
    """A note on an exception or in the log that names an option, as an error does: a text for Python, and to render.

    Args:
        text: with ``{option}`` in the option's place.
        option, value: see :class:`GeohpError`.
    """

    def __new__(cls, text: str, *, option: str, value: object = None) -> Self:  # noqa: D102
        note = super().__new__(cls, text.replace(PLACE, keyword(option, value)))
        note._parts = (text, option, value)
        return note

    _parts: tuple[str, str, object]

    def render(self, word: Callable[[str, object], str]) -> str:
        """The note, its option in the words of a listener; see :meth:`GeohpError.render`."""
        text, option, value = self._parts
        return text.replace(PLACE, word(option, value))


def _restored(
    kind: type[GeohpError], problem: str, remedy: str, option: str | None, value: object
) -> GeohpError:  # for pickle, which knows no keyword-only arguments
    return kind(problem, remedy, option=option, value=value)


class ConfigError(GeohpError, ValueError):
    """A configuration that cannot be used: an unknown key, a wrong type, an impossible value."""


class SceneError(GeohpError, OSError):
    """A raster that cannot be opened, read, or used as asked."""


class UnreachableError(SceneError):
    """A raster on a server that cannot be reached, or that does not hand it out."""


class ChangedError(SceneError):
    """A file that has changed while it was read."""


class ReadError(SceneError):
    """A part of a raster that cannot be read, where the file is damaged or the connection fails."""


class OutputError(GeohpError, OSError):
    """An output that cannot be written where it was asked for."""


class DataError(GeohpError, ValueError):
    """Training or reference data that is missing, empty or inconsistent."""


class SourceError(SceneError, DataError):
    """What was named as imagery, to map or to train on, means no images."""


class ModelError(GeohpError, ValueError):
    """A model file or run folder that cannot be used, or does not fit the scene."""


class WeightsError(ModelError):
    """Backbone weights that cannot be found, downloaded or matched to the architecture."""


class TrainingError(GeohpError, ArithmeticError):
    """A training that cannot go on: its numbers are no longer finite."""


class VectorError(GeohpError, ValueError):
    """Labels that cannot be turned into polygons as asked."""


class ClusterError(GeohpError, RuntimeError):
    """Workers that cannot be reached, or cannot do the work together."""
