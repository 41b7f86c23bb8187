"""What is read from strangers and written to be safe: checkpoints, annotations, images."""
