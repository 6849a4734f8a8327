"""Servers and pipes that do not deliver: never answer, stop half-way, lie, are busy; a word in time, not a hang."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from benchmarks.reliability.commands import Command, contents, inputs, pixels
from benchmarks.reliability.isolation import Limits
from benchmarks.reliability.part import Case, Outcome, Part, Record

_PATIENT = {"GDAL_HTTP_LOW_SPEED_TIME": "2", "GDAL_HTTP_CONNECTTIMEOUT": "2", "GDAL_HTTP_RETRY_DELAY": "0.2"}
"""What a user may set; geohp's own patience takes half a minute a case."""
_MOST_S = 90.0
_FOREVER_S = 3600

RIGHT = ("plain", "no ranges", "busy twice", "limited", "dropped twice")
"""What servers do that deliver in the end."""
WRONG = (
    "silent", "silent later", "stops in the middle", "a byte a second", "cut", "cut later", "says less", "says more",
    "page", "page later", "redirects", "busy", "missing", "forbidden", "broken", "nobody there", "garbage",
)  # fmt: skip
"""And those that do not."""
_LINES = {
    "segment": "segment {scene} --model {inputs}/model.safetensors --out labels.tif",
    "info": "info {scene}",
    "segment a folder": "segment {scene} {inputs}/tiles/west.tif --model {inputs}/model.safetensors --out-dir maps",
    "train": "train orthophotos --out run --set data.images={scene} --set data.patches=4 --set data.patch_px=32 --set "
    "train.epochs=1 --set method.name=kmeans --set train.compare_kmeans=false --set train.device=cpu",
    "legend": "legend {inputs}/labels.tif --reference {scene} --out l.yaml",
    "view": "view {inputs}/labels.tif --scene {scene} --out v.html",
}
_PIPES = {
    "segment": "segment {pipe} --classes 3 --out labels.tif",
    "info": "info {pipe}",
    "polygonize": "polygonize {pipe} --out p.gpkg",
    "model": "segment {inputs}/scene.tif --model {pipe} --out labels.tif",
    "reference": "legend {inputs}/labels.tif --reference {pipe} --out l.yaml",
    "legend": "recode {inputs}/labels.tif --legend {pipe} --out r.tif",
    "area": "segment {inputs}/scene.tif --classes 3 --aoi {pipe} --out labels.tif",
    "train": "train orthophotos --out run --set data.images={pipe} --set train.device=cpu",
    "view": "view {inputs}/labels.tif --scene {pipe} --out v.html",
    "change": "change {inputs}/scene.tif {pipe} --classes 3 --out c.tif",
    "output": "recode {inputs}/labels.tif --legend {inputs}/l.yaml --out {pipe}",
}


