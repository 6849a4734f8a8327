"""A training from recorded draws: step by step what the formulas give, and what the reference implementation gave."""

import numpy as np
import pytest
import torch
from hp_reference import HEAD, Recording, Reference, drawn
from lightning import Callback
from torch.utils.data import DataLoader, Sampler

from geohp.backbones.base import PatchFeatures
from geohp.config.experiment import TrainConfig
from geohp.methods.hp import loss as loss_module
from geohp.methods.hp import positives
from geohp.methods.hp.method import HP
from geohp.methods.hp.settings import HPSettings
from geohp.training.loop import run_training
from geohp.training.task import MethodTask

REFERENCE_NAMES = {
    "head.cluster1.0.weight": "head.linear.weight",
    "head.cluster1.0.bias": "head.linear.bias",
    "head.cluster2.0.weight": "head.nonlinear.0.weight",
    "head.cluster2.0.bias": "head.nonlinear.0.bias",
    "head.cluster2.2.weight": "head.nonlinear.2.weight",
    "head.cluster2.2.bias": "head.nonlinear.2.bias",
    "head.ema_model1.0.weight": "average.linear.weight",
    "head.ema_model1.0.bias": "average.linear.bias",
    "head.ema_model2.0.weight": "average.nonlinear.0.weight",
    "head.ema_model2.0.bias": "average.nonlinear.0.bias",
    "head.ema_model2.2.weight": "average.nonlinear.2.weight",
    "head.ema_model2.2.bias": "average.nonlinear.2.bias",
    "lin.weight": "linear_probe.weight",
    "lin.bias": "linear_probe.bias",
    "proj.weight": "projection.weight",
    "proj.bias": "projection.bias",
    "clusters": "clusters",
}


class RecordedOrder(Sampler):
    def __init__(self, order):
        self.order, self.epoch, self.start = order, 0, 0

    def __len__(self):
        return self.order.shape[1]

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        return iter(self.order[self.epoch].tolist()[self.start :])


class RecordedFeatures:
    """A recording in the place of a sampler of features."""

    def __init__(self, recording):
        self.recording, self.fills, self.step = recording, 0, 0
        self.images, self.backbone, self.device = self, torch.nn.Identity(), torch.device("cpu")

    def identity(self):
        return "recorded"

    def state(self):
        return {}

    def batches(self, rank, processes):
        def collate(indices):
            images = torch.tensor(indices)
            return {"index": images, "image": torch.rand(len(images), 3, 8, 8), "mask": self.recording.labels[images]}

        order = RecordedOrder(self.recording.train_order)
        return DataLoader(range(order.order.shape[1]), self.recording.batch, sampler=order, collate_fn=collate)

    def patches(self, batch):
        self.step += 1
        images = batch["index"]
        return PatchFeatures(self.recording.features[images].float(), self.recording.affinities[images].float())

    def encode(self, images, affinities=True):
        return PatchFeatures(self.recording.augmented[self.step].float(), None)

    def sample(self, count):
        order = self.recording.pool_order[self.fills].long()[:count]
        self.fills += 1
        for images in torch.split(order, self.recording.batch):
            yield self.recording.features[images].float()


class RecordedDropout(torch.nn.Module):
    def __init__(self, rate, masks):
        super().__init__()
        self.rate, self.masks = rate, iter(masks)

    def forward(self, values):
        return values * next(self.masks)[:, :, None, None].to(values) / (1 - self.rate)


class Snapshots(Callback):
    def __init__(self, method, steps):
        self.method, self.steps, self.losses, self.lambdas, self.weights = method, steps, [], [], {}

    def on_train_batch_end(self, trainer, pl_module, *_):
        figures = pl_module.figures
        self.losses.append(float(figures["contrastive"] + figures.get("consistency", 0)))
        self.lambdas.append(float(figures["task_specific_weight"]))
        if pl_module.steps_done in self.steps:
            self.weights[pl_module.steps_done] = {n: w.clone() for n, w in weights_of(self.method).items()}


