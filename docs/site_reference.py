"""Pages of the site that are written by the code: every configuration key, every command, every public name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from html import escape
from typing import Any

import typer

import geohp
from geohp.cli.app import app
from geohp.cli.examples import EXAMPLES
from geohp.cli.report import SHARED_PANEL
from geohp.config.experiment import VARIANTS
from geohp.config.reference import config_schema, key_meaning, resolve_key, value_text, without_roles

Schema = Mapping[str, Any]

ROOMS = {
    "inference": "Maps",
    "vector": "Polygons",
    "legend": "Legends",
    "viewer": "Looking at maps",
    "training": "Training",
    "evaluation": "Evaluation",
    "model": "Models",
    "config": "Configuration",
    "raster": "Rasters",
}
"""Headings of the public names by their rooms, in the order of the page; other rooms follow under their own names."""

FURTHER = (
    "geohp.inference.map_options.ModelOptions",
    "geohp.inference.map_options.RasterOptions",
    "geohp.inference.map_options.MapOptions",
    "geohp.inference.products.Products",
    "geohp.options.FitOptions",
    "geohp.options.WindowOptions",
    "geohp.options.PolygonOptions",
    "geohp.inference.map_scene.SceneResult",
    "geohp.inference.batch.BatchResult",
    "geohp.inference.areas.ClassArea",
    "geohp.training.run.Run",
    "geohp.classes.LandCoverClass",
    "geohp.errors.GeohpError",
    "geohp.progress.Progress",
    "geohp.viewer.view.ViewOptions",
    "geohp.viewer.view.ViewPage",
)
"""What arguments and results of the public functions are."""


def configuration_page() -> str:
    """Every key of a configuration with its default and meaning, in Markdown."""
    schema = config_schema()
    lines = [
        "# Configuration keys",
        "",
        "Written from the classes that check configurations, as `geohp config` prints them. "
        "On the command line: `--set train.epochs=3`.",
    ]
    for name, key in schema["properties"].items():
        if name in VARIANTS:
            lines += _variants(name, schema)
        elif "properties" in (section := resolve_key(key, schema)):
            lines += ["", f"## `{name}`", "", _text(section.get("description", "")), ""]
            lines += _keys(name, section, schema)
        else:
            lines += ["", f"## `{name}`", "", *_key(name, key)]
    return "\n".join(lines) + "\n"


def _variants(section: str, schema: Schema) -> Iterator[str]:
    """A section that comes in several kinds, the usual one first."""
    key, usual, _ = VARIANTS[section]
    mapping: Mapping[str, str] = schema["properties"][section]["discriminator"]["mapping"]
    for name in sorted(mapping, key=lambda name: name != usual):
        variant = resolve_key({"$ref": mapping[name]}, schema)
        default = " (default)" if name == usual else ""
        yield from ["", f"## `{section}`, `{key}: {name}`{default}", "", _text(variant["description"]), ""]
        yield from _keys(section, variant, schema, anchors=f"{section}.{name}")


def _keys(path: str, section: Schema, schema: Schema, anchors: str | None = None) -> Iterator[str]:
    """The keys of a section, those of sections within it too."""
    for name, key in section["properties"].items():
        inner = resolve_key(key, schema)
        anchor = f"{anchors or path}.{name}"
        if "properties" in inner:
            yield from _keys(f"{path}.{name}", inner, schema, anchor)
        else:
            yield from _key(f"{path}.{name}", key, anchor)


def _key(path: str, key: Schema, anchor: str | None = None) -> Iterator[str]:
    """A key as the term of a definition list."""
    value = key.get("const", key.get("default"))
    open_value = not {"const", "default"} & key.keys()
    default = "" if open_value else f" = `{value_text(key, value)}`"
    yield f"[`{path}`](#{anchor or path}){{ #{anchor or path} }}{default}"
    yield f":   {_text(key_meaning(key)) or ('Says which kind it is.' if 'const' in key else '-')}"
    yield ""


def commands_page() -> str:
    """Every command with its options and examples, in Markdown."""
    group: Any = typer.main.get_command(app)
    context = group.make_context("geohp", [], resilient_parsing=True)
    lines = [
        "# Commands and options",
        "",
        "Written from the commands themselves, as `geohp COMMAND --help` shows them. What all commands share, "
        "`--json` and exit codes: [the command line](command-line.md).",
    ]
    for name in group.list_commands(context):
        lines += _command(name, group.get_command(context, name))
    return "\n".join(lines) + "\n"


def _command(name: str, command: Any) -> Iterator[str]:
    """A command: what it does, examples, and its parameters by the panels of its help."""
    context = command.make_context(f"geohp {name}", [], resilient_parsing=True)
    usage = " ".join([f"geohp {name}", *command.collect_usage_pieces(context)])
    yield from ["", f"## `geohp {name}`", "", _text(command.help or ""), ""]
    yield from ["```sh", *EXAMPLES.get(name, ()), "```", "", f"`{usage}`", ""]
    panels = defaultdict(list)
    for parameter in command.get_params(context):
        panel = getattr(parameter, "rich_help_panel", None) or ""
        if parameter.name != "help" and panel != SHARED_PANEL and (record := parameter.get_help_record(context)):
            panels[panel].append(record)
    for panel, records in panels.items():
        yield from [f"**{panel}**", ""] if panel else []
        for declaration, meaning in records:
            yield from [f"`{declaration.strip()}`", f":   {_text(meaning or '-')}", ""]


def api_page() -> str:
    """The public names, by mkdocstrings, in Markdown."""
    lines = [
        "# Python",
        "",
        "The public names, each imported when it is first used: `import geohp` takes no time. Options are keyword "
        "arguments of the functions; the classes below say what they mean.",
    ]
    by_room = defaultdict(list)
    for name in public_names():
        by_room[geohp._HOME[name].split(".")[1]].append(name)
    for room in [*ROOMS, *sorted(by_room.keys() - ROOMS)]:
        if room in by_room:
            lines += ["", f"## {ROOMS.get(room, room.capitalize())}"]
            lines += _directives(f"geohp.{name}" for name in by_room[room])
    lines += ["", "## Options and results", *_directives(FURTHER)]
    return "\n".join(lines) + "\n"


def _directives(names: Sequence[str] | Iterator[str]) -> Iterator[str]:
    for name in names:
        yield from ["", f"::: {name}"]


@cache
def public_names() -> tuple[str, ...]:
    """What ``geohp`` offers, but for its version."""
    return tuple(name for name in geohp.__all__ if name in geohp._HOME)


def documented() -> dict[str, str]:
    """Where the documented names live, to the identifier they are documented by."""
    homes = {f"{geohp._HOME[name]}.{name}": f"geohp.{name}" for name in public_names()}
    return homes | {identifier: identifier for identifier in [*homes.values(), *FURTHER]}


def _text(text: str) -> str:
    """A docstring's or a help text as Markdown that holds code, and no other mark."""
    parts = "\n\n".join(map(without_roles, text.split("\n\n"))).split("`")
    return "`".join(_escape(part) if index % 2 == 0 else part for index, part in enumerate(parts))


def _escape(text: str) -> str:
    for mark in ("\\", "*", "_", "[", "]"):
        text = text.replace(mark, f"\\{mark}")
    return escape(text, quote=False)
