"""What is read from strangers and written to be safe: checkpoints, annotations, images."""

from . import atomic_file, checkpoint, data_file, pretrained  # noqa: F401
