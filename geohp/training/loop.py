"""The training loop, by Lightning: devices, precision, loggers, checkpoints, and going on from one."""

from __future__ import annotations

import atexit
import csv
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from multiprocessing import active_children
from multiprocessing.util import Finalize
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
import torch.multiprocessing as multiprocessing
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.strategies import DDPStrategy
from torch.multiprocessing.spawn import ProcessException

from geohp.errors import ClusterError, ConfigError
from geohp.model.runs import CHECKPOINT_NAME, METRICS_NAME, MLFLOW, TENSORBOARD, UNFINISHED
from geohp.progress import Progress, no_progress
from geohp.training.batches import FeatureBatches
from geohp.training.checkpoints import STOPPING, Checkpoints, StoppedError, check_readable
from geohp.training.checks import check_cpu, no_logger
from geohp.training.figures import FiguresReader
from geohp.training.relay import Relay
from geohp.training.step_rows import read_step_rows
from geohp.training.task import MethodTask, StepReport

if TYPE_CHECKING:
    from geohp.config.experiment import TrainConfig

logger = logging.getLogger(__name__)

_PRECISION = {"32": "32-true", "bf16": "bf16-mixed", "fp16": None}
"""In Lightning's words; that of fp16 is a plugin of its own."""
_PATIENCE = timedelta(days=30)
"""Of processes that wait for one that scores; where one ends, the others learn of it anyway."""


def run_training(
    task: MethodTask,
    settings: TrainConfig,
    work: Path,
    progress: Progress = no_progress,
    callbacks: Sequence[L.Callback] = (),
) -> None:
    """Train to the end, from the last checkpoint in ``work`` where there is one.

    Leaves ``metrics.csv`` and a folder ``tensorboard``; what checkpoints need lies in a folder ``unfinished``, which
    the caller removes when the run is complete.

    Args:
        task: the method, ready to train.
        settings: epochs, devices, precision, loggers.
        work: the run folder.
        progress: of every step; a :class:`Relay` where several processes train, which brings back what they fail with.
        callbacks: further ones; checkpoints include their state.

    Raises:
        ConfigError: settings that this machine cannot serve.
        OutputError: a checkpoint cannot be written.
        ClusterError: one of several processes was killed.
    """
    unfinished = work / UNFINISHED
    unfinished.mkdir(exist_ok=True)
    checkpoint = unfinished / CHECKPOINT_NAME
    attempt = 1 + max((int(part.name) for part in _attempts(unfinished)), default=-1)
    accelerator = task.features.device.type
    _check(settings, accelerator)
    if checkpoint.is_file():
        check_readable(checkpoint)
    environment = LightningEnvironment()  # else a scheduler's variables would say how many processes there are,
    environment.set_global_rank(0)  # and that this one, not being its first, shall log nothing
    with (
        _quietly(), _interruptible(), _meeting_place(settings.devices), _signals_for_workers(settings.devices),
        _sharing_by_name(),
    ):  # fmt: skip
        trainer = _Trainer(
            max_epochs=settings.epochs,
            # Lightning counts the steps of all optimisers.
            max_steps=-1 if settings.max_steps is None else task.total_steps * len(task.method.optimizers()),
            accelerator=accelerator,
            devices=settings.devices,
            strategy="auto" if settings.devices == 1 else _strategy(),
            plugins=[
                environment,
                _WeightsAndTheirFolder(),
                *([_fp16(accelerator, len(task.method.optimizers()))] if settings.precision == "fp16" else []),
            ],
            precision=_PRECISION[settings.precision],  # type: ignore[arg-type]
            deterministic=True if settings.deterministic else None,
            logger=_loggers(settings, work, unfinished, attempt),
            log_every_n_steps=1,
            callbacks=[
                figures := FiguresReader(),
                StepReport(progress),
                *callbacks,
                Checkpoints(checkpoint, settings.checkpoint_minutes, figures),
                _QuietProcesses(),
            ],
            use_distributed_sampler=False,
            enable_progress_bar=False,
            enable_checkpointing=False,
            enable_model_summary=False,
        )
        trainer.relay = progress if isinstance(progress, Relay) else None
        resumed = checkpoint if checkpoint.is_file() else None
        with _naming_the_killed(trainer):
            trainer.fit(task, FeatureBatches(task), ckpt_path=resumed, weights_only=True)
    if settings.devices > 1:
        _bring_back(checkpoint, callbacks)
    merge_metrics([part / METRICS_NAME for part in _attempts(unfinished)], work / METRICS_NAME)


