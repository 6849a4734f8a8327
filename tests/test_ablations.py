"""The ablation: its tables of rows, and the command that runs them on small images of squares."""

import csv

import numpy as np
import pytest
from PIL import Image

from benchmarks import ablations, runs
from geohp.config.loading import load_config, packaged_configs
from geohp.errors import ConfigError, OutputError


@pytest.mark.parametrize("table", sorted(path.stem for path in runs.TABLES.glob("*.yaml")))
def test_every_row_fits_every_configuration_of_hp(table):
    rows = runs.read_rows(table)
    published = [name for name in packaged_configs() if load_config(name).method.name == "hp"]
    assert len(published) >= 4
    for name in published:
        configs = [load_config(name, row.overrides) for row in rows]
        assert all(a != b for i, a in enumerate(configs) for b in configs[:i])
        assert load_config(name) in configs
        assert all(config.data == configs[0].data for config in configs)


def test_the_rows_of_hp_leave_out_one_kind_after_another():
    left_out = {row.name: load_config("orthophotos-hp", row.overrides).method.left_out for row in runs.read_rows("hp")}
    agnostic, specific, local = "task-agnostic positives", "task-specific positives", "local positives"
    assert left_out == {
        "a": (), "b": (local,), "c": ("symmetric positives",), "d": (specific,), "e": (agnostic,),
        "f": (agnostic, specific, local),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n", "not a table of rows"),
        ("a: [x]\n", "not a table of rows"),
        ("a: {title: A}\n", "not a table of rows"),
        ("a: {title: A, set: [1]}\n", "not a table of rows"),
        ("../a: {title: A, set: []}\n", "not a table of rows"),
        ("a: {title: A, set: [\n", "not a table of rows"),
        ("a: {title: A, set: []}\n", "no row z"),
    ],
)
def test_a_table_of_another_form_is_refused(text, said, tmp_path):
    path = tmp_path / "rows.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        runs.read_rows(str(path), ["z"])
    with pytest.raises(ConfigError, match=r"no such table.*hp, methods"):
        runs.read_rows(str(tmp_path / "none"))


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """Four folders of images with labels, 0 for dark and 1 for light squares."""
    monkeypatch.setattr("geohp.training.report.write_run_report", lambda *_: None)  # takes longer than all the rest
    rng = np.random.default_rng(0)
    for name in "abcd":
        labels = np.kron(rng.integers(0, 2, (4, 4)), np.ones((16, 16), int)).astype(np.uint8)
        image = 60 + 120 * labels[..., None] + rng.integers(0, 40, (64, 64, 3))
        (tmp_path / f"tiles_{name}").mkdir()
        Image.fromarray(image.astype(np.uint8)).save(tmp_path / f"tiles_{name}" / "image.png")
        Image.fromarray(labels).save(tmp_path / f"tiles_{name}" / "image_labels.png")
    settings = (
        f"data.images=[{tmp_path}]", 'data.labels="{stem}_labels.png"', "data.label_classes=[dark, light]",
        "data.split=folder", "data.patches=8", "data.patch_px=32", "backbone.options={filters: 8}",
        "method.code_channels=4", "classes.count=2", "train.batch_size=4", "train.max_steps=2",
        f"train.cache_dir={tmp_path}/features",
    )  # fmt: skip
    return ablations.Experiment("orthophotos-hp", settings, tmp_path / "out")


def test_rows_and_seeds_are_run_once_and_tabulated(experiment, monkeypatch):
    rows = runs.read_rows("hp", ["a", "f"])
    (first,) = ablations.run_ablation(experiment, rows[:1], 1)
    assert (first.row.name, first.seed) == ("a", 0)
    assert first.figures.keys() == set(ablations.FIGURES)

    # A run that is trained is only scored; what is scored is not run again; rows and seeds are added.
    (experiment.out / "a-seed0.json").unlink()
    from geohp.training import run

    trained = []
    train = run.train
    monkeypatch.setattr(
        run, "train", lambda *args, out, **rest: trained.append(out.name) or train(*args, out=out, **rest)
    )
    scores = list(ablations.run_ablation(experiment, rows, 2))
    assert sorted(trained) == ["a-seed1", "f-seed0", "f-seed1"]
    assert scores[0].figures == first.figures
    assert (first.scores.train_seconds is None, scores[0].scores.train_seconds) == (False, None)
    assert list(ablations.run_ablation(experiment, rows, 2)) == scores
    with (experiment.out / "results.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [(line["row"], line["seed"]) for line in lines] == [(n, s) for s in "01" for n in "af"]
    assert float(lines[1]["linear_miou"]) == pytest.approx(scores[1].figures["linear_miou"], abs=1e-3)

    values = np.array([score.figures["cluster_miou"] for score in scores if score.row.name == "f"])
    cell = f"{values.mean():.1f} ± {values.std(ddof=1):.1f}"
    last = next(line for line in (experiment.out / "results.md").read_text().splitlines() if line.startswith("| f"))
    assert last.split(" | ")[1:3] == ["naive contrast", "2"]
    assert last.split(" | ")[4] == cell
    assert cell in ablations.show_table(rows, scores, 120)


def test_an_interrupted_run_is_begun_anew(experiment, monkeypatch):
    from geohp.training import run

    train = run.train

    def interrupted(*args, progress, **rest):
        def stop(stage, done, total, words=""):
            if stage == "training" and done == 4:
                raise KeyboardInterrupt

        return train(*args, progress=stop, **rest)

    several_epochs = [each for each in experiment.overrides if "max_steps" not in each]
    longer = ablations.Experiment("orthophotos-hp", (*several_epochs, "train.epochs=3"), experiment.out)
    rows = runs.read_rows("hp", ["a"])
    with monkeypatch.context() as patch:
        patch.setattr(run, "train", interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(ablations.run_ablation(longer, rows, 1))
    assert (experiment.out / "a-seed0" / "unfinished").is_dir()
    (score,) = ablations.run_ablation(longer, rows, 1)
    assert score.scores.train_seconds > 0
    assert score.figures["cluster_accuracy"] >= 50
    # Other settings are another ablation.
    with pytest.raises(OutputError, match=r"a-seed0\.yaml: was made with other settings; name another folder"):
        list(ablations.run_ablation(experiment, rows, 1))
