"""Runs on fields of three colours, which whatever asks for data gets here."""

import pytest
from fields import SCORED, SETTINGS, fields_in_place_of_data

import geohp


@pytest.fixture(scope="session")
def made_up():
    """What to override in potsdam3.yaml for a small run on the fields."""
    return SETTINGS


@pytest.fixture(scope="module", autouse=True)
def _fields_for_potsdam():
    """Whatever asks for data gets the fields."""
    with fields_in_place_of_data():
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of different seeds, scored while they were trained."""
    folder = tmp_path_factory.mktemp("runs")
    return [
        geohp.train("potsdam3", [*SETTINGS, f"train.seed={seed}", *SCORED], out=folder / f"run{seed}")
        for seed in (0, 1)
    ]
