"""The feature levels as the transformer sees them: tokens of all levels in one row, some of them padding."""

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


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
        img_shapes: Sequence[tuple[int, int]],
        batch_input_shape: tuple[int, int],
        shapes: Sequence[tuple[int, int]],
        device: torch.device,
    ) -> "Levels":
        """Describe the levels of a batch (paper, section A.2, for the valid ratios).

        Args:
            img_shapes: (h, w) of each image in the padded batch, in pixels.
            batch_input_shape: (h, w) of the padded batch, in pixels.
            shapes: (h, w) of each level, in tokens.
            device: where the tensors are made.
        """
        mask = torch.ones(1, len(img_shapes), *batch_input_shape, device=device)
        for i, (h, w) in enumerate(img_shapes):
            mask[0, i, :h, :w] = 0
        masks = [F.interpolate(mask, size=tuple(shape))[0].bool() for shape in shapes]
        # Known on the host: where no image is smaller than the batch, no layer need fill the padding.
        is_padded = any(tuple(shape) != tuple(batch_input_shape) for shape in img_shapes)
        return cls.of_masks(masks, is_padded)

    @classmethod
    def of_masks(cls, masks: Sequence[Tensor], is_padded: bool = True) -> "Levels":
        """Describe levels by ``masks``, each (bs, h, w), True on padding; ``is_padded`` if any is True."""
        shapes = [tuple(mask.shape[1:]) for mask in masks]
        ends = list(accumulate(h * w for h, w in shapes))
        valid_sizes = torch.stack(
            [torch.stack(((~mask[:, 0]).sum(1), (~mask[:, :, 0]).sum(1)), -1) for mask in masks], 1
        )
        return cls(
            masks=list(masks),
            shapes=shapes,
            starts=[0, *ends[:-1]],
            valid_sizes=valid_sizes,
            valid_ratios=valid_sizes / valid_sizes.new_tensor([(w, h) for h, w in shapes]),
            padding_mask=torch.cat([mask.flatten(1) for mask in masks], 1) if is_padded else None,
        )
