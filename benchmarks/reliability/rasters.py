"""Hostile rasters: generated, absurd and damaged ones, given to every command that reads a raster."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.reliability.isolation import Limits, run_command, run_function
from benchmarks.reliability.part import Case, Outcome, Part, Record
from benchmarks.reliability.raster_absurd import lie
from benchmarks.reliability.raster_bases import bases, companions, damageable
from benchmarks.reliability.raster_generated import CONTENTS, FRESH_CONTENTS, Random, Subject, draw, pick
from benchmarks.reliability.raster_judging import Attempt, judge
from benchmarks.reliability.specimens import TRANSFORMER

NAME = "rasters"
COUNT = 5000

_COMMANDS: Mapping[str, int] = {
    **{"info": 18, "segment": 31, "polygonize": 16},
    **{"legend": 8, "recode": 6, "change": 8, "view": 8, "probe": 4, "train": 1},
}
"""How often each is tried, in per cent."""
_FRESH_COMMANDS: Mapping[str, int] = {
    **{"info": 9, "segment": 36, "polygonize": 13},
    **{"legend": 7, "recode": 6, "change": 8, "view": 7, "probe": 6, "train": 8},
}
"""The same of cases beyond the count, which also try what came later: covers, colour beside features, folders."""
_KINDS = {"generated": 45, "absurd": 18, "damaged": 37}
_LABEL_COMMANDS = frozenset({"polygonize", "legend", "recode", "change", "view"})


@dataclass(frozen=True)
class Call:
    """A command line and the files that there are afterwards."""

    arguments: tuple[str, ...]
    outputs: tuple[str, ...]


def case(number: int) -> Case:
    """The case of a number: a kind of raster and a command."""
    rng, fresh = np.random.default_rng([zlib.crc32(NAME.encode()), number]), number >= COUNT
    command, kind = _weighted(rng, _FRESH_COMMANDS if fresh else _COMMANDS), _weighted(rng, _KINDS)
    return Case(f"{command}, {kind}", partial(run, command, kind, rng, fresh=fresh))


def run(command: str, kind: str, rng: Random, folder: Path, *, fresh: bool = False) -> Outcome:
    """Make the raster, give it to the command, and judge what came of it; all in forks."""
    companions(folder)
    subject = _made(command, kind, rng, folder, fresh=fresh)
    call = (CALLS | FRESH_CALLS if fresh else CALLS)[command](subject.source, rng)
    temporary = folder.parent / "temporary"
    temporary.mkdir()
    before = _contents(folder, temporary)
    limits = Limits(environment={"TMPDIR": str(temporary), "HOME": str(temporary)})
    ended = run_command([command, *call.arguments], folder, limits)
    after = _contents(folder, temporary)
    outcome = judge(Attempt(command, call.arguments, call.outputs, subject, ended, folder, before, after))
    detail = f"[{subject.kind}] {outcome.detail}" if outcome.verdict != "right" else subject.kind
    return Outcome(outcome.verdict, detail, outcome.measures)


def _made(command: str, kind: str, rng: Random, folder: Path, *, fresh: bool) -> Subject:
    """The raster, written in a fork: drivers that fail hurt nobody there, and no thread of GDAL's is left here."""
    labels = command in _LABEL_COMMANDS and rng.random() < 0.6
    fitting = command in (*_LABEL_COMMANDS, "probe") and rng.random() < 0.7
    damageable_files, kept = damageable(), folder.parent / "subject.npz"

    def make() -> None:
        if kind == "generated":
            contents = FRESH_CONTENTS if fresh else CONTENTS
            subject = draw(folder, rng, labels=labels, fitting=fitting, contents=contents)
        elif kind == "absurd":
            subject = lie(folder, rng)
        else:
            from benchmarks.reliability.raster_mutated import damage

            base = bases() / "labels.tif" if labels else pick(rng, damageable_files)
            subject = damage(folder, base, damageable_files, rng)
        arrays = {name: value for name in ("values", "valid") if (value := getattr(subject, name)) is not None}
        np.savez(kept, source=subject.source, kind=subject.kind, **arrays)

    ended = run_function(make, folder, Limits())
    if ended.code:
        raise RuntimeError(f"the raster could not be made: {ended.err}")
    with np.load(kept) as arrays:
        rest = {name: arrays[name] for name in ("values", "valid") if name in arrays}
        return Subject(str(arrays["source"]), str(arrays["kind"]), **rest)


