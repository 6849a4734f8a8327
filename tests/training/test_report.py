"""The report of a run: what it shows, that it is true, and that a browser opens it."""

import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from geohp.backbones.base import PatchFeatures
from geohp.backbones.factory import create_backbone
from geohp.classes import LandCoverClass, default_classes
from geohp.config.loading import parse_config
from geohp.data.base import ImageSet
from geohp.errors import DataError
from geohp.evaluation.metrics import SegmentationMetrics
from geohp.methods.base import Batch
from geohp.methods.factory import create_method
from geohp.methods.kmeans.covers import Cover
from geohp.model.card import BackboneCard, ModelCard
from geohp.model.network import LandCoverModel
from geohp.training.comparison import KMeansComparison, MapFigures
from geohp.training.findings import find_positives
from geohp.training.fit import Trained
from geohp.training.report import read_series, write_run_report
from geohp.training.sample_images import load_sample_images

COLOURS = np.array([[60, 140, 50, 200], [128, 128, 128, 90], [170, 110, 60, 120]])
LABELS = tuple(LandCoverClass(i, name, "#446688") for i, name in enumerate(("road <1>", "building", "vegetation")))


class Fields(ImageSet):
    """``count`` images of 16 fields each."""

    def __init__(self, count, bands=3, labelled=False, broken=()):
        self.count, self.channels, self.labelled, self.broken = count, bands, labelled, broken

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index in self.broken:
            raise DataError(f"image {index} cannot be read")
        rng = np.random.default_rng((3, index))
        mask = rng.integers(0, 3, (4, 4)).repeat(16, 0).repeat(16, 1)
        image = np.clip(COLOURS[mask][..., : self.channels] + rng.normal(0, 12, (64, 64, self.channels)), 0, 255) / 255
        item = {"image": torch.from_numpy(np.moveaxis(image, -1, 0).astype(np.float32))}
        if self.labelled:
            mask[:6] = 255
            item["mask"] = torch.from_numpy(mask.astype(np.int64))
        return item

    def name(self, index):
        return f'<image "{index}">'


class Source:
    """What a report asks of a source of features."""

    def __init__(self, images, backbone):
        self.images, self.backbone = images, backbone

    def __len__(self):
        return len(self.images)

    def encode(self, images, affinities=True):
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.backbone.mean, self.backbone.std))
        return self.backbone((images - mean) / std, affinities=affinities)

    def patches(self, batch):
        return self.encode(batch["image"])

    def sample(self, count):
        for index in range(min(count, len(self))):
            if index not in self.images.broken:
                yield self.encode(self.images[index]["image"][None], affinities=False).features


class Made:
    """A method that has trained a few steps, and all that a report is made of."""

    def __init__(self, images, method="hp", classes=3, steps=4, **switches):
        options = {"hp": {"code_channels": 8, "pool_size": 12, "warmup_steps": 1, **switches}, "kmeans": {}}[method]
        self.config = parse_config({
            "data": {"images": ["scene.tif"], "patch_px": 64},
            "method": {"name": method, **options},
            "classes": {"count": classes},
            "train": {"batch_size": 6, "seed": 5},
        })  # fmt: skip
        torch.manual_seed(0)
        backbone = create_backbone("rcf", in_channels=images.channels, seed=0, filters=16)
        backbone.fit([images[len(images) - 1]["image"][None] - 0.5])
        self.source = Source(images, backbone)
        self.method = create_method(self.config.method, backbone.channels, classes, seed=0)
        self.method.prepare(self.source.sample)
        self.logged = []
        if self.method.iterative:
            self._train(steps)
        card = ModelCard(
            method, BackboneCard("tiny", 0), backbone.channels, 8, default_classes(classes), patch_px=64, input_px=64
        )
        self.model = LandCoverModel(backbone, self.method.head, self.method.probe, card)

    def _train(self, steps):
        optimizers = self.method.optimizers()
        readable = [i for i in range(len(self.source)) if i not in self.source.images.broken][:6]
        patches = self.source.encode(torch.stack([self.source.images[i]["image"] for i in readable]))
        for step in range(steps):
            losses = self.method.losses(Batch(patches, patches), step=step, total_steps=steps)
            for optimizer in optimizers:
                optimizer.zero_grad()
            sum(losses.values()).backward()
            self.method.clip_gradients()
            for optimizer in optimizers:
                optimizer.step()
            self.logged.append({"step": step, **{k: float(v.detach()) for k, v in losses.items()}})
            self.logged[-1].update(self.method.figures(), invented=step)
        self.method.eval()
        self.method.finish(self.source.sample)

    def log(self, folder):
        names = dict.fromkeys(name for row in self.logged for name in row)
        lines = [",".join(names), *(",".join(str(row.get(name, "")) for name in names) for row in self.logged)]
        (folder / "metrics.csv").write_text("\n".join([*lines, ""]))

    def write(self, folder, **options):
        trained = Trained(self.model, self.config, self.method, self.source, **options)
        write_run_report(folder, trained, LABELS, seconds=75)
        return Page((folder / "report.html").read_text(encoding="utf-8"))


