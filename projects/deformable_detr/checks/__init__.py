"""What a run is refused for before its first iteration: config, classes, checkpoint."""

from . import checkpoint, classes, resume  # noqa: F401
