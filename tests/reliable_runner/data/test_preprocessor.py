"""Each channel has its own mean, and an image of other channels is named."""

import pytest
import torch
from mmdet.structures import DetDataSample

from projects.deformable_detr.registry import MODELS
from projects.reliable_runner.errors import InputError


def build(**settings):
    return MODELS.build(dict(type="DetDataPreprocessor", _scope_="mmdet", **settings))


def batch(*channels: int) -> dict:
    """Images whose k-th channel is k + 1 everywhere."""
    images = [torch.arange(1, n + 1).view(-1, 1, 1).expand(-1, 4, 4) for n in channels]
    samples = [
        DetDataSample(metainfo=dict(img_path=f"{i}.tif", img_shape=(4, 4))) for i in range(len(images))
    ]
    return dict(inputs=images, data_samples=samples)


@pytest.mark.parametrize("bgr_to_rgb", [False, True])
def test_means_of_each_channel(bgr_to_rgb):
    means = [float(n) for n in range(6)]
    out = build(mean=means, std=[0.5] * 6, bgr_to_rgb=bgr_to_rgb)(batch(6, 6))["inputs"]
    assert out.shape == (2, 6, 4, 4) and (out == 2).all()


def test_one_mean_is_for_all_channels_and_only_three_are_turned():
    for channels, expected in (1, [0]), (6, [0, 1, 2, 3, 4, 5]), (3, [2, 1, 0]):
        preprocessor = build(mean=[1.0], std=[1.0], bgr_to_rgb=True)
        assert preprocessor(batch(channels))["inputs"][0, :, 0, 0].tolist() == expected


@pytest.mark.parametrize(("mean", "channels"), [([1.0] * 6, (6, 3)), ([1.0] * 3, (3, 1)), ([1.0], (1, 3))])
def test_other_channels_are_refused_with_the_image(mean, channels):
    with pytest.raises(InputError, match=f"image 1.tif has {channels[1]} channels instead of {channels[0]}"):
        build(mean=mean, std=mean)(batch(*channels))


def test_a_batch_of_other_channels_than_the_first_is_refused():
    preprocessor = build(mean=[1.0], std=[1.0])
    preprocessor(batch(1))
    with pytest.raises(InputError, match="image 0.tif has 3 channels instead of 1"):
        preprocessor(batch(3))


def test_as_many_means_as_deviations():
    with pytest.raises(ValueError, match="mean has 6 values, but std has 3"):
        build(mean=[1.0] * 6, std=[1.0] * 3)
