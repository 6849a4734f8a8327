"""Bytes that are not what was written: cut, flipped, moved, doubled, filled in."""

from __future__ import annotations

import random
from collections.abc import Callable


def cut(content: bytearray, rng: random.Random) -> None:
    """Only the beginning is left."""
    del content[rng.choice((rng.randrange(64), rng.randrange(len(content)), len(content) - rng.randrange(1, 64))) :]


def flip(content: bytearray, rng: random.Random) -> None:
    """One to three bits are others."""
    for _ in range(rng.randrange(1, 4)):
        content[_place(content, rng)] ^= 1 << rng.randrange(8)


def scatter(content: bytearray, rng: random.Random) -> None:
    """Some bytes are others."""
    for _ in range(rng.randrange(4, 200)):
        content[_place(content, rng)] = rng.randrange(256)


def remove(content: bytearray, rng: random.Random) -> None:
    """A part is missing."""
    start = _place(content, rng)
    del content[start : start + rng.choice((1, 8, 100, 5_000))]


def insert(content: bytearray, rng: random.Random) -> None:
    """Something stands between."""
    start = _place(content, rng)
    content[start:start] = rng.randbytes(rng.choice((1, 8, 100)))


def fill(content: bytearray, rng: random.Random) -> None:
    """A part was never written: zeros, or ones."""
    start = _place(content, rng)
    length = min(rng.choice((8, 512, 4096)), len(content) - start)
    content[start : start + length] = rng.choice((b"\0", b"\xff")) * length


def double(content: bytearray, rng: random.Random) -> None:
    """A part stands twice."""
    start = _place(content, rng)
    content[start:start] = content[start : start + rng.choice((16, 600))]


KINDS: tuple[Callable[[bytearray, random.Random], None], ...] = (cut, flip, flip, scatter, remove, insert, fill, double)


def mutate(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """A kind of damage by name, and the bytes that are left."""
    kind, damaged = rng.choice(KINDS), bytearray(content)
    kind(damaged, rng)
    return kind.__name__, bytes(damaged)


def _place(content: bytearray, rng: random.Random) -> int:
    """Anywhere, and half of the time where headers are."""
    return rng.randrange(min(len(content), 2_000) if rng.random() < 0.5 else len(content))
