"""Caches are measured, and only what is geohp's own is cleared."""

import torch

from geohp.features.cache_folder import default_folder
from geohp.files.locks import FolderLock
from geohp.inspection.caches import caches, clear_features, torch_hub_folder


def fill(name, size=1000):
    folder = default_folder() / name
    folder.mkdir(parents=True)
    (folder / "00000.safetensors").write_bytes(bytes(size))
    return folder


def test_caches_are_measured(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert (caches()[0].files, caches()[0].size_bytes) == (0, 0)
    fill("a" * 32)
    features, *others = caches()
    assert (features.folder, features.files, features.size_bytes) == (tmp_path / "geohp" / "features", 1, 1000)
    assert features.clearable
    assert not any(cache.clearable for cache in others)


def test_torch_keeps_its_files_where_it_is_said_to(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("TORCH_HOME", raising=False)
    assert str(torch_hub_folder()) == torch.hub.get_dir()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "elsewhere"))
    assert str(torch_hub_folder()) == torch.hub.get_dir()


def test_clearing_takes_features_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    kept, used = fill("a" * 32), fill("b" * 32)
    foreign = fill("photographs")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("kept")
    (default_folder() / ("c" * 32)).symlink_to(tmp_path / "elsewhere")
    lock = FolderLock(used)
    try:
        cleared = clear_features()
    finally:
        lock.release()
    assert (cleared.removed, cleared.freed_bytes, cleared.in_use) == (1, 1000, (used,))
    assert not kept.exists()
    assert used.is_dir()
    assert foreign.is_dir()
    assert (tmp_path / "elsewhere" / "file").read_text() == "kept"
    assert clear_features().removed == 1


def test_clearing_nothing_is_no_mistake(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "nothing"))
    assert clear_features().removed == 0
    assert not (tmp_path / "nothing").exists()
