"""Boxes are where and of the colour they should; names in scripts that the font lacks are transliterated."""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData

from projects.reliable_runner.drawing import build_visualizer, draw_sample, readable


def test_boxes_are_where_and_of_the_colour_they_should():
    """A box of class 1, which is orange (255, 127, 14), on grey."""
    instances = InstanceData(
        bboxes=torch.tensor([[100.0, 60, 180, 110]]), labels=torch.tensor([1]), scores=torch.tensor([0.01])
    )
    cfg = Config(dict(visualizer=dict(type="DetLocalVisualizer", line_width=4, alpha=1.0)))
    visualizer = build_visualizer(cfg, ["a", "b"])
    image = np.full((150, 220, 3), 128, np.uint8)
    for sample, draw_gt in (
        (DetDataSample(pred_instances=instances), False),
        (DetDataSample(gt_instances=instances), True),
    ):
        picture = draw_sample(visualizer, image, sample, draw_gt)
        assert picture.shape == image.shape and picture.dtype == np.uint8 and (image == 128).all()
        assert np.abs(picture[85, 100].astype(int) - [14, 127, 255]).max() <= 3  # BGR
        assert np.abs(picture[110, 140].astype(int) - [14, 127, 255]).max() <= 3
        rows, columns = np.nonzero((picture != 128).any(-1))
        assert abs(columns.min() - 98) <= 1 and abs(columns.max() - 182) <= 1
        assert abs(rows.min() - 58) <= 1 and abs(rows.max() - 112) <= 1


def test_an_image_without_boxes_stays_as_it_is():
    nothing = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=int), scores=torch.zeros(0))
    image = np.add.outer(3 * np.arange(31), 3 * np.arange(47))[..., None].repeat(3, 2) + [0, 10, 20]
    visualizer = build_visualizer(Config({}), [f"class {i}" for i in range(90)])
    picture = draw_sample(visualizer, image.astype(np.uint8), DetDataSample(pred_instances=nothing))
    # matplotlib moves rows and columns by up to one pixel.
    assert np.abs(picture.astype(int) - image).max() <= 6


NAMES = ["车", "小猫 2", "🦜", "कार", "قطة"]


@pytest.mark.parametrize("name", ["cat", "größe", "Ёлка", "γάτα", "a\nb"])
def test_what_the_font_has_stays(name):
    assert readable(name) == name
    assert readable(f"🦜 {name}") == f":parrot: {name}"


def test_figures_and_detections_are_drawn_without_a_warning():
    visualizer = build_visualizer(Config(), NAMES)
    assert all(readable(name).isascii() and readable(name).strip() for name in NAMES)
    objects = InstanceData(
        bboxes=torch.tensor([[5.0, 5.0, 90.0, 90.0]] * 5), labels=torch.arange(5), scores=torch.ones(5)
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*[Gg]lyph")
        draw_sample(visualizer, np.zeros((100, 100, 3), np.uint8), DetDataSample(pred_instances=objects))
        figure, ax = plt.subplots()
        ax.bar(NAMES, range(5))
        ax.set_title("汽车")
        figure.canvas.draw()
        plt.close(figure)
