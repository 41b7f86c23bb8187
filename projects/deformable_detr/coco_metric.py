"""The COCO metric, without a score for what is no prediction."""

from collections.abc import Sequence
from pathlib import Path

from mmdet.evaluation import CocoMetric as _CocoMetric
from mmengine.structures import InstanceData

from .coco_file import CocoFile
from .errors import NonFiniteError
from .registry import METRICS


@METRICS.register_module()
class CocoMetric(_CocoMetric):
    """mmdet's ``CocoMetric`` with its input checked; pycocotools takes a NaN box for a perfect match.

    Args:
        ann_file: The annotation file; without one the data set's own annotations serve.
        **kwargs: As in mmdet's class.

    Raises:
        InputError: A local ``ann_file`` does not exist.
    """

    def __init__(self, ann_file: str | None = None, **kwargs) -> None:
        if ann_file is not None and "://" not in ann_file and not Path(ann_file).is_file():
            CocoFile(ann_file)  # raises
        super().__init__(ann_file=ann_file, **kwargs)
        self.ann_file = ann_file

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Take a batch of predictions.

        Raises:
            NonFiniteError: A box or a score is NaN or infinite.
        """
        for sample in data_samples:
            check_finite(sample["pred_instances"], sample.get("img_path", sample["img_id"]))
        super().process(data_batch, data_samples)


def check_finite(predictions: InstanceData | dict, image: object) -> None:
    """Refuse what is no prediction.

    Args:
        predictions: ``bboxes`` and ``scores``.
        image: whose they are, for the message.

    Raises:
        NonFiniteError: A box or a score is NaN or infinite.
    """
    if not all(predictions[key].isfinite().all() for key in ("bboxes", "scores")):
        raise NonFiniteError(
            f"non-finite predictions of the last decoder layer for image {image}: the weights hold NaN or "
            "infinity, or float16 has overflowed; test an earlier checkpoint, or in float32"
        )
