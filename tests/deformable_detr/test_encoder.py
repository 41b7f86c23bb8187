"""Our encoder against mmdet's, under padding."""

import torch
from mmdet.models.layers import DeformableDetrTransformerEncoder as MMDetEncoder

from projects.deformable_detr.encoder import DeformableDetrTransformerEncoder
from projects.deformable_detr.levels import Levels

SHAPES = [(6, 8), (3, 4)]


def test_encoder_is_mmdets():
    attn = dict(embed_dims=24, num_heads=3, num_levels=2, num_points=2, dropout=0.0, batch_first=True)
    ffn = dict(embed_dims=24, feedforward_channels=30, ffn_drop=0.0)
    cfg = dict(num_layers=2, layer_cfg=dict(self_attn_cfg=attn, ffn_cfg=ffn))
    ours = DeformableDetrTransformerEncoder(**cfg).double()
    theirs = MMDetEncoder(**cfg).double()
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    theirs.load_state_dict(ours.state_dict(), strict=True)

    levels = Levels.of_batch([(48, 64), (24, 40)], (48, 64), SHAPES, torch.device("cpu"))
    query, query_pos = torch.randn(2, 2, 60, 24, dtype=torch.float64)
    expected = theirs(
        query,
        query_pos,
        key_padding_mask=levels.padding_mask,
        spatial_shapes=torch.tensor(SHAPES),
        level_start_index=torch.tensor([0, 48]),
        valid_ratios=levels.valid_ratios,
    )
    torch.testing.assert_close(ours(query, query_pos, levels), expected)
