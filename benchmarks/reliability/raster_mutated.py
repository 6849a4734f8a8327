"""Files that a disk, a connection or somebody with a hex editor has damaged."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from benchmarks.reliability.raster_generated import Random, Subject, pick

_EXTREMES = (0, 1, 2, 3, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


def damage(folder: Path, base: Path, others: list[Path], rng: Random) -> Subject:
    """A copy of a file of a folder, with its companions, damaged in one of many ways.

    Args:
        folder: to write to.
        base: the sound file.
        others: more sound files, to splice it with.
        rng: that decides.
    """
    for companion in base.parent.glob(f"{base.stem}.*"):
        shutil.copyfile(companion, folder / companion.name.replace(base.stem, "damaged", 1))
    target = folder / base.name.replace(base.stem, "damaged", 1)
    content = target.read_bytes()
    way = pick(rng, tuple(_WAYS) + ("tags",) * (4 if content[:2] in (b"II", b"MM") else 0))
    mutated = _tags(content, rng) if way == "tags" else _WAYS[way](content, rng)
    if way == "splice":
        other = pick(rng, others).read_bytes()
        cut = int(rng.integers(len(content) + 1))
        mutated = content[:cut] + other[min(cut, len(other)) :]
    target.write_bytes(mutated)
    return Subject(target.name, f"{base.name} {way}")


def _flip_bits(content: bytes, rng: Random) -> bytes:
    return _flipped(content, rng, len(content))


def _flip_header(content: bytes, rng: Random) -> bytes:
    return _flipped(content, rng, min(len(content), 400))


def _flipped(content: bytes, rng: Random, within: int) -> bytes:
    array = np.frombuffer(content, np.uint8).copy()
    for place in rng.integers(0, max(1, within), int(pick(rng, (1, 1, 2, 8, 64)))):
        array[place] ^= np.uint8(1 << int(rng.integers(8)))
    return array.tobytes()


def _overwrite(content: bytes, rng: Random) -> bytes:
    start, length = int(rng.integers(len(content))), int(pick(rng, (1, 4, 64, 4096)))
    fill = pick(rng, (b"\x00", b"\xff", b"A", bytes(rng.integers(0, 256, 1, dtype=np.uint8))))
    return content[:start] + (fill * length)[: len(content) - start] + content[start + length :]


def _truncate(content: bytes, rng: Random) -> bytes:
    return content[: int(rng.integers(len(content)))]


def _nearly_whole(content: bytes, rng: Random) -> bytes:
    return content[: -int(rng.integers(1, 200))]


def _cut_out(content: bytes, rng: Random) -> bytes:
    start, length = int(rng.integers(len(content))), int(pick(rng, (1, 16, 512, 8192)))
    return content[:start] + content[start + length :]


def _double(content: bytes, rng: Random) -> bytes:
    start, length = int(rng.integers(len(content))), int(pick(rng, (1, 16, 512, 8192)))
    return content[: start + length] + content[start:]


def _append(content: bytes, rng: Random) -> bytes:
    return content + bytes(rng.integers(0, 256, int(pick(rng, (1, 1000))), dtype=np.uint8))


def _set_words(content: bytes, rng: Random) -> bytes:
    """Whole words at their extremes, where headers are."""
    array = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        place = int(rng.integers(max(1, min(len(content), 600) - 4)))
        array[place : place + 4] = struct.pack(pick(rng, ("<I", ">I")), pick(rng, _EXTREMES))
    return bytes(array[: len(content)])


_WAYS: Mapping[str, Callable[[bytes, Random], bytes]] = {
    "bits": _flip_bits,
    "header bits": _flip_header,
    "overwritten": _overwrite,
    "truncated": _truncate,
    "end missing": _nearly_whole,
    "cut out": _cut_out,
    "doubled": _double,
    "appended": _append,
    "words": _set_words,
    "splice": lambda content, rng: content,
}


def _tags(content: bytes, rng: Random) -> bytes:
    """A classic TIFF whose directory has values exchanged, or set to extremes."""
    order = "<" if content[:2] == b"II" else ">"
    (magic,) = struct.unpack_from(f"{order}H", content, 2)
    if magic != 42:
        return _flip_header(content, rng)
    (start,) = struct.unpack_from(f"{order}I", content, 4)
    if start + 2 > len(content):
        return content
    (count,) = struct.unpack_from(f"{order}H", content, start)
    array = bytearray(content)
    places = [start + 2 + 12 * i for i in range(count) if start + 14 + 12 * i <= len(content)]
    for _ in range(int(rng.integers(1, 3))):
        first, second = pick(rng, places), pick(rng, places)
        match pick(rng, ("value", "exchange", "type", "count", "tag", "value")):
            case "value":
                struct.pack_into(f"{order}I", array, first + 8, pick(rng, _EXTREMES))
            case "exchange":
                array[first + 8 : first + 12], array[second + 8 : second + 12] = (
                    array[second + 8 : second + 12],
                    array[first + 8 : first + 12],
                )
            case "type":
                struct.pack_into(f"{order}H", array, first + 2, int(rng.integers(0, 20)))
            case "count":
                struct.pack_into(f"{order}I", array, first + 4, pick(rng, _EXTREMES))
            case "tag":
                struct.pack_into(f"{order}H", array, first, int(rng.integers(250, 350)))
    return bytes(array)
