"""GDAL's environment: patience with servers, and what is no file."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from geohp.errors import ReadError, SceneError
from geohp.raster.gdal import gdal_env
from geohp.raster.read.labels import opened_raster
from geohp.raster.read.scene import open_scene


def test_servers_are_given_up_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    with gdal_env():
        options = rasterio.env.getenv()
    assert int(options["GDAL_HTTP_LOW_SPEED_TIME"]) <= 60
    assert int(options["GDAL_HTTP_LOW_SPEED_LIMIT"]) > 1
    assert int(options["GDAL_HTTP_CONNECTTIMEOUT"]) <= 60
    assert int(options["GDAL_HTTP_MAX_RETRY"]) > 0
    monkeypatch.setenv("GDAL_HTTP_LOW_SPEED_TIME", "600")
    with rasterio.Env(GDAL_HTTP_MAX_RETRY="0"), gdal_env():
        options = rasterio.env.getenv()
    assert "GDAL_HTTP_LOW_SPEED_TIME" not in options
    assert options["GDAL_HTTP_MAX_RETRY"] == "0"


def test_a_server_that_never_answers_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "geohp.raster.gdal._PATIENCE", {"GDAL_HTTP_LOW_SPEED_TIME": "1", "GDAL_HTTP_LOW_SPEED_LIMIT": "9"}
    )
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "0")
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept: list[socket.socket] = []
        threading.Thread(target=lambda: kept.extend(server.accept()[0] for _ in range(9)), daemon=True).start()
        started = time.monotonic()
        with pytest.raises(SceneError, match="cannot be opened") as refused:
            open_scene(f"http://127.0.0.1:{server.getsockname()[1]}/scene.tif")
        assert time.monotonic() - started < 60
        assert "\n" not in str(refused.value)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "scene.tif"
    os.mkfifo(pipe)
    with pytest.raises(SceneError, match="is a pipe"):
        open_scene(pipe)
    with pytest.raises(SceneError, match="is a pipe"), opened_raster(pipe):
        pass


class Failing(BaseHTTPRequestHandler):
    """Answers two requests for ranges, and then no more."""

    content = b""
    left = 2

    def do_GET(self) -> None:
        """A range of the file."""
        type(self).left -= 1
        start, _, stop = (self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")
        body = self.content[int(start) : int(stop or len(self.content)) + 1]
        self.send_response(404 if self.left < 0 else 206 if self.headers.get("Range") else 200)
        self.send_header("Content-Range", f"bytes {start}-{int(start) + len(body) - 1}/{len(self.content)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - the name that the library asks for

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_what_a_server_did_not_deliver_is_an_error_and_not_zeros(
    tmp_path: Path, write_scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).integers(1, 255, (3, 256, 256), np.uint8)
    path = write_scene(noise, tiled=True, blockxsize=64, blockysize=64)
    monkeypatch.setattr(Failing, "content", path.read_bytes())
    monkeypatch.setenv("GDAL_NUM_THREADS", "ALL_CPUS")
    with ThreadingHTTPServer(("127.0.0.1", 0), Failing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/scene.tif"
        with open_scene(address, scaling="0,255") as scene, pytest.raises(ReadError, match="cannot be read"):
            scene.read(0, 0, 256, 256)
        server.shutdown()
