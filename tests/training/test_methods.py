"""Every method by the same road: trained, stopped and gone on with, swept, mapped, evaluated, and reported of."""

import csv

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from safetensors.torch import load_file

import geohp
from geohp.model.card import read_card
from geohp.model.file import load_model

SMALL = [
    "data.patches=20",
    "data.patch_px=32",
    "classes.count=3",
    "train.epochs=3",
    "train.batch_size=4",
    "train.device=cpu",
    "train.checkpoint_minutes=0",
]
METHODS = {
    "probes": ["method.name=probes"],
    "stego": ["method.name=stego", "method.code_channels=8", "method.samples=5"],
    "stego-features-anew": ["method.name=stego", "method.code_channels=8", "train.cache=off"],
    "stego-ends-within-an-epoch": [
        "method.name=stego", "method.code_channels=8", "method.refit_probe=false", "train.max_steps=13",
    ],
}  # fmt: skip
STEPS = {"stego-ends-within-an-epoch": 13}


@pytest.fixture(scope="module")
def fields(tmp_path_factory):
    """A photograph of fields in three colours and their labels, 40 px each."""
    folder = tmp_path_factory.mktemp("fields")
    rng = np.random.default_rng(3)
    colours = np.array([[60, 140, 50], [128, 128, 128], [170, 110, 60]])
    labels = rng.integers(0, 3, (6, 6)).repeat(40, 0).repeat(40, 1)
    picture = np.clip(colours[labels] + rng.normal(0, 10, (240, 240, 3)), 0, 255).astype(np.uint8)
    Image.fromarray(picture).save(folder / "photograph.png")
    Image.fromarray(labels.astype(np.uint8)).save(folder / "photograph_labels.png")
    return folder


def settings_of(fields, method):
    labels = ["data.labels='{stem}_labels.png'", "data.label_classes=[a, b, c]", "data.split=block", "data.block_m=80"]
    return [f"data.images={fields / 'photograph.png'}", *labels, *SMALL, *METHODS[method]]


class Stopped(BaseException):
    """What no code of ours catches."""


def train(fields, method, out, stop_at=None, **options):
    steps = []

    def progress(stage, done, total, detail=""):
        if stage == "training":
            steps.append((done, total))
            if done == stop_at:
                raise Stopped

    return geohp.train("orthophotos", settings_of(fields, method), out=out, progress=progress, **options), steps


@pytest.fixture(scope="module", params=METHODS)
def trained(request, fields, tmp_path_factory):
    run, steps = train(fields, request.param, tmp_path_factory.mktemp("run") / "run")
    return request.param, run, steps


def test_it_trains_for_as_many_steps_as_asked_for(trained):
    method, run, steps = trained
    last = STEPS.get(method, 15)
    assert steps[-1] == (last, last)
    rows = (run.folder / "metrics.csv").read_text().splitlines()
    assert len(rows) == last + 1
    logged = set(rows[0].split(","))
    assert {"loss", "cluster", "linear"} <= logged
    if method.startswith("stego"):
        kinds = ("self", "neighbour", "random")
        assert {f"{what}_{kind}" for what in ("correspondence", "similarity") for kind in kinds} <= logged


@pytest.mark.parametrize("step", [7, 13])  # within an epoch, and at the last step of the one that ends within
def test_stopped_it_goes_on_to_the_same_bytes(fields, trained, tmp_path, step):
    method, run, _ = trained
    if step == 13 and method not in STEPS:
        pytest.skip("steps are alike")
    with pytest.raises(Stopped):
        train(fields, method, tmp_path / "run", stop_at=step)
    again = geohp.train(resume=tmp_path / "run")
    first, second = load_file(run.model), load_file(again.model)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert (run.folder / "metrics.csv").read_text() == (again.folder / "metrics.csv").read_text()


def test_its_model_file_maps_a_scene(fields, trained, tmp_path):
    method, run, _ = trained
    card = read_card(run.model)
    assert card.method == method.split("-")[0]
    assert card.code_channels == {"probes": card.in_channels}.get(card.method, 8)
    assert card.config["method"]["name"] == card.method
    with Image.open(fields / "photograph.png") as image:
        pixels = np.moveaxis(np.asarray(image), -1, 0)
    geohp.segment_file(fields / "photograph.png", tmp_path / "labels.tif", run.model)
    with rasterio.open(tmp_path / "labels.tif") as dataset:
        labels = dataset.read(1)
    assert labels.shape == pixels.shape[1:]
    assert set(np.unique(labels)) <= {0, 1, 2}
    assert len(np.unique(labels)) > 1
    model = load_model(run.model)
    assert model.linear_probe is not None
    with torch.inference_mode():
        scores = model(torch.from_numpy(pixels[None, :, :32, :32] / 255).float())
    assert scores.shape[1] == 4


def test_it_is_evaluated_as_its_figures_are_published(trained):
    method, run, _ = trained
    found = {tta: geohp.evaluate(run.folder, tta=tta, device="cpu") for tta in (None, True, False)}
    mirrored = method.startswith("stego")
    counts = {tta: [result.scores["confusion"].tolist() for result in each.results] for tta, each in found.items()}
    assert {mode.probe for _, mode in found[None].rows} == {"cluster", "linear"}
    assert counts[None] == counts[mirrored]
    assert any("mirrored image" in note for note in found[None].notes) == mirrored
    assert not any("mirrored image" in note for note in found[True].notes)


def test_its_report_shows_what_it_has(trained):
    method, run, _ = trained
    page = (run.folder / "report.html").read_text()
    for title in ("Correspondence loss", "Similarity of codes", "arXiv 2203.08414"):
        assert (title in page) == method.startswith("stego")
    assert ('id="left-out"' in page) == (method == "probes")
    assert "Positives discovered" not in page
    assert "Cluster probe" in page


@pytest.mark.parametrize("method", ["probes", "stego"])
def test_numbers_of_classes_are_compared(fields, tmp_path, method):
    settings = [each for each in settings_of(fields, method) if "classes.count" not in each]
    run = geohp.train("orthophotos", settings, out=tmp_path / "run", sweep="classes=2..4")
    with (run.folder / "sweep.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert [row["classes"] for row in rows] == ["2", "3", "4"]
    (recommended,) = (int(row["classes"]) for row in rows if row["recommended"] == "1")
    assert len(read_card(run.model).classes) == recommended


def test_epochs_follow_from_the_number_of_steps(fields, tmp_path):
    settings = [s for s in settings_of(fields, "probes") if "epochs" not in s]
    run = geohp.train("orthophotos", [*settings, "train.max_steps=12"], out=tmp_path / "run")
    assert len((run.folder / "metrics.csv").read_text().splitlines()) == 13
    assert geohp.load_config(run.folder / "config.yaml").train.epochs == 3


def test_a_seed_of_the_backbone_s_own_is_taken(fields, tmp_path):
    backbone = "backbone={name: rcf, options: {seed: 3}}"
    settings = [f"data.images={fields / 'photograph.png'}", *SMALL, "method.name=kmeans", backbone]
    run = geohp.train("orthophotos", settings, out=tmp_path / "run")
    assert read_card(run.model).backbone.options["seed"] == 3
