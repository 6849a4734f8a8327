"""What naming says for a terminal: of figures made by hand, every cell and every sentence."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from geohp.legend.file import Legend
from geohp.legend.naming_report import Naming


def naming(counts, classes, names, *, unit="pixels", notes=(), matching="majority"):
    """Of labels 0, 1, ...: pixels by class, and the name of those that have one."""
    counts = np.array(counts)
    confusion = pd.DataFrame(counts, index=pd.RangeIndex(len(counts)), columns=classes)
    per_class = pd.DataFrame(
        {"count": counts.sum(0), "recall": 66.66 + np.arange(len(classes)), "iou": 12.34}, index=classes
    )
    unnamed = tuple(label for label in range(len(counts)) if label not in names)
    return Naming(Legend.named(names), confusion, 61.25, per_class, unnamed, unit, tuple(notes), matching)


def table(report, title):
    """The cells of the table of a title, by its rules."""
    lines = report[report.index(title) :].splitlines()[2:]
    rows = [line.strip()[1:-1] for line in lines[: next(i for i, line in enumerate(lines) if line.startswith("└"))]]
    return [
        [cell.strip() for cell in row.replace("┃", "│").split("│")] for row in rows if "─" not in row and "━" not in row
    ]


FEW = naming(
    [[1500, 500], [0, 2000], [0, 0], [250, 250]],
    ["[wood]", "lake"],
    {0: "[wood]", 1: "lake"},
    notes=["[Two] left out."],
)


def test_labels_by_class_in_per_cent():
    rows = table(FEW.report(), "Labels, in per cent of each one's pixels")
    assert rows == [
        ["label", "name", "share", "[wood]", "lake"],
        ["0", "[wood]", "44.4", "75.0", "25.0"],
        ["1", "lake", "44.4", "", "100.0"],
        ["2", "-", "0.0", "", ""],
        ["3", "-", "11.1", "50.0", "50.0"],
    ]


def test_classes_by_how_well_they_were_met():
    assert table(FEW.report(), "Classes of the reference") == [
        ["class", "pixels", "recall %", "IoU %"],
        ["[wood]", "1,750", "66.7", "12.3"],
        ["lake", "2,750", "67.7", "12.3"],
    ]
    assert table(naming([[1]], ["a"], {0: "a"}, unit="points").report(), "Classes of")[0][1] == "points"


def test_titles_stand_to_the_left_and_figures_under_one_another():
    assert FEW.report(70).splitlines()[:16] == [
        "Labels, in per cent of each one's pixels",
        "┏━━━━━━━┳━━━━━━━━┳━━━━━━━┳━━━━━━━━┳━━━━━━━┓",
        "┃ label ┃ name   ┃ share ┃ [wood] ┃  lake ┃",
        "┡━━━━━━━╇━━━━━━━━╇━━━━━━━╇━━━━━━━━╇━━━━━━━┩",
        "│     0 │ [wood] │  44.4 │   75.0 │  25.0 │",
        "│     1 │ lake   │  44.4 │        │ 100.0 │",
        "│     2 │ -      │   0.0 │        │       │",
        "│     3 │ -      │  11.1 │   50.0 │  50.0 │",
        "└───────┴────────┴───────┴────────┴───────┘",
        "Classes of the reference",
        "┏━━━━━━━━┳━━━━━━━━┳━━━━━━━━━━┳━━━━━━━┓",
        "┃ class  ┃ pixels ┃ recall % ┃ IoU % ┃",
        "┡━━━━━━━━╇━━━━━━━━╇━━━━━━━━━━╇━━━━━━━┩",
        "│ [wood] │  1,750 │     66.7 │  12.3 │",
        "│ lake   │  2,750 │     67.7 │  12.3 │",
        "└────────┴────────┴──────────┴───────┘",
    ]
    points = naming([[1]], ["a"], {0: "a"}, unit="points").report(70).splitlines()
    assert points[0] == "Labels, in per cent of each"  # its table is no wider
    assert points[1] == "one's points"


def test_of_many_classes_those_with_most_overlap():
    classes = [f"c{number}" for number in range(9)]
    counts = [[0, 10, 0, 40, 20, 10, 20, 0, 0], [0] * 8 + [5]]
    rows = table(naming(counts, classes, {0: "c3", 1: "c8"}).report(), "Labels")
    assert rows == [
        ["label", "name", "share", "most overlap"],
        ["0", "c3", "95.2", "c3 40.0, c4 20.0, c6 20.0"],
        ["1", "c8", "4.8", "c8 100.0"],
    ]
    eight = table(naming([row[1:] for row in counts], classes[1:], {0: "c3"}).report(), "Labels")
    assert eight[0][3:] == classes[1:]


def test_sentences():
    said = " ".join(FEW.report().split())
    assert "2 of 4 labels named, as 2 classes (majority)." in said
    assert "Without any reference, and so without a name: 2." in said
    assert "Left over by one label a class, and so without a name: 3." in said
    assert "[Two] left out." in said
    assert "Overall accuracy 61.2 %, measured on the very reference" in said
    assert "No label is named after" not in said
    lonely = naming([[3, 1]], ["a", "b"], {0: "a"}, matching="hungarian")
    said = " ".join(lonely.report().split())
    assert "1 of 1 label named, as 1 class (hungarian)." in said
    assert "No label is named after b: the map will not show it." in said
    assert "without a name" not in said
    assert lonely.unmatched == ("b",)


def test_in_a_line_and_in_a_notebook():
    assert repr(FEW) == "<Naming: 2 of 4 labels as 2 classes, 61.2 % right>"
    tagged = naming([[1]], ["<b>"], {0: "<b>"})
    assert "&lt;b&gt;" in tagged._repr_html_()
    assert "<b>" not in tagged._repr_html_()


@pytest.mark.parametrize("width", [40, 200])
def test_no_line_is_wider_than_the_terminal(width):
    assert max(map(len, FEW.report(width).splitlines())) <= width
