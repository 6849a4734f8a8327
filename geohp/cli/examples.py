"""Examples that the help of each command ends with."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[str, ...]] = {
    "train": (
        "geohp train orthophotos --set data.images=tiles/",
        "geohp train orthophotos --set data.images=tiles/ --set classes.extra_clusters=6",
        "geohp train potsdam3 --set data.root=potsdam --out runs/potsdam",
        "geohp train --resume runs/orthophotos-hp-20260131-120000",
    ),
    "evaluate": (
        "geohp evaluate --model runs/potsdam --crf --report report",
        "geohp evaluate --model runs/a --model runs/b --data potsdam3 --set data.root=potsdam",
    ),
    "prepare": ("geohp prepare cocostuff27 --set data.root=cocostuff -o crops",),
    "segment": (
        "geohp segment scene.tif -o labels.tif --polygons landcover.gpkg --classes 6",
        "geohp segment scene.tif -o labels.tif --model runs/potsdam --confidence confidence.tif",
        "geohp segment tiles/ --out-dir maps --products polygons,confidence --json",
        "geohp segment scene.tif -o labels.tif --aoi district.gpkg --crop",
    ),
    "probe": (
        "geohp probe runs/own scene.tif --reference fields.gpkg --field class -o fields.safetensors",
        "geohp probe tiles/ --backbone aerial3 --reference points.gpkg --field class -o fields.safetensors",
    ),
    "polygonize": (
        "geohp polygonize labels.tif -o landcover.gpkg --min-area 50 --simplify 1",
        "geohp polygonize labels.tif -o landcover.gpkg --stats dsm.tif:mean,p90",
    ),
    "change": (
        "geohp change 2017.tif 2021.tif --model runs/own -o change.tif --polygons change.gpkg --min-area 500",
        "geohp change maps/2017.tif maps/2021.tif -o change.tif --matrix change.csv",
    ),
    "legend": ("geohp legend labels.tif --reference fields.gpkg --field class -o legend.yaml",),
    "recode": (
        "geohp recode labels.tif --legend legend.yaml -o named.tif",
        "geohp recode runs/own --legend legend.yaml -o named.safetensors",
    ),
    "view": (
        "geohp view labels.tif --scene scene.tif",
        "geohp view labels.tif --scene scene.tif --polygons landcover.gpkg -o page.html",
    ),
    "import-checkpoint": ("geohp import-checkpoint ckpt.pth -o potsdam.safetensors --pixel-size 0.1",),
    "info": ("geohp info labels.tif --json", "geohp info runs/potsdam --json"),
    "config": ("geohp config > own.yaml", "geohp config potsdam3", "geohp config --schema > geohp.schema.json"),
    "doctor": ("geohp doctor --json",),
    "cache": ("geohp cache --json", "geohp cache clear"),
    "quickstart": ("geohp quickstart -o quickstart",),
}
"""Command lines by command."""


def epilog(command: str) -> str | None:
    """What the help of a command ends with; ``None`` without examples."""
    lines = EXAMPLES.get(command)
    if lines is None:
        return None
    shown = [f"  {line.replace('[', chr(92) + '[')}" for line in lines]  # brackets are markup
    return "\n\n".join(["[bold]Examples[/bold]", *shown])
