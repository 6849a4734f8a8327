"""Part ``mutants``: small mistakes put into the code one at a time; its tests have to notice.

A mutant is written into a private copy of the repository, where the tests that run its lines run in a fork until one
fails. Which tests those are, and how long they take, is measured once before. Mutants are drawn at random and stay the
same ones while other lines change. The first :data:`DEVELOPMENT` of every package were used to write tests: what counts
is how many of those after them are noticed at the first try, before tests are written for what was missed.

    python -m benchmarks.reliability.mutants geohp/vector geohp/legend/file.py --count 30 --seed 2

draws others than those from the files and folders of its arguments, by default from all of the packages, and prints
which are not noticed: so code is looked at that was written since.

The well-kept tools were looked at first: cosmic-ray starts a process a mutant (five seconds of imports each), mutmut
mutates no decorated functions and class bodies, and neither draws a sample nor chooses tests by line.
"""

from __future__ import annotations

import argparse
import atexit
import csv
import functools
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.reliability import journal
from benchmarks.reliability.isolation import Ended, Limits, import_everything, run_function
from benchmarks.reliability.mutation import Mutant, mutants_of
from benchmarks.reliability.part import Case, Outcome, Part, Record

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("methods/hp", "inference/engine", "vector", "evaluation", "raster/write", "legend")
_MORE_TESTS = {
    "comparison": ("cli/test_change_and_areas.py",),
    "evaluation": ("cli/test_report.py",),
    "inference/cluster": ("inference/test_distributed.py",),
    "methods/hp": ("training/test_trajectory.py", "training/test_defaults.py"),
    "methods/kmeans": ("methods/test_covers.py", "methods/test_clustering.py", "methods/test_kmeans.py"),
    "model": ("evaluation/test_predict.py", "inference/engine/test_pipeline.py", "training/test_comparison.py"),
    "raster": ("inference/test_area_of_interest.py", "training/test_area_of_interest.py", "vector/test_clipping.py"),
    "raster/read": (
        "inference/test_lazy.py", "inference/test_stac.py", "legend/test_recoded_labels.py",
        "notebook/test_accessor.py", "raster/write/test_label_map.py", "vector/test_polygonize.py",
    ),
    "vector": ("inference/test_map_scene.py",),
}  # fmt: skip
"""Tests of a package that lie elsewhere than in the folder that mirrors it."""
DEVELOPMENT, SAMPLE = 40, 60
"""Mutants a package: those that tests were written after, and those after them that count."""
SURVIVORS = Path(__file__).with_name("surviving_mutants.csv")
"""Mutants that no test can notice, or none on this machine, and why."""

_COPIED = ("geohp", "tests", "configs", "pyproject.toml")
_BUDGET_S = 60.0
"""What a mutant's tests may take together, the cheapest first: a mutant that only those beyond notice has survived."""
_LEAST_S = 30.0
"""What they may take beyond four times that before they count as hung."""
_OPTIONS = ("-q", "-x", "-n0", "-p", "no:cacheprovider", "--no-header", "--tb=line", "-o", "testpaths=")


@dataclass(frozen=True)
class Tests:
    """Which tests run what, measured.

    Attributes:
        seconds: of every test that passed, by its id.
        runs: for each file the ids of the tests that run each of its lines.
    """

    seconds: Mapping[str, float]
    runs: Mapping[str, Mapping[int, Sequence[str]]]

    def of(self, mutant: Mutant) -> list[list[str]]:
        """The tests for a mutant within the budget, in batches of a file each: its mirror first, then the cheapest."""
        lines = self.runs.get(mutant.path, {})
        chosen = {test for line, tests in lines.items() if mutant.lines[0] <= line <= mutant.lines[1] for test in tests}
        mirror = f"test_{Path(mutant.path).stem}.py"
        chosen |= {test for test in self.seconds if Path(_file(test)).name == mirror}
        files: dict[str, list[str]] = defaultdict(list)
        left = _BUDGET_S
        for test in sorted(chosen, key=lambda test: self.seconds[test]):
            left -= self.seconds[test]
            if left >= 0:
                files[_file(test)].append(test)
        return sorted(files.values(), key=lambda tests: (Path(_file(tests[0])).name != mirror, self.total(tests)))

    def total(self, tests: Sequence[str]) -> float:
        """Seconds of some tests together."""
        return sum(self.seconds[test] for test in tests)


