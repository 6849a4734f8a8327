"""Where models are found: a run is its folder, a model one file in it."""

from __future__ import annotations

from pathlib import Path

from geohp.errors import ModelError

MODEL_NAME = "model.safetensors"
"""The model in a run folder."""

BEST_NAME = "best_on_labels.safetensors"
"""The model as it was when it scored best on labels, beside it."""

CONFIG_NAME = "config.yaml"
"""What was to be trained."""

REPORT_NAME = "report.html"
METRICS_NAME, SCORES_NAME = "metrics.csv", "scores.csv"
"""A row a step; a row for each time that it was scored on labels."""

LOSS_PICTURE, SAMPLES_PICTURE = "loss.png", "samples.png"
SWEEP_NAME, SWEEP_PICTURE = "sweep.csv", "sweep.png"

FIGURES_NAME = "metrics.json"
"""What a run came to."""

KMEANS_ENTRY = "kmeans"
"""How it compares with k-means, in that file."""

UNFINISHED = "unfinished"
"""The folder in it with what only going on with its training needs."""

TENSORBOARD = "tensorboard"
"""The folder in it with TensorBoard's logs."""

WANDB, MLFLOW = "wandb", "mlruns"
"""The folders in it of services that training may log to."""

UNFINISHED_RUN = (
    *(BEST_NAME, CONFIG_NAME, REPORT_NAME, METRICS_NAME, SCORES_NAME, LOSS_PICTURE, SAMPLES_PICTURE),
    *(SWEEP_NAME, SWEEP_PICTURE, FIGURES_NAME, UNFINISHED, TENSORBOARD, WANDB, MLFLOW),
)
"""All that may be in it before the model is, which comes last."""

CHECKPOINT_NAME = "checkpoint.ckpt"
"""The state of training, in the folder of the unfinished."""


def find_model(path: str | Path) -> Path:
    """The model file at ``path`` or in the run folder ``path``.

    Raises:
        ModelError: when there is none.
    """
    path = Path(path)
    if path.is_dir():
        if (path / MODEL_NAME).is_file():
            return path / MODEL_NAME
        if (path / UNFINISHED).is_dir():
            problem = f"{path}: its training is not finished"
            raise ModelError(problem, "go on training with {option}", option="resume", value=str(path))
        raise ModelError(f"{path}: a folder without {MODEL_NAME}", "give a finished run or a model file")
    if not path.is_file():
        raise ModelError(f"{path}: no such model", "give a run folder or a .safetensors file, or train one first")
    return path


def newest_run() -> Path | None:
    """The model file written last in any run below ``runs``; ``None`` where there is none."""
    models = list(Path("runs").glob(f"*/{MODEL_NAME}"))
    return max(models, key=lambda model: model.stat().st_mtime, default=None)
