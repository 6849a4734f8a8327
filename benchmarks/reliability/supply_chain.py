"""What geohp stands on: known vulnerabilities of it, and its licences."""

from __future__ import annotations

import csv
import re
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import requests
from packaging.requirements import Requirement
from packaging.version import Version

from benchmarks.reliability.part import Case, Outcome, Part, Record

ANSWERS = Path(__file__).with_name("advisories.csv")
"""Known vulnerabilities that stay, each with the reason: package, advisory, answer."""
_PACKAGE = "geohp"
_PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
_EXTRAS = ("distributed", "notebook")
"""What users install; tools of developers are no part of it."""
_FREE = re.compile(
    r"\b(MIT|BSD|APACHE|ISC|PSF|PYTHON SOFTWARE|HPND|MPL|MOZILLA|UNLICENSE|ZLIB|CC0|0BSD|HISTORICAL PERMISSION)"
)
"""Licences that ask for no more than their text, and of the MPL, the source of its own files."""
_OF_TORCH = re.compile(r"(nvidia|cuda)-")
"""Libraries that torch brings for GPUs, under terms of NVIDIA's; torch for the CPU comes without them."""

_PATIENCE_S = 60


@dataclass(frozen=True)
class Advisory:
    """A known vulnerability of an installed package."""

    package: str
    version: str
    advisory: str


def dependencies() -> dict[str, Distribution]:
    """All that is installed because of geohp as pyproject.toml describes it, by name."""
    found: dict[str, Distribution] = {}
    waiting = _direct()
    while waiting:
        need = waiting.pop()
        name = _plain(need.name)
        if name == _PACKAGE or name in found:
            continue
        try:
            found[name] = distribution(need.name)
        except PackageNotFoundError:  # of another platform
            continue
        waiting += _requirements(found[name], ("", *need.extras))
    return dict(sorted(found.items()))


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _direct() -> list[Requirement]:
    """What geohp names itself."""
    project = tomllib.loads(_PROJECT.read_text())["project"]
    further = [text for extra in _EXTRAS for text in project["optional-dependencies"][extra]]
    return [Requirement(text) for text in (*project["dependencies"], *further)]


def _requirements(package: Distribution, extras: Sequence[str]) -> Iterator[Requirement]:
    for need in map(Requirement, package.requires or ()):
        if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras):
            yield need


def licence(package: Distribution) -> str:
    """What a package says of its licence, shortly."""
    about = package.metadata
    if expression := about.get("License-Expression"):
        return str(expression)
    classifiers = [line.rsplit(" :: ", 1)[-1] for line in about.get_all("Classifier") or () if "License ::" in line]
    return ", ".join(classifiers) or (about.get("License") or "").strip().split("\n")[0][:60] or "not said"


def is_free(text: str) -> bool:
    """Whether a licence lets geohp, under the MIT licence, depend on what it is of."""
    return bool(_FREE.search(text.upper()))


def audit(packages: Sequence[tuple[str, str]]) -> tuple[list[Advisory], list[str]]:
    """Ask PyPI by pip-audit for known vulnerabilities.

    Args:
        packages: names and versions.

    Returns:
        What is known, and the packages of whose versions PyPI knew nothing at all.
    """
    from pip_audit._service.interface import ResolvedDependency
    from pip_audit._service.pypi import PyPIService

    service = PyPIService(timeout=_PATIENCE_S)
    service.session.hooks["response"].append(_page_of_the_newest)
    known, unknown = [], []
    for name, version in packages:
        asked, items = service.query(ResolvedDependency(name, Version(version.partition("+")[0])))
        known += dict.fromkeys(Advisory(name, version, item.id) for item in items)
        unknown += [name] if asked.is_skipped() else []
    return known, unknown


def _page_of_the_newest(response: requests.Response, **options: object) -> requests.Response:
    """In place of the page of a version, where an index has none of those: its project's, if it is the newest one."""
    project, _, version = response.url.removesuffix("/json").rpartition("/")
    if response.status_code != 404:
        return response
    page = requests.get(f"{project}/json", timeout=_PATIENCE_S)
    return page if page.ok and page.json()["info"]["version"] == version else response


def answers() -> dict[tuple[str, str], str]:
    """Why a vulnerability stays, by package and advisory."""
    with ANSWERS.open(newline="") as file:
        return {(row["package"], row["advisory"]): row["answer"] for row in csv.DictReader(file)}


def _vulnerabilities(folder: Path, *, direct: bool) -> Outcome:
    named = {_plain(need.name) for need in _direct()}
    asked = [(name, package.version) for name, package in dependencies().items() if (name in named) == direct]
    known, unknown = audit(asked)
    answered = answers()
    open_ones = [entry for entry in known if (entry.package, entry.advisory) not in answered]
    measures = {"packages": len(asked), "not_asked": len(unknown), "known": len(known), "open": len(open_ones)}
    if open_ones:
        texts = (f"{entry.package} {entry.version}: {entry.advisory}" for entry in open_ones)
        return Outcome("failed", "; ".join(texts), measures)
    if len(unknown) == len(asked):
        return Outcome("refused", "the index has no answers about versions: nothing is known", measures)
    return Outcome("right", "; ".join(f"unknown: {name}" for name in unknown), measures)


def _licences(folder: Path) -> Outcome:
    all_of_them = {name: licence(package) for name, package in dependencies().items()}
    unclear = {name: text for name, text in all_of_them.items() if not is_free(text)}
    strange = [f"{name}: {text}" for name, text in unclear.items() if not _OF_TORCH.match(name)]
    of_torch = len(unclear) - len(strange)
    measures = {"packages": len(all_of_them), "of_torch": of_torch, "not_free": len(strange)}
    return Outcome("failed" if strange else "right", "; ".join(strange), measures)


_CASES: dict[str, Callable[[Path], Outcome]] = {
    "known vulnerabilities of what geohp names": partial(_vulnerabilities, direct=True),
    "licences": _licences,
    "known vulnerabilities of what those need": partial(_vulnerabilities, direct=False),
}


def _case(number: int) -> Case:
    name = list(_CASES)[number]
    return Case(name, _CASES[name])


def _figures(records: Sequence[Record]) -> str:
    texts = []
    for record in records:
        m = record.outcome.measures
        if "known" in m:
            answered = m["packages"] - m["not_asked"]
            of = record.case.removeprefix("known vulnerabilities ")
            texts.append(f"{of}: {m['known']:.0f} advisories, PyPI knew {answered:.0f} of {m['packages']:.0f} versions")
        else:
            nvidia = f"{m['of_torch']:.0f} of them NVIDIA's, which torch brings"
            texts.append(f"{m['packages']:.0f} licences read, {m['not_free']:.0f} not free ({nvidia})")
    return "; ".join(texts)


PART = Part("supply-chain", "Known vulnerabilities and licences of what it needs", _case, len(_CASES), _figures)


def main() -> None:
    """Print the licences of all that is installed because of geohp."""
    for name, package in dependencies().items():
        print(f"{name:28} {package.version:16} {licence(package)}")


if __name__ == "__main__":
    main()
