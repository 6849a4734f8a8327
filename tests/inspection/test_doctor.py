"""What is amiss has a remedy."""

import socket
import threading

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
