"""Which precision ``auto`` stands for, and what half precision does with gradients."""

from types import SimpleNamespace

import lightning as L
import pytest
import torch

from geohp.config.loading import load_config
from geohp.training import fit, loop
from geohp.training.loop import _fp16


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


@pytest.mark.parametrize(
    ("precision", "asked", "kept"),
    [
        ("fp16", "auto", "float16"), ("bf16", "auto", "float16"), ("32", "auto", "float32"),
        ("bf16", "float32", "float32"), ("32", "float16", "float16"),
    ],
)  # fmt: skip
def test_features_are_kept_as_asked_or_else_as_products_are(precision, asked, kept):
    settings = [f"train.precision={precision}", f"train.cache_dtype={asked}"]
    assert load_config("orthophotos", settings).train.features_dtype == kept


@pytest.mark.parametrize(("precision", "exact"), [("32", True), ("bf16", False), ("fp16", False)])
def test_features_are_exact_where_training_is(precision, exact, monkeypatch):
    class Made(Exception):  # noqa: N818  # nothing has gone wrong
        """The sampler would be."""

    def sampler(*_, **options):
        asked.update(options)
        raise Made

    asked = {}
    monkeypatch.setattr(fit, "FeatureSampler", sampler)
    config = load_config("orthophotos", [f"train.precision={precision}"])
    with pytest.raises(Made):
        fit._features(config, SimpleNamespace(images=None, unchanged=None), None, False, lambda *_: None)
    assert asked["exact"] is exact


@pytest.mark.parametrize(("precision", "scaled"), [("fp16", [3]), ("bf16", []), ("32", [])])
def test_losses_are_scaled_in_fp16_alone(precision, scaled, monkeypatch, tmp_path):
    asked, given = [], {}

    def trainer(**options):
        given.update(options)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "_Trainer", trainer)
    monkeypatch.setattr(loop, "_check", lambda *_: None)  # a CPU has no use for it
    monkeypatch.setattr(loop, "_fp16", lambda _, optimizers: asked.append(optimizers) or "scales")
    task = SimpleNamespace(
        features=SimpleNamespace(device=torch.device("cpu")), method=SimpleNamespace(optimizers=lambda: [1, 2, 3]),
        total_steps=1,
    )  # fmt: skip
    settings = load_config("orthophotos", [f"train.precision={precision}"]).train
    with pytest.raises(KeyboardInterrupt):
        loop.run_training(task, settings, tmp_path)
    assert asked == scaled
    assert ("scales" in given["plugins"]) is bool(scaled)


class TwoOptimizers(L.LightningModule):
    """Two weights that have an optimiser each, and gradients of 1; the first one's overflows when it is told to."""

    def __init__(self, overflows):
        super().__init__()
        self.automatic_optimization, self.overflows = False, overflows
        self.first, self.second = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))

    def configure_optimizers(self):
        return [torch.optim.SGD([weight], lr=1.0) for weight in (self.first, self.second)]

    def training_step(self, batch, index):
        for optimizer in self.optimizers():
            optimizer.zero_grad()
        self.manual_backward(self.first * (float("inf") if index in self.overflows else 1) + self.second)
        for optimizer in self.optimizers():
            optimizer.step()


@pytest.mark.parametrize(("overflows", "first", "scale"), [([], -4.0, 16.0), ([1], -3.0, 4.0), ([0, 2], -2.0, 1.0)])
def test_a_loss_scale_is_the_same_for_all_optimizers_of_a_step(overflows, first, scale):
    precision = _fp16("cpu", 2)
    scaler = precision.scaler
    scaler.set_growth_interval(1)  # doubled by each step, halved where one overflows
    scaler._init_scale = 1.0
    module = TwoOptimizers(overflows)
    trainer = L.Trainer(
        accelerator="cpu", plugins=[precision], max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, torch.utils.data.DataLoader(range(4)))
    assert (module.first.item(), module.second.item(), scaler.get_scale()) == (first, -4.0, scale)
