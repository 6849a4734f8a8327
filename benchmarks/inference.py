"""Windowed inference from file to label map: geohp against MONAI, pytorch-toolbelt and torchgeo, in one run.

Every engine gets the same module (a 1x1 convolution from 3 bands to 8 classes, so that the engine is what is measured),
the same scene (RGB, uint8, tiled, deflate) and the same windows: 512 px, overlapping by 128, four a batch, of which
geohp's engine runs fewer at once on a CPU. geohp writes a cloud-optimised GeoTIFF with overviews, the others a plain
one. Each runs in a process of its own; the time leaves out imports and one small warm-up, the memory is what the
process holds at most above what it held after them. A label map must agree with plain argmax of the module on more than
99.99 % of the pixels (on a GPU, in bfloat16, agreement is printed only). Processor time tells engines apart where other
processes compete for the cores.

    pip install monai pytorch-toolbelt                          # the rivals; torchgeo comes with geohp
    python benchmarks/inference.py --sizes 4096 8192
    python benchmarks/inference.py --engines geohp --sizes --flat 32768       # memory against a scene of 8192
    python benchmarks/inference.py --engines geohp --sizes --curve memory.csv --plot memory.png
    python benchmarks/inference.py --engines --sizes --vit weights.safetensors      # over the bare forward passes

Set OMP_NUM_THREADS for equal threads, and OMP_WAIT_POLICY=PASSIVE where other processes compete for the cores.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import rasterio
import torch
import torch.nn.functional as F
from measuring import PeakMemory, describe, resident_bytes, synchronise
from rasterio.transform import from_origin
from rasterio.windows import Window
from rivals import BATCH, OVERLAP, WINDOW, Engine, inference, run_monai, run_toolbelt, run_torchgeo
from torch import Tensor, nn

CLASSES = 8
TILE = 4096  # side of the scene that larger ones repeat for --flat and --curve
FLAT_REFERENCE = 8192
CURVE = (1024, 2048, 4096, 8192, 16384)
VIT = "vit_small_patch14_dinov2"


class PixelModel(nn.Module):
    """The module in the guise of geohp's models: what its engine asks of one, at a patch size of one pixel."""

    zoom = 1.0
    clusters = CLASSES
    backbone = SimpleNamespace(patch_size=1)
    card = SimpleNamespace(input_px=WINDOW)

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.device = next(module.parameters()).device

    def forward(self, images: Tensor) -> Tensor:
        """Scores of the classes; of labels alone, nobody asks for their scale."""
        scores: Tensor = self.module(images)
        return scores


def run_geohp(scene_path: Path, out_path: Path, module: nn.Module, device: str) -> None:
    """The engine of geohp between its scene and its writer."""
    from geohp.classes import default_classes
    from geohp.inference.engine.pipeline import label_blocks
    from geohp.inference.engine.settings import EngineSettings
    from geohp.inference.extent import Extent
    from geohp.inference.writing import write_behind
    from geohp.raster.read.scene import open_scene
    from geohp.raster.write.layer import Layer
    from geohp.raster.write.resumable import ResumableRasterWriter

    model: Any = PixelModel(module.to(device))
    settings = EngineSettings(WINDOW, OVERLAP, BATCH)
    colours = {c.id: (*c.rgb, 255) for c in default_classes(CLASSES)}
    with (
        open_scene(scene_path, scaling="type") as scene,
        ResumableRasterWriter.open({out_path: Layer(colormap=colours)}, scene.grid, {"input": str(scene_path)}) as work,
    ):
        blocks = label_blocks(scene, model, settings)
        write_behind(work, {"labels": out_path}, blocks, scene, scene.grid, Extent(scene.grid.block))
        work.publish()


