"""What is refused before an evaluation begins: models without their weights, and folders that are no report."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from geohp.errors import OutputError
from geohp.evaluation import checks


def a_report(folder):
    folder.mkdir()
    (folder / "index.html").touch()
    (folder / "evaluation.json").touch()
    return folder


def test_every_model_has_its_backbones_weights_looked_for(monkeypatch):
    looked_for = []
    monkeypatch.setattr(checks, "read_card", lambda file: SimpleNamespace(backbone=f"backbone of {file}"))
    monkeypatch.setattr(checks, "check_backbone_weights", lambda *arguments: looked_for.append(arguments))
    checks.check_models([Path("a"), Path("b")], "weights.pth")
    assert looked_for == [(Path("a"), "backbone of a", "weights.pth"), (Path("b"), "backbone of b", "weights.pth")]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_report_may_go_where_nothing_is_and_never_where_something_else_is(tmp_path, overwrite):
    checks.check_report(tmp_path / "new", overwrite=overwrite)
    (tmp_path / "empty").mkdir()
    checks.check_report(tmp_path / "empty", overwrite=overwrite)
    (tmp_path / "file").touch()
    halves = [a_report(tmp_path / "page"), a_report(tmp_path / "numbers")]
    (halves[0] / "evaluation.json").unlink()
    (halves[1] / "index.html").unlink()
    for taken in (tmp_path / "file", *halves):
        with pytest.raises(OutputError, match=rf"{taken.name}: exists and is no report of an evaluation"):
            checks.check_report(taken, overwrite=overwrite)


def test_a_report_is_replaced_when_asked_to(tmp_path):
    folder = a_report(tmp_path / "report")
    with pytest.raises(OutputError, match="report: exists already") as refused:
        checks.check_report(folder, overwrite=False)
    assert (refused.value.option, refused.value.value) == ("overwrite", True)
    for name in ("results.csv", "samples.png", "confusion-12.png", ".DS_Store"):
        (folder / name).touch()
    checks.check_report(folder, overwrite=True)
    (folder / "notes.md").touch()
    with pytest.raises(
        OutputError, match=r"report: holds notes\.md, which is no part of a report and would go with it"
    ):
        checks.check_report(folder, overwrite=True)
