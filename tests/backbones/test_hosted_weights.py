"""Weights from their authors' address, here a server on this machine: whole and the ones expected, or one sentence."""

from __future__ import annotations

import hashlib
import http.server
import io
import logging
import threading
import time

import pytest
import timm
import torch

from geohp.backbones import hosted_weights
from geohp.backbones.factory import create_backbone
from geohp.backbones.hosted_weights import HOSTED, HostedWeights
from geohp.backbones.vit import VisionTransformer
from geohp.errors import OutputError, WeightsError

TINY = "vit_tiny_patch16_224"
OURS = f"{TINY}.ours"
DINO = "vit_small_patch8_224.dino_300ep"


class Authors(http.server.BaseHTTPRequestHandler):
    """Gives what the server has under a path: status, body, and how much of it arrives."""

    def do_GET(self):
        self.server.asked.append(self.path)
        status, body, sent = self.server.files.get(self.path, (404, b"no such file", None))
        if sent == "silence":
            time.sleep(1)
            return
        self.send_response(status)
        if sent != "no length":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: sent if isinstance(sent, int) else None])

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    return VisionTransformer(TINY, block=0).model.state_dict()


@pytest.fixture(scope="module")
def content(state):
    stream = io.BytesIO()
    torch.save(state, stream)
    return stream.getvalue()


@pytest.fixture
def server(content):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Authors) as authors:
        authors.asked, authors.files = [], {"/weights.pth": (200, content, None)}
        threading.Thread(target=authors.serve_forever, args=(0.02,), daemon=True).start()
        yield authors
        authors.shutdown()


@pytest.fixture
def ours(server, monkeypatch, tmp_path):
    """Where the file of our name will be kept."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights = HostedWeights(f"http://127.0.0.1:{server.server_address[1]}/weights.pth", TINY)
    monkeypatch.setitem(HOSTED, OURS, weights)
    return tmp_path / "hub" / "checkpoints" / "weights.pth"


def refused(message, **arguments) -> WeightsError:
    with pytest.raises(WeightsError, match=message) as caught:
        create_backbone(OURS, block=0, **arguments)
    assert "\n" not in str(caught.value)
    assert "backbone.weights: FILE" in str(caught.value)
    return caught.value


def left_behind(path):
    return sorted(file.name for file in path.parent.iterdir()) if path.parent.exists() else []


def test_it_is_fetched_once_and_remembered(server, ours, state, content, caplog):
    caplog.set_level(logging.INFO)
    backbone = create_backbone(OURS, block=0)
    assert (backbone.name, backbone.weights_source) == (OURS, "hub")
    assert all(torch.equal(tensor, state[name]) for name, tensor in backbone.model.state_dict().items())
    digest = hashlib.sha256(content).hexdigest()
    assert ours.read_bytes() == content
    assert ours.with_name("weights.pth.sha256").read_text() == f"{digest}  weights.pth\n"
    assert digest in caplog.text
    again = create_backbone(OURS, block=0)
    assert server.asked == ["/weights.pth"]
    assert torch.equal(again.model.cls_token, backbone.model.cls_token)
    assert left_behind(ours) == ["weights.pth", "weights.pth.sha256"]


def test_without_a_length_it_counts_as_whole(server, ours, content):
    server.files["/weights.pth"] = (200, content, "no length")
    assert create_backbone(OURS, block=0).weights_source == "hub"


@pytest.mark.parametrize("fetched_again", [False, True])
def test_a_file_that_differs_from_the_first_is_refused(fetched_again, server, ours, content):
    create_backbone(OURS, block=0)
    # Still weights that would load, but not those of before.
    other = content + b" "
    if fetched_again:
        server.files["/weights.pth"] = (200, other, None)
        ours.unlink()
    else:
        ours.write_bytes(other)
    refused(r"not the file expected.*remove .*weights\.pth\.sha256, which remembers")
    assert ours.exists() != fetched_again
    ours.with_name("weights.pth.sha256").unlink()
    create_backbone(OURS, block=0)


def test_a_published_sha256_decides(server, ours, content, monkeypatch):
    url = HOSTED[OURS].url
    monkeypatch.setitem(HOSTED, OURS, HostedWeights(url, TINY, "0" * 64))
    refused(r"^http.*not the file expected, whose SHA-256 is 0{64}.*; try again")
    assert left_behind(ours) == []
    ours.write_bytes(content)
    refused(r"^/.*weights\.pth: not the file expected.*; remove it to fetch it again")
    monkeypatch.setitem(HOSTED, OURS, HostedWeights(url, TINY, hashlib.sha256(content).hexdigest()))
    assert create_backbone(OURS, block=0).weights_source == "hub"
    assert left_behind(ours) == ["weights.pth"]


def test_what_is_no_weight_file_is_not_kept(server, ours, content, monkeypatch):
    monkeypatch.setattr(hosted_weights, "TIMEOUT_S", 0.2)
    page = b"<!DOCTYPE html><html><title>Sign in</title></html>"
    cases = {
        "broke off after": (200, content, len(content) // 2),
        "gave something that is no weight file": (200, page, None),
        r"cannot be fetched \(Service Unavailable\)": (503, page, None),
        r"cannot be fetched \(timed out\)": (200, content, "silence"),
    }
    for message, answer in cases.items():
        server.files["/weights.pth"] = answer
        refused(rf"^{OURS}: http://127.*/weights\.pth {message}.*put the file into {ours.parent}, or give it")
        assert left_behind(ours) == []


def test_an_address_that_cannot_be_reached(server, ours, monkeypatch):
    monkeypatch.setitem(HOSTED, OURS, HostedWeights("http://127.0.0.1:9/weights.pth", TINY))
    error = refused(r"cannot be fetched \(.*refused\)")
    assert "--weights FILE" in error.render(lambda option, value: f"--{option} {value}")
    assert left_behind(ours) == []


def test_a_cache_that_cannot_be_written(server, ours, tmp_path):
    (tmp_path / "hub").write_text("in the way")
    with pytest.raises(OutputError, match="checkpoints could not be written"):
        create_backbone(OURS, block=0)


def test_files_that_are_there_already_and_files_of_ones_own(server, ours, content, tmp_path):
    ours.parent.mkdir(parents=True)
    ours.write_bytes(content)  # as the authors' own code leaves it
    assert create_backbone(OURS, block=0).weights_source == "hub"
    torch.save(timm.create_model(TINY).state_dict(), tmp_path / "own.pth")
    own = create_backbone(OURS, weights=tmp_path / "own.pth", block=0)
    assert own.weights_source == str(tmp_path / "own.pth")
    assert server.asked == []


def test_dino_after_300_epochs():
    backbone = VisionTransformer(DINO, block=0)
    usual = VisionTransformer("vit_small_patch8_224.dino", block=0)
    assert (backbone.name, backbone.positions, backbone.patch_size) == (DINO, "offset", 8)
    assert (backbone.mean, backbone.std, backbone.options()) == (usual.mean, usual.std, usual.options())
    assert HOSTED[DINO].path.name == "dino_deitsmall8_300ep_pretrain.pth"
    with pytest.raises(ValueError, match=f"did you mean {DINO}"):
        create_backbone("dino_deitsmall8_300ep")