class Page(HTMLParser):
    """Sections by id, pictures by what they show, and whatever a browser would load."""

    def __init__(self, text):
        super().__init__()
        self.html, self.sections, self.alts, self.loaded, self.words = text, [], [], [], []
        self.feed(text)
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag, attrs):
        told = dict(attrs)
        assert tag not in ("script", "link", "iframe", "object", "embed", "base", "video", "audio")
        assert not any(name.startswith("on") for name in told)
        if tag in ("section", "div") and "id" in told:
            self.sections.append(told["id"])
        if tag == "img":
            self.alts.append(told["alt"])
        self.loaded += [told[name] for name in ("src", "srcset", "data", "poster", "background") if name in told]
        assert "url(" not in told.get("style", "")

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def labelled():
    return Made(Fields(10, labelled=True))


@pytest.fixture(scope="module")
def whole(labelled, tmp_path_factory):
    """A report with everything in it."""
    folder = tmp_path_factory.mktemp("run")
    labelled.log(folder)
    (folder / "scores.csv").write_text(
        "epoch,step,cluster_accuracy,cluster_miou,linear_accuracy,linear_miou\n1,9,50,40,60,50\n2,18,55,44,66,nan\n"
    )
    metrics = SegmentationMetrics(3)
    metrics.update(torch.tensor([0, 1, 2, 2]), torch.tensor([1, 0, 2, 1]))
    scores = {"cluster": metrics.compute(), "linear": metrics.compute()}
    page = labelled.write(folder, scores=scores, warnings=["2 images <were> skipped"])
    return folder, page


def test_everything_is_shown(whole):
    folder, page = whole
    assert {path.name for path in folder.iterdir()} == {
        "metrics.csv", "scores.csv", "report.html", "loss.png", "samples.png",
    }  # fmt: skip
    assert page.sections == [
        "warnings", "facts", "curves", "samples", "clusters", "similarity", "positives", "affinities", "scores",
    ]  # fmt: skip
    for alt in (
        "Contrastive loss", "Cluster probe", "λ, weight of task-specific positives", "Gradient norm of the head",
        "Positives per anchor", "invented", 'Image <image "0">', 'Clusters of image <image "9">',
        "Cosines of the clusters' centroids", "Accuracy on labels", "Mean IoU on labels", "Confusion, cluster",
        "Confusion, linear",
    ):  # fmt: skip
        assert page.alts.count(alt) == 1, alt
    assert sum(alt.startswith("Anchor in image") for alt in page.alts) == 4
    assert sum(alt.startswith("Positives in image") for alt in page.alts) == 4 * 6
    assert sum(alt.startswith("Weights around patch") for alt in page.alts) >= 4
    for said in ("2 images <were> skipped", "1 min 15 s", "10 images of 64 px", "share the anchor's label"):
        assert said in page.text


