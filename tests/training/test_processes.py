"""Training over two processes: what one process gives that looks for positives in each half of a batch by itself."""

import atexit
import copy
import logging
import multiprocessing
import os
import signal
import socket
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from PIL import Image
from safetensors.torch import load_file

import geohp
from geohp.config.experiment import TrainConfig
from geohp.config.loading import load_config
from geohp.data.factory import open_data
from geohp.errors import ClusterError, ConfigError, DataError, TrainingError
from geohp.methods.base import Batch
from geohp.methods.factory import create_method
from geohp.progress import no_progress
from geohp.training.checks import check_cpu
from geohp.training.fit import TrainingData, _prepare
from geohp.training.health import Health
from geohp.training.loop import _interruptible, _signals_for_workers

EPOCHS, BATCH = 2, 3
SETTINGS = [
    "data.patches=12",
    "data.patch_px=48",
    "method.pool_size=12",
    "method.code_channels=8",
    "method.local_positives=true",
    "method.warmup_steps=1",
    "method.renew_interval=1",
    "method.dropout=0.0",
    "method.refit_probe=false",
    "classes.count=3",
    "classes.split_covers=true",  # the clusters as training left them
    f"train.epochs={EPOCHS}",
    f"train.batch_size={BATCH}",
    "train.device=cpu",
]


