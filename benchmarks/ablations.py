r"""The rows of an ablation on any labelled data, several seeds each: trained, scored and tabulated by one command.

    python -m benchmarks.ablations orthophotos-hp.yaml --out ablation --seeds 3 --set data.images=[tiles] \
        --set 'data.labels="{stem}_labels.png"' --set data.label_classes=[building,land,road] --set data.split=folder

Rows are overrides on the configuration: configs/ablations/hp.yaml, or another table by its name there or its path. The
first seed of every row comes first, so that a whole table is there early. Features are kept on disk, once a seed for
all rows. OUT holds results.csv (a line a run), results.md (mean and sample deviation of each row) and every run.
Stopped, the same command goes on with the run that it was at; with more seeds or rows it adds those. What every method
is worth on overhead imagery, place by place, is :mod:`benchmarks.accuracy`.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.runs import Reading, Refinement, Row, Run, Scores, read_rows, train_and_score
from geohp.cli import terminal
from geohp.errors import GeohpError
from geohp.evaluation.tables import ScoreRow, percent, scores_table
from geohp.files.atomic import write_text
from geohp.progress import Progress, no_progress
from geohp.reporting.pages import as_text

FIGURES = ("cluster_accuracy", "cluster_miou", "linear_accuracy", "linear_miou")
"""Of a run, in percent: by clusters, then by the linear probe."""


@dataclass(frozen=True)
class Experiment:
    """What the rows are variations of.

    Attributes:
        config: a path, or the name of a packaged configuration.
        overrides: for all rows.
        out: the folder for everything.
        refinement: of what is scored; figures are published with the CRF.
    """

    config: str
    overrides: tuple[str, ...]
    out: Path
    refinement: Refinement = Refinement.NONE

    def run(self, row: Row, seed: int) -> Run:
        """The run of a row and a seed."""
        # What the user sets comes after what this script prefers, and a row after both.
        overrides = ("train.cache=disk", *self.overrides, *row.overrides, f"train.seed={seed}")
        return Run(self.config, overrides, self.out / f"{row.name}-seed{seed}", refinement=self.refinement)


@dataclass(frozen=True)
class Score:
    """How a run did: figures in percent by their names, those that there are."""

    row: Row
    seed: int
    scores: Scores
    refinement: Refinement

    @property
    def figures(self) -> dict[str, float]:
        """By the names of :data:`FIGURES`."""
        readings = {probe: self.scores.reading(probe, refinement=self.refinement) for probe in ("cluster", "linear")}
        values = {name: _figure(readings[name.partition("_")[0]], name.partition("_")[2]) for name in FIGURES}
        return {name: value for name, value in values.items() if value is not None}


def _figure(reading: Reading | None, name: str) -> float | None:
    value: float | None = None if reading is None else getattr(reading, name)
    return value


def run_ablation(
    experiment: Experiment, rows: Sequence[Row], seeds: int, progress: Progress = no_progress
) -> Iterable[Score]:
    """Train and score what is not there yet, one run after the other; the tables in ``out`` grow with each.

    Raises:
        GeohpError: a run that cannot be trained or scored, or was made with other settings.
    """
    scores: list[Score] = []
    for seed in range(seeds):
        for row in rows:
            run = experiment.run(row, seed)
            scores.append(Score(row, seed, train_and_score(run, progress), experiment.refinement))
            write_tables(experiment, rows, scores)
            yield scores[-1]


def write_tables(experiment: Experiment, rows: Sequence[Row], scores: Sequence[Score]) -> None:
    """``results.csv`` and ``results.md``."""
    lines = io.StringIO()
    writer = csv.writer(lines)
    writer.writerow(["row", "title", "seed", *FIGURES, "train_seconds"])
    for score in scores:
        figures = [f"{score.figures[name]:.3f}" if name in score.figures else "" for name in FIGURES]
        seconds = "" if score.scores.train_seconds is None else f"{score.scores.train_seconds:.0f}"
        writer.writerow([score.row.name, score.row.title, score.seed, *figures, seconds])
    write_text(experiment.out / "results.csv", lines.getvalue())
    head = ["", "", "runs", "accuracy", "mIoU", "linear: accuracy", "mIoU"]
    table = [head, ["---"] * len(head), *([row.name, row.title, *_summary(row, scores)] for row in rows)]
    judged = "; ".join(dict.fromkeys(score.scores.judged for score in scores))
    text = "".join(f"| {' | '.join(line)} |\n" for line in table)
    write_text(experiment.out / "results.md", f"{text}\nMean and sample deviation, in percent. Judged: {judged}.\n")


def show_table(rows: Sequence[Row], scores: Sequence[Score], width: int) -> str:
    """The summary as text."""
    return as_text(
        [scores_table([ScoreRow(f"({row.name}) {row.title}", tuple(_summary(row, scores)[1:])) for row in rows])], width
    )


def _summary(row: Row, scores: Sequence[Score]) -> list[str]:
    """Number of runs, and mean and deviation of each figure; empty where a run has none."""
    own = [score for score in scores if score.row == row]
    columns = ([score.figures.get(name, float("nan")) for score in own] for name in FIGURES)
    return [str(len(own)), *(percent(column) for column in columns)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a YAML file, or a packaged configuration by its name")
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="for all rows"
    )
    parser.add_argument("--rows", default="hp", metavar="TABLE", help="a table of configs/ablations, or a YAML file")
    parser.add_argument("--only", default="", metavar="NAMES", help="of its rows, separated by commas")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--crf", action="store_true", help="score with the dense CRF, as figures are published")
    parser.add_argument("--out", type=Path, default=Path("ablation"), metavar="FOLDER")
    args = parser.parse_args()
    experiment = Experiment(
        args.config, tuple(args.overrides), args.out, Refinement.CRF if args.crf else Refinement.NONE
    )
    scores: list[Score] = []
    try:
        rows = read_rows(args.rows, [name for name in args.only.split(",") if name])
        with terminal.progress() as progress:
            for score in run_ablation(experiment, rows, args.seeds, progress):
                scores.append(score)
                shown = " / ".join(f"{score.figures[name]:.1f}" for name in FIGURES if name in score.figures)
                print(f"{time.strftime('%H:%M:%S')} ({score.row.name}) seed {score.seed}: {shown}", flush=True)
    except GeohpError as error:
        terminal.show_error(error)
        return 2
    print(show_table(rows, scores, terminal.width()), end="")
    print(f"wrote {args.out / 'results.csv'} and {args.out / 'results.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
