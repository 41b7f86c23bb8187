"""The feature levels as the transformer sees them: tokens of all levels in one row, some of them padding."""

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor


def padding_of(img_sizes: Tensor, batch_input_shape: tuple[int, int], shape: tuple[int, int]) -> Tensor:
    """Which tokens (bs, h, w) of a level are padding, images being of heights and widths (bs, 2)."""
    # A token is padding if its pixel is, the one that a nearest-neighbour resize of a mask takes.
    below, right = (
        torch.arange(tokens, device=img_sizes.device) * pixels // tokens >= img_sizes[:, axis, None]
        for axis, (tokens, pixels) in enumerate(zip(shape, batch_input_shape, strict=True))
    )
    return below[:, :, None] | right[:, None]


class Levels(NamedTuple):
    """What encoder, queries and decoder must know of the levels. There are ``num_value`` tokens in all."""

    masks: list[Tensor]  # of each level, (bs, h, w), True on padding
    shapes: list[tuple[int, int]]  # (h, w) of each level
    starts: list[int]  # where each level starts among the tokens
    valid_sizes: Tensor  # (bs, num_levels, 2), width and height that are image, in tokens
    valid_ratios: Tensor  # (bs, num_levels, 2), the same as shares of the level, in (0, 1]
    padding_mask: Tensor | None  # (bs, num_value), True on padding; None if there is none

    @classmethod
    def of_batch(
        cls,
        img_shapes: Sequence[tuple[int, int]] | Tensor,
        batch_input_shape: tuple[int, int],
        shapes: Sequence[tuple[int, int]],
        device: torch.device,
    ) -> "Levels":
        """Describe the levels of a batch (paper, section A.2, for the valid ratios).

        Args:
            img_shapes: (h, w) of each image in the padded batch, in pixels; a tensor (bs, 2) in a graph that
                is exported, which serves any sizes.
            batch_input_shape: (h, w) of the padded batch, in pixels.
            shapes: (h, w) of each level, in tokens.
            device: where the tensors are made.
        """
        sizes = torch.as_tensor(img_shapes, device=device)
        masks = [padding_of(sizes, batch_input_shape, shape) for shape in shapes]
        # Known on the host: where no image is smaller than the batch, no layer need fill the padding.
        is_padded = isinstance(img_shapes, Tensor) or any(
            tuple(shape) != tuple(batch_input_shape) for shape in img_shapes
        )
        return cls.of_masks(masks, is_padded)

    @classmethod
    def of_masks(cls, masks: Sequence[Tensor], is_padded: bool = True) -> "Levels":
        """Describe levels by ``masks``, each (bs, h, w), True on padding; ``is_padded`` if any is True."""
        shapes = [tuple(mask.shape[1:]) for mask in masks]
        ends = list(accumulate(h * w for h, w in shapes))
        sides = [((~mask[:, 0]).float(), (~mask[:, :, 0]).float()) for mask in masks]  # 1 on the image
        return cls(
            masks=list(masks),
            shapes=shapes,
            starts=[0, *ends[:-1]],
            valid_sizes=torch.stack([torch.stack([side.sum(1) for side in pair], -1) for pair in sides], 1),
            valid_ratios=torch.stack([torch.stack([side.mean(1) for side in pair], -1) for pair in sides], 1),
            padding_mask=torch.cat([mask.flatten(1) for mask in masks], 1) if is_padded else None,
        )
