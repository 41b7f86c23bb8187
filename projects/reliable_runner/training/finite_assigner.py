"""mmdet's matching, which SciPy refuses where a cost is NaN."""

import torch
from mmdet.models.task_modules import AssignResult
from mmdet.models.task_modules import HungarianAssigner as _HungarianAssigner
from mmengine.structures import InstanceData


class HungarianAssigner(_HungarianAssigner):
    """mmdet's ``HungarianAssigner``; objects are matched with NaN or infinite predictions first.

    The loss is then NaN, and the loop reports it in all processes of a distributed run. A process that raised
    in its forward pass would leave the others waiting.
    """

    def assign(self, pred_instances: InstanceData, gt_instances: InstanceData, *args, **kwargs):
        finite = torch.stack([x.isfinite().flatten(1).all(1) for x in pred_instances.values()]).all(0)
        if finite.all():
            return super().assign(pred_instances, gt_instances, *args, **kwargs)
        labels = gt_instances.labels
        matched = finite.int().argsort()[: len(labels)]  # False comes first
        gt_inds = torch.zeros_like(finite, dtype=torch.long)
        gt_inds[matched] = torch.arange(1, len(matched) + 1, device=labels.device)
        gt_labels = torch.full_like(gt_inds, -1)
        gt_labels[matched] = labels[: len(matched)]
        return AssignResult(len(labels), gt_inds, None, labels=gt_labels)
