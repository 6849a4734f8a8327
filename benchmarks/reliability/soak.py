"""Training and mapping over and over in one process, minute after minute: does it hold more and more?

The process runs on from one case to the next; where it was lost, the next case begins another. What it holds is
measured at the end of each minute.

    python -m benchmarks.reliability --only soak --hours 12 --out reliability
    python -m benchmarks.reliability.soak reliability/records.jsonl   # draws docs/images/soak.png
"""

from __future__ import annotations

import csv
import hashlib
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.reliability import journal
from benchmarks.reliability.part import Case, Outcome, Part, Record
from benchmarks.reliability.scenes import fields, write_raster
from benchmarks.reliability.usage import slope, usage

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

_MINUTE_S = 60.0
_KINDS = 4
"""So many different rounds there are; each has to give the same bytes whenever it is done."""
_WARM_UP = 30
"""Minutes that the slopes leave out: what is imported, compiled and cached once."""
PICTURE = Path(__file__).resolve().parents[2] / "docs" / "images" / "soak.png"
TABLE = Path(__file__).with_name("soak.csv")

TRAINING = (
    "data.patches=24", "data.patch_px=64", "method.code_channels=16", "method.pool_size=24", "method.warmup_steps=2",
    "classes.count=4", "train.epochs=2", "train.batch_size=4", "train.device=cpu",
)  # fmt: skip


def training_and_maps(seed: int, folder: Path) -> str:
    """All that is usually done: train, map a scene with everything, map a folder, compare, name, show.

    Returns:
        The digest of what was mapped.
    """
    import geohp

    image, truth = fields(seed)
    scene = write_raster(folder / "scene.tif", image)
    later = write_raster(folder / "later.tif", fields(seed + 100)[0])
    reference = write_raster(folder / "reference.tif", truth[None])
    run = geohp.train("orthophotos-hp", [f"data.images={scene}", f"train.seed={seed}", *TRAINING], out=folder / "run")
    labels = folder / "labels.tif"
    geohp.segment_file(
        scene, labels, run.folder, confidence=folder / "confidence.tif", polygons=folder / "polygons.gpkg",
        qml=True, stac=True, datetime="2024-06-01", min_area_m2=4,
    )  # fmt: skip
    geohp.segment_files([scene, later], folder / "maps", classes=4, products=["confidence", "polygons"])
    geohp.segment(str(later), run.folder).compute()
    geohp.change(scene, later, out=folder / "change.tif", model=run.folder)
    geohp.name_classes(labels, reference)
    geohp.view(labels, scene)
    maps = [labels, *sorted((folder / "maps").glob("*.tif")), folder / "change.tif"]
    return hashlib.sha256(b"".join(path.read_bytes() for path in maps)).hexdigest()


def _minute(digests: dict[int, str], number: int) -> Outcome:
    """As many rounds as begin within a minute."""
    end, rounds = time.monotonic() + _MINUTE_S, 0
    while time.monotonic() < end:
        seed = (number + rounds) % _KINDS
        folder = Path(tempfile.gettempdir()) / "round"  # of one name: maps tell what they were made of
        folder.mkdir()
        digest = training_and_maps(seed, folder)
        shutil.rmtree(folder)
        rounds += 1
        if digests.setdefault(seed, digest) != digest:
            return Outcome("failed", f"round {seed} gave other bytes than before")
    measures = {**asdict(usage()), "rounds": rounds, "process": os.getpid(), "moment_s": time.time()}
    return Outcome("right", measures=measures)


def _serve(connection: Connection) -> None:
    """The process: a minute of work for every number it is sent."""
    base = Path(tempfile.mkdtemp(prefix="soak-"))
    tempfile.tempdir = str(base / "temporary")
    Path(tempfile.tempdir).mkdir()
    os.environ.update(XDG_CACHE_HOME=str(base / "cache"), TMPDIR=tempfile.tempdir)
    digests: dict[int, str] = {}
    with suppress(EOFError):
        while True:
            connection.send(_minute(digests, connection.recv()))
    shutil.rmtree(base, ignore_errors=True)


@cache
def _process() -> Connection:
    """The process, which ends with this one."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    context.Process(target=_serve, args=(theirs,), daemon=True).start()
    theirs.close()
    return ours


def _case(number: int) -> Case:
    def run(folder: Path) -> Outcome:
        try:
            _process().send(number)
            return _process().recv()
        except (EOFError, OSError) as error:
            _process.cache_clear()
            return Outcome("failed", f"the process was lost: {error!r}")

    return Case(f"minute {number}", run)


def longest(records: Sequence[Record]) -> list[Record]:
    """The minutes of the process that ran longest."""
    minutes = [record for record in records if "process" in record.outcome.measures]
    processes = [record.outcome.measures["process"] for record in minutes]
    most = max(processes, key=processes.count, default=None)
    return [record for record in minutes if record.outcome.measures["process"] == most]


def _figures(records: Sequence[Record]) -> str:
    minutes = longest(records)
    measures = [record.outcome.measures for record in minutes]
    if len(minutes) <= _WARM_UP + 3:
        return f"{len(minutes)} minutes in one process, too few for slopes"
    late = measures[_WARM_UP:]
    hours = [m["moment_s"] / 3600 for m in late]
    parts = [f"{name.removesuffix('_mb')} {slope(hours, [m[name] for m in late])}" for name in _SHOWN]
    rounds = sum(m["rounds"] for m in measures)
    span = hours[-1] - measures[0]["moment_s"] / 3600
    return f"{rounds:,.0f} rounds in {span:.1f} h in one process; growth an hour (memory in MiB): {', '.join(parts)}"


_SHOWN = ("trimmed_mb", "handles", "threads", "temporary")

PART = Part("soak", "Training and mapping over and over in one process", _case, 720, _figures)


def draw(records: Sequence[Record]) -> bytes:
    """Memory, file handles, threads and temporary files over the hours, as a PNG."""
    from geohp.reporting.plots import as_png, new_figure

    measures = [record.outcome.measures for record in longest(records)]
    hours = [(m["moment_s"] - measures[0]["moment_s"]) / 3600 for m in measures]
    figure = new_figure(9, 5)
    memory, counts = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    for name, label in (("memory_mb", "at the end of a minute"), ("trimmed_mb", "after garbage collection and trim")):
        memory.plot(hours, [m[name] for m in measures], label=label, linewidth=1)
    memory.set(ylabel="resident memory, MiB", ylim=(0, None))
    for name, label in (("handles", "file handles"), ("threads", "threads"), ("temporary", "temporary files")):
        counts.plot(hours, [m[name] for m in measures], label=label, linewidth=1)
    counts.set(xlabel="hours", ylim=(0, None))
    for axes in (memory, counts):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, loc="lower right", fontsize=9)
    return as_png(figure)


def write_table(records: Sequence[Record], path: Path) -> None:
    """The measures of every minute as CSV."""
    rows = [record.outcome.measures for record in longest(records)]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [name for name in rows[0] if name != "process"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows({name: round(value, 1) for name, value in row.items()} for row in rows)


def main(write: Callable[[bytes], object] = PICTURE.write_bytes) -> None:
    records = journal.of_part(journal.read(Path(sys.argv[1])), PART.name)
    write_table(records, TABLE)
    write(draw(records))
    print(_figures(records))


if __name__ == "__main__":
    main()
