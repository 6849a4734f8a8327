"""The benchmarks of the paper end to end, on small made-up copies of their files: prepare, train, evaluate."""

import json

import layouts
import pytest
from typer.testing import CliRunner

from geohp.cli.app import app

SMALL = [
    "data.input_px=64",
    "data.evaluation_px=64",
    "backbone.name=rcf",
    "method.code_channels=16",
    "method.warmup_steps=1",
    "method.renew_interval=2",
    "train.epochs=2",
    "train.batch_size=4",
    "train.device=cpu",
    "train.workers=0",
]


def call(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output + str(done.exception)
    return done.output


def settings(*more):
    return [part for setting in [*SMALL, *more] for part in ("--set", setting)]


def check(report, benchmark, classes, same):
    told = json.loads((report / "evaluation.json").read_text())
    assert told["benchmark"] == benchmark
    assert told["protocol"]["same_data"] is same
    assert len(told["classes"]) == classes
    assert {(row["probe"], row["crf"]) for row in told["summary"]} == {
        (probe, crf) for probe in ("cluster", "linear") for crf in (False, True)
    }
    assert all(0 <= row["accuracy"] <= 100 for row in told["summary"])
    assert told["published"]
    return told


def test_potsdam_of_prepared_patches(tmp_path):
    layouts.write_potsdam_patches(tmp_path / "potsdam", train=12, test=6)
    root = f"data.root={tmp_path / 'potsdam'}"
    call("train", "potsdam3.yaml", *settings(root, "train.score_every=1"), "--out", tmp_path / "run")
    output = call(
        "evaluate", "--model", tmp_path / "run", "--data", "potsdam3.yaml", *settings(root), "--crf",
        "--report", tmp_path / "report",
    )  # fmt: skip
    assert "best on labels + CRF" in output
    assert "HP, ViT-B/8" in output
    # Twelve and six patches are no 4545 and 855.
    told = check(tmp_path / "report", "potsdam-3", 3, same=False)
    assert told["images"] == 6
    assert told["labelled_px"] > 0


@pytest.mark.parametrize(
    ("name", "write", "benchmark"),
    [("cocostuff27", "write_cocostuff", "cocostuff-27"), ("cityscapes27", "write_cityscapes", "cityscapes-27")],
)
def test_crops_made_once_train_and_are_evaluated(tmp_path, name, write, benchmark):
    getattr(layouts, write)(tmp_path / "data", train=3, val=2)
    root = f"data.root={tmp_path / 'data'}"
    assert "with --set data.prepared=" in call("prepare", name, "--out", tmp_path / "crops", "--set", root)
    prepared = settings(root, f"data.prepared={tmp_path / 'crops'}", "method.pool_size=15")
    call("train", name, *prepared, "--out", tmp_path / "run")
    call("evaluate", "--model", tmp_path / "run", "--crf", "--report", tmp_path / "report")
    told = json.loads((tmp_path / "report" / "evaluation.json").read_text())
    check(tmp_path / "report", benchmark, 27, same=told["protocol"]["same_data"])


def test_a_missing_data_set_is_one_sentence(tmp_path):
    done = CliRunner().invoke(app, ["train", "potsdam3.yaml", "--set", f"data.root={tmp_path / 'nowhere'}"])
    assert done.exit_code != 0
    assert "nowhere" in str(done.exception)
