"""Pipes and devices in the place of files: refused at once, and not waited for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from geohp.config.loading import read_text
from geohp.data.benchmarks.folders import read_list
from geohp.errors import GeohpError
from geohp.files.reading import failure_reason
from geohp.legend.file import Legend
from geohp.raster.sources.image_indices import load_json
from geohp.raster.sources.vector_files import is_parquet, layers_with_geometry, read_layer, read_vectors

# A device that ends at once: one that does not would hang the test where it is opened.
DEVICE = Path("/dev/null")

pytestmark = pytest.mark.skipif(not DEVICE.is_char_device(), reason="devices are no files here")


@pytest.mark.parametrize("read", [Legend.read, load_json, read_list, read_vectors])
def test_a_device_is_refused_in_a_sentence(read: Callable[[Path], object]) -> None:
    with pytest.raises(GeohpError, match=r"/dev/null.*a pipe or a device, no file"):
        read(DEVICE)


def test_a_pipe_is_no_vector_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.gpkg"
    os.mkfifo(pipe)
    assert not is_parquet(pipe)
    assert layers_with_geometry(pipe) is None
    with pytest.raises(OSError, match="a pipe or a device"):
        read_layer(pipe, None)


@pytest.mark.parametrize("read", [read_text, Legend.read, load_json, read_list])
def test_what_the_system_says_of_a_file_is_told_without_its_number(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    with pytest.raises(GeohpError, match=r"Is a directory") as caught:
        read(tmp_path)
    assert "Errno" not in str(caught.value)


def test_what_a_library_says_in_several_lines_is_told_in_one() -> None:
    assert failure_reason(ValueError("cannot be read:\n  page 1\n\n")) == "cannot be read: page 1"
    assert failure_reason(ValueError()) == ""
