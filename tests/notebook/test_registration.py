"""Arrays get their accessor whatever is imported first, and nobody waits for what he does not use."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "first",
    [
        "import geohp, sys; assert 'xarray' not in sys.modules; import xarray",
        "import geohp, importlib.util; importlib.util.find_spec('xarray'); import xarray",
        "import xarray, geohp",
        "import geohp, importlib; importlib.reload(geohp); import xarray",
        "import geohp, sys; [sys.modules.pop(name) for name in [*sys.modules] if name.startswith('geohp')]; "
        "import geohp, xarray",
    ],
)
def test_either_may_come_first(first):
    script = (
        f"{first}\nimport sys, importlib.resources\n"
        "assert isinstance(xarray.DataArray.geohp, object)\n"
        "assert importlib.resources.files('xarray').joinpath('__init__.py').is_file()\n"
        "assert not any(type(finder).__module__.startswith('geohp') for finder in sys.meta_path)\n"
        "array = xarray.DataArray([[1, 2]], dims=('y', 'x'))\n"
        "print(array.geohp, xarray.Dataset({'a': array}).geohp, 'torch' in sys.modules)\n"
    )
    shown = "<geohp: made by no model; classes: none declared>"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{shown} {shown} False"
