"""The COCO metric with its input checked, by pycocotools or by faster-coco-eval."""

from collections.abc import Callable, Sequence
from functools import partial
from math import isfinite
from unittest.mock import patch

import numpy as np
from mmdet.datasets.api_wrappers import COCOeval, COCOevalMP
from mmdet.evaluation import CocoMetric as _CocoMetric
from mmdet.evaluation.metrics import coco_metric as _module
from mmengine.structures import InstanceData

from ..errors import InputError, NonFiniteError
from ..files.coco_file import CocoFile, shorten

BACKENDS = ("pycocotools", "faster_coco_eval")


class CocoMetric(_CocoMetric):
    """mmdet's ``CocoMetric`` with its input checked; pycocotools takes a NaN box for a perfect match.

    AP counts the ``proposal_nums[-1]`` best detections of a class in an image, where mmdet's mAP (but not its
    mAP_50) stays at 100.

    Args:
        ann_file: The annotation file; without one the data set's own annotations serve.
        backend: "pycocotools", or "faster_coco_eval" for the same numbers in less time.
        **kwargs: As in mmdet's class.

    `InputError` if a local ``ann_file`` does not exist, is not COCO or has NaN or infinite boxes, the backend
    is not there, ``proposal_nums`` or ``iou_thrs`` are not what the summary wants, ``format_only`` comes
    without ``outfile_prefix``, or the file does not hold an image that was predicted.
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
            _check_truth(self._coco_api, backend)
            self._coco_api.number_annotations()

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            check_finite(sample["pred_instances"], sample.get("img_path", sample["img_id"]))
        super().process(data_batch, data_samples)

    def compute_metrics(self, results: list) -> dict[str, float]:
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


def _check_truth(coco: CocoFile, backend: str) -> None:
    """Refuse NaN or infinite true boxes, which any detection would match, and ids that are no doubles."""
    anns = coco.dataset["annotations"]
    if faulty := [f"annotation {x['id']}" for x in anns if not all(map(isfinite, (*x["bbox"], x["area"])))]:
        raise InputError(
            f"annotation file {coco.path}: bbox or area is NaN or infinite, so it can't be scored: "
            f"{shorten(faulty)}; correct or remove them"
        )
    for id_ in (*coco.imgs, *coco.cats) if backend == "faster_coco_eval" else ():
        if not isinstance(id_, int) or abs(id_) >= 2**53:
            raise InputError(
                f"annotation file {coco.path} has the id {id_!r}, but backend='faster_coco_eval' takes "
                "integers below 2**53; use backend='pycocotools'"
            )


class _Evaluation:
    """Mixed into an evaluation of either package.

    The summary's first number counts ``maxDets[-1]`` detections of a class in an image, as all others do:
    pycocotools counts 100 there, and gives -1 if ``maxDets`` does not hold 100. The classes stand in the
    order of ``params.catIds``, where the packages sort them by id.
    """

    def evaluate(self) -> None:
        self._order = np.unique(self.params.catIds, return_inverse=True)[1]
        super().evaluate()

    def accumulate(self) -> None:
        super().accumulate()
        if self.params.useCats and (np.diff(self._order) < 0).any():
            for key in ("precision", "recall", "scores"):  # (..., classes, areas, maxDets)
                self.eval[key] = np.take(self.eval[key], self._order, axis=-3)

    def summarize(self) -> None:
        super().summarize()
        precision = self.eval["precision"][..., 0, -1]  # of all areas
        counted = precision[precision > -1]
        self.stats[0] = counted.mean() if counted.size else -1


class _PyCoco(_Evaluation, COCOeval):
    pass


class _PyCocoInProcesses(_Evaluation, COCOevalMP):
    pass


def evaluations(backend: str) -> dict[str, Callable]:
    """What makes the evaluations that mmdet's metric calls, by the names that they have there.

    `InputError` if there is no such backend, or its package is not installed.
    """
    if backend not in BACKENDS:
        known = " or ".join(map(repr, BACKENDS))
        raise InputError(f"val_evaluator.backend is {backend!r}; it may be {known}")
    if backend == "pycocotools":
        return dict(COCOeval=_PyCoco, COCOevalMP=_PyCocoInProcesses)
    try:
        from faster_coco_eval import COCOeval_faster
    except ImportError as error:
        raise InputError(
            'val_evaluator.backend="faster_coco_eval" wants a package that is not installed: pip install '
            f"--no-deps faster-coco-eval ({error})"
        ) from error
    faster = partial(type("_FasterCoco", (_Evaluation, COCOeval_faster), {}), print_function=print)
    return dict(COCOeval=faster, COCOevalMP=faster)
