"""The accuracy benchmark: on drawn places of two directions, with a tiny backbone, stopped and gone on with."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from benchmarks import accuracy, places, runs
from geohp.config.loading import load_config
from geohp.errors import ConfigError, DataError
from geohp.model.file import load_model

TINY = (
    "backbone.options={patch_size: 14, filters: 8}", "data.patch_px=28", "data.input_px=28", "data.stride_px=32",
    "train.max_steps=2", "train.batch_size=4",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two places of two images each, with labels 0 for dark and 1 for light squares."""
    monkeypatch.setattr("geohp.training.report.write_run_report", lambda *_: None)  # takes longer than all the rest
    rng = np.random.default_rng(0)
    for place in "ab":
        (tmp_path / place).mkdir()
        for number in range(2):
            labels = np.kron(rng.integers(0, 2, (4, 4)), np.ones((16, 16), int)).astype(np.uint8)
            image = 60 + 120 * labels[..., None] + rng.integers(0, 40, (64, 64, 3))
            Image.fromarray(image.astype(np.uint8)).save(tmp_path / place / f"image{number}.jpg")
            Image.fromarray(labels).save(tmp_path / place / f"image{number}_labels.png")
    both = (places.Fold(("a",), ("b",)), places.Fold(("b",), ("a",)))
    monkeypatch.setitem(places.PLACES, "czech", places.LabelledPlaces(("land", "water"), both))
    return tmp_path


def command(
    folder, monkeypatch, *more, features="rcf", methods="hp,kmeans,kmeans-position,kmeans-colour", seeds=1, refine=""
):
    settings = [part for setting in TINY for part in ("--set", setting)]
    words = ["accuracy", "--data", "czech", "--images", str(folder), "--out", str(folder / "out"), "--methods", methods,
             "--features", features, "--seeds", str(seeds), "--refine", refine, *settings, *more]  # fmt: skip
    monkeypatch.setattr("sys.argv", words)
    return accuracy.main()


def lines_of(folder):
    with (folder / "out" / "results.csv").open() as file:
        return list(csv.DictReader(file))


def test_every_method_is_scored_both_ways_and_drawn(folder, monkeypatch, capsys):
    assert command(folder, monkeypatch) == 0
    lines = lines_of(folder)
    # Position is no matter without a transformer; colours are the same whatever the features.
    cells = {(line["features"], line["method"], line["judged"]) for line in lines}
    assert cells == {("rcf", method, place) for method in ("hp", "kmeans", "kmeans-colour") for place in "ab"}
    readings = [(x["probe"], x["clusters"], x["gathered"]) for x in lines if (x["method"], x["judged"]) == ("hp", "b")]
    assert readings[:2] == [("cluster", "2", "0"), ("linear", "2", "0")]
    assert readings[2:] == [("cluster", "2", "1"), ("cluster", "6", "0"), ("cluster", "6", "1")]
    best = max(float(line["miou"]) for line in lines if line["method"] == "kmeans-colour")
    assert best > 80  # dark and light are told apart
    table = (folder / "out" / "results.md").read_text()
    finer = ("kmeans", "6", "0")
    by_place = [float(x["miou"]) for x in lines if (x["method"], x["clusters"], x["gathered"]) == finer]
    row = next(line for line in table.splitlines() if line.startswith("| rcf | k-means | 1"))
    assert row.split(" | ")[8] == f"{np.mean(by_place):.1f}"
    assert Image.open(folder / "out" / "picture.png").width > 100
    said = capsys.readouterr().out
    assert said.startswith("6 of 6 runs left; how long they take is known when the first of each kind is through")
    assert "0 of 6 runs left, about 0.0 hours" in said


