"""Files that change while they are read are noticed, wherever and however often they were looked at."""

import os
from pathlib import Path

import pytest

from geohp.errors import ChangedError, DataError, OutputError, SceneError
from geohp.files.state import file_state
from geohp.raster.read.unchanged import UnchangedFiles


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / name for name in ("a.tif", "b.tif", "c.tif")]
    for path in paths:
        path.write_text("as it was")
    return [str(path) for path in paths]


def overwrite(path):
    Path(path).write_text("something else")


def replace(path):
    other = Path(f"{path}.new")
    other.write_text("as it was")
    os.utime(other, ns=(1, 1))
    other.replace(path)


@pytest.mark.parametrize("change", [overwrite, replace, os.remove])
def test_a_change_is_named(files, change):
    unchanged = UnchangedFiles("a scene", files)
    unchanged.check()
    change(files[1])
    with pytest.raises(ChangedError, match=r"a scene has changed while it was read \(.*b\.tif\); run the same command"):
        unchanged.check()
    unchanged.check([files[0], files[2], "no file of the scene"])
    with pytest.raises(ChangedError, match=r"b\.tif"):
        unchanged.check(iter(files[1:]))


def test_joined_the_first_look_at_a_file_counts(files):
    before = UnchangedFiles("first", files[:2])
    overwrite(files[0])
    after = UnchangedFiles("second", files)
    after.check()
    joined = UnchangedFiles.joined("both", [before, after])
    assert list(joined.states) == files
    with pytest.raises(ChangedError, match=r"both has changed .*a\.tif"):
        joined.check()
    joined.check(files[1:])
    UnchangedFiles.joined("both", [after, before]).check()


def test_an_archive_is_watched_for_what_lies_in_it(files, tmp_path):
    names = [f"/vsizip/{files[0]}/in/scene.tif", f"/vsitar/{{{files[1]}}}/scene.tif", f"/vsigzip//vsizip/{files[2]}"]
    unchanged = UnchangedFiles("a scene", names)
    unchanged.check()
    for file, name in zip(files, names, strict=True):
        overwrite(file)
        with pytest.raises(ChangedError, match="a scene has changed"):
            unchanged.check([name])
    assert file_state("/vsizip/nowhere.zip/scene.tif") is None


def test_what_is_no_local_file_is_passed_over(files):
    unchanged = UnchangedFiles("a scene", [*files, "https://example.org/a.tif"])
    unchanged.check()
    assert unchanged.states["https://example.org/a.tif"] is None


@pytest.mark.parametrize("kind", [DataError, SceneError])
def test_errors_that_come_of_a_change_are_told_as_one(files, kind):
    unchanged = UnchangedFiles("a scene", files)
    with pytest.raises(kind, match="cannot be read") as error, unchanged.explaining():
        raise kind("a.tif cannot be read")
    assert type(error.value) is kind
    overwrite(files[0])
    with pytest.raises(ChangedError, match="a scene has changed"), unchanged.explaining():
        raise kind("a.tif cannot be read")
    Path(files[0]).unlink()
    with pytest.raises(kind, match="cannot be read"), unchanged.explaining():
        raise kind("a.tif cannot be read")
    with pytest.raises(OutputError), unchanged.explaining():
        raise OutputError("the disk is full")
    with pytest.raises(ChangedError, match="another"), unchanged.explaining():
        raise ChangedError("another has changed")
