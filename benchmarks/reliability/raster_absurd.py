"""Rasters that lie: of absurd sizes, virtual ones that go round in circles or name what is none of theirs."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.reliability.raster_generated import Random, Subject, pick

MARK = "executed"
"""A file that code inside a raster would leave, if it ran."""

_MOST = 2**31 - 1
_CODES = {1: "B", 2: "s", 3: "H", 4: "I", 12: "d", 16: "Q"}

Tag = tuple[int, int, Sequence[float] | bytes]
"""Number, type, and values of a tag of a TIFF; of type 2 the text itself."""


def lie(folder: Path, rng: Random) -> Subject:
    """One of the absurd rasters, in a file of a folder."""
    name = pick(rng, tuple(LIES))
    return Subject(LIES[name](folder, rng), name)


def tiff(tags: Sequence[Tag], payload: bytes = b"", *, big: bool = False, following: int = 0) -> bytes:
    """A TIFF written by hand, little-endian: header, directory, values too long for it, payload.

    Args:
        tags: of its one directory. A value of ``-1`` in tag 273 or 324 stands for where the payload begins.
        payload: bytes at the end.
        big: a BigTIFF.
        following: where the next directory is said to be.
    """
    inline, entry, offset = (8, 20, "Q") if big else (4, 12, "I")
    start = 16 if big else 8
    head = start + (8 if big else 2) + entry * len(tags) + inline
    lengths = [len(_packed(kind, values)) for _, kind, values in tags]
    begin = head + sum(length for length in lengths if length > inline)
    directory, beyond = b"", b""
    for (number, kind, values), length in zip(
        sorted(tags), [lengths[tags.index(t)] for t in sorted(tags)], strict=True
    ):
        if number in (273, 324) and isinstance(values, list):
            values = [begin if value == -1 else value for value in values]
        packed = _packed(kind, values)
        place = packed.ljust(inline, b"\0") if length <= inline else struct.pack(f"<{offset}", head + len(beyond))
        beyond += packed if length > inline else b""
        directory += struct.pack(f"<HH{offset}", number, kind, length // max(1, struct.calcsize(_CODES[kind]))) + place
    count = struct.pack("<Q" if big else "<H", len(tags))
    header = struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16) if big else struct.pack("<2sHI", b"II", 42, 8)
    return header + count + directory + struct.pack(f"<{offset}", following) + beyond + payload


def _packed(kind: int, values: Sequence[float] | bytes) -> bytes:
    if isinstance(values, bytes):
        return values
    whole = kind != 12
    return struct.pack(f"<{len(values)}{_CODES[kind]}", *(max(0, int(v)) if whole else v for v in values))


def plain(width: int, height: int, bands: int = 1, **changes: Sequence[float] | bytes | None) -> list[Tag]:
    """Tags of an ordinary uncompressed image of one strip; ``t258=[1]`` changes a tag, ``None`` leaves it out."""
    tags: dict[int, Tag] = {
        256: (256, 4, [width]),
        257: (257, 4, [height]),
        258: (258, 3, [8]),
        259: (259, 3, [1]),
        262: (262, 3, [1]),
        273: (273, 4, [-1]),
        277: (277, 3, [bands]),
        278: (278, 4, [height]),
        279: (279, 4, [width * height * bands % 2**32]),
        284: (284, 3, [1]),
    }
    for name, values in changes.items():
        number = int(name[1:])
        if values is None:
            tags.pop(number, None)
        else:
            kind = tags[number][1] if number in tags else _TYPES.get(number, 4)
            tags[number] = (number, kind, values)
    return list(tags.values())


_TYPES = dict.fromkeys((33550, 33922, 34264, 34736), 12) | dict.fromkeys((34737, 42112, 42113), 2)
_TYPES |= dict.fromkeys((34735, 320, 317, 338, 339), 3)


def _file(make: Callable[[Random], bytes], name: str = "absurd.tif") -> Callable[[Path, Random], str]:
    def write(folder: Path, rng: Random) -> str:
        (folder / name).write_bytes(make(rng))
        return name

    return write


def _sides(rng: Random) -> tuple[int, int]:
    return pick(
        rng, ((_MOST, _MOST), (_MOST, 1), (1, _MOST), (_MOST, 4), (2**30, 2**30), (2**24, 2**24), (2**32 - 1, 5))
    )


def _huge(rng: Random) -> bytes:
    width, height = _sides(rng)
    return tiff(plain(width, height, pick(rng, (1, 3)), t278=[pick(rng, (1, 16, height))]), b"\1" * 64)


def _huge_sparse(rng: Random) -> bytes:
    width, height = _sides(rng)
    return tiff(plain(width, height, t273=[0], t279=[0], t278=[height]))


def _huge_tiled(rng: Random) -> bytes:
    width, height = _sides(rng)
    side = pick(rng, (16, 256, 2**15, 2**20, 2**30))
    changes = {"t273": None, "t278": None, "t279": None, "t322": [side], "t323": [side], "t324": [-1], "t325": [64]}
    return tiff(plain(width, height, **changes), b"\1" * 64)


def _big_tiles(rng: Random) -> bytes:
    side = pick(rng, (2**16, 2**24, 2**30, 2**32 - 16))
    changes = {"t273": None, "t278": None, "t279": None, "t322": [side], "t323": [side], "t324": [-1], "t325": [64]}
    return tiff(plain(64, 48, pick(rng, (1, 3, 600)), **changes), b"\1" * 64)


def _many_bands(rng: Random) -> bytes:
    bands = pick(rng, (500, 10_000, 65_535))
    return tiff(plain(8, 6, bands, t258=[8] * bands, t284=[pick(rng, (1, 2))]), b"\1" * 8 * 6 * min(bands, 500))


def _strip_counts(rng: Random) -> bytes:
    rows = pick(rng, (1, 7, 0, 2**32 - 1))
    count = pick(rng, (0, 1, 5, 100_000))
    return tiff(
        plain(64, 48, t278=[rows], t273=[8] * count, t279=[pick(rng, (0, 64, 2**32 - 1))] * count), b"\1" * 3072
    )


_ODD_FIELDS = (
    "258=0 258=3 258=64 258=65535 258=128 259=0 259=5 259=6 259=7 259=8 259=34712 259=50000 259=50001 "
    "259=34887 259=65000 262=3 262=6 262=8 262=65000 277=0 284=0 284=9 339=4 339=5 339=9 317=2 317=3 "
    "317=99 256=0 257=0 266=2 274=6 338=2 330=8 254=5 32997=7"
).split()
"""Tags of a TIFF and values that they must not, or seldom, have."""


def _odd_field(rng: Random) -> bytes:
    tag, value = pick(rng, _ODD_FIELDS).split("=")
    return tiff(plain(64, 48, **{f"t{tag}": [int(value)]}), b"\1" * 3072)


def _odd_georeference(rng: Random) -> bytes:
    odd = pick(rng, (0.0, -1.0, float("nan"), float("inf"), 1e300, 5e-324))
    keys = pick(
        rng,
        (
            [1, 1, 0, 1, 3072, 0, 1, 32633],
            [1, 1, 0, 1, 3072, 0, 1, 1],
            [1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 32767],
            [1, 1, 0, 500, 3072, 0, 1, 32633],
            [9, 9, 9],
            [1, 1, 0, 1, 1026, 34737, 60_000, 0],
            [1, 1, 0, 1, 2057, 34736, 9, 0],
            [1, 1, 0, 3, 1024, 0, 1, 3, 1025, 0, 1, 1, 2048, 0, 1, 4978],
        ),
    )
    way = pick(rng, ("scale", "matrix", "points"))
    changes: dict[str, Sequence[float] | bytes | None] = {"t34735": keys}
    if way == "scale":
        changes |= {"t33550": [odd, pick(rng, (odd, 1.0)), 0], "t33922": [0, 0, 0, pick(rng, (5e5, odd)), 5e6, 0]}
    elif way == "matrix":
        changes |= {"t34264": [odd, 0, 0, 5e5, 0, odd, 0, 5e6, 0, 0, 0, 0, 0, 0, 0, 1]}
    else:
        changes |= {"t33922": [0, 0, 0, odd, odd, 0, 10, 10, 0, 5e5, 5e6, 0][: int(rng.integers(4, 13))]}
    return tiff(plain(64, 48, **changes), _stripes(64, 48))


def _odd_text(rng: Random) -> bytes:
    bomb = (
        b'<!DOCTYPE x [<!ENTITY a "'
        + b"a" * 1000
        + b'"><!ENTITY b "'
        + b"&a;" * 1000
        + b'">]><GDALMetadata>&b;</GDALMetadata>\0'
    )
    text = pick(
        rng,
        (
            bomb,
            b"<GDALMetadata>" + b"<Item>" * 20_000 + b"\0",
            b"<GDALMetadata><Item name='NBITS' sample='0'>99</Item></GDALMetadata>\0",
            b"<GDALMetadata><Item name='classes' sample='0'>[{\"id\": 1e999}]</Item></GDALMetadata>\0",
            b"<GDALMetadata><Item name='classes' sample='0'>[[[[[[[]]]]]]]</Item></GDALMetadata>\0",
            b"\xff\xfe" * 500 + b"\0",
            b"<GDALMetadata><Item name='OFFSET' sample='0' role='offset'>nan</Item></GDALMetadata>\0",
            b"<GDALMetadata><Item name='classes' sample='0'>" + b"[" * 100_000 + b"</Item></GDALMetadata>\0",
        ),
    )
    nodata = pick(rng, (b"0\0", b"nan\0", b"1e999\0", b"256\0", b"-1\0", b"0.5\0", b"\0", b"x" * 5000 + b"\0"))
    return tiff(plain(64, 48, t42112=text, t42113=nodata), _stripes(64, 48))


def _loop(rng: Random) -> bytes:
    return tiff(plain(64, 48), _stripes(64, 48), following=8)


def _bomb(rng: Random) -> bytes:
    """Zeros, compressed a thousand times; one block of all."""
    side = int(pick(rng, (4_000, 12_000)))
    squeezer = zlib.compressobj(9)
    row = bytes(side)
    squeezed = b"".join(squeezer.compress(row) for _ in range(side)) + squeezer.flush()
    return tiff(plain(side, side, t259=[8], t279=[len(squeezed)]), squeezed)


def _short_bomb(rng: Random) -> bytes:
    """A block that says to be large and holds a few bytes."""
    side = int(pick(rng, (40_000, 60_000)))
    squeezed = zlib.compress(bytes(100_000), 9)
    return tiff(plain(side, side, t259=[pick(rng, (8, 5, 32_773))], t279=[len(squeezed)]), squeezed)


def _stripes(width: int, height: int) -> bytes:
    return (np.indices((height, width))[1] // 9 * 40 % 251).astype(np.uint8).tobytes()


_PLACE = "<SRS>EPSG:32633</SRS><GeoTransform>500000, 1, 0, 5000000, 0, -1</GeoTransform>"


def _vrt(
    body: str, width: int = 96, height: int = 80, name: str = "absurd.vrt", attributes: str = ""
) -> Callable[[Path, Random], str]:
    size = f"rasterXSize='{width}' rasterYSize='{height}'"

    def write(folder: Path, rng: Random) -> str:
        (folder / name).write_text(f"<VRTDataset {size}{attributes}>{_PLACE}{body}</VRTDataset>")
        return name

    return write


def _source(name: str, kind: str = "SimpleSource", more: str = "") -> str:
    return (
        f"<VRTRasterBand dataType='Byte' band='1'><{kind}><SourceFilename relativeToVRT='1'>{name}</SourceFilename>"
        f"<SourceBand>1</SourceBand>{more}</{kind}></VRTRasterBand>"
    )


def _derived(function: str) -> str:
    """A band that a function of GDAL's, or of nobody's, makes of the scene."""
    band = "<VRTRasterBand dataType='Float32' band='1' subClass='VRTDerivedRasterBand'>"
    return _source("scene.tif").replace(
        "<VRTRasterBand dataType='Byte' band='1'>", f"{band}<PixelFunctionType>{function}</PixelFunctionType>"
    )


def _absolute(name: str) -> str:
    return _source(name).replace("relativeToVRT='1'", "relativeToVRT='0'")


def _huge_vrt(folder: Path, rng: Random) -> str:
    width, height = _sides(rng)
    body = pick(rng, ("<VRTRasterBand dataType='Byte' band='1'/>", _source("scene.tif")))
    return _vrt(body, width, height)(folder, rng)


def _two_ways(folder: Path, rng: Random) -> str:
    _vrt(_source("b.vrt"), name="a.vrt")(folder, rng)
    _vrt(_source("a.vrt"), name="b.vrt")(folder, rng)
    return "a.vrt"


def _chain(folder: Path, rng: Random) -> str:
    length = int(pick(rng, (10, 100, 400)))
    for number in range(length):
        _vrt(_source(f"{number + 1}.vrt" if number + 1 < length else "scene.tif"), name=f"{number}.vrt")(folder, rng)
    return "0.vrt"


def _fan(folder: Path, rng: Random) -> str:
    """Each names the next ten times: a block is read a thousand times."""
    for number in range(3):
        inner = f"{number + 1}.vrt" if number < 2 else "scene.tif"
        source = _source(inner).split(">", 1)[1].rsplit("</VRTRasterBand>", 1)[0]
        body = f"<VRTRasterBand dataType='Byte' band='1'>{source * 10}</VRTRasterBand>"
        _vrt(body, name=f"{number}.vrt")(folder, rng)
    return "0.vrt"


def _code(folder: Path, rng: Random) -> str:
    script = f"def f(*a, **k):\n    open({str(folder / MARK)!r}, 'w').close()\n"
    body = (
        "<VRTRasterBand dataType='Byte' band='1' subClass='VRTDerivedRasterBand'>"
        "<PixelFunctionType>f</PixelFunctionType>"
        f"<PixelFunctionLanguage>Python</PixelFunctionLanguage><PixelFunctionCode><![CDATA[{script}]]></PixelFunctionCode>"
        "<SimpleSource><SourceFilename relativeToVRT='1'>scene.tif</SourceFilename></SimpleSource></VRTRasterBand>"
    )
    return _vrt(body)(folder, rng)


def _places(folder: Path, rng: Random) -> str:
    rectangle = pick(
        rng,
        (
            "<SrcRect xOff='nan' yOff='0' xSize='9' ySize='9'/><DstRect xOff='0' yOff='0' xSize='9' ySize='9'/>",
            "<SrcRect xOff='-5' yOff='-5' xSize='1e9' ySize='1e9'/><DstRect xOff='0' yOff='0' xSize='64' ySize='48'/>",
            "<SrcRect xOff='0' yOff='0' xSize='9' ySize='9'/><DstRect xOff='1e308' yOff='0' xSize='9' ySize='inf'/>",
            "<SrcRect xOff='0' yOff='0' xSize='0' ySize='0'/><DstRect xOff='0' yOff='0' xSize='-9' ySize='9'/>",
            "<SrcRect xOff='0' yOff='0' xSize='1e-9' ySize='1e-9'/><DstRect xOff='0' yOff='0' xSize='64' ySize='48'/>",
        ),
    )
    kind = pick(rng, ("SimpleSource", "ComplexSource", "AveragedSource"))
    return _vrt(_source("scene.tif", kind, rectangle))(folder, rng)


def _raw(folder: Path, rng: Random) -> str:
    name = pick(rng, ("/etc/passwd", "scene.tif", "/proc/self/mem", "/dev/zero", "missing.raw"))
    body = (
        f"<VRTRasterBand dataType='Byte' band='1' subClass='VRTRawRasterBand'><SourceFilename relativeToVRT='0'>{name}"
        f"</SourceFilename><ImageOffset>{pick(rng, (0, 10**15))}</ImageOffset><PixelOffset>1</PixelOffset>"
        f"<LineOffset>{pick(rng, (96, -96, 2**31))}</LineOffset></VRTRasterBand>"
    )
    return _vrt(body)(folder, rng)


_ELSEWHERE = (
    *("", "&#0;"),
    *"/etc/passwd /etc/shadow /vsicurl/http://127.0.0.1:9/x.tif /vsizip/missing.zip/x.tif /vsis3/b/x.tif".split(),
    *"missing.tif /dev/null /dev/zero /proc/self/environ .. / NETCDF:missing.nc:x /vsistdin/ /vsimem/x".split(),
    *"/vsisubfile/0_9999999999,scene.tif GTIFF_DIR:9999:scene.tif http://127.0.0.1:9/".split(),
)


def _elsewhere(folder: Path, rng: Random) -> str:
    return _vrt(_absolute(pick(rng, _ELSEWHERE)))(folder, rng)


_BEGINNINGS = (
    *(
        b"",
        b"\0" * 4096,
        b"II*\0",
        b"II+\0",
        b"hello",
        b"<VRTDataset/>",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"%PDF-1.4",
    ),
    *(b"SIMPLE  =", b"\x89HDF\r\n\x1a\n", b"CDF\x01" + bytes(100), b"PK\x03\x04" + bytes(50)),
    b"<GDAL_WMS><Service name='TMS'><ServerUrl>http://127.0.0.1:9/${x}</ServerUrl></Service></GDAL_WMS>",
    *(b'{"type": "FeatureCollection", "features": []}', b"SQLite format 3\0" + bytes(84)),
)


def _no_raster(folder: Path, rng: Random) -> str:
    name = pick(rng, ("nothing.tif", "nothing", "nothing.png", "nothing.vrt", "nothing.nc"))
    (folder / name).write_bytes(pick(rng, _BEGINNINGS))
    return name


_NAMES = (
    *("", " ", "\n", "a" * 300),
    *"folder loop missing.tif . NETCDF: /vsizip/ /vsicurl/ GPKG:x:y PG: MEM::: /vsimem/x.tif scene.tif:1 *.tif".split(),
    *"GTIFF_DIR:7:scene.tif HDF5:scene.tif://x http://127.0.0.1:9/x.tif vrt://scene.tif?bands=9".split(),
    *"vrt://scene.tif?bands=1 s3://".split(),
)


def _name(folder: Path, rng: Random) -> str:
    (folder / "folder").mkdir()
    (folder / "loop").symlink_to("loop")
    return pick(rng, _NAMES)


_SMALL_VRTS: Mapping[str, Callable[[Path, Random], str]] = {
    "vrt of itself": _vrt(_source("absurd.vrt")),
    "vrt of 65,535 bands": _vrt("".join(f"<VRTRasterBand dataType='Byte' band='{n}'/>" for n in range(1, 65_536))),
    "vrt of no bands": _vrt(""),
    "vrt of no size": _vrt("<VRTRasterBand dataType='Byte' band='1'/>", 0, -1),
    "vrt masked by itself": _vrt(_source("scene.tif") + "<MaskBand>" + _source("absurd.vrt", more="") + "</MaskBand>"),
    "vrt with itself as overview": _vrt(
        _source("scene.tif").replace(
            "</VRTRasterBand>",
            "<Overview><SourceFilename relativeToVRT='1'>absurd.vrt</SourceFilename>"
            "<SourceBand>1</SourceBand></Overview></VRTRasterBand>",
        )
    ),
    "vrt in a vrt": _vrt(_source("&lt;VRTDataset rasterXSize='9' rasterYSize='9'&gt;&lt;/VRTDataset&gt;")),
    "vrt deep as xml": _vrt("<Metadata>" * 5_000 + "</Metadata>" * 5_000),
    "vrt warped of itself": _vrt(
        "<BlockXSize>64</BlockXSize><BlockYSize>48</BlockYSize><GDALWarpOptions>"
        "<SourceDataset relativeToVRT='1'>absurd.vrt</SourceDataset></GDALWarpOptions>"
        "<VRTRasterBand dataType='Byte' band='1' subClass='VRTWarpedRasterBand'/>",
        attributes=" subClass='VRTWarpedDataset'",
    ),
    "vrt of an unknown pixel function": _vrt(_derived("nonesuch")),
    "vrt of a pixel function": _vrt(_derived("log10")),
}

LIES: Mapping[str, Callable[[Path, Random], str]] = {
    "huge": _file(_huge),
    "huge and sparse": _file(_huge_sparse),
    "huge and tiled": _file(_huge_tiled),
    "tiles larger than the image": _file(_big_tiles),
    "many bands": _file(_many_bands),
    "strip counts": _file(_strip_counts),
    "an odd field": _file(_odd_field),
    "another odd field": _file(_odd_field),
    "an odd georeference": _file(_odd_georeference),
    "odd texts": _file(_odd_text),
    "a directory that follows itself": _file(_loop),
    "a bomb": _file(_bomb),
    "a short bomb": _file(_short_bomb),
    "a huge vrt": _huge_vrt,
    "vrts of each other": _two_ways,
    "a chain of vrts": _chain,
    "vrts tenfold": _fan,
    "vrt with code": _code,
    "vrt with odd places": _places,
    "vrt of raw bytes": _raw,
    "vrt of something else": _elsewhere,
    "no raster": _no_raster,
    "an odd name": _name,
    **_SMALL_VRTS,
}
