# A small two-stage model that learns from scratch: nothing is pretrained, nothing frozen.
_attn = dict(
    type="MSDeformAttn", embed_dims=128, num_heads=8, num_levels=4, num_points=4, dropout=0.0
)
_ffn = dict(type="FFN", embed_dims=128, feedforward_channels=512, ffn_drop=0.0)
model = dict(
    type="DeformableDETR",
    num_queries=100,
    num_feature_levels=4,
    with_box_refine=True,
    as_two_stage=True,
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=1,
    ),
    backbone=dict(
        type="ResNet",
        depth=18,
        base_channels=32,
        num_stages=4,
        out_indices=(1, 2, 3),
        frozen_stages=-1,
        norm_cfg=dict(type="BN", requires_grad=True),
        norm_eval=False,
        style="pytorch",
    ),
    neck=dict(
        type="ChannelMapper",
        in_channels=[64, 128, 256],
        kernel_size=1,
        out_channels=128,
        act_cfg=None,
        norm_cfg=dict(type="GN", num_groups=16),
        num_outs=4,
    ),
    positional_encoding=dict(
        type="SinePositionalEncoding", num_feats=64, normalize=True, offset=-0.5
    ),
    encoder=dict(
        type="DeformableDetrTransformerEncoder",
        num_layers=2,
        layer_cfg=dict(
            type="DeformableDetrTransformerEncoderLayer", self_attn_cfg=_attn, ffn_cfg=_ffn
        ),
    ),
    decoder=dict(
        type="DeformableDetrTransformerDecoder",
        num_layers=3,
        layer_cfg=dict(
            type="DeformableDetrTransformerDecoderLayer",
            self_attn_cfg=dict(type="MultiheadAttention", embed_dims=128, num_heads=8, dropout=0.0),
            cross_attn_cfg=_attn,
            ffn_cfg=_ffn,
        ),
    ),
    bbox_head=dict(
        type="DeformableDETRHead",
        num_classes=80,
        embed_dims=128,
        sync_cls_avg_factor=True,
        loss_cls=dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=2.0),
        loss_bbox=dict(type="L1Loss", loss_weight=5.0),
        loss_iou=dict(type="GIoULoss", loss_weight=2.0),
    ),
    train_cfg=dict(
        assigner=dict(
            type="HungarianAssigner",
            match_costs=[
                dict(type="FocalLossCost", weight=2.0),
                dict(type="BBoxL1Cost", weight=5.0, box_format="xywh"),
                dict(type="IoUCost", iou_mode="giou", weight=2.0),
            ],
        )
    ),
    test_cfg=dict(max_per_img=100),
)