ENGINES: dict[str, tuple[Engine, str, tuple[str, ...]]] = {  # to run, its name in full, what to import before the clock
    "geohp": (run_geohp, "geohp", ("geohp.inference.segmenter",)),
    "monai": (run_monai, "MONAI, gaussian", ("monai.inferers",)),
    "toolbelt": (run_toolbelt, "pytorch-toolbelt, pyramid", ("pytorch_toolbelt.inference.tiles", "rasterio.plot")),
    "torchgeo": (run_torchgeo, "torchgeo, cropping", ("torchgeo.datasets", "torchgeo.samplers", "torch.utils.data")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[4096, 8192])
    parser.add_argument("--engines", nargs="*", default=list(ENGINES), choices=list(ENGINES))
    parser.add_argument("--repeat", type=int, default=1, help="rounds; the least time and the most memory count")
    parser.add_argument("--flat", type=int, metavar="SIZE", help="geohp's memory at this size against that at 8192")
    parser.add_argument("--curve", type=Path, metavar="CSV", help="geohp's memory from 1024 to 16384 pixels a side")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="a picture of the curve")
    parser.add_argument("--vit", type=Path, metavar="WEIGHTS", help=f"geohp with {VIT} over its forward passes")
    parser.add_argument("--vit-size", type=int, default=2048)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", type=Path, help="where scenes and maps go; by default a temporary one")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--scene", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        result = work_vit(args) if args.worker == "vit" else work(args)
        print(json.dumps(result))
        return
    print(describe(args.device), flush=True)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        args.folder = Path(folder)
        for size in args.sizes:
            compare(size, args)
        if args.flat:
            flat(args)
        if args.curve or args.plot:
            curve(args)
        if args.vit:
            vit(args)


def compare(size: int, args: argparse.Namespace) -> None:
    """All engines on one scene, in turns."""
    scene = draw_scene(args.folder / f"scene_{size}.tif", size)
    results: dict[str, dict[str, float]] = {}
    for _ in range(args.repeat):
        for engine in args.engines:
            result = in_process(engine, scene, args)
            if result:
                before = results.setdefault(engine, result)
                results[engine] = {
                    **{key: min(before[key], result[key]) for key in ("seconds", "cpu_seconds", "agreement")},
                    **{key: max(before[key], result[key]) for key in ("memory_mb", "gpu_mb")},
                }
    own = results.get("geohp")
    gpu = args.device != "cpu"
    print(f"\n{size} x {size} px, {scene.stat().st_size / 1e6:.0f} MB, best of {args.repeat}")
    print(
        "| engine | time | of geohp's | processor time | memory | of geohp's |" + " GPU memory |" * gpu + " agreement |"
    )
    print("|---" * (7 + gpu) + "|")
    for engine, result in results.items():
        of_time = f"{result['seconds'] / own['seconds']:.2f}" if own else "-"
        of_memory = f"{result['memory_mb'] / own['memory_mb']:.2f}" if own else "-"
        print(
            f"| {ENGINES[engine][1]} | {result['seconds']:.2f} s | {of_time} | {result['cpu_seconds']:.2f} s | "
            f"{result['memory_mb']:.0f} MB | {of_memory} |"
            + f" {result['gpu_mb']:.0f} MB |" * gpu
            + f" {100 * result['agreement']:.4f} % |",
            flush=True,
        )
    wrong = [ENGINES[name][1] for name, result in results.items() if result["agreement"] <= 0.9999]
    if wrong and not gpu:
        print(f"WRONG LABELS: {', '.join(wrong)}")
    rivals = {name: result for name, result in results.items() if name != "geohp"}
    if own and rivals:
        fastest = min(rivals, key=lambda name: rivals[name]["seconds"])
        report(f"faster than the fastest rival ({fastest})", own["seconds"] / rivals[fastest]["seconds"], 1)
    if own and "torchgeo" in rivals:
        report("less memory than torchgeo's cropping", own["memory_mb"] / rivals["torchgeo"]["memory_mb"], 1)


