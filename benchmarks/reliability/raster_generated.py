"""Rasters drawn at random from all that GDAL can write: types, sizes, georeferences, masks, compressions, formats."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.rpc import RPC

Random = np.random.Generator

SIZES = ((1, 1), (1, 97), (61, 1), (2, 3), (15, 16), (16, 15), (33, 64), (80, 96), (130, 40), (257, 255))
DTYPES = (
    *("uint8",) * 4,
    *"int8 uint16 uint16 int16 uint32 int32 uint64 int64 float32 float64 complex_int16 complex64 complex128".split(),
)
BANDS = (1, 1, 1, 2, 3, 3, 3, 4, 4, 5, 8, 13)
CONTENTS = ("patches", "patches", "noise", "constant", "extremes", "specks")
FRESH_CONTENTS = (*CONTENTS, "meadow", "meadow", "meadow", "sand")
"""With covers: scenes that are mostly green, or bright and even."""
COMPRESSIONS = (
    "none lzw deflate zstd lzma packbits lerc lerc_deflate lerc_zstd jpeg webp jxl ccittfax3 ccittfax4 ccittrle"
).split()
LOSSY = frozenset({"jpeg", "webp", "jxl"})
LOSSY_FORMATS = frozenset("JPEG WEBP JP2OpenJPEG GIF MBTiles GPKG XPM BIGGIF PDF Rasterlite".split())
FORMATS = dict(
    pair.split(":")
    for pair in (
        "COG:tif PNG:png JPEG:jpg JP2OpenJPEG:jp2 HFA:img netCDF:nc GPKG:gpkg ENVI:dat WEBP:webp GIF:gif BMP:bmp "
        "PCIDSK:pix NITF:ntf MRF:mrf EHdr:bil PNM:ppm SGI:rgb Zarr:zarr RMF:rsw AAIGrid:asc GSAG:grd XYZ:xyz "
        "RST:rst SAGA:sdat KRO:kro ERS:ers ISIS3:cub PDS4:xml VICAR:vic RRASTER:grd VRT:vrt ILWIS:mpr MFF2:hkv "
        "GTX:gtx BT:bt PCRaster:map Terragen:ter MBTiles:mbtiles XPM:xpm PDF:pdf LCP:lcp HF2:hf2 ROI_PAC:raw "
        "SRTMHGT:hgt USGSDEM:dem NWT_GRD:grd LAN:lan BYN:byn GS7BG:grd GSBG:grd ISCE:slc PAux:aux"
    ).split()
)
"""Drivers that are tried, and suffixes of theirs."""


@dataclass(frozen=True)
class Subject:
    """A raster to be tried.

    Attributes:
        source: what names it, a path in the case's folder or a name of GDAL's.
        kind: what is odd about it.
        values: (bands, rows, cols) that it holds; ``None`` where they are not known for sure.
        valid: (rows, cols) where it holds data; ``None`` where that is not known for sure.
    """

    source: str
    kind: str
    values: NDArray[Any] | None = None
    valid: NDArray[np.bool_] | None = None


@dataclass
class Sketch:
    """A raster that is being drawn: what it holds, and what it says of itself.

    Attributes:
        values: (bands, rows, cols); invalid: (rows, cols) where it is to hold no data.
        profile: for ``rasterio.open``; traits: what is odd about it, in words.
        exact: whether values and validity will be read as they are drawn.
    """

    values: NDArray[Any]
    invalid: NDArray[np.bool_]
    profile: dict[str, Any]
    traits: list[str]
    masking: str = "none"
    gcps: list[GroundControlPoint] = field(default_factory=list)
    rpcs: RPC | None = None
    overviews: tuple[int, ...] = ()
    scale: tuple[float, float] | None = None
    exact: bool = True


def draw(
    folder: Path, rng: Random, *, labels: bool, fitting: bool = False, contents: tuple[str, ...] = CONTENTS
) -> Subject:
    """A raster at random, in a file of a folder.

    Args:
        folder: to write to.
        rng: that decides.
        labels: one band of few integers, as a label map has.
        fitting: on the grid of the scene and the map that it is held against.
        contents: what a picture may show.
    """
    sketch = _labels(rng, fitting) if labels else _picture(rng, fitting, contents)
    _place(sketch, rng, fitting)
    _mask(sketch, rng)
    _store(sketch, rng)
    path = _written(sketch, folder, rng)
    path = _wrapped(sketch, path, rng)
    exact = sketch.exact
    source = path if isinstance(path, str) else path.name
    return Subject(
        source, " ".join(sketch.traits), sketch.values if exact else None, ~sketch.invalid if exact else None
    )


def pick(rng: Random, choices: Any) -> Any:
    """One of several, each as likely."""
    return choices[int(rng.integers(len(choices)))]


def _picture(rng: Random, fitting: bool, contents: tuple[str, ...]) -> Sketch:
    size, dtype = SIDES if fitting else pick(rng, SIZES), pick(rng, DTYPES)
    count = pick(rng, BANDS)
    if not fitting and rng.random() < 0.03:
        size, count = (9, 14), pick(rng, (100, 300, 500))
    content = pick(rng, contents)
    values = _content(rng, content, (count, *size), dtype)
    traits = [f"{size[0]}x{size[1]}", f"{count} bands", dtype, content]
    return Sketch(values, np.zeros(size, dtype=bool), {"driver": "GTiff", "dtype": dtype}, traits)


def _labels(rng: Random, fitting: bool) -> Sketch:
    size = SIDES if fitting else pick(rng, SIZES)
    dtype = pick(rng, ("uint8", "uint8", "uint8", "int8", "uint16", "int16", "uint32", "int32", "int64", "uint64"))
    most = pick(rng, (1, 2, 5, 60, 127))
    rows, cols = np.indices(size)
    values = ((rows // 7 + cols // 9) % most).astype(dtype)[None]
    traits = [f"labels {size[0]}x{size[1]}", dtype, f"{most} labels"]
    odd = rng.random()
    if odd < 0.1:
        values[0].flat[:: max(1, values.size // 5)] = np.iinfo(dtype).max - (dtype == "uint8")
        traits.append("largest values")
    elif odd < 0.2 and dtype.startswith("int"):
        values[0].flat[:: max(1, values.size // 5)] = -3
        traits.append("negative values")
    elif odd < 0.3:
        values = rng.integers(0, min(250, np.iinfo(dtype).max), values.shape).astype(dtype)
        traits.append("noise")
    return Sketch(values, np.zeros(size, dtype=bool), {"driver": "GTiff", "dtype": dtype}, traits)


_COVERS: Mapping[str, tuple[float, float, float]] = {"meadow": (0.25, 0.45, 0.2), "sand": (0.8, 0.75, 0.65)}
"""Red, green and blue of what covers most of a scene, as shares of its range."""


def _content(rng: Random, content: str, shape: tuple[int, int, int], dtype: str) -> NDArray[Any]:
    kind = np.dtype("complex64" if dtype == "complex_int16" else dtype)
    low, high = (0.0, 1000.0) if kind.kind in "fc" else (0.0, min(250.0, float(np.iinfo(kind).max)))
    if dtype in ("uint16", "uint32"):
        high = 4000.0
    rows, cols = np.indices(shape[1:])
    base = ((rows // 13 + cols // 17) % 3) * (high - low) / 3 + low
    values = base + rng.uniform(0, (high - low) / 8, shape)
    if content == "noise":
        values = rng.uniform(low, high, shape)
    elif content == "constant":
        values = np.full(shape, pick(rng, (0, 1, 100)))
    elif content in _COVERS:
        cover = np.resize(_COVERS[content], shape[0])[:, None, None] * (high - low) + low
        values = np.where(rows < 0.8 * shape[1], cover + rng.uniform(0, (high - low) / 30, shape), values)
    filled = values.astype(kind)
    if content == "extremes":
        ends = (
            np.array([np.finfo(kind).min, np.finfo(kind).max, np.finfo(kind).tiny, 0])
            if kind.kind in "fc"
            else np.array([np.iinfo(kind).min, np.iinfo(kind).max], dtype=kind)
        )
        filled = ends[rng.integers(0, len(ends), shape)].astype(kind)
    elif content == "specks" and kind.kind in "fc":
        hit = rng.random(shape[1:]) < 0.2
        filled[:, hit] = pick(rng, (np.nan, np.inf, -np.inf))
    return filled


_SYSTEMS = (
    "EPSG:32633",
    "EPSG:32633",
    "EPSG:32633",
    "EPSG:28992",
    "EPSG:3857",
    "EPSG:2263",
    "EPSG:4326",
    "EPSG:4269",
    "EPSG:3031",
    "EPSG:3413",
    "EPSG:4978",
    "EPSG:7415",
    "EPSG:4979",
    "EPSG:5773",
    "ESRI:54009",
    "ESRI:102100",
    "EPSG:9705",
    None,
    'LOCAL_CS["site",UNIT["metre",1]]',
    'ENGCRS["deck",EDATUM["ship"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["foot",0.3048]]',
    'PROJCS["moon",GEOGCS["moon",DATUM["moon",SPHEROID["moon",1737400,0]],'
    'PRIMEM["here",0],UNIT["degree",0.0174532925199433]],PROJECTION["Equirectangular"],UNIT["metre",1]]',
)


def _place(sketch: Sketch, rng: Random, fitting: bool) -> None:
    """Where it lies: all that is odd about systems and transforms."""
    system = pick(rng, _SYSTEMS)
    degrees = system in ("EPSG:4326", "EPSG:4269", "EPSG:4979", "EPSG:9705")
    size = 1e-5 if degrees else 1.0
    x, y = (14.0, 50.0) if degrees else (500000.0, 5000000.0)
    transform = Affine(size, 0, x, 0, -size, y)
    odd = pick(rng, ("plain",) * 12 + tuple(_TRANSFORMS) + ("antimeridian", "pole", "gcps", "gcps", "rpcs", "identity"))
    if odd in _TRANSFORMS:
        transform = transform * _TRANSFORMS[odd]
    elif odd == "antimeridian":
        system, transform = "EPSG:4326", Affine(1e-2, 0, 179.9, 0, -1e-2, 10)
    elif odd == "pole":
        system, transform = "EPSG:4326", Affine(0.5, 0, -180, 0, -0.5, 91)
    elif odd == "gcps":
        sketch.gcps = _points(rng, sketch.values.shape[1:], transform)
    elif odd == "rpcs":
        sketch.rpcs, transform = _rational(), Affine.identity()
    elif odd == "identity":
        transform = Affine.identity()
    if fitting:
        odd, system, transform, sketch.gcps, sketch.rpcs = "plain", "EPSG:32633", PLAIN, [], None
    sketch.traits += [str(system)[:12], odd]
    with suppress(rasterio.errors.CRSError):
        sketch.profile["crs"] = None if system is None else CRS.from_user_input(system)
    sketch.profile["transform"] = transform


PLAIN, SIDES = Affine(1, 0, 500000, 0, -1, 5000000), (80, 96)
"""Where the scene and the map lie that hostile ones are held against, and their rows and columns."""

_TRANSFORMS: Mapping[str, Affine] = {
    "rotated": Affine.rotation(33),
    "sheared": Affine(1, 0.5, 0, 0.2, 1, 0),
    "south-up": Affine.scale(1, -1),
    "mirrored": Affine.scale(-1, 1),
    "oblong": Affine.scale(1, 7),
    "no width": Affine.scale(0, 1),
    "no height": Affine.scale(1, 0),
    "no size": Affine.scale(0, 0),
    "a line": Affine(1, 1, 0, 1, 1, 0),
    "tiny": Affine.scale(1e-12),
    "huge": Affine.scale(1e12),
    "far away": Affine.translation(1e12, -1e12),
    "endless": Affine.scale(float("inf")),
    "not a number": Affine.scale(float("nan")),
}


def _points(rng: Random, shape: tuple[int, ...], transform: Affine) -> list[GroundControlPoint]:
    rows, cols = shape
    places = [(0, 0), (0, cols), (rows, 0), (rows, cols), (rows / 2, cols / 3)][: int(rng.integers(1, 6))]
    if rng.random() < 0.2:
        places = [(row, row) for row, _ in places]  # on one line
    jitter = pick(rng, (0.0, 0.0, 1.0, 1e6))
    return [
        GroundControlPoint(row, col, *(np.array(transform * (col, row)) + rng.normal(0, 1, 2) * jitter), z=0)
        for row, col in places
    ]


def _rational() -> RPC:
    unit = [0.0, 1.0, *([0.0] * 18)]
    one = [1.0, *([0.0] * 19)]
    return RPC(
        height_off=0,
        height_scale=100,
        lat_off=50,
        lat_scale=0.1,
        line_den_coeff=one,
        line_num_coeff=unit,
        line_off=10,
        line_scale=10,
        long_off=14,
        long_scale=0.1,
        samp_den_coeff=one,
        samp_num_coeff=unit,
        samp_off=10,
        samp_scale=10,
        err_bias=None,
        err_rand=None,
    )


def _mask(sketch: Sketch, rng: Random) -> None:
    """Where it holds no data, and what says so."""
    sketch.masking = pick(rng, ("none", "none", "nodata", "nodata", "alpha", "mask", "mask file", "nodata and mask"))
    dtype, shape = sketch.profile["dtype"], sketch.invalid.shape
    complex_kind = dtype.startswith("complex")
    sketch.exact &= len(sketch.values) != 4  # whose last band GDAL takes for an alpha band
    if complex_kind or (sketch.masking == "alpha" and len(sketch.values) > 5):
        sketch.masking = "none"
    if sketch.values.dtype.kind == "f":
        finite = np.isfinite(sketch.values[:3]).all(axis=0)
        sketch.exact &= bool(finite.all())
    sketch.exact &= not complex_kind
    if sketch.masking == "none":
        return
    extent = pick(rng, ("corner", "corner", "all", "pixels"))
    sketch.invalid[:] = extent == "all"
    if extent == "corner":
        sketch.invalid[: shape[0] // 2, : shape[1] // 2] = True
    elif extent == "pixels":
        sketch.invalid[:] = rng.random(shape) < 0.3
    sketch.traits.append(f"{sketch.masking} {extent}")
    if sketch.masking.startswith("nodata"):
        kind = sketch.values.dtype
        ends = (float("nan"), -9999.0, 0.0) if kind.kind == "f" else (0, int(np.iinfo(kind).max), 7)
        nodata = pick(rng, ends)
        sketch.profile["nodata"] = nodata
        stray = np.isnan(sketch.values) if nodata != nodata else sketch.values == nodata
        sketch.values[stray] = 1 if nodata != 1 else 2
        sketch.values[:, sketch.invalid] = nodata
        sketch.exact &= abs(nodata) < 2**53


def _store(sketch: Sketch, rng: Random) -> None:
    """How a GeoTIFF keeps it."""
    profile, dtype = sketch.profile, sketch.profile["dtype"]
    compression = pick(rng, COMPRESSIONS)
    if compression.startswith("ccitt"):
        sketch.values = (sketch.values[:1].real > 100).astype("uint8")
        dtype = profile["dtype"] = "uint8"
        profile |= {"nbits": 1}
        profile.pop("nodata", None)
        sketch.exact = False
    if compression != "none":
        profile["compress"] = compression
    sketch.exact &= compression not in LOSSY
    sketch.exact &= not (compression.startswith("lerc") and sketch.masking == "alpha")  # GDAL may read zeros of these
    layout = pick(rng, ("tiles", "tiles", "rows", "strips", "one strip"))
    if layout == "tiles":
        profile |= {
            "tiled": True,
            "blockxsize": 16 * int(rng.integers(1, 4)),
            "blockysize": 16 * int(rng.integers(1, 9)),
        }
    elif layout != "strips":
        profile["blockysize"] = 1 if layout == "rows" else sketch.invalid.shape[0]
    profile["interleave"] = pick(rng, ("pixel", "band"))
    if rng.random() < 0.2:
        profile["bigtiff"] = "yes"
    if rng.random() < 0.2:
        profile["sparse_ok"] = True
    if rng.random() < 0.2:
        profile["endianness"] = "big"
    if rng.random() < 0.2 and dtype in ("uint8", "uint16") and "nodata" not in profile and "nbits" not in profile:
        bits = int(rng.integers(2, 8)) if dtype == "uint8" else int(rng.integers(9, 16))
        sketch.values = np.minimum(sketch.values, 2**bits - 1).astype(dtype)
        profile["nbits"] = bits
    if compression in ("lzw", "deflate", "zstd") and "nbits" not in profile and rng.random() < 0.5:
        profile["predictor"] = 3 if dtype in ("float32", "float64") else 2
    if len(sketch.values) == 3 and dtype == "uint8" and rng.random() < 0.4:
        profile["photometric"] = pick(rng, ("ycbcr" if compression == "jpeg" else "rgb", "rgb", "cielab"))
        sketch.exact &= profile["photometric"] != "cielab"
    if len(sketch.values) == 1 and dtype == "uint8" and rng.random() < 0.1:
        profile["photometric"] = "miniswhite"
        sketch.exact = False
    if rng.random() < 0.15:
        sketch.overviews = pick(rng, ((2,), (2, 4, 8), (3,), (2, 1000)))
    if rng.random() < 0.1:
        sketch.scale = pick(rng, ((0.01, -5.0), (0.0, 1.0), (-1.0, 0.0), (float("nan"), 0.0), (float("inf"), 0.0)))
    sketch.traits += [compression, layout]


def _written(sketch: Sketch, folder: Path, rng: Random) -> Path:
    """Write it as a GeoTIFF, plainer where GDAL refuses, and perhaps from there into another format."""
    path = folder / "hostile.tif"
    try:
        _write_tiff(sketch, path, rng)
    except Exception:  # a combination that GDAL does not write
        for key in (
            "compress",
            "predictor",
            "photometric",
            "interleave",
            "nbits",
            "sparse_ok",
            "endianness",
            "blockysize",
            "blockxsize",
            "tiled",
            "nodata",
        ):
            sketch.profile.pop(key, None)
        sketch.overviews, sketch.exact = (), False
        sketch.traits.append("plainer")
        for leftover in folder.glob("hostile*"):
            leftover.unlink()
        _write_tiff(sketch, path, rng)
    if rng.random() < 0.35:
        path = _converted(sketch, path, rng)
    if sketch.exact:
        with rasterio.open(path) as dataset:  # some drivers lose values, LERC's even all of them in odd blocks
            bands = list(range(1, len(sketch.values) + 1))
            sketch.exact = np.array_equal(dataset.read(bands), sketch.values, equal_nan=sketch.values.dtype.kind == "f")
    return path


def _write_tiff(sketch: Sketch, path: Path, rng: Random) -> None:
    count, rows, cols = sketch.values.shape
    has_alpha = sketch.masking == "alpha"
    environment = {"GDAL_TIFF_INTERNAL_MASK": sketch.masking != "mask file", "GDAL_PAM_ENABLED": "YES"}
    profile = {**sketch.profile, "count": count + has_alpha, "height": rows, "width": cols}
    if sketch.gcps:
        profile.pop("transform")
    with rasterio.Env(**environment), rasterio.open(path, "w", **profile) as dataset:
        if sketch.gcps:
            dataset.gcps = (sketch.gcps, sketch.profile.get("crs") or CRS.from_epsg(4326))
        if sketch.rpcs is not None:
            dataset.rpcs = sketch.rpcs
        if sketch.scale is not None:
            dataset.scales, dataset.offsets = ((value,) * dataset.count for value in sketch.scale)
        if has_alpha:
            dataset.colorinterp = [*dataset.colorinterp[:-1], ColorInterp.alpha]
            most = 1.0 if sketch.values.dtype.kind == "f" else np.iinfo(sketch.values.dtype).max
            dataset.write(np.where(sketch.invalid, 0, most).astype(sketch.values.dtype), count + 1)
        elif _may_have_colours(sketch) and rng.random() < 0.3:
            dataset.write_colormap(1, _colours(rng))
            sketch.traits.append("palette")
            sketch.exact = False
        dataset.write(sketch.values, list(range(1, count + 1)))
        if "mask" in sketch.masking:
            dataset.write_mask(~sketch.invalid)
    if sketch.overviews:
        external = rng.random() < 0.5
        with rasterio.Env(TIFF_USE_OVR=external), rasterio.open(path, "r" if external else "r+") as dataset:
            dataset.build_overviews(list(sketch.overviews))


def _may_have_colours(sketch: Sketch) -> bool:
    small = sketch.profile["dtype"] in ("uint8", "uint16")
    return len(sketch.values) == 1 and small and sketch.profile.get("photometric") != "miniswhite"


def _colours(rng: Random) -> dict[int, tuple[int, int, int, int]]:
    entries = int(pick(rng, (1, 2, 16, 256)))
    return {i: tuple(int(v) for v in rng.integers(0, 256, 4)) for i in range(entries)}  # type: ignore[misc]


def _converted(sketch: Sketch, path: Path, rng: Random) -> Path:
    """A copy in another format, if its driver takes it; else the file itself."""
    driver = pick(rng, tuple(FORMATS))
    target = path.with_name(f"image.{FORMATS[driver]}")
    try:
        rasterio.shutil.copy(path, target, driver=driver, strict=False)
        with rasterio.open(target) as dataset:
            kept = dataset.count == len(sketch.values) and dataset.dtypes[0] == sketch.profile["dtype"]
            kept &= dataset.nodata == sketch.profile.get("nodata")  # some formats have one of their own
            kept &= ColorInterp.alpha not in dataset.colorinterp  # SGI takes the second of two bands for one
            if not dataset.count:
                raise ValueError
    except Exception:
        return path
    # A format may drop masks, alter nodata, or lose georeference: only what carries no mask is known to be whole.
    sketch.exact &= kept and sketch.masking == "none" and driver not in LOSSY_FORMATS
    sketch.traits.append(driver)
    return target


_NODATA_WORDS = ("-9999", "nan", "1e400", "256.5", "inf", "abc", "18446744073709551616", "-0.0")


def _wrapped(sketch: Sketch, path: Path, rng: Random) -> Path | str:
    """Perhaps inside a virtual raster that says odd things of it, or an archive, or under a wrong name."""
    way = pick(rng, ("no",) * 12 + ("vrt", "vrt", "gzip", "zip", "renamed"))
    if way == "vrt":
        return _virtual(sketch, path, rng)
    if way == "renamed" and path.suffix == ".tif":
        sketch.traits.append("renamed")
        sketch.exact &= sketch.masking != "mask file"
        return path.rename(path.with_name(pick(rng, ("a b.jpg", "ü&é'.png", "x", "weird;name$(id).tif", "-dash.tif"))))
    if way == "gzip" and path.suffix == ".tif":
        import gzip

        path.with_suffix(".tif.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
        sketch.traits.append("gzip")
        sketch.exact &= sketch.masking != "mask file"
        return f"/vsigzip/{path.parent}/{path.name}.gz"
    if way == "zip" and path.suffix == ".tif":
        import zipfile

        with zipfile.ZipFile(path.with_suffix(".zip"), "w") as archive:
            archive.write(path, path.name)
        sketch.traits.append("zip")
        sketch.exact &= sketch.masking != "mask file"
        return f"/vsizip/{path.parent}/{path.stem}.zip/{path.name}"
    return path


def _virtual(sketch: Sketch, path: Path, rng: Random) -> Path:
    sketch.traits.append("vrt")
    sketch.exact = False
    with rasterio.open(path) as dataset:
        rows, cols, count, types = dataset.height, dataset.width, dataset.count, dataset.dtypes
    nodata = pick(rng, _NODATA_WORDS)
    system = pick(rng, ("EPSG:32633", "EPSG:999999", "garbage", 'PROJCS["broken', "+proj=nonsense", ""))
    words = pick(rng, ("500000, 1, 0, 5000000, 0, -1", "nan, nan, nan, nan, nan, nan", "1, 2, 3", "0, 0, 0, 0, 0, 0"))
    bands = "".join(
        f"<VRTRasterBand dataType={quoteattr(_GDAL_TYPES.get(types[band], 'Byte'))} band='{band + 1}'>"
        f"<NoDataValue>{nodata}</NoDataValue><Scale>{pick(rng, ('1', '0', 'x', '1e-400'))}</Scale><SimpleSource>"
        f"<SourceFilename relativeToVRT='1'>{escape(path.name)}</SourceFilename><SourceBand>{band + 1}</SourceBand>"
        f"</SimpleSource></VRTRasterBand>"
        for band in range(min(count, 5))
    )
    target = path.with_name("virtual.vrt")
    target.write_text(
        f"<VRTDataset rasterXSize='{cols}' rasterYSize='{rows}'><SRS>{escape(system)}</SRS>"
        f"<GeoTransform>{words}</GeoTransform>{bands}</VRTDataset>"
    )
    return target


_GDAL_TYPES = {
    "uint8": "Byte",
    "int8": "Int8",
    "uint16": "UInt16",
    "int16": "Int16",
    "uint32": "UInt32",
    "int32": "Int32",
    "uint64": "UInt64",
    "int64": "Int64",
    "float32": "Float32",
    "float64": "Float64",
    "complex64": "CFloat32",
    "complex128": "CFloat64",
}
