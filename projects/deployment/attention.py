"""Full attention as a few ops, for graphs."""

import torch.nn.functional as F
from torch import Tensor, nn


class OpenMultiheadAttention(nn.MultiheadAttention):
    """As its base class in evaluation, of whose views `torch.export` makes a graph for one batch size."""

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        attn_mask: None = None,
        need_weights: bool = False,
    ) -> tuple[Tensor, None]:
        """Attend; ``key_padding_mask`` is (bs, keys), True on padding. The weights are not returned."""
        inputs = query, key, value
        if not self.batch_first:
            inputs = (x.transpose(0, 1) for x in inputs)
        projections = zip(inputs, self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3), strict=True)
        heads = [F.linear(*x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in projections]
        mask = None if key_padding_mask is None else ~key_padding_mask[:, None, None]
        attended = F.scaled_dot_product_attention(*heads, attn_mask=mask)
        output = self.out_proj(attended.transpose(1, 2).flatten(2))
        return output if self.batch_first else output.transpose(0, 1), None