class _Server(BaseHTTPRequestHandler):
    """Serves the scene in the way that the first part of the address names."""

    protocol_version = "HTTP/1.1"
    content = b""
    asked = 0

    def do_GET(self) -> None:
        if not self.path.endswith("/scene.tif"):
            self._reply(404, b"")
            return
        kind = self.path.split("/")[1].replace("_", " ")
        number = type(self).asked
        type(self).asked += 1
        later = kind.endswith(" later")
        if later and number < 2:
            kind = "plain"
        getattr(self, f"_{kind.removesuffix(' later').replace(' ', '_')}")(number)

    do_HEAD = do_GET  # noqa: N815 - the name that the library asks for

    def _plain(self, number: int) -> None:
        self._send(self._asked_for())

    def _no_ranges(self, number: int) -> None:
        self._reply(200, self.content)

    def _busy_twice(self, number: int) -> None:
        self._reply(503, b"busy") if number < 2 else self._plain(number)

    def _limited(self, number: int) -> None:
        self._reply(429, b"slow down", {"Retry-After": "1"}) if number < 1 else self._plain(number)

    def _dropped_twice(self, number: int) -> None:
        self._plain(number) if number % 3 == 0 else self._reply(502, b"")

    def _silent(self, number: int) -> None:
        time.sleep(_FOREVER_S)

    def _stops_in_the_middle(self, number: int) -> None:
        body = self._asked_for()
        self._send(body, body[: len(body) // 2])
        self.wfile.flush()
        time.sleep(_FOREVER_S)

    def _a_byte_a_second(self, number: int) -> None:
        body = self._asked_for()
        self._send(body, b"")
        for place in range(len(body)):
            self.wfile.write(body[place : place + 1])
            self.wfile.flush()
            time.sleep(1)

    def _cut(self, number: int) -> None:
        body = self._asked_for()
        self._send(body, body[: len(body) // 2])
        self.close_connection = True

    def _says_less(self, number: int) -> None:
        self._reply(200, self.content, {"Content-Length": str(len(self.content) // 2)})

    def _says_more(self, number: int) -> None:
        self._reply(200, self.content, {"Content-Length": str(2 * len(self.content))})
        self.close_connection = True

    def _page(self, number: int) -> None:
        self._reply(200, b"<html><body>Please log in</body></html>" * 50, {"Content-Type": "text/html"})

    def _redirects(self, number: int) -> None:
        self._reply(302, b"", {"Location": self.path})

    def _busy(self, number: int) -> None:
        self._reply(503, b"busy")

    def _missing(self, number: int) -> None:
        self._reply(404, b"")

    def _forbidden(self, number: int) -> None:
        self._reply(403, b"")

    def _broken(self, number: int) -> None:
        self._reply(500, b"")

    def _garbage(self, number: int) -> None:
        self.wfile.write(os.urandom(500))
        self.close_connection = True

    def _asked_for(self) -> bytes:
        """What a request with a range asks for; all of it without one."""
        bounds = self.headers.get("Range")
        if bounds is None:
            return self.content
        start, _, stop = bounds.removeprefix("bytes=").partition("-")
        return self.content[int(start) : int(stop or len(self.content)) + 1]

    def _send(self, body: bytes, sent: bytes | None = None) -> None:
        bounds = self.headers.get("Range")
        if bounds is not None and not body:
            self._reply(416, b"")
            return
        headers = {"Content-Length": str(len(body))}
        if bounds is not None:
            start = int(bounds.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {start}-{start + len(body) - 1}/{len(self.content)}"
        self._reply(200 if bounds is None else 206, body if sent is None else sent, headers)

    def _reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "Accept-Ranges": "bytes", **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@contextmanager
def serving(kind: str, file: Path) -> Iterator[str]:
    """The address of a file on a server of some kind, in a process of its own."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    address = f"http://127.0.0.1:{server.server_address[1]}/{kind.replace(' ', '_')}/scene.tif"
    if kind == "nobody there":
        server.server_close()
        yield address
        return
    child = os.fork()
    if child == 0:
        _Server.content = file.read_bytes()
        server.handle_error = lambda *_: None  # type: ignore[method-assign, assignment]
        try:
            server.serve_forever()
        finally:
            os._exit(0)
    server.server_close()
    try:
        yield address
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


_CASES = [
    *((kind, name, True) for kind in (*RIGHT, *WRONG) for name in _LINES),
    *(("pipe", name, True) for name in _PIPES),
    *((kind, "segment", False) for kind in ("silent", "stops in the middle", "a byte a second")),
]
"""Kind of server, command, and whether the user has set how long to wait."""


def case(number: int) -> Case:
    """A command that reads from a server, or from a pipe that nobody writes into."""
    kind, name, set_by_user = _CASES[number]
    if kind == "pipe":
        return Case(f"a pipe as {name}", lambda folder: _piped(name, folder))
    title = f"{name} from a server: {kind}{'' if set_by_user else ', as long as geohp waits'}"
    return Case(title, lambda folder: _served(kind, name, folder, set_by_user=set_by_user))


def _served(kind: str, name: str, folder: Path, *, set_by_user: bool) -> Outcome:
    scene = inputs() / ("labels.tif" if name == "legend" else "scene.tif")
    limits = Limits(_MOST_S if set_by_user else 6 * _MOST_S, environment=_PATIENT if set_by_user else {})
    with serving(kind, scene) as address:
        command = Command(name, tuple(_LINES[name].replace("{scene}", address).split()))
        ended = command.run(folder, limits)
    measures = {"seconds": ended.seconds}
    if ended.broke or ended.traceback:
        return Outcome("failed", f"{ended.broke or 'traceback'}: {ended.err.strip()[-500:]}", measures)
    if ended.code == 0:
        return _right(kind, name, folder, measures)
    left = [path for path in contents(folder) if not path.startswith(("maps/", "."))]
    if not ended.refused or left:
        return Outcome("failed", f"code {ended.code}, left {left}: {ended.err.strip()[-500:]}", measures)
    verdict = "failed" if kind in RIGHT else "refused"
    return Outcome(verdict, ended.err.strip().splitlines()[-1][:400], measures)


def _right(kind: str, name: str, folder: Path, measures: dict[str, float]) -> Outcome:
    """Whether a result is that of the file itself; a lie that does no harm is none."""
    expected, made = _of_file(name), _comparable(contents(folder))
    other = [path for path in expected if made.get(path) != expected[path]]
    detail = f"another {other[0]} from a server: {kind}" if other else ""
    return Outcome("failed" if other else "right", detail, measures)


@cache
def _of_file(name: str) -> Mapping[str, object]:
    """What a command makes of the file that servers serve."""
    scene = inputs() / ("labels.tif" if name == "legend" else "scene.tif")
    with tempfile.TemporaryDirectory(prefix="local-") as folder:
        (Path(folder) / "case").mkdir()
        command = Command(name, tuple(_LINES[name].replace("{scene}", str(scene)).split()))
        ended = command.run(Path(folder) / "case", Limits(600))
        if ended.code:
            raise RuntimeError(f"{name} of a file: {ended.err}")
        return _comparable(contents(Path(folder) / "case"))


def _comparable(files: Mapping[str, object]) -> dict[str, object]:
    """Pixels of rasters, and pages and legends as they are: what tells of the place of the input is left out."""
    rasters = {name: pixels(content) for name, content in files.items() if name.endswith(".tif")}
    others = {name: content for name, content in files.items() if name.endswith((".html", ".yaml"))}
    return rasters | {name: content for name, content in others.items() if not name.startswith("run/")}


def _piped(name: str, folder: Path) -> Outcome:
    pipe = folder / ("pipe.tif" if name not in ("model", "reference", "legend", "area") else "pipe.gpkg")
    os.mkfifo(pipe)
    command = Command(name, tuple(_PIPES[name].replace("{pipe}", str(pipe)).split()))
    ended = command.run(folder, Limits(_MOST_S))
    measures = {"seconds": ended.seconds}
    if not ended.refused or ended.broke:
        return Outcome("failed", f"code {ended.code} {ended.broke}: {ended.err.strip()[-400:]}", measures)
    left = [path for path in contents(folder) if path != pipe.name]
    return Outcome("failed" if left else "refused", ended.err.strip().splitlines()[-1][:400], measures)


def _figures(records: Sequence[Record]) -> str:
    longest = max((record.outcome.measures.get("seconds", 0) for record in records), default=0)
    return f"{longest:.0f} s at most until a word"


PART = Part("stalls", "servers that stall, cut, lie or are busy, and pipes", case, len(_CASES), _figures)
