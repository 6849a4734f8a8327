"""What an evaluation tells: figures of hand-made scores, in tables, as JSON, as CSV, on its page and in pictures."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from geohp.classes import LandCoverClass
from geohp.data.base import EvaluationProtocol, ImageSet
from geohp.evaluation import report
from geohp.evaluation.metrics import SegmentationMetrics
from geohp.evaluation.predict import MASKS, PredictionMode
from geohp.evaluation.results import BEST, LAST, Evaluation, Result
from geohp.evaluation.tables import ScoreRow, class_table, percent, scores_table
from geohp.reporting.pages import as_text

CLASSES = tuple(
    LandCoverClass(i, name, colour) for i, (name, colour) in enumerate([("road", "#ff0000"), ("b<o>g", "#0000ff")])
)
CLUSTER, LINEAR = PredictionMode("cluster"), PredictionMode("linear")


def scores(prediction, target, matching="hungarian"):
    metric = SegmentationMetrics(2, matching=matching)
    metric.update(np.array(prediction), np.array(target))
    return metric.compute()


HALF = scores([0, 0, 1, 1, 255], [0, 0, 0, 1, 1])  # 60 % right; IoU 2/3 and 1/3
SWAPPED = scores([1, 1, 0, 0, 0], [0, 0, 1, 1, 1])  # clusters of other names: all right
ONE_CLASS = scores([0, 0], [0, 0], "identity")  # no IoU for the second


def evaluation(*results, benchmark=None, **fields):
    made = [Result(Path(model), checkpoint, mode, figures) for model, checkpoint, mode, figures in results]
    protocol = EvaluationProtocol(benchmark, same=False, text="By [hand].")
    settings = {"images": 3, "side_px": 64, "notes": ("[seen] twice",), "settings": {"crf": True}, **fields}
    return Evaluation(tuple(made), CLASSES, protocol, **settings)


TWO = evaluation(
    ("run0/model.safetensors", LAST, CLUSTER, HALF),
    ("run0/model.safetensors", LAST, LINEAR, ONE_CLASS),
    ("run1/model.safetensors", LAST, CLUSTER, SWAPPED),
    ("run0/best.safetensors", BEST, PredictionMode("cluster", crf=True), SWAPPED),
    ("run0/model.safetensors", LAST, MASKS, HALF),
)


@pytest.mark.parametrize(
    ("values", "text", "alone"),
    [
        ([], "", ""),
        ([50.0, np.nan], "", ""),
        ([12.34], "12.3", "12.3"),
        ([10.0, 14.0], "12.0 ± 2.8", "12.0"),  # of a sample: sqrt(8)
    ],
)
def test_mean_and_deviation_in_words(values, text, alone):
    assert percent(values) == text
    assert percent(values, deviation=False) == alone


def test_what_was_judged():
    assert TWO.class_pixels.tolist() == [3, 2]
    assert TWO.class_shares.tolist() == [0.6, 0.4]
    assert TWO.labelled_px == 5
    assert TWO.summary == "3 images of 64 px, 5 labelled pixels"
    assert repr(TWO) == "<Evaluation: own data, 3 images of 64 px, 5 labelled pixels>"
    assert TWO.rows == [(LAST, CLUSTER), (LAST, LINEAR), (BEST, PredictionMode("cluster", crf=True)), (LAST, MASKS)]
    nothing = scores([0], [255])
    assert evaluation(("m", LAST, CLUSTER, nothing)).class_shares.tolist() == [0, 0]


def test_a_row_of_scores_for_each_checkpoint_then_masks_then_what_is_published():
    rows = TWO.score_rows()
    chosen = "the checkpoint was chosen by these very labels"
    # The mean IoU of the linear probe runs over the one class that has an IoU.
    assert rows[:3] == [
        ScoreRow("last checkpoint (2 models)", ("80.0 ± 28.3", "75.0 ± 35.4", "100.0", "100.0")),
        ScoreRow("best on labels + CRF", ("100.0", "100.0", "", ""), chosen),
        ScoreRow("last checkpoint, masks clustered", ("60.0", "50.0", "", "")),
    ]
    assert len(rows) == 3
    published = evaluation(("m", LAST, CLUSTER, HALF), benchmark="potsdam-3").score_rows()
    assert not published[0].published
    assert all(row.published for row in published[1:])
    assert len(published) == 13


def test_tables_of_text():
    rows = [
        ScoreRow("ours [1]", ("1.0",) * 4),
        ScoreRow("best", ("2.0",) * 4, "why"),
        ScoreRow("also", ("",) * 4, "why"),
    ]
    theirs = [ScoreRow("HP", ("82.4", "", "", ""), "other", published=True)]
    lines = as_text([scores_table([*rows, *theirs])], 100).splitlines()
    cells = [line.split() for line in lines if line.strip() and not set(line.strip()) <= set("─ ")]
    assert cells == [
        ["In", "percent"],
        ["accuracy", "mIoU", "linear:", "accuracy", "mIoU"],
        ["ours", "[1]", "1.0", "1.0", "1.0", "1.0"],
        ["best", "2.0", "2.0", "2.0", "2.0", "(a)"],
        ["also", "(a)"],
        ["HP", "82.4", "(b)"],
        ["(a)", "why"],
        ["(b)", "other"],
    ]
    also, hp = (next(i for i, line in enumerate(lines) if name in line) for name in ("also", "HP"))
    assert hp == also + 2  # a rule between ours and theirs
    ious = {"cluster": [np.array([50.0, np.nan]), np.array([60.0, 10.0])]}
    table = as_text([class_table(["road", "[bog]"], np.array([0.25, 0.75]), ious)], 100)
    assert ["road", "25.0", "55.0", "±", "7.1"] in [line.split() for line in table.splitlines()]
    assert ["[bog]", "75.0"] in [line.split() for line in table.splitlines()]


def test_figures_stand_under_one_another():
    rows = [ScoreRow("ours", ("1.0", "12.0", "", "100.0")), ScoreRow("best", ("2.0",) * 4, "why")]
    rule = " " + "─" * 55
    assert as_text([scores_table([*rows, ScoreRow("HP", ("82.4", "", "", ""), "other", published=True)])], 80) == (
        "In percent\n\n"
        "        accuracy   mIoU   linear: accuracy    mIoU\n"
        f"{rule}\n"
        " ours        1.0   12.0                      100.0\n"
        " best        2.0    2.0                2.0     2.0   (a)\n\n"
        " HP         82.4                                     (b)\n\n"
        "(a) why\n(b) other\n"
    )
    ious = {"cluster": [np.array([50.0, np.nan]), np.array([60.0, 10.0])]}
    assert as_text([class_table(["road", "bog"], np.array([0.25, 0.055]), ious)], 80) == (
        "IoU by class, in percent\n\n"
        " class   share      cluster\n"
        f" {'─' * 26}\n"
        " road     25.0   55.0 ± 7.1\n"
        " bog       5.5\n\n"
    )


def test_the_report_of_text_is_of_the_last_checkpoint_and_keeps_brackets():
    text = TWO.report(120)
    assert "own data: 3 images of 64 px" in text
    assert "By [hand]." in text
    assert "Note: [seen] twice." in text
    header = next(line for line in text.splitlines() if line.split()[:2] == ["class", "share"])
    assert header.split() == ["class", "share", "cluster", "linear", "masks"]
    assert ["b<o>g", "40.0", "66.7", "±", "47.1", "33.3"] in [line.split() for line in text.splitlines()]
    assert "<pre" in TWO._repr_html_()


def test_all_figures_as_plain_values():
    told = TWO.as_dict()
    assert told["protocol"] == {"same_data": False, "text": "By [hand]."}
    assert (told["benchmark"], told["images"], told["side_px"], told["labelled_px"]) == (None, 3, 64, 5)
    assert told["classes"][1] == {"id": 1, "name": "b<o>g", "colour": "#0000ff"}
    assert (told["settings"], told["notes"], told["published"]) == ({"crf": True}, ["[seen] twice"], [])
    first, linear = told["summary"][:2]
    assert [first[key] for key in ("checkpoint", "probe", "crf", "models")] == [LAST, "cluster", False, 2]
    assert first["accuracy"] == 80.0
    assert first["accuracy_deviation"] == pytest.approx(20 * 2**0.5)
    assert first["miou_deviation"] == pytest.approx(25 * 2**0.5)
    assert (linear["accuracy"], linear["accuracy_deviation"], linear["miou"]) == (100.0, None, 100.0)
    result = told["results"][1]
    assert (result["model"], result["checkpoint"], result["probe"]) == ("run0/model.safetensors", LAST, "linear")
    assert result["class_iou"] == [100.0, None]
    assert result["confusion"] == [[2, 0], [0, 0]]
    assert evaluation(("m", LAST, CLUSTER, scores([0], [255]))).as_dict()["summary"][0]["accuracy"] is None
    row = evaluation(("m", LAST, CLUSTER, HALF), benchmark="potsdam-3").as_dict()["published"]
    hp = next(each for each in row if each["method"] == "HP" and each["backbone"] == "ViT-B/8")
    assert hp["cluster"] == {"accuracy": 82.4, "miou": None}
    assert hp["linear"] == {"accuracy": None, "miou": None}
    assert "chosen by the test labels" in hp["remark"]
    assert all("protocol of its authors" in each["remark"] for each in row if "HP" not in each["method"].split())


def test_the_csv_has_a_row_for_each_result(tmp_path):
    report._write_csv(TWO, tmp_path / "results.csv")
    text = (tmp_path / "results.csv").read_text(encoding="utf-8")
    assert "\r" not in text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == ["model", "checkpoint", "probe", "crf", "accuracy", "miou", "iou road", "iou b<o>g"]
    assert list(rows[0].values()) == [
        "run0/model.safetensors",
        LAST,
        "cluster",
        "0",
        "60.0000",
        "50.0000",
        "66.6667",
        "33.3333",
    ]
    assert (rows[1]["iou road"], rows[1]["iou b<o>g"]) == ("100.0000", "")
    assert [row["crf"] for row in rows] == ["0", "0", "0", "1", "0"]


def test_the_page_shows_classes_by_their_share_and_nothing_unescaped():
    page = report._page(TWO, [])
    assert "<h1>Evaluation on own data</h1>" in page
    assert "3 images of 64 px, 5 labelled pixels. By [hand]." in page
    assert "<th>cluster</th><th>linear</th><th>best on labels, cluster + CRF</th><th>masks</th>" in page
    assert "b&lt;o&gt;g</td><td>40.0</td><td>66.7</td><td></td><td>100.0</td><td>33.3</td>" in page.replace("\n", "")
    assert "road</td><td>60.0</td><td>83.3</td><td>100.0</td><td>100.0</td><td>66.7</td>" in page.replace("\n", "")
    assert "b<o>g" not in page
    assert "[seen] twice." in page.replace("[Seen]", "[seen]")


class Two(ImageSet):
    """Two images of two by two pixels; the second is brighter, the lower right pixels are not labelled."""

    channels, labelled = 3, True

    def __len__(self):
        return 2

    def name(self, index):
        return str(index)

    def __getitem__(self, index):
        mask = torch.tensor([[0, 1], [1, 255 if index else -1]])
        return {"image": torch.full((3, 2, 2), index * 0.5), "mask": mask}


def test_samples_are_in_the_colours_of_the_classes_that_clusters_were_matched_to(monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        report, "draw_samples", lambda rows, handles: drawn.update(rows=rows, handles=handles) or b"png"
    )
    made = evaluation(("m", LAST, CLUSTER, SWAPPED), ("other", LAST, CLUSTER, HALF))
    clusters = torch.tensor([[[1, 1], [0, 0]]])
    report._samples_png(made, Two(), lambda images: {CLUSTER: clusters}, torch.device("cpu"))
    rows = dict(drawn["rows"])
    assert list(rows) == ["image", "labels", "cluster"]
    red, blue, grey = [255, 0, 0], [0, 0, 255], [200, 200, 200]
    for index in (0, 1):
        assert rows["labels"][index].tolist() == [[red, blue], [blue, grey]]
        assert rows["cluster"][index].tolist() == [[red, red], [blue, blue]]
    clusters[0, 0, 0] = 255  # no class of the labels
    report._samples_png(made, Two(), lambda images: {CLUSTER: clusters}, torch.device("cpu"))
    assert dict(drawn["rows"])["cluster"][0].tolist()[0] not in ([red, red], [blue, red])
    assert [handle.get_label() for handle in drawn["handles"]] == ["road", "b<o>g", "unlabelled"]
    assert drawn["handles"][-1].get_facecolor()[:3] == pytest.approx(np.array(grey) / 255)


def test_confusions_name_clusters_but_not_a_linear_probes_classes(monkeypatch):
    drawn = []
    monkeypatch.setattr(report, "draw_confusion", lambda *arguments: drawn.append(arguments) or b"png")
    monkeypatch.setattr(report, "_samples_png", lambda *_: b"samples")
    pictures = report._pictures(TWO, Two(), None, torch.device("cpu"))
    assert list(pictures) == ["samples.png", "confusion-0.png", "confusion-1.png", "confusion-2.png", "confusion-3.png"]
    confusion, unlabelled, names, title, assignment = drawn[0]
    assert confusion.tolist() == HALF["confusion"].tolist()
    assert unlabelled.tolist() == [0, 1]
    assert names == ["road", "b<o>g"]
    assert title == "last checkpoint, cluster\naccuracy 60.0 %, mIoU 50.0 %"
    assert assignment.tolist() == [0, 1]
    assert drawn[1][4] is None
    assert drawn[2][4].tolist() == [1, 0]
    assert "run0" in pictures["confusion-0.png"].caption


def test_pictures_are_pictures():
    made = evaluation(("m", LAST, CLUSTER, HALF))
    clusters = torch.tensor([[[1, 1], [0, 0]]])
    pictures = report._pictures(made, Two(), lambda images: {CLUSTER: clusters}, torch.device("cpu"))
    for picture in pictures.values():
        assert Image.open(io.BytesIO(picture.png)).format == "PNG"
