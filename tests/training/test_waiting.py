"""Nothing in a step waits for a GPU: shown on tensors that claim to lie on one, and on figures that are late."""

from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from waits import Waits, need_pretended_tensors

from geohp.backbones.base import PatchFeatures
from geohp.errors import TrainingError
from geohp.features.host_copy import HostCopy
from geohp.methods.base import Batch
from geohp.methods.hp import loss
from geohp.methods.hp.method import HP
from geohp.methods.hp.settings import HPSettings
from geohp.training import figures as figures_module
from geohp.training.figures import FiguresReader
from geohp.training.health import Health


def on_a_gpu(method_settings, half):
    """What a step asks of a GPU that there is not: shapes and devices alone are computed."""
    with FakeTensorMode(allow_non_fake_inputs=True), Waits() as waits:
        with torch.device("cuda"):
            method = HP(32, 3, HPSettings(code_channels=16, pool_size=8, **method_settings), label_classes=3)
            maps, affinities = torch.randn(4, 32, 4, 4), torch.rand(4, 16, 9)
            labels = torch.randint(0, 3, (4, 32, 32))
        assert maps.is_cuda
        waits.seen.clear()
        batch = Batch(PatchFeatures(maps, affinities), PatchFeatures(maps), labels=labels)
        method.before_step(20, lambda count: [maps])
        with torch.autocast("cuda", torch.bfloat16, enabled=half):
            losses = method.losses(batch, step=50, total_steps=100)
        torch.stack(list(losses.values())).sum()
        torch.stack([value for value in method.step_figures().values() if isinstance(value, torch.Tensor)])
    return waits.seen


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(
    "settings", [{"warmup_steps": 0}, {"keep_rate": 0.5, "consistency_weight": 0.1}, {"symmetric_positives": False}]
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_step_waits_for_nothing(settings, half, monkeypatch):
    need_pretended_tensors()
    monkeypatch.setattr(loss, "fused", lambda *_: None)  # asks a driver what card there is
    assert on_a_gpu(settings, half) == []


def test_waits_are_seen():
    need_pretended_tensors()
    with Waits() as waits:
        values = torch.arange(3.0)
        float(values.sum())
        values[values > 1]
    assert any("_local_scalar_dense" in name for name in waits.seen)
    assert any("index" in name for name in waits.seen)
    with FakeTensorMode(), Waits() as waits:
        there = torch.arange(3.0, device="cuda")
        there[[0, -1]] = 0
        there.to("cpu", non_blocking=True)
        torch.arange(3.0).to("cuda", non_blocking=True)
        torch.arange(3.0).to("cuda")
    copies = [name.partition(" ")[2] for name in waits.seen]
    assert copies[-2:] == ["from cuda:0 to cpu", "from cpu to cuda:0"]
    # The list of places has to be sent there, too; where there is a card, torch does so out of sight.
    assert torch.cuda.is_available() or copies[0] == "from cpu to cuda:0"


class Late(HostCopy):
    """Figures that reach the host later."""

    come = False

    @property
    def arrived(self):
        return self.come


class Logger:
    def __init__(self):
        self.rows = []

    def log_metrics(self, metrics, step):
        self.rows.append((step, metrics["loss"], metrics["epoch"]))

    def save(self):
        pass


@pytest.fixture
def training(monkeypatch):
    """A reader of figures that are late, and what it needs of a trainer."""
    copies = []

    def late(tensor):
        copies.append(Late(tensor))
        return copies[-1]

    monkeypatch.setattr(figures_module, "HostCopy", late)
    health = Health()
    trainer = SimpleNamespace(loggers=[Logger()], callbacks=[health], current_epoch=0, precision="bf16-mixed")
    task = SimpleNamespace(figures={}, steps_done=0, method=SimpleNamespace(head_learning_rate=0.1))
    reader = FiguresReader()

    def step(value):
        task.figures, task.steps_done = {"loss": torch.tensor(value), "lambda": 0.5}, task.steps_done + 1
        reader.on_train_batch_end(trainer, task)

    return SimpleNamespace(reader=reader, trainer=trainer, task=task, step=step, copies=copies)


def test_figures_come_in_order_when_they_are_there(training):
    rows = training.trainer.loggers[0].rows
    training.step(1.0)
    training.step(2.0)
    assert rows == []
    training.copies[1].come = True
    training.step(3.0)
    assert rows == []  # the first is not there yet
    training.copies[0].come = True
    training.step(4.0)
    assert rows == [(0, 1.0, 0.0), (1, 2.0, 0.0)]
    training.reader.on_train_epoch_end(training.trainer, training.task)
    assert [row[:2] for row in rows] == [(0, 1.0), (1, 2.0), (2, 3.0), (3, 4.0)]


def test_the_host_does_not_run_ahead_without_end(training, monkeypatch):
    monkeypatch.setattr(figures_module, "_MOST_WAITING", 2)
    for value in range(5):
        training.step(float(value))
    assert [row[0] for row in training.trainer.loggers[0].rows] == [0, 1, 2]


def test_numbers_that_broke_some_steps_ago_end_training_before_it_is_saved(training):
    training.step(1.0)
    training.step(float("nan"))
    training.step(2.0)
    with pytest.raises(TrainingError, match=r"^step 2: loss = nan"):
        training.reader.catch_up(training.trainer, training.task)
