"""A model and a data set that train an epoch in a second; SHAPES_ROOT says where the drawings lie."""

_base_ = "../configs/_base_/default_runtime.py"

data_root = "{{$SHAPES_ROOT:data/shapes}}/"
metainfo = dict(classes=("circle", "square", "triangle"))

attention = dict(type="MultiScaleDeformableAttention", embed_dims=32, num_heads=4, num_levels=2, dropout=0.1)
ffn = dict(type="FFN", embed_dims=32, feedforward_channels=64, ffn_drop=0.1)
model = dict(
    type="DeformableDETR",
    num_queries=10,
    num_feature_levels=2,
    data_preprocessor=dict(type="DetDataPreprocessor", mean=[127.0] * 3, std=[50.0] * 3),
    backbone=dict(type="ResNet", depth=18, base_channels=8, out_indices=(2, 3)),
    neck=dict(
        type="ChannelMapper",
        in_channels=[32, 64],
        kernel_size=1,
        out_channels=32,
        act_cfg=None,
        norm_cfg=dict(type="GN", num_groups=8),
        num_outs=2,
    ),
    positional_encoding=dict(type="SinePositionalEncoding", num_feats=16, normalize=True),
    encoder=dict(
        type="DeformableDetrTransformerEncoder",
        num_layers=1,
        layer_cfg=dict(type="DeformableDetrTransformerEncoderLayer", self_attn_cfg=attention, ffn_cfg=ffn),
    ),
    decoder=dict(
        type="DeformableDetrTransformerDecoder",
        num_layers=1,
        layer_cfg=dict(
            type="DeformableDetrTransformerDecoderLayer",
            self_attn_cfg=dict(type="MultiheadAttention", embed_dims=32, num_heads=4, dropout=0.1),
            cross_attn_cfg=attention,
            ffn_cfg=ffn,
        ),
    ),
    bbox_head=dict(
        type="DeformableDETRHead",
        num_classes=3,
        embed_dims=32,
        loss_cls=dict(type="FocalLoss", use_sigmoid=True, loss_weight=2.0),
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
    test_cfg=dict(max_per_img=10),
)

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="RandomChoiceResize", scales=[(48, 48), (56, 56), (64, 64)], keep_ratio=True),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(64, 64), keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(
        type="PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    ),
]
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="CocoDataset",
        metainfo=metainfo,
        data_root=data_root,
        ann_file="annotations/train.json",
        data_prefix=dict(img="train/"),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="CocoDataset",
        metainfo=metainfo,
        data_root=data_root,
        ann_file="annotations/val.json",
        data_prefix=dict(img="val/"),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="CocoMetric", ann_file=data_root + "annotations/val.json", metric="bbox")
test_evaluator = val_evaluator

optim_wrapper = dict(optimizer=dict(type="AdamW", lr=1e-3), clip_grad=dict(max_norm=0.1))
param_scheduler = [dict(type="MultiStepLR", by_epoch=True, milestones=[2], gamma=0.1)]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=3, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
auto_scale_lr = dict(enable=False, base_batch_size=4)

default_hooks = dict(logger=dict(interval=1))
log_processor = dict(window_size=1)