def test_nothing_is_loaded_from_anywhere(whole):
    _, page = whole
    assert len(page.loaded) == len(page.alts) > 30
    assert all(address.startswith("data:image/png;base64,") for address in page.loaded)
    style = re.search("<style>(.*?)</style>", page.html, re.DOTALL)[1]
    assert "url(" not in style
    assert "@import" not in style
    assert re.findall(r'https?://[^"<]*', page.html) == ["https://arxiv.org/abs/2303.15014"]
    assert "<image" not in page.html


def test_what_does_not_apply_is_left_out_and_said(tmp_path):
    page = Made(Fields(8), method="kmeans").write(tmp_path)
    assert page.sections == ["facts", "samples", "clusters", "similarity"]
    assert "kmeans looks at the data once" in page.text
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "samples.png"}


def test_extra_clusters_and_gathered_covers_say_what_they_are_for(tmp_path):
    made = Made(Fields(8), method="kmeans")
    made.model.card = replace(made.model.card, config={"classes": {"count": 2, "extra_clusters": 1}})
    page = made.write(tmp_path, covers=(Cover("vegetation", 0.39, 3), Cover("open ground", 0.31)))
    assert "3 clusters for 2 classes: geohp view shows them, and geohp legend merges them" in page.text
    assert "vegetation, 39 % of the ground, is 3 classes; open ground, 31 % of the ground, is one class" in page.text
    assert "classes.split_covers=true" in page.text


@pytest.mark.parametrize(
    ("images", "classes"),
    [
        (Fields(1), 2),
        (Fields(2, bands=1), 3),
        (Fields(3, bands=4), 3),
        (Fields(5), 40),
        (Fields(9, broken=(0, 4)), 3),
    ],
    ids=["one image", "one band", "four bands", "many classes", "unreadable images"],
)
def test_odd_runs_have_a_report_too(images, classes, tmp_path):
    page = Made(images, classes=classes).write(tmp_path)
    assert page.sections == ["facts", "samples", "clusters", "similarity", "positives", "affinities"]


def test_kinds_of_positives_that_are_switched_off_are_not_shown(tmp_path):
    made = Made(Fields(4), task_specific_positives=False, symmetric_positives=False, local_positives=False)
    made.log(tmp_path)
    page = made.write(tmp_path)
    assert "affinities" not in page.sections
    assert "did without task-specific positives, symmetric positives, local positives." in page.text
    assert "than the anchor is to any patch of a reference pool" in page.text
    assert "the warm-up (method.warmup_steps) is longer" not in page.html
    alone = Made(Fields(4), task_agnostic_positives=False).write(tmp_path)
    assert "have no task-specific one and are left out" in alone.text
    naive = Made(Fields(4), task_agnostic_positives=False, task_specific_positives=False, local_positives=False)
    assert not {"positives", "affinities"} & set(naive.write(tmp_path).sections)


def test_an_unreadable_source_says_which_image(tmp_path):
    made = Made(Fields(2))
    made.source.images.broken = (0, 1)
    with pytest.raises(DataError, match="image 1 cannot be read"):
        made.write(tmp_path)


def test_k_means_stands_beside_it_where_they_were_compared(tmp_path):
    run = Made(Fields(7), steps=2)
    result, kmeans = MapFigures(91.25, None, 40.0, 1), MapFigures(70.0, 33.3, 45.0, 0)
    page = run.write(tmp_path, comparison=KMeansComparison(3, result, kmeans, 30.06, 1000, 7, 6))
    assert "comparison" in page.sections
    assert "k-means on the same features is better here: 91 against 70 % of the patches" in page.text
    assert "stability 91.2 70.0" in page.text
    assert "boundaries on edges – 33.3" in page.text
    assert "largest class 40.0 45.0" in page.text
    assert "classes that vanish 1 0" in page.text
    assert "drawn anywhere, 30.1 % would be" in page.text
    assert "mean IoU" not in page.text
    assert "comparison" not in run.write(tmp_path).sections


