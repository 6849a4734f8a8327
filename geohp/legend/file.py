"""Legends: which labels of a map make up a class, how it is called and how it is coloured; as YAML.

In full::

    classes:
      - {id: 0, name: water, colour: "#0077bb", labels: [0, 3]}
      - {id: 1, name: forest, colour: "#117733", labels: [2]}

``labels`` may be left out where a class has the one label of its own number, ``colour`` where the one will do that the
map has for the first of its labels, or the palette where it has none.
Colours need their quotes: what follows a bare ``#`` is a comment in YAML.

In short, as written by hand, a name for each label; labels of one name make up one class, and classes are numbered in
the order in which their names first appear::

    {0: water, 3: water, 2: forest}

Labels are a model's own: what one calls 0 another calls 4. A legend that was made for the maps of a model says which,
``model: DIGEST`` before the classes, and is refused for those of another; one without is taken at its word.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from numbers import Integral
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import Field, ValidationError

from geohp.classes import NODATA_LABEL, LandCoverClass, default_classes, is_colour, one_spelling, unprintable
from geohp.config.documents import DocumentError, read_yaml, write_yaml
from geohp.config.loading import nearest
from geohp.config.strict import Strict
from geohp.errors import ConfigError
from geohp.files.atomic import write_text
from geohp.files.checks import check_output
from geohp.files.reading import read_text

logger = logging.getLogger(__name__)

_LARGEST_ID = NODATA_LABEL - 1


@dataclass(frozen=True)
class Legend:
    """Names for the labels of a map.

    Attributes:
        classes: by number; every one has a label. An empty colour means that the map's will do, see
            :meth:`all_classes`.
        labels: the number of its class for every label that has a name.
        name: the legend in messages.
        model_sha256: of the model whose labels these are, see :func:`geohp.model.digest.model_sha256`; ``None`` where
            nobody says.

    Raises:
        ConfigError: two classes of one number or name, a number outside 0..254, a name that is empty or has control
            characters, a colour that is not ``#rrggbb``, a class without labels, a label of a class that there is not,
            a digest that is none.
    """

    classes: tuple[LandCoverClass, ...]
    labels: Mapping[int, int]
    name: str = field(default="the legend", compare=False)
    model_sha256: str | None = None

    def __post_init__(self) -> None:
        classes = (replace(entry, name=one_spelling(entry.name)) for entry in self.classes)
        object.__setattr__(self, "classes", tuple(sorted(classes, key=lambda entry: entry.id)))
        labels = {int(label): int(number) for label, number in self.labels.items()}  # numpy's are no numbers to YAML
        object.__setattr__(self, "labels", dict(sorted(labels.items())))
        for problem, remedy in self._mistakes():
            raise ConfigError(f"{self.name}: {problem}", remedy)

    def _mistakes(self) -> Iterator[tuple[str, str]]:
        """What is wrong with it, and what helps."""
        if self.model_sha256 is not None and not re.fullmatch("[0-9a-f]{64}", self.model_sha256):
            problem = f"its model is {_shown(self.model_sha256)}, no SHA-256 of 64 figures in quotes"
            yield problem, "copy it from the map's tag GEOHP_MODEL_SHA256, or leave it out"
        names, ids = dict[str, int](), set[int]()
        for entry in self.classes:
            described = f"class {entry.id} ({entry.name})"
            if not 0 <= entry.id <= _LARGEST_ID:
                yield f"{described} has a number outside 0 to {_LARGEST_ID}", "choose another"
            if entry.id in ids:
                yield f"two classes have the number {entry.id}", "give each its own"
            if not entry.name.strip():
                yield f"class {entry.id} has an empty name", "give it one"
            if unprintable(entry.name):
                yield f"class {entry.id} has a line break or control character in its name", "take it out"
            if entry.name in names:
                both = f"classes {names[entry.name]} and {entry.id}"
                yield f"{both} are both named {entry.name!r}", "list the labels of both in one of them"
            if entry.colour and not is_colour(entry.colour):
                yield f"{described} has the colour {entry.colour!r}", "write it as #rrggbb, in quotes"
            if entry.id not in self.labels.values():
                yield f"{described} has no labels", "list one, or leave the class out"
            ids.add(entry.id)
            names[entry.name] = entry.id
        for label, number in self.labels.items():
            if number not in ids:
                yield f"label {label} belongs to class {number}, which there is not", "add that class"

    @classmethod
    def of(cls, source: LegendSource) -> Legend:
        """The legend itself, the one that a mapping spells out as a file would, or the one in a file.

        Raises:
            ConfigError: see :meth:`read`.
        """
        if isinstance(source, Mapping):
            return cls._parsed(dict(source), "the legend")
        return source if isinstance(source, Legend) else cls.read(source)

    @classmethod
    def named(cls, names: Mapping[int, str], name: str = "the legend") -> Legend:
        """A legend from a name for each label; the short form of the file.

        Raises:
            ConfigError: see the class.
        """
        names = {label: one_spelling(text) for label, text in names.items()}
        ids = {text: number for number, text in enumerate(dict.fromkeys(names.values()))}
        classes = tuple(LandCoverClass(number, text, "") for text, number in ids.items())
        return cls(classes, {label: ids[text] for label, text in names.items()}, name)

    @classmethod
    def read(cls, path: str | Path) -> Legend:
        """Read a legend file; see the module for what it looks like.

        Raises:
            ConfigError: it cannot be read, is no YAML or no legend; the sentence says where and what would be right.
        """
        path = Path(path)
        try:
            document = read_yaml(read_text(path))
        except DocumentError as error:
            remedy = "" if "twice" in error.problem else "colours, and names with special characters, need quotes"
            raise ConfigError(f"{path}: not a valid legend{error.place}: {error.problem}", remedy) from error
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "not UTF-8 text"
            raise ConfigError(f"{path}: cannot be read ({why})", "give a legend as a YAML file in UTF-8") from error
        return cls._parsed(document, str(path))

    def write(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the legend in full, whole or not at all; :meth:`read` gives it back.

        Args:
            path: the file; its folder must exist.
            overwrite: replace an existing file.

        Raises:
            OutputError: it exists already, or cannot be written.
        """
        path = check_output(path, overwrite=overwrite)
        lines = [] if self.model_sha256 is None else [write_yaml({"model": self.model_sha256}, width=2**31).strip()]
        lines.append("classes:")
        for entry in self.classes:
            labels = [label for label, number in self.labels.items() if number == entry.id]
            colour = {"colour": entry.colour} if entry.colour else {}
            document = {"id": entry.id, "name": entry.name, **colour, "labels": labels}
            flow = write_yaml(document, default_flow_style=True, width=2**31)
            lines.append(f"  - {flow.strip()}")
        return write_text(path, "\n".join(lines) + "\n")

    def check(self, declared: Iterable[int], name: str) -> None:
        """Refuse a map that does not have a label that the legend names.

        Args:
            declared: all labels of the map.
            name: the map in messages.

        Raises:
            ConfigError: with the labels that it has.
        """
        known = sorted(set(declared))
        missing = [label for label in self.labels if label not in known]
        if missing:
            more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            problem = f"{self.name} names label {missing[0]}{more}, but {name} has labels {spell_out(known)}"
            raise ConfigError(problem, "remove it from the legend, or take the legend made for this map")

    def check_model(self, model_sha256: str | None, name: str) -> None:
        """Refuse a map or a model whose labels are those of another model than the legend's.

        Args:
            model_sha256: of the map or the model; ``None`` where a map does not say, which is taken as it is.
            name: the map or the model in messages.

        Raises:
            ConfigError: with the remedy.
        """
        if self.model_sha256 in (None, model_sha256):
            return
        if model_sha256 is None:
            logger.warning("%s does not say which model made it: %s may be about other labels", name, self.name)
            return
        raise ConfigError(
            f"{self.name} names the labels of another model ({self.model_sha256[:12]}...) than that of {name} "
            f"({model_sha256[:12]}...)",
            "make a legend for this one (geohp legend), or take the line 'model' out if its labels mean the same",
        )

    def lookup(self, known: Sequence[LandCoverClass] | None = None) -> dict[int, int]:
        """What every label becomes.

        Labels with a name become their class's number, also those that the map calls like a class. All others keep
        their own, unless a class of the legend has it or it is none of 0..254: these get, from the smallest label on,
        the smallest number that is free. Labels that the map declares come before those that it might have.

        Args:
            known: classes that the map declares; ``None`` where it declares none.

        Returns:
            class numbers for the labels of the legend, those known, and 0..254; a label is absent where no number is
            left for it.
        """
        ids, taken = {entry.name: entry.id for entry in self.classes}, {entry.id for entry in self.classes}
        namesakes = {entry.id: ids[name] for entry in known or () if (name := one_spelling(entry.name)) in ids}
        numbers = namesakes | dict(self.labels)
        for labels in (sorted({entry.id for entry in known or ()}), range(_LARGEST_ID + 1)):
            unnamed = [label for label in labels if label not in numbers]
            keep = {label: label for label in unnamed if 0 <= label <= _LARGEST_ID and label not in taken}
            taken.update(keep)
            free = (number for number in range(_LARGEST_ID + 1) if number not in taken)
            moved = dict(zip((label for label in unnamed if label not in keep), free, strict=False))
            taken.update(moved.values())
            numbers |= keep | moved
        return numbers

    def all_classes(
        self, known: Sequence[LandCoverClass], others: Sequence[LandCoverClass] = ()
    ) -> tuple[LandCoverClass, ...]:
        """The classes of a map to which the legend was applied, by number, all with a colour.

        A class without one gets that of the first of its labels whose colour is free, else the palette's.

        Args:
            known: classes that the map declares. Labels without a name keep what they are called, under the number
                that :meth:`lookup` gives them, and their colour unless a class of the legend has it.
            others: classes that the map has without declaring them.
        """
        lookup, classes = self.lookup(known), list(self._coloured(known))
        used, ids = {entry.colour.lower() for entry in classes}, {entry.id for entry in classes}
        for entry in sorted((*known, *others), key=lambda entry: entry.id):
            if lookup.get(entry.id, -1) not in {*ids, -1}:
                colour = _free_colour(entry.colour, used)
                used.add(colour)
                classes.append(LandCoverClass(lookup[entry.id], entry.name, colour))
        return tuple(sorted(classes, key=lambda entry: entry.id))

    def _coloured(self, known: Sequence[LandCoverClass]) -> tuple[LandCoverClass, ...]:
        """The legend's classes, those without a colour in that of the map."""
        shown = {entry.id: entry.colour for entry in known}
        used = {entry.colour.lower() for entry in self.classes}
        entries = []
        for entry in self.classes:
            labels = (label for label, number in self.labels.items() if number == entry.id)
            free = (shown[label] for label in labels if label in shown and shown[label].lower() not in used)
            colour = entry.colour or next(free, "")
            used.add(colour.lower())
            entries.append((entry.id, entry.name, colour))
        return coloured(entries)

    @classmethod
    def _parsed(cls, document: Any, name: str) -> Legend:
        if not isinstance(document, dict) or not document:
            raise ConfigError(f"{name}: names no classes", "write for example {0: water, 3: water, 2: forest}")
        if all(isinstance(key, Integral) and not isinstance(key, bool) for key in document):
            for label, text in document.items():
                if not isinstance(text, str):
                    raise ConfigError(f"{name}: label {label} is named {_shown(text)}", "write the name in quotes")
            return cls.named(document, name)
        try:
            parsed = _Document.model_validate(document)
        except ValidationError as error:
            raise ConfigError(f"{name}: " + "; ".join(_explain(error))) from None
        labels: dict[int, int] = {}
        for entry in parsed.classes:
            for label in [entry.id] if entry.labels is None else entry.labels:
                if label in labels:
                    raise ConfigError(f"{name}: label {label} is named twice", "leave it in one class only")
                labels[label] = entry.id
        classes = tuple(LandCoverClass(entry.id, entry.name, entry.colour) for entry in parsed.classes)
        return cls(classes, labels, name, parsed.model)


