"""What can be known to be wrong with an import before torch is imported, which takes seconds."""

from __future__ import annotations

from pathlib import Path

from geohp.errors import ModelError
from geohp.files.checks import MODELS, check_output, check_suffix


def check_import(path: str | Path, out: str | Path, *, overwrite: bool) -> Path:
    """Refuse a checkpoint that is not there, and an output that cannot be written.

    Returns:
        The file to write.

    Raises:
        ModelError: no such checkpoint.
        OutputError: see :func:`geohp.files.checks.check_suffix` and :func:`geohp.files.checks.check_output`.
    """
    out = check_suffix(out, MODELS, "models")
    check_output(out, overwrite=overwrite, inputs=[path])
    if not Path(path).is_file():
        raise ModelError(f"{path}: no such checkpoint", "check the path")
    return out
