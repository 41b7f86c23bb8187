"""The evaluations that the COCO metric calls: by pycocotools, or by faster-coco-eval."""

from collections.abc import Callable
from functools import partial

import numpy as np
from mmdet.datasets.api_wrappers import COCOeval, COCOevalMP

from ..errors import InputError

BACKENDS = ("pycocotools", "faster_coco_eval")


class _Evaluation:
    """Mixed into an evaluation of either package.

    The summary's first number counts ``maxDets[-1]`` detections of a class in an image, as all others do:
    pycocotools counts 100 there, and gives -1 if ``maxDets`` does not hold 100. The classes stand in the
    order of ``params.catIds``, where the packages sort them by id.
    """

    def evaluate(self) -> None:
        """Match each image's detections with its true boxes."""
        self._order = np.unique(self.params.catIds, return_inverse=True)[1]
        super().evaluate()

    def accumulate(self) -> None:
        """Make the curves of precision and recall."""
        super().accumulate()
        if self.params.useCats and (np.diff(self._order) < 0).any():
            for key in ("precision", "recall", "scores"):  # (..., classes, areas, maxDets)
                self.eval[key] = np.take(self.eval[key], self._order, axis=-3)

    def summarize(self) -> None:
        """Set ``stats``, the twelve numbers, and print them."""
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

    Raises:
        InputError: There is no such backend, or its package is not installed.
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
