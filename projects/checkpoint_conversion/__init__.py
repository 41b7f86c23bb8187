"""Weights of a Deformable DETR from the names of one code base into those of another."""
