"""Measure HP on a GPU: one command, at most eight minutes, a table in the end.

    python -m benchmarks.gpu --out gpu
    python -m benchmarks.gpu --only loss,step --out gpu
    python -m benchmarks.gpu --device cpu --out dry            # a dry run on a few images

Each part runs in a process of its own with a limit of time, checks results against the CPU before it times them, and
writes OUT/PART.json with every figure, so that nothing is lost where it fails or is stopped. A part that has finished
is not measured again unless the code or the card has changed, or ``--again`` is said. OUT/table.txt holds the table,
OUT/*.profile.json tables of kernels and timelines, OUT/PART.log what a part printed.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from benchmarks.gpu import record as records
from benchmarks.gpu import table
from benchmarks.gpu.parts import PARTS, Part
from benchmarks.gpu.record import Record
from benchmarks.gpu.sizes import FULL, TINY

_LEAST_S = 5.0
"""A part is not begun with less time than this."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help=f"parts, by comma: {', '.join(part.name for part in PARTS)}")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a dry run on a few images")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all parts together (default: 8)")
    parser.add_argument("--again", action="store_true", help="measure what has been measured, too")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    by_name = {part.name: part for part in PARTS}
    if options.worker:
        return work(by_name[options.worker], options)
    names = options.only.split(",") if options.only else list(by_name)
    if unknown := [name for name in names if name not in by_name]:
        parser.error(f"--only: unknown {', '.join(unknown)}")
    return measure([part for part in PARTS if part.name in names], options)


def measure(parts: Sequence[Part], options: argparse.Namespace) -> int:
    """Run parts one after the other, and write the table."""
    end = time.monotonic() + 60 * options.minutes
    fresh = _empty(parts[0], options)
    for part in parts:
        past = records.read(options.out, part.name)
        left = end - time.monotonic()
        if past is not None and not options.again and past.is_current(fresh.card, fresh.code, tiny=fresh.tiny):
            print(f"{part.name}: measured before", flush=True)
        elif left > _LEAST_S:
            print(f"{part.name}: {part.title}", flush=True)
            run(part, options, min(part.limit_s if options.device == "cuda" else left, left))
        else:
            records.write(options.out, replace(fresh, part=part.name, error="no time was left"))
    measured = [record for part in parts if (record := records.read(options.out, part.name)) is not None]
    text = table.text(measured)
    (options.out / "table.txt").write_text(text)
    print(text)
    met = all(figure.met is not False for record in measured for figure in record.figures)
    return 0 if met and all(record.finished for record in measured) else 1


def run(part: Part, options: argparse.Namespace, limit_s: float) -> None:
    """A part in a process of its own, stopped after its limit with all that it has started."""
    records.write(options.out, _empty(part, options))
    command = [sys.executable, "-m", "benchmarks.gpu", "--worker", part.name, "--out", str(options.out.resolve())]
    with (options.out / f"{part.name}.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--device", options.device], cwd=records.ROOT, stdout=log, stderr=log, start_new_session=True
        )
        error = ""
        try:
            process.wait(limit_s)
        except subprocess.TimeoutExpired:
            error = f"stopped after {limit_s:.0f} s"
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
    record = records.read(options.out, part.name) or _empty(part, options)
    if not record.finished and not record.error:
        records.write(options.out, replace(record, error=error or f"exit code {code}, see {part.name}.log"))


def work(part: Part, options: argparse.Namespace) -> int:
    """In the part's own process: measure it."""
    from benchmarks.gpu.measurement import Measurement

    sizes = FULL if options.device == "cuda" else TINY
    measurement = Measurement(_empty(part, options), options.out, options.device, sizes)
    try:
        part.load()(measurement)
    except Exception as error:
        traceback.print_exc()
        summary = traceback.format_exception_only(error)[-1].strip()
        records.write(options.out, replace(measurement.record, error=summary))
        return 1
    measurement.finish()
    return 0


def _empty(part: Part, options: argparse.Namespace) -> Record:
    from benchmarks.measuring import describe

    return Record(part.name, describe(options.device), records.code_hash(), tiny=options.device == "cpu")


if __name__ == "__main__":
    sys.exit(main())
