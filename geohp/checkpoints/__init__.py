"""Files that other projects released, made into geohp's own."""

from geohp.checkpoints.importing import ImportedCheckpoint, import_checkpoint

__all__ = ["ImportedCheckpoint", "import_checkpoint"]
