"""Attacks fork, and forks of a process with threads (GDAL leaves some) wait without end for those that they lack."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

from benchmarks.reliability.isolation import import_everything

_LONGEST_S = 300.0


@pytest.fixture(scope="session")
def apart() -> Iterator[Callable[..., Any]]:
    """Calls a function with arguments in a process that has no threads, and gives its result."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=import_everything) as pool:
        yield lambda function, *arguments: pool.submit(function, *arguments).result(_LONGEST_S)
