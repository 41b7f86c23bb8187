"""What a run is refused for before its first iteration: config, classes, checkpoint."""
