"""What the model predicts from each query, in pixels of the original image."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from projects.reliable_runner.errors import InputError

from .frame import ImageFrame


@dataclass
class Detections:
    """The best class and the box of each query, as each layer of the decoder sees them."""

    scores: Tensor  # (num_layers, num_queries) in [0, 1]
    labels: Tensor  # (num_layers, num_queries)
    boxes: Tensor  # (num_layers, num_queries, 4), x1, y1, x2, y2 in pixels of the original image

    @classmethod
    def of_outputs(
        cls, cls_scores: Tensor, bbox_preds: Tensor, use_sigmoid: bool, frame: ImageFrame
    ) -> "Detections":
        """From what `predict` gives of one image; unless ``use_sigmoid`` the last class is the background."""
        logits = cls_scores[:, 0]
        classes = logits.sigmoid() if use_sigmoid else logits.softmax(-1)[..., :-1]
        return cls(*classes.max(-1), frame.boxes_to_pixels(bbox_preds[:, 0]))

    def ranked(self, score_thr: float) -> Tensor:
        """Queries to which the last layer gives ``score_thr`` or more, best first; `InputError` if none."""
        best, queries = self.scores[-1].sort(descending=True)
        if best[0] < score_thr:
            raise InputError(
                f"there is no detection: the best score is {best[0]:.3f}; lower --score-thr, here "
                f"{score_thr}, or name a query with --query"
            )
        return queries[best >= score_thr]

    def at_rank(self, rank: int, score_thr: float) -> int:
        """The query of the ``rank``-th best detection, from 1; `InputError` if there are fewer."""
        queries = self.ranked(score_thr)
        if not 1 <= rank <= len(queries):
            raise InputError(
                f"--detection {rank}: the image has the detections 1 (the best) to {len(queries)}; a lower "
                "--score-thr shows more"
            )
        return int(queries[rank - 1])

    def nearest(self, point: Tensor, score_thr: float) -> int:
        """The query of the detection whose centre is nearest to a point (2,); `ranked` says what is one."""
        queries = self.ranked(score_thr)
        return int(queries[(self.centres()[queries] - point).norm(dim=-1).argmin()])

    def centres(self) -> Tensor:
        """Centres of the last layer's boxes, (num_queries, 2), in pixels of the original image."""
        return (self.boxes[-1, :, :2] + self.boxes[-1, :, 2:]) / 2


@torch.no_grad()
def predict(model: nn.Module, batch: dict) -> tuple[list, Tensor, Tensor]:
    """One forward of a model in evaluation mode on a batch for its data preprocessor.

    Returns:
        The samples, and what the head gives, on the CPU: class logits (num_layers, bs, num_queries,
        num_classes) and boxes (num_layers, bs, num_queries, 4), cx, cy, w, h in [0, 1].
    """
    batch = model.data_preprocessor(batch)
    cls_scores, bbox_preds = model(**batch, mode="tensor")
    return batch["data_samples"], cls_scores.cpu(), bbox_preds.cpu()