def _weighted(rng: Random, weights: Mapping[str, int]) -> str:
    shares = np.array(list(weights.values()), float)
    return str(rng.choice(list(weights), p=shares / shares.sum()))


def _contents(folder: Path, temporary: Path) -> frozenset[str]:
    """Names of all that lies in two folders."""
    return frozenset(str(path.relative_to(top)) for top in (folder, temporary) for path in top.rglob("*"))


def _maybe(rng: Random, share: float, *words: str) -> tuple[str, ...]:
    return words if rng.random() < share else ()


_MODEL = ("--model", "model.safetensors")


def _info(source: str, rng: Random) -> Call:
    return Call((*_maybe(rng, 0.3, "--json"), _argument(source)), ())


def _segment(source: str, rng: Random) -> Call:
    of_one_band = (*_MODEL, "--bands", "1,1,1")
    model = pick(rng, (("--classes", "3"), _MODEL, of_one_band, of_one_band))
    outputs = ["map.tif"]
    words: list[str] = []
    if rng.random() < 0.2:
        words += ["--polygons", "polygons.gpkg"]
        outputs.append("polygons.gpkg")
    if rng.random() < 0.2:
        words += ["--confidence", "confidence.tif", "--qml"]
        outputs += ["confidence.tif", "confidence.qml", "map.qml"]
    if rng.random() < 0.1:
        words.append("--stac")
        outputs.append("map.json")
    words += [
        *_maybe(rng, 0.15, "--on-read-error", "nodata"),
        *_maybe(rng, 0.1, "--scaling", str(pick(rng, ("0,100", "type", "percentiles-per-band:1,99")))),
        *_maybe(rng, 0.1, "--pixel-size", "2"),
    ]
    return Call((_argument(source), "-o", "map.tif", *model, *words), tuple(outputs))


def _polygonize(source: str, rng: Random) -> Call:
    words = [
        *_maybe(rng, 0.2, "--any-values"),
        *_maybe(rng, 0.1, "--simplify", "2"),
        *_maybe(rng, 0.1, "--min-area", "20"),
    ]
    if rng.random() < 0.15:
        words = ["--confidence", source]
    elif rng.random() < 0.15:
        words = ["--stats", f"{source}:mean,p90,count"]
    labels = "labels.tif" if words[:1] in (["--confidence"], ["--stats"]) else _argument(source)
    return Call((labels, "-o", "polygons.gpkg", *words), ("polygons.gpkg",))


def _legend(source: str, rng: Random) -> Call:
    pair = ("labels.tif", source) if rng.random() < 0.5 else (_argument(source), "labels.tif")
    return Call((pair[0], "--reference", pair[1], "-o", "names.yaml"), ("names.yaml",))


def _recode(source: str, rng: Random) -> Call:
    return Call((_argument(source), "--legend", "legend.yaml", "-o", "map.tif"), ("map.tif",))


def _change(source: str, rng: Random) -> Call:
    other, words = pick(
        rng,
        (
            ("labels.tif", ("--labels",)),
            ("numbers.tif", ("--labels",)),
            ("scene.tif", ("--classes", "3")),
            ("scene.tif", (*_MODEL, "--bands", "1,1,1")),
        ),
    )
    pair = (other, _argument(source)) if rng.random() < 0.6 else (_argument(source), other)
    return Call((*pair, "-o", "map.tif", *words), ("map.tif",))


def _view(source: str, rng: Random) -> Call:
    pair = ("labels.tif", source) if rng.random() < 0.4 else (_argument(source), "scene.tif")
    return Call((pair[0], "--scene", pair[1], "-o", "page.html"), ("page.html",))


def _probe(source: str, rng: Random) -> Call:
    scene, reference = (_argument(source), "labels.tif") if rng.random() < 0.6 else ("scene.tif", source)
    return Call(
        (scene, "--backbone", "rcf", "--reference", reference, "-o", "probe.safetensors"), ("probe.safetensors",)
    )


def _train(source: str, rng: Random) -> Call:
    settings = (f"data.images=[{source!r}]", "data.patches=4", "train.max_steps=2", "classes.count=3")
    words = [word for setting in settings for word in ("--set", setting)]
    return Call(("orthophotos-hp", *words, "--out", "run"), ("run",))


