"""GDAL's environment: patience with servers, and what is no file."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from pathlib import Path

import pytest
import rasterio

from geohp.errors import SceneError
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
