r"""The rows of an ablation on any labelled data, several seeds each: trained, scored and tabulated by one command.

    python benchmarks/ablations.py orthophotos.yaml --out ablation --seeds 3 --set data.images=[tiles] \
        --set 'data.labels="{stem}_labels.png"' --set data.label_classes=[building,land,road] --set data.split=folder

Rows are overrides on the configuration: configs/ablations/hp.yaml, or another table by its name there or its path. The
first seed of every row comes first, so that a whole table is there early. Features are kept on disk, once a seed for
all rows. OUT holds results.csv (a line a run), results.md (mean and sample deviation of each row) and every run.
Stopped, the same command goes on where it was; with more seeds or rows it adds those.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from geohp.cli import terminal
from geohp.config.loading import dump_config, load_config
from geohp.errors import ConfigError, GeohpError, OutputError
from geohp.evaluation.tables import ScoreRow, percent, scores_table
from geohp.files import write_text
from geohp.progress import Progress, no_progress
from geohp.reporting.pages import as_text

TABLES = Path(__file__).resolve().parents[1] / "configs" / "ablations"
FIGURES = ("cluster_accuracy", "cluster_miou", "linear_accuracy", "linear_miou")
"""Of a run, in percent: by clusters, then by the linear probe."""


@dataclass(frozen=True)
class Row:
    """A row of an ablation: its name, what it is, and the overrides that make it."""

    name: str
    title: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Experiment:
    """What the rows are variations of.

    Attributes:
        config: a path, or the name of a packaged configuration.
        overrides: for all rows.
        out: the folder for everything.
        crf: score with the CRF, as figures are published.
    """

    config: str
    overrides: tuple[str, ...]
    out: Path
    crf: bool = False


@dataclass(frozen=True)
class Score:
    """How a run did: figures in percent by their names, those that there are, and what was judged.

    The seconds are of its training, or of the last part of one that was interrupted; ``None`` where nobody counted.
    """

    row: Row
    seed: int
    figures: dict[str, float]
    judged: str
    train_seconds: float | None


def read_rows(table: str, only: Sequence[str] = ()) -> list[Row]:
    """The rows of a table of ``configs/ablations`` by its name, or of a YAML file, or those of them that are named.

    Raises:
        ConfigError: no such table or row, or one of another form.
    """
    path = Path(table) if Path(table).is_file() else TABLES / f"{table.removesuffix('.yaml')}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(each.stem for each in TABLES.glob("*.yaml")))
        raise ConfigError(f"{table}: no such table of rows", f"give a YAML file or one of {known}")
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        rows = [_row(str(name), entry) for name, entry in document.items()]
    except (AttributeError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: not a table of rows", "write NAME: {title: TEXT, set: [key=value, ...]}") from error
    if unknown := set(only) - {row.name for row in rows}:
        raise ConfigError(f"{path}: no row {min(unknown)}", f"there are {', '.join(row.name for row in rows)}")
    return [row for row in rows if not only or row.name in only]


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
            scores.append(_run(experiment, row, seed, progress))
            write_tables(experiment, rows, scores)
            yield scores[-1]


def write_tables(experiment: Experiment, rows: Sequence[Row], scores: Sequence[Score]) -> None:
    """``results.csv`` and ``results.md``."""
    lines = io.StringIO()
    writer = csv.writer(lines)
    writer.writerow(["row", "title", "seed", *FIGURES, "train_seconds"])
    for score in scores:
        figures = [f"{score.figures[name]:.3f}" if name in score.figures else "" for name in FIGURES]
        seconds = "" if score.train_seconds is None else f"{score.train_seconds:.0f}"
        writer.writerow([score.row.name, score.row.title, score.seed, *figures, seconds])
    write_text(experiment.out / "results.csv", lines.getvalue())
    head = ["", "", "runs", "accuracy", "mIoU", "linear: accuracy", "mIoU"]
    table = [head, ["---"] * len(head), *([row.name, row.title, *_summary(row, scores)] for row in rows)]
    judged = "; ".join(dict.fromkeys(score.judged for score in scores))
    text = "".join(f"| {' | '.join(line)} |\n" for line in table)
    write_text(experiment.out / "results.md", f"{text}\nMean and sample deviation, in percent. Judged: {judged}.\n")


def show_table(rows: Sequence[Row], scores: Sequence[Score], width: int) -> str:
    """The summary as text."""
    return as_text(
        [scores_table([ScoreRow(f"({row.name}) {row.title}", tuple(_summary(row, scores)[1:])) for row in rows])], width
    )


def _row(name: str, entry: Any) -> Row:
    """A row as the file has it, checked."""
    if set(entry) != {"title", "set"} or not all(isinstance(each, str) for each in entry["set"]):
        raise ValueError(name)
    if Path(name).name != name:  # it names folders
        raise ValueError(name)
    return Row(name, str(entry["title"]), tuple(entry["set"]))


def _summary(row: Row, scores: Sequence[Score]) -> list[str]:
    """Number of runs, and mean and deviation of each figure; empty where a run has none."""
    own = [score for score in scores if score.row == row]
    columns = ([score.figures.get(name, float("nan")) for score in own] for name in FIGURES)
    return [str(len(own)), *(percent(column) for column in columns)]


def _run(experiment: Experiment, row: Row, seed: int, progress: Progress) -> Score:
    """A run, from wherever it is: not begun, interrupted, trained, or scored."""
    folder = experiment.out / f"{row.name}-seed{seed}"
    # What the user sets comes after what this script prefers, and a row after both.
    overrides = ["train.cache=disk", *experiment.overrides, *row.overrides, f"train.seed={seed}"]
    _check_settings(experiment.out / f"{folder.name}.yaml", dump_config(load_config(experiment.config, overrides)))
    result = experiment.out / f"{folder.name}{'-crf' if experiment.crf else ''}.json"
    if not result.is_file():
        seconds = _train(experiment.config, overrides, folder, progress)
        write_text(result, json.dumps({**_evaluate(folder, experiment.crf, progress), "train_seconds": seconds}))
    return Score(row, seed, **json.loads(result.read_text(encoding="utf-8")))


def _check_settings(record: Path, settings: str) -> None:
    """That a run which is there, or has begun, was asked for with the same settings."""
    if record.is_file() and record.read_text(encoding="utf-8") != settings:
        raise OutputError(f"{record}: was made with other settings", "name another folder with --out")
    record.parent.mkdir(parents=True, exist_ok=True)
    write_text(record, settings)


def _train(config: str, overrides: Sequence[str], folder: Path, progress: Progress) -> float | None:
    """Train, or go on with it, where it is not finished; the seconds that took."""
    from geohp.model.runs import MODEL_NAME
    from geohp.training.run import CONFIG_NAME, train

    if (folder / MODEL_NAME).is_file():
        return None
    if (folder / CONFIG_NAME).is_file():
        return train(resume=folder, progress=progress).seconds
    shutil.rmtree(folder, ignore_errors=True)
    return train(config, overrides, out=folder, progress=progress).seconds


def _evaluate(run: Path, crf: bool, progress: Progress) -> dict[str, Any]:
    """Figures of the last checkpoint on what the data hold out, and what that is."""
    from geohp.evaluation.evaluate import EvaluationOptions, score_models
    from geohp.evaluation.results import LAST

    evaluation = score_models([run], EvaluationOptions(crf=crf, progress=progress))
    figures = {
        f"{result.mode.probe}_{name}": float(result.scores[name])
        for result in evaluation.results
        if result.checkpoint == LAST and result.mode.crf == crf and result.mode.probe in ("cluster", "linear")
        for name in ("accuracy", "miou")
    }
    return {"figures": figures, "judged": evaluation.summary}


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
    experiment = Experiment(args.config, tuple(args.overrides), args.out, args.crf)
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