def flat(args: argparse.Namespace) -> None:
    """Memory of geohp on a large scene against that on a smaller one."""
    base = draw_scene(args.folder / "base.tif", TILE)
    memory = []
    for size in (FLAT_REFERENCE, args.flat):
        result = in_process("geohp", repeat_scene(args.folder / f"flat_{size}.vrt", base, size), args)
        memory.append(result["memory_mb"])
        print(
            f"geohp, {size} x {size} px repeated: {result['seconds']:.1f} s, {result['memory_mb']:.0f} MB, agreement "
            f"{100 * result['agreement']:.4f} %",
            flush=True,
        )
    report(f"memory at {args.flat} within 10 % of that at {FLAT_REFERENCE}", memory[1] / memory[0], 1.1)


def curve(args: argparse.Namespace) -> None:
    """Memory of geohp over the scene's size, as a table and a picture."""
    base = draw_scene(args.folder / "base.tif", TILE)
    rows = []
    for size in CURVE:
        scene = repeat_scene(args.folder / f"curve_{size}.vrt", base, size)
        runs = [in_process("geohp", scene, args) for _ in range(args.repeat)]
        rows.append((size, round(max(run["memory_mb"] for run in runs), 1), min(run["seconds"] for run in runs)))
        print(f"geohp, {size} x {size} px: {rows[-1][1]:.0f} MB, {rows[-1][2]:.1f} s", flush=True)
    if args.curve:
        with args.curve.open("w", newline="") as file:
            csv.writer(file).writerows([("side_px", "memory_mb", "seconds"), *rows])
    if args.plot:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5, 3), layout="constrained")
        axes = figure.subplots()
        axes.plot([row[0] for row in rows], [row[1] for row in rows], "o-")
        axes.set(xlabel="side of the scene (pixels)", ylabel="peak memory above imports (MB)", ylim=(0, None))
        axes.set_xticks(CURVE[2:])
        figure.savefig(args.plot, dpi=150)


def vit(args: argparse.Namespace) -> None:
    """A whole run with a vision transformer over its forward passes alone."""
    scene = draw_scene(args.folder / "vit.tif", args.vit_size)
    result = in_process("vit", scene, args)
    print(
        f"\n{VIT}, {args.vit_size} x {args.vit_size} px, {result['windows']} windows in {result['passes']} passes: "
        f"{result['seconds']:.2f} s ({result['cpu_seconds']:.2f} s of processors), forward passes alone "
        f"{result['floor']:.2f} s ({result['cpu_floor']:.2f} s), {result['memory_mb']:.0f} MB"
    )
    report("total over the forward passes at most 1.10", result["seconds"] / result["floor"], 1.1)


def report(target: str, ratio: float, limit: float) -> None:
    print(f"{'met' if ratio <= limit else 'MISSED'}: {target} ({ratio:.2f})", flush=True)