@pytest.fixture
def photograph(tmp_path):
    rng = np.random.default_rng(3)
    colours = np.array([[60, 140, 50], [128, 128, 128], [170, 110, 60]])
    fields = colours[rng.integers(0, 3, (6, 6))].repeat(40, 0).repeat(40, 1)
    path = tmp_path / "photograph.png"
    Image.fromarray(np.clip(fields + rng.normal(0, 10, fields.shape), 0, 255).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def labels(tmp_path):
    path = tmp_path / "photograph_labels.png"
    Image.fromarray(np.arange(240 * 240, dtype=np.uint8).reshape(240, 240) % 3).save(path)
    return path


def one_process(photograph):
    """Head and centroids after the same steps, gradients of both halves averaged by hand."""
    config = load_config("orthophotos-hp", [f"data.images={photograph}", *SETTINGS])
    images = open_data(config.data, 0).training()
    method, source = _prepare(config, TrainingData(images), no_progress)
    optimizers = method.optimizers()
    loaders = [source.batches(rank, 2) for rank in (0, 1)]
    total, step = EPOCHS * len(loaders[0]), 0
    for _ in range(EPOCHS):
        for number, halves in enumerate(zip(*loaders, strict=True)):
            method.before_step(number, source.sample)
            for optimizer in optimizers:
                optimizer.zero_grad()
            before = copy.deepcopy(method.averaged.state_dict())
            for half in halves:
                # Each process moves its own copy of the average, once.
                method.averaged.load_state_dict(before)
                losses = method.losses(Batch(source.patches(half)), step=step, total_steps=total)
                (torch.stack(list(losses.values())).sum() / 2).backward()
            method.clip_gradients()
            for optimizer in optimizers:
                optimizer.step()
            step += 1
    return method


@pytest.fixture
def taken_port(monkeypatch):
    """One that others hold by when the processes meet, in an environment that says to meet there."""
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = other.getsockname()[1]
        monkeypatch.setenv("MASTER_PORT", str(port))
        monkeypatch.setattr("lightning.fabric.plugins.environments.lightning.find_free_network_port", lambda: port)
        yield str(port)


def test_two_processes_give_what_one_gives_on_both_halves(
    photograph, labels, tmp_path, caplog, capfd, taken_port, monkeypatch
):
    # The last task of four of a job on a cluster.
    for name, value in (("SLURM_NTASKS", "4"), ("SLURM_PROCID", "3"), ("SLURM_JOB_NAME", "train")):
        monkeypatch.setenv(name, value)
    told = []
    caplog.set_level(logging.INFO, "geohp")

    def stop(stage, done, total, detail=""):
        told.append((stage, done))
        if stage == "training" and done == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    settings = [f"data.images={photograph}", f"data.labels={labels}", *SETTINGS, "train.score_every=2"]
    with pytest.raises(KeyboardInterrupt):
        geohp.train("orthophotos-hp", [*settings, "train.devices=2"], out=tmp_path / "run", progress=stop)
    assert "stopping after this step" in caplog.messages
    run = geohp.train(resume=tmp_path / "run", progress=lambda stage, done, *_: told.append((stage, done)))
    assert os.environ["MASTER_PORT"] == taken_port
    said = "".join(capfd.readouterr())
    assert not any(word in said.lower() for word in ("lightning", "distributed", "weights_only", "trainer."))
    expected = one_process(photograph)
    found = load_file(run.model)
    for name, value in expected.head.state_dict().items():
        torch.testing.assert_close(found[f"head.{name}"], value, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["probe.clusters"], expected.probe.clusters.detach(), rtol=1e-4, atol=1e-5)
    # What the other processes tell arrives here.
    assert [done for stage, done in told if stage == "training"] == [1, 2, 3, 4]
    assert len((run.folder / "metrics.csv").read_text().splitlines()) == 1 + 4
    # One of them scores, and does not wait for the other.
    assert [row.split(",")[0] for row in (run.folder / "scores.csv").read_text().splitlines()] == ["epoch", "2"]
    assert any(stage == "scoring" for stage, _ in told)
    assert "Confusion" in (run.folder / "report.html").read_text()


class Ending(Health):
    """Writes down how each process ends."""

    def on_fit_start(self, trainer, *arguments):
        super().on_fit_start(trainer, *arguments)
        folder = Path(os.environ["TMPDIR"])
        assert trainer.strategy._timeout.days > 1  # or none would wait for one that scores
        atexit.register((folder / f"in good order {trainer.global_rank}").touch)
        sys.taken_apart = TakenApart(folder / f"taken apart {trainer.global_rank}")


class TakenApart:
    """Tells when it goes."""

    def __init__(self, path):
        self.path, self.touch = str(path), os.mkdir  # modules may have gone before

    def __del__(self):
        self.touch(self.path)


def test_what_epochs_of_several_processes_warn_of_is_in_the_run_and_said_once(
    photograph, tmp_path, monkeypatch, caplog
):
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # of the processes
    monkeypatch.setattr("geohp.training.fit.Health", Ending)
    settings = [f"data.images={photograph}", *SETTINGS, "train.devices=2", "train.max_steps=1", "classes.count=40"]
    run = geohp.train("orthophotos-hp", settings, out=tmp_path / "run")
    said = [record.getMessage() for record in caplog.records if record.name == "geohp.training.health"]
    assert said == list(run.warnings)
    assert any(sentence.startswith("epoch 1: ") and "no patches" in sentence for sentence in said)
    left = {each.name for each in tmp_path.iterdir() if not each.name.startswith("torch-shm-dir-")}  # torch's own
    # Threads of gloo's that ask for Python while it is taken apart would end a process by SIGABRT.
    assert left == {"photograph.png", "run", "in good order 0", "in good order 1"}


class Drawing(Health):
    """Has each process draw other numbers of torch's own than the others, as on a GPU of its own."""

    def on_train_batch_end(self, trainer, *_):
        torch.rand(1 + trainer.global_rank)


def test_of_several_processes_each_goes_on_with_its_own_random_numbers(photograph, tmp_path, monkeypatch):
    monkeypatch.setattr("geohp.training.fit.Health", Drawing)
    settings = [f"data.images={photograph}", *SETTINGS, "method.dropout=0.3", "train.devices=2"]

    def stop(stage, done, *_):
        if stage == "training" and done == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    whole = geohp.train("orthophotos-hp", settings, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        geohp.train("orthophotos-hp", settings, out=tmp_path / "run", progress=stop)
    again = geohp.train(resume=tmp_path / "run")
    expected, found = load_file(whole.model), load_file(again.model)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_what_one_of_several_processes_fails_with_is_what_training_fails_with(photograph, tmp_path, capfd):
    settings = [f"data.images={photograph}", *SETTINGS, "train.devices=2", "method.learning_rates.head=1e30"]
    with pytest.raises(TrainingError, match=r"step \d: .* the training has most likely diverged"):
        geohp.train("orthophotos-hp", settings, out=tmp_path / "run")
    said = "".join(capfd.readouterr()).splitlines()
    gloo = "[Gloo] "  # torch 2.9 prints a line a process
    assert [line for line in said if not line.startswith(("geohp: ", gloo))] == []


class Killed(Health):
    """Ends the second process without a word."""

    def on_train_batch_start(self, trainer, *_):
        if trainer.global_rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)


class Faulty(Health):
    """Fails in the second process."""

    def on_train_batch_start(self, trainer, *_):
        if trainer.global_rank == 1:
            raise KeyError("a mistake of ours")


@pytest.mark.parametrize(
    ("health", "kind", "said"),
    [(Killed, ClusterError, "one of 2 processes that train was ended by SIGKILL"), (Faulty, KeyError, "of ours")],
)
def test_what_ends_a_process_is_said_plainly(photograph, tmp_path, monkeypatch, health, kind, said):
    monkeypatch.setattr("geohp.training.fit.Health", health)
    with pytest.raises(kind, match=said) as raised:
        geohp.train("orthophotos-hp", [f"data.images={photograph}", *SETTINGS, "train.devices=2"], out=tmp_path / "run")
    assert kind is ClusterError or "in on_train_batch_start" in "".join(raised.value.__notes__)


@pytest.mark.parametrize("name", ["hp", "stego", "maskcontrast"])
def test_what_asks_for_gradients_is_what_learns_by_them(name):
    """Several processes wait for the gradients of all that asks for them, and end in an error where some never come."""
    method = create_method(load_config("orthophotos", [f"method.name={name}"]).method, 8, 3, label_classes=0, seed=0)
    learning = {id(p) for optimizer in method.optimizers() for group in optimizer.param_groups for p in group["params"]}
    assert {id(p) for p in method.parameters() if p.requires_grad} == learning


def test_a_signal_is_for_processes_that_train_alone():
    other = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))
    other.start()
    try:
        with _interruptible(), _signals_for_workers(2):
            os.kill(os.getpid(), signal.SIGTERM)
            other.join(2)
        assert other.is_alive()
    finally:
        other.kill()
        other.join()


