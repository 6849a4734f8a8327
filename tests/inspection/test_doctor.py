"""What is amiss has a remedy."""

import socket
import sys
import threading
from types import SimpleNamespace

import pytest

from geohp.inspection import doctor
from geohp.inspection.doctor import examine, hubs


@pytest.fixture
def hub(monkeypatch):
    """An address on this machine in the hub's place, where nobody listens; gives its socket."""
    monkeypatch.delenv("HTTPS_PROXY", raising=False)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(doctor, "_AUTHORS", address)
        yield server


def test_versions_are_told_and_what_is_missing_has_a_remedy(hub, monkeypatch):
    monkeypatch.setattr(doctor, "_PACKAGES", ("timm", "nosuchpackage"))
    checks = {check.name: check for check in examine(timeout_s=0.5)}
    assert {"geohp", "Python", "torch", "GPU", "rasterio", "timm", "features"} <= set(checks)
    assert checks["timm"].remedy == ""
    assert checks["nosuchpackage"].remedy == "pip install nosuchpackage"


def test_a_hub_that_does_not_listen_cannot_be_reached(hub):
    for check in hubs(0.5):
        assert check.state.startswith("cannot be reached")
        assert "--weights FILE" in check.remedy


def test_a_hub_that_answers_with_an_error_is_reachable(hub):
    def answer():
        for _ in range(2):
            connection, _ = hub.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    hub.listen()
    server = threading.Thread(target=answer, daemon=True)
    server.start()
    assert [check.state for check in hubs(5)] == ["reachable", "reachable"]
    server.join(5)


def test_a_full_disk_is_told(hub, monkeypatch):
    monkeypatch.setattr(doctor, "_SPARE_BYTES", 1 << 62)
    features = next(check for check in examine(timeout_s=0.5) if check.name == "features")
    assert "geohp cache clear" in features.remedy


def torch_checks(monkeypatch, *, cuda=False, mps=False, tool=None):
    import torch

    about = SimpleNamespace(name="H100", total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: about)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: tool if name == "nvidia-smi" else None)
    _, *found = doctor._torch()
    return [(check.name, check.state, bool(check.remedy)) for check in found]


def test_what_computes_is_told(monkeypatch):
    assert torch_checks(monkeypatch, cuda=True, mps=True) == [("GPU", "H100, 80 GiB", False)] * 2
    assert torch_checks(monkeypatch, mps=True, tool="nvidia-smi") == [("GPU", "Apple's, by mps", False)]
    unused = [("GPU", "NVIDIA's, but torch cannot use it", True)]
    assert torch_checks(monkeypatch, tool="/usr/bin/nvidia-smi") == unused
    assert torch_checks(monkeypatch) == [("GPU", "none; the CPU computes", False)]


@pytest.mark.parametrize(("module", "examined"), [("torch", "_torch"), ("rasterio", "_gdal"), ("pyproj", "_gdal")])
def test_what_cannot_be_imported_has_a_remedy(monkeypatch, module, examined):
    monkeypatch.setitem(sys.modules, module, None)
    (check,) = getattr(doctor, examined)()
    assert check.state.startswith("cannot be imported (")
    assert "install" in check.remedy


def test_coordinate_systems_that_gdal_does_not_find_have_a_remedy(monkeypatch):
    import rasterio

    def lost(code):
        raise rasterio.errors.RasterioError(f"no {code}\nand more")

    monkeypatch.setattr(rasterio.crs, "CRS", SimpleNamespace(from_epsg=lost))
    *_, check = doctor._gdal()
    assert (check.name, check.state) == ("coordinate systems", "GDAL finds no EPSG:32633 (no 32633)")
    assert "unset PROJ_DATA" in check.remedy


def test_extras_that_are_missing_are_no_mistake(monkeypatch):
    monkeypatch.setattr(doctor, "_EXTRAS", {"nosuchpackage": ("nobody", "none")})
    check = doctor._extra("nosuchpackage")
    assert (check.state, check.remedy) == ("not installed; only nobody needs it (pip install 'geohp[none]')", "")
    monkeypatch.setattr(doctor, "_EXTRAS", {"numpy": ("all", "none")})
    assert doctor._extra("numpy").state[0].isdigit()


def test_a_cache_that_cannot_be_written_has_a_remedy(hub, monkeypatch):
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    assert all("by XDG_CACHE_HOME" in check.remedy for check in doctor._caches())
