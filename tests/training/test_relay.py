"""What processes tell of themselves arrives where they were started, whatever happens there."""

import itertools
import logging
import os
import re
import signal
import time
from types import SimpleNamespace

import pytest
import torch.multiprocessing as multiprocessing
from torch.multiprocessing.spawn import ProcessException

from geohp.errors import ClusterError, OutputError, TrainingError
from geohp.training.checkpoints import Checkpoints
from geohp.training.figures import FiguresReader
from geohp.training.relay import Relay


def _fail(rank, relay):
    error = TrainingError("step 3: loss = nan", "begin anew, or {option}", option="resume", value="run")
    relay.fail(error)
    raise error


def _die_as_it_tells(rank, relay):
    relay("training", 1, 2)
    relay._queue._wlock.acquire()
    relay._queue._writer._send(b"\0\0\0\7half")
    os.kill(os.getpid(), signal.SIGKILL)


def _tell_without_end(rank, relay):
    for number in itertools.count():
        relay("training", number, 0)


def test_an_error_of_another_process_is_raised_here():
    relay = Relay(lambda *_: None)
    with pytest.raises(TrainingError, match="begin anew, or resume='run'"), relay.listening():
        multiprocessing.spawn(_fail, (relay,), 1)


class _UnpicklableError(Exception):
    def __init__(self, one, two):
        super().__init__(one)


def _fail_otherwise(rank, relay, error):
    try:
        raise error
    except Exception as raised:
        relay.fail(raised)
        raise


@pytest.mark.parametrize("error", [FileNotFoundError(2, "No such file", "a.tif"), MemoryError("1 TiB"), KeyError("a")])
def test_any_error_of_another_process_is_raised_here_with_its_traceback(error):
    relay = Relay(lambda *_: None)
    with pytest.raises(type(error)) as raised, relay.listening():
        multiprocessing.spawn(_fail_otherwise, (relay, error), 1)
    assert str(raised.value) == str(error)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__
    (note,) = raised.value.__notes__
    assert note.startswith("In another process:\nTraceback (most recent call last):\n")
    assert "in _fail_otherwise" in note


def _fail_unlike_any(rank, relay):
    _fail_otherwise(rank, relay, _UnpicklableError("a", "b"))


def test_an_error_that_cannot_travel_is_told_as_text():
    relay = Relay(lambda *_: None)
    with pytest.raises(ProcessException, match="_UnpicklableError: a"), relay.listening():
        multiprocessing.spawn(_fail_unlike_any, (relay,), 1)


def test_a_listener_that_raises_ends_the_processes():
    class StoppedError(Exception):
        pass

    def progress(stage, done, total, detail=""):
        if done == 3:
            raise StoppedError(done)

    relay = Relay(progress)
    with pytest.raises(StoppedError), relay.listening():
        multiprocessing.spawn(_tell_without_end, (relay,), 1)


def test_a_process_that_is_killed_as_it_tells_is_not_waited_for():
    told = []
    relay = Relay(lambda stage, done, total, detail="": told.append(done))
    with pytest.raises(ProcessException, match="SIGKILL"), relay.listening():
        multiprocessing.spawn(_die_as_it_tells, (relay,), 1)
    assert told == [1]


def _be_stopped_as_it_tells(rank, relay, folder):
    signal.alarm(60)  # in place of waiting for ever
    checkpoints = Checkpoints(folder / "checkpoint.ckpt", 0.0, FiguresReader())
    trainer = SimpleNamespace(world_size=2)
    checkpoints.on_train_start(trainer)
    with relay._queue._wlock:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
    relay("stopping", checkpoints._stopping, 0)


def test_a_signal_amid_a_message_is_taken_at_once(tmp_path, caplog):
    told = []
    relay = Relay(lambda stage, done, total, detail="": told.append((stage, done)))
    with caplog.at_level(logging.INFO, "geohp"), relay.listening():
        multiprocessing.spawn(_be_stopped_as_it_tells, (relay, tmp_path), 1)
    assert told == [("stopping", signal.SIGTERM)]


_KILLED = ClusterError("one of 2 processes that train was ended by SIGKILL", "train on fewer devices")


@pytest.mark.parametrize(
    ("told", "raised"),
    [
        (RuntimeError("connection closed by peer"), _KILLED),
        (KeyError("a"), KeyError("a")),
        (OutputError("model: disk full", "free space"), OutputError("model: disk full", "free space")),
    ],
)
def test_what_is_told_is_the_cause_of_a_kill_but_where_another_is_missed(told, raised):
    def end():
        relay._queue.put(told)
        raise _KILLED

    relay = Relay(lambda *_: None)
    with pytest.raises(type(raised), match=re.escape(str(raised))), relay.listening():
        end()


def test_an_error_of_the_listener_counts_where_the_processes_end_well():
    def progress(stage, done, total, detail=""):
        raise ZeroDivisionError

    relay = Relay(progress)
    with pytest.raises(ZeroDivisionError), relay.listening():
        relay._queue.put(("training", 1, 1, ""))


def test_other_errors_remain_what_they_are():
    relay = Relay(lambda *_: None)
    with pytest.raises(KeyboardInterrupt), relay.listening():
        raise KeyboardInterrupt
