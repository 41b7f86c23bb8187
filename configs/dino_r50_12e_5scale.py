# DINO, table 1: five levels, of strides 4 to 64.
_base_ = "dino_r50_12e.py"
five_levels = dict(num_levels=5)
model = dict(
    num_feature_levels=5,
    backbone=dict(out_indices=(0, 1, 2, 3)),
    neck=dict(in_channels=[256, 512, 1024, 2048], num_outs=5),
    encoder=dict(layer_cfg=dict(self_attn_cfg=five_levels)),
    decoder=dict(layer_cfg=dict(cross_attn_cfg=five_levels)),
)
