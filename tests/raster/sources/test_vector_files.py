"""What vector files there are, and what is said of those that are none."""

from __future__ import annotations

import warnings

import pyogrio
import pytest

from geohp.raster.sources.vector_files import layers_with_geometry


def test_an_address_that_does_not_answer_is_no_vector_file_and_no_warning(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    def no_answer(path: str) -> list[str]:
        warnings.warn(f"HTTP response code on {path}: 0", RuntimeWarning, stacklevel=2)
        raise pyogrio.errors.DataSourceError("could not connect")

    monkeypatch.setattr(pyogrio, "list_layers", no_answer)
    assert layers_with_geometry("http://127.0.0.1:9/x.tif") is None
    assert not recwarn.list
