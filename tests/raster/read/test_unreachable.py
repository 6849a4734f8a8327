"""Addresses that cannot be reached: what is wrong with them, and how to go on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from geohp.errors import UnreachableError
from geohp.raster.read.labels import opened_raster
from geohp.raster.read.scene import open_scene
from geohp.raster.read.unreachable import unreachable_error


class _Refusing(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(int(self.path.split("/")[1]))
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server that answers with the status its paths begin with."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Refusing) as answering:
        threading.Thread(target=answering.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{answering.server_port}"
        answering.shutdown()


@pytest.mark.parametrize(
    ("status", "meaning"),
    [(404, "has no such file.*check the address"), (403, "does not permit it.*credentials"), (500, "out of order")],
)
def test_what_a_server_answers_is_told_apart(
    server: str, monkeypatch: pytest.MonkeyPatch, status: int, meaning: str
) -> None:
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "0")
    address = f"{server}/{status}/scene.tif"
    with pytest.raises(UnreachableError, match=meaning):
        open_scene(address)
    with pytest.raises(UnreachableError, match=meaning), opened_raster(address):
        pass


@pytest.mark.parametrize(
    ("message", "meaning"),
    [
        ("CURL error: Could not resolve host: nowhere.invalid", "no server of that name"),
        (
            "CURL error: Failed to connect to a port 1 after 0 ms: Could not connect to server",
            "nothing answers",
        ),
        ("CURL error: Failed to connect to a port 80: Connection timed out", "not answer in time"),
        (
            "CURL error: Operation too slow. Less than 100 bytes/sec transferred",
            "not answer in time",
        ),
        ("CURL error: SSL certificate problem: self-signed certificate", "no secure connection"),
        ("HTTP response code: 429", "busy"),
        ("CURL error: Recv failure: Connection reset by peer", "the connection to its server fails"),
    ],
)
def test_what_keeps_from_a_server_is_told_apart(message: str, meaning: str) -> None:
    error = unreachable_error("https://host/a.tif", OSError(message))
    assert error is not None
    assert meaning in error.problem
    assert error.remedy


def test_what_is_no_raster_is_not_out_of_reach() -> None:
    assert (
        unreachable_error("https://host/a.tif", OSError("not recognized as being in a supported file format")) is None
    )
    assert unreachable_error("SSL.tif", OSError("no SSL here")) is None
