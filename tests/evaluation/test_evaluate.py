"""Evaluation from models to tables and pages, on evaluation-up fields with labels."""

import csv
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from typer.testing import CliRunner

import geohp
from geohp.cli.app import app
from geohp.errors import ChangedError, DataError, ModelError, OutputError
from geohp.evaluation import judging
from geohp.evaluation.coded_images import CodedImages
from geohp.evaluation.evaluate import _data_config, evaluate
from geohp.evaluation.mask_clusters import score_mask_clusters
from geohp.evaluation.metrics import SegmentationMetrics
from geohp.evaluation.predict import MASKS, PredictionMode, Predictor
from geohp.evaluation.results import BEST, LAST
from geohp.evaluation.tables import mean_and_deviation
from geohp.model.file import load_model


def scores_of(evaluation):
    return [(str(r.model), r.checkpoint, r.mode, r.scores["counts"].tolist()) for r in evaluation.results]


def without_best(run, folder):
    """A copy of a run without the model that scored best on labels."""
    shutil.copytree(run.folder, folder / "run")
    (folder / "run" / "best_on_labels.safetensors").unlink()
    return folder / "run"


def test_scores_are_those_of_codes_upsampled_and_matched_over_the_whole_set(runs):
    evaluation = evaluate(runs[0].folder)
    model, images = load_model(runs[0].folder), geohp.data.factory.open_data(None).evaluation()
    cluster, linear = SegmentationMetrics(3), SegmentationMetrics(3, matching="identity")
    for index in range(len(images)):
        item = images[index]
        codes = model.codes(item["image"][None].to(model.device))
        codes = F.interpolate(codes, size=(96, 96), mode="bilinear", align_corners=False)
        # The published order: upsample codes, then probe; here by cosine, as published.
        cluster.update(model.probe.cosines(codes).argmax(1)[0], item["mask"])
        linear.update(model.linear_probe(codes).argmax(1)[0], item["mask"])
    for mode, expected in ((PredictionMode("cluster"), cluster), (PredictionMode("linear"), linear)):
        (found,) = evaluation.of(LAST, mode)
        # Rounding may decide ties between neighbouring clusters otherwise: a handful of pixels in ninety thousand.
        most = 900 if torch.cuda.is_available() else 20  # of a card, which multiplies in halves
        assert np.abs(found.scores["counts"] - expected.compute()["counts"]).sum() <= most
    assert evaluation.images == 10
    assert evaluation.labelled_px == 10 * 93 * 96


def test_batches_do_not_change_the_counts(runs):
    few, many = (scores_of(evaluate(runs[0].folder, batch_size=size)) for size in (3, 10))
    if not torch.cuda.is_available():
        assert few == many
        return
    # A card multiplies in halves, and adds up products of few rows in another order than those of many.
    assert [score[:-1] for score in few] == [score[:-1] for score in many]
    for one, other in zip(few, many, strict=True):
        assert np.abs(np.subtract(one[-1], other[-1])).sum() <= 0.01 * np.sum(one[-1])


def test_several_seeds_give_mean_and_deviation(runs):
    evaluation = evaluate([run.folder for run in runs])
    summary = evaluation.as_dict()["summary"][0]
    accuracies = [r.scores["accuracy"] for r in evaluation.of(LAST, PredictionMode("cluster"))]
    assert len(accuracies) == summary["models"] == 2
    assert summary["accuracy"] == pytest.approx(np.mean(accuracies))
    assert summary["accuracy_deviation"] == pytest.approx(abs(accuracies[0] - accuracies[1]) / np.sqrt(2))
    assert "±" in evaluation.report()
    assert mean_and_deviation([3.0]) == (3.0, None)