def in_process(engine: str, scene: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Run an engine in a process of its own and check its map; empty, with a note, where it is not installed."""
    out = args.folder / f"{engine}_{scene.stem}.tif"
    command = [sys.executable, __file__, "--worker", engine, "--scene", scene, "--folder", args.folder]
    command += ["--device", args.device, "--repeat", str(args.repeat)] + (["--vit", args.vit] if args.vit else [])
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{engine} failed on {scene.name}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if "missing" in result:
        print(f"{engine} is left out ({result['missing']}): pip install monai pytorch-toolbelt")
        return {}
    if engine != "vit":
        result["agreement"] = agreement(scene, out)
        out.unlink()
    return result


def work(args: argparse.Namespace) -> dict[str, Any]:
    """One engine's time and memory, measured in this process."""
    run, _, modules = ENGINES[args.worker]
    try:
        for name in modules:
            importlib.import_module(name)
    except ImportError as error:
        return {"missing": str(error)}
    module = pixel_module().to(args.device)
    out = args.folder / f"{args.worker}_{args.scene.stem}.tif"
    warm_up(module, args.device)
    return measured(lambda: run(args.scene, out, module, args.device), args.device)


def work_vit(args: argparse.Namespace) -> dict[str, Any]:
    """A whole run of geohp with a vision transformer, in turns with its forward passes: as many windows and batches."""
    from geohp.backbones.factory import create_backbone
    from geohp.classes import default_classes
    from geohp.inference.map_options import RasterOptions
    from geohp.inference.products import Products
    from geohp.inference.rasters import write_rasters
    from geohp.inference.segmenter import Segmenter
    from geohp.methods.kmeans.method import KMeans
    from geohp.model.card import BackboneCard, ModelCard
    from geohp.model.network import LandCoverModel

    torch.manual_seed(0)
    net = create_backbone(VIT, weights=args.vit, block=5)
    method = KMeans(net.channels, CLASSES)
    card = ModelCard("kmeans", BackboneCard.of(net), net.channels, net.channels, default_classes(CLASSES))
    segmenter = Segmenter(LandCoverModel(net, method.head, method.probe, card), args.device)
    model = segmenter.model
    warm_up(model, args.device)
    shapes: list[torch.Size] = []
    windows: set[int] = set()
    options = RasterOptions(progress=lambda stage, done, total, detail="": windows.add(total))
    best: dict[str, Any] = {}
    with segmenter.open(args.scene) as scene:
        for _ in range(args.repeat):
            shapes.clear()
            hook = net.register_forward_pre_hook(lambda _, inputs: shapes.append(inputs[0].shape))
            result = measured(
                lambda: write_rasters(scene, segmenter, Products(args.folder / "vit_map.tif"), options),
                args.device,
            )
            hook.remove()
            (count,) = windows
            floor = measured(lambda: forward_passes(model, shapes, count, args.device), args.device)  # noqa: B023
            found = result | {"floor": floor["seconds"], "cpu_floor": floor["cpu_seconds"]}
            best = {
                key: (max if key == "memory_mb" else min)(value, best.get(key, value)) for key, value in found.items()
            }
    return {**best, "passes": len(shapes), "windows": count}


def forward_passes(model: nn.Module, shapes: list[torch.Size], windows: int, device: str) -> None:
    """As many windows in the same batches, whatever a run had padded its last batches with left out."""
    images = torch.rand(shapes[0], device=device)
    with inference(device):
        for shape in shapes:
            count = min(shape[0], windows)
            if count:
                model(images[:count])
            windows -= count


def warm_up(module: nn.Module, device: str) -> None:
    with inference(device):
        module(torch.zeros(1, 3, 224, 224, device=device))


def measured(run: Callable[[], None], device: str) -> dict[str, float]:
    """Seconds, processor seconds and peak memory of a run."""
    synchronise(device)
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    with PeakMemory("cpu") as peak:
        before, high = resident_bytes(), high_water_bytes()
        start, cpu_start = time.perf_counter(), time.process_time()
        run()
        synchronise(device)
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    memory = peak.gigabytes * 1e9
    if high_water_bytes() > high:  # a peak that the samples may have missed
        memory = max(memory, high_water_bytes() - before)
    gpu = torch.cuda.max_memory_allocated() if device != "cpu" else 0
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "memory_mb": memory / 1e6, "gpu_mb": gpu / 1e6}


