"""The suite with the oldest dependencies that pyproject.toml allows, in an environment of its own that is removed.

    python -m benchmarks.reliability.lower_bounds                      # all of the suite
    python -m benchmarks.reliability.lower_bounds tests/raster -n 4    # a part of it
    python -m benchmarks.reliability.lower_bounds --keep FOLDER        # keeps the environment, and uses it again

Only what geohp names itself is as old as it may be; what those need in turn is as new as they allow. Takes the disk and
the download of another torch: on Linux some 6 GB.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def install(folder: Path, extras: str = "test") -> Path:
    """An environment with the oldest of everything; gives its Python."""
    python = folder / "bin" / "python"
    if not python.exists():
        _uv("venv", "--python", sys.executable, folder)
        _uv("pip", "install", "--python", python, "--resolution", "lowest-direct", "-e", f"{ROOT}[{extras}]")
    return python


def _uv(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "uv", *map(str, arguments)], check=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, help="folder of the environment; by default a temporary one")
    options, tests = parser.parse_known_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        python = install(options.keep or Path(scratch) / "oldest")
        _uv("pip", "list", "--python", python)
        command = [python, "-m", "pytest", "-p", "no:cacheprovider", *tests]
        return subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
