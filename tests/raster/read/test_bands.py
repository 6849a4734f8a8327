"""Choosing bands by number, name and colour, and by default."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from geohp.errors import SceneError
from geohp.raster.read.bands import BandTable, are_named, as_infrared, asked_colours, select_bands


def table(*interpretations: str, names: tuple[str | None, ...] | None = None) -> BandTable:
    return BandTable(names or (None,) * len(interpretations), interpretations, "scene.tif")


@pytest.mark.parametrize("order", list(itertools.permutations(("red", "green", "blue", "alpha"))))
def test_default_is_red_green_blue_whatever_their_order(order: tuple[str, ...]) -> None:
    numbers = select_bands(table(*order)).numbers
    assert [order[number - 1] for number in numbers] == ["red", "green", "blue"]


@pytest.mark.parametrize(
    ("interpretations", "expected"),
    [
        (("gray", "undefined", "undefined", "undefined"), (1, 2, 3)),
        (("gray",), (1, 1, 1)),
        (("gray", "alpha"), (1, 1, 1)),
        (("alpha", "gray"), (2, 2, 2)),
        (("gray", "undefined"), (1, 1, 1)),
        (("gray", "alpha", "undefined", "undefined"), (1, 3, 4)),
        (("blue", "green", "red", "undefined"), (3, 2, 1)),
        (("red", "green", "undefined"), (1, 2, 3)),
    ],
)
def test_default_without_complete_colours(interpretations: tuple[str, ...], expected: tuple[int, ...]) -> None:
    assert select_bands(table(*interpretations)).numbers == expected


def test_one_band_needs_no_list() -> None:
    colours = table("red", "green", "blue")
    for band in (2, np.int64(2), "2", "green"):
        assert select_bands(colours, band).numbers == select_bands(colours, [band]).numbers == (2,)
    assert select_bands(colours, "3, red").numbers == (3, 1)
    with pytest.raises(SceneError, match=r"no band 1\.5"):
        select_bands(colours, [1.5])  # type: ignore[list-item]


def test_default_by_description_where_colours_are_untagged() -> None:
    names = ("NIR", "Blue", "Green", "Red")
    assert select_bands(table("gray", *["undefined"] * 3, names=names)).numbers == (4, 3, 2)


def test_default_leaves_out_a_band_described_as_mask() -> None:
    assert select_bands(table("gray", "undefined", "undefined", names=("pan", "Valid mask", None))).numbers == (1, 1, 1)


def test_alpha_is_known_by_its_letter() -> None:
    assert select_bands(table("red", "alpha"), "A").numbers == (2,)
    assert select_bands(table("gray", "undefined", "undefined", "undefined", names=("a", *"xyz"))).numbers == (2, 3, 4)


def test_only_masks_is_an_error() -> None:
    with pytest.raises(SceneError, match="nothing but masks"):
        select_bands(table("alpha"))


@pytest.mark.parametrize(
    ("requested", "expected"),
    [
        ([4, 1, 1], (4, 1, 1)),
        (["nir", "RED", "g"], (4, 3, 2)),
        (["B", "R"], (1, 3)),
        (["Near-Infrared"], (4,)),
        ("4, red", (4, 3)),
        (["2"], (2,)),
        (["visible 1"], (1,)),
    ],
)
def test_requests(requested: list[int | str] | str, expected: tuple[int, ...]) -> None:
    bands = table("blue", "green", "red", "nir", names=("Visible 1", None, None, None))
    assert select_bands(bands, requested).numbers == expected


def test_descriptions_win_over_colour_tags() -> None:
    bands = table("red", "green", "blue", names=("nir", "red", "green"))
    assert select_bands(bands, ["red", "nir"]).numbers == (2, 1)


@pytest.mark.parametrize("requested", [[0], [-1], [4], ["0"], ["-1"]])
def test_numbers_outside_name_those_there_are(requested: list[int | str]) -> None:
    with pytest.raises(SceneError, match=r"count from 1.*1 \(red\), 2 \(green\), 3 \(blue\)"):
        select_bands(table("red", "green", "blue"), requested)


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(SceneError, match=r'no band "gren".*did you mean "green"\?'):
        select_bands(table("red", "green", "blue"), ["gren"])
    with pytest.raises(SceneError, match=r'no band "thermal": it has 1 \(red\)'):
        select_bands(table("red", "green", "blue"), ["thermal"])
    for number in ("²", "--1", "+", "9" * 5000, None, float("inf")):
        with pytest.raises(SceneError, match="no band"):
            select_bands(table("red", "green", "blue"), [number])


def test_ambiguous_name_and_empty_request() -> None:
    with pytest.raises(SceneError, match="fits bands 1, 2"):
        select_bands(table("gray", "gray"), ["gray"])
    for nothing in ([], "", " , "):
        with pytest.raises(SceneError, match="No bands"):
            select_bands(table("red", "green", "blue"), nothing)


def test_palette_is_colour_by_default_and_by_colour_name_but_not_by_number() -> None:
    palette = table("palette")
    assert select_bands(palette).palette_columns == (0, 1, 2)
    assert select_bands(palette, ["blue", "R"]).palette_columns == (2, 0)
    assert select_bands(palette, [1]).palette_columns is None


@pytest.mark.parametrize(
    ("requested", "numbers", "colours"),
    [
        ("nir=4,red=1,green=2", (4, 1, 2), ("nir", "red", "green")),
        ("near infrared = 4, R=1", (4, 1), ("nir", "red")),
        (["N=1", 2, "3"], (1, 2, 3), ("nir", None, None)),
        ([1], (1,), (None,)),
    ],
)
def test_what_bands_show_may_be_said(
    requested: str | list[int | str], numbers: tuple[int, ...], colours: tuple[str | None, ...]
) -> None:
    selection = select_bands(table("gray", "undefined", "undefined", "undefined"), requested)
    assert (selection.numbers, selection.colours) == (numbers, colours)
    assert asked_colours(requested) == colours


def test_what_bands_show_is_known_from_the_file_where_nobody_says() -> None:
    named = table("gray", "undefined", "undefined", "nir", names=("Red", "green", "coastal", None))
    assert select_bands(named, [4, 1, 2, 3]).colours == ("nir", "red", "green", None)
    assert select_bands(named, ["coastal", "red=4"]).colours == (None, "red")
    assert select_bands(table("blue", "green", "red", "alpha")).colours == ("red", "green", "blue")
    assert select_bands(table("palette")).colours == ("red", "green", "blue")
    turned = select_bands(table("palette"), "blue,red")
    assert (turned.colours, turned.numbers) == (("blue", "red"), (1, 1))
    assert asked_colours(None) == ("red", "green", "blue")


def test_a_band_that_is_called_like_an_assignment() -> None:
    called = table("gray", "undefined", "undefined", names=("a", "nir=1", None))
    assert select_bands(called, ["nir=1"]).numbers == (2,)


@pytest.mark.parametrize(
    ("requested", "message"),
    [("swir=2", r'Nothing is known of "swir" in "swir=2": say red, green, blue or nir'), ("nir=9", "no band 9"),
     ("nir=x", 'no band "nir=x"')],
)  # fmt: skip
def test_assignments_that_cannot_be(requested: str, message: str) -> None:
    with pytest.raises(SceneError, match=message):
        select_bands(table("gray", "undefined", "undefined"), requested)


@pytest.mark.parametrize(
    ("requested", "expected"),
    [(None, "nir=1,red=2,green=3"), ([4, 1, 2], "nir=4,red=1,green=2"), ((5, 4, 3, 1), "nir=5,red=4,green=3"),
     (["x", 3], "nir=1,red=2,green=3")],
)  # fmt: skip
def test_bands_may_be_called_infrared(requested: list[int | str] | None, expected: str) -> None:
    assert as_infrared(requested) == expected
    assert are_named(expected)
    assert not are_named(requested)
