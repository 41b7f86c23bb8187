# C5 alone (official results, "single scale").
_base_ = "../ddetr_r50_50e.py"

one_level = dict(num_levels=1)
model = dict(
    num_feature_levels=1,
    backbone=dict(out_indices=(3,)),
    neck=dict(in_channels=[2048], num_outs=1),
    encoder=dict(layer_cfg=dict(self_attn_cfg=one_level)),
    decoder=dict(layer_cfg=dict(cross_attn_cfg=one_level)),
)
