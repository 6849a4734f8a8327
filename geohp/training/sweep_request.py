"""Which numbers of classes somebody asks to compare; read before anything is trained, or torch imported."""

from __future__ import annotations

import re
from collections.abc import Sequence

from geohp.config.experiment import ClassesConfig
from geohp.errors import ConfigError

_EXAMPLE = "write it as classes=3..12, classes=4..16..4 or classes=3,5,8"


def parse_sweep(text: str) -> tuple[int, ...]:
    """The numbers of classes that ``classes=3..12``, ``classes=4..16..4`` or ``classes=3,5,8`` ask for, ascending.

    Raises:
        ConfigError: when the text is of another form, or a number is not in 2 to 254.
    """
    key, equals, values = (part.strip() for part in text.partition("="))
    if not equals:
        key, values = "classes", key
    if key not in ("classes", "classes.count"):
        raise _sweep_error(text, "only the number of classes can be swept", _EXAMPLE)
    counts: set[int] = set()
    for part in values.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:\.\.(\d+))?(?:\.\.(\d+))?\s*", part)
        if match is None:
            raise _sweep_error(text, f"{part.strip()!r} is no number and no range", _EXAMPLE)
        first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
        if step == 0 or last < first:
            raise _sweep_error(text, f"{part.strip()!r} holds no number", _EXAMPLE)
        counts.update(range(first, last + 1, step))
    impossible = sorted(count for count in counts if not 2 <= count <= 254)
    if impossible:
        raise _sweep_error(text, f"{impossible[0]} classes", "there can be 2 to 254")
    return tuple(sorted(counts))


def _sweep_error(text: str, problem: str, remedy: str) -> ConfigError:
    return ConfigError(f"{{option}}: {problem}", remedy, option="sweep", value=text)


def count_is_given(classes: ClassesConfig, overrides: Sequence[str] = ()) -> bool:
    """Whether the user has said how many classes there are, so that a sweep is to inform and not to decide.

    By ``--set classes.count=N``, or by naming or colouring the classes; the number in a configuration file alone is
    most often just the one that came with it.
    """
    overridden = any(override.partition("=")[0].strip() == "classes.count" for override in overrides)
    return overridden or classes.names is not None or classes.colours is not None
