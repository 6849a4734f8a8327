"""Which state is kept as the best on labels, and what an interrupted training knows of its scores."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from geohp.evaluation.metrics import SegmentationMetrics
from geohp.model.runs import SCORES_NAME
from geohp.training.scoring import LabelScores

# Accuracy and mean IoU of the clusters, then of the linear probe.
FIGURES = ("cluster_accuracy", "cluster_miou", "linear_accuracy", "linear_miou")


class Method(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(1, 1, bias=False)


class Run:
    """Steps of an epoch as the loop calls for them; the head's weight is the number of the step."""

    def __init__(self, work, scores, *, steps_done=0, every=1, steps=0, rank=0):
        self.callback = LabelScores(None, 2, every=every, steps=steps, work=work)
        figures = iter(scores)
        self.callback._scores = lambda method, features: dict(zip(FIGURES, next(figures), strict=False))
        features = SimpleNamespace(state=dict, restore=lambda state: None)
        self.task = SimpleNamespace(method=Method(), features=features, steps_done=steps_done)
        self.trainer = SimpleNamespace(is_global_zero=rank == 0, current_epoch=0)
        (work / "unfinished").mkdir(exist_ok=True)
        self.callback.on_train_start(self.trainer, self.task)

    def epochs(self, *lengths):
        for length in lengths:
            for index in range(length):
                self.task.steps_done += 1
                torch.nn.init.constant_(self.task.method.head.weight, self.task.steps_done)
                self.callback.on_train_batch_end(self.trainer, self.task, None, None, index)
            self.callback.on_train_epoch_end(self.trainer, self.task)
            self.trainer.current_epoch += 1

    @property
    def kept(self):
        """The step of the best state."""
        return int(load_file(self.callback.best_file)["head.weight"])


def rows(work):
    with (work / SCORES_NAME).open(newline="") as file:
        return [(int(row["epoch"]), int(row["step"])) for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([(50, 30, 60, 40), (40, 35, 60, 40), (50, 29, 60, 40)], 1),  # not the largest mean IoU of the clusters
        ([(50, 30, 60, 40), (40, 30, 70, 41), (40, 40, 60, 40)], 2),  # the linear probe counts as much
        ([(50, 30, 60, 40), (40, 40, 60, 40), (50, 29, 60, 40)], 2),  # of equal sums the latest
        ([(50, 30), (51, 31), (49, 33)], 3),  # without a linear probe
    ],
)
def test_the_best_has_the_largest_sum(scores, best, tmp_path):
    run = Run(tmp_path, scores)
    run.epochs(1, 1, 1)
    assert run.kept == best
    kept = run.callback.best(Method())
    assert kept.head.weight.item() == best
    assert not kept.training


def test_it_scores_within_epochs_and_at_their_ends_once(tmp_path):
    run = Run(tmp_path, [(1, 1, 1, 1)] * 6, steps=2)
    run.epochs(5, 4)
    assert rows(tmp_path) == [(1, 2), (1, 4), (1, 5), (2, 7), (2, 9)]
    assert run.kept == 9


def test_epochs_may_be_left_out_and_others_do_not_score(tmp_path):
    run = Run(tmp_path, [(1, 1, 1, 1)], every=2)
    run.epochs(3, 3, 3)
    assert rows(tmp_path) == [(2, 6)]
    other = Run(tmp_path, [], steps=1, rank=1)
    other.epochs(2)
    assert rows(tmp_path) == [(2, 6)]


def test_steps_that_are_made_again_are_scored_again(tmp_path):
    Run(tmp_path, [(9, 1, 1, 1), (1, 1, 1, 1), (1, 1, 1, 1)], steps=2).epochs(5)
    assert rows(tmp_path) == [(1, 2), (1, 4), (1, 5)]
    run = Run(tmp_path, [], steps_done=3)
    assert rows(tmp_path) == [(1, 2)]
    assert run.kept == 2


@pytest.mark.parametrize("end", ["1,", "1,4,9,9,", "1,4,9,9,9,9", "\r\n", "\x00\xff\r\n"])
def test_a_row_that_a_full_disk_has_cut_off_is_left_out(tmp_path, end):
    Run(tmp_path, [(9, 1, 1, 1)], steps=2).epochs(2)
    with (tmp_path / SCORES_NAME).open("ab") as file:
        file.write(end.encode("latin-1"))
    run = Run(tmp_path, [(1, 1, 1, 1)], steps_done=2)
    run.epochs(1)
    assert rows(tmp_path) == [(1, 2), (1, 3)]


def test_killed_as_it_forgets_scores_of_steps_that_are_made_again_it_keeps_the_others(tmp_path, monkeypatch):
    Run(tmp_path, [(1, 1, 1, 1), (2, 2, 2, 2)]).epochs(1, 1)
    before = (tmp_path / SCORES_NAME).read_bytes()

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(csv.DictWriter, "writerow", killed)
    with pytest.raises(KeyboardInterrupt):
        Run(tmp_path, [(2, 2, 2, 2)], steps_done=2)
    assert (tmp_path / SCORES_NAME).read_bytes() == before


def test_the_last_scores_go_on_with_a_training(tmp_path):
    metrics = SegmentationMetrics(2, 3)
    metrics.update(torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 1, 0]))
    one, other = (LabelScores(None, 2, every=1, steps=0, work=tmp_path) for _ in range(2))
    one.last = {"cluster": metrics.compute()}
    torch.save(one.state_dict(), tmp_path / "state")
    other.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    assert other.last.keys() == {"cluster"}
    assert other.last["cluster"].keys() == one.last["cluster"].keys()
    for name, value in one.last["cluster"].items():
        assert type(other.last["cluster"][name]) is type(value)
        np.testing.assert_array_equal(other.last["cluster"][name], value)


def test_scoring_draws_nothing_of_what_the_training_draws(tmp_path):
    run = Run(tmp_path, [(1, 1, 1, 1)])
    plain = run.callback._scores
    run.callback._scores = lambda *arguments: torch.rand(3) is not None and plain(*arguments)
    before = torch.get_rng_state()
    run.epochs(1)
    assert rows(tmp_path) == [(1, 1)]
    assert torch.equal(torch.get_rng_state(), before)


def test_what_is_finished_to_be_scored_goes_on_unfinished(tmp_path, monkeypatch):
    class Finished(Method):
        probe = linear_probe = None

        def finish(self, sample):
            torch.nn.init.constant_(self.head.weight, 99)

    monkeypatch.setattr("geohp.training.scoring.CodedImages", SimpleNamespace)
    monkeypatch.setattr("geohp.training.scoring.count_confusion", lambda *_, **__: SimpleNamespace(scores=dict))
    features = SimpleNamespace(sample=None, backbone=SimpleNamespace(patch_size=8), batch_size=1, workers=0)
    method = Finished()
    before = method.head.weight.item()
    LabelScores(None, 2, every=1, steps=0, work=tmp_path)._scores(method, features)
    assert method.head.weight.item() == before
    assert method.training
