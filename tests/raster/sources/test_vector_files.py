"""What vector files there are, and what is said of those that are none."""

from __future__ import annotations

import warnings

from geohp.raster.sources.vector_files import layers_with_geometry


def test_an_address_that_does_not_answer_is_no_vector_file_and_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert layers_with_geometry("http://127.0.0.1:9/x.tif") is None
