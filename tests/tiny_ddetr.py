"""A model and a data set that train an epoch in a second; SHAPES_ROOT says where the drawings lie."""

_base_ = ["../configs/_base_/models/ddetr_r18_small.py", "../configs/_base_/default_runtime.py"]

data_root = "{{$SHAPES_ROOT:data/shapes}}/"
metainfo = dict(classes=("circle", "square", "triangle"))

attention = dict(embed_dims=32, num_heads=4, num_levels=2, dropout=0.1)
ffn = dict(embed_dims=32, feedforward_channels=64, ffn_drop=0.1)
model = dict(
    num_queries=10,
    num_feature_levels=2,
    with_box_refine=False,
    as_two_stage=False,
    data_preprocessor=dict(mean=[127.0] * 3, std=[50.0] * 3, bgr_to_rgb=False),
    backbone=dict(base_channels=8, out_indices=(2, 3), norm_eval=True),
    neck=dict(in_channels=[32, 64], out_channels=32, norm_cfg=dict(num_groups=8), num_outs=2),
    positional_encoding=dict(num_feats=16, offset=0.0),
    encoder=dict(num_layers=1, layer_cfg=dict(self_attn_cfg=attention, ffn_cfg=ffn)),
    decoder=dict(
        num_layers=1,
        layer_cfg=dict(
            self_attn_cfg=dict(embed_dims=32, num_heads=4, dropout=0.1),
            cross_attn_cfg=attention,
            ffn_cfg=ffn,
        ),
    ),
    bbox_head=dict(num_classes=3, embed_dims=32),
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
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
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
