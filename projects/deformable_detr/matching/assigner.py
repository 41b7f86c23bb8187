"""One-to-one matching of predictions and objects."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ..geometry import upcast
from ..registry import TASK_UTILS
from .targets import Targets

_LEAST = -1e9


class Predictions(NamedTuple):
    """What a layer predicts for a batch, and the objects that it is matched with."""

    cls_scores: Tensor  # (bs, num_queries, num_classes), logits
    bbox_preds: Tensor  # (bs, num_queries, 4), cx, cy, w, h in [0, 1]
    targets: Targets


class Matches(NamedTuple):
    """The matched pairs of a layer in all images; three indices of (num_pairs,) each."""

    image: Tensor
    query: Tensor
    object: Tensor


@TASK_UTILS.register_module()
class HungarianAssigner:
    """The matching of least total cost (DETR, section 3.1, equation 1).

    Args:
        match_costs: configs of the costs that are added up.
    """

    def __init__(self, match_costs: list[dict] | dict) -> None:
        match_costs = [match_costs] if isinstance(match_costs, dict) else match_costs
        self.match_costs = [TASK_UTILS.build(cost) for cost in match_costs]

    @torch.no_grad()
    def assign(self, layers: Sequence[Predictions]) -> list[Matches]:
        """Match each layer and image by itself; the costs of all layers reach the CPU as one tensor.

        A prediction that is NaN or infinite is matched before all others, so that the loss is NaN too.

        Args:
            layers: predictions that may differ in the number of queries.

        Returns:
            The matches of each layer, on the device of the predictions.
        """
        costs = [self.cost(*layer) for layer in layers]
        on_cpu = torch.cat([cost.flatten() for cost in costs]).cpu()
        on_cpu = on_cpu.nan_to_num(nan=_LEAST, posinf=_LEAST, neginf=_LEAST)
        parts = on_cpu.split([cost.numel() for cost in costs])
        return [
            _match(part.view(cost.shape), layer.targets.num_objects, cost.device)
            for layer, cost, part in zip(layers, costs, parts, strict=True)
        ]

    def cost(self, cls_scores: Tensor, bbox_preds: Tensor, targets: Targets) -> Tensor:
        """The summed cost of each prediction for each object, in float32 or better.

        Args:
            cls_scores: (bs, num_queries, num_classes), logits.
            bbox_preds: (bs, num_queries, 4), cx, cy, w, h in [0, 1].
            targets: the objects.

        Returns:
            (bs, num_queries, max_objects); meaningless where objects are padding.
        """
        cls_scores, bbox_preds = upcast(cls_scores), upcast(bbox_preds)
        return sum(cost(cls_scores, bbox_preds, targets) for cost in self.match_costs)


def _match(cost: Tensor, num_objects: list[int], device: torch.device) -> Matches:
    pairs = []
    for image, n in enumerate(num_objects):
        query, obj = linear_sum_assignment(cost[image, :, :n].numpy())
        pairs += [(image, q, o) for q, o in zip(query, obj, strict=True)]
    indices = torch.tensor(pairs, dtype=torch.long).view(-1, 3).T
    return Matches(*indices.to(device, non_blocking=True))