def _fresh_segment(source: str, rng: Random) -> Call:
    """As :func:`_segment`, or by what finds covers, sees colour beside a transformer's features, or maps folders."""
    call, ways = _segment(source, rng), ("usual", "covers", "split covers", "beside", "beside", "folder", "folder")
    if (way := pick(rng, ways)) == "usual":
        return call
    if way == "folder":
        return _folder(source, rng)
    transformer = ("--classes", str(pick(rng, (2, 3, 6))), *_TRANSFORMER)
    models = {"covers": ("--model", "covers.safetensors"), "split covers": ("--classes", "4", "--split-covers")}
    model = models.get(way) or pick(rng, (transformer, ("--model", "beside.safetensors")))
    words = call.arguments[call.arguments.index("map.tif") + 1 :]
    kept = words[words.index("--bands") + 2 :] if "--bands" in words else words[2:]
    bands = _maybe(rng, 0.5, "--bands", "1,1,1") if way != "split covers" else ()
    return Call((*call.arguments[:3], *model, *bands, *_maybe(rng, 0.1, "--tta"), *kept), call.outputs)


def _folder(source: str, rng: Random) -> Call:
    """The scene beside a sound one, into a folder."""
    model = pick(rng, (("--classes", "3"), _MODEL, ("--model", "beside.safetensors", "--bands", "1,1,1")))
    words = (*_maybe(rng, 0.3, "--products", "confidence,polygons,qml,stac"), *_maybe(rng, 0.2, "--split-covers"))
    forgiving = _maybe(rng, 0.3, "--on-read-error", "nodata")
    return Call((_argument(source), "scene.tif", "--out-dir", "maps", *model, *words, *forgiving), ("maps",))


_TRANSFORMER = ("--backbone", TRANSFORMER, "--weights", "vit.safetensors", "--block", "0")


def _fresh_train(source: str, rng: Random) -> Call:
    """K-means or HP, on random filters or a transformer with colour beside, covers split or gathered."""
    preset = pick(rng, ("orthophotos", "orthophotos-hp"))
    settings = [
        f"data.images=[{source!r}]",
        *("data.patches=4", "data.patch_px=32", "train.max_steps=2", "train.batch_size=2"),
        f"classes.count={pick(rng, (2, 3, 6))}",
        f"classes.extra_clusters={pick(rng, (0, 0, 3, 40))}",
        f"classes.split_covers={pick(rng, ('true', 'false', 'false'))}",
        *_maybe(rng, 0.5, "data.bands=[1, 1, 1]"),
    ]
    if rng.random() < 0.6:
        settings += [f"backbone.name={TRANSFORMER}", "backbone.weights=vit.safetensors", "backbone.block=0"]
        settings += [f"backbone.colour_share={pick(rng, (0, 0.25, 0.25, 4))}"]
    else:
        settings += ["backbone.options={filters: 16, channels: 8}"]
    words = [word for setting in settings for word in ("--set", setting)]
    return Call((preset, *words, "--out", "run"), ("run",))


def _argument(source: str) -> str:
    return f"./{source}" if source.startswith("-") else source


CALLS: Mapping[str, Callable[[str, Random], Call]] = {
    "info": _info,
    "segment": _segment,
    "polygonize": _polygonize,
    "legend": _legend,
    "recode": _recode,
    "change": _change,
    "view": _view,
    "probe": _probe,
    "train": _train,
}
FRESH_CALLS: Mapping[str, Callable[[str, Random], Call]] = {"segment": _fresh_segment, "train": _fresh_train}


def _figures(records: Sequence[Record]) -> str:
    commands = Counter(record.case.split(",")[0] for record in records)
    slowest = max(record.outcome.measures.get("seconds", 0.0) for record in records)
    largest = max(record.outcome.measures.get("peak_mb", 0.0) for record in records)
    counts = ", ".join(f"{name} {count:,}" for name, count in commands.most_common())
    return f"{counts}; slowest {slowest:.1f} s, most memory {largest / 1000:.2f} GB"


PART = Part(NAME, "Hostile rasters: generated, absurd, damaged", case, COUNT, _figures, endless=True)
