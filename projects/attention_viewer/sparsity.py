"""How sparse attention is: its negative entropy (Sun et al., arXiv 2011.10881, section 3)."""

import torch
from torch import Tensor

from .record import Attention, DenseAttention, Record, on_padding


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
        """Take the attention of one forward."""
        for stage in ("encoder", "decoder"):
            for layer, attention in enumerate(getattr(record, stage)):
                values, even = negative_entropies(attention, queries_are_tokens=stage == "encoder")
                sums = torch.tensor([values.sum(), even.sum(), values.numel()], dtype=torch.float64)
                self._sums[stage, layer] = self._sums.get((stage, layer), 0) + sums

    def rows(self) -> list[dict]:
        """Of each layer ``stage``, ``layer``, ``negative_entropy`` and ``even``, in nats.

        ``even`` is the negative entropy of attention that is spread evenly.
        """
        return [
            dict(stage=stage, layer=layer, negative_entropy=values / number, even=even / number)
            for (stage, layer), sums in self._sums.items()
            for values, even, number in [sums.tolist()]
        ]


def negative_entropies(attention: Attention, queries_are_tokens: bool) -> tuple[Tensor, Tensor]:
    """The negative entropy of each query that is not on padding, and that of even attention.

    Args:
        attention: of one layer.
        queries_are_tokens: the queries are the tokens of the image, as in an encoder.

    Returns:
        Two (n, num_heads).
    """
    weights, padding = attention.weights.flatten(3), on_padding(attention.masks)
    if isinstance(attention, DenseAttention):
        num_keys = (~padding).sum(1)[:, None, None]
    else:  # levels that a query can't see have weights of zero
        num_keys = (weights > 0).sum(-1).amax()
    used = ~padding if queries_are_tokens else slice(None)
    values = negative_entropy(weights.double())
    even = -num_keys.double().log().expand_as(values)
    return values[used].view(-1, values.shape[2]), even[used].reshape(-1, values.shape[2])
