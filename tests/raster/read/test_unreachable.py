"""Addresses that cannot be reached: what is wrong with them, and how to go on."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from geohp.errors import UnreachableError
from geohp.raster.read.labels import opened_raster
from geohp.raster.read.opened import open_dataset
from geohp.raster.read.scene import open_scene
from geohp.raster.read.unreachable import unreachable_error

_S3 = {
    "AccessDenied": "Access Denied",
    "NoSuchKey": "The specified key does not exist.",
    "NoSuchBucket": "The specified bucket does not exist",
    "InvalidAccessKeyId": "The AWS Access Key Id you provided does not exist in our records.",
    "SignatureDoesNotMatch": "The request signature we calculated does not match the signature you provided.",
    "ExpiredToken": "The provided token has expired.",
    "RequestTimeTooSkewed": "The difference between the request time and the current time is too large.",
    "SlowDown": "Please reduce your request rate.",
    "InternalError": "We encountered an internal error. Please try again.",
}
"""What S3 says of its errors."""


class _Refusing(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        parts = self.path.partition("?")[0].split("/")
        text = f"<Error><Code>{parts[-1]}</Code><Message>{_S3[parts[-1]]}</Message></Error>" if parts[-1] in _S3 else ""
        self.send_response(int(parts[1]))
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(text.encode())

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
    for name in (address, f"/vsicurl/{address}"):
        with pytest.raises(UnreachableError, match=meaning):
            open_scene(name)
        with pytest.raises(UnreachableError, match=meaning), opened_raster(name):
            pass


@pytest.fixture
def store(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server as a store like S3, asked once."""
    for option, value in {
        "AWS_S3_ENDPOINT": server.removeprefix("http://"),
        "AWS_HTTPS": "NO",
        "AWS_VIRTUAL_HOSTING": "FALSE",
        "AWS_EC2_METADATA_DISABLED": "true",
        "CPL_AWS_AUTODETECT_EC2": "NO",
        "GDAL_HTTP_MAX_RETRY": "0",
    }.items():
        monkeypatch.setenv(option, value)


@pytest.mark.parametrize(
    ("status", "code", "meaning"),
    [
        (403, "AccessDenied", "does not permit it"),
        (404, "NoSuchKey", "has no such file"),
        (404, "NoSuchBucket", "has no such file"),
        (403, "InvalidAccessKeyId", "does not permit it"),
        (403, "SignatureDoesNotMatch", "does not permit it"),
        (400, "ExpiredToken", "does not permit it"),
        (403, "RequestTimeTooSkewed", "does not permit it.*clock"),
        (503, "SlowDown", "busy"),
        (500, "InternalError", "busy"),
    ],
)
@pytest.mark.usefixtures("store")
def test_what_s3_answers_is_told_apart(monkeypatch: pytest.MonkeyPatch, status: int, code: str, meaning: str) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "name")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    for name in (f"s3://{status}/a/{code}", f"/vsis3/{status}/b/{code}"):
        with pytest.raises(UnreachableError, match=meaning):
            open_dataset(name)


@pytest.mark.usefixtures("store")
def test_a_store_without_credentials_is_a_word(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for option in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_NO_SIGN_REQUEST", "AWS_PROFILE"):
        monkeypatch.delenv(option, raising=False)
    for option in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "CPL_AWS_CREDENTIALS_FILE"):
        monkeypatch.setenv(option, str(tmp_path / "none"))
    for name in ("s3://404/a.tif", "/vsis3/404/a.tif"):
        with pytest.raises(UnreachableError, match=r"no credentials for it are known.*_NO_SIGN_REQUEST"):
            open_dataset(name)


@pytest.mark.usefixtures("store")
def test_why_nothing_answers_is_said_again_when_it_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_S3_ENDPOINT", "127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "name")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    for name in ("http://127.0.0.1:1/again.tif", "/vsicurl/http://127.0.0.1:1/again.tif", "s3://bucket/again.tif") * 2:
        with pytest.raises(UnreachableError, match="nothing answers"):
            open_dataset(name)


def test_a_server_that_has_come_back_is_asked_again(
    write_scene: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "0")
    write_scene(np.ones((1, 8, 8), np.uint8))
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
    with pytest.raises(UnreachableError, match="nothing answers"):
        open_dataset(f"http://127.0.0.1:{port}/scene.tif")
    handler = partial(_Folder, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as back:
        threading.Thread(target=back.serve_forever, daemon=True).start()
        with open_dataset(f"http://127.0.0.1:{port}/scene.tif") as dataset:
            assert dataset.shape == (8, 8)
        back.shutdown()


class _Folder(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
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
        ("HTTP response code: 400", "refuses"),
        ("Malformed AWS XML response: <Error><Code>PermanentRedirect</Code></Error>", "refuses"),
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
    address = "https://host/TLS/tokens.tif"
    for message in (f"'/vsicurl/{address}' not recognized as being in a supported file format", f"{address}: nothing"):
        assert unreachable_error(address, OSError(message)) is None
