"""How sparse attention is: its negative entropy (Sun et al., arXiv 2011.10881, section 3)."""

import math
from collections import defaultdict

import torch
from torch import Tensor

from .record import Attention, DenseAttention, Record, on_padding


def negative_entropy(weights: Tensor) -> Tensor:
    """Sum of p log p over the last dimension, in nats: 0 for a single p of 1, -log n for n equal ones."""
    return -torch.special.entr(weights).sum(-1)


class SparsityMeter:
    """The mean negative entropy of each layer over queries, heads and images.

    A distribution is what one query of one head attends to: in DETR all cells of the image, in deformable
    attention its samples, ``num_levels * num_points`` of them. The two have different floors, given as
    "even", so compare each with its own. Cells on padding count neither as keys, whose weight is 0, nor as
    queries.
    """

    def __init__(self) -> None:
        self.sums: dict[tuple[str, int], Tensor] = defaultdict(lambda: torch.zeros(3).double())

    def add(self, record: Record) -> None:
        """Take the attention of one forward."""
        for stage in ("encoder", "decoder"):
            for layer, attention in enumerate(getattr(record, stage)):
                entropy, even = negative_entropies(attention, queries_are_cells=stage == "encoder")
                sums = entropy.sum().double(), even.sum().double(), torch.tensor(entropy.numel())
                self.sums[stage, layer] += torch.stack([x.double() for x in sums])

    def rows(self) -> list[dict]:
        """Of each layer ``stage``, ``layer``, ``negative_entropy`` and ``even``, in nats.

        ``even`` is what attention that is spread evenly would have: -log of the number of keys.
        """
        return [
            dict(
                stage=stage,
                layer=layer,
                negative_entropy=(entropy / number).item(),
                even=(even / number).item(),
            )
            for (stage, layer), (entropy, even, number) in self.sums.items()
        ]


def negative_entropies(attention: Attention, queries_are_cells: bool) -> tuple[Tensor, Tensor]:
    """The negative entropy of each query and head that is not on padding, and that of even attention.

    Args:
        attention: of one layer.
        queries_are_cells: the queries are the cells of the image, as in an encoder.

    Returns:
        Two (n, num_heads).
    """
    padding = on_padding(attention.masks)  # (bs, num_value)
    weights = attention.weights.flatten(3)
    if isinstance(attention, DenseAttention):
        keys = (~padding).sum(1)[:, None, None]
    else:
        keys = torch.full((1, 1, 1), weights.shape[-1])
    even = -keys.log().expand(weights.shape[:3])
    used = torch.ones_like(weights[:, :, 0], dtype=torch.bool)
    used = ~padding if queries_are_cells else weights.new_ones(weights.shape[:2]).bool()
    return negative_entropy(weights)[used], even[used]
