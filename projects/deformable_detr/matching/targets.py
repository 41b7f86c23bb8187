"""The objects of a batch, as tensors that the costs and the losses share."""

from dataclasses import dataclass, replace

import torch
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy, bbox_xyxy_to_cxcywh
from mmengine.dist import all_reduce, get_world_size
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


@dataclass
class Targets:
    """The objects of each image, padded to the most that an image has.

    Attributes:
        labels: (bs, max_objects), class indices; 0 on padding.
        boxes: (bs, max_objects, 4), cx, cy, w, h in [0, 1]; 0 on padding.
        num_objects: how many of them are real, for each image.
        img_sizes: (bs, 1, 4), w, h, w, h of each image in pixels.
        step_num_objects: ``num_objects`` of each batch of the optimizer step, of which this is one.
    """

    labels: Tensor
    boxes: Tensor
    num_objects: list[int]
    img_sizes: Tensor
    step_num_objects: list[list[int]]

    @classmethod
    def from_samples(cls, batch_data_samples: SampleList) -> "Targets":
        """Collect the ``gt_instances`` (xyxy boxes in pixels, labels) of mmdet's samples.

        Their metainfo holds ``img_shape`` and, where several batches make a step, ``step_num_objects``.
        """
        instances = [sample.gt_instances for sample in batch_data_samples]
        num_objects = [len(objects) for objects in instances]
        img_sizes = instances[0].bboxes.new_tensor(
            [sample.img_shape[1::-1] * 2 for sample in batch_data_samples]
        )
        boxes = [
            bbox_xyxy_to_cxcywh(objects.bboxes / size)
            for objects, size in zip(instances, img_sizes, strict=True)
        ]
        return cls(
            labels=pad_sequence([objects.labels for objects in instances], batch_first=True),
            boxes=pad_sequence(boxes, batch_first=True),
            num_objects=num_objects,
            img_sizes=img_sizes[:, None],
            step_num_objects=batch_data_samples[0].metainfo.get("step_num_objects", [num_objects]),
        )

    def normalisers(self, num_queries: list[int], copies: list[int], synced: bool = True) -> Tensor:
        """The loss normalisers: this batch's share of the optimizer step's matches, which are at least 1.

        A step's gradient is the mean over its processes and its batches. With this normaliser it is the same
        however the step's images are split.

        Args:
            num_queries: the most objects of an image that each layer can match.
            copies: how often each layer matches an object.
            synced: count the objects of all processes; else those of this process alone.

        Returns:
            (num_layers,)
        """
        num_objects = [n for batch in self.step_num_objects for n in batch]
        num_matches = self.boxes.new_tensor([sum(min(n, most) for n in num_objects) for most in num_queries])
        if synced:
            all_reduce(num_matches)
        num_shares = len(self.step_num_objects) * (get_world_size() if synced else 1)
        return num_matches.clamp(min=1) * num_matches.new_tensor(copies) / num_shares

    def most_objects(self) -> int:
        """The most objects that an image of the optimizer step has, in all batches and processes."""
        most = torch.tensor(max(n for batch in self.step_num_objects for n in batch))
        all_reduce(most, "max")
        return int(most)

    def as_objects(self) -> "Targets":
        """The same boxes with class 0 each: for predictions that only tell objects from background."""
        return replace(self, labels=torch.zeros_like(self.labels))

    def to_pixels(self, boxes: Tensor) -> Tensor:
        """Boxes (..., bs, n, 4) from cx, cy, w, h in [0, 1] to x1, y1, x2, y2 in pixels."""
        return bbox_cxcywh_to_xyxy(boxes) * self.img_sizes
