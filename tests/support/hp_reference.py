"""Hidden Positives by its formulas alone: dense matrices, plain autograd, float64; a training from recorded draws.

Follows the paper (arXiv 2303.15014, section 3) and the order of operations of its reference implementation. It shares
no line with geohp; tests hold it to numbers recorded from that implementation where these are present.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

HEAD = [
    "linear.weight",
    "linear.bias",
    "nonlinear.0.weight",
    "nonlinear.0.bias",
    "nonlinear.2.weight",
    "nonlinear.2.bias",
]


@dataclass
class Recording:
    """A training, with everything random drawn beforehand.

    features (I, C, S, S), affinities (I, N, 9), labels (I, H, W) with 255 ignored; train_order (epochs, I); pool_order
    (fills, I); step_keep and pool_keep: channels kept by dropout, by role, (steps, B, channels) and (fills, batches,
    B, channels); picks_agnostic (R,) and picks_specific (fills, R): patches; before: weights by name; kept (steps, N,
    B N, or 2 B N without anything to discover): non-positives that stay in the denominator, None for all; augmented
    (steps, B, C, S, S) where there is such a view. The last four switch kinds of positives on and off.
    """

    features: torch.Tensor
    affinities: torch.Tensor
    labels: torch.Tensor
    train_order: torch.Tensor
    pool_order: torch.Tensor
    step_keep: dict
    pool_keep: dict
    picks_agnostic: torch.Tensor
    picks_specific: torch.Tensor
    before: dict
    kept: torch.Tensor | None = None
    augmented: torch.Tensor | None = None
    batch: int = 8
    temperature: float = 0.4
    alpha: float = 0.0
    rho: float = 1.0
    momentum: float = 0.999
    dropout: float = 0.1
    warmup: int = 5
    renew: int = 2
    clip: float = 10.0
    agnostic: bool = True
    specific: bool = True
    symmetric: bool = True
    local: bool = True

    @property
    def discovers(self):
        return self.agnostic or self.specific

    @property
    def steps_per_epoch(self):
        return len(self.features) // self.batch

    @property
    def steps(self):
        return self.steps_per_epoch * len(self.train_order)


def drawn(
    seed, *, alpha=0.0, rho=1.0, images=12, epochs=4, batch=4, channels=10, side=3, codes=6, classes=3, **settings
):
    """A small training, drawn at random."""
    rng, classes = np.random.default_rng(seed), 3
    views = 1 if settings.get("agnostic", True) or settings.get("specific", True) else 2

    def normal(*shape, scale=1.0):
        return torch.from_numpy(scale * rng.standard_normal(shape)).double()

    def orders(count):
        return torch.from_numpy(np.stack([rng.permutation(images) for _ in range(count)]))

    def keeps(width, *shape):
        return torch.from_numpy(rng.random((*shape, batch, width)) > 0.1)

    per_epoch = images // batch
    renew = settings.get("renew", 2)
    steps, fills = per_epoch * epochs, 1 + epochs * ((per_epoch - 1) // renew)
    kinds = normal(4, channels)
    mixture = torch.from_numpy(rng.integers(0, 4, (images, side, side)))
    features = (kinds[mixture] + 0.4 * normal(images, side, side, channels)).permute(0, 3, 1, 2)
    shapes = [(codes, channels), (codes,), (channels, channels), (channels,), (codes, channels), (codes,)]
    head = {name: normal(*shape, scale=0.3) for name, shape in zip(HEAD, shapes, strict=True)}
    before = {f"head.{name}": value for name, value in head.items()}
    before |= {f"average.{name}": value.clone() for name, value in head.items()}
    before |= {"projection.weight": normal(codes, codes, scale=0.4), "projection.bias": normal(codes, scale=0.1)}
    before |= {
        "linear_probe.weight": normal(classes, codes, scale=0.3),
        "linear_probe.bias": normal(classes, scale=0.1),
    }
    before |= {"clusters": normal(classes, codes)}
    widths = {"lin": channels, "non": channels, "ema_lin": channels, "ema_non": channels, "f": channels, "ema": codes}
    step_keep = {role: keeps(width, steps) for role, width in widths.items()} | {"mix": keeps(codes, steps)}
    if views == 2:
        step_keep["mix"] = torch.from_numpy(rng.random((steps, 2 * batch, codes)) > 0.1)
    step_keep |= {"augmented_lin": keeps(channels, steps), "augmented_non": keeps(channels, steps)}
    return Recording(
        features=features,
        affinities=torch.from_numpy(rng.random((images, side * side, 9))).double() * inside(side)[None],
        labels=torch.from_numpy(rng.choice([*range(classes), 255], (images, 2 * side, 2 * side))),
        train_order=orders(epochs),
        pool_order=orders(fills),
        step_keep=step_keep,
        pool_keep={role: keeps(width, fills, per_epoch) for role, width in widths.items()},
        picks_agnostic=torch.from_numpy(rng.integers(0, side * side, images)),
        picks_specific=torch.from_numpy(rng.integers(0, side * side, (fills, images))),
        before=before,
        kept=None
        if rho == 1
        else torch.from_numpy(rng.random((steps, side * side, views * batch * side * side)) < rho),
        augmented=features[orders(1)[0][:batch]][None] + 0.3 * normal(steps, batch, channels, side, side)
        if alpha or views == 2
        else None,
        batch=batch,
        alpha=alpha,
        rho=rho,
        **settings,
    )


def inside(side):
    """(N, 9): which neighbours lie inside the image."""
    row, col = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    steps = torch.tensor([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)])
    rows, cols = row.flatten()[:, None] + steps[:, 0], col.flatten()[:, None] + steps[:, 1]
    return ((rows >= 0) & (rows < side) & (cols >= 0) & (cols < side)).double()


class Reference:
    """The training of a recording, step by step."""

    def __init__(self, recording):
        self.recording = recording
        self.weights = {name: value.double().clone() for name, value in recording.before.items()}
        for name, value in self.weights.items():
            value.requires_grad_(not name.startswith("average."))
        named = self.weights.items()
        head = [value for name, value in named if name.startswith("head.")]
        self.head = head
        self.optimizers = [
            torch.optim.AdamW(head, lr=5e-4, weight_decay=0.1),
            torch.optim.Adam([value for name, value in named if name.startswith("projection.")], lr=5e-4),
            torch.optim.Adam([value for name, value in named if name.startswith("linear_probe.")], lr=1e-3),
            torch.optim.Adam([self.weights["clusters"]], lr=5e-3),
        ]
        self.fills = 0
        self.pool_specific = None
        self.fill(agnostic=True)

    def run(self, snapshots):
        """Train to the end; the losses of the head, lambdas, and weights after the steps in ``snapshots``."""
        losses, lambdas, weights = [], [], {}
        for step in range(self.recording.steps):
            loss, weight = self.step(step)
            losses.append(loss)
            lambdas.append(weight)
            if step + 1 in snapshots:
                weights[step + 1] = {name: value.detach().clone() for name, value in self.weights.items()}
        return losses, lambdas, weights

    def drop(self, values, keep):
        return values * keep.double()[:, :, None, None] / (1 - self.recording.dropout)

    def codes(self, which, features, keep_linear, keep_nonlinear):
        w = {name: self.weights[f"{which}.{name}"] for name in HEAD}
        seen = self.drop(features, keep_nonlinear)
        hidden = torch.einsum("bchw,dc->bdhw", seen, w["nonlinear.0.weight"]) + w["nonlinear.0.bias"][:, None, None]
        nonlinear = torch.einsum("bchw,dc->bdhw", hidden.clamp_min(0), w["nonlinear.2.weight"])
        linear = torch.einsum("bchw,dc->bdhw", self.drop(features, keep_linear), w["linear.weight"])
        return linear + nonlinear + (w["linear.bias"] + w["nonlinear.2.bias"])[:, None, None]

    @torch.no_grad()
    def fill(self, agnostic=False):
        """One random patch of each image, of the features at first and of the averaged codes, dropout on."""
        r, fill = self.recording, self.fills
        size = len(r.picks_agnostic)
        parts = torch.split(r.pool_order[fill].long()[:size], r.batch)
        rows_f, rows_s = [], []
        for number, images in enumerate(parts):
            features = r.features[images].double()
            keep = {role: masks[fill][number] for role, masks in r.pool_keep.items()}
            codes = self.codes("average", features, keep["ema_lin"], keep["ema_non"])
            for rows, maps, role in ((rows_f, features, "f"), (rows_s, codes, "ema")):
                rows.append(self.drop(maps, keep[role]).flatten(2))
        at = torch.arange(size)
        if agnostic:
            self.pool_agnostic = F.normalize(torch.cat(rows_f)[at, :, r.picks_agnostic.long()], dim=1)
        self.pool_specific = F.normalize(torch.cat(rows_s)[at, :, r.picks_specific[fill].long()], dim=1)
        self.fills += 1

    def step(self, step):
        r = self.recording
        epoch, within = divmod(step, r.steps_per_epoch)
        if within and within % r.renew == 0:
            self.fill()
        images = r.train_order[epoch].long()[within * r.batch : (within + 1) * r.batch]
        keep = {role: masks[step] for role, masks in r.step_keep.items()}
        features = r.features[images].double()
        codes = self.codes("head", features, keep["lin"], keep["non"])
        with torch.no_grad():
            averaged = self.codes("average", features, keep["ema_lin"], keep["ema_non"])
            for name in HEAD:
                self.weights[f"average.{name}"].mul_(r.momentum).add_(
                    self.weights[f"head.{name}"], alpha=1 - r.momentum
                )
        weight = 0.0 if step <= r.warmup else (step - r.warmup) / (r.steps - r.warmup)
        weight = weight if r.agnostic and r.specific else float(r.specific)
        affinities, shown, view = r.affinities[images].double(), codes, None
        if r.augmented is not None:
            view = self.codes("head", r.augmented[step], keep["augmented_lin"], keep["augmented_non"])
        if not r.discovers:
            shown, affinities = torch.cat([codes, view]), torch.cat([affinities, affinities])
        views = [self.project(shown)]
        if r.local:
            views.append(self.project(self.drop(self.mix(shown, affinities), keep["mix"])))
        kept = torch.ones(1, dtype=torch.bool) if r.kept is None else r.kept[step].repeat(len(shown), 1)
        if r.discovers:
            f, s = unit_rows(self.drop(features, keep["f"])), unit_rows(self.drop(averaged, keep["ema"]))
            losses = [self.contrast(z, f, s, weight, kept) for z in views]
        else:
            losses = [self.contrast_views(z, kept) for z in views]
        loss = sum(losses) / len(losses)
        if r.alpha:
            loss = loss + r.alpha * (self.project(codes) - self.project(view) + 1e-6).norm(dim=1).mean()
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        (loss + self.probe_losses(codes.detach(), r.labels[images])).backward()
        norm = torch.stack([value.grad.norm() for value in self.head]).norm()
        for value in self.head:
            value.grad.mul_(min(1.0, r.clip / (float(norm) + 1e-6)))
        for optimizer in self.optimizers:
            optimizer.step()
        return loss.item(), weight

    def project(self, codes):
        rows = codes.permute(0, 2, 3, 1).reshape(-1, codes.shape[1])
        return F.normalize(rows @ self.weights["projection.weight"].T + self.weights["projection.bias"], dim=1)

    @staticmethod
    def mix(codes, affinities):
        images, width, side, _ = codes.shape
        around = F.unfold(codes, 3, padding=1).view(images, width, 9, side * side)
        weights = affinities.transpose(1, 2)[:, None] / inside(side).sum(1)
        return (around * weights).sum(2).view(images, width, side, side)

    def contrast(self, z, f, s, weight, kept):
        r, n = self.recording, len(z)
        patches, off = n // r.batch, ~torch.eye(n, dtype=torch.bool)
        positives = []
        for rows, pool in ((f, self.pool_agnostic), (s, self.pool_specific)):
            similarity, bound = rows @ rows.T, (rows @ pool.T).amax(1)
            similar = similarity > bound[:, None]
            positives.append(((similar | similar.T if r.symmetric else similar) & off).double())
        agnostic, specific = positives
        if not r.agnostic:  # the others in their place
            agnostic, specific, weight = specific, agnostic, 0.0
        denominator = (agnostic.bool() | kept) & off
        logits = z @ z.T / r.temperature
        total = torch.logsumexp(logits.masked_fill(~denominator, -torch.inf), 1, keepdim=True)
        w = agnostic + weight * specific
        losses = []
        for image in range(r.batch):
            own = slice(image * patches, (image + 1) * patches)
            anchors = agnostic[own].sum(1) > 0
            mass = w[own][anchors].sum(1)
            each = (w[own][anchors] * (logits - total)[own][anchors]).sum(1) / mass
            emphasis = mass / mass.mean()
            losses.append(-(r.temperature / 0.07) * (emphasis * each).mean() if anchors.any() else z.sum() * 0)
        return torch.stack(losses).mean()

    def contrast_views(self, z, kept):
        """NT-Xent: every row against itself in the other view, over all others or those kept of them."""
        r, n = self.recording, len(z)
        others = torch.arange(n).roll(n // 2)
        pair = torch.eye(n, dtype=torch.bool)[others]
        logits = z @ z.T / r.temperature
        outside = ~(pair | kept) | torch.eye(n, dtype=torch.bool)
        logp = logits - torch.logsumexp(logits.masked_fill(outside, -torch.inf), 1, keepdim=True)
        return -(r.temperature / 0.07) * logp[pair].mean()

    def probe_losses(self, codes, labels):
        cosines = torch.einsum("bdhw,kd->bkhw", F.normalize(codes, dim=1), F.normalize(self.weights["clusters"], dim=1))
        logits = torch.einsum("bdhw,kd->bkhw", codes, self.weights["linear_probe.weight"])
        logits = logits + self.weights["linear_probe.bias"][:, None, None]
        logits = F.interpolate(logits, size=labels.shape[1:], mode="bilinear", align_corners=False)
        return F.cross_entropy(logits, labels.long(), ignore_index=255) - cosines.amax(1).mean()


def unit_rows(maps):
    return F.normalize(maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1]), dim=1).detach()
