"""Dependencies: all of them are looked at, advisories count until they are answered, licences are told apart."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import requests

from benchmarks.reliability import supply_chain
from benchmarks.reliability.supply_chain import audit, dependencies, is_free


def test_dependencies_of_dependencies_are_among_them():
    names = dependencies()
    assert {"torch", "numpy", "scikit-image", "markupsafe"} <= names.keys()  # the last one of jinja2's
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


PAGES = {
    "/pypi/pillow/9.0.0/json": {"vulnerabilities": [{"id": "PYSEC-1", "aliases": [], "fixed_in": [], "details": "-"}]},
    "/pypi/numpy/json": {"info": {"version": "2.4.6"}, "vulnerabilities": []},
    "/pypi/tornado/json": {
        "info": {"version": "6.6.1"},
        "vulnerabilities": [{"id": "PYSEC-2", "aliases": [], "fixed_in": [], "details": "-"}],
    },
}
"""An index that has pages of projects, and of a single version."""


@pytest.fixture(autouse=True)
def _index(monkeypatch):
    def send(self, request, **options):
        answer = requests.Response()
        page = PAGES.get(request.path_url)
        answer.status_code, answer.url, answer.request = 200 if page else 404, request.url, request
        answer._content = json.dumps(page).encode()
        for hook in request.hooks["response"]:
            answer = hook(answer)
        return answer

    pytest.importorskip("pip_audit")
    monkeypatch.setattr(requests.Session, "send", send)


def test_what_is_known_of_a_version_or_of_a_project_whose_newest_it_is():
    known, unknown = audit([("pillow", "9.0.0"), ("numpy", "2.4.6"), ("tornado", "6.6.1")])
    assert [(entry.package, entry.advisory) for entry in known] == [("pillow", "PYSEC-1"), ("tornado", "PYSEC-2")]
    assert unknown == []


def test_versions_that_nothing_is_known_of_are_counted():
    assert audit([("numpy", "2.4.5"), ("nowhere", "1.0"), ("torch", "2.14.1+cpu")])[1] == ["numpy", "nowhere", "torch"]


def test_an_advisory_is_a_failure_until_it_is_answered(tmp_path, monkeypatch):
    installed = {"pillow": SimpleNamespace(version="9.0.0"), "numpy": SimpleNamespace(version="2.4.6")}
    monkeypatch.setattr(supply_chain, "dependencies", lambda: installed)
    assert supply_chain._vulnerabilities(tmp_path, direct=True).detail == "pillow 9.0.0: PYSEC-1"
    monkeypatch.setattr(supply_chain, "ANSWERS", tmp_path / "answers.csv")
    (tmp_path / "answers.csv").write_text("package,advisory,answer\npillow,PYSEC-1,fonts are never loaded\n")
    assert supply_chain._vulnerabilities(tmp_path, direct=True).verdict == "right"


def test_what_nothing_is_known_of_is_not_right(tmp_path, monkeypatch):
    monkeypatch.setattr(supply_chain, "dependencies", lambda: {"tornado": SimpleNamespace(version="6.0")})
    assert supply_chain._vulnerabilities(tmp_path, direct=False).verdict == "refused"
