"""Patterns and folders of addresses mean the images that are listed there."""

import functools
import http.server
import threading

import fsspec
import pytest

from geohp.errors import SourceError
from geohp.raster.sources.find import find_images


@pytest.fixture
def store():
    files = fsspec.filesystem("memory")
    names = ("/tiles/a.tif", "/tiles/b.TIF", "/tiles/notes.txt", "/tiles/deep/c.png", "/other/d.tif")
    for name in names:
        files.pipe(name, b"x")
    yield
    for name in names:
        files.rm(name)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("memory://tiles/*.tif", ["a.tif"]),
        ("memory://tiles/*", ["a.tif", "b.TIF"]),
        ("memory://tiles/**", ["a.tif", "b.TIF", "deep/c.png"]),
        ("memory://tiles/", ["a.tif", "b.TIF", "deep/c.png"]),
    ],
)
def test_patterns_and_folders_of_a_store(store, pattern, found):
    assert find_images([pattern]) == [f"memory:///tiles/{name}" for name in found]


def test_a_web_page_that_lists_files_is_a_folder(tmp_path):
    for name in ("a.tif", "b.tif", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    try:
        assert find_images([f"{address}/*.tif"]) == [f"{address}/a.tif", f"{address}/b.tif"]
        assert find_images([f"{address}/"]) == [f"{address}/a.tif", f"{address}/b.tif"]
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("address", ["https://host/a.tif?sig=a*b", "https://host/a.tif?x=1", "s3://bucket/a.zarr/"])
def test_addresses_of_one_image_are_not_listed(address):
    assert find_images([address]) == [address]


@pytest.mark.parametrize(
    ("pattern", "remedy"),
    [
        ("nosuch://bucket/*.tif", "name the images one by one"),
        ("http://127.0.0.1:9/*.tif", "no images there|name the images"),
        ("/vsis3/bucket/*.tif", "write it as s3://"),
        ("memory://nowhere/*.tif", "no images there"),
    ],
)
def test_what_cannot_be_listed_says_what_to_do(pattern, remedy):
    with pytest.raises(SourceError, match=remedy):
        find_images([pattern])
