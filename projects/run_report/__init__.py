"""One page of a run: its config, data, curves, precision and errors."""
