"""What is judged: which files under which names, how codes are read, and what readers of the figures are told."""

from types import SimpleNamespace

import pytest

from geohp.classes import LandCoverClass
from geohp.data.base import ImageSet
from geohp.evaluation import judging
from geohp.evaluation.options import EvaluationOptions
from geohp.evaluation.results import BEST, LAST
from geohp.model.runs import BEST_NAME


class Named(ImageSet):
    def __init__(self, *names):
        self.names = names

    def __len__(self):
        return len(self.names)

    def name(self, index):
        return self.names[index]

    def __getitem__(self, index):
        raise AssertionError("is not looked at")


def jobs(files, names=("a", "b"), **settings):
    return list(judging._jobs(files, Named(*names), settings))


@pytest.fixture
def run(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"last")
    return tmp_path


def test_the_best_on_labels_is_judged_besides_and_never_twice(run):
    model, best = run / "model.safetensors", run / BEST_NAME
    assert [(job.model, job.checkpoint) for job in jobs([model])] == [(model, LAST)]
    best.write_bytes(b"best")
    assert [(job.model, job.checkpoint) for job in jobs([model])] == [(model, LAST), (best, BEST)]
    assert [(job.model, job.checkpoint) for job in jobs([best])] == [(best, LAST)]


def test_unfinished_counts_belong_to_these_images_settings_and_weights(run, monkeypatch):
    model = run / "model.safetensors"
    (first,) = jobs([model], crf=True)
    assert first.counts_file.parent == run
    assert first.counts_file.name.startswith(".evaluation-")
    assert jobs([model], crf=True)[0].counts_file == first.counts_file
    others = [jobs([model], crf=False)[0], jobs([model], ("a", "c"), crf=True)[0]]
    model.write_bytes(b"trained on")
    others.append(jobs([model], crf=True)[0])
    assert len({first.counts_file, *(job.counts_file for job in others)}) == 4
    monkeypatch.setattr("os.access", lambda *_: False)
    assert jobs([model])[0].counts_file is None


def model(method="hp", smooth_scores=False):
    card = SimpleNamespace(method=method, probe="cluster", smooth_scores=smooth_scores)
    backbone = SimpleNamespace(patch_size=14, in_channels=3)
    return SimpleNamespace(codes="codes", probe="probe", linear_probe="linear", backbone=backbone, card=card)


@pytest.mark.parametrize(
    ("method", "asked", "tta"),
    [
        ("hp", None, False),
        ("stego", None, True),
        ("stego", False, False),
        ("hp", True, True),
        ("of old", None, False),
    ],
)
def test_images_are_mirrored_as_the_methods_figures_are_published_or_as_asked_for(method, asked, tta):
    predictor = judging._predictor(model(method, smooth_scores=tta), EvaluationOptions(tta=asked, crf=tta))
    assert (predictor.tta, predictor.crf, predictor.patch_px) == (tta, tta, 14)
    assert predictor.smooth_probe == ("cluster" if tta else None)
    assert (predictor.encoder, predictor.probe, predictor.linear_probe) == ("codes", "probe", "linear")


def linear(*names, members=None):
    classes = [LandCoverClass(number, name, "#000000") for number, name in enumerate(names)]
    return SimpleNamespace(classes=classes, cluster_to_class=members)


@pytest.mark.parametrize(
    ("card", "numbers", "told"),
    [
        (linear("Grass", "building", "road "), [1, 0, 2], None),
        (linear("grass", "car"), [1, 255], "the linear probe also finds car, which no label is called"),
        (linear("road", "grass", members=(0, 1, 0)), [2, 1, 2], None),
        (linear("class 0", "class 1", "class 2"), None, "are called otherwise than the labels'"),
    ],
)
def test_a_probe_s_classes_are_the_labels_of_their_names(card, numbers, told):
    labels = linear("building", "grass", "road").classes
    found, notes = judging.match_by_name(card, labels)
    assert (None if found is None else found.tolist()) == numbers
    assert told in notes[0] if told else notes == []


def test_readers_are_told_how_the_figures_came_about():
    def notes(side_px=322, linear_probe="linear", tta=False, asked=None):
        predictor = SimpleNamespace(tta=tta, patch_px=14, linear_probe=linear_probe)
        return list(judging._notes(predictor, side_px, EvaluationOptions(tta=asked)))

    assert notes() == []
    (mirrored,) = notes(tta=True)
    assert "averaged with those of the mirrored image" in mirrored
    assert notes(tta=True, asked=True) == []
    assert notes(side_px=320) == ["images of 320 px are resized to 322 px, a multiple of the backbone's patch of 14 px"]
    assert notes(linear_probe=None) == ["the model has no linear probe: it was trained without labels"]
