"""From stored values to [0, 1]: one rule for the whole scene, never one per tile.

Scaling a tile by its own contents makes neighbouring tiles disagree along their seam, so the range is settled once,
when the scene is opened, and every window is read with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geohp.errors import ConfigError, SceneError

DEFAULT_PERCENTILES = (2.0, 98.0)
_FORMS = '"auto", "type", "percentiles", "percentiles:2,98", "percentiles-per-band:2,98", "LOW,HIGH" or "LOW,HIGH;..."'


@dataclass(frozen=True)
class Scaling:
    """A settled range per channel.

    Attributes:
        rule: the rule it came from, as text ("type", "percentiles:2,98", "0,10000", ...).
        low: stored value that becomes 0, one per channel.
        high: stored value that becomes 1, one per channel.
    """

    rule: str
    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.low) != len(self.high) or not self.low:
            raise ConfigError(f"A scaling needs as many lows as highs, at least one: got {self.low} and {self.high}.")

    def apply(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Scale stored values to [0, 1] and clip.

        Args:
            values: ``(channels, ...)`` of any real dtype.

        Returns:
            float32 of the same shape, in [0, 1] everywhere: NaN and a constant channel (low = high) become 0.
        """
        if len(values) != len(self.low):
            raise ValueError(f"{len(values)} channels given to a scaling of {len(self.low)}")
        exact = np.float32 if values.dtype.itemsize <= 2 or values.dtype == np.float32 else np.float64
        scaled: NDArray[Any] = values.astype(exact)
        with np.errstate(over="ignore", invalid="ignore"):
            for channel, low, high in zip(scaled, self.low, self.high, strict=True):
                span = exact(high - low)
                if not span > 0:  # also where the difference vanishes in this precision
                    channel[...] = 0
                    continue
                if low != 0:
                    channel -= exact(low)
                channel /= span
        if not self._covers(values.dtype):
            np.clip(scaled, 0, 1, out=scaled)
        if values.dtype.kind == "f":
            np.copyto(scaled, 0, where=np.isnan(scaled))
        return scaled.astype(np.float32, copy=False)

    def _covers(self, dtype: np.dtype[Any]) -> bool:
        """Whether no value of ``dtype`` can fall outside, so that clipping would be wasted."""
        if dtype.kind not in "ui":
            return False
        info = np.iinfo(dtype)
        pairs = zip(self.low, self.high, strict=True)
        return all(low <= info.min and high >= info.max for low, high in pairs)


@dataclass(frozen=True)
class ScalingRule:
    """A rule as asked for, before a scene has been seen.

    Attributes:
        text: canonical text of the rule.
        kind: "auto", "type", "percentiles" or "fixed".
        percentiles: lower and upper, for "percentiles".
        per_band: for "percentiles", a range for each channel instead of one for all.
        pairs: (low, high), one for all channels or one each, for "fixed".
    """

    text: str
    kind: str
    percentiles: tuple[float, float] = DEFAULT_PERCENTILES
    per_band: bool = False
    pairs: tuple[tuple[float, float], ...] = ()


def parse_rule(rule: str | Sequence[Any]) -> ScalingRule:
    """Read a scaling rule as a user writes it.

    Args:
        rule: "auto", "type", "percentiles" (2 and 98), "percentiles:LOW,HIGH", "percentiles-per-band:LOW,HIGH",
            "LOW,HIGH" or "LOW,HIGH;LOW,HIGH;..." in stored values; or a pair of numbers; or a list of pairs.

    Raises:
        ConfigError: a text that is none of these, or an impossible range.
    """
    if not isinstance(rule, str):
        return _from_numbers(rule)
    text = rule.strip().lower()
    if text in ("auto", "type"):
        return ScalingRule(text, text)
    name, _, arguments = text.partition(":")
    if name.strip() in ("percentiles", "percentiles-per-band"):
        low, high = _pair(arguments, rule) if arguments.strip() else DEFAULT_PERCENTILES
        if not 0 <= low < high <= 100:
            raise ConfigError(f'Scaling "{rule}": percentiles must rise and lie between 0 and 100, as in 2,98.')
        per_band = name.strip() != "percentiles"
        return ScalingRule(f"{name.strip()}:{low:g},{high:g}", "percentiles", (low, high), per_band)
    return _from_numbers([_pair(part, rule) for part in text.split(";") if part.strip()], rule)


