"""Classes of files: what may be a class of a label map, and what is shown of names that nothing can show."""

import json

import pytest

from geohp.classes import LandCoverClass, class_mistake, classes_from_json, default_classes, printable


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("water", "water"),
        ("a\nb", "a b"),
        ("\x1b[31mred", "[31mred"),
        ("nul\x00", "nul"),
        ("\ud800", ""),
        ("a\uffff\ufffeb", "a b"),
        ("é 🌲", "é 🌲"),
    ],
)
def test_names_without_control_characters(name, shown):
    assert printable(name) == shown
    text = json.dumps([{"id": 0, "name": name, "colour": "#000000"}])
    assert classes_from_json(text) == (LandCoverClass(0, shown, "#000000"),)


@pytest.mark.parametrize("text", ["[" * 100_000, "7", '[{"id": 1e999, "name": "a", "colour": ""}]', "[{}]", '[["a"]]'])
def test_what_is_no_list_of_classes_is_refused(text):
    with pytest.raises(ValueError, match="not a list of classes"):
        classes_from_json(text)


def test_classes_that_no_label_map_can_have():
    good = default_classes(3)
    assert class_mistake(good) == ""
    assert "numbers" in class_mistake((*good, good[0]))
    assert "numbers" in class_mistake([LandCoverClass(255, "a", "#000000")])
    assert "numbers" in class_mistake([LandCoverClass(-1, "a", "#000000")])
    assert "control character" in class_mistake([LandCoverClass(0, "a\u2028b", "#000000")])
    assert "#rrggbb" in class_mistake([LandCoverClass(0, "a", "red")])
