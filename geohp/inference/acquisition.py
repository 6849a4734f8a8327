"""When a scene was taken: as the caller says, or as its file does."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from geohp.errors import ConfigError

_WHOLE_DAY = "T23:59:59"


@dataclass(frozen=True)
class Acquisition:
    """A moment, or the time between two, both in UTC.

    Attributes:
        start: the moment, or the first.
        end: the last; ``None`` for a moment.
    """

    start: datetime
    end: datetime | None = None

    @classmethod
    def parse(cls, text: str) -> Acquisition:
        """Read a moment or ``FIRST/LAST``, as ISO 8601 writes them; UTC where no zone is named, days to their end.

        Raises:
            ConfigError: it is neither.
        """
        first, slash, last = text.partition("/")
        start = parse_moment(first)
        end = parse_moment(last + _WHOLE_DAY if re.fullmatch(r"\s*\d{4}-\d\d-\d\d\s*", last) else last)
        if start is None or (slash and end is None) or (end is not None and end < start):
            problem = f"{{option}}: {text!r} is no time that a scene could have been taken at"
            raise ConfigError(
                problem, "write 2024-07-31, 2024-07-31T10:20:30Z or 2024-07-01/2024-07-31", option="datetime"
            )
        return cls(start, end)


def parse_moment(text: str) -> datetime | None:
    """A moment in UTC as TIFF and EXIF write it (2024:07:31 12:00:00), or as ISO 8601 does; ``None`` if it is none."""
    text = re.sub(r"^(\d{4}):(\d\d):(\d\d)", r"\1-\2-\3", text.strip())
    try:
        taken = datetime.fromisoformat(text)
    except ValueError:
        return None
    try:
        return taken.replace(tzinfo=UTC) if taken.tzinfo is None else taken.astimezone(UTC)
    except OverflowError:
        return None