def test_best_on_labels_is_there_under_its_name_alone(runs):
    evaluation = evaluate(runs[0].folder)
    assert [row[0] for row in evaluation.rows] == [LAST, LAST, BEST, BEST]
    with (runs[0].folder / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    # Twenty-four images in batches of four: at the ends of three epochs, and after every four steps of each.
    assert [(row["epoch"], row["step"]) for row in rows] == [
        ("1", "4"), ("1", "6"), ("2", "10"), ("2", "12"), ("3", "16"), ("3", "18"),
    ]  # fmt: skip
    names = [f"{probe}_{figure}" for probe in ("cluster", "linear") for figure in ("accuracy", "miou")]
    best_row = max(reversed(rows), key=lambda row: sum(float(row[name]) for name in names))
    # potsdam3.yaml keeps the published probe: what was scored is what was saved.
    for checkpoint, row in ((BEST, best_row), (LAST, rows[-1])):
        for name in names:
            probe, figure = name.split("_")
            (result,) = evaluation.of(checkpoint, PredictionMode(probe))
            # Of a card, in per cent: products of other numbers of rows, in halves.
            rounding = {"abs": 0.5} if torch.cuda.is_available() else {}
            assert result.scores[figure] == pytest.approx(float(row[name]), **rounding)
    lines = evaluation.report(140).splitlines()
    assert any(line.strip().startswith(BEST) and line.rstrip().endswith("(a)") for line in lines)
    assert "(a) the checkpoint was chosen by these very labels" in "\n".join(lines)


def test_scoring_epochs_does_not_change_what_is_learned(runs, made_up, tmp_path):
    without = geohp.train("potsdam3", [*made_up, "train.seed=0"], out=tmp_path / "run")
    scored, plain = load_file(runs[0].model), load_file(without.model)
    assert all(torch.equal(scored[name], plain[name]) for name in plain)
    assert not (without.folder / "scores.csv").exists()


def test_labels_reach_nothing_but_the_linear_probe(runs, made_up, tmp_path, monkeypatch):
    source = geohp.data.factory.open_data(None)

    class Shuffled(type(source)):
        def training(self, progress=None):
            images = super().training()
            original = images.__class__.__getitem__

            class Other(images.__class__):
                def __getitem__(self, index):
                    item = original(self, index)
                    return {**item, "mask": (item["mask"] + 1) % 3}

            images.__class__ = Other
            return images

    monkeypatch.setattr("geohp.data.factory.open_data", lambda config, seed=0: Shuffled())
    other = geohp.train("potsdam3", [*made_up, "train.seed=0"], out=tmp_path / "run")
    first, second = load_file(runs[0].model), load_file(other.model)
    differing = {name.split(".")[0] for name in first if not torch.equal(first[name], second[name])}
    assert differing == {"linear_probe"}


def test_kmeans_gets_a_linear_probe_where_there_are_labels(made_up, tmp_path):
    settings = [s for s in made_up if not s.startswith("method.")]
    run = geohp.train("potsdam3", [*settings, "method={name: kmeans, samples: 2000}"], out=tmp_path / "run")
    evaluation = evaluate(run.folder)
    (linear,) = evaluation.of(LAST, PredictionMode("linear"))
    # Three colours of field: what a linear classifier cannot miss.
    assert linear.scores["accuracy"] > 80


def test_interrupted_evaluation_goes_on_where_it_was(runs, tmp_path, monkeypatch):
    run = without_best(runs[0], tmp_path)
    whole = evaluate(run, batch_size=2)
    monkeypatch.setattr("geohp.evaluation.confusion._SAVED_EVERY", 1)

    def stop_at_six(stage, done, total, detail=""):
        if stage == "evaluating" and done >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(run, batch_size=2, progress=stop_at_six)
    assert len(list(run.glob(".evaluation-*.npz"))) == 1
    done = []
    again = evaluate(run, batch_size=2, progress=lambda stage, n, total, detail="": done.append((stage, n)))
    assert scores_of(again) == scores_of(whole)
    assert done == [("evaluating", 8), ("evaluating", 10)]
    assert not list(run.glob(".evaluation-*"))
    # Other settings are another evaluation.
    assert scores_of(evaluate(run, batch_size=2, tta=True)) != scores_of(whole)


@pytest.fixture
def labelled_file(monkeypatch, tmp_path):
    """A file that the images are said to be made of."""
    file = tmp_path / "tile.tif"
    file.write_text("as it is")
    images = type(geohp.data.factory.open_data(None).evaluation())
    monkeypatch.setattr(images, "files", lambda self: [str(file)])
    return file


def test_images_that_change_while_they_are_judged_give_no_figures(runs, tmp_path, labelled_file, monkeypatch):
    run = without_best(runs[0], tmp_path)
    monkeypatch.setattr("geohp.evaluation.confusion._SAVED_EVERY", 1)

    def change_at_six(stage, done, total, detail=""):
        if stage == "evaluating" and done >= 6:
            os.utime(labelled_file, ns=(1, 1))

    with pytest.raises(ChangedError, match=r"a file of the labelled data has changed while it was read \(.*tile.tif\)"):
        evaluate(run, batch_size=2, report=tmp_path / "report", progress=change_at_six)
    assert not (tmp_path / "report").exists()
    assert not list(run.glob(".evaluation-*"))
    assert evaluate(run, batch_size=2).images == 10


def test_images_that_cannot_be_judged_because_they_changed_are_told_as_that(runs, tmp_path, labelled_file, monkeypatch):
    def fail(*arguments, **options):
        labelled_file.write_text("cut")
        raise DataError("tile.tif: cannot be read")

    monkeypatch.setattr(judging, "count_confusion", fail)
    with pytest.raises(ChangedError, match="a file of the labelled data has changed"):
        evaluate(without_best(runs[0], tmp_path))


def test_counts_of_files_that_have_changed_since_are_not_gone_on_with(runs, tmp_path, labelled_file, monkeypatch):
    run, done = without_best(runs[0], tmp_path), []
    monkeypatch.setattr("geohp.evaluation.confusion._SAVED_EVERY", 1)

    def stop_at_six(stage, number, total, detail=""):
        done.append(number)
        if number >= 6:
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            evaluate(run, batch_size=2, progress=stop_at_six)
        os.utime(labelled_file, ns=(1, 1))
    assert done == [2, 4, 6, 2, 4, 6]
    evaluate(run, batch_size=2, progress=lambda stage, number, total, detail="": done.append(number))
    assert done[6:] == [8, 10]


def test_damaged_counts_are_counted_again(runs, tmp_path, monkeypatch):
    run = without_best(runs[0], tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.unlink", lambda self, missing_ok=False: None)
        whole = evaluate(run)
    (kept,) = run.glob(".evaluation-*.npz")
    kept.write_bytes(kept.read_bytes()[:200])
    assert scores_of(evaluate(run)) == scores_of(whole)


def test_the_report_has_everything_and_appears_whole(runs, tmp_path):
    out = tmp_path / "report"
    evaluation = evaluate([run.folder for run in runs], crf=True, report=out)
    names = {path.name for path in out.iterdir()}
    assert {"evaluation.json", "results.csv", "samples.png", "index.html", "confusion-0.png"} <= names
    told = json.loads((out / "evaluation.json").read_text())
    assert told["benchmark"] == "potsdam-3"
    assert len(told["results"]) == 2 * 2 * 2 * 2  # models, checkpoints, probes, with and without CRF
    assert told["results"][0]["confusion"] == evaluation.results[0].scores["confusion"].tolist()
    assert {row["method"] for row in told["published"]} >= {"HP", "STEGO", "PriMaPs-EM"}
    page = (out / "index.html").read_text()
    assert "82.4" in page
    assert "best on labels + CRF (2 models)" in page
    assert not re.search(r"(src|href)=['\"]?https?:", page)
    assert not list(tmp_path.glob(".report*"))
    with pytest.raises(OutputError, match="exists already"):
        evaluate(runs[0].folder, report=out)
    evaluate(runs[0].folder, report=out, overwrite=True)
    assert len(json.loads((out / "evaluation.json").read_text())["results"]) == 4


def test_a_folder_that_is_no_report_is_never_replaced(runs, tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(OutputError, match="is no report"):
        evaluate(runs[0].folder, report=tmp_path, overwrite=True)
    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_models_that_do_not_fit_are_refused(runs, monkeypatch, tmp_path):
    with pytest.raises(ModelError, match="no such model"):
        evaluate(tmp_path / "nothing")
    source = geohp.data.factory.open_data(None)
    images = source.evaluation()
    images.channels = 4
    monkeypatch.setattr(type(source), "evaluation", lambda self, progress=None: images)
    with pytest.raises(ModelError, match=r"takes 3 band\(s\), the data give 4"):
        evaluate(runs[0].folder)


def test_the_command_prints_the_tables(runs, tmp_path):
    run = runs[0].folder
    done = CliRunner().invoke(app, ["evaluate", "--model", str(run), "--report", str(tmp_path / "report")])
    assert done.exit_code == 0, done.output
    assert "potsdam-3: 10 images of 96 px" in done.output
    assert "HP, ViT-B/8" in done.output
    assert "vegetation" in done.output


def test_masks_that_come_with_the_images_are_clustered_and_scored_as_well(runs, tmp_path, monkeypatch):
    source = geohp.data.factory.open_data(None)

    class Segmented(type(source)):
        def evaluation(self, progress=None):
            images = super().evaluation()
            images.segmented = True
            original = type(images).__getitem__

            class WithFields(type(images)):
                def __getitem__(self, index):
                    item = original(self, index)
                    rows, cols = torch.meshgrid(torch.arange(96) // 24, torch.arange(96) // 24, indexing="ij")
                    return {**item, "segments": torch.where(item["mask"] == 255, -1, 4 * rows + cols)}

            images.__class__ = WithFields
            return images

    monkeypatch.setattr("geohp.data.factory.open_data", lambda config, seed=0: Segmented())
    run, heard = without_best(runs[0], tmp_path), []
    found = evaluate(run, progress=lambda stage, *_, **__: heard.append(stage))
    assert [str(result.mode) for result in found.results] == ["cluster", "linear", "masks"]
    model = load_model(run)
    predictor = Predictor(model.codes, model.probe, patch_px=model.backbone.patch_size)
    alone = score_mask_clusters(CodedImages(images=Segmented().evaluation(), predictor=predictor), 3)
    (masks,) = found.of(LAST, MASKS)
    np.testing.assert_array_equal(masks.scores["counts"], alone["counts"])
    assert set(heard) == {"evaluating", "clustering masks"}
    assert "last checkpoint, masks clustered" in found.report(140)


def test_several_models_are_told_apart_in_progress_and_the_same_note_is_given_once(runs):
    heard = []
    found = evaluate([run.folder for run in runs], tta=None, progress=lambda stage, *_, **__: heard.append(stage))
    assert list(dict.fromkeys(heard)) == [f"evaluating {number}/4" for number in (1, 2, 3, 4)]
    assert len(found.notes) == len(set(found.notes))
    assert [result.model.parent for result in found.results[:2]] == [runs[0].folder] * 2
    assert (found.settings["crf"], found.settings["tta"]) == (False, None)
    assert found.settings["data"]["source"] == "potsdam"


def test_without_models_or_labelled_images_there_is_nothing_to_evaluate(runs, monkeypatch):
    with pytest.raises(ModelError, match="no model to evaluate"):
        evaluate([])
    images = geohp.data.factory.open_data(None).evaluation()
    images.count = 0
    closed = []
    monkeypatch.setattr(type(images), "close", lambda self: closed.append(True))
    monkeypatch.setattr(
        "geohp.data.factory.open_data", lambda config, seed=0: SimpleNamespace(evaluation=lambda progress: images)
    )
    with pytest.raises(DataError, match="no labelled image to evaluate on"):
        evaluate(runs[0].folder)
    assert closed == [True]


def test_what_to_judge_on_is_the_configuration_asked_for_or_the_models_own(monkeypatch):
    card = SimpleNamespace(config={"data": {"source": "potsdam", "root": "own"}})
    monkeypatch.setattr("geohp.evaluation.evaluate.read_card", lambda file: card)
    model, crops = Path("model.safetensors"), ["data.evaluation_px=64"]
    own = _data_config(None, crops, model)
    assert (own.data.root, own.data.evaluation_px) == ("own", 64)
    named = _data_config("potsdam3", [*crops, "data.root=there"], model)
    assert (named.data.root, named.data.evaluation_px) == ("there", 64)
    assert _data_config(own, ["data.root=ignored"], model) is own
    card.config = {}
    with pytest.raises(ModelError, match="does not tell what it was trained on") as refused:
        _data_config(None, [], model)
    assert (refused.value.option, refused.value.value) == ("data", "potsdam3.yaml")


def test_what_is_asked_for_reaches_whoever_does_the_work(runs, tmp_path, monkeypatch):
    """Batches, workers, device, progress: what changes no figure, but how long they take."""
    asked = {}

    def spied(module, name):
        function = getattr(module, name)

        def call(*arguments, **options):
            asked.setdefault(name, (arguments, options))
            if isinstance(arguments[0], CodedImages):
                return function(replace(arguments[0], workers=0), *arguments[1:], **options)
            return function(*arguments, **{**options, "workers": 0})

        monkeypatch.setattr(module, name, call)

    source, opened = geohp.data.factory.open_data(None), []
    monkeypatch.setattr("geohp.data.factory.open_data", lambda *arguments: opened.append(arguments) or source)
    for name in ("count_confusion", "store_features", "score_mask_clusters"):
        spied(judging, name)
    images = source.evaluation()
    images.segmented = True
    segments = [
        {**images[index], "segments": images[index]["mask"].where(images[index]["mask"] < 3, -1)} for index in range(10)
    ]
    monkeypatch.setattr(type(images), "__getitem__", lambda self, index: segments[index])
    monkeypatch.setattr(type(source), "evaluation", lambda self, progress: images)

    def progress(*_, **__):
        pass

    run = without_best(runs[0], tmp_path)
    evaluate(run, batch_size=3, workers=2, progress=progress, device="cpu", overrides=["train.seed=7"])
    ((config, seed),) = opened
    assert (config.source, seed) == ("potsdam", 7)
    arguments, options = asked["count_confusion"]
    coded = arguments[0]
    assert arguments[1:] == (3,)
    assert (coded.images, coded.batch_size, coded.workers, coded.stored) == (images, 3, 2, None)
    assert coded.predictor.device == torch.device("cpu")
    assert options.pop("counts_file").parent == run
    assert options == {"stage": "evaluating", "progress": progress}
    assert asked["score_mask_clusters"] == ((coded, 3, progress), {})
    (_, backbone, cache), options = asked["store_features"]
    assert (backbone.name, cache.one_pass) == ("rcf", True)
    assert not options.pop("unchanged").states  # the fields are made up
    assert options == {"mirrored": False, "batch_size": 3, "workers": 2, "progress": progress}