def merge_metrics(parts: Sequence[Path], out: Path) -> None:
    """One table of what several attempts have logged: of steps that were made twice, the last one's rows count.

    Args:
        parts: ``metrics.csv`` of every attempt, in order; those that are missing logged nothing.
        out: the table to write.
    """
    rows: list[dict[str, str]] = []
    for part in parts:
        if part.is_file() and (new := read_step_rows(part)):
            first = int(new[0]["step"])
            rows = [row for row in rows if int(row["step"]) < first] + new
    if not rows:
        return
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, sorted({name for row in rows for name in row}), restval="")
        writer.writeheader()
        writer.writerows(rows)


def _bring_back(checkpoint: Path, callbacks: Sequence[L.Callback]) -> None:
    """Let callbacks know what they came to in the processes that trained, as the last checkpoint has it."""
    states = torch.load(checkpoint, map_location="cpu", weights_only=True)["callbacks"]
    for callback in callbacks:
        if callback.state_key in states:
            callback.load_state_dict(states[callback.state_key])


def _attempts(unfinished: Path) -> list[Path]:
    """Folders of logs, in order."""
    return sorted((p for p in unfinished.iterdir() if p.is_dir() and p.name.isdigit()), key=lambda p: int(p.name))


def _loggers(settings: TrainConfig, work: Path, unfinished: Path, attempt: int) -> list[Logger]:
    """CSV and TensorBoard always, services where they are asked for."""
    (unfinished / str(attempt)).mkdir()
    loggers: list[Logger] = [
        CSVLogger(unfinished, name="", version=str(attempt)),
        TensorBoardLogger(work, name="", version=TENSORBOARD),
    ]
    for name in settings.loggers:
        try:
            loggers.append(_service(name, work))
        except ImportError as error:
            raise no_logger(name) from error
    return loggers


def _service(name: str, work: Path) -> Logger:
    if name == "wandb":
        from lightning.pytorch.loggers import WandbLogger

        return WandbLogger(name=work.name, save_dir=work, project="geohp")
    from lightning.pytorch.loggers import MLFlowLogger

    return MLFlowLogger(experiment_name="geohp", run_name=work.name, tracking_uri=f"file:{work / MLFLOW}")


def _check(settings: TrainConfig, accelerator: str) -> None:
    if accelerator == "cuda" and settings.devices > torch.cuda.device_count():
        raise ConfigError(f"train.devices = {settings.devices}: this machine has {torch.cuda.device_count()}")
    if accelerator == "cpu":
        check_cpu(settings)
    if accelerator == "mps" and settings.devices > 1:
        raise ConfigError(f"train.devices = {settings.devices}: there is one device of this kind")


def _strategy() -> DDPStrategy:
    """Processes that wait for each other, each with pools and queues of its own."""
    return DDPStrategy(start_method="spawn", timeout=_PATIENCE, broadcast_buffers=False)


class _WeightsAndTheirFolder(TorchCheckpointIO):
    """Lightning has the weights of other processes brought in a file, in a folder that it would leave behind."""

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Remove both."""
        super().remove_checkpoint(Path(path))
        with suppress(OSError):  # it may hold more
            Path(path).parent.rmdir()


class _SharedScale(torch.amp.GradScaler):
    """A scale that stays until every optimiser of a step has divided its gradients by it.

    Lightning has it changed after each of them, so that the next would divide by another than it was multiplied by.
    """

    def __init__(self, device: str, optimizers: int) -> None:
        super().__init__(device)
        self._optimizers, self._done = optimizers, 0

    def update(self, new_scale: float | torch.Tensor | None = None) -> None:
        """Once a step."""
        self._done = (self._done + 1) % self._optimizers
        if not self._done:
            super().update(new_scale)


def _fp16(accelerator: str, optimizers: int) -> MixedPrecision:
    """Half precision whose losses are scaled up, for so many optimisers a step."""
    return MixedPrecision("16-mixed", accelerator, _SharedScale(accelerator, optimizers))


class _Trainer(L.Trainer):
    """One of several processes tells what ends it, and ends without being taken apart.

    Attributes:
        relay: to where training was started.
    """

    relay: Relay | None = None

    def _fit_impl(self, *arguments: Any, **options: Any) -> None:
        if self.world_size > 1:
            Finalize(None, _leave, exitpriority=_LAST)
        try:
            super()._fit_impl(*arguments, **options)
        except StoppedError:
            raise
        except Exception as error:
            if self.relay is not None and self.world_size > 1:
                self.relay.fail(error)
            raise


_LAST = -1000
"""Where multiprocessing's own work at the end of a process comes before."""


