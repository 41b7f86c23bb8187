"""Whether an exported file finds what PyTorch finds."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

LOGITS_END = 0.998  # beyond, a logit is nothing but the rounding of its score
HEADS = ["images", "batch", "size", "detections", "logits differ by", "boxes differ by", ""]


class Comparison(NamedTuple):
    """Detections of a batch by both."""

    case: str
    shape: tuple[int, int, int]  # images, height and width
    detections: int
    logits: float  # the largest difference
    boxes: float  # the largest difference, in shares of the image's longer side
    missing: int  # detections whose counterpart differs by more than is tolerated

    def line(self) -> list[str]:
        bs, height, width = map(str, self.shape)
        verdict = f"{self.missing} differ" if self.missing else "the same"
        differences = [f"{self.logits:.1e}", f"{self.boxes:.1e}"]
        return [self.case, bs, f"{height} x {width}", str(self.detections), *differences, verdict]


def batches(images: Sequence[Tensor]) -> Iterator[tuple[str, list[Tensor]]]:
    """Name batches of each image, (channels, height, width), of images with padding, and of other sizes."""
    for number, image in enumerate(images, 1):
        yield f"image {number}", [image]
    height, width = images[0].shape[1:]
    narrow, low = images[0][:, :, : width * 2 // 3], images[-1][:, : height * 3 // 5]
    yield "padded batch", [images[0], narrow, low]
    yield "other size", [narrow]
    yield "transposed", [low.mT.contiguous()]


def compare(
    detector: nn.Module, exported: nn.Module, images: Sequence[Tensor], tolerance: float
) -> Iterator[Comparison]:
    """Yield what both detectors make of `batches` of ``images``.

    ``tolerance`` is that of logits, and of boxes in shares of the image's longer side.
    """
    for case, batch in batches(images):
        expected, found = (_detect(model, batch) for model in (detector, exported))
        pairs = [
            match(*instances, max(image.shape[1:]), tolerance)
            for *instances, image in zip(expected, found, batch, strict=True)
        ]
        logits, boxes, missing = zip(*pairs, strict=True)
        shape = len(batch), *(max(image.shape[axis] for image in batch) for axis in (1, 2))
        yield Comparison(case, shape, sum(map(len, expected)), max(logits), max(boxes), sum(missing))


def _detect(model: nn.Module, images: list[Tensor]) -> list[InstanceData]:
    samples = [
        DetDataSample(metainfo=dict(img_shape=tuple(image.shape[1:]), scale_factor=(1.0, 1.0)))
        for image in images
    ]
    with torch.inference_mode():
        samples = model.test_step(dict(inputs=images, data_samples=samples))
    return [sample.pred_instances.cpu() for sample in samples]


def match(
    expected: InstanceData, found: InstanceData, side: int, tolerance: float
) -> tuple[float, float, int]:
    """Pair detections of equal labels that are nearest to each other.

    Detections that tie with the last one kept may be others in ``found``: they count for nothing.

    Returns:
        The largest difference of logits, of boxes in shares of ``side``, and how many detections of
        ``expected`` have no counterpart within ``tolerance``.
    """
    if len(expected) != len(found):
        return float("inf"), float("inf"), max(len(expected), len(found))
    logits = [torch.logit(x.scores.double().clamp(max=LOGITS_END)) for x in (expected, found)]
    by_logits = (logits[0][:, None] - logits[1]).abs()
    by_boxes = torch.cdist(expected.bboxes.double(), found.bboxes.double(), p=torch.inf) / side
    apart = expected.labels[:, None] != found.labels
    distance = torch.maximum(by_logits, by_boxes).masked_fill(apart, 1e6)
    pairs = linear_sum_assignment(distance.numpy())
    counts = (logits[0] > logits[0].min() + tolerance)[pairs[0]]
    differences = [matrix[pairs][counts] for matrix in (by_logits, by_boxes, distance)]
    missing = int((differences[2] > tolerance).sum())
    return *(float(x.max()) if len(x) else 0.0 for x in differences[:2]), missing
