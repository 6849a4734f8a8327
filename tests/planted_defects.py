"""Plant defects one by one in a copy of the package, and see that the tests which concern them fail.

    python tests/planted_defects.py [WORD ...]

plants all of them, or those whose name holds one of the words, and prints a table. A defect that no test notices is a
test that is missing; the exit code is then 1. Not part of the suite: it runs for some minutes.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TRAJECTORY = "tests/training/test_trajectory.py"
PARTS = "tests/methods/hp/test_parts.py"
LOSS_TESTS = "tests/methods/hp/test_loss.py"
KERNEL_TESTS = "tests/methods/hp/test_kernels.py"
METRICS = "tests/evaluation/test_metrics.py"


@dataclass(frozen=True)
class Defect:
    """What is wrong, where, and the tests that should notice."""

    name: str
    file: str
    right: str
    wrong: str
    tests: str = TRAJECTORY


HP = "geohp/methods/hp/method.py"
POSITIVES = "geohp/methods/hp/positives.py"
STREAMING = "geohp/methods/hp/streaming.py"
KERNELS = "geohp/methods/hp/kernels.py"
LOSS = "geohp/methods/hp/loss.py"
BASE = "geohp/methods/base.py"
TASK = "geohp/training/task.py"
SCORES = "geohp/evaluation/metrics.py"
CLEANING = "geohp/vector/cleaning.py"
KMEANS = "geohp/methods/kmeans/clustering.py"
QGIS = "qgis/geohp_processing/command.py"
DEFECTS = [
    Defect("warm-up offset lost in lambda", HP, "(step - self.warmup_steps) / max(1,", "step / max(1,"),
    Defect(
        "lambda jumps to 1",
        HP,
        "return (step - self.warmup_steps) / max(1, total_steps - self.warmup_steps)",
        "return 1.0",
    ),
    Defect("local hidden positives deleted", HP, "self.drop(mix_neighbours(codes, affinities))", "self.drop(codes)"),
    Defect("specific pool never refilled", HP, "if step_of_epoch and step_of_epoch %", "if False and step_of_epoch %"),
    Defect("specific pool refilled at step 0", HP, "if step_of_epoch and step_of_epoch %", "if step_of_epoch %"),
    Defect("no gradient clipping", TASK, "self.method.clip_gradients()", "pass"),
    Defect(
        "clipped after the optimiser of the head",
        TASK,
        "optimizer is self.trainer.optimizers[0]",
        "optimizer is self.trainer.optimizers[1]",
    ),
    Defect("alpha ignored", HP, "self.settings.consistency_weight * F.pairwise", "1.0 * F.pairwise"),
    Defect(
        "specific pool from the online head",
        HP,
        "self.drop(self.averaged(features)), self._gen",
        "self.drop(self.head(features)), self._gen",
    ),
    Defect("probes train the head", BASE, "        codes = codes.detach()\n", ""),
    Defect("the linear probe's rate is the clusters'", BASE, "lr=linear_rate", "lr=cluster_rate"),
    Defect("average never updated", HP, "        self.averaged.update(self.head, batch.share)\n", ""),
    Defect(
        "average follows with the wrong share",
        "geohp/methods/hp/head.py",
        "alpha=1 - momentum",
        "alpha=momentum",
        PARTS,
    ),
    Defect(
        "averaged head without dropout",
        "geohp/methods/hp/head.py",
        "return cast(Tensor, self.head(features))",
        "return cast(Tensor, self.head.eval()(features))",
        PARTS,
    ),
    Defect(
        "a pool that always takes patch 0",
        POSITIVES,
        "torch.randint(maps.shape[2] * maps.shape[3], (len(maps),), generator=generator)",
        "torch.zeros(len(maps), dtype=torch.long)",
        PARTS,
    ),
    Defect(
        "pools of different images",
        HP,
        "specific.append(self._draw_codes(features))",
        "specific.append(self._draw_codes(features.flip(0)))",
    ),
    Defect("rho ignored", HP, "keep=settings.keep_rate", "keep=1.0"),
    Defect("anchors not weighted", HP, "reweight=settings.reweight", "reweight=False"),
    Defect("temperature ignored", HP, "temperature=settings.temperature", "temperature=0.5"),
    Defect("head without weight decay", HP, "weight_decay=rates.weight_decay", "weight_decay=0.0"),
    Defect(
        "loss step skipped for the projection",
        HP,
        "Adam(self.projection.parameters(), lr=rates.projection)",
        "Adam(self.projection.parameters(), lr=0.0)",
    ),
    Defect(
        "features without channel dropout in the loss",
        HP,
        "_unit_rows(self.drop(patches.features)),",
        "_unit_rows(self.drop(patches.features) * 0 + patches.features),",
    ),
    Defect("positives are always symmetric", HP, "symmetric=settings.symmetric_positives", "symmetric=True"),
    Defect("local positives cannot be switched off", HP, "if not self.settings.local_positives:", "if False:"),
    Defect(
        "task-specific positives cannot be switched off",
        HP,
        "if not self.settings.task_specific_positives:",
        "if False:",
    ),
    Defect(
        "task-agnostic positives cannot be switched off", HP, "if not settings.task_agnostic_positives:", "if False:"
    ),
    Defect(
        "task-specific positives alone by the other pool",
        HP,
        "features, pool, weight = similar, self.pool_specific.rows, 0.0",
        "features, weight = similar, 0.0",
    ),
    Defect("without local positives the loss is halved", LOSS, "views = len(sums.similarity)", "views = 2", LOSS_TESTS),
    Defect("naive contrast ignores rho", HP, "keep=self.settings.keep_rate", "keep=1.0"),
    Defect("naive contrast of images with themselves", HP, "self._augmented_codes(batch)])", "codes])"),
    Defect(
        "naive contrast with another patch",
        POSITIVES,
        "apart == len(self._numbers) // 2",
        "apart == len(self._numbers) // 2 - 1",
        LOSS_TESTS,
    ),
    Defect(
        "asymmetric positives the wrong way round",
        POSITIVES,
        "(cosines > of_rows).to(cosines.dtype), cosines.gt_(of_cols)",
        "(cosines > of_cols).to(cosines.dtype), cosines.gt_(of_rows)",
        LOSS_TESTS,
    ),
    Defect(
        "columns counted by the rows' positives", STREAMING, "block.of_cols.sum(0)", "block.of_rows.sum(0)", LOSS_TESTS
    ),
    Defect(
        "columns weighted by the rows' positives",
        STREAMING,
        "values * block.of_cols",
        "values * block.of_rows",
        LOSS_TESTS,
    ),
    Defect(
        "columns pulled by the rows' positives",
        STREAMING,
        "weights.of_rows.mul_(of_rows).add_(weights.of_cols.mul_(of_cols))",
        "weights.of_rows.mul_(of_rows + of_cols)",
        LOSS_TESTS,
    ),
    Defect(
        "columns' task-specific positives are the rows'",
        POSITIVES,
        "self.of_cols.add_(other.of_cols, alpha=factor)",
        "self.of_cols.add_(other.of_rows, alpha=factor)",
        LOSS_TESTS,
    ),
    Defect(
        "kernels count columns by the rows' bound",
        KERNELS,
        "by_cols = cosines > bound_of_cols",
        "by_cols = cosines > bound_of_rows",
        KERNEL_TESTS,
    ),
    Defect(
        "kernels weigh columns by the rows' positives",
        KERNELS,
        "pulled = logits * _weights(col_marks,",
        "pulled = logits * _weights(row_marks,",
        KERNEL_TESTS,
    ),
    Defect(
        "kernels pull columns by the rows' positives",
        KERNELS,
        "both += _weights(col_marks,",
        "both += _weights(row_marks,",
        KERNEL_TESTS,
    ),
    Defect(
        "a report shows positives as if symmetric",
        "geohp/training/findings.py",
        "symmetric = settings.symmetric_positives",
        "symmetric = True",
        "tests/training/test_report.py",
    ),
    Defect(
        "mixing counts neighbours outside",
        "geohp/methods/hp/mixing.py",
        "weights / _neighbours(h, w, codes)",
        "weights / 9",
        PARTS,
    ),
    Defect(
        "k-means keeps an empty cluster",
        KMEANS,
        "if bool(empty.any()):",
        "if False:",
        "tests/methods/test_clustering.py",
    ),
    Defect(
        "k-means takes the worst of its runs",
        KMEANS,
        "return max(runs, key",
        "return min(runs, key",
        "tests/methods/test_clustering.py tests/training/test_sweep.py",
    ),
    Defect(
        "a legend names the clusters of any model",
        "geohp/legend/file.py",
        "if self.model_sha256 in (None, model_sha256):",
        "if True:",
        "tests/legend/test_recode_raster.py tests/legend/test_recode_model.py",
    ),
    Defect(
        "a recoded map passes for the model's own",
        "geohp/legend/recode_raster.py",
        "tags[RECODED_TAG] = recoded.model_sha256",
        "pass",
        "tests/legend/test_recode_raster.py",
    ),
    Defect(
        "bands asked for are forgotten",
        "geohp/inference/segmenter.py",
        "card = replace(card, bands=band_list(bands))",
        "pass",
        "tests/inference/test_segment.py",
    ),
    Defect(
        "polygons of a photograph lie mirrored",
        "geohp/raster/grid.py",
        "return Affine.scale(1, -1)",
        "return self.transform",
        "tests/vector/test_polygonize.py",
    ),
    Defect(
        "a confidence raster passes for labels",
        "geohp/raster/read/labels.py",
        "if self.scaled:",
        "if False:",
        "tests/vector/test_polygonize.py",
    ),
    Defect(
        "colours for eyes of three cones only",
        "geohp/colours.py",
        "np.minimum(distances[1], distances[2]) / _DICHROMAT",
        "distances[0]",
        "tests/test_colours.py",
    ),
    Defect(
        "classes coloured by each other's looks",
        "geohp/model/appearance.py",
        "index_add_(0, clusters, colours)",
        "index_add_(0, clusters.flip(0), colours)",
        "tests/model/test_appearance.py tests/inference/test_map_scene.py",
    ),
    Defect("clusters matched for the fewest pixels", SCORES, "maximize=True", "maximize=False", METRICS),
    Defect(
        "unpredicted pixels cost nothing",
        SCORES,
        "confusion.sum(-2) + unlabelled - right",
        "confusion.sum(-2) - right",
        METRICS,
    ),
    Defect("undefined IoU counts as 0", SCORES, "np.full(union.shape, np.nan)", "np.zeros(union.shape)", METRICS),
    Defect(
        "ignored labels are counted",
        SCORES,
        "known = (true >= 0) & (true < self.num_classes)",
        "known = true == true",
        METRICS,
    ),
    Defect(
        "small regions go to the largest neighbour",
        CLEANING,
        "np.lexsort((-rank[other], -length, one))",
        "np.lexsort((-length, -rank[other], one))",
        "tests/vector/test_cleaning.py",
    ),
    Defect(
        "small regions go to the shortest border",
        CLEANING,
        "np.lexsort((-rank[other], -length, one))",
        "np.lexsort((-rank[other], length, one))",
        "tests/vector/test_cleaning.py",
    ),
    Defect(
        "the minimum area is not enough",
        CLEANING,
        "minimum *= 1 - 1e-7",
        "minimum *= 1 + 1e-7",
        "tests/vector/test_cleaning.py",
    ),
    Defect(
        "a resumed training draws its pools anew",
        HP,
        'self._generator.set_state(state["pools"].cpu())',
        "pass",
        "tests/training/test_resume.py",
    ),
    Defect(
        "a resumed epoch begins at its first batch",
        "geohp/training/batches.py",
        "order.start = step * (self.loader.batch_size or 1)",
        "order.start = 0",
        "tests/training/test_resume.py",
    ),
    Defect(
        "an option of the command line is not handed on",
        "geohp/cli/segment.py",
        "            weights=weights,\n",
        "",
        "tests/cli/test_wiring.py",
    ),
    Defect(
        "a dataset's plot forgets what was asked",
        "geohp/notebook/accessor.py",
        "self._labels.plot(ax, legend=legend, figsize=figsize)",
        "self._labels.plot(ax, legend=legend)",
        "tests/notebook/test_accessor.py",
    ),
    Defect(
        "symbols by id, categories by place",
        "geohp/style.py",
        "_add_symbol(symbols, str(symbol), entry)",
        "_add_symbol(symbols, str(entry.id), entry)",
        "tests/test_style.py",
    ),
    Defect(
        "around any pole lies the north pole",
        "geohp/inference/stac.py",
        "np.copysign(90.0, lat.mean())",
        "np.copysign(90.0, 1.0)",
        "tests/inference/test_stac.py",
    ),
    Defect(
        "an item tells the signature of its scene's address",
        "geohp/inference/stac.py",
        "    scene = without_credentials(scene)\n    link:",
        "    link:",
        "tests/inference/test_stac.py",
    ),
    Defect(
        "an item has a transform of control points",
        "geohp/inference/stac.py",
        "if grid.is_georeferenced and not grid.gcps:",
        "if grid.is_georeferenced:",
        "tests/inference/test_stac.py",
    ),
    Defect(
        "valid share by the other side's decimation",
        "geohp/raster/read/patches.py",
        "np.ceil((rows + side) * steps[0])",
        "np.ceil((rows + side) * steps[1])",
        "tests/raster/read/test_patches.py",
    ),
    Defect(
        "patches begin where they should have their middle",
        "geohp/raster/read/patches.py",
        "* steps - side / 2).astype",
        "* steps).astype",
        "tests/raster/read/test_patches.py",
    ),
    Defect(
        "what is to be durable is not waited for",
        "geohp/files/atomic.py",
        "            if durable:\n",
        "            if False:\n",
        "tests/files/test_files.py",
    ),
    Defect(
        "a lock is released before its folder goes",
        "geohp/files/locks.py",
        "        if remove and self.held:",
        "        self._lock.release()\n        if remove:",
        "tests/files/test_files.py",
    ),
    Defect(
        "shares of pixels in place of ground",
        "geohp/inference/areas.py",
        "share=int(units) / everything",
        "share=int(pixels) / max(1, sum(int(p) for p, _, _ in totals.values()))",
        "tests/inference/test_areas.py",
    ),
    Defect(
        "similar images without dropout",
        "geohp/methods/stego/method.py",
        "Maps(self.drop(batch.neighbours.features), self.head",
        "Maps(batch.neighbours.features, self.head",
        "tests/methods/test_stego.py",
    ),
    Defect(
        "similar images at an image's own points",
        "geohp/methods/stego/method.py",
        "self._compare(rows, similar.at(places.second), settings.neighbour_shift)",
        "self._compare(rows, similar.at(places.first), settings.neighbour_shift)",
        "tests/methods/test_stego.py",
    ),
    Defect(
        "scores draw from the training's generator",
        "geohp/training/scoring.py",
        "with preserve_rng_state(task.features):",
        "if True:",
        "tests/training/test_scoring.py",
    ),
    Defect(
        "scores finish the method that is trained",
        "geohp/training/scoring.py",
        "method = copy.deepcopy(method).eval()\n        method.finish",
        "method = method.eval()\n        method.finish",
        "tests/training/test_scoring.py",
    ),
    Defect(
        "a doubt lies in the middle of its square",
        "geohp/inference/probe/validation.py",
        "labelled.places[rows].mean(0)",
        "labelled.places[labelled.groups == group].mean(0)",
        "tests/inference/probe/test_validation.py",
    ),
    Defect(
        "resumed with another scaling",
        "geohp/inference/identity.py",
        '"scaling": [scene.scaling.rule, list(scene.scaling.low), list(scene.scaling.high)],',
        '"scaling": scene.scaling.rule,',
        "tests/inference/test_identity.py",
    ),
    Defect(
        "resumed with other bands",
        "geohp/inference/identity.py",
        '        "bands": list(scene.bands),\n',
        "",
        "tests/inference/test_identity.py",
    ),
    Defect(
        "resumed with another rule for errors",
        "geohp/inference/identity.py",
        '        "on-read-error": on_read_error,\n',
        "",
        "tests/inference/test_identity.py",
    ),
    Defect(
        "a nodata value at the end of its type is none",
        "geohp/raster/read/arrays.py",
        "int(nodata) if info.min <= nodata <= info.max",
        "int(nodata) if info.min <= nodata < info.max",
        "tests/raster/read/test_scene.py",
    ),
    Defect(
        "bits of a file's bands, not of those chosen",
        "geohp/raster/read/arrays.py",
        '.get("NBITS") for number in chosen]',
        '.get("NBITS") for number in every]',
        "tests/raster/read/test_scene.py",
    ),
    Defect(
        "a small minimum takes the place of slivers'",
        "geohp/vector/polygonize.py",
        "min_area_m2=max(options.min_area_m2, sliver_m2)",
        "min_area_m2=options.min_area_m2 or sliver_m2",
        "tests/vector/test_clipping.py",
    ),
    Defect(
        "a legend is lost in an area of interest",
        "geohp/vector/polygonize.py",
        "AreaLabels(raster, clip.coverage)",
        "AreaLabels(opened, clip.coverage)",
        "tests/vector/test_clipping.py",
    ),
    Defect(
        "areas of polygons as they were before they were cut",
        "geohp/vector/polygonize.py",
        "areas = np.where(cut, areas_m2(polygons, self.crs), areas)",
        "pass",
        "tests/vector/test_clipping.py",
    ),
    Defect(
        "the layer of an area of interest is lost",
        "geohp/raster/area_of_interest.py",
        "AreaOfInterest.of(options.aoi, options.aoi_layer)",
        "AreaOfInterest.of(options.aoi)",
        "tests/raster/test_area_of_interest.py",
    ),
    Defect(
        "a tolerance by the area of a pixel",
        "geohp/vector/shaping.py",
        "options.simplify_m / np.sqrt(self.areas.mean_m2(block))",
        "options.simplify_m / self.areas.mean_m2(block)",
        "tests/vector/test_simplify.py",
    ),
    Defect(
        "degrees by the unit of heights",
        "geohp/vector/measures.py",
        "factor = float(axes[0].unit_conversion_factor)",
        "factor = float(axes[-1].unit_conversion_factor)",
        "tests/vector/test_measures.py",
    ),
    Defect(
        "a share of images in place of ground",
        "geohp/data/orthophotos/splits.py",
        "sizes = {n: sum(_area(footprints[i], config) for i in groups[n]) for n in candidates}",
        "sizes = {n: float(len(groups[n])) for n in candidates}",
        "tests/data/orthophotos/test_splits.py",
    ),
    Defect(
        "images without a place share their blocks",
        "geohp/data/orthophotos/splits.py",
        "for lattice, i, j in test if lattice == _lattice(footprint)}",
        "for _, i, j in test}",
        "tests/data/orthophotos/test_splits.py",
    ),
    Defect(
        "MaskContrast without weight decay",
        "geohp/methods/maskcontrast/method.py",
        "lr=rates.head, weight_decay=rates.weight_decay)",
        "lr=rates.head)",
        "tests/methods/test_maskcontrast.py",
    ),
    Defect(
        "MaskContrast's clusters by another seed",
        "geohp/methods/maskcontrast/method.py",
        "refit_probe(self, sample, seed=self.seed)",
        "refit_probe(self, sample)",
        "tests/methods/test_maskcontrast.py",
    ),
    Defect(
        "superpixels of one compactness",
        "geohp/features/masks.py",
        "superpixels(image.cpu().numpy(), settings.segments, settings.compactness)",
        "superpixels(image.cpu().numpy(), settings.segments, 10.0)",
        "tests/features/test_masks.py",
    ),
    Defect(
        "HP's clusters by another seed",
        HP,
        "refit_probe(self, sample, seed=self.seed)",
        "refit_probe(self, sample)",
        "tests/methods/hp/test_method.py",
    ),
    Defect(
        "an item tells the scale for the offset",
        "geohp/inference/stac.py",
        'band["raster:offset"] = dataset.offsets[number - 1]',
        'band["raster:offset"] = dataset.scales[number - 1]',
        "tests/inference/test_stac.py",
    ),
    Defect(
        "what ends at 180 degrees crosses them",
        "geohp/inference/stac.py",
        "east - 360 if east > 180 else east]",
        "east - 360 if east >= 180 else east]",
        "tests/inference/test_stac.py",
    ),
    Defect(
        "a page draws the first layer",
        "geohp/viewer/view.py",
        "factor, layer=options.layer)",
        "factor)",
        "tests/viewer/test_view.py",
    ),
    Defect(
        "a page tells per cent of 255",
        "geohp/viewer/pyramid.py",
        "np.rint(steps * (100 / QUANTITY_STEPS))",
        "np.rint(steps * (100 / 255))",
        "tests/viewer/test_view.py",
    ),
    Defect(
        "a reduced map's opacity at full size",
        "geohp/raster/read/validity.py",
        "alphas = [dataset.read(band, **where) for band in self.alphas]",
        "alphas = [dataset.read(band, window=block.window) for band in self.alphas]",
        "tests/raster/read/test_validity.py",
    ),
    Defect(
        "evaluate forgets the weights",
        "geohp/cli/evaluate.py",
        "            weights=weights,\n",
        "",
        "tests/cli/test_wiring.py",
    ),
    Defect(
        "QGIS leaves out what is 0",
        QGIS,
        "if value is None or value is False:",
        "if not value:",
        "tests/qgis/test_command.py",
    ),
    Defect(
        "QGIS's PROJ reaches the command",
        QGIS,
        ', "PROJ_LIB", "PROJ_DATA")',
        ")",
        "tests/qgis/test_command.py",
    ),
    Defect(
        "the version needed will not do for QGIS",
        QGIS,
        "if version < MINIMUM_VERSION:",
        "if version <= MINIMUM_VERSION:",
        "tests/qgis/test_command.py",
    ),
]


def plant(defect: Defect) -> tuple[Defect, str]:
    """The verdict of the tests on a copy with the defect."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "geohp"
        copy.mkdir()
        for name in ("geohp", "tests", "configs", "qgis"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        path = copy / defect.file
        text = path.read_text(encoding="utf-8")
        if text.count(defect.right) != 1:
            return defect, f"not planted: its place is there {text.count(defect.right)} times"
        path.write_text(text.replace(defect.right, defect.wrong), encoding="utf-8")
        shared = ROOT.parent / "shared"
        if shared.is_dir():
            (Path(folder) / "shared").symlink_to(shared)
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-n0", "-p", "no:cacheprovider", *defect.tests.split()]
        environment = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    failed = [line.split(" - ")[0] for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if done.returncode == 0:
        return defect, "SURVIVED"
    return defect, failed[0].split("::")[-1] if failed else f"pytest ended with {done.returncode}"


def main() -> int:
    """Plant, print, and tell whether all were noticed."""
    words = sys.argv[1:]
    chosen = [defect for defect in DEFECTS if not words or any(word in defect.name for word in words)]
    unnoticed = 0
    print("| defect | file | noticed by |\n|---|---|---|", flush=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for defect, verdict in pool.map(plant, chosen):
            unnoticed += verdict.startswith(("SURVIVED", "not planted", "pytest ended"))
            print(f"| {defect.name} | {defect.file.removeprefix('geohp/')} | {verdict} |", flush=True)
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main())
