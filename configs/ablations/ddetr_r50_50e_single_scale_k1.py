# Paper, table 2: no multi-scale inputs, K = 1.
_base_ = "ddetr_r50_50e_single_scale.py"

one_point = dict(num_points=1)
model = dict(
    encoder=dict(layer_cfg=dict(self_attn_cfg=one_point)),
    decoder=dict(layer_cfg=dict(cross_attn_cfg=one_point)),
)
