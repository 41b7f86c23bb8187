# A small two-stage model that learns from scratch: nothing is pretrained, nothing frozen.
_base_ = "ddetr_r50.py"

small_attn = dict(embed_dims=128, dropout=0.0)
small_ffn = dict(embed_dims=128, feedforward_channels=512, ffn_drop=0.0)
model = dict(
    num_queries=100,
    with_box_refine=True,
    as_two_stage=True,
    backbone=dict(
        depth=18,
        base_channels=32,
        frozen_stages=-1,
        norm_cfg=dict(requires_grad=True),
        norm_eval=False,
        init_cfg=None,
    ),
    neck=dict(in_channels=[64, 128, 256], out_channels=128, norm_cfg=dict(num_groups=16)),
    positional_encoding=dict(num_feats=64),
    encoder=dict(num_layers=2, layer_cfg=dict(self_attn_cfg=small_attn, ffn_cfg=small_ffn)),
    decoder=dict(
        num_layers=3, layer_cfg=dict(self_attn_cfg=small_attn, cross_attn_cfg=small_attn, ffn_cfg=small_ffn)
    ),
    bbox_head=dict(embed_dims=128),
)
