"""The attentions against mmcv's, which add the residual themselves."""

import pytest
import torch
from mmcv.ops import MultiScaleDeformableAttention as MMCVDeformableAttention

from projects.deformable_detr.attention import MultiheadAttention, MultiScaleDeformableAttention
from projects.deformable_detr.decoder import DeformableDetrTransformerDecoder
from projects.deformable_detr.levels import Levels
from projects.deformable_detr.variants.levelwise_attention import LevelwiseDeformAttn

SHAPES = [(4, 5), (2, 3)]


def test_levelwise_attention_is_mmcvs_on_each_level_alone():
    sizes = dict(embed_dims=24, num_heads=3, num_points=5, dropout=0.0)
    ours = LevelwiseDeformAttn(**sizes).double()
    theirs = MMCVDeformableAttention(**sizes, num_levels=1, batch_first=True).double()
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    query, query_pos = torch.randn(2, 2, 26, 24, dtype=torch.float64)
    reference_points = torch.rand(2, 26, 2, 2, dtype=torch.float64)
    levels = Levels.of_masks([torch.rand(2, h, w) < 0.3 for h, w in SHAPES])
    outputs = query + ours(query, query_pos, query, reference_points, levels)
    for level, shape in enumerate(SHAPES):
        tokens = slice(20 * level, 20 + 6 * level)
        expected = theirs(
            query[:, tokens],
            query_pos=query_pos[:, tokens],
            value=query[:, tokens],
            reference_points=reference_points[:, tokens, level : level + 1],
            spatial_shapes=torch.tensor([shape]),
            level_start_index=torch.tensor([0]),
            key_padding_mask=levels.padding_mask[:, tokens],
        )
        torch.testing.assert_close(outputs[:, tokens], expected)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (MultiScaleDeformableAttention, dict(batch_first=False)),
        (MultiheadAttention, dict(batch_first=False)),
        (DeformableDetrTransformerDecoder, dict(num_layers=1, layer_cfg={}, return_intermediate=False)),
    ],
)
def test_options_of_mmdets_that_do_not_exist_are_refused(kind, options):
    with pytest.raises(ValueError, match=list(options)[-1]):
        kind(**options)
