"""Our encoder against mmdet's, under padding."""

import torch
from mmdet.models.layers import DeformableDetrTransformerEncoder as MMDetEncoder
from mmengine.registry import init_default_scope

from projects.deformable_detr.encoder import DeformableDetrTransformerEncoder
from projects.deformable_detr.geometry import get_valid_ratios, padding_masks

SHAPES = [(6, 8), (3, 4)]


def test_encoder_is_mmdets():
    init_default_scope("projects.deformable_detr")
    attn = dict(embed_dims=24, num_heads=3, num_levels=2, num_points=2, dropout=0.0, batch_first=True)
    ffn = dict(embed_dims=24, feedforward_channels=30, ffn_drop=0.0)
    cfg = dict(num_layers=2, layer_cfg=dict(self_attn_cfg=attn, ffn_cfg=ffn))
    ours = DeformableDetrTransformerEncoder(**cfg).double()
    theirs = MMDetEncoder(**cfg).double()
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    theirs.load_state_dict(ours.state_dict(), strict=True)

    masks = padding_masks([(48, 64), (24, 40)], (48, 64), SHAPES, torch.device("cpu"))
    inputs = dict(
        query=torch.randn(2, 60, 24, dtype=torch.float64),
        query_pos=torch.randn(2, 60, 24, dtype=torch.float64),
        key_padding_mask=torch.cat([mask.flatten(1) for mask in masks], 1),
        valid_ratios=get_valid_ratios(masks),
    )
    levels = torch.tensor(SHAPES), torch.tensor([0, 48])
    expected = theirs(**inputs, spatial_shapes=levels[0], level_start_index=levels[1])
    encoded = ours(**inputs, spatial_shapes=SHAPES, level_start_index=[0, 48])
    torch.testing.assert_close(encoded, expected)
