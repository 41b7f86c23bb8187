# A small data set of your own, in COCO format:
#
#   <data_root>/annotations/train.json   <data_root>/train/*.jpg
#   <data_root>/annotations/val.json     <data_root>/val/*.jpg
#
# Change the lines below, or set those that differ in a config that inherits this one: they count here, too.
# See docs/custom_data.md.
data_root = "data/bccd/"
train_annotations = "annotations/train.json"
train_images = "train/"
val_annotations = "annotations/val.json"
val_images = "val/"
classes = ("Platelets", "RBC", "WBC")
train_scales = [(320, side) for side in (200, 220, 240, 260, 280)]  # (longer side, shorter side)
test_scale = (320, 240)
max_epochs = 75
val_interval = 5
batch_size = 4
num_workers = 2
lr = 7e-4
warmup_iters = 200

_base_ = ["_base_/models/ddetr_r18_small.py", "_base_/default_runtime.py"]

model = dict(
    bbox_head=dict(num_classes=len(classes)),
    # DINO's three pieces, which learn in fewer epochs: docs/results.md. Beside the other queries in training,
    # noised objects to clean; the encoder proposes the places of the queries alone; a layer's loss moves the
    # boxes of the layer before, too.
    denoising=dict(type="ContrastiveDenoising", num_dn_queries=100),
    queries=dict(type="MixedQueries"),
    decoder=dict(embed_references=True, look_forward_twice=True, post_norm_cfg=dict(type="LN")),
)

# Pictures in which up and down mean something: take "vertical" and "diagonal" out.
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="RandomFlip", prob=[0.25, 0.25, 0.25], direction=["horizontal", "vertical", "diagonal"]),
    dict(type="RandomChoiceResize", scales=train_scales, keep_ratio=True),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=test_scale, keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="CocoDataset",
        data_root=data_root,
        metainfo=dict(classes=classes),
        ann_file=train_annotations,
        data_prefix=dict(img=train_images),
        filter_cfg=dict(filter_empty_gt=False),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=num_workers,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="CocoDataset",
        data_root=data_root,
        metainfo=dict(classes=classes),
        ann_file=val_annotations,
        data_prefix=dict(img=val_images),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="CocoMetric", ann_file=data_root + val_annotations, metric="bbox")
test_evaluator = val_evaluator

optim_wrapper = dict(
    type="OptimWrapper",
    constructor="GroupedOptimWrapperConstructor",
    optimizer=dict(type="AdamW", lr=lr, weight_decay=1e-4, fused=True),
    clip_grad=dict(max_norm=1.0, norm_type=2),
    paramwise_cfg=dict(custom_keys={"sampling_offsets": dict(lr_mult=0.1)}),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=warmup_iters),
    dict(
        type="CosineAnnealingLR",
        T_max=max_epochs,
        eta_min_ratio=0.01,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=max_epochs, val_interval=val_interval)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
default_hooks = dict(
    logger=dict(interval=10), checkpoint=dict(max_keep_ckpts=3, save_best="coco/bbox_mAP", rule="greater")
)
randomness = dict(seed=0)
auto_scale_lr = dict(enable=False, base_batch_size=4)
