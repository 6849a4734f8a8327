"""Configuration files: found by name, read from YAML, changed by ``key.path=value``, and errors that name the key.

Configurations that ship with geohp are found by their bare name from any folder; a path to one's own file wins.
"""

from __future__ import annotations

import copy
import difflib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import BaseModel, ValidationError

from geohp.config.documents import DocumentError, read_yaml, write_yaml
from geohp.config.experiment import VARIANTS, Config
from geohp.credentials import without_credentials
from geohp.errors import ConfigError
from geohp.files.reading import failure_reason

logger = logging.getLogger(__name__)

_SHOWN = 80
"""Characters of a value, or of a key, in messages."""
_PROBLEMS = 10
"""That a message names of many."""


def load_config(source: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration file and apply ``key.path=value`` overrides.

    Args:
        source: a path, or the bare name of a packaged configuration ("potsdam3.yaml", "potsdam3").
        overrides: such as ``train.epochs=3``; the value is read as YAML.

    Raises:
        ConfigError: when the file is missing or not YAML, or a key or value cannot be used.
    """
    path = find_config(source)
    document = read_document(read_text(path), str(path))
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: holds no keys", "start from a packaged configuration such as orthophotos.yaml")
    return parse_config(with_overrides(document, overrides), str(path))


def with_overrides(document: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of a nested mapping with ``key.path=value`` set.

    Settings of a method belong to it: where ``method.name`` is overridden, those of the former one are left out, also
    where they have the same name; what an override says of the new one stays.
    """
    changed = copy.deepcopy(dict(document))
    _drop_settings_of_other_methods(changed, overrides)
    for override in overrides:
        _apply(changed, override)
    return changed


def parse_config(document: Mapping[str, Any], where: str = "configuration") -> Config:
    """Validate a nested mapping; ``where`` names its source in errors.

    Raises:
        ConfigError: naming every key that is unknown or whose value cannot be used.
    """
    try:
        return Config.model_validate(document)
    except ValidationError as error:
        raise ConfigError(f"{where}: " + "; ".join(_explain(error, document))) from None


def read_document(text: str, where: str) -> Any:
    """What a configuration in YAML says, unchecked; ``where`` names its source in errors.

    Raises:
        ConfigError: it is no YAML.
    """
    try:
        return read_yaml(text)
    except DocumentError as error:
        raise ConfigError(f"{where}: not valid YAML{error.place}: {error.problem}") from error


def dump_config(config: Config) -> str:
    """The configuration, defaults included, as YAML that :func:`load_config` reads back.

    Addresses stand there with all that gives access to them: for a file that nobody else may read.
    """
    return write_yaml(config.model_dump(mode="json"))


def public_config(config: Config) -> dict[str, Any]:
    """The configuration in JSON's types as it may be passed on: without what gives access to addresses."""
    return dict(_public(config.model_dump(mode="json")))


def _public(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _public(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_public(inner) for inner in value]
    return without_credentials(value) if isinstance(value, str) else value


def packaged_configs() -> dict[str, Path]:
    """The configurations that ship with geohp, by file name."""
    package = Path(__file__).resolve().parents[1]
    # Inside the package when installed from a wheel, beside it in a source checkout.
    for folder in (package / "configs", package.parent / "configs"):
        if folder.is_dir():
            return {p.name: p for p in sorted(folder.glob("*.yaml"))}
    return {}


def find_config(source: str | Path) -> Path:
    """The file that ``source`` means: an existing path first, then a packaged configuration of that name.

    Raises:
        ConfigError: when there is neither, naming the packaged ones.
    """
    path = Path(source)
    if path.is_file():
        return path
    packaged = packaged_configs()
    if path.parent == Path():
        for name in (path.name, f"{path.name}.yaml"):
            if name in packaged:
                return packaged[name]
    if path.is_dir():
        raise ConfigError(
            f"{path}: is a folder",
            "give a YAML file, and the folder as {option}",
            option="overrides",
            value=f"data.images={path}",
        )
    raise ConfigError(
        f"{path}: no such configuration file", f"packaged ones are {', '.join(packaged)}{nearest(path.name, packaged)}"
    )


def _apply(document: dict[str, Any], override: str) -> None:
    """Set one ``key.path=value`` in the nested document."""
    key, equals, text = override.partition("=")
    keys = key.strip().split(".")
    if not equals or not all(keys):
        raise _override_error(override, "write it as key=value, for example train.epochs=3")
    try:
        value = read_yaml(text)
    except DocumentError as error:
        raise _override_error(override, f"{text[:_SHOWN]!r} is not a YAML value") from error
    node = document
    for part in keys[:-1]:
        child = node.setdefault(part, {})
        if not isinstance(child, dict):
            raise _override_error(override, f"{part!r} holds a value, not further keys")
        node = child
    node[keys[-1]] = value


def read_text(path: Path) -> str:
    """The text of a configuration file.

    Raises:
        ConfigError: it cannot be read, or is no text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({failure_reason(error)})", "give a YAML file in UTF-8") from error


def _override_error(override: str, problem: str) -> ConfigError:
    return ConfigError(f"{{option}}: {problem}", option="overrides", value=shorten(override))


def _drop_settings_of_other_methods(document: dict[str, Any], overrides: Sequence[str]) -> None:
    """Leave out of the document's method section what the method that is asked for does not mean.

    What no method knows stays, to be refused.
    """
    key, usual, methods = VARIANTS["method"]
    section = document.get("method")
    if not isinstance(section, dict):
        return
    written = section.get(key, usual)
    named = [text.strip() for path, _, text in (each.partition("=") for each in overrides) if path == f"method.{key}"]
    method = named[-1] if named else written
    if not isinstance(method, str) or method not in methods:
        return
    own = {field.name for field in fields(methods[method])} if method == written else {key}
    known = {field.name for settings in methods.values() for field in fields(settings)}
    dropped = [name for name in section if name in known - own]
    for name in dropped:
        del section[name]
    if dropped:
        logger.info("method %s: left out %s, set for another method", method, ", ".join(f"method.{n}" for n in dropped))


def _explain(error: ValidationError, document: Mapping[str, Any]) -> Iterable[str]:
    """One clause for each problem, in the words of the configuration."""
    problems = error.errors()
    for item in problems[:_PROBLEMS]:
        # pydantic puts the chosen variant of a section (hp, kmeans) and the types it tried into the location.
        keys = [str(part) for part in item["loc"]]
        shown = ".".join(k for i, k in enumerate(keys) if not (i == 1 and keys[0] in VARIANTS))
        shown, value = shorten(shown), shown_value(item["input"])
        match item["type"]:
            case "extra_forbidden" | "unexpected_keyword_argument":
                yield f"unknown key {shown!r}{_elsewhere(keys, document) or nearest(keys[-1], _keys_at(keys[:-1]))}"
            case "missing":
                yield f"key {shown!r} is missing"
            case "union_tag_invalid" | "union_tag_not_found":
                key, _, variants = VARIANTS[keys[0]]
                yield f"{shown}.{key} must be one of {', '.join(variants)}"
            case "value_error":
                yield f"{shown}: {item['ctx']['error']}"
            case _:
                message = item["msg"][0].lower() + item["msg"][1:]
                yield f"{shown} = {value}: {message.replace('input should', 'it should')}"
    if len(problems) > _PROBLEMS:
        yield f"and {len(problems) - _PROBLEMS:,} more"


def _elsewhere(keys: Sequence[str], document: Mapping[str, Any]) -> str:
    """The clause that says which other variants of a section have a key, or what it is a misspelling of.

    Args:
        keys: of its place, the second being the variant that was taken.
        document: in which it stands.
    """
    if len(keys) != 3 or keys[0] not in VARIANTS:
        return ""
    (section, taken, word), (key, _, variants) = keys, VARIANTS[keys[0]]
    known = {name: set(_fields(kind)) for name, kind in variants.items()}
    likely = difflib.get_close_matches(word[:_SHOWN], sorted(set().union(*known.values())), n=1)
    owners = [name for name, names in known.items() if not names.isdisjoint(likely)]
    if not owners or taken in owners:
        return ""
    meant = f": {taken} has none, it belongs to" if word in likely else f", did you mean {likely[0]!r} of"
    choices = [f"{section}.{key}={name}{_packaged_with(section, name, document)}" for name in owners]
    return f"{meant} {' or '.join(choices)}"


def _packaged_with(section: str, variant: str, document: Mapping[str, Any]) -> str:
    """The packaged configuration that differs from a document in the variant of one section alone, in brackets."""
    wanted = {**_variants_of(document), section: variant}
    for name, path in packaged_configs().items():
        if _variants_of(read_yaml(path.read_text(encoding="utf-8"))) == wanted:
            return f" (as in {name})"
    return ""


def _variants_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """Which variant of each section a document takes."""
    taken = {}
    for name, (key, usual, _) in VARIANTS.items():
        section = document.get(name)
        taken[name] = section.get(key, usual) if isinstance(section, dict) else usual
    return taken


def shown_value(value: Any) -> str:
    """A value of a document in messages, as JSON."""
    if isinstance(value, dict):
        return "a mapping"
    text = ""
    for part in json.JSONEncoder(default=str, skipkeys=True, ensure_ascii=False).iterencode(value):
        text += part
        if len(text) > _SHOWN:  # what aliases stand for may be much
            break
    return shorten(text)


def shorten(text: str) -> str:
    """A text of a document in messages, cut where it is long."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _keys_at(path: Sequence[str]) -> Iterable[str]:
    """The keys that are known at this place of a configuration."""
    known = _fields(Config)
    for depth, key in enumerate(path):
        known = VARIANTS[key][2] if depth == 0 and key in VARIANTS else _fields(known.get(key))
    return known


def _fields(kind: Any) -> Mapping[str, Any]:
    """Fields of a section with their types; none where there is a value, or no such section."""
    if is_dataclass(kind):
        types = get_type_hints(kind)  # constants of the class among them, which nobody can set
        return {field.name: types[field.name] for field in fields(kind)}
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {name: field.annotation for name, field in kind.model_fields.items()}
    return {}


def nearest(word: str, known: Iterable[str]) -> str:
    """The clause "did you mean ...?" where a known word is close, else lists the known ones where they are few."""
    word, known = word[:_SHOWN], list(known)
    matches = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if matches:
        return f", did you mean {matches[0]!r}?"
    return f" (known here: {', '.join(known)})" if known and len(known) <= 20 else ""
