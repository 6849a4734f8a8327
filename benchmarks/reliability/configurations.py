"""Configurations that are none: hostile YAML, every key with every wrong value, overrides of all kinds.

Each is given to ``geohp train`` with images that are not there, which has to be refused in a sentence, and read alone:
what is accepted has to come out of ``dump_config`` the same.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.reliability.isolation import Limits, run_command, run_function
from benchmarks.reliability.models import wrong_map
from benchmarks.reliability.part import Case, Outcome, Part, case_of_kinds
from benchmarks.reliability.specimens import BESIDE, TINY, specimens
from benchmarks.reliability.verdicts import judge, usual_figures
from geohp.cli.app import main
from geohp.config.loading import dump_config, load_config, parse_config, read_document
from geohp.config.reference import config_reference, config_schema, resolve_key
from geohp.errors import GeohpError

_LIMITS = Limits(seconds=600, memory_mb=512, environment={"GEOHP_TEST_NAME": "from the environment"})
_BASE = "name: probe\ndata: {images: [missing.tif]}\nbackbone: {name: rcf}\nmethod: {name: hp}\n"
_AUTO = _BASE.replace("{images", "{patch_px: auto, images")

SMALL = (
    "data.patches=6", "data.patch_px=32", "classes.count=3", "train.max_steps=2", "train.batch_size=2",
    "train.cache=memory",
)  # fmt: skip
"""Settings of a training of two steps."""

_LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(12)
)
_MERGES = "a: &a {k0: 1, k1: 1, k2: 1}\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} {{<<: [{','.join(['*' + chr(97 + i)] * 9)}], j{i}: 1}}\n" for i in range(12)
)

DOCUMENTS: Mapping[str, str | bytes] = {
    "billion laughs": _LAUGHS + "data: {images: *m}\n",
    "billion laughs as a key": _LAUGHS + "? *m\n: 1\n",
    "billion laughs in options": _LAUGHS + _BASE.replace("{name: rcf}", "{name: rcf, options: {filters: *m}}"),
    "billion merges": _MERGES + "data: *m\n",
    "an alias of itself": "data: &a {images: [x], more: *a}\n",
    "a list of itself": "data: {images: &a [*a]}\n",
    "a mapping merged with itself": "data: &a {images: [x], <<: *a}\n",
    "quadratic aliases": "x: &x " + "y" * 10_000 + "\nz: [" + "*x," * 20_000 + "]\n",
    "depth 10,000 of lists": "data: " + "[" * 10_000 + "]" * 10_000,
    "depth 10,000 of mappings": "data: " + "{a: " * 10_000 + "1" + "}" * 10_000,
    "depth 10,000 of blocks": "\n".join(" " * i + f"k{i}:" for i in range(3_000)),
    "depth 10,000 left open": "data: " + "[" * 10_000,
    "depth 600 of lists": "data: {images: " + "[" * 600 + "]" * 600 + "}",
    "10 MB of keys": "".join(f"key_{i}: {i}\n" for i in range(600_000)),
    "10 MB of a key": f"? {'k' * 10_000_000}\n: 1\n",
    "10 MB of a value": f"name: {'k' * 10_000_000}\n",
    "10 MB of a comment": "#" * 10_000_000 + "\n" + _BASE,
    "10 MB of blanks": " " * 10_000_000,
    "10 MB of documents": "---\n" * 2_500_000,
    "10 MB of quotes": '"' * 10_000_000,
    "1 MB of anchors": "".join(f"k{i}: &a{i} 1\n" for i in range(60_000)),
    "900 kB of keys": "".join(f"key_{i}: {i}\n" for i in range(60_000)),
    "duplicate keys": _BASE + "train: {epochs: 1}\ntrain: {epochs: 2}\n",
    "duplicate nested keys": _BASE + "train: {epochs: 1, epochs: 2}\n",
    "duplicate keys of two types": _BASE + "1: x\n1.0: y\ntrue: z\n",
    "python object": "name: !!python/object/apply:os.system ['touch marker']\n",
    "python name": "name: !!python/name:os.system\n",
    "python module": "name: !!python/module:os\n",
    "python new": "name: !!python/object/new:subprocess.Popen [[touch, marker]]\n",
    "python tuple": _BASE + "train: !!python/tuple [1]\n",
    "own tag": _BASE + "train: !mine {epochs: 1}\n",
    "a tag that is a path": "!<tag:../../etc/passwd,2000:x> {a: 1}\n",
    "binary": _BASE.replace("probe", "!!binary aGVsbG8="),
    "broken binary": _BASE.replace("probe", "!!binary '%%%'"),
    "set": _BASE + "train: !!set {epochs, seed}\n",
    "ordered map": _BASE + "train: !!omap [epochs: 1]\n",
    "pairs": _BASE + "train: !!pairs [epochs: 1, epochs: 2]\n",
    "int of a list": _BASE + "train: {epochs: !!int [1]}\n",
    "int of a text": _BASE + "train: {epochs: !!int many}\n",
    "float of a text": _BASE + "train: {checkpoint_minutes: !!float x}\n",
    "bool of a text": _BASE + "train: {deterministic: !!bool perhaps}\n",
    "timestamp of a text": _BASE + "train: {epochs: !!timestamp x}\n",
    "null of a text": _BASE + "train: !!null x\n",
    "date": _BASE + "train: {epochs: 2024-01-31}\n",
    "date that there is not": _BASE + "train: {epochs: 2024-99-99}\n",
    "time that there is not": _BASE + "train: {epochs: 2024-01-01 99:99:99}\n",
    "date as a key": _BASE + "2024-01-31: 1\n",
    "year 0": _BASE + "train: {epochs: 0000-01-01}\n",
    "zone that there is not": _BASE + "train: {epochs: 2001-12-14t21:59:43.10-99:30}\n",
    "sexagesimal": _BASE + "train: {epochs: 190:20:30}\n",
    "octal": _BASE + "train: {epochs: 0777}\n",
    "hexadecimal": _BASE + "train: {epochs: 0xFFFFFFFFFFFFFFFFFFFFFFFF}\n",
    "binary number": _BASE + "train: {epochs: 0b101}\n",
    "5,000 figures": _BASE + f"train: {{epochs: {'9' * 5_000}}}\n",
    "100,000 figures": _BASE + f"train: {{seed: {'9' * 100_000}}}\n",
    "100,000 underscores": _BASE + f"train: {{seed: 1{'_' * 100_000}}}\n",
    "100,000 figures of a float": _BASE + f"train: {{checkpoint_minutes: 1.{'9' * 100_000}e5}}\n",
    "exponents": _BASE + "train: {checkpoint_minutes: 1e400}\n",
    "NaN": _BASE + "train: {checkpoint_minutes: .nan}\n",
    "NaN as a key": _BASE + ".nan: 1\n.nan: 2\n",
    "infinity": _BASE + "train: {checkpoint_minutes: .inf}\n",
    "null as a key": _BASE + "~: 1\n",
    "a list as a key": _BASE + "? [a, b]\n: 1\n",
    "a mapping as a key": _BASE + "? {a: b}\n: 1\n",
    "an empty key": _BASE + "'': 1\n",
    "a number as a section": "data: 1\n",
    "a list as a section": "data: [1]\n",
    "null as a section": "data: null\nmethod: null\n",
    "a method that is a list": _BASE.replace("{name: hp}", "{name: [hp]}"),
    "a method that is a mapping": _BASE.replace("{name: hp}", "{name: {hp: 1}}"),
    "a source that is a list": _BASE.replace("{images", "{source: [orthophotos], images"),
    "a source that is a number": _BASE.replace("{images", "{source: 1, images"),
    "a backbone that is a list": _AUTO.replace("{name: rcf}", "{name: [rcf]}\n"),
    "a backbone that is a number": _AUTO.replace("{name: rcf}", "{name: 7}\n"),
    "options that are a list": _AUTO.replace("{name: rcf}", "{name: rcf, options: [1]}"),
    "a patch of text": _AUTO.replace("{name: rcf}", "{options: {patch_size: many}}"),
    "a patch of nothing": _AUTO.replace("{name: rcf}", "{options: {patch_size: 0}}"),
    "a patch of 10^30": _AUTO.replace("{name: rcf}", f"{{options: {{patch_size: {10**30}}}}}"),
    "byte order mark": b"\xef\xbb\xbf" + _BASE.encode(),
    "UTF-16 with a mark": _BASE.encode("utf-16"),
    "UTF-16 without a mark": _BASE.encode("utf-16-le"),
    "UTF-32": _BASE.encode("utf-32"),
    "Latin-1": _BASE.replace("probe", "größe").encode("latin-1"),
    "NUL bytes": _BASE.replace("probe", "pro\0be").encode(),
    "NUL in quotes": _BASE.replace("probe", '"pro\\0be"'),
    "NUL in a path": _BASE.replace("missing.tif", '"a\\0b.tif"'),
    "NUL in an area": _BASE.replace("]}", '], area: "a\\0b"}', 1),
    "NUL in a cache": _BASE + 'train: {cache_dir: "a\\0b"}\n',
    "NUL in weights": _BASE.replace("{name: rcf}", '{name: rcf, weights: "a\\0b"}'),
    "half a character": _BASE.replace("probe", '"\\ud800"'),
    "half a character in a path": _BASE.replace("missing.tif", '"\\ud800.tif"'),
    "half a character in a name": _BASE + 'classes: {count: 2, names: ["\\ud800", b]}\n',
    "control characters": _BASE.replace("probe", '"\\e[31mred\\a"'),
    "raw control characters": _BASE.replace("probe", "\x1b[31m"),
    "tabs": "name:\tprobe\ndata:\n\timages: [x]\n",
    "carriage returns": _BASE.replace("\n", "\r"),
    "line separators": _BASE.replace("\n", "\u2028"),
    "nothing": "",
    "a comment": "# nothing\n",
    "null": "null\n",
    "a text": "hello\n",
    "a list": "- name\n- data\n",
    "two documents": _BASE + "---\n" + _BASE,
    "directive": "%YAML 9.9\n---\n" + _BASE,
    "directive of a tag": "%TAG ! tag:evil,2000:\n---\n" + _BASE,
    "JSON": '{"data": {"images": ["missing.tif"]}, "name": "probe"}',
    "broken JSON": '{"data": {"images": ["missing.tif"]',
    "pickle": b"\x80\x04cos\nsystem\n(X\x0c\x00\x00\x00touch markertR.",
    "PNG": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
    "an undefined alias": "data: *nowhere\n",
    "an alias as an anchor": "&a &b data: 1\n",
    "quotes left open": 'name: "probe\n',
    "a pattern without end": _BASE.replace("missing.tif", "**/" * 2_000 + "*.tif"),
    "brackets in a pattern": _BASE.replace("missing.tif", "'[[[!-'"),
    "a path of 100,000 characters": _BASE.replace("missing.tif", "x" * 100_000),
    "a folder of 10,000 steps": _BASE.replace("missing.tif", "'" + "../" * 10_000 + "x'"),
    "an address of nothing": _BASE.replace("missing.tif", "'://'"),
    "an address of nowhere": _BASE.replace("missing.tif", "'http://127.0.0.1:1/x.tif'"),
    "a pattern of nowhere": _BASE.replace("missing.tif", "'http://127.0.0.1:1/*.tif'"),
    "a store of nowhere": _BASE.replace("missing.tif", "'gopher://x/*.tif'"),
    "names of a path": _BASE.replace("probe", "../../escaped"),
    "names of dots": _BASE.replace("probe", ".."),
    "names of markup": _BASE.replace("probe", "'[red]x[/red]'"),
    "an unknown key of 10,000 characters": _BASE + f"{'k' * 10_000}: 1\n",
    "5,000 unknown keys": _BASE + "".join(f"k{i}: 1\n" for i in range(5_000)),
    "an unknown key of format": _BASE + "'{option} %s {0}': 1\n",
    "a value of format": _BASE + "train: {epochs: '{option} %s {0.__class__}'}\n",
    "environment": _BASE.replace("probe", "$GEOHP_TEST_NAME"),
    "environment in braces": _BASE.replace("probe", "'${GEOHP_TEST_NAME}'"),
}  # fmt: skip

VALUES = (
    "null", "true", "off", "-1", "0", "1", "2", "255", str(10**9), str(2**63), str(-(2**63) - 1), str(10**400), "1e400",
    "-1e400", ".nan", ".inf", "0.5", "1e-320", "''", "' '", "x", "auto", "'../../x'", "'/etc/passwd'", "'~'",
    "'$HOME'", "'%s{0}{option}'", "'<b>[red]'", '"\\0"', '"\\e[31m"', '"\\ud800"', '"\\u202E"', "'" + "x" * 5_000 + "'",
    "[]", "[null]", "[1]", "[[]]", "[-1, .nan]", "[x, x]", "{}", "{a: 1}", "{1: 2}", "{null: null}", "2024-01-31",
    "12:30:45", "!!binary aGk=", "!!set {a}", "[[[[[[[[[[]]]]]]]]]]", "'1'", "'#12345'", "[0, 0, 0, 0]",
    "[10, 50, 5, 40]", "{'*': null}",
)  # fmt: skip

OVERRIDES = (
    "", "=", "==", "a", ".", "..=1", ".a=1", "a.=1", "a..b=1", "train", "train=", "train=1", "train.epochs",
    "train.epochs=", "train.epochs==1", "train.epochs=[", "train.epochs={", "train.epochs=*x", "train.epochs=&x 1",
    "train.epochs=!!python/name:os.system", "train.epochs=!x 1", "train.epochs=1\n2", "train.epochs=1: 2: 3",
    "train.epochs=--- 1", "train.epochs=%", "train.epochs=@", "train.epochs=`", "train.epochs=\t", "train.epochs=#",
    "train.epochs=2024-99-99", "train.epochs=" + "[" * 5_000, "train.epochs=" + "9" * 5_000, "train.epochs.x=1",
    "train.epochs.x.y=1", "data.images=1", "data.images.0=x", "data=[]", "data=null", "data.source=potsdam",
    "data.source=[1]", "data.source={}", "method=kmeans", "method.name=kmeans", "method.name=[hp]",
    "method.name={a: 1}", "method.name=null", "method.name=1", "method.name.x=1", "method.name= kmeans ",
    "method.name=!!python/name:os", "method={name: [hp]}", "backbone.options.x=1", "backbone.options=[1]",
    "backbone.options.patch_size=[[1]]", "classes.names=[a]", "classes.names=5", "classes.count=1e9",
    "a" * 5_000 + "=1",
    ".".join("a" * 3_000) + "=1", "name=../../x", "name=\x1b[31m", "name=[red]", "name={option}", "name=%s",
    "name=$HOME",
    "__class__=1", "train.__class__.__init__=1", "data.model_config.extra=allow", "train.model_fields=1", "-1=1",
    "--help=1", "train.epochs=1 # x", "train.loggers=[wandb, wandb]", "train.device=cuda:0", "train.precision=16",
    "\u202ename=1", "naïve=1", "a b=1", "train. epochs=1", " train.epochs =1",
)  # fmt: skip


def configuration(number: int) -> Case:
    """The case of a number: documents, then overrides, then keys, then bytes; then keys, bytes and whole trainings."""
    kinds = ((len(DOCUMENTS), _document), (len(OVERRIDES), _override), (_KEYS, _key), (_MUTATED, _mutated))
    drawn = ((_KEYS, _key), (_MUTATED, _mutated), (0, _several), (0, _trained), (1_000_000, _trained))
    return case_of_kinds(kinds, drawn, number)


_KEYS, _MUTATED = 620, 120


def _document(number: int) -> Case:
    name, text = list(DOCUMENTS.items())[number]
    return _case(f"document: {name}", text if isinstance(text, bytes) else text.encode())


def _override(number: int) -> Case:
    return _case(f"override: {OVERRIDES[number][:60]!r}", _BASE.encode(), OVERRIDES[number])


def _key(number: int) -> Case:
    """A key of the schema with a value that may be right or wrong, in the file or as an override."""
    rng = random.Random(f"configurations {number}")
    section, variant, path = keys()[number % len(keys())]
    value, base = rng.choice(VALUES), dict(_variant_of(section, variant))
    name = f"{'.'.join(path)} = {value[:40]}" + (f" ({variant})" if variant else "")
    if number % 3:
        return _case(f"key: {name}", json.dumps(base).encode(), f"{'.'.join(path)}={value}")
    lines = [f"{'  ' * depth}{word}:" for depth, word in enumerate(path)]
    text = "\n".join(lines) + f" {value}\n"
    rest = {key: part for key, part in base.items() if key != path[0]}
    body = dict(base.get(path[0], {})) if len(path) > 1 else {}
    body.pop(path[1] if len(path) > 1 else "", None)
    text += "".join(f"  {key}: {json.dumps(part)}\n" for key, part in body.items())
    return _case(f"key: {name}", (text + "".join(f"{k}: {json.dumps(v)}\n" for k, v in rest.items())).encode())


def _mutated(number: int) -> Case:
    """All keys there are, some bytes of which are others."""
    rng = random.Random(f"configurations mutated {number}")
    content = bytearray(config_reference().encode())
    for _ in range(rng.choice((1, 1, 2, 5, 30))):
        place = rng.randrange(len(content))
        match rng.randrange(4):
            case 0:
                content[place] = rng.randrange(256)
            case 1:
                del content[place : place + rng.randrange(1, 40)]
            case 2:
                content[place:place] = rng.choice(
                    (b"\n", b"- ", b": ", b"{", b"]", b"&a ", b"*a", b"\0", b"'", b"!!x ")
                )
            case _:
                start = rng.randrange(len(content))
                content[place:place] = content[start : start + rng.randrange(1, 200)]
    return _case(f"mutated reference {number}", bytes(content).replace(b"my_tiles", b"missing.tif"))


def _several(number: int) -> Case:
    """Some keys with values that may be right, which may not go together."""
    rng = random.Random(f"configurations several {number}")
    settings = [f"{name}={value}" for name, value in _drawn_settings(rng, rng.choice((2, 3, 6)))]
    return _case(f"several: {' '.join(settings)[:60]}", json.dumps(dict(_variant_of("", ""))).encode(), *settings)


def _trained(number: int) -> Case:
    """A training with some keys set otherwise: a model that maps its image, or a refusal that leaves nothing."""
    rng = random.Random(f"configurations trained {number}")
    method = rng.choice(("hp", "hp", "kmeans", "kmeans", "stego", "maskcontrast"))
    settings = [*_accepted_settings(rng, method), *_drawn_devices(number)]

    def attack(folder: Path) -> Outcome:
        made, run, out = specimens(), folder / "run", folder.with_name("map.tif")
        colour = ("backbone.weights=" + str(made.weights), *BESIDE[3:5])
        features = colour if number % 3 == 0 else TINY[3:4]
        words = [*SMALL, f"data.images=[{made.scene}]", f"method.name={method}", *features, *settings]
        train = ["train", "orthophotos", *(word for setting in words for word in ("--set", setting)), "--out", run]
        outcome = judge(run_command(train, folder, _LIMITS), [run])
        if outcome.verdict != "right":
            return outcome
        mapped = judge(run_command(["segment", made.scene, "--model", run, "--out", out], folder, _LIMITS), [out])
        if mapped.verdict != "right":
            return replace(outcome, verdict="failed", detail=f"its own image: {mapped.detail}")
        mistake = wrong_map(out)
        return replace(outcome, verdict="failed", detail=mistake) if mistake else outcome

    return Case(f"trained {method}: {' '.join(settings)[:80]}", attack)


def _drawn_devices(number: int) -> list[str]:
    """Mostly one, else two, whose processes each take seconds to begin, or more than there are processors."""
    too_many = 1 + max(2, os.cpu_count() or 1)
    devices = random.Random(f"configurations devices {number}").choice((1, 1, 1, 1, 2, too_many))
    return [] if devices == 1 else [f"train.devices={devices}"]


def _accepted_settings(rng: random.Random, method: str) -> list[str]:
    """A few keys with values that the schema takes, if need be after some tries."""
    settings: list[str] = []
    for _ in range(30):
        settings = [f"{name}={value}" for name, value in _drawn_settings(rng, rng.choice((1, 1, 2, 3)), method)]
        with suppress(GeohpError):
            load_config("orthophotos", [f"method.name={method}", *settings])
            break
    return settings


def _drawn_settings(rng: random.Random, count: int, method: str = "hp") -> list[tuple[str, str]]:
    """Keys of a training on orthophotos by a method, with values near those that their schema allows."""
    kinds = {"data": "orthophotos", "method": method}
    names = [path for section, variant, path in keys() if variant == kinds.get(section, "") and len(path) > 1]
    chosen = rng.sample([path for path in names if ".".join(path) not in _LONG], count)
    return [(".".join(path), rng.choice(_values_of(path, kinds))) for path in chosen]


_LONG = frozenset(
    "train.epochs train.workers train.devices train.max_steps train.loggers data.images data.source method.name".split()
)
"""Keys that are not drawn: a training may take as long, or as many processes, as they say, or is another one."""
_NUMBERS = ("0", "1", "2", "3", "5", "8", "33", "254", "-1", "0.5", "0.01", "1.5", "1e-9")


@cache
def _schema() -> Mapping[str, Any]:
    """Read only; it is made in a tenth of a second, and drawing a case looks into it dozens of times."""
    return config_schema()


def _values_of(path: tuple[str, ...], kinds: Mapping[str, str]) -> tuple[str, ...]:
    """Values to try of a key: those that its schema lists, numbers where it takes some, and any of all."""
    schema = _schema()
    key: Any = schema
    for depth, name in enumerate(path):
        key = resolve_key(key, schema)["properties"][name]
        if depth == 0 and "discriminator" in key:
            key = {"$ref": key["discriminator"]["mapping"][kinds[name]]}
    key = resolve_key(key, schema)
    listed = [kind for choice in (key, *key.get("anyOf", ())) for kind in choice.get("enum", ())]
    texts = json.dumps(key)
    values = [json.dumps(value) for value in listed]
    values += [*_NUMBERS, *_NUMBERS] if '"integer"' in texts or '"number"' in texts else []
    values += ["true", "false"] * 4 if '"boolean"' in texts else []
    values += ["null"] if '"null"' in texts else []
    return (*values * 3, *(value for value in VALUES if len(value) < 20 and "1e400" not in value))


def _case(name: str, content: bytes, *overrides: str) -> Case:
    def attack(folder: Path) -> Outcome:
        path, out = folder / "config.yaml", folder / "run"
        path.write_bytes(content)
        settings = [word for override in overrides for word in ("--set", override)]

        def command() -> None:
            print(_read_twice(path, overrides))
            os.chdir(folder)
            sys.argv = ["geohp", "train", str(path), *settings, "--out", str(out)]
            main()

        ended = run_function(command, folder, _LIMITS)
        outcome = judge(ended, [out], refuse=True)
        if escaped := {entry.name for entry in folder.iterdir()} - {path.name}:
            return Outcome("failed", f"wrote {', '.join(escaped)}", outcome.measures)
        accepted = outcome.verdict == "refused" and "accepted" in ended.out
        return replace(outcome, verdict="right") if accepted else outcome

    return Case(name, attack)


def _read_twice(path: Path, overrides: tuple[str, ...]) -> str:
    """What is accepted comes out the same."""
    try:
        config = load_config(path, overrides)
    except GeohpError:
        return ""
    again = parse_config(read_document(dump_config(config), "again"), "again")
    if repr(again) != repr(config):  # NaN is not equal to itself
        raise AssertionError(f"{config!r} became {again!r}")
    return "accepted"


@cache
def keys() -> list[tuple[str, str, tuple[str, ...]]]:
    """Every key of the schema: its section, the variant that has it where there are several, and its path."""
    schema = _schema()

    def below(section: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        for name, key in resolve_key(section, schema).get("properties", {}).items():
            yield (*path, name)
            yield from below(key, (*path, name))

    listed = [("", "", (name,)) for name in schema["properties"]]
    for name, key in schema["properties"].items():
        for variant, reference in key.get("discriminator", {}).get("mapping", {}).items():
            listed += [(name, variant, path) for path in below({"$ref": reference}, (name,))]
        if "discriminator" not in key:
            listed += [(name, "", path) for path in below(key, (name,))]
    return listed


def _variant_of(section: str, variant: str) -> Iterator[tuple[str, Any]]:
    """A configuration with a section of that variant."""
    yield "name", "probe"
    source = variant if section == "data" else "orthophotos"
    needs = {"orthophotos": {"images": ["missing.tif"]}, "torchgeo": {"dataset": "Missing"}}
    yield "data", {"source": source, **needs.get(source, {"root": "missing"})}
    if section == "method":
        yield "method", {"name": variant}


PART = Part(
    name="configurations",
    title="Configurations: alias bombs, tags, wrong types, 10 MB of keys, every key with every wrong value, overrides",
    case=configuration,
    count=len(DOCUMENTS) + len(OVERRIDES) + _KEYS + _MUTATED,
    figures=usual_figures,
    endless=True,
)