def test_an_empty_metrics_file_and_figures_that_are_no_numbers_are_no_obstacle(labelled, tmp_path):
    metrics = tmp_path / "metrics.csv"
    head = "step,contrastive\n"
    for text, steps in (
        ("", None),
        (f"{head}0,nan\n1,\n", None),
        (f"{head}0,inf\n1,2\n", [1]),
        (f"{head}0,-\n1,2\n", [1]),
    ):
        metrics.write_text(text)
        found = read_series(metrics)
        assert [list(series[0]) for series in found.values()] == ([steps] if steps else [])
    metrics.write_text("")
    page = labelled.write(tmp_path)
    assert "curves" not in page.sections
    assert "positives" in page.sections


def test_a_collapsed_run_is_told(tmp_path):
    made = Made(Fields(4), classes=3)
    with torch.no_grad():
        made.model.probe.clusters[:2] = made.model.probe.clusters[2]
    page = made.write(tmp_path)
    assert "Empty here: class 1 and class 2." in page.text
    assert "class 0 takes 100 %: training collapsed." in page.text
    assert "3 pair(s) above 0.95" in page.text


# Positives.


def dense(method, features, seed):
    """A and E by the formulas, all pairs at once."""

    def positives(maps, pool):
        rows = F.normalize(maps.flatten(2).transpose(1, 2).reshape(-1, maps.shape[1]), dim=1)
        bound = (rows @ pool.T).amax(1)
        cosines = rows @ rows.T
        found = cosines > bound[:, None]
        return (found | found.T if method.settings.symmetric_positives else found).fill_diagonal_(False)

    torch.manual_seed(seed)
    method.train()
    seen, codes = method.drop(features), method.drop(method.averaged(features))
    method.eval()
    return positives(seen, method.pool_agnostic.rows), positives(codes, method.pool_specific.rows)


@pytest.mark.parametrize(("agnostic", "specific"), [(True, True), (True, False), (False, True)])
def test_positives_that_are_not_symmetric_are_those_that_count(labelled, agnostic, specific, monkeypatch):
    switches = {"task_agnostic_positives": agnostic, "task_specific_positives": specific, "symmetric_positives": False}
    monkeypatch.setattr(labelled.method, "settings", replace(labelled.method.settings, **switches))
    features = load_sample_images(labelled.source, labelled.model, 2).patches.features
    found = find_positives(labelled.method, features, torch.zeros(2, 8, 8, dtype=torch.long), anchors=1, seed=3)
    wanted = [
        part * there for part, there in zip(dense(labelled.method, features, 3), (agnostic, specific), strict=True)
    ]
    assert sorted(found.agnostic.tolist()) == sorted(wanted[0].sum(1).tolist())
    assert sorted(found.specific.tolist()) == sorted(wanted[1].sum(1).tolist())
    assert found.alone == pytest.approx(float((wanted[not agnostic].sum(1) == 0).float().mean()))


@pytest.mark.parametrize("seed", [0, 1])
def test_positives_are_those_of_the_dense_formula(labelled, seed):
    shown = load_sample_images(labelled.source, labelled.model, 6)
    patches = PatchFeatures(shown.patches.features.double())
    method = labelled.method.double()
    found = find_positives(method, patches.features, shown.clusters, anchors=5, seed=seed, labels=shown.labels)
    agnostic, specific = dense(method, patches.features, seed)
    method.float()
    images, height, width = shown.clusters.shape
    assert len(found.anchors) == 5
    for anchor in found.anchors:
        row = anchor.image * height * width + anchor.patch
        assert torch.equal(anchor.agnostic.flatten(), agnostic[row])
        assert torch.equal(anchor.specific.flatten(), specific[row])
        assert torch.equal(anchor.both.flatten(), agnostic[row] & specific[row])
        assert not anchor.agnostic.flatten()[row]
    assert any(anchor.agnostic.any() for anchor in found.anchors)
    assert len({anchor.image for anchor in found.anchors}) == 5 <= images
    assert len({int(shown.clusters.flatten(1)[a.image, a.patch]) for a in found.anchors}) == 3
    assert found.counted == 128 < images * height * width
    assert found.labels.agnostic > found.labels.chance