def high_water_bytes() -> int:
    """Most resident memory of this process so far; unlike ru_maxrss it owes nothing to the process that started it."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def pixel_module() -> nn.Conv2d:
    """Fixed random directions in colour space, meeting at a medium grey."""
    generator = torch.Generator().manual_seed(0)
    module = nn.Conv2d(3, CLASSES, 1).requires_grad_(False).eval()
    module.weight.copy_(torch.randn(module.weight.shape, generator=generator))
    module.bias.copy_(-module.weight.sum(dim=(1, 2, 3)) / 2)
    return module


def agreement(scene_path: Path, map_path: Path, rows: int = 256) -> float:
    """Share of pixels with the label of plain argmax; of a scene that repeats itself an eighth is looked at."""
    module, equal, seen = pixel_module(), 0, 0
    with rasterio.open(scene_path) as scene, rasterio.open(map_path) as labels, torch.inference_mode():
        if labels.shape != scene.shape or labels.transform != scene.transform or labels.crs != scene.crs:
            return 0.0
        for row in range(0, scene.height, rows * (8 if scene.driver == "VRT" else 1)):
            window = Window(0, row, scene.width, min(rows, scene.height - row))
            image = torch.from_numpy(scene.read(window=window)).float() / 255
            wanted = module(image[None])[0].argmax(0).numpy()
            equal += int((labels.read(1, window=window) == wanted).sum())
            seen += wanted.size
    return equal / seen


def draw_scene(path: Path, size: int) -> Path:
    """Blobs of eight colours with soft shading and noise, which deflate to 3/4; orthophotos to 0.5 to 0.9."""
    if path.exists():
        return path
    profile = {
        "driver": "GTiff", "width": size, "height": size, "count": 3, "dtype": "uint8", "photometric": "rgb",
        "crs": "EPSG:25832", "transform": from_origin(500_000, 5_700_000, 0.25, 0.25),
        "tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "num_threads": "all_cpus",
    }  # fmt: skip
    palette = np.random.default_rng(0).uniform(40, 215, (CLASSES, 3)).astype(np.float32)
    with rasterio.open(path, "w", **profile) as out:
        for row in range(0, size, 1024):
            for col in range(0, size, 1024):
                rng = np.random.default_rng((row, col))
                coarse = torch.from_numpy(rng.standard_normal((1, CLASSES + 1, 24, 24), dtype=np.float32))
                fields = F.interpolate(coarse, size=(1024, 1024), mode="bicubic")[0].numpy()
                image = palette[fields[:-1].argmax(0)] + 12 * fields[-1, ..., None]
                image += 1.5 * rng.standard_normal(image.shape, dtype=np.float32)
                image = np.clip(image, 0, 255).astype(np.uint8).transpose(2, 0, 1)
                window = Window(col, row, min(1024, size - col), min(1024, size - row))
                out.write(image[:, : int(window.height), : int(window.width)], window=window)
    return path


def repeat_scene(path: Path, base: Path, size: int) -> Path:
    """A virtual raster that repeats a scene, so that the file does not grow with it."""
    with rasterio.open(base) as source:
        srs, geo = source.crs.to_wkt(), ", ".join(map(str, source.transform.to_gdal()))
        side = source.width
    bands = []
    for band, colour in enumerate(("Red", "Green", "Blue"), start=1):
        sources = []
        for y in range(0, size, side):
            for x in range(0, size, side):
                extent = f'xSize="{min(side, size - x)}" ySize="{min(side, size - y)}"'
                sources.append(
                    f'<SimpleSource><SourceFilename relativeToVRT="1">{base.name}</SourceFilename>'
                    f"<SourceBand>{band}</SourceBand>"
                    f'<SourceProperties RasterXSize="{side}" RasterYSize="{side}" DataType="Byte" '
                    'BlockXSize="512" BlockYSize="512"/>'
                    f'<SrcRect xOff="0" yOff="0" {extent}/><DstRect xOff="{x}" yOff="{y}" {extent}/></SimpleSource>'
                )
        interpretation = f"<ColorInterp>{colour}</ColorInterp>"
        bands.append(f'<VRTRasterBand dataType="Byte" band="{band}">{interpretation}{"".join(sources)}</VRTRasterBand>')
    path.write_text(
        f'<VRTDataset rasterXSize="{size}" rasterYSize="{size}"><SRS>{srs.replace("&", "&amp;").replace("<", "&lt;")}'
        f"</SRS><GeoTransform>{geo}</GeoTransform>{''.join(bands)}</VRTDataset>"
    )
    return path


if __name__ == "__main__":
    main()
