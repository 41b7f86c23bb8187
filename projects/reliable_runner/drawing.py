"""Boxes with class and score drawn into an image, by mmdet's registered visualizer."""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from mmdet.registry import VISUALIZERS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.visualization import Visualizer


def build_visualizer(cfg: Config, classes: list[str] | None) -> Visualizer:
    """Build the visualizer that ``cfg`` names; it draws, and writes nothing.

    Args:
        cfg: ``visualizer`` holds settings such as ``line_width``; by default mmdet's ``DetLocalVisualizer``.
        classes: names by label; up to ten get colours that are easy to tell apart.
    """
    settings = dict(cfg.get("visualizer") or dict(type="DetLocalVisualizer"), vis_backends=None)
    settings.pop("name", None)
    # Not build(), which returns the one that was built first under a name.
    visualizer = VISUALIZERS.get(settings.pop("type"))(**settings)
    visualizer.dataset_meta = dict(classes=classes, palette="random")
    if classes and len(classes) <= 10:
        colours = (np.array(plt.get_cmap("tab10").colors) * 255).round().astype(int)
        visualizer.dataset_meta["palette"] = [tuple(colour) for colour in colours.tolist()]
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
    # Not get_image(), which renders what was rendered again, and that moves pixels a second time.
    return visualizer._image[..., ::-1]