def test_figures_of_few_patches_are_those_of_all(labelled):
    shown = load_sample_images(labelled.source, labelled.model, 2)
    features, clusters, labels = shown.patches.features, shown.clusters, shown.labels
    found = find_positives(labelled.method, features, clusters, anchors=1, seed=3, labels=labels)
    agnostic, specific = dense(labelled.method, features, 3)
    assert found.counted == clusters.numel() == 128
    assert sorted(found.agnostic.tolist()) == sorted(agnostic.sum(1).tolist())
    assert sorted(found.specific.tolist()) == sorted(specific.sum(1).tolist())
    assert found.alone == pytest.approx(float((agnostic.sum(1) == 0).float().mean()))
    flat, known = labels.flatten(), labels.flatten() >= 0
    pairs = known & known[:, None]
    same = flat == flat[:, None]
    assert not known.all()
    assert found.labels.agnostic == pytest.approx(float(same[agnostic & pairs].float().mean()))
    assert found.labels.specific == pytest.approx(float(same[specific & pairs].float().mean()))
    assert found.labels.chance == pytest.approx(float(same[pairs.fill_diagonal_(False)].float().mean()))
    own = torch.arange(2).repeat_interleave(64)
    assert found.within == pytest.approx(float((own == own[:, None])[agnostic].float().mean()))


def test_a_report_leaves_the_method_and_random_numbers_as_they_were(labelled, whole, tmp_path):
    before = {name: value.clone() for name, value in labelled.method.state_dict().items()}
    torch.manual_seed(11)
    state = torch.get_rng_state()
    again = labelled.write(tmp_path).html
    assert torch.equal(torch.get_rng_state(), state)
    assert not labelled.method.training
    assert all(torch.equal(value, before[name]) for name, value in labelled.method.state_dict().items())
    positives = re.compile('<section id="positives">.*?</section>', re.DOTALL)
    assert positives.search(again)[0] == positives.search(whole[1].html)[0]


# In a browser.

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


def browse(page, folder, *arguments):
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        f"--user-data-dir={folder}/profile", "--host-resolver-rules=MAP * ~NOTFOUND", *arguments, page.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on this machine")
@pytest.mark.parametrize("width", [1200, 500])  # no browser window is narrower than 500
def test_a_browser_shows_every_picture(whole, tmp_path, width):
    folder, page = whole
    # The page has no script of its own: a copy of it counts what the browser made of the page.
    count = (
        "<script>onload = () => { document.title = [[...document.images].map(i => i.naturalWidth).join(),"
        "document.documentElement.scrollWidth, innerWidth, performance.getEntriesByType('resource')"
        ".filter(e => !e.name.startsWith('data:')).length].join(';') }</script></body>"
    )
    copy = tmp_path / "copy.html"
    copy.write_text(page.html.replace("</body>", count), encoding="utf-8")
    told = re.search("<title>(.*?)</title>", browse(copy, tmp_path, f"--window-size={width},900", "--dump-dom"))[1]
    widths, needed, window, loaded = told.split(";")
    assert len(widths.split(",")) == len(page.alts)
    assert all(int(one) > 50 for one in widths.split(","))
    assert int(needed) <= int(window) == width
    assert loaded == "0"
    picture = tmp_path / "page.png"
    browse(folder / "report.html", tmp_path, f"--window-size={width},3000", f"--screenshot={picture}")
    with Image.open(picture) as shown:
        pixels = np.asarray(shown.convert("RGB")).reshape(-1, 3)
    assert (pixels == 255).all(1).mean() < 0.95
    assert len(np.unique(pixels[::7], axis=0)) > 200
