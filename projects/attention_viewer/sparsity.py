"""How sparse attention is: its negative entropy (Sun et al., arXiv 2011.10881, section 3)."""

import torch
from torch import Tensor

from .record import Record


def negative_entropy(weights: Tensor) -> Tensor:
    """Sum of p log p over the last dimension, in nats: 0 for a single p of 1, -log n for n equal ones."""
    return -torch.special.entr(weights).sum(-1)


class SparsityMeter:
    """The mean negative entropy of each layer over queries, heads and images.

    A distribution is what one query of one head attends to: in DETR all tokens of the image, in deformable
    attention its samples, the softmax over levels and points. Their lowest values, those of attention that is
    spread evenly, differ; compare each with its own. Tokens on padding count neither as keys nor as queries.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[str, int], Tensor] = {}

    def add(self, record: Record) -> None:
        for stage in ("encoder", "decoder"):
            for layer, attention in enumerate(record[stage]):
                # (bs, num_queries, num_heads)
                values = negative_entropy(attention.weights.flatten(3).double())
                used = ~attention.padding
                if attention.locations is None:
                    num_keys = used.sum(1)[:, None, None]
                else:  # samples; those on levels that a query can't see have weights of zero
                    num_keys = (attention.weights > 0).sum((-2, -1)).amax()
                even = -num_keys.double().log().expand_as(values)
                if stage == "encoder":  # whose queries are the tokens
                    values, even = values[used], even[used]
                sums = torch.tensor([values.sum(), even.sum(), values.numel()], dtype=torch.float64)
                self._sums[stage, layer] = self._sums.get((stage, layer), 0) + sums

    def rows(self) -> list[dict]:
        """Of each layer its ``stage``, ``layer``, ``negative_entropy``, and ``even`` if it were even."""
        return [
            dict(stage=stage, layer=layer, negative_entropy=values / number, even=even / number)
            for (stage, layer), sums in self._sums.items()
            for values, even, number in [sums.tolist()]
        ]
