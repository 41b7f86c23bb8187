"""mmdet's matching, for mmdet's own heads."""

import torch
from mmdet.models.task_modules import AssignResult
from mmdet.models.task_modules import HungarianAssigner as _HungarianAssigner
from mmengine.structures import InstanceData

from ..errors import report_nonfinite
from ..run_state import nonfinite_error


class HungarianAssigner(_HungarianAssigner):
    """mmdet's ``HungarianAssigner``, with a word where predictions are not finite and SciPy would fail.

    Args:
        match_costs: configs of mmdet's costs that are added up.
    """

    def assign(
        self,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        img_meta: dict | None = None,
        **kwargs,
    ) -> AssignResult:
        """Match the predictions of a layer for an image; see mmdet's method.

        Raises:
            NonFiniteError: a prediction is NaN or infinite; noted within `nonfinite_errors_noted`, and then
                matched somehow.
        """
        if not all(x.isfinite().all() for x in pred_instances.values()):
            where = f"image {(img_meta or {}).get('img_path', '?')}"
            report_nonfinite(nonfinite_error("predictions", where))
            zeros = {key: torch.zeros_like(value) for key, value in pred_instances.items()}
            pred_instances = InstanceData(**zeros)
        return super().assign(pred_instances, gt_instances, img_meta, **kwargs)