def test_a_study_that_was_stopped_goes_on_with_the_run_it_was_at(folder, monkeypatch, capsys):
    from geohp.training import run

    train, begun = run.train, []

    def stopped(*args, out, **rest):
        begun.append(out.name)
        if len(begun) == 2:
            out.mkdir(parents=True)
            (out / "config.yaml").write_text("half a run")
            raise KeyboardInterrupt
        return train(*args, out=out, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(run, "train", stopped)
        with pytest.raises(KeyboardInterrupt):
            command(folder, monkeypatch, methods="kmeans")
    first = json.loads((folder / "out" / "rcf-kmeans-b-seed0.json").read_text())
    assert command(folder, monkeypatch, "--dry-run", methods="kmeans") == 0
    hours = first["seconds"] / 3600
    assert f"1 of 2 runs left, about {hours:.1f} hours" in capsys.readouterr().out
    assert {line["judged"] for line in lines_of(folder)} == {"b"}  # what is done is tabulated
    begun.clear()
    monkeypatch.setattr(
        run, "train", lambda *args, out, **rest: begun.append(out.name) or train(*args, out=out, **rest)
    )
    assert command(folder, monkeypatch, methods="kmeans") == 0
    assert begun == ["rcf-kmeans-a-seed0"]
    assert json.loads((folder / "out" / "rcf-kmeans-b-seed0.json").read_text()) == first
    # A second seed begins with nothing of the first but its features; nothing that is there is made again.
    assert command(folder, monkeypatch, methods="kmeans", seeds=2) == 0
    assert begun == [f"rcf-kmeans-{place}-seed{seed}" for seed, place in ((0, "a"), (1, "b"), (1, "a"))]
    row = next(x for x in (folder / "out" / "results.md").read_text().splitlines() if x.startswith("| rcf | k-means"))
    assert " ± " in row.split(" | ")[6]


def test_covers_are_gathered_from_the_same_training(folder, monkeypatch):
    for path in folder.glob("?/*.jpg"):  # all but a corner is a meadow
        image = np.array([40, 100, 40]) + np.random.default_rng(1).integers(0, 40, (64, 64, 3))
        image[:28, :28] = 200
        Image.fromarray(image.astype(np.uint8)).save(path)
    assert command(folder, monkeypatch, "--set", "data.stride_px=8", methods="kmeans") == 0
    classes = {}
    for clustering in accuracy.Study("czech", (folder,), folder / "out", {"rcf": ()}, accuracy.METHODS).clusterings[1:]:
        probe = load_model(folder / "out" / "rcf-kmeans-b-seed0" / f"{clustering.name}.safetensors").probe
        classes[clustering.name] = (probe.classes, len(probe.clusters))
    # The meadow has several centroids, two for every class that there is.
    assert classes == {"clusters-2-gathered": (2, 5), "clusters-6": (6, 6), "clusters-6-gathered": (6, 16)}


def test_a_dry_run_needs_no_folder(folder, monkeypatch, capsys):
    assert command(folder, monkeypatch, "--dry-run", methods="kmeans") == 0
    assert lines_of(folder) == []
    assert capsys.readouterr().out.startswith("2 of 2 runs left")


@pytest.mark.parametrize(
    ("refine", "probes"),
    [("smoothed", ["cluster"]), ("crf", ["cluster", "linear"])],
)
def test_refining_comes_last_and_trains_nothing(folder, monkeypatch, refine, probes):
    assert command(folder, monkeypatch, methods="kmeans,kmeans-colour") == 0
    monkeypatch.setattr("geohp.training.run.train", None)
    before = lines_of(folder)
    assert command(folder, monkeypatch, methods="kmeans,kmeans-colour", refine=refine) == 0
    lines = lines_of(folder)
    assert [line for line in lines if line["refinement"] == "none"] == before
    refined = [line for line in lines if line["refinement"] == refine]
    gathered = {"cluster": "1", "linear": "0"}
    expected = [(m, p, x, "2", gathered[x]) for m in ("kmeans", "kmeans-colour") for p in "ab" for x in probes]
    found = [(x["method"], x["judged"], x["probe"], x["clusters"], x["gathered"]) for x in refined]
    assert sorted(found) == sorted(expected)
    head, _, *rows = (folder / "out" / "results.md").read_text().splitlines()
    title = {"smoothed": "neighbours and colour have a say", "crf": "published CRF"}[refine]
    column = head.split(" | ").index(f"2 clusters, covers gathered, {title}: accuracy")
    shown = [float(x["accuracy"]) for x in refined if (x["method"], x["probe"]) == ("kmeans", "cluster")]
    assert rows[0].split(" | ")[column] == f"{np.mean(shown):.1f}"


def test_smoothed_is_what_the_recipe_makes(folder, monkeypatch):
    """Neighbours have a say in the copy, not in the model that is scored without; scores differ accordingly."""
    rng = np.random.default_rng(2)
    for path in folder.glob("?/*.jpg"):
        pixels = np.asarray(Image.open(path)).astype(int) + rng.integers(-90, 90, (64, 64, 1))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    assert command(folder, monkeypatch, methods="kmeans-colour", refine="smoothed") == 0
    run = folder / "out" / "rcf-kmeans-colour-b-seed0"
    smooth = {name: load_model(run / name).card.smooth_scores for name in (
        "clusters-2-gathered.safetensors", "clusters-2-gathered-smoothed.safetensors")}  # fmt: skip
    assert list(smooth.values()) == [False, True]
    shown = [x for x in lines_of(folder) if (x["probe"], x["clusters"], x["gathered"]) == ("cluster", "2", "1")]
    plain, smoothed = ([x["accuracy"] for x in shown if x["refinement"] == each] for each in ("none", "smoothed"))
    assert plain != smoothed


def test_an_unknown_refinement_is_refused(folder, monkeypatch, capsys):
    assert command(folder, monkeypatch, refine="smooth") == 2
    assert "--refine smooth: unknown" in capsys.readouterr().err


def test_hp_as_published_is_potsdams():
    ours, published = load_config("orthophotos-hp"), load_config("potsdam3")
    config = load_config("orthophotos-hp", accuracy.published_hp())
    assert config.method == published.method != ours.method
    assert (config.backbone.remove_position_bias, config.backbone.colour_share) == (False, 0)
    assert (config.data, config.train) == (ours.data, ours.train)


def test_places_are_split_and_sheets_of_fields_thinned(tmp_path):
    for dataset in places.PLACES.values():
        for fold in dataset.folds:
            assert not set(fold.train) & set(fold.test)
        assert len({places.COLOURS[name] for name in dataset.classes}) == len(dataset.classes)
    (tmp_path / "VYSK").mkdir()
    for number in (*range(200, 216), 111):
        (tmp_path / "VYSK" / f"VYSK{number}_1.jpg").touch()
        (tmp_path / "VYSK" / f"VYSK{number}_1_labels.png").touch()
    names = [path.stem for path in places.images_of(tmp_path / "VYSK")]
    assert names == ["VYSK111_1", "VYSK207_1", "VYSK215_1"]
    with pytest.raises(DataError, match="BOS: no such place"):
        places.images_of_places([tmp_path], ["BOS"])


def test_features_that_cannot_be_had_are_refused():
    with pytest.raises(ConfigError, match="--features sift: unknown"):
        accuracy.feature_overrides(["sift"], None)
    with pytest.raises(ConfigError, match="--features vit: needs weights"):
        accuracy.feature_overrides(["vit"], None)
    with pytest.raises(ConfigError, match="no row x"):
        runs.chosen_rows(accuracy.METHODS, ["x"], "--methods")


def test_computing_features_is_no_part_of_training(monkeypatch):
    clock = iter([0, 1, 5, 11, 12, 40])
    monkeypatch.setattr("benchmarks.runs.time.monotonic", lambda: next(clock))
    said = []
    encoding = runs.StageClock(lambda *report: said.append(report), "computing features")
    reports = [("surveying", 1, 1), *(("computing features", done, 9) for done in (0, 4, 9)), ("training", 1, 2),
               ("training", 2, 2)]  # fmt: skip
    for report in reports:
        encoding(*report)
    assert encoding.seconds == 10
    assert said == [(*report, "") for report in reports]
