"""Where a token is in its image, as a vector."""

import math

import torch
from mmengine.model import BaseModule
from torch import Tensor

from .geometry import sine_embedding
from .registry import MODELS


@MODELS.register_module()
class SinePositionalEncoding(BaseModule):
    """Sines and cosines of y and x, counted over the valid tokens only (DETR, section A.4).

    Args:
        num_feats: features for y and for x each; half the width of the transformer.
        temperature: base of the geometric series of wavelengths.
        normalize: divide by the valid size, then multiply by ``scale``.
        scale: radians over the image, if normalised.
        eps: keeps the division finite.
        offset: added to the count before the division; -0.5 gives the centres of pixels.
        init_cfg: mmengine's initialisation; there is nothing to initialise.
    """

    def __init__(
        self,
        num_feats: int,
        temperature: float = 10000,
        normalize: bool = False,
        scale: float = 2 * math.pi,
        eps: float = 1e-6,
        offset: float = 0.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.num_feats = num_feats
        self.temperature = temperature
        self.normalize = normalize
        self.scale = scale
        self.eps = eps
        self.offset = offset

    def forward(self, mask: Tensor) -> Tensor:
        """Encode every token of one level.

        Args:
            mask: (bs, h, w), True on padding.

        Returns:
            (bs, h, w, 2 * num_feats) in float32, first y, then x.
        """
        y = (~mask).cumsum(1).float()
        x = (~mask).cumsum(2).float()
        if self.normalize:
            y = (y + self.offset) / (y[:, -1:] + self.eps) * self.scale
            x = (x + self.offset) / (x[:, :, -1:] + self.eps) * self.scale
        axes = [sine_embedding(axis, self.num_feats, self.temperature) for axis in (y, x)]
        return torch.cat(axes, -1)
