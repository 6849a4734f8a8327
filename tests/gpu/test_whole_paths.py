"""Whole paths on a card beside the CPU: on a pretended one, which finds tensors of two devices, and on a real one.

What a pretended card is, and what it cannot show, stands in ``tests/support/pretended_card.py``.
"""

import copy

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
import torch
from fields import SETTINGS, fields_in_place_of_data
from pretended_card import CARD, OnCard, pretended_card
from rasterio.transform import from_origin

import geohp
from geohp.model.file import load_model
from geohp.options import FitOptions
from geohp.raster.read.scene import open_scene

CLASSES = ["meadow", "paved", "bare"]
QUANTITIES = ("confidence", "entropy", "probabilities")


@pytest.fixture(scope="module", params=["pretended", "real"])
def card(request):
    """Where ``device="cuda"`` and ``device="auto"`` compute from now on."""
    if request.param == "pretended":
        with pretended_card():
            yield
        return
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    yield


@pytest.fixture(scope="module", autouse=True)
def _fields_for_potsdam():
    with fields_in_place_of_data():
        yield


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Green, grey and brown noise side by side, 150 x 700 px: several windows."""
    rng = np.random.default_rng(7)
    colours = np.array([[60, 140, 50], [128, 128, 128], [170, 110, 60]])
    stripes = colours[np.minimum(np.arange(700) // 234, 2)].T[:, None, :].repeat(150, axis=1)
    path = tmp_path_factory.mktemp("scene") / "scene.tif"
    profile = {"driver": "GTiff", "width": 700, "height": 150, "count": 3, "dtype": "uint8", "crs": "EPSG:32633"}
    with rasterio.open(path, "w", transform=from_origin(380000, 5800000, 0.5, 0.5), **profile) as dataset:
        dataset.write(np.clip(stripes + rng.normal(0, 8, (3, 150, 700)), 1, 255).astype(np.uint8))
    return path


def trained(folder, device, *overrides):
    return geohp.train("potsdam3", [*SETTINGS, f"train.device={device}", *overrides], out=folder)


@pytest.fixture(scope="module")
def on_cpu(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("cpu") / "run", "cpu")


def counts(evaluation):
    return {result.mode: result.scores["counts"] for result in evaluation.results}


def agreement(first, second):
    """Share of pixels that are of the same class."""
    return float((first.values == second.values).mean())


def test_a_training_runs_to_its_end(card, on_cpu, tmp_path):
    done = trained(tmp_path / "run", "cuda", "train.score_every=1", "train.precision=bf16")
    assert done.comparison is not None
    assert (tmp_path / "run" / "best_on_labels.safetensors").is_file()
    # Another draw of dropout, in fewer digits: no other result.
    first, second = (geohp.evaluate(run.folder, device="cpu") for run in (on_cpu, done))
    linear = next(mode for mode in counts(first) if mode.probe == "linear")
    accuracy = [next(r for r in each.results if r.mode == linear).scores["accuracy"] for each in (first, second)]
    assert abs(accuracy[0] - accuracy[1]) < 15


@pytest.mark.parametrize(
    "settings",
    [
        ["method.name=hp", "method.consistency_weight=0.1", "train.cache=off"],
        ["method.name=hp", "classes.sweep=[2,3,4]", "classes.count=3", "method.refit_probe=true"],
        ["method.name=stego"],
        ["method.name=maskcontrast"],
        ["method.name=kmeans"],
        ["method.name=kmeans", "backbone.name=colour"],
        ["method.name=probes"],
        ["backbone.name=aerial", "backbone.weights=random"],
    ],
    ids=" ".join,
)
def test_every_method_learns_and_is_scored(card, tmp_path, settings):
    kept = [setting for setting in SETTINGS if not setting.startswith("method.") or "method.name=hp" in settings]
    kept = [each for each in kept if not (each.startswith("backbone") and "backbone.name" in " ".join(settings))]
    done = geohp.train("potsdam3", [*kept, "train.device=cuda", "train.epochs=1", *settings], out=tmp_path / "run")
    for weights in load_model(done.model).parameters():
        assert torch.isfinite(weights).all()
    for cache in ("off", "disk"):
        assert geohp.evaluate(done.folder, device="cuda", overrides=[f"train.cache={cache}"]).results


def test_a_training_goes_on_where_it_was_stopped(card, tmp_path, monkeypatch):
    from geohp.training import fit

    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fit, "_card", stopped)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "run", "cuda")
    done = geohp.train(resume=tmp_path / "run")
    assert done.model.is_file()


@pytest.mark.parametrize("options", [{}, {"crf": True, "tta": True}])
def test_an_evaluation_counts_the_same(card, on_cpu, options):
    here, there = (counts(geohp.evaluate(on_cpu.folder, device=device, **options)) for device in ("cpu", "cuda"))
    for mode, expected in here.items():
        assert np.abs(there[mode] - expected).sum() <= 0.004 * expected.sum()


@pytest.mark.parametrize("options", [{}, {"tta": True}, {"refine": "crf"}])
def test_a_map_is_the_same(card, on_cpu, scene, options):
    here, there = (
        geohp.segment(scene, on_cpu.folder, device=device, window_px=128, **options) for device in ("cpu", "cuda")
    )
    assert agreement(here, there) > 0.99


def test_all_outputs_of_a_map_are_written(card, on_cpu, scene, tmp_path):
    for device in ("cpu", "cuda"):
        geohp.segment_file(
            scene,
            tmp_path / f"{device}.tif",
            model=on_cpu.folder,
            device=device,
            **{name: tmp_path / f"{device}-{name}.tif" for name in QUANTITIES},
        )
    for name in ("", *(f"-{name}" for name in QUANTITIES)):
        with rasterio.open(tmp_path / f"cpu{name}.tif") as here, rasterio.open(tmp_path / f"cuda{name}.tif") as there:
            # Labels are the same or not; quantities, in 254 steps, may differ by some.
            differ = np.abs(here.read().astype(int) - there.read()) > (5 if name else 0)
        assert differ.mean() < 0.01


def test_classes_are_found_without_a_model(card, scene):
    with open_scene(scene) as opened:
        first, second = (
            geohp.Segmenter.fit(opened, FitOptions(classes=3), device=device) for device in ("cpu", "cuda")
        )
        here, there = (segmenter.segment(opened) for segmenter in (first, second))
    table = np.array([[((here == a) & (there == b)).sum() for a in range(3)] for b in range(3)])
    assert table.max(1).sum() > 0.98 * table.sum()


def test_polygons_teach_the_same_classes(card, on_cpu, scene, tmp_path):
    shapes = [
        shapely.box(380000 + 117 * field + 20 + 8 * n, 5800000 - 60, 380000 + 117 * field + 26 + 8 * n, 5800000 - 15)
        for field in range(3) for n in range(6)
    ]  # fmt: skip
    known = geopandas.GeoDataFrame({"landuse": np.repeat(CLASSES, 6)}, geometry=shapes, crs="EPSG:32633")
    maps = []
    for device in ("cpu", "cuda"):
        result = geohp.probe(
            on_cpu.folder, scene, known, field="landuse", out=tmp_path / f"{device}.safetensors", device=device
        )
        assert [entry.name for entry in result.segmenter.classes] == sorted(CLASSES)
        maps.append(geohp.segment(scene, result.segmenter))
    assert agreement(*maps) > 0.99


def test_tensors_of_two_devices_are_refused_as_a_card_refuses_them():
    with pretended_card():
        there, here = torch.ones(3, device="cuda"), torch.ones(3)
        assert there.device == CARD
        assert (there + 1).is_cuda
        assert (there + torch.tensor(1.0)).is_cuda  # a number may be on the CPU
        assert not there.cpu().is_cuda
        assert there[torch.tensor([0, 2])].is_cuda  # and so may places
        refused = [
            lambda: there + here,
            lambda: torch.cat([there, here]),
            lambda: torch.stack([there.sum(), here.sum()]),
            lambda: here[there.long()],
            lambda: here.index_select(0, there.long()),
            lambda: there.put_(torch.tensor([0]), here[:1]),
            lambda: torch.nn.Linear(3, 1).to("cuda")(here),
            lambda: torch.randn(3, device="cuda", generator=torch.Generator()),
        ]
        for number, operation in enumerate(refused):
            with pytest.raises(RuntimeError, match=r"same device|device type for generator"):
                pytest.fail(f"{number} is not refused: {operation()}")
        with pytest.raises(TypeError, match="convert cuda"):
            there.numpy()
        with pytest.raises(TypeError, match="convert cuda"):
            np.asarray(there)
        copied = here.to("cuda")
        copied += 1
        assert here.tolist() == [1, 1, 1]
        there.copy_(here * 5)
        assert there.tolist() == [5, 5, 5]
        assert isinstance(there, OnCard)


def test_parameters_on_a_pretended_card_learn_as_on_the_cpu():
    torch.manual_seed(0)
    here = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
    there = copy.deepcopy(here)
    images = torch.rand(8, 4)
    with pretended_card():
        there.to("cuda")
        for module, rows in ((here, images), (there, images.to("cuda"))):
            optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
            for _ in range(3):
                optimizer.zero_grad()
                module(rows).square().mean().backward()
                torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
                optimizer.step()
        assert all(weights.is_cuda for weights in copy.deepcopy(there).parameters())
        for first, second in zip(here.parameters(), there.parameters(), strict=True):
            assert second.is_cuda
            assert second.grad.is_cuda
            torch.testing.assert_close(first.data, second.data.cpu())
        with torch.autocast("cuda", torch.bfloat16):
            assert there(images.to("cuda")).dtype == torch.bfloat16
    assert torch.device("cpu") == torch.ones(1).device