class Workshop:
    """A private copy of a repository in which mutants are tried.

    Args:
        root: of the repository.
        top: the folder of its code, whose modules are imported anew for every mutant.
        copied: files and folders of the repository that are copied.
    """

    def __init__(self, root: Path, top: str = "geohp", copied: Sequence[str] = _COPIED) -> None:
        import hypothesis  # noqa: F401 here, so that forks need not
        import pytest  # noqa: F401

        self._folder = Path(tempfile.mkdtemp(prefix="mutants-"))
        atexit.register(_remove, self._folder, os.getpid())
        self._top, self.copy = top, self._folder / "copy"
        self.copy.mkdir()
        for name in copied:
            (self.copy / name).parent.mkdir(parents=True, exist_ok=True)
            if (root / name).is_dir():
                shutil.copytree(root / name, self.copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif (root / name).exists():
                shutil.copy(root / name, self.copy / name)
        self.tests = functools.cache(self._tests)

    def _tests(self, package: str) -> Tests:
        """The tests of a package: in the folder that mirrors it, and what is listed besides."""
        seconds: dict[str, float] = {}
        runs: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
        code = b"".join(path.read_bytes() for path in sorted((self.copy / self._top / package).glob("*.py")))
        files = sorted((self.copy / "tests" / package).rglob("test_*.py"))
        for file in [*files, *(self.copy / "tests" / name for name in _MORE_TESTS.get(package, ()))]:
            of_file, lines_of = self._measured(file, hashlib.sha256(code + file.read_bytes()).hexdigest())
            seconds |= of_file
            for path, lines in lines_of.items():
                for line, tests in lines.items():
                    runs[path][int(line)] += tests
        return Tests(seconds, runs)

    def _measured(self, file: Path, digest: str) -> list[dict[str, Any]]:
        """Seconds of a file's tests, and what they run; kept for other processes while the code is the same."""
        stored = Path(tempfile.gettempdir()) / "geohp-executed-lines" / f"{digest[:20]}.json"
        if not stored.exists():
            draft = self._folder / "draft.json"

            def measure() -> int:
                from benchmarks.reliability.executed_lines import run_tests

                options = [option for option in _OPTIONS if option != "-x"]
                draft.write_text(
                    json.dumps(run_tests([*options, str(file.relative_to(self.copy))], self.copy, self._top))
                )
                return 0

            ended = self._fork(measure, self._folder / "case", 3600)
            if not draft.exists():
                raise RuntimeError(f"the tests do not run: {ended.out[-500:]} {ended.err[-500:]}")
            stored.parent.mkdir(exist_ok=True)
            shutil.move(draft, stored)
        content: list[dict[str, Any]] = json.loads(stored.read_text())
        return content

    def attempt(self, mutant: Mutant, folder: Path) -> Outcome:
        """Whether a test notices a mutant."""
        tests = self.tests(str(Path(mutant.path).parent.relative_to(self._top)))
        batches = tests.of(mutant)
        processor_s = _LEAST_S + 4 * tests.total([test for batch in batches for test in batch])
        start = time.perf_counter()
        ended = self._run(batches, folder, processor_s, mutant)
        measures = {"seconds": time.perf_counter() - start, "tests": float(sum(map(len, batches)))}
        if ended.code == 0:
            return Outcome("failed", "survived" if batches else "no test runs it", measures)
        if ended.broke == "time":
            return Outcome("failed", "not over after an hour: try again on a machine that has time", measures)
        noticed = _noticed(ended)
        in_a_test = noticed and not noticed.endswith(".py")  # else a file could not be imported, for whatever reason
        if not in_a_test and self._run(batches, folder, processor_s).code:
            raise RuntimeError(f"without the mutant they do not pass either: {ended.out[-500:]} {ended.err[-500:]}")
        return Outcome("right", noticed or f"pytest ended with {ended.code}", measures)

    def _run(
        self, batches: Sequence[Sequence[str]], folder: Path, processor_s: float, mutant: Mutant | None = None
    ) -> Ended:
        """Run tests until one fails, with a mutant or without."""
        if mutant is None:
            return self._fork(lambda: _first_failure(batches), folder, processor_s)
        path = self.copy / mutant.path
        source = path.read_bytes()
        try:
            path.write_bytes(mutant.applied(source))
            _forget(path)
            return self._fork(lambda: _first_failure(batches), folder, processor_s)
        finally:
            path.write_bytes(source)
            _forget(path)

    def _fork(self, function: Callable[[], int], folder: Path, processor_s: float) -> Ended:
        """A function in a fork in which the code is that of the copy.

        It goes on without end when it takes so many seconds of a processor. Of the clock it may take an hour more, for
        others may be busy; whether it waits for ever is then not known.
        """

        def run() -> None:
            folder.mkdir(exist_ok=True)
            resource.setrlimit(resource.RLIMIT_CPU, (int(processor_s), int(processor_s) + 5))
            os.chdir(self.copy)
            os.environ |= {"PYTHONPATH": str(self.copy), "CI": "1", "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
            tempfile.tempdir = None
            sys.path.insert(0, str(self.copy))
            for name in [name for name in sys.modules if name.partition(".")[0] in (self._top, "tests")]:
                del sys.modules[name]
            _be_patient()
            raise SystemExit(function())

        return run_function(run, folder, Limits(seconds=3600 + processor_s, memory_mb=6000))


def _be_patient() -> None:
    """Have hypothesis draw the same examples each time, and not take a busy machine for a slow test.

    Profiles that tests register themselves begin from this one.
    """
    from hypothesis import HealthCheck, settings

    too_slow = [HealthCheck.too_slow]
    settings.register_profile("mutants", derandomize=True, deadline=None, database=None, suppress_health_check=too_slow)
    settings.load_profile("mutants")


def _first_failure(batches: Sequence[Sequence[str]]) -> int:
    """Run batches of tests until one fails."""
    import pytest

    for batch in batches:
        if code := pytest.main([*_OPTIONS, *batch]):
            return int(code)
    return 0


def _noticed(ended: Ended) -> str:
    """What noticed a mutant: a test, or that it went on without end; empty where nothing says so."""
    if ended.broke or ended.code == -signal.SIGXCPU:
        return "took memory" if ended.broke == "memory" else "hung"
    failed = [line for line in ended.out.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return failed[0].split(" - ")[0] if failed else ""


def _forget(path: Path) -> None:
    """Remove what Python keeps of a file: it would tell another version only by its second and its size."""
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
        compiled.unlink()


def _file(test: str) -> str:
    return test.partition("::")[0]


def _remove(folder: Path, process: int) -> None:
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


@functools.cache
def package_mutants(package: str) -> list[Mutant]:
    """All mutants of a package, in random order."""
    files = sorted((ROOT / "geohp" / package).glob("*.py"))
    mutants = [mutant for file in files for mutant in mutants_of(str(file.relative_to(ROOT)), file.read_bytes())]
    return sorted(mutants, key=lambda mutant: mutant.order)


@functools.cache
def explained() -> dict[str, str]:
    """Why mutants survive, by their names."""
    with SURVIVORS.open(newline="") as file:
        return {row["mutant"]: row["reason"] for row in csv.DictReader(file)}


@functools.cache
def _workshop() -> Workshop:
    """A copy of the very code that the mutants are of, though the repository may change under way."""
    for package in PACKAGES:
        package_mutants(package)
    return Workshop(ROOT)


def case(number: int) -> Case:
    """Packages take turns."""
    place, package = divmod(number, len(PACKAGES))
    mutant = package_mutants(PACKAGES[package])[DEVELOPMENT + place]

    def run(folder: Path) -> Outcome:
        outcome = _workshop().attempt(mutant, folder)
        if outcome.verdict == "failed" and mutant.name in explained():
            return Outcome("right", f"explained: {explained()[mutant.name]}", outcome.measures)
        return outcome

    return Case(mutant.name, run)


def figures(records: Sequence[Record]) -> str:
    """Killed of those that could be, a package."""
    kept = [record for record in records if not record.outcome.detail.startswith("explained")]
    package = [PACKAGES[record.number % len(PACKAGES)] for record in kept]
    tried = Counter(package)
    killed = Counter(name for name, record in zip(package, kept, strict=True) if record.outcome.verdict == "right")
    parts = [f"{name} {killed[name]}/{tried[name]}" for name in PACKAGES]
    share = sum(killed.values()) / max(1, len(kept))
    return f"{share:.0%} noticed ({', '.join(parts)}); {len(records) - len(kept)} more cannot be, with reasons"


PART = Part("mutants", "Mistakes planted at random: do the tests notice?", case, SAMPLE * len(PACKAGES), figures)


def fresh(places: Sequence[Path], count: int, seed: int) -> list[Mutant]:
    """Mutants of files, and of those in folders, drawn at random, none of them one that :data:`PART` had or has."""
    known = {mutant.name for package in PACKAGES for mutant in package_mutants(package)[: DEVELOPMENT + SAMPLE]}
    files = sorted({file for place in places for file in (place.rglob("*.py") if place.is_dir() else [place])})
    mutants = [mutant for file in files for mutant in mutants_of(str(file.relative_to(ROOT)), file.read_bytes())]
    mutants = [mutant for mutant in mutants if mutant.name not in known | explained().keys()]
    return random.Random(seed).sample(mutants, min(count, len(mutants)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Try fresh mutants, and go on where that was when it is called again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    packages = [ROOT / "geohp" / package for package in PACKAGES]
    parser.add_argument("places", nargs="*", type=Path, default=packages, help="files and folders (default: PACKAGES)")
    parser.add_argument("--count", type=int, default=60, help="how many (default: 60)")
    parser.add_argument("--seed", type=int, default=0, help="which ones (default: 0)")
    parser.add_argument("--out", type=Path, default=Path("reliability"), help="folder of the records")
    options = parser.parse_args(arguments)
    path = options.out / "fresh_mutants.jsonl"
    drawn = fresh([place.resolve() for place in options.places], options.count, options.seed)
    import_everything()
    tried = {record.case for record in journal.read(path)}
    for number, mutant in enumerate(drawn):
        if mutant.name not in tried:
            with tempfile.TemporaryDirectory() as folder:
                outcome = _workshop().attempt(mutant, Path(folder) / "case")
            journal.append(path, Record(f"mutants of seed {options.seed}", number, mutant.name, outcome))
    names = {mutant.name for mutant in drawn}
    missed = [record for record in journal.read(path) if record.case in names and record.outcome.verdict == "failed"]
    for record in missed:
        print(f"{record.outcome.detail}: {record.case}")
    print(f"{len(drawn) - len(missed)} of {len(drawn)} noticed")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
