"""Files that training might go on from, and those that it cannot."""

import pytest
import torch

from geohp.errors import ModelError
from geohp.training.checkpoints import check_readable, random_states


@pytest.mark.parametrize("content", [[], {}, {"state_dict": {}}, torch.zeros(3), "text"], ids=repr)
def test_what_is_legible_but_no_checkpoint_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "checkpoint.ckpt")
    with pytest.raises(ModelError, match="the checkpoint is damaged") as caught:
        check_readable(tmp_path / "checkpoint.ckpt")
    assert "\n" not in str(caught.value)


def test_what_is_cut_or_no_archive_is_refused(tmp_path):
    path = tmp_path / "checkpoint.ckpt"
    torch.save({"state_dict": {"a": torch.zeros(1000)}}, path)
    content = path.read_bytes()
    for damaged in (content[:-100], content[100:], b"", b"\x80\x02]r\xff\xff\xff\x7f."):
        path.write_bytes(damaged)
        with pytest.raises(ModelError, match="the checkpoint is damaged"):
            check_readable(path)


def test_a_gpu_that_is_not_in_use_is_left_alone(monkeypatch):
    """To ask for its random numbers would occupy its memory, and fail where others do."""
    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: bool(asked))
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: asked)
    assert random_states().keys() == {"cpu"}
    asked.append(torch.zeros(16))
    assert random_states()["cuda"] is asked
