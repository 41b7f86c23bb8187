"""The COCO metric with its input checked."""

from collections.abc import Sequence
from math import isfinite
from unittest.mock import patch

import numpy as np
from mmdet.evaluation import CocoMetric as _CocoMetric
from mmdet.evaluation.metrics import coco_metric as _module
from mmengine.structures import InstanceData

from ..errors import InputError, NonFiniteError
from ..files.coco_file import CocoFile, shorten
from .coco_eval import evaluations


class CocoMetric(_CocoMetric):
    """mmdet's ``CocoMetric`` with its input checked; pycocotools takes a NaN box for a perfect match.

    AP counts the ``proposal_nums[-1]`` best detections of a class in an image, where mmdet's mAP (but not its
    mAP_50) stays at 100.

    Args:
        ann_file: The annotation file; without one the data set's own annotations serve.
        backend: "pycocotools", or "faster_coco_eval" for the same numbers in less time.
        **kwargs: As in mmdet's class.

    Raises:
        InputError: A local ``ann_file`` does not exist, is not COCO or has NaN or infinite boxes; the
            backend is not there; ``proposal_nums`` or ``iou_thrs`` are not what the summary wants;
            ``format_only`` without ``outfile_prefix``.
    """

    def __init__(self, ann_file: str | None = None, backend: str = "pycocotools", **kwargs) -> None:
        self._evaluations = evaluations(backend)
        if kwargs.get("format_only") and not kwargs.get("outfile_prefix"):
            raise InputError(
                "val_evaluator.format_only=True writes results and no metrics: say where to with "
                "val_evaluator.outfile_prefix"
            )
        with patch.object(_module, "COCO", CocoFile):
            super().__init__(ann_file=ann_file, **kwargs)
        self.ann_file = ann_file
        self.iou_thrs = np.atleast_1d(np.asarray(self.iou_thrs, dtype=float))
        self._check_options()
        if self._coco_api is not None:
            _check_truth(self._coco_api)
            if backend == "faster_coco_eval":
                _check_ids(self._coco_api)
            self._coco_api.number_annotations()

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Take a batch of predictions; see `check_finite`."""
        for sample in data_samples:
            check_finite(sample["pred_instances"], sample.get("img_path", sample["img_id"]))
        super().process(data_batch, data_samples)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Compare the predictions of all images with the true boxes; see mmdet's method.

        Raises:
            InputError: The annotation file does not hold an image that was predicted.
        """
        if self._coco_api is not None:
            self._coco_api.name_categories(self.dataset_meta["classes"])
            images = [truth["img_id"] for truth, _ in results]
            if strange := [f"id {image!r}" for image in images if image not in self._coco_api.imgs]:
                raise InputError(
                    f"val_evaluator.ann_file {self.ann_file} does not hold the images that were predicted: "
                    f"{shorten(strange)}; give it the ann_file of the data set"
                )
        with patch.multiple(_module, **self._evaluations):
            return super().compute_metrics(results)

    def _check_options(self) -> None:
        limits = self.proposal_nums
        if len(limits) != 3 or limits != sorted(limits):  # AR@100, AR@300 and AR@1000 by default
            raise InputError(
                f"val_evaluator.proposal_nums is {tuple(limits)}; the summary wants three rising numbers of "
                "detections, e.g. (100, 300, 1000)"
            )
        if self.classwise and len(self.iou_thrs) < 6:
            raise InputError(
                f"val_evaluator.iou_thrs has {len(self.iou_thrs)} thresholds; classwise=True prints "
                "the first and the sixth (0.5 and 0.75 by default), so leave iou_thrs or classwise out"
            )


def check_finite(predictions: InstanceData | dict, image: object) -> None:
    """Raise `NonFiniteError`, which names the ``image``, if a predicted box or score is NaN or infinite."""
    if not all(predictions[key].isfinite().all() for key in ("bboxes", "scores")):
        raise NonFiniteError(
            f"non-finite predictions of the last decoder layer for image {image}: the weights hold NaN or "
            "infinity, or float16 has overflowed; test an earlier checkpoint, or in float32"
        )


def _check_truth(coco: CocoFile) -> None:
    """Refuse NaN or infinite true boxes: any detection would match them."""
    anns = coco.dataset["annotations"]
    if faulty := [f"annotation {x['id']}" for x in anns if not all(map(isfinite, (*x["bbox"], x["area"])))]:
        raise InputError(
            f"annotation file {coco.path}: bbox or area is NaN or infinite, so it can't be scored: "
            f"{shorten(faulty)}; correct or remove them"
        )


def _check_ids(coco: CocoFile) -> None:
    """Refuse ids that faster-coco-eval's doubles do not hold."""
    for id_ in (*coco.imgs, *coco.cats):
        if not isinstance(id_, int) or abs(id_) >= 2**53:
            raise InputError(
                f"annotation file {coco.path} has the id {id_!r}, but backend='faster_coco_eval' takes "
                "integers below 2**53; use backend='pycocotools'"
            )