@dataclass(frozen=True)
class StoredType:
    """What a band stores: its dtype, and how many bits of it matter where the file declares fewer than all."""

    dtype: np.dtype[Any]
    bits: int | None = None


def resolve_scaling(
    rule: ScalingRule, stored: Sequence[StoredType], sample: Callable[[], NDArray[Any]], where: str
) -> Scaling:
    """Find the range of a rule for one scene.

    "auto" is the type's range for 8-bit data and percentiles for everything else. Percentiles are measured per
    channel, and then the lowest low and the highest high serve all channels: no channel loses more than was asked
    at either end, and the ratio between channels, the hue, is kept. A range for each channel would turn a forest
    grey. "percentiles-per-band" does that on purpose, for channels that share no unit.

    Args:
        rule: what was asked for.
        stored: what each channel stores.
        sample: called only if percentiles are needed; valid stored values ``(channels, n)``.
        where: the file, for messages.

    Raises:
        ConfigError: a list of ranges that does not fit the number of channels.
        SceneError: "type" asked of floating-point data.
    """
    channels = len(stored)
    if rule.kind == "fixed":
        pairs = rule.pairs * channels if len(rule.pairs) == 1 else rule.pairs
        if len(pairs) != channels:
            raise ConfigError(
                f'Scaling "{rule.text}" gives {len(pairs)} ranges for {channels} bands of {where}: '
                f"give one, or {channels}."
            )
        return Scaling(rule.text, tuple(low for low, _ in pairs), tuple(high for _, high in pairs))
    if rule.kind == "auto":
        rule = parse_rule("type" if all(channel.dtype == np.uint8 for channel in stored) else "percentiles")
    if rule.kind == "type":
        ranges = [_type_range(channel, where) for channel in stored]
        return Scaling(rule.text, tuple(low for low, _ in ranges), tuple(high for _, high in ranges))
    return _measured(rule, stored, sample(), where)


def _measured(rule: ScalingRule, stored: Sequence[StoredType], values: NDArray[Any], where: str) -> Scaling:
    if values.size == 0:  # nothing valid: any range does, no pixel will be scaled by it
        ranges = [(0.0, 1.0) if channel.dtype.kind == "f" else _type_range(channel, where) for channel in stored]
        return Scaling(rule.text, tuple(low for low, _ in ranges), tuple(high for _, high in ranges))
    lows, highs = np.percentile(values, rule.percentiles, axis=1)
    if not rule.per_band:
        lows, highs = np.full_like(lows, lows.min()), np.full_like(highs, highs.max())
    return Scaling(rule.text, tuple(float(low) for low in lows), tuple(float(high) for high in highs))


def _type_range(stored: StoredType, where: str) -> tuple[float, float]:
    dtype = stored.dtype
    if dtype.kind == "f":
        raise SceneError(
            f'{where} holds {dtype} values, whose type has no range to scale by: use "percentiles" or give "LOW,HIGH".'
        )
    if stored.bits is not None and dtype.kind == "u":
        return 0.0, float(2**stored.bits - 1)
    return float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)


def _from_numbers(numbers: Sequence[Any], text: str | None = None) -> ScalingRule:
    text = text if text is not None else repr(numbers)
    try:
        nested = [numbers] if len(numbers) == 2 and not any(np.ndim(number) for number in numbers) else list(numbers)
        pairs = tuple((float(low), float(high)) for low, high in nested)
    except (TypeError, ValueError):
        raise ConfigError(f"Scaling {text} is not understood: use {_FORMS}.") from None
    if not pairs:
        raise ConfigError(f"Scaling {text!r} is empty: use {_FORMS}.")
    for low, high in pairs:
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ConfigError(f"Scaling {text}: the low value must be below the high one, got {low:g},{high:g}.")
    return ScalingRule(";".join(f"{low!r},{high!r}" for low, high in pairs), "fixed", pairs=pairs)


def _pair(text: str, rule: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f'Scaling "{rule}" is not understood: use {_FORMS}.') from None
    return low, high
