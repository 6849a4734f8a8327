"""The published figures are those of their tables."""

import pytest

from geohp.evaluation.published import published_rows


def rows(benchmark):
    return {row.title: row.figures for row in published_rows(benchmark)}


@pytest.mark.parametrize(
    ("benchmark", "number", "title", "figures"),
    [
        ("cocostuff-27", 19, "SelfPatch + HP, ViT-S/16", ("56.1", "23.2", "74.9", "41.3")),
        ("cocostuff-27", 19, "DC, ResNet-18+FPN", ("19.9", "", "", "")),
        ("cocostuff-27", 19, "DINO, ViT-S/16", ("22.0", "8.0", "50.3", "18.1")),
        ("cityscapes-27", 12, "PiCIE", ("65.5", "12.3", "", "")),
        ("cityscapes-27", 12, "DINO, ViT-B/8", ("43.6", "11.8", "84.2", "23.0")),
        ("potsdam-3", 12, "HP, ViT-B/8", ("82.4", "", "", "")),
        ("potsdam-3", 12, "CC, VGG11", ("63.9", "", "", "")),
        ("voc-2012", 2, "MaskContrast (supervised saliency), ResNet-50", ("", "44.2", "", "63.9")),
    ],
)
def test_rows(benchmark, number, title, figures):
    table = rows(benchmark)
    assert len(published_rows(benchmark)) == len(table) == number  # no title twice
    assert table[title] == figures


def test_only_hp_is_by_its_own_protocol():
    for benchmark in ("cocostuff-27", "cityscapes-27", "potsdam-3"):
        assert all((row.protocol == "hp") == ("HP" in row.method.split()) for row in published_rows(benchmark))


def test_picie_h_has_no_row_for_cityscapes():
    assert "PiCIE+H" not in rows("cityscapes-27")
