"""All that a configuration may say: as a JSON schema, and as a YAML file with the meaning of every key."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from geohp.config.documents import write_yaml
from geohp.config.experiment import VARIANTS, Config
from geohp.version import __version__

_WIDTH = 110
_TO_FILL_IN: Mapping[str, Any] = {"images": ["my_tiles"], "root": "FOLDER", "dataset": "NAME"}
"""What stands for the value of a key that has no default."""

_LIMITS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}


def config_schema() -> dict[str, Any]:
    """The JSON schema of configurations, for editors: short forms such as ``images: folder`` included."""
    schema = Config.model_json_schema()
    for section in VARIANTS:  # some keys belong to several variants, which a section without a name does not tell apart
        variants = schema["properties"][section]
        variants["anyOf"] = variants.pop("oneOf")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def config_reference(**variants: str) -> str:
    """A configuration in YAML with every key, its default and its meaning; it loads as it is.

    Args:
        **variants: which one of a section (``data="potsdam"``) is written out; the default one where it is not named.
            The other ones follow as comments.
    """
    schema = config_schema()
    lines = [f"# Every key of a configuration of geohp {__version__}, with its default. Leave out what may stay."]
    for name, key in schema["properties"].items():
        lines.append("")
        if name in VARIANTS:
            lines += _variants(name, schema, variants.get(name))
        else:
            lines += _key(name, key, key.get("default"), schema)
    return "\n".join(lines) + "\n"


def _variants(section: str, schema: Mapping[str, Any], chosen: str | None) -> Iterator[str]:
    """A section in one of its variants, and in the others as comments."""
    key, usual, _ = VARIANTS[section]
    mapping: Mapping[str, str] = schema["properties"][section]["discriminator"]["mapping"]
    chosen = chosen or usual
    yield f"# One of several kinds, told apart by `{key}`: {', '.join(mapping)}."
    for name in sorted(mapping, key=lambda name: name != chosen):
        variant = resolve_key({"$ref": mapping[name]}, schema)
        lines = [*_comment(variant.get("description", "")), f"{section}:", *_keys(variant, {}, schema)]
        if name == chosen:
            yield from lines
        else:
            yield "#"
            yield from (f"# {line}" for line in lines)


def _keys(section: Mapping[str, Any], values: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[str]:
    """The keys of a section, indented."""
    for name, key in section["properties"].items():
        value = values.get(name, key.get("const", key.get("default", _TO_FILL_IN.get(name))))
        missing = name not in values and name not in _TO_FILL_IN and not {"const", "default"} & key.keys()
        lines = [*_comment(key_meaning(key)), f"# {name}:"] if missing else _key(name, key, value, schema)
        yield from (f"  {line}" for line in lines)


def _key(name: str, key: Mapping[str, Any], value: Any, schema: Mapping[str, Any]) -> Iterator[str]:
    """A key with its meaning; of a section, with all that is in it."""
    resolved = resolve_key(key, schema)
    yield from _comment(key_meaning({**resolved, **key}))
    if "properties" in resolved:
        yield f"{name}:"
        yield from _keys(resolved, value or {}, schema)
        return
    yield f"{name}: {value_text(key, value)}"


def value_text(key: Mapping[str, Any], value: Any) -> str:
    """The value of a key as YAML writes it in one line; ``auto`` where none means that."""
    if value is None and {"const": "auto"} in key.get("anyOf", ()):
        value = "auto"
    text = write_yaml(value, default_flow_style=True, width=1000)
    return text.removesuffix("\n").removesuffix("\n...")


def resolve_key(key: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """What a reference stands for; anything else as it is."""
    reference = key.get("$ref")
    return dict(key) if reference is None else dict(schema["$defs"][reference.rpartition("/")[2]])


def key_meaning(key: Mapping[str, Any]) -> str:
    """What a key means and which values it may have, in words."""
    about = key.get("description", "").strip()
    return " ".join(filter(None, [about if not about or about.endswith(".") else f"{about}.", _values(key)]))


def _values(key: Mapping[str, Any]) -> str:
    kinds = [key, *key.get("anyOf", ()), *([key["items"]] if isinstance(key.get("items"), dict) else [])]
    for kind in kinds:
        if "enum" in kind:
            return f"One of {', '.join(map(str, kind['enum']))}."
        if limits := [f"{words} {kind[limit]:.10g}" for limit, words in _LIMITS.items() if limit in kind]:
            return f"{', '.join(limits).capitalize()}."
    return ""


def without_roles(text: str) -> str:
    """A docstring's text in one line: names instead of Sphinx's roles, code between single backticks."""
    return " ".join(re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"\1", text).replace("``", "`").split())


def _comment(text: str) -> list[str]:
    """A text as lines of comment."""
    return [f"# {line}" for line in textwrap.wrap(without_roles(text), _WIDTH, break_long_words=False)]
