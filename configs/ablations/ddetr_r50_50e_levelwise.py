# Paper, table 2: multi-scale inputs, no multi-scale attention, K = 4.
_base_ = "../ddetr_r50_50e.py"

levelwise = dict(type="LevelwiseDeformAttn", embed_dims=256, num_heads=8, num_points=4, dropout=0.1)
model = dict(encoder=dict(layer_cfg=dict(self_attn_cfg=dict(levelwise, _delete_=True))))
