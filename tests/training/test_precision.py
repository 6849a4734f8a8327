"""Which precision ``auto`` stands for."""

import pytest
import torch

from geohp.config.loading import load_config
from geohp.training import fit


@pytest.mark.parametrize(
    ("device", "has_bf16", "wanted", "kept"),
    [("cpu", False, "32", "float32"), ("cuda", True, "bf16", "float16"), ("cuda", False, "32", "float32")],
)
def test_auto_is_half_precision_where_a_gpu_has_it(device, has_bf16, wanted, kept, monkeypatch):
    monkeypatch.setattr(fit, "torch_device", lambda name: torch.device(device))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16)
    config = fit._with_precision(load_config("orthophotos", ["data.images=tiles"]))
    assert config.train.precision == wanted
    assert config.train.features_dtype == kept
    assert fit._with_precision(load_config("orthophotos", ["train.precision=32"])).train.precision == "32"