LegendSource: TypeAlias = Legend | Mapping[int, str] | str | Path
"""What says how classes are called: a legend, a name for each label, or a file."""


def spell_out(labels: Sequence[int]) -> str:
    """Ascending labels in words: "0 to 5", "0, 2 and 7", "none"."""
    if not labels:
        return "none"
    if len(labels) > 2 and labels[-1] - labels[0] == len(labels) - 1:
        return f"{labels[0]} to {labels[-1]}"
    shown = [str(label) for label in labels]
    if len(shown) > 12:
        shown = [*shown[:6], "...", *shown[-5:]]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def coloured(entries: Iterable[tuple[int, str, str | None]]) -> tuple[LandCoverClass, ...]:
    """Classes of (number, name, colour); those without a colour get their number's, or else the first free one."""
    entries = list(entries)
    palette = default_classes(NODATA_LABEL)
    used = {colour.lower() for _, _, colour in entries if colour}
    classes = []
    for number, name, colour in entries:
        if not colour:
            colour = _free_colour(palette[number].colour if 0 <= number < len(palette) else "#000000", used)
            used.add(colour)
        classes.append(LandCoverClass(number, name, colour))
    return tuple(classes)


class _Entry(Strict):
    """A class in a file."""

    id: int
    name: str
    colour: str = ""
    labels: list[int] | None = Field(default=None, min_length=1)


