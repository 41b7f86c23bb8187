"""The original image beside the picture that the network sees: resized, flipped, padded."""

from typing import NamedTuple

import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from torch import Tensor

# Of a sample's metainfo, what the way back to the original image needs.
META_KEYS = ("ori_shape", "img_shape", "scale_factor", "flip", "flip_direction")


class ImageFrame(NamedTuple):
    """Maps units of the network's image to pixels of the original image.

    Pixels are continuous: (0, 0) is the outer corner of the first pixel, (width, height) that of the last.
    """

    size: tuple[int, int]  # width and height of the original image, in pixels
    unit: tuple[float, float]  # what one unit of x and of y is, in pixels of the original image
    flipped: tuple[bool, bool]  # whether x and y are mirrored

    @classmethod
    def of(cls, sample: DetDataSample) -> "ImageFrame":
        """The frame whose unit is the network's image without padding.

        The pipeline resizes, then flips, then pads, each if at all; the metainfo has `META_KEYS`.
        """
        meta = sample.metainfo
        (h, w), (img_h, img_w) = meta["ori_shape"][:2], meta["img_shape"][:2]
        scale_x, scale_y = meta.get("scale_factor", (1.0, 1.0))
        direction = meta.get("flip_direction") if meta.get("flip") else None
        flipped = direction in ("horizontal", "diagonal"), direction in ("vertical", "diagonal")
        return cls((w, h), (img_w / scale_x, img_h / scale_y), flipped)

    @classmethod
    def of_input(cls, sample: DetDataSample) -> "ImageFrame":
        """The frame whose unit is a pixel of the network's input."""
        frame, (h, w) = cls.of(sample), sample.img_shape[:2]
        return frame._replace(unit=(frame.unit[0] / w, frame.unit[1] / h))

    def to_pixels(self, points: Tensor) -> Tensor:
        """Points (..., 2), x and y, from units to pixels of the original image."""
        return self._mirrored(points * points.new_tensor(self.unit))

    def to_units(self, points: Tensor) -> Tensor:
        """The inverse of `to_pixels`."""
        return self._mirrored(points) / points.new_tensor(self.unit)

    def _mirrored(self, points: Tensor) -> Tensor:
        return torch.where(torch.tensor(self.flipped), points.new_tensor(self.size) - points, points)

    def boxes_to_pixels(self, boxes: Tensor) -> Tensor:
        """Boxes (..., 4), cx, cy, w, h in units, to x1, y1, x2, y2 in pixels of the original image."""
        corners = self.to_pixels(bbox_cxcywh_to_xyxy(boxes).unflatten(-1, (2, 2)))
        return torch.cat((corners.amin(-2), corners.amax(-2)), -1)
