"""Dependencies: all of them are looked at, advisories count until they are answered, licences are told apart."""

from __future__ import annotations

import json
import subprocess

import pytest

from benchmarks.reliability import supply_chain
from benchmarks.reliability.supply_chain import audit, dependencies, is_free


def test_dependencies_of_dependencies_are_among_them():
    names = dependencies()
    assert {"torch", "numpy", "markupsafe"} <= names.keys()  # the last one of jinja2's
    assert not {"geohp", "pytest", "ruff"} & names.keys()


@pytest.mark.parametrize("text", ["MIT", "BSD-3-Clause", "Apache Software License", "HPND", "MPL-2.0 AND MIT"])
def test_free_licences(text):
    assert is_free(text)


@pytest.mark.parametrize("text", ["GPL-3.0-only", "Other/Proprietary License", "not said", "LIMITED"])
def test_other_licences(text):
    assert not is_free(text)


def test_no_dependency_has_another_licence(tmp_path):
    outcome = supply_chain._licences(tmp_path)
    assert outcome.verdict == "right", outcome.detail


def answer(monkeypatch, *entries):
    document = json.dumps({"dependencies": entries})
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: subprocess.CompletedProcess(args, 1, document, ""))


def test_an_advisory_is_a_failure_until_it_is_answered(tmp_path, monkeypatch):
    known = {"name": "pillow", "version": "9.0.0", "vulns": [{"id": "PYSEC-1"}]}
    answer(monkeypatch, known, {"name": "numpy", "version": "2.0", "vulns": []})
    assert supply_chain._vulnerabilities(tmp_path).detail == "pillow 9.0.0: PYSEC-1"
    monkeypatch.setattr(supply_chain, "ANSWERS", tmp_path / "answers.csv")
    (tmp_path / "answers.csv").write_text("package,advisory,answer\npillow,PYSEC-1,fonts are never loaded\n")
    assert supply_chain._vulnerabilities(tmp_path).verdict == "right"


def test_packages_that_nothing_is_known_of_are_counted(monkeypatch):
    answer(monkeypatch, {"name": "numpy", "version": "2.0", "skip_reason": "not found"})
    assert audit([("numpy", "2.0")]) == ([], ["numpy"])
    monkeypatch.setattr(
        subprocess, "run", lambda *args, **options: subprocess.CompletedProcess(args, 1, "", "no network")
    )
    with pytest.raises(OSError, match="no network"):
        audit([("numpy", "2.0")])
