"""Credentials given to commands in every way there is, looked for in every byte that is written or printed.

A server on this machine hands the scene out to those alone who show the credential, or fails: not there, forbidden,
cut.
"""
# ruff: noqa: E501 - commands written out

from __future__ import annotations

import base64
import functools
import gzip
import json
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, quote_plus

from benchmarks.reliability.isolation import Limits, run_command
from benchmarks.reliability.part import Case, Outcome, Part
from benchmarks.reliability.specimens import TINY, specimens
from benchmarks.reliability.verdicts import judge, usual_figures

SECRET = "Zq7-planted+Secret/0815"
"""With characters that addresses and encodings write otherwise."""
SPELLINGS = tuple(
    spelling.encode()
    for spelling in (
        SECRET, quote(SECRET, safe=""), quote(SECRET), quote_plus(SECRET), SECRET.replace("/", "\\/"),
        base64.b64encode(f"user:{SECRET}".encode()).decode(), base64.b64encode(SECRET.encode()).decode(),
    )
)  # fmt: skip


@dataclass(frozen=True)
class Given:
    """How a command is told where the scene is, and what opens it.

    Attributes:
        source: what stands for the scene.
        environment: variables that are set.
    """

    source: str
    environment: Mapping[str, str] = field(default_factory=dict)


def _query(port: int, query: str) -> str:
    return f"http://127.0.0.1:{port}/scene.tif?{query}"


def _s3(port: int, _: Path) -> Given:
    keys = {"AWS_ACCESS_KEY_ID": "AKIAPLANTED", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": SECRET}
    place = {"AWS_S3_ENDPOINT": f"127.0.0.1:{port}", "AWS_HTTPS": "NO", "AWS_VIRTUAL_HOSTING": "FALSE"}
    return Given("/vsis3/bucket/scene.tif", {**keys, **place, "AWS_REGION": "eu-central-1"})


def _netrc(port: int, folder: Path) -> Given:
    (folder / "netrc").write_text(f"machine 127.0.0.1 login user password {SECRET}\n")
    return Given(f"/vsicurl/http://127.0.0.1:{port}/scene.tif", {"GDAL_HTTP_NETRC_FILE": str(folder / "netrc")})


def _vrt(port: int, folder: Path) -> Given:
    source = _query(port, f"sig={quote(SECRET, safe='')}")
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}"><SimpleSource><SourceFilename relativeToVRT="0">/vsicurl/{source}'
        f"</SourceFilename><SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>"
        for band in (1, 2, 3)
    )
    (folder / "scene.vrt").write_text(
        '<VRTDataset rasterXSize="128" rasterYSize="96"><SRS>EPSG:32633</SRS>'
        f"<GeoTransform>380000, 0.5, 0, 5800000, 0, -0.5</GeoTransform>{bands}</VRTDataset>"
    )
    return Given(str(folder / "scene.vrt"))


def _item(port: int, folder: Path) -> Given:
    asset = {"href": _query(port, f"sig={quote(SECRET, safe='')}"), "type": "image/tiff", "roles": ["data"]}
    item = {"type": "Feature", "stac_version": "1.0.0", "id": "x", "geometry": None, "assets": {"image": asset}}
    (folder / "item.json").write_text(json.dumps(item))
    return Given(str(folder / "item.json"))


WAYS: Mapping[str, Callable[[int, Path], Given]] = {
    "S3 signature": lambda port, _: Given(_query(port, f"X-Amz-Credential=A&X-Amz-Signature={quote(SECRET, safe='')}")),
    "SAS": lambda port, _: Given(_query(port, f"sv=2024-01-01&se=2030-01-01&sr=b&sig={quote(SECRET, safe='')}")),
    "token": lambda port, _: Given(_query(port, f"token={quote(SECRET, safe='')}")),
    "token of GDAL": lambda port, _: Given(f"/vsicurl/{_query(port, f'token={quote(SECRET, safe=str())}')}"),
    "basic": lambda port, _: Given(f"http://user:{quote(SECRET, safe='')}@127.0.0.1:{port}/scene.tif"),
    "header of GDAL": lambda port, _: Given(
        f"/vsicurl?header.X-Token={quote(SECRET, safe='')}&url={quote(f'http://127.0.0.1:{port}/scene.tif', safe='')}"
    ),
    "user in the environment": lambda port, _: Given(
        f"http://127.0.0.1:{port}/scene.tif", {"GDAL_HTTP_USERPWD": f"user:{SECRET}", "GDAL_HTTP_AUTH": "BASIC"}
    ),
    "header in the environment": lambda port, _: Given(
        f"http://127.0.0.1:{port}/scene.tif", {"GDAL_HTTP_HEADERS": f"Authorization: Bearer {SECRET}"}
    ),
    "S3 keys": _s3,
    "netrc": _netrc,
    "VRT": _vrt,
    "STAC item": _item,
}
MODES = ("open", "404", "403", "cut", "page")


def _segment(source: str, out: Path, *more: str) -> list[str | Path]:
    return ["segment", source, "--model", specimens().run, *more, "--out", out / "labels.tif"]


