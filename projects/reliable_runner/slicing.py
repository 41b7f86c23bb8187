"""Detection in overlapping slices, for images that are large against their objects.

Akyon et al., "Slicing Aided Hyper Inference" (ICIP 2022, arXiv 2202.06934), with sahi's slices and NMS.
"""

import numpy as np
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import nn

from .errors import InputError
from .inference import detect_batch, detect_each, prepare


def detect_sliced(
    detector: nn.Module,
    image: np.ndarray,
    whole: dict,
    slice_size: int,
    overlap: float = 0.2,
    iou_thr: float = 0.5,
    batch_size: int = 1,
) -> DetDataSample:
    """Detect objects in an image and in its slices.

    A set predictor finds an object once; the slices and the whole image find it several times, so among boxes
    of a class those that overlap one of a higher score by more than ``iou_thr`` are dropped (NMS).

    Args:
        image: (h, w, channels), as `read_image` returns it.
        whole: the same as `prepare` has made it ready.
        slice_size: side of the square slices in pixels.
        overlap: of neighbouring slices, as a share of their side, in [0, 1).
        batch_size: slices at once.

    Returns the sample of the whole image with the detections of all, their scores falling; they may be more
    than ``max_per_img``. `InputError` if sahi is not installed, or an image can't be prepared.
    """
    try:
        from sahi.postprocess.combine import batched_nms
        from sahi.slicing import get_slice_bboxes
    except ImportError as error:
        raise InputError(f"slices want a package: pip install --no-deps sahi==0.12.8 ({error})") from error
    sample = detect_batch(detector, [whole])[0]
    found = [sample.pred_instances]
    slices = get_slice_bboxes(*image.shape[:2], slice_size, slice_size, False, overlap, overlap)
    if len(slices) == 1:
        return sample
    crops = ((box, np.ascontiguousarray(image[box[1] : box[3], box[0] : box[2]])) for box in slices)
    pairs = ((box, prepare(detector, crop, whole.get("img_path"))) for box, crop in crops)
    for (left, top, *_), of_slice in detect_each(detector, pairs, batch_size):
        instances = of_slice.pred_instances
        instances.bboxes = instances.bboxes + instances.bboxes.new_tensor([left, top, left, top])
        found.append(instances)
    together = InstanceData.cat(found)
    columns = (together.bboxes, together.scores[:, None], together.labels[:, None])
    table = np.concatenate([column.numpy() for column in columns], 1)
    sample.pred_instances = together[batched_nms(table, "IOU", iou_thr)]
    return sample
