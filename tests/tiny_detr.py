"""As tiny_ddetr.py with mmdet's DETR."""

_base_ = "tiny_ddetr.py"

attention = dict(embed_dims=32, num_heads=4, dropout=0.1, batch_first=True)
ffn = dict(embed_dims=32, feedforward_channels=64, ffn_drop=0.1)
model = dict(
    _delete_=True,
    type="mmdet.DETR",
    num_queries=10,
    data_preprocessor=dict(type="DetDataPreprocessor", mean=[127.0] * 3, std=[50.0] * 3),
    backbone=dict(type="ResNet", depth=18, base_channels=8, out_indices=(3,)),
    neck=dict(type="ChannelMapper", in_channels=[64], kernel_size=1, out_channels=32, act_cfg=None),
    positional_encoding=dict(num_feats=16, normalize=True),
    encoder=dict(num_layers=2, layer_cfg=dict(self_attn_cfg=attention, ffn_cfg=ffn)),
    decoder=dict(
        num_layers=2,
        layer_cfg=dict(self_attn_cfg=attention, cross_attn_cfg=attention, ffn_cfg=ffn),
        return_intermediate=True,
    ),
    bbox_head=dict(
        type="DETRHead",
        num_classes=3,
        embed_dims=32,
        loss_cls=dict(type="CrossEntropyLoss", bg_cls_weight=0.1, use_sigmoid=False, class_weight=1.0),
        loss_bbox=dict(type="L1Loss", loss_weight=5.0),
        loss_iou=dict(type="GIoULoss", loss_weight=2.0),
    ),
    train_cfg=dict(
        assigner=dict(
            _scope_="mmdet",
            type="mmdet.HungarianAssigner",
            match_costs=[
                dict(type="ClassificationCost", weight=1.0),
                dict(type="BBoxL1Cost", weight=5.0, box_format="xywh"),
                dict(type="IoUCost", iou_mode="giou", weight=2.0),
            ],
        )
    ),
    test_cfg=dict(max_per_img=10),
)