COMMANDS: Mapping[str, Callable[[str, Path], list[str | Path]]] = {
    "segment": lambda source, out: _segment(
        source, out, "--stac", "--qml", "--verbose", "--polygons", str(out / "p.gpkg"), "--confidence", str(out / "c.tif")
    ),
    "segment to a folder": lambda source, out: [
        "segment", source, "--model", specimens().run, "--out-dir", out / "maps", "--products", "confidence,polygons,stac",
    ],
    "segment without a model": lambda source, out: ["segment", source, "--classes", "3", "--out", out / "l.tif", "--json"],
    "info": lambda source, out: ["info", source, "--json"],
    "train": lambda source, out: [
        "train", "orthophotos-hp", *(word for s in TINY[1:] for word in ("--set", s)), "--set", f"data.images=['{source}']",
        "--set", "train.cache=disk", "--out", out / "run",
    ],
    "view": lambda source, out: ["view", specimens().labels, "--scene", source, "--out", out / "page.html"],
    "polygonize with statistics": lambda source, out: [
        "polygonize", specimens().labels, "--stats", f"{source}:mean", "--out", out / "p.gpkg",
    ],
    "legend": lambda source, out: ["legend", specimens().labels, "--reference", source, "--out", out / "legend.yaml"],
    "change": lambda source, out: ["change", specimens().labels, specimens().later, "--aoi", source, "--out", out / "change.tif"],
    "area": lambda source, out: ["polygonize", specimens().labels, "--aoi", source, "--out", out / "p.gpkg"],
    "workers": lambda source, out: _segment(source, out, "--workers", "1", "--stac"),
}  # fmt: skip

_TRIALS = [
    *((way, command, "open") for way in WAYS for command in COMMANDS if command != "workers"),
    *((way, command, mode) for way in WAYS for command in ("segment", "train", "info") for mode in MODES[1:4]),
    *((way, "segment", "page") for way in WAYS),
    *((way, "workers", mode) for way in ("SAS", "basic", "S3 keys") for mode in ("open", "403")),
]


def secret(number: int) -> Case:
    """The case of a number."""
    way, command, mode = _TRIALS[number]

    def attack(folder: Path) -> Outcome:
        given_in = folder.parent / "given"
        given_in.mkdir()
        with serving(mode) as port:
            given = WAYS[way](port, given_in)
            home = {"XDG_CACHE_HOME": str(folder / "cache"), "HOME": str(folder / "home")}
            limits = Limits(seconds=300, environment={**home, "GDAL_HTTP_MAX_RETRY": "0", **given.environment})
            ended = run_command(COMMANDS[command](given.source, folder), folder, limits)
        traces = ended.err.replace("Traceback (most recent call last)", "Trace")  # of --verbose, which is asked for
        outcome = judge(replace(ended, err=traces))
        places = [*leaks(folder), *(name for name in ("out", "err") if _holds(getattr(ended, name).encode()))]
        if outcome.verdict == "right" and mode in ("404", "403", "page") and command not in ("train", "info"):
            return Outcome("failed", "it succeeded without the scene", outcome.measures)
        return Outcome("failed", f"the secret is in {', '.join(places)}", outcome.measures) if places else outcome

    return Case(f"{way} for {command}, {mode}", attack)


def leaks(folder: Path) -> Iterator[str]:
    """Files below a folder that hold the secret, by their names too."""
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if _holds(name.encode()) or (path.is_file() and any(map(_holds, _contents(path)))):
            yield name


def _contents(path: Path) -> Iterator[bytes]:
    content = path.read_bytes()
    yield content
    if content[:2] == b"\x1f\x8b":
        yield gzip.decompress(content)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from map(archive.read, archive.namelist())


def _holds(content: bytes) -> bool:
    return any(spelling in content for spelling in SPELLINGS)


@contextmanager
def serving(mode: str) -> Iterator[int]:
    """A server of the scene; gives its port."""
    handler = functools.partial(_Handler, mode, specimens().scene.read_bytes())
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    """Serves one file to who shows the secret, in parts; or fails as told."""

    def __init__(self, mode: str, content: bytes, *arguments: object) -> None:
        self._mode, self._content = mode, content
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def _answer(self, *, body: bool) -> None:
        shown = f"{self.path}\n{self.headers}".encode()
        signed = self.headers.get("Authorization", "").startswith(("Basic ", "AWS4-HMAC"))
        if not (signed or _holds(shown)) and self._mode == "open":
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="x"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self._mode in ("404", "403"):
            self.send_error(int(self._mode), f"refused {self.path}")  # as servers do that repeat what they were asked
            return
        content = b"<html>sign in</html>" if self._mode == "page" else self._content
        if self.path.startswith("/bucket/?"):  # S3's way to list a folder
            entry = f"<Contents><Key>scene.tif</Key><Size>{len(content)}</Size></Contents>"
            content = f"<ListBucketResult><Name>bucket</Name>{entry}</ListBucketResult>".encode()
        start, stop = self._range(len(content))
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("Content-Length", str(stop - start))
        self.send_header("Accept-Ranges", "bytes")
        if "Range" in self.headers:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        self.end_headers()
        if body:
            self.wfile.write(content[start : start + 1000 if self._mode == "cut" else stop])

    def _range(self, length: int) -> tuple[int, int]:
        asked = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")
        return int(asked[0]), min(length, int(asked[1] or length) + 1) if asked[1] else length


PART = Part(
    name="secrets",
    title="Credentials in addresses, environment, headers, netrc, VRT and STAC, looked for in all that is written and said",
    case=secret,
    count=len(_TRIALS),
    figures=usual_figures,
)