def weights_of(method):
    """The method's own tensors by the recording's names."""
    parts = {"head": method.head, "average": method.averaged.head}
    weights = {f"{part}.{name}": module.state_dict()[name] for part, module in parts.items() for name in HEAD}
    for part, module in (("projection", method.projection), ("linear_probe", method.linear_probe.classifier)):
        weights |= {f"{part}.{kind}": module.state_dict()[kind] for kind in ("weight", "bias")}
    return weights | {"clusters": method.probe.clusters.data}


def method_of(recording):
    """HP with the weights of a recording, its dropout replaced by the recorded one."""
    channels, (classes, codes) = recording.features.shape[1], recording.before["clusters"].shape
    settings = HPSettings(
        code_channels=codes,
        temperature=recording.temperature,
        consistency_weight=recording.alpha,
        keep_rate=recording.rho,
        pool_size=len(recording.picks_agnostic),
        ema_momentum=recording.momentum,
        warmup_steps=recording.warmup,
        renew_interval=recording.renew,
        dropout=recording.dropout,
        refit_probe=False,
        clip_norm=recording.clip,
        task_agnostic_positives=recording.agnostic,
        task_specific_positives=recording.specific,
        symmetric_positives=recording.symmetric,
        local_positives=recording.local,
    )
    method = HP(channels, classes, settings, label_classes=classes)
    for name, value in weights_of(method).items():
        value.copy_(recording.before[name].view(value.shape))
    steps, pools = recording.step_keep, recording.pool_keep
    batches = -(-len(recording.picks_agnostic) // recording.batch)
    online, average, shared, fill = [], [], [], 0
    for step in range(-1, recording.steps):
        within = step % recording.steps_per_epoch
        if step < 0 or (within and within % recording.renew == 0):
            for batch in range(batches):
                average += [pools["ema_lin"][fill][batch], pools["ema_non"][fill][batch]]
                shared += [pools["f"][fill][batch]] * (step < 0) + [pools["ema"][fill][batch]]
            fill += 1
        if step >= 0:
            online += [steps["lin"][step], steps["non"][step]]
            average += [steps["ema_lin"][step], steps["ema_non"][step]]
            shared += [steps["mix"][step]] if recording.local else []
            shared += [steps["f"][step], steps["ema"][step]] if recording.discovers else []
            if recording.augmented is not None:
                online += [steps["augmented_lin"][step], steps["augmented_non"][step]]
    method.head.drop = RecordedDropout(recording.dropout, online)
    method.averaged.head.drop = RecordedDropout(recording.dropout, average)
    method.drop = RecordedDropout(recording.dropout, shared)
    return method


def replay(recording, snapshots, folder, monkeypatch):
    """The whole training through the method, the task and the loop, with the recorded draws."""
    method = method_of(recording)
    pick, queue = positives.pick_patches, [recording.picks_specific[fill] for fill in range(len(recording.pool_order))]
    first = [
        part
        for pair in zip(
            torch.split(recording.picks_agnostic, recording.batch), torch.split(queue[0], recording.batch), strict=True
        )
        for part in pair
    ]
    picks = iter([*first, *(part for fill in queue[1:] for part in torch.split(fill, recording.batch))])
    monkeypatch.setattr(positives, "pick_patches", lambda maps, patches: pick(maps, next(picks).long()))
    if recording.kept is not None:
        kept = iter(recording.kept)

        def recorded(keep, patches, n, device):
            assert keep == recording.rho
            return next(kept)

        monkeypatch.setattr(loss_module, "_kept", recorded)
    features = RecordedFeatures(recording)
    method.prepare(features.sample)
    task = MethodTask(method, features, recording.steps)
    taken = Snapshots(method, snapshots)
    settings = TrainConfig(epochs=len(recording.train_order), batch_size=recording.batch, device="cpu", precision="32")
    run_training(task, settings, folder, callbacks=[taken])
    return taken.losses, taken.lambdas, taken.weights


def distances(weights, wanted, before):
    """How far each group of weights is from where it should be, over the distance that it travelled."""
    groups = {}
    for name, value in wanted.items():
        off, way = groups.setdefault(name.split(".")[0], [0.0, 0.0])
        start = before[name].view(value.shape).double()
        groups[name.split(".")[0]] = [
            off + float((weights[name].view(value.shape).double() - value.double()).square().sum()),
            way + float((value.double() - start).square().sum()),
        ]
    return {group: (off / way) ** 0.5 for group, (off, way) in groups.items()}


ABLATIONS = {
    "without local": {"seed": 3, "local": False},
    "asymmetric": {"seed": 4, "symmetric": False, "rho": 0.3},
    "without specific": {"seed": 5, "specific": False},
    "specific alone": {"seed": 6, "agnostic": False, "rho": 0.3},
    "specific alone, asymmetric, consistency": {"seed": 7, "agnostic": False, "symmetric": False, "alpha": 0.5},
    "naive": {"seed": 8, "agnostic": False, "specific": False, "local": False},
    "naive and local": {"seed": 9, "agnostic": False, "specific": False, "rho": 0.3, "alpha": 0.5},
}


@pytest.mark.parametrize(
    "settings",
    [
        # Averages that follow more quickly than the published ones travel far enough for float32 to tell.
        {"seed": 0, "momentum": 0.95},
        {"seed": 1, "momentum": 0.95, "alpha": 0.5, "rho": 0.3, "temperature": 0.6},
        # Without warm-up, the first filling of the specific pool counts, too.
        {"seed": 2, "momentum": 0.8, "warmup": 0, "clip": 0.5, "epochs": 2},
        *({"momentum": 0.95, **ablation} for ablation in ABLATIONS.values()),
    ],
    ids=[*("potsdam", "consistency", "clipped"), *ABLATIONS],
)
def test_a_training_is_what_the_formulas_give(settings, tmp_path, monkeypatch):
    recording = drawn(**settings)
    snapshots = [recording.steps // 2, recording.steps]
    losses, lambdas, weights = Reference(recording).run(snapshots)
    assert max(lambdas) > 0.1 or not recording.specific
    own_losses, own_lambdas, own_weights = replay(recording, snapshots, tmp_path, monkeypatch)
    assert own_lambdas == pytest.approx(lambdas, abs=1e-6)
    assert own_losses == pytest.approx(losses, rel=2e-4)
    for step in snapshots:
        off = distances(own_weights[step], weights[step], recording.before)
        assert max(off.values()) < 1e-3, (step, off)


def recorded_by_the_reference(path):
    with np.load(path) as file:
        data = {key: torch.from_numpy(file[key]) for key in file.files}

    def by_role(kind):
        return {
            key.removeprefix(f"{kind}_keep_"): value for key, value in data.items() if key.startswith(f"{kind}_keep_")
        }

    def weights(when):
        return {own: data[f"{when}/{name}"] for name, own in REFERENCE_NAMES.items()}

    recording = Recording(
        **{key: data[key] for key in ("features", "affinities", "labels", "train_order", "pool_order")},
        step_keep=by_role("step"),
        pool_keep=by_role("pool"),
        picks_agnostic=data["pool_pick_agnostic"],
        picks_specific=data["pool_pick_specific"],
        before=weights("before"),
    )
    recording.labels = recording.labels.long()
    return recording, data["loss"], data["lambda"], {step: weights(f"after{step}") for step in (6, 12, 24)}


@pytest.mark.parametrize("who", ["formulas", "geohp"])
def test_a_training_is_the_references(who, shared, tmp_path, monkeypatch):
    path = shared / "golden" / "trajectory_potsdam.npz"
    if not path.exists():
        pytest.skip("the reference's trajectory is not present")
    recording, losses, lambdas, weights = recorded_by_the_reference(path)
    snapshots = list(weights)
    if who == "formulas":
        own_losses, own_lambdas, own_weights = Reference(recording).run(snapshots)
    else:
        own_losses, own_lambdas, own_weights = replay(recording, snapshots, tmp_path, monkeypatch)
    assert own_lambdas == pytest.approx(lambdas.tolist(), abs=1e-6)
    assert own_losses == pytest.approx(losses.tolist(), rel=2e-4)
    for step in snapshots:
        off = distances(own_weights[step], weights[step], recording.before)
        assert max(off.values()) < 1e-3, (step, off)