def _leave() -> None:
    """End a process that has done its work as forked ones end: Python is not taken apart.

    Threads of gloo's may be the last to let go of a tensor that processes sent each other. They ask for Python then,
    which ends them where it is being taken apart, and with them the process, by SIGABRT.
    """
    error = sys.exc_info()[1]
    if error is None or isinstance(error, SystemExit):
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(0 if error is None else int(bool(error.code)))


@contextmanager
def _meeting_place(devices: int) -> Iterator[None]:
    """Where several processes meet: a port that is open from before they start, so that nobody takes it meanwhile."""
    if devices == 1:
        yield
        return
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    place = {"MASTER_ADDR": store.host, "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    before = {name: os.environ.pop(name, None) for name in place}
    os.environ.update(place)
    try:
        yield
    finally:
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value


@contextmanager
def _interruptible() -> Iterator[None]:
    """An interrupt is one, also where training ends in good order.

    Lightning makes it an exit code of 1, and leaves further interrupts ignored.
    """
    on_main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in STOPPING} if on_main else {}
    try:
        yield
    except StoppedError as error:
        raise KeyboardInterrupt(*error.args) from error
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt(*error.__context__.args) from error
        raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def _signals_for_workers(devices: int) -> Iterator[None]:
    """While several processes train, a signal to this one is theirs: they save and end; a second one ends them."""
    if devices == 1 or threading.current_thread() is not threading.main_thread():
        yield
        return
    asked, others = 0, active_children()

    def pass_on(number: int, frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt(number)
        asked = number
        logger.info("stopping after this step")
        for process in set(active_children()).difference(others):
            if process.pid is not None:
                os.kill(process.pid, signal.SIGTERM)

    for number in STOPPING:
        signal.signal(number, pass_on)
    try:
        yield
    except ProcessException as error:
        if asked:
            raise StoppedError(asked) from error
        raise


@contextmanager
def _naming_the_killed(trainer: L.Trainer) -> Iterator[None]:
    """Where a process that trains was killed, the others only complain that they cannot reach it."""
    try:
        yield
    except ProcessException as error:
        launcher = trainer.strategy.launcher
        codes = [process.exitcode or 0 for process in getattr(launcher, "procs", ())]
        # Those that are left are asked to end.
        killed = [signal.Signals(-code).name for code in codes if code < 0 and -code not in STOPPING]
        if not killed:
            raise
        problem = (
            f"one of {len(codes)} processes that train was ended by {killed[0]}, as it happens where memory runs out"
        )
        raise ClusterError(problem, "train on fewer devices or with a smaller train.batch_size") from error


@contextmanager
def _sharing_by_name() -> Iterator[None]:
    """Tensors go to other processes as named shared memory: handed over as open files, no two may share a storage."""
    usual = multiprocessing.get_sharing_strategy()  # type: ignore[no-untyped-call]
    multiprocessing.set_sharing_strategy("file_system")  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        multiprocessing.set_sharing_strategy(usual)  # type: ignore[no-untyped-call]


_SPEAKERS = ("lightning.pytorch", "lightning.fabric", "torch.multiprocessing.spawn")


def _silence_lightning() -> None:
    for name in _SPEAKERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\..*")


class _QuietProcesses(L.Callback):
    """Lightning is as quiet in other processes that train: it is silenced as this arrives there, before it starts."""

    def __reduce__(self) -> tuple[Callable[[], _QuietProcesses], tuple[()]]:
        return _quiet_process, ()


def _quiet_process() -> _QuietProcesses:
    _silence_lightning()
    return _QuietProcesses()


@contextmanager
def _quietly() -> Iterator[None]:
    """Without Lightning's banners and advice: what it says of devices and workers is not the user's concern."""
    loggers = [logging.getLogger(name) for name in _SPEAKERS]
    levels = [each.level for each in loggers]
    try:
        with warnings.catch_warnings():
            _silence_lightning()
            yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)
