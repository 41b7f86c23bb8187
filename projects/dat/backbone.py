"""The backbone DAT."""

import math
from functools import partial

import numpy as np
from mmengine.model import BaseModule
from torch import Tensor, nn

from projects.deformable_detr.registry import MODELS

from .attention import MAX_BIAS_ELEMENTS, DeformableAttention
from .layers import ChannelNorm, PatchConv
from .stage import Stage
from .window import WindowAttention


@MODELS.register_module()
class DAT(BaseModule):
    """Vision Transformer with Deformable Attention (Xia et al., CVPR 2022); by default DAT-T.

    Names of parameters are those of the official code, whose ImageNet checkpoints load with
    ``init_cfg=dict(type="Pretrained", checkpoint="dat://file.pth")``. What is set for each stage is a
    sequence of as many values as there are stages; each stage has twice the channels of the one before.

    Args:
        embed_dims: channels of the first stage.
        stages: the attention of each block, a letter each: L in windows, S in shifted windows, D deformable.
        num_heads: heads of each stage.
        num_groups: groups of channels that have sampling points of their own, for each stage.
        strides: tokens from one sampling point to the next, for each stage.
        kernel_sizes: of each stage's offset network, odd.
        offset_range_factors: farthest that a sampling point moves, see `DeformableAttention`.
        window_size: side of a window in tokens.
        patch_size: side in pixels of the patches that the first stage's tokens are.
        pretrain_img_size: side in pixels of the images that the tables of position biases are made for; the
            images themselves may have any size.
        max_bias_elements: bounds the memory of relative biases, see `DeformableAttention`.
        drop_path_rate: stochastic depth of the last block; rises linearly from 0.
        out_indices: the stages whose maps are returned, normalised; from 0.
        frozen_stages: how many stages are not trained, with their downsamplings and output norms; 0: the
            patch embedding alone, -1: nothing.
        with_cp: activation checkpointing of each block.
        init_cfg: see ``BaseModule``.

    Raises:
        ValueError: settings contradict each other; the message names them.
    """

    def __init__(
        self,
        embed_dims: int = 96,
        stages: tuple[str, ...] = ("LS", "LS", "LDLDLD", "LD"),
        num_heads: tuple[int, ...] = (3, 6, 12, 24),
        num_groups: tuple[int, ...] = (1, 1, 3, 6),
        strides: tuple[int, ...] = (1, 1, 1, 1),
        kernel_sizes: tuple[int, ...] = (9, 7, 5, 3),
        offset_range_factors: tuple[float, ...] = (2, 2, 2, 2),
        window_size: int = 7,
        patch_size: int = 4,
        pretrain_img_size: int = 224,
        max_bias_elements: int | None = MAX_BIAS_ELEMENTS,
        drop_path_rate: float = 0.0,
        out_indices: tuple[int, ...] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        with_cp: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        per_stage = dict(
            num_heads=num_heads,
            num_groups=num_groups,
            strides=strides,
            kernel_sizes=kernel_sizes,
            offset_range_factors=offset_range_factors,
        )
        _check(embed_dims, stages, per_stage, out_indices)
        self.patch_size = patch_size
        self.out_indices = out_indices
        self.frozen_stages = frozen_stages
        rates = iter(np.linspace(0, drop_path_rate, len("".join(stages))).tolist())

        self.patch_proj = nn.Sequential(PatchConv(3, embed_dims, patch_size), ChannelNorm(embed_dims))
        self.stages, self.norms, self.down_projs = (nn.ModuleList() for _ in range(3))
        for i, blocks in enumerate(stages):
            channels = embed_dims * 2**i
            shared = dict(channels=channels, num_heads=num_heads[i])
            make_attention = dict(
                L=partial(WindowAttention, window_size=window_size, **shared),
                S=partial(WindowAttention, window_size=window_size, shifted=True, **shared),
                D=partial(
                    DeformableAttention,
                    num_groups=num_groups[i],
                    map_size=math.ceil(pretrain_img_size / (patch_size * 2**i)),
                    stride=strides[i],
                    kernel_size=kernel_sizes[i],
                    offset_range_factor=offset_range_factors[i],
                    max_bias_elements=max_bias_elements,
                    **shared,
                ),
            )
            stage = Stage(
                channels,
                [make_attention[block]() for block in blocks],
                [next(rates) for _ in blocks],
                with_cp,
            )
            self.stages.append(stage)
            self.norms.append(ChannelNorm(channels) if i in out_indices else nn.Identity())
            if i + 1 < len(stages):
                down = PatchConv(channels, 2 * channels, 2, bias=False)
                self.down_projs.append(nn.Sequential(down, ChannelNorm(2 * channels)))
        self._freeze()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Images (bs, 3, h, w) to the maps of ``out_indices``.

        Map i is (bs, embed_dims * 2^i, h / s, w / s) rounded up, where s is ``patch_size * 2^i``.
        """
        x = self.patch_proj(x)
        outs = []
        for i, stage in enumerate(self.stages):
            if i > 0:
                x = self.down_projs[i - 1](x)
            x = stage(x)
            if i in self.out_indices:
                outs.append(self.norms[i](x).contiguous())
        return tuple(outs)

    def deformable_blocks(self) -> list[tuple[str, DeformableAttention, int]]:
        """Name of each block that is deformable, its attention, and the side of its tokens in pixels."""
        return [
            (f"stage {i}, block {block}", attention, self.patch_size * 2**i)
            for i, stage in enumerate(self.stages)
            for block, attention in enumerate(stage.attns)
            if isinstance(attention, DeformableAttention)
        ]

    def train(self, mode: bool = True) -> "DAT":
        """Set the mode, but for frozen stages, which stay in evaluation mode."""
        super().train(mode)
        self._freeze()
        return self

    def _freeze(self) -> None:
        if (n := self.frozen_stages) >= 0:
            for part in (self.patch_proj, *self.stages[:n], *self.norms[:n], *self.down_projs[:n]):
                part.eval().requires_grad_(False)


def _check(embed_dims: int, stages: tuple, per_stage: dict, out_indices: tuple) -> None:
    for name, values in per_stage.items():
        if len(values) != len(stages):
            raise ValueError(
                f"DAT: {name} has {len(values)} values for {len(stages)} stages; give each stage one"
            )
    if not set(out_indices) <= set(range(len(stages))):
        raise ValueError(f"DAT: out_indices={out_indices}, but the stages are 0 to {len(stages) - 1}")
    for i, (heads, groups) in enumerate(zip(per_stage["num_heads"], per_stage["num_groups"], strict=True)):
        channels = embed_dims * 2**i
        if channels % heads or heads % groups:
            raise ValueError(
                f"DAT: stage {i} has {channels} channels, num_heads={heads} and num_groups={groups}; heads "
                "must divide channels, and groups heads"
            )
