"""COCO's metric."""

from . import coco_metric  # noqa: F401
