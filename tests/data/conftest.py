"""The writers of made-up data sets, for tests to write them with."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def layouts():
    """The module ``layouts`` beside this file: tests are no package, so it is loaded by its path."""
    spec = importlib.util.spec_from_file_location("layouts", Path(__file__).with_name("layouts.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
