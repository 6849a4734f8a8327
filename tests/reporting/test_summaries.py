"""What notebooks show of models and results is what they hold, and runs nothing."""

import pandas as pd
import pytest

import geohp
from geohp.classes import LandCoverClass
from geohp.inference.areas import ClassArea
from geohp.inference.folder_maps import BatchResult
from geohp.inference.map_scene import MapModel, SceneResult
from geohp.legend.file import Legend
from geohp.legend.naming_report import Naming
from geohp.options import FitOptions
from geohp.reporting.pages import as_text
from geohp.reporting.summaries import summary

HOSTILE = LandCoverClass(0, "<img src=x onerror=alert(1)>", "red; background: url(//evil)")


def test_texts_are_texts_and_colours_are_colours():
    page = summary("<b>title</b>", {"<i>": "<u>", "empty": None}, [HOSTILE], {"<s>": ["<p>"]})
    for tag in ("<b>", "<i>", "<u>", "<s>", "<p>", "<img"):
        assert tag not in page
    assert "url(" not in page
    assert "&lt;img src=x" in page
    assert "empty" not in page


def test_tables_are_texts_in_a_notebook_too(monkeypatch, capsys):
    pytest.importorskip("IPython")
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert as_text(["accuracy 80"], 60) == "accuracy 80\n"
    matched = pd.DataFrame([[3, 1]], index=[0], columns=["lawn", "<i>roof"])
    found = pd.DataFrame({"count": [3, 1], "recall": [100.0, 0.0], "iou": [75.0, 0.0]}, index=["lawn", "<i>roof"])
    naming = Naming(Legend.named({0: "lawn"}), matched, 75.0, found, (), "pixels", (), "majority")
    assert repr(naming) == "<Naming: 1 of 1 labels as 1 classes, 75.0 % right>"
    assert "lawn" in naming.report()
    assert "&lt;i&gt;roof" in naming._repr_html_()
    assert capsys.readouterr().out == ""


def test_results_show_files_areas_and_model():
    classes = (LandCoverClass(0, "roof", "#cc3333"), LandCoverClass(1, "lawn", "#33cc33"))
    areas = (ClassArea(0, "roof", 10, 0.25, 1.5, 0.91), ClassArea(1, "lawn", 30, 0.75, 4.5, None))
    model = MapModel("k-means", "ab" * 32)
    result = SceneResult("scene.tif", ("labels.tif",), classes, 7, areas=areas, model=model)
    assert repr(result) == "<SceneResult: scene.tif, 2 classes: labels.tif>"
    page = result._repr_html_()
    for words in ("Map of scene.tif", "polygons: 7", "k-means", "roof", "#cc3333", "1.50", "25.0", "0.91"):
        assert words in page
    failed = SceneResult("other.tif", error="no such file")
    assert repr(failed) == "<SceneResult: no map of other.tif: no such file>"
    batch = BatchResult((result, failed), classes, "k-means", "no mosaic")
    assert repr(batch) == "<BatchResult: 1 maps, 1 scenes without one, 2 classes>"
    assert "1 of 2 maps" in batch._repr_html_()
    assert "other.tif (no such file)" in batch._repr_html_()


@pytest.fixture
def segmenter(write_scene, three_fields):
    with geohp.open_scene(write_scene(three_fields)) as scene:
        return geohp.Segmenter.fit(scene, FitOptions(classes=3))


def test_a_segmenter_says_where_it_came_from_and_what_it_knows(segmenter):
    named = segmenter.named(Legend.named({0: "a", 1: "b & c", 2: "d"}))
    assert repr(named) == "<Segmenter: k-means on the scene's own rcf features; 3 classes: a, b & c, d>"
    page = named._repr_html_()
    assert "b &amp; c" in page
    assert named.classes[0].colour in page
    assert "method: kmeans on rcf" in page
