"""One-to-one matching of predictions and objects."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from projects.reliable_runner.errors import report_nonfinite
from projects.reliable_runner.run_state import nonfinite_error

from ..geometry import upcast
from ..registry import TASK_UTILS
from .targets import Targets


class Predictions(NamedTuple):
    """What some layers predict for a batch, and the objects that they are matched with."""

    names: list[str]  # of the layers, for messages
    cls_scores: Tensor  # (num_layers, bs, num_queries, num_classes), logits
    bbox_preds: Tensor  # (num_layers, bs, num_queries, 4), cx, cy, w, h in [0, 1]
    targets: Targets


class Matches(NamedTuple):
    """The matched pairs of all layers and images; four indices of (num_pairs,) each."""

    layer: Tensor
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
    def assign(self, groups: Sequence[Predictions]) -> list[Matches]:
        """Match every layer and image of every group; their costs reach the CPU as one tensor.

        Args:
            groups: predictions that may differ in the number of layers and queries.

        Returns:
            For each group its matches, on the device of the predictions.

        Raises:
            NonFiniteError: a prediction or a cost is NaN or infinite; noted within
                `nonfinite_errors_noted`, and then matched somehow.
        """
        costs = [self.cost(*group[1:]) for group in groups]
        sums = [self._sum(group) for group in groups]
        on_cpu = torch.cat([x.flatten() for x in (*costs, *sums)]).cpu()
        parts = on_cpu.split([x.numel() for x in (*costs, *sums)])
        matches = []
        for group, cost, part, total in zip(
            groups, costs, parts[: len(groups)], parts[len(groups) :], strict=True
        ):
            cost_on_cpu, total = part.view(cost.shape), total.view(cost.shape[:2])
            self._check_finite(group, cost_on_cpu, total)
            pairs = self._match(cost_on_cpu.nan_to_num(), group.targets.num_objects)
            matches.append(Matches(*pairs.to(cost.device, non_blocking=True)))
        return matches

    def cost(self, cls_scores: Tensor, bbox_preds: Tensor, targets: Targets) -> Tensor:
        """The summed cost of each prediction for each object, in float32 or better.

        Args:
            cls_scores: (num_layers, bs, num_queries, num_classes), logits.
            bbox_preds: (num_layers, bs, num_queries, 4), cx, cy, w, h in [0, 1].
            targets: the objects.

        Returns:
            (num_layers, bs, num_queries, max_objects); meaningless where objects are padding.
        """
        cls_scores, bbox_preds = upcast(cls_scores), upcast(bbox_preds)
        return sum(cost(cls_scores, bbox_preds, targets) for cost in self.match_costs)

    @staticmethod
    def _sum(group: Predictions) -> Tensor:
        """A number for each layer and image that is finite if its predictions are."""
        parts = (upcast(group.cls_scores), upcast(group.bbox_preds))
        return sum(x.flatten(2).mean(-1) for x in parts)

    @staticmethod
    def _match(cost: Tensor, num_objects: list[int]) -> Tensor:
        """Match each layer and image by itself; (4, num_pairs), rows as in `Matches`."""
        pairs = []
        for layer, layer_cost in enumerate(cost.numpy()):
            for image, n in enumerate(num_objects):
                query, obj = linear_sum_assignment(layer_cost[image, :, :n])
                pairs += [(layer, image, q, o) for q, o in zip(query, obj, strict=True)]
        return torch.tensor(pairs, dtype=torch.long).view(-1, 4).T

    @staticmethod
    def _check_finite(group: Predictions, cost: Tensor, total: Tensor) -> None:
        bad = ~(cost.isfinite().flatten(2).all(-1) & total.isfinite())
        if bad.any():
            layer, image = bad.nonzero()[0].tolist()
            where = (
                f"image {group.targets.img_paths[image]}, {group.names[layer]} "
                f"({int(bad.sum())} of {bad.numel()} layers and images are affected)"
            )
            report_nonfinite(nonfinite_error("predictions", where))
