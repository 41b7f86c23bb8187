"""A batch to time and measure with, where the pixels do not matter."""

import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

OBJECTS_PER_IMAGE = 8


def random_batch(num_images: int, height: int, width: int, num_classes: int) -> dict:
    """Noise with random objects, as a data loader would give it."""
    samples = []
    for _ in range(num_images):
        corners = torch.rand(OBJECTS_PER_IMAGE, 2, 2).sort(1).values.flatten(1)
        objects = InstanceData(
            bboxes=corners * torch.tensor([width, height, width, height]),
            labels=torch.randint(num_classes, (OBJECTS_PER_IMAGE,)),
        )
        size = height, width
        samples.append(DetDataSample(metainfo=dict(img_shape=size, ori_shape=size), gt_instances=objects))
    images = torch.randint(256, (num_images, 3, height, width), dtype=torch.uint8)
    return dict(inputs=list(images), data_samples=samples)
