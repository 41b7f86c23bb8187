# C5 alone, as fine as C4 ("DC5"): the images are small.
_base_ = "ddetr_r18_shapes_multi_scale.py"

one_level = dict(num_levels=1)
model = dict(
    num_feature_levels=1,
    backbone=dict(out_indices=(3,), strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)),
    neck=dict(in_channels=[256], num_outs=1),
    encoder=dict(layer_cfg=dict(self_attn_cfg=one_level)),
    decoder=dict(layer_cfg=dict(cross_attn_cfg=one_level)),
)