def test_from_a_notebook_several_processes_are_refused_at_once(photograph, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.ps1", ">>> ", raising=False)
    settings = [f"data.images={photograph}", *SETTINGS, "train.devices=2"]
    with pytest.raises(ConfigError, match=r"train\.devices = 2: a notebook"):
        geohp.train("orthophotos-hp", settings, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_later_task_of_a_scheduler_s_logs_too(photograph, tmp_path, monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 3)  # as Lightning reads SLURM_PROCID when it is imported
    run = geohp.train("orthophotos-hp", [f"data.images={photograph}", *SETTINGS], out=tmp_path / "run")
    assert len((run.folder / "metrics.csv").read_text().splitlines()) == 1 + 8


def test_more_devices_than_there_are_is_one_sentence(photograph, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    from geohp.training.loop import _check

    config = load_config("orthophotos-hp", [f"data.images={photograph}", "train.devices=2"])
    with pytest.raises(ConfigError, match=r"train\.devices = 2: this machine has 1"):
        _check(config.train, "cuda")


def test_more_processes_than_processors_are_refused_at_once(photograph, tmp_path, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    settings = [f"data.images={photograph}", *SETTINGS, "train.devices=3"]
    with pytest.raises(ConfigError, match=r"train\.devices = 3: this machine has 1 processor"):
        geohp.train("orthophotos-hp", settings, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    check_cpu(TrainConfig(devices=2))
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    check_cpu(TrainConfig(devices=3))


def test_fewer_images_than_processes_are_refused(photograph, tmp_path):
    settings = [f"data.images={photograph}", *SETTINGS, "data.patches=1", "train.devices=2"]
    with pytest.raises(DataError, match=r"train\.devices = 2: there are 1 training images"):
        geohp.train("orthophotos-hp", settings, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_half_precision_trains(photograph, tmp_path):
    settings = [f"data.images={photograph}", *SETTINGS]
    run = geohp.train("orthophotos-hp", [*settings, "train.precision=bf16"], out=tmp_path / "run")
    assert all(torch.isfinite(value).all() for value in load_file(run.model).values())
    with pytest.raises(ConfigError, match=r"train\.precision = fp16"):
        geohp.train("orthophotos-hp", [*settings, "train.precision=fp16"], out=tmp_path / "other")
    assert not (tmp_path / "other").exists()