class _Document(Strict):
    """A file in full."""

    model: str | None = None
    classes: list[_Entry] = Field(min_length=1)


@cache
def _palette() -> tuple[str, ...]:
    return tuple(entry.colour for entry in default_classes(2 * NODATA_LABEL))


def _free_colour(preferred: str, used: set[str]) -> str:
    """The colour preferred, or the first of the palette that is not used."""
    candidates = (preferred, *_palette())
    return next((colour for colour in candidates if colour.lower() not in used), preferred)


def _explain(error: ValidationError) -> Iterator[str]:
    """One clause for each problem."""
    for item in error.errors():
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in item["loc"]).lstrip(".")
        match item["type"]:
            case "extra_forbidden":
                known = _Entry.model_fields if len(item["loc"]) > 1 else _Document.model_fields
                yield f"unknown key {where!r}{nearest(str(item['loc'][-1]), known)}"
            case "missing":
                yield f"key {where!r} is missing"
            case "string_type":
                yield f"{where} is {_shown(item['input'])}, but must be a text: put it into quotes"
            case "model_type" | "model_attributes_type":
                yield f"{where} is {_shown(item['input'])}, but must be a class such as {{id: 0, name: water}}"
            case "too_short":
                yield f"{where} is empty: list at least one"
            case _:
                message = item["msg"][0].lower() + item["msg"][1:]
                yield f"{where} is {_shown(item['input'])}: {message.replace('input should', 'it should')}"


def _shown(value: Any) -> str:
    return "empty" if value is None else json.dumps(value, default=str, ensure_ascii=False)[:80]
