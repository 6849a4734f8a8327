"""Processes that read images."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys
from torch.utils.data import DataLoader, Dataset
from geohp.data.base import reader_options

class Imported(Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, number):
        return "torchvision" in sys.modules

if __name__ == "__main__":
    print(next(iter(DataLoader(Imported(), batch_size=2, **reader_options(1)))).tolist())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="processes are spawned there")
def test_what_readers_need_is_imported_before_they_begin(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[True, True]"
