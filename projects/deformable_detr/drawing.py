"""Boxes with class and score drawn into an image, by mmdet's registered visualizer."""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.visualization import Visualizer

from .registry import VISUALIZERS


def build_visualizer(
    cfg: Config, classes: list[str] | None, palette: list | None = None
) -> Visualizer:
    """Build the visualizer that ``cfg`` names; it draws, and writes nothing.

    Args:
        cfg: ``visualizer`` holds settings such as ``line_width``; by default mmdet's ``DetLocalVisualizer``.
        classes: names by label.
        palette: an (R, G, B) in 0..255 for each class; by default colours that tell few classes apart.
    """
    settings = cfg.get("visualizer") or dict(type="DetLocalVisualizer")
    visualizer = VISUALIZERS.build(dict(settings, vis_backends=None, name="drawing"))
    if palette is None and classes and len(classes) <= 10:
        palette = [tuple(int(255 * part) for part in rgb) for rgb in plt.get_cmap("tab10").colors]
    visualizer.dataset_meta = dict(classes=classes, palette=palette or "random")
    return visualizer


def draw_sample(
    visualizer: Visualizer, image: np.ndarray, sample: DetDataSample, draw_gt: bool = False
) -> np.ndarray:
    """Draw all predictions of ``sample``, or its true boxes.

    Args:
        visualizer: of `build_visualizer`.
        image: (h, w, 3), BGR, in the size that the boxes are for; it stays as it is.
        sample: with ``pred_instances``, or ``gt_instances``.
        draw_gt: whether the true boxes are drawn instead of the predictions.

    Returns:
        (h, w, 3), uint8, BGR.
    """
    with warnings.catch_warnings():
        # A box that ends at the last pixel counts as one.
        warnings.filterwarnings("ignore", message=".*out of bounds")
        visualizer.add_datasample(
            "image",
            image[..., ::-1],
            sample,
            draw_gt=draw_gt,
            draw_pred=not draw_gt,
            pred_score_thr=float("-inf"),
        )
    return visualizer.get_image()[..., ::-1]
