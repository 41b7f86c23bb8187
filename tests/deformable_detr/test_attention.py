"""The attentions against mmcv's, which add the residual themselves."""

import pytest
import torch
from mmcv.cnn.bricks.transformer import MultiheadAttention as MMCVMultiheadAttention
from mmcv.ops import MultiScaleDeformableAttention as MMCVDeformableAttention

from projects.deformable_detr.attention import MultiheadAttention, MultiScaleDeformableAttention
from projects.deformable_detr.levels import Levels
from projects.deformable_detr.variants.levelwise_attention import LevelwiseDeformAttn

SHAPES = [(4, 5), (2, 3)]


def random_levels() -> Levels:
    masks = [torch.rand(2, h, w) < 0.3 for h, w in SHAPES]
    return Levels.of_masks(masks)


def test_multihead_attention_is_mmcvs():
    ours = MultiheadAttention(24, 3).double()
    # mmcv keeps the dropout of the last module built as the default of the next.
    none = dict(type="Dropout", drop_prob=0.0)
    theirs = MMCVMultiheadAttention(24, 3, batch_first=True, dropout_layer=none).double()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    query, pos = torch.randn(2, 2, 5, 24, dtype=torch.float64)
    torch.testing.assert_close(query + ours(query, pos), theirs(query, query_pos=pos, key_pos=pos))


@pytest.mark.parametrize("reference_dims", [2, 4])
def test_deformable_attention_is_mmcvs(reference_dims):
    sizes = dict(embed_dims=24, num_heads=3, num_levels=2, num_points=5, dropout=0.0)
    ours = MultiScaleDeformableAttention(**sizes).double()
    theirs = MMCVDeformableAttention(**sizes, batch_first=True).double()
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    inputs = dict(
        query=torch.randn(2, 7, 24, dtype=torch.float64),
        query_pos=torch.randn(2, 7, 24, dtype=torch.float64),
        value=torch.randn(2, 26, 24, dtype=torch.float64),
        reference_points=torch.rand(2, 7, 2, reference_dims, dtype=torch.float64),
    )
    levels = random_levels()
    expected = theirs(
        **inputs,
        spatial_shapes=torch.tensor(SHAPES),
        level_start_index=torch.tensor([0, 20]),
        key_padding_mask=levels.padding_mask,
    )
    torch.testing.assert_close(inputs["query"] + ours(**inputs, levels=levels), expected)


def test_levelwise_attention_is_mmcvs_on_each_level_alone():
    sizes = dict(embed_dims=24, num_heads=3, num_points=5, dropout=0.0)
    ours = LevelwiseDeformAttn(**sizes).double()
    theirs = MMCVDeformableAttention(**sizes, num_levels=1, batch_first=True).double()
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    query, query_pos = torch.randn(2, 2, 26, 24, dtype=torch.float64)
    reference_points = torch.rand(2, 26, 2, 2, dtype=torch.float64)
    levels = random_levels()
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


@pytest.mark.parametrize("attention", [MultiScaleDeformableAttention, MultiheadAttention])
def test_batch_first_false_is_refused(attention):
    with pytest.raises(ValueError, match="batch_first"):
        attention(batch_first=False)
