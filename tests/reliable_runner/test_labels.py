"""Names in scripts that the font lacks are drawn in Latin letters, without a warning."""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData

from projects.reliable_runner.drawing import build_visualizer, draw_sample
from projects.reliable_runner.labels import readable

NAMES = ["车", "小猫 2", "🦜", "कार", "قطة"]


@pytest.mark.parametrize("name", ["cat", "größe", "Ёлка", "γάτα", "a\nb"])
def test_what_the_font_has_stays(name):
    assert readable(name) == name


@pytest.mark.parametrize("name", NAMES)
def test_what_it_lacks_is_transliterated(name):
    assert readable(name).isascii() and readable(name).strip()


def test_the_rest_of_a_name_stays():
    assert readable("🦜 кошка") == ":parrot: кошка"


def test_figures_and_detections_are_drawn_without_a_warning():
    visualizer = build_visualizer(Config(), NAMES)
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
