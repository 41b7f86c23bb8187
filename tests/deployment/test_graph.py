"""The graph computes what the detector predicts."""

from copy import copy

import pytest
import torch
from mmdet.models.backbones import SwinTransformer
from mmdet.structures import DetDataSample

from projects.deployment.graph import DetectorGraph
from projects.reliable_runner.errors import InputError

from .conftest import VARIANTS, detector_of

pytestmark = pytest.mark.usefixtures("small_run")


@pytest.mark.parametrize("variant", VARIANTS)
def test_finds_what_the_detector_finds_whatever_lies_beside_the_images(variant):
    detector = detector_of(variant)
    sizes = torch.tensor([[64, 96], [50, 70], [33, 96]])
    images = [torch.randint(256, (3, h, w), dtype=torch.uint8) for h, w in sizes.tolist()]
    samples = [DetDataSample(metainfo=dict(img_shape=tuple(image.shape[1:]))) for image in images]
    batch = torch.full((3, 3, 64, 96), 1e4)
    for image, place in zip(images, batch, strict=True):
        place[:, : image.shape[1], : image.shape[2]] = image
    with torch.no_grad():
        data = detector.data_preprocessor(dict(inputs=images, data_samples=samples))
        expected = detector.predict(data["inputs"], data["data_samples"], rescale=False)
        found = DetectorGraph(detector)(batch, sizes)
    for name, tensor in zip(("bboxes", "scores", "labels"), found, strict=True):
        torch.testing.assert_close(
            tensor,
            torch.stack([getattr(sample.pred_instances, name) for sample in expected]),
            atol=1e-4,
            rtol=1e-4,
        )


def test_refuses_a_backbone_that_is_not_traced_to_an_end():
    detector = copy(detector_of("base"))
    detector._modules = dict(
        detector._modules, backbone=SwinTransformer(embed_dims=8, num_heads=(1, 2, 4, 8))
    )
    with pytest.raises(InputError, match="model.backbone is SwinTransformer"):
        DetectorGraph(detector)


def test_refuses_what_it_does_not_know():
    with pytest.raises(InputError, match="model.type is Linear"):
        DetectorGraph(torch.nn.Linear(1, 1))
