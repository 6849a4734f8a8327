"""Blocks that a GPU computes are finished in a thread, one behind, in order."""

import threading
from types import SimpleNamespace

import pytest

from geohp.inference.engine.pipeline import _Mapping


def mapping(kind):
    return _Mapping(None, SimpleNamespace(device=SimpleNamespace(type=kind)), None, None)


def test_the_next_region_is_scored_while_one_is_finished():
    scored, begun, release = [], threading.Event(), threading.Event()

    def regions():
        for number in range(4):
            scored.append(number)
            yield number

    def finish(number):
        if number == 0:
            begun.set()
            assert release.wait(10)
        return number, threading.current_thread() is threading.main_thread()

    finished = mapping("cuda")._finished(finish, regions())
    opened = threading.Thread(target=lambda: (begun.wait(10), release.set()))
    opened.start()
    assert next(finished) == (0, False)
    assert scored == [0, 1]  # one ahead, and no more
    assert list(finished) == [(number, False) for number in (1, 2, 3)]
    opened.join()


def test_a_cpu_does_one_after_the_other():
    assert list(mapping("cpu")._finished(lambda number: threading.current_thread().name, iter([1]))) == ["MainThread"]
    assert list(mapping("cuda")._finished(str, iter(()))) == []


def test_what_fails_while_finishing_is_raised():
    finished = mapping("cuda")._finished(lambda number: 1 // number, iter([1, 0, 1]))
    assert next(finished) == 1
    with pytest.raises(ZeroDivisionError):
        next(finished)
